/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * explore - crash the engine at every point, in every way, and see what is left.
 *
 * Usage: explore [--images N] [--time SECONDS] [--seed S] [--kind lines|pages|both]
 *                [--workload singles|pairs|random|format|all] [--per-point N]
 *                [--skip N] [--runs N] [--replay PASS:INDEX] [--broken]
 *
 * Runs the workloads, pass after pass, until N images were explored, the time is up or
 * it is interrupted; without either, one pass, or of it --runs after the first --skip.  Each run depends on seed, pass and index only, so
 * that --replay with the other options as they were repeats the run that a violation
 * was found in.  Exit status: 0 no violation, 1 some, 2 wrong usage.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cow/break.h"
#include "rig.h"
#include "workload.h"

#define POOL_SIZE (4u << 20)
#define RANDOM_RUNS 64 /* in a pass */
#define RANDOM_OPS 300
#define FORMAT_RUNS 8 /* in a pass */
#define FORMAT_PER_POINT 300 /* images: it has four drains only */
#define HANG 600 /* seconds, on a busy machine */
#define MAX_VIOLATIONS 5

#ifdef MSNAP_BREAKABLE
int msnap_broken;
#endif

enum set { SET_SINGLES = 1, SET_PAIRS = 2, SET_RANDOM = 4, SET_FORMAT = 8, SET_ALL = 15 };

static struct {
	uint64_t images;
	double time;
	uint64_t seed;
	bool lines, pages;
	const char *workload;
	unsigned sets;
	unsigned per_point;
	uint64_t skip, runs; /* runs 0: all */
	long replay_pass, replay_index; /* -1: no */
	bool broken;
} opt = { .seed = 1, .lines = true, .pages = true, .workload = "all", .sets = SET_ALL,
	  .per_point = 6, .replay_pass = -1 };

static struct {
	uint64_t singles, pairs, randoms, formats, violations;
} done;

static struct rig_base base[2]; /* after a crash, after a clean end */
static struct rig *rig[2][2]; /* lines, pages; of each base */
static bool loaded[2][2]; /* has it the image of its base? */
static const char *running = "start"; /* for the signal handler */
static volatile sig_atomic_t stop;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static struct rig_count total(void)
{
	struct rig_count sum = { 0 };

	for (int k = 0; k < 4; k++) {
		const struct rig_count *c;

		if (!rig[k / 2][k % 2])
			continue;
		c = &rig[k / 2][k % 2]->count;
		sum.images += c->images;
		sum.nested += c->nested;
		sum.points += c->points;
		sum.states += c->states;
		sum.full += c->full;
		sum.ops += c->ops;
		sum.no_space += c->no_space;
	}
	return sum;
}

/* ---- runs --------------------------------------------------------------------------- */

static void run_single(struct rig *r, uint64_t i)
{
	rig_op(r, &workload_single[i]);
	done.singles++;
}

static void run_pair(struct rig *r, uint64_t i)
{
	static const struct op commit = { .code = OP_COMMIT };
	bool apart = rng_below(&r->rng, 2);

	if (rig_op(r, &workload_single[i / workload_single_nr]) == 0 &&
	    (!apart || rig_op(r, &commit) == 0))
		rig_op(r, &workload_single[i % workload_single_nr]);
	done.pairs++;
}

static void run_random(struct rig *r)
{
	for (unsigned i = 0; i < RANDOM_OPS && !r->failed; i++) {
		struct op op = workload_random(&r->rng, r->model);

		rig_op(r, &op);
	}
	done.randoms++;
}

/* mkfs over what is there, and the first changes of the new pool. */
static void run_format(struct rig *r)
{
	if (rig_format(r) == 0)
		for (unsigned i = 0; i < state_alive_nr && !r->failed; i++)
			rig_op(r, &state_alive_op[i]);
	done.formats++;
}

/* The workloads of a pass, numbered. */
static uint64_t nr_runs(void)
{
	uint64_t n = workload_single_nr;

	return (opt.sets & SET_SINGLES ? n : 0) + (opt.sets & SET_PAIRS ? n * n : 0) +
	       (opt.sets & SET_RANDOM ? RANDOM_RUNS : 0) +
	       (opt.sets & SET_FORMAT ? FORMAT_RUNS : 0);
}

static bool is_format(uint64_t i)
{
	return opt.sets & SET_FORMAT && i >= nr_runs() - FORMAT_RUNS;
}

static void run_number(struct rig *r, uint64_t i)
{
	uint64_t n = workload_single_nr;

	if (is_format(i)) {
		run_format(r);
		return;
	}

	if (opt.sets & SET_SINGLES) {
		if (i < n) {
			run_single(r, i);
			return;
		}
		i -= n;
	}
	if (opt.sets & SET_PAIRS && i < n * n)
		run_pair(r, i);
	else
		run_random(r);
}

static bool is_random(uint64_t i)
{
	uint64_t end = nr_runs() - (opt.sets & SET_FORMAT ? FORMAT_RUNS : 0);

	return opt.sets & SET_RANDOM && i < end && i >= end - RANDOM_RUNS;
}

