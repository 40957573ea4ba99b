/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsck.memsnapfs - check a pool, and repair it.
 *
 * The engine finds and repairs; this program answers its questions, by itself or by
 * asking a person, draws the progress bar, and ends as fsck(8) wants it.
 *
 * It reads its options by itself, not through cli.h: its exit statuses are others.
 */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cow/cow.h"

/* As in fsck(8). */
enum status {
	OK = 0,
	CORRECTED = 1,
	UNCORRECTED = 4,
	FAILED = 8,
	USAGE = 16,
	CANCELLED = 32,
};

#define LOCK_WAIT_MS 1000 /* a daemon that was just unmounted ends in this time */
#define BAR_MS 100	  /* between two changes of the bar */
#define BAR_WIDTH 40

/* What answers the questions. */
enum mode { ASK, NO, YES, PREEN };

struct state {
	const char *name; /* the pool's */
	enum mode mode;
	bool verbose;
	bool unattended; /* would ask, but nobody is there */
	bool stopped;	 /* a repair that is not safe was left to a person */
	bool bar;	 /* progress is shown */
	bool bar_drawn;
	struct timespec drawn;
};

static volatile sig_atomic_t cancelled;

static void on_signal(int sig)
{
	(void)sig;
	cancelled = 1;
}

/* ---- progress ------------------------------------------------------------------ */

static void clear_bar(struct state *s)
{
	if (s->bar_drawn)
		fputs("\r\033[K", stderr);
	s->bar_drawn = false;
}

static bool too_early(struct state *s)
{
	struct timespec now;
	long ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (now.tv_sec - s->drawn.tv_sec) * 1000 +
	     (now.tv_nsec - s->drawn.tv_nsec) / 1000000;
	if (s->bar_drawn && ms < BAR_MS)
		return true;
	s->drawn = now;
	return false;
}

static void draw_bar(struct state *s, const char *what, uint64_t done,
		     uint64_t total)
{
	char bar[BAR_WIDTH + 1];
	unsigned fill = done >= total ? BAR_WIDTH : done * BAR_WIDTH / total;

	memset(bar, '=', fill);
	memset(bar + fill, ' ', BAR_WIDTH - fill);
	bar[BAR_WIDTH] = 0;
	fprintf(stderr, "\r\033[K%s: %s |%s| %3u%%", s->name, what, bar,
		(unsigned)(fill * 100 / BAR_WIDTH));
}

static int on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct state *s = arg;

	if (cancelled)
		return 1;
	if (!s->bar || too_early(s))
		return 0;
	if (total)
		draw_bar(s, what, done, total);
	else
		fprintf(stderr, "\r\033[K%s: %s: %llu", s->name, what,
			(unsigned long long)done);
	fflush(stderr);
	s->bar_drawn = true;
	return 0;
}

/* ---- answers ------------------------------------------------------------------- */

/* Capital first letter: "Cut it out?" */
static void print_question(const char *fix)
{
	printf("  %c%s? ", fix[0] >= 'a' && fix[0] <= 'z' ? fix[0] - 32 : fix[0],
	       fix + 1);
	fflush(stdout);
}

/* The end of the input, or a signal, is a no. */
static bool ask(void)
{
	char line[80];

	while (!cancelled && fgets(line, sizeof(line), stdin)) {
		if (line[0] == 'y' || line[0] == 'Y')
			return true;
		if (line[0] == 'n' || line[0] == 'N')
			return false;
		printf("  y or n? ");
		fflush(stdout);
	}
	printf("\n");
	return false;
}

static bool answer(struct state *s, const struct msnap_problem *problem)
{
	switch (s->mode) {
	case YES:
		printf("yes\n");
		return true;
	case NO:
		printf("no\n");
		return false;
	case PREEN:
		if (!problem->safe)
			s->stopped = true;
		printf("%s\n", problem->safe ? "yes" : "not without being asked");
		return problem->safe;
	default:
		return ask();
	}
}

static bool on_problem(void *arg, const struct msnap_problem *problem)
{
	struct state *s = arg;

	clear_bar(s);
	printf("%s\n", problem->text);
	if (!problem->fix)
		return false;
	print_question(problem->fix);
	return answer(s, problem);
}

/* ---- the result ---------------------------------------------------------------- */

static void print_details(const struct msnap_fsck_result *r)
{
	printf("  generation       %llu\n"
	       "  tree nodes       %llu\n"
	       "  extents          %llu\n"
	       "  problems left    %llu\n"
	       "  repairs          %llu\n",
	       (unsigned long long)r->generation,
	       (unsigned long long)r->found.nr_nodes,
	       (unsigned long long)r->found.nr_extents,
	       (unsigned long long)r->nr_left, (unsigned long long)r->nr_fixed);
}

static void print_result(const struct state *s, const struct msnap_fsck_result *r)
{
	if (r->skipped) {
		printf("%s: clean, %llu blocks\n", s->name,
		       (unsigned long long)r->nr_blocks);
		return;
	}
	printf("%s: %s, %llu inodes, %llu of %llu blocks in use\n", s->name,
	       r->nr_left ? "DAMAGED" : r->nr_fixed ? "repaired" : "no problems",
	       (unsigned long long)r->found.nr_inodes,
	       (unsigned long long)r->found.nr_blocks,
	       (unsigned long long)r->nr_blocks);
	if (s->verbose)
		print_details(r);
	if (s->unattended && r->nr_left)
		printf("%s: nobody is there to ask, so nothing was repaired; -y "
		       "repairs everything, -p what is safe\n", s->name);
	if (s->stopped)
		printf("%s: some repairs would give data up; run fsck.memsnapfs "
		       "without -p to decide\n", s->name);
}

