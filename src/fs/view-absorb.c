/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * view-absorb.c - what was stored in a view goes into the engine.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"
#include "view-int.h"

struct look {
	struct stat st;
	struct msnap_fs_imports differ;
	struct msnap_fs_imports allocated;
	char tail[MSNAP_FS_BLOCK];
	bool tail_differs;
	bool any;
};

/* @known: as in msnap_fs_view_compare(). */
static int look(struct msnap_fs_views *views, uint64_t ino, int fd,
		struct msnap_fs_wheres *known, struct look *l)
{
	struct msnap_attr attr = { 0 };
	int err = msnap_getattr(views->pool, msnap_live(ino), &attr);
	uint64_t size;

	if (!err && fstat(fd, &l->st))
		err = -errno;
	size = (uint64_t)l->st.st_size;
	if (!err)
		err = msnap_fs_view_compare(views, ino, fd, size, known, &l->differ,
					    &l->allocated);
	if (!err) {
		int res = msnap_fs_view_compare_tail(views, ino, fd, size, l->tail);

		l->tail_differs = res > 0;
		err = res < 0 ? res : 0;
	}
	l->any = l->differ.nr || l->tail_differs || attr.size != size;
	return err;
}

static int import(struct msnap_fs_views *views, uint64_t ino, int fd,
		  const struct look *l)
{
	uint64_t size = (uint64_t)l->st.st_size;
	int err = msnap_import(views->pool, ino, fd, l->differ.at, l->differ.nr, size,
			       l->tail_differs ? l->tail : NULL, &l->st.st_mtim);

	/* What reads as zeros already. */
	for (size_t i = 0; !err && i < l->allocated.nr; i++)
		err = msnap_fallocate(views->pool, ino, FALLOC_FL_KEEP_SIZE,
				      l->allocated.at[i].off,
				      l->allocated.at[i].len);
	return err;
}

/* A copy of the view at one instant; the kernel keeps stores out meanwhile. */
static int freeze(struct msnap_fs_views *views, int fd)
{
	int frozen = openat(views->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct stat st;
	int err;

	if (frozen < 0)
		return -errno;
	err = msnap_fs_host_share_all(fd, frozen);
	if (!err && !fstat(fd, &st)) {
		const struct timespec times[2] = { st.st_atim, st.st_mtim };

		futimens(frozen, times);
	}
	if (!err)
		return frozen;
	close(frozen);
	return err;
}

static void forget_look(struct look *l)
{
	free(l->differ.at);
	free(l->allocated.at);
	*l = (struct look){ 0 };
}

static int absorb_frozen(struct msnap_fs_views *views, uint64_t ino, int fd,
			 struct msnap_fs_wheres *known)
{
	struct look l = { 0 };
	int frozen = freeze(views, fd);
	int err = frozen < 0 ? frozen : look(views, ino, frozen, known, &l);

	MSNAP_CRASH_AT(ABSORB_FROZEN);
	if (!err && l.any)
		err = import(views, ino, frozen, &l);
	forget_look(&l);
	if (frozen >= 0)
		close(frozen);
	return err;
}

/* Has anybody stored to it since the look began?  Pages are clean then, and the first
 * store to one sets the time.  A clock that is too coarse to tell costs time only. */
static bool is_busy(int fd, const struct look *l)
{
	struct stat st;

	return fstat(fd, &st) || st.st_mtim.tv_sec != l->st.st_mtim.tv_sec ||
	       st.st_mtim.tv_nsec != l->st.st_mtim.tv_nsec;
}

/* What the engine will have must not be newer than the view after a crash. */
static int sync_and_look(struct msnap_fs_views *views, uint64_t ino, int fd,
			 struct msnap_fs_wheres *known, struct look *l)
{
	int err;

	MSNAP_CRASH_AT(ABSORB);
	err = fsync(fd) ? -errno : look(views, ino, fd, known, l);
	MSNAP_CRASH_AT(ABSORB_SYNCED);
	return err;
}

/* What is stored comes in as it is found, unless somebody may be storing now (not
 * @quiet) and is.  1: something is new; 0: the view and the engine are the same at this
 * instant. */
static int absorb_found(struct msnap_fs_views *views, uint64_t ino, int fd, bool quiet,
			struct msnap_fs_wheres *known)
{
	struct look l = { 0 };
	int err = sync_and_look(views, ino, fd, known, &l);
	bool any = l.any, in = !err && any && (quiet || !is_busy(fd, &l));

	if (in)
		err = import(views, ino, fd, &l);
	/* How much of it came in nobody knows. */
	if (err || (any && !in))
		msnap_fs_wheres_free(known);
	forget_look(&l);
	return err ? err : any;
}

/* Is anything new since?  1: yes. */
static int look_again(struct msnap_fs_views *views, uint64_t ino, int fd,
		      struct msnap_fs_wheres *known)
{
	struct look l = { 0 };
	int err = sync_and_look(views, ino, fd, known, &l);
	bool any = l.any;

	/* They are the view's now. */
	if (err || any)
		msnap_fs_wheres_free(known);
	forget_look(&l);
	return err ? err : any;
}

/*
 * Nothing new anywhere: the cut is here, before whatever comes.  Mostly the second look
 * is that; only when somebody keeps storing is a frozen copy worth its time, which is
 * that of sharing every piece, and then it is made at once.  An error of the first look
 * may be one of its being changed meanwhile (it was truncated).
 *
 * What has come in has the places that the view had.  A block that is stored to after
 * that moves, as it is shared now.
 */
int msnap_fs_view_absorb(struct msnap_fs_views *views, uint64_t ino, int fd,
			 bool quiet)
{
	struct msnap_fs_wheres known = { 0 };
	int res = absorb_found(views, ino, fd, quiet, &known);
	bool any = res != 0;

	/* Nothing is known: somebody is storing, or not all could be brought in. */
	if (!quiet && res && known.nr)
		res = look_again(views, ino, fd, &known);
	if (!quiet && res)
		res = absorb_frozen(views, ino, fd, &known);
	msnap_fs_wheres_free(&known);
	return res < 0 ? res : any;
}
