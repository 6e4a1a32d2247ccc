/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_own.c - what only pinfs has: blocks that are kept until pins end, pins with owners, pins and clients that are
 * made void by an operator, waits that cannot end and are found, clients that do not answer, windows that are too
 * small.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/pin.h>
#include "conform/cases.h"
#include "conform/own.h"
#include "conform/take.h"

#define LEN (4 * CF_PAGE)
#define OURS "; bare, plain, kernel: na: it is pinfs's; devdax: na: a device has no truncate"
#define RW (PROT_READ | PROT_WRITE)

static char said[1 << 17];		/* what a program has said last */

/* File "f" with policies of its own, mapped. */
static char *window(struct cf *c, int *fd, const char *on_busy, const char *deadlock)
{
	*fd = cf_file(c, "f", LEN);
	take_policy(c, cf_path(c, "f"), "on_busy", on_busy);
	take_policy(c, cf_path(c, "f"), "deadlock", deadlock);
	return cf_map(c, *fd, 0, LEN, RW);
}

static struct pinfs_pin *pinned(struct cf *c, char *p, size_t n)
{
	struct pinfs_pin *pin;

	CF_MUST(c, LIB(c, pinfs_pin)(p, n * CF_PAGE, PINFS_PIN_WRITE, &pin) == 0);
	return pin;
}

/* The same on a mount of the case's own, with options @opts: file "f" of @len bytes CF_BYTE there. */
static char *own_window(struct cf *c, struct cf_own *o, const char *opts, size_t len, int *fd)
{
	cf_own_make(c, o, CF_OWN_SIZE);
	cf_own_mount(c, o, opts);
	*fd = cf_own_file(c, o, "f", len);
	return cf_map(c, *fd, 0, len, RW);
}

static void unpin(struct cf *c, struct pinfs_pin *pin)
{
	CF_MUST(c, LIB(c, pinfs_unpin)(pin) == 0);
}

/* What `pinfsctl WHAT --json` says of the place that @mnt is on. */
static const char *report(struct cf *c, const char *what, const char *mnt)
{
	const char *const argv[] = { "pinfsctl", what, "--json", mnt, NULL };

	CF_MUST(c, cf_run(c, said, sizeof said, argv) == 0);
	return said;
}

/* The object of the list @list in a report that has "pid":@pid in it; NULL. Objects of these lists that are about
 * pins have no others inside. */
static const char *entry(const char *json, const char *list, pid_t pid)
{
	static char obj[4096];
	char key[32], mine[32];
	const char *at, *end;

	(void)snprintf(key, sizeof key, "\"%s\":[", list);
	(void)snprintf(mine, sizeof mine, "\"pid\":%d,", (int)pid);
	at = strstr(json, key);
	if (at == NULL)
		return NULL;
	for (at += strlen(key); *at == '{' || *at == ','; at = end) {
		at += strspn(at, ",");
		end = at + strcspn(at, "}");
		if (*end != '}' || (size_t)(end - at) >= sizeof obj)
			return NULL;
		memcpy(obj, at, (size_t)(end - at));
		obj[end - at] = '\0';
		end++;
		if (strstr(obj, mine) != NULL)
			return obj;
	}
	return NULL;
}

static long number(const char *json, const char *name)
{
	char key[64];
	const char *at;

	(void)snprintf(key, sizeof key, "\"%s\":", name);
	at = json == NULL ? NULL : strstr(json, key);
	return at == NULL ? -1 : strtol(at + strlen(key), NULL, 10);
}

/* ---- blocks that are kept ---- */

static void kept(struct cf *c)
{
	struct pinfs_pin *pin;
	const char *e;
	long blocks;
	bool why;
	char *p;
	int fd;

	p = window(c, &fd, "defer", "detect");
	pin = pinned(c, p + CF_PAGE, 2);
	CF_SYS(c, ftruncate(fd, 0));
	e = entry(report(c, "pins", cf_mount(c)), "kept", getpid());
	blocks = number(e, "blocks");
	why = e != NULL && strstr(e, "\"why\":\"pins\"") != NULL;
	unpin(c, pin);
	while (entry(report(c, "pins", cf_mount(c)), "kept", getpid()) != NULL)
		(void)usleep(500);
	cf_answer(c, "%ld%s, then free", blocks, why ? " because of pins" : "");
}

