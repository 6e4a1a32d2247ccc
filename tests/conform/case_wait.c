/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_wait.c - how a truncate, or a punch, waits for pins: what it does first, for whom it waits and in which order,
 * what ends the wait and what is left then; who is first when others want the pages, too; waits that cannot end.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "conform/cases.h"
#include "conform/ops.h"

#define P ((off_t)CF_PAGE)
#define LEN (16 * P)
#define PIN (8 * P)
#define MUST_WAIT "waits; ebusy: EBUSY; defer, unsafe, plain, bare: returns"

static const char *name_of(long rc) { return rc >= 0 ? "returns" : strerrorname_np((int)-rc); }

/* A call that says, when it returns, whether a pin was still there that it should have waited for. */
struct guarded {
	struct op_at at;
	op_fn *op;
	_Atomic uint32_t *held, early;
};

static long guarded(void *arg)
{
	struct guarded *g = arg;
	const long rc = g->op(&g->at);

	atomic_store(&g->early, atomic_load(g->held));
	return rc;
}

/* ---- for whom it waits ---- */

#define PINS 8
struct pins {
	unsigned int n;
	struct { off_t page, pages; } pin[PINS];
	unsigned int end[PINS];		/* the order in which they end */
	bool late;			/* the last one comes while the call waits already */
	op_fn *op;			/* on all of the file */
};
#define PINS_ARE(...) (&(const struct pins){ .n = __VA_ARGS__ })

/* It waits until the last of them has ended, whichever that is. */
static void until_the_last(struct cf *c)
{
	const struct pins *a = cf_arg(c);
	_Atomic uint32_t *held = cf_shared(c, sizeof *held);
	struct guarded g = { .op = a->op, .held = held };
	struct cf_pin *pin[PINS];
	struct cf_call *call;
	unsigned int i;

	op_stage(c, &g.at, LEN);
	g.at.len = LEN;
	for (i = 0; i < a->n - a->late; i++)
		pin[i] = cf_pin(c, g.at.map + a->pin[i].page * P, (size_t)(a->pin[i].pages * P), CF_TO_FILE);
	cf_mark(held, 1);
	call = cf_call(c, CF_THREAD, guarded, &g);
	if (cf_settle(call) != CF_WAITS) {
		cf_answer(c, "%s", cf_call_word(call));
		while (i-- > 0)
			cf_land(pin[i]);
		return;
	}
	for (; i < a->n; i++)
		pin[i] = cf_pin(c, g.at.map + a->pin[i].page * P, (size_t)(a->pin[i].pages * P), CF_TO_FILE);
	for (i = 0; i < a->n; i++) {
		if (i + 1 == a->n)
			cf_mark(held, 0);
		cf_land(pin[a->end[i]]);
		if (i + 1 < a->n && cf_settle(call) != CF_WAITS)
			break;
	}
	if (cf_result(call) < 0)
		cf_answer(c, "waits, then %s", name_of(cf_result(call)));
	else
		cf_answer(c, atomic_load(&g.early) ? "returns before the last pin has ended" : "waits");
}

/* No pin, or none any more. */
static void unpinned(struct cf *c)
{
	op_fn *const *op = cf_arg(c);
	struct op_at at;
	struct cf_call *call;

	op_stage(c, &at, LEN);
	at.len = LEN;
	if (cf_is(c, "api") || cf_is(c, "slow"))
		cf_land(cf_pin(c, at.map + PIN, CF_PAGE, CF_TO_FILE));
	call = cf_call(c, CF_THREAD, *op, &at);
	cf_answer(c, "%s", cf_call_word(call));
}

/* ---- what it does before it waits ---- */

/* Has the page at @p an entry in this process's page table? */
static bool mapped(struct cf *c, const void *p)
{
	const int fd = (int)CF_SYS(c, open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	uint64_t entry = 0;

	CF_MUST(c, pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)p / CF_PAGE * sizeof entry)) == sizeof entry);
	(void)close(fd);
	return (entry & UINT64_C(1) << 63) != 0;
}

/* Another process that has the file mapped, too, and says whether it still has when it is asked. */
struct watcher {
	struct op_at at;
	_Atomic uint32_t *step;		/* 1: it has touched the pages; 2: it is asked */
	off_t page;
};

static long watch(void *arg)
{
	struct watcher *w = arg;
	volatile char *p = w->at.map + w->page * P;

	(void)cf_touch(p, true);
	cf_mark(w->step, mapped(w->at.c, w->at.map + w->page * P) ? 1 : 3);
	cf_await(w->at.c, w->step, 2);
	return mapped(w->at.c, w->at.map + w->page * P);
}

