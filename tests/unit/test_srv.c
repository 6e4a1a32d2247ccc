/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_srv.c - the session server over its real socket: set-up, windows, pins, reports, deaths.
 *
 * This process maps the device itself (it is the daemon, too), so a client in it that hangs up counts as one that still
 * maps the device.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "base/log.h"
#include "front/wire.h"
#include "harness/unit.h"
#include "unit/space_env.h"
#include "unit/srv/client.h"

/* To v's file. */
#define RIGHT(g) (&(struct pf_map_right){ v.ino, (g), true, { 0 } })

static void whole_way(void)
{
	struct env v;
	struct cl *c;
	uint64_t fh, fh2;
	char buf[64];

	env_open(&v, PF_BUSY_WAIT, 3 * CHUNK + 5000);
	c = cl_open(&v);
	CU_ASSERT_EQUAL(cl_attach(&v, c, true, &fh), 0);
	CU_ASSERT_EQUAL(((struct pf_p_attach_out *)(void *)c->body)->ao_size, 3 * CHUNK + 5000);
	/* A hole, then a store into it: the whole chunk, aligned. */
	CU_ASSERT_EQUAL(cl_setup(c, fh, 0, 0, 0, false), 0);
	CU_ASSERT_EQUAL(map_out(c)->mo_next, 0);
	CU_ASSERT_EQUAL(map_out(c)->mo_size, 3 * CHUNK + 5000);
	CU_ASSERT_EQUAL(atomic_load(&v.notified), 0);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 0, 0, 7 * PAGE, true), 0);
	CU_ASSERT(map_out(c)->mo_next >= 1);
	CU_ASSERT_EQUAL(extents(c)[0].e_foff, 0);
	CU_ASSERT_EQUAL(map_out(c)->mo_word, atomic_load(&c->slot[0].ls_word));
	/* Stored through the device, read through the file. */
	CU_ASSERT_EQUAL(pwrite(c->dev, "by way of the window", 20, (off_t)extents(c)[0].e_doff + 4096), 20);
	CU_ASSERT_EQUAL(op_read(&v.e, v.ino, 4096, buf, 20), 20);
	CU_ASSERT_EQUAL(memcmp(buf, "by way of the window", 20), 0);
	/* The last chunk: one page at a time; beyond the end nothing is allocated. */
	CU_ASSERT_EQUAL(cl_setup(c, fh, 1, 3 * CHUNK, 3 * CHUNK, true), 0);
	CU_ASSERT_EQUAL(map_out(c)->mo_next, 1);
	CU_ASSERT_EQUAL(extents(c)[0].e_len, PAGE);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 1, 3 * CHUNK, 3 * CHUNK + 2 * PAGE, true), 0);
	CU_ASSERT_EQUAL(map_out(c)->mo_next, 1);
	/* Errors */
	CU_ASSERT_EQUAL(cl_setup(c, fh, 1, 0, 0, false), -EBUSY);
	CU_ASSERT_EQUAL(cl_setup(c, fh + 77, 2, 0, 0, false), -EBADF);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 32, 0, 0, false), -EINVAL);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 2, PAGE, PAGE, false), -EINVAL);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 2, 0, CHUNK, false), -EINVAL);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 2, 0, 1, false), -EINVAL);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 2, PF_FILE_MAX, PF_FILE_MAX, false), -EINVAL);
	CU_ASSERT_EQUAL(cl_attach(&v, c, false, &fh2), 0);
	CU_ASSERT_EQUAL(cl_setup(c, fh2, 2, CHUNK, CHUNK, true), -EACCES);
	CU_ASSERT_EQUAL(cl_setup(c, fh2, 2, CHUNK, CHUNK, false), 0);
	CU_ASSERT_EQUAL(cl_pin(c, fh2, 2, 0, 1, PF_PI_WRITE), -EACCES);
	/* Pins */
	CU_ASSERT_EQUAL(cl_pin(c, fh, 2, 0, 1, 0), -EFAULT);	/* a device cannot read a hole */
	CU_ASSERT_EQUAL(cl_pin(c, fh, 2, 510, 2, PF_PI_WRITE), 0);
	CU_ASSERT_EQUAL(atomic_load(&c->slot[2].ls_pins), 1);
	CU_ASSERT_EQUAL(atomic_load(&c->slot[2].ls_page[511]), 1);
	CU_ASSERT_EQUAL(cl_pin(c, fh, 1, 1, 1, PF_PI_WRITE), 0);
	CU_ASSERT_EQUAL(cl_pin(c, fh, 1, 1, 2, PF_PI_WRITE), -EFAULT);	/* beyond the end */
	CU_ASSERT_EQUAL(cl_pin(c, fh, 5, 0, 1, 0), -ESTALE);
	CU_ASSERT_EQUAL(cl_pin(c, fh, 0, 511, 2, 0), -EINVAL);
	CU_ASSERT_EQUAL(cl_pin(c, fh, 0, 0, 0, 0), -EINVAL);
	CU_ASSERT_EQUAL(cl_pin(c, fh, 0, 0, 1, 0x80), -EINVAL);
	CU_ASSERT_EQUAL(cl_remove(c, 2), -EBUSY);
	cl_unpin(c, 2, 510, 2);
	cl_unpin(c, 1, 1, 1);
	CU_ASSERT_EQUAL(cl_remove(c, 2), 0);
	CU_ASSERT_EQUAL(cl_remove(c, 2), -EINVAL);
	{
		struct pf_p_sync_in s = { fh, 0, 0 };

		CU_ASSERT_EQUAL(call(c, PF_P_SYNC, &s, sizeof s), 0);
	}
	CU_ASSERT_EQUAL(call(c, PF_P_DETACH, &fh, sizeof fh), 0);
	CU_ASSERT_EQUAL(call(c, PF_P_DETACH, &fh, sizeof fh), -EBADF);
	CU_ASSERT_EQUAL(call(c, 0x7777, NULL, 0), -ENOSYS);
	for (int i = 0; i < SRV_PATIENCE_MS && atomic_load(&v.notified) < 3; i++)
		sleep_ms(1);
	CU_ASSERT(atomic_load(&v.notified) >= 3);
	cl_close(c);
	env_close(&v);
}

