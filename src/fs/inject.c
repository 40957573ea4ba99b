/* SPDX-License-Identifier: GPL-2.0-or-later */
/* inject.c - see inject.h. */
#include "inject.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "opts.h"
#include "reply.h"

static int inject(struct fs *fs, struct msnap_fs_inject *arg)
{
	uint64_t seen = 0;
	int err;

	if (arg->reserved)
		return -EINVAL;
	if (arg->what == MSNAP_FS_INJECT_HEAP) {
		err = msnap_fs_heap_fail ? 0 : -EOPNOTSUPP;
		seen = err ? 0 : msnap_fs_heap_fail(arg->nth);
	} else {
		err = msnap_inject(fs->pool, arg->what, arg->nth, &seen);
	}
	arg->seen = seen;
	return err;
}

void msnap_fs_inject_ioctl(fuse_req_t req, const void *in, size_t in_size)
{
	struct fs *fs = msnap_fs_of(req);
	uid_t uid = fuse_req_ctx(req)->uid;
	struct msnap_fs_inject arg;
	int err = -ENOTTY;

	if (fs->opts->inject && in_size == sizeof(arg)) {
		memcpy(&arg, in, sizeof(arg));
		err = uid == 0 || uid == geteuid() ? inject(fs, &arg) : -EPERM;
	}
	if (err)
		msnap_fs_reply(req, err);
	else
		fuse_reply_ioctl(req, 0, &arg, sizeof(arg));
}
