/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node.c - see node.h.
 *
 * Hash tables with chains, one for each of 16 shards, each with its mutex; they
 * grow by doubling.  A node leaves when its counts are zero.  The nodes open for
 * writing are also in one array, under a mutex of its own that is taken inside a
 * shard's; a node knows its place in it.
 */
#include "node.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define NR_SHARDS 16
#define FIRST_BUCKETS 256

struct node {
	uint64_t id;
	uint64_t nlookup;
	struct node *next;
	uint32_t nopen;
	uint32_t nopen_write;
	uint32_t written; /* 1 + place in nodes->written; 0: not there */
	uint32_t orphan : 1;
	uint32_t generation : 31; /* of a directory that was an orphan */
};

struct shard {
	pthread_mutex_t lock;
	struct node **bucket;
	size_t nr_buckets; /* a power of two */
	size_t nr;
};

struct msnap_fs_nodes {
	struct shard shard[NR_SHARDS];
	pthread_mutex_t lock; /* guards what follows and node->written */
	struct node **written;
	size_t nr_written;
	size_t max_written;
	uint64_t nr_open;
};

int msnap_fs_nodes_new(struct msnap_fs_nodes **out)
{
	struct msnap_fs_nodes *nodes = calloc(1, sizeof(*nodes));

	if (!nodes)
		return -ENOMEM;
	pthread_mutex_init(&nodes->lock, NULL);
	for (int i = 0; i < NR_SHARDS; i++) {
		struct shard *shard = &nodes->shard[i];

		pthread_mutex_init(&shard->lock, NULL);
		shard->nr_buckets = FIRST_BUCKETS;
		shard->bucket = calloc(FIRST_BUCKETS, sizeof(*shard->bucket));
		if (!shard->bucket) {
			msnap_fs_nodes_free(nodes);
			return -ENOMEM;
		}
	}
	*out = nodes;
	return 0;
}

static void free_shard(struct shard *shard)
{
	for (size_t i = 0; shard->bucket && i < shard->nr_buckets; i++) {
		struct node *node, *next;

		for (node = shard->bucket[i]; node; node = next) {
			next = node->next;
			free(node);
		}
	}
	free(shard->bucket);
}

void msnap_fs_nodes_free(struct msnap_fs_nodes *nodes)
{
	if (!nodes)
		return;
	for (int i = 0; i < NR_SHARDS; i++)
		free_shard(&nodes->shard[i]);
	free(nodes->written);
	free(nodes);
}

/* Inode numbers are dense: spread them over all bits. */
static uint64_t mix(uint64_t id)
{
	id ^= id >> 32;
	id *= 0x9e3779b97f4a7c15ull;
	return id ^ id >> 29;
}

static struct shard *lock_shard(struct msnap_fs_nodes *nodes, uint64_t id)
{
	struct shard *shard = &nodes->shard[mix(id) % NR_SHARDS];

	pthread_mutex_lock(&shard->lock);
	return shard;
}

static struct node **find_place(struct shard *shard, uint64_t id)
{
	size_t i = mix(id) / NR_SHARDS & (shard->nr_buckets - 1);
	struct node **place = &shard->bucket[i];

	while (*place && (*place)->id != id)
		place = &(*place)->next;
	return place;
}

/* No memory for a larger table: longer chains do as well. */
static void grow(struct shard *shard)
{
	size_t nr_old = shard->nr_buckets;
	struct node **old = shard->bucket;
	struct node **bucket = calloc(nr_old * 2, sizeof(*bucket));

	if (!bucket)
		return;
	shard->bucket = bucket;
	shard->nr_buckets = nr_old * 2;
	for (size_t i = 0; i < nr_old; i++) {
		struct node *node, *next;

		for (node = old[i]; node; node = next) {
			next = node->next;
			node->next = NULL;
			*find_place(shard, node->id) = node;
		}
	}
	free(old);
}

/* NULL: no memory. */
static struct node *find_or_add(struct shard *shard, uint64_t id)
{
	struct node *node = *find_place(shard, id);

	if (node)
		return node;
	node = calloc(1, sizeof(*node));
	if (!node)
		return NULL;
	node->id = id;
	if (shard->nr >= shard->nr_buckets)
		grow(shard);
	*find_place(shard, id) = node;
	shard->nr++;
	return node;
}

/* Remove the node if nothing counts it any more.  True: it was an orphan. */
static bool drop_unused(struct shard *shard, struct node **place)
{
	struct node *node = *place;
	bool orphan = node->orphan;

	if (node->nlookup || node->nopen)
		return false;
	*place = node->next;
	shard->nr--;
	free(node);
	return orphan;
}

int msnap_fs_node_ref(struct msnap_fs_nodes *nodes, uint64_t id)
{
	struct shard *shard = lock_shard(nodes, id);
	struct node *node = find_or_add(shard, id);

	if (node)
		node->nlookup++;
	pthread_mutex_unlock(&shard->lock);
	return node ? 0 : -ENOMEM;
}

bool msnap_fs_node_unref(struct msnap_fs_nodes *nodes, uint64_t id, uint64_t nr)
{
	struct shard *shard = lock_shard(nodes, id);
	struct node **place = find_place(shard, id);
	bool evict = false;

	if (*place) {
		(*place)->nlookup -= nr < (*place)->nlookup ? nr
							    : (*place)->nlookup;
		evict = drop_unused(shard, place);
	}
	pthread_mutex_unlock(&shard->lock);
	return evict;
}

