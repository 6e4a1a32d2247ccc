/* SPDX-License-Identifier: BSD-3-Clause */
/* fakesrv.c - see fakesrv.h. One big lock, one thread per server; breaks run in the thread that asks for them. */
#include "fakesrv_in.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <pinfs/ioctl.h>
#include <pinfs/ledger.h>
#include <pinfs/proto.h>
#include <pinfs/version.h>

struct fake_state fk;

/* ---- instead of the ioctl ---- */

int sh_attach(int fd, struct pinfs_attach *at);
bool sh_attach_maybe(int fd);

struct ffile *fk_find(uint64_t ino)
{
	for (unsigned int i = 0; i < fk.nfile; i++)
		if (fk.file[i].ino == ino)
			return &fk.file[i];
	return NULL;
}

bool sh_attach_maybe(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && fk_find(st.st_ino) != NULL;
}

int sh_attach(int fd, struct pinfs_attach *at)
{
	struct stat st;

	if (fstat(fd, &st) || fk_find(st.st_ino) == NULL)
		return -ENOTTY;
	memset(at, 0, sizeof *at);
	at->at_ino = at->at_cookie[0] = st.st_ino;
	at->at_cookie[1] = at->at_write = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
	memcpy(at->at_sock, fk.sock, sizeof fk.sock);
	return 0;
}

/* ---- messages; lock held ---- */

void fk_answer(struct fsess *s, uint64_t unique, int err, const void *body, size_t len, const int *fds)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(8)]; } c;
	struct fuse_out_header h = { .len = (uint32_t)(sizeof h + len), .error = err, .unique = unique };
	struct iovec iov[2] = { { &h, sizeof h }, { (void *)(uintptr_t)body, len } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = len ? 2 : 1 };

	if (fds != NULL) {
		memset(&c, 0, sizeof c);
		c.h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(8), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&c.h), fds, 8);
		m.msg_control = &c;
		m.msg_controllen = sizeof c;
	}
	(void)!sendmsg(s->fd, &m, MSG_NOSIGNAL);
}

static uint32_t hello_flags;

void fake_hello(uint32_t flags)
{
	hello_flags = flags;
}

static void hello(struct fsess *s, uint64_t unique)
{
	uint64_t bytes = pf_ledger_bytes(fk.nslot, PF_LEDGER_RECS);
	struct pf_l_hdr h = { .lh_magic = PF_LEDGER_MAGIC, .lh_major = PINFS_PROTO_MAJOR, .lh_nslot = fk.nslot,
			      .lh_nrec = PF_LEDGER_RECS, .lh_slot_off = sizeof h, .lh_bytes = bytes };
	struct pf_p_hello_out ho = { .ho_major = PINFS_PROTO_MAJOR, .ho_session = 1, .ho_dev_bytes = IMAGE,
				     .ho_nslot = fk.nslot, .ho_flags = hello_flags };
	int fds[2] = { fk.img, memfd_create("fake-ledger", MFD_CLOEXEC) };

	h.lh_rec_off = h.lh_slot_off + fk.nslot * sizeof(struct pf_l_slot);
	(void)!ftruncate(fds[1], (off_t)bytes);
	s->ledger = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	memcpy(s->ledger, &h, sizeof h);
	s->led = (struct pf_l_slot *)(void *)(s->ledger + h.lh_slot_off);
	s->slots = calloc(fk.nslot, sizeof *s->slots);
	s->hello = s->acked = true;	/* told nothing, so nothing to acknowledge */
	fk_answer(s, unique, 0, &ho, sizeof ho, fds);
	close(fds[1]);
}

uint64_t fk_take_block(void)
{
	uint64_t b = fk.next;

	if (b + 4096 <= IMAGE)
		fk.next += 4096;
	else if (fk.taken != fk.nfreed)
		b = UINT64_C(4096) * fk.freed[fk.taken++ % PF_ARRAY_LEN(fk.freed)];
	else
		return 0;
	memset(fk.base + b, 0, 4096);
	return b;
}

