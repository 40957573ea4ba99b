/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the pool's memory: files through libpmem2, and the simulated memory.
 * msync and fallocate are replaced below by versions that count and can fail.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cow/persist.h"

#define MIB (1ull << 20)

/* ---- replaced calls -------------------------------------------------------- */

static unsigned nr_msync;
static uint8_t *synced;
static size_t synced_len;
static bool msync_fails;

static unsigned nr_fallocate;
static int fallocate_errno; /* 0: the real thing */

int msync(void *base, size_t len, int flags)
{
	int res = (int)syscall(SYS_msync, base, len, flags);

	nr_msync++;
	synced = base;
	synced_len = len;
	if (!msync_fails)
		return res;
	errno = EIO; /* and the pages are clean now, as the kernel has it */
	return -1;
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	nr_fallocate++;
	if (fallocate_errno) {
		errno = fallocate_errno;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, off, len);
}

/* ---- files ------------------------------------------------------------------ */

static char path[] = "/tmp/test-persist-XXXXXX";
static struct msnap_why why;

static void make_file(void)
{
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	close(fd);
}

static void remove_file(void)
{
	unlink(path);
}

static struct msnap_mem *open_sized(uint64_t size)
{
	struct msnap_mem *mem = NULL;
	int err;

	ck_assert_int_eq(truncate(path, (off_t)size), 0);
	err = msnap_mem_open(path, false, 0, &mem, &why);
	ck_assert_msg(err == 0, "%d: %s", err, why.text);
	return mem;
}

static void check_refused(const char *name, bool read_only, int err,
			  const char *words)
{
	struct msnap_mem *mem = (void *)&why;

	why.text[0] = '\0';
	ck_assert_int_eq(msnap_mem_open(name, read_only, 0, &mem, &why), err);
	ck_assert_ptr_eq(mem, &why);
	ck_assert_msg(strstr(why.text, words) != NULL, "%s", why.text);
	ck_assert_int_eq(strncmp(why.text, name, strlen(name)), 0);
	ck_assert_ptr_null(strchr(why.text, '\n'));
}

static void read_back(uint64_t off, void *buf, size_t len)
{
	int fd = open(path, O_RDONLY);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, buf, len, (off_t)off), (ssize_t)len);
	close(fd);
}

START_TEST(opens_a_file)
{
	struct msnap_mem *mem = open_sized(4 * MIB + 4095);

	ck_assert_uint_eq(mem->size, 4 * MIB);
	ck_assert_uint_eq((uintptr_t)mem->base % 4096, 0);
	ck_assert_int_ge(mem->fd, 0);
	ck_assert(!mem->device);
	ck_assert(!mem->read_only);
	ck_assert(!mem->copy_is_durable);
	ck_assert_str_eq(mem->granularity, "page");
	msnap_mem_close(mem);
}
END_TEST

START_TEST(stores_reach_the_file)
{
	struct msnap_mem *mem = open_sized(4 * MIB);
	char buf[6];

	msnap_mem_copy(mem, 8190, "hello", 6);
	msnap_mem_flush(mem, 8190, 6);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_uint_eq(nr_msync, 1);
	ck_assert_ptr_eq(synced, mem->base + 4096);
	ck_assert_uint_eq(synced_len, 8192);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	msnap_mem_flush(mem, 4096, 0);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_uint_eq(nr_msync, 1);
	read_back(8190, buf, sizeof(buf));
	ck_assert_str_eq(buf, "hello");
	msnap_mem_close(mem);
}
END_TEST

