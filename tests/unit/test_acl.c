/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_acl.c - access control lists below FUSE: a list and the mode that shows it change together, lists that are none,
 * what directories hand down, and who may.
 */
#include "harness/unit.h"

#include <errno.h>
#include <linux/posix_acl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "base/log.h"
#include "op/acl.h"
#include "unit/op_env.h"

#define MIB (UINT64_C(1) << 20)

static struct pf_acl list_of(const struct pf_acl_ent *ent, unsigned int n)
{
	static struct pf_acl acl;

	acl.n = n;
	memcpy(acl.e, ent, n * sizeof *ent);
	return acl;
}

#define LIST(...) list_of((const struct pf_acl_ent[]){ __VA_ARGS__ }, \
			  sizeof((const struct pf_acl_ent[]){ __VA_ARGS__ }) / sizeof(struct pf_acl_ent))

static int set_list(struct op_env *e, uint64_t ino, const char *name, struct pf_acl acl)
{
	uint8_t blob[PF_ACL_BYTES];
	size_t len = pf_acl_format(&acl, blob);

	return pf_op_setxattr(e->fs, ino, name, blob, len, 0, false);
}

/* As getfacl(1) would: "u7:rw- ..." is too long, so tag/id/perm in hex. */
static const char *show(struct op_env *e, uint64_t ino, const char *name)
{
	static char text[1024];
	uint8_t blob[PF_ACL_BYTES];
	struct pf_acl acl;
	size_t len, at = 0;

	if (pf_op_getxattr(e->fs, ino, name, blob, sizeof blob, &len) != 0)
		return "none";
	if (pf_acl_parse(blob, len, &acl) != 0)
		return "bad";
	text[0] = '\0';
	for (unsigned int i = 0; i < acl.n; i++) {
		static const char *const tag[] = { [1] = "o", [2] = "u", [4] = "g", [8] = "G", [16] = "m", [32] = "r" };

		at += (size_t)sprintf(text + at, "%s%s", i == 0 ? "" : " ", tag[acl.e[i].tag]);
		if (acl.e[i].tag == ACL_USER || acl.e[i].tag == ACL_GROUP)
			at += (size_t)sprintf(text + at, "%u", acl.e[i].id);
		at += (size_t)sprintf(text + at, "%o", acl.e[i].perm);
	}
	return text;
}

static mode_t mode_of(struct op_env *e, uint64_t ino)
{
	struct stat st;

	CU_ASSERT_EQUAL_FATAL(pf_op_getattr(e->fs, ino, &st, NULL), 0);
	return st.st_mode & 07777;
}

#define FULL { ACL_USER_OBJ, 7, 0 }, { ACL_USER, 6, 7 }, { ACL_GROUP_OBJ, 5, 0 }, { ACL_GROUP, 4, 9 }, \
	     { ACL_MASK, 6, 0 }, { ACL_OTHER, 1, 0 }

