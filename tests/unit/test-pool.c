/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of pools as a whole: making, opening, closing, telling about them. */
#include "util.h"

#include <sys/file.h>
#include <unistd.h>

static struct msnap_why why;
static char path[64];

/* ---- in memory ------------------------------------------------------------------------ */

START_TEST(a_new_pool)
{
	struct msnap_pool_info info;
	struct msnap_attr attr;

	pool_make(16);
	ok(msnap_pool_info(pool, &info));
	must(!strcmp(info.path, "test") && !strcmp(info.label, "label"));
	must(info.size == 16 * MIB && info.nr_blocks == 4096);
	must(info.block_size == 4096 && !info.device && !info.read_only);
	must(info.nr_inodes == 1 && info.nr_snaps == 0);
	must(info.nr_free > 4000 && info.nr_free < 4096 - 17);
	must(info.nr_reserve >= 64 && info.nr_background == 0);
	must(!strcmp(info.granularity, "cache line"));
	attr = attr_of(msnap_live(ROOT));
	must(S_ISDIR(attr.mode) && attr.nlink == 2 && attr.size == 0);
	must(attr.parent == ROOT);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(what_info_counts)
{
	struct msnap_pool_info info, was;
	uint64_t ino, snap;

	pool_make(16);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 100 * BLK, 1);
	ok(msnap_commit(pool));
	ok(msnap_pool_info(pool, &was));
	snap = snap_dir("s", ROOT);
	ok(msnap_pool_info(pool, &info));
	must(info.nr_snaps == 1 && info.nr_inodes == 2);
	must(info.nr_shared >= 1 && info.generation > was.generation);
	must(info.nr_commits > was.nr_commits);
	put_bytes(ino, 0, 100 * BLK, 2);
	ok(msnap_pool_info(pool, &info));
	must(was.nr_free - info.nr_free >= 100);
	rm(ROOT, "f");
	ok(msnap_snap_delete(pool, snap));
	ok(msnap_pool_info(pool, &info));
	must(info.nr_snaps == 0 && info.nr_inodes == 1);
	ok(msnap_pool_settle(pool));
	ok(msnap_pool_info(pool, &info));
	must(info.nr_background == 0 && info.nr_shared == 0);
	must(info.nr_free > was.nr_free + 90);
	pool_gone();
}
END_TEST

START_TEST(clean_and_not)
{
	struct msnap_pool_info info;
	uint64_t ino, next;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	pool_reopen(0);
	ok(msnap_pool_info(pool, &info));
	must(info.was_clean);
	must(find(msnap_live(ROOT), "f") == ino);
	next = mk_file(ROOT, "g");
	must(next > ino);
	ok(msnap_commit(pool));
	pool_crash(0);
	ok(msnap_pool_info(pool, &info));
	must(!info.was_clean);
	must(mk_file(ROOT, "h") > next);
	pool_reopen(MSNAP_OPEN_REBUILD);
	pool_ok();
	pool_gone();
}
END_TEST

/* Opened and closed many times, nothing is lost but what is used. */
START_TEST(no_leak_from_open_to_open)
{
	struct msnap_pool_info info;
	uint64_t first = 0;
	unsigned i;

	pool_make(4);
	put_bytes(mk_file(ROOT, "f"), 0, 50000, 1);
	for (i = 0; i < 100; i++) {
		if (i % 3 == 2)
			pool_crash(0);
		else
			pool_reopen(0);
		ok(msnap_pool_info(pool, &info));
		if (i == 0)
			first = info.nr_free;
		must(info.nr_free + 1 >= first && info.nr_free <= first + 1);
		pool_ok();
	}
	pool_gone();
}
END_TEST

static bool on_media(const uint8_t *image)
{
	return !memcmp(image, msnap_sim_media(mem), mem->size) &&
	       !memcmp(image, mem->base, mem->size);
}

