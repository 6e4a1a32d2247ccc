/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_long.c - system calls that give memory to a device for good: VFIO, iommufd, V4L2, AF_XDP, and what io_uring
 * registers. Each reads what the program asks for, pins, lets the real call happen, and keeps the pin by the name that
 * the program will take the memory back with.
 *
 * ioctl(2) is not ours alone (hooks_io.c). A request is known by its number, and is looked at only when memory that it
 * names lies in a window and the descriptor is a device's: other drivers have the same numbers. io_uring's calls come
 * from hooks_uring.c. Takes no lock itself.
 */
#include "async.h"
#include "hooks.h"
#include "io.h"
#include "longterm.h"
#include "transient.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <linux/vfio.h>
#include <linux/videodev2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

/* An ioctl(2) that changes what a device has. */
struct call {
	sh_ioctl_fn real;
	int fd;
	unsigned long request;
	void *arg;
};

static int real_call(const struct call *c)
{
	return c->real(c->fd, c->request, c->arg);
}

static bool is_device(int fd)
{
	struct stat st;

	return sh_sys(SYS_fstat, fd, &st) == 0 && S_ISCHR(st.st_mode);
}

/* Is it for us at all? */
static bool concerns(int fd, const struct iovec *v, size_t n)
{
	return atomic_load(&sh.nvma) != 0 && sh_iov_touches(v, n) && is_device(fd);
}

/* Pin, call, keep. @name may be filled in by what the call has put into its argument: @named, or NULL. */
static int give(const struct call *c, const struct iovec *v, size_t n, bool write, struct sh_name name,
		void (*named)(const struct call *c, struct sh_name *name))
{
	struct sh_pinned *p = NULL;
	struct sh_reg *r;
	int rc, err = sh_reg_new(&r);

	if (!err)
		err = sh_pinned_take(v, n, write, name.api, &p);
	if (err) {
		sh_reg_free(r);
		return sh_hook_fail(err);
	}
	rc = real_call(c);
	if (rc < 0 || p == NULL) {
		sh_pinned_put(p);
		sh_reg_free(r);
		return rc;
	}
	if (named != NULL)
		named(c, &name);
	sh_reg_add(r, c->fd, name, p);
	return rc;
}

/* Take off, call, and end it; or put it back. */
static int take_back(const struct call *c, struct sh_name name)
{
	struct sh_reg *list = sh_reg_take(c->fd, name);
	int rc = real_call(c);

	if (rc < 0)
		sh_reg_back(list);
	else
		sh_reg_end(list);
	return rc;
}

static uint64_t end_of(uint64_t lo, uint64_t len)
{
	return len > UINT64_MAX - lo ? UINT64_MAX : lo + len;
}

/* ---- iommufd: its header is younger than what we are built with ---- */

#define IOMMU_CMD(n) _IO(';', n)
#define IOMMU_DESTROY IOMMU_CMD(0x80)
#define IOMMU_IOAS_COPY IOMMU_CMD(0x83)
#define IOMMU_IOAS_MAP IOMMU_CMD(0x85)
#define IOMMU_IOAS_UNMAP IOMMU_CMD(0x86)
#define IOMMU_VFIO_IOAS IOMMU_CMD(0x88)
#define IOMMU_MAP_WRITEABLE 2U

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
struct iommu_destroy {
	uint32_t size, id;
};
struct vfio_ioas {
	uint32_t size, ioas_id;
	uint16_t op, reserved;		/* 0: get */
};

static void ioas_named(const struct call *c, struct sh_name *name)
{
	struct ioas_map m;

	if (sh_peek(&m, c->arg, sizeof m) == 0) {		/* the kernel may have chosen the address */
		name->lo = m.iova;
		name->hi = end_of(m.iova, m.length);
	}
}

static int ioas_map(const struct call *c)
{
	struct ioas_map m;
	struct iovec v;

	if (sh_peek(&m, c->arg, sizeof m))
		return real_call(c);
	v = (struct iovec){ sh_ptr(m.user_va), m.length };
	if (!concerns(c->fd, &v, 1))
		return real_call(c);
	return give(c, &v, 1, (m.flags & IOMMU_MAP_WRITEABLE) != 0, sh_name(PF_API_IOMMUFD, m.ioas_id, 0, 0),
		    ioas_named);
}

