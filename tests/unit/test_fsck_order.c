/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fsck_order.c - the order in which fsck.pinfs brings a repair onto the device, with a crash at every drain of it;
 * and twins in which a step comes too late, each of which a crash makes something lose.
 */
#define PF_STEPS
#include "harness/unit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/log.h"
#include "fsck.pinfs/fsck.h"
#include "fsck_img.h"
#include "harness/core.h"
#include "harness/crash.h"
#include "harness/mem.h"
#include "media/mkfs.h"
#include "media/super.h"

/* D: dirty, L: lanes, F: fresh, G: grow, R: rest, M: map, C: clean. */
#define RIGHT "DLFGRMC"
enum fsck_step fsck_step_order[FSCK_STEP_NR];

static void set_order(const char *order)
{
	for (unsigned int i = 0; i < FSCK_STEP_NR; i++)
		fsck_step_order[i] = (enum fsck_step)(strchr(RIGHT, order[i]) - RIGHT);
}

static void must(int64_t err)
{
	CU_ASSERT_FATAL(err >= 0);
}

static int fsck(struct pf_pm *pm, enum fsck_mode mode, char **text)
{
	struct fsck f = { .mode = mode, .progress.fd = -1, .verbose = true };
	size_t len;
	int rc;

	*text = NULL;
	f.out = open_memstream(text, &len);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f.out);
	rc = fsck_check(&f, pm, "img");
	(void)fclose(f.out);
	return rc;
}

/* Mounts the image, so it is the last thing to be done with it. NULL: there is damage. */
static char *tree_of(struct pf_pm *pm)
{
	unsigned int damaged = 1;
	const char *why = NULL;
	char *text = NULL;
	struct pf_fs *fs;

	if (core_mount(pm, &fs, &why) == 0) {
		text = core_describe(fs, &damaged);
		core_unmount(fs);
	}
	if (damaged != 0) {
		free(text);
		text = NULL;
	}
	return text;
}

static struct pf_pm *copy_of(const struct pf_pm *pm)
{
	struct pf_pm *c = mem_open(pm->bytes);

	memcpy(c->base, pm->base, pm->bytes);
	return c;
}

/* ---- images ---- */

/* @want: what must be there after all. */
struct scene { struct pf_pm *pm; char *want; };

#define MANY 2200U	/* files: what is written of their inodes is more than a lane holds */

/* What the device holds in the end; or while a file that has no name any more is still held. */
static struct pf_pm *many_files(bool held)
{
	struct pf_pm *pm = mem_open(IMG_BYTES), *now;
	struct pf_mkfs m = { .label = "many" };
	uint8_t page[PF_BLK_SIZE];
	const char *why;
	struct pf_fs *fs;
	char name[32];
	int64_t ino;

	must(pf_mkfs(pm, &m));
	must(core_mount(pm, &fs, &why));
	must(core_create(fs, "/big"));
	for (uint64_t i = 0; i < 400; i++) {
		memset(page, (int)(1 + i % 255), sizeof page);
		CU_ASSERT_EQUAL_FATAL(core_write(fs, "/big", i * 2 * PF_BLK_SIZE, page, sizeof page),
				      (ssize_t)sizeof page);
	}
	must(core_mkdir(fs, "/d"));
	for (unsigned int i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof name, "/d/%u", i);
		must(core_create(fs, name));
	}
	if (!held) {
		core_unmount(fs);
		return pm;
	}
	must(core_create(fs, "/gone"));
	CU_ASSERT_EQUAL_FATAL(core_write(fs, "/gone", 0, page, sizeof page), (ssize_t)sizeof page);
	ino = core_hold(fs, "/gone");
	must(ino);
	must(core_unlink(fs, "/gone"));
	now = copy_of(pm);
	core_drop(fs, (uint64_t)ino);
	core_unmount(fs);
	mem_close(pm);
	return now;
}

/* An entry that is found under another name's key: the directory's leaves and its tree are written anew. */
static void damage_leaf(uint8_t *b, uint64_t blk)
{
	struct pf_d_hdr *h = img_blk(b, blk);
	struct fsck_name names[FSCK_LEAF_NAMES];
	struct pf_d_dirent *de;

	CU_ASSERT_FATAL(fsck_leaf_names(h, names) > 2);
	de = (void *)(b + ((const uint8_t *)names[1].de - b));
	de->de_key = pf_put64(pf_get64(de->de_key) + 256);
	img_seal_blk(h);
}

