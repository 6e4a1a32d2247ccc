/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon.c - brings one mount up, watches over it, and takes it down in order.
 *
 * The first process waits on a pipe until its child can say that the mount answers, or why not. In the child the main
 * thread serves no requests: it waits for a signal, for the end of the connection, and for the mount to vanish from
 * this namespace while files are still open (umount -l), when those that wait for pins have to be told that nobody will
 * come any more.
 *
 * Taken down in the reverse order: waiting requests end with an error, workers finish, clients are told to let go, the
 * kernel's mount goes, the image is marked clean. Takes no lock.
 */
#define FUSE_USE_VERSION 314
#include "front/daemon.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/fail.h"
#include "base/log.h"
#include "front/front.h"
#include "front/fuse_io.h"
#include "front/deadlock.h"
#include "front/notify.h"
#include "front/shift.h"
#include "front/srv.h"
#include "media/pmem.h"
#include "obj/reap.h"
#include "op/op.h"

#define INIT_MS 30000

struct daemon {
	const struct pf_cmdline *c;
	char *device, *mountpoint;	/* absolute */
	int status_fd;			/* to the first process; -1 in the foreground and once it knows */
	struct pf_front front;
	struct pf_io *io;
	bool mounted;
	bool gone_told;
	int signal_fd, gone_fd, mounts_fd;
	char mount_id[32];		/* of our line in mountinfo */
};

