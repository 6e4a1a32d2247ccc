/* SPDX-License-Identifier: BSD-3-Clause */
/* lessee.c - see lessee.h. What a child has is static here: each has its own copy. */
#include "pin/lessee.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pinfs/lease.h>
#include <pinfs/ledger.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"

#define SLOTS 8
#define LONG_MS 60000

struct lessee {
	pid_t pid;
	int to, from;			/* pipes */
	uint64_t said;
};

struct answer { int64_t rc; uint64_t said; };

static int wire[2] = { -1, -1 };

/* ---- the child ---- */

static struct {
	const char *path;
	int fd, event;
	char *map;
	size_t len;
	struct pinfs_lease *lease[SLOTS];
	struct pinfs_pin *pin[SLOTS];
	uint64_t said;
	_Atomic long signalled;
} me;

static struct {
	int dev;
	struct pf_l_hdr *led;
	struct pinfs_dma dma;
	char bytes[1 << 16];
	pthread_t thread;
	_Atomic uint64_t ran;
	atomic_bool fault;
} engine;

static void on_signal(int sig, siginfo_t *si, void *ctx)
{
	(void)sig;
	(void)ctx;
	atomic_store(&me.signalled, (long)(intptr_t)si->si_value.sival_ptr);
}

static long map(const struct lessee_order *o)
{
	me.fd = open(me.path, (int)o->a | O_CLOEXEC);
	if (me.fd < 0)
		return -errno;
	me.len = o->b;
	me.map = child_map(me.fd, me.len);
	return me.map != NULL ? 0 : -EFAULT;
}

static long put_fds(const int *fd, unsigned int n, const void *data, size_t len)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(4 * sizeof(int))]; } c;
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int)) };

	memset(&c, 0, sizeof c);
	c.h.cmsg_level = SOL_SOCKET;
	c.h.cmsg_type = SCM_RIGHTS;
	c.h.cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(&c.h), fd, n * sizeof(int));
	return sendmsg(wire[0], &m, 0) < 0 ? -errno : 0;
}

static long get_fds(int *fd, unsigned int n, void *data, size_t len)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(4 * sizeof(int))]; } c;
	struct iovec iov = { data, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c };

	if (recvmsg(wire[1], &m, MSG_CMSG_CLOEXEC) != (ssize_t)len || CMSG_FIRSTHDR(&m) == NULL ||
	    c.h.cmsg_len != CMSG_LEN(n * sizeof(int)))
		return -EPROTO;
	memcpy(fd, CMSG_DATA(&c.h), n * sizeof(int));
	return 0;
}

static long export(const struct lessee_order *o)
{
	int fd, err = pinfs_lease_export(me.lease[o->n], &fd);

	if (err != 0)
		return err;
	err = (int)put_fds(&fd, 1, "x", 1);
	(void)close(fd);
	return err;
}

static long import(const struct lessee_order *o)
{
	size_t n = 0;
	char x;
	int fd, err = (int)get_fds(&fd, 1, &x, 1);

	if (err != 0)
		return err;
	err = pinfs_lease_import(fd, &me.lease[o->n], NULL, &n);
	if (err == -E2BIG && n <= SLOTS)
		err = pinfs_lease_import(fd, &me.lease[o->n], me.pin, &n);
	(void)close(fd);
	return err != 0 ? err : (long)n;
}

/* The one error that all calls in a child give, or 0 when they do not agree. */
static long forked(const struct lessee_order *o)
{
	struct pinfs_lease_info info;
	pid_t pid = fork();
	int st = 0;

	if (pid == 0) {
		int err = pinfs_lease_drop(me.lease[o->n]);

		_exit(pinfs_lease_query(me.lease[o->n], &info) == err && pinfs_unpin(me.pin[o->off]) == err ? -err : 0);
	}
	if (pid < 0 || waitpid(pid, &st, 0) != pid || !WIFEXITED(st))
		return -EIO;
	return -WEXITSTATUS(st);
}

static long put_engine(const struct lessee_order *o)
{
	struct pinfs_dma d;
	size_t n = 1;
	int fd[2] = { pinfs_device(me.map), pinfs_ledger_fd(me.map) };
	long err = pinfs_pin_dma(me.pin[o->n], &d, &n);

	if (err == 0)
		err = fd[0] < 0 ? fd[0] : fd[1] < 0 ? fd[1] : put_fds(fd, 2, &d, sizeof d);
	(void)close(fd[0]);
	(void)close(fd[1]);
	return err;
}

