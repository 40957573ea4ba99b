/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "op.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model-tree.h"

/* What the operation writes; the caller frees it (a crash in the middle of an operation
 * runs others).  Neither constant nor of a short period: a block in the wrong place
 * shows. */
static uint8_t *op_data(const struct op *op)
{
	uint64_t x = op->fill * 0x9e3779b97f4a7c15ull + 1;
	uint8_t *data = model_alloc(NULL, op->len);

	for (size_t i = 0; i < op->len; i += 8) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(data + i, &x, op->len - i < 8 ? op->len - i : 8);
	}
	return data;
}

/* ---- places in a pool ---------------------------------------------------------- */

struct spot {
	struct msnap_pool *pool;
	struct msnap_id dir; /* of the last component */
	const char *name;
	size_t len;
	struct msnap_id id; /* ino 0: no such entry */
};

static int find_snap(struct msnap_pool *pool, const char *name,
		     struct msnap_snap_info *info)
{
	uint64_t after = 0;
	int err;

	while (!(err = msnap_snap_next(pool, after, info))) {
		if (strcmp(info->name, name) == 0)
			return 0;
		after = info->id;
	}
	return err;
}

/* -ENOENT: something in front of the last component is missing. */
static int find(struct msnap_pool *pool, const char *snap, const char *path,
		struct spot *s)
{
	struct msnap_id top = msnap_live(MSNAP_ROOT_INO_PUBLIC);
	struct msnap_snap_info info;
	struct msnap_attr attr;
	int err = 0;

	if (snap) {
		err = find_snap(pool, snap, &info);
		if (err)
			return err;
		top = (struct msnap_id){ info.id, info.scope };
	}
	*s = (struct spot){ pool, top, path, 0, top };
	while (*path) {
		s->dir = s->id;
		s->name = path;
		s->len = strcspn(path, "/");
		err = msnap_lookup(pool, s->dir, path, s->len, &attr);
		if (err && err != -ENOENT)
			return err;
		s->id.ino = err ? 0 : attr.ino;
		path += s->len;
		if (*path && err)
			return err;
		path += *path == '/';
	}
	return 0;
}

static int find_existing(struct msnap_pool *pool, const char *snap, const char *path,
			 struct spot *s)
{
	int err = find(pool, snap, path, s);

	return err ? err : s->id.ino ? 0 : -ENOENT;
}

/* What lost its last name goes, unless somebody has it open. */
static int evict(struct msnap_pool *pool, const struct op *op,
		 const struct msnap_attr *gone)
{
	return gone->ino && !gone->nlink && !op->hold ?
		       msnap_evict(pool, gone->ino) : 0;
}

/* ---- names ---------------------------------------------------------------------- */

static long do_create(struct msnap_pool *pool, const struct op *op)
{
	struct msnap_new what = { .mode = S_IFREG | 0644 };
	struct msnap_attr attr;
	struct spot s;
	int err = find(pool, NULL, op->path, &s);

	if (op->code == OP_MKDIR)
		what.mode = S_IFDIR | 0755;
	if (op->code == OP_SYMLINK) {
		what.mode = S_IFLNK | 0777;
		what.target = op->to;
	}
	return err ? err : msnap_create(pool, s.dir.ino, s.name, s.len, &what,
					&attr);
}

static long do_tmpfile(struct msnap_pool *pool, const struct op *op)
{
	struct msnap_new what = { .mode = S_IFREG | 0644 };
	struct msnap_attr attr;
	struct spot s;
	uint8_t *data;
	int ret, err = find(pool, NULL, op->path, &s);

	if (!err)
		err = msnap_create(pool, s.dir.ino, NULL, 0, &what, &attr);
	if (err)
		return err;
	data = op_data(op);
	err = msnap_pwrite(pool, attr.ino, data, op->len, 0, false);
	free(data);
	if (!err)
		err = msnap_link(pool, attr.ino, s.dir.ino, s.name, s.len, &attr);
	ret = err ? msnap_evict(pool, attr.ino) : 0;
	return err ? err : ret;
}

static long do_link(struct msnap_pool *pool, const struct op *op)
{
	struct msnap_attr attr;
	struct spot a, b;
	int err = find_existing(pool, NULL, op->path, &a);

	if (!err)
		err = find(pool, NULL, op->to, &b);
	return err ? err : msnap_link(pool, a.id.ino, b.dir.ino, b.name, b.len,
				      &attr);
}

static long do_unlink(struct msnap_pool *pool, const struct op *op)
{
	struct msnap_attr gone;
	struct spot s;
	int err = find(pool, NULL, op->path, &s);

	if (!err)
		err = msnap_unlink(pool, s.dir.ino, s.name, s.len,
				   op->code == OP_RMDIR, &gone);
	return err ? err : evict(pool, op, &gone);
}

