/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * make-image - make a damaged pool from a description, and look at it when it was
 * repaired.
 *
 *	make-image DAMAGE IMAGE		make it
 *	make-image -v DAMAGE IMAGE	is what was not damaged still there, and can
 *					the pool be used?
 *	make-image -c DAMAGE IMAGE	crash in the middle of its repair, everywhere
 *
 * A description has one command a line; what begins with # is a comment.  Commands
 * that change records are carried out in the open pool, by way of its trees, so that
 * all checksums are right.  Those that begin with "raw" are carried out on the image
 * after the end.  tests/images/README lists them all.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "cow/commit.h"
#include "cow/csum.h"
#include "crash.h"

#define BLK MSNAP_BLOCK_SIZE
#define MAX_WORDS 8
#define MAX_LOST 32

static struct msnap_pool *pool;
static unsigned line_nr;
static const char *damage_name;
static char lost[MAX_LOST][80];
static unsigned nr_lost;

static void bad_line(const char *what, const char *word)
{
	fprintf(stderr, "%s:%u: %s: %s\n", damage_name, line_nr, what,
		word ? word : "missing");
	exit(99);
}

/* ---- words ---------------------------------------------------------- */

/* The root of a file's extents. */
static uint64_t root_of(const char *path)
{
	struct msnap_inode in;
	struct msnap_id id;

	MUST(image_find(pool, path, &id));
	MUST(msnap_inode_get(pool, &pool->ns, id.ino, &in));
	return get64(in.ext.blk);
}

/* A number, or @PATH: the inode's, or &PATH: the block of its extents' root. */
static uint64_t number(const char *word)
{
	struct msnap_id id;
	char *end;
	uint64_t v;

	if (!word)
		bad_line("number", word);
	if (*word == '@') {
		MUST(image_find(pool, word + 1, &id));
		return id.ino;
	}
	if (*word == '&')
		return root_of(word + 1);
	v = strtoull(word, &end, 0);
	if (*end)
		bad_line("not a number", word);
	return v;
}

static struct msnap_id find(const char *path)
{
	struct msnap_id id;

	if (!path)
		bad_line("path", path);
	MUST(image_find(pool, path, &id));
	return id;
}

/* A field of a struct on media, by name. */
struct field {
	const char *name;
	unsigned off, size;
};

