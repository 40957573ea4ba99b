/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of extended attributes. */
#include "util.h"

#include <sys/xattr.h>

#include "cow/csum.h"

/* Names with the same 40 bits of hash where the seed is this. */
#define SEED 1
static const char *const twins[][2] = { { "0178878", "03daac4" },
					{ "01d317a", "0373420" } };

static uint8_t val[65537], got[65537];
static uint64_t ino;

static int set(const char *name, size_t size, uint64_t seed, int flags)
{
	fill_bytes(val, 0, size, seed);
	return msnap_xattr_set(pool, ino, name, val, size, flags);
}

static bool has_in(struct msnap_id id, const char *name, size_t size,
		   uint64_t seed)
{
	if (msnap_xattr_get(pool, id, name, NULL, 0) != (long)size)
		return false;
	memset(got, 0, sizeof(got));
	if (msnap_xattr_get(pool, id, name, got, sizeof(got)) != (long)size)
		return false;
	fill_bytes(val, 0, size, seed);
	return !memcmp(got, val, size) && (size > 65536 || !got[size]);
}

static bool has(const char *name, size_t size, uint64_t seed)
{
	return has_in(msnap_live(ino), name, size, seed);
}

static void start(void)
{
	pool_make(16);
	ino = mk_file(ROOT, "f");
}

START_TEST(every_size)
{
	unsigned size;

	start();
	for (size = 0; size <= 65536; size += size < 3200 ? 13 : 1021) {
		ok(set("user.x", size, size, 0));
		must(has("user.x", size, size));
	}
	for (size = 1020; size < 1030; size++) {
		ok(set("user.x", size, size, 0));
		must(has("user.x", size, size));
		ok(set("user.x", 2 * size, size, 0));
		must(has("user.x", 2 * size, size));
	}
	ok(set("user.x", 65536, 5, 0));
	must(has("user.x", 65536, 5));
	fails(-E2BIG, set("user.x", 65537, 5, 0));
	must(has("user.x", 65536, 5));
	pool_ok();
	pool_reopen(0);
	must(has("user.x", 65536, 5));
	ok(set("user.x", 0, 0, 0)); /* the pieces go */
	pool_settled_ok();
	must(has("user.x", 0, 0));
	pool_gone();
}
END_TEST

START_TEST(flags_and_errors)
{
	char name[300];

	start();
	fails(-ENODATA, set("user.x", 5, 1, XATTR_REPLACE));
	fails(-ENODATA, msnap_xattr_get(pool, msnap_live(ino), "user.x", got, 10));
	fails(-ENODATA, msnap_xattr_remove(pool, ino, "user.x"));
	ok(set("user.x", 5, 1, XATTR_CREATE));
	fails(-EEXIST, set("user.x", 6, 2, XATTR_CREATE));
	must(has("user.x", 5, 1));
	ok(set("user.x", 7, 3, XATTR_REPLACE));
	must(has("user.x", 7, 3));
	fails(-ERANGE, msnap_xattr_get(pool, msnap_live(ino), "user.x", got, 6));
	must(msnap_xattr_get(pool, msnap_live(ino), "user.x", got, 7) == 7);
	ok(msnap_xattr_remove(pool, ino, "user.x"));
	fails(-ENODATA, msnap_xattr_get(pool, msnap_live(ino), "user.x", got, 10));
	fails(-EINVAL, set("", 1, 1, 0));
	memset(name, 'n', sizeof(name));
	name[256] = 0;
	fails(-ERANGE, set(name, 1, 1, 0));
	name[255] = 0;
	ok(set(name, 65536, 9, 0));
	must(has(name, 65536, 9));
	ok(msnap_xattr_remove(pool, ino, name));
	fails(-ENOENT, msnap_xattr_set(pool, 999, "user.x", "x", 1, 0));
	must(msnap_xattr_get(pool, msnap_live(999), "user.x", got, 1) < 0);
	pool_settled_ok();
	pool_gone();
}
END_TEST

/* ---- many ------------------------------------------------------------------------------------ */

#define NR 400
static uint32_t size_of_nr[NR]; /* of the value, plus one; 0: none */

static char *name_of(unsigned i)
{
	static char name[64];

	sprintf(name, "user.attribute number %u", i);
	return name;
}

static void compare_list(void)
{
	static char list[NR * 64];
	unsigned i, nr = 0, n = 0;
	int len = ok(msnap_xattr_list(pool, msnap_live(ino), NULL, 0)), at;

	must(msnap_xattr_list(pool, msnap_live(ino), list, sizeof(list)) == len);
	for (at = 0; at < len; at += strlen(list + at) + 1, n++) {
		must(sscanf(list + at, "user.attribute number %u", &i) == 1);
		must(size_of_nr[i]);
	}
	must(at == len);
	for (i = 0; i < NR; i++)
		nr += !!size_of_nr[i];
	must(n == nr);
	if (len)
		fails(-ERANGE, msnap_xattr_list(pool, msnap_live(ino), list,
						len - 1));
}

