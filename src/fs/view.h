/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * view.h - views: files beside the pool that have the contents of one inode each,
 * by sharing the pool's blocks, so that the kernel can run an open file on them.
 *
 * They live in POOL.views, a directory that only the daemon's user can read, under
 * a name that says what they are of.  A view appears under its name complete or not
 * at all (it is built under another and renamed).
 *
 * What it does not do: it counts no opens and takes no lock; direct.c does.  Nobody
 * else may change the inode in the engine while one of these calls works on it, but
 * for the source of msnap_fs_view_copy_in().
 */
#ifndef MSNAP_FS_VIEW_H
#define MSNAP_FS_VIEW_H

#include "fs.h"

struct msnap_fs_views;

/*
 * Find or make the directory for views of @pool_path, and see that its filesystem
 * can do what is needed.  -errno and a reason in @why otherwise.
 */
int msnap_fs_views_new(struct msnap_pool *pool, const char *pool_path, char *why,
		       size_t why_size, struct msnap_fs_views **views);
void msnap_fs_views_free(struct msnap_fs_views *views); /* NULL is fine */

struct msnap_fs_view_name {
	char text[72];
};
/* Of a live inode; of snapshot contents, the same for all who share them. */
struct msnap_fs_view_name msnap_fs_view_of(uint64_t ino);
struct msnap_fs_view_name
msnap_fs_view_of_identity(const struct msnap_identity *identity);

/* Make the view; what was under the name is replaced.  -E2BIG: too many pieces. */
int msnap_fs_view_build(struct msnap_fs_views *views, struct msnap_id id,
			const struct msnap_fs_view_name *name);
/* A file descriptor for reading and writing, which the caller closes.  -ENOENT. */
int msnap_fs_view_open(struct msnap_fs_views *views,
		       const struct msnap_fs_view_name *name);
void msnap_fs_view_remove(struct msnap_fs_views *views,
			  const struct msnap_fs_view_name *name);
/* The view's times become those of live inode @ino. */
int msnap_fs_view_set_times(struct msnap_fs_views *views, uint64_t ino, int fd);

typedef bool msnap_fs_keep_fn(void *arg, const char *name);
/* Everything in the directory goes, but what @keep says. */
void msnap_fs_views_clear(struct msnap_fs_views *views, msnap_fs_keep_fn *keep,
			  void *arg);
/* The same, and then the directory itself, when it is empty. */
void msnap_fs_views_end(struct msnap_fs_views *views, msnap_fs_keep_fn *keep,
			void *arg);
/* Bytes that the filesystem has free. */
int msnap_fs_views_space(struct msnap_fs_views *views, uint64_t *bytes);

/*
 * What was stored in view @fd of live inode @ino goes into the engine, without
 * copying.  With @quiet, nobody can be storing to it; otherwise the contents that go
 * over are those of one instant during the call.  Returns 1 when there was something,
 * 0 when not.  Everything is on the media but for a commit.
 */
int msnap_fs_view_absorb(struct msnap_fs_views *views, uint64_t ino, int fd,
			 bool quiet);
/*
 * Copy @len bytes of @src as the engine has them to view @fd.  Returns how many:
 * fewer at the end of @src.
 */
ssize_t msnap_fs_view_copy_in(struct msnap_fs_views *views, struct msnap_id src,
			      uint64_t src_off, int fd, uint64_t off, uint64_t len);
/*
 * The other way of absorb: view @fd becomes what the engine has; mappings see it.
 */
int msnap_fs_view_refresh(struct msnap_fs_views *views, uint64_t ino, int fd);

#endif
