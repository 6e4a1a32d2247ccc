/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case_reuse.c - a block that a device works on is nobody else's. The filesystem is full but for what an operation on
 * the file gives back; a victim takes that; then the device does its work, late.
 *
 * What keeps the victim whole is the case's to ask, not how: the operation waits, is refused, or the blocks are set
 * aside. Unlike a page cache, whose pages leave the file and are nobody's, DAX has only the block.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pinfs/pin.h>
#include "conform/cases.h"
#include "conform/space.h"
#include "conform/take.h"

/* Half of it is more than what filesystems keep for themselves when they are full: a victim gets some of it. */
#define PAGES 1024
#define LEN (PAGES * CF_PAGE)
#define NREQ 4
#define REQ (LEN / NREQ)		/* of one transfer: FUSE has no longer ones */

/* ---- what gives blocks back ---- */

struct file {
	struct cf *c;
	int fd;				/* -1: closed, and the mapping is gone */
	char *map;
};

typedef long op_fn(void *file);

static long by_fallocate(const struct file *f, int mode, off_t off, size_t len)
{
	int fd = open(cf_path(f->c, "f"), O_RDWR | O_CLOEXEC);
	long rc = cf_rc(fd);

	if (rc >= 0) {
		rc = cf_rc(fallocate(fd, mode, off, (off_t)len));
		(void)close(fd);
	}
	return rc;
}

static long op_truncate(void *arg)
{
	const struct file *f = arg;

	return cf_rc(truncate(cf_path(f->c, "f"), 0));
}

static long op_tail(void *arg)
{
	const struct file *f = arg;

	return cf_rc(truncate(cf_path(f->c, "f"), (off_t)LEN / 2));
}

static long op_punch(void *arg)
{
	return by_fallocate(arg, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, LEN);
}

static long op_remove(void *arg)
{
	const struct file *f = arg;

	return f->map == NULL ? op_punch(arg) : cf_rc(madvise(f->map, LEN, MADV_REMOVE));
}

/* Not all of it: that is EINVAL. */
static long op_collapse(void *arg)
{
	return by_fallocate(arg, FALLOC_FL_COLLAPSE_RANGE, 0, LEN / 2);
}

static long op_open(void *arg)
{
	const struct file *f = arg;
	int fd = open(cf_path(f->c, "f"), O_WRONLY | O_TRUNC | O_CLOEXEC);
	long rc = cf_rc(fd);

	if (fd >= 0)
		(void)close(fd);
	return rc;
}

/* The last name goes, and with it, sooner or later, the last mapping and descriptor. */
static void forget(struct file *f)
{
	if (f->map != NULL)
		(void)munmap(f->map, LEN);
	if (f->fd >= 0)
		(void)close(f->fd);
	f->map = NULL;
	f->fd = -1;
}

static long op_unlink(void *arg)
{
	struct file *f = arg;
	long rc = cf_rc(unlink(cf_path(f->c, "f")));

	forget(f);
	return rc;
}

static long op_rename(void *arg)
{
	struct file *f = arg;
	long rc = cf_rc(rename(cf_path(f->c, "other"), cf_path(f->c, "f")));

	forget(f);
	return rc;
}

/* ---- the scene ---- */

struct scene {
	op_fn *op;
	enum cf_pin_dir dir;
	bool gone;			/* only the device is left when the operation comes */
};

