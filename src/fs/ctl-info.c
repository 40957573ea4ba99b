/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ctl-info.c - see ctl-info.h. */
#include "ctl-info.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "direct.h"
#include "node.h"
#include "reply.h"
#include "snapdir.h"
#include "table.h"

static uint64_t to_ns(const struct timespec *time)
{
	return (uint64_t)time->tv_sec * 1000000000ull + (uint64_t)time->tv_nsec;
}

/* The end of a path says more than its beginning. */
static void copy_tail(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);

	if (len >= size) {
		from += len - (size - 1);
		len = size - 1;
	}
	memcpy(to, from, len + 1);
}

static void info_of_pool(struct msnap_ioc_info *out,
			 const struct msnap_pool_info *pool)
{
	const uint64_t bs = pool->block_size;

	copy_tail(out->pool, sizeof(out->pool), pool->path);
	snprintf(out->label, sizeof(out->label), "%s", pool->label);
	memcpy(out->uuid, pool->uuid, sizeof(out->uuid));
	snprintf(out->granularity, sizeof(out->granularity), "%s",
		 pool->granularity);
	out->read_only = pool->read_only;
	out->size = pool->size;
	out->free = pool->nr_free * bs;
	out->reserve = pool->nr_reserve * bs;
	out->shared = pool->nr_shared * bs;
	out->generation = pool->generation;
	out->nr_commits = pool->nr_commits;
	out->nr_inodes = pool->nr_inodes;
	out->nr_snaps = pool->nr_snaps;
	out->nr_background = pool->nr_background;
	out->nr_fragments = pool->nr_space_runs;
	out->block_size = (uint32_t)bs;
}

static void info_of_mount(struct msnap_ioc_info *out, struct fs *fs)
{
	snprintf(out->version, sizeof(out->version), "%s", PACKAGE_VERSION);
	snprintf(out->mode, sizeof(out->mode), "%s", fs->mode);
	snprintf(out->mode_why, sizeof(out->mode_why), "%s", fs->mode_why);
	out->was_clean = fs->was_clean;
	out->nr_reads = fs->nr_reads;
	out->nr_writes = fs->nr_writes;
	out->bytes_read = fs->bytes_read;
	out->bytes_written = fs->bytes_written;
	out->nr_open = msnap_fs_nodes_nr_open(fs->nodes);
	out->pid = (uint32_t)getpid();
}

static int reply_info(fuse_req_t req, struct fs *fs)
{
	struct msnap_ioc_info out = { 0 };
	struct msnap_pool_info pool;
	int err = msnap_pool_info(fs->pool, &pool);

	if (err)
		return err;
	info_of_pool(&out, &pool);
	info_of_mount(&out, fs);
	fuse_reply_ioctl(req, 0, &out, sizeof(out));
	return 0;
}

static int add_piece(void *arg, const struct msnap_piece *piece)
{
	struct msnap_ioc_file *out = arg;

	out->allocated += piece->len;
	if (piece->count == 1)
		out->exclusive += piece->len;
	out->nr_extents++;
	return 0;
}

static int reply_file(fuse_req_t req, struct fs *fs, uint64_t node)
{
	struct msnap_ioc_file out = { .ino = node };
	struct msnap_attr attr;
	int err = msnap_fs_attr(fs, node, &attr);

	if (err)
		return err;
	out.size = attr.size;
	if (!msnap_fs_is_snapdir(node))
		out.snap = msnap_fs_id(node).snap;
	if (S_ISREG(attr.mode))
		err = msnap_map(fs->pool, msnap_fs_id(node), 0, add_piece,
				&out);
	if (err)
		return err;
	out.nr_open = msnap_fs_node_nr_open(fs->nodes, node);
	if (out.nr_open)
		snprintf(out.mode, sizeof(out.mode), "%s",
			 msnap_fs_direct_mode(fs, node));
	fuse_reply_ioctl(req, 0, &out, sizeof(out));
	return 0;
}