/* A device that goes on: not into the file that took all the rest. */
static void harmless(struct cf *c)
{
	struct cf_pin *dma;
	struct cf_own o;
	const char *left;
	char *p;
	int fd, big;

	p = own_window(c, &o, cf_arg(c), LEN, &fd);
	dma = cf_pin(c, p, LEN, CF_TO_FILE);
	CF_SYS(c, ftruncate(fd, 0));
	big = cf_own_file(c, &o, "big", 0);
	memset(said, CF_BYTE, CF_PAGE);
	for (off_t at = 0; pwrite(big, said, CF_PAGE, at) == (ssize_t)CF_PAGE; at += (off_t)CF_PAGE)
		;
	cf_land(dma);
	left = "intact";
	for (off_t at = 0; pread(big, said, CF_PAGE, at) == (ssize_t)CF_PAGE; at += (off_t)CF_PAGE)
		if (strcmp(cf_content_of(said, CF_PAGE), "old") != 0)
			left = "corrupt";
	cf_answer(c, "%s", left);
	CF_SYS(c, munmap(p, LEN));
	CF_SYS(c, close(fd));
	CF_SYS(c, close(big));
}

/* Free blocks as statvfs(3) counts them: neither before they are. */
static void accounted(struct cf *c)
{
	struct statvfs before, during, after;
	struct pinfs_pin *pin;
	struct cf_own o;
	char *p;
	int fd;

	p = own_window(c, &o, "on_busy=defer", LEN, &fd);
	pin = pinned(c, p, 2);
	CF_SYS(c, statvfs(o.mnt, &before));
	CF_SYS(c, ftruncate(fd, 0));
	CF_SYS(c, statvfs(o.mnt, &during));
	unpin(c, pin);
	do {
		CF_SYS(c, statvfs(o.mnt, &after));
	} while (after.f_bfree < before.f_bfree + 4 && usleep(500) == 0);
	cf_answer(c, "%ld of 4, then %ld", (long)(during.f_bfree - before.f_bfree),
		  (long)(after.f_bfree - before.f_bfree));
}

static void limited(struct cf *c)
{
	const size_t *n = cf_arg(c);
	struct pinfs_pin *pin;
	struct cf_own o;
	char *p;
	int fd;

	p = own_window(c, &o, "on_busy=defer,defer_limit=16K,busy_timeout=20ms,deadlock=wait", 2 * LEN, &fd);
	pin = pinned(c, p, *n);
	cf_answer_rc(c, cf_rc(ftruncate(fd, 0)));
	unpin(c, pin);
}

/* ---- owners ---- */

static void shown(struct cf *c)
{
	struct pinfs_pin *pin;
	const char *e;
	char *p, tid[32];
	int fd;

	p = window(c, &fd, "wait", "detect");
	pin = pinned(c, p + CF_PAGE, 2);
	CF_MUST(c, LIB(c, pinfs_pin_label)(pin, "the-label") == 0);
	e = entry(report(c, "pins", cf_mount(c)), "pins", getpid());
	cf_note(c, "%s", e == NULL ? said : e);
	(void)snprintf(tid, sizeof tid, "\"tid\":%d,", (int)gettid());
	if (e == NULL)
		cf_answer(c, "not shown");
	else if (strstr(e, tid) == NULL || number(e, "foff") != (long)CF_PAGE || number(e, "len") != 2 * (long)CF_PAGE)
		cf_answer(c, "another thread or range");
	else if (strstr(e, "\"api\":\"pin\"") == NULL || strstr(e, "\"label\":\"the-label\"") == NULL)
		cf_answer(c, "another api or label");
	else if (strstr(e, "\"comm\":\"\"") != NULL || strstr(e, "/f\"") == NULL)
		cf_answer(c, "no name");
	else
		cf_answer(c, "shown");
	unpin(c, pin);
	if (entry(report(c, "pins", cf_mount(c)), "pins", getpid()) != NULL)
		cf_answer(c, "still shown");
}

struct reading { int fd; char *buf; };

static long read_slowly(void *arg)
{
	const struct reading *r = arg;

	return cf_rc(pread(r->fd, r->buf, CF_PAGE, 0));
}

