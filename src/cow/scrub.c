/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scrub.c - read everything, a little at a time, and compare it with its checksums.
 *
 * What a scrub covers is what was committed when it began (or went on after a
 * mount): nodes and extents of older generations.  They never change in place, so
 * that what is copied under the lock still holds when the data are read without
 * it; and a block that is used again meanwhile carries a younger generation, so
 * that the marks below cannot be taken for its.
 *
 * Order: the live namespace, then the catalog, and at each snapshot's record the
 * snapshot's namespace.  In a namespace, by inode; in a file, by block.  A position is
 * a key in each of these trees: it survives any change of them.
 *
 * Marks: one bit for each block of data that was looked at, and for each node below
 * which there is nothing left to be looked at.  Snapshots and clones share whole
 * subtrees, and a marked one is passed over at its root.  A rollback that puts
 * an inode behind the position while its snapshot is deleted is what a scrub can
 * miss.
 *
 * Locking: the walk holds the pool's lock for reading, for a bounded number of nodes;
 * data are read without it, pinned as in read.c.  A scrub itself is used by one
 * thread at a time, but msnap_scrub_stat() by any.
 */
#include "scrub.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "alloc.h"
#include "csum.h"
#include "file.h"
#include "fill.h"

#define BATCH 256u    /* blocks of data read in one step, about */
#define MAX_WORK 256u /* nodes entered in one step */
#define MAX_BAD 32u   /* damaged nodes found in one step */

/* One tree on its way.  What is below key is done.  The rest is good as long as the
 * lock is held. */
struct walk {
	unsigned type;
	struct msnap_ptr root;
	struct msnap_key key;
	bool started; /* type and root are set */
	bool placed;  /* and so is what follows */
	bool ended;
	unsigned top;
	unsigned level; /* where to go down from; 0: at a record */
	const struct msnap_node *node[MSNAP_MAX_LEVEL + 1];
	unsigned idx[MSNAP_MAX_LEVEL + 1];
};

struct item {
	struct msnap_id id; /* ino 0: a node of a namespace or of the catalog */
	uint64_t fb, blk, csum;
};

struct bad {
	struct item it;
	bool meta;
};

enum where {
	LIVE,
	CATALOG, /* between snapshots */
	SNAP,
	NR_WHERE,
};
static_assert(NR_WHERE - 1 == MSNAP_SCRUB_WHERE_MAX, "places");

struct msnap_scrub {
	struct msnap_pool *pool;
	uint64_t first_gen; /* this one and younger are not looked at */
	_Atomic(_Atomic uint64_t *) *seen;

	enum where where;
	uint64_t snap;
	uint64_t ino; /* the file that ext is in; 0: none, or none any more */
	struct walk cat, ns, ext;

	/* of this step */
	unsigned work;
	uint64_t bytes;
	unsigned nr_item, nr_bad;
	struct item item[BATCH + MSNAP_EXT_MAX_CSUM];
	struct bad bad[MAX_BAD + BATCH + MSNAP_EXT_MAX_CSUM + 1];
	struct item fill; /* an extent without checksums; ino 0: none */
	struct item tried; /* the last one */

	pthread_mutex_t stat_lock;
	struct msnap_scrub_stat stat; /* guarded by stat_lock */
	uint64_t nr_named;
	char path[4096];
};

/* ---- counting --------------------------------------------------------------------------- */

static void count(struct msnap_scrub *s, uint64_t *counter, uint64_t nr)
{
	pthread_mutex_lock(&s->stat_lock);
	*counter += nr;
	pthread_mutex_unlock(&s->stat_lock);
}

static void add_bad(struct msnap_scrub *s, const struct item *it, bool meta)
{
	s->bad[s->nr_bad++] = (struct bad){ *it, meta };
}

/* Inode @ino of the namespace that is being walked. */
static struct msnap_id id_here(const struct msnap_scrub *s, uint64_t ino)
{
	return (struct msnap_id){ s->where == SNAP ? s->snap : 0, ino };
}

