/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * deadlock.h - waits that cannot end: a process waits for pins of one that waits for it.
 *
 * The kernel has no answer to this: it does not know who holds a pin (and its truncate waits for ever). Here it is
 * known, so the cycle can be found, and the operation that waits in it fails with EDEADLK; the file is untouched.
 */
#ifndef PF_FRONT_DEADLOCK_H
#define PF_FRONT_DEADLOCK_H

#include "front/front.h"
#include "op/op.h"

struct pf_deadlock *pf_deadlock_new(void);		/* NULL: no memory */
void pf_deadlock_free(struct pf_deadlock *d);

/* 0, or -EDEADLK, and a line in the log that names both. Both read /proc; no lock may be held. The first is for the
 * moment in which a wait begins, by any thread; the second for later, by the timer's alone. */
int pf_deadlock_with_itself(const struct pf_front *f, const struct pf_areq *a);
int pf_deadlock_check(const struct pf_front *f, const struct pf_areq *a);

/* Is @tid the only thread of process @holder that could end a pin? Then it must not wait for one. Reads /proc; no lock
 * may be held. */
bool pf_deadlock_alone(const struct pf_front *f, pid_t holder, pid_t tid);

#endif
