/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_mount.c - what a mount accepts, refuses and says; what becomes of a filesystem whose device goes; and a file
 * that answers like a device DAX node.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <dirent.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include "conform/cases.h"
#include "conform/scratch.h"

#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

#define LEN (4 * CF_PAGE)
#define RW (PROT_READ | PROT_WRITE)

/* ---- options ---- */

struct option {
	const char *opts;
	const char *ext4, *xfs;		/* for these, where they are called differently */
	const char *mkfs[4];		/* of ext4 */
};

static const char *opts_of(const struct scratch *o, const struct option *a)
{
	if (o->kernel && a->ext4 != NULL)
		return strcmp(o->type, "xfs") == 0 ? a->xfs : a->ext4;
	return a->opts;
}

static void accepted(struct cf *c)
{
	const struct option *a = cf_arg(c);
	struct scratch o;
	const char *opts;

	scratch_new(c, &o, NULL);
	opts = opts_of(&o, a);
	if (o.kernel && opts != NULL && opts[0] == '\0')
		cf_na(c, "%s has no such option", o.type);
	CF_MUST(c, scratch_mkfs(&o, strcmp(o.type, "ext4") == 0 ? a->mkfs : NULL) == 0);
	if (scratch_mount(&o, opts) == 0) {
		cf_answer(c, "mounted");
	} else {
		cf_answer(c, "refused");
		cf_note(c, "%s", scratch_said(&o));
	}
	scratch_end(&o);
}

/* What the mount says while it is made, about @arg: the daemon's messages, the kernel's log. */
struct said {
	const char *opts, *word;
};

static bool says(const char *text, const char *word)
{
	return strcasestr(text, word) != NULL;
}

static void warned(struct cf *c)
{
	const struct said *a = cf_arg(c);
	struct scratch o;
	int fd;

	scratch_start(c, &o, a->opts);
	fd = scratch_file(&o, "f", LEN);
	CF_SYS(c, close(fd));
	scratch_umount(&o);
	cf_answer(c, says(scratch_said(&o), a->word) ? "warned" : "quiet");
	scratch_end(&o);
}

/* mount -o remount with another dax=: what a new file is tells whether it had an effect. */
static void remounted(struct cf *c)
{
	const char *before;
	struct scratch o;
	long rc;
	int fd;

	if (geteuid() != 0)
		cf_na(c, "only root can remount");
	scratch_start(c, &o, "dax=always");
	fd = scratch_file(&o, "f", LEN);
	before = map_sync(fd) == 0 ? "set" : "clear";
	CF_SYS(c, close(fd));
	rc = cf_rc(mount(o.dev, o.mnt, NULL, MS_REMOUNT, "dax=never"));
	fd = scratch_file(&o, "g", LEN);
	cf_answer(c, "%s%s", rc < 0 ? "refused" : "accepted",
		  strcmp(before, map_sync(fd) == 0 ? "set" : "clear") == 0 ? ", without effect" : ", with effect");
	CF_SYS(c, close(fd));
	scratch_end(&o);
}

/* ---- devices ---- */

/* A mount, and whether a new file there is DAX. */
static void dax_or_not(struct cf *c, struct scratch *o)
{
	int fd;

	if (scratch_mount(o, "dax=always") != 0) {
		cf_answer(c, "refused");
		cf_note(c, "%s", scratch_said(o));
		return;
	}
	fd = scratch_file(o, "f", LEN);
	cf_answer(c, map_sync(fd) == 0 ? "mounted, with DAX" : "mounted, without DAX");
	CF_SYS(c, close(fd));
}

/* pinfs: a size that is no multiple of a page. Kernel: a partition that begins at such an offset. */
struct align {
	unsigned int off;
	bool reflink;			/* of XFS */
};

static void aligned(struct cf *c)
{
	const struct align *a = cf_arg(c);
	const bool xfs = cf_is(c, "xfs");
	struct scratch o;
	struct stat st;

	scratch_new(c, &o, NULL);
	if (o.kernel)
		scratch_partition(&o, CF_CHUNK + a->off);
	CF_MUST(c, scratch_mkfs(&o, xfs && !a->reflink ? (const char *const[]){ "-m", "reflink=0", NULL } : NULL) == 0);
	if (!o.kernel) {
		CF_SYS(c, stat(o.dev, &st));
		CF_SYS(c, truncate(o.dev, st.st_size + a->off));
	}
	dax_or_not(c, &o);
	scratch_end(&o);
}

