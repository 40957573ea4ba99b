/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * base.h - the pool that every damaged image begins as, and what must still be in it
 * when it was repaired.
 */
#ifndef TESTS_IMAGES_BASE_H
#define TESTS_IMAGES_BASE_H

#include "cow/inode.h"

#define IMAGE_SIZE (4u << 20)

/* Ends the program, with the line, when an engine call fails. */
long image_must(long ret, const char *file, int line);
#define MUST(x) image_must((x), __FILE__, __LINE__)

/* Split "SNAPSHOT:PATH" or "PATH", and find the inode.  -ENOENT. */
int image_find(struct msnap_pool *pool, const char *path, struct msnap_id *id);
/* The same for the directory a path's last name is in; that name. */
int image_find_dir(struct msnap_pool *pool, const char *path, struct msnap_id *dir,
		   const char **name);
/* The snapshot called @name. */
uint64_t image_snap(struct msnap_pool *pool, const char *name);

/* Make the pool's contents, always the same, up to the last but one commit... */
struct msnap_pool *image_make(const char *file);
/* ... and what the last one has. */
void image_make_late(struct msnap_pool *pool);

/*
 * Are all files there with their contents, but for those that @lost says may be
 * damaged?  Says what is wrong, and returns how often.
 */
unsigned image_verify(struct msnap_pool *pool, bool (*lost)(const char *path));

#endif
