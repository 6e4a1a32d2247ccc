/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conform.h - what a case of pinfs-conform is, and what it may use.
 *
 * A case asks one question of the directory that it is given and answers in a word or two: "waits", "returns",
 * "EBUSY", "SIGBUS", "zero". It does not know what the right answer is: that is written beside it, for each kind of
 * place, profile and policy (cf_case.want), so that the same question can be put to pinfs, to a kernel's DAX and to
 * a plain filesystem.
 *
 * A case runs in a child process of its own, in an empty directory of its own. What it forks and maps, and the
 * files it makes, go with it; a case that dies or hangs has answered, too ("dies: SIGSEGV", "hangs").
 */
#ifndef CONFORM_H
#define CONFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <pinfs/compiler.h>

#define CF_PAGE ((size_t)4096)
#define CF_CHUNK ((size_t)2 << 20)
#define CF_BYTE 'o'		/* what files are full of */
#define CF_DMA 'S'		/* what a device writes */

struct cf;

enum cf_flag {
	/* Shows data safe: run once more under on_busy=unsafe where that exists; the answer has to be another one. */
	CF_PROTECTS = 1 << 0,
	/* Needs pins: not applicable where none can be made. */
	CF_PINS = 1 << 1,
	/* Needs root. */
	CF_ROOT = 1 << 2,
	/* Fills the filesystem: not applicable where more than cf_fill_max() bytes are free. */
	CF_FILLS = 1 << 3,
	/* Makes a mount of its own, from an image or device: not applicable where there is nothing to make it with. */
	CF_MOUNTS = 1 << 4,
	/* Not a question at all: a row of a table that no program can ask. Its `says` is the reason; fn is NULL. */
	CF_UNASKED = 1 << 5,
};

/*
 * @id: "group.what", lower case, digits and '-'; for ever the same, for it is what recorded answers are kept by.
 * @source: where the question comes from: "behaviour 3, 51" (BEHAVIOURS.md has them by number), the kernel's
 *	function or commit ("dax_layout_busy_page()"), "xfstests generic/503", "pinfs". Several: separated by "; ".
 * @says: one sentence: what is asserted, as it is on Linux if Linux has it.
 * @want: "answer; tags: answer; ...". Tags are separated by ',' (either) or '+' (both, binds closer), '!' negates
 *	one. The last clause whose tags hold counts. An answer may be several: "EIO|EFAULT". "na: reason" says that
 *	the question makes no sense there, "?" that every answer is accepted, and recorded. Tags:
 *
 *	place	pinfs (with the preload library), bare (pinfs without it), ext4, xfs (with DAX), virtiofs, plain;
 *		kernel: ext4 or xfs with DAX; dax: any but bare and plain
 *	profile	of the pinfs mount: own, linux-4.15, linux-4.19, linux-6.12, virtiofs-dax, devdax; linux: any of the
 *		three, or kernel. A kernel also has k6.1, k6.12 or the like, of its release
 *	policy	of the mount or directory: wait, ebusy, defer, poll, unsafe; range, file; fair, unfair; detect,
 *		nodetect; refuse, lease, allow; revoke, txtbsy, kill. A kernel has wait, file, unfair, nodetect, refuse
 *	user	root, user
 *	window	tiny: smaller than 16 MiB
 *	pins	api, slow, pipe: what makes them
 */
struct cf_case {
	const char *id;
	const char *source;
	const char *says;
	unsigned int flags;
	void (*fn)(struct cf *c);
	const void *arg;		/* cf_arg(): for functions that several cases share */
	const char *want;
};

struct cf_group {
	const char *name;		/* the "group" of its ids */
	const char *title;
	const struct cf_case *cases;
	size_t ncase;
};
#define CF_GROUP(var, name, title, array)                                                                            \
	const struct cf_group var = { name, title, array, sizeof(array) / sizeof(array)[0] }

/* ---- the answer ---- */