/* The right to a file: once, in time, by the process that asked. */
static void cookies(void)
{
	struct pf_p_attach_in in = { .ai_path = "" };
	struct pinfs_attach at;
	struct env v;
	struct cl *c;
	pid_t pid;
	int st;

	env_open(&v, PF_BUSY_WAIT, CHUNK);
	c = cl_open(&v);
	CU_ASSERT_EQUAL(call(c, PF_P_ATTACH, &in, sizeof in), -ESTALE);
	CU_ASSERT_EQUAL(pf_srv_attach_cookie(v.srv, RIGHT(v.gen), gettid(), &at), 0);
	CU_ASSERT_EQUAL(at.at_ino, v.ino);
	CU_ASSERT_EQUAL(at.at_write, 1);
	memcpy(in.ai_cookie, at.at_cookie, sizeof in.ai_cookie);
	in.ai_cookie[1] ^= 1;
	CU_ASSERT_EQUAL(call(c, PF_P_ATTACH, &in, sizeof in), -ESTALE);
	in.ai_cookie[1] ^= 1;
	pid = fork();
	if (pid == 0) {
		struct cl *k = calloc(1, sizeof *k);

		k->fd = connect_to(v.srv);
		_exit(cl_init(k) != 0 || cl_hello(k) != 0 || call(k, PF_P_ATTACH, &in, sizeof in) != -ESTALE);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &st, 0), pid);
	CU_ASSERT_EQUAL(st, 0);
	CU_ASSERT_EQUAL(call(c, PF_P_ATTACH, &in, sizeof in), 0);
	CU_ASSERT_EQUAL(call(c, PF_P_ATTACH, &in, sizeof in), -ESTALE);
	/* A file that was deleted and whose number was given out again. */
	CU_ASSERT_EQUAL(pf_srv_attach_cookie(v.srv, RIGHT(v.gen + 1), gettid(), &at), 0);
	memcpy(in.ai_cookie, at.at_cookie, sizeof in.ai_cookie);
	CU_ASSERT_EQUAL(call(c, PF_P_ATTACH, &in, sizeof in), -ESTALE);
	CU_ASSERT_EQUAL(pf_srv_attach_cookie(v.srv, RIGHT(v.gen), 0x3fffffff, &at), -ESRCH);
	/* More than are kept: the oldest are forgotten, nothing fails. */
	for (int i = 0; i < 10000; i++)
		CU_ASSERT_EQUAL(pf_srv_attach_cookie(v.srv, RIGHT(v.gen), gettid(), &at), 0);
	cl_close(c);
	env_close(&v);
}