static int ioas_unmap(const struct call *c)
{
	struct ioas_unmap u;

	if (atomic_load(&sh_nregs) == 0 || sh_peek(&u, c->arg, sizeof u))
		return real_call(c);
	return take_back(c, sh_name(PF_API_IOMMUFD, u.ioas_id, u.iova, end_of(u.iova, u.length)));
}

/* The same pages in another address space: they are given back when both have lost them. */
static int ioas_copy(const struct call *c)
{
	struct ioas_copy cp, done;
	struct sh_name from, to;
	int rc = sh_peek(&cp, c->arg, sizeof cp);

	if (atomic_load(&sh_nregs) == 0 || rc)
		return real_call(c);
	rc = real_call(c);
	if (rc < 0 || sh_peek(&done, c->arg, sizeof done) != 0)
		return rc;
	from = sh_name(PF_API_IOMMUFD, cp.src_ioas_id, cp.src_iova, end_of(cp.src_iova, cp.length));
	to = sh_name(PF_API_IOMMUFD, cp.dst_ioas_id, done.dst_iova, end_of(done.dst_iova, cp.length));
	if (sh_reg_share(c->fd, from, c->fd, to) != 0)
		sh_log(SH_ERR, "no memory to note a copied mapping: what it pins ends with the original");
	return rc;
}

static int iommu_destroy(const struct call *c)
{
	struct iommu_destroy d;

	if (atomic_load(&sh_nregs) == 0 || sh_peek(&d, c->arg, sizeof d))
		return real_call(c);
	return take_back(c, sh_name(PF_API_IOMMUFD, d.id, 0, UINT64_MAX));
}

/* ---- VFIO ---- */

/* A container; or an iommufd that acts as one, whose mappings are those of one of its address spaces. */
static struct sh_name vfio_name(const struct call *c, uint64_t lo, uint64_t hi)
{
	struct vfio_ioas get = { .size = sizeof get };
	int saved = errno;

	if (c->real(c->fd, IOMMU_VFIO_IOAS, &get) == 0)
		return sh_name(PF_API_IOMMUFD, get.ioas_id, lo, hi);
	errno = saved;
	return sh_name(PF_API_VFIO, 0, lo, hi);
}

static int vfio_map(const struct call *c)
{
	struct vfio_iommu_type1_dma_map m;
	struct sh_name name;
	struct iovec v;

	if (sh_peek(&m, c->arg, sizeof m))
		return real_call(c);
	v = (struct iovec){ sh_ptr(m.vaddr), m.size };
	/* VADDR: the pages that the device has are seen elsewhere from now on; they stay the same. */
	if (m.argsz < sizeof m || (m.flags & VFIO_DMA_MAP_FLAG_VADDR) || !concerns(c->fd, &v, 1))
		return real_call(c);
	name = vfio_name(c, m.iova, end_of(m.iova, m.size));
	return give(c, &v, 1, (m.flags & VFIO_DMA_MAP_FLAG_WRITE) != 0, name, NULL);
}

static int vfio_unmap(const struct call *c)
{
	struct vfio_iommu_type1_dma_unmap u, done;
	struct sh_reg *list;
	struct sh_name name;
	int rc;

	if (atomic_load(&sh_nregs) == 0 || sh_peek(&u, c->arg, sizeof u) ||
	    (u.flags & VFIO_DMA_UNMAP_FLAG_VADDR))
		return real_call(c);
	name = u.flags & VFIO_DMA_UNMAP_FLAG_ALL ? vfio_name(c, 0, UINT64_MAX) :
						   vfio_name(c, u.iova, end_of(u.iova, u.size));
	list = sh_reg_take(c->fd, name);
	rc = real_call(c);
	/* It says how much it has unmapped; the first version may have left some of the range. */
	if (rc >= 0 && sh_peek(&done, c->arg, sizeof done) == 0 &&
	    done.size >= sh_reg_bytes(list))
		sh_reg_end(list);
	else
		sh_reg_back(list);
	return rc;
}

/* ---- V4L2 ---- */

#ifndef VIDIOC_REMOVE_BUFS
struct v4l2_remove_buffers {
	uint32_t index, count, type, reserved[13];
};
#define VIDIOC_REMOVE_BUFS _IOWR('V', 104, struct v4l2_remove_buffers)
#endif

