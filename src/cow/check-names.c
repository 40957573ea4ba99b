/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check-names.c - do names and inodes agree, in the live tree and in each snapshot?
 *
 * The trees are whole when this runs, so that records are read and repairs made with
 * the ordinary calls, each repair an operation of its own.  Every loop looks its next
 * record up by key and works on a copy: what a repair changes does not disturb it.
 *
 * A snapshot of the root directory has every name, as the live tree has.  One of
 * other directories or of chosen entries need not: the directories it was taken of
 * have no name in it, and a file may have more links than names.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check-names.h"
#include "csum.h"

#define PROGRESS_INODES 1024 /* between two reports */

/* ---- one inode's own records ---------------------------------------- */

/* Records of an inode that is not there. */
static int check_stray(struct msnap_names *n, uint64_t ino)
{
	struct msnap_names_range all = { { ino, 0 }, { ino, UINT64_MAX } };

	if (!(n->c->flags & MSNAP_CHECK_STRICT))
		return 0;
	if (msnap_names_has(n, ino, MSNAP_NS_DIRENT)) {
		if (!msnap_check_found(n->c, true, "make it again",
				       "%s, inode %llu: a directory that has entries, "
				       "but no inode", n->where, (ull)ino))
			return 0;
		return msnap_names_change(n, msnap_names_make_again, &ino);
	}
	if (!msnap_check_found(n->c, true, "drop them",
			       "%s, inode %llu: is not there, but has records",
			       n->where, (ull)ino))
		return 0;
	return msnap_names_change(n, msnap_names_cut, &all);
}

/* Records of a kind that only another type of inode has. */
static int check_kind(struct msnap_names *n, uint64_t ino, unsigned kind,
		      const char *what)
{
	if (!msnap_names_has(n, ino, kind) ||
	    !msnap_check_found(n->c, false, "drop them", "%s, inode %llu: %s",
			       n->where, (ull)ino, what))
		return 0;
	return msnap_names_cut_kind(n, ino, kind);
}

/* How long is the target, as far as its pieces are all there? */
static uint64_t target_len(struct msnap_names *n, uint64_t ino)
{
	uint64_t sum = 0, piece = 0;
	struct msnap_record r;

	while (!msnap_names_find_of(n, ino, MSNAP_NS_SYMLINK, piece, &r) &&
	       msnap_names_rest(r.key) == piece) {
		sum += r.len;
		if (r.len < MSNAP_CHUNK)
			break;
		piece++;
	}
	return sum;
}

static int check_symlink(struct msnap_names *n, uint64_t ino, struct msnap_inode *in)
{
	uint64_t len = target_len(n, ino);

	if (!len) {
		if (!msnap_check_found(n->c, true, "delete it",
				       "%s, inode %llu: a symbolic link without a "
				       "target", n->where, (ull)ino))
			return 0;
		return msnap_names_change(n, msnap_names_erase, &ino);
	}
	if (len == get64(in->size) ||
	    !msnap_check_found(n->c, true, "correct it",
			       "%s, inode %llu: the target has %llu bytes, not %llu",
			       n->where, (ull)ino, (ull)len, (ull)get64(in->size)))
		return 0;
	in->size = put64(len);
	return msnap_names_put_inode(n, ino, in);
}

static bool known_type(uint32_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) ||
	       S_ISBLK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode);
}

/* ---- extended attributes -------------------------------------------- */

