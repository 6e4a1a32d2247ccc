/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_huge.c - when 2 MiB are mapped by one entry of the page table, and when not: each condition by itself, with all
 * others met, and the bytes right in any case.
 *
 * A kernel is asked by counting faults: one, or one for each page. pinfs says it itself (pinfsctl windows), with the
 * reason; root has an image for it on a tmpfs with huge pages, others take what the directory lies on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include "conform/bad.h"
#include "conform/cases.h"
#include "conform/scratch.h"

#define RW (PROT_READ | PROT_WRITE)
#define MIB ((size_t)1 << 20)

struct spot {
	struct cf *c;
	struct scratch own;
	bool has_own;
	const char *mnt;		/* of the pinfs */
	int fd;
	char path[PATH_MAX];
	char *p;			/* of the chunk in question */
	size_t from, to;		/* bytes of the file that the case is about, in the chunk at chunk_at */
	size_t chunk_at;
	long faults;			/* while all its pages were touched */
};

static void spot_new(struct cf *c, struct spot *s, size_t len, bool blocks)
{
	*s = (struct spot){ .c = c, .mnt = cf_mount(c), .to = CF_CHUNK };
	if (cf_is(c, "pinfs") && cf_is(c, "root")) {
		scratch_new(c, &s->own, "huge=always,size=128m");
		CF_MUST(c, scratch_mkfs(&s->own, NULL) == 0 && scratch_mount(&s->own, NULL) == 0);
		s->has_own = true;
		s->mnt = s->own.mnt;
	}
	(void)snprintf(s->path, sizeof s->path, "%s", s->has_own ? scratch_path(&s->own, "f") : cf_path(c, "f"));
	s->fd = (int)CF_SYS(c, open(s->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
	CF_SYS(c, ftruncate(s->fd, (off_t)len));
	if (blocks)
		CF_SYS(c, fallocate(s->fd, 0, 0, (off_t)len));
}

static void spot_end(struct spot *s)
{
	if (s->has_own)
		scratch_end(&s->own);
}

/* Kernels: nothing can be said where the filesystem has no aligned extent to give. */
static void need_aligned(struct spot *s)
{
	union { struct fiemap f; char room[sizeof(struct fiemap) + sizeof(struct fiemap_extent)]; } m;

	if (!cf_is(s->c, "kernel"))
		return;
	memset(&m, 0, sizeof m);
	m.f.fm_length = CF_CHUNK;
	m.f.fm_flags = FIEMAP_FLAG_SYNC;
	m.f.fm_extent_count = 1;
	CF_SYS(s->c, ioctl(s->fd, FS_IOC_FIEMAP, &m));
	if (m.f.fm_mapped_extents != 1 || m.f.fm_extents[0].fe_physical % CF_CHUNK != 0 ||
	    m.f.fm_extents[0].fe_length < CF_CHUNK)
		cf_na(s->c, "the filesystem gave no aligned extent of 2 MiB");
}

static char *map_at(struct spot *s, void *at, size_t off, size_t len, int prot, int flags)
{
	char *p = mmap(at, len, prot, flags, s->fd, (off_t)off);

	CF_MUST(s->c, p != MAP_FAILED);
	return p;
}

/* Room of 2 MiB at a multiple of 2 MiB, and a page more on each side. */
static char *room(struct cf *c)
{
	char *p = mmap(NULL, 3 * CF_CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CF_MUST(c, p != MAP_FAILED);
	return p + CF_CHUNK - (uintptr_t)p % CF_CHUNK;
}

/* ---- touching, and looking ---- */

static char stamp(size_t off) { return (char)(off / CF_PAGE % 97 + 1); }

static long fault_count(struct cf *c)
{
	struct rusage u;

	CF_SYS(c, getrusage(RUSAGE_THREAD, &u));
	return u.ru_minflt + u.ru_majflt;
}

/* A byte in each page. */
static void touch_all(struct spot *s, bool store)
{
	const long before = fault_count(s->c);

	for (size_t off = s->from; off < s->to; off += CF_PAGE)
		if (store)
			s->p[off - s->from] = stamp(off);
		else
			(void)*(volatile char *)(s->p + (off - s->from));
	s->faults = fault_count(s->c) - before;
}

static bool right(struct spot *s, bool in_file)
{
	for (size_t off = s->from; off < s->to; off += CF_PAGE) {
		char byte = 0;

		if (s->p[off - s->from] != stamp(off) || (in_file &&
		    (pread(s->fd, &byte, 1, (off_t)(s->chunk_at + off)) != 1 || byte != stamp(off)))) {
			cf_note(s->c, "wrong at %zu", off);
			return false;
		}
	}
	return true;
}

static const char *member(const char *at, const char *key)
{
	const char *p = strstr(at, key);

	return p == NULL ? NULL : p + strlen(key) + strspn(p + strlen(key), "\": ");
}

/* What pinfsctl says of the chunk: "huge", or the reason. */
static const char *reason(struct spot *s)
{
	static char out[256 << 10], why[32];
	char pid[16], foff[32];
	const char *p = out, *word;
	struct stat st;

	CF_SYS(s->c, fstat(s->fd, &st));
	(void)snprintf(pid, sizeof pid, "%d", (int)getpid());
	(void)snprintf(foff, sizeof foff, "%zu", s->chunk_at);
	CF_MUST(s->c, cf_run(s->c, out, sizeof out, (const char *const[]){
		"pinfsctl", "windows", "--json", "--pid", pid, s->mnt, NULL }) == 0);
	for (;;) {
		p = member(p, "\"ino");
		if (p == NULL)
			return "not listed";
		word = member(p, "\"foff");
		if (strtoull(p, NULL, 10) == st.st_ino && word != NULL &&
		    strncmp(word, foff, strlen(foff)) == 0 && word[strlen(foff)] == ',')
			break;
	}
	word = member(p, "\"huge");
	if (word == NULL)
		return "not mapped";
	if (strncmp(word, "true", 4) == 0)
		return "huge";
	word = member(p, "\"why");
	if (word == NULL)
		return "unknown";
	(void)snprintf(why, sizeof why, "%.*s", (int)strcspn(word, "\""), word);
	return why;
}

/* The answer. What no memory can be had for is nobody's fault. */
static void say(struct spot *s, bool in_file)
{
	const char *word;

	cf_note(s->c, "%ld faults", s->faults);
	if (!right(s, in_file)) {
		cf_answer(s->c, "wrong bytes");
		return;
	}
	if (cf_is(s->c, "kernel")) {
		cf_answer(s->c, s->faults <= 8 ? "huge" : "small");
		return;
	}
	word = reason(s);
	if (strcmp(word, "small") == 0 || strcmp(word, "unknown") == 0 || strcmp(word, "image") == 0) {
		const bool want = s->has_own;

		spot_end(s);
		cf_na(s->c, want ? "the kernel has no huge pages to give" : "the image lies on small pages");
	}
	cf_answer(s->c, "%s", word);
}

/* ---- conditions ---- */

/* Written, not only allocated. */
static void fill(struct spot *s)
{
	char page[CF_PAGE] = "";

	for (size_t off = 0; off < CF_CHUNK; off += CF_PAGE) {
		page[0] = stamp(off);
		CF_SYS(s->c, pwrite(s->fd, page, sizeof page, (off_t)off));
	}
}

static void whole(struct cf *c)
{
	struct spot s;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	need_aligned(&s);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, true);
	say(&s, true);
	spot_end(&s);
}

static void colour(struct cf *c)
{
	struct spot s;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	s.p = map_at(&s, room(c) + CF_PAGE, 0, CF_CHUNK, RW, MAP_SHARED | MAP_FIXED);
	touch_all(&s, true);
	say(&s, true);
	spot_end(&s);
}

static void part(struct cf *c)
{
	struct spot s;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	s.from = CF_PAGE;
	s.p = map_at(&s, room(c) + CF_PAGE, CF_PAGE, CF_CHUNK - CF_PAGE, RW, MAP_SHARED | MAP_FIXED);
	touch_all(&s, true);
	say(&s, true);
	spot_end(&s);
}

static void protections(struct cf *c)
{
	struct spot s;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	CF_SYS(c, mprotect(s.p + MIB, CF_PAGE, PROT_READ));
	s.to = MIB;
	touch_all(&s, true);
	say(&s, true);
	spot_end(&s);
}

static void copy(struct cf *c)
{
	struct spot s;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	fill(&s);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_PRIVATE);
	touch_all(&s, true);
	say(&s, false);
	spot_end(&s);
}

static void eof(struct cf *c)
{
	struct spot s;

	spot_new(c, &s, CF_CHUNK - CF_PAGE, true);
	s.to = CF_CHUNK - CF_PAGE;
	s.p = map_at(&s, NULL, 0, CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, true);
	say(&s, true);
	spot_end(&s);
}

static void entry(struct cf *c)
{
	struct spot s;
	char *one;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	one = map_at(&s, NULL, MIB, CF_PAGE, RW, MAP_SHARED);
	one[0] = stamp(MIB);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, true);
	say(&s, true);
	spot_end(&s);
}

