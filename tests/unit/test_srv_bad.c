/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_srv_bad.c - clients that a session server could do without: nonsense on the wire, nobody who reads, crowds that
 * come and go, processes that end in the middle. It still serves afterwards.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "base/log.h"
#include "front/wire.h"
#include "harness/unit.h"
#include "unit/space_env.h"
#include "unit/srv/client.h"

/* Does the server still serve? */
static bool well(struct env *v)
{
	struct cl *c = calloc(1, sizeof *c);
	bool ok;

	c->fd = connect_to(v->srv);
	ok = cl_init(c) == 0 && report(c, PF_REPORT_STATUS);
	close(c->fd);
	free(c);
	return ok;
}

static bool hung_up(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };
	char buf[4096];
	ssize_t n;

	do {
		if (poll(&p, 1, SRV_PATIENCE_MS) != 1)
			return false;
		n = recv(fd, buf, sizeof buf, 0);
	} while (n > 0);
	return true;
}

static void nonsense(void)
{
	struct fuse_init_in init = { .major = 7, .minor = 31 };
	struct fuse_in_header h;
	struct env v;
	struct cl *c;
	int fd, i;

	env_open(&v, PF_BUSY_WAIT, CHUNK);
	for (i = 0; i < 7; i++) {
		c = calloc(1, sizeof *c);
		c->fd = fd = connect_to(v.srv);
		h = (struct fuse_in_header){ .len = sizeof h, .opcode = FUSE_INIT, .unique = 1 };
		switch (i) {
		case 0:		/* no FUSE_INIT */
			send_msg(c, PF_P_REPORT, &(struct pf_p_report_in){ 0, 0 }, 8);
			break;
		case 1:		/* a header that is shorter than a header */
			h.len = 3;
			CU_ASSERT_EQUAL(send(fd, &h, sizeof h, 0), sizeof h);
			break;
		case 2:		/* longer than anything */
			h.len = PF_P_MSG_MAX + 1;
			CU_ASSERT_EQUAL(send(fd, &h, sizeof h, 0), sizeof h);
			break;
		case 3:		/* a body that is too short */
			CU_ASSERT_EQUAL(send(fd, &h, sizeof h, 0), sizeof h);
			break;
		case 4:		/* unique 0 is the daemon's */
			h.unique = 0;
			CU_ASSERT_EQUAL(send(fd, &h, sizeof h, 0), sizeof h);
			break;
		case 5:		/* twice */
			CU_ASSERT_EQUAL(cl_init(c), 0);
			send_msg(c, FUSE_INIT, &init, sizeof init);
			break;
		case 6:		/* another protocol: an answer, and then nothing else works */
			CU_ASSERT_EQUAL(cl_init(c), 0);
			CU_ASSERT_EQUAL(call(c, PF_P_HELLO, &(struct pf_p_hello_in){ .hi_major = 99 },
					     sizeof(struct pf_p_hello_in)),
					-EPROTO);
			CU_ASSERT_EQUAL(cl_setup(c, 1, 0, 0, 0, false), -ENOTCONN);
			CU_ASSERT_EQUAL(call(c, PF_P_KICK, &(struct pf_p_kick_in){ 0, 0 }, 8), -ENOTCONN);
			send_msg(c, PF_P_HELLO, "x", 1);
			break;
		default:
			break;
		}
		CU_ASSERT(hung_up(fd));
		close(fd);
		free(c);
	}
	/* Half a message, then nothing; a message byte by byte. */
	c = calloc(1, sizeof *c);
	c->fd = connect_to(v.srv);
	h = (struct fuse_in_header){ .len = sizeof h + 16, .opcode = FUSE_INIT, .unique = 9 };
	for (i = 0; i < (int)sizeof h; i++)
		CU_ASSERT_EQUAL(send(c->fd, (char *)&h + i, 1, 0), 1);
	CU_ASSERT(well(&v));
	for (i = 0; i < 16; i++)
		CU_ASSERT_EQUAL(send(c->fd, (char *)&init + i, 1, 0), 1);
	CU_ASSERT_EQUAL(answer_to(c, 9, NULL), 0);
	close(c->fd);
	free(c);
	CU_ASSERT(well(&v));
	env_close(&v);
}

