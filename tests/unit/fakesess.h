/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fakesess.h - clients without a socket, for tests of fs/share: a session whose messages are kept in memory, and the
 * client's half of the pin handshake as include/pinfs/ledger.h demands it.
 */
#ifndef PF_TESTS_FAKESESS_H
#define PF_TESTS_FAKESESS_H

#include <CUnit/Basic.h>
#include <pthread.h>
#include <semaphore.h>
#include <pinfs/proto.h>
#include "share/lay.h"

#define FK_CHUNK PF_CHUNK_SIZE
#define FK_PAGE PF_BLK_SIZE
#define FK_PATIENCE_S 120U		/* for what has to happen */
#define FK_NEVER_MS 86400000U		/* a timeout that no test lives to see, however long the machine stands still */

struct fk_file {
	struct pf_lobj lobj;
	struct pf_fs *fs;
	_Atomic int refs;
};

struct fk_msg { uint64_t id, ino, foff, len; uint32_t flags, slot; };

struct fk_sess {
	struct pf_sess *s;
	struct pf_fs *fs;
	pthread_mutex_t lock;
	struct fk_msg msg[4096];	/* invalidates, in order */
	unsigned int nmsg, acked;
	struct pf_p_lease_event event;	/* the last one */
	struct pf_p_revoke revoke;
	_Atomic unsigned int nevent, nrevoke;
	bool void_when_told;		/* slot 0 had pages without translation at the last event or revoke */
};

struct fk_brk {
	struct pf_brk b;
	sem_t done;
	_Atomic int ended;		/* times b_done was called */
	int err;
	_Atomic int works, parks, prepares;
	int work_err, park_err, prepare_err;
	unsigned int turn;		/* the how manieth b_work of the program it was */
	void (*hook)(struct fk_brk *b);	/* called in b_work */
	void *arg;
};

/* An empty filesystem with layers 1 to 3; clients may take all the time there is to answer. Policy and timeouts may be
 * set in fs->opts at any time. */
struct pf_fs *fk_open(void);
void fk_close(struct pf_fs *fs);

void fk_file_init(struct fk_file *f, struct pf_fs *fs, uint64_t ino);
void fk_file_fini(struct fk_file *f);		/* fails the case when the file stays referenced */

struct fk_sess *fk_sess_new(struct pf_fs *fs, pid_t pid);
void fk_sess_free(struct fk_sess *k);		/* the process has ended */
uint64_t fk_attach(struct fk_sess *k, struct fk_file *f);
/* Slot @slot becomes chunk @foff of @f, all of it at device block @dblk (0: a hole). Waits while the gate is closed. */
int fk_grant(struct fk_sess *k, uint64_t fh, uint32_t slot, uint64_t foff, uint64_t dblk);
/* Handle all messages that have come: acknowledge those that ask for it. How many. */
unsigned int fk_ack(struct fk_sess *k);
unsigned int fk_unacked(struct fk_sess *k);

/* The fast path. False: the slow one would have to be taken. */
bool fk_pin(struct fk_sess *k, uint32_t slot, unsigned int first, unsigned int n);
void fk_unpin(struct fk_sess *k, uint32_t slot, unsigned int first, unsigned int n);
/* The slow path: inside the gate, as op_pin.c does. */
int fk_pin_slow(struct fk_sess *k, uint64_t fh, uint32_t slot, unsigned int first, unsigned int n, uint64_t *cut);
/* @brief: one that ends by itself. */
int fk_pin_as(struct fk_sess *k, uint64_t fh, uint32_t slot, unsigned int first, unsigned int n, bool brief,
	      uint64_t *cut);

/* A break of [foff, foff + len) whose pins count in the same range, with the policy of the mount. */
void fk_cut(struct fk_brk *k, struct fk_file *f, uint64_t foff, uint64_t len);
void fk_map(struct fk_brk *k, struct fk_file *f, uint64_t foff, uint64_t len);
void fk_submit(struct fk_brk *k);
/* Wait for its end, up to FK_PATIENCE_S: its result, or 1 when it has not ended. */
int fk_end(struct fk_brk *k);
bool fk_ended(struct fk_brk *k);
/* Wait as long for somebody to post it. */
bool fk_woken(sem_t *sem);
void fk_sleep_ms(unsigned int ms);

#endif
