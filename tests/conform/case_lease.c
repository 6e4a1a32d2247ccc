/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_lease.c - layout leases: who may have one, who is told what and when, what comes over who does not listen, and
 * whose the pins under it are. The case's file has the policy in question as its own. At the end, the kernel's own
 * leases (fcntl(2)), which are about opening, not about blocks.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/lease.h>
#include <pinfs/ledger.h>
#include "conform/cases.h"
#include "conform/take.h"

#define LEN (8 * CF_PAGE)
#define READ PINFS_LEASE_READ
#define WRITE PINFS_LEASE_WRITE
#define WLONG (PINFS_PIN_WRITE | PINFS_PIN_LONGTERM)
#define NOBODY "; bare, plain, kernel: na: programs have no layout leases; devdax: na: a device has no truncate"
/* Long enough for whatever comes. */
#define PATIENT "lease_time", "3600"

struct scene {
	int fd;
	char *map;
	struct pinfs_lease *lease;
	struct pinfs_pin *pin;
};

static void set_up(struct cf *c, struct scene *s, const char *const pairs[][2], size_t n)
{
	s->fd = cf_file(c, "f", LEN);
	s->lease = NULL;
	s->pin = NULL;
	/* What the mount may have otherwise, first. */
	take_policy(c, cf_path(c, "f"), "on_busy", "wait");
	take_policy(c, cf_path(c, "f"), "busy_timeout", "0");
	take_policy(c, cf_path(c, "f"), "lease_break", "revoke");
	for (size_t i = 0; i < n; i++)
		take_policy(c, cf_path(c, "f"), pairs[i][0], pairs[i][1]);
	s->map = cf_map(c, s->fd, 0, LEN, PROT_READ | PROT_WRITE);
	(void)cf_touch(s->map, false);
}
#define SET_UP(c, s, ...)                                                                                            \
	set_up(c, s, (const char *const[][2]){ __VA_ARGS__ }, sizeof((const char *const[][2]){ __VA_ARGS__ }) /      \
								      sizeof(const char *[2]))

static void lease(struct cf *c, struct scene *s, unsigned int kind)
{
	CF_MUST(c, LIB(c, pinfs_lease_take)(s->fd, 0, LEN, kind, &s->lease) == 0);
}

static int pin(struct cf *c, struct scene *s, size_t page, size_t n, unsigned int flags)
{
	return LIB(c, pinfs_pin)(s->map + page * CF_PAGE, n * CF_PAGE, flags, &s->pin);
}

static const char *state(struct cf *c, const struct scene *s)
{
	struct pinfs_lease_info info = { 0 };
	int err = LIB(c, pinfs_lease_query)(s->lease, &info);

	return err != 0 ? "error" : info.li_state == PINFS_LEASE_HELD ? "held" :
	       info.li_state == PINFS_LEASE_BREAKING ? "breaking" : "broken";
}

/* The library hears of it a moment after the daemon has decided. */
static const char *state_after(struct cf *c, const struct scene *s, const char *old)
{
	while (strcmp(state(c, s), old) == 0)
		(void)usleep(200);
	return state(c, s);
}

/* When it is over: that it is asked back may be heard of first. */
static const char *state_at_last(struct cf *c, const struct scene *s)
{
	(void)state_after(c, s, "held");
	return state_after(c, s, "breaking");
}

/* ---- somebody else: another process ---- */

enum verb { CUT, PUNCH_ELSEWHERE, ALLOCATE, TAKE_READ, TAKE_WRITE, TAKE_WRITE_HIGH, TEST_WRITE, PIN, DROP };

struct other {
	struct cf *c;
	enum verb verb;
	struct scene s;
	pid_t seen;
	int (*take)(int, uint64_t, uint64_t, unsigned int, struct pinfs_lease **);
	int (*test)(int, uint64_t, uint64_t, unsigned int, struct pinfs_lease_info *);
	int (*pin)(const void *, size_t, unsigned int, struct pinfs_pin **);
	int (*drop)(struct pinfs_lease *);
};