static long do_rename(struct msnap_pool *pool, const struct op *op)
{
	struct msnap_attr gone;
	struct spot a, b;
	int err = find(pool, NULL, op->path, &a);

	if (!err)
		err = find(pool, NULL, op->to, &b);
	if (!err)
		err = msnap_rename(pool, a.dir.ino, a.name, a.len, b.dir.ino, b.name,
				   b.len, op->mode, &gone);
	return err ? err : evict(pool, op, &gone);
}

/* ---- contents and attributes ------------------------------------------------------ */

static long do_data(struct msnap_pool *pool, const struct op *op, uint64_t ino)
{
	uint8_t *data = op_data(op);
	long ret = op->code == OP_WRITE ?
			   msnap_pwrite(pool, ino, data, op->len, op->off, false) :
			   msnap_xattr_set(pool, ino, op->to, data, op->len, 0);

	free(data);
	return ret;
}

static long do_file(struct msnap_pool *pool, const struct op *op)
{
	struct msnap_attr attr = { .size = op->len, .mode = op->mode,
				   .uid = op->off };
	struct spot s;
	int err = find_existing(pool, NULL, op->path, &s);

	if (err)
		return err;
	switch (op->code) {
	case OP_WRITE:
	case OP_SETXATTR:
		return do_data(pool, op, s.id.ino);
	case OP_TRUNCATE:
		return msnap_setattr(pool, s.id.ino, &attr, MSNAP_SET_SIZE, &attr);
	case OP_FALLOCATE:
		return msnap_fallocate(pool, s.id.ino, op->mode, op->off, op->len);
	case OP_CHMOD:
		return msnap_setattr(pool, s.id.ino, &attr,
				     MSNAP_SET_MODE | MSNAP_SET_UID, &attr);
	default:
		return msnap_xattr_remove(pool, s.id.ino, op->to);
	}
}

/* ---- mappings -------------------------------------------------------------------- */

#define PAGE 4096u

static uint64_t page_down(uint64_t off)
{
	return off & ~(uint64_t)(PAGE - 1);
}

static uint64_t page_up(uint64_t off)
{
	return page_down(off + PAGE - 1);
}

/* Pages [off, end) of the file with what @op stores in them; @end may lie beyond the
 * file's.  The caller frees them. */
static int mapped_pages(struct msnap_pool *pool, const struct op *op, uint64_t ino,
			uint64_t off, uint64_t end, uint8_t **pages)
{
	uint8_t *buf = model_alloc(NULL, end - off), *data = op_data(op);
	uint64_t len = end - op->off < op->len ? end - op->off : op->len;
	ssize_t n;

	memset(buf, 0, end - off);
	n = msnap_pread(pool, msnap_live(ino), buf, end - off, off);
	if (op->mode & FALLOC_FL_PUNCH_HOLE)
		memset(buf + (op->off - off), 0, len);
	else
		memcpy(buf + (op->off - off), data, len);
	free(data);
	*pages = buf;
	return n < 0 ? n : 0;
}

/* Cached mode: the kernel writes whole pages back, then asks for an fsync. */
static long do_msync(struct msnap_pool *pool, const struct op *op, uint64_t ino,
		     uint64_t size)
{
	uint64_t off = page_down(op->off), end = op->off + op->len;
	uint8_t *pages = NULL;
	int err = 0;

	end = page_up(end < size ? end : size);
	if (off < end) {
		err = mapped_pages(pool, op, ino, off, end, &pages);
		if (!err)
			err = msnap_pwrite(pool, ino, pages, end - off, off, true);
		free(pages);
	}
	return err ? err : msnap_commit(pool);
}

static const uint8_t *view;

const uint8_t *op_view(void)
{
	return view;
}

/* Direct mode: what was stored lies in the view, and its blocks come by sharing; the
 * end inside of a block is copied. */
static long do_absorb(struct msnap_pool *pool, const struct op *op, uint64_t ino,
		      uint64_t old_size)
{
	static const struct timespec mtime;
	uint64_t end = op->off + op->len;
	uint64_t size = end > old_size ? end : old_size, whole = page_down(size);
	struct msnap_import piece = { .off = page_down(op->off),
				      .hole = op->mode & FALLOC_FL_PUNCH_HOLE };
	uint8_t *pages;
	int err = mapped_pages(pool, op, ino, 0, page_up(size), &pages);

	piece.len = (page_up(end) < whole ? page_up(end) : whole) - piece.off;
	view = pages;
	if (!err)
		err = msnap_import(pool, ino, -1, &piece,
				   piece.off < whole && piece.len ? 1 : 0, size,
				   end > whole ? pages + whole : NULL, &mtime);
	view = NULL;
	free(pages);
	return err;
}

