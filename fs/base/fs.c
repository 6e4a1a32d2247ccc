/* SPDX-License-Identifier: BSD-3-Clause */
/* fs.c - names of option values. */
#include "base/fs.h"

const char *const pf_busy_name[PF_BUSY_NR] = {
	[PF_BUSY_WAIT] = "wait",
	[PF_BUSY_EBUSY] = "ebusy",
	[PF_BUSY_DEFER] = "defer",
	[PF_BUSY_UNSAFE] = "unsafe",
};
const char *const pf_scope_name[PF_SCOPE_NR] = {
	[PF_SCOPE_RANGE] = "range",
	[PF_SCOPE_FILE] = "file",
};
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
