/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * persist.c - the pool's memory on a real file or device; see persist.h.
 *
 * Two ways to make stores durable, by the granularity that libpmem2 reports:
 *
 * Bytes and cache lines: flush and drain are what the CPU has for it, and
 * copies go around the cache and are durable on return.
 *
 * Pages (a file in the page cache): flush only notes the range, and drain is one
 * msync over everything noted.  One call for each range would write as much and
 * cost a journal commit and a flush of the disk's cache each time: measured on
 * ext4 and XFS, the one call is never slower from two ranges on.
 *
 * When msync fails, the kernel forgets that the pages were dirty, and the next
 * msync would succeed without writing them.  So the ranges are kept and their
 * pages made dirty again; and as the pages that failed may include some that
 * were stored to but not yet flushed, from then on flush makes dirty what it
 * notes.  A drain that returns 0 has written what it says it has.
 *
 * Space below a sparse file is allocated in aligned chunks of 2 MiB, ahead of the
 * stores, with a bit in memory for every chunk that is known to be whole.  Nothing
 * less is safe: the page cache works in large folios, and the first store to one
 * needs blocks below all of it (measured on ext4 and XFS: with room for only some of
 * them, a store to those that are there is SIGBUS).  2 MiB is the largest that a folio
 * gets.  Space is given back by the block; what is left of the chunk is not whole
 * then, and the next store is preceded by an allocation of what is missing.  Chunks
 * that are stored to without asking (nodes at a commit) are held: all or nothing.
 *
 * On a full XFS, fallocate() of a range that has all its blocks fails as well (it
 * sets aside blocks first): then the file's map says whether they are there.
 */
#include "persist.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libpmem2.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"
#include "format.h"

#define UNIT ((uint64_t)MSNAP_BLOCK_SIZE) /* what flushed pages are rounded to */
#define CHUNK MSNAP_MEM_CHUNK
#define SHORT_PART 8 /* less than this part of the filesystem is free: short */
#define MIN_SIZE (MSNAP_MIN_BLOCKS * MSNAP_BLOCK_SIZE)
#define NR_DIRTY 64
#define LOCK_POLL_MS 10

struct range {
	uint64_t start;
	uint64_t end;
};

struct file_mem {
	struct msnap_mem mem;
	struct pmem2_map *map;

	/* Bytes and cache lines. */
	pmem2_flush_fn flush_fn;
	pmem2_drain_fn drain_fn;
	pmem2_memcpy_fn memcpy_fn;
	atomic_bool file_changed; /* its blocks were remapped: flushing lines is not
				     enough */

	/* Pages; used by the thread that flushes and drains. */
	struct range dirty[NR_DIRTY]; /* ascending, with gaps in between */
	unsigned nr_dirty;
	bool failed_once; /* a drain failed: see above */

	pthread_mutex_t space_lock; /* held while blocks come and go */
	/* A bit for each chunk that has all its blocks.  Bits change under
	 * space_lock; whoever owns a range may look without it, as nobody
	 * else may punch that range. */
	_Atomic uint64_t *reserved;
	_Atomic uint64_t *held; /* a bit for each chunk: see msnap_mem_hold() */
	/* A bit for each chunk that may have blocks of other files, so that a store
	 * needs space: shared ones; on btrfs also parts of extents that are in use
	 * elsewhere, which cannot be told. */
	_Atomic uint64_t *mixed;
	atomic_bool cannot_reserve; /* the filesystem does not know how to */
	atomic_bool cannot_punch;
};

static struct file_mem *to_file(struct msnap_mem *mem)
{
	return (struct file_mem *)mem;
}

/* Sets @why to "path: reason", with the end of a path that is very long. */
__attribute__((format(printf, 4, 5))) static int
fail(struct msnap_why *why, int err, const char *path, const char *fmt, ...)
{
	size_t len = strlen(path);
	size_t skip = len > 200 ? len - 200 : 0;
	va_list args;
	int n;

	n = snprintf(why->text, sizeof(why->text), "%s%s: ", skip ? "..." : "",
		     path + skip);
	va_start(args, fmt);
	vsnprintf(why->text + n, sizeof(why->text) - (size_t)n, fmt, args);
	va_end(args);
	return err;
}

