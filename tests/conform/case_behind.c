/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_behind.c - what is blocked behind a truncate, or a punch, that waits for pins: each operation on the same file,
 * on others, and on their directory. In the kernel's filesystems the waiter keeps the inode's lock, and lets go of the
 * one that page faults take.
 */
#include <string.h>
#include <sys/mman.h>
#include "conform/cases.h"
#include "conform/ops.h"

#define P ((off_t)CF_PAGE)
#define LEN (16 * P)
#define CUT (4 * P)		/* the truncate's new size */
#define PIN (8 * P)		/* this page is pinned */

struct row {
	op_fn *op;
	off_t off, len;
	enum cf_in in;
};
#define ROW(...) (&(const struct row){ .op = __VA_ARGS__ })

/* Page 8 is pinned, and @waiter waits for it. */
struct waiting {
	struct op_at at, cut;
	struct cf_pin *pin;
	struct cf_call *waiter;
};

static void wait_in(struct cf *c, struct waiting *w, op_fn *op, off_t off, off_t len)
{
	op_stage(c, &w->at, LEN);
	w->at.spare = cf_map(c, w->at.fd, 0, LEN, PROT_READ | PROT_WRITE);
	w->pin = cf_pin(c, w->at.map + PIN, CF_PAGE, CF_TO_FILE);
	w->cut = w->at;
	w->cut.off = off;
	w->cut.len = len;
	w->waiter = cf_call(c, CF_THREAD, op, &w->cut);
	if (cf_settle(w->waiter) != CF_WAITS) {
		cf_land(w->pin);
		cf_na(c, "nothing waits here");
	}
}

/* The second call: what does it do while the first one waits? It has to come through when that has. */
static void ask(struct cf *c, struct waiting *w, const struct row *row)
{
	struct cf_call *call;
	const char *word;
	bool waits;
	long rc;

	w->at.off = row->off;
	w->at.len = row->len;
	call = cf_call(c, row->in, row->op, &w->at);
	waits = cf_settle(call) == CF_WAITS;
	word = cf_call_word(call);
	cf_answer(c, "%s", word);
	cf_land(w->pin);
	rc = cf_result(w->waiter);
	if (rc < 0)
		cf_answer(c, "%s, and the first fails: %s", word, strerrorname_np((int)-rc));
	else if (waits && (rc = cf_result(call)) < 0)
		cf_answer(c, "waits, then %s", strerrorname_np((int)-rc));
}

static void behind_truncate(struct cf *c)
{
	struct waiting w;

	wait_in(c, &w, op_truncate, CUT, 0);
	ask(c, &w, cf_arg(c));
}

static void behind_punch(struct cf *c)
{
	struct waiting w;

	wait_in(c, &w, op_punch, PIN, P);
	ask(c, &w, cf_arg(c));
}

/* An unlink waits behind the truncate, with the directory's lock; the third call is about the directory. */
static void behind_unlink(struct cf *c)
{
	struct waiting w;
	struct op_at at;
	struct cf_call *call;

	wait_in(c, &w, op_truncate, CUT, 0);
	at = w.at;
	call = cf_call(c, CF_THREAD, op_unlink, &at);
	if (cf_settle(call) != CF_WAITS)
		cf_answer(c, "the unlink does not wait");
	else
		ask(c, &w, cf_arg(c));
	if (cf_result(call) < 0)
		cf_answer(c, "the unlink fails");
}

#define WAITS "waits"
#define FREE "returns"
/* FUSE sends it without the inode's lock. */
#define NOT_FUSE "waits; pinfs: returns"