/* Has the attribute that begins with @r all its pieces, and the key of its name? */
static bool xattr_whole(struct msnap_names *n, uint64_t ino,
			const struct msnap_record *r)
{
	uint64_t rest = msnap_names_rest(r->key), hash, have, total = get32(r->xa.len);
	struct msnap_record piece;

	if (rest & 0xff)
		return false;
	hash = msnap_hash_name(r->xa.name, r->xa.name_len, n->pool->hash_seed);
	if (rest >> 16 != hash >> 24)
		return false;
	have = r->len - sizeof(r->xa) - r->xa.name_len;
	while (have < total) {
		if (msnap_names_find_of(n, ino, MSNAP_NS_XATTR, ++rest, &piece) ||
		    msnap_names_rest(piece.key) != rest || !(rest & 0xff))
			return false;
		have += piece.len;
	}
	if (have > total)
		return false;
	/* And none too many. */
	return msnap_names_find_of(n, ino, MSNAP_NS_XATTR, rest + 1, &piece) ||
	       msnap_names_rest(piece.key) >> 8 != rest >> 8;
}

static int check_xattrs(struct msnap_names *n, uint64_t ino)
{
	uint64_t at = 0;
	struct msnap_record r;
	int err = 0;

	while (!err && !msnap_names_find_of(n, ino, MSNAP_NS_XATTR, at, &r)) {
		struct msnap_names_range all = { r.key, { ino, r.key.lo | 0xff } };

		at = (msnap_names_rest(r.key) | 0xff) + 1;
		if (!xattr_whole(n, ino, &r) &&
		    msnap_check_found(n->c, false, "drop it",
				      "%s, inode %llu: an extended attribute that is "
				      "not whole", n->where, (ull)ino))
			err = msnap_names_change(n, msnap_names_cut, &all);
		if (at >> 56)
			break;
	}
	return err;
}

/* The contents go to an inode of their own, which has no name yet; what they were in
 * becomes a directory. */
static int move_contents_fn(struct msnap_names *n, void *arg)
{
	struct msnap_inode in, *dir = arg;
	uint64_t ino = n->pool->next_ino;
	int err;

	if (ino >= MSNAP_MAX_INO)
		return -ENOSPC;
	in = *dir;
	dir->mode = put32(S_IFDIR | 0700);
	dir->ext = (struct msnap_ref){ put64(0), put64(0) };
	dir->nr_blk = dir->size = put64(0);
	n->pool->next_ino++;
	msnap_names_count(n, 1);
	err = msnap_inode_put(n->pool, n->ns, ino, &in, MSNAP_PUT_NEW);
	return err ? err : msnap_inode_put(n->pool, n->ns, n->top, dir,
					   MSNAP_PUT_OLD);
}

/* Only directories have entries: an inode that has some is one, unless it has
 * contents, too. */
static int check_is_dir(struct msnap_names *n, uint64_t ino, struct msnap_inode *in)
{
	if (get64(in->ext.blk) && ino == n->top && n->complete)
		return msnap_check_found(n->c, true, "move its contents",
					 "%s, inode %llu: must be a directory, but "
					 "is a file", n->where, (ull)ino) ?
			       msnap_names_change(n, move_contents_fn, in) : 0;
	if (get64(in->ext.blk))
		return check_kind(n, ino, MSNAP_NS_DIRENT,
				  "is a file, but has entries");
	if ((!msnap_names_has(n, ino, MSNAP_NS_DIRENT) && (ino != n->top || !n->complete)) ||
	    !msnap_check_found(n->c, true, "make it a directory",
			       "%s, inode %llu: must be a directory, but is of type "
			       "%o", n->where, (ull)ino, get32(in->mode) & S_IFMT))
		return 0;
	in->mode = put32(S_IFDIR | 0700);
	return msnap_names_put_inode(n, ino, in);
}

static int check_parts(struct msnap_names *n, uint64_t ino)
{
	struct msnap_inode in;
	int err = msnap_inode_get(n->pool, n->ns, ino, &in);
	uint32_t mode;

	if (err)
		return err == -ENOENT ? check_stray(n, ino) : err;
	if (!S_ISDIR(get32(in.mode)))
		err = check_is_dir(n, ino, &in);
	mode = get32(in.mode);
	if (err)
		return err;
	if (!known_type(mode))
		return msnap_check_found(n->c, false, "delete it",
					 "%s, inode %llu: of unknown type %o",
					 n->where, (ull)ino, mode) ?
			       msnap_names_change(n, msnap_names_erase, &ino) : 0;
	if (!S_ISLNK(mode))
		err = check_kind(n, ino, MSNAP_NS_SYMLINK,
				 "is no symbolic link, but has a target");
	if (!err)
		err = check_xattrs(n, ino);
	if (!err && S_ISLNK(mode))
		err = check_symlink(n, ino, &in);
	return err;
}

