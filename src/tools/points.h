/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * points.h - the restore points of a directory, or of one entry of it.
 *
 * What it does not do: it prints nothing, and keeps nothing between calls.
 *
 * Locking: none; the programs have one thread.
 */
#ifndef MSNAP_TOOLS_POINTS_H
#define MSNAP_TOOLS_POINTS_H

#include <stddef.h>

#include "fs/control.h"

/*
 * All that hold something of the open directory @dirfd, or (@file not empty) of
 * that entry, oldest first.  The caller frees the array.  A negative errno.
 */
int msnap_points_load(int dirfd, const char *file,
		      struct msnap_ioc_snap_entry **points, size_t *nr);

/* The one called @name.  -ENOENT: there is none. */
int msnap_points_find(int dirfd, const char *file, const char *name,
		      struct msnap_ioc_snap_entry *point);

#endif
