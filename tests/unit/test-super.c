/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the superblock, its backup, and the ring of root records. */
#include "util.h"

#include "cow/commit.h"
#include "cow/csum.h"

static struct msnap_super super;
static struct msnap_root root;
static struct msnap_why why;

static struct msnap_super *super_at(uint64_t blk)
{
	return (void *)(mem->base + blk * BLK);
}

static struct msnap_super *first(void)
{
	return super_at(0);
}

static struct msnap_super *backup(void)
{
	return super_at(mem->size / BLK - 1);
}

static struct msnap_root *slot(unsigned i)
{
	return (void *)(mem->base + (1 + i) * BLK);
}

static void seal(struct msnap_super *s)
{
	s->csum = put64(msnap_csum_meta(s, 0));
}

static int read_super(void)
{
	memset(&why, 0, sizeof(why));
	return msnap_super_read(mem, "test", &super, &why);
}

static void start(void)
{
	pool_make(4);
	msnap_pool_abandon(pool);
}

static void finish(void)
{
	pool_open(MSNAP_OPEN_RDONLY);
	pool_gone();
}

START_TEST(format_and_read)
{
	start();
	ok(read_super());
	must(!strcmp(super.label, "label"));
	must(get64(super.nr_blocks) == 1024);
	must(!memcmp(first(), backup(), BLK));
	must(msnap_super_present((void *)first()));
	must(!msnap_super_present((void *)slot(0)));
	finish();
}
END_TEST

START_TEST(format_wipes_the_ring)
{
	unsigned i;

	pool_make(4);
	for (i = 0; i < 40; i++) {
		set_size(mk_tmpfile(), 1);
		ok(msnap_commit(pool));
	}
	msnap_pool_abandon(pool);
	ok(msnap_pool_format_mem(mem, "test", NULL, &why));
	ok(read_super());
	ok(msnap_root_read(mem, super.uuid, 0, &root));
	must(get64(root.gen) == 1 && !get64(root.ns.blk));
	fails(-EUCLEAN, msnap_root_read(mem, super.uuid, 1, &root));
	must(super.label[0] == 0);
	finish();
}
END_TEST

START_TEST(labels_and_sizes)
{
	char label[80];

	start();
	memset(label, 'l', sizeof(label));
	label[64] = 0;
	fails(-EINVAL, msnap_pool_format_mem(mem, "test", label, &why));
	label[63] = 0;
	ok(msnap_pool_format_mem(mem, "test", label, &why));
	ok(read_super());
	must(!strcmp(super.label, label));
	mem->size = 4 * MIB - BLK;
	fails(-EINVAL, msnap_pool_format_mem(mem, "test", NULL, &why));
	must(why.text[0]);
	mem->size = 4 * MIB;
	finish();
}
END_TEST

/* Any byte of the first superblock may be bad: the backup serves. */
START_TEST(the_backup_serves)
{
	unsigned i;

	start();
	for (i = 0; i < BLK; i += i < 200 ? 1 : 97) {
		((uint8_t *)first())[i] ^= 0x10;
		ok(read_super());
		must(get64(super.nr_blocks) == 1024);
		((uint8_t *)first())[i] ^= 0x10;
	}
	memset(first(), 0, BLK);
	finish();
}
END_TEST

START_TEST(both_are_bad)
{
	start();
	first()->label[0] ^= 1;
	backup()->label[0] ^= 1;
	fails(-EUCLEAN, read_super());
	must(why.text[0]);
	memset(first(), 0, BLK);
	fails(-EMEDIUMTYPE, read_super());
	must(why.text[0]);
	must(pool_try_open(0) == -EMEDIUMTYPE);
}
END_TEST

START_TEST(not_a_pool)
{
	start();
	memset(mem->base, 0, mem->size);
	fails(-EMEDIUMTYPE, read_super());
	memset(mem->base, 0xff, mem->size);
	fails(-EMEDIUMTYPE, read_super());
}
END_TEST

static void features(uint64_t compat, uint64_t ro_compat, uint64_t incompat)
{
	first()->compat = put64(compat);
	first()->ro_compat = put64(ro_compat);
	first()->incompat = put64(incompat);
	seal(first());
}

