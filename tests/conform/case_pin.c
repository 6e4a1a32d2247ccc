/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_pin.c - what a pin is: of which pages it can be had, what it holds, what it outlives, and what a transfer sees
 * whose pages are not there any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <pinfs/pin.h>
#include "conform/cases.h"
#include "conform/ops.h"
#include "conform/space.h"

#define P ((off_t)CF_PAGE)
#define LEN (16 * P)
#define PIN (8 * P)
#define MUST_WAIT "waits; ebusy: EBUSY; defer, unsafe, plain, bare: returns"

static const char *name_of(long rc) { return rc >= 0 ? "returns" : strerrorname_np((int)-rc); }

/* ---- of which pages ---- */

enum what { WHOLE, HOLES, READ_ONLY, NOT_THERE };
struct had {
	off_t off, len;
	enum cf_pin_dir dir;
	enum what what;
};
#define HAD(...) (&(const struct had){ .off = __VA_ARGS__ })

/* Can it be had? */
static void had(struct cf *c)
{
	const struct had *a = cf_arg(c);
	const int fd = a->what == HOLES ? cf_holes(c, "f", LEN) : cf_file(c, "f", LEN);
	/* Longer than the file. */
	char *map = cf_map(c, fd, 0, 2 * LEN, a->what == READ_ONLY ? PROT_READ : PROT_READ | PROT_WRITE);
	struct cf_pin *pin;
	long rc;

	/* The first page is where nothing ever is. */
	rc = cf_pin_try(c, a->what == NOT_THERE ? (char *)CF_PAGE : map + a->off, (size_t)a->len, a->dir, &pin);
	cf_answer(c, "%s", name_of(rc));
	if (rc == 0)
		cf_land(pin);
	if (rc < 0 && a->what != HOLES && strcmp(cf_content(c, cf_path(c, "f"), 0, LEN), "old") != 0)
		cf_answer(c, "%s, and the file has changed", name_of(rc));
}

/* What a device writes is in the file, and what it reads is what was there. */
static void lands(struct cf *c)
{
	const struct had *a = cf_arg(c);
	const int fd = a->what == HOLES ? cf_holes(c, "f", LEN) : cf_file(c, "f", LEN);
	char *map = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct cf_pin *pin = cf_pin(c, map + a->off, (size_t)a->len, a->dir);

	cf_land(pin);
	if (a->dir == CF_FROM_FILE)
		cf_answer(c, "%s", cf_landed(pin));
	else
		cf_answer(c, "%s", cf_content(c, cf_path(c, "f"), a->off, (size_t)a->len));
}

/* A hole, which a device reads: what does a truncate do meanwhile? */
static void hole_read(struct cf *c)
{
	const char *how = cf_arg(c);
	struct op_at at = { .c = c };
	struct cf_pin *pin;
	struct cf_call *call;
	int err;

	op_stage(c, &at, LEN);
	at.off = PIN;
	at.len = P;
	if (op_punch(&at) != 0)
		cf_na(c, "there are no holes here");
	at.off = 0;
	err = how != NULL ? cf_pin_by(c, how, at.map + PIN, CF_PAGE, CF_FROM_FILE, &pin) :
			    cf_pin_try(c, at.map + PIN, CF_PAGE, CF_FROM_FILE, &pin);
	if (err == -EOPNOTSUPP)
		cf_na(c, "no pins of this kind (%s) here", how);
	if (err != 0) {
		cf_answer(c, "%s", name_of(err));
		return;
	}
	call = cf_call(c, CF_THREAD, op_truncate, &at);
	cf_answer(c, "%s", cf_call_word(call));
	cf_land(pin);
	(void)cf_result(call);
	if (strcmp(cf_landed(pin), "zero") != 0)
		cf_answer(c, "the device has read something");
}