static void part_hole(struct cf *c)
{
	struct spot s;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, true);
	CF_SYS(c, fallocate(s.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)MIB, (off_t)MIB));
	s.to = MIB;
	touch_all(&s, true);
	say(&s, true);
	spot_end(&s);
}

/* One page of it elsewhere: what was punched is somebody else's before it is filled again. */
static void pieces(struct cf *c)
{
	struct spot s;
	char page[CF_PAGE] = "";
	int other;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, true);
	CF_SYS(c, fallocate(s.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)MIB, (off_t)CF_PAGE));
	other = (int)CF_SYS(c, open(s.has_own ? scratch_path(&s.own, "g") : cf_path(c, "g"),
				    O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	for (int i = 0; i < 600; i++)
		CF_SYS(c, pwrite(other, page, sizeof page, (off_t)(2 * CF_PAGE) * i));
	touch_all(&s, true);
	say(&s, true);
	spot_end(&s);
}

/* In one piece, but a page off: the bytes that were at a multiple of 2 MiB are not in the file any more. */
static void shifted(struct cf *c)
{
	struct spot s;
	long rc;

	spot_new(c, &s, 3 * CF_CHUNK, true);
	rc = cf_rc(fallocate(s.fd, FALLOC_FL_COLLAPSE_RANGE, 0, (off_t)CF_PAGE));
	if (rc != 0)
		cf_na(c, "no FALLOC_FL_COLLAPSE_RANGE to shift it with");
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, true);
	say(&s, true);
	spot_end(&s);
}

