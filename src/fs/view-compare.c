/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * view-compare.c - what is new in a view: see view-int.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "view-int.h"

/* ---- what the engine maps ---------------------------------------------------- */

static int add_piece(void *arg, const struct msnap_piece *piece)
{
	struct msnap_fs_pieces *p = arg;

	if (p->nr == p->max) {
		p->err = -E2BIG;
		return 1;
	}
	if (p->nr == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 64;
		void *at = realloc(p->at, cap * sizeof(*p->at));

		if (!at) {
			p->err = -ENOMEM;
			return 1;
		}
		p->at = at;
		p->cap = cap;
	}
	p->at[p->nr++] = *piece;
	return 0;
}

int msnap_fs_view_pieces(struct msnap_fs_views *views, struct msnap_id id, size_t max,
			 struct msnap_fs_pieces *p)
{
	int err;

	*p = (struct msnap_fs_pieces){ .max = max };
	err = msnap_map(views->pool, id, 0, add_piece, p);
	return err ? err : p->err;
}

/* ---- where it is ------------------------------------------------------------- */

static int add_import(struct msnap_fs_imports *im, uint64_t off, uint64_t len,
		      bool hole)
{
	struct msnap_import *last = im->nr ? &im->at[im->nr - 1] : NULL;

	if (last && last->hole == hole && last->off + last->len == off) {
		last->len += len;
		return 0;
	}
	if (im->nr == im->cap) {
		size_t cap = im->cap ? im->cap * 2 : 64;
		void *at = realloc(im->at, cap * sizeof(*im->at));

		if (!at)
			return -ENOMEM;
		im->at = at;
		im->cap = cap;
	}
	im->at[im->nr++] = (struct msnap_import){ off, len, hole };
	return 0;
}

/* Pieces that are this close in the pool, in bytes, are asked for together. */
#define NEAR (64 * MSNAP_FS_BLOCK)

struct stretch {
	uint64_t start, end; /* bytes, in the pool's file */
};

static int by_start(const void *a, const void *b)
{
	const struct stretch *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

/* The stretches of the pool that have data, ascending; those that are near each other
 * are one.  Returns how many. */
static size_t stretches(const struct msnap_fs_pieces *p, struct stretch *out)
{
	size_t nr = 0, merged = 0;

	for (size_t i = 0; i < p->nr; i++) {
		uint64_t start = p->at[i].blk * MSNAP_FS_BLOCK;

		if (msnap_fs_has_data(&p->at[i]))
			out[nr++] = (struct stretch){ start, start + p->at[i].len };
	}
	qsort(out, nr, sizeof(*out), by_start);
	for (size_t i = 0; i < nr; i++) {
		struct stretch *last = merged ? &out[merged - 1] : NULL;

		if (!last || out[i].start > last->end + NEAR)
			out[merged++] = out[i];
		else if (out[i].end > last->end)
			last->end = out[i].end;
	}
	return merged;
}

/* Where the data of all pieces are on the device, at offsets of the pool's file. */
static int pool_places(struct msnap_fs_views *views, const struct msnap_fs_pieces *p,
		       struct msnap_fs_wheres *out)
{
	struct stretch *s = malloc((p->nr + 1) * sizeof(*s));
	size_t nr = s ? stretches(p, s) : 0;
	int err = s ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < nr; i++)
		err = msnap_fs_host_where(msnap_pool_fd(views->pool), s[i].start,
					  s[i].end - s[i].start, out);
	free(s);
	return err;
}

