/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * repair.c - fsck: the order in which a pool is checked and put right.
 *
 * First the fixed places, superblocks and root ring.  Then rounds: walk the trees; when
 * one is damaged, offer the commit before, else repair them in one operation and
 * commit; once they are whole, repair names, and commit.  A round that changed
 * something is followed by another, so that what is said in the end is true.
 *
 * Invariants: what the newest root or the one before can reach is not written while
 * trees are damaged.  The space map is counted anew from whole trees before any
 * ordinary operation runs.
 */
#include "repair.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "blockdev.h"
#include "check.h"
#include "commit.h"

/* Each round repairs what the one before laid bare; few need a third. */
#define MAX_ROUNDS 8

struct fsck {
	struct msnap_mem *mem;
	const char *name;
	const struct msnap_fsck_args *args;
	struct msnap_why *why;
	struct msnap_super super;
	struct msnap_root root; /* the newest */
	struct msnap_root previous;
	bool has_previous;
	uint64_t nr_left; /* of the fixed places */
	bool asked_back;  /* whether to go back to the commit before */
	struct msnap_checking c;
};

/* ---- superblock and its backup -------------------------------------- */

static int copy_out(const struct msnap_mem *mem, uint64_t blk, void *out)
{
	memcpy(out, mem->base + (blk << MSNAP_BLOCK_SHIFT), MSNAP_BLOCK_SIZE);
	return 0;
}

static int write_block(struct msnap_mem *mem, uint64_t blk, const void *block)
{
	msnap_mem_copy(mem, blk << MSNAP_BLOCK_SHIFT, block, MSNAP_BLOCK_SIZE);
	msnap_mem_flush(mem, blk << MSNAP_BLOCK_SHIFT, MSNAP_BLOCK_SIZE);
	return msnap_mem_drain(mem);
}

static int store_block(struct msnap_mem *mem, uint64_t blk, const void *block)
{
	int err = msnap_mem_reserve(mem, blk << MSNAP_BLOCK_SHIFT, MSNAP_BLOCK_SIZE);

	return err ? err : MSNAP_GUARD(write_block(mem, blk, block));
}

/* A crash while one copy is written leaves the other. */
static int check_copy(struct fsck *f, uint64_t blk, const char *what)
{
	struct msnap_super have;

	if (!MSNAP_GUARD(copy_out(f->mem, blk, &have)) &&
	    !memcmp(&have, &f->super, sizeof(have)))
		return 0;
	if (!msnap_check_found(&f->c, true, "write it anew from the other",
			       "%s in block %llu is damaged", what,
			       (unsigned long long)blk))
		return 0;
	return store_block(f->mem, blk, &f->super);
}

static int check_supers(struct fsck *f)
{
	int err = msnap_super_read(f->mem, f->name, &f->super, f->why);

	if (!err)
		err = check_copy(f, MSNAP_SUPER_BLK, "the superblock");
	if (!err)
		err = check_copy(f, get64(f->super.nr_blocks) - 1,
				 "the backup of the superblock");
	return err;
}

/* ---- root ring ------------------------------------------------------ */

static const char *when(const struct msnap_root *root, char buf[40])
{
	time_t sec = get64(root->time_ns) / 1000000000;
	struct tm tm;

	if (!localtime_r(&sec, &tm) ||
	    !strftime(buf, 40, "%Y-%m-%d %H:%M:%S %z", &tm))
		strcpy(buf, "unknown time");
	return buf;
}

static bool all_zero(const void *block)
{
	const uint64_t *p = block;
	unsigned i;

	for (i = 0; i < MSNAP_BLOCK_SIZE / sizeof(*p); i++)
		if (p[i])
			return false;
	return true;
}

/* Which of the ring's records are there?  A pool that is young has empty slots. */
static bool slot_fine(struct fsck *f, unsigned slot)
{
	uint64_t block[MSNAP_BLOCK_SIZE / 8];
	const struct msnap_root *r = (const void *)block;

	if (MSNAP_GUARD(copy_out(f->mem, MSNAP_RING_BLK + slot, block)))
		return false;
	return all_zero(block) || msnap_root_valid(r, f->super.uuid, slot);
}

static int check_slot(struct fsck *f, unsigned slot)
{
	static const uint8_t zero[MSNAP_BLOCK_SIZE];
	uint64_t gen = get64(f->root.gen);
	bool next = slot == (gen + 1) % MSNAP_RING_SLOTS, yes;
	char buf[40];

	if (slot_fine(f, slot))
		return 0;
	if (next)
		yes = msnap_check_found(&f->c, true, "clear it",
					"the root record behind generation %llu of %s "
					"is damaged, or was never finished",
					(unsigned long long)gen, when(&f->root, buf));
	else
		yes = msnap_check_found(&f->c, true, "clear it",
					"the root record in block %u is damaged",
					MSNAP_RING_BLK + slot);
	return yes ? store_block(f->mem, MSNAP_RING_BLK + slot, zero) : 0;
}

