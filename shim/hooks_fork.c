/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_fork.c - windows across fork(). The memory of a window is not inherited (MADV_DONTFORK), or an
 * invalidation in the parent would leave the child on freed blocks; instead the child opens sessions of its own
 * and makes the same windows again before fork() returns in it. Handlers of pthread_atfork(), registered before
 * the program's own: last before, first after; so nothing of the program runs between ours, and no signal either,
 * whose handler would find no windows.
 *
 * The child's right to the files comes from descriptors of the parent's crew, sent into a socket pair before
 * the fork. What cannot be made again becomes SIGBUS memory, with one line in the log; never somebody else's
 * mapping.
 *
 * _Fork() and clone() without CLONE_VM promise a child that may do next to nothing: to start threads there could wait
 * for ever for a lock of malloc() whose holder was not copied. Such a child has SIGBUS memory in place of windows, and
 * may map anew. A clone that passes us by (syscall(2), clone3) is noticed at its first call of ours: sh_life.
 *
 * vfork(), posix_spawn() and clone(CLONE_VM) children run in the parent's memory and need nothing.
 */
#include "async.h"
#include "longterm.h"
#include "transient.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Two threads may fork at the same time; glibc does not hold a lock of its own while it runs handlers. */
static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t generation;
static struct {
	bool any;
	int err;
	int sv[2];
	uint32_t nfile;
	sh_sigs sigs, old;
} fk;

/* ---- before: hand over the files, and stop all change ---- */

struct send_call { int tid, sock; uint32_t n; };

struct batch {
	int sock, fd[SH_SEND_FDS];
	struct sh_file *file[SH_SEND_FDS];
	unsigned int n;
	uint32_t sent;
};

static int batch_send(struct batch *b)
{
	int err = b->n == 0 ? 0 : sh_crew_send_fds(b->sock, b->fd, b->n);

	for (unsigned int i = 0; i < b->n && !err; i++) {
		b->file[i]->sent = true;
		b->file[i]->order = b->sent++;
	}
	b->n = 0;
	return err;
}

/* In table order. A buffer that is full ends it: what is missing is SIGBUS in the child. */
static int send_in_crew(void *arg)
{
	struct send_call *c = arg;
	int sock = sh_crew_take_fd(c->tid, c->sock), err = 0, big = 4 << 20;
	struct batch b = { .sock = sock };
	sh_sigs old;

	if (sock < 0)
		return sock;
	(void)sh_sys(SYS_setsockopt, sock, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
	sh_lock(&old);
	for (struct sh_session *s = sh.sessions; s != NULL; s = s->next) {
		for (unsigned int i = 0; i < SH_FILES; i++) {
			for (struct sh_file *f = s->files[i]; f != NULL; f = f->next) {
				f->sent = false;
				if (f->vmas == NULL || atomic_load(&s->lost) || err)
					continue;
				b.file[b.n] = f;
				b.fd[b.n++] = f->fd;
				if (b.n == SH_SEND_FDS)
					err = batch_send(&b);
			}
		}
	}
	if (!err)
		err = batch_send(&b);
	sh_unlock(&old);
	c->n = b.sent;
	(void)sh_sys(SYS_close, sock);
	return err;
}

/* Two descriptors for a moment, also where the program has used up what it may have. */
static int pair(int sv[2])
{
	struct rlimit lim, more;
	long r = sh_sys(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv);

	if (r != -EMFILE || sh_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &lim) != 0 || lim.rlim_cur >= lim.rlim_max)
		return (int)r;
	more = (struct rlimit){ .rlim_cur = lim.rlim_max, .rlim_max = lim.rlim_max };
	if (sh_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &more, NULL) != 0)
		return (int)r;
	r = sh_sys(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv);
	(void)sh_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &lim, NULL);
	return (int)r;
}

static void hand_over(void)
{
	struct send_call c = { .tid = (int)sh_sys(SYS_gettid) };
	int err = pair(fk.sv);

	fk.any = err == 0;
	if (fk.any) {
		c.sock = fk.sv[1];
		err = sh_crew_call(send_in_crew, &c);
	}
	fk.err = err;			/* the child will say it */
	fk.nfile = c.n;
}