/* Does the scrub cover what this generation wrote? */
static bool covers(const struct msnap_scrub *s, uint64_t gen)
{
	return gen < s->first_gen;
}

/* Mark a block; false: it was marked. */
static bool mark(struct msnap_scrub *s, uint64_t blk)
{
	if (msnap_ok_test(s->seen, blk))
		return false;
	msnap_ok_set(s->seen, blk, 1);
	count(s, &s->stat.nr_passed, 1);
	return true;
}

/* ---- nodes ------------------------------------------------------------------------------ */

/* As the memory has it now, whatever was known of it. */
static int check_node(struct msnap_pool *pool, struct msnap_ptr ptr, unsigned type,
		      int level)
{
	const struct msnap_node *n = msnap_blk_ptr(pool, ptr.blk);
	const char *why = msnap_node_valid(pool, n, ptr.blk, true);

	if (!why && (n->type != type || get64(n->gen) != ptr.gen ||
		     (level >= 0 && n->level != level)))
		why = "not the one its parent means";
	if (!why)
		return 0;
	msnap_ok_clear(pool->node_ok, ptr.blk, 1);
	return msnap_damaged(pool, "tree node in block %llu: %s",
			     (unsigned long long)ptr.blk, why);
}

static void bad_node(struct msnap_scrub *s, const struct walk *w, uint64_t blk)
{
	bool file = w->type == MSNAP_TREE_EXTENT;
	const struct item it = { .id = id_here(s, file ? s->ino : 0),
				 .fb = file ? w->key.hi : 0,
				 .blk = blk };

	add_bad(s, &it, true);
}

/*
 * The node that @ptr names.  1: there is nothing to do there (any more), or it is
 * damaged; -EAGAIN: enough for this step.
 */
static int enter(struct msnap_scrub *s, const struct walk *w, struct msnap_ptr ptr,
		 int level, const struct msnap_node **node)
{
	struct msnap_pool *pool = s->pool;
	bool valid = msnap_blk_valid(pool, ptr.blk, 1);
	int err;

	if (s->work++ >= MAX_WORK || s->nr_bad >= MAX_BAD)
		return -EAGAIN;
	if (valid && covers(s, ptr.gen)) {
		if (msnap_ok_test(s->seen, ptr.blk))
			return 1;
		s->bytes += MSNAP_BLOCK_SIZE;
		err = MSNAP_GUARD(check_node(pool, ptr, w->type, level));
	} else {
		err = msnap_node_read(pool, ptr, w->type, level, node);
	}
	if (err != -EUCLEAN && err != -EIO) {
		if (!err)
			*node = msnap_blk_ptr(pool, ptr.blk);
		return err;
	}
	bad_node(s, w, ptr.blk);
	if (valid && covers(s, ptr.gen))
		mark(s, ptr.blk);
	return 1;
}

/* Everything below it is done. */
static void leave(struct msnap_scrub *s, const struct msnap_node *n)
{
	if (covers(s, get64(n->gen)) && mark(s, get64(n->blk)))
		count(s, &s->stat.nr_nodes, 1);
}

/* ---- one tree --------------------------------------------------------------------------- */

static void start(struct walk *w, unsigned type, struct msnap_ptr root)
{
	w->type = type;
	w->root = root;
	w->started = true;
	w->placed = w->ended = false;
}

/* The entry at @level is done: to the next one, of this node or one above. */
static int next_entry(struct msnap_scrub *s, struct walk *w, unsigned level)
{
	for (; level <= w->top; level++) {
		const struct msnap_node *n = w->node[level];

		if (++w->idx[level] < msnap_node_nr(n)) {
			w->key = msnap_node_key(n, w->idx[level]);
			w->level = level;
			return 0;
		}
		leave(s, n);
	}
	w->ended = true;
	return -ENOENT;
}

