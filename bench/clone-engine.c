/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clone-engine.c - how long clone, snapshot and the first write after them take in
 * the engine, without FUSE.
 *
 *	clone-engine DIR REPETITIONS EXTENTS...
 *
 * Makes a pool in DIR for each number of extents, in it a file of that many
 * separate extents of 4 KiB, and measures, the pools in turns.  Every call that is
 * measured includes its commit: it is durable when it returns (but for "write",
 * which is without, as write(2) is).  What a repetition made is removed before the
 * next, and not measured.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow/cow.h"
#include "times.h"

#define BLOCK 4096u
#define ROOT MSNAP_ROOT_INO_PUBLIC
#define POOL_MIN (64ull << 20)

struct target {
	unsigned long nr_extents;
	unsigned long nr_writes; /* so far */
	char path[4096];
	struct msnap_pool *pool;
	uint64_t ino;
	struct times clone, snap_file, snap_root, write, write_sync;
};

static void must(long res, const char *what)
{
	if (res >= 0)
		return;
	fprintf(stderr, "clone-engine: %s: %s\n", what, strerror((int)-res));
	exit(1);
}

static void say(void *arg, int level, const char *line)
{
	(void)arg;
	(void)level;
	fprintf(stderr, "clone-engine: %s\n", line);
}

/* Data, and a quarter more for the tree and what copies of it need. */
static void make_pool(struct target *t)
{
	const struct msnap_create_args create = {
		.size = POOL_MIN + t->nr_extents * (BLOCK + BLOCK / 4),
	};
	const struct msnap_open_args open = { .log = say };
	struct msnap_why why = { "" };

	if (msnap_pool_create(t->path, &create, &why) ||
	    msnap_pool_open(t->path, &open, &t->pool, &why)) {
		fprintf(stderr, "clone-engine: %s\n", why.text);
		exit(1);
	}
}

/* Every second block: neighbours in the file would be one extent. */
static void make_file(struct target *t)
{
	const struct msnap_new new = { .mode = S_IFREG | 0644 };
	static uint8_t block[BLOCK];
	struct msnap_attr attr;
	unsigned long i;

	must(msnap_create(t->pool, ROOT, "file", 4, &new, &attr), "create");
	t->ino = attr.ino;
	for (i = 0; i < t->nr_extents; i++) {
		memcpy(block, &i, sizeof(i));
		must(msnap_pwrite(t->pool, t->ino, block, BLOCK,
				  2ull * i * BLOCK, false), "write");
	}
	must(msnap_commit(t->pool), "commit");
}

static uint64_t clone(struct target *t)
{
	const struct msnap_owner keep = { -1, -1 };
	struct msnap_attr attr, gone;

	must(msnap_clone(t->pool, msnap_live(t->ino), ROOT, "clone", 5, keep, 0,
			 &attr, &gone), "clone");
	return attr.ino;
}

static void tidy(struct target *t)
{
	must(msnap_commit(t->pool), "commit");
	must(msnap_pool_settle(t->pool), "settle");
	must(msnap_commit(t->pool), "commit");
}

static void drop_clone(struct target *t)
{
	struct msnap_attr gone;

	must(msnap_unlink(t->pool, ROOT, "clone", 5, false, &gone), "unlink");
	must(msnap_evict(t->pool, gone.ino), "evict");
	tidy(t);
}

static void measure_clone(struct target *t)
{
	uint64_t start = times_now();

	clone(t);
	times_add(&t->clone, start);
	drop_clone(t);
}

static void measure_snap(struct target *t, const char *file, struct times *times)
{
	const struct msnap_snap_item item = {
		.dir = ROOT, .name = file, .len = file ? strlen(file) : 0,
	};
	uint64_t id, start = times_now();

	must(msnap_snap_create(t->pool, "point", NULL, 0, &item, 1, &id),
	     "snapshot");
	times_add(times, start);
	must(msnap_snap_delete(t->pool, id), "delete");
	tidy(t);
}

/* Each time a new clone, and another place of it: nothing of the path is its own. */
static void measure_first_write(struct target *t)
{
	static uint8_t block[BLOCK];
	uint64_t fb = 2ull * (t->nr_writes++ * 7919 % t->nr_extents);
	uint64_t ino = clone(t), start = times_now();

	memset(block, (int)fb + 1, sizeof(block));
	must(msnap_pwrite(t->pool, ino, block, BLOCK, fb * BLOCK, false),
	     "write");
	times_add(&t->write, start);
	must(msnap_commit(t->pool), "commit");
	times_add(&t->write_sync, start);
	drop_clone(t);
}

static void measure(struct target *t, unsigned nr)
{
	unsigned i;

	for (i = 0; i < nr; i++)
		measure_clone(t);
	for (i = 0; i < nr; i++)
		measure_snap(t, "file", &t->snap_file);
	for (i = 0; i < nr; i++)
		measure_snap(t, NULL, &t->snap_root);
	for (i = 0; i < nr; i++)
		measure_first_write(t);
}

static void tell(struct target *t)
{
	times_print(&t->clone, "engine-clone", t->nr_extents);
	times_print(&t->snap_file, "engine-snap-file", t->nr_extents);
	times_print(&t->snap_root, "engine-snap-root", t->nr_extents);
	times_print(&t->write, "engine-write", t->nr_extents);
	times_print(&t->write_sync, "engine-write-sync", t->nr_extents);
}

static void start(struct target *t, const char *dir, const char *nr_extents)
{
	t->nr_extents = strtoul(nr_extents, NULL, 0);
	if (!t->nr_extents)
		must(-EINVAL, nr_extents);
	snprintf(t->path, sizeof(t->path), "%s/pool-%lu", dir, t->nr_extents);
	make_pool(t);
	make_file(t);
}

static void finish(struct target *t)
{
	must(msnap_pool_close(t->pool), "close");
	unlink(t->path);
}

int main(int argc, char **argv)
{
	unsigned nr = argc > 3 ? (unsigned)strtoul(argv[2], NULL, 0) : 0, batch;
	struct target *target;
	int i, nr_targets = argc - 3;

	if (!nr || nr > TIMES_MAX) {
		fprintf(stderr,
			"usage: clone-engine DIR REPETITIONS EXTENTS...\n");
		return 2;
	}
	target = calloc((size_t)nr_targets, sizeof(*target));
	if (!target)
		must(-ENOMEM, "start");
	for (i = 0; i < nr_targets; i++)
		start(&target[i], argv[1], argv[i + 3]);
	for (; nr; nr -= batch) {
		batch = nr < TIMES_BATCH ? nr : TIMES_BATCH;
		for (i = 0; i < nr_targets; i++)
			measure(&target[i], batch);
	}
	for (i = 0; i < nr_targets; i++)
		tell(&target[i]);
	for (i = 0; i < nr_targets; i++)
		finish(&target[i]);
	free(target);
	return 0;
}