static void list_and_mode(void)
{
	struct stat st = { .st_mode = 0640 };
	uint64_t ino, dir;
	struct op_env e;

	op_env_open(&e, 16 * MIB);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 02644, &ino), 0);
	CU_ASSERT_EQUAL_FATAL(op_mkdir(&e, PF_INO_ROOT, "d", &dir), 0);

	/* A list shows in the mode: owner, mask, others. */
	CU_ASSERT_EQUAL(set_list(&e, ino, PF_ACL_ACCESS, LIST(FULL)), 0);
	CU_ASSERT_EQUAL(mode_of(&e, ino), 02761);
	CU_ASSERT_STRING_EQUAL(show(&e, ino, PF_ACL_ACCESS), "o7 u76 g5 G94 m6 r1");
	/* And the mode in the list. */
	CU_ASSERT_EQUAL(op_setattr(&e, ino, PF_SET_MODE, &st), 0);
	CU_ASSERT_STRING_EQUAL(show(&e, ino, PF_ACL_ACCESS), "o6 u76 g5 G94 m4 r0");
	st.st_size = 0;
	st.st_mode = 0750;
	CU_ASSERT_EQUAL(op_write(&e, ino, 0, "x", 1), 1);
	CU_ASSERT_EQUAL(op_setattr(&e, ino, PF_SET_MODE | PF_SET_SIZE, &st), 0);
	CU_ASSERT_STRING_EQUAL(show(&e, ino, PF_ACL_ACCESS), "o7 u76 g5 G94 m5 r0");
	op_env_remount(&e);
	CU_ASSERT_STRING_EQUAL(show(&e, ino, PF_ACL_ACCESS), "o7 u76 g5 G94 m5 r0");
	CU_ASSERT_EQUAL(mode_of(&e, ino), 0750);
	/* One that says no more than a mode is not kept; taking a list away leaves the mode. */
	CU_ASSERT_EQUAL(set_list(&e, ino, PF_ACL_ACCESS,
				 LIST({ ACL_USER_OBJ, 6, 0 }, { ACL_GROUP_OBJ, 2, 0 }, { ACL_OTHER, 4, 0 })), 0);
	CU_ASSERT_EQUAL(mode_of(&e, ino), 0624);
	CU_ASSERT_STRING_EQUAL(show(&e, ino, PF_ACL_ACCESS), "none");
	CU_ASSERT_EQUAL(set_list(&e, ino, PF_ACL_ACCESS, LIST(FULL)), 0);
	CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, PF_ACL_ACCESS), 0);
	CU_ASSERT_EQUAL(mode_of(&e, ino), 0761);
	CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, PF_ACL_ACCESS), 0);
	CU_ASSERT_EQUAL(op_blocks(&e, ino), 0);
	/* Default lists are for directories and touch no mode; other files can have none. */
	CU_ASSERT_EQUAL(set_list(&e, ino, PF_ACL_DEFAULT, LIST(FULL)), -EACCES);
	CU_ASSERT_EQUAL(set_list(&e, dir, PF_ACL_DEFAULT, LIST(FULL)), 0);
	CU_ASSERT_EQUAL(mode_of(&e, dir), 0755);
	/* Set-gid goes when the caller is not of the group. */
	st.st_mode = 02755;
	CU_ASSERT_EQUAL(op_setattr(&e, ino, PF_SET_MODE, &st), 0);
	{
		struct pf_acl acl = LIST(FULL);
		uint8_t blob[PF_ACL_BYTES];
		size_t len = pf_acl_format(&acl, blob);

		CU_ASSERT_EQUAL(pf_op_setxattr(e.fs, ino, PF_ACL_ACCESS, blob, len, 0, true), 0);
	}
	CU_ASSERT_EQUAL(mode_of(&e, ino), 0761);
	op_env_close(&e);
}

static void bad_lists(void)
{
	const struct { struct pf_acl_ent e[6]; unsigned int n; int want; } t[] = {
		{ { FULL }, 6, 0 },
		{ { { 1, 6, 0 }, { 4, 6, 0 }, { 32, 6, 0 } }, 3, 0 },
		{ { { 1, 6, 0 }, { 4, 6, 0 }, { 16, 6, 0 }, { 32, 6, 0 } }, 4, 0 },
		{ { { 1, 6, 0 }, { 4, 6, 0 } }, 2, -EINVAL },
		{ { { 4, 6, 0 }, { 1, 6, 0 }, { 32, 6, 0 } }, 3, -EINVAL },
		{ { { 1, 8, 0 }, { 4, 6, 0 }, { 32, 6, 0 } }, 3, -EINVAL },
		{ { { 1, 6, 0 }, { 1, 6, 0 }, { 4, 6, 0 }, { 32, 6, 0 } }, 4, -EINVAL },
		{ { { 1, 6, 0 }, { 2, 6, 5 }, { 4, 6, 0 }, { 32, 6, 0 } }, 4, -EINVAL },	/* no mask */
		{ { { 1, 6, 0 }, { 4, 6, 0 }, { 8, 6, 5 }, { 32, 6, 0 } }, 4, -EINVAL },
		{ { { 1, 6, 0 }, { 2, 6, UINT32_MAX }, { 4, 6, 0 }, { 16, 6, 0 }, { 32, 6, 0 } }, 5, -EINVAL },
		{ { { 1, 6, 0 }, { 4, 6, 0 }, { 64, 6, 0 }, { 32, 6, 0 } }, 4, -EINVAL },
		{ { { 1, 6, 0 }, { 4, 6, 0 }, { 32, 6, 0 }, { 32, 6, 0 } }, 4, -EINVAL },
	};
	struct pf_acl acl, back;
	uint8_t blob[PF_ACL_BYTES + 8];
	uint64_t ino;
	struct op_env e;
	size_t len;

	op_env_open(&e, 16 * MIB);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 0644, &ino), 0);
	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		acl = list_of(t[i].e, t[i].n);
		len = pf_acl_format(&acl, blob);
		memset(blob + len, 0, 8);
		for (unsigned int k = 0; k < t[i].n; k++)	/* as given, whatever it is */
			memcpy(blob + 4 + 8 * k + 4, &t[i].e[k].id, 4);
		CU_ASSERT_EQUAL(pf_acl_parse(blob, len, &back), t[i].want);
		CU_ASSERT_EQUAL(pf_op_setxattr(e.fs, ino, PF_ACL_ACCESS, blob, len, 0, false), t[i].want);
		CU_ASSERT_EQUAL(pf_op_setxattr(e.fs, ino, PF_ACL_ACCESS, blob, len - 1, 0, false), -EINVAL);
		blob[0]++;
		CU_ASSERT_EQUAL(pf_op_setxattr(e.fs, ino, PF_ACL_ACCESS, blob, len, 0, false), -EOPNOTSUPP);
	}
	CU_ASSERT_EQUAL(pf_op_setxattr(e.fs, ino, PF_ACL_ACCESS, "ab", 2, 0, false), -EINVAL);
	/* As long as the kernel can carry, in blocks of its own; and no longer. */
	acl = LIST(FULL);
	acl.n = PF_ACL_ENTRIES;
	for (unsigned int i = 1; i < acl.n; i++)
		acl.e[i] = (struct pf_acl_ent){ ACL_USER, 4, i };
	acl.e[acl.n - 3] = (struct pf_acl_ent){ ACL_GROUP_OBJ, 4, 0 };
	acl.e[acl.n - 2] = (struct pf_acl_ent){ ACL_MASK, 4, 0 };
	acl.e[acl.n - 1] = (struct pf_acl_ent){ ACL_OTHER, 4, 0 };
	len = pf_acl_format(&acl, blob);
	CU_ASSERT_EQUAL(pf_op_setxattr(e.fs, ino, PF_ACL_ACCESS, blob, len, 0, false), 0);
	CU_ASSERT_EQUAL(op_blocks(&e, ino), 2);
	CU_ASSERT_EQUAL(pf_op_setxattr(e.fs, ino, PF_ACL_ACCESS, blob, len + 8, 0, false), -E2BIG);
	CU_ASSERT_EQUAL(pf_op_removexattr(e.fs, ino, PF_ACL_ACCESS), 0);
	op_env_close(&e);
}

