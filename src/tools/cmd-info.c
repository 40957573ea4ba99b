/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msnapfs info - what is mounted here, and for a file the space it takes.
 *
 * The answers of the mount become a list of facts, which is then printed as
 * lines or as JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/control.h"
#include "target.h"
#include "units.h"
#include "verbs.h"

enum kind { TEXT, SIZE, COUNT, YESNO };

struct fact {
	const char *key;   /* in JSON */
	const char *label; /* in lines */
	enum kind kind;
	const char *text;  /* of TEXT */
	uint64_t number;   /* of the others */
};

/* ---- the two forms ------------------------------------------------------- */

static void print_line(const struct fact *fact, bool exact)
{
	char buf[32];

	printf("%-18s ", fact->label);
	switch (fact->kind) {
	case TEXT:
		puts(*fact->text ? fact->text : "-");
		return;
	case YESNO:
		puts(fact->number ? "yes" : "no");
		return;
	case SIZE:
		if (!exact) {
			msnap_format_size(fact->number, buf, sizeof(buf));
			puts(buf);
			return;
		}
		/* fall through */
	case COUNT:
		printf("%llu\n", (unsigned long long)fact->number);
	}
}

static void print_json_string(const char *text)
{
	putchar('"');
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < ' ')
			printf("\\u%04x", (unsigned char)*text);
		else
			putchar(*text);
	putchar('"');
}

static void print_json_fact(const struct fact *fact)
{
	printf("\"%s\": ", fact->key);
	if (fact->kind == TEXT)
		print_json_string(fact->text);
	else if (fact->kind == YESNO)
		printf(fact->number ? "true" : "false");
	else
		printf("%llu", (unsigned long long)fact->number);
}

static void print_json(const struct fact *facts, size_t nr, const char *indent)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		printf("%s\n%s", i ? "," : "", indent);
		print_json_fact(&facts[i]);
	}
}

struct form {
	bool json;
	bool exact;
};

static void print_facts(const struct form *form, const struct fact *facts,
			size_t nr)
{
	size_t i;

	if (form->json)
		print_json(facts, nr, "  ");
	else
		for (i = 0; i < nr; i++)
			print_line(&facts[i], form->exact);
}

/* ---- the mount ----------------------------------------------------------- */

static void format_uuid(const uint8_t uuid[16], char buf[37])
{
	size_t i;

	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*buf++ = '-';
		buf += sprintf(buf, "%02x", uuid[i]);
	}
}

static void print_info(const struct form *form, const struct msnap_ioc_info *info,
		       const char *mount)
{
	char uuid[37];
	const struct fact facts[] = {
		{ "pool", "Pool:", TEXT, info->pool, 0 },
		{ "mount", "Mounted on:", TEXT, mount, 0 },
		{ "label", "Label:", TEXT, info->label, 0 },
		{ "uuid", "UUID:", TEXT, uuid, 0 },
		{ "mode", "Mode:", TEXT, info->mode, 0 },
		{ "mode_why", "Why this mode:", TEXT, info->mode_why, 0 },
		{ "granularity", "Granularity:", TEXT, info->granularity, 0 },
		{ "read_only", "Read-only:", YESNO, NULL, info->read_only },
		{ "was_clean", "Unmounted cleanly:", YESNO, NULL,
		  info->was_clean },
		{ "size", "Size:", SIZE, NULL, info->size },
		{ "used", "Used:", SIZE, NULL, info->size - info->free },
		{ "free", "Free:", SIZE, NULL, info->free },
		{ "reserve", "Reserve:", SIZE, NULL, info->reserve },
		{ "shared", "Shared:", SIZE, NULL, info->shared },
		{ "inodes", "Inodes:", COUNT, NULL, info->nr_inodes },
		{ "restorepoints", "Restore points:", COUNT, NULL,
		  info->nr_snaps },
		{ "deletions", "Being deleted:", COUNT, NULL,
		  info->nr_background },
		{ "open_files", "Open files:", COUNT, NULL, info->nr_open },
		{ "generation", "Generation:", COUNT, NULL, info->generation },
		{ "commits", "Commits:", COUNT, NULL, info->nr_commits },
		{ "fragments", "Fragments:", COUNT, NULL, info->nr_fragments },
		{ "block_size", "Block size:", SIZE, NULL, info->block_size },
		{ "reads", "Read requests:", COUNT, NULL, info->nr_reads },
		{ "bytes_read", "Bytes read:", SIZE, NULL, info->bytes_read },
		{ "writes", "Write requests:", COUNT, NULL, info->nr_writes },
		{ "bytes_written", "Bytes written:", SIZE, NULL,
		  info->bytes_written },
		{ "version", "Daemon version:", TEXT, info->version, 0 },
		{ "pid", "Daemon pid:", COUNT, NULL, info->pid },
	};

	format_uuid(info->uuid, uuid);
	print_facts(form, facts, sizeof(facts) / sizeof(facts[0]));
}