/* A pin, a truncate, an unpin; new pins meanwhile. */
static void pin_and_truncate(void)
{
	struct pf_p_inval in = { 0 };
	struct env v;
	struct cl *c, *d;
	struct trunc t;
	uint64_t fh, fd, waiting;
	struct pf_p_cancel_in ca;

	env_open(&v, PF_BUSY_WAIT, 4 * CHUNK);
	c = cl_open(&v);
	d = cl_open(&v);
	CU_ASSERT_EQUAL(cl_attach(&v, c, true, &fh), 0);
	CU_ASSERT_EQUAL(cl_attach(&v, d, true, &fd), 0);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 0, 0, 0, true), 0);
	CU_ASSERT_EQUAL(cl_setup(d, fd, 0, 0, 0, true), 0);
	CU_ASSERT_EQUAL(cl_pin(c, fh, 0, 1, 1, PF_PI_WRITE), 0);
	trunc_start(&t, &v, 0);
	CU_ASSERT(notified(c, &in));
	CU_ASSERT_EQUAL(in.in_ino, v.ino);
	CU_ASSERT_EQUAL(in.in_foff, 0);
	ack(c, in.in_id);
	CU_ASSERT(notified(d, &in));
	ack(d, in.in_id);
	CU_ASSERT(parked(&v));
	CU_ASSERT(!atomic_load(&t.ended));
	CU_ASSERT(atomic_load(&c->slot[0].ls_word) & PF_SLOT_FROZEN);
	/* d holds nothing: it has to let the truncate go first. c may go on. */
	CU_ASSERT_EQUAL(cl_pin(d, fd, 0, 1, 1, 0), -EAGAIN);
	CU_ASSERT_EQUAL(cl_pin(c, fh, 0, 2, 1, 0), 0);
	/* A waiting pin, forgotten; another one, woken by the end of the truncate. */
	send_msg(d, PF_P_PIN, &(struct pf_p_pin_in){ fd, 0, 1, 1, PF_PI_WAIT }, sizeof(struct pf_p_pin_in));
	waiting = d->unique;
	CU_ASSERT_EQUAL(cl_setup(d, fd, 1, CHUNK, CHUNK, false), 0);	/* its other messages are served */
	ca.ca_unique = waiting;
	send_msg(d, PF_P_FORGET_WAIT, &ca, sizeof ca);
	CU_ASSERT_EQUAL(answer_to(d, waiting, NULL), -EINTR);
	send_msg(d, PF_P_PIN, &(struct pf_p_pin_in){ fd, 0, 1, 1, PF_PI_WAIT }, sizeof(struct pf_p_pin_in));
	waiting = d->unique;
	CU_ASSERT(report(d, PF_REPORT_STATUS));		/* it waits: messages are handled in order */
	cl_unpin(c, 0, 1, 1);
	sleep_ms(20);
	CU_ASSERT(!atomic_load(&t.ended));
	cl_unpin(c, 0, 2, 1);
	/* d was granted a chunk meanwhile: it is asked again. */
	CU_ASSERT(notified(c, &in));
	ack(c, in.in_id);
	CU_ASSERT(notified(d, &in));
	ack(d, in.in_id);
	CU_ASSERT_EQUAL(answer_to(d, waiting, NULL), -EAGAIN);
	CU_ASSERT_EQUAL(trunc_end(&t), 0);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 0, 0, 0, true), 0);
	CU_ASSERT_EQUAL(map_out(c)->mo_size, 0);
	CU_ASSERT_EQUAL(map_out(c)->mo_next, 0);
	cl_close(c);
	cl_close(d);
	env_close(&v);
}

/* PIN of the chunk at @foff. */
static void send_pin(struct cl *c, uint64_t fh, uint32_t slot, uint64_t foff, uint32_t flags)
{
	struct { struct pf_p_pin_in in; struct pf_p_pin_chunk chunk; } m = {
		{ fh, slot, 1, 1, flags | PF_PI_CHUNK }, { foff }
	};

	send_msg(c, PF_P_PIN, &m, sizeof m);
}

