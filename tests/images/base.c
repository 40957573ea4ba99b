/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow/commit.h"
#include "cow/csum.h"

#define BLK MSNAP_BLOCK_SIZE
#define NR_MANY 120
#define NR_SCATTERED 300
#define LONG_LINK 3000

long image_must(long ret, const char *file, int line)
{
	if (ret >= 0)
		return ret;
	fprintf(stderr, "%s:%d: %s\n", file, line, strerror((int)-ret));
	exit(99);
}

/* ---- paths ---------------------------------------------------------- */

uint64_t image_snap(struct msnap_pool *pool, const char *name)
{
	struct msnap_snap_info info = { 0 };

	while (!msnap_snap_next(pool, info.id, &info))
		if (!strcmp(info.name, name))
			return info.id;
	fprintf(stderr, "no snapshot %s\n", name);
	exit(99);
}

/* The snapshot and its topmost directory. */
static const char *split(struct msnap_pool *pool, const char *path,
			 struct msnap_id *top)
{
	const char *colon = strchr(path, ':');
	struct msnap_snap_info info;
	char name[64];

	*top = msnap_live(MSNAP_ROOT_INO);
	if (!colon)
		return path;
	snprintf(name, sizeof(name), "%.*s", (int)(colon - path), path);
	top->snap = image_snap(pool, name);
	MUST(msnap_snap_get(pool, top->snap, &info));
	top->ino = info.scope;
	return colon + 1;
}

/* Up to the last name: *rest. */
static int walk(struct msnap_pool *pool, const char *path, struct msnap_id *id,
		const char **rest)
{
	struct msnap_attr attr;

	path = split(pool, path, id);
	for (;;) {
		size_t len = strcspn(path += strspn(path, "/"), "/");
		int err;

		if (!path[len]) {
			*rest = path;
			return 0;
		}
		err = msnap_lookup(pool, *id, path, len, &attr);
		if (err)
			return err;
		id->ino = attr.ino;
		path += len;
	}
}

int image_find_dir(struct msnap_pool *pool, const char *path, struct msnap_id *dir,
		   const char **name)
{
	return walk(pool, path, dir, name);
}

int image_find(struct msnap_pool *pool, const char *path, struct msnap_id *id)
{
	struct msnap_attr attr;
	const char *name;
	int err = walk(pool, path, id, &name);

	if (err || !*name)
		return err;
	err = msnap_lookup(pool, *id, name, strlen(name), &attr);
	if (!err)
		id->ino = attr.ino;
	return err;
}

/* ---- contents ------------------------------------------------------- */

static void fill(uint8_t *buf, size_t len, unsigned seed, uint64_t off)
{
	size_t i;

	for (i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed * 31 + (off + i) * 7 + ((off + i) >> 12));
}

static void put(struct msnap_pool *pool, uint64_t ino, unsigned seed, uint64_t off,
		size_t len)
{
	static uint8_t buf[128 * BLK];

	fill(buf, len, seed, off);
	MUST(msnap_pwrite(pool, ino, buf, len, off, false));
}

static uint64_t make(struct msnap_pool *pool, const char *path, uint32_t mode,
		     const char *target)
{
	struct msnap_new what = { .mode = mode, .target = target, .rdev = 259 };
	struct msnap_attr attr;
	struct msnap_id dir;
	const char *name;

	MUST(image_find_dir(pool, path, &dir, &name));
	MUST(msnap_create(pool, dir.ino, name, strlen(name), &what, &attr));
	return attr.ino;
}

static uint64_t file(struct msnap_pool *pool, const char *path, unsigned seed,
		     size_t len)
{
	uint64_t ino = make(pool, path, S_IFREG | 0644, NULL);

	put(pool, ino, seed, 0, len);
	return ino;
}

static uint64_t ino_of(struct msnap_pool *pool, const char *path)
{
	struct msnap_id id;

	MUST(image_find(pool, path, &id));
	return id.ino;
}

static void snap(struct msnap_pool *pool, const char *name, const char *dir,
		 const char *entry)
{
	struct msnap_snap_item item = { ino_of(pool, dir), entry,
					entry ? strlen(entry) : 0 };
	uint64_t id;

	MUST(msnap_snap_create(pool, name, "a comment", 0, &item, 1, &id));
}

/* Extents of one block each: a tree with an inner node. */
static void scatter(struct msnap_pool *pool, const char *path, unsigned seed)
{
	uint64_t ino = make(pool, path, S_IFREG | 0644, NULL);
	unsigned i;

	for (i = 0; i < NR_SCATTERED; i++)
		put(pool, ino, seed, 2ull * i * BLK, BLK);
}

