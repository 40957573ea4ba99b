/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msnapfs rename - give a restore point another name.
 */
#include <errno.h>
#include <string.h>

#include "fs/control.h"
#include "target.h"
#include "verbs.h"

static int rename_point(const struct msnap_target *target, const char *new_name)
{
	struct msnap_ioc_snap_rename arg = { 0 };
	struct msnap_ioc_snap_entry entry;
	int err;

	if (msnap_target_find(target, &entry))
		return MSNAP_EXIT_FAILED;
	strcpy(arg.name, target->name);
	strcpy(arg.new_name, new_name);
	err = msnap_cli_ioctl(target->fd, MSNAP_IOC_SNAP_RENAME, &arg);
	if (!err)
		return 0;
	if (err == -EEXIST)
		return msnap_cli_error("%s@%s: the name '%s' is in use by a restore "
				       "point here, above or below", target->shown,
				       target->name, new_name);
	return msnap_cli_error("%s@%s: %s", target->shown, target->name,
			       msnap_cli_reason(err));
}

static int run(int argc, char **argv)
{
	static const struct option longopts[] = { MSNAP_COMMON_LONG };
	struct msnap_target target;
	int status;

	msnap_cli_getopt(argc, argv, "hV", longopts);
	if (argc - optind != 2)
		return msnap_cli_usage("PATH@NAME and a new name are needed");
	status = msnap_target_check(argv[optind]);
	if (!status)
		status = msnap_name_check(argv[optind + 1], argv[optind + 1]);
	if (status)
		return status;
	if (msnap_target_open_at(&target, argv[optind]))
		return MSNAP_EXIT_FAILED;
	status = rename_point(&target, argv[optind + 1]);
	msnap_target_close(&target);
	return status;
}

const struct msnap_cmd msnap_cmd_rename = {
	.name = "msnapfs rename",
	.args = "PATH@NAME NEWNAME",
	.summary = "Give a restore point another name.",
	.options = "",
	.run = run,
};