static int pin_chunk(struct cl *c, uint64_t fh, uint32_t slot, uint64_t foff)
{
	send_pin(c, fh, slot, foff, PF_PI_WRITE);
	return answer_to(c, c->unique, NULL);
}

/* A slot that the client takes back while one of its threads asks for a pin there: nothing is counted. */
static void slot_moves(void)
{
	struct pf_p_inval in = { 0 };
	struct env v;
	struct cl *c, *d;
	uint64_t fh, fd, asked;

	env_open(&v, PF_BUSY_WAIT, 4 * CHUNK);
	c = cl_open(&v);
	d = cl_open(&v);
	CU_ASSERT_EQUAL(cl_attach(&v, c, true, &fh), 0);
	CU_ASSERT_EQUAL(cl_attach(&v, d, true, &fd), 0);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 0, 0, 0, true), 0);
	CU_ASSERT_EQUAL(pin_chunk(c, fh, 0, 0), 0);
	cl_unpin(c, 0, 1, 1);
	CU_ASSERT_EQUAL(cl_remove(c, 0), 0);
	CU_ASSERT_EQUAL(pin_chunk(c, fh, 0, 0), -ESTALE);
	CU_ASSERT_EQUAL(cl_pin(c, fh, 0, 1, 1, PF_PI_WRITE), -ESTALE);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 0, CHUNK, CHUNK, true), 0);
	CU_ASSERT_EQUAL(pin_chunk(c, fh, 0, 0), -ESTALE);
	CU_ASSERT_EQUAL(atomic_load(&c->slot[0].ls_pins), 0);
	CU_ASSERT_EQUAL(pin_chunk(c, fh, 0, CHUNK), 0);
	CU_ASSERT_EQUAL(atomic_load(&c->slot[0].ls_page[1]), 1);
	cl_unpin(c, 0, 1, 1);

	/* Put aside, since somebody was shown the hole: the slot is given up before the pin's turn comes. */
	CU_ASSERT_EQUAL(cl_setup(c, fh, 1, 2 * CHUNK, 2 * CHUNK, false), 0);
	CU_ASSERT_EQUAL(cl_setup(d, fd, 0, 2 * CHUNK, 2 * CHUNK, false), 0);
	send_pin(c, fh, 1, 2 * CHUNK, PF_PI_WRITE);
	asked = c->unique;
	CU_ASSERT(notified(d, &in));
	CU_ASSERT_EQUAL(cl_remove(c, 1), 0);
	ack(d, in.in_id);
	CU_ASSERT_EQUAL(answer_to(c, asked, NULL), -ESTALE);
	CU_ASSERT_EQUAL(atomic_load(&c->slot[1].ls_pins), 0);
	CU_ASSERT_EQUAL(cl_remove(c, 1), -EINVAL);
	/* ... and wanted for another chunk, which waits for the same acknowledgement: either may come first. */
	CU_ASSERT_EQUAL(cl_setup(c, fh, 1, 3 * CHUNK, 3 * CHUNK, false), 0);
	CU_ASSERT_EQUAL(cl_setup(d, fd, 1, 3 * CHUNK, 3 * CHUNK, false), 0);
	send_pin(c, fh, 1, 3 * CHUNK, PF_PI_WRITE);
	asked = c->unique;
	CU_ASSERT(notified(d, &in));
	CU_ASSERT_EQUAL(cl_remove(c, 1), 0);
	send_setup(c, fh, 1, 0, 0, false);
	ack(d, in.in_id);
	c->other = asked;
	CU_ASSERT_EQUAL(answer_to(c, c->unique, NULL), 0);
	CU_ASSERT_EQUAL(c->other == 0 ? c->other_err : answer_to(c, asked, NULL), -ESTALE);
	CU_ASSERT_EQUAL(atomic_load(&c->slot[1].ls_pins), 0);
	cl_close(c);
	cl_close(d);
	env_close(&v);
}

