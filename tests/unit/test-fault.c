/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the SIGBUS guard. */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow/fault.h"

#define LEN 65536u
#define GOOD 4096u /* bytes that are there; the rest answers with SIGBUS */

/* A mapping of a file that was cut short behind it. */
static uint8_t *map_cut_file(void)
{
	char path[] = "/tmp/test-fault-XXXXXX";
	int fd = mkstemp(path);
	void *base;

	ck_assert_int_ge(fd, 0);
	unlink(path);
	ck_assert_int_eq(ftruncate(fd, LEN), 0);
	base = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(base, MAP_FAILED);
	ck_assert_int_eq(ftruncate(fd, GOOD), 0);
	close(fd);
	return base;
}

static uint8_t *map_pool(void)
{
	uint8_t *base = map_cut_file();

	ck_assert_int_eq(msnap_fault_register(base, LEN), 0);
	return base;
}

/* Valgrind drops a load that nobody uses. */
static volatile int seen;

static int load(const volatile uint8_t *p, int *out)
{
	seen = *out = *p;
	return 7;
}

static int store(volatile uint8_t *p)
{
	*p = 1;
	return 0;
}

static int value(int n)
{
	return n;
}

/* How callers use it: in an argument, with parameters and locals around. */
static int end(int *state, int err)
{
	*state = 0;
	return err;
}

static int guarded_load(int *state, uint8_t *p, int *out)
{
	*state = 1;
	return end(state, MSNAP_GUARD(load(p, out)));
}

START_TEST(passes_the_value_on)
{
	ck_assert_int_eq(MSNAP_GUARD(value(42)), 42);
	ck_assert_int_eq(MSNAP_GUARD(value(-ENOENT)), -ENOENT);
	ck_assert_ptr_null(msnap_guard_top);
}
END_TEST

START_TEST(catches_loads_and_stores)
{
	uint8_t *pool = map_pool();
	int state, out = -1;

	pool[5] = 9;
	ck_assert_int_eq(guarded_load(&state, pool + 5, &out), 7);
	ck_assert_int_eq(out, 9);
	out = -1;
	ck_assert_int_eq(guarded_load(&state, pool + GOOD, &out), -EIO);
	ck_assert_int_eq(out, -1);
	ck_assert_int_eq(state, 0);
	ck_assert_int_eq(MSNAP_GUARD(store(pool + LEN - 1)), -EIO);
	ck_assert_ptr_null(msnap_guard_top);
}
END_TEST

START_TEST(catches_every_time)
{
	uint8_t *pool = map_pool();
	sigset_t before, after;
	int sum = 0, out;

	ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &before), 0);
	for (int i = 0; i < 1000; i++) {
		int res = MSNAP_GUARD(load(pool + (i % 2) * GOOD, &out));

		sum += res;
	}
	ck_assert_int_eq(sum, 500 * 7 - 500 * EIO);
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &after), 0);
	for (int sig = 1; sig < SIGRTMAX; sig++)
		ck_assert_int_eq(sigismember(&after, sig),
				 sigismember(&before, sig));
	ck_assert_int_eq(sigismember(&after, SIGBUS), 0);
}
END_TEST

static int inner_fails(uint8_t *pool, int *inner)
{
	int out;

	*inner = MSNAP_GUARD(load(pool + GOOD, &out));
	return 3;
}

static int outer_fails(uint8_t *pool, int *inner)
{
	int out;

	*inner = MSNAP_GUARD(load(pool, &out));
	return load(pool + GOOD, &out);
}

START_TEST(nests)
{
	uint8_t *pool = map_pool();
	int inner = 0, out;

	ck_assert_int_eq(MSNAP_GUARD(inner_fails(pool, &inner)), 3);
	ck_assert_int_eq(inner, -EIO);
	ck_assert_int_eq(MSNAP_GUARD(outer_fails(pool, &inner)), -EIO);
	ck_assert_int_eq(inner, 7);
	ck_assert_int_eq(MSNAP_GUARD(MSNAP_GUARD(load(pool + GOOD, &out))), -EIO);
	ck_assert_ptr_null(msnap_guard_top);
}
END_TEST