/* Page 8 is pinned, the truncate leaves four. Is the page of cf_arg() still mapped while it waits, here and there? */
static void unmapped(struct cf *c)
{
	struct watcher w = { .page = *(const int *)cf_arg(c), .step = cf_shared(c, sizeof *w.step) };
	struct op_at at;
	struct cf_pin *pin;
	struct cf_call *other, *call;
	bool here, there;

	op_stage(c, &w.at, LEN);
	other = cf_call(c, CF_PROCESS, watch, &w);
	at = w.at;
	at.off = 4 * P;
	CF_MUST(c, cf_touch(at.map + w.page * P, true) == 0);
	CF_MUST(c, mapped(c, at.map + w.page * P));
	while (atomic_load(w.step) == 0)
		(void)usleep(100);
	CF_MUST(c, atomic_load(w.step) == 1);
	pin = cf_pin(c, at.map + PIN, CF_PAGE, CF_TO_FILE);
	call = cf_call(c, CF_THREAD, op_truncate, &at);
	(void)cf_settle(call);
	here = mapped(c, at.map + w.page * P);
	cf_mark(w.step, 2);
	there = cf_result(other) != 0;
	cf_land(pin);
	if (here != there)
		cf_answer(c, here ? "mapped here, unmapped elsewhere" : "unmapped here, mapped elsewhere");
	else
		cf_answer(c, here ? "mapped" : "unmapped");
	(void)cf_result(call);
}

/* Of what is to go, page 0 alone is pinned: are the others still there while the truncate waits? */
static void nothing_in_part(struct cf *c)
{
	struct op_at at;
	struct stat before, now;
	struct cf_pin *pin;
	struct cf_call *call;

	op_stage(c, &at, LEN);
	CF_SYS(c, fstat(at.fd, &before));
	pin = cf_pin(c, at.map, CF_PAGE, CF_TO_FILE);
	call = cf_call(c, CF_THREAD, op_truncate, &at);
	(void)cf_settle(call);
	if (cf_touch(at.map + P, false) != 0)
		cf_answer(c, "%s", cf_touch_word(at.map + P, false));
	else
		cf_answer(c, "%s", cf_content_of(at.map + P, (size_t)(LEN - P)));
	CF_SYS(c, fstat(at.fd, &now));
	if (cf_settle(call) == CF_WAITS && (now.st_size != before.st_size || now.st_blocks != before.st_blocks))
		cf_answer(c, "some of it is gone");
	cf_land(pin);
	(void)cf_result(call);
}

/* ---- signals ---- */

static _Atomic uint32_t handled;
static void handler(int sig)
{
	(void)sig;
	atomic_store(&handled, 1);
}

struct sig {
	op_fn *op;
	int flags;		/* SA_RESTART */
};
#define SIG(...) (&(const struct sig){ .op = __VA_ARGS__ })

/* The wait has been ended, with @rc: is all as before, and is the pin still in the way? */
static void as_before(struct cf *c, struct op_at *at, struct cf_pin *pin, const char *word)
{
	struct op_at again = *at;
	const off_t size = cf_size(c, at->f);
	const char *content = cf_content_of(at->map, (size_t)LEN);
	struct cf_call *call = cf_call(c, CF_THREAD, op_truncate, &again);
	const bool waits = cf_settle(call) == CF_WAITS;

	if (size != LEN || strcmp(content, "old") != 0)
		cf_answer(c, "%s, and the file has changed", word);
	else if (!waits)
		cf_answer(c, "%s, and the pin is in nobody's way", word);
	else
		cf_answer(c, "%s", word);
	cf_land(pin);
	if (cf_result(call) < 0)
		cf_answer(c, "%s, and then %s", word, name_of(cf_result(call)));
}

/* A signal with a handler arrives while the call waits. */
static void signalled(struct cf *c)
{
	const struct sig *a = cf_arg(c);
	struct sigaction act = { .sa_handler = handler, .sa_flags = a->flags };
	struct op_at at;
	struct cf_pin *pin;
	struct cf_call *call;

	CF_SYS(c, sigaction(SIGUSR1, &act, NULL));
	op_stage(c, &at, LEN);
	at.len = LEN;
	pin = cf_pin(c, at.map + PIN, CF_PAGE, CF_TO_FILE);
	call = cf_call(c, CF_THREAD, a->op, &at);
	if (cf_settle(call) != CF_WAITS)
		cf_na(c, "nothing waits here");
	CF_SYS(c, syscall(SYS_tgkill, cf_call_pid(call), cf_call_tid(call), SIGUSR1));
	cf_await(c, &handled, 1);
	if (cf_settle(call) == CF_WAITS) {
		cf_land(pin);
		cf_answer(c, cf_result(call) == 0 ? "waits" : "waits, then %s", name_of(cf_result(call)));
	} else {
		as_before(c, &at, pin, name_of(cf_result(call)));
	}
}

