/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault.h - memory of the pool that cannot be read becomes an error.
 *
 * The pool is mapped.  Poisoned memory, a hole in the backing file on a full
 * disk or a file cut short under us arrive as SIGBUS at the load or store that
 * met them.  MSNAP_GUARD() turns that into -EIO for the one call it guards.
 *
 * What it does not do: it undoes nothing.  When the guard catches, the call is
 * left where it stood: locks that it took stay taken, memory that it allocated
 * is lost.  So guard calls that only touch memory, or whose traces the caller
 * can remove.  A SIGBUS outside a guard, or at an address that is not
 * registered, goes where it would have gone without us: by default the process
 * dies of it.
 *
 * Invariants: msnap_guard_top is the innermost guard of the thread, or NULL.
 * The signal mask after a catch is what it was before the call.
 *
 * Locking: register and unregister by any thread; the handler takes no lock.
 */
#ifndef MSNAP_COW_FAULT_H
#define MSNAP_COW_FAULT_H

#include <errno.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stddef.h>

/*
 * gcc warns of every variable of the caller that has been assigned twice (a
 * loop's counter, say).  They are safe: only what the guarded expression itself
 * assigns is undefined after a catch, and MSNAP_GUARD() forbids that.
 */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wclobbered"
#endif

/* The handler of the thread sanitizer, which calls ours, blocks all signals. */
#if defined(__SANITIZE_THREAD__)
#define MSNAP_GUARD_SAVES_MASK 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MSNAP_GUARD_SAVES_MASK 1
#endif
#endif
#ifndef MSNAP_GUARD_SAVES_MASK
#define MSNAP_GUARD_SAVES_MASK 0
#endif

struct msnap_guard {
	sigjmp_buf env;
	struct msnap_guard *outer;
};

/* initial-exec: the handler must not allocate when it looks at it. */
extern __thread struct msnap_guard *msnap_guard_top
	__attribute__((tls_model("initial-exec")));

/*
 * The value of the int expression @call, or -EIO when it met memory of a
 * registered range that answers with SIGBUS.  Guards nest; the innermost one
 * catches.  @call must be a function call that assigns no variable of the
 * caller; results go through pointers and count only without an error.  It must
 * not leave by return, goto or longjmp.
 *
 * The mask is not saved (that would be a system call each time): the handler
 * runs with SA_NODEFER and an empty sa_mask, so there is nothing to restore.
 */
#define MSNAP_GUARD(call)                                          \
	({                                                         \
		struct msnap_guard guard_;                         \
		int guarded_;                                      \
		guard_.outer = msnap_guard_top;                    \
		if (sigsetjmp(guard_.env, MSNAP_GUARD_SAVES_MASK) == 0) { \
			msnap_guard_top = &guard_;                 \
			atomic_signal_fence(memory_order_seq_cst); \
			guarded_ = (call);                         \
		} else {                                           \
			guarded_ = -EIO;                           \
		}                                                  \
		atomic_signal_fence(memory_order_seq_cst);         \
		msnap_guard_top = guard_.outer;                    \
		guarded_;                                          \
	})

/*
 * Guards catch SIGBUS in [@base, @base + @len) from now on.  The first call
 * installs the handler, which stays.  -EINVAL: an empty range; -ENFILE: too many
 * ranges.
 */
int msnap_fault_register(const void *base, size_t len);

/* Before the range is unmapped.  A base that is not registered is ignored. */
void msnap_fault_unregister(const void *base);

#endif
