/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of rollback: of a file, a directory, everything; by chance, with what a
 * cache would have had to be told; and case by case.
 */
#include "util.h"

#include <dirent.h>
#include <xxhash.h>

#include "cow/idmap.h"
#include "cow/inode.h"

/* ---- what was told ---------------------------------------------------------------------- */

struct name {
	uint64_t dir;
	uint64_t ino;
	char name[64];
	uint8_t type;
};

static struct name told[8000];
static unsigned nr_told;
static struct msnap_idmap told_ino;

static void on_changed(void *arg, uint64_t ino, const char *name, size_t len)
{
	must(arg == &told_ino);
	must(!name == !len);
	if (!name) {
		++*msnap_idmap_at(&told_ino, ino);
		return;
	}
	must(nr_told < 8000 && len < 64);
	told[nr_told].dir = ino;
	memcpy(told[nr_told].name, name, len);
	told[nr_told++].name[len] = 0;
}

static bool was_told(uint64_t dir, const char *name)
{
	unsigned i;

	for (i = 0; i < nr_told; i++)
		if (told[i].dir == dir && !strcmp(told[i].name, name))
			return true;
	return false;
}

static int roll(uint64_t snap, uint64_t dir, const char *name)
{
	msnap_idmap_free(&told_ino);
	nr_told = 0;
	return msnap_rollback(pool, snap, dir, name, name ? strlen(name) : 0,
			      on_changed, &told_ino);
}

/* Nobody has anything open. */
static void evict_all(void)
{
	uint64_t ino;

	for (ino = 1; ino < pool->next_ino; ino++)
		ok(msnap_evict(pool, ino));
}

/* ---- the world, as a cache has it ----------------------------------------------------------- */

struct world {
	struct name *name;
	unsigned nr, cap;
	struct msnap_idmap inode; /* inode -> digest of all it has */
};

static uint64_t digest_bytes(uint64_t sum, const void *data, size_t len)
{
	return XXH3_64bits_withSeed(data, len, sum);
}

static uint64_t digest_inode(uint64_t ino)
{
	static uint8_t buf[1 << 17];
	struct msnap_attr a = attr_of(msnap_live(ino));
	uint64_t sum;
	int len, at;

	a.version = 0;
	sum = digest_bytes(0, &a, sizeof(a));
	if (S_ISREG(a.mode)) {
		must(a.size <= sizeof(buf));
		len = ok(msnap_pread(pool, msnap_live(ino), buf, a.size, 0));
		sum = digest_bytes(sum, buf, len);
	} else if (S_ISLNK(a.mode)) {
		len = ok(msnap_readlink(pool, msnap_live(ino), (char *)buf, 4096));
		sum = digest_bytes(sum, buf, len);
	}
	len = ok(msnap_xattr_list(pool, msnap_live(ino), (char *)buf, 4096));
	sum = digest_bytes(sum, buf, len);
	for (at = 0; at < len; at += strlen((char *)buf + at) + 1) {
		int n = ok(msnap_xattr_get(pool, msnap_live(ino), (char *)buf + at,
					   buf + 8192, 65536));

		sum = digest_bytes(sum, buf + 8192, n);
	}
	return sum | 1;
}

static void look_at(struct world *w, uint64_t ino)
{
	struct msnap_attr a;
	int err = msnap_getattr(pool, msnap_live(ino), &a);

	if (!err)
		*msnap_idmap_at(&w->inode, ino) = digest_inode(ino);
	else
		must(err == -ENOENT);
}

static void add_name(struct world *w, uint64_t dir, const struct entry *e)
{
	if (w->nr == w->cap) {
		w->cap = w->cap ? 2 * w->cap : 64;
		w->name = realloc(w->name, w->cap * sizeof(*w->name));
	}
	w->name[w->nr] = (struct name){ .dir = dir, .ino = e->ino,
					.type = e->type };
	strcpy(w->name[w->nr++].name, e->name);
}

static void look_below(struct world *w, uint64_t dir)
{
	unsigned nr, i;
	struct entry *e = entries_of(msnap_live(dir), &nr);

	for (i = 0; i < nr; i++) {
		add_name(w, dir, &e[i]);
		look_at(w, e[i].ino);
		if (e[i].type == DT_DIR)
			look_below(w, e[i].ino);
	}
	free(e);
}

/* All names, and all inodes, orphans too. */
static struct world look(void)
{
	struct world w = { 0 };
	uint64_t ino;

	for (ino = 1; ino < pool->next_ino; ino++)
		look_at(&w, ino);
	look_below(&w, ROOT);
	return w;
}

static void forget(struct world *w)
{
	free(w->name);
	msnap_idmap_free(&w->inode);
}

static const struct name *name_in(const struct world *w, uint64_t dir,
				  const char *name)
{
	unsigned i;

	for (i = 0; i < w->nr; i++)
		if (w->name[i].dir == dir && !strcmp(w->name[i].name, name))
			return &w->name[i];
	return NULL;
}

