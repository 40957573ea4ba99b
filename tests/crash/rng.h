/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rng.h - SplitMix64 (Steele, Lea and Flood): the same seed, the same numbers. */
#ifndef CRASH_RNG_H
#define CRASH_RNG_H

#include <stdint.h>

struct rng {
	uint64_t x;
};

static inline uint64_t rng_mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline uint64_t rng_next(struct rng *r)
{
	return rng_mix(r->x += 0x9e3779b97f4a7c15ull);
}

/* 0..n-1 */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

#endif
