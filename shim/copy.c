/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy.c - calls whose memory lies in windows, where userfaultfd does not see the kernel's own accesses. The call gets
 * private memory, and what it read or wrote is copied by instructions, whose faults are served. The blocks are held
 * by a
 * transient pin for the time of one copy, a chunk at most, so that nothing is copied to a block that has left the file.
 *
 * Why not pin them for the call, and let the kernel have the window itself: a pin does not keep an invalidation from
 * emptying the window, so the call could still fail with EFAULT, after it has consumed a datagram, for one; and a call
 * that waits, for a peer or for the lock of a file, would hold what a truncate waits for, which its peer may be in.
 * What is copied can do neither.
 */
#include "io.h"
#include "pin.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#define TRIES 1000U			/* of a page that is taken away each time */
#define IOV_LIMIT 1024U
#define WHOLE_PAGES ((size_t)256 << 10)	/* from this size on sh_alloc() gives pages of their own */

struct sh_copy {
	struct sh_copy *next;
	char *user, *mine;
	size_t len, skip;		/* skip: bytes of the call that belong before these */
	unsigned int dir;
	bool counted;			/* the result says how many bytes there are, or: */
	const unsigned int *count;
	struct mmsghdr *msg, *umsg;	/* ours and the program's, for what the kernel leaves in it */
	bool many;			/* ... of several */
	void *room;
	size_t bytes;
};

/* ---- windows ---- */

static void quiet(sh_sigs *old)
{
	sigset_t all;

	memset(&all, 0xff, sizeof all);
	(void)sh_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, old, (size_t)8);
}

/* Where the next shared window begins, or how far this one goes. Private ones are the kernel's to copy: they exist only
 * where their faults are served, and what they show changes by itself when it is stored to. */
static bool in_window(uint64_t at, uint64_t len, size_t *n)
{
	struct sh_vma *v;
	sh_sigs old;
	bool in;

	sh_lock(&old);
	v = sh_vma_next(at);
	in = v != NULL && v->lo <= at;
	if (v != NULL)
		len = pf_min64(len, in ? v->hi - at : v->lo - at);
	in = in && !v->map->private;
	sh_unlock(&old);
	if (in)
		len = pf_min64(len, PF_CHUNK_SIZE - at % PF_CHUNK_SIZE);
	*n = (size_t)len;
	return in;
}

static bool touches_window(const void *p, size_t len)
{
	uint64_t lo = sh_addr(p);
	sh_sigs old;
	bool any;

	if (len == 0 || len > UINT64_MAX - lo)
		return false;
	sh_lock(&old);
	any = sh_vma_any(pf_round_down(lo, SH_PAGE), lo + len);
	sh_unlock(&old);
	return any;
}

/* Memory of the program, which may be nothing at all. How many bytes; it ends at a page. */
static size_t plain_some(char *user, char *mine, size_t n, bool store)
{
	struct iovec here = { mine, n }, there = { user, n };
	long r = sh_sys(store ? SYS_process_vm_writev : SYS_process_vm_readv, sh_sys(SYS_getpid), &here, 1L, &there,
		1L, 0L);

	if (r == -EPERM || r == -ENOSYS || r == -ESRCH) {
		memcpy(store ? user : mine, store ? mine : user, n);
		return n;
	}
	return r > 0 ? (size_t)r : 0;
}

/* What is at an address that a pin cannot have: SH_PG_*. */
static uint64_t look(uint64_t at, bool store)
{
	uint64_t pg = SH_PG_EOF;
	struct sh_slot *sl;
	struct sh_vma *v;
	sh_sigs old;

	sh_lock(&old);
	v = sh_vma_find(at);
	if (v != NULL && (v->prot & (store ? PROT_WRITE : PROT_READ)) && !atomic_load(&v->map->file->ses->lost)) {
		sl = sh_slot_find(v->map->file, sh_vma_foff(v, at) >> PF_CHUNK_SHIFT);
		pg = SH_PG_UNKNOWN;
		if (sl != NULL && sl->sl_state == SH_LIVE)
			pg = atomic_load(&sl->sl_page[sh_vma_foff(v, at) / SH_PAGE % SH_CHUNK_PAGES]);
	}
	sh_unlock(&old);
	return pg;
}

