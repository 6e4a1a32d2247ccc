/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * trace.h - a trace of a mount, from the daemon's events to a file and a picture.
 *
 *   trace.c     asks the daemon, keeps events in memory (struct capture), runs the command
 *   chrome.c    writes a capture as JSON of the Chrome trace format
 *   check.c     reads such a file, and refuses one that makes no sense
 *   timeline.c  what a picture of one break shows
 *   svg.c       the picture
 */
#ifndef TOOLS_PINFSCTL_TRACE_H
#define TOOLS_PINFSCTL_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <json-c/json.h>
#include <pinfs/trace.h>

#define CAPTURE_MAX ((size_t)500000)		/* events; some 300 bytes each while they are written */

struct thread_name {
	uint32_t pid, tid;
	char name[16];
};

struct capture {
	struct pf_t_ev *ev;
	size_t n, room;
	uint64_t lost;			/* overwritten before they were read, or beyond CAPTURE_MAX */
	uint64_t begin_ns, end_ns;
	uint64_t ino;			/* of this file only; 0: all */
	uint32_t daemon_pid;
	char *pins;			/* report at the beginning, or NULL */
	struct thread_name *name;
	size_t nname, name_room;
};

/* Sorts the events. 0; 1 having said why not. */
int chrome_write(struct capture *c, FILE *f);

/* The trace in a file, checked, to be given back with json_object_put(); or NULL having said what is wrong with it. */
struct json_object *trace_load(const char *path);

#endif
