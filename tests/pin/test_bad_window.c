/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_bad_window.c - windows and pins over bad blocks, and over a mount that stops: a load is a SIGBUS, a pin EIO; a
 * pin that was there stays; who waits for a pin is told when the mount takes no more changes.
 *
 * The twin of each case is the same access before the block goes bad, and after the list has forgotten it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pinfs/format.h>
#include <pinfs/pin.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/look.h"
#include "pin/stage.h"

#define PAGE 4096UL

static struct pt_fs *fs;
static char f[STAGE_PATH];

static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	return true;
}

/* pinfsctl badblock VERB MOUNT f:PAGE, or a block of the device. */
static int badblock(const char *verb, const char *what)
{
	char out[4096];
	int rc = pt_run(out, sizeof out, SOON_MS,
			(const char *[]){ pt_program("pinfsctl"), "badblock", verb, fs->mnt, what, NULL });

	if (rc != 0)
		pt_say("%s", out);
	return rc;
}

static int bad_page(const char *verb, unsigned long page)
{
	char what[600];

	(void)snprintf(what, sizeof what, "%s:%lu", f, page * PAGE);
	return badblock(verb, what);
}

static void windows(void)
{
	struct actor *a, *late;

	if (!begin(NULL))
		return;
	a = actor_new();
	PT_EQ(actor_map_file(a, 0, f, F_LEN), 0);
	PT_EQ(actor_do(a, act_load(0, 3 * PAGE)), 'o');
	PT_EQ(bad_page("add", 3), 0);
	/* When the command has ended, no window shows the page any more. */
	PT_EQ(actor_do(a, act_load(0, 3 * PAGE)), -EFAULT);
	PT_EQ(actor_do(a, act_store(0, 3 * PAGE, 1, 'x')), -EFAULT);
	PT_EQ(actor_do(a, act_load(0, 2 * PAGE)), 'o');
	/* The kernel forgets the poison, the file does not. */
	PT_EQ(actor_do(a, act_advise(0, 0, F_LEN, MADV_DONTNEED)), 0);
	PT_EQ(actor_do(a, act_load(0, 3 * PAGE)), -EFAULT);
	PT_EQ(actor_do(a, act_load(0, 2 * PAGE)), 'o');
	PT_EQ(actor_do(a, act_store(0, 4 * PAGE, PAGE, 'y')), 0);
	/* A process that comes later. */
	late = actor_new();
	PT_EQ(actor_map_file(late, 0, f, F_LEN), 0);
	PT_EQ(actor_do(late, act_load(0, 4 * PAGE)), 'y');
	PT_EQ(actor_do(late, act_load(0, 3 * PAGE)), -EFAULT);
	PT_EQ(actor_do(late, act_pin(0, 0, 3 * PAGE, PAGE, 0)), -EIO);
	PT_EQ(actor_do(late, act_pin(0, 0, 0, F_LEN, PINFS_PIN_WRITE)), -EIO);
	PT_EQ(actor_do(late, act_pin(0, 0, 4 * PAGE, PAGE, PINFS_PIN_WRITE)), 0);
	PT_EQ(actor_do(late, act_unpin(0)), 0);
	/* Forgotten: as before. */
	PT_EQ(bad_page("del", 3), 0);
	PT_EQ(actor_do(a, act_load(0, 3 * PAGE)), 'o');
	PT_EQ(actor_do(late, act_load(0, 3 * PAGE)), 'o');
	PT_EQ(actor_do(late, act_pin(0, 0, 0, F_LEN, PINFS_PIN_WRITE)), 0);
	PT_EQ(actor_do(late, act_unpin(0)), 0);
	/* Cleared by a write of the whole page: another block, and the windows show it. */
	PT_EQ(bad_page("add", 3), 0);
	PT_EQ(actor_do(a, act_load(0, 3 * PAGE)), -EFAULT);
	PT_EQ(actor_do(late, act_write(f, 3 * PAGE, PAGE, 'n')), (long)PAGE);
	PT_EQ(actor_do(a, act_load(0, 3 * PAGE)), 'n');
	PT_EQ(actor_do(a, act_store(0, 3 * PAGE, PAGE, 'm')), 0);
	PT_EQ(actor_do(late, act_load(0, 3 * PAGE)), 'm');
	PT_EQ(actor_do(late, act_pin(0, 0, 3 * PAGE, PAGE, PINFS_PIN_WRITE)), 0);
	PT_EQ(actor_do(late, act_unpin(0)), 0);
	actor_end(a);
	actor_end(late);
	pt_fs_end(fs);
}

/* The device goes on with what it has: the pin counts as before, and its DMA reaches the block. */
static void pinned(void)
{
	struct actor *h, *c;
	struct look l;

	if (!begin(NULL))
		return;
	h = actor_new();
	c = actor_new();
	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, 3 * PAGE, PAGE, PINFS_PIN_WRITE)), 0);
	PT_EQ(bad_page("add", 3), 0);
	CU_ASSERT_FATAL(look(fs, &l));
	PT_EQ(l.npin, 1);
	PT_EQ(actor_do(h, act_load(0, 3 * PAGE)), -EFAULT);
	PT_EQ(actor_do(h, act_pin(1, 0, 3 * PAGE, PAGE, PINFS_PIN_WRITE)), -EIO);
	PT_EQ(actor_do(h, act_dma(0, 7)), (long)PAGE);
	/* It still holds up who takes the page out of the file. */
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

