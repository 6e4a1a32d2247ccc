/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_collision.c - mappings, direct I/O and changes of layout collide. (The idea is xfstests' t_mmap_collision;
 * nothing of it is used.)
 *
 * Two files are mapped. Threads transfer between the window of each and the other file, between both windows and a
 * source that answers late (slowfs.h), by system calls and libaio, without a pause; meanwhile another process
 * truncates, punches and grows the files, and takes the blocks for files of its own (prog/fio/surge.c). Nothing may
 * hang; nothing that is transferred may turn up in the other's files, and nothing of those in ours, whose blocks
 * came from there.
 *
 * PINFS_LONG=1: minutes.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <pinfs/compiler.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"
#include "pin/look.h"
#include "pin/slowfs.h"
#include "pin/stage.h"

#define PAGE 4096U
#define PAGES 256U			/* of a file */
#define BYTES (PAGES * PAGE)
#define DEPTH 16
#define OURS 0xa1

static struct {
	struct pt_fs *fs;
	struct slow *slow;
	char path[2][STAGE_PATH];
	char *win[2];
	int fd[2];			/* O_DIRECT */
	int slow_fd;
	unsigned int late_ms;		/* how late an answer may be ... */
	unsigned int later;		/* ... and so much more each time, until it is long enough for this machine */
	atomic_bool stop, foreign;
	atomic_ulong moved, refused;
} st;

static unsigned int rnd(unsigned int *seed, unsigned int below)
{
	return (unsigned int)rand_r(seed) % below;
}

/* What a transfer may give when its buffer or its file is cut, and when the other one has taken all space. */
static void result(long r)
{
	if (r >= 0) {
		atomic_fetch_add(&st.moved, 1);
	} else {
		atomic_fetch_add(&st.refused, 1);
		if (r != -EFAULT && r != -ENOSPC && r != -EINTR && r != -EBUSY && r != -EDEADLK && r != -ENOMEM)
			pt_say("a transfer said %s", strerror((int)-r));
	}
}

/* Between window i and the other file, both ways. */
static void *between(void *arg)
{
	unsigned int i = (unsigned int)(uintptr_t)arg, seed = i + 1, first, n, at;
	ssize_t r;

	while (!atomic_load(&st.stop)) {
		n = 1 + rnd(&seed, 32);
		first = rnd(&seed, PAGES - n);
		at = rnd(&seed, PAGES - n);
		if (rnd(&seed, 2))
			r = pread(st.fd[!i], st.win[i] + (size_t)first * PAGE, n * PAGE, (off_t)at * PAGE);
		else
			r = pwrite(st.fd[!i], st.win[i] + (size_t)first * PAGE, n * PAGE, (off_t)at * PAGE);
		result(r < 0 ? -errno : r);
	}
	return NULL;
}

static void *with_source(void *arg)
{
	unsigned int seed = 77, n, first;
	char *w;
	ssize_t r;

	while (!atomic_load(&st.stop)) {
		w = st.win[rnd(&seed, 2)];
		n = 1 + rnd(&seed, 32);
		first = rnd(&seed, PAGES - n);
		w += (size_t)first * PAGE;
		r = rnd(&seed, 4) ? pread(st.slow_fd, w, n * PAGE, 0) : pwrite(st.slow_fd, w, n * PAGE, 0);
		result(r < 0 ? -errno : r);
	}
	return arg;
}

static void *by_libaio(void *arg)
{
	struct iocb cb[DEPTH], *p;
	struct io_event ev[DEPTH];
	io_context_t ctx = NULL;
	unsigned int seed = 99, busy = 0, k;
	bool used[DEPTH] = { false };
	int r;

	if (io_setup(DEPTH, &ctx) != 0)
		return arg;
	while (busy > 0 || !atomic_load(&st.stop)) {
		for (k = 0; k < DEPTH && !atomic_load(&st.stop); k++) {
			unsigned int n = 1 + rnd(&seed, 32), first = rnd(&seed, PAGES - n);

			if (used[k])
				continue;
			p = &cb[k];
			io_prep_pread(p, st.slow_fd, st.win[rnd(&seed, 2)] + (size_t)first * PAGE, n * PAGE, 0);
			r = io_submit(ctx, 1, &p);
			used[k] = r == 1;
			busy += r == 1;
		}
		r = io_getevents(ctx, busy > 0 ? 1 : 0, DEPTH, ev, NULL);
		for (int i = 0; i < r; i++) {
			used[ev[i].obj - cb] = false;
			busy--;
			result((long)ev[i].res);
		}
	}
	(void)io_destroy(ctx);
	return arg;
}

