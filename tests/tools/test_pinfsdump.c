/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pinfsdump.c - what pinfsdump shows is what is there.
 *
 * An image is made by the core, dumped as JSON and compared with what made it; then damaged, and the rest is still
 * shown. The text form is looked at for the facts in it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "base/crc32c.h"
#include "harness/core.h"
#include "harness/fs.h"
#include "harness/mem.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "media/mkfs.h"
#include "media/super.h"
#include "media/verify.h"

#define DEV_BYTES (UINT64_C(16) << 20)
#define BLK PF_BLK_SIZE
#define NAMES 300
#define OUT_MAX (4U << 20)

static char img[4096];
static uint8_t *pristine;		/* DEV_BYTES */
static uint64_t ino_sparse, ino_many, ino_held, ino_link;
static struct statvfs stat_before;
static char *out;			/* OUT_MAX: what pinfsdump said */

static void must(int64_t err)
{
	if (err < 0) {
		(void)fprintf(stderr, "image: %s\n", strerror((int)-err));
		abort();
	}
}

/* Page n of /sparse is full of n + 1. */
static void fill_sparse(struct pf_fs *fs)
{
	uint8_t page[BLK];

	must(core_create(fs, "/sparse"));
	for (unsigned int i = 0; i < 250; i++) {
		memset(page, (int)(i * 2 % 250 + 1), sizeof page);
		if (core_write(fs, "/sparse", i * 2 * BLK, page, sizeof page) != (ssize_t)sizeof page)
			abort();
	}
	must(core_fallocate(fs, "/sparse", FALLOC_FL_KEEP_SIZE, 1000 * BLK, 8 * BLK));
}

static void make_image(void)
{
	struct pf_mkfs m = { .label = "dump\x01me" };
	struct pf_pm *pm = mem_open(DEV_BYTES);
	struct pf_entry held;
	char name[64];
	const char *why;
	struct pf_fs *fs;

	must(pf_mkfs(pm, &m));
	must(core_mount(pm, &fs, &why));
	must(core_mkdir(fs, "/many"));
	for (int i = 0; i < NAMES; i++) {
		(void)snprintf(name, sizeof name, "/many/name-%04d", i);
		must(core_create(fs, name));
	}
	fill_sparse(fs);
	must(core_mkdir(fs, "/many/sub"));
	must(core_symlink(fs, "/many/sub/link", "the \x1b target"));
	must(core_create(fs, "/held"));
	must(pf_op_lookup(fs, PF_INO_ROOT, "held", &held));
	must(core_unlink(fs, "/held"));
	ino_held = held.ino;
	ino_many = (uint64_t)core_find(fs, "/many");
	ino_sparse = (uint64_t)core_find(fs, "/sparse");
	ino_link = (uint64_t)core_find(fs, "/many/sub/link");
	must(pf_op_statfs(fs, &stat_before));
	pristine = malloc(DEV_BYTES);
	if (pristine == NULL)
		abort();
	memcpy(pristine, pm->base, DEV_BYTES);
	pf_op_forget(fs, held.ino, 1);
	core_unmount(fs);
	mem_close(pm);
}