/* A default list: with the file, instead of the umask, cut down by the mode that was asked for. */
static void inheritance(void)
{
	const struct pf_cred who = { .uid = 5, .gid = 6, .pid = 1, .umask = 077 };
	struct pf_entry f, d, l, p, t;
	uint64_t dir;
	struct op_env e;

	op_env_open(&e, 16 * MIB);
	CU_ASSERT_EQUAL_FATAL(op_mkdir(&e, PF_INO_ROOT, "d", &dir), 0);
	CU_ASSERT_EQUAL_FATAL(pf_op_mknod(e.fs, &who, dir, "plain", S_IFREG | 0666, 0, &f), 0);
	CU_ASSERT_EQUAL(mode_of(&e, f.ino), 0600);
	pf_op_forget(e.fs, f.ino, 1);
	CU_ASSERT_EQUAL(set_list(&e, dir, PF_ACL_DEFAULT, LIST(FULL)), 0);

	CU_ASSERT_EQUAL_FATAL(pf_op_mknod(e.fs, &who, dir, "f", S_IFREG | 0666, 0, &f), 0);
	CU_ASSERT_EQUAL(mode_of(&e, f.ino), 0660);
	CU_ASSERT_EQUAL(f.st.st_mode & 07777, 0660);
	CU_ASSERT_STRING_EQUAL(show(&e, f.ino, PF_ACL_ACCESS), "o6 u76 g5 G94 m6 r0");
	CU_ASSERT_STRING_EQUAL(show(&e, f.ino, PF_ACL_DEFAULT), "none");
	CU_ASSERT_EQUAL_FATAL(pf_op_mkdir(e.fs, &who, dir, "d", 0700, &d), 0);
	CU_ASSERT_EQUAL(mode_of(&e, d.ino), 0700);
	CU_ASSERT_STRING_EQUAL(show(&e, d.ino, PF_ACL_ACCESS), "o7 u76 g5 G94 m0 r0");
	CU_ASSERT_STRING_EQUAL(show(&e, d.ino, PF_ACL_DEFAULT), "o7 u76 g5 G94 m6 r1");
	CU_ASSERT_EQUAL_FATAL(pf_op_symlink(e.fs, &who, dir, "l", "f", &l), 0);
	CU_ASSERT_EQUAL(mode_of(&e, l.ino), 0777);
	CU_ASSERT_STRING_EQUAL(show(&e, l.ino, PF_ACL_DEFAULT), "none");
	CU_ASSERT_EQUAL_FATAL(pf_op_mknod(e.fs, &who, dir, "p", S_IFIFO | 0644, 0, &p), 0);
	CU_ASSERT_STRING_EQUAL(show(&e, p.ino, PF_ACL_ACCESS), "o6 u76 g5 G94 m4 r0");
	CU_ASSERT_EQUAL_FATAL(pf_op_tmpfile(e.fs, &who, dir, 0600, true, &t), 0);
	CU_ASSERT_STRING_EQUAL(show(&e, t.ino, PF_ACL_ACCESS), "o6 u76 g5 G94 m0 r0");
	pf_op_forget(e.fs, t.ino, 1);

	/* One without names leaves a mode and nothing else, but is handed down to directories. */
	CU_ASSERT_EQUAL(set_list(&e, d.ino, PF_ACL_DEFAULT,
				 LIST({ ACL_USER_OBJ, 7, 0 }, { ACL_GROUP_OBJ, 5, 0 }, { ACL_OTHER, 0, 0 })), 0);
	CU_ASSERT_EQUAL_FATAL(pf_op_mknod(e.fs, &who, d.ino, "f", S_IFREG | 0666, 0, &t), 0);
	CU_ASSERT_EQUAL(mode_of(&e, t.ino), 0640);
	CU_ASSERT_STRING_EQUAL(show(&e, t.ino, PF_ACL_ACCESS), "none");
	pf_op_forget(e.fs, t.ino, 1);
	CU_ASSERT_EQUAL_FATAL(pf_op_mkdir(e.fs, &who, d.ino, "d", 0777, &t), 0);
	CU_ASSERT_STRING_EQUAL(show(&e, t.ino, PF_ACL_DEFAULT), "o7 g5 r0");
	pf_op_forget(e.fs, t.ino, 1);
	pf_op_forget(e.fs, f.ino, 1);
	pf_op_forget(e.fs, d.ino, 1);
	pf_op_forget(e.fs, l.ino, 1);
	pf_op_forget(e.fs, p.ino, 1);
	op_env_close(&e);
}

