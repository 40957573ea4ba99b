/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "points.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* The next few behind the id @after. */
static int load_some(int dirfd, const char *file, uint64_t after,
		     struct msnap_ioc_snap_list *list)
{
	int err;

	memset(list, 0, sizeof(*list));
	list->after = after;
	if ((size_t)snprintf(list->file, sizeof(list->file), "%s", file) >=
	    sizeof(list->file))
		return -ENAMETOOLONG;
	err = msnap_cli_ioctl(dirfd, MSNAP_IOC_SNAP_LIST, list);
	if (err)
		return err;
	return list->nr <= MSNAP_IOC_LIST_MAX ? 0 : -EPROTO;
}

static int append(struct msnap_ioc_snap_entry **points, size_t *nr,
		  const struct msnap_ioc_snap_list *list)
{
	struct msnap_ioc_snap_entry *more;

	more = reallocarray(*points, *nr + list->nr, sizeof(*more));
	if (!more)
		return -ENOMEM;
	memcpy(more + *nr, list->entry, list->nr * sizeof(*more));
	*points = more;
	*nr += list->nr;
	return 0;
}

int msnap_points_load(int dirfd, const char *file,
		      struct msnap_ioc_snap_entry **points, size_t *nr)
{
	struct msnap_ioc_snap_entry *all = NULL;
	struct msnap_ioc_snap_list list;
	uint64_t after = 0;
	size_t nr_all = 0;
	int err;

	for (;;) {
		err = load_some(dirfd, file, after, &list);
		if (err || !list.nr)
			break;
		err = append(&all, &nr_all, &list);
		if (err)
			break;
		after = list.entry[list.nr - 1].id;
	}
	if (err) {
		free(all);
		return err;
	}
	*points = all;
	*nr = nr_all;
	return 0;
}

int msnap_points_find(int dirfd, const char *file, const char *name,
		      struct msnap_ioc_snap_entry *point)
{
	struct msnap_ioc_snap_list list;
	uint64_t after = 0;
	uint32_t i;
	int err;

	for (;;) {
		err = load_some(dirfd, file, after, &list);
		if (err)
			return err;
		if (!list.nr)
			return -ENOENT;
		for (i = 0; i < list.nr; i++)
			if (!strncmp(list.entry[i].name, name,
				     sizeof(list.entry[i].name))) {
				*point = list.entry[i];
				return 0;
			}
		after = list.entry[list.nr - 1].id;
	}
}
