/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cow.h - the copy-on-write engine: the one header of src/cow that outsiders
 * include.
 *
 * What it is: a pool of 4 KiB blocks in mapped memory that holds a tree of
 * files and directories, any number of read-only snapshots of parts of it, and
 * clones; all of them share whatever they have in common.
 *
 * What it does not do: it knows no FUSE, no mount point and no permissions; it
 * never asks who is calling.  Paths are a matter of its callers; it takes an
 * inode number and one name.
 *
 * Conventions: functions return 0 (or a count) or a negative errno, and leave
 * their outputs untouched when they fail.  Every change is atomic: it happens
 * as a whole or not at all, also across a crash.  Changes become durable, in
 * the order made, with the next msnap_commit().  -EUCLEAN: the pool's metadata
 * is damaged there; -EIO: data that fail their checksum, or memory that cannot
 * be read; -EROFS: the pool is open for reading only, or became so after damage
 * was found; -ENOSPC, -ENOMEM as usual.
 *
 * Locking: every function may be called from any thread, unless it says
 * otherwise.  None calls back while holding a lock that the callback could
 * need, unless it says so.
 */
#ifndef MSNAP_COW_H
#define MSNAP_COW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

struct msnap_pool;

/* One line for a person: what is wrong with which thing, and the remedy. */
struct msnap_why {
	char text[400];
};

/* ---- pools ------------------------------------------------------------ */

struct msnap_create_args {
	const char *label; /* NULL or at most 63 bytes */
	uint64_t size;	   /* bytes; 0: what the file or device has */
	bool force;	   /* overwrite a pool or another filesystem */
	unsigned lock_wait_ms; /* how long to wait for another user of it */
};

/*
 * Make a pool in the file (created 0600 when it does not exist) or device
 * @path.  Constant time: a file is made sparse.  A block device gets an XFS, and the
 * pool in it.  -EEXIST: something recognisable
 * is in it and !force; -EBUSY: in use; -EINVAL: the size.
 */
int msnap_pool_create(const char *path, const struct msnap_create_args *args,
		      struct msnap_why *why);

#define MSNAP_OPEN_RDONLY 1u	 /* nothing is ever stored */
#define MSNAP_OPEN_NO_BACKGROUND 2u /* no threads: tests and checkers */
#define MSNAP_OPEN_PREVIOUS 4u	 /* the root before the newest: repair */
#define MSNAP_OPEN_REBUILD 8u	 /* count references anew even after a clean end */
#define MSNAP_OPEN_REPAIR 16u	 /* as it is, nothing counted or evicted: for fsck */

struct msnap_open_args {
	unsigned flags;
	unsigned commit_ms;    /* longest time before a commit; 0: 5000 */
	unsigned lock_wait_ms; /* how long to wait for another user of the pool */
	unsigned snap_step;    /* records of a snapshot in one operation; 0: 1000 */
	/* Called with one line for the log; may be NULL.  @level as in syslog(3).
	 * Called with locks held: must not call into the engine. */
	void (*log)(void *arg, int level, const char *line);
	void *log_arg;
};

/*
 * Open the pool in @path.  -EMEDIUMTYPE: not a pool; -ENOTSUP: made by a newer
 * version; -EUCLEAN: damaged or truncated; -EBUSY: in use by another process.
 */
int msnap_pool_open(const char *path, const struct msnap_open_args *args,
		    struct msnap_pool **pool, struct msnap_why *why);

/*
 * Commit, save the space map, mark the end as clean and release everything.
 * Returns what the last commit returned; the pool is gone in any case.
 */
int msnap_pool_close(struct msnap_pool *pool);

/* Release everything as if the machine had died: for tests. */
void msnap_pool_abandon(struct msnap_pool *pool);

