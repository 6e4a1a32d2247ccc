/* SPDX-License-Identifier: BSD-3-Clause */
/* script.c - see script.h. Owns nothing; one thread. */
#include "crash/script.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "crash/model_impl.h"
#include "crash/seeded.h"
#include "harness/core.h"
#include "obj/reap.h"

/* What follows a word: a and b are names, x, y and z numbers, X an octal one. */
static const struct { const char *word, *args; } words[WL_NR] = {
	[WL_CREATE] = { "create", "a" },     [WL_MKDIR] = { "mkdir", "a" },	  [WL_SYMLINK] = { "symlink", "ab" },
	[WL_MKNOD] = { "mknod", "aXy" },     [WL_LINK] = { "link", "ab" },	  [WL_UNLINK] = { "unlink", "a" },
	[WL_RMDIR] = { "rmdir", "a" },	     [WL_RENAME] = { "rename", "ab" },	  [WL_EXCHANGE] = { "exchange", "ab" },
	[WL_WRITE] = { "write", "axy" },     [WL_TRUNCATE] = { "truncate", "ax" }, [WL_FALLOC] = { "falloc", "axy" },
	[WL_KEEP] = { "keep", "axy" },	     [WL_PUNCH] = { "punch", "axy" },	  [WL_ZERO] = { "zero", "axy" },
	[WL_ZEROKEEP] = { "zerokeep", "axy" }, [WL_COPY] = { "copy", "axbyz" },	  [WL_CHMOD] = { "chmod", "aX" },
	[WL_CHOWN] = { "chown", "axy" },     [WL_UTIMES] = { "utimes", "ax" },	  [WL_STORE] = { "store", "axy" },
	[WL_FAULT] = { "fault", "axy" },     [WL_COLLAPSE] = { "collapse", "axy" }, [WL_INSERT] = { "insert", "axy" },
	[WL_UNSHARE] = { "unshare", "axy" }, [WL_WHITEOUT] = { "whiteout", "ab" }, [WL_TMPFILE] = { "tmpfile", "ab" },
	[WL_SETXATTR] = { "setxattr", "abx" }, [WL_RMXATTR] = { "rmxattr", "ab" },
	[WL_HOLD] = { "hold", "a" },	     [WL_DROP] = { "drop", "" },	  [WL_REMOUNT] = { "remount", "" },
	[WL_CLOCK] = { "clock", "x" },	     [WL_NAMES] = { "names", "ax" },	  [WL_SPARSE] = { "sparse", "ax" },
};

/* ---- text ---- */

static bool read_op(struct wl_op *op, char *text)
{
	char *save = NULL, *word = strtok_r(text, " \t\n", &save), *arg, *end;
	int kind = 0;

	while (kind < WL_NR && strcmp(word, words[kind].word) != 0)
		kind++;
	if (kind == WL_NR)
		return false;
	op->kind = (enum wl_kind)kind;
	for (const char *p = words[kind].args; *p != '\0'; p++) {
		uint64_t *to = *p == 'x' || *p == 'X' ? &op->x : *p == 'y' ? &op->y : &op->z;

		arg = strtok_r(NULL, " \t\n", &save);
		if (arg == NULL)
			return false;
		if (*p == 'a' || *p == 'b') {
			if (strlen(arg) >= sizeof op->a)
				return false;
			(void)strcpy(*p == 'a' ? op->a : op->b, arg);
			continue;
		}
		*to = strtoull(arg, &end, *p == 'X' ? 8 : 10);
		if (*end != '\0')
			return false;
	}
	return strtok_r(NULL, " \t\n", &save) == NULL;
}

bool script_read(struct script *s, const char *text)
{
	for (const char *p = text;;) {
		size_t n = strcspn(p, ";|");
		char *one = strndup(p, n);
		struct wl_op *op = &s->op[s->n];

		if (one == NULL)
			abort();
		if (strspn(one, " \t\n") != n) {
			*op = (struct wl_op){ .tag = (uint32_t)s->n };
			if (s->n == SCRIPT_MAX || !read_op(op, one)) {
				(void)fprintf(stderr, "not an operation: %.*s\n", (int)n, p);
				free(one);
				return false;
			}
			s->n++;
		}
		free(one);
		if (p[n] == '|')
			s->stage = s->n;
		if (p[n] == '\0')
			return true;
		p += n + 1;
	}
}