START_TEST(read_only)
{
	struct msnap_new what = { .mode = S_IFREG };
	struct msnap_attr attr = { 0 }, gone;
	uint8_t *image;
	uint64_t ino, snap, id;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 50000, 1);
	mk_file(ROOT, "o");
	unlink_only(ROOT, "o");
	snap = snap_dir("s", ROOT);
	msnap_pool_abandon(pool);
	image = pool_image();
	msnap_sim_crash(mem);
	pool_open(MSNAP_OPEN_RDONLY);
	fails(-EROFS, msnap_create(pool, ROOT, "x", 1, &what, &attr));
	fails(-EROFS, msnap_setattr(pool, ino, &attr, MSNAP_SET_MODE, &attr));
	fails(-EROFS, msnap_unlink(pool, ROOT, "f", 1, false, &gone));
	fails(-EROFS, msnap_pwrite(pool, ino, "x", 1, 0, false));
	fails(-EROFS, msnap_fallocate(pool, ino, 0, 0, 10));
	fails(-EROFS, msnap_xattr_set(pool, ino, "user.x", "x", 1, 0));
	fails(-EROFS, msnap_link(pool, ino, ROOT, "x", 1, &attr));
	fails(-EROFS, msnap_rename(pool, ROOT, "f", 1, ROOT, "x", 1, 0, &gone));
	fails(-EROFS, msnap_snap_delete(pool, snap));
	fails(-EROFS, msnap_snap_rename(pool, snap, "x"));
	fails(-EROFS, try_snap("t", ROOT, NULL, &id));
	fails(-EROFS, msnap_rollback(pool, snap, ROOT, NULL, 0, no_cache,
				   NULL));
	must(msnap_copy_range(pool, in_snap(snap, ino), 0, ino, 0, 100) < 0);
	ok(msnap_commit(pool));
	ok(msnap_pool_settle(pool));
	must(has_bytes(msnap_live(ino), 0, 50000, 1));
	pool_ok();
	ok(msnap_pool_close(pool));
	must(on_media(image));
	free(image);
	pool_open(0);
	pool_gone();
}
END_TEST

START_TEST(orphans_go_at_open)
{
	struct msnap_pool_info info;
	uint64_t ino, tmp, nr_free, i;

	pool_make(16);
	nr_free = pool_free_blks();
	ino = mk_file(ROOT, "f");
	for (i = 0; i < 300; i++)
		put_bytes(ino, i * 2 * BLK, 10, i);
	ok(msnap_xattr_set(pool, ino, "user.x", "x", 1, 0));
	unlink_only(ROOT, "f");
	tmp = mk_tmpfile();
	put_bytes(tmp, 0, 50000, 1);
	ok(msnap_commit(pool));
	must(has_bytes(msnap_live(tmp), 0, 50000, 1));
	pool_crash(0);
	ok(msnap_pool_info(pool, &info));
	must(info.nr_inodes == 1);
	fails(-ENOENT, msnap_getattr(pool, msnap_live(ino), &(struct msnap_attr){ 0 }));
	fails(-ENOENT, msnap_getattr(pool, msnap_live(tmp), &(struct msnap_attr){ 0 }));
	pool_settled_ok();
	must(pool_free_blks() == nr_free);
	pool_gone();
}
END_TEST

/* With its own thread: commits by itself, drops by itself. */
START_TEST(the_background)
{
	struct msnap_open_args args = { .commit_ms = 20 };
	struct msnap_pool_info info;
	uint64_t ino, i, gen;

	pool_make(32);
	ok(msnap_pool_close(pool));
	ok(msnap_pool_open_mem(mem, "test", &args, &pool, &why));
	ino = mk_file(ROOT, "f");
	gen = pool->durable_gen;
	for (i = 0; i < 500 && pool->durable_gen == gen; i++)
		usleep(10000);
	must(pool->durable_gen > gen);
	for (i = 0; i < 2000; i++)
		put_bytes(ino, i * 2 * BLK, 10, i);
	rm(ROOT, "f");
	ok(msnap_pool_settle(pool));
	ok(msnap_pool_info(pool, &info));
	must(info.nr_background == 0);
	ok(msnap_pool_close(pool));
	pool_open(0);
	pool_ok();
	must(pool->was_clean);
	pool_gone();
}
END_TEST

/* ---- in files ---------------------------------------------------------------------------- */

static void make_file(uint64_t size)
{
	int fd;

	strcpy(path, "/tmp/test-pool-XXXXXX");
	fd = mkstemp(path);
	must(fd >= 0);
	must(!ftruncate(fd, size));
	close(fd);
}

static void no_file(void)
{
	make_file(0);
	unlink(path);
}

static int create(uint64_t size, const char *label, bool force)
{
	struct msnap_create_args args = { .label = label, .size = size, .force = force };

	memset(&why, 0, sizeof(why));
	return msnap_pool_create(path, &args, &why);
}

static int open_file(unsigned flags)
{
	struct msnap_open_args args = { .flags = flags | MSNAP_OPEN_NO_BACKGROUND };

	memset(&why, 0, sizeof(why));
	return msnap_pool_open(path, &args, &pool, &why);
}

