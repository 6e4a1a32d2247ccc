/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_paio.c - POSIX asynchronous I/O with buffers in windows. glibc makes the transfers in threads of its own, by
 * calls that no other library sees. So what touches a window is submitted as a *shadow*: a control block of ours,
 * which asks for a notification of ours; then the program's block gets its result, and the program its
 * notification. Where the kernel will pin the buffer (move.c) it is held from the submission until then; a file of
 * pinfs, and in user mode any that the kernel would copy, gets memory of ours. Everything else goes to glibc
 * untouched.
 *
 * Whoever finds a shadow complete first ends the request: the notification's thread, or aio_error(), aio_suspend(),
 * aio_cancel(), lio_listio() of the program. aio_error() and aio_return() read the program's block, as always; orders
 * among requests of a descriptor, aio_fsync() too, are kept by glibc, for shadows are requests of that descriptor.
 *
 * The list is under the lock of holds (transient.h). Nothing is done under it but looking.
 */
#include "io.h"
#include "transient.h"

#include <aio.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIST_FEW 32

enum stage { RUNNING, ENDING, ENDED };

struct request {
	struct request *next;			/* list */
	struct aiocb shadow;
	struct aiocb *user;
	struct sigevent event;			/* what the program wants to hear */
	struct sh_hold *hold;
	char *room;				/* memory of ours, or NULL */
	size_t room_bytes;
	bool read;
	_Atomic enum stage stage;
	_Atomic uint32_t refs;			/* the list's, the notification's, and of calls that look */
};

static struct request *requests;
static _Atomic uint32_t nrequest;

static struct {
	int (*read)(struct aiocb *);
	int (*write)(struct aiocb *);
	int (*error)(const struct aiocb *);
	ssize_t (*ret)(struct aiocb *);
	int (*suspend)(const struct aiocb *const *, int, const struct timespec *);
	int (*cancel)(int, struct aiocb *);
	int (*list)(int, struct aiocb *const *, int, struct sigevent *);
} real;

static void load(void *slot, const char *name)
{
	void *sym = dlsym(RTLD_NEXT, name);

	memcpy(slot, &sym, sizeof sym);
}

static void load_all(void)
{
	if (real.list != NULL)
		return;
	load(&real.read, "aio_read");
	load(&real.write, "aio_write");
	load(&real.error, "aio_error");
	load(&real.ret, "aio_return");
	load(&real.suspend, "aio_suspend");
	load(&real.cancel, "aio_cancel");
	load(&real.list, "lio_listio");
}

/* ---- the list ---- */

static void unref(struct request *q)
{
	if (atomic_fetch_sub(&q->refs, 1) != 1)
		return;
	sh_free(q->room, q->room_bytes);
	sh_free(q, sizeof *q);
}

/* The request of a block of the program, with a reference; NULL. */
static struct request *find(const struct aiocb *user)
{
	struct request *q = NULL;
	sh_sigs old;

	sh_alive();
	if (atomic_load(&nrequest) == 0)
		return NULL;
	sh_holds_quiet(&old);
	for (q = requests; q != NULL && q->user != user; q = q->next)
		;
	if (q != NULL)
		atomic_fetch_add(&q->refs, 1);
	sh_holds_loud(&old);
	return q;
}

static void enlist(struct request *q)
{
	sh_sigs old;

	sh_holds_quiet(&old);
	q->next = requests;
	requests = q;
	atomic_fetch_add(&nrequest, 1);
	sh_holds_loud(&old);
}

static void delist(struct request *q)
{
	struct request **p;
	sh_sigs old;

	sh_holds_quiet(&old);
	for (p = &requests; *p != NULL && *p != q; p = &(*p)->next)
		;
	if (*p == q) {
		*p = q->next;
		atomic_fetch_sub(&nrequest, 1);
	}
	sh_holds_loud(&old);
}

/* In the child of a fork: glibc's threads have stayed behind, and the requests with them. */
void sh_paio_forget(void)
{
	requests = NULL;
	atomic_store(&nrequest, 0);
}

/* ---- the end of a request ---- */

