/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slow.c - a FUSE mount of the suite's own with one file, opened with direct I/O, whose reads and writes are answered
 * when a case says so: until then the kernel has the caller's buffer pinned.
 *
 * The server is a child of the runner, speaks to /dev/fuse itself, and ignores interrupts, as a disk does. Orders are
 * a table in shared memory, so that any process of a case can give them; an eventfd rings. When the runner is gone,
 * whatever became of it, the server unmounts.
 */
#include "conform/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_INO 2
#define NAME "file"
#define HOLDS 64
#define QUEUE 1024

struct hold {
	_Atomic uint32_t used, on, waiting;
	uint64_t off, len;
};

struct shared {
	_Atomic uint32_t bell, heard;		/* turns of obey() */
	_Atomic uint64_t next;			/* byte that no transfer of the case has had */
	struct hold hold[HOLDS];
};

static struct {
	char mnt[PATH_MAX], path[PATH_MAX + sizeof NAME];
	struct shared *sh;
	char *data;				/* the file as it was written; also shared */
	int bell, life;
	pid_t pid;
} slow = { .bell = -1, .life = -1 };

/* ---- the server ---- */

struct waiting {
	uint64_t unique, off;
	uint32_t len;
	bool read;
};

static struct {
	int fd;
	struct waiting queue[QUEUE];
	unsigned int n;
	_Alignas(uint64_t) char in[SLOW_REQ + 4096];
	char full[SLOW_REQ];
} srv;

static void reply(uint64_t unique, int err, const void *body, size_t len)
{
	struct fuse_out_header h = { .len = (uint32_t)(sizeof h + (err ? 0 : len)), .error = -err, .unique = unique };
	struct iovec v[2] = { { &h, sizeof h }, { (void *)(uintptr_t)body, len } };

	/* ENOENT: the request was aborted. */
	if (writev(srv.fd, v, err || len == 0 ? 1 : 2) < 0 && errno != ENOENT)
		_exit(3);
}

static void answer(const struct waiting *w)
{
	const struct fuse_write_out wo = { .size = w->len };

	if (w->read)
		reply(w->unique, 0, srv.full, w->len);
	else
		reply(w->unique, 0, &wo, sizeof wo);
}

static bool in_hold(const struct hold *h, const struct waiting *w)
{
	return w->off < h->off + h->len && h->off < w->off + w->len;
}

static bool held(const struct waiting *w)
{
	for (unsigned int i = 0; i < HOLDS; i++)
		if (atomic_load(&slow.sh->hold[i].on) && in_hold(&slow.sh->hold[i], w))
			return true;
	return false;
}

static void count(void)
{
	for (unsigned int i = 0; i < HOLDS; i++) {
		struct hold *h = &slow.sh->hold[i];
		uint32_t n = 0;

		for (unsigned int k = 0; k < srv.n; k++)
			n += atomic_load(&h->on) && in_hold(h, &srv.queue[k]);
		atomic_store(&h->waiting, n);
	}
}

/* Answer what nothing holds any more. */
static void obey(void)
{
	const uint32_t turn = atomic_load(&slow.sh->bell);
	unsigned int left = 0;

	for (unsigned int i = 0; i < srv.n; i++) {
		if (held(&srv.queue[i]))
			srv.queue[left++] = srv.queue[i];
		else
			answer(&srv.queue[i]);
	}
	srv.n = left;
	count();
	atomic_store(&slow.sh->heard, turn);
}

static void transfer(const struct waiting *w)
{
	if (!held(w)) {
		answer(w);
		return;
	}
	if (srv.n == QUEUE)
		_exit(4);
	srv.queue[srv.n++] = *w;
	count();
}

static struct fuse_attr attr_of(uint64_t ino)
{
	return (struct fuse_attr){
		.ino = ino, .nlink = 1, .blksize = 4096, .uid = geteuid(), .gid = getegid(),
		.size = ino == FILE_INO ? SLOW_BYTES : 0,
		.mode = ino == FILE_INO ? S_IFREG | 0666 : S_IFDIR | 0755,
	};
}

