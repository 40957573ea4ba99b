/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rig.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cow/commit.h"
#include "fixed.h"
#include "model-tree.h"

#define NEW_UUID 0xa5 /* of the pool that mkfs makes in the place of another */

static struct rig *rigs[16]; /* to find them by their memory */

static struct rig *rig_of(struct msnap_mem *mem)
{
	unsigned i = 0;

	while (rigs[i]->mem != mem)
		i++;
	return rigs[i];
}

__attribute__((format(printf, 2, 3)))
static int violation(struct rig *rig, const char *fmt, ...)
{
	char op[250] = "-";
	va_list ap;

	rig->failed = true;
	if (rig->op)
		op_print(rig->op, op, sizeof(op));
	printf("VIOLATION %s\n  point %u, operation: %s\n  ", rig->context, rig->point,
	       op);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	return -1;
}

/* ---- which states a crash may leave ------------------------------------------------- */

static uint64_t generation(struct rig *rig)
{
	struct msnap_pool_info info;

	msnap_pool_info(rig->pool, &info);
	return info.generation;
}

/* A commit has ended: what was being written is durable. */
static void advance(struct rig *rig)
{
	if (!rig->writing)
		return;
	state_set(&rig->previous, rig->durable);
	rig->durable = rig->writing;
	rig->writing = NULL;
	rig->count.states++;
}

static void note_commits(struct rig *rig)
{
	uint64_t gen = generation(rig);

	if (gen == rig->durable_gen)
		return;
	advance(rig);
	rig->durable_gen = gen;
}

/* A commit has begun.  It must be of what was before the operation or is after it. */
static int note_writing(struct rig *rig)
{
	uint64_t hash;

	if (rig->writing)
		return 0;
	if (dump_pool(&rig->dump, rig->pool))
		return violation(rig, "a commit of what cannot be read: %s",
				 rig->dump.at);
	hash = dump_hash(rig->dump.text, rig->dump.len);
	if (hash == rig->after->hash) {
		rig->writing = state_get(rig->after);
	} else if (hash == rig->before->hash) {
		rig->writing = state_get(rig->before);
	} else {
		violation(rig, "a commit of a state that never was; against the state "
			       "after the operation:");
		dump_diff(rig->after->text, rig->dump.text);
		puts("  against the state before it:");
		dump_diff(rig->before->text, rig->dump.text);
		return -1;
	}
	return 0;
}

/* ---- points ------------------------------------------------------------------------- */

static void sync_scratch(struct rig *rig)
{
	scratch_source_changed(rig->scratch, &rig->touched);
}

/* Crash the recovery of the image that the choice makes. */
static void crash_recovery(struct rig *rig, const struct choice *c)
{
	struct rig *r = rig->nested;
	struct rig_base base = { r->origin, state_get(rig->judge.found) };
	char image[150];

	scratch_restore(rig->scratch);
	choice_apply(&rig->diff, c, rig->mem->base, rig->scratch);
	memcpy(r->origin, rig->scratch->mem.base, rig->mem->size);
	choice_print(&rig->diff, c, image, sizeof(image));
	snprintf(r->context, sizeof(r->context), "%.300s, point %u, recovery of %s",
		 rig->context, rig->point, image);
	r->rng.x = rng_next(&rig->rng);
	rig->count.nested++;
	if (!rig_begin(r, &base, false)) {
		for (unsigned i = 0; i < state_alive_nr && !r->failed; i++)
			rig_op(r, &state_alive_op[i]);
		rig_end(r, true);
	}
	rig->count.images += r->count.images;
	rig->failed |= r->failed;
	memset(&r->count, 0, sizeof(r->count));
	state_put(base.state);
}