/* The reason for which nothing will be served: one line to whoever started us. Returns the exit status. */
static PF_PRINTF(2, 3) int refuse(const struct daemon *d, const char *fmt, ...)
{
	char why[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	why[strcspn(why, "\n")] = '\0';
	if (d->status_fd >= 0)
		(void)!write(d->status_fd, why, strlen(why));
	else
		pf_err("%s", why);
	return 1;
}

static void warn_unsafe(const struct pf_cmdline *c)
{
	if (c->opts.policy.on_busy == PF_BUSY_UNSAFE)
		pf_warn("EXPERIMENTAL: on_busy=unsafe gives blocks away under DMA and corrupts files; never use it for "
			"data that matters");
}

/* --- what libfuse has to say --- */

/* libfuse logs at its own will while it mounts. The first line is kept for refuse(); later ones are for the log. */
static char fuse_said[256];

static PF_PRINTF(2, 0) void fuse_words(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[512];

	(void)vsnprintf(line, sizeof line, fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	if (level == FUSE_LOG_DEBUG)
		pf_debug("%s", line);
	else if (fuse_said[0] == '\0')
		(void)snprintf(fuse_said, sizeof fuse_said, "%.*s", (int)sizeof fuse_said - 1,
			       strncmp(line, "fuse: ", 6) == 0 ? line + 6 : line);
}

/* fusermount3(1) and libfuse write to stderr directly: while they may, it is a file of ours. */
static int mount_quietly(struct daemon *d)
{
	int keep = dup(STDERR_FILENO), said = memfd_create("stderr", MFD_CLOEXEC), rc;
	char line[256];
	ssize_t n;

	fuse_said[0] = '\0';
	if (keep >= 0 && said >= 0)
		(void)dup2(said, STDERR_FILENO);
	rc = fuse_session_mount(d->front.se, d->mountpoint);
	if (keep >= 0)
		(void)dup2(keep, STDERR_FILENO);
	n = said >= 0 ? pread(said, line, sizeof line - 1, 0) : 0;
	if (rc != 0 && fuse_said[0] == '\0' && n > 0) {
		line[n] = '\0';
		line[strcspn(line, "\n")] = '\0';
		(void)snprintf(fuse_said, sizeof fuse_said, "%s", line);
	}
	if (said >= 0)
		(void)close(said);
	if (keep >= 0)
		(void)close(keep);
	return rc;
}

/* --- checks before anything is touched --- */

/* The line of mountinfo whose mount point is @path (the last one lies on top): its id, and whether it is a pinfs. */
static bool find_mount(int fd, const char *path, char *id, size_t idlen, bool *is_pinfs)
{
	char *line = NULL, num[32], point[PATH_MAX];
	int copy = dup(fd);
	FILE *f = copy >= 0 ? fdopen(copy, "r") : NULL;
	bool found = false;
	size_t cap = 0;

	if (f == NULL) {
		if (copy >= 0)
			(void)close(copy);
		return false;
	}
	rewind(f);
	while (getline(&line, &cap, f) > 0) {
		if (sscanf(line, "%31s %*s %*s %*s %4095s", num, point) != 2 || strcmp(point, path) != 0)
			continue;
		found = true;
		(void)snprintf(id, idlen, "%s", num);
		*is_pinfs = strstr(line, " - fuse.pinfs ") != NULL;
	}
	free(line);
	(void)fclose(f);
	return found;
}

/* mountinfo writes blanks and backslashes of paths as octal escapes. */
static void escape_mount(const char *path, char *out, size_t outlen)
{
	size_t n = 0;

	for (; *path != '\0' && n + 5 < outlen; path++) {
		if (strchr(" \t\n\\#", *path) != NULL)
			n += (size_t)snprintf(out + n, outlen - n, "\\%03o", (unsigned int)(unsigned char)*path);
		else
			out[n++] = *path;
	}
	out[n] = '\0';
}

static bool our_mount(struct daemon *d, char *id, size_t idlen, bool *is_pinfs)
{
	char path[PATH_MAX];

	escape_mount(d->mountpoint, path, sizeof path);
	return find_mount(d->mounts_fd, path, id, idlen, is_pinfs);
}

static int check_places(struct daemon *d)
{
	struct stat st;
	char id[32];
	bool pinfs = false;
	int fd;

	d->device = realpath(d->c->device, NULL);
	/* A file without a name has a path all the same: /proc/PID/fd/N. */
	if (d->device == NULL && errno == ENOENT && d->c->device[0] == '/' && stat(d->c->device, &st) == 0)
		d->device = strdup(d->c->device);
	if (d->device == NULL)
		return refuse(d, "%s: %s", d->c->device, strerror(errno));
	d->mountpoint = realpath(d->c->mountpoint, NULL);
	if (d->mountpoint == NULL && errno == ENOTCONN)
		return refuse(d, "%s: a dead FUSE mount is still there: umount it first", d->c->mountpoint);
	if (d->mountpoint == NULL || stat(d->mountpoint, &st) != 0)
		return refuse(d, "%s: %s", d->c->mountpoint,
			      errno == ENOTCONN ? "a dead FUSE mount is still there: umount it first"
						: strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return refuse(d, "%s: %s", d->c->mountpoint, strerror(ENOTDIR));
	d->mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (d->mounts_fd < 0)
		return refuse(d, "/proc/self/mountinfo: %s", strerror(errno));
	if (our_mount(d, id, sizeof id, &pinfs) && pinfs)
		return refuse(d, "%s: a pinfs is mounted there already", d->c->mountpoint);
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		return refuse(d, "/dev/fuse: %s: the kernel has no FUSE here (modprobe fuse?)", strerror(errno));
	if (fd >= 0)
		(void)close(fd);	/* without the right to open it, fusermount3 may still have it */
	return 0;
}

/* --- bring up --- */

/* Threads inherit the mask: signals wait for the main thread. A client that hangs up must not kill us. */
static int catch_signals(struct daemon *d)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -errno;
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	d->gone_fd = eventfd(0, EFD_CLOEXEC);
	return d->signal_fd < 0 || d->gone_fd < 0 ? -errno : 0;
}

static int open_fs(struct daemon *d)
{
	struct pf_mount_info info = { .why = NULL };
	char holders[512] = "";
	int err = pf_fs_mount(d->device, &d->c->opts, &d->front.fs, &info);

	if (err == -EBUSY)
		pf_pm_holders(d->device, holders, sizeof holders);
	if (err != 0)
		return refuse(d, "%s: %s%s%s", d->c->device, info.why != NULL ? info.why : strerror(-err),
			      holders[0] != '\0' ? " by " : "", holders);
	if (info.replayed != 0 || info.orphans != 0)
		pf_info("%s: recovered after a crash: %d transactions replayed, %llu unlinked files removed", d->device,
			info.replayed, (unsigned long long)info.orphans);
	warn_unsafe(d->c);
	err = pf_pm_guard(d->front.fs->pm, &d->front.fs->state, PF_STATE_DOWN, pf_fail_fd(d->front.fs));
	if (err != 0)
		return refuse(d, "SIGBUS: %s", strerror(-err));
	err = pf_reap_start(d->front.fs, PF_REAP_THREAD);
	return err != 0 ? refuse(d, "no thread: %s", strerror(-err)) : 0;
}

static int new_session(struct daemon *d)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char *name = NULL, *opts = NULL;
	int rc = 1;

	if (asprintf(&name, "fsname=%s", d->c->fsname != NULL ? d->c->fsname : d->device) < 0)
		name = NULL;
	if (name == NULL || fuse_opt_add_arg(&args, "pinfs") != 0 || fuse_opt_add_opt_escaped(&opts, name) != 0 ||
	    fuse_opt_add_opt(&opts, "subtype=pinfs") != 0 || fuse_opt_add_opt(&opts, d->c->kernel) != 0 ||
	    fuse_opt_add_arg(&args, "-o") != 0 || fuse_opt_add_arg(&args, opts) != 0 ||
	    (d->c->debug && fuse_opt_add_arg(&args, "-d") != 0)) {
		(void)refuse(d, "%s", strerror(ENOMEM));
		goto out_free;
	}
	d->front.se = fuse_session_new(&args, &pf_front_ops, sizeof pf_front_ops, &d->front);
	if (d->front.se == NULL)
		(void)refuse(d, "%s", fuse_said[0] != '\0' ? fuse_said : "libfuse refused the options");
	else
		rc = 0;
out_free:
	free(name);
	free(opts);
	fuse_opt_free_args(&args);
	return rc;
}

static bool stuck(void *arg, pid_t holder, pid_t pid)
{
	return pf_deadlock_alone(arg, holder, pid);
}

static void tell_kernel(void *arg, uint64_t ino, bool data)
{
	if (data)
		pf_notify_data(arg, ino);
	else
		pf_notify_attr_now(arg, ino);
}

static int bring_up(struct daemon *d)
{
	struct pf_front *f = &d->front;
	bool pinfs;
	int err;

	err = catch_signals(d);
	if (err != 0)
		return refuse(d, "signals: %s", strerror(-err));
	if (check_places(d) != 0 || open_fs(d) != 0 || new_session(d) != 0)
		return 1;
	err = pf_srv_start(f->fs, d->mountpoint, &f->srv);
	if (err != 0)
		return refuse(d, "session socket: %s", strerror(-err));
	if (mount_quietly(d) != 0)
		return refuse(d, "%s: %s", d->c->mountpoint, fuse_said[0] != '\0' ? fuse_said : "cannot mount");
	d->mounted = true;
	err = pf_notify_start(f->se, &f->notify);
	if (err == 0) {
		pf_srv_set_notify(f->srv, tell_kernel, f->notify);
		pf_srv_set_stuck(f->srv, stuck, f);
		err = pf_io_attach(f->se);
	}
	if (err == 0)
		err = pf_shift_start(&f->shift);
	if (err == 0 && (f->deadlock = pf_deadlock_new()) == NULL)
		err = -ENOMEM;
	if (err == 0)
		err = pf_io_start(f->se, d->gone_fd, f->fs->pm->mode == PF_PMEM_MSYNC, &d->io);
	if (err == 0)
		err = pf_io_wait_init(d->io, INIT_MS);
	if (err != 0)
		return refuse(d, "%s: FUSE did not come up: %s", d->c->mountpoint, strerror(-err));
	if (!our_mount(d, d->mount_id, sizeof d->mount_id, &pinfs))
		d->mount_id[0] = '\0';	/* unmounted again already; or a namespace that shows us no mounts */
	f->mount_id = strtoul(d->mount_id, NULL, 10);
	return 0;
}

/* From here on nobody reads our stderr, and no directory is kept busy. */
static void detach(struct daemon *d)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)!chdir("/");
	if (null >= 0) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
		(void)dup2(null, STDERR_FILENO);
		(void)close(null);
	}
	(void)!write(d->status_fd, "", 1);
	(void)close(d->status_fd);
	d->status_fd = -1;
}

