/* SPDX-License-Identifier: MIT */
/*
 * memsnapfs.h - the ioctls of a mounted memsnapfs (src/fs/control.h in the
 * source tree, installed as <memsnapfs.h>).
 *
 * Every call goes to an open file or directory of the mount.  They return 0, or
 * -1 and errno.  ENOTTY: the file is not on a memsnapfs.  All structs have a
 * fixed size and layout (little-endian, no padding that is not named), so that
 * a program in any language can build them; strings are NUL-terminated inside
 * their arrays, times are nanoseconds since the epoch, sizes are bytes.
 * Reserved fields must be zero.
 *
 * From Python:
 *
 *     import fcntl, os, struct
 *     SNAP = 0xC4004D02          # MSNAP_IOC_SNAP
 *     fd = os.open("/mnt/data", os.O_RDONLY)
 *     arg = bytearray(1024)      # struct msnap_ioc_snap, all zero
 *     arg[0:4] = b"good"         # .name
 *     fcntl.ioctl(fd, SNAP, arg) # a restore point of /mnt/data, called "good"
 *
 * A restore point is a read-only snapshot, shown in the .snap directory of every
 * directory that it holds.  Who may do what: taking, deleting, renaming one, and
 * rolling back need write permission on the directory; rolling back is for the owner
 * of all that changes, now and in the restore point, and for root; reading needs what
 * reading the original needed.
 *
 * Errors common to all: EINVAL (a reserved field is not zero, a string is not
 * terminated, a name is empty, ".", ".." or has a slash), ENAMETOOLONG, EACCES or
 * EPERM (permission), EROFS (the pool is read-only, or the target is inside
 * .snap), ENOSPC, EIO, ENOMEM.
 */
#ifndef MEMSNAPFS_H
#define MEMSNAPFS_H

#include <linux/ioctl.h>
#include <stdint.h>

#define MSNAP_IOC_MAGIC 'M'

#define MSNAP_IOC_NAME_MAX 200	  /* bytes of a restore point's name */
#define MSNAP_IOC_COMMENT_MAX 512 /* bytes of a comment */

/* ---- what this mount is: any file or directory ------------------------- */

struct msnap_ioc_info {
	char version[32]; /* of the daemon */
	char pool[1024];  /* path of the pool (its end, should it be longer) */
	char label[64];
	uint8_t uuid[16];
	char mode[16];	       /* "cached" or "direct" */
	char mode_why[256];    /* why this mode, one line */
	char granularity[16];  /* "byte", "cache line" or "page" */
	uint32_t read_only;    /* 1: nothing can be changed */
	uint32_t was_clean;    /* 1: the last unmount was clean */
	uint64_t size;	       /* of the pool */
	uint64_t free;	       /* bytes that can still be allocated */
	uint64_t reserve;      /* of those, kept back for deletion */
	uint64_t shared;       /* bytes that more than one file or restore point has */
	uint64_t generation;   /* of the last commit */
	uint64_t nr_commits;   /* since the mount */
	uint64_t nr_inodes;    /* files, directories, ... that are live */
	uint64_t nr_snaps;     /* restore points */
	uint64_t nr_background; /* deletions still going on in the background */
	uint64_t nr_fragments; /* runs in the space map */
	uint64_t nr_reads;     /* READ requests that reached the daemon */
	uint64_t nr_writes;    /* WRITE requests that reached the daemon */
	uint64_t bytes_read;
	uint64_t bytes_written;
	uint64_t nr_open;      /* files open now */
	uint32_t pid;	       /* of the daemon */
	uint32_t block_size;
	uint8_t reserved[440];
};

/* ---- one file: its space ----------------------------------------------- */

struct msnap_ioc_file {
	uint64_t ino;	    /* st_ino */
	uint64_t snap;	    /* restore point that it is in, 0: live */
	uint64_t size;
	uint64_t allocated; /* bytes of the pool that it maps */
	uint64_t exclusive; /* of those, bytes that nothing else has */
	uint64_t nr_extents; /* pieces that lie together in the pool */
	uint64_t nr_open;
	char mode[16];	    /* how it is open: "cached", "direct", "" not open */
	uint8_t reserved[56];
};

/* ---- restore points ---------------------------------------------------- */

/*
 * A reference names an open file or directory to another call, which may be made
 * on another file descriptor: it proves that its holder could open it.  Valid for
 * 60 seconds.
 */
struct msnap_ioc_ref {
	uint64_t token[2];
};