static void play(struct cf *c)
{
	const struct scene *s = cf_arg(c);
	struct file f = { .c = c, .fd = cf_file(c, "f", LEN) };
	struct cf_call *call;
	struct cf_pin *pin;
	const char *got;
	size_t len, torn;
	bool waits;
	long rc = 0;

	CF_SYS(c, close(cf_file(c, "other", CF_PAGE)));
	f.map = cf_map(c, f.fd, 0, LEN, PROT_READ | PROT_WRITE);
	pin = cf_pin(c, f.map, LEN, s->dir);
	cf_fill(c);
	if (s->gone)
		forget(&f);
	call = cf_call(c, CF_THREAD, s->op, &f);
	waits = cf_settle(call) == CF_WAITS;
	if (!waits)
		rc = cf_result(call);
	len = cf_victim(c);
	cf_land(pin);
	if (waits)
		rc = cf_result(call);
	torn = cf_victim_torn(c);
	cf_note(c, "the operation %s; the victim has %zu bytes, of which %zu are another's",
		waits ? "waits" : rc < 0 ? "is refused" : "returns", len, torn);
	got = s->dir == CF_FROM_FILE ? cf_landed(pin) : "";
	if (rc < 0 && rc != -EBUSY)
		cf_answer_rc(c, rc);
	else if (s->dir == CF_TO_FILE)
		cf_answer(c, torn == 0 ? "intact" : "torn");
	else
		cf_answer(c, strcmp(got, "old") == 0 ? "own" : strcmp(got, "zero") == 0 ? "zero" : "another's");
}

/*
 * The file takes its blocks back at once: what the device writes is for pages that have gone, and those that have come
 * are none of it.
 */
struct refill {
	struct file file;
	bool store;
};

static long punch_and_fill(void *arg)
{
	struct refill *r = arg;
	char new[CF_PAGE];
	long rc = op_punch(&r->file);

	if (rc < 0)
		return rc;
	memset(new, 'n', sizeof new);
	for (size_t i = 0; i < PAGES; i++) {
		if (!r->store) {
			if (pwrite(r->file.fd, new, sizeof new, (off_t)(i * CF_PAGE)) < 0)
				return -errno;
		} else if (cf_touch(r->file.map + i * CF_PAGE, true) != 0) {
			return -ENOSPC;
		} else {
			memcpy(r->file.map + i * CF_PAGE, new, sizeof new);
		}
	}
	return 0;
}

static void refill(struct cf *c)
{
	struct refill r = { .file = { .c = c, .fd = cf_file(c, "f", LEN) }, .store = cf_arg(c) != NULL };
	static char got[LEN];
	struct cf_call *call;
	struct cf_pin *pin;
	size_t dma = 0;
	long rc;

	r.file.map = cf_map(c, r.file.fd, 0, LEN, PROT_READ | PROT_WRITE);
	/* Of a window of two slots one is left, for the stores. */
	pin = cf_pin(c, r.file.map, LEN / 2, CF_TO_FILE);
	cf_fill(c);
	call = cf_call(c, CF_THREAD, punch_and_fill, &r);
	(void)cf_settle(call);
	cf_land(pin);
	rc = cf_result(call);
	if (rc == -EBUSY) {
		cf_note(c, "the pages have not gone");
		cf_answer(c, "intact");
		return;
	}
	/* Blocks that are set aside are not there to be taken back: no space. */
	if (rc < 0 && rc != -ENOSPC) {
		cf_answer_rc(c, rc);
		return;
	}
	CF_MUST(c, pread(r.file.fd, got, LEN, 0) == (ssize_t)LEN);
	for (size_t i = 0; i < LEN; i++)
		dma += got[i] == CF_DMA;
	cf_note(c, "%zu bytes are the device's", dma);
	cf_answer(c, dma == 0 ? "intact" : "torn");
}

/* Blocks that change their place in the file: the device's bytes go where the page goes. */
static long op_insert(void *arg)
{
	return by_fallocate(arg, FALLOC_FL_INSERT_RANGE, 0, 4 * CF_PAGE);
}

static long op_collapse_before(void *arg)
{
	return by_fallocate(arg, FALLOC_FL_COLLAPSE_RANGE, 0, 4 * CF_PAGE);
}

