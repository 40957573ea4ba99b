/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * read.c - reading contents, without the lock while they are copied.
 *
 * A reader pins the generation it began in: blocks that it was given may be freed
 * meanwhile, but not written again before it ends (commit.c waits).  Only blocks of
 * the running generation change in place, and those were written by us and need no
 * verification.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "csum.h"
#include "file.h"

/* Holes read from here; never stored to, so it is the kernel's zero page. */
#define ZEROS (1u << 20)
static uint8_t zeros[ZEROS];

/* ---- verification -------------------------------------------------------------------- */

static int verify(struct msnap_pool *pool, uint64_t blk, uint64_t csum)
{
	return msnap_csum_data(msnap_blk_ptr(pool, blk), blk) == csum ? 0 : -EIO;
}

int msnap_data_verify(struct msnap_pool *pool, uint64_t ino, uint64_t fb,
		      uint64_t blk, uint64_t csum)
{
	if (msnap_ok_test(pool->data_ok, blk))
		return 0;
	if (MSNAP_GUARD(verify(pool, blk, csum))) {
		msnap_log(pool, LOG_ERR, "inode %llu, offset %llu: the data in block "
			  "%llu are damaged",
			  (unsigned long long)ino,
			  (unsigned long long)fb << MSNAP_BLOCK_SHIFT,
			  (unsigned long long)blk);
		return -EIO;
	}
	msnap_ok_set(pool->data_ok, blk, 1);
	return 0;
}

/* ---- collecting ------------------------------------------------------------------------ */

struct unverified {
	uint64_t fb, blk, csum;
};

struct collecting {
	struct msnap_pool *pool;
	struct msnap_read *read;
	uint64_t pos, end; /* bytes */
	struct unverified todo[MSNAP_READ_IOV];
	unsigned nr_todo;
};

/* false: no room. */
static bool add_iov(struct collecting *c, uint8_t *base, size_t len)
{
	struct msnap_read *r = c->read;
	struct iovec *last = r->nr ? &r->iov[r->nr - 1] : NULL;

	if (last && base != zeros && (uint8_t *)last->iov_base + last->iov_len == base)
		last->iov_len += len;
	else if (r->nr < MSNAP_READ_IOV)
		r->iov[r->nr++] = (struct iovec){ base, len };
	else
		return false;
	c->pos += len;
	r->len += len;
	return true;
}

static bool add_hole(struct collecting *c, uint64_t upto)
{
	if (upto > c->end)
		upto = c->end;
	while (c->pos < upto) {
		size_t n = upto - c->pos < ZEROS ? upto - c->pos : ZEROS;

		if (!add_iov(c, zeros, n))
			return false;
	}
	return true;
}

static bool add_blocks(struct collecting *c, const struct msnap_ext *ext)
{
	while (c->pos < c->end) {
		uint64_t fb = c->pos >> MSNAP_BLOCK_SHIFT, i = fb - ext->fb;
		unsigned skip = c->pos % MSNAP_BLOCK_SIZE;
		size_t n = MSNAP_BLOCK_SIZE - skip;

		if (i >= ext->nr)
			return true;
		if (n > c->end - c->pos)
			n = c->end - c->pos;
		if (!ext->flags && !msnap_ok_test(c->pool->data_ok, ext->blk + i)) {
			if (c->nr_todo == MSNAP_READ_IOV)
				return false;
			c->todo[c->nr_todo++] = (struct unverified){
				fb, ext->blk + i, get64(ext->csum[i])
			};
		}
		if (!add_iov(c, (uint8_t *)msnap_blk_ptr(c->pool, ext->blk + i) + skip,
			     n))
			return false;
	}
	return true;
}

static int collect(struct collecting *c, const struct msnap_tree *tree)
{
	struct msnap_cursor cur;
	int err = msnap_ext_seek(c->pool, tree, c->pos >> MSNAP_BLOCK_SHIFT, &cur);

	while (!err && c->pos < c->end) {
		struct msnap_ext ext;

		msnap_ext_load(&cur, &ext, true);
		if (!add_hole(c, ext.fb << MSNAP_BLOCK_SHIFT) || c->pos >= c->end)
			return 0;
		if (ext.flags & MSNAP_EXT_UNWRITTEN) {
			if (!add_hole(c, msnap_ext_end(&ext) << MSNAP_BLOCK_SHIFT))
				return 0;
		} else if (!add_blocks(c, &ext)) {
			return 0;
		}
		err = msnap_cursor_next(&cur);
	}
	if (err && err != -ENOENT)
		return err;
	add_hole(c, c->end);
	return 0;
}