/*
 * A pin does not keep the page in the file where blocks may leave it while they are pinned (on_busy=defer). An
 * instruction would end in a SIGBUS then: the kernel copies, and says so. Where its faults are not served, they have to
 * happen before.
 */
static bool window_bytes(char *window, char *mine, size_t n, bool store)
{
	if (sh.pin_test & SH_TEST_BY_HAND) {
		memcpy(store ? window : mine, store ? mine : window, n);
		return true;
	}
	if (plain_some(window, mine, n, store) == n)
		return true;
	if (!sh.user_mode)
		return false;
	sh_prefault(sh_addr(window), n, store);
	return plain_some(window, mine, n, store) == n;
}

/* For tests: the moment in which the page leaves the file comes in between. */
static void until_gone(const char *window, bool store)
{
	const struct timespec ms = { .tv_nsec = 1000000 };

	for (unsigned int i = 0; i < 30000 && sh_pg_here(look(sh_addr(window), store)); i++)
		(void)sh_sys(SYS_nanosleep, &ms, NULL);
}

/* No signal: a handler that jumps away would leave the pin behind. No waiting for a truncate that waits itself. */
static int copy_pinned(char *window, char *mine, size_t n, bool store)
{
	struct sh_ask a = { .addr = sh_addr(window), .len = n, .api = PF_API_PIN,
			    .flags = (store ? PINFS_PIN_WRITE : 0) | PINFS_PIN_NOWAIT | SH_ASK_BRIEF };
	struct pinfs_pin *pin;
	sh_sigs old;
	int err;

	quiet(&old);
	err = sh_pin_ask(&a, &pin);
	if (!err) {
		if (sh.pin_test & SH_TEST_COPY_LATE)
			until_gone(window, store);
		err = window_bytes(window, mine, n, store) ? 0 : -EFAULT;
		(void)pinfs_unpin(pin);
	}
	sh_sigs_restore(&old);
	return err;
}

/*
 * What could not be pinned in one piece. Holes have no block, and are zeros. A page that a truncate waits for is copied
 * as it is: by instructions, which find the old block or what comes after it.
 */
static int copy_page(char *window, char *mine, size_t n, bool store)
{
	uint64_t pg;
	int err;

	for (unsigned int i = 0; i < TRIES; i++) {
		err = copy_pinned(window, mine, n, store);
		if (err == 0)
			return 0;
		sh_prefault(sh_addr(window), 1, store);
		pg = look(sh_addr(window), store);
		if (sh_pg_bus(pg))
			return -EFAULT;
		if (pg == SH_PG_HOLE && !store) {
			memset(mine, 0, n);
			return 0;
		}
		if (err == -EAGAIN && sh_pg_here(pg) && window_bytes(window, mine, n, store))
			return 0;
		if (err != -EAGAIN && err != -EFAULT && err != -EBUSY && err != -EDEADLK)
			return -EFAULT;
	}
	return -EFAULT;
}

/* Within a chunk. *done: so far. */
static int copy_window(char *window, char *mine, size_t n, bool store, size_t *done)
{
	size_t k;

	if (copy_pinned(window, mine, n, store) == 0) {
		*done += n;
		return 0;
	}
	for (; n > 0; window += k, mine += k, n -= k, *done += k) {
		k = (size_t)pf_min64(n, SH_PAGE - sh_addr(window) % SH_PAGE);
		if (copy_page(window, mine, k, store))
			return -EFAULT;
	}
	return 0;
}

static int plain(char *user, char *mine, size_t n, bool store)
{
	return plain_some(user, mine, n, store) == n ? 0 : -EFAULT;
}

