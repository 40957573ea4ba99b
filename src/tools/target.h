/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * target.h - from what a user wrote, PATH or PATH@NAME, to an open directory, an
 * entry of it, and a restore point.
 *
 * What it is: restore points are taken of directories and of entries of
 * directories.  A path that is a directory is that directory; any other is an
 * entry of its parent.  Symbolic links are followed as far as they lead.
 *
 * What it does not do: apart from finding a restore point it asks the mount for
 * nothing.
 *
 * Functions print what is wrong, with the current program's name, unless they
 * say otherwise.
 *
 * Locking: none; the programs have one thread.
 */
#ifndef MSNAP_TOOLS_TARGET_H
#define MSNAP_TOOLS_TARGET_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "fs/control.h"

struct msnap_target {
	char *shown;	    /* the path as the user wrote it */
	char *dir;	    /* path of the open directory, absolute, resolved */
	char file[256];	    /* entry of that directory; "": the directory */
	char name[MSNAP_IOC_NAME_MAX + 1]; /* restore point; "": none */
	bool exists;	    /* the path does */
	struct stat st;	    /* of the path, when it exists */
	int fd;		    /* the directory, open for reading */
};

/*
 * Open @path.  @missing_ok: the last component need not exist (any more).
 * 0, or -1 when it has been reported; msnap_target_close() is due after 0.
 */
int msnap_target_open(struct msnap_target *target, const char *path,
		      bool missing_ok);

/*
 * Open the PATH of @operand, PATH@NAME, and set name.  The last @ counts, unless
 * only an earlier one leaves a path that exists.  An empty PATH is ".".  The
 * path need not exist.  @operand must have passed msnap_target_check().
 */
int msnap_target_open_at(struct msnap_target *target, const char *operand);

void msnap_target_close(struct msnap_target *target);

/* Does @operand have the form PATH@NAME?  0, or 2 after a message. */
int msnap_target_check(const char *operand);

/*
 * Can @name be a restore point's?  0, or 2 after a message, which begins with
 * @what, the option or operand that it is in.
 */
int msnap_name_check(const char *what, const char *name);

/*
 * Split @operand, PATH@NAME.  The caller frees both.  Prints nothing: -EINVAL: it
 * has not that form; -ENOMEM.
 */
int msnap_target_split(const char *operand, char **path, char **name);

/*
 * Find the target's restore point.  0, or -1 when it has been reported: there is
 * none, or it does not hold the target.
 */
int msnap_target_find(const struct msnap_target *target,
		      struct msnap_ioc_snap_entry *entry);

/* Report that the target's restore point does not exist.  Returns 1. */
int msnap_target_no_point(const char *shown, const char *name);

/*
 * The nearest directory at or above the absolute path @dir that has st_ino @ino
 * on the same filesystem; with @ino 0 the top one of that filesystem.  False:
 * there is none that can be seen.
 */
bool msnap_find_above(const char *dir, unsigned long long ino,
		      char found[PATH_MAX]);

#endif
