/* SPDX-License-Identifier: BSD-3-Clause */
/* units.c - sizes and times on the command line, and for people. Pure functions. */
#include "lib/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pinfs/compiler.h>

/* Digits first: strtod would also take "inf", "0x10" and a sign. */
static bool is_number(const char *text)
{
	return strspn(text, "0123456789.") != 0 && strpbrk(text, "xXeE") == NULL;
}

int units_parse_bytes(const char *text, uint64_t *bytes)
{
	static const char letters[] = "KMGTPE";
	unsigned int shift = 0;
	const char *letter;
	char *end;
	double v;

	if (strspn(text, "0123456789") == strlen(text) && text[0] != '\0') {
		errno = 0;
		*bytes = strtoull(text, NULL, 10);	/* exact, which a double is not */
		return errno == 0 ? 0 : -ERANGE;
	}
	if (!is_number(text))
		return -EINVAL;
	v = strtod(text, &end);
	letter = *end != '\0' ? strchr(letters, *end >= 'a' ? *end - 'a' + 'A' : *end) : NULL;
	if (end == text || letter == NULL)
		return -EINVAL;
	shift = 10 * (unsigned int)(letter - letters + 1);
	if (end[1] != '\0' && strcmp(end + 1, "B") != 0 && strcmp(end + 1, "iB") != 0)
		return -EINVAL;
	v *= (double)(UINT64_C(1) << shift);
	if (v >= (double)(UINT64_C(1) << 63))
		return -ERANGE;
	*bytes = (uint64_t)v;
	return 0;
}

int units_parse_ns(const char *text, uint64_t *ns)
{
	static const struct { const char *name; double ns; } unit[] = {
		{ "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "ns", 1 }, { "m", 60e9 }, { "h", 3600e9 },
	};
	char *end;
	double v;

	if (!is_number(text))
		return -EINVAL;
	v = strtod(text, &end);
	if (end == text)
		return -EINVAL;
	for (size_t i = 0; i < PF_ARRAY_LEN(unit); i++) {
		if (strcmp(end, unit[i].name) != 0)
			continue;
		v *= unit[i].ns;
		if (v > 1e18)
			return -ERANGE;
		*ns = (uint64_t)(v + 0.5);
		return 0;
	}
	return -EINVAL;
}

char *units_show_ns(uint64_t ns, char *buf, size_t room)
{
	static const struct { double ns; const char *name; } unit[] = { { 1e9, "s" }, { 1e6, "ms" }, { 1e3, "us" } };
	double v;

	if (ns >= UINT64_C(3600) * 1000000000) {
		uint64_t min = ns / (UINT64_C(60) * 1000000000);

		(void)snprintf(buf, room, "%" PRIu64 " h %02" PRIu64 " min", min / 60, min % 60);
		return buf;
	}
	for (size_t i = 0; i < PF_ARRAY_LEN(unit); i++) {
		v = (double)ns / unit[i].ns;
		if (v >= 1) {
			(void)snprintf(buf, room, "%.*f %s", v < 10 ? 2 : v < 100 ? 1 : 0, v, unit[i].name);
			return buf;
		}
	}
	(void)snprintf(buf, room, "%" PRIu64 " ns", ns);
	return buf;
}

char *units_show_bytes(uint64_t bytes, char *buf, size_t room)
{
	static const char *const name[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	size_t i = 0;

	while (v >= 1024 && i + 1 < PF_ARRAY_LEN(name)) {
		v /= 1024;
		i++;
	}
	(void)snprintf(buf, room, "%.*f %s", i == 0 || v == (double)(uint64_t)v ? 0 : 1, v, name[i]);
	return buf;
}
