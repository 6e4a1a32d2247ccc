/* SPDX-License-Identifier: BSD-3-Clause */
/* cli.c - sizes, UUIDs and error lines of the command lines. Owns nothing; pure but for cli_error(). */
#include "lib/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_parse_bytes(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	unsigned int shift = 0;
	unsigned long long v;
	const char *unit;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;		/* strtoull would take blanks and a sign */
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno != 0)
		return -ERANGE;
	if (*end != '\0') {
		unit = strchr(units, toupper((unsigned char)*end));
		if (unit == NULL || (end[1] != '\0' && strcasecmp(end + 1, "iB") != 0))
			return -EINVAL;
		shift = 10 * (unsigned int)(unit - units + 1);
	}
	if (v > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = (uint64_t)v << shift;
	return 0;
}

static bool number(const char *s, uint64_t *v, const char **end)
{
	char *e;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*v = strtoull(s, &e, 0);
	*end = e;
	return errno == 0;
}

int cli_parse_blocks(const char *text, uint64_t *first, uint64_t *n)
{
	const char *end;
	uint64_t last;

	if (!number(text, first, &end))
		return -EINVAL;
	*n = 1;
	if (*end == '-') {
		if (!number(end + 1, &last, &end) || last < *first || last - *first == UINT64_MAX)
			return -EINVAL;
		*n = last - *first + 1;
	}
	return *end == '\0' ? 0 : -EINVAL;
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *p = c == '\0' ? NULL : strchr(digits, tolower((unsigned char)c));

	return p == NULL ? -1 : (int)(p - digits);
}

int cli_parse_uuid(const char *text, uint8_t uuid[16])
{
	uint8_t out[16];

	if (strlen(text) != 36)
		return -EINVAL;
	for (unsigned int i = 0; i < 16; i++) {
		int hi, lo;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
			return -EINVAL;
		hi = hex_digit(*text++);
		lo = hex_digit(*text++);
		if (hi < 0 || lo < 0)
			return -EINVAL;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	memcpy(uuid, out, sizeof out);
	return 0;
}

char *cli_show_uuid(const uint8_t uuid[16], char *buf)
{
	char *p = buf;

	for (unsigned int i = 0; i < 16; i++)
		p += sprintf(p, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
	return buf;
}

void cli_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)fprintf(stderr, "%s: ", program_invocation_short_name);
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
}