static size_t chunk_answer(struct fsess *s, uint32_t idx, char *out)
{
	struct fslot *sl = &s->slots[idx];
	struct pf_p_map_out mo = { .mo_ino = sl->f->ino, .mo_foff = sl->chunk << 21, .mo_size = sl->f->size,
				   .mo_slot = idx, .mo_word = atomic_load(&s->led[idx].ls_word) & ~PF_SLOT_FROZEN };
	struct pf_p_extent *e = (struct pf_p_extent *)(void *)(out + sizeof mo);

	for (uint64_t p = sl->chunk * 512; p < (sl->chunk + 1) * 512 && p < FAKE_PAGES; p++) {
		uint64_t d = sl->f->page[p];

		if (d == 0 || p * 4096 >= sl->f->size)
			continue;
		if (mo.mo_next && e[mo.mo_next - 1].e_foff + e[mo.mo_next - 1].e_len == p * 4096 &&
		    e[mo.mo_next - 1].e_doff + e[mo.mo_next - 1].e_len == d)
			e[mo.mo_next - 1].e_len += 4096;
		else
			e[mo.mo_next++] = (struct pf_p_extent){ .e_foff = p * 4096, .e_doff = d, .e_len = 4096 };
	}
	memcpy(out, &mo, sizeof mo);
	return sizeof mo + mo.mo_next * sizeof *e;
}

void fk_notify(struct fsess *s, struct ffile *f, uint64_t foff, uint64_t len, uint32_t flags, uint32_t slot)
{
	struct pf_p_inval in = { .in_id = ++fk.inval_id, .in_ino = f->ino, .in_foff = foff, .in_len = len,
				 .in_flags = flags, .in_slot = slot };

	s->want_ack = in.in_id;
	s->acked = false;
	fk_answer(s, 0, PF_P_NOTIFY_INVAL, &in, sizeof in, NULL);
}

static bool overlaps(const struct ffile *f, uint64_t lo, uint64_t n)
{
	return f->cutting && lo < f->cut_hi && lo + n > f->cut_lo;
}

static void setup(struct fsess *s, const struct fuse_in_header *h, const void *body)
{
	static char out[1 << 15] __attribute__((aligned(8)));
	struct pf_p_map_in in;
	struct ffile *f;
	uint32_t idx;
	int err = 0;

	memcpy(&in, body, sizeof in);
	fk.n.setup++;
	fk.n.store += (in.mi_map.flags & FUSE_SETUPMAPPING_FLAG_WRITE) != 0;
	idx = (uint32_t)(in.mi_map.moffset >> 21);
	f = in.mi_map.fh < s->nfh ? fk_find(s->fh_ino[in.mi_map.fh]) : NULL;
	if (f == NULL)
		err = -EBADF;
	else if (idx >= fk.nslot || in.mi_map.len != 1 << 21 || in.mi_map.foffset % (1 << 21) ||
		 in.mi_fault_foff - in.mi_map.foffset >= 1 << 21)
		err = -EINVAL;
	else if (s->slots[idx].stale)
		err = -ESTALE;
	else if (s->slots[idx].f != NULL && (s->slots[idx].f != f || s->slots[idx].chunk != in.mi_map.foffset >> 21))
		err = -EBUSY;
	else if ((in.mi_map.flags & FUSE_SETUPMAPPING_FLAG_WRITE) && !s->fh_write[in.mi_map.fh])
		err = -EACCES;
	else
		err = fk.fail;
	if (!err && (in.mi_map.flags & FUSE_SETUPMAPPING_FLAG_WRITE) && in.mi_fault_foff < f->size &&
	    f->page[in.mi_fault_foff / 4096] == 0) {
		f->page[in.mi_fault_foff / 4096] = fk_take_block();
		if (f->page[in.mi_fault_foff / 4096] == 0)
			err = -ENOSPC;
		for (int i = 0; i < MAXSESS; i++)
			if (fk.sess[i] != NULL && fk.sess[i] != s && fk.sess[i]->hello)
				fk_notify(fk.sess[i], f, in.mi_fault_foff, 4096, 0, 0);
	}
	if (err) {
		fk_answer(s, h->unique, err, NULL, 0, NULL);
		return;
	}
	if (s->slots[idx].f == NULL) {
		s->slots[idx] = (struct fslot){ .f = f, .chunk = in.mi_map.foffset >> 21 };
		if (fk.ngrant < sizeof fk.grant / sizeof fk.grant[0])
			fk.grant[fk.ngrant++] = (struct fake_grant){ f->ino, in.mi_map.foffset >> 21 };
		atomic_fetch_add(&s->led[idx].ls_word, PF_SLOT_GEN);
	}
	fk_answer(s, h->unique, 0, out, chunk_answer(s, idx, out), NULL);
}

static unsigned int counted(const struct fsess *s, uint32_t idx)
{
	const struct pf_l_slot *l = &s->led[idx];
	unsigned int n = atomic_load(&l->ls_whole);

	for (int i = 0; i < 512; i++)
		n += atomic_load(&l->ls_page[i]);
	return n;
}

