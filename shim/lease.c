/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.c - layout leases (include/pinfs/lease.h): asking the daemon for one, hearing what becomes of it, and windows
 * that were revoked. Takes sh.lock; serve calls the sh_serve_ functions. What changes hands is handover.c.
 */
#include "lease.h"
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- objects ---- */

struct pinfs_lease *sh_lease_new(struct sh_file *f)
{
	struct pinfs_lease *l = sh_alloc(sizeof *l);
	sh_sigs old;

	if (l == NULL)
		return NULL;
	l->ses = f->ses;
	l->file = f;
	l->epoch = atomic_load(&sh_life.epoch);
	l->event = -1;
	sh_lock(&old);
	l->next = l->ses->leases;
	if (l->next != NULL)
		l->next->pprev = &l->next;
	l->pprev = &l->ses->leases;
	l->ses->leases = l;
	sh_unlock(&old);
	return l;
}

static int close_event(void *arg)
{
	return (int)sh_sys(SYS_close, ((struct pinfs_lease *)arg)->event);
}

void sh_lease_free(struct pinfs_lease *l)
{
	sh_sigs old;

	sh_lock(&old);
	*l->pprev = l->next;
	if (l->next != NULL)
		l->next->pprev = l->pprev;
	sh_unlock(&old);
	if (l->event >= 0)
		(void)sh_crew_call(close_event, l);
	sh_free(l->give, l->give_bytes);
	sh_file_put(l->file);
	sh_free(l, sizeof *l);
}

int sh_lease_mine(const struct pinfs_lease *l)
{
	if (l == NULL)
		return -EINVAL;
	sh_alive();
	if (l->epoch != atomic_load(&sh_life.epoch))
		return -ECHILD;
	return atomic_load(&l->ses->lost) ? -ENOTCONN : 0;
}

struct rpc {
	struct sh_session *ses;
	uint32_t op;
	const void *in;
	void *out;
	size_t len, out_len;
};

static int rpc_in_crew(void *arg)
{
	struct rpc *r = arg;

	return sh_rpc(r->ses, r->op, r->in, r->len, r->out, r->out_len);
}

int sh_lease_rpc(struct sh_session *s, uint32_t op, const void *in, size_t len, void *out, size_t out_len)
{
	struct rpc r = { .ses = s, .op = op, .in = in, .len = len, .out = out, .out_len = out_len };

	return sh_crew_call(rpc_in_crew, &r);
}

/* ---- take, test ---- */

/* Whole pages. len 0 or UINT64_MAX: to the end. */
static int to_pages(uint64_t foff, uint64_t len, struct pf_p_lease_in *in)
{
	in->le_foff = pf_round_down(foff, SH_PAGE);
	in->le_len = UINT64_MAX;
	if (len == 0 || len == UINT64_MAX)
		return 0;
	if (len > UINT64_MAX - SH_PAGE - foff)
		return -EINVAL;
	in->le_len = pf_round_up(foff + len, SH_PAGE) - in->le_foff;
	return 0;
}

static int check(unsigned int flags)
{
	unsigned int kind = flags & (PINFS_LEASE_READ | PINFS_LEASE_WRITE);

	return (flags & ~(PINFS_LEASE_READ | PINFS_LEASE_WRITE | PINFS_LEASE_UNBREAK)) == 0 &&
	       (kind == PINFS_LEASE_READ || kind == PINFS_LEASE_WRITE) ? 0 : -EINVAL;
}

/* Of a descriptor, by the right that it gives. */
static int file_of(int fd, unsigned int flags, struct sh_file **out)
{
	long mode = sh_sys(SYS_fcntl, fd, F_GETFL);
	bool write;

	if (mode < 0)
		return (int)mode;
	write = (mode & O_ACCMODE) != O_RDONLY;
	if ((flags & PINFS_LEASE_WRITE) && !write)
		return -EACCES;
	return sh_file_get(fd, write, out);
}

/* Takes the file's reference over. */
static int take(struct sh_file *f, const struct pf_p_lease_in *in, struct pinfs_lease **out)
{
	struct { struct pf_p_lease_in in; struct pf_t_stack who; } m = { .in = *in };
	struct pinfs_lease *l = sh_lease_new(f);
	int err;

	if (l == NULL) {
		sh_file_put(f);
		return -ENOMEM;
	}
	m.in.le_what = PF_P_LEASE_TAKE;
	m.in.le_fh = f->fh;
	err = sh_lease_rpc(f->ses, PF_P_LEASE, &m, sizeof m.in + sh_stack_send(&m.who), &l->out, sizeof l->out);
	if (err) {
		sh_lease_free(l);
		return err;
	}
	*out = l;
	return 0;
}

