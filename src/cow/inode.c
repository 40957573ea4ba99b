/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "inode.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "background.h"
#include "break.h"
#include "file.h"

/* ---- records ------------------------------------------------------------------ */

int msnap_inode_get(struct msnap_pool *pool, const struct msnap_tree *ns,
		    uint64_t ino, struct msnap_inode *in)
{
	const void *val;
	unsigned len;
	int err = msnap_tree_get(pool, ns, msnap_ns_key(ino, MSNAP_NS_INODE, 0),
				 &val, &len);

	if (!err)
		memcpy(in, val, sizeof(*in));
	return err;
}

int msnap_inode_own(struct msnap_pool *pool, uint64_t ino, struct msnap_inode *in)
{
	int err = msnap_inode_get(pool, &pool->ns, ino, in);

	if (err)
		return err;
	return msnap_tree_own(pool, &pool->ns,
			      msnap_ns_key(ino, MSNAP_NS_INODE, 0));
}

int msnap_inode_put(struct msnap_pool *pool, struct msnap_tree *ns, uint64_t ino,
		    const struct msnap_inode *in, enum msnap_put_how how)
{
	return msnap_tree_put(pool, ns, msnap_ns_key(ino, MSNAP_NS_INODE, 0), in,
			      sizeof(*in), how);
}

int msnap_inode_find(struct msnap_pool *pool, struct msnap_id id,
		     struct msnap_inode *in)
{
	struct msnap_tree ns;
	int err = msnap_ns_of(pool, id.snap, &ns);

	return err ? err : msnap_inode_get(pool, &ns, id.ino, in);
}

static struct timespec time_load(struct msnap_time t)
{
	return (struct timespec){ (int64_t)get64(t.sec), get32(t.nsec) };
}

static struct msnap_time time_store(struct timespec t)
{
	return (struct msnap_time){ put64(t.tv_sec), put32(t.tv_nsec) };
}

struct msnap_time msnap_time_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return time_store(now);
}

void msnap_inode_changed(struct msnap_inode *in)
{
	in->ctime = msnap_time_now();
	in->version = put64(get64(in->version) + 1);
}

void msnap_inode_attr(uint64_t ino, const struct msnap_inode *in,
		      struct msnap_attr *attr)
{
	*attr = (struct msnap_attr){
		.ino = ino,
		.mode = get32(in->mode),
		.nlink = get32(in->nlink),
		.uid = get32(in->uid),
		.gid = get32(in->gid),
		.size = get64(in->size),
		.nr_blk = get64(in->nr_blk),
		.parent = get64(in->parent),
		.version = get64(in->version),
		.rdev = get32(in->rdev),
		.atime = time_load(in->atime),
		.mtime = time_load(in->mtime),
		.ctime = time_load(in->ctime),
		.btime = time_load(in->btime),
	};
}

int msnap_getattr(struct msnap_pool *pool, struct msnap_id id,
		  struct msnap_attr *attr)
{
	struct msnap_inode in;
	int err = MSNAP_LOOK(pool, msnap_inode_find(pool, id, &in));

	if (!err)
		msnap_inode_attr(id.ino, &in, attr);
	return err;
}

/* ---- changing attributes --------------------------------------------------------- */

static void set_fields(struct msnap_inode *in, const struct msnap_attr *a,
		       unsigned set)
{
	if (set & MSNAP_SET_MODE)
		in->mode = put32((get32(in->mode) & S_IFMT) | (a->mode & 07777));
	if (set & MSNAP_SET_UID)
		in->uid = put32(a->uid);
	if (set & MSNAP_SET_GID)
		in->gid = put32(a->gid);
	if (set & MSNAP_SET_ATIME)
		in->atime = time_store(a->atime);
	if (set & MSNAP_SET_MTIME)
		in->mtime = time_store(a->mtime);
	if (set & MSNAP_SET_CTIME)
		in->ctime = time_store(a->ctime);
}

static int do_setattr(struct msnap_pool *pool, uint64_t ino,
		      const struct msnap_attr *attr, unsigned set,
		      struct msnap_attr *out)
{
	struct msnap_inode in;
	int err = msnap_inode_get(pool, &pool->ns, ino, &in);

