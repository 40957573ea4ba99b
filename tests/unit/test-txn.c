/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of operations: whatever goes wrong inside one, at whatever point, nothing
 * of it is left.
 *
 * The same pool, with something of everything in it, is brought back for each try;
 * each call of the engine is tried with its first, second, third... allocation
 * failing, until it gets by without one that fails.
 */
#include "util.h"

#include <linux/falloc.h>
#include <sys/xattr.h>

#include "cow/alloc.h"
#include "cow/commit.h"

#define POOL_MIB 6

static uint64_t file, big, pre, dir, sub, orphan, opened, target;
static uint64_t snap_all, snap_sub, snap_one;
static uint8_t *image;
static uint8_t buf[1 << 20];

static void make_big(uint64_t ino)
{
	unsigned i;

	for (i = 0; i < 200; i++)
		put_bytes(ino, i * 2 * BLK, 100, i);
}

static void make_names(void)
{
	char name[16];
	unsigned i;

	for (i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		mk_file(dir, name);
	}
}

static void set_xattr(uint64_t ino, const char *name, size_t len)
{
	ok(msnap_xattr_set(pool, ino, name, buf, len, 0));
}

static void make_world(void)
{
	char longest[3000];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	fill_bytes(buf, 0, sizeof(buf), 3);
	file = mk_file(ROOT, "file");
	put_bytes(file, 0, 40000, 1);
	put_bytes(file, 100000, 5000, 2);
	set_xattr(file, "user.small", 10);
	set_xattr(file, "user.large", 9000);
	mk_link(file, ROOT, "hard");
	big = mk_file(ROOT, "big");
	make_big(big);
	pre = mk_file(ROOT, "pre");
	ok(msnap_fallocate(pool, pre, 0, 0, 64 * BLK));
	dir = mk_dir(ROOT, "dir");
	make_names();
	sub = mk_dir(dir, "sub");
	mk_symlink(sub, "sym", longest);
	mk_link(file, sub, "hard2");
	put_bytes(mk_file(sub, "deep"), 0, 10000, 4);
	target = mk_file(ROOT, "target");
	mk_dir(ROOT, "empty");
	snap_all = snap_dir("all", ROOT);
	snap_sub = snap_dir("dir", dir);
	snap_one = snap_file("one", ROOT, "file");
	put_bytes(file, 4000, 5000, 5);
	make_big(mk_file(ROOT, "gone"));
	rm(ROOT, "gone");
	mk_file(ROOT, "orphan");
	orphan = unlink_only(ROOT, "orphan");
	opened = mk_tmpfile();
	make_big(opened);
	rm(dir, "n7");
	ok(msnap_commit(pool));
	image = pool_image();
}

/* Orphans go when a pool is opened; these two are wanted. */
static void bring_back(void)
{
	pool_from(image, 0);
	orphan = mk_tmpfile();
	put_bytes(orphan, 0, 3000, 1);
	opened = mk_tmpfile();
	make_big(opened);
}

/* ---- everything there is to call ------------------------------------------------- */

static struct msnap_attr out, gone;
static const struct msnap_owner same_owner = { -1, -1 };

static long do_chmod(void)
{
	struct msnap_attr a = { .mode = 0600 };

	return msnap_setattr(pool, file, &a, MSNAP_SET_MODE, &out);
}

static long do_shrink(void)
{
	struct msnap_attr a = { .size = 12345 };

	return msnap_setattr(pool, big, &a, MSNAP_SET_SIZE, &out);
}

static long do_extend(void)
{
	struct msnap_attr a = { .size = 1 << 30 };

	return msnap_setattr(pool, big, &a, MSNAP_SET_SIZE, &out);
}

static long create(uint64_t in, const char *name, uint32_t mode,
		   const char *to)
{
	struct msnap_new what = { .mode = mode, .target = to };

	return msnap_create(pool, in, name, name ? strlen(name) : 0, &what, &out);
}

static long do_create(void)
{
	return create(dir, "new", S_IFREG | 0644, NULL);
}

static long do_mkdir(void)
{
	return create(sub, "newdir", S_IFDIR | 0755, NULL);
}

static long do_symlink(void)
{
	char to[4000];

	memset(to, 'y', sizeof(to) - 1);
	to[sizeof(to) - 1] = 0;
	return create(ROOT, "newsym", S_IFLNK | 0777, to);
}

static long do_tmpfile(void)
{
	return create(ROOT, NULL, S_IFREG | 0600, NULL);
}

static long do_link(void)
{
	return msnap_link(pool, file, dir, "another", 7, &out);
}

static long do_link_orphan(void)
{
	return msnap_link(pool, opened, dir, "another", 7, &out);
}

static long do_unlink(void)
{
	return msnap_unlink(pool, ROOT, "big", 3, false, &gone);
}

