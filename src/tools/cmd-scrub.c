/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msnapfs scrub - verify everything in a mounted pool, in the background.
 *
 * The mount does the work; this starts it, stops it, and shows how far it is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/control.h"
#include "target.h"
#include "units.h"
#include "verbs.h"

#define POLL_NS 200000000l

struct scrub {
	struct msnap_target target;
	char mount[PATH_MAX];
	unsigned op;
	bool restart;
	bool wait;
	bool json;
	uint64_t rate;
	struct msnap_ioc_scrub now;
};

static int ask(struct scrub *s, unsigned op)
{
	struct msnap_ioc_scrub arg = { .op = op };
	int err;

	if (op == MSNAP_IOC_SCRUB_START) {
		arg.flags = s->restart ? MSNAP_IOC_SCRUB_RESTART : 0;
		arg.rate = s->rate;
	}
	err = msnap_cli_ioctl(s->target.fd, MSNAP_IOC_SCRUB, &arg);
	if (!err)
		s->now = arg;
	return err;
}

static int complain(const struct scrub *s, int err)
{
	const char *why = err == -EPERM ?
		"only root and the owner of the mount may do that" :
		err == -EBUSY ? "a scrub is running; --cancel it first" :
				msnap_cli_reason(err);

	return msnap_cli_error("%s: %s", s->target.shown, why);
}

static unsigned percent(const struct msnap_ioc_scrub *now)
{
	if (now->state == MSNAP_IOC_SCRUB_DONE || !now->total)
		return 100;
	/* Not all of it is ever sure to be there to look at: 100 is for the end. */
	return now->done >= now->total ? 99 :
		       (unsigned)(100.0 * (double)now->done / (double)now->total);
}