/* Find the key's place in the node just entered.  -ENOENT: the tree's end. */
static int enter_at(struct msnap_scrub *s, struct walk *w, unsigned level)
{
	const struct msnap_node *n = w->node[level];
	bool found;

	w->level = level;
	if (level) {
		w->idx[level] = msnap_node_route(n, w->key);
		return 0;
	}
	w->idx[0] = msnap_node_search(n, w->key, &found);
	if (w->idx[0] < msnap_node_nr(n))
		return 0;
	leave(s, n);
	return next_entry(s, w, 1);
}

static int down(struct msnap_scrub *s, struct walk *w)
{
	int ret = 0;

	while (!ret && w->level) {
		unsigned level = w->level;

		ret = enter(s, w, msnap_node_child(w->node[level], w->idx[level]),
			    level - 1, &w->node[level - 1]);
		if (ret == 0)
			ret = enter_at(s, w, level - 1);
		else if (ret > 0)
			ret = next_entry(s, w, level);
	}
	return ret;
}

static int place(struct msnap_scrub *s, struct walk *w)
{
	const struct msnap_node *n;
	int ret = w->root.blk ? enter(s, w, w->root, -1, &n) : -ENOENT;

	if (ret)
		return ret < 0 ? ret : -ENOENT;
	w->top = n->level;
	w->node[w->top] = n;
	ret = enter_at(s, w, w->top);
	return ret ? ret : down(s, w);
}

/* The first record that is not done.  -ENOENT: none; -EAGAIN: go on next time. */
static int current(struct msnap_scrub *s, struct walk *w, struct msnap_key *key,
		   const void **val)
{
	unsigned len;
	int err = w->ended ? -ENOENT : w->placed ? down(s, w) : place(s, w);

	w->placed = !err;
	if (err)
		return err;
	*key = msnap_node_key(w->node[0], w->idx[0]);
	*val = msnap_node_val(w->node[0], w->idx[0], &len);
	return 0;
}

static struct msnap_key key_after(unsigned type, struct msnap_key key)
{
	if (type == MSNAP_TREE_EXTENT || key.lo == UINT64_MAX)
		return (struct msnap_key){ key.hi + 1, 0 };
	return (struct msnap_key){ key.hi, key.lo + 1 };
}

/* The current record is done. */
static void advance(struct msnap_scrub *s, struct walk *w)
{
	const struct msnap_node *leaf = w->node[0];

	w->key = key_after(w->type, msnap_node_key(leaf, w->idx[0]));
	if (++w->idx[0] < msnap_node_nr(leaf))
		return;
	/* Now, while the whole path is known: a later look from the new key would
	 * not come by here. */
	leave(s, leaf);
	(void)next_entry(s, w, 1);
}

/* ---- files ------------------------------------------------------------------------------ */

static void take_data(struct msnap_scrub *s, uint64_t fb, const struct msnap_extent *ex)
{
	uint64_t blk = get64(ex->blk);
	unsigned i, nr = get16(ex->nr);

	for (i = 0; i < nr; i++)
		if (mark(s, blk + i))
			s->item[s->nr_item++] = (struct item){
				id_here(s, s->ino), fb + i, blk + i,
				get64(ex->csum[i])
			};
}

/* Blocks that have no checksums: *@counter more. */
static void pass_data(struct msnap_scrub *s, const struct msnap_extent *ex,
		      uint64_t *counter)
{
	uint64_t blk = get64(ex->blk);
	unsigned i, nr = get16(ex->nr);

	for (i = 0; i < nr; i++)
		if (mark(s, blk + i) && counter)
			count(s, counter, 1);
	s->work += nr / 64;
}

/* Can checksums be made for it?  Once: what stays without is counted. */
static bool want_fill(struct msnap_scrub *s, uint64_t fb, const struct msnap_extent *ex)
{
	const struct item this = { id_here(s, s->ino), fb, get64(ex->blk), 0 };

	if (s->where != LIVE || s->pool->read_only ||
	    (s->tried.id.ino == s->ino && s->tried.fb == fb))
		return false;
	s->fill = this;
	return true;
}

