/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * child.h - a process of a test that plays a scene and says what went wrong: its exit status and what it and the
 * library
 * wrote to stderr come back.
 */
#ifndef TESTS_PIN_CHILD_H
#define TESTS_PIN_CHILD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* In a scene: a condition that ends it. The first one that does not hold is shown, with errno. */
#define NEED(cond)                                                                                \
	do {                                                                                      \
		if (!(cond))                                                                      \
			return child_failed(__FILE__, __LINE__, #cond);                           \
	} while (0)
int child_failed(const char *file, int line, const char *what);

/* Fork; the child runs fn(arg) with a descriptor of its own for stderr. */
pid_t child_start(int (*fn)(void *arg), void *arg);
/* Wait for it, some minutes at most: its status, and what was said on stderr, which the next call overwrites. */
int child_end(pid_t pid);
/* Both; asserts that the scene ended with 0. */
void child_play(int (*fn)(void *arg), void *arg);
/* What the last child_end() found on its stderr. */
const char *child_said(void);

/* For scenes: what touching an address gives, 0 or the signal. */
int child_touch(volatile char *p, int store);
/* A window of @len bytes; NULL when it is not one. */
char *child_map(int fd, size_t len);
/* Run @fn in a forked grandchild: its status, as pt_wait(). */
int child_sub(int (*fn)(void *arg), void *arg);
/* Wait until *word is @value, a minute at most. 0 or -1. */
int child_await(const volatile uint32_t *word, uint32_t value);
/* Become nobody, with no other groups. */
int child_be_nobody(void);

#endif
