/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault.c - what watch and serve do: page faults, the daemon's answers to them, and invalidations. serve is the
 * only thread here that changes slots; it takes sh.lock for each step and never waits for the daemon.
 *
 *   fault -> want -> slot of (file, chunk)
 *                      LIVE, page known      map it, wake
 *                      page not known        SETUPMAPPING; wants of the chunk queue behind it
 *                      no slot free          send an idle one away; wants queue in the session
 *
 * A want that an answer did not satisfy because somebody else's page was asked for is simply served again.
 */
#include "longterm.h"
#include "trace.h"
#include "queue.h"
#include "transient.h"
#include "async.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#define STORES (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)
#define POISON_MS 50			/* how long a failed page stays SIGBUS at most */
#define POISON_LOOK_MS 1

struct poison {
	struct poison *next;
	uint64_t addr;
	uint64_t until_ns;
	uint32_t tid;			/* of the thread that has to see it */
	uint64_t runs;			/* how often it had run before */
};
static struct poison *poisons;		/* serve only; oldest last */

/* ---- watch ---- */

void sh_want_push(struct sh_want *w)
{
	w->trace_ns = sh_trace_begin();
	w->next = atomic_load(&sh.faults);
	while (!atomic_compare_exchange_weak(&sh.faults, &w->next, w))
		;
}

void *sh_watch_main(void *arg)
{
	struct uffd_msg m[16];
	struct timespec ms = { .tv_nsec = 1000000 };

	sh_is_crew = true;
	sh_name_thread("pinfs-watch");
	for (;;) {
		long r = sh_sys(SYS_read, sh.uffd, m, sizeof m);

		if (r < 0)
			sh_watch_failed(r);

		for (size_t i = 0; r > 0 && i < (size_t)r / sizeof m[0]; i++) {
			struct sh_want *w;

			if (m[i].event != UFFD_EVENT_PAGEFAULT)
				continue;	/* REMAP: reading it is what lets mremap return */
			w = sh_alloc(sizeof *w);
			if (w == NULL) {
				/* It will fault again; by then there may be memory. */
				(void)sh_sys(SYS_nanosleep, &ms, NULL);
				sh_uffd_wake(pf_round_down(m[i].arg.pagefault.address, SH_PAGE), SH_PAGE);
				continue;
			}
			w->addr = pf_round_down(m[i].arg.pagefault.address, SH_PAGE);
			w->write = (m[i].arg.pagefault.flags & STORES) != 0;
			w->tid = m[i].arg.pagefault.feat.ptid;
			sh_want_push(w);
		}
		sh_serve_bell();
	}
	return arg;
}

/* ---- ends of a want ---- */

uint64_t sh_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* How often a thread of this process has been given a processor; 0: the kernel does not say. */
static uint64_t runs_of(uint32_t tid)
{
	char path[64], text[128];
	unsigned long long ran, waited, n = 0;
	long fd, r;

	(void)snprintf(path, sizeof path, "/proc/self/task/%u/schedstat", tid);
	fd = sh_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	r = sh_sys(SYS_read, fd, text, sizeof text - 1);
	(void)sh_sys(SYS_close, fd);
	text[r > 0 ? r : 0] = '\0';
	return sscanf(text, "%llu %llu %llu", &ran, &waited, &n) == 3 ? n : 0;
}

/* The page gives SIGBUS, as a kernel fault that fails; unlike it we cannot see whether it was delivered. But the thread
 * sleeps in its fault now, and goes on with the access when it runs again: so when it has, the page is made an
 * ordinary missing one again. A thread that comes late asks the daemon once more. */
static void poison(struct sh_vma *v, uint64_t addr, uint32_t tid)
{
	struct poison *p = sh_alloc(sizeof *p);

	if (p != NULL) {
		p->tid = tid;
		p->runs = runs_of(tid);
	}
	sh_map_sigbus(v, addr, addr + SH_PAGE);
	if (p == NULL)
		return;
	p->addr = addr;
	p->until_ns = sh_now_ns() + POISON_MS * UINT64_C(1000000);
	p->next = poisons;
	poisons = p;
}

void sh_fault_forget(void)
{
	poisons = NULL;
	sh_budget_forget();
}

int sh_serve_timeout_ms(void)
{
	const int each[] = { sh_budget_timeout_ms(), sh_flights_timeout_ms(), sh_queue_timeout_ms(),
			     sh_long_timeout_ms() };
	int ms = poisons ? POISON_LOOK_MS : -1;

	for (size_t i = 0; i < PF_ARRAY_LEN(each); i++)
		if (each[i] >= 0 && (ms < 0 || each[i] < ms))
			ms = each[i];
	return ms;
}