/* A pin that the library makes for a call of the kernel says which. */
static void shown_api(struct cf *c)
{
	struct reading *r = cf_shared(c, sizeof *r);
	struct cf_call *call;
	const char *e;
	char *p;
	int fd;

	p = window(c, &fd, "wait", "detect");
	r->fd = (int)CF_SYS(c, open(cf_slow(c), O_RDONLY | O_DIRECT | O_CLOEXEC));
	r->buf = p;
	call = cf_call(c, CF_THREAD, read_slowly, r);
	cf_slow_await(c, 1);
	e = entry(report(c, "pins", cf_mount(c)), "pins", getpid());
	cf_note(c, "%s", e == NULL ? "" : e);
	cf_answer(c, "%s", e == NULL ? "not shown" : strstr(e, "\"api\":\"direct\"") != NULL ? "shown" : "another api");
	cf_slow_release(c);
	CF_MUST(c, cf_result(call) == (long)CF_PAGE);
}

static void who_waits(struct cf *c)
{
	struct cf_call *cut;
	struct pinfs_pin *pin;
	char *p, want[64];
	int fd;

	p = window(c, &fd, "wait", "detect");
	pin = pinned(c, p, 1);
	cut = take_cut(c, fd, 0);
	CF_MUST(c, strcmp(cf_call_word(cut), "waits") == 0);
	(void)snprintf(want, sizeof want, "\"waits_for\":[{\"session\":");
	(void)report(c, "pins", cf_mount(c));
	cf_note(c, "%s", said);
	cf_answer(c, "%s", strstr(said, "\"what\":\"truncate\"") == NULL ? "not shown" :
		  strstr(said, want) == NULL ? "without whom it waits for" : "shown");
	unpin(c, pin);
	(void)cf_result(cut);
}

static void would(struct cf *c)
{
	struct pinfs_pin *pin;
	char *p, first[64], pid[32];
	int fd;

	p = window(c, &fd, "wait", "detect");
	CF_MUST(c, take_ctl(c, said, sizeof said, "would-block", NULL, cf_path(c, "f")) == 0);
	(void)snprintf(first, sizeof first, "%.*s", (int)strcspn(said, ",(\n"), said);
	pin = pinned(c, p, 1);
	CF_MUST(c, take_ctl(c, said, sizeof said, "would-block", NULL, cf_path(c, "f")) == 0);
	cf_note(c, "%s", said);
	(void)snprintf(pid, sizeof pid, "pid %d ", (int)getpid());
	cf_answer(c, "%sthen %.5s%s", first, said, strstr(said, pid) != NULL ? " for me" : "");
	unpin(c, pin);
}

/* ---- an operator steps in ---- */

static void kicked(struct cf *c)
{
	struct pinfs_pin_info info;
	struct pinfs_pin *pin;
	struct cf_call *cut;
	char *p, name[64];
	const char *e;
	int fd, err;

	p = window(c, &fd, "wait", "detect");
	pin = pinned(c, p, 1);
	cut = take_cut(c, fd, 0);
	CF_MUST(c, strcmp(cf_call_word(cut), "waits") == 0);
	e = entry(report(c, "pins", cf_mount(c)), "pins", getpid());
	CF_MUST(c, e != NULL);
	(void)snprintf(name, sizeof name, "%ld.%ld", number(e, "session"), number(e, "record"));
	err = take_ctl(c, said, sizeof said, "kick", name, NULL);
	if (err != 0 && geteuid() != 0) {
		unpin(c, pin);
		(void)cf_result(cut);
		cf_na(c, "only root and who mounted may: %s", said);
	}
	CF_MUST(c, err == 0 && cf_result(cut) == 0);
	err = LIB(c, pinfs_pin_query)(pin, &info);
	cf_answer(c, "returns, %s", err == -ESTALE ? "void" : "as it was");
	unpin(c, pin);
}

struct client {
	struct cf *c;
	char *at;
	_Atomic uint32_t step;
	long rc;
};

static long be_evicted(void *arg)
{
	struct client *k = arg;
	struct pinfs_pin_info info;
	struct pinfs_pin *pin = pinned(k->c, k->at, 1);
	int sig;

	cf_mark(&k->step, 1);
	while (atomic_load(&k->step) != 2)
		(void)usleep(500);
	/* It hears of it a moment later, and takes its windows away one after the other. */
	while ((k->rc = LIB(k->c, pinfs_pin_query)(pin, &info)) == 0)
		(void)usleep(500);
	while ((sig = cf_touch(k->at, false)) == 0)
		(void)usleep(500);
	return sig;
}