/* @one_in: of so many recoveries, one is crashed. */
static void judge_choice(struct rig *rig, const struct choice *c, unsigned one_in)
{
	struct verdict v = { rig->durable, rig->durable_gen, rig->writing,
			     rig->previous, rig->formatting != NOT_FORMATTING };
	char image[150];

	choice_apply(&rig->diff, c, rig->mem->base, rig->scratch);
	rig->count.images++;
	if (rig->formatting == MAKING ? judge_format(&rig->judge, rig->scratch, &v) :
					judge_image(&rig->judge, rig->scratch, &v)) {
		choice_print(&rig->diff, c, image, sizeof(image));
		violation(rig, "image %s:\n  %s", image, rig->judge.why);
		if (rig->judge.want)
			dump_diff(rig->judge.want->text, rig->judge.dump.text);
	} else if (rig->nested && one_in && rng_below(&rig->rng, one_in) == 0) {
		crash_recovery(rig, c);
	}
	scratch_restore(rig->scratch);
}

/* A root record that lacks one unit is what the next commit finds in its place: what it
 * stores there must not complete it. */
static void torn_root(struct rig *rig)
{
	struct choice c = { .how = CHOICE_UNIT_SET };
	unsigned nr = rig->diff.nr;

	if (!rig->nested || nr < 2 || nr > 16 || !rig->plan.one_torn_in ||
	    rng_below(&rig->rng, rig->plan.one_torn_in))
		return;
	c.n = ((1u << nr) - 1) & ~(1u << rng_below(&rig->rng, nr));
	judge_choice(rig, &c, 1);
}

static bool all_subsets(struct rig *rig)
{
	if (rig->diff.nr <= rig->plan.few)
		return true;
	return rig->diff.nr <= CHOICE_FEW && rig->plan.one_all_in &&
	       rng_below(&rig->rng, rig->plan.one_all_in) == 0;
}

static void point(struct rig *rig, unsigned cap)
{
	static struct choice choices[2][CHOICE_MAX];
	struct choice *c = choices[!!rig->nested];
	unsigned nr;

	if (rig->busy || rig->failed || !cap)
		return;
	rig->busy = true;
	rig->point++;
	rig->count.points++;
	sync_scratch(rig);
	diff_build(&rig->diff, rig->kind, rig->mem->base, rig->scratch->source,
		   &rig->touched);
	if (all_subsets(rig))
		cap = CHOICE_MAX;
	nr = choices_make(&rig->diff, &rig->rng, cap, c);
	for (unsigned i = 0; i < nr && !rig->failed; i++)
		judge_choice(rig, &c[i], rig->plan.one_nested_in);
	if (!rig->failed)
		torn_root(rig);
	rig->busy = false;
}

static void maybe_point(struct rig *rig, unsigned one_in)
{
	if (one_in && rng_below(&rig->rng, one_in) == 0)
		point(rig, rig->plan.between);
}

/* ---- the engine's door ------------------------------------------------------------------ */

static void on_flush(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	struct rig *rig = rig_of(mem);

	blockset_add(&rig->touched, off, len);
	maybe_point(rig, rig->plan.one_store_in);
	rig->inner->flush(mem, off, len);
}

/* The first thing that mkfs makes durable is that the old pool is none any more. */
static void be_empty(struct rig *rig)
{
	state_set(&rig->previous, NULL);
	state_set(&rig->durable, state_get(rig->after));
	rig->durable_gen = 1;
}

static int on_drain(struct msnap_mem *mem)
{
	struct rig *rig = rig_of(mem);
	int err;

	if (rig->pool && !rig->failed)
		note_commits(rig);
	/* Without a pool yet: opening it commits nothing. */
	if (!rig->failed && (!rig->pool || !note_writing(rig)))
		point(rig, rig->plan.at_drain);
	err = rig->inner->drain(mem);
	if (!err && rig->formatting == MAKING)
		be_empty(rig);
	return err;
}

static void on_copy(struct msnap_mem *mem, uint64_t off, const void *src, size_t len)
{
	struct rig *rig = rig_of(mem);

	blockset_add(&rig->touched, off, len);
	rig->inner->copy(mem, off, src, len);
	maybe_point(rig, rig->plan.one_store_in);
}

static int on_reserve(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	struct rig *rig = rig_of(mem);

	blockset_add(&rig->touched, off, len);
	maybe_point(rig, rig->plan.one_store_in);
	return rig->inner->reserve(mem, off, len);
}