void sh_serve_timer(void)
{
	struct poison **p = &poisons, *due;
	struct sh_vma *v;
	sh_sigs old;

	sh_queue_timer();
	sh_budget_timer();
	sh_flights_timer();
	sh_long_timer();
	if (poisons == NULL)
		return;
	sh_lock(&old);
	while ((due = *p) != NULL) {
		if (due->until_ns > sh_now_ns() && (due->runs == 0 || runs_of(due->tid) <= due->runs)) {
			p = &due->next;
			continue;
		}
		*p = due->next;
		v = sh_vma_find(due->addr);
		if (v != NULL && !atomic_load(&v->map->file->ses->lost))
			sh_zap(v, sh_vma_foff(v, due->addr), SH_PAGE);
		sh_free(due, sizeof *due);
	}
	sh_unlock(&old);
}

void sh_want_end(struct sh_want *w, int err)
{
	struct sh_vma *v;

	SH_PROBE_FAULT(w, w->trace_ns, err);
	if (w->waiter != NULL) {
		sh_wake(w->waiter, err);
	} else if (err) {
		v = sh_vma_find(w->addr);
		if (v == NULL)
			sh_uffd_wake(w->addr, SH_PAGE);
		else if (err == -ENOTCONN)
			sh_map_sigbus(v, v->lo, v->hi);
		else
			poison(v, w->addr, w->tid);
		sh_log(SH_DEBUG, "fault at %#llx: error %d", (unsigned long long)w->addr, -err);
	}
	sh_free(w, sizeof *w);
}

/* ---- a want, step by step; lock held ---- */

static void queue_on(struct sh_slot *sl, struct sh_want *w)
{
	w->next = NULL;
	if (sl->sl_wants == NULL)
		sl->sl_wants = w;
	else
		sl->sl_wtail->next = w;
	sl->sl_wtail = w;
}

/* Is it a store to the file? */
static bool stores(const struct sh_want *w)
{
	return w->write && !w->private;
}

static void ask(struct sh_slot *sl, struct sh_want *w, uint64_t foff)
{
	struct sh_file *f = sl->sl_file;
	struct pf_p_map_in in = {
		.mi_map = { .fh = f->fh, .foffset = sl->sl_chunk << PF_CHUNK_SHIFT, .len = PF_CHUNK_SIZE,
			    .flags = FUSE_SETUPMAPPING_FLAG_READ | (stores(w) ? FUSE_SETUPMAPPING_FLAG_WRITE : 0),
			    .moffset = (uint64_t)sl->sl_idx << PF_CHUNK_SHIFT },
		.mi_fault_foff = foff,
		.mi_flags = w->private ? PF_MI_PRIVATE : 0,
	};
	struct sh_req *r = sh_alloc(sizeof *r);
	int err = -ENOMEM;

	sl->sl_state = SH_SETTING;
	if (r != NULL) {
		r->slot = sl;
		r->cause = w;
		err = sh_send(f->ses, r, FUSE_SETUPMAPPING, &in, sizeof in);
	}
	if (err) {
		sl->sl_state = SH_LIVE;		/* of unknown pages: as good as none */
		sh_free(r, sizeof *r);
		sh_want_end(w, err);
	}
}

/* Kernel mappings are limited (vm.max_map_count); fragmented files use many. Give all of them back and begin anew. */
static int map_hard(struct sh_vma *v, struct sh_slot *sl, uint64_t addr)
{
	int err = sh_map_page(v, sl, addr);

	if (err != -ENOMEM)
		return err;
	for (struct sh_vma *o = sh_vma_next(0); o != NULL; o = sh_vma_next(o->hi)) {
		if (!atomic_load(&o->map->file->ses->lost))
			sh_zap(o, 0, UINT64_MAX);
	}
	return sh_map_page(v, sl, addr);
}

static void serve_fault(struct sh_want *w, struct sh_vma *v, struct sh_slot *sl, uint64_t pg)
{
	int err = w->private ? sh_keep_back(v, w->addr, pg) : 0;

	if (err != 0) {
		sh_want_end(w, err < 0 ? err : 0);
		return;
	}
	if (stores(w) && sl->sl_stored)
		sh_map_stored(v, sl);
	if (sh_pg_here(pg) || sh_pg_bus(pg)) {
		if (!sh_page_mapped(v, w->addr))
			err = map_hard(v, sl, w->addr);
		else if (!w->private)
			sh_uffd_wake(w->addr, SH_PAGE);		/* somebody was faster */
	} else if (!w->private || !w->write) {
		err = sh_map_zero(v, sl, w->addr);
	}
	if (!err && w->private && (w->write || sh_page_mapped(v, w->addr)))
		err = w->write && !sh_pg_bus(pg) ? sh_copy_page(v, w->addr, pg) : (sh_uffd_wake(w->addr, SH_PAGE), 0);
	sh_budget_served(sl, w);
	sh_want_end(w, err);
}

