/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * private.c - MAP_PRIVATE windows: pages that were copied. Everything here runs under sh.lock.
 *
 * A page that was only read is mapped from the device, as in a shared window, but MAP_PRIVATE and write-protected by
 * userfaultfd; so it follows the file, and the first store comes to serve. That lifts the protection, has the kernel
 * copy the page where it is, notes it in the map, and only then lets the store go on. As all of that and every
 * invalidation happen under the lock, the note is exact: what is not noted holds no store and can be exchanged, what
 * is noted stays. A store that races with a punch finds the old page or the new hole, whole, by the order in which
 * serve meets them.
 *
 * TRUNCATE takes copied pages, too (unmap_mapping_range() with even_cows). But the daemon asks to unmap before it knows
 * whether the truncate will happen: pins may make it fail or wait. So copies are put aside (`kept`), the memory is
 * exchanged, and a thread that touches the page asks the daemon as for any other page, which answers after the
 * truncate or when it has been given up. Then the copy comes back, or the file ends before it. PF_IN_DROP says that a
 * truncate has happened, before any later answer does: a file that has grown again shows no copies of its former life.
 */
#include "sh.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/syscall.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

struct sh_kept {
	struct sh_kept *next;
	unsigned int page;			/* of the chunk */
	unsigned char bytes[SH_PAGE];
};

static unsigned int page_of(const struct sh_vma *v, uint64_t addr)
{
	return (unsigned int)(sh_vma_foff(v, addr) / SH_PAGE % SH_CHUNK_PAGES);
}

static struct sh_mchunk *chunk_of(const struct sh_vma *v, uint64_t addr)
{
	return sh_mchunk(v, sh_vma_foff(v, addr) >> PF_CHUNK_SHIFT);
}

static bool any_copy(const struct sh_mchunk *c)
{
	for (unsigned int i = 0; i < SH_CHUNK_PAGES / 64; i++)
		if (c->mark[i] != 0)
			return true;
	return false;
}

/* From @at on: where pages begin (or cease) to be copies; @hi if nowhere before. */
static uint64_t next_edge(const struct sh_vma *v, uint64_t at, uint64_t hi, bool copies)
{
	while (at < hi) {
		const struct sh_mchunk *c = chunk_of(v, at);
		unsigned int i = page_of(v, at);

		if (!any_copy(c)) {
			if (!copies)
				return at;
			at += (SH_CHUNK_PAGES - i) * SH_PAGE;
		} else if (sh_bit(c->mark, i) == copies) {
			return at;
		} else {
			at += SH_PAGE;
		}
	}
	return hi;
}

bool sh_next_copies(const struct sh_vma *v, uint64_t *at, uint64_t hi, uint64_t *end)
{
	if (!v->map->private)
		return false;
	*at = next_edge(v, *at, hi, true);
	if (*at >= hi)
		return false;
	*end = next_edge(v, *at, hi, false);
	return true;
}

bool sh_next_shown(const struct sh_vma *v, uint64_t *at, uint64_t hi, uint64_t *end)
{
	if (*at >= hi)
		return false;
	*end = hi;
	if (!v->map->private)
		return true;
	*at = next_edge(v, *at, hi, false);
	if (*at >= hi)
		return false;
	*end = next_edge(v, *at, hi, true);
	return true;
}

static void note(struct sh_mchunk *c, unsigned int i)
{
	sh_bits_put(c->dev, i, 1, false);
	sh_bits_put(c->mark, i, 1, true);
	c->touched = c->used = 1;
}

/* New memory in place of a missing page. Wakes nobody. */
static int fill(uint64_t addr, const void *bytes)
{
	struct uffdio_copy c = { .dst = addr, .src = sh_addr(bytes), .len = SH_PAGE,
				 .mode = UFFDIO_COPY_MODE_DONTWAKE };

	return (int)sh_sys(SYS_ioctl, sh.uffd, UFFDIO_COPY, &c);
}

/* The device's page where it is. */
static int copy_here(uint64_t lo, uint64_t len)
{
	int err = sh_uffd_protect(lo, len, false);

	if (!err)
		err = (int)sh_sys(SYS_madvise, lo, len, MADV_POPULATE_WRITE);
	if (err)
		(void)sh_uffd_protect(lo, len, true);	/* whoever stores comes again */
	return err;
}

