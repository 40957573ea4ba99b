/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * persist-sim.c - simulated memory for tests: what the CPU sees and what has
 * reached the media are two images.
 *
 * The media's image changes at drain only, by what was flushed, and by copies
 * into byte-addressable memory, which are durable on return.  It is the least
 * that the contract of persist.h promises; whatever else differs between the two
 * images may have reached real media or not, and the crash tests choose.
 *
 * Flushing rounds out to units: 64-byte lines, whose content counts as it is at
 * the flush (a line may be written back right then, and a store that comes later
 * is not covered), or 4 KiB pages, whose content counts as it is at the drain
 * (msync runs then).  Lines therefore go through a third image, the staged one.
 *
 * All memory is allocated at the start: nothing can fail later, and the same
 * calls always give the same images.
 *
 * Locking: sim->lock guards staged, media and the marks.  The hook is called
 * without it.
 */
#include "persist.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIM_LINE 64u
#define SIM_PAGE 4096u

struct sim {
	struct msnap_mem mem;
	enum msnap_sim_kind kind;
	uint32_t unit; /* bytes that are flushed together */
	pthread_mutex_t lock;
	uint8_t *media;
	uint8_t *staged;  /* lines as they were when flushed */
	uint64_t *marks;  /* a bit for each unit that was flushed */
	uint64_t nr_words; /* of marks */
	struct msnap_sim_hooks hooks;
	unsigned fail_in; /* drains until one fails; 0: none will */
	uint64_t worth;	  /* what msnap_mem_worth() says */
};

static struct sim *to_sim(struct msnap_mem *mem)
{
	return (struct sim *)mem;
}

static void sim_flush(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	struct sim *sim = to_sim(mem);

	assert(off <= mem->size && len <= mem->size - off);
	if (!len)
		return;
	pthread_mutex_lock(&sim->lock);
	for (uint64_t u = off / sim->unit; u <= (off + len - 1) / sim->unit; u++) {
		sim->marks[u / 64] |= 1ull << (u % 64);
		if (sim->kind == MSNAP_SIM_LINES)
			memcpy(sim->staged + u * sim->unit,
			       mem->base + u * sim->unit, sim->unit);
	}
	pthread_mutex_unlock(&sim->lock);
}

/* Called with sim->lock held. */
static void write_back(struct sim *sim)
{
	const uint8_t *from = sim->kind == MSNAP_SIM_LINES ? sim->staged
							   : sim->mem.base;

	for (uint64_t w = 0; w < sim->nr_words; w++) {
		while (sim->marks[w]) {
			unsigned bit = (unsigned)__builtin_ctzll(sim->marks[w]);
			uint64_t off = (w * 64 + bit) * sim->unit;

			memcpy(sim->media + off, from + off, sim->unit);
			sim->marks[w] &= sim->marks[w] - 1;
		}
	}
}

static int sim_drain(struct msnap_mem *mem)
{
	struct sim *sim = to_sim(mem);
	bool fails;

	if (sim->hooks.at_drain)
		sim->hooks.at_drain(sim->hooks.arg, mem, sim->media);
	pthread_mutex_lock(&sim->lock);
	fails = sim->fail_in && --sim->fail_in == 0;
	if (!fails)
		write_back(sim);
	pthread_mutex_unlock(&sim->lock);
	return fails ? -EIO : 0;
}

/*
 * Durable on return where that is promised: exactly these bytes.  They go to the
 * staged image too, or the drain of a line that was flushed before would put
 * back what was there.
 */
static void sim_copy(struct msnap_mem *mem, uint64_t off, const void *src,
		     size_t len)
{
	struct sim *sim = to_sim(mem);

	assert(off <= mem->size && len <= mem->size - off);
	pthread_mutex_lock(&sim->lock);
	memcpy(mem->base + off, src, len);
	if (mem->copy_is_durable) {
		memcpy(sim->staged + off, src, len);
		memcpy(sim->media + off, src, len);
	}
	pthread_mutex_unlock(&sim->lock);
}

/* The simulated memory is all there. */
static int sim_no_space_needed(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	(void)mem;
	(void)off;
	(void)len;
	return 0;
}