	if (err)
		return err;
	if (set & MSNAP_SET_SIZE) {
		if (!S_ISREG(get32(in.mode)))
			return S_ISDIR(get32(in.mode)) ? -EISDIR : -EINVAL;
		err = msnap_inode_own(pool, ino, &in);
		if (!err)
			err = msnap_file_resize(pool, ino, &in, attr->size);
		if (err)
			return err;
		in.mtime = msnap_time_now();
	}
	msnap_inode_changed(&in);
	set_fields(&in, attr, set);
	err = msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_OLD);
	if (!err)
		msnap_inode_attr(ino, &in, out);
	return err;
}

int msnap_setattr(struct msnap_pool *pool, uint64_t ino,
		  const struct msnap_attr *attr, unsigned set,
		  struct msnap_attr *out)
{
	/* Truncation gives space back, and must work on a full pool. */
	unsigned need = set & MSNAP_SET_SIZE ?
				MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE :
				MSNAP_OP_BLOCKS;
	struct msnap_attr after;
	int err = msnap_op_begin(pool, need);

	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_setattr(pool, ino, attr, set,
								&after)));
	if (err)
		return err;
	*out = after;
	if (set & MSNAP_SET_SIZE)
		msnap_bg_kick(pool);
	return 0;
}

/* ---- making ------------------------------------------------------------------------ */

static int put_symlink(struct msnap_pool *pool, uint64_t ino, const char *target)
{
	size_t len = strlen(target), off;
	int err = 0;

	if (len == 0)
		return -ENOENT;
	if (len > MSNAP_SYMLINK_MAX)
		return -ENAMETOOLONG;
	for (off = 0; !err && off < len; off += MSNAP_CHUNK) {
		size_t n = len - off < MSNAP_CHUNK ? len - off : MSNAP_CHUNK;

		err = msnap_tree_put(pool, &pool->ns,
				     msnap_ns_key(ino, MSNAP_NS_SYMLINK,
						  off / MSNAP_CHUNK),
				     target + off, n, MSNAP_PUT_NEW);
	}
	return err;
}

static void init_inode(struct msnap_inode *in, const struct msnap_new *what,
		       uint64_t dir)
{
	bool is_dir = S_ISDIR(what->mode);

	memset(in, 0, sizeof(*in));
	in->mode = put32(what->mode);
	in->uid = put32(what->uid);
	in->gid = put32(what->gid);
	in->rdev = put32(what->rdev);
	in->nlink = put32(is_dir ? 2 : 1);
	in->parent = put64(is_dir ? dir : 0);
	in->atime = in->mtime = in->ctime = in->btime = msnap_time_now();
	in->version = put64(1);
	if (what->target)
		in->size = put64(strlen(what->target));
}

/* The live directory @dir, which must still have a name. */
static int get_dir(struct msnap_pool *pool, uint64_t dir, struct msnap_inode *in)
{
	int err = msnap_inode_get(pool, &pool->ns, dir, in);

	if (err)
		return err;
	if (!S_ISDIR(get32(in->mode)))
		return -ENOTDIR;
	return get32(in->nlink) ? 0 : -ENOENT;
}

/* @entries, @dirs: how many more there are in it. */
static int put_dir(struct msnap_pool *pool, uint64_t dir, struct msnap_inode *in,
		   int entries, int dirs)
{
	in->size = put64(get64(in->size) + entries);
	in->nlink = put32(get32(in->nlink) + dirs);
	msnap_inode_changed(in);
	in->mtime = in->ctime;
	return msnap_inode_put(pool, &pool->ns, dir, in, MSNAP_PUT_OLD);
}

static uint8_t dtype(uint32_t mode)
{
	return IFTODT(mode);
}

static int count_dir(struct msnap_pool *pool, uint64_t dir, int entries, int dirs)
{
	struct msnap_inode in;
	int err = get_dir(pool, dir, &in);

	return err ? err : put_dir(pool, dir, &in, entries, dirs);
}

int msnap_dirent_new(struct msnap_pool *pool, uint64_t dir, const char *name,
		     size_t len, uint64_t ino, uint32_t mode)
{
	int err = count_dir(pool, dir, 1, S_ISDIR(mode));

	return err ? err : msnap_dirent_add(pool, &pool->ns, dir, name, len, ino,
					    dtype(mode));
}

