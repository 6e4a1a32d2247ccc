/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * profile.c - what each system answers where pinfs by itself answers something else. The table is pinfs(8)'s.
 *
 * "linux" is a filesystem with DAX on a kernel of that version; where ext4 and XFS differ it is ext4. Code looks at
 * the answers, never at the profile's name.
 */
#include "base/profile.h"

#include <linux/stat.h>

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif
#define FLAGS (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP)

const char *const pf_profile_name[PF_PROFILE_NR] = {
	[PF_PROFILE_PINFS] = "pinfs",
	[PF_PROFILE_LINUX_4_15] = "linux-4.15",
	[PF_PROFILE_LINUX_4_19] = "linux-4.19",
	[PF_PROFILE_LINUX_6_12] = "linux-6.12",
	[PF_PROFILE_VIRTIOFS] = "virtiofs",
	[PF_PROFILE_DEVDAX] = "devdax",
};

static const struct {
	enum pf_busy on_busy;
	enum pf_scope break_scope;
	enum pf_longterm longterm;
	bool as_linux;			/* fair=no, deadlock=wait: the kernel knows neither waiters nor holders */
	uint32_t answers;
	uint64_t statx_hide;
} profile[PF_PROFILE_NR] = {
	[PF_PROFILE_PINFS] = { PF_BUSY_WAIT, PF_SCOPE_RANGE, PF_LONG_REFUSE, false, 0, 0 },
	/* Before 4.17 nothing waited; 5.8 brought the bit of statx(2). RDMA and V4L2 have refused since 4.15, VFIO
	 * since 4.16, AF_XDP since 5.1. */
	[PF_PROFILE_LINUX_4_15] = { PF_BUSY_UNSAFE, PF_SCOPE_FILE, PF_LONG_REFUSE, true,
				    PF_ANSWER_NO_UNSHARE | PF_ANSWER_VFIO_SLIPS | PF_ANSWER_XDP_SLIPS, STATX_ATTR_DAX },
	[PF_PROFILE_LINUX_4_19] = { PF_BUSY_WAIT, PF_SCOPE_FILE, PF_LONG_REFUSE, true,
				    PF_ANSWER_NO_UNSHARE | PF_ANSWER_XDP_SLIPS, STATX_ATTR_DAX },
	[PF_PROFILE_LINUX_6_12] = { PF_BUSY_WAIT, PF_SCOPE_FILE, PF_LONG_REFUSE, true, PF_ANSWER_NO_UNSHARE, 0 },
	[PF_PROFILE_VIRTIOFS] = { PF_BUSY_WAIT, PF_SCOPE_FILE, PF_LONG_REFUSE, true,
				  PF_ANSWER_NO_SYNC | PF_ANSWER_NO_UNSHARE | PF_ANSWER_NO_SHIFT | PF_ANSWER_GROW_BREAKS,
				  FLAGS },
	[PF_PROFILE_DEVDAX] = { PF_BUSY_WAIT, PF_SCOPE_FILE, PF_LONG_ALLOW, true,
				PF_ANSWER_DEVICE | PF_ANSWER_NO_UNSHARE | PF_ANSWER_NO_SHIFT, FLAGS },
};

void pf_profile_apply(struct pf_opts *opts, unsigned int given)
{
	if (!(given & 1U << PF_POLICY_ON_BUSY))
		opts->policy.on_busy = profile[opts->profile].on_busy;
	if (!(given & 1U << PF_POLICY_BREAK))
		opts->policy.scope = profile[opts->profile].break_scope;
	if (!(given & 1U << PF_POLICY_LONGTERM))
		opts->policy.longterm = profile[opts->profile].longterm;
	if (!(given & 1U << PF_POLICY_FAIR))
		opts->policy.unfair = profile[opts->profile].as_linux;
	if (!(given & 1U << PF_POLICY_DEADLOCK))
		opts->policy.deadlock_waits = profile[opts->profile].as_linux;
	opts->answers = profile[opts->profile].answers;
	opts->statx_hide = profile[opts->profile].statx_hide;
}