struct msnap_pool_info {
	char path[4096];
	char label[64];
	uint8_t uuid[16];
	char granularity[16]; /* "byte", "cache line", "page" */
	bool device;	      /* a device, not a file */
	bool read_only;
	bool was_clean; /* the last end was */
	uint64_t size;	/* bytes */
	uint64_t block_size;
	uint64_t nr_blocks;
	uint64_t nr_free;    /* blocks that can be had now or after commits */
	uint64_t nr_reserve; /* of those, kept for deletion and commits */
	uint64_t nr_shared;  /* blocks with more than one reference */
	uint64_t generation; /* of the last commit */
	uint64_t nr_commits; /* since open */
	uint64_t nr_inodes;
	uint64_t nr_snaps;
	uint64_t nr_background; /* trees still to be deleted in the background */
	uint64_t nr_space_runs; /* runs in the space map, a measure of fragmentation */
};
int msnap_pool_info(struct msnap_pool *pool, struct msnap_pool_info *info);

/*
 * Make everything done before the call durable.  Concurrent calls share one
 * commit; cheap when nothing changed.
 */
int msnap_commit(struct msnap_pool *pool);

/* Wait until background deletion has nothing left to do. */
int msnap_pool_settle(struct msnap_pool *pool);

/* ---- files and directories -------------------------------------------- */

#define MSNAP_ROOT_INO_PUBLIC 1ull

/* An inode in the live namespace (snap 0) or in a snapshot. */
struct msnap_id {
	uint64_t snap;
	uint64_t ino;
};

static inline struct msnap_id msnap_live(uint64_t ino)
{
	return (struct msnap_id){ 0, ino };
}

struct msnap_attr {
	uint64_t ino;
	uint32_t mode; /* as st_mode */
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint64_t size;	  /* bytes; of a directory: its number of entries */
	uint64_t nr_blk;  /* 4 KiB blocks of data */
	uint64_t parent;  /* of a directory */
	uint64_t version; /* grows with every change */
	uint64_t rdev;
	struct timespec atime, mtime, ctime, btime;
};

int msnap_getattr(struct msnap_pool *pool, struct msnap_id id,
		  struct msnap_attr *attr);

#define MSNAP_SET_MODE 1u
#define MSNAP_SET_UID 2u
#define MSNAP_SET_GID 4u
#define MSNAP_SET_SIZE 8u
#define MSNAP_SET_ATIME 16u
#define MSNAP_SET_MTIME 32u
#define MSNAP_SET_CTIME 64u

/*
 * Change the attributes in @set to those in @attr (mode: permission bits only)
 * and set ctime to now unless it is in @set.  SIZE truncates or extends a
 * regular file, and sets mtime to now unless it is in @set.  @out: afterwards.
 */
int msnap_setattr(struct msnap_pool *pool, uint64_t ino,
		  const struct msnap_attr *attr, unsigned set,
		  struct msnap_attr *out);

/* Name lengths are in bytes, at most 255 (-ENAMETOOLONG); names carry no NUL. */
int msnap_lookup(struct msnap_pool *pool, struct msnap_id dir, const char *name,
		 size_t len, struct msnap_attr *attr);

struct msnap_new {
	uint32_t mode; /* type and permission bits */
	uint32_t uid;
	uint32_t gid;
	uint64_t rdev;	    /* of character and block devices */
	const char *target; /* of symbolic links */
};

/*
 * Make an inode of any type in directory @dir.  @name NULL: a file without a
 * name (O_TMPFILE), which lives until msnap_evict() unless it is linked.
 */
int msnap_create(struct msnap_pool *pool, uint64_t dir, const char *name,
		 size_t len, const struct msnap_new *what,
		 struct msnap_attr *attr);

int msnap_link(struct msnap_pool *pool, uint64_t ino, uint64_t dir,
	       const char *name, size_t len, struct msnap_attr *attr);

/*
 * Remove a name.  @gone: the inode it named, afterwards; with nlink 0 it is an
 * orphan and lives on until msnap_evict().  Without @rmdir a directory is
 * -EISDIR; with it, anything else is -ENOTDIR and a full one -ENOTEMPTY.
 */
int msnap_unlink(struct msnap_pool *pool, uint64_t dir, const char *name,
		 size_t len, bool rmdir, struct msnap_attr *gone);

