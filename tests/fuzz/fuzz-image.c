/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz-image.c - hostile pools.
 *
 * An input is a program: which base image, how to open it, mutations of the image,
 * and calls to make.  Whatever it says, no call may crash, hang, leak or touch
 * memory that is not its own; calls on a pool that the checker found sound leave it
 * sound; and what was repaired needs no repair.
 *
 * With clang's libFuzzer (make fuzz) it searches for inputs.  Otherwise it is a
 * program that runs the files it is given, for AFL++ and to run a find again:
 *
 *   fuzz-image [-v] FILE...    run these inputs
 *   fuzz-image -r NR [SEED]    run NR pseudo-random inputs
 *   fuzz-image                 all of tests/fuzz/cases/ and 3,000 random ones
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/pool.h"
#include "cow/repair.h"
#include "exercise.h"
#include "image.h"

#define MAX_MUTATIONS 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static bool verbose;
static bool damage; /* the engine logged some */

static void log_line(void *arg, int level, const char *line)
{
	(void)arg;
	if (level <= 3)
		damage = true;
	if (verbose)
		fprintf(stderr, "  log %d: %s\n", level, line);
}

/* What the input's second byte says. */
enum {
	HOW_RDONLY = 1,
	HOW_REBUILD = 2,
	HOW_PREVIOUS = 4,
	HOW_PAGES = 8,	 /* copies are not durable */
	HOW_ABANDON = 16, /* no clean end */
	HOW_REPAIR = 32,  /* first, and without HOW_AGAIN */
	HOW_AGAIN = 64,	  /* read what was left */
	HOW_SAFELY = 128, /* repair only where nothing is given up */
};

static struct msnap_pool *open_pool(struct msnap_mem *mem, uint8_t how)
{
	struct msnap_open_args args = { .flags = MSNAP_OPEN_NO_BACKGROUND,
					.log = log_line,
					.snap_step = 2 };
	struct msnap_pool *pool;
	struct msnap_why why;
	int err;

	if (how & HOW_RDONLY)
		args.flags |= MSNAP_OPEN_RDONLY;
	if (how & HOW_REBUILD)
		args.flags |= MSNAP_OPEN_REBUILD;
	if (how & HOW_PREVIOUS)
		args.flags |= MSNAP_OPEN_PREVIOUS;
	mem->copy_is_durable = !(how & HOW_PAGES);
	mem->read_only = how & HOW_RDONLY;
	err = msnap_pool_open_mem(mem, "image", &args, &pool, &why);
	if (err && verbose)
		fprintf(stderr, "  open: %s\n", why.text);
	return err ? NULL : pool;
}

static void must(bool is, const char *otherwise)
{
	if (is)
		return;
	fprintf(stderr, "fuzz-image: %s; -v shows why\n", otherwise);
	abort();
}

/* ---- repairing ------------------------------------------------------------- */

struct repairing {
	bool safely;
	unsigned nr; /* problems that were told */
};

static bool answer(void *arg, const struct msnap_problem *problem)
{
	struct repairing *r = arg;

	r->nr++;
	if (verbose)
		fprintf(stderr, "  fsck: %s (%s)\n", problem->text,
			problem->fix ? problem->fix : "nothing to be done");
	return problem->safe || !r->safely;
}

static int fsck(struct msnap_mem *mem, struct repairing *r,
		struct msnap_fsck_result *res)
{
	struct msnap_fsck_args args = {
		.flags = MSNAP_FSCK_FORCE | MSNAP_FSCK_DATA,
		.found = answer,
		.arg = r,
	};
	struct msnap_why why;
	int err;

	mem->copy_is_durable = true;
	mem->read_only = false;
	err = msnap_fsck_mem(mem, "image", &args, res, &why);
	if (err && verbose)
		fprintf(stderr, "  fsck: %s\n", why.text);
	return err;
}

/* Whatever was wrong, a second pass finds nothing. */
static void must_be_repaired(struct msnap_mem *mem)
{
	struct repairing r = { .safely = false };
	struct msnap_fsck_result res;

	if (verbose)
		fprintf(stderr, "  second pass\n");
	must(!fsck(mem, &r, &res) && !r.nr && !res.nr_left,
	     "the second pass is not clean");
}

/* True: everything was repaired. */
static bool repair(struct msnap_mem *mem, bool safely)
{
	struct repairing r = { .safely = safely };
	struct msnap_fsck_result res;
	bool all = !fsck(mem, &r, &res) && !safely;

	if (all)
		must_be_repaired(mem);
	damage = false;
	return all;
}

static bool is_sound(struct msnap_pool *pool)
{
	return !damage && fuzz_check(pool, verbose) == 0 && !damage;
}

static void use(struct msnap_pool *pool, struct fuzz_input *in, bool repaired)
{
	bool sound;

	fuzz_read_all(pool);
	sound = is_sound(pool);
	if (repaired)
		must(sound, "the repaired pool is damaged");
	fuzz_modify(pool, in);
	if (sound && !damage)
		must(is_sound(pool), "the pool was sound and is not any more");
}

static void use_again(struct msnap_mem *mem)
{
	struct msnap_pool *pool = open_pool(mem, HOW_RDONLY);

	if (!pool)
		return;
	fuzz_read_all(pool);
	msnap_pool_close(pool);
}

/* The first byte. */
static enum fuzz_base which_base(uint8_t byte)
{
	static const enum fuzz_base base[] = {
		FUZZ_CRASHED,	   FUZZ_CLEAN,	      FUZZ_EMPTY,
		FUZZ_LEAN_CRASHED, FUZZ_LEAN_CLEAN,   FUZZ_LEAN_CRASHED,
		FUZZ_LEAN_CRASHED, FUZZ_LEAN_CRASHED, FUZZ_LEAN_CLEAN,
	};

