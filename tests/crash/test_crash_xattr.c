/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_xattr.c - power loss while attributes change: values in leaves and in blocks, leaves that split and go,
 * lists that change with the mode, lists that come with a new file, an inode that goes with more attributes than one
 * transaction can free. Whatever an image at any drain holds, after the mount all is as before or as after, and fsck
 * finds nothing before the mount nor after it. Twins: a list that is set after the file was made; a value not drained.
 */
#include "harness/unit.h"

#include <errno.h>
#include <linux/posix_acl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include "base/crc32c.h"
#include "base/log.h"
#include "crash/judged.h"
#include "harness/core.h"
#include "media/pmem.h"
#include "obj/xattr.h"

#define DEV (UINT64_C(16) << 20)
#define TEXT 65536U
#define DEFAULT_LIST "system.posix_acl_default"
#define ACCESS_LIST "system.posix_acl_access"

static const char *const paths[] = { "/f", "/d", "/d/file", "/d/sub", "/d/fifo" };

static uint8_t bytes[PF_XATTR_VALUE_MAX];

/* ---- all that can be seen ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool describe_attrs(struct pf_fs *fs, uint64_t ino, char *text, size_t *at)
{
	static _Thread_local char list[PF_XATTR_LIST_MAX], value[PF_XATTR_VALUE_MAX];
	static _Thread_local const char *name[4096];
	size_t len, n = 0;
	bool hidden;

	if (pf_op_listxattr(fs, ino, true, list, sizeof list, &len, &hidden) != 0)
		return false;
	for (size_t i = 0; i < len && n < PF_ARRAY_LEN(name); i += strlen(list + i) + 1)
		name[n++] = list + i;
	qsort(name, n, sizeof name[0], by_text);
	for (size_t i = 0; i < n; i++) {
		if (pf_op_getxattr(fs, ino, name[i], value, sizeof value, &len) != 0)
			return false;
		*at += (size_t)snprintf(text + *at, TEXT - *at, " %s=%zu/%08x", name[i], len,
					pf_crc32c(0, value, len));
	}
	return true;
}

static bool get(struct pf_fs *fs, char *text)
{
	struct pf_rd *rd = malloc(sizeof *rd);
	size_t at = 0;
	bool ok = true;

	text[0] = '\0';
	for (size_t i = 0; i < PF_ARRAY_LEN(paths) && ok; i++) {
		int64_t ino = core_find(fs, paths[i]);
		struct stat st;

		if (ino == -ENOENT)
			continue;
		ok = ino >= 0 && pf_op_getattr(fs, (uint64_t)ino, &st, NULL) == 0;
		if (!ok)
			break;
		at += (size_t)snprintf(text + at, TEXT - at, "%s %o", paths[i], st.st_mode);
		if (S_ISREG(st.st_mode) && st.st_size > 0 &&
		    pf_op_read_begin(fs, (uint64_t)ino, 0, 1, rd) == 0) {
			at += (size_t)snprintf(text + at, TEXT - at, " byte %u", *(const uint8_t *)rd->iov[0].iov_base);
			pf_op_read_end(fs, rd);
		}
		ok = describe_attrs(fs, (uint64_t)ino, text, &at);
		at += (size_t)snprintf(text + at, TEXT - at, "\n");
	}
	free(rd);
	return ok && at < TEXT;
}

/* ---- crashes ---- */

struct run {
	struct judged j;
	char before[TEXT], half[TEXT], after[TEXT];
};

static const char *look_at(struct judged *j, struct pf_pm *image)
{
	struct run *r = PF_CONTAINER_OF(j, struct run, j);
	char *now = malloc(TEXT);
	const bool check = j->images % 3 == 0;
	const char *why = NULL;
	struct pf_fs *fs;

	if (check && !judged_sound(image))
		why = "fsck before the mount";
	if (why == NULL && core_mount(image, &fs, &why) == 0) {
		if (!get(fs, now))
			why = "cannot be read";
		else if (strcmp(now, r->after) != 0 &&
			 (j->returned || (strcmp(now, r->before) != 0 && strcmp(now, r->half) != 0)))
			why = j->returned ? "returned, and not all of it is there" : "neither before nor after";
		core_unmount(fs);
	}
	if (why == NULL && check && !judged_sound(image))
		why = "fsck after the mount";
	j->checks += check;
	free(now);
	return why;
}

