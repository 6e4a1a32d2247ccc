/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsx_run.c - a run: mounts, workers and whose turn it is, cycles of unmounting and of killing the daemon, and the
 * report of a failure.
 */
#include "prog/fsx.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define ANSWER_MS 60000

/* Orders of one letter; a worker answers 'y' or 'n'. */
#define DO_STEP 's'
#define DO_SYNC 'f'		/* what would be lost */
#define DO_SYNC_ALL 'F'		/* fsync of everything */
#define DO_END 'e'

struct hand {
	pid_t pid;
	int sock;
};

struct job { struct fsx *x; unsigned int number; int sock; };

static struct { unsigned int step; char why[512]; } last;

unsigned int fsx_failed_at(void) { return last.step; }
const char *fsx_failed_why(void) { return last.why; }

static int worker_main(void *arg)
{
	const struct job *job = arg;
	struct fsx_worker *w = fsx_worker_new(job->x, job->number);
	char c, answer;

	if (w == NULL)
		return 2;
	while (read(job->sock, &c, 1) == 1) {
		bool ok = c == DO_STEP ? fsx_worker_step(w) :
			  c == DO_END  ? fsx_worker_end(w) :
					 fsx_worker_sync(w, c == DO_SYNC_ALL);

		answer = ok ? 'y' : 'n';
		if (write(job->sock, &answer, 1) != 1 || !ok || c == DO_END)
			return !ok;
	}
	return 3;
}

static bool hire(struct fsx *x, struct hand *hands)
{
	for (unsigned int i = 0; i < x->conf.workers; i++) {
		struct job job = { .x = x, .number = i };
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
			return fsx_bad(x, "socketpair: %s", strerror(errno));
		job.sock = pair[1];
		hands[i].pid = pt_fork(worker_main, &job);
		(void)close(pair[1]);
		hands[i].sock = pair[0];
		if (hands[i].pid < 0)
			return fsx_bad(x, "fork: %s", strerror(errno));
	}
	return true;
}

static void fire(const struct fsx *x, struct hand *hands)
{
	for (unsigned int i = 0; i < x->conf.workers; i++) {
		if (hands[i].pid > 0) {
			pt_kill(hands[i].pid);
			(void)close(hands[i].sock);
		}
		hands[i].pid = 0;
	}
}

static bool order(struct fsx *x, struct hand *hands, unsigned int who, char what)
{
	struct pollfd p = { .fd = hands[who].sock, .events = POLLIN };
	char answer = 0;
	int status;

	x->worker = who;
	if (write(p.fd, &what, 1) == 1 && poll(&p, 1, ANSWER_MS) > 0 && read(p.fd, &answer, 1) == 1 && answer == 'y')
		return true;
	if (answer == 'n')
		return fsx_bad(x, "failed without a word");
	status = pt_wait(hands[who].pid, 1000);
	if (status < 0)
		return fsx_bad(x, "worker %u is stuck", who);
	hands[who].pid = 0;
	return status > 128 ? fsx_bad(x, "worker %u was killed: %s", who, strsignal(status - 128)) :
			      fsx_bad(x, "worker %u ended with status %d", who, status);
}

/* Everybody lets go, and leaves. */
static bool dismiss(struct fsx *x, struct hand *hands)
{
	bool ok = true;

	for (unsigned int i = 0; i < x->conf.workers && ok; i++) {
		ok = order(x, hands, i, DO_END);
		if (ok && pt_wait(hands[i].pid, ANSWER_MS) != 0)
			ok = fsx_bad(x, "worker %u did not end well", i);
		(void)close(hands[i].sock);
		hands[i].pid = ok ? 0 : hands[i].pid;
	}
	return ok;
}

static void forget_cache(struct fsx *x)
{
	for (unsigned int i = 0; i < x->conf.files; i++)
		memset(x->file[i].cache, 0, sizeof x->file[i].cache);
}

static bool mount_again(struct fsx *x, struct pt_fs *fs)
{
	int rc = pt_fs_mount(fs, x->conf.opts);

	if (rc != 0)
		return fsx_bad(x, "mount: status %d", rc);
	return fsx_check_all(x);
}

