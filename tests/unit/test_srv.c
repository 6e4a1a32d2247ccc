/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_srv.c - the session server over its real socket: set-up, windows, pins, reports, deaths, and nonsense.
 *
 * The client is this process, or a forked one where its death or its user matters. This process maps the device
 * itself (it is the daemon, too), so a client in it that hangs up counts as one that still maps the device.
 */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <pinfs/ledger.h>
#include <pinfs/proto.h>
#include <pinfs/version.h>
#include "base/log.h"
#include "front/srv.h"
#include "front/wire.h"
#include "harness/unit.h"
#include "op/op_map.h"
#include "share/lay.h"
#include "unit/op_env.h"
#include "unit/space_env.h"

#define CHUNK PF_CHUNK_SIZE
#define PAGE PF_BLK_SIZE

struct env {
	struct op_env e;
	struct pf_srv *srv;
	uint64_t ino;
	uint32_t gen;
	_Atomic unsigned int notified;
};

static void on_change(void *arg, uint64_t ino, bool data)
{
	struct env *v = arg;

	CU_ASSERT_EQUAL(ino, v->ino);
	CU_ASSERT_FALSE(data);
	CU_ASSERT(pf_rank_none());
	atomic_fetch_add(&v->notified, 1);
}

static void env_open(struct env *v, enum pf_busy policy, uint64_t size)
{
	struct pf_entry en;

	memset(v, 0, sizeof *v);
	op_env_open(&v->e, UINT64_C(64) << 20);
	v->e.fs->opts.policy.on_busy = policy;
	v->e.fs->opts.window = 32 * CHUNK;
	v->e.fs->opts.revoke_timeout_ms = 5000;
	CU_ASSERT_EQUAL_FATAL(op_create(&v->e, PF_INO_ROOT, "file", 0644, &v->ino), 0);
	CU_ASSERT_EQUAL_FATAL(pf_op_lookup(v->e.fs, PF_INO_ROOT, "file", &en), 0);
	pf_op_forget(v->e.fs, v->ino, 1);
	v->gen = en.gen;
	CU_ASSERT_EQUAL_FATAL(op_truncate(&v->e, v->ino, size), 0);
	CU_ASSERT_EQUAL_FATAL(pf_srv_start(v->e.fs, "/mnt/test", &v->srv), 0);
	pf_srv_set_notify(v->srv, on_change, v);
}

static void env_close(struct env *v)
{
	pf_lay_shutdown(v->e.fs, -ESHUTDOWN);
	pf_srv_stop(v->srv);
	op_env_close(&v->e);
}

/* The client */

struct cl {
	int fd, dev, led;
	uint64_t unique;
	struct pf_l_hdr *hdr;
	struct pf_l_slot *slot;
	struct pf_l_rec *rec;
	struct pf_p_inval inval[64];	/* that came while an answer was awaited */
	unsigned int ninval;
	size_t len;			/* of the last answer's body */
	uint8_t body[PF_P_MSG_MAX];
};

static int connect_to(struct pf_srv *srv)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct pinfs_sock name;
	int fd;

	pf_srv_sock(srv, &name);
	memcpy(sa.sun_path + 1, name.so_sock, strlen(name.so_sock));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
								      strlen(name.so_sock))) != 0)
		abort();
	return fd;
}

static void send_msg(struct cl *c, uint32_t opcode, const void *body, size_t len)
{
	struct fuse_in_header h = { .len = (uint32_t)(sizeof h + len), .opcode = opcode, .unique = ++c->unique };
	uint8_t buf[1024];

	memcpy(buf, &h, sizeof h);
	if (len != 0)
		memcpy(buf + sizeof h, body, len);
	if (send(c->fd, buf, sizeof h + len, MSG_NOSIGNAL) != (ssize_t)(sizeof h + len))
		c->unique = 0;
}

static bool take(struct cl *c, void *buf, size_t len, int fds[2])
{
	char ctl[CMSG_SPACE(2 * sizeof(int))];
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl };
	struct pollfd p = { c->fd, POLLIN, 0 };
	struct cmsghdr *cm;
	ssize_t n;

	while (iov.iov_len != 0) {
		if (poll(&p, 1, 10000) != 1)
			return false;
		m.msg_controllen = sizeof ctl;
		n = recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC);
		if (n <= 0)
			return false;
		cm = CMSG_FIRSTHDR(&m);
		if (cm && fds && cm->cmsg_len == CMSG_LEN(2 * sizeof(int)))
			memcpy(fds, CMSG_DATA(cm), 2 * sizeof(int));
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
	}
	return true;
}

