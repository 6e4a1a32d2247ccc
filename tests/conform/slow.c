/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slow.c - a FUSE mount of the suite's own with one file whose reads and writes are answered when a case says so
 * (harness/slowsrv.h). Root mounts it, anybody else lets fusermount3. When the runner is gone, whatever became of it,
 * the server unmounts.
 */
#include "conform/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
	char mnt[PATH_MAX], path[PATH_MAX + sizeof SLOW_NAME];
	struct slowsrv srv;
	pid_t pid;
} slow;

static void unmount(void)
{
	if (umount2(slow.mnt, MNT_DETACH) != 0 && errno == EPERM) {
		const pid_t pid = fork();

		if (pid == 0) {
			(void)execlp("fusermount3", "fusermount3", "-u", "-z", slow.mnt, (char *)NULL);
			_exit(127);
		}
		if (pid > 0)
			(void)waitpid(pid, NULL, 0);
	}
	(void)rmdir(slow.mnt);
}

/* The mount, by fusermount3, which sends the descriptor over a socket: -1 and @why. */
static int mount_by_helper(char *why, size_t room)
{
	struct iovec v = { &(char){ 0 }, 1 };
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } u;
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = u.room, .msg_controllen = sizeof u.room };
	int sv[2], fd = -1, status = 0;
	char num[16];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) != 0) {
		(void)snprintf(why, room, "socketpair: %s", strerror(errno));
		return -1;
	}
	(void)snprintf(num, sizeof num, "%d", sv[1]);
	pid = fork();
	if (pid == 0) {
		const int null = open("/dev/null", O_RDWR);

		(void)fcntl(sv[1], F_SETFD, 0);
		(void)dup2(null, 2);
		(void)unsetenv("LD_PRELOAD");
		(void)setenv("_FUSE_COMMFD", num, 1);
		(void)execlp("fusermount3", "fusermount3", "-o", "fsname=slow,subtype=pinfs-conform", "--", slow.mnt,
			     (char *)NULL);
		_exit(127);
	}
	(void)close(sv[1]);
	if (pid > 0 && recvmsg(sv[0], &m, MSG_CMSG_CLOEXEC) > 0 && CMSG_FIRSTHDR(&m) != NULL &&
	    CMSG_FIRSTHDR(&m)->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	(void)close(sv[0]);
	if (pid > 0)
		(void)waitpid(pid, &status, 0);
	if (fd >= 0)
		(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	else
		(void)snprintf(why, room, "fusermount3 mounts nothing here (status %d)", status >> 8);
	return fd;
}

bool slow_start(const char *dir, char *why, size_t room)
{
	struct slowsrv *srv = &slow.srv;
	int life[2], ended;

	(void)snprintf(slow.mnt, sizeof slow.mnt, "%.*s/pinfs-slow.XXXXXX", PATH_MAX - 32, dir);
	if (mkdtemp(slow.mnt) == NULL) {
		(void)snprintf(why, room, "%s: %s", slow.mnt, strerror(errno));
		return false;
	}
	(void)snprintf(slow.path, sizeof slow.path, "%s/" SLOW_NAME, slow.mnt);
	*srv = (struct slowsrv){ .max = SLOW_REQ, .fill = CF_DMA };
	srv->fd = geteuid() != 0 ? mount_by_helper(why, room) :
				   slowsrv_mount(slow.mnt, "fuse.pinfs-conform", why, room);
	if (srv->fd < 0) {
		(void)rmdir(slow.mnt);
		return false;
	}
	if (!slowsrv_init(srv) || pipe2(life, O_CLOEXEC) != 0) {
		(void)snprintf(why, room, "%s", strerror(errno));
		unmount();
		return false;
	}
	slow.pid = fork();
	if (slow.pid == 0) {
		(void)close(life[1]);
		(void)prctl(PR_SET_NAME, "pinfs-slow");
		(void)setsid();		/* a terminal's Ctrl-C is the runner's */
		srv->life = life[0];
		ended = slowsrv_serve(srv);
		if (ended == 1)
			unmount();
		_exit(ended);
	}
	(void)close(life[0]);
	(void)close(srv->fd);
	srv->life = life[1];
	if (slow.pid > 0)
		return true;
	(void)snprintf(why, room, "fork: %s", strerror(errno));
	unmount();
	return false;
}

bool slow_there(void) { return slow.pid > 0; }
pid_t slow_pid(void) { return slow.pid; }
const char *slow_file(void) { return slow.path; }
const char *slow_data(uint64_t off) { return slow.srv.sh->data + off; }

/* Until the server has seen what is in the table now. */
static void ring(void)
{
	const uint32_t turn = slowsrv_ring(&slow.srv);

	while (!slowsrv_heard(&slow.srv, turn) && kill(slow.pid, 0) == 0)
		(void)usleep(50);
}

uint64_t slow_region(uint64_t len)
{
	return atomic_fetch_add(&slow.srv.sh->next, (len + SLOW_REQ - 1) / SLOW_REQ * SLOW_REQ);
}

int slow_hold(uint64_t off, uint64_t len)
{
	for (int i = 0; i < SLOW_HOLDS; i++) {
		struct slow_hold *h = &slow.srv.sh->hold[i];
		uint32_t no = 0;

		if (!atomic_compare_exchange_strong(&h->used, &no, 1))
			continue;
		h->off = off;
		h->len = len;
		atomic_store(&h->waiting, 0);
		atomic_store(&h->on, 1);
		ring();
		return i;
	}
	return -1;
}

void slow_release(int hold)
{
	atomic_store(&slow.srv.sh->hold[hold].on, 0);
	ring();
	atomic_store(&slow.srv.sh->hold[hold].used, 0);
}

unsigned int slow_waiting(int hold)
{
	return atomic_load(&slow.srv.sh->hold[hold].waiting);
}

void slow_reset(void)
{
	bool any = false;

	for (int i = 0; slow_there() && i < SLOW_HOLDS; i++) {
		any = any || atomic_load(&slow.srv.sh->hold[i].used);
		atomic_store(&slow.srv.sh->hold[i].on, 0);
	}
	if (any)
		ring();
	for (int i = 0; slow_there() && i < SLOW_HOLDS; i++)
		atomic_store(&slow.srv.sh->hold[i].used, 0);
	if (slow_there())
		atomic_store(&slow.srv.sh->next, 0);
	if (any)
		(void)madvise(slow.srv.sh->data, SLOW_BYTES, MADV_REMOVE);
}

void slow_stop(void)
{
	if (!slow_there())
		return;
	slow_reset();
	(void)close(slow.srv.life);
	(void)waitpid(slow.pid, NULL, 0);
	slow.pid = 0;
	/* Somebody has killed the server. */
	if (access(slow.mnt, F_OK) == 0 || errno != ENOENT)
		unmount();
}
