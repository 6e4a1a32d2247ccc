/* SPDX-License-Identifier: BSD-3-Clause */
/* slowsrv.c - see slowsrv.h. The server owns the connection and the requests that wait. */
#include "harness/slowsrv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_INO 2
#define QUEUE 4096

/* ---- the server ---- */

struct waiting {
	uint64_t unique, off;
	uint32_t len;
	bool read;
};

static struct {
	const struct slowsrv *s;
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
	if (writev(srv.s->fd, v, err || len == 0 ? 1 : 2) < 0 && errno != ENOENT)
		_exit(3);
}

static void answer(const struct waiting *w, int err)
{
	const struct fuse_write_out wo = { .size = w->len };

	if (w->read)
		reply(w->unique, err, srv.full, w->len);
	else
		reply(w->unique, err, &wo, sizeof wo);
}

static bool in_hold(const struct slow_hold *h, const struct waiting *w)
{
	return atomic_load(&h->on) && w->off < h->off + h->len && h->off < w->off + w->len;
}

static bool held(const struct waiting *w)
{
	for (unsigned int i = 0; i < SLOW_HOLDS; i++)
		if (in_hold(&srv.s->sh->hold[i], w))
			return true;
	return false;
}

static void count(void)
{
	for (unsigned int i = 0; i < SLOW_HOLDS; i++) {
		struct slow_hold *h = &srv.s->sh->hold[i];
		uint32_t n = 0;

		for (unsigned int k = 0; k < srv.n && atomic_load(&h->on); k++)
			n += in_hold(h, &srv.queue[k]);
		atomic_store(&h->waiting, n);
	}
	atomic_store(&srv.s->sh->waiting, srv.n);
}

/* Answer what nothing holds any more. */
static void obey(void)
{
	const uint32_t turn = atomic_load(&srv.s->sh->bell);
	const bool all = atomic_exchange(&srv.s->sh->flush, 0);
	unsigned int left = 0;

	for (unsigned int i = 0; i < srv.n; i++) {
		if (!all && held(&srv.queue[i]))
			srv.queue[left++] = srv.queue[i];
		else
			answer(&srv.queue[i], all ? atomic_load(&srv.s->sh->err) : 0);
	}
	srv.n = left;
	count();
	atomic_store(&srv.s->sh->heard, turn);
}

static void transfer(const struct waiting *w)
{
	if (!held(w)) {
		answer(w, 0);
		return;
	}
	if (srv.n == QUEUE)
		_exit(4);
	srv.queue[srv.n++] = *w;
	count();
}

static void written(const struct fuse_write_in *wi)
{
	struct slow_shared *sh = srv.s->sh;

	if (wi->offset >= SLOW_BYTES || wi->size > SLOW_BYTES - wi->offset || wi->size > srv.s->max)
		return;
	memcpy(sh->data + wi->offset, wi + 1, wi->size);
	sh->last_off = wi->offset;
	atomic_store(&sh->last_len, wi->size);
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
		.major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = srv.s->max, .max_write = srv.s->max,
		.flags = FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_BIG_WRITES | FUSE_MAX_PAGES,
		.max_pages = srv.s->max / 4096,
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
		reply(h->unique, strcmp(body, SLOW_NAME) == 0 ? 0 : ENOENT, &eo, sizeof eo);
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
		written(wi);
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

int slowsrv_serve(const struct slowsrv *s)
{
	struct pollfd p[3] = { { s->fd, POLLIN, 0 }, { s->bell, POLLIN, 0 }, { s->life, POLLIN, 0 } };
	uint64_t rung;
	ssize_t n;

	srv.s = s;
	memset(srv.full, s->fill, sizeof srv.full);
	for (;;) {
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			return 2;
		if (p[2].revents != 0)
			return 1;
		if (p[1].revents != 0 && read(s->bell, &rung, sizeof rung) == (ssize_t)sizeof rung)
			obey();
		if (p[0].revents == 0)
			continue;
		n = read(s->fd, srv.in, sizeof srv.in);
		if (n < 0 && errno == ENODEV)
			return 0;
		if (n >= (ssize_t)sizeof(struct fuse_in_header))
			serve((const void *)srv.in);
		else if (errno != EINTR && errno != EAGAIN && errno != ENOENT)
			return 2;
	}
}

/* ---- the other side ---- */

bool slowsrv_init(struct slowsrv *s)
{
	s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->sh = mmap(NULL, sizeof *s->sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return s->bell >= 0 && s->sh != MAP_FAILED;
}

int slowsrv_mount(const char *mnt, const char *type, char *why, size_t room)
{
	const int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	char opts[128];

	if (fd < 0) {
		(void)snprintf(why, room, "/dev/fuse: %s", strerror(errno));
		return -1;
	}
	(void)snprintf(opts, sizeof opts, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
	if (mount("slow", mnt, type, MS_NOSUID | MS_NODEV, opts) == 0)
		return fd;
	(void)snprintf(why, room, "mount(2) of a FUSE filesystem: %s", strerror(errno));
	(void)close(fd);
	return -1;
}

uint32_t slowsrv_ring(const struct slowsrv *s)
{
	const uint32_t turn = atomic_fetch_add(&s->sh->bell, 1) + 1;
	const uint64_t one = 1;

	(void)!write(s->bell, &one, sizeof one);
	return turn;
}

bool slowsrv_heard(const struct slowsrv *s, uint32_t turn)
{
	return (int32_t)(atomic_load(&s->sh->heard) - turn) >= 0;
}
