/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow/repair.h"

#define LINE 64

/* Memory that a pool's end does not take along. */
struct kept {
	struct msnap_mem *mem;
	struct msnap_mem_ops ops;
	void (*close)(struct msnap_mem *mem);
};

struct crashing {
	bool (*lost)(const char *path);
	struct kept main, other; /* being repaired; after a crash */
	uint8_t *image;		 /* as a crash leaves it */
	unsigned nr, nr_bad, nr_halves;
	uint64_t random;
};

static void stay(struct msnap_mem *mem)
{
	(void)mem;
}

static void make_kept(struct kept *k)
{
	MUST(msnap_sim_new(IMAGE_SIZE, MSNAP_SIM_LINES, &k->mem));
	k->ops = *k->mem->ops;
	k->close = k->ops.close;
	k->ops.close = stay;
	k->mem->ops = &k->ops;
}

static void load_kept(struct kept *k, const uint8_t *image)
{
	memcpy(msnap_sim_media(k->mem), image, IMAGE_SIZE);
	msnap_sim_crash(k->mem);
}

/* ---- repairing ------------------------------------------------------ */

static bool yes(void *arg, const struct msnap_problem *problem)
{
	(void)arg;
	return problem->fix;
}

static bool no(void *arg, const struct msnap_problem *problem)
{
	(void)arg;
	printf("%s\n", problem->text);
	return false;
}

/* The problems that are left, or an error. */
static long repair(struct msnap_mem *mem, bool really)
{
	struct msnap_fsck_args args = { .flags = MSNAP_FSCK_DATA |
						 MSNAP_FSCK_FORCE,
					.found = really ? yes : no };
	struct msnap_fsck_result result;
	struct msnap_why why;
	int err;

	if (!really)
		args.flags |= MSNAP_FSCK_RDONLY;
	err = msnap_fsck_mem(mem, "image", &args, &result, &why);
	if (err)
		printf("%s\n", why.text);
	return err ? err : (long)result.nr_left;
}

/* ---- crashing ------------------------------------------------------- */

static bool coin(struct crashing *c)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return c->random & 1024;
}

/* After the crash: repaired, without problems, and the files are there? */
static bool survives(struct crashing *c, const uint8_t *image)
{
	struct msnap_open_args args = { .flags = MSNAP_OPEN_NO_BACKGROUND };
	struct msnap_mem *mem = c->other.mem;
	struct msnap_pool *pool;
	struct msnap_why why;
	bool fine;

	load_kept(&c->other, image);
	if (repair(mem, true) || repair(mem, false))
		return false;
	MUST(msnap_pool_open_mem(mem, "image", &args, &pool, &why));
	fine = image_verify(pool, c->lost) == 0;
	msnap_pool_abandon(pool);
	return fine;
}

static void try_image(struct crashing *c, const uint8_t *image)
{
	c->nr++;
	if (survives(c, image))
		return;
	printf("crash image %u is not repaired\n", c->nr);
	c->nr_bad++;
}

static void crash_here(void *arg, struct msnap_mem *mem, const uint8_t *media)
{
	struct crashing *c = arg;
	unsigned half;
	size_t at;

	if (!memcmp(media, mem->base, IMAGE_SIZE))
		return;
	/* All of it is what the next wait begins with. */
	try_image(c, media);
	for (half = 0; half < c->nr_halves; half++) {
		memcpy(c->image, media, IMAGE_SIZE);
		for (at = 0; at < IMAGE_SIZE; at += LINE)
			if (memcmp(media + at, mem->base + at, LINE) && coin(c))
				memcpy(c->image + at, mem->base + at, LINE);
		try_image(c, c->image);
	}
}

static void read_image(const char *name, uint8_t *image)
{
	FILE *file = fopen(name, "re");

	MUST(file && fread(image, IMAGE_SIZE, 1, file) == 1 ? 0 : -EIO);
	fclose(file);
}

unsigned image_crash(const char *file, bool (*lost)(const char *path),
		     unsigned nr_halves, unsigned *nr)
{
	struct crashing c = { .lost = lost, .nr_halves = nr_halves,
			      .random = 88172645463325252ull,
			      .image = malloc(IMAGE_SIZE) };
	struct msnap_sim_hooks hooks = { .at_drain = crash_here, .arg = &c };

	MUST(c.image ? 0 : -ENOMEM);
	make_kept(&c.main);
	make_kept(&c.other);
	read_image(file, c.image);
	load_kept(&c.main, c.image);
	msnap_sim_hooks(c.main.mem, &hooks);
	MUST(repair(c.main.mem, true));
	c.main.close(c.main.mem);
	c.other.close(c.other.mem);
	free(c.image);
	*nr = c.nr;
	return c.nr_bad;
}