	return base[byte % (sizeof(base) / sizeof(base[0]))];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint8_t base = fuzz_u8(&in), how = fuzz_u8(&in);
	unsigned nr = fuzz_u8(&in) % (MAX_MUTATIONS + 1);
	struct msnap_mem *mem = fuzz_image_get(which_base(base));
	struct msnap_pool *pool;
	bool repaired = false;

	damage = false;
	while (nr-- && in.left)
		fuzz_image_mutate(&in);
	fuzz_image_seal();
	if (how & HOW_REPAIR && !(how & HOW_AGAIN))
		repaired = repair(mem, how & HOW_SAFELY) && !(how & HOW_PREVIOUS);
	pool = open_pool(mem, how);
	must(pool || !repaired, "the repaired pool cannot be opened");
	if (!pool)
		return 0;
	use(pool, &in, repaired);
	if (how & HOW_ABANDON)
		msnap_pool_abandon(pool);
	else
		msnap_pool_close(pool);
	if (how & HOW_AGAIN)
		use_again(mem);
	return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_image_init();
	return 0;
}

#ifdef MSNAP_LIBFUZZER

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed);

/*
 * The input's bytes are drawn in a row, so that one more or less changes what all
 * behind it mean: right for half of the time.  Otherwise bytes change in place, and
 * what mutations and calls there are stays.  Mostly on the bases that are done soon.
 */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed)
{
	size_t at;

	if (seed & 1 && size > 4) {
		at = 1 + seed / 64 % (size - 1);
		LLVMFuzzerMutate(data + at, 1, 1);
	} else {
		size = LLVMFuzzerMutate(data, size, max_size);
	}
	if (size && seed / 2 % 16)
		data[0] = seed / 32 % 2 ? 3 : 4;
	return size;
}

/* Small, so that memory is used again while the caches have it: a third of the time
 * of a run.  What is in use is what matters, not what was before. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "quarantine_size_mb=16:malloc_context_size=8";
}

#else

static const char *running; /* for on_alarm() */

static void on_alarm(int sig)
{
	static const char what[] = "fuzz-image: hangs: ";

	(void)sig;
	if (write(2, what, sizeof(what) - 1) < 0 ||
	    write(2, running, strlen(running)) < 0 || write(2, "\n", 1) < 0)
		_exit(1);
	abort();
}

static void run(const char *name, const uint8_t *data, size_t size)
{
	running = name;
	alarm(10);
	if (verbose)
		fprintf(stderr, "%s\n", name);
	LLVMFuzzerTestOneInput(data, size);
	alarm(0);
}

static int run_file(const char *path)
{
	static uint8_t data[65536];
	FILE *file = fopen(path, "rb");
	size_t size;

	if (!file) {
		fprintf(stderr, "fuzz-image: %s: %s\n", path, strerror(errno));
		return 1;
	}
	size = fread(data, 1, sizeof(data), file);
	fclose(file);
	run(path, data, size);
	return 0;
}

static uint64_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Input @i of a series can be made again alone. */
static void run_random(unsigned long i, unsigned long seed)
{
	uint64_t state = (seed + i + 1) * 0x9e3779b97f4a7c15ull;
	uint8_t data[256];
	char name[64];
	size_t size, k;

	size = 4 + rnd(&state) % (sizeof(data) - 4);
	for (k = 0; k < size; k++)
		data[k] = (uint8_t)(rnd(&state) >> 32);
	if (rnd(&state) % 4)
		data[2] = 1 + data[2] % 3; /* few mutations go further */
	snprintf(name, sizeof(name), "-r 1 %lu", seed + i);
	run(name, data, size);
}

static int compare(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* Returns how many cases there are, or -1. */
static int run_cases(void)
{
	const char *src = getenv("MSNAP_SRC");
	struct dirent **entry;
	char dir[PATH_MAX / 2], path[PATH_MAX];
	int i, nr, done = 0, bad = 0;

	snprintf(dir, sizeof(dir), "%s/tests/fuzz/cases", src ? src : ".");
	nr = scandir(dir, &entry, NULL, compare);
	for (i = 0; i < nr; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, entry[i]->d_name);
		if (entry[i]->d_name[0] != '.') {
			bad |= run_file(path);
			done++;
		}
		free(entry[i]);
	}
	if (nr >= 0)
		free(entry);
	return nr < 0 || bad ? -1 : done;
}

static int run_all(void)
{
	int cases = run_cases();
	unsigned long i;

	if (cases < 0) {
		fprintf(stderr, "fuzz-image: tests/fuzz/cases cannot be read\n");
		return 1;
	}
	for (i = 0; i < 3000; i++)
		run_random(i, 0);
	printf("%d cases, 3000 random inputs\n", cases);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long i, nr;
	int status = 0;

	signal(SIGALRM, on_alarm);
	fuzz_image_init();
	if (argc > 1 && !strcmp(argv[1], "-v")) {
		verbose = true;
		argc--;
		argv++;
	}
	if (argc == 1)
		return run_all();
	if (!strcmp(argv[1], "-r")) {
		nr = argc > 2 ? strtoul(argv[2], NULL, 0) : 1000;
		for (i = 0; i < nr; i++)
			run_random(i, argc > 3 ? strtoul(argv[3], NULL, 0) : 0);
		return 0;
	}
	for (i = 1; i < (unsigned long)argc; i++)
		status |= run_file(argv[i]);
	return status;
}

#endif
