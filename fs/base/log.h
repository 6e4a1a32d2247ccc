/* SPDX-License-Identifier: BSD-3-Clause */
/* log.h - one line per event: stderr in the foreground, syslog once the daemon has detached. */
#ifndef PF_BASE_LOG_H
#define PF_BASE_LOG_H

#include <stdbool.h>
#include <pinfs/compiler.h>

enum pf_log { PF_LOG_ERR, PF_LOG_WARN, PF_LOG_INFO, PF_LOG_DEBUG };

/* @prog: prefix of every line. Not thread-safe: call before threads start. */
void pf_log_init(const char *prog, enum pf_log most, bool to_syslog);

/* A line without the newline. Thread-safe; blocks only on stderr or syslog. */
void pf_log(enum pf_log level, const char *fmt, ...) PF_PRINTF(2, 3);

#define pf_err(...) pf_log(PF_LOG_ERR, __VA_ARGS__)
#define pf_warn(...) pf_log(PF_LOG_WARN, __VA_ARGS__)
#define pf_info(...) pf_log(PF_LOG_INFO, __VA_ARGS__)
#define pf_debug(...) pf_log(PF_LOG_DEBUG, __VA_ARGS__)

#endif
