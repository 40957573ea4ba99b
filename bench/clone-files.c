/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clone-files.c - how long clone, snapshot and the first write after them take for
 * a program on a mounted filesystem.
 *
 *	clone-files make DIR EXTENTS                make DIR/file, durably
 *	clone-files ioctl REPETITIONS EXTENTS DIR [EXTENTS DIR]...
 *	clone-files ficlone REPETITIONS EXTENTS DIR [EXTENTS DIR]...
 *
 * ioctl measures the calls of memsnapfs, ficlone a clone by FICLONE (XFS, btrfs),
 * both on files that were made before, the directories in turns.  For ioctl, DIR
 * is the root of a mount.  Every call that is measured is durable when it returns,
 * but for "write".  What a repetition made is removed before the next, and not
 * measured.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fs/control.h"
#include "times.h"

#define BLOCK 4096u

struct target {
	unsigned long nr_extents;
	unsigned long nr_writes; /* so far */
	int dir;
	int src;
	struct times clone, snap_file, snap_root, write, write_sync;
};

static int must(int res, const char *what)
{
	if (res >= 0)
		return res;
	fprintf(stderr, "clone-files: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Every second block: neighbours in the file would be one extent. */
static void make_file(int dir, unsigned long nr_extents)
{
	static uint8_t block[BLOCK];
	int fd = must(openat(dir, "file", O_WRONLY | O_CREAT | O_TRUNC, 0644),
		      "file");
	unsigned long i;

	for (i = 0; i < nr_extents; i++) {
		memcpy(block, &i, sizeof(i));
		if (pwrite(fd, block, BLOCK, (off_t)(2 * i * BLOCK)) != BLOCK)
			must(-1, "write");
	}
	must(fsync(fd), "fsync");
	/* Of a filesystem with a page cache of its own: give that back. */
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

static void drop_clone(struct target *t)
{
	must(unlinkat(t->dir, "clone", 0), "unlink");
	must(fsync(t->dir), "fsync");
}

/* ---- memsnapfs ------------------------------------------------------------- */

static void clone_by_ioctl(struct target *t)
{
	struct msnap_ioc_clone arg = { .name = "clone" };

	must(ioctl(t->dir, MSNAP_IOC_REF, &arg.ref), "MSNAP_IOC_REF");
	must(ioctl(t->src, MSNAP_IOC_CLONE, &arg), "MSNAP_IOC_CLONE");
}

static void measure_clone(struct target *t)
{
	uint64_t start = times_now();

	clone_by_ioctl(t);
	times_add(&t->clone, start);
	drop_clone(t);
}

static void measure_snap(struct target *t, const char *file, struct times *times)
{
	struct msnap_ioc_snap snap = { .name = "point" };
	struct msnap_ioc_snap_delete del = { .name = "point" };
	uint64_t start;

	strcpy(snap.file, file);
	start = times_now();
	must(ioctl(t->dir, MSNAP_IOC_SNAP, &snap), "MSNAP_IOC_SNAP");
	times_add(times, start);
	must(ioctl(t->dir, MSNAP_IOC_SNAP_DELETE, &del),
	     "MSNAP_IOC_SNAP_DELETE");
}

/* Each time a new clone, and another place of it: nothing of the path is its own. */
static void measure_first_write(struct target *t)
{
	static uint8_t block[BLOCK];
	unsigned long fb = 2 * (t->nr_writes++ * 7919 % t->nr_extents);
	uint64_t start;
	int fd;

	clone_by_ioctl(t);
	memset(block, (int)fb + 1, sizeof(block));
	fd = must(openat(t->dir, "clone", O_WRONLY), "clone");
	start = times_now();
	if (pwrite(fd, block, BLOCK, (off_t)(fb * BLOCK)) != BLOCK)
		must(-1, "write");
	times_add(&t->write, start);
	must(fsync(fd), "fsync");
	times_add(&t->write_sync, start);
	close(fd);
	drop_clone(t);
}

static void measure_ioctl(struct target *t, unsigned nr)
{
	unsigned i;

	for (i = 0; i < nr; i++)
		measure_clone(t);
	for (i = 0; i < nr; i++)
		measure_snap(t, "file", &t->snap_file);
	for (i = 0; i < nr; i++)
		measure_snap(t, "", &t->snap_root);
	for (i = 0; i < nr; i++)
		measure_first_write(t);
}

/* ---- FICLONE ---------------------------------------------------------------- */

static void measure_ficlone(struct target *t, unsigned nr)
{
	while (nr--) {
		uint64_t start = times_now();
		int fd = must(openat(t->dir, "clone",
				     O_WRONLY | O_CREAT | O_EXCL, 0644), "clone");

		must(ioctl(fd, FICLONE, t->src), "FICLONE");
		must(fsync(fd), "fsync");
		times_add(&t->clone, start);
		close(fd);
		drop_clone(t);
	}
}

/* ---- the command line ---------------------------------------------------------- */

static int usage(void)
{
	fprintf(stderr,
		"usage: clone-files make DIR EXTENTS\n"
		"       clone-files ioctl|ficlone REPETITIONS EXTENTS DIR...\n");
	return 2;
}

static int make(const char *path, const char *nr_extents)
{
	int dir = must(open(path, O_RDONLY | O_DIRECTORY), path);

	make_file(dir, strtoul(nr_extents, NULL, 0));
	must(syncfs(dir), "syncfs");
	return 0;
}

static struct target *open_targets(char **arg, unsigned nr)
{
	struct target *target = calloc(nr, sizeof(*target));
	unsigned i;

	if (!target)
		must(-1, "start");
	for (i = 0; i < nr; i++) {
		struct target *t = &target[i];

		t->nr_extents = strtoul(arg[2 * i], NULL, 0);
		t->dir = must(open(arg[2 * i + 1], O_RDONLY | O_DIRECTORY),
			      arg[2 * i + 1]);
		t->src = must(openat(t->dir, "file", O_RDONLY), "file");
		if (!t->nr_extents)
			exit(usage());
	}
	return target;
}

static void tell(struct target *t, const char *prefix)
{
	char what[64];

	snprintf(what, sizeof(what), "%s-clone", prefix);
	times_print(&t->clone, what, t->nr_extents);
	times_print(&t->snap_file, "ioctl-snap-file", t->nr_extents);
	times_print(&t->snap_root, "ioctl-snap-root", t->nr_extents);
	times_print(&t->write, "mount-write", t->nr_extents);
	times_print(&t->write_sync, "mount-write-sync", t->nr_extents);
}

int main(int argc, char **argv)
{
	void (*measure)(struct target *t, unsigned nr);
	unsigned nr, batch, i, nr_targets;
	struct target *target;

	if (argc == 4 && strcmp(argv[1], "make") == 0)
		return make(argv[2], argv[3]);
	if (argc < 5 || argc % 2 == 0)
		return usage();
	if (strcmp(argv[1], "ioctl") == 0)
		measure = measure_ioctl;
	else if (strcmp(argv[1], "ficlone") == 0)
		measure = measure_ficlone;
	else
		return usage();
	nr = (unsigned)strtoul(argv[2], NULL, 0);
	if (!nr || nr > TIMES_MAX)
		return usage();
	nr_targets = (unsigned)(argc - 3) / 2;
	target = open_targets(argv + 3, nr_targets);
	for (; nr; nr -= batch) {
		batch = nr < TIMES_BATCH ? nr : TIMES_BATCH;
		for (i = 0; i < nr_targets; i++)
			measure(&target[i], batch);
	}
	for (i = 0; i < nr_targets; i++)
		tell(&target[i], argv[1]);
	free(target);
	return 0;
}
