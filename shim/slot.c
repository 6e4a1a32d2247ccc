/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slot.c - the session's window: which 2 MiB pieces of which files have a slot, and where their pages are on
 * the device. Everything here runs under sh.lock.
 *
 *   FREE -> SETTING (SETUPMAPPING under way) -> LIVE -> REMOVING (REMOVEMAPPING under way) -> FREE
 *   LIVE -> DEAD (its blocks have left the file; pins may still hold it) -> FREE
 *   REMOVING -> LIVE or DEAD when the daemon says EBUSY: a pin was faster
 */
#include "sh.h"

#include <errno.h>
#include <string.h>

int sh_slots_init(struct sh_session *s)
{
	uint32_t n = 16;

	s->slots = sh_anon(s->nslot * sizeof *s->slots);
	while (n < s->nslot)
		n <<= 1;
	s->hash_mask = n - 1;
	s->hash = sh_anon(n * sizeof *s->hash);
	if (s->slots == NULL || s->hash == NULL)
		return -ENOMEM;
	return 0;
}

static struct sh_slot **chain(struct sh_session *s, uint64_t ino, uint64_t chunk)
{
	uint64_t h = (ino * UINT64_C(0x9e3779b97f4a7c15)) ^ (chunk * UINT64_C(0xc2b2ae3d27d4eb4f));

	return &s->hash[(h >> 32) & s->hash_mask];
}

struct sh_slot *sh_slot_find(struct sh_file *f, uint64_t chunk)
{
	struct sh_slot *sl = *chain(f->ses, f->ino, chunk);

	while (sl != NULL && (sl->sl_file != f || sl->sl_chunk != chunk))
		sl = sl->sl_hnext;
	return sl;
}

static void unlist(struct sh_slot *sl)
{
	struct sh_session *s = sl->sl_ses;

	if (sl->sl_older != NULL)
		sl->sl_older->sl_newer = sl->sl_newer;
	else
		s->oldest = sl->sl_newer;
	if (sl->sl_newer != NULL)
		sl->sl_newer->sl_older = sl->sl_older;
	else
		s->newest = sl->sl_older;
}

static void list_newest(struct sh_slot *sl)
{
	struct sh_session *s = sl->sl_ses;

	sl->sl_newer = NULL;
	sl->sl_older = s->newest;
	if (s->newest != NULL)
		s->newest->sl_newer = sl;
	else
		s->oldest = sl;
	s->newest = sl;
}

void sh_slot_newest(struct sh_slot *sl)
{
	unlist(sl);
	list_newest(sl);
}

static void unhash(struct sh_slot *sl)
{
	struct sh_slot **p = chain(sl->sl_ses, sl->sl_file->ino, sl->sl_chunk);

	while (*p != sl)
		p = &(*p)->sl_hnext;
	*p = sl->sl_hnext;
	*sl->sl_fprev = sl->sl_fnext;
	if (sl->sl_fnext != NULL)
		sl->sl_fnext->sl_fprev = sl->sl_fprev;
	sl->sl_file = NULL;
	unlist(sl);
}

static void change_begin(struct sh_slot *sl)
{
	atomic_fetch_add(&sl->sl_seq, 1);
}

static void change_end(struct sh_slot *sl)
{
	atomic_fetch_add(&sl->sl_seq, 1);
}

struct sh_slot *sh_slot_new(struct sh_file *f, uint64_t chunk)
{
	struct sh_session *s = f->ses;
	struct sh_slot *sl = s->free_slots, **p;

	if (sl != NULL) {
		s->free_slots = sl->sl_hnext;
		s->nfree--;
	} else {
		if (s->fresh_slots == s->nslot)
			return NULL;
		sl = &s->slots[s->fresh_slots];
		sl->sl_page = sh_alloc(SH_CHUNK_PAGES * sizeof *sl->sl_page);
		if (sl->sl_page == NULL)
			return NULL;
		sl->sl_idx = s->fresh_slots;
		sl->sl_ses = s;
		sl->sl_led = &s->lslots[sl->sl_idx];
		s->fresh_slots++;
	}
	sl->sl_file = f;
	sl->sl_chunk = chunk;
	sl->sl_state = SH_SETTING;
	sl->sl_wants = NULL;
	sl->sl_wtail = NULL;
	sl->sl_fresh = true;
	sl->sl_dead_wait = false;
	sl->sl_stored = false;
	sl->sl_fault_ns = sl->sl_until_ns = 0;
	list_newest(sl);
	atomic_store(&sl->sl_watch, 0);
	p = chain(s, f->ino, chunk);
	sl->sl_hnext = *p;
	*p = sl;
	sl->sl_fnext = f->slots;
	sl->sl_fprev = &f->slots;
	if (f->slots != NULL)
		f->slots->sl_fprev = &sl->sl_fnext;
	f->slots = sl;
	return sl;
}

