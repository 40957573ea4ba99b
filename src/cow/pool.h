/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pool.h - the engine's own view of an open pool: what its modules share.
 *
 * Locking, outermost first:
 *   commit_lock  one commit at a time; held across the waiting for the media
 *   lock         the trees: readers share it, one operation (txn.h) at a time
 *                holds it for writing; never held across waiting for the media
 *   space        the map's own mutex; log: none
 * Fields say which lock guards them.
 */
#ifndef MSNAP_COW_POOL_H
#define MSNAP_COW_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cow.h"
#include "format.h"
#include "persist.h"
#include "runs.h"
#include "space.h"

/* A pointer to a tree node, in DRAM.  blk 0: none. */
struct msnap_ptr {
	uint64_t blk;
	uint64_t gen;
};

struct msnap_tree {
	enum msnap_tree_type type;
	uint64_t owner; /* inode of an extent tree, else 0 */
	struct msnap_ptr root;
};

struct msnap_key {
	uint64_t hi;
	uint64_t lo;
};

struct msnap_image;
struct msnap_delta;

/* The operation in progress: what it takes to undo it (txn.h). */
struct msnap_op {
	uint64_t id; /* counts operations; stamps the set below */
	bool active;
	bool use_reserve; /* may take the last blocks: gives more back */
	struct msnap_ptr ns, catalog; /* the roots before */
	uint64_t next_ino, next_snap, nr_inodes, nr_snaps;
	struct msnap_image *image; /* nodes of this generation before */
	size_t nr_image, cap_image;
	struct msnap_delta *delta; /* references taken and given back */
	size_t nr_delta, cap_delta;
	struct {
		uint64_t blk, id;
	} *touched; /* hash set of nodes with an image or made in this op */
	size_t nr_touched, cap_touched;
	struct msnap_runs nodes, data, freed; /* made and freed in it */
};

/* What the running generation has done so far. */
struct msnap_txn {
	struct msnap_runs nodes; /* to be checksummed and flushed */
	struct msnap_runs data;	 /* to be flushed */
	struct msnap_runs freed; /* pending in the space map */
};

#define MSNAP_READER_SLOTS 4
#define MSNAP_VERIFIED_CHUNK 32768u /* blocks whose bits are allocated together */

struct msnap_pool {
	/* fixed after open */
	struct msnap_mem *mem;
	uint8_t *base;
	uint64_t nr_blocks;
	uint64_t nr_reserve;
	uint64_t hash_seed;
	uint8_t uuid[16];
	char label[64];
	char *path; /* as the user named it */
	char *file; /* the pool's file, for what is kept beside it */
	int host;   /* a mount of our own that it is on (blockdev.h), or -1 */
	bool was_clean;
	uint64_t open_gen; /* of the newest root record when it was opened */
	unsigned commit_ms;
	unsigned snap_step; /* records that a snapshot copies in one operation */
	void (*log)(void *arg, int level, const char *line);
	void *log_arg;

	atomic_int read_only; /* bool; 1 also after damage was found */
	bool repairing; /* damage is expected, and does not turn it read-only */

	pthread_rwlock_t lock;
	/* guarded by lock */
	struct msnap_tree ns;
	struct msnap_tree catalog;
	uint64_t gen; /* the running generation: the next commit's */
	uint64_t next_ino;
	uint64_t next_snap;
	uint64_t next_drop;
	uint64_t nr_inodes;
	uint64_t nr_snaps;
	bool dirty;
	struct msnap_op op;
	struct msnap_txn txn;
	void **spare; /* 4 KiB buffers for images */
	size_t nr_spare;

	struct msnap_space *space;
	struct msnap_trim *trim; /* NULL: nothing to give back below */

	/* Pins: readers that began in generation g count in slot g % 4. */
	atomic_uint readers[MSNAP_READER_SLOTS];

	/* Blocks that were verified since open (or written by us), one bit each. */
	_Atomic(_Atomic uint64_t *) *node_ok;
	_Atomic(_Atomic uint64_t *) *data_ok;
	uint64_t nr_ok_chunks;

	pthread_mutex_t commit_lock;
	/* guarded by commit_lock */
	struct msnap_txn sealed; /* the commit in progress */
	struct msnap_runs last_freed; /* freed by the last commit's generation */
	struct msnap_runs space_map; /* blocks of the saved map we opened with */
	atomic_bool commit_failed; /* no more commits: what the media or this generation
				      have is not known */
	atomic_ulong durable_gen;
	atomic_ulong nr_commits;

	/* background thread */
	pthread_mutex_t bg_lock;
	pthread_cond_t bg_wake, bg_idle;
	bool bg_running, bg_stop, bg_kicked, bg_busy;
	struct msnap_runs fill; /* files to be checksummed: inode, next block */
	pthread_t bg_thread;
};

static inline void *msnap_blk_ptr(struct msnap_pool *pool, uint64_t blk)
{
	return pool->base + (blk << MSNAP_BLOCK_SHIFT);
}

/* May a tree or an extent name these blocks at all? */
static inline bool msnap_blk_valid(const struct msnap_pool *pool, uint64_t blk,
				   uint64_t nr)
{
	return blk >= MSNAP_FIRST_BLK && blk < pool->nr_blocks - 1 &&
	       nr <= pool->nr_blocks - 1 - blk;
}

static inline struct msnap_ptr msnap_ptr_load(struct msnap_ref ref)
{
	return (struct msnap_ptr){ get64(ref.blk), get64(ref.gen) };
}

static inline struct msnap_ref msnap_ptr_store(struct msnap_ptr ptr)
{
	return (struct msnap_ref){ put64(ptr.blk), put64(ptr.gen) };
}

void msnap_log(struct msnap_pool *pool, int level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Damage was found: log it, turn read-only.  Returns -EUCLEAN. */
int msnap_damaged(struct msnap_pool *pool, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* As msnap_pool_open(), on memory that the pool then owns (also on failure). */
int msnap_pool_open_mem(struct msnap_mem *mem, const char *name,
			const struct msnap_open_args *args,
			struct msnap_pool **pool, struct msnap_why *why);
/* As msnap_pool_create(), on memory that stays the caller's. */
int msnap_pool_format_mem(struct msnap_mem *mem, const char *name,
			  const char *label, struct msnap_why *why);

/* The namespace tree that holds @id; the live one or a snapshot's.  Lock held. */
int msnap_ns_of(struct msnap_pool *pool, uint64_t snap, struct msnap_tree *ns);

#endif
