/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_privilege.c - who gets windows, and what is the same for those who may use userfaultfd for their own accesses
 * only:
 * system calls with memory in windows, while these are taken away all the time. Run as root and as nobody.
 */
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <pinfs/pin.h>

#define PAGE 4096UL
#define MIB (1UL << 20)
#define CHUNK (2 * MIB)
#define LEN (16 * MIB)
#define ROUNDS 20
#define SOME_GROUP 54321

static struct pt_fs *fs;
static int file;
static char plain_path[4096 + 16];

static bool stage(const char *opts, mode_t image)
{
	if (!pt_need_mount())
		return false;
	fs = pt_fs_start("64M", opts);
	PT_SYS_FATAL(chmod(fs->img, image));
	PT_SYS_FATAL(chmod(fs->dir, 0777));
	PT_SYS_FATAL(chmod(pt_tmp(), 0711));	/* nobody has to get there */
	file = open(pt_path(fs, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	PT_SYS_FATAL(file);
	PT_SYS_FATAL(fchmod(file, 0666));
	PT_SYS_FATAL(ftruncate(file, LEN));
	(void)snprintf(plain_path, sizeof plain_path, "%s/plain", fs->dir);
	return true;
}

static void strike(void)
{
	PT_SYS(close(file));
	pt_fs_end(fs);
}

/* ---- who gets windows ---- */

/* 1: a window and pins; 0: the kernel's mapping, and no pins; -1: something else. */
static int what_i_get(void)
{
	struct pinfs_range_info ri;
	struct pinfs_pin *pin;
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), b = 0;
	int q, rc = -1;

	if (p == MAP_FAILED)
		return -1;
	p[5] = 'm';
	q = pinfs_range_query(p, PAGE, &ri);
	if (q == 0 && pinfs_pin(p, PAGE, PINFS_PIN_WRITE, &pin) == 0 && pinfs_unpin(pin) == 0)
		rc = 1;
	if (q == -EOPNOTSUPP && pinfs_pin(p, PAGE, 0, &pin) == -EOPNOTSUPP && pinfs_device(p) == -EOPNOTSUPP)
		rc = 0;
	/* Either way it is the file. */
	if (msync(p, LEN, MS_SYNC) != 0 || pread(file, &b, 1, 5) != 1 || b != 'm' || pwrite(file, "w", 1, 6) != 1)
		return -1;
	if (q == 0 && p[6] != 'w')
		return -1;
	return munmap(p, LEN) == 0 ? rc : -1;
}

static int as_nobody(void *arg)
{
	int want = *(const int *)arg, fd;

	NEED(child_be_nobody() == 0);
	NEED(what_i_get() == want);
	/* The rest of the mount is an ordinary filesystem. */
	fd = open(pt_path(fs, "pub/n"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	NEED(fd >= 0 && write(fd, "n", 1) == 1 && close(fd) == 0 && unlink(pt_path(fs, "pub/n")) == 0);
	return 0;
}

static int in_group(void *arg)
{
	gid_t g = SOME_GROUP;

	NEED(setgroups(1, &g) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
	NEED(what_i_get() == *(const int *)arg);
	return 0;
}

static int as_root(void *arg)
{
	NEED(what_i_get() == *(const int *)arg);
	return 0;
}

static void who(void)
{
	int yes = 1, no = 0;

	if (!stage("allow_other", 0600))
		return;
	PT_SYS(mkdir(pt_path(fs, "pub"), 0777));
	PT_SYS(chmod(pt_path(fs, "pub"), 0777));
	child_play(as_nobody, &no);
	child_play(in_group, &no);
	child_play(as_root, &yes);
	PT_SYS(chown(fs->img, 0, SOME_GROUP));
	PT_SYS(chmod(fs->img, 0660));
	child_play(as_nobody, &no);
	child_play(in_group, &yes);
	PT_SYS(chmod(fs->img, 0640));	/* stores need write permission on the device */
	child_play(in_group, &no);
	PT_SYS(chmod(fs->img, 0666));
	child_play(as_nobody, &yes);
	child_play(as_root, &yes);
	strike();
}

static int stranger(void *arg)
{
	struct stat st;

	(void)arg;
	NEED(child_be_nobody() == 0);
	NEED(stat(fs->mnt, &st) != 0 && errno == EACCES);
	return 0;
}

static void without_allow_other(void)
{
	if (!stage(NULL, 0666))
		return;
	child_play(stranger, NULL);
	strike();
}

/* ---- calls whose memory is in windows that are taken away all the time ---- */

struct storm {
	char *p;
	atomic_bool stop;
	pthread_t t[2];
	unsigned long turns;
};

/* More chunks than the window has: each touch takes another's slot away. */
static void *reclaimer(void *arg)
{
	struct storm *s = arg;

	for (size_t at = 0; !atomic_load(&s->stop); at = (at + CHUNK) % LEN, s->turns++)
		(void)*(volatile char *)(s->p + at + CHUNK - 8);
	return NULL;
}

/* Each chunk's last page is nobody's. The range that is invalidated is the whole chunk, by a move of blocks
 * elsewhere. */
static void *puncher(void *arg)
{
	struct storm *s = arg;

	for (size_t at = 0; !atomic_load(&s->stop); at = (at + CHUNK) % LEN)
		(void)fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(at + CHUNK - PAGE),
			(off_t)PAGE);
	return NULL;
}

static int storm_start(struct storm *s)
{
	s->p = child_map(file, LEN);
	NEED(s->p != NULL);
	NEED(pthread_create(&s->t[0], NULL, reclaimer, s) == 0);
	NEED(pthread_create(&s->t[1], NULL, puncher, s) == 0);
	return 0;
}

static int storm_end(struct storm *s)
{
	atomic_store(&s->stop, true);
	NEED(pthread_join(s->t[0], NULL) == 0 && pthread_join(s->t[1], NULL) == 0);
	return munmap(s->p, LEN);
}

/* A place in a window: another chunk each time, not always at the start of a page. */
static char *place(const struct storm *s, size_t n)
{
	static size_t turn;

	turn++;
	return s->p + turn * 5 % 8 * CHUNK + turn * 7 % 32 * 8 * PAGE + turn % 3 * (PAGE - n / 2 - turn % 3 * 8);
}

static int io_calls(struct storm *s, unsigned int round)
{
	int fd = open(plain_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), io[2];
	char *a = place(s, 3 * PAGE), *b = place(s, 100), heap[3 * PAGE];
	struct iovec *v = (struct iovec *)(void *)(((uintptr_t)place(s, 0)) & ~7UL), local[3];

	NEED(fd >= 0 && unlink(plain_path) == 0);
	memset(heap, (int)(round + 1), sizeof heap);
	memcpy(a, heap, sizeof heap);
	NEED(write(fd, a, sizeof heap) == (ssize_t)sizeof heap);
	NEED(pwrite(fd, a + 5, 100, 20) == 100);
	memset(a, 0, sizeof heap);
	NEED(pread(fd, a, sizeof heap + 5, 0) == (ssize_t)sizeof heap);	/* the file ends before the buffer */
	NEED(memcmp(a, heap, sizeof heap) == 0);
	NEED(lseek(fd, 0, SEEK_SET) == 0 && read(fd, b, 100) == 100 && memcmp(b, heap, 100) == 0);
	/* Pieces of windows and of something else, in an array that is in a window itself. */
	memset(a, 0, 200);
	v[0] = (struct iovec){ a, 100 };
	v[1] = (struct iovec){ heap, 50 };
	v[2] = (struct iovec){ a + 150, 50 };
	memset(heap, 0, 50);
	NEED(preadv(fd, v, 3, 0) == 200);
	NEED(a[99] == (char)(round + 1) && a[100] == 0 && a[150] == (char)(round + 1) && heap[49] == (char)(round + 1));
	NEED(pwritev2(fd, v, 3, 0, 0) == 200);
	local[0] = v[0];
	local[1] = (struct iovec){ b, 10 };
	NEED(preadv2(fd, local, 2, 0, 0) == 110);
	NEED(writev(fd, local, 2) == 110 && lseek(fd, 0, SEEK_SET) == 0 && readv(fd, local, 2) == 110);
	/* A hole of the window, as zeros. */
	NEED(pwrite(fd, s->p + CHUNK - PAGE, 64, 0) == 64 && pread(fd, heap, 64, 0) == 64 && heap[63] == 0);
	NEED(pipe(io) == 0 && write(io[1], a, 64) == 64 && read(io[0], b, 1000) == 64 && memcmp(a, b, 64) == 0);
	(void)close(io[0]);
	(void)close(io[1]);
	NEED(getrandom(b, 100, 0) == 100);
	return close(fd);
}

static int socket_calls(struct storm *s, unsigned int round)
{
	char *a = place(s, 600), *b = place(s, 600);
	struct iovec iov = { a, 300 };
	struct msghdr *m = (struct msghdr *)(void *)((uintptr_t)place(s, 0) & ~15UL), out = { .msg_iov = &iov,
		.msg_iovlen = 1 };
	struct mmsghdr mm[2];
	struct iovec two[2] = { { b, 300 }, { b + 300, 300 } };
	socklen_t *len = (socklen_t *)(void *)((uintptr_t)place(s, 0) & ~15UL);
	int sv[2], *opt = (int *)(void *)((uintptr_t)place(s, 0) & ~15UL);

	NEED(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv) == 0);
	memset(a, (int)round, 300);
	NEED(send(sv[0], a, 300, 0) == 300 && recv(sv[1], b, 600, 0) == 300 && memcmp(a, b, 300) == 0);
	NEED(sendto(sv[0], a, 200, 0, NULL, 0) == 200);
	*len = 0;
	NEED(recvfrom(sv[1], b, 600, 0, NULL, NULL) == 200 && memcmp(a, b, 200) == 0);
	NEED(sendmsg(sv[0], &out, 0) == 300);
	*m = (struct msghdr){ .msg_iov = two, .msg_iovlen = 2, .msg_control = a + 400, .msg_controllen = 64 };
	memset(b, 1, 600);
	NEED(recvmsg(sv[1], m, 0) == 300 && m->msg_controllen == 0 && memcmp(a, b, 300) == 0 && b[300] == 1);
	for (int i = 0; i < 2; i++)
		mm[i] = (struct mmsghdr){ .msg_hdr = out };
	NEED(sendmmsg(sv[0], mm, 2, 0) == 2 && mm[1].msg_len == 300);
	memset(b, 1, 600);
	for (int i = 0; i < 2; i++)
		mm[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &two[i], .msg_iovlen = 1 } };
	NEED(recvmmsg(sv[1], mm, 2, 0, NULL) == 2 && mm[0].msg_len == 300);
	NEED(memcmp(a, b, 300) == 0 && memcmp(a, b + 300, 300) == 0);
	*len = sizeof *opt;
	*opt = -1;
	NEED(getsockopt(sv[0], SOL_SOCKET, SO_TYPE, opt, len) == 0 && *opt == SOCK_DGRAM && *len == sizeof *opt);
	*opt = 1;
	NEED(setsockopt(sv[0], SOL_SOCKET, SO_PASSCRED, opt, sizeof *opt) == 0);
	*len = 100;
	NEED(getsockname(sv[0], (struct sockaddr *)(void *)b, len) == 0 && *len == sizeof(sa_family_t));
	(void)close(sv[0]);
	return close(sv[1]);
}

static int small_calls(struct storm *s)
{
	struct stat *st = (struct stat *)(void *)((uintptr_t)place(s, 0) & ~15UL), mine;
	struct statfs *sf = (struct statfs *)(void *)((uintptr_t)place(s, 0) & ~15UL);
	struct statx *sx = (struct statx *)(void *)((uintptr_t)place(s, 0) & ~15UL);
	struct pollfd *pf = (struct pollfd *)(void *)((uintptr_t)place(s, 0) & ~15UL);
	struct epoll_event *ev = (struct epoll_event *)(void *)((uintptr_t)place(s, 0) & ~15UL);
	fd_set *set = (fd_set *)(void *)((uintptr_t)place(s, 0) & ~15UL);
	int *n = (int *)(void *)((uintptr_t)place(s, 0) & ~15UL), io[2], ep;
	char *b = place(s, 400);

	NEED(fstat(file, &mine) == 0);
	NEED(fstat(file, st) == 0 && st->st_ino == mine.st_ino && st->st_size == (off_t)LEN);
	memset(st, 0, sizeof *st);
	NEED(stat(pt_path(fs, "f"), st) == 0 && st->st_ino == mine.st_ino);
	NEED(statx(file, "", AT_EMPTY_PATH, STATX_BASIC_STATS, sx) == 0 && sx->stx_ino == mine.st_ino);
	NEED(fstatfs(file, sf) == 0 && sf->f_bsize != 0);
	NEED(pipe2(n, O_CLOEXEC) == 0);
	io[0] = n[0];
	io[1] = n[1];
	*pf = (struct pollfd){ .fd = io[0], .events = POLLIN };
	NEED(poll(pf, 1, 0) == 0 && write(io[1], "abc", 3) == 3 && poll(pf, 1, -1) == 1 && pf->revents == POLLIN);
	NEED(ioctl(io[0], FIONREAD, n) == 0 && *n == 3);
	FD_ZERO(set);
	FD_SET(io[0], set);
	NEED(select(io[0] + 1, set, NULL, NULL, NULL) == 1 && FD_ISSET(io[0], set));
	ep = epoll_create1(EPOLL_CLOEXEC);
	*ev = (struct epoll_event){ .events = EPOLLIN, .data.u64 = 77 };
	NEED(ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, io[0], ev) == 0);
	memset(ev, 0, sizeof *ev);
	NEED(epoll_wait(ep, ev, 4, -1) == 1 && ev->data.u64 == 77);
	NEED(readlink("/proc/self/exe", b, 400) > 0 && b[0] == '/');
	NEED(fgetxattr(file, "user.none", b, 100) == -1 && errno == ENODATA);
	/* A request whose number says how much: the flags of the file. */
	NEED(ioctl(file, FS_IOC_FSGETXATTR, b) == 0 || errno == ENOTTY || errno == EACCES);
	(void)close(ep);
	(void)close(io[0]);
	return close(io[1]);
}

