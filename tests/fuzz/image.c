/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base.h"
#include "cow/csum.h"
#include "cow/node.h"

#define BLK MSNAP_BLOCK_SIZE
#define SIZE ((size_t)FUZZ_BLOCKS * BLK)
#define GUARD (1u << 20) /* bytes that must not be touched, on both sides */

/* ---- the input ----------------------------------------------------------- */

uint8_t fuzz_u8(struct fuzz_input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->p++;
}

uint16_t fuzz_u16(struct fuzz_input *in)
{
	uint16_t lo = fuzz_u8(in);

	return (uint16_t)(lo | fuzz_u8(in) << 8);
}

uint64_t fuzz_u64(struct fuzz_input *in)
{
	uint64_t v = 0;
	unsigned i;

	for (i = 0; i < 64; i += 8)
		v |= (uint64_t)fuzz_u8(in) << i;
	return v;
}

/* ---- memory --------------------------------------------------------------- */

static void mem_flush(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	if (off > mem->size || len > mem->size - off)
		abort();
}

static int mem_drain(struct msnap_mem *mem)
{
	(void)mem;
	return 0;
}

static void mem_copy(struct msnap_mem *mem, uint64_t off, const void *src,
		     size_t len)
{
	mem_flush(mem, off, len);
	memcpy(mem->base + off, src, len);
}

static int mem_range(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	mem_flush(mem, off, len);
	return 0;
}

/* What sharing looks like from here. */
static int mem_share(struct msnap_mem *mem, uint64_t off, int fd, uint64_t src_off,
		     uint64_t len)
{
	mem_flush(mem, off, len);
	if (pread(fd, mem->base + off, len, (off_t)src_off) != (ssize_t)len)
		return -EIO;
	return 0;
}

static void mem_close(struct msnap_mem *mem)
{
	(void)mem;
}

static const struct msnap_mem_ops mem_ops = {
	.flush = mem_flush,
	.drain = mem_drain,
	.copy = mem_copy,
	.reserve = mem_range,
	.punch = mem_range,
	.share = mem_share,
	.close = mem_close,
};

/* ---- what there is to mutate ------------------------------------------------ */

enum kind {
	KIND_INODE,
	KIND_DIRENT,
	KIND_XATTR,
	KIND_SYMLINK,
	KIND_EXTENT,
	KIND_SNAP,
	KIND_DROP,
	KIND_ORPHAN,
	NR_RICH_KINDS, /* the first bases have no others */
	KIND_VIEW = NR_RICH_KINDS,
	KIND_SCRUB,
	NR_KINDS,
};

struct place {
	uint16_t blk;
	uint16_t idx; /* of a record in its leaf */
};

struct places {
	struct place at[2048];
	unsigned nr;
};

struct base {
	int fd; /* the pristine image */
	bool lean;
	uint64_t root_blk;
	struct places node, inner, space, unused;
	struct places record[NR_KINDS];
	uint8_t *mark; /* while it is made: blocks in use */
};

static struct base bases[FUZZ_NR_BASES];
static struct base *base;
static struct msnap_mem image = { .ops = &mem_ops, .fd = -1,
				  .granularity = "byte" };
static bool touched[FUZZ_BLOCKS]; /* its checksum is to be made right */
static bool left_wrong[FUZZ_BLOCKS];

static void *blk_ptr(uint64_t blk)
{
	return image.base + blk % FUZZ_BLOCKS * BLK;
}

static void add(struct places *p, uint64_t blk, unsigned idx)
{
	if (p->nr < sizeof(p->at) / sizeof(p->at[0]))
		p->at[p->nr++] = (struct place){ (uint16_t)blk, (uint16_t)idx };
}

/* ---- making the bases ------------------------------------------------------- */

static void scan_tree(struct base *b, struct msnap_ptr ptr);

