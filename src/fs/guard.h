/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guard.h - the end of the daemon is the end of the connection, however it dies.
 *
 * The kernel ends a FUSE connection when nobody has its device open any more.  But
 * threads of ours wait for the kernel at times: for a file of the mount to be written
 * back, or for a notification.  Were the daemon killed just then, nobody would answer
 * what they wait for, so they could not die, so the device would stay open: all that
 * use the mount would hang for ever.
 *
 * What it is: a process of its own that has nothing open but the kernel's switch that
 * aborts the connection (Documentation/filesystems/fuse.rst), and uses it when our main
 * thread is gone.
 *
 * What it does not do: it unmounts nothing.  Where the switch cannot be had (a user on
 * a system without a mounted fusectl) there is no guard, and all works as well.
 */
#ifndef MSNAP_FS_GUARD_H
#define MSNAP_FS_GUARD_H

/* Begin, before there are threads, files and locks.  By the main thread.  @argv:
 * main()'s, which the guard writes its own name over. */
void msnap_fs_guard_start(int argc, char **argv);
/* It is mounted on @mountpoint, and nobody serves it yet.  By the main thread. */
void msnap_fs_guard_watch(const char *mountpoint);
/* The connection has ended: there is nothing to guard any more. */
void msnap_fs_guard_stop(void);

#endif
