/* SPDX-License-Identifier: BSD-3-Clause */
/* core.c - see core.h. Owns nothing; one thread. */
#include "harness/core.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/crc32c.h"
#include "obj/inode.h"

#define DEPTH_MAX 64U			/* a damaged directory may contain itself */
#define READ_MAX (UINT64_C(4) << 20)	/* bytes read of each data run: a damaged size may be 2^62 */

static const struct pf_cred root_cred = { .umask = 022 };

int core_mount(struct pf_pm *pm, struct pf_fs **out, const char **why)
{
	const struct pf_opts opts = {
		.policy = { .on_busy = PF_BUSY_WAIT },
		.pmem = PF_PMEM_CPU,
		.revoke_timeout_ms = 1000,
		.window = UINT64_C(64) << 20,
		.ro = pm->ro,
		.atime = PF_ATIME_NEVER,	/* to look changes nothing */
	};
	struct pf_mount_info info;
	int err = pf_fs_mount_pm(pm, &opts, out, &info);

	*why = info.why;
	return err;
}

void core_unmount(struct pf_fs *fs)
{
	pf_fs_unmount_pm(fs);
}

/* ---- paths ---- */

static void forget(struct pf_fs *fs, const struct pf_entry *e)
{
	pf_op_forget(fs, e->ino, 1);
}

/* The directory of @path and the last name in it. */
static int64_t parent(struct pf_fs *fs, const char *path, char name[PF_NAME_MAX + 1])
{
	uint64_t ino = PF_INO_ROOT;
	struct pf_entry e;
	int err;

	for (;;) {
		size_t n;

		path += strspn(path, "/");
		n = strcspn(path, "/");
		assert(n <= PF_NAME_MAX);
		memcpy(name, path, n);
		name[n] = '\0';
		path += n;
		if (*path == '\0')
			return (int64_t)ino;
		err = pf_op_lookup(fs, ino, name, &e);
		if (err != 0)
			return err;
		forget(fs, &e);
		ino = e.ino;
	}
}

int64_t core_find(struct pf_fs *fs, const char *path)
{
	char name[PF_NAME_MAX + 1];
	int64_t dir = parent(fs, path, name);
	struct pf_entry e;
	int err;

	if (dir < 0 || name[0] == '\0')
		return dir;
	err = pf_op_lookup(fs, (uint64_t)dir, name, &e);
	if (err != 0)
		return err;
	forget(fs, &e);
	return (int64_t)e.ino;
}

static int make(struct pf_fs *fs, const char *path, mode_t mode, dev_t rdev, const char *target, int64_t *ino)
{
	char name[PF_NAME_MAX + 1];
	int64_t dir = parent(fs, path, name);
	struct pf_entry e;
	int err;

	if (dir < 0)
		return (int)dir;
	if (target != NULL)
		err = pf_op_symlink(fs, &root_cred, (uint64_t)dir, name, target, &e);
	else if (S_ISDIR(mode))
		err = pf_op_mkdir(fs, &root_cred, (uint64_t)dir, name, mode & 07777, &e);
	else
		err = pf_op_mknod(fs, &root_cred, (uint64_t)dir, name, mode, rdev, &e);
	if (err != 0)
		return err;
	forget(fs, &e);
	if (ino != NULL)
		*ino = (int64_t)e.ino;
	return 0;
}

int64_t core_create(struct pf_fs *fs, const char *path)
{
	int64_t ino = 0;
	int err = make(fs, path, S_IFREG | 0644, 0, NULL, &ino);

	return err != 0 ? err : ino;
}

int core_mkdir(struct pf_fs *fs, const char *path)
{
	return make(fs, path, S_IFDIR | 0755, 0, NULL, NULL);
}

int core_symlink(struct pf_fs *fs, const char *path, const char *target)
{
	return make(fs, path, 0, 0, target, NULL);
}

int core_mknod(struct pf_fs *fs, const char *path, mode_t mode, dev_t rdev)
{
	return make(fs, path, mode, rdev, NULL, NULL);
}

int core_link(struct pf_fs *fs, const char *old, const char *new)
{
	char name[PF_NAME_MAX + 1];
	int64_t ino = core_find(fs, old), dir = parent(fs, new, name);
	struct pf_entry e;
	int err;

	if (ino < 0 || dir < 0)
		return (int)(ino < 0 ? ino : dir);
	err = pf_op_link(fs, (uint64_t)ino, (uint64_t)dir, name, &e);
	if (err == 0)
		forget(fs, &e);
	return err;
}

