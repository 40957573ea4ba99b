/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msnapfs list - the restore points that hold a file or something of a directory.
 *
 * Tables and JSON are libsmartcols'; the plain form for scripts (-H) is not, as
 * that library encodes the blanks in it.
 */
#include <ctype.h>
#include <errno.h>
#include <libsmartcols.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "fs/control.h"
#include "points.h"
#include "target.h"
#include "units.h"
#include "verbs.h"

/* Any column's text fits: PATH_MAX, or a comment. */
#define TEXT_MAX PATH_MAX

typedef struct msnap_ioc_snap_entry point_t;

struct list {
	const struct msnap_target *target;
	point_t *points;
	size_t nr;
	bool exact; /* -p */
	bool plain; /* -H */
	bool json;
	bool reverse;
	const struct column *sort; /* NULL: by age, as they come */
	const struct column *cols[16];
	size_t nr_cols;
};

/* ---- columns ------------------------------------------------------------- */

struct column {
	const char *name;
	bool by_default;
	bool text_if_human; /* a number only with -p */
	/* Either may be missing, not both.  With a number the column is sorted
	 * by it, and shows it when there is no text. */
	uint64_t (*number)(const point_t *p);
	void (*text)(const struct list *list, const point_t *p, char *buf);
};

static void name_text(const struct list *list, const point_t *p, char *buf)
{
	(void)list;
	snprintf(buf, TEXT_MAX, "%.*s", (int)sizeof(p->name), p->name);
}

static void comment_text(const struct list *list, const point_t *p, char *buf)
{
	(void)list;
	snprintf(buf, TEXT_MAX, "%.*s", (int)sizeof(p->comment), p->comment);
}

static uint64_t created_number(const point_t *p)
{
	return p->time_ns / 1000000000u;
}

static void created_text(const struct list *list, const point_t *p, char *buf)
{
	if (list->json)
		msnap_format_iso(p->time_ns, buf, TEXT_MAX);
	else
		msnap_format_time(p->time_ns, buf, TEXT_MAX);
}

static void type_text(const struct list *list, const point_t *p, char *buf)
{
	(void)list;
	snprintf(buf, TEXT_MAX, "%s", p->partial ? "files" : "dir");
}

static void scope_text(const struct list *list, const point_t *p, char *buf)
{
	if (!msnap_find_above(list->target->dir, p->scope, buf))
		strcpy(buf, "-"); /* taken elsewhere, together with this */
}

static uint64_t inodes_number(const point_t *p)
{
	return p->nr_inodes;
}

static uint64_t id_number(const point_t *p)
{
	return p->id;
}

static uint64_t generation_number(const point_t *p)
{
	return p->generation;
}

static uint64_t holds_number(const point_t *p)
{
	return p->holds;
}

static uint64_t user_number(const point_t *p)
{
	return p->uid;
}

static void user_text(const struct list *list, const point_t *p, char *buf)
{
	struct passwd *pw = getpwuid(p->uid);

	(void)list;
	if (pw)
		snprintf(buf, TEXT_MAX, "%s", pw->pw_name);
	else
		snprintf(buf, TEXT_MAX, "%u", p->uid);
}

static const struct column columns[] = {
	{ "NAME", true, false, NULL, name_text },
	{ "CREATED", true, true, created_number, created_text },
	{ "TYPE", true, false, NULL, type_text },
	{ "INODES", true, false, inodes_number, NULL },
	{ "COMMENT", true, false, NULL, comment_text },
	{ "SCOPE", false, false, NULL, scope_text },
	{ "ID", false, false, id_number, NULL },
	{ "GENERATION", false, false, generation_number, NULL },
	{ "HOLDS", false, false, holds_number, NULL },
	{ "USER", false, true, user_number, user_text },
};
#define NR_COLUMNS (sizeof(columns) / sizeof(columns[0]))

static bool is_number(const struct list *list, const struct column *col)
{
	return col->number && (!col->text_if_human || list->exact);
}

static void cell(const struct list *list, const struct column *col,
		 const point_t *p, char *buf)
{
	if (is_number(list, col))
		snprintf(buf, TEXT_MAX, "%llu",
			 (unsigned long long)col->number(p));
	else
		col->text(list, p, buf);
}