/* What is punched may read as anything; here, as what nobody wrote, at once. */
static int sim_punch(struct msnap_mem *mem, uint64_t off, uint64_t len)
{
	struct sim *sim = to_sim(mem);

	if (!mem->sparse)
		return 0;
	assert(off <= mem->size && len <= mem->size - off);
	pthread_mutex_lock(&sim->lock);
	memset(mem->base + off, MSNAP_SIM_PUNCHED, len);
	memset(sim->media + off, MSNAP_SIM_PUNCHED, len);
	memset(sim->staged + off, MSNAP_SIM_PUNCHED, len);
	pthread_mutex_unlock(&sim->lock);
	return 0;
}

static uint64_t sim_worth(struct msnap_mem *mem)
{
	return to_sim(mem)->worth;
}

static void unmap_image(uint8_t *image, uint64_t size)
{
	if (image)
		munmap(image, size);
}

static void sim_close(struct msnap_mem *mem)
{
	struct sim *sim = to_sim(mem);

	unmap_image(mem->base, mem->size);
	unmap_image(sim->media, mem->size);
	unmap_image(sim->staged, mem->size);
	free(sim->marks);
	pthread_mutex_destroy(&sim->lock);
	free(sim);
}

static const struct msnap_mem_ops sim_ops = {
	.flush = sim_flush,
	.drain = sim_drain,
	.copy = sim_copy,
	.reserve = sim_no_space_needed,
	.punch = sim_punch,
	.worth = sim_worth,
	.close = sim_close,
};

/* Zeros, page aligned; NULL when there is no memory. */
static uint8_t *map_image(uint64_t size)
{
	void *image = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return image == MAP_FAILED ? NULL : image;
}

static int alloc_images(struct sim *sim)
{
	uint64_t size = sim->mem.size;

	sim->mem.base = map_image(size);
	if (!sim->mem.base)
		return -ENOMEM;
	sim->media = map_image(size);
	sim->staged = map_image(size);
	sim->nr_words = (size / sim->unit + 63) / 64;
	sim->marks = calloc(sim->nr_words, sizeof(*sim->marks));
	return sim->media && sim->staged && sim->marks ? 0 : -ENOMEM;
}

int msnap_sim_new(uint64_t size, enum msnap_sim_kind kind, struct msnap_mem **mem)
{
	bool lines = kind == MSNAP_SIM_LINES;
	struct sim *sim;
	int err;

	if (!size || size % SIM_PAGE)
		return -EINVAL;
	sim = calloc(1, sizeof(*sim));
	if (!sim)
		return -ENOMEM;
	sim->mem = (struct msnap_mem){
		.ops = &sim_ops,
		.size = size,
		.fd = -1,
		.copy_is_durable = lines,
		.granularity = lines ? "cache line" : "page",
	};
	sim->kind = kind;
	sim->unit = lines ? SIM_LINE : SIM_PAGE;
	pthread_mutex_init(&sim->lock, NULL);
	err = alloc_images(sim);
	if (err) {
		sim_close(&sim->mem);
		return err;
	}
	*mem = &sim->mem;
	return 0;
}

void msnap_sim_sparse(struct msnap_mem *mem, uint64_t worth)
{
	mem->sparse = true;
	to_sim(mem)->worth = worth;
}

void msnap_sim_hooks(struct msnap_mem *mem, const struct msnap_sim_hooks *hooks)
{
	to_sim(mem)->hooks = hooks ? *hooks : (struct msnap_sim_hooks){ 0 };
}

uint8_t *msnap_sim_media(struct msnap_mem *mem)
{
	return to_sim(mem)->media;
}

void msnap_sim_crash(struct msnap_mem *mem)
{
	struct sim *sim = to_sim(mem);

	pthread_mutex_lock(&sim->lock);
	memcpy(mem->base, sim->media, mem->size);
	memset(sim->marks, 0, sim->nr_words * sizeof(*sim->marks));
	pthread_mutex_unlock(&sim->lock);
}

void msnap_sim_fail_drain(struct msnap_mem *mem, unsigned nth)
{
	struct sim *sim = to_sim(mem);

	pthread_mutex_lock(&sim->lock);
	sim->fail_in = nth;
	pthread_mutex_unlock(&sim->lock);
}