static void scan_record(struct base *b, const struct msnap_node *n, unsigned i)
{
	static const enum kind ns[] = { 0, KIND_INODE, KIND_DIRENT, KIND_XATTR,
					KIND_SYMLINK };
	static const enum kind cat[] = { 0, KIND_SNAP, KIND_DROP, KIND_ORPHAN,
					 KIND_VIEW, KIND_SCRUB };
	struct msnap_key key = msnap_node_key(n, i);
	uint64_t blk = get64(n->blk);
	unsigned len, k;
	const void *val = msnap_node_val(n, i, &len);
	enum kind kind = n->type == MSNAP_TREE_NS ? ns[key.lo >> 56] :
			 n->type == MSNAP_TREE_CATALOG ? cat[key.hi >> 56] :
			 KIND_EXTENT;

	add(&b->record[kind], blk, i);
	if (kind == KIND_INODE)
		scan_tree(b, msnap_ptr_load(((const struct msnap_inode *)val)->ext));
	if (kind == KIND_SNAP)
		scan_tree(b, msnap_ptr_load(((const struct msnap_snap *)val)->ns));
	if (kind == KIND_DROP)
		scan_tree(b, msnap_ptr_load(((const struct msnap_drop *)val)->root));
	if (kind == KIND_EXTENT)
		for (k = 0; k < get16(((const struct msnap_extent *)val)->nr); k++)
			b->mark[get64(((const struct msnap_extent *)val)->blk) + k] = 1;
}

static void scan_tree(struct base *b, struct msnap_ptr ptr)
{
	const struct msnap_node *n = blk_ptr(ptr.blk);
	unsigned i;

	if (!ptr.blk || b->mark[ptr.blk])
		return;
	b->mark[ptr.blk] = 1;
	add(&b->node, ptr.blk, 0);
	if (n->level)
		add(&b->inner, ptr.blk, 0);
	for (i = 0; i < msnap_node_nr(n); i++) {
		if (n->level)
			scan_tree(b, msnap_node_child(n, i));
		else
			scan_record(b, n, i);
	}
}

static uint64_t newest_root(void)
{
	uint64_t blk, best = MSNAP_RING_BLK;

	for (blk = best; blk < MSNAP_FIRST_BLK; blk++)
		if (get64(((struct msnap_root *)blk_ptr(blk))->gen) >
		    get64(((struct msnap_root *)blk_ptr(best))->gen))
			best = blk;
	return best;
}

