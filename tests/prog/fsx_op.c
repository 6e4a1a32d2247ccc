/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsx_op.c - a worker: one random operation on the files and on the model, then a look at whether they agree.
 */
#include "prog/fsx_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* --- doing --- */

/* A range in [0, max): mostly small, often at borders, sometimes long. */
static void range(struct fsx *x, const struct fsx_file *f, size_t max, size_t most, size_t *off, size_t *len)
{
	size_t o, n = 1 + fsx_rnd(x, fsx_rnd(x, 8) == 0 ? most : 9000 < most ? 9000 : most);

	switch (fsx_rnd(x, 8)) {
	case 0:
		o = f->size;
		break;
	case 1:
		o = (fsx_rnd(x, max) & ~((2UL << 20) - 1)) + fsx_rnd(x, 3) * FSX_PAGE;
		break;
	case 2:
		o = fsx_rnd(x, 3 * FSX_PAGE);
		break;
	default:
		o = fsx_rnd(x, fsx_rnd(x, 2) != 0 && f->size != 0 ? f->size : max);
	}
	if (fsx_rnd(x, 3) == 0)
		o &= ~(FSX_PAGE - 1);
	if (fsx_rnd(x, 3) == 0)
		n = (n + FSX_PAGE - 1) & ~(FSX_PAGE - 1);
	if (o >= max)
		o = max - 1;
	if (n > max - o)
		n = max - o;
	*off = o;
	*len = n;
}

/* A range of what file @i has. False when it is empty. */
static bool range_in(struct fsx *x, unsigned int i, size_t lo, size_t hi, size_t most, size_t *off, size_t *len)
{
	const struct fsx_file *f = &x->file[i];

	if (hi > f->size)
		hi = f->size;
	if (lo >= hi)
		return false;
	range(x, f, hi, most, off, len);
	if (*off < lo)
		*off = lo + fsx_rnd(x, hi - lo);
	if (*len > hi - *off)
		*len = hi - *off;
	return true;
}

static void wrote(struct fsx_file *f, size_t off, const unsigned char *src, size_t len)
{
	fsx_m_write(f, off, src, len, FSX_DATA);
	fsx_cache(f, off, len, 0, FSX_STALE);
}

static bool do_write(struct fsx_worker *w, unsigned int i, size_t *off, size_t *len)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	struct handle *h = fsx_use(w, i);
	ssize_t n;

	if (h == NULL)
		return false;
	range(x, f, x->conf.max, BUF, off, len);
	fsx_log(x, "write     %s %#zx+%#zx", f->name, *off, *len);
	fsx_fill(x, w->buf, *len);
	if (fsx_rnd(x, 2) != 0) {
		n = pwrite(h->fd, w->buf, *len, (off_t)*off);
	} else {
		struct iovec v[2] = { { w->buf, *len / 3 }, { w->buf + *len / 3, *len - *len / 3 } };

		if (!fsx_sys(w, "lseek", lseek(h->fd, (off_t)*off, SEEK_SET) == (off_t)*off))
			return false;
		n = writev(h->fd, v, 2);
	}
	wrote(f, *off, w->buf, *len);
	return n == (ssize_t)*len || fsx_bad(x, "write: %zd of %zu: %s", n, *len, strerror(errno));
}

static bool do_append(struct fsx_worker *w, unsigned int i, size_t *off, size_t *len)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	ssize_t n;
	int fd;

	*off = f->size;
	*len = 1 + fsx_rnd(x, 20000);
	if (*off + *len > x->conf.max)
		return true;
	fsx_log(x, "append    %s %#zx+%#zx", f->name, *off, *len);
	fd = open(fsx_path(x, f->name), O_WRONLY | O_APPEND | O_CLOEXEC | (fsx_rnd(x, 4) == 0 ? O_SYNC : 0));
	if (!fsx_sys(w, "open O_APPEND", fd >= 0))
		return false;
	fsx_fill(x, w->buf, *len);
	n = write(fd, w->buf, *len);
	wrote(f, *off, w->buf, *len);
	if (!fsx_sys(w, "close", close(fd) == 0))
		return false;
	return n == (ssize_t)*len || fsx_bad(x, "append: %zd of %zu: %s", n, *len, strerror(errno));
}

