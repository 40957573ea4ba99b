/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of commits: what is durable when, that the last two roots are whole at any
 * instant, and that counting anew gives what was saved.
 */
#include "util.h"

#include <pthread.h>
#include <unistd.h>

#include "cow/alloc.h"
#include "cow/commit.h"

#define NR_FILES 25

/* ---- a workload ------------------------------------------------------------------------- */

static uint64_t snap_ids[3];
static bool no_clones; /* each is a commit */

static void any_name(char *name)
{
	sprintf(name, "f%u", (unsigned)rnd(NR_FILES));
}

static uint64_t any_file(char *name)
{
	uint64_t ino;

	any_name(name);
	ino = find(msnap_live(ROOT), name);
	return ino ? ino : mk_file(ROOT, name);
}

static void any_snap(void)
{
	unsigned i = rnd(3);
	char name[8];

	if (snap_ids[i]) {
		ok(msnap_snap_delete(pool, snap_ids[i]));
		snap_ids[i] = 0;
		return;
	}
	sprintf(name, "s%u", i);
	snap_ids[i] = snap_dir(name, ROOT);
}

static void any_clone(void)
{
	struct msnap_attr attr, gone;
	char from[16], to[16];
	uint64_t ino = any_file(from);

	any_name(to);
	ok(msnap_clone(pool, msnap_live(ino), ROOT, to, strlen(to),
		       (struct msnap_owner){ -1, -1 }, MSNAP_CLONE_REPLACE, &attr,
		       &gone));
	if (gone.ino && !gone.nlink)
		ok(msnap_evict(pool, gone.ino));
}

static void any_change(void)
{
	char name[16];
	uint64_t ino = any_file(name);

	switch (rnd(10)) {
	case 0:
		rm(ROOT, name);
		break;
	case 1:
		set_size(ino, rnd(300000));
		break;
	case 2:
		put_bytes(ino, rnd(100000), 70000 + rnd(100000), rnd(99));
		break;
	case 3:
		ok(msnap_pool_settle(pool));
		break;
	case 4:
		if (!no_clones)
			any_clone();
		break;
	default:
		put_bytes(ino, rnd(200000), 1 + rnd(9000), rnd(99));
	}
}

static void any_changes(void)
{
	unsigned n = 1 + rnd(15);

	while (n--)
		any_change();
}

/* ---- the last two roots ------------------------------------------------------------------- */

/* After every commit both roots must be whole, with what they had. */
static void both_roots(enum msnap_sim_kind kind)
{
	uint64_t last, view;
	unsigned round;

	pool_make_kind(8, kind);
	no_clones = true;
	ok(msnap_commit(pool));
	last = pool_view();
	for (round = 0; round < 40; round++) {
		uint64_t gen = pool->durable_gen;
		uint8_t *image;

		any_changes();
		view = pool_view();
		ok(msnap_commit(pool));
		if (pool->durable_gen == gen)
			continue; /* nothing was done after all */
		must(pool->durable_gen == gen + 1);
		image = pool_image();
		pool_aside(image, 0, view);
		pool_aside(image, MSNAP_OPEN_PREVIOUS, last);
		free(image);
		last = view;
	}
	pool_ok();
	pool_gone();
}

START_TEST(both_roots_are_whole)
{
	rnd_seed(_i);
	both_roots(_i % 2 ? MSNAP_SIM_LINES : MSNAP_SIM_PAGES);
}
END_TEST