static void scan(struct base *b)
{
	const struct msnap_root *root;
	uint64_t blk;

	b->mark = calloc(FUZZ_BLOCKS, 1);
	if (!b->mark)
		exit(1);
	b->root_blk = newest_root();
	root = blk_ptr(b->root_blk);
	scan_tree(b, msnap_ptr_load(root->ns));
	scan_tree(b, msnap_ptr_load(root->catalog));
	for (blk = get64(root->space_blk); blk;
	     blk = get64(((struct msnap_space_blk *)blk_ptr(blk))->next)) {
		add(&b->space, blk, 0);
		b->mark[blk] = 1;
	}
	for (blk = FUZZ_BLOCKS - 2; blk >= MSNAP_FIRST_BLK; blk--)
		if (!b->mark[blk])
			add(&b->unused, blk, 0);
	free(b->mark);
	b->mark = NULL;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void make_base(enum fuzz_base which)
{
	static const enum fuzz_content content[] = {
		[FUZZ_CRASHED] = FUZZ_RICH, [FUZZ_CLEAN] = FUZZ_RICH,
		[FUZZ_LEAN_CRASHED] = FUZZ_LEAN, [FUZZ_LEAN_CLEAN] = FUZZ_LEAN,
		[FUZZ_EMPTY] = FUZZ_NOTHING,
	};
	struct base *b = &bases[which];

	b->lean = content[which] == FUZZ_LEAN;
	b->fd = memfd_create("base", MFD_CLOEXEC);
	if (b->fd < 0 || ftruncate(b->fd, SIZE))
		fail("memfd");
	if (mmap(image.base, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 b->fd, 0) == MAP_FAILED)
		fail("mmap");
	fuzz_base_make(&image, content[which],
		       which == FUZZ_CLEAN || which == FUZZ_LEAN_CLEAN);
	scan(b);
}

void fuzz_image_init(void)
{
	uint8_t *area = mmap(NULL, SIZE + 2 * GUARD, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int i;

	if (area == MAP_FAILED)
		fail("mmap");
	image.base = area + GUARD;
	image.size = SIZE;
	for (i = 0; i < FUZZ_NR_BASES; i++)
		make_base(i);
}

struct msnap_mem *fuzz_image_get(enum fuzz_base which)
{
	if (base == &bases[which]) {
		/* The private copies of pages go, the file shows again. */
		madvise(image.base, SIZE, MADV_DONTNEED);
	} else {
		base = &bases[which];
		if (mmap(image.base, SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_FIXED, base->fd, 0) == MAP_FAILED)
			fail("mmap");
	}
	memset(touched, 0, sizeof(touched));
	memset(left_wrong, 0, sizeof(left_wrong));
	return &image;
}

/* ---- picking ----------------------------------------------------------------- */

static const struct place *pick(struct fuzz_input *in, const struct places *p)
{
	return p->nr ? &p->at[fuzz_u16(in) % p->nr] : NULL;
}

static void *touch(uint64_t blk)
{
	touched[blk % FUZZ_BLOCKS] = true;
	return blk_ptr(blk);
}

static struct msnap_node *pick_node(struct fuzz_input *in, const struct places *p)
{
	const struct place *at = pick(in, p);

	return at ? touch(at->blk) : NULL;
}

/* A node's entry @i, as far as it lies within the node. */
static uint8_t *entry(const struct msnap_node *n, unsigned i)
{
	size_t off = MSNAP_NODE_HDR + (size_t)i * msnap_node_stride(n);

	return off + msnap_node_stride(n) <= BLK ? (uint8_t *)n + off : NULL;
}

static struct msnap_slot *slot(const struct msnap_node *n, unsigned i)
{
	uint8_t *e = entry(n, i);

	return e ? (struct msnap_slot *)(e + msnap_key_size(n->type)) : NULL;
}

/* The record's bytes, with @need of them within the node. */
static uint8_t *value(const struct msnap_node *n, unsigned i, unsigned need)
{
	struct msnap_slot *s = n->level ? NULL : slot(n, i);

	if (!s || get16(s->off) + need > BLK)
		return NULL;
	return (uint8_t *)n + get16(s->off);
}

/* Is the node sound, so that the engine's own functions may change it? */
static bool sound(struct msnap_node *n)
{
	static const struct msnap_pool all = { .nr_blocks = FUZZ_BLOCKS };

	return !msnap_node_valid(&all, n, get64(n->blk), false);
}

/* ---- values -------------------------------------------------------------------- */

static uint64_t interesting(uint8_t which)
{
	static const uint64_t v[] = {
		0, 1, 2, 3, 8, 16, 17, 24, 47, 48, 64, 65, 127, 128, 136, 253, 254,
		255, 256, 511, 512, 1022, 1023, 1024, 1025, 1300, 1301, 4047, 4048,
		4095, 4096, 4097, 32767, 32768, 65535, 65536, 1ull << 22,
		1ull << 31, UINT32_MAX, UINT32_MAX - 16, 1ull << 32, 1ull << 40,
		(1ull << 51) - 1, 1ull << 51, 1ull << 55, 1ull << 56, 2ull << 56,
		3ull << 56, 4ull << 56, INT64_MAX - 1, INT64_MAX, 1ull << 63,
		UINT64_MAX - 1, UINT64_MAX,
	};

	return v[which % (sizeof(v) / sizeof(v[0]))];
}

static uint64_t new_value(struct fuzz_input *in, uint64_t old)
{
	const struct place *at;

	switch (fuzz_u8(in) % 7) {
	case 0:
		return interesting(fuzz_u8(in));
	case 1:
		return old + (int8_t)fuzz_u8(in);
	case 2:
		return old ^ 1ull << fuzz_u8(in) % 64;
	case 3:
		return fuzz_u64(in);
	case 4:
		at = pick(in, &base->node);
		return at ? at->blk : 0;
	case 5:
		return fuzz_u16(in);
	default:
		return get64(((struct msnap_root *)blk_ptr(base->root_blk))->gen) +
		       (int8_t)fuzz_u8(in);
	}
}

static void mutate_field(struct fuzz_input *in, void *p, unsigned size)
{
	msnap_le64 le = { 0 };
	uint64_t v;

	memcpy(&le, p, size);
	v = new_value(in, get64(le));
	le = put64(v);
	memcpy(p, &le, size);
}

struct field {
	uint16_t off, size;
};
#define F(type, name) { offsetof(struct type, name), \
			sizeof(((struct type *)0)->name) > 8 ? 8 : \
			sizeof(((struct type *)0)->name) }
#define REF(type, name) F(type, name.blk), F(type, name.gen)

static const struct field inode_fields[] = {
	F(msnap_inode, mode), F(msnap_inode, nlink), F(msnap_inode, size),
	F(msnap_inode, nr_blk), REF(msnap_inode, ext), F(msnap_inode, parent),
	F(msnap_inode, version), F(msnap_inode, atime), F(msnap_inode, rdev),
	F(msnap_inode, flags), F(msnap_inode, reserved), F(msnap_inode, uid),
};
static const struct field dirent_fields[] = {
	F(msnap_dirent, ino), F(msnap_dirent, type), F(msnap_dirent, len),
	F(msnap_dirent, reserved), { 16, 1 }, { 17, 1 },
};
static const struct field xattr_fields[] = {
	F(msnap_xattr, len), F(msnap_xattr, name_len), F(msnap_xattr, reserved),
	{ 8, 1 }, { 9, 1 },
};
static const struct field symlink_fields[] = { { 0, 1 }, { 1, 8 } };
static const struct field extent_fields[] = {
	F(msnap_extent, blk), F(msnap_extent, gen), F(msnap_extent, nr),
	F(msnap_extent, flags), F(msnap_extent, reserved), { 24, 8 },
};
static const struct field snap_fields[] = {
	REF(msnap_snap, ns), F(msnap_snap, gen), F(msnap_snap, time_ns),
	F(msnap_snap, scope), F(msnap_snap, nr_inodes), F(msnap_snap, holds),
	F(msnap_snap, flags), F(msnap_snap, name_len),
	F(msnap_snap, comment_len), { 64, 1 },
};
static const struct field drop_fields[] = {
	REF(msnap_drop, root), F(msnap_drop, type), F(msnap_drop, reserved),
};
static const struct field scrub_fields[] = {
	F(msnap_scrub_rec, flags), F(msnap_scrub_rec, where),
	F(msnap_scrub_rec, snap), F(msnap_scrub_rec, cat),
	F(msnap_scrub_rec, ns.hi), F(msnap_scrub_rec, ns.lo),
	F(msnap_scrub_rec, ino), F(msnap_scrub_rec, fb),
	F(msnap_scrub_rec, begin_ns), F(msnap_scrub_rec, nr_passed),
	F(msnap_scrub_rec, reserved),
};
static const struct field node_fields[] = {
	F(msnap_node, magic), F(msnap_node, type), F(msnap_node, level),
	F(msnap_node, nr), F(msnap_node, blk), F(msnap_node, gen),
	F(msnap_node, owner), F(msnap_node, heap), F(msnap_node, dead),
	F(msnap_node, reserved),
};
static const struct field root_fields[] = {
	F(msnap_root, magic), F(msnap_root, gen), F(msnap_root, flags),
	REF(msnap_root, ns), REF(msnap_root, catalog), F(msnap_root, next_ino),
	F(msnap_root, next_snap), F(msnap_root, nr_inodes),
	F(msnap_root, space_blk), F(msnap_root, space_nr),
};
static const struct field super_fields[] = {
	F(msnap_super, magic), F(msnap_super, version), F(msnap_super, block_size),
	F(msnap_super, nr_blocks), F(msnap_super, compat),
	F(msnap_super, ro_compat), F(msnap_super, incompat), F(msnap_super, uuid),
	F(msnap_super, label), F(msnap_super, hash_seed),
};
static const struct field space_fields[] = {
	F(msnap_space_blk, magic), F(msnap_space_blk, gen),
	F(msnap_space_blk, next), F(msnap_space_blk, nr),
};
#define N(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	const struct field *field;
	unsigned nr;
	unsigned size;	 /* of the fixed part of the record */
} record_kinds[NR_KINDS] = {
	[KIND_INODE] = { inode_fields, N(inode_fields), 136 },
	[KIND_DIRENT] = { dirent_fields, N(dirent_fields), 18 },
	[KIND_XATTR] = { xattr_fields, N(xattr_fields), 10 },
	[KIND_SYMLINK] = { symlink_fields, N(symlink_fields), 9 },
	[KIND_EXTENT] = { extent_fields, N(extent_fields), 32 },
	[KIND_SNAP] = { snap_fields, N(snap_fields), 65 },
	[KIND_DROP] = { drop_fields, N(drop_fields), 24 },
	[KIND_ORPHAN] = { NULL, 0, 0 },
	[KIND_VIEW] = { NULL, 0, 0 },
	[KIND_SCRUB] = { scrub_fields, N(scrub_fields), 136 },
};