/* Zeros, or what was there. */
static int on_punch(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	struct rig *rig = rig_of(mem);

	blockset_add(&rig->touched, off, len);
	memset(mem->base + off, 0, len);
	maybe_point(rig, rig->plan.one_store_in);
	return 0;
}

static int on_share(struct msnap_mem *mem, uint64_t off, int fd, uint64_t src_off,
		    uint64_t len)
{
	struct rig *rig = rig_of(mem);

	(void)fd;
	blockset_add(&rig->touched, off, len);
	memcpy(mem->base + off, op_view() + src_off, len);
	if (mem->copy_is_durable)
		rig->inner->flush(mem, off, len);
	maybe_point(rig, rig->plan.one_store_in);
	return 0;
}

/* The memory outlives the pool. */
static void on_close(struct msnap_mem *mem)
{
	(void)mem;
}

/* ---- making and ending ---------------------------------------------------------------------- */

static uint8_t *map_image(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		fputs("out of memory\n", stderr);
		exit(2);
	}
	return p;
}

struct rig *rig_new(uint64_t size, enum msnap_sim_kind kind, bool nested)
{
	struct rig *rig = model_alloc(NULL, sizeof(*rig));
	unsigned i = 0;

	memset(rig, 0, sizeof(*rig));
	if (msnap_sim_new(size, kind, &rig->mem)) {
		fputs("out of memory\n", stderr);
		exit(2);
	}
	rig->kind = kind;
	rig->inner = rig->mem->ops;
	rig->ops = *rig->inner;
	rig->ops.flush = on_flush;
	rig->ops.drain = on_drain;
	rig->ops.copy = on_copy;
	rig->ops.reserve = on_reserve;
	rig->ops.punch = on_punch;
	rig->ops.share = on_share;
	rig->ops.close = on_close;
	rig->mem->ops = &rig->ops;
	rig->origin = map_image(size);
	rig->scratch = scratch_new(size, msnap_sim_media(rig->mem));
	while (rigs[i])
		i++;
	rigs[i] = rig;
	if (nested)
		rig->nested = rig_new(size, kind, false);
	return rig;
}

void rig_free(struct rig *rig)
{
	for (unsigned i = 0; i < sizeof(rigs) / sizeof(rigs[0]); i++)
		if (rigs[i] == rig)
			rigs[i] = NULL;
	if (rig->nested)
		rig_free(rig->nested);
	munmap(rig->origin, rig->mem->size);
	scratch_free(rig->scratch);
	diff_free(&rig->diff);
	judge_done(&rig->judge);
	dump_free(&rig->dump);
	rig->inner->close(rig->mem);
	free(rig);
}

/* ---- a run -------------------------------------------------------------------------------------- */

/* CPU and media show the image. */
static void load(struct rig *rig, const uint8_t *image, bool same)
{
	uint8_t *media = msnap_sim_media(rig->mem);

	if (!same) {
		if (image != rig->origin)
			memcpy(rig->origin, image, rig->mem->size);
		memcpy(media, image, rig->mem->size);
		msnap_sim_crash(rig->mem);
		scratch_source_changed_all(rig->scratch);
	}
	for (unsigned i = 0; same && i < rig->touched.nr; i++) {
		uint64_t off = (uint64_t)rig->touched.blk[i] * CRASH_BLOCK;

		memcpy(media + off, rig->origin + off, CRASH_BLOCK);
		memcpy(rig->mem->base + off, rig->origin + off, CRASH_BLOCK);
	}
	if (same)
		sync_scratch(rig);
	blockset_clear(&rig->touched);
}

static int open_pool(struct rig *rig)
{
	static const struct msnap_open_args args = {
		.flags = MSNAP_OPEN_NO_BACKGROUND,
		.snap_step = 2,
	};
	struct msnap_why why = { "" };
	int err = msnap_pool_open_mem(rig->mem, "rig", &args, &rig->pool, &why);

	if (!err)
		return 0;
	rig->pool = NULL;
	return violation(rig, "the pool cannot be opened: %s", why.text);
}