/* A break and a store into a hole by somebody else: who was shown the hole is told. */
static void holes(void)
{
	struct pf_p_inval in = { 0 };
	struct env v;
	struct cl *c, *d;
	uint64_t fh, fd;

	env_open(&v, PF_BUSY_WAIT, CHUNK);
	c = cl_open(&v);
	d = cl_open(&v);
	CU_ASSERT_EQUAL(cl_attach(&v, c, true, &fh), 0);
	CU_ASSERT_EQUAL(cl_attach(&v, d, true, &fd), 0);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 0, 0, 0, false), 0);
	CU_ASSERT_EQUAL(cl_setup(d, fd, 0, 0, 0, false), 0);
	send_msg(d, FUSE_SETUPMAPPING,
		 &(struct pf_p_map_in){
			 .mi_map = { .fh = fd,
				     .len = CHUNK,
				     .flags = FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE } },
		 sizeof(struct pf_p_map_in));
	CU_ASSERT(notified(c, &in));
	CU_ASSERT_EQUAL(in.in_len, CHUNK);
	ack(c, in.in_id);
	CU_ASSERT_EQUAL(answer_to(d, d->unique, NULL), 0);
	CU_ASSERT_EQUAL(d->ninval, 0);			/* its answer is news enough */
	CU_ASSERT(map_out(d)->mo_next >= 1);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 0, 0, 0, false), 0);
	CU_ASSERT(map_out(c)->mo_next >= 1);
	cl_close(c);
	cl_close(d);
	env_close(&v);
}

/* kill -9 ends the pins of the killed. */
static void killed(void)
{
	struct env v;
	struct trunc t;
	int sv[2], st;
	char ok = 0;
	pid_t pid;

	env_open(&v, PF_BUSY_WAIT, CHUNK);
	CU_ASSERT_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	pid = fork();
	if (pid == 0) {
		struct pf_p_inval in = { 0 };
		struct pinfs_attach at;
		struct cl *c = cl_open(&v);
		struct pf_p_attach_in ai = { .ai_path = "x" };

		/* The parent is the daemon: it has to make the cookie. */
		if (write(sv[1], "?", 1) != 1 || read(sv[1], &at, sizeof at) != sizeof at)
			_exit(1);
		memcpy(ai.ai_cookie, at.at_cookie, sizeof ai.ai_cookie);
		if (call(c, PF_P_ATTACH, &ai, sizeof ai) != 0 || cl_setup(c, 1, 0, 0, 0, true) != 0 ||
		    cl_pin(c, 1, 0, 0, 512, 0) != 0)
			_exit(2);
		if (write(sv[1], "!", 1) != 1 || !notified(c, &in))
			_exit(3);
		ack(c, in.in_id);
		for (;;)
			(void)pause();
	}
	close(sv[1]);			/* so that its end is seen */
	{
		struct pinfs_attach at;

		CU_ASSERT_EQUAL(read(sv[0], &ok, 1), 1);
		CU_ASSERT_EQUAL(pf_srv_attach_cookie(v.srv, RIGHT(v.gen), pid, &at), 0);
		CU_ASSERT_EQUAL(write(sv[0], &at, sizeof at), sizeof at);
		CU_ASSERT_EQUAL(read(sv[0], &ok, 1), 1);
		CU_ASSERT_EQUAL(ok, '!');
	}
	trunc_start(&t, &v, 0);
	CU_ASSERT(parked(&v));
	sleep_ms(20);
	CU_ASSERT(!atomic_load(&t.ended));
	CU_ASSERT_EQUAL(kill(pid, SIGKILL), 0);
	CU_ASSERT_EQUAL(waitpid(pid, &st, 0), pid);
	CU_ASSERT_EQUAL(trunc_end(&t), 0);
	close(sv[0]);
	env_close(&v);
}

static bool says(struct cl *c, const char *what)
{
	return strstr((char *)c->body, what) != NULL;
}

