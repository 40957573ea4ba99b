/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * times.h - repeated measurements of one thing, and the line that tells of them.
 *
 * What is to be compared is measured in turns, BATCH times each, so that what else
 * the machine does meanwhile falls on all of it alike.
 *
 * What it does not do: it judges nothing; bench/clone reads the lines and does.
 */
#ifndef MSNAP_BENCH_TIMES_H
#define MSNAP_BENCH_TIMES_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TIMES_MAX 10000u
#define TIMES_BATCH 10u

struct times {
	unsigned nr;
	uint64_t ns[TIMES_MAX];
};

static inline uint64_t times_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What has passed since @start, a value of times_now(). */
static inline void times_add(struct times *t, uint64_t start)
{
	uint64_t ns = times_now() - start;

	if (t->nr < TIMES_MAX)
		t->ns[t->nr++] = ns;
}

static inline int times_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/*
 * One line: "@what extents median 90th-percentile repetitions", times in
 * microseconds.  Nothing when it was not measured.
 */
static inline void times_print(struct times *t, const char *what,
			       unsigned long nr_extents)
{
	if (!t->nr)
		return;
	qsort(t->ns, t->nr, sizeof(t->ns[0]), times_compare);
	printf("%s %lu %.2f %.2f %u\n", what, nr_extents,
	       (double)t->ns[t->nr / 2] / 1000,
	       (double)t->ns[t->nr * 9 / 10] / 1000, t->nr);
	fflush(stdout);
}

#endif
