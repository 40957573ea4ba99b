/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * util.h - what the tests of the engine share: one pool on simulated memory, and
 * short words for what is done with it.
 *
 * What it does not do: it tests nothing by itself.
 *
 * The pool under test is global: each test runs in a process of its own.  The
 * memory outlives the pool, so that a pool can be abandoned, its machine crashed
 * and the rest opened again.
 */
#ifndef TESTS_UTIL_H
#define TESTS_UTIL_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cow/cow.h"
#include "cow/pool.h"
#include "cow/tree.h"

#define ROOT MSNAP_ROOT_INO_PUBLIC
#define BLK ((uint64_t)MSNAP_BLOCK_SIZE)
#define KIB 1024ull
#define MIB (1024ull * 1024)

extern struct msnap_mem *mem;
extern struct msnap_pool *pool;

/* Lines logged since the pool was opened, and the last one that warned. */
extern unsigned log_lines;
extern char log_last[512];

/* As ck_assert(), which writes a line to a file each time it is passed. */
#define must(cond)                                                             \
	do {                                                                   \
		if (!(cond))                                                   \
			ck_abort_msg("not so: %s", #cond);                     \
	} while (0)

/* The call's result, which must be no error; and one that must be this error. */
#define ok(call) util_ok(call, #call, __FILE__, __LINE__)
#define fails(err, call) util_fails(err, call, #call, __FILE__, __LINE__)
long util_ok(long ret, const char *what, const char *file, int line);
void util_fails(int err, long ret, const char *what, const char *file, int line);

/* ---- pools -------------------------------------------------------------- */

/* A new pool of @mib MiB in byte-addressable memory, open. */
void pool_make(uint64_t mib);
void pool_make_kind(uint64_t mib, enum msnap_sim_kind kind);
/* Open what is in the memory; @flags besides NO_BACKGROUND. */
int pool_try_open(unsigned flags);
void pool_open(unsigned flags);
/* End cleanly and open again. */
void pool_reopen(unsigned flags);
/* The machine dies: what is not durable is gone.  Open again. */
void pool_crash(unsigned flags);
/* Without closing the pool: its memory is what @image has, then open. */
void pool_from(const uint8_t *image, unsigned flags);
/* The media's image, in memory of its own. */
uint8_t *pool_image(void);
/* Open @image in other memory, read-only: it must have nothing wrong and the view
 * @view.  The pool under test does not notice. */
void pool_aside(const uint8_t *image, unsigned flags, uint64_t view);
/* Pool and memory go. */
void pool_gone(void);

/* Errors that msnap_check() finds, contents verified; each goes to stderr. */
uint64_t pool_errors(void);
/* None. */
void pool_ok(void);
/* The same after all that waits in the background was done. */
void pool_settled_ok(void);
/* Free blocks once everything has been given back that can be; those of the saved
 * map that the pool was opened with are counted as free. */
uint64_t pool_free_blks(void);

/* Everything that can be seen, as one number: names, attributes, contents,
 * snapshots; the same for the same contents wherever they are kept. */
uint64_t pool_view(void);
/* Every record, root and count as it is: what an undone operation must leave. */
uint64_t pool_raw(void);

/* ---- files -------------------------------------------------------------- */

uint64_t mk_file(uint64_t dir, const char *name);
uint64_t mk_dir(uint64_t dir, const char *name);
uint64_t mk_symlink(uint64_t dir, const char *name, const char *target);
uint64_t mk_tmpfile(void);
void mk_link(uint64_t ino, uint64_t dir, const char *name);
/* Remove a name, and the inode with its last one; returns the inode. */
uint64_t rm(uint64_t dir, const char *name);
uint64_t rm_dir(uint64_t dir, const char *name);
/* Remove a name but keep the orphan. */
uint64_t unlink_only(uint64_t dir, const char *name);
void mv(uint64_t dir, const char *name, uint64_t new_dir, const char *new_name);

/* The inode of a name; 0: there is none. */
uint64_t find(struct msnap_id dir, const char *name);
struct msnap_attr attr_of(struct msnap_id id);
uint64_t size_of(uint64_t ino);
void set_size(uint64_t ino, uint64_t size);

/* Bytes that depend on @seed and on where they are in the file. */
void fill_bytes(uint8_t *buf, uint64_t off, size_t len, uint64_t seed);
void put_bytes(uint64_t ino, uint64_t off, size_t len, uint64_t seed);
bool has_bytes(struct msnap_id id, uint64_t off, size_t len, uint64_t seed);
bool has_zeros(struct msnap_id id, uint64_t off, size_t len);

/* ---- snapshots ---------------------------------------------------------- */

int try_snap(const char *name, uint64_t dir, const char *entry, uint64_t *snap);
/* Of a directory, or of one entry of it. */
uint64_t snap_dir(const char *name, uint64_t dir);
uint64_t snap_file(const char *name, uint64_t dir, const char *entry);
struct msnap_id in_snap(uint64_t snap, uint64_t ino);
/* For msnap_rollback(), where nobody needs to know. */
msnap_changed_fn no_cache;

/*
 * Abort unless both directories hold the same: names, types, attributes (but for
 * ctime, btime, version and, with !@links, the number of links), extended
 * attributes, targets, contents, and which names are links of one file.
 */
void same_tree(struct msnap_id a, struct msnap_id b, bool links);
/* The entries of a directory, by name; the caller frees them. */
struct entry {
	char name[256];
	uint64_t ino;
	uint8_t type;
};
struct entry *entries_of(struct msnap_id dir, unsigned *nr);

/* ---- chance ------------------------------------------------------------- */

void rnd_seed(uint64_t seed);
uint64_t rnd(uint64_t below);

/* Run one suite; returns what main() returns. */
int run_suite(Suite *suite);
/* A suite with one test case: its name, its tests (a NULL ends them). */
int run_tests(const char *name, const TTest *const *tests);

#endif