static int add_written(struct msnap_fs_nodes *nodes, struct node *node)
{
	if (nodes->nr_written == nodes->max_written) {
		size_t max = nodes->max_written ? nodes->max_written * 2 : 16;
		struct node **array = realloc(nodes->written,
					      max * sizeof(*array));

		if (!array)
			return -ENOMEM;
		nodes->written = array;
		nodes->max_written = max;
	}
	nodes->written[nodes->nr_written++] = node;
	node->written = nodes->nr_written;
	return 0;
}

static void remove_written(struct msnap_fs_nodes *nodes, struct node *node)
{
	struct node *last = nodes->written[--nodes->nr_written];

	nodes->written[node->written - 1] = last;
	last->written = node->written;
	node->written = 0;
}

static int count_open(struct msnap_fs_nodes *nodes, struct node *node,
		      bool write)
{
	int err = 0;

	pthread_mutex_lock(&nodes->lock);
	if (write && !node->nopen_write)
		err = add_written(nodes, node);
	if (!err) {
		node->nopen++;
		node->nopen_write += write;
		nodes->nr_open++;
	}
	pthread_mutex_unlock(&nodes->lock);
	return err;
}

int msnap_fs_node_open(struct msnap_fs_nodes *nodes, uint64_t id, bool write)
{
	struct shard *shard = lock_shard(nodes, id);
	struct node *node = find_or_add(shard, id);
	int err = node ? count_open(nodes, node, write) : -ENOMEM;

	if (node && err)
		drop_unused(shard, find_place(shard, id));
	pthread_mutex_unlock(&shard->lock);
	return err;
}

static void count_close(struct msnap_fs_nodes *nodes, struct node *node,
			bool write)
{
	pthread_mutex_lock(&nodes->lock);
	node->nopen--;
	nodes->nr_open--;
	if (write && !--node->nopen_write)
		remove_written(nodes, node);
	pthread_mutex_unlock(&nodes->lock);
}

bool msnap_fs_node_close(struct msnap_fs_nodes *nodes, uint64_t id, bool write)
{
	struct shard *shard = lock_shard(nodes, id);
	struct node **place = find_place(shard, id);
	bool evict = false;

	if (*place) {
		count_close(nodes, *place, write);
		evict = drop_unused(shard, place);
	}
	pthread_mutex_unlock(&shard->lock);
	return evict;
}

bool msnap_fs_node_orphan(struct msnap_fs_nodes *nodes, uint64_t id)
{
	struct shard *shard = lock_shard(nodes, id);
	struct node *node = *find_place(shard, id);

	if (node)
		node->orphan = 1;
	pthread_mutex_unlock(&shard->lock);
	return !node;
}

uint64_t msnap_fs_node_dir_generation(struct msnap_fs_nodes *nodes, uint64_t id)
{
	struct shard *shard = lock_shard(nodes, id);
	struct node *node = *find_place(shard, id);
	uint64_t generation = 0;

	if (node) {
		node->generation += node->orphan;
		node->orphan = 0;
		generation = node->generation;
	}
	pthread_mutex_unlock(&shard->lock);
	return generation;
}

uint64_t msnap_fs_node_nr_open(struct msnap_fs_nodes *nodes, uint64_t id)
{
	struct shard *shard = lock_shard(nodes, id);
	struct node *node = *find_place(shard, id);
	uint64_t nr = node ? node->nopen : 0;

	pthread_mutex_unlock(&shard->lock);
	return nr;
}

uint64_t msnap_fs_nodes_nr_open(struct msnap_fs_nodes *nodes)
{
	uint64_t nr;

	pthread_mutex_lock(&nodes->lock);
	nr = nodes->nr_open;
	pthread_mutex_unlock(&nodes->lock);
	return nr;
}

bool msnap_fs_node_is_known(struct msnap_fs_nodes *nodes, uint64_t id)
{
	struct shard *shard = lock_shard(nodes, id);
	bool known = *find_place(shard, id) != NULL;

	pthread_mutex_unlock(&shard->lock);
	return known;
}

bool msnap_fs_node_is_written(struct msnap_fs_nodes *nodes, uint64_t id)
{
	struct shard *shard = lock_shard(nodes, id);
	struct node *node = *find_place(shard, id);
	bool written = node && node->nopen_write;

	pthread_mutex_unlock(&shard->lock);
	return written;
}

int msnap_fs_nodes_written(struct msnap_fs_nodes *nodes, uint64_t **ids,
			   size_t *nr)
{
	uint64_t *array = NULL;
	int err = 0;

	pthread_mutex_lock(&nodes->lock);
	if (nodes->nr_written) {
		array = malloc(nodes->nr_written * sizeof(*array));
		err = array ? 0 : -ENOMEM;
	}
	if (!err) {
		for (size_t i = 0; i < nodes->nr_written; i++)
			array[i] = nodes->written[i]->id;
		*ids = array;
		*nr = nodes->nr_written;
	}
	pthread_mutex_unlock(&nodes->lock);
	return err;
}

static void each_orphan_of(struct shard *shard,
			   void (*cb)(void *arg, uint64_t id), void *arg)
{
	pthread_mutex_lock(&shard->lock);
	for (size_t i = 0; i < shard->nr_buckets; i++)
		for (struct node *node = shard->bucket[i]; node;
		     node = node->next)
			if (node->orphan)
				cb(arg, node->id);
	pthread_mutex_unlock(&shard->lock);
}

void msnap_fs_nodes_each_orphan(struct msnap_fs_nodes *nodes,
				void (*cb)(void *arg, uint64_t id), void *arg)
{
	for (int i = 0; i < NR_SHARDS; i++)
		each_orphan_of(&nodes->shard[i], cb, arg);
}
