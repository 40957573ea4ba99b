/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * heap.c - the daemon whose every allocation can fail.
 *
 * Linked into a build of mount.memsnapfs in which malloc(), calloc() and realloc() of
 * our own code are the functions here (ld --wrap); libraries keep theirs.  The test
 * says by ioctl which one fails (src/fs/inject.h).
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

unsigned long msnap_fs_heap_fail(unsigned long nth);
void *__real_malloc(size_t size);
void *__real_calloc(size_t nr, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t nr, size_t size);
void *__wrap_realloc(void *old, size_t size);

static atomic_ulong nr_seen, fail_at;

unsigned long msnap_fs_heap_fail(unsigned long nth)
{
	unsigned long seen = atomic_exchange(&nr_seen, 0);

	atomic_store(&fail_at, nth);
	return seen;
}

static bool must_fail(void)
{
	return atomic_fetch_add(&nr_seen, 1) + 1 == atomic_load(&fail_at);
}

void *__wrap_malloc(size_t size)
{
	return must_fail() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t nr, size_t size)
{
	return must_fail() ? NULL : __real_calloc(nr, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return must_fail() ? NULL : __real_realloc(old, size);
}
