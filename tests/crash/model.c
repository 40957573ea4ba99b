/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow/cow.h"
#include "model-tree.h"

/* ---- finding things ---------------------------------------------------------- */

struct place {
	uint32_t dir; /* of the last component */
	char name[MODEL_NAME_MAX + 1];
	uint32_t id; /* 0: no such entry */
};

/* -ENOENT: something in front of the last component is missing. */
static int find(const struct model_tree *t, uint32_t top, const char *path,
		struct place *at)
{
	at->dir = at->id = top;
	at->name[0] = 0;
	while (*path) {
		size_t len = strcspn(path, "/");

		at->dir = at->id;
		memcpy(at->name, path, len);
		at->name[len] = 0;
		at->id = tree_lookup(t, at->dir, at->name);
		path += len;
		if (*path && !at->id)
			return -ENOENT;
		path += *path == '/';
	}
	return 0;
}

static int find_existing(const struct model_tree *t, uint32_t top, const char *path,
			 struct place *at)
{
	int err = find(t, top, path, at);

	return err ? err : at->id ? 0 : -ENOENT;
}

/* @snap NULL: live. */
static int find_in(const struct model *m, const char *snap, const char *path,
		   const struct model_tree **t, struct place *at)
{
	const struct model_snap *s = snap ? model_find_snap(m, snap) : NULL;

	if (snap && !s)
		return -ENOENT;
	*t = s ? &s->tree : &m->live;
	return find_existing(*t, s ? s->scope : MODEL_ROOT, path, at);
}

static int find_file(struct model *m, const char *path, struct model_inode **in)
{
	struct place at;
	int err = find_existing(&m->live, MODEL_ROOT, path, &at);

	if (err)
		return err;
	*in = model_inode(&m->live, at.id);
	if (S_ISDIR((*in)->mode))
		return -EISDIR;
	return S_ISREG((*in)->mode) ? 0 : -EINVAL;
}

struct model_snap *model_find_snap(const struct model *m, const char *name)
{
	for (size_t i = 0; i < m->nr_snap; i++)
		if (strcmp(m->snap[i].name, name) == 0)
			return &m->snap[i];
	return NULL;
}

/* A directory that takes the new entry @at?  */
static int check_new(const struct model_tree *t, const struct place *at)
{
	const struct model_inode *dir = model_inode(t, at->dir);

	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	return at->id ? -EEXIST : 0;
}

/* ---- the whole ----------------------------------------------------------------- */

struct model *model_new(void)
{
	struct model *m = model_alloc(NULL, sizeof(*m));
	struct model_inode *root;

	memset(m, 0, sizeof(*m));
	root = tree_add(&m->live, MODEL_ROOT);
	root->mode = S_IFDIR | 0755;
	root->nlink = 2;
	root->parent = MODEL_ROOT;
	m->next_id = MODEL_ROOT + 1;
	return m;
}

struct model *model_copy(const struct model *m)
{
	struct model *c = model_alloc(NULL, sizeof(*c));

	*c = *m;
	tree_copy(&c->live, &m->live);
	c->snap = model_alloc(NULL, m->nr_snap * sizeof(*c->snap));
	for (size_t i = 0; i < m->nr_snap; i++) {
		c->snap[i] = m->snap[i];
		tree_copy(&c->snap[i].tree, &m->snap[i].tree);
	}
	return c;
}

void model_free(struct model *m)
{
	if (!m)
		return;
	tree_free(&m->live);
	for (size_t i = 0; i < m->nr_snap; i++)
		tree_free(&m->snap[i].tree);
	free(m->snap);
	free(m);
}

/* ---- names ------------------------------------------------------------------------ */

