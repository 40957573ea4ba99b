/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crash.h - crashes in the middle of a repair.
 */
#ifndef TESTS_IMAGES_CRASH_H
#define TESTS_IMAGES_CRASH_H

#include "base.h"

/*
 * Repair the image in @file, in simulated memory.  At each wait for the media, crash:
 * of the lines stored since the last one none, and @nr_halves random halves, have
 * arrived.
 * Each of these images must be repaired to a pool that has no problems, with the files
 * that @lost does not name.  Returns how many were not; *nr: how many there were.
 */
unsigned image_crash(const char *file, bool (*lost)(const char *path),
		     unsigned nr_halves, unsigned *nr);

#endif
