/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * windows.c - how windows are mapped: the daemon knows which blocks lie under which 2 MiB of a file, /proc knows at
 * which addresses of a process the device shows there, and whether by one huge entry of its page table.
 *
 * The reasons for "no" go from the file over the address to what the image lies on; the first that holds is shown, as
 * those behind it do not matter until it is gone. Reads /proc of other processes, which takes their user's rights.
 */
#include "pinfsctl/pinfsctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/types.h>
#include <pinfs/types.h>

#define PAGES (PF_CHUNK_SIZE / PF_BLK_SIZE)

/* <linux/fs.h> has it since Linux 6.7. */
struct scan_region { uint64_t start, end, categories; };
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};
#define SCAN _IOWR('f', 16, struct scan_arg)
#define IS_WRITTEN (UINT64_C(1) << 1)	/* not write-protected by userfaultfd */
#define IS_PRESENT (UINT64_C(1) << 3)
#define IS_HUGE (UINT64_C(1) << 6)

#define PM_PRESENT (UINT64_C(1) << 63)
#define PM_PFN ((UINT64_C(1) << 55) - 1)
#define KPF_HEAD (UINT64_C(1) << 15)
#define KPF_TAIL (UINT64_C(1) << 16)

struct image {
	const char *fs, *huge, *shmem;
	uint64_t grain;
	unsigned int dev_major, dev_minor;
	uint64_t ino;
};

struct vma {
	uint64_t lo, hi, off;
	bool private;
};

/* A process: its mappings of the image, but for those of all of it, which are no windows. */
struct proc {
	long pid;
	int err;			/* it cannot be looked into */
	int pagemap;
	struct vma *vma;
	size_t nvma;
};

struct window {
	uint64_t foff, size, bytes, extents, doff;
	bool stale;
};

enum huge { HUGE_NO, HUGE_YES, HUGE_UNKNOWN };

/* One place where a window shows. */
struct place {
	uint64_t addr;			/* of the chunk's first byte, even if that is not mapped */
	uint64_t lo, hi;		/* of it, mapped to the device */
	uint64_t present;		/* bytes in the page table */
	uint64_t guarded;		/* of them, write-protected by the library */
	enum huge huge;
	bool private;
	bool small_image;		/* the image has no huge page there: known to root */
	bool image_known;
};

/* ---- a process ---- */

static void proc_close(struct proc *p)
{
	if (p->pagemap >= 0)
		(void)close(p->pagemap);
	free(p->vma);
	*p = (struct proc){ .pagemap = -1 };
}

static void add_vma(struct proc *p, struct vma v)
{
	if (p->nvma % 64 == 0) {
		p->vma = realloc(p->vma, (p->nvma + 64) * sizeof(struct vma));
		if (p->vma == NULL)
			abort();
	}
	p->vma[p->nvma++] = v;
}

static void proc_open(struct proc *p, long pid, const struct image *im)
{
	char path[64], perm[8], *line = NULL;
	unsigned int maj, min;
	uint64_t lo, hi, off, ino;
	size_t room = 0;
	FILE *f;

	proc_close(p);
	p->pid = pid;
	(void)snprintf(path, sizeof path, "/proc/%ld/maps", pid);
	f = fopen(path, "re");
	if (f == NULL) {
		p->err = errno;
		return;
	}
	errno = 0;
	while (getline(&line, &room, f) > 0) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %" SCNu64, &lo, &hi, perm, &off, &maj,
			   &min, &ino) == 7 &&
		    maj == im->dev_major && min == im->dev_minor && ino == im->ino && off != 0)
			add_vma(p, (struct vma){ lo, hi, off, perm[3] == 'p' });
	}
	if (ferror(f))
		p->err = errno != 0 ? errno : EIO;
	free(line);
	(void)fclose(f);
	(void)snprintf(path, sizeof path, "/proc/%ld/pagemap", pid);
	p->pagemap = open(path, O_RDONLY | O_CLOEXEC);
}

