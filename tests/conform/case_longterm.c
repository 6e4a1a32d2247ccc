/* SPDX-License-Identifier: BSD-3-Clause */
/* case_longterm.c - memory given to a device for good: what is admitted, in which order, and what is left of it. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_xdp.h>
#include <linux/vfio.h>
#include <linux/videodev2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>
#include <pinfs/ioctl.h>
#include <pinfs/pin.h>
#include "conform/cases.h"
#include "conform/take.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

#define WLONG (PINFS_PIN_WRITE | PINFS_PIN_LONGTERM)

/* ---- memory ---- */

enum kind {
	SHARED, READ_ONLY, NO_ACCESS, PRIVATE, PRIVATE_COPIED, PRIVATE_HALF, HOLE, PAST_EOF, ANON_FIRST, ANON_LAST,
	ANON, ANON_READ_ONLY, MEMFD, HUGE, SECRET, DEVICE, PAGE_CACHE,
};

struct memory {
	int fd;			/* of the DAX file, or -1 */
	char *at;
	size_t len;
};

/* A device's file is made of whole pieces of 2 MiB. */
static size_t unit(const struct cf *c)
{
	return cf_is(c, "devdax") ? CF_CHUNK : CF_PAGE;
}

static char *mapped(struct cf *c, void *at, size_t len, int prot, int flags, int fd)
{
	char *p = mmap(at, len, prot, flags | (at == NULL ? 0 : MAP_FIXED), fd, 0);

	CF_MUST(c, p != MAP_FAILED);
	return p;
}

#define RW (PROT_READ | PROT_WRITE)

/* A private window; the kernel's own private mapping is of the page cache, and another question. */
static void private(struct cf *c, struct memory *m, size_t copied)
{
	int (*query)(const void *, size_t, struct pinfs_range_info *);
	struct pinfs_range_info ri;

	m->at = mapped(c, NULL, m->len, RW, MAP_PRIVATE, m->fd);
	if (cf_is(c, "pinfs")) {
		query = LIB(c, pinfs_range_query);
		if (query(m->at, m->len, &ri) != 0)
			cf_na(c, "private mappings are the page cache's here");
	}
	memset(m->at, 'c', copied);
}

/* Memory that the kernel maps for a driver: there is some in every process. */
static void driver_memory(struct cf *c, struct memory *m)
{
	unsigned long lo = 0, hi = 0;
	char line[512];
	FILE *f = fopen("/proc/self/maps", "re");

	CF_MUST(c, f != NULL);
	while (lo == 0 && fgets(line, sizeof line, f) != NULL)
		if (strstr(line, "[vvar]") == NULL || sscanf(line, "%lx-%lx", &lo, &hi) != 2)
			lo = 0;
	(void)fclose(f);
	if (lo == 0)
		cf_na(c, "no such memory in this process");
	m->at = (char *)lo;	/* NOLINT(performance-no-int-to-ptr) */
	m->len = CF_PAGE;
}

static void page_cache(struct cf *c, struct memory *m)
{
	const int fd = cf_plain_file(c, m->len);
	struct statfs st;

	if (fstatfs(fd, &st) != 0 || st.f_type == TMPFS_MAGIC)
		cf_na(c, "%s is on a tmpfs, whose files are memory", cf_plain_dir(c));
	m->at = mapped(c, NULL, m->len, RW, MAP_SHARED, fd);
}

