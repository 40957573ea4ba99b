/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "exercise.h"

#include <dirent.h>
#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cow/cow.h"

#define MAX_SEEN 64
#define MAX_PER_DIR 12
#define MAX_SNAPS 8
#define MAX_MOVES 24

static uint8_t buf[96u << 10];

/* ---- what was found ------------------------------------------------------- */

struct seen {
	struct msnap_id dir, id;
	uint8_t type;
	size_t len;
	char name[256];
};

static struct seen seen[MAX_SEEN];
static unsigned nr_seen, first_of_dir;
static uint64_t snaps[MAX_SNAPS + 1]; /* [0]: 0, the live one */
static unsigned nr_snaps;
static struct msnap_id reading;

static int see(void *arg, const struct msnap_entry *e)
{
	struct seen *s = &seen[nr_seen];

	(void)arg;
	if (nr_seen == MAX_SEEN || nr_seen - first_of_dir == MAX_PER_DIR)
		return 1;
	*s = (struct seen){ reading, { reading.snap, e->ino }, e->type, e->len, "" };
	memcpy(s->name, e->name, e->len);
	nr_seen++;
	return 0;
}

static void read_dir(struct msnap_pool *pool, struct msnap_id dir)
{
	reading = dir;
	first_of_dir = nr_seen;
	msnap_readdir(pool, dir, 0, see, NULL);
	if (nr_seen > first_of_dir)
		msnap_readdir(pool, dir, 1ull << 40, see, NULL);
}

static bool known(struct msnap_id id, unsigned upto)
{
	unsigned i;

	for (i = 0; i < upto; i++)
		if (seen[i].type == DT_DIR && seen[i].id.snap == id.snap &&
		    seen[i].id.ino == id.ino)
			return true;
	return false;
}

/* Everything below @top, a directory once. */
static void find_below(struct msnap_pool *pool, struct msnap_id top)
{
	unsigned i = nr_seen;

	read_dir(pool, top);
	for (; i < nr_seen; i++)
		if (seen[i].type == DT_DIR && !known(seen[i].id, i))
			read_dir(pool, seen[i].id);
}

static void find_snaps(struct msnap_pool *pool)
{
	struct msnap_snap_info info, again;

	nr_snaps = 1;
	for (info.id = 0; nr_snaps <= MAX_SNAPS &&
			  !msnap_snap_next(pool, info.id, &info);) {
		snaps[nr_snaps++] = info.id;
		msnap_snap_get(pool, info.id, &again);
		msnap_snap_find(pool, MSNAP_ROOT_INO_PUBLIC, info.name, &again);
		msnap_snap_find(pool, info.scope, info.name, &again);
		msnap_snap_holds(pool, info.id, info.scope);
		find_below(pool, (struct msnap_id){ info.id, info.scope });
	}
}

/* ---- reading one thing -------------------------------------------------------- */

static int few_pieces(void *arg, const struct msnap_piece *piece)
{
	unsigned *left = arg;

	(void)piece;
	return --*left == 0;
}

static void read_file(struct msnap_pool *pool, struct msnap_id id, uint64_t size)
{
	uint64_t off = 0, next;
	unsigned left = 100;

	msnap_pread(pool, id, buf, 16384, 0);
	msnap_pread(pool, id, buf, 9000, size > 9000 ? size - 9000 : 1);
	msnap_map(pool, id, 0, few_pieces, &left);
	for (left = 0; left < 3; left++) {
		if (msnap_seek(pool, id, off, left % 2 ? SEEK_HOLE : SEEK_DATA,
			       &next))
			break;
		off = next;
		msnap_pread(pool, id, buf, 4097, off);
	}
}

static void read_xattrs(struct msnap_pool *pool, struct msnap_id id)
{
	char names[1024];
	int len = msnap_xattr_list(pool, id, names, sizeof(names)), at = 0;

	msnap_xattr_list(pool, id, NULL, 0);
	for (; at < len; at += (int)strlen(names + at) + 1) {
		msnap_xattr_get(pool, id, names + at, NULL, 0);
		msnap_xattr_get(pool, id, names + at, buf, 65536);
	}
}