static int do_create(struct msnap_pool *pool, uint64_t dir, const char *name,
		     size_t len, const struct msnap_new *what,
		     struct msnap_attr *attr)
{
	struct msnap_inode in;
	uint64_t ino = pool->next_ino;
	int err;

	if (ino >= MSNAP_MAX_INO)
		return -ENOSPC;
	init_inode(&in, what, dir);
	if (!name)
		in.nlink = put32(0);
	err = name ? msnap_dirent_new(pool, dir, name, len, ino, what->mode) :
		     msnap_orphan_add(pool, ino);
	if (!err)
		err = msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_NEW);
	if (!err && what->target)
		err = put_symlink(pool, ino, what->target);
	if (err)
		return err;
	pool->next_ino++;
	pool->nr_inodes++;
	msnap_inode_attr(ino, &in, attr);
	return 0;
}

int msnap_create(struct msnap_pool *pool, uint64_t dir, const char *name,
		 size_t len, const struct msnap_new *what,
		 struct msnap_attr *attr)
{
	struct msnap_attr made;
	int err = name ? msnap_name_check(name, len) : 0;

	if (!err)
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_create(pool, dir, name, len,
							       what, &made)));
	if (!err)
		*attr = made;
	return err;
}

static int do_make_root(struct msnap_pool *pool)
{
	struct msnap_new what = { S_IFDIR | 0755, geteuid(), getegid(), 0, NULL };
	struct msnap_inode in;

	init_inode(&in, &what, MSNAP_ROOT_INO);
	pool->nr_inodes++;
	return msnap_inode_put(pool, &pool->ns, MSNAP_ROOT_INO, &in, MSNAP_PUT_NEW);
}

int msnap_make_root_dir(struct msnap_pool *pool)
{
	int err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);

	return err ? err : (int)msnap_op_end(pool,
					     MSNAP_GUARD(do_make_root(pool)));
}

static int do_link(struct msnap_pool *pool, uint64_t ino, uint64_t dir,
		   const char *name, size_t len, struct msnap_attr *attr)
{
	struct msnap_inode in;
	int err = msnap_inode_get(pool, &pool->ns, ino, &in);

	if (err)
		return err;
	if (S_ISDIR(get32(in.mode)))
		return -EPERM;
	if (get32(in.nlink) >= INT32_MAX)
		return -EMLINK;
	if (!get32(in.nlink)) {
		err = msnap_orphan_remove(pool, ino);
		if (err)
			return err;
	}
	in.nlink = put32(get32(in.nlink) + 1);
	msnap_inode_changed(&in);
	err = msnap_dirent_new(pool, dir, name, len, ino, get32(in.mode));
	if (!err)
		err = msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_OLD);
	if (!err)
		msnap_inode_attr(ino, &in, attr);
	return err;
}

int msnap_link(struct msnap_pool *pool, uint64_t ino, uint64_t dir,
	       const char *name, size_t len, struct msnap_attr *attr)
{
	struct msnap_attr linked;
	int err = msnap_name_check(name, len);

	if (!err)
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_link(pool, ino, dir, name,
							     len, &linked)));
	if (!err)
		*attr = linked;
	return err;
}

/* ---- removing -------------------------------------------------------------------- */

static struct msnap_key orphan_key(uint64_t ino)
{
	return (struct msnap_key){ (uint64_t)MSNAP_CAT_ORPHAN << 56 | ino, 0 };
}

int msnap_orphan_add(struct msnap_pool *pool, uint64_t ino)
{
	return msnap_tree_put(pool, &pool->catalog, orphan_key(ino), "", 0,
			      MSNAP_PUT_ANY);
}

int msnap_orphan_remove(struct msnap_pool *pool, uint64_t ino)
{
	return msnap_tree_take(pool, &pool->catalog, orphan_key(ino));
}

/* A name of @ino is gone; @gone: the inode afterwards. */
static int drop_link(struct msnap_pool *pool, uint64_t ino, struct msnap_inode *in,
		     struct msnap_attr *gone)
{
	uint32_t nlink = S_ISDIR(get32(in->mode)) ? 0 : get32(in->nlink) - 1;
	int err;