static void save(const uint8_t *bytes)
{
	int fd;

	(void)snprintf(img, sizeof img, "%s/dump.img", pt_tmp());
	fd = open(img, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	PT_SYS_FATAL(fd);
	PT_EQ(ftruncate(fd, (off_t)DEV_BYTES), 0);
	for (uint64_t at = 0; at < DEV_BYTES; at += BLK)
		if (bytes[at] != 0 || memcmp(bytes + at, bytes + at + 1, BLK - 1) != 0)
			PT_EQ(pwrite(fd, bytes + at, BLK, (off_t)at), BLK);
	PT_EQ(close(fd), 0);
}

static int dump(bool json, const char *verb, const char *arg)
{
	const char *argv[6], *program = pt_program("pinfsdump");
	unsigned int n = 0;

	argv[n++] = program;
	if (json)
		argv[n++] = "-j";
	argv[n++] = img;
	if (verb != NULL)
		argv[n++] = verb;
	if (arg != NULL)
		argv[n++] = arg;
	argv[n] = NULL;
	return pt_run(out, OUT_MAX, 60000, argv);
}

static int dump_num(bool json, const char *verb, uint64_t n)
{
	char arg[32];

	(void)snprintf(arg, sizeof arg, "%" PRIu64, n);
	return dump(json, verb, arg);
}

static bool said(const char *text)
{
	if (strstr(out, text) != NULL)
		return true;
	pt_say("\"%s\" is not in: %.2000s", text, out);
	return false;
}

/* ---- JSON ---- */

static struct json_object *parsed(void)
{
	struct json_object *o = json_tokener_parse(out);

	if (o == NULL)
		pt_say("not JSON: %.2000s", out);
	CU_ASSERT_PTR_NOT_NULL_FATAL(o);
	return o;
}

static struct json_object *get(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (o == NULL || !json_object_object_get_ex(o, key, &v))
		pt_say("no member %s", key);
	CU_ASSERT_PTR_NOT_NULL_FATAL(v);
	return v;
}

static uint64_t num(struct json_object *o, const char *key)
{
	return json_object_get_uint64(get(o, key));
}

static const char *str(struct json_object *o, const char *key)
{
	return json_object_get_string(get(o, key));
}

static size_t len(struct json_object *list)
{
	return json_object_array_length(list);
}

/* ---- cases ---- */

static void test_usage(void)
{
	const char *none[] = { pt_program("pinfsdump"), NULL };
	const char *help[] = { pt_program("pinfsdump"), "-h", NULL };

	save(pristine);
	PT_EQ(pt_run(out, OUT_MAX, 60000, none), 2);
	PT_EQ(pt_run(out, OUT_MAX, 60000, help), 0);
	CU_ASSERT(said("usage: pinfsdump"));
	PT_EQ(dump(false, "nonsense", NULL), 2);
	PT_EQ(dump(false, "inode", NULL), 2);
	PT_EQ(dump(false, "inode", "-1"), 2);
	PT_EQ(dump(false, "super", "1"), 2);
	PT_EQ(dump(false, "inode", "7"), 1);
	PT_EQ(dump(false, "inode", "0x10000000000"), 1);
	PT_EQ(dump(false, "inode", "100000"), 1);
	PT_EQ(dump(false, "block", "4096"), 1);
	PT_EQ(dump(false, "map", "1"), 1);
	PT_EQ(dump(false, "path", "/many/none"), 1);
	CU_ASSERT(said("has no entry \"none\""));
	PT_EQ(dump(false, "path", "/sparse/x"), 1);
	PT_EQ(dump(false, "dir", "9"), 1);
}

static void test_super(void)
{
	struct json_object *o, *list;

	save(pristine);
	PT_EQ(dump(true, NULL, NULL), 0);
	o = parsed();
	list = get(o, "superblocks");
	PT_EQ(len(list), 2);
	for (size_t i = 0; i < len(list); i++) {
		struct json_object *sb = json_object_array_get_idx(list, i);

		PT_EQ(num(sb, "block"), i == 0 ? 0 : DEV_BYTES / BLK - 1);
		PT_EQ(num(sb, "blocks"), DEV_BYTES / BLK);
		PT_EQ(num(sb, "lanes"), 8);
		PT_EQ(num(sb, "root_inode"), PF_INO_ROOT);
		PT_EQ(num(sb, "mounts"), 1);
		CU_ASSERT_STRING_EQUAL(str(sb, "label"), "dump\\x01me");
		CU_ASSERT(strstr(str(sb, "state"), "not unmounted") != NULL);
	}
	(void)json_object_put(o);
	PT_EQ(dump(false, "super", NULL), 0);
	CU_ASSERT(said("superblock copy, block 4095:"));
	CU_ASSERT(said("label: dump\\x01me"));
}

/* Each record's blocks hold what was written at its pages, and nothing is missing. */
static void test_file(void)
{
	uint64_t pages = 0, unwritten = 0, nodes;
	struct json_object *o, *di, *ext;

	save(pristine);
	PT_EQ(dump_num(true, "inode", ino_sparse), 0);
	o = parsed();
	di = get(o, "inode");
	PT_EQ(num(di, "ino"), ino_sparse);
	PT_EQ(num(di, "size"), 499 * BLK);
	CU_ASSERT_STRING_EQUAL(str(di, "type"), "file");
	CU_ASSERT_STRING_EQUAL(str(di, "mode"), "0644");
	CU_ASSERT_STRING_EQUAL(str(di, "intent"), "none");
	ext = get(di, "extents");
	nodes = len(get(di, "nodes"));
	CU_ASSERT(nodes >= 2);
	for (size_t i = 0; i < len(ext); i++) {
		struct json_object *e = json_object_array_get_idx(ext, i);

		if (strcmp(str(e, "state"), "unwritten") == 0) {
			unwritten += num(e, "blocks");
			continue;
		}
		for (uint64_t p = 0; p < num(e, "blocks"); p++) {
			const uint8_t *b = pristine + (num(e, "block") + p) * BLK;
			uint64_t page = num(e, "key") + p;

			PT_EQ(page % 2, 0);
			PT_EQ(b[0], page % 250 + 1);
			PT_EQ(memcmp(b, b + 1, BLK - 1), 0);
			pages++;
		}
	}
	PT_EQ(pages, 250);
	PT_EQ(unwritten, 8);
	PT_EQ(num(di, "blocks"), pages + unwritten + nodes);
	(void)json_object_put(o);
	PT_EQ(dump_num(false, "inode", ino_link), 0);
	CU_ASSERT(said("target: the \\x1b target"));
	PT_EQ(dump(false, "inode", "400"), 0);
	CU_ASSERT(said("slot: free"));
}

static void test_dir(void)
{
	struct json_object *o, *dir, *leaves;
	bool seen[NAMES] = { false };
	unsigned int names = 0;

	save(pristine);
	PT_EQ(dump_num(true, "dir", ino_many), 0);
	o = parsed();
	dir = get(o, "directory");
	leaves = get(dir, "leaves");
	CU_ASSERT(len(leaves) > 1);
	PT_EQ(num(dir, "total_entries"), NAMES + 1);
	for (size_t i = 0; i < len(leaves); i++) {
		struct json_object *ents = get(json_object_array_get_idx(leaves, i), "entries");

		for (size_t k = 0; k < len(ents); k++) {
			struct json_object *e = json_object_array_get_idx(ents, k);
			unsigned int n;

			if (sscanf(str(e, "name"), "name-%4u", &n) == 1 && n < NAMES && !seen[n]) {
				seen[n] = true;
				names++;
				CU_ASSERT_STRING_EQUAL(str(e, "type"), "file");
			}
		}
	}
	PT_EQ(names, NAMES);
	(void)json_object_put(o);

	PT_EQ(dump(true, "path", "//many/sub/link"), 0);
	o = parsed();
	PT_EQ(len(get(o, "path")), 4);
	PT_EQ(num(get(o, "inode"), "ino"), ino_link);
	(void)json_object_put(o);
}

static void test_space(void)
{
	struct json_object *o, *runs, *list;
	uint64_t free = 0, total = 0;

	save(pristine);
	PT_EQ(dump(true, "map", NULL), 0);
	o = parsed();
	PT_EQ(num(get(o, "map"), "free"), stat_before.f_bfree);
	(void)json_object_put(o);
	PT_EQ(dump(true, "map", "0"), 0);
	o = parsed();
	runs = get(get(o, "map"), "runs");
	for (size_t i = 0; i < len(runs); i++) {
		struct json_object *r = json_object_array_get_idx(runs, i);

		PT_EQ(num(r, "block"), total);
		total += num(r, "blocks");
		free += strcmp(str(r, "state"), "free") == 0 ? num(r, "blocks") : 0;
	}
	PT_EQ(total, DEV_BYTES / BLK);
	PT_EQ(free, stat_before.f_bfree);
	(void)json_object_put(o);

	PT_EQ(dump(true, "clusters", NULL), 0);
	o = parsed();
	list = get(get(o, "clusters"), "clusters");
	PT_EQ(num(json_object_array_get_idx(list, 0), "used"), 4 + 1 + NAMES + 1 + 1 + 1 + 1);
	(void)json_object_put(o);

	PT_EQ(dump(true, "orphans", NULL), 0);
	o = parsed();
	list = get(json_object_array_get_idx(get(o, "orphan_blocks"), 0), "orphans");
	PT_EQ(len(list), 1);
	PT_EQ(num(json_object_array_get_idx(list, 0), "inode"), ino_held);
	(void)json_object_put(o);
	PT_EQ(dump(false, "badblocks", NULL), 0);
	CU_ASSERT(said("bad_blocks:"));
}

/* A lane with one record, as a crash leaves it. */
static void put_lane(uint8_t *base, uint32_t lane, bool torn)
{
	const struct pf_d_super *sb = (const void *)base;
	struct pf_d_lane *l = (void *)(base + (pf_get64(sb->sb_lane_blk) + lane * PF_LANE_BLKS) * BLK);
	struct pf_d_jrec *rec = (void *)(l + 1);

	memset(l, 0, sizeof *l);
	l->l_magic = pf_put32(PF_MAGIC_LANE);
	l->l_fsid = sb->sb_fsid;
	l->l_seq = pf_put64(1000);
	l->l_index = pf_put32(lane);
	l->l_nrec = pf_put32(1);
	l->l_len = pf_put32(sizeof *rec + 128);
	rec->j_doff = pf_put64(3000 * BLK + 64);
	rec->j_len = pf_put32(128);
	memset(rec + 1, 'j', 128);
	l->l_crc = pf_put32(pf_crc32c_hole(l, sizeof *l + sizeof *rec + 128, offsetof(struct pf_d_lane, l_crc)));
	if (torn)
		memset(rec + 1, 'k', 8);
}

static void test_journal(void)
{
	uint8_t *copy = malloc(DEV_BYTES);
	struct json_object *o, *list, *rec;

	CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
	memcpy(copy, pristine, DEV_BYTES);
	put_lane(copy, 3, false);
	put_lane(copy, 4, true);
	save(copy);
	PT_EQ(dump(true, "journal", NULL), 0);
	o = parsed();
	list = get(o, "lanes");
	PT_EQ(len(list), 8);
	rec = get(json_object_array_get_idx(list, 3), "records");
	PT_EQ(len(rec), 1);
	PT_EQ(num(json_object_array_get_idx(rec, 0), "block"), 3000);
	PT_EQ(num(json_object_array_get_idx(rec, 0), "bytes"), 128);
	CU_ASSERT_STRING_EQUAL(str(json_object_array_get_idx(list, 3), "state"), "holds a transaction");
	CU_ASSERT(strstr(str(json_object_array_get_idx(list, 4), "state"), "torn") != NULL);
	(void)json_object_put(o);
	free(copy);
}

static uint64_t find_block(uint32_t magic, uint64_t owner)
{
	for (uint64_t b = 0; b < DEV_BYTES / BLK; b++) {
		const struct pf_d_hdr *h = (const void *)(pristine + b * BLK);

		if (pf_get32(h->h_magic) == magic && pf_get64(h->h_owner) == owner)
			return b;
	}
	abort();
}

static void test_blocks(void)
{
	struct json_object *o;

	save(pristine);
	PT_EQ(dump_num(true, "block", find_block(PF_MAGIC_NODE, ino_sparse)), 0);
	o = parsed();
	CU_ASSERT(strstr(str(get(o, "block"), "is"), "tree node of inode") != NULL);
	PT_EQ(num(get(get(o, "block"), "header"), "owner"), ino_sparse);
	(void)json_object_put(o);
	PT_EQ(dump_num(false, "block", find_block(PF_MAGIC_DIR, ino_many)), 0);
	CU_ASSERT(said("directory leaf of inode"));
	PT_EQ(dump_num(false, "block", find_block(PF_MAGIC_MAP, 0)), 0);
	CU_ASSERT(said("map block of group 0"));
	PT_EQ(dump_num(false, "block", find_block(PF_MAGIC_ICLU, 0)), 0);
	CU_ASSERT(said("inode cluster of cluster 0"));
	PT_EQ(dump_num(false, "block", find_block(PF_MAGIC_ICLU, 0) + 1), 0);
	CU_ASSERT(said("ino: 11"));
	PT_EQ(dump_num(false, "block", 1), 0);
	CU_ASSERT(said("block 0 of journal lane 0"));
	PT_EQ(dump_num(false, "block", 4095), 0);
	CU_ASSERT(said("superblock copy"));
	PT_EQ(dump_num(false, "block", 4000), 0);
	CU_ASSERT(said("map: free"));
	CU_ASSERT(said("is: zeros"));
}

/* What is broken is said, with status 4, and what is left is shown. Twin: all of these are 0 on the sound image. */
static void test_damage(void)
{
	uint8_t *copy = malloc(DEV_BYTES);
	uint64_t leaf = find_block(PF_MAGIC_DIR, ino_many), node = find_block(PF_MAGIC_NODE, ino_sparse);
	uint64_t map = find_block(PF_MAGIC_MAP, 0), clu = find_block(PF_MAGIC_ICLU, 0);
	struct pf_d_node *n;
	struct json_object *o;

	CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
	memcpy(copy, pristine, DEV_BYTES);
	copy[leaf * BLK + 48] ^= 1;		/* padding */
	copy[node * BLK + 63] ^= 1;
	copy[map * BLK + 48] ^= 1;
	copy[clu * BLK + 4000] ^= 1;
	copy[100] ^= 1;
	save(copy);
	PT_EQ(dump_num(true, "dir", ino_many), 4);
	o = parsed();
	PT_EQ(num(get(o, "directory"), "total_entries"), NAMES + 1);
	(void)json_object_put(o);
	PT_EQ(dump_num(false, "dir", ino_many), 4);
	CU_ASSERT(said("! checksum"));
	PT_EQ(dump_num(false, "inode", ino_sparse), 4);
	CU_ASSERT(said("checksum"));
	PT_EQ(dump(false, "map", NULL), 4);
	PT_EQ(dump(false, "clusters", NULL), 4);
	PT_EQ(dump(false, "super", NULL), 4);
	CU_ASSERT(said("! superblock checksum"));
	PT_EQ(dump(false, "path", "/many/name-0007"), 4);
	CU_ASSERT(said("type: file"));

	/* A node that is its own child, and both superblocks gone. */
	memcpy(copy, pristine, DEV_BYTES);
	n = (void *)(copy + node * BLK);
	n->n_hdr.h_level = pf_put16(1);
	n->n_rec[0].r_dblk = pf_put64(node);
	pf_md_seal(PF_MD_NODE, n);
	memset(copy, 0, BLK);
	memset(copy + DEV_BYTES - BLK, 0, BLK);
	save(copy);
	PT_EQ(dump(false, "super", NULL), 4);
	CU_ASSERT(said("no superblock is sound"));
	PT_EQ(dump_num(false, "inode", ino_sparse), 4);
	CU_ASSERT(said("size: 2043904"));
	PT_EQ(dump_num(true, "dir", ino_many), 4);
	o = parsed();
	PT_EQ(num(get(o, "directory"), "total_entries"), NAMES + 1);
	(void)json_object_put(o);

	memset(copy, 0x5a, DEV_BYTES);
	save(copy);
	PT_EQ(dump(false, "super", NULL), 1);
	CU_ASSERT(said("not a pinfs image"));
	PT_SYS(truncate(img, 4096));
	PT_EQ(dump(false, "super", NULL), 1);
	free(copy);
}

/* Somebody has it open: shown all the same, and said. Twin: test_super sees no such line. */
static void test_in_use(void)
{
	int fd;

	save(pristine);
	PT_EQ(dump(false, "super", NULL), 0);
	CU_ASSERT_PTR_NULL(strstr(out, "may change meanwhile"));
	fd = open(img, O_RDONLY | O_CLOEXEC);
	PT_SYS_FATAL(fd);
	PT_EQ(dump(false, "super", NULL), 0);
	CU_ASSERT(said("may change meanwhile"));
	(void)close(fd);
}

static void cleanup(void)
{
	(void)unlink(img);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "command line", test_usage, 0 },
		{ "superblocks", test_super, 0 },
		{ "inode and extents", test_file, 0 },
		{ "directory and path", test_dir, 0 },
		{ "map, clusters, orphans", test_space, 0 },
		{ "journal", test_journal, 0 },
		{ "blocks", test_blocks, 0 },
		{ "damage", test_damage, 0 },
		{ "device in use", test_in_use, 0 },
	};
	const struct pt_suite suite = { "pinfsdump", cases, PF_ARRAY_LEN(cases) };

	out = malloc(OUT_MAX);
	if (out == NULL)
		return 1;
	make_image();
	pt_on_cleanup(cleanup);
	return pt_main(argc, argv, &suite, 1);
}
