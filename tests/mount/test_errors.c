/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_errors.c - damage that is found while a filesystem is in use: the call gets an error, then errors= decides what
 * becomes of the mount; status says what and why; and an image in which something was wrong is never marked clean.
 *
 * The damage is one byte of a directory leaf, changed in the image, which the daemon has mapped. The twin of each case
 * is the same filesystem without it, at the beginning and at the end of the case.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <pinfs/format.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

/* Device offset of the directory leaf that holds names of inode @dir; 0: none. */
static off_t find_leaf(const struct pt_fs *fs, uint64_t dir)
{
	int fd = open(fs->img, O_RDONLY | O_CLOEXEC);
	struct pf_d_hdr h;
	off_t at = 0;

	PT_SYS_FATAL(fd);
	while (pread(fd, &h, sizeof h, at) == (ssize_t)sizeof h) {
		if (pf_get32(h.h_magic) == PF_MAGIC_DIR && pf_get64(h.h_owner) == dir) {
			close(fd);
			return at;
		}
		at += (off_t)PF_BLK_SIZE;
	}
	close(fd);
	return 0;
}

/* Turn the last byte of the block around: the checksum is wrong, or right again. */
static void flip(const struct pt_fs *fs, off_t blk)
{
	int fd = open(fs->img, O_RDWR | O_CLOEXEC);
	const off_t at = blk + (off_t)PF_BLK_SIZE - 1;
	uint8_t b = 0;

	PT_SYS_FATAL(fd);
	PT_EQ(pread(fd, &b, 1, at), 1);
	b ^= 0xff;
	PT_EQ(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

static uint32_t super_state(const struct pt_fs *fs)
{
	int fd = open(fs->img, O_RDONLY | O_CLOEXEC);
	struct pf_d_super sb;

	PT_SYS_FATAL(fd);
	PT_EQ(pread(fd, &sb, sizeof sb, 0), (ssize_t)sizeof sb);
	close(fd);
	return pf_get32(sb.sb_state);
}

static int try_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static void make_file(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

	PT_SYS_FATAL(fd);
	PT_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* What `pinfsctl status` says of the mount. */
static void status_says(const struct pt_fs *fs, const char *words, const char *json_words)
{
	const char *text[] = { pt_program("pinfsctl"), "status", fs->mnt, NULL };
	const char *json[] = { pt_program("pinfsctl"), "status", "--json", fs->mnt, NULL };
	static char out[65536];

	PT_EQ(pt_run(out, sizeof out, 60000, text), 0);
	if (strstr(out, words) == NULL)
		pt_say("no \"%s\" in: %s", words, out);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, words));
	PT_EQ(pt_run(out, sizeof out, 60000, json), 0);
	if (strstr(out, json_words) == NULL)
		pt_say("no %s in: %s", json_words, out);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, json_words));
}

struct scene {
	struct pt_fs *fs;
	off_t leaf;
	int held;		/* open on "held" since before the damage */
};

/* d/f and two more files; mounted with @opts, "held" open, then the leaf of d damaged. */
static bool set_scene(struct scene *s, const char *opts)
{
	struct stat st;

	if (!pt_need_mount())
		return false;
	s->fs = pt_fs_start("16M", NULL);
	PT_SYS_FATAL(mkdir(pt_path(s->fs, "d"), 0755));
	make_file(pt_path(s->fs, "d/f"), "inside");
	make_file(pt_path(s->fs, "held"), "held");
	make_file(pt_path(s->fs, "other"), "other");
	PT_SYS_FATAL(stat(pt_path(s->fs, "d"), &st));
	PT_EQ(pt_fs_umount(s->fs), 0);
	CU_ASSERT(super_state(s->fs) & PF_SB_CLEAN);
	s->leaf = find_leaf(s->fs, st.st_ino);
	CU_ASSERT_FATAL(s->leaf != 0);
	PT_EQ(pt_fs_mount(s->fs, opts), 0);
	s->held = open(pt_path(s->fs, "held"), O_RDWR | O_CLOEXEC);
	PT_SYS_FATAL(s->held);
	status_says(s->fs, "waiting", "\"state\":\"ok\"");
	PT_EQ(try_open(pt_path(s->fs, "new"), O_CREAT | O_EXCL | O_RDWR), 0);
	flip(s->fs, s->leaf);
	PT_EQ(try_open(pt_path(s->fs, "d/f"), O_RDONLY), -EUCLEAN);
	return true;
}

