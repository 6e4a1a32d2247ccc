/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op_pin.h - the slow path of a pin, as a step of op_map.c's request. Private to fs/op.
 *
 * The fast path is the client's alone (include/pinfs/ledger.h). This one runs when the client found its slot frozen,
 * or a page without a block; the daemon allocates, counts and answers in one hold of the gate.
 */
#ifndef PF_OP_OP_PIN_H
#define PF_OP_OP_PIN_H

#include "op/op_map.h"

/*
 * Does the policy let this client have a long-term pin of the request's pages? That of the descriptor by which it came
 * to the file, else of the file, else of the mount. Takes INODE shared. -EOPNOTSUPP, -EPERM (there is no lease), media
 * errors.
 */
int pf_pin_admit(const struct pf_map_req *r);

/* The arguments make sense for this handle. 0, -EINVAL, -EACCES. */
int pf_pin_check(const struct pf_map_req *r, bool handle_write);

/*
 * Inside the gate, the slot refreshed to @ext[@n] of a file of @size bytes: count. 0, or an error; 1: a page has no
 * block and the pin is for writing, so it must be allocated first. -EAGAIN with *cut set: a break is in the way. A
 * long-term pin is admitted and charged here: -EOPNOTSUPP, -EPERM, -ENOMEM.
 */
int pf_pin_count(struct pf_map_req *r, const struct pf_dext *ext, unsigned int n, uint64_t size, uint64_t *cut);

#endif
