/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * judge.h - is a crash image what it may be?
 *
 * The image is opened as after a reboot.  It must open for writing, show exactly the
 * state that its newest root stands for, pass the checker with all data, take new
 * writes and commit them, show them, and pass again.  Before that, the root before
 * the newest is opened for reading only and must be whole, too.
 */
#ifndef CRASH_JUDGE_H
#define CRASH_JUDGE_H

#include "dump.h"
#include "scratch.h"
#include "state.h"

struct verdict {
	struct state *durable; /* of the last commit that has returned */
	uint64_t durable_gen;
	struct state *writing; /* of the commit in progress, or NULL */
	struct state *previous; /* of the commit before durable; NULL: not known */
	bool alone; /* there need not be a root before the newest */
};

struct judge {
	struct dump dump;
	char why[1000]; /* it is not */
	char log[400];	/* last line of the engine's log */
	unsigned nr_bad_log; /* lines that tell of damage */
	struct state *found; /* what a good image showed; borrowed */
	uint64_t found_gen;
	const struct state *want; /* what a wrong one should have shown, or NULL */
	uint64_t nr_full; /* images that had no space for new writes */
};

/* 0, or -1 with j->why.  The scratch memory is changed. */
int judge_image(struct judge *j, struct scratch *s, const struct verdict *v);

/* The same of an image that a crash inside of mkfs left: it may also be no pool at all,
 * and then mkfs makes one of it. */
int judge_format(struct judge *j, struct scratch *s, const struct verdict *v);

/* Run the checker; 0, or -1 with @why.  @data: contents, too.  (What has a name is
 * verified in any case, when it is read to be compared.) */
int judge_check(struct msnap_pool *pool, bool data, char *why, size_t size);

void judge_done(struct judge *j);

#endif