/* ---- mutations ------------------------------------------------------------------- */

static const struct place *pick_record(struct fuzz_input *in, enum kind *kind)
{
	*kind = fuzz_u8(in) % (base->lean ? NR_KINDS : NR_RICH_KINDS);
	return pick(in, &base->record[*kind]);
}

static void record_field(struct fuzz_input *in)
{
	enum kind kind;
	const struct place *at = pick_record(in, &kind);
	unsigned nr = record_kinds[kind].nr;
	const struct field *f;
	uint8_t *val;

	if (!at || !nr)
		return;
	f = &record_kinds[kind].field[fuzz_u8(in) % nr];
	val = value(touch(at->blk), at->idx, record_kinds[kind].size);
	if (val)
		mutate_field(in, val + f->off, f->size);
}

/* The key of one record or entry: half of it set, or that of another. */
static void record_key(struct fuzz_input *in)
{
	enum kind kind;
	const struct place *at = pick_record(in, &kind), *from;
	uint8_t how = fuzz_u8(in), *to, *key;
	struct msnap_node *n, *other;

	if (!at)
		return;
	n = touch(at->blk);
	to = entry(n, at->idx);
	if (to && how < 128)
		mutate_field(in, to + (n->type == MSNAP_TREE_EXTENT ? 0 : how % 2 * 8),
			     8);
	if (how < 128)
		return;
	from = pick(in, &base->record[kind]);
	other = blk_ptr(from->blk);
	key = entry(other, from->idx);
	if (to && key && other->type == n->type)
		memcpy(to, key, how & 1 ? 8 : msnap_key_size(n->type));
}

