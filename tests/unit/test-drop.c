/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of giving trees back in the background. */
#include "util.h"

static void big_file(const char *name, unsigned extents)
{
	uint64_t ino = mk_file(ROOT, name);
	unsigned i;

	for (i = 0; i < extents; i++)
		put_bytes(ino, (uint64_t)i * 2 * BLK, 10, i);
}

static unsigned steps(void)
{
	unsigned nr = 0;

	while (ok(msnap_drop_step(pool)))
		nr++;
	return nr;
}

START_TEST(small_things_go_at_once)
{
	pool_make(8);
	big_file("f", 20);
	rm(ROOT, "f");
	must(msnap_drop_waiting(pool) == 0);
	must(steps() == 0);
	pool_ok();
	pool_gone();
}
END_TEST

/* The call does little, whatever the size; steps do a bounded part each. */
START_TEST(large_things_go_step_by_step)
{
	struct msnap_space_stat was, now;
	uint64_t nr_free;
	unsigned nr;

	pool_make(128);
	nr_free = pool_free_blks();
	big_file("f", 20000);
	ok(msnap_commit(pool));
	msnap_space_stat(pool->space, &was);
	rm(ROOT, "f");
	msnap_space_stat(pool->space, &now);
	must(now.nr_pending - was.nr_pending < 10);
	must(msnap_drop_waiting(pool) == 1);
	nr = steps();
	must(nr > 10 && nr < 200);
	must(msnap_drop_waiting(pool) == 0);
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(crashes_between_steps)
{
	uint64_t nr_free;
	unsigned nr = 0;

	pool_make(64);
	nr_free = pool_free_blks();
	big_file("f", 8000);
	ok(msnap_commit(pool));
	rm(ROOT, "f");
	ok(msnap_commit(pool));
	for (; msnap_drop_waiting(pool); nr++) {
		ok(msnap_drop_step(pool));
		if (nr % 2)
			ok(msnap_commit(pool));
		if (nr % 3 == 2)
			pool_crash(0);
		if (nr % 7 == 0)
			pool_ok();
		must(nr < 1000);
	}
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(shared_parts_stay)
{
	struct msnap_attr attr, gone;
	uint64_t nr_free, i;

	pool_make(64);
	nr_free = pool_free_blks();
	big_file("f", 5000);
	ok(msnap_clone(pool, msnap_live(find(msnap_live(ROOT), "f")), ROOT, "g", 1,
		       (struct msnap_owner){ -1, -1 }, 0, &attr, &gone));
	/* Half of it becomes the clone's own. */
	for (i = 0; i < 5000; i += 2)
		put_bytes(attr.ino, i * 2 * BLK, 10, i + 1);
	rm(ROOT, "f");
	must(steps() > 0);
	for (i = 0; i < 5000; i++)
		must(has_bytes(msnap_live(attr.ino), i * 2 * BLK, 10,
			       i % 2 ? i : i + 1));
	pool_ok();
	rm(ROOT, "g");
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

/* Many trees at a time, of both types. */
START_TEST(many_trees)
{
	uint64_t nr_free, snap[20];
	unsigned i;

	pool_make(64);
	nr_free = pool_free_blks();
	for (i = 0; i < 20; i++) {
		char name[8];

		sprintf(name, "%u", i);
		big_file(name, 300);
		snap[i] = snap_dir(name, ROOT);
	}
	for (i = 0; i < 20; i++) {
		char name[8];

		sprintf(name, "%u", i);
		rm(ROOT, name);
		if (i % 2)
			ok(msnap_snap_delete(pool, snap[i]));
	}
	ok(msnap_pool_settle(pool));
	pool_ok();
	for (i = 0; i < 20; i += 2) {
		char name[8];

		sprintf(name, "%u", i);
		must(has_bytes(in_snap(snap[i], find(in_snap(snap[i], ROOT), name)),
			       598 * BLK, 10, 299));
		ok(msnap_snap_delete(pool, snap[i]));
	}
	must(msnap_drop_waiting(pool) > 0);
	must(pool_free_blks() == nr_free);
	must(msnap_drop_waiting(pool) == 0);
	pool_ok();
	pool_gone();
}
END_TEST

/* Half of a file goes by truncation: subtrees. */
START_TEST(truncated_subtrees)
{
	uint64_t ino, snap, i;

	pool_make(64);
	big_file("f", 8000);
	ino = find(msnap_live(ROOT), "f");
	snap = snap_dir("s", ROOT);
	set_size(ino, 8000 * BLK);
	must(attr_of(msnap_live(ino)).nr_blk == 4000);
	ok(msnap_fallocate(pool, ino,
			   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2000 * BLK,
			   4000 * BLK));
	must(attr_of(msnap_live(ino)).nr_blk == 2000);
	pool_settled_ok();
	for (i = 0; i < 4000; i++)
		must(i >= 1000 && i < 3000 ?
			     has_zeros(msnap_live(ino), i * 2 * BLK, 10) :
			     has_bytes(msnap_live(ino), i * 2 * BLK, 10, i));
	must(has_bytes(in_snap(snap, ino), 15998 * BLK, 10, 7999));
	ok(msnap_snap_delete(pool, snap));
	pool_settled_ok();
	pool_gone();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		small_things_go_at_once, large_things_go_step_by_step,
		crashes_between_steps, shared_parts_stay, many_trees,
		truncated_subtrees, NULL
	};

	return run_tests("drop", tests);
}