#define FIELD(TYPE, NAME) \
	{ #NAME, offsetof(struct TYPE, NAME), sizeof(((struct TYPE *)0)->NAME) }

static void set_field(const struct field *f, void *base, const char *name,
		      const char *value)
{
	uint64_t v = htole64(number(value));

	for (; name && f->name; f++)
		if (!strcmp(f->name, name)) {
			memcpy((uint8_t *)base + f->off, &v, f->size);
			return;
		}
	bad_line("no such field", name);
}

static const struct field inode_fields[] = {
	FIELD(msnap_inode, mode), FIELD(msnap_inode, nlink),
	FIELD(msnap_inode, size), FIELD(msnap_inode, nr_blk),
	FIELD(msnap_inode, parent), FIELD(msnap_inode, flags),
	{ "ext_blk", offsetof(struct msnap_inode, ext), 8 },
	{ "ext_gen", offsetof(struct msnap_inode, ext) + 8, 8 }, { NULL, 0, 0 },
};
static const struct field dirent_fields[] = {
	FIELD(msnap_dirent, ino), FIELD(msnap_dirent, type),
	FIELD(msnap_dirent, len), { NULL, 0, 0 },
};
static const struct field extent_fields[] = {
	FIELD(msnap_extent, blk), FIELD(msnap_extent, gen), FIELD(msnap_extent, nr),
	FIELD(msnap_extent, flags), { NULL, 0, 0 },
};
static const struct field snap_fields[] = {
	{ "ns_blk", offsetof(struct msnap_snap, ns), 8 },
	{ "ns_gen", offsetof(struct msnap_snap, ns) + 8, 8 },
	FIELD(msnap_snap, scope), FIELD(msnap_snap, nr_inodes),
	FIELD(msnap_snap, flags), FIELD(msnap_snap, name_len), { NULL, 0, 0 },
};
static const struct field xattr_fields[] = {
	FIELD(msnap_xattr, len), FIELD(msnap_xattr, name_len), { NULL, 0, 0 },
};
static const struct field node_fields[] = {
	FIELD(msnap_node, magic), FIELD(msnap_node, type), FIELD(msnap_node, level),
	FIELD(msnap_node, nr), FIELD(msnap_node, blk), FIELD(msnap_node, gen),
	FIELD(msnap_node, owner), FIELD(msnap_node, heap), FIELD(msnap_node, dead),
	FIELD(msnap_node, reserved), { NULL, 0, 0 },
};
static const struct field root_fields[] = {
	{ "ns_blk", offsetof(struct msnap_root, ns), 8 },
	{ "catalog_blk", offsetof(struct msnap_root, catalog), 8 },
	FIELD(msnap_root, gen), FIELD(msnap_root, flags),
	FIELD(msnap_root, next_ino), FIELD(msnap_root, space_blk),
	FIELD(msnap_root, space_nr), { NULL, 0, 0 },
};

/* ---- changing records of the open pool ------------------------------ */

/* A change of one tree, in an operation. */
struct edit {
	uint64_t snap;
	struct msnap_tree ns; /* of the snapshot, or a copy of the live one's */
	struct msnap_key key;
	uint8_t val[MSNAP_VAL_MAX];
	unsigned len;
	enum { PUT, TAKE } what;
};

static struct msnap_key snap_key(uint64_t snap)
{
	return (struct msnap_key){ (uint64_t)MSNAP_CAT_SNAP << 56 | snap, 0 };
}

static int put_or_take(struct edit *e, struct msnap_tree *tree)
{
	if (e->what == TAKE)
		return msnap_tree_take(pool, tree, e->key);
	return msnap_tree_put(pool, tree, e->key, e->val, e->len, MSNAP_PUT_ANY);
}

static int edit_ns(struct edit *e)
{
	uint8_t buf[MSNAP_VAL_MAX];
	struct msnap_snap *sn = (void *)buf;
	const void *val;
	unsigned len;
	int err;

	if (!e->snap)
		return put_or_take(e, &pool->ns);
	err = msnap_ns_of(pool, e->snap, &e->ns);
	if (!err)
		err = put_or_take(e, &e->ns);
	if (!err)
		err = msnap_tree_get(pool, &pool->catalog, snap_key(e->snap), &val,
				     &len);
	if (err)
		return err;
	memcpy(buf, val, len);
	sn->ns = msnap_ptr_store(e->ns.root);
	return msnap_tree_put(pool, &pool->catalog, snap_key(e->snap), buf, len,
			      MSNAP_PUT_OLD);
}

static void store(struct edit *e)
{
	MUST(msnap_op_begin(pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE));
	MUST(msnap_op_end(pool, edit_ns(e)));
}

static void store_catalog(struct edit *e)
{
	MUST(msnap_op_begin(pool, MSNAP_OP_BLOCKS | MSNAP_OP_RESERVE));
	MUST(msnap_op_end(pool, put_or_take(e, &pool->catalog)));
}

static void load(const struct msnap_tree *tree, struct edit *e)
{
	const void *val;

	MUST(msnap_tree_get(pool, tree, e->key, &val, &e->len));
	memcpy(e->val, val, e->len);
}

static void load_ns(struct edit *e, uint64_t snap, struct msnap_key key)
{
	struct msnap_tree ns;

	MUST(msnap_ns_of(pool, snap, &ns));
	*e = (struct edit){ .snap = snap, .key = key };
	load(&ns, e);
}

static void load_inode(struct edit *e, const char *path)
{
	struct msnap_id id = find(path);

	load_ns(e, id.snap, msnap_ns_key(id.ino, MSNAP_NS_INODE, 0));
}

/* inode PATH FIELD VALUE */
static void do_inode(char **w)
{
	struct edit e;

	load_inode(&e, w[1]);
	set_field(inode_fields, e.val, w[2], w[3]);
	store(&e);
}

/* take inode PATH */
static void do_take(char **w)
{
	struct edit e;

	load_inode(&e, w[1]);
	e.what = TAKE;
	store(&e);
}

static void load_dirent(struct edit *e, const char *path)
{
	struct msnap_id dir;
	struct msnap_key key;
	struct msnap_tree ns;
	const char *name;
	uint64_t ino;
	uint8_t type;

	MUST(image_find_dir(pool, path, &dir, &name));
	MUST(msnap_ns_of(pool, dir.snap, &ns));
	MUST(msnap_dirent_find(pool, &ns, dir.ino, name, strlen(name), &key, &ino,
			       &type));
	load_ns(e, dir.snap, key);
}

/* dirent PATH FIELD VALUE */
static void do_dirent(char **w)
{
	struct edit e;

	load_dirent(&e, w[1]);
	set_field(dirent_fields, e.val, w[2], w[3]);
	store(&e);
}

/* name PATH NEWNAME: of the same length, under the old name's key */
static void do_name(char **w)
{
	struct edit e;
	struct msnap_dirent *de = (void *)e.val;

	load_dirent(&e, w[1]);
	memcpy(de->name, w[2], strnlen(w[2], de->len));
	store(&e);
}

static void do_unname(char **w)
{
	struct edit e;

	load_dirent(&e, w[1]);
	e.what = TAKE;
	store(&e);
}

/* again PATH INO: a second entry of that name */
static void do_again(char **w)
{
	struct edit e;
	struct msnap_dirent *de = (void *)e.val;

	load_dirent(&e, w[1]);
	e.key.lo++;
	de->ino = put64(number(w[2]));
	store(&e);
}

/* entry DIR NAME INO TYPE: one more, whatever the inode says */
static void do_entry(char **w)
{
	struct msnap_id dir = find(w[1]);
	uint64_t ino = number(w[3]);

	MUST(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	MUST(msnap_op_end(pool, msnap_dirent_add(pool, &pool->ns, dir.ino, w[2],
						 strlen(w[2]), ino, number(w[4]))));
}

/* record INO KIND REST BYTES: any record */
static void do_record(char **w)
{
	struct edit e = { .what = PUT };

	e.key = msnap_ns_key(number(w[1]), number(w[2]), number(w[3]));
	e.len = strlen(w[4]);
	memcpy(e.val, w[4], e.len);
	store(&e);
}

/* xattr PATH PIECE FIELD VALUE | xattr PATH PIECE take: of its longest */
static void do_xattr(char **w)
{
	struct msnap_key key = msnap_ns_key(find(w[1]).ino, MSNAP_NS_XATTR, 0);
	struct msnap_cursor cur;
	struct edit e;

	MUST(msnap_cursor_seek(pool, &pool->ns, key, &cur));
	for (;;) { /* the one that has a second piece */
		key = msnap_cursor_key(&cur);
		MUST(msnap_cursor_next(&cur));
		if (msnap_cursor_key(&cur).lo & 0xff)
			break;
	}
	key.lo += number(w[2]);
	load_ns(&e, 0, key);
	if (!strcmp(w[3], "take"))
		e.what = TAKE;
	else
		set_field(xattr_fields, e.val, w[3], w[4]);
	store(&e);
}

/* symlink PATH PIECE take */
static void do_symlink(char **w)
{
	struct edit e;

	load_ns(&e, 0, msnap_ns_key(find(w[1]).ino, MSNAP_NS_SYMLINK, number(w[2])));
	e.what = TAKE;
	store(&e);
}

/* catalog KIND NUMBER: an empty record; catalog KIND NUMBER take */
static void do_catalog(char **w)
{
	struct edit e = { .key = { number(w[1]) << 56 | number(w[2]), 0 } };

	e.what = w[3] && !strcmp(w[3], "take") ? TAKE : PUT;
	store_catalog(&e);
}

/* drop BLK GEN TYPE: a tree that waits to be deleted */
static void do_drop(char **w)
{
	struct edit e = { .key = { (uint64_t)MSNAP_CAT_DROP << 56 | 77, 0 } };
	struct msnap_drop *d = (void *)e.val;

	d->root = (struct msnap_ref){ put64(number(w[1])), put64(number(w[2])) };
	d->type = put32(number(w[3]));
	e.len = sizeof(*d);
	store_catalog(&e);
}

/* snapshot NAME FIELD VALUE */
static void do_snapshot(char **w)
{
	struct edit e = { .key = snap_key(image_snap(pool, w[1])) };

	load(&pool->catalog, &e);
	set_field(snap_fields, e.val, w[2], w[3]);
	store_catalog(&e);
}

/* unlink PATH: and keep it open, as it were */
static void do_unlink(char **w)
{
	struct msnap_attr gone;
	struct msnap_id dir;
	const char *name;

	MUST(image_find_dir(pool, w[1], &dir, &name));
	MUST(msnap_unlink(pool, dir.ino, name, strlen(name), false, &gone));
}

static void do_mkdir(char **w)
{
	struct msnap_new what = { .mode = S_IFDIR | 0755 };
	struct msnap_attr attr;
	struct msnap_id dir;
	const char *name;

	MUST(image_find_dir(pool, w[1], &dir, &name));
	MUST(msnap_create(pool, dir.ino, name, strlen(name), &what, &attr));
}

static void do_delete_snapshot(char **w)
{
	MUST(msnap_snap_delete(pool, image_snap(pool, w[1])));
}

/* number next_ino|next_snap|nr_inodes VALUE: of the root record */
static void do_number(char **w)
{
	uint64_t v = number(w[2]);

	if (!strcmp(w[1], "next_ino"))
		pool->next_ino = v;
	else if (!strcmp(w[1], "next_snap"))
		pool->next_snap = v;
	else
		pool->nr_inodes = v;
	MUST(msnap_commit_now(pool));
}

static int edit_extents(uint64_t ino, struct edit *e)
{
	struct msnap_inode in;
	struct msnap_tree tree;
	int err = msnap_tree_own(pool, &pool->ns,
				 msnap_ns_key(ino, MSNAP_NS_INODE, 0));

	if (!err)
		err = msnap_inode_get(pool, &pool->ns, ino, &in);
	if (err)
		return err;
	tree = msnap_ext_tree(ino, &in);
	err = put_or_take(e, &tree);
	in.ext = msnap_ptr_store(tree.root);
	return err ? err : msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_OLD);
}

/* The extent of a live file that begins at block @fb. */
static uint64_t load_extent(struct edit *e, const char *path, const char *fb)
{
	struct msnap_inode in;
	struct msnap_tree tree;
	uint64_t ino = find(path).ino;

	MUST(msnap_inode_get(pool, &pool->ns, ino, &in));
	tree = msnap_ext_tree(ino, &in);
	*e = (struct edit){ .key = { number(fb), 0 } };
	load(&tree, e);
	return ino;
}

static void store_extent(uint64_t ino, struct edit *e)
{
	MUST(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	MUST(msnap_op_end(pool, edit_extents(ino, e)));
}

/* extent PATH FB FIELD VALUE; the value "node" is the block of a tree node */
static void do_extent(char **w)
{
	char node[32];
	struct edit e;
	uint64_t ino = load_extent(&e, w[1], w[2]);

	snprintf(node, sizeof(node), "%llu",
		 (unsigned long long)pool->catalog.root.blk);
	set_field(extent_fields, e.val, w[3], strcmp(w[4], "node") ? w[4] : node);
	store_extent(ino, &e);
}

/* move PATH FB TOFB: a copy of an extent begins at another block */
static void do_move(char **w)
{
	struct edit e;
	uint64_t ino = load_extent(&e, w[1], w[2]);

	e.key.hi = number(w[3]);
	store_extent(ino, &e);
}

/* ---- the image itself ----------------------------------------------- */

static struct msnap_node *node_at(struct msnap_ptr ptr)
{
	return msnap_blk_ptr(pool, ptr.blk);
}

/* The @nth node of @level, from the left.  Trusts the tree: it was just made. */
static struct msnap_node *nth_node(struct msnap_ptr ptr, unsigned level,
				   unsigned *nth)
{
	struct msnap_node *n = node_at(ptr), *found = NULL;
	unsigned i;

	if (n->level == level)
		return (*nth)-- ? NULL : n;
	for (i = 0; n->level > level && !found && i < msnap_node_nr(n); i++)
		found = nth_node(msnap_node_child(n, i), level, nth);
	return found;
}

/* The tree a word means: live, catalog, snap=NAME, file=PATH. */
static struct msnap_ptr tree_of(const char *word)
{
	struct msnap_inode in;
	struct msnap_tree ns;

	if (!strcmp(word, "live"))
		return pool->ns.root;
	if (!strcmp(word, "catalog"))
		return pool->catalog.root;
	if (!strncmp(word, "snap=", 5)) {
		MUST(msnap_ns_of(pool, image_snap(pool, word + 5), &ns));
		return ns.root;
	}
	if (strncmp(word, "file=", 5))
		bad_line("no such tree", word);
	MUST(msnap_inode_find(pool, find(word + 5), &in));
	return msnap_ptr_load(in.ext);
}

/* TREE/root, TREE/leafN, TREE/innerN */
static struct msnap_node *node_of(const char *word)
{
	char tree[80];
	const char *slash = word ? strrchr(word, '/') : NULL;
	struct msnap_node *n;
	unsigned nth;

	if (!slash)
		bad_line("node", word);
	snprintf(tree, sizeof(tree), "%.*s", (int)(slash - word), word);
	if (!strcmp(slash, "/root"))
		return node_at(tree_of(tree));
	nth = strtoul(slash + strcspn(slash, "0123456789"), NULL, 10);
	n = nth_node(tree_of(tree), slash[1] == 'i', &nth);
	if (!n)
		bad_line("no such node", word);
	return n;
}

static void seal_node(struct msnap_node *n, const char *how)
{
	uint64_t blk = ((uint8_t *)n - pool->base) >> MSNAP_BLOCK_SHIFT;

	if (!how || strcmp(how, "nofix"))
		n->csum = put64(msnap_csum_meta(n, blk));
}

static void flip(void *block, const char *off)
{
	((uint8_t *)block)[number(off) % BLK] ^= 0x40;
}

/* raw node NODE zero | flip OFF | set FIELD VALUE | child I VALUE | key I HI |
 * slot I OFF LEN | cut I | swap NODE2 | exchange I J; last word nofix: the checksum
 * stays what it was */
static void raw_node(char **w)
{
	struct msnap_node *n = node_of(w[2]), *other;
	const char *what = w[3];
	unsigned i;

	if (!strcmp(what, "zero")) {
		memset(n, 0, BLK);
	} else if (!strcmp(what, "flip")) {
		flip(n, w[4]);
		seal_node(n, w[5]);
	} else if (!strcmp(what, "set")) {
		set_field(node_fields, n, w[4], w[5]);
		seal_node(n, w[6]);
	} else if (!strcmp(what, "child")) {
		struct msnap_ptr ptr = msnap_node_child(n, number(w[4]));

		ptr.blk = number(w[5]);
		msnap_node_set_child(n, number(w[4]), ptr);
		seal_node(n, w[6]);
	} else if (!strcmp(what, "key")) {
		struct msnap_key key = msnap_node_key(n, number(w[4]));

		key.hi = number(w[5]);
		msnap_node_set_key(n, number(w[4]), key);
		seal_node(n, w[6]);
	} else if (!strcmp(what, "slot")) {
		struct msnap_slot s = { put16(number(w[5])), put16(number(w[6])) };

		i = number(w[4]);
		memcpy(n->body + i * msnap_node_stride(n) + msnap_key_size(n->type),
		       &s, sizeof(s));
		seal_node(n, NULL);
	} else if (!strcmp(what, "cut")) {
		msnap_leaf_remove(n, number(w[4]), 1);
		seal_node(n, NULL);
	} else if (!strcmp(what, "swap")) {
		uint8_t tmp[BLK];

		other = node_of(w[4]);
		memcpy(tmp, n, BLK);
		memcpy(n, other, BLK);
		memcpy(other, tmp, BLK);
	} else if (!strcmp(what, "exchange")) {
		unsigned a = number(w[4]), b = number(w[5]);
		struct msnap_ptr ptr = msnap_node_child(n, a);

		msnap_node_set_child(n, a, msnap_node_child(n, b));
		msnap_node_set_child(n, b, ptr);
		seal_node(n, NULL);
	} else {
		bad_line("raw node", what);
	}
}

/* raw value NODE I OFF BYTE: a byte of a record's value */
static void raw_value(char **w)
{
	struct msnap_node *n = node_of(w[2]);
	unsigned len;
	uint8_t *val = msnap_node_val(n, number(w[3]), &len);

	val[number(w[4]) % len] = number(w[5]);
	seal_node(n, w[6]);
}

/* raw data PATH FB: a bit of the block of a file */
static int data_cb(void *arg, const struct msnap_piece *piece)
{
	uint64_t *want = arg, fb = piece->off >> MSNAP_BLOCK_SHIFT;

	if (*want < fb || *want >= fb + (piece->len >> MSNAP_BLOCK_SHIFT))
		return 0;
	flip(msnap_blk_ptr(pool, piece->blk + *want - fb), "1234");
	return 1;
}

static void raw_data(char **w)
{
	uint64_t fb = number(w[3]);

	MUST(msnap_map(pool, find(w[2]), 0, data_cb, &fb));
}

static struct msnap_root *root_at(unsigned nth)
{
	struct msnap_root root;

	MUST(msnap_root_read(pool->mem, pool->uuid, nth, &root));
	return msnap_blk_ptr(pool, MSNAP_RING_BLK +
					   get64(root.gen) % MSNAP_RING_SLOTS);
}

/* raw root N zero | flip OFF | set FIELD VALUE; N 0: the newest */
static void raw_root(char **w)
{
	struct msnap_root *r = root_at(number(w[2]));

	if (!strcmp(w[3], "zero")) {
		memset(r, 0, BLK);
	} else if (!strcmp(w[3], "flip")) {
		flip(r, w[4]);
	} else {
		set_field(root_fields, r, w[4], w[5]);
		r->csum = put64(msnap_csum_meta(r, 0));
	}
}

/* raw super|backup zero | flip OFF */
static void raw_super(char **w, uint64_t blk)
{
	void *block = msnap_blk_ptr(pool, blk);

	if (!strcmp(w[2], "zero"))
		memset(block, 0, BLK);
	else
		flip(block, w[3]);
}

/* raw map flip OFF | count I VALUE | move I BLK: the first block of the saved map */
static void raw_map(char **w)
{
	uint64_t blk = get64(root_at(0)->space_blk);
	struct msnap_space_blk *b = msnap_blk_ptr(pool, blk);

	if (!strcmp(w[2], "flip")) {
		flip(b, w[3]);
		return;
	}
	if (!strcmp(w[2], "count"))
		b->run[number(w[3])].count = put32(number(w[4]));
	else
		b->run[number(w[3])].nr = put32(number(w[4]));
	b->csum = put64(msnap_csum_meta(b, blk));
}

static void raw(char **w)
{
	if (!strcmp(w[1], "node"))
		raw_node(w);
	else if (!strcmp(w[1], "value"))
		raw_value(w);
	else if (!strcmp(w[1], "data"))
		raw_data(w);
	else if (!strcmp(w[1], "root"))
		raw_root(w);
	else if (!strcmp(w[1], "super"))
		raw_super(w, MSNAP_SUPER_BLK);
	else if (!strcmp(w[1], "backup"))
		raw_super(w, pool->nr_blocks - 1);
	else if (!strcmp(w[1], "map"))
		raw_map(w);
	else
		bad_line("raw", w[1]);
}

/* ---- descriptions --------------------------------------------------- */

struct command {
	const char *name;
	unsigned nr_words; /* at least, with the name */
	void (*run)(char **w);
};

static const struct command commands[] = {
	{ "inode", 4, do_inode },     { "take", 2, do_take },
	{ "dirent", 4, do_dirent },   { "name", 3, do_name },
	{ "unname", 2, do_unname },   { "again", 3, do_again },
	{ "entry", 5, do_entry },     { "record", 5, do_record },
	{ "xattr", 4, do_xattr },     { "symlink", 3, do_symlink },
	{ "catalog", 3, do_catalog }, { "drop", 4, do_drop },
	{ "snapshot", 4, do_snapshot }, { "unlink", 2, do_unlink },
	{ "mkdir", 2, do_mkdir },     { "number", 3, do_number },
	{ "extent", 5, do_extent },   { "move", 4, do_move },
	{ "delete", 2, do_delete_snapshot }, { NULL, 0, NULL },
};

enum when { OPEN, ENDED, AFTER };

static void run_line(char **w, unsigned nr, enum when when, bool *crash)
{
	const struct command *c;

	if (!strcmp(w[0], "lost")) {
		if (when == AFTER && nr == 2)
			snprintf(lost[nr_lost++ % MAX_LOST], sizeof(lost[0]), "%s",
				 w[1]);
		return;
	}
	if (!strcmp(w[0], "crash")) {
		*crash = true;
		return;
	}
	if (!strcmp(w[0], "raw")) {
		if (when == ENDED)
			raw(w);
		return;
	}
	for (c = commands; c->name; c++)
		if (!strcmp(c->name, w[0]) && nr >= c->nr_words) {
			if (when == OPEN)
				c->run(w);
			return;
		}
	bad_line("no such command", w[0]);
}

/* Do what of the description belongs here.  True: the pool's end is no clean one. */
static bool run_file(const char *name, enum when when)
{
	FILE *file = fopen(name, "re");
	char line[256];
	bool crash = false;

	MUST(file ? 0 : -errno);
	damage_name = name;
	line_nr = 0;
	while (fgets(line, sizeof(line), file)) {
		char *w[MAX_WORDS + 1] = { NULL }, *save, *word;
		unsigned nr = 0;

		line_nr++;
		line[strcspn(line, "#\n")] = 0;
		for (word = strtok_r(line, " \t", &save); word && nr < MAX_WORDS;
		     word = strtok_r(NULL, " \t", &save))
			w[nr++] = word;
		if (nr)
			run_line(w, nr, when, &crash);
	}
	fclose(file);
	return crash;
}

static bool is_lost(const char *path)
{
	unsigned i;

	for (i = 0; i < nr_lost; i++) {
		size_t len = strlen(lost[i]);

		/* A star in the end stands for anything. */
		if (!strcmp(lost[i], path) ||
		    (lost[i][len - 1] == '*' && !strncmp(lost[i], path, len - 1)))
			return true;
	}
	return false;
}

/* ---- making --------------------------------------------------------- */

static void make(const char *damage, const char *image)
{
	struct msnap_open_args args = { .flags = MSNAP_OPEN_NO_BACKGROUND |
						 MSNAP_OPEN_REPAIR };
	struct msnap_why why;
	bool crash;

	pool = image_make(image);
	image_make_late(pool);
	crash = run_file(damage, OPEN);
	MUST(msnap_commit(pool));
	if (crash)
		msnap_pool_abandon(pool);
	else
		MUST(msnap_pool_close(pool));
	MUST(msnap_pool_open(image, &args, &pool, &why));
	run_file(damage, ENDED);
	msnap_pool_abandon(pool);
}

/* ---- verifying ------------------------------------------------------ */

static void report(void *arg, const char *line)
{
	(void)arg;
	printf("check: %s\n", line);
}

/* A pool that was repaired is a pool. */
static unsigned use(void)
{
	struct msnap_new what = { .mode = S_IFREG | 0644 };
	struct msnap_snap_item all = { MSNAP_ROOT_INO, NULL, 0 };
	struct msnap_check_result res;
	struct msnap_attr attr;
	static char buf[10000];
	uint64_t snap;

	MUST(msnap_create(pool, MSNAP_ROOT_INO, "after", 5, &what, &attr));
	MUST(msnap_pwrite(pool, attr.ino, buf, sizeof(buf), 0, false));
	MUST(msnap_snap_create(pool, "after", "", 0, &all, 1, &snap));
	MUST(msnap_pwrite(pool, attr.ino, "x", 1, 5000, false));
	MUST(msnap_commit(pool));
	MUST(msnap_pool_settle(pool));
	MUST(msnap_check(pool, MSNAP_CHECK_STRICT, report, NULL, &res));
	return res.nr_errors;
}

static int verify(const char *damage, const char *image)
{
	struct msnap_open_args args = { .flags = MSNAP_OPEN_NO_BACKGROUND };
	struct msnap_why why;
	unsigned bad;

	MUST(msnap_pool_open(image, &args, &pool, &why));
	run_file(damage, AFTER);
	bad = image_verify(pool, is_lost);
	bad += use();
	MUST(msnap_pool_close(pool));
	return bad ? 1 : 0;
}

static int crash(const char *damage, const char *image)
{
	const char *halves = getenv("HALVES");
	unsigned nr, bad;

	run_file(damage, AFTER);
	bad = image_crash(image, is_lost, halves ? strtoul(halves, NULL, 10) : 1,
			  &nr);
	printf("%u crash images\n", nr);
	return bad ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "-v"))
		return verify(argv[2], argv[3]);
	if (argc == 4 && !strcmp(argv[1], "-c"))
		return crash(argv[2], argv[3]);
	if (argc != 3) {
		fprintf(stderr, "usage: make-image [-v|-c] DAMAGE IMAGE\n");
		return 99;
	}
	make(argv[1], argv[2]);
	return 0;
}
