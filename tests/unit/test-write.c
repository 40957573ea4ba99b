/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of file contents: everything that changes them, by chance, against files
 * in RAM; and what chance would not find.
 */
#include "util.h"

#include <linux/falloc.h>
#include <unistd.h>

#include "cow/commit.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO FALLOC_FL_ZERO_RANGE
#define KEEP FALLOC_FL_KEEP_SIZE

/* ---- files in RAM ---------------------------------------------------------------------- */

#define MAX_SIZE (1200 * KIB)
#define NR_FILES 4

static struct {
	uint64_t ino;
	uint64_t size;
	uint8_t data[MAX_SIZE]; /* zeros behind size */
} model[NR_FILES], frozen[NR_FILES];
static uint64_t frozen_snap;
static uint8_t buf[2 * MAX_SIZE];

static uint64_t any_off(void)
{
	uint64_t off = rnd(MAX_SIZE);

	if (rnd(3) == 0)
		off = rnd(40000); /* often the same places */
	if (rnd(3) == 0)
		off &= ~(BLK - 1);
	return off;
}

static uint64_t any_len(uint64_t off)
{
	static const uint64_t most[] = { 10, 5000, 70000, 300000, MAX_SIZE };
	uint64_t len = 1 + rnd(most[rnd(5)]);

	if (rnd(3) == 0)
		len = (len + BLK - 1) & ~(BLK - 1);
	return off + len > MAX_SIZE ? MAX_SIZE - off : len;
}

static void do_write(unsigned i)
{
	uint64_t off = any_off(), len = any_len(off);
	bool keep = rnd(6) == 0;

	fill_bytes(buf, off, len, rnd(1000));
	ok(msnap_pwrite(pool, model[i].ino, buf, len, off, keep));
	if (keep) {
		if (off >= model[i].size)
			return;
		if (off + len > model[i].size)
			len = model[i].size - off;
	}
	memcpy(model[i].data + off, buf, len);
	if (off + len > model[i].size)
		model[i].size = off + len;
}

static void do_truncate(unsigned i)
{
	uint64_t size = any_off();

	set_size(model[i].ino, size);
	if (size < model[i].size)
		memset(model[i].data + size, 0, model[i].size - size);
	model[i].size = size;
}

static void do_fallocate(unsigned i)
{
	static const int modes[] = { 0, KEEP, PUNCH, PUNCH, ZERO, ZERO | KEEP };
	uint64_t off = any_off(), len = any_len(off);
	int mode = modes[rnd(6)];

	if (!len)
		return;
	ok(msnap_fallocate(pool, model[i].ino, mode, off, len));
	if (mode & (PUNCH | ZERO) & ~KEEP)
		memset(model[i].data + off, 0, len);
	if (!(mode & KEEP) && off + len > model[i].size)
		model[i].size = off + len;
}

static void do_copy(unsigned from, unsigned to)
{
	uint64_t src = any_off(), off = any_off(), len = any_len(off);
	long want, got;

	if (rnd(2)) /* to be shared */
		off = (off & ~(BLK - 1)) | src % BLK;
	if (off + len > MAX_SIZE)
		len = MAX_SIZE - off;
	if (rnd(8) == 0)
		src = off = 0, len = MAX_SIZE;
	want = src >= model[from].size ? 0 : model[from].size - src;
	if (want > (long)len)
		want = len;
	if (from == to && src < off + want && off < src + want && want) {
		fails(-EINVAL, msnap_copy_range(pool, msnap_live(model[from].ino),
						src, model[to].ino, off, len));
		return;
	}
	got = ok(msnap_copy_range(pool, msnap_live(model[from].ino), src,
				  model[to].ino, off, len));
	must(got == want);
	if (!want)
		return;
	memmove(model[to].data + off, model[from].data + src, want);
	if (off + want > model[to].size)
		model[to].size = off + want;
}

static void do_clear(unsigned i)
{
	char name[8];

	sprintf(name, "f%u", i);
	rm(ROOT, name);
	model[i].ino = mk_file(ROOT, name);
	model[i].size = 0;
	memset(model[i].data, 0, MAX_SIZE);
}

