/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkfs.memsnapfs - make a pool in a file or device.
 *
 * The engine decides what it overwrites and how large a pool can be; this
 * program only reads options and says what came out.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "cli.h"
#include "cow/cow.h"
#include "units.h"

#define LABEL_MAX 63
#define LOCK_WAIT_MS 3000 /* a daemon that was just unmounted ends in this time */

struct options {
	struct msnap_create_args create;
	const char *size_text; /* as given, NULL: not */
	bool quiet;
};

static int set_size(struct options *opt, const char *text)
{
	uint64_t size;
	int err = msnap_parse_size(text, &size);

	if (err == -ERANGE)
		return msnap_cli_usage("-s: %s: too large", text);
	if (err)
		return msnap_cli_usage("-s: %s: not a size; write a number of bytes, "
				       "or one with K, M, G, T or P, as 10G", text);
	if (!size)
		return msnap_cli_usage("-s: %s: a pool cannot be empty", text);
	opt->create.size = size;
	opt->size_text = text;
	return 0;
}

static int set_label(struct options *opt, const char *text)
{
	if (strlen(text) > LABEL_MAX)
		return msnap_cli_usage("-L: the label is too long: %zu bytes, at "
				       "most %d are possible", strlen(text),
				       LABEL_MAX);
	opt->create.label = text;
	return 0;
}

static int set_option(struct options *opt, int c)
{
	switch (c) {
	case 'f':
		opt->create.force = true;
		return 0;
	case 'q':
		opt->quiet = true;
		return 0;
	case 'L':
		return set_label(opt, optarg);
	default:
		return set_size(opt, optarg);
	}
}

/* A file that has no size of its own needs one.  0, or the exit status. */
static int check_size(const struct options *opt, const char *path)
{
	struct stat st;

	if (opt->size_text)
		return 0;
	if (stat(path, &st) < 0) {
		if (errno != ENOENT)
			return msnap_cli_error("%s: %s", path,
					       msnap_cli_reason(errno));
		return msnap_cli_usage("%s: does not exist; -s SIZE makes it, e.g. "
				       "-s 10G", path);
	}
	if (S_ISREG(st.st_mode) && !st.st_size)
		return msnap_cli_usage("%s: is empty; -s SIZE gives it a size, e.g. "
				       "-s 10G", path);
	return 0;
}

/* What the kernel says of a device's size; 0: nothing. */
static uint64_t device_size(const struct stat *st)
{
	bool block = S_ISBLK(st->st_mode);
	unsigned long long size = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/dev/%s/%u:%u/size",
		 block ? "block" : "char", major(st->st_rdev),
		 minor(st->st_rdev));
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%llu", &size) != 1)
		size = 0;
	fclose(file);
	return block ? size * 512 : size;
}

static uint64_t pool_size(const struct options *opt, const struct stat *st)
{
	if (opt->create.size)
		return opt->create.size;
	return S_ISREG(st->st_mode) ? (uint64_t)st->st_size : device_size(st);
}

static void print_made(const struct options *opt, const char *path)
{
	struct stat st = { 0 };
	uint64_t size = stat(path, &st) ? 0 : pool_size(opt, &st);
	bool around = S_ISBLK(st.st_mode) && !opt->create.size;
	char text[32];

	msnap_format_size(size, text, sizeof(text));
	printf("%s: a pool", path);
	if (size)
		printf(" %s %s", around ? "on a device of" : "of", text);
	if (opt->create.label)
		printf(", labelled '%s'", opt->create.label);
	printf("; mount it with: mount.memsnapfs %s DIR\n", path);
}

static int make(const struct options *opt, const char *path)
{
	struct msnap_why why = { "" };
	int err = check_size(opt, path);

	if (err)
		return err;
	err = msnap_pool_create(path, &opt->create, &why);
	if (err)
		return msnap_cli_error("%s", *why.text ? why.text :
							 msnap_cli_reason(err));
	if (!opt->quiet)
		print_made(opt, path);
	return 0;
}

static int run(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "force", no_argument, NULL, 'f' },
		{ "label", required_argument, NULL, 'L' },
		{ "size", required_argument, NULL, 's' },
		{ "quiet", no_argument, NULL, 'q' },
		MSNAP_COMMON_LONG
	};
	struct options opt = { .create.lock_wait_ms = LOCK_WAIT_MS };
	int c, status = 0;

	while (!status &&
	       (c = msnap_cli_getopt(argc, argv, "fL:s:qhV", longopts)) != -1)
		status = set_option(&opt, c);
	if (status)
		return status;
	if (optind == argc)
		return msnap_cli_usage("no POOL given");
	if (argc - optind > 1)
		return msnap_cli_usage("%s: only one POOL can be made at a time",
				       argv[optind + 1]);
	return make(&opt, argv[optind]);
}

static const struct msnap_cmd mkfs = {
	.name = "mkfs.memsnapfs",
	.args = "[-f] [-L LABEL] [-s SIZE] [-q] POOL",
	.summary = "Make a memsnapfs pool in a file, on a block device, or in a "
		   "device-DAX device.",
	.options = "  -f, --force            overwrite what is in POOL\n"
		   "  -L, --label LABEL      a name for the pool, at most 63 bytes\n"
		   "  -s, --size SIZE        bytes, or with K, M, G, T, P; without it, "
		   "what POOL has\n"
		   "  -q, --quiet            say nothing unless something fails\n",
	.run = run,
};

int main(int argc, char **argv)
{
	return msnap_cli_run(&mkfs, argc, argv);
}