static const struct cf_case cases[] = {
	/* looking at it */
	{ "behind.stat", "vfs_getattr()", "stat(2) does not wait behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_stat), FREE },
	{ "behind.access", "do_faccessat()", "access(2) does not wait behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_access), FREE },
	{ "behind.open", "do_open()", "open(2) without O_TRUNC does not wait behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_open), FREE },
	{ "behind.close", "filp_close()", "close(2) does not wait behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_close), FREE },
	{ "behind.getxattr", "vfs_getxattr()", "getxattr(2) does not wait behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_getxattr), FREE },
	{ "behind.seek-end", "generic_file_llseek_size(); fuse_file_llseek()",
	  "lseek(2) to the end does not wait behind a truncate that waits; FUSE takes the inode's lock for it.",
	  CF_PINS, behind_truncate, ROW(op_seek_end), "returns; pinfs: waits" },
	{ "behind.seek-data", "ext4_seek_data(), xfs_file_llseek()",
	  "lseek(2) to data waits for the inode's lock on ext4 and on FUSE, and not on XFS.",
	  CF_PINS, behind_truncate, ROW(op_seek_data), "waits; xfs: returns" },
	{ "behind.fiemap", "ext4_fiemap(), xfs_vn_fiemap()",
	  "FS_IOC_FIEMAP waits on XFS, and not on ext4; FUSE has none.",
	  CF_PINS, behind_truncate, ROW(op_fiemap), "waits; ext4: returns; pinfs: EOPNOTSUPP" },
	{ "behind.locks", "flock_lock_inode_wait(), fcntl_setlk()",
	  "flock(2) and record locks do not wait behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_locks), FREE },

	/* contents, by system calls */
	{ "behind.read", "ext4_dax_read_iter(), xfs_file_dax_read(); fuse_file_read_iter()",
	  "read(2) waits behind a truncate that waits, as it takes the inode's lock; on FUSE it does not.",
	  CF_PINS, behind_truncate, ROW(op_read), NOT_FUSE },
	{ "behind.read-nonblock", "ext4_dax_read_iter(), xfs_file_dax_read()",
	  "O_NONBLOCK makes no difference to a read(2) of a file.",
	  CF_PINS, behind_truncate, ROW(op_read_nonblock), NOT_FUSE },
	{ "behind.read-nowait", "behaviour 23; ext4_dax_read_iter(), xfs_file_dax_read()",
	  "A read with RWF_NOWAIT is EAGAIN behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_read_nowait), "EAGAIN; pinfs: EOPNOTSUPP" },
	{ "behind.write", "ext4_dax_write_iter(), xfs_file_dax_write()",
	  "write(2) of a page that stays waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_write), WAITS },
	{ "behind.write-grow", "ext4_dax_write_iter(), xfs_file_dax_write()",
	  "write(2) that makes the file longer waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_write, LEN), WAITS },
	{ "behind.write-direct", "ext4_dax_write_iter(), xfs_file_dax_write()",
	  "write(2) with O_DIRECT waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_write_direct), WAITS },
	{ "behind.write-nowait", "behaviour 23; ext4_dax_write_iter(), xfs_file_dax_write()",
	  "A write with RWF_NOWAIT is EAGAIN behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_write_nowait), "EAGAIN; pinfs: EOPNOTSUPP" },
	{ "behind.copy-from", "vfs_copy_file_range()",
	  "copy_file_range(2) from the file waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_copy_from, 0, P), WAITS },
	{ "behind.copy-into", "vfs_copy_file_range()",
	  "copy_file_range(2) into the file waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_copy_into, 0, P), WAITS },
	{ "behind.fsync", "ext4_sync_file(), xfs_file_fsync(); fuse_fsync()",
	  "fsync(2) does not wait behind a truncate that waits; on FUSE it takes the inode's lock, and does.",
	  CF_PINS, behind_truncate, ROW(op_fsync), "returns; pinfs: waits" },
	{ "behind.syncfs", "sync_filesystem()", "syncfs(2) does not wait behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_syncfs), FREE },

	/* contents, by mappings */
	{ "behind.mmap", "mmap_region()", "mmap(2) of the file does not wait behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_mmap), FREE },
	{ "behind.munmap", "do_munmap()", "munmap(2) does not wait behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_munmap), FREE },
	{ "behind.msync", "vfs_fsync_range()",
	  "msync(2) of a mapping of the file does not wait behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_msync), FREE },
	{ "behind.load-cut", "ext4_break_layouts(), xfs_break_dax_layouts()",
	  "A load from the pinned page does not wait, and sees it: nothing has been cut yet.",
	  CF_PINS, behind_truncate, ROW(op_load, PIN), FREE },
	{ "behind.store-cut", "ext4_break_layouts(), xfs_break_dax_layouts()",
	  "A store to the pinned page does not wait: the lock that faults take is dropped while the truncate sleeps.",
	  CF_PINS, behind_truncate, ROW(op_store, PIN), FREE },
	{ "behind.store-kept", "ext4_break_layouts(), xfs_break_dax_layouts()",
	  "A store to a page that was never touched, and stays, does not wait.",
	  CF_PINS, behind_truncate, ROW(op_store, P), FREE },
	{ "behind.store-cut-other", "ext4_break_layouts(), xfs_break_dax_layouts()",
	  "A store to a page that was never touched, and will be cut, does not wait.",
	  CF_PINS, behind_truncate, ROW(op_store, 12 * P), FREE },
	{ "behind.pin-cut", "gup_fast_fallback(); ext4_break_layouts()",
	  "Who holds the pin that is waited for gets a second one of the same page: it may need it to let go.",
	  CF_PINS, behind_truncate, ROW(op_pin, PIN, P), FREE },
	{ "behind.pin-cut-stranger", "gup_fast_fallback(); ext4_break_layouts()",
	  "Another process gets a pin of the page that is waited for, and prolongs the wait; fair=yes has it wait.",
	  CF_PINS, behind_truncate, ROW(op_pin, PIN, P, CF_PROCESS),
	  "returns; pinfs+fair: waits, then EFAULT; poll: returns" },
	{ "behind.pin-cut-other", "gup_fast_fallback(); ext4_break_layouts()",
	  "Another process gets a pin of a page that will be cut and nobody has pinned; fair=yes has it wait.",
	  CF_PINS, behind_truncate, ROW(op_pin, 12 * P, P, CF_PROCESS),
	  "returns; pinfs+fair: waits, then EFAULT; poll: returns" },
	{ "behind.pin-kept", "gup_fast_fallback(); ext4_break_layouts()",
	  "A pin of a page that stays is given at once.",
	  CF_PINS, behind_truncate, ROW(op_pin, P, P), FREE },
	{ "behind.pin-kept-stranger", "gup_fast_fallback(); ext4_break_layouts()",
	  "A pin of a page that stays is given to another process at once, but not with break=file and fair=yes.",
	  CF_PINS, behind_truncate, ROW(op_pin, P, P, CF_PROCESS), "returns; pinfs+fair+file: waits; poll: returns" },

	/* size and blocks */
	{ "behind.truncate", "do_truncate()", "A second truncate waits behind the first one.",
	  CF_PINS, behind_truncate, ROW(op_truncate, 2 * P), WAITS },
	{ "behind.truncate-path", "do_truncate()", "A second truncate by path waits behind the first one.",
	  CF_PINS, behind_truncate, ROW(op_truncate_path, LEN), WAITS },
	{ "behind.open-trunc", "do_truncate(); fuse_open_common()",
	  "An open with O_TRUNC waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_open_trunc), WAITS },
	{ "behind.open-trunc-nonblock", "do_truncate(); fuse_open_common()",
	  "An open with O_TRUNC and O_NONBLOCK waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_open_trunc_nonblock), WAITS },
	{ "behind.punch", "ext4_punch_hole(), xfs_file_fallocate()",
	  "PUNCH_HOLE elsewhere in the file waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_punch, 0, P), WAITS },
	{ "behind.falloc", "ext4_fallocate(), xfs_file_fallocate()",
	  "fallocate(2) waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_falloc, 0, P), WAITS },

	/* the inode and its names */
	{ "behind.chmod", "chmod_common()", "chmod(2) waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_chmod), WAITS },
	{ "behind.chown", "chown_common()", "chown(2) waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_chown), WAITS },
	{ "behind.utimes", "vfs_utimes()", "utimensat(2) waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_utimes), WAITS },
	{ "behind.setxattr", "vfs_setxattr()", "setxattr(2) waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_setxattr), WAITS },
	{ "behind.dax-flag", "vfs_fileattr_set()", "chattr(1) waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_dax_flag), WAITS },
	{ "behind.link", "vfs_link()", "link(2) to the file waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_link), WAITS },
	{ "behind.unlink", "vfs_unlink()", "unlink(2) of the file waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_unlink), WAITS },
	{ "behind.rename-over", "vfs_rename()",
	  "rename(2) of another over the file waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_rename_over), WAITS },
	{ "behind.rename-away", "vfs_rename()", "rename(2) of the file waits behind a truncate that waits.",
	  CF_PINS, behind_truncate, ROW(op_rename_away), WAITS },

	/* others */
	{ "behind.create", "path_openat()", "Making another file in the directory does not wait.",
	  CF_PINS, behind_truncate, ROW(op_create), FREE },
	{ "behind.readdir", "iterate_dir()", "Reading the directory does not wait.",
	  CF_PINS, behind_truncate, ROW(op_readdir), FREE },
	{ "behind.unlink-other", "vfs_unlink()", "unlink(2) of another file in the directory does not wait.",
	  CF_PINS, behind_truncate, ROW(op_unlink_other), FREE },
	{ "behind.write-other", "ext4_dax_write_iter(), xfs_file_dax_write()",
	  "write(2) to another file does not wait.",
	  CF_PINS, behind_truncate, ROW(op_write_other), FREE },
	{ "behind.truncate-other", "do_truncate()", "A truncate of another file does not wait.",
	  CF_PINS, behind_truncate, ROW(op_truncate_other), FREE },
	{ "behind.unlink-create", "vfs_unlink()",
	  "An unlink that waits behind the truncate keeps its directory locked: nobody makes a file in it.",
	  CF_PINS, behind_unlink, ROW(op_create), WAITS },
	{ "behind.unlink-readdir", "vfs_unlink()",
	  "An unlink that waits behind the truncate keeps its directory locked: nobody reads it.",
	  CF_PINS, behind_unlink, ROW(op_readdir), WAITS },
	{ "behind.unlink-stat", "vfs_unlink()",
	  "An unlink that waits behind the truncate does not keep stat(2) of the file from returning.",
	  CF_PINS, behind_unlink, ROW(op_stat), FREE },

	/* the same behind a punch: what can differ */
	{ "behind.punch-stat", "ext4_punch_hole(), xfs_file_fallocate()",
	  "stat(2) does not wait behind a PUNCH_HOLE that waits.",
	  CF_PINS, behind_punch, ROW(op_stat), FREE },
	{ "behind.punch-read", "ext4_punch_hole(), xfs_file_fallocate()",
	  "read(2) waits behind a PUNCH_HOLE that waits; on FUSE it does not.",
	  CF_PINS, behind_punch, ROW(op_read), NOT_FUSE },
	{ "behind.punch-write", "ext4_punch_hole(), xfs_file_fallocate()",
	  "write(2) elsewhere in the file waits behind a PUNCH_HOLE that waits.",
	  CF_PINS, behind_punch, ROW(op_write), WAITS },
	{ "behind.punch-fsync", "ext4_sync_file(), xfs_file_fsync(); fuse_fsync()",
	  "fsync(2) does not wait behind a PUNCH_HOLE that waits; on FUSE it takes the inode's lock, and does.",
	  CF_PINS, behind_punch, ROW(op_fsync), "returns; pinfs: waits" },
	{ "behind.punch-load", "ext4_break_layouts(), xfs_break_dax_layouts()",
	  "A load from the pinned page does not wait behind a PUNCH_HOLE that waits.",
	  CF_PINS, behind_punch, ROW(op_load, PIN), FREE },
	{ "behind.punch-store", "ext4_break_layouts(), xfs_break_dax_layouts()",
	  "A store to a page that was never touched does not wait behind a PUNCH_HOLE that waits.",
	  CF_PINS, behind_punch, ROW(op_store, 12 * P), FREE },
	{ "behind.punch-pin", "gup_fast_fallback(); ext4_break_layouts()",
	  "Who holds the pin that a PUNCH_HOLE waits for gets a second one of the same page.",
	  CF_PINS, behind_punch, ROW(op_pin, PIN, P), FREE },
	{ "behind.punch-pin-stranger", "gup_fast_fallback(); ext4_break_layouts()",
	  "Another process gets a pin of the page that a PUNCH_HOLE waits for; with fair=yes it waits for a new block.",
	  CF_PINS, behind_punch, ROW(op_pin, PIN, P, CF_PROCESS), "returns; pinfs+fair: waits; poll: returns" },
	{ "behind.punch-truncate", "do_truncate()", "A truncate waits behind a PUNCH_HOLE that waits.",
	  CF_PINS, behind_punch, ROW(op_truncate, CUT), WAITS },
	{ "behind.punch-punch", "ext4_punch_hole(), xfs_file_fallocate()",
	  "A second PUNCH_HOLE, elsewhere, waits behind the first one.",
	  CF_PINS, behind_punch, ROW(op_punch, 0, P), WAITS },
	{ "behind.punch-unlink", "vfs_unlink()", "unlink(2) of the file waits behind a PUNCH_HOLE that waits.",
	  CF_PINS, behind_punch, ROW(op_unlink), WAITS },
	{ "behind.punch-chmod", "chmod_common()", "chmod(2) waits behind a PUNCH_HOLE that waits.",
	  CF_PINS, behind_punch, ROW(op_chmod), WAITS },
};
CF_GROUP(cf_behind, "behind", "What waits behind a waiter", cases);