	if (!get32(in->nlink))
		return msnap_damaged(pool, "inode %llu has a name but no links",
				     (unsigned long long)ino);
	in->nlink = put32(nlink);
	msnap_inode_changed(in);
	err = msnap_inode_put(pool, &pool->ns, ino, in, MSNAP_PUT_OLD);
	if (!err && !nlink)
		err = msnap_orphan_add(pool, ino);
	if (!err)
		msnap_inode_attr(ino, in, gone);
	return err;
}

/* May the inode lose its name this way? */
static int check_remove(struct msnap_pool *pool, uint64_t ino,
			const struct msnap_inode *in, bool rmdir)
{
	int ret;

	if (!S_ISDIR(get32(in->mode)))
		return rmdir ? -ENOTDIR : 0;
	if (!rmdir)
		return -EISDIR;
	ret = msnap_dir_used(pool, &pool->ns, ino);
	return ret > 0 ? -ENOTEMPTY : ret;
}

int msnap_dirent_drop(struct msnap_pool *pool, uint64_t dir, struct msnap_key key,
		      uint64_t ino, struct msnap_inode *in,
		      struct msnap_attr *gone)
{
	int err = msnap_tree_take(pool, &pool->ns, key);

	if (!err)
		err = count_dir(pool, dir, -1, -S_ISDIR(get32(in->mode)));
	return err ? err : drop_link(pool, ino, in, gone);
}

static int do_unlink(struct msnap_pool *pool, uint64_t dir, const char *name,
		     size_t len, bool rmdir, struct msnap_attr *gone)
{
	struct msnap_inode in;
	struct msnap_key key;
	uint64_t ino;
	uint8_t type;
	int err = msnap_dirent_find(pool, &pool->ns, dir, name, len, &key, &ino,
				    &type);

	if (!err)
		err = msnap_inode_get(pool, &pool->ns, ino, &in);
	if (!err)
		err = check_remove(pool, ino, &in, rmdir);
	return err ? err : msnap_dirent_drop(pool, dir, key, ino, &in, gone);
}

int msnap_unlink(struct msnap_pool *pool, uint64_t dir, const char *name,
		 size_t len, bool rmdir, struct msnap_attr *gone)
{
	struct msnap_attr after;
	int err = msnap_name_check(name, len);

	if (!err)
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_unlink(pool, dir, name, len,
							       rmdir, &after)));
	if (!err)
		*gone = after;
	return err;
}

int msnap_inode_erase(struct msnap_pool *pool, struct msnap_tree *ns,
		      uint64_t ino)
{
	struct msnap_key lo = { ino, 0 }, hi = { ino, UINT64_MAX };

	return msnap_tree_cut(pool, ns, lo, hi, NULL);
}

static int do_evict(struct msnap_pool *pool, uint64_t ino)
{
	struct msnap_inode in;
	int err = msnap_orphan_remove(pool, ino);

	if (err)
		return err == -ENOENT ? 0 : err;
	err = msnap_inode_get(pool, &pool->ns, ino, &in);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (get32(in.nlink))
		return 0;
	/* Nothing is newer in a view of a file that is gone. */
	err = msnap_view_forget(pool, ino);
	if (err)
		return err;
	pool->nr_inodes--;
	return msnap_inode_erase(pool, &pool->ns, ino);
}

int msnap_evict(struct msnap_pool *pool, uint64_t ino)
{
	int err = msnap_op_begin(pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE);

	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_evict(pool, ino)));
	if (!err)
		msnap_bg_kick(pool);
	return err;
}

/* Before anybody else uses the pool. */
int msnap_evict_all(struct msnap_pool *pool)
{
	for (;;) {
		struct msnap_cursor cur;
		struct msnap_key key;
		int err = msnap_cursor_seek(pool, &pool->catalog, orphan_key(0),
					    &cur);

		if (err)
			return err == -ENOENT ? 0 : err;
		key = msnap_cursor_key(&cur);
		if (key.hi >> 56 != MSNAP_CAT_ORPHAN)
			return 0;
		err = msnap_evict(pool, key.hi & ~(0xffull << 56));
		if (err)
			return err;
	}
}

/* ---- renaming ---------------------------------------------------------------------- */