static void remove_one(struct fsess *s, const struct fuse_in_header *h, const char *body)
{
	struct fuse_removemapping_one one;
	uint32_t idx;

	memcpy(&one, body + 4, sizeof one);
	fk.n.remove++;
	idx = (uint32_t)(one.moffset >> 21);
	if (idx >= fk.nslot || s->slots[idx].f == NULL) {
		fk_answer(s, h->unique, -EINVAL, NULL, 0, NULL);
		return;
	}
	atomic_fetch_or(&s->led[idx].ls_word, PF_SLOT_FROZEN);
	if (counted(s, idx) || fk.busy) {
		if (!s->slots[idx].stale)
			atomic_fetch_and(&s->led[idx].ls_word, ~PF_SLOT_FROZEN);
		fk.n.busy++;
		fk_answer(s, h->unique, -EBUSY, NULL, 0, NULL);
		return;
	}
	atomic_store(&s->led[idx].ls_word, (atomic_load(&s->led[idx].ls_word) & ~3U) + PF_SLOT_GEN);
	s->slots[idx] = (struct fslot){ 0 };
	fk_answer(s, h->unique, 0, NULL, 0, NULL);
}

static void pin(struct fsess *s, const struct fuse_in_header *h, const void *body)
{
	static char out[1 << 15] __attribute__((aligned(8)));
	struct pf_p_pin_chunk pc;
	struct pf_p_pin_in in;
	struct parked *p;
	struct fslot *sl;
	uint64_t first;
	int err = 0;

	memcpy(&in, body, sizeof in);
	fk.n.pin++;
	sl = in.pi_slot < fk.nslot ? &s->slots[in.pi_slot] : NULL;
	memcpy(&pc, (const char *)body + sizeof in, sizeof pc);
	if (sl == NULL || in.pi_first + in.pi_npage > 512 || !(in.pi_flags & PF_PI_CHUNK))
		err = -EINVAL;
	else if (sl->f == NULL || sl->stale || sl->chunk != pc.pc_foff >> 21)
		err = -ESTALE;
	if (err)
		goto out;
	first = sl->chunk * 512 + in.pi_first;
	if (overlaps(sl->f, first * 4096, in.pi_npage * 4096)) {
		if (!(in.pi_flags & PF_PI_WAIT)) {
			err = -EAGAIN;
			goto out;
		}
		p = calloc(1, sizeof *p);
		*p = (struct parked){ .unique = h->unique, .f = sl->f, .next = s->parked };
		s->parked = p;
		return;
	}
	if (in.pi_flags & PF_PI_WAIT) {
		err = -EAGAIN;
		goto out;
	}
	for (uint64_t i = first; i < first + in.pi_npage; i++) {
		if (i * 4096 >= sl->f->size || (sl->f->page[i] == 0 && !(in.pi_flags & PF_PI_WRITE))) {
			err = -EFAULT;
			goto out;
		}
		if (sl->f->page[i] == 0)
			sl->f->page[i] = fk_take_block();
	}
	if (in.pi_npage == 512) {
		atomic_fetch_add(&s->led[in.pi_slot].ls_whole, 1);
	} else {
		for (uint32_t i = in.pi_first; i < in.pi_first + in.pi_npage; i++)
			atomic_fetch_add(&s->led[in.pi_slot].ls_page[i], 1);
		atomic_fetch_add(&s->led[in.pi_slot].ls_pins, 1);
	}
out:
	if (err)
		fk_answer(s, h->unique, err, NULL, 0, NULL);
	else
		fk_answer(s, h->unique, 0, out, chunk_answer(s, in.pi_slot, out), NULL);
}

void fk_unpark(struct fsess *s, const struct ffile *f, uint64_t unique, int err)
{
	struct parked **p = &s->parked, *x;

	while ((x = *p) != NULL) {
		if ((f != NULL && x->f == f) || x->unique == unique) {
			*p = x->next;
			fk_answer(s, x->unique, err, NULL, 0, NULL);
			free(x);
		} else {
			p = &x->next;
		}
	}
}

static bool put_aside(struct fsess *s, const struct fuse_in_header *h, const char *body)
{
	bool hold = fk.hold && h->opcode == FUSE_REMOVEMAPPING;
	struct aside *a;

	if (!hold && (!fk.closed || (h->opcode != FUSE_SETUPMAPPING && h->opcode != PF_P_PIN)))
		return false;
	a = calloc(1, sizeof *a);
	a->h = *h;
	memcpy(a->body, body, h->len - sizeof *h);
	while (fk.sess[a->sess] != s)
		a->sess++;
	if (hold) {
		*fk.held_tail = a;
		fk.held_tail = &a->next;
		fk.n.held++;
	} else {
		a->next = fk.aside;
		fk.aside = a;
	}
	pthread_cond_broadcast(&fk.cond);
	return true;
}