/* The process that waits is killed. */
static void killed(struct cf *c)
{
	op_fn *const *op = cf_arg(c);
	struct op_at at;
	struct cf_pin *pin;
	struct cf_call *call;

	op_stage(c, &at, LEN);
	at.len = LEN;
	pin = cf_pin(c, at.map + PIN, CF_PAGE, CF_TO_FILE);
	call = cf_call(c, CF_PROCESS, *op, &at);
	if (cf_settle(call) != CF_WAITS)
		cf_na(c, "nothing waits here");
	CF_SYS(c, kill(cf_call_pid(call), SIGKILL));
	(void)cf_result(call);		/* it is gone, and the pin is not */
	as_before(c, &at, pin, "killed at once");
}

/* SIGSTOP and SIGCONT, which no program handles. */
static void stopped(struct cf *c)
{
	struct op_at at;
	struct cf_pin *pin;
	struct cf_call *call;
	char path[64], line[512];
	const char *state;

	op_stage(c, &at, LEN);
	pin = cf_pin(c, at.map + PIN, CF_PAGE, CF_TO_FILE);
	call = cf_call(c, CF_PROCESS, op_truncate, &at);
	if (cf_settle(call) != CF_WAITS)
		cf_na(c, "nothing waits here");
	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)cf_call_pid(call));
	CF_SYS(c, kill(cf_call_pid(call), SIGSTOP));
	do {
		const int fd = (int)CF_SYS(c, open(path, O_RDONLY | O_CLOEXEC));
		const ssize_t n = read(fd, line, sizeof line - 1);

		(void)close(fd);
		CF_MUST(c, n > 0);
		line[n] = '\0';
		state = strrchr(line, ')');
	} while (state == NULL || state[2] != 'T');
	CF_SYS(c, kill(cf_call_pid(call), SIGCONT));
	if (cf_settle(call) == CF_WAITS) {
		cf_land(pin);
		cf_answer(c, cf_result(call) == 0 ? "waits" : "waits, then %s", name_of(cf_result(call)));
	} else {
		as_before(c, &at, pin, name_of(cf_result(call)));
	}
}

/* ---- who is first ---- */

/* Two truncates, the second one to a larger size: whose is the file's in the end? */
static void in_order(struct cf *c)
{
	struct op_at at, later;
	struct cf_pin *pin;
	struct cf_call *first, *second;

	op_stage(c, &at, LEN);
	pin = cf_pin(c, at.map + PIN, CF_PAGE, CF_TO_FILE);
	later = at;
	at.off = 2 * P;
	later.off = 4 * P;
	first = cf_call(c, CF_THREAD, op_truncate, &at);
	if (cf_settle(first) != CF_WAITS)
		cf_na(c, "nothing waits here");
	second = cf_call(c, CF_THREAD, op_truncate, &later);
	(void)cf_settle(second);
	cf_land(pin);
	if (cf_result(first) < 0 || cf_result(second) < 0)
		cf_answer(c, "%s, %s", name_of(cf_result(first)), name_of(cf_result(second)));
	else
		cf_answer(c, cf_size(c, at.f) == 4 * P ? "in order" : "out of order");
}

/* A process that holds a pin until it is told to end it. */
struct holder {
	struct op_at at;
	_Atomic uint32_t *step;		/* 1: it has the pin; 2: it is to end it */
	op_fn *meanwhile;		/* what it does when it is told, before it ends it */
};

static long hold(void *arg)
{
	struct holder *h = arg;
	struct cf_pin *pin;
	long rc = cf_pin_try(h->at.c, h->at.map + PIN, CF_PAGE, CF_TO_FILE, &pin);

	if (rc != 0)
		return rc;
	cf_mark(h->step, 1);
	cf_await(h->at.c, h->step, 2);
	if (h->meanwhile != NULL)
		rc = h->meanwhile(&h->at);
	cf_land(pin);
	return rc;
}

