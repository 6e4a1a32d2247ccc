/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chrome.c - a capture as JSON of the Chrome trace format, which ui.perfetto.dev and chrome://tracing show.
 *
 *   pins, leases, invalidations, blocks kept back   async events (b, n, e) of the process they belong to
 *   truncates, their waits and work, faults, DMA    slices (X) of the thread
 *   whom a wait waits for                           a slice of the holder for each pin, and flow arrows to it and back
 *   everything else                                 instants (i)
 *
 * Times are CLOCK_MONOTONIC in microseconds. In args is what timeline.c draws from. What began before the trace, or has
 * not ended with it, begins and ends with it, and says so. Owns the text until it is written.
 */
#include "pinfsctl/chrome.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <pinfs/ledger.h>
#include "pinfsctl/pinfsctl.h"

#define HELD_MAX 64U			/* pins of one session that a wait shows */

/* ---- names ---- */

static const char *file_of(const struct chrome *o, uint64_t ino)
{
	const struct span *s = ch_find(o, K_SEEN, PF_TE_FILE, ino);

	return s != NULL ? s->ev.te_text : "";
}

static const char *comm_of(const struct chrome *o, uint64_t sess)
{
	const struct span *s = ch_find(o, K_SEEN, PF_TE_JOIN, sess);

	return s != NULL ? s->ev.te_text : "?";
}

static const char *api_of(uint64_t api)
{
	static const char *const name[PF_API_NR] = {
		[PF_API_PIN] = "pin", [PF_API_DMAEMU] = "dmaemu", [PF_API_DIRECT] = "direct",
		[PF_API_LIBAIO] = "libaio", [PF_API_URING] = "io_uring", [PF_API_POSIX_AIO] = "aio",
		[PF_API_VMSPLICE] = "vmsplice", [PF_API_ZEROCOPY] = "zerocopy", [PF_API_PROCESS_VM] = "process_vm",
		[PF_API_LONGTERM] = "longterm", [PF_API_VERBS] = "verbs", [PF_API_VFIO] = "vfio",
		[PF_API_IOMMUFD] = "iommufd", [PF_API_V4L2] = "v4l2",
		[PF_API_URING_BUF] = "io_uring-buffers", [PF_API_XDP] = "xdp",
	};

	return api < PF_API_NR && name[api] != NULL ? name[api] : "?";
}

/* "3.17": the name by which pinfsctl kick knows it */
static const char *pin_name(char buf[48], uint64_t sess, uint64_t id)
{
	if (id & PF_T_NO_RECORD)
		(void)snprintf(buf, 48, "%" PRIu64 ".x%" PRIx64, sess, id & ~PF_T_NO_RECORD);
	else
		(void)snprintf(buf, 48, "%" PRIu64 ".%" PRIu64, sess, id);
	return buf;
}
#define PIN_NAME(ev) pin_name((char[48]){ 0 }, (ev)->te_sess, (ev)->te_id)

static void args_range(struct chrome *o, const struct pf_t_ev *ev)
{
	ch_args(o, "\"ino\":%" PRIu64 ",\"file\":\"%s\",\"foff\":%" PRIu64 ",\"len\":%" PRIu64, ev->te_ino,
	     QUOTED(file_of(o, ev->te_ino)), ev->te_foff, ev->te_len);
}

/* ---- pins ---- */

static void pin_begins(struct chrome *o, const struct pf_t_ev *ev, bool before)
{
	struct span *s = ch_begin(o, K_PIN, ev->te_sess, ev->te_id, ev);

	if (s == NULL || !ch_grow(o, &o->live, o->nlive, &o->live_room, sizeof *o->live))
		return;
	s->before = before;
	o->live[o->nlive++] = (uint32_t)(s - o->span);
	s->live = (uint32_t)o->nlive;
}

static void not_live(struct chrome *o, struct span *s)
{
	uint32_t last;

	if (s->live == 0)
		return;
	last = o->live[--o->nlive];
	o->live[s->live - 1] = last;
	o->span[last].live = s->live;
	s->live = 0;
}

