/* SPDX-License-Identifier: BSD-3-Clause */
/* log.c - where messages go. Owns nothing but the destination, which is set once. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

static struct {
	const char *prog;
	enum pf_log most;
	bool to_syslog;
} sink = { "pinfs", PF_LOG_INFO, false };

void pf_log_init(const char *prog, enum pf_log most, bool to_syslog)
{
	sink.prog = prog;
	sink.most = most;
	sink.to_syslog = to_syslog;
	if (to_syslog)
		openlog(prog, LOG_PID, LOG_DAEMON);
}

void pf_log(enum pf_log level, const char *fmt, ...)
{
	static const int prio[] = { [PF_LOG_ERR] = LOG_ERR, [PF_LOG_WARN] = LOG_WARNING,
				    [PF_LOG_INFO] = LOG_INFO, [PF_LOG_DEBUG] = LOG_DEBUG };
	char line[1024];
	va_list ap;

	if (level > sink.most)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (sink.to_syslog)
		syslog(prio[level], "%s", line);
	else
		(void)fprintf(stderr, "%s: %s\n", sink.prog, line);
}