static long get_engine(void)
{
	struct stat st;
	int fd[2];
	long err = get_fds(fd, 2, &engine.dma, sizeof engine.dma);

	if (err != 0)
		return err;
	engine.dev = fd[0];
	if (fstat(fd[1], &st) != 0)
		return -errno;
	engine.led = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd[1], 0);
	(void)close(fd[1]);
	memset(engine.bytes, 'D', sizeof engine.bytes);
	return engine.led == MAP_FAILED || engine.dma.da_slot >= engine.led->lh_nslot ||
	       engine.dma.da_len > sizeof engine.bytes ? -EPROTO : 0;
}

static bool enter(void)
{
	return pf_dma_enter(engine.led, engine.dma.da_slot, engine.dma.da_epoch, engine.dma.da_page,
			    (uint32_t)(engine.dma.da_len / 4096));
}

static long burst(void)
{
	ssize_t n = pwrite(engine.dev, engine.bytes, engine.dma.da_len, (off_t)engine.dma.da_doff);

	return n < 0 ? -errno : n;
}

static void *run(void *arg)
{
	(void)arg;
	while (enter()) {
		(void)burst();
		pf_dma_exit(engine.led, engine.dma.da_slot);
		atomic_fetch_add(&engine.ran, 1);
	}
	atomic_store(&engine.fault, true);
	return NULL;
}

static long until(_Atomic uint64_t *v, atomic_bool *b)
{
	for (unsigned int ms = 0; ms < LONG_MS; ms++) {
		if (v != NULL ? atomic_load(v) != 0 : atomic_load(b))
			return v != NULL ? (long)atomic_load(v) : 1;
		pt_sleep_ms(1);
	}
	return -ETIMEDOUT;
}

static long await_event(void)
{
	struct pollfd p = { .fd = me.event, .events = POLLIN };
	uint64_t v;

	int rc;

	/* The break is announced by a signal as well, which may come first. */
	do
		rc = poll(&p, 1, LONG_MS);
	while (rc < 0 && errno == EINTR);
	if (rc != 1 || read(me.event, &v, sizeof v) != (ssize_t)sizeof v)
		return -ETIMEDOUT;
	return (long)v;
}

static long info_of(const struct lessee_order *o)
{
	struct pinfs_lease_info i;
	int err = pinfs_lease_query(me.lease[o->n], &i);

	me.said = i.li_len;
	return err != 0 ? err : o->verb == LE_STATE ? (long)i.li_state :
	       o->verb == LE_LEFT ? (long)i.li_left_ms : (long)i.li_foff;
}

static long obey(const struct lessee_order *o)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct pinfs_lease_info i = { .li_pid = 0 };
	struct pinfs_sg sg[8];
	struct pinfs_pin_info pi;
	size_t nsg = PF_ARRAY_LEN(sg);
	void *value;
	char *p;
	long rc;

	switch ((enum lessee_verb)o->verb) {
	case LE_MAP:
		return map(o);
	case LE_OPEN:
		me.fd = open(me.path, (int)o->a | O_CLOEXEC);
		return me.fd < 0 ? -errno : 0;
	case LE_NOBODY:
		return child_be_nobody();
	case LE_CLOSE:
		return close(me.fd) != 0 ? -errno : 0;
	case LE_UNMAP:
		return munmap(me.map, me.len) != 0 ? -errno : 0;
	case LE_TAKE:
		return pinfs_lease_take(me.fd, o->off, o->len, (unsigned int)o->a, &me.lease[o->n]);
	case LE_TAKE_WINDOW:
		return pinfs_lease_take_window(me.map + o->off, o->len, (unsigned int)o->a, &me.lease[o->n]);
	case LE_TEST:
		rc = pinfs_lease_test(me.fd, o->off, o->len, (unsigned int)o->a, &i);
		me.said = (uint64_t)i.li_pid;
		return rc;
	case LE_DROP:
		return pinfs_lease_drop(me.lease[o->n]);
	case LE_DOWNGRADE:
		return pinfs_lease_downgrade(me.lease[o->n]);
	case LE_STATE:
	case LE_LEFT:
	case LE_RANGE:
		return info_of(o);
	case LE_EVENT:
		return pinfs_lease_event_fd(me.lease[o->n], &me.event);
	case LE_AWAIT:
		return await_event();
	case LE_SIGNAL:
		value = (void *)(uintptr_t)(o->n + 100);
		return sigaction((int)o->a, &sa, NULL) != 0 ? -errno :
		       pinfs_lease_signal(me.lease[o->n], (int)o->a, value);
	case LE_SIGNALS:
		for (unsigned int ms = 0; ms < LONG_MS && atomic_load(&me.signalled) == 0; ms++)
			pt_sleep_ms(1);
		return atomic_load(&me.signalled);
	case LE_PIN:
		if (o->b != 0)
			return pinfs_pin_sg(me.map + o->off, o->len, (unsigned int)o->a, sg, &nsg, &me.pin[o->n]);
		return pinfs_pin(me.map + o->off, o->len, (unsigned int)o->a, &me.pin[o->n]);
	case LE_UNPIN:
		return pinfs_unpin(me.pin[o->n]);
	case LE_QUERY:
		return pinfs_pin_query(me.pin[o->n], &pi);
	case LE_TOUCH:
		return child_touch(me.map + o->off, (int)o->a);
	case LE_REMAP:
		p = child_map(me.fd, o->len);
		me.map = p != NULL ? p : me.map;
		return p != NULL ? 0 : -EFAULT;
	case LE_MOVE:
		p = mmap(NULL, me.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		p = mremap(me.map, me.len, me.len, MREMAP_MAYMOVE | MREMAP_FIXED, p);
		me.map = p != MAP_FAILED ? p : me.map;
		return p != MAP_FAILED ? 0 : -errno;
	case LE_TRUNCATE:
		return ftruncate(me.fd, (off_t)o->off) != 0 ? -errno : 0;
	case LE_EXPORT:
		return export(o);
	case LE_RETRACT:
		return pinfs_lease_retract(me.lease[o->n]);
	case LE_IMPORT:
		return import(o);
	case LE_FORK:
		return forked(o);
	case LE_EXEC:
		(void)execlp("sleep", "sleep", "60", (char *)NULL);
		return -errno;
	case LE_PUT:
		return put_engine(o);
	case LE_GET:
		return get_engine();
	case LE_ENTER:
		return enter();
	case LE_EXIT:
		pf_dma_exit(engine.led, engine.dma.da_slot);
		return 0;
	case LE_WRITE:
		return burst();
	case LE_RUN:
		return -pthread_create(&engine.thread, NULL, run, NULL);
	case LE_RAN:
		return until(&engine.ran, NULL);
	case LE_FAULT:
		return until(NULL, &engine.fault);
	case LE_LEAVE:
		break;
	}
	return -ENOSYS;
}