/* ---- steps ---- */

static uint64_t find(struct pf_fs *fs, const char *path)
{
	int64_t ino = core_find(fs, path);

	must(ino);
	return (uint64_t)ino;
}

static void set(struct pf_fs *fs, const char *path, const char *name, unsigned int from, size_t len)
{
	must(pf_op_setxattr(fs, find(fs, path), name, bytes + from, len, 0, false));
}

/* Entries for so many users: a long list has its value in blocks. */
static void set_list(struct pf_fs *fs, const char *path, const char *name, unsigned int users)
{
	struct { uint32_t version; struct { uint16_t tag, perm; uint32_t id; } e[300]; } l = { .version = 2 };
	unsigned int n = 0;

	l.e[n].tag = ACL_USER_OBJ;
	l.e[n++].perm = 7;
	for (unsigned int i = 0; i < users; i++, n++) {
		l.e[n].tag = ACL_USER;
		l.e[n].perm = 6;
		l.e[n].id = 100 + i;
	}
	l.e[n].tag = ACL_GROUP_OBJ;
	l.e[n++].perm = 5;
	l.e[n].tag = ACL_MASK;
	l.e[n++].perm = 7;
	l.e[n].tag = ACL_OTHER;
	l.e[n++].perm = 1;
	must(pf_op_setxattr(fs, find(fs, path), name, &l, 4 + 8 * n, 0, false));
}

static void nothing(struct pf_fs *fs) { (void)fs; }
static void b_big(struct pf_fs *fs) { set(fs, "/f", "user.big", 0, 60000); }
static void b_seven(struct pf_fs *fs)
{
	char name[16];

	for (unsigned int i = 0; i < 7; i++) {
		(void)snprintf(name, sizeof name, "user.%u", i);
		set(fs, "/f", name, i, 540);
	}
}
static void b_two_leaves(struct pf_fs *fs)
{
	b_seven(fs);
	set(fs, "/f", "user.7", 7, 540);
	for (unsigned int i = 0; i < 6; i++) {
		char name[16];

		(void)snprintf(name, sizeof name, "user.%u", i);
		must(pf_op_removexattr(fs, find(fs, "/f"), name));
	}
}
static void b_list(struct pf_fs *fs) { set_list(fs, "/f", ACCESS_LIST, 3); }
static void b_default(struct pf_fs *fs) { set_list(fs, "/d", DEFAULT_LIST, 3); }
static void b_long_default(struct pf_fs *fs) { set_list(fs, "/d", DEFAULT_LIST, 200); }
static void b_cap(struct pf_fs *fs)
{
	must(core_write(fs, "/f", 0, bytes + 1, 10));
	set(fs, "/f", PF_XATTR_CAP, 0, 20);
	set(fs, "/f", "user.stays", 0, 20);
}
static void b_many(struct pf_fs *fs)
{
	char name[16];

	for (unsigned int i = 0; i < 120; i++) {
		(void)snprintf(name, sizeof name, "user.%u", i);
		set(fs, "/f", name, i, i % 2 == 0 ? 5000 : 700);
	}
}

static void s_small(struct pf_fs *fs) { set(fs, "/f", "user.small", 3, 100); }
static void s_big(struct pf_fs *fs) { set(fs, "/f", "user.big", 5000, 50000); }
static void s_split(struct pf_fs *fs) { set(fs, "/f", "user.7", 7, 540); }
static void s_remove(struct pf_fs *fs) { must(pf_op_removexattr(fs, find(fs, "/f"), "user.6")); }
static void s_remove_big(struct pf_fs *fs) { must(pf_op_removexattr(fs, find(fs, "/f"), "user.big")); }
static void s_chmod(struct pf_fs *fs) { must(core_chmod(fs, "/f", 0710)); }
static void s_create(struct pf_fs *fs) { must(core_create(fs, "/d/file")); }
static void s_mkdir(struct pf_fs *fs) { must(core_mkdir(fs, "/d/sub")); }
static void s_mkfifo(struct pf_fs *fs) { must(core_mknod(fs, "/d/fifo", S_IFIFO | 0666, 0)); }
static void s_write(struct pf_fs *fs) { must(core_write(fs, "/f", 0, bytes, 10)); }
static void h_write(struct pf_fs *fs) { must(pf_op_removexattr(fs, find(fs, "/f"), PF_XATTR_CAP)); }
static void s_unlink(struct pf_fs *fs) { must(core_unlink(fs, "/f")); }