static long act(void *arg)
{
	struct other *o = arg;
	struct pinfs_lease_info info = { 0 };
	struct pinfs_lease *l;
	struct pinfs_pin *p;
	long rc;

	switch (o->verb) {
	case CUT: return cf_rc(ftruncate(o->s.fd, 0));
	case PUNCH_ELSEWHERE:
		return cf_rc(fallocate(o->s.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, LEN, CF_PAGE));
	case ALLOCATE:
		rc = cf_rc(pwrite(o->s.fd, "new", 3, 0));
		return rc < 0 ? rc : cf_rc(fallocate(o->s.fd, 0, 0, 2 * LEN));
	case TAKE_READ: return o->take(o->s.fd, 0, LEN, READ, &l);
	case TAKE_WRITE: return o->take(o->s.fd, 0, LEN, WRITE, &l);
	case TAKE_WRITE_HIGH: return o->take(o->s.fd, LEN, LEN, WRITE, &l);
	case TEST_WRITE:
		rc = o->test(o->s.fd, 0, LEN, WRITE, &info);
		o->seen = info.li_pid;
		return rc;
	case PIN: return o->pin(o->s.map, CF_PAGE, WLONG, &p);
	case DROP: return o->drop(o->s.lease);
	}
	return -EINVAL;
}

static struct cf_call *other(struct cf *c, const struct scene *s, enum verb verb, struct other **out)
{
	struct other *o = cf_shared(c, sizeof *o);
	struct cf_call *call;

	*o = (struct other){ c, verb, *s, 0, LIB(c, pinfs_lease_take), LIB(c, pinfs_lease_test), LIB(c, pinfs_pin),
			     LIB(c, pinfs_lease_drop) };
	call = cf_call(c, CF_PROCESS, act, o);
	(void)cf_settle(call);
	if (out != NULL)
		*out = o;
	return call;
}

/* ---- who may have one ---- */

struct pair {
	unsigned int kind;		/* of the first */
	enum verb verb;
};

static void two(struct cf *c)
{
	const struct pair *p = cf_arg(c);
	struct scene s;

	SET_UP(c, &s, { PATIENT });
	lease(c, &s, p->kind);
	cf_answer_rc(c, cf_result(other(c, &s, p->verb, NULL)));
}

static void downgraded(struct cf *c)
{
	struct scene s;

	SET_UP(c, &s, { PATIENT });
	lease(c, &s, WRITE);
	CF_MUST(c, LIB(c, pinfs_lease_downgrade)(s.lease) == 0);
	cf_answer_rc(c, cf_result(other(c, &s, TAKE_READ, NULL)));
}

static void tested(struct cf *c)
{
	struct cf_call *call;
	struct other *o;
	struct scene s;

	SET_UP(c, &s, { PATIENT });
	lease(c, &s, READ);
	call = other(c, &s, TEST_WRITE, &o);
	cf_answer_rc(c, cf_result(call));
	if (o->seen != getpid())
		cf_answer(c, "it names somebody else");
}

/* ---- breaking one ---- */

/* Waits for the lease; goes on when it is given back. */
static void waits(struct cf *c)
{
	struct cf_call *cut;
	struct scene s;

	SET_UP(c, &s, { PATIENT });
	lease(c, &s, READ);
	cut = other(c, &s, CUT, NULL);
	cf_answer(c, "%s, %s", cf_call_word(cut), state_after(c, &s, "held"));
	if (cf_touch(s.map, false) != 0)
		cf_answer(c, "the mapping has gone already");
	CF_MUST(c, LIB(c, pinfs_lease_drop)(s.lease) == 0);
	if (cf_result(cut) != 0)
		cf_answer(c, "waits, then fails");
}

static void event(struct cf *c)
{
	struct pollfd p = { .events = POLLIN };
	struct cf_call *cut;
	struct scene s;

	SET_UP(c, &s, { PATIENT });
	lease(c, &s, READ);
	CF_MUST(c, LIB(c, pinfs_lease_event_fd)(s.lease, &p.fd) == 0);
	CF_MUST(c, poll(&p, 1, 0) == 0);
	cut = other(c, &s, CUT, NULL);
	CF_MUST(c, poll(&p, 1, -1) == 1);
	cf_answer(c, "%s, told", cf_call_word(cut));
	CF_MUST(c, LIB(c, pinfs_lease_drop)(s.lease) == 0);
	(void)cf_result(cut);
}

static _Atomic uint32_t signalled;

