/* SPDX-License-Identifier: BSD-3-Clause */
/* flight.c - see flight.h. Blocks that a transfer writes to get 'S' (slowfs.h); the file has 'o', a victim 'v'. */
#include "pin/flight.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/pin.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"
#include "pin/look.h"
#include "pin/victim.h"

#define PAGE 4096U
#define KEY UINT64_C(0x5eed)

static bool filled(const char *p, size_t n, char c)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] != c)
			return false;
	}
	return true;
}

static char *window(const char *path, size_t len)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char *p = child_map(fd, len);

	(void)close(fd);
	return p;
}

bool play_begin(struct play *p, const struct engine *e, const char *opts)
{
	memset(p, 0, sizeof *p);
	p->fd = -1;
	p->fs = stage("16M", opts);
	if (p->fs == NULL)
		return false;
	p->slow = slow_start();
	if (p->slow == NULL || !e->open(64)) {
		if (p->slow != NULL)
			slow_end(p->slow);
		pt_fs_end(p->fs);
		return false;
	}
	stage_file(p->fs, "f", p->path);
	p->win = window(p->path, F_LEN);
	CU_ASSERT_FATAL(p->win != NULL);
	p->fd = open(slow_path(p->slow), O_RDWR | O_DIRECT | O_CLOEXEC);
	PT_SYS_FATAL(p->fd);
	return true;
}

void play_end(struct play *p, const struct engine *e)
{
	e->close();
	(void)close(p->fd);
	if (p->win != NULL)
		PT_SYS(munmap(p->win, F_LEN));
	slow_end(p->slow);
	pt_fs_end(p->fs);
}

struct flight play_pages(const struct play *p, unsigned int first, unsigned int n, bool write, uint64_t key)
{
	return (struct flight){ .fd = p->fd, .write = write, .buf = p->win + (size_t)first * PAGE, .len = n * PAGE,
				.off = (off_t)first * PAGE, .key = key };
}

bool play_pins(const struct play *p, size_t n)
{
	return look_pins_until(p->fs, n);
}

