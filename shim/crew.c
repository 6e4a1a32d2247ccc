/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crew.c - the threads of the library and their private descriptor table. Owns sh.uffd, sh.bell, sh.epoll,
 * sh.eof_fd, sh.pidfd and the queues to the crew thread. Takes no lock but its own start lock.
 *
 * How a descriptor crosses the border between the two tables: into ours by pidfd_getfd(), out of ours over a
 * socket pair that the receiving thread makes for the occasion.
 */
#include "sh.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#define PIDFD_OF_THREAD O_EXCL
#define SERVE_EVENTS 16

static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool fail_said;

/*
 * The kernel refuses a call that we cannot do without, as a filter of seccomp(2) may. Whoever touched a window from
 * now on
 * would wait for ever, so serve turns all of them into SIGBUS memory.
 */
static void fail(const char *call, long err)
{
	/* The line first: the program may end by the first SIGBUS. */
	if (atomic_exchange(&fail_said, true))
		return;
	sh_log(SH_ERR, "the library's threads may not use %s: %s. Windows give SIGBUS from now on", call,
	       strerrordesc_np((int)-err));
	atomic_store(&sh.stuck, (int)err);
}

/* As above, where threads would sleep in their faults whatever we do. */
void sh_crew_fatal(const char *call, long err)
{
	sh_log(SH_ERR, "the library's threads may not use %s: %s. This process cannot go on", call,
	       strerrordesc_np((int)-err));
	(void)sh_sys(SYS_kill, sh.pid, SIGABRT);
	(void)sh_sys(SYS_exit_group, 128 + SIGABRT);
	__builtin_trap();
}

static bool refusal(long err)
{
	return err == -EPERM || err == -EACCES || err == -ENOSYS || err == -EINVAL;
}

void sh_serve_bell(void)
{
	uint64_t one = 1;
	long r = sh_sys(SYS_write, sh.bell, &one, sizeof one);

	if (refusal(r))
		sh_crew_fatal("write(2)", r);
}

void sh_crew_refused(const char *call, long err)
{
	if (!refusal(err))
		return;
	fail(call, err);
	sh_serve_bell();
}

static void rest(void)
{
	for (;;)
		(void)sh_sys(SYS_pause);
}

void sh_watch_failed(long err)
{
	sh_crew_refused("read(2)", err);
	if (atomic_load(&sh.stuck) != 0)
		rest();
}

static void drain_bell(void)
{
	uint64_t n;

	(void)sh_sys(SYS_read, sh.bell, &n, sizeof n);
}

/* A detached thread with every signal blocked and a small stack (mlockall() would lock a big one). */
static int spawn(void *(*main)(void *), void *arg)
{
	long min = sysconf(_SC_THREAD_STACK_MIN);
	pthread_attr_t a;
	sigset_t all, old;
	pthread_t t;
	int err;

	if (pthread_attr_init(&a) != 0)
		return -ENOMEM;
	(void)pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	(void)pthread_attr_setstacksize(&a, (size_t)(min > 0 ? min : PTHREAD_STACK_MIN) + (192U << 10));
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&t, &a, main, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)pthread_attr_destroy(&a);
	return -err;
}

/* ---- serve ---- */

/* No new windows, and the old ones as when their daemons had ended. */
static void give_up(void)
{
	sh.no_engine = atomic_load(&sh.stuck);
	atomic_store(&sh.running, false);
	for (struct sh_session *s = sh.sessions; s != NULL; s = s->next) {
		if (!atomic_load(&s->lost))
			sh_session_lose(s, "a system call is refused");
	}
}

void sh_name_thread(const char *name)
{
	(void)sh_sys(SYS_prctl, PR_SET_NAME, name);
}

/* epoll, for poll(2) refuses more descriptors than RLIMIT_NOFILE allows by now. A socket that is closed leaves by
 * itself. */
static void watch_sessions(void)
{
	sh_sigs old;

	sh_lock(&old);
	for (struct sh_session *s = sh.sessions; s != NULL && !s->watched; s = s->next)
		s->watched = sh_session_watch(s);
	sh_unlock(&old);
}