/* Valid conversations with bits turned over: the server survives every one, and so does the filesystem. */
static void fuzz(void)
{
	static const uint32_t ops[] = {
		FUSE_SETUPMAPPING, FUSE_REMOVEMAPPING, PF_P_ATTACH, PF_P_DETACH, PF_P_PIN,
		PF_P_KICK,	   PF_P_INVAL_ACK,     PF_P_SYNC,   PF_P_REPORT, PF_P_FORGET_WAIT,
		PF_P_HELLO,	   FUSE_INIT,	       PF_P_EVICT,  0x1234
	};
	const char *env_seed = getenv("PINFS_SEED");
	uint64_t seed = env_seed ? strtoull(env_seed, NULL, 0) : 20240229, fh;
	struct env v;
	struct cl *c = NULL;
	int rounds = 0, lost = 0;

	if (seed == 0)
		seed = 1;
	printf("(PINFS_SEED=%llu) ", (unsigned long long)seed);
	env_open(&v, PF_BUSY_DEFER, 8 * CHUNK);
	v.e.fs->opts.revoke_timeout_ms = 1;	/* the fuzzer acknowledges nothing */
	for (rounds = 0; rounds < 6000; rounds++) {
		uint64_t body[40];
		struct fuse_in_header h = { .opcode = ops[rnd(&seed) % PF_ARRAY_LEN(ops)],
					    .unique = 1 + rnd(&seed) % 1000 };
		uint8_t msg[sizeof h + sizeof body];
		size_t len = 8 * (rnd(&seed) % 12);
		char drain[65536];

		if (!c) {
			c = cl_open(&v);
			CU_ASSERT_EQUAL(cl_attach(&v, c, true, &fh), 0);
		}
		for (size_t i = 0; i < PF_ARRAY_LEN(body); i++) {
			static const uint64_t likely[] = { 0,	       1,
							   2,	       3,
							   511,	       512,
							   4096,       CHUNK,
							   2 * CHUNK,  7 * CHUNK,
							   8 * CHUNK,  UINT32_MAX,
							   UINT64_MAX, UINT64_MAX - 4095,
							   INT64_MAX,  (uint64_t)1 << 62 };

			body[i] = rnd(&seed) % 16 == 0 ? rnd(&seed) : likely[rnd(&seed) % PF_ARRAY_LEN(likely)];
		}
		if (h.opcode == FUSE_SETUPMAPPING && rnd(&seed) % 4 != 0) {
			struct pf_p_map_in *in = (void *)body;
			uint64_t chunk = rnd(&seed) % 9;

			in->mi_map = (struct fuse_setupmapping_in){ fh, chunk * CHUNK, CHUNK, rnd(&seed) % 4,
								    rnd(&seed) % 33 * CHUNK };
			in->mi_fault_foff = chunk * CHUNK + rnd(&seed) % 513 * PAGE;
			len = sizeof *in;
		} else if (h.opcode == PF_P_PIN && rnd(&seed) % 4 != 0) {
			struct pf_p_pin_in *in = (void *)body;

			*in = (struct pf_p_pin_in){ fh, rnd(&seed) % 33, rnd(&seed) % 513, rnd(&seed) % 513,
						    rnd(&seed) % 5 };
			len = sizeof *in;
		} else if (h.opcode == PF_P_ATTACH || h.opcode == PF_P_HELLO) {
			len = sizeof(struct pf_p_attach_in);
		}
		h.len = (uint32_t)(sizeof h + len);
		if (rnd(&seed) % 64 == 0)
			h.len ^= 1U << rnd(&seed) % 32;
		memcpy(msg, &h, sizeof h);
		memcpy(msg + sizeof h, body, len);
		if (rnd(&seed) % 32 == 0)
			msg[rnd(&seed) % (sizeof h + len)] ^= (uint8_t)rnd(&seed);
		if (rnd(&seed) % 256 == 0)	/* and its ledger */
			c->slot[rnd(&seed) % 32].ls_page[rnd(&seed) % 512] = (uint32_t)rnd(&seed);
		if (send(c->fd, msg, sizeof h + len, MSG_NOSIGNAL) < 0) {
			cl_close(c);
			c = NULL;
			lost++;
			continue;
		}
		while (recv(c->fd, drain, sizeof drain, MSG_DONTWAIT) > 0)
			;
		if (rounds % 100 == 0) {
			CU_ASSERT_EQUAL(op_truncate(&v.e, v.ino, rnd(&seed) % (8 * CHUNK)), 0);
			CU_ASSERT_EQUAL(op_truncate(&v.e, v.ino, 8 * CHUNK), 0);
		}
		if (rounds % 500 == 0)
			CU_ASSERT(well(&v));
	}
	CU_ASSERT(lost > 0);
	CU_ASSERT(well(&v));
	if (c)
		cl_close(c);
	env_close(&v);			/* with fsck */
}

