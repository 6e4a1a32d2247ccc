/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_flags.c - which files are DAX: the flag of an inode, who inherits it, when it counts, and what dax= of the mount
 * makes of it; and what statx(2) says.
 *
 * Most of it needs a mount with an option that the directory's does not have: one of the case's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>
#include "conform/cases.h"
#include "conform/scratch.h"

#define LEN (4 * CF_PAGE)

/* ---- where the directory is ---- */

static void statx_bit(struct cf *c)
{
	CF_SYS(c, close(cf_file(c, "f", LEN)));
	cf_answer(c, "%s", dax_bit(c, cf_path(c, "f")));
}

static void statx_mask(struct cf *c)
{
	struct statx sx;

	CF_SYS(c, close(cf_file(c, "f", LEN)));
	CF_SYS(c, statx(AT_FDCWD, cf_path(c, "f"), 0, STATX_BASIC_STATS, &sx));
	cf_answer(c, "%s", sx.stx_attributes_mask & STATX_ATTR_DAX ? "set" : "clear");
}

static void regular_only(struct cf *c)
{
	CF_SYS(c, symlink("nowhere", cf_path(c, "link")));
	CF_SYS(c, mkfifo(cf_path(c, "fifo"), 0600));
	CF_SYS(c, mkdir(cf_path(c, "dir"), 0700));
	cf_answer(c, "dir %s, fifo %s, symlink %s", dax_bit(c, cf_path(c, "dir")), dax_bit(c, cf_path(c, "fifo")),
		  dax_bit(c, cf_path(c, "link")));
}

/* The flag is a wish: it can be set where it cannot be fulfilled, and is there afterwards. */
static void settable(struct cf *c)
{
	int fd = cf_file(c, "f", LEN);
	bool on = false;
	long rc = xflag_dax_set(fd, true);

	if (rc < 0)
		cf_answer_rc(c, rc);
	else
		cf_answer(c, xflag_dax(fd, &on) == 0 && on ? "kept" : "lost");
}

static void old_name(struct cf *c)
{
	int fd = cf_file(c, "f", LEN), flags = 0;
	long rc = xflag_dax_set(fd, true);

	if (rc < 0) {
		cf_answer_rc(c, rc);
		return;
	}
	CF_SYS(c, ioctl(fd, FS_IOC_GETFLAGS, &flags));
	cf_answer(c, flags & FS_DAX_FL ? "set" : "clear");
}

/* ---- mounts of the case's own ---- */

/* The kernel tells of a last close a moment after it: the file is looked at until it is what is waited for, or the
 * case hangs. */
static const char *comes(struct cf *c, const char *path, const char *want)
{
	while (strcmp(dax_bit(c, path), want) != 0)
		(void)usleep(500);
	return want;
}

struct mode {
	const char *opts;
	bool flag;
};

static const char *sync_word(int fd)
{
	const long rc = map_sync(fd);

	return rc == 0 ? "MAP_SYNC" : rc == -EOPNOTSUPP ? "no MAP_SYNC" : strerrorname_np((int)-rc);
}

/* A new file, and one that has the flag since before the mount. */
static void mode(struct cf *c)
{
	const struct mode *m = cf_arg(c);
	const char *file = m->flag ? "flagged" : "new", *bit;
	struct scratch o;
	int fd;

	scratch_start(c, &o, "dax=inode");
	if (m->flag) {
		fd = scratch_file(&o, file, LEN);
		CF_MUST(c, xflag_dax_set(fd, true) == 0);
		CF_SYS(c, close(fd));
	}
	scratch_umount(&o);
	CF_MUST(c, scratch_mount(&o, m->opts) == 0);
	fd = m->flag ? (int)CF_SYS(c, open(scratch_path(&o, file), O_RDWR | O_CLOEXEC)) : scratch_file(&o, file, LEN);
	bit = dax_bit(c, scratch_path(&o, file));
	cf_answer(c, "%s, %s", bit, sync_word(fd));
	CF_SYS(c, close(fd));
	scratch_end(&o);
}

/* xfstests generic/608: while the file is open or mapped nothing changes; after the last of them has gone it does. */
static void deferred(struct cf *c)
{
	const struct mode *m = cf_arg(c);	/* flag: from clear to set, else back */
	const char *before = m->flag ? "clear" : "set", *after = m->flag ? "set" : "clear";
	const char *open_word, *mapped_word, *path, *last;
	struct scratch o;
	int fd;
	char *p;

	scratch_start(c, &o, "dax=inode");
	path = scratch_path(&o, "f");
	fd = scratch_file(&o, "f", LEN);
	if (!m->flag) {
		CF_MUST(c, xflag_dax_set(fd, true) == 0);
		CF_SYS(c, close(fd));
		CF_MUST(c, strcmp(comes(c, path, before), before) == 0);
		fd = (int)CF_SYS(c, open(path, O_RDWR | O_CLOEXEC));
	}
	p = cf_map(c, fd, 0, LEN, PROT_READ);
	CF_MUST(c, p[0] == CF_BYTE);
	CF_MUST(c, xflag_dax_set(fd, m->flag) == 0);
	open_word = dax_bit(c, path);
	CF_SYS(c, close(fd));
	mapped_word = dax_bit(c, path);
	CF_SYS(c, munmap(p, LEN));
	last = comes(c, path, after);
	fd = (int)CF_SYS(c, open(path, O_RDWR | O_CLOEXEC));
	cf_answer(c, "open %s, mapped %s, then %s and %s", open_word, mapped_word, last, sync_word(fd));
	CF_SYS(c, close(fd));
	scratch_end(&o);
}