static void check_names(const struct world *a, const struct world *b)
{
	unsigned i;

	for (i = 0; i < a->nr; i++) {
		const struct name *n = &a->name[i];
		const struct name *m = name_in(b, n->dir, n->name);

		if (!m || m->ino != n->ino)
			must(was_told(n->dir, n->name));
	}
}

/* Whatever is not what it was before, was told. */
static void check_told(const struct world *before, const struct world *after)
{
	size_t i;

	check_names(before, after);
	check_names(after, before);
	for (i = 0; i < before->inode.cap; i++) {
		uint64_t id = before->inode.entry[i].id, *now;

		if (!id)
			continue;
		now = msnap_idmap_find(&after->inode, id);
		if (!now || *now != before->inode.entry[i].val)
			must(msnap_idmap_find(&told_ino, id));
	}
}

/* ---- changing the world ------------------------------------------------------------------------ */

static const struct name *any_name(const struct world *w)
{
	return w->nr ? &w->name[rnd(w->nr)] : NULL;
}

static uint64_t any_dir(const struct world *w)
{
	unsigned i;

	for (i = 0; i < 4; i++) {
		const struct name *n = any_name(w);

		if (n && n->type == DT_DIR)
			return n->ino;
	}
	return ROOT;
}

static const char *new_name(void)
{
	static char name[2];

	name[0] = 'a' + rnd(10);
	return name;
}

static void change_file(const struct name *n)
{
	char name[8];

	if (n->type != DT_REG)
		return;
	sprintf(name, "user.%c", (char)('a' + rnd(3)));
	switch (rnd(5)) {
	case 0:
		set_size(n->ino, rnd(20000));
		break;
	case 1:
		ok(msnap_xattr_set(pool, n->ino, name, told, rnd(3000), 0));
		break;
	case 2:
		msnap_xattr_remove(pool, n->ino, name);
		break;
	default:
		put_bytes(n->ino, rnd(50000), 1 + rnd(9000), rnd(1000));
	}
}

static void make_something(uint64_t dir)
{
	const char *name = new_name();

	if (find(msnap_live(dir), name))
		return;
	switch (rnd(5)) {
	case 0:
		mk_symlink(dir, name, "somewhere");
		break;
	case 1:
		mk_dir(dir, name);
		break;
	default:
		put_bytes(mk_file(dir, name), 0, 1 + rnd(10000), rnd(1000));
	}
}

/* What cannot be done is not done. */
static void any_change(void)
{
	struct msnap_attr attr, gone = { 0 };
	struct world w = { 0 };
	const struct name *n;
	const char *name = new_name();

	look_below(&w, ROOT);
	n = any_name(&w);
	switch (n ? rnd(12) : 0) {
	case 0:
	case 1:
	case 2:
		make_something(any_dir(&w));
		break;
	case 3:
		if (!msnap_unlink(pool, n->dir, n->name, strlen(n->name),
				  n->type == DT_DIR, &gone) &&
		    !gone.nlink && rnd(2))
			ok(msnap_evict(pool, gone.ino)); /* else it is open */
		break;
	case 4:
	case 5:
		if (!msnap_rename(pool, n->dir, n->name, strlen(n->name),
				  any_dir(&w), name, 1,
				  rnd(3) ? 0 : MSNAP_RENAME_EXCHANGE, &gone) &&
		    gone.ino && !gone.nlink && rnd(2))
			ok(msnap_evict(pool, gone.ino));
		break;
	case 6:
		msnap_link(pool, n->ino, any_dir(&w), name, 1, &attr);
		break;
	case 7:
		if (rnd(10) == 0)
			ok(msnap_commit(pool));
		break;
	default:
		change_file(n);
	}
	forget(&w);
}

static void change(unsigned nr)
{
	while (nr--)
		any_change();
}

/* ---- by chance ------------------------------------------------------------------------------------ */

/* Is the inode live, with a name, but none below @dir? */
static bool outside(uint64_t ino, uint64_t dir)
{
	struct world w = { 0 };
	struct msnap_attr a;
	bool inside = false;
	unsigned i;

	if (msnap_getattr(pool, msnap_live(ino), &a) || !a.nlink)
		return false;
	look_below(&w, dir);
	for (i = 0; i < w.nr; i++)
		inside |= w.name[i].ino == ino;
	forget(&w);
	return !inside;
}

struct number {
	uint64_t from;
	bool keeps;
};

/* Which inodes of the snapshot will keep their numbers. */
static unsigned expect_numbers(uint64_t snap, uint64_t top, uint64_t dir,
			       struct number *num, unsigned at)
{
	unsigned nr, i;
	struct entry *e = entries_of(in_snap(snap, dir), &nr);

