/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xattr.c - extended attributes: a record with the name and the start of the value,
 * and more records for the rest of a long one.
 */
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "csum.h"
#include "inode.h"

#define CHUNKS 256 /* numbers of a piece: the low byte of the key */

static struct msnap_key xattr_key(struct msnap_pool *pool, uint64_t ino,
				  const char *name)
{
	uint64_t hash = msnap_hash_name(name, strlen(name), pool->hash_seed) >> 24;

	return msnap_ns_key(ino, MSNAP_NS_XATTR, hash << 16);
}

static int check_name(const char *name)
{
	size_t len = strlen(name);

	return len == 0 ? -EINVAL : len > MSNAP_NAME_MAX ? -ERANGE : 0;
}

/* As in dir.c: 0 and the key of the first piece, or -ENOENT and a free key. */
static int probe(struct msnap_pool *pool, const struct msnap_tree *ns,
		 const char *name, struct msnap_key *key)
{
	struct msnap_key base = *key, unused = base;
	struct msnap_cursor cur;
	size_t len = strlen(name);
	int err = msnap_cursor_seek(pool, ns, base, &cur);

	while (!err) {
		struct msnap_key k = msnap_cursor_key(&cur);
		const struct msnap_xattr *xa;
		unsigned vlen;

		if (k.hi != base.hi || k.lo >> 16 != base.lo >> 16)
			break;
		xa = msnap_cursor_val(&cur, &vlen);
		if (!(k.lo % CHUNKS)) {
			if (xa->name_len == len && !memcmp(xa->name, name, len)) {
				*key = k;
				return 0;
			}
			if (k.lo == unused.lo)
				unused.lo += CHUNKS;
		}
		err = msnap_cursor_next(&cur);
	}
	if (err && err != -ENOENT)
		return err;
	if (unused.lo >> 16 != base.lo >> 16)
		return -ENOSPC;
	*key = unused;
	return -ENOENT;
}

/* ---- reading ---------------------------------------------------------------------- */

static int copy_value(struct msnap_pool *pool, const struct msnap_tree *ns,
		      struct msnap_key key, uint8_t *buf, size_t size)
{
	struct msnap_cursor cur;
	const struct msnap_xattr *xa;
	size_t total, done = 0;
	unsigned len;
	int err = msnap_cursor_seek(pool, ns, key, &cur);

	if (err)
		return err;
	xa = msnap_cursor_val(&cur, &len);
	total = get32(xa->len);
	if (size == 0)
		return total;
	if (size < total)
		return -ERANGE;
	done = len - sizeof(*xa) - xa->name_len;
	memcpy(buf, xa->name + xa->name_len, done);
	while (done < total) {
		const void *val;

		err = msnap_cursor_next(&cur);
		if (err && err != -ENOENT)
			return err;
		val = err ? NULL : msnap_cursor_val(&cur, &len);
		if (err || msnap_cursor_key(&cur).hi != key.hi ||
		    msnap_cursor_key(&cur).lo >> 8 != key.lo >> 8 ||
		    len > total - done)
			return msnap_damaged(pool, "inode %llu: an xattr lacks a "
					     "piece", (unsigned long long)key.hi);
		memcpy(buf + done, val, len);
		done += len;
	}
	return total;
}

static int get(struct msnap_pool *pool, struct msnap_id id, const char *name,
	       void *buf, size_t size)
{
	struct msnap_key key = xattr_key(pool, id.ino, name);
	struct msnap_tree ns;
	int err = msnap_ns_of(pool, id.snap, &ns);

	if (!err)
		err = probe(pool, &ns, name, &key);
	if (err)
		return err == -ENOENT || err == -ENOSPC ? -ENODATA : err;
	return copy_value(pool, &ns, key, buf, size);
}

int msnap_xattr_get(struct msnap_pool *pool, struct msnap_id id,
		    const char *name, void *buf, size_t size)
{
	int err = check_name(name);

	if (err)
		return err == -ERANGE ? -ENODATA : err;
	return MSNAP_LOOK(pool, get(pool, id, name, buf, size));
}

