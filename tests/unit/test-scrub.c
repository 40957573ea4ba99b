/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the scrub: everything is read once, damage is named, and what goes on
 * meanwhile is no damage.  Damage is made by changing bytes of the simulated memory.
 */
#include "util.h"

#include "cow/commit.h"
#include "cow/extent.h"
#include "cow/inode.h"

static struct msnap_scrub *scrub;
static struct msnap_scrub_stat st;

/* What was found, in the order found. */
static struct {
	unsigned nr;
	struct {
		struct msnap_id id;
		uint64_t off, blk;
		bool meta;
		char snap[64];
		char path[300];
	} d[1100];
} found;

static void on_damage(void *arg, const struct msnap_scrub_damage *d)
{
	unsigned i = found.nr++;

	must(arg == &found);
	must(i < 1100);
	found.d[i].id = d->id;
	found.d[i].off = d->off;
	found.d[i].blk = d->blk;
	found.d[i].meta = d->meta;
	snprintf(found.d[i].snap, sizeof(found.d[i].snap), "%s", d->snap);
	snprintf(found.d[i].path, sizeof(found.d[i].path), "%s", d->path);
}

static int step(void)
{
	uint64_t bytes = 0;
	int ret = (int)ok(msnap_scrub_step(scrub, on_damage, &found, &bytes));

	must(bytes < 8 * MIB);
	return ret;
}

static void begin(bool restart)
{
	found.nr = 0;
	ok(msnap_scrub_begin(pool, restart, &scrub));
}

static void finish(void)
{
	msnap_scrub_stat(scrub, &st);
	msnap_scrub_free(scrub);
	scrub = NULL;
}

static void run_scrub(void)
{
	begin(true);
	while (step())
		;
	finish();
}

static uint64_t first_blk;
static int note_piece(void *arg, const struct msnap_piece *piece)
{
	first_blk = piece->blk + ((*(uint64_t *)arg - piece->off) >> MSNAP_BLOCK_SHIFT);
	return 1;
}

/* The pool's block that has byte @off of a file. */
static uint64_t blk_at(struct msnap_id id, uint64_t off)
{
	first_blk = 0;
	ok(msnap_map(pool, id, off, note_piece, &off));
	must(first_blk);
	return first_blk;
}

static void flip(uint64_t blk, unsigned byte)
{
	mem->base[blk * BLK + byte] ^= 0x40;
}

static bool is_damage(unsigned i, const char *snap, const char *path, uint64_t off,
		      uint64_t blk)
{
	if (i < found.nr && !strcmp(found.d[i].snap, snap) &&
	    !strcmp(found.d[i].path, path) && found.d[i].off == off &&
	    found.d[i].blk == blk && !found.d[i].meta)
		return true;
	if (i < found.nr)
		fprintf(stderr, "found \"%s\" \"%s\" %llu block %llu meta %d\n",
			found.d[i].snap, found.d[i].path,
			(unsigned long long)found.d[i].off,
			(unsigned long long)found.d[i].blk, found.d[i].meta);
	return false;
}

static int reads(struct msnap_id id, uint64_t off)
{
	char byte;

	return (int)msnap_pread(pool, id, &byte, 1, off);
}

static uint64_t dir, sub, file, big;

static void make_world(void)
{
	unsigned i;
	char name[16];

	pool_make(64);
	dir = mk_dir(ROOT, "dir");
	sub = mk_dir(dir, "sub");
	file = mk_file(sub, "file");
	put_bytes(file, 0, 10 * BLK, 1);
	big = mk_file(ROOT, "big");
	/* As many extents as make a tree of several nodes. */
	for (i = 0; i < 600; i++)
		put_bytes(big, i * 2 * BLK, BLK, i);
	for (i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		put_bytes(mk_file(dir, name), 0, 100, i);
	}
	ok(msnap_fallocate(pool, mk_file(dir, "unwritten"), 0, 0, MIB));
}

/* ---- nothing wrong ------------------------------------------------------------------ */

static void everything_once(void)
{
	struct msnap_check_result res;
	uint64_t map = 0;
	size_t i;

	ok(msnap_check(pool, 0, NULL, NULL, &res));
	for (i = 0; i < pool->space_map.nr; i++)
		map += pool->space_map.run[i].nr;
	run_scrub();
	must(found.nr == 0);
	must(st.nr_damaged == 0);
	must(st.nr_nodes == res.nr_nodes);
	/* The other blocks in use: superblocks, ring, saved space map. */
	must(st.nr_passed + MSNAP_FIRST_BLK + 1 + map == res.nr_blocks);
	must(st.nr_unchecked == 0);
	must(st.nr_filled == 0);
	must(!pool->read_only);
}

