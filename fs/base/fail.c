/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fail.c - the state of a mount, and the record of why it is in it.
 *
 * Owns both. Takes a LEAF mutex for the record; the state is one atomic word, so that a signal handler may set it.
 */
#include "base/fail.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "base/lock.h"
#include "base/log.h"

const char *const pf_state_name[PF_STATE_NR] = {
	[PF_STATE_OK] = "ok",
	[PF_STATE_ERRORS] = "errors",
	[PF_STATE_RDONLY] = "read-only",
	[PF_STATE_DOWN] = "shutdown",
};

struct pf_fail {
	struct pf_mutex lock;		/* LEAF: below */
	struct pf_fail_info info;
	enum pf_state told;		/* the last state that the log knows of */
	int fd;
};

int pf_fail_init(struct pf_fs *fs)
{
	struct pf_fail *f = calloc(1, sizeof *f);

	if (f == NULL)
		return -ENOMEM;
	f->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->fd < 0) {
		int err = -errno;

		free(f);
		return err;
	}
	pf_mutex_init(&f->lock, PF_RANK_LEAF);
	fs->fail = f;
	return 0;
}

void pf_fail_fini(struct pf_fs *fs)
{
	struct pf_fail *f = fs->fail;

	if (f == NULL)
		return;
	(void)close(f->fd);
	pf_mutex_fini(&f->lock);
	free(f);
	fs->fail = NULL;
}

static enum pf_state state_for(const struct pf_fs *fs, enum pf_fault fault)
{
	if (fault == PF_FAULT_GONE)
		return PF_STATE_DOWN;
	switch (fs->opts.errors) {
	case PF_ERRORS_SHUTDOWN:
		return PF_STATE_DOWN;
	case PF_ERRORS_REMOUNT_RO:
		return PF_STATE_RDONLY;
	case PF_ERRORS_CONTINUE:
	case PF_ERRORS_NR:
		break;
	}
	return fault == PF_FAULT_MEDIUM ? PF_STATE_RDONLY : PF_STATE_ERRORS;
}

static const char *consequence(const struct pf_fs *fs, enum pf_state s)
{
	if (s == PF_STATE_DOWN)
		return "every call fails from now on; unmount, run fsck.pinfs";
	if (s == PF_STATE_RDONLY && !fs->opts.ro)
		return "read-only from now on; unmount, run fsck.pinfs";
	return "run fsck.pinfs";
}

void pf_fs_fail(struct pf_fs *fs, enum pf_fault fault, const char *fmt, ...)
{
	struct pf_fail *f = fs->fail;
	enum pf_state want = state_for(fs, fault);
	const uint64_t one = 1;
	char why[256];
	bool tell;
	va_list ap;
	int was;

	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	if (f == NULL) {		/* a mount that is still coming up, or a tool */
		pf_err("%s", why);
		return;
	}
	was = atomic_load(&fs->state);
	while (was < (int)want && !atomic_compare_exchange_weak(&fs->state, &was, (int)want))
		;
	pf_mutex_lock(&f->lock);
	if (f->info.count++ == 0) {
		f->info.time = (uint64_t)time(NULL);
		memcpy(f->info.why, why, sizeof why);
	}
	tell = want > f->told;
	if (tell)
		f->told = want;
	pf_mutex_unlock(&f->lock);
	if (tell)
		pf_err("%s: %s", why, consequence(fs, want));
	else
		pf_err("%s", why);
	if (tell)
		(void)!write(f->fd, &one, sizeof one);
}

int pf_fail_fd(const struct pf_fs *fs)
{
	return fs->fail != NULL ? fs->fail->fd : -1;
}

void pf_fail_info(const struct pf_fs *fs, struct pf_fail_info *out)
{
	struct pf_fail *f = fs->fail;

	*out = (struct pf_fail_info){ 0 };
	if (f == NULL)
		return;
	pf_mutex_lock(&f->lock);
	*out = f->info;
	pf_mutex_unlock(&f->lock);
}