/* Does the daemon have to be asked for this page? */
static bool unclear(const struct sh_want *w, const struct sh_slot *sl, uint64_t pg)
{
	if (pg == SH_PG_UNKNOWN || (pg == SH_PG_HOLE && stores(w)))
		return true;
	/* The first store since the last invalidation or msync(): the file's times move. */
	if (sh_pg_here(pg) && stores(w) && !sl->sl_stored)
		return true;
	return w->private && !sl->sl_file->told;
}

void sh_serve_want(struct sh_want *w)
{
	struct sh_vma *v = NULL;
	struct sh_file *f = w->file;
	struct sh_slot *sl;
	uint64_t pg;

	if (w->addr != 0) {
		v = sh_vma_find(w->addr);
		if (v == NULL) {
			/* Unmapped meanwhile: the thread finds out itself. */
			sh_uffd_wake(w->addr, SH_PAGE);
			sh_want_end(w, 0);
			return;
		}
		f = v->map->file;
		w->foff = sh_vma_foff(v, w->addr);
		w->private = v->map->private;
	}
	if (atomic_load(&f->ses->lost)) {
		sh_want_end(w, -ENOTCONN);
		return;
	}
	if (v != NULL && sh_is_gone(v, w->foff, 1)) {
		sh_map_sigbus(v, w->addr, w->addr + SH_PAGE);
		sh_want_end(w, w->waiter != NULL ? -EFAULT : 0);
		return;
	}
	sl = sh_slot_find(f, w->foff >> PF_CHUNK_SHIFT);
	if (sl == NULL) {
		sl = sh_budget_slot(f, w->foff >> PF_CHUNK_SHIFT, w);
		if (sl != NULL)
			ask(sl, w, w->foff);
		return;
	}
	if (sl->sl_state != SH_LIVE) {
		queue_on(sl, w);
		return;
	}
	pg = atomic_load_explicit(&sl->sl_page[w->foff / SH_PAGE % SH_CHUNK_PAGES], memory_order_relaxed);
	if (unclear(w, sl, pg))
		ask(sl, w, w->foff);
	else if (v != NULL)
		serve_fault(w, v, sl, pg);
	else if ((atomic_load(&sl->sl_led->ls_word) & ~PF_SLOT_FROZEN) != atomic_load(&sl->sl_word))
		ask(sl, w, w->foff);	/* a pin needs page addresses of the present generation */
	else {
		sh_budget_served(sl, w);
		sh_want_end(w, sh_pg_here(pg) ? 0 : pg == SH_PG_BAD ? -EIO : -EFAULT);
	}
}

static void serve_list(struct sh_want *w)
{
	struct sh_want *next;

	for (; w != NULL; w = next) {
		next = w->next;
		sh_serve_want(w);
	}
}

void sh_prefault(uint64_t addr, uint64_t len, bool store)
{
	uint64_t at = pf_round_down(addr, SH_PAGE), end = len > UINT64_MAX - addr ? UINT64_MAX : addr + len;
	int need = store ? PROT_WRITE : PROT_READ;
	struct sh_waiter wait;
	sh_sigs sigs, old;
	struct sh_want *w;
	struct sh_vma *v;
	sigset_t all;
	bool mapped;

	/* A handler that jumps away would leave serve with a waiter on a stack that has gone. */
	memset(&all, 0xff, sizeof all);
	(void)sh_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, &sigs, (size_t)8);
	while (at < end) {
		sh_lock(&old);
		v = sh_vma_next(at);
		if (v != NULL && v->lo > at)
			at = v->lo;
		/* A store would need it writable; what the protection forbids is the call's own business. */
		mapped = v != NULL && at < end && (sh_page_mapped(v, at) || !(v->prot & need));
		sh_unlock(&old);
		if (v == NULL || at >= end)
			break;
		if (!mapped) {
			w = sh_alloc(sizeof *w);
			if (w == NULL)
				break;
			sh_wait_init(&wait);
			w->addr = at;
			w->write = store;
			w->tid = (uint32_t)sh_sys(SYS_gettid);
			w->waiter = &wait;
			sh_want_ring(w);
			if (sh_wait(&wait))
				break;
		}
		at += SH_PAGE;
	}
	sh_sigs_restore(&sigs);
}