#define MSNAP_RENAME_NOREPLACE 1u /* as in renameat2(2) */
#define MSNAP_RENAME_EXCHANGE 2u

/* @gone: the inode that was replaced; its ino is 0 when there was none. */
int msnap_rename(struct msnap_pool *pool, uint64_t dir, const char *name,
		 size_t len, uint64_t new_dir, const char *new_name,
		 size_t new_len, unsigned flags, struct msnap_attr *gone);

/*
 * Nobody uses the orphan @ino any more: delete it, a large one in the
 * background.  0 too when it is no orphan (a link came back).  Orphans of an
 * earlier run are evicted by msnap_pool_open().
 */
int msnap_evict(struct msnap_pool *pool, uint64_t ino);

/* The target, without NUL; returns its length.  -ERANGE: @size too small. */
int msnap_readlink(struct msnap_pool *pool, struct msnap_id id, char *buf,
		   size_t size);

struct msnap_entry {
	const char *name; /* no NUL; valid during the callback */
	size_t len;
	uint64_t ino;
	uint8_t type;	 /* DT_* */
	uint64_t cookie; /* go on behind this entry; never 0, below 2^60 */
};

/*
 * Call @cb for the entries behind @cookie (0: from the start), without "." and
 * "..", until it returns nonzero.  Entries that stay are seen exactly once,
 * whatever else happens to the directory.  The callback must not call into the
 * engine.
 */
int msnap_readdir(struct msnap_pool *pool, struct msnap_id dir, uint64_t cookie,
		  int (*cb)(void *arg, const struct msnap_entry *entry),
		  void *arg);

/* Sizes as in getxattr(2): @size 0 asks for the length; -ERANGE, -ENODATA. */
int msnap_xattr_get(struct msnap_pool *pool, struct msnap_id id,
		    const char *name, void *buf, size_t size);
int msnap_xattr_list(struct msnap_pool *pool, struct msnap_id id, char *buf,
		     size_t size);
/* @flags: XATTR_CREATE, XATTR_REPLACE of <sys/xattr.h>. */
int msnap_xattr_set(struct msnap_pool *pool, uint64_t ino, const char *name,
		    const void *value, size_t size, int flags);
int msnap_xattr_remove(struct msnap_pool *pool, uint64_t ino, const char *name);

/* ---- file contents ---------------------------------------------------- */

/*
 * A read in progress: iov names the pool's own memory (and a block of zeros for
 * holes), which stays as it is until msnap_read_end().  Never hold one across a
 * wait for anything but the copying itself: it keeps freed blocks from reuse.
 */
#define MSNAP_READ_IOV 280
struct msnap_read {
	unsigned nr;
	size_t len;
	unsigned slot; /* private */
	struct iovec iov[MSNAP_READ_IOV];
};

/*
 * Begin to read at most @len bytes at @off; read->len tells how many (fewer at
 * the end of the file, or when the pieces are many).  Contents are verified
 * against their checksums the first time after the pool was opened.
 * On success msnap_read_end() must follow.
 */
int msnap_read_begin(struct msnap_pool *pool, struct msnap_id id, uint64_t off,
		     size_t len, struct msnap_read *read);
void msnap_read_end(struct msnap_pool *pool, struct msnap_read *read);

/* The same, copied to @buf: returns the bytes read.  -EIO on bad memory. */
ssize_t msnap_pread(struct msnap_pool *pool, struct msnap_id id, void *buf,
		    size_t len, uint64_t off);

/*
 * Write, extending the file as needed: all of it or nothing.  At most 16 MiB a
 * call (-EINVAL).  @keep_size: bytes behind the end are dropped, as the write
 * back of a page that a truncation has passed must be.
 */
int msnap_pwrite(struct msnap_pool *pool, uint64_t ino, const void *buf,
		 size_t len, uint64_t off, bool keep_size);

/* @mode: FALLOC_FL_KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE; others -EOPNOTSUPP. */
int msnap_fallocate(struct msnap_pool *pool, uint64_t ino, int mode,
		    uint64_t off, uint64_t len);

