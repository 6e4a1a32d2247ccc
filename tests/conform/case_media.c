/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_media.c - blocks that cannot be read: who notices, what heals them, and what else they do not disturb.
 *
 * Page BAD of a file of four is bad; bad.h says how that is made. When a case has ended, its block is good again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>
#include "conform/bad.h"
#include "conform/cases.h"
#include "conform/scratch.h"

#define LEN (4 * CF_PAGE)
#define BAD CF_PAGE
#define RW (PROT_READ | PROT_WRITE)

struct scene {
	int fd;
	char *p;
	struct bad bad;
};

/* Mapped before it went bad and never touched: what is known at the fault counts. */
static void begin(struct cf *c, struct scene *s, bool shared)
{
	s->fd = cf_file(c, "f", LEN);
	CF_SYS(c, fsync(s->fd));
	bad_add(c, &s->bad, NULL, cf_path(c, "f"), s->fd, BAD);
	s->p = mmap(NULL, LEN, RW, shared ? MAP_SHARED : MAP_PRIVATE, s->fd, 0);
	CF_MUST(c, s->p != MAP_FAILED);
}

/* ---- through mappings ---- */

struct touch {
	size_t off;
	bool store, private;
};

static void touch(struct cf *c)
{
	const struct touch *t = cf_arg(c);
	struct scene s;

	begin(c, &s, !t->private);
	cf_answer(c, "%s", cf_touch_word(s.p + t->off, t->store));
	bad_del(&s.bad);
}

/* Good when the list has forgotten it: nothing was done to its bytes. */
static void forgotten(struct cf *c)
{
	struct scene s;
	int before;

	begin(c, &s, true);
	before = cf_touch(s.p + BAD, false);
	bad_del(&s.bad);
	if (before == 0 || cf_touch(s.p + BAD, false) != 0)
		cf_answer(c, before == 0 ? "no SIGBUS" : "SIGBUS");
	else
		cf_answer(c, "%s", cf_content_of(s.p + BAD, CF_PAGE));
}

static void while_mapped(struct cf *c)
{
	struct scene s;

	s.fd = cf_file(c, "f", LEN);
	s.p = cf_map(c, s.fd, 0, LEN, RW);
	CF_MUST(c, cf_touch(s.p + BAD, true) == 0);
	s.p[BAD] = CF_BYTE;
	bad_add(c, &s.bad, NULL, cf_path(c, "f"), s.fd, BAD);
	cf_answer(c, "%s", cf_touch_word(s.p + BAD, false));
	bad_del(&s.bad);
}

static void copied_before(struct cf *c)
{
	struct scene s;

	s.fd = cf_file(c, "f", LEN);
	s.p = mmap(NULL, LEN, RW, MAP_PRIVATE, s.fd, 0);
	CF_MUST(c, s.p != MAP_FAILED && cf_touch(s.p + BAD, true) == 0);
	s.p[BAD] = CF_BYTE;
	bad_add(c, &s.bad, NULL, cf_path(c, "f"), s.fd, BAD);
	if (cf_touch(s.p + BAD, false) != 0)
		cf_answer(c, "SIGBUS");
	else
		cf_answer(c, "%s", cf_content_of(s.p + BAD, CF_PAGE));
	bad_del(&s.bad);
}

/* ---- read(2) and write(2) ---- */

struct io {
	size_t off, len;
	bool write;
};

static void io(struct cf *c)
{
	const struct io *a = cf_arg(c);
	char buf[LEN];
	struct scene s;
	long rc;

	begin(c, &s, true);
	memset(buf, CF_DMA, sizeof buf);
	rc = cf_rc(a->write ? pwrite(s.fd, buf, a->len, (off_t)a->off) : pread(s.fd, buf, a->len, (off_t)a->off));
	if (rc >= 0 && rc < (long)a->len) {
		cf_answer(c, "what is before it");
	} else if (rc < 0 || !a->write) {
		cf_answer_rc(c, rc);
	} else {
		const char *got = cf_content(c, cf_path(c, "f"), (off_t)BAD, CF_PAGE);

		cf_answer(c, "returns, then %s%s", got, cf_touch(s.p + BAD, false) != 0 ? ", SIGBUS" : "");
	}
	bad_del(&s.bad);
}

