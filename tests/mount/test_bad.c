/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_bad.c - bad blocks on a mount: pinfsctl badblock, mkfs -l, what read(2), write(2) and plain mappings get,
 * metadata in a bad block, and an image that is cut off under its daemon.
 *
 * A block that goes bad is filled with junk in the image, so that who reads it nevertheless is caught; deleting it from
 * the list is the twin, after which the junk is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pinfs/format.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define PAGE 4096
#define DEADLINE_MS 30000

static char out[65536];

/* pinfsctl badblock ARGS; what it printed is in out. */
static int ctl_run(const char *const *args)
{
	const char *argv[12] = { pt_program("pinfsctl"), "badblock" };

	for (size_t i = 0; args[i] != NULL && i < 9; i++)
		argv[i + 2] = args[i];
	return pt_run(out, sizeof out, DEADLINE_MS, argv);
}
#define CTL(...) ctl_run((const char *const[]){ __VA_ARGS__, NULL })

static bool says(const char *words)
{
	if (strstr(out, words) != NULL)
		return true;
	pt_say("no \"%s\" in: %s", words, out);
	return false;
}

/* A file of @pages pages, page i full of 'a' + i. */
static int make_file(const struct pt_fs *fs, const char *name, int pages)
{
	int fd = open(pt_path(fs, "%s", name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	char buf[PAGE];

	PT_SYS_FATAL(fd);
	for (int i = 0; i < pages; i++) {
		memset(buf, 'a' + i, sizeof buf);
		PT_EQ(pwrite(fd, buf, sizeof buf, (off_t)i * PAGE), PAGE);
	}
	return fd;
}

/* The block that the list has got with the last add: its only record, or the one of @nth place. */
static uint64_t listed_block(const char *where)
{
	unsigned long long b = 0;

	PT_EQ(CTL("list", "--json", where), 0);
	CU_ASSERT_EQUAL(sscanf(out, "{\"bad\":[{\"block\":%llu", &b), 1);
	return b;
}

static void scribble(const struct pt_fs *fs, uint64_t block)
{
	int fd = open(fs->img, O_RDWR | O_CLOEXEC);
	char junk[PAGE];

	PT_SYS_FATAL(fd);
	memset(junk, '!', sizeof junk);
	PT_EQ(pwrite(fd, junk, sizeof junk, (off_t)block * PAGE), PAGE);
	close(fd);
}

/* ---- SIGBUS ---- */

static sigjmp_buf escape;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(escape, 1);
}

/* The byte, or -1: SIGBUS. */
static int load(const volatile char *p)
{
	struct sigaction sa = { .sa_handler = on_bus }, old;
	int c = -1;

	sigaction(SIGBUS, &sa, &old);
	if (sigsetjmp(escape, 1) == 0)
		c = (unsigned char)*p;
	sigaction(SIGBUS, &old, NULL);
	return c;
}

static void live(void)
{
	struct pt_fs *fs;
	char buf[8 * PAGE], page3[PATH_MAX];
	uint64_t block;
	char *map;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("32M", NULL);
	fd = make_file(fs, "f", 8);
	PT_EQ(CTL("list", fs->mnt), 0);
	CU_ASSERT(says("0 bad blocks"));
	/* In the kernel's page cache before it goes bad. */
	map = mmap(NULL, 8 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(map != MAP_FAILED);
	PT_EQ(load(map + 3 * PAGE), 'd');
	snprintf(page3, sizeof page3, "%s:%d", pt_path(fs, "f"), 3 * PAGE + 17);
	PT_EQ(CTL("add", fs->mnt, page3), 0);
	CU_ASSERT(says("1 block added"));
	block = listed_block(fs->mnt);
	CU_ASSERT(says("\"held\":false"));
	scribble(fs, block);
	/* The kernel is told by a thread of its own. */
	for (uint64_t until = pt_now_ms() + DEADLINE_MS; load(map + 3 * PAGE) != -1 && pt_now_ms() < until;)
		pt_sleep_ms(1);
	PT_EQ(load(map + 3 * PAGE), -1);
	PT_EQ(load(map + 2 * PAGE), 'c');
	PT_EQ(load(map + 4 * PAGE), 'e');
	PT_EQ(pread(fd, buf, sizeof buf, 0), 3 * PAGE);
	PT_FAILS(pread(fd, buf, 1, 3 * PAGE), EIO);
	PT_EQ(pread(fd, buf, sizeof buf, 4 * PAGE), 4 * PAGE);
	PT_EQ(buf[0], 'e');
	PT_FAILS(pwrite(fd, buf, 10, 3 * PAGE), EIO);
	PT_FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * PAGE, 10), EIO);
	PT_EQ(lseek(fd, 3 * PAGE, SEEK_DATA), 3 * PAGE);

	/* The twin: not on the list, the junk is read. */
	PT_EQ(CTL("del", fs->mnt, page3), 0);
	CU_ASSERT(says("1 block removed"));
	PT_EQ(pread(fd, buf, 1, 3 * PAGE), 1);
	PT_EQ(buf[0], '!');

	/* A whole page clears the error; the block is nobody's any more. */
	PT_EQ(CTL("add", fs->mnt, page3), 0);
	memset(buf, 'X', PAGE);
	PT_EQ(pwrite(fd, buf, PAGE, 3 * PAGE), PAGE);
	PT_EQ(pread(fd, buf, sizeof buf, 0), 8 * PAGE);
	PT_EQ(buf[3 * PAGE], 'X');
	PT_EQ(load(map + 3 * PAGE), 'X');
	PT_EQ(CTL("list", fs->mnt), 0);
	CU_ASSERT(says("kept out of use"));
	PT_EQ(listed_block(fs->mnt), block);
	PT_SYS(munmap(map, 8 * PAGE));
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

static void command(void)
{
	struct pt_fs *fs;
	char list[PATH_MAX];
	uint64_t block;
	FILE *f;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_new("32M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	/* An image that nobody serves. */
	PT_EQ(CTL("add", fs->img, "5000-5003", "--offset", "24M", "0x1800"), 0);		/* one of them twice */
	CU_ASSERT(says("5 blocks added"));
	PT_EQ(CTL("add", fs->img, "5000"), 0);
	CU_ASSERT(says("0 blocks added"));
	PT_EQ(CTL("del", fs->img, "5001", "--json"), 0);
	CU_ASSERT(says("{\"changed\":1}"));
	PT_EQ(CTL("--json", "list", fs->img), 0);
	CU_ASSERT(says("{\"block\":5000,\"blocks\":1,\"held\":true},{\"block\":5002,\"blocks\":2,\"held\":true},"
		       "{\"block\":6144,\"blocks\":1,\"held\":true}],\"blocks\":4}"));
	PT_EQ(pt_fs_fsck(fs), 0);
	/* What makes no sense. */
	PT_EQ(CTL("add", fs->img, "8192"), 1);
	CU_ASSERT(says("no such block"));
	PT_EQ(CTL("add", fs->img, "x"), 1);
	PT_EQ(CTL("add", fs->img, "7-3"), 1);
	PT_EQ(CTL("add", fs->img, "--offset", "many"), 1);
	PT_EQ(CTL("add", fs->img, "/f:0"), 1);
	PT_EQ(CTL("list", "/nonexistent"), 1);
	PT_EQ(CTL("list", "/dev"), 1);
	PT_EQ(CTL("add", fs->img), 2);
	PT_EQ(CTL("list", fs->img, "1"), 2);
	PT_EQ(CTL("frobnicate", fs->img), 2);

	PT_EQ(pt_fs_mount(fs, NULL), 0);
	PT_EQ(CTL("list", fs->img), 1);		/* the daemon has it */
	CU_ASSERT(says("in use"));
	PT_EQ(CTL("list", fs->mnt), 0);
	CU_ASSERT(says("4 bad blocks"));
	fd = make_file(fs, "f", 2);
	PT_SYS(ftruncate(fd, 10 * PAGE));
	PT_SYS(close(fd));
	snprintf(list, sizeof list, "%s:%d", pt_path(fs, "f"), 5 * PAGE);
	PT_EQ(CTL("add", fs->mnt, list), 1);
	CU_ASSERT(says("a hole"));
	snprintf(list, sizeof list, "%s:0", pt_path(fs, "f"));
	PT_EQ(CTL("add", fs->mnt, list), 0);
	PT_EQ(pt_fs_umount(fs), 0);
	/* Still in use by the file; unlinked, it is the list's. */
	PT_EQ(CTL("del", fs->img, "5000-8000"), 0);
	block = listed_block(fs->img);
	CU_ASSERT(says("\"held\":false"));
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	PT_SYS(unlink(pt_path(fs, "f")));
	PT_EQ(listed_block(fs->mnt), block);
	CU_ASSERT(says("\"held\":true"));
	pt_fs_end(fs);

	/* From the start. */
	fs = pt_fs_new("32M");
	CU_ASSERT_PTR_NOT_NULL_FATAL(fs);
	snprintf(list, sizeof list, "%.2000s/list", fs->dir);
	f = fopen(list, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fputs("# found by hand\n7000\n 6000-6002  # three\n\n", f);
	fclose(f);
	PT_EQ(pt_run(out, sizeof out, DEADLINE_MS,
		     (const char *[]){ pt_program("mkfs.pinfs"), "-f", "-l", list, fs->img, NULL }), 0);
	PT_EQ(CTL("list", fs->img), 0);
	CU_ASSERT(says("6000-6002  kept out of use\n7000  kept out of use\n4 bad blocks\n"));
	PT_EQ(pt_fs_fsck(fs), 0);
	f = fopen(list, "w");
	fputs("3\n", f);
	fclose(f);
	PT_EQ(pt_run(out, sizeof out, DEADLINE_MS,
		     (const char *[]){ pt_program("mkfs.pinfs"), "-f", "-l", list, fs->img, NULL }), 1);
	CU_ASSERT(says("list:1: 3: not among the blocks"));
	unlink(list);
	PT_EQ(pt_run(out, sizeof out, DEADLINE_MS,
		     (const char *[]){ pt_program("mkfs.pinfs"), "-f", fs->img, NULL }), 0);
	pt_fs_end(fs);
}

/* A full device never gives a bad block away; a file over all of it reads back right. */
static void never_given(void)
{
	struct pt_fs *fs;
	char range[64], *buf;
	ssize_t n;
	off_t size = 0;
	int fd, img;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", NULL);
	PT_EQ(CTL("add", fs->mnt, "1000-1099", "2000", "2002", "2004", "3500-3600"), 0);
	for (int b = 1000; b < 1100; b++)
		scribble(fs, (uint64_t)b);
	buf = malloc(1 << 20);
	CU_ASSERT_PTR_NOT_NULL_FATAL(buf);
	memset(buf, 'z', 1 << 20);
	fd = open(pt_path(fs, "all"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	while ((n = write(fd, buf, 1 << 20)) > 0)
		size += n;
	CU_ASSERT(n < 0 && errno == ENOSPC);
	CU_ASSERT(size > 8 << 20);
	for (off_t at = 0; at < size; at += n) {
		n = pread(fd, buf, 1 << 20, at);
		CU_ASSERT_FATAL(n > 0);
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != 'z')
				CU_FAIL_FATAL("a byte that was not written");
	}
	PT_SYS(close(fd));
	/* Nobody wrote there. */
	img = open(fs->img, O_RDONLY | O_CLOEXEC);
	for (int b = 1000; b < 1100; b++) {
		PT_EQ(pread(img, buf, PAGE, (off_t)b * PAGE), PAGE);
		CU_ASSERT(buf[0] == '!' && buf[PAGE - 1] == '!');
	}
	close(img);
	/* The twin: off the list, they are the next ones given out. */
	PT_EQ(CTL("del", fs->mnt, "1000-1099"), 0);
	fd = open(pt_path(fs, "more"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_EQ(write(fd, buf, 50 * PAGE), 50 * PAGE);
	PT_SYS(close(fd));
	snprintf(range, sizeof range, "%d-%d", 1000, 1099);
	PT_EQ(CTL("add", fs->mnt, range), 0);
	PT_EQ(CTL("list", fs->mnt), 0);
	CU_ASSERT(says("in use"));
	free(buf);
	pt_fs_end(fs);
}

/* Only who may open the image: others do not even see the list. */
static int as_nobody(void *arg)
{
	const struct pt_fs *fs = arg;

	if (setgid(65534) != 0 || setuid(65534) != 0)
		return 99;
	return CTL("list", fs->mnt) == 1 && strstr(out, "Permission denied") != NULL &&
	       CTL("add", fs->mnt, "7000") == 1 ? 0 : 1;
}

static void right(void)
{
	struct pt_fs *fs;
	pid_t pid;

	if (!pt_need_mount())
		return;
	if (geteuid() != 0) {
		pt_skip("needs root to become somebody else");
		return;
	}
	fs = pt_fs_start("16M", "allow_other");
	PT_SYS(chmod(fs->img, 0600));
	PT_SYS(chmod(pt_tmp(), 0755));
	PT_SYS(chmod(fs->dir, 0755));
	pid = pt_fork(as_nobody, fs);
	PT_SYS_FATAL(pid);
	PT_EQ(pt_wait(pid, DEADLINE_MS), 0);
	PT_EQ(CTL("list", fs->mnt), 0);
	CU_ASSERT(says("0 bad blocks"));
	pt_fs_end(fs);
}

/* A directory leaf in a bad block: EIO for what needs it, and errors= for the rest. */
static void metadata(void)
{
	struct pf_d_hdr h = { 0 };
	struct pt_fs *fs;
	struct stat st;
	char block[32];
	off_t at = 0;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", NULL);
	PT_SYS(mkdir(pt_path(fs, "d"), 0755));
	PT_SYS(close(make_file(fs, "d/f", 1)));
	PT_SYS(stat(pt_path(fs, "d"), &st));
	PT_EQ(pt_fs_umount(fs), 0);
	fd = open(fs->img, O_RDONLY | O_CLOEXEC);
	while (pread(fd, &h, sizeof h, at) == (ssize_t)sizeof h &&
	       !(pf_get32(h.h_magic) == PF_MAGIC_DIR && pf_get64(h.h_owner) == st.st_ino))
		at += PAGE;
	close(fd);
	snprintf(block, sizeof block, "%lld", (long long)(at / PAGE));
	PT_EQ(pt_fs_mount(fs, "errors=remount-ro"), 0);
	PT_EQ(CTL("add", fs->mnt, block, "0"), 0);
	PT_FAILS(open(pt_path(fs, "d/f"), O_RDONLY), EIO);
	PT_FAILS(mkdir(pt_path(fs, "e"), 0755), EROFS);
	PT_EQ(pt_run(out, sizeof out, DEADLINE_MS,
		     (const char *[]){ pt_program("pinfsctl"), "status", fs->mnt, NULL }), 0);
	CU_ASSERT(says("bad block"));
	PT_EQ(CTL("del", fs->mnt, block), 1);
	CU_ASSERT(says("Read-only"));
	PT_EQ(pt_fs_umount(fs), 0);
	/* Off the list, on the image that nobody serves, all is well: the block was only said to be bad. */
	PT_EQ(CTL("del", fs->img, block, "0"), 0);
	PT_EQ(pt_fs_mount(fs, NULL), 0);
	fd = open(pt_path(fs, "d/f"), O_RDONLY | O_CLOEXEC);
	PT_SYS(fd);
	PT_SYS(close(fd));
	pt_fs_end(fs);
}

/* Somebody truncates the image under its daemon: no crash, no wrong byte, one clear message, the end of all calls. */
static void cut_off(void)
{
	const char *status[] = { pt_program("pinfsctl"), "status", NULL, NULL };
	struct pt_fs *fs;
	char *buf;
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("32M", "errors=continue");
	buf = malloc(1 << 20);
	CU_ASSERT_PTR_NOT_NULL_FATAL(buf);
	memset(buf, 'q', 1 << 20);
	fd = open(pt_path(fs, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	PT_SYS_FATAL(fd);
	for (int i = 0; i < 24; i++)
		PT_EQ(write(fd, buf, 1 << 20), 1 << 20);
	PT_SYS(truncate(fs->img, 16 << 20));
	/* Reading what is gone, the kernel copies; then writing, where the daemon itself stores. */
	PT_FAILS(pread(fd, buf, 1 << 20, 22 << 20), EIO);
	PT_FAILS(pwrite(fd, buf, 1 << 20, 22 << 20), EIO);
	PT_FAILS(open(pt_path(fs, "g"), O_CREAT | O_RDWR, 0644), EIO);
	PT_FAILS(pread(fd, buf, 1, 0), EIO);
	status[2] = fs->mnt;
	for (uint64_t until = pt_now_ms() + DEADLINE_MS; pt_now_ms() < until; pt_sleep_ms(1)) {
		int rc = pt_run(out, sizeof out, DEADLINE_MS, status);

		if (rc != 0)
			pt_say("pinfsctl status: %d: %s", rc, out);
		CU_ASSERT_EQUAL_FATAL(rc, 0);
		if (strstr(out, "cannot be reached") != NULL)
			break;
	}
	CU_ASSERT(says("cannot be reached"));
	CU_ASSERT(says("shut down"));
	PT_SYS(close(fd));
	PT_EQ(pt_fs_umount(fs), 0);
	free(buf);
	PT_EQ(pt_run(out, sizeof out, DEADLINE_MS,
		     (const char *[]){ pt_program("mkfs.pinfs"), "-f", fs->img, NULL }), 0);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "live", live, 0 },		   { "command", command, 0 },
		{ "never-given", never_given, 0 }, { "right", right, 0 },
		{ "metadata", metadata, 0 },	   { "cut-off", cut_off, 0 },
	};
	static const struct pt_suite suites[] = { { "bad", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