#define CL_HUNG_UP 1000

/* The answer to request @unique: its error; its body is in c->body. Notifies are kept. */
static int answer_to(struct cl *c, uint64_t unique, int fds[2])
{
	struct fuse_out_header h;

	for (;;) {
		if (!take(c, &h, sizeof h, fds) || h.len < sizeof h || h.len > sizeof c->body ||
		    !take(c, c->body, h.len - sizeof h, NULL))
			return CL_HUNG_UP;
		c->len = h.len - sizeof h;
		if (h.unique == unique)
			return h.error;
		CU_ASSERT_EQUAL(h.unique, 0);
		CU_ASSERT_EQUAL(h.error, PF_P_NOTIFY_INVAL);
		if (c->ninval < PF_ARRAY_LEN(c->inval))
			memcpy(&c->inval[c->ninval++], c->body, sizeof c->inval[0]);
	}
}

static int call(struct cl *c, uint32_t opcode, const void *body, size_t len)
{
	send_msg(c, opcode, body, len);
	return answer_to(c, c->unique, NULL);
}

/* The next notify. */
static bool notified(struct cl *c, struct pf_p_inval *in)
{
	struct fuse_out_header h;

	if (c->ninval != 0) {
		*in = c->inval[0];
		memmove(c->inval, c->inval + 1, --c->ninval * sizeof *in);
		return true;
	}
	return take(c, &h, sizeof h, NULL) && h.unique == 0 && h.len == sizeof h + sizeof *in &&
	       take(c, in, sizeof *in, NULL);
}

static void ack(struct cl *c, uint64_t id)
{
	struct pf_p_ack_in in = { id };

	send_msg(c, PF_P_INVAL_ACK, &in, sizeof in);
}

static int cl_init(struct cl *c)
{
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };

	return call(c, FUSE_INIT, &in, sizeof in);
}

static int cl_hello(struct cl *c)
{
	struct pf_p_hello_in in = { .hi_major = PINFS_PROTO_MAJOR };
	int fds[2] = { -1, -1 }, err;

	send_msg(c, PF_P_HELLO, &in, sizeof in);
	err = answer_to(c, c->unique, fds);
	c->dev = fds[0];
	c->led = fds[1];
	return err;
}

static struct cl *cl_open(struct env *v)
{
	struct cl *c = calloc(1, sizeof *c);

	c->dev = c->led = -1;
	c->fd = connect_to(v->srv);
	CU_ASSERT_EQUAL(cl_init(c), 0);
	CU_ASSERT_EQUAL_FATAL(cl_hello(c), 0);
	c->hdr = mmap(NULL, 4096, PROT_READ, MAP_SHARED, c->led, 0);
	CU_ASSERT_NOT_EQUAL_FATAL((void *)c->hdr, MAP_FAILED);
	CU_ASSERT_EQUAL(c->hdr->lh_magic, PF_LEDGER_MAGIC);
	{
		uint64_t bytes = c->hdr->lh_bytes;

		munmap(c->hdr, 4096);
		c->hdr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->led, 0);
	}
	CU_ASSERT_NOT_EQUAL_FATAL((void *)c->hdr, MAP_FAILED);
	c->slot = (void *)((char *)c->hdr + c->hdr->lh_slot_off);
	c->rec = (void *)((char *)c->hdr + c->hdr->lh_rec_off);
	return c;
}

static void cl_close(struct cl *c)
{
	if (c->hdr)
		munmap(c->hdr, c->hdr->lh_bytes);
	if (c->led >= 0)
		close(c->led);
	if (c->dev >= 0)
		close(c->dev);
	close(c->fd);
	free(c);
}

static int cl_attach(struct env *v, struct cl *c, bool write, uint64_t *fh)
{
	struct pf_p_attach_in in = { .ai_path = "/mnt/test/a \"file\"\n\xff" };
	struct pinfs_attach at;
	int err;

	CU_ASSERT_EQUAL(pf_srv_attach_cookie(v->srv, v->ino, v->gen, write, gettid(), &at), 0);
	memcpy(in.ai_cookie, at.at_cookie, sizeof in.ai_cookie);
	err = call(c, PF_P_ATTACH, &in, sizeof in);
	*fh = err == 0 ? ((struct pf_p_attach_out *)(void *)c->body)->ao_fh : 0;
	return err;
}

