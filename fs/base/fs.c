/* SPDX-License-Identifier: BSD-3-Clause */
/* fs.c - names of option values; the options that may change while mounted. */
#include "base/fs.h"

#include "base/lock.h"

/* LEAF. One for all mounts: a process has one, and tests a few. */
static struct pf_mutex policy_lock = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = PF_RANK_LEAF };

void pf_fs_policy(struct pf_fs *fs, struct pf_policy *out)
{
	pf_mutex_lock(&policy_lock);
	*out = fs->opts.policy;
	pf_mutex_unlock(&policy_lock);
}

void pf_fs_policy_set(struct pf_fs *fs, const struct pf_policy *p)
{
	pf_mutex_lock(&policy_lock);
	fs->opts.policy = *p;
	pf_mutex_unlock(&policy_lock);
}

const char *const pf_errors_name[PF_ERRORS_NR] = {
	[PF_ERRORS_CONTINUE] = "continue",
	[PF_ERRORS_REMOUNT_RO] = "remount-ro",
	[PF_ERRORS_SHUTDOWN] = "shutdown",
};
const char *const pf_pmem_name[PF_PMEM_NR] = {
	[PF_PMEM_AUTO] = "auto",
	[PF_PMEM_CPU] = "cpu",
	[PF_PMEM_MSYNC] = "msync",
};
const char *const pf_dax_name[PF_DAX_NR] = {
	[PF_DAX_ALWAYS] = "always",
	[PF_DAX_NEVER] = "never",
	[PF_DAX_INODE] = "inode",
};