/* Both ends at once: now all is known of it. */
static void pin_ends(struct chrome *o, struct span *s, uint64_t ns, bool over)
{
	const struct pf_t_ev *ev = &s->ev;
	const uint64_t from = ev->te_ns + ev->te_dur;
	const long n = s - o->span;

	not_live(o, s);
	s->end_ns = ns;
	ch_event(o, 'b', from < ns ? from : ns, 0, ev->te_pid, ev->te_tid, "pin", "pin %s %s", PIN_NAME(ev),
	      QUOTED(ev->te_text));
	ch_put(o, ",\"id\":\"p%ld\"", n);
	args_range(o, ev);
	ch_put(o,
	       ",\"pin\":\"%s\",\"session\":%" PRIu64 ",\"comm\":\"%s\",\"api\":\"%s\",\"label\":\"%s\",\"write\":%s,"
	       "\"before\":%s,\"over\":%s",
	       PIN_NAME(ev), ev->te_sess, QUOTED(comm_of(o, ev->te_sess)), api_of(ev->te_arg), QUOTED(ev->te_text),
	       ev->te_flags & PF_TF_WRITE ? "true" : "false", s->before ? "true" : "false", over ? "true" : "false");
	ch_end(o);
	ch_event(o, 'e', ns, 0, ev->te_pid, ev->te_tid, "pin", "pin %s %s", PIN_NAME(ev), QUOTED(ev->te_text));
	ch_put(o, ",\"id\":\"p%ld\"", n);
	ch_args(o, "\"pin\":\"%s\"", PIN_NAME(ev));
	ch_end(o);
	if (ev->te_dur != 0 && !s->before) {
		ch_event(o, 'X', ev->te_ns, ev->te_dur, ev->te_pid, ev->te_tid, "call", "pinfs_pin");
		args_range(o, ev);
		ch_put(o, ",\"pin\":\"%s\"", PIN_NAME(ev));
		ch_end(o);
	}
}

static void pin_refused(struct chrome *o, const struct pf_t_ev *ev)
{
	ch_event(o, 'X', ev->te_ns, ev->te_dur, ev->te_pid, ev->te_tid, "call", "pinfs_pin refused");
	args_range(o, ev);
	ch_put(o, ",\"err\":%" PRId32, ev->te_err);
	ch_end(o);
}

/* ---- breaks ---- */

static void waits_for(struct chrome *o, const struct pf_t_ev *ev)
{
	const uint64_t until = ev->te_len > UINT64_MAX - ev->te_foff ? UINT64_MAX : ev->te_foff + ev->te_len;
	const struct span *b = ch_find(o, K_BREAK, ev->te_id, 0);
	unsigned int n = 0;

	if (b == NULL)
		return;
	for (size_t i = 0; i < o->nlive && n < HELD_MAX; i++) {
		const struct span *p = &o->span[o->live[i]];

		if (p->ev.te_sess != ev->te_sess || p->ev.te_ino != ev->te_ino || p->ev.te_foff >= until ||
		    ev->te_foff >= p->ev.te_foff + p->ev.te_len)
			continue;
		if (!ch_grow(o, &o->held, o->nheld, &o->held_room, sizeof *o->held))
			return;
		o->held[o->nheld++] = (struct held){ .brk = (uint32_t)(b - o->span), .pin = o->live[i],
						     .ns = ev->te_ns, .pages = ev->te_arg };
		n++;
	}
}

static void flow(struct chrome *o, const char *name, uint64_t n, char ph, uint64_t ns, uint32_t pid, uint32_t tid)
{
	ch_event(o, ph, ns, 0, pid, tid, "waits", "%s", name);
	ch_put(o, ",\"id\":%" PRIu64 "%s", n, ph == 'f' ? ",\"bp\":\"e\"" : "");
	ch_args(o, "\"flow\":%" PRIu64, n);
	ch_end(o);
}

