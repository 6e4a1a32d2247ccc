/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_errno.c - which errno, or which signal, says what. The situations are made by the shortest way; what else is to
 * be said of them is in the groups that they belong to.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <pinfs/ioctl.h>
#include <pinfs/lease.h>
#include "conform/cases.h"
#include "conform/own.h"
#include "conform/space.h"
#include "conform/take.h"

#define LEN (4 * CF_PAGE)
#define RW (PROT_READ | PROT_WRITE)

/* ---- pins that last ---- */

/* A registered buffer of io_uring, the long-term pin that needs no device. */
static long registers(struct cf *c, void *p, size_t len)
{
	struct io_uring_params par = { 0 };
	struct iovec v = { .iov_base = p, .iov_len = len };
	int ring = (int)syscall(SYS_io_uring_setup, 4, &par);
	long rc;

	if (ring < 0)
		cf_na(c, "there is no io_uring here: %s", strerror(errno));
	rc = cf_rc(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &v, 1));
	(void)close(ring);
	return rc;
}

static void longterm(struct cf *c)
{
	void *p = cf_map(c, cf_file(c, "f", LEN), 0, LEN, RW);

	CF_MUST(c, cf_touch(p, true) == 0);
	cf_answer_rc(c, registers(c, p, LEN));
}

static void longterm_plain(struct cf *c)
{
	unsigned int major = 0, minor = 0;
	struct utsname u;
	struct statfs s;
	void *p;
	int fd;

	CF_MUST(c, uname(&u) == 0 && sscanf(u.release, "%u.%u", &major, &minor) == 2);
	if (major < 6 || (major == 6 && minor < 5))
		cf_na(c, "before Linux 6.5 it is allowed");
	fd = cf_plain_file(c, LEN);
	CF_SYS(c, fstatfs(fd, &s));
	if (s.f_type == TMPFS_MAGIC)
		cf_na(c, "%s is a tmpfs, which has no writeback and allows it", cf_plain_dir(c));
	p = cf_map(c, fd, 0, LEN, RW);
	cf_answer_rc(c, registers(c, p, LEN));
}

/* For what root is not bound by. */
static void drop_caps(struct cf *c)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];

	CF_SYS(c, syscall(SYS_capget, &h, d));
	d[0].effective &= ~(1U << CAP_IPC_LOCK);
	d[0].permitted &= ~(1U << CAP_IPC_LOCK);
	CF_SYS(c, syscall(SYS_capset, &h, d));
}

struct memlock {
	struct cf *c;
	int fd;
	rlim_t limit;
	bool lock;
};