static void read_one(struct msnap_pool *pool, const struct seen *s)
{
	char target[4096];
	struct msnap_attr attr;

	msnap_lookup(pool, s->dir, s->name, s->len, &attr);
	read_xattrs(pool, s->id);
	msnap_readlink(pool, s->id, target, sizeof(target));
	if (!msnap_getattr(pool, s->id, &attr))
		read_file(pool, s->id, attr.size);
}

void fuzz_read_all(struct msnap_pool *pool)
{
	struct msnap_pool_info info;
	struct msnap_attr attr;
	unsigned i;

	nr_seen = 0;
	msnap_pool_info(pool, &info);
	msnap_getattr(pool, msnap_live(MSNAP_ROOT_INO_PUBLIC), &attr);
	find_below(pool, msnap_live(MSNAP_ROOT_INO_PUBLIC));
	find_snaps(pool);
	for (i = 0; i < nr_seen; i++)
		read_one(pool, &seen[i]);
}

/* ---- changing ------------------------------------------------------------------- */
/* What is taken from the input goes to locals first: the order in which arguments are
 * evaluated is the compiler's, and an input must mean the same under each. */

static const char *const new_names[] = { "new", "other", "a", "scattered", "x" };

static const struct seen *pick(struct fuzz_input *in)
{
	static const struct seen none = { .name = "none", .len = 4 };

	return nr_seen ? &seen[fuzz_u8(in) % nr_seen] : &none;
}

static const char *pick_name(struct fuzz_input *in)
{
	return new_names[fuzz_u8(in) % 5];
}

static uint64_t pick_off(struct fuzz_input *in)
{
	uint8_t how = fuzz_u8(in);

	return how < 200 ? (uint64_t)how * 1234 :
			   (1ull << (how % 64)) - (how & 1);
}

/* A directory: one that was seen, or the root. */
static uint64_t pick_dir(struct fuzz_input *in)
{
	const struct seen *s = pick(in);

	return s->type == DT_DIR ? s->id.ino : s->dir.ino ? s->dir.ino : 1;
}

static void evict_gone(struct msnap_pool *pool, const struct msnap_attr *gone)
{
	if (gone->ino && !gone->nlink)
		msnap_evict(pool, gone->ino);
}

static void create(struct msnap_pool *pool, struct fuzz_input *in)
{
	static const uint32_t types[] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO };
	uint32_t type = types[fuzz_u8(in) % 4];
	struct msnap_new what = { .mode = type | 0644,
				  .target = type == S_IFLNK ? "target" : NULL };
	const char *name = fuzz_u8(in) % 5 ? pick_name(in) : NULL;
	uint64_t dir = pick_dir(in);
	struct msnap_attr attr;

	if (!msnap_create(pool, dir, name, name ? strlen(name) : 0, &what, &attr) &&
	    type == S_IFREG)
		msnap_pwrite(pool, attr.ino, buf, 5000, pick_off(in), false);
}

static void link_one(struct msnap_pool *pool, struct fuzz_input *in)
{
	const char *name = pick_name(in);
	uint64_t ino = pick(in)->id.ino, dir = pick_dir(in);
	struct msnap_attr attr;

	msnap_link(pool, ino, dir, name, strlen(name), &attr);
}

static void unlink_one(struct msnap_pool *pool, struct fuzz_input *in)
{
	const struct seen *s = pick(in);
	struct msnap_attr gone;

	if (!msnap_unlink(pool, s->dir.ino, s->name, s->len, s->type == DT_DIR,
			  &gone) && fuzz_u8(in) % 2)
		evict_gone(pool, &gone);
}

static void rename_one(struct msnap_pool *pool, struct fuzz_input *in)
{
	const struct seen *from = pick(in), *to = pick(in);
	const char *name = pick_name(in);
	unsigned flags = fuzz_u8(in);
	struct msnap_attr gone;
	bool over = flags & 4;

	if (!msnap_rename(pool, from->dir.ino, from->name, from->len,
			  over ? to->dir.ino : pick_dir(in), over ? to->name : name,
			  over ? to->len : strlen(name), flags % 3, &gone))
		evict_gone(pool, &gone);
}

