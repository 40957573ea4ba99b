/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * map-files.c - how long programs take that map files: here and on another filesystem,
 * in turns.
 *
 *	map-files access REPETITIONS MIB FILE FILE   the same on both, in turns, in both
 *	                                             orders
 *	map-files open NR EXTENTS DIR                open files for the first time, and again
 *	map-files clone NR EXTENTS DIR               FICLONE of such a file
 *	map-files snap REPETITIONS MIB PLACES FILE   restore points of a mapped file
 *
 * access makes the files anew each time, by write(2).  A restore point is one of the
 * directory on a mount of memsnapfs, and elsewhere FICLONE of the file, then fsync.  For
 * the first read all caches of the machine are dropped (root only).
 *
 * Lines of access: what, microseconds in the first and in the second file (medians), and
 * the median of the second by the first, taken each time.
 * Lines of open, clone and snap: what, microseconds: median, longest.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/control.h"
#include "times.h"

#define PAGE 4096u
#define MIB (1u << 20)
#define NR_RANDOM 1000000u

static int must(int res, const char *what)
{
	if (res >= 0)
		return res;
	fprintf(stderr, "map-files: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- a file ------------------------------------------------------------------- */

struct file {
	const char *path;
	size_t size;
	int fd;
	volatile uint64_t *mem;
};

static void fill(const struct file *f)
{
	static uint64_t buf[MIB / sizeof(uint64_t)];
	int fd = must(open(f->path, O_WRONLY | O_CREAT | O_TRUNC, 0644), f->path);

	for (size_t off = 0; off < f->size; off += MIB) {
		for (size_t i = 0; i < MIB / sizeof(uint64_t); i++)
			buf[i] = off + i;
		if (write(fd, buf, MIB) != MIB)
			must(-1, "write");
	}
	must(fsync(fd), "fsync");
	close(fd);
}

static void map(struct file *f)
{
	f->fd = must(open(f->path, O_RDWR), f->path);
	f->mem = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	if (f->mem == MAP_FAILED)
		must(-1, "mmap");
}

static void unmap(struct file *f)
{
	munmap((void *)f->mem, f->size);
	close(f->fd);
}

/* Of the directory on a memsnapfs, named by a number; elsewhere by FICLONE. */
static void snapshot(const struct file *f, unsigned nr)
{
	struct msnap_ioc_snap arg = { 0 };
	char *copy = strdup(f->path), path[PATH_MAX];
	int to, dir = must(open(dirname(copy), O_RDONLY | O_DIRECTORY), f->path);

	snprintf(arg.name, sizeof(arg.name), "bench-%u", nr);
	if (ioctl(dir, MSNAP_IOC_SNAP, &arg)) {
		if (errno != ENOTTY)
			must(-1, "restore point");
		snprintf(path, sizeof(path), "%s.%u", f->path, nr);
		to = must(open(path, O_RDWR | O_CREAT | O_TRUNC, 0644), path);
		must(ioctl(to, FICLONE, f->fd), "FICLONE");
		must(fsync(to), "fsync");
		close(to);
	}
	close(dir);
	free(copy);
}

static void forget_snapshot(const struct file *f, unsigned nr)
{
	char *copy = strdup(f->path), path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/.snap/bench-%u", dirname(copy), nr);
	if (rmdir(path)) {
		snprintf(path, sizeof(path), "%s.%u", f->path, nr);
		must(unlink(path), path);
	}
	free(copy);
}

/* ---- what is measured ----------------------------------------------------------- */

static uint64_t sink;

static void read_all(struct file *f)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < f->size / sizeof(uint64_t); i += 8)
		sum += f->mem[i];
	sink += sum;
}

static void read_random(struct file *f)
{
	uint64_t x = 88172645463325252u, sum = 0;

	for (unsigned i = 0; i < NR_RANDOM; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		sum += f->mem[x % (f->size / PAGE) * (PAGE / sizeof(uint64_t))];
	}
	sink += sum;
}

static void write_all(struct file *f)
{
	for (size_t i = 0; i < f->size / sizeof(uint64_t); i += PAGE / sizeof(uint64_t))
		f->mem[i]++;
}

