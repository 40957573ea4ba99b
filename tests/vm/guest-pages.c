/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guest-pages - do mappings of several files share page frames?  Root only: the
 * frame numbers are in /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst).
 *
 *	guest-pages same FILE FILE...     every page of all is in the same frame
 *	guest-pages store FILE OFF FILE   after a store at OFF of the first, exactly
 *	                                  what the kernel copied around it parted
 *	guest-pages write FILE BYTES      fill with a pattern through a mapping, msync
 *	guest-pages check FILE BYTES      is the pattern there?
 *	guest-pages count FILE COUNTER    store ever higher numbers with msync, and print
 *	                                  each once it is safe
 *	guest-pages atleast FILE N        is the last number stored N or more?
 *	guest-pages write2 FILE BYTES CHUNK  fill with the pattern by write(2), so much at
 *	                                  a time, as a program does that copies it
 *	guest-pages huge FILE BYTES       from there on, is every 2 MiB of it mapped by one
 *	                                  page fault?
 *	guest-pages apart FILE FILE...    as same, each mapped by a process of its own
 *	guest-pages memory FILE...        how much less memory is free when all are mapped
 *	                                  and were read?
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint8_t *map(const char *path, size_t *len, int writable)
{
	int fd = open(path, writable ? O_RDWR : O_RDONLY);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st))
		die(path);
	p = mmap(NULL, st.st_size, PROT_READ | (writable ? PROT_WRITE : 0),
		 MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die(path);
	close(fd);
	*len = st.st_size;
	return p;
}

/* The frame of a page that is mapped; 0: none. */
static uint64_t frame(const uint8_t *addr)
{
	static int fd = -1;
	uint64_t entry;

	if (fd < 0)
		fd = open("/proc/self/pagemap", O_RDONLY);
	(void)*(volatile const uint8_t *)addr;
	if (pread(fd, &entry, 8, (uintptr_t)addr / PAGE * 8) != 8)
		die("pagemap");
	return entry >> 63 ? entry & ((1ull << 55) - 1) : 0;
}

static int same(int nr, char **path)
{
	size_t len, other;
	uint8_t *first = map(path[0], &len, 0);

	for (int i = 1; i < nr; i++) {
		uint8_t *p = map(path[i], &other, 0);
		size_t shared = 0, pages = len / PAGE;

		for (size_t k = 0; k < pages; k++)
			shared += frame(first + k * PAGE) &&
				  frame(first + k * PAGE) == frame(p + k * PAGE);
		printf("%s and %s: %zu of %zu pages in the same frames\n", path[0],
		       path[i], shared, pages);
		if (shared != pages)
			return 1;
	}
	return 0;
}

static int store(char **arg)
{
	size_t len, other, off = strtoul(arg[1], NULL, 0), parted = 0;
	uint8_t *a = map(arg[0], &len, 1), *b = map(arg[2], &other, 0);

	a[off] ^= 0xff;
	for (size_t k = 0; k < len / PAGE; k++)
		parted += frame(a + k * PAGE) != frame(b + k * PAGE);
	printf("after a store: %zu of %zu pages parted\n", parted, len / PAGE);
	return frame(a + off) == frame(b + off) || parted == 0 || parted > 512;
}

static uint64_t pattern(size_t i)
{
	return (i + 1) * 0x9e3779b97f4a7c15ull;
}

static int fill(char **arg)
{
	size_t len = strtoul(arg[1], NULL, 0);
	int fd = open(arg[0], O_RDWR | O_CREAT, 0644);
	uint64_t *p;

	if (fd < 0 || ftruncate(fd, len))
		die(arg[0]);
	p = (void *)map(arg[0], &len, 1);
	for (size_t i = 0; i < len / 8; i++)
		p[i] = pattern(i);
	return msync(p, len, MS_SYNC) ? 1 : 0;
}

static int check(char **arg)
{
	size_t len;
	const uint64_t *p = (void *)map(arg[0], &len, 0);

	if (len != strtoul(arg[1], NULL, 0))
		return 1;
	for (size_t i = 0; i < len / 8; i++) {
		if (p[i] != pattern(i)) {
			printf("%s: wrong at %zu\n", arg[0], i * 8);
			return 1;
		}
	}
	return 0;
}

static int count(char **arg)
{
	int fd = open(arg[0], O_RDWR | O_CREAT, 0644);
	size_t len;
	uint64_t *p;

	if (fd < 0 || ftruncate(fd, 16 * PAGE))
		die(arg[0]);
	p = (void *)map(arg[0], &len, 1);
	for (uint64_t n = 1;; n++) {
		p[n % 16 * (PAGE / 8)] = n;
		if (msync(p, len, MS_SYNC))
			die("msync");
		printf("safe %llu\n", (unsigned long long)n);
		fflush(stdout);
	}
}

static int atleast(char **arg)
{
	uint64_t want = strtoull(arg[1], NULL, 0), best = 0;
	size_t len;
	const uint64_t *p = (void *)map(arg[0], &len, 0);

	for (unsigned i = 0; i < 16; i++)
		if (p[i * (PAGE / 8)] > best)
			best = p[i * (PAGE / 8)];
	printf("the last store that is there: %llu, promised: %llu\n",
	       (unsigned long long)best, (unsigned long long)want);
	return best < want;
}