START_TEST(each_block_is_read_once)
{
	struct msnap_owner root = { 0, 0 };
	struct msnap_attr attr, gone;
	uint64_t data;
	unsigned i;

	make_world();
	everything_once();
	data = st.nr_blocks;
	must(data == 10 + 600 + 300);
	for (i = 0; i < 5; i++) {
		char name[16];

		snprintf(name, sizeof(name), "s%u", i);
		snap_dir(name, i % 2 ? ROOT : dir);
		ok(msnap_clone(pool, msnap_live(big), ROOT, name, strlen(name), root,
			       0, &attr, &gone));
		everything_once();
		must(st.nr_blocks == data);
	}
	put_bytes(attr.ino, 0, BLK, 9);
	snap_file("one", ROOT, "big");
	rm(ROOT, "big");
	ok(msnap_pool_settle(pool));
	everything_once();
	must(st.nr_blocks == data + 1);
	pool_gone();
}
END_TEST

START_TEST(an_empty_pool_and_one_that_is_read_only)
{
	pool_make(4);
	run_scrub();
	must(st.nr_damaged == 0 && st.nr_blocks == 0 && st.nr_nodes > 0);
	put_bytes(mk_file(ROOT, "a"), 0, 9 * BLK, 1);
	pool_reopen(MSNAP_OPEN_RDONLY);
	begin(false);
	fails(-EROFS, msnap_scrub_save(scrub, false));
	while (step())
		;
	finish();
	must(st.nr_damaged == 0 && st.nr_blocks == 9);
	pool_gone();
}
END_TEST

/* ---- damage -------------------------------------------------------------------------- */

START_TEST(damaged_data_are_named)
{
	uint64_t blk, blk2, blk3, snap;

	make_world();
	snap = snap_dir("before", ROOT);
	put_bytes(file, 3 * BLK, BLK, 77);
	ok(msnap_commit(pool));
	/* Read, and so verified, before. */
	must(has_bytes(msnap_live(file), 3 * BLK, BLK, 77));
	must(has_bytes(in_snap(snap, file), 3 * BLK, BLK, 1));
	blk = blk_at(msnap_live(file), 3 * BLK);
	blk2 = blk_at(in_snap(snap, file), 3 * BLK);
	blk3 = blk_at(msnap_live(file), 5 * BLK);
	must(blk3 == blk_at(in_snap(snap, file), 5 * BLK));
	flip(blk, 0);
	flip(blk2, 4095);
	flip(blk3, 100);
	run_scrub();
	must(st.nr_damaged == 3);
	must(found.nr == 3);
	must(is_damage(0, "", "/dir/sub/file", 3 * BLK, blk));
	must(is_damage(1, "", "/dir/sub/file", 5 * BLK, blk3));
	must(is_damage(2, "before", "/dir/sub/file", 3 * BLK, blk2));
	must(strstr(log_last, "before") && strstr(log_last, "/dir/sub/file"));
	must(!pool->read_only);
	fails(-EIO, reads(msnap_live(file), 3 * BLK));
	fails(-EIO, reads(in_snap(snap, file), 3 * BLK));
	fails(-EIO, reads(in_snap(snap, file), 5 * BLK));
	must(reads(msnap_live(file), 4 * BLK) == 1);
	/* What is written anew is sound. */
	put_bytes(file, 0, 10 * BLK, 5);
	run_scrub();
	must(st.nr_damaged == 2);
	must(is_damage(0, "before", "/dir/sub/file", 3 * BLK, blk2));
	pool_gone();
}
END_TEST

