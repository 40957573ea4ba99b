/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check-change.c - how names and inodes are repaired: each repair is an operation of
 * its own, made of the ordinary calls.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check-names.h"

/* ---- reading records ------------------------------------------------ */

/* The first record at or behind @from.  -ENOENT. */
int msnap_names_find(struct msnap_pool *pool, const struct msnap_tree *tree,
		struct msnap_key from, struct msnap_record *r)
{
	struct msnap_cursor cur;
	const void *val;
	int err = msnap_cursor_seek(pool, tree, from, &cur);

	if (err)
		return err;
	r->key = msnap_cursor_key(&cur);
	val = msnap_cursor_val(&cur, &r->len);
	memcpy(r->val, val, r->len);
	return 0;
}

/* The same among the records of one kind of one inode. */
int msnap_names_find_of(struct msnap_names *n, uint64_t ino, unsigned kind,
			uint64_t rest, struct msnap_record *r)
{
	int err = msnap_names_find(n->pool, n->ns, msnap_ns_key(ino, kind, rest), r);

	if (!err && (r->key.hi != ino || r->key.lo >> 56 != kind))
		err = -ENOENT;
	return err;
}

bool msnap_names_has(struct msnap_names *n, uint64_t ino, unsigned kind)
{
	struct msnap_record r;

	return !msnap_names_find_of(n, ino, kind, 0, &r);
}

/* ---- changing them -------------------------------------------------- */

/* The snapshot's record follows its tree. */
static int store_root(struct msnap_names *n)
{
	struct msnap_pool *pool = n->pool;
	struct msnap_key key = { (uint64_t)MSNAP_CAT_SNAP << 56 | n->snap, 0 };
	struct msnap_record r;
	int err = n->snap ? msnap_names_find(pool, &pool->catalog, key, &r) : -ENOENT;

	if (err)
		return n->snap ? err : 0;
	r.sn.ns = msnap_ptr_store(n->ns->root);
	r.sn.nr_inodes = put64(get64(r.sn.nr_inodes) + n->nr_made);
	n->nr_made = 0;
	return msnap_tree_put(pool, &pool->catalog, key, r.val, r.len,
			      MSNAP_PUT_OLD);
}

static int run(struct msnap_names *n, msnap_names_fn *fn, void *arg)
{
	int err = fn(n, arg);

	return err ? err : store_root(n);
}

/* One repair: an operation of its own. */
int msnap_names_change(struct msnap_names *n, msnap_names_fn *fn, void *arg)
{
	struct msnap_tree was = n->of_snap;
	int err = msnap_op_begin(n->pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE);

	if (!err)
		err = msnap_op_end(n->pool, MSNAP_GUARD(run(n, fn, arg)));
	if (err)
		n->of_snap = was;
	return err;
}

int msnap_names_cut(struct msnap_names *n, void *arg)
{
	struct msnap_names_range *r = arg;

	return msnap_tree_cut(n->pool, n->ns, r->lo, r->hi, NULL);
}

int msnap_names_cut_kind(struct msnap_names *n, uint64_t ino, unsigned kind)
{
	struct msnap_names_range r = {
		msnap_ns_key(ino, kind, 0),
		msnap_ns_key(ino, kind, ~(0xffull << 56))
	};

	return msnap_names_change(n, msnap_names_cut, &r);
}

void msnap_names_count(struct msnap_names *n, int nr)
{
	if (n->snap)
		n->nr_made += nr;
	else
		n->pool->nr_inodes += nr;
}

int msnap_names_erase(struct msnap_names *n, void *arg)
{
	uint64_t *ino = arg;

	msnap_names_count(n, -1);
	return msnap_inode_erase(n->pool, n->ns, *ino);
}

int msnap_names_put(struct msnap_names *n, void *arg)
{
	struct msnap_record *r = arg;

	return msnap_tree_put(n->pool, n->ns, r->key, r->val, r->len, MSNAP_PUT_ANY);
}

int msnap_names_put_inode(struct msnap_names *n, uint64_t ino,
			  const struct msnap_inode *in)
{
	struct msnap_record r = { .key = msnap_ns_key(ino, MSNAP_NS_INODE, 0),
				  .len = sizeof(*in), .in = *in };

	return msnap_names_change(n, msnap_names_put, &r);
}

/* The directory's own counts follow its entries; @nr is -1, 0 or 1. */
static int count_in(struct msnap_names *n, uint64_t dir, int nr, uint8_t type)
{
	struct msnap_inode in;
	int err = msnap_inode_get(n->pool, n->ns, dir, &in);

	if (err)
		return err == -ENOENT ? 0 : err;
	in.size = put64(get64(in.size) + nr);
	if (type == DT_DIR)
		in.nlink = put32(get32(in.nlink) + nr);
	return msnap_inode_put(n->pool, n->ns, dir, &in, MSNAP_PUT_OLD);
}