static int begin(struct msnap_pool *pool, struct msnap_id id, size_t len,
		 struct collecting *c)
{
	struct msnap_inode in;
	struct msnap_tree tree;
	uint64_t size;
	int err = msnap_inode_find(pool, id, &in);

	if (err)
		return err;
	if (!S_ISREG(get32(in.mode)))
		return S_ISDIR(get32(in.mode)) ? -EISDIR : -EINVAL;
	size = get64(in.size);
	c->end = c->pos >= size ? c->pos :
		 len < size - c->pos ? c->pos + len : size;
	c->read->nr = 0;
	c->read->len = 0;
	tree = msnap_ext_tree(id.ino, &in);
	err = collect(c, &tree);
	if (err)
		return err;
	c->read->slot = pool->gen % MSNAP_READER_SLOTS;
	atomic_fetch_add(&pool->readers[c->read->slot], 1);
	return 0;
}

int msnap_read_begin(struct msnap_pool *pool, struct msnap_id id, uint64_t off,
		     size_t len, struct msnap_read *read)
{
	struct collecting c = { .pool = pool, .read = read, .pos = off };
	unsigned i;
	int err;

	c.nr_todo = 0;
	err = MSNAP_LOOK(pool, begin(pool, id, len, &c));
	if (err)
		return err;
	for (i = 0; !err && i < c.nr_todo; i++)
		err = msnap_data_verify(pool, id.ino, c.todo[i].fb, c.todo[i].blk,
					c.todo[i].csum);
	if (err)
		msnap_read_end(pool, read);
	return err;
}

void msnap_read_end(struct msnap_pool *pool, struct msnap_read *read)
{
	atomic_fetch_sub(&pool->readers[read->slot], 1);
}

static int copy_out(const struct msnap_read *read, uint8_t *buf)
{
	unsigned i;

	for (i = 0; i < read->nr; i++) {
		memcpy(buf, read->iov[i].iov_base, read->iov[i].iov_len);
		buf += read->iov[i].iov_len;
	}
	return 0;
}

ssize_t msnap_pread(struct msnap_pool *pool, struct msnap_id id, void *buf,
		    size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		struct msnap_read read;
		int err = msnap_read_begin(pool, id, off + done, len - done, &read);

		if (err)
			return done ? (ssize_t)done : err;
		err = MSNAP_GUARD(copy_out(&read, (uint8_t *)buf + done));
		msnap_read_end(pool, &read);
		if (err)
			return done ? (ssize_t)done : err;
		if (!read.len)
			break;
		done += read.len;
	}
	return done;
}

/* ---- seek and map ------------------------------------------------------------------------- */

static int find(struct msnap_pool *pool, struct msnap_id id, struct msnap_inode *in,
		struct msnap_tree *tree)
{
	int err = msnap_inode_find(pool, id, in);

	if (err)
		return err;
	if (!S_ISREG(get32(in->mode)))
		return -EINVAL;
	*tree = msnap_ext_tree(id.ino, in);
	return 0;
}

/* The first byte at or behind @off that is data (or, with !@data, hole). */
static int seek(struct msnap_pool *pool, const struct msnap_tree *tree,
		uint64_t off, uint64_t size, bool data, uint64_t *out)
{
	struct msnap_cursor cur;
	int err = msnap_ext_seek(pool, tree, off >> MSNAP_BLOCK_SHIFT, &cur);

	while (!err) {
		struct msnap_ext ext;
		uint64_t start, end;

		msnap_ext_load(&cur, &ext, false);
		start = ext.fb << MSNAP_BLOCK_SHIFT;
		end = msnap_ext_end(&ext) << MSNAP_BLOCK_SHIFT;
		if (start >= size)
			break;
		if (!(ext.flags & MSNAP_EXT_UNWRITTEN)) {
			if (data) {
				*out = start > off ? start : off;
				return 0;
			}
			if (start > off)
				break;
			off = end;
		}
		err = msnap_cursor_next(&cur);
	}
	if (err && err != -ENOENT)
		return err;
	if (data)
		return -ENXIO;
	*out = off < size ? off : size;
	return 0;
}