static int all_calls(void *arg)
{
	struct storm s = { .turns = 0 };

	(void)arg;
	NEED(storm_start(&s) == 0);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		NEED(io_calls(&s, i) == 0);
		NEED(socket_calls(&s, i) == 0);
		NEED(small_calls(&s) == 0);
	}
	return storm_end(&s);
}

#define DATAGRAMS 500

static void *sender(void *arg)
{
	for (unsigned int i = 0; i < DATAGRAMS; i++) {
		if (write(*(const int *)arg, &i, sizeof i) != (ssize_t)sizeof i)
			break;
	}
	return NULL;
}

/* A call that failed half-way would lose one. */
static int no_datagram_lost(void *arg)
{
	struct storm s = { .turns = 0 };
	unsigned int *to;
	pthread_t t;
	int sv[2];

	(void)arg;
	NEED(storm_start(&s) == 0 && socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv) == 0);
	NEED(pthread_create(&t, NULL, sender, &sv[1]) == 0);
	for (unsigned int i = 0; i < DATAGRAMS; i++) {
		to = (unsigned int *)(void *)((uintptr_t)place(&s, 0) & ~3UL);
		NEED(read(sv[0], to, sizeof *to) == (ssize_t)sizeof *to);
		NEED(*to == i);
	}
	NEED(pthread_join(t, NULL) == 0);
	return storm_end(&s);
}

