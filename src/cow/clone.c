/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clone.c - new inodes that share what others have.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "break.h"
#include "idmap.h"
#include "walk.h"

struct cloning {
	struct msnap_pool *pool;
	const struct msnap_tree *src; /* namespace it comes from */
	struct msnap_owner owner;
	msnap_may_fn *may;
	void *may_arg;
	struct msnap_idmap new_of; /* directories and hard links: old inode -> new */
};

static int new_ino(struct msnap_pool *pool, uint64_t *ino)
{
	if (pool->next_ino >= MSNAP_MAX_INO)
		return -ENOSPC;
	*ino = pool->next_ino++;
	pool->nr_inodes++;
	return 0;
}

static void set_owner(struct msnap_inode *in, struct msnap_owner owner)
{
	if (owner.uid < 0)
		return;
	in->uid = put32(owner.uid);
	in->gid = put32(owner.gid);
	/* Somebody else's rights must not be had by copying. */
	in->mode = put32(get32(in->mode) & ~(S_ISUID | S_ISGID));
}

static int ask(const struct cloning *c, uint64_t ino, const struct msnap_inode *in)
{
	struct msnap_attr attr;

	if (!c->may)
		return 0;
	msnap_inode_attr(ino, in, &attr);
	return c->may(c->may_arg, &attr);
}

/* A new inode like @ino, without entries; @parent counts for directories.  *links:
 * of the original. */
static int clone_inode(struct cloning *c, uint64_t ino, uint64_t parent,
		       uint64_t *out, struct msnap_inode *in, unsigned *links)
{
	int err = msnap_inode_get(c->pool, c->src, ino, in);

	if (!err)
		err = ask(c, ino, in);
	if (!err)
		err = new_ino(c->pool, out);
	if (err)
		return err;
	*links = get32(in->nlink);
	if (!S_ISDIR(get32(in->mode)))
		in->nlink = put32(1);
	else
		in->parent = put64(parent);
	in->ctime = in->btime = msnap_time_now();
	in->version = put64(1);
	in->flags = put32(0);
	set_owner(in, c->owner);
	/* The extents: one reference more on their root, whatever their size. */
	if (get64(in->ext.blk) && !MSNAP_BROKEN(LOST_REF))
		err = msnap_op_get(c->pool, get64(in->ext.blk), 1);
	if (!err)
		err = msnap_inode_put(c->pool, &c->pool->ns, *out, in,
				      MSNAP_PUT_NEW);
	return err ? err : msnap_inode_copy_parts(c->pool, c->src, ino,
						  &c->pool->ns, *out);
}

/* A second link to an inode that was cloned already. */
static int clone_link(struct cloning *c, uint64_t ino)
{
	struct msnap_inode in;
	int err = msnap_inode_get(c->pool, &c->pool->ns, ino, &in);

	if (err)
		return err;
	in.nlink = put32(get32(in.nlink) + 1);
	return msnap_inode_put(c->pool, &c->pool->ns, ino, &in, MSNAP_PUT_OLD);
}

static int clone_entry(void *arg, const struct msnap_walk_entry *e)
{
	struct cloning *c = arg;
	uint64_t *dir = msnap_idmap_find(&c->new_of, e->dir), *known, ino;
	uint64_t new_dir = dir ? *dir : 0;
	struct msnap_inode in;
	unsigned links;
	int err;

	known = msnap_idmap_find(&c->new_of, e->ino);
	if (known) {
		if (e->type == DT_DIR)
			return msnap_damaged(c->pool, "directory %llu has two names",
					     (unsigned long long)e->ino);
		ino = *known;
		err = clone_link(c, ino);
	} else {
		err = clone_inode(c, e->ino, new_dir, &ino, &in, &links);
		if (!err && links > 1) {
			known = msnap_idmap_at(&c->new_of, e->ino);
			if (!known)
				return -ENOMEM;
			*known = ino;
		}
	}
	return err ? err : msnap_dirent_add(c->pool, &c->pool->ns, new_dir,
					    e->de->name, e->de->len, ino, e->type);
}

/* The walk reads a tree that does not change: a snapshot's, or the live one as it
 * was before, with a reference of its own on the root. */
static int clone_below(struct cloning *c, uint64_t ino, uint64_t new)
{
	uint64_t *top = msnap_idmap_at(&c->new_of, ino);

	if (!top)
		return -ENOMEM;
	*top = new;
	return msnap_walk(c->pool, c->src, ino, clone_entry, c);
}