static int copy_in(char **arg)
{
	size_t len = strtoul(arg[1], NULL, 0), chunk = strtoul(arg[2], NULL, 0);
	int fd = open(arg[0], O_WRONLY | O_CREAT | O_EXCL, 0644);
	uint64_t *buf = malloc(chunk);

	if (fd < 0 || !buf)
		die(arg[0]);
	for (size_t off = 0; off < len; off += chunk) {
		for (size_t i = 0; i < chunk / 8; i++)
			buf[i] = pattern(off / 8 + i);
		if (write(fd, buf, chunk) != (ssize_t)chunk)
			die("write");
	}
	return close(fd) ? 1 : 0;
}

static long faults(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return use.ru_minflt + use.ru_majflt;
}

/* One for each huge page, and a few of the program's own. */
static int huge(char **arg)
{
	size_t len, nr_huge, from = strtoul(arg[1], NULL, 0);
	uint8_t *p = map(arg[0], &len, 0);
	long before = faults(), nr;

	for (size_t i = from; i < len; i += PAGE)
		(void)*(volatile const uint8_t *)(p + i);
	nr = faults() - before;
	nr_huge = (len - from) / (2ul << 20);
	printf("%s: %zu MiB read by %ld page faults; %zu of 2 MiB, or %zu of 4 KiB\n",
	       arg[0], (len - from) >> 20, nr, nr_huge, (len - from) / PAGE);
	return nr > (long)nr_huge + 8;
}

/* The frames of all pages, found by another process, which goes on having them mapped
 * until @end is closed. */
static uint64_t *frames_elsewhere(const char *path, const int end[2], size_t *nr)
{
	uint64_t *all;
	int out[2];
	FILE *in;
	size_t len;
	char byte;

	if (pipe(out))
		die("pipe");
	if (fork() == 0) {
		uint8_t *p = map(path, &len, 0);
		FILE *to = fdopen(out[1], "w");

		close(end[1]);
		*nr = len / PAGE;
		fwrite(nr, sizeof(*nr), 1, to);
		for (size_t k = 0; k < *nr; k++) {
			uint64_t f = frame(p + k * PAGE);

			fwrite(&f, sizeof(f), 1, to);
		}
		fclose(to);
		_exit(read(end[0], &byte, 1) != 0);
	}
	close(out[1]);
	in = fdopen(out[0], "r");
	if (fread(nr, sizeof(*nr), 1, in) != 1)
		die(path);
	all = malloc(*nr * sizeof(*all));
	if (!all || fread(all, sizeof(*all), *nr, in) != *nr)
		die(path);
	fclose(in);
	return all;
}

static int apart(int nr, char **path)
{
	uint64_t *first, *other;
	size_t pages, nr_other;
	int end[2], bad = 0;

	if (pipe(end))
		die("pipe");
	first = frames_elsewhere(path[0], end, &pages);
	for (int i = 1; i < nr; i++) {
		size_t shared = 0;

		other = frames_elsewhere(path[i], end, &nr_other);
		for (size_t k = 0; k < pages && k < nr_other; k++)
			shared += first[k] && first[k] == other[k];
		printf("%s and %s in two processes: %zu of %zu pages in the same frames\n",
		       path[0], path[i], shared, pages);
		bad |= shared != pages || nr_other != pages;
	}
	close(end[1]);
	while (wait(NULL) > 0)
		;
	return bad;
}

static long free_kib(void)
{
	struct sysinfo info;

	if (sysinfo(&info))
		die("sysinfo");
	return (long)(info.freeram * info.mem_unit >> 10);
}

static int memory(int nr, char **path)
{
	long before = free_kib(), used;
	size_t len, sum = 0;

	for (int i = 0; i < nr; i++) {
		uint8_t *p = map(path[i], &len, 0);

		for (size_t k = 0; k < len; k += PAGE)
			(void)*(volatile const uint8_t *)(p + k);
		sum += len;
	}
	used = before - free_kib();
	printf("%d files of %zu MiB together are mapped and read: %ld KiB of memory\n", nr,
	       sum >> 20, used);
	/* What the server keeps of a view, and page tables. */
	return used > (long)(sum >> 10) / 64;
}

int main(int argc, char **argv)
{
	if (argc >= 4 && !strcmp(argv[1], "same"))
		return same(argc - 2, argv + 2);
	if (argc == 5 && !strcmp(argv[1], "store"))
		return store(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "write"))
		return fill(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "check"))
		return check(argv + 2);
	if (argc >= 3 && !strcmp(argv[1], "count"))
		return count(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "atleast"))
		return atleast(argv + 2);
	if (argc == 5 && !strcmp(argv[1], "write2"))
		return copy_in(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "huge"))
		return huge(argv + 2);
	if (argc >= 4 && !strcmp(argv[1], "apart"))
		return apart(argc - 2, argv + 2);
	if (argc >= 3 && !strcmp(argv[1], "memory"))
		return memory(argc - 2, argv + 2);
	fprintf(stderr, "guest-pages: wrong arguments\n");
	return 2;
}