static enum status status_of(const struct msnap_fsck_result *r)
{
	return r->nr_left ? UNCORRECTED : r->nr_fixed ? CORRECTED : OK;
}

static enum status complain(const struct state *s, int err,
			    const struct msnap_why *why)
{
	fflush(stdout);
	if (err == -ECANCELED) {
		fprintf(stderr, "fsck.memsnapfs: %s: cancelled\n", s->name);
		return CANCELLED;
	}
	fprintf(stderr, "fsck.memsnapfs: %s\n",
		*why->text ? why->text : strerror(-err));
	return err == -EUCLEAN || err == -ENOSPC ? UNCORRECTED : FAILED;
}

static void catch_signals(void)
{
	struct sigaction act = { .sa_handler = on_signal };

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
}

static enum status check(struct state *s, unsigned flags)
{
	struct msnap_fsck_args args = { .flags = flags, .found = on_problem,
					.progress = on_progress, .arg = s,
					.lock_wait_ms = LOCK_WAIT_MS };
	struct msnap_fsck_result result;
	struct msnap_why why = { "" };
	int err;

	s->bar = isatty(STDERR_FILENO);
	if (s->mode == ASK && !isatty(STDIN_FILENO)) {
		s->unattended = true;
		s->mode = NO;
	}
	if (s->mode == NO)
		args.flags |= MSNAP_FSCK_RDONLY;
	catch_signals();
	err = msnap_fsck(s->name, &args, &result, &why);
	clear_bar(s);
	if (err)
		return complain(s, err, &why);
	print_result(s, &result);
	return status_of(&result);
}

/* ---- options ------------------------------------------------------------------- */

static void print_help(void)
{
	printf("Usage: fsck.memsnapfs [-n|-p|-y] [-c] [-f] [-v] POOL\n"
	       "Check a memsnapfs pool that is not mounted, and repair it.\n\n"
	       "Options:\n"
	       "  -n, --no               answer no to everything; nothing is written\n"
	       "  -p, --preen            repair without asking what is safe to repair\n"
	       "  -y, --yes              answer yes to everything\n"
	       "  -c, --contents         verify the contents of files, too\n"
	       "  -f, --force            check even a pool that was closed cleanly\n"
	       "  -v, --verbose          say more in the end\n"
	       "  -h, --help             show this help and exit\n"
	       "  -V, --version          show the version and exit\n");
}

static enum status usage(const char *what)
{
	if (what)
		fprintf(stderr, "fsck.memsnapfs: %s\n", what);
	fprintf(stderr, "Try 'fsck.memsnapfs --help'.\n");
	return USAGE;
}

static int set_mode(struct state *s, enum mode mode)
{
	if (s->mode != ASK && s->mode != mode)
		return -1;
	s->mode = mode;
	return 0;
}

/* 0, or nonzero when it contradicts another. */
static int set_option(struct state *s, unsigned *flags, int c)
{
	switch (c) {
	case 'n':
		return set_mode(s, NO);
	case 'y':
		return set_mode(s, YES);
	case 'c':
		*flags |= MSNAP_FSCK_DATA;
		return 0;
	case 'f':
		*flags |= MSNAP_FSCK_FORCE;
		return 0;
	case 'v':
		s->verbose = true;
		return 0;
	default: /* p, and a, which fsck(8) and others say for it */
		return set_mode(s, PREEN);
	}
}

static enum status run(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "no", no_argument, NULL, 'n' },
		{ "preen", no_argument, NULL, 'p' },
		{ "yes", no_argument, NULL, 'y' },
		{ "contents", no_argument, NULL, 'c' },
		{ "force", no_argument, NULL, 'f' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct state s = { .mode = ASK };
	unsigned flags = 0;
	int c;

	while ((c = getopt_long(argc, argv, "npaycfvhV", longopts, NULL)) != -1) {
		switch (c) {
		case 'h':
			print_help();
			return OK;
		case 'V':
			printf("fsck.memsnapfs (memsnapfs) %s\n", PACKAGE_VERSION);
			return OK;
		case '?':
			return usage(NULL);
		default:
			if (set_option(&s, &flags, c))
				return usage("only one of -n, -p and -y can be "
					     "given");
		}
	}
	if (argc - optind != 1)
		return usage(optind == argc ? "no POOL given" :
					      "only one POOL can be checked at a "
					      "time");
	s.name = argv[optind];
	return check(&s, flags);
}

int main(int argc, char **argv)
{
	enum status status;

	setlocale(LC_CTYPE, "");
	argv[0] = (char *)"fsck.memsnapfs"; /* getopt's messages begin with it */
	status = run(argc, argv);
	/* What was found must reach its reader. */
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "fsck.memsnapfs: cannot write the output\n");
		return status | FAILED;
	}
	return status;
}
