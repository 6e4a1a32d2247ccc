/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_tree.c - many names, and other people's programs: a directory of 20,000 entries, a real tree copied in and
 * compared, git, sqlite in WAL mode; each looked at again after a remount.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define P(...) pt_path(fs, __VA_ARGS__)
#define NAMES 20000
#define LONG_MS 240000		/* for what is some seconds of work */

/* Run a shell line in the mount; what it printed is shown when it fails. */
static bool shell(const struct pt_fs *fs, const char *line)
{
	char out[4096], cmd[8192];
	int rc;

	(void)snprintf(cmd, sizeof cmd, "cd '%s' && { %s\n}", fs->mnt, line);
	rc = pt_run(out, sizeof out, LONG_MS, (const char *[]){ "sh", "-c", cmd, NULL });
	if (rc != 0)
		pt_say("%s: status %d: %s", line, rc, out);
	return rc == 0;
}

static void remount(struct pt_fs *fs)
{
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_fsck(fs), 0);
	CU_ASSERT_EQUAL_FATAL(pt_fs_mount(fs, NULL), 0);
}

/* Which of the numbered names a directory shows, each at most once; how many others. */
static size_t look(const char *dir, unsigned char *seen)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	size_t n = 0;

	memset(seen, 0, NAMES);
	CU_ASSERT_PTR_NOT_NULL_FATAL(d);
	while (errno = 0, (e = readdir(d)) != NULL) {
		unsigned int i;

		if (sscanf(e->d_name, "name-%u", &i) != 1 || i >= NAMES)
			continue;
		if (seen[i]++ != 0)
			n += NAMES;	/* twice: no count will be right */
		n++;
	}
	PT_EQ(errno, 0);
	(void)closedir(d);
	return n;
}

static void big_directory(void)
{
	static unsigned char seen[NAMES];
	struct pt_fs *fs;
	struct stat st;
	DIR *d;
	const struct dirent *e;
	size_t n = 0, gone = 0;
	long pos = 0;
	char first_after[300] = "";

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("128M", NULL);
	PT_SYS(mkdir(P("d"), 0755));
	for (int i = 0; i < NAMES; i++) {
		int fd = open(P("d/name-%d", i), O_WRONLY | O_CREAT | O_EXCL, 0644);

		if (fd < 0) {
			PT_SYS_FATAL(fd);
		}
		(void)close(fd);
	}
	PT_EQ(look(P("d"), seen), NAMES);
	remount(fs);
	PT_EQ(look(P("d"), seen), NAMES);
	for (int i = 0; i < NAMES; i += 997)
		PT_SYS(stat(P("d/name-%d", i), &st));
	PT_FAILS(stat(P("d/name-%d", NAMES), &st), ENOENT);
	PT_FAILS(rmdir(P("d")), ENOTEMPTY);

	/* A position stays good. */
	d = opendir(P("d"));
	for (int i = 0; i < 5000; i++)
		CU_ASSERT_PTR_NOT_NULL(readdir(d));
	pos = telldir(d);
	e = readdir(d);
	(void)snprintf(first_after, sizeof first_after, "%s", e != NULL ? e->d_name : "");
	for (int i = 0; i < 1000; i++)
		(void)readdir(d);
	seekdir(d, pos);
	e = readdir(d);
	CU_ASSERT_STRING_EQUAL(e != NULL ? e->d_name : "(none)", first_after);

	/* Everything is removed while it is listed: each name that is left is still shown, none twice. */
	rewinddir(d);
	while ((e = readdir(d)) != NULL) {
		if (strncmp(e->d_name, "name-", 5) != 0)
			continue;
		n++;
		if (unlink(P("d/%s", e->d_name)) == 0)
			gone++;
	}
	(void)closedir(d);
	PT_EQ(n, NAMES);
	PT_EQ(gone, NAMES);
	PT_EQ(look(P("d"), seen), 0);
	PT_SYS(rmdir(P("d")));
	pt_fs_end(fs);
}

/* Names come and go in the middle of a listing; those that stay are shown exactly once. */
static void changing_directory(void)
{
	static unsigned char seen[NAMES];
	struct pt_fs *fs;
	const struct dirent *e;
	unsigned int next = 1000, i;
	size_t stayed = 0;
	DIR *d;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	PT_SYS(mkdir(P("d"), 0755));
	for (i = 0; i < 1000; i++)
		(void)close(open(P("d/name-%u", i), O_WRONLY | O_CREAT, 0644));
	d = opendir(P("d"));
	memset(seen, 0, sizeof seen);
	while ((e = readdir(d)) != NULL) {
		if (sscanf(e->d_name, "name-%u", &i) != 1)
			continue;
		seen[i]++;
		/* Odd ones go, new ones come. */
		if (i % 2 != 0 && i < 1000)
			(void)unlink(P("d/name-%u", i));
		if (next < 3000)
			(void)close(open(P("d/name-%u", next++), O_WRONLY | O_CREAT, 0644));
	}
	(void)closedir(d);
	for (i = 0; i < 1000; i += 2)
		stayed += seen[i] == 1;
	PT_EQ(stayed, 500);
	pt_fs_end(fs);
}