/* serve is between two steps then: no extent is mapped and not yet marked, no table half changed. */
static void freeze(bool hand)
{
	sigset_t all;
	sh_sigs sigs;

	sh_alive();
	memset(&all, 0xff, sizeof all);
	(void)sh_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, &sigs, (size_t)8);
	pthread_mutex_lock(&fork_lock);
	fk.sigs = sigs;
	fk.any = false;
	fk.err = -ECHILD;
	fk.nfile = 0;
	if (hand && atomic_load(&sh.nvma) != 0 && (pid_t)sh_sys(SYS_getpid) == sh.pid)
		hand_over();
	sh_lock(&fk.old);
	sh_copies_fork(true);
	sh_holds_lock();
	sh_mem_lock();
}

static void close_pair(void)
{
	if (fk.any) {
		(void)sh_sys(SYS_close, fk.sv[0]);
		(void)sh_sys(SYS_close, fk.sv[1]);
	}
}

static void thaw(void)
{
	sh_sigs sigs = fk.sigs;

	sh_mem_unlock();
	sh_holds_unlock();
	sh_copies_fork(false);
	sh_unlock(&fk.old);
	close_pair();
	pthread_mutex_unlock(&fork_lock);
	sh_sigs_restore(&sigs);
}

static void before(void)
{
	freeze(true);
}

static void after_in_parent(void)
{
	thaw();
}

/* ---- the child ---- */

/* The old table: every vma that has to be made again, as one list; sessions and slots stay behind, unused. */
static struct sh_vma *take_table(void)
{
	struct sh_vma *list = NULL, **tail = &list;

	for (struct sh_vma *v = sh_vma_next(0); v != NULL; v = sh_vma_next(v->hi)) {
		if (v->nofork)
			continue;
		*tail = v;
		tail = &v->fnext;	/* the file's list is of no use any more */
	}
	*tail = NULL;
	return list;
}

/* Tables, locks and threads as in a process that has just started. The memory is a consistent copy, or @torn. */
static struct sh_vma *renew(bool torn)
{
	struct sh_vma *list;

	sh.pid = (pid_t)sh_sys(SYS_getpid);
	pthread_mutex_init(&fork_lock, NULL);
	pthread_mutex_init(&sh.lock, NULL);
	sh_mem_reinit(torn);
	sh_holds_forget();
	sh_engine_forget();
	sh_fault_forget();
	sh_async_forget();
	sh_long_forget();
	list = torn ? NULL : take_table();
	sh.vmas = NULL;
	atomic_store(&sh.nvma, 0);
	sh.sessions = NULL;
	atomic_store(&sh_life.vgen, 1);
	atomic_store(&sh_life.epoch, ++generation);
	if (sh_tls_ptr != NULL)
		sh_tls_reset();
	return list;
}

