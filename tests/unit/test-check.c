/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the checker, and of everything else, on damaged pools.
 *
 * Damage that the checksum shows must be named and make the pool read-only.
 * Damage behind a right checksum - what a malicious image has - may give any error
 * or nonsense, but no crash, no hang and no touch of memory that is not ours.
 */
#include "util.h"

#include <dirent.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cow/commit.h"
#include "cow/csum.h"
#include "cow/inode.h"

static uint64_t dir, sub, file, big, snap_all, snap_one;

/* ---- a small pool with something of everything ------------------------------------------- */

static void make_world(void)
{
	static uint8_t val[5000];
	char longest[2500], name[16];
	uint64_t gone;
	unsigned i;

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	fill_bytes(val, 0, sizeof(val), 1);
	pool_make(4);
	dir = mk_dir(ROOT, "d");
	file = mk_file(dir, "f");
	put_bytes(file, 0, 20000, 1);
	ok(msnap_xattr_set(pool, file, "user.x", val, sizeof(val), 0));
	ok(msnap_xattr_set(pool, file, "user.y", "abc", 3, 0));
	mk_link(file, ROOT, "link");
	mk_symlink(dir, "sym", longest);
	big = mk_file(ROOT, "big");
	for (i = 0; i < 100; i++)
		put_bytes(big, i * 2 * BLK, 100, i);
	ok(msnap_fallocate(pool, big, 0, 300 * BLK, 50 * BLK));
	sub = mk_dir(dir, "s");
	for (i = 0; i < 60; i++) {
		sprintf(name, "n%u", i);
		mk_file(sub, name);
	}
	snap_all = snap_dir("all", ROOT);
	snap_one = snap_file("one", dir, "f");
	put_bytes(file, 5000, 100, 2);
	put_bytes(big, 4 * BLK, 2 * BLK, 3);
	mk_file(ROOT, "o");
	unlink_only(ROOT, "o");
	rm(sub, "n5");
	gone = mk_file(ROOT, "gone");
	for (i = 0; i < 150; i++)
		put_bytes(gone, i * 2 * BLK, 10, i);
	rm(ROOT, "gone");
	ok(msnap_commit(pool));
}

/* ---- the checker finds what is wrong -------------------------------------------------------- */

static void change_inode(uint64_t ino, void (*fn)(struct msnap_inode *in))
{
	struct msnap_inode in;

	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	ok(msnap_inode_get(pool, &pool->ns, ino, &in));
	fn(&in);
	ok(msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_OLD));
	ok(msnap_op_end(pool, 0));
}

static void more_links(struct msnap_inode *in)
{
	in->nlink = put32(get32(in->nlink) + 1);
}

static void more_entries(struct msnap_inode *in)
{
	in->size = put64(get64(in->size) + 1);
}

static void more_blocks(struct msnap_inode *in)
{
	in->nr_blk = put64(get64(in->nr_blk) + 1);
}

static void other_parent(struct msnap_inode *in)
{
	in->parent = put64(1);
}

static void other_type(struct msnap_inode *in)
{
	in->mode = put32(S_IFIFO | 0644);
}

static void lost_inode(void)
{
	uint64_t ino = find(msnap_live(sub), "n7");

	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	ok(msnap_tree_take(pool, &pool->ns,
			   msnap_ns_key(ino, MSNAP_NS_INODE, 0)));
	ok(msnap_op_end(pool, 0));
}

static void extra_entry(void)
{
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	ok(msnap_dirent_add(pool, &pool->ns, sub, "ghost", 5, file, DT_REG));
	ok(msnap_op_end(pool, 0));
}

static void leaked_block(void)
{
	struct msnap_space_want want = { .use = MSNAP_SPACE_NODE, .nr = 1 };
	uint64_t blk;
	uint32_t nr;

	ok(msnap_space_alloc(pool->space, &want, &blk, &nr));
}

static void one_count_too_many(void)
{
	ok(msnap_space_get(pool->space, pool->ns.root.blk, 1));
}