/* ---- one place ---- */

/* What the page table has in [lo, hi), where the kernel can say so. */
static bool scan(const struct proc *p, struct place *at, uint64_t *huge)
{
	struct scan_region r[PAGES] = { { 0 } };
	struct scan_arg a = {
		.size = sizeof a, .start = at->lo, .end = at->hi, .vec = (uint64_t)(uintptr_t)r, .vec_len = PAGES,
		.mask = IS_PRESENT, .returned = IS_PRESENT | IS_HUGE | IS_WRITTEN,
	};
	int n = p->pagemap < 0 ? -1 : ioctl(p->pagemap, SCAN, &a);

	*huge = at->present = 0;
	for (int i = 0; i < n; i++) {
		at->present += r[i].end - r[i].start;
		*huge += r[i].categories & IS_HUGE ? r[i].end - r[i].start : 0;
		at->guarded += r[i].categories & IS_WRITTEN ? 0 : r[i].end - r[i].start;
	}
	return n >= 0;
}

/* Before Linux 6.7 smaps has sums of whole mappings: no huge page, or nothing but huge pages. DAX is in no sum. */
static enum huge from_smaps(const struct proc *p, uint64_t addr)
{
	uint64_t lo, hi, kb, size = 0, huge = 0, rss = 0;
	char path[64], key[64], *line = NULL;
	bool inside = false;
	size_t room = 0;
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%ld/smaps", p->pid);
	f = fopen(path, "re");
	while (f != NULL && getline(&line, &room, f) > 0) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &lo, &hi) == 2)
			inside = lo <= addr && addr < hi;
		else if (!inside || sscanf(line, "%63s %" SCNu64 " kB", key, &kb) != 2)
			continue;
		else if (strcmp(key, "Size:") == 0)
			size = kb;
		else if (strcmp(key, "Rss:") == 0)
			rss = kb;
		else if (strcmp(key, "ShmemPmdMapped:") == 0 || strcmp(key, "FilePmdMapped:") == 0)
			huge += kb;
	}
	free(line);
	if (f != NULL)
		(void)fclose(f);
	if (huge != 0 && huge == size)
		return HUGE_YES;
	return rss != 0 && huge == 0 ? HUGE_NO : HUGE_UNKNOWN;
}

/* Has the image one huge page there? For root: /proc/kpageflags. */
static void look_at_image(const struct proc *p, struct place *at)
{
	uint64_t pfn[PAGES], flags[PAGES];
	int fd;

	if (at->present != PF_CHUNK_SIZE || p->pagemap < 0 ||
	    pread(p->pagemap, pfn, sizeof pfn, (off_t)(at->addr / PF_BLK_SIZE * sizeof pfn[0])) != (ssize_t)sizeof pfn)
		return;
	if (!(pfn[0] & PM_PRESENT) || (pfn[0] & PM_PFN) == 0)
		return;
	fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	at->image_known = true;
	at->small_image = (pfn[0] & PM_PFN) % PAGES != 0;
	for (size_t i = 1; i < PAGES && !at->small_image; i++)
		at->small_image = (pfn[i] & PM_PFN) != (pfn[0] & PM_PFN) + i;
	if (!at->small_image &&
	    pread(fd, flags, sizeof flags, (off_t)((pfn[0] & PM_PFN) * sizeof flags[0])) == (ssize_t)sizeof flags) {
		at->small_image = !(flags[0] & KPF_HEAD);
		for (size_t i = 1; i < PAGES; i++)
			at->small_image = at->small_image || !(flags[i] & KPF_TAIL);
	}
	(void)close(fd);
}