START_TEST(unknown_features)
{
	start();
	features(1ull << 63, 0, 0);
	ok(read_super());
	features(0, 4, 0);
	fails(-ENOTSUP, read_super());
	must(why.text[0]);
	mem->read_only = true;
	ok(read_super());
	features(0, 0, 1);
	fails(-ENOTSUP, read_super());
	mem->read_only = false;
	fails(-ENOTSUP, read_super());
	features(0, 0, 0);
	first()->version = put32(2);
	seal(first());
	fails(-ENOTSUP, read_super());
	first()->version = put32(1);
	seal(first());
	finish();
}
END_TEST

START_TEST(geometry)
{
	start();
	first()->nr_blocks = put64(1025);
	seal(first());
	fails(-EUCLEAN, read_super());
	must(strstr(why.text, "truncated"));
	first()->nr_blocks = put64(1000);
	seal(first());
	fails(-EUCLEAN, read_super());
	first()->nr_blocks = put64(1ull << 60);
	seal(first());
	fails(-EUCLEAN, read_super());
	first()->nr_blocks = put64(1024);
	first()->block_size = put32(8192);
	seal(first());
	fails(-EUCLEAN, read_super());
	first()->block_size = put32(4096);
	memset(first()->label, 'x', 64);
	seal(first());
	ok(read_super()); /* the backup's */
	must(!strcmp(super.label, "label"));
	finish();
}
END_TEST

/* ---- the ring ---------------------------------------------------------------------------- */

static uint64_t newest(unsigned nth)
{
	int err = msnap_root_read(mem, super.uuid, nth, &root);

	if (err) {
		must(err == -EUCLEAN);
		return 0;
	}
	return get64(root.gen);
}

static void write_root(uint64_t gen)
{
	memset(&root, 0, sizeof(root));
	root.magic = put64(MSNAP_ROOT_MAGIC);
	root.gen = put64(gen);
	memcpy(root.uuid, super.uuid, 16);
	root.next_ino = put64(gen + 100);
	root.next_snap = put64(1);
	ok(msnap_root_write(mem, &root));
}

START_TEST(the_newest_of_the_ring)
{
	uint64_t gen, nth;

	start();
	ok(read_super());
	for (gen = 2; gen < 60; gen++) {
		write_root(gen);
		for (nth = 0; nth < 16 && nth < gen; nth++)
			must(newest(nth) == gen - nth);
		must(newest(nth) == 0);
		must(newest(0) == gen && get64(root.next_ino) == gen + 100);
	}
}
END_TEST

START_TEST(a_bad_root_is_none)
{
	uint64_t gen;
	unsigned i;

	start();
	ok(read_super());
	for (gen = 2; gen < 33; gen++)
		write_root(gen);
	for (i = 0; i < BLK; i += i < 150 ? 1 : 131) {
		((uint8_t *)slot(32 % 16))[i] ^= 0x40;
		must(newest(0) == 31);
		must(newest(1) == 30);
		((uint8_t *)slot(32 % 16))[i] ^= 0x40;
	}
	/* A good record in the wrong place, and one of another pool. */
	*slot(3) = *slot(0);
	must(newest(0) == 32);
	write_root(33);
	slot(1)->uuid[3] ^= 1;
	slot(1)->csum = put64(msnap_csum_meta(slot(1), 0));
	must(newest(0) == 32);
	for (i = 0; i < 16; i++)
		slot(i)->magic = put64(0);
	must(newest(0) == 0);
	must(pool_try_open(0) == -EUCLEAN);
}
END_TEST

/* The media have the root when the call returns, and not before its end. */
START_TEST(a_root_is_durable)
{
	start();
	ok(read_super());
	write_root(9);
	memset(mem->base, 0, mem->size);
	msnap_sim_crash(mem);
	must(newest(0) == 9);
	msnap_sim_fail_drain(mem, 1);
	memset(&root, 0, sizeof(root));
	root.gen = put64(10);
	fails(-EIO, msnap_root_write(mem, &root));
	msnap_sim_crash(mem);
	must(newest(0) == 9);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		format_and_read, format_wipes_the_ring, labels_and_sizes,
		the_backup_serves, both_are_bad, not_a_pool, unknown_features,
		geometry, the_newest_of_the_ring, a_bad_root_is_none,
		a_root_is_durable, NULL
	};

	return run_tests("super", tests);
}