static void only_read(struct cf *c)
{
	struct spot s;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	fill(&s);
	need_aligned(&s);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, false);
	say(&s, true);
	spot_end(&s);
}

/* A bad block in it: the other pages are there, one by one. */
static void bad_page(struct cf *c)
{
	struct spot s;
	struct bad bad;
	int sig;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, true);
	CF_SYS(c, fsync(s.fd));
	CF_SYS(c, munmap(s.p, 2 * CF_CHUNK));
	bad_add(c, &bad, s.mnt, s.path, s.fd, MIB);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	sig = cf_touch(s.p + MIB, false);
	s.to = MIB;
	touch_all(&s, true);
	if (sig == 0)
		cf_answer(c, "no SIGBUS");
	else
		say(&s, true);
	bad_del(&bad);
	spot_end(&s);
}

/* Punched and filled again: huge again. */
static void again(struct cf *c)
{
	struct spot s;

	spot_new(c, &s, 2 * CF_CHUNK, true);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, true);
	CF_SYS(c, fallocate(s.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)CF_CHUNK));
	CF_MUST(c, s.p[0] == 0 && s.p[CF_CHUNK - 1] == 0);
	if (cf_is(c, "kernel"))
		CF_SYS(c, fallocate(s.fd, 0, 0, (off_t)CF_CHUNK));
	need_aligned(&s);
	touch_all(&s, true);
	say(&s, true);
	spot_end(&s);
}

/* ---- holes ---- */

static uint64_t blocks(struct cf *c, int fd)
{
	struct stat st;

	CF_SYS(c, fstat(fd, &st));
	return (uint64_t)st.st_blocks;
}

static void hole(struct cf *c)
{
	struct spot s;
	const char *loaded;

	spot_new(c, &s, 2 * CF_CHUNK, false);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, false);
	cf_note(c, "%ld faults", s.faults);
	loaded = cf_content_of(s.p, CF_CHUNK);
	if (blocks(c, s.fd) != 0)
		loaded = "allocated";
	s.p[MIB] = 'x';
	cf_answer(c, "%s, then %s below and %s above the store", loaded, cf_content_of(s.p, MIB),
		  cf_content_of(s.p + MIB + 1, MIB - 1));
	spot_end(&s);
}

static void hole_faults(struct cf *c)
{
	struct spot s;

	spot_new(c, &s, 2 * CF_CHUNK, false);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, false);
	cf_note(c, "%ld faults", s.faults);
	cf_answer(c, s.faults <= 8 ? "one fault" : "a fault for each page");
	spot_end(&s);
}

/* Somebody writes into a hole that was looked at as one huge zero page. */
static void hole_written(struct cf *c)
{
	struct spot s;
	char page[CF_PAGE];

	spot_new(c, &s, 2 * CF_CHUNK, false);
	s.p = map_at(&s, NULL, 0, 2 * CF_CHUNK, RW, MAP_SHARED);
	touch_all(&s, false);
	memset(page, CF_DMA, sizeof page);
	CF_MUST(c, pwrite(s.fd, page, sizeof page, (off_t)MIB) == (ssize_t)sizeof page);
	cf_answer(c, "%s around %s", strcmp(cf_content_of(s.p, MIB), "zero") == 0 ?
		  cf_content_of(s.p + MIB + CF_PAGE, MIB - CF_PAGE) : "other", cf_content_of(s.p + MIB, CF_PAGE));
	spot_end(&s);
}