/* ---- comparing -------------------------------------------------------------------------- */

static void compare_part(struct msnap_id id, const uint8_t *data, uint64_t size,
			 uint64_t off, uint64_t len)
{
	uint64_t want = off >= size ? 0 : size - off < len ? size - off : len;

	must(ok(msnap_pread(pool, id, buf, len, off)) == (long)want);
	must(!memcmp(buf, data + off, want));
}

/* Holes read as zeros; whatever is not zero is data. */
static void compare_seek(struct msnap_id id, const uint8_t *data, uint64_t size,
			 uint64_t off)
{
	uint64_t at, end;
	int err = msnap_seek(pool, id, off, SEEK_DATA, &at);

	if (off >= size) {
		must(err == -ENXIO);
		fails(-ENXIO, msnap_seek(pool, id, off, SEEK_HOLE, &at));
		return;
	}
	if (err) {
		must(err == -ENXIO);
		at = size;
	}
	must(at >= off && at <= size);
	for (; off < at; off++)
		must(!data[off]);
	if (at == size)
		return;
	ok(msnap_seek(pool, id, at, SEEK_HOLE, &end));
	must(end > at && end <= size && (end == size || end % BLK == 0));
	for (at = end; at < size && at < end + BLK; at++)
		must(!data[at]);
}

static void compare(struct msnap_id id, const uint8_t *data, uint64_t size)
{
	unsigned i;

	must(attr_of(id).size == size);
	compare_part(id, data, size, 0, MAX_SIZE);
	for (i = 0; i < 5; i++) {
		uint64_t off = any_off();

		compare_part(id, data, size, off, rnd(MAX_SIZE - off + 1));
		compare_seek(id, data, size, off);
	}
	compare_part(id, data, size, size, 10);
	compare_part(id, data, size, size ? size - 1 : 0, 10);
}

static void compare_all(void)
{
	unsigned i;

	for (i = 0; i < NR_FILES; i++) {
		compare(msnap_live(model[i].ino), model[i].data, model[i].size);
		if (frozen_snap)
			compare(in_snap(frozen_snap, frozen[i].ino),
				frozen[i].data, frozen[i].size);
	}
}

static void freeze_or_not(void)
{
	if (frozen_snap) {
		ok(msnap_snap_delete(pool, frozen_snap));
		frozen_snap = 0;
		return;
	}
	frozen_snap = snap_dir("frozen", ROOT);
	memcpy(frozen, model, sizeof(frozen));
}

static void any_change(void)
{
	unsigned i = rnd(NR_FILES);

	switch (rnd(12)) {
	case 0:
		do_truncate(i);
		break;
	case 1:
	case 2:
		do_fallocate(i);
		break;
	case 3:
	case 4:
		do_copy(rnd(NR_FILES), i);
		break;
	case 5:
		if (rnd(6) == 0)
			do_clear(i);
		break;
	default:
		do_write(i);
	}
}

static void random_run(unsigned rounds)
{
	unsigned round;

	for (round = 0; round < rounds; round++) {
		any_change();
		if (rnd(10) == 0)
			ok(msnap_commit(pool));
		if (rnd(40) == 0)
			freeze_or_not();
		if (rnd(30) == 0)
			compare_all();
		if (rnd(100) == 0)
			pool_ok();
	}
	compare_all();
}

