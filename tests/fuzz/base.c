/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base.h"

#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow/commit.h"
#include "cow/csum.h"
#include "cow/pool.h"

#define BLK MSNAP_BLOCK_SIZE

static struct msnap_pool *pool;

static long must(long ret, int line)
{
	if (ret >= 0)
		return ret;
	fprintf(stderr, "base.c:%d: %s\n", line, strerror((int)-ret));
	exit(1);
}
#define MUST(x) must(x, __LINE__)

static uint64_t make(uint64_t dir, const char *name, uint32_t mode,
		     const char *target)
{
	struct msnap_new what = { .mode = mode, .target = target, .rdev = 259 };
	struct msnap_attr attr;

	MUST(msnap_create(pool, dir, name, name ? strlen(name) : 0, &what, &attr));
	return attr.ino;
}

static uint64_t file(uint64_t dir, const char *name)
{
	return make(dir, name, S_IFREG | 0644, NULL);
}

static uint64_t subdir(uint64_t dir, const char *name)
{
	return make(dir, name, S_IFDIR | 0755, NULL);
}

static void put(uint64_t ino, uint64_t off, size_t len)
{
	static uint8_t buf[128 * BLK];

	memset(buf, (int)(ino + off / BLK), len);
	MUST(msnap_pwrite(pool, ino, buf, len, off, false));
}

/* Many extents of one block each: a tree with an inner node. */
static void scatter(uint64_t ino, unsigned nr)
{
	unsigned i;

	for (i = 0; i < nr; i++)
		put(ino, 2ull * i * BLK, BLK - i % 3);
}

static uint64_t snap(const char *name, uint64_t dir, const char *entry)
{
	struct msnap_snap_item item = { dir, entry, entry ? strlen(entry) : 0 };
	uint64_t id;

	MUST(msnap_snap_create(pool, name, "a comment", 0, &item, 1, &id));
	return id;
}

static uint64_t copy_of(uint64_t ino, uint64_t dir, const char *name)
{
	struct msnap_owner as_it_was = { -1, -1 };
	struct msnap_attr attr, gone;

	MUST(msnap_clone(pool, msnap_live(ino), dir, name, strlen(name), as_it_was,
			 0, &attr, &gone));
	return attr.ino;
}

static void drop(uint64_t dir, const char *name, bool evict)
{
	struct msnap_attr gone;

	MUST(msnap_unlink(pool, dir, name, strlen(name), false, &gone));
	if (evict)
		MUST(msnap_evict(pool, gone.ino));
}

static void xattrs(uint64_t ino)
{
	static char value[5000];

	memset(value, 'v', sizeof(value));
	MUST(msnap_xattr_set(pool, ino, "user.small", "x", 1, 0));
	MUST(msnap_xattr_set(pool, ino, "user.empty", "", 0, 0));
	MUST(msnap_xattr_set(pool, ino, "user.big", value, sizeof(value), 0));
}

static void fill_files(uint64_t root)
{
	uint64_t ino;

	scatter(file(root, "scattered"), 110);
	put(file(root, "whole"), 0, 70 * BLK);
	ino = file(root, "sparse");
	put(ino, 0, 100);
	put(ino, 1ull << 40, 100);
	put(ino, (1ull << 63) - 9, 8);
	ino = file(root, "allocated");
	MUST(msnap_fallocate(pool, ino, 0, 0, 40 * BLK));
	put(ino, 10 * BLK, 3 * BLK);
	MUST(msnap_fallocate(pool, ino, FALLOC_FL_KEEP_SIZE, 50 * BLK, 10 * BLK));
	xattrs(ino);
}

static void fill_dirs(uint64_t root)
{
	uint64_t a = subdir(root, "a"), b = subdir(a, "b"), c = subdir(b, "c");
	uint64_t many = subdir(root, "many"), f = file(c, "first");
	char target[3001], name[16];
	struct msnap_attr attr;
	unsigned i;

	memset(target, 't', 3000);
	target[3000] = 0;
	make(a, "short", S_IFLNK | 0777, "b/c/first");
	make(a, "long", S_IFLNK | 0777, target);
	make(b, "device", S_IFBLK | 0600, NULL);
	make(b, "fifo", S_IFIFO | 0600, NULL);
	put(f, 0, 5);
	MUST(msnap_link(pool, f, a, "second", 6, &attr));
	MUST(msnap_link(pool, f, root, "third", 5, &attr));
	xattrs(a);
	for (i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "file%u", i);
		put(file(many, name), 0, i % 4 ? 10 : 5000);
	}
	copy_of(many, a, "clone-of-many");
}

static uint64_t find(uint64_t dir, const char *name)
{
	struct msnap_attr attr;

	MUST(msnap_lookup(pool, msnap_live(dir), name, strlen(name), &attr));
	return attr.ino;
}

/* What only time brings: versions that differ, trees that wait to be dropped, and
 * files without a name. */