static void end_scene(struct scene *s)
{
	PT_SYS(close(s->held));
	PT_EQ(pt_fs_umount(s->fs), 0);
	CU_ASSERT_FALSE(super_state(s->fs) & PF_SB_CLEAN);
	PT_EQ(pt_fs_fsck(s->fs), 4);
	/* The twin: without the damage the same image is sound, works, and becomes clean. */
	flip(s->fs, s->leaf);
	PT_EQ(pt_fs_fsck(s->fs), 0);
	PT_EQ(pt_fs_mount(s->fs, NULL), 0);
	PT_EQ(try_open(pt_path(s->fs, "d/f"), O_RDONLY), 0);
	PT_EQ(try_open(pt_path(s->fs, "newer"), O_CREAT | O_EXCL | O_RDWR), 0);
	PT_EQ(pt_fs_umount(s->fs), 0);
	CU_ASSERT(super_state(s->fs) & PF_SB_CLEAN);
	pt_fs_end(s->fs);
}

/* Every verb that changes something says EROFS; what can be read is read. */
static void nothing_changes(const struct scene *s)
{
	struct statvfs sv;
	char buf[8] = "";

	PT_FAILS(open(pt_path(s->fs, "x"), O_CREAT | O_RDWR, 0644), EROFS);
	PT_FAILS(mkdir(pt_path(s->fs, "x"), 0755), EROFS);
	PT_FAILS(symlink("y", pt_path(s->fs, "x")), EROFS);
	PT_FAILS(link(pt_path(s->fs, "other"), pt_path(s->fs, "x")), EROFS);
	PT_FAILS(unlink(pt_path(s->fs, "other")), EROFS);
	PT_FAILS(rename(pt_path(s->fs, "other"), pt_path(s->fs, "x")), EROFS);
	PT_FAILS(chmod(pt_path(s->fs, "other"), 0600), EROFS);
	PT_FAILS(truncate(pt_path(s->fs, "other"), 0), EROFS);
	PT_FAILS(open(pt_path(s->fs, "other"), O_RDWR | O_TRUNC), EROFS);
	PT_FAILS(pwrite(s->held, "x", 1, 0), EROFS);
	PT_FAILS(posix_fallocate(s->held, 0, 8192) == EROFS ? (errno = EROFS, -1) : 0, EROFS);
	PT_EQ(pread(s->held, buf, sizeof buf, 0), 4);
	CU_ASSERT_STRING_EQUAL(buf, "held");
	PT_EQ(try_open(pt_path(s->fs, "other"), O_RDONLY), 0);
	PT_SYS(statvfs(s->fs->mnt, &sv));
}

static void remount_ro(void)
{
	struct scene s;

	if (!set_scene(&s, NULL))		/* the default */
		return;
	nothing_changes(&s);
	status_says(s.fs, "damaged directory leaf", "\"state\":\"read-only\"");
	status_says(s.fs, "read-only since then", "\"why\":\"damaged directory leaf");
	end_scene(&s);
}

static void go_on(void)
{
	struct scene s;

	if (!set_scene(&s, "errors=continue"))
		return;
	PT_EQ(try_open(pt_path(s.fs, "d/f"), O_RDONLY), -EUCLEAN);
	PT_EQ(try_open(pt_path(s.fs, "x"), O_CREAT | O_EXCL | O_RDWR), 0);
	PT_EQ(pwrite(s.held, "x", 1, 0), 1);
	status_says(s.fs, "goes on", "\"state\":\"errors\"");
	end_scene(&s);
}

