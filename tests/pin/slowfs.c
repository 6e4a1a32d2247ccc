/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slowfs.c - the mount and its server (slowfs.h). The server owns the connection and the requests that wait; orders and
 * numbers pass through a page of shared memory, an eventfd rings.
 */
#include "pin/slowfs.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define MOUNTS 4
#define QUEUE 4096
#define FILE_INO 2
#define NAME "file"
#define WAIT_MS 30000

struct shared {
	_Atomic uint32_t hold, waiting, release, released;
	_Atomic int32_t err;
	_Atomic uint64_t nwritten;
	char written[SLOW_MAX];
};

struct slow {
	char mnt[512], path[600];
	struct shared *sh;
	int bell;
	pid_t pid;
};

static struct slow all[MOUNTS];

/* ---- the server ---- */

struct waiting {
	uint64_t unique;
	uint32_t len;
	bool read;
};

static struct {
	int fd;
	struct shared *sh;
	struct waiting queue[QUEUE];
	unsigned int n;
	_Alignas(uint64_t) char in[SLOW_MAX + 4096];
	char data[SLOW_MAX];
} srv;

static void reply(uint64_t unique, int err, const void *body, size_t len)
{
	struct fuse_out_header h = { .len = (uint32_t)(sizeof h + (err ? 0 : len)), .error = -err, .unique = unique };
	struct iovec v[2] = { { &h, sizeof h }, { (void *)(uintptr_t)body, len } };

	/* ENOENT: the request was aborted. */
	if (writev(srv.fd, v, err || len == 0 ? 1 : 2) < 0 && errno != ENOENT)
		_exit(3);
}

static void answer(const struct waiting *w, int err)
{
	struct fuse_write_out wo = { .size = w->len };

	if (w->read)
		reply(w->unique, err, srv.data, w->len);
	else
		reply(w->unique, err, &wo, sizeof wo);
}

static void transfer(const struct waiting *w)
{
	if (!atomic_load(&srv.sh->hold)) {
		answer(w, 0);
		return;
	}
	if (srv.n == QUEUE)
		_exit(4);
	srv.queue[srv.n++] = *w;
	atomic_store(&srv.sh->waiting, srv.n);
}

static void obey(void)
{
	uint32_t upto = atomic_load(&srv.sh->release);

	if (upto == atomic_load(&srv.sh->released))
		return;
	for (unsigned int i = 0; i < srv.n; i++)
		answer(&srv.queue[i], atomic_load(&srv.sh->err));
	srv.n = 0;
	atomic_store(&srv.sh->waiting, 0);
	atomic_store(&srv.sh->released, upto);
}

static struct fuse_attr attr_of(uint64_t ino)
{
	return (struct fuse_attr){
		.ino = ino, .nlink = 1, .blksize = 4096,
		.size = ino == FILE_INO ? SLOW_BYTES : 0,
		.mode = ino == FILE_INO ? S_IFREG | 0666 : S_IFDIR | 0777,
	};
}

