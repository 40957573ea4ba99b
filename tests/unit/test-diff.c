/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the comparison of two trees, against arrays. */
#include "util.h"

#include "cow/diff.h"
#include "cow/inode.h"

#define NR_KEYS 5000

static uint8_t was[NR_KEYS], now[NR_KEYS]; /* length; 0: no record */

static struct msnap_key key_of(unsigned k)
{
	return msnap_ns_key(1000 + k / 40, MSNAP_NS_SYMLINK, k % 40);
}

static void put(unsigned k, unsigned len)
{
	uint8_t val[256];

	fill_bytes(val, k, len, 1);
	if (len)
		ok(msnap_tree_put(pool, &pool->ns, key_of(k), val, len,
				  MSNAP_PUT_ANY));
	else if (now[k])
		ok(msnap_tree_take(pool, &pool->ns, key_of(k)));
	now[k] = len;
}

static void change(unsigned nr)
{
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	while (nr--)
		put(rnd(NR_KEYS), rnd(3) ? 1 + rnd(150) : 0);
	ok(msnap_op_end(pool, 0));
}

/* ---- comparing -------------------------------------------------------------------- */

struct seen {
	int last;
	unsigned nr;
	bool swapped;
};

static int number_of(struct msnap_key key)
{
	return (key.hi - 1000) * 40 + (key.lo & 0xff);
}

static int see(void *arg, struct msnap_key key, const void *a, unsigned a_len,
	       const void *b, unsigned b_len)
{
	struct seen *s = arg;
	int k = number_of(key);

	must(k > s->last);
	s->last = k;
	s->nr++;
	if (!s->swapped) {
		must(!a == !was[k] && (!a || a_len == was[k]));
		must(!b == !now[k] && (!b || b_len == now[k]));
	} else {
		must(!b == !was[k] && (!b || b_len == was[k]));
		must(!a == !now[k] && (!a || a_len == now[k]));
	}
	must(was[k] != now[k]);
	return 0;
}

static void compare(const struct msnap_tree *then)
{
	struct seen s = { .last = -1 }, back = { .last = -1, .swapped = true };
	unsigned k, nr = 0;

	for (k = 0; k < NR_KEYS; k++)
		nr += was[k] != now[k];
	ok(msnap_tree_diff(pool, then, &pool->ns, see, &s));
	must(s.nr == nr);
	ok(msnap_tree_diff(pool, &pool->ns, then, see, &back));
	must(back.nr == nr);
}

START_TEST(random_trees)
{
	static const unsigned amount[] = { 0, 1, 3, 30, 300, 3000, 30000 };
	unsigned round;

	rnd_seed(_i);
	pool_make(32);
	pool->next_ino = 100000; /* above those that have records */
	for (round = 0; round < 60; round++) {
		struct msnap_tree then;
		uint64_t id;

		id = snap_dir("s", ROOT);
		memcpy(was, now, sizeof(was));
		change(amount[rnd(7)]);
		ok(msnap_ns_of(pool, id, &then));
		compare(&then);
		if (rnd(10) == 0) { /* from a tree of another height */
			ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
			ok(msnap_tree_cut(pool, &pool->ns, key_of(0),
					  key_of(NR_KEYS - 1), NULL));
			ok(msnap_op_end(pool, 0));
			memset(now, 0, sizeof(now));
			put(77, 0);
			compare(&then);
		}
		ok(msnap_snap_delete(pool, id));
		ok(msnap_pool_settle(pool));
	}
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(empty_trees)
{
	struct msnap_tree none = { MSNAP_TREE_NS, 0, { 0, 0 } }, own = none;
	struct seen s = { .last = -1 };

	pool_make(4);
	ok(msnap_tree_diff(pool, &none, &none, see, &s));
	must(s.nr == 0);
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	ok(msnap_tree_put(pool, &own, key_of(3), "abc", 3, MSNAP_PUT_NEW));
	now[3] = 3;
	ok(msnap_tree_diff(pool, &none, &own, see, &s));
	must(s.nr == 1);
	s = (struct seen){ .last = -1, .swapped = true };
	ok(msnap_tree_diff(pool, &own, &none, see, &s));
	must(s.nr == 1);
	ok(msnap_tree_diff(pool, &own, &own, see, &s));
	must(s.nr == 1);
	fails(-EINTR, msnap_op_end(pool, -EINTR));
	pool_gone();
}
END_TEST

static int stop(void *arg, struct msnap_key key, const void *a, unsigned a_len,
		const void *b, unsigned b_len)
{
	(void)key;
	(void)a;
	(void)a_len;
	(void)b;
	(void)b_len;
	return ++*(int *)arg == 5 ? -EINTR : 0;
}

START_TEST(stops_when_told)
{
	struct msnap_tree then;
	uint64_t id;
	int nr = 0;

	pool_make(16);
	id = snap_dir("s", ROOT);
	change(300);
	ok(msnap_ns_of(pool, id, &then));
	fails(-EINTR, msnap_tree_diff(pool, &then, &pool->ns, stop, &nr));
	must(nr == 5);
	pool_gone();
}
END_TEST

/* ---- cost --------------------------------------------------------------------------- */

static unsigned nodes_read(void)
{
	uint64_t blk;
	unsigned nr = 0;

	for (blk = 0; blk < pool->nr_blocks; blk++)
		nr += msnap_ok_test(pool->node_ok, blk);
	return nr;
}

static int count(void *arg, struct msnap_key key, const void *a, unsigned a_len,
		 const void *b, unsigned b_len)
{
	(void)key;
	(void)a;
	(void)a_len;
	(void)b;
	(void)b_len;
	++*(unsigned *)arg;
	return 0;
}

static void put_many(unsigned from, unsigned to, unsigned len)
{
	uint8_t val[256] = { 1 };

	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	for (; from < to; from++)
		ok(msnap_tree_put(pool, &pool->ns, key_of(from), val, len,
				  MSNAP_PUT_ANY));
	ok(msnap_op_end(pool, 0));
}

/* What both share is not even looked at: of 1,300 leaves in a dozen subtrees, at
 * most those of the subtrees with a change, and one path into each of the others. */
START_TEST(reads_only_what_differs)
{
	struct msnap_tree then;
	uint64_t id;
	unsigned before, nr = 0;

	pool_make(32);
	put_many(0, 20000, 240);
	id = snap_dir("s", ROOT);
	put_many(10000, 10001, 100);
	pool_reopen(0); /* with the saved map: no tree was walked */
	ok(msnap_ns_of(pool, id, &then));
	before = nodes_read();
	ok(msnap_tree_diff(pool, &then, &pool->ns, count, &nr));
	must(nr == 1);
	ck_assert_uint_le(nodes_read() - before, 180);
	pool_gone();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("diff");
	TCase *tc = tcase_create("diff");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, random_trees, 1, 4);
	tcase_add_test(tc, empty_trees);
	tcase_add_test(tc, stops_when_told);
	tcase_add_test(tc, reads_only_what_differs);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