/* The wait of @b from wait_ns to @ns, and whom it was for. */
static void wait_ends(struct chrome *o, struct span *b, uint64_t ns)
{
	const uint32_t at = (uint32_t)(b - o->span), tid = b->ev.te_tid, pid = b->ev.te_pid;
	size_t kept = 0, n = 0;
	uint64_t from = b->wait_ns;

	if (from == 0)
		return;
	for (size_t i = 0; i < o->nheld; i++) {
		const struct held *h = &o->held[i];
		const struct span *p = &o->span[h->pin];
		const uint64_t until = p->end_ns != 0 && p->end_ns < ns ? p->end_ns : ns;
		uint32_t row;

		if (h->brk != at) {
			o->held[kept++] = *h;
			continue;
		}
		if (until <= h->ns + 1 || ns <= from + 1)
			continue;
		n++;
		row = ch_row_for(o, p->ev.te_pid, ROW_HELD, h->ns, until);
		ch_event(o, 'X', h->ns, until - h->ns, p->ev.te_pid, row, "held",
			 "pin %s holds up %s of %s (%" PRIu32 ")", PIN_NAME(&p->ev), QUOTED(b->ev.te_text),
			 QUOTED(b->ev.te_text + 16), pid);
		ch_args(o, "\"break\":%" PRIu64 ",\"pin\":\"%s\"", b->ev.te_id, PIN_NAME(&p->ev));
		ch_end(o);
		flow(o, "waits for", ++o->flows, 's', h->ns > from ? h->ns : from, pid, tid);
		flow(o, "waits for", o->flows, 'f', h->ns > from ? h->ns : from, p->ev.te_pid, row);
		if (p->end_ns != 0 && p->end_ns <= ns) {
			flow(o, "unpinned", ++o->flows, 's', until - 1, p->ev.te_pid, row);
			flow(o, "unpinned", o->flows, 'f', ns - 1, pid, tid);
		}
	}
	o->nheld = kept;
	ch_event(o, 'X', from, ns - from, pid, tid, "wait", "waits for pins");
	ch_args(o, "\"break\":%" PRIu64 ",\"pins\":%zu", b->ev.te_id, n);
	ch_end(o);
	b->wait_ns = 0;
}

static void break_ends(struct chrome *o, struct span *b, uint64_t ns, int err, bool over)
{
	const bool map = (b->ev.te_flags & PF_TF_MAP) != 0;

	wait_ends(o, b, ns);
	b->end_ns = ns;
	/* One that adds blocks for a fault or pin is on behalf of several threads of a client. */
	if (map) {
		ch_event(o, 'b', b->ev.te_ns, 0, o->c->daemon_pid, o->c->daemon_pid, "allocate", "blocks for a %s",
		      QUOTED(b->ev.te_text));
		ch_put(o, ",\"id\":\"m%" PRIu64 "\"", b->ev.te_id);
	} else {
		ch_event(o, 'X', b->ev.te_ns, ns - b->ev.te_ns, b->ev.te_pid, b->ev.te_tid, "break", "%s",
		      QUOTED(b->ev.te_text));
	}
	args_range(o, &b->ev);
	ch_put(o, ",\"break\":%" PRIu64 ",\"what\":\"%s\",\"comm\":\"%s\",\"on_busy\":%" PRIu64 ",\"err\":%d,"
	       "\"before\":%s,\"over\":%s", b->ev.te_id, QUOTED(b->ev.te_text), QUOTED(b->ev.te_text + 16),
	    b->ev.te_arg, err, b->before ? "true" : "false", over ? "true" : "false");
	ch_end(o);
	if (map) {
		ch_event(o, 'e', ns, 0, o->c->daemon_pid, o->c->daemon_pid, "allocate", "blocks for a %s",
		      QUOTED(b->ev.te_text));
		ch_put(o, ",\"id\":\"m%" PRIu64 "\"", b->ev.te_id);
		ch_args(o, "\"err\":%d", err);
		ch_end(o);
	}
}

/* An instant of a break, on the thread that asked for it. */
static void step(struct chrome *o, const struct pf_t_ev *ev, const char *name)
{
	const struct span *b = ch_find(o, K_BREAK, ev->te_id, 0);
	const bool map = b == NULL || (b->ev.te_flags & PF_TF_MAP);
	const uint32_t d = o->c->daemon_pid;

	ch_event(o, 'i', ev->te_ns, 0, map ? d : b->ev.te_pid, map ? d : b->ev.te_tid, "step", "%s", name);
	ch_args(o, "\"break\":%" PRIu64 ",\"step\":\"%s\",\"foff\":%" PRIu64 ",\"len\":%" PRIu64, ev->te_id, name,
	     ev->te_foff, ev->te_len);
	ch_end(o);
}

