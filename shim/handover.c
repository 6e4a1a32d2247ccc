/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handover.c - a lease and its pins, from one process to another: what is written into the descriptor that is passed,
 * and how the taker gets slots, pins and the lease. The step itself is the daemon's. Takes sh.lock, ses->pin_lock.
 */
#include "lease.h"
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TOKEN_MAGIC UINT64_C(0x31454b4f5446503d)
#define TRIES 16U			/* a slot may be taken away again before the step */

struct token {				/* what the descriptor holds; whoever can read it may have the lease */
	uint64_t magic;
	struct pf_p_token t;
	uint64_t dev;			/* st_dev of the file */
	char sock[PINFS_SOCK_MAX];
	uint32_t pad;
};

/* ---- giving ---- */

struct given {
	struct pf_p_give_in *in;	/* followed by pieces */
	struct pf_p_piece *piece;
	uint32_t npiece, npin;
};

/* Does this pin go along? 1, 0, or -EBUSY. */
static int belongs(const struct pinfs_pin *p, const struct pinfs_lease *l)
{
	uint64_t lo = l->out.lo_foff, hi = l->out.lo_len > UINT64_MAX - lo ? UINT64_MAX : lo + l->out.lo_len;
	uint32_t api = p->rec->lr_api;

	if (!p->live || p->ino != l->file->ino || p->foff >= hi || p->foff + p->len <= lo)
		return 0;
	if (p->foff < lo || p->foff + p->len > hi || p->give != SH_GIVE_NONE || sh_pin_void(p))
		return -EBUSY;
	/* A pin of a call in progress, or of a driver, has somebody else who will end it. */
	return api == PF_API_PIN || api == PF_API_DMAEMU || api == PF_API_LONGTERM ? 1 : -EBUSY;
}

static int collect(struct pinfs_lease *l, struct given *g)
{
	struct sh_session *s = l->ses;
	uint32_t n;

	pthread_mutex_lock(&s->pin_lock);
	n = s->fresh_pins;
	pthread_mutex_unlock(&s->pin_lock);
	if (n == s->nrec)
		return -EBUSY;			/* there may be pins that nobody can find */
	for (uint32_t i = 0; i < n; i++) {
		struct pinfs_pin *p = &s->pins[i];
		int rc = belongs(p, l);

		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		for (uint32_t k = 0; k < p->npiece; k++) {
			if (g->npiece == PF_P_PIECES_MAX)
				return -E2BIG;
			g->piece[g->npiece++] = (struct pf_p_piece){
				.pc_foff = pf_round_down(p->foff, PF_CHUNK_SIZE) + k * PF_CHUNK_SIZE,
				.pc_slot = p->piece[k].slot->sl_idx, .pc_first = p->piece[k].first,
				.pc_npage = p->piece[k].n, .pc_pin = g->npin,
				.pc_flags = (p->flags & PINFS_PIN_WRITE ? PF_PI_WRITE : 0) |
					    (p->flags & PINFS_PIN_LONGTERM ? PF_PI_LONGTERM : 0),
			};
		}
		l->give[g->npin++] = p;
	}
	return 0;
}

