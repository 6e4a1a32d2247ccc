/* SPDX-License-Identifier: BSD-3-Clause */
/* chrome.h - private to chrome.c and chrome_out.c: text of events, and tables of what has begun and not ended. */
#ifndef TOOLS_PINFSCTL_CHROME_H
#define TOOLS_PINFSCTL_CHROME_H

#include <pinfs/compiler.h>
#include "pinfsctl/trace.h"

/* Rows of a process that are no threads. */
#define ROW_HELD 2000000000U		/* pins that are waited for */
#define ROW_DMA 2100000000U

enum kind { K_PIN, K_BREAK, K_INVAL, K_DMA, K_PARK, K_LEASE, K_SEEN };

/* Something with a beginning, until it has an end. */
struct span {
	struct pf_t_ev ev;		/* the first event */
	uint64_t end_ns;		/* 0: it goes on */
	uint64_t wait_ns;		/* of a break: since when it waits; 0: it does not */
	bool before;			/* it began before the trace */
	uint32_t live;			/* of a pin that goes on: its place in chrome.live, + 1 */
};

struct key { uint64_t a, b; uint32_t kind, at; };	/* at: of the span, + 1; 0: free */
struct line {
	uint64_t ns, dur;
	uint32_t rank, seq;
	size_t off;
	uint32_t pid, tid;
	bool slice, fault;		/* X; and the end of it is only known to the library's thread that served it */
};
struct row { uint32_t pid, row; uint64_t end_ns; };
struct held { uint32_t brk, pin; uint64_t ns, pages; };	/* spans */

struct chrome {
	struct capture *c;
	struct span *span;
	size_t nspan, span_room;
	struct key *key;
	size_t nkey, key_room;		/* a power of two */
	struct held *held;
	size_t nheld, held_room;
	uint32_t *live;			/* pins that go on: spans */
	size_t nlive, live_room;
	struct row *row;
	size_t nrow, row_room;
	char *text;
	size_t len, text_room;
	struct line *line;
	size_t nline, line_room;
	uint64_t flows;
	bool failed;			/* out of memory */
};

/* Room for one more in *(T **)array of @n, or false. */
bool ch_grow(struct chrome *o, void *array, size_t n, size_t *room, size_t size);

/* The inside of a JSON string; @out has room for six bytes for each of @s. */
const char *ch_quoted(char *out, const char *s);
#define QUOTED(s) ch_quoted((char[512]){ 0 }, s)

/* Begin an event; ch_args() begins its args, ch_put() goes on with them, ch_end() ends it. */
void ch_event(struct chrome *o, char ph, uint64_t ns, uint64_t dur, uint32_t pid, uint32_t tid, const char *cat,
	      const char *fmt, ...) PF_PRINTF(8, 9);
void ch_args(struct chrome *o, const char *fmt, ...) PF_PRINTF(2, 3);
void ch_put(struct chrome *o, const char *fmt, ...) PF_PRINTF(2, 3);
void ch_end(struct chrome *o);
/* Slices of one thread, cut where they overlap; before anything is printed. */
void ch_nest(struct chrome *o);

struct span *ch_find(const struct chrome *o, enum kind kind, uint64_t a, uint64_t b);
/* A new span of this name; one before it is not found any more. Valid until the next. NULL: no memory. */
struct span *ch_begin(struct chrome *o, enum kind kind, uint64_t a, uint64_t b, const struct pf_t_ev *ev);
/* A row of the process, from @first on, that is free from @ns to @until. */
uint32_t ch_row_for(struct chrome *o, uint32_t pid, uint32_t first, uint64_t ns, uint64_t until);

#endif