/* Whatever comes in, in any order: one msync over the lot. */
START_TEST(many_ranges_are_one_msync)
{
	struct msnap_mem *mem = open_sized(16 * MIB);
	uint64_t lo = UINT64_MAX, hi = 0, off;

	srandom(1);
	for (unsigned i = 0; i < 5000; i++) {
		off = 4096 * (1 + (uint64_t)random() % 4000);
		msnap_mem_flush(mem, off, 4096 * (uint64_t)(random() % 4));
		msnap_mem_flush(mem, off, 1);
		lo = off < lo ? off : lo;
		hi = off + 4096 > hi ? off + 4096 : hi;
	}
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_uint_eq(nr_msync, 1);
	ck_assert_uint_eq((uint64_t)(synced - mem->base), lo);
	ck_assert_uint_ge(lo + synced_len, hi);
	msnap_mem_flush(mem, mem->size - 1, 1);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_ptr_eq(synced, mem->base + mem->size - 4096);
	ck_assert_uint_eq(synced_len, 4096);
	msnap_mem_close(mem);
}
END_TEST

/* KiB of the mapping at @base that its page tables have as dirty. */
static unsigned dirty_kib(const void *base)
{
	unsigned long start, end;
	unsigned kib, sum = 0;
	bool here = false;
	char line[512];
	FILE *f = fopen("/proc/self/smaps", "r");

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start == (unsigned long)base;
		if (here && (sscanf(line, "Private_Dirty: %u", &kib) == 1 ||
			     sscanf(line, "Shared_Dirty: %u", &kib) == 1))
			sum += kib;
	}
	fclose(f);
	return sum;
}

START_TEST(failed_msync_is_tried_again)
{
	struct msnap_mem *mem = open_sized(4 * MIB);
	unsigned dirty;

	memset(mem->base + 8192, 1, 8192);
	mem->base[MIB] = 1;
	msnap_mem_flush(mem, 8192, 8192);
	msync_fails = true;
	ck_assert_int_eq(msnap_mem_drain(mem), -EIO);
	ck_assert_uint_ge(dirty_kib(mem->base), 8);
	ck_assert_int_eq(mem->base[8192], 1);
	/* Stored before the failure, lost by it too, and flushed after it. */
	ck_assert_int_eq(msync(mem->base + MIB, 4096, MS_SYNC), -1);
	dirty = dirty_kib(mem->base);
	msnap_mem_flush(mem, MIB, 1);
	/* On tmpfs msync does nothing, and all three pages were dirty still. */
	ck_assert_uint_eq(dirty_kib(mem->base), dirty == 12 ? 12 : dirty + 4);
	msync_fails = false;
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_ptr_eq(synced, mem->base + 8192);
	ck_assert_uint_eq(synced_len, MIB + 4096 - 8192);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_uint_eq(nr_msync, 3);
	msnap_mem_close(mem);
}
END_TEST

START_TEST(cut_file_does_not_kill_the_drain)
{
	struct msnap_mem *mem = open_sized(4 * MIB);

	mem->base[MIB] = 1;
	msnap_mem_flush(mem, MIB, 4096);
	ck_assert_int_eq(truncate(path, 4096), 0);
	msync_fails = true;
	ck_assert_int_eq(msnap_mem_drain(mem), -EIO);
	msnap_mem_close(mem);
}
END_TEST

/* As on persistent memory, as far as an ordinary file can show it. */
START_TEST(byte_addressable)
{
	struct msnap_mem *mem;
	char buf[6];

	setenv("PMEM2_FORCE_GRANULARITY", _i ? "BYTE" : "CACHE_LINE", 1);
	mem = open_sized(4 * MIB);
	ck_assert_str_eq(mem->granularity, _i ? "byte" : "cache line");
	ck_assert(mem->copy_is_durable);
	msnap_mem_copy(mem, 4093, "hello", 6);
	memcpy(mem->base + 9000, "world", 6);
	msnap_mem_flush(mem, 9000, 6);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_uint_eq(nr_msync, 0);
	read_back(4093, buf, sizeof(buf));
	ck_assert_str_eq(buf, "hello");
	read_back(9000, buf, sizeof(buf));
	ck_assert_str_eq(buf, "world");
	msnap_mem_close(mem);
}
END_TEST