void sh_slot_free(struct sh_slot *sl)
{
	if (sl->sl_file != NULL) {
		sh_slot_forget(sl, 0, UINT64_MAX);
		unhash(sl);
	}
	sl->sl_state = SH_FREE;
	sl->sl_hnext = sl->sl_ses->free_slots;
	sl->sl_ses->free_slots = sl;
	sl->sl_ses->nfree++;
}

bool sh_slot_pinned(const struct sh_slot *sl)
{
	return atomic_load(&sl->sl_led->ls_whole) != 0 || atomic_load(&sl->sl_led->ls_pins) != 0;
}

/* One page of an answer: whether another picture of it may be mapped somewhere. */
static unsigned int page_put(struct sh_slot *sl, uint64_t i, uint64_t pg, uint64_t *filled)
{
	uint64_t was = atomic_load_explicit(&sl->sl_page[i], memory_order_relaxed);

	atomic_store_explicit(&sl->sl_page[i], pg, memory_order_relaxed);
	if (was == pg || was == SH_PG_UNKNOWN)
		return 0;
	if (was != SH_PG_HOLE)
		return SH_CHANGED;
	filled[i / 64] |= UINT64_C(1) << (i % 64);
	return SH_FILLED;
}

/* What the pin of a whole chunk asks, so that it need not look at 512 pages. */
static void all_here(struct sh_slot *sl)
{
	uint64_t first = atomic_load_explicit(&sl->sl_page[0], memory_order_relaxed), all = first, pg;

	for (unsigned int i = 0; i < SH_CHUNK_PAGES && all != SH_ALL_NOT; i++) {
		pg = atomic_load_explicit(&sl->sl_page[i], memory_order_relaxed);
		if (!sh_pg_here(pg))
			all = SH_ALL_NOT;
		else if (pg != first + i * SH_PAGE)
			all = SH_ALL_SCATTERED;
	}
	atomic_store_explicit(&sl->sl_all, all, memory_order_relaxed);
}

/* The daemon's answer: verified, since it indexes arrays and becomes mmap() offsets. Returns what became of
 * pages that were known before: SH_FILLED, SH_CHANGED; and in filled[], of SH_CHUNK_PAGES bits, which ones are
 * SH_FILLED. */
unsigned int sh_slot_fill(struct sh_slot *sl, const struct pf_p_map_out *mo, const struct pf_p_extent *ext,
			  uint64_t *filled)
{
	uint64_t start = sl->sl_chunk << PF_CHUNK_SHIFT, eof = pf_min64(mo->mo_size, INT64_MAX);
	unsigned int npage = SH_CHUNK_PAGES;
	unsigned int changed = 0;
	uint64_t at = 0;

	if (eof <= start)
		npage = 0;
	else if (eof - start < PF_CHUNK_SIZE)
		npage = (unsigned int)PF_DIV_UP(eof - start, SH_PAGE);
	memset(filled, 0, SH_CHUNK_PAGES / 8);
	change_begin(sl);
	for (uint32_t k = 0; k < mo->mo_next; k++) {
		const struct pf_p_extent *e = &ext[k];
		uint64_t off = e->e_foff - start;
		bool bad = e->e_doff == PF_P_DOFF_BAD;

		/* Sorted, so "behind the last" is "overlaps none". */
		if (e->e_foff < start + at * SH_PAGE || e->e_len == 0 || !pf_range_ok(off, e->e_len, PF_CHUNK_SIZE) ||
		    (e->e_foff | e->e_len) % SH_PAGE ||
		    (!bad && (e->e_doff % SH_PAGE || e->e_doff < SH_PAGE ||
			      !pf_range_ok(e->e_doff, e->e_len, sl->sl_ses->dev_bytes)))) {
			sh_log(SH_ERR, "bad extent from the daemon: foff %#llx doff %#llx len %#llx",
			       (unsigned long long)e->e_foff, (unsigned long long)e->e_doff,
			       (unsigned long long)e->e_len);
			continue;
		}
		for (; at < off / SH_PAGE; at++)
			changed |= page_put(sl, at, at < npage ? SH_PG_HOLE : SH_PG_EOF, filled);
		for (; at < (off + e->e_len) / SH_PAGE; at++)
			changed |= page_put(sl, at, at >= npage ? SH_PG_EOF : bad ? SH_PG_BAD :
					    e->e_doff + (at * SH_PAGE - off), filled);
	}
	for (; at < SH_CHUNK_PAGES; at++)
		changed |= page_put(sl, at, at < npage ? SH_PG_HOLE : SH_PG_EOF, filled);
	all_here(sl);
	sl->sl_size = mo->mo_size;
	atomic_store(&sl->sl_word, mo->mo_word & ~PF_SLOT_FROZEN);
	change_end(sl);
	return changed;
}

