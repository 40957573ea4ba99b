/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon.h - go into the background, and tell the one who started us how it
 * went.
 *
 * The parent waits until the child serves requests or has failed, so that the
 * mount is ready when the command returns and errors are seen where they can be.
 * Threads are made by the child, after the fork.
 */
#ifndef MSNAP_FS_DAEMON_H
#define MSNAP_FS_DAEMON_H

#include <stdbool.h>

struct msnap_fs_report {
	int fd; /* to the parent; -1: there is none, or it knows */
};

/*
 * Fork.  In the parent: waits and returns the exit status in *@status, true.  In
 * the child: false; it must call failed() or ready() once.
 */
bool msnap_fs_daemon_fork(struct msnap_fs_report *report, int *status);

/* One line for the user, without the program's name; exit status 1. */
void msnap_fs_report_failed(struct msnap_fs_report *report, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* All is well; standard input, output and error go to /dev/null. */
void msnap_fs_report_ready(struct msnap_fs_report *report);

#endif