/* Its pin is there when this returns. */
static struct cf_call *holder(struct cf *c, struct holder *h)
{
	struct cf_call *call;

	h->step = cf_shared(c, sizeof *h->step);
	call = cf_call(c, CF_PROCESS, hold, h);
	cf_await(c, h->step, 1);
	return call;
}

/* Processes pin the page in turn, each before the one before it has let go. Who is first, they or the truncate? */
static void stream(struct cf *c)
{
	struct holder a = { 0 }, b = { 0 };
	struct guarded g = { .op = op_truncate, .held = cf_shared(c, sizeof *g.held) };
	struct cf_call *pa, *pb, *cut;

	op_stage(c, &g.at, LEN);
	a.at = b.at = g.at;
	pa = holder(c, &a);
	cf_mark(g.held, 1);
	cut = cf_call(c, CF_THREAD, guarded, &g);
	if (cf_settle(cut) != CF_WAITS)
		cf_na(c, "nothing waits here");
	b.step = cf_shared(c, sizeof *b.step);
	pb = cf_call(c, CF_PROCESS, hold, &b);
	/* Where pins queue behind the truncate, the second has to be seen to do so. Elsewhere it holds the page. */
	if (cf_is(c, "fair") && !cf_is(c, "poll")) {
		CF_MUST(c, cf_settle(pb) == CF_WAITS);
		cf_mark(a.step, 2);
		cf_answer(c, cf_result(cut) == 0 && cf_result(pb) == -EFAULT ? "truncate" : "neither");
		return;
	}
	cf_await(c, b.step, 1);
	cf_mark(a.step, 2);
	CF_MUST(c, cf_result(pa) == 0);
	(void)cf_settle(cut);
	cf_mark(g.held, 0);
	cf_mark(b.step, 2);
	CF_MUST(c, cf_result(pb) == 0);
	cf_answer(c, cf_result(cut) == 0 && !atomic_load(&g.early) ? "pins" : "neither");
}

/* ---- who goes ---- */

enum way { EXIT, KILL };

/* The process that holds the pin ends, without ending the pin. */
static long hold_and_end(void *arg)
{
	struct holder *h = arg;
	struct cf_pin *pin;
	const long rc = cf_pin_try(h->at.c, h->at.map + PIN, CF_PAGE, CF_TO_FILE, &pin);

	if (rc == 0) {
		cf_mark(h->step, 1);
		cf_await(h->at.c, h->step, 2);
	}
	return rc;
}

static void holder_ends(struct cf *c)
{
	const enum way *way = cf_arg(c);
	struct holder h = { .step = cf_shared(c, sizeof *h.step) };
	struct op_at at;
	struct cf_call *call, *cut;

	op_stage(c, &at, LEN);
	h.at = at;
	call = cf_call(c, CF_PROCESS, hold_and_end, &h);
	cf_await(c, h.step, 1);
	cut = cf_call(c, CF_THREAD, op_truncate, &at);
	if (cf_settle(cut) != CF_WAITS)
		cf_na(c, "nothing waits here");
	if (*way == KILL)
		CF_SYS(c, kill(cf_call_pid(call), SIGKILL));
	else
		cf_mark(h.step, 2);
	(void)cf_result(call);
	cf_answer(c, "%s", name_of(cf_result(cut)));
}

/* ---- waits that cannot end ---- */

static long pin_and_truncate(void *arg)
{
	struct op_at *at = arg;
	struct cf_pin *pin;
	long rc = cf_pin_try(at->c, at->map + PIN, CF_PAGE, CF_TO_FILE, &pin);

	if (rc == 0) {
		rc = op_truncate(at);
		cf_land(pin);
	}
	return rc;
}

/* A process with one thread has the pin, and truncates. */
static void itself(struct cf *c)
{
	struct op_at at;
	struct cf_call *call;

	op_stage(c, &at, LEN);
	call = cf_call(c, CF_PROCESS, pin_and_truncate, &at);
	if (!cf_is(c, "detect") && cf_settle(call) == CF_WAITS) {
		cf_answer(c, "waits");
		CF_SYS(c, kill(cf_call_pid(call), SIGKILL));
	} else {
		cf_answer(c, "%s", name_of(cf_result(call)));	/* it may be seen to wait before that is found */
	}
}

static long truncate_g(void *arg) { return op_truncate_other(arg); }