static void work(struct chrome *o, const struct pf_t_ev *ev)
{
	const struct span *b = ch_find(o, K_BREAK, ev->te_id, 0);

	if (b == NULL || (b->ev.te_flags & PF_TF_MAP))
		return;
	ch_event(o, 'X', ev->te_ns, ev->te_dur, b->ev.te_pid, b->ev.te_tid, "work", "changes the file");
	ch_args(o, "\"break\":%" PRIu64 ",\"err\":%" PRId32, ev->te_id, ev->te_err);
	ch_end(o);
}

/* ---- what has two ends and belongs to a session ---- */

static void inval_ends(struct chrome *o, struct span *s, uint64_t ns, bool over)
{
	const uint32_t d = o->c->daemon_pid;

	s->end_ns = ns;
	for (int i = 0; i < 2; i++) {
		ch_event(o, i == 0 ? 'b' : 'e', i == 0 ? s->ev.te_ns : ns, 0, d, d, "invalidate",
		      "unmap asked of %s (%" PRIu32 ")", QUOTED(comm_of(o, s->ev.te_sess)), s->ev.te_pid);
		ch_put(o, ",\"id\":\"i%" PRIu64 "\"", s->ev.te_id);
		args_range(o, &s->ev);
		ch_put(o, ",\"break\":%" PRIu64 ",\"session\":%" PRIu64 ",\"holder\":%" PRIu32
		       ",\"comm\":\"%s\",\"over\":%s", s->ev.te_arg, s->ev.te_sess, s->ev.te_pid,
		    QUOTED(comm_of(o, s->ev.te_sess)), over ? "true" : "false");
		ch_end(o);
	}
}

static void pair(struct chrome *o, const char *cat, const char *name, struct span *s, uint64_t ns, uint32_t pid)
{
	const long n = s - o->span;

	s->end_ns = ns;
	for (int i = 0; i < 2; i++) {
		ch_event(o, i == 0 ? 'b' : 'e', i == 0 ? s->ev.te_ns : ns, 0, pid, pid, cat, "%s", name);
		ch_put(o, ",\"id\":\"%c%ld\"", cat[0], n);
		args_range(o, &s->ev);
		ch_put(o, ",\"session\":%" PRIu64 ",\"holder\":%" PRIu32, s->ev.te_sess, s->ev.te_pid);
		ch_end(o);
	}
}

static void dma_ends(struct chrome *o, struct span *s, uint64_t ns, int err, bool over)
{
	const uint32_t row = ch_row_for(o, s->ev.te_pid, ROW_DMA, s->ev.te_ns, ns);

	s->end_ns = ns;
	ch_event(o, 'X', s->ev.te_ns, ns - s->ev.te_ns, s->ev.te_pid, row, "dma", "DMA %s file %s",
	      s->ev.te_flags & PF_TF_WRITE ? "to" : "from", QUOTED(s->ev.te_text));
	args_range(o, &s->ev);
	ch_put(o, ",\"transfer\":%" PRIu64 ",\"write\":%s,\"label\":\"%s\",\"err\":%d,\"over\":%s", s->ev.te_id,
	    s->ev.te_flags & PF_TF_WRITE ? "true" : "false", QUOTED(s->ev.te_text), err, over ? "true" : "false");
	if (s->ev.te_arg != PF_T_NO_PIN)
		ch_put(o, ",\"pin\":\"%s\"", pin_name((char[48]){ 0 }, s->ev.te_sess, s->ev.te_arg));
	ch_end(o);
}

/* ---- one event ---- */

