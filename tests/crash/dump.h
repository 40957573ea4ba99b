/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dump.h - a whole filesystem as text: every name of the live tree and of every
 * snapshot, one a line, sorted, with type, permissions, owner, links, size, hash of
 * the contents and extended attributes.  Two filesystems are the same when their
 * texts are.
 *
 * What it leaves out: times, inode numbers (hard links are told by their first name
 * in the text), blocks.  Orphans have no name and do not show.
 */
#ifndef CRASH_DUMP_H
#define CRASH_DUMP_H

#include <stddef.h>
#include <stdint.h>

#include "cow/cow.h"
#include "model.h"

struct dump {
	char *text;
	size_t len, cap;
	int err;    /* what the engine answered, and */
	char at[200]; /* when it was asked for what */
};

/* The text of a model or a pool in @d, which is used again.  Of a pool: 0 or what
 * went wrong. */
void dump_model(struct dump *d, const struct model *m);
int dump_pool(struct dump *d, struct msnap_pool *pool);
void dump_free(struct dump *d);

uint64_t dump_hash(const char *text, size_t len);

/* Print the lines that only one of two texts has. */
void dump_diff(const char *want, const char *have);

#endif
