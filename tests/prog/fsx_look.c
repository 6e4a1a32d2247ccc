/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsx_look.c - what a worker of fsx has open, and whether what it sees there is what the model says.
 *
 * "Window" is mmap() as linked, that is libpinfs; "kernel mapping" is the bare system call.
 */
#include "prog/fsx_worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harness/proc.h"

const char *fsx_path(const struct fsx *x, const char *name)
{
	static char path[2][4096 + FSX_NAME + 1];
	static unsigned int turn;
	char *p = path[turn++ % 2];

	(void)snprintf(p, sizeof path[0], "%s/%s", x->mnt, name);
	return p;
}

bool fsx_sys(struct fsx_worker *w, const char *what, bool ok)
{
	return ok || fsx_bad(w->x, "%s: %s", what, strerror(errno));
}

struct fsx_worker *fsx_worker_new(struct fsx *x, unsigned int number)
{
	struct fsx_worker *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->x = x;
	w->number = number;
	w->buf = aligned_alloc(FSX_PAGE, BUF);
	w->ghost_file = calloc(1, sizeof *w->ghost_file);
	if (w->buf != NULL && w->ghost_file != NULL)
		return w;
	free(w->buf);
	free(w->ghost_file);
	free(w);
	return NULL;
}

/* --- what is open --- */

static void unmap(struct map *m)
{
	if (m->p != NULL && m->window)
		(void)munmap(m->p, m->len);
	else if (m->p != NULL)
		(void)syscall(SYS_munmap, m->p, m->len);
	m->p = NULL;
}

bool fsx_let_go(struct fsx_worker *w, struct handle *h)
{
	bool ok = true;

	if (h->gen == 0)
		return true;
	unmap(&h->window);
	unmap(&h->kernel);
	if (h->direct >= 0)
		ok = fsx_sys(w, "close", close(h->direct) == 0);
	ok = fsx_sys(w, "close", close(h->fd) == 0) && ok;
	h->gen = 0;
	return ok;
}

struct handle *fsx_use(struct fsx_worker *w, unsigned int i)
{
	struct fsx_file *f = &w->x->file[i];
	struct handle *h = &w->h[i];

	if (h->gen == f->gen)
		return h;
	if (!fsx_let_go(w, h))
		return NULL;
	h->fd = open(fsx_path(w->x, f->name), O_RDWR | O_CLOEXEC);
	if (h->fd < 0) {
		(void)fsx_sys(w, f->name, false);
		return NULL;
	}
	h->direct = -1;
	h->gen = f->gen;
	return h;
}

static bool map(struct fsx_worker *w, const struct handle *h, struct map *m, bool window, size_t off, size_t len)
{
	void *p;

	unmap(m);
	*m = (struct map){ .off = off, .len = len, .window = window };
	if (window)
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, (off_t)off);
	else
		p = (void *)syscall(SYS_mmap, NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, off);
	if (p == MAP_FAILED)
		return fsx_sys(w, window ? "mmap of a window" : "mmap", false);
	m->p = p;
	return true;
}

struct map *fsx_mapping(struct fsx_worker *w, unsigned int i, bool window)
{
	struct fsx *x = w->x;
	struct handle *h = fsx_use(w, i);
	struct map *m;
	size_t off = 0, len = x->conf.max;

	if (h == NULL || x->file[i].size == 0)
		return NULL;
	m = window ? &h->window : &h->kernel;
	if (m->p != NULL && m->off < x->file[i].size && fsx_rnd(x, 16) != 0)
		return m;
	if (fsx_rnd(x, 2) != 0) {
		off = fsx_rnd(x, x->file[i].size) & ~(FSX_PAGE - 1);
		len = ((fsx_rnd(x, x->conf.max - off) + FSX_PAGE) & ~(FSX_PAGE - 1));
	}
	return map(w, h, m, window, off, len) ? m : NULL;
}

/* --- the kernel's pages --- */

bool fsx_written_back(struct fsx_worker *w, unsigned int i)
{
	struct fsx_file *f = &w->x->file[i];
	struct handle *h;

	if (!fsx_cached(f, 0, FSX_MAX, FSX_DIRTY))
		return true;
	h = fsx_use(w, i);
	if (h == NULL || !fsx_sys(w, "fsync", (fsx_rnd(w->x, 2) != 0 ? fsync(h->fd) : fdatasync(h->fd)) == 0))
		return false;
	fsx_cache(f, 0, FSX_MAX, 0, FSX_DIRTY);
	return true;
}

