/* SPDX-License-Identifier: BSD-3-Clause */
/* units.c - times on the command line, and times and sizes for people. Pure functions. */
#include "lib/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pinfs/compiler.h>

int units_parse_ns(const char *text, uint64_t *ns)
{
	static const struct { const char *name; double ns; } unit[] = {
		{ "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "ns", 1 }, { "m", 60e9 }, { "h", 3600e9 },
	};
	char *end;
	double v;

	/* Digits first: strtod would also take "inf", "0x10" and a sign. */
	if (strspn(text, "0123456789.") == 0 || strpbrk(text, "xXeE") != NULL)
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
