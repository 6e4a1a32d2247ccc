/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * env.c - the places that are measured: a pinfs image and mount, a directory of tmpfs, and a FUSE peer over a third.
 *
 * Owns the scratch directory, both mounts, and everything below; pb_env_down() removes them all, also half-made ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/magic.h>

#include "pinbench/pinbench.h"

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

uint64_t pb_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t pb_cpu_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double pb_median(double *v, size_t n)
{
	qsort(v, n, sizeof *v, by_value);
	return n % 2 != 0 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Run a program to its end: its exit status, or -errno. @quiet: its output goes nowhere. */
static int run_program(const char *const argv[], bool quiet)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		if (quiet) {
			int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

			if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
				_exit(127);
		}
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* Where a program of ours is: beside this one (build/), in ../sbin (installed), else wherever PATH says. */
static void find_program(const char *name, char *out, size_t size)
{
	static const char *const where[] = { "", "../sbin/" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash != NULL)
			slash[1] = '\0';
		for (size_t i = 0; i < sizeof where / sizeof where[0]; i++)
			if (snprintf(out, size, "%s%s%s", self, where[i], name) < (int)size && access(out, X_OK) == 0)
				return;
	}
	(void)snprintf(out, size, "%s", name);
}

static int mount_one(const struct pb_env *e, const char *image, const char *dir, const char *bytes, const char *window)
{
	char mkfs[PATH_MAX], daemon[PATH_MAX], opts[512];
	const char *mkfs_argv[] = { mkfs, "-s", bytes, image, NULL };
	const char *daemon_argv[] = { daemon, image, dir, "-o", opts, NULL };
	int rc;

	find_program("mkfs.pinfs", mkfs, sizeof mkfs);
	find_program("pinfs", daemon, sizeof daemon);
	if (snprintf(opts, sizeof opts, "window=%s%s%s", window, e->mount_opts != NULL ? "," : "",
		     e->mount_opts != NULL ? e->mount_opts : "") >= (int)sizeof opts)
		return -EINVAL;
	rc = run_program(mkfs_argv, !e->verbose);
	if (rc != 0) {
		(void)fprintf(stderr, "pinbench: %s failed (%d)\n", mkfs, rc);
		return -EIO;
	}
	rc = run_program(daemon_argv, false);
	if (rc != 0) {
		(void)fprintf(stderr, "pinbench: %s failed (%d)\n", daemon, rc);
		return -EIO;
	}
	return 0;
}

static int mount_pinfs(struct pb_env *e)
{
	int rc = mount_one(e, e->image, e->mnt[PB_PINFS], e->quick ? "1G" : "4G", "2G");

	e->pinfs_mounted = rc == 0;
	return rc;
}

static int make_dir(char *out, size_t size, const char *base, const char *name)
{
	if (snprintf(out, size, "%s/%s", base, name) >= (int)size)
		return -ENAMETOOLONG;
	return mkdir(out, 0755) != 0 ? -errno : 0;
}

/*
 * The peer is libfuse's own example, passthrough_ll, where `make bench` could build it; else bindfs. Its reads and
 * writes reach it each time, as ours reach us, names and attributes are cached as long as ours are, and the kernel
 * checks permissions for both (default_permissions): for that it asks for a directory's attributes again after each
 * change in it. It holds a descriptor for each inode that the kernel knows.
 */
static void mount_peer(struct pb_env *e)
{
	char source[160], passthrough[PATH_MAX], opts[512];
	const char *const ll_argv[] = { passthrough, "-o", opts, e->mnt[PB_PEER], NULL };
	const char *const bind_argv[] = { "bindfs", source, e->mnt[PB_PEER], NULL };
	struct rlimit fds;

	e->peer_name = NULL;
	if (make_dir(source, sizeof source, e->base, "peer-source") != 0 ||
	    make_dir(e->mnt[PB_PEER], sizeof e->mnt[PB_PEER], e->base, "peer") != 0) {
		e->peer_why = "no directory for it";
		return;
	}
	if (getrlimit(RLIMIT_NOFILE, &fds) == 0) {
		fds.rlim_cur = fds.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &fds);
	}
	find_program("passthrough_ll", passthrough, sizeof passthrough);
	(void)snprintf(opts, sizeof opts, "source=%s,cache=never,timeout=86400%s%s", source,
		       e->peer_opts[0] != '\0' ? "," : "", e->peer_opts);
	if (run_program(ll_argv, true) == 0) {
		e->peer_name = "passthrough_ll";
		e->peer_mounted = true;
		return;
	}
	switch (run_program(bind_argv, true)) {
	case 0:
		e->peer_name = "bindfs";
		e->peer_mounted = true;
		break;
	case 127:
		e->peer_why = "neither passthrough_ll nor bindfs is here";
		break;
	default:
		e->peer_why = "bindfs did not mount";
		break;
	}
}