/* Two processes, each with a pin in the file that the other one truncates. */
static void circle(struct cf *c)
{
	struct holder a = { .meanwhile = truncate_g }, b = { .meanwhile = truncate_g };
	struct cf_call *pa, *pb;

	op_stage(c, &a.at, LEN);
	b.at = a.at;
	b.at.fd = a.at.other;
	b.at.other = a.at.fd;
	b.at.map = cf_map(c, b.at.fd, 0, LEN, PROT_READ | PROT_WRITE);
	pa = holder(c, &a);
	pb = holder(c, &b);
	cf_mark(a.step, 2);
	if (cf_settle(pa) != CF_WAITS)
		cf_na(c, "nothing waits here");
	cf_mark(b.step, 2);
	if (!cf_is(c, "detect") && cf_settle(pb) == CF_WAITS) {
		cf_answer(c, "waits");
		CF_SYS(c, kill(cf_call_pid(pa), SIGKILL));
		CF_SYS(c, kill(cf_call_pid(pb), SIGKILL));
	} else {
		const long rc = cf_result(pb);

		cf_answer(c, cf_result(pa) == 0 ? "%s" : "%s, and the other fails, too", name_of(rc));
	}
}

/* The truncate waits for a pin whose holder then writes to the file, and so waits for the truncate. */
static void holder_writes(struct cf *c)
{
	struct holder h = { .meanwhile = op_write };
	struct op_at at;
	struct cf_call *call, *cut;

	op_stage(c, &at, LEN);
	h.at = at;
	call = holder(c, &h);
	cut = cf_call(c, CF_THREAD, op_truncate, &at);
	if (cf_settle(cut) != CF_WAITS)
		cf_na(c, "nothing waits here");
	cf_mark(h.step, 2);
	if (!cf_is(c, "detect") && cf_settle(call) == CF_WAITS) {
		cf_answer(c, "waits");
		return;			/* for ever */
	}
	cf_answer(c, "%s", name_of(cf_result(cut)));
	if (cf_result(call) < 0)
		cf_answer(c, "the write fails");
}

/* ---- the daemon's own ---- */

/* A counter of pinfsctl's report. */
static long counter(struct cf *c, const char *name)
{
	const char *const argv[] = { "pinfsctl", "status", "--json", cf_mount(c), NULL };
	char *out = malloc(65536), word[64];
	const char *p;
	long n;

	CF_MUST(c, out != NULL);
	CF_MUST(c, cf_run(c, out, 65536, argv) == 0);
	(void)snprintf(word, sizeof word, "\"%s\":", name);
	p = strstr(out, word);
	CF_MUST(c, p != NULL);
	n = strtol(p + strlen(word), NULL, 10);
	free(out);
	return n;
}

static void told(struct cf *c)
{
	struct op_at at;
	struct cf_pin *pin;
	struct cf_call *call;
	long before;

	op_stage(c, &at, LEN);
	before = counter(c, "collisions");
	pin = cf_pin(c, at.map + PIN, CF_PAGE, CF_TO_FILE);
	call = cf_call(c, CF_THREAD, op_truncate, &at);
	(void)cf_settle(call);
	cf_land(pin);
	(void)cf_result(call);
	cf_answer(c, counter(c, "collisions") > before ? "a collision is counted" : "no collision is counted");
}

/* pinfsctl pause or resume at this point, for this file alone, once: false where there are no pause points. */
static bool order(struct cf *c, const char *verb, const char *point, ino_t ino)
{
	char number[32], out[4096];
	const char *const pause[] = { "pinfsctl", "pause", "--ino", number, "--count", "1", cf_mount(c), point, NULL };
	const char *const resume[] = { "pinfsctl", "resume", "--ino", number, cf_mount(c), point, NULL };

	(void)snprintf(number, sizeof number, "%llu", (unsigned long long)ino);
	return cf_run(c, out, sizeof out, strcmp(verb, "pause") == 0 ? pause : resume) == 0;
}

/* Somebody stands at a point with this file. */
static bool stands(struct cf *c, ino_t ino)
{
	const char *const argv[] = { "pinfsctl", "pause", "--json", cf_mount(c), NULL };
	char out[4096], word[48];
	const char *p;

	CF_MUST(c, cf_run(c, out, sizeof out, argv) == 0);
	(void)snprintf(word, sizeof word, "\"ino\":%llu,", (unsigned long long)ino);
	p = strstr(out, "\"standing\"");
	return p != NULL && strstr(p, word) != NULL;
}

