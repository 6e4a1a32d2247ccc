/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fsck.c - fsck names every class of damage, and a sound image has none. Each case breaks one thing of an image
 * that has one of everything, mends the checksums in front of it, and must be told what it broke. And the program
 * around it: its options and exit codes.
 */
#include "harness/unit.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#include "unit/fsck/run.h"

/* Write the numbers of this image into what is expected. */
static void expand(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; *from != '\0' && n < size - 24; from++) {
		uint64_t v = 0;

		if (*from != '%') {
			to[n++] = *from;
			continue;
		}
		switch (*++from) {
		case 'a': v = im->a; break;
		case 'b': v = im->b; break;
		case 'd': v = im->d; break;
		case 'e': v = im->e; break;
		case 'g': v = im->gone; break;
		case 'l': v = im->l; break;
		case 'L': v = im->ll; break;
		case 'n': v = im->n; break;
		case 'x': v = im->x; break;
		case 'F': v = im->d_leaf[1]; break;
		case 'N': v = im->a_node; break;
		case 'O': v = im->orph_dblk; break;
		case 'R': v = im->root_leaf; break;
		case '0': v = im->fs->iclu0_blk; break;
		case '1': v = im->clu1_dblk; break;
		default: abort();
		}
		n += (size_t)snprintf(to + n, size - n, "%" PRIu64, v);
	}
	to[n] = '\0';
}

static void test_clean(void)
{
	struct copy c = copy_make();

	copy_check(&c);
	CU_ASSERT_EQUAL(c.rc, FSCK_OK);
	if (c.rc != FSCK_OK)
		(void)printf("%s\n", c.text);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, "img: clean, 11 files, "));
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, "2 orphans to finish"));
	copy_free(&c);
}

static void test_damage(void)
{
	char expect[256];

	for (size_t i = 0; i < ndamage; i++) {
		const struct damage *d = &damages[i];
		struct copy c = copy_make();

		expand(expect, sizeof expect, d->expect);
		d->fn(c.pm->base);
		copy_check(&c);
		if (strstr(c.text, expect) == NULL ||
		    (c.rc != FSCK_UNCORRECTED && strncmp(d->expect, "img: clean", 10) != 0)) {
			(void)printf("%s: expected \"%s\", got exit code %d and\n%s\n", d->name, expect, c.rc, c.text);
			CU_FAIL("damage was not named");
		}
		CU_PASS(d->name);
		copy_free(&c);
	}
}

/* Two inodes claim one long run: both named, one line. */
static void test_long_conflict(void)
{
	struct copy c = copy_make();
	uint8_t *b = c.pm->base;
	char expect[128];

	INODE(im->x)->i_root.t_rec[0].r_dblk = pf_put64(im->b_dblk + 1);
	seal_ino(b, im->x);
	copy_check(&c);
	(void)snprintf(expect, sizeof expect,
		       "phase 3: blocks %" PRIu64 "-%" PRIu64 ": owned by inode %" PRIu64
		       " (data) and by inode %" PRIu64 " (data)",
		       im->b_dblk + 1, im->b_dblk + 2, im->b, im->x);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, expect));
	copy_free(&c);
}

/* The journal holds the line that is broken at home: the image is sound, as its next mount will find it. */
static void test_replay(void)
{
	struct copy c = copy_make();
	struct pf_d_inode *di = img_inode(im, c.pm->base, im->a);
	uint8_t line[PF_LINE];

	memcpy(line, di, sizeof line);
	add32(&di->i_nlink, 1);
	copy_check(&c);
	CU_ASSERT_EQUAL(c.rc, FSCK_UNCORRECTED);
	seal_lane(c.pm->base, (uint64_t)((uint8_t *)di - c.pm->base), line);
	copy_check(&c);
	CU_ASSERT_EQUAL(c.rc, FSCK_OK);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, ", 1 transactions to replay"));
	copy_free(&c);
}

/* 168 extents that all cover the whole device: it ends, and says so. */
static void test_many_conflicts(void)
{
	struct copy c = copy_make();
	uint8_t *b = c.pm->base;
	struct pf_d_node *n = a_node(b);
	uint64_t first = im->fs->iclu0_blk + PF_ICLU_BLKS;

	n->n_hdr.h_count = pf_put16(168);
	for (unsigned int i = 0; i < 168; i++)
		n->n_rec[i] = (struct pf_d_rec){
			.r_key = pf_put64(i * 10000),
			.r_dblk = pf_put64(first),
			.r_len = pf_put32((uint32_t)(last_blk() - first)),
		};
	img_seal_blk(n);
	copy_check(&c);
	CU_ASSERT_EQUAL(c.rc, FSCK_UNCORRECTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.text, "and by inode"));
	copy_free(&c);
}

