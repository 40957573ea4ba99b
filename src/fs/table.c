/* SPDX-License-Identifier: GPL-2.0-or-later */
/* table.c - see table.h. */
#include "table.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define LIFETIME 60 /* seconds */
#define NR_REFS 1024
#define NR_GROUPS 64

struct ref {
	struct msnap_ioc_ref token;
	uint64_t node;
	time_t made; /* 0: free */
};

struct group {
	uint64_t id; /* 0: free */
	pid_t pid;
	time_t made;
	unsigned nr;
	unsigned max;
	struct msnap_fs_item *item;
};

struct msnap_fs_table {
	pthread_mutex_t lock; /* guards all */
	struct ref ref[NR_REFS];
	unsigned next_ref;
	struct group group[NR_GROUPS];
};

/* Starts at 1 in any case, so that 0 can mean free. */
static time_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + 1;
}

static int get_random(void *mem, size_t len)
{
	return getrandom(mem, len, 0) == (ssize_t)len ? 0 : -errno;
}

int msnap_fs_table_new(struct msnap_fs_table **out)
{
	struct msnap_fs_table *table = calloc(1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	pthread_mutex_init(&table->lock, NULL);
	*out = table;
	return 0;
}

void msnap_fs_table_free(struct msnap_fs_table *table)
{
	for (int i = 0; table && i < NR_GROUPS; i++)
		free(table->group[i].item);
	free(table);
}

int msnap_fs_ref_make(struct msnap_fs_table *table, uint64_t node,
		      struct msnap_ioc_ref *out)
{
	struct ref ref = { .node = node, .made = now() };
	int err = get_random(&ref.token, sizeof(ref.token));

	if (err)
		return err;
	pthread_mutex_lock(&table->lock);
	table->ref[table->next_ref++ % NR_REFS] = ref;
	pthread_mutex_unlock(&table->lock);
	*out = ref.token;
	return 0;
}

int msnap_fs_ref_find(struct msnap_fs_table *table,
		      const struct msnap_ioc_ref *token, uint64_t *node)
{
	time_t oldest = now() - LIFETIME;
	int err = -ESTALE;

	pthread_mutex_lock(&table->lock);
	for (int i = 0; i < NR_REFS; i++) {
		const struct ref *ref = &table->ref[i];

		if (!ref->made || ref->made < oldest ||
		    memcmp(&ref->token, token, sizeof(*token)) != 0)
			continue;
		*node = ref->node;
		err = 0;
		break;
	}
	pthread_mutex_unlock(&table->lock);
	return err;
}

static void clear_group(struct group *group)
{
	free(group->item);
	memset(group, 0, sizeof(*group));
}

/* NULL: none such. */
static struct group *find_group(struct msnap_fs_table *table, pid_t pid,
				uint64_t id)
{
	time_t oldest = now() - LIFETIME;

	for (int i = 0; i < NR_GROUPS; i++) {
		struct group *group = &table->group[i];

		if (id && group->id == id && group->pid == pid)
			return group->made < oldest ? NULL : group;
	}
	return NULL;
}

/* In a free place, or in that of the oldest. */
static int new_group(struct msnap_fs_table *table, pid_t pid,
		     struct group **out)
{
	struct group *place = &table->group[0];
	uint64_t id = 0;

	while (!id) {
		int err = get_random(&id, sizeof(id));

		if (err)
			return err;
	}
	for (int i = 1; i < NR_GROUPS && place->id; i++)
		if (!table->group[i].id || table->group[i].made < place->made)
			place = &table->group[i];
	clear_group(place);
	place->id = id;
	place->pid = pid;
	place->made = now();
	*out = place;
	return 0;
}

static int add_item(struct group *group, const struct msnap_fs_item *item)
{
	if (group->nr == MSNAP_FS_GROUP_MAX)
		return -E2BIG;
	if (group->nr == group->max) {
		unsigned max = group->max ? group->max * 2 : 8;
		void *array = realloc(group->item, max * sizeof(*item));

		if (!array)
			return -ENOMEM;
		group->item = array;
		group->max = max;
	}
	group->item[group->nr++] = *item;
	return 0;
}

int msnap_fs_group_add(struct msnap_fs_table *table, pid_t pid,
		       const struct msnap_fs_item *item, uint64_t *id)
{
	struct group *group;
	int err = 0;

	pthread_mutex_lock(&table->lock);
	if (*id) {
		group = find_group(table, pid, *id);
		err = group ? 0 : -ESTALE;
	} else {
		err = new_group(table, pid, &group);
	}
	if (!err)
		err = add_item(group, item);
	if (!err)
		*id = group->id;
	pthread_mutex_unlock(&table->lock);
	return err;
}

int msnap_fs_group_take(struct msnap_fs_table *table, pid_t pid, uint64_t id,
			struct msnap_fs_item **item, unsigned *nr)
{
	struct group *group;

	pthread_mutex_lock(&table->lock);
	group = find_group(table, pid, id);
	if (group) {
		*item = group->item;
		*nr = group->nr;
		group->item = NULL;
		clear_group(group);
	}
	pthread_mutex_unlock(&table->lock);
	return group ? 0 : -ESTALE;
}
