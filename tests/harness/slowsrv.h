/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slowsrv.h - the server of a FUSE mount with one file, opened with direct I/O: the kernel has the buffer of a read or
 * a write pinned from the request to the answer, which comes at once, or when it is ordered.
 *
 * The server is a child process, speaks to /dev/fuse itself, and ignores interrupts, as a disk does: who is killed with
 * a transfer under way stays until that has ended. Orders are a table in shared memory, so that any process can give
 * them; an eventfd rings. Of the tests (pin/slowfs.h) and of pinfs-conform (conform/slow.c), which is not linked with
 * the rest of the harness.
 */
#ifndef TESTS_SLOWSRV_H
#define TESTS_SLOWSRV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOW_NAME "file"
#define SLOW_BYTES (UINT64_C(64) << 20)	/* the file's size */
#define SLOW_REQ ((size_t)1 << 20)	/* of one request, at the most */
#define SLOW_HOLDS 64

/* Requests of [off, + len) wait while it is on. The server only writes how many do; @used is for who orders. */
struct slow_hold {
	uint64_t off, len;
	_Atomic uint32_t used, on, waiting;
};

struct slow_shared {
	char data[SLOW_BYTES];			/* the file as it was written; no read brings it */
	uint64_t last_off;
	_Atomic uint64_t last_len;		/* of the last write, answered or not */
	_Atomic uint64_t next;			/* for who orders */
	_Atomic uint32_t bell, heard;		/* turns */
	_Atomic uint32_t waiting;		/* requests, whatever holds them */
	_Atomic uint32_t flush;			/* at the next turn all are answered, held or not, with @err */
	_Atomic int32_t err;
	struct slow_hold hold[SLOW_HOLDS];
};

struct slowsrv {
	uint32_t max;				/* bytes of a request, up to SLOW_REQ */
	char fill;				/* what reads bring */
	int fd;					/* /dev/fuse */
	int life;				/* when its other end is closed the server ends; or -1 */
	int bell;
	struct slow_shared *sh;
};

/* @bell and @sh: false and errno. */
bool slowsrv_init(struct slowsrv *s);
/* As root: the connection of a new mount; -1 and @why. */
int slowsrv_mount(const char *mnt, const char *type, char *why, size_t room);
/* In the child: 0 when it was unmounted, 1 at the end of @life, 2 on an error. */
int slowsrv_serve(const struct slowsrv *s);
/* What is held no more is answered: a turn, which has come once it is heard. */
uint32_t slowsrv_ring(const struct slowsrv *s);
bool slowsrv_heard(const struct slowsrv *s, uint32_t turn);

#endif