static int seek_in(struct msnap_pool *pool, struct msnap_id id, uint64_t off,
		   bool data, uint64_t *out)
{
	struct msnap_inode in;
	struct msnap_tree tree;
	int err = find(pool, id, &in, &tree);

	if (err)
		return err;
	if (off >= get64(in.size))
		return -ENXIO;
	return seek(pool, &tree, off, get64(in.size), data, out);
}

int msnap_seek(struct msnap_pool *pool, struct msnap_id id, uint64_t off,
	       int whence, uint64_t *out)
{
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	return MSNAP_LOOK(pool, seek_in(pool, id, off, whence == SEEK_DATA, out));
}

/* Counts are lazy: a block is shared when anything on the way to it is.  The highest
 * count on the way to what the cursor stands on. */
static uint32_t path_count(const struct msnap_cursor *cur)
{
	uint32_t max = 0;
	unsigned i;

	for (i = 0; i <= cur->top; i++) {
		uint32_t n = msnap_space_count(cur->pool->space,
					       get64(cur->node[i]->blk));

		max = n > max ? n : max;
	}
	return max;
}

/* The same on the way to the inode. */
static uint32_t inode_count(struct msnap_pool *pool, struct msnap_id id)
{
	struct msnap_cursor cur;
	struct msnap_tree ns;

	if (msnap_ns_of(pool, id.snap, &ns) ||
	    msnap_cursor_seek(pool, &ns, msnap_ns_key(id.ino, MSNAP_NS_INODE, 0),
			      &cur))
		return 0;
	return path_count(&cur);
}

static_assert(MSNAP_PIECE_UNWRITTEN == MSNAP_EXT_UNWRITTEN, "cow.h tells of format.h");

static void to_piece(const struct msnap_cursor *cur, const struct msnap_ext *ext,
		     uint32_t outer, struct msnap_piece *p)
{
	uint32_t path = path_count(cur);

	*p = (struct msnap_piece){ ext->fb << MSNAP_BLOCK_SHIFT,
				   (uint64_t)ext->nr << MSNAP_BLOCK_SHIFT, ext->blk,
				   ext->flags,
				   msnap_space_count(cur->pool->space, ext->blk) };
	if (p->count < path)
		p->count = path;
	if (p->count < outer)
		p->count = outer;
}

static bool joins(const struct msnap_piece *a, const struct msnap_piece *b)
{
	return a->off + a->len == b->off && a->flags == b->flags &&
	       a->count == b->count &&
	       a->blk + (a->len >> MSNAP_BLOCK_SHIFT) == b->blk;
}

static int map(struct msnap_pool *pool, const struct msnap_tree *tree, uint64_t off,
	       uint32_t outer, int (*cb)(void *arg, const struct msnap_piece *piece), void *arg)
{
	struct msnap_piece have = { 0 }, next;
	struct msnap_cursor cur;
	int err = msnap_ext_seek(pool, tree, off >> MSNAP_BLOCK_SHIFT, &cur);

	while (!err) {
		struct msnap_ext ext;

		msnap_ext_load(&cur, &ext, false);
		to_piece(&cur, &ext, outer, &next);
		if (have.len && joins(&have, &next)) {
			have.len += next.len;
		} else {
			if (have.len && cb(arg, &have))
				return 0;
			have = next;
		}
		err = msnap_cursor_next(&cur);
	}
	if (err != -ENOENT)
		return err;
	if (have.len)
		cb(arg, &have);
	return 0;
}

static int map_of(struct msnap_pool *pool, struct msnap_id id, uint64_t off,
		  int (*cb)(void *arg, const struct msnap_piece *piece), void *arg)
{
	struct msnap_inode in;
	struct msnap_tree tree;
	int err = find(pool, id, &in, &tree);

	return err ? err : map(pool, &tree, off, inode_count(pool, id), cb, arg);
}

int msnap_map(struct msnap_pool *pool, struct msnap_id id, uint64_t off,
	      int (*cb)(void *arg, const struct msnap_piece *piece), void *arg)
{
	return MSNAP_LOOK(pool, map_of(pool, id, off, cb, arg));
}