static void *serve_main(void *arg)
{
	struct epoll_event ev[SERVE_EVENTS];
	long n;

	sh_is_crew = true;
	sh_name_thread("pinfs-serve");
	for (;;) {
		if (atomic_load(&sh.stuck) != 0)
			give_up();
		watch_sessions();
		n = sh_sys(SYS_epoll_wait, sh.epoll, ev, SERVE_EVENTS, sh_serve_timeout_ms());
		if (refusal(n)) {
			fail("epoll_wait(2)", n);
			give_up();
			rest();
		}
		/* Messages first: an invalidation that is here already makes the map step below unnecessary. */
		for (long i = 0; i < n; i++) {
			if (ev[i].data.ptr != NULL)
				sh_session_input(ev[i].data.ptr);
			else
				drain_bell();
		}
		sh_serve_faults();
		sh_serve_timer();
	}
	return arg;
}

/* ---- crew ---- */

static void crew_ring(void)
{
	atomic_fetch_add(&sh.crew_word, 1);
	(void)sh_sys(SYS_futex, &sh.crew_word, FUTEX_WAKE_PRIVATE, 1);
}

void sh_crew_kick(struct sh_slot *sl)
{
	if (atomic_exchange(&sl->sl_queued, 1) != 0)
		return;			/* the crew clears it before it looks at the counts */
	sl->sl_kick = atomic_load(&sh.kicks);
	while (!atomic_compare_exchange_weak(&sh.kicks, &sl->sl_kick, sl))
		;
	crew_ring();
}

void sh_want_ring(struct sh_want *w)
{
	sh_want_push(w);
	atomic_store(&sh.ring, true);
	crew_ring();
}

static struct sh_call *enqueue(int (*fn)(void *), void *arg, bool posted)
{
	struct sh_call *c = sh_alloc(sizeof *c);

	if (c == NULL)
		return NULL;
	c->fn = fn;
	c->arg = arg;
	c->posted = posted;
	sh_wait_init(&c->w);
	c->next = atomic_load(&sh.calls);
	while (!atomic_compare_exchange_weak(&sh.calls, &c->next, c))
		;
	crew_ring();
	return c;
}

int sh_crew_post(int (*fn)(void *), void *arg)
{
	return enqueue(fn, arg, true) == NULL ? -ENOMEM : 0;
}

int sh_crew_call(int (*fn)(void *), void *arg)
{
	struct sh_call *c;
	int err;

	if (sh_is_crew)
		return fn(arg);
	c = enqueue(fn, arg, false);
	if (c == NULL)
		return -ENOMEM;
	err = sh_wait(&c->w);
	sh_free(c, sizeof *c);
	return err;
}

static struct sh_call *take_calls(void)
{
	struct sh_call *c = atomic_exchange(&sh.calls, NULL), *list = NULL, *next;

	for (; c != NULL; c = next) {		/* oldest first */
		next = c->next;
		c->next = list;
		list = c;
	}
	return list;
}

static bool crew_round(void)
{
	struct sh_slot *sl = atomic_exchange(&sh.kicks, NULL), *snext;
	struct sh_call *c = take_calls(), *cnext;
	bool ring = atomic_exchange(&sh.ring, false), did = sl != NULL || c != NULL || ring;

	if (ring)
		sh_serve_bell();
	for (; sl != NULL; sl = snext) {
		snext = sl->sl_kick;
		atomic_store(&sl->sl_queued, 0);
		sh_slot_kicked(sl);
	}
	for (; c != NULL; c = cnext) {
		int err = c->fn(c->arg);

		cnext = c->next;
		if (c->posted)
			sh_free(c, sizeof *c);
		else
			sh_wake(&c->w, err);
	}
	return did;
}