static void entry_key(struct fuzz_input *in)
{
	struct msnap_node *n = pick_node(in, &base->inner);
	uint8_t *e = n ? entry(n, fuzz_u8(in)) : NULL;

	if (e)
		mutate_field(in, e, 8);
}

static void record_slot(struct fuzz_input *in)
{
	enum kind kind;
	const struct place *at = pick_record(in, &kind);
	struct msnap_slot *s = at ? slot(touch(at->blk), at->idx) : NULL;

	if (s)
		mutate_field(in, fuzz_u8(in) & 1 ? &s->off : &s->len, 2);
}

static void from_table(struct fuzz_input *in, void *p, const struct field *f,
		       unsigned nr)
{
	f += fuzz_u8(in) % nr;
	mutate_field(in, (uint8_t *)p + f->off, f->size);
}

static void node_header(struct fuzz_input *in)
{
	struct msnap_node *n = pick_node(in, &base->node);

	if (n)
		from_table(in, n, node_fields, N(node_fields));
}

/* Where a reference to a tree node is: in an inner node, a record, the root. */
static struct msnap_ref *pick_ref(struct fuzz_input *in)
{
	static const unsigned off[NR_KINDS] = {
		[KIND_INODE] = offsetof(struct msnap_inode, ext),
		[KIND_SNAP] = offsetof(struct msnap_snap, ns),
		[KIND_DROP] = offsetof(struct msnap_drop, root),
	};
	static const enum kind kinds[] = { KIND_INODE, KIND_SNAP, KIND_DROP };
	uint8_t where = fuzz_u8(in) % 6;
	struct msnap_node *n;
	const struct place *at;
	uint8_t *p;