START_TEST(says_what_is_wrong)
{
	char name[64];

	check_refused("/tmp/no/such/pool", false, -ENOENT, "mkfs.memsnapfs");
	check_refused("/tmp", false, -EISDIR, "is a directory");
	check_refused("/tmp", true, -EISDIR, "is a directory");
	check_refused("/dev/null", false, -EMEDIUMTYPE, "device-DAX");
	check_refused(path, false, -EINVAL, "is empty");
	ck_assert_int_eq(truncate(path, 4 * MIB - 1), 0);
	check_refused(path, false, -EINVAL, "smaller than 4 MiB");
	snprintf(name, sizeof(name), "%s.fifo", path);
	ck_assert_int_eq(mkfifo(name, 0600), 0);
	check_refused(name, false, -EMEDIUMTYPE, "neither a regular file");
	check_refused(name, true, -EMEDIUMTYPE, "neither a regular file");
	unlink(name);
}
END_TEST

START_TEST(says_who_may_not)
{
	ck_assert_int_eq(truncate(path, 4 * MIB), 0);
	if (geteuid() == 0) {
		ck_assert_int_eq(seteuid(65534), 0);
		check_refused(path, false, -EACCES, "read and write");
		ck_assert_int_eq(seteuid(0), 0);
	}
}
END_TEST

START_TEST(long_path_leaves_room_for_the_reason)
{
	char name[3001] = "/";
	struct msnap_mem *mem;

	while (strlen(name) < 2990)
		strcat(name, "abcdefghi/");
	ck_assert_int_eq(msnap_mem_open(name, false, 0, &mem, &why), -ENOENT);
	ck_assert_ptr_nonnull(strstr(why.text, "no such file"));
	ck_assert_int_eq(strncmp(why.text, "...", 3), 0);
}
END_TEST

START_TEST(lock_excludes)
{
	struct msnap_mem *mem = open_sized(4 * MIB);
	struct msnap_mem *first, *second;

	check_refused(path, false, -EBUSY, "already mounted?");
	check_refused(path, true, -EBUSY, "already mounted?");
	msnap_mem_close(mem);
	ck_assert_int_eq(msnap_mem_open(path, true, 0, &first, &why), 0);
	ck_assert_int_eq(msnap_mem_open(path, true, 0, &second, &why), 0);
	check_refused(path, false, -EBUSY, "in use");
	msnap_mem_close(second);
	msnap_mem_close(first);
	msnap_mem_close(open_sized(4 * MIB));
}
END_TEST

static void *close_soon(void *mem)
{
	usleep(60000);
	msnap_mem_close(mem);
	return NULL;
}

START_TEST(lock_is_waited_for)
{
	struct msnap_mem *mem = open_sized(4 * MIB);
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, close_soon, mem), 0);
	ck_assert_int_eq(msnap_mem_open(path, false, 10000, &mem, &why), 0);
	pthread_join(thread, NULL);
	msnap_mem_close(mem);
}
END_TEST

START_TEST(read_only_stores_nothing)
{
	struct msnap_mem *mem;

	ck_assert_int_eq(truncate(path, 4 * MIB), 0);
	ck_assert_int_eq(msnap_mem_open(path, true, 0, &mem, &why), 0);
	ck_assert(mem->read_only);
	ck_assert_int_eq(mem->base[4095], 0);
	ck_assert_int_eq(msnap_mem_reserve(mem, 0, 1), -EROFS);
	ck_assert_int_eq(msnap_mem_punch(mem, 0, 4096), -EROFS);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_uint_eq(nr_msync + nr_fallocate, 0);
	msnap_mem_close(mem);
}
END_TEST

static uint64_t allocated(void)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