static void evicted(struct cf *c)
{
	struct client *k = cf_shared(c, sizeof *k);
	struct cf_call *call, *cut;
	char pid[32];
	int fd;

	k->c = c;
	k->at = window(c, &fd, "wait", "detect");
	call = cf_call(c, CF_PROCESS, be_evicted, k);
	cf_await(c, &k->step, 1);
	cut = take_cut(c, fd, 0);
	CF_MUST(c, strcmp(cf_call_word(cut), "waits") == 0);
	(void)snprintf(pid, sizeof pid, "%d", (int)cf_call_pid(call));
	if (take_ctl(c, said, sizeof said, "evict", pid, NULL) != 0) {
		CF_SYS(c, kill(cf_call_pid(call), SIGKILL));
		(void)cf_result(cut);
		if (geteuid() != 0)
			cf_na(c, "only root and who mounted may: %s", said);
		cf_broken(c, __FILE__, __LINE__, "pinfsctl evict", 0);
	}
	CF_MUST(c, cf_result(cut) == 0);
	cf_mark(&k->step, 2);
	cf_answer(c, "returns, %s", cf_result(call) == SIGBUS && k->rc == -ENOTCONN ? "ENOTCONN, SIGBUS" : "as it was");
}

/* ---- waits that cannot end ---- */

struct player {
	struct cf *c;
	int fd, other;
	char *at;
	_Atomic uint32_t step;
	const char *path;
};

/* Truncates what it has pinned. */
static long bites_itself(void *arg)
{
	const struct player *p = arg;

	(void)pinned(p->c, p->at, 1);
	return cf_rc(ftruncate(p->fd, 0));
}

static void self_deadlock(struct cf *c)
{
	struct player *p = cf_shared(c, sizeof *p);
	const char *deadlock = cf_arg(c);
	struct cf_call *call;

	p->c = c;
	p->at = window(c, &p->fd, "wait", deadlock);
	call = cf_call(c, CF_PROCESS, bites_itself, p);
	/* It is found while it waits, too. */
	if (strcmp(deadlock, "wait") == 0 && cf_settle(call) == CF_WAITS) {
		cf_answer(c, "waits");
		CF_SYS(c, kill(cf_call_pid(call), SIGKILL));
	} else {
		cf_answer_rc(c, cf_result(call));
	}
}

/* Pins its own file, then truncates the other's. */
static long takes_the_others(void *arg)
{
	struct player *p = arg;

	(void)pinned(p->c, p->at, 1);
	cf_mark(&p->step, 1);
	while (atomic_load(&p->step) != 2)
		(void)usleep(200);
	return cf_rc(ftruncate(p->other, 0));
}

static void two_deadlock(struct cf *c)
{
	struct player *p = cf_shared(c, 2 * sizeof *p);
	struct cf_call *call[2];
	long rc[2];

	for (int i = 0; i < 2; i++) {
		const char *name = i == 0 ? "f" : "g";

		p[i].c = c;
		p[i].fd = cf_file(c, name, LEN);
		take_policy(c, cf_path(c, name), "on_busy", "wait");
		take_policy(c, cf_path(c, name), "deadlock", "detect");
		p[i].at = cf_map(c, p[i].fd, 0, LEN, RW);
	}
	for (int i = 0; i < 2; i++) {
		p[i].other = p[1 - i].fd;
		call[i] = cf_call(c, CF_PROCESS, takes_the_others, &p[i]);
		cf_await(c, &p[i].step, 1);
	}
	cf_mark(&p[0].step, 2);
	CF_MUST(c, cf_settle(call[0]) == CF_WAITS);
	cf_mark(&p[1].step, 2);
	rc[1] = cf_result(call[1]);
	rc[0] = cf_result(call[0]);
	cf_answer(c, "%s, %s", rc[0] == 0 ? "returns" : rc[0] == -EDEADLK ? "EDEADLK" : "fails",
		  rc[1] == 0 ? "returns" : rc[1] == -EDEADLK ? "EDEADLK" : "fails");
}