static void moved(struct cf *c)
{
	const struct scene *s = cf_arg(c);
	struct file f = { .c = c, .fd = cf_file(c, "f", LEN) };
	const off_t page = 8 * (off_t)CF_PAGE, by = (s->op == op_insert ? 4 : -4) * (off_t)CF_PAGE;
	const char *there, *before, *behind;
	struct cf_call *call;
	struct cf_pin *pin;
	long rc;

	f.map = cf_map(c, f.fd, 0, LEN, PROT_READ | PROT_WRITE);
	pin = cf_pin(c, f.map + page, CF_PAGE, CF_TO_FILE);
	call = cf_call(c, CF_THREAD, s->op, &f);
	cf_note(c, "the operation: %s", cf_settle(call) == CF_WAITS ? "waits" : "does not wait");
	cf_land(pin);
	rc = cf_result(call);
	if (rc < 0) {
		cf_answer_rc(c, rc);
		return;
	}
	there = cf_content(c, cf_path(c, "f"), page + by, CF_PAGE);
	before = cf_content(c, cf_path(c, "f"), page + by - (off_t)CF_PAGE, CF_PAGE);
	behind = cf_content(c, cf_path(c, "f"), page + by + (off_t)CF_PAGE, CF_PAGE);
	cf_answer(c, strcmp(there, "dma") == 0 && strcmp(before, "dma") != 0 && strcmp(behind, "dma") != 0 ?
			     "with the page" : "elsewhere");
}

/* ---- what becomes of the space ---- */

static void space(struct cf *c)
{
	const bool after = cf_arg(c) != NULL;
	struct file f = { .c = c, .fd = cf_file(c, "f", LEN) };
	struct cf_pin *pin;
	uint64_t before;

	f.map = cf_map(c, f.fd, 0, LEN, PROT_READ | PROT_WRITE);
	pin = cf_pin(c, f.map, LEN, CF_TO_FILE);
	cf_one_cpu(c);
	before = cf_free(c);
	CF_SYS(c, op_unlink(&f));
	cf_space_comes(c, before, LEN);
	/* Half of it: what maps files are made of is no matter here. */
	if (!after)
		cf_answer(c, cf_free(c) >= before + LEN / 2 ? "freed" : "kept");
	cf_land(pin);
	while (after && cf_free(c) < before + LEN / 2)
		usleep(500);
	if (after)
		cf_answer(c, "freed");
}

/* ---- the holder is killed, and its transfer goes on ---- */

/* Shared with the process that will be killed, and with its device. */
struct fate {
	_Atomic uint32_t begun, land, landed;
	char slow[PATH_MAX];
};

struct taker {
	void (*begin)(struct cf *c, char *map, struct fate *fate);
	bool slow;			/* the transfer is from cf_slow() */
	bool unlinked;
};

/* A device that the process has given to a child of its own: a descriptor of the device's, and where to write to. */
static void begin_device(struct cf *c, char *map, struct fate *fate)
{
	int (*pin_sg)(const void *, size_t, unsigned int, struct pinfs_sg *, size_t *, struct pinfs_pin **) =
		(int (*)(const void *, size_t, unsigned int, struct pinfs_sg *, size_t *, struct pinfs_pin **))
			cf_symbol("pinfs_pin_sg");
	int (*device)(const void *) = (int (*)(const void *))cf_symbol("pinfs_device");
	struct pinfs_sg sg[PAGES];
	struct pinfs_pin *pin;
	size_t n = PAGES;
	char dma[CF_PAGE];
	int fd;

	CF_MUST(c, pin_sg(map, LEN, PINFS_PIN_WRITE, sg, &n, &pin) == 0);
	fd = device(map);
	CF_MUST(c, fd >= 0);
	if (CF_SYS(c, fork()) == 0) {
		memset(dma, CF_DMA, sizeof dma);
		cf_mark(&fate->begun, 1);
		cf_await(c, &fate->land, 1);
		for (size_t i = 0; i < n; i++) {
			for (uint64_t at = 0; at < sg[i].sg_len; at += CF_PAGE)
				(void)!pwrite(fd, dma, CF_PAGE, (off_t)(sg[i].sg_doff + at));
		}
		cf_mark(&fate->landed, 1);
		_exit(0);
	}
}

