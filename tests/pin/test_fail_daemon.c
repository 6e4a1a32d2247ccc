/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fail_daemon.c - what becomes of clients, waiters and the image when the daemon ends: by SIGKILL, by SIGTERM, by
 * umount; and that an image never has two.
 *
 * A client of a dead daemon has the device until it lets go: no other daemon, mkfs or fsck touches it before, and
 * whoever is refused is told the client's pid. In the twin the client gives its locks away, and a new daemon hands out
 * the blocks that it still stores to.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
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

/* The daemon, mkfs and fsck refuse the image in a line that names @pid; all at once, as each waits for a second. */
static void refused_because_of(pid_t pid)
{
	const char *const mnt = pt_is_mounted(fs->mnt) ? fs->dir : fs->mnt;
	const char *const cmd[][6] = {
		{ pt_program("pinfs"), fs->img, mnt, NULL },
		{ pt_program("mkfs.pinfs"), "-f", fs->img, NULL },
		{ pt_program("fsck.pinfs"), "-n", fs->img, NULL },
		{ pt_program("fsck.pinfs"), "-y", fs->img, NULL },
	};
	struct { pid_t pid; int said; } run[PF_ARRAY_LEN(cmd)];
	char out[1024], name[32];

	(void)snprintf(name, sizeof name, "pid %d ", (int)pid);
	for (size_t i = 0; i < PF_ARRAY_LEN(cmd); i++) {
		run[i].said = memfd_create("said", MFD_CLOEXEC);
		run[i].pid = pt_spawn(cmd[i], run[i].said, run[i].said);
	}
	for (size_t i = 0; i < PF_ARRAY_LEN(cmd); i++) {
		const int rc = pt_wait(run[i].pid, SOON_MS);
		const ssize_t n = pread(run[i].said, out, sizeof out - 1, 0);

		out[n > 0 ? n : 0] = '\0';
		(void)close(run[i].said);
		if (rc == 0 || strstr(out, name) == NULL)
			pt_say("%s: status %d: %s", cmd[i][0], rc, out);
		CU_ASSERT(rc > 0);
		CU_ASSERT_PTR_NOT_NULL(strstr(out, name));
	}
}

/* The image becomes free when its last client lets go, which nobody announces. */
static void mount_when_free(const char *opts)
{
	const uint64_t end = pt_now_ms() + SOON_MS;
	int rc;

	do
		rc = pt_fs_mount(fs, opts);
	while (rc != 0 && pt_now_ms() < end);
	PT_EQ(rc, 0);
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

static uint64_t free_blocks(void)
{
	struct statvfs st;

	PT_SYS_FATAL(statvfs(fs->mnt, &st));
	return st.f_bfree;
}

/* A file's blocks are free when the kernel has let go of it, shortly after close(2) and unlink(2). */
static bool free_until(uint64_t least, uint64_t most)
{
	const uint64_t end = pt_now_ms() + SOON_MS;
	uint64_t n;

	do {
		n = free_blocks();
		if (n >= least && n <= most)
			return true;
		pt_sleep_ms(5);
	} while (pt_now_ms() < end);
	pt_say("%llu blocks are free", (unsigned long long)n);
	return false;
}

/* --- killed --- */

static void killed(void)
{
	struct actor *h, *c;
	char byte;
	int fd;

	if (!begin(NULL))
		return;
	h = actor_new();
	c = actor_new();
	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_store(0, 0, 4096, 's')), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, 0, 8192, PINFS_PIN_WRITE)), 0);
	fd = open(f, O_RDWR | O_CLOEXEC);
	PT_SYS_FATAL(fd);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	pt_kill(fs->pid);
	fs->pid = 0;
	/* Whoever waited, or calls now. */
	PT_EQ(actor_result(c, SOON_MS), -ECONNABORTED);
	PT_FAILS(pread(fd, &byte, 1, 0), ENOTCONN);
	PT_FAILS(fsync(fd), ENOTCONN);
	PT_FAILS(open(f, O_RDONLY), ENOTCONN);
	(void)close(fd);
	PT_EQ(load_until_bus(h), -EFAULT);
	PT_EQ(actor_do(h, act_store(0, 60000, 1, 'x')), -EFAULT);
	PT_EQ(actor_do(h, act_pin(1, 0, 0, 4096, 0)), -ENOTCONN);
	PT_EQ(actor_do(h, act_query(0)), -ENOTCONN);
	PT_SYS(umount2(fs->mnt, MNT_DETACH));
	/* The pin is void, but a device may be working on its blocks. */
	refused_because_of(actor_pid(h));
	PT_EQ(actor_do(h, act_dma(0, 99)), 8192);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	mount_when_free(NULL);
	/* The truncate was not done; the same process has new windows, and the old ones stay lost. */
	PT_EQ(actor_map_file(h, 1, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_load(1, F_LEN - 1)), 'o');
	PT_EQ(actor_do(h, act_store(1, 0, 1, 'n')), 0);
	PT_EQ(actor_do(h, act_pin(2, 1, 0, 4096, PINFS_PIN_WRITE)), 0);
	PT_EQ(actor_do(h, act_query(2)), 0);
	PT_EQ(actor_do(h, act_load(0, 0)), -EFAULT);
	PT_EQ(actor_do(h, act_unpin(2)), 0);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

