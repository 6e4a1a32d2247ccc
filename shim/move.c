/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * move.c - read(2), write(2) and their relatives with buffers in windows: which of three ways the transfer takes.
 *
 *   the kernel copies     nothing to do; its faults are served (without the privilege for that: copy.c)
 *   the kernel pins       held from before the call until it returns: transient.h
 *   the file is pinfs's   copies of our own, which are pinned while they are copied only: copy.c
 *
 * WHY NOT HOLD FOR FILES OF PINFS. write(2) to file g from a window of file f: a hold of f, then the kernel takes g's
 * inode lock. truncate(2) of g has that lock and waits for a pin of g, whose owner writes to f in the same way behind a
 * truncate of f, which waits for our hold: a circle of four, and one of two when f is g. Linux locks before it pins, so
 * it has no such circle; from user space the order cannot be turned round. With a copy nothing is held while the call
 * waits.
 *
 * WHERE A BUFFER ENDS IN PAGES THAT NO TRANSFER CAN HAVE (behind the end of the file, say) the kernel must not find out
 * by itself: the page may be there by the time it looks, and would be used without being held. So it gets an address in
 * place of those pages that is never memory, and answers as it always does: EFAULT, or a short transfer.
 */
#include "hooks.h"
#include "io.h"
#include "transient.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>

#define DEVS 256U			/* remembered */
#define DEV_LASTS_S 2U			/* numbers of mounts are used again */
#define FEW 8U				/* elements of an array without memory of its own */
#define IOV_LIMIT 1024U
#define USER_TRIES 100U
#define AHEAD (UINT64_C(1) << 20)	/* what the kernel pins at once for a transfer of its own */
#define OVERLAY_MAGIC 0x794c7630

/* ---- what a descriptor is ---- */

enum fs_kind { FS_OTHER, FS_FUSE, FS_OURS };

static _Atomic uint64_t devs[DEVS];	/* st_dev << 32 | second << 2 | enum fs_kind */

static uint32_t second(void)
{
	struct timespec t = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint32_t)t.tv_sec & 0x3fffffff;
}

static enum fs_kind ask_fs(int fd)
{
	struct pinfs_sock so;
	struct statfs fs;

	if (sh_sys(SYS_fstatfs, fd, &fs) != 0)
		return FS_OTHER;
	if ((uint64_t)fs.f_type == OVERLAY_MAGIC)
		return FS_OURS;
	if (fs.f_type != FUSE_SUPER_MAGIC)
		return FS_OTHER;
	return sh_sys(SYS_ioctl, fd, PINFS_IOC_SOCK, &so) == 0 ? FS_OURS : FS_FUSE;
}

static enum fs_kind fs_of(int fd, uint32_t major_nr, uint32_t minor_nr)
{
	uint32_t dev = major_nr << 20 | (minor_nr & 0xfffff), now = second();
	_Atomic uint64_t *e = &devs[(dev ^ dev >> 20) % DEVS];
	uint64_t was = atomic_load_explicit(e, memory_order_relaxed);
	enum fs_kind kind;

	if (was >> 32 == dev && now - ((uint32_t)was >> 2) < DEV_LASTS_S && was != 0)
		return (enum fs_kind)(was & 3);
	kind = ask_fs(fd);
	atomic_store_explicit(e, (uint64_t)dev << 32 | (uint64_t)now << 2 | kind, memory_order_relaxed);
	return kind;
}

enum sh_fd_kind sh_fd_kind(int fd)
{
	long flags = sh_sys(SYS_fcntl, fd, F_GETFL);
	enum fs_kind fs = FS_OTHER;
	struct statx st;

	if (flags < 0 || (flags & O_PATH) ||
	    sh_sys(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) != 0)
		return SH_FD_COPIES;
	if (S_ISREG(st.stx_mode))
		fs = fs_of(fd, st.stx_dev_major, st.stx_dev_minor);
	else if (!S_ISBLK(st.stx_mode))
		return SH_FD_COPIES;		/* O_DIRECT means something else for a pipe */
	if (fs == FS_OURS)
		return sh.pin_test & SH_TEST_HOLD_OURS ? SH_FD_PINS : SH_FD_BOUNCE;
	return fs == FS_FUSE || (flags & O_DIRECT) ? SH_FD_PINS : SH_FD_COPIES;
}