	if (where == 0)
		return &((struct msnap_root *)touch(base->root_blk))->ns;
	if (where == 1)
		return &((struct msnap_root *)touch(base->root_blk))->catalog;
	if (where == 2) {
		n = pick_node(in, &base->inner);
		p = n ? entry(n, fuzz_u8(in) % (msnap_node_nr(n) | 1)) : NULL;
		return p ? (struct msnap_ref *)(p + msnap_key_size(n->type)) : NULL;
	}
	at = pick(in, &base->record[kinds[where - 3]]);
	p = at ? value(touch(at->blk), at->idx, record_kinds[kinds[where - 3]].size) :
		 NULL;
	return p ? (struct msnap_ref *)(p + off[kinds[where - 3]]) : NULL;
}

/* Point at another node, in all correctness. */
static void redirect(struct fuzz_input *in)
{
	struct msnap_ref *ref = pick_ref(in);
	const struct place *at = pick(in, &base->node);
	const struct msnap_node *n;

	if (!ref || !at)
		return;
	n = blk_ptr(at->blk);
	*ref = (struct msnap_ref){ n->blk, n->gen };
}

static uint64_t unused_blk(struct fuzz_input *in)
{
	return base->unused.nr ? pick(in, &base->unused)->blk : 0;
}

/* One more level above a tree: an inner node with a single child. */
static void wrap(struct fuzz_input *in)
{
	struct msnap_ref *ref = pick_ref(in);
	uint64_t blk = unused_blk(in);
	const struct msnap_node *child;
	struct msnap_node *n;
	struct msnap_ptr ptr;

	if (!ref || !blk)
		return;
	ptr = msnap_ptr_load(*ref);
	child = blk_ptr(ptr.blk);
	n = touch(blk);
	memset(n, 0, sizeof(*n));
	n->magic = put32(MSNAP_NODE_MAGIC);
	n->blk = put64(blk);
	n->gen = child->gen;
	msnap_node_init(n, child->type, child->level + 1u, get64(child->owner));
	msnap_inner_insert(n, 0, (struct msnap_key){ 0, 0 }, ptr);
	*ref = (struct msnap_ref){ n->blk, n->gen };
}

/* The same child again and again. */
static void repeat(struct fuzz_input *in)
{
	struct msnap_ref *ref = pick_ref(in);
	struct msnap_node *n = ref ? touch(get64(ref->blk)) : NULL;
	unsigned times = fuzz_u8(in), i = fuzz_u8(in);
	struct msnap_key key;

	if (!n || !sound(n) || !n->level)
		return;
	i %= msnap_node_nr(n);
	while (times-- && msnap_node_nr(n) < msnap_node_max(n)) {
		key = msnap_node_key(n, i);
		if (n->type == MSNAP_TREE_EXTENT || ++key.lo == 0)
			key.hi++;
		msnap_inner_insert(n, i + 1, key, msnap_node_child(n, i));
		i++;
	}
}