static void shut_down(void)
{
	struct scene s;
	struct statvfs sv;
	char c;

	if (!set_scene(&s, "errors=shutdown"))
		return;
	PT_FAILS(open(pt_path(s.fs, "x"), O_CREAT | O_RDWR, 0644), EIO);
	PT_FAILS(open(pt_path(s.fs, "other"), O_RDONLY), EIO);
	PT_FAILS(unlink(pt_path(s.fs, "other")), EIO);
	PT_FAILS(pread(s.held, &c, 1, 0), EIO);
	PT_FAILS(pwrite(s.held, "x", 1, 0), EIO);
	PT_FAILS(statvfs(s.fs->mnt, &sv), EIO);
	status_says(s.fs, "shut down", "\"state\":\"shutdown\"");
	end_scene(&s);
}

/* Writers that do not stop when the mount does: each of their calls ends, and after the first refusal none succeeds. */
struct writer { pthread_t thread; const struct scene *s; int id, wrote, last, late; };

static void *keep_writing(void *arg)
{
	struct writer *w = arg;
	bool refused = false;

	for (int i = 0;; i++) {
		int rc = try_open(pt_path(w->s->fs, "w%d-%d", w->id, i), O_CREAT | O_EXCL | O_RDWR);

		if (rc == 0) {
			w->wrote++;
			w->last = i;
			w->late += refused;
		} else if (rc == -ENOSPC) {
			continue;		/* not yet refused: the main thread is slow */
		} else if (rc == -EROFS && refused) {
			break;
		} else {
			refused = true;
			if (rc != -EROFS)
				return (void *)(intptr_t)-rc;
		}
	}
	return NULL;
}

static void under_load(void)
{
	struct writer w[4];
	struct scene s;
	void *how;

	if (!pt_need_mount())
		return;
	s.fs = pt_fs_start("64M", "errors=remount-ro");
	PT_SYS_FATAL(mkdir(pt_path(s.fs, "d"), 0755));
	make_file(pt_path(s.fs, "d/f"), "inside");
	PT_EQ(pt_fs_umount(s.fs), 0);
	PT_EQ(pt_fs_mount(s.fs, "errors=remount-ro"), 0);
	{
		struct stat st;

		PT_SYS_FATAL(stat(pt_path(s.fs, "d"), &st));
		s.leaf = find_leaf(s.fs, st.st_ino);
	}
	CU_ASSERT_FATAL(s.leaf != 0);
	for (int i = 0; i < 4; i++) {
		w[i] = (struct writer){ .s = &s, .id = i };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&w[i].thread, NULL, keep_writing, &w[i]), 0);
	}
	flip(s.fs, s.leaf);
	PT_EQ(try_open(pt_path(s.fs, "d/f"), O_RDONLY), -EUCLEAN);
	for (int i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(pthread_join(w[i].thread, &how), 0);
		PT_EQ((intptr_t)how, 0);
		PT_EQ(w[i].late, 0);
	}
	flip(s.fs, s.leaf);
	PT_EQ(pt_fs_umount(s.fs), 0);
	CU_ASSERT_FALSE(super_state(s.fs) & PF_SB_CLEAN);
	PT_EQ(pt_fs_mount(s.fs, NULL), 0);
	for (int i = 0; i < 4; i++)
		if (w[i].wrote > 0)
			PT_EQ(try_open(pt_path(s.fs, "w%d-%d", i, w[i].last), O_RDONLY), 0);
	pt_fs_end(s.fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "remount-ro", remount_ro, 0 },
		{ "continue", go_on, 0 },
		{ "shutdown", shut_down, 0 },
		{ "under-load", under_load, 0 },
	};
	static const struct pt_suite suites[] = { { "errors", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