static long do_mapped(struct msnap_pool *pool, const struct op *op)
{
	struct msnap_attr attr;
	struct spot s;
	int err = find_existing(pool, NULL, op->path, &s);

	if (!err)
		err = msnap_getattr(pool, s.id, &attr);
	if (!err && !S_ISREG(attr.mode))
		err = S_ISDIR(attr.mode) ? -EISDIR : -EINVAL; /* open(2) says no */
	if (err)
		return err;
	return op->code == OP_MSYNC ? do_msync(pool, op, s.id.ino, attr.size) :
				      do_absorb(pool, op, s.id.ino, attr.size);
}

static long do_copy(struct msnap_pool *pool, const struct op *op)
{
	struct spot a, b;
	int err = find_existing(pool, op->snap, op->path, &a);

	if (!err)
		err = find_existing(pool, NULL, op->to, &b);
	return err ? err : msnap_copy_range(pool, a.id, op->off, b.id.ino, op->to_off,
					    op->len);
}

static long do_clone(struct msnap_pool *pool, const struct op *op)
{
	struct msnap_attr attr, gone;
	struct spot a, b;
	int err = find_existing(pool, op->snap, op->path, &a);

	if (!err)
		err = find(pool, NULL, op->to, &b);
	if (!err)
		err = msnap_clone(pool, a.id, b.dir.ino, b.name, b.len,
				  (struct msnap_owner){ -1, -1 }, op->mode, &attr,
				  &gone);
	return err ? err : evict(pool, op, &gone);
}

/* ---- snapshots ---------------------------------------------------------------------- */

static long do_snap(struct msnap_pool *pool, const struct op *op)
{
	struct msnap_snap_item item[2];
	struct spot s;
	uint64_t id;
	int err = find_existing(pool, NULL, op->path, &s);

	if (err)
		return err;
	item[0] = item[1] = (struct msnap_snap_item){ .dir = s.id.ino };
	if (op->to) {
		item[0].name = op->to;
		item[0].len = strlen(op->to);
	}
	if (op->to2) {
		item[1].name = op->to2;
		item[1].len = strlen(op->to2);
	}
	return msnap_snap_create(pool, op->snap, "", 0, item, op->to2 ? 2 : 1, &id);
}

static long do_snap_change(struct msnap_pool *pool, const struct op *op)
{
	struct msnap_snap_info info;
	int err = find_snap(pool, op->snap, &info);

	if (err)
		return err;
	return op->code == OP_SNAP_DELETE ?
		       msnap_snap_delete(pool, info.id) :
		       msnap_snap_rename(pool, info.id, op->to);
}

struct changed {
	uint64_t *ino;
	size_t nr;
};

static void note_changed(void *arg, uint64_t ino, const char *name, size_t len)
{
	struct changed *c = arg;

	(void)len;
	if (name)
		return;
	c->ino = model_alloc(c->ino, (c->nr + 1) * sizeof(*c->ino));
	c->ino[c->nr++] = ino;
}

static long do_rollback(struct msnap_pool *pool, const struct op *op)
{
	struct changed c = { 0 };
	struct msnap_snap_info info;
	struct spot s;
	int err = find_snap(pool, op->snap, &info);

	if (!err)
		err = find_existing(pool, NULL, op->path, &s);
	if (!err)
		err = msnap_rollback(pool, info.id, s.id.ino, op->to,
				     op->to ? strlen(op->to) : 0, note_changed, &c);
	/* Files that the rollback removed, and that nobody has open. */
	for (size_t i = 0; !err && !op->hold && i < c.nr; i++)
		err = msnap_evict(pool, c.ino[i]);
	free(c.ino);
	return err;
}

/* ---- all ------------------------------------------------------------------------------ */

long op_on_pool(struct msnap_pool *pool, const struct op *op)
{
	switch (op->code) {
	case OP_CREATE:
	case OP_MKDIR:
	case OP_SYMLINK:
		return do_create(pool, op);
	case OP_TMPFILE:
		return do_tmpfile(pool, op);
	case OP_LINK:
		return do_link(pool, op);
	case OP_UNLINK:
	case OP_RMDIR:
		return do_unlink(pool, op);
	case OP_RENAME:
		return do_rename(pool, op);
	case OP_MSYNC:
	case OP_ABSORB:
		return do_mapped(pool, op);
	case OP_COPY:
		return do_copy(pool, op);
	case OP_CLONE:
		return do_clone(pool, op);
	case OP_SNAP:
		return do_snap(pool, op);
	case OP_SNAP_DELETE:
	case OP_SNAP_RENAME:
		return do_snap_change(pool, op);
	case OP_ROLLBACK:
		return do_rollback(pool, op);
	case OP_COMMIT:
		return msnap_commit(pool);
	case OP_SETTLE:
		return msnap_pool_settle(pool);
	default:
		return do_file(pool, op);
	}
}

