/* SPDX-License-Identifier: GPL-2.0-or-later */
/* opts.c - see opts.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "opts.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs.h"

#define PROGRAM "mount.memsnapfs"

static const char usage[] =
	"Usage: " PROGRAM " POOL DIR [-o OPTION,...] [-f] [-d]\n"
	"Mount the memsnapfs pool POOL (a file or device) on the directory DIR.\n"
	"\n"
	"  -o OPTION,...      mount options, see below\n"
	"  -r, -w             read-only, read-write\n"
	"  -f                 stay in the foreground, log to stderr\n"
	"  -d                 print every request (implies -f)\n"
	"  -h, --help         print this and exit\n"
	"  -V, --version      print the version and exit\n"
	"  -n, -s, -v, -t, -N accepted from mount(8) and ignored\n"
	"\n"
	"Mount options:\n"
	"  mode=auto|direct|cached\n"
	"                     how files are mapped (default auto)\n"
	"  snapdir=hidden|visible\n"
	"                     list .snap in directories (default hidden)\n"
	"  commit=SECONDS     longest time between commits (default 5)\n"
	"  ro, rw             read-only, read-write\n"
	"  allow_other        let other users in; permissions are checked\n"
	"  allow_root         let root in\n"
	"  nosuid, nodev, noexec, ... and what else mount(8) and fstab(5) know\n"
	"\n"
	"The mount is ready when the program returns.  Unmount with umount DIR\n"
	"(fusermount3 -u DIR for users).\n";

/* Exit with one line: what is wrong, and what helps. */
static enum msnap_fs_parsed bad(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));

static enum msnap_fs_parsed bad(const char *fmt, ...)
{
	va_list ap;

	fputs(PROGRAM ": ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return MSNAP_FS_PARSED_BAD;
}

/* Options that are for mount(8), or that change nothing here. */
static const char *const ignored[] = {
	"defaults", "auto",	"noauto",     "user",	   "users",
	"nouser",   "owner",	"group",      "nofail",	   "_netdev",
	"relatime", "norelatime", "noatime",  "atime",	   "strictatime",
	"nostrictatime", "diratime", "nodiratime", "lazytime", "nolazytime",
	"async",    "iversion", "noiversion", "silent",	   "loud",
	"mand",	    "nomand",	"rw",
};

/* Options that libfuse or the kernel understand. */
static const char *const passed_on[] = {
	"allow_other", "allow_root", "auto_unmount", "suid",  "nosuid",
	"dev",	       "nodev",	     "exec",	     "noexec", "sync",
	"dirsync",
};

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static bool is_one_of(const char *opt, const char *const *list, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (strcmp(opt, list[i]) == 0)
			return true;
	return false;
}

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_ignored(const char *opt)
{
	return is_one_of(opt, ignored, NR(ignored)) || has_prefix(opt, "x-") ||
	       has_prefix(opt, "X-") || has_prefix(opt, "comment=") ||
	       has_prefix(opt, "user=") || has_prefix(opt, "uhelper=") ||
	       has_prefix(opt, "helper=");
}

static bool is_passed_on(const char *opt)
{
	return is_one_of(opt, passed_on, NR(passed_on)) ||
	       has_prefix(opt, "context=") || has_prefix(opt, "fscontext=") ||
	       has_prefix(opt, "defcontext=") || has_prefix(opt, "rootcontext=");
}

static enum msnap_fs_parsed pass_on(struct msnap_fs_opts *opts, const char *opt)
{
	char *all;

	if (asprintf(&all, "%s%s%s", opts->kernel ? opts->kernel : "",
		     opts->kernel ? "," : "", opt) < 0)
		return bad("out of memory");
	free(opts->kernel);
	opts->kernel = all;
	return MSNAP_FS_PARSED_OK;
}

static enum msnap_fs_parsed set_mode(struct msnap_fs_opts *opts,
				     const char *value)
{
	if (strcmp(value, "auto") == 0)
		opts->mode = MSNAP_FS_MODE_AUTO;
	else if (strcmp(value, "cached") == 0)
		opts->mode = MSNAP_FS_MODE_CACHED;
	else if (strcmp(value, "direct") == 0)
		opts->mode = MSNAP_FS_MODE_DIRECT;
	else
		return bad("mode=%s: no such mode; use auto, direct or cached",
			   value);
	return MSNAP_FS_PARSED_OK;
}

static enum msnap_fs_parsed set_snapdir(struct msnap_fs_opts *opts,
					const char *value)
{
	opts->snapdir_visible = strcmp(value, "visible") == 0;
	if (!opts->snapdir_visible && strcmp(value, "hidden") != 0)
		return bad("snapdir=%s: use snapdir=hidden or snapdir=visible",
			   value);
	return MSNAP_FS_PARSED_OK;
}

static enum msnap_fs_parsed set_commit(struct msnap_fs_opts *opts,
				       const char *value)
{
	char *end;
	unsigned long seconds = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || seconds < 1 ||
	    seconds > 3600)
		return bad("commit=%s: not a number of seconds from 1 to 3600",
			   value);
	opts->commit_s = (unsigned)seconds;
	return MSNAP_FS_PARSED_OK;
}

