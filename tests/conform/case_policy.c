/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_policy.c - each policy, as who breaks a layout sees it, and as who has pinned it sees it. The case's file has
 * the policy in question as its own, so that the answer is the same on every mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/ioctl.h>
#include <pinfs/pin.h>
#include "conform/cases.h"
#include "conform/take.h"

#define LEN (4 * CF_PAGE)
#define OURS                                                                                                         \
	"; bare: na: no pins here; plain, kernel: na: there is one policy only; devdax: na: a device has no truncate"

/* File "f", mapped, with policies "name=value name=value"; the first page pinned. */
struct scene {
	int fd;
	char *map;
	struct pinfs_pin *pin;
};

static void policies(struct cf *c, const char *path, const char *text)
{
	char copy[160], *word, *rest, *value;

	(void)snprintf(copy, sizeof copy, "%s", text);
	for (word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
		value = word + strcspn(word, "=");
		*value = '\0';
		take_policy(c, path, word, value + 1);
	}
}

static void set_up(struct cf *c, struct scene *s, const char *text)
{
	s->fd = cf_file(c, "f", LEN);
	policies(c, cf_path(c, "f"), "busy_timeout=0");
	policies(c, cf_path(c, "f"), text);
	s->map = cf_map(c, s->fd, 0, LEN, PROT_READ | PROT_WRITE);
	CF_MUST(c, LIB(c, pinfs_pin)(s->map, CF_PAGE, PINFS_PIN_WRITE, &s->pin) == 0);
}

static void let_go(struct cf *c, struct scene *s)
{
	CF_MUST(c, LIB(c, pinfs_unpin)(s->pin) == 0);
}

/* ---- what the breaker sees ---- */

struct breaker {
	const char *policy;
	long (*what)(int fd);
	off_t size;			/* afterwards */
};

static long shrink(int fd) { return cf_rc(ftruncate(fd, 0)); }
static long grow(int fd) { return cf_rc(ftruncate(fd, 2 * LEN)); }
static long punch(int fd, off_t at)
{
	return cf_rc(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)CF_PAGE));
}
static long punch_it(int fd) { return punch(fd, 0); }
static long punch_other(int fd) { return punch(fd, 2 * (off_t)CF_PAGE); }
static long zero_it(int fd)
{
	return cf_rc(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, (off_t)CF_PAGE));
}

struct doing {
	long (*what)(int fd);
	int fd;
};

static long do_it(void *arg)
{
	const struct doing *d = arg;

	return d->what(d->fd);
}

static void breaks(struct cf *c)
{
	const struct breaker *b = cf_arg(c);
	struct doing *d = cf_shared(c, sizeof *d);
	struct cf_call *call;
	struct scene s;

	set_up(c, &s, b->policy);
	*d = (struct doing){ b->what, s.fd };
	call = cf_call(c, CF_THREAD, do_it, d);
	(void)cf_settle(call);
	cf_answer(c, "%s", cf_call_word(call));
	let_go(c, &s);
	(void)cf_result(call);
	if (cf_size(c, cf_path(c, "f")) != b->size)
		cf_answer(c, "another size");
}

