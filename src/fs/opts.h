/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * opts.h - the command line of mount.memsnapfs, by hand or from mount(8).
 *
 * Locking: none; read once at start.
 */
#ifndef MSNAP_FS_OPTS_H
#define MSNAP_FS_OPTS_H

#include <stdbool.h>
#include <stddef.h>

enum msnap_fs_mode {
	MSNAP_FS_MODE_AUTO,
	MSNAP_FS_MODE_CACHED,
	MSNAP_FS_MODE_DIRECT,
};

struct msnap_fs_opts {
	char *pool; /* absolute where it exists, otherwise as given */
	char *dir;  /* absolute */
	enum msnap_fs_mode mode;
	bool snapdir_visible;
	bool read_only;
	bool foreground;
	bool debug;
	bool inject; /* for tests: see inject.h */
	unsigned commit_s; /* seconds between commits */
	char *kernel; /* mount options for libfuse, comma-separated; or NULL */
};

enum msnap_fs_parsed {
	MSNAP_FS_PARSED_OK,
	MSNAP_FS_PARSED_DONE, /* help or version was printed: exit 0 */
	MSNAP_FS_PARSED_BAD,  /* one line was printed: exit 2 */
	MSNAP_FS_PARSED_FAILED, /* the same, about a path: exit 1 */
};

enum msnap_fs_parsed msnap_fs_opts_parse(int argc, char **argv,
					 struct msnap_fs_opts *opts);
void msnap_fs_opts_free(struct msnap_fs_opts *opts);

#endif
