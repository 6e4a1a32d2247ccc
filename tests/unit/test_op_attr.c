/* SPDX-License-Identifier: BSD-3-Clause */
/* test_op_attr.c - attributes: what sets which time, set-id bits, sizes together with other attributes, access,
 * statfs. */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "harness/unit.h"
#include "unit/op_env.h"

static struct stat stat_of(struct op_env *e, uint64_t ino)
{
	struct stat st = { 0 };

	CU_ASSERT_EQUAL(pf_op_getattr(e->fs, ino, &st, NULL), 0);
	return st;
}

/* All times back to the beginning, so that any change shows. */
static void rewind_times(struct op_env *e, uint64_t ino)
{
	struct stat st = { .st_atim = { 1, 1 }, .st_mtim = { 2, 2 }, .st_ctim = { 3, 3 } };

	CU_ASSERT_EQUAL(op_setattr(e, ino, PF_SET_ATIME | PF_SET_MTIME | PF_SET_CTIME, &st), 0);
	st = stat_of(e, ino);
	CU_ASSERT(st.st_atim.tv_sec == 1 && st.st_mtim.tv_nsec == 2 && st.st_ctim.tv_sec == 3);
}

enum { A = 1, M = 2, C = 4 };

static int changed(struct op_env *e, uint64_t ino)
{
	struct stat st = stat_of(e, ino);
	time_t now = time(NULL);
	int which = 0;

	CU_ASSERT(st.st_atim.tv_sec == 1 || st.st_atim.tv_sec >= now - 60);
	which |= st.st_atim.tv_sec != 1 ? A : 0;
	which |= st.st_mtim.tv_sec != 2 ? M : 0;
	which |= st.st_ctim.tv_sec != 3 ? C : 0;
	rewind_times(e, ino);
	return which;
}

static void test_times(void)
{
	uint64_t dir, f, other;
	struct op_env e;
	struct stat st;
	char buf[10];

	op_env_open(&e, 16 << 20);
	CU_ASSERT_EQUAL(op_mkdir(&e, PF_INO_ROOT, "d", &dir), 0);
	CU_ASSERT_EQUAL(op_create(&e, dir, "f", S_IFREG | 0600, &f), 0);
	rewind_times(&e, dir);
	rewind_times(&e, f);

	CU_ASSERT_EQUAL(op_write(&e, f, 0, "0123456789", 10), 10);
	CU_ASSERT_EQUAL(changed(&e, f), M | C);
	CU_ASSERT_EQUAL(op_write(&e, f, 3, "x", 1), 1);		/* in place */
	CU_ASSERT_EQUAL(changed(&e, f), M | C);
	CU_ASSERT_EQUAL(op_truncate(&e, f, 5), 0);
	CU_ASSERT_EQUAL(changed(&e, f), M | C);
	CU_ASSERT_EQUAL(op_truncate(&e, f, 5), 0);		/* no change of size is a change too */
	CU_ASSERT_EQUAL(changed(&e, f), M | C);
	CU_ASSERT_EQUAL(op_truncate(&e, f, 5000), 0);
	CU_ASSERT_EQUAL(changed(&e, f), M | C);
	CU_ASSERT_EQUAL(op_falloc(&e, f, 0, 0, 100000), 0);
	CU_ASSERT_EQUAL(changed(&e, f), M | C);
	st.st_mode = 0640;
	CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_MODE, &st), 0);
	CU_ASSERT_EQUAL(changed(&e, f), C);
	CU_ASSERT_EQUAL(changed(&e, dir), 0);

	/* relatime: the first read after a change, not the second. */
	CU_ASSERT_EQUAL(op_read(&e, f, 0, buf, 5), 5);
	CU_ASSERT_EQUAL(changed(&e, f), A);
	st.st_atim = (struct timespec){ time(NULL) - 1000, 0 };
	CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_ATIME, &st), 0);
	st.st_ctim = (struct timespec){ 3, 3 };
	CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_CTIME, &st), 0);
	CU_ASSERT_EQUAL(op_read(&e, f, 0, buf, 5), 5);
	CU_ASSERT(stat_of(&e, f).st_atim.tv_sec <= time(NULL) - 999);

	/* Names change the directory's times and the inode's ctime. */
	rewind_times(&e, f);
	rewind_times(&e, dir);
	CU_ASSERT_EQUAL(op_create(&e, dir, "g", S_IFREG | 0600, &other), 0);
	CU_ASSERT_EQUAL(changed(&e, dir), M | C);
	CU_ASSERT_EQUAL(pf_op_rename(e.fs, &op_root, dir, "f", dir, "h", 0), 0);
	CU_ASSERT_EQUAL(changed(&e, dir), M | C);
	CU_ASSERT_EQUAL(changed(&e, f), C);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, dir, "g"), 0);
	CU_ASSERT_EQUAL(changed(&e, dir), M | C);

	/* Set times stay over a remount, ns and years before 1970 included. */
	st = (struct stat){ .st_atim = { -5, 999999999 }, .st_mtim = { INT64_C(5000000000), 123456789 } };
	CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_ATIME | PF_SET_MTIME, &st), 0);
	op_env_remount(&e);
	st = stat_of(&e, f);
	CU_ASSERT(st.st_atim.tv_sec == -5 && st.st_atim.tv_nsec == 999999999);
	CU_ASSERT(st.st_mtim.tv_sec == INT64_C(5000000000) && st.st_mtim.tv_nsec == 123456789);
	op_env_close(&e);
}

