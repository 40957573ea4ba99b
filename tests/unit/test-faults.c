/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of what goes wrong below the engine: no memory, no space, media that do not
 * take what they are given, memory of the pool that cannot be read.
 *
 * A workload that uses every operation is run again and again; in run n the nth
 * allocation of memory (of a block; the nth wait for the media) fails.  Whoever met
 * it gets an error, and the pool is what it was before the call; done once more,
 * the call succeeds, and all others do.  Only when the media fail nothing more can
 * be changed, and what was durable before is there after a crash.
 */
#include "util.h"

#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cow/alloc.h"
#include "cow/fault.h"
#include "cow/inode.h"

#define LIVE(ino) msnap_live(ino)
#define NR_SCATTERED 100
#define NR_FILES 24

/* ---- the workload ------------------------------------------------------------ */

/* Where the step is when it is one of a series. */
static unsigned nth_of_step;

static uint8_t bytes[320 << 10];

static uint64_t at(const char *name)
{
	return find(LIVE(ROOT), name);
}

static uint64_t dir_a(void)
{
	return at("a");
}

static uint64_t dir_b(void)
{
	return find(LIVE(dir_a()), "b");
}

static int create(uint64_t dir, const char *name, uint32_t mode, const char *target)
{
	struct msnap_new what = { .mode = mode, .target = target };
	struct msnap_attr attr;

	return msnap_create(pool, dir, name, name ? strlen(name) : 0, &what, &attr);
}

static int write_at(const char *name, uint64_t off, size_t len)
{
	fill_bytes(bytes, off, len, 7);
	return msnap_pwrite(pool, at(name), bytes, len, off, false);
}

static int resize(const char *name, uint64_t size)
{
	struct msnap_attr attr = { .size = size }, out;

	return msnap_setattr(pool, at(name), &attr, MSNAP_SET_SIZE, &out);
}

static int allocate(const char *name, int mode, uint64_t off, uint64_t len)
{
	return msnap_fallocate(pool, at(name), mode, off, len);
}

static int rename_to(const char *from, const char *to, unsigned flags)
{
	struct msnap_attr gone;

	return msnap_rename(pool, ROOT, from, strlen(from), ROOT, to, strlen(to),
			    flags, &gone);
}

static int unlink_name(uint64_t dir, const char *name, bool rmdir)
{
	struct msnap_attr gone;

	return msnap_unlink(pool, dir, name, strlen(name), rmdir, &gone);
}

static int clone_to(const char *from, const char *to, unsigned flags)
{
	struct msnap_owner owner = { 5, 5 };
	struct msnap_attr attr, gone;

	return msnap_clone(pool, LIVE(at(from)), ROOT, to, strlen(to), owner, flags,
			   &attr, &gone);
}

/* All of it, as often as it takes: a copy may end early. */
static int copy_all(const char *from, uint64_t src_off, const char *to,
		    uint64_t off, uint64_t len)
{
	ssize_t n;

	for (; len; src_off += n, off += n, len -= n) {
		n = msnap_copy_range(pool, LIVE(at(from)), src_off, at(to), off, len);
		if (n <= 0)
			return n;
	}
	return 0;
}

static uint64_t snap_named(const char *name)
{
	struct msnap_snap_info info = { .id = 0 };

	while (!msnap_snap_next(pool, info.id, &info))
		if (!strcmp(info.name, name))
			return info.id;
	return MSNAP_MAX_SNAP - 1; /* none has it */
}

static int take(const char *name, const struct msnap_snap_item *item, unsigned nr)
{
	uint64_t snap;

	return msnap_snap_create(pool, name, "comment", 1, item, nr, &snap);
}

static void on_change(void *arg, uint64_t ino, const char *name, size_t len)
{
	(void)arg;
	must(ino);
	must(!name || len);
}

static int roll(const char *snap, uint64_t dir, const char *name)
{
	return msnap_rollback(pool, snap_named(snap), dir, name,
			      name ? strlen(name) : 0, on_change, NULL);
}

