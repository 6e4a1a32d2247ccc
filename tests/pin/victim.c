/* SPDX-License-Identifier: BSD-3-Clause */
/* victim.c - fills the filesystem with one file, and looks at its bytes again (victim.h). */
#include "pin/victim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <CUnit/CUnit.h>

#define PIECE ((size_t)1 << 18)

uint64_t victim_make(const char *path)
{
	static uint8_t buf[PIECE];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	uint64_t len = 0;
	ssize_t n = 1;

	CU_ASSERT_FATAL(fd >= 0);
	memset(buf, 'v', sizeof buf);
	for (size_t piece = sizeof buf; piece >= 4096; piece = n > 0 ? piece : piece / 2) {
		n = write(fd, buf, piece);
		len += n > 0 ? (uint64_t)n : 0;
	}
	CU_ASSERT(n < 0 && errno == ENOSPC);
	(void)close(fd);
	return len;
}

bool victim_intact(const char *path, uint64_t len)
{
	static uint8_t got[PIECE], want[PIECE];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t at = 0;
	ssize_t n = -1;

	memset(want, 'v', sizeof want);
	while (fd >= 0 && (n = pread(fd, got, sizeof got, (off_t)at)) > 0 && memcmp(got, want, (size_t)n) == 0)
		at += (uint64_t)n;
	if (fd >= 0)
		(void)close(fd);
	return n == 0 && at == len;
}