/* How many bytes could be copied. */
size_t sh_transfer(char *user, char *mine, size_t len, bool store)
{
	size_t done = 0, n, k;
	int err = 0;

	while (done < len && !err) {
		if (in_window(sh_addr(user) + done, len - done, &n)) {
			err = copy_window(user + done, mine + done, n, store, &done);
		} else {
			k = plain_some(user + done, mine + done, n, store);
			done += k;
			err = k == n ? 0 : -EFAULT;
		}
	}
	return done;
}

/* ---- copies of a call ---- */

/* As far into its page as the program's own: O_DIRECT is particular about that. */
static struct sh_copy *copy_new(struct sh_io *io, void *user, size_t len, unsigned int dir)
{
	size_t off = len < 512 ? 0 : sh_addr(user) % SH_PAGE, bytes = len + off;
	struct sh_copy *c = sh_alloc(sizeof *c);

	if (c == NULL)
		return NULL;
	if (len >= 512 && bytes < WHOLE_PAGES)
		bytes = WHOLE_PAGES;
	c->room = sh_alloc(bytes);
	if (c->room == NULL) {
		sh_free(c, sizeof *c);
		return NULL;
	}
	c->bytes = bytes;
	c->user = user;
	c->mine = (char *)c->room + off;
	c->len = len;
	c->dir = dir;
	c->next = io->copies;
	io->copies = c;
	return c;
}

/*
 * Only @done bytes of it could be read: what follows is no memory for the call either, which then fails or transfers
 * less, as its file does with the program's own buffer. A page ends where the program's does.
 */
static int copy_cut(struct sh_copy *c, size_t done)
{
	size_t off = sh_addr(c->user) % SH_PAGE, bytes = (size_t)pf_round_up(off + c->len, SH_PAGE);
	char *room = sh_alloc(bytes > WHOLE_PAGES ? bytes : WHOLE_PAGES);
	uint64_t bad;

	if (room == NULL)
		return -ENOMEM;
	memcpy(room + off, c->mine, done);
	sh_free(c->room, c->bytes);
	c->room = room;
	c->bytes = bytes > WHOLE_PAGES ? bytes : WHOLE_PAGES;
	c->mine = room + off;
	bad = done == 0 ? sh_addr(room) : pf_round_up(sh_addr(c->mine) + done, SH_PAGE);
	return (int)sh_sys(SYS_mprotect, bad, sh_addr(room) + bytes - bad, PROT_NONE);
}

static int copy_add(struct sh_io *io, sh_any *at, size_t len, unsigned int dir, bool counted)
{
	struct sh_copy *c;
	size_t done;
	int err = 0;

	if (*at == NULL || !touches_window(*at, len))
		return 0;
	c = copy_new(io, *at, len, dir);
	if (c == NULL)
		return -ENOMEM;
	c->counted = counted;
	/* What the kernel may leave as it is has to be there. */
	if ((dir & SH_IN) || !counted) {
		done = sh_transfer(c->user, c->mine, len, false);
		if (done != len)
			err = counted ? copy_cut(c, done) : -EFAULT;
	}
	*at = c->mine;
	return err;
}

/* A copy of something that only we look at afterwards. */
static void *shadow(struct sh_io *io, const void *user, size_t len)
{
	struct sh_copy *c = copy_new(io, (void *)(uintptr_t)user, len, 0);

	if (c == NULL || sh_transfer(c->user, c->mine, len, false) != len)
		return NULL;
	return c->mine;
}

static int vector(struct sh_io *io, struct iovec *v, size_t n, unsigned int dir, const unsigned int *count)
{
	const struct sh_copy *before;
	size_t skip = 0;
	int err = 0;

	for (size_t i = 0; i < n && !err; i++) {
		before = io->copies;
		err = copy_add(io, (sh_any *)&v[i].iov_base, v[i].iov_len, dir, true);
		if (io->copies != before) {
			io->copies->skip = skip;
			io->copies->count = count;
		}
		skip += v[i].iov_len;
	}
	return err;
}

