/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scrub-name.c - from an inode to a path.
 *
 * Directories know their parent.  A file does not: its entry is searched for in the
 * whole namespace, which is slow and therefore done for damaged files only.
 */
#include "scrub.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "inode.h"

/* Records looked at while the lock is held. */
#define SLICE 4096u
/* More directories than a path can name: they go in a circle. */
#define MAX_DEPTH 4096u

/* The search for the entry that names an inode. */
struct search {
	struct msnap_pool *pool;
	struct msnap_id id;
	struct msnap_key key; /* where to go on */
	uint64_t only;	      /* look in this directory; 0: in all */
	/* found */
	uint64_t dir;
	unsigned len;
	char name[MSNAP_NAME_MAX];
};

static bool matches(struct search *f, struct msnap_key key, const struct msnap_dirent *de)
{
	if (key.lo >> 56 != MSNAP_NS_DIRENT || get64(de->ino) != f->id.ino)
		return false;
	f->dir = key.hi;
	f->len = de->len;
	memcpy(f->name, de->name, de->len);
	return true;
}

/* -EAGAIN: go on from f->key. */
static int search_slice(struct search *f)
{
	struct msnap_cursor cur;
	struct msnap_tree ns;
	unsigned i, len;
	int err = msnap_ns_of(f->pool, f->id.snap, &ns);

	if (!err)
		err = msnap_cursor_seek(f->pool, &ns, f->key, &cur);
	for (i = 0; !err && i < SLICE; i++) {
		f->key = msnap_cursor_key(&cur);
		if (f->only && (f->key.hi != f->only || f->key.lo >> 56 > MSNAP_NS_DIRENT))
			return -ENOENT;
		if (matches(f, f->key, msnap_cursor_val(&cur, &len)))
			return 0;
		err = msnap_cursor_next(&cur);
	}
	return err ? err : -EAGAIN;
}

static int search(struct search *f)
{
	int err;

	f->key = f->only ? msnap_ns_key(f->only, MSNAP_NS_DIRENT, 0) :
			   (struct msnap_key){ 0, 0 };
	do {
		pthread_rwlock_rdlock(&f->pool->lock);
		err = MSNAP_GUARD(search_slice(f));
		pthread_rwlock_unlock(&f->pool->lock);
	} while (err == -EAGAIN);
	return err;
}

static int find_inode(struct msnap_pool *pool, struct msnap_id id,
		      struct msnap_inode *in)
{
	int err;

	pthread_rwlock_rdlock(&pool->lock);
	err = MSNAP_GUARD(msnap_inode_find(pool, id, in));
	pthread_rwlock_unlock(&pool->lock);
	return err;
}

/* The entry that names f->id.  Above what a snapshot holds, the live one: f->id.snap
 * is 0 then. */
static int find_name(struct search *f)
{
	struct msnap_inode in;
	int err = find_inode(f->pool, f->id, &in);

	if (err == -ENOENT && f->id.snap) {
		f->id.snap = 0;
		err = find_inode(f->pool, f->id, &in);
	}
	if (err)
		return err;
	f->only = S_ISDIR(get32(in.mode)) ? get64(in.parent) : 0;
	if (S_ISDIR(get32(in.mode)) && !f->only)
		return -ENOENT;
	err = search(f);
	if (err == -ENOENT && f->id.snap && f->only) {
		f->id.snap = 0;
		err = search(f);
	}
	return err;
}

/* Put @len bytes in front of what is at *@at; false: no room. */
static bool prepend(char *buf, char **at, const char *text, size_t len)
{
	if ((size_t)(*at - buf) < len)
		return false;
	*at -= len;
	memcpy(*at, text, len);
	return true;
}

static void prepend_number(char *buf, char **at, uint64_t ino)
{
	char text[40];

	snprintf(text, sizeof(text), "<inode %llu>", (unsigned long long)ino);
	prepend(buf, at, text, strlen(text));
}

void msnap_scrub_name(struct msnap_pool *pool, struct msnap_id id, char *buf,
		      size_t size)
{
	struct search f = { .pool = pool, .id = id };
	char *at = buf + size - 1;
	unsigned depth;

	*at = '\0';
	if (id.ino == MSNAP_ROOT_INO)
		prepend(buf, &at, "/", 1);
	for (depth = 0; f.id.ino != MSNAP_ROOT_INO; depth++) {
		if (depth == MAX_DEPTH || find_name(&f)) {
			prepend_number(buf, &at, f.id.ino);
			break;
		}
		if (!prepend(buf, &at, f.name, f.len) || !prepend(buf, &at, "/", 1))
			break;
		f.id.ino = f.dir;
	}
	memmove(buf, at, strlen(at) + 1);
}
