/* SPDX-License-Identifier: BSD-3-Clause */
/* cli.h - what the command lines of all tools have in common: sizes, UUIDs, the one line of an error. */
#ifndef TOOLS_LIB_CLI_H
#define TOOLS_LIB_CLI_H

#include <stdint.h>
#include <pinfs/compiler.h>

/* "16M", "1G", "4096": digits, then at most one of K M G T (powers of 1024; "KiB" and so on as well). 0, -EINVAL,
 * or -ERANGE when it does not fit 64 bits. */
int cli_parse_bytes(const char *text, uint64_t *bytes);

/* "17", "17-20", "0x11": the first block and how many. 0 or -EINVAL. */
int cli_parse_blocks(const char *text, uint64_t *first, uint64_t *n);

/* "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", either case. 0 or -EINVAL. @buf of cli_show_uuid: 37 bytes; returned. */
int cli_parse_uuid(const char *text, uint8_t uuid[16]);
char *cli_show_uuid(const uint8_t uuid[16], char *buf);

/* "PROGRAM: message" and a newline on stderr, where PROGRAM is what the process was called by, without folders. */
void cli_error(const char *fmt, ...) PF_PRINTF(1, 2);

#endif