struct sync_write { struct pf_areq r; ssize_t res; bool done; };

static void write_done(struct pf_areq *r, ssize_t res)
{
	struct sync_write *w = PF_CONTAINER_OF(r, struct sync_write, r);

	w->res = res;
	w->done = true;
}

static void test_set_id(void)
{
	struct sync_write w = { .r = { .op = PF_AOP_WRITE, .ar_done = write_done,
				       .write = { .buf = "x", .len = 1, .kill_priv = PF_KILL_PRIV } } };
	struct op_env e;
	struct stat st;
	uint64_t f;

	op_env_open(&e, 16 << 20);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG | 06755, &f), 0);
	CU_ASSERT_EQUAL(op_write(&e, f, 0, "x", 1), 1);
	CU_ASSERT_EQUAL(stat_of(&e, f).st_mode & 07777, 06755);	/* root may */
	for (int again = 0; again < 2; again++) {
		/* Once in place, once with growth. */
		st.st_mode = 06755;
		CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_MODE, &st), 0);
		w.r.ino = f;
		w.r.write.off = again ? 100000 : 0;
		w.done = false;
		pf_op_start(e.fs, &w.r);
		CU_ASSERT(w.done && w.res == 1);
		CU_ASSERT_EQUAL(stat_of(&e, f).st_mode & 07777, 0755);
	}
	/* Mandatory-locking style set-gid without group-execute stays. */
	st.st_mode = 06745;
	CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_MODE, &st), 0);
	CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_KILL_PRIV, &st), 0);
	CU_ASSERT_EQUAL(st.st_mode & 07777, 02745);
	/* chown by anybody clears them. */
	st.st_mode = 06755;
	CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_MODE, &st), 0);
	st.st_uid = 5;
	CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_UID, &st), 0);
	CU_ASSERT(st.st_uid == 5 && (st.st_mode & 07777) == 0755);
	/* A size and other attributes in one call: all of it, at once. */
	st.st_size = 3;
	st.st_mode = 0600;
	st.st_mtim = (struct timespec){ 77, 7 };
	CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_SIZE | PF_SET_MODE | PF_SET_MTIME, &st), 0);
	CU_ASSERT(st.st_size == 3 && (st.st_mode & 07777) == 0600 && st.st_mtim.tv_sec == 77);
	op_env_remount(&e);
	st = stat_of(&e, f);
	CU_ASSERT(st.st_size == 3 && (st.st_mode & 07777) == 0600 && st.st_mtim.tv_sec == 77);
	op_env_close(&e);
}

static void test_access(void)
{
	const struct pf_cred owner = { .uid = 10, .gid = 20 }, group = { .uid = 11, .gid = 20 };
	const gid_t many[] = { 7, 20, 9 };
	const struct pf_cred other = { .uid = 11, .gid = 21 };
	const struct pf_cred member = { .uid = 11, .gid = 21, .groups = many, .ngroup = 3 };
	struct op_env e;
	struct stat st = { .st_mode = 0640, .st_uid = 10, .st_gid = 20 };
	uint64_t f;

	op_env_open(&e, 16 << 20);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG, &f), 0);
	CU_ASSERT_EQUAL(op_setattr(&e, f, PF_SET_MODE | PF_SET_UID | PF_SET_GID, &st), 0);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &owner, f, R_OK | W_OK), 0);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &owner, f, X_OK), -EACCES);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &group, f, R_OK), 0);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &group, f, W_OK), -EACCES);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &other, f, R_OK), -EACCES);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &other, f, F_OK), 0);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &member, f, R_OK), 0);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &member, f, W_OK), -EACCES);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &op_root, f, R_OK | W_OK), 0);
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &op_root, f, X_OK), -EACCES);	/* nobody may */
	CU_ASSERT_EQUAL(pf_op_access(e.fs, &op_root, PF_INO_ROOT, X_OK), 0);
	op_env_close(&e);
}

/* What statfs says is what can be written: no more, and not much less. */
static void test_statfs(void)
{
	static char buf[1 << 20];
	struct statvfs sv, after;
	uint64_t f, total = 0;
	struct op_env e;
	ssize_t n;

	op_env_open(&e, 64 << 20);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG, &f), 0);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &sv), 0);
	CU_ASSERT(sv.f_bsize == 4096 && sv.f_namemax == 255 && sv.f_blocks == (64 << 20) / 4096);
	CU_ASSERT(sv.f_bavail <= sv.f_bfree && sv.f_bfree < sv.f_blocks);
	CU_ASSERT(sv.f_files > sv.f_ffree);
	while ((n = op_append(&e, f, buf, sizeof buf)) > 0)
		total += (uint64_t)n;
	CU_ASSERT_EQUAL(n, -ENOSPC);
	CU_ASSERT(total / 4096 <= sv.f_bavail && total / 4096 + 4 >= sv.f_bavail);
	CU_ASSERT_EQUAL(pf_op_statfs(e.fs, &after), 0);
	CU_ASSERT_EQUAL(sv.f_bfree - after.f_bfree, (uint64_t)stat_of(&e, f).st_blocks / 8);
	CU_ASSERT_EQUAL(pf_op_fsync(e.fs, f, false), 0);
	op_env_close(&e);
}

static const struct unit_case cases[] = {
	{ "which call sets which time", test_times },
	{ "set-id bits; several attributes at once", test_set_id },
	{ "access", test_access },
	{ "statfs is true", test_statfs },
};

int main(void)
{
	return unit_main("op_attr", cases, PF_ARRAY_LEN(cases));
}
