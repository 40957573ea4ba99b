/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snap.c - snapshots: taking, naming, finding, deleting.
 *
 * A snapshot is a namespace tree of its own with the inode numbers of the live one.
 * That of the root directory is the live tree, shared; that of other directories and
 * of files is a small tree with their records, which shares every extent tree.
 * Making that takes several operations when it is large, so that nobody waits for long;
 * what is copied is the live tree of one instant all the same, held by a reference.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "alloc.h"
#include "background.h"
#include "walk.h"

#define TURN_NS 50000 /* between steps: who waits for the lock is awake by then */

static struct msnap_key snap_key(uint64_t snap)
{
	return (struct msnap_key){ (uint64_t)MSNAP_CAT_SNAP << 56 | snap, 0 };
}

static uint64_t key_snap(struct msnap_key key)
{
	return key.hi & ~(0xffull << 56);
}

static bool is_snap(struct msnap_key key)
{
	return key.hi >> 56 == MSNAP_CAT_SNAP;
}

int msnap_ns_of(struct msnap_pool *pool, uint64_t snap, struct msnap_tree *ns)
{
	const struct msnap_snap *sn;
	const void *val;
	unsigned len;
	int err;

	if (!snap) {
		*ns = pool->ns;
		return 0;
	}
	err = msnap_tree_get(pool, &pool->catalog, snap_key(snap), &val, &len);
	if (err)
		return err;
	sn = val;
	*ns = (struct msnap_tree){ MSNAP_TREE_NS, 0, msnap_ptr_load(sn->ns) };
	return 0;
}

/* ---- looking --------------------------------------------------------------------- */

static void to_info(uint64_t id, const struct msnap_snap *sn,
		    struct msnap_snap_info *info)
{
	uint64_t ns = get64(sn->time_ns);

	memset(info, 0, sizeof(*info));
	info->id = id;
	info->scope = get64(sn->scope);
	info->gen = get64(sn->gen);
	info->time.tv_sec = ns / 1000000000;
	info->time.tv_nsec = ns % 1000000000;
	info->nr_inodes = get64(sn->nr_inodes);
	info->holds = get32(sn->holds);
	info->uid = get32(sn->uid);
	info->partial = get32(sn->flags) & MSNAP_SNAP_PARTIAL;
	memcpy(info->name, sn->text, sn->name_len);
	memcpy(info->comment, sn->text + sn->name_len, get16(sn->comment_len));
}

static int get(struct msnap_pool *pool, uint64_t snap, struct msnap_snap_info *info)
{
	const void *val;
	unsigned len;
	int err = msnap_tree_get(pool, &pool->catalog, snap_key(snap), &val, &len);

	if (!err)
		to_info(snap, val, info);
	return err;
}

int msnap_snap_get(struct msnap_pool *pool, uint64_t snap,
		   struct msnap_snap_info *info)
{
	struct msnap_snap_info found;
	int err = MSNAP_LOOK(pool, get(pool, snap, &found));

	if (!err)
		*info = found;
	return err;
}

static int next(struct msnap_pool *pool, uint64_t after,
		struct msnap_snap_info *info)
{
	struct msnap_cursor cur;
	unsigned len;
	int err = msnap_cursor_seek(pool, &pool->catalog, snap_key(after + 1), &cur);

	if (!err && !is_snap(msnap_cursor_key(&cur)))
		err = -ENOENT;
	if (!err)
		to_info(key_snap(msnap_cursor_key(&cur)),
			msnap_cursor_val(&cur, &len), info);
	return err;
}

int msnap_snap_next(struct msnap_pool *pool, uint64_t after,
		    struct msnap_snap_info *info)
{
	struct msnap_snap_info found;
	int err;

	if (after >= MSNAP_MAX_SNAP)
		return -ENOENT;
	err = MSNAP_LOOK(pool, next(pool, after, &found));
	if (!err)
		*info = found;
	return err;
}

/* 1, 0 or an error.  What had no name then, and was only open still, is not in it. */
static int holds(struct msnap_pool *pool, const struct msnap_snap *sn, uint64_t ino)
{
	struct msnap_tree ns = { MSNAP_TREE_NS, 0, msnap_ptr_load(sn->ns) };
	struct msnap_inode in;
	int err = msnap_inode_get(pool, &ns, ino, &in);

	return err == -ENOENT ? 0 : err ? err : get32(in.nlink) != 0;
}