/* Pins, then writes to the file, behind the truncate that waits for the pin. */
static long writes_behind(void *arg)
{
	struct player *p = arg;

	(void)pinned(p->c, p->at, 1);
	cf_mark(&p->step, 1);
	while (atomic_load(&p->step) != 2)
		(void)usleep(200);
	return cf_rc(pwrite(p->fd, "x", 1, 0));
}

static void behind_deadlock(struct cf *c)
{
	struct player *p = cf_shared(c, sizeof *p);
	struct cf_call *call, *cut;
	long rc;

	p->c = c;
	p->at = window(c, &p->fd, "wait", "detect");
	call = cf_call(c, CF_PROCESS, writes_behind, p);
	cf_await(c, &p->step, 1);
	cut = take_cut(c, p->fd, 0);
	CF_MUST(c, strcmp(cf_call_word(cut), "waits") == 0);
	cf_mark(&p->step, 2);
	rc = cf_result(cut);
	cf_answer_rc(c, rc);
	if (cf_result(call) != 1)
		cf_answer(c, "the write fails");
}

/* The holder is killed: there is nobody to wait for. */
static long holds(void *arg)
{
	struct player *p = arg;

	(void)pinned(p->c, p->at, 1);
	cf_mark(&p->step, 1);
	while (atomic_load(&p->step) == 1)
		(void)pause();
	return 0;
}

static void dies(struct cf *c)
{
	struct player *p = cf_shared(c, sizeof *p);
	struct cf_call *call, *cut;
	const char *word;

	p->c = c;
	p->at = window(c, &p->fd, "wait", "detect");
	call = cf_call(c, CF_PROCESS, holds, p);
	cf_await(c, &p->step, 1);
	cut = take_cut(c, p->fd, 0);
	word = cf_call_word(cut);
	CF_SYS(c, kill(cf_call_pid(call), SIGKILL));
	cf_answer(c, "%s, then %s", word, cf_result(cut) == 0 ? "returns" : "fails");
}

/* ---- clients that do not answer ---- */

static long stands_still(void *arg)
{
	struct player *p = arg;

	/* Its own mapping: nobody else has one, who could be too slow as well. */
	p->at = cf_map(p->c, p->fd, 0, LEN, RW);
	(void)cf_touch(p->at, true);
	cf_mark(&p->step, 1);
	(void)raise(SIGSTOP);
	/* What it was asked meanwhile it does a moment after it runs again. */
	while (cf_touch(p->at, false) == 0)
		(void)usleep(200);
	return SIGBUS;
}

static void quarantined(struct cf *c)
{
	struct player *p = cf_shared(c, sizeof *p);
	struct cf_call *call;
	struct cf_own o;
	siginfo_t si;
	bool kept_back;
	long count;

	cf_own_make(c, &o, CF_OWN_SIZE);
	cf_own_mount(c, &o, "revoke_timeout=30ms");
	p->c = c;
	p->fd = cf_own_file(c, &o, "f", LEN);
	call = cf_call(c, CF_PROCESS, stands_still, p);
	cf_await(c, &p->step, 1);
	CF_SYS(c, waitid(P_PID, (id_t)cf_call_pid(call), &si, WSTOPPED | WNOWAIT));
	cf_answer_rc(c, cf_rc(ftruncate(p->fd, 0)));
	count = number(report(c, "status", o.mnt), "quarantines");
	kept_back = entry(report(c, "pins", o.mnt), "kept", cf_call_pid(call)) != NULL;
	CF_SYS(c, kill(cf_call_pid(call), SIGCONT));
	cf_answer(c, "returns, %ld quarantined, %s, then %s", count, kept_back ? "kept" : "not kept",
		  cf_result(call) == SIGBUS ? "SIGBUS" : "as it was");
}

/* ---- numbers ---- */

static void counted(struct cf *c)
{
	struct pinfs_pin *pin;
	struct cf_own o;
	char *p;
	int fd;

	/* It waits for itself: which of the two is found first, on a busy machine, is chance. */
	p = own_window(c, &o, "busy_timeout=5ms,deadlock=wait", LEN, &fd);
	pin = pinned(c, p, 1);
	CF_MUST(c, ftruncate(fd, 0) != 0 && errno == EBUSY);
	unpin(c, pin);
	CF_SYS(c, ftruncate(fd, 0));
	(void)report(c, "status", o.mnt);
	cf_note(c, "%s", said);
	cf_answer(c, "%ld wait, %ld timeout", number(said, "waits"), number(said, "timeouts"));
}

