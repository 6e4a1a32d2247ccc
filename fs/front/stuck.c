/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stuck.c - what the threads of a process are doing, from /proc: for the search for deadlocks.
 *
 * A thread in a system call that needs the inode lock which a waiting truncate keeps in the kernel sleeps where not
 * even SIGKILL reaches it, and sends us nothing: the call's number and arguments are all that there is to see. A file
 * is found by its descriptor, or by its path, which is read from the process's memory and looked up in the core: a
 * daemon that looks at its own mount would wait for itself.
 *
 * Owns nothing, takes no lock. What cannot be found out counts as a thread that can go on.
 */
#include "front/stuck.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "op/op.h"

#define PATH_ROOM 4096U
#define LINKS_MAX 8U

typedef unsigned long long ull;

static bool read_line(const char *path, char *line, size_t len)
{
	FILE *f = fopen(path, "re");
	bool got;

	if (f == NULL)
		return false;
	got = fgets(line, (int)len, f) != NULL;
	(void)fclose(f);
	line[got ? strcspn(line, "\n") : 0] = '\0';
	return got;
}

/* System calls that take the inode lock of a file: which of their arguments is its descriptor; or its path, with the
 * directory's descriptor before that. */
static const struct call {
	long nr;
	const char *name;
	unsigned int arg;
	enum { FD, PATH, AT } by;
	bool last;		/* a symbolic link at the end is the file itself */
} calls[] = {
	{ SYS_write, "write", 0, FD, false },
	{ SYS_pwrite64, "pwrite", 0, FD, false },
	{ SYS_writev, "writev", 0, FD, false },
	{ SYS_pwritev, "pwritev", 0, FD, false },
	{ SYS_pwritev2, "pwritev2", 0, FD, false },
	{ SYS_fsync, "fsync", 0, FD, false },
	{ SYS_fdatasync, "fdatasync", 0, FD, false },
	{ SYS_ftruncate, "ftruncate", 0, FD, false },
	{ SYS_fallocate, "fallocate", 0, FD, false },
	{ SYS_fchmod, "fchmod", 0, FD, false },
	{ SYS_fchown, "fchown", 0, FD, false },
	{ SYS_fsetxattr, "fsetxattr", 0, FD, false },
	{ SYS_fremovexattr, "fremovexattr", 0, FD, false },
	{ SYS_sendfile, "sendfile", 0, FD, false },
	{ SYS_splice, "splice", 2, FD, false },
	{ SYS_lseek, "lseek", 0, FD, false },
	{ SYS_copy_file_range, "copy_file_range", 2, FD, false },
	{ SYS_truncate, "truncate", 0, PATH, false },
	{ SYS_setxattr, "setxattr", 0, PATH, false },
	{ SYS_lsetxattr, "lsetxattr", 0, PATH, true },
	{ SYS_removexattr, "removexattr", 0, PATH, false },
	{ SYS_lremovexattr, "lremovexattr", 0, PATH, true },
	{ SYS_fchmodat, "fchmodat", 0, AT, false },
	{ SYS_fchownat, "fchownat", 0, AT, false },
	{ SYS_utimensat, "utimensat", 0, AT, false },
	{ SYS_unlinkat, "unlinkat", 0, AT, true },
	{ SYS_linkat, "linkat", 0, AT, true },
	{ SYS_renameat2, "renameat2", 2, AT, true },
#ifdef SYS_chmod
	{ SYS_chmod, "chmod", 0, PATH, false },
	{ SYS_chown, "chown", 0, PATH, false },
	{ SYS_lchown, "lchown", 0, PATH, true },
	{ SYS_unlink, "unlink", 0, PATH, true },
	{ SYS_link, "link", 0, PATH, true },
	{ SYS_rename, "rename", 1, PATH, true },
#endif
};

/* Mounts */

/* "major:minor" of a mount that this process sees; empty: there is none of this number. */
static void device_of(const char *pid, unsigned long mnt, char dev[32])
{
	char path[64], *line = NULL;
	unsigned long id = 0;
	size_t room = 0;
	FILE *f;

	dev[0] = '\0';
	(void)snprintf(path, sizeof path, "/proc/%s/mountinfo", pid);
	f = fopen(path, "re");
	if (f == NULL)
		return;
	while (id != mnt && getline(&line, &room, f) > 0)
		if (sscanf(line, "%lu %*u %31s", &id, dev) != 2 || id != mnt)
			dev[0] = '\0';
	free(line);
	(void)fclose(f);
}

/* Is this number, of a process's mount namespace, our mount? */
static bool our_mount(const struct pf_front *f, pid_t pid, unsigned long mnt)
{
	char ours[32], its[32], name[16];

	(void)snprintf(name, sizeof name, "%d", (int)pid);
	device_of("self", f->mount_id, ours);
	device_of(name, mnt, its);
	return ours[0] != '\0' && strcmp(ours, its) == 0;
}

