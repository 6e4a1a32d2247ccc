/* SPDX-License-Identifier: BSD-3-Clause */
/* fsx_model.c - what the files should be: bytes, size, holes, and what the kernel may have of them in its cache. */
#include "prog/fsx.h"

#include <stdio.h>
#include <string.h>

uint64_t fsx_rnd(struct fsx *x, uint64_t below)
{
	x->rng ^= x->rng << 13;
	x->rng ^= x->rng >> 7;
	x->rng ^= x->rng << 17;
	return below == 0 ? 0 : x->rng % below;
}

void fsx_log(struct fsx *x, const char *fmt, ...)
{
	char *line = x->log[x->nlog++ % FSX_RING];
	va_list ap;
	int n = snprintf(line, sizeof x->log[0], "%5u [%u] ", x->step, x->worker);

	va_start(ap, fmt);
	(void)vsnprintf(line + n, sizeof x->log[0] - (size_t)n, fmt, ap);
	va_end(ap);
}

bool fsx_bad(struct fsx *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (x->why[0] == '\0')
		(void)vsnprintf(x->why, sizeof x->why, fmt, ap);
	va_end(ap);
	return false;
}

/* No byte is zero: what was written is never mistaken for a hole. */
void fsx_fill(struct fsx *x, unsigned char *p, size_t len)
{
	uint64_t s = fsx_rnd(x, UINT64_MAX) | 1;

	for (size_t i = 0; i < len; i++) {
		s = s * UINT64_C(6364136223846793005) + 1442695040888963407;
		p[i] = (unsigned char)((s >> 57) | 0x80);
	}
}

bool fsx_same(struct fsx *x, const char *how, const struct fsx_file *f, size_t off, const unsigned char *got,
	      size_t len)
{
	size_t first = 0, wrong = 0, last = 0;

	if (memcmp(f->bytes + off, got, len) == 0)
		return true;
	for (size_t i = 0; i < len; i++) {
		if (got[i] == f->bytes[off + i])
			continue;
		if (wrong++ == 0)
			first = i;
		last = i;
	}
	if (wrong == 0)
		return fsx_bad(x, "%s of %s: bytes at %#zx changed while nobody wrote", how, f->name, off);
	return fsx_bad(x, "%s of %s: %zu bytes from %#zx to %#zx are wrong: the first is %02x, should be %02x"
			  " (size %#zx)",
		       how, f->name, wrong, off + first, off + last, got[first], f->bytes[off + first], f->size);
}

static size_t first_page(size_t off)
{
	return off / FSX_PAGE;
}

static size_t end_page(size_t off, size_t len)
{
	size_t end = (off + len + FSX_PAGE - 1) / FSX_PAGE;

	return end < FSX_PAGES ? end : FSX_PAGES;
}

void fsx_m_create(struct fsx *x, struct fsx_file *f)
{
	memset(f->bytes, 0, f->size);
	memset(f->blk, FSX_HOLE, sizeof f->blk);
	memset(f->cache, 0, sizeof f->cache);
	f->size = 0;
	f->gen = ++x->serial;
	(void)snprintf(f->name, sizeof f->name, "d%u/n%u", x->serial % 2, x->serial);
}

void fsx_m_write(struct fsx_file *f, size_t off, const unsigned char *src, size_t len, enum fsx_blk blk)
{
	memmove(f->bytes + off, src, len);
	if (off + len > f->size)
		f->size = off + len;
	for (size_t p = first_page(off); p < end_page(off, len); p++)
		if (blk == FSX_DATA || f->blk[p] == FSX_HOLE)
			f->blk[p] = (uint8_t)blk;
}

void fsx_m_truncate(struct fsx_file *f, size_t size)
{
	if (size < f->size) {
		memset(f->bytes + size, 0, f->size - size);
		for (size_t p = end_page(0, size); p < FSX_PAGES; p++) {
			f->blk[p] = FSX_HOLE;
			f->cache[p] = 0;
		}
	}
	f->size = size;
}

void fsx_m_zero(struct fsx_file *f, size_t off, size_t len, enum fsx_blk blk)
{
	size_t end = off + len;

	for (size_t p = first_page(off); p < end_page(off, len); p++) {
		/* The block that holds the end of the file is whole when all that is in the file goes. */
		size_t from = p * FSX_PAGE, to = from + FSX_PAGE;

		if (off <= from && end >= to)
			f->blk[p] = (uint8_t)blk;
		else if (blk == FSX_EITHER || (off <= from && end >= f->size))
			f->blk[p] = FSX_EITHER;
	}
	if (off >= f->size)
		return;
	memset(f->bytes + off, 0, (end < f->size ? end : f->size) - off);
}

void fsx_m_alloc(struct fsx_file *f, size_t off, size_t len)
{
	for (size_t p = first_page(off); p < end_page(off, len); p++)
		if (f->blk[p] == FSX_HOLE)
			f->blk[p] = FSX_EITHER;
}

void fsx_m_chunks(struct fsx_file *f, size_t off, size_t len)
{
	size_t from = off & ~(FSX_CHUNK - 1), to = (off + len + FSX_CHUNK - 1) & ~(FSX_CHUNK - 1);

	fsx_m_alloc(f, from, to - from);
}

/* Pages from @off on are other pages now. They were written back, and the kernel has none of them. */
static void moved(struct fsx_file *f, size_t off)
{
	fsx_cache(f, off, FSX_MAX - off, 0, FSX_DIRTY | FSX_STALE);
}

void fsx_m_collapse(struct fsx_file *f, size_t off, size_t len)
{
	size_t p = off / FSX_PAGE, n = len / FSX_PAGE;

	memmove(f->bytes + off, f->bytes + off + len, f->size - off - len);
	memset(f->bytes + f->size - len, 0, len);
	f->size -= len;
	memmove(f->blk + p, f->blk + p + n, FSX_PAGES - p - n);
	memset(f->blk + FSX_PAGES - n, FSX_HOLE, n);
	moved(f, off);
}

void fsx_m_insert(struct fsx_file *f, size_t off, size_t len)
{
	size_t p = off / FSX_PAGE, n = len / FSX_PAGE;

	memmove(f->bytes + off + len, f->bytes + off, f->size - off);
	memset(f->bytes + off, 0, len);
	f->size += len;
	memmove(f->blk + p + n, f->blk + p, FSX_PAGES - p - n);
	memset(f->blk + p, FSX_HOLE, n);
	moved(f, off);
}

bool fsx_cached(const struct fsx_file *f, size_t off, size_t len, unsigned int what)
{
	for (size_t p = first_page(off); p < end_page(off, len); p++)
		if ((f->cache[p] & what) != 0)
			return true;
	return false;
}

void fsx_cache(struct fsx_file *f, size_t off, size_t len, unsigned int set, unsigned int clear)
{
	for (size_t p = first_page(off); p < end_page(off, len); p++)
		f->cache[p] = (uint8_t)((f->cache[p] & ~clear) | set);
}
