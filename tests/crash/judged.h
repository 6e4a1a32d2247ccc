/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * judged.h - one step of a filesystem, recorded: each image that a crash at one of its drains could leave is looked at.
 * What is right, the test knows; here is what all of them do.
 */
#ifndef PF_TESTS_CRASH_JUDGED_H
#define PF_TESTS_CRASH_JUDGED_H

#include <stdbool.h>
#include <stdint.h>

struct pf_fs;
struct pf_pm;

struct judged {
	/* Set by the test. @look mounts the image, or does not: what is wrong with it, or NULL. */
	const char *(*look)(struct judged *j, struct pf_pm *image);
	const char *name;
	bool quiet;			/* a twin: what is wrong is wanted */
	/* What came of it. */
	bool returned;			/* the step has: nothing but its result will do */
	unsigned int images, bad, checks;
};

/* A new filesystem on a device of @bytes that is full of @fill before. */
struct pf_fs *judged_new(struct pf_pm **pm, uint64_t bytes, int fill);
/* What comes out when all goes well: @step on a copy of the device, then @see. */
void judged_rehearse(const struct pf_pm *pm, void (*step)(struct pf_fs *fs), void (*see)(struct pf_fs *fs, void *arg),
		     void *arg);
/* Do @step on @fs and look at the images, with the drain number @skip left out (UINT32_MAX: none), and at what is there
 * in the end; then @fs and its device are gone. How many drains there were. */
unsigned int judged_step(struct judged *j, struct pf_pm *pm, struct pf_fs *fs, void (*step)(struct pf_fs *fs),
			 unsigned int subsets, unsigned int skip);

/* Has fsck nothing to say? */
bool judged_sound(struct pf_pm *image);
/* What it says when it finds something, else NULL. To be freed. */
char *judged_fsck(struct pf_pm *image);

/* Calls fn() in a thread of its own: the one that drains holds locks, and a mount takes them anew. */
void in_thread(void (*fn)(void *arg, struct pf_pm *image, unsigned int fence), void *arg, struct pf_pm *image,
	       unsigned int fence);

/* Ends the program when a step fails that cannot. */
void must(int64_t rc);

#endif
