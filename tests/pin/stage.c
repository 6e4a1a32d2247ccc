/* SPDX-License-Identifier: BSD-3-Clause */
/* stage.c - see stage.h. The files are written by a process that never maps anything, as another program's would be. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pinfs/pin.h>
#include "harness/run.h"
#include "pin/stage.h"

struct pt_fs *stage(const char *size, const char *opts)
{
	return pt_need_mount() ? pt_fs_start(size, opts) : NULL;
}

void stage_file(const struct pt_fs *fs, const char *name, char path[STAGE_PATH])
{
	struct actor *a = actor_new();

	(void)snprintf(path, STAGE_PATH, "%s", pt_path(fs, "%s", name));
	PT_EQ(actor_do(a, act_write(path, 0, F_LEN, 'o')), (long)F_LEN);
	actor_end(a);
}

bool stage_untouched(const char *path)
{
	static char got[F_LEN + 1], want[F_LEN];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = pread(fd, got, sizeof got, 0);

	(void)close(fd);
	memset(want, 'o', sizeof want);
	return n == (ssize_t)F_LEN && memcmp(got, want, F_LEN) == 0;
}

uint64_t stage_size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint64_t)st.st_size : UINT64_MAX;
}

struct actor *stage_holder(const char *path, uint64_t off, uint64_t len)
{
	struct actor *a = actor_new();

	PT_EQ(actor_map_file(a, 0, path, F_LEN), 0);
	PT_EQ(actor_do(a, act_pin(0, 0, off, len, PINFS_PIN_WRITE)), 0);
	return a;
}

struct actor *stage_sender(struct act what)
{
	struct actor *a = actor_new();

	actor_send(a, what);
	return a;
}