int sh_copy_page(struct sh_vma *v, uint64_t addr, uint64_t pg)
{
	static const unsigned char zeros[SH_PAGE];
	struct sh_mchunk *c = chunk_of(v, addr);
	unsigned int i = page_of(v, addr);
	int err = 0;

	if (!sh_bit(c->mark, i) && (v->prot & PROT_WRITE)) {
		if (sh_bit(c->dev, i)) {
			err = copy_here(addr, SH_PAGE);
		} else if (pg == SH_PG_HOLE) {
			err = fill(addr, zeros);
			if (err == -EEXIST)	/* the zeros that a load was given */
				err = sh_uffd_protect(addr, SH_PAGE, false);
		} else {
			err = -EAGAIN;
		}
		if (!err)
			note(c, i);
	}
	if (err == -EAGAIN || err == -ENOENT)
		err = 0;		/* the address space is changing: the thread comes again */
	if (!err)
		sh_uffd_wake(addr, SH_PAGE);
	return err;
}

/* When the kernel allows no more mappings: pages between copies cannot be exchanged, so they are copied while they
 * are still what they were. */
int sh_copy_rest(struct sh_vma *v, uint64_t lo, uint64_t hi)
{
	int err = 0, e;

	if (!(v->prot & PROT_WRITE) && sh_sys(SYS_mprotect, lo, hi - lo, v->prot | PROT_READ | PROT_WRITE) != 0)
		return -ENOMEM;
	for (uint64_t at = lo; at < hi; at += SH_PAGE) {
		struct sh_mchunk *c = chunk_of(v, at);
		unsigned int i = page_of(v, at);

		if (!sh_bit(c->dev, i) || sh_bit(c->mark, i))
			continue;
		e = copy_here(at, SH_PAGE);
		if (!e)
			note(c, i);
		else if (!err)
			err = e;
	}
	if (!(v->prot & PROT_WRITE))
		(void)sh_sys(SYS_mprotect, lo, hi - lo, v->prot);
	return err;
}

/* ---- put aside ---- */

static void keep_run(struct sh_vma *v, uint64_t lo, uint64_t hi)
{
	bool closed = !(v->prot & PROT_READ);

	/* No store from here on, and none is lost: it waits, and finds the exchanged page. */
	(void)sh_uffd_protect(lo, hi - lo, true);
	if (closed && sh_sys(SYS_mprotect, lo, hi - lo, v->prot | PROT_READ) != 0)
		return;
	for (uint64_t at = lo; at < hi; at += SH_PAGE) {
		struct sh_mchunk *c = chunk_of(v, at);
		struct sh_kept *k = sh_alloc(sizeof *k);

		if (k == NULL) {
			sh_log(SH_WARN, "no memory to keep a private page: it shows the file again");
		} else {
			k->page = page_of(v, at);
			memcpy(k->bytes, sh_ptr(at), SH_PAGE);
			k->next = c->kept;
			c->kept = k;
		}
		sh_bits_put(c->mark, page_of(v, at), 1, false);
		c->touched = 1;
	}
	if (closed)
		(void)sh_sys(SYS_mprotect, lo, hi - lo, v->prot);
}

void sh_keep(struct sh_vma *v, uint64_t foff)
{
	uint64_t from = sh_vma_foff(v, v->lo), at = v->lo, end;

	if (foff > from)
		at = foff - from < v->hi - v->lo ? v->lo + (foff - from) : v->hi;
	for (; sh_next_copies(v, &at, v->hi, &end); at = end)
		keep_run(v, at, end);
}

static struct sh_kept **find_kept(struct sh_mchunk *c, unsigned int page)
{
	struct sh_kept **k = &c->kept;

	while (*k != NULL && (*k)->page != page)
		k = &(*k)->next;
	return k;
}

static void free_kept(struct sh_kept **at)
{
	struct sh_kept *k = *at;

	*at = k->next;
	sh_free(k, sizeof *k);
}

bool sh_is_kept(const struct sh_mchunk *c, unsigned int page)
{
	const struct sh_kept *k = c->kept;

	while (k != NULL && k->page != page)
		k = k->next;
	return k != NULL;
}

int sh_keep_back(struct sh_vma *v, uint64_t addr, uint64_t pg)
{
	struct sh_mchunk *c = chunk_of(v, addr);
	struct sh_kept **k = find_kept(c, page_of(v, addr));
	int err;

	if (*k == NULL)
		return 0;
	if (pg == SH_PG_EOF) {
		free_kept(k);
		return 0;
	}
	err = fill(addr, (*k)->bytes);
	if (err == -EAGAIN) {
		sh_uffd_wake(addr, SH_PAGE);
		return 1;
	}
	if (err)
		return err;
	note(c, page_of(v, addr));
	free_kept(k);
	sh_uffd_wake(addr, SH_PAGE);
	return 1;
}

