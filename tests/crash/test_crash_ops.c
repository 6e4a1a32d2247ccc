/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_ops.c - power loss in the middle of every operation of the filesystem.
 *
 * A list of steps runs on a mounted core whose stores are recorded. At each drain, images of what a crash could leave are mounted; the
 * tree found there must be exactly the one before the step or the one after it, and fsck must be content. Steps that
 * are not atomic by contract (overwriting, writes of several pages) name their file: what they may do to it has a check of
 * its own. The twin leaves out drains, and must be caught.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "harness/crash.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "media/pmem.h"
#include "op/op.h"

#define RENAME_NOREPLACE_ 1U
#define RENAME_EXCHANGE_ 2U
#define PAGE 4096U
#define SUBSETS 6U

/* ---- calls on the core, by path; everything is one level deep or two ---- */

static const struct pf_cred cred = { .uid = 0, .gid = 0, .pid = 1, .umask = 022 };

static int look_up(struct pf_fs *fs, uint64_t dir, const char *name, uint64_t *ino)
{
	struct pf_entry e;
	int err = pf_op_lookup(fs, dir, name, &e);

	if (err == 0) {
		*ino = e.ino;
		pf_op_forget(fs, e.ino, 1);
	}
	return err;
}

/* "d/x" -> inode of d (or the root), "x" */
static uint64_t split(struct pf_fs *fs, const char *path, const char **name)
{
	const char *slash = strchr(path, '/');
	char dir[64];
	uint64_t ino;

	*name = slash ? slash + 1 : path;
	if (slash == NULL)
		return PF_INO_ROOT;
	(void)snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
	return look_up(fs, PF_INO_ROOT, dir, &ino) == 0 ? ino : 0;
}

static uint64_t ino_of(struct pf_fs *fs, const char *path)
{
	const char *name;
	uint64_t dir = split(fs, path, &name), ino;

	return dir != 0 && look_up(fs, dir, name, &ino) == 0 ? ino : 0;
}

struct sync_req { struct pf_areq r; sem_t done; ssize_t res; };

static void req_done(struct pf_areq *r, ssize_t res)
{
	struct sync_req *s = PF_CONTAINER_OF(r, struct sync_req, r);

	s->res = res;
	(void)sem_post(&s->done);
}

static ssize_t run(struct pf_fs *fs, struct sync_req *s)
{
	(void)sem_init(&s->done, 0, 0);
	s->r.cred = cred;
	s->r.ar_done = req_done;
	pf_op_start(fs, &s->r);
	while (sem_wait(&s->done) != 0)
		;
	(void)sem_destroy(&s->done);
	return s->res;
}

static int do_mknod(struct pf_fs *fs, const char *path)
{
	struct pf_entry e;
	const char *name;
	uint64_t dir = split(fs, path, &name);
	int err = pf_op_mknod(fs, &cred, dir, name, S_IFREG | 0644, 0, &e);

	if (err == 0)
		pf_op_forget(fs, e.ino, 1);
	return err;
}

static int do_mkdir(struct pf_fs *fs, const char *path)
{
	struct pf_entry e;
	const char *name;
	uint64_t dir = split(fs, path, &name);
	int err = pf_op_mkdir(fs, &cred, dir, name, 0755, &e);

	if (err == 0)
		pf_op_forget(fs, e.ino, 1);
	return err;
}

static int do_symlink(struct pf_fs *fs, const char *path, const char *target)
{
	struct pf_entry e;
	const char *name;
	uint64_t dir = split(fs, path, &name);
	int err = pf_op_symlink(fs, &cred, dir, name, target, &e);

	if (err == 0)
		pf_op_forget(fs, e.ino, 1);
	return err;
}

static int do_link(struct pf_fs *fs, const char *from, const char *path)
{
	struct pf_entry e;
	const char *name;
	uint64_t dir = split(fs, path, &name);
	int err = pf_op_link(fs, ino_of(fs, from), dir, name, &e);

	if (err == 0)
		pf_op_forget(fs, e.ino, 1);
	return err;
}