static void collides(struct cf *c)
{
	struct pinfs_pin *pin;
	long before;
	char *p;
	int fd;

	p = window(c, &fd, "unsafe", "detect");
	pin = pinned(c, p, 1);
	before = take_status(c, "collisions");
	CF_SYS(c, ftruncate(fd, 0));
	cf_answer(c, "%s", take_status(c, "collisions") > before ? "counted" : "not counted");
	unpin(c, pin);
}

static void traced(struct cf *c)
{
	const char *out = cf_path(c, "trace.json"), *path = cf_path(c, "f");
	struct stat st;
	int rc, fd;

	CF_SYS(c, close(cf_file(c, "f", LEN)));
	rc = cf_run(c, said, sizeof said, (const char *[]){ "pinfsctl", "trace", cf_mount(c), "-o", out, "--",
							    "truncate", "-s", "0", path, NULL });
	if (rc != 0 && geteuid() != 0)
		cf_na(c, "only root and who mounted may: %s", said);
	CF_MUST(c, rc == 0);
	CF_MUST(c, cf_run(c, said, sizeof said, (const char *[]){ "pinfsctl", "trace", "--check", out, NULL }) == 0);
	fd = (int)CF_SYS(c, open(out, O_RDONLY | O_CLOEXEC));
	CF_SYS(c, fstat(fd, &st));
	CF_MUST(c, (size_t)st.st_size < sizeof said && read(fd, said, sizeof said) == st.st_size);
	said[st.st_size] = '\0';
	cf_answer(c, "%s", strstr(said, "truncate") != NULL ? "traced" : "not traced");
}

static void long_limit(struct cf *c)
{
	struct pinfs_pin *pin, *more;
	struct cf_own o;
	char *p;
	int fd, rc;

	p = own_window(c, &o, "longterm=allow,longterm_limit=16K", 2 * LEN, &fd);
	rc = LIB(c, pinfs_pin)(p, LEN, PINFS_PIN_WRITE | PINFS_PIN_LONGTERM, &pin);
	CF_MUST(c, rc == 0 || rc == -ENOMEM);
	if (rc == -ENOMEM)
		cf_na(c, "RLIMIT_MEMLOCK is less than that");
	cf_answer_rc(c, LIB(c, pinfs_pin)(p + LEN, 1, PINFS_PIN_LONGTERM, &more));
	unpin(c, pin);
	rc = LIB(c, pinfs_pin)(p + LEN, 1, PINFS_PIN_LONGTERM, &more);
	if (rc != 0)
		cf_answer(c, "what was given back is not to be had");
}

/* ---- small windows: two slots ---- */

static char *small_window(struct cf *c, struct cf_own *o, int *fd)
{
	cf_own_make(c, o, 2 * CF_OWN_SIZE);
	cf_own_mount(c, o, "window=4M");
	*fd = cf_own_file(c, o, "f", 0);
	CF_SYS(c, ftruncate(*fd, 5 * (off_t)CF_CHUNK));
	return cf_map(c, *fd, 0, 5 * CF_CHUNK, RW);
}

/* The slot of a pin is not taken for others, and they come and go in the one that is left. */
static void squeezed(struct cf *c)
{
	struct pinfs_range_info ri;
	struct pinfs_pin *pin;
	struct cf_own o;
	char *p;
	int fd;

	p = small_window(c, &o, &fd);
	pin = pinned(c, p, 1);
	for (size_t i = 1; i < 5; i++)
		p[i * CF_CHUNK] = (char)('a' + i);
	for (size_t i = 1; i < 5; i++)
		if (p[i * CF_CHUNK] != (char)('a' + i)) {
			cf_answer(c, "other bytes");
			return;
		}
	CF_MUST(c, LIB(c, pinfs_range_query)(p, CF_PAGE, &ri) == 0);
	cf_answer(c, "%s", ri.ri_pinned == 1 && LIB(c, pinfs_pin_query)(pin, &(struct pinfs_pin_info){ 0 }) == 0 ?
		  "pinned" : "lost");
	unpin(c, pin);
}