/* Each inode says one link too many, and /big's tree begins nowhere: its leaves are found by the map alone. */
static void damage_many(uint8_t *b)
{
	const struct pf_d_super *sb = (const void *)b;
	uint64_t nr = pf_get64(sb->sb_nblk), fsid = pf_get64(sb->sb_fsid);
	bool leaf = false;

	for (uint64_t blk = pf_get64(sb->sb_iclu0_blk) + 1; blk < nr; blk++) {
		struct pf_d_inode *di = img_blk(b, blk);
		const struct pf_d_hdr *h = img_blk(b, blk);

		if (!leaf && pf_get32(h->h_magic) == PF_MAGIC_DIR && pf_get64(h->h_fsid) == fsid &&
		    pf_get64(h->h_owner) != PF_INO_ROOT) {
			damage_leaf(b, blk);
			leaf = true;
			continue;
		}
		for (unsigned int i = 0; i < PF_BLK_SIZE / PF_INODE_SIZE; i++, di++) {
			if (pf_get32(di->i_magic) != PF_MAGIC_INODE || pf_get64(di->i_fsid) != fsid ||
			    pf_get64(di->i_ino) < PF_INO_FIRST_USER || pf_get32(di->i_nlink) == 0)
				continue;
			di->i_nlink = pf_put32(pf_get32(di->i_nlink) + 1);
			if (S_ISREG(pf_get32(di->i_mode)) && pf_get16(di->i_root.t_level) != 0)
				di->i_root.t_level = pf_put16(200);
			img_seal_inode(di);
		}
	}
}

static struct scene scene_damaged(struct pf_pm *pm)
{
	struct scene s = { .pm = pm };
	struct pf_pm *sound = copy_of(pm);

	s.want = tree_of(sound);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s.want);
	mem_close(sound);
	damage_many(pm->base);
	return s;
}

/* A repair of several transactions, on an image that says that it is clean. */
static struct scene scene_many(void) { return scene_damaged(many_files(false)); }

/* And on one that was not unmounted: there is a file to be freed. */
static struct scene scene_held(void) { return scene_damaged(many_files(true)); }

/* Committed transactions wait in the journal, and both superblocks are gone: fsck can look at the journal only when it
 * has made up a superblock. They change the mode of two files; another thing is wrong with one of those. */
static struct scene scene_journal(void)
{
	struct img *im = img_make();
	struct scene s = { .pm = copy_of(im->fs->pm) };
	const uint64_t ino[2] = { im->a, im->b };
	struct pf_d_inode *di, new;
	struct pf_pm *sound;
	char *text;

	for (uint32_t i = 0; i < 2; i++) {
		di = img_inode(im, s.pm->base, ino[i]);
		new = *di;
		new.i_mode = pf_put32((pf_get32(new.i_mode) & ~07777U) | 0604);
		img_seal_inode(&new);
		CU_ASSERT_EQUAL_FATAL(memcmp((uint8_t *)&new + PF_LINE, (uint8_t *)di + PF_LINE,
					     sizeof new - PF_LINE), 0);
		img_seal_lane(im, s.pm->base, 1 + i, 9 + i, (uint64_t)((uint8_t *)di - s.pm->base), &new);
	}
	sound = copy_of(s.pm);
	(void)fsck(sound, FSCK_REPAIR, &text);
	free(text);
	s.want = tree_of(sound);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s.want);
	CU_ASSERT_PTR_NOT_NULL(strstr(s.want, "0604"));
	mem_close(sound);
	/* And it brings a link count that the repair has to correct: replayed once more, it would undo that. */
	new.i_nlink = pf_put32(7);
	img_seal_inode(&new);
	img_seal_lane(im, s.pm->base, 2, 10, (uint64_t)((uint8_t *)di - s.pm->base), &new);
	s.pm->base[300] ^= 0x10;
	s.pm->base[IMG_BYTES - PF_BLK_SIZE + 300] ^= 0x10;
	img_free(im);
	return s;
}

/* ---- the judge ---- */

