/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rollback.c - making live things what they were in a snapshot.
 *
 * Three cases.  The whole filesystem: the snapshot's tree becomes the live one, and
 * the difference between both is only walked to tell who must know.  One entry, or
 * a directory: records are replaced one by one, inodes keeping their numbers.
 *
 * Inodes that the rollback removes may be open: they become orphans with all they
 * have, as unlinked files do, and the caller evicts those that nobody uses.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "background.h"
#include "diff.h"
#include "file.h"
#include "idmap.h"
#include "walk.h"

/* ---- what changed, to be told afterwards ------------------------------------------- */

struct change {
	uint64_t ino;
	uint32_t len; /* 0: the inode itself */
	char name[];
};

struct changes {
	uint8_t *buf;
	size_t len, cap;
};

static int note(struct changes *c, uint64_t ino, const char *name, size_t len)
{
	size_t need = (sizeof(struct change) + len + 7) & ~(size_t)7;
	struct change *ch;

	if (c->len + need > c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 4096;
		uint8_t *buf = msnap_realloc(c->buf, cap);

		if (!buf)
			return -ENOMEM;
		c->buf = buf;
		c->cap = cap;
	}
	ch = (struct change *)(c->buf + c->len);
	ch->ino = ino;
	ch->len = len;
	if (len)
		memcpy(ch->name, name, len);
	c->len += need;
	return 0;
}

static void tell(const struct changes *c, msnap_changed_fn *changed, void *arg)
{
	size_t at;

	for (at = 0; at < c->len;) {
		const struct change *ch = (const struct change *)(c->buf + at);

		changed(arg, ch->ino, ch->len ? ch->name : NULL, ch->len);
		at += (sizeof(*ch) + ch->len + 7) & ~(size_t)7;
	}
}

struct rolling {
	struct msnap_pool *pool;
	uint64_t snap;
	msnap_may_fn *may;
	void *may_arg;
	struct msnap_tree then; /* the snapshot's namespace */
	struct msnap_tree was;	/* the live one's before */
	uint64_t top; /* the directory that is rolled back, or chosen entries of it */
	struct changes changes;
	struct msnap_idmap live; /* below the directory: inode -> links there */
	struct msnap_idmap old;	 /* the same in the snapshot */
	struct msnap_idmap moved; /* snapshot inode -> new inode, where its number is
				     in use elsewhere */
};

static int ask(const struct rolling *r, uint64_t ino, const struct msnap_inode *in)
{
	struct msnap_attr attr;

	if (!r->may)
		return 0;
	msnap_inode_attr(ino, in, &attr);
	return r->may(r->may_arg, &attr);
}

/* ---- one inode ------------------------------------------------------------------------ */

static int cut_parts(struct msnap_pool *pool, uint64_t ino)
{
	return msnap_tree_cut(pool, &pool->ns,
			      msnap_ns_key(ino, MSNAP_NS_XATTR, 0),
			      (struct msnap_key){ ino, UINT64_MAX }, NULL);
}

/* Every change counts in the version: so are its xattrs, and what is stored. */
static bool is_unchanged(const struct msnap_inode *have, const struct msnap_inode *then)
{
	return memcmp(have, then, sizeof(*have)) == 0;
}

/* Live inode @ino gets contents and attributes that @from had then, but @nlink links.
 * With @have, it exists and is @have. */
