/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_takers.c - every call that gives memory to a device for good (far/taker.h), through the same scenes: refused on
 * windows, of whatever kind and wherever in the range, and on nothing else; pinned where that is allowed, from before
 * the call until its end, however that comes; and what the device does to strangers' blocks when it is not.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pinfs/compiler.h>
#include <pinfs/pin.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"
#include "pin/far/far.h"
#include "pin/far/taker.h"
#include "pin/look.h"
#include "pin/stage.h"
#include "pin/victim.h"

#define PAGE 4096UL
#define PAGES (F_LEN / PAGE)

enum end { BACK, BACK_LATE, CLOSE, CLOSE_COPY, EXIT, KILL, EXEC, CHILD };

static struct pt_fs *fs;
static char f[STAGE_PATH];

/* Between the test and its scene. */
static struct ctl {
	volatile uint32_t step, go;
} *ctl;

struct scene {
	const struct taker *k;
	enum end end;
	int want;
};

static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	if (ctl == NULL)
		ctl = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return true;
}

static long pages(void)
{
	return look_status(fs, "longterm.pages");
}

static bool pages_until(long n)
{
	const uint64_t end = pt_now_ms() + SOON_MS;

	while (pages() != n && pt_now_ms() < end)
		pt_sleep_ms(5);
	PT_EQ(pages(), n);
	return pages() == n;
}

/* It waits to be asked how it ended. */
static bool ended(pid_t pid)
{
	siginfo_t si = { .si_pid = 0 };

	return waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) != 0 || si.si_pid == pid;
}

static void wipe(void)
{
	ctl->step = ctl->go = 0;
}

static char *window(int prot, int flags)
{
	int fd = open(f, O_RDWR | O_CLOEXEC);
	char *p = mmap(NULL, F_LEN, prot, flags, fd, 0);

	(void)close(fd);
	return p == MAP_FAILED ? NULL : p;
}

/* ---- refused ---- */

static int tells(const struct scene *s, struct taken *t, void *addr, int want)
{
	int rc = s->k->give(t, addr, F_LEN);

	if (rc != want)
		(void)fprintf(stderr, "%s: %s, expected %s\n", s->k->name, strerror(-rc), strerror(-want));
	if (rc == 0 && s->k->back != NULL)
		(void)s->k->back(t);
	return rc == want && (!s->k->far || far_count() == 0) ? 0 : -1;
}

/* What is no window is as ever: memory of its own, and a file that is not ours. */
static int others(const struct scene *s, struct taken *t)
{
	char *anon = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *file;
	int fd = memfd_create("other", MFD_CLOEXEC);

	NEED(anon != MAP_FAILED && fd >= 0 && ftruncate(fd, F_LEN) == 0);
	file = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(file != MAP_FAILED);
	NEED(tells(s, t, anon, 0) == 0);
	if (s->k->back != NULL)		/* AF_XDP: once for a socket */
		NEED(tells(s, t, file, 0) == 0);
	return 0;
}