static struct pf_p_map_out *map_out(struct cl *c) { return (void *)c->body; }
static struct pf_p_extent *extents(struct cl *c) { return (void *)(c->body + sizeof(struct pf_p_map_out)); }

static int cl_setup(struct cl *c, uint64_t fh, uint32_t slot, uint64_t foff, uint64_t fault, bool write)
{
	struct pf_p_map_in in = {
		.mi_map = { .fh = fh, .foffset = foff, .len = CHUNK, .moffset = (uint64_t)slot * CHUNK,
			    .flags = FUSE_SETUPMAPPING_FLAG_READ | (write ? FUSE_SETUPMAPPING_FLAG_WRITE : 0) },
		.mi_fault_foff = fault,
	};

	return call(c, FUSE_SETUPMAPPING, &in, sizeof in);
}

static int cl_remove(struct cl *c, uint32_t slot)
{
	struct { struct fuse_removemapping_in in; struct fuse_removemapping_one one; } PF_UNUSED x;
	uint8_t buf[sizeof x.in + sizeof x.one];

	x.in = (struct fuse_removemapping_in){ .count = 1 };
	x.one = (struct fuse_removemapping_one){ .moffset = (uint64_t)slot * CHUNK, .len = CHUNK };
	memcpy(buf, &x.in, sizeof x.in);
	memcpy(buf + sizeof x.in, &x.one, sizeof x.one);
	return call(c, FUSE_REMOVEMAPPING, buf, sizeof buf);
}

static int cl_pin(struct cl *c, uint64_t fh, uint32_t slot, uint32_t first, uint32_t n, uint32_t flags)
{
	struct pf_p_pin_in in = { fh, slot, first, n, flags };

	return call(c, PF_P_PIN, &in, sizeof in);
}

static void cl_unpin(struct cl *c, uint32_t slot, uint32_t first, uint32_t n)
{
	struct pf_p_kick_in in = { .ki_slot = slot };

	for (uint32_t i = first; i < first + n; i++)
		atomic_fetch_sub(&c->slot[slot].ls_page[i], 1);
	atomic_fetch_sub(&c->slot[slot].ls_pins, 1);
	if (atomic_load(&c->slot[slot].ls_word) & PF_SLOT_FROZEN)
		send_msg(c, PF_P_KICK, &in, sizeof in);
}

/* A truncate in a thread of its own */

struct trunc { struct env *v; uint64_t size; int err; _Atomic bool ended; pthread_t t; };

static void *trunc_main(void *arg)
{
	struct trunc *t = arg;

	t->err = op_truncate(&t->v->e, t->v->ino, t->size);
	atomic_store(&t->ended, true);
	return NULL;
}

static void trunc_start(struct trunc *t, struct env *v, uint64_t size)
{
	*t = (struct trunc){ .v = v, .size = size };
	pthread_create(&t->t, NULL, trunc_main, t);
}

static int trunc_end(struct trunc *t)
{
	pthread_join(t->t, NULL);
	return t->err;
}

static void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	(void)nanosleep(&ts, NULL);
}

static uint64_t nr_breaks(struct env *v)
{
	uint64_t left;

	(void)pf_reg_breaks(v->e.fs, NULL, 0, &left);
	return left;
}

/* Wait until a break waits for pins. */
static bool parked(struct env *v)
{
	for (int i = 0; i < 2000; i++) {
		if (atomic_load(&v->e.fs->lay->count[PF_COUNT_WAITS]) != 0 && nr_breaks(v) != 0)
			return true;
		sleep_ms(1);
	}
	return false;
}

