/* SPDX-License-Identifier: BSD-3-Clause */
/* touch.h - an access to memory, and the signal that it gives. */
#ifndef PT_TOUCH_H
#define PT_TOUCH_H

#include <stdbool.h>

/* Load a byte, or store 42: the signal, SIGBUS or SIGSEGV, or 0. Any thread. */
int pt_touch(volatile char *p, bool store);
/* Of the last signal of this thread. */
void *pt_touched_at(void);
int pt_touched_code(void);
/* What the last load of this thread has found. */
char pt_touched_byte(void);

#endif
