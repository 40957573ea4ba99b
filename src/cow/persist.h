/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * persist.h - the pool's memory, and the only door to making it durable.
 *
 * What it is: a file, a device-DAX node or a file on a DAX filesystem, mapped
 * whole through libpmem2; or the simulated memory of the tests, which keeps what
 * the CPU sees apart from what has reached the media.  Nothing else in the
 * project flushes, fences or calls msync.
 *
 * What it does not do: it knows nothing of what is stored.
 *
 * Ordering: a store is durable once msnap_mem_flush() was called on its range
 * after it, and msnap_mem_drain() returned 0 after that.  Without these it may
 * become durable at any time, in any order, in units of 8 bytes (byte
 * addressable memory) or 512 bytes (pages).
 *
 * Locking: flush and drain are called by one thread at a time (the committer);
 * msnap_mem_copy() and msnap_mem_reserve() by any.
 */
#ifndef MSNAP_COW_PERSIST_H
#define MSNAP_COW_PERSIST_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cow.h"

struct msnap_mem;

struct msnap_mem_ops {
	void (*flush)(struct msnap_mem *mem, uint64_t off, uint64_t len);
	int (*drain)(struct msnap_mem *mem);
	void (*copy)(struct msnap_mem *mem, uint64_t off, const void *src,
		     size_t len);
	int (*reserve)(struct msnap_mem *mem, uint64_t off, uint64_t len);
	int (*punch)(struct msnap_mem *mem, uint64_t off, uint64_t len);
	int (*share)(struct msnap_mem *mem, uint64_t off, int fd,
		     uint64_t src_off, uint64_t len);
	/* NULL where there is nothing to give back. */
	int (*hold)(struct msnap_mem *mem, uint64_t off);
	int (*next_whole)(struct msnap_mem *mem, uint64_t chunk, uint64_t *found);
	uint64_t (*worth)(struct msnap_mem *mem);
	uint64_t (*room)(struct msnap_mem *mem);
	int (*survey)(struct msnap_mem *mem,
		      void (*cb)(void *arg, uint64_t off, uint64_t len), void *arg);
	void (*close)(struct msnap_mem *mem);
};

/* Embedded at the start of each implementation's own struct. */
struct msnap_mem {
	const struct msnap_mem_ops *ops;
	uint8_t *base; /* mapped, page aligned */
	uint64_t size; /* bytes */
	int fd;	       /* of the file or device; -1: none */
	bool device;
	bool read_only;
	bool sparse; /* a file that need not have space below all of it */
	atomic_bool full; /* when space was last needed there was none */
	/* copy() leaves nothing to flush: byte-addressable memory. */
	bool copy_is_durable;
	const char *granularity; /* "byte", "cache line", "page" */
};

/*
 * Map the file or device @path whole.  Takes an exclusive lock on it (shared
 * when @read_only), waiting up to @wait_ms for another holder.  -EBUSY: still
 * held.  @why says what is wrong.  The caller closes it.
 */
int msnap_mem_open(const char *path, bool read_only, unsigned wait_ms,
		   struct msnap_mem **mem, struct msnap_why *why);

static inline void msnap_mem_close(struct msnap_mem *mem)
{
	mem->ops->close(mem);
}

/* Begin to make a range durable.  Cannot fail: drain tells. */
static inline void msnap_mem_flush(struct msnap_mem *mem, uint64_t off,
				   uint64_t len)
{
	mem->ops->flush(mem, off, len);
}

/*
 * Wait until every range flushed since the last drain is durable.  -EIO (or what
 * msync gave): some may not be; the same ranges must not be assumed clean.
 */
static inline int msnap_mem_drain(struct msnap_mem *mem)
{
	return mem->ops->drain(mem);
}

/* Copy into the pool; durable on return where copy_is_durable says so. */
static inline void msnap_mem_copy(struct msnap_mem *mem, uint64_t off,
				  const void *src, size_t len)
{
	mem->ops->copy(mem, off, src, len);
}

/*
 * Make sure that storing to the range cannot fail for want of space below (a
 * sparse file on a full disk would answer with SIGBUS).  -ENOSPC.  Cheap when
 * nothing is to be done.
 */
static inline int msnap_mem_reserve(struct msnap_mem *mem, uint64_t off,
				    uint64_t len)
{
	return mem->ops->reserve(mem, off, len);
}

/* What space below a sparse file comes by, in bytes. */
#define MSNAP_MEM_CHUNK (2ull << 20)