static void change(unsigned i)
{
	uint32_t size = rnd(4) ? rnd(200) : rnd(10) ? rnd(5000) : rnd(65537);
	int err;

	if (rnd(4)) {
		ok(set(name_of(i), size, size + i, 0));
		size_of_nr[i] = size + 1;
		return;
	}
	err = msnap_xattr_remove(pool, ino, name_of(i));
	must(err == (size_of_nr[i] ? 0 : -ENODATA));
	size_of_nr[i] = 0;
}

START_TEST(many)
{
	uint64_t nr_free;
	unsigned round, i;

	start();
	nr_free = pool_free_blks();
	for (round = 0; round < 4000; round++) {
		change(rnd(NR));
		if (round % 500)
			continue;
		ok(msnap_commit(pool));
		compare_list();
		pool_ok();
	}
	for (i = 0; i < NR; i++) {
		if (size_of_nr[i])
			must(has(name_of(i), size_of_nr[i] - 1,
				 size_of_nr[i] - 1 + i));
	}
	for (i = 0; i < NR; i++)
		if (size_of_nr[i])
			ok(msnap_xattr_remove(pool, ino, name_of(i)));
	must(msnap_xattr_list(pool, msnap_live(ino), NULL, 0) == 0);
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- twins ------------------------------------------------------------------------------------- */

START_TEST(names_of_one_hash)
{
	unsigned i;

	pool_make(16);
	pool->hash_seed = SEED;
	ino = mk_file(ROOT, "f");
	for (i = 0; i < 2; i++) {
		const char *a = twins[i][0], *b = twins[i][1];

		must(msnap_hash_name(a, 7, SEED) >> 24 ==
		     msnap_hash_name(b, 7, SEED) >> 24);
		ok(set(a, 5000, 1, XATTR_CREATE));
		ok(set(b, 65536, 2, XATTR_CREATE));
		must(has(a, 5000, 1) && has(b, 65536, 2));
		ok(set(a, 65536, 3, XATTR_REPLACE));
		must(has(a, 65536, 3) && has(b, 65536, 2));
		ok(msnap_xattr_remove(pool, ino, a));
		must(has(b, 65536, 2));
		fails(-ENODATA, msnap_xattr_remove(pool, ino, a));
		ok(set(b, 100, 4, 0));
		ok(set(a, 200, 5, 0));
		must(has(a, 200, 5) && has(b, 100, 4));
		must(msnap_xattr_list(pool, msnap_live(ino), NULL, 0) ==
		     16 * ((int)i + 1));
	}
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- where they go -------------------------------------------------------------------------------- */

START_TEST(kept_in_snapshots)
{
	uint64_t snap;

	start();
	ok(set("user.x", 3000, 1, 0));
	snap = snap_dir("s", ROOT);
	ok(set("user.x", 10, 2, 0));
	ok(set("user.y", 10, 3, 0));
	must(has_in(in_snap(snap, ino), "user.x", 3000, 1));
	must(has("user.x", 10, 2));
	fails(-ENODATA, msnap_xattr_get(pool, in_snap(snap, ino), "user.y", got, 9));
	must(msnap_xattr_list(pool, in_snap(snap, ino), NULL, 0) == 7);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(of_every_type_and_gone_with_it)
{
	uint64_t nr_free;

	pool_make(16);
	nr_free = pool_free_blks();
	ino = mk_dir(ROOT, "d");
	ok(set("user.x", 60000, 1, 0));
	must(has("user.x", 60000, 1));
	ino = mk_symlink(ROOT, "l", "to");
	ok(set("trusted.x", 60000, 2, 0));
	must(has("trusted.x", 60000, 2));
	rm(ROOT, "l");
	rm_dir(ROOT, "d");
	must(pool_free_blks() == nr_free);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(counted_as_a_change)
{
	struct msnap_attr a, b;

	start();
	a = attr_of(msnap_live(ino));
	ok(set("user.x", 5, 1, 0));
	b = attr_of(msnap_live(ino));
	must(b.version > a.version);
	must(a.mtime.tv_sec == b.mtime.tv_sec && a.mtime.tv_nsec == b.mtime.tv_nsec);
	ok(msnap_xattr_remove(pool, ino, "user.x"));
	must(attr_of(msnap_live(ino)).version > b.version);
	pool_gone();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		every_size, flags_and_errors, many, names_of_one_hash,
		kept_in_snapshots, of_every_type_and_gone_with_it,
		counted_as_a_change, NULL
	};

	return run_tests("xattr", tests);
}