int core_unlink(struct pf_fs *fs, const char *path)
{
	char name[PF_NAME_MAX + 1];
	int64_t dir = parent(fs, path, name);

	return dir < 0 ? (int)dir : pf_op_unlink(fs, (uint64_t)dir, name);
}

int core_rmdir(struct pf_fs *fs, const char *path)
{
	char name[PF_NAME_MAX + 1];
	int64_t dir = parent(fs, path, name);

	return dir < 0 ? (int)dir : pf_op_rmdir(fs, (uint64_t)dir, name);
}

int core_rename(struct pf_fs *fs, const char *old, const char *new, unsigned int flags)
{
	char oname[PF_NAME_MAX + 1], nname[PF_NAME_MAX + 1];
	int64_t odir = parent(fs, old, oname), ndir = parent(fs, new, nname);

	if (odir < 0 || ndir < 0)
		return (int)(odir < 0 ? odir : ndir);
	return pf_op_rename(fs, &root_cred, (uint64_t)odir, oname, (uint64_t)ndir, nname, flags);
}

/* ---- requests that may break a layout: nobody has one here, so they end before pf_op_start() returns ---- */

struct req { struct pf_areq a; ssize_t res; bool done; };

static void req_done(struct pf_areq *a, ssize_t res)
{
	struct req *r = PF_CONTAINER_OF(a, struct req, a);

	r->res = res;
	r->done = true;
}

static ssize_t run(struct pf_fs *fs, struct req *r, const char *path)
{
	int64_t ino = core_find(fs, path);

	if (ino < 0)
		return (ssize_t)ino;
	r->a.ino = (uint64_t)ino;
	r->a.cred = root_cred;
	r->a.ar_done = req_done;
	pf_op_start(fs, &r->a);
	assert(r->done);
	return r->res;
}

ssize_t core_write(struct pf_fs *fs, const char *path, uint64_t off, const void *buf, size_t len)
{
	struct req r = { .a = { .op = PF_AOP_WRITE, .write = { .off = off, .buf = buf, .len = len } } };

	return run(fs, &r, path);
}

int core_truncate(struct pf_fs *fs, const char *path, uint64_t size)
{
	struct req r = { .a = { .op = PF_AOP_SETATTR, .setattr = { .set = PF_SET_SIZE } } };

	r.a.setattr.st.st_size = (off_t)size;
	return (int)run(fs, &r, path);
}

int core_chmod(struct pf_fs *fs, const char *path, mode_t mode)
{
	struct req r = { .a = { .op = PF_AOP_SETATTR, .setattr = { .set = PF_SET_MODE } } };

	r.a.setattr.st.st_mode = mode;
	return (int)run(fs, &r, path);
}

int core_chown(struct pf_fs *fs, const char *path, uid_t uid, gid_t gid)
{
	struct req r = { .a = { .op = PF_AOP_SETATTR, .setattr = { .set = PF_SET_UID | PF_SET_GID } } };

	r.a.setattr.st.st_uid = uid;
	r.a.setattr.st.st_gid = gid;
	return (int)run(fs, &r, path);
}

int core_utimens(struct pf_fs *fs, const char *path, struct timespec atime, struct timespec mtime)
{
	struct req r = { .a = { .op = PF_AOP_SETATTR, .setattr = { .set = PF_SET_ATIME | PF_SET_MTIME } } };

	r.a.setattr.st.st_atim = atime;
	r.a.setattr.st.st_mtim = mtime;
	return (int)run(fs, &r, path);
}

int core_store_sync(struct pf_fs *fs, const char *path, uint64_t off, const void *buf, size_t len)
{
	int64_t ino = core_find(fs, path);
	struct pf_inode *ip;
	struct pf_dext ext;
	uint64_t at = off, size;
	int err;

	if (ino < 0)
		return (int)ino;
	err = pf_inode_get(fs, (uint64_t)ino, &ip);
	if (err != 0)
		return err;
	if (!pf_inode_isreg(ip))
		err = -EISDIR;
	while (err == 0 && at < off + len) {
		unsigned int n = 1;
		uint64_t from, to;

		err = pf_op_extents(fs, ip, at, off + len - at, &ext, &n, &size);
		if (err != 0 || n == 0)
			break;
		from = pf_max64(at, ext.foff);
		to = pf_min64(off + len, ext.foff + ext.len);
		memcpy(pf_pm_at(fs->pm, ext.doff + (from - ext.foff)), (const uint8_t *)buf + (from - off), to - from);
		at = to;
	}
	/* The daemon notes what it grants for writing. */
	if (err == 0)
		pf_inode_dirtied(ip, off, len);
	if (err == 0)
		err = pf_op_fsync(fs, (uint64_t)ino, false);
	pf_inode_put(ip);
	return err;
}