/* Nearly full: freed blocks are wanted again at once. */
START_TEST(both_roots_are_whole_when_space_is_short)
{
	uint64_t last, view, ino, fill;
	unsigned round;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	fill = mk_file(ROOT, "fill");
	for (round = 0; round < 105; round++)
		put_bytes(fill, round * 16 * BLK, 16 * BLK, 1);
	put_bytes(ino, 0, 60 * BLK, 1);
	ok(msnap_commit(pool));
	ok(msnap_commit(pool));
	last = pool_view();
	for (round = 0; round < 40; round++) {
		uint8_t *image;

		put_bytes(ino, 0, 60 * BLK, round);
		view = pool_view();
		ok(msnap_commit(pool));
		image = pool_image();
		pool_aside(image, 0, view);
		pool_aside(image, MSNAP_OPEN_PREVIOUS, last);
		free(image);
		last = view;
	}
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(a_crash_leaves_the_last_commit)
{
	unsigned round;

	rnd_seed(_i);
	pool_make_kind(12, _i % 2 ? MSNAP_SIM_LINES : MSNAP_SIM_PAGES);
	for (round = 0; round < 60; round++) {
		uint64_t view, gen;

		any_changes();
		if (rnd(3) == 0)
			any_snap();
		ok(msnap_commit(pool));
		view = pool_view();
		gen = pool->durable_gen;
		if (rnd(4)) {
			any_changes();
			if (pool->durable_gen != gen)
				continue; /* a clone commits */
		}
		pool_crash(rnd(2) ? MSNAP_OPEN_REBUILD : 0);
		must(pool_view() == view);
		if (rnd(4) == 0)
			pool_ok();
	}
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(blocks_come_back_after_two_commits)
{
	struct msnap_space_stat a, b;
	uint64_t ino;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 100 * BLK, 1);
	ok(msnap_commit(pool));
	pool_free_blks();
	msnap_space_stat(pool->space, &a);
	put_bytes(ino, 0, 100 * BLK, 2);
	ok(msnap_commit(pool)); /* the root before still has the old blocks */
	msnap_space_stat(pool->space, &b);
	must(b.nr_pending >= 100);
	must(b.nr_free + 100 <= a.nr_free);
	set_size(ino, 100 * BLK + 1);
	ok(msnap_commit(pool));
	msnap_space_stat(pool->space, &b);
	must(b.nr_pending < 10);
	must(b.nr_free + 10 >= a.nr_free);
	pool_gone();
}
END_TEST

START_TEST(nothing_to_commit)
{
	struct msnap_pool_info a, b;

	pool_make(4);
	ok(msnap_commit(pool));
	ok(msnap_pool_info(pool, &a));
	ok(msnap_commit(pool));
	ok(msnap_pool_info(pool, &b));
	must(a.nr_commits == b.nr_commits && a.generation == b.generation);
	pool_gone();
}
END_TEST

/* ---- ending ------------------------------------------------------------------------------- */

static uint32_t *counts(void)
{
	uint32_t *count = calloc(pool->nr_blocks, sizeof(*count));
	uint64_t blk;

	for (blk = 0; blk < pool->nr_blocks; blk++)
		count[blk] = msnap_space_count(pool->space, blk);
	return count;
}

static bool in_map(const struct msnap_runs *map, uint64_t blk)
{
	size_t i;

	for (i = 0; i < map->nr; i++)
		if (blk >= map->run[i].blk &&
		    blk < map->run[i].blk + map->run[i].nr)
			return true;
	return false;
}

/* The saved map and a new count differ by the blocks of the map alone. */
static void compare_counts(void)
{
	struct msnap_runs map = { 0 };
	uint32_t *saved = counts(), *anew;
	uint64_t blk, nr = pool->nr_blocks;
	size_t i;

	must(pool->was_clean);
	for (i = 0; i < pool->space_map.nr; i++)
		ok(msnap_runs_add(&map, pool->space_map.run[i].blk,
				  pool->space_map.run[i].nr));
	pool_crash(MSNAP_OPEN_REBUILD);
	anew = counts();
	for (blk = 0; blk < nr; blk++)
		must(saved[blk] == anew[blk] + in_map(&map, blk));
	free(saved);
	free(anew);
	msnap_runs_free(&map);
}

START_TEST(the_saved_map_is_what_counting_gives)
{
	unsigned round;

	rnd_seed(_i);
	pool_make(24);
	for (round = 0; round < 25; round++) {
		uint64_t view;

		any_changes();
		if (rnd(3) == 0)
			any_snap();
		view = pool_view();
		pool_reopen(0);
		must(pool_view() == view);
		pool_ok();
		if (rnd(2))
			continue;
		compare_counts();
		must(pool_view() == view);
		pool_ok();
	}
	pool_gone();
}
END_TEST

/* A chain of many blocks: more runs than one holds. */
static void make_long_map(void)
{
	uint64_t ino = mk_file(ROOT, "holes");
	unsigned i;

	put_bytes(ino, 0, 2000 * BLK, 1);
	for (i = 0; i < 1000; i++)
		ok(msnap_fallocate(pool, ino,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   i * 2 * BLK, BLK));
	pool_reopen(0);
	must(pool->was_clean);
	must(pool->space_map.nr && pool->space_map.run[0].nr > 1);
}

static void punch_or_put(uint64_t ino)
{
	uint64_t fb = rnd(100), nr = 1 + rnd(4);

	if (rnd(3))
		ok(msnap_fallocate(pool, ino,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   fb * BLK, nr * BLK));
	else
		put_bytes(ino, fb * BLK, nr * BLK, 1);
}

/* Without memory, blocks that became free stay out of use; not for the next one who
 * opens the pool. */
START_TEST(blocks_that_could_not_be_released)
{
	uint64_t file, view, i;
	unsigned long failed = 0;

	pool_make(12);
	file = mk_file(ROOT, "f");
	put_bytes(file, 0, 100 * BLK, 1);
	for (i = 0; i < 2000; i++) {
		punch_or_put(file);
		msnap_alloc_fail(1);
		ok(msnap_commit_now(pool));
		failed += msnap_alloc_seen();
		msnap_alloc_fail(0);
	}
	must(failed);
	view = pool_view();
	pool_reopen(0);
	must(!log_lines);
	must(pool_view() == view);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(a_damaged_map_is_counted_anew)
{
	uint64_t view, i, off;
	uint8_t *image;

	pool_make(12);
	make_long_map();
	view = pool_view();
	image = pool_image();
	for (i = 0; i < 60; i++) {
		const struct msnap_run *r =
			&pool->space_map.run[rnd(pool->space_map.nr)];

		off = (r->blk + rnd(r->nr)) * BLK + (rnd(2) ? rnd(48) : rnd(BLK));
		msnap_pool_abandon(pool);
		image[off] ^= 1 << rnd(8);
		pool_from(image, 0);
		must(strstr(log_last, "space map"));
		must(!pool->read_only);
		must(pool_view() == view);
		pool_ok();
		msnap_pool_abandon(pool);
		image[off] = msnap_sim_media(mem)[off];
		free(image);
		/* Close it cleanly again, with another map. */
		pool_open(0);
		pool_reopen(0);
		image = pool_image();
	}
	free(image);
	pool_gone();
}
END_TEST

START_TEST(no_room_for_the_map)
{
	uint64_t view;

	pool_make(12);
	make_long_map();
	/* Not a block is left for it, not even that of the map before. */
	pool_crash(MSNAP_OPEN_REBUILD);
	for (;;) {
		struct msnap_space_want want = { .use = MSNAP_SPACE_NODE, .nr = 1 };
		uint64_t blk;
		uint32_t nr;

		if (msnap_space_alloc(pool->space, &want, &blk, &nr))
			break;
	}
	view = pool_view();
	pool_reopen(0);
	must(!pool->was_clean);
	must(pool_view() == view);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- failure --------------------------------------------------------------------------------- */

static void change_meanwhile(void *arg, struct msnap_mem *m, const uint8_t *media)
{
	bool *done = arg;

	(void)m;
	(void)media;
	if (!*done) {
		*done = true;
		mk_file(ROOT, "meanwhile");
	}
}

/* What was done while a commit failed must not become durable on top of it. */
static void fail_with_changes(unsigned nth)
{
	bool done = false;
	struct msnap_sim_hooks hooks = { change_meanwhile, &done };
	uint64_t view;

	pool_make_kind(8, MSNAP_SIM_PAGES);
	put_bytes(mk_file(ROOT, "f"), 0, 50000, 1);
	ok(msnap_commit(pool));
	view = pool_view();
	put_bytes(mk_file(ROOT, "g"), 0, 50000, 2);
	msnap_sim_hooks(mem, &hooks);
	msnap_sim_fail_drain(mem, nth);
	fails(-EIO, msnap_commit(pool));
	must(done && pool->read_only);
	fails(-EIO, msnap_commit(pool));
	must(msnap_pool_close(pool) < 0);
	msnap_sim_crash(mem);
	pool_open(0);
	must(!pool->read_only);
	must(pool_view() == view);
	pool_ok();
	pool_gone();
}

START_TEST(changes_while_a_commit_fails)
{
	fail_with_changes(_i + 1);
}
END_TEST

/* The newest root is given up: what follows must replace it. */
START_TEST(going_on_from_the_previous_root)
{
	uint64_t view, later;

	pool_make(8);
	put_bytes(mk_file(ROOT, "a"), 0, 50000, 1);
	ok(msnap_commit(pool));
	view = pool_view();
	put_bytes(mk_file(ROOT, "b"), 0, 50000, 2);
	ok(msnap_commit(pool));
	pool_crash(MSNAP_OPEN_PREVIOUS);
	must(pool_view() == view);
	pool_ok();
	put_bytes(mk_file(ROOT, "c"), 0, 50000, 3);
	later = pool_view();
	ok(msnap_commit(pool));
	pool_crash(0);
	must(pool_view() == later);
	pool_ok();
	pool_reopen(0);
	must(pool_view() == later);
	pool_gone();
}
END_TEST

/* The same where the record in between is damaged. */
START_TEST(going_on_over_a_gap)
{
	uint64_t later;

	pool_make(8);
	mk_file(ROOT, "a");
	ok(msnap_commit(pool));
	mk_file(ROOT, "b");
	ok(msnap_commit(pool));
	mk_file(ROOT, "c");
	ok(msnap_commit(pool));
	memset(msnap_sim_media(mem) +
		       (1 + (pool->durable_gen - 1) % MSNAP_RING_SLOTS) * BLK,
	       0, 200);
	pool_crash(MSNAP_OPEN_PREVIOUS);
	must(!find(msnap_live(ROOT), "b"));
	mk_file(ROOT, "d");
	later = pool_view();
	ok(msnap_commit(pool));
	pool_crash(0);
	must(pool_view() == later);
	pool_ok();
	pool_gone();
}
END_TEST

/* Nothing was committed yet: a crash must leave one state or the other, whole. */
START_TEST(a_crash_behind_the_previous_root)
{
	unsigned i;

	pool_make(8);
	for (i = 0; i < 20; i++) {
		put_bytes(mk_file(ROOT, "a"), 0, 400000, i);
		ok(msnap_commit(pool));
		rm(ROOT, "a");
	}
	mk_file(ROOT, "new");
	ok(msnap_commit(pool));
	pool_crash(MSNAP_OPEN_PREVIOUS);
	put_bytes(mk_file(ROOT, "x"), 0, 4000000, 9);
	pool_crash(0);
	must(!pool->read_only);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- many at once -------------------------------------------------------------------------- */

#define NR_THREADS 4
#define NR_SYNCS 60

static void *write_and_sync(void *arg)
{
	uint64_t ino = *(uint64_t *)arg;
	unsigned i;

	for (i = 0; i < NR_SYNCS; i++) {
		uint8_t buf[3000];

		fill_bytes(buf, i * 3000, sizeof(buf), ino);
		if (msnap_pwrite(pool, ino, buf, sizeof(buf), i * 3000, false) ||
		    msnap_commit(pool))
			return (void *)1;
	}
	return NULL;
}

START_TEST(threads_that_sync)
{
	pthread_t thread[NR_THREADS];
	uint64_t ino[NR_THREADS];
	unsigned i;

	pool_make(16);
	for (i = 0; i < NR_THREADS; i++)
		ino[i] = mk_tmpfile();
	for (i = 0; i < NR_THREADS; i++)
		must(!pthread_create(&thread[i], NULL, write_and_sync, &ino[i]));
	for (i = 0; i < NR_THREADS; i++) {
		void *bad;

		pthread_join(thread[i], &bad);
		must(!bad);
	}
	for (i = 0; i < NR_THREADS; i++)
		must(has_bytes(msnap_live(ino[i]), 0, NR_SYNCS * 3000, ino[i]));
	must(pool->nr_commits <= NR_THREADS * NR_SYNCS + 1);
	pool_ok();
	pool_gone();
}
END_TEST

static struct msnap_read reading;
static bool read_changed;

static void *hold_read(void *arg)
{
	uint8_t want[20000];
	unsigned i;

	(void)arg;
	fill_bytes(want, 0, sizeof(want), 1);
	for (i = 0; i < 50; i++) {
		uint8_t *w = want;
		unsigned k;

		for (k = 0; k < reading.nr; w += reading.iov[k++].iov_len)
			read_changed |= memcmp(reading.iov[k].iov_base, w,
					       reading.iov[k].iov_len) != 0;
		usleep(1000);
	}
	msnap_read_end(pool, &reading);
	return NULL;
}

/* Blocks that a reader was given are not written again before it ends. */
START_TEST(readers_keep_what_they_read)
{
	pthread_t thread;
	uint64_t ino;
	unsigned i;

	pool_make(4);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 20000, 1);
	ok(msnap_commit(pool));
	ok(msnap_read_begin(pool, msnap_live(ino), 0, 20000, &reading));
	must(reading.len == 20000);
	must(!pthread_create(&thread, NULL, hold_read, NULL));
	for (i = 0; i < 12; i++) {
		put_bytes(ino, 0, 700000, i + 2);
		ok(msnap_commit(pool));
	}
	pthread_join(thread, NULL);
	must(!read_changed);
	pool_ok();
	pool_gone();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("commit");
	TCase *tc = tcase_create("commit");

	tcase_set_timeout(tc, 200);
	tcase_add_loop_test(tc, both_roots_are_whole, 1, 4);
	tcase_add_test(tc, both_roots_are_whole_when_space_is_short);
	tcase_add_loop_test(tc, a_crash_leaves_the_last_commit, 1, 5);
	tcase_add_test(tc, blocks_come_back_after_two_commits);
	tcase_add_test(tc, nothing_to_commit);
	tcase_add_loop_test(tc, the_saved_map_is_what_counting_gives, 1, 5);
	tcase_add_test(tc, a_damaged_map_is_counted_anew);
	tcase_add_test(tc, blocks_that_could_not_be_released);
	tcase_add_test(tc, no_room_for_the_map);
	tcase_add_loop_test(tc, changes_while_a_commit_fails, 0, 2);
	tcase_add_test(tc, going_on_from_the_previous_root);
	tcase_add_test(tc, going_on_over_a_gap);
	tcase_add_test(tc, a_crash_behind_the_previous_root);
	tcase_add_test(tc, threads_that_sync);
	tcase_add_test(tc, readers_keep_what_they_read);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
