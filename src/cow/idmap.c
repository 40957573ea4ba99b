/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "idmap.h"

#include <stdlib.h>

#include "alloc.h"

static size_t slot(const struct msnap_idmap *map, uint64_t id)
{
	size_t i = (id * 0x9e3779b97f4a7c15ull >> 20) & (map->cap - 1);

	while (map->entry[i].id && map->entry[i].id != id)
		i = (i + 1) & (map->cap - 1);
	return i;
}

static int grow(struct msnap_idmap *map)
{
	struct msnap_idmap bigger = { .cap = map->cap ? map->cap * 2 : 64 };
	size_t i;

	bigger.entry = msnap_calloc(bigger.cap, sizeof(*bigger.entry));
	if (!bigger.entry)
		return -1;
	for (i = 0; i < map->cap; i++)
		if (map->entry[i].id)
			bigger.entry[slot(&bigger, map->entry[i].id)] =
				map->entry[i];
	bigger.nr = map->nr;
	free(map->entry);
	*map = bigger;
	return 0;
}

uint64_t *msnap_idmap_at(struct msnap_idmap *map, uint64_t id)
{
	size_t i;

	if (2 * (map->nr + 1) > map->cap && grow(map))
		return NULL;
	i = slot(map, id);
	if (!map->entry[i].id) {
		map->entry[i].id = id;
		map->nr++;
	}
	return &map->entry[i].val;
}

uint64_t *msnap_idmap_find(const struct msnap_idmap *map, uint64_t id)
{
	size_t i;

	if (!map->cap)
		return NULL;
	i = slot(map, id);
	return map->entry[i].id ? &map->entry[i].val : NULL;
}

void msnap_idmap_free(struct msnap_idmap *map)
{
	free(map->entry);
	*map = (struct msnap_idmap){ 0 };
}