int core_fault(struct pf_fs *fs, const char *path, uint64_t off, size_t len)
{
	int64_t ino = core_find(fs, path);
	struct pf_inode *ip;
	int err;

	if (ino < 0)
		return (int)ino;
	err = pf_inode_get(fs, (uint64_t)ino, &ip);
	if (err != 0)
		return err;
	err = pf_inode_isreg(ip) ? pf_op_alloc_pages(fs, ip, off, len) : -EINVAL;
	pf_inode_put(ip);
	return err;
}

int64_t core_tmpfile(struct pf_fs *fs, const char *dir)
{
	int64_t ino = core_find(fs, dir);
	struct pf_entry e;
	int err;

	if (ino < 0)
		return ino;
	err = pf_op_tmpfile(fs, &root_cred, (uint64_t)ino, 0644, true, &e);
	return err != 0 ? err : (int64_t)e.ino;
}

int core_link_ino(struct pf_fs *fs, uint64_t ino, const char *new)
{
	char name[PF_NAME_MAX + 1];
	int64_t dir = parent(fs, new, name);
	struct pf_entry e;
	int err;

	if (dir < 0)
		return (int)dir;
	err = pf_op_link(fs, ino, (uint64_t)dir, name, &e);
	if (err == 0)
		forget(fs, &e);
	return err;
}

int64_t core_hold(struct pf_fs *fs, const char *path)
{
	char name[PF_NAME_MAX + 1];
	int64_t dir = parent(fs, path, name);
	struct pf_entry e;
	int err;

	if (dir < 0)
		return dir;
	err = pf_op_lookup(fs, (uint64_t)dir, name, &e);
	return err != 0 ? err : (int64_t)e.ino;
}

void core_drop(struct pf_fs *fs, uint64_t ino)
{
	pf_op_forget(fs, ino, 1);
}

int core_fallocate(struct pf_fs *fs, const char *path, int mode, uint64_t off, uint64_t len)
{
	struct req r = { .a = { .op = PF_AOP_FALLOCATE, .fallocate = { .mode = mode, .off = off, .len = len } } };

	return (int)run(fs, &r, path);
}

ssize_t core_copy(struct pf_fs *fs, const char *from, uint64_t foff, const char *to, uint64_t toff, size_t len)
{
	int64_t src = core_find(fs, from);
	struct req r = { .a = { .op = PF_AOP_COPY } };

	if (src < 0)
		return (ssize_t)src;
	r.a.copy.src_ino = (uint64_t)src;
	r.a.copy.src_off = foff;
	r.a.copy.dst_off = toff;
	r.a.copy.len = len;
	return run(fs, &r, to);
}

/* ---- description ---- */

struct walk {
	struct pf_fs *fs;
	char **line;
	size_t n, room;
	unsigned int names, damaged;
};

/* What one readdir gives; the walk goes down afterwards, with nothing locked. */
struct listing {
	struct found { char *name; uint64_t ino; struct stat st; bool sound; } *f;
	size_t n, room;
};

static void *grow(void *p, size_t *room, size_t n, size_t size)
{
	if (n < *room)
		return p;
	*room = *room ? 2 * *room : 64;
	p = realloc(p, *room * size);
	if (p == NULL)
		abort();
	return p;
}

static bool take(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next_cookie,
		 const struct pf_entry *entry)
{
	struct listing *l = arg;
	struct found *f;

	(void)type;
	(void)next_cookie;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return true;
	l->f = grow(l->f, &l->room, l->n, sizeof *l->f);
	f = &l->f[l->n++];
	*f = (struct found){ .name = strdup(name), .ino = ino, .sound = entry != NULL };
	if (entry != NULL)
		f->st = entry->st;
	return l->n < CORE_NAMES_MAX;
}

/* Offsets and checksums of what is written and not zero; equal content, equal result, however it lies on the device. */
static uint32_t content(struct walk *w, uint64_t ino, uint64_t size)
{
	static const uint8_t zero[PF_BLK_SIZE];
	struct pf_rd *rd = malloc(sizeof *rd);
	uint64_t off = 0, read = 0;
	uint32_t crc = 0;

	if (rd == NULL)
		abort();
	while (off < size && read < READ_MAX) {
		uint64_t data;
		int err = pf_op_lseek(w->fs, ino, off, SEEK_DATA, &data);

		if (err == -ENXIO)
			break;
		if (err == 0 && data < off)
			err = -EUCLEAN;
		if (err == 0)
			err = pf_op_read_begin(w->fs, ino, data, PF_BLK_SIZE - data % PF_BLK_SIZE, rd);
		if (err != 0) {
			w->damaged++;
			break;
		}
		for (int i = 0; i < rd->n; i++) {
			size_t n = rd->iov[i].iov_len;

			assert(n <= PF_BLK_SIZE);
			if (memcmp(rd->iov[i].iov_base, zero, n) == 0)
				continue;
			crc = pf_crc32c(crc, &data, sizeof data);
			crc = pf_crc32c(crc, rd->iov[i].iov_base, n);
		}
		off = data + rd->got;
		read += rd->got;
		if (rd->got == 0)
			off = size;
		pf_op_read_end(w->fs, rd);
	}
	free(rd);
	return crc;
}