/* In a process of its own, for the limit is one. */
static long over_limit(void *arg)
{
	const struct memlock *m = arg;
	struct rlimit r = { .rlim_cur = m->limit, .rlim_max = m->limit };
	struct pinfs_pin *pin;
	void *p;

	CF_SYS(m->c, setrlimit(RLIMIT_MEMLOCK, &r));
	drop_caps(m->c);
	p = mmap(NULL, CF_CHUNK, RW, MAP_SHARED, m->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (m->lock)
		return cf_rc(mlock(p, 16 * LEN));
	return LIB(m->c, pinfs_pin)(p, 16 * LEN, PINFS_PIN_WRITE | PINFS_PIN_LONGTERM, &pin);
}

static void memlock(struct cf *c)
{
	struct memlock m = { .c = c, .fd = cf_file(c, "f", 16 * LEN), .lock = cf_arg(c) != NULL };

#ifdef __SANITIZE_ADDRESS__
	if (m.lock)
		cf_na(c, "mlock(2) does nothing under AddressSanitizer");
#endif
	if (!m.lock) {
		(void)LIB(c, pinfs_pin);
		m.limit = LEN;
		take_policy(c, cf_path(c, "f"), "longterm", "allow");
	}
	cf_answer_rc(c, cf_result(cf_call(c, CF_PROCESS, over_limit, &m)));
}

static void no_lease(struct cf *c)
{
	int fd = cf_file(c, "f", LEN);
	struct pinfs_pin *out;

	(void)LIB(c, pinfs_pin);
	take_policy(c, cf_path(c, "f"), "longterm", "lease");
	cf_answer_rc(c, LIB(c, pinfs_pin)(cf_map(c, fd, 0, LEN, RW), LEN, PINFS_PIN_WRITE | PINFS_PIN_LONGTERM, &out));
}

/* ---- pins of what is not there ---- */

static void pin_eof(struct cf *c)
{
	char *p = cf_map(c, cf_file(c, "f", LEN), 0, 2 * LEN, RW);
	struct cf_pin *pin;

	cf_answer_rc(c, cf_pin_try(c, p + LEN, CF_PAGE, CF_TO_FILE, &pin));
}

static void pin_unmapped(struct cf *c)
{
	char *p = cf_map(c, cf_file(c, "f", LEN), 0, LEN, RW);
	struct cf_pin *pin;

	/* One page: the stack of a thread, which the pin may need, finds no room there. */
	CF_SYS(c, munmap(p + CF_PAGE, CF_PAGE));
	cf_answer_rc(c, cf_pin_try(c, p + CF_PAGE, CF_PAGE, CF_TO_FILE, &pin));
}

static void pin_read_only(struct cf *c)
{
	char *p = cf_map(c, cf_file(c, "f", LEN), 0, LEN, PROT_READ);
	struct cf_pin *pin;

	CF_MUST(c, cf_touch(p, false) == 0);
	cf_answer_rc(c, cf_pin_try(c, p, CF_PAGE, CF_TO_FILE, &pin));
}

/* ---- signals, leases, and what does not wait ---- */

static _Atomic uint32_t handled;

static void on_signal(int signo)
{
	(void)signo;
	atomic_store(&handled, 1);
}

static void interrupted(struct cf *c)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = cf_arg(c) != NULL ? SA_RESTART : 0 };
	struct cf_scene s;

	CF_SYS(c, sigaction(SIGUSR1, &sa, NULL));
	cf_scene(c, &s, LEN, 0, 0);
	CF_SYS(c, syscall(SYS_tgkill, cf_call_pid(s.truncate), cf_call_tid(s.truncate), SIGUSR1));
	cf_await(c, &handled, 1);
	(void)cf_settle(s.truncate);
	cf_answer(c, "%s", cf_call_word(s.truncate));
	CF_MUST(c, strcmp(cf_call_word(s.truncate), "EINTR") != 0 || cf_size(c, cf_path(c, "f")) == (off_t)LEN);
	cf_land(s.pin);
	(void)cf_result(s.truncate);
}

static void write_nowait(struct cf *c)
{
	char b = 'w';
	struct iovec v = { .iov_base = &b, .iov_len = 1 };
	struct cf_scene s;

	cf_scene(c, &s, LEN, 0, 0);
	cf_answer_rc(c, cf_rc(pwritev2(s.fd, &v, 1, 0, RWF_NOWAIT)));
	cf_land(s.pin);
	(void)cf_result(s.truncate);
}

/* A lease that is held, by this process or another one, while this one truncates. */
struct held {
	struct cf *c;
	unsigned int flags;
	struct marks {
		_Atomic uint32_t taken, end;
	} *m;
};

static long hold(void *arg)
{
	const struct held *h = arg;
	int fd = open(cf_path(h->c, "f"), O_RDWR | O_CLOEXEC), rc;
	struct pinfs_lease *lease;
	char *p = mmap(NULL, CF_CHUNK, RW, MAP_SHARED, fd, 0);

	if (fd < 0 || p == MAP_FAILED) {
		cf_mark(&h->m->taken, 2);
		return -errno;
	}
	rc = LIB(h->c, pinfs_lease_take)(fd, 0, 0, h->flags, &lease);
	cf_mark(&h->m->taken, rc == 0 ? 1 : 2);
	cf_await(h->c, &h->m->end, 1);
	return rc;
}

static long cut(void *arg)
{
	return cf_rc(truncate(arg, 0));
}