static void message(struct fsess *s, const struct fuse_in_header *h, const char *body)
{
	struct fuse_init_out io = { .major = 7, .minor = 38, .map_alignment = 12 };
	struct pf_p_attach_out ao = { 0 };
	struct pf_p_ack_in ack;
	struct pf_p_cancel_in ca;
	uint64_t cookie[2];

	if (put_aside(s, h, body))
		return;
	switch (h->opcode) {
	case FUSE_INIT:
		fk_answer(s, h->unique, 0, &io, sizeof io, NULL);
		break;
	case PF_P_HELLO:
		fk.n.hello++;
		hello(s, h->unique);
		break;
	case PF_P_ATTACH:
		memcpy(cookie, body, sizeof cookie);
		fk.n.attach++;
		ao = (struct pf_p_attach_out){ .ao_fh = s->nfh, .ao_ino = cookie[0], .ao_write = (uint32_t)cookie[1],
					       .ao_size = fk_find(cookie[0])->size };
		s->fh_ino[s->nfh] = cookie[0];
		s->fh_write[s->nfh++] = cookie[1];
		fk_answer(s, h->unique, 0, &ao, sizeof ao, NULL);
		break;
	case PF_P_DETACH:
		fk.n.detach++;
		fk_answer(s, h->unique, 0, NULL, 0, NULL);
		break;
	case FUSE_SETUPMAPPING:
		setup(s, h, body);
		break;
	case FUSE_REMOVEMAPPING:
		remove_one(s, h, body);
		break;
	case PF_P_PIN:
		pin(s, h, body);
		break;
	case PF_P_KICK:
		fk.n.kick++;
		break;
	case PF_P_INVAL_ACK:
		memcpy(&ack, body, sizeof ack);
		fk.n.ack++;
		if (ack.ak_id == s->want_ack)
			s->acked = true;
		break;
	case PF_P_SYNC:
		fk.n.sync++;
		fk_answer(s, h->unique, 0, NULL, 0, NULL);
		break;
	case PF_P_FORGET_WAIT:
		fk.n.cancel++;
		memcpy(&ca, body, sizeof ca);
		fk_unpark(s, NULL, ca.ca_unique, -EINTR);
		break;
	default:
		fk_answer(s, h->unique, -ENOSYS, NULL, 0, NULL);
		break;
	}
	pthread_cond_broadcast(&fk.cond);
}

static void replay(struct aside *a)
{
	struct aside *next;

	for (; a != NULL; a = next) {
		next = a->next;
		if (fk.sess[a->sess] != NULL)
			message(fk.sess[a->sess], &a->h, a->body);
		free(a);
	}
}

void fk_open_gate(void)
{
	struct aside *a = fk.aside;

	fk.closed = false;
	fk.aside = NULL;
	replay(a);
}

void fake_hold(bool on)
{
	struct aside *a;

	pthread_mutex_lock(&fk.lock);
	a = fk.held;
	fk.held = NULL;
	fk.held_tail = &fk.held;
	fk.hold = on;
	replay(a);
	pthread_mutex_unlock(&fk.lock);
}

pid_t fake_fork(void)
{
	pid_t pid;

	pthread_mutex_lock(&fk.lock);
	pid = fork();
	pthread_mutex_unlock(&fk.lock);
	return pid;
}

size_t fake_grants(struct fake_grant *g, size_t room)
{
	size_t n;

	pthread_mutex_lock(&fk.lock);
	n = fk.ngrant < room ? fk.ngrant : room;
	memcpy(g, fk.grant, n * sizeof *g);
	fk.ngrant = 0;
	pthread_mutex_unlock(&fk.lock);
	return n;
}

/* ---- the thread ---- */

static void drop(int i)
{
	struct fsess *s = fk.sess[i];
	struct parked *p;

	(void)shutdown(s->fd, SHUT_RDWR);	/* poll() holds a reference */
	close(s->fd);
	if (s->ledger != NULL)
		munmap(s->ledger, pf_ledger_bytes(fk.nslot, PF_LEDGER_RECS));
	while ((p = s->parked) != NULL) {
		s->parked = p->next;
		free(p);
	}
	free(s->slots);
	free(s);
	fk.sess[i] = NULL;
	pthread_cond_broadcast(&fk.cond);
}

