/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_longring.c - what io_uring_register() makes the kernel keep: buffers, and the memory of rings of buffers. The
 * kernel would take pages of a window; a filesystem with DAX would refuse, and so do we, where the policy says so.
 *
 * hooks_uring.c sees the call, whoever makes it, and calls sh_uring_register(). A request that uses a registered buffer
 * is held besides, like any other, until it has completed: from Linux 6.13 on such requests keep pages that have been
 * unregistered meanwhile. Takes no lock itself.
 */
#include "async.h"
#include "longterm.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>

#define BUFFERS_MAX 16384U		/* IORING_MAX_REG_BUFFERS: more are refused by the kernel */

/* Of later kernels than the headers need be. */
#define REGISTER_PBUF_RING 22U
#define UNREGISTER_PBUF_RING 23U
#define REGISTER_CLONE_BUFFERS 30U
#define PBUF_RING_MMAP 1U		/* the kernel's own memory */
#define CLONE_SRC_REGISTERED 1U

enum { SPACE_BUFFERS, SPACE_RINGS };

struct pbuf_ring {
	uint64_t addr;
	uint32_t entries;
	uint16_t group, flags;
};

struct clone {
	uint32_t fd, flags, src_off, dst_off, nr;
};

struct buffers {			/* what is registered, at which index */
	uint64_t iov;			/* struct iovec[] of the program's; 0: none */
	uint32_t first, n;
};

static long real_call(const long *arg)
{
	return sh_sys(SYS_io_uring_register, arg[0], arg[1], arg[2], arg[3]);
}

static struct sh_name at_index(uint64_t first, uint64_t n)
{
	return sh_name(PF_API_URING_BUF, SPACE_BUFFERS, first, first + n);
}

/* One registration for each buffer, because each can be replaced alone. */
struct batch {
	struct iovec *v;
	struct sh_pinned **pin;
	struct sh_reg **reg;
	uint32_t n;
};

static size_t batch_bytes(const struct batch *b)
{
	return b->n * (sizeof(struct iovec) + sizeof(struct sh_pinned *) + sizeof(struct sh_reg *));
}

static void batch_free(struct batch *b)
{
	for (uint32_t i = 0; i < b->n && b->v != NULL; i++) {
		sh_pinned_put(b->pin[i]);
		sh_reg_free(b->reg[i]);
	}
	sh_free(b->v, batch_bytes(b));
}

/* Pin all of them. 1: the array is no memory of the program's, as the kernel will say. */
static int batch_take(struct batch *b, const struct buffers *what)
{
	int err;

	b->n = what->n;
	b->v = sh_alloc(batch_bytes(b));
	if (b->v == NULL)
		return -ENOMEM;
	b->pin = (struct sh_pinned **)(void *)(b->v + b->n);
	b->reg = (struct sh_reg **)(void *)(b->pin + b->n);
	if (sh_peek(b->v, sh_ptr(what->iov), b->n * sizeof *b->v))
		return 1;
	err = sh_pinned_take_each(b->v, b->n, true, PF_API_URING_BUF, b->pin);
	for (uint32_t i = 0; i < b->n && !err; i++)
		if (b->pin[i] != NULL)
			err = sh_reg_new(&b->reg[i]);
	return err;
}

/* The kernel has the first @done. What was there before has gone, or goes when nobody uses it. */
static void batch_keep(struct batch *b, int fd, uint32_t first, uint32_t done)
{
	for (uint32_t i = 0; i < done && i < b->n; i++) {
		sh_reg_end(sh_reg_take(fd, at_index(first + i, 1)));
		if (b->pin[i] == NULL)
			continue;
		sh_reg_add(b->reg[i], fd, at_index(first + i, 1), b->pin[i]);
		b->pin[i] = NULL;
		b->reg[i] = NULL;
	}
}

static long give(int fd, const struct buffers *what, bool update, const long *arg)
{
	struct batch b = { 0 };
	long rc;

	if (what->iov == 0 || what->n == 0 || what->n > BUFFERS_MAX || (atomic_load(&sh.nvma) == 0 && !update))
		return real_call(arg);
	rc = batch_take(&b, what);
	if (rc >= 0)
		rc = real_call(arg);
	if (rc >= 0)
		batch_keep(&b, fd, what->first, update ? (uint32_t)rc : b.n);
	batch_free(&b);
	return rc;
}

