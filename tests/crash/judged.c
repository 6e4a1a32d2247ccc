/* SPDX-License-Identifier: BSD-3-Clause */
/* judged.c - records a step, and has its images looked at. */
#include "crash/judged.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fsck.pinfs/fsck.h"
#include "harness/core.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "media/pmem.h"

void must(int64_t rc)
{
	if (rc < 0) {
		(void)fprintf(stderr, "step: %s\n", strerror((int)-rc));
		abort();
	}
}

char *judged_fsck(struct pf_pm *image)
{
	struct fsck f = { 0 };
	char *text = NULL;
	size_t len;
	int rc;

	f.out = open_memstream(&text, &len);
	if (f.out == NULL)
		abort();
	rc = fsck_check(&f, image, "image");
	(void)fclose(f.out);
	if (rc == FSCK_OK) {
		free(text);
		text = NULL;
	}
	return text;
}

bool judged_sound(struct pf_pm *image)
{
	char *text = judged_fsck(image);

	free(text);
	return text == NULL;
}

struct job {
	void (*fn)(void *arg, struct pf_pm *image, unsigned int fence);
	void *arg;
	struct pf_pm *image;
	unsigned int fence;
};

static void *job_main(void *arg)
{
	struct job *j = arg;

	j->fn(j->arg, j->image, j->fence);
	return NULL;
}

void in_thread(void (*fn)(void *arg, struct pf_pm *image, unsigned int fence), void *arg, struct pf_pm *image,
	       unsigned int fence)
{
	struct job j = { fn, arg, image, fence };
	pthread_t t;

	if (pthread_create(&t, NULL, job_main, &j) != 0 || pthread_join(t, NULL) != 0)
		abort();
}

static void look(void *arg, struct pf_pm *image, unsigned int fence)
{
	struct judged *j = arg;
	const char *why = j->look(j, image);

	j->images++;
	if (why == NULL)
		return;
	j->bad++;
	if (!j->quiet)
		(void)printf("\n\t%s, drain %u: %s\n", j->name, fence, why);
}

static void at_crash(void *arg, struct pf_pm *image, unsigned int fence)
{
	in_thread(look, arg, image, fence);
}

struct pf_fs *judged_new(struct pf_pm **pm, uint64_t bytes, int fill)
{
	struct pf_mkfs m = { .label = "" };
	const char *why;
	struct pf_fs *fs;

	*pm = mem_open(bytes);
	if (fill != 0)
		memset((*pm)->base, fill, bytes);
	if (pf_mkfs(*pm, &m) != 0 || core_mount(*pm, &fs, &why) != 0)
		abort();
	return fs;
}

void judged_rehearse(const struct pf_pm *pm, void (*step)(struct pf_fs *fs), void (*see)(struct pf_fs *fs, void *arg),
		     void *arg)
{
	struct pf_pm *copy = mem_open(pm->bytes);
	struct pf_fs *fs;
	const char *why;

	memcpy(copy->base, pm->base, pm->bytes);
	if (core_mount(copy, &fs, &why) != 0)
		abort();
	step(fs);
	see(fs, arg);
	core_unmount(fs);
	mem_close(copy);
}

unsigned int judged_step(struct judged *j, struct pf_pm *pm, struct pf_fs *fs, void (*step)(struct pf_fs *fs),
			 unsigned int subsets, unsigned int skip)
{
	struct crash *c = crash_attach(pm, at_crash, j, subsets, 1);
	unsigned int fences;
	struct pf_pm *image;

	j->returned = false;
	crash_skip_drain(c, skip);
	step(fs);
	j->returned = true;
	image = crash_image_now(c);
	at_crash(j, image, crash_fences(c));
	crash_image_free(image);
	fences = crash_fences(c);
	crash_detach(c);
	core_unmount(fs);
	mem_close(pm);
	return fences;
}
