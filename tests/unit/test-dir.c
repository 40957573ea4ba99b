/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of directories: many names, names of one hash, listing while it changes. */
#include "util.h"

#include <dirent.h>

#include "cow/csum.h"

/* Names with the same 48 bits of hash where the seed is this. */
#define SEED 1
static const char *const twins[][2] = { { "14506a9", "1d8bd39" },
					{ "03fd4fe", "0847280" } };

/* ---- listing ---------------------------------------------------------------------------- */

#define MAX 120000
static uint8_t seen[MAX];
static uint64_t nr_seen, last_cookie, portion;

static int see(void *arg, const struct msnap_entry *e)
{
	char name[256];

	(void)arg;
	must(e->len < sizeof(name));
	memcpy(name, e->name, e->len);
	name[e->len] = 0;
	must(e->cookie > last_cookie && e->cookie >> 60 == 0);
	last_cookie = e->cookie;
	if (name[0] == 'f')
		seen[strtoul(name + 1, NULL, 10)]++;
	nr_seen++;
	return portion && nr_seen % portion == 0;
}

static void list_start(void)
{
	memset(seen, 0, sizeof(seen));
	nr_seen = last_cookie = 0;
}

/* A portion more; false: there was none. */
static bool list_on(struct msnap_id dir)
{
	uint64_t before = nr_seen;

	ok(msnap_readdir(pool, dir, last_cookie, see, NULL));
	return nr_seen > before;
}

static void list_all(struct msnap_id dir)
{
	list_start();
	while (list_on(dir))
		;
}

static char *name_of(unsigned i)
{
	static char name[32];

	sprintf(name, "f%u", i);
	return name;
}

static void make(uint64_t dir, unsigned from, unsigned to)
{
	for (; from < to; from++)
		mk_file(dir, name_of(from));
}

