/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * self.c - cases for testing pinfs-conform itself: some right, some wrong, some that do what no case should. Linked in
 * place of the real ones (tests.mk); test_self.c knows what each must come to.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "conform/engine.h"

static void right(struct cf *c) { cf_answer(c, "%s", (const char *)cf_arg(c)); }

static void dies(struct cf *c)
{
	cf_answer(c, "fine");
	(void)raise(SIGSEGV);
}

static void hangs(struct cf *c)
{
	cf_answer(c, "fine");
	for (;;)
		(void)pause();
}

static void silent(struct cf *c) { cf_note(c, "a note\nof two lines"); }
static void breaks(struct cf *c) { (void)CF_SYS(c, open(cf_path(c, "none"), O_RDONLY)); }
static void not_here(struct cf *c) { cf_na(c, "no such \"thing\" <here> & now"); }
static void ends(struct cf *c)
{
	cf_answer(c, "fine");
	_exit(3);
}

static long end_in_child(void *arg)
{
	struct cf *c = arg;

	cf_broken(c, __FILE__, 0, "in a child", -EIO);
}

static void breaks_in_child(struct cf *c)
{
	cf_answer(c, "fine");
	(void)cf_result(cf_call(c, CF_PROCESS, end_in_child, c));
}

/* A child of a child, in a session of its own, deaf; files that cannot be removed just so. */
static void leaves(struct cf *c)
{
	const char *dir = cf_path(c, "dir");
	_Atomic uint32_t *up = cf_shared(c, sizeof *up);

	if (CF_SYS(c, fork()) == 0) {
		if (fork() == 0) {
			(void)setsid();
			(void)signal(SIGTERM, SIG_IGN);
			(void)prctl(PR_SET_NAME, "left-behind");
			cf_mark(up, 1);
			for (;;)
				(void)pause();
		}
		_exit(0);
	}
	cf_await(c, up, 1);
	(void)CF_SYS(c, mkdir(dir, 0700));
	(void)CF_SYS(c, open(cf_path(c, "dir/file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0400));
	(void)CF_SYS(c, chmod(dir, 0500));
	if (geteuid() == 0)
		(void)CF_SYS(c, mount("none", dir, "tmpfs", 0, NULL));
	cf_answer(c, "fine");
}

static long count(void *arg) { return *(int *)arg; }

static void calls_of(struct cf *c)
{
	int seven = 7;
	struct cf_call *thread = cf_call(c, CF_THREAD, count, &seven), *process = cf_call(c, CF_PROCESS, count, &seven);

	if (cf_settle(thread) != CF_RETURNED || cf_settle(process) != CF_RETURNED || cf_call_pid(thread) != getpid() ||
	    cf_call_pid(process) == getpid() || cf_call_tid(process) != cf_call_pid(process))
		return;
	cf_answer(c, "%ld", cf_result(thread) + cf_result(process));
}

static void contents(struct cf *c)
{
	const int fd = cf_file(c, "f", 2 * CF_PAGE + 1);

	cf_answer(c, "%s %s %s %s %ld", cf_content(c, cf_path(c, "f"), 0, 2 * CF_PAGE + 1),
		  cf_content(c, cf_path(c, "f"), 3 * CF_PAGE, CF_PAGE), cf_content(c, cf_path(c, "g"), 0, CF_PAGE),
		  cf_content_of("oS", 2), (long)cf_size(c, cf_path(c, "f")));
	(void)close(fd);
	(void)close(cf_holes(c, "h", CF_PAGE));
	cf_note(c, "%s", cf_content(c, cf_path(c, "h"), 0, CF_PAGE));
}

/* Another answer each time. */
static void wavers(struct cf *c) { cf_answer(c, "%d", (int)getpid()); }

static void fills(struct cf *c) { cf_answer(c, "filled"); }

/* ---- pins ---- */

static long cut(void *fd) { return cf_rc(ftruncate(*(int *)fd, 0)); }

static void scene(struct cf *c)
{
	struct cf_scene s;

	cf_scene(c, &s, 4 * CF_PAGE, 0, 0);
	cf_land(s.pin);
	cf_answer_rc(c, cf_result(s.truncate));
}

/* A second truncate waits behind the first; a pin of the page, too. */
static long pin_page(void *arg)
{
	int (*pin)(const void *, size_t, unsigned int, void **);
	void *out;

	*(void **)&pin = cf_symbol("pinfs_pin");
	return pin == NULL ? -ENOSYS : pin(arg, CF_PAGE, 1, &out);
}

static void behind(struct cf *c)
{
	struct cf_scene s;
	struct cf_call *second;

	cf_scene(c, &s, 4 * CF_PAGE, 0, 0);
	second = cf_call(c, CF_PROCESS, cut, &s.fd);
	cf_answer(c, "%s", cf_settle(second) == CF_WAITS ? "both" : "one");
	cf_land(s.pin);
	if (cf_result(s.truncate) != 0 || cf_result(second) != 0)
		cf_answer(c, "failed");
}

static void pin_behind(struct cf *c)
{
	struct cf_scene s;
	struct cf_call *pin;

	cf_scene(c, &s, 4 * CF_PAGE, 0, 0);
	/* Another process, which holds no pin that the truncate waits for. */
	pin = cf_call(c, CF_PROCESS, pin_page, s.map);
	cf_answer(c, "%s", cf_call_word(pin));
	cf_land(s.pin);
	(void)cf_result(s.truncate);
}

static void ways(struct cf *c)
{
	static const char *const how[] = { "api", "slow", "pipe" };
	const int fd = cf_file(c, "f", 2 * CF_CHUNK);
	char *p = cf_map(c, fd, 0, 2 * CF_CHUNK, PROT_READ | PROT_WRITE);
	struct cf_pin *pin;

	for (size_t i = 0; i < PF_ARRAY_LEN(how); i++) {
		int err = cf_pin_by(c, how[i], p + 100, CF_PAGE, CF_FROM_FILE, &pin);

		if (err != 0) {
			cf_note(c, "%s from: %s", how[i], error_name(err));
			continue;
		}
		cf_land(pin);
		cf_note(c, "%s from: %s", how[i], cf_landed(pin));
		err = cf_pin_by(c, how[i], p + CF_PAGE, CF_CHUNK, CF_TO_FILE, &pin);
		if (err == 0)
			cf_land(pin);
		cf_note(c, "%s to: %s, %s", how[i], err == 0 ? "done" : error_name(err),
			cf_content_of(p + CF_PAGE, CF_CHUNK));
		for (size_t k = 0; k < CF_CHUNK; k++)
			p[CF_PAGE + k] = CF_BYTE;
	}
	cf_answer(c, "done");
}

/* Transfers under way when a case ends: in order, not in order, or by a signal. */
static void ends_early(struct cf *c)
{
	const int fd = cf_file(c, "f", CF_PAGE), how = *(const int *)cf_arg(c);
	char *p = cf_map(c, fd, 0, CF_PAGE, PROT_READ | PROT_WRITE);
	struct cf_pin *pin;

	if (cf_pin_by(c, "slow", p, CF_PAGE, CF_TO_FILE, &pin) != 0)
		return;
	cf_answer(c, "early");
	if (how == 1)
		cf_na(c, "early");
	if (how == 2)
		(void)raise(SIGKILL);
}

static void slow_alone(struct cf *c)
{
	const char *path = cf_slow(c);
	const int fd = (int)CF_SYS(c, open(path, O_RDONLY | O_DIRECT));

	cf_slow_release(c);
	cf_answer(c, "%s", cf_content(c, path, 0, CF_PAGE));
	(void)close(fd);
}

static const struct cf_case plain[] = {
	{ "self.right", "pinfs", "Says \"fine\" & <well>.", 0, right, "fine", "wrong; plain, pinfs, bare: fine" },
	{ "self.either", "pinfs", "One of two.", 0, right, "b", "a|b" },
	{ "self.any", "pinfs", "Whatever.", 0, right, "it's #1 \\ 100%", "?" },
	{ "self.wrong", "pinfs", "Says <what> is \"not\" expected.", 0, right, "bad & <wrong>", "fine" },
	{ "self.dies", "pinfs", "Dies.", 0, dies, NULL, "dies: SIGSEGV" },
	{ "self.silent", "pinfs", "Says nothing.", 0, silent, NULL, "fine" },
	{ "self.breaks", "pinfs", "What it needs fails.", 0, breaks, NULL, "fine" },
	{ "self.breaks-in-child", "pinfs", "The same in a child.", 0, breaks_in_child, NULL, "fine" },
	{ "self.ends", "pinfs", "Ends by itself, with a status.", 0, ends, NULL, "fine" },
	{ "self.not-here", "pinfs", "Cannot be asked.", 0, not_here, NULL, "fine" },
	{ "self.nowhere", "pinfs", "Makes no sense.", 0, right, "fine", "na: there is no such thing" },
	{ "self.unasked", "pinfs", "Nobody can ask it.", CF_UNASKED, NULL, NULL, NULL },
	{ "self.leaves", "pinfs", "Leaves things behind.", 0, leaves, NULL, "fine" },
	{ "self.calls", "pinfs", "Calls return.", 0, calls_of, NULL, "14" },
	{ "self.contents", "pinfs", "Files hold what they hold.", 0, contents, NULL, "old nothing ENOENT mixed 8193" },
	{ "self.wavers", "pinfs", "Another answer each time.", 0, wavers, NULL, "?" },
	{ "self.fills", "pinfs", "Fills it.", CF_FILLS, fills, NULL, "filled" },
	{ "self.slow", "pinfs", "A slow file.", 0, slow_alone, NULL, "dma" },
};

static const struct cf_case pins[] = {
	{ "pin.scene", "pinfs", "The usual scene.", CF_PINS, scene, NULL, "returns" },
	{ "pin.no-twin", "pinfs", "Its twin cannot be asked.", CF_PINS | CF_PROTECTS, scene, NULL, "returns" },
	{ "pin.behind", "pinfs", "Two wait.", CF_PINS, behind, NULL, "both" },
	{ "pin.held-back", "pinfs", "A pin lets a truncate go first.", CF_PINS, pin_behind, NULL,
	  "waits; unfair: returns" },
	{ "pin.ways", "pinfs", "All ways.", CF_PINS, ways, NULL, "done" },
	{ "pin.powerless", "pinfs", "Its twin answers the same.", CF_PROTECTS, right, "same", "same" },
	{ "pin.wrong-twin", "pinfs", "Its twin answers otherwise than expected.", CF_PROTECTS, calls_of, NULL,
	  "14; unsafe: 15" },
};

static const struct cf_case early[] = {
	{ "early.end", "pinfs", "Ends while a transfer is under way.", 0, ends_early, &(const int){ 0 }, "early" },
	{ "early.na", "pinfs", "Cannot be asked while one is.", 0, ends_early, &(const int){ 1 }, "early" },
	{ "early.killed", "pinfs", "Is killed while one is.", 0, ends_early, &(const int){ 2 }, "dies: SIGKILL" },
};

CF_GROUP(self_early, "early", "Ends", early);
/* Apart: who asks these gives them little time, which on a busy machine others would need. */
static const struct cf_case late[] = {
	{ "late.hangs", "pinfs", "Hangs.", 0, hangs, NULL, "hangs" },
};
CF_GROUP(self_late, "late", "Does not end", late);
CF_GROUP(self_plain, "self", "The \"engine\" & <itself>", plain);
CF_GROUP(self_pins, "pin", "Pins", pins);
const struct cf_group *const cf_groups[] = { &self_plain, &self_pins, &self_early, &self_late };
const unsigned int cf_ngroup = PF_ARRAY_LEN(cf_groups);