/* Opening stores too: what is durable must be known before. */
static uint64_t newest_root(struct rig *rig)
{
	const struct msnap_super *super = (const void *)rig->mem->base;
	struct msnap_root root;

	return msnap_root_read(rig->mem, super->uuid, 0, &root) ? 0 :
								  get64(root.gen);
}

int rig_begin(struct rig *rig, const struct rig_base *base, bool same)
{
	rig->failed = false;
	rig->point = 0;
	rig->op = NULL;
	load(rig, base->image, same);
	fixed_reset();
	rig->model = model_copy(base->state->model);
	rig->before = state_get(base->state);
	rig->after = state_get(base->state);
	rig->durable = state_get(base->state);
	rig->pool = NULL;
	rig->durable_gen = newest_root(rig);
	if (open_pool(rig)) {
		rig_end(rig, false);
		return -1;
	}
	return 0;
}

/* What the operation returned means for what is durable. */
static void settle_durable(struct rig *rig, bool commits)
{
	note_commits(rig);
	if (!commits)
		return;
	advance(rig);
	if (rig->durable->hash != rig->after->hash)
		state_set(&rig->durable, state_get(rig->after));
}

static int compare_live(struct rig *rig)
{
	if (dump_pool(&rig->dump, rig->pool))
		return violation(rig, "not readable: %s", rig->dump.at);
	if (dump_hash(rig->dump.text, rig->dump.len) == rig->after->hash)
		return 0;
	violation(rig, "it did something else than the model:");
	dump_diff(rig->after->text, rig->dump.text);
	return -1;
}

/* The model after the operation.  *ret: what it returned. */
static struct model *try_model(struct rig *rig, const struct op *op, long *ret)
{
	struct model *next = model_copy(rig->model);

	*ret = op_on_model(next, op);
	if (*ret < 0) {
		model_free(next);
		next = model_copy(rig->model);
	}
	return next;
}

/* No space is no violation: the operation has not happened, or a copy only in part. */
static bool is_short(struct rig *rig, const struct op *op, long ret, long want)
{
	struct op part = *op;

	if (ret == -ENOSPC) {
		rig->count.no_space++;
		state_set(&rig->after, state_get(rig->before));
		return true;
	}
	if (op->code != OP_COPY || ret < 0 || ret >= want)
		return false;
	part.len = ret;
	rig->count.no_space++;
	op_on_model(rig->model, &part);
	state_set(&rig->after, state_new(rig->model));
	return true;
}

static void trace(const struct op *op, long ret)
{
	char text[250];

	op_print(op, text, sizeof(text));
	printf("  %s = %ld\n", text, ret);
}

int rig_op(struct rig *rig, const struct op *op)
{
	long want, ret;
	struct model *next = try_model(rig, op, &want);

	rig->op = op;
	rig->count.ops++;
	state_set(&rig->after, state_new(next));
	ret = op_on_pool(rig->pool, op);
	if (rig->trace)
		trace(op, ret);
	if (ret == want) {
		model_free(rig->model);
		rig->model = next;
	} else {
		model_free(next);
		if (!rig->failed && !is_short(rig, op, ret, want))
			return violation(rig, "returned %ld, not %ld", ret, want);
	}
	if (rig->failed)
		return -1;
	settle_durable(rig, op_commits(op) && ret >= 0);
	if (compare_live(rig))
		return -1;
	if (op_commits(op) && ret >= 0)
		point(rig, rig->plan.between ? 1 : 0); /* what it promised is there */
	else
		maybe_point(rig, rig->plan.one_op_in);
	state_set(&rig->before, state_get(rig->after));
	return rig->failed ? -1 : 0;
}

static void check_end(struct rig *rig)
{
	static const struct op settle = { .code = OP_SETTLE };
	static const struct op commit = { .code = OP_COMMIT };
	int64_t stray;
	char why[400];

	if (rig_op(rig, &settle) || rig_op(rig, &commit))
		return;
	if (judge_check(rig->pool, true, why, sizeof(why))) {
		violation(rig, "at the end: %s", why);
		return;
	}
	settle_durable(rig, true);
	stray = image_stray(rig->mem->base, rig->origin, rig->mem->size,
			    &rig->touched);
	sync_scratch(rig);
	if (stray < 0)
		stray = scratch_stray(rig->scratch);
	if (stray >= 0)
		violation(rig, "a store at %#llx that was not announced",
			  (unsigned long long)stray);
}