static long do_rmdir(void)
{
	return msnap_unlink(pool, ROOT, "empty", 5, true, &gone);
}

static long do_rename(void)
{
	return msnap_rename(pool, ROOT, "big", 3, sub, "moved", 5, 0, &gone);
}

static long do_replace(void)
{
	return msnap_rename(pool, ROOT, "pre", 3, ROOT, "big", 3, 0, &gone);
}

static long do_exchange(void)
{
	return msnap_rename(pool, ROOT, "file", 4, dir, "sub", 3,
			    MSNAP_RENAME_EXCHANGE, &gone);
}

static long do_evict(void)
{
	return msnap_evict(pool, opened);
}

static long do_xattr_new(void)
{
	return msnap_xattr_set(pool, big, "user.x", buf, 65536, 0);
}

static long do_xattr_replace(void)
{
	return msnap_xattr_set(pool, file, "user.large", buf, 20, XATTR_REPLACE);
}

static long do_xattr_remove(void)
{
	return msnap_xattr_remove(pool, file, "user.large");
}

static long do_write_small(void)
{
	return msnap_pwrite(pool, file, buf, 3000, 2500, false);
}

/* Blocks of this generation change in place. */
static long do_write_again(void)
{
	return msnap_pwrite(pool, orphan, buf, 500, 1000, false);
}

static long do_write_staged(void)
{
	return msnap_pwrite(pool, file, buf, 300000, 1000, false);
}

static long do_write_preallocated(void)
{
	return msnap_pwrite(pool, pre, buf, 100000, 10000, false);
}

static long do_allocate(void)
{
	return msnap_fallocate(pool, big, 0, 0, 100 * BLK);
}

static long do_zero(void)
{
	return msnap_fallocate(pool, big, FALLOC_FL_ZERO_RANGE, 1000, 500000);
}

static long do_punch(void)
{
	return msnap_fallocate(pool, file,
			       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 50,
			       30000);
}

static long do_copy_whole(void)
{
	return msnap_copy_range(pool, msnap_live(big), 0, target, 0, 1 << 30);
}

static long do_copy_blocks(void)
{
	return msnap_copy_range(pool, msnap_live(big), 0, file, 4 * BLK,
				300 * BLK);
}

static long do_copy_bytes(void)
{
	return msnap_copy_range(pool, msnap_live(big), 10, file, 77, 30000);
}

static long do_snap_root(void)
{
	uint64_t id;

	return try_snap("new", ROOT, NULL, &id);
}

static long do_snap_dir(void)
{
	uint64_t id;

	return try_snap("new", dir, NULL, &id);
}

static long do_snap_items(void)
{
	struct msnap_snap_item items[] = { { ROOT, "file", 4 },
					   { sub, NULL, 0 },
					   { dir, "n1", 2 } };
	uint64_t id;

	return msnap_snap_create(pool, "new", "why", 0, items, 3, &id);
}

static long do_snap_delete(void)
{
	return msnap_snap_delete(pool, snap_all);
}

static long do_snap_rename(void)
{
	return msnap_snap_rename(pool, snap_sub, "quite another name");
}

static long do_clone_file(void)
{
	return msnap_clone(pool, in_snap(snap_one, file), dir, "clone", 5,
			   same_owner, 0, &out, &gone);
}

static long do_clone_over(void)
{
	return msnap_clone(pool, msnap_live(file), ROOT, "big", 3, same_owner,
			   MSNAP_CLONE_REPLACE, &out, &gone);
}

static long do_clone_dir(void)
{
	return msnap_clone(pool, msnap_live(dir), dir, "clone", 5, same_owner, 0,
			   &out, &gone);
}

static long do_roll_all(void)
{
	return msnap_rollback(pool, snap_all, ROOT, NULL, 0, no_cache, NULL);
}

static long do_roll_dir(void)
{
	return msnap_rollback(pool, snap_sub, dir, NULL, 0, no_cache, NULL);
}

static long do_roll_file(void)
{
	return msnap_rollback(pool, snap_one, ROOT, "file", 4, no_cache, NULL);
}

static long do_settle(void)
{
	return msnap_pool_settle(pool);
}

static long do_commit(void)
{
	return msnap_commit(pool);
}

static long do_reclaim(void)
{
	return msnap_commit_reclaim(pool);
}

static long do_check(void)
{
	struct msnap_check_result res;

	return msnap_check(pool, MSNAP_CHECK_DATA, NULL, NULL, &res);
}

static long do_read(void)
{
	static uint8_t space[100000];

	return msnap_pread(pool, msnap_live(file), space, sizeof(space), 0);
}

static long do_xattr_get(void)
{
	static uint8_t space[10000];

	return msnap_xattr_get(pool, msnap_live(file), "user.large", space,
			       sizeof(space));
}