static int write_token(const struct token *t)
{
	long fd = sh_sys(SYS_memfd_create, "pinfs-lease", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return (int)fd;
	if (sh_sys(SYS_write, fd, t, sizeof *t) != (long)sizeof *t ||
	    sh_sys(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
		(void)sh_sys(SYS_close, fd);
		return -ENOMEM;
	}
	return (int)fd;
}

PF_EXPORT int pinfs_lease_export(struct pinfs_lease *l, int *fd)
{
	size_t bytes = sizeof(struct pf_p_give_in) + PF_P_PIECES_MAX * sizeof(struct pf_p_piece);
	struct given g = { .in = NULL };
	struct pf_p_give_out out;
	struct token t = { .magic = TOKEN_MAGIC };
	int err = fd == NULL ? -EINVAL : sh_lease_mine(l);

	if (err)
		return err;
	if (l->exported || atomic_load(&l->state) != PINFS_LEASE_HELD)
		return -EBUSY;
	g.in = sh_alloc(bytes);
	if (l->give == NULL) {
		l->give_bytes = PF_P_PIECES_MAX * sizeof(struct pinfs_pin *);
		l->give = sh_alloc(l->give_bytes);
	}
	err = g.in == NULL || l->give == NULL ? -ENOMEM : 0;
	if (!err) {
		g.piece = (struct pf_p_piece *)(void *)(g.in + 1);
		err = collect(l, &g);
	}
	if (!err) {
		*g.in = (struct pf_p_give_in){ .gi_id = l->out.lo_id, .gi_next = g.npiece };
		for (uint32_t i = 0; i < g.npin; i++) {
			sh_mapped(l->give[i], false);	/* their counts may leave without us */
			l->give[i]->give = SH_GIVE_UNDER_WAY;
		}
		l->ngive = g.npin;
		l->exported = true;
		err = sh_lease_rpc(l->ses, PF_P_LEASE_GIVE, g.in, sizeof *g.in + g.npiece * sizeof *g.piece, &out,
				   sizeof out);
		if (err) {
			for (uint32_t i = 0; i < g.npin; i++)
				l->give[i]->give = SH_GIVE_NONE;
			l->ngive = 0;
			l->exported = false;
		}
	}
	if (!err) {
		t.t = out.go_token;
		t.dev = l->file->dev;
		memcpy(t.sock, l->ses->sock, sizeof t.sock);
		err = write_token(&t);
		if (err >= 0) {
			*fd = err;
			err = 0;
		} else {
			(void)pinfs_lease_retract(l);
		}
	}
	if (g.in != NULL)
		sh_free(g.in, bytes);
	return err == -EINVAL || err == -ESTALE ? -EBUSY : err;		/* something has changed under our hands */
}

/* ---- taking ---- */

struct taken {
	struct token t;
	struct sh_session *ses;
	struct sh_file *file;
	struct pf_p_look_out *look;	/* followed by pieces */
	struct pf_p_have_in *have;	/* likewise */
	struct pf_p_piece *piece;	/* of look */
	struct pinfs_pin **pin;
	uint32_t npin;
	size_t look_bytes, have_bytes, pin_bytes;
};

static int session_in_crew(void *arg)
{
	struct taken *k = arg;

	return sh_session_get(k->t.sock, &k->ses);
}

/* The file, as if it had been attached: the daemon's handle is enough for pins. Lock held; NULL: no memory. */
static struct sh_file *bare_file(struct taken *k)
{
	struct sh_file *f = sh_file_by_ino(k->ses, k->look->lk_ino);

	if (f != NULL) {
		f->refs++;
		return f;
	}
	f = sh_alloc(sizeof *f);
	if (f == NULL)
		return NULL;
	f->ses = k->ses;
	f->ino = k->look->lk_ino;
	f->dev = k->t.dev;
	f->fh = k->look->lk_fh;
	f->write = k->look->lk_write != 0;
	f->fd = -1;
	f->refs = 1;
	k->look->lk_fh = 0;
	f->next = k->ses->files[f->ino % SH_FILES];
	k->ses->files[f->ino % SH_FILES] = f;
	return f;
}

static int detach_in_crew(void *arg)
{
	struct taken *k = arg;
	struct pf_p_detach_in di = { .di_fh = k->look->lk_fh };

	return sh_send(k->ses, NULL, PF_P_DETACH, &di, sizeof di);
}

/* The pieces, as the daemon says: none beyond its chunk, pins in order and each in one piece of the file. */
static bool sound(const struct taken *k)
{
	uint64_t end = 0;
	uint32_t pin = UINT32_MAX;

	for (uint32_t i = 0; i < k->look->lk_next; i++) {
		const struct pf_p_piece *p = &k->piece[i];

		if (p->pc_npage == 0 || p->pc_npage > SH_CHUNK_PAGES || p->pc_first > SH_CHUNK_PAGES - p->pc_npage ||
		    p->pc_foff % PF_CHUNK_SIZE || p->pc_foff > INT64_MAX)
			return false;
		if (p->pc_pin != pin && p->pc_pin != pin + 1)
			return false;
		if (p->pc_pin == pin && p->pc_foff + p->pc_first * SH_PAGE != end)
			return false;
		pin = p->pc_pin;
		end = p->pc_foff + (p->pc_first + p->pc_npage) * SH_PAGE;
	}
	return true;
}

/* Pins without counts yet. */
static int make_pins(struct taken *k)
{
	struct sh_tls *t = sh_tls();
	uint32_t n = 0;

	k->npin = k->look->lk_next != 0 ? k->piece[k->look->lk_next - 1].pc_pin + 1 : 0;
	k->pin_bytes = k->npin * sizeof(struct pinfs_pin *) + 1;
	k->pin = sh_alloc(k->pin_bytes);
	if (t == NULL || k->pin == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < k->npin; i++) {
		struct pinfs_pin *p = sh_pin_take(t, k->ses);
		uint32_t from = n;

		if (p == NULL)
			return -ENOMEM;
		k->pin[i] = p;
		p->live = 0;
		p->give = SH_GIVE_NONE;
		p->raw = 0;
		p->npiece = 0;
		p->piece = p->own;
		p->flags = (k->piece[n].pc_flags & PF_PI_WRITE ? PINFS_PIN_WRITE : 0) |
			   (k->piece[n].pc_flags & PF_PI_LONGTERM ? PINFS_PIN_LONGTERM : 0);
		while (n < k->look->lk_next && k->piece[n].pc_pin == i)
			n++;
		p->room = n - from;
		if (n - from > SH_PIECES)
			p->piece = sh_alloc(p->room * sizeof *p->piece);
		if (p->piece == NULL) {
			p->piece = p->own;
			return -ENOMEM;
		}
	}
	return 0;
}

static void drop_pins(struct taken *k)
{
	for (uint32_t i = 0; k->pin != NULL && i < k->npin && k->pin[i] != NULL; i++) {
		if (k->pin[i]->piece != k->pin[i]->own)
			sh_free(k->pin[i]->piece, k->pin[i]->room * sizeof *k->pin[i]->piece);
		sh_pin_give(sh_tls(), k->pin[i]);
	}
}

/* A live slot for each piece, as of now. */
static int find_slots(struct taken *k)
{
	struct pf_p_piece *to = (struct pf_p_piece *)(void *)(k->have + 1);
	struct sh_slot *sl;
	sh_sigs old;
	int err;

	for (uint32_t i = 0; i < k->look->lk_next; i++) {
		err = sh_bring(k->file, k->piece[i].pc_foff + k->piece[i].pc_first * SH_PAGE, false);
		if (err)
			return err;
		sh_lock(&old);
		sl = sh_slot_find(k->file, k->piece[i].pc_foff >> PF_CHUNK_SHIFT);
		to[i] = k->piece[i];
		to[i].pc_slot = sl != NULL ? sl->sl_idx : UINT32_MAX;
		sh_unlock(&old);
	}
	return 0;
}

/* The daemon has counted. */
static void fill_pins(struct taken *k)
{
	const struct pf_p_piece *to = (const struct pf_p_piece *)(const void *)(k->have + 1);
	struct sh_tls *t = sh_tls();

	for (uint32_t i = 0, n = 0; i < k->npin; i++) {
		struct pinfs_pin *p = k->pin[i];
		uint64_t foff = to[n].pc_foff + to[n].pc_first * SH_PAGE, len = 0;

		for (; n < k->look->lk_next && to[n].pc_pin == i; n++) {
			p->piece[p->npiece++] = (struct sh_piece){ .slot = &k->ses->slots[to[n].pc_slot],
								   .first = to[n].pc_first, .n = to[n].pc_npage };
			len += to[n].pc_npage * SH_PAGE;
		}
		sh_pin_publish(t, p, p->flags & PINFS_PIN_LONGTERM ? PF_API_LONGTERM : PF_API_PIN,
			       k->look->lk_ino, foff, len);
	}
}

static int have(struct taken *k, struct pinfs_lease *l)
{
	size_t len = sizeof *k->have + k->look->lk_next * sizeof *k->piece;
	int err = -EINVAL;

	len += sh_stack_send((struct pf_t_stack *)(void *)((char *)k->have + len));

	for (unsigned int i = 0; i < TRIES && err == -EINVAL; i++) {
		err = find_slots(k);
		*k->have = (struct pf_p_have_in){ .ha_token = k->t.t, .ha_fh = k->file->fh,
						  .ha_next = k->look->lk_next };
		if (!err)
			err = sh_lease_rpc(k->ses, PF_P_LEASE_HAVE, k->have, len, &l->out, sizeof l->out);
	}
	return err == -EINVAL ? -EBUSY : err;
}

static int take(struct taken *k, struct pinfs_lease **out, size_t room)
{
	struct pinfs_lease *l;
	sh_sigs old;
	int err;

	if (!sound(k))
		return -EPROTO;
	err = make_pins(k);
	if (!err && k->npin > room)
		err = -E2BIG;
	if (!err) {
		sh_lock(&old);
		k->file = bare_file(k);
		sh_unlock(&old);
		err = k->file == NULL ? -ENOMEM : 0;
	}
	if (err) {
		drop_pins(k);
		return err;
	}
	l = sh_lease_new(k->file);
	if (l == NULL)
		sh_file_put(k->file);
	err = l == NULL ? -ENOMEM : have(k, l);
	if (err) {
		drop_pins(k);
		if (l != NULL)
			sh_lease_free(l);
		return err;
	}
	fill_pins(k);
	*out = l;
	return 0;
}

PF_EXPORT int pinfs_lease_import(int fd, struct pinfs_lease **out, struct pinfs_pin **pins, size_t *npins)
{
	struct taken k = { .ses = NULL };
	int err;

	if (out == NULL || npins == NULL || (pins == NULL && *npins != 0))
		return -EINVAL;
	if (sh_sys(SYS_pread64, fd, &k.t, sizeof k.t, 0) != (long)sizeof k.t || k.t.magic != TOKEN_MAGIC)
		return -EINVAL;
	k.t.sock[sizeof k.t.sock - 1] = '\0';
	sh_alive();
	err = sh_engine_start();
	if (!err)
		err = sh_crew_call(session_in_crew, &k);
	if (err)
		return err == -EACCES ? -EOPNOTSUPP : err == -ECONNREFUSED ? -ESTALE : err;
	k.look_bytes = sizeof *k.look + PF_P_PIECES_MAX * sizeof *k.piece;
	k.have_bytes = sizeof *k.have + PF_P_PIECES_MAX * sizeof *k.piece + sizeof(struct pf_t_stack);
	k.look = sh_alloc(k.look_bytes);
	k.have = sh_alloc(k.have_bytes);
	err = k.look == NULL || k.have == NULL ? -ENOMEM : 0;
	if (!err)
		err = sh_lease_rpc(k.ses, PF_P_LEASE_LOOK, &k.t.t, sizeof k.t.t, k.look, k.look_bytes);
	if (!err) {
		k.piece = (struct pf_p_piece *)(void *)(k.look + 1);
		err = k.look->lk_next > PF_P_PIECES_MAX ? -EPROTO : take(&k, out, *npins);
		if (k.look->lk_fh != 0)
			(void)sh_crew_call(detach_in_crew, &k);
	}
	if (!err || err == -E2BIG)
		*npins = k.npin;
	for (uint32_t i = 0; !err && pins != NULL && i < k.npin; i++)
		pins[i] = k.pin[i];
	sh_free(k.pin, k.pin_bytes);
	sh_free(k.have, k.have_bytes);
	sh_free(k.look, k.look_bytes);
	return err;
}
