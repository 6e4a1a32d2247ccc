/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * site.h - system calls that a program hands memory of its own to, for later: seen whoever makes them. hooks_sys.c has
 * them from syscall(2), which libaio uses; site.c from instructions in the program's own text, as liburing and fio
 * have them.
 */
#ifndef SH_SITE_H
#define SH_SITE_H

#include "sh.h"

/* One of ours: made in place of the kernel's. Result or -errno. */
long sh_sys_seen(long nr, const long *arg);
bool sh_sys_is_ours(long nr);

/* Text that was loaded since the last time is searched. A program with a window or a ring calls it; never a signal. */
void sh_site_look(void);

#endif
