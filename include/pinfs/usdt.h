/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * usdt.h - static probes for bpftrace, perf and systemtap, of provider "pinfs": a nop and a note in the ELF file each.
 * Without <sys/sdt.h> there are none; make says so.
 */
#ifndef PINFS_USDT_H
#define PINFS_USDT_H

#if defined(__has_include)
#if __has_include(<sys/sdt.h>)
#ifndef SDT_USE_VARIADIC
#define SDT_USE_VARIADIC
#endif
#include <sys/sdt.h>
#define PF_USDT(...) STAP_PROBEV(pinfs, __VA_ARGS__)
#endif
#endif

#ifndef PF_USDT
#define PF_USDT(...) ((void)0)
#endif

#endif
