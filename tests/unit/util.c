/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util.h"

#include <dirent.h>
#include <xxhash.h>

#include "cow/commit.h"
#include "cow/idmap.h"
#include "cow/inode.h"

struct msnap_mem *mem;
struct msnap_pool *pool;
unsigned log_lines;
char log_last[512];

static const struct msnap_mem_ops *real_ops;
static struct msnap_mem_ops kept_ops;
static struct msnap_mem *aside; /* memory of pool_aside() */

/* ---- results -------------------------------------------------------------- */

long util_ok(long ret, const char *what, const char *file, int line)
{
	if (ret < 0)
		ck_abort_msg("%s:%d: %s: %s", file, line, what, strerror(-ret));
	return ret;
}

void util_fails(int err, long ret, const char *what, const char *file, int line)
{
	if (ret != err)
		ck_abort_msg("%s:%d: %s: %ld, not %s", file, line, what, ret,
			     strerror(-err));
}

/* ---- pools ---------------------------------------------------------------- */

static void on_log(void *arg, int level, const char *line)
{
	(void)arg;
	(void)level;
	log_lines++;
	snprintf(log_last, sizeof(log_last), "%s", line);
}

/* The pool closes its memory; ours stays. */
static void keep_memory(struct msnap_mem *m)
{
	(void)m;
}

static void new_memory(uint64_t size, enum msnap_sim_kind kind)
{
	ok(msnap_sim_new(size, kind, &mem));
	real_ops = mem->ops;
	kept_ops = *mem->ops;
	kept_ops.close = keep_memory;
	mem->ops = &kept_ops;
}

int pool_try_open(unsigned flags)
{
	struct msnap_open_args args = {
		.flags = flags | MSNAP_OPEN_NO_BACKGROUND,
		.log = on_log,
		.snap_step = 3,
	};
	struct msnap_why why;

	log_lines = 0;
	log_last[0] = 0;
	return msnap_pool_open_mem(mem, "test", &args, &pool, &why);
}

void pool_open(unsigned flags)
{
	ok(pool_try_open(flags));
}

void pool_make_kind(uint64_t mib, enum msnap_sim_kind kind)
{
	struct msnap_why why;

	new_memory(mib * MIB, kind);
	ok(msnap_pool_format_mem(mem, "test", "label", &why));
	pool_open(0);
}

void pool_make(uint64_t mib)
{
	pool_make_kind(mib, MSNAP_SIM_LINES);
}

void pool_reopen(unsigned flags)
{
	ok(msnap_pool_close(pool));
	pool_open(flags);
}

void pool_crash(unsigned flags)
{
	msnap_pool_abandon(pool);
	msnap_sim_crash(mem);
	pool_open(flags);
}

uint8_t *pool_image(void)
{
	uint8_t *image = malloc(mem->size);

	must(image);
	memcpy(image, msnap_sim_media(mem), mem->size);
	return image;
}

void pool_from(const uint8_t *image, unsigned flags)
{
	memcpy(msnap_sim_media(mem), image, mem->size);
	msnap_sim_crash(mem);
	pool_open(flags);
}

void pool_aside(const uint8_t *image, unsigned flags, uint64_t view)
{
	struct msnap_mem *our_mem = mem;
	struct msnap_pool *our_pool = pool;

	mem = aside;
	if (!mem)
		new_memory(our_mem->size, MSNAP_SIM_PAGES);
	aside = mem;
	pool_from(image, flags | MSNAP_OPEN_RDONLY);
	must(!pool_errors());
	must(pool_view() == view);
	msnap_pool_abandon(pool);
	mem = our_mem;
	pool = our_pool;
}

static void memory_gone(struct msnap_mem *m)
{
	m->ops = real_ops;
	msnap_mem_close(m);
}

void pool_gone(void)
{
	msnap_pool_abandon(pool);
	memory_gone(mem);
	if (aside)
		memory_gone(aside);
	aside = NULL;
}

static void on_error(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "check: %s\n", line);
}

uint64_t pool_errors(void)
{
	struct msnap_check_result res;

	ok(msnap_check(pool, MSNAP_CHECK_DATA, on_error, NULL, &res));
	return res.nr_errors;
}