/* ---- choosing columns ---------------------------------------------------- */

static const struct column *find_column(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < NR_COLUMNS; i++)
		if (!strncasecmp(columns[i].name, name, len) &&
		    !columns[i].name[len])
			return &columns[i];
	return NULL;
}

static int unknown_column(const char *option, const char *name, size_t len)
{
	char known[256] = "";
	size_t i, used = 0;

	for (i = 0; i < NR_COLUMNS; i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
					 i ? ", " : "", columns[i].name);
	return msnap_cli_usage("%s: no column '%.*s'; there are %s", option,
			       (int)len, name, known);
}

static void default_columns(struct list *list)
{
	size_t i;

	for (i = 0; i < NR_COLUMNS; i++)
		if (columns[i].by_default || list->json)
			list->cols[list->nr_cols++] = &columns[i];
}

/* @names: NAME,NAME,...  0, or 2 after a message. */
static int choose_columns(struct list *list, const char *names)
{
	const struct column *col;
	size_t len;

	list->nr_cols = 0;
	for (;;) {
		len = strcspn(names, ",");
		col = find_column(names, len);
		if (!col)
			return unknown_column("-o", names, len);
		if (list->nr_cols == sizeof(list->cols) / sizeof(list->cols[0]))
			return msnap_cli_usage("-o: too many columns");
		list->cols[list->nr_cols++] = col;
		if (!names[len])
			return 0;
		names += len + 1;
	}
}

static int choose_sort(struct list *list, const char *name)
{
	list->sort = find_column(name, strlen(name));
	return list->sort ? 0 : unknown_column("-s", name, strlen(name));
}

/* ---- order --------------------------------------------------------------- */

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare(const void *a, const void *b, void *arg)
{
	const struct list *list = arg;
	const struct column *col = list->sort;
	const point_t *pa = a, *pb = b;
	char ta[TEXT_MAX], tb[TEXT_MAX];
	int result = 0;

	if (col && col->number)
		result = compare_numbers(col->number(pa), col->number(pb));
	else if (col) {
		col->text(list, pa, ta);
		col->text(list, pb, tb);
		result = strcmp(ta, tb);
	}
	if (!result) /* ids grow with age */
		result = compare_numbers(pa->id, pb->id);
	return list->reverse ? -result : result;
}

/* ---- printing ------------------------------------------------------------ */

/* So that a tab or newline always ends a field or a line. */
static void put_plain(const char *text)
{
	for (; *text; text++)
		if (iscntrl((unsigned char)*text) || *text == '\\')
			printf("\\x%02x", (unsigned char)*text);
		else
			putchar(*text);
}

static void print_plain(const struct list *list)
{
	char buf[TEXT_MAX];
	size_t i, c;

	for (i = 0; i < list->nr; i++)
		for (c = 0; c < list->nr_cols; c++) {
			cell(list, list->cols[c], &list->points[i], buf);
			put_plain(buf);
			putchar(c + 1 < list->nr_cols ? '\t' : '\n');
		}
}

static int add_column(struct libscols_table *table, const struct list *list,
		      const struct column *col)
{
	bool number = is_number(list, col);
	struct libscols_column *cl;

	cl = scols_table_new_column(table, col->name, 0,
				    number ? SCOLS_FL_RIGHT : 0);
	if (!cl)
		return -ENOMEM;
	return scols_column_set_json_type(cl, number ? SCOLS_JSON_NUMBER :
						       SCOLS_JSON_STRING);
}

static int add_line(struct libscols_table *table, const struct list *list,
		    const point_t *p)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);
	char buf[TEXT_MAX];
	int err = line ? 0 : -ENOMEM;
	size_t c;

	for (c = 0; !err && c < list->nr_cols; c++) {
		cell(list, list->cols[c], p, buf);
		err = scols_line_set_data(line, c, buf);
	}
	return err;
}