static void small_blocks(struct cf *c)
{
	struct scratch o;

	scratch_new(c, &o, NULL);
	CF_MUST(c, scratch_mkfs(&o, strcmp(o.type, "xfs") == 0 ? (const char *const[]){ "-b", "size=1024", NULL } :
				    (const char *const[]){ "-b", "1024", NULL }) == 0);
	dax_or_not(c, &o);
	scratch_end(&o);
}

static void unaligned_mkfs(struct cf *c)
{
	struct scratch o;
	struct stat st;

	scratch_new(c, &o, NULL);
	if (o.kernel)
		cf_na(c, "a device of another size would have to be made");
	CF_SYS(c, stat(o.dev, &st));
	CF_SYS(c, truncate(o.dev, st.st_size + 512));
	cf_answer(c, scratch_mkfs(&o, NULL) == 0 ? "made" : "refused");
	scratch_end(&o);
}

/* Some block device of this machine. It is refused before anything is read, and nothing is ever written. */
static bool block_device(char *path, size_t room)
{
	DIR *d = opendir("/sys/class/block");
	const struct dirent *e;
	bool found = false;

	while (d != NULL && !found && (e = readdir(d)) != NULL) {
		struct stat st;

		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(path, room, "/dev/%.40s", e->d_name);
		found = stat(path, &st) == 0 && S_ISBLK(st.st_mode) && access(path, R_OK) == 0;
	}
	if (d != NULL)
		(void)closedir(d);
	return found;
}

static void not_a_pmem(struct cf *c)
{
	struct scratch o;

	scratch_new(c, &o, NULL);
	if (o.kernel)
		cf_na(c, "another device than --scratch-dev would have to be given");
	if (!block_device(o.own.img, sizeof o.own.img))
		cf_na(c, "there is no block device that may be read");
	if (scratch_mount(&o, "ro") == 0) {
		cf_answer(c, "mounted");
	} else {
		cf_answer(c, "refused");
		cf_note(c, "%s", scratch_said(&o));
	}
	scratch_end(&o);
}

/* The device is somebody's already. */
static void twice(struct cf *c)
{
	struct scratch o, again;

	scratch_start(c, &o, "dax=always");
	again = o;
	again.own.pid = 0;
	again.own.log = -1;
	again.mounted = false;
	again.kmsg = -1;
	(void)snprintf(again.mnt, sizeof again.mnt, "%s", cf_path(c, "again"));
	(void)snprintf(again.own.mnt, sizeof again.own.mnt, "%s", again.mnt);
	CF_SYS(c, mkdir(again.mnt, 0755));
	if (scratch_mount(&again, o.kernel ? "dax=never" : NULL) == 0) {
		cf_answer(c, "mounted");
		scratch_umount(&again);
	} else {
		cf_answer(c, "refused");
	}
	scratch_end(&o);
}

/* ---- the device goes ---- */

enum after { FSYNC, READ, LOAD, STORE, CREATE, UNMOUNT };
struct gone {
	enum after what;
};

/*
 * pinfs: the image is cut down to nothing. Kernel: the filesystem is shut down, as it does itself when its device has
 * gone. The program gets errors, and nothing crashes: the mount can be taken off.
 */