void pool_ok(void)
{
	uint64_t nr = pool_errors();

	if (nr)
		ck_abort_msg("msnap_check: %lu errors", (unsigned long)nr);
}

void pool_settled_ok(void)
{
	ok(msnap_pool_settle(pool));
	pool_ok();
}

uint64_t pool_free_blks(void)
{
	struct msnap_space_stat stat;
	uint64_t nr;
	size_t i;

	ok(msnap_pool_settle(pool));
	ok(msnap_commit_reclaim(pool));
	msnap_space_stat(pool->space, &stat);
	must(stat.nr_pending == 0);
	nr = stat.nr_free;
	for (i = 0; i < pool->space_map.nr; i++)
		nr += pool->space_map.run[i].nr;
	return nr;
}

/* ---- the whole pool as a number --------------------------------------------- */

struct digest {
	uint64_t sum;
	bool raw;
};

static void add(struct digest *d, const void *data, size_t len)
{
	d->sum = XXH3_64bits_withSeed(data, len, d->sum);
}

static void add_ptr(struct digest *d, struct msnap_ptr ptr)
{
	if (d->raw)
		add(d, &ptr, sizeof(ptr));
}

static void digest_tree(struct digest *d, const struct msnap_tree *tree);

/* Contents count, not how they are cut into extents. */
static void digest_extent(struct digest *d, struct msnap_key key,
			  const struct msnap_extent *ex)
{
	unsigned i, flags = get16(ex->flags);

	for (i = 0; i < get16(ex->nr); i++) {
		uint64_t fb = key.hi + i;

		add(d, &fb, sizeof(fb));
		if (!(flags & MSNAP_EXT_UNWRITTEN))
			add(d, msnap_blk_ptr(pool, get64(ex->blk) + i), BLK);
	}
}

static void digest_inode(struct digest *d, struct msnap_key key,
			 const struct msnap_inode *val)
{
	struct msnap_inode in = *val;
	struct msnap_tree tree = msnap_ext_tree(key.hi, &in);

	in.ext = (struct msnap_ref){ put64(0), put64(0) };
	add(d, &in, sizeof(in));
	if (tree.root.blk)
		digest_tree(d, &tree);
}

static void digest_snap(struct digest *d, const struct msnap_snap *val,
			unsigned len)
{
	struct msnap_tree ns = { MSNAP_TREE_NS, 0, msnap_ptr_load(val->ns) };
	uint8_t buf[MSNAP_VAL_MAX];
	struct msnap_snap *sn = (void *)buf;

	memcpy(buf, val, len);
	sn->ns = (struct msnap_ref){ put64(0), put64(0) };
	add(d, buf, len);
	digest_tree(d, &ns);
}

static void digest_record(struct digest *d, unsigned type, struct msnap_key key,
			  const void *val, unsigned len)
{
	bool cat = type == MSNAP_TREE_CATALOG;

	if (type == MSNAP_TREE_EXTENT) {
		digest_extent(d, key, val);
		if (!d->raw)
			return;
	}
	if (cat && key.hi >> 56 == MSNAP_CAT_DROP && !d->raw)
		return;
	add(d, &key, sizeof(key));
	if (type == MSNAP_TREE_NS && key.lo >> 56 == MSNAP_NS_INODE)
		digest_inode(d, key, val);
	else if (cat && key.hi >> 56 == MSNAP_CAT_SNAP)
		digest_snap(d, val, len);
	else if (type == MSNAP_TREE_NS || d->raw)
		add(d, val, len);
	if (d->raw && len)
		add(d, val, len);
}

static void digest_tree(struct digest *d, const struct msnap_tree *tree)
{
	static const struct msnap_key zero = { 0, 0 };
	struct msnap_cursor cur;
	int err;

	add_ptr(d, tree->root);
	err = msnap_cursor_seek(pool, tree, zero, &cur);
	while (!err) {
		unsigned len;
		const void *val = msnap_cursor_val(&cur, &len);

		digest_record(d, tree->type, msnap_cursor_key(&cur), val, len);
		err = msnap_cursor_next(&cur);
	}
	must(err == -ENOENT);
}

