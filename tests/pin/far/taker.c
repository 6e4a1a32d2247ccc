/* SPDX-License-Identifier: BSD-3-Clause */
/* taker.c - the calls of taker.h. The structures of iommufd, and numbers of io_uring, are younger than some headers. */
#include "pin/far/taker.h"

#include <errno.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <linux/vfio.h>
#include <linux/videodev2.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <infiniband/verbs.h>
#include <pinfs/compiler.h>
#include "pin/far/far.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

static int ret(long rc)
{
	return rc < 0 ? -errno : 0;
}

/* ---- verbs ---- */

static struct ibv_context *const context = (struct ibv_context *)(uintptr_t)0x1000;
static struct ibv_pd pd;

static int none_open(struct taken *t)
{
	pd.context = context;
	t->fd = -1;
	return 0;
}

static int verbs_got(struct taken *t, struct ibv_mr *mr)
{
	t->mr = mr;
	return mr == NULL ? -errno : 0;
}

static int verbs_give(struct taken *t, void *addr, size_t len)
{
	return verbs_got(t, ibv_reg_mr(&pd, addr, len, IBV_ACCESS_LOCAL_WRITE));
}

static int iova_give(struct taken *t, void *addr, size_t len)
{
	return verbs_got(t, ibv_reg_mr_iova(&pd, addr, len, 4096, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ));
}

/* The flag makes the header call the function with the newest name. */
static int iova2_give(struct taken *t, void *addr, size_t len)
{
	return verbs_got(t, ibv_reg_mr(&pd, addr, len, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_RELAXED_ORDERING));
}

static int verbs_back(struct taken *t)
{
	return -ibv_dereg_mr(t->mr);
}

static int verbs_close(struct taken *t PF_UNUSED)
{
	return ret(ibv_close_device(context));
}

/* ---- VFIO and iommufd ---- */

#define WINDOW (UINT64_C(1) << 40)		/* an address of the device's */

static int far_device(struct taken *t)
{
	far_compat(0);
	t->fd = far_open();
	return ret(t->fd);
}

static int compat_open(struct taken *t)
{
	int rc = far_device(t);

	far_compat(7);
	return rc;
}

static int vfio_give(struct taken *t, void *addr, size_t len)
{
	struct vfio_iommu_type1_dma_map m = {
		.argsz = sizeof m, .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, .vaddr = (uintptr_t)addr,
		.iova = WINDOW, .size = len,
	};

	t->iova = WINDOW;
	return ret(ioctl(t->fd, VFIO_IOMMU_MAP_DMA, &m));
}

static int vfio_back(struct taken *t)
{
	struct vfio_iommu_type1_dma_unmap u = { .argsz = sizeof u, .iova = t->iova, .size = WINDOW };

	return ret(ioctl(t->fd, VFIO_IOMMU_UNMAP_DMA, &u));
}

struct ioas_map {
	uint32_t size, flags, ioas_id, reserved;
	uint64_t user_va, length, iova;
};
struct ioas_unmap {
	uint32_t size, ioas_id;
	uint64_t iova, length;
};

static int iommufd_give(struct taken *t, void *addr, size_t len)
{
	struct ioas_map m = { .size = sizeof m, .flags = 2 | 4, .ioas_id = 7, .user_va = (uintptr_t)addr,
			      .length = len };
	int rc = ret(ioctl(t->fd, _IO(';', 0x85), &m));

	t->iova = m.iova;
	return rc;
}

static int iommufd_back(struct taken *t)
{
	struct ioas_unmap u = { .size = sizeof u, .ioas_id = 7, .iova = 0, .length = UINT64_MAX };

	return ret(ioctl(t->fd, _IO(';', 0x86), &u));
}

/* ---- V4L2 ---- */

static int v4l2_give(struct taken *t, void *addr, size_t len)
{
	struct v4l2_buffer b = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_USERPTR, .index = 3, .length = (uint32_t)len,
	};

	b.m.userptr = (uintptr_t)addr;
	return ret(ioctl(t->fd, VIDIOC_QBUF, &b));
}

/* In two planes, the second of which is one page. */
static int planes_give(struct taken *t, void *addr, size_t len)
{
	struct v4l2_plane p[2] = { 0 };
	struct v4l2_buffer b = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE, .memory = V4L2_MEMORY_USERPTR, .index = 1, .length = 2,
	};

	b.m.planes = p;
	p[0].length = (uint32_t)len - 4096;
	p[0].m.userptr = (uintptr_t)addr;
	p[1].length = 4096;
	p[1].m.userptr = (uintptr_t)addr + len - 4096;
	return ret(ioctl(t->fd, VIDIOC_PREPARE_BUF, &b));
}