/* A few bytes at the end of a page and at the beginning of the next: both pages are held. */
static void bytes(struct cf *c)
{
	const int *page = cf_arg(c);
	struct op_at at;
	struct cf_pin *pin;
	struct cf_call *call;

	op_stage(c, &at, LEN);
	/* Direct I/O has sectors. */
	pin = cf_pin(c, at.map + PIN - 512, 1024, CF_TO_FILE);
	at.off = PIN + (*page - 1) * P;
	at.len = P;
	call = cf_call(c, CF_THREAD, op_punch, &at);
	cf_answer(c, "%s", cf_call_word(call));
	cf_land(pin);
	(void)cf_result(call);
}

/* ---- counting ---- */

/* What the library counts in a page; -1: nobody says. */
static long pages_pinned(const void *p)
{
	int (*query)(const void *, size_t, struct pinfs_range_info *);
	struct pinfs_range_info info;

	*(void **)&query = cf_symbol("pinfs_range_query");
	return query == NULL || query(p, CF_PAGE, &info) != 0 ? -1 : (long)info.ri_pinned;
}

/* A page that is mapped already, and one that has to be faulted in first. */
static void both_paths(struct cf *c)
{
	char word[2][32];
	long n[2][2];

	for (int slow = 0; slow < 2; slow++) {
		struct op_at at;
		struct cf_pin *pin;
		struct cf_call *call;

		op_stage(c, &at, LEN);
		if (!slow)
			CF_MUST(c, cf_touch(at.map + PIN, true) == 0);
		pin = cf_pin(c, at.map + PIN, CF_PAGE, CF_TO_FILE);
		n[slow][0] = pages_pinned(at.map + PIN);
		call = cf_call(c, CF_THREAD, op_truncate, &at);
		(void)snprintf(word[slow], sizeof word[slow], "%s", cf_call_word(call));
		cf_land(pin);
		n[slow][1] = pages_pinned(at.map);
		(void)cf_result(call);
		(void)close(at.fd);
		CF_SYS(c, munmap(at.map, at.mapped));
		CF_SYS(c, unlink(at.f));
		CF_SYS(c, unlink(at.g));
	}
	cf_note(c, "mapped: %s, %ld then %ld; not: %s, %ld then %ld", word[0], n[0][0], n[0][1], word[1], n[1][0],
		n[1][1]);
	cf_answer(c, strcmp(word[0], word[1]) == 0 && memcmp(n[0], n[1], sizeof n[0]) == 0 && n[0][0] != 0 &&
		     n[0][1] <= 0 ? "the same" : "another");
}

/* ---- what it outlives ---- */

enum gone { UNMAP = 1, CLOSE = 2, UNLINK = 4, PROTECT = 8, FORK = 16, MAPPED = 32, MOVE = 64, DUP = 128 };
static long nothing(void *arg)
{
	(void)arg;
	return 0;
}