static int digest_run(void *arg, uint64_t blk, uint32_t nr, uint32_t count)
{
	uint64_t run[] = { blk, nr, count };

	add(arg, run, sizeof(run));
	return 0;
}

static uint64_t digest(bool raw)
{
	struct digest d = { .raw = raw };

	digest_tree(&d, &pool->ns);
	digest_tree(&d, &pool->catalog);
	add(&d, &pool->nr_inodes, sizeof(pool->nr_inodes));
	add(&d, &pool->nr_snaps, sizeof(pool->nr_snaps));
	if (raw) {
		add(&d, &pool->next_ino, sizeof(pool->next_ino));
		add(&d, &pool->next_snap, sizeof(pool->next_snap));
		msnap_space_each(pool->space, digest_run, &d);
	}
	return d.sum;
}

uint64_t pool_view(void)
{
	return digest(false);
}

uint64_t pool_raw(void)
{
	return digest(true);
}

/* ---- files ------------------------------------------------------------------ */

static uint64_t make(uint64_t dir, const char *name, struct msnap_new what)
{
	struct msnap_attr attr;

	ok(msnap_create(pool, dir, name, name ? strlen(name) : 0, &what, &attr));
	return attr.ino;
}

uint64_t mk_file(uint64_t dir, const char *name)
{
	return make(dir, name, (struct msnap_new){ .mode = S_IFREG | 0644 });
}

uint64_t mk_dir(uint64_t dir, const char *name)
{
	return make(dir, name, (struct msnap_new){ .mode = S_IFDIR | 0755 });
}

uint64_t mk_symlink(uint64_t dir, const char *name, const char *target)
{
	return make(dir, name, (struct msnap_new){ .mode = S_IFLNK | 0777,
						   .target = target });
}

uint64_t mk_tmpfile(void)
{
	return make(ROOT, NULL, (struct msnap_new){ .mode = S_IFREG | 0600 });
}

void mk_link(uint64_t ino, uint64_t dir, const char *name)
{
	struct msnap_attr attr;

	ok(msnap_link(pool, ino, dir, name, strlen(name), &attr));
}

static struct msnap_attr take_name(uint64_t dir, const char *name, bool rmdir)
{
	struct msnap_attr gone;

	ok(msnap_unlink(pool, dir, name, strlen(name), rmdir, &gone));
	return gone;
}

static uint64_t take_all(uint64_t dir, const char *name, bool rmdir)
{
	struct msnap_attr gone = take_name(dir, name, rmdir);

	if (!gone.nlink)
		ok(msnap_evict(pool, gone.ino));
	return gone.ino;
}

uint64_t rm(uint64_t dir, const char *name)
{
	return take_all(dir, name, false);
}

uint64_t rm_dir(uint64_t dir, const char *name)
{
	return take_all(dir, name, true);
}

uint64_t unlink_only(uint64_t dir, const char *name)
{
	return take_name(dir, name, false).ino;
}

void mv(uint64_t dir, const char *name, uint64_t new_dir, const char *new_name)
{
	struct msnap_attr gone;

	ok(msnap_rename(pool, dir, name, strlen(name), new_dir, new_name,
			strlen(new_name), 0, &gone));
	if (gone.ino && !gone.nlink)
		ok(msnap_evict(pool, gone.ino));
}

uint64_t find(struct msnap_id dir, const char *name)
{
	struct msnap_attr attr;
	int err = msnap_lookup(pool, dir, name, strlen(name), &attr);

	if (err == -ENOENT)
		return 0;
	ok(err);
	return attr.ino;
}

struct msnap_attr attr_of(struct msnap_id id)
{
	struct msnap_attr attr;

	ok(msnap_getattr(pool, id, &attr));
	return attr;
}

uint64_t size_of(uint64_t ino)
{
	return attr_of(msnap_live(ino)).size;
}

void set_size(uint64_t ino, uint64_t size)
{
	struct msnap_attr attr = { .size = size }, out;

	ok(msnap_setattr(pool, ino, &attr, MSNAP_SET_SIZE, &out));
	must(out.size == size);
}