static int restore(struct rolling *r, uint64_t from, uint64_t ino,
		   const struct msnap_inode *have, uint32_t nlink, uint64_t parent)
{
	struct msnap_pool *pool = r->pool;
	struct msnap_inode in;
	struct msnap_inode same;
	int err = msnap_inode_get(pool, &r->then, from, &in);

	if (err)
		return err;
	in.nlink = put32(nlink);
	in.parent = put64(parent);
	in.flags = put32(0);
	err = ask(r, from, &in);
	if (!err && have)
		err = ask(r, ino, have);
	if (err || (have && is_unchanged(have, &in)))
		return err;
	if (have)
		err = msnap_inode_own(pool, ino, &same);
	if (!err && get64(in.ext.blk))
		err = msnap_op_get(pool, get64(in.ext.blk), 1);
	if (!err && have)
		err = msnap_tree_drop(pool, MSNAP_TREE_EXTENT,
				      msnap_ptr_load(have->ext));
	if (!err && have)
		err = cut_parts(pool, ino);
	if (err)
		return err;
	if (have && get64(have->version) > get64(in.version))
		in.version = have->version;
	msnap_inode_changed(&in);
	err = msnap_inode_put(pool, &pool->ns, ino, &in,
			      have ? MSNAP_PUT_OLD : MSNAP_PUT_NEW);
	if (!err)
		err = msnap_inode_copy_parts(pool, &r->then, from, &pool->ns, ino);
	if (!err && !have)
		pool->nr_inodes++;
	return err ? err : note(&r->changes, ino, NULL, 0);
}

static int fresh_ino(struct msnap_pool *pool, uint64_t *ino)
{
	if (pool->next_ino >= MSNAP_MAX_INO)
		return -ENOSPC;
	*ino = pool->next_ino++;
	return 0;
}

/* The inode has a name again. */
static int no_orphan(struct msnap_pool *pool, uint64_t ino)
{
	int err = msnap_orphan_remove(pool, ino);

	return err == -ENOENT ? 0 : err;
}

/*
 * Snapshot inode @from comes back with @nlink links.  Its number is kept, unless a
 * live inode that is not ours to change has it; *ino tells.  An orphan is
 * somebody's open file: it gets its name back.
 */
static int revive(struct rolling *r, uint64_t from, bool ours, uint32_t nlink,
		  uint64_t parent, uint64_t *ino)
{
	struct msnap_inode have;
	int err = msnap_inode_get(r->pool, &r->pool->ns, from, &have);

	*ino = from;
	if (err == -ENOENT)
		return restore(r, from, from, NULL, nlink, parent);
	if (err)
		return err;
	if (!get32(have.nlink)) {
		err = no_orphan(r->pool, from);
		if (err)
			return err;
	} else if (!ours) {
		err = fresh_ino(r->pool, ino);
		return err ? err : restore(r, from, *ino, NULL, nlink, parent);
	}
	return restore(r, from, from, &have, nlink, parent);
}

/* ---- one entry --------------------------------------------------------------------------- */

static int remove_entry(struct rolling *r, uint64_t dir, struct msnap_key key,
			uint64_t ino, struct msnap_inode *in)
{
	struct msnap_attr gone;
	int err = ask(r, ino, in);

	if (!err)
		err = msnap_dirent_drop(r->pool, dir, key, ino, in, &gone);
	return err ? err : note(&r->changes, ino, NULL, 0);
}

static int add_entry(struct rolling *r, uint64_t dir, const char *name, size_t len,
		     uint64_t from, uint32_t mode)
{
	uint64_t ino;
	int err = revive(r, from, false, 1, 0, &ino);

	if (!err)
		err = msnap_dirent_new(r->pool, dir, name, len, ino, mode);
	if (!err)
		err = note(&r->changes, dir, NULL, 0);
	return err ? err : note(&r->changes, dir, name, len);
}

/*
 * Does the inode that has the name now become what the name had then?  Who has it open
 * sees that.  Not when it is another one with more names: these stay as they are.
 */
static bool in_place(uint64_t ino, const struct msnap_inode *in, uint64_t from,
		     const struct msnap_inode *then)
{
	return (get32(in->mode) & S_IFMT) == (get32(then->mode) & S_IFMT) &&
	       (ino == from || get32(in->nlink) == 1);
}