static int take_extent(struct msnap_scrub *s, uint64_t fb, const struct msnap_extent *ex)
{
	unsigned flags = get16(ex->flags);

	if (!covers(s, get64(ex->gen)))
		return 0;
	if (flags & MSNAP_EXT_UNWRITTEN)
		pass_data(s, ex, NULL);
	else if (!flags)
		take_data(s, fb, ex);
	else if (want_fill(s, fb, ex))
		return -EAGAIN;
	else
		pass_data(s, ex, &s->stat.nr_unchecked);
	return 0;
}

static int walk_file(struct msnap_scrub *s)
{
	struct msnap_key key;
	const void *val;
	int err;

	while (!(err = current(s, &s->ext, &key, &val))) {
		if (s->nr_item >= BATCH || s->work >= MAX_WORK)
			return -EAGAIN;
		err = take_extent(s, key.hi, val);
		if (err)
			return err;
		advance(s, &s->ext);
	}
	return err;
}

/* ---- namespaces, and all of them ----------------------------------------------------------- */

static int take_inode(struct msnap_scrub *s, uint64_t ino, const struct msnap_inode *in)
{
	int err;

	if (s->ino != ino)
		s->ext.key = (struct msnap_key){ 0, 0 };
	s->ino = ino;
	start(&s->ext, MSNAP_TREE_EXTENT, msnap_ptr_load(in->ext));
	err = walk_file(s);
	if (err != -ENOENT)
		return err;
	s->ino = 0;
	return 0;
}

static int walk_ns(struct msnap_scrub *s)
{
	struct msnap_key key;
	const void *val;
	int err;

	while (!(err = current(s, &s->ns, &key, &val))) {
		if (key.lo >> 56 == MSNAP_NS_INODE)
			err = take_inode(s, key.hi, val);
		if (err)
			return err;
		advance(s, &s->ns);
	}
	return err;
}

static int walk_live(struct msnap_scrub *s)
{
	int err;

	if (!s->ns.started)
		start(&s->ns, MSNAP_TREE_NS, s->pool->ns.root);
	err = walk_ns(s);
	if (err != -ENOENT)
		return err;
	s->where = CATALOG;
	return 0;
}

static int walk_snap(struct msnap_scrub *s)
{
	struct msnap_tree ns;
	int err = 0;

	if (!s->ns.started) {
		err = msnap_ns_of(s->pool, s->snap, &ns);
		if (!err)
			start(&s->ns, MSNAP_TREE_NS, ns.root);
	}
	if (!err)
		err = walk_ns(s);
	/* At its end, deleted meanwhile, or not to be found for damage, which the
	 * walk of the catalog tells. */
	if (err != -ENOENT && err != -EUCLEAN)
		return err;
	s->where = CATALOG;
	return 0;
}

static int walk_catalog(struct msnap_scrub *s)
{
	struct msnap_key key;
	const void *val;
	int err;

	if (!s->cat.started)
		start(&s->cat, MSNAP_TREE_CATALOG, s->pool->catalog.root);
	err = current(s, &s->cat, &key, &val);
	if (err)
		return err;
	if (key.hi >> 56 == MSNAP_CAT_SNAP) {
		s->where = SNAP;
		s->snap = key.hi & ~(0xffull << 56);
		s->ino = 0;
		s->ns = (struct walk){ .key = { 0, 0 } };
	}
	advance(s, &s->cat);
	return 0;
}

/* Collect the work of one step.  -EAGAIN: there is more; -ENOENT: that was all. */
static int collect(struct msnap_scrub *s)
{
	int err;

	s->cat.started = s->ns.started = s->ext.started = false;
	do {
		err = s->where == LIVE ? walk_live(s) :
		      s->where == SNAP ? walk_snap(s) : walk_catalog(s);
	} while (!err);
	return err;
}

