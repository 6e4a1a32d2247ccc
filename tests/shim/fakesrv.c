/* SPDX-License-Identifier: BSD-3-Clause */
/* fakesrv.c - see fakesrv.h. One big lock, one thread per server; breaks run in the thread that asks for them. */
#include "fakesrv.h"

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

#define MAXFILE 64
#define MAXSESS 16
#define IMAGE (UINT64_C(256) << 20)

struct ffile {
	uint64_t ino, size;
	uint64_t page[FAKE_PAGES];		/* doff; 0: hole */
	bool cutting;
	uint64_t cut_lo, cut_hi;
};

struct fslot { struct ffile *f; uint64_t chunk; bool stale; };

/* A request that came while the gate was closed. */
struct aside {
	int sess;
	struct fuse_in_header h;
	char body[512];
	struct aside *next;
};

struct parked { uint64_t unique; struct ffile *f; struct parked *next; };

struct fsess {
	int fd;
	unsigned char *ledger;
	struct pf_l_slot *led;
	struct fslot *slots;
	uint64_t fh_ino[4096];
	bool fh_write[4096];
	uint32_t nfh;
	unsigned char rx[1 << 16];
	size_t len;
	uint64_t want_ack;
	bool acked;
	bool hello;
	struct parked *parked;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	pthread_t thread;
	char sock[PINFS_SOCK_MAX];
	int listen, stop, img;
	char *base;
	uint64_t next;
	uint32_t nslot;
	struct ffile file[MAXFILE];
	unsigned int nfile;
	struct fsess *sess[MAXSESS];
	uint64_t inval_id;
	int fail_next, fail_always;
	bool closed;			/* the gate: no grants between an invalidation and the change */
	struct aside *aside;
	bool hold, busy;
	struct aside *held, **held_tail;
	struct fake_grant grant[1024];
	size_t ngrant;
	struct fake_counts n;
} fk;

/* ---- instead of the ioctl ---- */

int sh_attach(int fd, struct pinfs_attach *at);
bool sh_attach_maybe(int fd);

static struct ffile *find(uint64_t ino)
{
	for (unsigned int i = 0; i < fk.nfile; i++)
		if (fk.file[i].ino == ino)
			return &fk.file[i];
	return NULL;
}

bool sh_attach_maybe(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && find(st.st_ino) != NULL;
}

int sh_attach(int fd, struct pinfs_attach *at)
{
	struct stat st;

	if (fstat(fd, &st) || find(st.st_ino) == NULL)
		return -ENOTTY;
	memset(at, 0, sizeof *at);
	at->at_ino = at->at_cookie[0] = st.st_ino;
	at->at_cookie[1] = at->at_write = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
	memcpy(at->at_sock, fk.sock, sizeof fk.sock);
	return 0;
}

/* ---- messages; lock held ---- */

static void answer(struct fsess *s, uint64_t unique, int err, const void *body, size_t len, const int *fds)
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
	answer(s, unique, 0, &ho, sizeof ho, fds);
	close(fds[1]);
}

