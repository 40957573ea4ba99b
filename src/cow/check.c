/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.c - is everything that the pool's roots reach as it must be?
 *
 * Three parts: every node once, counting references anew (check-tree.c); every
 * namespace, the live one and each snapshot's, names against inodes
 * (check-names.c); the counts against a map.  msnap_check() changes nothing.
 */
#include "check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "commit.h"

/* ---- what is wrong -------------------------------------------------- */

static bool report(struct msnap_checking *c, bool safe, const char *fix,
		   const char *fmt, va_list ap)
{
	char line[400];
	const struct msnap_problem problem = { line, c->only_look ? NULL : fix,
					       safe };

	c->res.nr_errors++;
	if (c->quiet)
		return false;
	vsnprintf(line, sizeof(line), fmt, ap);
	if (!c->found(c->arg, &problem) || !problem.fix || c->rdonly)
		return false;
	c->nr_answered++;
	c->nr_fixed++;
	c->changed = true;
	return true;
}

bool msnap_check_found(struct msnap_checking *c, bool safe, const char *fix,
		       const char *fmt, ...)
{
	va_list ap;
	bool yes;

	va_start(ap, fmt);
	yes = report(c, safe, fix, fmt, ap);
	va_end(ap);
	return yes;
}

void msnap_check_wrong(struct msnap_checking *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(c, false, NULL, fmt, ap);
	va_end(ap);
}

int msnap_check_progress(struct msnap_checking *c, uint64_t done, uint64_t total)
{
	return c->progress && c->progress(c->arg, c->what, done, total) ?
		       -ECANCELED : 0;
}

/* ---- the walk's memory ---------------------------------------------- */

int msnap_check_init(struct msnap_checking *c)
{
	c->nodes = msnap_calloc(c->pool->nr_ok_chunks, sizeof(*c->nodes));
	return c->nodes ? msnap_space_new(c->pool->nr_blocks, &c->counts) : -ENOMEM;
}

static void free_nodes(struct msnap_checking *c)
{
	uint64_t i;

	for (i = 0; c->nodes && i < c->pool->nr_ok_chunks; i++)
		free((void *)c->nodes[i]);
	free(c->nodes);
	c->nodes = NULL;
}

void msnap_check_destroy(struct msnap_checking *c)
{
	free_nodes(c);
	msnap_space_free(c->counts);
	c->counts = NULL;
	msnap_idmap_free(&c->memo_at);
	free(c->memo);
	free(c->out);
	c->memo = NULL;
	c->out = NULL;
	c->nr_memo = c->cap_memo = c->nr_out = c->cap_out = 0;
}

int msnap_check_reset(struct msnap_checking *c)
{
	msnap_check_destroy(c);
	memset(&c->res, 0, sizeof(c->res));
	c->nr_answered = 0;
	c->damaged = false;
	return msnap_check_init(c);
}

/* ---- the counts ----------------------------------------------------- */

static int count_used(void *arg, uint64_t blk, uint32_t nr, uint32_t count)
{
	uint64_t *nr_blocks = arg;

	(void)blk;
	(void)count;
	*nr_blocks += nr;
	return 0;
}

static void tell_run(struct msnap_checking *c, uint64_t blk, uint64_t nr,
		     uint32_t count, uint32_t have)
{
	unsigned long long first = blk, last = blk + nr - 1;

	if (!count)
		msnap_check_wrong(c, "space map: blocks %llu to %llu are in use by "
				  "nothing", first, last);
	else
		msnap_check_wrong(c, "space map: blocks %llu to %llu have %u "
				  "references, not %u", first, last, count, have);
}

/* Every run of the walk's map against the other, and what only that one has.  Neither
 * map is asked while the other's lock is held. */
static void compare_counts(struct msnap_checking *c, struct msnap_space *map)
{
	uint64_t blk = 0, end, nr;
	uint32_t count, have;

	for (; blk < c->pool->nr_blocks; blk += nr) {
		end = blk + msnap_space_run(c->counts, blk, c->pool->nr_blocks,
					    &count);
		nr = msnap_space_run(map, blk, end, &have);
		if (count != have && (count || have != MSNAP_COUNT_PENDING))
			tell_run(c, blk, nr, count, have);
	}
}

/* Superblock, ring, backup, and the blocks of a saved map. */
static int mark_fixed(struct msnap_checking *c, const struct msnap_runs *chain)
{
	int ret = msnap_space_mark(c->counts, 0, MSNAP_FIRST_BLK);
	size_t i;

	if (ret >= 0)
		ret = msnap_space_mark(c->counts, c->pool->nr_blocks - 1, 1);
	for (i = 0; ret >= 0 && i < chain->nr; i++)
		ret = msnap_space_mark(c->counts, chain->run[i].blk,
				       chain->run[i].nr);
	return ret < 0 ? ret : 0;
}

int msnap_check_counts(struct msnap_checking *c, struct msnap_space *map,
		       const struct msnap_runs *chain)
{
	int err = mark_fixed(c, chain);

	if (err)
		return err;
	msnap_space_settle(c->counts);
	err = msnap_space_each(c->counts, count_used, &c->res.nr_blocks);
	/* A tree that cannot be read leaves its blocks uncounted. */
	if (!err && map && !c->damaged)
		compare_counts(c, map);
	return err;
}

/* ---- the call ------------------------------------------------------- */

struct reporting {
	void (*report)(void *arg, const char *line);
	void *arg;
};

static bool only_report(void *arg, const struct msnap_problem *problem)
{
	struct reporting *r = arg;

	if (r->report)
		r->report(r->arg, problem->text);
	return false;
}

static int check(struct msnap_checking *c)
{
	struct msnap_pool *pool = c->pool;
	struct msnap_ptr ns = pool->ns.root, catalog = pool->catalog.root;
	bool whole;
	int err = msnap_check_scan(c, ns, catalog, NULL);

	if (!err)
		err = msnap_check_tree(c, MSNAP_TREE_NS, "live", &ns, &whole);
	if (!err)
		err = msnap_check_tree(c, MSNAP_TREE_CATALOG, "catalog", &catalog,
				       &whole);
	if (!err)
		err = msnap_check_names(c);
	return err ? err : msnap_check_counts(c, pool->space, &pool->space_map);
}

int msnap_check(struct msnap_pool *pool, unsigned flags,
		void (*report)(void *arg, const char *line), void *arg,
		struct msnap_check_result *result)
{
	struct reporting r = { report, arg };
	struct msnap_checking c = { .pool = pool, .flags = flags,
				    .found = only_report, .arg = &r };
	int err = pool->read_only ? 0 : msnap_commit(pool);

	if (err)
		return err;
	pthread_rwlock_rdlock(&pool->lock);
	err = msnap_check_init(&c);
	if (!err)
		err = MSNAP_GUARD(check(&c));
	pthread_rwlock_unlock(&pool->lock);
	msnap_check_destroy(&c);
	if (!err)
		*result = c.res;
	return err;
}