PF_EXPORT int pinfs_lease_take(int fd, uint64_t foff, uint64_t len, unsigned int flags, struct pinfs_lease **out)
{
	struct pf_p_lease_in in = { .le_flags = flags };
	struct sh_file *f;
	int err = out == NULL ? -EINVAL : check(flags);

	if (!err)
		err = to_pages(foff, len, &in);
	if (err)
		return err;
	sh_alive();
	err = file_of(fd, flags, &f);
	return err ? err : take(f, &in, out);
}

PF_EXPORT int pinfs_lease_take_window(const void *addr, size_t len, unsigned int flags, struct pinfs_lease **out)
{
	struct pf_p_lease_in in = { .le_flags = flags };
	struct pinfs_range_info ri;
	struct sh_file *f = NULL;
	struct sh_vma *v;
	sh_sigs old;
	int err = out == NULL ? -EINVAL : check(flags);

	if (!err)
		err = pinfs_range_query(addr, len, &ri);
	if (!err)
		err = to_pages(ri.ri_foff, len, &in);
	if (err)
		return err;
	sh_lock(&old);
	v = sh_vma_find(sh_addr(addr));
	if (v != NULL && v->map->file->ino == ri.ri_ino) {
		err = (flags & PINFS_LEASE_WRITE) && !v->map->write ? -EACCES : 0;
		f = v->map->file;
		f->refs += err == 0;
	}
	sh_unlock(&old);
	if (f == NULL)
		return -EFAULT;			/* unmapped meanwhile */
	return err ? err : take(f, &in, out);
}

static void tell(const struct pf_p_lease_out *o, struct pinfs_lease_info *info)
{
	*info = (struct pinfs_lease_info){
		.li_foff = o->lo_foff, .li_len = o->lo_len, .li_flags = o->lo_flags, .li_state = o->lo_state,
		.li_pid = (pid_t)o->lo_pid,
	};
}

PF_EXPORT int pinfs_lease_test(int fd, uint64_t foff, uint64_t len, unsigned int flags, struct pinfs_lease_info *info)
{
	struct pf_p_lease_in in = { .le_flags = flags, .le_what = PF_P_LEASE_TEST };
	struct pf_p_lease_out out;
	struct sh_file *f;
	int err = check(flags);

	if (!err)
		err = to_pages(foff, len, &in);
	if (err)
		return err;
	sh_alive();
	err = file_of(fd, flags, &f);
	if (err)
		return err;
	in.le_fh = f->fh;
	err = sh_lease_rpc(f->ses, PF_P_LEASE, &in, sizeof in, &out, sizeof out);
	if (!err && out.lo_state != PF_P_LEASE_FREE) {
		err = -EAGAIN;
		if (info != NULL) {
			tell(&out, info);
			info->li_ino = f->ino;
		}
	}
	sh_file_put(f);
	return err;
}

/* ---- a lease that one has ---- */

PF_EXPORT int pinfs_lease_query(const struct pinfs_lease *l, struct pinfs_lease_info *info)
{
	int err = info == NULL ? -EINVAL : sh_lease_mine(l);
	uint64_t now = sh_now_ns(), until;

	if (err)
		return err;
	until = atomic_load(&l->until_ns);
	tell(&l->out, info);
	info->li_ino = l->file->ino;
	info->li_state = atomic_load(&l->state);
	if (info->li_state == PINFS_LEASE_BREAKING && until > now)
		info->li_left_ms = (until - now + 999999) / 1000000;
	return 0;
}

static int ask(struct pinfs_lease *l, uint32_t what, struct pf_p_lease_out *out)
{
	struct pf_p_lease_in in = { .le_what = what, .le_id = l->out.lo_id };

	return sh_lease_rpc(l->ses, PF_P_LEASE, &in, sizeof in, out, sizeof *out);
}