static void begin_aio(struct cf *c, char *map, struct fate *fate)
{
	int src = (int)CF_SYS(c, open(fate->slow, O_RDONLY | O_DIRECT | O_CLOEXEC));
	struct iocb cb[NREQ], *list[NREQ];
	aio_context_t ctx = 0;

	for (size_t i = 0; i < NREQ; i++) {
		cb[i] = (struct iocb){ .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (uint32_t)src,
				       .aio_buf = (uintptr_t)(map + i * REQ), .aio_nbytes = REQ };
		list[i] = &cb[i];
	}
	CF_MUST(c, take_aio_setup(NREQ, &ctx) == 0);
	CF_MUST(c, syscall(SYS_io_submit, ctx, (long)NREQ, list) == NREQ);
	cf_mark(&fate->begun, 1);
}

static void begin_uring(struct cf *c, char *map, struct fate *fate)
{
	struct io_uring_params p = { 0 };
	struct io_uring_sqe *sqe;
	uint32_t *array, *tail;
	int src = (int)CF_SYS(c, open(fate->slow, O_RDONLY | O_DIRECT | O_CLOEXEC));
	int ring = (int)syscall(SYS_io_uring_setup, NREQ, &p);
	char *sq;

	if (ring < 0)
		cf_na(c, "there is no io_uring here");
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		  IORING_OFF_SQ_RING);
	sqe = mmap(NULL, p.sq_entries * sizeof *sqe, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	CF_MUST(c, (void *)sq != MAP_FAILED && (void *)sqe != MAP_FAILED);
	array = (uint32_t *)(void *)(sq + p.sq_off.array);
	tail = (uint32_t *)(void *)(sq + p.sq_off.tail);
	for (uint32_t i = 0; i < NREQ; i++) {
		sqe[i] = (struct io_uring_sqe){ .opcode = IORING_OP_READ, .fd = src,
						.addr = (uintptr_t)(map + i * REQ), .len = (uint32_t)REQ };
		array[i] = i;
	}
	__atomic_store_n(tail, NREQ, __ATOMIC_RELEASE);
	CF_MUST(c, syscall(SYS_io_uring_enter, ring, NREQ, 0, 0, NULL, 0) == NREQ);
	cf_mark(&fate->begun, 1);
}