/* "\040" and the like, in place. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s != '\0'; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*out++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

/* How much of @path is a mount point, if it is one of ours; *inside: where in the filesystem that leads. */
static size_t mount_of(const struct pf_front *f, pid_t pid, const char *path, char *inside, size_t room)
{
	char name[64], ours[32], dev[32], root[PATH_ROOM], point[PATH_ROOM], *line = NULL;
	size_t size = 0, n, best = 0;
	bool mine = false;
	FILE *mi;

	device_of("self", f->mount_id, ours);
	(void)snprintf(name, sizeof name, "/proc/%d/mountinfo", (int)pid);
	mi = fopen(name, "re");
	if (mi == NULL)
		return 0;
	while (getline(&line, &size, mi) > 0) {
		if (sscanf(line, "%*u %*u %31s %4095s %4095s", dev, root, point) != 3)
			continue;
		unescape(point);
		unescape(root);
		n = strlen(point);
		n -= n == 1;			/* "/" */
		/* The last one that is as long hides those before. */
		if (n < best || strncmp(path, point, n) != 0 || (path[n] != '/' && path[n] != '\0'))
			continue;
		best = n;
		mine = ours[0] != '\0' && strcmp(dev, ours) == 0;
		if (mine)
			(void)snprintf(inside, room, "%s", strcmp(root, "/") != 0 ? root : "");
	}
	free(line);
	(void)fclose(mi);
	return mine ? best : 0;
}

/* Paths */

/* A string of another process. */
static bool read_string(pid_t pid, ull addr, char *out, size_t room)
{
	size_t have = 0;

	while (have < room) {
		size_t n = 4096 - (size_t)((addr + have) % 4096);
		struct iovec to = { out + have, n < room - have ? n : room - have };
		struct iovec from = { (void *)(uintptr_t)(addr + have), to.iov_len };
		ssize_t got = process_vm_readv(pid, &to, 1, &from, 1, 0);

		if (got <= 0)
			return false;
		if (memchr(out + have, '\0', (size_t)got) != NULL)
			return true;
		have += (size_t)got;
	}
	return false;
}

/* Where a relative path of the process begins. */
static bool base_of(pid_t pid, int dirfd, char *out, size_t room)
{
	char name[64];
	ssize_t n;

	if (dirfd == AT_FDCWD)
		(void)snprintf(name, sizeof name, "/proc/%d/cwd", (int)pid);
	else
		(void)snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)pid, dirfd);
	n = readlink(name, out, room - 1);
	out[n > 0 ? n : 0] = '\0';
	return n > 0 && out[0] == '/';
}

/* "/a//b/./c/../d" is "/a/b/d"; in place. */
static void tidy(char *path)
{
	char *out = path, *next;

	for (char *in = path; in != NULL; in = next) {
		next = strchr(in, '/');
		if (next != NULL)
			*next++ = '\0';
		if (strcmp(in, "..") == 0) {
			while (out > path && *--out != '/')
				;
		} else if (in[0] != '\0' && strcmp(in, ".") != 0) {
			const size_t n = strlen(in);

			*out++ = '/';
			memmove(out, in, n + (next == NULL));
			out += n;
		}
	}
	*out = '\0';
}

/* One walk along @path in our filesystem. The inode, or 0; a symbolic link on the way: *path is what it leads to. */
static uint64_t walk(const struct pf_front *f, char *path, size_t mount, const char *inside, bool last, bool *again)
{
	char all[PATH_ROOM], target[PATH_ROOM], old[PATH_ROOM];
	struct pf_entry e = { .ino = PF_INO_ROOT };
	uint64_t ino = PF_INO_ROOT;
	char *name, *save = NULL;
	const char *done;

	*again = false;
	(void)snprintf(old, sizeof old, "%s", path);
	if (snprintf(all, sizeof all, "%s%s", inside, path + mount) >= (int)sizeof all)
		return 0;
	for (name = strtok_r(all, "/", &save); name != NULL; name = strtok_r(NULL, "/", &save)) {
		if (pf_op_lookup(f->fs, ino, name, &e) != 0)
			return 0;
		pf_op_forget(f->fs, e.ino, 1);
		if (S_ISLNK(e.st.st_mode) && !(last && *save == '\0')) {
			if (pf_op_readlink(f->fs, e.ino, target, sizeof target) != 0)
				return 0;
			/* What is before the link's name, as the process says it, then its target, then the rest. */
			done = old + (name - all) + mount - strlen(inside);
			if (target[0] == '/')
				done = old;
			*again = snprintf(path, PATH_ROOM, "%.*s%s/%s", (int)(done - old), old, target, save) <
				 (int)PATH_ROOM;
			return 0;
		}
		ino = e.ino;
	}
	return ino;
}