START_TEST(file_made_and_opened)
{
	struct msnap_pool_info info;
	struct stat st;
	uint64_t ino;

	no_file();
	ok(create(64 * MIB + 5, "mine", false));
	must(!stat(path, &st) && st.st_size == 64 * MIB);
	must((st.st_mode & 07777) == 0600);
	must(st.st_blocks * 512 < 16 * (long)MIB); /* sparse */
	ok(open_file(0));
	ok(msnap_pool_info(pool, &info));
	must(info.was_clean && !strcmp(info.label, "mine"));
	must(!strcmp(info.path, path) && info.size == 64 * MIB);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 3000000, 1);
	ok(msnap_pool_close(pool));
	ok(open_file(MSNAP_OPEN_RDONLY));
	must(has_bytes(msnap_live(ino), 0, 3000000, 1));
	pool_ok();
	ok(msnap_pool_close(pool));
	unlink(path);
}
END_TEST

START_TEST(file_refused)
{
	no_file();
	fails(-EINVAL, create(0, NULL, false));
	must(why.text[0]);
	fails(-EINVAL, create(4 * MIB - 1, NULL, false));
	fails(-EINVAL, create(1ull << 51, NULL, false));
	fails(-EINVAL, create(8 * MIB, "0123456789012345678901234567890123456789"
				       "012345678901234567890123", false));
	must(access(path, F_OK)); /* nothing was left */
	fails(-ENOENT, open_file(0));
	must(why.text[0]);
	make_file(5 * MIB);
	fails(-EMEDIUMTYPE, open_file(0));
	must(why.text[0]);
	unlink(path);
}
END_TEST

START_TEST(file_with_something_in_it)
{
	int fd;

	make_file(8 * MIB);
	ok(create(0, NULL, false)); /* zeros are nothing */
	fails(-EEXIST, create(0, NULL, false));
	must(why.text[0]);
	ok(open_file(0));
	mk_file(ROOT, "f");
	ok(msnap_pool_close(pool));
	ok(create(0, NULL, true));
	ok(open_file(0));
	must(!find(msnap_live(ROOT), "f"));
	ok(msnap_pool_close(pool));
	fd = open(path, O_WRONLY | O_TRUNC);
	must(!ftruncate(fd, 8 * MIB));
	must(pwrite(fd, "text", 4, 0) == 4);
	close(fd);
	fails(-EEXIST, create(0, NULL, false));
	unlink(path);
}
END_TEST

START_TEST(file_in_use)
{
	struct msnap_pool *first;

	no_file();
	ok(create(8 * MIB, NULL, false));
	ok(open_file(0));
	first = pool;
	fails(-EBUSY, open_file(0));
	must(why.text[0]);
	fails(-EBUSY, open_file(MSNAP_OPEN_RDONLY));
	fails(-EBUSY, create(0, NULL, true));
	must(why.text[0]);
	pool = first;
	mk_file(ROOT, "f");
	ok(msnap_pool_close(pool));
	ok(open_file(MSNAP_OPEN_RDONLY));
	first = pool;
	ok(open_file(MSNAP_OPEN_RDONLY)); /* readers share */
	must(find(msnap_live(ROOT), "f"));
	ok(msnap_pool_close(pool));
	ok(msnap_pool_close(first));
	unlink(path);
}
END_TEST

START_TEST(file_cut_short)
{
	no_file();
	ok(create(8 * MIB, NULL, false));
	must(!truncate(path, 6 * MIB));
	fails(-EUCLEAN, open_file(0));
	must(strstr(why.text, "truncated"));
	must(!truncate(path, 9 * MIB));
	ok(open_file(0)); /* longer is no harm */
	ok(msnap_pool_close(pool));
	unlink(path);
}
END_TEST

START_TEST(file_abandoned)
{
	uint64_t ino;

	no_file();
	ok(create(8 * MIB, NULL, false));
	ok(open_file(0));
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 100000, 1);
	ok(msnap_commit(pool));
	set_size(ino, 5);
	msnap_pool_abandon(pool);
	ok(open_file(0));
	must(!pool->was_clean);
	must(has_bytes(msnap_live(ino), 0, 100000, 1));
	pool_ok();
	ok(msnap_pool_close(pool));
	unlink(path);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_new_pool, what_info_counts, clean_and_not,
		no_leak_from_open_to_open, read_only, orphans_go_at_open,
		the_background, file_made_and_opened, file_refused,
		file_with_something_in_it, file_in_use, file_cut_short,
		file_abandoned, NULL
	};

	return run_tests("pool", tests);
}
