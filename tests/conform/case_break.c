/* SPDX-License-Identifier: BSD-3-Clause */
/* case_break.c - who breaks a layout: each operation on a file of which a page is pinned. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/falloc.h>
#include "conform/cases.h"

#define LEN (4 * CF_PAGE)

struct op {
	long (*fn)(void *fd);
};

static long shrink(void *fd) { return cf_rc(ftruncate(*(int *)fd, 0)); }
static long grow(void *fd) { return cf_rc(ftruncate(*(int *)fd, 2 * LEN)); }
static long punch(void *fd)
{
	return cf_rc(fallocate(*(int *)fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, CF_PAGE));
}

/* Page 0 is pinned: what does the operation do? */
static void pinned(struct cf *c)
{
	const struct op *op = cf_arg(c);
	int fd = cf_file(c, "f", LEN);
	char *p = cf_map(c, fd, 0, LEN, PROT_READ | PROT_WRITE);
	struct cf_pin *pin = cf_pin(c, p, CF_PAGE, CF_TO_FILE);
	struct cf_call *call = cf_call(c, CF_THREAD, op->fn, &fd);
	const bool waits = cf_settle(call) == CF_WAITS;

	cf_answer(c, "%s", cf_call_word(call));
	cf_land(pin);
	if (waits && cf_result(call) < 0)
		cf_answer(c, "waits, then fails");
}

static const struct cf_case cases[] = {
	{ "break.shrink", "behaviour 1; ext4_setattr()",
	  "A truncate that takes a pinned page waits until it is not, and then succeeds.",
	  CF_PROTECTS | CF_PINS, pinned, &(const struct op){ shrink },
	  "waits; ebusy: EBUSY; defer, unsafe, plain: returns" },
	{ "break.grow", "ext4_setattr(), xfs_setattr_size()",
	  "A truncate that makes the file longer waits for any pin in the file.",
	  CF_PINS, pinned, &(const struct op){ grow },
	  "waits; ebusy: EBUSY; defer, unsafe, range, plain: returns" },
	{ "break.punch", "behaviour 2; ext4_punch_hole()",
	  "PUNCH_HOLE of a pinned page waits until it is not, and then succeeds.",
	  CF_PROTECTS | CF_PINS, pinned, &(const struct op){ punch },
	  "waits; ebusy: EBUSY; defer, unsafe, plain: returns" },
};
CF_GROUP(cf_break, "break", "Who breaks a layout", cases);