static bool do_direct(struct fsx_worker *w, unsigned int i, size_t *off, size_t *len)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	struct handle *h = fsx_use(w, i);
	ssize_t n;

	if (h == NULL)
		return false;
	if (h->direct < 0)
		h->direct = open(fsx_path(x, f->name), O_RDWR | O_DIRECT | O_CLOEXEC);
	if (!fsx_sys(w, "open O_DIRECT", h->direct >= 0))
		return false;
	range(x, f, x->conf.max, BUF / 2, off, len);
	*off &= ~(FSX_PAGE - 1);
	*len = (*len + FSX_PAGE - 1) & ~(FSX_PAGE - 1);
	if (*off + *len > x->conf.max)
		return true;
	fsx_log(x, "direct    %s %#zx+%#zx", f->name, *off, *len);
	fsx_fill(x, w->buf, *len);
	n = pwrite(h->direct, w->buf, *len, (off_t)*off);
	wrote(f, *off, w->buf, *len);
	return n == (ssize_t)*len || fsx_bad(x, "O_DIRECT write: %zd of %zu: %s", n, *len, strerror(errno));
}

static bool do_truncate(struct fsx_worker *w, unsigned int i, size_t *off, size_t *len)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	struct handle *h = fsx_use(w, i);
	int how = (int)fsx_rnd(x, 16), fd, rc;

	if (h == NULL)
		return false;
	range(x, f, x->conf.max, 1, off, len);
	*len = 1;
	if (how == 0)
		*off = 0;
	fsx_log(x, "%s %s %#zx -> %#zx", how == 0 ? "O_TRUNC  " : how < 8 ? "truncate " : "ftruncate", f->name, f->size,
		*off);
	if (how == 0) {
		fd = open(fsx_path(x, f->name), O_WRONLY | O_TRUNC | O_CLOEXEC);
		rc = fd < 0 ? -1 : close(fd);
	} else if (how < 8) {
		rc = truncate(fsx_path(x, f->name), (off_t)*off);
	} else {
		rc = ftruncate(h->fd, (off_t)*off);
	}
	fsx_m_truncate(f, *off);
	return fsx_sys(w, "truncate", rc == 0);
}

static bool do_fallocate(struct fsx_worker *w, unsigned int i, size_t *off, size_t *len)
{
	static const struct { int mode; const char *name; } modes[] = {
		{ 0, "allocate " },
		{ FALLOC_FL_KEEP_SIZE, "alloc keep" },
		{ FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch    " },
		{ FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch    " },
		{ FALLOC_FL_ZERO_RANGE, "zero     " },
		{ FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "zero keep" },
	};
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	struct handle *h = fsx_use(w, i);
	size_t m = fsx_rnd(x, PF_ARRAY_LEN(modes)), end;
	int mode = modes[m].mode;

	if (h == NULL)
		return false;
	range(x, f, x->conf.max, x->conf.max, off, len);
	end = *off + *len;
	fsx_log(x, "%s %s %#zx+%#zx", modes[m].name, f->name, *off, *len);
	if (!fsx_sys(w, "fallocate", fallocate(h->fd, mode, (off_t)*off, (off_t)*len) == 0))
		return false;
	if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && end > f->size)
		f->size = end;
	if ((mode & FALLOC_FL_PUNCH_HOLE) != 0)
		fsx_m_zero(f, *off, *len, FSX_HOLE);
	else if ((mode & FALLOC_FL_ZERO_RANGE) != 0)
		fsx_m_zero(f, *off, *len, FSX_EITHER);
	else
		fsx_m_alloc(f, *off, *len);
	return true;
}

/* Collapse or insert. libpinfs passes them on; the kernel would refuse. */
static bool do_shift(struct fsx_worker *w, unsigned int i, size_t *off, size_t *len)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	struct handle *h = fsx_use(w, i);
	bool insert = fsx_rnd(x, 2) != 0;

	if (h == NULL)
		return false;
	range(x, f, x->conf.max, x->conf.max / 4, off, len);
	*off &= ~(FSX_PAGE - 1);
	*len = (*len + FSX_PAGE - 1) & ~(FSX_PAGE - 1);
	if (insert ? *off >= f->size || f->size + *len > x->conf.max : *off + *len >= f->size)
		return true;
	fsx_log(x, "%s %s %#zx+%#zx", insert ? "insert   " : "collapse ", f->name, *off, *len);
	if (!fsx_sys(w, "fallocate", fallocate(h->fd, insert ? FALLOC_FL_INSERT_RANGE : FALLOC_FL_COLLAPSE_RANGE,
					   (off_t)*off, (off_t)*len) == 0))
		return false;
	if (insert)
		fsx_m_insert(f, *off, *len);
	else
		fsx_m_collapse(f, *off, *len);
	*len = f->size - *off;
	return true;
}

