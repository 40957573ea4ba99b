/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CRASH_FIXED_H
#define CRASH_FIXED_H

#include <stdint.h>

/* The clock begins anew: every workload sees the same times. */
void fixed_reset(void);
/* What UUIDs consist of until the next reset. */
void fixed_uuid(uint8_t byte);

#endif