/* ---- entries -------------------------------------------------------- */

/* Drop an entry, once it was said why. */
static int drop_entry(struct msnap_names *n, struct msnap_record *r, const char *why)
{
	if (!msnap_check_found(n->c, true, "drop it",
			       "%s, directory %llu, entry \"%.*s\": %s", n->where,
			       (ull)r->key.hi, r->de.len, r->de.name, why))
		return 0;
	return msnap_names_change(n, msnap_names_unname, r);
}

/* The entry was moved to where its name belongs.  1: behind us, so it is to be counted
 * now; 0: it is still to come. */
static int moved_behind(struct msnap_names *n, struct msnap_record *r)
{
	struct msnap_key key;
	uint64_t ino;
	uint8_t type;
	int err = msnap_dirent_find(n->pool, n->ns, r->key.hi, r->de.name, r->de.len,
				    &key, &ino, &type);

	if (err || msnap_key_cmp(key, r->key) > 0)
		return err;
	r->key = key;
	return 1;
}

/* Can the entry be found under its name?  1: yes, 0: no, and that was dealt with. */
static int check_hash(struct msnap_names *n, struct msnap_record *r)
{
	struct msnap_key key;
	uint64_t ino;
	uint8_t type;
	int err = msnap_dirent_find(n->pool, n->ns, r->key.hi, r->de.name, r->de.len,
				    &key, &ino, &type);

	if (!err && !msnap_key_cmp(key, r->key))
		return 1;
	if (!err)
		return drop_entry(n, r, "there is another of that name");
	if (err != -ENOENT)
		return err;
	if (!msnap_check_found(n->c, true, "put it there",
			       "%s, directory %llu, entry \"%.*s\": is not where its "
			       "name belongs", n->where, (ull)r->key.hi, r->de.len,
			       r->de.name))
		return 1;
	err = msnap_names_change(n, msnap_names_rehash, r);
	return err ? err : moved_behind(n, r);
}

/* Does directory @dir have an entry for directory @ino, other than @but? */
static bool names_it(struct msnap_names *n, uint64_t dir, uint64_t ino,
		     struct msnap_key but)
{
	struct msnap_record r;
	uint64_t at = 0;

	while (!msnap_names_find_of(n, dir, MSNAP_NS_DIRENT, at, &r)) {
		if (get64(r.de.ino) == ino && msnap_key_cmp(r.key, but))
			return true;
		at = msnap_names_rest(r.key) + 1;
		if (at >> 56)
			break;
	}
	return false;
}

/* An entry for a directory: its only one?  1: count it. */
static int check_parent(struct msnap_names *n, struct msnap_record *r,
			struct msnap_inode *in)
{
	uint64_t ino = get64(r->de.ino), dir = r->key.hi, *links;
	int err;

	links = msnap_idmap_find(&n->links, ino);
	if (ino == MSNAP_ROOT_INO)
		return drop_entry(n, r, "names the root directory");
	if ((links && *links) ||
	    (get64(in->parent) != dir && names_it(n, get64(in->parent), ino, r->key)))
		return drop_entry(n, r, "names a directory that has a name already");
	if (get64(in->parent) == dir ||
	    !msnap_check_found(n->c, true, "correct it",
			       "%s, inode %llu: a directory in %llu, but says in "
			       "%llu", n->where, (ull)ino, (ull)dir,
			       (ull)get64(in->parent)))
		return 1;
	in->parent = put64(dir);
	err = msnap_names_put_inode(n, ino, in);
	return err ? err : 1;
}

