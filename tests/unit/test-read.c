/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of reading: pieces, holes, maps of files, and damage that must be found. */
#include "util.h"

#include <unistd.h>

static uint8_t buf[4 << 20];

static uint64_t sparse_file(unsigned nr, unsigned step)
{
	uint64_t ino = mk_file(ROOT, "sparse");
	unsigned i;

	for (i = 0; i < nr; i++)
		put_bytes(ino, (uint64_t)i * step * BLK, BLK, 1);
	return ino;
}

/* ---- pieces ---------------------------------------------------------------------------- */

static size_t sum_of(const struct msnap_read *r)
{
	size_t sum = 0;
	unsigned i;

	for (i = 0; i < r->nr; i++)
		sum += r->iov[i].iov_len;
	return sum;
}

START_TEST(many_pieces)
{
	struct msnap_read r;
	uint64_t ino, off, size;

	pool_make(16);
	ino = sparse_file(1000, 2);
	size = size_of(ino);
	for (off = 0; off < size; off += r.len) {
		ok(msnap_read_begin(pool, msnap_live(ino), off, size - off, &r));
		must(r.len > 0 && r.nr <= MSNAP_READ_IOV && sum_of(&r) == r.len);
		msnap_read_end(pool, &r);
	}
	must(off == size);
	must(ok(msnap_pread(pool, msnap_live(ino), buf, sizeof(buf), 0)) ==
	     (long)sizeof(buf));
	pool_reopen(0);
	for (off = 0; off < size; off += r.len) {
		ok(msnap_read_begin(pool, msnap_live(ino), off, size - off, &r));
		must(r.len > 0 && sum_of(&r) == r.len);
		msnap_read_end(pool, &r);
	}
	pool_gone();
}
END_TEST

START_TEST(one_piece_where_the_pool_has_one)
{
	struct msnap_read r;
	uint64_t ino;

	pool_make(16);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 2 << 20, 1);
	ok(msnap_read_begin(pool, msnap_live(ino), 100, 1 << 20, &r));
	must(r.nr == 1 && r.len == 1 << 20);
	msnap_read_end(pool, &r);
	pool_reopen(0); /* verifying comes in portions */
	ok(msnap_read_begin(pool, msnap_live(ino), 0, 1 << 20, &r));
	must(r.nr == 1 && r.len == 1 << 20);
	msnap_read_end(pool, &r);
	pool_gone();
}
END_TEST

START_TEST(around_the_end)
{
	struct msnap_read r;
	uint64_t ino;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 5000, 1);
	must(ok(msnap_pread(pool, msnap_live(ino), buf, 100, 4950)) == 50);
	must(ok(msnap_pread(pool, msnap_live(ino), buf, 100, 5000)) == 0);
	must(ok(msnap_pread(pool, msnap_live(ino), buf, 100, 1ull << 62)) == 0);
	must(ok(msnap_pread(pool, msnap_live(ino), buf, 100, UINT64_MAX)) == 0);
	must(ok(msnap_pread(pool, msnap_live(ino), buf, 0, 0)) == 0);
	ok(msnap_read_begin(pool, msnap_live(ino), 6000, 100, &r));
	must(r.len == 0 && r.nr == 0);
	msnap_read_end(pool, &r);
	set_size(ino, 1ull << 40);
	must(ok(msnap_pread(pool, msnap_live(ino), buf, sizeof(buf), 1ull << 39)) ==
	     (long)sizeof(buf));
	must(has_zeros(msnap_live(ino), 5000, 1 << 20));
	pool_gone();
}
END_TEST

START_TEST(not_a_file)
{
	uint64_t dir, sym, at;

	pool_make(8);
	dir = mk_dir(ROOT, "d");
	sym = mk_symlink(ROOT, "s", "to");
	fails(-EISDIR, msnap_pread(pool, msnap_live(dir), buf, 10, 0));
	fails(-EINVAL, msnap_pread(pool, msnap_live(sym), buf, 10, 0));
	fails(-ENOENT, msnap_pread(pool, msnap_live(999), buf, 10, 0));
	fails(-ENOENT, msnap_pread(pool, in_snap(5, ROOT), buf, 10, 0));
	fails(-EINVAL, msnap_seek(pool, msnap_live(dir), 0, SEEK_DATA, &at));
	fails(-EINVAL, msnap_seek(pool, msnap_live(dir), 0, SEEK_SET, &at));
	fails(-ENOENT, msnap_seek(pool, msnap_live(99), 0, SEEK_DATA, &at));
	pool_gone();
}
END_TEST

/* ---- seeking ------------------------------------------------------------------------------ */