/* ---- data --------------------------------------------------------------------------------- */

static int verify(struct msnap_pool *pool, const struct item *it)
{
	return msnap_csum_data(msnap_blk_ptr(pool, it->blk), it->blk) == it->csum ?
		       0 : -EIO;
}

static void verify_items(struct msnap_scrub *s)
{
	unsigned i;

	for (i = 0; i < s->nr_item; i++) {
		const struct item *it = &s->item[i];

		if (!MSNAP_GUARD(verify(s->pool, it)))
			continue;
		/* Readers must not trust what they saw earlier. */
		msnap_ok_clear(s->pool->data_ok, it->blk, 1);
		add_bad(s, it, false);
	}
	s->bytes += (uint64_t)s->nr_item << MSNAP_BLOCK_SHIFT;
	count(s, &s->stat.nr_blocks, s->nr_item);
}

static void fill(struct msnap_scrub *s)
{
	uint64_t fb = s->fill.fb, nr;
	int ret;

	if (!s->fill.id.ino)
		return;
	ret = msnap_fill_step(s->pool, s->fill.id.ino, &fb);
	nr = fb - s->fill.fb;
	if (ret > 0)
		count(s, &s->stat.nr_filled,
		      nr > MSNAP_EXT_MAX_CSUM ? MSNAP_EXT_MAX_CSUM : nr);
	if (ret == -EIO)
		add_bad(s, &s->fill, false);
	s->tried = s->fill;
}

/* ---- what was found -------------------------------------------------------------------------- */

static void snap_name(struct msnap_pool *pool, uint64_t snap, char *buf, size_t size)
{
	struct msnap_snap_info info;

	buf[0] = '\0';
	if (snap && msnap_snap_get(pool, snap, &info) == 0)
		snprintf(buf, size, "%s", info.name);
}

static void log_damage(struct msnap_pool *pool, const struct msnap_scrub_damage *d)
{
	size_t len = strlen(d->path);

	if (!d->id.ino) /* was logged as a damaged node */
		return;
	msnap_log(pool, LOG_ERR, "scrub: offset %llu, block %llu: damaged %s of "
		  "%s%s%s%s", (unsigned long long)d->off,
		  (unsigned long long)d->blk, d->meta ? "tree node" : "data",
		  d->snap[0] ? "restore point " : "", d->snap,
		  d->snap[0] ? ", " : "", d->path + (len > 250 ? len - 250 : 0));
}

static void name(struct msnap_scrub *s, const struct bad *bad,
		 msnap_scrub_damage_fn *fn, void *arg)
{
	char snap[MSNAP_SNAP_NAME_MAX + 1];
	struct msnap_scrub_damage d = {
		.id = bad->it.id,
		.off = bad->it.fb << MSNAP_BLOCK_SHIFT,
		.blk = bad->it.blk,
		.meta = bad->meta,
		.snap = snap,
		.path = s->path,
	};

	snap_name(s->pool, d.id.snap, snap, sizeof(snap));
	s->path[0] = '\0';
	if (d.id.ino)
		msnap_scrub_name(s->pool, d.id, s->path, sizeof(s->path));
	log_damage(s->pool, &d);
	if (fn)
		fn(arg, &d);
}

static void report(struct msnap_scrub *s, msnap_scrub_damage_fn *fn, void *arg)
{
	unsigned i;

	count(s, &s->stat.nr_damaged, s->nr_bad);
	for (i = 0; i < s->nr_bad && s->nr_named < MSNAP_SCRUB_NAMED; i++) {
		name(s, &s->bad[i], fn, arg);
		if (++s->nr_named == MSNAP_SCRUB_NAMED)
			msnap_log(s->pool, LOG_ERR, "scrub: more damage will be "
				  "counted, but not listed");
	}
}

