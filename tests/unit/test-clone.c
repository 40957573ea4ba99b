/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of clones. */
#include "util.h"

#include <unistd.h>

static const struct msnap_owner same = { -1, -1 }, other = { 500, 600 };
static struct msnap_attr attr, gone;
static uint64_t dir, sub, file;

static int clone_to(struct msnap_id src, uint64_t to, const char *name,
		    struct msnap_owner owner, unsigned flags)
{
	return msnap_clone(pool, src, to, name, strlen(name), owner, flags, &attr,
			   &gone);
}

static uint64_t clone_ok(struct msnap_id src, uint64_t to, const char *name)
{
	ok(clone_to(src, to, name, same, 0));
	must(gone.ino == 0 && find(msnap_live(to), name) == attr.ino);
	return attr.ino;
}

static void own(uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid)
{
	struct msnap_attr a = { .mode = mode, .uid = uid, .gid = gid }, out;

	ok(msnap_setattr(pool, ino, &a,
			 MSNAP_SET_MODE | MSNAP_SET_UID | MSNAP_SET_GID, &out));
}

/* d/ has f, l (a link of f), sym and s/; s/ has f2 (a link of f) and names. */
static void make_tree(void)
{
	unsigned i;

	pool_make(32);
	dir = mk_dir(ROOT, "d");
	file = mk_file(dir, "f");
	own(file, 06755, 10, 20);
	put_bytes(file, 0, 300000, 1);
	put_bytes(file, 1 << 20, 5000, 2);
	ok(msnap_xattr_set(pool, file, "user.a", "abc", 3, 0));
	mk_link(file, dir, "l");
	mk_symlink(dir, "sym", "where to");
	sub = mk_dir(dir, "s");
	own(sub, 02775, 11, 21);
	mk_link(file, sub, "f2");
	for (i = 0; i < 300; i++) {
		char name[8];

		sprintf(name, "n%u", i);
		put_bytes(mk_file(sub, name), 0, 10 + i, i);
	}
}

static uint64_t used(void)
{
	struct msnap_space_stat stat;

	ok(msnap_commit(pool));
	ok(msnap_commit(pool));
	msnap_space_stat(pool->space, &stat);
	return stat.nr_blocks - stat.nr_free;
}

/* ---- files ------------------------------------------------------------------------------ */

START_TEST(a_file)
{
	struct msnap_attr orig;
	uint64_t before, ino;
	unsigned i;

	make_tree();
	for (i = 0; i < 2000; i++)
		put_bytes(file, (1000 + 2 * i) * BLK, 10, i);
	orig = attr_of(msnap_live(file));
	ok(msnap_commit(pool));
	before = used();
	ino = clone_ok(msnap_live(file), ROOT, "c");
	must(used() - before < 8);
	must(attr.nlink == 1 && attr.mode == orig.mode && attr.uid == 10);
	must(attr.size == orig.size && attr.nr_blk == orig.nr_blk);
	must(attr.mtime.tv_nsec == orig.mtime.tv_nsec);
	must(attr.btime.tv_sec >= orig.btime.tv_sec);
	same_tree(msnap_live(file), msnap_live(ino), false);
	must(attr_of(msnap_live(file)).nlink == 3);
	/* Each goes its own way. */
	put_bytes(file, 10, 100, 8);
	put_bytes(ino, 5000, 100, 9);
	set_size(file, 2 << 20);
	must(has_bytes(msnap_live(ino), 0, 5000, 1));
	must(has_bytes(msnap_live(ino), 5000, 100, 9));
	must(has_bytes(msnap_live(file), 5000, 1000, 1));
	must(has_bytes(msnap_live(ino), (1000 + 2 * 1999) * BLK, 10, 1999));
	pool_ok();
	pool_crash(0);
	must(find(msnap_live(ROOT), "c") == ino); /* durable */
	pool_gone();
}
END_TEST