static const char *state_name(uint32_t state)
{
	static const char *const names[] = {
		"none", "running", "stopped", "finished", "failed"
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

/* ---- what was found ------------------------------------------------------ */

typedef void print_fn(const struct scrub *s, const struct msnap_ioc_scrub_entry *e,
		      uint64_t i);

/* Those who may not see the list see the counts only. */
static int each_damage(const struct scrub *s, print_fn *print)
{
	struct msnap_ioc_scrub_list *list = malloc(sizeof(*list));
	uint64_t first = 0;
	uint32_t i;
	int err = list ? 0 : -ENOMEM;

	while (!err && first < s->now.nr_listed) {
		memset(list, 0, sizeof(*list));
		list->first = first;
		err = msnap_cli_ioctl(s->target.fd, MSNAP_IOC_SCRUB_LIST, list);
		for (i = 0; !err && i < list->nr; i++)
			print(s, &list->entry[i], first + i);
		if (!err && !list->nr)
			break;
		first += list->nr;
	}
	free(list);
	return err == -EPERM ? 0 : err;
}

/* The path as it is from here: that in the mount, behind the mount's. */
static void print_path(const struct scrub *s, const struct msnap_ioc_scrub_entry *e,
		       void (*print)(const char *text))
{
	char path[PATH_MAX + sizeof(e->path)];

	snprintf(path, sizeof(path), "%s%s",
		 e->path[0] == '/' && strcmp(s->mount, "/") ? s->mount : "",
		 e->path);
	print(path);
}

static void print_plain(const char *text)
{
	fputs(text, stdout);
}

static void print_line(const struct scrub *s, const struct msnap_ioc_scrub_entry *e,
		       uint64_t i)
{
	(void)i;
	printf("Damaged: ");
	if (!e->ino) {
		printf("metadata in block %llu\n", (unsigned long long)e->block);
		return;
	}
	print_path(s, e, print_plain);
	if (e->name[0])
		printf("@%s", e->name);
	printf(", %s %llu\n", e->meta ? "metadata, contents from offset" : "offset",
	       (unsigned long long)e->offset);
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

static void print_json_damage(const struct scrub *s,
			      const struct msnap_ioc_scrub_entry *e, uint64_t i)
{
	printf("%s\n    {\"path\": ", i ? "," : "");
	if (e->ino)
		print_path(s, e, print_json_string);
	else
		printf("null");
	printf(", \"restorepoint\": ");
	if (e->name[0])
		print_json_string(e->name);
	else
		printf("null");
	printf(", \"offset\": %llu, \"inode\": %llu, \"block\": %llu, "
	       "\"metadata\": %s}",
	       (unsigned long long)e->offset, (unsigned long long)e->ino,
	       (unsigned long long)e->block, e->meta ? "true" : "false");
}

/* ---- the status ---------------------------------------------------------- */

static void print_json_time(const char *key, uint64_t ns)
{
	char buf[32];

	printf(",\n  \"%s\": ", key);
	if (!ns) {
		printf("null");
		return;
	}
	msnap_format_iso(ns, buf, sizeof(buf));
	printf("\"%s\"", buf);
}

static void print_json_number(const char *key, uint64_t number)
{
	printf(",\n  \"%s\": %llu", key, (unsigned long long)number);
}

static int print_json(const struct scrub *s)
{
	const struct msnap_ioc_scrub *now = &s->now;
	int err;

	printf("{\n  \"mount\": ");
	print_json_string(s->mount);
	printf(",\n  \"state\": \"%s\"", state_name(now->state));
	print_json_time("begun", now->begin_ns);
	print_json_time("ended", now->state == MSNAP_IOC_SCRUB_RUNNING ?
					  0 : now->end_ns);
	print_json_number("percent", now->state ? percent(now) : 0);
	print_json_number("done", now->done);
	print_json_number("total", now->total);
	print_json_number("nodes", now->nr_nodes);
	print_json_number("data", now->data);
	print_json_number("filled", now->filled);
	print_json_number("unchecked", now->unchecked);
	print_json_number("damaged", now->nr_damaged);
	printf(",\n  \"damage\": [");
	err = each_damage(s, print_json_damage);
	puts("]\n}");
	return err;
}

static void print_size(const char *label, uint64_t bytes, const char *more)
{
	char buf[32];

	msnap_format_size(bytes, buf, sizeof(buf));
	printf("%-18s %s%s\n", label, buf, more);
}

static void print_time(const char *label, uint64_t ns)
{
	char buf[32];

	msnap_format_time(ns, buf, sizeof(buf));
	printf("%-18s %s\n", label, buf);
}

static void print_state(const struct msnap_ioc_scrub *now)
{
	printf("%-18s %s", "Scrub:", state_name(now->state));
	if (now->state == MSNAP_IOC_SCRUB_FAILED)
		printf(" (%s)", strerror(now->error));
	if (now->state != MSNAP_IOC_SCRUB_DONE)
		printf(", %u%%", percent(now));
	putchar('\n');
}

static int print_status(const struct scrub *s)
{
	const struct msnap_ioc_scrub *now = &s->now;
	int err;

	if (now->state == MSNAP_IOC_SCRUB_NONE) {
		printf("%-18s none so far\n", "Scrub:");
		return 0;
	}
	print_state(now);
	print_time("Begun:", now->begin_ns);
	if (now->state != MSNAP_IOC_SCRUB_RUNNING)
		print_time("Ended:", now->end_ns);
	print_size("Contents:", now->data, " verified");
	print_size("Metadata:", now->nr_nodes * 4096, " verified");
	if (now->filled)
		print_size("New checksums:", now->filled, "");
	if (now->unchecked)
		print_size("Not checked:", now->unchecked,
			   " without checksums, in restore points");
	printf("%-18s %llu block%s\n", "Damaged:",
	       (unsigned long long)now->nr_damaged, now->nr_damaged == 1 ? "" : "s");
	err = each_damage(s, print_line);
	if (!err && now->nr_damaged > now->nr_listed)
		printf("%llu not listed: see the system's log\n",
		       (unsigned long long)(now->nr_damaged - now->nr_listed));
	return err;
}

/* ---- waiting -------------------------------------------------------------- */

#define BAR 40

static void draw_bar(const struct msnap_ioc_scrub *now)
{
	char done[32], total[32], bar[BAR + 1];
	unsigned full = percent(now) * BAR / 100;

	memset(bar, '.', BAR);
	memset(bar, '#', full);
	bar[BAR] = '\0';
	msnap_format_size(now->done, done, sizeof(done));
	msnap_format_size(now->total, total, sizeof(total));
	fprintf(stderr, "\r[%s] %3u%%  %s of %s, %llu damaged \033[K", bar,
		percent(now), done, total, (unsigned long long)now->nr_damaged);
}

static int wait_for_end(struct scrub *s)
{
	const struct timespec pause = { 0, POLL_NS };
	bool bar = isatty(STDERR_FILENO);
	int err = 0;

	while (!err && s->now.state == MSNAP_IOC_SCRUB_RUNNING) {
		if (bar)
			draw_bar(&s->now);
		nanosleep(&pause, NULL);
		err = ask(s, MSNAP_IOC_SCRUB_STATUS);
	}
	if (bar)
		fprintf(stderr, "\r\033[K");
	return err;
}

/* ---- the verb ------------------------------------------------------------ */

static int show(struct scrub *s)
{
	if (s->op == MSNAP_IOC_SCRUB_START && !s->wait && !s->json &&
	    s->now.state == MSNAP_IOC_SCRUB_RUNNING) {
		char size[32];

		msnap_format_size(s->now.total, size, sizeof(size));
		printf("Scrub of %s is running, %u%% of %s done\n", s->mount,
		       percent(&s->now), size);
		return 0;
	}
	return s->json ? print_json(s) : print_status(s);
}

static int scrub(struct scrub *s)
{
	int err = ask(s, s->op);

	if (!err && s->wait)
		err = wait_for_end(s);
	if (!err)
		err = show(s);
	if (err)
		return complain(s, err);
	return s->now.nr_damaged || s->now.state == MSNAP_IOC_SCRUB_FAILED ?
		       MSNAP_EXIT_FAILED : 0;
}

/* "50": 50 MiB per second; with a suffix as sizes have it; "0": no limit. */
static int parse_rate(const char *text, uint64_t *rate)
{
	bool plain = text[0] && !text[strspn(text, "0123456789.")];
	uint64_t bytes;
	int err = msnap_parse_size(text, &bytes);
	char *end;

	if (err)
		return err;
	if (plain)
		bytes = (uint64_t)(strtod(text, &end) * (1 << 20));
	*rate = bytes ? bytes : MSNAP_IOC_SCRUB_UNLIMITED;
	return 0;
}

static int parse(struct scrub *s, int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "status", no_argument, NULL, 's' },
		{ "cancel", no_argument, NULL, 'c' },
		{ "restart", no_argument, NULL, 'R' },
		{ "rate", required_argument, NULL, 'r' },
		{ "wait", no_argument, NULL, 'w' },
		{ "json", no_argument, NULL, 'J' },
		MSNAP_COMMON_LONG
	};
	unsigned ops = 0;
	int opt;

	s->op = MSNAP_IOC_SCRUB_START;
	while ((opt = msnap_cli_getopt(argc, argv, "scRr:wJhV", longopts)) != -1) {
		if (opt == 's' || opt == 'c') {
			s->op = opt == 's' ? MSNAP_IOC_SCRUB_STATUS :
					     MSNAP_IOC_SCRUB_CANCEL;
			ops++;
		} else if (opt == 'r' && parse_rate(optarg, &s->rate)) {
			return msnap_cli_usage("--rate %s: no such rate", optarg);
		} else if (opt != 'r') {
			*(opt == 'R' ? &s->restart :
			  opt == 'w' ? &s->wait : &s->json) = true;
		}
	}
	if (argc - optind > 1)
		return msnap_cli_usage("more than one DIR given");
	if (ops > 1)
		return msnap_cli_usage("--status and --cancel exclude each other");
	if (ops && (s->restart || s->rate))
		return msnap_cli_usage("--restart and --rate are for starting one");
	return 0;
}

static int run(int argc, char **argv)
{
	struct scrub s = { .mount = "" };
	int status = parse(&s, argc, argv);

	if (status)
		return status;
	if (msnap_target_open(&s.target, optind < argc ? argv[optind] : ".", false))
		return MSNAP_EXIT_FAILED;
	if (!msnap_find_above(s.target.dir, 0, s.mount))
		s.mount[0] = '\0';
	status = scrub(&s);
	msnap_target_close(&s.target);
	return status;
}

const struct msnap_cmd msnap_cmd_scrub = {
	.name = "msnapfs scrub",
	.args = "[-s | -c | [-R] [-r RATE]] [-w] [--json] [DIR]",
	.summary = "Verify everything in the filesystem mounted at DIR.",
	.options = "  -s, --status           show how far it is and what it found\n"
		   "  -c, --cancel           stop it; the next one goes on there\n"
		   "  -R, --restart          from the beginning\n"
		   "  -r, --rate=RATE        MiB a second, or with K, M, G; 0: no limit\n"
		   "  -w, --wait             wait for its end, with progress\n"
		   "  -J, --json             the status as JSON\n",
	.run = run,
};