static void *catch_many(void *arg)
{
	uint8_t *pool = arg;
	intptr_t caught = 0;
	int out;

	for (unsigned i = 0; i < 500; i++)
		caught += MSNAP_GUARD(load(pool + GOOD + i, &out)) == -EIO;
	return (void *)caught;
}

START_TEST(works_in_threads)
{
	uint8_t *pool = map_pool();
	pthread_t thread[4];
	void *caught;

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, catch_many,
						pool), 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(pthread_join(thread[i], &caught), 0);
		ck_assert_int_eq((intptr_t)caught, 500);
	}
}
END_TEST

/* The signal that a child dies of when it runs @fn; 0: it lived. */
static int signal_of(void (*fn)(uint8_t *pool), uint8_t *pool)
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		fn(pool);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void touch_unguarded(uint8_t *pool)
{
	store(pool + GOOD);
}

static void touch_unregistered(uint8_t *pool)
{
	msnap_fault_unregister(pool);
	_exit(MSNAP_GUARD(store(pool + GOOD)) ? 1 : 2);
}

static void kill_in_guard(uint8_t *pool)
{
	(void)pool;
	_exit(MSNAP_GUARD(kill(getpid(), SIGBUS)) ? 1 : 2);
}

START_TEST(others_die_as_ever)
{
	uint8_t *pool;

	/* A sanitizer's own handler must not be in between. */
	signal(SIGBUS, SIG_DFL);
	pool = map_pool();
	ck_assert_int_eq(signal_of(touch_unguarded, pool), SIGBUS);
	ck_assert_int_eq(signal_of(touch_unregistered, pool), SIGBUS);
	ck_assert_int_eq(signal_of(kill_in_guard, pool), SIGBUS);
}
END_TEST

static void *seen_addr;

static void earlier_handler(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	seen_addr = info->si_addr;
	/* Put memory there, so that the instruction can go on. */
	mmap(info->si_addr, 4096, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

START_TEST(earlier_handler_gets_the_rest)
{
	struct sigaction action = { .sa_sigaction = earlier_handler,
				    .sa_flags = SA_SIGINFO };
	uint8_t *other = map_cut_file();
	uint8_t *pool;

	ck_assert_int_eq(sigaction(SIGBUS, &action, NULL), 0);
	pool = map_pool();
	ck_assert_int_eq(MSNAP_GUARD(store(pool + GOOD)), -EIO);
	ck_assert_ptr_null(seen_addr);
	ck_assert_int_eq(MSNAP_GUARD(store(other + GOOD)), 0);
	ck_assert_ptr_eq(seen_addr, other + GOOD);
	ck_assert_int_eq(store(pool + 2 * GOOD), 0);
	ck_assert_ptr_eq(seen_addr, pool + 2 * GOOD);
}
END_TEST

START_TEST(table_is_bounded_and_reused)
{
	static uint8_t area[256];
	int nr = 0;

	ck_assert_int_eq(msnap_fault_register(NULL, 1), -EINVAL);
	ck_assert_int_eq(msnap_fault_register(area, 0), -EINVAL);
	while (nr < 200 && msnap_fault_register(area + nr, 1) == 0)
		nr++;
	ck_assert_int_ge(nr, 16);
	ck_assert_int_eq(msnap_fault_register(area + nr, 1), -ENFILE);
	msnap_fault_unregister(area + 3);
	ck_assert_int_eq(msnap_fault_register(area + nr, 1), 0);
	msnap_fault_unregister(area + 255);
	msnap_fault_unregister(NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fault");
	TCase *tc = tcase_create("guard");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, passes_the_value_on);
	tcase_add_test(tc, catches_loads_and_stores);
	tcase_add_test(tc, catches_every_time);
	tcase_add_test(tc, nests);
	tcase_add_test(tc, works_in_threads);
	tcase_add_test(tc, others_die_as_ever);
	tcase_add_test(tc, earlier_handler_gets_the_rest);
	tcase_add_test(tc, table_is_bounded_and_reused);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