/* ---- one file ------------------------------------------------------------ */

static void print_file(const struct form *form, const struct msnap_ioc_file *file,
		       const char *path)
{
	const struct fact facts[] = {
		{ "path", "File:", TEXT, path, 0 },
		{ "file_inode", "Inode:", COUNT, NULL, file->ino },
		{ "file_restorepoint", "Restore point:", COUNT, NULL,
		  file->snap },
		{ "file_size", "File size:", SIZE, NULL, file->size },
		{ "file_allocated", "Space:", SIZE, NULL,
		  file->allocated },
		{ "file_exclusive", "Own space:", SIZE, NULL,
		  file->exclusive },
		{ "file_extents", "Extents:", COUNT, NULL,
		  file->nr_extents },
		{ "file_open", "Times open:", COUNT, NULL, file->nr_open },
		{ "file_mode", "Open as:", TEXT, file->mode, 0 },
	};

	print_facts(form, facts, sizeof(facts) / sizeof(facts[0]));
}

static int ask_file(const char *path, struct msnap_ioc_file *file)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	err = msnap_cli_ioctl(fd, MSNAP_IOC_FILE, file);
	close(fd);
	return err;
}

/* ---- the verb ------------------------------------------------------------ */

static int info(const struct form *form, const struct msnap_target *target)
{
	bool regular = S_ISREG(target->st.st_mode);
	struct msnap_ioc_info info = { 0 };
	struct msnap_ioc_file file = { 0 };
	char mount[PATH_MAX] = "";
	int err = msnap_cli_ioctl(target->fd, MSNAP_IOC_INFO, &info);

	if (!err && regular)
		err = ask_file(target->shown, &file);
	if (err)
		return msnap_cli_error("%s: %s", target->shown,
				       msnap_cli_reason(err));
	if (!msnap_find_above(target->dir, 0, mount))
		strcpy(mount, "");
	if (form->json)
		putchar('{');
	if (regular)
		print_file(form, &file, target->shown);
	if (regular)
		putchar(form->json ? ',' : '\n');
	print_info(form, &info, mount);
	if (form->json)
		puts("\n}");
	return 0;
}

static int run(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "json", no_argument, NULL, 'J' },
		{ "parsable", no_argument, NULL, 'p' },
		MSNAP_COMMON_LONG
	};
	struct form form = { 0 };
	struct msnap_target target;
	int opt, status;

	while ((opt = msnap_cli_getopt(argc, argv, "JphV", longopts)) != -1)
		*(opt == 'J' ? &form.json : &form.exact) = true;
	if (argc - optind > 1)
		return msnap_cli_usage("more than one PATH given");
	if (msnap_target_open(&target, optind < argc ? argv[optind] : ".", false))
		return MSNAP_EXIT_FAILED;
	status = info(&form, &target);
	msnap_target_close(&target);
	return status;
}

const struct msnap_cmd msnap_cmd_info = {
	.name = "msnapfs info",
	.args = "[-p] [--json] [PATH]",
	.summary = "Show what is mounted at PATH, and the space of the file PATH.",
	.options = "  -p, --parsable         exact numbers of bytes\n"
		   "  -J, --json             JSON, always with exact numbers\n",
	.run = run,
};
