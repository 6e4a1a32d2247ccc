/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * timeline.c - `pinfsctl timeline`: one truncate of a trace, as a picture that explains it: who asked, who had to
 * unmap, whom it waited for, what ended the wait. Finds it in the file that chrome.c writes; svg.c draws.
 */
#include "pinfsctl/timeline.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/policy.h"
#include "lib/units.h"
#include "pinfsctl/pinfsctl.h"
#include "pinfsctl/trace.h"

#define PINS_SHOWN 12U
#define DMA_LANE "DMA engine"

struct end { const char *cat, *id; struct json_object *e; };

struct look {
	struct json_object *events;
	size_t n;
	struct end *end;		/* ends of async events, sorted */
	size_t nend;
	struct json_object **held;	/* slices of pins that hold the break up */
	size_t nheld;
	struct json_object *brk;	/* the slice */
	uint64_t id, ino;
	int64_t from, to;
	uint32_t pid, daemon;
	unsigned int pins;		/* shown */
	unsigned int more;		/* pins that there was no room for */
	struct timeline *t;
};

static int64_t ns_of(struct json_object *e, const char *name)
{
	return (int64_t)llround(json_object_get_double(j_get(e, name)) * 1000.0);
}

static struct json_object *at(const struct look *k, size_t i) { return json_object_array_get_idx(k->events, i); }

static bool is(struct json_object *e, const char *ph, const char *cat)
{
	return strcmp(j_str(e, "ph"), ph) == 0 && strcmp(j_str(e, "cat"), cat) == 0;
}

static const char *arg(struct json_object *e, const char *name) { return j_str(j_get(e, "args"), name); }
static uint64_t narg(struct json_object *e, const char *name) { return j_num(j_get(e, "args"), name); }

/* Texts in one of four buffers in turn. */
static const char *bytes(uint64_t n)
{
	static char buf[4][32];
	static unsigned int i;

	return units_show_bytes(n, buf[i++ % 4], 32);
}

static const char *span(int64_t ns)
{
	static char buf[4][32];
	static unsigned int i;

	return units_show_ns(ns > 0 ? (uint64_t)ns : 0, buf[i++ % 4], 32);
}

static const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

static unsigned int lane(struct timeline *t, const char *title, const char *below)
{
	for (unsigned int i = 0; i < t->nlane; i++)
		if (strcmp(t->lane[i].title, title) == 0 && strcmp(t->lane[i].below, below) == 0)
			return i;
	if (t->nlane == TL_LANES)
		return TL_LANES - 1;
	(void)snprintf(t->lane[t->nlane].title, sizeof t->lane[0].title, "%s", title);
	(void)snprintf(t->lane[t->nlane].below, sizeof t->lane[0].below, "%s", below);
	return t->nlane++;
}

static unsigned int lane_of(struct timeline *t, const char *comm, uint64_t pid)
{
	char below[40];

	(void)snprintf(below, sizeof below, "pid %" PRIu64, pid);
	return lane(t, comm, below);
}

static PF_PRINTF(6, 7) struct tl_bar *bar(struct timeline *t, unsigned int in, enum tl_kind kind, int64_t from,
					  int64_t to, const char *fmt, ...)
{
	struct tl_bar *b;
	va_list ap;

	if (t->nbar == TL_BARS)
		return NULL;
	b = &t->bar[t->nbar++];
	*b = (struct tl_bar){ .lane = in, .kind = kind, .from = from, .to = to };
	va_start(ap, fmt);
	(void)vsnprintf(b->label, sizeof b->label, fmt, ap);
	va_end(ap);
	return b;
}

static PF_PRINTF(3, 4) void mark(struct timeline *t, int64_t when, const char *fmt, ...)
{
	va_list ap;

	if (t->nmark == TL_MARKS)
		return;
	t->mark[t->nmark].at = when;
	va_start(ap, fmt);
	(void)vsnprintf(t->mark[t->nmark].text, sizeof t->mark[0].text, fmt, ap);
	va_end(ap);
	t->nmark++;
}

static void arrow(struct timeline *t, unsigned int from, int64_t when, unsigned int to, int64_t until)
{
	if (t->narrow < TL_ARROWS)
		t->arrow[t->narrow++] = (struct tl_arrow){ .from = from, .to = to, .at = when, .until = until };
}

static int by_id(const void *a, const void *b)
{
	const struct end *x = a, *y = b;
	const int cat = strcmp(x->cat, y->cat);

	return cat != 0 ? cat : strcmp(x->id, y->id);
}