static void plan(struct rig *r, uint64_t index)
{
	unsigned thin = is_random(index) ? 2 : 1; /* it has many points */

	r->plan = (struct rig_plan){
		.at_drain = opt.per_point / thin ? opt.per_point / thin : 1,
		.between = opt.per_point / 3 ? opt.per_point / 3 : 1,
		.one_store_in = 40 * thin,
		.one_op_in = 4 * thin,
		.one_nested_in = 150,
		.one_torn_in = 60 * thin,
		.one_all_in = 200 * thin,
	};
	if (is_format(index))
		r->plan = (struct rig_plan){ .at_drain = FORMAT_PER_POINT,
					     .between = 10,
					     .one_store_in = 4 };
	if (r->nested)
		r->nested->plan = (struct rig_plan){
			.at_drain = 4,
			.between = 2,
			.one_store_in = 10,
			.one_op_in = 4,
			.few = 8,
		};
}

static void run(uint64_t pass, uint64_t index)
{
	unsigned kind = opt.lines && opt.pages ? (index + pass) & 1 : opt.pages;
	struct rng rng = { rng_mix(opt.seed ^ rng_mix(pass << 40 ^ index)) };
	unsigned b = rng_below(&rng, 2);
	struct rig *r = rig[kind][b];

	r->rng = rng;
	plan(r, index);
	snprintf(r->context, sizeof(r->context),
		 "--seed %llu --kind %s --workload %s --per-point %u --replay %llu:%llu",
		 (unsigned long long)opt.seed,
		 opt.lines && opt.pages ? "both" : opt.lines ? "lines" : "pages",
		 opt.workload, opt.per_point, (unsigned long long)pass,
		 (unsigned long long)index);
	running = r->context;
	alarm(HANG);
	if (!rig_begin(r, &base[b], loaded[kind][b])) {
		run_number(r, index);
		rig_end(r, rng_below(&r->rng, 8) == 0);
	}
	loaded[kind][b] = true;
	done.violations += r->failed;
}

/* ---- passes ---------------------------------------------------------------------------- */

static bool enough(double start)
{
	if (stop || done.violations >= MAX_VIOLATIONS || (opt.broken && done.violations))
		return true;
	return (opt.images && total().images >= opt.images) ||
	       (opt.time > 0 && now() - start >= opt.time);
}

/* Any order will do that mixes the sets, and comes to each run once. */
static uint64_t step_of(uint64_t nr)
{
	static const uint64_t primes[] = { 7919, 7907, 7901 };
	unsigned i = 0;

	while (nr % primes[i] == 0)
		i++;
	return primes[i];
}

static void explore(void)
{
	uint64_t nr = nr_runs(), step = step_of(nr), pass, i;
	uint64_t first = opt.skip < nr ? opt.skip : nr;
	uint64_t end = opt.runs && opt.runs < nr - first ? first + opt.runs : nr;
	double start = now();

	if (opt.replay_pass >= 0) {
		for (unsigned k = 0; k < 4; k++) {
			struct rig *r = rig[k / 2][k % 2];

			if (r)
				r->trace = r->nested->trace = true;
		}
		run(opt.replay_pass, opt.replay_index);
		return;
	}
	for (pass = 0; !enough(start); pass++) {
		for (i = first; i < end && !enough(start); i++)
			run(pass, i * step % nr);
		if (!opt.images && opt.time <= 0)
			break;
	}
}

static void make_rigs(void)
{
	for (int k = 0; k < 4; k++)
		if (k / 2 ? opt.pages : opt.lines)
			rig[k / 2][k % 2] = rig_new(POOL_SIZE,
						    k / 2 ? MSNAP_SIM_PAGES :
							    MSNAP_SIM_LINES,
						    true);
	for (unsigned clean = 0; clean < 2; clean++) {
		struct rig *r = rig[!rig[0][0]][clean];

		snprintf(r->context, sizeof(r->context), "the base image");
		if (rig_make_base(r, workload_base, workload_base_nr, clean,
				  &base[clean]))
			exit(1);
		memset(&r->count, 0, sizeof(r->count));
	}
}

static void free_rigs(void)
{
	for (int k = 0; k < 4; k++) {
		struct rig **r = &rig[k / 2][k % 2];

		if (k / 2 == 0)
			rig_free_base(&base[k], POOL_SIZE);
		if (*r)
			rig_free(*r);
		*r = NULL;
		loaded[k / 2][k % 2] = false;
	}
}

static void print_summary(double seconds)
{
	struct rig_count c = total();

	printf("crash explorer: seed %llu, %llu images at %llu points, %llu recoveries "
	       "crashed again, %llu images without room for new writes, %llu states, "
	       "%llu singles, %llu pairs, %llu random sequences, %llu mkfs, "
	       "%llu violations, "
	       "%.1f s, %.0f images/s\n",
	       (unsigned long long)opt.seed, (unsigned long long)c.images,
	       (unsigned long long)c.points, (unsigned long long)c.nested,
	       (unsigned long long)c.full, (unsigned long long)c.states,
	       (unsigned long long)done.singles, (unsigned long long)done.pairs,
	       (unsigned long long)done.randoms, (unsigned long long)done.formats,
	       (unsigned long long)done.violations, seconds, c.images / seconds);
}

