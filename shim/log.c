/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.c - one line per message, from any thread and any state. Owns no descriptor: a program may close every
 * one it finds, and the crew's threads do not see the program's, so the destination is opened for each message.
 */
#include "sh.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
	enum sh_level most;
	char path[256];			/* empty: the program's stderr */
} sink = { .most = SH_WARN };

/* PINFS_LOG=err|warn|info|debug, or a path, which takes everything. Before any other thread. */
void sh_log_init(void)
{
	static const char *const name[] = { [SH_ERR] = "err", [SH_WARN] = "warn", [SH_INFO] = "info",
					    [SH_DEBUG] = "debug" };
	const char *v = secure_getenv("PINFS_LOG");

	if (v == NULL || *v == '\0')
		return;
	for (unsigned int i = 0; i < PF_ARRAY_LEN(name); i++) {
		if (strcmp(v, name[i]) == 0) {
			sink.most = (enum sh_level)i;
			return;
		}
	}
	if (strlen(v) < sizeof sink.path) {
		memcpy(sink.path, v, strlen(v) + 1);
		sink.most = SH_DEBUG;
	}
}

void sh_log(enum sh_level level, const char *fmt, ...)
{
	const char *path = sink.path;
	char line[1536];
	va_list ap;
	long fd;
	int n, m;

	if (level > sink.most)
		return;
	n = snprintf(line, sizeof line, "libpinfs[%d]: ", (int)sh.pid);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m > 0)
		n += m;
	if (n > (int)sizeof line - 2)
		n = (int)sizeof line - 2;
	line[n++] = '\n';
	if (*path == '\0' && !sh_is_crew) {
		(void)sh_sys(SYS_write, 2, line, (size_t)n);
		return;
	}
	if (*path != '\0')
		fd = sh_sys(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_CREAT, 0600);
	else
		fd = sh_sys(SYS_pidfd_getfd, sh.pidfd, 2, 0);	/* a file, a pipe or a socket, also behind chroot() */
	if (fd < 0)
		return;
	(void)sh_sys(SYS_write, fd, line, (size_t)n);
	(void)sh_sys(SYS_close, fd);
}
