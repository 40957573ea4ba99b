/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log.h - lines for the administrator: stderr in the foreground, syslog behind.
 *
 * Locking: callable from any thread; msnap_fs_log_to_syslog() once, before there
 * are others.
 */
#ifndef MSNAP_FS_LOG_H
#define MSNAP_FS_LOG_H

#include <stddef.h>
#include <syslog.h>

/* @level as in syslog(3); no newline at the end. */
void msnap_fs_log(int level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

void msnap_fs_log_to_syslog(void);

/* Take over the lines of libfuse, which go to stderr otherwise. */
void msnap_fs_log_libfuse(void);

/* The last line of libfuse, "" when there was none: why a mount failed. */
void msnap_fs_log_last_libfuse(char *buf, size_t size);

/*
 * Between the two, what other programs say on stderr (fusermount3) is kept: their
 * first line goes to @buf, "" when there was none.  hold: what release wants; -1, and
 * stderr stays as it is, when there is no way to keep it.
 */
int msnap_fs_log_hold_stderr(void);
void msnap_fs_log_release_stderr(int held, char *buf, size_t size);

/* For struct msnap_open_args. */
void msnap_fs_log_engine(void *arg, int level, const char *line);

#endif