static void look_at(const struct image *im, const struct proc *p, struct place *at)
{
	uint64_t huge;

	if (im->grain > PF_BLK_SIZE || strcmp(im->fs, "devdax") == 0) {
		at->huge = im->grain > PF_BLK_SIZE ? HUGE_YES : HUGE_NO;	/* it maps in no other way */
	} else if (scan(p, at, &huge)) {
		at->huge = huge == PF_CHUNK_SIZE ? HUGE_YES : HUGE_NO;
		if (at->huge == HUGE_NO)
			look_at_image(p, at);
	} else {
		at->huge = from_smaps(p, at->lo);
	}
}

/* ---- why not ---- */

static PF_PRINTF(3, 4) const char *because(char text[256], const char *id, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, 256, fmt, ap);
	va_end(ap);
	return id;
}

static const char *why_file(const struct window *w, char text[256])
{
	const uint64_t end = w->foff + PF_CHUNK_SIZE;

	if (w->stale)
		return because(text, "stale", "its blocks have left the file");
	if (end > w->size)
		return because(text, "eof", "the file ends in it");
	if (w->bytes < PF_CHUNK_SIZE)
		return because(text, "hole", "holes: %" PRIu64 " of its 512 pages", PAGES - w->bytes / PF_BLK_SIZE);
	if (w->extents > 1)
		return because(text, "pieces", "in %" PRIu64 " pieces on the device", w->extents);
	if (w->doff % PF_CHUNK_SIZE != 0)
		return because(text, "device", "its place on the device is not a multiple of 2 MiB");
	return NULL;
}

static const char *why_address(const struct place *at, char text[256])
{
	if (at->addr % PF_CHUNK_SIZE != 0)
		return because(text, "address", "address and offset differ modulo 2 MiB: "
			       "MAP_FIXED, a hint, or a length below 2 MiB chose it");
	if (at->hi - at->lo < PF_CHUNK_SIZE)
		return because(text, "part", "only %" PRIu64 " KiB of it are mapped, or with one protection",
			       (at->hi - at->lo) >> 10);
	if (at->private)
		return because(text, "private", "a private mapping: pages that were stored to are copies");
	if (at->guarded != 0)
		return because(text, "guarded", "write-protected page by page until the first store to it");
	return NULL;
}

static const char *why_image(const struct image *im, const struct place *at, char text[256])
{
	bool tmpfs = im->huge[0] != '\0', dax = strcmp(im->fs, "fsdax") == 0;

	if (strcmp(im->fs, "devdax") == 0)
		return because(text, "image", "the device has an alignment of 4 KiB");
	if (tmpfs && (strcmp(im->shmem, "deny") == 0 ||
		      (strcmp(im->shmem, "force") != 0 &&
		       (strcmp(im->huge, "never") == 0 || strcmp(im->huge, "advise") == 0))))
		return because(text, "image", "the image is on a tmpfs with huge=%s, shmem_enabled is %s", im->huge,
			       im->shmem);
	if (!tmpfs && !dax)
		return because(text, "image", "the image is on %s, which has no huge pages for it", im->fs);
	if (dax)
		return because(text, "small", "the image's file is not in one piece of 2 MiB there");
	if (at->image_known && !at->small_image)
		return because(text, "pages", "the image has a huge page there, which is mapped page by page");
	return because(text, "small", at->image_known ? "the image has no huge page there" :
		       "the image has no huge page there, or it is mapped page by page");
}

/* NULL: it is huge. */
static const char *why_not(const struct image *im, const struct window *w, const struct proc *p, const struct place *at,
			   char text[256])
{
	const char *id = why_file(w, text);

	if (id == NULL && p->err != 0)
		return because(text, "unknown", "process %ld cannot be looked into: %s", p->pid, strerror(p->err));
	if (id == NULL && at == NULL)
		return because(text, "unmapped", "not mapped at present");
	if (id == NULL)
		id = why_address(at, text);
	if (id == NULL && at->huge == HUGE_UNKNOWN)
		return because(text, "unknown", "this kernel does not say; nothing is in the way");
	return id != NULL ? id : why_image(im, at, text);
}

/* ---- the report ---- */