/* Answered after those that came before: when this one has its bytes, so have they. */
static long read_slow(void *arg)
{
	const struct fate *fate = arg;
	int fd = open(fate->slow, O_RDONLY | O_DIRECT | O_CLOEXEC);
	void *buf = mmap(NULL, CF_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return cf_rc(fd < 0 ? fd : read(fd, buf, CF_PAGE));
}

/* How often the threads of a process have gone to sleep; 0 while one of them does not. */
static uint64_t asleep(pid_t pid)
{
	char path[64], text[4096];
	uint64_t sum = 1;
	const struct dirent *e;
	DIR *d;

	(void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	d = opendir(path);
	while (d != NULL && sum != 0 && (e = readdir(d)) != NULL) {
		const char *state, *count;
		ssize_t n;
		int fd;

		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", (int)pid, e->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
		text[n > 0 ? n : 0] = '\0';
		if (fd >= 0)
			(void)close(fd);
		state = strstr(text, "\nState:\t");
		count = strstr(text, "\nvoluntary_ctxt_switches:\t");
		if (state == NULL || count == NULL || strchr("DSZX", state[8]) == NULL)
			sum = 0;
		else
			sum += strtoull(strchr(count, '\t'), NULL, 10);
	}
	if (d != NULL)
		(void)closedir(d);
	return sum;
}

/* Killed, and gone with its mappings; or seen to stay, as long as a transfer lasts that cannot be called off. */
static void until_gone(pid_t pid)
{
	siginfo_t si = { .si_pid = 0 };
	uint64_t before = 0, now;
	int same = 0;

	while (same < 50 && waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid == 0) {
		now = asleep(pid);
		same = now != 0 && now == before ? same + 1 : 0;
		before = now;
		usleep(1000);
	}
}

static void killed(struct cf *c)
{
	const struct taker *k = cf_arg(c);
	struct fate *fate = cf_shared(c, sizeof *fate);
	struct file f = { .c = c, .fd = cf_file(c, "f", LEN) };
	struct cf_call *call, *last = NULL;
	size_t len, torn;
	bool waits;
	pid_t pid;
	long rc;

	if (k->slow)
		(void)snprintf(fate->slow, sizeof fate->slow, "%s", cf_slow(c));
	else if (cf_symbol("pinfs_pin_sg") == NULL)
		cf_na(c, "a device of another process is given to the preload library's pins only");
	pid = (pid_t)CF_SYS(c, fork());
	if (pid == 0) {
		f.map = cf_map(c, f.fd, 0, LEN, PROT_READ | PROT_WRITE);
		CF_MUST(c, cf_touch(f.map, true) == 0);
		k->begin(c, f.map, fate);
		for (;;)
			(void)pause();
	}
	/* One that ends before has said why. */
	cf_await(c, &fate->begun, 1);
	CF_SYS(c, close(f.fd));
	cf_fill(c);
	if (k->slow) {
		cf_slow_await(c, NREQ);
		last = cf_call(c, CF_PROCESS, read_slow, fate);
		cf_slow_await(c, NREQ + 1);
	}
	CF_SYS(c, kill(pid, SIGKILL));
	until_gone(pid);
	f.fd = -1;
	call = cf_call(c, CF_THREAD, k->unlinked ? op_unlink : op_truncate, &f);
	waits = cf_settle(call) == CF_WAITS;
	len = cf_victim(c);
	if (k->slow) {
		cf_slow_release(c);
		CF_MUST(c, cf_result(last) == (long)CF_PAGE);
	} else {
		cf_mark(&fate->land, 1);
		cf_await(c, &fate->landed, 1);
	}
	rc = cf_result(call);
	CF_SYS(c, waitpid(pid, NULL, 0));
	torn = cf_victim_torn(c);
	cf_note(c, "the operation %s; the victim has %zu bytes, of which %zu are another's",
		waits ? "waits" : rc < 0 ? "is refused" : "returns", len, torn);
	if (rc < 0 && rc != -EBUSY)
		cf_answer_rc(c, rc);
	else
		cf_answer(c, torn == 0 ? "intact" : "torn");
}

/* ---- the cases ---- */

#define PLAY(op, dir, gone) play, &(const struct scene){ op, dir, gone }
#define ALL (CF_PROTECTS | CF_PINS | CF_FILLS)
#define NODEV "; devdax: na: a device has no space to give back"
#define EVICTS "intact; unsafe: torn; k6.1, k6.12: torn" NODEV
/* The end of an inode is no operation that a policy is for: its blocks are kept by all of them. */
#define ENDS "intact; k6.1, k6.12: torn" NODEV
#define KEEPS (CF_PINS | CF_FILLS)
#define INTACT "intact; unsafe: torn" NODEV
#define SHIFTS "; virtiofs, virtiofs-dax, bare: EOPNOTSUPP"

static const struct cf_case cases[] = {
	{ "reuse.truncate", "behaviour 3, 51; commit 5fac7408d82",
	  "Blocks that a truncate to nothing gives back while a device writes to them become nobody else's.",
	  ALL, PLAY(op_truncate, CF_TO_FILE, false), INTACT },
	{ "reuse.truncate-tail", "behaviour 3; commit 5fac7408d82",
	  "The same of a truncate that cuts half of what the device writes to.",
	  ALL, PLAY(op_tail, CF_TO_FILE, false), INTACT },
	{ "reuse.open-trunc", "behaviour 3; do_truncate() of open(2)",
	  "The same of open(2) with O_TRUNC.",
	  ALL, PLAY(op_open, CF_TO_FILE, false), "intact; unsafe: torn; devdax: na: O_TRUNC is without effect" },
	{ "reuse.punch", "behaviour 3, 51; \"dax vs truncate\" v3 (Oct 2017)",
	  "A hole that is punched while a device writes gives no block to anybody else before it has ended.",
	  ALL, PLAY(op_punch, CF_TO_FILE, false), INTACT },
	{ "reuse.madv-remove", "behaviour 3; madvise_remove()",
	  "The same of MADV_REMOVE on the mapping.",
	  ALL, PLAY(op_remove, CF_TO_FILE, false), INTACT },
	{ "reuse.collapse", "behaviour 3; ext4_collapse_range(), xfs_collapse_file_space()",
	  "The same of COLLAPSE_RANGE of the pages.",
	  ALL, PLAY(op_collapse, CF_TO_FILE, false), INTACT SHIFTS "; plain: intact|EOPNOTSUPP" },
	{ "reuse.unlink", "behaviour 3; ext4_evict_inode(); dax_break_layout_final()",
	  "A file loses its name, then its mapping and descriptor, while a device writes: its blocks stay its own.",
	  KEEPS, PLAY(op_unlink, CF_TO_FILE, false), ENDS },
	{ "reuse.rename-over", "behaviour 3; ext4_evict_inode(); dax_break_layout_final()",
	  "The same when another file is renamed over it.",
	  KEEPS, PLAY(op_rename, CF_TO_FILE, false), ENDS },

	{ "reuse.from-truncate", "behaviour 3, 50; commit 5fac7408d82",
	  "A device that reads the file while it is cut never gets the bytes of a file that has the blocks next.",
	  ALL, PLAY(op_truncate, CF_FROM_FILE, false), "own; unsafe: another's" NODEV },
	{ "reuse.from-punch", "behaviour 3, 50; commit 5fac7408d82",
	  "The same of a hole that is punched.",
	  ALL, PLAY(op_punch, CF_FROM_FILE, false), "own; unsafe: another's" NODEV },
	{ "reuse.from-open-trunc", "behaviour 3; do_truncate() of open(2)",
	  "The same of open(2) with O_TRUNC.",
	  ALL, PLAY(op_open, CF_FROM_FILE, false), "own; unsafe: another's; devdax: na: O_TRUNC is without effect" },
	{ "reuse.from-unlink", "behaviour 3; ext4_evict_inode(); dax_break_layout_final()",
	  "The same of a file that loses name, mapping and descriptor.",
	  KEEPS, PLAY(op_unlink, CF_FROM_FILE, false), "own; kernel: ?" NODEV },
	{ "reuse.from-collapse", "behaviour 3; ext4_collapse_range(), xfs_collapse_file_space()",
	  "The same of COLLAPSE_RANGE.",
	  ALL, PLAY(op_collapse, CF_FROM_FILE, false), "own; unsafe: another's" NODEV SHIFTS
	  "; plain: own|EOPNOTSUPP" },

	{ "reuse.gone-truncate", "behaviour 3; dax_layout_busy_page()",
	  "Nobody has the file open or mapped any more, only the device works: a truncate gives nobody its blocks.",
	  ALL, PLAY(op_truncate, CF_TO_FILE, true), EVICTS },
	{ "reuse.gone-open-trunc", "behaviour 3; dax_layout_busy_page()",
	  "The same of open(2) with O_TRUNC.", ALL, PLAY(op_open, CF_TO_FILE, true),
	  "intact; unsafe: torn; k6.1, k6.12: torn; devdax: na: O_TRUNC is without effect" },
	{ "reuse.gone-punch", "behaviour 3; dax_layout_busy_page()",
	  "The same of a hole that is punched.",
	  ALL, PLAY(op_punch, CF_TO_FILE, true), EVICTS },
	{ "reuse.gone-collapse", "behaviour 3; dax_layout_busy_page()",
	  "The same of COLLAPSE_RANGE.",
	  ALL, PLAY(op_collapse, CF_TO_FILE, true), EVICTS SHIFTS "; plain: intact|EOPNOTSUPP" },
	{ "reuse.gone-unlink", "behaviour 3; ext4_evict_inode(); dax_break_layout_final()",
	  "Nobody has the file open or mapped, only the device works: unlink gives nobody its blocks.",
	  KEEPS, PLAY(op_unlink, CF_TO_FILE, true), ENDS },
	{ "reuse.gone-rename-over", "behaviour 3; ext4_evict_inode(); dax_break_layout_final()",
	  "The same when another file is renamed over it.",
	  KEEPS, PLAY(op_rename, CF_TO_FILE, true), ENDS },

	{ "reuse.refill-write", "behaviour 3, 51; \"dax vs truncate\" v3 (Oct 2017)",
	  "Pages that are punched and written anew by the file itself have none of what the device wrote to the old.",
	  ALL, refill, NULL, INTACT },
	{ "reuse.refill-store", "behaviour 3, 51; \"dax vs truncate\" v3 (Oct 2017)",
	  "The same when the new pages come by stores to the mapping.",
	  ALL, refill, "store", INTACT },
	{ "reuse.insert", "ext4_insert_range(), xfs_insert_file_space()",
	  "INSERT_RANGE moves the page that a device writes to: its bytes are where the page is then.",
	  CF_PINS, moved, &(const struct scene){ .op = op_insert },
	  "with the page; ebusy: EBUSY; devdax: na: a device has no space to give back" SHIFTS
	  "; plain: elsewhere|EOPNOTSUPP" },
	{ "reuse.collapse-before", "ext4_collapse_range(), xfs_collapse_file_space()",
	  "The same of COLLAPSE_RANGE of pages in front of it.",
	  CF_PINS, moved, &(const struct scene){ .op = op_collapse_before },
	  "with the page; ebusy: EBUSY; devdax: na: a device has no space to give back" SHIFTS
	  "; plain: elsewhere|EOPNOTSUPP" },

	{ "reuse.space", "ext4_evict_inode(); dax_break_layout_final()",
	  "What an unlinked file had under DMA does not count as free while that lasts.",
	  CF_PINS, space, NULL, "kept; k6.1, k6.12, plain: freed" NODEV },
	{ "reuse.space-after", "ext4_evict_inode(); dax_break_layout_final()",
	  "When the device has ended, it does.",
	  CF_PINS, space, "after", "freed" NODEV },

	{ "reuse.killed-uring", "behaviour 3; io_uring_cancel_generic()",
	  "The process is killed with an io_uring read into the mapping under way: its blocks go to nobody before the "
	  "read has ended.",
	  CF_PROTECTS | CF_FILLS, killed, &(const struct taker){ begin_uring, true, false }, EVICTS
	  "; plain: intact; bare: na: the kernel has the pages" },
	{ "reuse.killed-uring-unlink", "behaviour 3; io_uring_cancel_generic(); ext4_evict_inode()",
	  "The same when the file is unlinked.",
	  CF_FILLS, killed, &(const struct taker){ begin_uring, true, true }, ENDS
	  "; plain: intact; bare: na: the kernel has the pages" },
	{ "reuse.killed-aio", "behaviour 3; exit_aio()",
	  "The same of kernel AIO: the process does not go before its transfer.",
	  CF_PROTECTS | CF_FILLS, killed, &(const struct taker){ begin_aio, true, false }, INTACT
	  "; plain: intact; bare: na: the kernel has the pages" },
	{ "reuse.killed-device", "behaviour 3; pinfs",
	  "The same of a device that is driven by another process, which goes on.",
	  CF_PROTECTS | CF_PINS | CF_FILLS, killed, &(const struct taker){ begin_device, false, false }, INTACT },
	{ "reuse.killed-device-unlink", "behaviour 3; pinfs",
	  "The same when the file is unlinked.",
	  KEEPS, killed, &(const struct taker){ begin_device, false, true }, ENDS },
};
CF_GROUP(cf_reuse, "reuse", "Blocks under DMA are nobody else's", cases);