static int check_ring(struct fsck *f)
{
	unsigned slot;
	int err = msnap_root_read(f->mem, f->super.uuid, 0, &f->root);

	if (err) {
		snprintf(f->why->text, sizeof(f->why->text),
			 "%s: no valid root record is left; nothing can be repaired",
			 f->name);
		return err;
	}
	f->has_previous = !msnap_root_read(f->mem, f->super.uuid, 1, &f->previous);
	for (slot = 0; !err && slot < MSNAP_RING_SLOTS; slot++)
		err = check_slot(f, slot);
	return err;
}

/* ---- walking the trees ---------------------------------------------- */

static int walk_trees(struct msnap_checking *c, struct msnap_ptr *ns,
		      struct msnap_ptr *catalog)
{
	bool whole;
	int err = msnap_check_tree(c, MSNAP_TREE_NS, "live", ns, &whole);

	return err ? err : msnap_check_tree(c, MSNAP_TREE_CATALOG, "catalog", catalog,
					    &whole);
}

/* Only look. */
static int look(struct fsck *f, struct msnap_ptr ns, struct msnap_ptr catalog)
{
	int err = msnap_check_reset(&f->c);

	f->c.what = f->c.flags & MSNAP_CHECK_DATA ? "Checking trees and contents" :
						    "Checking trees";
	f->c.quiet = true;
	if (!err)
		err = msnap_check_scan(&f->c, ns, catalog, NULL);
	if (!err)
		err = walk_trees(&f->c, &ns, &catalog);
	f->c.quiet = false;
	return err;
}

/* An empty space map, but for the places that are fixed. */
static int fresh_space(struct msnap_pool *pool)
{
	struct msnap_space *space;
	int err = msnap_space_new(pool->nr_blocks, &space);

	if (err)
		return err;
	msnap_space_free(pool->space);
	pool->space = space;
	return 0;
}

static int mark_fixed(struct msnap_pool *pool)
{
	int err = msnap_space_set(pool->space, 0, MSNAP_FIRST_BLK, 1);

	return err ? err : msnap_space_set(pool->space, pool->nr_blocks - 1, 1, 1);
}

/* Whatever the newest root reaches, or the one before, is not to be written. */
static int protect(struct fsck *f)
{
	struct msnap_pool *pool = f->c.pool;
	int err = fresh_space(pool);

	if (!err)
		err = mark_fixed(pool);
	if (!err && f->has_previous)
		err = msnap_check_scan(&f->c, msnap_ptr_load(f->previous.ns),
				       msnap_ptr_load(f->previous.catalog),
				       pool->space);
	/* Which blocks are nodes is the newest root's matter. */
	if (!err)
		err = msnap_check_reset(&f->c);
	if (!err)
		err = msnap_check_scan(&f->c, pool->ns.root, pool->catalog.root,
				       pool->space);
	if (!err)
		msnap_space_settle(pool->space);
	return err;
}

/* The walk's repairs: new trees, whose references nobody counts yet. */
static int mend(struct fsck *f)
{
	struct msnap_pool *pool = f->c.pool;

	return walk_trees(&f->c, &pool->ns.root, &pool->catalog.root);
}

/* Walk again, and say what is wrong. */
static int mend_trees(struct fsck *f)
{
	struct msnap_pool *pool = f->c.pool;
	struct msnap_ptr ns = pool->ns.root, catalog = pool->catalog.root;
	int err;

	f->c.what = "Checking damaged trees";
	if (f->c.rdonly) {
		err = msnap_check_reset(&f->c);
		if (!err)
			err = msnap_check_scan(&f->c, ns, catalog, NULL);
		return err ? err : walk_trees(&f->c, &ns, &catalog);
	}
	err = protect(f);
	if (!err)
		err = msnap_op_begin(pool, MSNAP_OP_RESERVE);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(mend(f)));
	return err;
}

/* ---- the commit before ---------------------------------------------- */

static void use_previous(struct fsck *f)
{
	struct msnap_pool *pool = f->c.pool;

	pool->ns.root = msnap_ptr_load(f->previous.ns);
	pool->catalog.root = msnap_ptr_load(f->previous.catalog);
	pool->next_ino = get64(f->previous.next_ino);
	pool->next_snap = get64(f->previous.next_snap);
	pool->nr_inodes = get64(f->previous.nr_inodes);
}

static bool same_trees(const struct fsck *f)
{
	return get64(f->root.ns.blk) == get64(f->previous.ns.blk) &&
	       get64(f->root.catalog.blk) == get64(f->previous.catalog.blk);
}

