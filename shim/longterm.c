/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * longterm.c - pins of registrations, and the devices that have them. Owns struct sh_pinned, struct sh_dev, struct
 * sh_reg. Takes long_lock; sh.lock for a moment, not under it.
 */
#include "longterm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include "pin.h"
#include "transient.h"

#define PIECE_BYTES (UINT64_C(16) << 20)	/* one pin at most: the others of a registration are let in between */
#define LOOK_NS UINT64_C(200000000)
#define MARKS UINT64_C(0x5000000000000000)	/* where the bytes with our locks begin */
#define DEV_FDS 8U

/* ---- pins ---- */

struct sh_pinned {
	_Atomic unsigned int refs;
	uint32_t epoch;
	size_t n, room;
	struct pinfs_pin **pin;
};

static bool keep(struct sh_pinned *p, struct pinfs_pin *pin)
{
	size_t room = p->room != 0 ? 4 * p->room : 4;
	struct pinfs_pin **more;

	if (p->n == p->room) {
		more = sh_alloc(room * sizeof(struct pinfs_pin *));
		if (more == NULL)
			return false;
		if (p->n != 0)
			memcpy(more, p->pin, p->n * sizeof(struct pinfs_pin *));
		sh_free(p->pin, p->room * sizeof(struct pinfs_pin *));
		p->pin = more;
		p->room = room;
	}
	p->pin[p->n++] = pin;
	return true;
}

static void let_go(struct sh_pinned *p)
{
	while (p->n > 0)
		(void)pinfs_unpin(p->pin[--p->n]);
}

void sh_pinned_get(struct sh_pinned *p)
{
	if (p != NULL)
		atomic_fetch_add(&p->refs, 1);
}