static enum msnap_fs_parsed set_option(struct msnap_fs_opts *opts,
				       const char *opt)
{
	if (has_prefix(opt, "mode="))
		return set_mode(opts, opt + strlen("mode="));
	if (has_prefix(opt, "snapdir="))
		return set_snapdir(opts, opt + strlen("snapdir="));
	if (has_prefix(opt, "commit="))
		return set_commit(opts, opt + strlen("commit="));
	if (strcmp(opt, "ro") == 0)
		opts->read_only = true;
	else if (strcmp(opt, "rw") == 0)
		opts->read_only = false;
	else if (strcmp(opt, "inject") == 0)
		opts->inject = true; /* not in --help */
	else if (is_passed_on(opt))
		return pass_on(opts, opt);
	else if (*opt && !is_ignored(opt))
		return bad("unknown mount option %s (--help lists them)", opt);
	return MSNAP_FS_PARSED_OK;
}

/* Commas inside double quotes belong to the option (SELinux contexts). */
static char *next_option(char **rest)
{
	char *start = *rest, *at = start;
	bool quoted = false;

	if (!start)
		return NULL;
	for (; *at && (quoted || *at != ','); at++)
		if (*at == '"')
			quoted = !quoted;
	*rest = *at ? at + 1 : NULL;
	*at = '\0';
	return start;
}

static enum msnap_fs_parsed set_options(struct msnap_fs_opts *opts, char *list)
{
	enum msnap_fs_parsed res = MSNAP_FS_PARSED_OK;
	char *opt;

	while (res == MSNAP_FS_PARSED_OK && (opt = next_option(&list)))
		res = set_option(opts, opt);
	return res;
}

static enum msnap_fs_parsed set_flag(struct msnap_fs_opts *opts, int flag,
				     const char *word)
{
	switch (flag) {
	case 'o':
		return set_options(opts, optarg);
	case 'd':
		opts->debug = true;
		/* fall through */
	case 'f':
		opts->foreground = true;
		return MSNAP_FS_PARSED_OK;
	case 'r':
		opts->read_only = true;
		return MSNAP_FS_PARSED_OK;
	case 'w':
		opts->read_only = false;
		return MSNAP_FS_PARSED_OK;
	case 'n':
	case 's':
	case 'v':
	case 't':
	case 'N':
		return MSNAP_FS_PARSED_OK;
	case 'h':
		fputs(usage, stdout);
		return MSNAP_FS_PARSED_DONE;
	case 'V':
		puts(PROGRAM " " PACKAGE_VERSION);
		return MSNAP_FS_PARSED_DONE;
	case ':':
		return bad("%s needs a value (--help tells more)", word);
	default:
		return bad("unknown option %s (--help tells more)", word);
	}
}

static enum msnap_fs_parsed path_failed(const char *path, int err)
{
	bad("%s: %s", path, strerror(err));
	return MSNAP_FS_PARSED_FAILED;
}

/* The daemon changes its directory, so paths must not depend on it. */
static enum msnap_fs_parsed set_paths(struct msnap_fs_opts *opts, int nr,
				      char **path)
{
	struct stat st;

	if (nr != 2)
		return bad("%s (usage: " PROGRAM " POOL DIR [-o OPTION,...])",
			   nr < 2 ? "a pool and a directory are needed"
				  : "one pool and one directory are enough");
	opts->pool = realpath(path[0], NULL);
	if (!opts->pool)
		return path_failed(path[0], errno);
	opts->dir = realpath(path[1], NULL);
	if (!opts->dir || stat(opts->dir, &st))
		return path_failed(path[1], errno);
	/* libfuse would mount on a file. */
	return S_ISDIR(st.st_mode) ? MSNAP_FS_PARSED_OK
				   : path_failed(path[1], ENOTDIR);
}

enum msnap_fs_parsed msnap_fs_opts_parse(int argc, char **argv,
					 struct msnap_fs_opts *opts)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	enum msnap_fs_parsed res = MSNAP_FS_PARSED_OK;
	int flag;

	memset(opts, 0, sizeof(*opts));
	opts->commit_s = 5;
	while (res == MSNAP_FS_PARSED_OK &&
	       (flag = getopt_long(argc, argv, ":o:fdrwnsvt:N:hV", longs,
				   NULL)) != -1)
		res = set_flag(opts, flag, argv[optind - 1]);
	if (res == MSNAP_FS_PARSED_OK)
		res = set_paths(opts, argc - optind, argv + optind);
	if (res != MSNAP_FS_PARSED_OK)
		msnap_fs_opts_free(opts);
	return res;
}

void msnap_fs_opts_free(struct msnap_fs_opts *opts)
{
	free(opts->pool);
	free(opts->dir);
	free(opts->kernel);
	memset(opts, 0, sizeof(*opts));
}
