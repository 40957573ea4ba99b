/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the inside of one tree node, against a plain array. */
#include "util.h"

#include "cow/csum.h"
#include "cow/inode.h"
#include "cow/node.h"

#define MAX 400
#define NODE_BLK 100

static struct msnap_node node;

/* What the node must hold. */
static struct {
	struct msnap_key key;
	uint8_t val[MSNAP_VAL_MAX];
	unsigned len;
} model[MAX];
static unsigned nr;

/* Only its size is looked at. */
static struct msnap_pool fake = { .nr_blocks = 2048 };

static void start(unsigned type, unsigned level)
{
	memset(&node, 0xa5, sizeof(node));
	node.magic = put32(MSNAP_NODE_MAGIC);
	node.blk = put64(NODE_BLK);
	node.gen = put64(200);
	msnap_node_init(&node, type, level, 3);
	nr = 0;
}

static void seal(void)
{
	node.csum = put64(msnap_csum_meta(&node, NODE_BLK));
}

static const char *valid(void)
{
	seal();
	return msnap_node_valid(&fake, &node, NODE_BLK, true);
}

static unsigned model_used(void)
{
	unsigned i, sum = 0;

	for (i = 0; i < nr; i++)
		sum += model[i].len + msnap_node_stride(&node);
	return sum;
}

static void compare(void)
{
	unsigned i, len;
	bool found;

	must(msnap_node_nr(&node) == nr);
	must(msnap_leaf_used(&node) == model_used());
	must(msnap_leaf_room(&node) == sizeof(node.body) - model_used());
	for (i = 0; i < nr; i++) {
		must(!msnap_key_cmp(msnap_node_key(&node, i), model[i].key));
		must(!memcmp(msnap_node_val(&node, i, &len), model[i].val,
			     model[i].len));
		must(len == model[i].len);
		must(msnap_node_search(&node, model[i].key, &found) == i);
		must(found);
	}
	if (nr)
		must(!valid());
}

static struct msnap_key any_key(unsigned type)
{
	struct msnap_key key = { (20 + rnd(30)) * 64, 0 };

	if (type == MSNAP_TREE_CATALOG)
		key.hi |= (rnd(2) ? (uint64_t)MSNAP_CAT_ORPHAN :
				    (uint64_t)MSNAP_CAT_DROP) << 56;
	else if (type != MSNAP_TREE_EXTENT)
		key.lo = msnap_ns_key(0, MSNAP_NS_SYMLINK, rnd(50)).lo;
	return key;
}

static unsigned catalog_val(struct msnap_key key, uint8_t *val)
{
	struct msnap_drop d = { msnap_ptr_store((struct msnap_ptr){ 77, 3 }),
				put32(MSNAP_TREE_NS), put32(0) };

	if (key.hi >> 56 == MSNAP_CAT_ORPHAN)
		return 0;
	memcpy(val, &d, sizeof(d));
	return sizeof(d);
}

/* A symlink's record may have any bytes; an extent's may not. */
static unsigned any_val(unsigned type, struct msnap_key key, uint8_t *val)
{
	struct msnap_extent *ex = (void *)val;
	unsigned len = rnd(8) ? 1 + rnd(40) : 1 + rnd(MSNAP_CHUNK), i;

	for (i = 0; i < len; i++)
		val[i] = rnd(256);
	if (type == MSNAP_TREE_CATALOG)
		return catalog_val(key, val);
	if (type != MSNAP_TREE_EXTENT)
		return len;
	ex->blk = put64(50);
	ex->gen = put64(rnd(100));
	ex->nr = put16(rnd(2) ? 1 : 1 + rnd(MSNAP_EXT_MAX_CSUM));
	ex->flags = put16(rnd(3) ? 0 : MSNAP_EXT_UNWRITTEN);
	ex->reserved = put32(0);
	return sizeof(*ex) + (get16(ex->flags) ? 0 : 8 * get16(ex->nr));
}