void sh_pinned_put(struct sh_pinned *p)
{
	int saved = errno;

	if (p == NULL || atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	if (p->epoch == atomic_load(&sh_life.epoch))	/* else it is the parent's */
		let_go(p);
	sh_free(p->pin, p->room * sizeof(struct pinfs_pin *));
	sh_free(p, sizeof *p);
	errno = saved;
}

/* The next piece of [*at, hi) that is blocks of a file; false: there is none. Copies in a private window are memory
 * like any other. */
static bool next_piece(uint64_t *at, uint64_t hi, uint64_t *end, bool *private)
{
	struct sh_vma *v, *n;
	bool found = false;
	sh_sigs old;

	sh_lock(&old);
	while (!found && *at < hi && (v = sh_vma_next(*at)) != NULL && v->lo < hi) {
		*at = pf_max64(*at, v->lo);
		*end = pf_min64(v->hi, hi);
		*private = v->map->private;
		found = !*private || sh_next_shown(v, at, *end, end);
		if (!found)
			*at = pf_min64(v->hi, hi);
		while (!*private && *end < hi && (n = sh_vma_find(*end)) != NULL && n->map == v->map)
			*end = pf_min64(n->hi, hi);
	}
	sh_unlock(&old);
	if (found)
		*end = pf_min64(*end, pf_round_down(*at, PIECE_BYTES) + PIECE_BYTES);
	return found;
}

/* As the kernel's callers of pin_user_pages() see it. */
static int as_kernel(int err)
{
	switch (err) {
	case 0:
	case -EOPNOTSUPP:
	case -EPERM:
	case -ENOMEM:
	case -EINTR:
	case -EAGAIN:
		return err;
	case -EBUSY:		/* no slots left */
	case -EDEADLK:
		return -ENOMEM;
	default:
		return -EFAULT;
	}
}

struct taking {
	unsigned int flags;
	enum pf_pin_api api;
	uint64_t at, end;		/* the piece at hand */
};

/* Under another policy the pages of a private window could be pinned; but they are not what the program sees. */
static int pin_piece(struct taking *k, bool private, unsigned int flags, struct pinfs_pin **out)
{
	const struct sh_ask a = { .addr = k->at, .len = k->end - k->at, .flags = k->flags | flags, .api = k->api };

	return private ? -EOPNOTSUPP : as_kernel(sh_pin_ask(&a, out));
}

static struct sh_pinned *pinned_new(void)
{
	struct sh_pinned *p = sh_alloc(sizeof *p);

	if (p != NULL) {
		atomic_init(&p->refs, 1);
		p->epoch = atomic_load(&sh_life.epoch);
	}
	return p;
}

static int take_range(struct taking *k, uint64_t lo, uint64_t len, struct sh_pinned **to)
{
	uint64_t hi = len > UINT64_MAX - lo ? UINT64_MAX : lo + len;
	struct pinfs_pin *pin;
	bool private;
	int err = 0;

	for (k->at = lo; err == 0 && next_piece(&k->at, hi, &k->end, &private); k->at = k->end) {
		err = pin_piece(k, private, PINFS_PIN_NOWAIT, &pin);
		if (err)
			break;
		if (*to == NULL)
			*to = pinned_new();
		if (*to == NULL || !keep(*to, pin)) {
			(void)pinfs_unpin(pin);
			err = -ENOMEM;
		}
		/* VFIO and AF_XDP fault pages in by a way that userfaultfd does not wait on. */
		if (!err)
			sh_prefault(k->at, k->end - k->at, (k->flags & PINFS_PIN_WRITE) != 0);
	}
	return err;
}

/* Nothing is held: until the truncate that was in the way of this piece is over. -EAGAIN: it is. */
static int wait_turn(struct taking *k)
{
	struct pinfs_pin *pin;
	int err = pin_piece(k, false, 0, &pin);

	if (err)
		return err;
	(void)pinfs_unpin(pin);
	return -EAGAIN;
}

static int take(const struct iovec *v, size_t n, bool each, struct taking *k, struct sh_pinned **out)
{
	const size_t nout = each ? n : 1;
	int saved = errno, err;

	for (size_t i = 0; i < nout; i++)
		out[i] = NULL;
	if (sh.long_unsafe || atomic_load(&sh.nvma) == 0 || !sh_iov_touches(v, n))
		return 0;
	do {
		err = 0;
		for (size_t i = 0; i < n && !err; i++)
			err = take_range(k, sh_addr(v[i].iov_base), v[i].iov_len, &out[each ? i : 0]);
		for (size_t i = 0; i < nout && err; i++) {
			sh_pinned_put(out[i]);
			out[i] = NULL;
		}
		if (err == -EAGAIN)
			err = wait_turn(k);
	} while (err == -EAGAIN);
	errno = saved;
	return err;
}

int sh_pinned_take(const struct iovec *v, size_t n, bool write, enum pf_pin_api api, struct sh_pinned **out)
{
	struct taking k = { .flags = PINFS_PIN_LONGTERM | (write ? PINFS_PIN_WRITE : 0), .api = api };

	return take(v, n, false, &k, out);
}

int sh_pinned_take_each(const struct iovec *v, size_t n, bool write, enum pf_pin_api api, struct sh_pinned **out)
{
	struct taking k = { .flags = PINFS_PIN_LONGTERM | (write ? PINFS_PIN_WRITE : 0), .api = api };

	return take(v, n, true, &k, out);
}

/* ---- devices ---- */

struct sh_reg {
	struct sh_reg *next;
	struct sh_dev *dev;		/* or NULL */
	struct sh_name name;
	struct sh_pinned *p;
};

struct sh_dev {
	struct sh_dev *next;
	uint64_t st_dev, st_ino;
	uint64_t mark;			/* our lock; 0: it cannot be had, so the end is not seen */
	unsigned int refs;		/* registrations, also those that were taken off for now */
	unsigned int gone;		/* looks at which the lock was missing */
	int fd[DEV_FDS];		/* numbers under which it was seen last */
	unsigned int nfd;
};

static pthread_mutex_t long_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sh_dev *devs;
static _Atomic unsigned int ndevs;
static struct sh_reg *regs;
static uint64_t next_look_ns;
static atomic_bool looking;
_Atomic unsigned int sh_nregs;

static void lock_in(sh_sigs *old)
{
	sigset_t all;

	memset(&all, 0xff, sizeof all);
	(void)sh_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, old, (size_t)8);
	pthread_mutex_lock(&long_lock);
}

static void lock_out(const sh_sigs *old)
{
	pthread_mutex_unlock(&long_lock);
	sh_sigs_restore(old);
}

static struct flock byte_at(uint64_t mark, short type)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)mark, .l_len = 1 };
}

/* Is a lock on this byte of any file held by anybody? 1, 0, or -errno. */
static int lock_exists(uint64_t mark)
{
	char want[48], buf[4096];
	size_t have = 0, len;
	long fd = sh_sys(SYS_openat, AT_FDCWD, "/proc/locks", O_RDONLY | O_CLOEXEC, 0), n;
	int found = 0;

	if (fd < 0)
		return (int)fd;
	len = (size_t)snprintf(want, sizeof want, " %llu %llu\n", (unsigned long long)mark, (unsigned long long)mark);
	while (!found && (n = sh_sys(SYS_read, fd, buf + have, sizeof buf - have)) > 0) {
		have += (size_t)n;
		found = memmem(buf, have, want, len) != NULL;
		if (have > len) {		/* the beginning of it may be here */
			memmove(buf, buf + have - len, len);
			have = len;
		}
	}
	(void)sh_sys(SYS_close, fd);
	return found;
}