static int holds_inode(struct msnap_pool *pool, uint64_t snap, uint64_t ino)
{
	const void *val;
	unsigned len;
	int err = msnap_tree_get(pool, &pool->catalog, snap_key(snap), &val, &len);

	return err ? err : holds(pool, val, ino);
}

int msnap_snap_holds(struct msnap_pool *pool, uint64_t snap, uint64_t ino)
{
	return MSNAP_LOOK(pool, holds_inode(pool, snap, ino));
}

static bool named(const struct msnap_snap *sn, const char *name)
{
	return strlen(name) == sn->name_len && !memcmp(sn->text, name, sn->name_len);
}

/* How many directories @scope is above @dir; UINT_MAX: it is not. */
static unsigned distance(struct msnap_pool *pool, uint64_t dir, uint64_t scope)
{
	struct msnap_inode in;
	uint64_t mark = 0;
	unsigned steps;

	for (steps = 0; dir != mark; steps++) {
		if (dir == scope)
			return steps;
		if (dir == MSNAP_ROOT_INO || !dir ||
		    msnap_inode_get(pool, &pool->ns, dir, &in))
			break;
		/* A circle passes a mark that is set ever more seldom. */
		if (!(steps & (steps - 1)))
			mark = dir;
		dir = get64(in.parent);
	}
	return UINT32_MAX;
}

static int find(struct msnap_pool *pool, uint64_t dir, const char *name,
		struct msnap_snap_info *info)
{
	struct msnap_cursor cur;
	unsigned best = 0, len;
	bool any = false;
	int err = msnap_cursor_seek(pool, &pool->catalog, snap_key(0), &cur);

	while (!err && is_snap(msnap_cursor_key(&cur))) {
		const struct msnap_snap *sn = msnap_cursor_val(&cur, &len);

		if (named(sn, name) && holds(pool, sn, dir) > 0) {
			unsigned d = distance(pool, dir, get64(sn->scope));

			if (!any || d < best) {
				any = true;
				best = d;
				to_info(key_snap(msnap_cursor_key(&cur)), sn, info);
			}
		}
		err = msnap_cursor_next(&cur);
	}
	if (err && err != -ENOENT)
		return err;
	return any ? 0 : -ENOENT;
}

int msnap_snap_find(struct msnap_pool *pool, uint64_t dir, const char *name,
		    struct msnap_snap_info *info)
{
	struct msnap_snap_info found;
	int err = MSNAP_LOOK(pool, find(pool, dir, name, &found));

	if (!err)
		*info = found;
	return err;
}

/* ---- taking -------------------------------------------------------------------------- */

struct taking {
	struct msnap_pool *pool;
	const char *name, *comment;
	uint32_t uid;
	const struct msnap_snap_item *item;
	unsigned nr;
	struct timespec time;
	struct msnap_tree src; /* the live tree at the instant that is taken */
	struct msnap_tree ns; /* what is being made */
	uint64_t nr_inodes;
	uint64_t id;
	bool root;    /* of everything */
	bool partial; /* of chosen files */
	/* In steps, once it takes more than one: */
	bool open;	       /* an operation is */
	bool held;	       /* src is, by a reference */
	struct msnap_tree kept; /* ns at the end of the last step */
	unsigned since;	       /* records copied since then */
};

static int check_snap_name(const char *name)
{
	size_t len = strlen(name);
	int err = msnap_name_check(name, len);

	return err ? err : len > MSNAP_SNAP_NAME_MAX ? -ENAMETOOLONG : 0;
}

/* Is there a directory that both trees have?  @a should be the smaller.  1, 0, error. */
static int overlap(struct msnap_pool *pool, const struct msnap_tree *a,
		   const struct msnap_tree *b)
{
	struct msnap_key key = { 0, 0 };

	for (;;) {
		const struct msnap_inode *in;
		struct msnap_inode other;
		struct msnap_cursor cur;
		unsigned len;
		int err = msnap_cursor_seek(pool, a, key, &cur);

		if (err)
			return err == -ENOENT ? 0 : err;
		/* The inode is the first of its records. */
		key = msnap_cursor_key(&cur);
		in = msnap_cursor_val(&cur, &len);
		if (key.lo >> 56 == MSNAP_NS_INODE && S_ISDIR(get32(in->mode))) {
			err = msnap_inode_get(pool, b, key.hi, &other);
			if (err != -ENOENT)
				return err ? err : 1;
		}
		key = (struct msnap_key){ key.hi + 1, 0 };
	}
}

