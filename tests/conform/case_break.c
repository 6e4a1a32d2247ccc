/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_break.c - who breaks a layout: each operation on a file of which two pages are pinned, the range that it is
 * about being these pages, or not. All rows of one question.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "conform/cases.h"
#include "conform/ops.h"

#define P ((off_t)CF_PAGE)
#define LEN (16 * P)
#define PIN (4 * P)		/* pages 4 and 5 are pinned ... */
#define PIN_LEN (2 * P)
#define PIN_END (PIN + PIN_LEN)

struct row {
	op_fn *op;
	off_t off, len;		/* what it is about */
	off_t size;		/* of the file; 0: LEN */
	off_t end;		/* its size afterwards, if that is to be looked at */
	enum cf_pin_dir dir;
	const char *how;	/* cf_pin_by() */
};
#define ROW(...) (&(const struct row){ .op = __VA_ARGS__ })

/* The one question: what does the operation do? When it waits, then until the pin ends, and it succeeds. */
static void pinned(struct cf *c)
{
	const struct row *row = cf_arg(c);
	const char *how = row->how;
	struct op_at at;
	struct cf_pin *pin = NULL;
	struct cf_call *call;
	bool waits;
	long rc;

	op_stage(c, &at, (size_t)(row->size != 0 ? row->size : LEN));
	if (how == NULL)
		pin = cf_pin(c, at.map + PIN, (size_t)PIN_LEN, row->dir);
	else if (cf_pin_by(c, how, at.map + PIN, (size_t)PIN_LEN, row->dir, &pin) != 0)
		cf_na(c, "no pins of this kind (%s) here", how);
	at.off = row->off;
	at.len = row->len;
	call = cf_call(c, CF_THREAD, row->op, &at);
	waits = cf_settle(call) == CF_WAITS;
	cf_answer(c, "%s", cf_call_word(call));
	cf_land(pin);
	if (!waits)
		return;
	rc = cf_result(call);
	if (rc < 0)
		cf_answer(c, "waits, then %s", strerrorname_np((int)-rc));
	else if (row->end != 0 && cf_size(c, at.f) != row->end)
		cf_answer(c, "waits, then the size is wrong");
}

static long store(void *p) { return cf_touch(p, true) == 0 ? 0 : -EFAULT; }

/* A store to a hole, which takes a block, while another page is pinned. */
static void allocating(struct cf *c)
{
	char *p = cf_map(c, cf_holes(c, "f", LEN), 0, LEN, PROT_READ | PROT_WRITE);
	struct cf_pin *pin = cf_pin(c, p, CF_PAGE, CF_TO_FILE);
	struct cf_call *call = cf_call(c, CF_THREAD, store, p + LEN - CF_PAGE);

	cf_answer(c, "%s", cf_call_word(call));
	cf_land(pin);
	(void)cf_result(call);
}

/* The tail page of the file is pinned, of which only a part is inside: PIN_END - 100 bytes long. */
#define TAIL (PIN_END - 100)

/* Pages that leave the file, or are zeroed, are pinned: no filesystem with DAX lets that pass. */
#define MUST "waits; ebusy: EBUSY; defer, unsafe, plain, bare: returns"
/* The pinned pages stay: the kernel's filesystems look at all of the file nevertheless. */
#define FILE_WIDE MUST "; range: returns"
#define SHIFTS "; plain: returns|EOPNOTSUPP; bare, virtiofs, virtiofs-dax: EOPNOTSUPP"
/* Nobody waits. */
#define FREE "returns"
#define XFS_ONLY "returns; xfs: waits"
#define FLAGS (CF_PROTECTS | CF_PINS)

