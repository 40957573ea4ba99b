/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exercise.h - use a pool, whatever is in it.
 *
 * What it does not do: it expects nothing of a damaged pool but that no call
 * crashes, hangs, leaks or reads what it must not.  Of a pool that the checker
 * found sound, it expects that it is sound afterwards.
 */
#ifndef TESTS_FUZZ_EXERCISE_H
#define TESTS_FUZZ_EXERCISE_H

#include "cow/cow.h"
#include "image.h"

/* Everything that can be read, live and in the snapshots, within bounds. */
void fuzz_read_all(struct msnap_pool *pool);

/* Changes: first those that the input asks for, then always the same few. */
void fuzz_modify(struct msnap_pool *pool, struct fuzz_input *in);

/* Errors that the checker finds, data included; -1: it could not go through. */
long fuzz_check(struct msnap_pool *pool, bool verbose);

#endif