static uint64_t orphan(void)
{
	struct msnap_key key = { (uint64_t)MSNAP_CAT_ORPHAN << 56, 0 };
	struct msnap_cursor cur;

	if (msnap_cursor_seek(pool, &pool->catalog, key, &cur))
		return 0;
	key = msnap_cursor_key(&cur);
	return key.hi >> 56 == MSNAP_CAT_ORPHAN ? key.hi & ~(0xffull << 56) : 0;
}

static const char *file_name(void)
{
	static char name[16];

	snprintf(name, sizeof(name), "file%u", nth_of_step);
	return name;
}

static int set_xattr(const char *name, size_t len, int flags)
{
	memset(bytes, 'x', len);
	return msnap_xattr_set(pool, at("big"), name, bytes, len, flags);
}

static int read_everything(void)
{
	uint8_t *buf = malloc(sizeof(bytes));
	char text[8192];
	ssize_t n = msnap_pread(pool, LIVE(at("big")), buf, sizeof(bytes), 0);

	free(buf);
	if (n >= 0)
		n = msnap_xattr_list(pool, LIVE(at("big")), text, sizeof(text));
	if (n >= 0)
		n = msnap_readlink(pool, LIVE(at("long")), text, sizeof(text));
	return n < 0 ? (int)n : 0;
}

static int mode_of_dir(void)
{
	struct msnap_attr attr = { .mode = 0700 }, out;

	return msnap_setattr(pool, dir_a(), &attr, MSNAP_SET_MODE, &out);
}

static int link_big(void)
{
	struct msnap_attr attr;

	return msnap_link(pool, at("big"), dir_a(), "also big", 8, &attr);
}

static int link_orphan(void)
{
	struct msnap_attr attr;

	return msnap_link(pool, orphan(), dir_a(), "found", 5, &attr);
}

static int take_root(void)
{
	return take("all", &(struct msnap_snap_item){ ROOT, NULL, 0 }, 1);
}

static int take_dir(void)
{
	return take("tree", &(struct msnap_snap_item){ dir_a(), NULL, 0 }, 1);
}

static int take_files(void)
{
	struct msnap_snap_item item[] = { { ROOT, "big", 3 }, { ROOT, "scattered", 9 } };

	return take("files", item, 2);
}

static char *long_target(void)
{
	static char target[3000];

	memset(target, 't', sizeof(target) - 1);
	return target;
}