/*
 * A client in quarantine, and the daemon is killed: on the medium its blocks are free. The next daemon comes when the
 * client has gone, and not before; then they are to be had, and nobody has stored to them.
 */
static void quarantine_survives(void)
{
	struct actor *h, *c;
	uint64_t len, blocks;

	if (!begin("revoke_timeout=200ms"))
		return;
	c = actor_new();
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	len = victim_make(victim);		/* what the directory and the list of orphans take for it, they keep */
	PT_EQ(actor_do(c, act_unlink(victim)), 0);
	CU_ASSERT(free_until(len / 4096, UINT64_MAX));
	blocks = free_blocks();
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
	h = actor_new();
	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 's')), 0);
	actor_stop(h);
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	PT_EQ(look_status(fs, "space.parked"), F_BLOCKS);
	len = victim_make(victim);
	pt_fs_crash(fs);
	refused_because_of(actor_pid(h));
	/* It wakes, stores, and finds out. */
	actor_send(h, act_store(0, 0, F_LEN, 'x'));
	PT_EQ(kill(actor_pid(h), SIGCONT), 0);
	(void)actor_result(h, SOON_MS);
	PT_EQ(load_until_bus(h), -EFAULT);
	mount_when_free(NULL);
	CU_ASSERT(victim_intact(victim, len));
	PT_EQ(actor_do(c, act_unlink(victim)), 0);
	CU_ASSERT(free_until(blocks, blocks));
	/* The same with a client that never wakes. */
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
	PT_EQ(actor_map_file(h, 1, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_store(1, 0, F_LEN, 's')), 0);
	actor_stop(h);
	pt_fs_crash(fs);
	refused_because_of(actor_pid(h));
	actor_kill(h);
	mount_when_free(NULL);
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	CU_ASSERT(free_until(blocks, blocks));
	actor_end(c);
	pt_fs_end(fs);
}

struct keeper { int said[2], go[2]; bool honest; };

/* A bare client: maps the blocks, and stores to them when it is told to, whatever became of the daemon. */
static int keep_mapping(void *arg)
{
	struct keeper *k = arg;
	struct pf_p_attach_out at;
	struct raw_chunk c;
	struct flock all = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
	char byte = 'k', *p;
	struct raw r;

	raw_up(&r, fs, true);
	if (raw_attach(&r, f, O_RDWR, &at) != 0 || raw_setup(&r, at.ao_fh, 0, 0, &c) != 0 || c.out.mo_next != 1)
		return 1;
	p = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, r.fds[0], (off_t)c.ext[0].e_doff);
	if (p == MAP_FAILED || p[1] != 'o')
		return 2;
	if (!k->honest && (flock(r.fds[0], LOCK_UN) != 0 || fcntl(r.fds[0], F_OFD_SETLK, &all) != 0))
		return 3;
	if (write(k->said[1], &byte, 1) != 1 || read(k->go[0], &byte, 1) != 1)
		return 4;
	memset(p, 'x', F_LEN);
	return write(k->said[1], &byte, 1) != 1;
}