int model_create(struct model *m, const char *path, uint32_t mode,
		 const char *target)
{
	struct model_inode *in;
	struct place at;
	uint32_t id;
	int err = find(&m->live, MODEL_ROOT, path, &at);

	if (!err)
		err = check_new(&m->live, &at);
	if (err)
		return err;
	id = m->next_id++;
	in = tree_add(&m->live, id);
	in->mode = mode;
	in->nlink = S_ISDIR(mode) ? 2 : 1;
	in->parent = S_ISDIR(mode) ? at.dir : 0;
	if (target)
		inode_write(in, 0, target, strlen(target));
	tree_enter(&m->live, at.dir, at.name, id);
	return 0;
}

int model_link(struct model *m, const char *path, const char *to)
{
	struct place from, at;
	int err = find_existing(&m->live, MODEL_ROOT, path, &from);

	if (!err)
		err = find(&m->live, MODEL_ROOT, to, &at);
	if (!err && S_ISDIR(model_inode(&m->live, from.id)->mode))
		err = -EPERM;
	if (!err)
		err = check_new(&m->live, &at);
	if (err)
		return err;
	tree_enter(&m->live, at.dir, at.name, from.id);
	model_inode(&m->live, from.id)->nlink++;
	return 0;
}

/* The entry goes, and with the last name the inode. */
static void drop(struct model *m, const struct place *at)
{
	struct model_inode *in = model_inode(&m->live, at->id);

	tree_leave(&m->live, at->dir, at->name);
	if (S_ISDIR(in->mode) || --in->nlink == 0)
		tree_remove(&m->live, at->id);
}

static int check_remove(const struct model_inode *in, bool rmdir)
{
	if (!S_ISDIR(in->mode))
		return rmdir ? -ENOTDIR : 0;
	if (!rmdir)
		return -EISDIR;
	return in->nr_entry ? -ENOTEMPTY : 0;
}

int model_unlink(struct model *m, const char *path, bool rmdir)
{
	struct place at;
	int err = find_existing(&m->live, MODEL_ROOT, path, &at);

	if (!err)
		err = check_remove(model_inode(&m->live, at.id), rmdir);
	if (!err)
		drop(m, &at);
	return err;
}

static bool is_above(const struct model_tree *t, uint32_t id, uint32_t dir)
{
	while (dir != id && dir != MODEL_ROOT)
		dir = model_inode(t, dir)->parent;
	return dir == id;
}

static int check_rename(struct model *m, const struct place *a,
			const struct place *b, unsigned flags)
{
	struct model_inode *from, *to = model_inode(&m->live, b->id);
	bool swap = flags & MSNAP_RENAME_EXCHANGE;

	if (!S_ISDIR(model_inode(&m->live, a->dir)->mode) ||
	    !S_ISDIR(model_inode(&m->live, b->dir)->mode))
		return -ENOTDIR;
	if (!a->id || (swap && !b->id))
		return -ENOENT;
	if (flags & MSNAP_RENAME_NOREPLACE && b->id)
		return -EEXIST;
	if (a->id == b->id)
		return 0;
	from = model_inode(&m->live, a->id);
	if (S_ISDIR(from->mode) && is_above(&m->live, a->id, b->dir))
		return -EINVAL;
	if (swap)
		return S_ISDIR(to->mode) && is_above(&m->live, b->id, a->dir) ?
			       -EINVAL : 0;
	if (!to)
		return 0;
	if (S_ISDIR(from->mode) != S_ISDIR(to->mode))
		return S_ISDIR(from->mode) ? -ENOTDIR : -EISDIR;
	return check_remove(to, S_ISDIR(to->mode));
}

int model_rename(struct model *m, const char *path, const char *to, unsigned flags)
{
	struct place a, b;
	int err = find(&m->live, MODEL_ROOT, path, &a);

	if (!err)
		err = find(&m->live, MODEL_ROOT, to, &b);
	if (!err)
		err = check_rename(m, &a, &b, flags);
	if (err || a.id == b.id)
		return err;
	tree_leave(&m->live, a.dir, a.name);
	if (flags & MSNAP_RENAME_EXCHANGE) {
		tree_leave(&m->live, b.dir, b.name);
		tree_enter(&m->live, a.dir, a.name, b.id);
	} else if (b.id) {
		drop(m, &b);
	}
	tree_enter(&m->live, b.dir, b.name, a.id);
	return 0;
}

