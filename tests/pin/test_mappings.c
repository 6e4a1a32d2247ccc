/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_mappings.c - what single takers do beyond what all have in common (test_takers.c): DMA mappings that are taken
 * back by ranges, copied, or belong to another's container; video buffers that are queued again; io_uring's buffers
 * replaced, cloned, and used while they are unregistered; AF_XDP's frames in two sockets; answers of profiles; and
 * numbers of ioctl(2) that mean something else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <linux/vfio.h>
#include <linux/videodev2.h>
#include <net/if.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pinfs/compiler.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"
#include "pin/far/far.h"
#include "pin/far/taker.h"
#include "pin/look.h"
#include "pin/stage.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#define REGISTER_CLONE_BUFFERS 30

#define PAGE 4096UL
#define PAGES ((long)(F_LEN / PAGE))
#define NOT_HERE 77

static struct pt_fs *fs;
static char f[STAGE_PATH];
static struct ctl { volatile uint32_t step, go; } *ctl;

static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	if (ctl == NULL)
		ctl = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ctl->step = ctl->go = 0;
	return true;
}

static long pages(void)
{
	return look_status(fs, "longterm.pages");
}

static bool pages_until(long n)
{
	const uint64_t end = pt_now_ms() + SOON_MS;

	while (pages() != n && pt_now_ms() < end)
		pt_sleep_ms(5);
	PT_EQ(pages(), n);
	return pages() == n;
}

static char *window(void)
{
	int fd = open(f, O_RDWR | O_CLOEXEC);
	char *p = child_map(fd, F_LEN);

	(void)close(fd);
	return p;
}

static char *anonymous(void)
{
	char *p = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Tell the test what is pinned now; it looks. */
static int shown(uint32_t step)
{
	ctl->step = step;
	return child_await(&ctl->go, step);
}

/* It waits to be asked how it ended. */
static bool ended(pid_t pid)
{
	siginfo_t si = { .si_pid = 0 };

	return waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) != 0 || si.si_pid == pid;
}

/* The scene, and how many pages are pinned at each of its steps. */
static void play(int (*scene)(void *), const long *want, uint32_t n)
{
	pid_t pid;
	int rc;

	if (!begin("longterm=allow"))
		return;
	pid = child_start(scene, NULL);
	for (uint32_t i = 1; i <= n; i++) {
		while (ctl->step < i && !ended(pid))
			pt_sleep_ms(1);
		if (ctl->step < i)
			break;
		if (!pages_until(want[i - 1]))
			pt_say("at step %u", i);
		ctl->go = i;
	}
	rc = child_end(pid);
	if (rc == NOT_HERE)
		pt_skip("this machine has no such device");
	else if (rc != 0)
		pt_say("%s", child_said());
	CU_ASSERT(rc == 0 || rc == NOT_HERE);
	pt_fs_end(fs);
}

#define PLAY(scene, ...) \
	static const long want[] = { __VA_ARGS__ }; \
	play(scene, want, PF_ARRAY_LEN(want))

/* ---- VFIO ---- */

static int vfio_map(int fd, uint64_t iova, void *p, size_t len, uint32_t flags)
{
	struct vfio_iommu_type1_dma_map m = { .argsz = sizeof m, .flags = flags, .vaddr = (uintptr_t)p, .iova = iova,
					      .size = len };

	return ioctl(fd, VFIO_IOMMU_MAP_DMA, &m);
}

/* What it says has been unmapped; -errno. */
static long vfio_unmap(int fd, uint64_t iova, size_t len, uint32_t flags)
{
	struct vfio_iommu_type1_dma_unmap u = { .argsz = sizeof u, .flags = flags, .iova = iova, .size = len };

	return ioctl(fd, VFIO_IOMMU_UNMAP_DMA, &u) == 0 ? (long)u.size : -errno;
}

#define RW (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)
#define AT(i) ((1UL << 30) + (i) * PAGE)