START_TEST(reserve_allocates_once)
{
	struct msnap_mem *mem = open_sized(9 * MIB + 4096);

	ck_assert_int_eq(msnap_mem_reserve(mem, 2 * MIB - 1, 2), 0);
	ck_assert_uint_eq(nr_fallocate, 2);
	ck_assert_uint_ge(allocated(), 4 * MIB);
	ck_assert_int_eq(msnap_mem_reserve(mem, 0, 4 * MIB), 0);
	ck_assert_int_eq(msnap_mem_reserve(mem, 4 * MIB, 0), 0);
	ck_assert_uint_eq(nr_fallocate, 2);
	ck_assert_int_eq(msnap_mem_reserve(mem, 0, mem->size), 0);
	ck_assert_uint_eq(nr_fallocate, 5);
	ck_assert_uint_ge(allocated(), 9 * MIB + 4096);
	msnap_mem_close(mem);
}
END_TEST

START_TEST(punch_gives_back)
{
	struct msnap_mem *mem = open_sized(8 * MIB);
	uint64_t before;

	ck_assert_int_eq(msnap_mem_reserve(mem, 0, mem->size), 0);
	memset(mem->base, 5, 8 * MIB);
	before = allocated();
	/* Less than a block stays, and less than all of the first chunk and the last. */
	ck_assert_int_eq(msnap_mem_punch(mem, 2 * MIB + 1, 8190), 0);
	ck_assert_int_eq(msnap_mem_punch(mem, 4 * MIB, 0), 0);
	ck_assert_int_eq(msnap_mem_punch(mem, MIB, MIB), 0);
	ck_assert_int_eq(msnap_mem_punch(mem, 6 * MIB, MIB), 0);
	ck_assert_uint_eq(nr_fallocate, 4);
	ck_assert_int_eq(msnap_mem_punch(mem, 2 * MIB + 4096, 3 * MIB), 0);
	ck_assert_uint_eq(nr_fallocate, 5);
	/* The filesystem may take a block for the list of what is left. */
	ck_assert_uint_le(allocated(), before - 3 * MIB + 4096);
	ck_assert_int_eq(mem->base[2 * MIB + 4095], 5);
	ck_assert_int_eq(mem->base[2 * MIB + 4096], 0);
	ck_assert_int_eq(mem->base[5 * MIB + 4095], 0);
	ck_assert_int_eq(mem->base[5 * MIB + 4096], 5);
	/* Of the four chunks, those that lack something. */
	ck_assert_int_eq(msnap_mem_reserve(mem, 0, mem->size), 0);
	ck_assert_uint_eq(nr_fallocate, 7);
	ck_assert_uint_ge(allocated(), 8 * MIB);
	msnap_mem_close(mem);
}
END_TEST

static void add_len(void *arg, uint64_t off, uint64_t len)
{
	uint64_t *sum = arg;

	ck_assert(off == 2 * MIB || off == 6 * MIB);
	*sum += len;
}

static void survey_in(char *name)
{
	int fd = mkstemp(name);
	struct msnap_mem *mem;
	uint64_t sum = 0, chunk;

	ck_assert_int_eq(ftruncate(fd, 10 * MIB), 0);
	ck_assert_int_eq(msnap_mem_open(name, false, 0, &mem, &why), 0);
	ck_assert_int_eq(msnap_mem_survey(mem, add_len, &sum), 0);
	ck_assert_uint_eq(sum, 0);
	memset(mem->base + 2 * MIB, 1, 2 * MIB);
	memset(mem->base + 6 * MIB, 1, MIB);
	ck_assert_int_eq(fsync(fd), 0);
	ck_assert_int_eq(msnap_mem_survey(mem, add_len, &sum), 0);
	ck_assert_uint_eq(sum, 3 * MIB);
	ck_assert_int_eq(msnap_mem_next_whole(mem, 0, &chunk), 0);
	ck_assert_uint_eq(chunk, 1);
	ck_assert_int_eq(msnap_mem_next_whole(mem, 2, &chunk), -ENOENT);
	msnap_mem_close(mem);
	close(fd);
	unlink(name);
}