static int index_all(struct look *k)
{
	k->end = calloc(k->n + 1, sizeof *k->end);
	k->held = calloc(k->n + 1, sizeof(struct json_object *));
	if (k->end == NULL || k->held == NULL)
		return complain("out of memory");
	for (size_t i = 0; i < k->n; i++) {
		struct json_object *e = at(k, i);

		if (strcmp(j_str(e, "ph"), "e") == 0)
			k->end[k->nend++] = (struct end){ j_str(e, "cat"), j_str(e, "id"), e };
		else if (is(e, "X", "held") && narg(e, "break") == k->id)
			k->held[k->nheld++] = e;
	}
	if (k->nend != 0)
		qsort(k->end, k->nend, sizeof *k->end, by_id);
	return 0;
}

/* The event that ends what @b begins; NULL: there is none. */
static struct json_object *end_of(const struct look *k, struct json_object *b)
{
	const struct end want = { j_str(b, "cat"), j_str(b, "id"), NULL };
	const struct end *found = k->nend != 0 ? bsearch(&want, k->end, k->nend, sizeof *k->end, by_id) : NULL;

	return found != NULL ? found->e : NULL;
}

static const char *outcome(int64_t err)
{
	static char buf[48];

	if (err == 0)
		return "0";
	(void)snprintf(buf, sizeof buf, "-%s", strerrorname_np((int)-err) != NULL ? strerrorname_np((int)-err) : "?");
	return buf;
}

/* ---- the parts of the picture ---- */

static const char *range_of(uint64_t foff, uint64_t len)
{
	static char buf[64];

	if (len >= UINT64_MAX - foff)
		(void)snprintf(buf, sizeof buf, "bytes from %s on", bytes(foff));
	else
		(void)snprintf(buf, sizeof buf, "bytes %s to %s", bytes(foff), bytes(foff + len));
	return buf;
}

static void the_call(struct look *k)
{
	struct timeline *t = k->t;
	const unsigned int me = lane_of(t, arg(k->brk, "comm"), k->pid), d = lane(t, "pinfs", "the daemon");
	const int64_t err = json_object_get_int64(j_get(j_get(k->brk, "args"), "err"));
	const bool before = narg(k->brk, "before") != 0, over = narg(k->brk, "over") != 0;
	bool begun = false, idle = false;

	(void)bar(t, me, TL_CALL, k->from, k->to, "%s", arg(k->brk, "what"));
	mark(t, k->from, "pid %" PRIu32 " asks: %s of %s, %s%s", k->pid, arg(k->brk, "what"), t->file,
	     range_of(t->foff, t->len), before ? " (before the trace)" : "");
	for (size_t i = 0; i < k->n; i++) {
		struct json_object *e = at(k, i);
		const int64_t ts = ns_of(e, "ts"), until = ts + ns_of(e, "dur");

		if (narg(e, "break") != k->id)
			continue;
		if (is(e, "i", "step") && strcmp(arg(e, "step"), "start") == 0 && !begun) {
			begun = true;
			mark(t, ts,
			     "the gate is closed, slots are frozen: no new mapping, no new pin by the fast path");
		} else if (is(e, "i", "step") && strcmp(arg(e, "step"), "scan: pinned") == 0) {
			(void)bar(t, d, TL_LOOK, ts, ts, "looks: pinned");
			mark(t, ts, "the daemon looks at the counters of pins");
		} else if (is(e, "i", "step") && strcmp(arg(e, "step"), "scan: idle") == 0) {
			(void)bar(t, d, TL_LOOK, ts, ts, "looks: idle");
			mark(t, ts, "it looks at the counters%s: no pin", idle ? "" : " again");
			idle = true;
		} else if (is(e, "i", "step") && strcmp(arg(e, "step"), "wake") == 0) {
			mark(t, ts, "the operation that waits is woken, and starts from the top");
		} else if (is(e, "X", "wait")) {
			(void)bar(t, me, TL_WAIT, ts, until, "waits %s for pins", span(until - ts));
			(void)bar(t, d, TL_PARKED, ts, until, "parked: no thread, no lock");
			mark(t, ts, "pinned: the call is parked until the pins below it end");
			arrow(t, d, until, me, until);
		} else if (is(e, "X", "work")) {
			(void)bar(t, d, TL_WORK, ts, until, "changes the file (%s)", span(until - ts));
			mark(t, ts, "the blocks leave the file, in one transaction");
		}
	}
	if (over)
		mark(t, k->to, "the trace ends; it still waits");
	else
		mark(t, k->to, "%s returns %s after %s", arg(k->brk, "what"), outcome(err), span(k->to - k->from));
}

