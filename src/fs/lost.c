/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lost.c - see lost.h. */
#include "lost.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cow/cow.h"
#include "log.h"

#define MAX_FILES 256

struct lost_file {
	uint64_t ino;
	int err;
};

struct msnap_fs_lost {
	pthread_mutex_t lock; /* guards what follows */
	struct lost_file file[MAX_FILES];
	unsigned nr;
	int others; /* an error of files that had no place; 0: none */
};

int msnap_fs_lost_new(struct msnap_fs_lost **out)
{
	struct msnap_fs_lost *lost = calloc(1, sizeof(*lost));

	if (!lost)
		return -ENOMEM;
	pthread_mutex_init(&lost->lock, NULL);
	*out = lost;
	return 0;
}

void msnap_fs_lost_free(struct msnap_fs_lost *lost)
{
	if (lost)
		pthread_mutex_destroy(&lost->lock);
	free(lost);
}

static bool is_there(const struct msnap_fs_lost *lost, uint64_t ino)
{
	for (unsigned i = 0; i < lost->nr; i++)
		if (lost->file[i].ino == ino)
			return true;
	return false;
}

void msnap_fs_lost_add(struct msnap_fs_lost *lost, uint64_t ino, int err)
{
	bool known;

	pthread_mutex_lock(&lost->lock);
	known = is_there(lost, ino);
	if (!known && lost->nr < MAX_FILES)
		lost->file[lost->nr++] = (struct lost_file){ ino, err };
	else if (!known)
		lost->others = err;
	pthread_mutex_unlock(&lost->lock);
	if (!known)
		msnap_fs_log(LOG_ERR, "inode %" PRIu64 ": something that was stored in "
			     "a mapping is lost, it could not be written: %s", ino,
			     strerror(-err));
}

/* A file that was deleted is missed by nobody. */
static int error_of(const struct lost_file *file, struct msnap_pool *pool)
{
	struct msnap_attr attr;

	return msnap_getattr(pool, msnap_live(file->ino), &attr) ? 0 : file->err;
}

int msnap_fs_lost_take(struct msnap_fs_lost *lost, struct msnap_pool *pool,
		       uint64_t ino)
{
	int err = 0;

	pthread_mutex_lock(&lost->lock);
	for (unsigned i = 0; i < lost->nr;) {
		if (ino && lost->file[i].ino != ino) {
			i++;
			continue;
		}
		err = error_of(&lost->file[i], pool) ?: err;
		lost->file[i] = lost->file[--lost->nr];
	}
	err = err ? err : lost->others;
	lost->others = 0;
	pthread_mutex_unlock(&lost->lock);
	return err;
}
