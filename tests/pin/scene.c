/* SPDX-License-Identifier: BSD-3-Clause */
/* scene.c - see scene.h. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/pin.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/scene.h"

#define TURN 8				/* the word of the first page that both sides look at */

struct here here;

static int new_file(const char *name)
{
	int fd = open(pt_path(here.fs, "%s", name), O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	PT_SYS_FATAL(fd);
	PT_SYS_FATAL(fchmod(fd, 0666));
	PT_SYS_FATAL(ftruncate(fd, LEN));
	return fd;
}

bool scene_set(const char *opts, mode_t image)
{
	if (!pt_need_mount())
		return false;
	here.fs = pt_fs_start("64M", opts);
	PT_SYS_FATAL(chmod(here.fs->img, image));
	PT_SYS_FATAL(chmod(here.fs->mnt, 0777));
	here.file = new_file("f");
	here.other = new_file("g");
	return true;
}

void scene_strike(void)
{
	PT_SYS(close(here.file));
	PT_SYS(close(here.other));
	pt_fs_end(here.fs);
}

int scene_use(char *p, char value)
{
	struct pinfs_pin *pin;

	for (size_t at = 0; at < LEN; at += CHUNK) {
		p[at + PAGE] = value;
		NEED(p[at + PAGE] == value && p[at + 2 * PAGE] == 0);
	}
	NEED(pinfs_pin(p + CHUNK, 2 * PAGE, PINFS_PIN_WRITE, &pin) == 0 && pinfs_unpin(pin) == 0);
	NEED(msync(p, LEN, MS_SYNC) == 0);
	return 0;
}

int scene_use_all(void *arg)
{
	return scene_use(arg, 'f');
}

int scene_use_more(char *p)
{
	char *q;

	NEED(scene_use(p, 'u') == 0);
	NEED(child_sub(scene_use_all, p) == 0);
	NEED(p[PAGE] == 'f');
	q = child_map(here.other, LEN);
	NEED(q != NULL);
	NEED(scene_use(q, 'o') == 0);
	NEED(munmap(q, LEN) == 0);
	return 0;
}

void scene_punches(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		const uint64_t end = pt_now_ms() + 60000;
		uint32_t turn = 0, zero = 0;

		do
			PT_EQ(pread(here.file, &turn, sizeof turn, TURN * sizeof turn), sizeof turn);
		while (turn != i + 1 && pt_now_ms() < end);
		PT_SYS(fallocate(here.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, (off_t)(LEN - PAGE)));
		PT_EQ(pwrite(here.file, &zero, sizeof zero, TURN * sizeof zero), sizeof zero);
	}
}

int scene_punched(char *p, unsigned int i)
{
	*WORD(p, TURN) = i + 1;
	NEED(child_await(WORD(p, TURN), 0) == 0);
	NEED(p[PAGE] == 0 && p[LEN - PAGE] == 0);
	return 0;
}