static bool do_copy(struct fsx_worker *w, unsigned int i, size_t *off, size_t *len)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	unsigned int j = (unsigned int)fsx_rnd(x, x->conf.files);
	struct fsx_file *from = &x->file[j];
	struct handle *h = fsx_use(w, i), *hj = fsx_use(w, j);
	size_t src, n;
	loff_t in, out;

	if (h == NULL || hj == NULL)
		return false;
	if (!range_in(x, j, 0, from->size, BUF, &src, &n))
		return true;
	range(x, f, x->conf.max, 1, off, len);
	if (n > x->conf.max - *off)
		n = x->conf.max - *off;
	if (i == j && src < *off + n && *off < src + n)
		return true;
	*len = n;
	fsx_log(x, "copy      %s %#zx+%#zx to %s %#zx", from->name, src, n, f->name, *off);
	in = (loff_t)src;
	out = (loff_t)*off;
	for (size_t done = 0; done < n;) {
		ssize_t got = copy_file_range(hj->fd, &in, h->fd, &out, n - done, 0);

		if (got <= 0)
			return fsx_bad(x, "copy_file_range: %zd at %zu of %zu: %s", got, done, n, strerror(errno));
		done += (size_t)got;
	}
	fsx_m_write(f, *off, from->bytes + src, n, FSX_EITHER);
	/* A copy may leave holes where it found some. */
	for (size_t p = *off / FSX_PAGE; p <= (*off + n - 1) / FSX_PAGE; p++)
		f->blk[p] = FSX_EITHER;
	return true;
}

static bool do_store(struct fsx_worker *w, unsigned int i, size_t *off, size_t *len, bool window)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	const struct map *m = fsx_mapping(w, i, window);
	struct handle *h = fsx_use(w, i);
	unsigned char *at;

	if (x->why[0] != '\0')
		return false;
	if (m == NULL || !range_in(x, i, m->off, m->off + m->len, 200000, off, len))
		return true;
	if (window ? !fsx_written_back(w, i) : !fsx_kernel_sees(w, i, *off, *len))
		return false;
	fsx_log(x, "%s %s %#zx+%#zx", window ? "window   " : "mmap     ", f->name, *off, *len);
	at = m->p + (*off - m->off);
	fsx_fill(x, w->buf, *len);
	memcpy(at, w->buf, *len);
	fsx_m_write(f, *off, w->buf, *len, window ? FSX_DATA : FSX_EITHER);
	if (window)
		fsx_m_chunks(f, *off, *len);
	fsx_cache(f, *off, *len, window ? FSX_STALE : FSX_DIRTY, 0);
	switch (fsx_rnd(x, 6)) {
	case 0:
		if (!fsx_sys(w, "msync", msync(m->p, m->len, MS_SYNC) == 0))
			return false;
		if (!window)
			fsx_cache(f, m->off, m->len, 0, FSX_DIRTY);
		return true;
	case 1:
		if (!fsx_sys(w, "fsync", (fsx_rnd(x, 2) != 0 ? fsync(h->fd) : fdatasync(h->fd)) == 0))
			return false;
		fsx_cache(f, 0, FSX_MAX, 0, FSX_DIRTY);
		return true;
	default:
		return true;
	}
}

/* read(2) of one file into a window of another, or write(2) from there. */
static bool do_through(struct fsx_worker *w, unsigned int i, size_t *off, size_t *len)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	unsigned int j = (unsigned int)fsx_rnd(x, x->conf.files);
	struct fsx_file *other = &x->file[j];
	struct handle *h = fsx_use(w, i);
	const struct map *m = fsx_mapping(w, j, true);
	size_t at, n;
	ssize_t got;

	if (h == NULL || x->why[0] != '\0')
		return false;
	if (m == NULL || !range_in(x, j, m->off, m->off + m->len, BUF, &at, &n))
		return true;
	if (!fsx_written_back(w, j))
		return false;
	if (fsx_rnd(x, 2) != 0) {
		range(x, f, x->conf.max, 1, off, len);
		if (n > x->conf.max - *off)
			n = x->conf.max - *off;
		if (i == j && at < *off + n && *off < at + n)
			return true;
		*len = n;
		fsx_log(x, "write     %s %#zx+%#zx from a window of %s %#zx", f->name, *off, n, other->name, at);
		got = pwrite(h->fd, m->p + (at - m->off), n, (off_t)*off);
		wrote(f, *off, other->bytes + at, n);
		return got == (ssize_t)n || fsx_bad(x, "write: %zd of %zu: %s", got, n, strerror(errno));
	}
	if (!range_in(x, i, 0, f->size, n, off, len))
		return true;
	if (n > *len)
		n = *len;
	if (i == j && at < *off + n && *off < at + n)
		return true;
	*len = n;
	fsx_log(x, "read      %s %#zx+%#zx into a window of %s %#zx", f->name, *off, n, other->name, at);
	got = pread(h->fd, m->p + (at - m->off), n, (off_t)*off);
	fsx_m_write(other, at, f->bytes + *off, n, FSX_DATA);
	fsx_m_chunks(other, at, n);
	fsx_cache(other, at, n, FSX_STALE, 0);
	if (got != (ssize_t)n)
		return fsx_bad(x, "read: %zd of %zu: %s", got, n, strerror(errno));
	return fsx_look(w, j, at, n);
}