static void leased(struct cf *c)
{
	struct held h = { .c = c, .flags = *(const unsigned int *)cf_arg(c), .m = cf_shared(c, sizeof *h.m) };
	const bool other = h.flags & PINFS_LEASE_UNBREAK;
	struct pinfs_lease *lease;
	struct cf_call *holder, *call;
	int fd = cf_file(c, "f", LEN);

	(void)LIB(c, pinfs_lease_take);
	if (other) {
		holder = cf_call(c, CF_PROCESS, hold, &h);
		while (atomic_load(&h.m->taken) == 0)
			usleep(200);
		CF_MUST(c, atomic_load(&h.m->taken) == 1);
	} else {
		CF_MUST(c, cf_touch(cf_map(c, fd, 0, LEN, RW), true) == 0);
		CF_MUST(c, LIB(c, pinfs_lease_take)(fd, 0, 0, h.flags, &lease) == 0);
	}
	call = cf_call(c, CF_THREAD, cut, (void *)(uintptr_t)cf_path(c, "f"));
	(void)cf_settle(call);
	cf_answer(c, "%s", cf_call_word(call));
	cf_mark(&h.m->end, 1);
	if (other)
		CF_MUST(c, cf_result(holder) == 0);
}

static long hold_fcntl(void *arg)
{
	const struct held *h = arg;
	int fd = open(cf_path(h->c, "f"), O_RDONLY | O_CLOEXEC);
	long rc;

	(void)signal(SIGIO, SIG_IGN);
	/* A close(2) may end a moment after it has returned. */
	while ((rc = cf_rc(fcntl(fd, F_SETLEASE, F_RDLCK))) == -EAGAIN)
		usleep(500);
	cf_mark(&h->m->taken, rc == 0 ? 1 : 2);
	cf_await(h->c, &h->m->end, 1);
	return rc;
}

static void lease_nonblock(struct cf *c)
{
	struct held h = { .c = c, .m = cf_shared(c, sizeof *h.m) };
	struct cf_call *holder;
	long rc;

	CF_SYS(c, close(cf_file(c, "f", LEN)));
	holder = cf_call(c, CF_PROCESS, hold_fcntl, &h);
	while (atomic_load(&h.m->taken) == 0)
		usleep(200);
	if (atomic_load(&h.m->taken) == 2) {
		cf_mark(&h.m->end, 1);
		rc = cf_result(holder);
		cf_na(c, "F_SETLEASE: %s", strerror((int)-rc));
	}
	cf_answer_rc(c, cf_rc(open(cf_path(c, "f"), O_WRONLY | O_NONBLOCK | O_CLOEXEC)));
	cf_mark(&h.m->end, 1);
	CF_MUST(c, cf_result(holder) == 0);
}

/* ---- mappings ---- */

struct mapping {
	int flags;
	off_t off;
};

static void maps(struct cf *c)
{
	const struct mapping *m = cf_arg(c);
	int fd = cf_file(c, "f", 2 * CF_CHUNK);
	void *p = mmap(NULL, CF_CHUNK, PROT_READ | PROT_WRITE, m->flags, fd, m->off);

	cf_answer_rc(c, p == MAP_FAILED ? -errno : 0);
}

static void map_sync_plain(struct cf *c)
{
	void *p = mmap(NULL, LEN, RW, MAP_SHARED_VALIDATE | MAP_SYNC, cf_plain_file(c, LEN), 0);

	cf_answer_rc(c, p == MAP_FAILED ? -errno : 0);
}

/* ---- windows ---- */

static void all_pinned(struct cf *c)
{
	const size_t len = 8 * CF_CHUNK;
	struct pinfs_pin *out;
	int rc = 0;
	char *p;

	if (!cf_is(c, "tiny"))
		cf_na(c, "the window has too many slots to pin them all");
	p = cf_map(c, cf_holes(c, "f", len), 0, len, RW);
	for (size_t at = 0; at < len && rc == 0; at += CF_CHUNK)
		rc = LIB(c, pinfs_pin)(p + at, CF_PAGE, PINFS_PIN_WRITE, &out);
	cf_answer_rc(c, rc);
}

static void no_windows(struct cf *c)
{
	struct pinfs_attach at;
	struct cf_own o;

	cf_own_make(c, &o, CF_OWN_SIZE);
	cf_own_mount(c, &o, "dax=never");
	cf_answer_rc(c, cf_rc(ioctl(cf_own_file(c, &o, "f", LEN), PINFS_IOC_ATTACH, &at)));
}