#define CALL(name) { #name, do_##name, false }
#define CALL_MANY(name) { #name, do_##name, true }

static const struct call {
	const char *name;
	long (*call)(void);
	bool many; /* several operations: those before the failing one count */
} calls[] = {
	CALL(chmod), CALL(shrink), CALL(extend), CALL(create), CALL(mkdir),
	CALL(symlink), CALL(tmpfile), CALL(link), CALL(link_orphan),
	CALL(unlink), CALL(rmdir), CALL(rename), CALL(replace), CALL(exchange),
	CALL(evict), CALL(xattr_new), CALL(xattr_replace), CALL(xattr_remove),
	CALL(write_small), CALL(write_again), CALL(write_staged),
	CALL(write_preallocated), CALL(allocate), CALL(zero), CALL(punch),
	CALL(copy_whole), CALL_MANY(copy_blocks), CALL_MANY(copy_bytes),
	CALL(snap_root), CALL_MANY(snap_dir), CALL_MANY(snap_items),
	CALL(snap_delete),
	CALL(snap_rename), CALL(clone_file), CALL(clone_over), CALL(clone_dir),
	CALL(roll_all), CALL(roll_dir), CALL(roll_file), CALL_MANY(settle),
	CALL(commit), CALL(reclaim), CALL_MANY(check), CALL(read),
	CALL(xattr_get),
};
#define NR_CALLS ((int)(sizeof(calls) / sizeof(*calls)))

static void mark_outputs(void)
{
	memset(&out, 0x5a, sizeof(out));
	memset(&gone, 0x5a, sizeof(gone));
}

static void outputs_untouched(void)
{
	struct msnap_attr marked;

	memset(&marked, 0x5a, sizeof(marked));
	must(!memcmp(&out, &marked, sizeof(out)));
	must(!memcmp(&gone, &marked, sizeof(gone)));
}

/* false: no allocation failed any more. */
static bool try_without(const struct call *c, unsigned long nth)
{
	uint64_t raw, view;
	bool failed;
	long ret;

	bring_back();
	raw = pool_raw();
	view = pool_view();
	mark_outputs();
	msnap_alloc_fail(nth);
	ret = c->call();
	failed = msnap_alloc_seen() >= nth;
	msnap_alloc_fail(0);
	if (ret != -ENOMEM)
		ok(ret);
	must(!pool->read_only);
	if (ret < 0) {
		outputs_untouched();
		must(c->many || pool_raw() == raw);
		must(c->call == do_copy_blocks || c->call == do_copy_bytes ||
		     pool_view() == view);
		pool_ok();
		ok(c->call());
	}
	pool_settled_ok();
	view = pool_view();
	msnap_pool_abandon(pool);
	msnap_sim_crash(mem);
	pool_open(MSNAP_OPEN_RDONLY);
	must(pool_view() == view);
	pool_ok();
	msnap_pool_abandon(pool);
	return failed;
}

START_TEST(no_memory)
{
	const struct call *c = &calls[_i];
	unsigned long nth = 1;

	pool_make(POOL_MIB);
	make_world();
	msnap_pool_abandon(pool);
	while (try_without(c, nth))
		/* Long walks allocate often, and always in the same places. */
		nth += 1 + nth / 40;
	ck_assert_msg(nth < 5000, "%s never gets by", c->name);
	free(image);
	pool_open(0);
	pool_gone();
}
END_TEST

/* Opening, clean or not, without memory: an error, nothing leaked, nothing lost. */
static void open_without_memory(unsigned flags)
{
	unsigned long nth;
	bool failed = true;
	uint64_t view = pool_view();

	for (nth = 1; failed; nth++) {
		int err;

		msnap_pool_abandon(pool);
		msnap_sim_crash(mem);
		msnap_alloc_fail(nth);
		err = pool_try_open(flags);
		failed = msnap_alloc_seen() >= nth;
		msnap_alloc_fail(0);
		if (err) {
			must(err == -ENOMEM);
			pool_open(flags);
		}
		must(!pool->read_only);
		must(pool_view() == view);
		pool_ok();
		must(nth < 1000);
	}
}

START_TEST(no_memory_to_open)
{
	pool_make(POOL_MIB);
	make_world();
	msnap_pool_abandon(pool);
	bring_back();
	free(image);
	pool_reopen(0); /* orphans go */
	ok(msnap_pool_settle(pool));
	ok(msnap_commit(pool));
	open_without_memory(0);
	open_without_memory(MSNAP_OPEN_REBUILD);
	pool_reopen(0);
	open_without_memory(0);
	pool_gone();
}
END_TEST

