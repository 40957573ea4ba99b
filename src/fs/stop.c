/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stop.c - see stop.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flush.h"
#include "log.h"

/* Wakes the loop's thread from its wait; and this one, at the end. */
#define WAKE SIGUSR1

static struct {
	struct fs *fs;
	const char *mountpoint;
	pthread_t thread;
	pthread_t loop;
	bool started;
	atomic_bool finished; /* the loop has ended */
} stop;

static void do_nothing(int signal)
{
	(void)signal;
}

static void stop_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void msnap_fs_stop_block(void)
{
	struct sigaction wake = { .sa_handler = do_nothing };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t set;

	stop_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	sigaction(WAKE, &wake, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

extern char **environ;

/* For users, who may not call umount2(). */
static int unmount_by_helper(const char *mountpoint)
{
	char *argv[] = { "fusermount3", "-u", "-q", "--", (char *)mountpoint,
			 NULL };
	int status;
	pid_t pid;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		return -errno;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int unmount(const char *mountpoint)
{
	if (umount2(mountpoint, UMOUNT_NOFOLLOW) == 0)
		return 0;
	return errno == EPERM ? unmount_by_helper(mountpoint) : -errno;
}

/*
 * The loop looks at the session's end only when it wakes; a signal that comes
 * just before it sleeps is lost, so there are several.
 */
static void end_loop(void)
{
	const struct timespec pause = { 0, 10000000 };

	fuse_session_exit(stop.fs->se);
	while (!stop.finished) {
		pthread_kill(stop.loop, WAKE);
		nanosleep(&pause, NULL);
	}
}

static void *wait_for_signals(void *arg)
{
	sigset_t set;
	int signal;

	(void)arg;
	msnap_fs_flush_register(stop.fs->flush);
	stop_signals(&set);
	if (sigwait(&set, &signal) != 0 || stop.finished)
		return NULL;
	msnap_fs_log(LOG_NOTICE, "unmounting %s: %s", stop.mountpoint,
		     strsignal(signal));
	/* Failures are in the log already; there is no second chance. */
	(void)msnap_fs_flush_all(stop.fs);
	if (unmount(stop.mountpoint))
		msnap_fs_log(LOG_WARNING, "%s is in use: ending anyway",
			     stop.mountpoint);
	end_loop();
	return NULL;
}

int msnap_fs_stop_start(struct fs *fs, const char *mountpoint)
{
	int err;

	stop.fs = fs;
	stop.mountpoint = mountpoint;
	stop.loop = pthread_self();
	err = pthread_create(&stop.thread, NULL, wait_for_signals, NULL);
	stop.started = err == 0;
	return -err;
}

void msnap_fs_stop_finish(void)
{
	stop.finished = true;
	if (!stop.started)
		return;
	pthread_kill(stop.thread, SIGTERM);
	pthread_join(stop.thread, NULL);
	stop.started = false;
}