static void one_count_too_few(void)
{
	ok(msnap_space_put(pool->space, pool->catalog.root.blk, 1, NULL, NULL));
}

static void wrong_nr_inodes(void)
{
	pool->nr_inodes++;
}

START_TEST(finds)
{
	static void (*const damage[])(void) = { lost_inode, extra_entry,
						leaked_block, one_count_too_many,
						one_count_too_few,
						wrong_nr_inodes };

	make_world();
	pool_ok();
	damage[_i]();
	must(pool_errors() > 0);
	pool_gone();
}
END_TEST

START_TEST(finds_bad_inodes)
{
	make_world();
	pool_ok();
	change_inode(file, more_links);
	must(pool_errors() == 1);
	change_inode(big, more_blocks);
	must(pool_errors() == 2);
	change_inode(sub, more_entries);
	must(pool_errors() == 3);
	change_inode(sub, other_parent);
	must(pool_errors() >= 4);
	change_inode(find(msnap_live(sub), "n9"), other_type);
	must(pool_errors() >= 5);
	pool_gone();
}
END_TEST

START_TEST(finds_bad_data)
{
	struct msnap_check_result res;
	struct msnap_read r;

	make_world();
	ok(msnap_read_begin(pool, msnap_live(file), 0, BLK, &r));
	((uint8_t *)r.iov[0].iov_base)[17] ^= 1;
	msnap_read_end(pool, &r);
	must(pool_errors() > 0);
	ok(msnap_check(pool, 0, NULL, NULL, &res));
	must(res.nr_errors == 0); /* data were not asked for */
	pool_gone();
}
END_TEST

/* ---- everything there is to call, whatever it answers ------------------------------------------ */

static uint8_t buf[300000];

static int use_entry(void *arg, const struct msnap_entry *e)
{
	uint64_t *nr = arg;
	size_t i;

	for (i = 0; i < e->len; i++)
		buf[0] ^= e->name[i];
	return ++*nr > 100000;
}

static int use_piece(void *arg, const struct msnap_piece *p)
{
	(void)p;
	return ++*(uint64_t *)arg > 100000;
}

static void read_inode(struct msnap_id id)
{
	struct msnap_attr attr;
	uint64_t at = 0, nr = 0;
	unsigned i;

	if (msnap_getattr(pool, id, &attr))
		memset(&attr, 0, sizeof(attr));
	msnap_pread(pool, id, buf, 70000, 0);
	msnap_pread(pool, id, buf, 70000, attr.size > 70000 ? attr.size - 70000 : 0);
	for (i = 0; i < 10; i++) {
		if (msnap_seek(pool, id, at, i % 2 ? SEEK_HOLE : SEEK_DATA, &at))
			break;
	}
	msnap_map(pool, id, 0, use_piece, &nr);
	nr = 0;
	msnap_readdir(pool, id, 0, use_entry, &nr);
	msnap_readlink(pool, id, (char *)buf, 4096);
	msnap_xattr_list(pool, id, (char *)buf, 70000);
	msnap_xattr_get(pool, id, "user.x", buf, 70000);
	msnap_xattr_get(pool, id, "user.y", buf, 2);
	msnap_lookup(pool, id, "f", 1, &attr);
	msnap_lookup(pool, id, "n33", 3, &attr);
}

static void read_all(void)
{
	struct msnap_snap_info info = { .id = 0 };
	uint64_t ino, snap = 0;

	for (ino = 1; ino < 100; ino++)
		read_inode(msnap_live(ino));
	while (!msnap_snap_next(pool, info.id, &info)) {
		snap = info.id;
		for (ino = 1; ino < 40; ino++)
			read_inode(in_snap(snap, ino));
		msnap_snap_holds(pool, snap, file);
	}
	msnap_snap_find(pool, sub, "all", &info);
}