struct out {
	const struct image *im;
	struct json_object *list;	/* of the present window */
	struct table *t;		/* NULL: JSON */
	uint64_t nhuge, nplace, nwindow;
};

static void put_place(struct out *o, struct json_object *win, const struct window *w, const struct proc *p,
		      const struct place *at)
{
	static const char *const word[] = { [HUGE_NO] = "no", [HUGE_YES] = "yes", [HUGE_UNKNOWN] = "?" };
	enum huge huge = at == NULL ? p->err != 0 ? HUGE_UNKNOWN : HUGE_NO : at->huge;
	char text[256] = "", addr[24] = "-";
	const char *id = huge == HUGE_YES ? NULL : why_not(o->im, w, p, at, text);
	struct json_object *j;

	o->nplace += at != NULL;
	o->nhuge += huge == HUGE_YES;
	if (at != NULL)
		(void)snprintf(addr, sizeof addr, "0x%" PRIx64, at->addr);
	if (o->t != NULL) {
		table_cell(o->t, "%" PRIu64, j_num(win, "pid"));
		table_cell(o->t, "%s", j_str(win, "comm"));
		table_cell(o->t, "%" PRIu64, j_num(win, "slot"));
		table_cell(o->t, "%" PRIu64, j_num(win, "ino"));
		table_cell(o->t, "%" PRIu64, w->foff >> PF_CHUNK_SHIFT);
		table_cell(o->t, "%" PRIu64, w->extents);
		table_cell(o->t, "%s", addr);
		table_cell(o->t, "%s", word[huge]);
		table_cell(o->t, "%s", text);
		table_cell(o->t, "%s", j_str(win, "file"));
		return;
	}
	j = json_object_new_object();
	if (at != NULL) {
		(void)json_object_object_add(j, "address", json_object_new_uint64(at->addr));
		(void)json_object_object_add(j, "from", json_object_new_uint64(at->lo));
		(void)json_object_object_add(j, "to", json_object_new_uint64(at->hi));
	}
	(void)json_object_object_add(j, "huge",
				     huge == HUGE_UNKNOWN ? NULL : json_object_new_boolean(huge == HUGE_YES));
	if (id != NULL) {
		(void)json_object_object_add(j, "why", json_object_new_string(id));
		(void)json_object_object_add(j, "words", json_object_new_string(text));
	}
	(void)json_object_array_add(o->list, j);
}

/* Places of @win in the process: each mapping that shows one of its extents where that extent's page of the chunk would
 * be. Mappings of neighbouring extents, or with another protection, are pieces of one place. */
static size_t find_places(const struct proc *p, struct json_object *win, const struct window *w, struct place *place,
			  size_t room)
{
	struct json_object *at = j_get(win, "at");
	size_t n = 0, i, next = 0;

	if (at != NULL && json_object_is_type(at, json_type_array))
		next = json_object_array_length(at);
	for (size_t k = 0; k < next; k++) {
		struct json_object *e = json_object_array_get_idx(at, k);
		uint64_t v[3];

		if (!json_object_is_type(e, json_type_array) || json_object_array_length(e) != 3)
			continue;
		for (i = 0; i < 3; i++)
			v[i] = json_object_get_uint64(json_object_array_get_idx(e, i));
		for (const struct vma *m = p->vma; m != p->vma + p->nvma; m++) {
			uint64_t from = v[1] > m->off ? v[1] : m->off, end = m->off + (m->hi - m->lo), lo, hi, addr;

			end = v[1] + v[2] < end ? v[1] + v[2] : end;
			if (from >= end)
				continue;
			lo = m->lo + (from - m->off);
			hi = m->lo + (end - m->off);
			addr = lo - (v[0] - w->foff) - (from - v[1]);
			for (i = 0; i < n && place[i].addr != addr;)
				i++;
			if (i == room)
				return n;
			if (i == n)
				place[n++] = (struct place){ .addr = addr, .lo = lo, .hi = hi, .private = m->private };
			/* The larger piece speaks for the place. */
			if (hi - lo > place[i].hi - place[i].lo) {
				place[i].lo = lo;
				place[i].hi = hi;
			}
		}
	}
	return n;
}