static void age(uint64_t root)
{
	uint64_t scattered = find(root, "scattered"), a = find(root, "a"), gone;

	gone = snap("gone", root, NULL);
	copy_of(scattered, a, "shared");
	put(scattered, 20 * BLK, 3 * BLK);
	snap("root", root, NULL);
	put(find(a, "shared"), 7, 9);
	scatter(file(root, "victim"), 100);
	snap("tree", a, NULL);
	drop(find(root, "many"), "file3", true);
	snap("one", find(root, "many"), "file7");
	drop(root, "victim", true);
	drop(a, "second", false);
	MUST(msnap_snap_delete(pool, gone));
	file(root, NULL);
	put(file(root, NULL), 0, 9000);
	drop(find(root, "many"), "file8", false);
}

/* ---- the lean one ---------------------------------------------------------- */
/* Inputs that are over sooner: most of what one takes is walking its pool. */

static void punch(uint64_t ino, uint64_t fb, uint64_t nr)
{
	MUST(msnap_fallocate(pool, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			     fb * BLK, nr * BLK));
}

/* An extent tree with an inner node, and no more in it than keeps its leaves apart;
 * few of the extents have data that would have to be verified. */
static void scatter_thinly(uint64_t ino)
{
	unsigned i;

	for (i = 0; i < 118; i++)
		MUST(msnap_fallocate(pool, ino, 0, 2ull * i * BLK, BLK));
	punch(ino, 20, 50);
	punch(ino, 150, 60);
	put(ino, 6 * BLK, 5);
	put(ino, 218 * BLK, BLK);
	put(ino, 233 * BLK, 7);
}

static void fill_lean(uint64_t root)
{
	uint64_t a = subdir(root, "a"), b = subdir(a, "b"), f = file(b, "first");
	uint64_t views = file(root, "viewed");
	char target[1501];
	struct msnap_attr attr;

	memset(target, 't', 1500);
	target[1500] = 0;
	scatter_thinly(file(root, "scattered"));
	put(file(root, "whole"), 0, 9 * BLK);
	put(file(root, "end"), (1ull << 63) - 9, 8);
	make(a, "short", S_IFLNK | 0777, "b/first");
	make(a, "long", S_IFLNK | 0777, target);
	make(b, "device", S_IFBLK | 0600, NULL);
	put(f, 0, 5);
	MUST(msnap_link(pool, f, root, "second", 6, &attr));
	MUST(msnap_fallocate(pool, f, FALLOC_FL_KEEP_SIZE, BLK, 4 * BLK));
	MUST(msnap_xattr_set(pool, a, "user.small", "x", 1, 0));
	MUST(msnap_xattr_set(pool, f, "user.big", target, 1400, 0));
	put(views, 0, 100);
	MUST(msnap_view_add(pool, views));
}

static void begin_scrub(void)
{
	struct msnap_scrub *scrub;
	uint64_t bytes;

	MUST(msnap_scrub_begin(pool, true, &scrub));
	MUST(msnap_scrub_step(scrub, NULL, NULL, &bytes));
	MUST(msnap_scrub_save(scrub, false));
	msnap_scrub_free(scrub);
}

static void age_lean(uint64_t root)
{
	uint64_t scattered = find(root, "scattered"), a = find(root, "a"), gone;

	gone = snap("gone", root, NULL);
	copy_of(scattered, a, "shared");
	put(find(a, "shared"), 12 * BLK, BLK);
	snap("root", root, NULL);
	drop(root, "end", true);
	copy_of(find(a, "b"), root, "clone");
	snap("tree", a, NULL);
	snap("one", root, "whole");
	put(find(root, "whole"), 7, 9);
	scatter_thinly(file(root, "victim"));
	MUST(msnap_commit(pool));
	drop(root, "victim", true);
	MUST(msnap_snap_delete(pool, gone));
	file(root, NULL);
	drop(find(root, "clone"), "first", false);
	begin_scrub();
}

/* The same pool every time. */
static void fix_identity(struct msnap_mem *mem)
{
	struct msnap_super *super = (void *)mem->base, *backup;
	struct msnap_root *root = (void *)(mem->base + 2 * BLK);

	memset(super->uuid, 0x5a, sizeof(super->uuid));
	super->hash_seed = put64(12345);
	super->csum = put64(msnap_csum_meta(super, 0));
	backup = (void *)(mem->base + mem->size - BLK);
	*backup = *super;
	memset(root->uuid, 0x5a, sizeof(root->uuid));
	root->csum = put64(msnap_csum_meta(root, 0));
}

void fuzz_base_make(struct msnap_mem *mem, enum fuzz_content content, bool clean)
{
	struct msnap_open_args args = { .flags = MSNAP_OPEN_NO_BACKGROUND };
	struct msnap_why why;

	MUST(msnap_pool_format_mem(mem, "base", "label", &why));
	fix_identity(mem);
	if (content == FUZZ_NOTHING)
		return;
	MUST(msnap_pool_open_mem(mem, "base", &args, &pool, &why));
	if (content == FUZZ_RICH) {
		fill_files(MSNAP_ROOT_INO);
		fill_dirs(MSNAP_ROOT_INO);
	} else {
		fill_lean(MSNAP_ROOT_INO);
	}
	MUST(msnap_commit(pool));
	(content == FUZZ_RICH ? age : age_lean)(MSNAP_ROOT_INO);
	MUST(msnap_commit(pool));
	if (clean)
		MUST(msnap_pool_close(pool));
	else
		msnap_pool_abandon(pool);
}
