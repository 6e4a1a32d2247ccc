/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * taker.h - one interface to every call that gives memory to a device for good: those of far.h, and io_uring and
 * AF_XDP, which the kernel has.
 */
#ifndef TESTS_PIN_TAKER_H
#define TESTS_PIN_TAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct taken {				/* a device, and one thing that it was given */
	int fd;				/* -1: none (verbs) */
	void *mr;
	unsigned long long iova;
};

struct taker {
	const char *name;
	const char *api;		/* as `pinfsctl pins` shows it */
	bool far;			/* a device of far.h */
	bool variant;			/* of one that is in the list, too: the scenes that cost most leave it out */
	int no_mem;			/* errno of too much */
	/* A device: 0; 1: there is none here; -errno. */
	int (*open)(struct taken *t);
	/* Give it the memory, to write to: 0 or -errno. */
	int (*give)(struct taken *t, void *addr, size_t len);
	int (*back)(struct taken *t);
	/* The last close of it. NULL: of its descriptor. */
	int (*close)(struct taken *t);
};

extern const struct taker takers[];
extern const size_t ntakers;
const struct taker *taker_named(const char *name);

#endif
