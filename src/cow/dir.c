/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dir.c - names in directories.
 *
 * The key of an entry is the hash of its name (48 bits, never 0, seeded per pool)
 * and a number that tells names of one hash apart, so that a directory of millions
 * is one range of the namespace tree, and the key serves as readdir's cookie.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "csum.h"
#include "inode.h"

int msnap_name_check(const char *name, size_t len)
{
	if (len > MSNAP_NAME_MAX)
		return -ENAMETOOLONG;
	if (len == 0 || memchr(name, 0, len) || memchr(name, '/', len))
		return -EINVAL;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return -EINVAL;
	return 0;
}

/* The first key that a name can have; seq is its low byte. */
static struct msnap_key name_key(struct msnap_pool *pool, uint64_t dir,
				 const char *name, size_t len)
{
	uint64_t hash = msnap_hash_name(name, len, pool->hash_seed) >> 16;

	return msnap_ns_key(dir, MSNAP_NS_DIRENT, (hash ? hash : 1) << 8);
}

/*
 * Look through the names of one hash: 0 and *key when found, else -ENOENT and
 * *key the first that is free; -ENOSPC when all 256 are taken.
 */
static int probe(struct msnap_pool *pool, const struct msnap_tree *ns,
		 const char *name, size_t len, struct msnap_key *key,
		 struct msnap_dirent *found)
{
	struct msnap_key base = *key, unused = base;
	struct msnap_cursor cur;
	int err = msnap_cursor_seek(pool, ns, base, &cur);

	while (!err) {
		struct msnap_key k = msnap_cursor_key(&cur);
		const struct msnap_dirent *de;
		unsigned vlen;

		if (k.hi != base.hi || k.lo >> 8 != base.lo >> 8)
			break;
		de = msnap_cursor_val(&cur, &vlen);
		if (de->len == len && memcmp(de->name, name, len) == 0) {
			*key = k;
			*found = *de;
			return 0;
		}
		if (k.lo == unused.lo)
			unused.lo++;
		err = msnap_cursor_next(&cur);
	}
	if (err && err != -ENOENT)
		return err;
	if (unused.lo >> 8 != base.lo >> 8)
		return -ENOSPC;
	*key = unused;
	return -ENOENT;
}

int msnap_dirent_find(struct msnap_pool *pool, const struct msnap_tree *ns,
		      uint64_t dir, const char *name, size_t len,
		      struct msnap_key *key, uint64_t *ino, uint8_t *type)
{
	struct msnap_dirent de;
	struct msnap_key k = name_key(pool, dir, name, len);
	int err = probe(pool, ns, name, len, &k, &de);

	if (err)
		return err == -ENOSPC ? -ENOENT : err;
	*key = k;
	*ino = get64(de.ino);
	*type = de.type;
	return 0;
}

int msnap_dirent_add(struct msnap_pool *pool, struct msnap_tree *ns, uint64_t dir,
		     const char *name, size_t len, uint64_t ino, uint8_t type)
{
	uint8_t buf[sizeof(struct msnap_dirent) + MSNAP_NAME_MAX];
	struct msnap_dirent *de = (void *)buf, other;
	struct msnap_key key = name_key(pool, dir, name, len);
	int err = probe(pool, ns, name, len, &key, &other);

	if (err != -ENOENT)
		return err ? err : -EEXIST;
	memset(de, 0, sizeof(*de));
	de->ino = put64(ino);
	de->type = type;
	de->len = len;
	memcpy(de->name, name, len);
	return msnap_tree_put(pool, ns, key, de, sizeof(*de) + len, MSNAP_PUT_NEW);
}

int msnap_dir_used(struct msnap_pool *pool, const struct msnap_tree *ns,
		   uint64_t dir)
{
	struct msnap_cursor cur;
	struct msnap_key key;
	int err = msnap_cursor_seek(pool, ns, msnap_ns_key(dir, MSNAP_NS_DIRENT, 0),
				    &cur);

	if (err)
		return err == -ENOENT ? 0 : err;
	key = msnap_cursor_key(&cur);
	return key.hi == dir && key.lo >> 56 == MSNAP_NS_DIRENT;
}

static int lookup(struct msnap_pool *pool, struct msnap_id dir, const char *name,
		  size_t len, struct msnap_attr *attr)
{
	struct msnap_inode in;
	struct msnap_tree ns;
	struct msnap_key key;
	uint64_t ino;
	uint8_t type;
	int err = msnap_ns_of(pool, dir.snap, &ns);

	if (!err)
		err = msnap_dirent_find(pool, &ns, dir.ino, name, len, &key, &ino,
					&type);
	if (!err)
		err = msnap_inode_get(pool, &ns, ino, &in);
	if (!err)
		msnap_inode_attr(ino, &in, attr);
	return err;
}

int msnap_lookup(struct msnap_pool *pool, struct msnap_id dir, const char *name,
		 size_t len, struct msnap_attr *attr)
{
	int err = msnap_name_check(name, len);

	return err ? err : MSNAP_LOOK(pool, lookup(pool, dir, name, len, attr));
}

static int each(struct msnap_pool *pool, struct msnap_id dir, uint64_t cookie,
		int (*cb)(void *arg, const struct msnap_entry *entry), void *arg)
{
	struct msnap_cursor cur;
	struct msnap_tree ns;
	int err = msnap_ns_of(pool, dir.snap, &ns);

	if (err)
		return err; /* no such snapshot, not the end of a directory */
	err = msnap_cursor_seek(pool, &ns,
				msnap_ns_key(dir.ino, MSNAP_NS_DIRENT,
					     cookie ? cookie + 1 : 0),
				&cur);
	while (!err) {
		struct msnap_key key = msnap_cursor_key(&cur);
		const struct msnap_dirent *de;
		struct msnap_entry entry;
		unsigned len;

		if (key.hi != dir.ino || key.lo >> 56 != MSNAP_NS_DIRENT)
			break;
		de = msnap_cursor_val(&cur, &len);
		entry = (struct msnap_entry){ de->name, de->len, get64(de->ino),
					      de->type,
					      key.lo & ~(0xffull << 56) };
		if (cb(arg, &entry))
			break;
		err = msnap_cursor_next(&cur);
	}
	return err == -ENOENT ? 0 : err;
}

int msnap_readdir(struct msnap_pool *pool, struct msnap_id dir, uint64_t cookie,
		  int (*cb)(void *arg, const struct msnap_entry *entry),
		  void *arg)
{
	if (cookie >> 56)
		return -EINVAL;
	return MSNAP_LOOK(pool, each(pool, dir, cookie, cb, arg));
}
