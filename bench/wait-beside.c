/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wait-beside.c - how long others wait while a command runs.
 *
 *	wait-beside DIR WHAT COMMAND...
 *
 * Two threads work in DIR meanwhile, a moment before and after it, too: one writes blocks
 * of a file, one makes and removes another.
 *
 * One line: WHAT, milliseconds that the command took, the longest that a write took, and
 * the longest that a create or an unlink took.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "times.h"

static const char *dir;
static atomic_bool stop;

static int must(int res, const char *what)
{
	if (res >= 0)
		return res;
	fprintf(stderr, "wait-beside: %s: %s\n", what, strerror(errno));
	exit(1);
}

static char *path_of(const char *name, char path[4096])
{
	snprintf(path, 4096, "%s/%s", dir, name);
	return path;
}

static void note(uint64_t *longest, uint64_t start)
{
	uint64_t ns = times_now() - start;

	if (ns > *longest)
		*longest = ns;
	usleep(200);
}

static void *write_blocks(void *longest)
{
	static const char block[4096];
	char path[4096];
	int fd = must(open(path_of("written", path), O_WRONLY | O_CREAT, 0644), path);

	for (unsigned i = 0; !stop; i++) {
		uint64_t start = times_now();

		if (pwrite(fd, block, sizeof(block), i % 4096 * 4096l) < 0)
			must(-1, "write");
		note(longest, start);
	}
	close(fd);
	return NULL;
}

static void *make_files(void *longest)
{
	char path[4096];

	path_of("made", path);
	while (!stop) {
		uint64_t start = times_now();

		close(must(open(path, O_WRONLY | O_CREAT | O_EXCL, 0644), path));
		note(longest, start);
		start = times_now();
		must(unlink(path), path);
		note(longest, start);
	}
	return NULL;
}

static void run(char **command)
{
	int status;
	pid_t pid = must(fork(), "fork");

	if (pid == 0) {
		dup2(2, 1);
		execvp(command[0], command);
		must(-1, command[0]);
	}
	must(waitpid(pid, &status, 0), "wait");
	if (status) {
		fprintf(stderr, "wait-beside: %s failed\n", command[0]);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	uint64_t longest[2] = { 0 }, start, took;
	pthread_t thread[2];

	if (argc < 4) {
		fprintf(stderr, "Usage: wait-beside DIR WHAT COMMAND...\n");
		return 2;
	}
	dir = argv[1];
	if (pthread_create(&thread[0], NULL, write_blocks, &longest[0]) ||
	    pthread_create(&thread[1], NULL, make_files, &longest[1]))
		must(-1, "thread");
	usleep(100000);
	start = times_now();
	run(argv + 3);
	took = times_now() - start;
	usleep(300000);
	stop = true;
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	printf("%s %.1f %.1f %.1f\n", argv[2], (double)took / 1e6,
	       (double)longest[0] / 1e6, (double)longest[1] / 1e6);
	return 0;
}
