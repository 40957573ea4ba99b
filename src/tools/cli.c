/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static const struct msnap_cmd *current;

static void print_help(void)
{
	printf("Usage: %s %s\n%s\n\nOptions:\n%s"
	       "  -h, --help             show this help and exit\n"
	       "  -V, --version          show the version and exit\n",
	       current->name, current->args, current->summary,
	       current->options);
}

static void print_version(void)
{
	printf("%s (memsnapfs) %s\n", current->name, PACKAGE_VERSION);
}

static void message(const char *fmt, va_list ap)
{
	fflush(stdout); /* keep the order when both go to one place */
	fprintf(stderr, "%s: ", current->name);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

int msnap_cli_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	message(fmt, ap);
	va_end(ap);
	return MSNAP_EXIT_FAILED;
}

static int try_help(void)
{
	fprintf(stderr, "Try '%s --help'.\n", current->name);
	return MSNAP_EXIT_USAGE;
}

int msnap_cli_usage(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	message(fmt, ap);
	va_end(ap);
	return try_help();
}

/* A result that did not reach its reader is a failure: a full disk, say. */
static int finish(int status)
{
	bool bad = ferror(stdout);

	errno = 0;
	if (fflush(stdout) == 0 && !bad)
		return status;
	return msnap_cli_error("cannot write the output: %s",
			       strerror(errno ? errno : EIO));
}

int msnap_cli_run(const struct msnap_cmd *cmd, int argc, char **argv)
{
	current = cmd;
	/* Characters only: numbers and messages are the same everywhere. */
	setlocale(LC_CTYPE, "");
	return finish(cmd->run(argc, argv));
}

int msnap_cli_getopt(int argc, char **argv, const char *opts,
		     const struct option *longopts)
{
	int opt;

	argv[0] = (char *)current->name; /* getopt's messages begin with it */
	opt = getopt_long(argc, argv, opts, longopts, NULL);
	switch (opt) {
	case 'h':
		print_help();
		exit(finish(0));
	case 'V':
		print_version();
		exit(finish(0));
	case '?':
		exit(try_help());
	default:
		return opt;
	}
}

const char *msnap_cli_reason(int err)
{
	if (err < 0)
		err = -err;
	switch (err) {
	case ENOTTY:
		return "not on a memsnapfs mount";
	case ENOTCONN:
		return "the filesystem's daemon is gone; umount it and mount it again";
	case EROFS:
		return "read-only: it is inside .snap, or the filesystem is mounted "
		       "read-only";
	case ENOSPC:
		return "no space left in the pool; deleting files and restore points "
		       "gives some back";
	case EUCLEAN:
		return "the pool's metadata is damaged here";
	default:
		return strerror(err);
	}
}

int msnap_cli_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}