/*
 * Take a restore point of the directory (with everything below it), or, with
 * file set, of that entry of the directory only, which must not be a directory.
 * Everything stored before the call, through any mapping or by any write, is in
 * it.  Durable when the call returns.
 *
 * name: empty asks for one made of the local time, YYYYMMDDThhmmss+hhmm; the call
 * stores the name in use.
 *
 * Several directories and files at one instant: make a call for each but the
 * last with flag MORE, the first with group 0, the others with the group that
 * it stored; the last call, without MORE, takes the restore point of all (its name
 * and comment count).  The calls of one group must come from one process.
 *
 * EEXIST: the name is in use in this directory, or above or below it.
 */
#define MSNAP_IOC_SNAP_MORE 1u

struct msnap_ioc_snap {
	char name[208];	   /* in and out */
	char comment[520]; /* in */
	char file[256];	   /* in */
	uint64_t group;	   /* in and out */
	uint64_t id;	   /* out */
	uint64_t time_ns;  /* out */
	uint32_t flags;	   /* in */
	uint8_t reserved[12];
};

/* Delete the restore point called name that holds this directory (with all that
 * was taken together with it).  ENOENT; EBUSY: it is held. */
struct msnap_ioc_snap_delete {
	char name[208];
	uint8_t reserved[16];
};

struct msnap_ioc_snap_rename {
	char name[208];
	char new_name[208];
	uint8_t reserved[16];
};

/*
 * The restore points that hold something of this directory (or, with file set, of
 * that entry), oldest first.  Start with after = 0, go on with the id of the last
 * one until nr is 0.
 */
struct msnap_ioc_snap_entry {
	uint64_t id;
	uint64_t time_ns;
	uint64_t scope;	    /* st_ino of the directory it was taken of */
	uint64_t nr_inodes; /* in it */
	uint64_t generation;
	uint32_t holds;
	uint32_t uid;	  /* who took it */
	uint32_t partial; /* 1: of chosen entries, not of the whole directory */
	uint32_t reserved;
	char name[208];
	char comment[520];
};

#define MSNAP_IOC_LIST_MAX 16

struct msnap_ioc_snap_list {
	uint64_t after; /* in */
	char file[256]; /* in */
	uint32_t nr;	/* out */
	uint32_t reserved;
	struct msnap_ioc_snap_entry entry[MSNAP_IOC_LIST_MAX];
};

/*
 * Roll back: the directory (file empty, and everything below it) or its entry file
 * becomes what it was in the restore point called name.  Files keep their inode
 * number: whoever has one open or mapped sees the restored contents.  Unless
 * NO_SAFETY, a restore point of what is there now is taken first, and its
 * name stored in safety, so that the rollback itself can be undone.
 */
#define MSNAP_IOC_ROLLBACK_NO_SAFETY 1u

struct msnap_ioc_rollback {
	char name[208];	  /* in */
	char file[256];	  /* in */
	char safety[208]; /* out */
	uint32_t flags;	  /* in */
	uint8_t reserved[12];
};

/* ---- clones ------------------------------------------------------------ */

/*
 * On the source, a file or (RECURSIVE) a directory, live or in .snap, opened for
 * reading: make a clone of it called name in the directory that ref names (see
 * MSNAP_IOC_REF).  A file takes the same time whatever its size.  Attributes and
 * extended attributes are copied; the owner is kept for root, and becomes the
 * caller for others.  EEXIST unless REPLACE (a file in place of a file);
 * EISDIR: a directory without RECURSIVE.
 */
#define MSNAP_IOC_CLONE_REPLACE 1u
#define MSNAP_IOC_CLONE_RECURSIVE 2u

struct msnap_ioc_clone {
	struct msnap_ioc_ref ref; /* in: target directory */
	char name[256];		  /* in */
	uint64_t ino;		  /* out: st_ino of the clone */
	uint32_t flags;		  /* in */
	uint8_t reserved[20];
};

/* ---- scrubbing ---------------------------------------------------------- */

/*
 * Read everything there is, in the background, and compare it with its checksums.
 * Any file or directory of the mount will do.  Status is for everybody, the rest
 * for root and the owner of the mount (EPERM).
 *
 * START: begin one, or go on with the one that was cancelled or that an unmount
 * interrupted, unless flag RESTART; rate is in bytes per second, 0: the usual one.
 * One that runs gets the new rate (EBUSY with RESTART).  CANCEL: returns when it
 * has stopped; its place is kept, in the pool too.  All three answer with the status.
 */