/* ---- a call that waits ---- */

static int pipe_io[2];

static void *blocked(void *arg)
{
	return read(pipe_io[0], arg, 16) == 16 ? arg : NULL;
}

static bool in_call(pid_t tid)
{
	char path[64], buf[64] = "";
	int fd;

	(void)snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	if (read(fd, buf, sizeof buf - 1) < 0)
		buf[0] = '\0';
	(void)close(fd);
	return strncmp(buf, "0 ", 2) == 0;	/* read(2) */
}

static _Atomic int blocked_tid;

static void *blocked_with_tid(void *arg)
{
	atomic_store(&blocked_tid, (int)gettid());
	return blocked(arg);
}

static int wait_blocked(void)
{
	uint64_t end = pt_now_ms() + 60000;
	int tid;

	while ((tid = atomic_load(&blocked_tid)) == 0 || !in_call(tid))
		NEED(pt_now_ms() < end);
	atomic_store(&blocked_tid, 0);
	return 0;
}

static sigjmp_buf out;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

/* It holds nothing that a truncate waits for; it can be cancelled, and jumped out of. */
static int calls_that_wait(void *arg)
{
	struct itimerval tv = { .it_value = { .tv_usec = 20000 } };
	struct sigaction sa = { .sa_handler = jump };
	char *p = child_map(file, LEN), left[16];
	volatile int jumped = 0;
	pthread_t t;
	void *how;

	(void)arg;
	NEED(p != NULL && pipe2(pipe_io, O_CLOEXEC) == 0);
	p[3 * CHUNK] = 1;
	NEED(pthread_create(&t, NULL, blocked_with_tid, p + 3 * CHUNK) == 0 && wait_blocked() == 0);
	NEED(ftruncate(file, 0) == 0 && ftruncate(file, LEN) == 0);
	NEED(write(pipe_io[1], "0123456789abcdef", 16) == 16);
	NEED(pthread_join(t, &how) == 0 && how == p + 3 * CHUNK && memcmp(how, "0123456789abcdef", 16) == 0);
	/* The page has gone for good: as the kernel says it. */
	NEED(pthread_create(&t, NULL, blocked_with_tid, p + 3 * CHUNK) == 0 && wait_blocked() == 0);
	NEED(ftruncate(file, 0) == 0 && write(pipe_io[1], "0123456789abcdef", 16) == 16);
	NEED(pthread_join(t, &how) == 0 && how == NULL);
	NEED(ftruncate(file, LEN) == 0);
	/* Whether the bytes are still there is the pipe's business. */
	NEED(fcntl(pipe_io[0], F_SETFL, O_NONBLOCK) == 0);
	while (read(pipe_io[0], left, sizeof left) > 0)
		;
	NEED(fcntl(pipe_io[0], F_SETFL, 0) == 0);
	NEED(pthread_create(&t, NULL, blocked_with_tid, p + 3 * CHUNK) == 0 && wait_blocked() == 0);
	NEED(pthread_cancel(t) == 0 && pthread_join(t, &how) == 0 && how == PTHREAD_CANCELED);
	NEED(sigaction(SIGALRM, &sa, NULL) == 0);
	for (volatile int i = 0; i < 3; i++) {
		if (sigsetjmp(out, 1) == 0) {
			NEED(setitimer(ITIMER_REAL, &tv, NULL) == 0);
			(void)read(pipe_io[0], p + 4 * CHUNK, 16);
		} else {
			jumped++;
		}
	}
	NEED(jumped == 3);
	NEED(write(pipe_io[1], "0123456789abcdef", 16) == 16 && read(pipe_io[0], p + 4 * CHUNK, 16) == 16);
	NEED(memcmp(p + 4 * CHUNK, "0123456789abcdef", 16) == 0);
	NEED(ftruncate(file, 0) == 0 && ftruncate(file, LEN) == 0);
	return 0;
}