static int do_unlink(struct pf_fs *fs, const char *path)
{
	const char *name;
	uint64_t dir = split(fs, path, &name);

	return pf_op_unlink(fs, dir, name);
}

static int do_rmdir(struct pf_fs *fs, const char *path)
{
	const char *name;
	uint64_t dir = split(fs, path, &name);

	return pf_op_rmdir(fs, dir, name);
}

static int do_rename(struct pf_fs *fs, const char *from, const char *to, unsigned int flags)
{
	const char *oname, *nname;
	uint64_t odir = split(fs, from, &oname), ndir = split(fs, to, &nname);

	return pf_op_rename(fs, odir, oname, ndir, nname, flags);
}

static int do_write(struct pf_fs *fs, const char *path, uint64_t off, size_t len, int fill)
{
	struct sync_req s = { .r = { .op = PF_AOP_WRITE, .ino = ino_of(fs, path) } };
	void *buf = malloc(len);
	ssize_t got;

	memset(buf, fill, len);
	s.r.write.off = off;
	s.r.write.buf = buf;
	s.r.write.len = len;
	got = run(fs, &s);
	free(buf);
	return got == (ssize_t)len ? 0 : got < 0 ? (int)got : -EIO;
}

static int do_truncate(struct pf_fs *fs, const char *path, uint64_t size)
{
	struct sync_req s = { .r = { .op = PF_AOP_SETATTR, .ino = ino_of(fs, path) } };

	s.r.setattr.set = PF_SET_SIZE;
	s.r.setattr.st.st_size = (off_t)size;
	return (int)run(fs, &s);
}

static int do_chmod(struct pf_fs *fs, const char *path, mode_t mode)
{
	struct sync_req s = { .r = { .op = PF_AOP_SETATTR, .ino = ino_of(fs, path) } };

	s.r.setattr.set = PF_SET_MODE;
	s.r.setattr.st.st_mode = mode;
	return (int)run(fs, &s);
}

static int do_fallocate(struct pf_fs *fs, const char *path, int mode, uint64_t off, uint64_t len)
{
	struct sync_req s = { .r = { .op = PF_AOP_FALLOCATE, .ino = ino_of(fs, path) } };

	s.r.fallocate.mode = mode;
	s.r.fallocate.off = off;
	s.r.fallocate.len = len;
	return (int)run(fs, &s);
}

/* ---- what a tree looks like: one line for each name, sorted ---- */

struct text { char *p; size_t n, room; };

static void say(struct text *t, const char *fmt, ...) PF_PRINTF(2, 3);
static void say(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (t->room - t->n < 512) {
		t->room = t->room ? 2 * t->room : 65536;
		t->p = realloc(t->p, t->room);
		if (t->p == NULL)
			abort();
	}
	va_start(ap, fmt);
	n = vsnprintf(t->p + t->n, t->room - t->n, fmt, ap);
	va_end(ap);
	t->n += (size_t)n;
}

static uint32_t content(struct pf_fs *fs, uint64_t ino, uint64_t size)
{
	uint64_t off = 0;
	uint32_t crc = 0;

	while (off < size) {
		struct pf_rd *rd = malloc(sizeof *rd);

		if (rd == NULL || pf_op_read_begin(fs, ino, off, 1 << 20, rd) != 0) {
			free(rd);
			return 0xbad;
		}
		for (int i = 0; i < rd->n; i++)
			crc = pf_crc32c(crc, rd->iov[i].iov_base, rd->iov[i].iov_len);
		off += rd->got;
		if (rd->got == 0)
			off = size;
		pf_op_read_end(fs, rd);
		free(rd);
	}
	return crc;
}

struct names { char name[512][64]; uint64_t ino[512]; unsigned int n; };