static int request(const struct taken *t, uint32_t type)
{
	struct v4l2_requestbuffers q = { .type = type, .memory = V4L2_MEMORY_USERPTR };

	return ret(ioctl(t->fd, VIDIOC_REQBUFS, &q));
}

static int v4l2_back(struct taken *t) { return request(t, V4L2_BUF_TYPE_VIDEO_CAPTURE); }
static int planes_back(struct taken *t) { return request(t, V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE); }

/* ---- io_uring ---- */

static int uring_open(struct taken *t)
{
	struct io_uring_params p = { 0 };

	t->fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	return t->fd < 0 ? (errno == ENOSYS || errno == EPERM ? 1 : -errno) : 0;
}

static int uring_register(const struct taken *t, unsigned int op, void *arg, unsigned int n)
{
	return ret(syscall(SYS_io_uring_register, t->fd, op, arg, n));
}

static int uring_give(struct taken *t, void *addr, size_t len)
{
	struct iovec v[2] = { { addr, 4096 }, { (char *)addr + 4096, len - 4096 } };

	return uring_register(t, IORING_REGISTER_BUFFERS, v, 2);
}

static int uring2_give(struct taken *t, void *addr, size_t len)
{
	struct iovec v = { addr, len };
	struct io_uring_rsrc_register r = { .nr = 1, .data = (uintptr_t)&v };

	return uring_register(t, IORING_REGISTER_BUFFERS2, &r, sizeof r);
}

/* Into a table that was empty. */
static int update_give(struct taken *t, void *addr, size_t len)
{
	struct iovec v = { addr, len };
	struct io_uring_rsrc_register r = { .nr = 4, .flags = 1 };
	struct io_uring_rsrc_update2 u = { .offset = 2, .nr = 1, .data = (uintptr_t)&v };
	int rc = uring_register(t, IORING_REGISTER_BUFFERS2, &r, sizeof r);

	if (rc != 0 && rc != -EBUSY)
		return rc;
	rc = (int)syscall(SYS_io_uring_register, t->fd, IORING_REGISTER_BUFFERS_UPDATE, &u, sizeof u);
	return rc == 1 ? 0 : rc < 0 ? -errno : -EIO;
}

static int uring_back(struct taken *t)
{
	return uring_register(t, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

/* ---- AF_XDP ---- */

static int xdp_open(struct taken *t)
{
	t->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	return t->fd < 0 ? 1 : 0;
}

static int xdp_give(struct taken *t, void *addr, size_t len)
{
	struct xdp_umem_reg m = { .addr = (uintptr_t)addr, .len = len, .chunk_size = 4096 };

	return ret(setsockopt(t->fd, SOL_XDP, XDP_UMEM_REG, &m, sizeof m));
}

const struct taker takers[] = {
	{ "ibv_reg_mr", "verbs", true, false, ENOMEM, none_open, verbs_give, verbs_back, verbs_close },
	{ "ibv_reg_mr_iova", "verbs", true, true, ENOMEM, none_open, iova_give, verbs_back, verbs_close },
	{ "ibv_reg_mr_iova2", "verbs", true, true, ENOMEM, none_open, iova2_give, verbs_back, verbs_close },
	{ "VFIO", "vfio", true, false, ENOMEM, far_device, vfio_give, vfio_back, NULL },
	{ "VFIO on iommufd", "iommufd", true, true, ENOMEM, compat_open, vfio_give, vfio_back, NULL },
	{ "iommufd", "iommufd", true, false, ENOMEM, far_device, iommufd_give, iommufd_back, NULL },
	{ "V4L2", "v4l2", true, false, ENOMEM, far_device, v4l2_give, v4l2_back, NULL },
	{ "V4L2 planes", "v4l2", true, true, ENOMEM, far_device, planes_give, planes_back, NULL },
	{ "io_uring", "io_uring-buffers", false, false, ENOMEM, uring_open, uring_give, uring_back, NULL },
	{ "io_uring 2", "io_uring-buffers", false, true, ENOMEM, uring_open, uring2_give, uring_back, NULL },
	{ "io_uring update", "io_uring-buffers", false, true, ENOMEM, uring_open, update_give, uring_back, NULL },
	{ "AF_XDP", "xdp", false, false, ENOBUFS, xdp_open, xdp_give, NULL, NULL },
};
const size_t ntakers = PF_ARRAY_LEN(takers);

const struct taker *taker_named(const char *name)
{
	for (size_t i = 0; i < ntakers; i++)
		if (strcmp(takers[i].name, name) == 0)
			return &takers[i];
	return NULL;
}
