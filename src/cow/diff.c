/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diff.h"

#include <errno.h>
#include <string.h>

/* Down to the first leaf from inner level @level. */
static int down(struct msnap_cursor *cur, unsigned level)
{
	for (; level > 0; level--) {
		int err = msnap_cursor_child(cur, level);

		if (err)
			return err;
		cur->idx[level - 1] = 0;
	}
	return 0;
}

/* Past the subtree of level @level that the cursor is at the beginning of. */
static int skip(struct msnap_cursor *cur, unsigned level)
{
	unsigned up;

	for (up = level + 1; up <= cur->top; up++) {
		if (cur->idx[up] + 1 < msnap_node_nr(cur->node[up])) {
			cur->idx[up]++;
			return down(cur, up);
		}
	}
	return -ENOENT;
}

/* The highest level whose subtree both begin at and share; -1: none. */
static int shared_level(const struct msnap_cursor *a, const struct msnap_cursor *b)
{
	unsigned level, top = a->top < b->top ? a->top : b->top;
	int best = -1;

	for (level = 0; level <= top; level++) {
		if (get64(a->node[level]->blk) == get64(b->node[level]->blk) &&
		    a->idx[0] == 0 && b->idx[0] == 0)
			best = level;
		if (a->idx[level] || b->idx[level])
			break;
	}
	return best;
}

struct side {
	struct msnap_cursor cur;
	int err; /* -ENOENT: at the end */
};

static int start(struct msnap_pool *pool, const struct msnap_tree *tree,
		 struct side *s)
{
	static const struct msnap_key zero = { 0, 0 };

	s->err = msnap_cursor_seek(pool, tree, zero, &s->cur);
	return s->err == -ENOENT ? 0 : s->err;
}

static int failed(const struct side *a, const struct side *b)
{
	if (a->err && a->err != -ENOENT)
		return a->err;
	return b->err && b->err != -ENOENT ? b->err : 0;
}

typedef int diff_fn(void *arg, struct msnap_key key, const void *a, unsigned a_len,
		    const void *b, unsigned b_len);

static int step(struct side *a, struct side *b, diff_fn *cb, void *arg)
{
	struct msnap_key ka = { 0, 0 }, kb = { 0, 0 };
	const void *va = NULL, *vb = NULL;
	unsigned la = 0, lb = 0;
	int cmp;

	if (!a->err)
		ka = msnap_cursor_key(&a->cur);
	if (!b->err)
		kb = msnap_cursor_key(&b->cur);
	cmp = a->err ? 1 : b->err ? -1 : msnap_key_cmp(ka, kb);
	if (cmp <= 0) {
		va = msnap_cursor_val(&a->cur, &la);
		a->err = msnap_cursor_next(&a->cur);
	}
	if (cmp >= 0) {
		vb = msnap_cursor_val(&b->cur, &lb);
		b->err = msnap_cursor_next(&b->cur);
	}
	if (cmp == 0 && la == lb && memcmp(va, vb, la) == 0)
		return 0;
	return cb(arg, cmp <= 0 ? ka : kb, va, la, vb, lb);
}

int msnap_tree_diff(struct msnap_pool *pool, const struct msnap_tree *ta,
		    const struct msnap_tree *tb, diff_fn *cb, void *arg)
{
	struct side a, b;
	int err = start(pool, ta, &a);

	if (!err)
		err = start(pool, tb, &b);
	while (!err && !(a.err && b.err)) {
		int level = a.err || b.err ? -1 : shared_level(&a.cur, &b.cur);

		if (level >= 0) {
			a.err = skip(&a.cur, level);
			b.err = skip(&b.cur, level);
		} else {
			err = step(&a, &b, cb, arg);
		}
		if (!err)
			err = failed(&a, &b);
	}
	return err;
}