/* ---- attributes -------------------------------------------------------------------- */

int model_chmod(struct model *m, const char *path, uint32_t mode, uint32_t uid)
{
	struct model_inode *in;
	struct place at;
	int err = find_existing(&m->live, MODEL_ROOT, path, &at);

	if (err)
		return err;
	in = model_inode(&m->live, at.id);
	in->mode = (in->mode & S_IFMT) | mode;
	in->uid = uid;
	return 0;
}

int model_xattr_set(struct model *m, const char *path, const char *name,
		    const void *value, size_t len)
{
	struct place at;
	int err = find_existing(&m->live, MODEL_ROOT, path, &at);

	if (!err)
		inode_set_xattr(model_inode(&m->live, at.id), name, value, len);
	return err;
}

int model_xattr_remove(struct model *m, const char *path, const char *name)
{
	struct place at;
	int err = find_existing(&m->live, MODEL_ROOT, path, &at);

	return err ? err : inode_remove_xattr(model_inode(&m->live, at.id), name);
}

/* ---- contents ------------------------------------------------------------------------ */

int model_write(struct model *m, const char *path, const void *buf, size_t len,
		size_t off)
{
	struct model_inode *in;
	int err = find_file(m, path, &in);

	if (!err)
		inode_write(in, off, buf, len);
	return err;
}

int model_store(struct model *m, const char *path, const void *buf, size_t len,
		size_t off)
{
	struct model_inode *in;
	int err = find_file(m, path, &in);

	if (!err && off < in->size)
		inode_write(in, off, buf, len < in->size - off ? len :
								 in->size - off);
	return err;
}

int model_truncate(struct model *m, const char *path, size_t size)
{
	struct model_inode *in;
	int err = find_file(m, path, &in);

	if (!err)
		inode_resize(in, size);
	return err;
}

int model_fallocate(struct model *m, const char *path, int mode, size_t off,
		    size_t len)
{
	struct model_inode *in;
	size_t end = off + len, upto;
	int err = find_file(m, path, &in);

	if (err)
		return err;
	upto = end < in->size ? end : in->size;
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && off < upto)
		memset(in->data + off, 0, upto - off);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > in->size)
		inode_resize(in, end);
	return 0;
}

static int check_range(const struct model_inode *from, const struct model_inode *in,
		       size_t off, size_t to_off, size_t len, bool live)
{
	if (!S_ISREG(from->mode) || !S_ISREG(in->mode))
		return S_ISDIR(from->mode) || S_ISDIR(in->mode) ? -EISDIR : -EINVAL;
	if (live && from == in && off < from->size && off < to_off + len &&
	    to_off < off + len)
		return -EINVAL;
	return 0;
}

ssize_t model_copy_range(struct model *m, const char *snap, const char *path,
			 size_t off, const char *to, size_t to_off, size_t len)
{
	const struct model_tree *t;
	struct model_inode *from, *in;
	struct place a, b;
	uint8_t *copy;
	int err = find_in(m, snap, path, &t, &a);

	if (!err)
		err = find_existing(&m->live, MODEL_ROOT, to, &b);
	if (err)
		return err;
	from = model_inode(t, a.id);
	in = model_inode(&m->live, b.id);
	if (off < from->size && len > from->size - off)
		len = from->size - off;
	err = check_range(from, in, off, to_off, len, !snap);
	if (err || off >= from->size)
		return err;
	copy = model_alloc(NULL, len);
	memcpy(copy, from->data + off, len);
	inode_write(in, to_off, copy, len);
	free(copy);
	return len;
}

/* ---- clones ------------------------------------------------------------------------------ */

/* Which inode became which: the second link to a file is a link to its clone. */
struct renumber {
	uint32_t *now; /* [old id], 0: none */
	size_t nr;
};

