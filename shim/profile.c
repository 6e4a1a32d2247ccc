/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * profile.c - answers to mmap() that the mount's profile changes, and that the daemon never sees asked.
 *
 * Takes no lock: what HELLO said of the session stays.
 */
#include "sh.h"

#include <errno.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

int sh_profile_map(const struct sh_session *s, int flags, uint64_t addr, uint64_t len, uint64_t off)
{
	const bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;

	/*
	 * MAP_SYNC promises that flushing CPU caches is enough; it is not where the daemon has to msync the device. A
	 * plain MAP_SHARED has always ignored flags that it does not know.
	 */
	if ((s->no_sync || s->msync) && (flags & MAP_TYPE) == MAP_SHARED_VALIDATE && (flags & MAP_SYNC))
		return -EOPNOTSUPP;
	if (!s->device)
		return 0;
	if ((flags & MAP_TYPE) == MAP_PRIVATE)
		return -EINVAL;
	return ((fixed ? addr : 0) | len | off) % PF_CHUNK_SIZE != 0 ? -EINVAL : 0;
}
