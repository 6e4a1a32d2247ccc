/* SPDX-License-Identifier: BSD-3-Clause */
/* look.c - runs pinfsctl --json and picks out what tests ask about. */
#include "pin/look.h"

#include <stdlib.h>
#include <string.h>
#include <json-c/json.h>
#include "harness/proc.h"
#include "harness/run.h"

#define REPORT_MAX ((size_t)4 << 20)
#define UNTIL_MS 10000

static struct json_object *report(const struct pt_fs *fs, const char *verb)
{
	static char out[REPORT_MAX], err[512];
	struct json_object *o;
	int rc = pt_run2(out, sizeof out, err, sizeof err, 20000,
			 (const char *[]){ pt_program("pinfsctl"), verb, "--json", fs->mnt, NULL });

	if (rc != 0) {
		pt_say("pinfsctl %s: status %d: %s", verb, rc, err);
		return NULL;
	}
	o = json_tokener_parse(out);
	if (o == NULL)
		pt_say("pinfsctl %s: not JSON: %.200s", verb, out);
	return o;
}

static struct json_object *member(struct json_object *o, const char *name)
{
	struct json_object *v = NULL;

	(void)json_object_object_get_ex(o, name, &v);
	return v;
}

static uint64_t num(struct json_object *o, const char *name) { return json_object_get_uint64(member(o, name)); }

static void copy(char *dst, size_t room, struct json_object *o, const char *name)
{
	const char *s = json_object_get_string(member(o, name));

	(void)snprintf(dst, room, "%s", s != NULL ? s : "");
}

bool look(const struct pt_fs *fs, struct look *out)
{
	struct json_object *o = report(fs, "pins"), *pins, *waiters;

	if (o == NULL)
		return false;
	memset(out, 0, sizeof *out);
	pins = member(o, "pins");
	waiters = member(o, "waiters");
	out->npin = json_object_array_length(pins);
	out->nwait = json_object_array_length(waiters);
	for (size_t i = 0; i < out->npin && i < LOOK_MAX; i++) {
		struct json_object *p = json_object_array_get_idx(pins, i);

		out->pin[i].pid = (pid_t)num(p, "pid");
		out->pin[i].ino = num(p, "ino");
		out->pin[i].foff = num(p, "foff");
		out->pin[i].len = num(p, "len");
		copy(out->pin[i].label, sizeof out->pin[i].label, p, "label");
	}
	for (size_t i = 0; i < out->nwait; i++) {
		struct json_object *w = json_object_array_get_idx(waiters, i), *f = member(w, "waits_for");

		out->nwait_pins += strcmp(json_object_get_string(member(w, "state")), "pins") == 0;
		if (i >= LOOK_MAX)
			continue;
		out->wait[i].pid = (pid_t)num(w, "pid");
		out->wait[i].ino = num(w, "ino");
		copy(out->wait[i].what, sizeof out->wait[i].what, w, "what");
		copy(out->wait[i].state, sizeof out->wait[i].state, w, "state");
		out->wait[i].nholder = f != NULL ? json_object_array_length(f) : 0;
		if (out->wait[i].nholder != 0)
			out->wait[i].holder = (pid_t)num(json_object_array_get_idx(f, 0), "pid");
	}
	(void)json_object_put(o);
	return true;
}

bool look_until(const struct pt_fs *fs, size_t nwait, size_t parked, struct look *out)
{
	uint64_t end = pt_now_ms() + UNTIL_MS;
	struct look l;

	do {
		if (!look(fs, &l))
			return false;
		if (out != NULL)
			*out = l;
		if (l.nwait == nwait && l.nwait_pins == parked)
			return true;
		pt_sleep_ms(2);
	} while (pt_now_ms() < end);
	pt_say("%zu waiters, %zu of them for pins; expected %zu, %zu", l.nwait, l.nwait_pins, nwait, parked);
	return false;
}

int64_t look_status(const struct pt_fs *fs, const char *name)
{
	struct json_object *o = report(fs, "status"), *v = o;
	char path[64], *save = NULL;
	int64_t n = -1;

	(void)snprintf(path, sizeof path, "%s", name);
	for (char *part = strtok_r(path, ".", &save); part != NULL && v != NULL; part = strtok_r(NULL, ".", &save))
		v = member(v, part);
	if (v != NULL)
		n = json_object_get_int64(v);
	(void)json_object_put(o);
	return n;
}
