/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msnapfs delete - delete restore points.
 *
 * All operands are looked up before the first is deleted, so that those which
 * mean the same one (taken together) delete it once, and no failure.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control.h"
#include "target.h"
#include "verbs.h"

struct victim {
	struct msnap_target target;
	uint64_t id; /* 0: not found, or the same as an earlier one */
};

static bool seen(const struct victim *victims, int nr, uint64_t id, dev_t dev)
{
	int i;

	for (i = 0; i < nr; i++)
		if (victims[i].id == id && victims[i].target.st.st_dev == dev)
			return true;
	return false;
}

/* The deletion goes on without an operand that cannot be found. */
static int look_up(struct victim *victims, int i, const char *operand)
{
	struct msnap_target *target = &victims[i].target;
	struct msnap_ioc_snap_entry entry;

	if (msnap_target_open_at(target, operand)) {
		memset(target, 0, sizeof(*target));
		target->fd = -1;
		return MSNAP_EXIT_FAILED;
	}
	if (msnap_target_find(target, &entry))
		return MSNAP_EXIT_FAILED;
	/* The path may be gone; its directory is on the same filesystem. */
	if (fstat(target->fd, &target->st) < 0)
		return msnap_cli_error("%s: %s", target->dir,
				       msnap_cli_reason(errno));
	if (!seen(victims, i, entry.id, target->st.st_dev))
		victims[i].id = entry.id;
	return 0;
}

static int delete_one(const struct msnap_target *target)
{
	struct msnap_ioc_snap_delete arg = { 0 };
	int err;

	strcpy(arg.name, target->name);
	err = msnap_cli_ioctl(target->fd, MSNAP_IOC_SNAP_DELETE, &arg);
	if (!err)
		return 0;
	if (err == -ENOENT)
		return msnap_target_no_point(target->shown, target->name);
	return msnap_cli_error("%s@%s: %s", target->shown, target->name,
			       err == -EBUSY ? "the restore point is held" :
					       msnap_cli_reason(err));
}

static int delete(char **operands, int nr)
{
	struct victim *victims = calloc((size_t)nr, sizeof(*victims));
	int i, status = 0;

	if (!victims)
		return msnap_cli_error("%s", msnap_cli_reason(ENOMEM));
	for (i = 0; i < nr; i++)
		status |= look_up(victims, i, operands[i]);
	for (i = 0; i < nr; i++)
		if (victims[i].id)
			status |= delete_one(&victims[i].target);
	for (i = 0; i < nr; i++)
		msnap_target_close(&victims[i].target);
	free(victims);
	return status;
}

static int run(int argc, char **argv)
{
	static const struct option longopts[] = { MSNAP_COMMON_LONG };
	int i, status;

	/* No options of its own: the call returns when there are none. */
	msnap_cli_getopt(argc, argv, "hV", longopts);
	if (optind == argc)
		return msnap_cli_usage("no PATH@NAME given");
	for (i = optind; i < argc; i++) {
		status = msnap_target_check(argv[i]);
		if (status)
			return status;
	}
	return delete(argv + optind, argc - optind);
}

const struct msnap_cmd msnap_cmd_delete = {
	.name = "msnapfs delete",
	.args = "PATH@NAME...",
	.summary = "Delete restore points.",
	.options = "",
	.run = run,
};