static uint64_t take_block(void)
{
	uint64_t b = fk.next;

	if (b + 4096 > IMAGE)
		return 0;
	fk.next += 4096;
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

static void notify(struct fsess *s, struct ffile *f, uint64_t foff, uint64_t len, uint32_t flags, uint32_t slot)
{
	struct pf_p_inval in = { .in_id = ++fk.inval_id, .in_ino = f->ino, .in_foff = foff, .in_len = len,
				 .in_flags = flags, .in_slot = slot };

	s->want_ack = in.in_id;
	s->acked = false;
	answer(s, 0, PF_P_NOTIFY_INVAL, &in, sizeof in, NULL);
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
	f = in.mi_map.fh < s->nfh ? find(s->fh_ino[in.mi_map.fh]) : NULL;
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
	else if (fk.fail_next || fk.fail_always) {
		err = fk.fail_next ? fk.fail_next : fk.fail_always;
		fk.fail_next = 0;
	}
	if (!err && (in.mi_map.flags & FUSE_SETUPMAPPING_FLAG_WRITE) && in.mi_fault_foff < f->size &&
	    f->page[in.mi_fault_foff / 4096] == 0) {
		f->page[in.mi_fault_foff / 4096] = take_block();
		if (f->page[in.mi_fault_foff / 4096] == 0)
			err = -ENOSPC;
		for (int i = 0; i < MAXSESS; i++)
			if (fk.sess[i] != NULL && fk.sess[i] != s && fk.sess[i]->hello)
				notify(fk.sess[i], f, in.mi_fault_foff, 4096, 0, 0);
	}
	if (err) {
		answer(s, h->unique, err, NULL, 0, NULL);
		return;
	}
	if (s->slots[idx].f == NULL) {
		s->slots[idx] = (struct fslot){ .f = f, .chunk = in.mi_map.foffset >> 21 };
		if (fk.ngrant < sizeof fk.grant / sizeof fk.grant[0])
			fk.grant[fk.ngrant++] = (struct fake_grant){ f->ino, in.mi_map.foffset >> 21 };
		atomic_fetch_add(&s->led[idx].ls_word, PF_SLOT_GEN);
	}
	answer(s, h->unique, 0, out, chunk_answer(s, idx, out), NULL);
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
		answer(s, h->unique, -EINVAL, NULL, 0, NULL);
		return;
	}
	atomic_fetch_or(&s->led[idx].ls_word, PF_SLOT_FROZEN);
	if (counted(s, idx) || fk.busy) {
		if (!s->slots[idx].stale)
			atomic_fetch_and(&s->led[idx].ls_word, ~PF_SLOT_FROZEN);
		fk.n.busy++;
		answer(s, h->unique, -EBUSY, NULL, 0, NULL);
		return;
	}
	atomic_store(&s->led[idx].ls_word, (atomic_load(&s->led[idx].ls_word) & ~3U) + PF_SLOT_GEN);
	s->slots[idx] = (struct fslot){ 0 };
	answer(s, h->unique, 0, NULL, 0, NULL);
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
			sl->f->page[i] = take_block();
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
		answer(s, h->unique, err, NULL, 0, NULL);
	else
		answer(s, h->unique, 0, out, chunk_answer(s, in.pi_slot, out), NULL);
}

static void unpark(struct fsess *s, const struct ffile *f, uint64_t unique, int err)
{
	struct parked **p = &s->parked, *x;

	while ((x = *p) != NULL) {
		if ((f != NULL && x->f == f) || x->unique == unique) {
			*p = x->next;
			answer(s, x->unique, err, NULL, 0, NULL);
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
		pthread_cond_broadcast(&fk.cond);
	} else {
		a->next = fk.aside;
		fk.aside = a;
	}
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
		answer(s, h->unique, 0, &io, sizeof io, NULL);
		break;
	case PF_P_HELLO:
		fk.n.hello++;
		hello(s, h->unique);
		break;
	case PF_P_ATTACH:
		memcpy(cookie, body, sizeof cookie);
		fk.n.attach++;
		ao = (struct pf_p_attach_out){ .ao_fh = s->nfh, .ao_ino = cookie[0], .ao_write = (uint32_t)cookie[1],
					       .ao_size = find(cookie[0])->size };
		s->fh_ino[s->nfh] = cookie[0];
		s->fh_write[s->nfh++] = cookie[1];
		answer(s, h->unique, 0, &ao, sizeof ao, NULL);
		break;
	case PF_P_DETACH:
		fk.n.detach++;
		answer(s, h->unique, 0, NULL, 0, NULL);
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
		answer(s, h->unique, 0, NULL, 0, NULL);
		break;
	case PF_P_FORGET_WAIT:
		fk.n.cancel++;
		memcpy(&ca, body, sizeof ca);
		unpark(s, NULL, ca.ca_unique, -EINTR);
		break;
	default:
		answer(s, h->unique, -ENOSYS, NULL, 0, NULL);
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

static void open_gate(void)
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

/* ---- files ---- */

int fake_file(const char *name, uint64_t size)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || fk.nfile == MAXFILE)
		return -1;
	pthread_mutex_lock(&fk.lock);
	fk.file[fk.nfile] = (struct ffile){ .ino = st.st_ino, .size = size };
	fk.nfile++;
	pthread_mutex_unlock(&fk.lock);
	return fd;
}