/* A store to each cache line: to each page would be over before it can be measured. */
static void rewrite_all(struct file *f)
{
	for (size_t i = 0; i < f->size / sizeof(uint64_t); i += 8)
		f->mem[i]++;
}

static void sync_all(struct file *f)
{
	must(msync((void *)f->mem, f->size, MS_SYNC), "msync");
}

static void drop_caches(struct file *f)
{
	int fd = must(open("/proc/sys/vm/drop_caches", O_WRONLY), "drop_caches");

	(void)f;
	must((int)write(fd, "1", 1), "drop_caches");
	close(fd);
}

static void take_one(struct file *f)
{
	snapshot(f, 0);
}

static void forget_one(struct file *f)
{
	forget_snapshot(f, 0);
}

static const struct step {
	const char *what; /* NULL: is not measured */
	void (*run)(struct file *f);
} steps[] = {
	{ NULL, drop_caches },
	{ "first-read", read_all },
	{ "warm-read", read_all },
	{ "random-read", read_random },
	{ "first-write", write_all },
	{ "rewrite", rewrite_all },
	{ "msync", sync_all },
	{ NULL, take_one },
	{ "write-after-snapshot", write_all },
	{ "msync-after-snapshot", sync_all },
	{ NULL, forget_one },
};
#define NR_STEPS (sizeof(steps) / sizeof(steps[0]))

static struct times times[NR_STEPS][2];

static int compare_ratios(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of pairs, so that what disturbs both of one does not count.  Before median(), which
 * sorts. */
static double median_ratio(const struct times *t)
{
	double ratio[TIMES_MAX];

	for (unsigned i = 0; i < t[0].nr; i++)
		ratio[i] = (double)t[1].ns[i] / (double)t[0].ns[i];
	qsort(ratio, t[0].nr, sizeof(ratio[0]), compare_ratios);
	return ratio[t[0].nr / 2];
}

static double median(struct times *t)
{
	qsort(t->ns, t->nr, sizeof(t->ns[0]), times_compare);
	return (double)t->ns[t->nr / 2] / 1000;
}

static void step_of(struct file *f, size_t step, unsigned which)
{
	uint64_t start = times_now();

	steps[step].run(f);
	times_add(&times[step][which], start);
}

static void access_once(struct file *file, unsigned first)
{
	for (unsigned i = 0; i < 2; i++) {
		fill(&file[(i + first) % 2]);
		map(&file[(i + first) % 2]);
	}
	for (size_t s = 0; s < NR_STEPS; s++)
		for (unsigned i = 0; i < 2; i++)
			step_of(&file[(i + first) % 2], s, (i + first) % 2);
	for (unsigned i = 0; i < 2; i++) {
		unmap(&file[i]);
		must(unlink(file[i].path), file[i].path);
	}
}

static int do_access(unsigned reps, size_t mib, char **path)
{
	struct file file[2] = { { .path = path[0], .size = mib * MIB },
				{ .path = path[1], .size = mib * MIB } };

	/* As often in either order: whichever comes first may have the better memory. */
	for (unsigned rep = 0; rep < 2 * reps; rep++)
		access_once(file, rep % 2);
	for (size_t s = 0; s < NR_STEPS; s++) {
		double ratio = median_ratio(times[s]);

		if (steps[s].what)
			printf("%s %.1f %.1f %.3f\n", steps[s].what,
			       median(&times[s][0]), median(&times[s][1]), ratio);
	}
	return 0;
}

/* ---- open --------------------------------------------------------------------------- */

static void print(const char *what, struct times *t)
{
	double m = median(t);

	printf("%s %.1f %.1f\n", what, m, (double)t->ns[t->nr - 1] / 1000);
}

static char *name_of(const char *dir, unsigned nr)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%u", dir, nr);
	return path;
}

/* Every second block, so that neighbours cannot be one. */
static void make_scattered(const char *path, unsigned nr_extents)
{
	static const char block[PAGE] = { 1 };
	int fd = must(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644), path);

	for (unsigned i = 0; i < nr_extents; i++)
		if (pwrite(fd, block, PAGE, (off_t)i * 2 * PAGE) != PAGE)
			must(-1, "write");
	must(fsync(fd), "fsync");
	close(fd);
}