static void fill_snap(struct msnap_ioc_snap_entry *out,
		      const struct msnap_snap_info *info)
{
	memset(out, 0, sizeof(*out));
	out->id = info->id;
	out->time_ns = to_ns(&info->time);
	out->scope = info->scope;
	out->nr_inodes = info->nr_inodes;
	out->generation = info->gen;
	out->holds = info->holds;
	out->uid = info->uid;
	out->partial = info->partial;
	snprintf(out->name, sizeof(out->name), "%s", info->name);
	snprintf(out->comment, sizeof(out->comment), "%s", info->comment);
}

static int fill_list(struct fs *fs, const struct msnap_fs_snaplist *list,
		     struct msnap_ioc_snap_list *out)
{
	for (size_t i = 0; i < list->nr && out->nr < MSNAP_IOC_LIST_MAX; i++) {
		struct msnap_snap_info info;
		int err;

		if (list->shown[i].hidden || list->shown[i].id <= out->after)
			continue;
		err = msnap_snap_get(fs->pool, list->shown[i].id, &info);
		if (err == -ENOENT)
			continue; /* deleted meanwhile */
		if (err)
			return err;
		fill_snap(&out->entry[out->nr++], &info);
	}
	return 0;
}

static int check_list(const struct msnap_ioc_snap_list *arg)
{
	if (arg->reserved)
		return -EINVAL;
	return arg->file[0] ? msnap_fs_check_name(arg->file, sizeof(arg->file),
						  255)
			    : 0;
}

/* On .snap itself it tells of the directory that .snap is in. */
static int reply_list(fuse_req_t req, struct fs *fs, uint64_t node,
		      const struct msnap_ioc_snap_list *arg)
{
	struct msnap_fs_snaplist list;
	struct msnap_ioc_snap_list *out;
	int err = check_list(arg);

	if (!err && !msnap_fs_is_live(node) && !msnap_fs_is_snapdir(node))
		err = -EROFS;
	if (err)
		return err;
	err = msnap_fs_snaplist_load(fs, msnap_fs_ino(node),
				     arg->file[0] ? arg->file : NULL, &list);
	if (err)
		return err;
	out = calloc(1, sizeof(*out));
	err = out ? 0 : -ENOMEM;
	if (!err) {
		out->after = arg->after;
		memcpy(out->file, arg->file, sizeof(out->file));
		err = fill_list(fs, &list, out);
	}
	if (!err)
		fuse_reply_ioctl(req, 0, out, sizeof(*out));
	free(out);
	msnap_fs_snaplist_free(&list);
	return err;
}

static int reply_ref(fuse_req_t req, struct fs *fs, uint64_t node)
{
	struct msnap_ioc_ref out;
	int err = msnap_fs_ref_make(fs->table, node, &out);

	if (!err)
		fuse_reply_ioctl(req, 0, &out, sizeof(out));
	return err;
}

void msnap_fs_info_ioctl(fuse_req_t req, uint64_t node, unsigned cmd, bool dir,
			 const void *in, size_t in_size, size_t out_size)
{
	struct fs *fs = msnap_fs_of(req);
	int err = -ENOTTY;

	/* The size is part of the number, so it is right when the number is. */
	if (cmd == MSNAP_IOC_INFO && out_size == sizeof(struct msnap_ioc_info))
		err = reply_info(req, fs);
	else if (cmd == MSNAP_IOC_FILE &&
		 out_size == sizeof(struct msnap_ioc_file))
		err = reply_file(req, fs, node);
	else if (cmd == MSNAP_IOC_REF &&
		 out_size == sizeof(struct msnap_ioc_ref))
		err = reply_ref(req, fs, node);
	else if (cmd == MSNAP_IOC_SNAP_LIST &&
		 in_size == sizeof(struct msnap_ioc_snap_list))
		err = dir ? reply_list(req, fs, node, in) : -ENOTDIR;
	if (err)
		msnap_fs_reply(req, err);
}
