/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault.c - the SIGBUS handler behind MSNAP_GUARD(); see fault.h.
 *
 * The ranges are in a small fixed table that the handler reads without a lock:
 * a slot is in use when its base is not 0.  Writers, under table_lock, store
 * base last when they fill a slot and clear it first when they empty one; the
 * handler looks at base before and after it looks at end, and so never pairs
 * the base of one range with the end of another.
 */
#include "fault.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define NR_RANGES 64

struct range {
	_Atomic uintptr_t base;
	_Atomic uintptr_t end;
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct range table[NR_RANGES]; /* written under table_lock */
static bool installed;		      /* table_lock */
static struct sigaction previous;     /* set before the handler is installed */

__thread struct msnap_guard *msnap_guard_top;

static bool is_registered(uintptr_t addr)
{
	for (unsigned i = 0; i < NR_RANGES; i++) {
		uintptr_t base = atomic_load(&table[i].base);
		uintptr_t end = atomic_load(&table[i].end);

		if (base && addr >= base && addr < end &&
		    atomic_load(&table[i].base) == base)
			return true;
	}
	return false;
}

/* What would have happened without us. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
	bool by_kill = info->si_code <= 0;

	if (previous.sa_handler == SIG_IGN && by_kill)
		return;
	if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
		/* A fault meets it again on return, and then dies of it there,
		 * where a core dump shows the place. */
		signal(sig, SIG_DFL);
		if (by_kill)
			raise(sig);
	} else if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(sig, info, context);
	} else {
		previous.sa_handler(sig);
	}
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	bool ours = info->si_code > 0 &&
		    is_registered((uintptr_t)info->si_addr);

	/* Poison that was found without being touched: whoever touches it
	 * gets a signal of its own. */
	if (ours && info->si_code == BUS_MCEERR_AO)
		return;
	if (ours && msnap_guard_top)
		siglongjmp(msnap_guard_top->env, 1);
	pass_on(sig, info, context);
}

/* Called with table_lock held. */
static int install(void)
{
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK,
	};

	if (installed)
		return 0;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, NULL, &previous) ||
	    sigaction(SIGBUS, &action, NULL))
		return -errno;
	installed = true;
	return 0;
}

/* Called with table_lock held. */
static int fill_slot(uintptr_t base, size_t len)
{
	for (unsigned i = 0; i < NR_RANGES; i++) {
		if (atomic_load(&table[i].base))
			continue;
		atomic_store(&table[i].end, base + len);
		atomic_store(&table[i].base, base);
		return 0;
	}
	return -ENFILE;
}

int msnap_fault_register(const void *base, size_t len)
{
	int err;

	if (!base || !len)
		return -EINVAL;
	pthread_mutex_lock(&table_lock);
	err = install();
	if (!err)
		err = fill_slot((uintptr_t)base, len);
	pthread_mutex_unlock(&table_lock);
	return err;
}

void msnap_fault_unregister(const void *base)
{
	pthread_mutex_lock(&table_lock);
	for (unsigned i = 0; base && i < NR_RANGES; i++) {
		if (atomic_load(&table[i].base) != (uintptr_t)base)
			continue;
		atomic_store(&table[i].base, 0);
		break;
	}
	pthread_mutex_unlock(&table_lock);
}
