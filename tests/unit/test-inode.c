/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of inodes: making, naming, renaming, removing, attributes. */
#include "util.h"

#include <unistd.h>

#include "cow/inode.h"

static struct msnap_attr attr, gone;

static int try_create(uint64_t dir, const char *name, uint32_t mode,
		      const char *target)
{
	struct msnap_new what = { .mode = mode, .target = target };

	return msnap_create(pool, dir, name, strlen(name), &what, &attr);
}

static int try_link(uint64_t ino, uint64_t dir, const char *name)
{
	return msnap_link(pool, ino, dir, name, strlen(name), &attr);
}

static int try_unlink(uint64_t dir, const char *name, bool rmdir)
{
	return msnap_unlink(pool, dir, name, strlen(name), rmdir, &gone);
}

static int try_rename(uint64_t dir, const char *name, uint64_t new_dir,
		      const char *new_name, unsigned flags)
{
	gone.ino = 12345;
	return msnap_rename(pool, dir, name, strlen(name), new_dir, new_name,
			    strlen(new_name), flags, &gone);
}

static uint64_t at(uint64_t dir, const char *name)
{
	return find(msnap_live(dir), name);
}

static unsigned nlink(uint64_t ino)
{
	return attr_of(msnap_live(ino)).nlink;
}

/* Of a directory: the number of entries. */
static unsigned entries(uint64_t ino)
{
	return attr_of(msnap_live(ino)).size;
}

/* ---- making ---------------------------------------------------------------------------- */