static const struct cf_case cases[] = {
	/* truncate */
	{ "break.shrink", "behaviour 1; ext4_setattr(), xfs_setattr_size()",
	  "A truncate to nothing of a file with a pinned page waits until it is not, and then succeeds.",
	  FLAGS, pinned, ROW(op_truncate), MUST "; devdax: EINVAL" },
	{ "break.shrink-into", "behaviour 1; ext4_setattr(), xfs_setattr_size()",
	  "A truncate to the middle of the pinned pages waits, although some of them stay.",
	  FLAGS, pinned, ROW(op_truncate, PIN + P, .end = PIN + P), MUST "; devdax: EINVAL" },
	{ "break.shrink-in-page", "behaviour 1, 44; ext4_setattr(), xfs_setattr_size()",
	  "A truncate that ends inside a pinned page waits: the rest of the page is zeroed.",
	  FLAGS, pinned, ROW(op_truncate, TAIL, .end = TAIL), MUST "; devdax: EINVAL" },
	{ "break.shrink-next-page", "ext4_setattr(), xfs_setattr_size()",
	  "A truncate that ends inside the page after the pinned ones waits, although they stay as they are.",
	  CF_PINS, pinned, ROW(op_truncate, PIN_END + 100, .end = PIN_END + 100), FILE_WIDE "; devdax: EINVAL" },
	{ "break.shrink-above", "ext4_setattr(), xfs_setattr_size()",
	  "A truncate that takes only pages far behind the pinned ones waits.",
	  CF_PINS, pinned, ROW(op_truncate, PIN_END + 4 * P, .end = PIN_END + 4 * P), FILE_WIDE "; devdax: EINVAL" },
	{ "break.grow", "ext4_setattr(), xfs_setattr_size()",
	  "A truncate that makes the file longer waits for any pin in the file.",
	  CF_PINS, pinned, ROW(op_truncate, 2 * LEN, .end = 2 * LEN), FILE_WIDE "; devdax: EINVAL" },
	{ "break.grow-tail", "behaviour 44; ext4_setattr(), xfs_setattr_size()",
	  "A truncate that makes the file longer waits for a pin of the page in which it ended: its rest is zeroed.",
	  FLAGS, pinned, ROW(op_truncate, LEN, .size = TAIL, .end = LEN), MUST "; devdax: EINVAL" },
	{ "break.same", "ext4_setattr(), xfs_setattr_size()",
	  "A truncate to the size that the file has waits for any pin in it.",
	  CF_PINS, pinned, ROW(op_truncate, LEN, .end = LEN), FILE_WIDE "; devdax: EINVAL" },
	{ "break.path", "do_sys_truncate()",
	  "truncate(2), which has no descriptor, waits as ftruncate(2) does.",
	  FLAGS, pinned, ROW(op_truncate_path), MUST "; devdax: EINVAL" },
	{ "break.nonblock", "do_sys_ftruncate()",
	  "O_NONBLOCK does not keep a truncate from waiting: it is not for files.",
	  FLAGS, pinned, ROW(op_truncate_nonblock), MUST "; devdax: EINVAL" },
	{ "break.open-trunc", "do_open()",
	  "An open with O_TRUNC waits as the truncate that it is.",
	  FLAGS, pinned, ROW(op_open_trunc), MUST "; devdax: returns" },
	{ "break.open-trunc-nonblock", "do_open()",
	  "An open with O_TRUNC and O_NONBLOCK waits as well.",
	  FLAGS, pinned, ROW(op_open_trunc_nonblock), MUST "; devdax: returns" },
	{ "break.other-file", "dax_layout_busy_page()",
	  "A truncate of another file does not wait: pins count in their own file only.",
	  CF_PINS, pinned, ROW(op_truncate_other), FREE "; devdax: EINVAL" },

	/* what a pin is does not matter */
	{ "break.reading-device", "get_user_pages_fast()",
	  "A page that a device reads from is as much in the way as one that it writes to.",
	  FLAGS, pinned, ROW(op_truncate, .dir = CF_FROM_FILE), MUST "; devdax: EINVAL" },
	{ "break.pipe", "iov_iter_get_pages2(); vmsplice_to_pipe()",
	  "A page that lies in a pipe by vmsplice(2) is in the way: any reference is, not only those of devices.",
	  FLAGS, pinned, ROW(op_truncate, .dir = CF_FROM_FILE, .how = "pipe"), MUST "; devdax: EINVAL" },
	{ "break.direct-io", "bio_iov_iter_get_pages()",
	  "The buffer of a read with O_DIRECT that has not ended is in the way.",
	  FLAGS, pinned, ROW(op_truncate, .how = "slow"), MUST "; devdax: EINVAL" },

	/* fallocate: holes and zeros */
	{ "break.punch", "behaviour 2; ext4_punch_hole(), xfs_file_fallocate()",
	  "PUNCH_HOLE of pinned pages waits until they are not, and then succeeds.",
	  FLAGS, pinned, ROW(op_punch, PIN, PIN_LEN), MUST "; devdax: ENODEV" },
	{ "break.punch-overlap", "behaviour 2; ext4_punch_hole(), xfs_file_fallocate()",
	  "PUNCH_HOLE of a range that has one pinned page in it waits.",
	  FLAGS, pinned, ROW(op_punch, PIN + P, 4 * P), MUST "; devdax: ENODEV" },
	{ "break.punch-bytes", "behaviour 44; ext4_punch_hole(), xfs_file_fallocate()",
	  "PUNCH_HOLE of a hundred bytes inside a pinned page waits: they are zeroed.",
	  FLAGS, pinned, ROW(op_punch, PIN + 1000, 100), MUST "; devdax: ENODEV" },
	{ "break.punch-before", "ext4_punch_hole(), xfs_file_fallocate()",
	  "PUNCH_HOLE in front of the pinned pages waits for them.",
	  CF_PINS, pinned, ROW(op_punch, 0, P), FILE_WIDE "; devdax: ENODEV" },
	{ "break.punch-after", "ext4_punch_hole(), xfs_file_fallocate()",
	  "PUNCH_HOLE behind the pinned pages waits for them.",
	  CF_PINS, pinned, ROW(op_punch, PIN_END + P, P), FILE_WIDE "; devdax: ENODEV" },
	{ "break.punch-past-eof", "ext4_punch_hole(), xfs_file_fallocate()",
	  "PUNCH_HOLE behind the end of the file waits for pins in the file.",
	  CF_PINS, pinned, ROW(op_punch, LEN + P, P), FILE_WIDE "; k6.1+ext4: returns; devdax: ENODEV" },
	{ "break.madv-remove", "behaviour 2; madvise_remove()",
	  "MADV_REMOVE of pinned pages is PUNCH_HOLE, and waits.",
	  FLAGS, pinned, ROW(op_madv_remove, PIN, PIN_LEN), MUST "; devdax: ENODEV" },
	{ "break.zero", "behaviour 2; ext4_zero_range(), xfs_file_fallocate()",
	  "ZERO_RANGE of pinned pages waits until they are not, and then succeeds.",
	  FLAGS, pinned, ROW(op_zero, PIN, PIN_LEN), MUST "; plain: returns|EOPNOTSUPP; devdax: ENODEV" },
	{ "break.zero-after", "ext4_zero_range(), xfs_file_fallocate()",
	  "ZERO_RANGE behind the pinned pages waits for them.",
	  CF_PINS, pinned, ROW(op_zero, PIN_END + P, P), FILE_WIDE "; plain: returns|EOPNOTSUPP; devdax: ENODEV" },

	/* fallocate: shifts */
	{ "break.collapse", "behaviour 2; ext4_collapse_range(), xfs_file_fallocate()",
	  "COLLAPSE_RANGE of pinned pages waits.",
	  FLAGS, pinned, ROW(op_collapse, PIN, PIN_LEN, .end = LEN - PIN_LEN), MUST SHIFTS "; devdax: ENODEV" },
	{ "break.collapse-before", "behaviour 2; ext4_collapse_range(), xfs_file_fallocate()",
	  "COLLAPSE_RANGE in front of pinned pages waits: these would be other pages of the file.",
	  FLAGS, pinned, ROW(op_collapse, 0, P, .end = LEN - P), MUST SHIFTS "; devdax: ENODEV" },
	{ "break.collapse-after", "ext4_collapse_range(), xfs_file_fallocate()",
	  "COLLAPSE_RANGE behind the pinned pages waits for them.",
	  CF_PINS, pinned, ROW(op_collapse, PIN_END + P, P, .end = LEN - P), FILE_WIDE SHIFTS "; devdax: ENODEV" },
	{ "break.insert-before", "behaviour 2; ext4_insert_range(), xfs_file_fallocate()",
	  "INSERT_RANGE in front of pinned pages waits.",
	  FLAGS, pinned, ROW(op_insert, P, P, .end = LEN + P), MUST SHIFTS "; devdax: ENODEV" },
	{ "break.insert-after", "ext4_insert_range(), xfs_file_fallocate()",
	  "INSERT_RANGE behind the pinned pages waits for them.",
	  CF_PINS, pinned, ROW(op_insert, PIN_END + P, P, .end = LEN + P), FILE_WIDE SHIFTS "; devdax: ENODEV" },

	/* fallocate: blocks */
	{ "break.falloc", "ext4_fallocate(), xfs_file_fallocate()",
	  "fallocate(2) of pages that are there, pinned ones among them, does not wait on ext4, and does on XFS.",
	  CF_PINS, pinned, ROW(op_falloc, 0, LEN),
	  "returns; xfs: waits; virtiofs-dax: waits; virtiofs-dax+ebusy: EBUSY; virtiofs-dax+defer, "
	  "virtiofs-dax+unsafe, virtiofs-dax+range, plain, bare: returns; devdax: ENODEV" },
	{ "break.falloc-grow", "ext4_fallocate(), xfs_file_fallocate()",
	  "fallocate(2) that makes the file longer does not wait on ext4, and does on XFS and on virtiofs.",
	  CF_PINS, pinned, ROW(op_falloc, LEN, P),
	  "returns; xfs: waits; virtiofs-dax: waits; virtiofs-dax+ebusy: EBUSY; virtiofs-dax+defer, "
	  "virtiofs-dax+unsafe, virtiofs-dax+range, plain, bare: returns; devdax: ENODEV" },
	{ "break.falloc-keep", "ext4_fallocate(), xfs_file_fallocate(); fuse_file_fallocate()",
	  "fallocate(2) with KEEP_SIZE behind the end does not wait on ext4 and virtiofs, and does on XFS.",
	  CF_PINS, pinned, ROW(op_falloc_keep, LEN, P), XFS_ONLY "; devdax: ENODEV" },
	{ "break.unshare", "ext4_fallocate(), xfs_file_fallocate()",
	  "UNSHARE_RANGE waits on XFS; others do not know it.",
	  CF_PINS, pinned, ROW(op_unshare, PIN, PIN_LEN),
	  "EOPNOTSUPP; xfs: waits; plain: EOPNOTSUPP|returns; pinfs+own: returns; devdax: ENODEV" },

	/* contents */
	{ "break.write", "ext4_dax_write_iter(), xfs_file_dax_write()",
	  "write(2) into a pinned page does not wait: the block stays where it is.",
	  CF_PINS, pinned, ROW(op_write, PIN), FREE "; devdax: EINVAL" },
	{ "break.write-direct", "ext4_dax_write_iter(), xfs_file_dax_write()",
	  "write(2) with O_DIRECT into a pinned page does not wait.",
	  CF_PINS, pinned, ROW(op_write_direct, PIN), FREE "; plain: returns|EINVAL; devdax: EINVAL" },
	{ "break.write-grow", "ext4_dax_write_iter(), xfs_file_dax_write()",
	  "write(2) that makes the file longer does not wait.",
	  CF_PINS, pinned, ROW(op_write, LEN), FREE "; devdax: EINVAL" },
	{ "break.write-gap", "behaviour 44; ext4_dax_write_iter(), xfs_file_write_zero_eof()",
	  "write(2) far behind the end does not wait, although what the last page has behind it is zeroed, and pinned.",
	  CF_PINS, pinned, ROW(op_write, LEN, .size = TAIL), FREE "; devdax: EINVAL" },
	{ "break.read", "ext4_dax_read_iter(), xfs_file_dax_read()",
	  "read(2) of a pinned page does not wait.",
	  CF_PINS, pinned, ROW(op_read, PIN), FREE "; devdax: EINVAL" },
	{ "break.load", "dax_iomap_pte_fault()",
	  "A load from a pinned page does not wait.",
	  CF_PINS, pinned, ROW(op_load, PIN), FREE },
	{ "break.store", "dax_iomap_pte_fault()",
	  "A store to a pinned page does not wait.",
	  CF_PINS, pinned, ROW(op_store, PIN), FREE },
	{ "break.store-hole", "dax_iomap_pte_fault()",
	  "A store to a hole, which takes a block, does not wait for a pinned page elsewhere in the file.",
	  CF_PINS, allocating, NULL, FREE "; devdax: na: a device has no holes" },
	{ "break.fsync", "dax_writeback_mapping_range()",
	  "fsync(2) does not wait for pins.",
	  CF_PINS, pinned, ROW(op_fsync), FREE "; devdax: EINVAL" },
	{ "break.msync", "dax_writeback_mapping_range()",
	  "msync(2) of a pinned page does not wait.",
	  CF_PINS, pinned, ROW(op_msync), FREE "; devdax: EINVAL" },
	{ "break.madv-dontneed", "behaviour 56; madvise_dontneed_free()",
	  "MADV_DONTNEED of a pinned page does not wait: it is about the mapping, not about the file.",
	  CF_PINS, pinned, ROW(op_madv_dontneed, PIN, PIN_LEN), FREE },
	{ "break.second-pin", "get_user_pages_fast()",
	  "A second pin of a pinned page does not wait.",
	  CF_PINS, pinned, ROW(op_pin, PIN, PIN_LEN), FREE },

	/* sharing and moving */
	{ "break.clone-from", "xfs_reflink_remap_prep()",
	  "FICLONE of the pinned file into another waits on XFS; others cannot do it.",
	  CF_PINS, pinned, ROW(op_clone_from), "EOPNOTSUPP; xfs: waits; plain: EOPNOTSUPP|returns" },
	{ "break.clone-into", "xfs_reflink_remap_prep()",
	  "FICLONE of another file over the pinned one waits on XFS; others cannot do it.",
	  CF_PINS, pinned, ROW(op_clone_into), "EOPNOTSUPP; xfs: waits; plain: EOPNOTSUPP|returns" },
	{ "break.dedupe", "xfs_reflink_remap_prep()",
	  "FIDEDUPERANGE with the pinned pages waits on XFS; others cannot do it.",
	  CF_PINS, pinned, ROW(op_dedupe, PIN, PIN_LEN), "EOPNOTSUPP; xfs: waits; plain: EOPNOTSUPP|EINVAL|returns" },
	{ "break.copy-from", "vfs_copy_file_range(); xfs_file_remap_range()",
	  "copy_file_range(2) from the pinned pages does not wait where it copies; on XFS it shares, and waits.",
	  CF_PINS, pinned, ROW(op_copy_from, PIN, P), XFS_ONLY "; devdax: EINVAL" },
	{ "break.copy-into", "vfs_copy_file_range(); xfs_file_remap_range()",
	  "copy_file_range(2) into the pinned pages does not wait where it copies; on XFS it shares, and waits.",
	  CF_PINS, pinned, ROW(op_copy_into, PIN, P), XFS_ONLY "; devdax: EINVAL" },
	{ "break.move-extent", "behaviour 56a; ext4_move_extents()",
	  "The ioctl that moves blocks for defragmenting refuses files with DAX.",
	  CF_PINS, pinned, ROW(op_move_extent, PIN, PIN_LEN),
	  "EOPNOTSUPP; pinfs, bare, xfs: ENOTTY; plain: ?" },
	{ "break.journal-flag", "ext4_ioctl_setflags()",
	  "chattr +j, which would move the data to the journal, is refused for a file with DAX.",
	  CF_PINS, pinned, ROW(op_journal_flag), "EOPNOTSUPP; ext4: EBUSY; plain: ?" },
	{ "break.dax-flag", "ext4_fileattr_set(), xfs_fileattr_set()",
	  "chattr +x and -x, which count from the next time that the inode is read, do not wait.",
	  CF_PINS, pinned, ROW(op_dax_flag), FREE "; plain: ?" },

	/* names */
	{ "break.unlink", "do_unlinkat()",
	  "unlink(2) of a file that is open does not wait: its blocks are not freed yet.",
	  CF_PINS, pinned, ROW(op_unlink), FREE },
	{ "break.rename-over", "do_renameat2()",
	  "rename(2) of another file over the pinned one does not wait.",
	  CF_PINS, pinned, ROW(op_rename_over), FREE },
	{ "break.rename-away", "do_renameat2()",
	  "rename(2) of the pinned file does not wait.",
	  CF_PINS, pinned, ROW(op_rename_away), FREE },
	{ "break.chmod", "notify_change()",
	  "chmod(2) does not wait: only a change of the size does.",
	  CF_PINS, pinned, ROW(op_chmod), FREE },

	/* What cannot be asked. */
	{ "break.exchange", "xfs_ioc_exchange_range()",
	  "Exchanging the ranges of two files breaks the layouts of both: an ioctl of XFS alone, since Linux 6.10.",
	  CF_UNASKED, NULL, NULL, "" },
	{ "break.scrub", "xchk_setup_inode_contents()",
	  "Online repair of XFS recalls leases and does not look at pins: it needs a damaged XFS and its tools.",
	  CF_UNASKED, NULL, NULL, "" },
};
CF_GROUP(cf_break, "break", "Who breaks a layout", cases);