/* What has the name now makes room: a file for a file, when that was asked for. */
static int make_room(struct msnap_pool *pool, uint64_t dir, const char *name,
		     size_t len, bool is_dir, unsigned flags,
		     struct msnap_attr *gone)
{
	struct msnap_inode in;
	struct msnap_key key;
	uint64_t ino;
	uint8_t type;
	int err = msnap_dirent_find(pool, &pool->ns, dir, name, len, &key, &ino,
				    &type);

	if (err)
		return err == -ENOENT ? 0 : err;
	if (!(flags & MSNAP_CLONE_REPLACE) || is_dir)
		return -EEXIST;
	if (type == DT_DIR)
		return -EISDIR;
	err = msnap_inode_get(pool, &pool->ns, ino, &in);
	if (!err)
		err = msnap_dirent_drop(pool, dir, key, ino, &in, gone);
	return err;
}

static int clone_file(struct cloning *c, uint64_t src, uint64_t dir,
		      const char *name, size_t len, unsigned flags,
		      struct msnap_attr *attr, struct msnap_attr *gone)
{
	struct msnap_inode in;
	uint64_t ino;
	unsigned links;
	int err = make_room(c->pool, dir, name, len, false, flags, gone);

	if (!err)
		err = clone_inode(c, src, 0, &ino, &in, &links);
	if (!err)
		err = msnap_dirent_new(c->pool, dir, name, len, ino,
				       get32(in.mode));
	if (!err)
		msnap_inode_attr(ino, &in, attr);
	return err;
}

static int clone_dir(struct cloning *c, uint64_t src, uint64_t dir,
		     const char *name, size_t len, struct msnap_attr *attr)
{
	struct msnap_inode in;
	uint64_t ino;
	unsigned links;
	int err = make_room(c->pool, dir, name, len, true, 0, NULL);

	if (!err)
		err = clone_inode(c, src, dir, &ino, &in, &links);
	if (!err)
		err = clone_below(c, src, ino);
	if (!err)
		err = msnap_dirent_new(c->pool, dir, name, len, ino,
				       get32(in.mode));
	if (!err)
		msnap_inode_attr(ino, &in, attr);
	return err;
}

static int do_clone(struct cloning *c, struct msnap_id src, uint64_t dir,
		    const char *name, size_t len, unsigned flags,
		    struct msnap_attr *attr, struct msnap_attr *gone)
{
	struct msnap_pool *pool = c->pool;
	struct msnap_inode in;
	struct msnap_tree ns;
	bool freeze;
	int err = msnap_ns_of(pool, src.snap, &ns);

	if (!err)
		err = msnap_inode_get(pool, &ns, src.ino, &in);
	if (err)
		return err;
	if (S_ISDIR(get32(in.mode)) && !get32(in.nlink))
		return -ENOENT; /* it was removed, and is only still open */
	c->src = src.snap ? &ns : &pool->ns;
	if (!S_ISDIR(get32(in.mode)))
		return clone_file(c, src.ino, dir, name, len, flags, attr, gone);
	freeze = !src.snap;
	if (freeze)
		err = msnap_op_get(pool, ns.root.blk, 1);
	c->src = &ns;
	if (!err)
		err = clone_dir(c, src.ino, dir, name, len, attr);
	if (!err && freeze)
		err = msnap_tree_drop(pool, MSNAP_TREE_NS, ns.root);
	return err;
}

int msnap_clone(struct msnap_pool *pool, struct msnap_id src, uint64_t dir,
		const char *name, size_t len, struct msnap_owner owner,
		unsigned flags, struct msnap_attr *attr, struct msnap_attr *gone)
{
	return msnap_clone_if(pool, src, dir, name, len, owner, flags, NULL, NULL,
			      attr, gone);
}

int msnap_clone_if(struct msnap_pool *pool, struct msnap_id src, uint64_t dir,
		   const char *name, size_t len, struct msnap_owner owner,
		   unsigned flags, msnap_may_fn *may, void *arg,
		   struct msnap_attr *attr, struct msnap_attr *gone)
{
	struct cloning c = { .pool = pool, .owner = owner, .may = may,
			     .may_arg = arg };
	struct msnap_attr made, replaced = { 0 };
	int err = msnap_name_check(name, len);

	if (!err)
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_clone(&c, src, dir, name, len,
							      flags, &made,
							      &replaced)));
	msnap_idmap_free(&c.new_of);
	if (!err)
		err = msnap_commit(pool);
	if (!err) {
		*attr = made;
		*gone = replaced;
	}
	return err;
}
