/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_crash_msync.c - power loss with pmem=msync: a device on a plain disk file, where only what msync(2) has been
 * given is durable, and the kernel may write back any other page at any time.
 *
 * The linker sends the core's msync() and fdatasync() here: they copy pages to a shadow, which is the disk. Before each
 * call, and after each operation, images are made of the shadow alone, of everything, and of the shadow with some of
 * the other pages, of which some are torn; they are judged as engine.h says. An operation that has returned must be in
 * the shadow itself: each acknowledged change was given to msync before. Twin: one call that does nothing.
 */
#include "harness/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/log.h"
#include "crash/judged.h"
#include "crash/script.h"
#include "crash/seeded.h"
#include "harness/core.h"
#include "harness/crash.h"
#include "media/mkfs.h"

#define DEV_BYTES (UINT64_C(16) << 20)
#define PAGE UINT64_C(4096)
#define SOME 3				/* random images of a moment */

int __real_msync(void *addr, size_t len, int flags);
int __wrap_msync(void *addr, size_t len, int flags);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

static const char stage[] =
	"mkdir /d; create /d/x; write /d/x 0 9000; create /f; write /f 0 12388; create /h; truncate /h 163840;"
	"create /e";

static const char *const scripts[] = {
	"create /d/new; mkdir /g; link /f /g/f; rename /g/f /d/x; unlink /f",
	"write /e 0 12293; write /f 100 9000; write /h 8242 50000; write /h 100000 10",
	"truncate /f 5000; truncate /f 20000; punch /f 4096 8192; falloc /e 0 40000; zero /d/x 100 8000",
	"store /f 10 12000; store /d/x 4000 100; symlink /d/l @1000; exchange /d /f; chmod /e 600",
	"hold /f; unlink /f; copy /d/x 0 /e 10 9000; drop; remount; collapse /e 0 4096; insert /e 0 8192",
	/* More pages in one drain than the collector has places for: the whole file is synced then. */
	"sparse /h 300 | fault /h 0 163840; store /h 0 1228800; unlink /h",
};

static struct {
	struct pf_pm *pm;
	int shadow_fd;
	uint8_t *shadow;
	bool on;			/* images are wanted */
	unsigned int calls, skip;
	uint64_t seed;

	struct model *before, *after;
	const struct wl_op *op;
	unsigned int images, bad;
	bool quiet;
	char why[400];
} disk;

/* ---- one image ---- */

static void complain(const char *what, const char *detail)
{
	if (disk.bad++ == 0)
		(void)snprintf(disk.why, sizeof disk.why, "%s: %.300s", what, detail);
}

static void judge_fsck(struct pf_pm *image, const char *when)
{
	char *text = judged_fsck(image);

	if (text != NULL)
		complain(when, text);
	free(text);
}

static void *judge(void *arg)
{
	struct pf_pm *image = arg;
	const char *why;
	struct pf_fs *fs;

	if (disk.images++ % 2 == 0)
		judge_fsck(image, "fsck before the mount");
	if (core_mount(image, &fs, &why) != 0) {
		complain("mount fails", why);
		return NULL;
	}
	why = model_judge(disk.after, disk.before, disk.op, fs);
	if (why != NULL)
		complain("neither as before nor as after", why);
	core_unmount(fs);
	judge_fsck(image, "fsck after the mount");
	return NULL;
}

/* In a thread of its own, as the calling one holds locks of the filesystem that crashes. */
static void show(struct pf_pm *image)
{
	pthread_t t;

	if (pthread_create(&t, NULL, judge, image) != 0 || pthread_join(t, NULL) != 0)
		abort();
	crash_image_free(image);
}

static uint64_t rnd(void)
{
	disk.seed ^= disk.seed << 13;
	disk.seed ^= disk.seed >> 7;
	return disk.seed ^= disk.seed << 17;
}

/* @part: 0 nothing but the shadow, 1 everything, 2 some of the pages. */
static void offer(int part)
{
	struct pf_pm *image = crash_image_of(disk.shadow_fd, DEV_BYTES);

	for (uint64_t off = 0; off < DEV_BYTES && part != 0; off += PAGE) {
		const uint8_t *now = disk.pm->base + off;
		uint64_t choice;

		if (memcmp(disk.shadow + off, now, PAGE) == 0)
			continue;
		choice = part == 1 ? 0 : rnd() % 4;
		if (choice == 0)
			pf_pm_write(image, off, now, PAGE);
		else if (choice == 1)
			for (uint64_t w = 0; w < PAGE; w += 8)
				if (rnd() & 1)
					pf_pm_write(image, off + w, now + w, 8);
	}
	show(image);
}

static void offer_all(void)
{
	if (!disk.on || disk.bad != 0)
		return;
	offer(0);
	offer(1);
	for (int i = 0; i < SOME; i++)
		offer(2);
}

/* ---- the disk ---- */

static void copy(uint64_t from, uint64_t len)
{
	for (uint64_t off = from; off < from + len; off += PAGE)
		if (memcmp(disk.shadow + off, disk.pm->base + off, PAGE) != 0)
			memcpy(disk.shadow + off, disk.pm->base + off, PAGE);
}

int __wrap_msync(void *addr, size_t len, int flags)
{
	const uint8_t *at = addr;

	if (disk.pm == NULL || at < disk.pm->base || at >= disk.pm->base + DEV_BYTES)
		return __real_msync(addr, len, flags);
	offer_all();
	if (disk.calls++ != disk.skip)
		copy((uint64_t)(at - disk.pm->base), len);
	return 0;
}