/* Lock held. A byte that nobody else's lock is on; 0: this file takes none, or nobody can see it. */
static uint64_t set_mark(int fd)
{
	struct flock fl;
	uint64_t mark = 0;

	if (sh_sys(SYS_getrandom, &mark, sizeof mark, 0) != sizeof mark)
		return 0;
	mark = MARKS | mark >> 8;
	fl = byte_at(mark, F_RDLCK);
	if (sh_sys(SYS_fcntl, fd, F_OFD_SETLK, &fl) != 0)
		return 0;
	return lock_exists(mark) == 1 ? mark : 0;
}

/* Lock held. Is @fd a descriptor of @d? Where the lock is its own, it is in nobody's way. */
static bool is_dev(const struct sh_dev *d, int fd, const struct stat *st)
{
	struct flock fl = byte_at(d->mark, F_WRLCK);

	if (d->st_dev != st->st_dev || d->st_ino != st->st_ino)
		return false;
	if (d->mark == 0)
		return true;
	return sh_sys(SYS_fcntl, fd, F_OFD_GETLK, &fl) == 0 && fl.l_type == F_UNLCK && lock_exists(d->mark) == 1;
}

static bool has_fd(const struct sh_dev *d, int fd)
{
	for (unsigned int i = 0; i < DEV_FDS && i < d->nfd; i++)
		if (d->fd[i] == fd)
			return true;
	return false;
}

static void seen_as(struct sh_dev *d, int fd)
{
	if (!has_fd(d, fd))
		d->fd[d->nfd++ % DEV_FDS] = fd;
}

/* Lock held. NULL: there is none, or no memory. */
static struct sh_dev *dev_of(int fd, bool make)
{
	struct sh_dev *d;
	struct stat st;

	if (fd < 0 || sh_sys(SYS_fstat, fd, &st) != 0)
		return NULL;
	for (d = devs; d != NULL; d = d->next)
		if (is_dev(d, fd, &st))
			break;
	if (d == NULL && make) {
		d = sh_alloc(sizeof *d);
		if (d == NULL)
			return NULL;
		d->st_dev = st.st_dev;
		d->st_ino = st.st_ino;
		d->mark = set_mark(fd);
		if (d->mark == 0)
			sh_log(SH_INFO, "descriptor %d: its last close cannot be seen: what it pins stays until it is"
			       " taken back, or this process ends", fd);
		d->next = devs;
		devs = d;
		atomic_fetch_add(&ndevs, 1);
	}
	if (d != NULL)
		seen_as(d, fd);
	return d;
}

/* Lock held. */
static void dev_put(struct sh_dev *d)
{
	struct sh_dev **at = &devs;

	if (d == NULL || --d->refs > 0)
		return;
	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	sh_free(d, sizeof *d);
	atomic_fetch_sub(&ndevs, 1);
}

/* ---- registrations ---- */

int sh_reg_new(struct sh_reg **out)
{
	*out = sh_alloc(sizeof **out);
	return *out == NULL ? -ENOMEM : 0;
}

void sh_reg_free(struct sh_reg *r)
{
	sh_free(r, sizeof *r);
}

static int wake_serve(void *arg PF_UNUSED)
{
	sh_serve_bell();		/* it has to look now and then */
	return 0;
}

void sh_reg_add(struct sh_reg *r, int fd, struct sh_name name, struct sh_pinned *p)
{
	bool first;
	sh_sigs old;

	lock_in(&old);
	*r = (struct sh_reg){ .next = regs, .dev = dev_of(fd, true), .name = name, .p = p };
	if (r->dev != NULL)
		r->dev->refs++;
	regs = r;
	first = r->dev != NULL && r->dev->refs == 1;
	atomic_fetch_add(&sh_nregs, 1);
	lock_out(&old);
	if (first)
		(void)sh_crew_post(wake_serve, NULL);
}

static bool same_space(const struct sh_reg *r, const struct sh_dev *d, const struct sh_name *n)
{
	return r->dev == d && r->name.api == n->api && r->name.space == n->space;
}

struct sh_reg *sh_reg_take(int fd, struct sh_name name)
{
	struct sh_reg *list = NULL, *r, **at = &regs;
	struct sh_dev *d;
	sh_sigs old;

	if (atomic_load(&sh_nregs) == 0)
		return NULL;
	lock_in(&old);
	d = dev_of(fd, false);
	while ((r = *at) != NULL) {
		if ((fd >= 0 && d == NULL) || !same_space(r, d, &name) || r->name.lo < name.lo ||
		    r->name.hi > name.hi) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		r->next = list;
		list = r;
	}
	lock_out(&old);
	return list;
}

void sh_reg_back(struct sh_reg *list)
{
	struct sh_reg *r;
	sh_sigs old;

	lock_in(&old);
	while ((r = list) != NULL) {
		list = r->next;
		r->next = regs;
		regs = r;
	}
	lock_out(&old);
}