static void random_change(unsigned type)
{
	struct msnap_key key = any_key(type);
	uint8_t val[MSNAP_VAL_MAX] = { 0 }; /* any_val() leaves checksums as they are */
	unsigned len = any_val(type, key, val), i, n;
	bool found;

	i = msnap_node_search(&node, key, &found);
	if (found && rnd(2)) {
		n = 1 + rnd(rnd(4) ? 1 : nr - i);
		msnap_leaf_remove(&node, i, n);
		memmove(&model[i], &model[i + n], (nr - i - n) * sizeof(*model));
		nr -= n;
	} else if (found) {
		if (len > model[i].len + msnap_leaf_room(&node))
			return;
		msnap_leaf_replace(&node, i, val, len);
		memcpy(model[i].val, val, len);
		model[i].len = len;
	} else {
		if (len + msnap_node_stride(&node) > msnap_leaf_room(&node))
			return;
		msnap_leaf_insert(&node, i, key, val, len);
		memmove(&model[i + 1], &model[i], (nr - i) * sizeof(*model));
		model[i].key = key;
		memcpy(model[i].val, val, len);
		model[i].len = len;
		nr++;
	}
}

static void random_leaf(unsigned type)
{
	unsigned round;

	start(type, 0);
	for (round = 0; round < 30000; round++) {
		random_change(type);
		if (round % 8 == 0)
			compare();
	}
}

START_TEST(leaf_against_model)
{
	random_leaf(MSNAP_TREE_NS);
}
END_TEST

START_TEST(extent_leaf_against_model)
{
	random_leaf(MSNAP_TREE_EXTENT);
}
END_TEST

START_TEST(empty_values_among_others)
{
	random_leaf(MSNAP_TREE_CATALOG);
}
END_TEST

START_TEST(largest_values_fit_three_times)
{
	uint8_t val[MSNAP_VAL_MAX] = { 1 };
	unsigned i;

	start(MSNAP_TREE_NS, 0);
	for (i = 0; i < 3; i++) {
		must(msnap_leaf_room(&node) >=
		     MSNAP_VAL_MAX + msnap_node_stride(&node));
		msnap_leaf_insert(&node, i, (struct msnap_key){ i, 0 }, val,
				  MSNAP_VAL_MAX);
	}
}
END_TEST

START_TEST(empty_values)
{
	struct msnap_key key = { (uint64_t)MSNAP_CAT_ORPHAN << 56 | 20, 0 };
	unsigned i, len;

	start(MSNAP_TREE_CATALOG, 0);
	for (i = 0; i < 100; i++, key.hi++)
		msnap_leaf_insert(&node, i, key, NULL, 0);
	must(!valid());
	msnap_leaf_remove(&node, 10, 50);
	must(msnap_node_nr(&node) == 50 && !valid());
	msnap_node_val(&node, 49, &len);
	must(len == 0);
}
END_TEST

START_TEST(inner_entries)
{
	unsigned i, max;

	start(MSNAP_TREE_NS, 1);
	max = msnap_node_max(&node);
	for (i = 0; i < max; i++)
		msnap_inner_insert(&node, i / 2,
				   (struct msnap_key){ i % 2 ? 1000 - i : i, 0 },
				   (struct msnap_ptr){ 17 + i, i });
	must(msnap_node_nr(&node) == max);
	msnap_inner_remove(&node, 1, max - 2);
	must(msnap_node_nr(&node) == 2);
	must(msnap_node_child(&node, 0).blk != msnap_node_child(&node, 1).blk);
}
END_TEST