static void full(struct cf *c)
{
	struct pinfs_pin *pin[2], *third;
	struct cf_own o;
	char *p;
	int fd;

	p = small_window(c, &o, &fd);
	pin[0] = pinned(c, p, 1);
	pin[1] = pinned(c, p + CF_CHUNK, 1);
	cf_answer_rc(c, LIB(c, pinfs_pin)(p + 2 * CF_CHUNK, 1, PINFS_PIN_WRITE, &third));
	unpin(c, pin[0]);
	third = pinned(c, p + 2 * CF_CHUNK, 1);
	unpin(c, third);
	unpin(c, pin[1]);
}

/* ---- files that are like device DAX nodes ---- */

static void device_node(struct cf *c)
{
	struct pinfs_pin *pin;
	struct cf_own o;
	char *p;
	int fd, pinning;

	cf_own_make(c, &o, CF_OWN_SIZE);
	cf_own_mount(c, &o, "profile=devdax");
	fd = (int)CF_SYS(c, open(cf_own_path(&o, "node"), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	CF_SYS(c, ftruncate(fd, (off_t)CF_CHUNK));
	p = cf_map(c, fd, 0, CF_CHUNK, RW);
	pinning = LIB(c, pinfs_pin)(p, CF_PAGE, PINFS_PIN_WRITE | PINFS_PIN_LONGTERM, &pin);
	if (pinning != 0)
		cf_answer_rc(c, pinning);
	else if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, CF_PAGE) == 0)
		cf_answer(c, "pinned, punched");
	else
		cf_answer(c, "pinned, %s", errno == ENODEV ? "ENODEV" : strerror(errno));
}

/* ---- the warning ---- */

/* What it says on the terminal, before it goes to the background. */
static void warns(struct cf *c)
{
	struct cf_own o;

	cf_own_make(c, &o, CF_OWN_SIZE);
	if (cf_run(c, said, sizeof said, (const char *[]){ "pinfs", "-o", cf_arg(c), o.img, o.mnt, NULL }) != 0)
		cf_na(c, "it cannot be mounted: %s", said);
	cf_note(c, "%s", said);
	cf_answer(c, "%s", strstr(said, "EXPERIMENTAL") != NULL ? "warns" : "quiet");
	if (umount2(o.mnt, MNT_DETACH) != 0)
		(void)cf_run(c, said, sizeof said, (const char *[]){ "fusermount3", "-u", "-z", o.mnt, NULL });
}

#define ITS "; bare, plain, kernel: na: it is pinfs's"
#define OWN(name, source, says, flags, fn, arg, want) { "own." name, source, says, flags, fn, arg, want OURS }
/* On a mount of its own: whatever this one's policy is. */
#define ALONE(name, source, says, flags, fn, arg, want)                                                              \
	{ "own." name, source, says, CF_MOUNTS | (flags), fn, arg, want ITS }