static bool do_sync(struct fsx_worker *w, unsigned int i)
{
	struct fsx *x = w->x;
	struct handle *h = fsx_use(w, i);
	int how = (int)fsx_rnd(x, 4), rc;

	if (h == NULL)
		return false;
	fsx_log(x, "sync      %s (%d)", x->file[i].name, how);
	rc = how == 0 ? syncfs(h->fd) : how == 1 ? fdatasync(h->fd) : fsync(h->fd);
	if (how != 0)
		fsx_cache(&x->file[i], 0, FSX_MAX, 0, FSX_DIRTY);
	return fsx_sys(w, "sync", rc == 0);
}

static bool do_reopen(struct fsx_worker *w, unsigned int i)
{
	fsx_log(w->x, "reopen    %s", w->x->file[i].name);
	return fsx_let_go(w, &w->h[i]) && fsx_use(w, i) != NULL;
}

/* --- names --- */

/* The file that this worker removed earlier still has its bytes, whoever has got its name by now. */
static bool bury(struct fsx_worker *w)
{
	struct fsx *x = w->x;
	struct handle *h = &w->ghost;
	struct fsx_file *f = w->ghost_file;
	struct stat st;

	if (h->gen == 0)
		return true;
	if (!fsx_sys(w, "fstat", fstat(h->fd, &st) == 0))
		return false;
	if ((size_t)st.st_size != f->size || st.st_nlink != 0)
		return fsx_bad(x, "removed %s: size %#jx, %ju links; should be %#zx, 0", f->name, (intmax_t)st.st_size,
			       (uintmax_t)st.st_nlink, f->size);
	for (size_t off = 0; off < f->size; off += BUF) {
		size_t n = f->size - off < BUF ? f->size - off : BUF;

		if (pread(h->fd, w->buf, n, (off_t)off) != (ssize_t)n)
			return fsx_bad(x, "removed %s: read at %#zx: %s", f->name, off, strerror(errno));
		if (!fsx_same(x, "removed file", f, off, w->buf, n))
			return false;
		if (h->window.p != NULL && off >= h->window.off && off + n <= h->window.off + h->window.len &&
		    !fsx_same(x, "window of removed", f, off, h->window.p + (off - h->window.off), n))
			return false;
	}
	return fsx_let_go(w, h);
}

/* File @i has lost its name; this worker keeps it open. */
static bool keep_ghost(struct fsx_worker *w, unsigned int i)
{
	struct fsx *x = w->x;
	const struct fsx_file *f = &x->file[i];

	if (w->h[i].gen != f->gen || !bury(w))
		return x->why[0] == '\0';
	w->ghost = w->h[i];
	w->h[i].gen = 0;
	w->h[i].window.p = NULL;
	w->h[i].kernel.p = NULL;
	memcpy(w->ghost_file->name, f->name, sizeof f->name);
	memset(w->ghost_file->bytes, 0, w->ghost_file->size);
	w->ghost_file->size = f->size;
	memcpy(w->ghost_file->bytes, f->bytes, f->size);
	/* A file without a name takes writes. */
	if (f->size >= 2 * FSX_PAGE) {
		fsx_fill(x, w->ghost_file->bytes + 100, FSX_PAGE);
		if (!fsx_sys(w, "pwrite", pwrite(w->ghost.fd, w->ghost_file->bytes + 100, FSX_PAGE, 100) == FSX_PAGE))
			return false;
	}
	return true;
}

