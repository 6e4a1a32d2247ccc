/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.c - what cases could do to each other through a pinfs mount: its policy is the same before each, and no case
 * damages the filesystem. Looks at the daemon's report; puts back by pinfsctl. Owns the policy as it was.
 */
#include "conform/engine.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Members of the report's "options", and what pinfsctl(1) calls them. */
static const struct { const char *member, *key, *unit; } policy[] = {
	{ "on_busy", "on_busy", "" }, { "break", "break", "" }, { "busy_timeout_ms", "busy_timeout", "ms" },
	{ "poll_interval_ms", "poll_interval", "ms" }, { "fair", "fair", "" }, { "deadlock", "deadlock", "" },
	{ "lease_time_ms", "lease_time", "ms" }, { "lease_break", "lease_break", "" },
	{ "longterm", "longterm", "" },
};

static char was[PF_ARRAY_LEN(policy)][32];

static struct json_object *member(struct json_object *o, const char *name)
{
	struct json_object *v = NULL;

	(void)json_object_object_get_ex(o, name, &v);
	return v;
}

static void value_of(struct json_object *opts, size_t i, char out[32])
{
	struct json_object *v = member(opts, policy[i].member);
	const char *s = v != NULL ? json_object_get_string(v) : "";

	if (strcmp(policy[i].key, "fair") == 0)
		s = v != NULL && json_object_get_boolean(v) ? "yes" : "no";
	(void)snprintf(out, 32, "%s%s", s, policy[i].unit);
}

void guard_begin(const struct place *p)
{
	struct json_object *report = daemon_report(p, false), *opts = report != NULL ? member(report, "options") : NULL;

	for (size_t i = 0; opts != NULL && i < PF_ARRAY_LEN(policy); i++)
		value_of(opts, i, was[i]);
	(void)json_object_put(report);
}

static void put_back(const struct place *p, const char *key, const char *value)
{
	char program[PATH_MAX + 16], text[96];
	const pid_t pid = fork();

	if (pid == 0) {
		const int null = open("/dev/null", O_RDWR);

		(void)snprintf(program, sizeof program, "%s/pinfsctl", p->programs);
		(void)snprintf(text, sizeof text, "%s=%s", key, value);
		(void)dup2(null, 1);
		(void)dup2(null, 2);
		(void)unsetenv("LD_PRELOAD");
		(void)execl(program, "pinfsctl", "set", p->mount, text, (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
}

bool guard_look(const struct place *p, char *why, size_t room)
{
	struct json_object *report = daemon_report(p, false), *opts, *state;
	char now[32];
	bool ok = true;

	if (report == NULL) {
		(void)snprintf(why, room, "the daemon does not answer any more");
		return !p->pinfs;
	}
	opts = member(report, "options");
	for (size_t i = 0; opts != NULL && i < PF_ARRAY_LEN(policy); i++) {
		value_of(opts, i, now);
		if (was[i][0] == '\0' || strcmp(now, was[i]) == 0)
			continue;
		(void)snprintf(why, room, "it left the mount with %s=%s", policy[i].key, now);
		put_back(p, policy[i].key, was[i]);
		ok = false;
	}
	state = member(report, "state");
	if (state != NULL && strcmp(json_object_get_string(state), "ok") != 0) {
		(void)snprintf(why, room, "the filesystem is %s now", json_object_get_string(state));
		ok = false;
	}
	(void)json_object_put(report);
	return ok;
}