void sh_serve_faults(void)
{
	struct sh_want *w = atomic_exchange(&sh.faults, NULL), *list = NULL, *next;
	sh_sigs old;

	for (; w != NULL; w = next) {
		next = w->next;
		w->next = list;
		list = w;
	}
	for (; list != NULL; list = next) {
		next = list->next;
		atomic_fetch_add(&sh.nfault, 1);
		sh_lock(&old);
		sh_serve_want(list);
		sh_unlock(&old);
	}
}

/* ---- answers ---- */

static int parse(const struct sh_slot *sl, const void *body, size_t len, struct pf_p_map_out *mo)
{
	if (len < sizeof *mo)
		return -EPROTO;
	memcpy(mo, body, sizeof *mo);
	if (mo->mo_next > PF_P_EXT_MAX || len - sizeof *mo < mo->mo_next * sizeof(struct pf_p_extent) ||
	    mo->mo_slot != sl->sl_idx || mo->mo_foff != sl->sl_chunk << PF_CHUNK_SHIFT)
		return -EPROTO;
	return 0;
}

/*
 * Take an answer over. Where the chunk was shown differently before and no invalidation came for it (our own
 * write fault filled a hole), the other mappings of the chunk still have the old picture: zeros,
 * write-protected, so nothing is lost by replacing them.
 */
static int take(struct sh_slot *sl, const void *body, size_t len)
{
	struct pf_p_map_out mo;
	const struct pf_p_extent *ext = (const void *)((const char *)body + sizeof mo);
	uint64_t filled[SH_CHUNK_PAGES / 64];
	int err = parse(sl, body, len, &mo);
	unsigned int changed;

	if (!err && sl->sl_fresh)
		err = sh_holds_follow(sl);
	if (err)
		return err;
	sl->sl_fresh = false;
	changed = sh_slot_fill(sl, &mo, ext, filled);
	if (changed & SH_CHANGED)
		sh_zap_file(sl->sl_file, sl->sl_chunk << PF_CHUNK_SHIFT, PF_CHUNK_SIZE);
	for (struct sh_vma *v = sl->sl_file->vmas; changed == SH_FILLED && v != NULL; v = v->fnext)
		sh_map_filled(v, sl, filled);
	return 0;
}

void sh_serve_mapped(struct sh_req *r, int err, const void *body, size_t len)
{
	struct sh_slot *sl = r->slot;
	struct sh_want *w = r->cause, *list;
	struct sh_file *f;
	uint64_t pg;
	sh_sigs old;

	sh_lock(&old);
	list = sl->sl_wants;
	sl->sl_wants = NULL;
	f = sl->sl_file;
	if (sl->sl_state == SH_DEAD) {
		/* Killed while we asked: ask again, for another slot. */
		sl->sl_dead_wait = false;
		sh_serve_want(w);
		sh_slot_bury(sl);
	} else if (err == -EBUSY || err == -ESTALE) {
		sh_log(SH_DEBUG, "slot %u is refused: error %d", sl->sl_idx, -err);
		sh_slot_kill(sl);
		if (++w->tries > 3)
			sh_want_end(w, err);
		else
			sh_serve_want(w);
	} else {
		sl->sl_state = SH_LIVE;
		if (!err)
			err = take(sl, body, len);
		if (!err && stores(w))
			sl->sl_stored = true;
		if (!err && w->private)
			f->told = true;
		pg = atomic_load_explicit(&sl->sl_page[w->foff / SH_PAGE % SH_CHUNK_PAGES], memory_order_relaxed);
		if (!err && (pg == SH_PG_UNKNOWN || (pg == SH_PG_HOLE && stores(w))))
			err = -EIO;		/* it said yes and gave nothing */
		if (err)
			sh_want_end(w, err);
		else
			sh_serve_want(w);
	}
	serve_list(list);
	if (sl->sl_ses->starved != NULL)
		sh_budget_run(sl->sl_ses);	/* it can be taken back now */
	if (f != NULL && f->refs == 0 && sl->sl_file == f)
		sh_crew_kick(sl);		/* sh_file_idle() has been waiting for this answer */
	sh_unlock(&old);
}

int sh_serve_pinned(struct sh_req *r, const void *body, size_t len)
{
	struct sh_slot *sl = r->slot;
	sh_sigs old;
	int err = 0;

	sh_lock(&old);
	if (len > r->out_bytes) {
		err = -EPROTO;
	} else {
		memcpy(r->out, body, len);
		if (sl->sl_state == SH_LIVE || sl->sl_state == SH_SETTING)
			err = take(sl, body, len);
	}
	sh_unlock(&old);
	return err;
}

