/* SPDX-License-Identifier: BSD-3-Clause */
/* one.h - for tests of fs/share: one file whose first chunk one fake session has in slot 0. */
#ifndef PF_TESTS_ONE_H
#define PF_TESTS_ONE_H

#include "unit/fakesess.h"

#define DBLK 1024U	/* somewhere in the data area of the fake device: where nobody frees */

struct one {
	struct pf_fs *fs;
	struct fk_file f;
	struct fk_sess *k;
	uint64_t fh;
	struct pf_run run;		/* the blocks of the file's first chunk */
	uint64_t kept;			/* pages of it that are still in the file */
};

uint64_t one_count(struct pf_fs *fs, enum pf_count c);
uint64_t one_parked(struct pf_fs *fs);
void one_open(struct one *o, enum pf_busy policy);
void one_shrink(struct fk_brk *b, struct one *o, uint64_t pages);
void one_close(struct one *o);
uint32_t one_word(struct one *o);

#endif