/* What programs read and wrote before the change is what they find after it, by the other path. */
static void content_kept(struct cf *c)
{
	struct scratch o;
	char *p;
	int fd;

	scratch_start(c, &o, "dax=inode");
	fd = scratch_file(&o, "f", LEN);
	p = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);
	memset(p + CF_PAGE, CF_DMA, CF_PAGE);
	CF_MUST(c, xflag_dax_set(fd, true) == 0);
	CF_SYS(c, munmap(p, LEN));
	CF_SYS(c, close(fd));
	CF_MUST(c, strcmp(comes(c, scratch_path(&o, "f"), "set"), "set") == 0);
	fd = (int)CF_SYS(c, open(scratch_path(&o, "f"), O_RDWR | O_CLOEXEC));
	p = cf_map(c, fd, 0, LEN, PROT_READ);
	cf_answer(c, "%s, stored %s", cf_content_of(p, CF_PAGE), cf_content_of(p + CF_PAGE, CF_PAGE));
	CF_SYS(c, munmap(p, LEN));
	CF_SYS(c, close(fd));
	scratch_end(&o);
}

/* ---- xfstests generic/607: who has it from whom ---- */

enum heir { NEW_FILE, NEW_DIR, MOVED_IN, MOVED_OUT, COPIED_IN, COPIED_OUT, OLD_FILE };
struct inherit {
	enum heir heir;
};

static bool has_flag(struct cf *c, const struct scratch *o, const char *name)
{
	int fd = (int)CF_SYS(c, open(scratch_path(o, name), O_RDONLY | O_CLOEXEC));
	bool on = false;

	CF_MUST(c, xflag_dax(fd, &on) == 0);
	CF_SYS(c, close(fd));
	return on;
}