/* -EEXIST: another snapshot of that name shows in a directory that @ns has, too. */
static int check_free(struct msnap_pool *pool, const struct msnap_tree *ns,
		      uint64_t nr_inodes, const char *name)
{
	struct msnap_cursor cur;
	unsigned len;
	int err = msnap_cursor_seek(pool, &pool->catalog, snap_key(0), &cur);

	while (!err && is_snap(msnap_cursor_key(&cur))) {
		const struct msnap_snap *sn = msnap_cursor_val(&cur, &len);

		if (named(sn, name)) {
			struct msnap_tree other = { MSNAP_TREE_NS, 0,
						    msnap_ptr_load(sn->ns) };
			bool small = nr_inodes < get64(sn->nr_inodes);
			int ret = small ? overlap(pool, ns, &other) :
					  overlap(pool, &other, ns);

			if (ret)
				return ret < 0 ? ret : -EEXIST;
		}
		err = msnap_cursor_next(&cur);
	}
	return err == -ENOENT ? 0 : err;
}

/*
 * A step ends and the next begins: others get their turn.  The source stays as it is, by
 * a reference on its root, and what has been made is reachable from no root: after a
 * crash it is free space.
 */
static int next_step(struct taking *t)
{
	static const struct timespec turn = { .tv_nsec = TURN_NS };
	int err = t->held ? 0 : msnap_op_get(t->pool, t->src.root.blk, 1);

	if (err)
		return err;
	t->open = false;
	err = msnap_op_end(t->pool, 0);
	if (err)
		return err;
	t->held = true;
	t->kept = t->ns;
	t->since = 0;
	nanosleep(&turn, NULL);
	err = msnap_op_begin(t->pool, MSNAP_OP_BLOCKS);
	t->open = !err;
	return err;
}

static int copy_record(void *arg, struct msnap_key key, const void *val,
		       unsigned len)
{
	struct taking *t = arg;
	const struct msnap_inode *in = val;
	int err = 0;

	if (key.lo >> 56 == MSNAP_NS_INODE && get64(in->ext.blk))
		err = msnap_op_get(t->pool, get64(in->ext.blk), 1);
	if (!err)
		err = msnap_tree_put(t->pool, &t->ns, key, val, len, MSNAP_PUT_NEW);
	if (!err && ++t->since == t->pool->snap_step)
		err = next_step(t);
	return err;
}

/* -EEXIST: it is there already (a second link, or two items that overlap). */
static int copy_inode(struct taking *t, uint64_t ino)
{
	struct msnap_inode in;
	int err = t->ns.root.blk ? msnap_inode_get(t->pool, &t->ns, ino, &in) :
				   -ENOENT;

	if (err != -ENOENT)
		return err ? err : -EEXIST;
	t->nr_inodes++;
	return msnap_inode_records(t->pool, &t->src, ino, MSNAP_NS_INODE, copy_record,
				   t);
}

static int copy_entry(void *arg, const struct msnap_walk_entry *e)
{
	int err = copy_inode(arg, e->ino);

	return err == -EEXIST ? 0 : err;
}

static int copy_dir(struct taking *t, uint64_t dir)
{
	int err = copy_inode(t, dir);

	if (err)
		return err == -EEXIST ? 0 : err;
	return msnap_walk(t->pool, &t->src, dir, copy_entry, t);
}

/* The directory of a chosen entry: its inode without its other entries. */
static int copy_frame(struct taking *t, uint64_t dir)
{
	struct msnap_inode in;
	int err = t->ns.root.blk ? msnap_inode_get(t->pool, &t->ns, dir, &in) :
				   -ENOENT;

	if (err != -ENOENT)
		return err;
	err = msnap_inode_get(t->pool, &t->src, dir, &in);
	if (err)
		return err;
	in.size = put64(0);
	in.nlink = put32(2);
	in.flags = put32(MSNAP_INODE_FRAME);
	t->nr_inodes++;
	return msnap_inode_put(t->pool, &t->ns, dir, &in, MSNAP_PUT_NEW);
}