static int check_entry(struct msnap_names *n, struct msnap_record *r)
{
	uint64_t ino = get64(r->de.ino), *links;
	struct msnap_inode in;
	uint8_t type;
	int ret = check_hash(n, r);

	if (ret != 1)
		return ret;
	ret = msnap_inode_get(n->pool, n->ns, ino, &in);
	if (ret)
		return ret == -ENOENT ? drop_entry(n, r, "names no inode") : ret;
	type = IFTODT(get32(in.mode));
	if (r->de.type != type &&
	    msnap_check_found(n->c, true, "correct it",
			      "%s, directory %llu, entry \"%.*s\": has the wrong type",
			      n->where, (ull)r->key.hi, r->de.len, r->de.name)) {
		r->de.type = type;
		ret = msnap_names_change(n, msnap_names_put, r);
	}
	if (!ret && S_ISDIR(get32(in.mode))) {
		ret = check_parent(n, r, &in);
		if (ret != 1)
			return ret;
		ret = 0;
	}
	links = ret ? NULL : msnap_idmap_at(&n->links, ino);
	if (!links)
		return ret ? ret : -ENOMEM;
	++*links;
	return 0;
}

static int check_entries(struct msnap_names *n, uint64_t dir)
{
	uint64_t at = 0;
	struct msnap_record r;
	int err = 0;

	while (!err && !msnap_names_find_of(n, dir, MSNAP_NS_DIRENT, at, &r)) {
		at = msnap_names_rest(r.key) + 1;
		err = check_entry(n, &r);
		if (at >> 56)
			break;
	}
	return err;
}

/* ---- counts in inodes ----------------------------------------------- */

/* Entries of a directory, and how many of them are directories. */
static int count_entries(struct msnap_names *n, uint64_t dir, uint64_t *nr,
			 uint64_t *dirs)
{
	struct msnap_cursor cur;
	unsigned len;
	int err = msnap_cursor_seek(n->pool, n->ns,
				    msnap_ns_key(dir, MSNAP_NS_DIRENT, 0), &cur);

	*nr = *dirs = 0;
	while (!err) {
		struct msnap_key key = msnap_cursor_key(&cur);
		const struct msnap_dirent *de = msnap_cursor_val(&cur, &len);

		if (key.hi != dir || key.lo >> 56 != MSNAP_NS_DIRENT)
			break;
		++*nr;
		*dirs += de->type == DT_DIR;
		err = msnap_cursor_next(&cur);
	}
	return err == -ENOENT ? 0 : err;
}

/* A number in the inode that is not what was counted.  Returns whether it changed. */
static bool correct(struct msnap_names *n, uint64_t ino, const char *what, uint64_t is,
		    uint64_t says)
{
	return is != says &&
	       msnap_check_found(n->c, true, "correct it",
				 "%s, inode %llu: %s is %llu, not %llu", n->where,
				 (ull)ino, what, (ull)is, (ull)says);
}

static int check_dir(struct msnap_names *n, uint64_t ino, struct msnap_inode *in,
		     bool *changed)
{
	uint64_t nr, dirs;
	int err = count_entries(n, ino, &nr, &dirs);

	if (err)
		return err;
	if (correct(n, ino, "the number of entries", nr, get64(in->size))) {
		in->size = put64(nr);
		*changed = true;
	}
	/* Removed, and still open: an orphan. */
	if (!get32(in->nlink) && !nr && !msnap_idmap_find(&n->links, ino) &&
	    ino != MSNAP_ROOT_INO)
		return 0;
	if (correct(n, ino, "the link count", dirs + 2, get32(in->nlink))) {
		in->nlink = put32(dirs + 2);
		*changed = true;
	}
	return 0;
}