PF_EXPORT int pinfs_lease_downgrade(struct pinfs_lease *l)
{
	struct pf_p_lease_out out = { .lo_flags = 0 };
	int err = sh_lease_mine(l);

	if (!err && atomic_load(&l->state) == PINFS_LEASE_BROKEN)
		err = -ESTALE;
	if (!err)
		err = ask(l, PF_P_LEASE_DOWNGRADE, &out);
	if (!err)
		l->out.lo_flags = out.lo_flags;
	return err;
}

PF_EXPORT int pinfs_lease_drop(struct pinfs_lease *l)
{
	struct pf_p_lease_out out;
	int err = sh_lease_mine(l);

	if (err == -EINVAL || err == -ECHILD)
		return err;
	if (!err)
		err = ask(l, PF_P_LEASE_DROP, &out);
	if (err == -EBUSY)
		return err;
	sh_lease_free(l);
	/* It was handed over, or the connection is gone: there is nothing to give back. */
	return err == -ESTALE || err == -ENOTCONN ? 0 : err;
}

PF_EXPORT int pinfs_lease_retract(struct pinfs_lease *l)
{
	struct pf_p_lease_out out;
	int err = sh_lease_mine(l);

	if (!err && !l->exported)
		err = l->moved ? -ESTALE : -EINVAL;
	if (!err)
		err = ask(l, PF_P_LEASE_RETRACT, &out);
	if (err == -EINVAL && l->exported)
		err = 0;			/* the daemon did it, because somebody waits for the lease */
	if (err)
		return err;
	for (uint32_t i = 0; i < l->ngive; i++)
		l->give[i]->give = SH_GIVE_NONE;
	l->ngive = 0;
	l->exported = false;
	return 0;
}

/* ---- events ---- */

struct event_call {
	struct pinfs_lease *l;
	int tid, fd;
};

static int set_event(void *arg)
{
	struct event_call *c = arg;
	int fd = sh_crew_take_fd(c->tid, c->fd), old_fd;
	const uint64_t one = 1;
	sh_sigs old;

	if (fd < 0)
		return fd;
	sh_lock(&old);
	old_fd = c->l->event;
	c->l->event = fd;
	if (atomic_load(&c->l->state) != PINFS_LEASE_HELD)
		(void)sh_sys(SYS_write, fd, &one, sizeof one);
	sh_unlock(&old);
	if (old_fd >= 0)
		(void)sh_sys(SYS_close, old_fd);
	return 0;
}

PF_EXPORT int pinfs_lease_event_fd(struct pinfs_lease *l, int *fd)
{
	struct event_call c = { .l = l, .tid = (int)sh_sys(SYS_gettid) };
	int err = fd == NULL ? -EINVAL : sh_lease_mine(l);

	if (err)
		return err;
	c.fd = (int)sh_sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c.fd < 0)
		return c.fd;
	err = sh_crew_call(set_event, &c);
	if (err)
		(void)sh_sys(SYS_close, c.fd);
	else
		*fd = c.fd;
	return err;
}

PF_EXPORT int pinfs_lease_signal(struct pinfs_lease *l, int signo, void *value)
{
	int err = signo < 0 || signo > SIGRTMAX ? -EINVAL : sh_lease_mine(l);
	sh_sigs old;

	if (err)
		return err;
	sh_lock(&old);
	l->signo = signo;
	l->value = value;
	sh_unlock(&old);
	return 0;
}

/* Lock held. */
static void notify(struct pinfs_lease *l)
{
	const uint64_t one = 1;
	siginfo_t si;

	if (l->event >= 0)
		(void)sh_sys(SYS_write, l->event, &one, sizeof one);
	if (l->signo == 0)
		return;
	memset(&si, 0, sizeof si);
	si.si_signo = l->signo;
	si.si_code = SI_QUEUE;
	si.si_pid = sh.pid;
	si.si_uid = (uid_t)sh_sys(SYS_getuid);
	si.si_value.sival_ptr = l->value;
	(void)sh_sys(SYS_rt_sigqueueinfo, sh.pid, l->signo, &si);
}

/* Its pins are the other process's now: their counts are not in our ledger any more. */
static void moved(struct pinfs_lease *l)
{
	for (uint32_t i = 0; i < l->ngive; i++) {
		struct pinfs_pin *p = l->give[i];

		p->give = SH_GIVE_GONE;
		if (p->rec != NULL)
			atomic_store_explicit(&p->rec->lr_state, PF_REC_FREE, memory_order_release);
		for (uint32_t k = 0; k < p->npiece; k++)
			sh_crew_kick(p->piece[k].slot);		/* no unpin of ours says that the slot is free */
	}
	l->ngive = 0;
	l->exported = false;
	l->moved = true;
}

