/* SPDX-License-Identifier: GPL-2.0-or-later */
/* log.c - see log.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "log.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs.h"

#include <fuse_log.h>

static bool to_syslog;

static pthread_mutex_t last_lock = PTHREAD_MUTEX_INITIALIZER;
static char last_libfuse[300];

static void put_line(int level, const char *line)
{
	if (to_syslog)
		syslog(level, "%s", line);
	else
		fprintf(stderr, "memsnapfs: %s\n", line);
}

void msnap_fs_log(int level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	put_line(level, line);
}

void msnap_fs_log_to_syslog(void)
{
	openlog("memsnapfs", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	to_syslog = true;
}

static void from_libfuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[sizeof(last_libfuse)];

	/* What -d asks for is for the terminal, as it is. */
	if (level == FUSE_LOG_DEBUG) {
		vfprintf(stderr, fmt, ap);
		return;
	}
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	if (!line[0])
		return;
	pthread_mutex_lock(&last_lock);
	memcpy(last_libfuse, line, sizeof(line));
	pthread_mutex_unlock(&last_lock);
	if (to_syslog)
		put_line((int)level, line);
}

void msnap_fs_log_libfuse(void)
{
	fuse_set_log_func(from_libfuse);
}

void msnap_fs_log_last_libfuse(char *buf, size_t size)
{
	pthread_mutex_lock(&last_lock);
	snprintf(buf, size, "%s", last_libfuse);
	pthread_mutex_unlock(&last_lock);
}

int msnap_fs_log_hold_stderr(void)
{
	int held = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	int fd = memfd_create("stderr", MFD_CLOEXEC);

	if (held >= 0 && (fd < 0 || dup2(fd, STDERR_FILENO) < 0)) {
		close(held);
		held = -1;
	}
	if (fd >= 0)
		close(fd);
	return held;
}

void msnap_fs_log_release_stderr(int held, char *buf, size_t size)
{
	ssize_t len = 0;

	if (held >= 0) {
		len = pread(STDERR_FILENO, buf, size - 1, 0);
		dup2(held, STDERR_FILENO);
		close(held);
	}
	buf[len > 0 ? len : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

void msnap_fs_log_engine(void *arg, int level, const char *line)
{
	(void)arg;
	put_line(level, line);
}