static void make(struct cf *c, enum kind kind, struct memory *m)
{
	const size_t u = unit(c), half = 2 * u;
	int fd;

	*m = (struct memory){ -1, NULL, 4 * u };
	if (kind < ANON)
		m->fd = kind == HOLE ? cf_holes(c, "f", m->len) :
			cf_file(c, "f", kind == PAST_EOF || kind == ANON_FIRST || kind == ANON_LAST ? half : m->len);
	switch (kind) {
	case SHARED: case HOLE: case PAST_EOF:
		m->at = mapped(c, NULL, m->len, RW, MAP_SHARED, m->fd);
		break;
	case READ_ONLY:
		m->at = mapped(c, NULL, m->len, PROT_READ, MAP_SHARED, m->fd);
		break;
	case NO_ACCESS:
		m->at = mapped(c, NULL, m->len, PROT_NONE, MAP_SHARED, m->fd);
		break;
	case PRIVATE: private(c, m, 0); break;
	case PRIVATE_COPIED: private(c, m, m->len); break;
	case PRIVATE_HALF: private(c, m, m->len / 2); break;
	case ANON_FIRST: case ANON_LAST:
		/* The room of both, at the alignment of the file's. */
		m->at = mapped(c, NULL, m->len + CF_CHUNK, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		m->at += (CF_CHUNK - (uintptr_t)m->at % CF_CHUNK) % CF_CHUNK;
		(void)mapped(c, m->at + (kind == ANON_FIRST ? half : 0), half, RW, MAP_SHARED, m->fd);
		break;
	case ANON:
		m->at = mapped(c, NULL, m->len, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		break;
	case ANON_READ_ONLY:
		m->at = mapped(c, NULL, m->len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		break;
	case MEMFD:
		fd = (int)CF_SYS(c, memfd_create("conform", MFD_CLOEXEC));
		CF_SYS(c, ftruncate(fd, (off_t)m->len));
		m->at = mapped(c, NULL, m->len, RW, MAP_SHARED, fd);
		break;
	case HUGE:
		m->len = CF_CHUNK;
		m->at = mmap(NULL, m->len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		if (m->at == MAP_FAILED)
			cf_na(c, "no huge pages are reserved");
		break;
	case SECRET:
		fd = (int)syscall(SYS_memfd_secret, 0);
		if (fd < 0)
			cf_na(c, "no memfd_secret(2): %s", strerror(errno));
		CF_SYS(c, ftruncate(fd, (off_t)m->len));
		m->at = mmap(NULL, m->len, RW, MAP_SHARED, fd, 0);
		if (m->at == MAP_FAILED)
			cf_na(c, "no secret memory: %s", strerror(errno));
		break;
	case DEVICE: driver_memory(c, m); break;
	case PAGE_CACHE: page_cache(c, m); break;
	}
}

/* ---- takers ---- */

typedef long take_fn(struct cf *c, const struct memory *m);

static long uring(struct cf *c, const struct memory *m)
{
	const struct iovec v = { m->at, m->len };
	struct take_ring r;

	take_ring_open(c, &r);
	return take_ring_register(&r, IORING_REGISTER_BUFFERS, &v, 1);
}

/* In two buffers: the second may be refused when the first was had. */
static long uring_pieces(struct cf *c, const struct memory *m)
{
	const struct iovec v[] = { { m->at, m->len / 2 }, { m->at + m->len / 2, m->len / 2 } };
	struct take_ring r;

	take_ring_open(c, &r);
	return take_ring_register(&r, IORING_REGISTER_BUFFERS, v, 2);
}

static long uring_update(struct cf *c, const struct memory *m)
{
	struct iovec v = { m->at, m->len };
	struct io_uring_rsrc_register reg = { .nr = 2, .flags = IORING_RSRC_REGISTER_SPARSE };
	struct io_uring_rsrc_update2 up = { .offset = 1, .nr = 1, .data = (uintptr_t)&v };
	struct take_ring r;
	int rc;

	take_ring_open(c, &r);
	rc = take_ring_register(&r, IORING_REGISTER_BUFFERS2, &reg, sizeof reg);
	return rc < 0 ? rc : take_ring_register(&r, IORING_REGISTER_BUFFERS_UPDATE, (const void *)&up, sizeof up);
}

static long xdp(struct cf *c, const struct memory *m)
{
	const struct xdp_umem_reg reg = { .addr = (uintptr_t)m->at, .len = m->len, .chunk_size = 4096 };
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0)
		cf_na(c, "no AF_XDP socket here: %s", strerror(errno));
	return cf_rc(setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg));
}

static long api(struct cf *c, const struct memory *m)
{
	struct pinfs_pin *pin;

	return LIB(c, pinfs_pin)(m->at, m->len, WLONG, &pin);
}

static long api_read(struct cf *c, const struct memory *m)
{
	struct pinfs_pin *pin;

	return LIB(c, pinfs_pin)(m->at, m->len, PINFS_PIN_LONGTERM, &pin);
}

/*
 * Those for which a machine needs a device. On pinfs the preload library refuses before it asks the device, so a
 * character device that knows nothing will do; where it does not refuse, there is nothing to ask.
 */
static int device(struct cf *c, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 && cf_is(c, "pinfs"))
		fd = (int)CF_SYS(c, open("/dev/null", O_RDWR | O_CLOEXEC));
	if (fd < 0)
		cf_na(c, "no such device here");
	return fd;
}

static long answered(struct cf *c, long rc)
{
	if (rc == -ENOTTY || rc == -ENOSYS)
		cf_na(c, "the library lets it pass, and there is no such device (tests/pin/test_takers.c has one)");
	return rc;
}

static int vfio_container(struct cf *c)
{
	struct vfio_group_status st = { .argsz = sizeof st };
	int fd = device(c, "/dev/vfio/vfio"), group = -1;
	DIR *d = opendir("/dev/vfio");
	struct dirent *e;
	char path[300];

	while (d != NULL && group < 0 && (e = readdir(d)) != NULL)
		if (e->d_name[0] >= '0' && e->d_name[0] <= '9') {
			(void)snprintf(path, sizeof path, "/dev/vfio/%s", e->d_name);
			group = open(path, O_RDWR | O_CLOEXEC);
		}
	if (d != NULL)
		(void)closedir(d);
	if (group >= 0 && ioctl(group, VFIO_GROUP_GET_STATUS, &st) == 0 &&
	    ioctl(group, VFIO_GROUP_SET_CONTAINER, &fd) == 0 &&
	    ioctl(fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0)
		return fd;
	if (!cf_is(c, "pinfs"))
		cf_na(c, "no group of a device for VFIO");
	return fd;
}

static long vfio(struct cf *c, const struct memory *m)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof map, .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)m->at, .iova = 1 << 28, .size = m->len,
	};
	long rc = cf_rc(ioctl(vfio_container(c), VFIO_IOMMU_MAP_DMA, &map));

	return answered(c, rc == -EINVAL && m->fd < 0 && cf_is(c, "pinfs") ? -ENOTTY : rc);
}