/* With a sanitizer each look takes ten times as long. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define EVERY 4U
#else
#define EVERY 1U
#endif

struct judge {
	const struct scene *scene;
	struct pf_pm *before;		/* the damaged image */
	char *known;			/* what -n said of it */
	unsigned int images, bad;
	bool quiet;			/* one is enough */
};

static bool wrong(struct judge *j, unsigned int fence, const char *what, const char *more)
{
	if (!j->quiet)
		(void)printf("drain %u: %s\n%s\n", fence, what, more);
	j->bad++;
	return false;
}

static bool looks_clean(struct pf_pm *pm)
{
	struct pf_fs dev = { .pm = pm };
	const char *why;

	return pf_sb_load(&dev, &why) == 0 && dev.clean;
}

static bool untouched(const struct judge *j, const struct pf_pm *pm)
{
	return memcmp(pm->base + PF_BLK_SIZE, j->before->base + PF_BLK_SIZE, pm->bytes - 2 * PF_BLK_SIZE) == 0;
}

/* Superblocks have a check of their own. Blocks may belong to nobody for a while, and an inode that is freed in one
 * transaction may have left the orphan file in the one before: the next fsck frees both, and till then they are
 * only in nobody's way. */
static bool exempt(const char *line)
{
	return strncmp(line, "phase ", 6) != 0 || strncmp(line + 7, ": ", 2) != 0 ||
	       strncmp(line, "phase 1:", 8) == 0 || strstr(line, "in use by nobody") != NULL ||
	       strstr(line, "no links, but the orphan file") != NULL;
}

/* "phase 4: directory 13: entry "x": what": the part that says where. */
static bool is_known(const struct judge *j, const char *line)
{
	char where[256];
	const char *end = line;

	for (unsigned int i = 0; i < 3 && end != NULL; i++)
		end = strstr(end + 1, ": ");
	(void)snprintf(where, sizeof where, "%.*s", end != NULL ? (int)(end - line) : 200, line);
	return strstr(j->known, where) != NULL;
}

/* What the next one to come finds: objects as they were or as they shall be, so no problem where none was before; and
 * nothing that is broken and looks clean. */
static bool see(struct judge *j, struct pf_pm *pm, unsigned int fence)
{
	char *text, *next;
	bool ok = true;
	int rc = fsck(pm, FSCK_CHECK, &text);

	if (rc != FSCK_OK && looks_clean(pm) && !untouched(j, pm))
		ok = wrong(j, fence, "half repaired, and marked clean", text);
	next = text;
	for (char *line = strsep(&next, "\n"); line != NULL && ok; line = strsep(&next, "\n"))
		if (!exempt(line) && !is_known(j, line))
			ok = wrong(j, fence, "a new problem", line);
	free(text);
	return ok;
}

/* -y, and it is what it was. */
static void mend(struct judge *j, struct pf_pm *pm, unsigned int fence, const char *when)
{
	char *text, *now = NULL;
	int rc = fsck(pm, FSCK_REPAIR, &text);

	if (rc != FSCK_OK && rc != FSCK_CORRECTED) {
		(void)wrong(j, fence, "cannot be repaired", text);
		goto out;
	}
	free(text);
	if (fsck(pm, FSCK_CHECK, &text) != FSCK_OK) {
		(void)wrong(j, fence, "not repaired", text);
		goto out;
	}
	now = tree_of(pm);
	if (now == NULL || strcmp(now, j->scene->want) != 0)
		(void)wrong(j, fence, when, text);
out:
	free(now);
	free(text);
}

/* Somebody does not wait for a second fsck, mounts what is there, and fills it up. */
static void use(struct pf_pm *pm)
{
	static uint8_t junk[64 * PF_BLK_SIZE];
	uint64_t at = 0, len = sizeof junk;
	const char *why;
	struct pf_fs *fs;

	memset(junk, 'j', sizeof junk);
	if (core_mount(pm, &fs, &why) != 0)
		return;
	if (core_create(fs, "/junk") == 0)
		while (len >= PF_BLK_SIZE) {
			if (core_write(fs, "/junk", at, junk, len) == (ssize_t)len)
				at += len;
			else
				len /= 2;
		}
	(void)core_unlink(fs, "/junk");
	core_unmount(fs);
}

