/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- sets of blocks ----------------------------------------------------------- */

void blockset_add(struct blockset *s, uint64_t off, uint64_t len)
{
	if (!len)
		return;
	for (uint64_t b = off / CRASH_BLOCK; b <= (off + len - 1) / CRASH_BLOCK; b++) {
		if (blockset_has(s, b))
			continue;
		s->bit[b / 64] |= 1ull << (b % 64);
		s->blk[s->nr++] = b;
	}
}

void blockset_clear(struct blockset *s)
{
	memset(s->bit, 0, sizeof(s->bit));
	s->nr = 0;
}

/* ---- the engine's door ----------------------------------------------------------- */

static struct scratch *to_scratch(struct msnap_mem *mem)
{
	return (struct scratch *)mem;
}

static void on_flush(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	blockset_add(&to_scratch(mem)->changed, off, len);
}

static int on_drain(struct msnap_mem *mem)
{
	(void)mem;
	return 0;
}

static void on_copy(struct msnap_mem *mem, uint64_t off, const void *src, size_t len)
{
	scratch_store(to_scratch(mem), off, src, len);
}

static int on_reserve(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	blockset_add(&to_scratch(mem)->changed, off, len);
	return 0;
}

static int on_punch(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	(void)mem;
	(void)off;
	(void)len;
	return 0;
}

/* The next image is opened in the same memory. */
static void on_close(struct msnap_mem *mem)
{
	(void)mem;
}

static const struct msnap_mem_ops ops = {
	.flush = on_flush,
	.drain = on_drain,
	.copy = on_copy,
	.reserve = on_reserve,
	.punch = on_punch,
	.close = on_close,
};

/* ---- ours --------------------------------------------------------------------------- */

struct scratch *scratch_new(uint64_t size, const uint8_t *source)
{
	struct scratch *s = calloc(1, sizeof(*s));
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!s || base == MAP_FAILED) {
		fputs("out of memory\n", stderr);
		exit(2);
	}
	s->mem = (struct msnap_mem){ .ops = &ops, .base = base, .size = size, .fd = -1,
				     .granularity = "page" };
	s->source = source;
	scratch_source_changed_all(s);
	return s;
}

void scratch_free(struct scratch *s)
{
	if (s)
		munmap(s->mem.base, s->mem.size);
	free(s);
}

static void put_back(struct scratch *s, const struct blockset *blocks)
{
	for (unsigned i = 0; i < blocks->nr; i++) {
		uint64_t off = (uint64_t)blocks->blk[i] * CRASH_BLOCK;

		memcpy(s->mem.base + off, s->source + off, CRASH_BLOCK);
	}
}

void scratch_restore(struct scratch *s)
{
	put_back(s, &s->changed);
	blockset_clear(&s->changed);
}

void scratch_source_changed(struct scratch *s, const struct blockset *blocks)
{
	put_back(s, blocks);
}

void scratch_source_changed_all(struct scratch *s)
{
	memcpy(s->mem.base, s->source, s->mem.size);
	blockset_clear(&s->changed);
}

void scratch_store(struct scratch *s, uint64_t off, const void *src, uint64_t len)
{
	blockset_add(&s->changed, off, len);
	memcpy(s->mem.base + off, src, len);
}

int64_t image_stray(const uint8_t *a, const uint8_t *b, uint64_t size,
		    const struct blockset *known)
{
	for (uint64_t off = 0; off < size; off += CRASH_BLOCK)
		if (!blockset_has(known, off / CRASH_BLOCK) &&
		    memcmp(a + off, b + off, CRASH_BLOCK))
			return off;
	return -1;
}

int64_t scratch_stray(const struct scratch *s)
{
	return image_stray(s->mem.base, s->source, s->mem.size, &s->changed);
}
