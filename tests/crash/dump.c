/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dump.c - the two ways to the same text: from the model's arrays, and from a pool
 * through the engine's public functions.  Both fill a struct seen for each name and
 * let put_line() write it.
 */
#include "dump.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "model-tree.h"

#define MAX_PATH 600
#define MAX_CONTENT (2u << 20)

/* What is told of an inode. */
struct seen {
	uint32_t mode, uid, nlink;
	uint64_t size;
	uint64_t id; /* the same for two names of one file */
	uint64_t hash; /* of contents or target */
	char xattrs[200];
};

/* Files with more than one link that were met already. */
struct links {
	uint64_t id[256];
	unsigned nr;
};

/* ---- text ---------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3)))
static void put(struct dump *d, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	if (d->cap - d->len < 2 * MAX_PATH) {
		d->cap = d->cap ? 2 * d->cap : 16384;
		d->text = model_alloc(d->text, d->cap);
	}
	va_start(ap, fmt);
	n = vsnprintf(d->text + d->len, d->cap - d->len, fmt, ap);
	va_end(ap);
	d->len += n < d->cap - d->len ? n : d->cap - d->len - 1;
}

static unsigned link_number(struct links *l, uint64_t id)
{
	for (unsigned i = 0; i < l->nr; i++)
		if (l->id[i] == id)
			return i;
	if (l->nr < sizeof(l->id) / sizeof(l->id[0]))
		l->id[l->nr++] = id;
	return l->nr - 1;
}

static void put_line(struct dump *d, struct links *l, const char *path,
		     const struct seen *s)
{
	put(d, "/%s %o %u n%u s%llu %016llx", path, s->mode, s->uid, s->nlink,
	    (unsigned long long)s->size, (unsigned long long)s->hash);
	if (!S_ISDIR(s->mode) && s->nlink > 1)
		put(d, " #%u", link_number(l, s->id));
	put(d, "%s\n", s->xattrs);
}

uint64_t dump_hash(const char *text, size_t len)
{
	return XXH3_64bits(text, len);
}

void dump_free(struct dump *d)
{
	free(d->text);
	memset(d, 0, sizeof(*d));
}

/* ---- both: extended attributes, in the order of their names ------------------------ */

struct attr_text {
	char text[8][64];
	unsigned nr;
};

static void add_attr(struct attr_text *a, const char *name, const void *value,
		     size_t len)
{
	if (a->nr < 8)
		snprintf(a->text[a->nr++], sizeof(a->text[0]), " %.31s=%zu:%08x",
			 name, len, (unsigned)XXH3_64bits(value, len));
}

static void join_attrs(struct attr_text *a, char *out, size_t size)
{
	out[0] = 0;
	qsort(a->text, a->nr, sizeof(a->text[0]),
	      (int (*)(const void *, const void *))strcmp);
	for (unsigned i = 0; i < a->nr; i++)
		strncat(out, a->text[i], size - strlen(out) - 1);
}

/* ---- the model ---------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct model_entry *)a)->name,
		      ((const struct model_entry *)b)->name);
}

static void see_model(const struct model_inode *in, uint32_t id, struct seen *s)
{
	struct attr_text a = { .nr = 0 };

	*s = (struct seen){ in->mode, in->uid, in->nlink, in->size, id, 0, "" };
	if (S_ISDIR(in->mode))
		s->size = in->nr_entry;
	else
		s->hash = XXH3_64bits(in->data, in->size);
	for (size_t i = 0; i < in->nr_xattr; i++)
		add_attr(&a, in->xattr[i].name, in->xattr[i].value,
			 in->xattr[i].len);
	if (a.nr)
		join_attrs(&a, s->xattrs, sizeof(s->xattrs));
}

static void model_below(struct dump *d, struct links *l, const struct model_tree *t,
			uint32_t id, char *path, size_t len)
{
	struct model_inode *in = model_inode(t, id);
	struct seen s;

	see_model(in, id, &s);
	put_line(d, l, path, &s);
	/* The order of entries means nothing: it may as well be this one. */
	if (in->nr_entry)
		qsort(in->entry, in->nr_entry, sizeof(*in->entry), by_name);
	for (size_t i = 0; i < in->nr_entry; i++) {
		size_t n = len + sprintf(path + len, "%s%s", len ? "/" : "",
					 in->entry[i].name);

		model_below(d, l, t, in->entry[i].id, path, n);
		path[len] = 0;
	}
}

static void model_tree_text(struct dump *d, const struct model_tree *t, uint32_t top)
{
	struct links l = { .nr = 0 };
	char path[MAX_PATH] = "";

	model_below(d, &l, t, top, path, 0);
}

void dump_model(struct dump *d, const struct model *m)
{
	d->len = 0;
	d->err = 0;
	model_tree_text(d, &m->live, MODEL_ROOT);
	for (size_t i = 0; i < m->nr_snap; i++) {
		put(d, "snapshot %s%s\n", m->snap[i].name,
		    m->snap[i].partial ? " of files" : "");
		model_tree_text(d, &m->snap[i].tree, m->snap[i].scope);
	}
}

/* ---- a pool --------------------------------------------------------------------------- */

static uint8_t content[MAX_CONTENT];

/* Keeps the first error. */
__attribute__((format(printf, 3, 4)))
static int fail(struct dump *d, int err, const char *fmt, ...)
{
	va_list ap;

	if (!d->err) {
		va_start(ap, fmt);
		vsnprintf(d->at, sizeof(d->at), fmt, ap);
		va_end(ap);
		d->err = err;
	}
	return err;
}

