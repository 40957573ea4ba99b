/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gate.c - see gate.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "gate.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct msnap_fs_gate {
	pthread_mutex_t rollback; /* held from begin to finish */
	pthread_rwlock_t door;	  /* readers: WRITEs; guards what follows */
	const uint64_t *ino;
	size_t nr;
	/* One for each: 1 shut, 2 shut and something was thrown away, 0 open.
	 * NULL, for want of memory: all shut until finish. */
	_Atomic uint8_t *state;
};

int msnap_fs_gate_new(struct msnap_fs_gate **out)
{
	struct msnap_fs_gate *gate = calloc(1, sizeof(*gate));
	pthread_rwlockattr_t attr;

	if (!gate)
		return -ENOMEM;
	pthread_mutex_init(&gate->rollback, NULL);
	/* Or a full-speed writer could keep a rollback out for ever. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&gate->door, &attr);
	pthread_rwlockattr_destroy(&attr);
	*out = gate;
	return 0;
}

void msnap_fs_gate_free(struct msnap_fs_gate *gate)
{
	free(gate);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static bool is_shut(struct msnap_fs_gate *gate, uint64_t ino)
{
	const uint64_t *found;
	size_t i;

	if (!gate->nr)
		return false;
	found = bsearch(&ino, gate->ino, gate->nr, sizeof(ino), compare);
	if (!found)
		return false;
	if (!gate->state)
		return true;
	i = found - gate->ino;
	if (!gate->state[i])
		return false;
	gate->state[i] = 2;
	return true;
}

bool msnap_fs_gate_enter(struct msnap_fs_gate *gate, uint64_t ino)
{
	pthread_rwlock_rdlock(&gate->door);
	if (!is_shut(gate, ino))
		return true;
	pthread_rwlock_unlock(&gate->door);
	return false;
}

void msnap_fs_gate_leave(struct msnap_fs_gate *gate)
{
	pthread_rwlock_unlock(&gate->door);
}

void msnap_fs_gate_begin(struct msnap_fs_gate *gate)
{
	pthread_mutex_lock(&gate->rollback);
	pthread_rwlock_wrlock(&gate->door);
}

void msnap_fs_gate_switched(struct msnap_fs_gate *gate, const uint64_t *ino,
			    size_t nr)
{
	gate->ino = ino;
	gate->nr = nr;
	gate->state = nr ? malloc(nr) : NULL;
	for (size_t i = 0; gate->state && i < nr; i++)
		gate->state[i] = 1;
	pthread_rwlock_unlock(&gate->door);
}

bool msnap_fs_gate_release(struct msnap_fs_gate *gate, size_t i)
{
	uint8_t state;

	/* The lock makes sure that nobody who saw it shut is still on his way. */
	pthread_rwlock_wrlock(&gate->door);
	state = 2;
	if (gate->state) {
		state = gate->state[i];
		gate->state[i] = 0;
	}
	pthread_rwlock_unlock(&gate->door);
	return state == 2;
}

void msnap_fs_gate_finish(struct msnap_fs_gate *gate)
{
	pthread_rwlock_wrlock(&gate->door);
	gate->ino = NULL;
	gate->nr = 0;
	free((void *)gate->state);
	gate->state = NULL;
	pthread_rwlock_unlock(&gate->door);
	pthread_mutex_unlock(&gate->rollback);
}
