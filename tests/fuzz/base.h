/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * base.h - the content of the fuzzer's base images.
 */
#ifndef TESTS_FUZZ_BASE_H
#define TESTS_FUZZ_BASE_H

#include <stdbool.h>

#include "cow/persist.h"

enum fuzz_content {
	FUZZ_NOTHING, /* as mkfs leaves it */
	FUZZ_RICH,    /* something of everything, and many of most */
	FUZZ_LEAN,    /* something of everything, and no more */
};

/*
 * Make a pool in @mem, always the same one: identity and seed of the hashes are
 * fixed.  @clean: with a clean end.  Ends the program when it cannot.
 */
void fuzz_base_make(struct msnap_mem *mem, enum fuzz_content content, bool clean);

#endif