/* SEEK_DATA or SEEK_HOLE; -ENXIO as lseek(2). */
int msnap_seek(struct msnap_pool *pool, struct msnap_id id, uint64_t off,
	       int whence, uint64_t *out);

/*
 * Copy @len bytes by sharing whole blocks, and by copying the unaligned rest.
 * Returns the bytes copied, fewer than asked at the end of the source.  A whole
 * file onto an empty one costs the same whatever its size.  Source and target
 * may be one file when the ranges do not overlap (-EINVAL).
 */
ssize_t msnap_copy_range(struct msnap_pool *pool, struct msnap_id src,
			 uint64_t src_off, uint64_t ino, uint64_t off,
			 uint64_t len);

struct msnap_piece {
	uint64_t off;	  /* bytes, in the file */
	uint64_t len;	  /* bytes */
	uint64_t blk;	  /* first block in the pool */
	unsigned flags;	  /* MSNAP_EXT_* of format.h, of which this is one: */
#define MSNAP_PIECE_UNWRITTEN 1u /* allocated, reads as zeros */
	uint32_t count;	  /* 1: nobody else has it; more: shared */
};

/*
 * Call @cb for the pieces of a file from @off on, neighbours merged where the
 * pool has them together, until it returns nonzero.  The callback must not call
 * into the engine.
 */
int msnap_map(struct msnap_pool *pool, struct msnap_id id, uint64_t off,
	      int (*cb)(void *arg, const struct msnap_piece *piece), void *arg);

/* ---- snapshots, clones, rollback -------------------------------------- */

struct msnap_snap_item {
	uint64_t dir;	  /* a live directory */
	const char *name; /* an entry of it that is no directory; NULL: all of
			     the directory, with everything below it */
	size_t len;
};

#define MSNAP_SNAP_NAME_MAX 200

/*
 * Take a snapshot of the @nr items as they are at one instant, called @name.
 * The root directory takes constant time; other items take time in proportion
 * to the number of inodes in them, never to their size.  Durable on return.
 * -EEXIST: a snapshot of that name shows in a directory that this one holds, too.
 */
int msnap_snap_create(struct msnap_pool *pool, const char *name,
		      const char *comment, uint32_t uid,
		      const struct msnap_snap_item *item, unsigned nr,
		      uint64_t *snap);

struct msnap_snap_info {
	uint64_t id;
	uint64_t scope; /* inode of the directory it was taken of */
	uint64_t gen;
	struct timespec time;
	uint64_t nr_inodes;
	uint32_t holds;
	uint32_t uid;
	bool partial; /* chosen entries of a directory only */
	char name[MSNAP_SNAP_NAME_MAX + 1];
	char comment[513];
};

int msnap_snap_get(struct msnap_pool *pool, uint64_t snap,
		   struct msnap_snap_info *info);
/* The snapshot with the lowest id above @after, oldest first; -ENOENT: none. */
int msnap_snap_next(struct msnap_pool *pool, uint64_t after,
		    struct msnap_snap_info *info);
/* The snapshot called @name that holds directory @dir, of the nearest scope. */
int msnap_snap_find(struct msnap_pool *pool, uint64_t dir, const char *name,
		    struct msnap_snap_info *info);
/* Does the snapshot hold the inode? 1, 0 or an error. */
int msnap_snap_holds(struct msnap_pool *pool, uint64_t snap, uint64_t ino);

/* Its name is gone at once, its space comes back in the background. Durable. */
int msnap_snap_delete(struct msnap_pool *pool, uint64_t snap);
int msnap_snap_rename(struct msnap_pool *pool, uint64_t snap, const char *name);

#define MSNAP_CLONE_REPLACE 1u /* put it in the place of a file that exists */

/* Who will own what is made; uid -1: as the original, setuid bits included. */
struct msnap_owner {
	int64_t uid;
	int64_t gid;
};