static void unmapping(struct look *k)
{
	struct timeline *t = k->t;
	const unsigned int d = lane(t, "pinfs", "the daemon");

	for (size_t i = 0; i < k->n; i++) {
		struct json_object *e = at(k, i), *end;
		int64_t ts = ns_of(e, "ts"), until;
		unsigned int who;
		uint64_t id;

		if (!is(e, "b", "invalidate") || narg(e, "break") != k->id || (end = end_of(k, e)) == NULL)
			continue;
		until = ns_of(end, "ts");
		who = lane_of(t, arg(e, "comm"), narg(e, "holder"));
		(void)bar(t, d, TL_UNMAP, ts, until, "asks %s to unmap (%s)", arg(e, "comm"), span(until - ts));
		mark(t, ts, "%s (%" PRIu64 ") is told to unmap the range", arg(e, "comm"), narg(e, "holder"));
		mark(t, until, "%s (%" PRIu64 ") has unmapped it: acknowledged", arg(e, "comm"), narg(e, "holder"));
		id = strtoull(j_str(e, "id") + 1, NULL, 10);
		arrow(t, d, ts, who, ts);
		arrow(t, who, until, d, until);
		for (size_t u = i; u < k->n; u++) {
			struct json_object *x = at(k, u);

			if (is(x, "X", "unmap") && narg(x, "invalidate") == id && j_num(x, "pid") == narg(e, "holder"))
				(void)bar(t, who, TL_UNMAP, ns_of(x, "ts"), ns_of(x, "ts") + ns_of(x, "dur"),
					  "unmaps (%s)", span(ns_of(x, "dur")));
		}
	}
}

/* Is this pin one that the break waits for? */
static bool holds_up(const struct look *k, const char *pin, int64_t from, int64_t to)
{
	for (size_t i = 0; i < k->nheld; i++)
		if (strcmp(arg(k->held[i], "pin"), pin) == 0 && ns_of(k->held[i], "ts") < to &&
		    ns_of(k->held[i], "ts") + ns_of(k->held[i], "dur") > from)
			return true;
	return false;
}

static void dma_under(struct look *k, const char *pin, uint64_t pid, int64_t from, int64_t to)
{
	struct timeline *t = k->t;

	for (size_t i = 0; i < k->n; i++) {
		struct json_object *e = at(k, i);
		const int64_t ts = ns_of(e, "ts"), until = ts + ns_of(e, "dur");
		const char *name = arg(e, "label");
		char below[40];

		if (!is(e, "X", "dma") || j_num(e, "pid") != pid || strcmp(arg(e, "pin"), pin) != 0 || ts > to ||
		    until < from)
			continue;
		(void)snprintf(below, sizeof below, "of pid %" PRIu64, pid);
		(void)bar(t, lane(t, DMA_LANE, below), TL_DMA, ts, until, "DMA %s the blocks%s%s",
			  narg(e, "write") != 0 ? "to" : "from", name[0] != '\0' ? ": " : "", name);
		mark(t, ts, "the device%s%s is given the addresses of its blocks", name[0] != '\0' ? " " : "", name);
		mark(t, until, "the device%s%s has finished", name[0] != '\0' ? " " : "", name);
	}
}

static void one_pin(struct look *k, struct json_object *b, struct json_object *e, bool first)
{
	struct timeline *t = k->t;
	const int64_t from = ns_of(b, "ts"), to = ns_of(e, "ts");
	const char *name = arg(b, "pin"), *label = arg(b, "label");
	const unsigned int who = lane_of(t, arg(b, "comm"), j_num(b, "pid"));
	const unsigned int d = lane(t, "pinfs", "the daemon");
	struct tl_bar *p;

	p = bar(t, who, TL_PIN, from, to, "pin %s%s%s%s%s", name, strcmp(arg(b, "api"), "pin") != 0 ? " by " : "",
		strcmp(arg(b, "api"), "pin") != 0 ? arg(b, "api") : "", label[0] != '\0' ? ": " : "", label);
	if (p == NULL)
		return;
	p->bytes = true;
	p->foff = narg(b, "foff");
	p->len = narg(b, "len");
	if (first)
		mark(t, from, "%s (%" PRIu64 ") pins %s of the file: pin %s%s", arg(b, "comm"), j_num(b, "pid"),
		     bytes(p->len), name, narg(b, "before") != 0 ? ", before the trace" : "");
	if (!holds_up(k, name, from, to))
		return;
	if (narg(b, "over") == 0 && to <= k->to) {
		mark(t, to, "%s (%" PRIu64 ") ends pin %s%s", arg(b, "comm"), j_num(b, "pid"), name,
		     first ? ": a bit and a futex in the ledger" : "");
		arrow(t, who, to, d, to);
	}
	dma_under(k, name, j_num(b, "pid"), from, to);
}