/* A copy of a node in an unused place, and a reference to it. */
static void duplicate(struct fuzz_input *in)
{
	struct msnap_ref *ref = pick_ref(in);
	uint64_t blk = unused_blk(in);
	struct msnap_node *n;

	if (!ref || !blk)
		return;
	n = touch(blk);
	memcpy(n, blk_ptr(get64(ref->blk)), BLK);
	n->blk = put64(blk);
	*ref = (struct msnap_ref){ n->blk, n->gen };
}

static void remove_record(struct fuzz_input *in)
{
	enum kind kind;
	const struct place *at = pick_record(in, &kind);
	struct msnap_node *n = at ? touch(at->blk) : NULL;

	if (n && sound(n) && at->idx < msnap_node_nr(n))
		msnap_leaf_remove(n, at->idx, 1);
}

/* A record once more, under another key, in its place in the leaf. */
static void insert_record(struct fuzz_input *in)
{
	enum kind kind;
	const struct place *at = pick_record(in, &kind), *to;
	struct msnap_node *from, *n;
	uint8_t val[MSNAP_VAL_MAX];
	struct msnap_key key;
	const void *src;
	unsigned len, i;
	bool found;

	to = at ? pick(in, &base->record[kind]) : NULL;
	if (!to)
		return;
	from = blk_ptr(at->blk);
	n = touch(to->blk);
	if (!sound(from) || !sound(n) || at->idx >= msnap_node_nr(from) ||
	    n->type != from->type || n->level || from->level)
		return;
	key = msnap_node_key(from, at->idx);
	mutate_field(in, &key.hi, 8);
	if (n->type != MSNAP_TREE_EXTENT)
		mutate_field(in, &key.lo, 8);
	src = msnap_node_val(from, at->idx, &len);
	memcpy(val, src, len);
	i = msnap_node_search(n, key, &found);
	if (!found && msnap_leaf_room(n) >= len + msnap_node_stride(n))
		msnap_leaf_insert(n, i, key, val, len);
}

/* Put the entries of a node in order again. */
static void sort(struct fuzz_input *in)
{
	struct msnap_node *n = pick_node(in, &base->node);
	unsigned i, k, stride = n ? msnap_node_stride(n) : 0;
	uint8_t tmp[32];

	for (i = 1; n && i < msnap_node_nr(n) && entry(n, i); i++)
		for (k = i; k > 0 && msnap_key_cmp(msnap_node_key(n, k - 1),
						   msnap_node_key(n, k)) > 0; k--) {
			memcpy(tmp, entry(n, k), stride);
			memcpy(entry(n, k), entry(n, k - 1), stride);
			memcpy(entry(n, k - 1), tmp, stride);
		}
}

static void root_field(struct fuzz_input *in)
{
	from_table(in, touch(base->root_blk), root_fields, N(root_fields));
}

static void super_field(struct fuzz_input *in)
{
	from_table(in, touch(fuzz_u8(in) & 1 ? FUZZ_BLOCKS - 1 : 0), super_fields,
		   N(super_fields));
}

static void space_field(struct fuzz_input *in)
{
	const struct place *at = pick(in, &base->space);
	struct msnap_space_blk *b = at ? touch(at->blk) : NULL;
	struct msnap_space_run *run;
	uint8_t which;

	if (!b)
		return;
	which = fuzz_u8(in);
	if (which < 64) {
		from_table(in, b, space_fields, N(space_fields));
		return;
	}
	run = &b->run[fuzz_u8(in) % MSNAP_SPACE_RUNS];
	if (which < 128)
		mutate_field(in, &run->blk, 8);
	else
		mutate_field(in, which & 1 ? &run->nr : &run->count, 4);
}

static void copy_block(struct fuzz_input *in)
{
	struct msnap_node *to = pick_node(in, &base->node);
	const struct place *from = pick(in, &base->node);
	msnap_le64 blk;

	if (!to || !from)
		return;
	blk = to->blk;
	memmove(to, blk_ptr(from->blk), BLK);
	to->blk = blk;
}

