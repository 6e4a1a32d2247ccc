/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scene.h - where the scenes of child.h play: a mount with two files of SCENE_LEN bytes, all holes. One at a time.
 */
#ifndef TESTS_PIN_SCENE_H
#define TESTS_PIN_SCENE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "harness/fs.h"
#include "pin/child.h"

#define PAGE 4096UL
#define MIB (1UL << 20)
#define CHUNK (2 * MIB)
#define LEN (16 * MIB)
#define WINDOW "window=12M"		/* less than LEN, and more chunks than threads touch at once */
#define WORD(p, i) ((volatile uint32_t *)(void *)(p) + (i))

extern struct here {
	struct pt_fs *fs;
	int file, other;
} here;

/* False: there are no mounts here, and the case is skipped. @image: who may open the device. */
bool scene_set(const char *opts, mode_t image);
void scene_strike(void);

/* What a program does with a window: chunks that were not touched yet, more than the budget, pins, an msync. */
int scene_use(char *p, char value);
int scene_use_all(void *window);		/* the same, for child_play() and its like */
/* The same, after a fork, and of the file that was not mapped before. */
int scene_use_more(char *p);
/* Punch all of the file but its first page, @n times, each when a child has stored that it has done its part. */
void scene_punches(unsigned int n);
/* The child's side. */
int scene_punched(char *p, unsigned int i);

#endif
