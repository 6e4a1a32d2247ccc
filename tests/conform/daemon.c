/* SPDX-License-Identifier: BSD-3-Clause */
/* daemon.c - asks the daemon of a pinfs for its reports, by a connection that each process has of its own. */
#include "conform/engine.h"

#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include "pinfsctl/pinfsctl.h"

/* What session.c says when there is no talking to the daemon. */
int complain(const char *fmt, ...)
{
	va_list ap;

	(void)fputs("pinfs-conform: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	return 1;
}

struct json_object *daemon_report(const struct place *p, bool pins)
{
	static int sock = -1;
	static pid_t owner;
	static uint64_t unique = 2;
	const struct pf_p_report_in req = { .ri_what = pins ? PF_REPORT_PINS : PF_REPORT_STATUS };
	struct json_object *o = NULL;
	char *body = NULL;
	size_t len;

	if (!p->pinfs)
		return NULL;
	if (sock >= 0 && owner != getpid())
		sock = -1;		/* the parent's; it goes with exec or the end */
	if (sock < 0 && session_open(p->mount, &sock) != 0) {
		sock = -1;
		return NULL;
	}
	owner = getpid();
	if (session_ask(sock, PF_P_REPORT, unique++, &req, sizeof req, &body, &len) == 0) {
		o = json_tokener_parse(body);
	} else {
		(void)close(sock);
		sock = -1;
	}
	free(body);
	return o;
}