static void device_gone(struct cf *c)
{
	const enum after what = ((const struct gone *)cf_arg(c))->what;
	uint32_t how = 2;
	struct scratch o;
	char *p, *q, buf[64];
	long rc = 0;
	int fd, dir;

	scratch_start(c, &o, "dax=always");
	fd = scratch_file(&o, "f", LEN);
	CF_SYS(c, ftruncate(fd, (off_t)(2 * CF_CHUNK)));
	p = cf_map(c, fd, 0, 2 * CF_CHUNK, RW);
	q = p + CF_CHUNK;		/* nothing was touched near it */
	p[0] = CF_DMA;
	dir = (int)CF_SYS(c, open(o.mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (o.kernel)
		CF_SYS(c, ioctl(dir, _IOR('X', 125, uint32_t), &how));
	else
		CF_SYS(c, truncate(o.dev, 0));
	CF_SYS(c, close(dir));
	switch (what) {
	case FSYNC:
		/* pinfs notices at its first look at the device; then there is an error for everybody. */
		(void)pread(fd, buf, sizeof buf, 0);
		rc = cf_rc(fsync(fd));
		break;
	case READ:
		rc = cf_rc(pread(fd, buf, sizeof buf, 0));
		break;
	case LOAD:
	case STORE:
		(void)pread(fd, buf, sizeof buf, 0);
		cf_answer(c, "%s", cf_touch_word(q, what == STORE));
		break;
	case CREATE:
		(void)pread(fd, buf, sizeof buf, 0);
		rc = cf_rc(open(scratch_path(&o, "new"), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
		break;
	case UNMOUNT:
		(void)pread(fd, buf, sizeof buf, 0);
		break;
	}
	(void)munmap(p, 2 * CF_CHUNK);
	(void)close(fd);
	scratch_umount(&o);
	if (what != LOAD && what != STORE)
		cf_answer_rc(c, rc);
	scratch_end(&o);
}

/* ---- frozen ---- */

struct frozen {
	bool store, private;
};

struct storer {
	char *p;
	_Atomic uint32_t done;
};

static long store_byte(void *arg)
{
	struct storer *s = arg;
	const int sig = cf_touch(s->p, true);

	cf_mark(&s->done, 1);
	return sig == 0 ? 0 : -EFAULT;
}

/* Where those sleep who wait for the thaw: percpu_rwsem_wait(), by __sb_start_write(). */
static bool sleeps_there(pid_t tid)
{
	char path[64], where[128];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof path, "/proc/self/task/%d/wchan", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, where, sizeof where - 1) : -1;
	if (fd >= 0)
		(void)close(fd);
	where[n > 0 ? n : 0] = '\0';
	return strstr(where, "percpu") != NULL || strstr(where, "sb_start") != NULL;
}

static void frozen(struct cf *c)
{
	const struct frozen *a = cf_arg(c);
	struct cf_call *call;
	struct scratch o;
	struct storer s = { .p = NULL };
	bool waits = false;
	int fd, dir;
	char *p;
	long rc;

	scratch_start(c, &o, "dax=always");
	fd = scratch_file(&o, "f", LEN);
	CF_SYS(c, fsync(fd));
	p = mmap(NULL, LEN, RW, a->private ? MAP_PRIVATE : MAP_SHARED, fd, 0);
	CF_MUST(c, p != MAP_FAILED);
	dir = (int)CF_SYS(c, open(o.mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	rc = cf_rc(ioctl(dir, FIFREEZE, 0));
	if (rc < 0) {
		CF_SYS(c, munmap(p, LEN));
		CF_SYS(c, close(fd));
		CF_SYS(c, close(dir));
		scratch_end(&o);
		cf_na(c, "the filesystem cannot be frozen: %s", strerror((int)-rc));
	}
	if (!a->store || a->private) {
		cf_answer(c, "%s", cf_touch_word(p, a->store));
		CF_SYS(c, ioctl(dir, FITHAW, 0));
	} else {
		s.p = p;
		call = cf_call(c, CF_THREAD, store_byte, &s);
		while (!waits && atomic_load(&s.done) == 0) {
			waits = sleeps_there(cf_call_tid(call));
			(void)usleep(500);
		}
		cf_answer(c, waits ? "waits" : "returns");
		CF_SYS(c, ioctl(dir, FITHAW, 0));
		if (cf_result(call) != 0)
			cf_answer(c, "fails");
	}
	CF_SYS(c, munmap(p, LEN));
	CF_SYS(c, close(fd));
	CF_SYS(c, close(dir));
	scratch_end(&o);
}

static void freezes(struct cf *c)
{
	struct scratch o;
	int dir;
	long rc;

	scratch_start(c, &o, "dax=always");
	dir = (int)CF_SYS(c, open(o.mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	rc = cf_rc(ioctl(dir, FIFREEZE, 0));
	if (rc >= 0)
		rc = cf_rc(ioctl(dir, FITHAW, 0));
	cf_answer_rc(c, rc);
	CF_SYS(c, close(dir));
	scratch_end(&o);
}

/* ---- a file that answers like a device DAX node ---- */

enum ask {
	MAP_SHARED_, MAP_PRIVATE_, MAP_ODD_OFFSET, MAP_ODD_LENGTH, MAP_SYNC_,
	DO_READ, DO_WRITE, DO_TRUNCATE, DO_PUNCH, DO_ALLOCATE, DO_FSYNC
};
struct devdax {
	enum ask ask;
};

static long try_map(int fd, size_t len, int flags, off_t off)
{
	void *p = mmap(NULL, len, RW, flags, fd, off);

	if (p == MAP_FAILED)
		return -(long)errno;
	(void)munmap(p, len);
	return 0;
}

static void devdax(struct cf *c)
{
	const enum ask ask = ((const struct devdax *)cf_arg(c))->ask;
	struct scratch o;
	char byte = 'x';
	long rc = 0;
	int fd;

	scratch_start(c, &o, "profile=devdax");
	fd = (int)CF_SYS(c, open(scratch_path(&o, "dax0.0"), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	CF_SYS(c, ftruncate(fd, (off_t)(2 * CF_CHUNK)));
	switch (ask) {
	case MAP_SHARED_:
		rc = try_map(fd, CF_CHUNK, MAP_SHARED, 0);
		break;
	case MAP_PRIVATE_:
		rc = try_map(fd, CF_CHUNK, MAP_PRIVATE, 0);
		break;
	case MAP_ODD_OFFSET:
		rc = try_map(fd, CF_CHUNK, MAP_SHARED, (off_t)CF_PAGE);
		break;
	case MAP_ODD_LENGTH:
		rc = try_map(fd, CF_PAGE, MAP_SHARED, 0);
		break;
	case MAP_SYNC_:
		rc = try_map(fd, CF_CHUNK, MAP_SHARED_VALIDATE | MAP_SYNC, 0);
		break;
	case DO_READ:
		rc = cf_rc(pread(fd, &byte, 1, 0));
		break;
	case DO_WRITE:
		rc = cf_rc(pwrite(fd, &byte, 1, 0));
		break;
	case DO_TRUNCATE:
		rc = cf_rc(ftruncate(fd, (off_t)CF_CHUNK));
		break;
	case DO_PUNCH:
		rc = cf_rc(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)CF_CHUNK));
		break;
	case DO_ALLOCATE:
		rc = cf_rc(fallocate(fd, 0, 0, (off_t)CF_CHUNK));
		break;
	case DO_FSYNC:
		rc = cf_rc(fsync(fd));
		break;
	}
	cf_answer_rc(c, rc);
	CF_SYS(c, close(fd));
	scratch_end(&o);
}

/* ---- ioctls that move blocks ---- */

/* struct move_extent of ext4 */
struct move {
	uint32_t reserved, donor;
	uint64_t orig_start, donor_start, len, moved;
};

static void move_extent(struct cf *c)
{
	int fd = cf_file(c, "f", LEN), donor = cf_file(c, "g", LEN);
	struct move m = { .donor = (uint32_t)donor, .len = 4 };
	char *p = cf_map(c, fd, 0, LEN, RW);

	CF_MUST(c, p[0] == CF_BYTE);
	cf_answer_rc(c, cf_rc(ioctl(fd, _IOWR('f', 15, struct move), &m)));
}

#define MINE "; plain: na: no mount with options of its own can be made here"
#define FROZEN "; pinfs, bare, virtiofs, plain: na: only a kernel's filesystem can be frozen"
#define PINFS "; kernel: na: pinfs only" MINE
#define WINDOWS "; bare: na: mmap(2) needs the preload library for it" PINFS
#define OPT(opts) (&(const struct option){ opts, NULL, NULL, { NULL } })
#define OPTS(...) (&(const struct option){ __VA_ARGS__ })
#define SAID(opts, word) (&(const struct said){ opts, word })
#define GONE(w) (&(const struct gone){ w })
#define ASK(a) (&(const struct devdax){ a })

static const struct cf_case cases[] = {
	{ "mount.dax", "dax= of ext4(5)", "The option dax without a value is accepted.", CF_MOUNTS, accepted,
	  OPT("dax"), "mounted" MINE },
	{ "mount.always", "dax= of ext4(5)", "So is dax=always.", CF_MOUNTS, accepted, OPT("dax=always"),
	  "mounted" MINE },
	{ "mount.never", "dax= of ext4(5)", "So is dax=never.", CF_MOUNTS, accepted, OPT("dax=never"), "mounted" MINE },
	{ "mount.inode", "dax= of ext4(5)", "So is dax=inode.", CF_MOUNTS, accepted, OPT("dax=inode"), "mounted" MINE },
	{ "mount.bad-value", "ext4_parse_param()", "Another value of dax= is refused.", CF_MOUNTS, accepted,
	  OPT("dax=sometimes"), "refused" MINE },
	{ "mount.exclusive", "ext4_check_feature_compatibility(); pinfs",
	  "What excludes DAX is refused together with it: data=journal; a device profile that would not be DAX.",
	  CF_MOUNTS, accepted, OPTS("profile=devdax,dax=never", "dax=always,data=journal", "", { NULL }),
	  "refused" MINE },
	{ "mount.inline", "ext4_check_feature_compatibility(); xfstests ext4/031",
	  "ext4 with inline data is not mounted with dax=always.", CF_MOUNTS, accepted,
	  OPTS("dax=always", "dax=always", "", { "-O", "inline_data", NULL }),
	  "refused; pinfs, bare: na: pinfs has no inline data" MINE },
	{ "mount.block-size", "ext4_fill_super(); xfs_fs_fill_super()",
	  "Blocks smaller than a page: ext4 refuses dax=always, XFS does without DAX.", CF_MOUNTS, small_blocks, NULL,
	  "refused; xfs: mounted, without DAX; pinfs, bare: na: pinfs has one size of blocks" MINE },
	{ "mount.remount", "ext4_check_opt_consistency(); xfs_fs_reconfigure()",
	  "A remount does not change dax=.", CF_MOUNTS, remounted, NULL,
	  "refused, without effect; pinfs, bare: accepted, without effect; "
	  "xfs: refused, without effect|accepted, without effect" MINE },

	{ "mount.unaligned", "behaviour 41; fs_dax_get_by_bdev()",
	  "A device that does not lie on pages is found when it is mounted, not at the first access: it is refused, or "
	  "used without DAX.", CF_MOUNTS, aligned, &(const struct align){ 512, false },
	  "refused; xfs: mounted, without DAX" MINE },
	{ "mount.aligned", "behaviour 41; fs_dax_get_by_bdev()", "One that does is mounted with DAX.", CF_MOUNTS,
	  aligned, &(const struct align){ CF_PAGE, false },
	  "mounted, with DAX; bare: mounted, without DAX|mounted, with DAX" MINE },
	{ "mount.reflink-partition", "xfs_setup_dax_always()",
	  "XFS with shared extents and DAX needs a whole device: it could not find the owners of a bad block else.",
	  CF_MOUNTS, aligned, &(const struct align){ CF_PAGE, true },
	  "refused; ext4, pinfs, bare: na: it has no shared extents" MINE },
	{ "mount.unaligned-mkfs", "behaviour 41; pinfs", "And by mkfs.pinfs.", CF_MOUNTS, unaligned_mkfs, NULL,
	  "refused" PINFS },
	{ "mount.block-device", "behaviour 45; pinfs",
	  "A device whose pages cannot be mapped is refused: pinfs takes no block device.", CF_MOUNTS, not_a_pmem, NULL,
	  "refused" PINFS },
	{ "mount.pages", "behaviour 45; memremap_compat_align()",
	  "Whether a device has page structures is known when its driver is loaded, which no program here does.",
	  CF_UNASKED, NULL, NULL, "" },
	{ "mount.no-window", "fuse_dax_conn_alloc()",
	  "virtiofs without a window refuses dax=always: nobody can take the window away from a mount that is there. A "
	  "pinfs has one always; processes that may not have it use the files through the kernel.", CF_UNASKED, NULL,
	  NULL, "" },
	{ "mount.twice", "pinfs; bdev_open()",
	  "A device that is served is not served twice. A kernel shows the filesystem that it has, with the options "
	  "that it has, once more.", CF_MOUNTS, twice, NULL, "refused; kernel: mounted" MINE },

	{ "mount.experimental", "behaviour 18",
	  "A mount that lets blocks be used again under DMA calls itself EXPERIMENTAL.", CF_MOUNTS, warned,
	  SAID("on_busy=unsafe", "experimental"), "warned" PINFS },
	{ "mount.experimental-not", "behaviour 18; xfs_fs_fill_super()",
	  "No other does, any more: XFS did with dax=always, up to 6.1 at least.", CF_MOUNTS, warned,
	  SAID("dax=always", "experimental"), "quiet; xfs+k6.1: warned" MINE },
	{ "mount.quiet", "behaviour 55; dax_supported()",
	  "dax=inode says nothing of DAX while nobody asks for it.", CF_MOUNTS, warned, SAID("dax=inode", "dax"),
	  "quiet" MINE },
	{ "mount.quiet-never", "behaviour 55", "Nor does dax=never.", CF_MOUNTS, warned, SAID("dax=never", "dax"),
	  "quiet" MINE },

	{ "mount.gone-fsync", "behaviour 54; dax_flush()", "fsync(2) on a device that has gone is an error.",
	  CF_MOUNTS, device_gone, GONE(FSYNC), "EIO" MINE },
	{ "mount.gone-read", "behaviour 54; ext4_forced_shutdown()", "So is a read.", CF_MOUNTS, device_gone,
	  GONE(READ), "EIO" MINE },
	{ "mount.gone-store", "behaviour 54; vmf_error()", "A store that needs a block is a SIGBUS.", CF_MOUNTS,
	  device_gone, GONE(STORE), "SIGBUS; bare: ?" MINE },
	{ "mount.gone-load", "behaviour 54; xfs_filemap_fault()",
	  "A load from a page that was not mapped is a SIGBUS; ext4, shut down, goes on reading its maps.", CF_MOUNTS,
	  device_gone, GONE(LOAD), "SIGBUS; ext4: returns; bare: ?" MINE },
	{ "mount.gone-create", "behaviour 54; ext4_forced_shutdown()", "No file can be made.", CF_MOUNTS, device_gone,
	  GONE(CREATE), "EIO" MINE },
	{ "mount.gone-unmount", "behaviour 54", "And it can be unmounted.", CF_MOUNTS, device_gone, GONE(UNMOUNT),
	  "returns" MINE },

	{ "mount.freeze", "ioctl_fsfreeze()", "A filesystem can be frozen; FUSE cannot.", CF_MOUNTS | CF_ROOT, freezes,
	  NULL, "returns; pinfs, bare: EOPNOTSUPP" MINE },
	{ "mount.frozen-load", "behaviour 29; sb_start_pagefault()", "A load from a frozen filesystem goes on.",
	  CF_MOUNTS, frozen, &(const struct frozen){ false, false }, "returns" FROZEN },
	{ "mount.frozen-store", "behaviour 29; sb_start_pagefault()", "A store waits until it is thawed.", CF_MOUNTS,
	  frozen, &(const struct frozen){ true, false }, "waits" FROZEN },
	{ "mount.frozen-copy", "behaviour 29; sb_start_pagefault()", "A private store does not.", CF_MOUNTS, frozen,
	  &(const struct frozen){ true, true }, "returns" FROZEN },

	{ "mount.move-extent", "behaviour 56a; ext4_move_extents()",
	  "An ioctl that moves blocks from under a mapping is refused for DAX files.", 0, move_extent, NULL,
	  "EOPNOTSUPP; xfs, pinfs, bare, virtiofs: ENOTTY; plain: ?" },

	{ "mount.devdax-map", "dax_mmap()", "A device DAX node can be mapped shared.", CF_MOUNTS, devdax,
	  ASK(MAP_SHARED_), "returns" WINDOWS },
	{ "mount.devdax-private", "check_vma() of drivers/dax/device.c", "It cannot be mapped privately.", CF_MOUNTS,
	  devdax, ASK(MAP_PRIVATE_), "EINVAL" WINDOWS },
	{ "mount.devdax-offset", "check_vma() of drivers/dax/device.c", "Its mappings begin at multiples of 2 MiB.",
	  CF_MOUNTS, devdax, ASK(MAP_ODD_OFFSET), "EINVAL" WINDOWS },
	{ "mount.devdax-length", "check_vma() of drivers/dax/device.c", "And have lengths that are such.",
	  CF_MOUNTS, devdax, ASK(MAP_ODD_LENGTH), "EINVAL" WINDOWS },
	{ "mount.devdax-sync", "dax_mmap()", "MAP_SYNC is granted on it.", CF_MOUNTS, devdax, ASK(MAP_SYNC_),
	  "returns" WINDOWS },
	{ "mount.devdax-read", "dax_fops", "It cannot be read.", CF_MOUNTS, devdax, ASK(DO_READ), "EINVAL" PINFS },
	{ "mount.devdax-write", "dax_fops", "Nor written.", CF_MOUNTS, devdax, ASK(DO_WRITE), "EINVAL" PINFS },
	{ "mount.devdax-truncate", "behaviour 25; dax_fops", "It keeps its size.", CF_MOUNTS, devdax, ASK(DO_TRUNCATE),
	  "EINVAL" PINFS },
	{ "mount.devdax-punch", "behaviour 25; vfs_fallocate()", "It keeps all of its pages.", CF_MOUNTS, devdax,
	  ASK(DO_PUNCH), "ENODEV" PINFS },
	{ "mount.devdax-allocate", "vfs_fallocate()", "It has nothing to allocate.", CF_MOUNTS, devdax,
	  ASK(DO_ALLOCATE), "ENODEV" PINFS },
	{ "mount.devdax-fsync", "dax_fops", "It has nothing to write back.", CF_MOUNTS, devdax, ASK(DO_FSYNC),
	  "EINVAL" PINFS },
};
CF_GROUP(cf_mount_group, "mount", "Mounts, their options and their ends", cases);