static int vfio_scene(void *arg PF_UNUSED)
{
	int fd = far_open();
	char *p = window();

	NEED(p != NULL && fd >= 0);
	for (unsigned int i = 0; i < 3; i++)
		NEED(vfio_map(fd, AT(4 * i), p + 4 * i * PAGE, 4 * PAGE, RW) == 0);
	NEED(shown(1) == 0);
	NEED(vfio_map(fd, AT(3), p, PAGE, RW) == -1 && errno == EEXIST);
	NEED(vfio_unmap(fd, AT(2), 2 * PAGE, 0) == -EINVAL);		/* would split the first */
	NEED(vfio_unmap(fd, AT(0), 6 * PAGE, 0) == -EINVAL);		/* ... the second */
	NEED(vfio_unmap(fd, AT(4), 4 * PAGE, VFIO_DMA_UNMAP_FLAG_VADDR) >= 0);	/* the device keeps the pages */
	NEED(vfio_unmap(fd, AT(64), PAGE, 0) == 0);			/* nothing is there */
	NEED(shown(2) == 0);
	NEED(vfio_unmap(fd, AT(4), 4 * PAGE, 0) == 4 * (long)PAGE && shown(3) == 0);
	NEED(vfio_unmap(fd, 0, 1UL << 40, 0) == 8 * (long)PAGE && shown(4) == 0);
	NEED(vfio_map(fd, AT(0), p, 2 * PAGE, RW) == 0 && vfio_map(fd, AT(9), p, PAGE, RW) == 0 && shown(5) == 0);
	NEED(vfio_unmap(fd, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL) == 3 * (long)PAGE && shown(6) == 0);
	/* The device only reads. */
	NEED(vfio_map(fd, AT(0), p, PAGE, VFIO_DMA_MAP_FLAG_READ) == 0 && shown(7) == 0);
	NEED(munmap(p, F_LEN) == 0 && vfio_unmap(fd, AT(0), PAGE, 0) == (long)PAGE && shown(8) == 0);
	return 0;
}

static void vfio(void) { PLAY(vfio_scene, 12, 12, 8, 0, 3, 0, 1, 0); }

/* Two containers: what one gives back, is not the other's. */
static int two_scene(void *arg PF_UNUSED)
{
	int a = far_open(), b = far_open(), a2 = dup(a);
	char *p = window();

	NEED(p != NULL && a >= 0 && b >= 0 && a2 >= 0);
	NEED(vfio_map(a, AT(0), p, 2 * PAGE, RW) == 0);
	NEED(vfio_map(b, AT(8), p, 3 * PAGE, RW) == 0 && shown(1) == 0);
	far_forget();			/* the far side has one table for all */
	NEED(vfio_map(b, AT(0), p, PAGE, RW) == 0 && shown(2) == 0);
	NEED(vfio_unmap(b, AT(0), PAGE, 0) == (long)PAGE && shown(3) == 0);
	NEED(close(b) == 0 && shown(4) == 0);
	NEED(vfio_map(a2, AT(4), p, 4 * PAGE, RW) == 0 && close(a) == 0 && shown(5) == 0);
	NEED(vfio_unmap(a2, AT(4), 4 * PAGE, 0) == 4 * (long)PAGE && shown(6) == 0);
	/* Closed by other means than close(2). */
	NEED(dup2(open("/dev/zero", O_RDONLY | O_CLOEXEC), a2) == a2 && shown(7) == 0);
	return 0;
}

static void two_containers(void) { PLAY(two_scene, 5, 6, 5, 2, 6, 2, 0); }

/* ---- iommufd ---- */

struct ioas_map {
	uint32_t size, flags, ioas_id, reserved;
	uint64_t user_va, length, iova;
};
struct ioas_copy {
	uint32_t size, flags, dst_ioas_id, src_ioas_id;
	uint64_t length, dst_iova, src_iova;
};
struct ioas_unmap {
	uint32_t size, ioas_id;
	uint64_t iova, length;
};
struct destroy {
	uint32_t size, id;
};

static int ioas_map(int fd, uint32_t ioas, void *p, size_t len, uint64_t *iova)
{
	struct ioas_map m = { .size = sizeof m, .flags = 2 | 4, .ioas_id = ioas, .user_va = (uintptr_t)p,
			      .length = len };
	int rc = ioctl(fd, _IO(';', 0x85), &m);

	*iova = m.iova;
	return rc;
}

static int ioas_copy(int fd, uint32_t to, uint32_t from, uint64_t iova, size_t len, uint64_t *out)
{
	struct ioas_copy c = { .size = sizeof c, .dst_ioas_id = to, .src_ioas_id = from, .length = len,
			       .src_iova = iova };
	int rc = ioctl(fd, _IO(';', 0x83), &c);

	*out = c.dst_iova;
	return rc;
}

static int ioas_unmap(int fd, uint32_t ioas, uint64_t iova, uint64_t len)
{
	struct ioas_unmap u = { .size = sizeof u, .ioas_id = ioas, .iova = iova, .length = len };

	return ioctl(fd, _IO(';', 0x86), &u);
}

