/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fakesrv.h - a daemon small enough to be believed: speaks proto.h for files whose block map is an array, in a
 * thread of the test. A "file" is an ordinary file that the test opens and maps; its bytes are ignored, its
 * blocks are in the image. sh_attach() is replaced so that the library takes it for a pinfs file.
 */
#ifndef FAKESRV_H
#define FAKESRV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FAKE_PAGES 4096U		/* per file: 16 MiB */

int fake_start(const char *dir, uint32_t nslot);	/* -errno */
void fake_hello(uint32_t flags);			/* PF_HO_* of sessions from now on */
void fake_stop(void);

/* An open descriptor of a new file of @size bytes, all holes. */
int fake_file(const char *name, uint64_t size);
int fake_new(uint64_t size);				/* ... with no name left; ends the case when that fails */
uint64_t fake_ino(int fd);
/* Give [foff, + len) blocks (whole pages), one by one backwards when @scatter, and let sessions know. */
void fake_fill(int fd, uint64_t foff, uint64_t len, bool scatter);
/* read(2) and write(2) of the file as another program would see it. */
void fake_read(int fd, uint64_t foff, void *buf, size_t len);
void fake_write(int fd, uint64_t foff, const void *buf, size_t len);
uint64_t fake_doff(int fd, uint64_t foff);		/* 0: hole */
pid_t fake_fork(void);					/* whose child may ask, too: the big lock is free in it */
int fake_device(void);					/* the image, of the server's own */

/* Break: invalidate, wait for pins up to @ms, then take the blocks out. 0, -EBUSY after the time, -ETIMEDOUT
 * without acks. */
int fake_punch(int fd, uint64_t foff, uint64_t len, unsigned int ms);
int fake_truncate(int fd, uint64_t size, unsigned int ms);
/* A cut that has found no pin, and is about to take the blocks out, goes on when this is off again, or somebody asks
 * for pages of it. */
void fake_pause(bool on);
void fake_paused(void);					/* wait until one is there */
/* Invalidate only: nothing changes. */
int fake_inval(int fd, uint64_t foff, uint64_t len);
/* As on_busy=defer: the blocks of the chunk leave the file although they are pinned; the slot is stale. */
int fake_defer(int fd, uint64_t chunk);

void fake_fail(int err);				/* every SETUPMAPPING fails so; 0: no more */
void fake_hang_up(void);				/* close every session */
void fake_move(int fd, uint64_t foff);			/* another block, same bytes, after an invalidate */

void fake_busy(bool on);				/* REMOVEMAPPINGs come too late: somebody has pinned the slot */
void fake_hold(bool on);				/* REMOVEMAPPINGs are answered when it is off again */
/* What empty slots were set up for since the last call: inodes and chunks, in order; how many. */
struct fake_grant { uint64_t ino, chunk; };
size_t fake_grants(struct fake_grant *g, size_t room);

struct fake_counts {
	unsigned int setup, store, remove, pin, kick, ack, attach, detach, sync, hello, cancel;
	unsigned int sessions, slots;			/* at present */
	unsigned int pins;				/* sum of all counters */
	unsigned int busy;				/* removes of slots that are pinned */
	unsigned int held;				/* removes put aside by fake_hold() */
};
void fake_counts(struct fake_counts *c);

#endif