static void take_result(struct request *q)
{
	int err = real.error(&q->shadow);
	ssize_t n = real.ret(&q->shadow);

	if (q->room != NULL && q->read && n > 0) {
		ssize_t good = (ssize_t)sh_transfer((char *)(uintptr_t)q->user->aio_buf, (char *)(uintptr_t)
						    q->shadow.aio_buf, (size_t)n, true);

		if (good == 0)
			err = EFAULT;
		n = good == 0 ? -1 : good;
	}
	sh_hold_drop(q->hold);
	q->hold = NULL;
	q->user->__return_value = n;
	/* The program may use the block for something else from now on. */
	__atomic_store_n(&q->user->__error_code, err, __ATOMIC_SEQ_CST);
}

/*
 * End it if glibc has: once. Somebody else may be about it; @wait for him. No signal meanwhile: its handler may
 * ask for the same request, and would wait for us.
 */
static void look(struct request *q, bool wait)
{
	enum stage running = RUNNING;
	sigset_t all;
	sh_sigs old;

	if (real.error(&q->shadow) == EINPROGRESS)
		return;
	memset(&all, 0xff, sizeof all);
	(void)sh_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, &old, (size_t)8);
	if (atomic_compare_exchange_strong(&q->stage, &running, ENDING)) {
		delist(q);
		take_result(q);
		atomic_store(&q->stage, ENDED);
		unref(q);
	}
	sh_sigs_restore(&old);
	while (wait && atomic_load(&q->stage) != ENDED)
		(void)sh_sys(SYS_sched_yield);
}

static void tell(const struct sigevent *e)
{
	siginfo_t si;

	if (e->sigev_notify == SIGEV_THREAD && e->sigev_notify_function != NULL)
		e->sigev_notify_function(e->sigev_value);
	if (e->sigev_notify != SIGEV_SIGNAL)
		return;
	memset(&si, 0, sizeof si);
	si.si_signo = e->sigev_signo;
	si.si_code = SI_ASYNCIO;
	si.si_pid = (pid_t)sh_sys(SYS_getpid);
	si.si_uid = (uid_t)sh_sys(SYS_getuid);
	si.si_value = e->sigev_value;
	(void)sh_sys(SYS_rt_sigqueueinfo, si.si_pid, e->sigev_signo, &si);
}

/* In a thread that glibc makes for the purpose. */
static void notified(union sigval v)
{
	struct request *q = v.sival_ptr;
	struct sigevent e = q->event;

	look(q, true);
	unref(q);
	tell(&e);
}

/* ---- the beginning ---- */

static int with_room(struct request *q, size_t len)
{
	char *user = (char *)(uintptr_t)q->user->aio_buf;
	size_t off = sh_addr(user) % SH_PAGE;

	q->room_bytes = (size_t)pf_round_up(off + len, SH_PAGE) + PF_CHUNK_SIZE;	/* pages of its own */
	q->room = sh_alloc(q->room_bytes);
	if (q->room == NULL)
		return -ENOMEM;
	q->shadow.aio_buf = q->room + off;
	if (q->read)
		return 0;
	return sh_transfer(user, q->room + off, len, false) == len ? 0 : -EFAULT;
}

/*
 * Waits for a truncate, if need be, whatever signals come: aio_read() has no way to say that it was interrupted. One
 * of a list has to wait for the others of it before it can begin, and is not brief; one alone is, as long as glibc
 * has a thread for it (twenty, unless aio_init() says otherwise).
 */
static int with_hold(struct request *q, size_t len, bool alone)
{
	struct iovec v = { (void *)(uintptr_t)q->user->aio_buf, len };
	unsigned int flags = (q->read ? SH_HOLD_WRITE : 0) | (alone ? SH_HOLD_BRIEF : 0);
	int err;

	do
		err = sh_hold(&v, 1, flags, PF_API_POSIX_AIO, &q->hold);
	while (err == -EINTR);
	if (!err && sh.user_mode)
		sh_prefault(sh_addr(v.iov_base), len, q->read);
	return err;
}