static int copy_file(struct taking *t, const struct msnap_snap_item *item)
{
	struct msnap_inode in;
	struct msnap_key key;
	uint64_t ino;
	uint8_t type;
	int err = msnap_dirent_find(t->pool, &t->src, item->dir, item->name,
				    item->len, &key, &ino, &type);

	if (err)
		return err;
	if (type == DT_DIR)
		return -EISDIR;
	err = copy_frame(t, item->dir);
	if (!err)
		err = msnap_dirent_add(t->pool, &t->ns, item->dir, item->name,
				       item->len, ino, type);
	if (err)
		return err == -EEXIST ? 0 : err;
	err = msnap_inode_get(t->pool, &t->ns, item->dir, &in);
	if (err)
		return err;
	in.size = put64(get64(in.size) + 1);
	err = msnap_inode_put(t->pool, &t->ns, item->dir, &in, MSNAP_PUT_OLD);
	if (!err)
		err = copy_inode(t, ino);
	return err == -EEXIST ? 0 : err;
}

static int put_snap(struct taking *t)
{
	uint8_t buf[sizeof(struct msnap_snap) + MSNAP_SNAP_NAME_MAX +
		    MSNAP_COMMENT_MAX];
	struct msnap_snap *sn = (void *)buf;
	size_t name_len = strlen(t->name), comment_len = strlen(t->comment);

	memset(sn, 0, sizeof(*sn));
	sn->ns = msnap_ptr_store(t->ns.root);
	sn->gen = put64(t->pool->gen);
	sn->time_ns = put64(t->time.tv_sec * 1000000000ull + t->time.tv_nsec);
	sn->scope = put64(t->root ? MSNAP_ROOT_INO : t->item[0].dir);
	sn->nr_inodes = put64(t->nr_inodes);
	sn->flags = put32(t->partial ? MSNAP_SNAP_PARTIAL : 0);
	sn->name_len = name_len;
	sn->comment_len = put16(comment_len);
	sn->uid = put32(t->uid);
	memcpy(sn->text, t->name, name_len);
	memcpy(sn->text + name_len, t->comment, comment_len);
	return msnap_tree_put(t->pool, &t->pool->catalog, snap_key(t->id), sn,
			      sizeof(*sn) + name_len + comment_len, MSNAP_PUT_NEW);
}

static bool is_root(const struct msnap_snap_item *item)
{
	return !item->name && item->dir == MSNAP_ROOT_INO;
}

/* The live tree itself, whatever else was asked for. */
static int share_all(struct taking *t)
{
	t->ns = t->pool->ns;
	t->nr_inodes = t->pool->nr_inodes;
	return msnap_op_get(t->pool, t->ns.root.blk, 1);
}

/* Whole directories first: a file in one of them is in it already. */
static int copy_items(struct taking *t)
{
	unsigned i;
	int err = 0;

	t->ns.type = MSNAP_TREE_NS;
	for (i = 0; !err && i < t->nr; i++)
		if (!t->item[i].name)
			err = copy_dir(t, t->item[i].dir);
	for (i = 0; !err && i < t->nr; i++)
		if (t->item[i].name)
			err = copy_file(t, &t->item[i]);
	return err;
}

static int check_items(struct taking *t)
{
	struct msnap_inode in;
	unsigned i;
	int err = 0;

	t->root = false;
	t->partial = true;
	for (i = 0; !err && i < t->nr; i++) {
		err = msnap_inode_get(t->pool, &t->src, t->item[i].dir, &in);
		if (!err && !S_ISDIR(get32(in.mode)))
			err = -ENOTDIR;
		t->root |= is_root(&t->item[i]);
		t->partial &= !!t->item[i].name;
	}
	return err;
}

static int do_take(struct taking *t)
{
	struct msnap_pool *pool = t->pool;
	int err;

	clock_gettime(CLOCK_REALTIME, &t->time);
	t->src = pool->ns;
	err = check_items(t);
	if (!err)
		err = t->root ? share_all(t) : copy_items(t);
	if (!err)
		err = check_free(pool, &t->ns, t->nr_inodes, t->name);
	if (!err && t->held)
		err = msnap_tree_drop(pool, MSNAP_TREE_NS, t->src.root);
	if (err)
		return err;
	t->id = pool->next_snap;
	if (t->id >= MSNAP_MAX_SNAP)
		return -ENOSPC;
	err = put_snap(t);
	if (err)
		return err;
	pool->next_snap++;
	pool->nr_snaps++;
	return 0;
}

