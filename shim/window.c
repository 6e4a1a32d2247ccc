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
 */
#include "sh.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define RUN_BUDGET 128U			/* pieces mapped for one fault: a fragmented chunk fills up over several */
#define ZERO_PAGES 16U			/* holes filled around a read */

static const unsigned char zeros[ZERO_PAGES * SH_PAGE] __attribute__((aligned(4096)));

void sh_uffd_wake(uint64_t addr, uint64_t len)
{
	struct uffdio_range r = { .start = addr, .len = len };

	long err = sh_sys(SYS_ioctl, sh.uffd, UFFDIO_WAKE, &r);

	if (err == -EPERM || err == -EACCES || err == -ENOSYS)
		sh_crew_fatal("ioctl(2)", err);	/* those who wait there could never be woken */
}

static int watch(void *p, uint64_t len)
{
	struct uffdio_register r = {
		.range = { .start = sh_addr(p), .len = len },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};

	return (int)sh_sys(SYS_ioctl, sh.uffd, UFFDIO_REGISTER, &r);
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
	err = watch(p, len);
	if (err) {
		(void)sh_sys(SYS_munmap, p, len);
		return err;
	}
	*out = p;
	return 0;
}

int sh_fresh_over(uint64_t at, uint64_t len, int prot)
{
	void *fresh;
	int err;

	err = sh_fresh(0, len, prot, 0, &fresh);
	if (err)
		return err;
	err = sh_mmap_err(sh_ptr((uint64_t)sh_sys(SYS_mremap, fresh, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, at)));
	if (err)
		(void)sh_sys(SYS_munmap, fresh, len);
	return err;
}

/* ---- the map's own notes ---- */

static struct sh_mchunk *mchunk(const struct sh_vma *v, uint64_t chunk)
{
	return &v->map->chunk[chunk - v->map->chunk0];
}

static bool dev_get(const struct sh_mchunk *c, unsigned int i)
{
	return (c->dev[i / 64] >> (i % 64)) & 1;
}

static void dev_put(struct sh_mchunk *c, unsigned int first, unsigned int n, bool on)
{
	for (unsigned int i = first; i < first + n; i++) {
		if (on)
			c->dev[i / 64] |= UINT64_C(1) << (i % 64);
		else
			c->dev[i / 64] &= ~(UINT64_C(1) << (i % 64));
	}
}

bool sh_chunk_used(const struct sh_vma *v, uint64_t foff)
{
	return mchunk(v, foff >> PF_CHUNK_SHIFT)->used != 0;
}

bool sh_page_mapped(const struct sh_vma *v, uint64_t addr)
{
	uint64_t foff = sh_vma_foff(v, addr);

	return dev_get(mchunk(v, foff >> PF_CHUNK_SHIFT), (unsigned int)(foff / SH_PAGE % SH_CHUNK_PAGES));
}

/* Pages [*a, *b) of @chunk that lie in @v. */
static void vma_pages(const struct sh_vma *v, uint64_t chunk, unsigned int *a, unsigned int *b)
{
	uint64_t start = chunk << PF_CHUNK_SHIFT, lo = sh_vma_foff(v, v->lo), hi = sh_vma_foff(v, v->hi);

	*a = lo > start ? (unsigned int)((lo - start) / SH_PAGE) : 0;
	*b = (unsigned int)(pf_min64(hi - start, PF_CHUNK_SIZE) / SH_PAGE);
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
	if (sh.zap_unsafe) {
		(void)sh_sys(SYS_munmap, lo, hi - lo);
		(void)sh_sys(SYS_sched_yield);
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
	if (err)
		zap_hard(v, lo, hi, err);
	sh_uffd_wake(lo, hi - lo);
}

/* Empty [foff, foff + len) of the file in @v; untouched chunks at both ends cost nothing, and one call serves
 * any length. */
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
		struct sh_mchunk *mc = mchunk(v, c);
		uint64_t clo = pf_max64(lo, c << PF_CHUNK_SHIFT), chi = pf_min64(hi, (c + 1) << PF_CHUNK_SHIFT);
		unsigned int a, b;

		if (!mc->touched)
			continue;
		first = pf_min64(first, clo);
		last = chi;
		dev_put(mc, (unsigned int)(clo / SH_PAGE % SH_CHUNK_PAGES), (unsigned int)((chi - clo) / SH_PAGE),
			false);
		/* Still touched where another vma of the map, or pages outside the range, share the chunk. */
		vma_pages(v, c, &a, &b);
		if (v->map->refs == 1 && (chi - clo) / SH_PAGE == b - a)
			mc->touched = 0;
	}
	if (first < last)
		zap_run(v, v->map->base + first, v->map->base + last);
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

	if (!err)
		(void)sh_sys(SYS_madvise, addr, len, MADV_DONTFORK);
	return err;
}

