/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fakefile.c - the files of fakesrv.h and what happens to them behind a client's back: reads and writes by others,
 * blocks that move, breaks. All of it in the thread that asks.
 */
#include "fakesrv_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "harness/run.h"

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

int fake_new(uint64_t size)
{
	static unsigned int n;
	char path[300];
	int fd;

	(void)snprintf(path, sizeof path, "%s/f%u", pt_tmp(), n++);
	fd = fake_file(path, size);
	CU_ASSERT_FATAL(fd >= 0);
	(void)unlink(path);
	return fd;
}

uint64_t fake_ino(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

uint64_t fake_doff(int fd, uint64_t foff)
{
	struct ffile *f = fk_find(fake_ino(fd));
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
			fk_notify(fk.sess[i], f, foff, len, flags, 0);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 120;
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
	struct ffile *f = fk_find(fake_ino(fd));
	uint64_t n = len / 4096, at;

	pthread_mutex_lock(&fk.lock);
	(void)forget(f, foff, len);
	at = fk.next;
	fk.next += len;
	memset(fk.base + at, 0, len);
	for (uint64_t i = 0; i < n; i++)
		f->page[foff / 4096 + i] = at + (scatter ? n - 1 - i : i) * 4096;
	fk_open_gate();
	pthread_mutex_unlock(&fk.lock);
}

void fake_read(int fd, uint64_t foff, void *buf, size_t len)
{
	struct ffile *f = fk_find(fake_ino(fd));

	pthread_mutex_lock(&fk.lock);
	for (size_t i = 0; i < len; i++) {
		uint64_t d = f->page[(foff + i) / 4096];

		((char *)buf)[i] = d ? fk.base[d + (foff + i) % 4096] : 0;
	}
	pthread_mutex_unlock(&fk.lock);
}

void fake_write(int fd, uint64_t foff, const void *buf, size_t len)
{
	struct ffile *f = fk_find(fake_ino(fd));
	bool told = false;

	pthread_mutex_lock(&fk.lock);
	for (size_t i = 0; i < len; i++) {
		uint64_t *d = &f->page[(foff + i) / 4096];

		if (*d == 0) {
			if (!told)
				(void)forget(f, foff, len);
			told = true;
			*d = fk_take_block();
		}
		fk.base[*d + (foff + i) % 4096] = ((const char *)buf)[i];
	}
	fk_open_gate();
	pthread_mutex_unlock(&fk.lock);
}

void fake_move(int fd, uint64_t foff)
{
	struct ffile *f = fk_find(fake_ino(fd));
	uint64_t *d = &f->page[foff / 4096], n;

	pthread_mutex_lock(&fk.lock);
	(void)forget(f, foff, 4096);
	n = fk_take_block();
	memcpy(fk.base + n, fk.base + *d, 4096);
	*d = n;
	fk_open_gate();
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
			fk_answer(fk.sess[i], 0, PF_P_NOTIFY_INVAL, &in, sizeof in, NULL);
}

/* Out of the file, and reused at once, as it were: whoever still writes there is found out. */
static void take_out(uint64_t *page)
{
	if (*page == 0)
		return;
	memset(fk.base + *page, 0xEE, 4096);
	fk.freed[fk.nfreed++ % PF_ARRAY_LEN(fk.freed)] = (uint32_t)(*page / 4096);
	*page = 0;
}

static void pause_here(void)
{
	fk.paused = fk.pause;
	pthread_cond_broadcast(&fk.cond);
	while (fk.pause && fk.aside == NULL)
		pthread_cond_wait(&fk.cond, &fk.lock);
	fk.paused = false;
}

void fake_pause(bool on)
{
	pthread_mutex_lock(&fk.lock);
	fk.pause = on;
	pthread_cond_broadcast(&fk.cond);
	pthread_mutex_unlock(&fk.lock);
}

void fake_paused(void)
{
	pthread_mutex_lock(&fk.lock);
	while (!fk.paused)
		pthread_cond_wait(&fk.cond, &fk.lock);
	pthread_mutex_unlock(&fk.lock);
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
		fk_open_gate();
		if (pthread_cond_timedwait(&fk.cond, &fk.lock, &until))
			err = -EBUSY;
		else
			err = forget_with(f, foff, len, flags);
	}
	if (!err) {
		pause_here();
		for (uint64_t p = foff / 4096; p < (foff + len) / 4096 && p < FAKE_PAGES; p++)
			take_out(&f->page[p]);
		f->size = size;
		if (flags)
			drop_copies(f, foff);
	}
	f->cutting = false;
	freeze(f, false);
	for (int i = 0; i < MAXSESS; i++)
		if (fk.sess[i] != NULL)
			fk_unpark(fk.sess[i], f, 0, -EAGAIN);
	return err;
}

int fake_punch(int fd, uint64_t foff, uint64_t len, unsigned int ms)
{
	struct ffile *f = fk_find(fake_ino(fd));
	int err;

	pthread_mutex_lock(&fk.lock);
	err = cut(f, foff, len, f->size, ms);
	fk_open_gate();
	pthread_mutex_unlock(&fk.lock);
	return err;
}

int fake_truncate(int fd, uint64_t size, unsigned int ms)
{
	struct ffile *f = fk_find(fake_ino(fd));
	uint64_t from = (size + 4095) / 4096 * 4096;
	int err;

	pthread_mutex_lock(&fk.lock);
	if (size >= f->size) {
		err = forget(f, f->size / 4096 * 4096, (uint64_t)FAKE_PAGES * 4096);
		f->size = size;
	} else {
		err = cut(f, from, (uint64_t)FAKE_PAGES * 4096 - from, size, ms);
	}
	fk_open_gate();
	pthread_mutex_unlock(&fk.lock);
	return err;
}

int fake_inval(int fd, uint64_t foff, uint64_t len)
{
	int err;

	pthread_mutex_lock(&fk.lock);
	err = forget(fk_find(fake_ino(fd)), foff, len);
	fk_open_gate();
	pthread_mutex_unlock(&fk.lock);
	return err;
}

int fake_defer(int fd, uint64_t chunk)
{
	struct ffile *f = fk_find(fake_ino(fd));

	pthread_mutex_lock(&fk.lock);
	for (int i = 0; i < MAXSESS; i++) {
		struct fsess *s = fk.sess[i];

		for (uint32_t k = 0; s != NULL && s->hello && k < fk.nslot; k++) {
			if (s->slots[k].f != f || s->slots[k].chunk != chunk || s->slots[k].stale)
				continue;
			atomic_fetch_or(&s->led[k].ls_word, PF_SLOT_STALE | PF_SLOT_FROZEN);
			s->slots[k].stale = true;
			fk_notify(s, f, chunk << 21, 1 << 21, PF_IN_DEAD, k);
		}
	}
	for (uint64_t p = chunk * 512; p < (chunk + 1) * 512; p++)
		f->page[p] = 0;
	pthread_mutex_unlock(&fk.lock);
	return 0;
}