static void renumber_init(struct renumber *r, size_t nr)
{
	r->nr = nr;
	r->now = model_alloc(NULL, nr * sizeof(*r->now));
	memset(r->now, 0, nr * sizeof(*r->now));
}

static uint32_t clone_one(struct model *m, const struct model_tree *t, uint32_t id)
{
	uint32_t new = m->next_id++;
	struct model_inode *in = tree_put(&m->live, new, model_inode(t, id));

	in->frame = false;
	in->nr_entry = 0;
	if (!S_ISDIR(in->mode))
		in->nlink = 1;
	else
		in->nlink = 2; /* and one for each directory entered */
	return new;
}

static void clone_below(struct model *m, const struct model_tree *t,
			struct renumber *r, uint32_t id)
{
	const struct model_inode *dir = model_inode(t, id);

	for (size_t i = 0; i < dir->nr_entry; i++) {
		const struct model_entry *e = &dir->entry[i];

		if (r->now[e->id]) {
			model_inode(&m->live, r->now[e->id])->nlink++;
		} else {
			r->now[e->id] = clone_one(m, t, e->id);
			if (S_ISDIR(model_inode(t, e->id)->mode))
				clone_below(m, t, r, e->id);
		}
		tree_enter(&m->live, r->now[id], e->name, r->now[e->id]);
	}
}

static int check_clone(const struct model *m, const struct model_inode *from,
		       const struct place *to, bool replace)
{
	const struct model_inode *old = model_inode(&m->live, to->id);

	if (!S_ISDIR(model_inode(&m->live, to->dir)->mode))
		return -ENOTDIR;
	if (!old)
		return 0;
	if (!replace || S_ISDIR(from->mode))
		return -EEXIST;
	return S_ISDIR(old->mode) ? -EISDIR : 0;
}

int model_clone(struct model *m, const char *snap, const char *path, const char *to,
		bool replace)
{
	const struct model_tree *t;
	struct model_tree was;
	struct renumber r;
	struct place a, b;
	int err = find_in(m, snap, path, &t, &a);

	if (!err)
		err = find(&m->live, MODEL_ROOT, to, &b);
	if (!err)
		err = check_clone(m, model_inode(t, a.id), &b, replace);
	if (err)
		return err;
	/* As it was before: the new name may be below what is cloned. */
	tree_copy(&was, t);
	if (b.id)
		drop(m, &b);
	renumber_init(&r, was.nr);
	r.now[a.id] = clone_one(m, &was, a.id);
	clone_below(m, &was, &r, a.id);
	tree_enter(&m->live, b.dir, b.name, r.now[a.id]);
	free(r.now);
	tree_free(&was);
	return 0;
}

/* ---- snapshots ----------------------------------------------------------------------------- */

static bool overlap(const struct model_tree *a, const struct model_tree *b)
{
	for (uint32_t id = 1; id < a->nr; id++)
		if (a->inode[id] && S_ISDIR(a->inode[id]->mode) &&
		    model_inode(b, id))
			return true;
	return false;
}

static int check_free(const struct model *m, const struct model_tree *t,
		      const char *name)
{
	for (size_t i = 0; i < m->nr_snap; i++)
		if (strcmp(m->snap[i].name, name) == 0 &&
		    overlap(t, &m->snap[i].tree))
			return -EEXIST;
	return 0;
}

static void take_below(struct model_tree *t, const struct model_tree *live,
		       uint32_t id)
{
	const struct model_inode *in = model_inode(live, id);

	if (!model_inode(t, id))
		tree_put(t, id, in);
	for (size_t i = 0; i < in->nr_entry; i++)
		take_below(t, live, in->entry[i].id);
}

