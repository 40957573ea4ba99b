/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fixed.c - the engine's clock and its source of UUIDs, made the same in every run, so
 * that a seed always gives the same images.  The program's functions come before
 * those of the libraries.
 */
#include "fixed.h"

#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uuid/uuid.h>

#define START 1700000000

#define UUID 0x5a

static uint64_t ticks;
static uint8_t uuid = UUID;

void fixed_reset(void)
{
	ticks = 0;
	uuid = UUID;
}

void fixed_uuid(uint8_t byte)
{
	uuid = byte;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	if (id != CLOCK_REALTIME)
		return (int)syscall(SYS_clock_gettime, id, t);
	ticks++;
	t->tv_sec = START + ticks / 1000000;
	t->tv_nsec = ticks % 1000000 * 1000;
	return 0;
}

time_t time(time_t *t)
{
	if (t)
		*t = START;
	return START;
}

void uuid_generate(uuid_t out)
{
	memset(out, uuid, sizeof(uuid_t));
}