/* As in <linux/iommufd.h>, which is younger than some systems. */
struct ioas_alloc { uint32_t size, flags, out; };
struct ioas_map { uint32_t size, flags, ioas, reserved; uint64_t va, len, iova; };

static long iommufd(struct cf *c, const struct memory *m)
{
	int fd = device(c, "/dev/iommu");
	struct ioas_alloc new = { .size = sizeof new };
	struct ioas_map map = { .size = sizeof map, .flags = 2 | 4, .va = (uintptr_t)m->at, .len = m->len };

	(void)ioctl(fd, _IO(';', 0x81), &new);
	map.ioas = new.out;
	return answered(c, cf_rc(ioctl(fd, _IO(';', 0x85), &map)));
}

static long v4l2(struct cf *c, const struct memory *m)
{
	int fd = device(c, "/dev/video0");
	struct v4l2_requestbuffers q = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_USERPTR, .count = 1,
	};
	struct v4l2_buffer b = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_USERPTR, .length = (uint32_t)m->len,
	};

	(void)ioctl(fd, VIDIOC_REQBUFS, &q);
	b.m.userptr = (uintptr_t)m->at;
	return answered(c, cf_rc(ioctl(fd, VIDIOC_QBUF, &b)));
}

/* As in <infiniband/verbs.h>: nothing but pointers here. */
struct pd { void *context; };