static bool create(struct fsx_worker *w, unsigned int i)
{
	struct fsx *x = w->x;
	int fd;

	fsx_m_create(x, &x->file[i]);
	fsx_log(x, "create    %s", x->file[i].name);
	fd = open(fsx_path(x, x->file[i].name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	return fsx_sys(w, x->file[i].name, fd >= 0) && fsx_sys(w, "close", close(fd) == 0);
}

static bool do_name(struct fsx_worker *w, unsigned int i)
{
	struct fsx *x = w->x;
	struct fsx_file *f = &x->file[i];
	unsigned int j = (unsigned int)fsx_rnd(x, x->conf.files);
	struct fsx_file *other = &x->file[j];
	char name[FSX_NAME];

	switch (fsx_rnd(x, 4)) {
	case 0:		/* to a name that is free */
		(void)snprintf(name, sizeof name, "d%u/m%u", x->step / 3 % 2, ++x->serial);
		fsx_log(x, "rename    %s to %s", f->name, name);
		if (!fsx_sys(w, "rename", rename(fsx_path(x, f->name), fsx_path(x, name)) == 0))
			return false;
		memcpy(f->name, name, sizeof name);
		return true;
	case 1:
		if (i == j)
			return true;
		fsx_log(x, "exchange  %s and %s", f->name, other->name);
		if (!fsx_sys(w, "renameat2", renameat2(AT_FDCWD, fsx_path(x, f->name), AT_FDCWD,
						       fsx_path(x, other->name), RENAME_EXCHANGE) == 0))
			return false;
		memcpy(name, f->name, sizeof name);
		memcpy(f->name, other->name, sizeof name);
		memcpy(other->name, name, sizeof name);
		return true;
	case 2:		/* over another, which is made anew */
		if (i == j)
			return true;
		fsx_log(x, "rename    %s over %s", f->name, other->name);
		if (!fsx_sys(w, "rename", rename(fsx_path(x, f->name), fsx_path(x, other->name)) == 0))
			return false;
		memcpy(name, other->name, sizeof name);
		if (!keep_ghost(w, j) || !create(w, j))
			return false;
		memcpy(f->name, name, sizeof name);
		return true;
	default:
		fsx_log(x, "unlink    %s", f->name);
		return fsx_sys(w, "unlink", unlink(fsx_path(x, f->name)) == 0) && keep_ghost(w, i) && create(w, i);
	}
}

bool fsx_worker_step(struct fsx_worker *w)
{
	struct fsx *x = w->x;
	unsigned int i = (unsigned int)fsx_rnd(x, x->conf.files), op = (unsigned int)fsx_rnd(x, 34);
	size_t off = 0, len = x->file[i].size;
	bool ok;

	if (op < 7)
		ok = do_write(w, i, &off, &len);
	else if (op < 9)
		ok = do_append(w, i, &off, &len);
	else if (op < 11)
		ok = do_direct(w, i, &off, &len);
	else if (op < 14)
		ok = do_truncate(w, i, &off, &len);
	else if (op < 18)
		ok = do_fallocate(w, i, &off, &len);
	else if (op < 20)
		ok = do_copy(w, i, &off, &len);
	else if (op < 24)
		ok = (x->conf.may & FSX_WINDOW) == 0 || do_store(w, i, &off, &len, true);
	else if (op < 27)
		ok = (x->conf.may & FSX_KERNEL) == 0 || do_store(w, i, &off, &len, false);
	else if (op < 29)
		ok = (x->conf.may & FSX_WINDOW) == 0 || do_through(w, i, &off, &len);
	else if (op == 29)
		ok = do_sync(w, i);
	else if (op == 30)
		ok = do_reopen(w, i);
	else if (op == 31)
		ok = (x->conf.may & FSX_NAMES) == 0 || do_name(w, i);
	else
		ok = do_shift(w, i, &off, &len);
	if (ok && fsx_rnd(x, 64) == 0)
		ok = bury(w);
	return ok && fsx_look(w, i, off, len);
}

bool fsx_worker_sync(struct fsx_worker *w, bool all)
{
	for (unsigned int i = 0; i < w->x->conf.files; i++) {
		struct handle *h = fsx_use(w, i);

		if (h == NULL || !fsx_written_back(w, i))
			return false;
		if (all && !fsx_sys(w, "fsync", fsync(h->fd) == 0))
			return false;
	}
	return true;
}

bool fsx_worker_end(struct fsx_worker *w)
{
	bool ok = bury(w);

	for (unsigned int i = 0; i < w->x->conf.files; i++)
		ok = fsx_let_go(w, &w->h[i]) && ok;
	free(w->ghost_file);
	free(w->buf);
	free(w);
	return ok;
}
