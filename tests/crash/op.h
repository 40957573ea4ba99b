/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * op.h - one operation, done to a pool and to the model.
 *
 * Paths are strings that outlive the operation.  Data to be written come from @fill,
 * so that an operation is a few numbers and can be printed.
 */
#ifndef CRASH_OP_H
#define CRASH_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "cow/cow.h"
#include "model.h"

enum op_code {
	OP_CREATE,
	OP_TMPFILE, /* create without a name, write @len bytes, link */
	OP_MKDIR,
	OP_SYMLINK, /* @to: target */
	OP_LINK,
	OP_UNLINK,
	OP_RMDIR,
	OP_RENAME, /* @mode: MSNAP_RENAME_* */
	OP_WRITE,
	OP_MSYNC, /* pages stored to through a mapping are written back; fsync */
	OP_ABSORB, /* blocks of the file's view are shared; @mode PUNCH: a hole */
	OP_TRUNCATE, /* to @len */
	OP_FALLOCATE, /* @mode as fallocate(2) */
	OP_COPY, /* @len bytes at @off to @to_off */
	OP_CLONE, /* @mode: MSNAP_CLONE_* */
	OP_CHMOD, /* @mode: permissions, @off: owner */
	OP_SETXATTR, /* @to: name, @len bytes */
	OP_RMXATTR, /* @to: name */
	OP_SNAP, /* directory @path, or its files @to and @to2 */
	OP_SNAP_DELETE,
	OP_SNAP_RENAME, /* to @to */
	OP_ROLLBACK, /* directory @path, or its entry @to */
	OP_COMMIT,
	OP_SETTLE, /* what the background does: take dropped trees apart */
	OP_NR,
};

struct op {
	enum op_code code;
	const char *path;
	const char *to;
	const char *to2;
	const char *snap; /* NULL: the live tree */
	uint64_t off, to_off, len;
	unsigned mode;
	bool hold; /* what loses its last name is still open */
	unsigned fill;
};

/* When such an operation returns 0, all done so far is durable. */
bool op_commits(const struct op *op);

/* The view that OP_ABSORB shares blocks of while it runs, from the file's start. */
const uint8_t *op_view(void);

/* Do it.  0, a count or a negative errno. */
long op_on_pool(struct msnap_pool *pool, const struct op *op);
long op_on_model(struct model *m, const struct op *op);

void op_print(const struct op *op, char *buf, size_t size);

#endif