static void clone_file(struct msnap_pool *pool, const char *from, const char *to)
{
	struct msnap_owner as_it_was = { -1, -1 };
	struct msnap_attr attr, gone;
	struct msnap_id dir;
	const char *name;

	MUST(image_find_dir(pool, to, &dir, &name));
	MUST(msnap_clone(pool, msnap_live(ino_of(pool, from)), dir.ino, name,
			 strlen(name), as_it_was, 0, &attr, &gone));
}

static void xattrs(struct msnap_pool *pool, uint64_t ino)
{
	char value[5000];

	memset(value, 'v', sizeof(value));
	MUST(msnap_xattr_set(pool, ino, "user.small", "x", 1, 0));
	MUST(msnap_xattr_set(pool, ino, "user.big", value, sizeof(value), 0));
}

static void make_many(struct msnap_pool *pool)
{
	char path[32];
	unsigned i;

	make(pool, "/many", S_IFDIR | 0755, NULL);
	for (i = 0; i < NR_MANY; i++) {
		snprintf(path, sizeof(path), "/many/f%03u", i);
		file(pool, path, i, 100);
	}
}

static void make_all(struct msnap_pool *pool)
{
	char target[LONG_LINK + 1];
	struct msnap_attr attr;
	uint64_t hello;

	memset(target, 't', LONG_LINK);
	target[LONG_LINK] = 0;
	hello = file(pool, "/hello", 1, 15);
	xattrs(pool, hello);
	file(pool, "/whole", 2, 70 * BLK);
	scatter(pool, "/scattered", 3);
	make(pool, "/a", S_IFDIR | 0755, NULL);
	make(pool, "/a/b", S_IFDIR | 0750, NULL);
	file(pool, "/a/b/deep", 4, 5000);
	make(pool, "/a/link", S_IFLNK | 0777, "b/deep");
	make(pool, "/a/long", S_IFLNK | 0777, target);
	make(pool, "/a/fifo", S_IFIFO | 0600, NULL);
	MUST(msnap_link(pool, hello, ino_of(pool, "/a"), "hello2", 6, &attr));
	clone_file(pool, "/scattered", "/a/clone");
	put(pool, ino_of(pool, "/a/clone"), 5, 14 * BLK, BLK);
	make_many(pool);
	MUST(msnap_commit(pool));
	snap(pool, "all", "/", NULL);
	put(pool, ino_of(pool, "/many/f010"), 6, 0, 200);
	snap(pool, "dir", "/a", NULL);
	snap(pool, "one", "/many", "f007");
	MUST(msnap_commit(pool));
}

void image_make_late(struct msnap_pool *pool)
{
	file(pool, "/late", 7, 6000);
	put(pool, ino_of(pool, "/many/f020"), 8, 0, 100);
	MUST(msnap_commit(pool));
}

/* ---- the file ------------------------------------------------------- */

/* The same pool every time: identity and seed of the hashes are fixed. */
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

struct msnap_pool *image_make(const char *name)
{
	struct msnap_open_args args = { .flags = MSNAP_OPEN_NO_BACKGROUND };
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct msnap_pool *pool;
	struct msnap_mem *mem;
	struct msnap_why why;

	MUST(fd < 0 || ftruncate(fd, IMAGE_SIZE) ? -errno : 0);
	close(fd);
	MUST(msnap_mem_open(name, false, 0, &mem, &why));
	MUST(msnap_pool_format_mem(mem, name, "image", &why));
	fix_identity(mem);
	MUST(msnap_pool_open_mem(mem, name, &args, &pool, &why));
	make_all(pool);
	return pool;
}

/* ---- verifying ------------------------------------------------------ */

static unsigned wrong(const char *path, const char *what)
{
	printf("%s: %s\n", path, what);
	return 1;
}

static bool same(struct msnap_pool *pool, struct msnap_id id, unsigned seed,
		 uint64_t off, size_t len)
{
	static uint8_t have[128 * BLK], want[128 * BLK];

	fill(want, len, seed, off);
	return msnap_pread(pool, id, have, len, off) == (ssize_t)len &&
	       !memcmp(have, want, len);
}