static int drop_both(struct taking *t)
{
	int err = msnap_tree_drop(t->pool, MSNAP_TREE_NS, t->kept.root);

	return err ? err : msnap_tree_drop(t->pool, MSNAP_TREE_NS, t->src.root);
}

/* It went wrong after the first step.  What cannot be given back now is free after the
 * next crash, or found by fsck. */
static void drop_steps(struct taking *t)
{
	int err = msnap_op_begin(t->pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE);

	if (!err)
		err = msnap_op_end(t->pool, MSNAP_GUARD(drop_both(t)));
	if (!err)
		msnap_bg_kick(t->pool);
	else if (err != -EROFS)
		msnap_log(t->pool, LOG_WARNING, "space of a snapshot that was not taken "
			  "could not be given back: %s", strerror(-err));
}

static int take(struct taking *t)
{
	int err = msnap_op_begin(t->pool, MSNAP_OP_BLOCKS);

	if (err)
		return err;
	t->open = true;
	err = MSNAP_GUARD(do_take(t));
	if (t->open)
		err = msnap_op_end(t->pool, err);
	if (err && t->held)
		drop_steps(t);
	else if (t->held)
		msnap_bg_kick(t->pool);
	return err;
}

int msnap_snap_create(struct msnap_pool *pool, const char *name,
		      const char *comment, uint32_t uid,
		      const struct msnap_snap_item *item, unsigned nr,
		      uint64_t *snap)
{
	struct taking t = { .pool = pool, .name = name, .uid = uid, .item = item,
			    .nr = nr, .comment = comment ? comment : "" };
	int err = check_snap_name(name);

	if (!err && strlen(t.comment) > MSNAP_COMMENT_MAX)
		err = -ENAMETOOLONG;
	if (!err && nr == 0)
		err = -EINVAL;
	if (!err)
		err = take(&t);
	if (!err)
		err = msnap_commit(pool);
	if (!err)
		*snap = t.id;
	return err;
}

/* ---- deleting and renaming ------------------------------------------------------------ */

static int do_delete(struct msnap_pool *pool, uint64_t snap)
{
	struct msnap_tree ns;
	const void *val;
	unsigned len;
	int err = msnap_tree_get(pool, &pool->catalog, snap_key(snap), &val, &len);

	if (err)
		return err;
	if (get32(((const struct msnap_snap *)val)->holds))
		return -EBUSY;
	err = msnap_ns_of(pool, snap, &ns);
	if (!err)
		err = msnap_tree_take(pool, &pool->catalog, snap_key(snap));
	if (!err)
		err = msnap_tree_drop(pool, MSNAP_TREE_NS, ns.root);
	if (!err)
		pool->nr_snaps--;
	return err;
}

int msnap_snap_delete(struct msnap_pool *pool, uint64_t snap)
{
	int err = msnap_op_begin(pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE);

	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_delete(pool, snap)));
	if (err)
		return err;
	msnap_bg_kick(pool);
	return msnap_commit(pool);
}

static int do_rename(struct msnap_pool *pool, uint64_t snap, const char *name)
{
	uint8_t buf[MSNAP_VAL_MAX];
	struct msnap_snap *sn = (void *)buf;
	const struct msnap_snap *old;
	struct msnap_tree ns = { .type = MSNAP_TREE_NS };
	const void *val;
	unsigned len;
	int err = msnap_tree_get(pool, &pool->catalog, snap_key(snap), &val, &len);

	if (err)
		return err;
	old = val;
	if (named(old, name))
		return 0;
	memcpy(sn, old, sizeof(*sn));
	sn->name_len = strlen(name);
	memcpy(sn->text, name, sn->name_len);
	memcpy(sn->text + sn->name_len, old->text + old->name_len,
	       get16(old->comment_len));
	ns.root = msnap_ptr_load(sn->ns);
	err = check_free(pool, &ns, get64(sn->nr_inodes), name);
	if (err)
		return err;
	return msnap_tree_put(pool, &pool->catalog, snap_key(snap), sn,
			      sizeof(*sn) + sn->name_len + get16(sn->comment_len),
			      MSNAP_PUT_OLD);
}

int msnap_snap_rename(struct msnap_pool *pool, uint64_t snap, const char *name)
{
	int err = check_snap_name(name);

	if (!err)
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_rename(pool, snap, name)));
	return err ? err : msnap_commit(pool);
}
