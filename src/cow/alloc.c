/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "alloc.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

static atomic_ulong fail_at;
static atomic_ulong seen;

static bool must_fail(void)
{
	unsigned long n = atomic_fetch_add_explicit(&seen, 1,
						    memory_order_relaxed) + 1;

	return n == atomic_load_explicit(&fail_at, memory_order_relaxed);
}

void *msnap_malloc(size_t size)
{
	return must_fail() ? NULL : malloc(size);
}

void *msnap_calloc(size_t nr, size_t size)
{
	return must_fail() ? NULL : calloc(nr, size);
}

void *msnap_realloc(void *old, size_t size)
{
	return must_fail() ? NULL : realloc(old, size);
}

void msnap_alloc_fail(unsigned long nth)
{
	atomic_store(&seen, 0);
	atomic_store(&fail_at, nth);
}

unsigned long msnap_alloc_seen(void)
{
	return atomic_load(&seen);
}
