/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * view.c - see view.h.
 *
 * What is new in a view is found by comparing where its blocks are with where the
 * pool's are that the engine maps there: the host's filesystem moved those that
 * were stored to.  The last block, when the file ends inside it, cannot be shared
 * (FICLONERANGE wants whole blocks but at the end of both files); it is copied, and
 * compared by content.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "view.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "host.h"
#include "log.h"

#define BLOCK 4096u
#define MAX_PIECES 16384 /* of more even the second use is no faster (bench/line) */

struct msnap_fs_views {
	struct msnap_pool *pool;
	int dir;
	char *path;
	_Atomic unsigned serial; /* of names for files that are being built */
};

/* ---- the directory --------------------------------------------------------- */

static int open_dir(const char *path, bool *is_new)
{
	int fd;

	*is_new = mkdir(path, 0700) == 0;
	if (!*is_new && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int refuse(int err, char *why, size_t size, const char *path, int dir)
{
	if (dir >= 0 && (err == -EOPNOTSUPP || err == -EXDEV || err == -EINVAL))
		snprintf(why, size, "files on %s cannot share blocks; a pool on XFS or "
			 "btrfs could be mapped directly", msnap_fs_host_name(dir));
	else
		snprintf(why, size, "files cannot share blocks in %s: %s", path,
			 strerror(-err));
	if (dir >= 0)
		close(dir);
	rmdir(path);
	return err;
}

int msnap_fs_views_new(struct msnap_pool *pool, const char *pool_path, char *why,
		       size_t why_size, struct msnap_fs_views **out)
{
	char path[PATH_MAX];
	struct msnap_fs_views *views;
	bool is_new = true;
	int dir, err;

	if (msnap_pool_fd(pool) < 0) {
		snprintf(why, why_size, "the pool is a device, not a file on a "
			 "filesystem that can share blocks");
		return -EOPNOTSUPP;
	}
	if (snprintf(path, sizeof(path), "%s.views", pool_path) >=
	    (int)sizeof(path))
		return refuse(-ENAMETOOLONG, why, why_size, pool_path, -1);
	dir = open_dir(path, &is_new);
	if (dir >= 0)
		msnap_fs_host_make_alike(dir, msnap_pool_fd(pool));
	err = dir < 0 ? dir : msnap_fs_host_can_share(dir);
	/* Nothing can be tried on a full filesystem.  It went well before. */
	if (err == -ENOSPC && !is_new)
		err = 0;
	if (err)
		return refuse(err, why, why_size, path, dir);
	views = calloc(1, sizeof(*views));
	if (views)
		views->path = strdup(path);
	if (!views || !views->path) {
		free(views);
		return refuse(-ENOMEM, why, why_size, path, dir);
	}
	views->pool = pool;
	views->dir = dir;
	*out = views;
	return 0;
}

void msnap_fs_views_free(struct msnap_fs_views *views)
{
	if (!views)
		return;
	close(views->dir);
	free(views->path);
	free(views);
}

int msnap_fs_views_space(struct msnap_fs_views *views, uint64_t *bytes)
{
	struct statvfs st;

	if (fstatvfs(views->dir, &st))
		return -errno;
	*bytes = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

void msnap_fs_views_clear(struct msnap_fs_views *views, msnap_fs_keep_fn *keep,
			  void *arg)
{
	int fd = openat(views->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	while (dir && (de = readdir(dir)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, "..") &&
		    !keep(arg, de->d_name))
			unlinkat(views->dir, de->d_name, 0);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

void msnap_fs_views_end(struct msnap_fs_views *views, msnap_fs_keep_fn *keep,
			void *arg)
{
	msnap_fs_views_clear(views, keep, arg);
	if (rmdir(views->path) && errno != ENOTEMPTY && errno != EEXIST)
		msnap_fs_log(LOG_WARNING, "%s cannot be removed: %s", views->path,
			     strerror(errno));
}

struct msnap_fs_view_name msnap_fs_view_of(uint64_t ino)
{
	struct msnap_fs_view_name name;

	snprintf(name.text, sizeof(name.text), "%" PRIu64, ino);
	return name;
}

struct msnap_fs_view_name
msnap_fs_view_of_identity(const struct msnap_identity *identity)
{
	struct msnap_fs_view_name name;

	snprintf(name.text, sizeof(name.text),
		 "s%" PRIu64 "-%" PRIu64 "-%" PRIu64, identity->blk,
		 identity->gen, identity->size);
	return name;
}

int msnap_fs_view_open(struct msnap_fs_views *views,
		       const struct msnap_fs_view_name *name)
{
	int fd = openat(views->dir, name->text, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

void msnap_fs_view_remove(struct msnap_fs_views *views,
			  const struct msnap_fs_view_name *name)
{
	if (unlinkat(views->dir, name->text, 0) && errno != ENOENT)
		msnap_fs_log(LOG_WARNING, "view %s cannot be removed: %s",
			     name->text, strerror(errno));
}

/* ---- what the engine maps ---------------------------------------------------- */

struct pieces {
	struct msnap_piece *at;
	size_t nr, cap, max;
	int err;
};

static int add_piece(void *arg, const struct msnap_piece *piece)
{
	struct pieces *p = arg;

	if (p->nr == p->max) {
		p->err = -E2BIG;
		return 1;
	}
	if (p->nr == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 64;
		void *at = realloc(p->at, cap * sizeof(*p->at));

		if (!at) {
			p->err = -ENOMEM;
			return 1;
		}
		p->at = at;
		p->cap = cap;
	}
	p->at[p->nr++] = *piece;
	return 0;
}

/* MSNAP_EXT_UNWRITTEN of the engine's format: allocated, reads as zeros. */
#define UNWRITTEN 1u

static bool has_data(const struct msnap_piece *p)
{
	return !(p->flags & UNWRITTEN);
}

static int get_pieces(struct msnap_fs_views *views, struct msnap_id id, size_t max,
		      struct pieces *p)
{
	int err;

	*p = (struct pieces){ .max = max };
	err = msnap_map(views->pool, id, 0, add_piece, p);
	return err ? err : p->err;
}

static uint64_t whole_blocks(uint64_t size)
{
	return size & ~(uint64_t)(BLOCK - 1);
}

/* ---- pool to view -------------------------------------------------------------- */

static int share_piece(struct msnap_fs_views *views, const struct msnap_piece *p,
		       uint64_t size, int fd)
{
	uint64_t end = p->off + p->len, limit = whole_blocks(size);

	if (!has_data(p)) {
		int res = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)p->off,
				    (off_t)p->len);

		return res ? -errno : 0;
	}
	if (end > limit)
		end = limit;
	if (end <= p->off)
		return 0;
	return msnap_fs_host_share(msnap_pool_fd(views->pool), p->blk * BLOCK, fd,
				   p->off, end - p->off);
}

static int write_all(int fd, const char *buf, size_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd, buf, len, (off_t)off);

		if (n <= 0)
			return n ? -errno : -EIO;
		buf += n;
		len -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

static int copy_tail(struct msnap_fs_views *views, struct msnap_id id, int fd,
		     uint64_t size)
{
	uint64_t off = whole_blocks(size);
	size_t len = size - off;
	char buf[BLOCK];
	ssize_t n;

	if (!len)
		return 0;
	n = msnap_pread(views->pool, id, buf, len, off);
	return n < 0 ? (int)n : write_all(fd, buf, (size_t)n, off);
}

static int set_mtime(int fd, const struct msnap_attr *attr)
{
	const struct timespec times[2] = { attr->atime, attr->mtime };

	return futimens(fd, times) ? -errno : 0;
}

int msnap_fs_view_set_times(struct msnap_fs_views *views, uint64_t ino, int fd)
{
	struct msnap_attr attr;
	int err = msnap_getattr(views->pool, msnap_live(ino), &attr);

	return err ? err : set_mtime(fd, &attr);
}

static int fill(struct msnap_fs_views *views, struct msnap_id id, int fd)
{
	struct msnap_attr attr;
	struct pieces p = { 0 };
	int err = msnap_getattr(views->pool, id, &attr);

	if (!err)
		err = get_pieces(views, id, MAX_PIECES, &p);
	if (!err && ftruncate(fd, (off_t)attr.size))
		err = -errno;
	for (size_t i = 0; !err && i < p.nr; i++)
		err = share_piece(views, &p.at[i], attr.size, fd);
	if (!err)
		err = copy_tail(views, id, fd, attr.size);
	if (!err)
		err = set_mtime(fd, &attr);
	free(p.at);
	return err;
}

int msnap_fs_view_build(struct msnap_fs_views *views, struct msnap_id id,
			const struct msnap_fs_view_name *name)
{
	char tmp[32];
	int fd, err;

	snprintf(tmp, sizeof(tmp), "new-%u", views->serial++);
	fd = openat(views->dir, tmp,
		    O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = fill(views, id, fd);
	MSNAP_CRASH_AT(VIEW_FILLED);
	if (!err && renameat(views->dir, tmp, views->dir, name->text))
		err = -errno;
	if (err)
		unlinkat(views->dir, tmp, 0);
	close(fd);
	return err;
}

/* ---- comparing ---------------------------------------------------------------------- */

struct imports {
	struct msnap_import *at;
	size_t nr, cap;
};

static int add_import(struct imports *im, uint64_t off, uint64_t len, bool hole)
{
	struct msnap_import *last = im->nr ? &im->at[im->nr - 1] : NULL;

	if (last && last->hole == hole && last->off + last->len == off) {
		last->len += len;
		return 0;
	}
	if (im->nr == im->cap) {
		size_t cap = im->cap ? im->cap * 2 : 64;
		void *at = realloc(im->at, cap * sizeof(*im->at));

		if (!at)
			return -ENOMEM;
		im->at = at;
		im->cap = cap;
	}
	im->at[im->nr++] = (struct msnap_import){ off, len, hole };
	return 0;
}

/* Pieces that are this close in the pool, in bytes, are asked for together. */
#define NEAR (64 * BLOCK)

struct stretch {
	uint64_t start, end; /* bytes, in the pool's file */
};

static int by_start(const void *a, const void *b)
{
	const struct stretch *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

/* The stretches of the pool that have data, ascending; those that are near each other
 * are one.  Returns how many. */
static size_t stretches(const struct pieces *p, struct stretch *out)
{
	size_t nr = 0, merged = 0;

	for (size_t i = 0; i < p->nr; i++) {
		uint64_t start = p->at[i].blk * BLOCK;

		if (has_data(&p->at[i]))
			out[nr++] = (struct stretch){ start, start + p->at[i].len };
	}
	qsort(out, nr, sizeof(*out), by_start);
	for (size_t i = 0; i < nr; i++) {
		struct stretch *last = merged ? &out[merged - 1] : NULL;

		if (!last || out[i].start > last->end + NEAR)
			out[merged++] = out[i];
		else if (out[i].end > last->end)
			last->end = out[i].end;
	}
	return merged;
}

/* Where the data of all pieces are on the device, at offsets of the pool's file. */
static int pool_places(struct msnap_fs_views *views, const struct pieces *p,
		       struct msnap_fs_wheres *out)
{
	struct stretch *s = malloc((p->nr + 1) * sizeof(*s));
	size_t nr = s ? stretches(p, s) : 0;
	int err = s ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < nr; i++)
		err = msnap_fs_host_where(msnap_pool_fd(views->pool), s[i].start,
					  s[i].end - s[i].start, out);
	free(s);
	return err;
}

/* The first that ends behind @off. */
static size_t find_place(const struct msnap_fs_wheres *l, uint64_t off)
{
	size_t lo = 0, hi = l->nr;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (l->at[mid].off + l->at[mid].len <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Those of one piece, at offsets of the file; nothing from @limit on. */
static int places_of(const struct msnap_piece *piece, uint64_t limit,
		     const struct msnap_fs_wheres *pool, struct msnap_fs_wheres *out)
{
	uint64_t start = piece->blk * BLOCK, len = piece->len;
	int err = 0;

	if (len > limit - piece->off)
		len = limit - piece->off;
	if (!has_data(piece))
		return msnap_fs_wheres_add(out, &(struct msnap_fs_where){
			.off = piece->off, .len = len, .zeros = true });
	for (size_t i = find_place(pool, start); !err && i < pool->nr; i++) {
		struct msnap_fs_where w = pool->at[i];

		if (w.off >= start + len)
			break;
		msnap_fs_where_cut(&w, start, start + len);
		w.off = w.off - start + piece->off;
		err = msnap_fs_wheres_add(out, &w);
	}
	return err;
}

/*
 * Where the engine's pieces are on the device, at offsets of the file.  The pool is
 * asked in its own order and in large parts: a call for each piece takes longer than
 * all else.
 */
static int places(struct msnap_fs_views *views, const struct pieces *p,
		  uint64_t limit, struct msnap_fs_wheres *out)
{
	struct msnap_fs_wheres pool = { 0 };
	int err = pool_places(views, p, &pool);

	for (size_t i = 0; !err && i < p->nr && p->at[i].off < limit; i++)
		err = places_of(&p->at[i], limit, &pool, out);
	msnap_fs_wheres_free(&pool);
	return err;
}

/* The stretch of one side that the position is in, or the gap before the next. */
struct side {
	const struct msnap_fs_wheres *list;
	size_t i;
};

static const struct msnap_fs_where *at(struct side *s, uint64_t pos, uint64_t *end)
{
	const struct msnap_fs_wheres *l = s->list;

	while (s->i < l->nr && l->at[s->i].off + l->at[s->i].len <= pos)
		s->i++;
	if (s->i == l->nr)
		return NULL;
	if (l->at[s->i].off > pos) {
		if (l->at[s->i].off < *end)
			*end = l->at[s->i].off;
		return NULL;
	}
	if (l->at[s->i].off + l->at[s->i].len < *end)
		*end = l->at[s->i].off + l->at[s->i].len;
	return &l->at[s->i];
}

/* Nothing in both, nothing but allocated blocks in both, or the same blocks. */
static bool same_there(const struct msnap_fs_where *a, const struct msnap_fs_where *b,
		       uint64_t pos)
{
	if (!a || !b)
		return a == b;
	if (a->zeros || b->zeros)
		return a->zeros == b->zeros;
	return a->known && b->known &&
	       a->phys + (pos - a->off) == b->phys + (pos - b->off);
}

/* What differs goes to @data (or is a hole); what is allocated in the view without
 * data, to @allocated as well. */
static int sweep(const struct msnap_fs_wheres *view,
		 const struct msnap_fs_wheres *pool, uint64_t limit,
		 struct imports *data, struct imports *allocated)
{
	struct side v = { view, 0 }, p = { pool, 0 };
	uint64_t pos = 0;
	int err = 0;

	while (!err && pos < limit) {
		uint64_t end = limit;
		const struct msnap_fs_where *a = at(&v, pos, &end);
		const struct msnap_fs_where *b = at(&p, pos, &end);

		if (!same_there(a, b, pos)) {
			err = add_import(data, pos, end - pos, !a || a->zeros);
			if (!err && a && a->zeros)
				err = add_import(allocated, pos, end - pos, true);
		}
		pos = end;
	}
	return err;
}

/* Where the engine's blocks of the first @limit bytes are. */
static int engine_places(struct msnap_fs_views *views, uint64_t ino, uint64_t limit,
			 struct msnap_fs_wheres *out)
{
	struct pieces p = { 0 };
	int err = get_pieces(views, msnap_live(ino), SIZE_MAX, &p);

	if (!err)
		err = places(views, &p, limit, out);
	free(p.at);
	return err;
}

/*
 * What differs between view @fd, of @size bytes, and the engine, in whole blocks.
 * @known: where the engine's blocks are, if that is known, and then where the view's are.
 */
static int compare(struct msnap_fs_views *views, uint64_t ino, int fd, uint64_t size,
		   struct msnap_fs_wheres *known, struct imports *data,
		   struct imports *allocated)
{
	struct msnap_fs_wheres view = { 0 };
	uint64_t limit = whole_blocks(size);
	int err = known->nr ? 0 : engine_places(views, ino, limit, known);

	if (!err)
		err = msnap_fs_host_where(fd, 0, limit, &view);
	if (!err)
		err = sweep(&view, known, limit, data, allocated);
	msnap_fs_wheres_free(known);
	*known = view;
	return err;
}

/* Does the end inside the last block differ?  1, 0 or an error. */
static int compare_tail(struct msnap_fs_views *views, uint64_t ino, int fd,
			uint64_t size, char *tail)
{
	uint64_t off = whole_blocks(size);
	size_t len = size - off;
	char have[BLOCK];
	ssize_t n;

	if (!len)
		return 0;
	n = pread(fd, tail, len, (off_t)off);
	if (n != (ssize_t)len)
		return n < 0 ? -errno : -EIO;
	n = msnap_pread(views->pool, msnap_live(ino), have, len, off);
	if (n < 0)
		return (int)n;
	return n != (ssize_t)len || memcmp(have, tail, len) != 0;
}

/* ---- view to pool ---------------------------------------------------------------------- */

struct look {
	struct stat st;
	struct imports differ;
	struct imports allocated;
	char tail[BLOCK];
	bool tail_differs;
	bool any;
};

/* @known: as in compare(). */
static int look(struct msnap_fs_views *views, uint64_t ino, int fd,
		struct msnap_fs_wheres *known, struct look *l)
{
	struct msnap_attr attr;
	int err = msnap_getattr(views->pool, msnap_live(ino), &attr);

	if (!err && fstat(fd, &l->st))
		err = -errno;
	if (!err)
		err = compare(views, ino, fd, (uint64_t)l->st.st_size, known,
			      &l->differ, &l->allocated);
	if (!err) {
		int res = compare_tail(views, ino, fd, (uint64_t)l->st.st_size,
				       l->tail);

		l->tail_differs = res > 0;
		err = res < 0 ? res : 0;
	}
	l->any = l->differ.nr || l->tail_differs ||
		 attr.size != (uint64_t)l->st.st_size;
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

/* ---- after a rollback ---------------------------------------------------------------- */

static int make_hole(int fd, uint64_t from, uint64_t to)
{
	int res = from < to ? fallocate(fd, FALLOC_FL_PUNCH_HOLE |
						FALLOC_FL_KEEP_SIZE,
					(off_t)from, (off_t)(to - from)) : 0;

	return res ? -errno : 0;
}

/*
 * Pieces ascend as ranges do: @i is the first that can be in the next range.  What is
 * shared replaces what was there at once: nobody sees a hole in between.
 */
static int refresh_range(struct msnap_fs_views *views, const struct pieces *p,
			 size_t *i, const struct msnap_import *r, int fd)
{
	uint64_t pos = r->off, end = r->off + r->len;
	int err = 0;

	while (*i < p->nr && p->at[*i].off + p->at[*i].len <= pos)
		++*i;
	for (size_t k = *i; !err && k < p->nr && p->at[k].off < end; k++) {
		const struct msnap_piece *piece = &p->at[k];
		uint64_t to = piece->off + piece->len;

		if (!has_data(piece))
			continue;
		to = to < end ? to : end;
		if (piece->off > pos) {
			err = make_hole(fd, pos, piece->off);
			pos = piece->off;
		}
		if (!err)
			err = msnap_fs_host_share(msnap_pool_fd(views->pool),
						  piece->blk * BLOCK +
							  (pos - piece->off),
						  fd, pos, to - pos);
		pos = to;
	}
	return err ? err : make_hole(fd, pos, end);
}

int msnap_fs_view_refresh(struct msnap_fs_views *views, uint64_t ino, int fd)
{
	struct msnap_id id = msnap_live(ino);
	struct imports differ = { 0 }, allocated = { 0 };
	struct msnap_fs_wheres known = { 0 };
	struct pieces p = { 0 };
	struct msnap_attr attr;
	size_t piece = 0;
	int err = msnap_getattr(views->pool, id, &attr);

	if (!err && ftruncate(fd, (off_t)attr.size))
		err = -errno;
	if (!err)
		err = compare(views, ino, fd, attr.size, &known, &differ,
			      &allocated);
	if (!err)
		err = get_pieces(views, id, SIZE_MAX, &p);
	for (size_t i = 0; !err && i < differ.nr; i++)
		err = refresh_range(views, &p, &piece, &differ.at[i], fd);
	if (!err)
		err = copy_tail(views, id, fd, attr.size);
	if (!err)
		err = set_mtime(fd, &attr);
	msnap_fs_wheres_free(&known);
	free(differ.at);
	free(allocated.at);
	free(p.at);
	return err;
}

/* ---- copies ---------------------------------------------------------------------------- */

#define COPY_AT_ONCE (1u << 20)

/* The file is at least that large. */
static int extend(int fd, uint64_t size)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if ((uint64_t)st.st_size >= size)
		return 0;
	return ftruncate(fd, (off_t)size) ? -errno : 0;
}

/* How far the hole that begins at @off reaches, at most to @end; 0: it is data. */
static uint64_t hole_at(struct msnap_fs_views *views, struct msnap_id id,
			uint64_t off, uint64_t end)
{
	uint64_t data;
	int err = msnap_seek(views->pool, id, off, SEEK_DATA, &data);

	if (err == -ENXIO)
		return end - off;
	if (err)
		return 0;
	return (data < end ? data : end) - off;
}

struct copy {
	struct msnap_id src;
	uint64_t src_off, off, len;
	char *buf;
};

/* One step: a hole, or what the buffer holds. */
static ssize_t copy_some(struct msnap_fs_views *views, const struct copy *c, int fd,
			 uint64_t done)
{
	uint64_t from = c->src_off + done, to = c->off + done;
	uint64_t left = c->len - done;
	uint64_t hole = hole_at(views, c->src, from, from + left);
	size_t want = left < COPY_AT_ONCE ? left : COPY_AT_ONCE;
	ssize_t n;
	int err;

	if (hole) {
		err = make_hole(fd, to, to + hole);
		return err ? err : (ssize_t)hole;
	}
	n = msnap_pread(views->pool, c->src, c->buf, want, from);
	err = n > 0 ? write_all(fd, c->buf, (size_t)n, to) : 0;
	return err ? err : n;
}

ssize_t msnap_fs_view_copy_in(struct msnap_fs_views *views, struct msnap_id src,
			      uint64_t src_off, int fd, uint64_t off, uint64_t len)
{
	struct copy c = { src, src_off, off, len, NULL };
	struct msnap_attr attr;
	uint64_t done = 0;
	ssize_t n = 1;
	int err = msnap_getattr(views->pool, src, &attr);

	if (err)
		return err;
	if (src_off >= attr.size)
		return 0;
	if (c.len > attr.size - src_off)
		c.len = attr.size - src_off;
	c.buf = malloc(COPY_AT_ONCE);
	if (!c.buf)
		return -ENOMEM;
	while (n > 0 && done < c.len) {
		n = copy_some(views, &c, fd, done);
		done += n > 0 ? (uint64_t)n : 0;
	}
	/* A hole at the end has not moved it. */
	err = done ? extend(fd, off + done) : 0;
	free(c.buf);
	if (err)
		return err;
	return done ? (ssize_t)done : n;
}
