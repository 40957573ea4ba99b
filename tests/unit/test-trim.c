/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of giving space back: on memory where what was punched is destroyed.
 */
#include "util.h"

#include <pthread.h>
#include <stdatomic.h>

#include "cow/commit.h"
#include "cow/trim.h"

#define NR_FILES 8

static void make(uint64_t mib, bool is_short) /* of space below */
{
	pool_make(mib);
	msnap_sim_sparse(mem, is_short ? BLK : 16 * BLK);
	pool_reopen(0);
	/* What the generation before the open has is not touched. */
	must(!msnap_trim_run(pool));
	ok(msnap_commit_now(pool));
	ok(msnap_commit_now(pool));
}

static void commit_and_trim(void)
{
	ok(msnap_commit(pool));
	while (msnap_trim_run(pool))
		;
}

static bool is_punched(uint64_t blk)
{
	const uint8_t *p = msnap_blk_ptr(pool, blk);

	for (unsigned i = 0; i < BLK; i++)
		if (p[i] != MSNAP_SIM_PUNCHED)
			return false;
	return true;
}

/* Blocks that are punched, of those that have this count. */
static unsigned nr_punched(uint32_t count)
{
	unsigned nr = 0;

	for (uint64_t blk = 0; blk < pool->nr_blocks; blk++)
		nr += msnap_space_count(pool->space, blk) == count && is_punched(blk);
	return nr;
}

/* Of those, with others in use on both sides. */
static unsigned nr_lonely_punched(void)
{
	unsigned nr = 0;

	for (uint64_t blk = 1; blk < pool->nr_blocks; blk++)
		nr += !msnap_space_count(pool->space, blk) && is_punched(blk) &&
		      msnap_space_count(pool->space, blk - 1) &&
		      msnap_space_count(pool->space, blk + 1);
	return nr;
}

/* In calls that are not too large. */
static void put_much(uint64_t ino, uint64_t off, uint64_t len, uint64_t seed)
{
	for (uint64_t done = 0, n; done < len; done += n) {
		n = len - done < MIB ? len - done : MIB;
		put_bytes(ino, off + done, n, seed);
	}
}

static void change_something(void)
{
	char name[16];
	uint64_t ino;

	sprintf(name, "f%u", (unsigned)rnd(NR_FILES));
	ino = find(msnap_live(ROOT), name);
	if (!ino)
		ino = mk_file(ROOT, name);
	switch (rnd(6)) {
	case 0:
		rm(ROOT, name);
		break;
	case 1:
		set_size(ino, rnd(2 * MIB));
		break;
	case 2:
		put_much(ino, rnd(MIB), 1 + rnd(3 * MIB), rnd(99));
		break;
	case 3: /* a clone would commit */
		ok(msnap_copy_range(pool, msnap_live(ino), 0, mk_file(ROOT, "copy"), 0,
				    size_of(ino)));
		mv(ROOT, "copy", ROOT, name);
		break;
	default:
		put_bytes(ino, rnd(2 * MIB), 1 + rnd(9000), rnd(99));
	}
}

/* Whatever is destroyed, the last two commits are whole. */
START_TEST(no_root_reaches_it)
{
	uint64_t last, view;

	rnd_seed(_i);
	make(32, _i % 2);
	last = pool_view();
	for (unsigned round = 0; round < 25; round++) {
		uint64_t gen = pool->durable_gen;
		uint8_t *image;

		for (unsigned n = 1 + rnd(8); n; n--)
			change_something();
		view = pool_view();
		commit_and_trim();
		must(pool_view() == view);
		if (pool->durable_gen == gen)
			continue;
		image = pool_image();
		pool_aside(image, 0, view);
		pool_aside(image, MSNAP_OPEN_PREVIOUS, last);
		free(image);
		last = view;
	}
	must(nr_punched(0));
	pool_settled_ok();
	pool_gone();
}
END_TEST