static struct sh_name buffers(uint32_t type, uint32_t first, uint32_t n)
{
	return sh_name(PF_API_V4L2, type, first, end_of(first, n));
}

/* The memory of a buffer; its planes, if it has several. */
static size_t v4l2_memory(const struct v4l2_buffer *b, struct iovec v[VIDEO_MAX_PLANES])
{
	struct v4l2_plane plane[VIDEO_MAX_PLANES];

	if (!V4L2_TYPE_IS_MULTIPLANAR(b->type)) {
		v[0] = (struct iovec){ sh_ptr(b->m.userptr), b->length };
		return 1;
	}
	if (b->length > VIDEO_MAX_PLANES || sh_peek(plane, b->m.planes, b->length * sizeof *plane))
		return 0;
	for (uint32_t i = 0; i < b->length; i++)
		v[i] = (struct iovec){ sh_ptr(plane[i].m.userptr), plane[i].length };
	return b->length;
}

static uint64_t sum_of(const struct iovec *v, size_t n)
{
	uint64_t h = n;

	for (size_t i = 0; i < n; i++)
		h = ((h ^ sh_addr(v[i].iov_base)) * UINT64_C(0x100000001b3) ^ v[i].iov_len) * UINT64_C(0x100000001b3);
	return h;
}

/*
 * videobuf2 keeps the pages of a buffer that has come back, and takes them again without a look when it is queued with
 * the same memory. So they are ours to give back when the buffer gets other memory, or there are no buffers any more;
 * VIDIOC_DQBUF and VIDIOC_STREAMOFF end nothing.
 */
static int v4l2_queue(const struct call *c)
{
	struct iovec v[VIDEO_MAX_PLANES];
	struct v4l2_buffer b;
	struct sh_reg *before;
	bool in_window, again;
	struct sh_name name;
	size_t n;
	int rc;

	if (sh_peek(&b, c->arg, sizeof b) || b.memory != V4L2_MEMORY_USERPTR)
		return real_call(c);
	n = v4l2_memory(&b, v);
	in_window = concerns(c->fd, v, n);
	if (atomic_load(&sh_nregs) == 0 && !in_window)
		return real_call(c);
	name = buffers(b.type, b.index, 1);
	name.what = sum_of(v, n);
	before = sh_reg_take(c->fd, name);
	again = before != NULL && sh_reg_what(before) == name.what;
	rc = in_window && !again ? give(c, v, n, !V4L2_TYPE_IS_OUTPUT(b.type), name, NULL) : real_call(c);
	if (rc < 0 || again)
		sh_reg_back(before);	/* after a failure it may still have them */
	else
		sh_reg_end(before);
	return rc;
}

static int v4l2_request(const struct call *c)
{
	struct v4l2_requestbuffers q;

	if (atomic_load(&sh_nregs) == 0 || sh_peek(&q, c->arg, sizeof q))
		return real_call(c);
	return take_back(c, buffers(q.type, 0, UINT32_MAX));
}

static int v4l2_remove(const struct call *c)
{
	struct v4l2_remove_buffers q;

	if (atomic_load(&sh_nregs) == 0 || sh_peek(&q, c->arg, sizeof q))
		return real_call(c);
	return take_back(c, buffers(q.type, q.index, q.count));
}

/* ---- ioctl ---- */

int sh_long_ioctl(sh_ioctl_fn real, int fd, unsigned long request, void *arg)
{
	static const struct { unsigned long request; int (*fn)(const struct call *c); } known[] = {
		{ VFIO_IOMMU_MAP_DMA, vfio_map },     { VFIO_IOMMU_UNMAP_DMA, vfio_unmap },
		{ IOMMU_IOAS_MAP, ioas_map },	      { IOMMU_IOAS_UNMAP, ioas_unmap },
		{ IOMMU_IOAS_COPY, ioas_copy },	      { IOMMU_DESTROY, iommu_destroy },
		{ VIDIOC_QBUF, v4l2_queue },	      { VIDIOC_PREPARE_BUF, v4l2_queue },
		{ VIDIOC_REQBUFS, v4l2_request },     { VIDIOC_REMOVE_BUFS, v4l2_remove },
	};
	const struct call c = { real, fd, request, arg };
	unsigned int type = _IOC_TYPE(request);

	if ((type != ';' && type != 'V') || !sh_hook_ours())
		return real(fd, request, arg);
	for (size_t i = 0; i < PF_ARRAY_LEN(known); i++)
		if (known[i].request == (request & UINT32_MAX))
			return known[i].fn(&c);
	return real(fd, request, arg);
}

