/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * race.h - two accesses through mappings, or one of them and a truncate, at the same moment: the cases fault.race-*,
 * and what they share with the others of their group.
 */
#ifndef CONFORM_RACE_H
#define CONFORM_RACE_H

#include <sys/stat.h>
#include "conform/conform.h"

/* The attributes, and of them the blocks, as they are now, on a mount that keeps them, too. */
struct statx now_of(struct cf *c, int fd);
uint64_t blocks_of(struct cf *c, int fd);
/* MAP_PRIVATE, to load and store. */
void *private_map(struct cf *c, int fd, size_t len);

void race_stores(struct cf *c);
void race_load_store(struct cf *c);
void race_processes(struct cf *c);
void race_copy_punch(struct cf *c);
void race_load_cut(struct cf *c);

#endif
