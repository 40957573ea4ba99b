/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "workload.h"

#include <linux/falloc.h>
#include <stddef.h>
#include <string.h>

#define KEEP FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO FALLOC_FL_ZERO_RANGE
#define SWAP MSNAP_RENAME_EXCHANGE
#define NOREPLACE MSNAP_RENAME_NOREPLACE
#define REPLACE MSNAP_CLONE_REPLACE
#define NR(table) (sizeof(table) / sizeof((table)[0]))

#define CREATE(p) { .code = OP_CREATE, .path = p }
#define TMPFILE(p, n) { .code = OP_TMPFILE, .path = p, .len = n, .fill = 77 }
#define MKDIR(p) { .code = OP_MKDIR, .path = p }
#define SYMLINK(p, t) { .code = OP_SYMLINK, .path = p, .to = t }
#define LINK(p, t) { .code = OP_LINK, .path = p, .to = t }
#define UNLINK(p) { .code = OP_UNLINK, .path = p }
#define UNLINK_OPEN(p) { .code = OP_UNLINK, .path = p, .hold = true }
#define RMDIR(p) { .code = OP_RMDIR, .path = p }
#define RENAME(p, t) { .code = OP_RENAME, .path = p, .to = t }
#define RENAME2(p, t, f) { .code = OP_RENAME, .path = p, .to = t, .mode = f }
#define WRITE(p, o, n) { .code = OP_WRITE, .path = p, .off = o, .len = n, \
			 .fill = __LINE__ }
#define MSYNC(p, o, n) { .code = OP_MSYNC, .path = p, .off = o, .len = n, \
			 .fill = __LINE__ }
#define ABSORB(p, o, n) { .code = OP_ABSORB, .path = p, .off = o, .len = n, \
			  .fill = __LINE__ }
#define ABSORB_HOLE(p, o, n) { .code = OP_ABSORB, .path = p, .off = o, .len = n, \
			       .mode = PUNCH }
#define TRUNCATE(p, n) { .code = OP_TRUNCATE, .path = p, .len = n }
#define FALLOCATE(p, m, o, n) { .code = OP_FALLOCATE, .path = p, .mode = m, \
				.off = o, .len = n }
#define COPY(s, p, o, t, u, n) { .code = OP_COPY, .snap = s, .path = p, .off = o, \
				 .to = t, .to_off = u, .len = n }
#define CLONE(s, p, t) { .code = OP_CLONE, .snap = s, .path = p, .to = t }
#define CLONE_OVER(s, p, t) { .code = OP_CLONE, .snap = s, .path = p, .to = t, \
			      .mode = REPLACE }
#define CHMOD(p, m, u) { .code = OP_CHMOD, .path = p, .mode = m, .off = u }
#define SETXATTR(p, x, n) { .code = OP_SETXATTR, .path = p, .to = x, .len = n, \
			    .fill = __LINE__ }
#define RMXATTR(p, x) { .code = OP_RMXATTR, .path = p, .to = x }
#define SNAP(s, p) { .code = OP_SNAP, .snap = s, .path = p }
#define SNAP_FILE(s, p, f) { .code = OP_SNAP, .snap = s, .path = p, .to = f }
#define SNAP_FILES(s, p, f, g) { .code = OP_SNAP, .snap = s, .path = p, .to = f, \
				 .to2 = g }
#define SNAP_DELETE(s) { .code = OP_SNAP_DELETE, .snap = s }
#define SNAP_RENAME(s, t) { .code = OP_SNAP_RENAME, .snap = s, .to = t }
#define ROLLBACK(s, p) { .code = OP_ROLLBACK, .snap = s, .path = p }
#define ROLLBACK_FILE(s, p, f) { .code = OP_ROLLBACK, .snap = s, .path = p, .to = f }
#define COMMIT { .code = OP_COMMIT }
#define SETTLE { .code = OP_SETTLE }

/*
 * A few of everything.  Snapshots hold what is gone since (k, d/k) and what has
 * changed; there are as many commits as let the ring of roots go round.
 */
