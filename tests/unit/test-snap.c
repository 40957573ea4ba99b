/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of snapshots: what they hold, their names, and that they leave nothing. */
#include "util.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

#include "cow/inode.h"

static uint64_t dir, sub, file, deep;

/* d/ has f and s/; s/ has deep and a link of f. */
static void make_tree(void)
{
	pool_make(32);
	dir = mk_dir(ROOT, "d");
	file = mk_file(dir, "f");
	put_bytes(file, 0, 50000, 1);
	ok(msnap_xattr_set(pool, file, "user.x", "abc", 3, 0));
	sub = mk_dir(dir, "s");
	deep = mk_file(sub, "deep");
	put_bytes(deep, 0, 100, 2);
	mk_link(file, sub, "link");
	mk_symlink(sub, "sym", "to nowhere");
	mk_file(ROOT, "top");
}

static struct msnap_snap_info info_of(uint64_t snap)
{
	struct msnap_snap_info info;

	ok(msnap_snap_get(pool, snap, &info));
	return info;
}

static unsigned nr_of(struct msnap_id id)
{
	unsigned nr;

	free(entries_of(id, &nr));
	return nr;
}

static uint64_t find_snap(uint64_t of, const char *name)
{
	struct msnap_snap_info info;
	int err = msnap_snap_find(pool, of, name, &info);

	if (err == -ENOENT)
		return 0;
	ok(err);
	return info.id;
}

/* ---- what they hold ----------------------------------------------------------------------- */

START_TEST(of_everything)
{
	struct msnap_space_stat a, b;
	struct msnap_snap_info info;
	uint64_t snap;

	make_tree();
	ok(msnap_commit(pool));
	msnap_space_stat(pool->space, &a);
	snap = snap_dir("all", ROOT);
	msnap_space_stat(pool->space, &b);
	must(a.nr_free - b.nr_free <= 2); /* the catalog */
	same_tree(in_snap(snap, ROOT), msnap_live(ROOT), true);
	info = info_of(snap);
	must(info.scope == ROOT && !info.partial && info.nr_inodes == 7);
	must(info.holds == 0 && info.gen && info.time.tv_sec > 1000000);
	must(!strcmp(info.name, "all") && !info.comment[0]);
	put_bytes(file, 100, 100, 9);
	rm(ROOT, "top");
	mk_file(dir, "new");
	must(has_bytes(in_snap(snap, file), 0, 50000, 1));
	must(find(in_snap(snap, ROOT), "top"));
	must(!find(in_snap(snap, dir), "new"));
	must(attr_of(in_snap(snap, dir)).size == 2);
	pool_ok();
	pool_crash(0);
	must(has_bytes(in_snap(snap, file), 0, 50000, 1)); /* durable */
	pool_gone();
}
END_TEST

START_TEST(of_a_directory)
{
	struct msnap_snap_info info;
	uint64_t snap;

	make_tree();
	snap = snap_dir("one", dir);
	same_tree(in_snap(snap, dir), msnap_live(dir), true);
	info = info_of(snap);
	must(info.scope == dir && !info.partial && info.nr_inodes == 5);
	fails(-ENOENT, msnap_getattr(pool, in_snap(snap, ROOT),
				     &(struct msnap_attr){ 0 }));
	must(msnap_snap_holds(pool, snap, file) == 1);
	must(msnap_snap_holds(pool, snap, sub) == 1);
	must(msnap_snap_holds(pool, snap, ROOT) == 0);
	fails(-ENOENT, msnap_snap_holds(pool, 99, file));
	put_bytes(file, 0, 50000, 8);
	rm(sub, "deep");
	must(has_bytes(in_snap(snap, file), 0, 50000, 1));
	must(has_bytes(in_snap(snap, deep), 0, 100, 2));
	pool_ok();
	pool_crash(0);
	must(has_bytes(in_snap(snap, deep), 0, 100, 2));
	pool_gone();
}
END_TEST