/* Sleeps the thread, or has it returned? */
static bool asleep(struct cf *c, struct cf_call *call, const _Atomic uint32_t *done)
{
	char path[64], line[512];
	const char *p;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)cf_call_pid(call), (int)cf_call_tid(call));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return atomic_load(done) != 0;
	n = read(fd, line, sizeof line - 1);
	(void)close(fd);
	CF_MUST(c, n > 0);
	line[n] = '\0';
	p = strrchr(line, ')');
	return atomic_load(done) != 0 || (p != NULL && p[2] == 'S');
}

/* A pin that notes whether the truncate was still standing when it was there. */
struct late_pin {
	struct op_at at;
	_Atomic uint32_t stands, done, early;
};

static long late_pin(void *arg)
{
	struct late_pin *l = arg;
	const long rc = op_pin(&l->at);

	atomic_store(&l->early, atomic_load(&l->stands));
	atomic_store(&l->done, 1);
	return rc;
}

/* The truncate stands still between its two steps: everything is unmapped, and pins are not looked for yet. */
static void pin_during_scan(struct cf *c)
{
	struct late_pin l = { .stands = 1 };
	struct op_at cut;
	struct stat st;
	struct cf_call *call, *pin;

	op_stage(c, &l.at, LEN);
	CF_SYS(c, fstat(l.at.fd, &st));
	if (!order(c, "pause", "scan", st.st_ino))
		cf_na(c, "no pause points: the mount needs -o pause_points, and they are for root");
	cut = l.at;
	cut.off = 4 * P;
	l.at.off = PIN;
	l.at.len = P;
	call = cf_call(c, CF_THREAD, op_truncate, &cut);
	while (!stands(c, st.st_ino))
		(void)usleep(1000);
	pin = cf_call(c, CF_THREAD, late_pin, &l);
	while (!asleep(c, pin, &l.done))
		(void)usleep(1000);
	cf_mark(&l.stands, 0);
	CF_MUST(c, order(c, "resume", "scan", st.st_ino));
	CF_MUST(c, cf_result(call) == 0);
	cf_answer(c, atomic_load(&l.early) ? "%s meanwhile" : "%s afterwards", name_of(cf_result(pin)));
}

static const int page_cut = 12, page_kept = 1;
static op_fn *const op_is_truncate = op_truncate, *const op_is_punch = op_punch, *const op_is_zero = op_zero;
static const enum way way_exit = EXIT, way_kill = KILL;
#define FLAGS (CF_PROTECTS | CF_PINS)
#define ONLY_WAITERS "; ebusy, defer, unsafe, plain, bare: na: nothing waits here"