/* @foff, @len: in the file; the end is clipped. */
void sh_slot_forget(struct sh_slot *sl, uint64_t foff, uint64_t len)
{
	uint64_t start = sl->sl_chunk << PF_CHUNK_SHIFT, hi = len > UINT64_MAX - foff ? UINT64_MAX : foff + len;
	uint64_t a = foff > start ? foff - start : 0, b = hi > start ? pf_min64(hi - start, PF_CHUNK_SIZE) : 0;

	if (a >= b)
		return;
	sl->sl_stored = false;
	change_begin(sl);
	atomic_store_explicit(&sl->sl_all, SH_ALL_NOT, memory_order_relaxed);
	for (uint64_t i = a / SH_PAGE; i < PF_DIV_UP(b, SH_PAGE); i++)
		atomic_store_explicit(&sl->sl_page[i], SH_PG_UNKNOWN, memory_order_relaxed);
	change_end(sl);
}

int sh_slot_remove(struct sh_slot *sl)
{
	struct {
		struct fuse_removemapping_in in;
		struct fuse_removemapping_one one;
	} __attribute__((packed)) m = {
		.in = { .count = 1 },
		.one = { .moffset = (uint64_t)sl->sl_idx << PF_CHUNK_SHIFT, .len = PF_CHUNK_SIZE },
	};
	struct sh_req *r = sh_alloc(sizeof *r);
	int err;

	if (r == NULL)
		return -ENOMEM;
	r->slot = sl;
	err = sh_send(sl->sl_ses, r, FUSE_REMOVEMAPPING, &m, sizeof m);
	if (err)
		sh_free(r, sizeof *r);
	else
		sl->sl_ses->removing++;
	return err;
}

/* DEAD slots belong to no file. With pins they are watched; without, they go at once. */
void sh_slot_kill(struct sh_slot *sl)
{
	if (sl->sl_file != NULL) {
		sh_slot_forget(sl, 0, UINT64_MAX);
		unhash(sl);
	}
	sl->sl_state = SH_DEAD;
	sh_slot_bury(sl);
}

void sh_slot_bury(struct sh_slot *sl)
{
	atomic_store(&sl->sl_watch, 1);
	if (sl->sl_state != SH_DEAD || sl->sl_dead_wait || sh_slot_pinned(sl))
		return;
	sl->sl_dead_wait = sh_slot_remove(sl) == 0;
}

/* Its file is about to be forgotten; nothing maps it any more. */
void sh_slot_orphan(struct sh_slot *sl)
{
	if (sl->sl_state == SH_LIVE) {
		sh_slot_kill(sl);
	} else {
		sh_slot_forget(sl, 0, UINT64_MAX);
		unhash(sl);			/* REMOVING: the answer makes it FREE or DEAD */
	}
}

/* A copy of the pages that an answer names; the slot itself may already have been told to forget them. */
int sh_pages_of(const struct sh_slot *sl, const void *body, size_t len, uint64_t *pages)
{
	const struct pf_p_extent *ext = (const void *)((const char *)body + sizeof(struct pf_p_map_out));
	struct pf_p_map_out mo;

	if (len < sizeof mo)
		return -EPROTO;
	memcpy(&mo, body, sizeof mo);
	if (mo.mo_next > PF_P_EXT_MAX || len - sizeof mo < mo.mo_next * sizeof *ext || mo.mo_slot != sl->sl_idx)
		return -EPROTO;
	memset(pages, 0, SH_CHUNK_PAGES * sizeof *pages);
	for (uint32_t k = 0; k < mo.mo_next; k++) {
		uint64_t off = ext[k].e_foff - mo.mo_foff;

		if (ext[k].e_foff < mo.mo_foff || !pf_range_ok(off, ext[k].e_len, PF_CHUNK_SIZE))
			return -EPROTO;
		for (uint64_t o = 0; o < ext[k].e_len; o += SH_PAGE)
			pages[(off + o) / SH_PAGE] = ext[k].e_doff == PF_P_DOFF_BAD ? SH_PG_BAD : ext[k].e_doff + o;
	}
	return 0;
}