static long take_back(int fd, struct sh_name name, const long *arg)
{
	struct sh_reg *list = sh_reg_take(fd, name);
	long rc = real_call(arg);

	if (rc < 0)
		sh_reg_back(list);
	else
		sh_reg_end(list);
	return rc;
}

/* The ring of buffers itself; what lies in it is held when it is used. */
static long pbuf_ring(int fd, const long *arg)
{
	struct sh_pinned *p = NULL;
	struct pbuf_ring m;
	struct sh_reg *r;
	struct iovec v;
	long rc;

	if (sh_peek(&m, sh_ptr((uint64_t)arg[2]), sizeof m) != 0 || (m.flags & PBUF_RING_MMAP))
		return real_call(arg);
	v = (struct iovec){ sh_ptr(m.addr), m.entries * sizeof(struct io_uring_buf) };
	rc = sh_reg_new(&r);
	if (rc == 0)
		rc = sh_pinned_take(&v, 1, true, PF_API_URING_BUF, &p);
	if (rc == 0)
		rc = real_call(arg);
	if (rc >= 0 && p != NULL) {
		sh_reg_add(r, fd, sh_name(PF_API_URING_BUF, SPACE_RINGS, m.group, m.group + UINT64_C(1)), p);
		return rc;
	}
	sh_pinned_put(p);
	sh_reg_free(r);
	return rc;
}

/* Another ring's buffers, at once. Which index each of them gets matters to nobody before all are unregistered. */
static long clone_buffers(int fd, const long *arg)
{
	struct clone c;
	long rc;

	if (atomic_load(&sh_nregs) == 0 || sh_peek(&c, sh_ptr((uint64_t)arg[2]), sizeof c) != 0)
		return real_call(arg);
	rc = real_call(arg);
	if (rc < 0)
		return rc;
	if (c.flags & CLONE_SRC_REGISTERED)
		sh_log(SH_WARN, "io_uring: buffers of a ring with a registered number were cloned: they hold no pages");
	else if (sh_reg_share((int)c.fd, at_index(0, UINT32_MAX), fd, at_index(0, UINT32_MAX)) != 0)
		sh_log(SH_ERR, "no memory to note cloned buffers: what they pin ends with the original");
	return rc;
}

long sh_uring_register(int fd, unsigned int opcode, const long *arg)
{
	struct io_uring_rsrc_register reg;
	struct io_uring_rsrc_update2 up;
	const void *p = sh_ptr((uint64_t)arg[2]);

	if (atomic_load(&sh.nvma) == 0 && atomic_load(&sh_nregs) == 0)
		return real_call(arg);
	switch (opcode) {
	case IORING_REGISTER_BUFFERS:
		return give(fd, &(struct buffers){ (uint64_t)arg[2], 0, (uint32_t)arg[3] }, false, arg);
	case IORING_REGISTER_BUFFERS2:
		if ((size_t)arg[3] != sizeof reg || sh_peek(&reg, p, sizeof reg) != 0)
			return real_call(arg);
		return give(fd, &(struct buffers){ reg.data, 0, reg.nr }, false, arg);
	case IORING_REGISTER_BUFFERS_UPDATE:
		if ((size_t)arg[3] != sizeof up || sh_peek(&up, p, sizeof up) != 0)
			return real_call(arg);
		return give(fd, &(struct buffers){ up.data, up.offset, up.nr }, true, arg);
	case IORING_UNREGISTER_BUFFERS:
		return take_back(fd, at_index(0, UINT32_MAX), arg);
	case REGISTER_PBUF_RING:
		return pbuf_ring(fd, arg);
	case UNREGISTER_PBUF_RING: {
		struct pbuf_ring m;

		if (sh_peek(&m, p, sizeof m) != 0)
			return real_call(arg);
		return take_back(fd, sh_name(PF_API_URING_BUF, SPACE_RINGS, m.group, m.group + UINT64_C(1)), arg);
	}
	case REGISTER_CLONE_BUFFERS:
		return clone_buffers(fd, arg);
	default:
		return real_call(arg);
	}
}