void sh_map_sigbus(struct sh_vma *v, uint64_t lo, uint64_t hi)
{
	if (place(v, lo, hi - lo, sh.eof_fd, 0, 0)) {
		int err = sh_mmap_err(sh_mmap(sh_ptr(lo), hi - lo, PROT_NONE,
					      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0));

		if (err && err != -ENOMEM)
			sh_crew_fatal("mmap(2)", err);
	}
	for (uint64_t at = lo; at < hi;) {
		uint64_t foff = sh_vma_foff(v, at), n = pf_min64(hi - at, PF_CHUNK_SIZE - foff % PF_CHUNK_SIZE);
		struct sh_mchunk *mc = mchunk(v, foff >> PF_CHUNK_SHIFT);

		dev_put(mc, (unsigned int)(foff / SH_PAGE % SH_CHUNK_PAGES), (unsigned int)(n / SH_PAGE), true);
		mc->touched = 1;
		at += n;
	}
	sh_uffd_wake(lo, hi - lo);
}

/* One run of pages that are in one piece, from page *i on, below @b. */
static int map_run(struct sh_vma *v, struct sh_slot *sl, unsigned int *i, unsigned int b, bool *done)
{
	struct sh_mchunk *mc = mchunk(v, sl->sl_chunk);
	uint64_t pg = atomic_load_explicit(&sl->sl_page[*i], memory_order_relaxed), next;
	uint64_t addr = v->map->base + (sl->sl_chunk << PF_CHUNK_SHIFT) + *i * SH_PAGE;
	unsigned int n = 1;
	int err;

	*done = false;
	if (dev_get(mc, *i) || (!sh_pg_here(pg) && !sh_pg_bus(pg))) {
		*i += 1;
		return 0;
	}
	while (*i + n < b && !dev_get(mc, *i + n)) {
		next = atomic_load_explicit(&sl->sl_page[*i + n], memory_order_relaxed);
		if (sh_pg_here(pg) ? next != pg + n * SH_PAGE : !sh_pg_bus(next))
			break;
		n++;
	}
	if (sh_pg_here(pg))
		err = place(v, addr, n * SH_PAGE, sl->sl_ses->devfd, pg, MAP_POPULATE);
	else
		err = place(v, addr, n * SH_PAGE, sh.eof_fd, 0, 0);
	if (err)
		return err;
	mc->touched = mc->used = 1;
	dev_put(mc, *i, n, true);
	*done = true;
	*i += n;
	return 0;
}

static void map_rest(struct sh_vma *v, struct sh_slot *sl, unsigned int a, unsigned int b)
{
	unsigned int budget = RUN_BUDGET;
	bool done;

	while (a < b && budget > 0) {
		if (map_run(v, sl, &a, b, &done))
			break;
		budget -= done;
	}
}

void sh_map_filled(struct sh_vma *v, struct sh_slot *sl)
{
	uint64_t start = sl->sl_chunk << PF_CHUNK_SHIFT;
	unsigned int a, b;

	if (!pf_range_overlap(start, PF_CHUNK_SIZE, sh_vma_foff(v, v->lo), v->hi - v->lo) ||
	    !mchunk(v, sl->sl_chunk)->touched)
		return;
	vma_pages(v, sl->sl_chunk, &a, &b);
	map_rest(v, sl, a, b);
}

/* Map the run around @addr, then its neighbours in the chunk; 0: the page is there. */
int sh_map_page(struct sh_vma *v, struct sh_slot *sl, uint64_t addr)
{
	unsigned int a, b, i = (unsigned int)(sh_vma_foff(v, addr) / SH_PAGE % SH_CHUNK_PAGES);
	bool done;
	int err;

	vma_pages(v, sl->sl_chunk, &a, &b);
	err = map_run(v, sl, &i, b, &done);
	if (!err)
		map_rest(v, sl, a, b);	/* a neighbour that fails is not this fault's business */
	sh_uffd_wake(v->map->base + (sl->sl_chunk << PF_CHUNK_SHIFT) + a * SH_PAGE, (b - a) * SH_PAGE);
	return err;
}

/* Zeros for a hole, write-protected: the first store comes back as a fault and allocates. */
int sh_map_zero(struct sh_vma *v, struct sh_slot *sl, uint64_t addr)
{
	struct sh_mchunk *mc = mchunk(v, sl->sl_chunk);
	unsigned int a, b, i = (unsigned int)(sh_vma_foff(v, addr) / SH_PAGE % SH_CHUNK_PAGES), n = 0;
	struct uffdio_copy c = { .dst = pf_round_down(addr, SH_PAGE), .src = sh_addr(zeros),
				 .mode = UFFDIO_COPY_MODE_WP };
	long r;

	vma_pages(v, sl->sl_chunk, &a, &b);
	while (n < ZERO_PAGES && i + n < b && !dev_get(mc, i + n) &&
	       atomic_load_explicit(&sl->sl_page[i + n], memory_order_relaxed) == SH_PG_HOLE)
		n++;
	if (n == 0)
		return -EIO;
	mc->touched = 1;
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
