/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fail_client.c - what a client suffers harms no other: stopped, evicted, cut off, killed between two bytes.
 *
 * A victim file that takes all free space shows whether a block was given out while somebody could still store to
 * it. The twins run with on_busy=unsafe, which keeps nothing back; there the victim must be hit.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pinfs/pin.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/look.h"
#include "pin/raw.h"
#include "pin/stage.h"
#include "pin/victim.h"


static struct pt_fs *fs;
static char f[STAGE_PATH], victim[STAGE_PATH];

static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	(void)snprintf(victim, sizeof victim, "%s", pt_path(fs, "victim"));
	return true;
}

/* No session, no waiter and no kept block is left of anybody. */
static void all_gone(void)
{
	CU_ASSERT(look_parked_until(fs, 0));
	CU_ASSERT(look_until(fs, 0, 0, NULL));
}

static long load_until_bus(struct actor *a)
{
	const uint64_t end = pt_now_ms() + SOON_MS;
	long rc;

	do
		rc = actor_do(a, act_load(0, 0));
	while (rc >= 0 && pt_now_ms() < end);
	return rc;
}

static int evict(pid_t pid, char *said, size_t room)
{
	char num[16];

	(void)snprintf(num, sizeof num, "%d", (int)pid);
	return pt_run(said, room, 60000, (const char *[]){ pt_program("pinfsctl"), "evict", num, fs->mnt, NULL });
}

/* --- stopped --- */

/*
 * A client is stopped with the file mapped. The file is cut, others go on, its blocks come back when it wakes; the
 * first thing that it does then, perhaps before it knows, is to store to them.
 */
static void stopped(void)
{
	struct actor *h, *c;
	struct look l;
	uint64_t len;
	long rc;

	if (!begin("on_busy=wait,revoke_timeout=300ms"))
		return;
	h = actor_new();
	c = actor_new();
	PT_EQ(actor_map_file(h, 0, f, 16 * F_LEN), 0);
	PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 's')), 0);
	actor_stop(h);
	/* It was shown the end of the file: the first write behind it waits for it, the others do not. */
	for (uint64_t i = 0; i < 20; i++)
		PT_EQ(actor_do(c, act_write(f, F_LEN + i * 4096, 4096, 'w')), 4096);
	PT_EQ(look_status(fs, "counters.quarantines"), 1);
	CU_ASSERT_STRING_EQUAL(look_session(fs, actor_pid(h)), "quarantined");
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	PT_EQ(look_status(fs, "counters.quarantines"), 1);
	PT_EQ(look_status(fs, "space.parked"), F_BLOCKS);
	CU_ASSERT_FATAL(look(fs, &l));
	PT_EQ(l.nkept, 1);
	PT_EQ(l.kept[0].pid, actor_pid(h));
	PT_EQ(l.kept[0].blocks, F_BLOCKS);
	CU_ASSERT_STRING_EQUAL(l.kept[0].why, "quarantined");
	pt_sleep_ms(2);
	CU_ASSERT_FATAL(look(fs, &l));
	CU_ASSERT(l.kept[0].age_ns >= 2000000);
	len = victim_make(victim);
	actor_send(h, act_store(0, 0, F_LEN, 'x'));
	PT_EQ(kill(actor_pid(h), SIGCONT), 0);
	rc = actor_result(h, SOON_MS);
	CU_ASSERT(rc == 0 || rc == -EFAULT);
	CU_ASSERT(victim_intact(victim, len));
	CU_ASSERT(look_parked_until(fs, 0));
	CU_ASSERT(look_session_until(fs, actor_pid(h), "live"));
	PT_EQ(actor_do(h, act_load(0, 0)), -EFAULT);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

/* --- in a debugger that stops some threads --- */

#define THREADS_MAX 16

struct traced { pid_t tid[THREADS_MAX]; size_t n; };

