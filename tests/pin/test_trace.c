/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_trace.c - a trace of several processes with several threads, read as the protocol gives it: every pin of each
 * is in it, once and in order; what was overwritten is counted to the last event; before and after, nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <pinfs/pin.h>
#include <pinfs/trace.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"
#include "pin/raw.h"

#define K UINT64_C(1024)
#define F_LEN (256 * K)
#define PROCS 3U
#define THREADS 4U
#define PINS 200U
#define MANY 100000U

struct scene { char path[4096]; unsigned int threads, pins; char *map; };

static void *pin_often(void *arg)
{
	const struct scene *s = arg;
	struct pinfs_pin *pin;

	for (unsigned int i = 0; i < s->pins; i++)
		if (pinfs_pin(s->map + i % 60 * 4 * K, 4 * K, PINFS_PIN_WRITE, &pin) != 0 || pinfs_unpin(pin) != 0)
			return arg;
	return NULL;
}

static int play(void *arg)
{
	struct scene *s = arg;
	pthread_t t[THREADS];
	void *bad;
	int fd = open(s->path, O_RDWR | O_CLOEXEC);

	NEED(fd >= 0);
	s->map = child_map(fd, F_LEN);
	NEED(s->map != NULL);
	for (unsigned int i = 0; i < s->threads; i++)
		NEED(pthread_create(&t[i], NULL, pin_often, s) == 0);
	for (unsigned int i = 0; i < s->threads; i++) {
		NEED(pthread_join(t[i], &bad) == 0);
		NEED(bad == NULL);
	}
	return 0;
}

/* ---- reading ---- */

struct trace {
	struct raw r;
	struct pt_fs *fs;
	struct scene scene;
	struct pf_t_ev *ev;
	size_t n, room;
	uint64_t lost, since_ns;
};

static struct { struct pf_p_trace_out head; struct pf_t_ev ev[PF_P_TRACE_MAX]; } answer;

static int order(struct trace *t, enum pf_p_trace_what what)
{
	const struct pf_p_trace_in in = { .ti_what = what };

	return raw_call(&t->r, PF_P_TRACE, &in, sizeof in, NULL, 0);
}