struct step {
	const char *name;
	void (*before)(struct pf_fs *fs), (*step)(struct pf_fs *fs);
	void (*half)(struct pf_fs *fs);		/* what else may be found: NULL, nothing */
	unsigned int least_drains;
};

static const struct step steps[] = {
	{ "the first one", nothing, s_small, NULL, 4 },
	{ "a long value", nothing, s_big, NULL, 5 },
	{ "a long value for another", b_big, s_big, NULL, 4 },
	{ "a leaf splits", b_seven, s_split, NULL, 4 },
	{ "a leaf goes", b_two_leaves, s_remove, NULL, 3 },
	{ "a long value goes", b_big, s_remove_big, NULL, 3 },
	{ "list and mode", nothing, b_list, NULL, 4 },
	{ "mode and list", b_list, s_chmod, NULL, 3 },
	{ "a file with its list", b_default, s_create, NULL, 3 },
	{ "a directory with its lists", b_default, s_mkdir, NULL, 3 },
	{ "a fifo with a long list", b_long_default, s_mkfifo, NULL, 4 },
	{ "a directory with long lists", b_long_default, s_mkdir, NULL, 5 },
	{ "a write takes the capability", b_cap, s_write, h_write, 4 },
	{ "the inode goes", b_many, s_unlink, NULL, 9 },
};

static void see(struct pf_fs *fs, void *text)
{
	CU_ASSERT_FATAL(get(fs, text));
}

static void run_step(const struct step *s, unsigned int skip, struct run *r)
{
	struct pf_pm *pm;
	struct pf_fs *fs = judged_new(&pm, DEV, 0);

	must(core_create(fs, "/f"));
	must(core_mkdir(fs, "/d"));
	s->before(fs);
	see(fs, r->before);
	judged_rehearse(pm, s->step, see, r->after);
	judged_rehearse(pm, s->half != NULL ? s->half : nothing, see, r->half);
	CU_ASSERT_STRING_NOT_EQUAL(r->before, r->after);
	r->j.look = look_at;
	r->j.name = s->name;
	CU_ASSERT(judged_step(&r->j, pm, fs, s->step, 8, skip) >= s->least_drains);
}

static void promise(void)
{
	struct run *r = calloc(1, sizeof *r);

	for (size_t i = 0; i < PF_ARRAY_LEN(steps); i++) {
		run_step(&steps[i], UINT32_MAX, r);
		CU_ASSERT_EQUAL(r->j.bad, 0);
		r->j.bad = 0;
	}
	CU_ASSERT(r->j.images > 500);
	CU_ASSERT(r->j.checks > 100);
	free(r);
}

/* A file that is given its list when it is there already: some images have it without. */
static void create_then_set(struct pf_fs *fs)
{
	must(core_create(fs, "/d/file"));
	set_list(fs, "/d/file", ACCESS_LIST, 3);
}

static void twin_inheritance(void)
{
	static const struct step late = { "a list that comes late", nothing, create_then_set, NULL, 3 };
	struct run *r = calloc(1, sizeof *r);

	r->j.quiet = true;
	run_step(&late, UINT32_MAX, r);
	CU_ASSERT(r->j.bad > 0);
	free(r);
}

/* Without the drain of its blocks, the record of a value vouches for bytes that are not there. */
static void twin_drain(void)
{
	struct run *r = calloc(1, sizeof *r);

	r->j.quiet = true;
	run_step(&steps[2], 0, r);
	CU_ASSERT(r->j.bad > 0);
	free(r);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "before or after, at each drain", promise },
		{ "twin: a list that comes late", twin_inheritance },
		{ "twin: a value not drained", twin_drain },
	};

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 37 + i / 256 + 1);
	pf_log_init("test_crash_xattr", PF_LOG_ERR, false);
	return unit_main("crash/xattr", cases, PF_ARRAY_LEN(cases));
}