/* 1: not ours to look at. 0: *out. -errno. */
static int prepare(struct aiocb *user, bool read, bool alone, struct request **out)
{
	size_t len = user->aio_nbytes;
	enum sh_fd_kind kind;
	struct request *q;
	int err;

	if (!sh_touches((void *)(uintptr_t)user->aio_buf, len) || len > INT64_MAX)
		return 1;
	kind = sh_fd_kind(user->aio_fildes);
	if (kind == SH_FD_COPIES && !sh.user_mode)
		return 1;
	q = sh_alloc(sizeof *q);
	if (q == NULL)
		return -EAGAIN;
	q->user = user;
	q->shadow = *user;
	q->event = user->aio_sigevent;
	q->read = read;
	q->refs = 2;
	q->shadow.aio_sigevent.sigev_notify = SIGEV_THREAD;
	q->shadow.aio_sigevent.sigev_notify_function = notified;
	q->shadow.aio_sigevent.sigev_value.sival_ptr = q;
	if (q->event.sigev_notify != SIGEV_THREAD)
		q->shadow.aio_sigevent.sigev_notify_attributes = NULL;
	err = kind == SH_FD_PINS ? with_hold(q, len, alone) : with_room(q, len);
	if (err == -EFAULT)
		q->shadow.aio_buf = sh_bad_page();	/* glibc's thread finds out, and says so in its own time */
	else if (err) {
		sh_free(q->room, q->room_bytes);
		sh_free(q, sizeof *q);
		return -EAGAIN;
	}
	user->__error_code = EINPROGRESS;
	enlist(q);
	*out = q;
	return 0;
}

/* It was not even submitted: nobody has heard of it. */
static void undo(struct request *q)
{
	delist(q);
	sh_hold_drop(q->hold);
	atomic_store(&q->refs, 1);
	unref(q);
}

static bool ours(void)
{
	load_all();
	return atomic_load_explicit(&sh.nvma, memory_order_relaxed) != 0 && sh.ready && !sh.disabled && !sh_is_crew;
}

static int submit(struct aiocb *user, bool read)
{
	struct request *q;
	int saved = errno, err = 1, rc;

	if (ours() && user != NULL)
		err = prepare(user, read, true, &q);
	if (err > 0)
		return read ? real.read(user) : real.write(user);
	errno = saved;
	if (err < 0) {
		errno = -err;
		return -1;
	}
	rc = read ? real.read(&q->shadow) : real.write(&q->shadow);
	if (rc != 0) {
		user->__error_code = errno;
		user->__return_value = -1;
		undo(q);
	}
	return rc;
}

/* ---- the calls ---- */

PF_EXPORT int aio_read(struct aiocb *cb)
{
	return submit(cb, true);
}

PF_EXPORT int aio_write(struct aiocb *cb)
{
	return submit(cb, false);
}

PF_EXPORT int aio_error(const struct aiocb *cb)
{
	struct request *q = find(cb);

	load_all();
	if (q != NULL) {
		look(q, false);
		unref(q);
	}
	return real.error(cb);
}

PF_EXPORT ssize_t aio_return(struct aiocb *cb)
{
	struct request *q = find(cb);

	load_all();
	if (q != NULL) {
		look(q, true);
		unref(q);
	}
	return real.ret(cb);
}

/* Blocks of the program in @in, shadows in @out where there are some, and these referenced in @held. */
static void swap(const struct aiocb *const *in, int n, const struct aiocb **out, struct request **held)
{
	for (int i = 0; i < n; i++) {
		held[i] = in[i] != NULL ? find(in[i]) : NULL;
		out[i] = held[i] != NULL ? &held[i]->shadow : in[i];
	}
}

/* What glibc says is complete, is for the program as well, when the call returns. */
static void swap_end(struct request **held, int n)
{
	for (int i = 0; i < n; i++) {
		if (held[i] != NULL) {
			look(held[i], true);
			unref(held[i]);
		}
	}
}

struct swapped {
	const struct aiocb *few[LIST_FEW], **list;
	struct request *few_held[LIST_FEW], **held;
	size_t bytes;
};

static bool swapped_room(struct swapped *w, int n)
{
	w->list = w->few;
	w->held = w->few_held;
	w->bytes = (size_t)n * sizeof *w->list;
	if (n <= LIST_FEW)
		return true;
	w->list = sh_alloc(w->bytes);
	w->held = sh_alloc(w->bytes);
	return w->list != NULL && w->held != NULL;
}

static void swapped_free(struct swapped *w)
{
	if (w->list == w->few)
		return;
	sh_free(w->list, w->bytes);
	sh_free(w->held, w->bytes);
}

PF_EXPORT int aio_suspend(const struct aiocb *const list[], int n, const struct timespec *timeout)
{
	struct swapped w;
	int rc = -1;

	load_all();
	if (atomic_load(&nrequest) == 0 || n <= 0)
		return real.suspend(list, n, timeout);
	if (swapped_room(&w, n)) {
		swap(list, n, w.list, w.held);
		rc = real.suspend(w.list, n, timeout);
		swap_end(w.held, n);
	} else {
		errno = EAGAIN;
	}
	swapped_free(&w);
	return rc;
}