/* The source is late, now and then; and what is in the files is ours, the source's, or nothing. */
static void *watch(void *arg)
{
	static unsigned char buf[BYTES];
	unsigned int seed = 5;
	int fd[2];
	ssize_t n;

	for (int i = 0; i < 2; i++)
		fd[i] = open(st.path[i], O_RDONLY | O_CLOEXEC);
	while (!atomic_load(&st.stop)) {
		slow_hold(st.slow, true);
		pt_sleep_ms(st.late_ms / 2 + rnd(&seed, st.late_ms));
		slow_hold(st.slow, false);
		slow_release(st.slow, 0);
		if (st.late_ms < 4000)
			st.late_ms += st.later;
		n = pread(fd[seed % 2], buf, sizeof buf, 0);
		for (ssize_t k = 0; k < n; k++) {
			if (buf[k] == 0 || buf[k] == SLOW_BYTE || buf[k] == OURS)
				continue;
			if (!atomic_exchange(&st.foreign, true))
				pt_say("byte %zd of file %u is %#x", k, seed % 2, buf[k]);
			break;
		}
	}
	slow_hold(st.slow, false);
	slow_release(st.slow, 0);
	(void)close(fd[0]);
	(void)close(fd[1]);
	return arg;
}

static bool set_up(const char *opts)
{
	static char page[BYTES];
	int fd;

	memset(&st, 0, sizeof st);
	st.fs = stage("16M", opts);
	st.slow = st.fs != NULL ? slow_start() : NULL;
	if (st.slow == NULL)
		return false;
	memset(page, OURS, sizeof page);
	for (int i = 0; i < 2; i++) {
		(void)snprintf(st.path[i], sizeof st.path[i], "%s", pt_path(st.fs, "f%d", i));
		fd = open(st.path[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		PT_SYS_FATAL(fd);
		PT_EQ(write(fd, page, sizeof page), (ssize_t)sizeof page);
		st.win[i] = child_map(fd, BYTES);
		CU_ASSERT_FATAL(st.win[i] != NULL);
		(void)close(fd);
		st.fd[i] = open(st.path[i], O_RDWR | O_DIRECT | O_CLOEXEC);
		PT_SYS_FATAL(st.fd[i]);
	}
	st.slow_fd = open(slow_path(st.slow), O_RDWR | O_DIRECT | O_CLOEXEC);
	PT_SYS_FATAL(st.slow_fd);
	return true;
}

/* How surge ended. @until: it looks for damage. */
static int collide(const char *opts, bool until, const char *seconds)
{
	void *(*const work[])(void *) = { between, between, with_source, by_libaio, watch };
	const char *argv[10] = { pt_program("tests/prog/fio/surge"), "-s", "7", "-t", seconds };
	pthread_t t[PF_ARRAY_LEN(work)];
	static char out[4096];
	uint64_t end = 0;
	int rc, k = 5;

	if (!set_up(opts))
		return -1;
	/* Without protection blocks have found a new file before an answer. */
	st.late_ms = until ? 200 : 10;
	st.later = until ? 200 : 0;
	if (until)
		argv[k++] = "-u";
	argv[k++] = st.fs->mnt;
	argv[k++] = st.path[0];
	argv[k++] = st.path[1];
	for (unsigned int i = 0; i < PF_ARRAY_LEN(work); i++)
		PT_EQ(pthread_create(&t[i], NULL, work[i], (void *)(uintptr_t)i), 0);
	while (atomic_load(&st.moved) == 0 && pt_wait_on(&end))
		;
	rc = pt_run(out, sizeof out, (unsigned int)(atoi(seconds) + 120) * 1000, argv);
	atomic_store(&st.stop, true);
	for (unsigned int i = 0; i < PF_ARRAY_LEN(work); i++)
		PT_EQ(pthread_join(t[i], NULL), 0);
	if (rc != (until ? 3 : 0))
		pt_say("%s: surge ended with %d: %s", opts, rc, out);
	CU_ASSERT(atomic_load(&st.moved) > 0);
	for (int i = 0; i < 2; i++) {
		(void)close(st.fd[i]);
		PT_SYS(munmap(st.win[i], BYTES));
	}
	(void)close(st.slow_fd);
	CU_ASSERT(look_parked_until(st.fs, 0) || until);
	slow_end(st.slow);
	return rc;
}

static const char *how_long(void)
{
	const char *l = getenv("PINFS_LONG");

	return l != NULL && strcmp(l, "0") != 0 ? "90" : "1";
}

static void protected(const char *opts)
{
	int rc = collide(opts, false, how_long());

	if (rc < 0)
		return;
	PT_EQ(rc, 0);
	CU_ASSERT(!atomic_load(&st.foreign));
	pt_fs_end(st.fs);
}

static void waiting(void) { protected("on_busy=wait"); }
static void busy(void) { protected("on_busy=ebusy"); }
static void deferred(void) { protected("on_busy=defer"); }
static void whole_files(void) { protected("on_busy=wait,break=file"); }

/* The image may be damaged afterwards, which is the point. */
static void unprotected(void)
{
	int rc = collide("on_busy=unsafe", true, "60");

	if (rc < 0)
		return;
	PT_EQ(rc, 3);
	PT_EQ(pt_fs_umount(st.fs), 0);
}

static const struct pt_case cases[] = {
	{ "wait", waiting, 300 },
	{ "wait, whole files", whole_files, 300 },
	{ "ebusy", busy, 300 },
	{ "defer", deferred, 300 },
	{ "without protection", unprotected, 300 },
};

int main(int argc, char **argv)
{
	static const struct pt_suite suites[] = { { "collision", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