/*
 * Clone a live or snapshot inode (a directory with everything below it) to the
 * new name @name in @dir: contents shared, attributes and xattrs copied.  A file
 * takes constant time, a directory time in proportion to its inodes.  Durable on
 * return.  @gone as in msnap_rename().
 */
int msnap_clone(struct msnap_pool *pool, struct msnap_id src, uint64_t dir,
		const char *name, size_t len, struct msnap_owner owner,
		unsigned flags, struct msnap_attr *attr, struct msnap_attr *gone);

/*
 * Asked about each inode that a call is about to copy or to change, as it is at that
 * moment; anything but 0 ends the call with that, undone.  Called with locks held: it
 * must not call into the engine.  Who asks before the call only asks about what may be
 * something else by then.
 */
typedef int msnap_may_fn(void *arg, const struct msnap_attr *attr);

/* msnap_clone() of what @may (NULL: anything) agrees to: the original and everything
 * below it. */
int msnap_clone_if(struct msnap_pool *pool, struct msnap_id src, uint64_t dir,
		   const char *name, size_t len, struct msnap_owner owner,
		   unsigned flags, msnap_may_fn *may, void *arg,
		   struct msnap_attr *attr, struct msnap_attr *gone);

/*
 * What a rollback changed, for whoever caches it.  An inode: name NULL.  An
 * entry of directory @ino: its name.
 */
typedef void msnap_changed_fn(void *arg, uint64_t ino, const char *name,
			      size_t len);

/*
 * Make directory @dir (with everything below it), or its entry @name, what it is
 * in the snapshot.  An inode that still exists keeps its number, so that those
 * who have it open see the old contents; one that was deleted comes back with
 * the number it had.  The whole filesystem takes time in proportion to what
 * changed since.  @changed is called afterwards, without locks, for each
 * inode and name that is not what it was before the rollback.  Durable on
 * return.  -ENOENT: the snapshot does not hold it.
 */
int msnap_rollback(struct msnap_pool *pool, uint64_t snap, uint64_t dir,
		   const char *name, size_t len, msnap_changed_fn *changed,
		   void *arg);

/* The same, when @may agrees: it is asked about what changes, as it is now and as it
 * was then. */
int msnap_rollback_if(struct msnap_pool *pool, uint64_t snap, uint64_t dir,
		      const char *name, size_t len, msnap_may_fn *may, void *may_arg,
		      msnap_changed_fn *changed, void *arg);

/* ---- files beside the pool (direct mode) -------------------------------- */

/*
 * The file that the pool is in, to share blocks from: block B is at B * 4096.  -1:
 * it is a device.  The pool's; do not close it.
 */
int msnap_pool_fd(struct msnap_pool *pool);
/* Its path, for what is kept beside it; of a pool on a block device, good in this
 * process only. */
const char *msnap_pool_file(struct msnap_pool *pool);

struct msnap_import {
	uint64_t off; /* bytes, a multiple of 4096 */
	uint64_t len; /* the same */
	bool hole;    /* nothing is there */
};

/*
 * Contents of live file @ino become those of file @fd in the @nr pieces, ascending,
 * at the same offsets, and its size @size.  @tail: the bytes behind the last whole
 * block, which are copied, or NULL: they stay.  Blocks are shared by the host's
 * filesystem, not copied.  Nothing may change @fd there meanwhile.  All or nothing.
 * -EOPNOTSUPP, -EXDEV, -EINVAL: the files cannot share.
 */
int msnap_import(struct msnap_pool *pool, uint64_t ino, int fd,
		 const struct msnap_import *piece, size_t nr, uint64_t size,
		 const void *tail, const struct timespec *mtime);

/*
 * The list of files whose contents may be newer outside of the pool.  Part of the
 * pool's state like a name: durable with a commit.  0 when it is so already.  A file
 * that is evicted leaves the list.
 */
int msnap_view_add(struct msnap_pool *pool, uint64_t ino);
int msnap_view_remove(struct msnap_pool *pool, uint64_t ino);
/* The first inode on the list above @after.  -ENOENT.  What a rollback changes leaves
 * the list with it. */