const struct op workload_base[] = {
	CREATE("a"), WRITE("a", 0, 9000), SETXATTR("a", "user.x", 20), COMMIT,
	CREATE("b"), WRITE("b", 0, 5000), COMMIT,
	CREATE("k"), WRITE("k", 0, 4096), COMMIT,
	MKDIR("d"), CREATE("d/c"), WRITE("d/c", 0, 8192), COMMIT,
	CREATE("d/k"), WRITE("d/k", 0, 100), COMMIT,
	MKDIR("d/e"), CREATE("d/e/f"), WRITE("d/e/f", 0, 3000), COMMIT,
	MKDIR("g"), SETXATTR("d", "user.d", 50), COMMIT,
	LINK("a", "d/l"), SYMLINK("s", "d/c"), COMMIT,
	SNAP("r0", ""), SNAP("d0", "d"), SNAP_FILE("f0", "", "a"), COMMIT,
	CREATE("h"), FALLOCATE("h", KEEP, 0, 8192), WRITE("h", 20000, 100), COMMIT,
	CREATE("z"), COMMIT,
	WRITE("a", 5000, 100), COMMIT,
	WRITE("d/c", 0, 100), COMMIT,
	UNLINK("k"), UNLINK("d/k"), COMMIT,
	CHMOD("d/e", 0700, 3), COMMIT,
	SETXATTR("b", "user.w", 10), COMMIT,
};
const unsigned workload_base_nr = NR(workload_base);