void sh_serve_lease(struct sh_session *s, const struct pf_p_lease_event *ev)
{
	struct pinfs_lease *l;
	sh_sigs old;

	sh_lock(&old);
	for (l = s->leases; l != NULL && l->out.lo_id != ev->ev_id;)
		l = l->next;
	if (l != NULL) {
		atomic_store(&l->until_ns, sh_now_ns() + ev->ev_left_ms * UINT64_C(1000000));
		if (ev->ev_moved)
			moved(l);
		atomic_store(&l->state, ev->ev_state);
		notify(l);
	}
	sh_unlock(&old);
}

/* The session is lost: so are its leases. Lock held. */
void sh_serve_leases_lost(struct sh_session *s)
{
	for (struct pinfs_lease *l = s->leases; l != NULL; l = l->next) {
		atomic_store(&l->state, PINFS_LEASE_BROKEN);
		notify(l);
	}
}

/* ---- windows that were revoked ---- */

bool sh_is_gone(const struct sh_vma *v, uint64_t foff, uint64_t len)
{
	for (uint64_t at = pf_round_down(foff, SH_PAGE); at < foff + len; at += SH_PAGE) {
		const struct sh_mchunk *c = sh_mchunk(v, at >> PF_CHUNK_SHIFT);

		if (!c->any_gone)
			at = pf_round_down(at, PF_CHUNK_SIZE) + PF_CHUNK_SIZE - SH_PAGE;
		else if (sh_bit(c->gone, (unsigned int)(at / SH_PAGE % SH_CHUNK_PAGES)))
			return true;
	}
	return false;
}

static void set_gone(struct sh_vma *v, uint64_t foff, uint64_t len)
{
	struct sh_mchunk *c = sh_mchunk(v, foff >> PF_CHUNK_SHIFT);

	sh_bits_put(c->gone, (unsigned int)(foff / SH_PAGE % SH_CHUNK_PAGES), (unsigned int)(len / SH_PAGE), true);
	c->any_gone = true;
}

void sh_gone_move(uint64_t lo, uint64_t len, uint64_t to)
{
	struct sh_vma *at = sh_vma_find(to);

	for (struct sh_vma *v = sh_vma_next(lo); v != NULL && v->lo < lo + len; v = sh_vma_next(v->hi)) {
		uint64_t a = pf_max64(v->lo, lo), hi = pf_min64(v->hi, lo + len);

		if (!sh_is_gone(v, sh_vma_foff(v, a), hi - a))
			continue;
		for (; a < hi; a += SH_PAGE)
			if (sh_is_gone(v, sh_vma_foff(v, a), SH_PAGE))
				set_gone(at, sh_vma_foff(at, to + (a - lo)), SH_PAGE);
	}
}

static void revoke_window(struct sh_vma *v, uint64_t foff, uint64_t end)
{
	uint64_t lo = pf_max64(foff, sh_vma_foff(v, v->lo)), hi = pf_min64(end, sh_vma_foff(v, v->hi)), n;

	for (uint64_t at = lo; at < hi; at += n) {
		n = pf_min64(hi - at, PF_CHUNK_SIZE - at % PF_CHUNK_SIZE);
		set_gone(v, at, n);
	}
	/* Whoever touches it from now on faults, and finds the bits: fault.c. */
	if (lo < hi)
		sh_zap(v, lo, hi - lo);
}

void sh_serve_revoke(struct sh_session *s, const struct pf_p_revoke *rv)
{
	const uint64_t grain = s->whole ? PF_CHUNK_SIZE : SH_PAGE;
	uint64_t foff = pf_round_down(rv->rv_foff, grain), end = UINT64_MAX;
	struct sh_file *f;
	sh_sigs old;

	if (rv->rv_len < UINT64_MAX - PF_CHUNK_SIZE - rv->rv_foff)
		end = pf_round_up(rv->rv_foff + rv->rv_len, grain);
	sh_lock(&old);
	f = sh_file_by_ino(s, rv->rv_ino);
	for (struct sh_vma *v = f != NULL ? f->vmas : NULL; v != NULL; v = v->fnext)
		revoke_window(v, foff, end);
	atomic_fetch_add(&sh_life.vgen, 1);		/* pins find out, too */
	sh_unlock(&old);
}