static int refused_scene(void *arg)
{
	const struct scene *s = arg;
	struct pinfs_range_info ri;
	struct taken t;
	char *rw, *ro, *no, *pr, *mix;
	int rc = s->k->open(&t);

	if (rc == 1)
		return 77;
	NEED(rc == 0);
	rw = window(PROT_READ | PROT_WRITE, MAP_SHARED);
	ro = window(PROT_READ, MAP_SHARED);
	no = window(PROT_NONE, MAP_SHARED);
	pr = window(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	NEED(rw && ro && no && pr && pinfs_range_query(rw, PAGE, &ri) == 0);
	NEED(tells(s, &t, rw, s->want) == 0);
	NEED(tells(s, &t, ro, s->want == -EPERM ? -EFAULT : s->want) == 0);
	NEED(tells(s, &t, no, s->want == -EPERM ? -EFAULT : s->want) == 0);
	if (pinfs_range_query(pr, PAGE, &ri) == 0)	/* else it is the kernel's, and no window */
		NEED(tells(s, &t, pr, -EOPNOTSUPP) == 0);
	pr[0] = 'c';					/* a copy makes no difference */
	if (pinfs_range_query(pr, PAGE, &ri) == 0)
		NEED(tells(s, &t, pr, -EOPNOTSUPP) == 0);
	memset(pr, 'c', F_LEN);				/* unless all of it is */
	if (s->k->back != NULL)
		NEED(tells(s, &t, pr, 0) == 0);
	/* One page of a window, in the middle, at the beginning, at the end of memory that would do. */
	for (size_t at = 0; at < F_LEN; at += at == 0 ? 7 * PAGE : F_LEN - 8 * PAGE) {
		int fd = open(f, O_RDWR | O_CLOEXEC);

		mix = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		NEED(mix != MAP_FAILED && fd >= 0);
		memset(mix, 'a', F_LEN);
		NEED(mmap(mix + at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == mix + at);
		NEED(close(fd) == 0);
		NEED(tells(s, &t, mix, s->want) == 0);
	}
	NEED(others(s, &t) == 0);
	return 0;
}

static void refused_with(const char *opts, int want)
{
	struct look l;

	if (!begin(opts))
		return;
	for (size_t i = 0; i < ntakers; i++) {
		struct scene s = { .k = &takers[i], .want = want };
		int rc = child_end(child_start(refused_scene, &s));

		if (rc == 77)
			continue;
		if (rc != 0)
			pt_say("%s: %s", s.k->name, child_said());
		PT_EQ(rc, 0);
		CU_ASSERT(look(fs, &l));
		PT_EQ(l.npin, 0);
		PT_EQ(pages(), 0);
		PT_EQ(look_status(fs, "counters.waits"), 0);
	}
	CU_ASSERT(stage_untouched(f));
	pt_fs_end(fs);
}

static void refused(void) { refused_with(NULL, -EOPNOTSUPP); }
static void without_lease(void) { refused_with("longterm=lease", -EPERM); }

/* ---- pinned until the end ---- */

static int child_of_it(void *arg)
{
	const struct taken *t = arg;

	return t->fd < 0 || close(t->fd) == 0 ? 0 : 1;
}

/* Memory around the window, too; and the program forgets mapping and file. */
static int held_scene(void *arg)
{
	const struct scene *s = arg;
	struct taken t;
	char *p, *anon;
	int fd, copy = -1;

	NEED(s->k->open(&t) == 0);
	anon = mmap(NULL, F_LEN + 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(anon != MAP_FAILED);
	fd = open(f, O_RDWR | O_CLOEXEC);
	p = mmap(anon + 2 * PAGE, F_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	NEED(p != MAP_FAILED && close(fd) == 0);
	NEED(s->k->give(&t, anon, F_LEN + 4 * PAGE) == 0);
	if (s->end == BACK_LATE)
		NEED(munmap(anon, F_LEN + 4 * PAGE) == 0);
	if (s->end == CLOSE_COPY)
		copy = dup(t.fd);
	if (s->end == CHILD)
		NEED(child_sub(child_of_it, &t) == 0);
	ctl->step = 1;
	NEED(child_await(&ctl->go, 1) == 0);
	switch (s->end) {
	case BACK:
	case BACK_LATE:
	case CHILD:
		NEED(s->k->back(&t) == 0);
		break;
	case CLOSE_COPY:
		NEED(close(t.fd) == 0);
		ctl->step = 2;
		NEED(child_await(&ctl->go, 2) == 0);
		NEED(close(copy) == 0);
		break;
	case CLOSE:
		NEED(s->k->close != NULL ? s->k->close(&t) == 0 : close(t.fd) == 0);
		break;
	case EXIT:
		_exit(0);
	case KILL:
		(void)raise(SIGKILL);
		break;
	case EXEC:
		(void)execlp("sleep", "sleep", "60", NULL);
		return 1;
	}
	ctl->step = 3;
	return child_await(&ctl->go, 3);
}

/* Whose pins are they, says `pinfsctl pins`. */
static bool shown_as(const char *api)
{
	const char *const argv[] = { pt_program("pinfsctl"), "pins", "--json", fs->mnt, NULL };
	char out[16384], want[64];

	(void)snprintf(want, sizeof want, "\"%s\"", api);
	return pt_run(out, sizeof out, SOON_MS, argv) == 0 && strstr(out, want) != NULL;
}

static void held(const struct taker *k, enum end end)
{
	struct scene s = { .k = k, .end = end };
	struct taken probe;
	int rc;
	struct actor *c;
	struct look l;
	pid_t pid;

	/* What is not there, or has no such end. */
	if (((end == BACK || end == BACK_LATE || end == CHILD) && k->back == NULL) || (end != BACK && k->variant) ||
	    (end == CLOSE_COPY && k->close != NULL))
		return;
	if (k->open(&probe) == 1)
		return;
	if (probe.fd >= 0)
		(void)close(probe.fd);
	wipe();
	c = actor_new();
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
	pid = child_start(held_scene, &s);
	if (child_await(&ctl->step, 1) != 0) {
		(void)child_end(pid);
		pt_say("%s: %s", k->name, child_said());
		CU_FAIL("not given");
		actor_end(c);
		return;
	}
	CU_ASSERT(look(fs, &l));
	CU_ASSERT(l.npin > 0);
	CU_ASSERT(end != BACK || shown_as(k->api));
	PT_EQ(pages(), PAGES);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	ctl->go = 1;
	if (end == CLOSE_COPY) {
		CU_ASSERT(child_await(&ctl->step, 2) == 0);
		PT_EQ(pages(), PAGES);
		PT_EQ(actor_result(c, 0), -EINPROGRESS);
		ctl->go = 2;
	}
	PT_EQ(actor_result(c, SOON_MS), 0);
	(void)pages_until(0);
	CU_ASSERT(look_pins_until(fs, 0));
	actor_end(c);
	ctl->go = 3;
	if (end == EXEC)
		pt_kill(pid);
	rc = child_end(pid);
	if (rc != 0 && end != EXEC && end != KILL)
		pt_say("%s: %s", k->name, child_said());
	CU_ASSERT(rc == (end == KILL ? 128 + SIGKILL : 0) || end == EXEC);
}

static void all_held(enum end end)
{
	if (!begin("longterm=allow"))
		return;
	for (size_t i = 0; i < ntakers; i++)
		held(&takers[i], end);
	pt_fs_end(fs);
}

static void taken_back(void) { all_held(BACK); }
static void after_munmap(void) { all_held(BACK_LATE); }
static void closed(void) { all_held(CLOSE); }
static void closed_copy(void) { all_held(CLOSE_COPY); }
static void exited(void) { all_held(EXIT); }
static void killed(void) { all_held(KILL); }
static void execed(void) { all_held(EXEC); }
static void forked(void) { all_held(CHILD); }

/* ---- failures of the real call ---- */

static int fails_scene(void *arg)
{
	const struct scene *s = arg;
	char *p = window(PROT_READ | PROT_WRITE, MAP_SHARED);
	struct taken t;
	int rc = s->k->open(&t);

	if (rc == 1)
		return 0;
	NEED(p != NULL && rc == 0);
	if (s->k->far) {
		far_fail(ENOSPC);
		NEED(s->k->give(&t, p, F_LEN) == -ENOSPC);
		NEED(far_count() == 0);
	} else if (strcmp(s->k->name, "io_uring update") != 0) {
		char *anon = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		NEED(s->k->give(&t, anon, F_LEN) == 0);
		NEED(s->k->give(&t, p, F_LEN) == -EBUSY);	/* one is there already */
	}
	ctl->step = 1;
	return child_await(&ctl->go, 1);
}

static void fails(void)
{
	if (!begin("longterm=allow"))
		return;
	for (size_t i = 0; i < ntakers; i++) {
		struct scene s = { .k = &takers[i] };
		struct look l;
		pid_t pid;

		wipe();
		pid = child_start(fails_scene, &s);
		while (ctl->step != 1 && !ended(pid))		/* it has no such device */
			pt_sleep_ms(1);
		PT_EQ(pages(), 0);
		CU_ASSERT(look(fs, &l));
		PT_EQ(l.npin, 0);
		ctl->go = 1;
		if (child_end(pid) != 0) {
			pt_say("%s: %s", s.k->name, child_said());
			CU_FAIL("the scene");
		}
	}
	pt_fs_end(fs);
}

/* ---- the end fails: the device still has it ---- */

static int stays_scene(void *arg)
{
	const struct scene *s = arg;
	char *p = window(PROT_READ | PROT_WRITE, MAP_SHARED);
	struct taken t;

	NEED(p != NULL && s->k->open(&t) == 0 && s->k->give(&t, p, F_LEN) == 0);
	far_fail(EBUSY);
	NEED(s->k->back(&t) == -EBUSY);
	ctl->step = 1;
	NEED(child_await(&ctl->go, 1) == 0);
	NEED(s->k->back(&t) == 0);
	ctl->step = 2;
	return child_await(&ctl->go, 2);
}

static void stays(void)
{
	if (!begin("longterm=allow"))
		return;
	for (size_t i = 0; i < ntakers; i++) {
		struct scene s = { .k = &takers[i] };
		pid_t pid;

		if (!takers[i].far || takers[i].variant)
			continue;
		wipe();
		pid = child_start(stays_scene, &s);
		CU_ASSERT(child_await(&ctl->step, 1) == 0);
		PT_EQ(pages(), PAGES);
		ctl->go = 1;
		CU_ASSERT(child_await(&ctl->step, 2) == 0);
		PT_EQ(pages(), 0);
		ctl->go = 2;
		if (child_end(pid) != 0) {
			pt_say("%s: %s", s.k->name, child_said());
			CU_FAIL("the scene");
		}
	}
	pt_fs_end(fs);
}

/* ---- limits ---- */

static int limit_scene(void *arg)
{
	const struct scene *s = arg;
	char *p = window(PROT_READ | PROT_WRITE, MAP_SHARED);
	struct taken t;
	int rc = s->k->open(&t);

	if (rc == 1)
		return 0;
	NEED(p != NULL && rc == 0);
	NEED(s->k->give(&t, p, F_LEN) == -s->k->no_mem);
	NEED(!s->k->far || far_count() == 0);
	NEED(s->k->give(&t, p, 8 * PAGE) == 0);
	return 0;
}

static void limit(void)
{
	if (!begin("longterm=allow,longterm_limit=32K"))
		return;
	for (size_t i = 0; i < ntakers; i++) {
		struct scene s = { .k = &takers[i] };
		int rc = child_end(child_start(limit_scene, &s));

		if (rc != 0)
			pt_say("%s: %s", s.k->name, child_said());
		PT_EQ(rc, 0);
		(void)pages_until(0);
	}
	pt_fs_end(fs);
}

/* ---- DMA ---- */

/* "scene TAKER FILE": give a window of the file to the device, say so, do DMA when told. A program of its own, because
 * the library is told at its start to leave the pins out. */
static int dma_main(const char *name, const char *path)
{
	const struct taker *k = taker_named(name);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char *p = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), c;
	struct taken t;

	if (k == NULL || p == MAP_FAILED || k->open(&t) != 0 || k->give(&t, p, F_LEN) != 0 || write(1, "g", 1) != 1 ||
	    read(0, &c, 1) != 1 || far_dma('D') != (long)PAGES || k->back(&t) != 0)
		return 1;
	return write(1, "d", 1) == 1 && read(0, &c, 1) == 1 ? 0 : 1;
}

struct dma_child { const char *taker; int in, out; bool unsafe; };

static int dma_child(void *arg)
{
	const struct dma_child *d = arg;

	if (dup2(d->in, 0) < 0 || dup2(d->out, 1) < 0 ||
	    (d->unsafe && setenv("PINFS_TEST_UNSAFE_LONGTERM", "1", 1) != 0))
		return 1;
	(void)execl("/proc/self/exe", "test_takers", "scene", d->taker, f, NULL);
	return 2;
}

/* The device works on the blocks while the file is truncated and all its blocks are somebody else's. */
static void dma(const struct taker *k, bool unsafe)
{
	struct dma_child d = { .taker = k->name, .unsafe = unsafe };
	int to[2], from[2];
	uint64_t len = 0;
	char v[STAGE_PATH], c;
	struct actor *a;
	pid_t pid;

	(void)snprintf(v, sizeof v, "%s", pt_path(fs, "victim"));
	PT_SYS_FATAL(pipe(to));
	PT_SYS_FATAL(pipe(from));
	d.in = to[0];
	d.out = from[1];
	pid = pt_fork(dma_child, &d);
	(void)close(to[0]);
	(void)close(from[1]);
	PT_EQ(read(from[0], &c, 1), 1);
	a = actor_new();
	actor_send(a, act_truncate(f, 0));
	if (unsafe) {
		PT_EQ(actor_result(a, SOON_MS), 0);
		len = victim_make(v);
	} else {
		CU_ASSERT(look_until(fs, 1, 1, NULL));
	}
	PT_EQ(write(to[1], "x", 1), 1);
	PT_EQ(read(from[0], &c, 1), 1);
	if (!unsafe) {
		PT_EQ(actor_result(a, SOON_MS), 0);
		len = victim_make(v);
	}
	PT_EQ(victim_intact(v, len), !unsafe);
	PT_EQ(write(to[1], "x", 1), 1);
	PT_EQ(pt_wait(pid, SOON_MS), 0);
	(void)close(to[1]);
	(void)close(from[0]);
	PT_EQ(actor_do(a, act_unlink(v)), 0);
	PT_EQ(actor_do(a, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
	actor_end(a);
}

static void all_dma(bool unsafe)
{
	/* Without its pins the library refuses nothing either. */
	if (!begin(unsafe ? NULL : "longterm=allow"))
		return;
	for (size_t i = 0; i < ntakers; i++)
		if (takers[i].far && !takers[i].variant)
			dma(&takers[i], unsafe);
	pt_fs_end(fs);
}

static void strangers(void) { all_dma(false); }
static void strangers_hurt(void) { all_dma(true); }

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "refused", refused, 0 },
		{ "refused without a lease", without_lease, 0 },
		{ "taken back", taken_back, 0 },
		{ "taken back after munmap", after_munmap, 0 },
		{ "closed", closed, 0 },
		{ "closed, and its copy", closed_copy, 0 },
		{ "exit", exited, 0 },
		{ "SIGKILL", killed, 0 },
		{ "exec", execed, 0 },
		{ "fork", forked, 0 },
		{ "the call fails", fails, 0 },
		{ "its end fails", stays, 0 },
		{ "limit", limit, 0 },
		{ "DMA to strangers", strangers, 0 },
		{ "DMA to strangers, without pins", strangers_hurt, 0 },
	};
	static const struct pt_suite suites[] = { { "takers", cases, PF_ARRAY_LEN(cases) } };

	if (argc == 4 && strcmp(argv[1], "scene") == 0)
		return dma_main(argv[2], argv[3]);
	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