/* ---- the call with the pages held ---- */

typedef ssize_t vec_fn(int, const struct iovec *, int);
typedef ssize_t pvec_fn(int, const struct iovec *, int, off_t);
typedef ssize_t pvec2_fn(int, const struct iovec *, int, off_t, int);

static void *next_name(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

#define NEXT(fn, name)                                                          \
	do {                                                                    \
		void *sym_ = next_name(name);                                   \
                                                                                \
		memcpy(&(fn), &sym_, sizeof(fn));                               \
	} while (0)

/* Through libc, since these are points where a thread can be cancelled. */
static ssize_t call(const struct sh_move *m, const struct iovec *v, int n)
{
	static vec_fn *vec[2];
	static pvec_fn *pvec[2];
	static pvec2_fn *pvec2[2];
	bool w = m->dir == SH_IN;

	if (vec[w] == NULL) {
		NEXT(pvec[w], w ? "pwritev" : "preadv");
		NEXT(pvec2[w], w ? "pwritev2" : "preadv2");
		NEXT(vec[w], w ? "writev" : "readv");
	}
	if (m->how == SH_AT_POS)
		return pvec[w](m->fd, v, n, m->at);
	return m->how == SH_AT_FLAGS ? pvec2[w](m->fd, v, n, m->at, m->flags) : vec[w](m->fd, v, n);
}

void *sh_bad_page(void)
{
	static _Atomic(void *) bad;
	void *p = atomic_load(&bad), *none = NULL;

	if (p != NULL)
		return p;
	p = sh_mmap(NULL, SH_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sh_mmap_err(p))
		return NULL;
	if (!atomic_compare_exchange_strong(&bad, &none, p)) {
		(void)sh_sys(SYS_munmap, p, SH_PAGE);
		p = none;
	}
	return p;
}

/* Of @v only the first @good bytes, and (@why -EFAULT) an address that is no memory behind them. Room for one more. */
static int cut(struct iovec *v, size_t *n, size_t good, int why)
{
	char *bad = sh_bad_page();
	size_t i = 0, off;

	while (i < *n && v[i].iov_len <= good) {
		good -= v[i].iov_len;
		i++;
	}
	if (i == *n)
		return 0;
	off = (sh_addr(v[i].iov_base) + good) % SH_PAGE;
	if (good > 0)
		v[i++].iov_len = good;
	*n = i;
	if (why != -EFAULT)
		return i == 0 ? why : 0;
	if (bad == NULL)
		return -ENOMEM;
	v[(*n)++] = (struct iovec){ bad + off, SH_PAGE - off };
	return 0;
}

static bool all_mapped(const struct iovec *v, size_t n, bool store)
{
	bool all = true;
	sh_sigs old;

	sh_lock(&old);
	for (size_t i = 0; i < n; i++) {
		uint64_t lo = pf_round_down(sh_addr(v[i].iov_base), SH_PAGE);

		for (uint64_t a = lo; v[i].iov_len > 0 && a < sh_addr(v[i].iov_base) + v[i].iov_len; a += SH_PAGE) {
			const struct sh_vma *w = sh_vma_find(a);

			/* A page of zeros, which is no mapping of the device, is all that a read needs. */
			all = all && (w == NULL || !store || sh_page_mapped(w, a));
		}
	}
	sh_unlock(&old);
	return all;
}

/* Faults of the kernel are not served: they have to happen before, and the page must not be taken away meanwhile. */
static ssize_t call_user_mode(const struct sh_move *m, const struct iovec *v, size_t n)
{
	const bool store = m->dir == SH_OUT;
	ssize_t r = -1;

	for (unsigned int i = 0; i < USER_TRIES; i++) {
		for (size_t k = 0; k < n; k++)
			sh_prefault(sh_addr(v[k].iov_base), v[k].iov_len, store);
		r = call(m, v, (int)n);
		if (r >= 0 || errno != EFAULT || (store && all_mapped(v, n, store)))
			break;
	}
	return r;
}

struct held_call {
	const struct sh_move *m;
	const struct iovec *v;
	size_t n;
	struct sh_hold *hold;
	ssize_t r;
};

static void cancelled(void *hold)
{
	sh_hold_return(hold);
}

static void make(struct held_call *c)
{
	sh_hold_enter(c->hold, c->m);
	pthread_cleanup_push(cancelled, c->hold);
	c->r = sh.user_mode ? call_user_mode(c->m, c->v, c->n) : call(c->m, c->v, (int)c->n);
	pthread_cleanup_pop(0);
	sh_hold_return(c->hold);
}

/*
 * Pages are held, and holes filled, before the kernel looks at them. It would look at some hundred at a time and stop
 * where the file ends; so that a short read into a long hole does not fill all of that, what lies behind the end of the
 * source by more than AHEAD is left out.
 */
static int leave_out(const struct sh_move *m, struct iovec *v, size_t *n)
{
	uint64_t len = 0, most;
	struct statx st;
	long at = m->at;

	for (size_t i = 0; i < *n; i++)
		len += v[i].iov_len;
	if (len <= AHEAD ||
	    sh_sys(SYS_statx, m->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_SIZE, &st) != 0 ||
	    !S_ISREG(st.stx_mode) || st.stx_size == 0)
		return 0;
	if (m->how == SH_AT_NONE || at == -1)
		at = sh_sys(SYS_lseek, m->fd, 0, SEEK_CUR);
	if (at < 0)
		return 0;
	most = st.stx_size > (uint64_t)at ? st.stx_size - (uint64_t)at : 0;
	return most + AHEAD < len ? cut(v, n, most + AHEAD, 0) : 0;
}

static ssize_t held(const struct sh_move *m, struct iovec *v, size_t n)
{
	unsigned int flags = SH_HOLD_BRIEF | (m->dir == SH_OUT ? SH_HOLD_WRITE : 0) |
			     (m->how == SH_AT_FLAGS && (m->flags & RWF_NOWAIT) ? SH_HOLD_NOWAIT : 0);
	struct held_call c = { .m = m, .v = v, .r = -1 };
	size_t good = 0;
	int err = m->dir == SH_OUT ? leave_out(m, v, &n) : 0;

	if (!err)
		err = sh_hold_part(v, n, flags, PF_API_DIRECT, &c.hold, &good);
	if (err == -EFAULT || err == -ENOMEM)
		err = cut(v, &n, good, err);
	c.n = n;
	if (!err) {
		make(&c);
	} else {
		sh_hold_drop(c.hold);
		errno = -err;
	}
	return c.r;
}

enum sh_way sh_move(const struct sh_move *m, ssize_t *r)
{
	const enum sh_way no = sh.user_mode ? SH_WAY_COPY : SH_WAY_PLAIN;
	struct iovec few[FEW + 1] = { { NULL, 0 } }, *v = few;
	struct sh_tls *t;
	enum sh_way way = no;
	int saved = errno;

	if (sh_is_crew || m->n == 0 || m->n > IOV_LIMIT)
		return SH_WAY_PLAIN;
	sh_alive();
	t = sh_tls();
	if (t != NULL && t->calls != NULL)
		sh_hold_left(t, m);
	if (m->v == NULL) {
		v[0] = m->one;
	} else {
		if (m->n > FEW)
			v = sh_alloc((m->n + 1) * sizeof *v);
		if (v == NULL)
			return no;
		if (sh.user_mode)
			sh_prefault(sh_addr(m->v), m->n * sizeof *v, false);
		if (sh_iov_fetch(m->v, m->n, v))
			goto out;
	}
	if (!sh_iov_touches(v, m->n) || !sh_hook_ours())
		goto out;
	switch (sh_fd_kind(m->fd)) {
	case SH_FD_BOUNCE:
		way = SH_WAY_COPY;
		break;
	case SH_FD_PINS:
		errno = saved;
		*r = held(m, v, m->n);
		saved = errno;
		way = SH_WAY_DONE;
		break;
	case SH_FD_COPIES:
		break;
	}
out:
	if (v != few)
		sh_free(v, (m->n + 1) * sizeof *v);
	errno = saved;
	return way;
}