/* --- watch --- */

static bool mount_is_gone(struct daemon *d)
{
	char *line = NULL, id[32];
	FILE *f = fopen("/proc/self/mountinfo", "re");
	size_t cap = 0;
	bool found = false;

	if (f == NULL)
		return false;
	while (!found && getline(&line, &cap, f) > 0)
		found = sscanf(line, "%31s", id) == 1 && strcmp(id, d->mount_id) == 0;
	free(line);
	(void)fclose(f);
	return !found;
}

/* The mount became read-only, or is shut down: nobody may wait for a pin in order to get the same answer then. */
static void failed(struct daemon *d)
{
	struct pf_pm *pm;
	int err;

	assert(d->front.fs != NULL);	/* nobody watches what did not come up */
	pm = d->front.fs->pm;
	err = pf_fs_writable(d->front.fs);

	/* The handler of SIGBUS has set the state; it could not say why. */
	if (atomic_load(&pm->gone) && !d->gone_told) {
		d->gone_told = true;
		pf_fs_fail(d->front.fs, PF_FAULT_GONE, "byte %llu of the device cannot be reached any more",
			   (unsigned long long)atomic_load(&pm->gone_at));
	}
	if (err != 0)
		pf_lay_shutdown(d->front.fs, err);
}

/* Until a signal, or the end of the connection. */
static void watch(struct daemon *d)
{
	struct pollfd p[] = {
		{ .fd = d->signal_fd, .events = POLLIN },
		{ .fd = d->gone_fd, .events = POLLIN },
		{ .fd = d->mount_id[0] != '\0' ? d->mounts_fd : -1, .events = POLLPRI },
		{ .fd = pf_fail_fd(d->front.fs), .events = POLLIN },
	};

	for (;;) {
		if (p[2].fd >= 0 && mount_is_gone(d)) {
			pf_lay_shutdown(d->front.fs, -EIO);
			p[2].fd = -1;
		}
		if (poll(p, PF_ARRAY_LEN(p), -1) < 0 && errno != EINTR)
			return;
		if ((p[0].revents | p[1].revents) & POLLIN)
			return;
		if (p[3].revents & POLLIN) {
			uint64_t n;

			(void)!read(p[3].fd, &n, sizeof n);
			failed(d);
		}
	}
}