static void set_attr(struct msnap_pool *pool, struct fuzz_input *in)
{
	struct msnap_attr attr = { .mode = 0600, .size = pick_off(in) }, out;
	uint64_t ino = pick(in)->id.ino;

	msnap_setattr(pool, ino, &attr,
		      fuzz_u8(in) % 2 ? MSNAP_SET_SIZE : MSNAP_SET_MODE, &out);
}

static void write_one(struct msnap_pool *pool, struct fuzz_input *in)
{
	size_t len = fuzz_u8(in) % 8 ? 6000 : sizeof(buf);
	uint64_t ino = pick(in)->id.ino, off = pick_off(in);

	msnap_pwrite(pool, ino, buf, len, off, fuzz_u8(in) % 4 == 0);
}

static void allocate(struct msnap_pool *pool, struct fuzz_input *in)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	};
	int mode = modes[fuzz_u8(in) % 4];
	uint64_t ino = pick(in)->id.ino, off = pick_off(in);

	msnap_fallocate(pool, ino, mode, off, pick_off(in));
}

static void copy(struct msnap_pool *pool, struct fuzz_input *in)
{
	uint64_t from = pick_off(in), to = fuzz_u8(in) % 2 ? pick_off(in) : from;
	struct msnap_id src = pick(in)->id, dst = pick(in)->id;

	msnap_copy_range(pool, src, from, dst.ino, to, pick_off(in));
}

static void clone_one(struct msnap_pool *pool, struct fuzz_input *in)
{
	struct msnap_owner owner = { fuzz_u8(in) % 2 ? 7 : -1, 7 };
	const char *name = pick_name(in);
	struct msnap_id src = pick(in)->id;
	uint64_t dir = pick_dir(in);
	struct msnap_attr attr, gone;

	if (!msnap_clone(pool, src, dir, name, strlen(name), owner,
			 fuzz_u8(in) % 2 ? MSNAP_CLONE_REPLACE : 0, &attr, &gone))
		evict_gone(pool, &gone);
}

static void take(struct msnap_pool *pool, struct fuzz_input *in)
{
	const struct seen *s = pick(in);
	struct msnap_snap_item item[2] = { { s->dir.ino, s->name, s->len },
					   { pick_dir(in), NULL, 0 } };
	unsigned from = fuzz_u8(in) % 2, nr = from ? 1 : 1 + fuzz_u8(in) % 2;
	uint64_t snap;

	msnap_snap_create(pool, pick_name(in), "comment", 3, item + from, nr, &snap);
}

static uint64_t pick_snap(struct fuzz_input *in)
{
	return nr_snaps > 1 ? snaps[1 + fuzz_u8(in) % (nr_snaps - 1)] : 1;
}

static void delete_snap(struct msnap_pool *pool, struct fuzz_input *in)
{
	msnap_snap_delete(pool, pick_snap(in));
}

static void rename_snap(struct msnap_pool *pool, struct fuzz_input *in)
{
	uint64_t snap = pick_snap(in);

	msnap_snap_rename(pool, snap, pick_name(in));
}

static void told(void *arg, uint64_t ino, const char *name, size_t len)
{
	uint64_t *sum = arg;

	*sum += ino + (name && len ? (unsigned char)name[len - 1] : 0);
}

static void rollback(struct msnap_pool *pool, struct fuzz_input *in)
{
	const struct seen *s = pick(in);
	uint64_t snap = s->id.snap ? s->id.snap : pick_snap(in), sum = 0;

	if (fuzz_u8(in) % 2)
		msnap_rollback(pool, snap, s->dir.ino, s->name, s->len, told, &sum);
	else
		msnap_rollback(pool, snap, pick_dir(in), NULL, 0, told, &sum);
}

static void set_xattr(struct msnap_pool *pool, struct fuzz_input *in)
{
	static const char *const names[] = { "user.small", "user.big", "user.new" };
	const char *name = names[fuzz_u8(in) % 3];
	uint64_t ino = pick(in)->id.ino;

	if (fuzz_u8(in) % 3 == 0)
		msnap_xattr_remove(pool, ino, name);
	else
		msnap_xattr_set(pool, ino, name, buf, fuzz_u8(in) * 40u, 0);
}

static void commit(struct msnap_pool *pool, struct fuzz_input *in)
{
	(void)in;
	msnap_commit(pool);
}