/* Before anything else can take the addresses: thread stacks, for one. Copies of private windows are in place. */
static void hold_places(const struct sh_vma *list)
{
	uint64_t end;

	for (const struct sh_vma *v = list; v != NULL; v = v->fnext) {
		for (uint64_t at = v->lo; sh_next_shown(v, &at, v->hi, &end); at = end)
			(void)sh_mmap(sh_ptr(at), end - at, PROT_NONE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	}
}

struct adopt_call {
	int tid, sock;
	uint32_t n;
	struct sh_file **heirs;		/* [n], in the order of sending */
};

static int adopt(int fd, struct sh_file **out)
{
	struct pinfs_attach at;
	struct stat st;
	int err = (int)sh_sys(SYS_fstat, fd, &st);

	if (!err)
		err = sh_attach(fd, &at);
	if (!err)
		return sh_file_attach(-1, fd, &at, &st, at.at_write != 0, out);
	(void)sh_sys(SYS_close, fd);
	return err;
}

static int adopt_in_crew(void *arg)
{
	struct adopt_call *c = arg;
	int sock = sh_crew_take_fd(c->tid, c->sock), fds[SH_SEND_FDS], n, r, err = 0;

	if (sock < 0)
		return sock;
	for (uint32_t i = 0; i < c->n; i += (uint32_t)n) {
		n = sh_recv_fds(sock, fds, SH_SEND_FDS);
		if (n <= 0)
			break;
		for (int k = 0; k < n && i + (uint32_t)k < c->n; k++) {
			r = adopt(fds[k], &c->heirs[i + (uint32_t)k]);
			err = err ? err : r;
		}
	}
	(void)sh_sys(SYS_close, sock);
	return err;
}

/* What cannot be a window must not be anything else. @flags: MAP_FIXED or MAP_FIXED_NOREPLACE. */
static void sigbus_at(const struct sh_vma *v, int empty, int flags)
{
	uint64_t end;
	void *p;

	/* Nothing at all was inherited if nobody told us of the fork. */
	for (uint64_t at = v->lo; at < v->hi; at = end) {
		end = v->hi;
		if (flags == MAP_FIXED && !sh_next_shown(v, &at, v->hi, &end))
			break;
		p = sh_mmap(sh_ptr(at), end - at, v->prot, MAP_SHARED | MAP_NORESERVE | flags, empty, 0);
		if (sh_mmap_err(p) == 0 && p != sh_ptr(at))
			(void)sh_sys(SYS_munmap, p, end - at);	/* a kernel that takes the address for a hint */
	}
}

static unsigned int sigbus_list(const struct sh_vma *list, int flags)
{
	int empty = list != NULL ? sh_empty_file() : -1;
	unsigned int n = 0;

	for (const struct sh_vma *v = list; v != NULL; v = v->fnext, n++)
		sigbus_at(v, empty, flags);
	if (empty >= 0)
		(void)sh_sys(SYS_close, empty);
	return n;
}

/* In the crew, which always has a descriptor for it. */
static int sigbus_in_crew(void *arg)
{
	sigbus_at(arg, sh.eof_fd, MAP_FIXED);
	return 0;
}

/* One window again, or SIGBUS memory. Copies of a private one have been inherited, and stay in either case. */
static int remake(struct sh_vma *v, struct sh_file *heir)
{
	int err = -EBADF;
	void *p;

	if (heir != NULL)
		err = v->map->private ? sh_window_inherit(heir, v) :
		      sh_window_make(heir, v->lo, v->hi - v->lo, v->prot, MAP_FIXED, sh_vma_foff(v, v->lo),
				     v->map->write, &p);
	if (err) {
		v->fnext = NULL;
		if (!atomic_load(&sh.running) || sh_crew_call(sigbus_in_crew, v))
			(void)sigbus_list(v, MAP_FIXED);
	}
	return err;
}

static void rebuild(struct sh_vma *list)
{
	struct adopt_call c = { .tid = (int)sh_sys(SYS_gettid), .sock = fk.any ? fk.sv[0] : -1, .n = fk.nfile };
	unsigned int lost = 0, all = 0;
	struct sh_vma *next;
	int err, why = 0;

	c.heirs = sh_alloc((c.n + 1) * sizeof *c.heirs);
	err = c.heirs == NULL ? -ENOMEM : sh_engine_start();
	if (!err && c.n > 0)
		err = sh_crew_call(adopt_in_crew, &c);
	for (struct sh_vma *v = list; v != NULL; v = next, all++) {
		struct sh_file *f = v->map->file;
		int r;

		next = v->fnext;
		r = remake(v, f->sent && c.heirs != NULL ? c.heirs[f->order] : NULL);
		if (r == 0 || atomic_load(&f->ses->lost))
			continue;	/* the parent's was SIGBUS already */
		lost++;
		why = why ? why : r;
	}
	for (uint32_t i = 0; c.heirs != NULL && i < c.n; i++) {
		if (c.heirs[i] != NULL)
			sh_file_put(c.heirs[i]);
	}
	sh_free(c.heirs, (c.n + 1) * sizeof *c.heirs);
	if (lost)
		sh_log(SH_ERR, "fork: %u of %u windows of the child give SIGBUS: %s", lost, all,
		       strerrordesc_np(fk.err ? -fk.err : err ? -err : -why));
}

static void after_in_child(void)
{
	bool had = atomic_load(&sh.running);
	struct sh_vma *list = renew(false);

	hold_places(list);
	if (had && list != NULL)
		rebuild(list);
	close_pair();
	sh_sigs_restore(&fk.sigs);
}

/* ---- _Fork(), clone() ---- */

static void bare(struct sh_vma *list, int flags)
{
	unsigned int n = sigbus_list(list, flags);

	if (n > 0)
		sh_log(SH_ERR, "made by clone() or _Fork(): %u windows give SIGBUS here; fork() would keep them", n);
}

/* Nobody told us. Whoever held the lock when the copy was made is not in it, and what he did is half done. */
void sh_fork_bare(void)
{
	sigset_t all;
	sh_sigs old;
	bool torn;

	if (!sh.ready)
		return;
	memset(&all, 0xff, sizeof all);
	(void)sh_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, &old, (size_t)8);
	if (atomic_exchange(&sh_life.busy, 1) == 0) {
		torn = pthread_mutex_trylock(&sh.lock) != 0 || sh_mem_trylock() != 0;
		bare(renew(torn), MAP_FIXED_NOREPLACE);
		if (torn)
			sh_log(SH_ERR, "made by clone(): no windows here; fork() would keep them");
	}
	while (atomic_load(&sh_life.epoch) == 0)
		(void)sh_sys(SYS_sched_yield);
	(void)sh_sys(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, (size_t)8);
}

