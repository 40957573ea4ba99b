/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * units.h - sizes, times and names as people write and read them.
 *
 * What it does not do: it knows no options and prints nothing.
 *
 * Locking: none; the programs have one thread.
 */
#ifndef MSNAP_TOOLS_UNITS_H
#define MSNAP_TOOLS_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* "1.5G", "12K", "0B": powers of 1024, at most one decimal.  32 bytes suffice. */
void msnap_format_size(uint64_t bytes, char *buf, size_t size);

/*
 * A number of bytes, or one with a suffix K, M, G, T or P (powers of 1024;
 * "KiB" and "kib" mean the same) and perhaps decimals.  -EINVAL: it is none;
 * -ERANGE: too large for 64 bits.
 */
int msnap_parse_size(const char *text, uint64_t *bytes);

/* Local time, "2026-11-23 10:11:12".  32 bytes suffice. */
void msnap_format_time(uint64_t time_ns, char *buf, size_t size);

/* The same as ISO 8601 with the zone, "2026-11-23T10:11:12+01:00". */
void msnap_format_iso(uint64_t time_ns, char *buf, size_t size);

/*
 * @text in quotes for a shell where it needs them.  The caller frees it; NULL:
 * no memory.
 */
char *msnap_quote(const char *text);

#endif
