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

static uint64_t orphan(void)
{
	struct msnap_key key = { (uint64_t)MSNAP_CAT_ORPHAN << 56, 0 };
	struct msnap_cursor cur;

	if (msnap_cursor_seek(pool, &pool->catalog, key, &cur))
		return 0;
	key = msnap_cursor_key(&cur);
	return key.hi >> 56 == MSNAP_CAT_ORPHAN ? key.hi & ~(0xffull << 56) : 0;
}

static int evict_all(void)
{
	int err = 0;

	while (!err && orphan())
		err = msnap_evict(pool, orphan());
	return err;
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

/*
 * Calls of each kind, in a row that makes sense: how often, whether the call is one
 * operation (or several, of which some may have been done when it fails), and which.
 */
#define STEPS(S)									\
	S(1, ONE, create(ROOT, "a", S_IFDIR | 0755, NULL))				\
	S(1, ONE, create(dir_a(), "b", S_IFDIR | 0755, NULL))				\
	S(1, ONE, create(ROOT, "big", S_IFREG | 0644, NULL))				\
	S(1, ONE, write_at("big", 0, 300 << 10))					\
	S(1, ONE, write_at("big", 100, 5000))						\
	S(1, ONE, create(ROOT, "scattered", S_IFREG | 0644, NULL))			\
	S(NR_SCATTERED, ONE, write_at("scattered", nth_of_step * 2 * BLK, 4000))	\
	S(1, ONE, msnap_commit(pool))							\
	S(1, ONE, write_at("big", 5000, 100 << 10))					\
	S(1, ONE, write_at("big", 70000, 10))						\
	S(NR_FILES, ONE, create(dir_b(), file_name(), S_IFREG | 0644, NULL))		\
	S(1, ONE, create(ROOT, "short", S_IFLNK | 0777, "big"))				\
	S(1, ONE, create(ROOT, "long", S_IFLNK | 0777, long_target()))			\
	S(1, ONE, create(dir_a(), "pipe", S_IFIFO | 0600, NULL))			\
	S(1, ONE, link_big())								\
	S(1, ONE, set_xattr("user.small", 5, 0))					\
	S(1, ONE, set_xattr("user.large", 5000, 0))					\
	S(1, ONE, set_xattr("user.large", 3000, XATTR_REPLACE))				\
	S(1, ONE, mode_of_dir())							\
	S(1, ONE, take_root())								\
	S(1, ONE, take_dir())								\
	S(1, ONE, take_files())								\
	S(1, ONE, write_at("scattered", 40 * BLK + 5, 3 * BLK))				\
	S(1, ONE, write_at("big", 0, 20))						\
	S(1, ONE, msnap_xattr_remove(pool, at("big"), "user.large"))			\
	S(1, ONE, create(ROOT, "allocated", S_IFREG | 0644, NULL))			\
	S(1, ONE, allocate("allocated", 0, 0, 60 * BLK))				\
	S(1, ONE, write_at("allocated", 5 * BLK + 3, 4 * BLK))				\
	S(1, ONE, write_at("allocated", 20 * BLK, 90 << 10))				\
	S(1, ONE, allocate("allocated", FALLOC_FL_ZERO_RANGE, 100, 9 * BLK))		\
	S(1, ONE, allocate("big", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,		\
		      9 * BLK + 7, 9 * BLK))						\
	S(1, ONE, resize("big", 200000))						\
	S(1, ONE, resize("big", 500000))						\
	S(1, ONE, clone_to("scattered", "clone", 0))					\
	S(1, ONE, write_at("clone", 50 * BLK, 10))					\
	S(1, ONE, clone_to("big", "clone", MSNAP_CLONE_REPLACE))			\
	S(1, ONE, clone_to("a", "copy of a", 0))					\
	S(1, ONE, create(ROOT, "copy", S_IFREG | 0644, NULL))				\
	S(1, SOME, copy_all("big", 0, "copy", 0, 500000))				\
	S(1, SOME, copy_all("scattered", 4 * BLK, "copy", 20 * BLK, 30 * BLK))		\
	S(1, SOME, copy_all("big", 10, "copy", 33, 30000))				\
	S(1, SOME, copy_all("big", 10, "copy", 600000 + 10 - 600000 % BLK, 60000))	\
	S(1, ONE, read_everything())							\
	S(1, ONE, rename_to("copy", "moved", 0))					\
	S(1, ONE, rename_to("moved", "scattered", MSNAP_RENAME_EXCHANGE))		\
	S(1, ONE, rename_to("clone", "short", 0))					\
	S(1, ONE, msnap_view_add(pool, at("big")))					\
	S(1, ONE, msnap_view_remove(pool, at("big")))					\
	S(1, ONE, unlink_name(ROOT, "moved", false))					\
	S(1, SOME, evict_all())							\
	S(1, ONE, create(ROOT, NULL, S_IFREG | 0600, NULL))				\
	S(1, ONE, link_orphan())							\
	S(1, ONE, create(ROOT, NULL, S_IFREG | 0600, NULL))				\
	S(1, SOME, evict_all())							\
	S(1, ONE, create(ROOT, "empty", S_IFDIR | 0700, NULL))				\
	S(1, ONE, unlink_name(ROOT, "empty", true))					\
	S(1, SOME, evict_all())							\
	S(1, ONE, msnap_snap_rename(pool, snap_named("files"), "renamed"))		\
	S(1, ONE, roll("renamed", ROOT, "big"))						\
	S(1, ONE, roll("renamed", ROOT, NULL))						\
	S(1, ONE, roll("tree", dir_a(), NULL))						\
	S(1, ONE, roll("all", ROOT, NULL))						\
	S(1, SOME, evict_all())       						\
	S(1, SOME, msnap_pool_settle(pool))						\
	S(1, ONE, msnap_snap_delete(pool, snap_named("tree")))				\
	S(1, ONE, msnap_snap_delete(pool, snap_named("all")))				\
	S(1, ONE, unlink_name(ROOT, "scattered", false))				\
	S(1, SOME, evict_all())							\
	S(1, SOME, msnap_pool_settle(pool))						\
	S(1, ONE, msnap_commit(pool))

enum kind { ONE, SOME };

static const struct step {
	const char *what;
	unsigned times;
	enum kind kind;
} steps[] = {
#define AS_STEP(times, kind, call) { #call, times, kind },
	STEPS(AS_STEP)
};
#define NR_STEPS (sizeof(steps) / sizeof(steps[0]))

static int run_step(unsigned which)
{
	unsigned i = 0;

#define AS_CASE(times, kind, call)                                                      \
	if (which == i++)                                                               \
		return call;
	STEPS(AS_CASE)
	return -EINVAL;
}

/* The steps with their repetitions, in one row: which is move @move? */
static const struct step *set_step(unsigned move, unsigned *which)
{
	unsigned i;

	for (i = 0; i < NR_STEPS && move >= steps[i].times; i++)
		move -= steps[i].times;
	nth_of_step = move;
	*which = i;
	return i < NR_STEPS ? &steps[i] : NULL;
}

/* ---- one failure in each run ------------------------------------------------- */

static uint8_t *image; /* of a new pool */

struct injector {
	int err;
	void (*arm)(unsigned long nth); /* 0: never */
	unsigned long (*seen)(void);
};

static void fail_space(unsigned long nth)
{
	msnap_space_fail_alloc(pool->space, nth);
}

static unsigned long seen_space(void)
{
	return msnap_space_allocs(pool->space);
}

static unsigned long nr_drains;

static void count_drain(void *arg, struct msnap_mem *m, const uint8_t *media)
{
	(void)arg;
	(void)m;
	(void)media;
	nr_drains++;
}

static void fail_drain(unsigned long nth)
{
	static const struct msnap_sim_hooks hooks = { .at_drain = count_drain };

	nr_drains = 0;
	msnap_sim_hooks(mem, &hooks);
	msnap_sim_fail_drain(mem, nth);
}

static unsigned long seen_drains(void)
{
	return nr_drains;
}

static const struct injector no_memory = { -ENOMEM, msnap_alloc_fail,
					   msnap_alloc_seen };
static const struct injector no_space = { -ENOSPC, fail_space, seen_space };
static const struct injector bad_media = { -EIO, fail_drain, seen_drains };

static bool is_read_only(void)
{
	struct msnap_pool_info info;

	ok(msnap_pool_info(pool, &info));
	return info.read_only;
}

/* The step met the failure: the pool is as it was, and the step can be done. */
static void do_again(const struct injector *in, unsigned long n,
		     const struct step *step, unsigned which, int err,
		     uint64_t view)
{
	if (err != in->err)
		ck_abort_msg("failure %lu: %s: %s (%s)", n, step->what, strerror(-err), log_last);
	if (step->kind == ONE && pool_view() != view)
		ck_abort_msg("failure %lu: %s is half done", n, step->what);
	must(!is_read_only());
	pool_ok();
	err = run_step(which);
	if (err < 0)
		ck_abort_msg("failure %lu: %s, once more: %s", n, step->what,
			     strerror(-err));
}

/* Everything done is there, also after the end. */
static void end_well(unsigned long n)
{
	uint64_t view = pool_view();
	struct msnap_pool_info info;

	ok(msnap_pool_info(pool, &info));
	must(!info.read_only);
	ok(msnap_pool_close(pool));
	msnap_alloc_fail(0);
	pool_open(0);
	if (log_lines)
		ck_abort_msg("failure %lu: no clean end: %s", n, log_last);
	if (pool_view() != view)
		ck_abort_msg("failure %lu: another pool after the end", n);
	pool_ok();
	msnap_pool_abandon(pool);
}

/* @met: events before each move in a run without failures, to know when to look.
 * False: there were not as many as @n. */
static bool run_with(const struct injector *in, unsigned long n,
		     const unsigned long *met)
{
	const struct step *step;
	unsigned move, which;
	bool failed = false;

	pool_from(image, 0);
	in->arm(n);
	for (move = 0; (step = set_step(move, &which)); move++) {
		bool near = !failed && met[move] <= n && n <= met[move + 1] + 1;
		uint64_t view = near ? pool_view() : 0;
		int err = run_step(which);

		if (err >= 0)
			continue;
		if (failed || !near)
			ck_abort_msg("failure %lu: %s: %s", n, step->what,
				     strerror(-err));
		failed = true;
		in->arm(0);
		do_again(in, n, step, which, err, view);
	}
	failed |= in->seen() >= n;
	end_well(n);
	return failed;
}

/* How many events there are before each move, and in all. */
static unsigned long *count_events(const struct injector *in)
{
	unsigned long *met = calloc(1024, sizeof(*met));
	const struct step *step;
	unsigned move, which;

	must(met);
	pool_from(image, 0);
	in->arm(0);
	for (move = 0; (step = set_step(move, &which)); move++) {
		int err;

		met[move] = in->seen();
		err = run_step(which);
		if (err < 0)
			ck_abort_msg("%s: %s", step->what, strerror(-err));
	}
	met[move] = in->seen();
	end_well(0);
	return met;
}

static void make_image(void)
{
	pool_make(6);
	ok(msnap_pool_close(pool));
	image = pool_image();
}

static void every(const struct injector *in)
{
	unsigned long *met, n;

	make_image();
	met = count_events(in);
	for (n = 1; run_with(in, n, met); n++)
		;
	printf("test-faults: %lu failures of kind \"%s\"\n", n - 1,
	       strerror(-in->err));
	must(n > 30);
	free(met);
	free(image);
}

START_TEST(every_allocation_of_memory)
{
	every(&no_memory);
}
END_TEST

START_TEST(every_allocation_of_blocks)
{
	every(&no_space);
}
END_TEST

/*
 * The same for each step alone, in a pool that was just opened: nothing that an
 * earlier step took is at hand.  False: there were not as many as @n.
 */
static bool step_without_memory(unsigned long n, const struct step *step,
				unsigned which)
{
	uint64_t view;
	bool failed;
	int err;

	pool_from(image, 0);
	view = pool_view();
	msnap_alloc_fail(n);
	err = run_step(which);
	failed = msnap_alloc_seen() >= n;
	msnap_alloc_fail(0);
	if (err < 0)
		do_again(&no_memory, n, step, which, err, view);
	else
		pool_ok();
	msnap_pool_abandon(pool);
	return failed;
}

/* Do the step, and end: what is there is the next one's image. */
static bool step_image(unsigned which)
{
	int err;

	pool_from(image, 0);
	err = run_step(which);
	ok(msnap_pool_close(pool));
	free(image);
	image = pool_image();
	return err >= 0; /* opening has evicted the orphans of the step before */
}

START_TEST(every_allocation_of_each_step)
{
	const struct step *step;
	unsigned move, which;
	unsigned long n, sum = 0;

	make_image();
	for (move = 0; (step = set_step(move, &which)); move++) {
		uint8_t *before = pool_image();

		if (step_image(which) && nth_of_step % 16 == 0) {
			uint8_t *after = image;

			image = before;
			for (n = 1; step_without_memory(n, step, which); n++)
				sum++;
			image = after;
			memcpy(msnap_sim_media(mem), after, mem->size);
		}
		free(before);
	}
	printf("test-faults: %lu failures in single steps\n", sum);
	must(sum > 200);
	free(image);
}
END_TEST

/* ---- media that fail ------------------------------------------------------------ */

/* What a crash may leave: what was there around the last commit. */
struct committed {
	uint64_t gen, before, after;
};

static void note_commit(struct committed *c, uint64_t before, uint64_t after)
{
	uint64_t gen = atomic_load(&pool->durable_gen);

	if (gen != c->gen)
		*c = (struct committed){ gen, before, after };
}

static void must_be_dead(void)
{
	struct msnap_attr attr;
	struct msnap_new what = { .mode = S_IFREG | 0600 };

	must(is_read_only());
	fails(-EROFS, msnap_create(pool, ROOT, "no", 2, &what, &attr));
	must(msnap_commit(pool) < 0);
	ok(msnap_getattr(pool, LIVE(ROOT), &attr));
}

static void must_come_back(const struct committed *c)
{
	uint64_t view;

	/* First without what opening for writing does: evicting orphans. */
	pool_crash(MSNAP_OPEN_RDONLY);
	view = pool_view();
	must(view == c->before || view == c->after);
	pool_crash(0);
	pool_ok();
	mk_file(ROOT, "after all");
	ok(msnap_commit(pool));
	pool_ok();
}

/* False: the workload came to its end. */
static bool run_on_bad_media(unsigned long n)
{
	struct committed last = { 0 };
	const struct step *step;
	uint64_t before, after;
	unsigned move, which;
	int err = 0;

	pool_from(image, 0);
	bad_media.arm(n);
	after = pool_view();
	note_commit(&last, after, after);
	for (move = 0; !err && (step = set_step(move, &which)); move++) {
		before = after;
		err = run_step(which);
		err = err > 0 ? 0 : err;
		after = pool_view();
		note_commit(&last, before, after);
	}
	if (!err)
		err = msnap_pool_close(pool) ? 0 : 1; /* it commits, too */
	else
		must_be_dead();
	if (err == 1)
		pool_open(0);
	else if (err != -EIO)
		ck_abort_msg("failure %lu: %s", n, strerror(-err));
	bad_media.arm(0);
	must_come_back(&last);
	msnap_pool_abandon(pool);
	return err != 1 || nr_drains >= n;
}

START_TEST(every_wait_for_the_media)
{
	unsigned long n;

	make_image();
	for (n = 1; run_on_bad_media(n); n++)
		;
	must(n > 20);
	free(image);
}
END_TEST

/* ---- opening ---------------------------------------------------------------------- */

/* False: there were not as many allocations as @n. */
static bool open_without_memory(unsigned long n, unsigned flags, uint64_t view)
{
	int err;

	memcpy(msnap_sim_media(mem), image, mem->size);
	msnap_sim_crash(mem);
	msnap_alloc_fail(n);
	err = pool_try_open(flags);
	if (err && err != -ENOMEM)
		ck_abort_msg("failure %lu: %s", n, strerror(-err));
	if (!err) {
		bool failed = msnap_alloc_seen() >= n;

		msnap_alloc_fail(0);
		must(!is_read_only());
		pool_ok();
		msnap_pool_abandon(pool);
		return failed;
	}
	msnap_alloc_fail(0);
	pool_open(0);
	must(pool_view() == view);
	pool_ok();
	msnap_pool_abandon(pool);
	return true;
}

/* A pool with a bit of everything, and an orphan that opening removes. */
static void make_used(bool clean)
{
	unsigned move, which;

	pool_make(6);
	for (move = 0; move < 170 && set_step(move, &which); move++)
		ok(run_step(which));
	mk_tmpfile();
	ok(msnap_commit(pool));
	if (clean)
		ok(msnap_pool_close(pool));
	else
		msnap_pool_abandon(pool);
	image = pool_image();
}

static void open_every(bool clean, unsigned flags)
{
	uint64_t view;
	unsigned long n;

	make_used(clean);
	pool_from(image, 0);
	view = pool_view();
	msnap_pool_abandon(pool);
	for (n = 1; open_without_memory(n, flags, view); n++)
		;
	must(n > 5);
	free(image);
}

START_TEST(open_clean_without_memory)
{
	open_every(true, 0);
}
END_TEST

START_TEST(open_crashed_without_memory)
{
	open_every(false, 0);
}
END_TEST

/* ---- memory that cannot be read ------------------------------------------------------ */

static char path[] = "/tmp/test-faults-XXXXXX";

static void file_pool_open(void)
{
	struct msnap_open_args args = { .flags = MSNAP_OPEN_NO_BACKGROUND,
					.snap_step = 2 };
	struct msnap_why why;

	ok(msnap_pool_open(path, &args, &pool, &why));
}

static void file_pool_make(void)
{
	struct msnap_create_args args = { .size = 8 * MIB, .force = true };
	struct msnap_why why;
	int fd = mkstemp(path);

	must(fd >= 0);
	close(fd);
	ok(msnap_pool_create(path, &args, &why));
	file_pool_open();
	put_bytes(mk_file(ROOT, "bad"), 0, 20 * BLK, 1);
	put_bytes(mk_file(ROOT, "good"), 0, 20 * BLK, 2);
	ok(msnap_commit(pool));
}

static void file_pool_reopen(void)
{
	ok(msnap_pool_close(pool));
	file_pool_open();
}

static void file_pool_gone(void)
{
	msnap_pool_abandon(pool);
	unlink(path);
}

/* From now on touching the block is a SIGBUS: a page of a file that has none. */
static void poison(uint64_t blk)
{
	char empty[] = "/tmp/test-faults-XXXXXX";
	int fd = mkstemp(empty);

	must(fd >= 0);
	unlink(empty);
	must(mmap(msnap_blk_ptr(pool, blk), BLK, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED);
	close(fd);
}

static int first_piece(void *arg, const struct msnap_piece *piece)
{
	*(uint64_t *)arg = piece->blk;
	return 1;
}

static uint64_t blk_of(const char *name, unsigned fb)
{
	uint64_t blk = 0;

	ok(msnap_map(pool, LIVE(at(name)), 0, first_piece, &blk));
	must(blk);
	return blk + fb;
}

static long read_blk(const char *name, unsigned fb)
{
	static uint8_t buf[4096];

	return msnap_pread(pool, LIVE(at(name)), buf, BLK, fb * BLK);
}

static void must_read_good(void)
{
	must(has_bytes(LIVE(at("good")), 0, 20 * BLK, 2));
}

static void only_that_block(void)
{
	must(read_blk("bad", 6) == (long)BLK);
	fails(-EIO, read_blk("bad", 7));
	must(read_blk("bad", 8) == (long)BLK);
	must_read_good();
	must(!is_read_only());
}

START_TEST(data_that_were_read_before)
{
	file_pool_make();
	poison(blk_of("bad", 7));
	only_that_block();
	file_pool_gone();
}
END_TEST

START_TEST(data_that_were_never_read)
{
	file_pool_make();
	file_pool_reopen();
	poison(blk_of("bad", 7));
	only_that_block();
	file_pool_gone();
}
END_TEST

/* A part of the block cannot be written, for the rest is lost; all of it can. */
START_TEST(data_written_anew)
{
	uint64_t bad;

	file_pool_make();
	file_pool_reopen();
	bad = at("bad");
	poison(blk_of("bad", 7));
	fails(-EIO, msnap_pwrite(pool, bad, "x", 1, 7 * BLK + 5, false));
	only_that_block();
	put_bytes(bad, 7 * BLK, BLK, 1);
	must(has_bytes(LIVE(bad), 0, 20 * BLK, 1));
	ok(msnap_commit(pool));
	must(!is_read_only());
	file_pool_gone();
}
END_TEST

/* The block of the extent tree's root. */
static uint64_t extents_of(const char *name)
{
	struct msnap_inode in;

	ok(msnap_inode_get(pool, &pool->ns, at(name), &in));
	return get64(in.ext.blk);
}

static void must_fail_alone(void)
{
	uint64_t bad = at("bad");
	uint8_t buf[16];
	ssize_t n = msnap_pread(pool, LIVE(bad), buf, sizeof(buf), 0);

	must(n == -EIO || n == -EUCLEAN);
	n = msnap_pwrite(pool, bad, "x", 1, 5, false);
	must(n == -EIO || n == -EUCLEAN || n == -EROFS);
	must_read_good();
}

START_TEST(nodes_that_were_never_read)
{
	uint64_t blk;

	file_pool_make();
	blk = extents_of("bad");
	file_pool_reopen();
	poison(blk);
	must_fail_alone();
	must(is_read_only());
	file_pool_gone();
}
END_TEST

START_TEST(nodes_that_were_read_before)
{
	file_pool_make();
	ok(read_blk("bad", 0));
	poison(extents_of("bad"));
	must_fail_alone();
	file_pool_gone();
}
END_TEST

/* Every call that reads, on a namespace that cannot be read. */
START_TEST(names_that_were_read_before)
{
	struct msnap_attr attr;
	struct msnap_snap_info info;
	uint64_t off, bad, good;
	char buf[100];

	file_pool_make();
	bad = at("bad");
	good = at("good");
	poison(pool->ns.root.blk);
	fails(-EIO, msnap_getattr(pool, LIVE(bad), &attr));
	fails(-EIO, msnap_lookup(pool, LIVE(ROOT), "bad", 3, &attr));
	fails(-EIO, msnap_readdir(pool, LIVE(ROOT), 0, NULL, NULL));
	fails(-EIO, msnap_readlink(pool, LIVE(bad), buf, sizeof(buf)));
	fails(-EIO, msnap_xattr_get(pool, LIVE(bad), "user.x", buf, sizeof(buf)));
	fails(-EIO, msnap_xattr_list(pool, LIVE(bad), buf, sizeof(buf)));
	fails(-EIO, msnap_pread(pool, LIVE(bad), buf, sizeof(buf), 0));
	fails(-EIO, msnap_seek(pool, LIVE(bad), 0, SEEK_DATA, &off));
	fails(-EIO, msnap_map(pool, LIVE(bad), 0, first_piece, &off));
	fails(-EIO, msnap_pwrite(pool, bad, "x", 1, 0, false));
	fails(-EIO, msnap_pwrite(pool, bad, bytes, sizeof(bytes), 0, false));
	must(msnap_copy_range(pool, LIVE(bad), 0, good, 0, 10) < 0);
	fails(-ENOENT, msnap_snap_next(pool, 0, &info));
	file_pool_gone();
}
END_TEST

START_TEST(catalog_that_was_read_before)
{
	struct msnap_snap_info info;
	struct msnap_attr attr;
	struct msnap_pool_info pool_info;
	uint64_t snap, ino;

	file_pool_make();
	snap = snap_dir("snap", ROOT);
	poison(pool->catalog.root.blk);
	fails(-EIO, msnap_snap_get(pool, snap, &info));
	fails(-EIO, msnap_snap_next(pool, 0, &info));
	fails(-EIO, msnap_snap_find(pool, ROOT, "snap", &info));
	fails(-EIO, msnap_snap_holds(pool, snap, ROOT));
	fails(-EIO, msnap_snap_delete(pool, snap));
	fails(-EIO, msnap_getattr(pool, in_snap(snap, ROOT), &attr));
	fails(-EIO, msnap_view_next(pool, 0, &ino));
	fails(-EIO, msnap_pool_settle(pool));
	ok(msnap_pool_info(pool, &pool_info));
	must_read_good();
	file_pool_gone();
}
END_TEST

/* What was done since the last commit is lost with the block it was in; no more. */
START_TEST(nodes_to_be_committed)
{
	file_pool_make();
	mk_file(ROOT, "new");
	poison(pool->ns.root.blk);
	fails(-EIO, msnap_commit(pool));
	must(is_read_only());
	msnap_pool_abandon(pool);
	file_pool_open();
	must(!at("new"));
	must_read_good();
	pool_ok();
	file_pool_gone();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		every_allocation_of_memory,
		every_allocation_of_each_step,
		every_allocation_of_blocks,
		every_wait_for_the_media,
		open_clean_without_memory,
		open_crashed_without_memory,
		data_that_were_read_before,
		data_that_were_never_read,
		data_written_anew,
		nodes_that_were_never_read,
		nodes_that_were_read_before,
		names_that_were_read_before,
		catalog_that_was_read_before,
		nodes_to_be_committed,
		NULL,
	};

	return run_tests("faults", tests);
}