static int check_file(struct msnap_names *n, uint64_t ino, struct msnap_inode *in,
		      uint64_t links, bool *changed)
{
	const struct msnap_walked *w = msnap_check_walked(n->c, get64(in->ext.blk));
	uint64_t nr_blk = w ? w->nr_blk : 0;

	/* Without any it was dealt with, or is one that was deleted. */
	if (links && (n->complete ? links != get32(in->nlink) :
				    links > get32(in->nlink)))
		if (correct(n, ino, "the link count", links, get32(in->nlink))) {
			in->nlink = put32(links);
			*changed = true;
		}
	/* Without @w, a repair has just made this tree. */
	if ((w ? w->whole : !get64(in->ext.blk)) &&
	    correct(n, ino, "the number of blocks", nr_blk, get64(in->nr_blk))) {
		in->nr_blk = put64(nr_blk);
		*changed = true;
	}
	return 0;
}

static int orphan_fn(struct msnap_names *n, void *arg)
{
	uint64_t *ino = arg;

	return msnap_orphan_add(n->pool, *ino);
}

static bool in_catalog(struct msnap_names *n, unsigned kind, uint64_t ino)
{
	struct msnap_key key = { (uint64_t)kind << 56 | ino, 0 };
	const void *val;
	unsigned len;

	return !msnap_tree_get(n->pool, &n->pool->catalog, key, &val, &len);
}

/* An inode that nothing names. */
static int check_nameless(struct msnap_names *n, uint64_t ino,
			  const struct msnap_inode *in)
{
	bool dir = S_ISDIR(get32(in->mode));

	if (ino == n->top || (dir && !n->complete))
		return 0;
	if (!get32(in->nlink) && !(dir && msnap_names_has(n, ino, MSNAP_NS_DIRENT))) {
		if (n->snap || in_catalog(n, MSNAP_CAT_ORPHAN, ino) ||
		    !msnap_check_found(n->c, true, "delete it",
				       "%s, inode %llu: was deleted, but is not on "
				       "the list", n->where, (ull)ino))
			return 0;
		return msnap_names_change(n, orphan_fn, &ino);
	}
	if (!msnap_check_found(n->c, true, "put it into lost+found",
			       "%s, inode %llu: has no name", n->where, (ull)ino))
		return 0;
	return msnap_names_change(n, msnap_names_attach, &ino);
}

static int check_inode(struct msnap_names *n, uint64_t ino)
{
	uint64_t *links = msnap_idmap_find(&n->links, ino);
	struct msnap_inode in;
	bool changed = false;
	int err = msnap_inode_get(n->pool, n->ns, ino, &in);

	if (err)
		return err == -ENOENT ? 0 : err;
	n->nr_inodes++;
	n->c->res.nr_inodes++;
	if (!links || !*links) {
		err = check_nameless(n, ino, &in);
		if (!err)
			err = msnap_inode_get(n->pool, n->ns, ino, &in);
		links = msnap_idmap_find(&n->links, ino);
	}
	if (!err && S_ISDIR(get32(in.mode)))
		err = check_dir(n, ino, &in, &changed);
	else if (!err)
		err = check_file(n, ino, &in, links ? *links : 0, &changed);
	return err || !changed ? err : msnap_names_put_inode(n, ino, &in);
}

/* ---- circles -------------------------------------------------------- */

/* Climb from @ino: 0 when the top is reached (or a place from where that was found out
 * before), 1 when *at is met a second time. */
static int climb(struct msnap_names *n, uint64_t ino, uint64_t search, uint64_t *at)
{
	for (;;) {
		uint64_t *seen = msnap_idmap_at(&n->reach, ino), *links;
		struct msnap_inode in;

		if (!seen)
			return -ENOMEM;
		*at = ino;
		if (*seen)
			return *seen == search;
		*seen = search;
		links = msnap_idmap_find(&n->links, ino);
		if (ino == n->top || !links || !*links ||
		    msnap_inode_get(n->pool, n->ns, ino, &in) ||
		    !S_ISDIR(get32(in.mode)))
			return 0;
		ino = get64(in.parent);
	}
}