uint64_t fake_ino(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

uint64_t fake_doff(int fd, uint64_t foff)
{
	struct ffile *f = find(fake_ino(fd));
	uint64_t d;

	pthread_mutex_lock(&fk.lock);
	d = f->page[foff / 4096];
	pthread_mutex_unlock(&fk.lock);
	return d;
}

int fake_device(void)
{
	return fk.img;
}

/* Close the gate, tell every session to forget the range, wait until all have. Lock held; the caller opens the
 * gate. */
static int forget_with(struct ffile *f, uint64_t foff, uint64_t len, uint32_t flags)
{
	struct timespec until;
	bool all;

	fk.closed = true;
	for (int i = 0; i < MAXSESS; i++)
		if (fk.sess[i] != NULL && fk.sess[i]->hello)
			notify(fk.sess[i], f, foff, len, flags, 0);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 5;
	for (;;) {
		all = true;
		for (int i = 0; i < MAXSESS; i++)
			if (fk.sess[i] != NULL && fk.sess[i]->hello && !fk.sess[i]->acked)
				all = false;
		if (all)
			return 0;
		if (pthread_cond_timedwait(&fk.cond, &fk.lock, &until))
			return -ETIMEDOUT;
	}
}

static int forget(struct ffile *f, uint64_t foff, uint64_t len)
{
	return forget_with(f, foff, len, 0);
}

void fake_fill(int fd, uint64_t foff, uint64_t len, bool scatter)
{
	struct ffile *f = find(fake_ino(fd));
	uint64_t n = len / 4096, at;

	pthread_mutex_lock(&fk.lock);
	(void)forget(f, foff, len);
	at = fk.next;
	fk.next += len;
	memset(fk.base + at, 0, len);
	for (uint64_t i = 0; i < n; i++)
		f->page[foff / 4096 + i] = at + (scatter ? n - 1 - i : i) * 4096;
	open_gate();
	pthread_mutex_unlock(&fk.lock);
}

void fake_read(int fd, uint64_t foff, void *buf, size_t len)
{
	struct ffile *f = find(fake_ino(fd));

	pthread_mutex_lock(&fk.lock);
	for (size_t i = 0; i < len; i++) {
		uint64_t d = f->page[(foff + i) / 4096];

		((char *)buf)[i] = d ? fk.base[d + (foff + i) % 4096] : 0;
	}
	pthread_mutex_unlock(&fk.lock);
}

void fake_write(int fd, uint64_t foff, const void *buf, size_t len)
{
	struct ffile *f = find(fake_ino(fd));
	bool told = false;

	pthread_mutex_lock(&fk.lock);
	for (size_t i = 0; i < len; i++) {
		uint64_t *d = &f->page[(foff + i) / 4096];

		if (*d == 0) {
			if (!told)
				(void)forget(f, foff, len);
			told = true;
			*d = take_block();
		}
		fk.base[*d + (foff + i) % 4096] = ((const char *)buf)[i];
	}
	open_gate();
	pthread_mutex_unlock(&fk.lock);
}

void fake_move(int fd, uint64_t foff)
{
	struct ffile *f = find(fake_ino(fd));
	uint64_t *d = &f->page[foff / 4096], n;

	pthread_mutex_lock(&fk.lock);
	(void)forget(f, foff, 4096);
	n = take_block();
	memcpy(fk.base + n, fk.base + *d, 4096);
	*d = n;
	open_gate();
	pthread_mutex_unlock(&fk.lock);
}

/* ---- breaks ---- */

static void freeze(const struct ffile *f, bool on)
{
	for (int i = 0; i < MAXSESS; i++) {
		struct fsess *s = fk.sess[i];

		for (uint32_t k = 0; s != NULL && s->hello && k < fk.nslot; k++) {
			if (s->slots[k].f != f || s->slots[k].stale)
				continue;
			if (on)
				atomic_fetch_or(&s->led[k].ls_word, PF_SLOT_FROZEN);
			else
				atomic_store(&s->led[k].ls_word,
					     (atomic_load(&s->led[k].ls_word) & ~PF_SLOT_FROZEN) + PF_SLOT_GEN);
		}
	}
}

static bool busy(const struct ffile *f, uint64_t foff, uint64_t len)
{
	for (int i = 0; i < MAXSESS; i++) {
		struct fsess *s = fk.sess[i];

		for (uint32_t k = 0; s != NULL && s->hello && k < fk.nslot; k++) {
			if (s->slots[k].f != f || s->slots[k].stale)
				continue;
			if (atomic_load(&s->led[k].ls_whole))
				return true;
			for (uint64_t p = 0; p < 512; p++) {
				uint64_t at = (s->slots[k].chunk * 512 + p) * 4096;

				if (at + 4096 > foff && at < foff + len && atomic_load(&s->led[k].ls_page[p]))
					return true;
			}
		}
	}
	return false;
}

/* Private copies behind the end are gone for good. */
static void drop_copies(struct ffile *f, uint64_t from)
{
	struct pf_p_inval in = { .in_ino = f->ino, .in_foff = from, .in_len = UINT64_MAX, .in_flags = PF_IN_DROP };

	for (int i = 0; i < MAXSESS; i++)
		if (fk.sess[i] != NULL && fk.sess[i]->hello)
			answer(fk.sess[i], 0, PF_P_NOTIFY_INVAL, &in, sizeof in, NULL);
}

static int cut(struct ffile *f, uint64_t foff, uint64_t len, uint64_t size, unsigned int ms)
{
	uint32_t flags = size < f->size ? PF_IN_CUT : 0;
	struct timespec until;
	int err = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	f->cutting = true;
	f->cut_lo = foff;
	f->cut_hi = foff + len;
	freeze(f, true);
	err = forget_with(f, foff, len, flags);
	while (!err && busy(f, foff, len)) {
		open_gate();
		if (pthread_cond_timedwait(&fk.cond, &fk.lock, &until))
			err = -EBUSY;
		else
			err = forget_with(f, foff, len, flags);
	}
	if (!err) {
		for (uint64_t p = foff / 4096; p < (foff + len) / 4096 && p < FAKE_PAGES; p++) {
			if (f->page[p])		/* reused at once, as it were: whoever still writes here is found out */
				memset(fk.base + f->page[p], 0xEE, 4096);
			f->page[p] = 0;
		}
		f->size = size;
		if (flags)
			drop_copies(f, foff);
	}
	f->cutting = false;
	freeze(f, false);
	for (int i = 0; i < MAXSESS; i++)
		if (fk.sess[i] != NULL)
			unpark(fk.sess[i], f, 0, -EAGAIN);
	return err;
}

int fake_punch(int fd, uint64_t foff, uint64_t len, unsigned int ms)
{
	struct ffile *f = find(fake_ino(fd));
	int err;

	pthread_mutex_lock(&fk.lock);
	err = cut(f, foff, len, f->size, ms);
	open_gate();
	pthread_mutex_unlock(&fk.lock);
	return err;
}

int fake_truncate(int fd, uint64_t size, unsigned int ms)
{
	struct ffile *f = find(fake_ino(fd));
	uint64_t from = (size + 4095) / 4096 * 4096;
	int err;

	pthread_mutex_lock(&fk.lock);
	if (size >= f->size) {
		err = forget(f, f->size / 4096 * 4096, (uint64_t)FAKE_PAGES * 4096);
		f->size = size;
	} else {
		err = cut(f, from, (uint64_t)FAKE_PAGES * 4096 - from, size, ms);
	}
	open_gate();
	pthread_mutex_unlock(&fk.lock);
	return err;
}

int fake_inval(int fd, uint64_t foff, uint64_t len)
{
	int err;

	pthread_mutex_lock(&fk.lock);
	err = forget(find(fake_ino(fd)), foff, len);
	open_gate();
	pthread_mutex_unlock(&fk.lock);
	return err;
}

int fake_defer(int fd, uint64_t chunk)
{
	struct ffile *f = find(fake_ino(fd));

	pthread_mutex_lock(&fk.lock);
	for (int i = 0; i < MAXSESS; i++) {
		struct fsess *s = fk.sess[i];

		for (uint32_t k = 0; s != NULL && s->hello && k < fk.nslot; k++) {
			if (s->slots[k].f != f || s->slots[k].chunk != chunk || s->slots[k].stale)
				continue;
			atomic_fetch_or(&s->led[k].ls_word, PF_SLOT_STALE | PF_SLOT_FROZEN);
			s->slots[k].stale = true;
			notify(s, f, chunk << 21, 1 << 21, PF_IN_DEAD, k);
		}
	}
	for (uint64_t p = chunk * 512; p < (chunk + 1) * 512; p++)
		f->page[p] = 0;
	pthread_mutex_unlock(&fk.lock);
	return 0;
}

void fake_fail_next(int err)
{
	pthread_mutex_lock(&fk.lock);
	fk.fail_next = err;
	pthread_mutex_unlock(&fk.lock);
}

void fake_busy(bool on)
{
	pthread_mutex_lock(&fk.lock);
	fk.busy = on;
	pthread_mutex_unlock(&fk.lock);
}

void fake_fail_always(int err)
{
	pthread_mutex_lock(&fk.lock);
	fk.fail_always = err;
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
