/* SPDX-License-Identifier: BSD-3-Clause */
/* mem.h - a device in anonymous memory, with ops that store at once; for unit tests. */
#ifndef PF_TESTS_MEM_H
#define PF_TESTS_MEM_H

#include "media/pmem.h"

struct pf_pm *mem_open(uint64_t bytes);		/* aborts when there is no memory */
void mem_close(struct pf_pm *pm);

#endif