const struct op workload_single[] = {
	/* making */
	CREATE("n"), CREATE("d/n"), CREATE("g/n"), CREATE("a"), CREATE("a/n"),
	CREATE("d/e/n"), TMPFILE("n", 5000), TMPFILE("d/n", 0), TMPFILE("b", 10),
	MKDIR("n"), MKDIR("d/n"), MKDIR("d"), SYMLINK("n", "a"),
	SYMLINK("d/n", "nowhere/at/all"),
	/* names */
	LINK("b", "n"), LINK("a", "g/n"), LINK("d/c", "n"), LINK("s", "n"),
	LINK("d", "n"), LINK("a", "b"), LINK("d/l", "d/n"),
	UNLINK("a"), UNLINK("b"), UNLINK("d/l"), UNLINK("d/c"), UNLINK("d/e/f"),
	UNLINK("s"), UNLINK("h"), UNLINK("d"), UNLINK("n"), UNLINK_OPEN("b"),
	UNLINK_OPEN("d/c"), RMDIR("g"), RMDIR("d"), RMDIR("a"), RMDIR("d/e"),
	RENAME("a", "n"), RENAME("a", "d/n"), RENAME("a", "g/n"), RENAME("a", "b"),
	RENAME("a", "d/c"), RENAME("d/c", "a"), RENAME("b", "d/l"),
	RENAME("a", "d/l"), RENAME("d/l", "b"), RENAME("d", "n"), RENAME("d", "g"),
	RENAME("g", "d"), RENAME("d", "d/e/n"), RENAME("d/e", "n"),
	RENAME("d/e", "g"), RENAME("d/e", "g/n"), RENAME("d/e/f", "b"),
	RENAME("g", "d/e/n"), RENAME("n", "a"), RENAME("a", "d"),
	RENAME2("a", "b", SWAP), RENAME2("a", "d/c", SWAP), RENAME2("a", "d", SWAP),
	RENAME2("d/e", "g", SWAP), RENAME2("d", "d/e", SWAP),
	RENAME2("a", "b", NOREPLACE), RENAME2("b", "n", NOREPLACE),
	/* contents */
	WRITE("a", 9000, 3000), WRITE("a", 4096, 4096), WRITE("a", 100, 500),
	WRITE("a", 40000, 100), WRITE("b", 0, 5000), WRITE("d/l", 4000, 200),
	WRITE("d/c", 0, 4096), WRITE("d/e/f", 3000, 5000), WRITE("h", 0, 4096),
	WRITE("h", 3000, 3000), WRITE("b", 0, 70000), WRITE("z", 0, 4096),
	WRITE("d", 0, 10), WRITE("n", 0, 10),
	MSYNC("a", 100, 5000), MSYNC("a", 8000, 4000), MSYNC("d/l", 4096, 4096),
	MSYNC("h", 0, 4096), MSYNC("h", 10000, 9000), MSYNC("z", 0, 4096),
	MSYNC("d/e/f", 0, 1),
	ABSORB("a", 0, 4096), ABSORB("a", 4096, 4000), ABSORB("a", 5000, 30000),
	ABSORB("d/l", 8192, 100), ABSORB("b", 0, 70000), ABSORB("h", 4096, 8192),
	ABSORB("z", 0, 8192), ABSORB("d/e/f", 100, 50), ABSORB_HOLE("a", 0, 8192),
	ABSORB_HOLE("h", 0, 16384), ABSORB("d", 0, 4096),
	TRUNCATE("a", 4096), TRUNCATE("a", 100), TRUNCATE("a", 0),
	TRUNCATE("a", 20000), TRUNCATE("d/l", 6000), TRUNCATE("d/c", 5000),
	TRUNCATE("b", 0), TRUNCATE("h", 4096), TRUNCATE("d", 0),
	FALLOCATE("b", 0, 0, 16384), FALLOCATE("b", KEEP, 8192, 8192),
	FALLOCATE("z", 0, 1000, 9000), FALLOCATE("a", PUNCH, 4096, 4096),
	FALLOCATE("a", PUNCH, 1000, 5000), FALLOCATE("h", PUNCH, 0, 8192),
	FALLOCATE("a", ZERO, 2000, 4000), FALLOCATE("d/c", ZERO, 0, 12288),
	/* sharing */
	COPY(NULL, "a", 0, "b", 0, 4096), COPY(NULL, "a", 100, "b", 300, 2000),
	COPY(NULL, "a", 0, "z", 0, 9000), COPY(NULL, "a", 0, "a", 16384, 4096),
	COPY(NULL, "a", 4096, "d/c", 8192, 4904), COPY(NULL, "d/c", 0, "d/l", 0, 8192),
	COPY("r0", "a", 0, "a", 0, 8192), COPY("r0", "k", 0, "z", 0, 4096),
	COPY("f0", "a", 4096, "b", 0, 4096), COPY(NULL, "a", 0, "a", 100, 4096),
	CLONE(NULL, "a", "n"), CLONE(NULL, "a", "g/n"), CLONE(NULL, "d/c", "n"),
	CLONE(NULL, "s", "n"), CLONE(NULL, "a", "b"), CLONE_OVER(NULL, "b", "a"),
	CLONE_OVER(NULL, "a", "d/c"), CLONE_OVER(NULL, "a", "d/l"),
	CLONE("r0", "a", "n"), CLONE("r0", "k", "k"), CLONE("f0", "a", "n"),
	CLONE_OVER("d0", "c", "d/c"), CLONE(NULL, "d", "n"), CLONE(NULL, "d", "g/n"),
	CLONE(NULL, "d", "d/e/n"), CLONE("r0", "d", "n"), CLONE("d0", "", "n"),
	CLONE("r0", "", "n"), CLONE("none", "a", "n"),
	/* attributes */
	CHMOD("a", 0600, 5), CHMOD("d", 0700, 5), CHMOD("d/c", 0640, 0),
	CHMOD("d/l", 0444, 1), SETXATTR("a", "user.x", 30), SETXATTR("b", "user.y", 5),
	SETXATTR("d", "user.z", 8), SETXATTR("b", "user.long", 3000),
	SETXATTR("d/l", "user.x", 0), RMXATTR("a", "user.x"), RMXATTR("b", "user.x"),
	RMXATTR("d/l", "user.x"),
	/* snapshots */
	SNAP("r1", ""), SNAP("d1", "d"), SNAP("e1", "d/e"), SNAP("g1", "g"),
	SNAP_FILE("f1", "", "a"), SNAP_FILE("f1", "d", "c"),
	SNAP_FILES("t1", "", "a", "b"), SNAP_FILE("f1", "", "n"), SNAP("r0", ""),
	SNAP("d0", "d/e"), SNAP("r1", "a"), SNAP_DELETE("r0"), SNAP_DELETE("d0"),
	SNAP_DELETE("f0"), SNAP_DELETE("none"), SNAP_RENAME("r0", "r9"),
	SNAP_RENAME("d0", "d9"), SNAP_RENAME("d0", "r0"), SNAP_RENAME("f0", "f0"),
	ROLLBACK("r0", ""), ROLLBACK("r0", "d"), ROLLBACK("d0", "d"),
	ROLLBACK("d0", "d/e"), ROLLBACK("f0", ""), ROLLBACK("r0", "g"),
	ROLLBACK_FILE("r0", "", "a"), ROLLBACK_FILE("r0", "", "k"),
	ROLLBACK_FILE("d0", "d", "c"), ROLLBACK_FILE("d0", "d", "k"),
	ROLLBACK_FILE("r0", "d", "l"), ROLLBACK_FILE("f0", "", "a"),
	ROLLBACK_FILE("r0", "", "d"), ROLLBACK("d0", "g"),
	COMMIT, SETTLE,
};
const unsigned workload_single_nr = NR(workload_single);