START_TEST(of_a_file)
{
	struct msnap_snap_info info;
	uint64_t snap;

	make_tree();
	snap = snap_file("one", dir, "f");
	info = info_of(snap);
	must(info.scope == dir && info.partial && info.nr_inodes == 2);
	must(find(in_snap(snap, dir), "f") == file);
	must(nr_of(in_snap(snap, dir)) == 1);
	must(attr_of(in_snap(snap, dir)).size == 1);
	must(attr_of(in_snap(snap, dir)).nlink == 2);
	must(has_bytes(in_snap(snap, file), 0, 50000, 1));
	must(msnap_snap_holds(pool, snap, dir) == 1);
	must(msnap_snap_holds(pool, snap, sub) == 0);
	pool_ok();
	rm(dir, "f");
	rm(sub, "link");
	must(has_bytes(in_snap(snap, file), 0, 50000, 1));
	pool_reopen(0);
	must(has_bytes(in_snap(snap, file), 0, 50000, 1));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(of_several)
{
	struct msnap_snap_item items[] = {
		{ dir, "f", 1 }, { ROOT, "top", 3 }, { sub, "sym", 3 },
		{ sub, "deep", 4 }, { sub, "link", 4 },
	};
	struct msnap_snap_info info;
	uint64_t snap;
	unsigned i;

	make_tree();
	for (i = 0; i < 5; i++)
		items[i].dir = i == 0 ? dir : i == 1 ? ROOT : sub;
	ok(msnap_snap_create(pool, "some", "why not", 17, items, 5, &snap));
	info = info_of(snap);
	must(info.partial && info.uid == 17 && !strcmp(info.comment, "why not"));
	must(info.nr_inodes == 3 + 4);
	must(nr_of(in_snap(snap, ROOT)) == 1 && nr_of(in_snap(snap, dir)) == 1);
	must(nr_of(in_snap(snap, sub)) == 3);
	must(find(in_snap(snap, sub), "link") == file);
	pool_ok();
	ok(msnap_snap_delete(pool, snap));
	pool_settled_ok();
	pool_gone();
}
END_TEST

/* The same more than once, in each order: once in the snapshot. */
START_TEST(of_what_overlaps)
{
	struct msnap_snap_item all[4];
	uint64_t snap, nr_free;
	unsigned order;

	make_tree();
	nr_free = pool_free_blks();
	for (order = 0; order < 24; order++) {
		struct msnap_snap_item from[] = { { dir, NULL, 0 },
						  { sub, NULL, 0 },
						  { dir, "f", 1 },
						  { sub, "link", 4 } };
		unsigned i, left = 4, o = order;

		for (i = 0; i < 4; i++) {
			unsigned k = o % left;

			o /= left;
			all[i] = from[k];
			memmove(&from[k], &from[k + 1],
				(--left - k) * sizeof(*from));
		}
		ok(msnap_snap_create(pool, "o", NULL, 0, all, 4, &snap));
		same_tree(in_snap(snap, dir), msnap_live(dir), true);
		must(info_of(snap).nr_inodes == 5 && !info_of(snap).partial);
		pool_ok();
		ok(msnap_snap_delete(pool, snap));
	}
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(of_the_root_and_more)
{
	struct msnap_snap_item items[] = { { 0, "f", 1 }, { ROOT, NULL, 0 } };
	uint64_t snap;

	make_tree();
	items[0].dir = dir;
	ok(msnap_snap_create(pool, "s", NULL, 0, items, 2, &snap));
	same_tree(in_snap(snap, ROOT), msnap_live(ROOT), true);
	must(!info_of(snap).partial && info_of(snap).scope == ROOT);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(refused)
{
	struct msnap_snap_item item;
	char name[300], comment[600];
	uint64_t snap = 777;

	make_tree();
	fails(-EINVAL, msnap_snap_create(pool, "s", "", 0, &item, 0, &snap));
	fails(-ENOENT, try_snap("s", 999, NULL, &snap));
	fails(-ENOTDIR, try_snap("s", file, NULL, &snap));
	fails(-ENOTDIR, try_snap("s", file, "x", &snap));
	fails(-ENOENT, try_snap("s", dir, "none", &snap));
	fails(-EISDIR, try_snap("s", dir, "s", &snap));
	fails(-EINVAL, try_snap("", ROOT, NULL, &snap));
	fails(-EINVAL, try_snap(".", ROOT, NULL, &snap));
	fails(-EINVAL, try_snap("..", ROOT, NULL, &snap));
	fails(-EINVAL, try_snap("a/b", ROOT, NULL, &snap));
	memset(name, 'n', sizeof(name));
	name[201] = 0;
	fails(-ENAMETOOLONG, try_snap(name, ROOT, NULL, &snap));
	memset(comment, 'c', sizeof(comment));
	comment[513] = 0;
	item = (struct msnap_snap_item){ ROOT, NULL, 0 };
	must(msnap_snap_create(pool, "s", comment, 0, &item, 1, &snap) < 0);
	must(snap == 777);
	name[200] = 0;
	comment[512] = 0;
	ok(msnap_snap_create(pool, name, comment, 0, &item, 1, &snap));
	must(!strcmp(info_of(snap).name, name));
	must(!strcmp(info_of(snap).comment, comment));
	fails(-ENOENT, msnap_snap_get(pool, 99, &(struct msnap_snap_info){ 0 }));
	fails(-ENOENT, msnap_snap_delete(pool, 99));
	fails(-ENOENT, msnap_snap_rename(pool, 99, "x"));
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- names -------------------------------------------------------------------------------------- */

START_TEST(names_above_and_below)
{
	uint64_t side, snap;

	make_tree();
	side = mk_dir(ROOT, "side");
	snap_dir("n", dir);
	fails(-EEXIST, try_snap("n", dir, NULL, &snap));
	fails(-EEXIST, try_snap("n", ROOT, NULL, &snap)); /* above */
	fails(-EEXIST, try_snap("n", sub, NULL, &snap));  /* below */
	fails(-EEXIST, try_snap("n", dir, "f", &snap));
	fails(-EEXIST, try_snap("n", sub, "deep", &snap));
	ok(try_snap("n", side, NULL, &snap)); /* beside it */
	ok(try_snap("n", ROOT, "top", &snap)); /* of the root, but without those */
	fails(-EEXIST, try_snap("n", ROOT, "top", &snap));
	ok(try_snap("m", ROOT, NULL, &snap));
	fails(-EEXIST, try_snap("m", side, NULL, &snap));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(names_of_all_items_count)
{
	uint64_t x, y, up, snap;
	struct msnap_snap_item items[2] = { { 0 } };

	make_tree();
	up = mk_dir(ROOT, "up");
	x = mk_dir(up, "x");
	y = mk_dir(mk_dir(ROOT, "other"), "y");
	items[0].dir = x;
	items[1].dir = y;
	ok(msnap_snap_create(pool, "n", "", 0, items, 2, &snap));
	must(find_snap(x, "n") == snap && find_snap(y, "n") == snap);
	fails(-EEXIST, try_snap("n", up, NULL, &snap));
	fails(-EEXIST, try_snap("n", find(msnap_live(ROOT), "other"), NULL, &snap));
	/* Nor by another name first. */
	snap = snap_dir("m", find(msnap_live(ROOT), "other"));
	fails(-EEXIST, msnap_snap_rename(pool, snap, "n"));
	pool_gone();
}
END_TEST

START_TEST(names_found_from_inside)
{
	uint64_t all, one, part;

	make_tree();
	all = snap_dir("all", ROOT);
	one = snap_dir("one", dir);
	part = snap_file("part", sub, "deep");
	must(find_snap(ROOT, "all") == all && find_snap(sub, "all") == all);
	must(find_snap(ROOT, "one") == 0 && find_snap(dir, "one") == one);
	must(find_snap(sub, "one") == one);
	must(find_snap(sub, "part") == part && find_snap(dir, "part") == 0);
	must(find_snap(mk_dir(dir, "later"), "one") == 0);
	must(find_snap(999, "one") == 0 && find_snap(dir, "none") == 0);
	pool_gone();
}
END_TEST

/* Moving a directory can bring two of one name together. */
START_TEST(the_nearest_of_one_name)
{
	uint64_t outer, inner, far, near, x;

	make_tree();
	outer = mk_dir(ROOT, "outer");
	inner = mk_dir(ROOT, "inner");
	x = mk_dir(inner, "x");
	near = snap_dir("n", inner);
	mv(ROOT, "inner", outer, "inner");
	far = snap_dir("m", outer);
	fails(-EEXIST, msnap_snap_rename(pool, far, "n"));
	mv(outer, "inner", ROOT, "inner");
	/* "n" of outer does not show in inner's scope now. */
	mv(ROOT, "inner", outer, "inner");
	must(find_snap(x, "n") == near && find_snap(inner, "m") == far);
	must(find_snap(outer, "n") == 0);
	pool_gone();
}
END_TEST

START_TEST(renaming)
{
	uint64_t a, b;

	make_tree();
	a = snap_dir("a", dir);
	b = snap_dir("b", sub);
	fails(-EEXIST, msnap_snap_rename(pool, a, "b"));
	fails(-EEXIST, msnap_snap_rename(pool, b, "a"));
	fails(-EINVAL, msnap_snap_rename(pool, a, ""));
	ok(msnap_snap_rename(pool, a, "a"));
	ok(msnap_snap_rename(pool, a, "a much longer name than it had"));
	must(find_snap(dir, "a much longer name than it had") == a);
	must(!find_snap(dir, "a"));
	ok(msnap_snap_rename(pool, b, "a"));
	pool_crash(0);
	must(find_snap(sub, "a") == b);
	same_tree(in_snap(a, dir), msnap_live(dir), true);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(in_order_of_time)
{
	struct msnap_snap_info info;
	uint64_t id[30], after = 0;
	unsigned i;

	make_tree();
	for (i = 0; i < 30; i++) {
		char name[8];

		sprintf(name, "s%u", 99 - i);
		id[i] = snap_dir(name, i % 2 ? ROOT : dir);
		must(i == 0 || id[i] > id[i - 1]);
	}
	ok(msnap_snap_delete(pool, id[7]));
	for (i = 0; i < 30; i++) {
		if (i == 7)
			continue;
		ok(msnap_snap_next(pool, after, &info));
		must(info.id == id[i]);
		after = info.id;
	}
	fails(-ENOENT, msnap_snap_next(pool, after, &info));
	fails(-ENOENT, msnap_snap_next(pool, UINT64_MAX, &info));
	must(snap_dir("s92", ROOT) > after); /* numbers are not used again */
	pool_gone();
}
END_TEST

/* ---- deleting ------------------------------------------------------------------------------------- */

START_TEST(all_space_comes_back)
{
	uint64_t nr_free, snap[6], clone_free;
	unsigned round, i;

	make_tree();
	nr_free = pool_free_blks();
	for (round = 0; round < 4; round++) {
		snap[0] = snap_dir("0", ROOT);
		put_bytes(file, 0, 50000, 3);
		snap[1] = snap_dir("1", dir);
		put_bytes(file, 10000, 5000, 4);
		snap[2] = snap_file("2", dir, "f");
		put_bytes(deep, 0, 1000, 5);
		snap[3] = snap_dir("3", sub);
		snap[4] = snap_dir("4", ROOT);
		put_bytes(file, 0, 50000, 1);
		set_size(deep, 0);
		put_bytes(deep, 0, 100, 2);
		snap[5] = snap_dir("5", dir);
		for (i = 0; i < 6; i++) {
			ok(msnap_snap_delete(pool, snap[(i * 5 + round) % 6]));
			if (rnd(2))
				ok(msnap_pool_settle(pool));
			pool_ok();
		}
		clone_free = pool_free_blks();
		must(clone_free == nr_free);
		must(has_bytes(msnap_live(file), 0, 50000, 1));
	}
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(gone_at_once)
{
	uint64_t snap;
	unsigned i;

	make_tree();
	for (i = 0; i < 2000; i++) {
		char name[16];

		sprintf(name, "n%u", i);
		mk_file(sub, name);
	}
	snap = snap_dir("s", sub);
	ok(msnap_snap_delete(pool, snap));
	must(!find_snap(sub, "s"));
	fails(-ENOENT, msnap_getattr(pool, in_snap(snap, sub),
				     &(struct msnap_attr){ 0 }));
	fails(-ENOENT, msnap_snap_delete(pool, snap));
	pool_crash(0);
	must(!find_snap(sub, "s"));
	must(msnap_drop_waiting(pool) == 1);
	pool_settled_ok();
	ok(try_snap("s", sub, NULL, &snap));
	pool_gone();
}
END_TEST

START_TEST(a_hold_keeps_it)
{
	struct msnap_key key = { (uint64_t)MSNAP_CAT_SNAP << 56, 0 };
	uint8_t buf[MSNAP_VAL_MAX];
	const void *val;
	uint64_t snap;
	unsigned len;

	make_tree();
	snap = snap_dir("s", dir);
	key.hi |= snap;
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	ok(msnap_tree_get(pool, &pool->catalog, key, &val, &len));
	memcpy(buf, val, len);
	((struct msnap_snap *)buf)->holds = put32(1);
	ok(msnap_tree_put(pool, &pool->catalog, key, buf, len, MSNAP_PUT_OLD));
	ok(msnap_op_end(pool, 0));
	must(info_of(snap).holds == 1);
	fails(-EBUSY, msnap_snap_delete(pool, snap));
	same_tree(in_snap(snap, dir), msnap_live(dir), true);
	pool_ok();
	pool_gone();
}
END_TEST

/* Taken, changed, taken... each as it was. */
START_TEST(a_long_history)
{
	uint64_t snap[100], ino, nr_free;
	unsigned i;

	pool_make(32);
	nr_free = pool_free_blks();
	ino = mk_file(ROOT, "f");
	for (i = 0; i < 100; i++) {
		char name[8];

		put_bytes(ino, i * 3000, 5000, i);
		put_bytes(ino, 0, 3000, 1000 + i);
		sprintf(name, "%u", i);
		snap[i] = snap_dir(name, ROOT);
	}
	for (i = 0; i < 100; i++) {
		must(attr_of(in_snap(snap[i], ino)).size == i * 3000 + 5000);
		must(has_bytes(in_snap(snap[i], ino), 0, 3000, 1000 + i));
		must(i == 0 || has_bytes(in_snap(snap[i], ino), i * 3000, 5000, i));
	}
	pool_ok();
	for (i = 0; i < 100; i++)
		ok(msnap_snap_delete(pool, snap[i * 37 % 100]));
	rm(ROOT, "f");
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- in steps, beside others ------------------------------------------------------------- */

static atomic_bool end;
static uint64_t first, last;

static uint64_t read_nr(struct msnap_id id)
{
	uint64_t nr;

	must(msnap_pread(pool, id, &nr, sizeof(nr), 0) == sizeof(nr));
	return nr;
}

/* What is in "last" is in "first" already, and one name of the file is always there. */
static void *keep_changing(void *arg)
{
	uint64_t moving = *(const uint64_t *)arg;

	for (uint64_t i = 1; !end; i++) {
		const char *new = i % 2 ? "odd" : "even", *old = i % 2 ? "even" : "odd";

		ok(msnap_pwrite(pool, first, &i, sizeof(i), 0, false));
		mk_link(moving, dir, new);
		ok(msnap_pwrite(pool, last, &i, sizeof(i), 0, false));
		rm(dir, old);
		if (i % 7 == 0)
			ok(msnap_commit(pool));
	}
	return NULL;
}

START_TEST(of_one_instant)
{
	uint64_t nr = 0, moving, snap[20], seen = 0;
	pthread_t thread;
	unsigned i;

	pool_make(64);
	dir = mk_dir(ROOT, "d");
	first = mk_file(dir, "first");
	for (i = 0; i < 300; i++) {
		char name[8];

		sprintf(name, "%u", i);
		mk_file(i % 10 ? dir : mk_dir(dir, name), i % 10 ? name : "x");
	}
	last = mk_file(dir, "last");
	moving = mk_file(dir, "even");
	ok(msnap_pwrite(pool, first, &nr, sizeof(nr), 0, false));
	ok(msnap_pwrite(pool, last, &nr, sizeof(nr), 0, false));
	ok(pthread_create(&thread, NULL, keep_changing, &moving));
	for (i = 0; i < 20; i++) {
		char name[8];

		sprintf(name, "s%u", i);
		snap[i] = snap_dir(name, dir);
	}
	/* Of two with a name one is taken; of the other nothing stays. */
	fails(-EEXIST, msnap_snap_create(pool, "s7", NULL, 0,
					 &(struct msnap_snap_item){ dir, NULL, 0 }, 1,
					 &snap[0]));
	end = true;
	ok(pthread_join(thread, NULL));
	for (i = 0; i < 20; i++) {
		uint64_t a = read_nr(in_snap(snap[i], first));
		uint64_t b = read_nr(in_snap(snap[i], last));
		unsigned links = attr_of(in_snap(snap[i], moving)).nlink;

		must(a == b || a == b + 1);
		must(a >= seen);
		must(links == 1 || links == 2);
		must(nr_of(in_snap(snap[i], dir)) == 302 + links);
		seen = a;
	}
	must(seen > 20); /* others had their turns */
	pool_settled_ok();
	pool_crash(0);
	pool_ok();
	for (i = 0; i < 20; i++)
		ok(msnap_snap_delete(pool, snap[i]));
	pool_settled_ok();
	pool_gone();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		of_everything, of_a_directory, of_a_file, of_several,
		of_what_overlaps, of_the_root_and_more, refused,
		names_above_and_below, names_of_all_items_count,
		names_found_from_inside, the_nearest_of_one_name, renaming,
		in_order_of_time, all_space_comes_back, gone_at_once,
		a_hold_keeps_it, a_long_history, of_one_instant, NULL
	};

	return run_tests("snap", tests);
}