/* In memory of its own in any case: the array may lie in a window, too. */
static int vector_of(struct sh_io *io, sh_any *at, size_t n, unsigned int dir, const unsigned int *count)
{
	if (n == 0 || n > IOV_LIMIT || *at == NULL)
		return 0;		/* the kernel has an answer to that */
	*at = shadow(io, *at, n * sizeof(struct iovec));
	return *at == NULL ? -EFAULT : vector(io, *at, n, dir, count);
}

static int message(struct sh_io *io, struct mmsghdr *m, struct mmsghdr *user, unsigned int dir, bool many)
{
	struct msghdr *h = &m->msg_hdr;
	struct sh_copy *c = copy_new(io, user, 0, 0);
	int err;

	if (c == NULL)
		return -ENOMEM;
	c->msg = m;
	c->umsg = user;
	c->many = many;
	c->dir = dir;
	err = vector_of(io, (sh_any *)&h->msg_iov, h->msg_iovlen, dir, many ? &m->msg_len : NULL);
	if (!err)
		err = copy_add(io, (sh_any *)&h->msg_name, h->msg_namelen, dir, false);
	if (!err)
		err = copy_add(io, (sh_any *)&h->msg_control, h->msg_controllen, dir, false);
	return err;
}

static int messages(struct sh_io *io, sh_any *at, size_t n, unsigned int dir)
{
	struct mmsghdr *user = *at, *mine;
	int err = 0;

	if (n == 0 || n > IOV_LIMIT || user == NULL)
		return 0;
	mine = shadow(io, user, n * sizeof *mine);
	if (mine == NULL)
		return -EFAULT;
	for (size_t i = 0; i < n && !err; i++) {
		mine[i].msg_len = 0;
		err = message(io, &mine[i], &user[i], dir, true);
	}
	*at = mine;
	return err;
}

/* struct mmsghdr begins with a struct msghdr; what follows in it is not looked at. */
static int one_message(struct sh_io *io, sh_any *at, unsigned int dir)
{
	void *user = *at, *mine;

	if (user == NULL)
		return 0;
	mine = shadow(io, user, sizeof(struct msghdr));
	*at = mine;
	return mine == NULL ? -EFAULT : message(io, mine, user, dir, false);
}

static int span_begin(struct sh_io *io, struct sh_span *s)
{
	switch (s->kind) {
	case SH_BYTES:
	case SH_OBJECT:
		return copy_add(io, s->at, s->len, s->dir, s->kind == SH_BYTES);
	case SH_VECTOR:
		return vector_of(io, s->at, s->len, s->dir, NULL);
	case SH_MESSAGE:
		return one_message(io, s->at, s->dir);
	case SH_MESSAGES:
		return messages(io, s->at, s->len, s->dir);
	}
	return -EINVAL;
}

/* ---- does it concern us at all? ---- */

static bool iov_touches(const struct iovec *v, size_t n)
{
	struct iovec one;

	if (v == NULL || n == 0 || n > IOV_LIMIT)
		return false;
	if (touches_window(v, n * sizeof *v))
		return true;
	for (size_t i = 0; i < n; i++) {
		/* Not trusted to be readable: then the call says so. */
		if (plain((char *)(uintptr_t)&v[i], (char *)&one, sizeof one, false))
			return false;
		if (touches_window(one.iov_base, one.iov_len))
			return true;
	}
	return false;
}

static bool msg_touches(const struct msghdr *user)
{
	struct msghdr m;

	if (user == NULL)
		return false;
	if (touches_window(user, sizeof *user))
		return true;
	if (plain((char *)(uintptr_t)user, (char *)&m, sizeof m, false))
		return false;
	return touches_window(m.msg_name, m.msg_namelen) || touches_window(m.msg_control, m.msg_controllen) ||
	       iov_touches(m.msg_iov, m.msg_iovlen);
}