static int roll_file(struct rolling *r, uint64_t dir, const char *name, size_t len,
		     uint64_t from)
{
	struct msnap_pool *pool = r->pool;
	struct msnap_inode then, in;
	struct msnap_key key;
	uint64_t ino;
	uint8_t type;
	int err = msnap_inode_get(pool, &r->then, from, &then);

	if (err)
		return err;
	err = msnap_dirent_find(pool, &pool->ns, dir, name, len, &key, &ino, &type);
	if (err == -ENOENT)
		return add_entry(r, dir, name, len, from, get32(then.mode));
	if (!err)
		err = msnap_inode_get(pool, &pool->ns, ino, &in);
	if (err)
		return err;
	if (S_ISDIR(get32(in.mode)))
		return -EISDIR;
	if (in_place(ino, &in, from, &then))
		return restore(r, from, ino, &in, get32(in.nlink), 0);
	err = remove_entry(r, dir, key, ino, &in);
	return err ? err : add_entry(r, dir, name, len, from, get32(then.mode));
}

/* ---- a directory ---------------------------------------------------------------------------- */

static int count_links(struct msnap_idmap *map, uint64_t ino)
{
	uint64_t *links = msnap_idmap_at(map, ino);

	if (!links)
		return -ENOMEM;
	++*links;
	return 0;
}

/* The name changes, unless it means the same in the other tree. */
static int note_name(struct rolling *r, const struct msnap_walk_entry *e,
		     const struct msnap_tree *other)
{
	struct msnap_key key;
	uint64_t ino;
	uint8_t type;
	int err = msnap_dirent_find(r->pool, other, e->dir, e->de->name, e->de->len,
				    &key, &ino, &type);

	if (err && err != -ENOENT)
		return err;
	if (!err && ino == e->ino)
		return 0;
	return note(&r->changes, e->dir, e->de->name, e->de->len);
}

static int see_old(void *arg, const struct msnap_walk_entry *e)
{
	struct rolling *r = arg;
	int err = count_links(&r->old, e->ino);

	return err ? err : note_name(r, e, &r->pool->ns);
}

/* After see_old(): a directory that was elsewhere then loses all its names. */
static int see_live(void *arg, const struct msnap_walk_entry *e)
{
	struct rolling *r = arg;
	int err = count_links(&r->live, e->ino);

	if (err)
		return err;
	if (e->dir != r->top && !msnap_idmap_find(&r->old, e->dir))
		return note(&r->changes, e->dir, e->de->name, e->de->len);
	return note_name(r, e, &r->then);
}

static int cut_entries(struct rolling *r, uint64_t dir)
{
	return msnap_tree_cut(r->pool, &r->pool->ns,
			      msnap_ns_key(dir, MSNAP_NS_DIRENT, 0),
			      msnap_ns_key(dir, MSNAP_NS_DIRENT, ~0ull >> 8),
			      NULL);
}

/* Live inode @ino has lost @links names. */
static int lose_links(struct rolling *r, uint64_t ino, uint64_t links)
{
	struct msnap_pool *pool = r->pool;
	struct msnap_inode in;
	uint32_t left;
	int err = msnap_inode_get(pool, &pool->ns, ino, &in);

	if (!err)
		err = ask(r, ino, &in);
	if (err)
		return err;
	left = S_ISDIR(get32(in.mode)) || get32(in.nlink) < links ?
		       0 : get32(in.nlink) - links;
	in.nlink = put32(left);
	if (S_ISDIR(get32(in.mode)))
		in.size = put64(0); /* its entries are gone, too */
	msnap_inode_changed(&in);
	err = msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_OLD);
	if (!err && !left)
		err = msnap_orphan_add(pool, ino);
	return err ? err : note(&r->changes, ino, NULL, 0);
}

/* Everything live below the directory loses its names; what is in the snapshot too
 * gets them back later. */
static int clear_live(struct rolling *r, uint64_t top)
{
	size_t i;
	int err = cut_entries(r, top);

	for (i = 0; !err && i < r->live.cap; i++) {
		struct msnap_idmap_entry *e = &r->live.entry[i];
		struct msnap_inode in;

		if (!e->id)
			continue;
		err = msnap_inode_get(r->pool, &r->pool->ns, e->id, &in);
		if (!err && S_ISDIR(get32(in.mode)))
			err = cut_entries(r, e->id);
		if (!err && !msnap_idmap_find(&r->old, e->id))
			err = lose_links(r, e->id, e->val);
	}
	return err;
}