/* Names and values of the extended attributes, in whatever order: 0 without any. */
static uint32_t attributes(struct walk *w, uint64_t ino)
{
	static char names[PF_XATTR_VALUE_MAX], value[PF_XATTR_VALUE_MAX];
	size_t len = 0, vlen = 0;
	uint32_t all = 0;
	bool hidden;
	int err = pf_op_listxattr(w->fs, ino, true, names, sizeof names, &len, &hidden);

	for (size_t at = 0; err == 0 && at < len; at += strlen(names + at) + 1) {
		uint32_t crc = pf_crc32c(0, names + at, strlen(names + at));

		err = pf_op_getxattr(w->fs, ino, names + at, value, sizeof value, &vlen);
		if (err == 0)
			all ^= pf_crc32c(crc, value, vlen);
	}
	w->damaged += err != 0;
	return all;
}

static void add_line(struct walk *w, const char *path, const struct found *f)
{
	char target[PF_BLK_SIZE], attrs[32] = "", *line;
	const struct stat *st = &f->st;
	int n;

	if (f->sound) {
		uint32_t crc = attributes(w, f->ino);

		if (crc != 0)
			(void)snprintf(attrs, sizeof attrs, " +%08x", crc);
	}

	w->line = grow(w->line, &w->room, w->n, sizeof *w->line);
	if (!f->sound) {
		w->damaged++;
		n = asprintf(&line, "%s damaged\n", path);
	} else if (S_ISREG(st->st_mode)) {
		n = asprintf(&line, "%s %o %ju %jd %08x%s\n", path, st->st_mode, (uintmax_t)st->st_nlink,
			     (intmax_t)st->st_size, content(w, f->ino, (uint64_t)st->st_size), attrs);
	} else if (S_ISLNK(st->st_mode)) {
		if (pf_op_readlink(w->fs, f->ino, target, sizeof target) != 0) {
			w->damaged++;
			target[0] = '\0';
		}
		n = asprintf(&line, "%s %o %ju -> %s%s\n", path, st->st_mode, (uintmax_t)st->st_nlink, target,
			     attrs);
	} else {
		n = asprintf(&line, "%s %o %ju %ju%s\n", path, st->st_mode, (uintmax_t)st->st_nlink,
			     (uintmax_t)st->st_rdev, attrs);
	}
	if (n < 0)
		abort();
	w->line[w->n++] = line;
}

static void walk_dir(struct walk *w, uint64_t ino, const char *path, unsigned int depth)
{
	struct listing l = { 0 };

	if (pf_op_readdir(w->fs, ino, 0, true, take, &l) != 0)
		w->damaged++;
	for (size_t i = 0; i < l.n; i++) {
		struct found *f = &l.f[i];
		char *sub;

		if (asprintf(&sub, "%s/%s", path, f->name) < 0)
			abort();
		if (w->names++ < CORE_NAMES_MAX) {
			add_line(w, sub, f);
			if (f->sound && S_ISDIR(f->st.st_mode) && depth < DEPTH_MAX)
				walk_dir(w, f->ino, sub, depth + 1);
		}
		if (f->sound)
			pf_op_forget(w->fs, f->ino, 1);
		free(sub);
		free(f->name);
	}
	free(l.f);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char *core_describe(struct pf_fs *fs, unsigned int *damaged)
{
	struct walk w = { .fs = fs };
	size_t len = 1, at = 0;
	char *text;

	walk_dir(&w, PF_INO_ROOT, "", 0);
	if (w.n != 0)
		qsort(w.line, w.n, sizeof *w.line, by_text);
	for (size_t i = 0; i < w.n; i++)
		len += strlen(w.line[i]);
	text = malloc(len);
	if (text == NULL)
		abort();
	text[0] = '\0';
	for (size_t i = 0; i < w.n; i++) {
		at += (size_t)sprintf(text + at, "%s", w.line[i]);
		free(w.line[i]);
	}
	free(w.line);
	*damaged = w.damaged;
	return text;
}
