/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msnapfs - restore points, clones and rollback of a mounted memsnapfs.
 *
 * Called as "msnapfs VERB" or, through a link, as "msnapfs-VERB".
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "verbs.h"

static const struct msnap_cmd *const verbs[] = {
	&msnap_cmd_snap,   &msnap_cmd_list,	&msnap_cmd_delete,
	&msnap_cmd_rename, &msnap_cmd_clone, &msnap_cmd_rollback,
	&msnap_cmd_info,   &msnap_cmd_scrub,
};

#define PREFIX "msnapfs "
#define NR_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static const char *verb_name(const struct msnap_cmd *cmd)
{
	return cmd->name + strlen(PREFIX);
}

static const struct msnap_cmd *find_verb(const char *name)
{
	size_t i;

	for (i = 0; i < NR_VERBS; i++)
		if (!strcmp(name, verb_name(verbs[i])))
			return verbs[i];
	return NULL;
}

static void print_verbs(void)
{
	size_t i;

	printf("Usage: msnapfs VERB [ARGUMENT...]\n"
	       "       msnapfs --version\n"
	       "Restore points, clones and rollback of a mounted memsnapfs.\n\n"
	       "Verbs:\n");
	for (i = 0; i < NR_VERBS; i++)
		printf("  %-9s  %s\n", verb_name(verbs[i]), verbs[i]->summary);
	printf("\n'msnapfs VERB --help' shows a verb's arguments.\n");
}

static bool is_help(const char *arg)
{
	return !strcmp(arg, "help") || !strcmp(arg, "-h") ||
	       !strcmp(arg, "--help");
}

/* No verb: help, the version, or a mistake. */
static int run_overview(int argc, char **argv)
{
	static const struct option longopts[] = { MSNAP_COMMON_LONG };

	if (argc == 2 && is_help(argv[1])) {
		print_verbs();
		return 0;
	}
	if (argc > 2 && is_help(argv[1]))
		return msnap_cli_usage("%s: no such verb", argv[2]);
	if (msnap_cli_getopt(argc, argv, "+hV", longopts) == -1 &&
	    optind < argc)
		return msnap_cli_usage("%s: no such verb", argv[optind]);
	return msnap_cli_usage("a verb is needed");
}

static const struct msnap_cmd overview = {
	.name = "msnapfs",
	.args = "VERB [ARGUMENT...]",
	.summary = "Restore points, clones and rollback of a mounted memsnapfs.",
	.options = "",
	.run = run_overview,
};

/* The verb in the name that the program was called by, or NULL. */
static const struct msnap_cmd *verb_of_link(const char *argv0)
{
	static const char prefix[] = "msnapfs-";
	const char *slash = strrchr(argv0, '/');
	const char *base = slash ? slash + 1 : argv0;

	if (strncmp(base, prefix, strlen(prefix)) != 0)
		return NULL;
	return find_verb(base + strlen(prefix));
}

int main(int argc, char **argv)
{
	char *help[] = { (char *)"msnapfs", (char *)"--help", NULL };
	const struct msnap_cmd *cmd;

	cmd = argc > 0 ? verb_of_link(argv[0]) : NULL;
	if (cmd)
		return msnap_cli_run(cmd, argc, argv);
	cmd = argc > 1 ? find_verb(argv[1]) : NULL;
	if (cmd)
		return msnap_cli_run(cmd, argc - 1, argv + 1);
	cmd = argc == 3 && is_help(argv[1]) ? find_verb(argv[2]) : NULL;
	if (cmd)
		return msnap_cli_run(cmd, 2, help);
	return msnap_cli_run(&overview, argc, argv);
}