START_TEST(a_hundred_thousand_names)
{
	const unsigned nr = 100000;
	uint64_t dir, nr_free;
	unsigned i;

	pool_make(128);
	nr_free = pool_free_blks();
	dir = mk_dir(ROOT, "d");
	make(dir, 0, nr);
	must(size_of(dir) == nr);
	portion = 1000;
	list_all(msnap_live(dir));
	must(nr_seen == nr);
	for (i = 0; i < nr; i++)
		must(seen[i] == 1);
	for (i = 0; i < nr; i += 37)
		must(find(msnap_live(dir), name_of(i)));
	must(!find(msnap_live(dir), name_of(nr)));
	pool_ok();
	pool_reopen(0);
	for (i = 0; i < nr; i++)
		rm(dir, name_of(i * 7919ul % nr));
	must(size_of(dir) == 0);
	rm_dir(ROOT, "d");
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

/* What stays is seen once, whatever comes and goes meanwhile. */
START_TEST(listing_while_it_changes)
{
	const unsigned nr = 3000;
	uint64_t dir;
	unsigned i, next = nr, out = 0;

	pool_make(16);
	dir = mk_dir(ROOT, "d");
	make(dir, 0, nr);
	portion = 7;
	list_start();
	while (list_on(msnap_live(dir))) {
		make(dir, next, next + 5);
		next += 5;
		if (out < nr) { /* every third goes */
			rm(dir, name_of(out));
			out += 3;
		}
		if (rnd(20) == 0)
			ok(msnap_commit(pool));
	}
	for (i = 0; i < next; i++) {
		must(seen[i] <= 1);
		if (i < nr && (i % 3 || i >= out))
			must(seen[i] == 1);
	}
	pool_ok();
	pool_gone();
}
END_TEST

static int check_types(void *arg, const struct msnap_entry *e)
{
	static const struct {
		const char *name;
		uint8_t type;
	} want[] = { { "file", DT_REG }, { "dir", DT_DIR }, { "sym", DT_LNK } };
	uint64_t *ino = arg;
	unsigned i;

	for (i = 0; i < 3; i++)
		if (!strncmp(e->name, want[i].name, e->len)) {
			must(e->type == want[i].type && e->ino == ino[i]);
			ino[i] = 0;
		}
	return 0;
}

START_TEST(what_a_listing_says)
{
	uint64_t ino[3], sub;

	pool_make(4);
	list_all(msnap_live(ROOT));
	must(nr_seen == 0);
	ino[0] = mk_file(ROOT, "file");
	ino[1] = sub = mk_dir(ROOT, "dir");
	ino[2] = mk_symlink(ROOT, "sym", "x");
	mk_file(ino[1], "below");
	ok(msnap_readdir(pool, msnap_live(ROOT), 0, check_types, ino));
	must(!ino[0] && !ino[1] && !ino[2]);
	list_all(msnap_live(sub));
	must(nr_seen == 1);
	fails(-ENOENT, msnap_readdir(pool, in_snap(7, ROOT), 0, see, NULL));
	fails(-EINVAL, msnap_readdir(pool, msnap_live(ROOT), 1ull << 58, see, NULL));
	last_cookie = (1ull << 56) - 1;
	must(!list_on(msnap_live(ROOT)));
	pool_gone();
}
END_TEST

/* Neighbouring inodes' records do not get in. */
START_TEST(neighbours)
{
	uint64_t d[5];
	unsigned i;

	pool_make(8);
	for (i = 0; i < 5; i++) {
		char name[8];

		sprintf(name, "d%u", i);
		d[i] = mk_dir(ROOT, name);
		ok(msnap_xattr_set(pool, d[i], "user.x", "abc", 3, 0));
	}
	for (i = 0; i < 5; i++)
		make(d[i], i * 100, i * 100 + 100);
	for (i = 0; i < 5; i++) {
		list_all(msnap_live(d[i]));
		must(nr_seen == 100 && seen[i * 100] && seen[i * 100 + 99]);
	}
	pool_gone();
}
END_TEST

/* ---- names of one hash ------------------------------------------------------------------- */

static uint64_t hash_of(const char *name)
{
	return msnap_hash_name(name, strlen(name), SEED) >> 16;
}

static void start_twins(void)
{
	pool_make(8);
	pool->hash_seed = SEED;
	must(hash_of(twins[0][0]) == hash_of(twins[0][1]));
	must(hash_of(twins[1][0]) == hash_of(twins[1][1]));
}

START_TEST(twins_are_two)
{
	uint64_t one, two;
	unsigned i;

	start_twins();
	for (i = 0; i < 2; i++) {
		const char *a = twins[i][0], *b = twins[i][1];

		one = mk_file(ROOT, a);
		must(!find(msnap_live(ROOT), b));
		two = mk_file(ROOT, b);
		must(one != two && find(msnap_live(ROOT), a) == one);
		must(find(msnap_live(ROOT), b) == two);
		/* The second stays where it is without the first. */
		rm(ROOT, a);
		must(!find(msnap_live(ROOT), a));
		must(find(msnap_live(ROOT), b) == two);
		one = mk_file(ROOT, a);
		must(find(msnap_live(ROOT), a) == one);
		must(find(msnap_live(ROOT), b) == two);
		list_all(msnap_live(ROOT));
		must(nr_seen == 2 + 2 * i);
		portion = 1;
		list_all(msnap_live(ROOT));
		must(nr_seen == 2 + 2 * i);
		portion = 0;
	}
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(twins_renamed)
{
	const char *a = twins[0][0], *b = twins[0][1];
	struct msnap_attr gone;
	uint64_t one, two, x;

	start_twins();
	one = mk_file(ROOT, a);
	mv(ROOT, a, ROOT, b);
	must(find(msnap_live(ROOT), b) == one && !find(msnap_live(ROOT), a));
	two = mk_file(ROOT, a);
	x = mk_file(ROOT, "x");
	ok(msnap_rename(pool, ROOT, a, 7, ROOT, b, 7, MSNAP_RENAME_EXCHANGE, &gone));
	must(find(msnap_live(ROOT), a) == one && find(msnap_live(ROOT), b) == two);
	ok(msnap_rename(pool, ROOT, "x", 1, ROOT, a, 7, MSNAP_RENAME_EXCHANGE,
			&gone));
	must(find(msnap_live(ROOT), a) == x && find(msnap_live(ROOT), "x") == one);
	mv(ROOT, b, ROOT, a); /* over its twin */
	must(find(msnap_live(ROOT), a) == two && !find(msnap_live(ROOT), b));
	must(size_of(ROOT) == 2);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(twins_in_snapshots_and_clones)
{
	const char *a = twins[0][0], *b = twins[0][1];
	struct msnap_attr attr, gone;
	uint64_t dir, one, two, snap;

	start_twins();
	dir = mk_dir(ROOT, "d");
	one = mk_file(dir, a);
	two = mk_file(dir, b);
	put_bytes(two, 0, 100, 2);
	rm(dir, a); /* only the second is left */
	snap = snap_file("s", dir, b);
	must(find(in_snap(snap, dir), b) == two);
	ok(msnap_snap_delete(pool, snap));
	snap = snap_dir("s", dir);
	ok(msnap_clone(pool, in_snap(snap, dir), ROOT, "c", 1,
		       (struct msnap_owner){ -1, -1 }, 0, &attr, &gone));
	must(find(msnap_live(attr.ino), b) && !find(msnap_live(attr.ino), a));
	one = mk_file(dir, a);
	ok(msnap_rename(pool, dir, a, 7, dir, b, 7, MSNAP_RENAME_EXCHANGE, &gone));
	ok(msnap_rollback(pool, snap, dir, NULL, 0, no_cache, NULL));
	must(find(msnap_live(dir), b) == two && !find(msnap_live(dir), a));
	must(has_bytes(msnap_live(two), 0, 100, 2));
	ok(msnap_evict(pool, one));
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(lookup_refused)
{
	struct msnap_attr attr;
	uint64_t file;
	char name[256];

	pool_make(4);
	file = mk_file(ROOT, "f");
	fails(-ENOENT, msnap_lookup(pool, msnap_live(ROOT), "g", 1, &attr));
	fails(-EINVAL, msnap_lookup(pool, msnap_live(ROOT), "", 0, &attr));
	fails(-EINVAL, msnap_lookup(pool, msnap_live(ROOT), ".", 1, &attr));
	must(msnap_lookup(pool, msnap_live(file), "f", 1, &attr) < 0);
	must(msnap_lookup(pool, msnap_live(999), "f", 1, &attr) < 0);
	memset(name, 'x', sizeof(name));
	fails(-ENAMETOOLONG, msnap_lookup(pool, msnap_live(ROOT), name, 256, &attr));
	fails(-ENOENT, msnap_lookup(pool, msnap_live(ROOT), name, 255, &attr));
	fails(-ENOENT, msnap_lookup(pool, msnap_live(ROOT), "ff", 2, &attr));
	ok(msnap_lookup(pool, msnap_live(ROOT), "ff", 1, &attr));
	must(attr.ino == file);
	pool_gone();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_hundred_thousand_names, listing_while_it_changes,
		what_a_listing_says, neighbours, twins_are_two, twins_renamed,
		twins_in_snapshots_and_clones, lookup_refused, NULL
	};

	return run_tests("dir", tests);
}