static void on_signal(int sig, siginfo_t *si, void *ctx)
{
	(void)sig;
	(void)ctx;
	atomic_store(&signalled, (uint32_t)(uintptr_t)si->si_value.sival_ptr);
}

static void by_signal(struct cf *c)
{
	const struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	struct cf_call *cut;
	struct scene s;

	CF_SYS(c, sigaction(SIGUSR1, &sa, NULL));
	SET_UP(c, &s, { PATIENT });
	lease(c, &s, READ);
	CF_MUST(c, LIB(c, pinfs_lease_signal)(s.lease, SIGUSR1, (void *)(uintptr_t)77) == 0);
	cut = other(c, &s, CUT, NULL);
	while (atomic_load(&signalled) != 77)
		(void)usleep(200);
	cf_answer(c, "%s, told", cf_call_word(cut));
	CF_MUST(c, LIB(c, pinfs_lease_drop)(s.lease) == 0);
	(void)cf_result(cut);
}

/* Under another policy, or of another kind: what the breaker gets, and what the lease is then. */
struct meeting {
	const char *name, *value;
	unsigned int kind;
	enum verb verb;
	enum { STAYS, ASKED_BACK, ENDS } lease;	/* what becomes of it is waited for, or nothing does */
};

static void meets(struct cf *c)
{
	const struct meeting *m = cf_arg(c);
	struct cf_call *call;
	struct scene s;

	SET_UP(c, &s, { PATIENT }, { m->name, m->value });
	lease(c, &s, m->kind);
	call = other(c, &s, m->verb, NULL);
	cf_answer(c, "%s, %s", cf_call_word(call), m->lease == STAYS ? state(c, &s) :
		  m->lease == ENDS ? state_at_last(c, &s) : state_after(c, &s, "held"));
	CF_MUST(c, LIB(c, pinfs_lease_drop)(s.lease) == 0);
	(void)cf_result(call);
}

/* The holder itself. */
static void own(struct cf *c)
{
	const unsigned int *kind = cf_arg(c);
	struct scene s;

	SET_UP(c, &s, { PATIENT });
	lease(c, &s, *kind);
	cf_answer_rc(c, cf_rc(ftruncate(s.fd, 0)));
	if (strcmp(state(c, &s), "held") != 0)
		cf_answer(c, "the lease is %s", state(c, &s));
}

/* Who waits for a lease can be interrupted; the holder's time goes on. */
static void interrupted(struct cf *c)
{
	const struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	struct cf_call *cut;
	struct scene s;

	CF_SYS(c, sigaction(SIGUSR1, &sa, NULL));
	SET_UP(c, &s, { PATIENT });
	lease(c, &s, READ);
	cut = other(c, &s, CUT, NULL);
	CF_SYS(c, kill(cf_call_pid(cut), SIGUSR1));
	cf_answer_rc(c, cf_result(cut));
	if (strcmp(state_after(c, &s, "held"), "breaking") != 0)
		cf_answer(c, "the lease is %s", state(c, &s));
}

/* As with a pin: no longer than busy_timeout. */
static void bounded(struct cf *c)
{
	struct scene s;

	SET_UP(c, &s, { PATIENT }, { "busy_timeout", "20ms" });
	lease(c, &s, READ);
	cf_answer_rc(c, cf_result(other(c, &s, CUT, NULL)));
	if (strcmp(state_after(c, &s, "held"), "breaking") != 0)
		cf_answer(c, "the lease is %s", state(c, &s));
}

/* ---- who does not listen ---- */

/* A device of this process: what it is told of a pin, and whether it may move bytes. */
struct engine {
	struct pf_l_hdr *ledger;
	struct pinfs_dma piece;
};

static void programme(struct cf *c, struct engine *e, const struct scene *s)
{
	struct stat st;
	size_t n = 1;
	int fd = LIB(c, pinfs_ledger_fd)(s->map);

	CF_MUST(c, fd >= 0 && fstat(fd, &st) == 0);
	e->ledger = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CF_MUST(c, e->ledger != MAP_FAILED && LIB(c, pinfs_pin_dma)(s->pin, &e->piece, &n) == 0 && n == 1);
}

