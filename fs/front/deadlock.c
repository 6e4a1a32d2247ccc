/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * deadlock.c - who waits for whom, from the waiting operations and from /proc, and whether that is a circle.
 *
 * Owns the verdicts of the last search, which are the timer's thread's. Takes no lock. What /proc says may be old when
 * it is read: so a process only counts as waiting for something that does not end by itself.
 *
 * An operation waits until all the pins in its way are gone; one holder that waits for the operation, directly or not,
 * is enough for a deadlock. A holder waits
 *
 *   - for an operation that it has called itself;
 *   - for one that keeps the kernel's inode lock, when it is in a system call that needs this lock: the kernel then
 *     holds it where not even SIGKILL reaches it, and sends us nothing.
 *
 * Both only if it has no other thread that could go on and end the pin; libpinfs.so's own (named pinfs-...) do not.
 */
#include "front/deadlock.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "base/log.h"

#define WAITING_MAX 4096U
#define HOLDERS_MAX 16U
#define PROCS_MAX 256U
#define OLD_NS UINT64_C(50000000)	/* one search is for all who ask within that time */

struct node {
	struct pf_waiting w;
	enum { NEW, OPEN, DONE } is;
	unsigned int up;		/* OPEN: the one that led here */
	unsigned int nholder, next;	/* next: of the holders to look at */
	pid_t holder[HOLDERS_MAX];
	pid_t stuck;			/* in a circle, and the youngest there: who waits for it */
};

struct proc {
	pid_t pid, sole;		/* 0: it can go on by itself */
	uint64_t wants;			/* inode whose lock it waits for in the kernel */
	const char *how;
};

struct search {
	struct pf_fs *fs;
	unsigned long mount_id;
	unsigned int n, nproc;
	struct proc proc[PROCS_MAX];
	struct node node[WAITING_MAX];
};

struct pf_deadlock {
	uint64_t when_ns;
	unsigned int n;
	struct verdict { uint64_t id; pid_t other; const char *how; } v[64];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

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

/* The only thread of a process that is not the library's; 0: there are several, or it is gone. */
static pid_t sole_thread(pid_t pid)
{
	char path[96], comm[32];
	struct dirent *de;
	pid_t sole = 0;
	DIR *d;

	(void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	d = opendir(path);
	if (d == NULL)
		return 0;
	while ((de = readdir(d)) != NULL) {
		const long tid = strtol(de->d_name, NULL, 10);

		if (tid <= 0)
			continue;
		(void)snprintf(path, sizeof path, "/proc/%d/task/%ld/comm", (int)pid, tid);
		if (!read_line(path, comm, sizeof comm) || strncmp(comm, "pinfs-", 6) == 0)
			continue;
		if (sole != 0) {
			sole = 0;
			break;
		}
		sole = (pid_t)tid;
	}
	(void)closedir(d);
	return sole;
}

/* System calls that take the inode lock of a file, and which of their arguments is its descriptor. */
static const struct { long nr; unsigned int arg; const char *name; } locking[] = {
	{ SYS_write, 0, "write" },	     { SYS_pwrite64, 0, "pwrite" },	{ SYS_writev, 0, "writev" },
	{ SYS_pwritev, 0, "pwritev" },	     { SYS_pwritev2, 0, "pwritev2" },	{ SYS_fsync, 0, "fsync" },
	{ SYS_fdatasync, 0, "fdatasync" },   { SYS_ftruncate, 0, "ftruncate" }, { SYS_fallocate, 0, "fallocate" },
	{ SYS_fchmod, 0, "fchmod" },	     { SYS_fchown, 0, "fchown" },	{ SYS_fsetxattr, 0, "fsetxattr" },
	{ SYS_sendfile, 0, "sendfile" },     { SYS_splice, 2, "splice" },	{ SYS_lseek, 0, "lseek" },
	{ SYS_copy_file_range, 2, "copy_file_range" },
};

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
static bool our_mount(const struct search *s, pid_t pid, unsigned long mnt)
{
	char ours[32], its[32], name[16];

	(void)snprintf(name, sizeof name, "%d", (int)pid);
	device_of("self", s->mount_id, ours);
	device_of(name, mnt, its);
	return ours[0] != '\0' && strcmp(ours, its) == 0;
}

/* The inode of ours whose lock the system call needs in which this thread is; 0: it is in none. */
static uint64_t wants_lock_of(const struct search *s, pid_t pid, pid_t tid, const char **how)
{
	unsigned long long arg[6], ino = 0;
	unsigned long mnt = 0;
	char path[96], line[256];
	size_t i;
	FILE *f;
	long nr;

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)pid, (int)tid);
	if (!read_line(path, line, sizeof line) ||
	    sscanf(line, "%ld %llx %llx %llx %llx %llx %llx", &nr, &arg[0], &arg[1], &arg[2], &arg[3], &arg[4],
		   &arg[5]) != 7)
		return 0;
	for (i = 0; i < PF_ARRAY_LEN(locking) && locking[i].nr != nr; i++)
		;
	if (i == PF_ARRAY_LEN(locking))
		return 0;
	if (nr == SYS_lseek && arg[2] != SEEK_HOLE && arg[2] != SEEK_DATA)
		return 0;
	*how = locking[i].name;
	(void)snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)pid, (int)arg[locking[i].arg]);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof line, f) != NULL) {
		(void)sscanf(line, "mnt_id: %lu", &mnt);
		(void)sscanf(line, "ino: %llu", &ino);
	}
	(void)fclose(f);
	return ino != 0 && our_mount(s, pid, mnt) ? ino : 0;
}

