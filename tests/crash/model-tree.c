/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model-tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *model_alloc(void *old, size_t size)
{
	void *p = realloc(old, size ? size : 1);

	if (!p) {
		fputs("out of memory\n", stderr);
		exit(2);
	}
	return p;
}

static void *copy_of(const void *from, size_t size)
{
	void *p = model_alloc(NULL, size);

	if (size)
		memcpy(p, from, size);
	return p;
}

/* ---- inodes ------------------------------------------------------------------ */

void inode_resize(struct model_inode *in, size_t size)
{
	in->data = model_alloc(in->data, size);
	if (size > in->size)
		memset(in->data + in->size, 0, size - in->size);
	in->size = size;
}

void inode_write(struct model_inode *in, size_t off, const void *buf, size_t len)
{
	if (off + len > in->size)
		inode_resize(in, off + len);
	memcpy(in->data + off, buf, len);
}

static struct model_xattr *find_xattr(struct model_inode *in, const char *name)
{
	for (size_t i = 0; i < in->nr_xattr; i++)
		if (strcmp(in->xattr[i].name, name) == 0)
			return &in->xattr[i];
	return NULL;
}

void inode_set_xattr(struct model_inode *in, const char *name, const void *value,
		     size_t len)
{
	struct model_xattr *x = find_xattr(in, name);

	if (!x) {
		in->xattr = model_alloc(in->xattr,
					(in->nr_xattr + 1) * sizeof(*in->xattr));
		x = &in->xattr[in->nr_xattr++];
		memset(x, 0, sizeof(*x));
		strcpy(x->name, name);
	}
	free(x->value);
	x->value = copy_of(value, len);
	x->len = len;
}

int inode_remove_xattr(struct model_inode *in, const char *name)
{
	struct model_xattr *x = find_xattr(in, name);

	if (!x)
		return -ENODATA;
	free(x->value);
	*x = in->xattr[--in->nr_xattr];
	return 0;
}

void inode_clear_xattrs(struct model_inode *in)
{
	while (in->nr_xattr)
		free(in->xattr[--in->nr_xattr].value);
}

static struct model_inode *inode_copy(const struct model_inode *from)
{
	struct model_inode *in = copy_of(from, sizeof(*in));

	in->data = copy_of(from->data, from->size);
	in->entry = copy_of(from->entry, from->nr_entry * sizeof(*in->entry));
	in->xattr = copy_of(from->xattr, from->nr_xattr * sizeof(*in->xattr));
	for (size_t i = 0; i < in->nr_xattr; i++)
		in->xattr[i].value = copy_of(from->xattr[i].value,
					     from->xattr[i].len);
	return in;
}

static void inode_free(struct model_inode *in)
{
	if (!in)
		return;
	inode_clear_xattrs(in);
	free(in->xattr);
	free(in->entry);
	free(in->data);
	free(in);
}

/* ---- trees --------------------------------------------------------------------- */

static void set(struct model_tree *t, uint32_t id, struct model_inode *in)
{
	if (id >= t->nr) {
		size_t nr = id + 16;

		t->inode = model_alloc(t->inode, nr * sizeof(*t->inode));
		memset(t->inode + t->nr, 0, (nr - t->nr) * sizeof(*t->inode));
		t->nr = nr;
	}
	inode_free(t->inode[id]);
	t->inode[id] = in;
}

struct model_inode *tree_add(struct model_tree *t, uint32_t id)
{
	static const struct model_inode zero;

	return tree_put(t, id, &zero);
}

struct model_inode *tree_put(struct model_tree *t, uint32_t id,
			     const struct model_inode *from)
{
	struct model_inode *in = inode_copy(from);

	set(t, id, in);
	return in;
}

void tree_remove(struct model_tree *t, uint32_t id)
{
	set(t, id, NULL);
}

void tree_copy(struct model_tree *to, const struct model_tree *from)
{
	to->nr = from->nr;
	to->inode = copy_of(from->inode, from->nr * sizeof(*to->inode));
	for (size_t i = 0; i < to->nr; i++)
		if (to->inode[i])
			to->inode[i] = inode_copy(to->inode[i]);
}

void tree_free(struct model_tree *t)
{
	for (size_t i = 0; i < t->nr; i++)
		inode_free(t->inode[i]);
	free(t->inode);
	*t = (struct model_tree){ 0 };
}

/* ---- entries --------------------------------------------------------------------- */

static struct model_entry *find_entry(struct model_inode *dir, const char *name)
{
	for (size_t i = 0; dir && i < dir->nr_entry; i++)
		if (strcmp(dir->entry[i].name, name) == 0)
			return &dir->entry[i];
	return NULL;
}

uint32_t tree_lookup(const struct model_tree *t, uint32_t dir, const char *name)
{
	struct model_entry *e = find_entry(model_inode(t, dir), name);

	return e ? e->id : 0;
}

void tree_enter(struct model_tree *t, uint32_t dir, const char *name, uint32_t id)
{
	struct model_inode *d = model_inode(t, dir), *in = model_inode(t, id);

	d->entry = model_alloc(d->entry, (d->nr_entry + 1) * sizeof(*d->entry));
	strcpy(d->entry[d->nr_entry].name, name);
	d->entry[d->nr_entry++].id = id;
	if (in && S_ISDIR(in->mode)) {
		in->parent = dir;
		d->nlink++;
	}
}

void tree_leave(struct model_tree *t, uint32_t dir, const char *name)
{
	struct model_inode *d = model_inode(t, dir);
	struct model_entry *e = find_entry(d, name);
	struct model_inode *in = model_inode(t, e->id);

	if (in && S_ISDIR(in->mode))
		d->nlink--;
	*e = d->entry[--d->nr_entry];
}