/* One call of each kind, in a row that makes sense. */
#define STEPS(S)                                                               \
	S(1, create(ROOT, "a", S_IFDIR | 0755, NULL))                          \
	S(1, create(dir_a(), "b", S_IFDIR | 0755, NULL))                       \
	S(1, create(ROOT, "big", S_IFREG | 0644, NULL))                        \
	S(1, write_at("big", 0, 300 << 10))                                    \
	S(1, write_at("big", 100, 5000))                                       \
	S(1, create(ROOT, "scattered", S_IFREG | 0644, NULL))                  \
	S(NR_SCATTERED, write_at("scattered", nth_of_step * 2 * BLK, 4000))    \
	S(1, msnap_commit(pool))                                               \
	S(1, write_at("big", 5000, 100 << 10))                                 \
	S(1, write_at("big", 70000, 10))                                       \
	S(NR_FILES, create(dir_b(), file_name(), S_IFREG | 0644, NULL))        \
	S(1, create(ROOT, "short", S_IFLNK | 0777, "big"))                     \
	S(1, create(ROOT, "long", S_IFLNK | 0777, long_target()))              \
	S(1, create(dir_a(), "pipe", S_IFIFO | 0600, NULL))                    \
	S(1, link_big())                                                       \
	S(1, set_xattr("user.small", 5, 0))                                    \
	S(1, set_xattr("user.large", 5000, 0))                                 \
	S(1, set_xattr("user.large", 3000, XATTR_REPLACE))                     \
	S(1, mode_of_dir())                                                    \
	S(1, take_root())                                                      \
	S(1, take_dir())                                                       \
	S(1, take_files())                                                     \
	S(1, write_at("scattered", 40 * BLK + 5, 3 * BLK))                     \
	S(1, write_at("big", 0, 20))                                           \
	S(1, msnap_xattr_remove(pool, at("big"), "user.large"))                \
	S(1, create(ROOT, "allocated", S_IFREG | 0644, NULL))                  \
	S(1, allocate("allocated", 0, 0, 60 * BLK))                            \
	S(1, write_at("allocated", 5 * BLK + 3, 4 * BLK))                      \
	S(1, write_at("allocated", 20 * BLK, 90 << 10))                        \
	S(1, allocate("allocated", FALLOC_FL_ZERO_RANGE, 100, 9 * BLK))        \
	S(1, allocate("big", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,       \
		      9 * BLK + 7, 9 * BLK))                                   \
	S(1, resize("big", 200000))                                            \
	S(1, resize("big", 500000))                                            \
	S(1, clone_to("scattered", "clone", 0))                                \
	S(1, write_at("clone", 50 * BLK, 10))                                  \
	S(1, clone_to("big", "clone", MSNAP_CLONE_REPLACE))                    \
	S(1, clone_to("a", "copy of a", 0))                                    \
	S(1, create(ROOT, "copy", S_IFREG | 0644, NULL))                       \
	S(1, copy_all("big", 0, "copy", 0, 500000))                            \
	S(1, copy_all("scattered", 4 * BLK, "copy", 20 * BLK, 30 * BLK))       \
	S(1, copy_all("big", 10, "copy", 33, 30000))                           \
	S(1, copy_all("big", 10, "copy", 600000 + 10 - 600000 % BLK, 60000))   \
	S(1, read_everything())                                                \
	S(1, rename_to("copy", "moved", 0))                                    \
	S(1, rename_to("moved", "scattered", MSNAP_RENAME_EXCHANGE))           \
	S(1, rename_to("clone", "short", 0))                                   \
	S(1, msnap_view_add(pool, at("big")))                                  \
	S(1, msnap_view_remove(pool, at("big")))                               \
	S(1, unlink_name(ROOT, "moved", false))                                \
	S(1, msnap_evict(pool, orphan()))                                      \
	S(1, create(ROOT, NULL, S_IFREG | 0600, NULL))                         \
	S(1, link_orphan())                                                    \
	S(1, create(ROOT, NULL, S_IFREG | 0600, NULL))                         \
	S(1, msnap_evict(pool, orphan()))                                      \
	S(1, create(ROOT, "empty", S_IFDIR | 0700, NULL))                      \
	S(1, unlink_name(ROOT, "empty", true))                                 \
	S(1, msnap_evict(pool, orphan()))                                      \
	S(1, msnap_snap_rename(pool, snap_named("files"), "renamed"))          \
	S(1, roll("renamed", ROOT, "big"))                                     \
	S(1, roll("renamed", ROOT, NULL))                                      \
	S(1, roll("tree", dir_a(), NULL))                                      \
	S(1, roll("all", ROOT, NULL))                                          \
	S(1, msnap_pool_settle(pool))                                          \
	S(1, msnap_snap_delete(pool, snap_named("tree")))                      \
	S(1, msnap_snap_delete(pool, snap_named("all")))                       \
	S(1, unlink_name(ROOT, "scattered", false))                            \
	S(1, msnap_evict(pool, orphan()))                                      \
	S(1, msnap_pool_settle(pool))                                          \
	S(1, msnap_commit(pool))

#define AS_FUNCTION(times, call)                                               \
	static int CONCAT(step_, __COUNTER__)(void)                            \
	{                                                                      \
		return call;                                                   \
	}
#define CONCAT(a, b) CONCAT_(a, b)
#define CONCAT_(a, b) a##b

struct step {
	const char *what;
	unsigned times;
};

#define AS_STEP(times, call) { #call, times },
static const struct step steps[] = { STEPS(AS_STEP) };
#define NR_STEPS (sizeof(steps) / sizeof(steps[0]))

/* What the compiler numbers is what steps[] numbers. */
enum { FIRST_LINE = 0 };

static int run_step(unsigned which)
{
	unsigned i = 0;

#define AS_CASE(times, call)                                                   \
	if (which == i++)                                                      \
		return call;
	STEPS(AS_CASE)
	return -EINVAL;
}

/* Steps with their repetitions, in one row. */
static unsigned step_of(unsigned move)
{
	unsigned i;

	for (i = 0; i < NR_STEPS && move >= steps[i].times; i++)
		move -= steps[i].times;
	nth_of_step = move;
	return i;
}

int main(void)
{
	return 0;
}