static bool span_touches(const struct sh_span *s)
{
	const struct mmsghdr *mm = *s->at;

	switch (s->kind) {
	case SH_BYTES:
	case SH_OBJECT:
		return touches_window(*s->at, s->len);
	case SH_VECTOR:
		return iov_touches(*s->at, s->len);
	case SH_MESSAGE:
		return msg_touches(*s->at);
	case SH_MESSAGES:
		for (size_t i = 0; mm != NULL && i < s->len && i < IOV_LIMIT; i++) {
			if (msg_touches(&mm[i].msg_hdr))
				return true;
		}
		return false;
	}
	return false;
}

/* ---- the call ---- */

static void copies_free(struct sh_copy *c)
{
	struct sh_copy *next;

	for (; c != NULL; c = next) {
		next = c->next;
		sh_free(c->room, c->bytes);
		sh_free(c, sizeof *c);
	}
}

/* A thread that is cancelled in its call, or jumps out of it, leaves the copies to sh_io_drop(). */
static void remember(struct sh_io *io)
{
	io->tls = sh_tls();
	for (io->last = io->copies; io->last->next != NULL; io->last = io->last->next)
		;
	if (io->tls == NULL)
		return;
	io->last->next = io->tls->copies;
	io->tls->copies = io->copies;
}

/* In front of ours may be those of a handler that jumped away. */
static void recall(const struct sh_io *io)
{
	struct sh_copy **p = io->tls != NULL ? &io->tls->copies : NULL;

	while (p != NULL && *p != NULL && *p != io->copies)
		p = &(*p)->next;
	if (p != NULL && *p != NULL)
		*p = io->last->next;
	io->last->next = NULL;
}

void sh_io_drop(struct sh_tls *t)
{
	copies_free(t->copies);
	t->copies = NULL;
}

int sh_io_begin(struct sh_io *io, struct sh_span *span, size_t n)
{
	int saved = errno, err = 0;
	bool any = false;

	io->copies = NULL;
	io->tls = NULL;
	for (size_t i = 0; i < n && !any; i++)
		any = span_touches(&span[i]);
	for (size_t i = 0; any && i < n && !err; i++)
		err = span_begin(io, &span[i]);
	if (err) {
		copies_free(io->copies);
		io->copies = NULL;
	} else if (io->copies != NULL) {
		remember(io);
	}
	errno = saved;
	return err;
}

/* How many of the first @n bytes of the call are in place, as far as this copy is concerned; -EFAULT. */
static int copy_back(const struct sh_copy *c, long r, long *good)
{
	size_t n = c->len, total = c->count != NULL ? *c->count : (size_t)r, done;

	if (!(c->dir & SH_OUT))
		return 0;
	if (c->counted)
		n = total <= c->skip ? 0 : (size_t)pf_min64(n, total - c->skip);
	done = sh_transfer(c->user, c->mine, n, true);
	if (done == n)
		return 0;
	if (!c->counted || c->count != NULL)
		return -EFAULT;
	*good = (long)pf_min64((uint64_t)*good, c->skip + done);
	return 0;
}

static void message_back(const struct sh_copy *c)
{
	const struct mmsghdr *m = c->msg;

	if (c->dir & SH_OUT) {
		c->umsg->msg_hdr.msg_namelen = m->msg_hdr.msg_namelen;
		c->umsg->msg_hdr.msg_controllen = m->msg_hdr.msg_controllen;
		c->umsg->msg_hdr.msg_flags = m->msg_hdr.msg_flags;
	}
	if (c->many)
		c->umsg->msg_len = m->msg_len;
}

long sh_io_end(struct sh_io *io, long r)
{
	int saved = errno, err = 0;
	long good = r;

	if (io->copies == NULL)
		return r;
	recall(io);
	for (const struct sh_copy *c = io->copies; c != NULL && r >= 0; c = c->next) {
		if (c->umsg != NULL)
			message_back(c);
		else if (copy_back(c, r, &good))
			err = -EFAULT;
	}
	if (good == 0 && r > 0)
		err = -EFAULT;
	copies_free(io->copies);
	errno = err ? -err : saved;
	return err ? -1 : good;
}
