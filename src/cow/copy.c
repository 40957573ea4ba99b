/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * copy.c - copy_file_range: whole blocks are shared, the unaligned rest is copied.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "file.h"

#define BATCH 128	       /* extents shared in one operation */
#define BOUNCE (256u << 10) /* bytes copied at a time */

struct sharing {
	struct msnap_pool *pool;
	struct msnap_id src;
	uint64_t src_fb; /* first block, in the source */
	uint64_t ino;
	uint64_t fb;	/* first block, in the target */
	uint64_t nr;	/* blocks: in, wanted; out, done */
	uint64_t bytes; /* in: how many of them count, for the target's size */
	struct msnap_ext *ext; /* room for BATCH */
};

/* Collect at most BATCH extents of the source; s->nr shrinks to what they cover. */
static int collect(struct sharing *s, const struct msnap_tree *tree, unsigned *nr)
{
	uint64_t end = s->src_fb + s->nr;
	struct msnap_cursor cur;
	int err = msnap_ext_seek(s->pool, tree, s->src_fb, &cur);

	*nr = 0;
	while (!err) {
		struct msnap_ext *e = &s->ext[*nr];
		uint64_t from, to;

		if (*nr == BATCH) {
			s->nr = msnap_ext_end(e - 1) - s->src_fb;
			return 0;
		}
		msnap_ext_load(&cur, e, true);
		if (e->fb >= end)
			return 0;
		from = e->fb < s->src_fb ? s->src_fb : e->fb;
		to = msnap_ext_end(e) > end ? end : msnap_ext_end(e);
		msnap_ext_slice(e, from - e->fb, to - from);
		++*nr;
		err = msnap_cursor_next(&cur);
	}
	return err == -ENOENT ? 0 : err;
}

static int put_shared(struct sharing *s, struct msnap_tree *tree, unsigned nr)
{
	unsigned i;
	int err = 0;

	for (i = 0; !err && i < nr; i++) {
		struct msnap_ext *e = &s->ext[i];

		e->fb = e->fb - s->src_fb + s->fb;
		err = msnap_ext_put(s->pool, tree, e);
	}
	return err;
}

/* References first: what is cut out of the target may be what is shared. */
static int get_shared(struct sharing *s, unsigned nr, uint64_t *nr_blk)
{
	unsigned i;
	int err = 0;

	*nr_blk = 0;
	for (i = 0; !err && i < nr; i++) {
		err = msnap_op_get(s->pool, s->ext[i].blk, s->ext[i].nr);
		*nr_blk += s->ext[i].nr;
	}
	return err;
}

static int finish(struct sharing *s, struct msnap_inode *in, uint64_t bytes)
{
	uint64_t end = (s->fb << MSNAP_BLOCK_SHIFT) + bytes;

	if (end > get64(in->size))
		in->size = put64(end);
	msnap_inode_changed(in);
	in->mtime = in->ctime;
	return msnap_inode_put(s->pool, &s->pool->ns, s->ino, in, MSNAP_PUT_OLD);
}

static int share_blocks(struct sharing *s, struct msnap_inode *from,
			struct msnap_inode *in)
{
	struct msnap_tree src = msnap_ext_tree(s->src.ino, from);
	struct msnap_tree dst = msnap_ext_tree(s->ino, in);
	uint64_t removed, added;
	unsigned nr;
	int err = collect(s, &src, &nr);

	if (!err)
		err = get_shared(s, nr, &added);
	if (!err)
		err = msnap_ext_punch(s->pool, &dst, s->fb, s->fb + s->nr, &removed);
	if (!err)
		err = put_shared(s, &dst, nr);
	if (err)
		return err;
	in->ext = msnap_ptr_store(dst.root);
	in->nr_blk = put64(get64(in->nr_blk) + added - removed);
	if (s->bytes > s->nr << MSNAP_BLOCK_SHIFT)
		s->bytes = s->nr << MSNAP_BLOCK_SHIFT;
	return finish(s, in, s->bytes);
}

static int do_share(struct sharing *s)
{
	struct msnap_inode from, in;
	int err = msnap_inode_find(s->pool, s->src, &from);

	if (!err)
		err = msnap_file_own(s->pool, s->ino, &in);
	return err ? err : share_blocks(s, &from, &in);
}

static int share(struct sharing *s)
{
	int err;

	s->ext = msnap_malloc(BATCH * sizeof(*s->ext));
	if (!s->ext)
		return -ENOMEM;
	err = msnap_op_begin(s->pool, MSNAP_OP_BLOCKS * 4);
	if (!err)
		err = msnap_op_end(s->pool, MSNAP_GUARD(do_share(s)));
	free(s->ext);
	return err;
}

/* ---- the whole file ------------------------------------------------------------------- */

/* 1: done, *size bytes; 0: not that case. */
static int do_whole(struct msnap_pool *pool, struct msnap_id src, uint64_t ino,
		    uint64_t len, uint64_t *size)
{
	struct msnap_inode from, in;
	int err = msnap_inode_find(pool, src, &from);

	if (!err)
		err = msnap_file_get(pool, ino, &in);
	if (err)
		return err;
	if (!S_ISREG(get32(from.mode)) || get64(in.size) || get64(in.ext.blk) ||
	    len < get64(from.size) || !get64(from.ext.blk))
		return 0;
	err = msnap_op_get(pool, get64(from.ext.blk), 1);
	if (err)
		return err;
	in.ext = from.ext;
	in.nr_blk = from.nr_blk;
	in.size = from.size;
	msnap_inode_changed(&in);
	in.mtime = in.ctime;
	err = msnap_inode_put(pool, &pool->ns, ino, &in, MSNAP_PUT_OLD);
	if (err)
		return err;
	*size = get64(from.size);
	return 1;
}

