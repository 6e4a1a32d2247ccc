/* SPDX-License-Identifier: BSD-3-Clause */
/* stuck.h - the threads of a process, as /proc shows them: which of them can go on by themselves. */
#ifndef PF_FRONT_STUCK_H
#define PF_FRONT_STUCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "front/front.h"

#define PF_STUCK_MAX 64U

struct pf_thread {
	pid_t tid;
	enum {
		PF_THREAD_LOCK,			/* in a system call that needs the kernel's lock of `ino` */
		PF_THREAD_INNER,		/* waits, without a limit, for another thread of its process */
		PF_THREAD_OTHER			/* whoever does not know better: it can go on */
	} is;
	uint64_t ino;
	const char *how;			/* LOCK: the call's name */
};

/*
 * All but the library's own (named pinfs-...), which end no pins by themselves. Up to PF_STUCK_MAX; 0: it is gone, or
 * there are more. What is said may be old when it is read. Reads /proc and the process's memory; no lock may be held.
 */
unsigned int pf_stuck_threads(const struct pf_front *f, pid_t pid, struct pf_thread out[PF_STUCK_MAX]);

#endif
