/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks.h - what the interposed calls on memory (hooks_*.c) have in common. Private to them. */
#ifndef SH_HOOKS_H
#define SH_HOOKS_H

#include "sh.h"

/* Is this call for us to look at? A vfork() child runs in our memory with somebody else's descriptors: it gets the real
 * calls and no service. */
bool sh_hook_ours(void);
bool sh_hook_any(void);				/* ... and are there windows? */
int sh_hook_fail(int err);			/* errno and -1 */
/* [addr, addr + len) rounded up to pages, as the kernel does; false when it wraps. */
bool sh_hook_span(const void *addr, size_t len, uint64_t *lo, uint64_t *hi);
/* Lock held. */
int sh_hook_unmap(uint64_t lo, uint64_t hi, struct sh_file **drop);
/* Is the file, or the device under it, on a mount without execution? Crew. */
bool sh_hook_noexec(const struct sh_file *f);
/* mlock() of memory that is all windows, or in part. -errno. */
int sh_hook_lock(uint64_t lo, uint64_t hi, unsigned int mlock2_flags);
/* Memory with the 2 MiB colour of the file offset, so that a contiguous chunk can be one huge page. Crew. */
int sh_reserve(uint64_t addr, uint64_t len, int prot, int flags, uint64_t foff, void **out);

#endif