/* --- take down --- */

static void take_down(struct daemon *d)
{
	struct pf_front *f = &d->front;

	if (f->fs != NULL)
		pf_lay_shutdown(f->fs, -EIO);
	/* These wait for the kernel, which may wait for a worker's answer first. */
	if (f->shift != NULL)
		pf_shift_stop(f->shift);
	if (f->notify != NULL)
		pf_notify_stop(f->notify);
	if (d->io != NULL)
		pf_io_stop(d->io);
	/* Whoever ends a break answers its request: nobody else is left now who could. */
	if (f->fs != NULL)
		pf_lay_stop_threads(f->fs);
	if (f->srv != NULL) {
		pf_srv_set_notify(f->srv, NULL, NULL);
		pf_srv_stop(f->srv);
	}
	/* It closes the descriptor of /dev/fuse, which no thread may be using then. */
	if (d->mounted)
		fuse_session_unmount(f->se);
	if (f->shift != NULL)
		pf_shift_free(f->shift);
	pf_deadlock_free(f->deadlock);
	if (f->notify != NULL)
		pf_notify_free(f->notify);
	if (f->fs != NULL) {
		struct pf_pm *pm = f->fs->pm;

		/* To the end: taking it down reads the device as well. */
		pf_fs_unmount_pm(f->fs);
		pf_pm_unguard(pm);
		pf_pm_close(pm);
	}
	if (f->se != NULL)
		fuse_session_destroy(f->se);
	free(d->device);
	free(d->mountpoint);
}

static int serve(const struct pf_cmdline *c, int status_fd)
{
	struct daemon d = { .c = c, .status_fd = status_fd, .signal_fd = -1, .gone_fd = -1, .mounts_fd = -1,
			    .front = { .unchecked = c->unchecked } };
	int rc;

	fuse_set_log_func(fuse_words);
	/* What the core finds wrong with an image goes to the log; the terminal gets one line, from the first process.
	 */
	if (c->debug || status_fd >= 0)
		pf_log_init("pinfs", c->debug ? PF_LOG_DEBUG : PF_LOG_INFO, status_fd >= 0);
	rc = bring_up(&d);
	if (rc == 0) {
		if (status_fd >= 0)
			detach(&d);
		watch(&d);
	}
	take_down(&d);
	return rc;
}

/* The child sends one NUL when the mount is usable, else the reason in words, else it died. */
static int wait_for_child(const struct pf_cmdline *c, int fd, pid_t pid)
{
	char said[1024];
	size_t n = 0;
	ssize_t got;
	int status;

	while (n < sizeof said - 1) {
		got = read(fd, said + n, sizeof said - 1 - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
		if (said[n - 1] == '\0') {
			warn_unsafe(c);
			return 0;
		}
	}
	said[n] = '\0';
	if (n != 0)
		pf_err("%s", said);
	else if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
		pf_err("the daemon died of signal %d before it could serve", WTERMSIG(status));
	else
		pf_err("the daemon ended before it could serve");
	return 1;
}

int pf_daemon_run(const struct pf_cmdline *c)
{
	int fd[2];
	pid_t pid;

	if (c->foreground)
		return serve(c, -1);
	if (pipe2(fd, O_CLOEXEC) != 0) {
		pf_err("pipe: %s", strerror(errno));
		return 1;
	}
	pid = fork();
	if (pid < 0) {
		pf_err("fork: %s", strerror(errno));
		return 1;
	}
	if (pid == 0) {
		(void)close(fd[0]);
		(void)setsid();
		return serve(c, fd[1]);
	}
	(void)close(fd[1]);
	return wait_for_child(c, fd[0], pid);
}