static void change_files(void)
{
	struct msnap_attr attr = { .size = 9000 }, out;

	msnap_pwrite(pool, file, buf, 3000, 4000, false);
	msnap_pwrite(pool, file, buf, 3000, 5000, false);
	msnap_pwrite(pool, big, buf, 200000, 10 * BLK + 5, false);
	msnap_pwrite(pool, big, buf, 100000, 310 * BLK, false);
	msnap_fallocate(pool, big, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			20 * BLK, 40 * BLK);
	msnap_fallocate(pool, file, 0, 0, 40000);
	msnap_fallocate(pool, big, FALLOC_FL_ZERO_RANGE, 0, 100000);
	msnap_copy_range(pool, msnap_live(big), 0, file, 2 * BLK, 50 * BLK);
	msnap_copy_range(pool, in_snap(snap_all, big), 3, file, 70000, 10000);
	msnap_setattr(pool, big, &attr, MSNAP_SET_SIZE, &out);
	msnap_xattr_set(pool, file, "user.x", buf, 3000, XATTR_REPLACE);
	msnap_xattr_set(pool, file, "user.z", buf, 60000, 0);
	msnap_xattr_remove(pool, file, "user.y");
}

static void change_names(void)
{
	struct msnap_new what = { .mode = S_IFREG | 0644 };
	struct msnap_attr attr, gone;
	unsigned i;

	msnap_create(pool, sub, "new", 3, &what, &attr);
	what.mode = S_IFDIR;
	msnap_create(pool, dir, "newdir", 6, &what, &attr);
	msnap_link(pool, file, sub, "l2", 2, &attr);
	for (i = 0; i < 60; i += 3) {
		char name[16];

		sprintf(name, "n%u", i);
		if (!msnap_unlink(pool, sub, name, strlen(name), false, &gone))
			msnap_evict(pool, gone.ino);
	}
	msnap_rename(pool, dir, "f", 1, sub, "f2", 2, 0, &gone);
	msnap_rename(pool, ROOT, "big", 3, dir, "s", 1, MSNAP_RENAME_EXCHANGE,
		     &gone);
	msnap_rename(pool, ROOT, "link", 4, dir, "sym", 3, 0, &gone);
}

static void change_trees(void)
{
	static const struct msnap_owner same = { -1, -1 };
	struct msnap_attr attr, gone;
	uint64_t id;

	msnap_clone(pool, msnap_live(big), ROOT, "c1", 2, same, 0, &attr, &gone);
	msnap_clone(pool, msnap_live(dir), ROOT, "c2", 2, same, 0, &attr, &gone);
	msnap_clone(pool, in_snap(snap_all, dir), ROOT, "c3", 2, same, 0, &attr,
		    &gone);
	try_snap("new", dir, NULL, &id);
	try_snap("new2", ROOT, NULL, &id);
	msnap_rollback(pool, snap_one, dir, "f", 1, no_cache, NULL);
	msnap_rollback(pool, snap_all, dir, NULL, 0, no_cache, NULL);
	msnap_rollback(pool, snap_all, ROOT, NULL, 0, no_cache, NULL);
	msnap_snap_rename(pool, snap_one, "two");
	msnap_snap_delete(pool, snap_all);
	msnap_pool_settle(pool);
	msnap_commit(pool);
}

static void check_quietly(void)
{
	struct msnap_check_result res;

	msnap_check(pool, MSNAP_CHECK_DATA, NULL, NULL, &res);
}

/* Each part first in turn: damage that the first meets hides the rest. */
static void use_all(unsigned first)
{
	static void (*const use[])(void) = { read_all, change_files, change_names,
					     change_trees, check_quietly };
	unsigned i;

	for (i = 0; i < 5; i++)
		use[(first + i) % 5]();
}

/* ---- damage --------------------------------------------------------------------------------------- */

static uint8_t *image;
static uint64_t node[1024];
static unsigned nr_nodes;

static struct msnap_node *node_in(uint8_t *in, unsigned i)
{
	return (void *)(in + node[i] * BLK);
}