START_TEST(every_type)
{
	static const uint32_t types[] = { S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK,
					  S_IFCHR, S_IFBLK };
	struct msnap_new what = { .uid = 7, .gid = 8, .rdev = 0x123 };
	char name[2] = "a";
	unsigned i;

	pool_make(4);
	for (i = 0; i < 6; i++, name[0]++) {
		what.mode = types[i] | 02751;
		ok(msnap_create(pool, ROOT, name, 1, &what, &attr));
		must(attr.mode == (types[i] | 02751));
		must(attr.uid == 7 && attr.gid == 8 && attr.rdev == 0x123);
		must(attr.nlink == (types[i] == S_IFDIR ? 2 : 1));
		must(attr.size == 0 && attr.nr_blk == 0);
		must(at(ROOT, name) == attr.ino);
		attr = attr_of(msnap_live(attr.ino));
		must(attr.mode == (types[i] | 02751) && attr.rdev == 0x123);
		must(attr.btime.tv_sec == attr.mtime.tv_sec);
	}
	must(entries(ROOT) == 6 && nlink(ROOT) == 3);
	pool_reopen(0);
	must(at(ROOT, "f"));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(create_refused)
{
	uint64_t file, dir;
	char name[300];

	pool_make(4);
	file = mk_file(ROOT, "f");
	dir = mk_dir(ROOT, "d");
	fails(-EEXIST, try_create(ROOT, "f", S_IFREG, NULL));
	fails(-EEXIST, try_create(ROOT, "f", S_IFDIR, NULL));
	fails(-EEXIST, try_create(ROOT, "d", S_IFDIR, NULL));
	fails(-ENOTDIR, try_create(file, "x", S_IFREG, NULL));
	fails(-ENOENT, try_create(999, "x", S_IFREG, NULL));
	fails(-EINVAL, try_create(ROOT, "", S_IFREG, NULL));
	fails(-EINVAL, try_create(ROOT, ".", S_IFREG, NULL));
	fails(-EINVAL, try_create(ROOT, "..", S_IFREG, NULL));
	fails(-EINVAL, try_create(ROOT, "a/b", S_IFREG, NULL));
	fails(-EINVAL, msnap_create(pool, ROOT, "a\0b", 3,
				    &(struct msnap_new){ .mode = S_IFREG }, &attr));
	memset(name, 'n', sizeof(name));
	name[256] = 0;
	fails(-ENAMETOOLONG, try_create(ROOT, name, S_IFREG, NULL));
	name[255] = 0;
	ok(try_create(ROOT, name, S_IFREG, NULL));
	must(at(ROOT, name) == attr.ino);
	ok(try_create(ROOT, "...", S_IFREG, NULL));
	/* A directory that was removed but is open takes no more names. */
	ok(try_unlink(ROOT, "d", true));
	fails(-ENOENT, try_create(dir, "x", S_IFREG, NULL));
	fails(-ENOENT, try_link(file, dir, "x"));
	fails(-ENOENT, try_rename(ROOT, "f", dir, "x", 0));
	ok(msnap_evict(pool, dir));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(symlinks)
{
	static const unsigned lens[] = { 1, 2, 59, 1023, 1024, 1025, 2048, 3000,
					 4095 };
	char to[4097], got[4096];
	unsigned i;

	pool_make(4);
	for (i = 0; i < 9; i++) {
		char name[8];
		uint64_t ino;

		sprintf(name, "l%u", i);
		fill_bytes((uint8_t *)to, 0, lens[i], i);
		to[lens[i]] = 0;
		ino = mk_symlink(ROOT, name, to);
		must(size_of(ino) == lens[i]);
		must(ok(msnap_readlink(pool, msnap_live(ino), got,
				       sizeof(got))) == (long)lens[i]);
		must(!memcmp(got, to, lens[i]));
		fails(-ERANGE, msnap_readlink(pool, msnap_live(ino), got,
					      lens[i] - 1));
	}
	memset(to, 'x', sizeof(to));
	to[4096] = 0;
	fails(-ENAMETOOLONG, try_create(ROOT, "x", S_IFLNK, to));
	fails(-ENOENT, try_create(ROOT, "x", S_IFLNK, ""));
	fails(-EINVAL, msnap_readlink(pool, msnap_live(mk_file(ROOT, "f")), got,
				      100));
	must(entries(ROOT) == 10);
	pool_ok();
	for (i = 0; i < 9; i++) {
		char name[8];

		sprintf(name, "l%u", i);
		rm(ROOT, name);
	}
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(files_without_a_name)
{
	uint64_t a, b;

	pool_make(4);
	a = mk_tmpfile();
	b = mk_tmpfile();
	put_bytes(a, 0, 1000, 1);
	must(nlink(a) == 0 && entries(ROOT) == 0);
	pool_ok();
	ok(try_link(a, ROOT, "named"));
	must(attr.nlink == 1 && attr.ino == a);
	ok(msnap_evict(pool, a)); /* is no orphan any more */
	must(has_bytes(msnap_live(a), 0, 1000, 1));
	ok(msnap_evict(pool, b));
	fails(-ENOENT, msnap_getattr(pool, msnap_live(b), &attr));
	fails(-ENOENT, try_link(b, ROOT, "x"));
	ok(msnap_evict(pool, b));
	ok(msnap_evict(pool, 777));
	pool_ok();
	pool_reopen(0);
	must(at(ROOT, "named") == a);
	pool_gone();
}
END_TEST

/* ---- links and removing ---------------------------------------------------------------------- */

START_TEST(hard_links)
{
	uint64_t file, dir;

	pool_make(4);
	file = mk_file(ROOT, "f");
	dir = mk_dir(ROOT, "d");
	put_bytes(file, 0, 100, 1);
	ok(try_link(file, dir, "g"));
	must(attr.nlink == 2 && attr.ino == file);
	ok(try_link(file, ROOT, "h"));
	must(nlink(file) == 3);
	fails(-EEXIST, try_link(file, ROOT, "f"));
	fails(-EPERM, try_link(dir, ROOT, "x"));
	fails(-ENOENT, try_link(999, ROOT, "x"));
	fails(-ENOTDIR, try_link(file, file, "x"));
	must(nlink(file) == 3);
	ok(try_unlink(ROOT, "f", false));
	must(gone.ino == file && gone.nlink == 2);
	ok(msnap_evict(pool, file));
	ok(try_unlink(ROOT, "h", false));
	must(has_bytes(msnap_live(at(dir, "g")), 0, 100, 1));
	pool_ok();
	ok(try_unlink(dir, "g", false));
	must(gone.nlink == 0);
	must(has_bytes(msnap_live(file), 0, 100, 1)); /* while it is open */
	pool_ok();
	ok(msnap_evict(pool, file));
	fails(-ENOENT, msnap_getattr(pool, msnap_live(file), &attr));
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(removing)
{
	uint64_t dir, sub;

	pool_make(4);
	dir = mk_dir(ROOT, "d");
	sub = mk_dir(dir, "s");
	mk_file(ROOT, "f");
	must(nlink(ROOT) == 3 && nlink(dir) == 3);
	fails(-ENOENT, try_unlink(ROOT, "x", false));
	fails(-ENOENT, try_unlink(ROOT, "x", true));
	fails(-EISDIR, try_unlink(ROOT, "d", false));
	fails(-ENOTDIR, try_unlink(ROOT, "f", true));
	fails(-ENOTEMPTY, try_unlink(ROOT, "d", true));
	fails(-EINVAL, try_unlink(ROOT, ".", true));
	ok(try_unlink(dir, "s", true));
	must(gone.ino == sub && gone.nlink == 0);
	must(nlink(dir) == 2 && entries(dir) == 0);
	ok(msnap_evict(pool, sub));
	rm_dir(ROOT, "d");
	rm(ROOT, "f");
	must(nlink(ROOT) == 2 && entries(ROOT) == 0);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(numbers_are_not_used_again)
{
	uint64_t last = 0, i;

	pool_make(4);
	for (i = 0; i < 100; i++) {
		uint64_t ino = mk_file(ROOT, "f");

		must(ino > last && ino >= MSNAP_FIRST_INO);
		last = ino;
		rm(ROOT, "f");
		if (i % 10 == 0)
			pool_reopen(0);
	}
	pool_gone();
}
END_TEST

/* Files whose contents may be newer elsewhere: on a list while they exist. */
START_TEST(the_list_of_views)
{
	uint64_t f, ino;

	pool_make(4);
	f = mk_file(ROOT, "f");
	fails(-ENOENT, msnap_view_add(pool, 0));
	fails(-ENOENT, msnap_view_add(pool, f + 1));
	fails(-EISDIR, msnap_view_add(pool, ROOT));
	fails(-ENOENT, msnap_view_next(pool, 0, &ino));
	ok(msnap_view_add(pool, f));
	ok(msnap_view_add(pool, f));
	unlink_only(ROOT, "f");
	ok(msnap_view_next(pool, 0, &ino));
	must(ino == f);
	pool_ok();
	ok(msnap_commit(pool));
	pool_crash(0); /* opening evicts it */
	fails(-ENOENT, msnap_view_next(pool, 0, &ino));
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- renaming ---------------------------------------------------------------------------------- */

static uint64_t a, b, file, other;

/* a/ has f, b/ has g; b/sub is a directory with x. */
static void make_tree(void)
{
	pool_make(4);
	a = mk_dir(ROOT, "a");
	b = mk_dir(ROOT, "b");
	file = mk_file(a, "f");
	other = mk_file(b, "g");
	mk_file(mk_dir(b, "sub"), "x");
}

START_TEST(rename_files)
{
	make_tree();
	ok(try_rename(a, "f", a, "f2", 0));
	must(gone.ino == 0 && at(a, "f2") == file && !at(a, "f"));
	must(entries(a) == 1);
	ok(try_rename(a, "f2", b, "f3", 0));
	must(at(b, "f3") == file && entries(a) == 0 && entries(b) == 3);
	ok(try_rename(b, "f3", b, "g", 0));
	must(gone.ino == other && gone.nlink == 0 && entries(b) == 2);
	must(at(b, "g") == file);
	ok(msnap_evict(pool, other));
	ok(try_rename(b, "g", b, "g", 0));
	must(at(b, "g") == file && gone.ino == 0);
	fails(-ENOENT, try_rename(b, "none", b, "x", 0));
	fails(-ENOENT, try_rename(999, "g", b, "x", 0));
	fails(-ENOENT, try_rename(b, "g", 999, "x", 0));
	fails(-ENOTDIR, try_rename(b, "g", file, "x", 0));
	fails(-ENOTDIR, try_rename(file, "g", b, "x", 0));
	fails(-EINVAL, try_rename(b, "g", b, "..", 0));
	fails(-EINVAL, try_rename(b, "", b, "z", 0));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(rename_directories)
{
	uint64_t sub;

	make_tree();
	sub = at(b, "sub");
	ok(try_rename(b, "sub", a, "sub2", 0));
	must(attr_of(msnap_live(sub)).parent == a);
	must(nlink(a) == 3 && nlink(b) == 2 && nlink(ROOT) == 4);
	fails(-EINVAL, try_rename(ROOT, "a", sub, "loop", 0));
	fails(-EINVAL, try_rename(ROOT, "a", a, "loop", 0));
	fails(-EINVAL, try_rename(ROOT, "a", a, "sub2", 0));
	fails(-EISDIR, try_rename(a, "f", ROOT, "b", 0));
	fails(-ENOTDIR, try_rename(ROOT, "b", a, "f", 0));
	fails(-ENOTEMPTY, try_rename(ROOT, "b", a, "sub2", 0));
	fails(-ENOTEMPTY, try_rename(a, "sub2", ROOT, "a", 0));
	rm(sub, "x");
	ok(try_rename(ROOT, "b", a, "sub2", 0));
	must(gone.ino == sub && gone.nlink == 0);
	must(at(a, "sub2") == b && nlink(a) == 3 && nlink(ROOT) == 3);
	must(attr_of(msnap_live(b)).parent == a);
	ok(msnap_evict(pool, sub));
	pool_ok();
	/* Within one directory, onto an empty one. */
	mk_dir(ROOT, "e");
	ok(try_rename(ROOT, "a", ROOT, "e", 0));
	must(nlink(ROOT) == 3 && at(ROOT, "e") == a);
	ok(msnap_evict(pool, gone.ino));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(rename_without_replacing)
{
	make_tree();
	fails(-EEXIST, try_rename(a, "f", b, "g", MSNAP_RENAME_NOREPLACE));
	fails(-EEXIST, try_rename(a, "f", a, "f", MSNAP_RENAME_NOREPLACE));
	fails(-EEXIST, try_rename(a, "f", ROOT, "b", MSNAP_RENAME_NOREPLACE));
	ok(try_rename(a, "f", b, "f", MSNAP_RENAME_NOREPLACE));
	must(at(b, "f") == file);
	ok(try_link(file, b, "f2"));
	fails(-EEXIST, try_rename(b, "f", b, "f2", MSNAP_RENAME_NOREPLACE));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(rename_exchange)
{
	uint64_t sub;

	make_tree();
	sub = at(b, "sub");
	ok(try_rename(a, "f", b, "g", MSNAP_RENAME_EXCHANGE));
	must(at(a, "f") == other && at(b, "g") == file && gone.ino == 0);
	ok(try_rename(a, "f", b, "sub", MSNAP_RENAME_EXCHANGE));
	must(at(a, "f") == sub && at(b, "sub") == other);
	must(attr_of(msnap_live(sub)).parent == a);
	must(nlink(a) == 3 && nlink(b) == 2);
	pool_ok();
	ok(try_rename(a, "f", ROOT, "b", MSNAP_RENAME_EXCHANGE)); /* directories */
	must(at(a, "f") == b && at(ROOT, "b") == sub);
	must(nlink(a) == 3 && nlink(ROOT) == 4);
	fails(-EINVAL, try_rename(ROOT, "a", a, "f", MSNAP_RENAME_EXCHANGE));
	fails(-EINVAL, try_rename(a, "f", ROOT, "a", MSNAP_RENAME_EXCHANGE));
	fails(-ENOENT, try_rename(a, "f", a, "none", MSNAP_RENAME_EXCHANGE));
	fails(-ENOENT, try_rename(a, "none", a, "f", MSNAP_RENAME_EXCHANGE));
	ok(try_rename(a, "f", a, "f", MSNAP_RENAME_EXCHANGE));
	must(at(a, "f") == b);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(rename_links_of_one_file)
{
	make_tree();
	ok(try_link(file, b, "same"));
	ok(try_rename(a, "f", b, "same", 0)); /* nothing, says rename(2) */
	must(at(a, "f") == file && at(b, "same") == file && gone.ino == 0);
	ok(try_rename(b, "same", b, "g", 0));
	must(gone.ino == other && nlink(file) == 2);
	ok(msnap_evict(pool, other));
	ok(try_link(file, b, "third"));
	mk_file(b, "h");
	ok(try_rename(b, "h", b, "third", 0));
	must(gone.ino == file && gone.nlink == 2);
	pool_ok();
	pool_gone();
}
END_TEST

/*
 * Directories by chance, against a table: directory @i is called "n<i>" and is in
 * directory up[i]; NR is the root.
 */
#define NR 24
static unsigned up[NR];

static bool below(unsigned dir, unsigned top)
{
	while (dir != NR && dir != top)
		dir = up[dir];
	return dir == top;
}

START_TEST(directories_by_chance)
{
	uint64_t ino[NR + 1];
	unsigned i, k, round;
	char name[8];

	pool_make(8);
	ino[NR] = ROOT;
	for (i = 0; i < NR; i++) {
		sprintf(name, "n%u", i);
		ino[i] = mk_dir(ROOT, name);
		up[i] = NR;
	}
	for (round = 0; round < 3000; round++) {
		uint64_t from, to;
		int err;

		i = rnd(NR);
		k = rnd(NR + 1);
		from = ino[up[i]];
		to = ino[k];
		sprintf(name, "n%u", i);
		err = try_rename(from, name, to, name, 0);
		if (below(k, i)) {
			must(err == -EINVAL);
			continue;
		}
		ok(err);
		up[i] = k;
		must(attr_of(msnap_live(ino[i])).parent == to);
		if (round % 300 == 0)
			pool_ok();
	}
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- attributes -------------------------------------------------------------------------------- */

START_TEST(attributes)
{
	struct msnap_attr set = { .mode = S_IFDIR | 04711,
				  .uid = 11,
				  .gid = 12,
				  .atime = { -5, 6 },
				  .mtime = { 1ll << 40, 999999999 },
				  .ctime = { 3, 4 } };
	uint64_t ino, version;

	pool_make(4);
	ino = mk_file(ROOT, "f");
	version = attr_of(msnap_live(ino)).version;
	ok(msnap_setattr(pool, ino, &set, MSNAP_SET_MODE | MSNAP_SET_UID |
					  MSNAP_SET_GID | MSNAP_SET_ATIME |
					  MSNAP_SET_MTIME | MSNAP_SET_CTIME,
			 &attr));
	must(attr.mode == (S_IFREG | 04711) && attr.uid == 11 && attr.gid == 12);
	must(attr.atime.tv_sec == -5 && attr.atime.tv_nsec == 6);
	must(attr.mtime.tv_sec == 1ll << 40);
	must(attr.mtime.tv_nsec == 999999999 && attr.ctime.tv_sec == 3);
	must(attr.version > version);
	pool_reopen(0);
	gone = attr_of(msnap_live(ino));
	must(!memcmp(&gone, &attr, sizeof(attr)));
	ok(msnap_setattr(pool, ino, &set, MSNAP_SET_UID, &attr));
	must(attr.ctime.tv_sec > 1000 && attr.mtime.tv_sec == 1ll << 40);
	set.size = 100;
	ok(msnap_setattr(pool, ino, &set, MSNAP_SET_SIZE, &attr));
	must(attr.size == 100 && attr.mtime.tv_sec != 1ll << 40);
	ok(msnap_setattr(pool, ino, &set, MSNAP_SET_SIZE | MSNAP_SET_MTIME, &attr));
	must(attr.mtime.tv_sec == 1ll << 40);
	fails(-EISDIR, msnap_setattr(pool, ROOT, &set, MSNAP_SET_SIZE, &attr));
	fails(-ENOENT, msnap_setattr(pool, 999, &set, MSNAP_SET_UID, &attr));
	fails(-EINVAL, msnap_setattr(pool, mk_symlink(ROOT, "l", "x"), &set,
				     MSNAP_SET_SIZE, &attr));
	set.size = 1ull << 63;
	fails(-EFBIG, msnap_setattr(pool, ino, &set, MSNAP_SET_SIZE, &attr));
	fails(-ENOENT, msnap_getattr(pool, msnap_live(999), &attr));
	fails(-ENOENT, msnap_getattr(pool, in_snap(3, ROOT), &attr));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(times_of_directories)
{
	struct msnap_attr before, now;

	pool_make(4);
	before = attr_of(msnap_live(ROOT));
	usleep(20000);
	mk_file(ROOT, "f");
	now = attr_of(msnap_live(ROOT));
	must(now.mtime.tv_nsec != before.mtime.tv_nsec);
	must(now.version > before.version && now.size == 1);
	usleep(20000);
	rm(ROOT, "f");
	must(attr_of(msnap_live(ROOT)).mtime.tv_nsec != now.mtime.tv_nsec);
	pool_gone();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		every_type, create_refused, symlinks, files_without_a_name,
		hard_links, removing, numbers_are_not_used_again, the_list_of_views,
		rename_files,
		rename_directories, rename_without_replacing, rename_exchange,
		rename_links_of_one_file, directories_by_chance, attributes,
		times_of_directories, NULL
	};

	return run_tests("inode", tests);
}