static int fill_table(struct libscols_table *table, const struct list *list)
{
	int err = scols_table_set_name(table, "restorepoints");
	size_t i;

	if (!err && list->json)
		err = scols_table_enable_json(table, 1);
	for (i = 0; !err && i < list->nr_cols; i++)
		err = add_column(table, list, list->cols[i]);
	for (i = 0; !err && i < list->nr; i++)
		err = add_line(table, list, &list->points[i]);
	return err ? err : scols_print_table(table);
}

static int print_table(const struct list *list)
{
	struct libscols_table *table = scols_new_table();
	int err = table ? fill_table(table, list) : -ENOMEM;

	scols_unref_table(table);
	return err ? msnap_cli_error("cannot print the table: %s",
				     msnap_cli_reason(err)) : 0;
}

/* Nothing where a person looks for something is worth a word. */
static int print_none(const struct list *list)
{
	const struct msnap_target *target = list->target;

	if (*target->file && !target->exists)
		return msnap_cli_error("%s: neither is there such a file, nor a "
				       "restore point that holds one",
				       target->shown);
	if (!list->plain && !list->json)
		fprintf(stderr, "%s: no restore points\n", target->shown);
	return list->json ? print_table(list) : 0;
}

static int print(const struct list *list)
{
	if (!list->nr)
		return print_none(list);
	if (!list->plain || list->json)
		return print_table(list);
	print_plain(list);
	return 0;
}

/* ---- the verb ------------------------------------------------------------ */

static int show(struct list *list, const char *path)
{
	struct msnap_target target;
	int err, status;

	if (msnap_target_open(&target, path, true))
		return MSNAP_EXIT_FAILED;
	list->target = &target;
	err = msnap_points_load(target.fd, target.file, &list->points, &list->nr);
	if (err) {
		status = msnap_cli_error("%s: %s", path, err == -EROFS ?
					 "is in a restore point itself; list those "
					 "of the live path" : msnap_cli_reason(err));
	} else {
		if (list->nr) /* without any there is no array */
			qsort_r(list->points, list->nr, sizeof(*list->points),
				compare, list);
		status = print(list);
		free(list->points);
	}
	msnap_target_close(&target);
	return status;
}

static int set_option(struct list *list, int opt)
{
	switch (opt) {
	case 'H':
		list->plain = true;
		return 0;
	case 'p':
		list->exact = true;
		return 0;
	case 'r':
		list->reverse = true;
		return 0;
	case 'J':
		list->json = true;
		return 0;
	case 'o':
		return choose_columns(list, optarg);
	default:
		return choose_sort(list, optarg);
	}
}

static int run(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "noheadings", no_argument, NULL, 'H' },
		{ "parsable", no_argument, NULL, 'p' },
		{ "output", required_argument, NULL, 'o' },
		{ "sort", required_argument, NULL, 's' },
		{ "reverse", no_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'J' },
		MSNAP_COMMON_LONG
	};
	struct list list = { 0 };
	int opt, status = 0;

	while (!status && (opt = msnap_cli_getopt(argc, argv, "Hpo:s:rJhV",
						  longopts)) != -1)
		status = set_option(&list, opt);
	if (status)
		return status;
	if (argc - optind > 1)
		return msnap_cli_usage("more than one PATH given");
	if (!list.nr_cols)
		default_columns(&list);
	return show(&list, optind < argc ? argv[optind] : ".");
}

const struct msnap_cmd msnap_cmd_list = {
	.name = "msnapfs list",
	.args = "[-H] [-p] [-o COLUMNS] [-s COLUMN] [-r] [--json] [PATH]",
	.summary = "List the restore points that hold a file, or something of a "
		   "directory.",
	.options =
		"  -H, --noheadings       no heading, and tabs between the columns\n"
		"  -p, --parsable         exact numbers: seconds since 1970, user ids\n"
		"  -o, --output COLUMNS   NAME, CREATED, TYPE, INODES, COMMENT, SCOPE,\n"
		"                         ID, GENERATION, HOLDS, USER, with commas\n"
		"  -s, --sort COLUMN      sort by it; without, the oldest comes first\n"
		"  -r, --reverse          the other way round\n"
		"  -J, --json             JSON, with all columns unless -o chooses\n",
	.run = run,
};
