/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of copy_range (test-write.c has it in its random runs too). */
#include "util.h"

static uint64_t src, dst;

static void start(uint64_t size)
{
	pool_make(32);
	src = mk_file(ROOT, "src");
	dst = mk_file(ROOT, "dst");
	if (size)
		put_bytes(src, 0, size, 1);
	ok(msnap_commit(pool));
}

static long copy(uint64_t src_off, uint64_t off, uint64_t len)
{
	return msnap_copy_range(pool, msnap_live(src), src_off, dst, off, len);
}

static uint64_t used(void)
{
	struct msnap_space_stat stat;

	msnap_space_stat(pool->space, &stat);
	return stat.nr_blocks - stat.nr_free;
}

START_TEST(whole_file)
{
	uint64_t before;
	uint64_t i;

	start(0);
	for (i = 0; i < 3000; i++)
		put_bytes(src, i * 2 * BLK, 100, i);
	ok(msnap_commit(pool));
	before = used();
	must(copy(0, 0, 1ull << 60) == 2999 * 2 * (long)BLK + 100);
	must(used() - before < 8); /* a path, whatever the size */
	must(size_of(dst) == size_of(src));
	must(attr_of(msnap_live(dst)).nr_blk == 3000);
	put_bytes(src, 0, 100, 7);
	put_bytes(dst, 2 * BLK, 100, 8);
	must(has_bytes(msnap_live(dst), 0, 100, 0));
	must(has_bytes(msnap_live(src), 2 * BLK, 100, 1));
	for (i = 2; i < 3000; i++)
		must(has_bytes(msnap_live(dst), i * 2 * BLK, 100, i));
	pool_ok();
	rm(ROOT, "src");
	pool_settled_ok();
	must(has_bytes(msnap_live(dst), 4000 * BLK, 100, 2000));
	rm(ROOT, "dst");
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(shared_blocks_take_no_space)
{
	uint64_t before;

	start(1000 * BLK);
	put_bytes(dst, 0, BLK, 2); /* not empty: block by block */
	ok(msnap_commit(pool));
	before = used();
	must(copy(0, BLK, 1000 * BLK) == 1000 * (long)BLK);
	must(used() - before < 30);
	must(size_of(dst) == 1001 * BLK);
	must(has_bytes(msnap_live(dst), 0, BLK, 2));
	pool_ok();
	pool_gone();
}
END_TEST

static bool moved(uint64_t src_off, uint64_t off, uint64_t len)
{
	uint8_t *a = malloc(len + 1), *b = malloc(len + 1);
	bool same;

	must(ok(msnap_pread(pool, msnap_live(src), a, len, src_off)) == (long)len);
	must(ok(msnap_pread(pool, msnap_live(dst), b, len, off)) == (long)len);
	same = !memcmp(a, b, len);
	free(a);
	free(b);
	return same;
}

START_TEST(every_alignment)
{
	static const uint64_t at[] = { 0, 1, 100, BLK - 1, BLK, BLK + 100,
				       5 * BLK, 5 * BLK + 4000 };
	static const uint64_t len[] = { 1, 10, BLK - 1, BLK, BLK + 1, 3 * BLK,
					3 * BLK + 96, 20 * BLK + 5 };
	unsigned i, j, k;

	start(40 * BLK);
	for (i = 0; i < 8; i++)
		for (j = 0; j < 8; j++)
			for (k = 0; k < 8; k++) {
				put_bytes(dst, 0, 50 * BLK, 2);
				must(copy(at[i], at[j], len[k]) == (long)len[k]);
				must(moved(at[i], at[j], len[k]));
				must(has_bytes(msnap_live(dst), 0, at[j], 2));
				must(has_bytes(msnap_live(dst), at[j] + len[k],
					       50 * BLK - at[j] - len[k], 2));
				must(size_of(dst) == 50 * BLK);
			}
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(at_the_end_of_the_source)
{
	start(3 * BLK + 100);
	must(copy(0, 0, 1 << 20) == 3 * (long)BLK + 100);
	must(size_of(dst) == 3 * BLK + 100);
	set_size(dst, 0);
	must(copy(2 * BLK, 0, 1 << 20) == (long)BLK + 100);
	must(size_of(dst) == BLK + 100);
	set_size(dst, 4 * BLK);
	must(has_zeros(msnap_live(dst), BLK + 100, 3 * BLK - 100));
	/* The partial block must not wipe out what follows it in the target. */
	put_bytes(dst, 0, 10 * BLK, 2);
	must(copy(2 * BLK, 0, 1 << 20) == (long)BLK + 100);
	must(has_bytes(msnap_live(dst), BLK + 100, 9 * BLK - 100, 2));
	must(copy(3 * BLK + 100, 0, 10) == 0);
	must(copy(1ull << 50, 0, 10) == 0);
	must(copy(0, 0, 0) == 0);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(holes_are_copied_too)
{
	start(0);
	put_bytes(src, 10 * BLK, 2 * BLK, 1);
	set_size(src, 40 * BLK);
	put_bytes(dst, 0, 60 * BLK, 2);
	must(copy(0, 5 * BLK, 40 * BLK) == 40 * (long)BLK);
	must(has_bytes(msnap_live(dst), 0, 5 * BLK, 2));
	must(has_zeros(msnap_live(dst), 5 * BLK, 10 * BLK));
	must(moved(10 * BLK, 15 * BLK, 2 * BLK));
	must(has_zeros(msnap_live(dst), 17 * BLK, 28 * BLK));
	must(has_bytes(msnap_live(dst), 45 * BLK, 15 * BLK, 2));
	must(attr_of(msnap_live(dst)).nr_blk == 22);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(allocated_blocks_read_as_zeros)
{
	start(0);
	ok(msnap_fallocate(pool, src, 0, 0, 20 * BLK));
	put_bytes(src, 5 * BLK, BLK, 1);
	put_bytes(dst, 0, 30 * BLK, 2);
	must(copy(0, 0, 20 * BLK) == 20 * (long)BLK);
	must(has_zeros(msnap_live(dst), 0, 5 * BLK));
	must(moved(5 * BLK, 5 * BLK, BLK));
	/* Both write into what they share. */
	put_bytes(src, 0, 20 * BLK, 3);
	must(has_zeros(msnap_live(dst), 0, 5 * BLK));
	put_bytes(dst, 0, 20 * BLK, 4);
	must(has_bytes(msnap_live(src), 0, 20 * BLK, 3));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(within_one_file)
{
	start(100 * BLK);
	dst = src;
	must(copy(0, 200 * BLK, 100 * BLK) == 100 * (long)BLK);
	must(moved(0, 200 * BLK, 100 * BLK));
	must(copy(200 * BLK, 150 * BLK, 50 * BLK) == 50 * (long)BLK);
	must(moved(200 * BLK, 150 * BLK, 50 * BLK));
	must(has_zeros(msnap_live(src), 100 * BLK, 50 * BLK));
	must(copy(10, 5 * BLK + 3, 4 * BLK) == 4 * (long)BLK);
	must(moved(10, 5 * BLK + 3, 4 * BLK));
	fails(-EINVAL, copy(0, BLK, 2 * BLK));
	fails(-EINVAL, copy(BLK, 0, BLK + 1));
	fails(-EINVAL, copy(0, 0, 10));
	must(copy(BLK, 0, BLK) == (long)BLK);
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(from_a_snapshot)
{
	uint64_t snap;

	start(100 * BLK);
	snap = snap_dir("s", ROOT);
	put_bytes(src, 0, 100 * BLK, 2);
	must(msnap_copy_range(pool, in_snap(snap, src), 0, dst, 0, 100 * BLK) ==
	     100 * (long)BLK);
	must(has_bytes(msnap_live(dst), 0, 100 * BLK, 1));
	/* A file onto itself of another time. */
	must(msnap_copy_range(pool, in_snap(snap, src), 10 * BLK, src, 10 * BLK,
			      10 * BLK) == 10 * (long)BLK);
	must(has_bytes(msnap_live(src), 10 * BLK, 10 * BLK, 1));
	must(has_bytes(msnap_live(src), 0, 10 * BLK, 2));
	ok(msnap_snap_delete(pool, snap));
	pool_settled_ok();
	must(has_bytes(msnap_live(dst), 0, 100 * BLK, 1));
	pool_gone();
}
END_TEST

START_TEST(refused)
{
	uint64_t dir;

	start(10 * BLK);
	dir = mk_dir(ROOT, "d");
	fails(-EISDIR, msnap_copy_range(pool, msnap_live(dir), 0, dst, 0, 10));
	fails(-EISDIR, msnap_copy_range(pool, msnap_live(src), 0, dir, 0, 10));
	fails(-EINVAL, msnap_copy_range(pool, msnap_live(src), 0,
					mk_symlink(ROOT, "l", "x"), 0, 10));
	fails(-ENOENT, msnap_copy_range(pool, msnap_live(99), 0, dst, 0, 10));
	fails(-ENOENT, msnap_copy_range(pool, in_snap(9, src), 0, dst, 0, 10));
	fails(-EFBIG, copy(0, INT64_MAX - 5, 10));
	must(size_of(dst) == 0);
	pool_ok();
	pool_gone();
}
END_TEST

/* Many extents: more than one operation. */
START_TEST(many_extents)
{
	uint64_t i;

	start(0);
	for (i = 0; i < 1000; i++)
		put_bytes(src, i * 2 * BLK, 100, i);
	put_bytes(dst, 0, 3000 * BLK, 3);
	must(copy(0, 7 * BLK, 2001 * BLK) == 1998 * (long)BLK + 100);
	for (i = 0; i < 1000; i++) {
		must(has_bytes(msnap_live(src), i * 2 * BLK, 100, i));
		must(moved(i * 2 * BLK, (i * 2 + 7) * BLK, 100));
	}
	must(has_zeros(msnap_live(dst), 8 * BLK, BLK));
	must(has_bytes(msnap_live(dst), 2006 * BLK, BLK, 3));
	pool_settled_ok();
	pool_gone();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		whole_file, shared_blocks_take_no_space, every_alignment,
		at_the_end_of_the_source, holes_are_copied_too,
		allocated_blocks_read_as_zeros, within_one_file, from_a_snapshot,
		refused, many_extents, NULL
	};

	return run_tests("copy", tests);
}