void fill_bytes(uint8_t *buf, uint64_t off, size_t len, uint64_t seed)
{
	size_t i;

	for (i = 0; i < len; i++) {
		uint64_t at = off + i;

		buf[i] = 1 + (((at >> 3) * 0x9e3779b97f4a7c15ull ^
			       seed * 0xc2b2ae3d27d4eb4full) >>
			      (8 * (at % 7))) % 255;
	}
}

void put_bytes(uint64_t ino, uint64_t off, size_t len, uint64_t seed)
{
	uint8_t *buf = malloc(len + 1);

	fill_bytes(buf, off, len, seed);
	ok(msnap_pwrite(pool, ino, buf, len, off, false));
	free(buf);
}

static uint8_t *get_bytes(struct msnap_id id, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len + 1);

	must(ok(msnap_pread(pool, id, buf, len, off)) == (long)len);
	return buf;
}

bool has_bytes(struct msnap_id id, uint64_t off, size_t len, uint64_t seed)
{
	uint8_t *buf = get_bytes(id, off, len), *want = malloc(len + 1);
	bool same;

	fill_bytes(want, off, len, seed);
	same = !memcmp(buf, want, len);
	free(want);
	free(buf);
	return same;
}

bool has_zeros(struct msnap_id id, uint64_t off, size_t len)
{
	uint8_t *buf = get_bytes(id, off, len);
	size_t i;

	for (i = 0; i < len && !buf[i]; i++)
		;
	free(buf);
	return i == len;
}

/* ---- snapshots ---------------------------------------------------------------- */

int try_snap(const char *name, uint64_t dir, const char *entry, uint64_t *snap)
{
	struct msnap_snap_item item = { dir, entry, entry ? strlen(entry) : 0 };

	return msnap_snap_create(pool, name, "", 0, &item, 1, snap);
}

uint64_t snap_file(const char *name, uint64_t dir, const char *entry)
{
	uint64_t snap;

	ok(try_snap(name, dir, entry, &snap));
	return snap;
}

uint64_t snap_dir(const char *name, uint64_t dir)
{
	return snap_file(name, dir, NULL);
}

struct msnap_id in_snap(uint64_t snap, uint64_t ino)
{
	return (struct msnap_id){ snap, ino };
}

void no_cache(void *arg, uint64_t ino, const char *name, size_t len)
{
	(void)arg;
	(void)ino;
	(void)name;
	(void)len;
}

/* ---- comparing trees ------------------------------------------------------------ */

struct entries {
	struct entry *e;
	unsigned nr, cap;
};

static int add_entry(void *arg, const struct msnap_entry *entry)
{
	struct entries *all = arg;
	struct entry *e;

	if (all->nr == all->cap) {
		all->cap = all->cap ? all->cap * 2 : 16;
		all->e = realloc(all->e, all->cap * sizeof(*all->e));
		must(all->e);
	}
	e = &all->e[all->nr++];
	memcpy(e->name, entry->name, entry->len);
	e->name[entry->len] = 0;
	e->ino = entry->ino;
	e->type = entry->type;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name,
		      ((const struct entry *)b)->name);
}

struct entry *entries_of(struct msnap_id dir, unsigned *nr)
{
	struct entries all = { 0 };

	ok(msnap_readdir(pool, dir, 0, add_entry, &all));
	if (all.nr)
		qsort(all.e, all.nr, sizeof(*all.e), by_name);
	*nr = all.nr;
	return all.e;
}

static void same_attr(struct msnap_id a, struct msnap_id b, bool links)
{
	struct msnap_attr x = attr_of(a), y = attr_of(b);

	must(x.mode == y.mode && x.uid == y.uid && x.gid == y.gid);
	must(x.size == y.size && x.nr_blk == y.nr_blk && x.rdev == y.rdev);
	must(x.mtime.tv_sec == y.mtime.tv_sec);
	must(x.mtime.tv_nsec == y.mtime.tv_nsec);
	must(x.nlink == y.nlink || (!links && !S_ISDIR(x.mode)));
}