static void instant(struct chrome *o, const struct pf_t_ev *ev, uint32_t pid, uint32_t tid, const char *cat)
{
	static const char *const word[PF_TE_NR] = {
		[PF_TE_MAP] = "maps", [PF_TE_KICK] = "says that a pin has ended", [PF_TE_QUARANTINE] = "quarantined",
		[PF_TE_REVOKE] = "revoked", [PF_TE_LEASE_BREAK] = "lease breaks", [PF_TE_LEAVE] = "session ends",
		[PF_TE_DMA_BURST] = "burst",
	};

	ch_event(o, 'i', ev->te_ns, 0, pid, tid, cat, "%s", word[ev->te_type]);
	args_range(o, ev);
	ch_put(o, ",\"session\":%" PRIu64 ",\"holder\":%" PRIu32 ",\"id\":%" PRIu64 ",\"arg\":%" PRIu64, ev->te_sess,
	    ev->te_pid, ev->te_id, ev->te_arg);
	ch_end(o);
}

static void client_event(struct chrome *o, const struct pf_t_ev *ev)
{
	struct span *s;

	switch (ev->te_type) {
	case PF_TE_FAULT:
		ch_event(o, 'X', ev->te_ns, ev->te_dur, ev->te_pid, ev->te_tid, "fault", "fault%s",
		      ev->te_flags & PF_TF_WRITE ? " (store)" : "");
		args_range(o, ev);
		ch_put(o, ",\"address\":\"0x%" PRIx64 "\",\"err\":%" PRId32, ev->te_arg, ev->te_err);
		ch_end(o);
		break;
	case PF_TE_UNMAP:
		ch_event(o, 'X', ev->te_ns, ev->te_dur, ev->te_pid, ev->te_tid, "unmap", "unmaps");
		args_range(o, ev);
		ch_put(o, ",\"invalidate\":%" PRIu64, ev->te_id);
		ch_end(o);
		break;
	case PF_TE_PIN:
		if (ev->te_err != 0)
			pin_refused(o, ev);
		else
			pin_begins(o, ev, false);
		break;
	case PF_TE_UNPIN:
		s = ch_find(o, K_PIN, ev->te_sess, ev->te_id);
		if (s == NULL || s->end_ns != 0) {		/* older than the trace */
			struct pf_t_ev was = *ev;

			was.te_type = PF_TE_PIN;
			was.te_ns = o->c->begin_ns < ev->te_ns ? o->c->begin_ns : ev->te_ns;
			pin_begins(o, &was, true);
			s = ch_find(o, K_PIN, ev->te_sess, ev->te_id);
		}
		if (s != NULL)
			pin_ends(o, s, ev->te_ns > s->ev.te_ns ? ev->te_ns : s->ev.te_ns, false);
		break;
	case PF_TE_LABEL:
		s = ch_find(o, K_PIN, ev->te_sess, ev->te_id);
		if (s != NULL && s->end_ns == 0)
			memcpy(s->ev.te_text, ev->te_text, sizeof s->ev.te_text);
		break;
	case PF_TE_DMA_START:
		(void)ch_begin(o, K_DMA, ev->te_sess, ev->te_id, ev);
		break;
	case PF_TE_DMA_BURST:
		instant(o, ev, ev->te_pid, ROW_DMA, "burst");
		break;
	case PF_TE_DMA_END:
		s = ch_find(o, K_DMA, ev->te_sess, ev->te_id);
		if (s != NULL && s->end_ns == 0)
			dma_ends(o, s, ev->te_ns, ev->te_err, false);
		break;
	default:
		break;
	}
}

static void break_event(struct chrome *o, const struct pf_t_ev *ev)
{
	struct span *s = ch_find(o, K_BREAK, ev->te_id, 0);

	switch (ev->te_type) {
	case PF_TE_SUBMIT:
		(void)ch_begin(o, K_BREAK, ev->te_id, 0, ev);
		break;
	case PF_TE_START:
		step(o, ev, "start");
		if (s != NULL && !s->before) {
			s->ev.te_foff = ev->te_foff;		/* as it is now */
			s->ev.te_len = ev->te_len;
		}
		break;
	case PF_TE_SCAN:
		step(o, ev, ev->te_arg != 0 ? "scan: pinned" : "scan: idle");
		break;
	case PF_TE_WAIT:
		if (s != NULL)
			s->wait_ns = ev->te_ns;
		break;
	case PF_TE_FOR:
		waits_for(o, ev);
		break;
	case PF_TE_WAKE:
		if (s != NULL)
			wait_ends(o, s, ev->te_ns);
		step(o, ev, "wake");
		break;
	case PF_TE_WORK:
		work(o, ev);
		break;
	case PF_TE_DONE:
		if (s != NULL && s->end_ns == 0)
			break_ends(o, s, ev->te_ns, ev->te_err, false);
		break;
	default:
		break;
	}
}