void sh_serve_removed(struct sh_req *r, int err)
{
	struct sh_slot *sl = r->slot;
	struct sh_session *s = sl->sl_ses;
	struct sh_want *list;
	sh_sigs old;

	sh_lock(&old);
	list = sl->sl_wants;
	sl->sl_wants = NULL;
	s->removing--;
	sl->sl_dead_wait = false;
	if (err == -EBUSY && sl->sl_file != NULL) {
		sl->sl_state = SH_LIVE;
		sh_budget_busy(sl);
	} else if (err == -EBUSY) {
		sl->sl_state = SH_DEAD;
		atomic_store(&sl->sl_watch, 1);
		if (!sh_slot_pinned(sl))
			sh_crew_kick(sl);	/* the unpin was before the watch */
	} else {
		sh_slot_free(sl);
	}
	serve_list(list);
	sh_budget_run(s);
	sh_unlock(&old);
}

/* The blocks under the slot have left the file, pins stay: another slot takes over for the chunk. */
static void dead(struct sh_slot *sl)
{
	struct sh_want *list;

	if (sl->sl_state == SH_SETTING || sl->sl_state == SH_REMOVING) {
		/* The answer under way finds it dead; wants wait for that. */
		sl->sl_dead_wait = true;
		list = NULL;
	} else {
		list = sl->sl_wants;
		sl->sl_wants = NULL;
	}
	sh_slot_kill(sl);
	serve_list(list);
}

void sh_serve_inval(struct sh_session *s, const struct pf_p_inval *in)
{
	const uint64_t grain = s->whole ? PF_CHUNK_SIZE : 1;
	uint64_t foff = pf_round_down(in->in_foff, grain), len = in->in_len;
	struct pf_p_ack_in ack = { .ak_id = in->in_id };
	struct sh_slot *sl, *next;
	uint64_t since = sh_trace_begin();
	struct sh_file *f;
	sh_sigs old;

	sh_queue_hurry();			/* what it wants may be in a pipe */
	if (len < UINT64_MAX - in->in_foff - PF_CHUNK_SIZE)
		len = pf_round_up(in->in_foff + len, grain) - foff;
	sh_lock(&old);
	f = sh_file_by_ino(s, in->in_ino);
	if (f != NULL && (in->in_flags & PF_IN_DROP)) {
		for (struct sh_vma *v = f->vmas; v != NULL; v = v->fnext)
			sh_keep_drop(v, in->in_foff);
	} else if (f != NULL) {
		for (struct sh_vma *v = f->vmas; v != NULL && (in->in_flags & PF_IN_CUT); v = v->fnext)
			sh_keep(v, in->in_foff);
		for (sl = f->slots; sl != NULL; sl = next) {
			next = sl->sl_fnext;
			sh_slot_forget(sl, foff, len);
			if ((in->in_flags & PF_IN_DEAD) && sl->sl_idx == in->in_slot)
				dead(sl);
		}
		sh_zap_file(f, foff, len);
	}
	sh_unlock(&old);
	SH_PROBE_UNMAP(s, in, since);
	sh_flights_poke();
	if (in->in_id != 0)
		(void)sh_send(s, NULL, PF_P_INVAL_ACK, &ack, sizeof ack);
}

unsigned int sh_serve_windows(struct sh_session *s)
{
	unsigned int n = 0;
	sh_sigs old;

	sh_lock(&old);
	for (unsigned int i = 0; i < SH_FILES; i++) {
		for (struct sh_file *f = s->files[i]; f != NULL; f = f->next) {
			for (struct sh_vma *v = f->vmas; v != NULL; v = v->fnext)
				n++;
		}
	}
	sh_unlock(&old);
	return n;
}

/* The session is over: every window of it is SIGBUS, as a mapping whose device went away. */
void sh_serve_lost(struct sh_session *s)
{
	sh_sigs old;

	sh_lock(&old);
	atomic_fetch_add(&sh_life.vgen, 1);		/* pins find out, too */
	for (unsigned int i = 0; i < SH_FILES; i++) {
		for (struct sh_file *f = s->files[i]; f != NULL; f = f->next) {
			for (struct sh_vma *v = f->vmas; v != NULL; v = v->fnext)
				sh_map_sigbus(v, v->lo, v->hi);
		}
	}
	sh_serve_leases_lost(s);
	sh_budget_run(s);
	for (uint32_t i = 0; i < s->fresh_slots; i++) {
		struct sh_want *list = s->slots[i].sl_wants;

		if (s->slots[i].sl_state == SH_SETTING || s->slots[i].sl_state == SH_REMOVING)
			continue;	/* with its request */
		s->slots[i].sl_wants = NULL;
		serve_list(list);
	}
	sh_unlock(&old);
}
