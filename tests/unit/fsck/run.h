/* SPDX-License-Identifier: BSD-3-Clause */
/* run.h - fsck on copies of an image in memory: what it says, what it writes, and what of the tree is left. */
#ifndef PF_TESTS_FSCK_RUN_H
#define PF_TESTS_FSCK_RUN_H

#include "fsck.pinfs/fsck.h"
#include "unit/fsck/damage.h"

/* A copy of the image, and what fsck says of it. */
struct copy {
	struct pf_pm *pm;
	char *text;
	int rc;
};

struct copy copy_make(void);
void copy_run(struct copy *c, enum fsck_mode mode);
void copy_check(struct copy *c);
void copy_free(struct copy *c);

/* The tree as text, a line each. Mounts the image, so it is the last thing to be done with it. */
char *tree_of(const struct copy *c);
struct lines { char *copy; char *v[256]; unsigned int n; };
void split(struct lines *l, const char *text);
/* How many lines of @a are not in @b and not hit; said if @name is not NULL. */
unsigned int missing(const char *name, const struct lines *a, const struct lines *b, const char *hit);
/* Nothing has changed but what may. Mounts the image. */
bool kept(const char *name, const struct copy *c, const char *hit);

/* The device of this copy counts what is written to it in `stores`. */
extern unsigned int stores;
void count_stores(struct pf_pm *pm);
/* -y, then -n is clean, and a second -y writes nothing; all of that asserted. */
void repair(const char *name, struct copy *c);

#endif