/* A file that is empty and stays so: every access to a mapping of it is SIGBUS. */
int sh_empty_file(void)
{
	long fd = sh_sys(SYS_memfd_create, "pinfs-eof", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0)
		(void)sh_sys(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	return (int)fd;
}

static int uffd_open(void)
{
	const uint64_t need = UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_THREAD_ID;
	const uint64_t files = UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED;
	/* Linux 6.6, 6.4, before */
	const uint64_t more[] = { need | files | UFFD_FEATURE_POISON, need | files, need };
	struct uffdio_api api;
	long fd = sh.user_mode_test ? -EACCES : sh_sys(SYS_userfaultfd, O_CLOEXEC);
	long dev, r = -EINVAL;

	if (fd == -EPERM) {
		dev = sh_sys(SYS_openat, AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0);
		if (dev >= 0) {
			fd = sh_sys(SYS_ioctl, dev, _IO(0xAA, 0x00), O_CLOEXEC);
			(void)sh_sys(SYS_close, dev);
		}
	}
	if (fd < 0) {
		fd = sh_sys(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
		sh.user_mode = fd >= 0;
	}
	if (fd < 0)
		return (int)fd;
	for (unsigned int i = 0; r == -EINVAL && i < PF_ARRAY_LEN(more); i++) {
		api = (struct uffdio_api){ .api = UFFD_API, .features = more[i] };
		r = sh_sys(SYS_ioctl, fd, UFFDIO_API, &api);
		sh.guard = r == 0 && i <= 1 && !sh.user_mode;
		sh.poison = r == 0 && i == 0;
	}
	if (r < 0) {
		(void)sh_sys(SYS_close, fd);
		return (int)r;
	}
	return (int)fd;
}

static int crew_set_up(void)
{
	struct epoll_event ev = { .events = EPOLLIN };	/* ptr NULL: the bell */
	long r;

	/* An empty table of our own; nothing is copied, so no close() of anything happens here. */
	r = sh_sys(SYS_close_range, 0, UINT_MAX, CLOSE_RANGE_UNSHARE);
	if (r < 0)
		return (int)r;
	/* A root and working directory of our own: what we open stays within reach when the program does chroot(), no
	 * mount is busy on account of us alone, and setns() into a mount namespace wants nobody to share its. */
	if (sh_sys(SYS_unshare, CLONE_FS) == 0)
		(void)sh_sys(SYS_chdir, "/");
	/* Whoever writes to "stderr" from one of our threads (libc, a sanitizer) must not hit a descriptor that
	 * matters. */
	for (int i = 0; i < 3; i++) {
		r = sh_sys(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
		if (r < 0)
			r = sh_empty_file();	/* a bare root directory */
		if (r < 0)
			return (int)r;
	}
	sh.pidfd = (int)sh_sys(SYS_pidfd_open, sh.pid, 0);
	if (sh.pidfd < 0)
		return sh.pidfd;
	sh.bell = (int)sh_sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sh.bell < 0)
		return sh.bell;
	sh.epoll = (int)sh_sys(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (sh.epoll < 0)
		return sh.epoll;
	r = sh_sys(SYS_epoll_ctl, sh.epoll, EPOLL_CTL_ADD, sh.bell, &ev);
	if (r < 0)
		return (int)r;
	sh.eof_fd = sh_empty_file();
	if (sh.eof_fd < 0)
		return sh.eof_fd;
	sh.uffd = uffd_open();
	if (sh.uffd < 0)
		return sh.uffd;
	r = spawn(sh_watch_main, NULL);
	if (r == 0)
		r = spawn(serve_main, NULL);
	/* A process ends with its last thread, and ours, which never end, are not its own. */
	if (r == 0 && sh_real.nthreads != NULL)
		atomic_fetch_sub(sh_real.nthreads, 3);
	return (int)r;
}

static void *crew_main(void *arg)
{
	uint32_t word;
	long r;
	int err;

	sh_is_crew = true;
	sh_name_thread("pinfs-crew");
	err = crew_set_up();
	sh_wake(arg, err);
	if (err)
		return NULL;
	for (;;) {
		word = atomic_load(&sh.crew_word);
		if (crew_round())
			continue;
		r = sh_sys(SYS_futex, &sh.crew_word, FUTEX_WAIT_PRIVATE, word, NULL);
		if (refusal(r))
			sh_crew_fatal("futex(2)", r);
	}
}

int sh_engine_start(void)
{
	struct sh_waiter w;
	int err;

	if (atomic_load(&sh.running))
		return 0;
	pthread_mutex_lock(&start_lock);
	err = sh.no_engine;
	if (!atomic_load(&sh.running) && err == 0) {
		sh_wait_init(&w);
		err = spawn(crew_main, &w);
		if (err == 0)
			err = sh_wait(&w);
		if (err)
			sh_log(SH_WARN, "no windows in this process: %s (plain mmap is used)", strerrordesc_np(-err));
		if (sh.user_mode)
			sh_log(SH_INFO, "userfaultfd is for user mode only: see libpinfs(7), CAVEATS");
		sh.no_engine = err;
		atomic_store(&sh.running, err == 0);
	}
	pthread_mutex_unlock(&start_lock);
	return err;
}

/* In the child of a fork: the threads stayed behind. */
void sh_engine_forget(void)
{
	pthread_mutex_init(&start_lock, NULL);
	atomic_store(&sh.running, false);
	atomic_store(&sh.calls, NULL);
	atomic_store(&sh.kicks, NULL);
	atomic_store(&sh.faults, NULL);
	atomic_store(&sh.stuck, 0);
	atomic_store(&fail_said, false);
	sh.no_engine = 0;
	sh.user_mode = false;
	sh.guard = false;
}

/* ---- descriptors ---- */

int sh_crew_take_fd(int tid, int fd)
{
	long pfd = sh_sys(SYS_pidfd_open, tid, PIDFD_OF_THREAD), r;
	char path[64];

	/* Before Linux 6.9 the thread group leader stands for its threads; it shares their table unless it has
	 * left. */
	r = sh_sys(SYS_pidfd_getfd, pfd >= 0 ? pfd : sh.pidfd, fd, 0);
	if (pfd >= 0)
		(void)sh_sys(SYS_close, pfd);
	if (r == -EPERM || r == -ENOSYS || r == -ESRCH) {
		(void)snprintf(path, sizeof path, "/proc/%d/task/%d/fd/%d", (int)sh.pid, tid, fd);
		r = sh_sys(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
		if (r < 0)
			r = sh_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	}
	return (int)r;
}

int sh_crew_send_fds(int sock, const int *fds, unsigned int n)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(SH_SEND_FDS * sizeof(int))];
	} c;
	struct iovec iov = { .iov_base = &n, .iov_len = sizeof n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	long r;

	memset(&c, 0, sizeof c);
	c.h.cmsg_level = SOL_SOCKET;
	c.h.cmsg_type = SCM_RIGHTS;
	c.h.cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(&c.h), fds, n * sizeof(int));
	r = sh_sys(SYS_sendmsg, sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	return r < 0 ? (int)r : 0;
}

int sh_recv_fds(int sock, int *fds, unsigned int room)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(SH_SEND_FDS * sizeof(int))];
	} c;
	unsigned int told = 0, n;
	struct iovec iov = { .iov_base = &told, .iov_len = sizeof told };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c };
	long r = sh_sys(SYS_recvmsg, sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *h;

	if (r < 0)
		return (int)r;
	h = CMSG_FIRSTHDR(&m);
	if (r != (long)sizeof told || h == NULL || h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
		return -EPROTO;
	n = (unsigned int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	for (unsigned int i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
		if (i < room)
			fds[i] = fd;
		else
			(void)sh_sys(SYS_close, fd);
	}
	return (int)(n < room ? n : room);
}

struct lend {
	int tid, sock;
	int (*pick)(void *);
	void *arg;
};

static int lend_in_crew(void *arg)
{
	struct lend *l = arg;
	int fd = l->pick(l->arg), sock, err;

	if (fd < 0)
		return fd;
	sock = sh_crew_take_fd(l->tid, l->sock);
	if (sock < 0)
		return sock;
	err = sh_crew_send_fds(sock, &fd, 1);
	(void)sh_sys(SYS_close, sock);
	return err;
}

int sh_crew_lend(int *out_fd, int (*pick)(void *), void *arg)
{
	struct lend l = { .tid = (int)sh_sys(SYS_gettid), .pick = pick, .arg = arg };
	int sv[2], err;

	err = (int)sh_sys(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv);
	if (err < 0)
		return err;
	l.sock = sv[1];
	err = sh_crew_call(lend_in_crew, &l);
	if (err == 0)
		err = sh_recv_fds(sv[0], out_fd, 1);
	(void)sh_sys(SYS_close, sv[0]);
	(void)sh_sys(SYS_close, sv[1]);
	return err == 1 ? 0 : err < 0 ? err : -EIO;
}