static int list(struct msnap_pool *pool, struct msnap_id id, char *buf, size_t size)
{
	struct msnap_cursor cur;
	struct msnap_tree ns;
	size_t done = 0;
	int err = msnap_ns_of(pool, id.snap, &ns);

	if (!err)
		err = msnap_cursor_seek(pool, &ns,
					msnap_ns_key(id.ino, MSNAP_NS_XATTR, 0),
					&cur);
	while (!err) {
		struct msnap_key k = msnap_cursor_key(&cur);
		const struct msnap_xattr *xa;
		unsigned len;

		if (k.hi != id.ino || k.lo >> 56 != MSNAP_NS_XATTR)
			break;
		xa = msnap_cursor_val(&cur, &len);
		if (!(k.lo % CHUNKS)) {
			if (size && done + xa->name_len + 1u > size)
				return -ERANGE;
			if (size) {
				memcpy(buf + done, xa->name, xa->name_len);
				buf[done + xa->name_len] = 0;
			}
			done += xa->name_len + 1u;
		}
		err = msnap_cursor_next(&cur);
	}
	return err && err != -ENOENT ? err : (int)done;
}

int msnap_xattr_list(struct msnap_pool *pool, struct msnap_id id, char *buf,
		     size_t size)
{
	return MSNAP_LOOK(pool, list(pool, id, buf, size));
}

/* ---- changing ------------------------------------------------------------------------ */

static int cut_value(struct msnap_pool *pool, struct msnap_key key)
{
	struct msnap_key hi = { key.hi, key.lo | (CHUNKS - 1) };

	return msnap_tree_cut(pool, &pool->ns, key, hi, NULL);
}

static int put_value(struct msnap_pool *pool, struct msnap_key key,
		     const char *name, const uint8_t *value, size_t size)
{
	uint8_t buf[MSNAP_VAL_MAX];
	struct msnap_xattr *xa = (void *)buf;
	size_t name_len = strlen(name), done;
	int err;

	memset(xa, 0, sizeof(*xa));
	xa->len = put32(size);
	xa->name_len = name_len;
	memcpy(xa->name, name, name_len);
	done = size < MSNAP_CHUNK ? size : MSNAP_CHUNK;
	if (done)
		memcpy(xa->name + name_len, value, done);
	err = msnap_tree_put(pool, &pool->ns, key, xa,
			     sizeof(*xa) + name_len + done, MSNAP_PUT_NEW);
	while (!err && done < size) {
		size_t n = size - done < MSNAP_CHUNK ? size - done : MSNAP_CHUNK;

		key.lo++;
		err = msnap_tree_put(pool, &pool->ns, key, value + done, n,
				     MSNAP_PUT_NEW);
		done += n;
	}
	return err;
}

static int touch_inode(struct msnap_pool *pool, uint64_t ino)
{
	struct msnap_inode in;
	int err = msnap_inode_get(pool, &pool->ns, ino, &in);

	if (err)
		return err;
	msnap_inode_changed(&in);
	return msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_OLD);
}

static int do_set(struct msnap_pool *pool, uint64_t ino, const char *name,
		  const void *value, size_t size, int flags)
{
	struct msnap_key key = xattr_key(pool, ino, name);
	int err = touch_inode(pool, ino);

	if (err)
		return err;
	err = probe(pool, &pool->ns, name, &key);
	if (err && err != -ENOENT)
		return err;
	if (!err && flags & XATTR_CREATE)
		return -EEXIST;
	if (err && flags & XATTR_REPLACE)
		return -ENODATA;
	if (!err)
		err = cut_value(pool, key);
	else
		err = 0;
	return err ? err : put_value(pool, key, name, value, size);
}

int msnap_xattr_set(struct msnap_pool *pool, uint64_t ino, const char *name,
		    const void *value, size_t size, int flags)
{
	int err = check_name(name);

	if (!err && size > MSNAP_XATTR_MAX)
		err = -E2BIG;
	if (!err)
		err = msnap_op_begin(pool, 2 * MSNAP_OP_BLOCKS);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_set(pool, ino, name, value,
							    size, flags)));
	return err;
}

static int do_remove(struct msnap_pool *pool, uint64_t ino, const char *name)
{
	struct msnap_key key = xattr_key(pool, ino, name);
	int err = touch_inode(pool, ino);

	if (!err)
		err = probe(pool, &pool->ns, name, &key);
	if (err)
		return err == -ENOENT || err == -ENOSPC ? -ENODATA : err;
	return cut_value(pool, key);
}

int msnap_xattr_remove(struct msnap_pool *pool, uint64_t ino, const char *name)
{
	int err = check_name(name);

	if (!err)
		err = msnap_op_begin(pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE);
	if (!err)
		err = msnap_op_end(pool, MSNAP_GUARD(do_remove(pool, ino, name)));
	return err;
}