static long verbs_with(struct cf *c, const struct memory *m, int access)
{
	static struct pd nobody = { &nobody };
	void *lib = dlopen("libibverbs.so.1", RTLD_NOW), *sym, **list = NULL, *mr;
	void **(*devices)(int *);
	void *(*open_device)(void *), *(*alloc)(void *), *(*reg)(void *, void *, size_t, int), *pd = NULL;
	int n = 0;

#define FROM(where, fn, name) (sym = dlsym(where, name), memcpy(&(fn), &sym, sizeof sym), (fn) != NULL)
	if (lib != NULL && FROM(lib, devices, "ibv_get_device_list") && FROM(lib, open_device, "ibv_open_device") &&
	    FROM(lib, alloc, "ibv_alloc_pd"))
		list = devices(&n);
	if (list != NULL && n > 0)
		pd = alloc(open_device(list[0]));
	else if (lib != NULL && dlclose(lib) == 0)
		lib = NULL;		/* it would believe what follows */
	if (pd == NULL && cf_is(c, "pinfs"))
		pd = &nobody;
	if (pd == NULL || (!FROM(RTLD_DEFAULT, reg, "ibv_reg_mr") && !FROM(lib, reg, "ibv_reg_mr")))
		cf_na(c, "no RDMA device here");
	if (pd == &nobody && (access & 1 << 6))
		cf_na(c, "no RDMA device, and the library has nothing to refuse (tests/pin/test_regions.c has one)");
	mr = reg(pd, m->at, m->len, access);
	return answered(c, mr == NULL ? -errno : 0);
}

static long verbs(struct cf *c, const struct memory *m) { return verbs_with(c, m, 1 | 2); }
static long on_demand(struct cf *c, const struct memory *m) { return verbs_with(c, m, 1 | 1 << 6); }

/* ---- may it? ---- */

struct ask {
	take_fn *take;
	enum kind kind;
};

static blkcnt_t blocks(struct cf *c, int fd)
{
	struct stat st;

	CF_SYS(c, fstat(fd, &st));
	return st.st_blocks;
}

/* Refused is refused all of it: no block was allocated for it, and no truncate meets what was had first. */
static void ask(struct cf *c)
{
	const struct ask *a = cf_arg(c);
	struct memory m;
	blkcnt_t before;
	struct cf_call *cut;
	long rc;

	make(c, a->kind, &m);
	before = m.fd < 0 ? 0 : blocks(c, m.fd);
	rc = a->take(c, &m);
	cf_answer_rc(c, rc);
	if (rc >= 0 || m.fd < 0)
		return;
	if (blocks(c, m.fd) != before)
		cf_answer(c, "fails, and allocates");
	if (cf_is(c, "devdax"))
		return;
	cut = take_cut(c, m.fd, 0);
	if (strcmp(cf_call_word(cut), "returns") != 0)
		cf_answer(c, "fails, and truncate %s", cf_call_word(cut));
}

/* ---- what it holds up ---- */

static void allow(struct cf *c, const char *path)
{
	if (cf_is(c, "pinfs"))
		take_policy(c, path, "longterm", "allow");
}

/* Registered buffers hold what they are for until they are given back. */
static void held(struct cf *c)
{
	int fd = cf_file(c, "f", 4 * CF_PAGE);
	struct memory m = { fd, NULL, 4 * CF_PAGE };
	struct iovec v;
	struct take_ring r;
	struct cf_call *cut;

	allow(c, cf_path(c, "f"));
	m.at = mapped(c, NULL, m.len, RW, MAP_SHARED, fd);
	v = (struct iovec){ m.at, m.len };
	take_ring_open(c, &r);
	if (take_ring_register(&r, IORING_REGISTER_BUFFERS, &v, 1) != 0)
		cf_na(c, "such buffers are refused here");
	CF_SYS(c, munmap(m.at, m.len));
	cut = take_cut(c, fd, 0);
	take_answer_cut(c, cut);
	CF_MUST(c, take_ring_register(&r, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0);
	(void)cf_result(cut);
}

/* Nothing that is refused makes anybody wait; what is for one transfer does. */
static void transient(struct cf *c)
{
	int fd = cf_file(c, "f", 4 * CF_PAGE);
	char *p = cf_map(c, fd, 0, 4 * CF_PAGE, RW);
	struct pinfs_pin *pin;
	struct cf_call *cut;

	if (LIB(c, pinfs_pin)(p, CF_PAGE, WLONG, &pin) == 0)
		cf_na(c, "long-term pins are allowed here");
	CF_MUST(c, LIB(c, pinfs_pin)(p, CF_PAGE, PINFS_PIN_WRITE, &pin) == 0);
	cut = take_cut(c, fd, 0);
	take_answer_cut(c, cut);
	CF_MUST(c, LIB(c, pinfs_unpin)(pin) == 0);
	(void)cf_result(cut);
}

/* ---- what it costs ---- */

/* Without CAP_IPC_LOCK, of which root has enough. */
static void no_privilege(struct cf *c, size_t memlock)
{
	const struct rlimit lim = { memlock, memlock };
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];

	CF_SYS(c, setrlimit(RLIMIT_MEMLOCK, &lim));
	CF_SYS(c, syscall(SYS_capget, &h, d));
	d[0].effective &= ~(1U << CAP_IPC_LOCK);
	CF_SYS(c, syscall(SYS_capset, &h, d));
}