int __wrap_fdatasync(int fd)
{
	if (disk.pm == NULL || fd != disk.pm->fd)
		return __real_fdatasync(fd);
	offer_all();
	if (disk.calls++ != disk.skip)
		copy(0, DEV_BYTES);
	return 0;
}

static void need(int64_t rc, const char *what)
{
	if (rc < 0) {
		(void)fprintf(stderr, "%s: %s\n", what, strerror((int)-rc));
		abort();
	}
}

static void power_on(char *path)
{
	struct pf_mkfs mk = { .label = "disk" };
	int fd = mkstemp(path);

	if (fd < 0 || ftruncate(fd, (off_t)DEV_BYTES) != 0)
		abort();
	(void)close(fd);
	disk.shadow_fd = memfd_create("disk", MFD_CLOEXEC);
	if (disk.shadow_fd < 0 || ftruncate(disk.shadow_fd, (off_t)DEV_BYTES) != 0)
		abort();
	disk.shadow = mmap(NULL, DEV_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, disk.shadow_fd, 0);
	need(pf_pm_open(path, PF_PMEM_MSYNC, false, false, &disk.pm), "open");
	disk.skip = UINT32_MAX;
	seeded_start(1);
	need(pf_mkfs(disk.pm, &mk), "mkfs");
}

static void power_off(const char *path)
{
	struct pf_pm *pm = disk.pm;

	disk.pm = NULL;
	pf_pm_close(pm);
	(void)munmap(disk.shadow, DEV_BYTES);
	(void)close(disk.shadow_fd);
	(void)unlink(path);
}

/* ---- a script ---- */

static void run_op(struct stage *st, const struct wl_op *op)
{
	int64_t want, got;
	const char *why;

	disk.after = model_copy(disk.before);
	disk.op = op;
	want = model_apply(disk.after, op);
	got = script_do(st, op);
	if (want < 0 ? got >= 0 : got != want)
		complain("returned", want < 0 ? "no error" : strerror(got < 0 ? (int)-got : 0));
	why = model_judge(disk.after, NULL, NULL, st->fs);
	if (why != NULL)
		complain("without any crash", why);
	model_free(disk.before);
	disk.before = disk.after;
	/* It has returned: the disk has it, whatever else it has. */
	offer_all();
	disk.after = NULL;
}

/* Number of calls that the script made. @skip: which of them does nothing. */
static unsigned int run_script(const char *text, unsigned int skip)
{
	struct script *s = calloc(1, sizeof *s);
	struct stage st = { 0 };
	const char *dir = getenv("TMPDIR"), *why;
	unsigned int calls;
	char path[256];

	if (s == NULL || !script_read(s, stage))
		abort();
	s->stage = s->n;		/* a '|' in @text moves it */
	if (!script_read(s, text))
		abort();
	(void)snprintf(path, sizeof path, "%s/msync.XXXXXX", dir != NULL ? dir : "/dev/shm");
	memset(&disk, 0, sizeof disk);
	disk.seed = 1;
	power_on(path);
	st.pm = disk.pm;
	need(core_mount(disk.pm, &st.fs, &why), "mount");
	disk.before = model_new();
	for (int i = 0; i < s->stage; i++) {
		need(script_do(&st, &s->op[i]), "stage");
		need(model_apply(disk.before, &s->op[i]), "stage");
	}
	disk.on = true;
	disk.calls = 0;
	disk.skip = skip;
	for (int i = s->stage; i < s->n && disk.bad == 0; i++)
		run_op(&st, &s->op[i]);
	disk.on = false;
	calls = disk.calls;
	while (st.nheld > 0)
		core_drop(st.fs, st.held[--st.nheld]);
	core_unmount(st.fs);
	model_free(disk.before);
	power_off(path);
	free(s);
	return calls;
}

static void test_scripts(void)
{
	unsigned int images = 0;

	for (size_t i = 0; i < PF_ARRAY_LEN(scripts); i++) {
		(void)run_script(scripts[i], UINT32_MAX);
		if (disk.bad != 0)
			(void)printf("\n\t%s\n\t%s\n", scripts[i], disk.why);
		CU_ASSERT_EQUAL(disk.bad, 0);
		CU_ASSERT(disk.images > 5);
		images += disk.images;
	}
	(void)printf("%u images ... ", images);
}

/* Without the pages that a call syncs, something is missed - but for the call that empties a lane: the next one repeats
 * it. */
static void test_twin(void)
{
	static const char *const ops[] = {
		"write /f 100 9000", "write /e 0 12293", "rename /f /d/x", "store /f 10 12000",
	};
	int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	CU_ASSERT_FATAL(saved >= 0 && null >= 0);
	(void)dup2(null, STDERR_FILENO);
	for (size_t i = 0; i < PF_ARRAY_LEN(ops); i++) {
		unsigned int calls = run_script(ops[i], UINT32_MAX), missed = 0;

		CU_ASSERT_EQUAL(disk.bad, 0);
		CU_ASSERT(calls > 0);
		for (unsigned int skip = 0; skip < calls; skip++) {
			(void)run_script(ops[i], skip);
			missed += disk.bad != 0;
		}
		(void)printf("%u of %u, ", missed, calls);
		CU_ASSERT(missed >= 1 && missed + 3 >= calls);
	}
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	(void)close(null);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "what has returned was given to msync", test_scripts },
		{ "twin: a call that does nothing", test_twin },
	};

	pf_log_init("msync", PF_LOG_ERR, false);
	return unit_main("crash/msync", cases, PF_ARRAY_LEN(cases));
}