static void serve(const struct fuse_in_header *h)
{
	const void *body = h + 1;
	const struct fuse_read_in *ri = body;
	const struct fuse_write_in *wi = body;
	struct fuse_init_out io = {
		.major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = SLOW_REQ, .max_write = SLOW_REQ,
		.flags = FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_BIG_WRITES | FUSE_MAX_PAGES,
		.max_pages = SLOW_REQ / 4096,
		.max_background = 1024, .congestion_threshold = 1024, .time_gran = 1,
	};
	struct fuse_entry_out eo = { .nodeid = FILE_INO, .entry_valid = 3600, .attr_valid = 3600,
				     .attr = attr_of(FILE_INO) };
	struct fuse_attr_out ao = { .attr_valid = 3600, .attr = attr_of(h->nodeid) };
	struct fuse_open_out oo = { .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES };
	struct fuse_statfs_out so = { .st = { .bsize = 4096, .frsize = 4096, .namelen = 255 } };
	uint64_t n;

	switch (h->opcode) {
	case FUSE_INIT:
		reply(h->unique, 0, &io, sizeof io);
		break;
	case FUSE_LOOKUP:
		reply(h->unique, strcmp(body, NAME) == 0 ? 0 : ENOENT, &eo, sizeof eo);
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		reply(h->unique, 0, &ao, sizeof ao);
		break;
	case FUSE_OPEN:
		reply(h->unique, 0, &oo, sizeof oo);
		break;
	case FUSE_STATFS:
		reply(h->unique, 0, &so, sizeof so);
		break;
	case FUSE_READ:
		n = ri->offset < SLOW_BYTES ? SLOW_BYTES - ri->offset : 0;
		n = ri->size < n ? ri->size : n;
		transfer(&(struct waiting){ h->unique, ri->offset, (uint32_t)n, true });
		break;
	case FUSE_WRITE:
		if (wi->offset < SLOW_BYTES && wi->size <= SLOW_BYTES - wi->offset && wi->size <= SLOW_REQ)
			memcpy(slow.data + wi->offset, wi + 1, wi->size);
		transfer(&(struct waiting){ h->unique, wi->offset, wi->size, false });
		break;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_FSYNC:
	case FUSE_DESTROY:
		reply(h->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		reply(h->unique, ENOSYS, NULL, 0);
	}
}

static void unmount(void)
{
	if (umount2(slow.mnt, MNT_DETACH) != 0 && errno == EPERM) {
		const pid_t pid = fork();

		if (pid == 0) {
			(void)execlp("fusermount3", "fusermount3", "-u", "-z", slow.mnt, (char *)NULL);
			_exit(127);
		}
		if (pid > 0)
			(void)waitpid(pid, NULL, 0);
	}
	(void)rmdir(slow.mnt);
}

static int serve_all(int life)
{
	struct pollfd p[3] = { { srv.fd, POLLIN, 0 }, { slow.bell, POLLIN, 0 }, { life, POLLIN, 0 } };
	uint64_t rung;
	ssize_t n;

	memset(srv.full, CF_DMA, sizeof srv.full);
	for (;;) {
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			return 2;
		if (p[2].revents != 0) {
			unmount();
			return 0;
		}
		if (p[1].revents != 0 && read(slow.bell, &rung, sizeof rung) == (ssize_t)sizeof rung)
			obey();
		if (p[0].revents == 0)
			continue;
		n = read(srv.fd, srv.in, sizeof srv.in);
		if (n < 0 && errno == ENODEV)
			return 0;		/* unmounted */
		if (n >= (ssize_t)sizeof(struct fuse_in_header))
			serve((const void *)srv.in);
		else if (errno != EINTR && errno != EAGAIN && errno != ENOENT)
			return 2;
	}
}

/* ---- the runner's side ---- */

/* The mount, by fusermount3, which sends the descriptor over a socket: -1 and @why. */
static int mount_by_helper(char *why, size_t room)
{
	struct iovec v = { &(char){ 0 }, 1 };
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } u;
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = u.room, .msg_controllen = sizeof u.room };
	int sv[2], fd = -1, status = 0;
	char num[16];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) != 0) {
		(void)snprintf(why, room, "socketpair: %s", strerror(errno));
		return -1;
	}
	(void)snprintf(num, sizeof num, "%d", sv[1]);
	pid = fork();
	if (pid == 0) {
		const int null = open("/dev/null", O_RDWR);

		(void)fcntl(sv[1], F_SETFD, 0);
		(void)dup2(null, 2);
		(void)unsetenv("LD_PRELOAD");
		(void)setenv("_FUSE_COMMFD", num, 1);
		(void)execlp("fusermount3", "fusermount3", "-o", "fsname=slow,subtype=pinfs-conform", "--", slow.mnt,
			     (char *)NULL);
		_exit(127);
	}
	(void)close(sv[1]);
	if (pid > 0 && recvmsg(sv[0], &m, MSG_CMSG_CLOEXEC) > 0 && CMSG_FIRSTHDR(&m) != NULL &&
	    CMSG_FIRSTHDR(&m)->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	(void)close(sv[0]);
	if (pid > 0)
		(void)waitpid(pid, &status, 0);
	if (fd >= 0)
		(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	else
		(void)snprintf(why, room, "fusermount3 mounts nothing here (status %d)", status >> 8);
	return fd;
}

static int mount_it(char *why, size_t room)
{
	char opts[128];
	int fd;

	if (geteuid() != 0)
		return mount_by_helper(why, room);
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		(void)snprintf(why, room, "/dev/fuse: %s", strerror(errno));
		return -1;
	}
	(void)snprintf(opts, sizeof opts, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
	if (mount("slow", slow.mnt, "fuse.pinfs-conform", MS_NOSUID | MS_NODEV, opts) == 0)
		return fd;
	(void)snprintf(why, room, "mount(2) of a FUSE filesystem: %s", strerror(errno));
	(void)close(fd);
	return -1;
}

bool slow_start(const char *dir, char *why, size_t room)
{
	int life[2];

	(void)snprintf(slow.mnt, sizeof slow.mnt, "%.*s/pinfs-slow.XXXXXX", PATH_MAX - 32, dir);
	if (mkdtemp(slow.mnt) == NULL) {
		(void)snprintf(why, room, "%s: %s", slow.mnt, strerror(errno));
		return false;
	}
	(void)snprintf(slow.path, sizeof slow.path, "%s/" NAME, slow.mnt);
	srv.fd = mount_it(why, room);
	if (srv.fd < 0) {
		(void)rmdir(slow.mnt);
		return false;
	}
	slow.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	slow.sh = mmap(NULL, sizeof *slow.sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	slow.data = mmap(NULL, SLOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slow.bell < 0 || slow.sh == MAP_FAILED || slow.data == MAP_FAILED || pipe2(life, O_CLOEXEC) != 0) {
		(void)snprintf(why, room, "%s", strerror(errno));
		unmount();
		return false;
	}
	slow.pid = fork();
	if (slow.pid == 0) {
		(void)close(life[1]);
		(void)prctl(PR_SET_NAME, "pinfs-slow");
		(void)setsid();		/* a terminal's Ctrl-C is the runner's */
		_exit(serve_all(life[0]));
	}
	(void)close(life[0]);
	(void)close(srv.fd);
	slow.life = life[1];
	if (slow.pid > 0)
		return true;
	(void)snprintf(why, room, "fork: %s", strerror(errno));
	unmount();
	return false;
}

bool slow_there(void) { return slow.pid > 0; }
pid_t slow_pid(void) { return slow.pid; }
const char *slow_file(void) { return slow.path; }
const char *slow_data(uint64_t off) { return slow.data + off; }

/* Until the server has seen what is in the table now. */
static void ring(void)
{
	const uint32_t turn = atomic_fetch_add(&slow.sh->bell, 1) + 1;
	const uint64_t one = 1;

	while ((int32_t)(atomic_load(&slow.sh->heard) - turn) < 0 && kill(slow.pid, 0) == 0) {
		(void)!write(slow.bell, &one, sizeof one);
		(void)usleep(50);
	}
}

uint64_t slow_region(uint64_t len)
{
	return atomic_fetch_add(&slow.sh->next, (len + SLOW_REQ - 1) / SLOW_REQ * SLOW_REQ);
}

int slow_hold(uint64_t off, uint64_t len)
{
	for (int i = 0; i < HOLDS; i++) {
		struct hold *h = &slow.sh->hold[i];
		uint32_t no = 0;

		if (!atomic_compare_exchange_strong(&h->used, &no, 1))
			continue;
		h->off = off;
		h->len = len;
		atomic_store(&h->waiting, 0);
		atomic_store(&h->on, 1);
		ring();
		return i;
	}
	return -1;
}

void slow_release(int hold)
{
	atomic_store(&slow.sh->hold[hold].on, 0);
	ring();
	atomic_store(&slow.sh->hold[hold].used, 0);
}

unsigned int slow_waiting(int hold)
{
	return atomic_load(&slow.sh->hold[hold].waiting);
}

void slow_reset(void)
{
	bool any = false;

	for (int i = 0; slow_there() && i < HOLDS; i++) {
		any = any || atomic_load(&slow.sh->hold[i].used);
		atomic_store(&slow.sh->hold[i].on, 0);
	}
	if (any)
		ring();
	for (int i = 0; slow_there() && i < HOLDS; i++)
		atomic_store(&slow.sh->hold[i].used, 0);
	if (slow_there())
		atomic_store(&slow.sh->next, 0);
	if (any)
		(void)madvise(slow.data, SLOW_BYTES, MADV_REMOVE);
}

void slow_stop(void)
{
	if (!slow_there())
		return;
	slow_reset();
	(void)close(slow.life);
	(void)waitpid(slow.pid, NULL, 0);
	slow.pid = 0;
	/* Somebody has killed the server. */
	if (access(slow.mnt, F_OK) == 0 || errno != ENOENT)
		unmount();
}