/* Of what was free when it was taken, all goes; nothing before it is free. */
START_TEST(all_goes_when_space_is_short)
{
	struct msnap_space_stat stat;
	uint64_t ino;

	make(48, true);
	ino = mk_file(ROOT, "f");
	put_much(ino, 0, 20 * MIB, 1);
	ok(msnap_commit_now(pool));
	for (uint64_t off = 0; off < 20 * MIB; off += 4 * BLK)
		ok(msnap_fallocate(pool, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   off, BLK));
	commit_and_trim();
	must(nr_lonely_punched() < 50); /* the commit before has them */
	ok(msnap_commit_now(pool));
	commit_and_trim();
	msnap_space_stat(pool->space, &stat);
	must(nr_lonely_punched() >= 20 * MIB / BLK / 4);
	must(nr_punched(0) < stat.nr_free);
	for (uint64_t off = 0; off < 20 * MIB; off += 4 * BLK) {
		must(has_zeros(msnap_live(ino), off, BLK));
		must(has_bytes(msnap_live(ino), off + BLK, 3 * BLK, 1));
	}
	pool_settled_ok();
	pool_gone();
}
END_TEST

/* Single blocks are not worth it; whole chunks and long runs are. */
START_TEST(small_holes_stay)
{
	uint64_t ino;

	make(48, false);
	ino = mk_file(ROOT, "f");
	put_much(ino, 0, 8 * MIB, 1);
	ok(msnap_commit_now(pool));
	for (uint64_t off = 0; off < 8 * MIB; off += 4 * BLK)
		ok(msnap_fallocate(pool, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   off, BLK));
	ok(msnap_commit_now(pool));
	ok(msnap_commit_now(pool));
	commit_and_trim();
	must(!nr_lonely_punched());
	rm(ROOT, "f");
	ok(msnap_pool_settle(pool));
	ok(msnap_commit_now(pool));
	ok(msnap_commit_now(pool));
	commit_and_trim();
	must(nr_punched(0) >= 8 * MIB / BLK);
	pool_settled_ok();
	pool_gone();
}
END_TEST

/* The last free blocks are left to those who want them. */
START_TEST(a_full_pool_is_left_alone)
{
	uint64_t ino;
	unsigned n = 0;
	int err;

	make(8, true);
	ino = mk_file(ROOT, "f");
	do {
		static uint8_t buf[64 * 1024];

		err = msnap_pwrite(pool, ino, buf, sizeof(buf), n++ * sizeof(buf), false);
	} while (!err);
	must(err == -ENOSPC);
	commit_and_trim();
	must(!nr_punched(0));
	rm(ROOT, "f");
	pool_settled_ok();
	pool_gone();
}
END_TEST

static atomic_bool stop;

static void *trim_again_and_again(void *arg)
{
	while (!atomic_load(&stop)) {
		msnap_commit_now(pool);
		msnap_trim_run(pool);
	}
	return arg;
}

/* Nothing that somebody was given is punched.  Hardly more room than is needed: what
 * was given back is wanted at once. */
START_TEST(beside_a_writer)
{
	uint64_t ino[4];
	pthread_t thread;

	make(16, true);
	for (unsigned i = 0; i < 4; i++) {
		char name[8];

		sprintf(name, "w%u", i);
		ino[i] = mk_file(ROOT, name);
	}
	must(!pthread_create(&thread, NULL, trim_again_and_again, NULL));
	for (unsigned n = 0; n < 700; n++) {
		unsigned i = n % 4, len = 300000 + rnd(700000);

		set_size(ino[i], 0);
		put_bytes(ino[i], 0, len, n);
		put_bytes(ino[i], rnd(200000), 3 * BLK, n);
		must(has_bytes(msnap_live(ino[i]), 0, len, n));
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	must(!nr_punched(1));
	pool_settled_ok();
	pool_gone();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("trim");
	TCase *tc = tcase_create("trim");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, no_root_reaches_it, 0, 4);
	tcase_add_test(tc, all_goes_when_space_is_short);
	tcase_add_test(tc, small_holes_stay);
	tcase_add_test(tc, a_full_pool_is_left_alone);
	tcase_add_test(tc, beside_a_writer);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
