/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * settle.c - is a call seen to wait? Never by the clock.
 *
 * Two witnesses. The daemon of a pinfs lists who waits, and for what. And /proc/PID/task/TID says where a thread sleeps
 * in the kernel: in the wait of a layout break, in that for a lock (which counts as a wait only while another call
 * of the case is known to wait: else it is a matter of moments). A pin that lets an operation go first sleeps in the
 * library; the daemon counts such pins by process.
 *
 * A thread's sleep is one and the same when its count of context switches has not changed.
 */
#include "conform/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sleeper {
	bool asleep, deaf;		/* deaf: to signals */
	uint64_t switches;		/* of its own will */
	char where[2048];		/* kernel functions, a line each; "" when nobody tells */
};

static bool slurp(pid_t pid, pid_t tid, const char *name, char *buf, size_t room)
{
	char path[96];
	ssize_t n = -1;
	int fd;

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/%s", (int)pid, (int)tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, buf, room - 1);
		(void)close(fd);
	}
	buf[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static void look_at_thread(pid_t pid, pid_t tid, struct sleeper *s)
{
	char status[4096];
	const char *p;

	memset(s, 0, sizeof *s);
	if (!slurp(pid, tid, "status", status, sizeof status))
		return;
	p = strstr(status, "\nState:");
	if (p != NULL)
		p += 7 + strspn(p + 7, " \t");
	s->deaf = p != NULL && *p == 'D';
	s->asleep = s->deaf || (p != NULL && *p == 'S');
	p = strstr(status, "\nvoluntary_ctxt_switches:");
	s->switches = p != NULL ? strtoull(strchr(p, ':') + 1, NULL, 10) : 0;
	if (!slurp(pid, tid, "stack", s->where, sizeof s->where))
		(void)slurp(pid, tid, "wchan", s->where, sizeof s->where);
}

static void look_at(const struct cf_call *call, struct sleeper *s)
{
	look_at_thread(call->pid, cf_call_tid(call), s);
}

static bool in_any(const struct sleeper *s, const char *const name[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strstr(s->where, name[i]) != NULL)
			return true;
	return false;
}

/* Sleeps for a DAX page that somebody holds. */
static bool in_break(const struct sleeper *s)
{
	static const char *const names[] = {
		"break_layouts", "break_dax_layout", "dax_break_layout", "break_layout", "wait_dax_page", "dax_layout",
		"dax_wait_page", "xfs_wait_dax",
	};

	return in_any(s, names, PF_ARRAY_LEN(names));
}

bool sleeps_for_device(pid_t tid)
{
	static const char *const names[] = { "io_schedule", "dio_await", "iomap_dio_rw", "blkdev_" };
	struct sleeper s;

	if (tid == 0)
		return false;
	look_at_thread(getpid(), tid, &s);
	return s.asleep && in_any(&s, names, PF_ARRAY_LEN(names));
}

/*
 * Sleeps for a lock of a file or directory that another call may have. The kernel leaves its own waiting functions
 * out of such lists, where it can, so the first is the one that takes the lock. Locks of the caller's memory
 * (mmap_lock) are a matter of moments, and taken by others than these.
 */
static bool in_lock(const struct sleeper *s)
{
	static const char *const takers[] = {
		"do_truncate", "notify_change", "vfs_", "ext4_", "xfs_", "fuse_", "dax_", "filemap_", "generic_",
		"path_", "open_last", "do_open", "do_filp_open", "do_unlinkat", "do_rename", "do_rmdir", "do_linkat",
		"do_mkdirat", "lock_rename", "lock_two", "start_", "filename_", "lookup_", "walk_component",
		"iterate_dir", "chmod_common", "chown_common", "setxattr", "removexattr", "ioctl_", "copy_file",
		"freeze_super", "mnt_want_write",
		"do_iter_read", "do_iter_write", "fdget_pos",
	};
	static const char *const locks[] = { "rwsem_down_", "down_write", "down_read", "mutex_lock",
					     "percpu_rwsem", "inode_lock" };
	const char *first = s->where;
	char name[128];

	if (!s->deaf)
		return false;
	if (first[0] == '[')				/* "[<0>] do_truncate+0x77/0xe0" */
		first += strcspn(first, " ") + (strchr(first, ' ') != NULL);
	first += strspn(first, "_");
	(void)snprintf(name, sizeof name, "%.*s", (int)strcspn(first, "+\n"), first);
	for (size_t i = 0; i < PF_ARRAY_LEN(locks); i++)
		if (strncmp(name, locks[i], strlen(locks[i])) == 0)
			return in_any(s, takers, PF_ARRAY_LEN(takers)) || strchr(s->where, '\n') == NULL;
	for (size_t i = 0; i < PF_ARRAY_LEN(takers); i++)
		if (strncmp(name, takers[i], strlen(takers[i])) == 0)
			return strstr(name, "wait") == NULL;
	return false;
}

/* Sleeps for an answer, in the preload library. */
static bool in_library(const struct sleeper *s)
{
	return strstr(s->where, "futex") != NULL;
}

/* ---- the daemon's list ---- */

static struct json_object *member(struct json_object *o, const char *name)
{
	struct json_object *v = NULL;

	(void)json_object_object_get_ex(o, name, &v);
	return v;
}

static int64_t num(struct json_object *o, const char *name) { return json_object_get_int64(member(o, name)); }

static bool is_state(struct json_object *w, const char *state)
{
	const char *s = json_object_get_string(member(w, "state"));

	return s != NULL && strcmp(s, state) == 0;
}

/* For what does not end by itself. */
static bool waits_for_others(struct json_object *w)
{
	return is_state(w, "pins") || is_state(w, "lease") || is_state(w, "bursts");
}

static bool in_turn(struct json_object *w)
{
	return is_state(w, "queued") || is_state(w, "gate");
}

/* Has the list this thread's operation as one that waits, for pins or behind one that does? */
static bool listed(struct json_object *waiters, pid_t tid)
{
	const size_t n = waiters != NULL ? json_object_array_length(waiters) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *w = json_object_array_get_idx(waiters, i);

		if (num(w, "tid") != tid)
			continue;
		if (waits_for_others(w))
			return true;
		for (size_t k = 0; in_turn(w) && k < n; k++) {
			struct json_object *other = json_object_array_get_idx(waiters, k);

			if (num(other, "ino") == num(w, "ino") && waits_for_others(other))
				return true;
		}
	}
	return false;
}