struct end {
	uint64_t dir;
	const char *name;
	size_t len;
	struct msnap_key key; /* of the entry, when there is one */
	uint64_t ino;	      /* 0: no such entry */
	uint8_t type;
	struct msnap_inode in;
};

static int find_end(struct msnap_pool *pool, struct end *e)
{
	int err = msnap_dirent_find(pool, &pool->ns, e->dir, e->name, e->len,
				    &e->key, &e->ino, &e->type);

	if (err == -ENOENT) {
		e->ino = 0;
		return 0;
	}
	return err ? err : msnap_inode_get(pool, &pool->ns, e->ino, &e->in);
}

/* Is directory @ino the live directory @dir, or above it? */
static int is_above(struct msnap_pool *pool, uint64_t ino, uint64_t dir)
{
	struct msnap_inode in;
	uint64_t mark = 0;
	unsigned steps;

	for (steps = 1; dir != mark; steps++) {
		int err;

		if (dir == ino)
			return 1;
		if (dir == MSNAP_ROOT_INO)
			return 0;
		/* A circle passes a mark that is set ever more seldom. */
		if (!(steps & (steps - 1)))
			mark = dir;
		err = msnap_inode_get(pool, &pool->ns, dir, &in);
		if (err)
			return err;
		dir = get64(in.parent);
	}
	return msnap_damaged(pool, "the parents of directory %llu go in a circle",
			     (unsigned long long)dir);
}

static int check_loop(struct msnap_pool *pool, const struct end *from,
		      const struct end *to)
{
	int ret;

	if (!from->ino || from->type != DT_DIR)
		return 0;
	ret = is_above(pool, from->ino, to->dir);
	return ret > 0 ? -EINVAL : ret;
}

static int check_replace(struct msnap_pool *pool, const struct end *from,
			 const struct end *to)
{
	bool from_dir = from->type == DT_DIR, to_dir = to->type == DT_DIR;

	if (!to->ino)
		return 0;
	if (from_dir != to_dir)
		return from_dir ? -ENOTDIR : -EISDIR;
	return check_remove(pool, to->ino, &to->in, to_dir);
}

/* The moved inode: its ctime, and of a directory its parent. */
static int moved(struct msnap_pool *pool, struct end *e, uint64_t new_dir)
{
	if (e->type == DT_DIR)
		e->in.parent = put64(new_dir);
	msnap_inode_changed(&e->in);
	return msnap_inode_put(pool, &pool->ns, e->ino, &e->in, MSNAP_PUT_OLD);
}

static int exchange(struct msnap_pool *pool, struct end *a, struct end *b)
{
	int a_dir = a->type == DT_DIR, b_dir = b->type == DT_DIR;
	int err = msnap_tree_take(pool, &pool->ns, a->key);

	if (!err)
		err = msnap_tree_take(pool, &pool->ns, b->key);
	if (!err)
		err = msnap_dirent_add(pool, &pool->ns, a->dir, a->name, a->len,
				       b->ino, b->type);
	if (!err)
		err = msnap_dirent_add(pool, &pool->ns, b->dir, b->name, b->len,
				       a->ino, a->type);
	if (!err)
		err = moved(pool, a, b->dir);
	if (!err)
		err = moved(pool, b, a->dir);
	if (!err)
		err = count_dir(pool, a->dir, 0, b_dir - a_dir);
	return err ? err : count_dir(pool, b->dir, 0, a_dir - b_dir);
}

static int replace(struct msnap_pool *pool, struct end *from, struct end *to,
		   struct msnap_attr *gone)
{
	int from_dir = from->type == DT_DIR, to_dir = to->ino && to->type == DT_DIR;
	int err = msnap_tree_take(pool, &pool->ns, from->key);

	if (!err && to->ino)
		err = msnap_tree_take(pool, &pool->ns, to->key);
	if (!err)
		err = msnap_dirent_add(pool, &pool->ns, to->dir, to->name, to->len,
				       from->ino, from->type);
	if (!err)
		err = moved(pool, from, to->dir);
	if (!err)
		err = count_dir(pool, from->dir, -1, -from_dir);
	if (!err)
		err = count_dir(pool, to->dir, to->ino ? 0 : 1, from_dir - to_dir);
	if (err || !to->ino)
		return err;
	return drop_link(pool, to->ino, &to->in, gone);
}