/* Take a directory out of the one that has it, and put it into lost+found. */
static int move_fn(struct msnap_names *n, void *arg)
{
	uint64_t *ino = arg, at = 0;
	struct msnap_inode in;
	struct msnap_record r;
	int err = msnap_inode_get(n->pool, n->ns, *ino, &in);

	while (!err && !(err = msnap_names_find_of(n, get64(in.parent),
						   MSNAP_NS_DIRENT, at, &r))) {
		at = msnap_names_rest(r.key) + 1;
		if (get64(r.de.ino) == *ino)
			break;
	}
	if (!err)
		err = msnap_names_unname(n, &r);
	return err ? err : msnap_names_attach(n, ino);
}

static int check_reach(struct msnap_names *n, uint64_t ino)
{
	struct msnap_inode in;
	uint64_t at;
	int ret = msnap_inode_get(n->pool, n->ns, ino, &in);

	if (ret || !S_ISDIR(get32(in.mode)))
		return ret == -ENOENT ? 0 : ret;
	ret = climb(n, ino, ino, &at);
	if (ret <= 0 ||
	    !msnap_check_found(n->c, true, "put it into lost+found",
			       "%s, inode %llu: a directory that is below itself",
			       n->where, (ull)at))
		return ret < 0 ? ret : 0;
	return msnap_names_change(n, move_fn, &at);
}

/* ---- one namespace -------------------------------------------------- */

static int each_inode(struct msnap_names *n,
		      int (*fn)(struct msnap_names *n, uint64_t ino))
{
	struct msnap_key at = { 0, 0 };
	struct msnap_checking *c = n->c;
	struct msnap_record r;
	int err;

	while (!(err = msnap_names_find(n->pool, n->ns, at, &r))) {
		err = fn(n, r.key.hi);
		if (!err && ++c->inodes_done % PROGRESS_INODES == 0)
			err = msnap_check_progress(c, c->inodes_done, c->inodes_all);
		if (err)
			return err;
		at.hi = r.key.hi + 1;
	}
	return err == -ENOENT ? 0 : err;
}

static int check_top(struct msnap_names *n)
{
	struct msnap_inode in;
	int err = msnap_inode_get(n->pool, n->ns, n->top, &in);

	if (!n->complete || err != -ENOENT)
		return err == -ENOENT ? 0 : err;
	if (!msnap_check_found(n->c, false, "make an empty one",
			       "%s: the root directory is missing", n->where))
		return 0;
	return msnap_names_change(n, msnap_names_make_root, &n->top);
}

#define PASSES 4 /* over all inodes */

static int check_passes(struct msnap_names *n)
{
	/* With entries, but no inode, it is like any other such directory. */
	int err = msnap_names_has(n, n->top, MSNAP_NS_DIRENT) ? 0 : check_top(n);

	if (!err)
		err = each_inode(n, check_parts);
	if (!err)
		err = each_inode(n, check_entries);
	if (!err)
		err = each_inode(n, check_inode);
	return err ? err : each_inode(n, check_reach);
}

static bool tree_whole(struct msnap_checking *c, uint64_t root)
{
	const struct msnap_walked *w = msnap_check_walked(c, root);

	return !root || (w && w->whole);
}

static int check_ns(struct msnap_names *n)
{
	int err = 0;

	if (n->whole)
		err = check_passes(n);
	else if (!n->c->quiet)
		msnap_check_wrong(n->c, "%s: names are not checked, as the tree is "
				  "damaged", n->where);
	msnap_idmap_free(&n->links);
	msnap_idmap_free(&n->reach);
	return err;
}

/* ---- snapshots ------------------------------------------------------ */

static int put_snap_fn(struct msnap_names *n, void *arg)
{
	struct msnap_record *r = arg;

	return msnap_tree_put(n->pool, &n->pool->catalog, r->key, r->val, r->len,
			      MSNAP_PUT_OLD);
}