int msnap_view_next(struct msnap_pool *pool, uint64_t after, uint64_t *ino);

/* What a file's contents are called as long as they stay the same: equal identity,
 * equal contents.  Of inodes in snapshots only. */
struct msnap_identity {
	uint64_t blk;
	uint64_t gen;
	uint64_t size;
};
int msnap_identify(struct msnap_pool *pool, struct msnap_id id,
		   struct msnap_identity *identity);

/* ---- scrubbing: reading everything while the pool is in use ---------------- */

/*
 * A scrub compares every tree node and every block of data, live or in a snapshot,
 * with its checksum, as memory has it at that moment and whatever was verified
 * before.  What is shared is read once.  It covers what there was when it began.
 * Data without checksums get them where they are live, and are counted elsewhere.
 * Damaged data stay where they are (reading them gives -EIO) and change nothing
 * else; a damaged node turns the pool read-only, as it always does.
 */
struct msnap_scrub;

enum msnap_scrub_state {
	MSNAP_SCRUB_STOPPED = 1, /* it can go on where it was */
	MSNAP_SCRUB_DONE = 2,
};

struct msnap_scrub_stat {
	enum msnap_scrub_state state;
	uint64_t begin_ns; /* since the epoch */
	uint64_t end_ns;   /* when it ended or was last saved */
	uint64_t nr_nodes; /* tree nodes verified */
	uint64_t nr_blocks; /* blocks of data verified */
	uint64_t nr_filled; /* blocks that got their checksum; then verified too */
	uint64_t nr_unchecked; /* blocks that have none */
	uint64_t nr_damaged; /* blocks, of data or nodes */
	uint64_t nr_passed; /* blocks done, in any way */
	uint64_t nr_total;  /* that there are to do, about */
};

struct msnap_scrub_damage {
	struct msnap_id id; /* ino 0: a node of a namespace or of the catalog */
	uint64_t off;	    /* bytes, in the file */
	uint64_t blk;	    /* in the pool */
	bool meta;	    /* a node: everything from off on may be lost */
	const char *snap;   /* name of the snapshot, "" live */
	const char *path;   /* from the top, "/dir/file"; of one that is long the
			     * end; "" when id.ino is 0 */
};
typedef void msnap_scrub_damage_fn(void *arg,
				   const struct msnap_scrub_damage *damage);

/* Damage beyond this many is counted only. */
#define MSNAP_SCRUB_NAMED 1000

/*
 * Begin a scrub, or go on with the one that the pool's record tells of, unless it
 * came to its end or @restart.  The caller frees it, before the pool is closed.
 */
int msnap_scrub_begin(struct msnap_pool *pool, bool restart,
		      struct msnap_scrub **scrub);
void msnap_scrub_free(struct msnap_scrub *scrub); /* NULL is fine */

/*
 * Go on for about 1 MiB.  @fn (may be NULL) is called, without locks, for each
 * damage found, after it was logged; its strings are good for the call.  @bytes:
 * how much was read.  1: there is more; 0: that was all; else it cannot go on now
 * (-ENOMEM, -EIO).  By one thread at a time.
 */
int msnap_scrub_step(struct msnap_scrub *scrub, msnap_scrub_damage_fn *fn,
		     void *arg, uint64_t *bytes);

/*
 * Record in the pool how far it has come, or that it is @done.  Durable on return.
 * By the thread that steps.  -EROFS, -ENOSPC: not recorded; it can go on.
 */
int msnap_scrub_save(struct msnap_scrub *scrub, bool done);

/* By any thread. */
void msnap_scrub_stat(struct msnap_scrub *scrub, struct msnap_scrub_stat *stat);
/* What the pool's record says.  -ENOENT: there never was a scrub. */
int msnap_scrub_last(struct msnap_pool *pool, struct msnap_scrub_stat *stat);

/* ---- failing on request, for tests --------------------------------------- */

enum msnap_inject {
	MSNAP_INJECT_MEMORY = 1, /* an allocation by the engine, of any pool */
	MSNAP_INJECT_SPACE = 2,	 /* one of blocks */
	MSNAP_INJECT_DRAIN = 3,	 /* a wait for the media */
	MSNAP_INJECT_POISON = 4,
};