/* By FIEMAP, and on tmpfs without. */
START_TEST(survey_finds_what_is_there)
{
	char here[] = "/tmp/test-persist-XXXXXX";
	char in_memory[] = "/dev/shm/test-persist-XXXXXX";

	survey_in(here);
	if (!access("/dev/shm", W_OK))
		survey_in(in_memory);
}
END_TEST

START_TEST(held_chunks_go_as_a_whole)
{
	struct msnap_mem *mem = open_sized(8 * MIB);
	uint64_t chunk = 0;

	ck_assert_int_eq(msnap_mem_next_whole(mem, 0, &chunk), -ENOENT);
	ck_assert_int_eq(msnap_mem_reserve(mem, 2 * MIB, 6 * MIB), 0);
	ck_assert_int_eq(msnap_mem_next_whole(mem, 0, &chunk), 0);
	ck_assert_uint_eq(chunk, 1);
	memset(mem->base + 2 * MIB, 5, 6 * MIB);
	msnap_mem_hold(mem, 2 * MIB + 100);
	msnap_mem_hold(mem, 6 * MIB);
	/* Neither its end nor its beginning, but what lies between. */
	ck_assert_int_eq(msnap_mem_punch(mem, 3 * MIB, 4 * MIB), 0);
	ck_assert_int_eq(mem->base[4 * MIB - 1], 5);
	ck_assert_int_eq(mem->base[4 * MIB], 0);
	ck_assert_int_eq(mem->base[6 * MIB - 1], 0);
	ck_assert_int_eq(mem->base[6 * MIB], 5);
	ck_assert_int_eq(msnap_mem_punch(mem, 2 * MIB + 4096, 8192), 0);
	ck_assert_int_eq(mem->base[2 * MIB + 4096], 5);
	ck_assert_int_eq(msnap_mem_next_whole(mem, 2, &chunk), 0);
	ck_assert_uint_eq(chunk, 3);
	/* Whole, and it is held no more. */
	ck_assert_int_eq(msnap_mem_punch(mem, 2 * MIB, 2 * MIB), 0);
	ck_assert_int_eq(mem->base[2 * MIB], 0);
	ck_assert_int_eq(msnap_mem_reserve(mem, 2 * MIB, MIB), 0);
	mem->base[3 * MIB] = 5;
	ck_assert_int_eq(msnap_mem_punch(mem, 3 * MIB, 4096), 0);
	ck_assert_int_eq(mem->base[3 * MIB], 0);
	msnap_mem_close(mem);
}
END_TEST

START_TEST(full_disk_is_enospc)
{
	struct msnap_mem *mem = open_sized(8 * MIB);

	fallocate_errno = ENOSPC;
	ck_assert_int_eq(msnap_mem_reserve(mem, 4096, 8192), -ENOSPC);
	fallocate_errno = EDQUOT;
	ck_assert_int_eq(msnap_mem_reserve(mem, 4096, 8192), -ENOSPC);
	fallocate_errno = 0;
	ck_assert_int_eq(msnap_mem_reserve(mem, 4096, 8192), 0);
	ck_assert_uint_eq(nr_fallocate, 3);
	msnap_mem_close(mem);
}
END_TEST

START_TEST(filesystem_without_fallocate)
{
	struct msnap_mem *mem = open_sized(8 * MIB);

	fallocate_errno = EOPNOTSUPP;
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(msnap_mem_reserve(mem, 0, 8 * MIB), 0);
		ck_assert_int_eq(msnap_mem_punch(mem, 0, 8 * MIB), 0);
	}
	ck_assert_uint_eq(nr_fallocate, 2);
	msnap_mem_close(mem);
}
END_TEST

/* ---- simulated memory ------------------------------------------------------- */

static struct msnap_mem *new_sim(enum msnap_sim_kind kind)
{
	struct msnap_mem *mem = NULL;

	ck_assert_int_eq(msnap_sim_new(4 * MIB, kind, &mem), 0);
	ck_assert_int_eq(mem->fd, -1);
	return mem;
}