static void serve(const struct fuse_in_header *h)
{
	const void *body = h + 1;
	const struct fuse_read_in *ri = body;
	const struct fuse_write_in *wi = body;
	struct fuse_init_out io = {
		.major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = SLOW_MAX, .max_write = SLOW_MAX,
		.flags = FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_BIG_WRITES | FUSE_MAX_PAGES,
		.max_pages = SLOW_MAX / 4096,
		.max_background = 1024, .congestion_threshold = 1024, .time_gran = 1,
	};
	struct fuse_entry_out eo = { .nodeid = FILE_INO, .entry_valid = 3600, .attr_valid = 3600,
				     .attr = attr_of(FILE_INO) };
	struct fuse_attr_out ao = { .attr_valid = 3600, .attr = attr_of(h->nodeid) };
	struct fuse_open_out oo = { .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES };
	struct fuse_statfs_out so = { .st = { .bsize = 4096, .frsize = 4096, .namelen = 255 } };
	size_t n;

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
		transfer(&(struct waiting){ .unique = h->unique, .len = (uint32_t)n, .read = true });
		break;
	case FUSE_WRITE:
		memcpy(srv.sh->written, wi + 1, wi->size);
		atomic_store(&srv.sh->nwritten, wi->size);
		transfer(&(struct waiting){ .unique = h->unique, .len = wi->size });
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

static int serve_all(void *arg)
{
	const struct slow *s = arg;
	struct pollfd p[2] = { { srv.fd, POLLIN, 0 }, { s->bell, POLLIN, 0 } };
	uint64_t rung;
	ssize_t n;

	srv.sh = s->sh;
	memset(srv.data, SLOW_BYTE, sizeof srv.data);
	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return 2;
		if (p[1].revents != 0 && read(s->bell, &rung, sizeof rung) == (ssize_t)sizeof rung)
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

/* ---- the test's side ---- */

static void forget(struct slow *s)
{
	(void)munmap(s->sh, sizeof *s->sh);
	(void)close(s->bell);
	(void)rmdir(s->mnt);
	memset(s, 0, sizeof *s);
}

/* A mount that is forced ends what waits in it, with an error. */
static void take_down(void)
{
	for (unsigned int i = 0; i < MOUNTS; i++) {
		if (all[i].sh == NULL)
			continue;
		(void)umount2(all[i].mnt, MNT_FORCE);
		pt_kill(all[i].pid);
		(void)umount2(all[i].mnt, MNT_DETACH);
		forget(&all[i]);
	}
}

struct slow *slow_start(void)
{
	static unsigned int serial;
	char opts[128];
	struct slow *s = NULL;

	for (unsigned int i = 0; i < MOUNTS && s == NULL; i++)
		s = all[i].sh == NULL ? &all[i] : NULL;
	CU_ASSERT_FATAL(s != NULL);
	if (geteuid() != 0) {
		pt_skip("a FUSE mount of the test's own needs root");
		return NULL;
	}
	(void)snprintf(s->mnt, sizeof s->mnt, "%s/slow%u", pt_tmp(), serial++);
	(void)snprintf(s->path, sizeof s->path, "%s/" NAME, s->mnt);
	srv.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->sh = mmap(NULL, sizeof *s->sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_FATAL(srv.fd >= 0 && s->bell >= 0 && s->sh != MAP_FAILED);
	(void)snprintf(opts, sizeof opts, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", srv.fd);
	PT_SYS_FATAL(mkdir(s->mnt, 0755));
	PT_SYS_FATAL(mount("slowfs", s->mnt, "fuse.slowfs", MS_NOSUID | MS_NODEV, opts));
	s->pid = pt_fork(serve_all, s);
	(void)close(srv.fd);
	pt_on_cleanup(take_down);
	PT_SYS_FATAL(s->pid);
	return s;
}

const char *slow_path(const struct slow *s)
{
	return s->path;
}

void slow_hold(struct slow *s, bool wait)
{
	atomic_store(&s->sh->hold, wait);
}

unsigned int slow_waiting(const struct slow *s)
{
	return atomic_load(&s->sh->waiting);
}

bool slow_await(struct slow *s, unsigned int n)
{
	uint64_t end = pt_now_ms() + WAIT_MS;

	while (slow_waiting(s) < n && pt_now_ms() < end)
		pt_sleep_ms(1);
	return slow_waiting(s) >= n;
}

void slow_release(struct slow *s, int err)
{
	const uint64_t one = 1, end = pt_now_ms() + WAIT_MS;
	uint32_t turn = atomic_load(&s->sh->release) + 1;

	atomic_store(&s->sh->err, err);
	atomic_store(&s->sh->release, turn);
	PT_EQ(write(s->bell, &one, sizeof one), sizeof one);
	while (atomic_load(&s->sh->released) != turn && pt_now_ms() < end)
		pt_sleep_ms(1);
	CU_ASSERT(atomic_load(&s->sh->released) == turn);
}

size_t slow_written(const struct slow *s, void *out, size_t room)
{
	size_t n = atomic_load(&s->sh->nwritten);

	n = n < room ? n : room;
	memcpy(out, s->sh->written, n);
	return n;
}

void slow_end(struct slow *s)
{
	PT_SYS(umount2(s->mnt, 0));
	if (pt_wait(s->pid, WAIT_MS) != 0) {
		CU_FAIL("the slow mount's server did not end in order");
		pt_kill(s->pid);
	}
	forget(s);
}