static void who_may(void)
{
	static const struct { uid_t uid; gid_t gid; int want, answer; } t[] = {
		{ 5, 99, R_OK | W_OK | X_OK, 0 },	/* the owner: 7, the mask is not for him */
		{ 7, 99, R_OK | W_OK, 0 },		/* named: 6 & 6 */
		{ 7, 99, X_OK, -EACCES },
		{ 8, 6, R_OK, 0 },			/* the group: 5 & 6 */
		{ 8, 6, X_OK, -EACCES },
		{ 8, 9, R_OK, 0 },			/* a named group: 4 & 6 */
		{ 8, 9, X_OK, -EACCES },		/* and what others may is not for it */
		{ 8, 99, X_OK, 0 },			/* others: 1 */
		{ 8, 99, R_OK, -EACCES },
		{ 0, 0, R_OK | W_OK, 0 },
	};
	struct stat st = { .st_uid = 5, .st_gid = 6 };
	struct op_env e;
	uint64_t ino;

	op_env_open(&e, 16 * MIB);
	CU_ASSERT_EQUAL_FATAL(op_create(&e, PF_INO_ROOT, "f", 0644, &ino), 0);
	CU_ASSERT_EQUAL(op_setattr(&e, ino, PF_SET_UID | PF_SET_GID, &st), 0);
	CU_ASSERT_EQUAL(set_list(&e, ino, PF_ACL_ACCESS, LIST(FULL)), 0);
	for (size_t i = 0; i < PF_ARRAY_LEN(t); i++) {
		const struct pf_cred c = { .uid = t[i].uid, .gid = t[i].gid, .pid = 1 };
		const gid_t many[] = { 1234, t[i].gid };
		const struct pf_cred m = { .uid = t[i].uid, .gid = 4321, .pid = 1, .groups = many, .ngroup = 2 };

		if (pf_op_access(e.fs, &c, ino, t[i].want) != t[i].answer ||
		    pf_op_access(e.fs, &m, ino, t[i].want) != t[i].answer) {
			CU_FAIL("access");
			(void)printf("\n\tcase %zu: not %d\n", i, t[i].answer);
		}
	}
	op_env_close(&e);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "access list and mode", list_and_mode },
		{ "access lists that are none", bad_lists },
		{ "default lists", inheritance },
		{ "who may", who_may },
	};

	pf_log_init("test_acl", PF_LOG_ERR, false);
	return unit_main("acl", cases, PF_ARRAY_LEN(cases));
}