void sh_reg_end(struct sh_reg *list)
{
	struct sh_reg *r;
	sh_sigs old;

	while ((r = list) != NULL) {
		list = r->next;
		lock_in(&old);
		dev_put(r->dev);
		atomic_fetch_sub(&sh_nregs, 1);
		lock_out(&old);
		sh_pinned_put(r->p);
		sh_reg_free(r);
	}
}

uint64_t sh_reg_what(const struct sh_reg *r)
{
	return r->name.what;
}

uint64_t sh_reg_bytes(const struct sh_reg *list)
{
	uint64_t n = 0;

	for (; list != NULL; list = list->next)
		n += list->name.hi - list->name.lo;
	return n;
}

int sh_reg_share(int from_fd, struct sh_name from, int to_fd, struct sh_name to)
{
	struct sh_reg *r, *more, *list = NULL;
	struct sh_dev *d, *t;
	int err = 0;
	sh_sigs old;

	if (atomic_load(&sh_nregs) == 0)
		return 0;
	lock_in(&old);
	d = dev_of(from_fd, false);
	t = d != NULL ? dev_of(to_fd, true) : NULL;
	for (r = t != NULL ? regs : NULL; r != NULL && !err; r = r->next) {
		if (!same_space(r, d, &from) || r->name.lo >= from.hi || r->name.hi <= from.lo)
			continue;
		err = sh_reg_new(&more);
		if (err)
			break;
		*more = (struct sh_reg){ .next = list, .dev = t, .name = to, .p = r->p };
		sh_pinned_get(r->p);
		t->refs++;
		list = more;
		atomic_fetch_add(&sh_nregs, 1);
	}
	while (!err && (r = list) != NULL) {
		list = r->next;
		r->next = regs;
		regs = r;
	}
	if (t != NULL && t->refs++ == 0)
		dev_put(t);		/* it got nothing */
	else if (t != NULL)
		t->refs--;
	lock_out(&old);
	sh_reg_end(list);
	return err;
}

/* ---- the end of devices ---- */

/*
 * Those whose lock has gone; @fd has just been closed, or is -1. An AF_XDP socket gives its pages back a moment after
 * its end, by a worker of the kernel's; and who closes a device last in another process is still about to: these are
 * believed at the second look.
 */
static struct sh_reg *take_gone(int fd)
{
	struct sh_reg *list = NULL, *r, **at = &regs;

	for (struct sh_dev *d = devs; d != NULL; d = d->next)
		d->gone = d->mark != 0 && lock_exists(d->mark) == 0 ? d->gone + 1 : 0;
	while ((r = *at) != NULL) {
		const struct sh_dev *d = r->dev;

		if (d == NULL || d->gone == 0 || (d->gone == 1 && (r->name.api == PF_API_XDP || !has_fd(d, fd)))) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		r->next = list;
		list = r;
	}
	return list;
}

static int end_in_crew(void *list)
{
	sh_reg_end(list);
	return 0;
}

void sh_long_closed(int fd)
{
	struct sh_reg *list = NULL;
	bool known = false;
	sh_sigs old;
	int saved;

	if (atomic_load(&sh_nregs) == 0 || sh_is_crew || (pid_t)sh_sys(SYS_getpid) != sh.pid)
		return;
	lock_in(&old);
	for (const struct sh_dev *d = devs; d != NULL; d = d->next)
		known |= has_fd(d, fd);
	if (known)
		list = take_gone(fd);
	lock_out(&old);
	/* close(2) may come from a handler on top of whatever this thread is doing. */
	saved = errno;
	if (list != NULL)
		(void)sh_crew_call(end_in_crew, list);
	errno = saved;
}

/* Crew: it may wait for the daemon. */
static int look(void *arg PF_UNUSED)
{
	struct sh_reg *list;
	sh_sigs old;

	lock_in(&old);
	list = take_gone(-1);
	lock_out(&old);
	sh_reg_end(list);
	atomic_store(&looking, false);
	return 0;
}

int sh_long_timeout_ms(void)
{
	return atomic_load(&ndevs) != 0 ? (int)(LOOK_NS / 1000000) : -1;
}

void sh_long_timer(void)
{
	uint64_t now = sh_now_ns();

	if (atomic_load(&ndevs) == 0 || now < next_look_ns)
		return;
	next_look_ns = now + LOOK_NS;
	if (!atomic_exchange(&looking, true) && sh_crew_post(look, NULL) != 0)
		atomic_store(&looking, false);
}

/* What the parent has registered is the parent's. */
void sh_long_forget(void)
{
	pthread_mutex_init(&long_lock, NULL);
	devs = NULL;
	regs = NULL;
	atomic_store(&sh_nregs, 0);
	atomic_store(&ndevs, 0);
	atomic_store(&looking, false);
}
