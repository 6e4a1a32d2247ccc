/* SPDX-License-Identifier: BSD-3-Clause */
/* run.c - runs fsck on copies of the image, and compares trees. */
#include "unit/fsck/run.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "harness/core.h"
#include "harness/mem.h"

struct copy copy_make(void)
{
	struct copy c = { .pm = mem_open(IMG_BYTES) };
	static const uint8_t zero[PF_BLK_SIZE];

	for (uint64_t off = 0; off < IMG_BYTES; off += PF_BLK_SIZE)
		if (memcmp(im->fs->pm->base + off, zero, PF_BLK_SIZE) != 0)
			memcpy(c.pm->base + off, im->fs->pm->base + off, PF_BLK_SIZE);
	return c;
}

void copy_run(struct copy *c, enum fsck_mode mode)
{
	struct fsck f = { .mode = mode };
	size_t len;

	free(c->text);
	c->text = NULL;

	f.out = open_memstream(&c->text, &len);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f.out);
	c->rc = fsck_check(&f, c->pm, "img");
	(void)fclose(f.out);
}

void copy_check(struct copy *c)
{
	copy_run(c, FSCK_CHECK);
}

void copy_free(struct copy *c)
{
	mem_close(c->pm);
	free(c->text);
}

/* Mounts the image, so it is the last thing to be done with it. */
char *tree_of(const struct copy *c)
{
	unsigned int damaged = 1;
	const char *why = NULL;
	char *text = NULL;
	struct pf_fs *fs;

	if (core_mount(c->pm, &fs, &why) == 0) {
		text = core_describe(fs, &damaged);
		core_unmount(fs);
	}
	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	CU_ASSERT_EQUAL(damaged, 0);
	return text;
}

/* "path mode links rest": links change with a lost name elsewhere. */
static void cut_links(char *line)
{
	char *mode = strchr(line, ' '), *links, *rest;

	links = mode != NULL ? strchr(mode + 1, ' ') : NULL;
	rest = links != NULL ? strchr(links + 1, ' ') : NULL;
	if (rest != NULL)
		memmove(links, rest, strlen(rest) + 1);
}

static bool may_differ(const char *path, const char *hit)
{
	char copy[128], *next = copy;

	(void)snprintf(copy, sizeof copy, "%s", hit);
	for (char *word = strsep(&next, " "); word != NULL; word = strsep(&next, " "))
		if (*word != '\0' && strncmp(path, word, strlen(word)) == 0)
			return true;
	return false;
}

void split(struct lines *l, const char *text)
{
	char *next = l->copy = strdup(text);

	l->n = 0;
	for (char *line = strsep(&next, "\n"); next != NULL && l->n < PF_ARRAY_LEN(l->v); line = strsep(&next, "\n")) {
		cut_links(line);
		l->v[l->n++] = line;
	}
}

/* The lines of @a that @b has not and that are not hit. */
unsigned int missing(const char *name, const struct lines *a, const struct lines *b, const char *hit)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < a->n; i++) {
		bool found = may_differ(a->v[i], hit);

		for (unsigned int k = 0; k < b->n && !found; k++)
			found = strcmp(a->v[i], b->v[k]) == 0;
		if (found)
			continue;
		if (name != NULL)
			(void)printf("%s: %.300s\n", name, a->v[i]);
		n++;
	}
	return n;
}

/* Nothing has changed but what may. */
bool kept(const char *name, const struct copy *c, const char *hit)
{
	static char *was;
	struct lines before, after;
	unsigned int n;
	char *now;

	if (was == NULL) {
		struct copy sound = copy_make();

		was = tree_of(&sound);
		copy_free(&sound);
	}
	now = tree_of(c);
	split(&before, was);
	split(&after, now);
	n = missing(name, &before, &after, hit) + missing(name, &after, &before, hit);
	free(before.copy);
	free(after.copy);
	free(now);
	return n == 0;
}

/* A device that counts what is written to it. */
static const struct pf_pm_ops *plain_ops;
static struct pf_pm_ops counting_ops;
unsigned int stores;

static void count_write(struct pf_pm *pm, uint64_t doff, const void *src, uint64_t len)
{
	stores++;
	plain_ops->write(pm, doff, src, len);
}

void count_stores(struct pf_pm *pm)
{
	plain_ops = pm->ops;
	counting_ops = *plain_ops;
	counting_ops.write = count_write;
	pm->ops = &counting_ops;
	stores = 0;
}

/* -y, then -n is clean, and a second -y writes nothing. */
void repair(const char *name, struct copy *c)
{
	char *first;

	copy_run(c, FSCK_REPAIR);
	first = strdup(c->text);
	if (c->rc != FSCK_CORRECTED && c->rc != FSCK_OK) {
		(void)printf("%s: repair: exit code %d\n%s\n", name, c->rc, c->text);
		CU_FAIL("not repaired");
	}
	copy_check(c);
	if (c->rc != FSCK_OK) {
		(void)printf("%s: after the repair: exit code %d\n%s\nthe repair said\n%s\n", name, c->rc, c->text,
			     first);
		CU_FAIL("not clean after the repair");
	}
	count_stores(c->pm);
	copy_run(c, FSCK_REPAIR);
	if (c->rc != FSCK_OK || stores != 0) {
		(void)printf("%s: second repair: exit code %d\n%s\n", name, c->rc, c->text);
		CU_FAIL("the second repair was not idle");
	}
	c->pm->ops = plain_ops;
	free(first);
}