enum {
	MSNAP_IOC_SCRUB_STATUS = 0, /* op */
	MSNAP_IOC_SCRUB_START = 1,
	MSNAP_IOC_SCRUB_CANCEL = 2,
};

enum {
	MSNAP_IOC_SCRUB_NONE = 0, /* state: there never was one */
	MSNAP_IOC_SCRUB_RUNNING = 1,
	MSNAP_IOC_SCRUB_STOPPED = 2, /* START goes on with it */
	MSNAP_IOC_SCRUB_DONE = 3,
	MSNAP_IOC_SCRUB_FAILED = 4, /* error says why; START goes on with it */
};

#define MSNAP_IOC_SCRUB_RESTART 1u
#define MSNAP_IOC_SCRUB_UNLIMITED 0xffffffffffffffffull /* rate */

struct msnap_ioc_scrub {
	uint32_t op;	     /* in */
	uint32_t flags;	     /* in */
	uint64_t rate;	     /* in and out */
	uint32_t state;	     /* out, as all that follows */
	int32_t error;	     /* errno, 0: none */
	uint64_t begin_ns;
	uint64_t end_ns;     /* when it ended, or was last recorded */
	uint64_t done;	     /* bytes of the pool */
	uint64_t total;	     /* of so many, about */
	uint64_t nr_nodes;   /* blocks of metadata verified */
	uint64_t data;	     /* bytes of contents verified */
	uint64_t filled;     /* bytes that had no checksum and got one */
	uint64_t unchecked;  /* bytes that have none */
	uint64_t nr_damaged; /* blocks, of data or metadata */
	uint64_t nr_listed;  /* of these, in the list: since the mount, at most 1000 */
	uint8_t reserved[88]; /* zero in */
};

/* What it found damaged, in the order found.  Start with first = 0, go on behind
 * the last one until nr is 0.  A block that several files or restore points share
 * is told once. */
struct msnap_ioc_scrub_entry {
	uint64_t ino;	 /* inode, 0: metadata of no one file */
	uint64_t snap;	 /* id of the restore point, 0: live */
	uint64_t offset; /* in the file, bytes */
	uint64_t block;	 /* in the pool */
	uint32_t meta;	 /* 1: metadata; the contents behind offset may be lost */
	uint32_t reserved;
	char name[208];	 /* of the restore point, "": live */
	char path[1024]; /* from the top of the mount, "/dir/file" (its end, should
			    it be longer); "": of no one file */
};

#define MSNAP_IOC_SCRUB_LIST_MAX 8

struct msnap_ioc_scrub_list {
	uint64_t first; /* in */
	uint32_t nr;	/* out */
	uint32_t reserved;
	struct msnap_ioc_scrub_entry entry[MSNAP_IOC_SCRUB_LIST_MAX];
};

#define MSNAP_IOC_INFO _IOR(MSNAP_IOC_MAGIC, 1, struct msnap_ioc_info)
#define MSNAP_IOC_SNAP _IOWR(MSNAP_IOC_MAGIC, 2, struct msnap_ioc_snap)
#define MSNAP_IOC_SNAP_DELETE \
	_IOW(MSNAP_IOC_MAGIC, 3, struct msnap_ioc_snap_delete)
#define MSNAP_IOC_SNAP_RENAME \
	_IOW(MSNAP_IOC_MAGIC, 4, struct msnap_ioc_snap_rename)
#define MSNAP_IOC_SNAP_LIST _IOWR(MSNAP_IOC_MAGIC, 5, struct msnap_ioc_snap_list)
#define MSNAP_IOC_ROLLBACK _IOWR(MSNAP_IOC_MAGIC, 6, struct msnap_ioc_rollback)
#define MSNAP_IOC_REF _IOR(MSNAP_IOC_MAGIC, 7, struct msnap_ioc_ref)
#define MSNAP_IOC_CLONE _IOWR(MSNAP_IOC_MAGIC, 8, struct msnap_ioc_clone)
#define MSNAP_IOC_FILE _IOR(MSNAP_IOC_MAGIC, 9, struct msnap_ioc_file)
#define MSNAP_IOC_SCRUB _IOWR(MSNAP_IOC_MAGIC, 10, struct msnap_ioc_scrub)
#define MSNAP_IOC_SCRUB_LIST \
	_IOWR(MSNAP_IOC_MAGIC, 11, struct msnap_ioc_scrub_list)

#endif