/* Blocks of the image that are nodes and are reached; leaves of every type. */
static void find_nodes(void)
{
	uint64_t blk;

	image = pool_image();
	for (blk = MSNAP_FIRST_BLK; blk < mem->size / BLK - 1; blk++) {
		const struct msnap_node *n = (void *)(image + blk * BLK);
		uint32_t count = msnap_space_count(pool->space, blk);

		if (count && count != MSNAP_COUNT_PENDING && nr_nodes < 1024 &&
		    !msnap_node_valid(pool, n, blk, true))
			node[nr_nodes++] = blk;
	}
	must(nr_nodes > 15);
}

static void seal(unsigned i)
{
	struct msnap_node *n = node_in(image, i);

	n->csum = put64(msnap_csum_meta(n, node[i]));
}

static void start(void)
{
	make_world();
	find_nodes();
	msnap_pool_abandon(pool);
}

/* A checksum that is not right: read-only at the first touch, an error, no more. */
START_TEST(damage_without_checksum)
{
	struct msnap_new what = { .mode = S_IFREG };
	struct msnap_check_result res;
	struct msnap_attr attr;
	unsigned i;

	start();
	for (i = 0; i < nr_nodes; i++) {
		uint8_t *byte = (uint8_t *)node_in(image, i) + 8 + rnd(BLK - 8);
		uint8_t was = *byte;
		int err;

		*byte ^= 1 << rnd(8);
		pool_from(image, MSNAP_OPEN_REBUILD);
		*byte = was;
		must(pool->read_only && log_lines); /* counting met it */
		err = msnap_create(pool, ROOT, "x", 1, &what, &attr);
		must(err == -EROFS || err == -EUCLEAN);
		ok(msnap_check(pool, 0, NULL, NULL, &res));
		must(res.nr_errors > 0);
		use_all(i);
		msnap_pool_abandon(pool);
	}
	pool_from(image, 0);
	pool_ok();
	free(image);
	pool_gone();
}
END_TEST

/* One byte or field, behind a right checksum. */
static void mutate(uint8_t *p, unsigned len)
{
	static const uint8_t special[] = { 0, 1, 0x7f, 0x80, 0xff };
	unsigned at = rnd(len);

	switch (rnd(5)) {
	case 0:
		p[at] = special[rnd(5)];
		break;
	case 1:
		p[at] += rnd(2) ? 1 : -1;
		break;
	case 2: {
		uint64_t v = rnd(2) ? rnd(3000) : rnd(2) ? UINT64_MAX - rnd(3) :
				      1ull << rnd(64);

		at &= ~7u;
		if (at + 8 <= len)
			memcpy(p + at, &v, 8);
		break;
	}
	case 3: {
		uint16_t v = rnd(2) ? rnd(4200) : rnd(65536);

		at &= ~1u;
		if (at + 2 <= len)
			memcpy(p + at, &v, 2);
		break;
	}
	default:
		p[at] ^= 1 << rnd(8);
	}
}

/* Part of a node: its header, a slot, a value. */
static void mutate_node(unsigned i)
{
	struct msnap_node *n = node_in(image, i);
	unsigned nr = msnap_node_nr(n), k = nr ? rnd(nr) : 0, len;
	uint8_t *val;

	switch (nr ? rnd(5) : 0) {
	case 0:
		mutate((uint8_t *)n + 8, MSNAP_NODE_HDR - 8);
		break;
	case 1:
		mutate(n->body + k * msnap_node_stride(n), msnap_node_stride(n));
		break;
	default:
		if (n->level) {
			mutate(n->body, nr * msnap_node_stride(n));
			break;
		}
		val = msnap_node_val(n, k, &len);
		if (len)
			mutate(val, len);
	}
	seal(i);
}