/*
 * The nth event of its kind from now on, by any thread, fails; 0: none does.  POISON:
 * block @nth cannot be read or stored to any more, until the pool is closed.  *seen:
 * how many events there were since the last call.  -EINVAL.  See inject.c.
 */
int msnap_inject(struct msnap_pool *pool, enum msnap_inject what, uint64_t nth,
		 uint64_t *seen);

/* ---- checking ---------------------------------------------------------- */

struct msnap_check_result {
	uint64_t nr_nodes;
	uint64_t nr_inodes; /* in the live tree and in every snapshot */
	uint64_t nr_extents;
	uint64_t nr_blocks; /* in use */
	uint64_t nr_errors;
};

#define MSNAP_CHECK_DATA 1u   /* verify file contents too */
#define MSNAP_CHECK_STRICT 2u /* records that belong to no inode are wrong, too */

/*
 * Walk everything the pool's last commit reaches and compare with the space map
 * in memory.  @report gets one line for each thing wrong.  Nothing else may use
 * the pool meanwhile.  0 when the walk was possible: see nr_errors.
 */
int msnap_check(struct msnap_pool *pool, unsigned flags,
		void (*report)(void *arg, const char *line), void *arg,
		struct msnap_check_result *result);

/* Something that is wrong with a pool. */
struct msnap_problem {
	const char *text; /* one line, without the pool's name */
	const char *fix;  /* what would be done about it, as "cut it out"; NULL:
			     nothing can be done now */
	bool safe; /* the repair gives nothing up that is not lost already */
};

#define MSNAP_FSCK_RDONLY 1u /* store nothing, whatever the answers are */
#define MSNAP_FSCK_FORCE 2u  /* walk everything even after a clean end */
#define MSNAP_FSCK_DATA 4u   /* verify file contents too; implies FORCE */

struct msnap_fsck_args {
	unsigned flags;
	unsigned lock_wait_ms; /* how long to wait for another user of the pool */
	/* Called for each problem; true: repair it. */
	bool (*found)(void *arg, const struct msnap_problem *problem);
	/* Called now and then with what is being done and how far it is; @total
	 * 0: not known.  Nonzero: stop (-ECANCELED).  May be NULL. */
	int (*progress)(void *arg, const char *what, uint64_t done,
			uint64_t total);
	void *arg;
};

struct msnap_fsck_result {
	struct msnap_check_result found; /* of the last walk */
	uint64_t nr_left;   /* problems that are still there */
	uint64_t nr_fixed;  /* repairs that were made, all durable */
	uint64_t nr_blocks; /* the pool's size */
	uint64_t generation;
	bool was_clean; /* the last end was */
	bool skipped;	/* nothing was walked: it was clean and that sufficed */
};

/*
 * Check the pool in @path, which nobody may have open, and repair what @found says
 * yes to, by copy-on-write and commits: a crash at any time leaves the state before
 * or after some of the repairs.  What is sound is not touched, except that orphans
 * are deleted and the end is marked as clean, as opening and closing would.
 *
 * A superblock that is damaged is rewritten from its copy.  When a tree of the last
 * commit is damaged and the commit before it is whole, going back to that is offered
 * first.  Else what cannot be read is cut out, record by record where that is
 * possible, and inodes that lost their names get one in lost+found.
 *
 * 0: see @result.  -ECANCELED: nothing that was not durable yet was changed.
 * -ENOSPC: no room to repair.  -EUCLEAN: no superblock or root record is left.  Else
 * as msnap_pool_open().
 */
int msnap_fsck(const char *path, const struct msnap_fsck_args *args,
	       struct msnap_fsck_result *result, struct msnap_why *why);

/* A place where the daemon that tests/mount/steps.py uses can die; elsewhere nothing. */
#ifndef MSNAP_CRASH_AT
#define MSNAP_CRASH_AT(place) ((void)0)
#endif

#endif