/* Stop all threads of the process but its first: the library's. False, with the case skipped: it may not be traced. */
static bool stop_threads(pid_t pid, struct traced *t)
{
	char path[64];
	struct dirent *d;
	DIR *dir;

	t->n = 0;
	(void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	dir = opendir(path);
	CU_ASSERT_FATAL(dir != NULL);
	while ((d = readdir(dir)) != NULL && t->n < THREADS_MAX) {
		pid_t tid = (pid_t)strtol(d->d_name, NULL, 10);

		if (tid <= 0 || tid == pid)
			continue;
		if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0) {
			(void)closedir(dir);
			pt_skip("ptrace: %s", strerror(errno));
			return false;
		}
		PT_SYS(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL));
		PT_EQ(waitpid(tid, NULL, __WALL), tid);
		t->tid[t->n++] = tid;
	}
	(void)closedir(dir);
	CU_ASSERT(t->n >= 3);
	return true;
}

static void let_go_on(struct traced *t)
{
	for (size_t i = 0; i < t->n; i++)
		PT_SYS(ptrace(PTRACE_DETACH, t->tid[i], NULL, NULL));
}

/* The threads that would unmap are stopped, the one that stores is not. */
static void debugged(const char *opts, bool keeps)
{
	struct actor *h, *c;
	struct traced t;
	uint64_t len;

	if (!begin(opts))
		return;
	h = actor_new();
	c = actor_new();
	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 's')), 0);
	if (stop_threads(actor_pid(h), &t)) {
		PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
		len = victim_make(victim);
		PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 'x')), 0);
		PT_EQ(victim_intact(victim, len), keeps);
		let_go_on(&t);
		CU_ASSERT(look_parked_until(fs, 0));
		CU_ASSERT(look_session_until(fs, actor_pid(h), "live"));
		PT_EQ(load_until_bus(h), -EFAULT);
	}
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

static void debugged_kept(void) { debugged("on_busy=wait,revoke_timeout=300ms", true); }
static void debugged_unsafe(void) { debugged("on_busy=unsafe,revoke_timeout=300ms", false); }

/* It never wakes: the end of its process is as good. */
static void stopped_killed(void)
{
	struct actor *h, *c;

	if (!begin("revoke_timeout=200ms"))
		return;
	h = actor_new();
	c = actor_new();
	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 's')), 0);
	actor_stop(h);
	PT_EQ(actor_do(c, act_unlink(f)), 0);		/* waits for nobody */
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'n')), (long)F_LEN);
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);	/* another file */
	PT_EQ(look_status(fs, "counters.quarantines"), 0);
	actor_kill(h);
	all_gone();
	actor_end(c);
	pt_fs_end(fs);
}

/*
 * One that sleeps while its file is cut many times: it gets a handful of messages, not thousands, and has its session
 * when it wakes.
 */
static void long_sleep(void)
{
	struct pf_p_attach_out at;
	struct pf_p_inval in;
	struct raw_chunk chunk;
	struct actor *c;
	struct raw r;
	unsigned int notes = 0;

	if (!begin("revoke_timeout=100ms"))
		return;
	c = actor_new();
	raw_up(&r, fs, true);
	PT_EQ(raw_attach(&r, f, O_RDWR, &at), 0);
	PT_EQ(raw_setup(&r, at.ao_fh, 0, 0, &chunk), 0);
	for (int i = 0; i < 1000; i++) {
		PT_EQ(actor_do(c, act_truncate(f, i % 2 ? F_LEN : 0)), 0);
		PT_EQ(actor_do(c, act_write(f, 0, 4096, 'a')), 4096);
	}
	PT_EQ(look_status(fs, "counters.quarantines"), 1);
	PT_EQ(look_status(fs, "space.parked"), F_BLOCKS);
	while (strcmp(look_session(fs, getpid()), "live") != 0 && ++notes < 10 && raw_note(&r, &in))
		CU_ASSERT(raw_ack(&r, in.in_id));
	CU_ASSERT(notes < 10);
	CU_ASSERT(look_parked_until(fs, 0));
	CU_ASSERT(look_session_until(fs, getpid(), "live"));
	/* The same slot is dead; another one shows the file as it is. */
	PT_EQ(raw_setup(&r, at.ao_fh, 0, 0, &chunk), -ESTALE);
	PT_EQ(raw_setup(&r, at.ao_fh, 1, 0, &chunk), 0);
	raw_down(&r);
	actor_end(c);
	pt_fs_end(fs);
}