START_TEST(names_of_all_sorts)
{
	uint64_t orphan, a, blk[4];

	make_world();
	a = mk_file(sub, "a");
	put_bytes(a, 0, BLK, 1);
	blk[0] = blk_at(msnap_live(a), 0);
	snap_dir("of-sub", sub);
	rm(sub, "a");
	a = mk_file(dir, "b");
	put_bytes(a, 0, BLK, 2);
	blk[1] = blk_at(msnap_live(a), 0);
	snap_file("of-b", dir, "b");
	rm(dir, "b");
	orphan = mk_file(ROOT, "gone");
	put_bytes(orphan, 0, BLK, 3);
	blk[2] = blk_at(msnap_live(orphan), 0);
	unlink_only(ROOT, "gone");
	/* Above what a snapshot has, the names of now. */
	mv(ROOT, "dir", ROOT, "moved");
	ok(msnap_pool_settle(pool));
	flip(blk[0], 1);
	flip(blk[1], 1);
	flip(blk[2], 1);
	run_scrub();
	must(found.nr == 3);
	must(found.d[0].id.ino == orphan);
	must(!strncmp(found.d[0].path, "<inode ", 7));
	must(is_damage(1, "of-sub", "/moved/sub/a", 0, blk[0]));
	must(is_damage(2, "of-b", "/moved/b", 0, blk[1]));
	pool_gone();
}
END_TEST

START_TEST(a_damaged_extent_node)
{
	struct msnap_inode in;
	const struct msnap_node *n;
	uint64_t leaf, nr;

	make_world();
	run_scrub();
	nr = st.nr_blocks;
	ok(msnap_inode_get(pool, &pool->ns, big, &in));
	n = msnap_blk_ptr(pool, get64(in.ext.blk));
	must(n->level == 1 && msnap_node_nr(n) > 3);
	leaf = msnap_node_child(n, 2).blk;
	flip(leaf, 2000);
	run_scrub();
	must(st.nr_damaged == 1);
	must(found.nr == 1);
	must(found.d[0].meta && found.d[0].id.ino == big && found.d[0].blk == leaf);
	must(!strcmp(found.d[0].path, "/big"));
	must(found.d[0].off == msnap_node_key(n, 2).hi * BLK);
	must(pool->read_only);
	/* The rest was looked at all the same. */
	must(st.nr_blocks < nr && st.nr_blocks > nr / 2);
	pool_gone();
}
END_TEST

START_TEST(a_damaged_namespace_node)
{
	const struct msnap_node *n;
	uint64_t leaf;

	make_world();
	snap_dir("one", ROOT);
	snap_dir("two", ROOT);
	n = msnap_blk_ptr(pool, pool->ns.root.blk);
	must(n->level == 1);
	leaf = msnap_node_child(n, 4).blk;
	flip(leaf, 20);
	run_scrub();
	/* Once, though three namespaces have it. */
	must(st.nr_damaged == 1);
	must(found.nr == 1);
	must(found.d[0].meta && !found.d[0].id.ino && found.d[0].blk == leaf);
	must(pool->read_only);
	must(st.nr_blocks > 100);
	pool_gone();
}
END_TEST

START_TEST(a_damaged_root_node)
{
	make_world();
	snap_dir("whole", dir);
	flip(pool->ns.root.blk, 60);
	run_scrub();
	must(st.nr_damaged == 1);
	must(pool->read_only);
	/* The snapshot has nodes of its own. */
	must(st.nr_blocks > 300);
	pool_gone();
}
END_TEST

START_TEST(much_damage_is_counted)
{
	uint64_t ino, i;

	pool_make(16);
	ino = mk_file(ROOT, "bad");
	put_bytes(ino, 0, 1200 * BLK, 1);
	ok(msnap_commit(pool));
	for (i = 0; i < 1200; i++)
		flip(blk_at(msnap_live(ino), i * BLK), i);
	log_lines = 0;
	run_scrub();
	must(st.nr_damaged == 1200);
	must(found.nr == MSNAP_SCRUB_NAMED);
	must(log_lines == MSNAP_SCRUB_NAMED + 1);
	must(!pool->read_only);
	pool_gone();
}
END_TEST

/* ---- stopping and going on ----------------------------------------------------------- */

