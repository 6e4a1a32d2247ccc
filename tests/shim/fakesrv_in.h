/* SPDX-License-Identifier: BSD-3-Clause */
/* fakesrv_in.h - fakesrv.c and fakefile.c from inside. fk.lock is held wherever nothing else is said. */
#ifndef FAKESRV_IN_H
#define FAKESRV_IN_H

#include "fakesrv.h"

#include <linux/fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <pinfs/ioctl.h>
#include <pinfs/ledger.h>
#include <pinfs/proto.h>

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

extern struct fake_state {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	pthread_t thread;
	char sock[PINFS_SOCK_MAX];
	int listen, stop, img;
	char *base;
	uint64_t next;			/* never used from here on; then, the oldest of those that were cut out: */
	uint32_t freed[IMAGE / 4096], nfreed, taken;
	uint32_t nslot;
	struct ffile file[MAXFILE];
	unsigned int nfile;
	struct fsess *sess[MAXSESS];
	uint64_t inval_id;
	int fail;
	bool closed;			/* the gate: no grants between an invalidation and the change */
	struct aside *aside;
	bool hold, busy, pause, paused;
	struct aside *held, **held_tail;
	struct fake_grant grant[1024];
	size_t ngrant;
	struct fake_counts n;
} fk;

/* A file never goes: without the lock, too. */
struct ffile *fk_find(uint64_t ino);
uint64_t fk_take_block(void);
void fk_answer(struct fsess *s, uint64_t unique, int err, const void *body, size_t len, const int *fds);
/* Invalidate; the answer sets acked. */
void fk_notify(struct fsess *s, struct ffile *f, uint64_t foff, uint64_t len, uint32_t flags, uint32_t slot);
/* What was put aside while the gate was closed. */
void fk_open_gate(void);
/* Answer the waiting pins of @f, or the one called @unique. */
void fk_unpark(struct fsess *s, const struct ffile *f, uint64_t unique, int err);

#endif
