/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scrub.h - the scrub of this mount: a thread that drives the engine's, at the
 * rate asked for, and what it found.
 *
 * What it does not do: it starts none by itself, nor goes on with one after a mount;
 * somebody has to ask.
 *
 * Locking: its own; callable from any thread.
 */
#ifndef MSNAP_FS_SCRUB_H
#define MSNAP_FS_SCRUB_H

#include "ctl.h"

struct msnap_fs_scrub;

/* -ENOMEM; no thread yet. */
int msnap_fs_scrub_new(struct fs *fs, struct msnap_fs_scrub **scrub);
/* End the thread, the place where it was recorded.  Before the pool is closed; none
 * can be started any more. */
void msnap_fs_scrub_stop(struct msnap_fs_scrub *scrub);
/* After it was stopped, before the pool is closed; NULL is fine. */
void msnap_fs_scrub_free(struct msnap_fs_scrub *scrub);

/* The ioctls; done by control threads. */
void msnap_fs_call_scrub(struct fs *fs, struct msnap_fs_call *call);
void msnap_fs_call_scrub_list(struct fs *fs, struct msnap_fs_call *call);

#endif