static void input(int i)
{
	struct fsess *s = fk.sess[i];
	struct fuse_in_header h;
	ssize_t r = recv(s->fd, s->rx + s->len, sizeof s->rx - s->len, MSG_DONTWAIT);
	size_t at = 0;

	if (r <= 0) {
		if (r == 0 || errno != EAGAIN)
			drop(i);
		return;
	}
	s->len += (size_t)r;
	while (s->len - at >= sizeof h) {
		memcpy(&h, s->rx + at, sizeof h);
		if (s->len - at < h.len)
			break;
		message(s, &h, (const char *)s->rx + at + sizeof h);
		at += h.len;
	}
	memmove(s->rx, s->rx + at, s->len - at);
	s->len -= at;
}

static void *serve(void *arg)
{
	struct pollfd p[MAXSESS + 2];
	int map[MAXSESS + 2], n;

	(void)arg;
	for (;;) {
		p[0] = (struct pollfd){ .fd = fk.stop, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = fk.listen, .events = POLLIN };
		n = 2;
		pthread_mutex_lock(&fk.lock);
		for (int i = 0; i < MAXSESS; i++)
			if (fk.sess[i] != NULL) {
				map[n] = i;
				p[n++] = (struct pollfd){ .fd = fk.sess[i]->fd, .events = POLLIN };
			}
		pthread_mutex_unlock(&fk.lock);
		if (poll(p, (nfds_t)n, -1) < 0)
			continue;
		if (p[0].revents)
			return NULL;
		pthread_mutex_lock(&fk.lock);
		for (int i = 2; i < n; i++)
			if (p[i].revents && fk.sess[map[i]] != NULL)
				input(map[i]);
		if (p[1].revents) {
			int fd = accept4(fk.listen, NULL, NULL, SOCK_CLOEXEC), i;

			for (i = 0; fd >= 0 && i < MAXSESS; i++)
				if (fk.sess[i] == NULL) {
					fk.sess[i] = calloc(1, sizeof **fk.sess);
					fk.sess[i]->fd = fd;
					break;
				}
		}
		pthread_mutex_unlock(&fk.lock);
	}
}

int fake_start(const char *dir, uint32_t nslot)
{
	static unsigned int round;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	pthread_condattr_t ca;
	char path[512];

	memset(&fk, 0, sizeof fk);
	fk.held_tail = &fk.held;
	pthread_mutex_init(&fk.lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&fk.cond, &ca);
	fk.nslot = nslot;
	fk.next = 8 << 20;
	snprintf(fk.sock, sizeof fk.sock, "pinfs-fake-%d-%u", (int)getpid(), round++);
	snprintf(path, sizeof path, "%s/image", dir);
	fk.img = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_TRUNC, 0600);
	if (fk.img < 0 || ftruncate(fk.img, IMAGE))
		return -errno;
	(void)unlink(path);
	fk.base = mmap(NULL, IMAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fk.img, 0);
	fk.stop = eventfd(0, EFD_CLOEXEC);
	fk.listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	memcpy(un.sun_path + 1, fk.sock, strlen(fk.sock));
	if (fk.base == MAP_FAILED || fk.stop < 0 ||
	    bind(fk.listen, (void *)&un, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(fk.sock))) ||
	    listen(fk.listen, 8))
		return -errno;
	return -pthread_create(&fk.thread, NULL, serve, NULL);
}

void fake_stop(void)
{
	uint64_t one = 1;

	(void)!write(fk.stop, &one, sizeof one);
	pthread_join(fk.thread, NULL);
	for (int i = 0; i < MAXSESS; i++)
		if (fk.sess[i] != NULL)
			drop(i);
	close(fk.listen);
	close(fk.stop);
	close(fk.img);
	munmap(fk.base, IMAGE);
}

void fake_hang_up(void)
{
	pthread_mutex_lock(&fk.lock);
	for (int i = 0; i < MAXSESS; i++)
		if (fk.sess[i] != NULL)
			drop(i);
	pthread_mutex_unlock(&fk.lock);
}

/* ---- what goes wrong, and counts ---- */

void fake_busy(bool on)
{
	pthread_mutex_lock(&fk.lock);
	fk.busy = on;
	pthread_mutex_unlock(&fk.lock);
}

void fake_fail(int err)
{
	pthread_mutex_lock(&fk.lock);
	fk.fail = err;
	pthread_mutex_unlock(&fk.lock);
}

void fake_counts(struct fake_counts *c)
{
	pthread_mutex_lock(&fk.lock);
	*c = fk.n;
	c->sessions = c->slots = c->pins = 0;
	for (int i = 0; i < MAXSESS; i++) {
		struct fsess *s = fk.sess[i];

		if (s == NULL || !s->hello)
			continue;
		c->sessions++;
		for (uint32_t k = 0; k < fk.nslot; k++) {
			c->slots += s->slots[k].f != NULL;
			c->pins += counted(s, k);
		}
	}
	pthread_mutex_unlock(&fk.lock);
}