static void bare_child(void)
{
	sh_sigs sigs = fk.sigs;

	bare(renew(false), MAP_FIXED);
	sh_sigs_restore(&sigs);
}

static bool has_windows(void)
{
	sh_alive();
	return sh.ready && atomic_load(&sh.nvma) != 0 && !sh_is_crew;
}

static void *next_one(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

PF_EXPORT pid_t _Fork(void)
{
	static pid_t (*real)(void);
	void *sym;
	pid_t pid;

	if (real == NULL) {
		sym = next_one("_Fork");
		memcpy(&real, &sym, sizeof real);
	}
	if (real == NULL) {
		errno = ENOSYS;
		return -1;
	}
	if (!has_windows())
		return real();
	freeze(false);
	pid = real();
	if (pid == 0)
		bare_child();
	else
		thaw();
	return pid;
}

struct begin {
	int (*fn)(void *);
	void *arg;
};

static int begin(void *arg)
{
	const struct begin *b = arg;
	int r;

	bare_child();
	r = b->fn(b->arg);
	if (atomic_load(&sh.running))
		_exit(r);		/* what follows ends this thread only, and it has started ours */
	return r;
}

PF_EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	static int (*real)(int (*)(void *), void *, int, void *, ...);
	static atomic_bool told;
	struct begin b = { .fn = fn, .arg = arg };
	pid_t *ptid = NULL, *ctid = NULL;
	void *tls = NULL, *sym;
	va_list ap;
	int pid;

	/* Given as far as the flags name them. */
	va_start(ap, arg);
	if (flags & (CLONE_PARENT_SETTID | CLONE_PIDFD | CLONE_SETTLS | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID))
		ptid = va_arg(ap, pid_t *);
	if (flags & (CLONE_SETTLS | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID))
		tls = va_arg(ap, void *);
	if (flags & (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID))
		ctid = va_arg(ap, pid_t *);
	va_end(ap);
	if (real == NULL) {
		sym = next_one("clone");
		memcpy(&real, &sym, sizeof real);
	}
	if (!has_windows() || fn == NULL)
		return real(fn, stack, flags, arg, ptid, tls, ctid);
	if (flags & CLONE_VM) {
		if (!(flags & (CLONE_THREAD | CLONE_VFORK)) && !atomic_exchange(&told, true))
			sh_log(SH_WARN, "clone(CLONE_VM): when this process ends, its windows end in the child, too");
		return real(fn, stack, flags, arg, ptid, tls, ctid);
	}
	freeze(false);
	pid = real(begin, stack, flags, &b, ptid, tls, ctid);
	thaw();
	return pid;
}

/* ---- calls that refuse multi-threaded processes ---- */

static int refused(const char *what)
{
	int saved = errno;

	if (saved == EINVAL && atomic_load(&sh.running))
		sh_log(SH_WARN, "%s: invalid, or refused to a process with threads: the library has three, from the "
		       "first window on", what);
	errno = saved;
	return -1;
}

PF_EXPORT int unshare(int flags)
{
	long r = sh_sys(SYS_unshare, flags);

	if (r < 0)
		errno = (int)-r;
	return r < 0 ? refused("unshare(2)") : 0;
}

PF_EXPORT int setns(int fd, int type)
{
	long r = sh_sys(SYS_setns, fd, type);

	if (r < 0)
		errno = (int)-r;
	return r < 0 ? refused("setns(2)") : 0;
}

void sh_fork_init(void)
{
	generation = 1;
	atomic_store(&sh_life.epoch, generation);
	atomic_store(&sh_life.vgen, 1);
	if (sh_sys(SYS_madvise, &sh_life, sizeof sh_life, MADV_WIPEONFORK) != 0)
		sh_log(SH_WARN, "MADV_WIPEONFORK failed: children of clone() must not use windows or pins");
	if (pthread_atfork(before, after_in_parent, after_in_child) != 0)
		sh_log(SH_WARN, "pthread_atfork failed: children will have no windows");
}
