/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "runs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"

int msnap_runs_reserve(struct msnap_runs *runs, size_t more)
{
	size_t cap = runs->cap ? runs->cap : 32;
	struct msnap_run *run;

	if (runs->nr + more <= runs->cap)
		return 0;
	while (cap < runs->nr + more)
		cap *= 2;
	run = msnap_realloc(runs->run, cap * sizeof(*run));
	if (!run)
		return -ENOMEM;
	runs->run = run;
	runs->cap = cap;
	return 0;
}

int msnap_runs_add(struct msnap_runs *runs, uint64_t blk, uint64_t nr)
{
	struct msnap_run *last = runs->nr ? &runs->run[runs->nr - 1] : NULL;
	int err;

	if (last && last->blk + last->nr == blk) {
		last->nr += nr;
		return 0;
	}
	err = msnap_runs_reserve(runs, 1);
	if (err)
		return err;
	runs->run[runs->nr++] = (struct msnap_run){ blk, nr };
	return 0;
}

void msnap_runs_move(struct msnap_runs *to, struct msnap_runs *from)
{
	if (from->nr)
		memcpy(to->run + to->nr, from->run, from->nr * sizeof(*to->run));
	to->nr += from->nr;
	from->nr = 0;
}

void msnap_runs_free(struct msnap_runs *runs)
{
	free(runs->run);
	*runs = (struct msnap_runs){ 0 };
}