/* What a process waits for, asked once in a search. */
static struct proc *look_up(struct search *s, pid_t pid)
{
	struct proc *p;

	for (p = s->proc; p < s->proc + s->nproc; p++)
		if (p->pid == pid)
			return p;
	if (s->nproc == PROCS_MAX)
		return NULL;
	s->nproc++;
	*p = (struct proc){ .pid = pid, .sole = sole_thread(pid), .how = "an operation of its own" };
	if (p->sole != 0)
		p->wants = wants_lock_of(s, pid, p->sole, &p->how);
	return p;
}

static bool waits_in(const struct proc *p, const struct pf_waiting *w)
{
	return p->sole != 0 && (w->tid == p->sole || (p->wants != 0 && w->kernel_lock && w->ino == p->wants));
}

/* From @top back to @bottom is a circle: the youngest in it has to give way. */
static void circle(struct search *s, unsigned int top, unsigned int bottom)
{
	unsigned int young = top;

	for (unsigned int i = top;; i = s->node[i].up) {
		if (s->node[i].w.id > s->node[young].w.id)
			young = i;
		if (i == bottom)
			break;
	}
	s->node[young].stuck = s->node[young].holder[s->node[young].next - 1];
}

/* Depth first; what is DONE leads to no circle that was not found. */
static void walk(struct search *s, unsigned int from)
{
	unsigned int at = from;

	for (;;) {
		struct node *nd = &s->node[at];
		const struct proc *p;

		if (nd->is == NEW) {
			nd->is = OPEN;
			nd->nholder = pf_lay_waits_for(s->fs, nd->w.id, nd->holder, HOLDERS_MAX);
		}
		if (nd->next == nd->nholder) {
			nd->is = DONE;
			if (at == from)
				return;
			at = nd->up;
			continue;
		}
		p = look_up(s, nd->holder[nd->next++]);
		for (unsigned int i = 0; p != NULL && i < s->n; i++) {
			if (s->node[i].is == DONE || !waits_in(p, &s->node[i].w))
				continue;
			if (s->node[i].is == OPEN) {
				circle(s, at, i);
				continue;
			}
			s->node[i].up = at;
			at = i;
			break;
		}
	}
}

static void search(const struct pf_front *f, struct pf_deadlock *d)
{
	struct search *s = calloc(1, sizeof *s);
	struct pf_waiting *w = malloc(WAITING_MAX * sizeof *w);

	d->n = 0;
	if (s != NULL && w != NULL) {
		s->fs = f->fs;
		s->mount_id = f->mount_id;
		s->n = pf_lay_waiting(f->fs, w, WAITING_MAX);
		for (unsigned int i = 0; i < s->n; i++)
			s->node[i].w = w[i];
		for (unsigned int i = 0; i < s->n; i++)
			if (s->node[i].is == NEW)
				walk(s, i);
		for (unsigned int i = 0; i < s->n && d->n < PF_ARRAY_LEN(d->v); i++)
			if (s->node[i].stuck != 0)
				d->v[d->n++] = (struct verdict){ s->node[i].w.id, s->node[i].stuck,
								 look_up(s, s->node[i].stuck)->how };
	}
	free(s);
	free(w);
	d->when_ns = now_ns();
}

static int say(const struct pf_areq *a, pid_t other, const char *how)
{
	char path[64], mine[32] = "", its[32] = "";

	(void)snprintf(path, sizeof path, "/proc/%d/comm", (int)a->brk.tid);
	(void)read_line(path, mine, sizeof mine);
	(void)snprintf(path, sizeof path, "/proc/%d/comm", (int)other);
	(void)read_line(path, its, sizeof its);
	pf_warn("deadlock: %s of inode %llu by pid %d (%s) waits for pins of pid %d (%s), which waits for it in %s",
		a->brk.what, (unsigned long long)a->ino, (int)a->brk.tid, mine, (int)other, its, how);
	return -EDEADLK;
}

int pf_deadlock_with_itself(const struct pf_front *f, const struct pf_areq *a)
{
	pid_t holder[HOLDERS_MAX];
	unsigned int n = pf_lay_waits_for(f->fs, a->brk.id, holder, HOLDERS_MAX);

	for (unsigned int i = 0; i < n; i++)
		if (sole_thread(holder[i]) == a->brk.tid)
			return say(a, holder[i], "this very call");
	return 0;
}

int pf_deadlock_check(const struct pf_front *f, const struct pf_areq *a)
{
	struct pf_deadlock *d = f->deadlock;

	if (now_ns() - d->when_ns > OLD_NS)
		search(f, d);
	for (unsigned int i = 0; i < d->n; i++)
		if (d->v[i].id == a->brk.id)
			return say(a, d->v[i].other, d->v[i].how);
	return 0;
}

struct pf_deadlock *pf_deadlock_new(void)
{
	return calloc(1, sizeof(struct pf_deadlock));
}

void pf_deadlock_free(struct pf_deadlock *d)
{
	free(d);
}
