/* SPDX-License-Identifier: BSD-3-Clause */
/* units.h - times on the command line, and times and sizes for people (sizes on the command line: cli.h). */
#ifndef TOOLS_LIB_UNITS_H
#define TOOLS_LIB_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* "250ms", "1.5s", "2m", "10us", "7ns"; a bare number is seconds. 0, -EINVAL, -ERANGE (over 10^9 s). */
int units_parse_ns(const char *text, uint64_t *ns);

/* "1.50 s", "312 ms", "18 us": three digits that matter. Returns @buf. */
char *units_show_ns(uint64_t ns, char *buf, size_t room);

/* "4.0 GiB", "512 KiB", "100 B". Returns @buf. */
char *units_show_bytes(uint64_t bytes, char *buf, size_t room);

#endif
