/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "images.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model-tree.h"

/* ---- what differs --------------------------------------------------------------- */

static void add_unit(struct diff *d, uint64_t off)
{
	uint32_t group = off / d->group;

	if (d->nr == d->cap) {
		d->cap = d->cap ? 2 * d->cap : 1024;
		d->at = model_alloc(d->at, d->cap * sizeof(*d->at));
		d->of = model_alloc(d->of, d->cap * sizeof(*d->of));
	}
	if (!d->nr || d->at[d->nr - 1] / (d->group / d->unit) != group)
		d->nr_group++;
	d->at[d->nr] = off / d->unit;
	d->of[d->nr++] = d->nr_group - 1;
}

void diff_build(struct diff *d, enum msnap_sim_kind kind, const uint8_t *cpu,
		const uint8_t *media, const struct blockset *blocks)
{
	d->unit = kind == MSNAP_SIM_LINES ? 8 : 512;
	d->group = kind == MSNAP_SIM_LINES ? 64 : 4096;
	d->nr = d->nr_group = 0;
	for (unsigned i = 0; i < blocks->nr; i++) {
		uint64_t off = (uint64_t)blocks->blk[i] * CRASH_BLOCK;
		uint64_t end = off + CRASH_BLOCK;

		if (memcmp(cpu + off, media + off, CRASH_BLOCK) == 0)
			continue;
		for (; off < end; off += d->unit)
			if (memcmp(cpu + off, media + off, d->unit))
				add_unit(d, off);
	}
}

void diff_free(struct diff *d)
{
	free(d->at);
	free(d->of);
	memset(d, 0, sizeof(*d));
}

/* ---- which images ------------------------------------------------------------------ */

static unsigned all_subsets(enum choice_how how, unsigned nr, struct choice *out)
{
	for (uint32_t set = 0; set < 1u << nr; set++)
		out[set] = (struct choice){ .how = how, .n = set };
	return 1u << nr;
}

/* The ends, every group alone and every group missing. */
static unsigned all_singles(const struct diff *d, struct choice *out)
{
	unsigned n = 0;

	out[n++] = (struct choice){ .how = CHOICE_NONE };
	out[n++] = (struct choice){ .how = CHOICE_ALL };
	for (unsigned g = 0; g < d->nr_group; g++) {
		out[n++] = (struct choice){ .how = CHOICE_ALONE, .n = g };
		out[n++] = (struct choice){ .how = CHOICE_MISSING, .n = g };
	}
	return n;
}

/* Leave @cap of them, any. */
static unsigned thin(struct rng *rng, unsigned nr, unsigned cap, struct choice *out)
{
	for (unsigned i = 0; i < cap && cap < nr; i++) {
		unsigned j = i + rng_below(rng, nr - i);
		struct choice c = out[i];

		out[i] = out[j];
		out[j] = c;
	}
	return cap < nr ? cap : nr;
}

static struct choice any_choice(const struct diff *d, struct rng *rng)
{
	static const enum choice_how hows[] = {
		CHOICE_ALONE, CHOICE_MISSING, CHOICE_MISSING, CHOICE_TORN,
		CHOICE_TORN, CHOICE_GROUPS, CHOICE_UNITS,
	};
	struct choice c = { .how = hows[rng_below(rng, 7)], .seed = rng_next(rng) };

	if (c.how == CHOICE_GROUPS || c.how == CHOICE_UNITS)
		c.n = 1 + rng_below(rng, 7);
	else
		c.n = rng_below(rng, d->nr_group);
	return c;
}

unsigned choices_make(const struct diff *d, struct rng *rng, unsigned cap,
		      struct choice *out)
{
	unsigned n = 2;

	if (cap > CHOICE_MAX)
		cap = CHOICE_MAX;
	if (d->nr <= CHOICE_FEW)
		return thin(rng, all_subsets(CHOICE_UNIT_SET, d->nr, out), cap, out);
	if (2 * d->nr_group + 2 <= cap / 2) {
		n = d->nr_group <= CHOICE_FEW && 1u << d->nr_group <= cap / 2 ?
			    all_subsets(CHOICE_GROUP_SET, d->nr_group, out) :
			    all_singles(d, out);
	} else {
		out[0] = (struct choice){ .how = CHOICE_NONE };
		out[1] = (struct choice){ .how = CHOICE_ALL };
		n = thin(rng, 2, cap, out);
	}
	for (; n < cap; n++)
		out[n] = any_choice(d, rng);
	return n;
}

/* ---- one image ----------------------------------------------------------------------- */

static bool by_chance(const struct choice *c, uint32_t what, unsigned eighths)
{
	return rng_mix(c->seed ^ (what + 1) * 0x9e3779b97f4a7c15ull) % 8 < eighths;
}

static bool survives(const struct diff *d, const struct choice *c, unsigned i)
{
	switch (c->how) {
	case CHOICE_NONE:
		return false;
	case CHOICE_ALL:
		return true;
	case CHOICE_ALONE:
		return d->of[i] == c->n;
	case CHOICE_MISSING:
		return d->of[i] != c->n;
	case CHOICE_TORN:
		return d->of[i] != c->n || by_chance(c, i, 4);
	case CHOICE_GROUPS:
		return by_chance(c, d->of[i], c->n);
	case CHOICE_UNITS:
		return by_chance(c, i, c->n);
	case CHOICE_UNIT_SET:
		return c->n >> i & 1;
	case CHOICE_GROUP_SET:
		return c->n >> d->of[i] & 1;
	}
	return false;
}

void choice_apply(const struct diff *d, const struct choice *c, const uint8_t *cpu,
		  struct scratch *s)
{
	for (unsigned i = 0; i < d->nr; i++) {
		uint64_t off = (uint64_t)d->at[i] * d->unit;

		if (survives(d, c, i))
			scratch_store(s, off, cpu + off, d->unit);
	}
}

void choice_print(const struct diff *d, const struct choice *c, char *buf,
		  size_t size)
{
	static const char *const name[] = {
		"none", "all", "alone", "all but", "all, torn", "groups at random",
		"units at random", "units of set", "groups of set",
	};

	snprintf(buf, size, "%s %#x (seed %#llx) of %u units of %u bytes in %u groups",
		 name[c->how], c->n, (unsigned long long)c->seed, d->nr, d->unit,
		 d->nr_group);
}