struct pipes { const char *path; int in, out; };

static int live(void *arg)
{
	const struct pipes *p = arg;
	struct lessee_order o;
	struct answer a;

	me.path = p->path;
	while (read(p->in, &o, sizeof o) == (ssize_t)sizeof o && o.verb != LE_LEAVE) {
		a.rc = obey(&o);
		a.said = me.said;
		if (write(p->out, &a, sizeof a) != (ssize_t)sizeof a)
			return 1;
	}
	return 0;
}

/* ---- the test ---- */

void lessee_wire(void)
{
	for (int i = 0; i < 2; i++)
		if (wire[i] >= 0)
			(void)close(wire[i]);
	PT_SYS_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, wire));
}

struct lessee *lessee_new(const char *path)
{
	struct lessee *l = calloc(1, sizeof *l);
	int to[2], from[2];
	struct pipes p;

	CU_ASSERT_PTR_NOT_NULL_FATAL(l);
	PT_SYS_FATAL(pipe2(to, O_CLOEXEC));
	PT_SYS_FATAL(pipe2(from, O_CLOEXEC));
	p = (struct pipes){ path, to[0], from[1] };
	l->pid = pt_fork(live, &p);
	PT_SYS_FATAL(l->pid);
	(void)close(to[0]);
	(void)close(from[1]);
	l->to = to[1];
	l->from = from[0];
	return l;
}

pid_t lessee_pid(const struct lessee *l) { return l->pid; }
uint64_t lessee_said(const struct lessee *l) { return l->said; }

void lessee_send(struct lessee *l, struct lessee_order o)
{
	CU_ASSERT(write(l->to, &o, sizeof o) == (ssize_t)sizeof o);
}

long lessee_result(struct lessee *l, unsigned int ms)
{
	struct pollfd p = { .fd = l->from, .events = POLLIN };
	struct answer a;

	if (poll(&p, 1, (int)ms) != 1)
		return -EINPROGRESS;
	if (read(l->from, &a, sizeof a) != (ssize_t)sizeof a)
		return -ECHILD;
	l->said = a.said;
	return (long)a.rc;
}

long lessee_do(struct lessee *l, struct lessee_order o)
{
	lessee_send(l, o);
	return lessee_result(l, LONG_MS);
}

static void forget(struct lessee *l)
{
	(void)close(l->from);
	free(l);
}

void lessee_end(struct lessee *l)
{
	lessee_send(l, (struct lessee_order){ .verb = LE_LEAVE });	/* others have copies of the pipe */
	(void)close(l->to);
	PT_EQ(pt_wait(l->pid, LONG_MS), 0);
	forget(l);
}

void lessee_kill(struct lessee *l)
{
	pt_kill(l->pid);
	(void)close(l->to);
	forget(l);
}