static bool may_move(const struct engine *e)
{
	const uint32_t n = (uint32_t)(e->piece.da_len / CF_PAGE);

	if (!pf_dma_enter(e->ledger, e->piece.da_slot, e->piece.da_epoch, e->piece.da_page, n))
		return false;
	pf_dma_exit(e->ledger, e->piece.da_slot);
	return true;
}

static long now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void revoked(struct cf *c)
{
	struct pinfs_pin_info info;
	const char *now;
	struct scene s;
	long from;
	int err;

	SET_UP(c, &s, { "longterm", "lease" }, { "lease_time", "20ms" }, { "lease_break", "revoke" });
	lease(c, &s, READ);
	CF_MUST(c, pin(c, &s, 1, 2, WLONG) == 0);
	from = now_ms();
	if (cf_result(other(c, &s, CUT, NULL)) != 0) {
		cf_answer(c, "truncate fails");
		return;
	}
	if (now_ms() - from < 19) {
		cf_answer(c, "too early");
		return;
	}
	now = state_at_last(c, &s);
	err = LIB(c, pinfs_pin_query)(s.pin, &info);
	cf_answer(c, "%s, %s, %s", now, err == -ESTALE ? "void" : "pinned",
		  cf_touch_word(s.map + CF_PAGE, false));
}

/* Not with on_busy=wait of its own: it has a twin. */
static void revoked_device(struct cf *c)
{
	struct scene s = { .fd = cf_file(c, "f", LEN) };
	struct engine e;
	long rc;

	take_policy(c, cf_path(c, "f"), "longterm", "lease");
	take_policy(c, cf_path(c, "f"), "lease_time", "20ms");
	take_policy(c, cf_path(c, "f"), "lease_break", "revoke");
	s.map = cf_map(c, s.fd, 0, LEN, PROT_READ | PROT_WRITE);
	lease(c, &s, READ);
	CF_MUST(c, pin(c, &s, 1, 2, WLONG) == 0);
	programme(c, &e, &s);
	CF_MUST(c, may_move(&e));
	/* Under on_busy=ebusy it asks again until the time is over. */
	do {
		rc = cf_result(other(c, &s, CUT, NULL));
	} while (rc == -EBUSY);
	CF_MUST(c, rc == 0);
	cf_answer(c, "%s", may_move(&e) ? "goes on" : "faults");
}

/* A window that was revoked stays so until the program maps it anew. */
static void revoked_window(struct cf *c)
{
	struct scene s;
	const char *before;
	char *again;

	SET_UP(c, &s, { PATIENT }, { "lease_time", "20ms" }, { "lease_break", "revoke" });
	lease(c, &s, READ);
	CF_MUST(c, cf_result(other(c, &s, CUT, NULL)) == 0);
	CF_SYS(c, ftruncate(s.fd, LEN));
	before = cf_touch_word(s.map, false);
	again = cf_map(c, s.fd, 0, LEN, PROT_READ | PROT_WRITE);
	cf_answer(c, "%s, then %s", before, cf_touch_word(again, false));
}

struct child {
	_Atomic uint32_t up;
	struct cf *c;
	struct scene s;
};

/* A holder that is a process of its own; 0 in it, which then has the lease and the pin. */
static pid_t holder(struct cf *c, struct scene *s, struct child *ch)
{
	pid_t pid = (pid_t)CF_SYS(c, fork());

	if (pid == 0) {
		lease(c, s, READ);
		CF_MUST(c, pin(c, s, 1, 2, WLONG) == 0);
		cf_mark(&ch->up, 1);
		return 0;
	}
	cf_await(c, &ch->up, 1);
	return pid;
}

static void killed(struct cf *c)
{
	struct child *ch = cf_shared(c, sizeof *ch);
	struct cf_call *cut;
	struct scene s;
	int status;
	pid_t pid;

	SET_UP(c, &s, { "longterm", "lease" }, { "lease_time", "20ms" }, { "lease_break", "kill" });
	pid = holder(c, &s, ch);
	if (pid == 0)
		for (;;)
			(void)pause();
	cut = take_cut(c, s.fd, 0);
	cf_answer_rc(c, cf_result(cut));
	CF_MUST(c, waitpid(pid, &status, 0) == pid);
	if (cf_result(cut) == 0)
		cf_answer(c, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? "returns, killed" : "returns");
}