START_TEST(sim_refuses_odd_sizes)
{
	struct msnap_mem *mem = NULL;

	ck_assert_int_eq(msnap_sim_new(0, MSNAP_SIM_LINES, &mem), -EINVAL);
	ck_assert_int_eq(msnap_sim_new(5000, MSNAP_SIM_LINES, &mem), -EINVAL);
	ck_assert_int_eq(msnap_sim_new(1ull << 62, MSNAP_SIM_LINES, &mem),
			 -ENOMEM);
	ck_assert_ptr_null(mem);
}
END_TEST

START_TEST(sim_lines)
{
	struct msnap_mem *mem = new_sim(MSNAP_SIM_LINES);
	uint8_t *media = msnap_sim_media(mem);

	ck_assert(mem->copy_is_durable);
	memset(mem->base, 1, 256);
	msnap_mem_flush(mem, 127, 2);
	mem->base[64] = 2; /* after the flush: not promised */
	ck_assert_int_eq(media[64], 0);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_int_eq(media[63], 0);
	ck_assert_int_eq(media[64], 1);
	ck_assert_int_eq(media[191], 1);
	ck_assert_int_eq(media[192], 0);
	msnap_mem_flush(mem, 4 * MIB - 1, 1);
	msnap_mem_flush(mem, 0, 0);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	msnap_sim_crash(mem);
	ck_assert_int_eq(mem->base[63], 0);
	ck_assert_int_eq(mem->base[64], 1);
	msnap_mem_close(mem);
}
END_TEST

START_TEST(sim_pages)
{
	struct msnap_mem *mem = new_sim(MSNAP_SIM_PAGES);
	uint8_t *media = msnap_sim_media(mem);

	ck_assert(!mem->copy_is_durable);
	memset(mem->base, 1, 16384);
	msnap_mem_copy(mem, 8192, "x", 1);
	msnap_mem_flush(mem, 8191, 2);
	mem->base[4096] = 2; /* before msync: it takes what is there */
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_int_eq(media[4095], 0);
	ck_assert_int_eq(media[4096], 2);
	ck_assert_int_eq(media[8192], 'x');
	ck_assert_int_eq(media[12287], 1);
	ck_assert_int_eq(media[12288], 0);
	msnap_mem_close(mem);
}
END_TEST

START_TEST(sim_copy_is_durable)
{
	struct msnap_mem *mem = new_sim(MSNAP_SIM_LINES);
	uint8_t *media = msnap_sim_media(mem);

	mem->base[10] = 1;
	mem->base[20] = 1;
	msnap_mem_flush(mem, 0, 64);
	msnap_mem_copy(mem, 10, "ab", 2);
	ck_assert_int_eq(media[10], 'a');
	ck_assert_int_eq(media[20], 0);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_int_eq(media[10], 'a');
	ck_assert_int_eq(media[11], 'b');
	ck_assert_int_eq(media[20], 1);
	msnap_mem_close(mem);
}
END_TEST

struct seen {
	unsigned nr;
	uint8_t base, media;
};

static void look(void *arg, struct msnap_mem *mem, const uint8_t *media)
{
	struct seen *seen = arg;

	seen->nr++;
	seen->base = mem->base[0];
	seen->media = media[0];
}

START_TEST(sim_hook_comes_first)
{
	struct msnap_mem *mem = new_sim(_i ? MSNAP_SIM_PAGES : MSNAP_SIM_LINES);
	struct seen seen = { 0 };
	struct msnap_sim_hooks hooks = { .at_drain = look, .arg = &seen };

	msnap_sim_hooks(mem, &hooks);
	mem->base[0] = 3;
	msnap_mem_flush(mem, 0, 1);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_uint_eq(seen.nr, 1);
	ck_assert_uint_eq(seen.base, 3);
	ck_assert_uint_eq(seen.media, 0);
	ck_assert_int_eq(msnap_sim_media(mem)[0], 3);
	msnap_sim_hooks(mem, NULL);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_uint_eq(seen.nr, 1);
	msnap_mem_close(mem);
}
END_TEST