int pb_env_up(struct pb_env *e)
{
	struct statfs fs;
	int rc;

	if (mkdtemp(e->base) == NULL)
		return -errno;
	if (statfs(e->base, &fs) == 0 && fs.f_type != TMPFS_MAGIC)
		(void)fprintf(stderr, "pinbench: %s is not on tmpfs: the reference is what lies there\n", e->base);
	if (snprintf(e->image, sizeof e->image, "%s/image", e->base) >= (int)sizeof e->image)
		return -ENAMETOOLONG;
	rc = make_dir(e->mnt[PB_REF], sizeof e->mnt[PB_REF], e->base, "reference");
	if (rc == 0)
		rc = make_dir(e->mnt[PB_PINFS], sizeof e->mnt[PB_PINFS], e->base, "pinfs");
	if (rc == 0)
		rc = mount_pinfs(e);
	if (rc == 0)
		mount_peer(e);
	return rc;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

static void unmount(const char *dir)
{
	const char *umount_argv[] = { "umount", dir, NULL };
	const char *fusermount_argv[] = { "fusermount3", "-u", dir, NULL };

	if (geteuid() == 0 ? run_program(umount_argv, false) != 0 : run_program(fusermount_argv, false) != 0)
		(void)fprintf(stderr, "pinbench: cannot unmount %s\n", dir);
}

/* At most one at a time, so that it can be found when all is taken down. */
static struct { char image[160], dir[160]; bool mounted; } more;

int pb_more_up(const struct pb_env *e, size_t window, size_t bytes, char *dir, size_t size)
{
	char want[32], of_window[32];
	struct statfs fs;
	int rc;

	if (statfs(e->base, &fs) == 0 && (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize < bytes + bytes / 8)
		return 1;
	if (sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE) < (long)(bytes + bytes / 4))
		return 1;
	(void)snprintf(more.image, sizeof more.image, "%s/more-image", e->base);
	rc = make_dir(more.dir, sizeof more.dir, e->base, "more");
	if (rc != 0)
		return rc;
	(void)snprintf(want, sizeof want, "%zuM", bytes >> 20);
	(void)snprintf(of_window, sizeof of_window, "%zuM", window >> 20);
	rc = mount_one(e, more.image, more.dir, want, of_window);
	more.mounted = rc == 0;
	if (rc != 0) {
		pb_more_down();
		return rc;
	}
	return snprintf(dir, size, "%s", more.dir) < (int)size ? 0 : -ENAMETOOLONG;
}

void pb_more_down(void)
{
	if (more.mounted)
		unmount(more.dir);
	more.mounted = false;
	(void)rmdir(more.dir);
	(void)unlink(more.image);
}

void pb_env_down(struct pb_env *e)
{
	pb_more_down();
	if (e->pinfs_mounted)
		unmount(e->mnt[PB_PINFS]);
	if (e->peer_mounted)
		unmount(e->mnt[PB_PEER]);
	e->pinfs_mounted = e->peer_mounted = false;
	/* FTW_MOUNT: should something still be mounted, its files are left alone. */
	(void)nftw(e->base, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

int pb_file_make(const struct pb_env *e, enum pb_subject s, const char *name, size_t len, struct pb_state *st)
{
	return pb_file_make_at(e->mnt[s], name, len, st);
}

int pb_file_make_at(const char *dir, const char *name, size_t len, struct pb_state *st)
{
	static const size_t piece = (size_t)1 << 20;
	uint8_t *buf = NULL;
	int rc = 0;

	st->fd = -1;
	st->len = len;
	if (snprintf(st->path, sizeof st->path, "%s/%s", dir, name) >= (int)sizeof st->path)
		return -ENAMETOOLONG;
	st->fd = open(st->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (st->fd < 0)
		return -errno;
	buf = malloc(piece);
	if (buf == NULL)
		return -ENOMEM;
	memset(buf, 0x5a, piece);
	/* One extent where the filesystem can: what is measured is the window, not the allocator. */
	if (len > 0 && fallocate(st->fd, 0, 0, (off_t)len) != 0 && errno != EOPNOTSUPP)
		rc = -errno;
	for (size_t off = 0; rc == 0 && off < len; off += piece) {
		const size_t n = len - off < piece ? len - off : piece;

		if (pwrite(st->fd, buf, n, (off_t)off) != (ssize_t)n)
			rc = -EIO;
	}
	free(buf);
	return rc;
}

int pb_file_map(struct pb_state *st)
{
	void *p = mmap(NULL, st->len, PROT_READ | PROT_WRITE, MAP_SHARED, st->fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	st->map = p;
	return 0;
}

void pb_file_drop(const struct pb_env *e, enum pb_subject s, struct pb_state *st)
{
	(void)e;
	(void)s;
	if (st->map != NULL)
		(void)munmap(st->map, st->len);
	if (st->fd >= 0)
		(void)close(st->fd);
	if (st->path[0] != '\0')
		(void)unlink(st->path);
	free(st->buf);
}