void play_waits(const struct engine *e, bool write)
{
	struct flight f;
	struct actor *t;
	struct play p;
	struct look l;
	uint64_t key = 0;

	if (!play_begin(&p, e, NULL))
		return;
	slow_hold(p.slow, true);
	f = play_pages(&p, 2, 4, write, KEY);
	PT_EQ(e->begin(&f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	CU_ASSERT(look(p.fs, &l));
	PT_EQ(l.npin, 1);
	PT_EQ(l.pin[0].pid, getpid());
	PT_EQ(l.pin[0].foff, 2 * PAGE);
	PT_EQ(l.pin[0].len, 4 * PAGE);
	t = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	CU_ASSERT(stage_untouched(p.path));
	/* The window may go, and the descriptor: the blocks are held. */
	PT_SYS(munmap(p.win, F_LEN));
	p.win = NULL;
	PT_EQ(actor_result(t, 0), -EINPROGRESS);
	/* Nobody asks for the event: it is there, and that is enough. */
	slow_release(p.slow, 0);
	PT_EQ(actor_result(t, SOON_MS), 0);
	PT_EQ(stage_size(p.path), 0);
	PT_EQ(e->end(&key), 4 * PAGE);
	PT_EQ(key, KEY);
	actor_end(t);
	play_end(&p, e);
}

/* break=file: nothing is unmapped for a file that grows, and yet somebody waits for the transfer to be over. */
void play_grows(const struct engine *e)
{
	struct flight f;
	struct actor *t;
	struct play p;
	uint64_t key;

	if (!play_begin(&p, e, "break=file"))
		return;
	slow_hold(p.slow, true);
	f = play_pages(&p, 0, 1, false, KEY);
	PT_EQ(e->begin(&f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	t = stage_sender(act_truncate(p.path, 2 * F_LEN));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	slow_release(p.slow, 0);
	PT_EQ(actor_result(t, SOON_MS), 0);		/* nobody has asked for the event */
	PT_EQ(e->end(&key), PAGE);
	actor_end(t);
	play_end(&p, e);
}

/* A transfer into the file under way, the file cut, all that is free taken by a victim, then the transfer lands. */
static bool late(const struct engine *e, const char *opts, long cut)
{
	bool intact;
	struct flight f;
	struct actor *t;
	uint64_t len, key;
	struct play p;
	char v[STAGE_PATH];

	if (!play_begin(&p, e, opts))
		return true;
	slow_hold(p.slow, true);
	f = play_pages(&p, 0, 16, false, KEY);
	PT_EQ(e->begin(&f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	t = actor_new();
	PT_EQ(actor_do(t, act_truncate(p.path, 0)), cut);
	(void)snprintf(v, sizeof v, "%s", pt_path(p.fs, "victim"));
	len = victim_make(v);
	slow_release(p.slow, 0);
	PT_EQ(e->end(&key), F_LEN);
	intact = victim_intact(v, len);
	CU_ASSERT(look_parked_until(p.fs, 0));
	if (cut == 0) {
		PT_EQ(stage_size(p.path), 0);
	} else {
		CU_ASSERT(filled(p.win, F_LEN, SLOW_BYTE));	/* it landed where it belongs */
		PT_EQ(actor_do(t, act_truncate(p.path, 0)), 0);	/* nothing is left of the pin */
	}
	actor_end(t);
	play_end(&p, e);
	return intact;
}

void play_policies(const struct engine *e)
{
	CU_ASSERT(late(e, "on_busy=ebusy", -EBUSY));
	CU_ASSERT(late(e, "on_busy=defer", 0));
	if (pt_need_mount())
		CU_ASSERT(!late(e, "on_busy=unsafe", 0));	/* the twin: foreign bytes in the victim */
}

void play_refused(const struct engine *e)
{
	struct flight f[3];
	struct iovec v[2];
	uint64_t key;
	struct play p;
	char *heap, *more;
	long r;

	if (!play_begin(&p, e, NULL))
		return;
	heap = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	more = window(p.path, 2 * F_LEN);
	CU_ASSERT_FATAL(heap != MAP_FAILED && more != NULL);
	slow_hold(p.slow, true);

	/* Memory that is no window is not held. */
	f[0] = play_pages(&p, 0, 1, false, 1);
	f[0].buf = heap;
	PT_EQ(e->begin(f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	CU_ASSERT(play_pins(&p, 0));
	slow_release(p.slow, 0);
	PT_EQ(e->end(&key), PAGE);

	/* An array of buffers: the part that is one. */
	v[0] = (struct iovec){ heap, PAGE };
	v[1] = (struct iovec){ p.win + 3 * PAGE, 2 * PAGE };
	f[0] = (struct flight){ .fd = p.fd, .vector = true, .buf = v, .len = 2, .key = 2 };
	PT_EQ(e->begin(f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	CU_ASSERT(play_pins(&p, 1));
	slow_release(p.slow, 0);
	PT_EQ(e->end(&key), 3 * PAGE);
	CU_ASSERT(filled(heap, PAGE, SLOW_BYTE) && filled(p.win + 3 * PAGE, 2 * PAGE, SLOW_BYTE));
	CU_ASSERT(filled(p.win, 3 * PAGE, 'o') && filled(p.win + 5 * PAGE, 11 * PAGE, 'o'));
	CU_ASSERT(play_pins(&p, 0));

	/* Behind the end: as the kernel says it, in the event, and the request is the program's as before. */
	slow_hold(p.slow, false);
	f[0] = play_pages(&p, 0, 2, false, 3);
	f[0].buf = more + F_LEN;
	PT_EQ(e->begin(f, 1), 1);
	PT_EQ(e->end(&key), -EFAULT);
	PT_EQ(key, 3);
	v[1].iov_base = more + F_LEN;
	f[0] = (struct flight){ .fd = p.fd, .vector = true, .buf = v, .len = 2, .key = 4 };
	PT_EQ(e->begin(f, 1), 1);
	r = e->end(&key);
	CU_ASSERT(r == -EFAULT || r == PAGE);
	CU_ASSERT(play_pins(&p, 0));

	/* The first goes, the second has no descriptor. */
	slow_hold(p.slow, true);
	f[0] = play_pages(&p, 0, 1, false, 5);
	f[1] = play_pages(&p, 1, 1, false, 6);
	f[1].fd = -1;
	f[2] = play_pages(&p, 2, 1, false, 7);
	r = e->begin(f, 3);
	CU_ASSERT(r >= 1);
	if (r > 1)
		PT_EQ(e->end(&key), -EBADF);
	CU_ASSERT(slow_await(p.slow, r == 3 ? 2 : 1));
	CU_ASSERT(play_pins(&p, r == 3 ? 2 : 1));
	slow_release(p.slow, EIO);
	for (long i = r > 1 ? 1 : 0; i < r; i++)
		PT_EQ(e->end(&key), -EIO);
	if (r < 3)
		CU_ASSERT(e->begin(&f[1], 1) <= 1);
	if (r == 2)
		PT_EQ(e->end(&key), -EBADF);
	CU_ASSERT(play_pins(&p, 0));
	PT_SYS(munmap(more, 2 * F_LEN));
	PT_SYS(munmap(heap, 2 * PAGE));
	play_end(&p, e);
}

void play_many(const struct engine *e)
{
	struct flight f[16];
	uint64_t key, sum = 0, want = 0;
	struct actor *t;
	struct play p;

	if (!play_begin(&p, e, NULL))
		return;
	for (unsigned int round = 0; round < 200; round++) {
		long begun = 0;

		for (unsigned int i = 0; i < 16; i++)
			f[i] = play_pages(&p, (i + round) % 16, 1, i % 2, round * 16 + i);
		while (begun < 16) {
			long r = e->begin(f + begun, (unsigned int)(16 - begun));

			CU_ASSERT_FATAL(r > 0);
			begun += r;
		}
		for (unsigned int i = 0; i < 16; i++) {
			PT_EQ(e->end(&key), PAGE);
			sum += key;
			want += round * 16 + i;
		}
	}
	PT_EQ(sum, want);
	/* The last ones may be known to have ended only when somebody looks. */
	t = actor_new();
	PT_EQ(actor_do(t, act_truncate(p.path, 0)), 0);
	actor_end(t);
	CU_ASSERT(play_pins(&p, 0));
	play_end(&p, e);
}

/* ---- fairness ---- */

struct second {				/* where a transfer does not end when the other one's do */
	struct slow *slow;
	int fd;
};

static bool second(struct second *s)
{
	s->slow = slow_start();
	s->fd = s->slow != NULL ? open(slow_path(s->slow), O_RDWR | O_DIRECT | O_CLOEXEC) : -1;
	CU_ASSERT_FATAL(s->fd >= 0);
	slow_hold(s->slow, true);
	return true;
}

static void second_end(struct second *s)
{
	(void)close(s->fd);
	slow_end(s->slow);
}

struct beginner {
	const struct engine *e;
	struct flight f[3];
	unsigned int n;
	long r;
};

static void *begin_them(void *arg)
{
	struct beginner *b = arg;

	b->r = b->e->begin(b->f, b->n);
	return NULL;
}

static int pin_now(const struct play *p)
{
	struct pinfs_pin *pin;
	int err = pinfs_pin(p->win, PAGE, PINFS_PIN_NOWAIT, &pin);

	if (err == 0)
		PT_EQ(pinfs_unpin(pin), 0);
	return err;
}

/* Each is there before the one before has ended. */
static void keep_going(const struct play *p, const struct engine *e, const struct second *s, struct actor *t)
{
	int64_t had = look_status(p->fs, "counters.pins_slow");
	struct slow *at[2] = { p->slow, s->slow };
	struct flight f;
	uint64_t key;

	for (unsigned int i = 1; i <= 10; i++) {
		f = play_pages(p, 0, 1, false, i);
		f.fd = i % 2 == 0 ? p->fd : s->fd;
		PT_EQ(e->begin(&f, 1), 1);
		CU_ASSERT(slow_await(at[i % 2], 1));
		slow_release(at[(i + 1) % 2], 0);
		PT_EQ(e->end(&key), PAGE);
		PT_EQ(key, i - 1);
	}
	PT_EQ(look_status(p->fs, "counters.pins_slow") - had, 10);
	CU_ASSERT(look_until(p->fs, 1, 1, NULL));
	PT_EQ(actor_result(t, 0), -EINPROGRESS);
	slow_release(at[0], 0);
	PT_EQ(actor_result(t, SOON_MS), 0);
	PT_EQ(e->end(&key), PAGE);
}

void play_stream(const struct engine *e, const char *opts, bool starves)
{
	struct beginner b = { .e = e, .n = 3 };
	struct flight f;
	struct actor *t;
	struct second s;
	struct play p;
	pthread_t th;
	uint64_t key;

	if (!play_begin(&p, e, opts) || !second(&s))
		return;
	slow_hold(p.slow, true);
	f = play_pages(&p, 0, 1, false, 0);
	PT_EQ(e->begin(&f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	t = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	PT_EQ(pin_now(&p), starves ? 0 : -EAGAIN);
	if (starves) {
		keep_going(&p, e, &s, t);
	} else {
		for (unsigned int i = 0; i < b.n; i++) {
			b.f[i] = play_pages(&p, i, 1, false, 1);
			b.f[i].fd = s.fd;
		}
		PT_EQ(pthread_create(&th, NULL, begin_them, &b), 0);
		/* The first one ends. Would the truncate wait for others, they would not end. */
		slow_release(p.slow, 0);
		PT_EQ(actor_result(t, SOON_MS), 0);
		PT_EQ(pthread_join(th, NULL), 0);
		PT_EQ(b.r, 3);
		PT_EQ(e->end(&key), PAGE);
		PT_EQ(key, 0);
		for (unsigned int i = 0; i < b.n; i++)
			PT_EQ(e->end(&key), -EFAULT);		/* of what is cut off */
		PT_EQ(slow_waiting(s.slow), 0);
	}
	CU_ASSERT(play_pins(&p, 0));
	actor_end(t);
	second_end(&s);
	play_end(&p, e);
}

void play_needs_more(const struct engine *e)
{
	struct pinfs_pin *own;
	struct flight f[2];
	struct actor *t;
	struct play p;
	uint64_t key;

	if (!play_begin(&p, e, "fair=yes"))
		return;
	slow_hold(p.slow, true);
	PT_EQ(pinfs_pin(p.win + PAGE, PAGE, PINFS_PIN_WRITE, &own), 0);
	f[0] = play_pages(&p, 0, 1, false, 1);
	PT_EQ(e->begin(&f[0], 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	t = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	f[0] = play_pages(&p, 2, 1, false, 2);
	f[1] = play_pages(&p, 3, 1, false, 3);
	PT_EQ(e->begin(f, 2), 2);
	CU_ASSERT(slow_await(p.slow, 3));
	PT_EQ(actor_result(t, 0), -EINPROGRESS);
	slow_release(p.slow, 0);
	for (unsigned int i = 0; i < 3; i++)
		PT_EQ(e->end(&key), PAGE);
	PT_EQ(actor_result(t, 0), -EINPROGRESS);
	PT_EQ(pinfs_unpin(own), 0);
	PT_EQ(actor_result(t, SOON_MS), 0);
	actor_end(t);
	play_end(&p, e);
}

void play_in_parts(const struct engine *e)
{
	struct beginner b = { .e = e, .n = 2 };
	struct actor *h, *t[2];
	char other[STAGE_PATH];
	struct play p;
	pthread_t th;
	uint64_t key;
	char *win;

	if (!play_begin(&p, e, "fair=yes"))
		return;
	stage_file(p.fs, "g", other);
	win = window(other, F_LEN);
	CU_ASSERT_FATAL(win != NULL);
	slow_hold(p.slow, true);
	h = stage_holder(p.path, 0, PAGE);
	t[0] = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	b.f[0] = play_pages(&p, 0, 1, false, 1);
	b.f[0].buf = win;
	b.f[1] = play_pages(&p, 0, 1, false, 2);
	PT_EQ(pthread_create(&th, NULL, begin_them, &b), 0);
	/* The call has not returned. The first of it is under way, and ends: a truncate need not wait for the other. */
	CU_ASSERT(slow_await(p.slow, 1));
	t[1] = stage_sender(act_truncate(other, 0));
	CU_ASSERT(look_until(p.fs, 2, 2, NULL));
	slow_release(p.slow, 0);
	PT_EQ(actor_result(t[1], SOON_MS), 0);
	PT_EQ(actor_result(t[0], 0), -EINPROGRESS);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(t[0], SOON_MS), 0);
	PT_EQ(pthread_join(th, NULL), 0);
	PT_EQ(b.r, 2);
	PT_EQ(e->end(&key), PAGE);
	PT_EQ(key, 1);
	PT_EQ(e->end(&key), -EFAULT);
	actor_end(h);
	actor_end(t[0]);
	actor_end(t[1]);
	PT_SYS(munmap(win, F_LEN));
	play_end(&p, e);
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

void play_fork(const struct engine *e)
{
	struct flight f;
	struct actor *t;
	struct play p;
	uint64_t key;

	if (!play_begin(&p, e, NULL))
		return;
	slow_hold(p.slow, true);
	f = play_pages(&p, 0, 4, false, KEY);
	PT_EQ(e->begin(&f, 1), 1);
	CU_ASSERT(slow_await(p.slow, 1));
	/* The child has no part in it, and its end ends nothing. */
	PT_EQ(child_sub(nothing, NULL), 0);
	CU_ASSERT(play_pins(&p, 1));
	t = stage_sender(act_truncate(p.path, 0));
	CU_ASSERT(look_until(p.fs, 1, 1, NULL));
	PT_EQ(child_sub(nothing, NULL), 0);
	PT_EQ(actor_result(t, 0), -EINPROGRESS);
	slow_release(p.slow, 0);
	PT_EQ(actor_result(t, SOON_MS), 0);
	PT_EQ(e->end(&key), 4 * PAGE);
	actor_end(t);
	play_end(&p, e);
}

/* ---- death ---- */

struct doomed {
	const struct engine *e;
	const char *path, *slow;
};

static int begin_and_wait(void *arg)
{
	const struct doomed *d = arg;
	struct flight f = { .len = F_LEN, .key = KEY };

	f.fd = open(d->slow, O_RDWR | O_DIRECT | O_CLOEXEC);
	f.buf = window(d->path, F_LEN);
	if (f.fd < 0 || f.buf == NULL || !d->e->open(8) || d->e->begin(&f, 1) != 1)
		return 1;
	for (;;)
		pause();
}

/*
 * The blocks stay out of use until the kernel has done what the dead process asked for: FUSE, like a disk, does not
 * take a request back. Where the process stays until then (libaio), the truncate waits; else the blocks are kept.
 */
void play_killed(const struct engine *e)
{
	struct pt_fs *fs = stage("16M", NULL);
	struct slow *slow = fs != NULL ? slow_start() : NULL;
	uint64_t len, end = pt_now_ms() + SOON_MS;
	char path[STAGE_PATH], v[STAGE_PATH];
	struct doomed d = { e, path, NULL };
	struct actor *t;
	struct look l;
	pid_t pid;
	long r;

	if (slow == NULL)
		return;
	d.slow = slow_path(slow);
	stage_file(fs, "f", path);
	slow_hold(slow, true);
	pid = pt_fork(begin_and_wait, &d);
	CU_ASSERT(slow_await(slow, 1));
	PT_SYS(kill(pid, SIGKILL));
	t = stage_sender(act_truncate(path, 0));
	do
		r = actor_result(t, 1);
	while (r == -EINPROGRESS && look(fs, &l) && l.nwait == 0 && pt_now_ms() < end);
	CU_ASSERT(r == -EINPROGRESS || r == 0);
	if (r == 0)
		CU_ASSERT(look_parked_until(fs, F_BLOCKS));
	(void)snprintf(v, sizeof v, "%s", pt_path(fs, "victim"));
	len = victim_make(v);
	slow_release(slow, 0);
	PT_EQ(pt_wait(pid, SOON_MS), 128 + SIGKILL);
	if (r != 0)
		PT_EQ(actor_result(t, SOON_MS), 0);
	CU_ASSERT(look_parked_until(fs, 0));
	CU_ASSERT(victim_intact(v, len));
	actor_end(t);
	slow_end(slow);
	pt_fs_end(fs);
}

void play_unprivileged(const char *const *cases)
{
	static char out[1 << 16];

	for (; *cases != NULL; cases++) {
		PT_SYS_FATAL(setenv("PINFS_TEST_USER_MODE", "1", 1));
		PT_EQ(pt_run(out, sizeof out, 120000,
			     (const char *[]){ "/proc/self/exe", "--filter", *cases, NULL }), 0);
		PT_SYS_FATAL(unsetenv("PINFS_TEST_USER_MODE"));
		if (strstr(out, "1 passed, 0 failed") == NULL)
			pt_say("%s without privilege: %s", *cases, out);
		CU_ASSERT_PTR_NOT_NULL(strstr(out, "1 passed, 0 failed"));
	}
}