bool fsx_kernel_sees(struct fsx_worker *w, unsigned int i, size_t off, size_t len)
{
	struct fsx_file *f = &w->x->file[i];
	struct handle *h = fsx_use(w, i);

	if (h == NULL)
		return false;
	for (size_t p = off & ~(FSX_PAGE - 1); p < off + len && p < f->size; p += FSX_PAGE) {
		size_t n = f->size - p < FSX_PAGE ? f->size - p : FSX_PAGE;

		if (!fsx_cached(f, p, 1, FSX_STALE))
			continue;
		if (!fsx_sys(w, "pread", pread(h->fd, w->buf, n, (off_t)p) == (ssize_t)n) ||
		    !fsx_same(w->x, "read", f, p, w->buf, n) ||
		    !fsx_sys(w, "pwrite", pwrite(h->fd, w->buf, n, (off_t)p) == (ssize_t)n))
			return false;
		fsx_m_write(f, p, w->buf, n, FSX_DATA);
		fsx_cache(f, p, n, 0, FSX_STALE);
	}
	return true;
}

/* --- looking --- */

static bool look_read(struct fsx_worker *w, unsigned int i, size_t off, size_t len)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	struct handle *h = fsx_use(w, i);
	size_t whole = fsx_rnd(x, 4);

	if (h == NULL)
		return false;
	for (size_t done = 0; done < len;) {
		size_t n = len - done < BUF ? len - done : BUF;
		ssize_t got;

		if (whole == 0 && n > 1)
			n = 1 + fsx_rnd(x, n - 1);
		memset(w->buf, 0x55, n);
		got = pread(h->fd, w->buf, n, (off_t)(off + done));
		if (got != (ssize_t)n)
			return fsx_bad(x, "read of %s %#zx+%#zx: %zd (%s)", f->name, off + done, n, got,
				       strerror(errno));
		if (!fsx_same(x, "read", f, off + done, w->buf, n))
			return false;
		done += n;
	}
	return true;
}

static bool look_direct(struct fsx_worker *w, unsigned int i, size_t off, size_t len)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	struct handle *h = fsx_use(w, i);
	size_t from = off & ~(FSX_PAGE - 1), want;
	ssize_t got;

	if (h == NULL)
		return false;
	if (h->direct < 0)
		h->direct = open(fsx_path(x, f->name), O_RDWR | O_DIRECT | O_CLOEXEC);
	if (!fsx_sys(w, "open O_DIRECT", h->direct >= 0))
		return false;
	for (; from < off + len; from += BUF) {
		want = f->size - from < BUF ? f->size - from : BUF;
		got = pread(h->direct, w->buf, BUF, (off_t)from);
		if (got != (ssize_t)want)
			return fsx_bad(x, "O_DIRECT read of %s %#zx+%#lx: %zd, not %zu (%s)", f->name, from, BUF, got,
				       want, strerror(errno));
		if (!fsx_same(x, "O_DIRECT read", f, from, w->buf, want))
			return false;
	}
	return true;
}

/* By loads; what the mapping does not cover, by read(2). The rest of the last page has to be zeros. */
static bool look_map(struct fsx_worker *w, unsigned int i, size_t off, size_t len, bool window)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	const struct map *m = fsx_mapping(w, i, window);
	const char *how = window ? "window" : "kernel mapping";
	size_t from, to, tail = (f->size + FSX_PAGE - 1) & ~(FSX_PAGE - 1);

	if (x->why[0] != '\0')
		return false;
	if (m == NULL)
		return true;
	if (window ? !fsx_written_back(w, i) : !fsx_kernel_sees(w, i, off, len))
		return false;
	from = off > m->off ? off : m->off;
	to = off + len < m->off + m->len ? off + len : m->off + m->len;
	if (from >= to)
		return look_read(w, i, off, len);
	if (!fsx_same(x, how, f, from, m->p + (from - m->off), to - from))
		return false;
	if (to == f->size) {
		for (size_t at = f->size; at < tail; at++)
			if (m->p[at - m->off] != 0)
				return fsx_bad(x, "%s of %s: byte %#zx behind the end %#zx is %02x", how, f->name, at,
					       f->size, m->p[at - m->off]);
	}
	return look_read(w, i, off, from - off) && look_read(w, i, to, off + len - to);
}

/* lseek says what the model knows of holes and data. */
static bool look_holes(struct fsx_worker *w, unsigned int i)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	struct handle *h = fsx_use(w, i);
	off_t at = 0, data, hole;

	if (h == NULL || !fsx_written_back(w, i))
		return false;
	while (at < (off_t)f->size) {
		data = lseek(h->fd, at, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			return fsx_sys(w, "lseek SEEK_DATA", false);
		if (data < 0)
			data = (off_t)f->size;
		for (off_t b = at; b < data; b += (off_t)FSX_PAGE - b % (off_t)FSX_PAGE)
			if (f->blk[b / (off_t)FSX_PAGE] == FSX_DATA)
				return fsx_bad(x, "SEEK_DATA of %s from %#jx finds %#jx, but data is at %#jx", f->name,
					       (intmax_t)at, (intmax_t)data, (intmax_t)b);
		if (data >= (off_t)f->size)
			break;
		hole = lseek(h->fd, data, SEEK_HOLE);
		if (hole <= data)
			return fsx_bad(x, "SEEK_HOLE of %s from %#jx: %jd (%s)", f->name, (intmax_t)data,
				       (intmax_t)hole, strerror(errno));
		for (off_t b = data; b < hole; b += (off_t)FSX_PAGE - b % (off_t)FSX_PAGE)
			if (f->blk[b / (off_t)FSX_PAGE] == FSX_HOLE)
				return fsx_bad(x, "data of %s from %#jx to %#jx, but a hole is at %#jx", f->name,
					       (intmax_t)data, (intmax_t)hole, (intmax_t)b);
		at = hole;
	}
	return true;
}

