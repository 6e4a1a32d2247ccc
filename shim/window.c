/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * window.c - the memory of windows: reserving it, mapping device extents into it, taking them away again.
 * Everything here runs under sh.lock, which is what makes "this vma is still here" true until the system call
 * is done.
 *
 * WHY A ZAP LOSES NOTHING. The range changes from device pages to fresh registered memory inside one mremap(),
 * under the kernel's mmap_lock: an access by an instruction or by a system call happens before it, on the
 * device page, or after it, and then faults and waits. There is no instant without a mapping. The daemon gets
 * its acknowledgement after mremap() has returned; by then no page table of this process leads to the old
 * blocks, and a new one is made only from an answer that serve reads after the invalidation.
 *
 * GUARDED pages are mappings of the device that are write-protected, so that serve sees the first store: in private
 * windows, to make a copy (private.c); in shared ones, to let the daemon move the file's times, as the kernel does in
 * a write fault.
 */
#include "sh.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define RUN_BUDGET 128U			/* pieces mapped for one fault: a fragmented chunk fills up over several */
#define GUARD_COST 8U			/* ... that are guarded: as dear as this many others */
#define ZERO_PAGES 16U			/* holes filled around a read */
#define ZERO_RUN 64U			/* longer ones in one piece */

static const unsigned char zeros[ZERO_PAGES * SH_PAGE] __attribute__((aligned(4096)));

void sh_uffd_wake(uint64_t addr, uint64_t len)
{
	struct uffdio_range r = { .start = addr, .len = len };

	long err = sh_sys(SYS_ioctl, sh.uffd, UFFDIO_WAKE, &r);

	if (err == -EPERM || err == -EACCES || err == -ENOSYS)
		sh_crew_fatal("ioctl(2)", err);	/* those who wait there could never be woken */
}

int sh_uffd_watch(uint64_t addr, uint64_t len)
{
	struct uffdio_register r = {
		.range = { .start = addr, .len = len },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};

	return (int)sh_sys(SYS_ioctl, sh.uffd, UFFDIO_REGISTER, &r);
}

int sh_uffd_protect(uint64_t addr, uint64_t len, bool on)
{
	struct uffdio_writeprotect w = {
		.range = { .start = addr, .len = len },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
	};

	return (int)sh_sys(SYS_ioctl, sh.uffd, UFFDIO_WRITEPROTECT, &w);
}

/*
 * Under mlockall(MCL_FUTURE) the kernel would fill the memory with zero pages before it is registered, and
 * those would be taken for the file's. So it starts inaccessible, which the kernel does not fill, and is
 * unlocked first.
 */
