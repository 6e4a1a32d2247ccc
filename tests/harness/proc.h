/* SPDX-License-Identifier: BSD-3-Clause */
/* proc.h - child processes of a test, with time limits; all that is left is killed by pid after each case. */
#ifndef PT_PROC_H
#define PT_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* CLOCK_MONOTONIC. */
uint64_t pt_now_ns(void);
static inline uint64_t pt_now_ms(void) { return pt_now_ns() / 1000000; }
void pt_sleep_ms(unsigned int ms);
/* For loops that wait for a state: sleep for a millisecond; false when a minute has passed since the first time
 * (*end: 0 then). */
bool pt_wait_on(uint64_t *end);

/*
 * Fork: the child runs fn(arg) and exits with what it returns, or 1 if an assertion failed; it dies with its parent.
 * A group is killed as a whole. -1 and errno on failure.
 */
pid_t pt_fork(int (*fn)(void *arg), void *arg);

/* A program with stdin from /dev/null, stdout to @out_fd and stderr to @err_fd (-1: inherited). */
pid_t pt_spawn(const char *const argv[], int out_fd, int err_fd);

/* Wait for a child: its exit status, 128 + signal, or -1 when it still runs after @ms (it is not killed then). */
int pt_wait(pid_t pid, unsigned int ms);
/* SIGKILL and reap. Harmless when it has gone. */
void pt_kill(pid_t pid);

/* Run a program to its end, at most @ms: exit status as pt_wait(), what it printed (stdout and stderr) in @out,
 * NUL terminated. A program that is too slow is killed: -1. */
int pt_run(char *out, size_t size, unsigned int ms, const char *const argv[]);
/* The same, with the two streams apart; either may be NULL. */
int pt_run2(char *out, size_t outsize, char *err, size_t errsize, unsigned int ms, const char *const argv[]);

/* True when @name is found in PATH. */
bool pt_have(const char *name);

/* Children that were reparented to this program (daemons that forked away) come back to it. */
void pt_adopt_orphans(void);
/* First child of this process, direct or adopted, whose program file is called @name, for pt_wait() and
 * pt_kill(); 0 when there is none. */
pid_t pt_child_named(const char *name);

#endif