static void hostile(unsigned rounds, unsigned most)
{
	uint8_t *good = malloc(mem->size);
	unsigned round;

	memcpy(good, image, mem->size);
	for (round = 0; round < rounds; round++) {
		unsigned n = 1 + rnd(most);
		int err;

		while (n--) {
			/* What a mutation left may be no node any more. */
			unsigned i = rnd(nr_nodes);

			memcpy(node_in(image, i), good + node[i] * BLK, BLK);
			mutate_node(i);
		}
		memcpy(msnap_sim_media(mem), image, mem->size);
		msnap_sim_crash(mem);
		err = pool_try_open(rnd(2) ? MSNAP_OPEN_REBUILD : 0);
		if (!err) {
			use_all(rnd(5));
			if (rnd(2))
				msnap_pool_abandon(pool);
			else
				msnap_pool_close(pool);
		}
		memcpy(image, good, mem->size);
	}
	free(good);
}

START_TEST(hostile_nodes)
{
	rnd_seed(_i);
	start();
	hostile(60, _i % 2 ? 1 : 4);
	free(image);
}
END_TEST

/* The same pool, ended cleanly: the saved map and the root are hostile, too. */
START_TEST(hostile_roots_and_maps)
{
	uint64_t blk, nr_map = 0, map[64], round;
	uint8_t *good;
	struct msnap_root *root;

	rnd_seed(_i);
	make_world();
	pool_reopen(0);
	for (blk = 0; blk < pool->space_map.nr; blk++)
		map[nr_map++] = pool->space_map.run[blk].blk;
	blk = 1 + pool->durable_gen % MSNAP_RING_SLOTS;
	msnap_pool_abandon(pool);
	good = pool_image();
	must(nr_map);
	for (round = 0; round < 80; round++) {
		image = msnap_sim_media(mem);
		memcpy(image, good, mem->size);
		root = (void *)(image + blk * BLK);
		if (rnd(2)) {
			mutate((uint8_t *)root + 8, 120);
			root->csum = put64(msnap_csum_meta(root, 0));
		} else {
			uint64_t m = map[rnd(nr_map)];
			uint8_t *b = image + m * BLK;

			mutate(b + 8, rnd(2) ? 40 : 4088);
			*(msnap_le64 *)b = put64(msnap_csum_meta(b, m));
		}
		msnap_sim_crash(mem);
		if (!pool_try_open(0)) {
			use_all(rnd(5));
			msnap_pool_abandon(pool);
		}
	}
	free(good);
}
END_TEST

/* A directory that contains itself: an error, soon. */
START_TEST(directories_in_a_circle)
{
	static const struct msnap_owner same = { -1, -1 };
	struct msnap_attr attr, gone;
	uint64_t id;

	make_world();
	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	ok(msnap_dirent_add(pool, &pool->ns, sub, "up", 2, dir, DT_DIR));
	ok(msnap_op_end(pool, 0));
	must(pool_errors() > 0);
	must(msnap_clone(pool, msnap_live(dir), ROOT, "c", 1, same, 0, &attr,
			 &gone) < 0);
	pool->read_only = 0;
	try_snap("s", dir, NULL, &id);
	pool->read_only = 0;
	msnap_rollback(pool, snap_all, dir, NULL, 0, no_cache, NULL);
	pool_gone();
}
END_TEST

static void below_itself(struct msnap_inode *in)
{
	in->parent = put64(sub);
}

START_TEST(parents_in_a_circle)
{
	struct msnap_attr gone;

	make_world();
	change_inode(dir, below_itself);
	mk_dir(ROOT, "other");
	must(msnap_rename(pool, ROOT, "other", 5, sub, "x", 1, 0, &gone) < 0);
	pool_gone();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("check");
	TCase *tc = tcase_create("check");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, finds, 0, 6);
	tcase_add_test(tc, finds_bad_inodes);
	tcase_add_test(tc, finds_bad_data);
	tcase_add_test(tc, damage_without_checksum);
	tcase_add_loop_test(tc, hostile_nodes, 1, 13);
	tcase_add_loop_test(tc, hostile_roots_and_maps, 1, 5);
	tcase_add_test(tc, directories_in_a_circle);
	tcase_add_test(tc, parents_in_a_circle);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