/* A tree is damaged.  1: we are back at the commit before, which is whole. */
static int go_back(struct fsck *f)
{
	char now[40], then[40];
	int err;

	if (f->asked_back || !f->has_previous || same_trees(f))
		return 0;
	f->asked_back = true;
	err = look(f, msnap_ptr_load(f->previous.ns),
		   msnap_ptr_load(f->previous.catalog));
	if (err || f->c.damaged)
		return err;
	if (!msnap_check_found(&f->c, false, "go back to it, and lose what was changed "
			       "since", "the last commit (generation %llu, %s) is "
			       "damaged; the one before (generation %llu, %s) is whole",
			       (unsigned long long)get64(f->root.gen),
			       when(&f->root, now),
			       (unsigned long long)get64(f->previous.gen),
			       when(&f->previous, then)) ||
	    f->c.rdonly)
		return 0;
	use_previous(f);
	return 1;
}

/* ---- the saved space map -------------------------------------------- */

/* It is never needed: when it is wrong, the next clean end saves another. */
static int compare_saved(struct fsck *f)
{
	struct msnap_pool *pool = f->c.pool;
	uint64_t before = f->c.res.nr_errors, told;
	int err;

	pool->space_map.nr = 0;
	err = fresh_space(pool);
	if (!err)
		err = msnap_spacemap_load(pool, &f->root);
	if (err == -EUCLEAN || err == -EIO) {
		pool->space_map.nr = 0;
		msnap_check_found(&f->c, true, "count anew",
				  "the saved space map is damaged");
		return msnap_check_counts(&f->c, NULL, &pool->space_map);
	}
	if (!err)
		err = msnap_check_counts(&f->c, pool->space, &pool->space_map);
	pool->space_map.nr = 0;
	/* Each run was told; one answer serves them all. */
	told = f->c.res.nr_errors - before;
	if (!err && told &&
	    msnap_check_found(&f->c, true, "count anew",
			      "the saved space map is wrong"))
		f->c.nr_answered += told;
	return err;
}

static int check_map(struct fsck *f, bool saved)
{
	static const struct msnap_runs none;

	if (saved && f->c.pool->was_clean && !f->c.damaged)
		return compare_saved(f);
	return msnap_check_counts(&f->c, NULL, &none);
}

/* ---- rounds --------------------------------------------------------- */

/* Count what the trees, which are whole, refer to. */
static int recount(struct msnap_pool *pool)
{
	int err = fresh_space(pool);

	return err ? err : msnap_spacemap_rebuild(pool);
}

static int check_names(struct fsck *f)
{
	int err = 0;

	/* With damage left, ordinary operations could do more of it. */
	f->c.only_look = f->c.damaged;
	f->c.what = "Checking names";
	if (!f->c.damaged && !f->c.rdonly)
		err = recount(f->c.pool);
	if (!err)
		err = MSNAP_GUARD(msnap_check_names(&f->c));
	f->c.only_look = false;
	return err;
}

/* 1: something was repaired, and is durable. */
static int commit_round(struct fsck *f)
{
	int err = msnap_commit_now(f->c.pool);

	return err ? err : 1;
}

static int repair_trees(struct fsck *f)
{
	int err;

	f->c.changed = false;
	err = mend_trees(f);
	return err || !f->c.changed ? err : commit_round(f);
}

/* The trees, by going back or by repairing them.  1: as above. */
static int round_trees(struct fsck *f)
{
	struct msnap_pool *pool = f->c.pool;
	int ret = look(f, pool->ns.root, pool->catalog.root);

	if (ret || !f->c.res.nr_errors)
		return ret;
	ret = f->c.damaged ? go_back(f) : 0;
	if (ret == 0)
		return repair_trees(f);
	if (ret > 0)
		ret = recount(pool);
	return ret ? ret : commit_round(f);
}

static int one_round(struct fsck *f, bool saved)
{
	int ret;

	f->c.changed = false;
	ret = round_trees(f);
	if (ret)
		return ret;
	ret = check_names(f);
	if (ret)
		return ret;
	if (f->c.changed)
		return commit_round(f);
	return check_map(f, saved);
}

static int rounds(struct fsck *f)
{
	unsigned i;
	int ret = 1;

	for (i = 0; ret > 0 && i < MAX_ROUNDS; i++)
		ret = one_round(f, i == 0);
	if (ret > 0)
		msnap_check_wrong(&f->c, "repairing does not come to an end");
	return ret < 0 ? ret : 0;
}

/* ---- the end -------------------------------------------------------- */