static unsigned check_file(struct msnap_pool *pool, const char *path, unsigned seed,
			   size_t len, bool (*lost)(const char *path))
{
	struct msnap_attr attr;
	struct msnap_id id;

	if (lost(path))
		return 0;
	if (image_find(pool, path, &id) || msnap_getattr(pool, id, &attr))
		return wrong(path, "is gone");
	if (attr.size != len)
		return wrong(path, "has another size");
	return same(pool, id, seed, 0, len) ? 0 : wrong(path, "has other contents");
}

/* @other: seed of the block that the clone has of its own. */
static unsigned check_scattered(struct msnap_pool *pool, const char *path,
				unsigned other, bool (*lost)(const char *path))
{
	struct msnap_id id;
	unsigned i;

	if (lost(path))
		return 0;
	if (image_find(pool, path, &id))
		return wrong(path, "is gone");
	for (i = 0; i < NR_SCATTERED; i++)
		if (!same(pool, id, i == 7 ? other : 3, 2ull * i * BLK, BLK))
			return wrong(path, "has other contents");
	return 0;
}

static unsigned check_link(struct msnap_pool *pool, const char *path, size_t len,
			   bool (*lost)(const char *path))
{
	char buf[4096];
	struct msnap_id id;

	if (lost(path))
		return 0;
	if (image_find(pool, path, &id))
		return wrong(path, "is gone");
	return msnap_readlink(pool, id, buf, sizeof(buf)) == (int)len ?
		       0 : wrong(path, "has another target");
}

static unsigned check_xattrs(struct msnap_pool *pool, const char *path,
			     bool (*lost)(const char *path))
{
	struct msnap_id id;

	if (lost(path))
		return 0;
	if (image_find(pool, path, &id))
		return wrong(path, "is gone");
	return msnap_xattr_get(pool, id, "user.big", NULL, 0) == 5000 &&
	       msnap_xattr_get(pool, id, "user.small", NULL, 0) == 1 ?
		       0 : wrong(path, "has other xattrs");
}

static const char *in_snap(char buf[80], const char *snap, const char *path)
{
	snprintf(buf, 80, "%s%s%s", snap, *snap ? ":" : "", path);
	return buf;
}

static unsigned check_a(struct msnap_pool *pool, const char *snap, bool whole,
			bool (*lost)(const char *path))
{
	char path[80];
	const char *a = whole ? "/a" : "";
	char name[60];
	unsigned bad = 0;

#define IN_A(NAME) (snprintf(name, sizeof(name), "%s/" NAME, a), \
		    in_snap(path, snap, name))
	bad += check_file(pool, IN_A("hello2"), 1, 15, lost);
	bad += check_file(pool, IN_A("b/deep"), 4, 5000, lost);
	bad += check_scattered(pool, IN_A("clone"), 5, lost);
	bad += check_link(pool, IN_A("link"), 6, lost);
	bad += check_link(pool, IN_A("long"), LONG_LINK, lost);
#undef IN_A
	return bad;
}

static unsigned check_many(struct msnap_pool *pool, const char *snap,
			   bool (*lost)(const char *path))
{
	char path[80], name[20];
	unsigned i, bad = 0;

	for (i = 0; i < NR_MANY; i++) {
		bool live = !*snap;

		snprintf(name, sizeof(name), "/many/f%03u", i);
		in_snap(path, snap, name);
		if (live && i == 10)
			bad += check_file(pool, path, 6, 200, lost);
		else
			bad += check_file(pool, path, live && i == 20 ? 8 : i, 100,
					  lost);
	}
	return bad;
}

static unsigned check_whole(struct msnap_pool *pool, const char *snap,
			    bool (*lost)(const char *path))
{
	char path[80];
	unsigned bad = 0;

	bad += check_file(pool, in_snap(path, snap, "/hello"), 1, 15, lost);
	bad += check_xattrs(pool, in_snap(path, snap, "/hello"), lost);
	bad += check_file(pool, in_snap(path, snap, "/whole"), 2, 70 * BLK, lost);
	bad += check_scattered(pool, in_snap(path, snap, "/scattered"), 3, lost);
	bad += check_a(pool, snap, true, lost);
	return bad + check_many(pool, snap, lost);
}

unsigned image_verify(struct msnap_pool *pool, bool (*lost)(const char *path))
{
	unsigned bad = check_whole(pool, "", lost);

	bad += check_file(pool, "/late", 7, 6000, lost);
	if (!lost("all:"))
		bad += check_whole(pool, "all", lost);
	if (!lost("dir:"))
		bad += check_a(pool, "dir", false, lost);
	if (!lost("one:"))
		bad += check_file(pool, "one:/f007", 7, 100, lost);
	return bad;
}