static void touch_file(struct cf *c, const struct scratch *o, const char *name)
{
	int fd = (int)CF_SYS(c, open(scratch_path(o, name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));

	CF_SYS(c, close(fd));
}

static void inherit(struct cf *c)
{
	const enum heir heir = ((const struct inherit *)cf_arg(c))->heir;
	const char *from = heir == MOVED_OUT || heir == COPIED_OUT ? "flagged/f" : "plain/f";
	const char *to = heir == MOVED_OUT || heir == COPIED_OUT ? "plain/g" : "flagged/g";
	struct scratch o;
	char out[256];
	int fd;

	scratch_start(c, &o, "dax=inode");
	CF_SYS(c, mkdir(scratch_path(&o, "plain"), 0755));
	CF_SYS(c, mkdir(scratch_path(&o, "flagged"), 0755));
	if (heir == OLD_FILE)
		touch_file(c, &o, to);
	fd = (int)CF_SYS(c, open(scratch_path(&o, "flagged"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	CF_MUST(c, xflag_dax_set(fd, true) == 0);
	CF_SYS(c, close(fd));
	if (heir == NEW_FILE)
		touch_file(c, &o, to);
	else if (heir == NEW_DIR)
		CF_SYS(c, mkdir(scratch_path(&o, to), 0755));
	else if (heir != OLD_FILE)
		touch_file(c, &o, from);
	if (heir == MOVED_IN || heir == MOVED_OUT)
		CF_SYS(c, rename(scratch_path(&o, from), scratch_path(&o, to)));
	else if (heir == COPIED_IN || heir == COPIED_OUT)
		CF_MUST(c, cf_run(c, out, sizeof out, (const char *const[]){
			"cp", scratch_path(&o, from), scratch_path(&o, to), NULL }) == 0);
	cf_answer(c, has_flag(c, &o, to) ? "flag" : "no flag");
	scratch_end(&o);
}

#define MINE "; plain: na: no mount with dax= can be made here"
#define MODE(opts, flag) (&(const struct mode){ opts, flag })
#define HEIR(h) (&(const struct inherit){ h })

static const struct cf_case cases[] = {
	{ "flags.statx", "STATX_ATTR_DAX; ext4_getattr()",
	  "statx(2) says of a DAX file that it is one; kernels before 5.8 and FUSE itself know no such attribute.", 0,
	  statx_bit, NULL, "set; bare, plain, linux-4.15, linux-4.19: clear" },
	{ "flags.statx-mask", "vfs_getattr_nosec()",
	  "The kernel says of every file that the attribute is known: look at the bit, not at the mask.", 0,
	  statx_mask, NULL, "set; linux-4.15, linux-4.19: ?; bare, plain: set|clear" },
	{ "flags.regular-only", "S_DAX", "Only regular files are DAX.", 0, regular_only, NULL,
	  "dir clear, fifo clear, symlink clear" },
	{ "flags.settable", "FS_XFLAG_DAX; xfstests generic/606",
	  "The flag of an inode can be set whatever the mount makes of it, and stays.", 0, settable, NULL,
	  "kept; virtiofs, virtiofs-dax, devdax: kept|EOPNOTSUPP|ENOTTY; plain: ?" },
	{ "flags.old-name", "FS_DAX_FL; xfstests generic/607", "FS_IOC_GETFLAGS shows it as FS_DAX_FL.", 0, old_name,
	  NULL, "set; virtiofs, virtiofs-dax, devdax: set|EOPNOTSUPP|ENOTTY; plain: ?" },

	{ "flags.always-new", "xfstests generic/606", "dax=always: every file is DAX.", CF_MOUNTS, mode,
	  MODE("dax=always", false), "set, MAP_SYNC; bare: clear, no MAP_SYNC|set, MAP_SYNC" MINE },
	{ "flags.always-flagged", "xfstests generic/606", "dax=always: with the flag, too.", CF_MOUNTS, mode,
	  MODE("dax=always", true), "set, MAP_SYNC; bare: clear, no MAP_SYNC|set, MAP_SYNC" MINE },
	{ "flags.never-new", "xfstests generic/606", "dax=never: no file is DAX.", CF_MOUNTS, mode,
	  MODE("dax=never", false), "clear, no MAP_SYNC" MINE },
	{ "flags.never-flagged", "xfstests generic/606", "dax=never: not even one with the flag.", CF_MOUNTS, mode,
	  MODE("dax=never", true), "clear, no MAP_SYNC" MINE },
	{ "flags.inode-new", "xfstests generic/606", "dax=inode: a file without the flag is not DAX.", CF_MOUNTS, mode,
	  MODE("dax=inode", false), "clear, no MAP_SYNC" MINE },
	{ "flags.inode-flagged", "xfstests generic/606", "dax=inode: one with the flag is.", CF_MOUNTS, mode,
	  MODE("dax=inode", true), "set, MAP_SYNC; bare: clear, no MAP_SYNC|set, MAP_SYNC" MINE },
	{ "flags.default-new", "pinfs; ext4(5)",
	  "Without the option a kernel goes by the flag, and pinfs makes all files DAX.", CF_MOUNTS, mode,
	  MODE(NULL, false), "clear, no MAP_SYNC; pinfs: set, MAP_SYNC; bare: clear, no MAP_SYNC|set, MAP_SYNC" MINE },

	{ "flags.set-deferred", "xfstests generic/608",
	  "A flag that is set while the file is open or mapped counts when the last user has gone.", CF_MOUNTS,
	  deferred, MODE(NULL, true), "open clear, mapped clear, then set and MAP_SYNC; "
	  "bare: na: what a file is cannot be seen without the preload library" MINE },
	{ "flags.clear-deferred", "xfstests generic/608", "And so does one that is taken away.", CF_MOUNTS, deferred,
	  MODE(NULL, false), "open set, mapped set, then clear and no MAP_SYNC; "
	  "bare: na: what a file is cannot be seen without the preload library" MINE },
	{ "flags.content-kept", "xfstests generic/608",
	  "What was written and stored through the page cache is what a DAX mapping shows later.", CF_MOUNTS,
	  content_kept, NULL,
	  "old, stored dma; bare: na: what a file is cannot be seen without the preload library" MINE },

	{ "flags.inherit-file", "xfstests generic/607", "A new file has the flag of its directory.", CF_MOUNTS,
	  inherit, HEIR(NEW_FILE), "flag" MINE },
	{ "flags.inherit-dir", "xfstests generic/607", "So has a new directory.", CF_MOUNTS, inherit, HEIR(NEW_DIR),
	  "flag" MINE },
	{ "flags.inherit-late", "xfstests generic/607", "Files that are there already do not get it.", CF_MOUNTS,
	  inherit, HEIR(OLD_FILE), "no flag" MINE },
	{ "flags.moved-in", "xfstests generic/607", "A file that is moved in stays without it.", CF_MOUNTS, inherit,
	  HEIR(MOVED_IN), "no flag" MINE },
	{ "flags.moved-out", "xfstests generic/607", "A file that is moved out keeps it.", CF_MOUNTS, inherit,
	  HEIR(MOVED_OUT), "flag" MINE },
	{ "flags.copied-in", "xfstests generic/607", "A copy has what its directory has.", CF_MOUNTS, inherit,
	  HEIR(COPIED_IN), "flag" MINE },
	{ "flags.copied-out", "xfstests generic/607", "And loses what that has not.", CF_MOUNTS, inherit,
	  HEIR(COPIED_OUT), "no flag" MINE },
	{ "flags.encrypted", "ext4_should_enable_dax()",
	  "Files that are encrypted, or sealed by verity, are never DAX: of the filesystems here ext4 alone has them, "
	  "when it was made so; pinfs has neither.", CF_UNASKED, NULL, NULL, "" },
};
CF_GROUP(cf_flags, "flags", "Which files are DAX", cases);
