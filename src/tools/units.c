/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "units.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const char suffixes[] = "BKMGTPE";

/* Tenths of 2^@shift bytes, rounded to the nearest; never overflows. */
static uint64_t tenths(uint64_t bytes, unsigned shift)
{
	uint64_t unit = 1ull << shift;
	uint64_t rest = bytes & (unit - 1);

	/* Ten times the rest fits 64 bits up to 2^60, the largest unit. */
	return (bytes >> shift) * 10 + (rest * 10 + unit / 2) / unit;
}

void msnap_format_size(uint64_t bytes, char *buf, size_t size)
{
	unsigned i = 0;
	uint64_t ten;

	if (bytes < 1024) {
		snprintf(buf, size, "%lluB", (unsigned long long)bytes);
		return;
	}
	do
		ten = tenths(bytes, 10 * ++i);
	while (ten >= 10240 && i < 6);
	if (ten % 10)
		snprintf(buf, size, "%llu.%llu%c", (unsigned long long)ten / 10,
			 (unsigned long long)ten % 10, suffixes[i]);
	else
		snprintf(buf, size, "%llu%c", (unsigned long long)ten / 10,
			 suffixes[i]);
}

/* The power of two that a suffix stands for, or -1. */
static int suffix_shift(const char *text)
{
	const char *p;

	if (!*text || !strcasecmp(text, "B"))
		return 0;
	p = strchr(suffixes + 1, toupper((unsigned char)*text));
	if (!p)
		return -1;
	if (text[1] && strcasecmp(text + 1, "iB"))
		return -1;
	return 10 * (int)(p - suffixes);
}

/* @digits, as decimals of 2^@shift, in bytes, rounded down. */
static uint64_t fraction(const char *digits, size_t nr, unsigned shift)
{
	uint64_t num = 0, den = 1;
	size_t i;

	/* More than nine decimals cannot be meant; den stays below 2^30. */
	for (i = 0; i < nr && i < 9; i++) {
		num = num * 10 + (uint64_t)(digits[i] - '0');
		den *= 10;
	}
	return (uint64_t)((unsigned __int128)num * (1ull << shift) / den);
}

int msnap_parse_size(const char *text, uint64_t *bytes)
{
	const char *digits = "";
	unsigned long long whole;
	size_t nr = 0;
	uint64_t sum;
	char *end;
	int shift;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	whole = strtoull(text, &end, 10);
	if (errno)
		return -errno;
	if (*end == '.') {
		digits = end + 1;
		nr = strspn(digits, "0123456789");
		if (!nr)
			return -EINVAL;
		end += 1 + nr;
	}
	shift = suffix_shift(end);
	if (shift < 0 || (*digits && !shift))
		return -EINVAL;
	if (whole > UINT64_MAX >> shift)
		return -ERANGE;
	if (__builtin_add_overflow((uint64_t)whole << shift,
				   fraction(digits, nr, (unsigned)shift), &sum))
		return -ERANGE;
	*bytes = sum;
	return 0;
}

static void format_tm(uint64_t time_ns, const char *fmt, char *buf, size_t size)
{
	time_t sec = (time_t)(time_ns / 1000000000u);
	struct tm tm;

	if (!localtime_r(&sec, &tm) || !strftime(buf, size, fmt, &tm))
		snprintf(buf, size, "@%lld", (long long)sec);
}

void msnap_format_time(uint64_t time_ns, char *buf, size_t size)
{
	format_tm(time_ns, "%Y-%m-%d %H:%M:%S", buf, size);
}

void msnap_format_iso(uint64_t time_ns, char *buf, size_t size)
{
	size_t len;

	format_tm(time_ns, "%Y-%m-%dT%H:%M:%S%z", buf, size);
	len = strlen(buf);
	/* strftime has +0100; ISO 8601 wants +01:00 behind an extended time. */
	if (len < 5 || *buf == '@' || len + 2 > size)
		return;
	memmove(buf + len - 1, buf + len - 2, 3);
	buf[len - 2] = ':';
}

static bool needs_quotes(const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789@%+=:,./_-";

	return !*text || text[strspn(text, plain)] != '\0';
}

char *msnap_quote(const char *text)
{
	char *buf, *p;

	if (!needs_quotes(text))
		return strdup(text);
	/* At worst every byte is a quote, which takes four. */
	buf = malloc(4 * strlen(text) + 3);
	if (!buf)
		return NULL;
	p = buf;
	*p++ = '\'';
	for (; *text; text++)
		if (*text == '\'')
			p = stpcpy(p, "'\\''");
		else
			*p++ = *text;
	strcpy(p, "'");
	return buf;
}