/* Cases */

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
	CU_ASSERT_EQUAL(cl_pin(c, fh, 5, 0, 1, 0), -EINVAL);
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
	sleep_ms(20);
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
	CU_ASSERT_EQUAL(pf_srv_attach_cookie(v.srv, v.ino, v.gen, true, gettid(), &at), 0);
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
	CU_ASSERT_EQUAL(pf_srv_attach_cookie(v.srv, v.ino, v.gen + 1, true, gettid(), &at), 0);
	memcpy(in.ai_cookie, at.at_cookie, sizeof in.ai_cookie);
	CU_ASSERT_EQUAL(call(c, PF_P_ATTACH, &in, sizeof in), -ESTALE);
	CU_ASSERT_EQUAL(pf_srv_attach_cookie(v.srv, v.ino, v.gen, true, 0x3fffffff, &at), -ESRCH);
	/* More than are kept: the oldest are forgotten, nothing fails. */
	for (int i = 0; i < 10000; i++)
		CU_ASSERT_EQUAL(pf_srv_attach_cookie(v.srv, v.ino, v.gen, true, gettid(), &at), 0);
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
	{
		struct pinfs_attach at;

		CU_ASSERT_EQUAL(read(sv[0], &ok, 1), 1);
		CU_ASSERT_EQUAL(pf_srv_attach_cookie(v.srv, v.ino, v.gen, true, pid, &at), 0);
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
	close(sv[1]);
	env_close(&v);
}

/* Reports: well-formed JSON, whatever is in the ledger */

static const char *json_value(const char *s, const char *end, int depth);

static const char *json_space(const char *s, const char *end)
{
	while (s && s < end && isspace((unsigned char)*s))
		s++;
	return s;
}

static const char *json_string(const char *s, const char *end)
{
	if (s >= end || *s++ != '"')
		return NULL;
	while (s < end && *s != '"') {
		if ((unsigned char)*s < 0x20)
			return NULL;
		if (*s == '\\') {
			if (++s >= end || !strchr("\"\\/bfnrtu", *s))
				return NULL;
			if (*s == 'u')
				for (int i = 0; i < 4; i++)
					if (++s >= end || !isxdigit((unsigned char)*s))
						return NULL;
		}
		s++;
	}
	return s < end ? s + 1 : NULL;
}

static const char *json_list(const char *s, const char *end, char close_by, int depth)
{
	s = json_space(s + 1, end);
	if (s < end && *s == close_by)
		return s + 1;
	for (;;) {
		if (close_by == '}') {
			s = json_space(json_string(s, end), end);
			if (!s || s >= end || *s++ != ':')
				return NULL;
		}
		s = json_space(json_value(s, end, depth + 1), end);
		if (!s || s >= end || (*s != ',' && *s != close_by))
			return NULL;
		if (*s++ == close_by)
			return s;
		s = json_space(s, end);
	}
}

static const char *json_value(const char *s, const char *end, int depth)
{
	s = json_space(s, end);
	if (!s || s >= end || depth > 16)
		return NULL;
	if (*s == '{' || *s == '[')
		return json_list(s, end, *s == '{' ? '}' : ']', depth);
	if (*s == '"')
		return json_string(s, end);
	if (end - s >= 4 && memcmp(s, "true", 4) == 0)
		return s + 4;
	if (end - s >= 5 && memcmp(s, "false", 5) == 0)
		return s + 5;
	if (!isdigit((unsigned char)*s))
		return NULL;
	while (s < end && isdigit((unsigned char)*s))
		s++;
	return s;
}

static bool report(struct cl *c, uint32_t what)
{
	struct pf_p_report_in in = { .ri_what = what };

	if (call(c, PF_P_REPORT, &in, sizeof in) != 0)
		return false;
	c->body[c->len] = '\0';
	return json_value((char *)c->body, (char *)c->body + c->len, 0) == (char *)c->body + c->len;
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

/* Nonsense */

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
		if (poll(&p, 1, 5000) != 1)
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
	for (i = 0; i < 2000 && nr_sessions(&v) != 0; i++)
		sleep_ms(1);
	CU_ASSERT_EQUAL(nr_sessions(&v), 0);
	env_close(&v);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "set-up, windows, pins, errors", whole_way },
		{ "cookies", cookies },
		{ "a pin and a truncate", pin_and_truncate },
		{ "holes that are filled", holes },
		{ "a holder that is killed", killed },
		{ "reports", reports },
		{ "nonsense", nonsense },
		{ "fuzz", fuzz },
		{ "a client that does not listen", deaf },
		{ "many that come and go", crowd },
		{ "processes that end at once", mayflies },
	};

	pf_log_init("test_srv", PF_LOG_ERR, false);
	return unit_main("srv", cases, PF_ARRAY_LEN(cases));
}