/* ---- what an engine needs ---- */

/* Is a device kept off the pin's pages? */
bool sh_pin_void(const struct pinfs_pin *p)
{
	if (p->give == SH_GIVE_GONE)
		return true;
	for (uint32_t i = 0; i < p->npiece; i++)
		if (pf_dma_gone(p->piece[i].slot->sl_led, p->piece[i].first, p->piece[i].n))
			return true;
	return false;
}

struct dmas {
	struct pinfs_dma *dma, last;
	size_t room, need;
};

static void add(struct dmas *d, const struct sh_piece *pc, uint32_t page, uint64_t doff, uint64_t foff)
{
	struct pinfs_dma *e = &d->last;

	if (d->need > 0 && e->da_slot == pc->slot->sl_idx && e->da_doff + e->da_len == doff &&
	    e->da_foff + e->da_len == foff) {
		e->da_len += SH_PAGE;
	} else {
		d->need++;
		*e = (struct pinfs_dma){ .da_doff = doff, .da_len = SH_PAGE, .da_foff = foff,
					 .da_slot = pc->slot->sl_idx, .da_page = page,
					 .da_epoch = atomic_load(&pc->slot->sl_led->ls_epoch) };
	}
	if (d->need <= d->room)
		d->dma[d->need - 1] = *e;
}

/* The device address of a pinned page: as last told, or else as the daemon says, which cannot have changed. */
static int address(struct sh_file *f, uint64_t foff, const struct sh_piece *pc, uint32_t page, uint64_t *doff)
{
	uint64_t pg = SH_PG_UNKNOWN;
	sh_sigs old;
	int err;

	for (unsigned int tries = 0; tries < 8; tries++) {
		sh_lock(&old);
		if (pc->slot->sl_file == f && pc->slot->sl_state == SH_LIVE)
			pg = atomic_load(&pc->slot->sl_page[page]);
		err = pc->slot->sl_file == f ? 0 : -ESTALE;	/* the blocks have left the file */
		sh_unlock(&old);
		if (sh_pg_here(pg) || err)
			break;
		err = sh_bring(f, foff, false);
		if (err)
			break;
	}
	*doff = pg;
	return err ? err : sh_pg_here(pg) ? 0 : -ESTALE;
}

PF_EXPORT int pinfs_pin_dma(const struct pinfs_pin *p, struct pinfs_dma *dma, size_t *n)
{
	struct dmas d = { .dma = dma };
	uint64_t foff, doff = 0;
	struct sh_file *f;
	sh_sigs old;
	int err = 0;

	if (p == NULL || n == NULL || (dma == NULL && *n != 0) || !p->live)
		return -EINVAL;
	if (p->epoch != atomic_load(&sh_life.epoch))
		return -ECHILD;
	if (atomic_load(&p->ses->lost))
		return -ENOTCONN;
	d.room = *n;
	sh_lock(&old);
	f = sh_file_by_ino(p->ses, p->ino);
	if (f != NULL)
		f->refs++;
	sh_unlock(&old);
	if (f == NULL)
		return -ESTALE;
	foff = p->foff;
	for (uint32_t i = 0; i < p->npiece && !err; i++)
		for (uint32_t k = 0; k < p->piece[i].n && !err; k++, foff += SH_PAGE) {
			err = address(f, foff, &p->piece[i], p->piece[i].first + k, &doff);
			if (!err)
				add(&d, &p->piece[i], p->piece[i].first + k, doff, foff);
		}
	sh_file_put(f);
	sh_lock(&old);
	if (!err && sh_pin_void(p))
		err = -ESTALE;
	if (!err && d.need <= d.room && !p->raw && p->give == SH_GIVE_NONE)
		sh_mapped((struct pinfs_pin *)(uintptr_t)p, true);	/* const is what its owner knows of it */
	sh_unlock(&old);
	if (err)
		return err;
	*n = d.need;
	return d.need > d.room ? -E2BIG : 0;
}

static int pick_ledger(void *arg)
{
	struct sh_session *s = arg;

	return s->ledfd >= 0 ? s->ledfd : -EBADF;
}

PF_EXPORT int pinfs_ledger_fd(const void *addr)
{
	return sh_lend_of(addr, pick_ledger);
}