static const struct cf_case cases[] = {
	/* for whom */
	{ "wait.nobody", "behaviour 4; ext4_setattr()",
	  "A truncate of a file whose pins have all ended does not wait.",
	  0, unpinned, &op_is_truncate, "returns; devdax: EINVAL" },
	{ "wait.nobody-punch", "behaviour 4; ext4_punch_hole()",
	  "PUNCH_HOLE of a file whose pins have all ended does not wait.",
	  0, unpinned, &op_is_punch, "returns; devdax: ENODEV" },
	{ "wait.all", "behaviour 7, 47, 48; ext4_break_layouts()",
	  "Of two pins the one of the first page ends first: the truncate looks again, and waits for the other.",
	  FLAGS, until_the_last, PINS_ARE(2, { { 0, 1 }, { 7, 1 } }, { 0, 1 }, .op = op_truncate), MUST_WAIT
	  "; devdax: EINVAL" },
	{ "wait.all-backwards", "behaviour 7, 47, 48; ext4_break_layouts()",
	  "Of two pins the one of the last page ends first: the truncate waits for the other.",
	  FLAGS, until_the_last, PINS_ARE(2, { { 0, 1 }, { 7, 1 } }, { 1, 0 }, .op = op_truncate), MUST_WAIT
	  "; devdax: EINVAL" },
	{ "wait.twice", "behaviour 7; dax_busy_page()",
	  "A page that is pinned twice is waited for until both pins have ended.",
	  FLAGS, until_the_last, PINS_ARE(2, { { 8, 1 }, { 8, 1 } }, { 0, 1 }, .op = op_truncate), MUST_WAIT
	  "; devdax: EINVAL" },
	{ "wait.overlap", "behaviour 7; dax_busy_page()",
	  "Two pins that overlap are waited for until both have ended.",
	  FLAGS, until_the_last, PINS_ARE(2, { { 4, 3 }, { 6, 3 } }, { 0, 1 }, .op = op_truncate), MUST_WAIT
	  "; devdax: EINVAL" },
	{ "wait.many", "behaviour 7; dax_layout_busy_page_range()",
	  "Eight pins that end in any order are waited for until the last.",
	  FLAGS, until_the_last,
	  PINS_ARE(8, { { 0, 1 }, { 2, 1 }, { 3, 2 }, { 6, 1 }, { 8, 1 }, { 9, 3 }, { 13, 1 }, { 15, 1 } },
		   { 3, 0, 7, 5, 1, 6, 2, 4 }, .op = op_truncate), MUST_WAIT "; devdax: EINVAL" },
	{ "wait.many-punch", "behaviour 2, 7; ext4_punch_hole()",
	  "PUNCH_HOLE waits for all of eight pins as well.",
	  FLAGS, until_the_last,
	  PINS_ARE(8, { { 0, 1 }, { 2, 1 }, { 3, 2 }, { 6, 1 }, { 8, 1 }, { 9, 3 }, { 13, 1 }, { 15, 1 } },
		   { 7, 1, 3, 5, 0, 6, 4, 2 }, .op = op_punch), MUST_WAIT "; devdax: ENODEV" },
	{ "wait.late", "behaviour 7; ext4_break_layouts()",
	  "A pin that the holder takes of another page while the truncate waits is waited for as well.",
	  FLAGS, until_the_last, PINS_ARE(2, { { 8, 1 }, { 9, 1 } }, { 0, 1 }, true, op_truncate), MUST_WAIT
	  "; devdax: EINVAL" },
	{ "wait.late-same", "behaviour 7; ext4_break_layouts()",
	  "A pin that the holder takes of the same page while the truncate waits is waited for as well.",
	  FLAGS, until_the_last, PINS_ARE(2, { { 8, 1 }, { 8, 1 } }, { 0, 1 }, true, .op = op_truncate), MUST_WAIT
	  "; devdax: EINVAL" },

	/* what comes first */
	{ "wait.unmapped", "behaviour 5; dax_layout_busy_page_range()",
	  "While the truncate waits, a page that will be cut is mapped nowhere: every process has to fault it in.",
	  CF_PINS, unmapped, &page_cut, "unmapped; ebusy: ?; devdax: mapped" },
	{ "wait.unmapped-kept", "behaviour 5; dax_layout_busy_page_range()",
	  "While the truncate waits, not even a page that stays is mapped: all of the file is unmapped.",
	  CF_PINS, unmapped, &page_kept, "unmapped; pinfs, plain, bare: mapped; plain: mapped|unmapped; "
	  "defer, unsafe: unmapped here, mapped elsewhere; plain+unsafe, bare+unsafe, bare+defer: mapped" },
	{ "wait.nothing-in-part", "behaviour 8; ext4_setattr()",
	  "While a truncate waits for one page, all others are there with what they hold: nothing is cut in part.",
	  FLAGS, nothing_in_part, NULL, "old; defer, unsafe, plain, bare: SIGBUS; devdax: old" },

	/* what ends it */
	{ "wait.signal", "behaviour 8; ext4_break_layouts()",
	  "A signal ends a truncate that waits with EINTR; nothing has changed, and the pin still counts.",
	  CF_PINS, signalled, SIG(op_truncate), "EINTR" ONLY_WAITERS },
	{ "wait.signal-restart", "behaviour 8; ext4_break_layouts()",
	  "After a signal whose handler has SA_RESTART the truncate waits on; a FUSE filesystem can only say EINTR.",
	  CF_PINS, signalled, SIG(op_truncate, SA_RESTART), "waits; pinfs: EINTR" ONLY_WAITERS },
	{ "wait.signal-punch", "behaviour 2, 8; ext4_break_layouts()",
	  "A signal ends a PUNCH_HOLE that waits with EINTR; nothing has changed, and the pin still counts.",
	  CF_PINS, signalled, SIG(op_punch), "EINTR" ONLY_WAITERS },
	{ "wait.signal-punch-restart", "behaviour 2, 8; ext4_break_layouts()",
	  "After a signal whose handler has SA_RESTART a PUNCH_HOLE waits on; a FUSE filesystem says EINTR.",
	  CF_PINS, signalled, SIG(op_punch, SA_RESTART), "waits; pinfs: EINTR" ONLY_WAITERS },
	{ "wait.signal-open", "behaviour 8; ext4_break_layouts()",
	  "A signal ends an open with O_TRUNC that waits with EINTR; nothing has changed, and the pin still counts.",
	  CF_PINS, signalled, SIG(op_open_trunc), "EINTR" ONLY_WAITERS },
	{ "wait.killed", "behaviour 8; ext4_break_layouts()",
	  "A process that waits in a truncate can be killed; nothing has changed, and the pin still counts.",
	  CF_PINS, killed, &op_is_truncate, "killed at once" ONLY_WAITERS },
	{ "wait.killed-punch", "behaviour 2, 8; ext4_break_layouts()",
	  "A process that waits in a PUNCH_HOLE can be killed; nothing has changed, and the pin still counts.",
	  CF_PINS, killed, &op_is_punch, "killed at once" ONLY_WAITERS },
	{ "wait.killed-zero", "behaviour 2, 8; ext4_break_layouts()",
	  "A process that waits in a ZERO_RANGE can be killed; nothing has changed, and the pin still counts.",
	  CF_PINS, killed, &op_is_zero, "killed at once" ONLY_WAITERS },
	{ "wait.stopped", "ext4_break_layouts()",
	  "A process that waits in a truncate, is stopped and goes on, waits on; for FUSE the stop is a signal.",
	  CF_PINS, stopped, NULL, "waits; pinfs: EINTR" ONLY_WAITERS },
	{ "wait.holder-exits", "pinfs; FOLL_PIN",
	  "The end of the process that pinned ends the pin, and the wait. On Linux nobody knows whose pin it is.",
	  CF_PINS, holder_ends, &way_exit, "returns; slow, pipe: na: the transfer would go on" ONLY_WAITERS },
	{ "wait.holder-killed", "pinfs; FOLL_PIN",
	  "SIGKILL of the process that pinned ends the pin, and the wait. On Linux nobody knows whose pin it is.",
	  CF_PINS, holder_ends, &way_kill, "returns; slow, pipe: na: the transfer would go on" ONLY_WAITERS },

	/* who is first */
	{ "wait.in-order", "down_write(); pinfs",
	  "Two truncates that wait for the same pin are done in the order in which they came.",
	  CF_PINS, in_order, NULL, "in order" ONLY_WAITERS },
	{ "wait.stream", "behaviour 15; ext4_break_layouts()",
	  "Processes that pin a page in turn, without a gap, keep a truncate waiting; with fair=yes it has its turn.",
	  CF_PINS, stream, NULL, "pins; pinfs+fair: truncate; poll: pins" ONLY_WAITERS },

	/* without end */
	{ "wait.itself", "ext4_break_layouts(); pinfs",
	  "A process that truncates what it has pinned itself waits for ever; with deadlock=detect that is EDEADLK.",
	  CF_PINS, itself, NULL, "waits; detect: EDEADLK" ONLY_WAITERS "; devdax: EINVAL" },
	{ "wait.circle", "ext4_break_layouts(); pinfs",
	  "Two processes that truncate what the other one has pinned wait for ever; deadlock=detect ends one.",
	  CF_PINS, circle, NULL, "waits; detect: EDEADLK" ONLY_WAITERS },
	{ "wait.holder-writes", "ext4_break_layouts(); pinfs",
	  "The holder of the pin writes to the file, behind the truncate: for ever; deadlock=detect ends the truncate.",
	  CF_PINS, holder_writes, NULL, "waits; detect: EDEADLK" ONLY_WAITERS },

	/* from inside */
	{ "wait.pin-during-scan", "behaviour 6; dax_layout_busy_page_range()",
	  "A pin that comes between unmapping and looking for pins waits for the truncate, and then finds no page.",
	  CF_PINS | CF_ROOT, pin_during_scan, NULL, "EFAULT afterwards; !pinfs: na: a kernel cannot be stopped there" },
	{ "wait.collision-counted", "behaviour 52; dax_disassociate_entry()",
	  "A truncate that frees a pinned page is counted as a collision, where one is let to happen.",
	  FLAGS, told, NULL,
	  "no collision is counted; unsafe: a collision is counted; devdax: no collision is counted; "
	  "!pinfs: na: only pinfs counts them" },
	{ "wait.cost", "behaviour 57; dax_layout_busy_page_range()",
	  "Not asked: what looking for pins costs, no program sees; ours are counters by page, without extents.",
	  CF_UNASKED, NULL, NULL, "?" },
	{ "wait.lease-order", "behaviour 58; break_layout()",
	  "Not asked: no program can time two processors so; tests/unit/test_lease_race.c tries, for our leases.",
	  CF_UNASKED, NULL, NULL, "?" },
};
CF_GROUP(cf_wait, "wait", "How it waits", cases);
