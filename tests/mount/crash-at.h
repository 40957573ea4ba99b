/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crash-at.h - included in front of the sources of tests/mount/crash-daemon: with
 * MSNAP_CRASH_AT=PLACE:N in its environment the daemon kills itself when it comes to
 * that place for the nth time.
 */
#ifndef TESTS_CRASH_AT_H
#define TESTS_CRASH_AT_H

void crash_at(const char *place);
#define MSNAP_CRASH_AT(place) crash_at(#place)

#endif