/* The write has given the page a block that can be read and stored to; what was bad is kept from everybody. */
static void healed(struct cf *c)
{
	char page[CF_PAGE];
	struct scene s;
	const char *word;

	begin(c, &s, true);
	memset(page, CF_DMA, sizeof page);
	CF_MUST(c, pwrite(s.fd, page, sizeof page, (off_t)BAD) == (ssize_t)sizeof page);
	word = cf_touch_word(s.p + BAD, true);
	cf_answer(c, "%s, %s", word, bad_is(&s.bad) ? "listed" : "not listed");
	bad_del(&s.bad);
}

/* ---- holes, truncate ---- */

struct cut {
	int mode;			/* of fallocate(2); -1: truncate to off, and back */
	size_t off, len;
};

static void cut(struct cf *c)
{
	const struct cut *a = cf_arg(c);
	struct scene s;
	long rc;

	begin(c, &s, true);
	rc = cf_rc(a->mode >= 0 ? fallocate(s.fd, a->mode, (off_t)a->off, (off_t)a->len)
				: ftruncate(s.fd, (off_t)a->off));
	if (rc >= 0 && a->mode < 0)
		rc = cf_rc(ftruncate(s.fd, (off_t)LEN));
	if (rc < 0)
		cf_answer_rc(c, rc);
	else
		cf_answer(c, "%s", cf_content(c, cf_path(c, "f"), (off_t)BAD, CF_PAGE));
	bad_del(&s.bad);
}

/* Freed, and allocated by somebody else: a bad block is not given out as it is. */
static void reallocated(struct cf *c)
{
	struct scene s;
	char *p;
	int fd;

	begin(c, &s, true);
	CF_SYS(c, munmap(s.p, LEN));
	CF_SYS(c, close(s.fd));
	CF_SYS(c, unlink(cf_path(c, "f")));
	fd = cf_holes(c, "g", 16 * LEN);
	p = cf_map(c, fd, 0, 16 * LEN, RW);
	cf_answer(c, "returns");
	for (size_t off = 0; off < 16 * LEN; off += CF_PAGE)
		if (cf_touch(p + off, true) != 0)
			cf_answer(c, "SIGBUS");
	if (strcmp(cf_content(c, cf_path(c, "g"), 0, 16 * LEN), "EIO") == 0)
		cf_answer(c, "EIO");
	bad_del(&s.bad);
}

/* ---- pins ---- */

struct pin {
	size_t off, len;
};

static void pin(struct cf *c)
{
	const struct pin *a = cf_arg(c);
	struct cf_pin *got = NULL;
	struct scene s;
	int rc;

	begin(c, &s, true);
	rc = cf_pin_try(c, s.p + a->off, a->len, CF_TO_FILE, &got);
	if (rc == 0)
		cf_land(got);
	cf_answer_rc(c, rc);
	bad_del(&s.bad);
}

/* A block that goes bad under a transfer: that goes on, and a truncate waits for it as for any other. */
static long shrink(void *fd) { return cf_rc(ftruncate(*(int *)fd, 0)); }

static void pinned_before(struct cf *c)
{
	struct cf_call *call;
	struct cf_pin *got;
	struct scene s;

	s.fd = cf_file(c, "f", LEN);
	s.p = cf_map(c, s.fd, 0, LEN, RW);
	got = cf_pin(c, s.p + BAD, CF_PAGE, CF_TO_FILE);
	bad_add(c, &s.bad, NULL, cf_path(c, "f"), s.fd, BAD);
	call = cf_call(c, CF_THREAD, shrink, &s.fd);
	(void)cf_settle(call);
	cf_answer(c, "%s", cf_call_word(call));
	cf_land(got);
	if (cf_result(call) < 0 && strcmp(cf_call_word(call), "EBUSY") != 0)
		cf_answer(c, "fails");
	bad_del(&s.bad);
}

/* ---- a filesystem with known errors ---- */