static void daemon_event(struct chrome *o, const struct pf_t_ev *ev)
{
	const uint32_t d = o->c->daemon_pid;
	struct span *s;

	switch (ev->te_type) {
	case PF_TE_MAP:
	case PF_TE_KICK:
	case PF_TE_QUARANTINE:
	case PF_TE_REVOKE:
		instant(o, ev, d, d, "daemon");
		break;
	case PF_TE_LEAVE:
		instant(o, ev, ev->te_pid, ev->te_pid, "session");
		break;
	case PF_TE_INVAL:
		(void)ch_begin(o, K_INVAL, ev->te_id, 0, ev);
		break;
	case PF_TE_ACK:
		s = ch_find(o, K_INVAL, ev->te_id, 0);
		if (s != NULL && s->end_ns == 0)
			inval_ends(o, s, ev->te_ns, false);
		break;
	case PF_TE_PARK:
		(void)ch_begin(o, K_PARK, ev->te_sess, ev->te_arg, ev);
		break;
	case PF_TE_UNPARK:
		s = ch_find(o, K_PARK, ev->te_sess, ev->te_arg);
		if (s != NULL && s->end_ns == 0)
			pair(o, "kept", "blocks kept from reuse", s, ev->te_ns, d);
		break;
	case PF_TE_LEASE_TAKE:
		(void)ch_begin(o, K_LEASE, ev->te_sess, ev->te_id, ev);
		break;
	case PF_TE_LEASE_BREAK:
		instant(o, ev, ev->te_pid, ev->te_pid, "lease");
		break;
	case PF_TE_LEASE_DROP:
		s = ch_find(o, K_LEASE, ev->te_sess, ev->te_id);
		if (s != NULL && s->end_ns == 0)
			pair(o, "lease", "lease", s, ev->te_ns, s->ev.te_pid);
		break;
	default:
		break_event(o, ev);
		break;
	}
}

/* ---- the whole ---- */

static int by_time(const void *a, const void *b)
{
	const struct pf_t_ev *x = a, *y = b;

	return x->te_ns != y->te_ns ? (x->te_ns < y->te_ns ? -1 : 1) : 0;
}