	for (i = 0; i < nr; i++) {
		must(at < 2000);
		num[at++] = (struct number){ e[i].ino, !outside(e[i].ino, top) };
		if (e[i].type == DT_DIR)
			at = expect_numbers(snap, top, e[i].ino, num, at);
	}
	free(e);
	return at;
}

static unsigned check_numbers(uint64_t snap, uint64_t then, uint64_t now,
			      const struct number *num, unsigned at)
{
	unsigned nr, nr_now, i;
	struct entry *e = entries_of(in_snap(snap, then), &nr);
	struct entry *f = entries_of(msnap_live(now), &nr_now);

	must(nr == nr_now);
	for (i = 0; i < nr; i++) {
		must(num[at].from == e[i].ino);
		must(num[at++].keeps == (f[i].ino == e[i].ino));
		if (e[i].type == DT_DIR)
			at = check_numbers(snap, e[i].ino, f[i].ino, num, at);
	}
	free(e);
	free(f);
	return at;
}

static void roll_and_check(uint64_t snap, uint64_t dir)
{
	static struct number num[2000];
	struct world before = look(), after;
	unsigned nr = expect_numbers(snap, dir, dir, num, 0);

	ok(roll(snap, dir, NULL));
	after = look();
	same_tree(in_snap(snap, dir), msnap_live(dir), dir == ROOT);
	if (dir != ROOT)
		must(check_numbers(snap, dir, dir, num, 0) == nr);
	check_told(&before, &after);
	pool_ok();
	forget(&before);
	forget(&after);
}

static bool has_name(uint64_t dir)
{
	struct msnap_attr a;

	return !msnap_getattr(pool, msnap_live(dir), &a) && a.nlink;
}

/* Durable, and once more there is nothing to change. */
static void check_after(uint64_t snap, uint64_t dir)
{
	if (rnd(3)) {
		roll_and_check(snap, dir);
		return;
	}
	pool_crash(0);
	same_tree(in_snap(snap, dir), msnap_live(dir), dir == ROOT);
}

/* Of the root, or of a directory that others are moved into and out of. */
static void by_chance(bool root)
{
	uint64_t dir = ROOT, snap;
	unsigned round;

	pool_make(32);
	for (round = 0; round < 25; round++) {
		char name[8];

		sprintf(name, "top%u", round);
		change(40);
		if (!root)
			dir = mk_dir(ROOT, name);
		change(60);
		if (!has_name(dir))
			continue;
		snap = snap_dir("s", dir);
		change(rnd(3) ? 40 : 3);
		if (has_name(dir)) {
			roll_and_check(snap, dir);
			check_after(snap, dir);
		}
		change(10);
		evict_all();
		pool_ok();
		ok(msnap_snap_delete(pool, snap));
		pool_settled_ok();
	}
	pool_gone();
}

START_TEST(everything_by_chance)
{
	rnd_seed(_i);
	by_chance(true);
}
END_TEST

START_TEST(directories_by_chance)
{
	rnd_seed(_i);
	by_chance(false);
}
END_TEST

/* ---- one file -------------------------------------------------------------------------------------- */

static uint64_t dir, sub, file;

/* d/ has f with an xattr and a link g, and s/ with x. */
static void make_tree(void)
{
	pool_make(16);
	dir = mk_dir(ROOT, "d");
	file = mk_file(dir, "f");
	put_bytes(file, 0, 50000, 1);
	ok(msnap_xattr_set(pool, file, "user.x", "abc", 3, 0));
	mk_link(file, dir, "g");
	sub = mk_dir(dir, "s");
	put_bytes(mk_file(sub, "x"), 0, 100, 2);
}

