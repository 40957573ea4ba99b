/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon.c - see daemon.h.
 *
 * Through the pipe goes one byte, 0 for ready; or else the line that says what
 * failed.  Its end without either means that the child has died.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM "mount.memsnapfs"

static size_t read_all(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t res = read(fd, buf + len, size - len);

		if (res < 0 && errno == EINTR)
			continue;
		if (res <= 0)
			break;
		len += (size_t)res;
		if (buf[0] == '\0')
			break;
	}
	return len;
}

static int wait_for(int fd)
{
	char line[2048];
	size_t len = read_all(fd, line, sizeof(line) - 1);

	if (len && line[0] == '\0')
		return 0;
	line[len] = '\0';
	fprintf(stderr, PROGRAM ": %s\n",
		len ? line : "the daemon died while it was starting");
	return 1;
}

bool msnap_fs_daemon_fork(struct msnap_fs_report *report, int *status)
{
	int fds[2];
	pid_t pid;

	report->fd = -1;
	if (pipe2(fds, O_CLOEXEC)) {
		fprintf(stderr, PROGRAM ": cannot make a pipe: %s\n",
			strerror(errno));
		*status = 1;
		return true;
	}
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		report->fd = fds[1];
		setsid();
		return false;
	}
	close(fds[1]);
	*status = 1;
	if (pid < 0)
		fprintf(stderr, PROGRAM ": cannot fork: %s\n", strerror(errno));
	else
		*status = wait_for(fds[0]);
	close(fds[0]);
	return true;
}

void msnap_fs_report_failed(struct msnap_fs_report *report, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (report->fd < 0) {
		fprintf(stderr, PROGRAM ": %s\n", line);
		return;
	}
	/* A parent that is gone has nobody to tell. */
	if (write(report->fd, line, strlen(line)) < 0)
		fprintf(stderr, PROGRAM ": %s\n", line);
	close(report->fd);
	report->fd = -1;
}

static void close_stdio(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	for (int i = 0; i <= 2; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

void msnap_fs_report_ready(struct msnap_fs_report *report)
{
	if (report->fd < 0)
		return;
	close_stdio();
	if (write(report->fd, "", 1) < 0)
		return; /* as above */
	close(report->fd);
	report->fd = -1;
}
