/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record.c - what may stand in a leaf.  Everything that reads records relies on
 * these checks having been made when the node was first read.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "node.h"

static bool all_zero(const void *p, size_t len)
{
	const uint8_t *b = p;

	while (len--)
		if (*b++)
			return false;
	return true;
}

static bool ref_valid(const struct msnap_pool *pool, struct msnap_ref ref)
{
	uint64_t blk = get64(ref.blk);

	return blk == 0 ? get64(ref.gen) == 0 : msnap_blk_valid(pool, blk, 1);
}

static const char *inode_valid(const struct msnap_pool *pool,
			       struct msnap_key key, const void *val, unsigned len)
{
	const struct msnap_inode *in = val;

	if (len != sizeof(*in) || key.lo << 8)
		return "an inode of the wrong size";
	if (!ref_valid(pool, in->ext))
		return "extents outside the pool";
	if (get64(in->size) > INT64_MAX)
		return "an impossible file size";
	if (!S_ISREG(get32(in->mode)) && get64(in->ext.blk))
		return "extents of something that is no file";
	if (get32(in->flags) & ~MSNAP_INODE_FRAME || !all_zero(in->reserved, sizeof(in->reserved)))
		return "reserved bytes in use";
	return NULL;
}

static bool name_valid(const char *name, unsigned len)
{
	if (len == 0 || len > MSNAP_NAME_MAX || memchr(name, 0, len) ||
	    memchr(name, '/', len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

static const char *dirent_valid(struct msnap_key key, const void *val, unsigned len)
{
	const struct msnap_dirent *de = val;

	/* The rest of the key is readdir's cookie, and 0 is the start. */
	if (!(key.lo << 8))
		return "an impossible hash of a name";
	if (len < sizeof(*de) || len != sizeof(*de) + de->len)
		return "a directory entry of the wrong size";
	if (!name_valid(de->name, de->len))
		return "an impossible name";
	if (get64(de->ino) == 0 || get64(de->ino) >= MSNAP_MAX_INO)
		return "an entry without an inode";
	if (!all_zero(de->reserved, sizeof(de->reserved)))
		return "reserved bytes in use";
	return NULL;
}

static const char *xattr_valid(struct msnap_key key, const void *val,
			       unsigned len)
{
	const struct msnap_xattr *xa = val;

	if ((key.lo & 0xff) != 0)
		return len == 0 || len > MSNAP_CHUNK ?
			       "an xattr piece of the wrong size" : NULL;
	if (len < sizeof(*xa) || len < sizeof(*xa) + xa->name_len ||
	    get32(xa->len) > MSNAP_XATTR_MAX)
		return "an xattr of the wrong size";
	if (xa->name_len == 0 || memchr(xa->name, 0, xa->name_len))
		return "an impossible xattr name";
	if (len - sizeof(*xa) - xa->name_len > get32(xa->len))
		return "an xattr longer than it says";
	if (!all_zero(xa->reserved, sizeof(xa->reserved)))
		return "reserved bytes in use";
	return NULL;
}

static const char *ns_valid(const struct msnap_pool *pool, struct msnap_key key,
			    const void *val, unsigned len)
{
	if (key.hi == 0 || key.hi >= MSNAP_MAX_INO)
		return "an impossible inode number";
	switch (key.lo >> 56) {
	case MSNAP_NS_INODE:
		return inode_valid(pool, key, val, len);
	case MSNAP_NS_DIRENT:
		return dirent_valid(key, val, len);
	case MSNAP_NS_XATTR:
		return xattr_valid(key, val, len);
	case MSNAP_NS_SYMLINK:
		return len == 0 || len > MSNAP_CHUNK ?
			       "a symlink of the wrong size" : NULL;
	default:
		return "a record of unknown kind";
	}
}

static const char *extent_valid(const struct msnap_pool *pool,
				struct msnap_key key, const void *val,
				unsigned len)
{
	const struct msnap_extent *ex = val;
	unsigned nr, flags;

	if (len < sizeof(*ex))
		return "an extent of the wrong size";
	nr = get16(ex->nr);
	flags = get16(ex->flags);
	if (nr == 0 || flags & ~MSNAP_EXT_FLAGS || get32(ex->reserved))
		return "an impossible extent";
	if (flags ? len != sizeof(*ex) :
		    nr > MSNAP_EXT_MAX_CSUM || len != sizeof(*ex) + 8 * nr)
		return "an extent of the wrong size";
	if (!msnap_blk_valid(pool, get64(ex->blk), nr))
		return "an extent outside the pool";
	if (key.hi >= 1ull << 51 || key.hi + nr > 1ull << 51)
		return "an extent behind the largest file";
	return NULL;
}

static const char *snap_valid(const struct msnap_pool *pool, const void *val,
			      unsigned len)
{
	const struct msnap_snap *sn = val;

	if (len < sizeof(*sn) ||
	    len != sizeof(*sn) + sn->name_len + get16(sn->comment_len))
		return "a snapshot of the wrong size";
	if (!name_valid(sn->text, sn->name_len) ||
	    sn->name_len > MSNAP_SNAP_NAME_MAX ||
	    get16(sn->comment_len) > MSNAP_COMMENT_MAX)
		return "an impossible snapshot name";
	if (get64(sn->ns.blk) == 0 || !ref_valid(pool, sn->ns))
		return "a snapshot outside the pool";
	if (get32(sn->flags) & ~MSNAP_SNAP_PARTIAL || sn->reserved0)
		return "reserved bytes in use";
	return NULL;
}

static const char *drop_valid(const struct msnap_pool *pool, const void *val,
			      unsigned len)
{
	const struct msnap_drop *d = val;

	if (len != sizeof(*d) || get32(d->reserved))
		return "a dropped tree of the wrong size";
	if (get32(d->type) != MSNAP_TREE_NS && get32(d->type) != MSNAP_TREE_EXTENT)
		return "a dropped tree of unknown type";
	if (get64(d->root.blk) == 0 || !ref_valid(pool, d->root))
		return "a dropped tree outside the pool";
	return NULL;
}

static const char *scrub_valid(uint64_t number, const void *val, unsigned len)
{
	const struct msnap_scrub_rec *rec = val;

	if (len != sizeof(*rec) || number)
		return "a scrub of the wrong size";
	if (get32(rec->where) > MSNAP_SCRUB_WHERE_MAX ||
	    get64(rec->snap) > MSNAP_MAX_SNAP)
		return "a scrub in an impossible place";
	if (get32(rec->flags) & ~MSNAP_SCRUB_REC_DONE ||
	    !all_zero(rec->reserved, sizeof(rec->reserved)))
		return "reserved bytes in use";
	return NULL;
}

static const char *catalog_valid(const struct msnap_pool *pool,
				 struct msnap_key key, const void *val,
				 unsigned len)
{
	uint64_t number = key.hi & ~(0xffull << 56);

	/* What is found by its number must be found by its key. */
	if (key.lo)
		return "an impossible catalog key";
	switch (key.hi >> 56) {
	case MSNAP_CAT_SNAP:
		return number - 1 >= MSNAP_MAX_SNAP ?
			       "an impossible snapshot number" :
			       snap_valid(pool, val, len);
	case MSNAP_CAT_DROP:
		return drop_valid(pool, val, len);
	case MSNAP_CAT_ORPHAN:
	case MSNAP_CAT_VIEW:
		return len || number - 1 >= MSNAP_MAX_INO - 1 ?
			       "an impossible orphan or view" : NULL;
	case MSNAP_CAT_SCRUB:
		return scrub_valid(number, val, len);
	default:
		return "a catalog record of unknown kind";
	}
}

const char *msnap_record_valid(const struct msnap_pool *pool, unsigned type,
			       struct msnap_key key, const void *val, unsigned len)
{
	switch (type) {
	case MSNAP_TREE_NS:
		return ns_valid(pool, key, val, len);
	case MSNAP_TREE_EXTENT:
		return extent_valid(pool, key, val, len);
	default:
		return catalog_valid(pool, key, val, len);
	}
}
