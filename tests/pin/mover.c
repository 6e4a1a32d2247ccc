/* SPDX-License-Identifier: BSD-3-Clause */
/* mover.c - the stage of mover.h. Owns nothing. */
#include "pin/mover.h"

#include <CUnit/CUnit.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"
#include "pin/look.h"

bool mover_begin(struct mover *m, const char *opts)
{
	m->fs = stage("16M", opts);
	m->slow = m->fs != NULL ? slow_start() : NULL;
	if (m->slow == NULL)
		return false;
	stage_file(m->fs, "f", m->f);
	stage_file(m->fs, "g", m->g);
	return true;
}

void mover_end(struct mover *m)
{
	slow_end(m->slow);
	pt_fs_end(m->fs);
}

bool mover_in_call(pid_t pid, long nr)
{
	uint64_t end = pt_now_ms() + SOON_MS;
	char path[64];
	long now = -1;
	FILE *s;

	(void)snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
	do {
		s = fopen(path, "re");
		if (s == NULL || fscanf(s, "%ld", &now) != 1)
			now = -1;		/* "running" */
		if (s != NULL)
			(void)fclose(s);
		if (now != nr)
			pt_sleep_ms(1);
	} while (now != nr && pt_now_ms() < end);
	return now == nr;
}

bool mover_pins(const struct mover *m, size_t n)
{
	return look_pins_until(m->fs, n);
}

void mover_done(pid_t pid)
{
	int rc = child_end(pid);

	if (rc != 0)
		pt_say("the scene ended with %d and said: %s", rc, child_said());
	PT_EQ(rc, 0);
}

char *mover_window(const char *path, size_t len)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char *p = fd < 0 ? NULL : child_map(fd, len);

	(void)close(fd);
	return p;
}

bool mover_all(const char *p, size_t n, char c)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] != c)
			return false;
	}
	return n > 0;
}