/* ---- random ------------------------------------------------------------------- */

static const char *const files[] = {
	"a", "b", "n", "z", "h", "d/c", "d/l", "d/n", "d/e/f", "d/e/n", "g/a", "g/n",
	"m/a", "m/c", "m/e/f", "g/m/c", "s",
};
static const char *const dirs[] = { "d", "d/e", "g", "m", "g/m", "m/e", "d/m" };
static const char *const snaps[] = { "r0", "d0", "f0", "p", "q", "t" };
static const char *const xattrs[] = { "user.x", "user.y", "user.z" };

static const char *pick(struct rng *rng, const char *const *table, size_t nr)
{
	return table[rng_below(rng, nr)];
}

static const char *any_file(struct rng *rng)
{
	return pick(rng, files, NR(files));
}

static const char *any_dir(struct rng *rng)
{
	return pick(rng, dirs, NR(dirs));
}

static const char *any_path(struct rng *rng)
{
	return rng_below(rng, 3) ? any_file(rng) : any_dir(rng);
}

static const char *any_snap(struct rng *rng)
{
	return pick(rng, snaps, NR(snaps));
}

/* Bytes: often whole blocks, sometimes many. */
static uint64_t any_len(struct rng *rng)
{
	switch (rng_below(rng, 8)) {
	case 0:
		return 1 + rng_below(rng, 100);
	case 1:
		return 60000 + rng_below(rng, 20000);
	case 2:
	case 3:
		return 4096 * (1 + rng_below(rng, 4));
	default:
		return 1 + rng_below(rng, 10000);
	}
}

static uint64_t any_off(struct rng *rng)
{
	return rng_below(rng, 2) ? 4096 * rng_below(rng, 5) : rng_below(rng, 20000);
}

static struct op random_write(struct rng *rng)
{
	static const int modes[] = { 0, KEEP, PUNCH, PUNCH, ZERO, ZERO | KEEP };
	struct op op = { .code = OP_WRITE, .path = any_file(rng),
			 .off = any_off(rng), .len = any_len(rng),
			 .fill = rng_next(rng) };

	switch (rng_below(rng, 8)) {
	case 0:
		op.code = OP_TRUNCATE;
		op.off = 0;
		op.len = rng_below(rng, 4) ? rng_below(rng, 30000) : 0;
		break;
	case 1:
		op.code = OP_FALLOCATE;
		op.mode = modes[rng_below(rng, NR(modes))];
		op.len = 1 + rng_below(rng, 20000);
		break;
	case 2:
		op.code = OP_COPY;
		op.snap = rng_below(rng, 3) ? NULL : any_snap(rng);
		op.to = any_file(rng);
		op.to_off = any_off(rng);
		op.off = op.to_off % 4096 + 4096 * rng_below(rng, 3);
		if (rng_below(rng, 3) == 0)
			op.off = op.to_off = 0;
		break;
	case 3:
		op.code = rng_below(rng, 3) ? OP_ABSORB : OP_MSYNC;
		break;
	}
	return op;
}