/* Two copies of it have to fit. Some machines have gigabytes of headers: then a part that all have. */
static const char *a_tree(const struct pt_fs *fs)
{
	static const char *const dirs[] = { "/usr/include", "/usr/include/linux", "/usr/include/asm-generic" };

	for (size_t i = 0; i < PF_ARRAY_LEN(dirs); i++) {
		char line[128];

		(void)snprintf(line, sizeof line, "test $(du -sk %s | cut -f 1) -lt 100000", dirs[i]);
		if (shell(fs, line))
			return dirs[i];
	}
	return NULL;
}

static void real_tree(void)
{
	const char *tree;
	struct pt_fs *fs;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("512M", NULL);
	tree = a_tree(fs);
	if (tree == NULL) {
		pt_skip("no tree of headers of a middle size");
		pt_fs_end(fs);
		return;
	}
	(void)setenv("TREE", tree, 1);
	CU_ASSERT_TRUE_FATAL(shell(fs, "cp -a $TREE tree"));
	CU_ASSERT_TRUE(shell(fs, "diff -r --no-dereference $TREE tree"));
	CU_ASSERT_TRUE(shell(
		fs, "tar cf - -C tree . | tar xf - --one-top-level=again && diff -r --no-dereference tree again"));
	remount(fs);
	CU_ASSERT_TRUE(shell(fs, "diff -r --no-dereference $TREE tree"));
	/* Owners, modes, times and targets of links. */
	CU_ASSERT_TRUE(shell(
		fs, "list() { (cd \"$1\" && find . ! -type d -printf '%p %m %U %G %s %l %T@\\n' | sort); }; "
		    "list $TREE >../a && list tree >../b && cmp ../a ../b"));
	CU_ASSERT_TRUE(shell(
		fs, "rm -rf again && mv tree moved && diff -r --no-dereference $TREE moved && rm -rf moved && "
		    "test -z \"$(ls -A)\""));
	pt_fs_end(fs);
}

static void git_repository(void)
{
	struct pt_fs *fs;

	if (!pt_need_mount())
		return;
	if (!pt_have("git")) {
		pt_skip("git is not installed");
		return;
	}
	fs = pt_fs_start("256M", NULL);
	CU_ASSERT_TRUE_FATAL(shell(
		fs, "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1; git init -q r && cd r && git config user.email a@b && "
		    "git config user.name n && git config gc.auto 0 && git config maintenance.auto false && "
		    "cp -r /usr/include/linux . && git add -A && git commit -qm one && "
		    "echo change >> linux/fs.h && git commit -qam two && git gc -q && git fsck --full --strict"));
	remount(fs);
	CU_ASSERT_TRUE(shell(
		fs, "export HOME=$PWD; cd r && git fsck --full --strict && test -z \"$(git status --porcelain)\" && "
		    "git clone -q . ../c && cd ../c && test \"$(git rev-list --count HEAD)\" = 2"));
	pt_fs_end(fs);
}

static void sqlite_wal(void)
{
	struct pt_fs *fs;

	if (!pt_need_mount())
		return;
	if (!pt_have("sqlite3")) {
		pt_skip("sqlite3 is not installed");
		return;
	}
	fs = pt_fs_start("128M", NULL);
	/* WAL keeps its index in a shared mapping; mmap_size reads the database through another. */
	CU_ASSERT_TRUE_FATAL(
		shell(fs, "test \"$(sqlite3 db 'PRAGMA journal_mode=WAL')\" = wal && "
			  "sqlite3 db 'PRAGMA mmap_size=67108864; CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT)'"));
	CU_ASSERT_TRUE(shell(
		fs,
		"for w in 1 2 3; do (for i in $(seq 40); do "
		"sqlite3 -cmd '.timeout 200000' -cmd 'PRAGMA mmap_size=67108864' db "
		"\"INSERT INTO t(v) VALUES(hex(randomblob(2000)))\" >/dev/null || exit 1; done) & pids=\"$pids $!\"; "
		"done; "
		"for p in $pids; do wait $p || exit 1; done; test \"$(sqlite3 db 'SELECT count(*) FROM t')\" = 120"));
	CU_ASSERT_TRUE(shell(
		fs, "test \"$(sqlite3 db 'PRAGMA integrity_check')\" = ok && "
		    "sqlite3 db 'BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000) "
		    "INSERT INTO t(v) SELECT printf(\"%d\",i) FROM n; COMMIT; VACUUM'"));
	remount(fs);
	CU_ASSERT_TRUE(
		shell(fs, "test \"$(sqlite3 db 'PRAGMA integrity_check; SELECT count(*) FROM t')\" = \"ok\n20120\""));
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "20,000 names", big_directory, 0 },
		{ "changing directory", changing_directory, 0 },
		{ "a real tree", real_tree, 0 },
		{ "git", git_repository, 0 },
		{ "sqlite in WAL mode", sqlite_wal, 0 },
	};
	static const struct pt_suite suites[] = { { "tree", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