/*
 * Give the space below the range, whole blocks, back to the filesystem; it reads as
 * zeros or as what it was.  Nobody may use the range meanwhile, nor afterwards without
 * msnap_mem_reserve(): nor may others of its chunks be stored to without it, but for
 * chunks that are held, of which less than all is left alone.
 */
static inline int msnap_mem_punch(struct msnap_mem *mem, uint64_t off,
				  uint64_t len)
{
	return mem->ops->punch(mem, off, len);
}

/*
 * The block at @off, which nobody uses yet and which is reserved, will be stored to at
 * any time: its chunk goes as a whole or stays, and it shares its space with no other
 * file.  -ENOSPC.
 */
static inline int msnap_mem_hold(struct msnap_mem *mem, uint64_t off)
{
	return mem->sparse && mem->ops->hold ? mem->ops->hold(mem, off) : 0;
}

/* The first chunk from @chunk on that is known to have all its space; -ENOENT. */
static inline int msnap_mem_next_whole(struct msnap_mem *mem, uint64_t chunk,
				       uint64_t *found)
{
	return mem->sparse && mem->ops->next_whole ?
		       mem->ops->next_whole(mem, chunk, found) : -ENOENT;
}

/* The least that is worth punching of a chunk that is not free as a whole, in bytes. */
static inline uint64_t msnap_mem_worth(struct msnap_mem *mem)
{
	return mem->sparse && mem->ops->worth ? mem->ops->worth(mem) : MSNAP_MEM_CHUNK;
}

/* Bytes that the filesystem below has free.  With some of them it is not full. */
static inline uint64_t msnap_mem_room(struct msnap_mem *mem)
{
	return mem->sparse && mem->ops->room ? mem->ops->room(mem) : UINT64_MAX;
}

#define MSNAP_MEM_SOME (4 * MSNAP_MEM_CHUNK)

/*
 * Find out what has space below: @cb for each such range, whole chunks become known.
 * -errno: it cannot be told.
 */
static inline int msnap_mem_survey(struct msnap_mem *mem,
				   void (*cb)(void *arg, uint64_t off, uint64_t len),
				   void *arg)
{
	return mem->sparse && mem->ops->survey ? mem->ops->survey(mem, cb, arg) : 0;
}

/*
 * Replace a range of the pool's file by blocks of file @fd, shared by the filesystem
 * that both are on (FICLONERANGE, see ioctl_ficlonerange(2)): no data is copied.
 * The filesystem writes @fd's own changes back first, so that where copies are durable
 * (copy_is_durable) the next drain makes the whole durable; elsewhere flush and drain
 * do, as for a store.  -EOPNOTSUPP, -EXDEV, -EINVAL: not there; -ENOSPC, -EIO.
 */
static inline int msnap_mem_share(struct msnap_mem *mem, uint64_t off, int fd,
				  uint64_t src_off, uint64_t len)
{
	return mem->ops->share ? mem->ops->share(mem, off, fd, src_off, len) :
				 -EOPNOTSUPP;
}

/*
 * The simulated memory (persist-sim.c).  The CPU's image is mem->base; the
 * media's image changes only at drain, by what was flushed.  See the crash tests.
 */
enum msnap_sim_kind {
	MSNAP_SIM_LINES, /* byte addressable: 64-byte lines, 8-byte units */
	MSNAP_SIM_PAGES, /* page granularity: 4 KiB pages, torn at 512 bytes */
};

struct msnap_sim_hooks {
	/* Called at every drain, before the flushed ranges count as durable:
	 * lines or pages that differ between base and media may or may not
	 * survive a crash here. */
	void (*at_drain)(void *arg, struct msnap_mem *mem, const uint8_t *media);
	void *arg;
};

int msnap_sim_new(uint64_t size, enum msnap_sim_kind kind,
		  struct msnap_mem **mem);
void msnap_sim_hooks(struct msnap_mem *mem, const struct msnap_sim_hooks *hooks);
/* As a sparse file, before the pool is opened: what is punched then holds
 * MSNAP_SIM_PUNCHED in both images.  @worth: see msnap_mem_worth(). */
void msnap_sim_sparse(struct msnap_mem *mem, uint64_t worth);
#define MSNAP_SIM_PUNCHED 0xdb
/* The image as the media have it; @mem's own memory. */
uint8_t *msnap_sim_media(struct msnap_mem *mem);
/* The CPU's image becomes the media's: what a reboot does. */
void msnap_sim_crash(struct msnap_mem *mem);
/* Faults to inject: 0 off, n: the nth drain from now on fails with -EIO. */
void msnap_sim_fail_drain(struct msnap_mem *mem, unsigned nth);

#endif