/* ---- what ends it, and what does not ---- */

enum end { BY_DEATH, BY_EXEC };

static void ended(struct cf *c)
{
	const enum end *how = cf_arg(c);
	struct child *ch = cf_shared(c, sizeof *ch);
	struct cf_call *cut;
	const char *word;
	struct scene s;
	pid_t pid;

	SET_UP(c, &s, { "longterm", "lease" }, { PATIENT });
	pid = holder(c, &s, ch);
	if (pid == 0) {
		cf_await(c, &ch->up, 2);
		if (*how == BY_EXEC)
			(void)execlp("cat", "cat", "/dev/null", (char *)NULL);
		_exit(0);
	}
	cut = take_cut(c, s.fd, 0);
	word = cf_call_word(cut);
	cf_mark(&ch->up, 2);
	cf_answer(c, "%s, then %s", word, cf_result(cut) == 0 ? "returns" : "fails");
	CF_MUST(c, waitpid(pid, NULL, 0) == pid);
}

static void kept(struct cf *c)
{
	struct scene s;

	SET_UP(c, &s, { "longterm", "lease" }, { PATIENT });
	lease(c, &s, READ);
	CF_MUST(c, pin(c, &s, 1, 2, WLONG) == 0);
	CF_SYS(c, munmap(s.map, LEN));
	CF_SYS(c, close(s.fd));
	cf_answer(c, "%s", state(c, &s));
}

/* Given back with pins under it: it still breaks, and its pins are still waited for. */
static void ghost(struct cf *c)
{
	struct cf_call *cut;
	char out[8192];
	struct scene s;

	SET_UP(c, &s, { "longterm", "lease" }, { PATIENT });
	lease(c, &s, READ);
	CF_MUST(c, pin(c, &s, 1, 2, WLONG) == 0);
	CF_MUST(c, LIB(c, pinfs_lease_drop)(s.lease) == 0);
	CF_MUST(c, take_ctl(c, out, sizeof out, "leases", "--json", NULL) == 0);
	cut = other(c, &s, CUT, NULL);
	cf_answer(c, "%s, %s", strstr(out, "\"state\":\"dropped\"") != NULL ? "shown" : "not shown",
		  cf_call_word(cut));
	CF_MUST(c, LIB(c, pinfs_unpin)(s.pin) == 0);
	if (cf_result(cut) != 0)
		cf_answer(c, "waits, then fails");
}

static void of_a_child(struct cf *c)
{
	struct scene s;

	SET_UP(c, &s, { PATIENT });
	lease(c, &s, READ);
	cf_answer_rc(c, cf_result(other(c, &s, DROP, NULL)));
}

/* ---- pins under it ---- */

enum under { NONE, WHOLE, PARTLY, SOMEBODYS };

static void admitted(struct cf *c)
{
	const enum under *u = cf_arg(c);
	struct scene s;

	SET_UP(c, &s, { "longterm", "lease" }, { PATIENT });
	if (*u == PARTLY)
		CF_MUST(c, LIB(c, pinfs_lease_take)(s.fd, 0, 2 * CF_PAGE, READ, &s.lease) == 0);
	else if (*u != NONE)
		lease(c, &s, READ);
	cf_answer_rc(c, *u == SOMEBODYS ? cf_result(other(c, &s, PIN, NULL)) : pin(c, &s, 1, 2, WLONG));
}

/* The daemon's list has the lease once, and the pages that are pinned under it. */
static void counted(struct cf *c)
{
	struct pinfs_pin *first;
	char out[8192], want[64];
	struct scene s;

	SET_UP(c, &s, { "longterm", "lease" }, { PATIENT });
	lease(c, &s, READ);
	CF_MUST(c, pin(c, &s, 1, 2, WLONG) == 0);
	first = s.pin;
	CF_MUST(c, pin(c, &s, 4, 1, WLONG) == 0);
	(void)snprintf(want, sizeof want, "\"pid\":%d,", (int)getpid());
	CF_MUST(c, take_ctl(c, out, sizeof out, "leases", "--json", NULL) == 0);
	cf_note(c, "%s", out);
	if (strstr(out, want) == NULL || strstr(strstr(out, want) + 1, want) != NULL)
		cf_answer(c, "not one lease");
	else
		cf_answer(c, strstr(strstr(out, want), "\"pages\":3") != NULL ? "one, 3 pages" : "one");
	CF_MUST(c, LIB(c, pinfs_unpin)(first) == 0);
}