static void attaches(struct cf *c)
{
	struct pinfs_attach at;

	cf_answer_rc(c, cf_rc(ioctl(cf_file(c, "f", LEN), PINFS_IOC_ATTACH, &at)));
}

/* ---- bad blocks ---- */

enum bad { BAD_READ, BAD_PART, BAD_WHOLE, BAD_LOAD, BAD_PIN };

static void bad(struct cf *c)
{
	const enum bad what = *(const enum bad *)cf_arg(c);
	struct pinfs_pin *pin;
	char page[CF_PAGE];
	struct cf_own o;
	int fd;

	if (what == BAD_LOAD && cf_symbol("pinfs_pin") == NULL)
		cf_na(c, "without the preload library the kernel maps");
	if (what == BAD_PIN)
		(void)LIB(c, pinfs_pin);
	cf_own_make(c, &o, CF_OWN_SIZE);
	cf_own_mount(c, &o, NULL);
	fd = cf_own_file(c, &o, "f", LEN);
	memset(page, CF_DMA, sizeof page);
	cf_own_bad(c, &o, "add", "f", 0);
	switch (what) {
	case BAD_READ:
		cf_answer_rc(c, cf_rc(pread(fd, page, CF_PAGE, 0)));
		break;
	case BAD_PART:
		cf_answer_rc(c, cf_rc(pwrite(fd, page, 100, 50)));
		break;
	case BAD_WHOLE:
		cf_answer_rc(c, cf_rc(pwrite(fd, page, CF_PAGE, 0)));
		break;
	case BAD_LOAD:
		cf_answer(c, "%s", cf_touch_word(cf_map(c, fd, 0, LEN, RW), false));
		break;
	case BAD_PIN:
		cf_answer_rc(c, LIB(c, pinfs_pin)(cf_map(c, fd, 0, LEN, RW), CF_PAGE, PINFS_PIN_WRITE, &pin));
		break;
	}
}

/* ---- accesses, and fallocate ---- */

static void past_end(struct cf *c)
{
	char *p = cf_map(c, cf_file(c, "f", LEN), 0, 2 * LEN, RW);

	cf_answer(c, "%s", cf_touch_word(p + LEN, cf_arg(c) != NULL));
}

static void no_space(struct cf *c)
{
	volatile char *p = cf_map(c, cf_holes(c, "f", LEN), 0, LEN, RW);

	CF_MUST(c, p[0] == 0);
	cf_fill(c);
	/* Some keep a few blocks for a file that is open; and the last ones. */
	(void)cf_victim(c);
	cf_answer(c, "%s", cf_touch_word(p, true));
}

static void shifts(struct cf *c)
{
	int fd = cf_file(c, "f", LEN);

	cf_answer_rc(c, cf_rc(fallocate(fd, *(const int *)cf_arg(c), 0, (off_t)CF_PAGE)));
}

/* ---- the cases ---- */

#define SHIFTED                                                                                                      \
	"returns; bare, virtiofs, virtiofs-dax: EOPNOTSUPP; devdax: EOPNOTSUPP|ENODEV; plain: returns|EOPNOTSUPP"
#define NOEND "; devdax: na: a device ends where its last page does"
#define NOLEASE "; kernel: na: proposed, and not in Linux"
#define BAD(x) CF_MOUNTS, bad, &(const enum bad){ x }

