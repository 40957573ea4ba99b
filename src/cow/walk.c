/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "walk.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "alloc.h"
#include "idmap.h"

struct waiting {
	uint64_t *dir;
	size_t nr, cap;
	struct msnap_idmap seen;
};

static int push(struct waiting *w, uint64_t dir)
{
	if (w->nr == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 64;
		uint64_t *more = msnap_realloc(w->dir, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		w->dir = more;
		w->cap = cap;
	}
	w->dir[w->nr++] = dir;
	return 0;
}

/* A directory has one name: a second visit means they go in a circle. */
static int see(struct msnap_pool *pool, struct waiting *w, uint64_t dir)
{
	uint64_t *seen = msnap_idmap_at(&w->seen, dir);

	if (!seen)
		return -ENOMEM;
	return (*seen)++ ? msnap_damaged(pool, "directory %llu has two names",
					 (unsigned long long)dir) : 0;
}

static int walk_dir(struct msnap_pool *pool, const struct msnap_tree *ns,
		    uint64_t dir, struct waiting *w,
		    int (*cb)(void *arg, const struct msnap_walk_entry *entry),
		    void *arg)
{
	struct msnap_cursor cur;
	unsigned len;
	int err = msnap_cursor_seek(pool, ns, msnap_ns_key(dir, MSNAP_NS_DIRENT, 0),
				    &cur);

	while (!err) {
		struct msnap_key key = msnap_cursor_key(&cur);
		const struct msnap_dirent *de;
		struct msnap_walk_entry e;

		if (key.hi != dir || key.lo >> 56 != MSNAP_NS_DIRENT)
			break;
		de = msnap_cursor_val(&cur, &len);
		e = (struct msnap_walk_entry){ dir, get64(de->ino), de->type, de,
					       key };
		if (de->type == DT_DIR)
			err = push(w, e.ino);
		if (!err)
			err = cb(arg, &e);
		if (err)
			return err;
		err = msnap_cursor_next(&cur);
	}
	return err == -ENOENT ? 0 : err;
}

int msnap_walk(struct msnap_pool *pool, const struct msnap_tree *ns, uint64_t top,
	       int (*cb)(void *arg, const struct msnap_walk_entry *entry),
	       void *arg)
{
	struct waiting w = { 0 };
	int err = push(&w, top);

	while (!err && w.nr) {
		uint64_t dir = w.dir[--w.nr];

		err = see(pool, &w, dir);
		if (!err)
			err = walk_dir(pool, ns, dir, &w, cb, arg);
	}
	msnap_idmap_free(&w.seen);
	free(w.dir);
	return err;
}

int msnap_inode_records(struct msnap_pool *pool, const struct msnap_tree *ns,
			uint64_t ino, unsigned kind,
			int (*cb)(void *arg, struct msnap_key key,
				  const void *val, unsigned len),
			void *arg)
{
	struct msnap_cursor cur;
	int err = msnap_cursor_seek(pool, ns, msnap_ns_key(ino, kind, 0), &cur);

	while (!err) {
		struct msnap_key key = msnap_cursor_key(&cur);
		const void *val;
		unsigned len;

		if (key.hi != ino)
			break;
		val = msnap_cursor_val(&cur, &len);
		err = cb(arg, key, val, len);
		if (err)
			return err;
		err = msnap_cursor_next(&cur);
	}
	return err == -ENOENT ? 0 : err;
}