static void one_window(struct out *o, struct json_object *win, struct proc *p)
{
	struct window w = {
		.foff = j_num(win, "foff"), .size = j_num(win, "size"), .bytes = j_num(win, "bytes"),
		.extents = j_num(win, "extents"), .stale = j_num(win, "stale") != 0,
	};
	struct json_object *at = j_get(win, "at");
	struct place place[64];
	size_t n;

	if (at != NULL && json_object_is_type(at, json_type_array) && json_object_array_length(at) != 0 &&
	    json_object_is_type(json_object_array_get_idx(at, 0), json_type_array))
		w.doff = json_object_get_uint64(json_object_array_get_idx(json_object_array_get_idx(at, 0), 1));
	if (p->pid != (long)j_num(win, "pid"))
		proc_open(p, (long)j_num(win, "pid"), o->im);
	o->nwindow++;
	if (o->t == NULL)
		o->list = json_object_new_array();
	n = find_places(p, win, &w, place, PF_ARRAY_LEN(place));
	for (size_t i = 0; i < n; i++) {
		look_at(o->im, p, &place[i]);
		put_place(o, win, &w, p, &place[i]);
	}
	if (n == 0)
		put_place(o, win, &w, p, NULL);
	if (o->t == NULL)
		(void)json_object_object_add(win, "places", o->list);
}

static void show_image(const struct image *im)
{
	char more[64] = "";

	if (im->huge[0] != '\0')
		(void)snprintf(more, sizeof more, ", huge=%s, shmem_enabled is %s", im->huge, im->shmem);
	show_line("image", "on %s%s%s", im->fs, more,
		  im->grain > PF_BLK_SIZE ? ", mapped in multiples of 2 MiB only" : "");
}

int windows(const char *json, bool as_json)
{
	static const char *const head[] = { "pid",     "command", "slot", "inode",   "chunk",
					    "extents", "address", "huge", "why not", "file" };
	struct table t = { .ncol = PF_ARRAY_LEN(head), .head = head, .right = "rlrrrrrlll" };
	struct json_object *root = j_report(json), *i, *list;
	struct proc p = { .pagemap = -1 };
	struct image im;
	struct out o = { .im = &im, .t = as_json ? NULL : &t };
	size_t n;

	if (root == NULL)
		return 1;
	i = j_get(root, "image");
	list = j_get(root, "windows");
	if (i == NULL || !json_object_is_type(list, json_type_array)) {
		(void)json_object_put(root);
		return complain("the daemon's report makes no sense");
	}
	im = (struct image){
		.fs = j_str(i, "fs"), .huge = j_str(i, "huge"), .shmem = j_str(i, "shmem_enabled"),
		.grain = j_num(i, "grain"),
		.dev_major = (unsigned int)j_num(i, "dev_major"), .dev_minor = (unsigned int)j_num(i, "dev_minor"),
		.ino = j_num(i, "ino"),
	};
	n = json_object_array_length(list);
	for (size_t k = 0; k < n; k++)
		one_window(&o, json_object_array_get_idx(list, k), &p);
	proc_close(&p);
	if (as_json) {
		(void)puts(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN));
	} else {
		show_image(&im);
		show_line("windows", "%" PRIu64 " of 2 MiB, mapped at %" PRIu64 " place%s, %" PRIu64 " of them huge",
			  o.nwindow, o.nplace, o.nplace == 1 ? "" : "s", o.nhuge);
		if (n != 0)
			table_print(&t);
		if (j_num(root, "windows_left_off") != 0)
			(void)printf("... and %" PRIu64 " more windows\n", j_num(root, "windows_left_off"));
	}
	(void)json_object_put(root);
	return 0;
}
