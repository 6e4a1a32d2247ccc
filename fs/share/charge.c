/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * charge.c - accounts of long-term pins, one for each user with a session. Takes the list's lock (LEAF), never while it
 * reads /proc.
 */
#include "share/charge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "share/lay.h"

#define CAP_IPC_LOCK 14

int pf_charge_begin(struct pf_sess *s)
{
	struct pf_user *fresh = calloc(1, sizeof *fresh), *u;

	if (!fresh)
		return -ENOMEM;
	pf_mutex_lock(&s->fs->lay->users_lock);
	for (u = s->fs->lay->users; u && u->uid != s->uid; u = u->next)
		;
	if (!u) {
		u = fresh;
		fresh = NULL;
		u->uid = s->uid;
		u->next = s->fs->lay->users;
		s->fs->lay->users = u;
	}
	u->refs++;
	s->user = u;
	pf_mutex_unlock(&s->fs->lay->users_lock);
	free(fresh);
	return 0;
}

void pf_charge_end(struct pf_sess *s)
{
	struct pf_user **at, *u = s->user;

	pf_uncharge(s, UINT64_MAX);
	pf_mutex_lock(&s->fs->lay->users_lock);
	if (--u->refs == 0) {
		for (at = &s->fs->lay->users; *at != u; at = &(*at)->next)
			;
		*at = u->next;
	} else {
		u = NULL;
	}
	s->user = NULL;
	pf_mutex_unlock(&s->fs->lay->users_lock);
	free(u);
}

static FILE *proc_file(pid_t pid, const char *name)
{
	char path[64];

	(void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	return fopen(path, "re");
}

/* Bytes; what cannot be found out is 0. prlimit(2) is for equals and the privileged, the file for everybody. */
static uint64_t memlock_of(pid_t pid)
{
	static const char title[] = "Max locked memory";
	struct rlimit lim;
	uint64_t bytes = 0;
	char line[256];
	FILE *f;

	if (prlimit(pid, RLIMIT_MEMLOCK, NULL, &lim) == 0)
		return lim.rlim_cur == RLIM_INFINITY ? UINT64_MAX : lim.rlim_cur;
	f = proc_file(pid, "limits");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, title, sizeof title - 1) == 0) {
			const char *at = line + sizeof title - 1;

			at += strspn(at, " ");
			bytes = *at == 'u' ? UINT64_MAX : strtoull(at, NULL, 10);
		}
	if (f)
		(void)fclose(f);
	return bytes;
}

/* CAP_IPC_LOCK, and not only in a user namespace of its own. */
static bool may_lock_all(pid_t pid)
{
	unsigned long long caps = 0;
	struct stat own, its;
	char line[256];
	char path[64];
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
	if (stat(path, &its) != 0 || stat("/proc/self/ns/user", &own) != 0 || its.st_ino != own.st_ino ||
	    its.st_dev != own.st_dev)
		return false;
	f = proc_file(pid, "status");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "CapEff:", 7) == 0)
			caps = strtoull(line + 7, NULL, 16);
	if (f)
		(void)fclose(f);
	return caps >> CAP_IPC_LOCK & 1;
}

/* False: it would be more than @limit bytes. */
static bool add(struct pf_sess *s, uint64_t npage, uint64_t limit)
{
	struct pf_lay *l = s->fs->lay;
	bool fits;

	pf_mutex_lock(&l->users_lock);
	fits = s->user->pages <= limit / PF_BLK_SIZE && npage <= limit / PF_BLK_SIZE - s->user->pages;
	if (fits) {
		s->user->pages += npage;
		s->charged += npage;
	}
	pf_mutex_unlock(&l->users_lock);
	return fits;
}

int pf_charge(struct pf_sess *s, enum pf_pin_api api, uint64_t npage)
{
	uint64_t most = s->fs->opts.longterm_limit != 0 ? s->fs->opts.longterm_limit : UINT64_MAX;
	uint64_t limit = memlock_of(s->pid);

	bool above;

	if (add(s, npage, pf_min64(limit, most)))
		return 0;
	above = limit < most && may_lock_all(s->pid);
	if (above && add(s, npage, most))
		return 0;
	return limit == 0 && !above && api == PF_API_VERBS ? -EPERM : -ENOMEM;
}

void pf_uncharge(struct pf_sess *s, uint64_t npage)
{
	struct pf_lay *l = s->fs->lay;

	pf_mutex_lock(&l->users_lock);
	npage = pf_min64(npage, s->charged);
	s->charged -= npage;
	s->user->pages -= npage;
	pf_mutex_unlock(&l->users_lock);
}

uint64_t pf_charged(struct pf_sess *s)
{
	uint64_t n;

	pf_mutex_lock(&s->fs->lay->users_lock);
	n = s->charged;
	pf_mutex_unlock(&s->fs->lay->users_lock);
	return n;
}

unsigned int pf_charge_list(struct pf_fs *fs, struct pf_charged *out, unsigned int max, uint64_t *total)
{
	unsigned int n = 0;

	*total = 0;
	pf_mutex_lock(&fs->lay->users_lock);
	for (const struct pf_user *u = fs->lay->users; u; u = u->next) {
		*total += u->pages;
		if (n < max)
			out[n++] = (struct pf_charged){ u->uid, u->pages };
	}
	pf_mutex_unlock(&fs->lay->users_lock);
	return n;
}