static int see_attrs(struct msnap_pool *pool, struct msnap_id id, struct seen *s)
{
	struct attr_text a = { .nr = 0 };
	char names[1024];
	int n = msnap_xattr_list(pool, id, names, sizeof(names));

	for (char *name = names; n > 0 && name < names + n;
	     name += strlen(name) + 1) {
		int len = msnap_xattr_get(pool, id, name, content, sizeof(content));

		if (len < 0)
			return len;
		add_attr(&a, name, content, len);
	}
	if (n > 0)
		join_attrs(&a, s->xattrs, sizeof(s->xattrs));
	return n < 0 ? n : 0;
}

static int see_content(struct msnap_pool *pool, struct msnap_id id,
		       const struct msnap_attr *attr, struct seen *s)
{
	ssize_t n = 0;

	if (S_ISREG(attr->mode))
		n = msnap_pread(pool, id, content, sizeof(content), 0);
	else if (S_ISLNK(attr->mode))
		n = msnap_readlink(pool, id, (char *)content, sizeof(content));
	if (n < 0)
		return n;
	if (!S_ISDIR(attr->mode)) {
		s->hash = XXH3_64bits(content, n);
		if ((uint64_t)n != attr->size)
			return -ENODATA;
	}
	return 0;
}

static int see_pool(struct dump *d, struct msnap_pool *pool, struct msnap_id id,
		    const char *path, struct seen *s)
{
	struct msnap_attr attr;
	int err = msnap_getattr(pool, id, &attr);

	if (err)
		return fail(d, err, "attributes of /%s", path);
	*s = (struct seen){ attr.mode, attr.uid, attr.nlink, attr.size, id.ino, 0,
			    "" };
	err = see_content(pool, id, &attr, s);
	if (err)
		return fail(d, err, "contents of /%s", path);
	err = see_attrs(pool, id, s);
	return err ? fail(d, err, "xattrs of /%s", path) : 0;
}

struct entry {
	char name[256];
	uint64_t ino;
};

struct entries {
	struct entry *e;
	size_t nr, cap;
};

static int collect(void *arg, const struct msnap_entry *entry)
{
	struct entries *list = arg;

	if (list->nr == list->cap) {
		list->cap = list->cap ? 2 * list->cap : 16;
		list->e = model_alloc(list->e, list->cap * sizeof(*list->e));
	}
	memcpy(list->e[list->nr].name, entry->name, entry->len);
	list->e[list->nr].name[entry->len] = 0;
	list->e[list->nr++].ino = entry->ino;
	return 0;
}

static int entry_by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name,
		      ((const struct entry *)b)->name);
}

static int pool_below(struct dump *d, struct links *l, struct msnap_pool *pool,
		      struct msnap_id id, char *path, size_t len)
{
	struct entries list = { 0 };
	struct seen s;
	int err = see_pool(d, pool, id, path, &s);

	if (err)
		return err;
	put_line(d, l, path, &s);
	if (!S_ISDIR(s.mode))
		return 0;
	err = msnap_readdir(pool, id, 0, collect, &list);
	if (err)
		fail(d, err, "entries of /%s", path);
	if (list.nr)
		qsort(list.e, list.nr, sizeof(*list.e), entry_by_name);
	for (size_t i = 0; !err && i < list.nr; i++) {
		/* Damage could make a circle of directories. */
		if (len + strlen(list.e[i].name) + 2 > MAX_PATH) {
			err = fail(d, -ELOOP, "/%s", path);
			break;
		}
		err = pool_below(d, l, pool,
				 (struct msnap_id){ id.snap, list.e[i].ino }, path,
				 len + sprintf(path + len, "%s%s", len ? "/" : "",
					       list.e[i].name));
		path[len] = 0;
	}
	free(list.e);
	return err;
}

static int pool_tree_text(struct dump *d, struct msnap_pool *pool,
			  struct msnap_id top)
{
	struct links l = { .nr = 0 };
	char path[MAX_PATH] = "";

	return pool_below(d, &l, pool, top, path, 0);
}

int dump_pool(struct dump *d, struct msnap_pool *pool)
{
	struct msnap_snap_info info = { .id = 0 };
	int err;

	d->len = 0;
	d->err = 0;
	err = pool_tree_text(d, pool, msnap_live(MSNAP_ROOT_INO_PUBLIC));
	while (!err) {
		err = msnap_snap_next(pool, info.id, &info);
		if (err)
			break;
		put(d, "snapshot %s%s\n", info.name,
		    info.partial ? " of files" : "");
		err = pool_tree_text(d, pool,
				     (struct msnap_id){ info.id, info.scope });
		if (err)
			return fail(d, err, "snapshot %s", info.name);
	}
	return err == -ENOENT && !d->err ? 0 : d->err ? d->err : err;
}

/* ---- for people --------------------------------------------------------------------------- */

/* Sections are not told apart: good enough for a hint. */
static bool has_line(const char *text, const char *line, size_t len)
{
	for (const char *p = text; *p;) {
		size_t n = strcspn(p, "\n");

		if (n == len && memcmp(p, line, len) == 0)
			return true;
		p += n + (p[n] == '\n');
	}
	return false;
}

static void print_missing(const char *from, const char *other, char mark)
{
	for (const char *p = from; *p;) {
		size_t n = strcspn(p, "\n");

		if (!has_line(other, p, n))
			printf("    %c %.*s\n", mark, (int)n, p);
		p += n + (p[n] == '\n');
	}
}

void dump_diff(const char *want, const char *have)
{
	print_missing(want, have, '-');
	print_missing(have, want, '+');
}
