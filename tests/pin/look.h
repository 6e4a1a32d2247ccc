/* SPDX-License-Identifier: BSD-3-Clause */
/* look.h - what the daemon says about pins and waiters: `pinfsctl --json`, read. */
#ifndef TESTS_PIN_LOOK_H
#define TESTS_PIN_LOOK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "harness/fs.h"

#define LOOK_MAX 8

struct look {
	size_t npin, nwait;		/* all of them; the arrays hold the first LOOK_MAX */
	size_t nwait_pins;		/* waiters in state "pins" */
	struct { pid_t pid; uint64_t foff, len, ino; char label[16]; } pin[LOOK_MAX];
	struct { pid_t pid, holder; char what[24], state[12]; size_t nholder; uint64_t ino; } wait[LOOK_MAX];
	size_t nkept;
	struct { pid_t pid; uint64_t blocks, age_ns, ino; char why[16]; } kept[LOOK_MAX];
};

/* False, having said why, when there is no report. */
bool look(const struct pt_fs *fs, struct look *out);
/* Until there are @nwait waiters, @parked of them in state "pins"; false after a minute. The last look in *out
 * (optional). */
bool look_until(const struct pt_fs *fs, size_t nwait, size_t parked, struct look *out);
/* Until all sessions together have @npin pins; false, having said which there are, after a minute. */
bool look_pins_until(const struct pt_fs *fs, size_t npin);
/* The state of a process's session: "live" and so on; "none" when it has none, "?" without a report. With several, of
 * the one that is least well. */
const char *look_session(const struct pt_fs *fs, pid_t pid);
/* Until it is @state; false after a minute. */
bool look_session_until(const struct pt_fs *fs, pid_t pid, const char *state);
/* Until so many blocks are kept out of use; false after a minute. */
bool look_parked_until(const struct pt_fs *fs, int64_t blocks);
/* A number of the status report: "counters.collisions", "space.parked". -1: not there. */
int64_t look_status(const struct pt_fs *fs, const char *name);
/* Until it is @value; false after a minute. */
bool look_status_until(const struct pt_fs *fs, const char *name, int64_t value);

#endif
