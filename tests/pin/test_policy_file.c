/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_policy_file.c - one mount, several policies: of files and directories by attributes, of open files by an ioctl,
 * of the mount by `pinfsctl set`, and what `pinfsctl would-block` says of them before it is tried.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <pinfs/ioctl.h>
#include <pinfs/pin.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/look.h"
#include "pin/stage.h"
#include "pin/victim.h"

#define K UINT64_C(1024)

static struct pt_fs *fs;

static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	return fs != NULL;
}

static const char *top(void)
{
	return pt_path(fs, "%s", ".");
}

static void policy(const char *path, const char *value)
{
	PT_SYS(setxattr(path, "user.pinfs.on_busy", value, strlen(value), 0));
}

/* Exit status of pinfsctl; @out gets its standard output and error. */
static int ctl(char *out, size_t room, const char *verb, const char *a, const char *b)
{
	const char *const argv[] = { pt_program("pinfsctl"), verb, a, b, NULL };

	return pt_run(out, room, SOON_MS, argv);
}

static void by_directory(void)
{
	char free_dir[512], f[512], g[STAGE_PATH], out[4096];
	struct actor *hf, *hg, *c;

	if (!begin("on_busy=wait"))
		return;
	(void)snprintf(free_dir, sizeof free_dir, "%s", pt_path(fs, "eb"));
	PT_SYS_FATAL(mkdir(free_dir, 0755));
	policy(free_dir, "ebusy");
	stage_file(fs, "eb/f", f);
	stage_file(fs, "g", g);
	hf = stage_holder(f, 0, 4096);
	hg = stage_holder(g, 0, 4096);
	c = actor_new();

	PT_EQ(ctl(out, sizeof out, "would-block", f, NULL), 0);
	CU_ASSERT(strstr(out, "fails with EBUSY (on_busy=ebusy)") != NULL);
	PT_EQ(actor_do(c, act_truncate(f, 0)), -EBUSY);
	PT_EQ(actor_do(c, act_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)), -EBUSY);
	PT_EQ(actor_do(c, act_truncate(f, 32 * K)), 0);		/* no pin there */

	PT_EQ(ctl(out, sizeof out, "would-block", g, NULL), 0);
	CU_ASSERT(strstr(out, "waits (on_busy=wait)") != NULL);
	CU_ASSERT(strstr(out, "has pinned 1 page of it") != NULL);
	PT_EQ(ctl(out, sizeof out, "would-block", g, "8K"), 0);
	CU_ASSERT(strstr(out, "succeeds at once") != NULL);
	actor_send(c, act_truncate(g, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(ctl(out, sizeof out, "would-block", g, NULL), 0);
	CU_ASSERT(strstr(out, "behind 1 operation") != NULL);

	PT_EQ(actor_do(hg, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	policy(g, "defer");
	PT_EQ(actor_do(c, act_write(g, 0, F_LEN, 'p')), (long)F_LEN);
	PT_EQ(actor_do(hg, act_pin(1, 0, 0, 4096, PINFS_PIN_WRITE)), 0);
	PT_EQ(actor_do(c, act_truncate(g, 0)), 0);
	PT_EQ(look_status(fs, "space.parked"), 1);
	actor_end(hf);
	actor_end(hg);
	actor_end(c);
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_fsck(fs), 0);
	PT_EQ(pt_fs_mount(fs, "on_busy=wait"), 0);
	hf = stage_holder(f, 0, 4096);						/* and across a mount */
	c = actor_new();
	PT_EQ(actor_do(c, act_truncate(f, 0)), -EBUSY);
	actor_end(hf);
	actor_end(c);
	pt_fs_end(fs);
}

static void by_mount(void)
{
	static const char *const nonsense[] = { "on_busy=never", "on_busy", "colour=red", "break=file,on_busy=wait" };
	char f[STAGE_PATH], out[4096];
	struct actor *h, *c;

	if (!begin("on_busy=wait"))
		return;
	stage_file(fs, "f", f);
	h = stage_holder(f, 0, 4096);
	c = actor_new();
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	/* What waits keeps the policy that it began with. */
	PT_EQ(ctl(out, sizeof out, "set", top(), "on_busy=ebusy"), 0);
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(h);
	stage_file(fs, "f", f);
	h = stage_holder(f, 0, 4096);
	PT_EQ(actor_do(c, act_truncate(f, 0)), -EBUSY);
	for (size_t i = 0; i < PF_ARRAY_LEN(nonsense); i++) {
		PT_EQ(ctl(out, sizeof out, "set", top(), nonsense[i]), 2);
		CU_ASSERT(strstr(out, "must be") != NULL);
	}
	PT_EQ(actor_do(c, act_truncate(f, 0)), -EBUSY);		/* nothing of that was set */
	PT_EQ(ctl(out, sizeof out, "set", top(), "break=file"), 0);
	PT_EQ(actor_do(c, act_truncate(f, 32 * K)), -EBUSY);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

/* The way to the mount is root's alone: strangers are given a descriptor. */
static int fd_policy(int fd, const char *text)
{
	struct pinfs_policy po = { .po_text = "" };

	(void)snprintf(po.po_text, sizeof po.po_text, "%s", text);
	return ioctl(fd, PINFS_IOC_POLICY, &po);
}

/* Two descriptors of one file, one with a policy of its own. */
static void by_open(void)
{
	struct pinfs_fallocate fa = { .fa_mode = FALLOC_FL_COLLAPSE_RANGE, .fa_len = 4096 };
	int fd, other, rd;
	struct actor *h, *c;
	char f[STAGE_PATH];

	if (!begin("on_busy=wait"))
		return;
	stage_file(fs, "f", f);
	fd = open(f, O_RDWR | O_CLOEXEC);
	other = open(f, O_RDWR | O_CLOEXEC);
	rd = open(f, O_RDONLY | O_CLOEXEC);
	PT_SYS(fd_policy(fd, "on_busy=ebusy"));
	PT_FAILS(fd_policy(rd, "on_busy=ebusy"), EBADF);
	PT_FAILS(fd_policy(fd, "on_busy=maybe"), EINVAL);
	PT_FAILS(fd_policy(fd, "colour=red"), EINVAL);
	h = stage_holder(f, 0, 4096);
	PT_FAILS(ftruncate(fd, 0), EBUSY);
	PT_FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), EBUSY);
	PT_FAILS(ioctl(fd, PINFS_IOC_FALLOCATE, &fa), EBUSY);
	PT_SYS(fd_policy(other, "on_busy=wait,busy_timeout=10ms"));
	PT_FAILS(ftruncate(other, 0), EBUSY);
	PT_EQ(look_status(fs, "counters.timeouts"), 1);		/* that one did wait */
	c = actor_new();
	actor_send(c, act_truncate(f, 0));			/* by name: as the mount has it */
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);

	/* None any more; and what another descriptor had is not what a new one has. */
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
	PT_EQ(actor_do(h, act_pin(1, 0, 0, 4096, PINFS_PIN_WRITE)), 0);
	PT_FAILS(ftruncate(fd, 0), EBUSY);
	PT_SYS(fd_policy(fd, "on_busy=defer"));
	PT_SYS(close(other));
	other = open(f, O_RDWR | O_CLOEXEC);
	actor_send(c, act_open_trunc(f));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	PT_EQ(actor_do(h, act_unpin(1)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_SYS(ftruncate(other, 0));
	(void)close(fd);
	(void)close(other);
	(void)close(rd);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

static int stranger(void *arg)
{
	const int fd = *(int *)arg;

	if (setgid(65534) != 0 || setuid(65534) != 0)
		return 1;
	if (fsetxattr(fd, "user.pinfs.on_busy", "unsafe", 6, 0) == 0 || errno != EPERM)
		return 2;
	if (fd_policy(fd, "on_busy=unsafe") == 0 || errno != EPERM)
		return 4;
	return fsetxattr(fd, "user.pinfs.on_busy", "defer", 5, 0) == 0 ? 0 : 3;
}

/* The owner of a file chooses among what harms nobody else. What root may choose does the harm: that is the twin. */
static void unsafe_is_for_root(void)
{
	char f[512], v[STAGE_PATH], out[4096];
	struct actor *h, *c;
	uint64_t len;
	int fd;

	if (!begin("on_busy=wait,allow_other"))
		return;
	stage_file(fs, "f", f);
	(void)snprintf(v, sizeof v, "%s", pt_path(fs, "victim"));
	PT_SYS(chown(f, 65534, 65534));
	fd = open(f, O_RDWR | O_CLOEXEC);
	PT_EQ(pt_wait(pt_fork(stranger, &fd), SOON_MS), 0);
	(void)close(fd);
	PT_EQ(ctl(out, sizeof out, "would-block", f, NULL), 0);
	CU_ASSERT(strstr(out, "on_busy=defer") != NULL);
	for (int unsafe = 0; unsafe < 2; unsafe++) {
		if (unsafe)
			policy(f, "unsafe");
		h = stage_holder(f, 0, 4096);
		c = actor_new();
		PT_EQ(ctl(out, sizeof out, "would-block", f, NULL), 0);
		CU_ASSERT((strstr(out, "CORRUPTS") != NULL) == unsafe);
		PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
		len = victim_make(v);
		PT_EQ(actor_do(h, act_dma(0, 7)), 4096);
		PT_EQ(victim_intact(v, len), !unsafe);
		actor_end(h);
		PT_EQ(actor_do(c, act_unlink(v)), 0);
		PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
		actor_end(c);
	}
	pt_fs_end(fs);
}

static int set_as_nobody(void *arg)
{
	char out[STAGE_PATH];

	if (fchdir(*(int *)arg) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
		return 1;
	return ctl(out, sizeof out, "set", ".", "on_busy=ebusy") == 1 && strstr(out, "only root") != NULL ? 0 : 2;
}

static void set_is_for_the_owner(void)
{
	char out[4096];
	int fd;

	if (!begin("on_busy=wait,allow_other"))
		return;
	fd = open(top(), O_RDONLY);
	PT_EQ(pt_wait(pt_fork(set_as_nobody, &fd), SOON_MS), 0);
	(void)close(fd);
	PT_EQ(ctl(out, sizeof out, "status", top(), NULL), 0);
	CU_ASSERT(strstr(out, "on_busy=wait") != NULL);
	pt_fs_end(fs);
}

/* A poll ends without a kick. */
static void poll(void)
{
	char f[STAGE_PATH];
	struct actor *h, *c;
	int64_t kicks;

	if (!begin("on_busy=poll,poll_interval=5ms"))
		return;
	stage_file(fs, "f", f);
	h = stage_holder(f, 0, 4096);
	c = actor_new();
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	kicks = look_status(fs, "counters.kicks");
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	/* Zero, but for an unpin that met a look: the slot is frozen for that moment. */
	CU_ASSERT(look_status(fs, "counters.kicks") <= kicks + 1);
	actor_end(h);
	actor_end(c);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "by directory", by_directory, 0 },
		{ "by mount", by_mount, 0 },
		{ "by open", by_open, 0 },
		{ "unsafe is for root", unsafe_is_for_root, 0 },
		{ "set is for the owner", set_is_for_the_owner, 0 },
		{ "poll", poll, 0 },
	};
	static const struct pt_suite suites[] = { { "policy_file", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