/* A snapshot of the whole shares the live tree; others have a tree made for them. */
static bool is_complete(struct msnap_names *n, const struct msnap_snap *sn)
{
	struct msnap_inode in;

	if (get64(sn->scope) != MSNAP_ROOT_INO ||
	    get32(sn->flags) & MSNAP_SNAP_PARTIAL)
		return false;
	return msnap_inode_get(n->pool, n->ns, MSNAP_ROOT_INO, &in) ||
	       !(get32(in.flags) & MSNAP_INODE_FRAME);
}

static int check_snap(struct msnap_checking *c, struct msnap_record *r)
{
	char name[MSNAP_SNAP_NAME_MAX + 16];
	struct msnap_names n = { .c = c, .pool = c->pool, .where = name,
			   .snap = msnap_names_rest((struct msnap_key){ 0, r->key.hi }),
			   .top = get64(r->sn.scope) };
	int err;

	snprintf(name, sizeof(name), "snapshot %.*s", r->sn.name_len, r->sn.text);
	n.of_snap = (struct msnap_tree){ MSNAP_TREE_NS, 0, msnap_ptr_load(r->sn.ns) };
	n.ns = &n.of_snap;
	n.whole = tree_whole(c, n.ns->root.blk);
	n.complete = n.whole && is_complete(&n, &r->sn);
	err = check_ns(&n);
	if (err || !n.whole || c->changed || n.nr_inodes == get64(r->sn.nr_inodes) ||
	    !msnap_check_found(c, true, "correct it", "%s: has %llu inodes, not %llu",
			       name, (ull)n.nr_inodes, (ull)get64(r->sn.nr_inodes)))
		return err;
	/* The record as it is now: the tree may have changed. */
	r->sn.ns = msnap_ptr_store(n.ns->root);
	r->sn.nr_inodes = put64(n.nr_inodes);
	n.snap = 0;
	return msnap_names_change(&n, put_snap_fn, r);
}

static int check_snaps(struct msnap_checking *c, uint64_t *last)
{
	struct msnap_key at = { (uint64_t)MSNAP_CAT_SNAP << 56, 0 };
	struct msnap_record r;
	int err;

	while (!(err = msnap_names_find(c->pool, &c->pool->catalog, at, &r)) &&
	       r.key.hi >> 56 == MSNAP_CAT_SNAP) {
		*last = msnap_names_rest((struct msnap_key){ 0, r.key.hi });
		err = check_snap(c, &r);
		if (err)
			return err;
		at.hi = r.key.hi + 1;
	}
	return err == -ENOENT ? 0 : err;
}

/* ---- the catalog and the numbers ------------------------------------ */

static int cut_catalog_fn(struct msnap_names *n, void *arg)
{
	struct msnap_record *r = arg;

	return msnap_tree_take(n->pool, &n->pool->catalog, r->key);
}

/* Records that name an inode: it must be there, and an orphan without links. */
static int check_list(struct msnap_names *n, struct msnap_record *r)
{
	bool orphan = r->key.hi >> 56 == MSNAP_CAT_ORPHAN;
	uint64_t ino = msnap_names_rest((struct msnap_key){ 0, r->key.hi });
	struct msnap_inode in;
	int err = msnap_inode_get(n->pool, n->ns, ino, &in);
	const char *why = NULL;

	if (err && err != -ENOENT)
		return err;
	if (err)
		why = "names no inode";
	else if (orphan && get32(in.nlink))
		why = "names an inode that has a name";
	if (!why ||
	    !msnap_check_found(n->c, true, "drop it", "catalog: the record of %s %llu "
			       "%s", orphan ? "deleted inode" : "view", (ull)ino, why))
		return 0;
	return msnap_names_change(n, cut_catalog_fn, r);
}