char *script_text(const struct script *s, int from, int to)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		abort();
	for (int i = from; i < to; i++) {
		const struct wl_op *op = &s->op[i];

		(void)fprintf(f, "%s%s", i == from ? "" : i == s->stage ? " | " : "; ", words[op->kind].word);
		for (const char *p = words[op->kind].args; *p != '\0'; p++) {
			if (*p == 'a' || *p == 'b')
				(void)fprintf(f, " %s", *p == 'a' ? op->a : op->b);
			else if (*p == 'X')
				(void)fprintf(f, " %" PRIo64, op->x);
			else
				(void)fprintf(f, " %" PRIu64, *p == 'x' ? op->x : *p == 'y' ? op->y : op->z);
		}
	}
	(void)fclose(f);
	return text;
}

/* ---- the real thing ---- */

/* What has no name any more is freed in one transaction. From then on the unlinked ones wait for the next time. */
static void drop_all(struct stage *st)
{
	if (st->nheld > 1 && pf_reap_start(st->fs, PF_REAP_SCARCE) != 0)
		abort();
	while (st->nheld > 0)
		core_drop(st->fs, st->held[--st->nheld]);
	(void)pf_reap_all(st->fs);
}

static int64_t hold(struct stage *st, const char *path)
{
	int64_t ino;

	if (st->nheld == (int)PF_ARRAY_LEN(st->held))
		drop_all(st);
	ino = core_hold(st->fs, path);
	if (ino > 0)
		st->held[st->nheld++] = (uint64_t)ino;
	return ino < 0 ? ino : 0;
}

static int64_t remount(struct stage *st)
{
	const char *why;

	drop_all(st);
	core_unmount(st->fs);
	st->fs = NULL;
	return core_mount(st->pm, &st->fs, &why);
}

static int64_t store(struct stage *st, const struct wl_op *op, bool through_mapping)
{
	uint8_t *buf = malloc(op->y + 1);
	int64_t rc;

	if (buf == NULL)
		abort();
	for (uint64_t i = 0; i < op->y; i++)
		buf[i] = wl_byte(op->tag, op->x + i);
	rc = through_mapping ? core_store_sync(st->fs, op->a, op->x, buf, op->y) :
			       core_write(st->fs, op->a, op->x, buf, op->y);
	free(buf);
	return rc;
}

static int64_t many(struct stage *st, const struct wl_op *op)
{
	struct wl_op one = { .kind = WL_WRITE, .y = PAGE, .tag = op->tag };
	int64_t rc = 0;

	(void)strcpy(one.a, op->a);
	for (uint64_t i = 0; rc >= 0 && i < op->x; i++) {
		one.x = 2 * i * PAGE;
		if (op->kind == WL_SPARSE) {
			rc = store(st, &one, false);
			continue;
		}
		(void)snprintf(one.a, sizeof one.a, WL_NAMES_FORMAT, op->a, (unsigned int)i);
		rc = core_create(st->fs, one.a);
	}
	return rc < 0 ? rc : 0;
}

static int mode_of(enum wl_kind kind)
{
	switch ((int)kind) {
	case WL_KEEP:
		return FALLOC_FL_KEEP_SIZE;
	case WL_PUNCH:
		return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	case WL_ZERO:
		return FALLOC_FL_ZERO_RANGE;
	case WL_ZEROKEEP:
		return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	case WL_COLLAPSE:
		return FALLOC_FL_COLLAPSE_RANGE;
	case WL_INSERT:
		return FALLOC_FL_INSERT_RANGE;
	case WL_UNSHARE:
		return FALLOC_FL_UNSHARE_RANGE;
	default:
		return 0;
	}
}

/* Two calls; between them there is nothing to be seen. */
static int64_t tmpfile_named(struct stage *st, const struct wl_op *op)
{
	int64_t ino = core_tmpfile(st->fs, op->a), err;

	if (ino < 0)
		return ino;
	err = core_link_ino(st->fs, (uint64_t)ino, op->b);
	core_drop(st->fs, (uint64_t)ino);
	return err;
}

static int64_t setxattr(struct stage *st, const struct wl_op *op)
{
	int64_t ino = core_find(st->fs, op->a), rc;
	uint8_t *value = malloc(op->x + 1);

	if (value == NULL)
		abort();
	for (uint64_t i = 0; i < op->x; i++)
		value[i] = wl_byte(op->tag, i);
	rc = ino < 0 ? ino : pf_op_setxattr(st->fs, (uint64_t)ino, op->b, value, op->x, 0, false);
	free(value);
	return rc;
}