static const struct cf_case cases[] = {
	{ "errno.longterm", "check_vma_flags(); behaviour 10",
	  "A long-term pin of a DAX file: EOPNOTSUPP.", 0, longterm, NULL,
	  "EOPNOTSUPP; lease: EPERM; allow: returns; bare: EFAULT; plain: na: asked by errno.longterm-plain" },
	{ "errno.longterm-plain", "writable_file_mapping_allowed()",
	  "A long-term pin, to write, of a shared mapping of an ordinary file: EFAULT.",
	  0, longterm_plain, NULL, "EFAULT" },
	{ "errno.longterm-lease", "RFC \"RDMA/FS DAX truncate proposal\" v1 (June 2019)",
	  "A long-term pin without a lease where one is needed: EPERM.",
	  CF_PINS, no_lease, NULL, "EPERM" NOLEASE },
	{ "errno.memlock", "__account_locked_vm()",
	  "Long-term pins of more than RLIMIT_MEMLOCK: ENOMEM.", CF_PINS, memlock, NULL, "ENOMEM" },
	{ "errno.memlock-none", "can_do_mlock()",
	  "Locking memory where that is not allowed at all: EPERM.", 0, memlock, "lock", "EPERM" },
	{ "errno.pin-past-end", "faultin_page(); dax_iomap_fault()",
	  "A pin of what lies behind the end of the file: EFAULT.", CF_PINS, pin_eof, NULL, "EFAULT" NOEND },
	{ "errno.pin-unmapped", "__get_user_pages()",
	  "A pin of memory that is not mapped: EFAULT.", CF_PINS, pin_unmapped, NULL, "EFAULT" },
	{ "errno.pin-read-only", "check_vma_flags(); xfstests generic/462",
	  "A pin, to write, of a mapping that may not be written to: EFAULT; pinfs_pin() says EACCES.",
	  CF_PINS, pin_read_only, NULL, "EFAULT; api: EACCES" },

	{ "errno.signal", "___wait_var_event() in ext4_break_layouts(); behaviour 8",
	  "A signal while truncate waits: EINTR, and the size is what it was.", CF_PINS, interrupted, NULL, "EINTR" },
	{ "errno.signal-restart", "-ERESTARTSYS of ext4_break_layouts(); fuse_dev_do_write()",
	  "A signal whose handler has SA_RESTART: truncate goes on waiting; FUSE has no such answer: EINTR.",
	  CF_PINS, interrupted, "restart", "waits; pinfs: EINTR" },
	{ "errno.write-nowait", "ext4_dax_write_iter(), IOCB_NOWAIT",
	  "A write with RWF_NOWAIT while truncate waits: EAGAIN; a FUSE filesystem with no such mode: EOPNOTSUPP.",
	  CF_PINS, write_nowait, NULL, "EAGAIN; pinfs: EOPNOTSUPP" },
	{ "errno.lease-other", "RFC \"RDMA/FS DAX truncate proposal\" v2 (Aug 2019)",
	  "A truncate of what another process has under a lease that does not break: ETXTBSY.",
	  CF_PINS, leased, &(const unsigned int){ PINFS_LEASE_READ | PINFS_LEASE_UNBREAK },
	  "ETXTBSY; devdax: EINVAL" NOLEASE },
	{ "errno.lease-own", "RFC \"RDMA/FS DAX truncate proposal\" v2 (Aug 2019)",
	  "A truncate of what the caller itself has under a read lease: EDEADLK.",
	  CF_PINS, leased, &(const unsigned int){ PINFS_LEASE_READ }, "EDEADLK; devdax: EINVAL" NOLEASE },
	{ "errno.lease-nonblock", "__break_lease()",
	  "An open that does not want to wait for a lease of fcntl(2): EAGAIN.", 0, lease_nonblock, NULL, "EAGAIN" },

	{ "errno.map-sync", "mmap_region(), MAP_SYNC",
	  "A MAP_SYNC mapping is given, or EOPNOTSUPP.", 0, maps,
	  &(const struct mapping){ MAP_SHARED_VALIDATE | MAP_SYNC, 0 },
	  "returns; bare, plain, virtiofs, virtiofs-dax: EOPNOTSUPP" },
	{ "errno.map-sync-plain", "mmap_region(), MAP_SYNC",
	  "A MAP_SYNC mapping of a file that is not DAX: EOPNOTSUPP.", 0, map_sync_plain, NULL, "EOPNOTSUPP" },
	{ "errno.map-private", "check_vma() of drivers/dax/device.c",
	  "A private mapping of a device: EINVAL; of a file it is fine.", 0, maps,
	  &(const struct mapping){ MAP_PRIVATE, 0 }, "returns; devdax: EINVAL" },
	{ "errno.map-misaligned", "check_vma() of drivers/dax/device.c",
	  "A mapping of a device at an offset that its alignment does not divide: EINVAL; of a file it is fine.",
	  0, maps, &(const struct mapping){ MAP_SHARED, (off_t)CF_PAGE }, "returns; devdax: EINVAL" },

	{ "errno.window-pinned", "fuse_dax_free_one_mapping(); pinfs",
	  "All slots of a window are pinned by the process that wants another one: EDEADLK.",
	  CF_PINS, all_pinned, NULL, "na: the window has too many slots; tiny: EDEADLK" },
	{ "errno.window-killed", "inode_reclaim_one_dmap()",
	  "A read that waits for a slot of the window and is killed, EINTR: read(2) and write(2) of pinfs need no "
	  "window, and virtiofs needs a virtual machine.", CF_UNASKED, NULL, NULL, NULL },
	{ "errno.setupmapping", "fuse_dax_setup_mapping()",
	  "FUSE_SETUPMAPPING to a server without DAX, ENOSYS: the kernel sends it by a virtio device only; "
	  "errno.no-windows is what a client of pinfs can ask.", CF_UNASKED, NULL, NULL, NULL },
	{ "errno.no-windows", "fuse_dax_setup_mapping(); pinfs",
	  "A process asks for windows of a file that has none: EOPNOTSUPP.", CF_MOUNTS, no_windows, NULL,
	  "EOPNOTSUPP; kernel: na: pinfs has windows, Linux has mappings" },
	{ "errno.attach", "pinfs",
	  "A process asks for windows of a file: given, and ENOTTY where nobody knows them.",
	  0, attaches, NULL, "ENOTTY; pinfs, bare: returns; kernel: ENOTTY" },

	{ "errno.bad-read", "dax_iomap_iter()", "A read of a bad block: EIO.", BAD(BAD_READ), "EIO" },
	{ "errno.bad-write-part", "dax_iomap_iter(); pmem_recovery_write()",
	  "A write of a part of a bad block: EIO; the kernel says EFAULT.", BAD(BAD_PART), "EIO; kernel: EFAULT" },
	{ "errno.bad-write-whole", "pmem_recovery_write(); behaviour 40",
	  "A write of the whole: it is good again.", BAD(BAD_WHOLE), "returns" },
	{ "errno.bad-load", "dax_fault_return(); behaviour 38",
	  "A load from a bad block: SIGBUS, BUS_MCEERR_AR where the kernel can say so.",
	  BAD(BAD_LOAD), "SIGBUS|SIGBUS/MCEERR_AR" },
	{ "errno.bad-pin", "faultin_page()", "A pin of a bad block: EIO; the kernel says EFAULT or EHWPOISON.",
	  BAD(BAD_PIN), "EIO; kernel: EFAULT|EHWPOISON" },
	{ "errno.load-past-end", "dax_iomap_pte_fault(); behaviour 43",
	  "A load from behind the end of the file: SIGBUS.", 0, past_end, NULL, "SIGBUS" NOEND },
	{ "errno.store-past-end", "dax_iomap_pte_fault(); behaviour 43",
	  "A store there: SIGBUS, and the file is no longer.", 0, past_end, "store", "SIGBUS" NOEND },
	{ "errno.store-no-space", "dax_iomap_pte_fault()",
	  "A store to a hole of a full filesystem: SIGBUS; to one in the page cache of FUSE it is lost later.",
	  CF_FILLS, no_space, NULL,
	  "SIGBUS; plain: SIGBUS|returns; bare: returns; devdax: na: a device has all its space" },
	{ "errno.collapse", "fuse_file_fallocate()", "COLLAPSE_RANGE, which FUSE does not know: EOPNOTSUPP.",
	  0, shifts, &(const int){ FALLOC_FL_COLLAPSE_RANGE }, SHIFTED },
	{ "errno.insert", "fuse_file_fallocate()", "INSERT_RANGE, which FUSE does not know: EOPNOTSUPP.",
	  0, shifts, &(const int){ FALLOC_FL_INSERT_RANGE }, SHIFTED },
};
CF_GROUP(cf_errno, "errno", "Which errno says what", cases);
