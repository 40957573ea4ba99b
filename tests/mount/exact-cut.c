/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exact-cut.c - are restore points of a file one instant of it, while a thread stores
 * to it through a mapping as fast as it can?
 *
 *     exact-cut FILE ROUNDS
 *
 * The thread counts; it stores each number to the next of PAGES pages, in an order in
 * which each page comes once in PAGES numbers.  Let T be the highest number in a
 * restore point.  It is of one instant when it has all that came before T: the PAGES
 * numbers up to T, or a later one in that page, which cannot be as T is the highest.
 * And that instant is within the call: T is neither older than what was stored before
 * the call, nor newer than what was when it returned.
 *
 * Prints how long the calls took.  Exit status: 1 when one is not exact.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../../src/fs/control.h"

#define PAGES 4096u
#define PAGE 4096u
#define SIZE ((size_t)PAGES * PAGE)
#define KEPT 8u /* restore points */
#define PER_PAGE (PAGE / sizeof(uint64_t))

static volatile uint64_t *map;
static _Atomic uint64_t stored; /* all numbers up to it are */
static atomic_bool stop;

static void die(const char *what)
{
	perror(what);
	exit(99);
}

/* An odd factor: PAGES numbers in a row fall on all pages. */
static size_t page_of(uint64_t n)
{
	return n * 2654435761u % PAGES;
}

static void *store(void *arg)
{
	(void)arg;
	for (uint64_t n = 1; !stop; n++) {
		map[page_of(n) * PER_PAGE] = n;
		stored = n;
	}
	return NULL;
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void read_all(int fd, char *buf)
{
	for (size_t done = 0; done < SIZE;) {
		ssize_t n = pread(fd, buf + done, SIZE - done, (off_t)done);

		if (n <= 0)
			die("read of the restore point");
		done += (size_t)n;
	}
}

static uint64_t highest(const uint64_t *cut)
{
	uint64_t max = 0;

	for (size_t page = 0; page < PAGES; page++)
		if (cut[page * PER_PAGE] > max)
			max = cut[page * PER_PAGE];
	return max;
}

static unsigned nr_missing(const uint64_t *cut, uint64_t last)
{
	unsigned nr = 0;

	for (uint64_t n = last; n > 0 && last - n < PAGES; n--)
		nr += cut[page_of(n) * PER_PAGE] != n;
	return nr;
}

static bool is_exact(const char *dir, const char *file, const char *point,
		     uint64_t before, uint64_t after)
{
	static uint64_t cut[SIZE / sizeof(uint64_t)];
	char path[4096];
	uint64_t last;
	unsigned missing;
	int fd;

	snprintf(path, sizeof(path), "%s/.snap/%s/%s", dir, point, file);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		die(path);
	read_all(fd, (char *)cut);
	close(fd);
	last = highest(cut);
	missing = nr_missing(cut, last);
	/* A number is stored a moment before it is counted. */
	if (!missing && last >= before && last <= after + 1)
		return true;
	printf("%s: %" PRIu64 " is the last, %u before it are missing; %" PRIu64
	       " before the call, %" PRIu64 " after\n", point, last, missing, before,
	       after);
	return false;
}

/* Enough of them at a time: each has all of the file. */
static void remove_point(const char *dir, unsigned round)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/.snap/cut-%u", dir, round);
	if (rmdir(path))
		die(path);
}

/* Milliseconds, or below 0: not exact. */
static double take(const char *dir, const char *file, unsigned round)
{
	struct msnap_ioc_snap arg = { 0 };
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	uint64_t before, after;
	double ms;

	if (fd < 0)
		die(dir);
	snprintf(arg.name, sizeof(arg.name), "cut-%u", round);
	/* The file alone, and all of its directory, in turn. */
	if (round % 2)
		snprintf(arg.file, sizeof(arg.file), "%s", file);
	before = stored;
	ms = now_ms();
	if (ioctl(fd, MSNAP_IOC_SNAP, &arg))
		die("restore point");
	ms = now_ms() - ms;
	after = stored;
	close(fd);
	return is_exact(dir, file, arg.name, before, after) ? ms : -1;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static unsigned take_all(const char *dir, const char *file, unsigned rounds)
{
	double *ms = calloc(rounds, sizeof(*ms));
	unsigned nr = 0;

	if (!ms)
		die("memory");
	for (unsigned i = 0; i < rounds; i++) {
		usleep(20000);
		ms[nr] = take(dir, file, i);
		nr += ms[nr] >= 0;
		if (i >= KEPT)
			remove_point(dir, i - KEPT);
	}
	qsort(ms, nr, sizeof(*ms), compare);
	printf("%u of %u restore points are exact", nr, rounds);
	if (nr)
		printf("; median %.2f ms, 95th percentile %.2f ms, longest %.2f ms",
		       ms[nr / 2], ms[nr * 95 / 100], ms[nr - 1]);
	printf("; %" PRIu64 " stores\n", stored);
	free(ms);
	return nr;
}

int main(int argc, char **argv)
{
	unsigned rounds = argc == 3 ? (unsigned)atoi(argv[2]) : 0, nr;
	char *dir, *file;
	pthread_t thread;
	int fd;

	if (!rounds) {
		fprintf(stderr, "Usage: exact-cut FILE ROUNDS\n");
		return 2;
	}
	dir = dirname(strdup(argv[1]));
	file = basename(strdup(argv[1]));
	fd = open(argv[1], O_RDWR | O_CREAT, 0644);
	if (fd < 0 || ftruncate(fd, SIZE))
		die(argv[1]);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	close(fd);
	if (pthread_create(&thread, NULL, store, NULL))
		die("thread");
	while (stored < PAGES)
		usleep(1000);
	nr = take_all(dir, file, rounds);
	stop = true;
	pthread_join(thread, NULL);
	return nr == rounds ? 0 : 1;
}