/* ---- bytes and cache lines ---------------------------------------------- */

static void lines_flush(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	to_file(mem)->flush_fn(mem->base + off, len);
}

static int lines_drain(struct msnap_mem *mem)
{
	struct file_mem *fm = to_file(mem);

	fm->drain_fn();
	if (atomic_exchange(&fm->file_changed, false) && fdatasync(mem->fd)) {
		atomic_store(&fm->file_changed, true);
		return -errno;
	}
	return 0;
}

static void lines_copy(struct msnap_mem *mem, uint64_t off, const void *src,
		       size_t len)
{
	to_file(mem)->memcpy_fn(mem->base + off, src, len,
				PMEM2_F_MEM_NONTEMPORAL);
}

/* ---- pages --------------------------------------------------------------- */

static int touch_pages(uint8_t *start, const uint8_t *end)
{
	for (uint8_t *p = start; p < end; p += UNIT) {
		uint8_t old = __atomic_load_n(p, __ATOMIC_RELAXED);

		/* A store of what is there; a failure means that another
		 * thread stored, which does as well. */
		__atomic_compare_exchange_n(p, &old, old, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	}
	return 0;
}

/* Memory that cannot be touched fails the drain by itself. */
static void make_dirty(struct msnap_mem *mem, struct range r)
{
	(void)MSNAP_GUARD(touch_pages(mem->base + r.start, mem->base + r.end));
}

/* The first range that ends at @start or behind it. */
static unsigned find_dirty(const struct file_mem *fm, uint64_t start)
{
	unsigned lo = 0, hi = fm->nr_dirty;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (fm->dirty[mid].end < start)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Replace the ranges [first, last) by one. */
static void replace_dirty(struct file_mem *fm, unsigned first, unsigned last,
			  struct range by)
{
	memmove(&fm->dirty[first + 1], &fm->dirty[last],
		(fm->nr_dirty - last) * sizeof(fm->dirty[0]));
	fm->dirty[first] = by;
	fm->nr_dirty = fm->nr_dirty + 1 - (last - first);
}

/* No room for another range: the gap between the closest two is filled. */
static void fill_smallest_gap(struct file_mem *fm)
{
	unsigned best = 0;
	uint64_t gap = UINT64_MAX;

	for (unsigned i = 0; i + 1 < fm->nr_dirty; i++) {
		if (fm->dirty[i + 1].start - fm->dirty[i].end < gap) {
			gap = fm->dirty[i + 1].start - fm->dirty[i].end;
			best = i;
		}
	}
	replace_dirty(fm, best, best + 2,
		      (struct range){ fm->dirty[best].start,
				      fm->dirty[best + 1].end });
}

static void add_dirty(struct file_mem *fm, struct range r)
{
	unsigned first, last;

	if (fm->nr_dirty == NR_DIRTY)
		fill_smallest_gap(fm);
	first = find_dirty(fm, r.start);
	for (last = first; last < fm->nr_dirty; last++) {
		if (fm->dirty[last].start > r.end)
			break;
		if (fm->dirty[last].start < r.start)
			r.start = fm->dirty[last].start;
		if (fm->dirty[last].end > r.end)
			r.end = fm->dirty[last].end;
	}
	replace_dirty(fm, first, last, r);
}

static void pages_flush(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	struct file_mem *fm = to_file(mem);
	struct range r = { off & ~(UNIT - 1), (off + len + UNIT - 1) & ~(UNIT - 1) };

	assert(off <= mem->size && len <= mem->size - off);
	if (!len)
		return;
	add_dirty(fm, r);
	if (fm->failed_once)
		make_dirty(mem, r);
}

static int pages_drain(struct msnap_mem *mem)
{
	struct file_mem *fm = to_file(mem);
	uint64_t start, end;
	int err;

	if (!fm->nr_dirty)
		return 0;
	start = fm->dirty[0].start;
	end = fm->dirty[fm->nr_dirty - 1].end;
	if (msync(mem->base + start, end - start, MS_SYNC) == 0) {
		fm->nr_dirty = 0;
		return 0;
	}
	err = -errno;
	fm->failed_once = true;
	for (unsigned i = 0; i < fm->nr_dirty; i++)
		make_dirty(mem, fm->dirty[i]);
	return err;
}

static void pages_copy(struct msnap_mem *mem, uint64_t off, const void *src,
		       size_t len)
{
	memcpy(mem->base + off, src, len);
}

/* ---- space below a sparse file ------------------------------------------ */

static bool is_reserved(const struct file_mem *fm, uint64_t chunk)
{
	return atomic_load(&fm->reserved[chunk / 64]) >> (chunk % 64) & 1;
}

static int allocate(int fd, int mode, uint64_t start, uint64_t end)
{
	int res;

	do {
		res = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)start,
				(off_t)(end - start));
	} while (res && errno == EINTR);
	return res ? -errno : 0;
}