static void judge(void *arg, struct pf_pm *pm, unsigned int fence)
{
	struct judge *j = arg;
	struct pf_pm *used;

	if (j->quiet && j->bad != 0)
		return;
	if (j->images++ % EVERY != 0 && !j->quiet)
		return;
	if (!see(j, pm, fence))
		return;
	/* Which takes its time: not for every image where all is well with each. */
	used = j->quiet || j->images % 8 == 0 ? copy_of(pm) : NULL;
	mend(j, pm, fence, "a second repair loses something");
	if (used == NULL)
		return;
	use(used);
	mend(j, used, fence, "used before the second repair, something is lost");
	mem_close(used);
}

static struct judge repair(const struct scene *scene, const char *order, bool quiet)
{
	struct pf_pm *pm = copy_of(scene->pm), *before = copy_of(scene->pm);
	struct judge j = { .scene = scene, .before = before, .quiet = quiet };
	struct crash *crash;
	char *text;

	(void)fsck(before, FSCK_CHECK, &j.known);
	set_order(order);
	crash = crash_attach(pm, judge, &j, 1, 1);
	CU_ASSERT_EQUAL(fsck(pm, FSCK_REPAIR, &text), FSCK_CORRECTED);
	crash_detach(crash);
	free(text);
	/* And what is there without any crash. */
	set_order(RIGHT);
	judge(&j, pm, UINT32_MAX);
	mem_close(pm);
	mem_close(before);
	free(j.known);
	return j;
}

/* ---- cases ---- */

static void test_order(struct scene (*make)(void), const char *order)
{
	struct scene s = make();
	struct judge j = repair(&s, order, false);

	CU_ASSERT_EQUAL(j.bad, 0);
	CU_ASSERT(j.images >= 20);
	(void)printf("%u images ", j.images);
	free(s.want);
	mem_close(s.pm);
}

static void test_many(void) { test_order(scene_many, RIGHT); }
static void test_held(void) { test_order(scene_held, RIGHT); }
static void test_journal(void) { test_order(scene_journal, RIGHT); }

/* Two pairs may change places, as fsck.h says; what rests on that may be broken without notice, so it is tried. */
static void test_lanes_first(void) { test_order(scene_journal, "LDFGRMC"); }
static void test_grow_first(void) { test_order(scene_many, "DLGFRMC"); }

static void twins(struct scene (*make)(void), const char *const *order, unsigned int n)
{
	struct scene s = make();

	for (unsigned int i = 0; i < n; i++) {
		struct judge j = repair(&s, order[i], true);

		if (j.bad == 0)
			(void)printf("%s: nothing is lost in %u images\n", order[i], j.images);
		CU_ASSERT(j.bad > 0);
	}
	free(s.want);
	mem_close(s.pm);
}

static void test_twins_many(void)
{
	static const char *const order[] = {
		"LFGRMDC",	/* not marked dirty before anything is written */
		"DLGRFMC",	/* referred to before it is written */
		"DLFRGMC",	/* referred to while it looks free */
		"DLFGCRM",	/* marked clean before all is written */
	};

	twins(scene_many, order, PF_ARRAY_LEN(order));
}

static void test_twins_held(void)
{
	static const char *const order[] = {
		"DLFMRMC",	/* free by the map while it is referred to */
	};

	twins(scene_held, order, PF_ARRAY_LEN(order));
}

static void test_twins_journal(void)
{
	static const char *const order[] = {
		"DFGRMLC",	/* an old transaction is replayed over what was repaired since */
	};

	twins(scene_journal, order, PF_ARRAY_LEN(order));
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "a repair of several transactions cut short", test_many },
		{ "the same, with a file to free", test_held },
		{ "a repair with calls in the journal cut short", test_journal },
		{ "the journal before the superblocks", test_lanes_first },
		{ "the map before new objects", test_grow_first },
		{ "twins: steps in another order", test_twins_many },
		{ "twin: the map too early", test_twins_held },
		{ "twin: the journal too late", test_twins_journal },
	};

	pf_log_init("fsck", PF_LOG_ERR, false);
	set_order(RIGHT);
	return unit_main("fsck_order", cases, PF_ARRAY_LEN(cases));
}