START_TEST(against_files_in_ram)
{
	uint64_t nr_free;
	unsigned i;

	rnd_seed(_i);
	pool_make_kind(64, _i % 2 ? MSNAP_SIM_LINES : MSNAP_SIM_PAGES);
	nr_free = pool_free_blks();
	for (i = 0; i < NR_FILES; i++) {
		char name[8];

		sprintf(name, "f%u", i);
		model[i].ino = mk_file(ROOT, name);
	}
	random_run(600);
	pool_settled_ok();
	pool_reopen(0);
	compare_all();
	random_run(200);
	ok(msnap_commit(pool));
	pool_crash(0);
	compare_all();
	pool_settled_ok();
	if (frozen_snap)
		freeze_or_not();
	for (i = 0; i < NR_FILES; i++) {
		char name[8];

		sprintf(name, "f%u", i);
		rm(ROOT, name);
	}
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- arguments ----------------------------------------------------------------------------- */

START_TEST(refused)
{
	uint64_t ino, dir, sym;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	dir = mk_dir(ROOT, "d");
	sym = mk_symlink(ROOT, "s", "to");
	fails(-EINVAL, msnap_pwrite(pool, ino, buf, 16 * MIB + 1, 0, false));
	fails(-EFBIG, msnap_pwrite(pool, ino, buf, 1, INT64_MAX, false));
	fails(-EFBIG, msnap_pwrite(pool, ino, buf, 2, INT64_MAX - 1, false));
	fails(-EFBIG, msnap_pwrite(pool, ino, buf, 1, UINT64_MAX, false));
	fails(-EISDIR, msnap_pwrite(pool, dir, buf, 1, 0, false));
	fails(-EINVAL, msnap_pwrite(pool, sym, buf, 1, 0, false));
	fails(-ENOENT, msnap_pwrite(pool, 9999, buf, 1, 0, false));
	fails(-EISDIR, msnap_pwrite(pool, dir, buf, 100000, 0, false));
	fails(-ENOENT, msnap_pwrite(pool, 9999, buf, 100000, 0, false));
	ok(msnap_pwrite(pool, ino, buf, 0, 100, false));
	must(size_of(ino) == 0);
	fails(-EOPNOTSUPP, msnap_fallocate(pool, ino, FALLOC_FL_COLLAPSE_RANGE, 0,
					   BLK));
	fails(-EOPNOTSUPP, msnap_fallocate(pool, ino, FALLOC_FL_PUNCH_HOLE, 0,
					   BLK));
	fails(-EOPNOTSUPP, msnap_fallocate(pool, ino, PUNCH | ZERO, 0, BLK));
	fails(-EINVAL, msnap_fallocate(pool, ino, 0, 0, 0));
	fails(-EFBIG, msnap_fallocate(pool, ino, 0, INT64_MAX, 1));
	fails(-EFBIG, msnap_fallocate(pool, ino, 0, 0, UINT64_MAX));
	fails(-EISDIR, msnap_fallocate(pool, dir, 0, 0, 1));
	fails(-ENOSPC, msnap_fallocate(pool, ino, 0, 0, INT64_MAX));
	must(size_of(ino) == 0);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(times_and_versions)
{
	struct msnap_attr a, b;
	uint64_t ino;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	a = attr_of(msnap_live(ino));
	usleep(20000);
	put_bytes(ino, 0, 10, 1);
	b = attr_of(msnap_live(ino));
	must(b.version > a.version);
	must(b.mtime.tv_nsec != a.mtime.tv_nsec && b.ctime.tv_nsec != a.ctime.tv_nsec);
	must(b.btime.tv_nsec == a.btime.tv_nsec && b.atime.tv_nsec == a.atime.tv_nsec);
	ok(msnap_fallocate(pool, ino, PUNCH, 0, 5));
	must(attr_of(msnap_live(ino)).version > b.version);
	pool_gone();
}
END_TEST

/* ---- the far end of a file -------------------------------------------------------------------- */

START_TEST(the_last_byte_of_the_largest_file)
{
	const uint64_t last = INT64_MAX - 1;
	uint64_t ino, at;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, last, 1, 1);
	must(size_of(ino) == INT64_MAX);
	must(has_bytes(msnap_live(ino), last, 1, 1));
	must(ok(msnap_pread(pool, msnap_live(ino), buf, 100, last)) == 1);
	ok(msnap_seek(pool, msnap_live(ino), 0, SEEK_DATA, &at));
	must(at == (last & ~(BLK - 1)));
	pool_ok();
	set_size(ino, 0);
	must(attr_of(msnap_live(ino)).nr_blk == 0);
	set_size(ino, INT64_MAX);
	must(has_zeros(msnap_live(ino), last, 1));
	put_bytes(ino, last - 10, 11, 2);
	ok(msnap_fallocate(pool, ino, PUNCH, last - BLK, BLK + 1));
	must(has_zeros(msnap_live(ino), last - 10, 11));
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(far_apart)
{
	static const uint64_t offs[] = { 1ull << 62, 1ull << 50, 1ull << 40,
					 1ull << 33, 1ull << 31, 123456789, 0 };
	uint64_t ino;
	unsigned i;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	for (i = 0; i < 7; i++)
		put_bytes(ino, offs[i], 5000, i);
	for (i = 0; i < 7; i++) {
		must(has_bytes(msnap_live(ino), offs[i], 5000, i));
		must(i == 0 || has_zeros(msnap_live(ino), offs[i] + 5000, 5000));
	}
	must(attr_of(msnap_live(ino)).nr_blk <= 15);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- behind the end ------------------------------------------------------------------------------ */

/* What a file had behind its end never comes back. */
START_TEST(no_old_bytes_behind_the_end)
{
	uint64_t ino;
	unsigned size;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	for (size = 1; size < 3 * BLK; size += 517) {
		put_bytes(ino, 0, 3 * BLK, size);
		if (size % 2)
			ok(msnap_commit(pool));
		set_size(ino, size);
		set_size(ino, 4 * BLK);
		must(has_bytes(msnap_live(ino), 0, size, size));
		must(has_zeros(msnap_live(ino), size, 4 * BLK - size));
		set_size(ino, size);
		put_bytes(ino, 3 * BLK + 100, 10, 1); /* leaves a gap */
		must(has_zeros(msnap_live(ino), size, 3 * BLK + 100 - size));
		set_size(ino, 0);
	}
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(keep_size)
{
	uint64_t ino;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 5000, 1);
	fill_bytes(buf, 4000, 4000, 2);
	ok(msnap_pwrite(pool, ino, buf, 4000, 4000, true));
	must(size_of(ino) == 5000);
	must(has_bytes(msnap_live(ino), 0, 4000, 1));
	must(has_bytes(msnap_live(ino), 4000, 1000, 2));
	ok(msnap_pwrite(pool, ino, buf, 4000, 5000, true));
	ok(msnap_pwrite(pool, ino, buf, 4000, 50000, true));
	must(size_of(ino) == 5000);
	fill_bytes(buf, 0, 300000, 3);
	ok(msnap_pwrite(pool, ino, buf, 300000, 0, true)); /* large */
	must(size_of(ino) == 5000);
	must(has_bytes(msnap_live(ino), 0, 5000, 3));
	set_size(ino, 300000);
	must(has_zeros(msnap_live(ino), 5000, 295000));
	fill_bytes(buf, 10000, 200000, 4);
	ok(msnap_pwrite(pool, ino, buf, 200000, 10000, true));
	must(has_bytes(msnap_live(ino), 10000, 200000, 4));
	must(attr_of(msnap_live(ino)).nr_blk <= 2 + 50 + 1);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- fallocate ------------------------------------------------------------------------------------ */

START_TEST(allocated_blocks_are_used)
{
	uint64_t ino, nr_blk, at;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	ok(msnap_fallocate(pool, ino, 0, 0, 100 * BLK));
	must(size_of(ino) == 100 * BLK);
	nr_blk = attr_of(msnap_live(ino)).nr_blk;
	must(nr_blk == 100);
	must(has_zeros(msnap_live(ino), 0, 100 * BLK));
	fails(-ENXIO, msnap_seek(pool, msnap_live(ino), 0, SEEK_DATA, &at));
	put_bytes(ino, 10 * BLK + 5, 3000, 1);
	put_bytes(ino, 40 * BLK - 7, 200000, 2);
	must(attr_of(msnap_live(ino)).nr_blk == nr_blk);
	must(has_zeros(msnap_live(ino), 0, 10 * BLK + 5));
	must(has_bytes(msnap_live(ino), 10 * BLK + 5, 3000, 1));
	must(has_zeros(msnap_live(ino), 10 * BLK + 3005, 29 * BLK));
	must(has_bytes(msnap_live(ino), 40 * BLK - 7, 200000, 2));
	ok(msnap_seek(pool, msnap_live(ino), 0, SEEK_DATA, &at));
	must(at == 10 * BLK);
	ok(msnap_seek(pool, msnap_live(ino), at, SEEK_HOLE, &at));
	must(at == 11 * BLK);
	pool_ok();
	pool_reopen(0);
	must(has_bytes(msnap_live(ino), 40 * BLK - 7, 200000, 2));
	pool_gone();
}
END_TEST

START_TEST(allocated_blocks_of_a_snapshot_stay_empty)
{
	uint64_t ino, snap;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	ok(msnap_fallocate(pool, ino, 0, 0, 20 * BLK));
	snap = snap_dir("s", ROOT);
	put_bytes(ino, 0, 20 * BLK, 1);
	must(has_zeros(in_snap(snap, ino), 0, 20 * BLK));
	must(has_bytes(msnap_live(ino), 0, 20 * BLK, 1));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(allocate_behind_the_end)
{
	uint64_t ino;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 100, 1);
	ok(msnap_fallocate(pool, ino, KEEP, 0, 50 * BLK));
	must(size_of(ino) == 100);
	must(attr_of(msnap_live(ino)).nr_blk == 50);
	must(ok(msnap_pread(pool, msnap_live(ino), buf, 1000, 0)) == 100);
	put_bytes(ino, 10 * BLK, 100, 2);
	must(attr_of(msnap_live(ino)).nr_blk == 50);
	must(has_zeros(msnap_live(ino), 100, 10 * BLK - 100));
	set_size(ino, 200);
	must(attr_of(msnap_live(ino)).nr_blk == 1);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(punch_edges)
{
	static const struct {
		uint64_t off, len;
		unsigned left; /* blocks of 4 */
	} c[] = {
		{ 0, BLK, 3 }, { 1, BLK, 4 }, { 100, 10, 4 }, { 0, 10, 4 },
		{ BLK, 2 * BLK, 2 }, { BLK - 1, BLK + 2, 3 },
		{ BLK / 2, 3 * BLK, 2 }, { 0, 4 * BLK, 0 },
		{ 3 * BLK, 100 * BLK, 3 }, { 100 * BLK, BLK, 4 },
		{ 3 * BLK + 1, 100 * BLK, 4 },
	};
	uint64_t ino;
	unsigned i;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	for (i = 0; i < sizeof(c) / sizeof(*c); i++) {
		uint64_t end = c[i].off + c[i].len;

		put_bytes(ino, 0, 4 * BLK, i);
		ok(msnap_commit(pool));
		ok(msnap_fallocate(pool, ino, PUNCH, c[i].off, c[i].len));
		must(size_of(ino) == 4 * BLK);
		must(attr_of(msnap_live(ino)).nr_blk == c[i].left);
		if (end > 4 * BLK)
			end = 4 * BLK;
		if (c[i].off < end) {
			must(has_bytes(msnap_live(ino), 0, c[i].off, i));
			must(has_zeros(msnap_live(ino), c[i].off, end - c[i].off));
			must(has_bytes(msnap_live(ino), end, 4 * BLK - end, i));
		}
		set_size(ino, 0);
	}
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- in place ---------------------------------------------------------------------------------------- */

/* Rewriting a block before it was committed takes no other. */
START_TEST(rewriting_takes_no_space)
{
	struct msnap_space_stat a, b;
	uint64_t ino;
	unsigned i;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 10 * BLK, 1);
	msnap_space_stat(pool->space, &a);
	for (i = 0; i < 1000; i++)
		put_bytes(ino, rnd(9 * BLK), 1 + rnd(2000), 1);
	msnap_space_stat(pool->space, &b);
	must(a.nr_free == b.nr_free && a.nr_pending == b.nr_pending);
	must(has_bytes(msnap_live(ino), 0, 10 * BLK, 1));
	ok(msnap_commit(pool));
	put_bytes(ino, 0, 10, 2);
	msnap_space_stat(pool->space, &b);
	must(b.nr_free < a.nr_free); /* what was committed is not overwritten */
	pool_ok();
	pool_gone();
}
END_TEST

static int is_aligned(void *arg, const struct msnap_piece *piece)
{
	uint64_t *nr = arg;

	*nr += piece->off / BLK % MSNAP_SPACE_CHUNK == piece->blk % MSNAP_SPACE_CHUNK ?
		       piece->len : 0;
	return 0;
}

/* From its third MiB on, a file that grows by small writes is where huge pages can map
 * it. */
START_TEST(small_writes_become_aligned)
{
	uint64_t ino, off, nr = 0;

	pool_make(64);
	/* What comes first is not aligned by chance. */
	put_bytes(mk_file(ROOT, "first"), 0, 3 * BLK, 1);
	ino = mk_file(ROOT, "file");
	for (off = 0; off < 16 * MIB; off += BLK)
		put_bytes(ino, off, BLK, 2);
	ok(msnap_map(pool, msnap_live(ino), 0, is_aligned, &nr));
	ck_assert_uint_ge(nr, 14 * MIB - MSNAP_SPACE_ALIGN_MIN * BLK);
	pool_ok();
}
END_TEST

static int note_chunk(void *arg, const struct msnap_piece *piece)
{
	uint64_t *chunks = arg;

	*chunks |= 1ull << piece->blk / MSNAP_SPACE_CHUNK;
	return 0;
}

/* Single blocks of a sparse file, each behind its end: they lie together. */
START_TEST(scattered_blocks_lie_together)
{
	uint64_t ino, off, chunks = 0;

	pool_make(64);
	ino = mk_file(ROOT, "file");
	for (off = 4 * MIB; off < 8 * MIB; off += 4 * BLK)
		put_bytes(ino, off, BLK, 1);
	ok(msnap_map(pool, msnap_live(ino), 0, note_chunk, &chunks));
	ck_assert_int_le(__builtin_popcountll(chunks), 2);
	pool_ok();
}
END_TEST

START_TEST(a_clone_is_not_written_in_place)
{
	struct msnap_attr attr, gone;
	uint64_t ino;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 10 * BLK, 1);
	must(msnap_copy_range(pool, msnap_live(ino), 0,
			      mk_file(ROOT, "g"), 0, 10 * BLK) == 10 * (long)BLK);
	put_bytes(ino, 5, 10, 2);
	must(has_bytes(msnap_live(find(msnap_live(ROOT), "g")), 0, 10 * BLK, 1));
	ok(msnap_clone(pool, msnap_live(ino), ROOT, "h", 1,
		       (struct msnap_owner){ -1, -1 }, 0, &attr, &gone));
	put_bytes(ino, 5, 10, 3);
	must(has_bytes(msnap_live(attr.ino), 5, 10, 2));
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- no space ------------------------------------------------------------------------------------------ */

/* Until nothing goes any more, in pieces of @piece. */
static unsigned fill_pool(uint64_t ino, uint64_t off, size_t piece)
{
	unsigned nr;
	int err;

	fill_bytes(buf, 0, piece, 1);
	for (nr = 0;; nr++, off += piece) {
		err = msnap_pwrite(pool, ino, buf, piece, off, false);
		if (err)
			break;
	}
	must(err == -ENOSPC);
	return nr;
}

static uint64_t full_pool(void)
{
	uint64_t ino;

	pool_make(32);
	ino = mk_file(ROOT, "fill");
	fill_pool(ino, 0, 1 << 20);
	fill_pool(ino, 1ull << 30, 65536);
	fill_pool(ino, 2ull << 30, 4096);
	return ino;
}

START_TEST(full_and_empty_again)
{
	uint64_t nr_free, ino, i;

	pool_make(32);
	nr_free = pool_free_blks();
	for (i = 0; i < 3; i++) {
		ino = mk_file(ROOT, "fill");
		must(fill_pool(ino, 0, 1 << 20) >= 28);
		fill_pool(ino, 1ull << 30, 65536);
		fill_pool(ino, 2ull << 30, 4096);
		must(fill_pool(ino, 3ull << 30, 4096) == 0);
		pool_ok();
		rm(ROOT, "fill");
		must(pool_free_blks() == nr_free);
	}
	pool_ok();
	pool_gone();
}
END_TEST

/* Everything that gives space back works on a full pool. */
START_TEST(what_works_when_full)
{
	struct msnap_attr gone;
	uint64_t ino = full_pool();

	ok(msnap_fallocate(pool, ino, PUNCH, 1000, 10 * BLK));
	must(has_zeros(msnap_live(ino), 1000, 10 * BLK));
	set_size(ino, (1ull << 30) + 1000);
	ok(msnap_unlink(pool, ROOT, "fill", 4, false, &gone));
	ok(msnap_evict(pool, ino));
	ok(msnap_pool_settle(pool));
	pool_ok();
	put_bytes(mk_file(ROOT, "again"), 0, 10 << 20, 1);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(truncate_when_full)
{
	uint64_t ino = full_pool(), size;

	for (size = size_of(ino) - 1; size > 1000000; size -= size / 50)
		set_size(ino, size);
	pool_settled_ok();
	pool_gone();
}
END_TEST

/* A snapshot keeps all blocks: overwriting needs new ones, deleting both works. */
START_TEST(snapshots_of_a_full_pool)
{
	uint64_t ino = full_pool(), snap = 0;
	int err = try_snap("s", ROOT, NULL, &snap);

	must(!err || err == -ENOSPC);
	must(msnap_pwrite(pool, ino, buf, 65536, 0, false) == -ENOSPC);
	must(has_bytes(msnap_live(ino), 0, 1000, 1));
	rm(ROOT, "fill");
	if (!err)
		ok(msnap_snap_delete(pool, snap));
	ok(msnap_pool_settle(pool));
	pool_ok();
	must(pool_free_blks() > 32 * MIB / BLK - 40);
	pool_gone();
}
END_TEST

/* Nothing of a write or an allocation that does not fit. */
START_TEST(all_or_nothing)
{
	uint64_t ino, raw;

	pool_make(8);
	ino = mk_file(ROOT, "f");
	put_bytes(ino, 0, 6 << 20, 1);
	raw = pool_raw();
	fails(-ENOSPC, msnap_pwrite(pool, ino, buf, 2 << 20, 100, false));
	fails(-ENOSPC, msnap_fallocate(pool, ino, 0, 0, 8 << 20));
	fails(-ENOSPC, msnap_fallocate(pool, ino, 0, 0, 7900 * KIB));
	must(pool_raw() == raw);
	pool_ok();
	pool_gone();
}
END_TEST

/* Names cannot use up what deleting needs. */
START_TEST(full_of_names)
{
	struct msnap_new what = { .mode = S_IFREG };
	struct msnap_attr attr;
	uint64_t nr, i, nr_free;
	char name[48];
	int err;

	pool_make(4);
	nr_free = pool_free_blks();
	for (nr = 0;; nr++) {
		sprintf(name, "a rather long name %lu", (unsigned long)nr);
		err = msnap_create(pool, ROOT, name, strlen(name), &what, &attr);
		if (err)
			break;
	}
	must(err == -ENOSPC && nr > 8000);
	pool_ok();
	for (i = 0; i < nr; i++) {
		sprintf(name, "a rather long name %lu", (unsigned long)i);
		rm(ROOT, name);
	}
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("write");
	TCase *tc = tcase_create("write");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, against_files_in_ram, 1, 7);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, times_and_versions);
	tcase_add_test(tc, the_last_byte_of_the_largest_file);
	tcase_add_test(tc, far_apart);
	tcase_add_test(tc, no_old_bytes_behind_the_end);
	tcase_add_test(tc, keep_size);
	tcase_add_test(tc, allocated_blocks_are_used);
	tcase_add_test(tc, allocated_blocks_of_a_snapshot_stay_empty);
	tcase_add_test(tc, allocate_behind_the_end);
	tcase_add_test(tc, punch_edges);
	tcase_add_test(tc, rewriting_takes_no_space);
	tcase_add_test(tc, small_writes_become_aligned);
	tcase_add_test(tc, scattered_blocks_lie_together);
	tcase_add_test(tc, a_clone_is_not_written_in_place);
	tcase_add_test(tc, full_and_empty_again);
	tcase_add_test(tc, what_works_when_full);
	tcase_add_test(tc, truncate_when_full);
	tcase_add_test(tc, snapshots_of_a_full_pool);
	tcase_add_test(tc, all_or_nothing);
	tcase_add_test(tc, full_of_names);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
