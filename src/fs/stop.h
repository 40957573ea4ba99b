/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stop.h - end on SIGTERM, SIGINT or SIGHUP as on umount(8).
 *
 * What it is: a thread that waits for the signals.  On one it writes back what is
 * in mappings and unmounts; when the mount is busy it does that lazily and ends
 * the session all the same: what programs have stored until then is in the pool,
 * what they store later fails.
 */
#ifndef MSNAP_FS_STOP_H
#define MSNAP_FS_STOP_H

#include "fs.h"

/* Block the signals: before any other thread is made. */
void msnap_fs_stop_block(void);
/* Start the thread.  To be called by the thread that runs the session's loop. */
int msnap_fs_stop_start(struct fs *fs, const char *mountpoint);
/* The loop has ended: end the thread. */
void msnap_fs_stop_finish(void);

#endif
