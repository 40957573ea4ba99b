/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.c - is everything that the pool's roots reach as it must be?
 *
 * Three passes: every node once, counting references anew; every namespace (the
 * live one and each snapshot's), names against inodes; the counts against the map in
 * memory.  Changes nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "commit.h"
#include "csum.h"
#include "file.h"
#include "idmap.h"
#include "walk.h"

struct checking {
	struct msnap_pool *pool;
	unsigned flags;
	void (*report)(void *arg, const char *line);
	void *arg;
	struct msnap_check_result res;
	struct msnap_space *counts;
	/* the namespace being checked */
	const char *ns_name;
	struct msnap_tree ns;
	struct msnap_idmap links; /* inode -> names found */
	uint64_t nr_inodes;
};

static void wrong(struct checking *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void wrong(struct checking *c, const char *fmt, ...)
{
	char line[300];
	va_list ap;

	c->res.nr_errors++;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (c->report)
		c->report(c->arg, line);
}

/* ---- nodes and references ------------------------------------------------------------- */

struct bounds {
	struct msnap_key lo, hi; /* lo <= key < hi */
	bool open;		 /* no hi */
};

static int check_tree(struct checking *c, unsigned type, struct msnap_ptr ptr,
		      int level, struct bounds b);

static const struct bounds everything = { .open = true };

static int check_data(struct checking *c, const struct msnap_extent *ex)
{
	uint64_t blk = get64(ex->blk);
	unsigned i, nr = get16(ex->nr);
	int ret = msnap_space_mark(c->counts, blk, nr);

	c->res.nr_extents++;
	if (ret < 0)
		return ret;
	if (!(c->flags & MSNAP_CHECK_DATA) || get16(ex->flags))
		return 0;
	for (i = 0; i < nr; i++)
		if (msnap_csum_data(msnap_blk_ptr(c->pool, blk + i), blk + i) !=
		    get64(ex->csum[i]))
			wrong(c, "the data in block %llu are damaged",
			      (unsigned long long)blk + i);
	return 0;
}

static int check_record(struct checking *c, unsigned type, struct msnap_key key,
			const void *val)
{
	const struct msnap_inode *in = val;
	const struct msnap_snap *sn = val;
	const struct msnap_drop *d = val;

	if (type == MSNAP_TREE_EXTENT)
		return check_data(c, val);
	if (type == MSNAP_TREE_NS)
		return key.lo >> 56 == MSNAP_NS_INODE ?
			       check_tree(c, MSNAP_TREE_EXTENT,
					  msnap_ptr_load(in->ext), -1, everything) :
			       0;
	switch (key.hi >> 56) {
	case MSNAP_CAT_SNAP:
		return check_tree(c, MSNAP_TREE_NS, msnap_ptr_load(sn->ns), -1,
				  everything);
	case MSNAP_CAT_DROP:
		return check_tree(c, get32(d->type), msnap_ptr_load(d->root), -1,
				  everything);
	default:
		return 0;
	}
}

static bool inside(const struct bounds *b, struct msnap_key key)
{
	return msnap_key_cmp(key, b->lo) >= 0 &&
	       (b->open || msnap_key_cmp(key, b->hi) < 0);
}

static int check_node(struct checking *c, const struct msnap_node *n,
		      struct bounds b)
{
	unsigned i, len, nr = msnap_node_nr(n);
	int err = 0;

	for (i = 0; !err && i < nr; i++) {
		struct msnap_key key = msnap_node_key(n, i);

		if (n->level == 0) {
			if (!inside(&b, key))
				wrong(c, "block %llu: a key outside its node's range",
				      (unsigned long long)get64(n->blk));
			err = check_record(c, n->type, key, msnap_node_val(n, i, &len));
		} else {
			struct bounds sub = { key, b.hi, b.open };

			if (i + 1 < nr)
				sub = (struct bounds){ key, msnap_node_key(n, i + 1),
						       false };
			err = check_tree(c, n->type, msnap_node_child(n, i),
					 n->level - 1, sub);
		}
	}
	return err;
}

static int check_tree(struct checking *c, unsigned type, struct msnap_ptr ptr,
		      int level, struct bounds b)
{
	const struct msnap_node *n;
	int ret;

	if (!ptr.blk)
		return 0;
	/* Not through msnap_node_read(): what is on media now is to be looked at,
	 * and damage is to be reported, not acted on. */
	if (!msnap_blk_valid(c->pool, ptr.blk, 1)) {
		wrong(c, "a tree node outside the pool");
		return 0;
	}
	n = msnap_blk_ptr(c->pool, ptr.blk);
	ret = msnap_space_mark(c->counts, ptr.blk, 1);
	if (ret <= 0)
		return ret;
	{
		const char *why = msnap_node_valid(c->pool, n, ptr.blk, true);

		if (!why && (n->type != type || get64(n->gen) != ptr.gen ||
			     (level >= 0 && n->level != level)))
			why = "not the node its parent means";
		if (why) {
			wrong(c, "tree node in block %llu: %s",
			      (unsigned long long)ptr.blk, why);
			return 0;
		}
	}
	c->res.nr_nodes++;
	return check_node(c, n, b);
}

/* ---- one namespace ----------------------------------------------------------------------- */

static uint64_t *links_of(struct checking *c, uint64_t ino)
{
	return msnap_idmap_at(&c->links, ino);
}

static int check_dirent(struct checking *c, struct msnap_key key,
			const struct msnap_dirent *de)
{
	struct msnap_inode in;
	uint64_t ino = get64(de->ino), *links;
	int err = msnap_inode_get(c->pool, &c->ns, ino, &in);

	if (err == -ENOENT) {
		wrong(c, "%s: entry \"%.*s\" of directory %llu names no inode",
		      c->ns_name, de->len, de->name, (unsigned long long)key.hi);
		return 0;
	}
	if (err)
		return err;
	if (IFTODT(get32(in.mode)) != de->type)
		wrong(c, "%s: entry \"%.*s\" of directory %llu has the wrong type",
		      c->ns_name, de->len, de->name, (unsigned long long)key.hi);
	if (de->type == DT_DIR && get64(in.parent) != key.hi)
		wrong(c, "%s: directory %llu does not know its parent", c->ns_name,
		      (unsigned long long)ino);
	links = links_of(c, ino);
	if (!links)
		return -ENOMEM;
	++*links;
	return 0;
}

/* Entries of a directory, and how many of them are directories. */
static int count_entries(struct checking *c, uint64_t dir, uint64_t *nr,
			 uint64_t *dirs)
{
	struct msnap_cursor cur;
	unsigned len;
	int err = msnap_cursor_seek(c->pool, &c->ns,
				    msnap_ns_key(dir, MSNAP_NS_DIRENT, 0), &cur);

	*nr = *dirs = 0;
	while (!err) {
		struct msnap_key key = msnap_cursor_key(&cur);
		const struct msnap_dirent *de = msnap_cursor_val(&cur, &len);

		if (key.hi != dir || key.lo >> 56 != MSNAP_NS_DIRENT)
			break;
		++*nr;
		*dirs += de->type == DT_DIR;
		err = msnap_cursor_next(&cur);
	}
	return err == -ENOENT ? 0 : err;
}

static int check_dir(struct checking *c, uint64_t ino, const struct msnap_inode *in)
{
	uint64_t nr, dirs;
	int err = count_entries(c, ino, &nr, &dirs);

	if (err)
		return err;
	if (get64(in->size) != nr)
		wrong(c, "%s: directory %llu has %llu entries, not %llu", c->ns_name,
		      (unsigned long long)ino, (unsigned long long)nr,
		      (unsigned long long)get64(in->size));
	if (get32(in->nlink) && get32(in->nlink) != dirs + 2)
		wrong(c, "%s: directory %llu has %llu links, not %u", c->ns_name,
		      (unsigned long long)ino, (unsigned long long)dirs + 2,
		      get32(in->nlink));
	return 0;
}

static int check_file(struct checking *c, uint64_t ino, const struct msnap_inode *in)
{
	uint64_t nr = 0;
	int err = 0;

	if (get64(in->ext.blk))
		err = msnap_tree_count_blk(c->pool, msnap_ptr_load(in->ext), &nr);
	if (!err && nr != get64(in->nr_blk))
		wrong(c, "%s: inode %llu maps %llu blocks, not %llu", c->ns_name,
		      (unsigned long long)ino, (unsigned long long)nr,
		      (unsigned long long)get64(in->nr_blk));
	return err == -EUCLEAN ? 0 : err;
}

static int check_inode(struct checking *c, uint64_t ino, const struct msnap_inode *in)
{
	uint64_t *links = msnap_idmap_find(&c->links, ino), nr = links ? *links : 0;
	bool dir = S_ISDIR(get32(in->mode));

	c->nr_inodes++;
	c->res.nr_inodes++;
	/* A snapshot of a file has one of its names, perhaps not all. */
	if (dir ? nr > 1 : c->ns_name[0] == 'l' && nr != get32(in->nlink))
		wrong(c, "%s: inode %llu has %llu names, not %u", c->ns_name,
		      (unsigned long long)ino, (unsigned long long)nr,
		      get32(in->nlink));
	if (dir)
		return check_dir(c, ino, in);
	return S_ISREG(get32(in->mode)) ? check_file(c, ino, in) : 0;
}

static int each_record(struct checking *c, bool dirents)
{
	static const struct msnap_key zero = { 0, 0 };
	struct msnap_cursor cur;
	unsigned len;
	int err = msnap_cursor_seek(c->pool, &c->ns, zero, &cur);

	while (!err) {
		struct msnap_key key = msnap_cursor_key(&cur);
		const void *val = msnap_cursor_val(&cur, &len);

		if (dirents && key.lo >> 56 == MSNAP_NS_DIRENT)
			err = check_dirent(c, key, val);
		if (!dirents && key.lo >> 56 == MSNAP_NS_INODE)
			err = check_inode(c, key.hi, val);
		if (!err)
			err = msnap_cursor_next(&cur);
	}
	return err == -ENOENT ? 0 : err;
}

static int check_ns(struct checking *c, const char *name, struct msnap_ptr root)
{
	int err;

	c->ns_name = name;
	c->ns = (struct msnap_tree){ MSNAP_TREE_NS, 0, root };
	c->nr_inodes = 0;
	err = each_record(c, true);
	if (!err)
		err = each_record(c, false);
	msnap_idmap_free(&c->links);
	return err == -EUCLEAN ? 0 : err; /* reported by the first pass */
}

static int check_names(struct checking *c)
{
	struct msnap_pool *pool = c->pool;
	struct msnap_key key = { (uint64_t)MSNAP_CAT_SNAP << 56, 0 };
	struct msnap_cursor cur;
	int err = check_ns(c, "live", pool->ns.root);

	if (!err && c->nr_inodes != pool->nr_inodes)
		wrong(c, "live: %llu inodes, not %llu",
		      (unsigned long long)c->nr_inodes,
		      (unsigned long long)pool->nr_inodes);
	if (!err)
		err = msnap_cursor_seek(pool, &pool->catalog, key, &cur);
	while (!err && msnap_cursor_key(&cur).hi >> 56 == MSNAP_CAT_SNAP) {
		unsigned len;
		const struct msnap_snap *sn = msnap_cursor_val(&cur, &len);
		char name[MSNAP_SNAP_NAME_MAX + 16];

		snprintf(name, sizeof(name), "snapshot %.*s", sn->name_len, sn->text);
		err = check_ns(c, name, msnap_ptr_load(sn->ns));
		if (!err)
			err = msnap_cursor_next(&cur);
	}
	return err == -ENOENT || err == -EUCLEAN ? 0 : err;
}

/* ---- the counts ------------------------------------------------------------------------------- */

static int count_used(void *arg, uint64_t blk, uint32_t nr, uint32_t count)
{
	struct checking *c = arg;

	(void)blk;
	(void)count;
	c->res.nr_blocks += nr;
	return 0;
}

/* Every run of one map against the other; each difference is found once. */
static int compare_run(void *arg, uint64_t blk, uint32_t nr, uint32_t count)
{
	struct checking *c = arg;
	uint64_t end = blk + nr;

	for (; blk < end; blk++) {
		uint32_t have = msnap_space_count(c->pool->space, blk);

		if (have != count)
			wrong(c, "block %llu has %u references, not %u",
			      (unsigned long long)blk, count, have);
	}
	return 0;
}

static int compare_free(void *arg, uint64_t blk, uint32_t nr, uint32_t count)
{
	struct checking *c = arg;
	uint64_t end = blk + nr;

	if (count == MSNAP_COUNT_PENDING)
		return 0;
	for (; blk < end; blk++)
		if (!msnap_space_count(c->counts, blk))
			wrong(c, "block %llu is in use by nothing",
			      (unsigned long long)blk);
	return 0;
}

static int mark_map(struct checking *c)
{
	struct msnap_pool *pool = c->pool;
	int ret = msnap_space_mark(c->counts, 0, MSNAP_FIRST_BLK);
	size_t i;

	if (ret >= 0)
		ret = msnap_space_mark(c->counts, pool->nr_blocks - 1, 1);
	for (i = 0; ret >= 0 && i < pool->space_map.nr; i++)
		ret = msnap_space_mark(c->counts, pool->space_map.run[i].blk,
				       pool->space_map.run[i].nr);
	return ret < 0 ? ret : 0;
}

static int check_counts(struct checking *c)
{
	int err;

	msnap_space_settle(c->counts);
	err = msnap_space_each(c->counts, count_used, c);
	if (!err)
		err = msnap_space_each(c->counts, compare_run, c);
	return err ? err : msnap_space_each(c->pool->space, compare_free, c);
}

static int check(struct checking *c)
{
	int err = mark_map(c);

	if (!err)
		err = check_tree(c, MSNAP_TREE_NS, c->pool->ns.root, -1, everything);
	if (!err)
		err = check_tree(c, MSNAP_TREE_CATALOG, c->pool->catalog.root, -1,
				 everything);
	if (!err)
		err = check_names(c);
	return err ? err : check_counts(c);
}

int msnap_check(struct msnap_pool *pool, unsigned flags,
		void (*report)(void *arg, const char *line), void *arg,
		struct msnap_check_result *result)
{
	struct checking c = { .pool = pool, .flags = flags, .report = report,
			      .arg = arg };
	int err = pool->read_only ? 0 : msnap_commit(pool);

	if (!err)
		err = msnap_space_new(pool->nr_blocks, &c.counts);
	if (err)
		return err;
	pthread_rwlock_rdlock(&pool->lock);
	err = MSNAP_GUARD(check(&c));
	pthread_rwlock_unlock(&pool->lock);
	msnap_space_free(c.counts);
	msnap_idmap_free(&c.links);
	if (!err)
		*result = c.res;
	return err;
}