static const struct cf_case cases[] = {
	OWN("defer-kept", "pinfs; \"dax vs truncate\" v3 (Oct 2017)",
	    "Blocks of a deferred truncate are kept as long as the pin, and listed with its owner; then they are free.",
	    0, kept, NULL, "2 because of pins, then free"),
	ALONE("defer-statfs", "pinfs", "While they are kept, statfs(2) counts them neither as free nor as a file's.",
	      0, accounted, NULL, "2 of 4, then 4"),
	ALONE("defer-limit", "pinfs", "defer_limit: what exceeds it waits as with on_busy=wait.",
	      0, limited, &(const size_t){ 5 }, "EBUSY"),
	ALONE("defer-within", "pinfs", "... and what does not, does not.",
	      0, limited, &(const size_t){ 4 }, "returns"),
	ALONE("defer-harmless", "behaviour 3; pinfs",
	      "A device that goes on after a deferred truncate hits nobody, though one file takes all space.",
	      0, harmless, "on_busy=defer", "intact"),
	ALONE("unsafe-harm", "behaviour 50, 51; pinfs", "... which under on_busy=unsafe it does.",
	      CF_ROOT, harmless, "on_busy=unsafe", "corrupt"),

	OWN("pins-shown", "pinfs; \"dax vs truncate\" v3 (Oct 2017)",
	    "A pin has a visible owner: process, thread, file, range, API and label.", 0, shown, NULL, "shown"),
	OWN("pins-api", "pinfs", "The pin of a direct read(2) says what it is for.", 0, shown_api, NULL, "shown"),
	OWN("waiter-shown", "pinfs", "Who waits for pins is shown, with whom it waits for.",
	    0, who_waits, NULL, "shown"),
	OWN("would-block", "pinfs", "Whether a truncate would wait, and for whom, can be asked beforehand.",
	    0, would, NULL, "succeeds at once then waits for me"),
	OWN("kick", "pinfs", "An operator can make one pin void: the truncate goes on, the holder can see it.",
	    0, kicked, NULL, "returns, void"),
	OWN("evict", "pinfs", "An operator can cut a process off: the truncate goes on, its pins and mappings end.",
	    0, evicted, NULL, "returns, ENOTCONN, SIGBUS"),
	OWN("death", "pinfs", "The death of a process ends its pins: truncate goes on.",
	    0, dies, NULL, "waits, then returns"),

	OWN("self-deadlock", "behaviour 8; pinfs", "Who truncates what only it could unpin gets EDEADLK.",
	    0, self_deadlock, "detect", "EDEADLK"),
	OWN("self-wait", "behaviour 8; dax_wait_page()", "... or waits, with deadlock=wait, as on Linux.",
	    0, self_deadlock, "wait", "waits"),
	OWN("two-deadlock", "pinfs",
	    "Of two processes that truncate what the other has pinned, the second gets EDEADLK.",
	    0, two_deadlock, NULL, "returns, EDEADLK"),
	OWN("behind-deadlock", "pinfs",
	    "A truncate whose holder is held up behind it, in a write(2) of the same file, gets EDEADLK.",
	    0, behind_deadlock, NULL, "EDEADLK"),
	ALONE("quarantine", "pinfs",
	      "A stopped process cannot hold up a truncate: after revoke_timeout its blocks are kept back instead.",
	      0, quarantined, NULL, "returns, 1 quarantined, kept, then SIGBUS"),

	ALONE("counters", "behaviour 4; pinfs",
	      "Waits and timeouts are counted; what meets no pin counts as none.",
	      0, counted, NULL, "1 wait, 1 timeout"),
	OWN("collision", "behaviour 52; pinfs", "on_busy=unsafe counts each pin that it ran over.",
	    CF_ROOT, collides, NULL, "counted"),
	OWN("trace", "pinfs", "A truncate is in a trace of the mount, and the trace makes sense.",
	    0, traced, NULL, "traced"),
	ALONE("long-limit", "account_locked_vm(); pinfs",
	      "longterm_limit bounds what a user pins for good, root as well.",
	      0, long_limit, NULL, "ENOMEM"),

	ALONE("tiny", "behaviour 15; fuse_dax_reclaim_first_mapping(); pinfs",
	      "In a window of two slots, one of them pinned, a file of five chunks can be used, and the pin stays.",
	      0, squeezed, NULL, "pinned"),
	ALONE("tiny-full", "pinfs",
	      "Who has pinned its whole window and asks for more gets EDEADLK, and is granted it when a pin has ended.",
	      0, full, NULL, "EDEADLK"),

	ALONE("device-node", "behaviour 11, 25; vma_is_fsdax(); history of include/linux/dax.h",
	      "A device DAX node has no blocks to take away: it can be pinned for good, and not be punched.",
	      0, device_node, NULL, "pinned, ENODEV"),

	ALONE("warning", "behaviour 18; vfio cover letter v5 (2018)",
	      "A mount whose policy gives blocks away under DMA says EXPERIMENTAL.",
	      CF_ROOT, warns, "on_busy=unsafe", "warns"),
	ALONE("no-warning", "behaviour 18; commit 5fac7408d82", "Any other one does not.",
	      0, warns, "on_busy=wait", "quiet"),
	{ "own.stack", "pinfs",
	  "Who made a pin, function by function (pinfsctl pins --stack), is kept for programs that run with "
	  "PINFS_PIN_STACK from their beginning: tests/tools/test_trace.sh.", CF_UNASKED, NULL, NULL, "" },
};
CF_GROUP(cf_own, "own", "What only pinfs has", cases);
