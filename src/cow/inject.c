/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inject.c - things that fail on request, for the tests of a mounted pool.
 *
 * Memory and blocks fail at the doors that they go through anyway (alloc.h, space.h).
 * For waits on the media the pool's memory gets other functions, that call its own
 * ones.  Memory that cannot be read is a page of a file that ends before it: touching
 * that is a SIGBUS, as poison is; what the pool's own file has there is not touched.
 *
 * Locking: none of its own.  The functions are exchanged while the pool is in use; one
 * pool in a process at a time.
 */
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc.h"
#include "pool.h"

static const struct msnap_mem_ops *real_ops;
static struct msnap_mem_ops failing_ops;
static atomic_ulong nr_drains, failing_drain;

static int drain(struct msnap_mem *mem)
{
	unsigned long n = atomic_fetch_add(&nr_drains, 1) + 1;

	return n == atomic_load(&failing_drain) ? -EIO : real_ops->drain(mem);
}

static void fail_drain(struct msnap_mem *mem, unsigned long nth)
{
	atomic_store(&nr_drains, 0);
	atomic_store(&failing_drain, nth);
	if (mem->ops == &failing_ops)
		return;
	real_ops = mem->ops;
	failing_ops = *real_ops;
	failing_ops.drain = drain;
	__atomic_store_n(&mem->ops, &failing_ops, __ATOMIC_RELEASE);
}

static int poison(struct msnap_pool *pool, uint64_t blk)
{
	int fd, err = 0;

	if (blk >= pool->nr_blocks)
		return -EINVAL;
	fd = memfd_create("poison", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (mmap(msnap_blk_ptr(pool, blk), MSNAP_BLOCK_SIZE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		err = -errno;
	close(fd);
	return err;
}

int msnap_inject(struct msnap_pool *pool, enum msnap_inject what, uint64_t nth,
		 uint64_t *seen)
{
	*seen = 0;
	switch (what) {
	case MSNAP_INJECT_MEMORY:
		*seen = msnap_alloc_seen();
		msnap_alloc_fail(nth);
		return 0;
	case MSNAP_INJECT_SPACE:
		*seen = msnap_space_allocs(pool->space);
		msnap_space_fail_alloc(pool->space, nth);
		return 0;
	case MSNAP_INJECT_DRAIN:
		*seen = atomic_load(&nr_drains);
		fail_drain(pool->mem, nth);
		return 0;
	case MSNAP_INJECT_POISON:
		return poison(pool, nth);
	}
	return -EINVAL;
}