START_TEST(it_goes_on_after_a_mount)
{
	uint64_t nr, blk, sum, steps = 0;
	struct msnap_scrub_stat last;

	pool_make(64);
	fails(-ENOENT, msnap_scrub_last(pool, &last));
	big = mk_file(ROOT, "big");
	put_bytes(big, 0, 16 * MIB, 1);
	put_bytes(big, 16 * MIB, 4 * MIB, 1);
	file = mk_file(ROOT, "file");
	put_bytes(file, 0, MIB, 1);
	run_scrub();
	nr = st.nr_blocks;
	must(nr == 21 * 256);

	begin(true);
	do {
		must(step() == 1);
		msnap_scrub_stat(scrub, &st);
	} while (++steps < 6);
	ok(msnap_scrub_save(scrub, false));
	finish();
	must(st.state == MSNAP_SCRUB_STOPPED);
	sum = st.nr_blocks;
	must(sum > 5 * 256 && sum < 8 * 256);
	pool_reopen(0);
	ok(msnap_scrub_last(pool, &last));
	must(last.state == MSNAP_SCRUB_STOPPED && last.nr_blocks == sum);
	/* Behind the place where it stopped damage is not seen, before it is. */
	flip(blk_at(msnap_live(big), MIB), 5);
	blk = blk_at(msnap_live(big), 19 * MIB);
	flip(blk, 5);
	begin(false);
	while (step())
		;
	ok(msnap_scrub_save(scrub, true));
	finish();
	must(st.state == MSNAP_SCRUB_DONE);
	must(st.nr_blocks == nr);
	must(st.begin_ns == last.begin_ns && st.end_ns > last.end_ns);
	must(found.nr == 1 && is_damage(0, "", "/big", 19 * MIB, blk));
	pool_crash(0);
	ok(msnap_scrub_last(pool, &last));
	must(last.state == MSNAP_SCRUB_DONE && last.nr_damaged == 1);
	/* The media never had the damage.  One that is done is not gone on with. */
	flip(blk_at(msnap_live(big), MIB), 5);
	flip(blk, 5);
	begin(false);
	msnap_scrub_stat(scrub, &st);
	must(st.nr_blocks == 0);
	while (step())
		;
	finish();
	must(st.nr_damaged == 2);
	/* Two blocks of one file; the record of the scrub is no error. */
	must(pool_errors() == 2);
	pool_gone();
}
END_TEST

/* Stop and go on at every step, in snapshots too: nothing is left out. */
START_TEST(it_goes_on_after_every_step)
{
	uint64_t nr, blk[3], snap, steps = 0;

	make_world();
	put_bytes(big, 0, 4 * MIB, 3);
	snap = snap_dir("a", ROOT);
	put_bytes(big, 0, 3 * MIB, 4);
	snap_dir("b", dir);
	put_bytes(big, 0, 2 * MIB, 5);
	run_scrub();
	nr = st.nr_blocks;
	blk[0] = blk_at(msnap_live(big), 3 * MIB);
	blk[1] = blk_at(in_snap(snap, big), 2 * MIB + 4 * BLK);
	blk[2] = blk_at(msnap_live(file), 9 * BLK);
	flip(blk[0], 0);
	flip(blk[1], 1);
	flip(blk[2], 2);
	begin(true);
	found.nr = 0;
	while (step()) {
		unsigned had = found.nr;

		ok(msnap_scrub_save(scrub, false));
		finish();
		pool_reopen(0);
		begin(false);
		found.nr = had;
		steps++;
	}
	finish();
	must(steps > 8);
	/* Without the marks some is read twice, and damage there found twice. */
	must(st.nr_blocks >= nr);
	must(found.nr >= 3);
	must(is_damage(0, "", "/dir/sub/file", 9 * BLK, blk[2]));
	must(is_damage(1, "", "/big", 3 * MIB, blk[0]));
	for (steps = 0; steps < found.nr; steps++)
		if (found.d[steps].blk == blk[1])
			break;
	must(steps < found.nr && !strcmp(found.d[steps].snap, "a"));
	pool_gone();
}
END_TEST

/* ---- checksums that are missing --------------------------------------------------------- */

/* As data that came by sharing are: take the checksums away. */
static int forget_csums(uint64_t ino, unsigned nr)
{
	struct msnap_inode in;
	struct msnap_tree tree;
	struct msnap_cursor cur;
	struct msnap_ext ext;
	uint64_t fb;
	int err = msnap_inode_get(pool, &pool->ns, ino, &in);

	tree = msnap_ext_tree(ino, &in);
	for (fb = 0; !err && fb < nr; fb = msnap_ext_end(&ext)) {
		err = msnap_ext_seek(pool, &tree, fb, &cur);
		if (err)
			break;
		msnap_ext_load(&cur, &ext, true);
		ext.flags = MSNAP_EXT_NOCSUM;
		err = msnap_ext_replace(pool, &tree, &ext);
	}
	in.ext = msnap_ptr_store(tree.root);
	return err ? err : msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_OLD);
}