static void same_xattrs(struct msnap_id a, struct msnap_id b)
{
	static char list[2][65536], val[2][65537];
	int len = ok(msnap_xattr_list(pool, a, list[0], sizeof(list[0]))), at;

	/* By hash, which is the same in both. */
	must(msnap_xattr_list(pool, b, list[1], sizeof(list[1])) == len);
	must(!memcmp(list[0], list[1], len));
	for (at = 0; at < len; at += strlen(list[0] + at) + 1) {
		const char *name = list[0] + at;
		int n = ok(msnap_xattr_get(pool, a, name, val[0], 65537));

		must(msnap_xattr_get(pool, b, name, val[1], 65537) == n);
		must(!memcmp(val[0], val[1], n));
	}
}

static void same_target(struct msnap_id a, struct msnap_id b)
{
	char to[2][4096];
	int len = ok(msnap_readlink(pool, a, to[0], sizeof(to[0])));

	must(msnap_readlink(pool, b, to[1], sizeof(to[1])) == len);
	must(!memcmp(to[0], to[1], len));
}

static void same_contents(struct msnap_id a, struct msnap_id b)
{
	uint64_t size = attr_of(a).size, off, n;

	for (off = 0; off < size; off += n) {
		uint8_t *x, *y;

		n = size - off < MIB ? size - off : MIB;
		x = get_bytes(a, off, n);
		y = get_bytes(b, off, n);
		must(!memcmp(x, y, n));
		free(x);
		free(y);
	}
}

static void same_entries(struct msnap_id a, struct msnap_id b, bool links,
			 struct msnap_idmap *twin);

/* The first name of a file: all of it.  A further one: the same twin. */
static void same_inode(struct msnap_id a, struct msnap_id b, bool links,
		       struct msnap_idmap *twin)
{
	uint64_t *known = msnap_idmap_at(twin, a.ino);
	uint32_t mode = attr_of(a).mode;

	if (*known) {
		must(*known == b.ino);
		return;
	}
	*known = b.ino;
	same_attr(a, b, links);
	same_xattrs(a, b);
	if (S_ISREG(mode))
		same_contents(a, b);
	else if (S_ISLNK(mode))
		same_target(a, b);
	else if (S_ISDIR(mode))
		same_entries(a, b, links, twin);
}

static void same_entries(struct msnap_id a, struct msnap_id b, bool links,
			 struct msnap_idmap *twin)
{
	unsigned nr, nr_b, i;
	struct entry *x = entries_of(a, &nr), *y = entries_of(b, &nr_b);

	must(nr == nr_b);
	for (i = 0; i < nr; i++) {
		must(!strcmp(x[i].name, y[i].name) && x[i].type == y[i].type);
		if (x[i].type == DT_DIR && !b.snap)
			must(attr_of(in_snap(b.snap, y[i].ino)).parent == b.ino);
		same_inode(in_snap(a.snap, x[i].ino), in_snap(b.snap, y[i].ino),
			   links, twin);
	}
	free(x);
	free(y);
}

void same_tree(struct msnap_id a, struct msnap_id b, bool links)
{
	struct msnap_idmap twin = { 0 }, back = { 0 };

	same_inode(a, b, links, &twin);
	same_inode(b, a, links, &back); /* as many inodes on either side */
	must(twin.nr == back.nr);
	msnap_idmap_free(&twin);
	msnap_idmap_free(&back);
}

/* ---- chance --------------------------------------------------------------------- */

static uint64_t rnd_state = 88172645463325252ull;

void rnd_seed(uint64_t seed)
{
	rnd_state = 88172645463325252ull + seed * 0x9e3779b97f4a7c15ull;
	if (!rnd_state)
		rnd_state = 1;
}

uint64_t rnd(uint64_t below)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return (rnd_state >> 11) % below;
}

/* ---- suites --------------------------------------------------------------------- */

int run_suite(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int run_tests(const char *name, const TTest *const *tests)
{
	Suite *suite = suite_create(name);
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, 120);
	for (; *tests; tests++)
		tcase_add_test(tc, *tests);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