START_TEST(sim_crash_forgets_flushes)
{
	struct msnap_mem *mem = new_sim(_i ? MSNAP_SIM_PAGES : MSNAP_SIM_LINES);

	mem->base[0] = 3;
	msnap_mem_flush(mem, 0, 1);
	msnap_sim_crash(mem);
	ck_assert_int_eq(mem->base[0], 0);
	mem->base[0] = 4;
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_int_eq(msnap_sim_media(mem)[0], 0);
	msnap_mem_close(mem);
}
END_TEST

START_TEST(sim_fails_the_nth_drain)
{
	struct msnap_mem *mem = new_sim(_i ? MSNAP_SIM_PAGES : MSNAP_SIM_LINES);

	msnap_sim_fail_drain(mem, 2);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	mem->base[0] = 3;
	msnap_mem_flush(mem, 0, 1);
	ck_assert_int_eq(msnap_mem_drain(mem), -EIO);
	ck_assert_int_eq(msnap_sim_media(mem)[0], 0);
	/* The range is kept. */
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	ck_assert_int_eq(msnap_sim_media(mem)[0], 3);
	msnap_sim_fail_drain(mem, 1);
	msnap_sim_fail_drain(mem, 0);
	ck_assert_int_eq(msnap_mem_drain(mem), 0);
	msnap_mem_close(mem);
}
END_TEST

START_TEST(sim_has_no_space_to_run_out_of)
{
	struct msnap_mem *mem = new_sim(MSNAP_SIM_LINES);

	ck_assert_int_eq(msnap_mem_reserve(mem, 0, mem->size), 0);
	ck_assert_int_eq(msnap_mem_punch(mem, 0, mem->size), 0);
	msnap_mem_close(mem);
}
END_TEST

static TCase *file_tests(void)
{
	TCase *tc = tcase_create("file");

	tcase_add_checked_fixture(tc, make_file, remove_file);
	tcase_add_test(tc, opens_a_file);
	tcase_add_test(tc, stores_reach_the_file);
	tcase_add_test(tc, many_ranges_are_one_msync);
	tcase_add_test(tc, failed_msync_is_tried_again);
	tcase_add_test(tc, cut_file_does_not_kill_the_drain);
	tcase_add_loop_test(tc, byte_addressable, 0, 2);
	tcase_add_test(tc, says_what_is_wrong);
	tcase_add_test(tc, says_who_may_not);
	tcase_add_test(tc, long_path_leaves_room_for_the_reason);
	tcase_add_test(tc, lock_excludes);
	tcase_add_test(tc, lock_is_waited_for);
	tcase_add_test(tc, read_only_stores_nothing);
	tcase_add_test(tc, reserve_allocates_once);
	tcase_add_test(tc, punch_gives_back);
	tcase_add_test(tc, survey_finds_what_is_there);
	tcase_add_test(tc, held_chunks_go_as_a_whole);
	tcase_add_test(tc, full_disk_is_enospc);
	tcase_add_test(tc, filesystem_without_fallocate);
	return tc;
}

static TCase *sim_tests(void)
{
	TCase *tc = tcase_create("sim");

	tcase_add_test(tc, sim_refuses_odd_sizes);
	tcase_add_test(tc, sim_lines);
	tcase_add_test(tc, sim_pages);
	tcase_add_test(tc, sim_copy_is_durable);
	tcase_add_loop_test(tc, sim_hook_comes_first, 0, 2);
	tcase_add_loop_test(tc, sim_crash_forgets_flushes, 0, 2);
	tcase_add_loop_test(tc, sim_fails_the_nth_drain, 0, 2);
	tcase_add_test(tc, sim_has_no_space_to_run_out_of);
	return tc;
}

int main(void)
{
	Suite *suite = suite_create("persist");
	SRunner *runner;
	int failed;

	suite_add_tcase(suite, file_tests());
	suite_add_tcase(suite, sim_tests());
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