/* How many links a file has outside of the directory. */
static uint32_t outside(const struct rolling *r, uint64_t ino)
{
	const uint64_t *inside = msnap_idmap_find(&r->live, ino);
	struct msnap_inode in;

	if (!inside || msnap_inode_get(r->pool, &r->pool->ns, ino, &in) ||
	    S_ISDIR(get32(in.mode)) || get32(in.nlink) < *inside)
		return 0;
	return get32(in.nlink) - *inside;
}

static int revive_one(struct rolling *r, uint64_t from, uint64_t links)
{
	bool ours = msnap_idmap_find(&r->live, from);
	struct msnap_inode then;
	uint64_t ino, *to;
	uint32_t nlink;
	int err = msnap_inode_get(r->pool, &r->then, from, &then);

	if (err)
		return err;
	nlink = S_ISDIR(get32(then.mode)) ? get32(then.nlink) :
					    links + outside(r, from);
	err = revive(r, from, ours, nlink, get64(then.parent), &ino);
	if (err || ino == from)
		return err;
	to = msnap_idmap_at(&r->moved, from);
	if (!to)
		return -ENOMEM;
	*to = ino;
	return 0;
}

static int revive_all(struct rolling *r)
{
	size_t i;
	int err = 0;

	for (i = 0; !err && i < r->old.cap; i++)
		if (r->old.entry[i].id)
			err = revive_one(r, r->old.entry[i].id,
					 r->old.entry[i].val);
	return err;
}

static uint64_t now_at(const struct rolling *r, uint64_t from)
{
	const uint64_t *to = msnap_idmap_find(&r->moved, from);

	return to ? *to : from;
}

static int put_entry(void *arg, const struct msnap_walk_entry *e)
{
	struct rolling *r = arg;
	struct msnap_pool *pool = r->pool;
	uint64_t dir = now_at(r, e->dir), ino = now_at(r, e->ino);
	struct msnap_inode in;
	int err = msnap_dirent_add(pool, &pool->ns, dir, e->de->name, e->de->len,
				   ino, e->type);

	if (!err && dir != e->dir)
		err = note(&r->changes, dir, e->de->name, e->de->len);
	if (err || e->type != DT_DIR)
		return err;
	err = msnap_inode_get(pool, &pool->ns, ino, &in);
	if (err || get64(in.parent) == dir)
		return err;
	in.parent = put64(dir);
	return msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_OLD);
}

static int roll_dir(struct rolling *r, uint64_t dir)
{
	struct msnap_pool *pool = r->pool;
	struct msnap_inode have, then;
	int err = msnap_inode_get(pool, &pool->ns, dir, &have);

	if (!err)
		err = msnap_inode_get(pool, &r->then, dir, &then);
	if (!err && !S_ISDIR(get32(have.mode)))
		err = -ENOTDIR;
	/* It was removed, and only open still: now or then. */
	if (!err && (!get32(have.nlink) || !get32(then.nlink)))
		err = -ENOENT;
	if (!err)
		err = msnap_walk(pool, &r->then, dir, see_old, r);
	if (!err)
		err = msnap_walk(pool, &pool->ns, dir, see_live, r);
	if (!err)
		err = clear_live(r, dir);
	if (!err)
		err = revive_all(r);
	if (!err)
		err = restore(r, dir, dir, &have, get32(then.nlink),
			      get64(have.parent));
	return err ? err : msnap_walk(pool, &r->then, dir, put_entry, r);
}

/* ---- the whole filesystem ---------------------------------------------------------------------- */