static int iommufd_scene(void *arg PF_UNUSED)
{
	struct destroy d = { sizeof d, 3 };
	uint64_t a, b, c, e;
	int fd = far_open();
	char *p = window();

	NEED(p != NULL && fd >= 0);
	NEED(ioas_map(fd, 1, p, 4 * PAGE, &a) == 0 && ioas_map(fd, 1, p + 8 * PAGE, 2 * PAGE, &b) == 0 && a != b);
	NEED(shown(1) == 0);
	/* The copy has the same pages: charged once, and pinned until both are gone. */
	NEED(ioas_copy(fd, 2, 1, a, 4 * PAGE, &c) == 0 && shown(2) == 0);
	NEED(ioas_unmap(fd, 1, a, 4 * PAGE) == 0 && shown(3) == 0);
	NEED(ioas_unmap(fd, 2, c, 4 * PAGE) == 0 && shown(4) == 0);
	NEED(ioas_unmap(fd, 1, b, PAGE) == -1 && shown(5) == 0);
	NEED(ioas_copy(fd, 3, 1, b, PAGE, &e) == 0 && ioas_unmap(fd, 1, 0, UINT64_MAX) == 0 && shown(6) == 0);
	NEED(ioctl(fd, _IO(';', 0x80), &d) == 0 && shown(7) == 0);
	/* By VFIO's numbers, the same address space: both ways. */
	far_compat(5);
	NEED(vfio_map(fd, AT(0), p, 3 * PAGE, RW) == 0 && shown(8) == 0);
	NEED(ioas_unmap(fd, 5, AT(0), 3 * PAGE) == 0 && shown(9) == 0);
	NEED(ioas_map(fd, 5, p, PAGE, &a) == 0 && vfio_unmap(fd, a, PAGE, 0) == (long)PAGE && shown(10) == 0);
	far_compat(0);
	return 0;
}

static void iommufd(void) { PLAY(iommufd_scene, 6, 6, 6, 2, 2, 2, 0, 3, 0, 0); }

/* ---- V4L2 ---- */

static int queue(int fd, unsigned long rq, uint32_t type, uint32_t index, void *p, uint32_t len)
{
	struct v4l2_buffer b = { .type = type, .memory = V4L2_MEMORY_USERPTR, .index = index, .length = len };

	b.m.userptr = (uintptr_t)p;
	return ioctl(fd, rq, &b);
}

#define CAPTURE V4L2_BUF_TYPE_VIDEO_CAPTURE
#define OUTPUT V4L2_BUF_TYPE_VIDEO_OUTPUT

static int video_scene(void *arg PF_UNUSED)
{
	struct v4l2_requestbuffers none = { .type = CAPTURE, .memory = V4L2_MEMORY_USERPTR };
	int fd = far_open(), type = CAPTURE;
	struct v4l2_buffer b = { .type = CAPTURE, .memory = V4L2_MEMORY_USERPTR };
	char *p = window(), *q = anonymous();

	NEED(p != NULL && q != NULL && fd >= 0);
	NEED(queue(fd, VIDIOC_QBUF, CAPTURE, 0, p, 4 * PAGE) == 0);
	NEED(queue(fd, VIDIOC_QBUF, CAPTURE, 1, p + 4 * PAGE, 2 * PAGE) == 0);
	NEED(queue(fd, VIDIOC_QBUF, OUTPUT, 0, p, PAGE) == 0 && shown(1) == 0);
	/* The driver keeps the pages of a buffer that has come back, and takes it again as it is. */
	NEED(ioctl(fd, VIDIOC_DQBUF, &b) == 0 && ioctl(fd, VIDIOC_STREAMOFF, &type) == 0 && shown(2) == 0);
	for (int i = 0; i < 3; i++)
		NEED(queue(fd, VIDIOC_QBUF, CAPTURE, 0, p, 4 * PAGE) == 0);
	NEED(shown(3) == 0);
	NEED(queue(fd, VIDIOC_QBUF, CAPTURE, 0, p + 8 * PAGE, 3 * PAGE) == 0 && shown(4) == 0);
	NEED(queue(fd, VIDIOC_PREPARE_BUF, CAPTURE, 0, q, PAGE) == 0 && shown(5) == 0);
	far_fail(EIO);
	NEED(queue(fd, VIDIOC_QBUF, CAPTURE, 1, p, PAGE) == -1 && errno == EIO && shown(6) == 0);
	NEED(ioctl(fd, VIDIOC_REQBUFS, &none) == 0 && shown(7) == 0);		/* of this type */
	NEED(close(fd) == 0 && shown(8) == 0);
	return 0;
}