static int whole(struct msnap_pool *pool, struct msnap_id src, uint64_t ino,
		 uint64_t len, uint64_t *size)
{
	int err = msnap_op_begin(pool, MSNAP_OP_BLOCKS);

	return err ? err : (int)msnap_op_end(pool, MSNAP_GUARD(do_whole(pool, src, ino,
									len, size)));
}

/* ---- any range --------------------------------------------------------------------------- */

static ssize_t bounce(struct msnap_pool *pool, struct msnap_id src, uint64_t src_off,
		      uint64_t ino, uint64_t off, uint64_t len)
{
	uint64_t done = 0;
	ssize_t n = 0;
	uint8_t *buf = msnap_malloc(len < BOUNCE ? len : BOUNCE);

	if (!buf)
		return -ENOMEM;
	while (done < len) {
		n = msnap_pread(pool, src, buf, len - done < BOUNCE ? len - done :
								     BOUNCE,
				src_off + done);
		if (n <= 0)
			break;
		n = msnap_pwrite(pool, ino, buf, n, off + done, false) ?: n;
		if (n < 0)
			break;
		done += n;
	}
	free(buf);
	return done ? (ssize_t)done : n;
}

/* Blocks of the range that can be shared: from *@head bytes on, @*nr of them.  The
 * last may be partial where it ends the source and nothing of the target follows. */
static void shareable(uint64_t src_off, uint64_t src_size, uint64_t off,
		      uint64_t size, uint64_t len, uint64_t *head, uint64_t *bytes)
{
	uint64_t mask = MSNAP_BLOCK_SIZE - 1;

	*head = -src_off & mask;
	*bytes = 0;
	if ((src_off & mask) != (off & mask) || *head >= len)
		return;
	*bytes = len - *head;
	if ((*bytes & mask) && !(src_off + len == src_size && off + len >= size))
		*bytes &= ~mask;
}

static ssize_t share_all(struct msnap_pool *pool, struct msnap_id src,
			 uint64_t src_off, uint64_t ino, uint64_t off,
			 uint64_t bytes)
{
	uint64_t done = 0;

	while (done < bytes) {
		struct sharing s = {
			.pool = pool, .src = src, .ino = ino,
			.src_fb = (src_off + done) >> MSNAP_BLOCK_SHIFT,
			.fb = (off + done) >> MSNAP_BLOCK_SHIFT,
			.bytes = bytes - done,
		};
		int err;

		s.nr = (s.bytes + MSNAP_BLOCK_SIZE - 1) >> MSNAP_BLOCK_SHIFT;
		err = share(&s);
		if (err)
			return done ? (ssize_t)done : err;
		done += s.bytes;
	}
	return done;
}

static ssize_t copy_range(struct msnap_pool *pool, struct msnap_id src,
			  uint64_t src_off, uint64_t src_size, uint64_t ino,
			  uint64_t off, uint64_t size, uint64_t len)
{
	uint64_t head, bytes, done = 0;
	ssize_t n;

	shareable(src_off, src_size, off, size, len, &head, &bytes);
	if (!bytes)
		return bounce(pool, src, src_off, ino, off, len);
	if (head) {
		n = bounce(pool, src, src_off, ino, off, head);
		if (n < (ssize_t)head)
			return n;
		done = head;
	}
	n = share_all(pool, src, src_off + done, ino, off + done, bytes);
	if (n < (ssize_t)bytes)
		return n < 0 && !done ? n : (ssize_t)done + (n > 0 ? n : 0);
	done += bytes;
	if (done < len) {
		n = bounce(pool, src, src_off + done, ino, off + done, len - done);
		done += n > 0 ? n : 0;
	}
	return done;
}

ssize_t msnap_copy_range(struct msnap_pool *pool, struct msnap_id src,
			 uint64_t src_off, uint64_t ino, uint64_t off,
			 uint64_t len)
{
	struct msnap_attr from, to;
	uint64_t size;
	int err = msnap_getattr(pool, src, &from);

	if (!err)
		err = msnap_getattr(pool, msnap_live(ino), &to);
	if (err)
		return err;
	if (!S_ISREG(from.mode) || !S_ISREG(to.mode))
		return S_ISDIR(from.mode) || S_ISDIR(to.mode) ? -EISDIR : -EINVAL;
	if (src_off >= from.size || !len)
		return 0;
	if (len > from.size - src_off)
		len = from.size - src_off;
	if (off > MSNAP_FILE_MAX || len > MSNAP_FILE_MAX - off)
		return -EFBIG;
	if (!src.snap && src.ino == ino && src_off < off + len && off < src_off + len)
		return -EINVAL;
	if (!src_off && !off && len == from.size && !to.size) {
		err = whole(pool, src, ino, len, &size);
		if (err)
			return err < 0 ? err : (ssize_t)size;
	}
	return copy_range(pool, src, src_off, from.size, ino, off, to.size, len);
}