/* The first that ends behind @off. */
static size_t find_place(const struct msnap_fs_wheres *l, uint64_t off)
{
	size_t lo = 0, hi = l->nr;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (l->at[mid].off + l->at[mid].len <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Those of one piece, at offsets of the file; nothing from @limit on. */
static int places_of(const struct msnap_piece *piece, uint64_t limit,
		     const struct msnap_fs_wheres *pool, struct msnap_fs_wheres *out)
{
	uint64_t start = piece->blk * MSNAP_FS_BLOCK, len = piece->len;
	int err = 0;

	if (len > limit - piece->off)
		len = limit - piece->off;
	if (!msnap_fs_has_data(piece))
		return msnap_fs_wheres_add(out, &(struct msnap_fs_where){
			.off = piece->off, .len = len, .zeros = true });
	for (size_t i = find_place(pool, start); !err && i < pool->nr; i++) {
		struct msnap_fs_where w = pool->at[i];

		if (w.off >= start + len)
			break;
		msnap_fs_where_cut(&w, start, start + len);
		w.off = w.off - start + piece->off;
		err = msnap_fs_wheres_add(out, &w);
	}
	return err;
}

/*
 * Where the engine's pieces are on the device, at offsets of the file.  The pool is
 * asked in its own order and in large parts: a call for each piece takes longer than
 * all else.
 */
static int places(struct msnap_fs_views *views, const struct msnap_fs_pieces *p,
		  uint64_t limit, struct msnap_fs_wheres *out)
{
	struct msnap_fs_wheres pool = { 0 };
	int err = pool_places(views, p, &pool);

	for (size_t i = 0; !err && i < p->nr && p->at[i].off < limit; i++)
		err = places_of(&p->at[i], limit, &pool, out);
	msnap_fs_wheres_free(&pool);
	return err;
}

/* The stretch of one side that the position is in, or the gap before the next. */
struct side {
	const struct msnap_fs_wheres *list;
	size_t i;
};

static const struct msnap_fs_where *at(struct side *s, uint64_t pos, uint64_t *end)
{
	const struct msnap_fs_wheres *l = s->list;

	while (s->i < l->nr && l->at[s->i].off + l->at[s->i].len <= pos)
		s->i++;
	if (s->i == l->nr)
		return NULL;
	if (l->at[s->i].off > pos) {
		if (l->at[s->i].off < *end)
			*end = l->at[s->i].off;
		return NULL;
	}
	if (l->at[s->i].off + l->at[s->i].len < *end)
		*end = l->at[s->i].off + l->at[s->i].len;
	return &l->at[s->i];
}

/* Nothing in both, nothing but allocated blocks in both, or the same blocks. */
static bool same_there(const struct msnap_fs_where *a, const struct msnap_fs_where *b,
		       uint64_t pos)
{
	if (!a || !b)
		return a == b;
	if (a->zeros || b->zeros)
		return a->zeros == b->zeros;
	return a->known && b->known &&
	       a->phys + (pos - a->off) == b->phys + (pos - b->off);
}

/* What differs goes to @data (or is a hole); what is allocated in the view without
 * data, to @allocated as well. */
static int sweep(const struct msnap_fs_wheres *view,
		 const struct msnap_fs_wheres *pool, uint64_t limit,
		 struct msnap_fs_imports *data, struct msnap_fs_imports *allocated)
{
	struct side v = { view, 0 }, p = { pool, 0 };
	uint64_t pos = 0;
	int err = 0;

	while (!err && pos < limit) {
		uint64_t end = limit;
		const struct msnap_fs_where *a = at(&v, pos, &end);
		const struct msnap_fs_where *b = at(&p, pos, &end);

		if (!same_there(a, b, pos)) {
			err = add_import(data, pos, end - pos, !a || a->zeros);
			if (!err && a && a->zeros)
				err = add_import(allocated, pos, end - pos, true);
		}
		pos = end;
	}
	return err;
}

/* Where the engine's blocks of the first @limit bytes are. */
static int engine_places(struct msnap_fs_views *views, uint64_t ino, uint64_t limit,
			 struct msnap_fs_wheres *out)
{
	struct msnap_fs_pieces p = { 0 };
	int err = msnap_fs_view_pieces(views, msnap_live(ino), SIZE_MAX, &p);

	if (!err)
		err = places(views, &p, limit, out);
	free(p.at);
	return err;
}

int msnap_fs_view_compare(struct msnap_fs_views *views, uint64_t ino, int fd,
			  uint64_t size, struct msnap_fs_wheres *known,
			  struct msnap_fs_imports *differ,
			  struct msnap_fs_imports *allocated)
{
	struct msnap_fs_wheres view = { 0 };
	uint64_t limit = msnap_fs_whole_blocks(size);
	int err = known->nr ? 0 : engine_places(views, ino, limit, known);

	if (!err)
		err = msnap_fs_host_where(fd, 0, limit, &view);
	if (!err)
		err = sweep(&view, known, limit, differ, allocated);
	msnap_fs_wheres_free(known);
	*known = view;
	return err;
}

int msnap_fs_view_compare_tail(struct msnap_fs_views *views, uint64_t ino, int fd,
			       uint64_t size, char *tail)
{
	uint64_t off = msnap_fs_whole_blocks(size);
	size_t len = size - off;
	char have[MSNAP_FS_BLOCK];
	ssize_t n;

	if (!len)
		return 0;
	n = pread(fd, tail, len, (off_t)off);
	if (n != (ssize_t)len)
		return n < 0 ? -errno : -EIO;
	n = msnap_pread(views->pool, msnap_live(ino), have, len, off);
	if (n < 0)
		return (int)n;
	return n != (ssize_t)len || memcmp(have, tail, len) != 0;
}