static int keep_record(void *arg, struct msnap_key key, const void *val,
		       unsigned len)
{
	struct rolling *r = arg;
	struct msnap_inode in;
	int err = 0;

	if (key.lo >> 56 == MSNAP_NS_DIRENT)
		return 0;
	if (key.lo >> 56 == MSNAP_NS_INODE) {
		memcpy(&in, val, sizeof(in));
		in.nlink = put32(0);
		if (S_ISDIR(get32(in.mode)))
			in.size = put64(0);
		val = &in;
		if (get64(in.ext.blk))
			err = msnap_op_get(r->pool, get64(in.ext.blk), 1);
	}
	return err ? err : msnap_tree_put(r->pool, &r->pool->ns, key, val, len,
					  MSNAP_PUT_ANY);
}

/* A live inode that the snapshot does not have: an orphan of the new tree. */
static int keep_orphan(struct rolling *r, uint64_t ino)
{
	int err = msnap_inode_records(r->pool, &r->was, ino, MSNAP_NS_INODE,
				      keep_record, r);

	if (!err)
		err = msnap_orphan_add(r->pool, ino);
	if (!err)
		r->pool->nr_inodes++;
	return err;
}

struct differing {
	struct rolling *r;
	struct msnap_idmap gone;     /* inodes that are only live */
	struct msnap_idmap unlinked; /* had no name when the snapshot was taken */
	struct msnap_idmap named;    /* had one, but have none now */
};

static int see_diff(void *arg, struct msnap_key key, const void *a, unsigned a_len,
		    const void *b, unsigned b_len)
{
	struct differing *d = arg;
	const struct msnap_dirent *de = a ? a : b;
	const struct msnap_inode *in = b, *was = a;

	(void)a_len;
	(void)b_len;
	if (key.lo >> 56 == MSNAP_NS_DIRENT)
		return note(&d->r->changes, key.hi, de->name, de->len);
	if (key.lo >> 56 == MSNAP_NS_INODE) {
		int err = a ? ask(d->r, key.hi, was) : 0;

		if (!err && b)
			err = ask(d->r, key.hi, in);
		if (err)
			return err;
		if (!b && !msnap_idmap_at(&d->gone, key.hi))
			return -ENOMEM;
		if (b && !get32(in->nlink) && !msnap_idmap_at(&d->unlinked, key.hi))
			return -ENOMEM;
		if (a && b && !get32(was->nlink) && get32(in->nlink) &&
		    !msnap_idmap_at(&d->named, key.hi))
			return -ENOMEM;
	}
	return note(&d->r->changes, key.hi, NULL, 0);
}

static int make_orphans(struct rolling *r, const struct differing *d)
{
	size_t i;
	int err = 0;

	for (i = 0; !err && i < d->gone.cap; i++)
		if (d->gone.entry[i].id)
			err = keep_orphan(r, d->gone.entry[i].id);
	for (i = 0; !err && i < d->unlinked.cap; i++)
		if (d->unlinked.entry[i].id)
			err = msnap_orphan_add(r->pool, d->unlinked.entry[i].id);
	for (i = 0; !err && i < d->named.cap; i++)
		if (d->named.entry[i].id)
			err = no_orphan(r->pool, d->named.entry[i].id);
	return err;
}

static int swap_trees(struct rolling *r, uint64_t nr_inodes)
{
	struct msnap_pool *pool = r->pool;
	struct differing d = { .r = r };
	int err;

	r->was = pool->ns;
	err = msnap_tree_diff(pool, &r->was, &r->then, see_diff, &d);
	if (!err)
		err = msnap_op_get(pool, r->then.root.blk, 1);
	if (!err) {
		pool->ns.root = r->then.root;
		pool->nr_inodes = nr_inodes;
		err = make_orphans(r, &d);
	}
	if (!err)
		err = msnap_tree_drop(pool, MSNAP_TREE_NS, r->was.root);
	msnap_idmap_free(&d.gone);
	msnap_idmap_free(&d.unlinked);
	msnap_idmap_free(&d.named);
	return err;
}

/* ---- the call ---------------------------------------------------------------------------------------- */