int msnap_scrub_step(struct msnap_scrub *s, msnap_scrub_damage_fn *fn, void *arg,
		     uint64_t *bytes)
{
	struct msnap_pool *pool = s->pool;
	unsigned slot;
	int err;

	s->work = s->nr_item = s->nr_bad = 0;
	s->bytes = 0;
	s->fill.id.ino = 0;
	pthread_rwlock_rdlock(&pool->lock);
	err = MSNAP_GUARD(collect(s));
	slot = pool->gen % MSNAP_READER_SLOTS;
	atomic_fetch_add(&pool->readers[slot], 1);
	pthread_rwlock_unlock(&pool->lock);
	verify_items(s);
	atomic_fetch_sub(&pool->readers[slot], 1);
	fill(s);
	report(s, fn, arg);
	*bytes = s->bytes;
	if (err == -EAGAIN)
		return 1;
	return err == -ENOENT ? 0 : err;
}

/* ---- the record on media ----------------------------------------------------- */

static const struct msnap_key record_key = {
	(uint64_t)MSNAP_CAT_SCRUB << 56, 0
};

static int load(struct msnap_pool *pool, struct msnap_scrub_rec *rec)
{
	const void *val;
	unsigned len;
	int err = msnap_tree_get(pool, &pool->catalog, record_key, &val, &len);

	if (!err)
		memcpy(rec, val, sizeof(*rec));
	return err;
}

static void to_stat(const struct msnap_scrub_rec *rec, struct msnap_scrub_stat *stat)
{
	*stat = (struct msnap_scrub_stat){
		.state = get32(rec->flags) & MSNAP_SCRUB_REC_DONE ?
				 MSNAP_SCRUB_DONE : MSNAP_SCRUB_STOPPED,
		.begin_ns = get64(rec->begin_ns),
		.end_ns = get64(rec->end_ns),
		.nr_nodes = get64(rec->nr_nodes),
		.nr_blocks = get64(rec->nr_blocks),
		.nr_filled = get64(rec->nr_filled),
		.nr_unchecked = get64(rec->nr_unchecked),
		.nr_damaged = get64(rec->nr_damaged),
		.nr_passed = get64(rec->nr_passed),
	};
}

static void from_scrub(struct msnap_scrub *s, struct msnap_scrub_rec *rec)
{
	const struct msnap_scrub_stat *stat = &s->stat;

	memset(rec, 0, sizeof(*rec));
	rec->flags = put32(stat->state == MSNAP_SCRUB_DONE ? MSNAP_SCRUB_REC_DONE :
							     0);
	rec->where = put32(s->where);
	rec->snap = put64(s->where == SNAP ? s->snap : 0);
	rec->cat = put64(s->cat.key.hi);
	rec->ns.hi = put64(s->ns.key.hi);
	rec->ns.lo = put64(s->ns.key.lo);
	rec->ino = put64(s->ino);
	rec->fb = put64(s->ino ? s->ext.key.hi : 0);
	rec->begin_ns = put64(stat->begin_ns);
	rec->end_ns = put64(stat->end_ns);
	rec->nr_nodes = put64(stat->nr_nodes);
	rec->nr_blocks = put64(stat->nr_blocks);
	rec->nr_filled = put64(stat->nr_filled);
	rec->nr_unchecked = put64(stat->nr_unchecked);
	rec->nr_damaged = put64(stat->nr_damaged);
	rec->nr_passed = put64(stat->nr_passed);
}

