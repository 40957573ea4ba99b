/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fs.h - the mounted filesystem: what all parts of the front end share.
 *
 * What it is: one struct fs for the process, and the numbers that the kernel
 * knows inodes by.  Those numbers (node ids) carry no state, so that none has to
 * be kept for an inode that the kernel remembers:
 *
 *   a live inode             its inode number; the root is 1, as FUSE wants it
 *   an inode in a snapshot   snapshot << 40 | inode number
 *   .snap of live directory  1 << 63 | inode number of the directory
 *
 * st_ino is the same number, so snapshots never look like hard links to what is
 * live.  An inode number is used once; a rollback that brings a deleted file back
 * gives it the number it had, and it is the same file.
 *
 * What it does not do: it has no logic of its own.
 *
 * Locking: fields are set before the first request is served and constant from
 * then on, but for the atomics and what has its own lock.
 *
 * Who may wait for whom: a request handler (a libfuse worker) never waits for a
 * WRITE and never notifies the kernel; the control threads do both, so they never
 * serve requests.  The workers can thus always answer the WRITEs that a control
 * thread waits for.
 */
#ifndef MSNAP_FS_FS_H
#define MSNAP_FS_FS_H

#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../cow/cow.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unreleased"
#endif

#define MSNAP_FS_INO_BITS 40
#define MSNAP_FS_INO_MASK ((1ull << MSNAP_FS_INO_BITS) - 1)
#define MSNAP_FS_SNAP_MASK ((1ull << 22) - 1)
#define MSNAP_FS_SNAPDIR (1ull << 63)

#define MSNAP_FS_SNAPDIR_NAME ".snap"

/*
 * How long the kernel may trust what it was told, in seconds.  Everything live
 * changes through this mount only, and what the kernel cannot know about it is
 * notified of.  What is in .snap can change by way of another directory.
 */
#define MSNAP_FS_TIMEOUT 3600.0

struct msnap_fs_opts;
struct msnap_fs_nodes;
struct msnap_fs_gate;
struct msnap_fs_lost;
struct msnap_fs_flush;
struct msnap_fs_ctl;
struct msnap_fs_table;
struct msnap_fs_direct;
struct msnap_fs_scrub;

struct fs {
	struct msnap_pool *pool;
	struct fuse_session *se;
	const struct msnap_fs_opts *opts;
	struct msnap_fs_nodes *nodes;
	struct msnap_fs_gate *gate;
	struct msnap_fs_flush *flush;
	struct msnap_fs_lost *lost;
	struct msnap_fs_ctl *ctl;
	struct msnap_fs_table *table;
	struct msnap_fs_scrub *scrub;
	struct msnap_fs_direct *direct; /* NULL: everything is cached */
	const char *mode; /* "cached" or "direct" */
	char mode_why[256];
	bool was_clean; /* the last unmount was */

	_Atomic uint64_t nr_reads;
	_Atomic uint64_t nr_writes;
	_Atomic uint64_t bytes_read;
	_Atomic uint64_t bytes_written;
	/* WRITEs of mapped pages that failed: who made the kernel write back
	 * compares before and after. */
	_Atomic uint64_t nr_writeback_failed;
	/* When the set of snapshots last changed, ns: the times of .snap. */
	_Atomic uint64_t snaps_changed_ns;
};

static inline bool msnap_fs_is_snapdir(uint64_t node)
{
	return node & MSNAP_FS_SNAPDIR;
}

static inline bool msnap_fs_is_live(uint64_t node)
{
	return node <= MSNAP_FS_INO_MASK;
}

static inline uint64_t msnap_fs_ino(uint64_t node)
{
	return node & MSNAP_FS_INO_MASK;
}

/* Of a live or snapshot inode. */
static inline struct msnap_id msnap_fs_id(uint64_t node)
{
	return (struct msnap_id){
		.snap = (node >> MSNAP_FS_INO_BITS) & MSNAP_FS_SNAP_MASK,
		.ino = node & MSNAP_FS_INO_MASK,
	};
}

static inline uint64_t msnap_fs_node(struct msnap_id id)
{
	return id.snap << MSNAP_FS_INO_BITS | id.ino;
}

static inline struct fs *msnap_fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

#endif