static bool note_name(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next, const struct pf_entry *e)
{
	struct names *l = arg;

	(void)type;
	(void)next;
	(void)e;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return true;
	if (l->n == 512)
		return false;
	(void)snprintf(l->name[l->n], sizeof l->name[0], "%s", name);
	l->ino[l->n++] = ino;
	return true;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* @skip: a file of which only the name is noted. Every name is looked up, so the index is walked as well as the leaves. */
static void describe(struct pf_fs *fs, uint64_t dir, const char *prefix, const char *skip, struct text *t)
{
	struct names *l = calloc(1, sizeof *l);
	int err = pf_op_readdir(fs, dir, 0, false, note_name, l);

	if (err != 0)
		say(t, "%s: readdir %d\n", prefix, err);
	qsort(l->name, l->n, sizeof l->name[0], by_name);
	for (unsigned int i = 0; i < l->n; i++) {
		char path[160], target[4096];
		struct pf_entry e;

		(void)snprintf(path, sizeof path, "%s%s", prefix, l->name[i]);
		err = pf_op_lookup(fs, dir, l->name[i], &e);
		if (err != 0) {
			say(t, "%s lookup %d\n", path, err);
			continue;
		}
		if (skip != NULL && strcmp(path, skip) == 0) {
			say(t, "%s\n", path);
		} else if (S_ISDIR(e.st.st_mode)) {
			say(t, "%s/ %o nlink %lu\n", path, e.st.st_mode, (unsigned long)e.st.st_nlink);
			(void)strcat(path, "/");
			describe(fs, e.ino, path, skip, t);
		} else if (S_ISLNK(e.st.st_mode)) {
			if (pf_op_readlink(fs, e.ino, target, sizeof target) != 0)
				(void)strcpy(target, "?");
			say(t, "%s -> %.200s %zu\n", path, target, strlen(target));
		} else {
			say(t, "%s %o nlink %lu size %lld crc %08x\n", path, e.st.st_mode, (unsigned long)e.st.st_nlink,
			    (long long)e.st.st_size, content(fs, e.ino, (uint64_t)e.st.st_size));
		}
		pf_op_forget(fs, e.ino, 1);
	}
	free(l);
}

/* ---- crash images ---- */

/* A file whose step is not atomic: each page is all @before or all @after (0: a hole or behind the end), size one of two. */
struct loose { const char *path; uint64_t size_before, size_after; bool mixed; int before, after; };

struct watch {
	const struct loose *loose;
	struct text pre;
	char *seen[4096];		/* trees that are not the one before */
	unsigned int nseen;
	unsigned long images, bad;
	unsigned long second;		/* images at the last crash within a repair */
	bool quiet;			/* the twin: damage is expected */
	char img[256];
	struct pf_pm *image;		/* for the thread */
	const char *step;
	unsigned int fence;
};

static const struct pf_opts opts = { .pmem = PF_PMEM_CPU, .window = 64 << 20, .revoke_timeout_ms = 1000 };

static void complain(struct watch *w, const char *what)
{
	w->bad++;
	if (!w->quiet)
		pt_say("%s, drain %u: %s", w->step, w->fence, what);
}

static bool fsck_ok(const char *img, char *out, size_t room)
{
	char prog[512];
	const char *argv[] = { prog, "-n", img, NULL };

	(void)snprintf(prog, sizeof prog, "%s/fsck.pinfs", pt_build());
	return pt_run(out, room, 20000, argv) == 0;
}

/* Pages of @path are old or new, never anything else, and never torn unless the step overwrites. */
static void check_loose(struct watch *w, struct pf_fs *fs)
{
	const struct loose *l = w->loose;
	uint64_t ino = ino_of(fs, l->path);
	struct stat st;
	struct pf_rd *rd = malloc(sizeof *rd);

	if (ino == 0 || pf_op_getattr(fs, ino, &st, NULL) != 0) {
		complain(w, "the file is gone");
		goto out;
	}
	if ((uint64_t)st.st_size != l->size_before && (uint64_t)st.st_size > l->size_after)
		complain(w, "impossible size");
	for (uint64_t off = 0; off < (uint64_t)st.st_size; off += PAGE) {
		unsigned int n_before = 0, n_after = 0, n = 0;

		if (pf_op_read_begin(fs, ino, off, PAGE, rd) != 0) {
			complain(w, "cannot be read");
			goto out;
		}
		for (int i = 0; i < rd->n; i++)
			for (size_t k = 0; k < rd->iov[i].iov_len; k++, n++) {
				uint8_t c = ((const uint8_t *)rd->iov[i].iov_base)[k];

				n_before += c == l->before || c == 0;
				n_after += c == l->after;
			}
		pf_op_read_end(fs, rd);
		if (l->mixed ? n_before + n_after < n : n_before != n && n_after != n)
			complain(w, "bytes of neither before nor after");
	}
out:
	free(rd);
}

/* Mount @image, compare, unmount, fsck. With @fn, every drain of mount and unmount is a place for the next crash. */
static void check_mount(struct watch *w, struct pf_pm *image, crash_fn fn, struct watch *inner)
{
	struct crash *c = fn ? crash_attach(image, fn, inner, 1, w->images + 1) : NULL;
	struct pf_mount_info info;
	struct text now = { 0 };
	struct pf_fs *fs;
	char out[2048];

	if (pf_fs_mount_pm(image, &opts, &fs, &info) != 0) {
		complain(w, info.why);
		goto out;
	}
	describe(fs, PF_INO_ROOT, "", w->loose ? w->loose->path : NULL, &now);
	if (w->loose != NULL)
		check_loose(w, fs);
	pf_fs_unmount_pm(fs);
	if (w->images % 2 == 0 && (crash_image_save(image, w->img) != 0 || !fsck_ok(w->img, out, sizeof out))) {
		complain(w, "fsck after the mount:");
		if (!w->quiet)
			pt_say("%s", out);
	}
	if (strcmp(now.p, w->pre.p) != 0 && w->nseen < PF_ARRAY_LEN(w->seen))
		w->seen[w->nseen++] = strdup(now.p);
	free(now.p);
out:
	if (c != NULL)
		crash_detach(c);
}

static void *check_second(void *arg)
{
	struct watch *w = arg;

	check_mount(w, w->image, NULL, NULL);
	return NULL;
}

/* In a thread of its own: the one that drains holds locks, and a mount takes them anew. */
static void in_thread(struct watch *w, struct pf_pm *image, unsigned int fence, void *(*fn)(void *))
{
	pthread_t t;

	w->image = image;
	w->fence = fence;
	if (pthread_create(&t, NULL, fn, w) != 0)
		abort();
	(void)pthread_join(t, NULL);
	w->images++;
}

/* Crashed again while it was being repaired. */
static void at_second_crash(void *arg, struct pf_pm *image, unsigned int fence)
{
	in_thread(arg, image, fence, check_second);
}

static void *check_first(void *arg)
{
	struct watch *w = arg;
	char out[2048];

	/* Now and then: the image as the crash left it. */
	if (w->images % 8 == 1 && (crash_image_save(w->image, w->img) != 0 || !fsck_ok(w->img, out, sizeof out))) {
		complain(w, "fsck before the mount:");
		if (!w->quiet)
			pt_say("%s", out);
	}
	if (w->images - w->second >= 40) {
		struct pf_pm *image = w->image;
		unsigned int fence = w->fence;

		check_mount(w, image, at_second_crash, w);
		w->fence = fence;
		w->second = w->images;
	} else {
		check_mount(w, w->image, NULL, NULL);
	}
	return NULL;
}

static void at_crash(void *arg, struct pf_pm *image, unsigned int fence)
{
	in_thread(arg, image, fence, check_first);
}

/* ---- the steps ---- */

struct step { const char *what; int (*fn)(struct pf_fs *fs); struct loose loose; };

static int s_create(struct pf_fs *fs) { return do_mknod(fs, "new"); }
static int s_write_first(struct pf_fs *fs) { return do_write(fs, "new", 0, 100, 'n'); }
static int s_append_page(struct pf_fs *fs) { return do_write(fs, "page", PAGE, PAGE, 'q'); }
static int s_append_inside(struct pf_fs *fs) { return do_write(fs, "page", 2 * PAGE, 50, 'r'); }
static int s_write_behind(struct pf_fs *fs) { return do_write(fs, "page", 40 * PAGE, PAGE, 's'); }
static int s_write_many(struct pf_fs *fs) { return do_write(fs, "sparse", 0, 24 * PAGE, 'm'); }
static int s_overwrite(struct pf_fs *fs) { return do_write(fs, "over", 100, 5 * PAGE, 'w'); }
static int s_write_unwritten(struct pf_fs *fs) { return do_write(fs, "alloc", 2 * PAGE, PAGE, 'u'); }
static int s_mkdir(struct pf_fs *fs) { return do_mkdir(fs, "d2"); }
static int s_mkdir_deep(struct pf_fs *fs) { return do_mkdir(fs, "d/deep"); }
static int s_rmdir(struct pf_fs *fs) { return do_rmdir(fs, "d2"); }
static int s_link(struct pf_fs *fs) { return do_link(fs, "new", "d/hard"); }
static int s_unlink_link(struct pf_fs *fs) { return do_unlink(fs, "new"); }
static int s_symlink(struct pf_fs *fs) { return do_symlink(fs, "soft", "d/hard"); }
static int s_symlink_long(struct pf_fs *fs)
{
	char target[1500];

	memset(target, 't', sizeof target);
	target[sizeof target - 1] = '\0';
	return do_symlink(fs, "softlong", target);
}
static int s_unlink_symlink(struct pf_fs *fs) { return do_unlink(fs, "softlong"); }
static int s_rename(struct pf_fs *fs) { return do_rename(fs, "page", "d/page", 0); }
static int s_rename_noreplace(struct pf_fs *fs) { return do_rename(fs, "d/page", "page", RENAME_NOREPLACE_); }
static int s_rename_over(struct pf_fs *fs) { return do_rename(fs, "victor", "victim", 0); }
static int s_exchange(struct pf_fs *fs) { return do_rename(fs, "page", "d/hard", RENAME_EXCHANGE_); }
static int s_rename_dir(struct pf_fs *fs) { return do_rename(fs, "d/deep", "deep", 0); }
static int s_chmod(struct pf_fs *fs) { return do_chmod(fs, "page", 0600); }
static int s_grow(struct pf_fs *fs) { return do_truncate(fs, "page", 1 << 20); }
static int s_shrink(struct pf_fs *fs) { return do_truncate(fs, "victim", 2 * PAGE); }
static int s_shrink_inside(struct pf_fs *fs) { return do_truncate(fs, "victim", PAGE + 10); }
static int s_shrink_frag(struct pf_fs *fs) { return do_truncate(fs, "frag", 700 * PAGE); }
static int s_punch(struct pf_fs *fs)
{
	return do_fallocate(fs, "punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PAGE, 3 * PAGE);
}
static int s_punch_frag(struct pf_fs *fs)
{
	return do_fallocate(fs, "frag", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100 * PAGE, 500 * PAGE);
}
static int s_falloc(struct pf_fs *fs) { return do_fallocate(fs, "alloc", 0, 0, 6 * PAGE); }
static int s_falloc_keep(struct pf_fs *fs) { return do_fallocate(fs, "alloc", FALLOC_FL_KEEP_SIZE, 6 * PAGE, 900 * PAGE); }
static int s_zero(struct pf_fs *fs) { return do_fallocate(fs, "punch", FALLOC_FL_ZERO_RANGE, 6 * PAGE, 2 * PAGE); }
static int s_unlink_frag(struct pf_fs *fs) { return do_unlink(fs, "frag"); }
static int s_unlink_big(struct pf_fs *fs) { return do_unlink(fs, "victim"); }
static int s_many_names(struct pf_fs *fs)
{
	char name[64];

	/* The setup has filled the leaf: this name splits it. */
	(void)snprintf(name, sizeof name, "many/%040d", 1000);
	return do_mknod(fs, name);
}

static const struct step steps[] = {
	{ .what = "create", .fn = s_create },
	{ .what = "first write", .fn = s_write_first },
	{ .what = "append a page", .fn = s_append_page },
	{ .what = "append part of a page", .fn = s_append_inside },
	{ .what = "write behind the end", .fn = s_write_behind },
	{ .what = "write many pages into a hole", .fn = s_write_many,
	  .loose = { "sparse", 30 * PAGE, 30 * PAGE, false, 0, 'm' } },
	{ .what = "overwrite", .fn = s_overwrite, .loose = { "over", 8 * PAGE, 8 * PAGE, true, 'o', 'w' } },
	{ .what = "fallocate", .fn = s_falloc },
	{ .what = "write into unwritten space", .fn = s_write_unwritten },
	{ .what = "fallocate, keep size", .fn = s_falloc_keep },
	{ .what = "mkdir", .fn = s_mkdir },
	{ .what = "mkdir, deeper", .fn = s_mkdir_deep },
	{ .what = "rmdir", .fn = s_rmdir },
	{ .what = "link", .fn = s_link },
	{ .what = "unlink one of two names", .fn = s_unlink_link },
	{ .what = "symlink", .fn = s_symlink },
	{ .what = "long symlink", .fn = s_symlink_long },
	{ .what = "unlink the long symlink", .fn = s_unlink_symlink },
	{ .what = "rename to another directory", .fn = s_rename },
	{ .what = "rename without replacing", .fn = s_rename_noreplace },
	{ .what = "rename over a file", .fn = s_rename_over },
	{ .what = "exchange", .fn = s_exchange },
	{ .what = "rename a directory", .fn = s_rename_dir },
	{ .what = "chmod", .fn = s_chmod },
	{ .what = "grow", .fn = s_grow },
	{ .what = "shrink", .fn = s_shrink },
	{ .what = "shrink inside a page", .fn = s_shrink_inside },
	{ .what = "punch", .fn = s_punch },
	{ .what = "zero range", .fn = s_zero },
	{ .what = "punch 250 extents", .fn = s_punch_frag },
	{ .what = "cut 450 extents", .fn = s_shrink_frag },
	{ .what = "unlink 100 extents", .fn = s_unlink_frag },
	{ .what = "unlink", .fn = s_unlink_big },
	{ .what = "split a directory leaf", .fn = s_many_names },
};

static int setup(struct pf_fs *fs)
{
	char name[64];
	int err = do_mkdir(fs, "d");

	err = err ? err : do_mkdir(fs, "many");
	err = err ? err : do_mknod(fs, "page");
	err = err ? err : do_write(fs, "page", 0, PAGE, 'p');
	err = err ? err : do_mknod(fs, "over");
	err = err ? err : do_write(fs, "over", 0, 8 * PAGE, 'o');
	err = err ? err : do_mknod(fs, "punch");
	err = err ? err : do_write(fs, "punch", 0, 9 * PAGE, 'h');
	err = err ? err : do_mknod(fs, "alloc");
	err = err ? err : do_mknod(fs, "sparse");
	err = err ? err : do_truncate(fs, "sparse", 30 * PAGE);
	err = err ? err : do_mknod(fs, "victim");
	err = err ? err : do_write(fs, "victim", 0, 3 * PAGE, 'v');
	err = err ? err : do_mknod(fs, "victor");
	err = err ? err : do_write(fs, "victor", 0, 20 * PAGE, 'V');
	err = err ? err : do_mknod(fs, "frag");
	for (unsigned int i = 0; i < 800 && err == 0; i++)
		err = do_write(fs, "frag", i * 2 * PAGE, PAGE, 'f');
	err = err ? err : do_truncate(fs, "frag", 1600 * PAGE);
	/* 63 names of 40 letters, 64 bytes each, fill a leaf. */
	for (unsigned int i = 0; i < 63 && err == 0; i++) {
		(void)snprintf(name, sizeof name, "many/%040u", i);
		err = do_mknod(fs, name);
	}
	return err;
}

static struct pf_fs *new_fs(const char *img)
{
	char prog[512], out[1024];
	const char *argv[] = { prog, "-f", "-s", "16M", img, NULL };
	struct pf_mount_info info;
	struct pf_fs *fs = NULL;
	int err;

	(void)snprintf(prog, sizeof prog, "%s/mkfs.pinfs", pt_build());
	CU_ASSERT_EQUAL_FATAL(pt_run(out, sizeof out, 20000, argv), 0);
	err = pf_fs_mount(img, &opts, &fs, &info);
	if (err != 0)
		pt_say("mount: %s", info.why);
	CU_ASSERT_EQUAL_FATAL(err, 0);
	err = setup(fs);
	if (err != 0)
		pt_say("setup: %s", strerror(-err));
	CU_ASSERT_EQUAL_FATAL(err, 0);
	return fs;
}

/* One step under observation; drain @skip of it left out. */
static void observe(struct pf_fs *fs, const struct step *s, struct watch *w, unsigned int skip, unsigned int subsets)
{
	struct text post = { 0 };
	struct crash *c;
	int err;

	w->step = s->what;
	w->loose = s->loose.path ? &s->loose : NULL;
	describe(fs, PF_INO_ROOT, "", w->loose ? w->loose->path : NULL, &w->pre);
	c = crash_attach(fs->pm, at_crash, w, subsets, 1);
	crash_skip_drain(c, skip);
	err = s->fn(fs);
	if (err != 0)
		complain(w, strerror(-err));
	crash_detach(c);
	describe(fs, PF_INO_ROOT, "", w->loose ? w->loose->path : NULL, &post);
	if (!w->quiet && w->loose == NULL && strcmp(post.p, w->pre.p) == 0 && s->fn != s_falloc_keep)
		complain(w, "changed nothing");
	for (unsigned int i = 0; i < w->nseen; i++) {
		if (strcmp(w->seen[i], post.p) != 0) {
			complain(w, "neither before nor after:");
			if (!w->quiet)
				pt_say("--- before\n%s--- after\n%s--- crash\n%s", w->pre.p, post.p, w->seen[i]);
		}
		free(w->seen[i]);
	}
	w->nseen = 0;
	free(w->pre.p);
	w->pre = (struct text){ 0 };
	free(post.p);
}

static void every_step(void)
{
	struct watch *w = calloc(1, sizeof *w);
	char live[256];
	struct pf_fs *fs;

	(void)snprintf(live, sizeof live, "%s/live.img", pt_tmp());
	(void)snprintf(w->img, sizeof w->img, "%s/crash.img", pt_tmp());
	fs = new_fs(live);
	for (size_t i = 0; i < PF_ARRAY_LEN(steps); i++)
		observe(fs, &steps[i], w, UINT32_MAX, SUBSETS);
	CU_ASSERT_EQUAL(w->bad, 0);
	CU_ASSERT(w->images > 34 * 6);
	pt_say("%lu crash images", w->images);
	pf_fs_unmount(fs);
	(void)unlink(live);
	(void)unlink(w->img);
	free(w);
}

/* Without the first or the second drain of its first transaction, a step must be seen to go wrong in some image. */
static void twin(void)
{
	static const size_t which[] = { 0, 10, 20 };	/* create, mkdir, rename over */
	struct watch *w = calloc(1, sizeof *w);
	char live[256];
	int hush, devnull;

	(void)snprintf(live, sizeof live, "%s/live.img", pt_tmp());
	(void)snprintf(w->img, sizeof w->img, "%s/crash.img", pt_tmp());
	w->quiet = true;
	hush = dup(STDERR_FILENO);
	devnull = open("/dev/null", O_WRONLY | O_CLOEXEC);
	(void)dup2(devnull, STDERR_FILENO);
	for (unsigned int skip = 0; skip < 2; skip++) {
		struct pf_fs *fs = new_fs(live);

		w->bad = 0;
		for (size_t i = 0; i < PF_ARRAY_LEN(which); i++)
			observe(fs, &steps[which[i]], w, skip, 4 * SUBSETS);
		CU_ASSERT(w->bad > 0);
		pf_fs_unmount(fs);
	}
	(void)dup2(hush, STDERR_FILENO);
	(void)close(hush);
	(void)close(devnull);
	(void)unlink(live);
	(void)unlink(w->img);
	free(w);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "every step, every drain", every_step, 300 },
		{ "twin: a drain left out is noticed", twin, 120 },
	};
	static const struct pt_suite suites[] = { { "crash/ops", cases, PF_ARRAY_LEN(cases) } };

	pf_log_init("test_crash_ops", PF_LOG_ERR, false);
	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
