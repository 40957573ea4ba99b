/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * alloc.h - the engine's door to the heap, so that tests can make the nth
 * allocation fail.  Release with free().
 */
#ifndef MSNAP_COW_ALLOC_H
#define MSNAP_COW_ALLOC_H

#include <stddef.h>

void *msnap_malloc(size_t size);
void *msnap_calloc(size_t nr, size_t size);
void *msnap_realloc(void *old, size_t size);

/* The nth allocation from now on, by any thread, fails; 0: none does. */
void msnap_alloc_fail(unsigned long nth);
/* How many there were since msnap_alloc_fail() was last called. */
unsigned long msnap_alloc_seen(void);

#endif