typedef int extent_fn(void *arg, const struct fiemap_extent *extent);

#define EXTENTS_AT_ONCE 128

/* Where there is no FIEMAP (tmpfs) no blocks are shared either. */
static int each_data(int fd, uint64_t pos, uint64_t end, extent_fn *cb, void *arg)
{
	int err = 0;

	while (!err && pos < end) {
		off_t data = lseek(fd, (off_t)pos, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		struct fiemap_extent e = { .fe_logical = (uint64_t)data };

		if (hole < 0)
			return errno == ENXIO ? 0 : -errno;
		if (e.fe_logical >= end)
			break;
		pos = (uint64_t)hole < end ? (uint64_t)hole : end;
		e.fe_length = pos - e.fe_logical;
		err = cb(arg, &e);
	}
	return err;
}

/* What is allocated in [pos, end) of the file, ascending. */
static int each_extent(int fd, uint64_t pos, uint64_t end, extent_fn *cb, void *arg)
{
	union {
		struct fiemap map;
		char room[sizeof(struct fiemap) +
			  EXTENTS_AT_ONCE * sizeof(struct fiemap_extent)];
	} all;
	const struct fiemap_extent *e;
	int err = 0;

	while (!err && pos < end) {
		all.map = (struct fiemap){ .fm_start = pos, .fm_length = end - pos,
					   .fm_extent_count = EXTENTS_AT_ONCE };
		if (ioctl(fd, FS_IOC_FIEMAP, &all))
			return errno == EOPNOTSUPP ?
				       each_data(fd, pos, end, cb, arg) : -errno;
		if (!all.map.fm_mapped_extents)
			break;
		for (unsigned i = 0; !err && i < all.map.fm_mapped_extents; i++) {
			e = &all.map.fm_extents[i];
			err = cb(arg, e);
			pos = e->fe_logical + e->fe_length;
			if (e->fe_flags & FIEMAP_EXTENT_LAST)
				end = pos;
		}
	}
	return err;
}

/* A stretch that has blocks of its own, without a gap. */
struct stretch {
	struct file_mem *fm;
	uint64_t start, end;
	void (*cb)(void *arg, uint64_t off, uint64_t len);
	void *arg;
};

/* Called with space_lock held. */
static void note_whole(struct stretch *s)
{
	uint64_t end = s->end == s->fm->mem.size ? s->end + CHUNK - 1 : s->end;

	for (uint64_t c = (s->start + CHUNK - 1) / CHUNK; (c + 1) * CHUNK <= end; c++)
		atomic_fetch_or(&s->fm->reserved[c / 64], 1ull << (c % 64));
}

/* Blocks that others share move when they are stored to: as if they were not there. */
static int add_extent(void *arg, const struct fiemap_extent *e)
{
	struct stretch *s = arg;

	if (s->cb)
		s->cb(s->arg, e->fe_logical, e->fe_length);
	if (e->fe_logical != s->end || e->fe_flags & FIEMAP_EXTENT_SHARED) {
		note_whole(s);
		s->start = s->end = e->fe_logical;
	}
	if (e->fe_flags & FIEMAP_EXTENT_SHARED)
		s->start = s->end = e->fe_logical + e->fe_length;
	else
		s->end = e->fe_logical + e->fe_length;
	if (s->end > s->fm->mem.size)
		s->end = s->fm->mem.size;
	return 0;
}

/* Called with space_lock held. */
static int find_whole(struct file_mem *fm, uint64_t start, uint64_t end,
		      void (*cb)(void *arg, uint64_t off, uint64_t len), void *arg)
{
	struct stretch s = { fm, start, start, cb, arg };
	int err = each_extent(fm->mem.fd, start, end, add_extent, &s);

	if (!err)
		note_whole(&s);
	return err;
}

static bool is_mixed(const struct file_mem *fm, uint64_t chunk)
{
	return atomic_load(&fm->mixed[chunk / 64]) >> (chunk % 64) & 1;
}

static int any_extent(void *arg, const struct fiemap_extent *e)
{
	(void)arg;
	(void)e;
	return 1;
}

/* Called with space_lock held. */
static int reserve_chunk(struct file_mem *fm, uint64_t chunk)
{
	uint64_t start = chunk * CHUNK;
	uint64_t end = start + CHUNK;
	int err;

	if (end > fm->mem.size)
		end = fm->mem.size;
	if (is_mixed(fm, chunk) &&
	    each_extent(fm->mem.fd, start, end, any_extent, NULL) == 0)
		atomic_fetch_and(&fm->mixed[chunk / 64], ~(1ull << (chunk % 64)));
	err = allocate(fm->mem.fd, 0, start, end);
	if (!err) {
		atomic_fetch_or(&fm->reserved[chunk / 64], 1ull << (chunk % 64));
		atomic_store(&fm->mem.full, false);
	}
	if (err != -ENOSPC && err != -EDQUOT)
		return err;
	atomic_store(&fm->mem.full, true);
	find_whole(fm, start, end, NULL, NULL);
	return is_reserved(fm, chunk) ? 0 : -ENOSPC;
}

static int reserve_slowly(struct file_mem *fm, uint64_t chunk)
{
	int err = 0;

	pthread_mutex_lock(&fm->space_lock);
	if (!is_reserved(fm, chunk))
		err = reserve_chunk(fm, chunk);
	pthread_mutex_unlock(&fm->space_lock);
	if (err != -EOPNOTSUPP)
		return err;
	atomic_store(&fm->cannot_reserve, true);
	return 0;
}

static int file_reserve(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	struct file_mem *fm = to_file(mem);
	int err = 0;

	assert(off <= mem->size && len <= mem->size - off);
	if (mem->read_only)
		return -EROFS;
	if (mem->device || !len)
		return 0;
	for (uint64_t c = off / CHUNK; !err && c <= (off + len - 1) / CHUNK; c++) {
		if (atomic_load(&fm->cannot_reserve))
			break;
		if (!is_reserved(fm, c))
			err = reserve_slowly(fm, c);
	}
	return err;
}

/* Called with space_lock held. */
static void forget_chunks(struct file_mem *fm, struct range r)
{
	for (uint64_t c = r.start / CHUNK; c * CHUNK < r.end; c++) {
		uint64_t others = ~(1ull << (c % 64));

		atomic_fetch_and(&fm->reserved[c / 64], others);
		if (c * CHUNK < r.start || (c + 1) * CHUNK > r.end)
			continue;
		atomic_fetch_and(&fm->held[c / 64], others);
		atomic_fetch_and(&fm->mixed[c / 64], others);
	}
}

static bool is_held(const struct file_mem *fm, uint64_t chunk)
{
	return atomic_load(&fm->held[chunk / 64]) >> (chunk % 64) & 1;
}

/* Without the ends that lie in chunks of which less than all would go, and may not. */
static struct range spare_held(const struct file_mem *fm, struct range r)
{
	uint64_t up = (r.start + CHUNK - 1) & ~(CHUNK - 1), down = r.end & ~(CHUNK - 1);

	if (r.start % CHUNK && is_held(fm, r.start / CHUNK))
		r.start = up;
	if (r.end % CHUNK && is_held(fm, r.end / CHUNK) && r.end > r.start)
		r.end = down;
	return r;
}

static int file_punch(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	struct file_mem *fm = to_file(mem);
	struct range r = { (off + UNIT - 1) & ~(UNIT - 1), (off + len) & ~(UNIT - 1) };
	int err;

	assert(off <= mem->size && len <= mem->size - off);
	if (mem->read_only)
		return -EROFS;
	if (mem->device || atomic_load(&fm->cannot_punch))
		return 0;
	r = spare_held(fm, r);
	if (r.start >= r.end)
		return 0;
	pthread_mutex_lock(&fm->space_lock);
	err = allocate(mem->fd, FALLOC_FL_PUNCH_HOLE, r.start, r.end);
	if (err != -EOPNOTSUPP)
		forget_chunks(fm, r); /* after an error too: part may be gone */
	if (!err)
		atomic_store(&mem->full, false);
	pthread_mutex_unlock(&fm->space_lock);
	if (err != -EOPNOTSUPP)
		return err;
	atomic_store(&fm->cannot_punch, true);
	return 0;
}

/* Blocks of its own for one of a chunk that has others. */
static int make_own(struct file_mem *fm, uint64_t off)
{
	int err;

	pthread_mutex_lock(&fm->space_lock);
	err = allocate(fm->mem.fd, FALLOC_FL_PUNCH_HOLE, off, off + UNIT);
	if (!err)
		err = allocate(fm->mem.fd, 0, off, off + UNIT);
	if (err)
		forget_chunks(fm, (struct range){ off, off + UNIT });
	pthread_mutex_unlock(&fm->space_lock);
	return err == -EDQUOT ? -ENOSPC : err;
}

static int file_hold(struct msnap_mem *mem, uint64_t off)
{
	struct file_mem *fm = to_file(mem);
	uint64_t c = off / CHUNK;

	if (!is_held(fm, c))
		atomic_fetch_or(&fm->held[c / 64], 1ull << (c % 64));
	if (is_mixed(fm, c))
		return make_own(fm, off & ~(UNIT - 1));
	return 0;
}

static int file_next_whole(struct msnap_mem *mem, uint64_t chunk, uint64_t *found)
{
	struct file_mem *fm = to_file(mem);
	uint64_t nr = (mem->size + CHUNK - 1) / CHUNK;

	for (; chunk < nr; chunk++) {
		if (chunk % 64 == 0 && !atomic_load(&fm->reserved[chunk / 64])) {
			chunk += 63;
		} else if (is_reserved(fm, chunk)) {
			*found = chunk;
			return 0;
		}
	}
	return -ENOENT;
}

/*
 * Less than a chunk only when space is short: what was a hole is somewhere else when it
 * is filled again, and huge pages do not map the chunk any more.  Measured on XFS: a hole
 * takes 90 us when it is of 4 KiB, 75 of 64 KiB and 40 of 2 MiB, and filling the holes of
 * a chunk again up to 5 ms.  btrfs gives space back by the extent, which is as large as it
 * was allocated.
 */
static uint64_t file_worth(struct msnap_mem *mem)
{
	struct statfs st;

	if (fstatfs(mem->fd, &st) || st.f_type == BTRFS_SUPER_MAGIC)
		return CHUNK;
	return st.f_bavail < st.f_blocks / SHORT_PART ? UNIT : CHUNK;
}

static uint64_t file_room(struct msnap_mem *mem)
{
	struct statfs st;
	uint64_t room = 0;

	if (!fstatfs(mem->fd, &st))
		room = st.f_bavail * (uint64_t)st.f_bsize;
	if (room >= MSNAP_MEM_SOME)
		atomic_store(&mem->full, false);
	return room;
}

static int file_survey(struct msnap_mem *mem,
		       void (*cb)(void *arg, uint64_t off, uint64_t len), void *arg)
{
	struct file_mem *fm = to_file(mem);
	int err;

	pthread_mutex_lock(&fm->space_lock);
	err = find_whole(fm, 0, mem->size, cb, arg);
	pthread_mutex_unlock(&fm->space_lock);
	return err;
}

/* ---- sharing with files beside the pool ------------------------------------ */

static int file_share(struct msnap_mem *mem, uint64_t off, int fd,
		      uint64_t src_off, uint64_t len)
{
	struct file_clone_range range = { fd, src_off, len, off };
	struct file_mem *fm = to_file(mem);
	int res;

	assert(off <= mem->size && len <= mem->size - off);
	if (mem->read_only)
		return -EROFS;
	if (mem->device)
		return -EOPNOTSUPP;
	do {
		res = ioctl(mem->fd, FICLONERANGE, &range);
	} while (res && errno == EINTR);
	if (res)
		return errno == EDQUOT ? -ENOSPC : -errno;
	/* What is free there is not safe to store to any more. */
	for (uint64_t c = off / CHUNK; c * CHUNK < off + len; c++) {
		atomic_fetch_or(&fm->mixed[c / 64], 1ull << (c % 64));
		atomic_fetch_and(&fm->reserved[c / 64], ~(1ull << (c % 64)));
	}
	atomic_store(&fm->file_changed, true);
	return 0;
}

/* ---- opening and closing -------------------------------------------------- */

static void file_close(struct msnap_mem *mem)
{
	struct file_mem *fm = to_file(mem);

	msnap_fault_unregister(mem->base);
	if (fm->map)
		pmem2_map_delete(&fm->map);
	if (mem->fd >= 0)
		close(mem->fd); /* and the lock goes */
	pthread_mutex_destroy(&fm->space_lock);
	free(fm->reserved);
	free(fm->held);
	free(fm->mixed);
	free(fm);
}

static const struct msnap_mem_ops lines_ops = {
	.flush = lines_flush,
	.drain = lines_drain,
	.copy = lines_copy,
	.reserve = file_reserve,
	.punch = file_punch,
	.hold = file_hold,
	.next_whole = file_next_whole,
	.worth = file_worth,
	.room = file_room,
	.survey = file_survey,
	.share = file_share,
	.close = file_close,
};

static const struct msnap_mem_ops pages_ops = {
	.flush = pages_flush,
	.drain = pages_drain,
	.copy = pages_copy,
	.reserve = file_reserve,
	.punch = file_punch,
	.hold = file_hold,
	.next_whole = file_next_whole,
	.worth = file_worth,
	.room = file_room,
	.survey = file_survey,
	.share = file_share,
	.close = file_close,
};

static int open_fd(struct file_mem *fm, const char *path, struct msnap_why *why)
{
	bool ro = fm->mem.read_only;
	int err;

	/* NONBLOCK and NOCTTY: a FIFO or a terminal is refused, not waited for. */
	fm->mem.fd = open(path, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC |
					O_NONBLOCK | O_NOCTTY);
	if (fm->mem.fd >= 0)
		return 0;
	err = -errno;
	switch (err) {
	case -ENOENT:
		return fail(why, err, path,
			    "no such file or device; mkfs.memsnapfs makes a pool");
	case -EACCES:
	case -EPERM:
		return fail(why, err, path, "no permission to %s it%s",
			    ro ? "read" : "read and write",
			    ro ? "" : "; read-only may work");
	case -EROFS:
		return fail(why, err, path,
			    "is on a read-only filesystem; open it read-only");
	case -EISDIR:
		return fail(why, err, path, "is a directory, not a pool");
	default:
		return fail(why, err, path, "cannot be opened: %s",
			    strerror(-err));
	}
}

static int check_kind(struct file_mem *fm, const char *path, struct msnap_why *why)
{
	struct stat st;

	if (fstat(fm->mem.fd, &st))
		return fail(why, -errno, path, "fstat: %s", strerror(errno));
	if (S_ISDIR(st.st_mode))
		return fail(why, -EISDIR, path, "is a directory, not a pool");
	if (S_ISBLK(st.st_mode))
		return fail(why, -EMEDIUMTYPE, path,
			    "is a block device, which cannot be mapped; use a file on a filesystem on it");
	fm->mem.device = S_ISCHR(st.st_mode);
	if (!fm->mem.device && !S_ISREG(st.st_mode))
		return fail(why, -EMEDIUMTYPE, path,
			    "is neither a regular file nor a device-DAX node");
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int lock_fd(struct file_mem *fm, const char *path, unsigned wait_ms,
		   struct msnap_why *why)
{
	const struct timespec pause = { .tv_nsec = LOCK_POLL_MS * 1000000L };
	int how = (fm->mem.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB;
	uint64_t until = now_ms() + wait_ms;

	while (flock(fm->mem.fd, how)) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return fail(why, -errno, path, "cannot be locked: %s",
				    strerror(errno));
		if (now_ms() >= until)
			return fail(why, -EBUSY, path,
				    "is in use by another process (already mounted?)");
		nanosleep(&pause, NULL);
	}
	return 0;
}

/*
 * What pmem2 says of its last failure; its messages may have several lines.  It
 * returns negative errnos, and codes of its own at and below PMEM2_E_UNKNOWN;
 * its own translation is declared but missing in the library of PMDK 1.12.
 */
static int fail_pmem2(struct msnap_why *why, const char *path, int res)
{
	int err = res > PMEM2_E_UNKNOWN ? res : -EINVAL;

	if (res == PMEM2_E_INVALID_FILE_TYPE)
		return fail(why, -EMEDIUMTYPE, path,
			    "is neither a regular file nor a device-DAX node");
	fail(why, err, path, "cannot be mapped: %s", pmem2_errormsg());
	why->text[strcspn(why->text, "\n")] = '\0';
	return err;
}

/* The bytes that can be mapped: whole blocks, and what the device demands. */
static int measure(struct file_mem *fm, const struct pmem2_source *source,
		   const char *path, struct msnap_why *why)
{
	size_t size, align;
	int res;

	res = pmem2_source_size(source, &size);
	if (!res)
		res = pmem2_source_alignment(source, &align);
	if (res)
		return fail_pmem2(why, path, res);
	if (!size)
		return fail(why, -EINVAL, path,
			    "is empty; mkfs.memsnapfs makes a pool");
	if (align < UNIT)
		align = UNIT;
	size -= size % align;
	if (size < MIN_SIZE)
		return fail(why, -EINVAL, path,
			    "is smaller than 4 MiB: cut short, or never a pool");
	fm->mem.size = size;
	return 0;
}

static int configure(struct pmem2_config *config, const struct msnap_mem *mem)
{
	unsigned prot = PMEM2_PROT_READ | (mem->read_only ? 0 : PMEM2_PROT_WRITE);
	int res;

	res = pmem2_config_set_required_store_granularity(
		config, PMEM2_GRANULARITY_PAGE);
	if (!res)
		res = pmem2_config_set_sharing(config, PMEM2_SHARED);
	if (!res)
		res = pmem2_config_set_protection(config, prot);
	if (!res)
		res = pmem2_config_set_length(config, mem->size);
	return res;
}

static int map_source(struct file_mem *fm, const struct pmem2_source *source,
		      const char *path, struct msnap_why *why)
{
	struct pmem2_config *config;
	int res;

	res = pmem2_config_new(&config);
	if (res)
		return fail_pmem2(why, path, res);
	res = configure(config, &fm->mem);
	if (!res)
		res = pmem2_map_new(&fm->map, config, source);
	pmem2_config_delete(&config);
	return res ? fail_pmem2(why, path, res) : 0;
}

static int map_fd(struct file_mem *fm, const char *path, struct msnap_why *why)
{
	struct pmem2_source *source;
	int err;

	err = pmem2_source_from_fd(&source, fm->mem.fd);
	if (err)
		return fail_pmem2(why, path, err);
	err = measure(fm, source, path, why);
	if (!err)
		err = map_source(fm, source, path, why);
	pmem2_source_delete(&source);
	return err;
}

static void set_ops(struct file_mem *fm)
{
	static const char *const names[] = {
		[PMEM2_GRANULARITY_BYTE] = "byte",
		[PMEM2_GRANULARITY_CACHE_LINE] = "cache line",
		[PMEM2_GRANULARITY_PAGE] = "page",
	};
	enum pmem2_granularity unit = pmem2_map_get_store_granularity(fm->map);

	fm->mem.base = pmem2_map_get_address(fm->map);
	fm->mem.granularity = names[unit];
	fm->mem.copy_is_durable = unit != PMEM2_GRANULARITY_PAGE;
	fm->mem.ops = fm->mem.copy_is_durable ? &lines_ops : &pages_ops;
	fm->flush_fn = pmem2_get_flush_fn(fm->map);
	fm->drain_fn = pmem2_get_drain_fn(fm->map);
	fm->memcpy_fn = pmem2_get_memcpy_fn(fm->map);
}

static int alloc_reserved(struct file_mem *fm)
{
	uint64_t nr_chunks = (fm->mem.size + CHUNK - 1) / CHUNK;
	struct statfs st;

	if (fm->mem.device || fm->mem.read_only)
		return 0;
	fm->mem.sparse = true;
	fm->reserved = calloc((nr_chunks + 63) / 64, sizeof(*fm->reserved));
	fm->held = calloc((nr_chunks + 63) / 64, sizeof(*fm->held));
	fm->mixed = calloc((nr_chunks + 63) / 64, sizeof(*fm->mixed));
	if (!fm->reserved || !fm->held || !fm->mixed)
		return -ENOMEM;
	/* The first and the last block are stored to without asking. */
	fm->held[0] |= 1;
	fm->held[(nr_chunks - 1) / 64] |= 1ull << ((nr_chunks - 1) % 64);
	if (!fstatfs(fm->mem.fd, &st) && st.f_type == BTRFS_SUPER_MAGIC)
		memset((void *)fm->mixed, 0xff, (nr_chunks + 63) / 64 * 8);
	return 0;
}

/* The size is looked at under the lock: mkfs may be changing it. */
static int open_all(struct file_mem *fm, const char *path, unsigned wait_ms,
		    struct msnap_why *why)
{
	int err;

	err = open_fd(fm, path, why);
	if (!err)
		err = check_kind(fm, path, why);
	if (!err)
		err = lock_fd(fm, path, wait_ms, why);
	if (!err)
		err = map_fd(fm, path, why);
	if (err)
		return err;
	set_ops(fm);
	err = alloc_reserved(fm);
	if (!err)
		err = msnap_fault_register(fm->mem.base, fm->mem.size);
	return err ? fail(why, err, path, "%s", strerror(-err)) : 0;
}

int msnap_mem_open(const char *path, bool read_only, unsigned wait_ms,
		   struct msnap_mem **mem, struct msnap_why *why)
{
	struct file_mem *fm;
	int err;

	fm = calloc(1, sizeof(*fm));
	if (!fm)
		return fail(why, -ENOMEM, path, "out of memory");
	fm->mem.fd = -1;
	fm->mem.read_only = read_only;
	pthread_mutex_init(&fm->space_lock, NULL);
	err = open_all(fm, path, wait_ms, why);
	if (err) {
		file_close(&fm->mem);
		return err;
	}
	*mem = &fm->mem;
	return 0;
}