static int take_file(struct model_tree *t, const struct model_tree *live,
		     uint32_t dir, const char *name)
{
	uint32_t id = tree_lookup(live, dir, name);
	struct model_inode *frame = model_inode(t, dir);

	if (!id)
		return -ENOENT;
	if (S_ISDIR(model_inode(live, id)->mode))
		return -EISDIR;
	if (!frame) {
		frame = tree_put(t, dir, model_inode(live, dir));
		frame->nr_entry = 0;
		frame->nlink = 2;
		frame->frame = true;
		/* Its attributes are shown, its xattrs are not. */
		inode_clear_xattrs(frame);
	}
	if (tree_lookup(t, dir, name))
		return 0;
	tree_enter(t, dir, name, id);
	if (!model_inode(t, id))
		tree_put(t, id, model_inode(live, id));
	return 0;
}

int model_snap_create(struct model *m, const char *name, const char *dir,
		      const char *file, const char *file2)
{
	struct model_snap s = { .partial = !!file };
	struct place at;
	int err = find_existing(&m->live, MODEL_ROOT, dir, &at);

	if (err)
		return err;
	if (!S_ISDIR(model_inode(&m->live, at.id)->mode))
		return -ENOTDIR;
	s.scope = at.id;
	if (!file)
		take_below(&s.tree, &m->live, at.id);
	else
		err = take_file(&s.tree, &m->live, at.id, file);
	if (!err && file2)
		err = take_file(&s.tree, &m->live, at.id, file2);
	if (!err)
		err = check_free(m, &s.tree, name);
	if (err) {
		tree_free(&s.tree);
		return err;
	}
	strcpy(s.name, name);
	m->snap = model_alloc(m->snap, (m->nr_snap + 1) * sizeof(*m->snap));
	m->snap[m->nr_snap++] = s;
	return 0;
}

int model_snap_delete(struct model *m, const char *name)
{
	struct model_snap *s = model_find_snap(m, name);

	if (!s)
		return -ENOENT;
	tree_free(&s->tree);
	memmove(s, s + 1, (m->snap + m->nr_snap - (s + 1)) * sizeof(*s));
	m->nr_snap--;
	return 0;
}

int model_snap_rename(struct model *m, const char *name, const char *to)
{
	struct model_snap *s = model_find_snap(m, name);
	int err;

	if (!s)
		return -ENOENT;
	if (strcmp(name, to) == 0)
		return 0;
	err = check_free(m, &s->tree, to);
	if (!err)
		strcpy(s->name, to);
	return err;
}

/* ---- rollback --------------------------------------------------------------------------------- */

/* Live inode @id becomes what @from was, but for its links and entries. */
static struct model_inode *restore(struct model *m, const struct model_inode *from,
				   uint32_t id, uint32_t nlink, uint32_t parent)
{
	struct model_inode *in = tree_put(&m->live, id, from);

	in->nlink = nlink;
	in->parent = parent;
	in->frame = false;
	in->nr_entry = 0;
	return in;
}

static int roll_file(struct model *m, const struct model_tree *then, uint32_t dir,
		     const char *name, uint32_t from)
{
	const struct model_inode *old = model_inode(then, from);
	struct place at = { .dir = dir, .id = tree_lookup(&m->live, dir, name) };
	struct model_inode *in = model_inode(&m->live, at.id);
	uint32_t id = from;

	strcpy(at.name, name);
	if (in && S_ISDIR(in->mode))
		return -EISDIR;
	/* Another one with more names stays what it is. */
	if (in && (in->mode & S_IFMT) == (old->mode & S_IFMT) &&
	    (at.id == from || in->nlink == 1)) {
		restore(m, old, at.id, in->nlink, 0);
		return 0;
	}
	if (in)
		drop(m, &at);
	/* It lives elsewhere under another name: that one stays as it is. */
	if (model_inode(&m->live, from))
		id = m->next_id++;
	restore(m, old, id, 1, 0);
	tree_enter(&m->live, dir, name, id);
	return 0;
}

static int roll_frame(struct model *m, const struct model_tree *then, uint32_t dir)
{
	const struct model_inode *frame = model_inode(then, dir);
	int err = 0;

	for (size_t i = 0; !err && i < frame->nr_entry; i++)
		err = roll_file(m, then, dir, frame->entry[i].name,
				frame->entry[i].id);
	return err;
}

