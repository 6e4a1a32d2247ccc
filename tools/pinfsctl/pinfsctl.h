/* SPDX-License-Identifier: BSD-3-Clause */
/* pinfsctl.h - asking a mount's daemon for something, and showing reports to people. */
#ifndef TOOLS_PINFSCTL_H
#define TOOLS_PINFSCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <json-c/json.h>
#include <pinfs/compiler.h>
#include <pinfs/proto.h>

/* One line on standard error; returns 1, the status of every failure but bad usage. */
int complain(const char *fmt, ...) PF_PRINTF(1, 2);

/*
 * The JSON text of a report from the daemon behind any path of a pinfs mount, NUL terminated; free() it. @pid: see
 * struct pf_p_report_in. 0, or 1 having said why. Waits at most ten seconds for the daemon.
 */
int session_report(const char *path, enum pf_report what, uint32_t pid, char **json);

/* One request to the daemon behind @path; the answer's body, NUL terminated, to be freed. 0 or -errno; 1 having said
 * why there is no talking to the daemon. */
int session_call(const char *path, uint32_t opcode, const void *in, size_t inlen, char **body, size_t *len);

/* Several requests on one connection, which the caller closes. @unique: another one each time, not 0 or 1. */
int session_open(const char *path, int *sock);
int session_ask(int sock, uint32_t opcode, uint64_t unique, const void *in, size_t inlen, char **body, size_t *len);

/*
 * Bad blocks of the mount at @path, as PF_P_BADBLOCK has it. 0 or -errno; 1 having said why there is no talking to the
 * daemon. LIST: *n records, up to PF_P_BAD_MAX, in @rec.
 */
int session_bad(const char *path, enum pf_p_bad_what what, uint64_t ino, uint64_t at, uint64_t len, uint64_t *changed,
		struct pf_p_bad_rec *rec, unsigned int *n);

/* End the sessions of a process, as PF_P_EVICT has it. 0 or -errno; 1 having said why there is no talking. */
int session_evict(const char *path, uint32_t pid);

/* badblock.c: `pinfsctl badblock ...`, argv[0] being that word. The exit status. */
int badblock(int argc, char **argv);
int badblock_usage(FILE *f, int status);

/* policy.c: `pinfsctl set ...`, `pinfsctl would-block ...`. The exit status. */
int policy_set(int argc, char **argv);
int would_block(int argc, char **argv);

/* pause.c: `pinfsctl pause ...`, `pinfsctl resume ...`, argv[0] being that word. The exit status. */
int pause_verb(int argc, char **argv);

/* trace.c: `pinfsctl trace ...`; timeline.c: `pinfsctl timeline ...`, argv[0] being that word. The exit status. */
int trace_verb(int argc, char **argv);
int timeline_verb(int argc, char **argv);

/* pins.c: `pinfsctl pins ...`, `pinfsctl kick ...`. The exit status. */
int pins_verb(int argc, char **argv);
int kick_verb(int argc, char **argv);
/* leases.c: `pinfsctl leases ...`. The exit status. */
int leases_verb(int argc, char **argv);
/* stack.c: who made each of the "pins" or "leases" of a report, where the process says so: its callers without the
 * library's own functions, as text, or as a member "frames" of each. */
void show_stacks(struct json_object *root, const char *what, bool as_json);
/* groups.c: the pins of a report, summed up. */
void show_groups(struct json_object *root, bool by_file, bool as_json);

/* windows.c: the daemon's report of windows, completed by what /proc says of the processes. The exit status. */
int windows(const char *json, bool as_json);

/*
 * table.c: JSON of reports. What is missing, or of another type, is NULL, 0, "" or no element. j_report() says why it
 * returns NULL.
 */
struct json_object *j_report(const char *json);
struct json_object *j_get(struct json_object *o, const char *name);
uint64_t j_num(struct json_object *o, const char *name);
const char *j_str(struct json_object *o, const char *name);
size_t j_count(struct json_object *o, const char *name);
struct json_object *j_list(struct json_object *o, const char *name, size_t *n);

/* A table: cells row by row, printed when all are there. table_cell() aborts when memory ends. */
#define TABLE_COLS 16
struct table {
	size_t ncol, ncell, room;
	const char *const *head;
	const char *right;	/* a column whose letter is 'r' is right-aligned */
	char **cell;
};
void table_cell(struct table *t, const char *fmt, ...) PF_PRINTF(2, 3);
void table_print(struct table *t);
/* "what      text" */
void show_line(const char *what, const char *fmt, ...) PF_PRINTF(2, 3);

/* When a process began (CLOCK_BOOTTIME), as a clock on the wall shows it; in @buf, of 32 bytes or more. */
const char *show_started(uint64_t boot_ns, char *buf, size_t room);

/* Tables. 0, or 1 having said that the text makes no sense. */
int show_status(const char *json);
int show_pins(const char *json);
int show_leases(const char *json);

#endif