static bool take(int sock, void *buf, size_t len)
{
	char *p = buf;

	while (len != 0) {
		const ssize_t n = recv(sock, p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

/* Longer answers than raw_call() has room for. The connection has no session, so there are no notifies. */
static int ask(struct trace *t)
{
	struct fuse_out_header h;

	if (!raw_send(&t->r, PF_P_TRACE_READ, NULL, 0) || !take(t->r.sock, &h, sizeof h))
		return -ECONNRESET;
	if (h.error != 0 || h.len - sizeof h > sizeof answer)
		return h.error != 0 ? h.error : -EPROTO;
	return take(t->r.sock, &answer, h.len - sizeof h) ? 0 : -ECONNRESET;
}

static void read_all(struct trace *t)
{
	do {
		CU_ASSERT_EQUAL_FATAL(ask(t), 0);
		CU_ASSERT_FATAL(answer.head.to_nev <= PF_P_TRACE_MAX);
		if (t->n + answer.head.to_nev > t->room) {
			t->room = 2 * t->room + PF_P_TRACE_MAX;
			t->ev = realloc(t->ev, t->room * sizeof *t->ev);
			CU_ASSERT_PTR_NOT_NULL_FATAL(t->ev);
		}
		memcpy(t->ev + t->n, answer.ev, answer.head.to_nev * sizeof *t->ev);
		t->n += answer.head.to_nev;
		t->lost += answer.head.to_lost;
		t->since_ns = answer.head.to_since_ns;
	} while (answer.head.to_more);
}

static size_t count(const struct trace *t, enum pf_t_type type, uint32_t pid)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		n += t->ev[i].te_type == type && (pid == 0 || t->ev[i].te_pid == pid);
	return n;
}

static void begin(struct trace *t, unsigned int threads, unsigned int pins)
{
	char zero[4096] = { 0 };
	int fd;

	memset(t, 0, sizeof *t);
	t->fs = pt_fs_start("64M", NULL);
	t->scene = (struct scene){ .threads = threads, .pins = pins };
	(void)snprintf(t->scene.path, sizeof t->scene.path, "%s", pt_path(t->fs, "f"));
	fd = open(t->scene.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CU_ASSERT_FATAL(fd >= 0);
	for (uint64_t at = 0; at < F_LEN; at += sizeof zero)
		PT_EQ(pwrite(fd, zero, sizeof zero, (off_t)at), (ssize_t)sizeof zero);
	(void)close(fd);
	raw_up(&t->r, t->fs, false);
}

static void end(struct trace *t)
{
	raw_down(&t->r);
	free(t->ev);
	pt_fs_end(t->fs);
}

/* ---- cases ---- */

static void everybody(void)
{
	pid_t pid[PROCS];
	struct trace t;

	begin(&t, THREADS, PINS);
	PT_EQ(order(&t, PF_P_TRACE_START), 0);
	for (unsigned int i = 0; i < PROCS; i++)
		pid[i] = child_start(play, &t.scene);
	for (unsigned int i = 0; i < PROCS; i++)
		PT_EQ(child_end(pid[i]), 0);
	read_all(&t);
	PT_EQ(t.lost, 0);
	for (unsigned int i = 0; i < PROCS; i++) {
		PT_EQ(count(&t, PF_TE_PIN, (uint32_t)pid[i]), THREADS * PINS);
		PT_EQ(count(&t, PF_TE_UNPIN, (uint32_t)pid[i]), THREADS * PINS);
		PT_EQ(count(&t, PF_TE_JOIN, (uint32_t)pid[i]), 1);
		CU_ASSERT_TRUE(count(&t, PF_TE_FAULT, (uint32_t)pid[i]) > 0);
	}
	/* By turns: a record that is pinned is unpinned before it is pinned again, later, and by the same thread. */
	for (size_t i = 0; i < t.n; i++) {
		size_t k = i + 1;

		CU_ASSERT_TRUE(t.ev[i].te_ns >= t.since_ns);
		if (t.ev[i].te_type != PF_TE_PIN)
			continue;
		while (k < t.n && (t.ev[k].te_sess != t.ev[i].te_sess || t.ev[k].te_id != t.ev[i].te_id ||
				   (t.ev[k].te_type != PF_TE_PIN && t.ev[k].te_type != PF_TE_UNPIN)))
			k++;
		CU_ASSERT_FATAL(k < t.n);
		CU_ASSERT_FATAL(t.ev[k].te_type == PF_TE_UNPIN && t.ev[k].te_tid == t.ev[i].te_tid &&
				t.ev[k].te_foff == t.ev[i].te_foff && t.ev[k].te_ns >= t.ev[i].te_ns);
	}
	end(&t);
}

/* Nobody reads while it happens: the ring holds the last ones, and the others are a number. */
static void overwritten(void)
{
	struct trace t;
	size_t got;

	begin(&t, 1, MANY);
	PT_EQ(order(&t, PF_P_TRACE_START), 0);
	child_play(play, &t.scene);
	read_all(&t);
	got = count(&t, PF_TE_PIN, 0) + count(&t, PF_TE_UNPIN, 0);
	CU_ASSERT_TRUE(got > 0 && got <= PF_T_CELLS);
	/* Faults at the beginning are among the lost. */
	CU_ASSERT_TRUE(got + t.lost >= 2 * MANY && got + t.lost < 2 * MANY + 200);
	end(&t);
}

static void on_and_off(void)
{
	struct trace t;
	pid_t pid;

	begin(&t, 1, 10);
	PT_EQ(ask(&t), -EINVAL);
	PT_EQ(order(&t, PF_P_TRACE_STOP), -EINVAL);
	PT_EQ(order(&t, (enum pf_p_trace_what)77), -EINVAL);
	child_play(play, &t.scene);			/* before it */
	PT_EQ(order(&t, PF_P_TRACE_START), 0);
	PT_EQ(order(&t, PF_P_TRACE_START), -EBUSY);
	pid = child_start(play, &t.scene);
	PT_EQ(child_end(pid), 0);
	PT_EQ(order(&t, PF_P_TRACE_STOP), 0);
	child_play(play, &t.scene);			/* after it */
	read_all(&t);
	PT_EQ(count(&t, PF_TE_PIN, 0), 10);
	PT_EQ(count(&t, PF_TE_PIN, (uint32_t)pid), 10);
	PT_EQ(order(&t, PF_P_TRACE_END), 0);
	PT_EQ(ask(&t), -EINVAL);
	/* Another one begins with nothing. */
	t.n = 0;
	PT_EQ(order(&t, PF_P_TRACE_START), 0);
	read_all(&t);
	PT_EQ(count(&t, PF_TE_PIN, 0), 0);
	end(&t);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "everybody", everybody, 0 },
		{ "overwritten", overwritten, 0 },
		{ "on-and-off", on_and_off, 0 },
	};
	static const struct pt_suite suite = { "trace", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