static uint64_t seek(uint64_t ino, uint64_t off, int whence)
{
	uint64_t at = 0;
	int err = msnap_seek(pool, msnap_live(ino), off, whence, &at);

	if (err == -ENXIO)
		return UINT64_MAX;
	ok(err);
	return at;
}

START_TEST(holes_and_data)
{
	uint64_t ino;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	must(seek(ino, 0, SEEK_DATA) == UINT64_MAX);
	must(seek(ino, 0, SEEK_HOLE) == UINT64_MAX);
	set_size(ino, 100 * BLK + 10);
	must(seek(ino, 0, SEEK_DATA) == UINT64_MAX);
	must(seek(ino, 5, SEEK_HOLE) == 5);
	put_bytes(ino, 10 * BLK + 5, 10, 1);
	put_bytes(ino, 11 * BLK, 2 * BLK, 1);
	put_bytes(ino, 100 * BLK, 10, 1);
	must(seek(ino, 0, SEEK_DATA) == 10 * BLK);
	must(seek(ino, 10 * BLK + 7, SEEK_DATA) == 10 * BLK + 7);
	must(seek(ino, 10 * BLK + 7, SEEK_HOLE) == 13 * BLK);
	must(seek(ino, 13 * BLK - 1, SEEK_HOLE) == 13 * BLK);
	must(seek(ino, 13 * BLK, SEEK_HOLE) == 13 * BLK);
	must(seek(ino, 13 * BLK, SEEK_DATA) == 100 * BLK);
	must(seek(ino, 100 * BLK, SEEK_HOLE) == 100 * BLK + 10);
	must(seek(ino, 100 * BLK + 10, SEEK_DATA) == UINT64_MAX);
	/* Allocated is a hole. */
	ok(msnap_fallocate(pool, ino, 0, 13 * BLK, 2 * BLK));
	ok(msnap_fallocate(pool, ino, 0, 5 * BLK, 5 * BLK));
	must(seek(ino, 0, SEEK_DATA) == 10 * BLK);
	must(seek(ino, 10 * BLK, SEEK_HOLE) == 13 * BLK);
	must(seek(ino, 13 * BLK, SEEK_DATA) == 100 * BLK);
	pool_gone();
}
END_TEST

/* ---- maps ----------------------------------------------------------------------------------- */

static struct msnap_piece piece[100];
static unsigned nr_pieces, stop_at;

static int note_piece(void *arg, const struct msnap_piece *p)
{
	(void)arg;
	if (nr_pieces < 100)
		piece[nr_pieces] = *p;
	return ++nr_pieces == stop_at;
}

static void map(uint64_t ino, uint64_t off)
{
	nr_pieces = 0;
	ok(msnap_map(pool, msnap_live(ino), off, note_piece, NULL));
}

START_TEST(a_map)
{
	uint64_t ino;

	pool_make(16);
	ino = mk_file(ROOT, "f");
	map(ino, 0);
	must(nr_pieces == 0);
	put_bytes(ino, 0, 200 * BLK, 1);
	map(ino, 0);
	must(nr_pieces == 1 && piece[0].off == 0 && piece[0].len == 200 * BLK);
	must(piece[0].count == 1 && piece[0].flags == 0);
	must(has_bytes(msnap_live(ino), 0, BLK, 1));
	ok(msnap_fallocate(pool, ino, 0, 300 * BLK, 10 * BLK));
	map(ino, 0);
	must(nr_pieces == 2 && piece[1].off == 300 * BLK);
	must(piece[1].flags == MSNAP_EXT_UNWRITTEN);
	map(ino, 250 * BLK);
	must(nr_pieces == 1 && piece[0].off == 300 * BLK);
	must(msnap_copy_range(pool, msnap_live(ino), 50 * BLK,
			      mk_file(ROOT, "g"), 0, 64 * BLK) > 0);
	map(ino, 0);
	must(nr_pieces >= 3);
	stop_at = 1;
	map(ino, 0);
	must(nr_pieces == 1);
	pool_gone();
}
END_TEST

START_TEST(a_map_of_many)
{
	uint64_t ino;

	pool_make(16);
	ino = sparse_file(1000, 3);
	map(ino, 0);
	must(nr_pieces == 1000);
	map(ino, 3 * 999 * BLK + 5);
	must(nr_pieces == 1);
	pool_gone();
}
END_TEST

/* ---- damage ----------------------------------------------------------------------------------- */