static void mounted(struct cf *c)
{
	const char *good, *bad_word;
	struct scratch o;
	struct bad b;
	char buf[LEN];
	int fd;

	scratch_start(c, &o, "dax=always");
	fd = scratch_file(&o, "f", LEN);
	CF_SYS(c, fsync(fd));
	bad_add(c, &b, o.kernel ? NULL : o.mnt, scratch_path(&o, "f"), fd, BAD);
	CF_SYS(c, close(fd));
	scratch_umount(&o);
	if (scratch_mount(&o, "dax=always") != 0) {
		cf_answer(c, "refused");
		return;
	}
	fd = (int)CF_SYS(c, open(scratch_path(&o, "f"), O_RDWR | O_CLOEXEC));
	good = pread(fd, buf, CF_PAGE, 0) == (ssize_t)CF_PAGE ? cf_content_of(buf, CF_PAGE) : "error";
	bad_word = pread(fd, buf, CF_PAGE, (off_t)BAD) < 0 ? strerrorname_np(errno) : "good";
	cf_answer(c, "mounted, %s beside %s", good, bad_word);
	bad_del(&b);
	CF_SYS(c, close(fd));
	scratch_end(&o);
}

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO FALLOC_FL_ZERO_RANGE
#define NONE "; plain: na: nothing here knows of bad blocks; devdax: na: profile=devdax shows no files to have them in"
/* Without UFFDIO_POISON or CONFIG_MEMORY_FAILURE a window has the plain signal. */
#define POISON "SIGBUS/MCEERR_AR; k6.1, bare: SIGBUS; pinfs: SIGBUS|SIGBUS/MCEERR_AR"
#define T(off, store, private) (&(const struct touch){ off, store, private })
#define IO(off, len, write) (&(const struct io){ off, len, write })
#define CUT(mode, off, len) (&(const struct cut){ mode, off, len })

