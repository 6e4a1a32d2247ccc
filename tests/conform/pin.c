/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pin.c - transfers of devices that hold pages of a case's mapping, by three means (conform.h), and the slow file for
 * those that a case makes itself.
 *
 *   api    pinfs_pin_sg() of the preload library; the device is emulated: stores to, or loads from, the blocks on
 *          pinfs_device(), not the mapping
 *   slow   direct I/O on the file of slow.c, or --slow-dev; the kernel (or the library, for it) has the buffer pinned
 *   pipe   vmsplice(2)
 *
 * Runs in the case's child.
 */
#include "conform/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <pinfs/pin.h>

#define SG_MAX 1024
#define PIECES 16

enum how { BY_API, BY_SLOW, BY_PIPE };

struct piece {
	struct cf_pin *pin;
	char *p;
	size_t len;
	uint64_t off;
	pthread_t thread;
	_Atomic uint32_t tid, done;
	long rc;
};

struct cf_pin {
	struct cf *c;
	enum how how;
	enum cf_pin_dir dir;
	char *p;
	size_t len;
	char got[16];			/* cf_landed() */
	/* api */
	struct pinfs_pin *api;
	struct pinfs_sg sg[SG_MAX];
	size_t nsg;
	/* slow */
	int fd, hold;			/* pipe: fd, the end to read from */
	uint64_t off;
	struct piece piece[PIECES];
	unsigned int npiece;
	int pipe_in;
};

/* ---- api ---- */

static struct {
	int (*pin_sg)(const void *, size_t, unsigned int, struct pinfs_sg *, size_t *, struct pinfs_pin **);
	int (*unpin)(struct pinfs_pin *);
	int (*device)(const void *);
} lib;

static bool find_lib(void)
{
	*(void **)&lib.pin_sg = cf_symbol("pinfs_pin_sg");
	*(void **)&lib.unpin = cf_symbol("pinfs_unpin");
	*(void **)&lib.device = cf_symbol("pinfs_device");
	return lib.pin_sg != NULL && lib.unpin != NULL && lib.device != NULL;
}

static int begin_api(struct cf_pin *pin)
{
	int err;

	if (!find_lib())
		return -EOPNOTSUPP;
	pin->nsg = SG_MAX;
	err = lib.pin_sg(pin->p, pin->len, pin->dir == CF_TO_FILE ? PINFS_PIN_WRITE : 0, pin->sg, &pin->nsg, &pin->api);
	if (err != 0)
		return err;
	pin->fd = lib.device(pin->p);
	if (pin->fd >= 0)
		return 0;
	(void)lib.unpin(pin->api);
	return pin->fd;
}

/* What the device does, at its own addresses. */
static void move(struct cf_pin *pin)
{
	char *buf = pin->dir == CF_FROM_FILE ? malloc(pin->len) : NULL;
	size_t at = 0;

	CF_MUST(pin->c, pin->dir == CF_TO_FILE || buf != NULL);
	for (size_t i = 0; i < pin->nsg; i++) {
		const uint64_t in = pin->sg[i].sg_doff % CF_PAGE, len = pin->sg[i].sg_len;
		char *m = mmap(NULL, in + len, PROT_READ | PROT_WRITE, MAP_SHARED, pin->fd,
			       (off_t)(pin->sg[i].sg_doff - in));

		if (m == MAP_FAILED)
			cf_broken(pin->c, __FILE__, __LINE__, "mmap of the device", -(long)errno);
		if (pin->dir == CF_TO_FILE)
			memset(m + in, CF_DMA, len);
		else
			memcpy(buf + at, m + in, len);
		at += len;
		(void)munmap(m, in + len);
	}
	if (buf != NULL)
		(void)snprintf(pin->got, sizeof pin->got, "%s", cf_content_of(buf, at));
	free(buf);
}

static void land_api(struct cf_pin *pin)
{
	move(pin);
	(void)close(pin->fd);
	if (lib.unpin(pin->api) != 0)
		cf_broken(pin->c, __FILE__, __LINE__, "pinfs_unpin", 0);
}

/* ---- slow ---- */