static bool look_stat(struct fsx_worker *w, unsigned int i)
{
	struct fsx *x = w->x;
	const struct fsx_file *f = &x->file[i];
	struct handle *h = fsx_use(w, i);
	struct stat st;
	uint64_t end = pt_now_ms() + 30000;
	blkcnt_t least = 0;

	for (size_t p = 0; p < FSX_PAGES; p++)
		least += f->blk[p] == FSX_DATA ? (blkcnt_t)(FSX_PAGE / 512) : 0;
	do {
		if (h == NULL || !fsx_sys(w, "fstat", fstat(h->fd, &st) == 0))
			return false;
		if ((size_t)st.st_size != f->size)
			return fsx_bad(x, "fstat of %s: size %#jx, should be %#zx", f->name, (intmax_t)st.st_size,
				       f->size);
		/* Blocks that a window allocated are announced to the kernel a moment later. */
	} while (st.st_blocks < least && pt_now_ms() < end);
	if (st.st_blocks < least)
		return fsx_bad(x, "fstat of %s: %jd sectors, at least %jd are written to", f->name,
			       (intmax_t)st.st_blocks, (intmax_t)least);
	return true;
}

bool fsx_look(struct fsx_worker *w, unsigned int i, size_t off, size_t len)
{
	struct fsx *x = w->x;
	const struct fsx_file *f = &x->file[i];
	size_t lo = 0, hi = f->size, how;

	if (!look_stat(w, i) || (fsx_rnd(x, 8) == 0 && !look_holes(w, i)))
		return false;
	if (f->size > 512 * 1024 && fsx_rnd(x, 16) != 0) {
		lo = off > 3 * FSX_PAGE ? off - 3 * FSX_PAGE : 0;
		hi = off + len + 3 * FSX_PAGE;
		if (hi > f->size)
			hi = f->size;
		if (lo >= hi)
			lo = hi > FSX_PAGE ? hi - FSX_PAGE : 0;
	}
	if (lo == hi)
		return true;
	how = fsx_rnd(x, 8);
	if (how < 2)
		return look_direct(w, i, lo, hi - lo);
	if (how < 4 && (x->conf.may & FSX_KERNEL) != 0)
		return look_map(w, i, lo, hi - lo, false);
	if (how >= 4 && how < 6 && (x->conf.may & FSX_WINDOW) != 0)
		return look_map(w, i, lo, hi - lo, true);
	return look_read(w, i, lo, hi - lo);
}

/* --- from outside --- */

static bool only_our_names(struct fsx *x)
{
	unsigned int seen = 0;

	for (unsigned int d = 0; d < 2; d++) {
		char dir[8], name[FSX_NAME * 2];
		const struct dirent *e;
		DIR *s;

		(void)snprintf(dir, sizeof dir, "d%u", d);
		s = opendir(fsx_path(x, dir));
		if (s == NULL)
			return fsx_bad(x, "%s: %s", dir, strerror(errno));
		while ((e = readdir(s)) != NULL) {
			bool known = e->d_name[0] == '.';

			(void)snprintf(name, sizeof name, "%s/%.32s", dir, e->d_name);
			for (unsigned int i = 0; i < x->conf.files && !known; i++)
				known = strcmp(name, x->file[i].name) == 0;
			seen += e->d_name[0] != '.';
			if (!known) {
				(void)closedir(s);
				return fsx_bad(x, "%s should not be there", name);
			}
		}
		(void)closedir(s);
	}
	return seen == x->conf.files || fsx_bad(x, "%u names, should be %u", seen, x->conf.files);
}

bool fsx_check_all(struct fsx *x)
{
	struct fsx_worker *w = fsx_worker_new(x, 99);
	bool ok;

	if (w == NULL)
		return fsx_bad(x, "no memory");
	ok = only_our_names(x);
	for (unsigned int i = 0; i < x->conf.files && ok; i++)
		ok = look_stat(w, i) && look_holes(w, i) && look_read(w, i, 0, x->file[i].size);
	return fsx_worker_end(w) && ok;
}