/* Directories are there only where a repair put them: lost+found. */
static int roll_chosen(void *arg, const struct msnap_walk_entry *e)
{
	struct rolling *r = arg;

	if (e->type == DT_DIR || e->dir != r->top)
		return 0;
	return roll_file(r, e->dir, e->de->name, e->de->len, e->ino);
}

static int roll_all(struct rolling *r, uint64_t dir)
{
	const struct msnap_snap *sn;
	struct msnap_inode then;
	const void *val;
	unsigned len;
	struct msnap_key key = { (uint64_t)MSNAP_CAT_SNAP << 56 | r->snap, 0 };
	int err = msnap_tree_get(r->pool, &r->pool->catalog, key, &val, &len);

	if (err)
		return err;
	sn = val;
	err = msnap_inode_get(r->pool, &r->then, dir, &then);
	if (err)
		return err;
	/* Numbers are not used twice, but a repair may have made it a directory. */
	if (!S_ISDIR(get32(then.mode)))
		return -ENOTDIR;
	/* A few chosen entries must not take all others away.  Of a directory that
	 * was made again by a repair only the snapshot knows that it is a frame. */
	r->top = dir;
	if (get32(then.flags) & MSNAP_INODE_FRAME ||
	    get32(sn->flags) & MSNAP_SNAP_PARTIAL)
		return msnap_walk(r->pool, &r->then, dir, roll_chosen, r);
	if (dir == MSNAP_ROOT_INO && get64(sn->scope) == MSNAP_ROOT_INO)
		return swap_trees(r, get64(sn->nr_inodes));
	return roll_dir(r, dir);
}

static int roll_entry(struct rolling *r, uint64_t dir, const char *name, size_t len)
{
	struct msnap_key key;
	uint64_t from;
	uint8_t type;
	int err = msnap_dirent_find(r->pool, &r->then, dir, name, len, &key, &from,
				    &type);

	if (err)
		return err;
	if (type == DT_DIR)
		return -EISDIR;
	return roll_file(r, dir, name, len, from);
}

/* Contents that are newer outside of the pool are not to come back after a crash. */
static int forget_views(struct rolling *r)
{
	const struct change *ch;
	size_t at;
	int err = 0;

	for (at = 0; !err && at < r->changes.len;
	     at += (sizeof(*ch) + ch->len + 7) & ~(size_t)7) {
		ch = (const struct change *)(r->changes.buf + at);
		if (!ch->len)
			err = msnap_view_forget(r->pool, ch->ino);
	}
	return err;
}

static int do_rollback(struct rolling *r, uint64_t dir, const char *name, size_t len)
{
	int err = msnap_ns_of(r->pool, r->snap, &r->then);

	if (!err)
		err = name ? roll_entry(r, dir, name, len) : roll_all(r, dir);
	return err ? err : forget_views(r);
}

int msnap_rollback(struct msnap_pool *pool, uint64_t snap, uint64_t dir,
		   const char *name, size_t len, msnap_changed_fn *changed,
		   void *arg)
{
	return msnap_rollback_if(pool, snap, dir, name, len, NULL, NULL, changed, arg);
}

int msnap_rollback_if(struct msnap_pool *pool, uint64_t snap, uint64_t dir,
		      const char *name, size_t len, msnap_may_fn *may, void *may_arg,
		      msnap_changed_fn *changed, void *arg)
{
	struct rolling r = { .pool = pool, .snap = snap, .may = may,
			     .may_arg = may_arg };
	int err = name ? msnap_name_check(name, len) : 0;

	if (!err && !snap)
		err = -ENOENT;
	if (!err)
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_rollback(&r, dir, name, len)));
	if (!err)
		err = msnap_commit(pool);
	if (!err) {
		tell(&r.changes, changed, arg);
		msnap_bg_kick(pool);
	}
	free(r.changes.buf);
	msnap_idmap_free(&r.live);
	msnap_idmap_free(&r.old);
	msnap_idmap_free(&r.moved);
	return err;
}