static void *transfer(void *arg)
{
	struct piece *t = arg;
	const int fd = t->pin->fd;
	sigset_t all;

	/* A case's signals are for its own threads. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, NULL);
	atomic_store(&t->tid, (uint32_t)syscall(SYS_gettid));
	t->rc = cf_rc(t->pin->dir == CF_TO_FILE ? pread(fd, t->p, t->len, (off_t)t->off)
						: pwrite(fd, t->p, t->len, (off_t)t->off));
	atomic_store(&t->done, 1);
	return NULL;
}

/* Of the device, whose bytes are nobody's, or of the slow file, whose are one transfer's each. */
static uint64_t region(struct cf *c, size_t len)
{
	const uint64_t off = c->place->slow_dev != NULL ? 0 : slow_region(len);

	CF_MUST(c, off + len <= SLOW_BYTES);
	return off;
}

/* A device that answers late by itself: each transfer sleeps for it in the kernel. */
static bool all_in_device(const struct cf_pin *pin)
{
	for (unsigned int i = 0; i < pin->npiece; i++)
		if (!sleeps_for_device((pid_t)atomic_load(&pin->piece[i].tid)))
			return false;
	return true;
}

/* All pieces wait in the file: 0. One has come back: its error. */
static int under_way(struct cf_pin *pin)
{
	for (;;) {
		for (unsigned int i = 0; i < pin->npiece; i++)
			if (atomic_load(&pin->piece[i].done))
				return pin->piece[i].rc < 0 ? (int)pin->piece[i].rc : -EIO;
		if (pin->hold >= 0 ? slow_waiting(pin->hold) >= pin->npiece : all_in_device(pin))
			return 0;
		(void)usleep(50);
	}
}

static long end_slow(struct cf_pin *pin)
{
	long rc = 0;

	if (pin->hold >= 0)
		slow_release(pin->hold);
	for (unsigned int i = 0; i < pin->npiece; i++) {
		(void)pthread_join(pin->piece[i].thread, NULL);
		if (pin->piece[i].rc != (long)pin->piece[i].len && rc == 0)
			rc = pin->piece[i].rc < 0 ? pin->piece[i].rc : -EIO;
	}
	(void)close(pin->fd);
	return rc;
}

/* Requests of the kernel hold so much at most, counted in pages that are touched. */
static int begin_slow(struct cf_pin *pin)
{
	size_t at = 0;
	int err;

	const char *dev = pin->c->place->slow_dev;

	if (dev == NULL && !slow_there())
		return -EOPNOTSUPP;
	pin->fd = open(dev != NULL ? dev : slow_file(), O_RDWR | O_DIRECT | O_CLOEXEC);
	if (pin->fd < 0)
		return -errno;
	pin->off = region(pin->c, pin->len);
	pin->hold = dev != NULL ? -1 : slow_hold(pin->off, pin->len);
	CF_MUST(pin->c, dev != NULL || pin->hold >= 0);
	while (at < pin->len) {
		struct piece *t = &pin->piece[pin->npiece];
		const size_t room = SLOW_REQ - (uintptr_t)(pin->p + at) % SLOW_REQ;

		CF_MUST(pin->c, pin->npiece < PIECES);
		*t = (struct piece){ .pin = pin, .p = pin->p + at, .off = pin->off + at,
				     .len = pin->len - at < room ? pin->len - at : room };
		CF_MUST(pin->c, pthread_create(&t->thread, NULL, transfer, t) == 0);
		pin->npiece++;
		at += t->len;
	}
	err = under_way(pin);
	if (err != 0)
		(void)end_slow(pin);
	return err;
}

static void land_slow(struct cf_pin *pin)
{
	const long rc = end_slow(pin);

	if (rc != 0)
		cf_broken(pin->c, __FILE__, __LINE__, "transfer of the slow file", rc);
	if (pin->dir == CF_FROM_FILE)
		(void)snprintf(pin->got, sizeof pin->got, "%s", cf_content_of(slow_data(pin->off), pin->len));
}

/* ---- pipe ---- */

static int begin_pipe(struct cf_pin *pin)
{
	const struct iovec v = { pin->p, pin->len };
	int end[2], err;
	ssize_t n;

	if (pin->dir != CF_FROM_FILE)
		return -EOPNOTSUPP;
	if (pipe2(end, O_CLOEXEC) != 0)
		return -errno;
	(void)fcntl(end[0], F_SETPIPE_SZ, (int)(pin->len + 2 * CF_PAGE));
	n = vmsplice(end[1], &v, 1, SPLICE_F_NONBLOCK);
	pin->fd = end[0];
	pin->pipe_in = end[1];
	if (n == (ssize_t)pin->len)
		return 0;
	err = n < 0 ? -errno : -EOPNOTSUPP;
	(void)close(end[0]);
	(void)close(end[1]);
	return err;
}

static void land_pipe(struct cf_pin *pin)
{
	char *buf = malloc(pin->len);
	size_t got = 0;

	CF_MUST(pin->c, buf != NULL);
	while (got < pin->len)
		got += (size_t)CF_SYS(pin->c, read(pin->fd, buf + got, pin->len - got));
	(void)snprintf(pin->got, sizeof pin->got, "%s", cf_content_of(buf, pin->len));
	free(buf);
	(void)close(pin->fd);
	(void)close(pin->pipe_in);
}

/* ---- all ---- */

static const struct {
	const char *name;
	int (*begin)(struct cf_pin *pin);
	void (*land)(struct cf_pin *pin);
} ways[] = {
	[BY_API] = { "api", begin_api, land_api },
	[BY_SLOW] = { "slow", begin_slow, land_slow },
	[BY_PIPE] = { "pipe", begin_pipe, land_pipe },
};

int cf_pin_by(struct cf *c, const char *how, void *p, size_t len, enum cf_pin_dir dir, struct cf_pin **out)
{
	struct cf_pin *pin;
	size_t i = 0;
	int err;

	while (i < PF_ARRAY_LEN(ways) && strcmp(ways[i].name, how) != 0)
		i++;
	if (i == PF_ARRAY_LEN(ways))
		return -EOPNOTSUPP;
	pin = calloc(1, sizeof *pin);
	CF_MUST(c, pin != NULL);
	*pin = (struct cf_pin){ .c = c, .how = (enum how)i, .dir = dir, .p = p, .len = len, .got = "nothing" };
	err = ways[i].begin(pin);
	if (err == 0)
		*out = pin;
	else
		free(pin);
	return err;
}

int cf_pin_try(struct cf *c, void *p, size_t len, enum cf_pin_dir dir, struct cf_pin **out)
{
	if (c->place->pin == NULL)
		cf_na(c, "%s", c->place->no_pins);
	return cf_pin_by(c, c->place->pin, p, len, dir, out);
}

struct cf_pin *cf_pin(struct cf *c, void *p, size_t len, enum cf_pin_dir dir)
{
	struct cf_pin *pin = NULL;
	const int err = cf_pin_try(c, p, len, dir, &pin);

	if (err == -EOPNOTSUPP && strcmp(c->place->pin, "pipe") == 0)
		cf_na(c, "a pipe holds pages to be read only");
	if (err != 0)
		cf_broken(c, __FILE__, __LINE__, "cf_pin", err);
	return pin;
}

void cf_land(struct cf_pin *pin)
{
	ways[pin->how].land(pin);
}

const char *cf_landed(const struct cf_pin *pin)
{
	return pin->got;
}

/* ---- for transfers that a case makes itself ---- */

static _Atomic int all_held = -1;

const char *cf_slow(struct cf *c)
{
	if (!slow_there())
		cf_na(c, "there can be no slow file here");
	atomic_store(&all_held, slow_hold(0, SLOW_BYTES));
	CF_MUST(c, atomic_load(&all_held) >= 0);
	return slow_file();
}

void cf_slow_await(struct cf *c, unsigned int n)
{
	CF_MUST(c, atomic_load(&all_held) >= 0);
	while (slow_waiting(atomic_load(&all_held)) < n)
		(void)usleep(50);
}

void cf_slow_release(struct cf *c)
{
	CF_MUST(c, atomic_load(&all_held) >= 0);
	slow_release(atomic_exchange(&all_held, -1));
}
