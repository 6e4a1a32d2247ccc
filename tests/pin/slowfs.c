/* SPDX-License-Identifier: BSD-3-Clause */
/* slowfs.c - see slowfs.h. One hold, of all that the file has; releasing does not lift it. */
#include "pin/slowfs.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define MOUNTS 4
#define WAIT_MS 60000

struct slow {
	char mnt[512], path[600];
	struct slowsrv srv;
	pid_t pid;
};

static struct slow all[MOUNTS];

static int serve(void *arg)
{
	const struct slow *s = arg;

	return slowsrv_serve(&s->srv);
}

static void forget(struct slow *s)
{
	(void)munmap(s->srv.sh, sizeof *s->srv.sh);
	(void)close(s->srv.bell);
	(void)rmdir(s->mnt);
	memset(s, 0, sizeof *s);
}

/* A mount that is forced ends what waits in it, with an error. */
static void take_down(void)
{
	for (unsigned int i = 0; i < MOUNTS; i++) {
		if (all[i].srv.sh == NULL)
			continue;
		(void)umount2(all[i].mnt, MNT_FORCE);
		pt_kill(all[i].pid);
		(void)umount2(all[i].mnt, MNT_DETACH);
		forget(&all[i]);
	}
}

struct slow *slow_start(void)
{
	static unsigned int serial;
	char why[128];
	struct slow *s = NULL;

	for (unsigned int i = 0; i < MOUNTS && s == NULL; i++)
		s = all[i].srv.sh == NULL ? &all[i] : NULL;
	CU_ASSERT_FATAL(s != NULL);
	if (geteuid() != 0) {
		pt_skip("a FUSE mount of the test's own needs root");
		return NULL;
	}
	(void)snprintf(s->mnt, sizeof s->mnt, "%s/slow%u", pt_tmp(), serial++);
	(void)snprintf(s->path, sizeof s->path, "%s/" SLOW_NAME, s->mnt);
	s->srv = (struct slowsrv){ .max = SLOW_MAX, .fill = SLOW_BYTE, .life = -1 };
	CU_ASSERT_FATAL(slowsrv_init(&s->srv));
	s->srv.sh->hold[0].len = UINT64_MAX;
	PT_SYS_FATAL(mkdir(s->mnt, 0755));
	s->srv.fd = slowsrv_mount(s->mnt, "fuse.slowfs", why, sizeof why);
	PT_SYS_FATAL(s->srv.fd);
	s->pid = pt_fork(serve, s);
	(void)close(s->srv.fd);
	pt_on_cleanup(take_down);
	PT_SYS_FATAL(s->pid);
	return s;
}

const char *slow_path(const struct slow *s)
{
	return s->path;
}

void slow_hold(struct slow *s, bool wait)
{
	atomic_store(&s->srv.sh->hold[0].on, wait);
}

unsigned int slow_waiting(const struct slow *s)
{
	return atomic_load(&s->srv.sh->waiting);
}

bool slow_await(struct slow *s, unsigned int n)
{
	uint64_t end = pt_now_ms() + WAIT_MS;

	while (slow_waiting(s) < n && pt_now_ms() < end)
		pt_sleep_ms(1);
	return slow_waiting(s) >= n;
}

void slow_release(struct slow *s, int err)
{
	const uint64_t end = pt_now_ms() + WAIT_MS;
	uint32_t turn;

	atomic_store(&s->srv.sh->err, err);
	atomic_store(&s->srv.sh->flush, 1);
	turn = slowsrv_ring(&s->srv);
	while (!slowsrv_heard(&s->srv, turn) && pt_now_ms() < end)
		pt_sleep_ms(1);
	CU_ASSERT(slowsrv_heard(&s->srv, turn));
}

size_t slow_written(const struct slow *s, void *out, size_t room)
{
	size_t n = atomic_load(&s->srv.sh->last_len);

	n = n < room ? n : room;
	memcpy(out, s->srv.sh->data + s->srv.sh->last_off, n);
	return n;
}

void slow_end(struct slow *s)
{
	const uint64_t end = pt_now_ms() + WAIT_MS;
	int rc;

	/* The kernel lets go of a request's file, and of those of a ring or process that has ended, in its own time. */
	while ((rc = umount2(s->mnt, 0)) != 0 && errno == EBUSY && pt_now_ms() < end)
		pt_sleep_ms(1);
	PT_SYS(rc);
	if (pt_wait(s->pid, WAIT_MS) != 0) {
		CU_FAIL("the slow mount's server did not end in order");
		pt_kill(s->pid);
	}
	forget(s);
}
