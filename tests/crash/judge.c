/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "judge.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "cow/pool.h"

__attribute__((format(printf, 2, 3)))
static int wrong(struct judge *j, const char *fmt, ...)
{
	size_t len;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(j->why, sizeof(j->why), fmt, ap);
	va_end(ap);
	len = strlen(j->why);
	if (j->log[0])
		snprintf(j->why + len, sizeof(j->why) - len, " [log: %s]", j->log);
	return -1;
}

static void on_log(void *arg, int level, const char *line)
{
	struct judge *j = arg;

	snprintf(j->log, sizeof(j->log), "%s", line);
	if (level <= LOG_ERR)
		j->nr_bad_log++;
}

static struct msnap_pool *open_image(struct judge *j, struct scratch *s,
				     unsigned flags)
{
	struct msnap_open_args args = { .flags = flags | MSNAP_OPEN_NO_BACKGROUND,
					.log = on_log, .log_arg = j };
	struct msnap_why why = { "" };
	struct msnap_pool *pool;
	int err;

	j->log[0] = 0;
	j->nr_bad_log = 0;
	err = msnap_pool_open_mem(&s->mem, "image", &args, &pool, &why);
	if (!err)
		return pool;
	wrong(j, "cannot be opened: %s (%s)", strerror(-err), why.text);
	return NULL;
}

/* ---- the checker ------------------------------------------------------------------ */

static void first_line(void *arg, const char *line)
{
	char *why = arg;

	if (!why[0])
		snprintf(why, 300, "%s", line);
}

int judge_check(struct msnap_pool *pool, bool data, char *why, size_t size)
{
	struct msnap_check_result res;
	char line[300] = "";
	int err = msnap_check(pool, data ? MSNAP_CHECK_DATA : 0, first_line, line,
			      &res);

	if (!err && !res.nr_errors)
		return 0;
	if (err)
		snprintf(why, size, "the checker fails: %s", strerror(-err));
	else
		snprintf(why, size, "the checker finds %llu errors: %s",
			 (unsigned long long)res.nr_errors, line);
	return -1;
}

static int check(struct judge *j, struct msnap_pool *pool, bool data,
		 const char *when)
{
	char why[400];

	if (judge_check(pool, data, why, sizeof(why)))
		return wrong(j, "%s: %s", when, why);
	return 0;
}

/* ---- what it shows ------------------------------------------------------------------- */

static int compare(struct judge *j, struct msnap_pool *pool, const struct state *want,
		   const char *when)
{
	int err = dump_pool(&j->dump, pool);

	if (err)
		return wrong(j, "%s: %s: %s", when, j->dump.at, strerror(-err));
	if (dump_hash(j->dump.text, j->dump.len) == want->hash)
		return 0;
	j->want = want;
	return wrong(j, "%s: it shows another state", when);
}

/* The root before the newest, for reading only: that stores nothing. */
static int previous_root(struct judge *j, struct scratch *s, const struct verdict *v)
{
	struct msnap_pool *pool = open_image(j, s, MSNAP_OPEN_RDONLY |
						   MSNAP_OPEN_PREVIOUS);
	struct msnap_pool_info info;
	struct state *want;
	int ret = 0;

	if (!pool)
		return -1;
	msnap_pool_info(pool, &info); /* its generation is the newest */
	want = info.generation > v->durable_gen ? v->durable : v->previous;
	if (want) {
		ret = compare(j, pool, want, "previous root");
		if (!ret)
			ret = check(j, pool, false, "previous root");
		if (!ret && j->nr_bad_log)
			ret = wrong(j, "previous root: damage was logged");
	}
	msnap_pool_abandon(pool);
	return ret;
}

/* The newest root tells which state it must be. */
static int newest_root(struct judge *j, struct msnap_pool *pool,
		       const struct verdict *v)
{
	struct msnap_pool_info info;

	msnap_pool_info(pool, &info);
	j->found_gen = info.generation;
	if (info.generation < v->durable_gen)
		return wrong(j, "the last commit is lost: root %llu, not %llu",
			     (unsigned long long)info.generation,
			     (unsigned long long)v->durable_gen);
	j->found = info.generation > v->durable_gen && v->writing ? v->writing :
								    v->durable;
	if (info.read_only || j->nr_bad_log)
		return wrong(j, "opening it finds damage");
	if (compare(j, pool, j->found, "after the crash"))
		return -1;
	return check(j, pool, true, "after the crash");
}

/* ---- is it alive? ------------------------------------------------------------------------ */

static int new_writes(struct judge *j, struct msnap_pool *pool)
{
	struct state *after = state_alive(j->found);

	for (unsigned i = 0; i < state_alive_nr; i++) {
		long ret = op_on_pool(pool, &state_alive_op[i]);
		char text[200];

		if (ret == j->found->alive_ret[i])
			continue;
		if (ret == -ENOSPC) {
			j->nr_full++;
			return check(j, pool, true, "full");
		}
		op_print(&state_alive_op[i], text, sizeof(text));
		return wrong(j, "new write: %s returns %ld, not %ld", text, ret,
			     j->found->alive_ret[i]);
	}
	if (compare(j, pool, after, "after new writes"))
		return -1;
	return check(j, pool, false, "after new writes");
}

int judge_image(struct judge *j, struct scratch *s, const struct verdict *v)
{
	struct msnap_pool *pool;
	int ret;

	j->want = NULL;
	if (!v->alone && previous_root(j, s, v))
		return -1;
	pool = open_image(j, s, 0);
	if (!pool)
		return -1;
	ret = newest_root(j, pool, v);
	if (!ret)
		ret = new_writes(j, pool);
	msnap_pool_abandon(pool);
	return ret;
}

/* ---- mkfs ----------------------------------------------------------------------------- */

/* 0, or what opening it says. */
static int try_open(struct judge *j, struct scratch *s, unsigned flags)
{
	struct msnap_open_args args = { .flags = flags | MSNAP_OPEN_NO_BACKGROUND };
	struct msnap_why why = { "" };
	struct msnap_pool *pool;
	int err = msnap_pool_open_mem(&s->mem, "image", &args, &pool, &why);

	if (err)
		wrong(j, "cannot be opened: %s (%s)", strerror(-err), why.text);
	else
		msnap_pool_abandon(pool);
	return err;
}

int judge_format(struct judge *j, struct scratch *s, const struct verdict *v)
{
	struct msnap_why why;
	int err;

	j->want = NULL;
	j->log[0] = 0;
	err = try_open(j, s, MSNAP_OPEN_RDONLY);
	if (!err)
		return judge_image(j, s, v);
	if (err != -EMEDIUMTYPE && err != -EUCLEAN)
		return -1;
	if (msnap_pool_format_mem(&s->mem, "image", NULL, &why) || try_open(j, s, 0))
		return wrong(j, "mkfs cannot make a pool of it");
	return 0;
}

void judge_done(struct judge *j)
{
	dump_free(&j->dump);
}