/* ---- hand-over ---- */

struct importer {
	int fd;
	int (*import)(int, struct pinfs_lease **, struct pinfs_pin **, size_t *);
	int (*query)(const struct pinfs_pin *, struct pinfs_pin_info *);
	_Atomic uint32_t have, go;
};

static long import(void *arg)
{
	struct importer *i = arg;
	struct pinfs_pin_info info;
	struct pinfs_lease *l;
	struct pinfs_pin *p[2];
	size_t n = 2;
	int err = i->import(i->fd, &l, p, &n);

	if (err == 0 && (n != 1 || i->query(p[0], &info) != 0 || info.pi_len != 2 * CF_PAGE))
		err = -EBADMSG;
	cf_mark(&i->have, 1);
	while (err == 0 && atomic_load(&i->go) == 0)
		(void)usleep(500);
	return err;
}

static void handed_over(struct cf *c)
{
	struct importer *i = cf_shared(c, sizeof *i);
	struct pinfs_pin_info info;
	struct cf_call *call, *cut;
	const char *now;
	struct scene s;
	int err;

	SET_UP(c, &s, { "longterm", "lease" }, { PATIENT });
	lease(c, &s, READ);
	CF_MUST(c, pin(c, &s, 1, 2, WLONG) == 0);
	i->import = LIB(c, pinfs_lease_import);
	i->query = LIB(c, pinfs_pin_query);
	CF_MUST(c, LIB(c, pinfs_lease_export)(s.lease, &i->fd) == 0);
	call = cf_call(c, CF_PROCESS, import, i);
	cf_await(c, &i->have, 1);
	now = state_at_last(c, &s);
	err = LIB(c, pinfs_pin_query)(s.pin, &info);
	cut = take_cut(c, s.fd, 0);
	cf_answer(c, "%s, %s here, truncate %s", now, err == -ESTALE ? "void" : "pinned",
		  cf_call_word(cut));
	cf_mark(&i->go, 1);
	if (cf_result(call) != 0)
		cf_answer(c, "not imported");
	(void)cf_result(cut);
}

/* ---- the kernel's ---- */

enum file_lease { RD_OPEN_WR, WR_OPEN_RD, RD_UNLINK, RD_CHMOD, TAKE_WITH_WRITER, TAKE_RD };

static void file_lease(struct cf *c)
{
	const enum file_lease *what = cf_arg(c);
	const struct sigaction sa = { .sa_handler = SIG_IGN };
	int fd, rw, kind = *what == WR_OPEN_RD ? F_WRLCK : F_RDLCK;
	const char *path = cf_path(c, "f");

	CF_SYS(c, sigaction(SIGIO, &sa, NULL));
	rw = cf_file(c, "f", CF_PAGE);
	if (*what != TAKE_WITH_WRITER)
		CF_SYS(c, close(rw));
	fd = (int)CF_SYS(c, open(path, O_RDONLY | O_CLOEXEC));
	/* A close(2) may end a moment after it has returned, and whoever looks at the file now has it for a moment. */
	while (fcntl(fd, F_SETLEASE, kind) != 0) {
		if (*what == TAKE_WITH_WRITER || errno != EAGAIN) {
			cf_answer_rc(c, -errno);
			if (*what != TAKE_WITH_WRITER && *what != TAKE_RD)
				cf_na(c, "no lease is to be had: %s", strerror(errno));
			return;
		}
		(void)usleep(1000);
	}
	switch (*what) {
	case RD_OPEN_WR: cf_answer_rc(c, cf_rc(open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC))); break;
	case WR_OPEN_RD: cf_answer_rc(c, cf_rc(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC))); break;
	case RD_UNLINK: cf_answer_rc(c, cf_rc(unlink(path))); break;
	case RD_CHMOD: cf_answer_rc(c, cf_rc(chmod(path, 0600))); break;
	case TAKE_WITH_WRITER: case TAKE_RD: cf_answer(c, "returns"); break;
	}
}

