/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repair.h - checking and repairing a pool that is not in use; see msnap_fsck().
 */
#ifndef MSNAP_COW_REPAIR_H
#define MSNAP_COW_REPAIR_H

#include "cow.h"
#include "persist.h"

/* As msnap_fsck(), on memory that is closed in any case. */
int msnap_fsck_mem(struct msnap_mem *mem, const char *name,
		   const struct msnap_fsck_args *args,
		   struct msnap_fsck_result *result, struct msnap_why *why);

#endif