static struct op random_name(struct rng *rng)
{
	static const enum op_code codes[] = {
		OP_CREATE, OP_CREATE, OP_TMPFILE, OP_MKDIR, OP_MKDIR, OP_SYMLINK,
		OP_LINK, OP_UNLINK, OP_RMDIR, OP_RENAME, OP_RENAME, OP_RENAME,
	};
	struct op op = { .code = codes[rng_below(rng, NR(codes))] };

	op.path = op.code == OP_MKDIR || op.code == OP_RMDIR ? any_dir(rng) :
		  op.code == OP_RENAME ? any_path(rng) : any_file(rng);
	if (op.code == OP_TMPFILE) {
		op.len = rng_below(rng, 9000);
		op.fill = rng_next(rng);
	}
	if (op.code == OP_LINK || op.code == OP_RENAME || op.code == OP_SYMLINK)
		op.to = any_path(rng);
	if (op.code == OP_RENAME)
		op.mode = rng_below(rng, 4) ? 0 : SWAP;
	op.hold = rng_below(rng, 8) == 0;
	return op;
}

static struct op random_attr(struct rng *rng)
{
	struct op op = { .path = any_path(rng) };

	switch (rng_below(rng, 3)) {
	case 0:
		op.code = OP_CHMOD;
		op.mode = rng_below(rng, 01000);
		op.off = rng_below(rng, 3);
		break;
	case 1:
		op.code = OP_RMXATTR;
		op.to = pick(rng, xattrs, NR(xattrs));
		break;
	default:
		op.code = OP_SETXATTR;
		op.to = pick(rng, xattrs, NR(xattrs));
		op.len = rng_below(rng, 8) ? rng_below(rng, 200) :
					     rng_below(rng, 5000);
		op.fill = rng_next(rng);
	}
	return op;
}

static struct op random_clone(struct rng *rng)
{
	struct op op = { .code = OP_CLONE, .path = any_path(rng),
			 .to = any_path(rng) };

	op.snap = rng_below(rng, 3) ? NULL : any_snap(rng);
	op.mode = rng_below(rng, 2) ? REPLACE : 0;
	return op;
}

static struct op random_snap(struct rng *rng, const struct model *m)
{
	struct op op = { .code = OP_SNAP, .snap = any_snap(rng) };
	unsigned what = rng_below(rng, 10);

	if (what < 2 || m->nr_snap > 4) {
		op.code = OP_SNAP_DELETE;
	} else if (what < 3) {
		op.code = OP_SNAP_RENAME;
		op.to = any_snap(rng);
	} else if (what < 6) {
		op.path = rng_below(rng, 3) ? any_dir(rng) : "";
		if (rng_below(rng, 3) == 0) {
			op.path = "";
			op.to = "a";
			op.to2 = rng_below(rng, 2) ? "b" : NULL;
		}
	} else {
		op.code = OP_ROLLBACK;
		op.path = rng_below(rng, 3) ? any_dir(rng) : "";
		if (rng_below(rng, 2))
			op.to = pick(rng, (const char *const[]){ "a", "b", "c", "l" },
				     4);
	}
	return op;
}

static unsigned nr_inodes(const struct model *m)
{
	unsigned nr = 0;

	for (size_t i = 0; i < m->live.nr; i++)
		nr += !!m->live.inode[i];
	return nr;
}

struct op workload_random(struct rng *rng, const struct model *m)
{
	static const struct op back = ROLLBACK("r0", ""), commit = COMMIT,
			       settle = SETTLE;
	unsigned what = rng_below(rng, 100);

	/* Clones of trees in trees double: now and then it begins anew. */
	if (nr_inodes(m) > 80 && model_find_snap(m, "r0"))
		return back;
	if (what < 15)
		return commit;
	if (what < 18)
		return settle;
	if (what < 50)
		return random_write(rng);
	if (what < 78)
		return random_name(rng);
	if (what < 86)
		return random_attr(rng);
	if (what < 92 && nr_inodes(m) < 60)
		return random_clone(rng);
	return random_snap(rng, m);
}