/* A clean end for which there is no memory is no clean end, and no more. */
START_TEST(no_memory_to_close)
{
	unsigned long nth;
	bool failed = true;
	uint64_t view;

	pool_make(POOL_MIB);
	make_world();
	pool_crash(0);
	view = pool_view();
	msnap_pool_abandon(pool);
	for (nth = 1; failed; nth++) {
		pool_from(image, 0);
		msnap_alloc_fail(nth);
		msnap_pool_close(pool);
		failed = msnap_alloc_seen() >= nth;
		msnap_alloc_fail(0);
		msnap_sim_crash(mem);
		pool_open(0);
		must(pool->was_clean == !failed);
		must(pool_view() == view);
		pool_ok();
		msnap_pool_abandon(pool);
	}
	free(image);
	pool_open(0);
	pool_gone();
}
END_TEST

/* ---- media that fail --------------------------------------------------------------- */

/* Changes and commits until one fails; the view of the last that did not. */
static uint64_t until_failure(unsigned nth, uint64_t *later)
{
	unsigned i;
	uint64_t durable = pool_view();

	msnap_sim_fail_drain(mem, nth);
	for (i = 0; i < nth + 2; i++) {
		char name[16];
		int err;

		snprintf(name, sizeof(name), "f%u", i);
		put_bytes(mk_file(ROOT, name), 0, 20000, i);
		*later = pool_view();
		err = msnap_commit(pool);
		if (err) {
			must(err == -EIO);
			return durable;
		}
		durable = *later;
	}
	ck_abort_msg("no drain failed");
	return 0;
}

START_TEST(a_drain_fails)
{
	unsigned nth = _i + 1;
	uint64_t durable, later, ino;
	struct msnap_new what = { .mode = S_IFREG };

	pool_make_kind(POOL_MIB, nth % 2 ? MSNAP_SIM_PAGES : MSNAP_SIM_LINES);
	ok(msnap_commit(pool));
	durable = until_failure(nth, &later);
	must(pool->read_only);
	fails(-EROFS, msnap_create(pool, ROOT, "x", 1, &what, &out));
	/* What is in memory can still be read. */
	must(pool_view() == later);
	must(has_bytes(msnap_live(find(msnap_live(ROOT), "f0")), 0, 20000, 0));
	fails(-EIO, msnap_commit(pool));
	fails(-EIO, msnap_pool_close(pool));
	msnap_sim_crash(mem);
	pool_open(0);
	must(pool_view() == durable);
	pool_settled_ok();
	ino = mk_file(ROOT, "after");
	put_bytes(ino, 0, 100, 1);
	pool_reopen(0);
	must(has_bytes(msnap_live(ino), 0, 100, 1));
	pool_gone();
}
END_TEST

/* ---- beginning and ending ----------------------------------------------------------- */

START_TEST(an_operation_that_does_nothing)
{
	struct msnap_pool_info info;
	uint64_t commits;

	pool_make(4);
	ok(msnap_commit(pool));
	ok(msnap_pool_info(pool, &info));
	commits = info.nr_commits;
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	must(msnap_op_end(pool, 5) == 5);
	ok(msnap_commit(pool));
	ok(msnap_pool_info(pool, &info));
	must(info.nr_commits == commits);
	pool_gone();
}
END_TEST

START_TEST(no_room_to_begin)
{
	pool_make(4);
	fails(-ENOSPC, msnap_op_begin(pool, 2000));
	ok(msnap_op_begin(pool, 800));
	ok(msnap_op_end(pool, 0));
	pool_gone();
}
END_TEST

START_TEST(blocks_that_an_operation_took_and_lost)
{
	struct msnap_space_want want = { .use = MSNAP_SPACE_DATA, .nr = 30 };
	uint64_t raw, blk;
	uint32_t nr;

	pool_make(4);
	raw = pool_raw();
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	ok(msnap_op_data_alloc(pool, &want, &blk, &nr));
	must(nr == 30);
	ok(msnap_op_get(pool, blk + 5, 10));
	ok(msnap_op_put(pool, blk, 30));
	ok(msnap_op_put(pool, blk + 7, 3));
	must(msnap_space_count(pool->space, blk + 7) == MSNAP_COUNT_PENDING);
	fails(-EUCLEAN, msnap_op_put(pool, blk + 7, 1));
	must(pool->read_only);
	pool->read_only = 0;
	fails(-EINTR, msnap_op_end(pool, -EINTR));
	must(pool_raw() == raw);
	pool_ok();
	pool_gone();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("txn");
	TCase *tc = tcase_create("txn");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, no_memory, 0, NR_CALLS);
	tcase_add_test(tc, no_memory_to_open);
	tcase_add_test(tc, no_memory_to_close);
	tcase_add_loop_test(tc, a_drain_fails, 0, 8);
	tcase_add_test(tc, an_operation_that_does_nothing);
	tcase_add_test(tc, no_room_to_begin);
	tcase_add_test(tc, blocks_that_an_operation_took_and_lost);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