#define TWO(name, says, kind, verb, want)                                                                            \
	{ "lease." name, "pinfs; layout lease proposal (Sep 2019)", says, 0, two, &(const struct pair){ kind, verb }, \
	  want NOBODY }
#define MEET(name, source, says, opt, val, kind, verb, lease, want)                                                  \
	{ "lease." name, source, says, 0, meets, &(const struct meeting){ opt, val, kind, verb, lease }, want NOBODY }
#define PLAIN(name, source, says, fn, want) { "lease." name, source, says, 0, fn, NULL, want NOBODY }
#define UNDER(name, says, u, want)                                                                                   \
	{ "lease." name, "behaviour 22; layout lease proposal, v1 (Jun 2019)", says, 0, admitted,                    \
	  &(const enum under){ u }, want NOBODY }
#define FILE_LEASE(name, says, what, want)                                                                           \
	{ "lease." name, "fcntl_setlease()", says, 0, file_lease, &(const enum file_lease){ what }, want }

static const struct cf_case cases[] = {
	TWO("shared", "Read leases of several processes go together.", READ, TAKE_READ, "returns"),
	TWO("exclusive", "A write lease and another one do not.", READ, TAKE_WRITE, "EAGAIN"),
	TWO("exclusive-write", "Nor does a read lease with somebody's write lease.", WRITE, TAKE_READ, "EAGAIN"),
	TWO("disjoint", "Write leases of disjoint ranges go together.", WRITE, TAKE_WRITE_HIGH, "returns"),
	PLAIN("downgrade", "layout lease proposal (Sep 2019)",
	      "A write lease that was downgraded is a read lease to others.", downgraded, "returns"),
	PLAIN("test", "pinfs", "Who asks whether a lease is to be had is told who has one.", tested, "EAGAIN"),

	PLAIN("waits", "behaviour 22; break_layout()",
	      "Truncate waits for a lease, with the mapping as it was, and goes on when it is given back.",
	      waits, "waits, breaking"),
	PLAIN("told-event", "behaviour 22; vfio cover letter v5 (2018)",
	      "The holder is told by a descriptor before truncate returns.", event, "waits, told"),
	PLAIN("told-signal", "behaviour 22; fcntl_setlease()", "... or by a signal that carries a value.",
	      by_signal, "waits, told"),
	PLAIN("interrupted", "break_lease()", "Who waits for a lease can be interrupted; the lease stays asked back.",
	      interrupted, "EINTR"),
	MEET("elsewhere", "pinfs", "A hole outside its range does not break it.", "break", "range", READ,
	     PUNCH_ELSEWHERE, STAYS, "returns, held"),
	MEET("allocate", "pinfs; ext4_fallocate()", "Writing and allocating do not break it.", "break", "range", READ,
	     ALLOCATE, STAYS, "returns, held; virtiofs-dax: waits, held|waits, breaking"),
	MEET("ebusy", "behaviour 23; break_layout() with O_NONBLOCK",
	     "Who does not want to wait fails at once, and the holder is told all the same.",
	     "on_busy", "ebusy", READ, CUT, ASKED_BACK, "EBUSY, breaking"),
	MEET("defer", "pinfs", "on_busy=defer breaks it and does not wait.", "on_busy", "defer", READ, CUT, ENDS,
	     "returns, broken"),
	MEET("txtbsy", "layout lease proposal, v2 (Aug 2019)",
	     "lease_break=txtbsy: who would break it gets ETXTBSY, and the holder is not told.",
	     "lease_break", "txtbsy", READ, CUT, STAYS, "ETXTBSY, held"),
	MEET("unbreakable", "layout lease proposal (Sep 2019): F_UNBREAK",
	     "A lease that the file's owner has taken as unbreakable: ETXTBSY.",
	     "break", "range", READ | PINFS_LEASE_UNBREAK, CUT, STAYS, "ETXTBSY, held"),
	PLAIN("timeout", "pinfs", "busy_timeout bounds this wait, too; the lease stays asked back.", bounded, "EBUSY"),
	{ "lease.own-read", "layout lease proposal, v2 (Aug 2019)",
	  "The holder of a read lease that truncates gets EDEADLK: it would wait for itself.",
	  0, own, &(const unsigned int){ READ }, "EDEADLK" NOBODY },
	{ "lease.own-write", "layout lease proposal (Sep 2019)", "The holder of a write lease may truncate.",
	  0, own, &(const unsigned int){ WRITE }, "returns" NOBODY },

	PLAIN("revoke", "behaviour 22; pinfs",
	      "After lease_time, and not before, truncate goes on: the pins are void, the mapping is SIGBUS.",
	      revoked, "broken, void, SIGBUS"),
	{ "lease.revoke-device", "behaviour 22; pinfs",
	  "... and a device that works by way of such a pin faults instead of reaching the blocks.",
	  CF_PROTECTS, revoked_device, NULL, "faults; defer, unsafe: goes on" NOBODY },
	PLAIN("revoke-window", "pinfs", "A mapping that was revoked stays SIGBUS until the program maps the file anew.",
	      revoked_window, "SIGBUS, then returns"),
	PLAIN("kill", "behaviour 22; long-term lease proposal (Apr 2019)",
	      "lease_break=kill: a holder that does not listen is killed, and truncate goes on.", killed,
	      "returns, killed"),

	{ "lease.death", "layout lease proposal, v2 (Aug 2019)", "The death of the holder ends lease and pins.",
	  0, ended, &(const enum end){ BY_DEATH }, "waits, then returns" NOBODY },
	{ "lease.exec", "pinfs", "So does a successful execve(2).",
	  0, ended, &(const enum end){ BY_EXEC }, "waits, then returns" NOBODY },
	PLAIN("close", "layout lease proposal, v2 (Aug 2019)", "close(2) and munmap(2) leave it alone.", kept, "held"),
	PLAIN("ghost", "layout lease proposal, v2 (Aug 2019)",
	      "One that is given back with pins under it is shown, and truncate waits for the pins.",
	      ghost, "shown, waits"),
	PLAIN("child", "pinfs", "The child of a fork has none of its parent's leases.", of_a_child, "ECHILD"),

	UNDER("pin-without", "longterm=lease: without a lease no pin for good.", NONE, "EPERM"),
	UNDER("pin-with", "With one that covers the pages it is granted.", WHOLE, "returns"),
	UNDER("pin-partly", "One that covers a part of the pages is not enough.", PARTLY, "EPERM"),
	UNDER("pin-of-other", "Nor is somebody else's.", SOMEBODYS, "EPERM"),
	PLAIN("count", "behaviour 49; \"dax vs truncate\" v3 (Oct 2017)",
	      "A lease is listed once, with its owner and all pages that are pinned under it, by however many calls.",
	      counted, "one, 3 pages"),
	PLAIN("hand-over", "pinfs; layout lease proposal, v2 (Aug 2019)",
	      "A lease goes to another process with the pins under it, and from then on only that one is waited for.",
	      handed_over, "broken, void here, truncate waits"),

	FILE_LEASE("file-open-writer", "A read lease of fcntl(2): who opens for writing without waiting gets EAGAIN.",
		   RD_OPEN_WR, "EAGAIN"),
	FILE_LEASE("file-open-reader", "A write lease of fcntl(2): who opens at all without waiting gets EAGAIN.",
		   WR_OPEN_RD, "EAGAIN"),
	FILE_LEASE("file-unlink", "A lease of fcntl(2) is not broken by unlink(2).", RD_UNLINK, "returns"),
	FILE_LEASE("file-chmod", "A lease of fcntl(2) is not broken by chmod(2).", RD_CHMOD, "returns"),
	FILE_LEASE("file-writer", "No read lease of fcntl(2) while somebody has the file open for writing.",
		   TAKE_WITH_WRITER, "EAGAIN"),
	FILE_LEASE("file-take", "A read lease of fcntl(2) is to be had when nobody writes.", TAKE_RD, "returns"),
	{ "lease.layout", "behaviour 23; xfs_break_layouts()",
	  "Layout leases of Linux are taken by its NFS server alone, and programs cannot see them: xfs recalls them in "
	  "truncate, fallocate and write, and EWOULDBLOCK is what a caller with IOCB_NOWAIT gets.",
	  CF_UNASKED, NULL, NULL, "" },
};
CF_GROUP(cf_lease, "lease", "Layout leases", cases);
