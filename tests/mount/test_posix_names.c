/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_posix_names.c - names and links: every pair of file types under every verb answers as ext4 does.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness/run.h"
#include "mount/twin.h"

/* --- one of each kind --- */

static const char *const kinds[] = { "file", "empty", "full", "link", "dangling", "loop", "fifo", "node", "none",
				     "none/x", "file/x", "empty/", "file/", "none/", "link/", "", ".", "..",
				     "empty/.", "full/..", "dlink", "dlink/" };

static void make_kinds(void)
{
	tw_enter("top");
	tw_file("file", 0644, 10);
	MUST(mkdir("empty", 0755));
	MUST(mkdir("full", 0755));
	tw_file("full/x", 0644, 1);
	MUST(symlink("file", "link"));
	MUST(symlink("empty", "dlink"));
	MUST(symlink("nowhere", "dangling"));
	MUST(symlink("loop", "loop"));
	MUST(mkfifo("fifo", 0644));
	MUST(mknod("node", S_IFCHR | 0644, makedev(1, 3)));
}

static void single_names(void)
{
	struct stat st;
	char buf[16];
	int home;

	for (size_t i = 0; i < PF_ARRAY_LEN(kinds); i++) {
		const char *k = kinds[i];

		make_kinds();
		home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
		MUST(home);
		tw_note("--- %s", k);
		STAT(k);
		DO(stat(k, &st));
		OPEN(k, O_RDONLY | O_NONBLOCK);
		OPEN(k, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
		OPEN(k, O_RDONLY | O_NONBLOCK | O_DIRECTORY);
		OPEN(k, O_RDONLY | O_NONBLOCK | O_DIRECTORY | O_NOFOLLOW);
		OPEN(k, O_PATH | O_NOFOLLOW);
		OPEN(k, O_WRONLY | O_NONBLOCK);
		OPEN(k, O_RDWR | O_NONBLOCK | O_NOFOLLOW);
		OPEN(k, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK);
		OPEN(k, O_RDWR | O_CREAT | O_DIRECTORY | O_NONBLOCK);
		OPEN(k, O_RDWR | O_TMPFILE);
		OPEN(k, O_RDONLY | O_TMPFILE);
		DO(truncate(k, 5));
		DO(readlink(k, buf, sizeof buf));
		DO(access(k, R_OK | W_OK));
		DO(chmod(k, 0600));
		DO(chown(k, 0, 0));
		DO(lchown(k, 0, 0));
		DO(utimensat(AT_FDCWD, k, NULL, 0));
		DO(utimensat(AT_FDCWD, k, NULL, AT_SYMLINK_NOFOLLOW));
		DO(mkdir(k, 0755));
		DO(mknod(k, S_IFREG | 0644, 0));
		DO(mknod(k, S_IFDIR | 0644, 0));
		DO(mknod(k, 0644, 0));
		DO(symlink("x", k));
		DO(link("file", k));
		DO(link(k, "new"));
		DO(linkat(AT_FDCWD, k, AT_FDCWD, "new", AT_SYMLINK_FOLLOW));
		(void)unlink("new");
		DO(chdir(k));
		MUST(fchdir(home));
		OPEN(k, O_RDWR | O_CREAT | O_NONBLOCK);
		DO(unlink(k));
		STAT(k);
		(void)close(home);
		tw_leave("top");
		make_kinds();
		DO(rmdir(k));
		STAT(k);
		tw_leave("top");
	}
}

static void rename_pairs(void)
{
	static const unsigned int flags[] = { 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT,
					      RENAME_NOREPLACE | RENAME_WHITEOUT, RENAME_EXCHANGE | RENAME_WHITEOUT,
					      RENAME_EXCHANGE | RENAME_NOREPLACE, 0x80 };

	make_kinds();
	for (size_t f = 0; f < PF_ARRAY_LEN(flags); f++) {
		for (size_t i = 0; i < PF_ARRAY_LEN(kinds); i++) {
			for (size_t j = 0; j < PF_ARRAY_LEN(kinds); j++) {
				tw_note("--- %x %s %s", flags[f], kinds[i], kinds[j]);
				if (DO(renameat2(AT_FDCWD, kinds[i], AT_FDCWD, kinds[j], flags[f])) < 0)
					continue;
				STAT(kinds[i]);
				STAT(kinds[j]);
				STAT(".");
				tw_leave("top");
				make_kinds();
			}
		}
	}
	tw_leave("top");
}

/* Between directories: who is above whom, link counts, "..". */
static void rename_trees(void)
{
	static const char *const names[] = { "a", "a/b", "a/b/c", "a/f", "d", "d/e", "d/g", "a/b/new", "d/new" };
	static const unsigned int flags[] = { 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT };

	for (size_t f = 0; f < PF_ARRAY_LEN(flags); f++) {
		for (size_t i = 0; i < PF_ARRAY_LEN(names); i++) {
			for (size_t j = 0; j < PF_ARRAY_LEN(names); j++) {
				tw_enter("top");
				MUST(mkdir("a", 0755));
				MUST(mkdir("a/b", 0755));
				MUST(mkdir("a/b/c", 0755));
				tw_file("a/f", 0644, 1);
				MUST(mkdir("d", 0755));
				MUST(mkdir("d/e", 0755));
				tw_file("d/g", 0644, 2);
				tw_note("--- %x %s %s", flags[f], names[i], names[j]);
				DO(renameat2(AT_FDCWD, names[i], AT_FDCWD, names[j], flags[f]));
				for (size_t k = 0; k < PF_ARRAY_LEN(names); k++)
					STAT(names[k]);
				STAT("d/b/..");
				STAT("a/e/c/..");
				STAT(".");
				tw_leave("top");
			}
		}
	}
}

static void whiteouts(void)
{
	struct stat st;

	tw_file("old", 0644, 5);
	tw_file("target", 0644, 6);
	DO(renameat2(AT_FDCWD, "old", AT_FDCWD, "new", RENAME_WHITEOUT));
	STAT("old");
	STAT("new");
	OPEN("old", O_RDONLY);
	DO(renameat2(AT_FDCWD, "new", AT_FDCWD, "target", RENAME_WHITEOUT));
	STAT("new");
	STAT("target");
	MUST(mkdir("d", 0755));
	MUST(mkdir("e", 0755));
	DO(renameat2(AT_FDCWD, "d", AT_FDCWD, "e/d", RENAME_WHITEOUT));
	STAT("d");
	STAT("e");
	STAT("e/d");
	STAT(".");
	DO(stat("e/d/..", &st));
	DO(renameat2(AT_FDCWD, "old", AT_FDCWD, "e/old", RENAME_WHITEOUT));
	STAT("old");
	STAT("e/old");
	DO(unlink("old"));
	/* As another one and into a set-gid directory: whose are they? */
	MUST(mkdir("g", 0777));
	MUST(chown("g", 0, 1234));
	MUST(chmod("g", 02777));
	tw_file("g/x", 0644, 1);
	DO(renameat2(AT_FDCWD, "g/x", AT_FDCWD, "g/y", RENAME_WHITEOUT));
	STAT("g/x");
}

/* --- links and names of all lengths --- */

static void lengths(void)
{
	char name[300], target[4200], buf[4200];

	for (size_t n = 1; n <= 257; n = n == 1 ? 253 : n + 1) {
		memset(name, 'n', n);
		name[n] = '\0';
		tw_note("--- %zu", n);
		OPEN(name, O_RDONLY);
		OPEN(name, O_RDWR | O_CREAT | O_EXCL);
		STAT(name);
		DO(unlink(name));
		DO(mkdir(name, 0755));
		DO(rmdir(name));
		DO(symlink("x", name));
		DO(rename(name, "short"));
		DO(rename("short", name));
		DO(link(name, "short"));
		DO(unlink(name));
		DO(unlink("short"));
		DO(mknod(name, S_IFIFO | 0600, 0));
		DO(unlink(name));
	}
	for (size_t n = 1; n <= 4096; n = n < 300 ? n + 1 : n < 4000 ? n + 1000 : n < 4090 ? 4090 : n + 1) {
		memset(target, 't', n);
		target[n] = '\0';
		memset(buf, 0, sizeof buf);
		DO(symlink(target, "sym"));
		DO(readlink("sym", buf, sizeof buf));
		tw_note("%d", strcmp(buf, target));
		STAT("sym");
		DO(readlink("sym", buf, 3));
		OPEN("sym", O_RDONLY);
		DO(unlink("sym"));
	}
	DO(symlink("", "sym"));
}

static void loops(void)
{
	char name[16], next[16];

	tw_file("l0", 0644, 1);
	for (int i = 1; i <= 42; i++) {
		(void)snprintf(name, sizeof name, "l%d", i);
		(void)snprintf(next, sizeof next, "l%d", i - 1);
		MUST(symlink(next, name));
		OPEN(name, O_RDONLY);
	}
}

static void hard_links(void)
{
	struct stat st;
	int fd;

	tw_file("f", 0644, 1);
	DO(link("f", "g"));
	STAT("f");
	DO(unlink("f"));
	STAT("g");
	MUST(symlink("g", "s"));
	DO(link("s", "s2"));
	STAT("s");
	DO(linkat(AT_FDCWD, "s", AT_FDCWD, "g2", AT_SYMLINK_FOLLOW));
	STAT("g");
	fd = open("g", O_RDWR);
	DO(unlink("g"));
	DO(unlink("g2"));
	DO(fstat(fd, &st));
	tw_note("%ju", (uintmax_t)st.st_nlink);
	DO(linkat(fd, "", AT_FDCWD, "back", AT_EMPTY_PATH));
	DO(write(fd, "more", 4));
	DO(ftruncate(fd, 100000));
	DO(fstat(fd, &st));
	tw_note("%jd", (intmax_t)st.st_size);
	(void)close(fd);
	/* A directory without a name that is somebody's current one. */
	MUST(mkdir("d", 0755));
	MUST(chdir("d"));
	DO(rmdir("../d"));
	DO(mkdir("x", 0755));
	OPEN("x", O_RDWR | O_CREAT);
	OPEN(".", O_RDONLY);
	OPEN("..", O_RDONLY);
	DO(symlink("a", "b"));
	DO(link("../s", "b"));
	DO(rename("../s", "b"));
	DO(stat(".", &st));
	tw_note("%ju", (uintmax_t)st.st_nlink);
}

static void many_links(void)
{
	char name[32];
	struct stat st;
	int made = 0;

	tw_file("f", 0644, 0);
	MUST(mkdir("d", 0755));
	for (; made < 65010; made++) {
		(void)snprintf(name, sizeof name, "d/%d", made);
		if (link("f", name) != 0)
			break;
	}
	tw_note("%d: %s", made, strerrorname_np(errno));
	DO(link("f", "one more"));
	DO(rename("d/5", "one"));
	DO(stat("f", &st));
	tw_note("%ju", (uintmax_t)st.st_nlink);
	DO(unlink("d/7"));
	DO(link("f", "one more"));
	DO(link("f", "two more"));
}

static void special(void)
{
	static const mode_t types[] = { S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFREG, S_IFLNK, 0 };
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "bound" };
	char buf[8];
	int fd, r, w;

	for (size_t i = 0; i < PF_ARRAY_LEN(types); i++) {
		tw_note("--- %o", types[i]);
		DO(mknod("n", types[i] | 06640, makedev(259, 70000)));
		STAT("n");
		DO(chmod("n", 0600));
		DO(truncate("n", 0));
		DO(link("n", "n2"));
		DO(rename("n", "n3"));
		STAT("n2");
		DO(unlink("n3"));
		DO(unlink("n2"));
	}
	DO(mkfifo("fifo", 0644));
	r = open("fifo", O_RDONLY | O_NONBLOCK);
	w = open("fifo", O_WRONLY | O_NONBLOCK);
	DO(write(w, "pipe", 4));
	DO(read(r, buf, sizeof buf));
	(void)close(r);
	(void)close(w);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	DO(bind(fd, (struct sockaddr *)&un, sizeof un));
	STAT("bound");
	OPEN("bound", O_RDWR);
	DO(bind(fd, (struct sockaddr *)&un, sizeof un));
	(void)close(fd);
	MUST(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
	fd = open("null", O_RDWR);
	DO(write(fd, "x", 1));
	DO(read(fd, buf, 1));
	(void)close(fd);
}

static void open_flags(void)
{
	struct stat st;
	char buf[4] = "";
	int fd;

	tw_file("f", 0644, 10);
	OPEN("f", O_RDONLY | O_TRUNC);
	STAT("f");
	fd = open("f", O_RDWR | O_APPEND);
	DO(write(fd, "abc", 3));
	DO(pwrite(fd, "def", 3, 0));
	DO(lseek(fd, 0, SEEK_CUR));
	DO(pread(fd, buf, 3, 0));
	tw_note("%s", buf);
	DO(fstat(fd, &st));
	tw_note("%jd", (intmax_t)st.st_size);
	(void)close(fd);
	fd = open("f", O_WRONLY);
	DO(read(fd, buf, 1));
	DO(ftruncate(fd, 3));
	(void)close(fd);
	fd = open("f", O_RDONLY);
	DO(write(fd, "x", 1));
	DO(ftruncate(fd, 1));
	DO(fchmod(fd, 0600));
	DO(lseek(fd, -1, SEEK_SET));
	DO(lseek(fd, -1, SEEK_END));
	DO(lseek(fd, 1, SEEK_HOLE));
	DO(lseek(fd, 3, SEEK_DATA));
	DO(lseek(fd, 100, SEEK_HOLE));
	DO(pread(fd, buf, 1, -1));
	DO(read(fd, NULL, 0));
	(void)close(fd);
	fd = open(".", O_RDONLY);
	DO(read(fd, buf, 1));
	DO(ftruncate(fd, 0));
	DO(write(fd, "", 1));
	DO(fsync(fd));
	DO(fdatasync(fd));
	(void)close(fd);
	OPEN("f", O_PATH);
	fd = open("f", O_PATH);
	DO(fchmod(fd, 0600));
	DO(read(fd, buf, 1));
	(void)close(fd);
	OPEN("f", O_RDWR | O_DIRECT);
	OPEN("f", O_RDWR | O_SYNC | O_NOATIME);
}

/* --- */

static struct pt_fs *fs;

static void with(const char *what, void (*script)(void))
{
	fs = tw_start("allow_other,suid,dev");
	if (fs == NULL)
		return;
	(void)tw_compare(fs, what, script, &tw_root);
	tw_end(fs);
}

#define CASE(name, fn) static void c_##fn(void) { with(name, fn); }
CASE("names", single_names)
CASE("rename", rename_pairs)
CASE("trees", rename_trees)
CASE("whiteout", whiteouts)
CASE("lengths", lengths)
CASE("loops", loops)
CASE("links", hard_links)

/* The limit itself is a unit test; through the kernel it takes its time. */
static void c_many_links(void)
{
	if (getenv("PINFS_LONG") == NULL)
		pt_skip("only with PINFS_LONG=1");
	else
		with("EMLINK", many_links);
}

CASE("special", special)
CASE("open flags", open_flags)

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "one name", c_single_names, 0 },	{ "rename of each onto each", c_rename_pairs, 0 },
		{ "rename in trees", c_rename_trees, 0 }, { "whiteout", c_whiteouts, 0 },
		{ "lengths", c_lengths, 0 },		{ "chains of links", c_loops, 0 },
		{ "hard links", c_hard_links, 0 },	{ "65000 links", c_many_links, 0 },
		{ "special files", c_special, 0 },	{ "open flags", c_open_flags, 0 },
	};
	static const struct pt_suite suites[] = { { "as ext4: names", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