static void video(void) { PLAY(video_scene, 7, 7, 7, 6, 3, 3, 1, 0); }

/* ---- io_uring ---- */

static long enroll(int fd, unsigned int op, void *arg, unsigned int n)
{
	long rc = syscall(SYS_io_uring_register, fd, op, arg, n);

	return rc < 0 ? -errno : rc;
}

static int ring_new(void)
{
	struct io_uring_params p = { 0 };

	return (int)syscall(SYS_io_uring_setup, 8, &p);
}

static long update(int fd, uint32_t first, struct iovec *v, uint32_t n)
{
	struct io_uring_rsrc_update2 u = { .offset = first, .nr = n, .data = (uintptr_t)v };

	return enroll(fd, IORING_REGISTER_BUFFERS_UPDATE, &u, sizeof u);
}

static int replaced_scene(void *arg PF_UNUSED)
{
	int fd = ring_new(), other = ring_new();
	char *p = window(), *q = anonymous();
	struct iovec v[3] = { { p, 4 * PAGE }, { q, PAGE }, { p + 8 * PAGE, 2 * PAGE } };
	struct { uint32_t fd, flags, src_off, dst_off, nr, pad[3]; } clone = { .fd = (uint32_t)fd };
	struct iovec one = { p, PAGE }, none = { NULL, 0 };

	if (fd < 0)
		return NOT_HERE;
	NEED(p != NULL && q != NULL && other >= 0);
	NEED(enroll(fd, IORING_REGISTER_BUFFERS, v, 3) == 0 && shown(1) == 0);
	NEED(enroll(fd, IORING_REGISTER_BUFFERS, v, 3) == -EBUSY && shown(2) == 0);
	NEED(enroll(fd, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0 && shown(3) == 0);
	struct io_uring_rsrc_register r = { .nr = 3, .data = (uintptr_t)v };
	NEED(enroll(fd, IORING_REGISTER_BUFFERS2, &r, sizeof r) == 0 && shown(4) == 0);
	NEED(update(fd, 0, &one, 1) == 1 && shown(5) == 0);
	NEED(update(fd, 2, &none, 1) == 1 && shown(6) == 0);
	NEED(update(fd, 1, v, 2) == 2 && shown(7) == 0);
	if (enroll(other, REGISTER_CLONE_BUFFERS, &clone, 1) == 0) {	/* Linux 6.12 */
		NEED(enroll(fd, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0 && shown(8) == 0);
		NEED(enroll(other, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0 && shown(9) == 0);
	} else {
		NEED(shown(8) == 0 && enroll(fd, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0 && shown(9) == 0);
	}
	return 0;
}

static void replaced(void) { PLAY(replaced_scene, 6, 6, 0, 6, 3, 1, 5, 5, 0); }

/* All or nothing, and nothing of the old is lost. */
static int update_scene(void *arg PF_UNUSED)
{
	struct io_uring_rsrc_register r = { .nr = 4, .flags = 1 };
	char *p = window(), *q = anonymous();
	struct iovec v[2] = { { q, PAGE }, { p, PAGE } };
	int fd = ring_new();

	if (fd < 0)
		return NOT_HERE;
	NEED(p != NULL && q != NULL);
	NEED(enroll(fd, IORING_REGISTER_BUFFERS2, &r, sizeof r) == 0);
	NEED(update(fd, 0, v, 2) == -EOPNOTSUPP && update(fd, 0, v, 1) == 1 && update(fd, 1, v + 1, 1) == -EOPNOTSUPP);
	NEED(enroll(fd, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0);
	return 0;
}

static void update_refused(void)
{
	int rc;

	if (!begin(NULL))
		return;
	rc = child_end(child_start(update_scene, NULL));
	if (rc != 0)
		pt_say("%s", child_said());
	CU_ASSERT(rc == 0 || rc == NOT_HERE);
	PT_EQ(pages(), 0);
	pt_fs_end(fs);
}

struct ring { int fd; char *sq, *cq; struct io_uring_sqe *sqe; struct io_uring_params p; };

static bool ring_map(struct ring *r)
{
	*r = (struct ring){ 0 };
	r->fd = (int)syscall(SYS_io_uring_setup, 8, &r->p);
	if (r->fd < 0)
		return false;
	r->sq = mmap(NULL, 1 << 14, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, 1 << 14, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqe = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
	return r->sq != MAP_FAILED && r->cq != MAP_FAILED && r->sqe != MAP_FAILED;
}

/*
 * A request that waits for a pipe uses a buffer that is unregistered meanwhile. From Linux 6.13 on that does not wait
 * for the request, whose pages stay the kernel's; before, it does, in a thread of its own here.
 */
static int in_use_scene(void *arg)
{
	const int *io = arg;
	char *p = window();
	struct iovec v = { p, PAGE };
	struct ring r;

	NEED(p != NULL);
	if (!ring_map(&r))
		return NOT_HERE;
	NEED(enroll(r.fd, IORING_REGISTER_BUFFERS, &v, 1) == 0);
	r.sqe[0] = (struct io_uring_sqe){ .opcode = IORING_OP_READ_FIXED, .fd = io[0], .addr = (uintptr_t)p, .len = 8,
					  .off = UINT64_MAX, .user_data = 1 };
	((uint32_t *)(void *)(r.sq + r.p.sq_off.array))[0] = 0;
	atomic_store((_Atomic uint32_t *)(void *)(r.sq + r.p.sq_off.tail), 1);
	NEED(syscall(SYS_io_uring_enter, r.fd, 1, 0, 0, NULL, 0) == 1);
	ctl->step = 1;
	NEED(enroll(r.fd, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0);
	NEED(munmap(p, F_LEN) == 0);
	ctl->step = 2;
	NEED(syscall(SYS_io_uring_enter, r.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) >= 0);
	return child_await(&ctl->go, 1);
}

static void in_use(void)
{
	struct actor *c;
	struct look l;
	pid_t pid;
	int io[2], rc;

	if (!begin("longterm=allow"))
		return;
	PT_SYS_FATAL(pipe(io));
	pid = child_start(in_use_scene, io);
	while (ctl->step < 1 && !ended(pid))
		pt_sleep_ms(1);
	if (ctl->step < 1) {
		rc = child_end(pid);
		CU_ASSERT(rc == NOT_HERE);
		pt_skip("no io_uring");
	} else {
		c = actor_new();
		actor_send(c, act_truncate(f, 0));
		CU_ASSERT(look_until(fs, 1, 1, NULL));
		for (int i = 0; i < 40 && ctl->step < 2; i++)	/* where it does not wait, see what comes after */
			pt_sleep_ms(5);
		CU_ASSERT(look(fs, &l));
		PT_EQ(l.nwait_pins, 1);
		PT_EQ(actor_result(c, 0), -EINPROGRESS);
		PT_EQ(write(io[1], "12345678", 8), 8);
		PT_EQ(actor_result(c, SOON_MS), 0);
		actor_end(c);
		ctl->go = 1;
		rc = child_end(pid);
		if (rc != 0)
			pt_say("%s", child_said());
		PT_EQ(rc, 0);
	}
	(void)close(io[0]);
	(void)close(io[1]);
	(void)pages_until(0);
	pt_fs_end(fs);
}

/* ---- AF_XDP ---- */

static int ring_size(int fd, int what, int n)
{
	return setsockopt(fd, SOL_XDP, what, &n, sizeof n);
}

static int shared_scene(void *arg PF_UNUSED)
{
	int a = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0), b = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0), c;
	struct sockaddr_xdp x = { .sxdp_family = AF_XDP, .sxdp_ifindex = if_nametoindex("lo"), .sxdp_flags = XDP_COPY };
	struct xdp_umem_reg m = { .len = F_LEN, .chunk_size = PAGE };
	char *p = window();

	if (a < 0 || b < 0)
		return NOT_HERE;
	NEED(p != NULL);
	m.addr = (uintptr_t)p;
	NEED(setsockopt(a, SOL_XDP, XDP_UMEM_REG, &m, sizeof m) == 0);
	NEED(ring_size(a, XDP_UMEM_FILL_RING, 8) == 0 && ring_size(a, XDP_UMEM_COMPLETION_RING, 8) == 0);
	NEED(ring_size(a, XDP_RX_RING, 8) == 0 && ring_size(b, XDP_RX_RING, 8) == 0);
	if (bind(a, (struct sockaddr *)&x, sizeof x) != 0)
		return NOT_HERE;
	x.sxdp_flags = XDP_SHARED_UMEM;
	x.sxdp_shared_umem_fd = (uint32_t)a;
	NEED(bind(b, (struct sockaddr *)&x, sizeof x) == 0 && shown(1) == 0);
	NEED(close(a) == 0);
	/* Others, whose end is seen by then: the frames of the first are not taken for gone with it. */
	m = (struct xdp_umem_reg){ .addr = (uintptr_t)p, .len = PAGE, .chunk_size = PAGE };
	c = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	NEED(c >= 0 && setsockopt(c, SOL_XDP, XDP_UMEM_REG, &m, sizeof m) == 0 && shown(2) == 0);
	NEED(close(c) == 0 && shown(3) == 0);
	NEED(close(b) == 0 && shown(4) == 0);
	return 0;
}

static void shared_frames(void) { PLAY(shared_scene, PAGES, PAGES + 1, PAGES, 0); }

/* ---- answers of profiles ---- */

struct answer { const char *taker; int want; };

static int answer_scene(void *arg)
{
	const struct answer *w = arg;
	const struct taker *k = taker_named(w->taker);
	char *p = window();
	struct taken t;
	int rc = k->open(&t);

	if (rc == 1)
		return 0;
	NEED(p != NULL && rc == 0);
	rc = k->give(&t, p, F_LEN);
	if (rc != w->want)
		(void)fprintf(stderr, "%s: %s\n", w->taker, strerror(-rc));
	return rc == w->want ? 0 : 1;
}

static void profiles(void)
{
	static const char *const profile[] = {
		"profile=linux-4.15", "profile=linux-4.19", "profile=linux-6.12", "profile=virtiofs", "longterm=allow",
	};
	static const struct { const char *taker; int err[PF_ARRAY_LEN(profile)]; } row[] = {
		{ "ibv_reg_mr", { EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, 0 } },
		{ "VFIO", { 0, EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, 0 } },
		{ "V4L2", { EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, 0 } },
		{ "io_uring", { EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, EOPNOTSUPP, 0 } },
		{ "AF_XDP", { 0, 0, EOPNOTSUPP, EOPNOTSUPP, 0 } },
	};

	for (size_t p = 0; p < PF_ARRAY_LEN(profile); p++) {
		if (!begin(profile[p]))
			return;
		for (size_t i = 0; i < PF_ARRAY_LEN(row); i++) {
			struct answer w = { row[i].taker, -row[i].err[p] };
			int rc = child_end(child_start(answer_scene, &w));

			if (rc != 0)
				pt_say("%s: %s", profile[p], child_said());
			PT_EQ(rc, 0);
		}
		pt_fs_end(fs);
	}
}

/* ---- numbers ---- */

/* They are somebody else's on what is no device, and the argument need not be memory. */
static int numbers_scene(void *arg PF_UNUSED)
{
	int fd = memfd_create("x", MFD_CLOEXEC), dev = far_open(), s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *p = window();

	NEED(p != NULL && fd >= 0 && s >= 0);
	NEED(vfio_map(fd, 0, p, F_LEN, RW) == -1 && errno == ENOTTY);
	NEED(queue(s, VIDIOC_QBUF, CAPTURE, 0, p, PAGE) == -1 && errno != EOPNOTSUPP);
	NEED(vfio_map(-1, 0, p, F_LEN, RW) == -1 && errno == EBADF);
	NEED(vfio_map(dev, 0, p, F_LEN, RW) == -1 && errno == EOPNOTSUPP);
	NEED(ioctl(fd, VFIO_IOMMU_MAP_DMA, (void *)8) == -1 && errno == ENOTTY);
	NEED(ioctl(fd, VIDIOC_QBUF, NULL) == -1 && errno == ENOTTY);
	NEED(setsockopt(s, SOL_XDP, XDP_UMEM_REG, (void *)8, 64) == -1);
	return 0;
}

static void numbers(void)
{
	if (!begin(NULL))
		return;
	child_play(numbers_scene, NULL);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "VFIO by ranges", vfio, 0 },
		{ "two containers", two_containers, 0 },
		{ "iommufd", iommufd, 0 },
		{ "video buffers", video, 0 },
		{ "io_uring replaces", replaced, 0 },
		{ "io_uring refuses", update_refused, 0 },
		{ "io_uring, in use", in_use, 0 },
		{ "shared frames", shared_frames, 0 },
		{ "profiles", profiles, 0 },
		{ "numbers", numbers, 0 },
	};
	static const struct pt_suite suites[] = { { "mappings", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
