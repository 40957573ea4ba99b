/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guard.c - see guard.h.
 *
 * The guard learns of our end by the signal that the kernel sends when the thread that
 * forked dies, whatever other threads do (PR_SET_PDEATHSIG of prctl(2)).  It goes by
 * another name, so that whoever kills all that are called as we are leaves it alone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "guard.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "memsnapfs-guard" /* 15 bytes are what a name may have */
#define OUR_END SIGUSR1

static pid_t guard_pid;
static int to_guard = -1; /* a pipe; -1: there is no guard, or it knows */

/* ---- the guard ------------------------------------------------------------------- */

static void take_name(int argc, char **argv)
{
	size_t len = 0;

	/* One behind the other, and getopt_long() may have changed the order. */
	for (int i = 0; i < argc; i++) {
		size_t end = (size_t)(argv[i] - argv[0]) + strlen(argv[i]);

		len = end > len ? end : len;
	}
	memset(argv[0], 0, len);
	strncpy(argv[0], NAME, len);
	prctl(PR_SET_NAME, NAME);
}

/* What keeps a directory, a terminal or a pipe of somebody's in use. */
static void let_go(int pipe)
{
	int null = open("/dev/null", O_RDWR);

	for (int i = 0; i <= 2; i++)
		dup2(null, i);
	dup2(pipe, 3);
	close_range(4, ~0u, 0);
	if (chdir("/"))
		_exit(1);
}

/* A mount of fusectl that shows nowhere; for root. */
static int open_hidden(void)
{
	int mount = -1, fs = fsopen("fusectl", FSOPEN_CLOEXEC);

	if (fs < 0)
		return -1;
	if (!fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		mount = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	close(fs);
	return mount;
}

static int open_switch(uint32_t connection)
{
	char path[64];
	int fd, mount;

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%" PRIu32 "/abort",
		 connection);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	mount = open_hidden();
	if (mount < 0)
		return -1;
	snprintf(path, sizeof(path), "%" PRIu32 "/abort", connection);
	fd = openat(mount, path, O_WRONLY | O_CLOEXEC);
	close(mount);
	return fd;
}

/* Signals that others send are not meant.  The kernel's names who has died. */
static void wait_for_end(pid_t of, const sigset_t *set)
{
	siginfo_t info;

	do {
		while (sigwaitinfo(set, &info) < 0)
			;
	} while (info.si_signo != OUR_END || info.si_pid != of);
}

static _Noreturn void guard(pid_t parent)
{
	uint32_t connection;
	sigset_t all;
	int fd;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_PDEATHSIG, OUR_END);
	if (getppid() != parent ||
	    read(3, &connection, sizeof(connection)) != sizeof(connection))
		_exit(1); /* it ended before there was a mount */
	close(3);
	fd = open_switch(connection);
	if (fd < 0)
		_exit(1);
	wait_for_end(parent, &all);
	_exit(write(fd, "1", 1) == 1 ? 0 : 1);
}

/* ---- whom it guards ---------------------------------------------------------------- */

void msnap_fs_guard_start(int argc, char **argv)
{
	pid_t parent = getpid();
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return;
	guard_pid = fork();
	if (!guard_pid) {
		let_go(fds[0]);
		take_name(argc, argv);
		guard(parent);
	}
	close(fds[0]);
	if (guard_pid > 0)
		to_guard = fds[1];
	else
		close(fds[1]);
}

void msnap_fs_guard_watch(const char *mountpoint)
{
	struct statx st;
	ssize_t res = 0;

	if (to_guard < 0)
		return;
	/* It must not ask us, and it does not when nothing is wanted but the device.
	 * The connection is called as its minor number (fs/fuse/control.c). */
	if (!statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW, 0,
		   &st))
		res = write(to_guard, &st.stx_dev_minor, sizeof(st.stx_dev_minor));
	/* The guard has gone?  There is none, then. */
	(void)res;
	close(to_guard);
	to_guard = -1;
}

void msnap_fs_guard_stop(void)
{
	if (guard_pid <= 0)
		return;
	kill(guard_pid, SIGKILL);
	waitpid(guard_pid, NULL, 0);
}
