/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msnapfs snap - take one restore point of all its operands at one instant.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control.h"
#include "target.h"
#include "verbs.h"

/* All of them are opened before the first is named to the mount. */
static int open_all(struct msnap_target *targets, char **paths, int nr,
		    int *nr_open)
{
	for (*nr_open = 0; *nr_open < nr; ++*nr_open) {
		struct msnap_target *target = &targets[*nr_open];

		if (msnap_target_open(target, paths[*nr_open], false))
			return MSNAP_EXIT_FAILED;
		if (target->st.st_dev == targets[0].st.st_dev)
			continue;
		++*nr_open;
		return msnap_cli_error("%s: not on the same mount as %s; one "
				       "restore point cannot hold both",
				       target->shown, targets[0].shown);
	}
	return 0;
}

static int report(const struct msnap_target *target, const char *name, int err)
{
	if (err == -EEXIST && *name)
		return msnap_cli_error("%s: the name '%s' is in use by a restore "
				       "point here, above or below; choose another "
				       "or delete that one", target->shown, name);
	return msnap_cli_error("%s: %s", target->shown, msnap_cli_reason(err));
}

/* One call for each target; the last takes the restore point of all. */
static int take(const struct msnap_target *targets, int nr,
		struct msnap_ioc_snap *arg)
{
	int i, err;

	for (i = 0; i < nr; i++) {
		strcpy(arg->file, targets[i].file);
		arg->flags = i < nr - 1 ? MSNAP_IOC_SNAP_MORE : 0;
		err = msnap_cli_ioctl(targets[i].fd, MSNAP_IOC_SNAP, arg);
		if (err)
			return report(&targets[i], arg->name, err);
	}
	return 0;
}

static int snap(char **paths, int nr, struct msnap_ioc_snap *arg)
{
	struct msnap_target *targets = calloc((size_t)nr, sizeof(*targets));
	int nr_open, status;

	if (!targets)
		return msnap_cli_error("%s", msnap_cli_reason(ENOMEM));
	status = open_all(targets, paths, nr, &nr_open);
	if (!status)
		status = take(targets, nr, arg);
	while (nr_open > 0)
		msnap_target_close(&targets[--nr_open]);
	free(targets);
	if (!status)
		printf("%s\n", arg->name);
	return status;
}

static int set_comment(struct msnap_ioc_snap *arg, const char *comment)
{
	if (strlen(comment) > MSNAP_IOC_COMMENT_MAX)
		return msnap_cli_usage("-m: the comment is too long: %zu bytes, at "
				       "most %d are possible", strlen(comment),
				       MSNAP_IOC_COMMENT_MAX);
	strcpy(arg->comment, comment);
	return 0;
}

static int set_name(struct msnap_ioc_snap *arg, const char *name)
{
	int status = msnap_name_check("-n", name);

	if (!status)
		strcpy(arg->name, name);
	return status;
}

static int run(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "name", required_argument, NULL, 'n' },
		{ "comment", required_argument, NULL, 'm' },
		MSNAP_COMMON_LONG
	};
	struct msnap_ioc_snap arg = { 0 };
	int opt, status = 0;

	while (!status &&
	       (opt = msnap_cli_getopt(argc, argv, "n:m:hV", longopts)) != -1)
		status = opt == 'n' ? set_name(&arg, optarg) :
				      set_comment(&arg, optarg);
	if (status)
		return status;
	if (optind == argc)
		return msnap_cli_usage("no PATH given");
	return snap(argv + optind, argc - optind, &arg);
}

const struct msnap_cmd msnap_cmd_snap = {
	.name = "msnapfs snap",
	.args = "[-n NAME] [-m COMMENT] PATH...",
	.summary = "Take a restore point of files and directories, and print its "
		   "name.",
	.options = "  -n, --name NAME        its name; without one, the local time\n"
		   "  -m, --comment COMMENT  a line about it, shown by msnapfs list\n",
	.run = run,
};
