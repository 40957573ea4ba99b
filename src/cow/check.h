/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.h - what the parts of the checker share: check-node.c reads nodes that may be
 * anything, check-tree.c walks the trees, check-names.c compares names with inodes,
 * check.c the counts with the space map, and repair.c directs them.
 *
 * One walk serves checking and repairing.  Whatever is wrong goes through
 * msnap_check_found(), which reports it and says whether to put it right; a check
 * gets "no" every time and changes nothing.
 *
 * A node is repaired by writing another in its place: nothing that a root on media
 * reaches is ever stored to, and what the walk does counts only once its commit is
 * durable.
 *
 * Nothing here trusts the pool: nodes are copied out under a guard before they are
 * looked at, and every length in them is checked.
 *
 * Locking: none.  Nobody else may use the pool.
 */
#ifndef MSNAP_COW_CHECK_H
#define MSNAP_COW_CHECK_H

#include "idmap.h"
#include "inode.h"

/* A pointer as an inner node has it: the child and the lowest key below it. */
struct msnap_entry_ptr {
	struct msnap_key key;
	struct msnap_ptr ptr;
};

/* What the walk found out about a node, whichever of its parents it came from. */
struct msnap_walked {
	uint64_t blk;
	struct msnap_key first, last; /* keys of the records below it */
	uint64_t end;		      /* of extents: the file block behind the last */
	uint64_t nr_blk;	      /* of extents: blocks of data below it */
	bool whole;		      /* nothing below it was left damaged */
	unsigned level;
	/* What stands in its place: entries out[at..at + nr).  It alone: it was
	 * left as it is.  None: there is nothing to keep. */
	size_t at;
	unsigned nr;
};

/* A stretch of a walk, for progress. */
struct msnap_part {
	uint64_t at, len; /* of MSNAP_PART_ALL */
};
#define MSNAP_PART_ALL (1ull << 40)

struct msnap_checking {
	struct msnap_pool *pool;
	unsigned flags; /* MSNAP_CHECK_* */
	bool quiet;	/* report nothing, repair nothing */
	bool only_look; /* report, but offer no repairs */
	bool rdonly;	/* offer repairs, but make none */

	bool (*found)(void *arg, const struct msnap_problem *problem);
	int (*progress)(void *arg, const char *what, uint64_t done,
			uint64_t total);
	void *arg;
	const char *what; /* is being done, for progress */
	struct msnap_part part; /* of the walk: what is below where it is */
	uint64_t inodes_done, inodes_all; /* visits, of the check of names */

	struct msnap_check_result res;
	uint64_t nr_answered; /* of its errors: are being repaired */
	uint64_t nr_fixed;    /* in all walks */
	bool changed; /* something was repaired since the caller cleared it */
	bool damaged; /* a tree was left damaged */

	/* check-tree.c: good until msnap_check_reset() */
	struct msnap_idmap memo_at; /* block of a node -> its place in memo, + 1 */
	struct msnap_walked *memo;
	size_t nr_memo, cap_memo;
	struct msnap_entry_ptr *out;
	size_t nr_out, cap_out;
	_Atomic(_Atomic uint64_t *) *nodes; /* a bit for each block that is one */
	struct msnap_space *counts;	    /* references, counted by the walk */
	const char *where; /* tree of the namespace or catalog, for messages */
	uint64_t ino;	   /* whose extents these are */
};

/*
 * Something is wrong: say so.  True: repair it.  @safe: doing that gives nothing up
 * that is not lost already.  @fix: what is done about it, as "cut it out".
 */
bool msnap_check_found(struct msnap_checking *c, bool safe, const char *fix,
		       const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The same, where all there is to do about it is to say so. */
void msnap_check_wrong(struct msnap_checking *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Tell how far it is, in trees or with names.  -ECANCELED. */
int msnap_check_progress(struct msnap_checking *c, uint64_t done, uint64_t total);

int msnap_check_init(struct msnap_checking *c);
/* Forget what the last walk found out. */
int msnap_check_reset(struct msnap_checking *c);
void msnap_check_destroy(struct msnap_checking *c);

/* ---- check-node.c --------------------------------------------------- */

enum msnap_node_state {
	MSNAP_NODE_SOUND,
	MSNAP_NODE_MENDABLE, /* what passes of what is in it can be kept */
	MSNAP_NODE_GONE,
};

/* Copy out the node that @ptr means, of @type and @level (-1: any).  *why: what is
 * wrong with it. */
enum msnap_node_state msnap_check_load(const struct msnap_pool *pool,
				       struct msnap_ptr ptr, unsigned type, int level,
				       struct msnap_node *n, const char **why);
/* Is what is in the block the node that a parent means, as far as its header tells?
 * Also copies it. */
bool msnap_check_is_meant(const struct msnap_pool *pool, struct msnap_ptr ptr,
			  unsigned type, int level, struct msnap_node *n);
/* How many slots or entries a node can have at most of those it says it has. */
unsigned msnap_check_slots(const struct msnap_node *n);

/*
 * Note which blocks are tree nodes, as far as the trees can be read; with @used,
 * also give every block that they reach a reference there.
 */
int msnap_check_scan(struct msnap_checking *c, struct msnap_ptr ns,
		     struct msnap_ptr catalog, struct msnap_space *used);

/* ---- check-tree.c --------------------------------------------------- */

/*
 * Walk a whole tree with all that hangs below it.  *root: the tree afterwards,
 * another when it was repaired (in an operation then), none when nothing is left.
 * *whole: nothing was left damaged.
 */
int msnap_check_tree(struct msnap_checking *c, unsigned type, const char *where,
		     struct msnap_ptr *root, bool *whole);

/* What the walk found out about the node in @blk, or NULL. */
const struct msnap_walked *msnap_check_walked(const struct msnap_checking *c,
					      uint64_t blk);

/* ---- check-names.c -------------------------------------------------- */

/* Names, links, sizes and parents in the live tree and in every snapshot whose
 * trees are whole; then the catalog's records and the numbers in the root. */
int msnap_check_names(struct msnap_checking *c);

/* ---- check.c -------------------------------------------------------- */

/* The counts of the walk against those in @map. */
int msnap_check_counts(struct msnap_checking *c, struct msnap_space *map,
		       const struct msnap_runs *chain);

#endif