/* ---- the program ---- */

static int run(char *out, size_t size, const char *args)
{
	const char *build = getenv("PINFS_BUILD");
	char cmd[512];
	size_t n;
	FILE *p;
	int status;

	(void)snprintf(cmd, sizeof cmd, "%s/fsck.pinfs %s 2>&1", build != NULL ? build : "build", args);
	p = popen(cmd, "r");
	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	n = fread(out, 1, size - 1, p);
	out[n] = '\0';
	status = pclose(p);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void save(const char *path, const uint8_t *base, uint64_t bytes)
{
	FILE *f = fopen(path, "we");

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_EQUAL(fwrite(base, 1, bytes, f), bytes);
	(void)fclose(f);
}

static void test_program(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[256], args[300], out[4096];
	struct copy c = copy_make();
	struct pf_d_inode *di = img_inode(im, c.pm->base, im->a);
	uint8_t line[PF_LINE], *after;
	FILE *f;
	int fd;

	(void)snprintf(path, sizeof path, "%s/fsck-test-%d.img", tmp != NULL ? tmp : "/dev/shm", (int)getpid());
	(void)snprintf(args, sizeof args, "-n %s", path);

	/* A transaction to replay: told, checked, and not one byte of the file changed. */
	memcpy(line, di, sizeof line);
	add32(&di->i_nlink, 1);
	seal_lane(c.pm->base, (uint64_t)((uint8_t *)di - c.pm->base), line);
	save(path, c.pm->base, IMG_BYTES);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_OK);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "clean, 11 files"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "1 transactions to replay"));
	after = malloc(IMG_BYTES);
	f = fopen(path, "re");
	CU_ASSERT_FATAL(after != NULL && f != NULL);
	CU_ASSERT_EQUAL(fread(after, 1, IMG_BYTES, f), IMG_BYTES);
	CU_ASSERT_EQUAL(memcmp(after, c.pm->base, IMG_BYTES), 0);
	(void)fclose(f);
	free(after);

	/* In use: refused, the holder named; -F looks nevertheless. */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(flock(fd, LOCK_SH), 0);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_ERROR);
	(void)snprintf(args, sizeof args, "pid %d (", (int)getpid());
	CU_ASSERT_PTR_NOT_NULL(strstr(out, args));
	(void)snprintf(args, sizeof args, "-n -F %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_OK);
	(void)close(fd);

	/* Damage, and what is no pinfs at all. */
	di = img_inode(im, c.pm->base, im->b);
	flip(&di->i_mtime);
	save(path, c.pm->base, IMG_BYTES);
	(void)snprintf(args, sizeof args, "-n %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_UNCORRECTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "which fsck.pinfs -y would repair"));
	(void)snprintf(args, sizeof args, "-p %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_UNCORRECTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "run fsck.pinfs -y"));
	(void)snprintf(args, sizeof args, "-y -C 1 %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_CORRECTED);
	(void)snprintf(args, sizeof args, "\n3 1 2 %s\n", path);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, args));
	(void)snprintf(args, sizeof args, "-y -C 0 %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_OK);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, ": phase 3 |="));
	(void)snprintf(args, sizeof args, "-n %s", path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_OK);
	memset(c.pm->base, 0, IMG_BYTES);
	save(path, c.pm->base, IMG_BYTES);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_ERROR);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "not a pinfs image"));
	save(path, c.pm->base, 12345);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_ERROR);
	(void)unlink(path);
	CU_ASSERT_EQUAL(run(out, sizeof out, args), FSCK_ERROR);

	CU_ASSERT_EQUAL(run(out, sizeof out, "-p -y x"), FSCK_USAGE);
	CU_ASSERT_EQUAL(run(out, sizeof out, "-y -F x"), FSCK_USAGE);
	CU_ASSERT_EQUAL(run(out, sizeof out, "-C bar x"), FSCK_USAGE);
	CU_ASSERT_EQUAL(run(out, sizeof out, ""), FSCK_USAGE);
	CU_ASSERT_EQUAL(run(out, sizeof out, "-n a b"), FSCK_USAGE);
	CU_ASSERT_EQUAL(run(out, sizeof out, "-V"), FSCK_OK);
	copy_free(&c);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "a sound image is clean", test_clean },
		{ "each damage is named", test_damage },
		{ "a run with two owners", test_long_conflict },
		{ "journal replayed in memory", test_replay },
		{ "conflicts without end", test_many_conflicts },
		{ "the program", test_program },
	};
	int rc;

	im = img_make();
	rc = unit_main("fsck", cases, PF_ARRAY_LEN(cases));
	img_free(im);
	return rc;
}