static int check_lists(struct msnap_names *n)
{
	struct msnap_key at = { (uint64_t)MSNAP_CAT_ORPHAN << 56, 0 };
	struct msnap_record r;
	int err;

	while (!(err = msnap_names_find(n->pool, &n->pool->catalog, at, &r)) &&
	       r.key.hi >> 56 <= MSNAP_CAT_VIEW) {
		err = check_list(n, &r);
		if (err)
			return err;
		at.hi = r.key.hi + 1;
	}
	return err == -ENOENT ? 0 : err;
}

static void check_number(struct msnap_checking *c, const char *what, uint64_t *nr,
			 uint64_t is, bool wrong)
{
	if (wrong && msnap_check_found(c, true, "correct it",
				       "root record: %s is %llu, not %llu", what,
				       (ull)is, (ull)*nr))
		*nr = is;
}

/* The highest inode number in a tree; 0: none, or it cannot be read. */
static uint64_t last_ino(struct msnap_pool *pool, struct msnap_ptr root)
{
	struct msnap_tree tree = { MSNAP_TREE_NS, 0, root };
	struct msnap_key end = { UINT64_MAX, UINT64_MAX };
	struct msnap_cursor cur;

	return msnap_cursor_seek_le(pool, &tree, end, &cur) ?
		       0 : msnap_cursor_key(&cur).hi;
}

/* Numbers that are given out next: first of all, as repairs give some out, too.  And
 * how many inodes there should be, for progress. */
static int check_next_ino(struct msnap_checking *c)
{
	struct msnap_pool *pool = c->pool;
	struct msnap_key at = { (uint64_t)MSNAP_CAT_SNAP << 56, 0 };
	uint64_t last = MSNAP_FIRST_INO - 1, ino;
	struct msnap_record r;
	int err = 0;

	c->inodes_done = 0;
	c->inodes_all = PASSES * pool->nr_inodes;
	if (tree_whole(c, pool->ns.root.blk)) {
		ino = last_ino(pool, pool->ns.root);
		last = ino > last ? ino : last;
	}
	while (!(err = msnap_names_find(pool, &pool->catalog, at, &r)) &&
	       r.key.hi >> 56 == MSNAP_CAT_SNAP) {
		if (tree_whole(c, get64(r.sn.ns.blk))) {
			c->inodes_all += PASSES * get64(r.sn.nr_inodes);
			ino = last_ino(pool, msnap_ptr_load(r.sn.ns));
			last = ino > last ? ino : last;
		}
		at.hi = r.key.hi + 1;
	}
	check_number(c, "the next inode number", &pool->next_ino, last + 1,
		     pool->next_ino <= last || pool->next_ino > MSNAP_MAX_INO);
	return err && err != -ENOENT ? err : 0;
}

static int check_live(struct msnap_checking *c, bool lists)
{
	struct msnap_names n = { .c = c, .pool = c->pool, .where = "live",
			   .complete = true, .top = MSNAP_ROOT_INO,
			   .ns = &c->pool->ns,
			   .whole = tree_whole(c, c->pool->ns.root.blk) };
	int err = check_ns(&n);

	if (err || !n.whole)
		return err;
	if (lists)
		err = check_lists(&n);
	check_number(c, "the number of inodes", &c->pool->nr_inodes, n.nr_inodes,
		     !c->changed && n.nr_inodes != c->pool->nr_inodes);
	return err;
}

int msnap_check_names(struct msnap_checking *c)
{
	struct msnap_pool *pool = c->pool;
	bool catalog = tree_whole(c, pool->catalog.root.blk);
	uint64_t last = 0;
	int err = catalog ? check_next_ino(c) : 0;

	if (!err)
		err = check_live(c, catalog);
	if (err || !catalog)
		return err;
	err = check_snaps(c, &last);
	if (!err)
		check_number(c, "the next snapshot number", &pool->next_snap,
			     last + 1, pool->next_snap <= last);
	return err;
}