static void go_on(struct msnap_scrub *s, const struct msnap_scrub_rec *rec)
{
	to_stat(rec, &s->stat);
	s->where = get32(rec->where);
	s->snap = get64(rec->snap);
	s->cat.key.hi = get64(rec->cat);
	s->ns.key = (struct msnap_key){ get64(rec->ns.hi), get64(rec->ns.lo) };
	s->ino = get64(rec->ino);
	s->ext.key.hi = get64(rec->fb);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static int put(struct msnap_scrub *s, const struct msnap_scrub_rec *rec)
{
	return msnap_tree_put(s->pool, &s->pool->catalog, record_key, rec,
			      sizeof(*rec), MSNAP_PUT_ANY);
}

int msnap_scrub_save(struct msnap_scrub *s, bool done)
{
	struct msnap_scrub_rec rec;
	int err;

	pthread_mutex_lock(&s->stat_lock);
	s->stat.end_ns = now_ns();
	s->stat.state = done ? MSNAP_SCRUB_DONE : MSNAP_SCRUB_STOPPED;
	from_scrub(s, &rec);
	pthread_mutex_unlock(&s->stat_lock);
	err = msnap_op_begin(s->pool, MSNAP_OP_BLOCKS);
	if (!err)
		err = msnap_op_end(s->pool, MSNAP_GUARD(put(s, &rec)));
	return err ? err : msnap_commit(s->pool);
}

/* ---- beginning, end, and what is known --------------------------------------- */

void msnap_scrub_free(struct msnap_scrub *s)
{
	uint64_t i;

	if (!s)
		return;
	for (i = 0; s->seen && i < s->pool->nr_ok_chunks; i++)
		free((void *)s->seen[i]);
	free(s->seen);
	pthread_mutex_destroy(&s->stat_lock);
	free(s);
}

static struct msnap_scrub *scrub_new(struct msnap_pool *pool)
{
	struct msnap_scrub *s = msnap_calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	pthread_mutex_init(&s->stat_lock, NULL);
	s->pool = pool;
	s->seen = msnap_calloc(pool->nr_ok_chunks, sizeof(*s->seen));
	if (s->seen)
		return s;
	msnap_scrub_free(s);
	return NULL;
}

int msnap_scrub_begin(struct msnap_pool *pool, bool restart, struct msnap_scrub **out)
{
	struct msnap_scrub_rec rec = { 0 };
	struct msnap_scrub *s;
	/* What is there now is to be covered: all of it must be committed. */
	int err = msnap_commit(pool);

	if (err && !pool->read_only)
		return err;
	err = restart ? -ENOENT : MSNAP_LOOK(pool, load(pool, &rec));
	if (err && err != -ENOENT)
		return err;
	s = scrub_new(pool);
	if (!s)
		return -ENOMEM;
	s->first_gen = atomic_load(&pool->durable_gen) + 1;
	if (!err && !(get32(rec.flags) & MSNAP_SCRUB_REC_DONE))
		go_on(s, &rec);
	else
		s->stat.begin_ns = now_ns();
	s->stat.state = MSNAP_SCRUB_STOPPED;
	*out = s;
	return 0;
}

static uint64_t blocks_in_use(struct msnap_pool *pool)
{
	struct msnap_space_stat stat;
	uint64_t fixed = MSNAP_FIRST_BLK + 1, free;

	msnap_space_stat(pool->space, &stat);
	free = stat.nr_free + stat.nr_pending;
	return free + fixed < pool->nr_blocks ? pool->nr_blocks - free - fixed : 0;
}

/* The blocks in use are what there is to look at, about. */
static void set_total(struct msnap_pool *pool, struct msnap_scrub_stat *stat)
{
	uint64_t used = blocks_in_use(pool);

	stat->nr_total = stat->state == MSNAP_SCRUB_DONE || used < stat->nr_passed ?
				 stat->nr_passed : used;
}

void msnap_scrub_stat(struct msnap_scrub *s, struct msnap_scrub_stat *stat)
{
	pthread_mutex_lock(&s->stat_lock);
	*stat = s->stat;
	pthread_mutex_unlock(&s->stat_lock);
	set_total(s->pool, stat);
}

int msnap_scrub_last(struct msnap_pool *pool, struct msnap_scrub_stat *stat)
{
	struct msnap_scrub_rec rec;
	int err = MSNAP_LOOK(pool, load(pool, &rec));

	if (err)
		return err;
	to_stat(&rec, stat);
	set_total(pool, stat);
	return 0;
}