static int dropped(void *arg)
{
	int (*fn)(void *);

	memcpy(&fn, arg, sizeof fn);
	NEED(child_be_nobody() == 0);
	return fn(NULL);
}

/* Past the library the kernel says EFAULT on what nobody touched: what is tested here would be seen if it were
 * missing. */
static int twin(void *arg)
{
	char *p = child_map(file, LEN);
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	(void)arg;
	NEED(p != NULL && fd >= 0);
	NEED(syscall(SYS_read, fd, p + 7 * CHUNK, 100L) == -1 && errno == EFAULT);
	NEED(read(fd, p + 7 * CHUNK, 100) == 100);
	return 0;
}

static void unprivileged(void)
{
	int (*const fn[])(void *) = { twin, all_calls, no_datagram_lost, calls_that_wait };
	bool user_only = access("/dev/userfaultfd", W_OK) != 0 || geteuid() == 0;
	char c = '0';
	int fd = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		PT_EQ(read(fd, &c, 1), 1);
		(void)close(fd);
	}
	if (!stage("allow_other,window=12M", 0666))
		return;
	/* Where everybody has the privilege, there is nothing to see by the twin. */
	for (size_t i = c == '0' && user_only ? 0 : 1; i < PF_ARRAY_LEN(fn); i++) {
		int (*one)(void *) = fn[i];

		child_play(dropped, &one);
	}
	strike();
}

/* The same calls where the kernel's own faults are served: nothing to do for us. */
static void privileged(void)
{
	if (!stage("window=12M", 0600))
		return;
	child_play(all_calls, NULL);
	child_play(no_datagram_lost, NULL);
	child_play(calls_that_wait, NULL);
	strike();
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "who gets windows", who, 0 },
		{ "without allow_other", without_allow_other, 0 },
		{ "calls, unprivileged", unprivileged, 0 },
		{ "calls, privileged", privileged, 0 },
	};
	static const struct pt_suite suites[] = { { "privilege", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