/* The block of the pool that has byte @off of the file. */
static uint64_t blk_of(uint64_t ino, uint64_t off)
{
	nr_pieces = stop_at = 0;
	map(ino, off);
	must(nr_pieces && piece[0].off <= off);
	return piece[0].blk + (off - piece[0].off) / BLK;
}

static void damage(uint64_t blk, unsigned byte)
{
	msnap_sim_media(mem)[blk * BLK + byte] ^= 0x20;
}

START_TEST(damaged_data)
{
	uint64_t ino, blk, snap;
	char says[32];

	pool_make(16);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 100 * BLK, 1);
	snap = snap_dir("s", ROOT);
	blk = blk_of(ino, 50 * BLK);
	ok(msnap_pool_close(pool));
	damage(blk, 77);
	msnap_sim_crash(mem);
	pool_open(0);
	must(has_bytes(msnap_live(ino), 0, 50 * BLK, 1));
	fails(-EIO, msnap_pread(pool, msnap_live(ino), buf, 10, 50 * BLK + 4000));
	sprintf(says, "offset %u", 50 * (unsigned)BLK);
	must(strstr(log_last, says));
	sprintf(says, "inode %u", (unsigned)ino);
	must(strstr(log_last, says));
	fails(-EIO, msnap_pread(pool, in_snap(snap, ino), buf, BLK, 50 * BLK));
	/* What is before it can be had; never a wrong byte. */
	must(msnap_pread(pool, msnap_live(ino), buf, 60 * BLK, 0) <= 50 * (long)BLK);
	must(has_bytes(msnap_live(ino), 51 * BLK, 49 * BLK, 1));
	must(!pool->read_only);
	must(pool_errors() == 1);
	/* Part of it cannot be changed, all of it can. */
	fails(-EIO, msnap_pwrite(pool, ino, buf, 10, 50 * BLK + 5, false));
	put_bytes(ino, 50 * BLK, BLK, 2);
	must(has_bytes(msnap_live(ino), 50 * BLK, BLK, 2));
	must(pool_errors() == 1); /* the snapshot's */
	ok(msnap_snap_delete(pool, snap));
	pool_settled_ok();
	pool_gone();
}
END_TEST

/* The right data in the wrong place. */
START_TEST(misplaced_data)
{
	uint64_t ino, a, b;
	uint8_t *media;

	pool_make(16);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 10 * BLK, 1);
	memset(buf, 7, 2 * BLK);
	ok(msnap_pwrite(pool, ino, buf, 2 * BLK, 20 * BLK, false));
	a = blk_of(ino, 2 * BLK);
	b = blk_of(ino, 20 * BLK);
	ok(msnap_pool_close(pool));
	media = msnap_sim_media(mem);
	memcpy(media + a * BLK, media + b * BLK, BLK);
	msnap_sim_crash(mem);
	pool_open(0);
	fails(-EIO, msnap_pread(pool, msnap_live(ino), buf, 10, 2 * BLK));
	must(ok(msnap_pread(pool, msnap_live(ino), buf, 10, 20 * BLK)) == 10);
	pool_gone();
}
END_TEST

START_TEST(damage_met_while_changing)
{
	uint64_t ino, to, blk, view;

	pool_make(16);
	ino = mk_file(ROOT, "f");
	to = mk_file(ROOT, "to");
	put_bytes(ino, 0, 10 * BLK, 1);
	blk = blk_of(ino, 3 * BLK);
	ok(msnap_pool_close(pool));
	damage(blk, 4095);
	msnap_sim_crash(mem);
	pool_open(0);
	view = pool_view();
	fails(-EIO, msnap_setattr(pool, ino,
				  &(struct msnap_attr){ .size = 3 * BLK + 9 },
				  MSNAP_SET_SIZE, &(struct msnap_attr){ 0 }));
	fails(-EIO, msnap_fallocate(pool, ino,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    3 * BLK + 5, 10));
	fails(-EIO, msnap_copy_range(pool, msnap_live(ino), 3 * BLK + 1, to, 0,
				     10));
	must(pool_view() == view);
	must(!pool->read_only);
	/* Sharing needs no look at the data. */
	must(msnap_copy_range(pool, msnap_live(ino), 0, to, 0, 10 * BLK) > 0);
	fails(-EIO, msnap_pread(pool, msnap_live(to), buf, 10, 3 * BLK));
	rm(ROOT, "f");
	rm(ROOT, "to");
	pool_settled_ok();
	pool_gone();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		many_pieces, one_piece_where_the_pool_has_one, around_the_end,
		not_a_file, holes_and_data, a_map, a_map_of_many, damaged_data,
		misplaced_data, damage_met_while_changing, NULL
	};

	return run_tests("read", tests);
}