static void reports(void)
{
	uint64_t fh, seed = 42;
	struct pf_p_inval in = { 0 };
	struct trunc t;
	struct env v;
	struct cl *c;
	char want[64];
	pid_t pid;
	int st;

	env_open(&v, PF_BUSY_WAIT, CHUNK);
	c = cl_open(&v);
	CU_ASSERT_EQUAL(cl_attach(&v, c, true, &fh), 0);
	CU_ASSERT_EQUAL(cl_setup(c, fh, 0, 0, 0, true), 0);
	CU_ASSERT_EQUAL(cl_pin(c, fh, 0, 4, 3, 0), 0);
	c->rec[17] = (struct pf_l_rec){ .lr_state = PF_REC_LIVE, .lr_tid = 5, .lr_ino = v.ino, .lr_foff = 4 * PAGE,
					.lr_len = 3 * PAGE, .lr_start_ns = pf_lay_now(), .lr_api = PF_API_DMAEMU,
					.lr_label = "\"\\\x01 nic \xc3\xa4\xff!" };
	CU_ASSERT(report(c, PF_REPORT_STATUS));
	CU_ASSERT(says(c, "\"on_busy\":\"wait\""));
	CU_ASSERT(says(c, "\"slots_used\":1,\"slots_total\":32"));
	CU_ASSERT(says(c, "\"pins\":1"));
	CU_ASSERT(says(c, "\"waiters\":0"));
	trunc_start(&t, &v, 0);
	CU_ASSERT(notified(c, &in));
	ack(c, in.in_id);
	CU_ASSERT(parked(&v));
	CU_ASSERT(report(c, PF_REPORT_PINS));
	CU_ASSERT(says(c, "\"label\":\"\\\"\\\\\\u0001 nic \xc3\xa4\\u00ff!\""));
	CU_ASSERT(says(c, "\"file\":\"/mnt/test/a \\\"file\\\"\\u000a\\u00ff\""));
	CU_ASSERT(says(c, "\"api\":\"dmaemu\""));
	CU_ASSERT(says(c, "\"what\":\"truncate\""));
	CU_ASSERT(says(c, "\"state\":\"pins\""));
	(void)snprintf(want, sizeof want, "\"pid\":%d,", (int)getpid());
	CU_ASSERT(says(c, want));
	CU_ASSERT(says(c, "\"pages\":3"));
	CU_ASSERT(report(c, PF_REPORT_STATUS));
	CU_ASSERT(says(c, "\"waiters\":1"));
	CU_ASSERT_EQUAL(call(c, PF_P_REPORT, &(struct pf_p_report_in){ 99, 0 }, 8), -EINVAL);
	/* Somebody who may not open the device: no windows, but reports, without other people's file names. */
	pid = getuid() == 0 ? fork() : -1;
	if (pid == 0) {
		struct cl *k = calloc(1, sizeof *k);

		if (setgid(65534) != 0 || setuid(65534) != 0)
			_exit(9);
		k->fd = connect_to(v.srv);
		if (cl_init(k) != 0 || cl_hello(k) != -EACCES || !report(k, PF_REPORT_PINS))
			_exit(1);
		_exit(says(k, "a \\\"file") || !says(k, "\"file\":\"\"") ||
		      cl_setup(k, 1, 0, 0, 0, false) != -ENOTCONN);
	}
	if (pid > 0) {
		CU_ASSERT_EQUAL(waitpid(pid, &st, 0), pid);
		CU_ASSERT_EQUAL(st, 0);
	} else {
		printf("SKIP another user: not root\n");
	}
	cl_unpin(c, 0, 4, 3);
	CU_ASSERT_EQUAL(trunc_end(&t), 0);
	/* A ledger full of rubbish. */
	for (uint32_t i = 0; i < PF_LEDGER_RECS; i++) {
		uint64_t *p = (void *)&c->rec[i];

		for (size_t k = 0; k < sizeof c->rec[i] / 8; k++)
			p[k] = rnd(&seed);
		atomic_store(&c->rec[i].lr_state, PF_REC_LIVE);
	}
	memset(c->slot, 0xff, sizeof *c->slot);
	CU_ASSERT(report(c, PF_REPORT_PINS));
	CU_ASSERT(c->len <= PF_P_MSG_MAX);
	CU_ASSERT(says(c, "\"pins_left_off\":"));
	CU_ASSERT(report(c, PF_REPORT_STATUS));
	cl_close(c);
	env_close(&v);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "set-up, windows, pins, errors", whole_way },
		{ "cookies", cookies },
		{ "a pin and a truncate", pin_and_truncate },
		{ "pins of slots that move", slot_moves },
		{ "holes that are filled", holes },
		{ "a holder that is killed", killed },
		{ "reports", reports },
	};

	pf_log_init("test_srv", PF_LOG_ERR, false);
	return unit_main("srv", cases, PF_ARRAY_LEN(cases));
}