static void locks(bool honest)
{
	struct keeper k = { .honest = honest };
	uint64_t len;
	char byte;
	pid_t pid;

	if (!begin(NULL))
		return;
	PT_SYS_FATAL(pipe2(k.go, O_CLOEXEC));
	PT_SYS_FATAL(pipe2(k.said, O_CLOEXEC));
	pid = pt_fork(keep_mapping, &k);
	PT_EQ(read(k.said[0], &byte, 1), 1);
	pt_fs_crash(fs);
	if (honest) {
		refused_because_of(pid);
		pt_kill(pid);
		mount_when_free(NULL);
	} else {
		PT_EQ(pt_fs_mount(fs, NULL), 0);
	}
	PT_SYS(truncate(f, 0));
	len = victim_make(victim);
	if (!honest) {
		PT_EQ(write(k.go[1], "g", 1), 1);
		PT_EQ(read(k.said[0], &byte, 1), 1);
		PT_EQ(pt_wait(pid, SOON_MS), 0);
	}
	PT_EQ(victim_intact(victim, len), honest);
	for (int i = 0; i < 2; i++) {
		(void)close(k.go[i]);
		(void)close(k.said[i]);
	}
	pt_fs_end(fs);
}

static void locks_kept(void) { locks(true); }
static void locks_dropped(void) { locks(false); }

/* --- ended in order --- */

#define WAITERS 20

