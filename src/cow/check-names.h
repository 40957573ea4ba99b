/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check-names.h - what check-names.c, which finds what is wrong with names and inodes,
 * and check-change.c, which puts it right, share.
 *
 * Locking: none is taken for reading; a change is an operation.
 */
#ifndef MSNAP_COW_CHECK_NAMES_H
#define MSNAP_COW_CHECK_NAMES_H

#include "check.h"

/* A namespace that is being checked. */
struct msnap_names {
	struct msnap_checking *c;
	struct msnap_pool *pool;
	const char *where;
	uint64_t snap; /* 0: live */
	bool whole;    /* the tree is: it was checked */
	bool complete; /* every inode has all its names here */
	uint64_t top;  /* the directory that gets lost+found */
	struct msnap_tree *ns;	   /* the live one, or: */
	struct msnap_tree of_snap;
	struct msnap_idmap links; /* inode -> names found */
	struct msnap_idmap reach; /* directory -> the climb that came by first */
	uint64_t nr_inodes;
	int nr_made; /* inodes made by repairs, less those deleted, of a snapshot */
};

typedef unsigned long long ull;

/* A copy of a record. */
struct msnap_record {
	struct msnap_key key;
	unsigned len;
	union {
		uint8_t val[MSNAP_VAL_MAX];
		struct msnap_inode in;
		struct msnap_dirent de;
		struct msnap_xattr xa;
		struct msnap_snap sn;
	};
};

/* The first record at or behind @from.  -ENOENT. */
int msnap_names_find(struct msnap_pool *pool, const struct msnap_tree *tree,
		     struct msnap_key from, struct msnap_record *r);
/* The same among the records of one kind of one inode. */
int msnap_names_find_of(struct msnap_names *n, uint64_t ino, unsigned kind,
			uint64_t rest, struct msnap_record *r);
bool msnap_names_has(struct msnap_names *n, uint64_t ino, unsigned kind);

/* What follows the kind in a key of the namespace. */
static inline uint64_t msnap_names_rest(struct msnap_key key)
{
	return key.lo & ~(0xffull << 56);
}

/* A change, made inside an operation. */
typedef int msnap_names_fn(struct msnap_names *n, void *arg);

/* Make one, as an operation of its own; a snapshot's record follows its tree. */
int msnap_names_change(struct msnap_names *n, msnap_names_fn *fn, void *arg);

struct msnap_names_range {
	struct msnap_key lo, hi;
};

/* The changes, with what @arg points to. */
msnap_names_fn msnap_names_cut; /* struct msnap_names_range: these records go */
msnap_names_fn msnap_names_erase; /* uint64_t: that inode, with all it has */
msnap_names_fn msnap_names_put; /* struct msnap_record: put or replace it */
msnap_names_fn msnap_names_unname; /* struct msnap_record: that entry goes */
msnap_names_fn msnap_names_rehash; /* struct msnap_record: an entry goes to where its
				      name is looked for */
msnap_names_fn msnap_names_make_root; /* uint64_t: an empty root directory */
msnap_names_fn msnap_names_make_again; /* uint64_t: a directory that has entries */
msnap_names_fn msnap_names_attach; /* uint64_t: put that inode into lost+found */

/* There are @nr inodes more. */
void msnap_names_count(struct msnap_names *n, int nr);

/* The same as operations of their own: all records of a kind go; an inode's record. */
int msnap_names_cut_kind(struct msnap_names *n, uint64_t ino, unsigned kind);
int msnap_names_put_inode(struct msnap_names *n, uint64_t ino,
			  const struct msnap_inode *in);

#endif