PF_EXPORT int aio_cancel(int fd, struct aiocb *cb)
{
	struct request *q = cb != NULL ? find(cb) : NULL, *next;
	int rc, saved;
	sh_sigs old;

	load_all();
	if (atomic_load(&nrequest) == 0 && q == NULL)
		return real.cancel(fd, cb);
	rc = real.cancel(fd, q != NULL ? &q->shadow : cb);
	saved = errno;
	if (q != NULL) {
		look(q, true);
		unref(q);
	}
	/* All of the descriptor: the program asks aio_error() next. */
	for (bool any = cb == NULL; any;) {
		any = false;
		sh_holds_quiet(&old);
		for (next = requests; next != NULL; next = next->next) {
			if (next->shadow.aio_fildes == fd && atomic_load(&next->stage) == RUNNING &&
			    next->shadow.__error_code != EINPROGRESS)
				break;
		}
		if (next != NULL)
			atomic_fetch_add(&next->refs, 1);
		sh_holds_loud(&old);
		if (next != NULL) {
			look(next, true);
			unref(next);
			any = true;
		}
	}
	errno = saved;
	return rc;
}

/* What glibc could not take of a list is as a request that has failed: look() ends it. */
static int listio(int mode, struct aiocb *const *list, int n, struct sigevent *sig)
{
	struct swapped w;
	int rc = -1, err = 0, saved;

	if (!swapped_room(&w, n))
		err = -EAGAIN;
	for (int i = 0; i < n && !err; i++) {
		w.list[i] = list[i];
		w.held[i] = NULL;
		if (list[i] == NULL || (list[i]->aio_lio_opcode != LIO_READ && list[i]->aio_lio_opcode != LIO_WRITE))
			continue;
		err = prepare(list[i], list[i]->aio_lio_opcode == LIO_READ, false, &w.held[i]);
		if (!err)
			w.list[i] = &w.held[i]->shadow;
		else if (err > 0)
			err = 0;
		else
			n = i;		/* undo those before */
		if (w.held[i] != NULL)
			atomic_fetch_add(&w.held[i]->refs, 1);
	}
	if (err) {
		for (int i = 0; w.list != NULL && w.held != NULL && i < n; i++) {
			if (w.held[i] == NULL)
				continue;
			list[i]->__error_code = EAGAIN;
			undo(w.held[i]);
		}
		errno = EAGAIN;
	} else {
		rc = real.list(mode, (struct aiocb *const *)(uintptr_t)w.list, n, sig);
		saved = errno;
		swap_end(w.held, n);
		errno = saved;
	}
	swapped_free(&w);
	return rc;
}

PF_EXPORT int lio_listio(int mode, struct aiocb *const list[], int n, struct sigevent *sig)
{
	return ours() && n > 0 ? listio(mode, list, n, sig) : real.list(mode, list, n, sig);
}

/* ---- the names for 64 bits, which are the same here ---- */

static struct aiocb *same(const struct aiocb64 *cb)
{
	return (struct aiocb *)(uintptr_t)cb;
}

PF_EXPORT int aio_read64(struct aiocb64 *cb)
{
	return submit(same(cb), true);
}

PF_EXPORT int aio_write64(struct aiocb64 *cb)
{
	return submit(same(cb), false);
}

PF_EXPORT int aio_error64(const struct aiocb64 *cb)
{
	return aio_error(same(cb));
}

PF_EXPORT ssize_t aio_return64(struct aiocb64 *cb)
{
	return aio_return(same(cb));
}

PF_EXPORT int aio_suspend64(const struct aiocb64 *const list[], int n, const struct timespec *timeout)
{
	return aio_suspend((const struct aiocb *const *)(uintptr_t)list, n, timeout);
}

PF_EXPORT int aio_cancel64(int fd, struct aiocb64 *cb)
{
	return aio_cancel(fd, same(cb));
}

PF_EXPORT int lio_listio64(int mode, struct aiocb64 *const list[], int n, struct sigevent *sig)
{
	return lio_listio(mode, (struct aiocb *const *)(uintptr_t)list, n, sig);
}