/* A clean end has crashes of its own; what it leaves must be right. */
static void close_cleanly(struct rig *rig)
{
	int err = msnap_pool_close(rig->pool);

	rig->pool = NULL;
	if (rig->failed)
		return;
	if (err) {
		violation(rig, "the end returned %d", err);
		return;
	}
	/* Its last root has no commit's number of its own: one above it. */
	advance(rig);
	point(rig, 1);
}

/* As after a reboot: the pool is left, and of the CPU's image what is on the media. */
static void lose_all(struct rig *rig)
{
	msnap_pool_abandon(rig->pool);
	rig->pool = NULL;
	msnap_sim_crash(rig->mem);
}


/* As msnap_pool_create() does it. */
static void format(struct rig *rig)
{
	struct msnap_why why = { "" };

	rig->formatting = MAKING;
	fixed_uuid(NEW_UUID);
	if (msnap_pool_format_mem(rig->mem, "rig", NULL, &why))
		violation(rig, "mkfs fails: %s", why.text);
	rig->formatting = MADE;
	if (!rig->failed)
		point(rig, 1);
	if (!rig->failed && !open_pool(rig))
		close_cleanly(rig);
	rig->formatting = NOT_FORMATTING;
}

int rig_format(struct rig *rig)
{
	if (rig->failed)
		return -1;
	lose_all(rig);
	rig->op = NULL;
	model_free(rig->model);
	rig->model = model_new();
	state_set(&rig->after, state_new(rig->model));
	state_set(&rig->before, state_get(rig->after));
	format(rig);
	state_set(&rig->previous, NULL);
	rig->durable_gen = newest_root(rig);
	return rig->failed ? -1 : open_pool(rig);
}

int rig_end(struct rig *rig, bool close)
{
	if (rig->pool && !rig->failed)
		check_end(rig);
	if (rig->pool && !rig->failed && close)
		close_cleanly(rig);
	if (rig->pool)
		msnap_pool_abandon(rig->pool);
	rig->pool = NULL;
	state_set(&rig->before, NULL);
	state_set(&rig->after, NULL);
	state_set(&rig->previous, NULL);
	state_set(&rig->durable, NULL);
	state_set(&rig->writing, NULL);
	model_free(rig->model);
	rig->model = NULL;
	rig->count.full += rig->judge.nr_full;
	rig->judge.nr_full = 0;
	return rig->failed ? -1 : 0;
}

/* ---- what runs begin with --------------------------------------------------------------------------- */

int rig_make_base(struct rig *rig, const struct op *op, unsigned nr, bool clean,
		  struct rig_base *base)
{
	struct model *empty = model_new();
	struct rig_plan plan = rig->plan;
	struct msnap_why why;
	int err;

	memset(&rig->plan, 0, sizeof(rig->plan));
	memset(rig->origin, 0, rig->mem->size);
	load(rig, rig->origin, false);
	fixed_reset();
	err = msnap_pool_format_mem(rig->mem, "base", NULL, &why);
	base->image = map_image(rig->mem->size);
	base->state = state_new(empty);
	memcpy(base->image, msnap_sim_media(rig->mem), rig->mem->size);
	if (!err)
		err = rig_begin(rig, base, false);
	for (unsigned i = 0; !err && i < nr; i++)
		err = rig_op(rig, &op[i]);
	if (!err) {
		state_set(&base->state, state_get(rig->after));
		err = rig_end(rig, clean);
		memcpy(base->image, msnap_sim_media(rig->mem), rig->mem->size);
	}
	rig->plan = plan;
	model_free(empty);
	return err;
}

void rig_free_base(struct rig_base *base, uint64_t size)
{
	if (base->image)
		munmap(base->image, size);
	state_put(base->state);
	memset(base, 0, sizeof(*base));
}