static void settle(struct msnap_pool *pool, struct fuzz_input *in)
{
	(void)in;
	msnap_pool_settle(pool);
}

static void change_views(struct msnap_pool *pool, struct fuzz_input *in)
{
	uint64_t ino = pick(in)->id.ino, next = 0;
	unsigned left = 20;

	if (fuzz_u8(in) % 2)
		msnap_view_add(pool, ino);
	else
		msnap_view_remove(pool, ino);
	while (left-- && !msnap_view_next(pool, next, &next))
		;
}

static void on_damage(void *arg, const struct msnap_scrub_damage *damage)
{
	uint64_t *sum = arg;

	*sum += damage->blk + strlen(damage->snap) + strlen(damage->path);
}

/* From its beginning or where the record says, to its end or not. */
static void scrub(struct msnap_pool *pool, struct fuzz_input *in)
{
	struct msnap_scrub_stat stat;
	struct msnap_scrub *s;
	unsigned how = fuzz_u8(in), left = how & 6;
	uint64_t bytes, sum = 0;
	int err;

	msnap_scrub_last(pool, &stat);
	if (msnap_scrub_begin(pool, how & 1, &s))
		return;
	do {
		err = msnap_scrub_step(s, on_damage, &sum, &bytes);
	} while (err > 0 && left--);
	msnap_scrub_stat(s, &stat);
	msnap_scrub_save(s, !err);
	msnap_scrub_free(s);
}

static int other_file(void)
{
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("beside", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, 4 << 20))
			abort();
	}
	return fd;
}

static void import(struct msnap_pool *pool, struct fuzz_input *in)
{
	const struct timespec now = { 1, 2 };
	uint64_t ino = pick(in)->id.ino, off = fuzz_u8(in) * 4096ull;
	uint64_t len = (1 + fuzz_u8(in) % 16) * 4096ull;
	const struct msnap_import piece[] = {
		{ off, len, fuzz_u8(in) % 3 == 0 },
		{ off + len + 4096, 8192, false },
	};
	uint64_t size = fuzz_u8(in) % 2 ? off + len : off + len + 12288 + 17;

	msnap_import(pool, ino, other_file(), piece, 1 + (size & 1), size,
		     size & 1 ? buf : NULL, &now);
}

typedef void move_fn(struct msnap_pool *pool, struct fuzz_input *in);

static move_fn *const moves[] = {
	create, link_one, unlink_one, rename_one, set_attr, write_one, allocate,
	copy, clone_one, take, delete_snap, rename_snap, rollback, set_xattr, commit,
	settle,
};

/* These came later: kept inputs go on meaning what they did. */
static move_fn *const more_moves[] = { change_views, scrub, import };

static move_fn *pick_move(struct fuzz_input *in)
{
	uint8_t which = fuzz_u8(in);

	return which < 240 ? moves[which % 16] : more_moves[which % 3];
}

/* A bit of everything, with what was found first. */
static void usual(struct msnap_pool *pool)
{
	static const uint8_t some[] = {
		0, 1, 0, 1, 2, 3, 0, 0, 4, 5, 6, 7, 8, 9, 1, 0, 10, 11, 3, 2, 1,
	};
	static move_fn *const order[] = {
		create, write_one, set_attr, allocate, clone_one, take, rename_one, copy,
		rollback, delete_snap, settle, commit, unlink_one, set_xattr,
	};
	unsigned i;

	for (i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		struct fuzz_input in = { some + i % 8, sizeof(some) - i % 8 };

		order[i](pool, &in);
	}
}

void fuzz_modify(struct msnap_pool *pool, struct fuzz_input *in)
{
	unsigned i;

	for (i = 0; in->left && i < MAX_MOVES; i++)
		pick_move(in)(pool, in);
	usual(pool);
}

/* ---- checking ----------------------------------------------------------------------- */

static void report(void *arg, const char *line)
{
	const bool *verbose = arg;

	if (*verbose)
		fprintf(stderr, "  %s\n", line);
}

long fuzz_check(struct msnap_pool *pool, bool verbose)
{
	struct msnap_check_result result;

	if (msnap_check(pool, MSNAP_CHECK_DATA, report, &verbose, &result))
		return -1;
	return (long)result.nr_errors;
}