int msnap_names_unname(struct msnap_names *n, void *arg)
{
	struct msnap_record *r = arg;
	int err = msnap_tree_take(n->pool, n->ns, r->key);

	return err ? err : count_in(n, r->key.hi, -1, r->de.type);
}

/* Put an entry where its name is looked for. */
int msnap_names_rehash(struct msnap_names *n, void *arg)
{
	struct msnap_record *r = arg;
	int err = msnap_tree_take(n->pool, n->ns, r->key);

	return err ? err : msnap_dirent_add(n->pool, n->ns, r->key.hi, r->de.name,
					    r->de.len, get64(r->de.ino), r->de.type);
}

/* ---- new directories, and lost+found -------------------------------- */

/* Those that are made again were counted already. */
static int make_dir(struct msnap_names *n, uint64_t ino, uint64_t parent, uint32_t mode)
{
	struct msnap_inode in = { .mode = put32(S_IFDIR | mode),
				  .nlink = put32(2), .uid = put32(geteuid()),
				  .gid = put32(getegid()), .parent = put64(parent),
				  .version = put64(1) };

	in.atime = in.mtime = in.ctime = in.btime = msnap_time_now();
	return msnap_inode_put(n->pool, n->ns, ino, &in, MSNAP_PUT_NEW);
}

int msnap_names_make_root(struct msnap_names *n, void *arg)
{
	uint64_t *ino = arg;

	return make_dir(n, *ino, *ino, 0755);
}

/* A directory that has entries.  Who names it will tell its parent. */
int msnap_names_make_again(struct msnap_names *n, void *arg)
{
	uint64_t *ino = arg;

	return make_dir(n, *ino, n->top, 0700);
}

static int set_links(struct msnap_names *n, uint64_t ino, uint64_t nr)
{
	uint64_t *links = msnap_idmap_at(&n->links, ino);

	if (!links)
		return -ENOMEM;
	*links = nr;
	return 0;
}

static int add_name(struct msnap_names *n, uint64_t dir, const char *name, uint64_t ino,
		    uint8_t type)
{
	int err = msnap_dirent_add(n->pool, n->ns, dir, name, strlen(name), ino,
				   type);

	if (!err)
		err = count_in(n, dir, 1, type);
	return err ? err : set_links(n, ino, 1);
}

static int make_lost(struct msnap_names *n, const char *name, uint64_t *ino)
{
	int err;

	if (n->pool->next_ino >= MSNAP_MAX_INO)
		return -ENOSPC;
	*ino = n->pool->next_ino++;
	msnap_names_count(n, 1);
	err = make_dir(n, *ino, n->top, 0700);
	return err ? err : add_name(n, n->top, name, *ino, DT_DIR);
}

/* The directory for what lost its name; something else may be called lost+found. */
static int lost_dir(struct msnap_names *n, uint64_t *ino)
{
	char name[32] = "lost+found";
	struct msnap_key key;
	unsigned i;
	uint8_t type;

	for (i = 1; i < 100; i++) {
		int err = msnap_dirent_find(n->pool, n->ns, n->top, name,
					    strlen(name), &key, ino, &type);

		if (err == -ENOENT)
			return make_lost(n, name, ino);
		if (err || type == DT_DIR)
			return err;
		snprintf(name, sizeof(name), "lost+found.%u", i);
	}
	return -EEXIST;
}

int msnap_names_attach(struct msnap_names *n, void *arg)
{
	uint64_t *ino = arg, lost;
	struct msnap_inode in;
	char name[40];
	unsigned i;
	int err = msnap_inode_get(n->pool, n->ns, *ino, &in);

	if (!err)
		err = lost_dir(n, &lost);
	if (err)
		return err;
	snprintf(name, sizeof(name), "#%llu", (ull)*ino);
	for (i = 1; i < 100; i++) {
		err = add_name(n, lost, name, *ino, IFTODT(get32(in.mode)));
		if (err != -EEXIST)
			break;
		snprintf(name, sizeof(name), "#%llu.%u", (ull)*ino, i);
	}
	if (err)
		return err;
	if (S_ISDIR(get32(in.mode)))
		in.parent = put64(lost);
	else
		in.nlink = put32(1);
	return msnap_inode_put(n->pool, n->ns, *ino, &in, MSNAP_PUT_OLD);
}