/* Nothing is wrong any more: what opening and closing would do. */
static int finish(struct msnap_pool *pool)
{
	int err = recount(pool);

	pool->repairing = false;
	if (!err)
		err = msnap_evict_all(pool);
	if (!err)
		err = msnap_pool_settle(pool);
	if (err) {
		msnap_pool_abandon(pool);
		return err;
	}
	return msnap_pool_close(pool);
}

static uint64_t nr_left(const struct fsck *f)
{
	return f->nr_left + f->c.res.nr_errors - f->c.nr_answered;
}

static void fill_result(const struct fsck *f, struct msnap_fsck_result *r)
{
	*r = (struct msnap_fsck_result){
		.found = f->c.res,
		.nr_left = nr_left(f),
		.nr_fixed = f->c.nr_fixed,
		.nr_blocks = get64(f->super.nr_blocks),
		.generation = get64(f->root.gen),
		.was_clean = get32(f->root.flags) & MSNAP_ROOT_CLEAN,
	};
}

static int close_pool(struct fsck *f, int err)
{
	struct msnap_pool *pool = f->c.pool;
	bool as_it_was = f->c.rdonly || (pool->was_clean && !f->c.nr_fixed);

	if (!err && !nr_left(f) && !as_it_was)
		return finish(pool);
	msnap_pool_abandon(pool);
	return err;
}

/* ---- the call ------------------------------------------------------- */

static int check_fixed(struct fsck *f)
{
	int err = check_supers(f);

	if (!err)
		err = check_ring(f);
	f->nr_left = nr_left(f);
	return err;
}

static bool clean_enough(const struct fsck *f)
{
	return get32(f->root.flags) & MSNAP_ROOT_CLEAN && !f->c.res.nr_errors &&
	       !(f->args->flags & (MSNAP_FSCK_FORCE | MSNAP_FSCK_DATA));
}

static int check_pool(struct fsck *f, struct msnap_fsck_result *result)
{
	struct msnap_open_args open = { .flags = MSNAP_OPEN_REPAIR |
						 MSNAP_OPEN_NO_BACKGROUND };
	int err;

	if (f->c.rdonly)
		open.flags |= MSNAP_OPEN_RDONLY;
	err = msnap_pool_open_mem(f->mem, f->name, &open, &f->c.pool, f->why);
	if (err)
		return err;
	err = rounds(f);
	if (!err)
		fill_result(f, result);
	msnap_check_destroy(&f->c);
	err = close_pool(f, err);
	if (err)
		snprintf(f->why->text, sizeof(f->why->text), "%s: %s", f->name,
			 err == -ENOSPC ? "no room left in the pool to repair it" :
					  strerror(-err));
	return err;
}

int msnap_fsck_mem(struct msnap_mem *mem, const char *name,
		   const struct msnap_fsck_args *args,
		   struct msnap_fsck_result *result, struct msnap_why *why)
{
	struct fsck f = { .mem = mem, .name = name, .args = args, .why = why };
	int err;

	f.c.found = args->found;
	f.c.progress = args->progress;
	f.c.arg = args->arg;
	f.c.rdonly = mem->read_only || args->flags & MSNAP_FSCK_RDONLY;
	f.c.flags = MSNAP_CHECK_STRICT |
		    (args->flags & MSNAP_FSCK_DATA ? MSNAP_CHECK_DATA : 0);
	snprintf(why->text, sizeof(why->text), "%s: cannot be written", name);
	err = check_fixed(&f);
	if (!err && !clean_enough(&f))
		return check_pool(&f, result);
	if (!err) {
		fill_result(&f, result);
		result->skipped = true;
	}
	msnap_mem_close(mem);
	return err;
}

static int fsck_file(const char *file, const char *name,
		     const struct msnap_fsck_args *args,
		     struct msnap_fsck_result *result, struct msnap_why *why)
{
	struct msnap_mem *mem;
	int err = msnap_mem_open(file, args->flags & MSNAP_FSCK_RDONLY,
				 args->lock_wait_ms, &mem, why);

	if (err && file != name)
		snprintf(why->text, sizeof(why->text), "%s: %s", name,
			 err == -EBUSY ? "is in use; unmount it first" :
					 strerror(-err));
	return err ? err : msnap_fsck_mem(mem, name, args, result, why);
}

int msnap_fsck(const char *path, const struct msnap_fsck_args *args,
	       struct msnap_fsck_result *result, struct msnap_why *why)
{
	char file[MSNAP_BLOCKDEV_PATH];
	struct stat st;
	int err, host;

	if (stat(path, &st) || !S_ISBLK(st.st_mode))
		return fsck_file(path, path, args, result, why);
	err = msnap_blockdev_mount(path, args->flags & MSNAP_FSCK_RDONLY,
				   args->lock_wait_ms, &host, file, why);
	if (err)
		return err;
	err = fsck_file(file, path, args, result, why);
	close(host);
	return err;
}