/* How many requests to pin of a process are held back by operations that wait. */
static int64_t held_back(struct json_object *waiters, pid_t pid)
{
	const size_t n = waiters != NULL ? json_object_array_length(waiters) : 0;
	int64_t pins = 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *w = json_object_array_get_idx(waiters, i), *list = member(w, "held_back");

		for (size_t k = 0; waits_for_others(w) && k < json_object_array_length(list); k++) {
			struct json_object *b = json_object_array_get_idx(list, k);

			pins += num(b, "pid") == pid ? num(b, "pins") : 0;
		}
	}
	return pins;
}

/* ---- both ---- */

/* All calls of the process that sleep in the library are requests to pin that are held back. */
static bool pin_held_back(const struct cf_call *call, struct json_object *waiters)
{
	struct sleeper s;
	int64_t n = 0;

	for (const struct cf_call *o = calls; o != NULL; o = o->next) {
		if (o->pid != call->pid || atomic_load(&o->mem->done))
			continue;
		look_at(o, &s);
		n += s.asleep && in_library(&s);
	}
	return n != 0 && held_back(waiters, call->pid) >= n;
}

/* Waits another call of the case, by what is known now? */
static bool another_waits(const struct cf_call *call, struct json_object *waiters)
{
	struct sleeper s;

	for (const struct cf_call *o = calls; o != NULL; o = o->next) {
		if (o == call || atomic_load(&o->mem->done))
			continue;
		if (listed(waiters, cf_call_tid(o)))
			return true;
		look_at(o, &s);
		if (s.asleep && in_break(&s))
			return true;
	}
	return false;
}

bool settle_once(struct cf_call *call)
{
	struct json_object *report, *waiters;
	struct sleeper before, after;
	bool waits, again;

	look_at(call, &before);
	if (!before.asleep)
		return false;
	report = daemon_report(call->c->place, true);
	waiters = report != NULL ? member(report, "waiters") : NULL;
	waits = listed(waiters, cf_call_tid(call)) || in_break(&before) ||
		(in_library(&before) && pin_held_back(call, waiters)) ||
		(in_lock(&before) && another_waits(call, waiters));
	(void)json_object_put(report);
	if (!waits)
		return false;
	look_at(call, &after);
	/* The same sleep in two looks: what is short is seldom met twice. */
	again = call->seen == before.switches + 1;
	call->seen = before.switches + 1;
	return again && after.asleep && after.switches == before.switches;
}