static int64_t rmxattr(struct stage *st, const struct wl_op *op)
{
	int64_t ino = core_find(st->fs, op->a);

	return ino < 0 ? ino : pf_op_removexattr(st->fs, (uint64_t)ino, op->b);
}

int64_t script_do(struct stage *st, const struct wl_op *op)
{
	struct timespec t = { .tv_sec = (time_t)op->x, .tv_nsec = 5 };
	struct pf_fs *fs = st->fs;
	char *target;
	int64_t rc;

	switch (op->kind) {
	case WL_CREATE:
		rc = core_create(fs, op->a);
		return rc < 0 ? rc : 0;
	case WL_MKDIR:
		return core_mkdir(fs, op->a);
	case WL_SYMLINK:
		target = wl_target(op);
		rc = core_symlink(fs, op->a, target);
		free(target);
		return rc;
	case WL_MKNOD:
		return core_mknod(fs, op->a, (mode_t)op->x, (dev_t)op->y);
	case WL_LINK:
		return core_link(fs, op->a, op->b);
	case WL_UNLINK:
		return core_unlink(fs, op->a);
	case WL_RMDIR:
		return core_rmdir(fs, op->a);
	case WL_RENAME:
		return core_rename(fs, op->a, op->b, 0);
	case WL_EXCHANGE:
		return core_rename(fs, op->a, op->b, RENAME_EXCHANGE);
	case WL_WRITE:
	case WL_STORE:
		return store(st, op, op->kind == WL_STORE);
	case WL_TRUNCATE:
		return core_truncate(fs, op->a, op->x);
	case WL_FALLOC:
	case WL_KEEP:
	case WL_PUNCH:
	case WL_ZERO:
	case WL_ZEROKEEP:
	case WL_COLLAPSE:
	case WL_INSERT:
	case WL_UNSHARE:
		return core_fallocate(fs, op->a, mode_of(op->kind), op->x, op->y);
	case WL_COPY:
		return core_copy(fs, op->a, op->x, op->b, op->y, op->z);
	case WL_CHMOD:
		return core_chmod(fs, op->a, (mode_t)op->x);
	case WL_CHOWN:
		return core_chown(fs, op->a, (uid_t)op->x, (gid_t)op->y);
	case WL_UTIMES:
		return core_utimens(fs, op->a, t, t);
	case WL_WHITEOUT:
		return core_rename(fs, op->a, op->b, RENAME_WHITEOUT);
	case WL_TMPFILE:
		return tmpfile_named(st, op);
	case WL_FAULT:
		return core_fault(fs, op->a, op->x, op->y);
	case WL_SETXATTR:
		return setxattr(st, op);
	case WL_RMXATTR:
		return rmxattr(st, op);
	case WL_HOLD:
		return hold(st, op->a);
	case WL_DROP:
		drop_all(st);
		return 0;
	case WL_REMOUNT:
		return remount(st);
	case WL_CLOCK:
		seeded_stop_clock(op->x == 0);
		return 0;
	case WL_NAMES:
	case WL_SPARSE:
		return many(st, op);
	case WL_NR:
		break;
	}
	return -ENOSYS;
}

/* ---- at random ---- */

static uint64_t rnd(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	return *seed ^= *seed << 17;
}

/* A path that may exist or not, in a directory that mostly does. */
static void any_path(uint64_t *seed, const struct model *m, char out[64])
{
	static const char *const names[] = { "f", "g", "h", "x", "y", "sub", "dir" };
	const char *dir = rnd(seed) % 3 == 0 ? "" : model_pick(m, true, rnd(seed));

	(void)snprintf(out, 64, "%.50s/%s", strlen(dir) < 40 ? dir : "", names[rnd(seed) % PF_ARRAY_LEN(names)]);
}

/* One that exists, more often than not. */
static void path(uint64_t *seed, const struct model *m, bool dir, char out[64])
{
	if (rnd(seed) % 8 == 0)
		any_path(seed, m, out);
	else
		(void)snprintf(out, 64, "%.63s", model_pick(m, dir, rnd(seed)));
	if (out[0] == '\0')
		any_path(seed, m, out);
}

static uint64_t offset(uint64_t *seed)
{
	uint64_t page = rnd(seed) % 4 ? rnd(seed) % 8 : rnd(seed) % 48;

	return page * PAGE + (rnd(seed) % 2 ? 0 : rnd(seed) % PAGE);
}