/* --- evicted --- */

/* A holder of a pin is evicted: the truncate that waited goes on, the device goes on with its blocks. */
static void evicted(const char *opts, bool keeps)
{
	struct actor *h, *c;
	char said[256];
	struct look l;
	uint64_t len;

	if (!begin(opts))
		return;
	h = actor_new();
	c = actor_new();
	PT_EQ(evict(actor_pid(h), said, sizeof said), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(said, "has no session"));
	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 's')), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, 0, F_LEN, PINFS_PIN_WRITE)), 0);
	actor_send(c, act_truncate(f, 0));
	if (keeps) {
		CU_ASSERT(look_until(fs, 1, 1, &l));
		PT_EQ(l.wait[0].holder, actor_pid(h));
	}
	PT_EQ(evict(actor_pid(h), said, sizeof said), 0);
	CU_ASSERT_STRING_EQUAL(said, "");
	PT_EQ(actor_result(c, SOON_MS), 0);
	CU_ASSERT_STRING_EQUAL(look_session(fs, actor_pid(h)), "evicted");
	PT_EQ(evict(actor_pid(h), said, sizeof said), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(said, "cut off already"));
	if (keeps) {
		CU_ASSERT_FATAL(look(fs, &l));
		PT_EQ(l.nkept, 1);
		PT_EQ(l.kept[0].blocks, F_BLOCKS);
		CU_ASSERT_STRING_EQUAL(l.kept[0].why, "evicted");
	}
	len = victim_make(victim);
	PT_EQ(actor_do(h, act_dma(0, 4711)), (long)F_LEN);
	PT_EQ(victim_intact(victim, len), keeps);
	/* It knows. */
	PT_EQ(load_until_bus(h), -EFAULT);
	PT_EQ(actor_do(h, act_pin(1, 0, 0, 4096, 0)), -ENOTCONN);
	PT_EQ(actor_do(h, act_query(0)), -ENOTCONN);
	PT_EQ(look_status(fs, "space.parked"), keeps ? F_BLOCKS : 0);
	/* With the last pin and the last descriptor the device is let go. */
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	CU_ASSERT(look_session_until(fs, actor_pid(h), "none"));
	all_gone();
	/* And it may come again. */
	PT_EQ(actor_do(c, act_unlink(victim)), 0);
	PT_EQ(actor_map_file(h, 1, f, F_LEN), 0);
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'n')), (long)F_LEN);
	PT_EQ(actor_do(h, act_load(1, 100)), 'n');
	PT_EQ(actor_do(h, act_pin(1, 1, 0, 4096, PINFS_PIN_WRITE)), 0);
	PT_EQ(actor_do(h, act_unpin(1)), 0);
	PT_EQ(actor_do(h, act_load(0, 0)), -EFAULT);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

static void evicted_kept(void) { evicted("on_busy=wait", true); }
static void evicted_unsafe(void) { evicted("on_busy=unsafe", false); }