void sh_keep_drop(struct sh_vma *v, uint64_t foff)
{
	const struct sh_map *m = v->map;

	for (uint64_t n = foff >> PF_CHUNK_SHIFT > m->chunk0 ? (foff >> PF_CHUNK_SHIFT) - m->chunk0 : 0; n < m->nchunk;
	     n++) {
		struct sh_kept **k = &m->chunk[n].kept;
		uint64_t start = (m->chunk0 + n) << PF_CHUNK_SHIFT;

		while (*k != NULL) {
			if (start + (*k)->page * SH_PAGE >= foff)
				free_kept(k);
			else
				k = &(*k)->next;
		}
	}
}

void sh_map_unkeep(struct sh_map *m)
{
	for (uint64_t n = 0; m->private && n < m->nchunk; n++) {
		while (m->chunk[n].kept != NULL)
			free_kept(&m->chunk[n].kept);
	}
}

void sh_copies_drop(struct sh_vma *v, uint64_t lo, uint64_t hi)
{
	if (!v->map->private)
		return;
	for (uint64_t at = lo; at < hi; at += SH_PAGE) {
		struct sh_mchunk *c = chunk_of(v, at);
		struct sh_kept **k = find_kept(c, page_of(v, at));

		sh_bits_put(c->mark, page_of(v, at), 1, false);
		if (*k != NULL)
			free_kept(k);
	}
}

/* ---- to another address, to another process ---- */

/* What was put aside of one page. */
static void hand_over(struct sh_mchunk *from, struct sh_mchunk *to, unsigned int page)
{
	struct sh_kept **at = find_kept(from, page), *k = *at;

	if (k == NULL)
		return;
	*at = k->next;
	k->next = to->kept;
	to->kept = k;
}

/* One piece of memory to us may be several to the kernel, which moves one at a time. */
static int move_run(uint64_t from, uint64_t to, uint64_t len)
{
	uint64_t half = pf_round_down(len / 2, SH_PAGE);
	int err = sh_mmap_err(sh_ptr((uint64_t)sh_sys(SYS_mremap, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to)));

	if (err != -EFAULT || half == 0)
		return err;
	err = move_run(from, to, half);
	return err ? err : move_run(from + half, to + half, len - half);
}

/* [lo, lo + len) of @from to @dst in @to. What moves leaves nothing behind. */
int sh_copies_move(struct sh_vma *from, struct sh_vma *to, uint64_t lo, uint64_t len, uint64_t dst)
{
	uint64_t end;
	int err;

	for (uint64_t at = lo; sh_next_copies(from, &at, lo + len, &end); at = end) {
		err = move_run(at, dst + (at - lo), end - at);
		if (err)
			return err;
		for (uint64_t a = at; a < end; a += SH_PAGE) {
			sh_bits_put(chunk_of(from, a)->mark, page_of(from, a), 1, false);
			note(chunk_of(to, dst + (a - lo)), page_of(to, dst + (a - lo)));
		}
	}
	for (uint64_t a = lo; a < lo + len; a += SH_PAGE)
		hand_over(chunk_of(from, a), chunk_of(to, dst + (a - lo)), page_of(from, a));
	return 0;
}

int sh_copies_adopt(struct sh_vma *v, const struct sh_vma *old)
{
	uint64_t at = old->lo, end;

	for (; sh_next_copies(old, &at, old->hi, &end); at = end) {
		(void)sh_sys(SYS_madvise, at, end - at, MADV_DONTFORK);
		if (sh_uffd_watch(at, end - at))
			return -ENOMEM;
		for (uint64_t a = at; a < end; a += SH_PAGE)
			note(chunk_of(v, a), page_of(v, a));
	}
	for (uint64_t a = old->lo; a < old->hi && old->map->private; a += SH_PAGE)
		hand_over(chunk_of(old, a), chunk_of(v, a), page_of(old, a));
	return 0;
}

/*
 * Around fork(): windows with copies are inherited whole, which needs no more mappings; the child takes out what is
 * not copied before it does anything else.
 */
void sh_copies_fork(bool inherit)
{
	uint64_t at, end;

	for (struct sh_vma *v = sh_vma_next(0); v != NULL; v = sh_vma_next(v->hi)) {
		at = v->lo;
		if (!v->nofork && sh_next_copies(v, &at, v->hi, &end))
			(void)sh_sys(SYS_madvise, v->lo, v->hi - v->lo, inherit ? MADV_DOFORK : MADV_DONTFORK);
	}
}