#define NOT_DAX                                                                                              \
	"; bare, plain: na: its pages are the page cache's; devdax: na: the mapping of a device is another matter"

static const struct cf_case cases[] = {
	{ "huge.whole", "behaviour 36; dax_iomap_pmd_fault()",
	  "A chunk of 2 MiB for which all conditions hold is mapped by one entry.", 0, whole, NULL, "huge" NOT_DAX },
	{ "huge.colour", "behaviour 36; dax_fault_check_fallback()",
	  "Not when its address and its offset in the file differ modulo 2 MiB.", 0, colour, NULL,
	  "small; pinfs: address" NOT_DAX },
	{ "huge.part", "behaviour 36; dax_fault_check_fallback()",
	  "Not when the mapping covers a part of it.", 0, part, NULL, "small; pinfs: part" NOT_DAX },
	{ "huge.protections", "behaviour 36; dax_fault_check_fallback()",
	  "Not when parts of it have different protections.", 0, protections, NULL, "small; pinfs: part" NOT_DAX },
	{ "huge.copy", "behaviour 36; dax_fault_check_fallback()", "Not when the mapping is private and stored to.", 0,
	  copy, NULL, "small; pinfs: private; pinfs+user: private|not listed" NOT_DAX },
	{ "huge.eof", "behaviour 36; dax_fault_check_fallback()", "Not when the file ends in it.", 0, eof, NULL,
	  "small; pinfs: eof" NOT_DAX },
	{ "huge.entry", "behaviour 36; grab_mapping_entry(); pinfs",
	  "Not when one of its pages has an entry already; windows have none, and are mapped as a whole.", 0, entry,
	  NULL, "small; pinfs: huge" NOT_DAX },
	{ "huge.part-hole", "behaviour 36; dax_iomap_pmd_fault()", "Not when part of it is a hole.", 0, part_hole,
	  NULL, "small; pinfs: hole" NOT_DAX },
	{ "huge.pieces", "behaviour 36; dax_iomap_pmd_fault()", "Not when it lies in pieces on the device.", 0,
	  pieces, NULL, "na: where its blocks lie cannot be chosen; pinfs: pieces; devdax: na: a device is one piece" },
	{ "huge.shifted", "behaviour 36; dax_iomap_direct_access()",
	  "Not when it lies in one piece, but not at a multiple of 2 MiB.", 0, shifted, NULL,
	  "small; pinfs: device" NOT_DAX },
	{ "huge.bad", "behaviour 36; __pmem_direct_access()",
	  "Not when a block of it is bad: the other pages are there, one by one.", 0, bad_page, NULL,
	  "small; pinfs: hole" NOT_DAX },
	{ "huge.read", "behaviour 36; dax_iomap_pmd_fault(); pinfs",
	  "A chunk that is only read is mapped so, too; a window that may be stored to is guarded page by page, for "
	  "the first store moves the file's times.", 0, only_read, NULL, "huge; pinfs: guarded" NOT_DAX },
	{ "huge.again", "pinfs", "A chunk that was punched and filled again is huge again.", 0, again, NULL,
	  "huge" NOT_DAX },
	{ "huge.hole", "behaviour 37; dax_pmd_load_hole()",
	  "2 MiB of hole read zero and allocate nothing, and a store to one page leaves the others zero.", 0, hole,
	  NULL, "zero, then zero below and zero above the store; "
	  "bare, plain: zero, then zero below and zero above the store|"
	  "allocated, then zero below and zero above the store; devdax: na: a device has no holes" },
	{ "huge.hole-faults", "behaviour 37; dax_pmd_load_hole(); pinfs",
	  "One fault maps 2 MiB of hole; a window asks the daemon once, and the kernel then shows its page of zeros "
	  "for each page.", 0, hole_faults, NULL, "one fault; pinfs: a fault for each page" NOT_DAX },
	{ "huge.hole-written", "behaviour 37; xfstests generic/428; t_mmap_stale_pmd.c",
	  "A write(2) into 2 MiB of hole that a mapping has read is seen by it at once.", 0, hole_written, NULL,
	  "zero around dma; bare: ?; devdax: na: a device has no holes" },
};
CF_GROUP(cf_huge, "huge", "One entry for 2 MiB", cases);