static uint64_t ino_of_path(const struct pf_front *f, pid_t pid, int dirfd, ull addr, bool last)
{
	char name[PATH_ROOM], path[PATH_ROOM], inside[PATH_ROOM];
	bool again = true;
	uint64_t ino = 0;

	if (!read_string(pid, addr, name, sizeof name))
		return 0;
	path[0] = '\0';
	if (name[0] != '/' && !base_of(pid, dirfd, path, sizeof path))
		return 0;
	if (strlen(path) + 1 + strlen(name) >= sizeof path)
		return 0;
	(void)strcat(strcat(path, "/"), name);
	for (unsigned int i = 0; again && i < LINKS_MAX; i++) {
		size_t mount;

		tidy(path);
		mount = mount_of(f, pid, path, inside, sizeof inside);
		if (mount == 0)
			return 0;
		ino = walk(f, path, mount, inside, last, &again);
	}
	return again ? 0 : ino;
}

/* Threads */

static uint64_t ino_of_fd(const struct pf_front *f, pid_t pid, int fd)
{
	char path[96], line[256];
	unsigned long mnt = 0;
	ull ino = 0;
	FILE *info;

	(void)snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)pid, fd);
	info = fopen(path, "re");
	if (info == NULL)
		return 0;
	while (fgets(line, sizeof line, info) != NULL) {
		(void)sscanf(line, "mnt_id: %lu", &mnt);
		(void)sscanf(line, "ino: %llu", &ino);
	}
	(void)fclose(info);
	return ino != 0 && our_mount(f, pid, mnt) ? ino : 0;
}

/* A futex that only this process wakes, and no clock: a mutex or condition of its own, or the end of a thread. */
static bool inner_wait(pid_t pid, long nr, const ull arg[6])
{
	const int op = (int)arg[1] & FUTEX_CMD_MASK;
	char path[64];

	if (nr != SYS_futex || arg[3] != 0 || (op != FUTEX_WAIT && op != FUTEX_WAIT_BITSET && op != FUTEX_LOCK_PI))
		return false;
	if (arg[1] & FUTEX_PRIVATE_FLAG)
		return true;
	(void)snprintf(path, sizeof path, "/proc/%d/task/%d", (int)pid, (int)arg[2]);
	return op != FUTEX_LOCK_PI && (int)arg[2] > 0 && access(path, F_OK) == 0;	/* pthread_join(3) */
}

static void look(const struct pf_front *f, pid_t pid, struct pf_thread *t)
{
	char path[96], line[256];
	const struct call *c;
	ull arg[6];
	long nr;

	t->is = PF_THREAD_OTHER;
	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)pid, (int)t->tid);
	if (!read_line(path, line, sizeof line) ||
	    sscanf(line, "%ld %llx %llx %llx %llx %llx %llx", &nr, &arg[0], &arg[1], &arg[2], &arg[3], &arg[4],
		   &arg[5]) != 7)
		return;
	if (inner_wait(pid, nr, arg)) {
		t->is = PF_THREAD_INNER;
		return;
	}
	for (c = calls; c < calls + PF_ARRAY_LEN(calls) && c->nr != nr; c++)
		;
	/* To the end, too: FUSE asks for the size under the lock. */
	if (c == calls + PF_ARRAY_LEN(calls) || (nr == SYS_lseek && (arg[2] == SEEK_SET || arg[2] == SEEK_CUR)))
		return;
	if (c->by == FD)
		t->ino = ino_of_fd(f, pid, (int)arg[c->arg]);
	else if (c->by == PATH)
		t->ino = ino_of_path(f, pid, AT_FDCWD, arg[c->arg], c->last);
	else
		t->ino = ino_of_path(f, pid, (int)arg[c->arg], arg[c->arg + 1], c->last);
	t->how = c->name;
	if (t->ino != 0)
		t->is = PF_THREAD_LOCK;
}

/* One of libpinfs.so's. By its whole name: a program may have one that begins so, and be stuck. */
static bool of_library(pid_t pid, pid_t tid)
{
	static const char *const names[] = { "pinfs-serve", "pinfs-watch", "pinfs-crew" };
	char path[96], comm[32];

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/comm", (int)pid, (int)tid);
	if (tid == pid || !read_line(path, comm, sizeof comm))
		return false;
	for (size_t i = 0; i < PF_ARRAY_LEN(names); i++)
		if (strcmp(comm, names[i]) == 0)
			return true;
	return false;
}

unsigned int pf_stuck_threads(const struct pf_front *f, pid_t pid, struct pf_thread out[PF_STUCK_MAX])
{
	struct dirent *de;
	char path[96];
	unsigned int n = 0;
	DIR *d;

	(void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	d = opendir(path);
	if (d == NULL)
		return 0;
	while ((de = readdir(d)) != NULL) {
		const long tid = strtol(de->d_name, NULL, 10);

		if (tid <= 0 || of_library(pid, (pid_t)tid))
			continue;
		if (n == PF_STUCK_MAX) {
			n = 0;
			break;
		}
		out[n] = (struct pf_thread){ .tid = (pid_t)tid };
		look(f, pid, &out[n++]);
	}
	(void)closedir(d);
	return n;
}