static int by_line(const void *a, const void *b)
{
	const struct line *x = a, *y = b;

	if (x->ns != y->ns)
		return x->ns < y->ns ? -1 : 1;
	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	if (x->dur != y->dur)
		return x->dur > y->dur ? -1 : 1;		/* the outer one first */
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Names first, and what a record did first in the trace. */
static void look_ahead(struct chrome *o)
{
	for (size_t i = 0; i < o->c->n; i++) {
		const struct pf_t_ev *ev = &o->c->ev[i];

		if (ev->te_type == PF_TE_FILE && strlen(ev->te_text) >= strlen(file_of(o, ev->te_ino)))
			(void)ch_begin(o, K_SEEN, PF_TE_FILE, ev->te_ino, ev);
		else if (ev->te_type == PF_TE_JOIN)
			(void)ch_begin(o, K_SEEN, PF_TE_JOIN, ev->te_sess, ev);
		else if ((ev->te_type == PF_TE_PIN || ev->te_type == PF_TE_UNPIN) &&
			 ch_find(o, K_SEEN, PF_TE_PIN << 16 | ev->te_sess << 32, ev->te_id) == NULL)
			(void)ch_begin(o, K_SEEN, PF_TE_PIN << 16 | ev->te_sess << 32, ev->te_id, ev);
	}
	/* Those spans are names, not things that begin and end. */
	for (size_t i = 0; i < o->nspan; i++)
		o->span[i].end_ns = 1;
}

static void text_to(char *to, size_t room, const char *from)
{
	(void)snprintf(to, room, "%s", from);
}

/* What the report knows and the events do not: pins and waits that are older than the trace. */
static void from_report(struct chrome *o)
{
	struct json_object *root = o->c->pins != NULL ? j_report(o->c->pins) : NULL, *list;
	size_t n;

	list = j_list(root, "pins", &n);
	for (size_t i = 0; i < n; i++) {
		struct json_object *p = json_object_array_get_idx(list, i);
		struct pf_t_ev ev = { .te_type = PF_TE_PIN, .te_sess = j_num(p, "session"), .te_id = j_num(p, "record"),
				      .te_ino = j_num(p, "ino"), .te_foff = j_num(p, "foff"), .te_len = j_num(p, "len"),
				      .te_ns = j_num(p, "start_ns"), .te_pid = (uint32_t)j_num(p, "pid"),
				      .te_tid = (uint32_t)j_num(p, "tid") };
		const struct span *first = ch_find(o, K_SEEN, PF_TE_PIN << 16 | ev.te_sess << 32, ev.te_id);

		if ((o->c->ino != 0 && o->c->ino != ev.te_ino) || (first != NULL && first->ev.te_type == PF_TE_PIN))
			continue;
		for (ev.te_arg = 0; ev.te_arg < PF_API_NR && strcmp(api_of(ev.te_arg), j_str(p, "api")) != 0;)
			ev.te_arg++;
		text_to(ev.te_text, sizeof ev.te_text, j_str(p, "label"));
		if (first != NULL && ev.te_ns > first->ev.te_ns)
			ev.te_ns = first->ev.te_ns;
		if (ev.te_ns > o->c->end_ns)
			ev.te_ns = o->c->end_ns;
		pin_begins(o, &ev, true);
		if (file_of(o, ev.te_ino)[0] == '\0' && j_str(p, "file")[0] != '\0') {
			struct span *s;

			text_to(ev.te_text, sizeof ev.te_text, j_str(p, "file"));
			s = ch_begin(o, K_SEEN, PF_TE_FILE, ev.te_ino, &ev);
			if (s != NULL)
				s->end_ns = 1;
		}
	}
	list = j_list(root, "waiters", &n);
	for (size_t i = 0; i < n; i++) {
		struct json_object *w = json_object_array_get_idx(list, i);
		struct pf_t_ev ev = { .te_type = PF_TE_SUBMIT, .te_id = j_num(w, "id"), .te_ino = j_num(w, "ino"),
				      .te_foff = j_num(w, "foff"), .te_len = j_num(w, "len"),
				      .te_pid = (uint32_t)j_num(w, "pid"), .te_tid = (uint32_t)j_num(w, "tid") };
		const uint64_t age = j_num(w, "age_ns");
		struct span *s;

		ev.te_ns = o->c->begin_ns > age ? o->c->begin_ns - age : 0;
		text_to(ev.te_text, 16, j_str(w, "what"));
		text_to(ev.te_text + 16, 16, j_str(w, "comm"));
		if ((o->c->ino != 0 && o->c->ino != ev.te_ino) || strcmp(j_str(w, "state"), "pins") != 0)
			continue;
		s = ch_begin(o, K_BREAK, ev.te_id, 0, &ev);
		if (s == NULL)
			break;
		s->before = true;
		s->wait_ns = ev.te_ns;
		ev.te_type = PF_TE_FOR;
		ev.te_ns = o->c->begin_ns;
		for (size_t k = 0; k < j_count(w, "waits_for"); k++) {
			struct json_object *h = json_object_array_get_idx(j_get(w, "waits_for"), k);

			ev.te_sess = j_num(h, "session");
			ev.te_arg = j_num(h, "pages");
			waits_for(o, &ev);
		}
	}
	(void)json_object_put(root);
}

/* Everything that has no end yet, gets one. */
static void close_all(struct chrome *o)
{
	const uint64_t ns = o->c->end_ns;

	for (size_t i = 0; i < o->nspan; i++) {
		struct span *s = &o->span[i];
		const uint64_t at = ns > s->ev.te_ns ? ns : s->ev.te_ns;

		if (s->end_ns != 0)
			continue;
		switch (s->ev.te_type) {
		case PF_TE_SUBMIT:
			break_ends(o, s, at, 0, true);
			break;
		case PF_TE_PIN:
			pin_ends(o, s, at, true);
			break;
		case PF_TE_INVAL:
			inval_ends(o, s, at, true);
			break;
		case PF_TE_DMA_START:
			dma_ends(o, s, at, 0, true);
			break;
		case PF_TE_PARK:
			pair(o, "kept", "blocks kept from reuse", s, at, o->c->daemon_pid);
			break;
		case PF_TE_LEASE_TAKE:
			pair(o, "lease", "lease", s, at, s->ev.te_pid);
			break;
		default:
			break;
		}
	}
}

static void name_one(FILE *f, const char *what, uint32_t pid, uint32_t tid, const char *name)
{
	(void)fprintf(f, ",\n{\"ph\":\"M\",\"pid\":%" PRIu32 ",\"tid\":%" PRIu32
			 ",\"name\":\"%s\",\"args\":{\"name\":\"%s\"}}", pid, tid, what, name);
}

/* Each process once: the daemon, clients, those who asked for a break. */
static void name_all(const struct chrome *o, FILE *f)
{
	uint32_t *done = malloc((o->nspan + 1) * sizeof *done);
	size_t n = 0;

	(void)fprintf(f, "{\"ph\":\"M\",\"pid\":%" PRIu32 ",\"tid\":0,\"name\":\"process_name\",\"args\":{\"name\":"
			 "\"pinfs (daemon)\"}}", o->c->daemon_pid);
	if (done != NULL)
		done[n++] = o->c->daemon_pid;
	for (size_t i = 0; i < o->nspan && done != NULL; i++) {
		const struct pf_t_ev *ev = &o->span[i].ev;
		const bool join = ev->te_type == PF_TE_JOIN;
		size_t k = 0;

		if (!join && (ev->te_type != PF_TE_SUBMIT || (ev->te_flags & PF_TF_MAP)))
			continue;
		while (k < n && done[k] != ev->te_pid)
			k++;
		if (k < n)
			continue;
		done[n++] = ev->te_pid;
		name_one(f, "process_name", ev->te_pid, 0, QUOTED(join ? ev->te_text : ev->te_text + 16));
	}
	free(done);
	for (size_t i = 0; i < o->c->nname; i++)
		if (o->c->name[i].name[0] != '\0')
			name_one(f, "thread_name", o->c->name[i].pid, o->c->name[i].tid, QUOTED(o->c->name[i].name));
	for (size_t i = 0; i < o->nrow; i++)
		name_one(f, "thread_name", o->row[i].pid, o->row[i].row,
			 o->row[i].row >= ROW_DMA ? "DMA engine" : "pins that are waited for");
}

int chrome_write(struct capture *c, FILE *f)
{
	struct chrome o = { .c = c };

	if (c->n != 0)
		qsort(c->ev, c->n, sizeof *c->ev, by_time);
	look_ahead(&o);
	from_report(&o);
	for (size_t i = 0; i < c->n; i++) {
		if (c->ev[i].te_type <= PF_TE_CLIENT_LAST)
			client_event(&o, &c->ev[i]);
		else
			daemon_event(&o, &c->ev[i]);
	}
	close_all(&o);
	ch_nest(&o);
	if (o.nline != 0)
		qsort(o.line, o.nline, sizeof *o.line, by_line);
	(void)fprintf(f, "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"pinfs\":1,"
		      "\"begin_ns\":%" PRIu64 ",\"end_ns\":%" PRIu64 ","
		      "\"lost\":%" PRIu64 ",\"daemon\":%" PRIu32 "},\n\"traceEvents\":[\n",
		      c->begin_ns, c->end_ns, c->lost, c->daemon_pid);
	name_all(&o, f);
	for (size_t i = 0; i < o.nline; i++) {
		const struct line *l = &o.line[i];

		if (l->slice)
			(void)fprintf(f, ",\n{\"dur\":%" PRIu64 ".%03u,%s", l->dur / 1000,
				      (unsigned int)(l->dur % 1000), o.text + l->off + 1);
		else
			(void)fprintf(f, ",\n%s", o.text + l->off);
	}
	(void)fputs("\n]}\n", f);
	free(o.span);
	free(o.key);
	free(o.held);
	free(o.live);
	free(o.row);
	free(o.text);
	free(o.line);
	return o.failed ? complain("not all of the trace is written: out of memory") : 0;
}