/* Those that it waits for first: of others there may be very many. */
static void pins(struct look *k)
{
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < k->n; i++) {
			struct json_object *b = at(k, i), *e;
			const uint64_t foff = narg(b, "foff"), len = narg(b, "len");
			bool held;

			if (!is(b, "b", "pin") || narg(b, "ino") != k->ino || ns_of(b, "ts") > k->to)
				continue;
			e = end_of(k, b);
			if (e == NULL || ns_of(e, "ts") < k->from || foff + len <= k->t->foff ||
			    (k->t->len < UINT64_MAX - k->t->foff && foff >= k->t->foff + k->t->len))
				continue;
			held = holds_up(k, arg(b, "pin"), ns_of(b, "ts"), ns_of(e, "ts"));
			if (held != (round == 0))
				continue;
			if (k->pins++ < PINS_SHOWN)
				one_pin(k, b, e, k->pins <= 3);
			else
				k->more++;
		}
	}
}

static void others(struct look *k)
{
	for (size_t i = 0; i < k->n; i++) {
		struct json_object *e = at(k, i);
		const int64_t ts = ns_of(e, "ts");

		if (strcmp(j_str(e, "ph"), "i") != 0 || ts < k->from || ts > k->to || narg(e, "ino") != k->ino)
			continue;
		if (strcmp(j_str(e, "name"), "quarantined") == 0 && narg(e, "arg") == k->id)
			mark(k->t, ts, "pid %" PRIu64 " has not answered in time: its blocks go to quarantine",
			     narg(e, "holder"));
		else if (strcmp(j_str(e, "name"), "revoked") == 0)
			mark(k->t, ts, "what pid %" PRIu64 " had of the range is revoked", narg(e, "holder"));
		else if (strcmp(j_str(e, "name"), "lease breaks") == 0)
			mark(k->t, ts, "the lease of pid %" PRIu64 " breaks: it is told", narg(e, "holder"));
	}
}

/* A device's lane comes below that of the process that drives it. */
static void order_lanes(struct timeline *t)
{
	unsigned int place[TL_LANES] = { 0 }, n = 0;
	bool placed[TL_LANES] = { false };
	struct tl_lane old[TL_LANES];

	memcpy(old, t->lane, sizeof old);
	for (unsigned int i = 0; i < t->nlane; i++) {
		if (placed[i] || strncmp(old[i].below, "of ", 3) == 0)
			continue;
		placed[i] = true;
		place[i] = n++;
		for (unsigned int k = 0; k < t->nlane; k++)
			if (!placed[k] && strncmp(old[k].below, "of ", 3) == 0 &&
			    strcmp(old[k].below + 3, old[i].below) == 0) {
				placed[k] = true;
				place[k] = n++;
			}
	}
	for (unsigned int i = 0; i < t->nlane; i++)
		if (!placed[i])
			place[i] = n++;
	for (unsigned int i = 0; i < t->nlane; i++)
		t->lane[place[i]] = old[i];
	for (unsigned int i = 0; i < t->nbar; i++)
		t->bar[i].lane = place[t->bar[i].lane];
	for (unsigned int i = 0; i < t->narrow; i++) {
		t->arrow[i].from = place[t->arrow[i].from];
		t->arrow[i].to = place[t->arrow[i].to];
	}
}

/* ---- which one ---- */

/* The break that is asked for; else the one that took longest. */
static int choose(struct look *k, const char *path, uint64_t id, uint64_t ino)
{
	int64_t longest = -1;

	for (size_t i = 0; i < k->n; i++) {
		struct json_object *e = at(k, i);

		if (!is(e, "X", "break") || (id != 0 && narg(e, "break") != id) ||
		    (ino != 0 && narg(e, "ino") != ino) || ns_of(e, "dur") <= longest)
			continue;
		longest = ns_of(e, "dur");
		k->brk = e;
	}
	if (k->brk == NULL)
		return complain("%s: no such operation in it", path);
	k->id = narg(k->brk, "break");
	k->ino = narg(k->brk, "ino");
	k->from = ns_of(k->brk, "ts");
	k->to = k->from + longest;
	k->pid = (uint32_t)j_num(k->brk, "pid");
	return 0;
}

