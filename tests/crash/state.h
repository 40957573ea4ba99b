/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state.h - one state of the whole filesystem that a crash may leave: the model as it
 * was, its text, and what it becomes when the standard new writes are made after
 * recovery.  Counted; whoever stores a pointer holds a reference.
 */
#ifndef CRASH_STATE_H
#define CRASH_STATE_H

#include "model.h"
#include "op.h"

struct state {
	unsigned refs;
	struct model *model;
	char *text;
	uint64_t hash;
	struct state *alive; /* after the new writes; NULL: not computed yet */
	long alive_ret[16];  /* what each of them returned */
};

/* With one reference, the caller's. */
struct state *state_new(const struct model *m);
struct state *state_get(struct state *s);
void state_put(struct state *s); /* NULL is fine */
/* *place gets @s, with the caller's reference. */
void state_set(struct state **place, struct state *s);

/* The writes that a recovered filesystem must take; the last one commits. */
extern const struct op state_alive_op[];
extern const unsigned state_alive_nr;
/* @s after them; @s's own. */
struct state *state_alive(struct state *s);

#endif