/* A stopped process is evicted: it holds up nobody from then on, and its blocks until it ends. */
static void evicted_stopped(void)
{
	struct actor *h, *c;
	char said[256];
	uint64_t len;

	if (!begin("revoke_timeout=3600s"))
		return;
	h = actor_new();
	c = actor_new();
	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 's')), 0);
	actor_stop(h);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 0, NULL));
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	PT_EQ(evict(actor_pid(h), said, sizeof said), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(look_status(fs, "space.parked"), F_BLOCKS);
	len = victim_make(victim);
	actor_send(h, act_store(0, 0, F_LEN, 'x'));
	PT_EQ(kill(actor_pid(h), SIGCONT), 0);
	(void)actor_result(h, SOON_MS);
	CU_ASSERT(victim_intact(victim, len));
	PT_EQ(load_until_bus(h), -EFAULT);
	CU_ASSERT(look_session_until(fs, actor_pid(h), "none"));
	all_gone();
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

static int evict_as_nobody(void *arg)
{
	struct raw *r = arg;
	const struct pf_p_evict_in in = { .ev_pid = (uint32_t)getppid() };
	int rc;

	raw_up(r, fs, false);
	(void)close(r->sock);
	r->sock = raw_dial(fs);
	if (setgid(65534) != 0 || setuid(65534) != 0)
		return 77;
	(void)close(r->sock);
	raw_up(r, fs, false);
	rc = raw_call(r, PF_P_EVICT, &in, sizeof in, NULL, 0);
	return rc == -EPERM ? 0 : 1;
}

static void evict_who(void)
{
	const struct pf_p_evict_in none = { .ev_pid = 0 }, absurd = { .ev_pid = UINT32_MAX };
	const struct pf_p_evict_in me = { .ev_pid = (uint32_t)getpid() };
	struct raw r, other;
	char out[1024];

	if (!begin("allow_other"))
		return;
	PT_SYS(chmod(fs->mnt, 0755));
	PT_EQ(pt_wait(pt_fork(evict_as_nobody, &r), SOON_MS), 0);
	PT_EQ(pt_run(out, sizeof out, 60000,
		     (const char *[]){ pt_program("pinfsctl"), "evict", "x", fs->mnt, NULL }), 2);
	PT_EQ(pt_run(out, sizeof out, 60000, (const char *[]){ pt_program("pinfsctl"), "evict", fs->mnt, NULL }), 2);
	raw_up(&r, fs, false);
	PT_EQ(raw_call(&r, PF_P_EVICT, &none, sizeof none, NULL, 0), -ESRCH);
	PT_EQ(raw_call(&r, PF_P_EVICT, &absurd, sizeof absurd, NULL, 0), -ESRCH);
	PT_EQ(raw_call(&r, PF_P_EVICT, &me, sizeof me, NULL, 0), -ESRCH);
	/* Two sessions of one process: both. */
	raw_down(&r);
	raw_up(&r, fs, true);
	raw_up(&other, fs, true);
	PT_EQ(evict(getpid(), out, sizeof out), 0);
	CU_ASSERT(raw_hung_up(&r));
	CU_ASSERT(raw_hung_up(&other));
	PT_EQ(evict(getpid(), out, sizeof out), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "already"));
	raw_down(&r);
	raw_down(&other);
	CU_ASSERT(look_session_until(fs, getpid(), "none"));
	pt_fs_end(fs);
}

/* --- others that have the device by way of a client --- */

struct heir { int go[2], said[2]; };

/* Attach, map the blocks, fork; the parent is killed; the child stores when it is told to. */
static int testator(void *arg)
{
	struct heir *h = arg;
	struct pf_p_attach_out at;
	struct raw_chunk c;
	char byte = 'm';
	struct raw r;
	char *p;

	raw_up(&r, fs, true);
	if (raw_attach(&r, f, O_RDWR, &at) != 0 || raw_setup(&r, at.ao_fh, 0, 0, &c) != 0 || c.out.mo_next != 1)
		return 1;
	p = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, r.fds[0], (off_t)c.ext[0].e_doff);
	if (p == MAP_FAILED || p[1] != 'o')
		return 2;
	if (fork() == 0) {
		raw_down(&r);		/* the mapping is all that it has */
		if (write(h->said[1], &byte, 1) != 1 || read(h->go[0], &byte, 1) != 1)
			_exit(3);
		memset(p, 'x', F_LEN);
		_exit(write(h->said[1], &byte, 1) != 1);
	}
	for (;;)
		(void)pause();
}