static void raw_bytes(struct fuzz_input *in)
{
	uint64_t blk = fuzz_u16(in) % FUZZ_BLOCKS;
	unsigned off = fuzz_u16(in) % BLK, len = fuzz_u8(in) % 16 + 1;
	uint8_t *p = touch(blk);

	while (len-- && off < BLK)
		p[off++] = fuzz_u8(in);
}

/* The input may have one wrong checksum. */
static void wrong_csum(struct fuzz_input *in)
{
	const struct place *at = pick(in, &base->node);
	uint8_t which = fuzz_u8(in);
	uint64_t blk = at && which & 1 ? at->blk : which % MSNAP_FIRST_BLK;

	((msnap_le64 *)touch(blk))->le ^= 1;
	left_wrong[blk] = true;
}

/* Another root record: of an older or newer commit, and something about it else. */
static void second_root(struct fuzz_input *in)
{
	uint64_t blk = MSNAP_RING_BLK + fuzz_u8(in) % MSNAP_RING_SLOTS;
	struct msnap_root *root = touch(blk);

	if (blk != base->root_blk)
		memcpy(root, blk_ptr(base->root_blk), BLK);
	root->gen = put64(get64(root->gen) + (uint64_t)(int8_t)fuzz_u8(in));
	from_table(in, root, root_fields, N(root_fields));
}

/* One record's bytes in the place of another's of its kind, the key left alone. */
static void exchange_value(struct fuzz_input *in)
{
	enum kind kind;
	const struct place *to = pick_record(in, &kind), *from;
	unsigned size = record_kinds[kind].size;
	uint8_t *dst, *src;

	from = to ? pick(in, &base->record[kind]) : NULL;
	if (!from)
		return;
	dst = value(touch(to->blk), to->idx, size);
	src = value(blk_ptr(from->blk), from->idx, size);
	if (dst && src)
		memmove(dst, src, size);
}

/* Two extents that mean blocks in each other's way, or those of a node. */
static void overlap(struct fuzz_input *in)
{
	const struct place *a = pick(in, &base->record[KIND_EXTENT]);
	const struct place *b = pick(in, &base->record[KIND_EXTENT]);
	struct msnap_extent *to, *from;

	if (!a || !b)
		return;
	to = (void *)value(touch(a->blk), a->idx, sizeof(*to));
	from = (void *)value(blk_ptr(b->blk), b->idx, sizeof(*from));
	if (to && from) {
		to->blk = put64(get64(from->blk) + (uint64_t)(int8_t)fuzz_u8(in));
		to->nr = put16(fuzz_u8(in) % 80);
		to->flags = put16(fuzz_u8(in) % 4);
	}
}

void fuzz_image_mutate(struct fuzz_input *in)
{
	static void (*const how[])(struct fuzz_input *in) = {
		record_field, record_field, record_field, record_key, entry_key,
		record_slot, node_header, redirect, redirect, wrap, repeat,
		duplicate, remove_record, insert_record, insert_record, sort,
		root_field, super_field, space_field, space_field, copy_block,
		raw_bytes, wrong_csum,
		/* These came later, and not to the first bases: kept inputs for those
		 * go on meaning what they did. */
		second_root, exchange_value, overlap,
	};

	how[fuzz_u8(in) % (base->lean ? N(how) : N(how) - 3)](in);
}

/* ---- checksums --------------------------------------------------------------------- */

void fuzz_image_seal(void)
{
	uint64_t blk;

	for (blk = 0; blk < FUZZ_BLOCKS; blk++) {
		bool fixed = blk < MSNAP_FIRST_BLK || blk == FUZZ_BLOCKS - 1;
		msnap_le64 *csum = blk_ptr(blk);

		if (touched[blk] && !left_wrong[blk])
			*csum = put64(msnap_csum_meta(csum, fixed ? 0 : blk));
	}
}