static void titles(struct look *k)
{
	struct timeline *t = k->t;
	const uint64_t busy = narg(k->brk, "on_busy");
	int64_t waited = 0;

	for (size_t i = 0; i < k->n; i++)
		if (is(at(k, i), "X", "wait") && narg(at(k, i), "break") == k->id)
			waited += ns_of(at(k, i), "dur");
	if (waited != 0)
		(void)snprintf(t->title, sizeof t->title, "%s of %s: %s, of which it waits %s for %u pin%s",
			       arg(k->brk, "what"), t->file, span(k->to - k->from), span(waited), k->pins,
			       k->pins == 1 ? "" : "s");
	else
		(void)snprintf(t->title, sizeof t->title, "%s of %s: %s", arg(k->brk, "what"), t->file,
			       span(k->to - k->from));
	(void)snprintf(t->subtitle, sizeof t->subtitle, "inode %" PRIu64 ", %s, on_busy=%s, break %" PRIu64 "%s",
		       k->ino, range_of(t->foff, t->len), busy < PF_BUSY_NR ? pf_busy_name[busy] : "?", k->id,
		       k->more != 0 ? "; more pins than are shown" : "");
}

static int usage(int status)
{
	(void)fputs("usage: pinfsctl timeline FILE -o OUT.svg [--break N | --file PATH]\n",
		    status == 0 ? stdout : stderr);
	return status;
}

static int draw(struct json_object *root, const char *path, const char *out, uint64_t id, uint64_t ino)
{
	struct timeline *t = calloc(1, sizeof *t);
	struct look k = { .t = t };
	const char *name;
	int status;
	FILE *f;

	if (t == NULL)
		return complain("out of memory");
	k.events = j_list(root, "traceEvents", &k.n);
	k.daemon = (uint32_t)j_num(j_get(root, "otherData"), "daemon");
	status = choose(&k, path, id, ino);
	if (status == 0)
		status = index_all(&k);
	if (status != 0)
		goto out;
	t->foff = narg(k.brk, "foff");
	t->len = narg(k.brk, "len");
	name = base(arg(k.brk, "file"));
	if (strlen(name) >= sizeof t->file)
		(void)snprintf(t->file, sizeof t->file, "...%s", name + strlen(name) - sizeof t->file + 4);
	else if (name[0] != '\0')
		(void)snprintf(t->file, sizeof t->file, "%s", name);
	else
		(void)snprintf(t->file, sizeof t->file, "inode %" PRIu64, k.ino);
	the_call(&k);
	unmapping(&k);
	pins(&k);
	others(&k);
	titles(&k);
	order_lanes(t);
	f = strcmp(out, "-") == 0 ? stdout : fopen(out, "we");
	if (f == NULL) {
		status = complain("%s: %s", out, strerror(errno));
		goto out;
	}
	if (svg_draw(t, f) != 0 || fflush(f) != 0 || ferror(f))
		status = complain("%s: cannot be written", out);
	if (f != stdout && fclose(f) != 0 && status == 0)
		status = complain("%s: %s", out, strerror(errno));
out:
	free(k.end);
	free(k.held);
	free(t);
	return status;
}

int timeline_verb(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "output", required_argument, NULL, 'o' }, { "break", required_argument, NULL, 'b' },
		{ "file", required_argument, NULL, 'f' },   { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct json_object *root;
	const char *out = NULL;
	uint64_t id = 0, ino = 0;
	struct stat st;
	char *end;
	int c, status;

	optind = 1;
	while ((c = getopt_long(argc, argv, "o:h", opts, NULL)) != -1) {
		switch (c) {
		case 'o':
			out = optarg;
			break;
		case 'b':
			id = strtoull(optarg, &end, 10);
			if (id == 0 || *end != '\0')
				return usage(2);
			break;
		case 'f':
			if (stat(optarg, &st) != 0)
				return complain("%s: %s", optarg, strerror(errno));
			ino = st.st_ino;
			break;
		default:
			return usage(c == 'h' ? 0 : 2);
		}
	}
	if (argc - optind != 1 || out == NULL || (id != 0 && ino != 0))
		return usage(2);
	root = trace_load(argv[optind]);
	if (root == NULL)
		return 1;
	status = draw(root, argv[optind], out, id, ino);
	(void)json_object_put(root);
	return status;
}