static void limit(struct cf *c)
{
	take_fn *const *take = cf_arg(c);
	struct memory m = { cf_file(c, "f", 64 * CF_PAGE), NULL, 64 * CF_PAGE };

	allow(c, cf_path(c, "f"));
	m.at = mapped(c, NULL, m.len, RW, MAP_SHARED, m.fd);
	no_privilege(c, 16 * CF_PAGE);
	cf_answer_rc(c, (*take)(c, &m));
	if (!cf_is(c, "pinfs"))
		return;
	m.len = 8 * CF_PAGE;
	CF_MUST(c, api(c, &m) == 0 && api(c, &m) == 0);
	if (api(c, &m) != -ENOMEM)
		cf_answer(c, "what fits one by one does not add up");
}

/* ---- whose word counts ---- */

enum level { OF_FILE, OF_DIRECTORY, OF_DESCRIPTOR };

static void level(struct cf *c)
{
	const enum level *of = cf_arg(c);
	struct pinfs_policy po = { .po_text = "longterm=allow" };
	struct pinfs_pin *pin;
	const char *path = cf_path(c, "f");
	char *p;
	int fd;

	if (*of == OF_DIRECTORY) {
		const char *dir = cf_path(c, "d");

		CF_SYS(c, mkdir(dir, 0755));
		take_policy(c, dir, "longterm", "allow");
		path = cf_path(c, "d/f");
	}
	fd = (int)CF_SYS(c, open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	CF_SYS(c, ftruncate(fd, (off_t)CF_CHUNK));
	if (*of == OF_FILE)
		take_policy(c, path, "longterm", "allow");
	else if (*of == OF_DESCRIPTOR && ioctl(fd, PINFS_IOC_POLICY, &po) != 0)
		cf_na(c, "descriptors have policies of their own on pinfs only");
	p = mapped(c, NULL, CF_CHUNK, RW, MAP_SHARED, fd);
	cf_answer_rc(c, LIB(c, pinfs_pin)(p, CF_PAGE, WLONG, &pin));
}

/* ---- the table ---- */

#define BARE "; bare: EFAULT|EOPNOTSUPP; plain: returns|EFAULT|EOPNOTSUPP"
#define OURS "; bare, plain, kernel: na: pinfs_pin() is pinfs's"
#define DAX_WANT "EOPNOTSUPP; lease: EPERM; allow: returns"
#define ASK(name, source, says, fn, kind, want)                                                                      \
	{ "long." name, source, says, 0, ask, &(const struct ask){ fn, kind }, want }
#define NO_PRIVATE "; devdax: na: a device has no private mappings"

static const struct cf_case cases[] = {
	/* Each kind of memory, in the order in which the kernel looks. */
	ASK("io-memory", "check_vma_flags()", "Memory that a driver has mapped is refused with EFAULT.",
	    uring, DEVICE, "EFAULT"),
	ASK("shared", "behaviour 10; vma_is_fsdax(); commit 2bb6d2837083",
	    "A shared mapping of a DAX file is refused with EOPNOTSUPP, and not waited for later.",
	    uring, SHARED, DAX_WANT BARE),
	ASK("read-only", "check_vma_flags()",
	    "A mapping without PROT_WRITE is refused for being of a DAX file, before it is refused for not being "
	    "writable.", uring, READ_ONLY, "EOPNOTSUPP; lease, allow: EFAULT; bare, plain: EFAULT|EOPNOTSUPP"),
	ASK("no-access", "check_vma_flags()", "So is one without any access.",
	    uring, NO_ACCESS, "EOPNOTSUPP; lease, allow: EFAULT; bare, plain: EFAULT|EOPNOTSUPP"),
	ASK("private", "vma_is_fsdax()", "A private mapping of a DAX file is refused, too, although it will be copied.",
	    uring, PRIVATE, "EOPNOTSUPP; bare, plain: returns|EOPNOTSUPP" NO_PRIVATE),
	ASK("private-copied", "gup_fast_pte_range()",
	    "A private mapping all of whose pages are copies is memory, and allowed; Linux 6.1 refused it.",
	    uring, PRIVATE_COPIED, "returns; kernel+k6.1: EOPNOTSUPP; plain, bare: returns|EOPNOTSUPP" NO_PRIVATE),
	ASK("private-half", "gup_fast_pte_range()", "One of which only a part is copies is refused.",
	    uring, PRIVATE_HALF, "EOPNOTSUPP; kernel+!k6.1: EFAULT; bare, plain: returns|EOPNOTSUPP" NO_PRIVATE),
	ASK("hole", "behaviour 24; check_vma_flags()", "A hole of a DAX file is refused, and stays a hole.",
	    uring, HOLE, DAX_WANT BARE "|fails, and allocates"),
	ASK("past-eof", "behaviour 24; check_vma_flags()",
	    "A DAX mapping that goes over the end of the file is refused for being DAX, not with EFAULT.",
	    uring, PAST_EOF, "EOPNOTSUPP; lease: EPERM; allow: EFAULT; bare, plain: EFAULT|EOPNOTSUPP"),
	ASK("mixed-first", "behaviour 24; __gup_longterm_locked()",
	    "Of a range that begins with ordinary memory and goes on with a DAX file, nothing is had; io_uring says "
	    "EFAULT when what comes first could be had.", uring, ANON_FIRST, DAX_WANT "; kernel: EFAULT" BARE
	    "|EINVAL"),
	ASK("mixed-last", "behaviour 24; __gup_longterm_locked()",
	    "Nor of one that begins with a DAX file and goes on with ordinary memory.",
	    uring, ANON_LAST, DAX_WANT BARE "|EINVAL"),
	ASK("pieces", "behaviour 24; io_sqe_buffers_register()",
	    "Of two buffers, of which only the second is of a DAX file, none is registered.",
	    uring_pieces, ANON_FIRST, DAX_WANT BARE),
	ASK("update", "io_uring/rsrc.c", "A buffer that is put into a table later is refused likewise.",
	    uring_update, SHARED, DAX_WANT BARE),
	ASK("secret", "check_vma_flags()", "Secret memory is refused with EFAULT.", uring, SECRET, "EFAULT"),
	ASK("page-cache", "writable_file_mapping_allowed()",
	    "A writable mapping of a file in the page cache is refused with EFAULT, unlike one of a DAX file; "
	    "io_uring of Linux 6.1 made no difference.", uring, PAGE_CACHE, "EFAULT|EOPNOTSUPP"),
	ASK("anon-read-only", "check_vma_flags()", "Memory that may not be written to is refused with EFAULT.",
	    uring, ANON_READ_ONLY, "EFAULT"),
	ASK("anon", "behaviour 24", "Memory that is nobody's file is allowed.", uring, ANON, "returns"),
	ASK("memfd", "behaviour 24", "So is a memfd.", uring, MEMFD, "returns"),
	ASK("hugetlb", "behaviour 24", "So are huge pages.", uring, HUGE, "returns"),

	/* Each taker. */
	ASK("xdp", "behaviour 10; xdp_umem_pin_pages(); commit 932f4a630a69",
	    "AF_XDP is refused a DAX file for its frames; it was not before Linux 5.2.",
	    xdp, SHARED, DAX_WANT "; linux-4.15, linux-4.19: returns" BARE),
	ASK("xdp-mixed", "xdp_umem_pin_pages()",
	    "AF_XDP has nothing of a range of which a part is of a DAX file; it says ENOMEM when what comes first "
	    "could be had.", xdp, ANON_FIRST, DAX_WANT "; linux-4.15, linux-4.19: returns; kernel, bare: ENOMEM; "
	    "plain: returns|ENOMEM"),
	ASK("xdp-anon", "xdp_umem_pin_pages()", "AF_XDP may have ordinary memory.", xdp, ANON, "returns"),
	ASK("verbs", "behaviour 11; ib_umem_get(); commit 5f1d43de5416",
	    "RDMA is refused the registration of a DAX file.", verbs, SHARED, DAX_WANT BARE),
	ASK("verbs-mixed", "behaviour 11, 24; ib_umem_get()",
	    "RDMA has nothing of a range of which a part is of a DAX file.", verbs, ANON_LAST, DAX_WANT BARE),
	ASK("verbs-anon", "ib_umem_get()", "RDMA may have ordinary memory.", verbs, ANON, "returns"),
	ASK("verbs-odp", "behaviour 12; ib_umem_odp_get()",
	    "Registration on demand, which pins nothing, is allowed, if the device knows how.",
	    on_demand, SHARED, "returns|EOPNOTSUPP|EINVAL"),
	ASK("vfio", "behaviour 14; vfio_pin_pages_remote(); vfio cover letter v5 (2018)",
	    "VFIO is refused a DAX file; it was not before Linux 4.16.",
	    vfio, SHARED, DAX_WANT "; linux-4.15: returns" BARE),
	ASK("vfio-mixed", "behaviour 14; vfio_pin_map_dma(); vfio review (Feb 2018)",
	    "VFIO maps nothing of a range of which a part is of a DAX file.",
	    vfio, ANON_FIRST, DAX_WANT "; linux-4.15: returns" BARE),
	ASK("vfio-anon", "vfio_pin_pages_remote()", "VFIO may have ordinary memory.", vfio, ANON, "returns"),
	ASK("iommufd", "behaviour 14; iopt_map_user_pages()",
	    "iommufd is refused a DAX file; Linux pins, and refuses, when a device is attached.",
	    iommufd, SHARED, DAX_WANT "; kernel, bare, plain: returns|EOPNOTSUPP"),
	ASK("v4l2", "behaviour 13; vb2_create_framevec(); commit b70131de648c",
	    "V4L2 is refused a user pointer into a DAX file.", v4l2, SHARED,
	    DAX_WANT "; kernel, bare, plain: EOPNOTSUPP|EFAULT|EINVAL"),
	ASK("api", "behaviour 10; pin_user_pages() with FOLL_LONGTERM",
	    "pinfs_pin() for good, to write, is refused as the kernel refuses it.", api, SHARED, DAX_WANT OURS),
	ASK("api-read", "behaviour 10; pin_user_pages() with FOLL_LONGTERM",
	    "Also for reading only.", api_read, SHARED, DAX_WANT OURS),
	ASK("api-read-only", "check_vma_flags()", "What the mapping allows comes after what the filesystem allows.",
	    api, READ_ONLY, "EOPNOTSUPP; lease: EPERM|EACCES; allow: EACCES" OURS),
	ASK("api-hole", "behaviour 24", "A hole stays one when its pin is refused.",
	    api, HOLE, DAX_WANT OURS),

	/* What they hold up where they are allowed. */
	{ "long.held", "behaviour 22; commit 2bb6d2837083",
	  "Why Linux refuses: where registered buffers are allowed, they keep truncate waiting until the program gives "
	  "them back, munmap or not.", CF_PROTECTS, held, NULL,
	  "waits; ebusy: EBUSY; defer, unsafe, bare, plain: returns; kernel: na: refused; "
	  "devdax: na: a device has no truncate" },
	{ "long.transient", "behaviour 10, 15",
	  "While pins for good are refused, those for one transfer are allowed, and are what a truncate waits for.",
	  CF_PROTECTS, transient, NULL,
	  "waits; ebusy: EBUSY; defer, unsafe: returns; devdax: na: a device has no truncate" OURS },
	{ "long.limit", "account_locked_vm()",
	  "Where it is allowed, it is charged to RLIMIT_MEMLOCK, all of a user's together: ENOMEM.",
	  0, limit, &(take_fn *const){ api }, "ENOMEM; devdax: na: the file is smaller than a chunk" OURS },
	{ "long.limit-uring", "io_account_mem()", "So are registered buffers of io_uring.",
	  0, limit, &(take_fn *const){ uring },
	  "ENOMEM; kernel: na: refused before it is charged; bare, plain: ENOMEM|EFAULT|EOPNOTSUPP; "
	  "devdax: na: the file is smaller than a chunk" },
	{ "long.level-file", "pinfs", "A file's own user.pinfs.longterm comes before the mount's.",
	  0, level, &(const enum level){ OF_FILE }, "returns" OURS },
	{ "long.level-directory", "pinfs", "A file takes it over from the directory it is made in.",
	  0, level, &(const enum level){ OF_DIRECTORY }, "returns" OURS },
	{ "long.level-descriptor", "pinfs",
	  "A descriptor's own, by PINFS_IOC_POLICY, is for windows of the process that came to the file by it.",
	  0, level, &(const enum level){ OF_DESCRIPTOR }, "returns" OURS },

	/* What cannot be asked. */
	{ "long.exynos", "behaviour 13; g2d_userptr_get_dma_addr(); commit b70131de648c",
	  "The Exynos 2D engine is refused a user pointer: it takes that hardware; the call is pin_user_pages() like "
	  "the others'.", CF_UNASKED, NULL, NULL, "" },
	{ "long.spapr", "behaviour 17; tce_iommu_use_page()",
	  "The sPAPR TCE containers of VFIO pin without saying that it is for long, so it slips through: PowerPC only.",
	  CF_UNASKED, NULL, NULL, "" },
	{ "long.powerpc", "mm_iommu_do_alloc()",
	  "Memory that is registered with an IOMMU of PowerPC is refused as all long-term pins are: PowerPC only.",
	  CF_UNASKED, NULL, NULL, "" },
	{ "long.kvm-vfio", "vfio_pin_pages_remote()",
	  "A device that is handed to a virtual machine pins its memory by VFIO, so a machine whose memory is a DAX "
	  "file gets none: it takes a device; the call is that of long.vfio.", CF_UNASKED, NULL, NULL, "" },
	{ "long.v4l2-mixed", "vb2_create_framevec()",
	  "A V4L2 buffer of which a part is a DAX file is refused, and nothing stays pinned: it takes a device; "
	  "tests/pin/test_takers.c has one.", CF_UNASKED, NULL, NULL, "" },
	{ "long.cached-read", "writable_file_mapping_allowed()",
	  "A long-term pin, to read, of a mapping of an ordinary file is allowed: io_uring and AF_XDP pin to write, "
	  "and who pins to read takes a device.", CF_UNASKED, NULL, NULL, "" },
	{ "long.cost", "behaviour 16; vfio review (Feb 2018)",
	  "What a long-term pin costs more than one for a transfer is a ratio, which pinbench(1) measures.",
	  CF_UNASKED, NULL, NULL, "" },
	{ "long.devdax", "behaviour 11, 19, 25; vma_is_fsdax()",
	  "A device DAX node is not taken for a DAX file, and pins of it are allowed: asked with profile=devdax by "
	  "long.shared and the others, and of real nodes by make check-guest.", CF_UNASKED, NULL, NULL, "" },
	{ "long.build", "behaviour 19, 20; vfio cover letter v5 (2018)",
	  "A kernel with only one of FS_DAX and DEV_DAX builds, and sees the one for what it is: a matter of its "
	  "configuration.", CF_UNASKED, NULL, NULL, "" },
};
CF_GROUP(cf_longterm, "long", "Memory for devices", cases);