/* Stores into holes, and into preallocated blocks of which one went bad: it is exchanged before anybody stores. */
static void unwritten(void)
{
	struct actor *a;

	if (!begin(NULL))
		return;
	a = actor_new();
	PT_EQ(actor_do(a, act_truncate(f, 0)), 0);
	PT_EQ(actor_do(a, act_fallocate(f, 0, 0, F_LEN)), 0);
	PT_EQ(actor_map_file(a, 0, f, F_LEN), 0);
	PT_EQ(actor_do(a, act_load(0, 3 * PAGE)), 0);
	PT_EQ(bad_page("add", 3), 0);
	PT_EQ(actor_do(a, act_load(0, 3 * PAGE)), 0);
	PT_EQ(actor_do(a, act_store(0, 3 * PAGE, 5, 's')), 0);
	PT_EQ(actor_do(a, act_load(0, 3 * PAGE + 4)), 's');
	PT_EQ(actor_do(a, act_load(0, 3 * PAGE + 5)), 0);
	actor_end(a);
	pt_fs_end(fs);
}

/* Block of the directory leaf of "d". */
static uint64_t leaf_of_d(void)
{
	int fd = open(fs->img, O_RDONLY | O_CLOEXEC);
	struct pf_d_hdr h;
	struct stat st;
	off_t at = 0;

	PT_SYS_FATAL(fd);
	PT_SYS_FATAL(stat(pt_path(fs, "d"), &st));
	while (pread(fd, &h, sizeof h, at) == (ssize_t)sizeof h &&
	       !(pf_get32(h.h_magic) == PF_MAGIC_DIR && pf_get64(h.h_owner) == st.st_ino))
		at += (off_t)PAGE;
	(void)close(fd);
	return (uint64_t)at / PAGE;
}

/* Whoever waits for a pin learns that there is nothing to wait for; windows go on, as far as they were there. */
static void stops(const char *opts, int err)
{
	struct actor *h, *c;
	char leaf[32];
	int fd;

	if (!begin(NULL))
		return;
	PT_SYS(mkdir(pt_path(fs, "d"), 0755));
	fd = open(pt_path(fs, "d/x"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	PT_SYS(close(fd));
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, opts), 0);
	h = actor_new();
	c = actor_new();
	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, 0, PAGE, PINFS_PIN_WRITE)), 0);
	PT_EQ(actor_do(h, act_store(0, 0, PAGE, 'p')), 0);
	PT_EQ(actor_do(c, act_write(pt_path(fs, "g"), 0, PAGE, 'g')), (long)PAGE);
	PT_EQ(actor_do(c, act_truncate(pt_path(fs, "g"), 4 * PAGE)), 0);
	PT_EQ(actor_map_file(h, 1, pt_path(fs, "g"), 4 * PAGE), 0);
	PT_EQ(actor_do(h, act_store(1, 0, PAGE, 'h')), 0);
	PT_EQ(actor_do(h, act_store(1, PAGE, PAGE, 'h')), 0);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	(void)snprintf(leaf, sizeof leaf, "%llu", (unsigned long long)leaf_of_d());
	PT_EQ(badblock("add", leaf), 0);
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	PT_FAILS(open(pt_path(fs, "d/x"), O_RDONLY), EIO);
	PT_EQ(actor_result(c, SOON_MS), -err);
	PT_EQ(actor_do(c, act_truncate(f, 0)), -err);
	/* What is mapped stays mapped; the truncate had taken its file away, so there it is a new fault. No page gets a
	 * block any more. */
	PT_EQ(actor_do(h, act_store(1, 10, 1, 'q')), 0);
	PT_EQ(actor_do(h, act_load(1, 10)), 'q');
	PT_EQ(actor_do(h, act_load(0, 10)), err == EROFS ? 'p' : -EFAULT);
	PT_EQ(actor_do(h, act_store(1, 2 * PAGE, 1, 'q')), -EFAULT);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	actor_end(h);
	actor_end(c);
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_run((char[512]){ 0 }, 512, SOON_MS,
		     (const char *[]){ pt_program("pinfsctl"), "badblock", "del", fs->img, leaf, NULL }), 0);
	pt_fs_end(fs);
}

static void waiter_remount_ro(void)
{
	stops(NULL, EROFS);
}

static void waiter_shutdown(void)
{
	stops("errors=shutdown", EIO);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "windows", windows, 0 },
		{ "pinned", pinned, 0 },
		{ "unwritten", unwritten, 0 },
		{ "waiter-remount-ro", waiter_remount_ro, 0 },
		{ "waiter-shutdown", waiter_shutdown, 0 },
	};
	static const struct pt_suite suite = { "bad-window", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