/* Many wait for pins, a file is open, windows are mapped, and a signal comes. */
static void terminated(int sig, bool stopped)
{
	struct actor *h, *c;
	char prefix[512], byte;
	int fd;

	if (!begin("on_busy=wait"))
		return;
	(void)snprintf(prefix, sizeof prefix, "%s", pt_path(fs, "many"));
	h = actor_new();
	c = actor_new();
	for (int i = 0; i < WAITERS; i++)
		PT_EQ(actor_do(c, act_write(pt_path(fs, "many%d", i), 0, 4096, 'm')), 4096);
	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 's')), 0);
	PT_EQ(actor_do(h, act_many(ACT_MANY_PIN, prefix, WAITERS, 0)), 0);
	fd = open(pt_path(fs, "gone"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	PT_EQ(write(fd, "hello", 5), 5);
	PT_SYS(unlink(pt_path(fs, "gone")));
	actor_send(c, act_many(ACT_MANY_TRUNCATE, prefix, WAITERS, 0));
	CU_ASSERT(look_until(fs, WAITERS, WAITERS, NULL));
	if (stopped)
		actor_stop(h);
	PT_SYS(kill(fs->pid, sig));
	PT_EQ(actor_result(c, SOON_MS), -EIO);
	PT_EQ(pt_fs_wait(fs, SOON_MS), 0);
	CU_ASSERT_FALSE(pt_is_mounted(fs->mnt));
	PT_FAILS(pread(fd, &byte, 1, 0), ENOTCONN);
	(void)close(fd);
	if (stopped) {
		refused_because_of(actor_pid(h));
		PT_EQ(kill(actor_pid(h), SIGCONT), 0);
	}
	PT_EQ(load_until_bus(h), -EFAULT);
	PT_EQ(actor_do(h, act_many(ACT_MANY_UNPIN, "", 0, 0)), 0);
	mount_when_free(NULL);
	for (int i = 0; i < WAITERS; i++) {
		struct stat st;

		PT_SYS(stat(pt_path(fs, "many%d", i), &st));
		PT_EQ(st.st_size, 4096);
	}
	PT_EQ(actor_map_file(h, 1, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_load(1, F_LEN - 1)), 's');
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

static void sigterm(void) { terminated(SIGTERM, false); }
static void sigterm_stopped(void) { terminated(SIGTERM, true); }
static void sigint(void) { terminated(SIGINT, false); }

/* --- mounted again --- */

/* Descriptors in the tables of all threads: the library's have one of their own. */
static unsigned int descriptors(pid_t pid)
{
	char path[64];
	unsigned int n = 0;
	struct dirent *t;
	DIR *tasks, *fds;

	(void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	CU_ASSERT_PTR_NOT_NULL_FATAL(tasks);
	while ((t = readdir(tasks)) != NULL) {
		(void)snprintf(path, sizeof path, "/proc/%d/task/%.16s/fd", (int)pid, t->d_name);
		fds = t->d_name[0] != '.' ? opendir(path) : NULL;
		while (fds != NULL && readdir(fds) != NULL)
			n++;
		if (fds != NULL)
			(void)closedir(fds);
	}
	(void)closedir(tasks);
	return n;
}

/* No more than that. What the last daemon left is closed soon after its end. */
static bool descriptors_until(pid_t pid, unsigned int most)
{
	const uint64_t end = pt_now_ms() + SOON_MS;
	unsigned int n;

	while ((n = descriptors(pid)) > most && pt_now_ms() < end)
		pt_sleep_ms(5);
	if (n > most)
		pt_say("%u descriptors, %u once", n, most);
	return n <= most;
}

/* A client that lives through mounts, and a handle of a file, as an NFS server has them. */
static void remounts(void)
{
	const int rounds = getenv("PINFS_LONG") != NULL ? 300 : 12;
	union { struct file_handle h; char room[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } u;
	unsigned int fds = 0;
	bool kept = true;
	struct actor *h;
	int id, dir, fd;
	char byte;

	if (!begin(NULL))
		return;
	h = actor_new();
	u.h.handle_bytes = MAX_HANDLE_SZ;
	PT_SYS(name_to_handle_at(AT_FDCWD, f, &u.h, &id, 0));
	for (int i = 0; i < rounds; i++) {
		const char mark = (char)('A' + i % 26);

		PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
		PT_EQ(actor_do(h, act_store(0, (uint64_t)i % F_LEN, 1, mark)), 0);
		if (i == 0)
			fds = descriptors(actor_pid(h));
		kept = kept && descriptors_until(actor_pid(h), fds);
		PT_FAILS(umount2(fs->mnt, 0), EBUSY);			/* as with any mapping */
		if (i % 3 == 0) {
			/* Lazily: it serves on, until the mapping goes. */
			PT_SYS(umount2(fs->mnt, MNT_DETACH));
			PT_EQ(actor_do(h, act_load(0, (uint64_t)i % F_LEN)), mark);
			PT_EQ(actor_do(h, act_unmap(0)), 0);
			PT_EQ(pt_fs_wait(fs, SOON_MS), 0);
		} else {
			PT_EQ(actor_do(h, act_unmap(0)), 0);
			PT_EQ(pt_fs_umount(fs), 0);
		}
		PT_EQ(pt_fs_fsck(fs), 0);
		PT_EQ(pt_fs_mount(fs, NULL), 0);
		dir = open(fs->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		fd = open_by_handle_at(dir, &u.h, O_RDONLY | O_CLOEXEC);
		PT_SYS(fd);
		PT_EQ(pread(fd, &byte, 1, i % (int)F_LEN), 1);
		PT_EQ(byte, mark);
		(void)close(fd);
		(void)close(dir);
	}
	CU_ASSERT(kept);
	actor_end(h);
	pt_fs_end(fs);
}

/* --- two daemons --- */

#define RIVALS 3
#define IMAGES 4

/* All start at the same instant on one image: one has it, and the others name it. */
static void rivals(void)
{
	const int rounds = getenv("PINFS_LONG") != NULL ? 100 : 2;
	struct { pid_t pid; char mnt[PATH_MAX]; int said; bool won; } d[IMAGES][RIVALS];
	struct pt_fs *all[IMAGES];
	char out[1024], name[64];

	if (!pt_need_mount())
		return;
	for (int i = 0; i < IMAGES; i++) {
		all[i] = pt_fs_new("16M");
		CU_ASSERT_FATAL(all[i] != NULL);
		for (int k = 0; k < RIVALS; k++) {
			(void)snprintf(d[i][k].mnt, sizeof d[i][k].mnt, "%.*s/m%d", PATH_MAX - 16, all[i]->dir, k);
			PT_SYS(mkdir(d[i][k].mnt, 0755));
		}
	}
	for (int n = 0; n < rounds; n++) {
		for (int i = 0; i < IMAGES; i++)
			for (int k = 0; k < RIVALS; k++) {
				d[i][k].said = memfd_create("said", MFD_CLOEXEC);
				d[i][k].pid = pt_spawn((const char *[]){ pt_program("pinfs"), "-f", all[i]->img,
									 d[i][k].mnt, NULL }, -1, d[i][k].said);
			}
		for (int i = 0; i < IMAGES; i++) {
			const uint64_t end = pt_now_ms() + SOON_MS;
			int left = RIVALS, winner = -1;
			ssize_t len;

			for (int k = 0; k < RIVALS; k++)
				d[i][k].won = true;
			/* All but one end; the one that stays is the one that is mounted. */
			while (left > 1 && pt_now_ms() < end)
				for (int k = 0; k < RIVALS; k++)
					if (d[i][k].won && pt_wait(d[i][k].pid, 2) == 1) {
						d[i][k].won = false;
						left--;
					}
			PT_EQ(left, 1);
			for (int k = 0; k < RIVALS; k++)
				winner = d[i][k].won ? k : winner;
			CU_ASSERT_FATAL(winner >= 0);
			while (!pt_is_mounted(d[i][winner].mnt) && pt_now_ms() < end)
				pt_sleep_ms(2);
			(void)snprintf(name, sizeof name, "pid %d (pinfs)", (int)d[i][winner].pid);
			for (int k = 0; k < RIVALS; k++) {
				len = pread(d[i][k].said, out, sizeof out - 1, 0);
				out[len > 0 ? len : 0] = '\0';
				PT_EQ(pt_is_mounted(d[i][k].mnt), k == winner);
				if (k != winner && strstr(out, name) == NULL)
					pt_say("winner %d, another said: %s", (int)d[i][winner].pid, out);
				CU_ASSERT(k == winner || strstr(out, name) != NULL);
				(void)close(d[i][k].said);
			}
			while (umount2(d[i][winner].mnt, 0) != 0 && errno == EBUSY && pt_now_ms() < end)
				pt_sleep_ms(2);
			PT_EQ(pt_wait(d[i][winner].pid, SOON_MS), 0);
		}
	}
	for (int i = 0; i < IMAGES; i++)
		pt_fs_end(all[i]);
}

/* A check begins as the daemon does, again and again: one of them has the image, and whoever had it is whole. */
static void fsck_meanwhile(void)
{
	const int rounds = getenv("PINFS_LONG") != NULL ? 300 : 5;
	unsigned int served = 0, checked = 0;
	char out[1024];

	if (!begin(NULL))
		return;
	PT_EQ(pt_fs_umount(fs), 0);
	for (int i = 0; i < rounds; i++) {
		const int said = memfd_create("said", MFD_CLOEXEC);
		pid_t fsck = pt_spawn((const char *[]){ pt_program("fsck.pinfs"),
							i % 2 ? "-n" : "-p", fs->img, NULL }, said, said);
		const int mounted = pt_fs_mount(fs, NULL), rc = pt_wait(fsck, SOON_MS);
		ssize_t n = pread(said, out, sizeof out - 1, 0);

		out[n > 0 ? n : 0] = '\0';
		(void)close(said);
		/* Each waits a second for the other. */
		CU_ASSERT(mounted == 0 || rc == 0);
		if (mounted == 0) {
			CU_ASSERT(rc == 0 || strstr(out, "in use by pid ") != NULL);
			PT_EQ(pt_fs_umount(fs), 0);
		}
		served += mounted == 0;
		checked += rc == 0;
		PT_EQ(pt_fs_fsck(fs), 0);
	}
	pt_say("%u times mounted, %u times checked", served, checked);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	refused_because_of(fs->pid);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "killed", killed, 120 },
		{ "quarantine survives", quarantine_survives, 120 },
		{ "locks outlive the daemon", locks_kept, 120 },
		{ "twin: a client without locks", locks_dropped, 0 },
		{ "SIGTERM", sigterm, 0 },
		{ "SIGTERM and a stopped client", sigterm_stopped, 120 },
		{ "SIGINT", sigint, 0 },
		{ "remounts", remounts, 600 },
		{ "rivals", rivals, 600 },
		{ "fsck meanwhile", fsck_meanwhile, 600 },
	};
	static const struct pt_suite suite = { "daemon", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