static uint64_t length(uint64_t *seed)
{
	switch (rnd(seed) % 4) {
	case 0:
		return 1 + rnd(seed) % 200;
	case 1:
		return PAGE * (1 + rnd(seed) % 4);
	default:
		return 1 + rnd(seed) % (6 * PAGE);
	}
}

static void random_op(struct wl_op *op, uint64_t *seed, const struct model *m)
{
	static const enum wl_kind kinds[] = {
		WL_CREATE, WL_CREATE, WL_MKDIR, WL_MKDIR, WL_SYMLINK, WL_MKNOD, WL_LINK, WL_LINK, WL_UNLINK, WL_UNLINK,
		WL_RMDIR, WL_RENAME, WL_RENAME, WL_RENAME, WL_RENAME, WL_EXCHANGE, WL_EXCHANGE, WL_WRITE, WL_WRITE,
		WL_WRITE, WL_WRITE, WL_WRITE, WL_TRUNCATE, WL_TRUNCATE, WL_FALLOC, WL_KEEP, WL_PUNCH, WL_PUNCH, WL_ZERO,
		WL_ZEROKEEP, WL_COPY, WL_CHMOD, WL_CHOWN, WL_UTIMES, WL_STORE, WL_FAULT, WL_COLLAPSE, WL_COLLAPSE,
		WL_INSERT, WL_INSERT, WL_UNSHARE, WL_WHITEOUT, WL_TMPFILE, WL_SETXATTR, WL_SETXATTR, WL_SETXATTR,
		WL_RMXATTR, WL_HOLD, WL_DROP, WL_REMOUNT, WL_CLOCK,
	};

	op->kind = kinds[rnd(seed) % PF_ARRAY_LEN(kinds)];
	path(seed, m, op->kind == WL_RMDIR, op->a);
	if (op->kind <= WL_MKNOD)
		any_path(seed, m, op->a);
	any_path(seed, m, op->b);
	op->x = offset(seed);
	op->y = length(seed);
	switch ((int)op->kind) {
	case WL_SYMLINK:
		if (rnd(seed) % 2)
			(void)snprintf(op->b, sizeof op->b, "@%u", (unsigned int)(1 + rnd(seed) % 4000));
		break;
	case WL_MKNOD:
		op->x = rnd(seed) % 2 ? S_IFIFO | 0600 : S_IFCHR | 0640;
		op->y = S_ISCHR(op->x) ? 0x105 : 0;
		break;
	case WL_COLLAPSE:
	case WL_INSERT:
		op->x = rnd(seed) % 8 ? op->x / PAGE * PAGE : op->x;
		op->y = (1 + rnd(seed) % 4) * PAGE;
		break;
	case WL_SETXATTR:
	case WL_RMXATTR:
		path(seed, m, rnd(seed) % 4 == 0, op->a);
		(void)snprintf(op->b, sizeof op->b, "trusted.%c", (char)('a' + rnd(seed) % XATTRS));
		op->x = rnd(seed) % 3 == 0 ? rnd(seed) % 20000 : rnd(seed) % 1500;
		break;
	case WL_TMPFILE:
		path(seed, m, true, op->a);
		break;
	case WL_RENAME:
	case WL_EXCHANGE:
	case WL_WHITEOUT:
		path(seed, m, rnd(seed) % 3 == 0, op->a);
		if (op->kind == WL_EXCHANGE || rnd(seed) % 3 == 0)
			path(seed, m, rnd(seed) % 3 == 0, op->b);
		break;
	case WL_COPY:
		op->y = offset(seed);
		op->z = length(seed);
		path(seed, m, false, op->b);
		break;
	case WL_CHMOD:
		op->x = rnd(seed) % 0777;
		break;
	case WL_CHOWN:
		op->x = rnd(seed) % 1000;
		op->y = rnd(seed) % 1000;
		break;
	case WL_CLOCK:
		op->x = rnd(seed) % 2;
		break;
	}
}

void script_random(struct script *s, int n, uint64_t seed, struct model *m)
{
	seed = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (; n > 0 && s->n < SCRIPT_MAX; n--) {
		struct wl_op *op = &s->op[s->n];

		*op = (struct wl_op){ .tag = (uint32_t)s->n };
		random_op(op, &seed, m);
		(void)model_apply(m, op);
		s->n++;
	}
}