int sh_fresh(uint64_t at, uint64_t len, int prot, int flags, void **out)
{
	bool locked = atomic_load(&sh.mcl_future);
	void *p = sh_mmap(sh_ptr(at), len, locked ? PROT_NONE : prot,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
	int err = sh_mmap_err(p);

	if (err)
		return err;
	if (locked) {
		(void)sh_sys(SYS_munlock, p, len);
		(void)sh_sys(SYS_mprotect, p, len, prot);
	}
	(void)sh_sys(SYS_madvise, p, len, MADV_DONTFORK);
	err = sh_uffd_watch(sh_addr(p), len);
	if (err) {
		(void)sh_sys(SYS_munmap, p, len);
		return err;
	}
	*out = p;
	return 0;
}

int sh_fresh_over(uint64_t at, uint64_t len, int prot)
{
	void *fresh, *in_the_way[2];
	unsigned int n = 0;
	int err;

	/* The kernel may choose a place that overlaps the range, where nothing is mapped in it. Of three that do not
	 * overlap each other one does not. */
	while ((err = sh_fresh(0, len, prot, 0, &fresh)) == 0 && n < PF_ARRAY_LEN(in_the_way) &&
	       pf_range_overlap(sh_addr(fresh), len, at, len))
		in_the_way[n++] = fresh;
	while (n > 0)
		(void)sh_sys(SYS_munmap, in_the_way[--n], len);
	if (err)
		return err;
	err = sh_mmap_err(sh_ptr((uint64_t)sh_sys(SYS_mremap, fresh, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, at)));
	if (err)
		(void)sh_sys(SYS_munmap, fresh, len);
	return err;
}

/* ---- the map's own notes ---- */

struct sh_mchunk *sh_mchunk(const struct sh_vma *v, uint64_t chunk)
{
	return &v->map->chunk[chunk - v->map->chunk0];
}

void sh_bits_put(uint64_t *map, unsigned int first, unsigned int n, bool on)
{
	for (unsigned int i = first; i < first + n; i++) {
		if (on)
			map[i / 64] |= UINT64_C(1) << (i % 64);
		else
			map[i / 64] &= ~(UINT64_C(1) << (i % 64));
	}
}

/* Nothing is to be put there: it shows what it should, or is the program's own. */
static bool taken(const struct sh_vma *v, const struct sh_mchunk *c, unsigned int i)
{
	return sh_bit(c->dev, i) || (c->any_gone && sh_bit(c->gone, i)) ||
	       (v->map->private && (sh_bit(c->mark, i) || sh_is_kept(c, i)));
}

bool sh_chunk_used(const struct sh_vma *v, uint64_t foff)
{
	return sh_mchunk(v, foff >> PF_CHUNK_SHIFT)->used != 0;
}

bool sh_page_mapped(const struct sh_vma *v, uint64_t addr)
{
	uint64_t foff = sh_vma_foff(v, addr);

	return taken(v, sh_mchunk(v, foff >> PF_CHUNK_SHIFT), (unsigned int)(foff / SH_PAGE % SH_CHUNK_PAGES));
}

bool sh_can_guard(struct sh_session *s)
{
	return sh.guard && !s->no_guard;
}

/* Pages [*a, *b) of @chunk that lie in @v. */
static void vma_pages(const struct sh_vma *v, uint64_t chunk, unsigned int *a, unsigned int *b)
{
	uint64_t start = chunk << PF_CHUNK_SHIFT, lo = sh_vma_foff(v, v->lo), hi = sh_vma_foff(v, v->hi);

	*a = lo > start ? (unsigned int)((lo - start) / SH_PAGE) : 0;
	*b = (unsigned int)(pf_min64(hi - start, PF_CHUNK_SIZE) / SH_PAGE);
}

void sh_dress(const struct sh_vma *v, uint64_t addr, uint64_t len)
{
	if (v->pkey > 0)
		(void)sh_sys(SYS_pkey_mprotect, addr, len, v->prot, v->pkey);
	if (v->locked)		/* what is there now, and the rest when it comes: it must not come by this */
		(void)sh_sys(SYS_mlock2, addr, len, MLOCK_ONFAULT);
}

/* ---- taking away ---- */

/* When even that fails: the memory must go, atomically or not; accesses in between are lost in the way of
 * munmap(). */
static void zap_hard(struct sh_vma *v, uint64_t lo, uint64_t hi, int why)
{
	void *p;

	sh_log(SH_ERR, "cannot exchange [%#llx, %#llx) atomically (error %d)", (unsigned long long)lo,
	       (unsigned long long)hi, -why);
	if (sh_fresh(lo, hi - lo, v->prot, MAP_FIXED, &p))
		sh_map_sigbus(v, lo, hi);
}

static void zap_run(struct sh_vma *v, uint64_t lo, uint64_t hi)
{
	void *p;
	int err;

	atomic_fetch_add(&sh.nzap, 1);
	if (sh.zap_gap != NULL) {
		(void)sh_sys(SYS_munmap, lo, hi - lo);
		sh.zap_gap();
		err = sh_fresh(lo, hi - lo, v->prot, MAP_FIXED, &p);
	} else {
		err = sh_fresh_over(lo, hi - lo, v->prot);
	}
	/* Twice the memory, for a moment: where RLIMIT_AS forbids it, in two steps, each of them atomic. */
	if (err == -ENOMEM && hi - lo > SH_PAGE) {
		uint64_t mid = lo + pf_round_down((hi - lo) / 2, SH_PAGE);

		zap_run(v, lo, mid);
		zap_run(v, mid, hi);
		return;
	}
	if (err == -ENOMEM && v->map->private && sh_copy_rest(v, lo, hi) == 0)
		err = 0;
	if (err)
		zap_hard(v, lo, hi, err);
	sh_dress(v, lo, hi - lo);
	sh_uffd_wake(lo, hi - lo);
}

/* The pages of [lo, hi) show nothing any more. */
void sh_zap_note(struct sh_vma *v, uint64_t lo, uint64_t hi)
{
	for (uint64_t at = lo; at < hi;) {
		uint64_t foff = sh_vma_foff(v, at), n = pf_min64(hi - at, PF_CHUNK_SIZE - foff % PF_CHUNK_SIZE);
		struct sh_mchunk *mc = sh_mchunk(v, foff >> PF_CHUNK_SHIFT);
		unsigned int first = (unsigned int)(foff / SH_PAGE % SH_CHUNK_PAGES), a, b;

		sh_bits_put(mc->dev, first, (unsigned int)(n / SH_PAGE), false);
		if (!v->map->private) {
			sh_bits_put(mc->mark, first, (unsigned int)(n / SH_PAGE), false);
			/* Still touched where another vma of the map, or pages outside the range, share the chunk. */
			vma_pages(v, foff >> PF_CHUNK_SHIFT, &a, &b);
			if (v->map->refs == 1 && n / SH_PAGE == b - a)
				mc->touched = 0;
		}
		at += n;
	}
}

/* Empty [foff, foff + len) of the file in @v; untouched chunks at both ends cost nothing, and one call serves
 * any length. Copies of a private map stay. */
void sh_zap(struct sh_vma *v, uint64_t foff, uint64_t len)
{
	uint64_t vlo = sh_vma_foff(v, v->lo), vhi = sh_vma_foff(v, v->hi);
	uint64_t lo = pf_max64(pf_round_down(foff, SH_PAGE), vlo);
	uint64_t end = len > UINT64_MAX - SH_PAGE - foff ? UINT64_MAX - SH_PAGE : foff + len;
	uint64_t hi = pf_min64(pf_round_up(end, SH_PAGE), vhi);
	uint64_t first = UINT64_MAX, last = 0;

	if (lo >= hi)
		return;
	for (uint64_t c = lo >> PF_CHUNK_SHIFT; c <= (hi - 1) >> PF_CHUNK_SHIFT; c++) {
		if (!sh_mchunk(v, c)->touched)
			continue;
		first = pf_min64(first, pf_max64(lo, c << PF_CHUNK_SHIFT));
		last = pf_min64(hi, (c + 1) << PF_CHUNK_SHIFT);
	}
	if (first >= last)
		return;
	first += v->map->base;
	last += v->map->base;
	for (uint64_t at = first; sh_next_shown(v, &at, last, &end); at = end) {
		zap_run(v, at, end);
		sh_zap_note(v, at, end);
	}
}

void sh_zap_file(struct sh_file *f, uint64_t foff, uint64_t len)
{
	for (struct sh_vma *v = f->vmas; v != NULL; v = v->fnext)
		sh_zap(v, foff, len);
}

/* ---- putting there ---- */

static int place(struct sh_vma *v, uint64_t addr, uint64_t len, int fd, uint64_t off, int flags)
{
	int err = sh_mmap_err(sh_mmap(sh_ptr(addr), len, v->prot, MAP_SHARED | MAP_FIXED | flags, fd, off));

	if (!err) {
		(void)sh_sys(SYS_madvise, addr, len, MADV_DONTFORK);
		sh_dress(v, addr, len);
	}
	return err;
}

/* Is @s's device on something whose pages can be write-protected? Else its stores are seen when they are faults. */
static int guard(struct sh_session *s, uint64_t addr, uint64_t len)
{
	int err = sh_uffd_watch(addr, len);

	if (err == -EINVAL && !s->no_guard) {
		s->no_guard = true;
		sh_log(SH_INFO, "the device of @%s cannot be write-protected: no private windows", s->sock + 1);
	}
	return err || sh.copy_unsafe ? err : sh_uffd_protect(addr, len, true);
}

/*
 * Made elsewhere, and moved there in one step: in place there would be an instant in which a store passes unseen.
 * Populated before it is guarded, which the kernel does in batches; a private mapping that could be written to would be
 * copied by that, so this it becomes afterwards.
 */
static int place_guarded(struct sh_vma *v, uint64_t addr, uint64_t len, uint64_t doff)
{
	struct sh_session *s = v->map->file->ses;
	int type = v->map->private ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
	void *p = sh_mmap(NULL, len, v->map->private ? PROT_READ : v->prot, type | MAP_POPULATE, s->devfd, doff);
	int err = sh_mmap_err(p);

	if (err)
		return err;
	(void)sh_sys(SYS_madvise, p, len, MADV_DONTFORK);
	err = guard(s, sh_addr(p), len);
	if (!err && v->map->private)
		err = (int)sh_sys(SYS_mprotect, p, len, v->prot);
	if (!err)
		err = sh_mmap_err(sh_ptr((uint64_t)sh_sys(SYS_mremap, p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
							  addr)));
	if (err)
		(void)sh_sys(SYS_munmap, p, len);
	else
		sh_dress(v, addr, len);
	return err;
}

/* A page of the device: tried once, before anybody relies on it. */
bool sh_guard_probe(struct sh_session *s)
{
	void *p;

	if (!sh_can_guard(s))
		return false;
	p = sh_mmap(NULL, SH_PAGE, PROT_READ, MAP_PRIVATE, s->devfd, 0);
	if (sh_mmap_err(p))
		return false;
	(void)guard(s, sh_addr(p), SH_PAGE);
	(void)sh_sys(SYS_munmap, p, SH_PAGE);
	return sh_can_guard(s);
}

static void sigbus_piece(struct sh_vma *v, uint64_t lo, uint64_t hi)
{
	if (place(v, lo, hi - lo, sh.eof_fd, 0, 0)) {
		int err = sh_mmap_err(sh_mmap(sh_ptr(lo), hi - lo, PROT_NONE,
					      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0));

		if (err && err != -ENOMEM)
			sh_crew_fatal("mmap(2)", err);
	}
	for (uint64_t at = lo; at < hi;) {
		uint64_t foff = sh_vma_foff(v, at), n = pf_min64(hi - at, PF_CHUNK_SIZE - foff % PF_CHUNK_SIZE);
		struct sh_mchunk *mc = sh_mchunk(v, foff >> PF_CHUNK_SHIFT);
		unsigned int first = (unsigned int)(foff / SH_PAGE % SH_CHUNK_PAGES);

		sh_bits_put(mc->dev, first, (unsigned int)(n / SH_PAGE), true);
		if (!v->map->private)
			sh_bits_put(mc->mark, first, (unsigned int)(n / SH_PAGE), false);
		mc->touched = 1;
		at += n;
	}
	sh_uffd_wake(lo, hi - lo);
}

/* Every access is SIGBUS, except to copies of a private map. */
void sh_map_sigbus(struct sh_vma *v, uint64_t lo, uint64_t hi)
{
	uint64_t end;

	for (uint64_t at = lo; sh_next_shown(v, &at, hi, &end); at = end)
		sigbus_piece(v, at, end);
}

#ifndef UFFDIO_POISON
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

/* Bad blocks: as bad memory to whoever touches it, SIGBUS with BUS_MCEERR_AR; or where the kernel cannot do that, as
 * behind the end. */
static int place_bad(struct sh_vma *v, uint64_t addr, uint64_t len)
{
	int err = sh.poison ? 0 : -ENOSYS;

	for (uint64_t at = addr; !err && at < addr + len; at += SH_PAGE) {
		struct uffdio_poison p = { .range = { .start = at, .len = SH_PAGE },
					   .mode = UFFDIO_COPY_MODE_DONTWAKE };

		err = (int)sh_sys(SYS_ioctl, sh.uffd, UFFDIO_POISON, &p);
	}
	return err ? place(v, addr, len, sh.eof_fd, 0, 0) : 0;
}

/* Does the first store to a page of @sl, mapped now in @v, have to be seen? */
static bool guards(const struct sh_vma *v, const struct sh_slot *sl)
{
	return v->map->private || ((v->prot & PROT_WRITE) && !sl->sl_stored && sh_can_guard(sl->sl_ses));
}

/* One run of pages that are in one piece, from page *i on, below @b. *cost: what it takes of the budget. */
static int map_run(struct sh_vma *v, struct sh_slot *sl, unsigned int *i, unsigned int b, unsigned int *cost)
{
	struct sh_mchunk *mc = sh_mchunk(v, sl->sl_chunk);
	uint64_t pg = atomic_load_explicit(&sl->sl_page[*i], memory_order_relaxed), next;
	uint64_t addr = v->map->base + (sl->sl_chunk << PF_CHUNK_SHIFT) + *i * SH_PAGE;
	bool guarded = sh_pg_here(pg) && guards(v, sl);
	unsigned int n = 1;
	int err;

	*cost = 0;
	if (taken(v, mc, *i) || (!sh_pg_here(pg) && !sh_pg_bus(pg))) {
		*i += 1;
		return 0;
	}
	while (*i + n < b && !taken(v, mc, *i + n)) {
		next = atomic_load_explicit(&sl->sl_page[*i + n], memory_order_relaxed);
		if (next != (sh_pg_here(pg) ? pg + n * SH_PAGE : pg))
			break;
		n++;
	}
	/* Never in a part of it: the rest could not be taken away any more. */
	if (sl->sl_ses->whole && sh_pg_here(pg) && (n != SH_CHUNK_PAGES || (addr | pg) % PF_CHUNK_SIZE))
		return -EIO;
	err = guarded ? place_guarded(v, addr, n * SH_PAGE, pg) : 0;
	if (guarded && err && !v->map->private && err != -ENOMEM)
		guarded = false;	/* this device cannot; then the store is not seen */
	if (pg == SH_PG_BAD)
		err = place_bad(v, addr, n * SH_PAGE);
	else if (pg == SH_PG_EOF)
		err = place(v, addr, n * SH_PAGE, sh.eof_fd, 0, 0);
	else if (!guarded)
		err = place(v, addr, n * SH_PAGE, sl->sl_ses->devfd, pg, MAP_POPULATE);
	if (err)
		return err;
	mc->touched = mc->used = 1;
	sh_bits_put(mc->dev, *i, n, true);
	if (!v->map->private)
		sh_bits_put(mc->mark, *i, n, guarded);
	*cost = guarded ? GUARD_COST : 1;
	*i += n;
	return 0;
}

static void map_rest(struct sh_vma *v, struct sh_slot *sl, unsigned int a, unsigned int b)
{
	unsigned int budget = RUN_BUDGET, cost;

	while (a < b && budget > 0) {
		if (map_run(v, sl, &a, b, &cost))
			break;
		budget -= cost < budget ? cost : budget;
	}
}

/*
 * The daemon knows that stores to this chunk happen: no more need to see the first. A whole chunk is mapped anew, as
 * one that was never guarded, for only such a one can be a huge page.
 */
void sh_map_stored(struct sh_vma *v, struct sh_slot *sl)
{
	uint64_t start = sl->sl_chunk << PF_CHUNK_SHIFT, at;
	struct sh_mchunk *mc;
	unsigned int a, b, i, n;

	if (v->map->private || !pf_range_overlap(start, PF_CHUNK_SIZE, sh_vma_foff(v, v->lo), v->hi - v->lo))
		return;
	mc = sh_mchunk(v, sl->sl_chunk);
	vma_pages(v, sl->sl_chunk, &a, &b);
	for (i = a; i < b; i += n) {
		for (n = 1; i + n < b && sh_bit(mc->mark, i + n) == sh_bit(mc->mark, i);)
			n++;
		if (!sh_bit(mc->mark, i))
			continue;
		at = v->map->base + start + i * SH_PAGE;
		if (n == SH_CHUNK_PAGES) {
			sh_bits_put(mc->dev, i, n, false);
			map_rest(v, sl, a, b);
		} else if (sh_uffd_protect(at, n * SH_PAGE, false) == 0) {
			sh_bits_put(mc->mark, i, n, false);
		}
		sh_uffd_wake(at, n * SH_PAGE);
	}
}

/* Stores to [foff, + len) of the file shall be seen again. */
void sh_map_guard(struct sh_vma *v, uint64_t foff, uint64_t len)
{
	uint64_t lo = pf_max64(foff, sh_vma_foff(v, v->lo)), hi = pf_min64(foff + len, sh_vma_foff(v, v->hi)), at;

	if (v->map->private || !sh_can_guard(v->map->file->ses))
		return;
	while (lo < hi) {
		struct sh_mchunk *mc = sh_mchunk(v, lo >> PF_CHUNK_SHIFT);
		unsigned int i = (unsigned int)(lo / SH_PAGE % SH_CHUNK_PAGES), n = 1;
		bool on = sh_bit(mc->dev, i) && !sh_bit(mc->mark, i);

		while (lo + n * SH_PAGE < hi && i + n < SH_CHUNK_PAGES &&
		       (sh_bit(mc->dev, i + n) && !sh_bit(mc->mark, i + n)) == on)
			n++;
		at = v->map->base + lo;
		/* The empty file is shown in places, too: it can be guarded, and is SIGBUS before. */
		if (on && guard(v->map->file->ses, at, n * SH_PAGE) == 0)
			sh_bits_put(mc->mark, i, n, true);
		lo += n * SH_PAGE;
	}
}

/* Does the page show zeros, which the kernel protects, or poison? All else is a mapping of a file. */
static bool is_marked(const struct sh_vma *v, const struct sh_slot *sl, unsigned int i)
{
	return !taken(v, sh_mchunk(v, sl->sl_chunk), i) ||
	       atomic_load_explicit(&sl->sl_page[i], memory_order_relaxed) == SH_PG_BAD;
}

/*
 * Of pages [a, b) those of @filled that show zeros (NULL: all that is_marked()) show nothing any more. In as few pieces
 * as there can be without touching what is mapped.
 */
static void zap_zeros(struct sh_vma *v, const struct sh_slot *sl, unsigned int a, unsigned int b,
		      const uint64_t *filled)
{
	const struct sh_mchunk *mc = sh_mchunk(v, sl->sl_chunk);
	unsigned int i, end;

	for (i = a; i < b; i = end + 1) {
		end = i;
		if (filled == NULL ? !is_marked(v, sl, i) : taken(v, mc, i) || !sh_bit(filled, i))
			continue;
		for (unsigned int n = i; n < b && (filled == NULL ? is_marked(v, sl, n) : !taken(v, mc, n)); n++)
			end = filled == NULL || sh_bit(filled, n) ? n + 1 : end;
		sh_zap(v, (sl->sl_chunk << PF_CHUNK_SHIFT) + i * SH_PAGE, (end - i) * SH_PAGE);
	}
}

void sh_zap_zeros(struct sh_vma *v, uint64_t foff, uint64_t len)
{
	uint64_t n;

	for (; len > 0; foff += n, len -= n) {
		struct sh_slot *sl = sh_slot_find(v->map->file, foff >> PF_CHUNK_SHIFT);
		unsigned int a = (unsigned int)(foff % PF_CHUNK_SIZE / SH_PAGE);

		n = pf_min64(len, PF_CHUNK_SIZE - foff % PF_CHUNK_SIZE);
		/* Without a slot nothing is shown. */
		if (sl != NULL && sh_mchunk(v, foff >> PF_CHUNK_SHIFT)->touched)
			zap_zeros(v, sl, a, a + (unsigned int)(n / SH_PAGE), NULL);
	}
}

/* What map_rest() does not come to would go on showing zeros, and nothing but a store would fault there. */
void sh_map_filled(struct sh_vma *v, struct sh_slot *sl, const uint64_t *filled)
{
	uint64_t start = sl->sl_chunk << PF_CHUNK_SHIFT;
	unsigned int a, b;

	if (!pf_range_overlap(start, PF_CHUNK_SIZE, sh_vma_foff(v, v->lo), v->hi - v->lo) ||
	    !sh_mchunk(v, sl->sl_chunk)->touched)
		return;
	vma_pages(v, sl->sl_chunk, &a, &b);
	map_rest(v, sl, a, b);
	if (!(sh.pin_test & SH_TEST_FILL_PART))
		zap_zeros(v, sl, a, b, filled);
}

/* Map the run around @addr, then its neighbours in the chunk; 0: the page is there. */
int sh_map_page(struct sh_vma *v, struct sh_slot *sl, uint64_t addr)
{
	unsigned int a, b, i = (unsigned int)(sh_vma_foff(v, addr) / SH_PAGE % SH_CHUNK_PAGES), cost;
	int err;

	vma_pages(v, sl->sl_chunk, &a, &b);
	if (sl->sl_ses->whole && sh_pg_here(atomic_load_explicit(&sl->sl_page[i], memory_order_relaxed)))
		i = 0;
	err = map_run(v, sl, &i, b, &cost);
	if (!err)
		map_rest(v, sl, a, b);	/* a neighbour that fails is not this fault's business */
	sh_uffd_wake(v->map->base + (sl->sl_chunk << PF_CHUNK_SHIFT) + a * SH_PAGE, (b - a) * SH_PAGE);
	return err;
}

/*
 * A long hole gets memory of which only stores are watched, each page protected before there is one: the kernel puts
 * its own page of zeros wherever somebody reads, without asking us, and we hear of the first store. Made elsewhere and
 * moved there, as it has to be protected before anybody can touch it. It costs no memory but page tables.
 */
static int zero_run(struct sh_vma *v, uint64_t addr, uint64_t len)
{
	struct uffdio_register r = { .mode = UFFDIO_REGISTER_MODE_WP };
	void *p = sh_mmap(NULL, len, v->prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int err = sh_mmap_err(p);

	if (err)
		return err;
	(void)sh_sys(SYS_madvise, p, len, MADV_DONTFORK);
	r.range.start = sh_addr(p);
	r.range.len = len;
	err = (int)sh_sys(SYS_ioctl, sh.uffd, UFFDIO_REGISTER, &r);
	if (!err)
		err = sh_uffd_protect(sh_addr(p), len, true);
	if (!err)
		err = sh_mmap_err(sh_ptr((uint64_t)sh_sys(SYS_mremap, p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
							  addr)));
	if (err)
		(void)sh_sys(SYS_munmap, p, len);
	else
		sh_uffd_wake(addr, len);
	return err;
}

static bool is_hole(const struct sh_vma *v, const struct sh_slot *sl, unsigned int i)
{
	return !taken(v, sh_mchunk(v, sl->sl_chunk), i) &&
	       atomic_load_explicit(&sl->sl_page[i], memory_order_relaxed) == SH_PG_HOLE;
}

/* The hole around page @i of the chunk, if it is worth it. */
static int zero_hole(struct sh_vma *v, struct sh_slot *sl, unsigned int i, unsigned int a, unsigned int b)
{
	unsigned int first = i, last = i;

	if (!sh.guard || v->map->private || atomic_load(&sh.mcl_future))
		return -EOPNOTSUPP;
	while (first > a && is_hole(v, sl, first - 1))
		first--;
	while (last + 1 < b && is_hole(v, sl, last + 1))
		last++;
	if (last - first < ZERO_RUN)
		return -EOPNOTSUPP;
	return zero_run(v, v->map->base + (sl->sl_chunk << PF_CHUNK_SHIFT) + first * SH_PAGE,
			(last - first + 1) * SH_PAGE);
}

/* Zeros for a hole, write-protected: the first store comes back as a fault and allocates. */
int sh_map_zero(struct sh_vma *v, struct sh_slot *sl, uint64_t addr)
{
	struct sh_mchunk *mc = sh_mchunk(v, sl->sl_chunk);
	unsigned int a, b, i = (unsigned int)(sh_vma_foff(v, addr) / SH_PAGE % SH_CHUNK_PAGES), n = 0;
	struct uffdio_copy c = { .dst = pf_round_down(addr, SH_PAGE), .src = sh_addr(zeros),
				 .mode = UFFDIO_COPY_MODE_WP };
	long r;

	vma_pages(v, sl->sl_chunk, &a, &b);
	while (n < ZERO_PAGES && i + n < b && is_hole(v, sl, i + n))
		n++;
	if (n == 0)
		return -EIO;
	mc->touched = 1;
	if (zero_hole(v, sl, i, a, b) == 0)
		return 0;
	c.len = n * SH_PAGE;
	r = sh_sys(SYS_ioctl, sh.uffd, UFFDIO_COPY, &c);
	if (r == -ENOENT && n > 1) {
		/* Not one piece to the kernel: fresh memory that was moved between old need not merge with it. */
		c.len = SH_PAGE;
		r = sh_sys(SYS_ioctl, sh.uffd, UFFDIO_COPY, &c);
	}
	if (r == 0 || c.copy > 0)
		return 0;
	/* Somebody was faster (EEXIST), or the address space is changing (EAGAIN): look again. */
	sh_uffd_wake(c.dst, SH_PAGE);
	return r == -ENOMEM ? (int)r : 0;
}