/* ---- AF_XDP ---- */

SH_EARLY static void load(void *slot, const char *name)
{
	void *sym = dlsym(RTLD_NEXT, name);

	memcpy(slot, &sym, sizeof sym);
}

/* Until the last socket that has the frames is closed. */
static int xdp_umem(int (*real)(int, int, int, const void *, socklen_t), int fd, const void *opt, socklen_t len)
{
	struct { uint64_t addr, len; } m;
	struct sh_pinned *p = NULL;
	struct sh_reg *r;
	struct iovec v;
	int rc, err = 0;

	if (len < sizeof m || sh_peek(&m, opt, sizeof m))
		return real(fd, SOL_XDP, XDP_UMEM_REG, opt, len);
	v = (struct iovec){ sh_ptr(m.addr), m.len };
	if (!sh_iov_touches(&v, 1))
		return real(fd, SOL_XDP, XDP_UMEM_REG, opt, len);
	err = sh_reg_new(&r);
	if (!err)
		err = sh_pinned_take(&v, 1, true, PF_API_XDP, &p);
	if (err) {
		sh_reg_free(r);
		return sh_hook_fail(err == -ENOMEM ? -ENOBUFS : err);	/* what xdp_umem_account_pages() says */
	}
	rc = real(fd, SOL_XDP, XDP_UMEM_REG, opt, len);
	if (rc == 0 && p != NULL) {
		sh_reg_add(r, fd, sh_name(PF_API_XDP, 0, 0, 1), p);
	} else {
		sh_pinned_put(p);
		sh_reg_free(r);
	}
	return rc;
}

PF_EXPORT SH_EARLY int setsockopt(int fd, int level, int opt, const void *p, socklen_t len)
{
	static int (*real)(int, int, int, const void *, socklen_t);
	struct sh_span span[] = { { SH_OBJECT, SH_IN, (sh_any *)(uintptr_t)&p, len } };
	struct sh_io io;
	int err;

	if (real == NULL)
		load(&real, "setsockopt");
	if (!sh_hook_any())
		return real(fd, level, opt, p, len);
	if (level == SOL_XDP && opt == XDP_UMEM_REG)
		return xdp_umem(real, fd, p, len);
	if (!sh.user_mode)
		return real(fd, level, opt, p, len);
	err = sh_io_begin(&io, span, 1);
	return err ? sh_hook_fail(err) : (int)sh_io_end(&io, real(fd, level, opt, p, len));
}

/* A socket that uses another one's frames keeps them, when that is closed. */
static void xdp_shared(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_xdp x;

	if (len < sizeof x || sh_peek(&x, sa, sizeof x) || x.sxdp_family != AF_XDP ||
	    !(x.sxdp_flags & XDP_SHARED_UMEM))
		return;
	if (sh_reg_share((int)x.sxdp_shared_umem_fd, sh_name(PF_API_XDP, 0, 0, 1), fd,
			 sh_name(PF_API_XDP, 0, 0, 1)) != 0)
		sh_log(SH_ERR, "no memory to note shared frames: what they pin ends with the first socket");
}

PF_EXPORT SH_EARLY int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	static int (*real)(int, const struct sockaddr *, socklen_t);
	struct sh_span span[] = { { SH_OBJECT, SH_IN, (sh_any *)(uintptr_t)&sa, len } };
	struct sh_io io;
	int err, rc;

	if (real == NULL)
		load(&real, "bind");
	if (sh.user_mode && sh_hook_any()) {
		err = sh_io_begin(&io, span, 1);
		return err ? sh_hook_fail(err) : (int)sh_io_end(&io, real(fd, sa, len));
	}
	rc = real(fd, sa, len);
	if (rc == 0 && atomic_load(&sh_nregs) != 0 && sh_hook_ours())
		xdp_shared(fd, sa, len);
	return rc;
}