/* ---- can it fail? -------------------------------------------------------------------------- */

#ifdef MSNAP_BREAKABLE
static int try_broken(void)
{
	static const char *const name[MSNAP_BREAK_NR] = {
		"nothing", "fence", "early reuse", "lost reference", "fsync", "rename",
	};
	uint64_t images = opt.images ? opt.images : 50000;
	int missed = 0;

	for (int what = 0; what < MSNAP_BREAK_NR; what++) {
		double start = now();

		memset(&done, 0, sizeof(done));
		make_rigs();
		msnap_broken = what;
		opt.images = what ? images : images / 10;
		explore();
		msnap_broken = 0;
		printf("broken %s: %s after %llu images, %.1f s\n", name[what],
		       done.violations ? "caught" : "nothing found",
		       (unsigned long long)total().images, now() - start);
		missed += !done.violations != !what;
		free_rigs();
	}
	return missed ? 1 : 0;
}
#else
static int try_broken(void)
{
	fputs("explore: built without MSNAP_BREAKABLE\n", stderr);
	return 2;
}
#endif

/* ---- the program ----------------------------------------------------------------------------- */

/* Only what is allowed in a handler. */
static void on_signal(int sig)
{
	static const char died[] = "VIOLATION the engine died or hangs: ";

	if (write(1, died, sizeof(died) - 1) < 0 ||
	    write(1, running, strlen(running)) < 0 || write(1, "\n", 1) < 0)
		_exit(1);
	signal(sig, SIG_DFL);
	if (sig == SIGALRM)
		_exit(1);
	raise(sig);
}

/* The run in progress is ended, and the summary printed. */
static void on_stop(int sig)
{
	(void)sig;
	stop = 1;
}

static void usage(void)
{
	fputs("usage: explore [--images N] [--time SECONDS] [--seed S]\n"
	      "               [--kind lines|pages|both]\n"
	      "               [--workload singles|pairs|random|format|all]\n"
	      "               [--per-point N] [--skip N] [--runs N]\n"
	      "               [--replay PASS:INDEX] [--broken]\n",
	      stderr);
	exit(2);
}

static void set_kind(const char *arg)
{
	opt.lines = strcmp(arg, "pages") != 0;
	opt.pages = strcmp(arg, "lines") != 0;
	if (opt.lines && opt.pages && strcmp(arg, "both"))
		usage();
}

static void set_workload(const char *arg)
{
	static const char *const name[] = { "singles", "pairs", "random", "format",
					    "all" };
	static const unsigned sets[] = { SET_SINGLES, SET_PAIRS, SET_RANDOM,
					 SET_FORMAT, SET_ALL };

	for (unsigned i = 0; i < 5; i++) {
		if (strcmp(arg, name[i]) == 0) {
			opt.workload = name[i];
			opt.sets = sets[i];
			return;
		}
	}
	usage();
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "images", 1, NULL, 'i' },    { "time", 1, NULL, 't' },
		{ "seed", 1, NULL, 's' },      { "kind", 1, NULL, 'k' },
		{ "workload", 1, NULL, 'w' },  { "per-point", 1, NULL, 'p' },
		{ "skip", 1, NULL, 'x' },      { "runs", 1, NULL, 'n' },
		{ "replay", 1, NULL, 'r' },    { "broken", 0, NULL, 'b' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		if (c == 'i')
			opt.images = strtoull(optarg, NULL, 0);
		else if (c == 't')
			opt.time = strtod(optarg, NULL);
		else if (c == 's')
			opt.seed = strtoull(optarg, NULL, 0);
		else if (c == 'k')
			set_kind(optarg);
		else if (c == 'w')
			set_workload(optarg);
		else if (c == 'p')
			opt.per_point = strtoul(optarg, NULL, 0);
		else if (c == 'x')
			opt.skip = strtoull(optarg, NULL, 0);
		else if (c == 'n')
			opt.runs = strtoull(optarg, NULL, 0);
		else if (c == 'r' && sscanf(optarg, "%ld:%ld", &opt.replay_pass,
					    &opt.replay_index) == 2)
			continue;
		else if (c == 'b')
			opt.broken = true;
		else
			usage();
	}
	if (optind < argc)
		usage();
}

int main(int argc, char **argv)
{
	double start = now();

	parse(argc, argv);
	signal(SIGSEGV, on_signal);
	signal(SIGABRT, on_signal);
	signal(SIGALRM, on_signal);
	signal(SIGINT, on_stop);
	signal(SIGTERM, on_stop);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (opt.broken)
		return try_broken();
	make_rigs();
	printf("%u single workloads, %u pairs\n", workload_single_nr,
	       workload_single_nr * workload_single_nr);
	explore();
	print_summary(now() - start);
	free_rigs();
	return done.violations ? 1 : 0;
}
