/* SPDX-License-Identifier: BSD-3-Clause */
/* op_env.c - a filesystem without a mount, for tests of fs/obj and fs/op. */
#include "unit/op_env.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "media/mkfs.h"

const struct pf_cred op_root = { .uid = 0, .gid = 0, .pid = 1, .umask = 0 };

static void die(const char *what, int err)
{
	fprintf(stderr, "op_env: %s: %s\n", what, strerror(-err));
	abort();
}

static void mount_it(struct op_env *e)
{
	int err = pf_fs_mount(e->path, &e->opts, &e->fs, &e->info);

	if (err != 0)
		die(e->info.why != NULL ? e->info.why : "mount", err);
}

void op_env_open(struct op_env *e, uint64_t bytes)
{
	const char *dir = getenv("TMPDIR");	/* the runner's, which it empties whatever happens to us */
	struct pf_mkfs m = { .uid = 0, .gid = 0 };
	struct pf_pm *pm;
	int fd, err;

	memset(e, 0, sizeof *e);
	snprintf(e->path, sizeof e->path, "%s/pinfs-test-XXXXXX", dir != NULL ? dir : "/dev/shm");
	fd = mkstemp(e->path);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
		die("image", -1);
	close(fd);
	err = pf_pm_open(e->path, PF_PMEM_CPU, false, true, &pm);
	if (err == 0)
		err = pf_mkfs(pm, &m);
	if (err != 0)
		die("mkfs", err);
	pf_pm_close(pm);
	e->opts = (struct pf_opts){ .policy = { .on_busy = PF_BUSY_WAIT }, .pmem = PF_PMEM_CPU,
				    .window = PF_CHUNK_SIZE * 4,
				    .revoke_timeout_ms = 1000 };
	mount_it(e);
}

void op_env_remount(struct op_env *e)
{
	pf_fs_unmount(e->fs);
	op_env_fsck(e);
	mount_it(e);
}

void op_env_fsck(const struct op_env *e)
{
	static char prog[4096];
	char *slash;
	int status;
	pid_t pid;
	ssize_t n;

	/* build/tests/unit/test_x -> build/fsck.pinfs */
	if (prog[0] == '\0') {
		n = readlink("/proc/self/exe", prog, sizeof prog - 32);
		if (n <= 0)
			return;
		prog[n] = '\0';
		for (int up = 0; up < 3 && (slash = strrchr(prog, '/')) != NULL; up++)
			*slash = '\0';
		strcat(prog, "/fsck.pinfs");
	}
	if (access(prog, X_OK) != 0)
		return;
	pid = fork();
	if (pid == 0) {
		int fd = open("/dev/null", O_WRONLY);

		dup2(fd, 1);
		execl(prog, prog, "-n", e->path, (char *)NULL);
		_exit(127);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
}

void op_env_close(struct op_env *e)
{
	pf_fs_unmount(e->fs);
	op_env_fsck(e);
	unlink(e->path);
}

/* ---- requests ---- */

struct waiter {
	struct pf_areq r;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	ssize_t res;
};

static void wake(struct pf_areq *r, ssize_t res)
{
	struct waiter *w = PF_CONTAINER_OF(r, struct waiter, r);

	pthread_mutex_lock(&w->lock);
	w->res = res;
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static ssize_t run(struct op_env *e, struct waiter *w)
{
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->cond, NULL);
	w->r.cred = op_root;
	w->r.ar_done = wake;
	pf_op_start(e->fs, &w->r);
	pthread_mutex_lock(&w->lock);
	while (!w->done)
		pthread_cond_wait(&w->cond, &w->lock);
	pthread_mutex_unlock(&w->lock);
	return w->res;
}

ssize_t op_write(struct op_env *e, uint64_t ino, uint64_t off, const void *buf, size_t len)
{
	struct waiter w = { .r = { .op = PF_AOP_WRITE, .ino = ino, .write = { .off = off, .buf = buf, .len = len } } };

	return run(e, &w);
}

ssize_t op_append(struct op_env *e, uint64_t ino, const void *buf, size_t len)
{
	struct waiter w = { .r = { .op = PF_AOP_WRITE, .ino = ino,
				   .write = { .buf = buf, .len = len, .append = true } } };

	return run(e, &w);
}

int op_setattr(struct op_env *e, uint64_t ino, unsigned int set, struct stat *st)
{
	struct waiter w = { .r = { .op = PF_AOP_SETATTR, .ino = ino, .setattr = { .set = set, .st = *st } } };
	int err = (int)run(e, &w);

	*st = w.r.setattr.st;
	return err;
}

int op_truncate(struct op_env *e, uint64_t ino, uint64_t size)
{
	struct stat st = { .st_size = (off_t)size };
	int err = op_setattr(e, ino, PF_SET_SIZE, &st);

	if (err == 0)
		CU_ASSERT_EQUAL((uint64_t)st.st_size, size);
	return err;
}

int op_falloc(struct op_env *e, uint64_t ino, int mode, uint64_t off, uint64_t len)
{
	struct waiter w = { .r = { .op = PF_AOP_FALLOCATE, .ino = ino,
				   .fallocate = { .mode = mode, .off = off, .len = len } } };

	return (int)run(e, &w);
}

ssize_t op_copy(struct op_env *e, uint64_t src, uint64_t soff, uint64_t dst, uint64_t doff, size_t len)
{
	struct waiter w = { .r = { .op = PF_AOP_COPY, .ino = dst,
				   .copy = { .src_ino = src, .src_off = soff, .dst_off = doff, .len = len } } };

	return run(e, &w);
}

ssize_t op_read(struct op_env *e, uint64_t ino, uint64_t off, void *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		struct pf_rd rd;
		int err = pf_op_read_begin(e->fs, ino, off + got, len - got, &rd);

		if (err != 0)
			return err;
		for (int i = 0; i < rd.n; i++) {
			memcpy((char *)buf + got, rd.iov[i].iov_base, rd.iov[i].iov_len);
			got += rd.iov[i].iov_len;
		}
		pf_op_read_end(e->fs, &rd);
		if (rd.got == 0)
			break;
	}
	return (ssize_t)got;
}

static int entry_out(struct op_env *e, int err, const struct pf_entry *entry, uint64_t *ino)
{
	if (err == 0) {
		if (ino != NULL)
			*ino = entry->ino;
		pf_op_forget(e->fs, entry->ino, 1);
	}
	return err;
}

int op_create(struct op_env *e, uint64_t dir, const char *name, mode_t mode, uint64_t *ino)
{
	struct pf_entry entry;

	return entry_out(e, pf_op_mknod(e->fs, &op_root, dir, name, mode, 0, &entry), &entry, ino);
}

int op_mkdir(struct op_env *e, uint64_t dir, const char *name, uint64_t *ino)
{
	struct pf_entry entry;

	return entry_out(e, pf_op_mkdir(e->fs, &op_root, dir, name, 0755, &entry), &entry, ino);
}

int op_lookup(struct op_env *e, uint64_t dir, const char *name, uint64_t *ino)
{
	struct pf_entry entry;

	return entry_out(e, pf_op_lookup(e->fs, dir, name, &entry), &entry, ino);
}

uint64_t op_blocks(struct op_env *e, uint64_t ino)
{
	struct stat st = { 0 };

	CU_ASSERT_EQUAL_FATAL(pf_op_getattr(e->fs, ino, &st, NULL), 0);
	return (uint64_t)st.st_blocks / (PF_BLK_SIZE / 512);
}