static int do_rename(struct msnap_pool *pool, struct end *from, struct end *to,
		     unsigned flags, struct msnap_attr *gone)
{
	struct msnap_inode dir;
	int err = get_dir(pool, from->dir, &dir);

	if (!err)
		err = get_dir(pool, to->dir, &dir);
	if (!err)
		err = find_end(pool, from);
	if (!err)
		err = find_end(pool, to);
	if (err)
		return err;
	if (!from->ino || (flags & MSNAP_RENAME_EXCHANGE && !to->ino))
		return -ENOENT;
	if (flags & MSNAP_RENAME_NOREPLACE && to->ino)
		return -EEXIST;
	if (from->ino == to->ino)
		return 0; /* two names of one file: rename(2) does nothing */
	err = check_loop(pool, from, to);
	if (flags & MSNAP_RENAME_EXCHANGE) {
		if (!err)
			err = check_loop(pool, to, from);
		return err ? err : exchange(pool, from, to);
	}
	if (!err)
		err = check_replace(pool, from, to);
	return err ? err : replace(pool, from, to, gone);
}

int msnap_rename(struct msnap_pool *pool, uint64_t dir, const char *name,
		 size_t len, uint64_t new_dir, const char *new_name,
		 size_t new_len, unsigned flags, struct msnap_attr *gone)
{
	struct end from = { .dir = dir, .name = name, .len = len };
	struct end to = { .dir = new_dir, .name = new_name, .len = new_len };
	struct msnap_attr attr = { 0 };
	int err = msnap_name_check(name, len);

	if (!err)
		err = msnap_name_check(new_name, new_len);
	if (!err && MSNAP_BROKEN(RENAME) && flags == 0 &&
	    !msnap_unlink(pool, new_dir, new_name, new_len, false, &attr))
		err = msnap_commit(pool); /* as the timer might, here */
	if (!err)
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_rename(pool, &from, &to,
							       flags, &attr)));
	if (!err)
		*gone = attr;
	return err;
}

/* ---- symlinks, and copying what belongs to an inode ------------------------------------ */

static int read_target(struct msnap_pool *pool, struct msnap_id id, char *buf,
		       size_t size)
{
	struct msnap_cursor cur;
	struct msnap_tree ns;
	size_t done = 0;
	int err = msnap_ns_of(pool, id.snap, &ns);

	if (!err)
		err = msnap_cursor_seek(pool, &ns,
					msnap_ns_key(id.ino, MSNAP_NS_SYMLINK, 0),
					&cur);
	while (!err) {
		struct msnap_key key = msnap_cursor_key(&cur);
		unsigned len;
		const void *val = msnap_cursor_val(&cur, &len);

		if (key.hi != id.ino || key.lo >> 56 != MSNAP_NS_SYMLINK)
			break;
		if (done + len > size)
			return -ERANGE;
		memcpy(buf + done, val, len);
		done += len;
		err = msnap_cursor_next(&cur);
	}
	if (err && err != -ENOENT)
		return err;
	return done ? (int)done : -EINVAL;
}

int msnap_readlink(struct msnap_pool *pool, struct msnap_id id, char *buf,
		   size_t size)
{
	return MSNAP_LOOK(pool, read_target(pool, id, buf, size));
}

int msnap_inode_copy_parts(struct msnap_pool *pool, const struct msnap_tree *from,
			   uint64_t ino, struct msnap_tree *to, uint64_t new_ino)
{
	struct msnap_key key = msnap_ns_key(ino, MSNAP_NS_XATTR, 0);
	uint8_t val[MSNAP_VAL_MAX];

	for (;;) {
		struct msnap_cursor cur;
		const void *old;
		unsigned len;
		int err = msnap_cursor_seek(pool, from, key, &cur);

		if (err)
			return err == -ENOENT ? 0 : err;
		key = msnap_cursor_key(&cur);
		if (key.hi != ino)
			return 0;
		/* The tree may be the one that is being changed. */
		old = msnap_cursor_val(&cur, &len);
		memcpy(val, old, len);
		err = msnap_tree_put(pool, to,
				     (struct msnap_key){ new_ino, key.lo }, val,
				     len, MSNAP_PUT_NEW);
		if (err)
			return err;
		key.lo++;
	}
}