/* The last one given counts. */
void cf_answer(struct cf *c, const char *fmt, ...) PF_PRINTF(2, 3);
/* "returns" for 0 or more, else the name of the errno that is -@rc. */
void cf_answer_rc(struct cf *c, long rc);
/* For the reader; numbers that vary belong here. Any number of lines. */
void cf_note(struct cf *c, const char *fmt, ...) PF_PRINTF(2, 3);
/* This cannot be asked here: does not return. */
_Noreturn void cf_na(struct cf *c, const char *fmt, ...) PF_PRINTF(2, 3);
/* What must work for the question to be put did not: the case counts as broken, which is no answer. Does not
 * return. */
_Noreturn void cf_broken(struct cf *c, const char *file, int line, const char *what, long rc);
/* @call gives 0 or more, or -1 and errno. */
#define CF_SYS(c, call)                                                                                              \
	({                                                                                                           \
		long cf_rc_ = (long)(call);                                                                          \
		if (cf_rc_ < 0)                                                                                      \
			cf_broken(c, __FILE__, __LINE__, #call, -(long)errno);                                       \
		cf_rc_;                                                                                              \
	})
#define CF_MUST(c, cond)                                                                                             \
	do {                                                                                                         \
		if (!(cond))                                                                                         \
			cf_broken(c, __FILE__, __LINE__, #cond, 0);                                                  \
	} while (0)
/* 0 or more as it is, -1 as -errno. */
long cf_rc(long rc);

/* ---- where it is ---- */

const void *cf_arg(const struct cf *c);
/* Does a tag of cf_case.want hold? */
bool cf_is(const struct cf *c, const char *tag);
/* The case's directory, and a name in it (one of 16 buffers, per thread). */
const char *cf_dir(const struct cf *c);
const char *cf_path(const struct cf *c, const char *name);
/* The pinfs, or NULL: its mount point, for pinfsctl. The directory of pinfsctl, mkfs.pinfs and the others, or NULL.
 * */
const char *cf_mount(const struct cf *c);
const char *cf_programs(const struct cf *c);
uint64_t cf_fill_max(const struct cf *c);
/* A device, given with --scratch-dev, that a case may make filesystems on; NULL. */
const char *cf_scratch_dev(const struct cf *c);
/* A directory that is not DAX, on a filesystem that does O_DIRECT; given with --plain-dir, or found; NULL. */
const char *cf_plain_dir(const struct cf *c);

/* ---- files and mappings ---- */

/* A new file of @len bytes CF_BYTE, written, open read-write, O_CLOEXEC. */
int cf_file(struct cf *c, const char *name, size_t len);
/* The same, all holes. */
int cf_holes(struct cf *c, const char *name, size_t len);
/* The same in cf_plain_dir(), without a name; not applicable where there is no such directory. */
int cf_plain_file(struct cf *c, size_t len);
/* MAP_SHARED; the case is broken when it fails. */
void *cf_map(struct cf *c, int fd, size_t off, size_t len, int prot);
/* Load or store a byte: 0, or the signal. cf_touch_word(): "returns", "SIGBUS", "SIGBUS/MCEERR_AR", "SIGSEGV". */
int cf_touch(volatile void *p, bool store);
const char *cf_touch_word(volatile void *p, bool store);
/* What [off, + len) of a file holds, read by read(2): "zero", "old" (CF_BYTE), "dma" (CF_DMA), "mixed", or an
 * errno's name. */
const char *cf_content(struct cf *c, const char *path, off_t off, size_t len);
const char *cf_content_of(const void *p, size_t len);
off_t cf_size(struct cf *c, const char *path);

/* ---- pins ---- */

/*
 * A transfer of a device whose other end is [p, + len) of a mapping: under way when cf_pin() has returned. By what
 * makes pins here: pinfs_pin() and a device that is emulated (api), O_DIRECT on a file that answers when it is told
 * to (slow), a page in a pipe (pipe: from the file only).
 */
struct cf_pin;
enum cf_pin_dir { CF_TO_FILE, CF_FROM_FILE };
struct cf_pin *cf_pin(struct cf *c, void *p, size_t len, enum cf_pin_dir dir);
/* The same without being broken when it is refused: 0, or -errno and *out untouched. */
int cf_pin_try(struct cf *c, void *p, size_t len, enum cf_pin_dir dir, struct cf_pin **out);
/* With this way of making it, whatever is usual here. -EOPNOTSUPP: there is none such here. */
int cf_pin_by(struct cf *c, const char *how, void *p, size_t len, enum cf_pin_dir dir, struct cf_pin **out);
/* The device does its work: CF_TO_FILE writes CF_DMA to all of it. Then it lets go, and this returns: the pin has
 * ended. */
void cf_land(struct cf_pin *pin);
/* For CF_FROM_FILE, at cf_land(): what the device has read, as cf_content() says it. */
const char *cf_landed(const struct cf_pin *pin);

/*
 * For transfers that a case makes itself: a file elsewhere, 64 MiB of CF_DMA, that does direct I/O (it is to be opened
 * with O_DIRECT). Its reads and writes wait from this call on, so that their buffers stay pinned, until
 * cf_slow_release(), and no longer than the case. Not applicable where there can be no such file.
 */
const char *cf_slow(struct cf *c);
/* Until so many requests wait in it. */
void cf_slow_await(struct cf *c, unsigned int n);
/* Answers those that wait, and from now on all others as they come. */
void cf_slow_release(struct cf *c);

/* ---- what may wait ---- */

/*
 * A call in a thread, or in a forked process, of its own: @fn gets @arg and returns 0 or more, or a negative errno.
 * In a process it sees memory and descriptors as they were, and shares with the case what cf_shared() gives.
 */
struct cf_call;
enum cf_in { CF_THREAD, CF_PROCESS };
struct cf_call *cf_call(struct cf *c, enum cf_in in, long (*fn)(void *arg), void *arg);
/* Until it has returned, or is seen to wait (for pins or a lease, or for a lock that such a waiter holds). How that
 * is seen: the daemon's list of waiters; where a thread sleeps in the kernel. Never by the clock. */
enum cf_state { CF_RETURNED, CF_WAITS };
enum cf_state cf_settle(struct cf_call *call);
/* Its result; waits for it as long as the case may last. */
long cf_result(struct cf_call *call);
/* "waits", or "returns", or the errno's name, as it stands at cf_settle(). */
const char *cf_call_word(struct cf_call *call);
/* For signals, and for looking at it. cf_call_tid(): of the thread that makes the call. */
pid_t cf_call_pid(const struct cf_call *call);
pid_t cf_call_tid(const struct cf_call *call);
/* Zeroed memory that processes of the case share. */
void *cf_shared(struct cf *c, size_t len);
/* A number in it: to set, and to wait for. */
void cf_mark(_Atomic uint32_t *at, uint32_t value);
void cf_await(struct cf *c, _Atomic uint32_t *at, uint32_t value);

/*
 * The usual scene: file "f" of @len bytes, mapped, a page of it pinned (at @off, to the file), and a truncate to
 * @to in a thread that is seen to wait. Not applicable where it does not wait.
 */
struct cf_scene {
	int fd;
	char *map;
	size_t len;
	struct cf_pin *pin;
	struct cf_call *truncate;
};
void cf_scene(struct cf *c, struct cf_scene *s, size_t len, size_t off, off_t to);

/* ---- programs ---- */

/* Run a program of cf_programs() or of PATH to its end, its output to @out: its exit status, 128 + signal. */
int cf_run(struct cf *c, char *out, size_t room, const char *const argv[]);
/* A symbol of the preload library: "pinfs_lease" ... ; NULL where it is not loaded. */
void *cf_symbol(const char *name);

#endif
