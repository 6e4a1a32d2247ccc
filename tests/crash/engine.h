/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.h - run a script on a filesystem whose power fails at every fence, and judge what is left each time.
 *
 * Each operation runs in a thread of its own, every other one in another journal lane, so that nothing is durable
 * by the next one's drains. Every image is judged by fsck as it is (every second one: fsck replays the journal in it),
 * mounted, compared with the model, unmounted, and judged by fsck again. One in @deep crashes anew at each drain of
 * its mount. The free blocks of the device are full of a pattern that no write of a script writes.
 */
#ifndef PF_TESTS_ENGINE_H
#define PF_TESTS_ENGINE_H

#include "crash/script.h"

struct engine {
	/* In. */
	unsigned int subsets;		/* of crash_attach() */
	unsigned int deep;		/* 0: never */
	uint64_t seed;
	bool quiet;			/* a twin: nothing is printed, and the first bad state ends the looking */
	unsigned int only_op;		/* look at this operation alone (1: the first after the stage); 0: all */
	/* Out, summed up over runs. */
	uint64_t states, nested, fences, scripts, ops;
	uint64_t bad;
	/* Of the first bad state of this run. */
	char why[512];
	uint64_t why_after;		/* states of this run that were seen before it */
};

void engine_init(void);			/* the device that every run starts from */
void engine_fini(void);
/* Number of bad states. The script is printed, with the reason of the first, unless quiet. */
uint64_t engine_run(struct engine *e, const struct script *s);

/* A copy of what every run starts from, before the stage. */
struct model *engine_model(void);

#endif