/* A wait that has a limit: it waits, then fails, not before its time, and nothing has changed. */
static void timed_out(struct cf *c)
{
	struct cf_call *call;
	struct timespec from, to;
	struct scene s;
	long rc;

	set_up(c, &s, "on_busy=wait busy_timeout=30ms");
	CF_SYS(c, clock_gettime(CLOCK_MONOTONIC, &from));
	call = take_cut(c, s.fd, 0);
	rc = cf_result(call);
	CF_SYS(c, clock_gettime(CLOCK_MONOTONIC, &to));
	cf_answer_rc(c, rc);
	if ((to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000 < 29)
		cf_answer(c, "too early");
	if (cf_size(c, cf_path(c, "f")) != (off_t)LEN)
		cf_answer(c, "another size");
	let_go(c, &s);
}

static void on_signal(int sig) { (void)sig; }

static void interrupted(struct cf *c)
{
	const struct sigaction sa = { .sa_handler = on_signal };
	struct cf_call *call;
	struct scene s;

	CF_SYS(c, sigaction(SIGUSR1, &sa, NULL));
	set_up(c, &s, cf_arg(c));
	call = take_cut(c, s.fd, 0);
	if (strcmp(cf_call_word(call), "waits") == 0)
		CF_SYS(c, tgkill(cf_call_pid(call), cf_call_tid(call), SIGUSR1));
	cf_answer_rc(c, cf_result(call));
	if (cf_size(c, cf_path(c, "f")) != (off_t)LEN)
		cf_answer(c, "another size");
	let_go(c, &s);
}

/* ---- what the holder sees ---- */

/* Is its pin still one, and does its device work on the file's bytes, its own, or somebody else's? */
static void holder(struct cf *c)
{
	struct pinfs_pin_info info;
	struct cf_call *call;
	struct scene s;
	int rc;

	set_up(c, &s, cf_arg(c));
	call = take_cut(c, s.fd, 0);
	rc = LIB(c, pinfs_pin_query)(s.pin, &info);
	cf_answer(c, "%s, %s", cf_call_word(call), rc == 0 ? "pinned" : rc == -ESTALE ? "void" : "?");
	if (cf_touch(s.map, false) == SIGBUS)
		cf_answer(c, "%s, %s, SIGBUS", cf_call_word(call), rc == 0 ? "pinned" : "void");
	let_go(c, &s);
	(void)cf_result(call);
}

/* ---- new pins while one waits ---- */

struct newcomer {
	int (*pin)(const void *, size_t, unsigned int, struct pinfs_pin **);
	char *at;
};

static long pin_now(void *arg)
{
	const struct newcomer *n = arg;
	struct pinfs_pin *pin;

	return n->pin(n->at, CF_PAGE, PINFS_PIN_WRITE | PINFS_PIN_NOWAIT, &pin);
}

static void another(struct cf *c)
{
	struct newcomer *n = cf_shared(c, sizeof *n);
	struct cf_call *cut, *call;
	struct scene s;

	set_up(c, &s, cf_arg(c));
	*n = (struct newcomer){ LIB(c, pinfs_pin), s.map };
	cut = take_cut(c, s.fd, 0);
	CF_MUST(c, strcmp(cf_call_word(cut), "waits") == 0);
	call = cf_call(c, CF_PROCESS, pin_now, n);
	cf_answer_rc(c, cf_result(call));
	let_go(c, &s);
	(void)cf_result(cut);
}

/* ---- where it comes from ---- */

static void at_descriptor(struct cf *c)
{
	struct pinfs_policy po = { .po_text = "on_busy=ebusy" };
	struct cf_call *by_it, *by_other;
	struct scene s;
	int fd;

	set_up(c, &s, "on_busy=wait deadlock=wait");
	fd = (int)CF_SYS(c, open(cf_path(c, "f"), O_RDWR | O_CLOEXEC));
	CF_SYS(c, ioctl(fd, PINFS_IOC_POLICY, &po));
	by_it = take_cut(c, fd, 0);
	by_other = take_cut(c, s.fd, 0);
	cf_answer(c, "%s by it, %s by another", cf_call_word(by_it), cf_call_word(by_other));
	let_go(c, &s);
	(void)cf_result(by_other);
}

/* A file made later has what its directory has; one that was there before has not. */
static void at_directory(struct cf *c)
{
	struct cf_call *cut;
	struct scene s;
	char was[16] = "", is[16] = "";

	CF_SYS(c, mkdir(cf_path(c, "d"), 0755));
	CF_SYS(c, close(cf_file(c, "d/before", CF_PAGE)));
	(void)getxattr(cf_path(c, "d/before"), "user.pinfs.on_busy", was, sizeof was - 1);
	policies(c, cf_path(c, "d"), "on_busy=ebusy");
	s.fd = cf_file(c, "d/after", LEN);
	s.map = cf_map(c, s.fd, 0, LEN, PROT_READ | PROT_WRITE);
	CF_MUST(c, LIB(c, pinfs_pin)(s.map, CF_PAGE, PINFS_PIN_WRITE, &s.pin) == 0);
	cut = take_cut(c, s.fd, 0);
	take_answer_cut(c, cut);
	let_go(c, &s);
	(void)cf_result(cut);
	(void)getxattr(cf_path(c, "d/before"), "user.pinfs.on_busy", is, sizeof is - 1);
	if (strcmp(was, is) != 0)
		cf_answer(c, "an older file has it, too");
}

/* The mount's, changed while it is mounted, and changed back. */
static void at_mount(struct cf *c)
{
	struct cf_call *cut;
	struct scene s;
	char out[512], back[64];
	const long was = take_status(c, "busy_timeout_ms");
	int rc;

	set_up(c, &s, "on_busy=wait");
	CF_SYS(c, removexattr(cf_path(c, "f"), "user.pinfs.busy_timeout"));
	rc = take_ctl(c, out, sizeof out, "set", cf_mount(c), "busy_timeout=5ms");
	if (rc != 0 && geteuid() != 0)
		cf_na(c, "only root and who mounted may: %s", out);
	CF_MUST(c, rc == 0);
	cut = take_cut(c, s.fd, 0);
	(void)cf_settle(cut);		/* by what is set now */
	(void)snprintf(back, sizeof back, "busy_timeout=%ldms", was);
	CF_MUST(c, take_ctl(c, out, sizeof out, "set", cf_mount(c), back) == 0);
	CF_MUST(c, take_status(c, "busy_timeout_ms") == was);
	cf_answer_rc(c, cf_result(cut));
	let_go(c, &s);
}

/* ---- what may be set ---- */

static void setting(struct cf *c)
{
	const char *const *pair = cf_arg(c);
	int fd = cf_file(c, "f", CF_PAGE);

	if (cf_mount(c) == NULL)
		cf_na(c, "files have policies of their own on pinfs only");
	cf_answer_rc(c, cf_rc(fsetxattr(fd, pair[0], pair[1], strlen(pair[1]), 0)));
}

#define BREAK(name, source, says, policy, op, size, want)                                                            \
	{ "policy." name, source, says, 0, breaks, &(const struct breaker){ policy, op, size }, want OURS }
#define TEXT(name, source, says, fn, policy, want) { "policy." name, source, says, 0, fn, policy, want OURS }
#define SET(name, says, attr, value, want)                                                                           \
	{ "policy." name, "pinfs", says, 0, setting, (const char *const[]){ "user.pinfs." attr, value },             \
	  want "; plain, kernel: na: there is one policy only" }

static const struct cf_case cases[] = {
	BREAK("wait", "behaviour 1; commit 5fac7408d82", "on_busy=wait: truncate waits for the pin, and then succeeds.",
	      "on_busy=wait", shrink, 0, "waits"),
	BREAK("wait-punch", "behaviour 2", "... and so does a hole to be punched.",
	      "on_busy=wait", punch_it, LEN, "waits"),
	BREAK("wait-zero", "behaviour 2", "... and a range to be zeroed.", "on_busy=wait", zero_it, LEN, "waits"),
	BREAK("ebusy", "pinfs", "on_busy=ebusy: truncate fails at once, and nothing has changed.",
	      "on_busy=ebusy", shrink, LEN, "EBUSY"),
	BREAK("ebusy-punch", "pinfs", "... and so does a hole to be punched.", "on_busy=ebusy", punch_it, LEN, "EBUSY"),
	BREAK("defer", "pinfs; \"dax vs truncate\" v3 (Oct 2017)",
	      "on_busy=defer: truncate succeeds at once, with the pin as it was.",
	      "on_busy=defer", shrink, 0, "returns"),
	BREAK("defer-punch", "pinfs; \"dax vs truncate\" v3 (Oct 2017)", "... and so does a hole to be punched.",
	      "on_busy=defer", punch_it, LEN, "returns"),
	BREAK("poll", "behaviour 48; \"dax vs truncate\" v3 (Oct 2017)",
	      "on_busy=poll: looking every so often comes to the same as being told.",
	      "on_busy=poll poll_interval=1ms", shrink, 0, "waits"),
	BREAK("unsafe", "behaviour 51; pinfs", "on_busy=unsafe: truncate succeeds at once, as before Linux 4.17.",
	      "on_busy=unsafe", shrink, 0, "returns"),
	BREAK("range", "pinfs", "break=range: a hole elsewhere in the file does not wait for the pin.",
	      "on_busy=wait break=range", punch_other, LEN, "returns"),
	BREAK("file", "dax_layout_busy_page()", "break=file: it waits for any pin in the file, as on Linux.",
	      "on_busy=wait break=file", punch_other, LEN, "waits"),
	BREAK("range-grow", "pinfs", "break=range: making the file longer does not wait for pins of whole pages.",
	      "on_busy=wait break=range", grow, 2 * LEN, "returns"),
	BREAK("file-grow", "ext4_setattr()", "break=file: it does, as on Linux.",
	      "on_busy=wait break=file", grow, 2 * LEN, "waits"),
	{ "policy.timeout", "pinfs", "busy_timeout: it waits no longer than that, then fails, and nothing has changed.",
	  0, timed_out, NULL, "EBUSY" OURS },
	TEXT("signal", "behaviour 8; dax_wait_page()", "A signal ends the wait with EINTR, and nothing has changed.",
	     interrupted, "on_busy=wait", "EINTR"),
	TEXT("signal-poll", "behaviour 8, 48", "... also when it polls, however long the interval.",
	     interrupted, "on_busy=poll poll_interval=3600", "EINTR"),
	TEXT("holder-wait", "behaviour 8", "While truncate waits, the holder's pin and mapping are as they were.",
	     holder, "on_busy=wait", "waits, pinned"),
	TEXT("holder-ebusy", "pinfs", "... nor does a refused truncate disturb the holder.",
	     holder, "on_busy=ebusy", "EBUSY, pinned"),
	TEXT("holder-defer", "pinfs", "After a deferred truncate the pin is good, and the page is not the file's.",
	     holder, "on_busy=defer", "returns, pinned, SIGBUS"),
	TEXT("fair", "pinfs", "fair=yes: a new pin of pages that a truncate waits for has to wait.",
	     another, "on_busy=wait fair=yes", "EAGAIN"),
	TEXT("unfair", "dax_layout_busy_page()", "fair=no: it is granted, as on Linux, and prolongs the wait.",
	     another, "on_busy=wait fair=no", "returns"),
	{ "policy.descriptor", "pinfs", "A descriptor's own policy comes before the file's, for calls by it.",
	  0, at_descriptor, NULL, "EBUSY by it, waits by another" OURS },
	{ "policy.directory", "pinfs", "A file takes over what its directory has when it is made.",
	  0, at_directory, NULL, "EBUSY" OURS },
	{ "policy.mount", "pinfs", "The mount's policy can be changed while it is mounted (pinfsctl set).",
	  0, at_mount, NULL, "EBUSY" OURS },
	SET("set", "A policy of a file is an extended attribute.", "on_busy", "ebusy", "returns"),
	SET("set-nonsense", "A value that makes no sense is EINVAL.", "on_busy", "perhaps", "EINVAL"),
	SET("set-unknown", "So is a policy that there is not.", "on_bus", "wait", "EINVAL"),
	SET("set-unsafe", "on_busy=unsafe is for root.", "on_busy", "unsafe", "returns; user: EPERM"),
	{ "policy.direct", "MAP_DIRECT proposal (2017)",
	  "A flag of mmap(2) that seals the file's extents was rejected for Linux; pinfs has leases instead.",
	  CF_UNASKED, NULL, NULL, "" },
	{ "policy.stable", "behaviour 26; commit 2bb6d2837083",
	  "That refusing long-term pins broke earlier users on purpose is asked by the long group under "
	  "profile=linux-4.15 and its successors.", CF_UNASKED, NULL, NULL, "" },
};
CF_GROUP(cf_policy, "policy", "Policies, one by one", cases);
