/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * view.c - what the engine has goes into a view.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"
#include "view-int.h"

#define MAX_PIECES 16384 /* of more even the second use is no faster (bench/line) */

static int share_piece(struct msnap_fs_views *views, const struct msnap_piece *p,
		       uint64_t size, int fd)
{
	uint64_t end = p->off + p->len, limit = msnap_fs_whole_blocks(size);

	if (!msnap_fs_has_data(p)) {
		int res = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)p->off,
				    (off_t)p->len);

		return res ? -errno : 0;
	}
	if (end > limit)
		end = limit;
	if (end <= p->off)
		return 0;
	return msnap_fs_host_share(msnap_pool_fd(views->pool), p->blk * MSNAP_FS_BLOCK,
				   fd, p->off, end - p->off);
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
	uint64_t off = msnap_fs_whole_blocks(size);
	size_t len = size - off;
	char buf[MSNAP_FS_BLOCK];
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
	struct msnap_fs_pieces p = { 0 };
	int err = msnap_getattr(views->pool, id, &attr);

	if (!err)
		err = msnap_fs_view_pieces(views, id, MAX_PIECES, &p);
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

/* ---- after a rollback ------------------------------------------------------- */

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
static int refresh_range(struct msnap_fs_views *views, const struct msnap_fs_pieces *p,
			 size_t *i, const struct msnap_import *r, int fd)
{
	uint64_t pos = r->off, end = r->off + r->len;
	int err = 0;

	while (*i < p->nr && p->at[*i].off + p->at[*i].len <= pos)
		++*i;
	for (size_t k = *i; !err && k < p->nr && p->at[k].off < end; k++) {
		const struct msnap_piece *piece = &p->at[k];
		uint64_t to = piece->off + piece->len;

		if (!msnap_fs_has_data(piece))
			continue;
		to = to < end ? to : end;
		if (piece->off > pos) {
			err = make_hole(fd, pos, piece->off);
			pos = piece->off;
		}
		if (!err)
			err = msnap_fs_host_share(msnap_pool_fd(views->pool),
						  piece->blk * MSNAP_FS_BLOCK +
							  (pos - piece->off),
						  fd, pos, to - pos);
		pos = to;
	}
	return err ? err : make_hole(fd, pos, end);
}

int msnap_fs_view_refresh(struct msnap_fs_views *views, uint64_t ino, int fd)
{
	struct msnap_id id = msnap_live(ino);
	struct msnap_fs_imports differ = { 0 }, allocated = { 0 };
	struct msnap_fs_wheres known = { 0 };
	struct msnap_fs_pieces p = { 0 };
	struct msnap_attr attr;
	size_t piece = 0;
	int err = msnap_getattr(views->pool, id, &attr);

	if (!err && ftruncate(fd, (off_t)attr.size))
		err = -errno;
	if (!err)
		err = msnap_fs_view_compare(views, ino, fd, attr.size, &known, &differ,
					    &allocated);
	if (!err)
		err = msnap_fs_view_pieces(views, id, SIZE_MAX, &p);
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

/* ---- copies ----------------------------------------------------------------- */

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