static void heirs(const char *opts, bool keeps)
{
	struct actor *c;
	struct heir h;
	uint64_t len;
	char byte;
	pid_t pid;

	if (!begin(opts))
		return;
	pt_adopt_orphans();
	c = actor_new();
	PT_SYS_FATAL(pipe2(h.go, O_CLOEXEC));
	PT_SYS_FATAL(pipe2(h.said, O_CLOEXEC));
	pid = pt_fork(testator, &h);
	PT_EQ(read(h.said[0], &byte, 1), 1);
	pt_kill(pid);
	CU_ASSERT(look_session_until(fs, pid, "cut off"));
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	PT_EQ(look_status(fs, "space.parked"), keeps ? F_BLOCKS : 0);
	len = victim_make(victim);
	PT_EQ(write(h.go[1], "g", 1), 1);
	PT_EQ(read(h.said[0], &byte, 1), 1);
	PT_EQ(victim_intact(victim, len), keeps);
	CU_ASSERT(look_session_until(fs, pid, "none"));
	all_gone();
	for (int i = 0; i < 2; i++) {
		(void)close(h.go[i]);
		(void)close(h.said[i]);
	}
	actor_end(c);
	pt_fs_end(fs);
}

static void heirs_kept(void) { heirs("on_busy=wait", true); }
static void heirs_unsafe(void) { heirs("on_busy=unsafe", false); }

static int exec_main(void *arg)
{
	int *ready = arg, fd = open(f, O_RDWR | O_CLOEXEC);
	struct pinfs_pin *pin;
	char *p = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED || (p[0] = 'e') != 'e' || pinfs_pin(p, F_LEN, PINFS_PIN_WRITE, &pin) != 0)
		return 1;
	if (write(ready[1], "r", 1) != 1 || read(ready[2], p, 1) != 1)
		return 1;
	(void)execlp("sleep", "sleep", "1h", NULL);
	return 127;
}

/* A program that becomes another one has let go, pins and all, though the process lives on. */
static void execs(void)
{
	int pipes[4];
	struct actor *c;
	struct look l;
	char byte;
	pid_t pid;

	if (!begin(NULL))
		return;
	c = actor_new();
	PT_SYS_FATAL(pipe2(pipes, O_CLOEXEC));
	PT_SYS_FATAL(pipe2(pipes + 2, O_CLOEXEC));
	pid = pt_fork(exec_main, pipes);
	PT_EQ(read(pipes[0], &byte, 1), 1);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, &l));
	PT_EQ(l.wait[0].holder, pid);
	PT_EQ(write(pipes[3], "g", 1), 1);
	PT_EQ(actor_result(c, SOON_MS), 0);
	CU_ASSERT(look_session_until(fs, pid, "none"));
	all_gone();
	PT_EQ(pt_wait(pid, 0), -1);			/* it lives */
	pt_kill(pid);
	for (int i = 0; i < 4; i++)
		(void)close(pipes[i]);
	actor_end(c);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "stopped", stopped, 0 },
		{ "in a debugger", debugged_kept, 0 },
		{ "twin: in a debugger, nothing kept", debugged_unsafe, 0 },
		{ "stopped, then killed", stopped_killed, 0 },
		{ "a long sleep", long_sleep, 280 },
		{ "evicted", evicted_kept, 0 },
		{ "twin: evicted, nothing kept", evicted_unsafe, 0 },
		{ "evicted while stopped", evicted_stopped, 0 },
		{ "who may evict whom", evict_who, 0 },
		{ "a child has the mapping", heirs_kept, 0 },
		{ "twin: a child has the mapping, nothing kept", heirs_unsafe, 0 },
		{ "exec", execs, 0 },
	};
	static const struct pt_suite suite = { "client", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
