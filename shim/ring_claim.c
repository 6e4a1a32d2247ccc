/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring_claim.c - a process dies with requests of an io_uring under way: its memory goes at once, and with it what kept
 * its blocks out of use; but the kernel goes on with the requests. What it keeps until the last one has ended is the
 * ring's registered files. So the device, with the session's claim on it (media/claim.c), is one of them: in a table of
 * our own where the program has none, else behind its files, whose numbers stay the same.
 *
 * In the moment in which the program registers files or takes them back, nothing is claimed. A table from before the
 * first window has no place for us: one line in the log.
 */
#include "ring.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#define FILES_MAX (1U << 15)

#ifndef IORING_RSRC_REGISTER_SPARSE
#define IORING_RSRC_REGISTER_SPARSE 1U
#endif
#define REGISTER_ALLOC_RANGE 25

struct range {				/* struct io_uring_file_index_range */
	uint32_t off, len;
	uint64_t resv;
};

static long call(struct sh_ring_name n, unsigned int op, const void *arg, uint32_t nr)
{
	return sh_sys(SYS_io_uring_register, n.fd, op | (n.by_id ? REGISTER_BY_INDEX : 0), arg, nr);
}

static int ours(struct sh_ring *r, struct sh_ring_name n)
{
	int32_t none[SH_CLAIMS];
	long err;

	memset(none, 0xff, sizeof none);
	err = call(n, IORING_REGISTER_FILES, none, SH_CLAIMS);
	if (err)
		return (int)err;
	r->table = TABLE_OURS;
	r->table_base = 0;
	memset(r->claim, 0, sizeof r->claim);
	return 0;
}

void sh_ring_claim(struct sh_ring *r, struct sh_ring_name n, const struct sh_hold *h)
{
	static atomic_bool told;
	const struct sh_session *s = sh_hold_session(h);
	struct io_uring_files_update up = { 0 };
	unsigned int i = 0;
	int dev, err = 0;

	if (s == NULL)
		return;
	while (i < SH_CLAIMS && r->claim[i] != NULL && r->claim[i] != s)
		i++;
	if (i == SH_CLAIMS || r->claim[i] == s)
		return;			/* of more devices than that: the first ones */
	dev = sh_hold_device(h);
	if (dev < 0)
		return;
	if (r->table == TABLE_NONE)
		err = ours(r, n);
	if (!err) {
		up.offset = r->table_base + i;
		up.fds = sh_addr(&dev);
		err = call(n, IORING_REGISTER_FILES_UPDATE, &up, 1) == 1 ? 0 : -EBUSY;
	}
	(void)sh_sys(SYS_close, dev);
	r->claim[i] = s;		/* or not: it is not tried again */
	if (err && !atomic_exchange(&told, true))
		sh_log(SH_WARN, "io_uring: ring %d cannot keep the device open (%s): if this process dies with "
		       "transfers under way, they may land in blocks that are somebody else's", r->fd,
		       strerrordesc_np(-err));
}

/* ---- the program's files ---- */

struct files {
	struct sh_ring *r;
	struct sh_ring_name name;
	uint32_t n;			/* the program's */
	int32_t *fds;			/* [n + SH_CLAIMS] */
	uint64_t *tags;			/* or NULL */
	size_t bytes;
};

static int fetch(struct files *f, uint64_t fds, uint64_t tags)
{
	f->bytes = (f->n + SH_CLAIMS) * (sizeof *f->tags + sizeof *f->fds);
	f->tags = sh_alloc(f->bytes);
	if (f->tags == NULL)
		return -ENOMEM;
	f->fds = (int32_t *)(void *)(f->tags + f->n + SH_CLAIMS);
	memset(f->fds, 0xff, (f->n + SH_CLAIMS) * sizeof *f->fds);
	if ((fds != 0 && sh_peek(f->fds, sh_ptr(fds), f->n * sizeof *f->fds)) ||
	    (tags != 0 && sh_peek(f->tags, sh_ptr(tags), f->n * sizeof *f->tags)))
		return -EFAULT;
	return 0;
}

/* Files that the kernel chooses a number for get one of the program's. */
static void theirs(struct files *f)
{
	struct range range = { .len = f->n };

	f->r->table = TABLE_THEIRS;
	f->r->table_base = f->n;
	memset(f->r->claim, 0, sizeof f->r->claim);
	(void)call(f->name, REGISTER_ALLOC_RANGE, &range, 0);
}

static void take_away(struct sh_ring *r, struct sh_ring_name n)
{
	if (r->table == TABLE_OURS && call(n, IORING_UNREGISTER_FILES, NULL, 0) == 0)
		r->table = TABLE_NONE;
}

static long with_ours(struct files *f, const long *arg, unsigned int op)
{
	struct io_uring_rsrc_register reg;
	int err;
	long r;

	if (op == IORING_REGISTER_FILES2) {
		err = fetch(f, 0, 0);
		if (err || sh_peek(&reg, sh_ptr((uint64_t)arg[2]), sizeof reg))
			return -EFAULT;
		if (reg.data != 0 && sh_peek(f->fds, sh_ptr(reg.data), f->n * sizeof *f->fds))
			return -EFAULT;
		if (reg.tags != 0 && sh_peek(f->tags, sh_ptr(reg.tags), f->n * sizeof *f->tags))
			return -EFAULT;
		reg.nr = f->n + SH_CLAIMS;
		reg.data = reg.data != 0 ? sh_addr(f->fds) : 0;
		reg.tags = reg.tags != 0 ? sh_addr(f->tags) : 0;
		r = call(f->name, op, &reg, sizeof reg);
	} else {
		err = fetch(f, (uint64_t)arg[2], 0);
		if (err)
			return err;
		r = call(f->name, op, f->fds, f->n + SH_CLAIMS);
	}
	if (r == 0)
		theirs(f);
	return r;
}

long sh_ring_files(struct sh_ring *r, const long *arg)
{
	uint32_t op = (uint32_t)arg[1] & ~REGISTER_BY_INDEX;
	struct files f = { .r = r, .name = { arg[0], ((uint32_t)arg[1] & REGISTER_BY_INDEX) != 0 } };
	struct io_uring_rsrc_register reg;
	long got = -EINVAL;

	if (op == IORING_UNREGISTER_FILES) {
		if (r->table == TABLE_OURS)
			return -ENXIO;		/* the program has none */
		got = sh_sys(SYS_io_uring_register, arg[0], arg[1], arg[2], arg[3]);
		if (got == 0) {
			r->table = TABLE_NONE;
			memset(r->claim, 0, sizeof r->claim);
		}
		return got;
	}
	f.n = (uint32_t)arg[3];
	if (op == IORING_REGISTER_FILES2)
		f.n = (size_t)arg[3] == sizeof reg && sh_peek(&reg, sh_ptr((uint64_t)arg[2]), sizeof reg) == 0 ?
		      reg.nr : 0;
	if (r->table == TABLE_THEIRS || f.n == 0 || f.n > FILES_MAX || (!r->followed && atomic_load(&sh.nvma) == 0))
		return sh_sys(SYS_io_uring_register, arg[0], arg[1], arg[2], arg[3]);
	take_away(r, f.name);
	got = with_ours(&f, arg, op);
	if (f.tags != NULL)
		sh_free(f.tags, f.bytes);
	if (got != 0)			/* with fewer it may be possible, and the answer is the kernel's */
		got = sh_sys(SYS_io_uring_register, arg[0], arg[1], arg[2], arg[3]);
	return got;
}
