/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the list of runs. */
#include "util.h"

#include "cow/alloc.h"
#include "cow/runs.h"

START_TEST(merges_only_what_continues)
{
	struct msnap_runs r = { 0 };

	ok(msnap_runs_add(&r, 10, 5));
	ok(msnap_runs_add(&r, 15, 1));
	must(r.nr == 1 && r.run[0].blk == 10 && r.run[0].nr == 6);
	ok(msnap_runs_add(&r, 9, 1));
	ok(msnap_runs_add(&r, 17, 1));
	must(r.nr == 3);
	must(r.run[1].blk == 9 && r.run[1].nr == 1);
	must(r.run[2].blk == 17 && r.run[2].nr == 1);
	msnap_runs_free(&r);
	must(!r.run && !r.nr && !r.cap);
}
END_TEST

START_TEST(grows)
{
	struct msnap_runs r = { 0 };
	uint64_t i;

	for (i = 0; i < 10000; i++)
		ok(msnap_runs_add(&r, i * 2, 1));
	must(r.nr == 10000);
	for (i = 0; i < 10000; i++)
		must(r.run[i].blk == i * 2 && r.run[i].nr == 1);
	msnap_runs_free(&r);
}
END_TEST

START_TEST(moves_all)
{
	struct msnap_runs a = { 0 }, b = { 0 };
	uint64_t i;

	for (i = 0; i < 100; i++)
		ok(msnap_runs_add(&a, 1000 + i * 2, 1));
	for (i = 0; i < 50; i++)
		ok(msnap_runs_add(&b, 5000 + i * 3, 2));
	ok(msnap_runs_reserve(&a, b.nr));
	msnap_runs_move(&a, &b);
	must(a.nr == 150 && b.nr == 0);
	must(a.run[99].blk == 1198 && a.run[100].blk == 5000);
	must(a.run[149].blk == 5147 && a.run[149].nr == 2);
	msnap_runs_move(&a, &b);
	must(a.nr == 150);
	msnap_runs_free(&a);
	msnap_runs_free(&b);
}
END_TEST

START_TEST(no_memory_changes_nothing)
{
	struct msnap_runs r = { 0 };
	uint64_t i;

	msnap_alloc_fail(1);
	fails(-ENOMEM, msnap_runs_add(&r, 1, 1));
	must(r.nr == 0);
	msnap_alloc_fail(0);
	for (i = 0; i < 32; i++)
		ok(msnap_runs_add(&r, i * 2, 1));
	must(r.cap == 32);
	msnap_alloc_fail(1);
	fails(-ENOMEM, msnap_runs_add(&r, 100, 1));
	msnap_alloc_fail(1);
	fails(-ENOMEM, msnap_runs_reserve(&r, 1));
	/* What continues the last run needs no memory. */
	msnap_alloc_fail(1);
	ok(msnap_runs_add(&r, 63, 5));
	msnap_alloc_fail(0);
	must(r.nr == 32 && r.run[31].nr == 6);
	msnap_runs_free(&r);
}
END_TEST

START_TEST(add_after_reserve_needs_no_memory)
{
	struct msnap_runs r = { 0 };
	uint64_t i;

	ok(msnap_runs_reserve(&r, 1000));
	msnap_alloc_fail(1);
	for (i = 0; i < 1000; i++)
		ok(msnap_runs_add(&r, i * 2, 1));
	msnap_alloc_fail(0);
	must(r.nr == 1000);
	msnap_runs_free(&r);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		merges_only_what_continues, grows, moves_all,
		no_memory_changes_nothing, add_after_reserve_needs_no_memory,
		NULL
	};

	return run_tests("runs", tests);
}