/* A client that asks and asks and never listens is served no more than it reads, and disturbs nobody. */
static void deaf(void)
{
	struct pf_p_report_in in = { .ri_what = PF_REPORT_STATUS };
	struct fuse_in_header h = { .len = sizeof h + sizeof in, .opcode = PF_P_REPORT, .unique = 5 };
	uint8_t msg[sizeof h + sizeof in];
	struct env v;
	struct cl *c;
	int i;

	env_open(&v, PF_BUSY_WAIT, CHUNK);
	c = calloc(1, sizeof *c);
	c->fd = connect_to(v.srv);
	CU_ASSERT_EQUAL(cl_init(c), 0);
	memcpy(msg, &h, sizeof h);
	memcpy(msg + sizeof h, &in, sizeof in);
	for (i = 0; i < 200000; i++)
		if (send(c->fd, msg, sizeof msg, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof msg)
			break;
	CU_ASSERT(i < 200000);		/* it is not read any more */
	CU_ASSERT_EQUAL(errno, EAGAIN);
	for (i = 0; i < 20; i++)
		CU_ASSERT(well(&v));
	/* When it does listen, everything is there. */
	CU_ASSERT_EQUAL(answer_to(c, 5, NULL), 0);
	CU_ASSERT_EQUAL(answer_to(c, 5, NULL), 0);
	close(c->fd);
	free(c);
	env_close(&v);
}

/* Sessions that come and go while others work. */
static void *come_and_go(void *arg)
{
	struct env *v = arg;

	for (int i = 0; i < 60; i++) {
		struct cl *c = cl_open(v);
		struct pf_p_inval in = { 0 };
		uint64_t fh;

		if (cl_attach(v, c, true, &fh) == 0 && cl_setup(c, fh, (uint32_t)i % 8, (uint64_t)(i % 4) * CHUNK,
								(uint64_t)(i % 4) * CHUNK, i % 2) == 0 &&
		    cl_pin(c, fh, (uint32_t)i % 8, 0, 2, i % 2 ? PF_PI_WRITE : 0) == 0)
			cl_unpin(c, (uint32_t)i % 8, 0, 2);
		while (c->ninval != 0 && notified(c, &in))
			ack(c, in.in_id);
		cl_close(c);
	}
	return NULL;
}

static void crowd(void)
{
	struct env v;
	pthread_t t[4];
	int i;

	env_open(&v, PF_BUSY_DEFER, 4 * CHUNK);
	v.e.fs->opts.revoke_timeout_ms = 20;
	for (i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, come_and_go, &v);
	for (i = 0; i < 40; i++) {
		CU_ASSERT_EQUAL(op_truncate(&v.e, v.ino, (uint64_t)(i % 4) * CHUNK + 100), 0);
		CU_ASSERT_EQUAL(op_truncate(&v.e, v.ino, 4 * CHUNK), 0);
	}
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	CU_ASSERT(well(&v));
	env_close(&v);
}

static unsigned int nr_sessions(struct env *v)
{
	struct pf_sess *s[64];
	unsigned int n = pf_reg_sessions(v->e.fs, s, PF_ARRAY_LEN(s));

	for (unsigned int i = 0; i < n; i++)
		pf_sess_put(s[i]);
	return n;
}

/* The end of the socket and the end of the process reach two workers together. For the sanitizers. */
static void mayflies(void)
{
	struct env v;
	pid_t pid[40];
	int i, st;

	env_open(&v, PF_BUSY_WAIT, CHUNK);
	for (i = 0; i < (int)PF_ARRAY_LEN(pid); i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			struct cl *k = calloc(1, sizeof *k);

			k->fd = connect_to(v.srv);
			_exit(cl_init(k) != 0 || cl_hello(k) != 0);
		}
	}
	for (i = 0; i < (int)PF_ARRAY_LEN(pid); i++) {
		CU_ASSERT_EQUAL(waitpid(pid[i], &st, 0), pid[i]);
		CU_ASSERT_EQUAL(st, 0);
	}
	for (i = 0; i < SRV_PATIENCE_MS && nr_sessions(&v) != 0; i++)
		sleep_ms(1);
	CU_ASSERT_EQUAL(nr_sessions(&v), 0);
	env_close(&v);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "nonsense", nonsense },
		{ "fuzz", fuzz },
		{ "a client that does not listen", deaf },
		{ "many that come and go", crowd },
		{ "processes that end at once", mayflies },
	};

	pf_log_init("test_srv_bad", PF_LOG_ERR, false);
	return unit_main("srv: bad clients", cases, PF_ARRAY_LEN(cases));
}
