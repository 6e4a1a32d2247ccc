/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * trace.c - events of this process for a trace: into the ring in the session's ledger, which is mapped when the daemon
 * says for the first time that somebody traces, and never unmapped. Takes no lock; serve alone turns it on and off.
 */
#include "trace.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

/* ---- on and off: serve ---- */

static void map_ring(struct sh_session *s)
{
	void *p = sh_mmap(NULL, PF_T_RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s->ledfd, s->trace_off);

	if (sh_mmap_err(p) != 0) {
		sh_log(SH_WARN, "no memory for a trace: its events are missing there");
		return;
	}
	(void)sh_sys(SYS_madvise, p, PF_T_RING_BYTES, MADV_DONTFORK);
	atomic_store(&s->ring, p);
}

void sh_trace_set(struct sh_session *s, bool on)
{
	if (on == s->traced)
		return;
	if (on && atomic_load(&s->ring) == NULL && s->trace_off != 0)
		map_ring(s);
	if (atomic_load(&s->ring) == NULL)
		return;
	s->traced = on;
	atomic_store(&s->ring_on, on);
	if (on)
		atomic_fetch_add(&sh_life.trace, 1);
	else
		atomic_fetch_sub(&sh_life.trace, 1);
}

/* ---- events ---- */

static void put(struct sh_session *s, struct pf_t_ev *ev)
{
	struct pf_t_ring *r = atomic_load(&s->ring);

	if (r == NULL || !atomic_load_explicit(&s->ring_on, memory_order_relaxed))
		return;
	if (ev->te_tid == 0)
		ev->te_tid = sh_tls_ptr != NULL ? sh_tls_ptr->tid : (uint32_t)sh_sys(SYS_gettid);
	ev->te_pid = (uint32_t)sh.pid;
	pf_t_push(r, ev);
}

/* @since: when it began, or 0. */
static void put_slice(struct sh_session *s, struct pf_t_ev *ev, uint64_t since)
{
	ev->te_ns = sh_now_ns();
	if (since != 0 && since < ev->te_ns) {
		ev->te_dur = ev->te_ns - since;
		ev->te_ns = since;
	}
	put(s, ev);
}

static uint64_t pin_id(const struct pinfs_pin *p)
{
	return p->rec != NULL ? (uint64_t)(p->rec - p->ses->lrecs) : PF_T_NO_RECORD | sh_addr(p) >> 4;
}

void sh_trace_pin(const struct pinfs_pin *p)
{
	struct pf_t_ev ev = { .te_type = PF_TE_PIN, .te_id = pin_id(p), .te_ino = p->ino, .te_foff = p->foff,
			      .te_len = p->len };

	sh_stack_note(p);
	if (p->rec != NULL) {
		ev.te_arg = p->rec->lr_api;
		memcpy(ev.te_text, p->rec->lr_label, sizeof p->rec->lr_label);
	}
	if (p->flags & PINFS_PIN_WRITE)
		ev.te_flags = PF_TF_WRITE;
	put_slice(p->ses, &ev, sh_tls_ptr != NULL ? sh_tls_ptr->slow_ns : 0);
	if (sh_tls_ptr != NULL)
		sh_tls_ptr->slow_ns = 0;
}

void sh_trace_refused(const struct pinfs_pin *p, uint64_t since, uint64_t foff, uint64_t len, int err)
{
	struct pf_t_ev ev = { .te_type = PF_TE_PIN, .te_id = PF_T_NO_PIN, .te_foff = foff, .te_len = len,
			      .te_err = err };

	if (p != NULL)
		put_slice(p->ses, &ev, since);
	if (sh_tls_ptr != NULL)
		sh_tls_ptr->slow_ns = 0;
}

void sh_trace_unpin(const struct pinfs_pin *p)
{
	struct pf_t_ev ev = { .te_type = PF_TE_UNPIN, .te_id = pin_id(p), .te_ino = p->ino, .te_foff = p->foff,
			      .te_len = p->len };

	put_slice(p->ses, &ev, 0);
}

void sh_trace_label(const struct pinfs_pin *p)
{
	struct pf_t_ev ev = { .te_type = PF_TE_LABEL, .te_id = pin_id(p), .te_ino = p->ino };

	if (p->rec == NULL)
		return;
	memcpy(ev.te_text, p->rec->lr_label, sizeof p->rec->lr_label);
	put_slice(p->ses, &ev, 0);
}

void sh_trace_fault(const struct sh_want *w, uint64_t since, int err)
{
	struct pf_t_ev ev = { .te_type = PF_TE_FAULT, .te_foff = w->foff, .te_len = SH_PAGE, .te_arg = w->addr,
			      .te_tid = w->tid, .te_err = err, .te_flags = w->write ? PF_TF_WRITE : 0 };
	const struct sh_file *f = w->file;
	const struct sh_vma *v = w->addr != 0 ? sh_vma_find(w->addr) : NULL;

	if (v != NULL)
		f = v->map->file;
	if (f == NULL)
		return;			/* unmapped meanwhile */
	ev.te_ino = f->ino;
	put_slice(f->ses, &ev, since);
}

void sh_trace_unmap(struct sh_session *s, const struct pf_p_inval *in, uint64_t since)
{
	struct pf_t_ev ev = { .te_type = PF_TE_UNMAP, .te_id = in->in_id, .te_ino = in->in_ino,
			      .te_foff = in->in_foff, .te_len = in->in_len };

	put_slice(s, &ev, since);
}

/* ---- a device's work, said by whoever drives it ---- */

PF_EXPORT int pinfs_trace(const struct pinfs_pin *pin, unsigned int what, const struct pinfs_event *e)
{
	static const uint16_t type[] = { [PINFS_TRACE_DMA_START] = PF_TE_DMA_START,
					 [PINFS_TRACE_DMA_BURST] = PF_TE_DMA_BURST,
					 [PINFS_TRACE_DMA_END] = PF_TE_DMA_END };
	struct pf_t_ev ev;

	if (e == NULL || what >= PF_ARRAY_LEN(type))
		return -EINVAL;
	PF_USDT(dma, what, e->ev_id, e->ev_ino, e->ev_foff, e->ev_len);
	if (!sh_tracing())
		return 0;
	ev = (struct pf_t_ev){ .te_type = type[what], .te_id = e->ev_id, .te_ino = e->ev_ino, .te_foff = e->ev_foff,
			       .te_len = e->ev_len, .te_err = e->ev_err,
			       .te_arg = pin != NULL ? pin_id(pin) : PF_T_NO_PIN,
			       .te_flags = e->ev_flags & PINFS_PIN_WRITE ? PF_TF_WRITE : 0 };
	if (e->ev_label != NULL)
		memcpy(ev.te_text, e->ev_label, strnlen(e->ev_label, sizeof ev.te_text - 1));
	for (struct sh_session *s = sh.sessions; s != NULL; s = s->next)
		if (pin == NULL || pin->ses == s)
			put_slice(s, &ev, 0);
	return 0;
}
