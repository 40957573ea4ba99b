/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msnapfs rollback - make a file or directory what it was in a restore point.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control.h"
#include "target.h"
#include "units.h"
#include "verbs.h"

static void print_done(const struct msnap_target *target, const char *safety)
{
	char *quoted = msnap_quote(target->shown);

	printf("rolled back %s to %s", target->shown, target->name);
	/* Generated names need no quotes. */
	if (*safety)
		printf("; undo with: msnapfs rollback %s@%s",
		       quoted ? quoted : target->shown, safety);
	printf("\n");
	free(quoted);
}

static int report(const struct msnap_target *target, int err)
{
	if (err == -ENOENT || err == -ENOTDIR)
		return msnap_cli_error("%s@%s: not rolled back: it was no such "
				       "thing in that restore point",
				       target->shown, target->name);
	return msnap_cli_error("%s@%s: not rolled back: %s", target->shown,
			       target->name, msnap_cli_reason(err));
}

static int rollback(const struct msnap_target *target, uint32_t flags)
{
	struct msnap_ioc_rollback arg = { .flags = flags };
	struct msnap_ioc_snap_entry entry;
	int err;

	if (msnap_target_find(target, &entry))
		return MSNAP_EXIT_FAILED;
	strcpy(arg.name, target->name);
	strcpy(arg.file, target->file);
	err = msnap_cli_ioctl(target->fd, MSNAP_IOC_ROLLBACK, &arg);
	if (err)
		return report(target, err);
	print_done(target, arg.safety);
	return 0;
}

static int run(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "no-safety", no_argument, NULL, 'n' },
		MSNAP_COMMON_LONG
	};
	struct msnap_target target;
	uint32_t flags = 0;
	int status;

	while (msnap_cli_getopt(argc, argv, "nhV", longopts) != -1)
		flags = MSNAP_IOC_ROLLBACK_NO_SAFETY;
	if (argc - optind != 1)
		return msnap_cli_usage("one PATH@NAME is needed");
	status = msnap_target_check(argv[optind]);
	if (status)
		return status;
	if (msnap_target_open_at(&target, argv[optind]))
		return MSNAP_EXIT_FAILED;
	status = rollback(&target, flags);
	msnap_target_close(&target);
	return status;
}

const struct msnap_cmd msnap_cmd_rollback = {
	.name = "msnapfs rollback",
	.args = "[-n] PATH@NAME",
	.summary = "Make a file or directory what it was in a restore point.",
	.options = "  -n, --no-safety        take no restore point of what is there now\n",
	.run = run,
};