/* The page is pinned, then these go, then the file is truncated. */
static void outlives(struct cf *c)
{
	const unsigned int gone = *(const unsigned int *)cf_arg(c);
	struct op_at at;
	struct cf_pin *pin;
	struct cf_call *call;
	op_fn *op = op_truncate_path;

	op_stage(c, &at, LEN);
	pin = cf_pin(c, at.map + PIN, CF_PAGE, CF_TO_FILE);
	if (gone & MAPPED)
		CF_MUST(c, cf_touch(cf_map(c, at.fd, 0, CF_PAGE, PROT_READ), false) == 0);
	if (gone & FORK)
		CF_MUST(c, cf_result(cf_call(c, CF_PROCESS, nothing, NULL)) == 0);
	if (gone & PROTECT)
		CF_SYS(c, mprotect(at.map, at.mapped, PROT_NONE));
	if (gone & MOVE)
		CF_MUST(c, mremap(at.map, at.mapped, at.mapped, MREMAP_MAYMOVE | MREMAP_FIXED,
				  mmap(NULL, at.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
	if (gone & UNMAP)
		CF_SYS(c, munmap(at.map, at.mapped));
	if (gone & UNLINK) {
		CF_SYS(c, unlink(at.f));
		op = op_truncate;
	}
	if (gone & CLOSE)
		CF_SYS(c, close(at.fd));
	call = cf_call(c, CF_THREAD, op, &at);
	cf_answer(c, "%s", cf_call_word(call));
	cf_land(pin);
	if (cf_settle(call) == CF_WAITS && cf_result(call) < 0)
		cf_answer(c, "waits, then %s", name_of(cf_result(call)));
}

/* Nobody has the file any more, but a device. Are its blocks free? */
static void last_reference(struct cf *c)
{
	const size_t len = (size_t)1 << 20;
	const int fd = cf_file(c, "f", len);
	char *map = cf_map(c, fd, 0, len, PROT_READ | PROT_WRITE);
	struct cf_pin *pin = cf_pin(c, map, len, CF_TO_FILE);
	uint64_t before;
	bool kept;

	cf_one_cpu(c);
	before = cf_free(c);
	CF_SYS(c, munmap(map, len));
	CF_SYS(c, close(fd));
	CF_SYS(c, unlink(cf_path(c, "f")));
	cf_space_comes(c, before, len);
	kept = cf_free(c) < before + len / 2;
	cf_land(pin);
	while (cf_free(c) < before + len / 2)
		(void)usleep(1000);
	cf_answer(c, kept ? "kept" : "free");
}

/* A page is pinned, and then so much else is touched that its slot would be wanted for that. */
static void slot_wanted(struct cf *c)
{
	const size_t len = 16 * CF_CHUNK;
	const int fd = cf_holes(c, "f", len);
	char *map = cf_map(c, fd, 0, len, PROT_READ | PROT_WRITE);
	struct cf_pin *pin = cf_pin(c, map, CF_PAGE, CF_TO_FILE);

	for (unsigned int round = 0; round < 2; round++)
		for (size_t at = CF_CHUNK; at < len; at += CF_CHUNK)
			CF_MUST(c, cf_touch(map + at, true) == 0);
	cf_land(pin);
	cf_answer(c, "%s", cf_content(c, cf_path(c, "f"), 0, CF_PAGE));
}

/* ---- afterwards ---- */

/* The page has been cut, or has a new block: what does a pin through the old mapping get? */
static void afterwards(struct cf *c)
{
	op_fn *const *op = cf_arg(c);
	struct op_at at;
	struct cf_pin *pin;
	long rc;

	op_stage(c, &at, LEN);
	CF_MUST(c, cf_touch(at.map + PIN, true) == 0);
	at.off = *op == op_truncate ? 4 * P : PIN;
	at.len = P;
	CF_MUST(c, (*op)(&at) == 0);
	rc = cf_pin_try(c, at.map + PIN, CF_PAGE, CF_TO_FILE, &pin);
	if (rc < 0) {
		cf_answer(c, "%s", name_of(rc));
		return;
	}
	cf_land(pin);
	cf_answer(c, "%s", cf_content(c, at.f, PIN, CF_PAGE));
}

/* Without waiting: PINFS_PIN_NOWAIT, of a page that a truncate waits for. */
static long pin_nowait(void *arg)
{
	const struct op_at *at = arg;
	int (*take)(const void *, size_t, unsigned int, struct pinfs_pin **);
	struct pinfs_pin *pin;

	*(void **)&take = cf_symbol("pinfs_pin");
	return take == NULL ? -EOPNOTSUPP : take(at->map + PIN, CF_PAGE, PINFS_PIN_WRITE | PINFS_PIN_NOWAIT, &pin);
}

static void nowait(struct cf *c)
{
	struct cf_scene s;
	struct op_at at = { .c = c };
	struct cf_call *call;

	cf_scene(c, &s, (size_t)LEN, (size_t)PIN, 0);
	at.map = s.map;
	call = cf_call(c, CF_PROCESS, pin_nowait, &at);
	cf_answer(c, "%s", name_of(cf_result(call)));
	cf_land(s.pin);
	(void)cf_result(s.truncate);
}

/* ---- system calls whose buffer is a mapping ---- */

/* A file in memory, of a page of CF_DMA. */
static int elsewhere(struct cf *c)
{
	const int fd = (int)CF_SYS(c, memfd_create("conform", MFD_CLOEXEC));
	char buf[CF_PAGE];

	memset(buf, CF_DMA, sizeof buf);
	CF_MUST(c, write(fd, buf, sizeof buf) == (ssize_t)sizeof buf);
	return fd;
}

static long in_read(struct cf *c, char *p) { return cf_rc(pread(elsewhere(c), p, CF_PAGE, 0)); }
static long in_write(struct cf *c, char *p) { return cf_rc(pwrite(elsewhere(c), p, CF_PAGE, 0)); }
static long in_direct(struct cf *c, char *p)
{
	const int fd = (int)CF_SYS(c, open(cf_slow(c), O_RDWR | O_DIRECT | O_CLOEXEC));

	cf_slow_release(c);
	return cf_rc(pread(fd, p, CF_PAGE, (off_t)63 << 20));	/* far from what the pins of a case read */
}
static long in_vm_readv(struct cf *c, char *p)
{
	char buf[CF_PAGE];
	const struct iovec to = { buf, sizeof buf }, from = { p, sizeof buf };

	(void)c;
	return cf_rc(process_vm_readv(getpid(), &to, 1, &from, 1, 0));
}
static long in_pipe(struct cf *c, char *p)
{
	const struct iovec v = { p, CF_PAGE };
	int end[2];
	long rc;

	CF_SYS(c, pipe2(end, O_CLOEXEC));
	rc = cf_rc(vmsplice(end[1], &v, 1, SPLICE_F_NONBLOCK));
	(void)close(end[0]);
	(void)close(end[1]);
	return rc;
}

struct buffer {
	long (*fn)(struct cf *c, char *p);
	enum { CUT, RDONLY, PINNED } is;
};
#define BUFFER(...) (&(const struct buffer){ .fn = __VA_ARGS__ })

static void buffer(struct cf *c)
{
	const struct buffer *a = cf_arg(c);
	struct op_at at;
	struct cf_pin *pin = NULL;
	long rc;

	op_stage(c, &at, LEN);
	CF_MUST(c, cf_touch(at.map + PIN, false) == 0);
	at.off = 4 * P;
	if (a->is == CUT)
		CF_MUST(c, op_truncate(&at) == 0);
	else if (a->is == PINNED)
		pin = cf_pin(c, at.map + PIN, CF_PAGE, CF_TO_FILE);
	else
		at.map = cf_map(c, at.fd, 0, LEN, PROT_READ);
	rc = a->fn(c, at.map + PIN);
	cf_answer(c, "%s", name_of(rc));
	if (a->is == RDONLY && strcmp(cf_content(c, at.f, 0, LEN), "old") != 0)
		cf_answer(c, "%s, and the file has changed", name_of(rc));
	if (pin != NULL)
		cf_land(pin);
}

/* Two mappings, one futex. */
struct sleeper {
	_Atomic uint32_t *word;
};

static long sleep_on(void *arg)
{
	const struct sleeper *s = arg;

	while (atomic_load(s->word) == 0)
		if (syscall(SYS_futex, s->word, FUTEX_WAIT, 0, NULL, NULL, 0) != 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
	return 0;
}

static void one_futex(struct cf *c)
{
	struct sleeper s;
	struct op_at at;
	struct cf_pin *pin;
	struct cf_call *call;
	_Atomic uint32_t *there;
	char *map;
	long rc;

	op_stage(c, &at, LEN);
	memset(at.map + PIN, 0, CF_PAGE);
	s.word = (void *)(at.map + PIN);
	map = cf_map(c, at.fd, PIN, CF_PAGE, PROT_READ | PROT_WRITE);
	CF_MUST(c, cf_touch(map, false) == 0);
	there = (void *)map;
	pin = cf_pin(c, at.map + PIN, CF_PAGE, CF_FROM_FILE);
	call = cf_call(c, CF_THREAD, sleep_on, &s);
	do {
		rc = cf_rc(syscall(SYS_futex, there, FUTEX_WAKE, 1, NULL, NULL, 0));
		(void)usleep(100);
	} while (rc == 0);
	atomic_store(there, 1);
	(void)syscall(SYS_futex, there, FUTEX_WAKE, 1, NULL, NULL, 0);
	rc = rc < 0 ? rc : cf_result(call);
	cf_answer(c, "%s", rc == 0 ? "woken" : name_of(rc));
	cf_land(pin);
}

/* ---- the page cache ---- */

/* A file without DAX: the page goes, the device goes on, and nobody sees what it writes. */
static void page_cache(struct cf *c)
{
	char word[32];
	struct op_at at = { .c = c, .mapped = LEN, .fd = cf_plain_file(c, LEN) };
	struct cf_pin *pin = NULL;
	struct cf_call *call;

	at.map = cf_map(c, at.fd, 0, LEN, PROT_READ | PROT_WRITE);
	memset(at.map, CF_BYTE, (size_t)LEN);
	if (cf_pin_by(c, "slow", at.map + PIN, CF_PAGE, CF_TO_FILE, &pin) != 0)
		cf_na(c, "there can be no slow file here");
	call = cf_call(c, CF_THREAD, op_truncate, &at);
	(void)snprintf(word, sizeof word, "%s", cf_call_word(call));
	cf_land(pin);
	if (cf_result(call) == 0)
		CF_SYS(c, ftruncate(at.fd, LEN));
	cf_answer(c, "%s, %s", word, cf_content_of(at.map, (size_t)LEN));
}

static const int first = 0, second = 1;
static op_fn *const op_is_truncate = op_truncate, *const op_is_punch = op_punch;
#define GONE(flags) (&(const unsigned int){ flags })
#define FLAGS (CF_PROTECTS | CF_PINS)
/* Linux finds pins by way of mappings. */
#define BY_MAPPING MUST_WAIT "; kernel: returns"

static const struct cf_case cases[] = {
	/* of which pages */
	{ "pin.lands", "get_user_pages_fast()", "What a device writes to a pinned page is what read(2) sees.",
	  CF_PINS, lands, HAD(PIN, 2 * P, CF_TO_FILE), "dma" },
	{ "pin.reads", "get_user_pages_fast()", "What a device reads from a pinned page is what is in the file.",
	  CF_PINS, lands, HAD(PIN, 2 * P, CF_FROM_FILE), "old" },
	{ "pin.hole", "behaviour 42; dax_iomap_pte_fault()",
	  "A hole that a device is to write to gets a block when it is pinned.",
	  CF_PINS, lands, HAD(PIN, 2 * P, CF_TO_FILE, HOLES), "dma" },
	{ "pin.hole-read", "behaviour 53; dax_load_hole()",
	  "A hole that a device is to read is the page of zeros, in nobody's way; pinfs has no block to give: EFAULT.",
	  CF_PINS, hole_read, NULL, "returns; pinfs+api: EFAULT" },
	{ "pin.hole-read-io", "behaviour 53; dax_load_hole()",
	  "A hole that direct I/O writes elsewhere is the page of zeros, in nobody's way; for pinfs it is a page.",
	  CF_PINS, hole_read, "slow", "returns; pinfs: waits; pinfs+ebusy: EBUSY; defer, unsafe: returns" },
	{ "pin.bytes-first", "get_user_pages_fast()",
	  "A pin of bytes on both sides of a page's end holds the first page.",
	  FLAGS, bytes, &first, MUST_WAIT "; devdax: ENODEV" },
	{ "pin.bytes-second", "get_user_pages_fast()",
	  "A pin of bytes on both sides of a page's end holds the second page.",
	  FLAGS, bytes, &second, MUST_WAIT "; devdax: ENODEV" },
	{ "pin.read-only", "check_vma_flags(); xfstests generic/462",
	  "A mapping that is not writable cannot be pinned for a device that writes; the file is as it was.",
	  CF_PINS, had, HAD(PIN, P, CF_TO_FILE, READ_ONLY), "EFAULT; api: EACCES" },
	{ "pin.read-only-out", "check_vma_flags()",
	  "A mapping that is not writable can be pinned for a device that reads.",
	  CF_PINS, had, HAD(PIN, P, CF_FROM_FILE, READ_ONLY), "returns" },
	{ "pin.past-eof", "dax_iomap_pte_fault(); faultin_page()",
	  "A page behind the end of the file cannot be pinned: the fault would be a SIGBUS, the pin is EFAULT.",
	  CF_PINS, had, HAD(LEN, P, CF_TO_FILE), "EFAULT; devdax: returns" },
	{ "pin.across-eof", "dax_iomap_pte_fault(); faultin_page()",
	  "A pin of which a page lies behind the end of the file is EFAULT, and nothing is pinned.",
	  CF_PINS, had, HAD(LEN - P, 2 * P, CF_TO_FILE), "EFAULT; slow, pipe: na: what there is would be transferred"
	  "; devdax: returns" },
	{ "pin.unmapped", "find_vma()", "Memory that is not mapped cannot be pinned: EFAULT.",
	  CF_PINS, had, HAD(PIN, P, CF_TO_FILE, NOT_THERE), "EFAULT" },

	/* counting */
	{ "pin.both-paths", "behaviour 46; gup_fast_fallback()",
	  "A page that is mapped, and one that has to be faulted in, are pinned by different ways, and count the same.",
	  CF_PINS, both_paths, NULL, "the same" },
	{ "pin.nowait", "behaviour 23; pinfs",
	  "PINFS_PIN_NOWAIT of a page that a truncate waits for is EAGAIN, where pins let it go first.",
	  CF_PINS, nowait, NULL,
	  "EAGAIN; unfair, poll: returns; !pinfs, bare, ebusy, defer, unsafe: na: nobody lets anybody go first" },

	/* what it outlives */
	{ "pin.after-close", "fput()", "close(2) does not end a pin.", FLAGS, outlives, GONE(CLOSE), MUST_WAIT
	  "; devdax: EINVAL" },
	{ "pin.after-unlink", "d_delete()", "unlink(2) does not end a pin: a truncate of the open file waits.",
	  FLAGS, outlives, GONE(UNLINK), MUST_WAIT "; devdax: EINVAL" },
	{ "pin.after-mprotect", "mprotect_fixup()", "mprotect(2) does not end a pin.",
	  FLAGS, outlives, GONE(PROTECT), MUST_WAIT "; devdax: EINVAL" },
	{ "pin.after-mremap", "move_vma()", "mremap(2) does not end a pin.", FLAGS, outlives, GONE(MOVE), MUST_WAIT
	  "; devdax: EINVAL" },
	{ "pin.after-fork", "copy_page_range()", "The end of a child does not end a pin of its parent.",
	  FLAGS, outlives, GONE(FORK), MUST_WAIT "; devdax: EINVAL" },
	{ "pin.after-munmap", "dax_layout_busy_page_range(), mapping_mapped()",
	  "munmap(2) does not end a pin; but Linux before 6.15 finds none in a file that nobody maps.",
	  FLAGS, outlives, GONE(UNMAP), BY_MAPPING "; devdax: EINVAL" },
	{ "pin.after-munmap-mapped", "dax_layout_busy_page_range(), mapping_mapped()",
	  "munmap(2) does not end a pin: a truncate waits when any other mapping of the file is left.",
	  FLAGS, outlives, GONE(UNMAP | MAPPED), MUST_WAIT "; devdax: EINVAL" },
	{ "pin.after-all", "dax_layout_busy_page_range(), mapping_mapped()",
	  "munmap(2) and close(2) do not end a pin; but Linux before 6.15 finds none in a file that nobody maps.",
	  FLAGS, outlives, GONE(UNMAP | CLOSE), BY_MAPPING "; devdax: EINVAL" },
	{ "pin.last-reference", "behaviour 3; truncate_inode_pages_final()",
	  "An unlinked file that only a device has keeps its blocks until the pin ends; Linux before 6.15 frees them.",
	  CF_PINS, last_reference, NULL, "kept; kernel: free; plain, bare: na: the device has the page cache's"
	  "; devdax: na: a device has no size that could change" },
	{ "pin.slot", "fuse_dax_reclaim_first_mapping(); pinfs",
	  "However much is touched meanwhile, the part of a window that has a pin is not given to other pages.",
	  CF_PINS, slot_wanted, NULL, "dma" },

	/* afterwards */
	{ "pin.after-cut", "behaviour 6; dax_iomap_pte_fault()",
	  "A pin through the old mapping of a page that has been cut is EFAULT.",
	  CF_PINS, afterwards, &op_is_truncate, "EFAULT; devdax: na: a device has no size that could change" },
	{ "pin.after-punch", "behaviour 6; dax_iomap_pte_fault()",
	  "A pin through the old mapping of a page that has been punched gets the file's new block.",
	  CF_PINS, afterwards, &op_is_punch, "dma; devdax: na: a device has no size that could change" },

	/* buffers */
	{ "pin.read-cut", "copy_to_user_iter()",
	  "read(2) into a page that has been cut is EFAULT: in a system call there is no SIGBUS.",
	  0, buffer, BUFFER(in_read, CUT), "EFAULT; devdax: na: a device has no size that could change" },
	{ "pin.write-cut", "copy_from_user_iter()", "write(2) from a page that has been cut is EFAULT.",
	  0, buffer, BUFFER(in_write, CUT), "EFAULT; devdax: na: a device has no size that could change" },
	{ "pin.direct-cut", "iov_iter_extract_pages()",
	  "read(2) with O_DIRECT into a page that has been cut is EFAULT.",
	  0, buffer, BUFFER(in_direct, CUT), "EFAULT; devdax: na: a device has no size that could change" },
	{ "pin.vmsplice-cut", "iov_iter_get_pages2()", "vmsplice(2) of a page that has been cut is EFAULT.",
	  0, buffer, BUFFER(in_pipe, CUT), "EFAULT; devdax: na: a device has no size that could change" },
	{ "pin.vm-readv-cut", "process_vm_rw_single_vec()",
	  "process_vm_readv(2) of a page that has been cut is EFAULT.",
	  0, buffer, BUFFER(in_vm_readv, CUT), "EFAULT; devdax: na: a device has no size that could change" },
	{ "pin.read-into-read-only", "xfstests generic/462",
	  "read(2) into a mapping that is not writable is EFAULT, and the file is as it was.",
	  0, buffer, BUFFER(in_read, RDONLY), "EFAULT" },
	{ "pin.direct-into-read-only", "xfstests generic/462",
	  "read(2) with O_DIRECT into a mapping that is not writable is EFAULT, and the file is as it was.",
	  0, buffer, BUFFER(in_direct, RDONLY), "EFAULT" },
	{ "pin.read-into-pinned", "copy_to_user_iter()", "read(2) into a pinned page goes on.",
	  CF_PINS, buffer, BUFFER(in_read, PINNED), "returns" },
	{ "pin.direct-into-pinned", "iov_iter_extract_pages()", "read(2) with O_DIRECT into a pinned page goes on.",
	  CF_PINS, buffer, BUFFER(in_direct, PINNED), "returns" },
	{ "pin.vm-readv-pinned", "process_vm_rw_single_vec()", "process_vm_readv(2) of a pinned page goes on.",
	  CF_PINS, buffer, BUFFER(in_vm_readv, PINNED), "returns" },
	{ "pin.futex", "get_futex_key()", "A futex in a pinned page is the same one in each mapping of the file.",
	  CF_PINS, one_futex, NULL, "woken" },

	/* without DAX */
	{ "pin.page-cache", "behaviour 9; truncate_inode_pages_range()",
	  "Without DAX a truncate does not wait: the page leaves the file, and what the device writes is nobody's.",
	  0, page_cache, NULL, "returns, zero" },
};
CF_GROUP(cf_pins, "pin", "What a pin is", cases);