static const struct cf_case cases[] = {
	{ "media.load", "behaviour 38; dax_iomap_pte_fault(); VM_FAULT_HWPOISON",
	  "A load from a bad page is a SIGBUS that names a memory error.", 0, touch, T(BAD, false, false),
	  POISON NONE },
	{ "media.store", "dax_iomap_pte_fault()", "So is a store.", 0, touch, T(BAD, true, false),
	  POISON NONE },
	{ "media.load-private", "dax_iomap_pte_fault()", "So is a load through a private mapping.", 0, touch,
	  T(BAD, false, true), POISON NONE },
	{ "media.copy", "dax_fault_cow_page()", "What cannot be read cannot be copied: a private store is a SIGBUS.", 0,
	  touch, T(BAD, true, true), "SIGBUS|SIGBUS/MCEERR_AR" NONE },
	{ "media.neighbour-load", "behaviour 38; dax_iomap_pte_fault()", "A load from the page beside it is fine.", 0,
	  touch, T(BAD + CF_PAGE, false, false), "returns" NONE },
	{ "media.neighbour-store", "behaviour 38; dax_iomap_pte_fault()", "And a store.", 0, touch,
	  T(BAD - CF_PAGE, true, false), "returns" NONE },
	{ "media.rest-of-page", "badblocks_check()", "A page is bad as a whole.", 0, touch,
	  T(BAD + CF_PAGE - 1, false, false), POISON NONE },
	{ "media.while-mapped", "pinfs; memory_failure()",
	  "A page that goes bad while it is mapped is a SIGBUS from then on; Linux notices when the processor does.", 0,
	  while_mapped, NULL, "SIGBUS|SIGBUS/MCEERR_AR; kernel: returns; bare: ?" NONE },
	{ "media.copied-before", "dax_fault_cow_page()", "A private copy that was made before is not affected.", 0,
	  copied_before, NULL, "old" NONE },
	{ "media.forgotten", "pinfs; badblocks_store()", "A block that the list forgets is as it was.", 0, forgotten,
	  NULL, "old; bare: ?; kernel: na: its list forgets what was written over, and nothing else" NONE },

	{ "media.read", "dax_direct_access(); behaviour 38", "read(2) of a bad page is EIO.", 0, io,
	  IO(BAD, CF_PAGE, false), "EIO" NONE },
	{ "media.read-part", "badblocks_check()", "So is a read of a byte of it.", 0, io, IO(BAD + 100, 1, false),
	  "EIO" NONE },
	{ "media.read-neighbour", "behaviour 38; dax_iomap_iter()", "A read of the page beside it is fine.", 0, io,
	  IO(BAD + CF_PAGE, 2 * CF_PAGE, false), "returns" NONE },
	{ "media.read-later", "dax_iomap_iter(); pinfs",
	  "A read that runs into it is EIO as a whole in Linux, which checks the rest of the extent; pinfs gives "
	  "what is before it.", 0, io, IO(0, 2 * CF_PAGE, false), "EIO; pinfs, bare: what is before it" NONE },
	{ "media.write-page", "behaviour 40; dax_recovery_write()",
	  "A write of the whole page clears the error.", 0, io, IO(BAD, CF_PAGE, true), "returns, then dma" NONE },
	{ "media.write-pages", "behaviour 40; dax_recovery_write()", "So does a longer one.", 0, io, IO(0, LEN, true),
	  "returns, then dma" NONE },
	{ "media.write-part", "behaviour 40; dax_recovery_write()",
	  "A write of a part of it fails: EFAULT in Linux, EIO in pinfs.", 0, io, IO(BAD + 10, 3, true),
	  "EFAULT; pinfs, bare: EIO" NONE },
	{ "media.write-part-end", "behaviour 40", "Also a write that ends inside it.", 0, io,
	  IO(0, BAD + 100, true), "what is before it; kernel: EFAULT|what is before it" NONE },
	{ "media.write-around", "behaviour 40; pinfs",
	  "A write that covers the page, and begins and ends inside others.", 0, io,
	  IO(BAD - 100, CF_PAGE + 200, true), "returns, then dma; kernel: ?" NONE },
	{ "media.write-heals", "behaviour 40; pinfs",
	  "Then the page can be stored to. Linux has taken the block off its list; in pinfs the file has another "
	  "block, and the bad one is kept from everybody.", 0, healed, NULL,
	  "returns, not listed; pinfs, bare: returns, listed" NONE },

	{ "media.punch", "behaviour 39; dax_zero_page_range()", "Punching the page makes it a hole.", 0, cut,
	  CUT(PUNCH, BAD, CF_PAGE), "zero" NONE },
	{ "media.zero", "behaviour 39; dax_zero_page_range()", "Zeroing the page clears the error.", 0, cut,
	  CUT(ZERO, BAD, CF_PAGE), "zero" NONE },
	{ "media.truncate", "behaviour 39", "So does cutting it off, and growing again.", 0, cut, CUT(-1, BAD, 0),
	  "zero" NONE },
	{ "media.punch-part", "dax_memzero()", "Punching a part of it fails.", 0, cut, CUT(PUNCH, BAD + 100, 100),
	  "EIO" NONE },
	{ "media.zero-part", "dax_memzero()", "Zeroing a part of it fails.", 0, cut, CUT(ZERO, BAD + 100, 100),
	  "EIO" NONE },
	{ "media.truncate-part", "dax_truncate_page()", "Cutting a part of it off fails.", 0, cut,
	  CUT(-1, BAD + 100, 0), "EIO" NONE },
	{ "media.reallocated", "dax_zero_page_range(); pinfs",
	  "A bad block that its file gives back is nobody's next block as it is: it is cleared then, or kept.",
	  0, reallocated, NULL, "returns" NONE },

	{ "media.pin", "FOLL_HWPOISON; get_user_pages_fast()", "A bad page cannot be pinned.", CF_PINS, pin,
	  &(const struct pin){ BAD, CF_PAGE }, "EFAULT|EHWPOISON; pinfs: EIO; slow: EFAULT|EIO" NONE },
	{ "media.pin-range", "get_user_pages_fast(); pinfs",
	  "Nor a range with one: Linux takes what is before it, pinfs nothing.", CF_PINS, pin,
	  &(const struct pin){ 0, LEN }, "EIO; slow: na: a transfer of a part of it is no pin that was refused" NONE },
	{ "media.pin-neighbour", "get_user_pages_fast()", "The page beside it can.", CF_PINS, pin,
	  &(const struct pin){ BAD + CF_PAGE, CF_PAGE }, "returns" NONE },
	{ "media.pinned-before", "pinfs",
	  "A page that goes bad while it is pinned stays pinned, and a truncate waits for the pin.",
	  CF_PROTECTS | CF_PINS, pinned_before, NULL, "waits; ebusy: EBUSY; defer, unsafe: returns; kernel: ?" NONE },

	{ "media.mount", "behaviour 38; pmem_attach_disk()",
	  "A filesystem with known errors can be mounted, and only what lies in them fails.", CF_MOUNTS, mounted, NULL,
	  "mounted, old beside EIO; plain: na: nothing here knows of bad blocks" },
	{ "media.owners", "dax_holder_notify_failure(); xfs_dax_notify_ddev_failure()",
	  "A kernel that is told of a memory error by the processor finds the owners and kills who maps it; no program "
	  "can make the processor say so. What comes of it is asked by ports.550, and by media.while-mapped of pinfs.",
	  CF_UNASKED, NULL,
	  NULL, "" },
	{ "media.metadata", "xfs_dax_notify_ddev_failure(); pinfs",
	  "Errors in metadata stop the filesystem as errors= says; which blocks are metadata is not to be asked for: "
	  "tests/mount/test_bad.c.", CF_UNASKED, NULL, NULL, "" },
};
CF_GROUP(cf_media, "media", "Blocks that cannot be read", cases);