START_TEST(a_file_that_changed)
{
	struct msnap_attr a = { .mode = 0400, .uid = 5 }, out;
	uint64_t snap;

	make_tree();
	snap = snap_file("s", dir, "f");
	put_bytes(file, 1000, 100000, 9);
	ok(msnap_setattr(pool, file, &a, MSNAP_SET_MODE | MSNAP_SET_UID, &out));
	ok(msnap_xattr_set(pool, file, "user.x", "other", 5, 0));
	ok(msnap_xattr_set(pool, file, "user.y", "new", 3, 0));
	ok(roll(snap, dir, "f"));
	must(msnap_idmap_find(&told_ino, file));
	must(find(msnap_live(dir), "f") == file);
	must(has_bytes(msnap_live(file), 0, 50000, 1));
	must(size_of(file) == 50000);
	out = attr_of(msnap_live(file));
	must(out.mode == (S_IFREG | 0644) && out.uid == 0 && out.nlink == 2);
	must(msnap_xattr_list(pool, msnap_live(file), NULL, 0) == 7);
	must(has_bytes(msnap_live(find(msnap_live(dir), "g")), 0, 50000, 1));
	pool_ok();
	pool_crash(0);
	must(has_bytes(msnap_live(file), 0, 50000, 1)); /* durable */
	/* The snapshot is what it was, again and again. */
	put_bytes(file, 0, 100, 7);
	must(has_bytes(in_snap(snap, file), 0, 50000, 1));
	ok(roll(snap, dir, "f"));
	must(has_bytes(msnap_live(file), 0, 50000, 1));
	ok(msnap_snap_delete(pool, snap));
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(a_file_that_was_deleted)
{
	uint64_t snap;

	make_tree();
	snap = snap_dir("s", ROOT);
	rm(dir, "g");
	rm(dir, "f");
	ok(roll(snap, dir, "f"));
	must(was_told(dir, "f"));
	must(find(msnap_live(dir), "f") == file); /* with the number it had */
	must(attr_of(msnap_live(file)).nlink == 1);
	must(has_bytes(msnap_live(file), 0, 50000, 1));
	must(msnap_xattr_list(pool, msnap_live(file), NULL, 0) == 7);
	pool_ok();
	/* Deleted, but open: it gets its name back. */
	unlink_only(dir, "f");
	put_bytes(file, 0, 100, 5);
	ok(roll(snap, dir, "f"));
	must(find(msnap_live(dir), "f") == file);
	must(has_bytes(msnap_live(file), 0, 50000, 1));
	ok(msnap_evict(pool, file));
	must(find(msnap_live(dir), "f") == file);
	pool_settled_ok();
	pool_gone();
}
END_TEST

/* An editor writes a new file and renames it over the old. */
START_TEST(a_file_that_was_replaced)
{
	uint64_t snap, ino;

	make_tree();
	rm(dir, "g");
	snap = snap_file("s", dir, "f");
	ino = mk_file(dir, "tmp");
	put_bytes(ino, 0, 300, 5);
	mv(dir, "tmp", dir, "f");
	ok(roll(snap, dir, "f"));
	must(has_bytes(msnap_live(find(msnap_live(dir), "f")), 0, 50000, 1));
	must(!find(msnap_live(dir), "tmp"));
	must(attr_of(msnap_live(dir)).size == 2);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(a_file_that_was_renamed)
{
	uint64_t snap, ino;

	make_tree();
	rm(dir, "g");
	snap = snap_file("s", dir, "f");
	mv(dir, "f", ROOT, "elsewhere");
	put_bytes(file, 0, 100, 5);
	ok(roll(snap, dir, "f"));
	ino = find(msnap_live(dir), "f");
	must(ino && ino != file);
	must(has_bytes(msnap_live(ino), 0, 50000, 1));
	must(has_bytes(msnap_live(file), 0, 100, 5));
	must(find(msnap_live(ROOT), "elsewhere") == file);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(a_file_of_another_type)
{
	uint64_t snap, ino;
	char to[20];

	make_tree();
	mk_symlink(dir, "l", "target");
	snap = snap_dir("s", dir);
	rm(dir, "f");
	ino = mk_symlink(dir, "f", "elsewhere");
	rm(dir, "l");
	put_bytes(mk_file(dir, "l"), 0, 100, 4);
	ok(roll(snap, dir, "f"));
	must(msnap_idmap_find(&told_ino, ino) && was_told(dir, "f"));
	must(has_bytes(msnap_live(find(msnap_live(dir), "f")), 0, 50000, 1));
	ok(roll(snap, dir, "l"));
	must(msnap_readlink(pool, msnap_live(find(msnap_live(dir), "l")), to,
			    20) == 6);
	must(!memcmp(to, "target", 6));
	evict_all();
	pool_settled_ok();
	/* A directory is not replaced by a file. */
	rm(dir, "f");
	mk_dir(dir, "f");
	fails(-EISDIR, roll(snap, dir, "f"));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(refused)
{
	uint64_t snap, part, view;

	make_tree();
	part = snap_file("p", dir, "f");
	snap = snap_dir("s", dir);
	mk_file(dir, "later");
	view = pool_view();
	fails(-ENOENT, roll(99, ROOT, NULL));
	fails(-ENOENT, roll(0, ROOT, NULL));
	fails(-ENOENT, roll(snap, ROOT, NULL));
	fails(-ENOENT, roll(snap, dir, "later"));
	fails(-EISDIR, roll(snap, dir, "s"));
	fails(-EINVAL, roll(snap, dir, ""));
	fails(-ENOENT, roll(part, sub, NULL));
	fails(-ENOENT, roll(part, dir, "g"));
	fails(-ENOTDIR, roll(snap, file, NULL));
	must(nr_told == 0 && told_ino.nr == 0);
	must(pool_view() == view);
	pool_ok();
	pool_gone();
}
END_TEST

/* What has the name now is another file, under other names, too: it stays that. */
START_TEST(two_files_that_became_one)
{
	struct msnap_snap_item items[2] = { { .name = "a", .len = 1 },
					    { .name = "b", .len = 1 } };
	uint64_t snap, a, b;

	make_tree();
	a = mk_file(dir, "a");
	b = mk_file(dir, "b");
	put_bytes(a, 0, 5000, 11);
	put_bytes(b, 0, 6000, 12);
	items[0].dir = items[1].dir = dir;
	ok(msnap_snap_create(pool, "s", "", 0, items, 2, &snap));
	rm(dir, "b");
	mk_link(a, dir, "b");
	mk_link(a, dir, "c");
	ok(roll(snap, dir, NULL));
	must(find(msnap_live(dir), "a") == a && find(msnap_live(dir), "c") == a);
	must(find(msnap_live(dir), "b") == b);
	must(attr_of(msnap_live(a)).nlink == 2 && attr_of(msnap_live(b)).nlink == 1);
	must(has_bytes(msnap_live(a), 0, 5000, 11));
	must(has_bytes(msnap_live(b), 0, 6000, 12) && size_of(b) == 6000);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- a directory ------------------------------------------------------------------------------------- */

/* Of chosen entries: these, and nothing else is lost. */
START_TEST(chosen_entries)
{
	struct msnap_snap_item items[2] = { { .name = "f", .len = 1 },
					    { .name = "g", .len = 1 } };
	uint64_t snap, other;

	make_tree();
	items[0].dir = items[1].dir = dir;
	ok(msnap_snap_create(pool, "s", "", 0, items, 2, &snap));
	rm(dir, "f");
	put_bytes(file, 0, 100, 5);
	other = mk_file(dir, "other");
	ok(roll(snap, dir, NULL));
	must(has_bytes(msnap_live(find(msnap_live(dir), "f")), 0, 50000, 1));
	must(has_bytes(msnap_live(find(msnap_live(dir), "g")), 0, 50000, 1));
	must(find(msnap_live(dir), "other") == other);
	must(find(msnap_live(dir), "s") == sub);
	pool_ok();
	pool_gone();
}
END_TEST

static int only_uid(void *arg, const struct msnap_attr *attr)
{
	return attr->uid == *(uint32_t *)arg ? 0 : -EPERM;
}

static void own(uint64_t ino, uint32_t uid)
{
	struct msnap_attr attr = { .uid = uid }, out;

	ok(msnap_setattr(pool, ino, &attr, MSNAP_SET_UID, &out));
}

static int roll_as(uint32_t uid, uint64_t snap, uint64_t in, const char *name)
{
	return msnap_rollback_if(pool, snap, in, name, name ? strlen(name) : 0, only_uid,
				 &uid, no_cache, NULL);
}

/* One inode that is not the caller's, now or then, and nothing happens: by name, in a
 * directory, in everything. */
START_TEST(only_what_one_may)
{
	uint64_t all, part, d, f, g, view;

	pool_make(16);
	d = mk_dir(ROOT, "d");
	f = mk_file(d, "f");
	g = mk_file(d, "g");
	own(ROOT, 5);
	own(d, 5);
	own(f, 5);
	own(g, 5);
	all = snap_dir("all", ROOT);
	part = snap_dir("part", d);
	put_bytes(f, 0, 5000, 2);
	put_bytes(g, 0, 5000, 2);
	own(f, 0);
	view = pool_view();
	fails(-EPERM, roll_as(5, part, d, "f"));
	fails(-EPERM, roll_as(5, part, d, NULL));
	fails(-EPERM, roll_as(5, all, ROOT, NULL));
	fails(-EPERM, roll_as(0, part, d, "f"));
	must(pool_view() == view);
	pool_ok();
	ok(roll_as(5, part, d, "g"));
	rm(d, "f");
	f = mk_file(d, "new");
	fails(-EPERM, roll_as(5, part, d, NULL));
	own(f, 5);
	ok(roll_as(5, part, d, NULL));
	must(find(msnap_live(d), "f") && !find(msnap_live(d), "new"));
	ok(roll_as(5, all, ROOT, NULL));
	pool_ok();
	pool_gone();
}
END_TEST

/* What a repair leaves of such a snapshot, when the inode of its directory was lost:
 * the directory does not look chosen any more, and others have no name. */
static void repair_frame(uint64_t snap)
{
	struct msnap_key key = { (uint64_t)MSNAP_CAT_SNAP << 56 | snap, 0 };
	uint8_t rec[MSNAP_VAL_MAX];
	struct msnap_snap *sn = (void *)rec;
	struct msnap_tree ns = { MSNAP_TREE_NS, 0, { 0, 0 } };
	struct msnap_inode in;
	const void *val;
	unsigned len;

	ok(msnap_op_begin(pool, MSNAP_OP_BLOCKS));
	ok(msnap_tree_get(pool, &pool->catalog, key, &val, &len));
	memcpy(rec, val, len);
	ns.root = msnap_ptr_load(sn->ns);
	ok(msnap_inode_get(pool, &ns, ROOT, &in));
	in.flags = put32(0);
	ok(msnap_inode_put(pool, &ns, ROOT, &in, MSNAP_PUT_OLD));
	in.nlink = put32(2);
	in.size = put64(0);
	ok(msnap_inode_put(pool, &ns, pool->next_ino++, &in, MSNAP_PUT_NEW));
	sn->ns = msnap_ptr_store(ns.root);
	sn->nr_inodes = put64(get64(sn->nr_inodes) + 1);
	ok(msnap_tree_put(pool, &pool->catalog, key, rec, len, MSNAP_PUT_OLD));
	ok(msnap_op_end(pool, 0));
}

START_TEST(chosen_entries_after_a_repair)
{
	uint64_t f, other, snap;

	pool_make(16);
	f = mk_file(ROOT, "f");
	put_bytes(f, 0, 5000, 1);
	snap = snap_file("s", ROOT, "f");
	other = mk_file(ROOT, "other");
	put_bytes(f, 0, 5000, 2);
	repair_frame(snap);
	pool_ok();
	ok(msnap_rollback(pool, snap, ROOT, NULL, 0, no_cache, NULL));
	must(has_bytes(msnap_live(f), 0, 5000, 1));
	must(find(msnap_live(ROOT), "other") == other);
	pool_ok();
	ok(msnap_pool_close(pool));
}
END_TEST

START_TEST(a_directory_full_of_new_things)
{
	uint64_t snap, new;
	unsigned i;

	make_tree();
	snap = snap_dir("s", dir);
	new = mk_dir(dir, "new");
	for (i = 0; i < 500; i++) {
		char name[8];

		sprintf(name, "%u", i);
		mk_file(i % 2 ? new : mk_dir(new, name), i % 2 ? name : "x");
	}
	ok(msnap_xattr_set(pool, new, "user.x", "1", 1, 0));
	ok(roll(snap, dir, NULL));
	same_tree(in_snap(snap, dir), msnap_live(dir), true);
	pool_ok();
	must(attr_of(msnap_live(new)).nlink == 0); /* still open */
	evict_all();
	fails(-ENOENT, msnap_getattr(pool, msnap_live(new),
				     &(struct msnap_attr){ 0 }));
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(a_directory_moved_out)
{
	uint64_t snap, x, now;

	make_tree();
	snap = snap_dir("s", dir);
	x = find(msnap_live(sub), "x");
	mv(dir, "s", ROOT, "away");
	put_bytes(x, 0, 100, 9);
	ok(roll(snap, dir, NULL));
	now = find(msnap_live(dir), "s");
	must(now && now != sub);
	must(has_bytes(msnap_live(find(msnap_live(now), "x")), 0, 100, 2));
	must(has_bytes(msnap_live(x), 0, 100, 9));
	must(find(msnap_live(ROOT), "away") == sub);
	same_tree(in_snap(snap, dir), msnap_live(dir), true);
	pool_ok();
	pool_gone();
}
END_TEST

/* It was elsewhere when everything was taken: no name leads to it afterwards. */
START_TEST(a_directory_moved_in)
{
	uint64_t snap, other;

	make_tree();
	other = mk_dir(ROOT, "other");
	mk_file(other, "y");
	snap = snap_dir("all", ROOT);
	mv(ROOT, "other", dir, "in");
	ok(roll(snap, dir, NULL));
	must(was_told(dir, "in") && was_told(other, "y"));
	must(attr_of(msnap_live(other)).nlink == 0);
	same_tree(in_snap(snap, dir), msnap_live(dir), true);
	evict_all();
	pool_settled_ok();
	pool_gone();
}
END_TEST

START_TEST(a_directory_turned_inside_out)
{
	uint64_t snap, t;

	make_tree();
	t = mk_dir(sub, "t");
	snap = snap_dir("s", dir);
	mv(sub, "t", ROOT, "t");
	mv(dir, "s", t, "s");
	mv(ROOT, "d", find(msnap_live(t), "s"), "d");
	/* t/s/d: what was below is now above. */
	ok(roll(snap, dir, NULL));
	same_tree(in_snap(snap, dir), msnap_live(dir), true);
	must(find(msnap_live(ROOT), "t") == t);
	must(find(msnap_live(sub), "d") == dir);
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(links_across_the_edge)
{
	uint64_t snap, ino;

	make_tree();
	mk_link(file, ROOT, "out");
	snap = snap_dir("s", dir);
	rm(dir, "f");
	mk_link(file, sub, "in");
	put_bytes(file, 0, 100, 5);
	ok(roll(snap, dir, NULL));
	must(find(msnap_live(dir), "f") == file);
	must(find(msnap_live(ROOT), "out") == file);
	must(attr_of(msnap_live(file)).nlink == 3);
	must(has_bytes(msnap_live(file), 0, 50000, 1));
	pool_ok();
	/* Only the link outside is left. */
	rm(dir, "f");
	rm(dir, "g");
	put_bytes(file, 0, 100, 6);
	ok(roll(snap, dir, NULL));
	ino = find(msnap_live(dir), "f");
	must(ino != file && find(msnap_live(dir), "g") == ino);
	must(attr_of(msnap_live(ino)).nlink == 2);
	must(attr_of(msnap_live(file)).nlink == 1);
	must(has_bytes(msnap_live(file), 0, 100, 6));
	pool_ok();
	pool_gone();
}
END_TEST

START_TEST(a_directory_of_a_snapshot_of_everything)
{
	uint64_t snap, top;

	make_tree();
	top = mk_file(ROOT, "top");
	snap = snap_dir("all", ROOT);
	rm(sub, "x");
	put_bytes(file, 0, 100, 8);
	put_bytes(top, 0, 100, 8);
	ok(roll(snap, sub, NULL));
	must(find(msnap_live(sub), "x"));
	must(has_bytes(msnap_live(file), 0, 100, 8));
	ok(roll(snap, dir, NULL));
	must(has_bytes(msnap_live(file), 0, 50000, 1));
	must(has_bytes(msnap_live(top), 0, 100, 8));
	same_tree(in_snap(snap, dir), msnap_live(dir), true);
	pool_ok();
	pool_gone();
}
END_TEST

/* A snapshot of everything has what was open without a name, but does not hold it. */
START_TEST(a_directory_without_a_name_then)
{
	struct msnap_snap_info info;
	uint64_t before, without, empty;

	make_tree();
	empty = mk_dir(dir, "empty");
	before = snap_dir("before", dir);
	ok(msnap_unlink(pool, dir, "empty", 5, true, &(struct msnap_attr){ 0 }));
	without = snap_dir("without", ROOT);
	ok(roll(before, dir, NULL));
	must(find(msnap_live(dir), "empty") == empty);
	must(msnap_snap_holds(pool, before, empty) == 1);
	must(msnap_snap_holds(pool, without, empty) == 0);
	fails(-ENOENT, msnap_snap_find(pool, empty, "without", &info));
	fails(-ENOENT, roll(without, empty, NULL));
	must(attr_of(msnap_live(empty)).nlink == 2);
	pool_ok();
	pool_gone();
}
END_TEST

/* ---- everything ------------------------------------------------------------------------------------------ */

START_TEST(everything_with_open_files)
{
	uint64_t snap, old, new, later, tmp, nr_free;

	make_tree();
	old = mk_file(ROOT, "old");
	put_bytes(old, 0, 5000, 3);
	unlink_only(ROOT, "old"); /* open, without a name, then as now */
	snap = snap_dir("all", ROOT);
	nr_free = pool_free_blks();
	new = mk_file(ROOT, "new");
	put_bytes(new, 0, 5000, 4);
	later = mk_file(ROOT, "later");
	unlink_only(ROOT, "later");
	tmp = mk_tmpfile();
	put_bytes(tmp, 0, 5000, 5);
	ok(msnap_unlink(pool, dir, "f", 1, false, &(struct msnap_attr){ 0 }));
	ok(msnap_unlink(pool, dir, "g", 1, false, &(struct msnap_attr){ 0 }));
	put_bytes(file, 0, 100, 6);
	ok(roll(snap, ROOT, NULL));
	pool_ok();
	must(find(msnap_live(dir), "f") == file);
	must(attr_of(msnap_live(file)).nlink == 2);
	must(has_bytes(msnap_live(file), 0, 50000, 1));
	must(!find(msnap_live(ROOT), "new"));
	/* Those who have them open go on. */
	must(has_bytes(msnap_live(new), 0, 5000, 4));
	must(attr_of(msnap_live(new)).nlink == 0);
	must(has_bytes(msnap_live(tmp), 0, 5000, 5));
	must(has_bytes(msnap_live(old), 0, 5000, 3));
	put_bytes(new, 0, 10, 7);
	ok(msnap_link(pool, new, ROOT, "saved", 5, &(struct msnap_attr){ 0 }));
	must(attr_of(msnap_live(later)).nlink == 0);
	pool_ok();
	evict_all();
	must(has_bytes(msnap_live(file), 0, 50000, 1));
	must(find(msnap_live(ROOT), "saved") == new);
	pool_settled_ok();
	rm(ROOT, "saved");
	must(pool_free_blks() + 8 >= nr_free);
	pool_crash(0);
	pool_ok();
	must(mk_file(ROOT, "next") > tmp); /* numbers are not used again */
	pool_gone();
}
END_TEST

/* What costs is what changed. */
START_TEST(everything_of_much)
{
	uint64_t snap, big, i;
	struct msnap_space_stat a, b;

	make_tree();
	big = mk_dir(ROOT, "big");
	for (i = 0; i < 5000; i++) {
		char name[24];

		sprintf(name, "n%u", (unsigned)i);
		mk_file(big, name);
	}
	snap = snap_dir("all", ROOT);
	put_bytes(file, 0, 100, 9);
	mk_file(big, "one more");
	rm(big, "n77");
	ok(msnap_commit(pool));
	msnap_space_stat(pool->space, &a);
	ok(roll(snap, ROOT, NULL));
	msnap_space_stat(pool->space, &b);
	must(a.nr_free < b.nr_free + 40);
	must(nr_told < 10 && told_ino.nr < 10);
	must(was_told(big, "one more") && was_told(big, "n77"));
	must(msnap_idmap_find(&told_ino, file));
	must(attr_of(msnap_live(big)).size == 5000);
	evict_all();
	pool_settled_ok();
	same_tree(in_snap(snap, ROOT), msnap_live(ROOT), true);
	pool_gone();
}
END_TEST

/* Who has the rest open need not be told. */
START_TEST(a_directory_of_much)
{
	uint64_t snap, big, one, two, i;

	make_tree();
	big = mk_dir(ROOT, "big");
	for (i = 0; i < 2000; i++) {
		char name[24];

		sprintf(name, "n%u", (unsigned)i);
		one = mk_file(i % 3 ? big : mk_dir(big, name), i % 3 ? name : "x");
	}
	two = mk_file(big, "two");
	mk_symlink(big, "sym", "to nowhere");
	ok(msnap_xattr_set(pool, big, "user.x", "1", 1, 0));
	ok(msnap_xattr_set(pool, mk_dir(big, "d"), "user.x", "1", 1, 0));
	snap = snap_dir("s", big);
	/* Nothing at all has changed. */
	ok(roll(snap, big, NULL));
	must(!nr_told && !told_ino.nr);
	same_tree(in_snap(snap, big), msnap_live(big), true);
	put_bytes(one, 0, 100, 9);
	ok(msnap_xattr_set(pool, two, "user.x", "1", 1, 0));
	mk_file(big, "one more");
	rm(big, "n77");
	ok(roll(snap, big, NULL));
	must(nr_told < 10 && told_ino.nr < 10);
	must(was_told(big, "one more") && was_told(big, "n77"));
	must(msnap_idmap_find(&told_ino, one) && msnap_idmap_find(&told_ino, two));
	must(msnap_idmap_find(&told_ino, big));
	evict_all();
	same_tree(in_snap(snap, big), msnap_live(big), true);
	/* What came back has changed once more, what was as it is has not. */
	ok(roll(snap, big, NULL));
	must(!nr_told && told_ino.nr < 10 && told_ino.nr);
	same_tree(in_snap(snap, big), msnap_live(big), true);
	pool_settled_ok();
	pool_gone();
}
END_TEST

/* Back and forth between several. */
START_TEST(back_and_forth)
{
	uint64_t snap[5];
	unsigned i;

	make_tree();
	for (i = 0; i < 5; i++) {
		char name[8];

		sprintf(name, "s%u", i);
		put_bytes(file, i * 1000, 1000, 100 + i);
		mk_file(sub, name);
		snap[i] = snap_dir(name, ROOT);
	}
	for (i = 0; i < 40; i++) {
		unsigned k = rnd(5);

		ok(roll(snap[k], ROOT, NULL));
		same_tree(in_snap(snap[k], ROOT), msnap_live(ROOT), true);
		if (rnd(2))
			put_bytes(file, 0, 100, i);
		if (rnd(2))
			evict_all();
		if (rnd(4) == 0)
			pool_crash(0);
		pool_ok();
	}
	evict_all();
	for (i = 0; i < 5; i++)
		ok(msnap_snap_delete(pool, snap[i]));
	pool_settled_ok();
	pool_gone();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rollback");
	TCase *tc = tcase_create("rollback");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, everything_by_chance, 1, 4);
	tcase_add_loop_test(tc, directories_by_chance, 1, 16);
	tcase_add_test(tc, a_file_that_changed);
	tcase_add_test(tc, a_file_that_was_deleted);
	tcase_add_test(tc, a_file_that_was_replaced);
	tcase_add_test(tc, a_file_that_was_renamed);
	tcase_add_test(tc, a_file_of_another_type);
	tcase_add_test(tc, two_files_that_became_one);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, chosen_entries);
	tcase_add_test(tc, only_what_one_may);
	tcase_add_test(tc, chosen_entries_after_a_repair);
	tcase_add_test(tc, a_directory_full_of_new_things);
	tcase_add_test(tc, a_directory_moved_out);
	tcase_add_test(tc, a_directory_moved_in);
	tcase_add_test(tc, a_directory_turned_inside_out);
	tcase_add_test(tc, links_across_the_edge);
	tcase_add_test(tc, a_directory_of_a_snapshot_of_everything);
	tcase_add_test(tc, a_directory_without_a_name_then);
	tcase_add_test(tc, everything_with_open_files);
	tcase_add_test(tc, everything_of_much);
	tcase_add_test(tc, a_directory_of_much);
	tcase_add_test(tc, back_and_forth);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
