/* SPDX-License-Identifier: BSD-3-Clause */
/* look.c - runs pinfsctl --json and picks out what tests ask about. */
#include "pin/look.h"

#include <stdlib.h>
#include <string.h>
#include <json-c/json.h>
#include "harness/proc.h"
#include "harness/run.h"

#define REPORT_MAX ((size_t)4 << 20)
#define LONG_MS 60000

static struct json_object *report(const struct pt_fs *fs, const char *verb)
{
	static char out[REPORT_MAX], err[512];
	struct json_object *o;
	int rc = pt_run2(out, sizeof out, err, sizeof err, 60000,
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
	out->nkept = json_object_array_length(member(o, "kept"));
	for (size_t i = 0; i < out->nkept && i < LOOK_MAX; i++) {
		struct json_object *k = json_object_array_get_idx(member(o, "kept"), i);

		out->kept[i].pid = (pid_t)num(k, "pid");
		out->kept[i].blocks = num(k, "blocks");
		out->kept[i].age_ns = num(k, "age_ns");
		out->kept[i].ino = num(k, "ino");
		copy(out->kept[i].why, sizeof out->kept[i].why, k, "why");
	}
	(void)json_object_put(o);
	return true;
}

bool look_until(const struct pt_fs *fs, size_t nwait, size_t parked, struct look *out)
{
	uint64_t end = pt_now_ms() + LONG_MS;
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

bool look_pins_until(const struct pt_fs *fs, size_t npin)
{
	const uint64_t end = pt_now_ms() + LONG_MS;
	struct look l;

	do {
		if (!look(fs, &l))
			return false;
		if (l.npin == npin)
			return true;
		pt_sleep_ms(2);
	} while (pt_now_ms() < end);
	pt_say("%zu pins, expected %zu", l.npin, npin);
	for (size_t i = 0; i < l.npin && i < LOOK_MAX; i++)
		pt_say("pid %d: %llu bytes at %llu of inode %llu", (int)l.pin[i].pid, (unsigned long long)l.pin[i].len,
		       (unsigned long long)l.pin[i].foff, (unsigned long long)l.pin[i].ino);
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

const char *look_session(const struct pt_fs *fs, pid_t pid)
{
	static const char *const order[] = { "none", "live", "quarantined", "cut off", "evicted", "dead" };
	struct json_object *o = report(fs, "status"), *list;
	size_t worst = 0;

	if (o == NULL)
		return "?";
	list = member(o, "sessions");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *s = json_object_array_get_idx(list, i);
		char state[16];

		copy(state, sizeof state, s, "state");
		for (size_t k = worst; (pid_t)num(s, "pid") == pid && k < PF_ARRAY_LEN(order); k++)
			if (strcmp(order[k], state) == 0)
				worst = k;
	}
	(void)json_object_put(o);
	return order[worst];
}

bool look_session_until(const struct pt_fs *fs, pid_t pid, const char *state)
{
	const uint64_t end = pt_now_ms() + LONG_MS;
	const char *now;

	do {
		now = look_session(fs, pid);
		if (strcmp(now, state) == 0)
			return true;
		pt_sleep_ms(5);
	} while (pt_now_ms() < end);
	pt_say("the session of %d is %s, expected %s", (int)pid, now, state);
	return false;
}

bool look_status_until(const struct pt_fs *fs, const char *name, int64_t value)
{
	const uint64_t end = pt_now_ms() + LONG_MS;
	int64_t now;

	do {
		now = look_status(fs, name);
		if (now == value)
			return true;
		pt_sleep_ms(5);
	} while (pt_now_ms() < end);
	pt_say("%s is %lld, expected %lld", name, (long long)now, (long long)value);
	return false;
}

bool look_parked_until(const struct pt_fs *fs, int64_t blocks)
{
	return look_status_until(fs, "space.parked", blocks);
}