/* How many names each inode has below @dir. */
static void count_names(const struct model_tree *t, uint32_t dir, uint32_t *names)
{
	const struct model_inode *in = model_inode(t, dir);

	for (size_t i = 0; i < in->nr_entry; i++) {
		names[in->entry[i].id]++;
		count_names(t, in->entry[i].id, names);
	}
}

/* Everything below @dir loses the names it has there. */
static void clear_below(struct model *m, uint32_t dir, const uint32_t *names)
{
	for (uint32_t id = 1; id < m->next_id; id++) {
		struct model_inode *in = model_inode(&m->live, id);

		if (!in || !names[id])
			continue;
		in->nlink = S_ISDIR(in->mode) ? 0 : in->nlink - names[id];
		in->nr_entry = 0;
		if (!in->nlink)
			tree_remove(&m->live, id);
	}
	model_inode(&m->live, dir)->nr_entry = 0;
}

/* Inode @from of the snapshot comes back below the directory.  One that kept a name
 * outside is rolled back there, too, if it had one inside; else it is another file
 * now and keeps its identity, and ours gets a new one. */
static uint32_t revive(struct model *m, const struct model_tree *then, uint32_t from,
		       uint32_t names, bool was_inside)
{
	const struct model_inode *old = model_inode(then, from);
	const struct model_inode *in = model_inode(&m->live, from);
	uint32_t id = in && !was_inside ? m->next_id++ : from;
	uint32_t outside = in && was_inside ? in->nlink : 0;

	restore(m, old, id, S_ISDIR(old->mode) ? 2 : names + outside, 0);
	return id;
}

static void enter_below(struct model *m, const struct model_tree *then,
			const struct renumber *r, uint32_t dir)
{
	const struct model_inode *in = model_inode(then, dir);

	for (size_t i = 0; i < in->nr_entry; i++) {
		tree_enter(&m->live, r->now[dir], in->entry[i].name,
			   r->now[in->entry[i].id]);
		enter_below(m, then, r, in->entry[i].id);
	}
}

static void roll_dir(struct model *m, const struct model_tree *then, uint32_t dir)
{
	uint32_t nr = m->next_id, parent = model_inode(&m->live, dir)->parent;
	struct renumber live, old, now;

	renumber_init(&live, nr);
	renumber_init(&old, nr);
	renumber_init(&now, nr);
	count_names(&m->live, dir, live.now);
	count_names(then, dir, old.now);
	clear_below(m, dir, live.now);
	for (uint32_t id = 1; id < nr; id++)
		if (old.now[id])
			now.now[id] = revive(m, then, id, old.now[id], live.now[id]);
	now.now[dir] = dir;
	restore(m, model_inode(then, dir), dir, 2, parent);
	enter_below(m, then, &now, dir);
	free(live.now);
	free(old.now);
	free(now.now);
}

int model_rollback(struct model *m, const char *snap, const char *dir,
		   const char *file)
{
	struct model_snap *s = model_find_snap(m, snap);
	const struct model_inode *then;
	struct place at;
	uint32_t from;
	int err = s ? find_existing(&m->live, MODEL_ROOT, dir, &at) : -ENOENT;

	if (err)
		return err;
	then = model_inode(&s->tree, at.id);
	if (file) {
		from = then ? tree_lookup(&s->tree, at.id, file) : 0;
		if (!from)
			return -ENOENT;
		if (S_ISDIR(model_inode(&s->tree, from)->mode))
			return -EISDIR;
		return roll_file(m, &s->tree, at.id, file, from);
	}
	if (!then)
		return -ENOENT;
	if (!S_ISDIR(then->mode))
		return -ENOTDIR;
	if (then->frame)
		return roll_frame(m, &s->tree, at.id);
	if (at.id == MODEL_ROOT && s->scope == MODEL_ROOT) {
		tree_free(&m->live);
		tree_copy(&m->live, &s->tree);
	} else {
		roll_dir(m, &s->tree, at.id);
	}
	return 0;
}