/* Stores behind the file's end are lost. */
static long msync_on_model(struct model *m, const struct op *op)
{
	uint8_t *data = op_data(op);
	long ret = model_store(m, op->path, data, op->len, op->off);

	free(data);
	return ret;
}

static long data_on_model(struct model *m, const struct op *op)
{
	uint8_t *data = op_data(op);
	long ret = op->code == OP_SETXATTR ?
			   model_xattr_set(m, op->path, op->to, data, op->len) :
			   model_write(m, op->path, data, op->len, op->off);

	free(data);
	return ret;
}

static long tmpfile_on_model(struct model *m, const struct op *op)
{
	int err = model_create(m, op->path, S_IFREG | 0644, NULL);

	return err ? err : data_on_model(m, op);
}

static long file_on_model(struct model *m, const struct op *op)
{
	switch (op->code) {
	case OP_ABSORB:
		if (op->mode & FALLOC_FL_PUNCH_HOLE)
			return model_fallocate(m, op->path, FALLOC_FL_ZERO_RANGE,
					       op->off, op->len);
		return data_on_model(m, op);
	case OP_WRITE:
	case OP_SETXATTR:
		return data_on_model(m, op);
	case OP_MSYNC:
		return msync_on_model(m, op);
	case OP_TRUNCATE:
		return model_truncate(m, op->path, op->len);
	case OP_FALLOCATE:
		return model_fallocate(m, op->path, op->mode, op->off, op->len);
	case OP_COPY:
		return model_copy_range(m, op->snap, op->path, op->off, op->to,
					op->to_off, op->len);
	case OP_CHMOD:
		return model_chmod(m, op->path, op->mode, op->off);
	default:
		return model_xattr_remove(m, op->path, op->to);
	}
}

long op_on_model(struct model *m, const struct op *op)
{
	switch (op->code) {
	case OP_CREATE:
		return model_create(m, op->path, S_IFREG | 0644, NULL);
	case OP_MKDIR:
		return model_create(m, op->path, S_IFDIR | 0755, NULL);
	case OP_SYMLINK:
		return model_create(m, op->path, S_IFLNK | 0777, op->to);
	case OP_TMPFILE:
		return tmpfile_on_model(m, op);
	case OP_LINK:
		return model_link(m, op->path, op->to);
	case OP_UNLINK:
	case OP_RMDIR:
		return model_unlink(m, op->path, op->code == OP_RMDIR);
	case OP_RENAME:
		return model_rename(m, op->path, op->to, op->mode);
	case OP_CLONE:
		return model_clone(m, op->snap, op->path, op->to,
				   op->mode & MSNAP_CLONE_REPLACE);
	case OP_SNAP:
		return model_snap_create(m, op->snap, op->path, op->to, op->to2);
	case OP_SNAP_DELETE:
		return model_snap_delete(m, op->snap);
	case OP_SNAP_RENAME:
		return model_snap_rename(m, op->snap, op->to);
	case OP_ROLLBACK:
		return model_rollback(m, op->snap, op->path, op->to);
	case OP_COMMIT:
	case OP_SETTLE:
		return 0;
	default:
		return file_on_model(m, op);
	}
}

bool op_commits(const struct op *op)
{
	switch (op->code) {
	case OP_CLONE:
	case OP_SNAP:
	case OP_SNAP_DELETE:
	case OP_SNAP_RENAME:
	case OP_ROLLBACK:
	case OP_MSYNC:
	case OP_COMMIT:
		return true;
	default:
		return false;
	}
}

void op_print(const struct op *op, char *buf, size_t size)
{
	static const char *const name[OP_NR] = {
		"create", "tmpfile", "mkdir", "symlink", "link", "unlink", "rmdir",
		"rename", "write", "msync", "absorb", "truncate", "fallocate", "copy", "clone", "chmod",
		"setxattr", "rmxattr", "snap", "snap-delete", "snap-rename",
		"rollback", "commit", "settle",
	};
	bool bytes = op->len || op->off || op->to_off;

	snprintf(buf, size, "%s%s%s%s%s%s%.40s%s%s%s", name[op->code],
		 op->snap ? " @" : "", op->snap ? op->snap : "",
		 op->path ? " /" : "", op->path ? op->path : "",
		 op->to ? " > " : "", op->to ? op->to : "", op->to2 ? " + " : "",
		 op->to2 ? op->to2 : "", op->hold ? " (open)" : "");
	if (bytes || op->mode)
		snprintf(buf + strlen(buf), size - strlen(buf),
			 " off %llu to %llu len %llu mode %#x",
			 (unsigned long long)op->off, (unsigned long long)op->to_off,
			 (unsigned long long)op->len, op->mode);
}