static bool remount(struct fsx *x, struct pt_fs *fs, struct hand *hands)
{
	int rc;

	fsx_log(x, "--------- unmount, fsck, mount");
	if (!dismiss(x, hands))
		return false;
	rc = pt_fs_umount(fs);
	if (rc != 0)
		return fsx_bad(x, "umount: %d", rc);
	forget_cache(x);
	if (pt_fs_fsck(fs) != 0)
		return fsx_bad(x, "fsck.pinfs -n after umount");
	return mount_again(x, fs) && hire(x, hands);
}

/* What was synced has to be there; and all of write(2) and windows was, on return. Workers die holding all they had. */
static bool crash(struct fsx *x, struct pt_fs *fs, struct hand *hands)
{
	char how = fsx_rnd(x, 2) != 0 ? DO_SYNC : DO_SYNC_ALL;
	bool kill_first = fsx_rnd(x, 2) != 0;

	fsx_log(x, "--------- kill -9 of the daemon%s, mount", kill_first ? ", after its clients" : "");
	for (unsigned int i = 0; i < x->conf.workers; i++)
		if (!order(x, hands, i, how))
			return false;
	if (kill_first)
		fire(x, hands);
	pt_fs_crash(fs);
	fire(x, hands);
	forget_cache(x);
	return mount_again(x, fs) && hire(x, hands);
}

static bool steps(struct fsx *x, struct pt_fs *fs, struct hand *hands)
{
	const struct fsx_conf *c = &x->conf;

	for (x->step = 1; x->step <= c->steps; x->step++) {
		unsigned int who = (unsigned int)fsx_rnd(x, c->workers);

		if (x->step == c->mutate) {
			unsigned int i = x->file[0].size >= x->file[1].size ? 0 : 1;

			x->file[i].bytes[fsx_rnd(x, x->file[i].size)] ^= 1;
		}
		if (!order(x, hands, who, DO_STEP))
			return false;
		if (c->remount != 0 && x->step % c->remount == 0 && !remount(x, fs, hands))
			return false;
		if (c->crash != 0 && x->step % c->crash == c->crash / 2 && !crash(x, fs, hands))
			return false;
	}
	return true;
}

static bool begin(struct fsx *x)
{
	char path[sizeof x->mnt + FSX_NAME];

	for (unsigned int d = 0; d < 2; d++) {
		(void)snprintf(path, sizeof path, "%s/d%u", x->mnt, d);
		if (mkdir(path, 0755) != 0)
			return fsx_bad(x, "%s: %s", path, strerror(errno));
	}
	for (unsigned int i = 0; i < x->conf.files; i++) {
		int fd;

		fsx_m_create(x, &x->file[i]);
		(void)snprintf(path, sizeof path, "%s/%s", x->mnt, x->file[i].name);
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0 || close(fd) != 0)
			return fsx_bad(x, "%s: %s", path, strerror(errno));
	}
	return true;
}

static void report(const struct fsx *x)
{
	unsigned int n = x->nlog < FSX_RING ? x->nlog : FSX_RING;

	pt_say("run \"%s\" failed at step %u: %s", x->conf.name, x->step, x->why);
	pt_say("again: PINFS_FSX_SEED=%#llx PINFS_FSX_STEPS=%u --filter %s", (unsigned long long)x->conf.seed,
	       x->conf.steps, x->conf.name);
	pt_say("the last operations (step [worker] what):");
	for (unsigned int i = x->nlog - n; i != x->nlog; i++)
		pt_say("  %s", x->log[i % FSX_RING]);
}

bool fsx_run(const struct fsx_conf *conf)
{
	struct fsx *x = mmap(NULL, sizeof *x, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct hand hands[FSX_WORKERS] = { { 0, -1 } };
	struct pt_fs *fs;
	bool ok;

	CU_ASSERT_FATAL(x != MAP_FAILED);
	x->conf = *conf;
	x->rng = conf->seed * 2 + 1;
	fs = pt_fs_start(conf->image, conf->opts);
	(void)snprintf(x->mnt, sizeof x->mnt, "%s", fs->mnt);
	ok = begin(x) && hire(x, hands) && steps(x, fs, hands);
	if (ok)
		ok = dismiss(x, hands) && fsx_check_all(x);
	fire(x, hands);
	last.step = ok ? 0 : x->step;
	memcpy(last.why, x->why, sizeof last.why);
	if (!ok && !conf->quiet)
		report(x);
	(void)munmap(x, sizeof *x);
	if (ok)
		pt_fs_end(fs);
	else if (conf->quiet)
		(void)unlink(fs->log);	/* the daemon's words about what was done to it */
	return ok;
}