START_TEST(missing_checksums_are_made)
{
	uint64_t blk;

	make_world();
	put_bytes(big, 0, MIB, 9);
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	ok(msnap_op_end(pool, forget_csums(big, 256)));
	snap_dir("s", ROOT);
	put_bytes(big, 0, BLK, 10);
	run_scrub();
	must(st.nr_damaged == 0);
	/* The first block is in the snapshot only: it is counted. */
	must(st.nr_filled == 255);
	must(st.nr_unchecked == 1);
	run_scrub();
	must(st.nr_filled == 0);
	must(st.nr_unchecked == 1);
	blk = blk_at(msnap_live(big), 200 * BLK);
	flip(blk, 8);
	run_scrub();
	must(found.nr == 1 && is_damage(0, "", "/big", 200 * BLK, blk));
	flip(blk, 8);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- while the pool is in use -------------------------------------------------------------- */

static void ignore_change(void *arg, uint64_t ino, const char *name, size_t len)
{
	(void)arg;
	(void)ino;
	(void)name;
	(void)len;
}

static void random_change(void)
{
	static unsigned i;
	struct msnap_owner root = { 0, 0 };
	struct msnap_attr attr, gone;
	char name[16];
	uint64_t snap, ino;

	i++;
	snprintf(name, sizeof(name), "f%u", (unsigned)rnd(300));
	ino = find(msnap_live(dir), name);
	switch (rnd(9)) {
	case 0:
		if (ino)
			rm(dir, name);
		break;
	case 1:
		if (!ino)
			ino = mk_file(dir, name);
		put_bytes(ino, rnd(5) * BLK, 3 * BLK, i);
		break;
	case 2:
		snprintf(name, sizeof(name), "r%u", i);
		snap_dir(name, rnd(2) ? ROOT : dir);
		break;
	case 3: {
		struct msnap_snap_info info;

		if (!msnap_snap_next(pool, 0, &info))
			ok(msnap_snap_delete(pool, info.id));
		break;
	}
	case 4:
		snprintf(name, sizeof(name), "c%u", i);
		ok(msnap_clone(pool, msnap_live(big), ROOT, name, strlen(name), root,
			       0, &attr, &gone));
		put_bytes(attr.ino, rnd(1000) * BLK, BLK, i);
		break;
	case 5:
		set_size(big, rnd(1200) * BLK);
		break;
	case 6: {
		struct msnap_snap_info info;

		snap = 0;
		if (!msnap_snap_next(pool, rnd(i + 1), &info))
			snap = info.id;
		if (snap)
			ok(msnap_rollback(pool, snap, dir, NULL, 0,
					  ignore_change, NULL));
		break;
	}
	default:
		put_bytes(big, rnd(1200) * BLK, (1 + rnd(20)) * BLK, i);
	}
	if (rnd(3) == 0)
		ok(msnap_commit(pool));
	if (rnd(3) == 0)
		ok(msnap_pool_settle(pool));
}

START_TEST(no_change_is_damage)
{
	struct msnap_snap_info info;
	unsigned i;

	rnd_seed(_i);
	make_world();
	put_bytes(big, 0, 6 * MIB, 1);
	for (i = 0; i < 12; i++)
		random_change();
	begin(true);
	for (i = 12; step() && i < 2000; i++) {
		unsigned n = rnd(4);

		while (n--)
			random_change();
		if (i == 20) {
			ok(msnap_scrub_save(scrub, false));
			finish();
			pool_reopen(0);
			begin(false);
		}
		/* The pool is small. */
		while (i % 10 == 0 && !msnap_snap_next(pool, 0, &info))
			ok(msnap_snap_delete(pool, info.id));
	}
	must(i < 2000);
	finish();
	must(found.nr == 0);
	must(st.nr_damaged == 0);
	must(!pool->read_only);
	pool_settled_ok();
	everything_once();
	pool_gone();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("scrub");
	TCase *tc = tcase_create("scrub");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, each_block_is_read_once);
	tcase_add_test(tc, an_empty_pool_and_one_that_is_read_only);
	tcase_add_test(tc, damaged_data_are_named);
	tcase_add_test(tc, names_of_all_sorts);
	tcase_add_test(tc, a_damaged_extent_node);
	tcase_add_test(tc, a_damaged_namespace_node);
	tcase_add_test(tc, a_damaged_root_node);
	tcase_add_test(tc, much_damage_is_counted);
	tcase_add_test(tc, it_goes_on_after_a_mount);
	tcase_add_test(tc, it_goes_on_after_every_step);
	tcase_add_test(tc, missing_checksums_are_made);
	tcase_add_loop_test(tc, no_change_is_damage, 0, 25);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
