/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the map from inode numbers to numbers. */
#include "util.h"

#include "cow/alloc.h"
#include "cow/idmap.h"

START_TEST(an_empty_map_has_nothing)
{
	struct msnap_idmap map = { 0 };

	must(!msnap_idmap_find(&map, 1));
	msnap_idmap_free(&map);
	must(!map.entry && !map.nr && !map.cap);
}
END_TEST

/* Numbers close together, far apart, and multiples of powers of two. */
static uint64_t id_of(unsigned kind, uint64_t i)
{
	switch (kind) {
	case 0:
		return i + 1;
	case 1:
		return (i + 1) << 20;
	case 2:
		return (i + 1) * 0x9e3779b97f4a7c15ull | 1;
	default:
		return UINT64_MAX - i;
	}
}

START_TEST(keeps_what_it_was_given)
{
	struct msnap_idmap map = { 0 };
	uint64_t i, *val;
	unsigned kind;

	for (kind = 0; kind < 4; kind++) {
		for (i = 0; i < 20000; i++) {
			val = msnap_idmap_at(&map, id_of(kind, i));
			must(val && *val == 0);
			*val = i + 7;
		}
		must(map.nr == 20000);
		for (i = 0; i < 20000; i++) {
			must(*msnap_idmap_find(&map, id_of(kind, i)) == i + 7);
			must(*msnap_idmap_at(&map, id_of(kind, i)) == i + 7);
		}
		must(map.nr == 20000);
		must(!msnap_idmap_find(&map, id_of(kind, 20000)));
		msnap_idmap_free(&map);
	}
}
END_TEST

START_TEST(no_memory_loses_nothing)
{
	struct msnap_idmap map = { 0 };
	uint64_t i;

	msnap_alloc_fail(1);
	must(!msnap_idmap_at(&map, 5));
	msnap_alloc_fail(0);
	for (i = 1; i <= 32; i++)
		*msnap_idmap_at(&map, i) = i;
	msnap_alloc_fail(1);
	must(!msnap_idmap_at(&map, 33));
	msnap_alloc_fail(0);
	must(map.nr == 32 && !msnap_idmap_find(&map, 33));
	for (i = 1; i <= 32; i++)
		must(*msnap_idmap_find(&map, i) == i);
	must(msnap_idmap_at(&map, 33));
	msnap_idmap_free(&map);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { an_empty_map_has_nothing,
					      keeps_what_it_was_given,
					      no_memory_loses_nothing, NULL };

	return run_tests("idmap", tests);
}
