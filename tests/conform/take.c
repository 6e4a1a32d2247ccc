/* SPDX-License-Identifier: BSD-3-Clause */
/* take.c - helpers of cases about takers of pins (take.h). Keeps nothing but what the case itself holds. */
#include "conform/take.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- the preload library ---- */

void *take_symbol(struct cf *c, const char *name)
{
	void *sym = cf_symbol(name);

	if (sym == NULL)
		cf_na(c, "%s() is pinfs's", name);
	return sym;
}

void take_policy(struct cf *c, const char *path, const char *name, const char *value)
{
	char attr[64];

	if (cf_mount(c) == NULL)
		cf_na(c, "files have policies of their own on pinfs only");
	(void)snprintf(attr, sizeof attr, "user.pinfs.%s", name);
	if (setxattr(path, attr, value, strlen(value), 0) != 0 && errno == EPERM && geteuid() != 0)
		cf_na(c, "%s=%s is for root", name, value);
	CF_SYS(c, setxattr(path, attr, value, strlen(value), 0));
}

int take_ctl(struct cf *c, char *out, size_t room, const char *what, const char *arg, const char *last)
{
	const char *argv[5] = { "pinfsctl", what };
	unsigned int n = 2;

	if (cf_mount(c) == NULL)
		cf_na(c, "pinfsctl is for pinfs");
	if (arg != NULL)
		argv[n++] = arg;
	argv[n] = last == NULL ? cf_mount(c) : last;
	return cf_run(c, out, room, argv);
}

long take_status(struct cf *c, const char *name)
{
	static char out[1 << 16];
	char key[64];
	const char *at;

	CF_MUST(c, take_ctl(c, out, sizeof out, "status", "--json", NULL) == 0);
	(void)snprintf(key, sizeof key, "\"%s\":", name);
	at = strstr(out, key);
	return at == NULL ? -1 : strtol(at + strlen(key), NULL, 10);
}

/* ---- a truncate ---- */

struct cut {
	int fd;
	off_t to;
};

static long cut_it(void *arg)
{
	const struct cut *t = arg;

	return cf_rc(ftruncate(t->fd, t->to));
}

struct cf_call *take_cut(struct cf *c, int fd, off_t to)
{
	struct cut *t = cf_shared(c, sizeof *t);
	struct cf_call *call;

	*t = (struct cut){ fd, to };
	call = cf_call(c, CF_THREAD, cut_it, t);
	(void)cf_settle(call);
	return call;
}

void take_answer_cut(struct cf *c, struct cf_call *cut)
{
	cf_answer(c, "%s", cf_call_word(cut));
}

/* ---- kernel AIO ---- */

int take_aio_setup(unsigned int n, aio_context_t *ctx)
{
	/* The machine has fs.aio-max-nr requests for all, and gives back those of the dead when it comes to it. */
	while (syscall(SYS_io_setup, n, ctx) != 0) {
		if (errno != EAGAIN)
			return -errno;
		(void)usleep(1000);
	}
	return 0;
}

/* ---- io_uring ---- */

static _Atomic uint32_t *word(char *base, uint32_t off)
{
	return (_Atomic uint32_t *)(void *)(base + off);
}

void take_ring_open(struct cf *c, struct take_ring *r)
{
	const size_t most = 1 << 16;

	memset(r, 0, sizeof *r);
	r->fd = (int)syscall(SYS_io_uring_setup, 4, &r->par);
	if (r->fd < 0 && (errno == ENOSYS || errno == EPERM))
		cf_na(c, "no io_uring here: %s", strerror(errno));
	CF_SYS(c, r->fd);
	CF_MUST(c, r->par.sq_off.array + r->par.sq_entries * sizeof(uint32_t) <= most);
	r->sq = mmap(NULL, r->par.sq_off.array + r->par.sq_entries * sizeof(uint32_t), PROT_READ | PROT_WRITE,
		     MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, r->par.cq_off.cqes + r->par.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE,
		     MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqe = mmap(NULL, r->par.sq_entries * sizeof *r->sqe, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		      IORING_OFF_SQES);
	CF_MUST(c, r->sq != MAP_FAILED && r->cq != MAP_FAILED && (void *)r->sqe != MAP_FAILED);
}

int take_ring_register(const struct take_ring *r, unsigned int op, const void *arg, unsigned int n)
{
	return (int)cf_rc(syscall(SYS_io_uring_register, r->fd, op, arg, n));
}

int take_ring_begin(struct take_ring *r, uint8_t opcode, int fd, const void *buf, uint32_t len)
{
	_Atomic uint32_t *tail = word(r->sq, r->par.sq_off.tail), *array = word(r->sq, r->par.sq_off.array);
	const uint32_t at = atomic_load(tail) & (r->par.sq_entries - 1);

	r->sqe[at] = (struct io_uring_sqe){ .opcode = opcode, .fd = fd, .addr = (uintptr_t)buf, .len = len,
					    .user_data = 1 };
	atomic_store(&array[at], at);
	atomic_fetch_add(tail, 1);
	return (int)cf_rc(syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0));
}

long take_ring_end(struct take_ring *r)
{
	_Atomic uint32_t *head = word(r->cq, r->par.cq_off.head), *tail = word(r->cq, r->par.cq_off.tail);
	const struct io_uring_cqe *cqe = (const struct io_uring_cqe *)(const void *)(r->cq + r->par.cq_off.cqes);
	long res;

	while (atomic_load(head) == atomic_load(tail))
		if (syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 && errno != EINTR)
			return -errno;
	res = cqe[atomic_load(head) & (r->par.cq_entries - 1)].res;
	atomic_fetch_add(head, 1);
	return res;
}