START_TEST(routing)
{
	unsigned i;

	start(MSNAP_TREE_EXTENT, 1);
	for (i = 0; i < 10; i++)
		msnap_inner_insert(&node, i, (struct msnap_key){ 10 * i + 5, 0 },
				   (struct msnap_ptr){ 17 + i, 1 });
	must(!valid());
	must(msnap_node_route(&node, (struct msnap_key){ 0, 0 }) == 0);
	must(msnap_node_route(&node, (struct msnap_key){ 5, 0 }) == 0);
	must(msnap_node_route(&node, (struct msnap_key){ 14, 0 }) == 0);
	must(msnap_node_route(&node, (struct msnap_key){ 15, 0 }) == 1);
	must(msnap_node_route(&node, (struct msnap_key){ 1000, 0 }) == 9);
}
END_TEST

/* ---- what validation must refuse ---------------------------------------------- */

static void good_leaf(void)
{
	unsigned i;

	start(MSNAP_TREE_NS, 0);
	for (i = 0; i < 5; i++)
		msnap_leaf_insert(&node, i, msnap_ns_key(20, MSNAP_NS_SYMLINK, i),
				  "abcdefgh", 8);
	must(!valid());
}

static struct msnap_slot *slot_of(unsigned i)
{
	return (void *)(node.body + i * msnap_node_stride(&node) + 16);
}

START_TEST(refuses_bad_headers)
{
	good_leaf();
	node.magic = put32(1);
	must(valid());
	good_leaf();
	node.blk = put64(NODE_BLK + 1);
	must(valid());
	good_leaf();
	node.type = 0;
	must(valid());
	node.type = 4;
	must(valid());
	good_leaf();
	node.level = MSNAP_MAX_LEVEL + 1;
	must(valid());
	good_leaf();
	node.reserved = put32(1);
	must(valid());
	good_leaf();
	node.nr = put16(0);
	must(valid());
	node.nr = put16(60000);
	must(valid());
	good_leaf();
	node.body[4000] ^= 1;
	must(msnap_node_valid(&fake, &node, NODE_BLK, true));
}
END_TEST

START_TEST(refuses_bad_slots)
{
	good_leaf();
	slot_of(2)->off = put16(4095);
	must(valid());
	good_leaf();
	slot_of(2)->off = put16(40);
	must(valid());
	good_leaf();
	slot_of(2)->len = put16(60000);
	must(valid());
	good_leaf();
	slot_of(2)->off = slot_of(1)->off;
	must(valid());
	good_leaf();
	slot_of(2)->len = put16(7);
	must(valid());
	good_leaf();
	node.dead = put16(1);
	must(valid());
	good_leaf();
	node.heap = put16(60);
	must(valid());
	node.heap = put16(4097);
	must(valid());
	good_leaf();
	msnap_node_set_key(&node, 2, msnap_node_key(&node, 1));
	must(valid());
}
END_TEST

START_TEST(refuses_bad_inner_nodes)
{
	start(MSNAP_TREE_NS, 2);
	must(valid()); /* empty */
	msnap_inner_insert(&node, 0, (struct msnap_key){ 0, 0 },
			   (struct msnap_ptr){ 17, 1 });
	msnap_inner_insert(&node, 1, (struct msnap_key){ 9, 0 },
			   (struct msnap_ptr){ 2046, 1 });
	must(!valid());
	msnap_node_set_child(&node, 1, (struct msnap_ptr){ 2047, 1 });
	must(valid());
	msnap_node_set_child(&node, 1, (struct msnap_ptr){ 16, 1 });
	must(valid());
	msnap_node_set_child(&node, 1, (struct msnap_ptr){ 0, 0 });
	must(valid());
	msnap_node_set_child(&node, 1, (struct msnap_ptr){ 1ull << 60, 1 });
	must(valid());
	msnap_node_set_child(&node, 1, (struct msnap_ptr){ 20, 1 });
	msnap_node_set_key(&node, 1, (struct msnap_key){ 0, 0 });
	must(valid());
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		leaf_against_model, extent_leaf_against_model,
		empty_values_among_others,
		largest_values_fit_three_times, empty_values, inner_entries,
		routing, refuses_bad_headers, refuses_bad_slots,
		refuses_bad_inner_nodes, NULL
	};

	return run_tests("node", tests);
}