START_TEST(clones_of_clones)
{
	uint64_t ino[30], nr_free;
	unsigned i, k;

	make_tree();
	nr_free = pool_free_blks();
	ino[0] = file;
	for (i = 1; i < 30; i++) {
		char name[8];

		sprintf(name, "c%u", i);
		ino[i] = clone_ok(msnap_live(ino[rnd(i)]), ROOT, name);
		put_bytes(ino[i], 2000000 + i * 100, 50, i);
	}
	for (i = 1; i < 30; i++)
		must(has_bytes(msnap_live(ino[i]), 2000000 + i * 100, 50, i));
	pool_ok();
	for (i = 1; i < 30; i++) {
		char name[8];

		k = 1 + i * 7 % 29;
		sprintf(name, "c%u", k);
		rm(ROOT, name);
	}
	/* But for how full the leaves of the namespace are. */
	must(pool_free_blks() + 8 >= nr_free);
	must(has_bytes(msnap_live(file), 0, 300000, 1));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(other_kinds)
{
	char to[100];
	uint64_t ino;
	struct msnap_new fifo = { .mode = S_IFIFO | 0600, .rdev = 0 };

	make_tree();
	ino = clone_ok(msnap_live(find(msnap_live(dir), "sym")), ROOT, "sym2");
	must(msnap_readlink(pool, msnap_live(ino), to, 100) == 8);
	must(!memcmp(to, "where to", 8));
	ok(msnap_create(pool, ROOT, "fifo", 4, &fifo, &attr));
	ino = clone_ok(msnap_live(attr.ino), ROOT, "fifo2");
	must(S_ISFIFO(attr.mode));
	ino = clone_ok(msnap_live(mk_file(ROOT, "empty")), ROOT, "empty2");
	put_bytes(ino, 0, 10, 1);
	must(size_of(find(msnap_live(ROOT), "empty")) == 0);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(owners)
{
	make_tree();
	ok(clone_to(msnap_live(file), ROOT, "a", same, 0));
	must(attr.mode == (S_IFREG | 06755) && attr.uid == 10 && attr.gid == 20);
	ok(clone_to(msnap_live(file), ROOT, "b", other, 0));
	must(attr.uid == 500 && attr.gid == 600);
	must(attr.mode == (S_IFREG | 0755)); /* nobody else's rights */
	ok(clone_to(msnap_live(dir), ROOT, "c", other, 0));
	must(attr.uid == 500);
	attr = attr_of(msnap_live(find(msnap_live(attr.ino), "s")));
	must(attr.uid == 500 && attr.gid == 600);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(from_a_snapshot)
{
	uint64_t snap, ino;

	make_tree();
	snap = snap_dir("s", ROOT);
	put_bytes(file, 0, 300000, 7);
	rm(dir, "l");
	ino = clone_ok(in_snap(snap, file), ROOT, "old");
	same_tree(in_snap(snap, file), msnap_live(ino), false);
	must(attr.nlink == 1);
	ino = clone_ok(in_snap(snap, dir), ROOT, "olddir");
	same_tree(in_snap(snap, dir), msnap_live(ino), true);
	ok(msnap_snap_delete(pool, snap));
	pool_settled_ok();
	must(has_bytes(msnap_live(find(msnap_live(ino), "f")), 0, 300000, 1));
	/* Of chosen entries: the directory with only these. */
	snap = snap_file("one", dir, "f");
	ino = clone_ok(in_snap(snap, dir), ROOT, "few");
	must(attr.size == 1 && attr.nlink == 2);
	mk_file(ino, "more");
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(in_the_place_of_a_file)
{
	uint64_t old, ino;

	make_tree();
	old = mk_file(ROOT, "there");
	put_bytes(old, 0, 100, 5);
	fails(-EEXIST, clone_to(msnap_live(file), ROOT, "there", same, 0));
	ok(clone_to(msnap_live(file), ROOT, "there", same, MSNAP_CLONE_REPLACE));
	must(gone.ino == old && gone.nlink == 0);
	ino = attr.ino;
	must(find(msnap_live(ROOT), "there") == ino && ino != old);
	must(has_bytes(msnap_live(old), 0, 100, 5));
	ok(msnap_evict(pool, old));
	must(attr_of(msnap_live(ROOT)).size == 2);
	fails(-EISDIR, clone_to(msnap_live(file), ROOT, "d", same,
				MSNAP_CLONE_REPLACE));
	fails(-EEXIST, clone_to(msnap_live(sub), ROOT, "there", same,
				MSNAP_CLONE_REPLACE));
	/* One of several links; and a file by its own clone. */
	ok(clone_to(msnap_live(ino), dir, "l", same, MSNAP_CLONE_REPLACE));
	must(gone.ino == file && gone.nlink == 2);
	ok(clone_to(msnap_live(ino), ROOT, "there", same, MSNAP_CLONE_REPLACE));
	must(gone.ino == ino && gone.nlink == 0);
	must(has_bytes(msnap_live(attr.ino), 0, 300000, 1) && attr.nlink == 1);
	ok(msnap_evict(pool, ino));
	ok(clone_to(msnap_live(file), ROOT, "new", same, MSNAP_CLONE_REPLACE));
	must(gone.ino == 0);
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(refused)
{
	uint64_t orphan, view;

	make_tree();
	mk_dir(ROOT, "gone");
	ok(msnap_unlink(pool, ROOT, "gone", 4, true, &gone));
	orphan = gone.ino;
	view = pool_view();
	fails(-ENOENT, clone_to(msnap_live(999), ROOT, "x", same, 0));
	fails(-ENOENT, clone_to(in_snap(9, file), ROOT, "x", same, 0));
	fails(-ENOENT, clone_to(msnap_live(file), 999, "x", same, 0));
	fails(-ENOTDIR, clone_to(msnap_live(file), file, "x", same, 0));
	fails(-EINVAL, clone_to(msnap_live(file), ROOT, "", same, 0));
	fails(-EINVAL, clone_to(msnap_live(file), ROOT, "..", same, 0));
	fails(-EEXIST, clone_to(msnap_live(dir), ROOT, "d", same, 0));
	fails(-ENOENT, clone_to(msnap_live(file), orphan, "x", same, 0));
	must(pool_view() == view);
	/* A directory that was removed: not, or as one that can be used. */
	if (!clone_to(msnap_live(orphan), ROOT, "x", same, 0)) {
		must(attr.nlink == 2);
		mk_file(attr.ino, "y");
	}
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- directories ------------------------------------------------------------------------- */

START_TEST(a_directory)
{
	uint64_t ino, before;

	make_tree();
	before = used();
	ino = clone_ok(msnap_live(dir), ROOT, "e");
	must(used() - before < 40); /* records, no data */
	same_tree(msnap_live(dir), msnap_live(ino), true);
	must(attr_of(msnap_live(ROOT)).nlink == 4);
	must(attr_of(msnap_live(ino)).parent == ROOT);
	pool_settled_ok();
	put_bytes(find(msnap_live(ino), "f"), 0, 1000, 9);
	must(has_bytes(msnap_live(find(msnap_live(ino), "l")), 0, 1000, 9));
	must(has_bytes(msnap_live(file), 0, 300000, 1));
	pool_ok();
	pool_gone();
}
END_TEST

/* The copy is not copied into itself. */
static int not_secret(void *arg, const struct msnap_attr *attr)
{
	++*(unsigned *)arg;
	return attr->mode & 0004 ? 0 : -EACCES;
}

/* Each inode is asked about when it is copied; one that must not be, and none is. */
START_TEST(only_what_one_may)
{
	struct msnap_owner owner = { 7, 7 };
	struct msnap_attr set = { .mode = 0600 }, attr, gone;
	uint64_t d, f, view;
	unsigned asked = 0;

	pool_make(8);
	d = mk_dir(ROOT, "d");
	mk_file(d, "e");
	f = mk_file(mk_dir(d, "sub"), "f");
	ok(msnap_setattr(pool, f, &set, MSNAP_SET_MODE, &attr));
	view = pool_view();
	fails(-EACCES, msnap_clone_if(pool, msnap_live(d), ROOT, "c", 1, owner, 0,
				      not_secret, &asked, &attr, &gone));
	must(pool_view() == view);
	set.mode = 0644;
	ok(msnap_setattr(pool, f, &set, MSNAP_SET_MODE, &attr));
	asked = 0;
	ok(msnap_clone_if(pool, msnap_live(d), ROOT, "c", 1, owner, 0, not_secret,
			  &asked, &attr, &gone));
	must(asked == 4);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(into_itself)
{
	uint64_t ino, snap, nr_free, i;

	make_tree();
	nr_free = pool_free_blks();
	snap = snap_dir("before", dir);
	ino = clone_ok(msnap_live(dir), dir, "copy");
	same_tree(in_snap(snap, dir), msnap_live(ino), true);
	ino = clone_ok(msnap_live(dir), sub, "copy2");
	must(find(msnap_live(find(msnap_live(ino), "copy")), "f"));
	must(!find(msnap_live(find(msnap_live(ino), "s")), "copy2"));
	pool_settled_ok();
	ino = clone_ok(msnap_live(ROOT), sub, "all");
	must(find(msnap_live(ino), "d"));
	pool_settled_ok();
	ok(msnap_rollback(pool, snap, dir, NULL, 0, no_cache, NULL));
	for (i = 0; i < 5000; i++)
		ok(msnap_evict(pool, i));
	ok(msnap_snap_delete(pool, snap));
	must(pool_free_blks() + 8 >= nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

/* A link from outside of what is cloned stays where it is. */
START_TEST(links_from_outside)
{
	uint64_t ino;

	make_tree();
	mk_link(file, ROOT, "outside");
	ino = clone_ok(msnap_live(sub), ROOT, "s2");
	must(attr_of(msnap_live(find(msnap_live(ino), "f2"))).nlink == 1);
	ino = clone_ok(msnap_live(dir), ROOT, "d2");
	must(attr_of(msnap_live(find(msnap_live(ino), "f"))).nlink == 3);
	must(attr_of(msnap_live(file)).nlink == 4);
	pool_settled_ok();
	pool_gone();
}
END_TEST

/* Small pool: clones until nothing is left, and then all must go again. */
START_TEST(until_the_pool_is_full)
{
	uint64_t nr_free, i, nr;
	unsigned k;
	char name[32];
	int err;

	pool_make(4);
	dir = mk_dir(ROOT, "d");
	for (k = 0; k < 500; k++) {
		sprintf(name, "n%u", k);
		mk_file(dir, name);
	}
	nr_free = pool_free_blks();
	for (nr = 0;; nr++) {
		sprintf(name, "c%lu", (unsigned long)nr);
		err = clone_to(msnap_live(dir), ROOT, name, same, 0);
		if (err)
			break;
	}
	must(err == -ENOSPC && nr > 3);
	pool_settled_ok();
	for (i = 0; i < nr; i++) {
		uint64_t ino;

		sprintf(name, "c%lu", (unsigned long)i);
		ino = find(msnap_live(ROOT), name);
		for (k = 0; k < 500; k++) {
			char n[16];

			sprintf(n, "n%u", k);
			rm(ino, n);
		}
		rm_dir(ROOT, name);
	}
	must(pool_free_blks() + 8 >= nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_file, clones_of_clones, other_kinds, owners, from_a_snapshot,
		in_the_place_of_a_file, refused, a_directory, only_what_one_may, into_itself,
		links_from_outside, until_the_pool_is_full, NULL
	};

	return run_tests("clone", tests);
}
