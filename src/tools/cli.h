/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cli.h - what all programs of memsnapfs have in common: how they read options,
 * complain, and end.
 *
 * What it is: a program describes itself in a struct msnap_cmd; the functions
 * here then give it --help, --version, messages that begin with its name, and
 * an exit status.
 *
 * What it does not do: it opens nothing and prints no results.
 *
 * Messages are one line on the standard error, "PROGRAM: THING: what is wrong",
 * with the remedy where there is one.  Exit status: 0; 1, something failed; 2,
 * the program was called wrongly and has done nothing.
 *
 * Locking: none; the programs have one thread.
 */
#ifndef MSNAP_TOOLS_CLI_H
#define MSNAP_TOOLS_CLI_H

#include <getopt.h>
#include <stdbool.h>

#define MSNAP_EXIT_FAILED 1
#define MSNAP_EXIT_USAGE 2

struct msnap_cmd {
	const char *name;    /* as messages show it: "msnapfs snap" */
	const char *args;    /* behind the name in the usage line */
	const char *summary; /* one line */
	const char *options; /* one line for each, without --help, --version */
	int (*run)(int argc, char **argv); /* returns the exit status */
};

/* Every program's table of options ends with these (and a zero entry). */
#define MSNAP_COMMON_LONG                                   \
	{ "help", no_argument, NULL, 'h' },                 \
	{ "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 }

/*
 * Run @cmd: set its name for messages, call it, and see to it that what it
 * printed has arrived.  Returns the exit status.
 */
int msnap_cli_run(const struct msnap_cmd *cmd, int argc, char **argv);

/*
 * getopt_long(3), which deals with -h and -V (@opts must have both) and with
 * unknown options by itself: it does not return then.
 */
int msnap_cli_getopt(int argc, char **argv, const char *opts,
		     const struct option *longopts);

/* A message.  Returns 1, the exit status of failure. */
int msnap_cli_error(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));

/* A message about how the program was called.  Returns 2. */
int msnap_cli_usage(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));

/* What an errno (positive or negative) means to a user of memsnapfs. */
const char *msnap_cli_reason(int err);

/* ioctl(2) on an open file of a mount: 0 or a negative errno. */
int msnap_cli_ioctl(int fd, unsigned long request, void *arg);

#endif