/* Closing goes on after close(2) has returned: not beside the opens. */
static void open_all(unsigned nr, const char *dir, struct times *t)
{
	int *fd = calloc(nr, sizeof(*fd));

	for (unsigned i = 0; i < nr; i++) {
		const char *path = name_of(dir, i);
		uint64_t start = times_now();

		fd[i] = must(open(path, O_RDWR), path);
		times_add(t, start);
	}
	for (unsigned i = 0; i < nr; i++)
		close(fd[i]);
	free(fd);
	sleep(1);
}

static int do_open(unsigned nr, unsigned nr_extents, const char *dir)
{
	static struct times first, again;

	for (unsigned i = 0; i < nr; i++)
		make_scattered(name_of(dir, i), nr_extents);
	open_all(nr, dir, &first);
	open_all(nr, dir, &again);
	print("open-first", &first);
	print("open-again", &again);
	for (unsigned i = 0; i < nr; i++)
		must(unlink(name_of(dir, i)), "unlink");
	return 0;
}

/* What the host's filesystem itself takes to share the extents of such a file. */
static int do_clone(unsigned nr, unsigned nr_extents, const char *dir)
{
	static struct times t;
	const char *path = name_of(dir, 0);
	int from, to;

	make_scattered(path, nr_extents);
	from = must(open(path, O_RDONLY), path);
	path = name_of(dir, 1);
	for (unsigned i = 0; i < nr; i++) {
		uint64_t start;

		to = must(open(path, O_RDWR | O_CREAT | O_TRUNC, 0644), path);
		start = times_now();
		must(ioctl(to, FICLONE, from), "FICLONE");
		times_add(&t, start);
		close(to);
		must(unlink(path), path);
	}
	close(from);
	print("open-first", &t);
	must(unlink(name_of(dir, 0)), "unlink");
	return 0;
}

/* ---- restore points ------------------------------------------------------------------- */

static void change(struct file *f, unsigned places)
{
	size_t apart = f->size / PAGE / places;

	for (unsigned i = 0; i < places; i++)
		f->mem[i * apart * (PAGE / sizeof(uint64_t))]++;
}

static void snap_all(struct file *f, unsigned reps, unsigned places, unsigned base,
		     const char *what)
{
	static struct times t;

	t.nr = 0;
	for (unsigned rep = 0; rep < reps; rep++) {
		uint64_t start;

		if (places)
			change(f, places);
		start = times_now();
		snapshot(f, base + rep);
		times_add(&t, start);
	}
	print(what, &t);
}

static int do_snap(unsigned reps, size_t mib, unsigned places, const char *path)
{
	struct file f = { .path = path, .size = mib * MIB };

	fill(&f);
	map(&f);
	/* Or a store would change as much as write(2) has put into one folio. */
	drop_caches(&f);
	change(&f, 1);
	snap_all(&f, 1, 0, 0, "snapshot-first");
	sleep(1);
	snap_all(&f, reps, 0, 1, "snapshot-quiet");
	snap_all(&f, reps, places, 1 + reps, "snapshot-changed");
	for (unsigned i = 0; i < 1 + 2 * reps; i++)
		forget_snapshot(&f, i);
	unmap(&f);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "access") == 0)
		return do_access((unsigned)atoi(argv[2]), (size_t)atoi(argv[3]),
				 argv + 4);
	if (argc == 5 && strcmp(argv[1], "open") == 0)
		return do_open((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]),
			       argv[4]);
	if (argc == 5 && strcmp(argv[1], "clone") == 0)
		return do_clone((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]),
				argv[4]);
	if (argc == 6 && strcmp(argv[1], "snap") == 0)
		return do_snap((unsigned)atoi(argv[2]), (size_t)atoi(argv[3]),
			       (unsigned)atoi(argv[4]), argv[5]);
	fprintf(stderr, "Usage: map-files access|open|clone|snap ...\n");
	return 2;
}
