/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * break.h - switches that break a promise of the engine on purpose, to show that the
 * crash tests notice.  Constant 0 in every build but the one of that test.
 */
#ifndef MSNAP_COW_BREAK_H
#define MSNAP_COW_BREAK_H

enum msnap_break {
	MSNAP_BREAK_NOTHING,
	MSNAP_BREAK_FENCE,	 /* a root record before what it names is durable */
	MSNAP_BREAK_EARLY_REUSE, /* freed blocks are free one commit too early */
	MSNAP_BREAK_LOST_REF,	 /* a clone takes no reference on its extents */
	MSNAP_BREAK_FSYNC,	 /* a commit does nothing */
	MSNAP_BREAK_RENAME,	 /* the replaced file goes first, the rest later */
	MSNAP_BREAK_NR,
};

#ifdef MSNAP_BREAKABLE
extern int msnap_broken; /* enum msnap_break; the test program's */
#define MSNAP_BROKEN(what) (msnap_broken == MSNAP_BREAK_##what)
#else
#define MSNAP_BROKEN(what) 0
#endif

#endif
