/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * store.c - libpmemblk and libpmemlog, each with a model of what must be there after a crash.
 *
 *   store create-blk|create-log|create-bare FILE
 *   store blk|log|bare FILE COUNT   writes from where the file stands on; a byte to stdout for each that has returned;
 *                                   COUNT 0: for ever, but not in a hurry
 *   store check-... FILE SAID       0: the first N writes are there, whole, and nothing of a later one, where N is
 *                                   the size of SAID (stdout of the runs), or one more: then SAID grows
 *
 * blk: write I fills a block with the number I, many times; libpmemblk promises that a block is all old or all new.
 * bare: the same into a mapped file, by two copies: what a crash leaves may be half a block. log: record I is a length
 * and that many bytes.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libpmem.h>
#include <libpmemblk.h>
#include <libpmemlog.h>

#define BLOCK 512U
#define BLOCKS 200U			/* of them, few, so that most writes replace something */
#define POOL_BYTES (24U << 20)

typedef uint64_t block[BLOCK / sizeof(uint64_t)];

struct record {
	uint64_t number;
	uint64_t len;
	unsigned char data[200];
};

static PMEMblkpool *blk;
static PMEMlogpool *lg;
static block *bare;

static unsigned int where(uint64_t i)
{
	return (unsigned int)(i * UINT64_C(0x9e3779b97f4a7c15) >> 40) % BLOCKS;
}

static int wrong(const char *what, uint64_t a, uint64_t b)
{
	printf("%s: %" PRIu64 ", %" PRIu64 "\n", what, a, b);
	return 1;
}

/* ---- blocks ---- */

static int block_write(uint64_t i)
{
	block b;

	for (size_t k = 0; k < sizeof b / sizeof b[0]; k++)
		b[k] = i;
	if (blk != NULL)
		return pmemblk_write(blk, b, where(i));
	memcpy(bare[where(i)], b, sizeof b / 2);
	pmem_persist(bare[where(i)], sizeof b / 2);
	memcpy(&bare[where(i)][sizeof b / 2 / sizeof b[0]], (char *)b + sizeof b / 2, sizeof b / 2);
	pmem_persist(bare[where(i)], sizeof b);
	return 0;
}

static int block_read(unsigned int at, uint64_t *out)
{
	block b;

	if (blk != NULL) {
		if (pmemblk_read(blk, b, at))
			return wrong("cannot read block", at, 0);
	} else {
		memcpy(b, bare[at], sizeof b);
	}
	for (size_t k = 1; k < sizeof b / sizeof b[0]; k++)
		if (b[k] != b[0])
			return wrong("torn: block, word", at, k);
	*out = b[0];
	return 0;
}

/* How many writes are in the file, given that at least @said are. */
static int blocks_done(uint64_t said, uint64_t *done)
{
	uint64_t last[BLOCKS] = { 0 }, is;

	*done = said;
	for (uint64_t i = 1; i <= said; i++)
		last[where(i)] = i;
	for (unsigned int at = 0; at < BLOCKS; at++) {
		if (block_read(at, &is))
			return 1;
		if (is == said + 1 && where(is) == at)
			*done = is;
		else if (is != last[at])
			return wrong("block has another write: block, write", at, is);
	}
	return 0;
}

/* ---- records ---- */

static int record_append(uint64_t i)
{
	struct record r = { .number = i, .len = i * 37 % sizeof r.data };

	memset(r.data, (int)(i & 0xff), r.len);
	return pmemlog_append(lg, &r, offsetof(struct record, data) + r.len);
}

static uint64_t walked;
static int walk(const void *buf, size_t len, void *arg)
{
	const unsigned char *at = buf, *end = at + len;
	struct record r;

	(void)arg;
	while (at < end) {
		if ((size_t)(end - at) < offsetof(struct record, data))
			return 0;
		memcpy(&r, at, offsetof(struct record, data));
		at += offsetof(struct record, data);
		if (r.number != walked + 1 || r.len != r.number * 37 % sizeof r.data || r.len > (size_t)(end - at))
			return 0;
		for (; r.len > 0; r.len--)
			if (*at++ != (r.number & 0xff))
				return 0;
		walked++;
	}
	return 0;
}

static int records_done(uint64_t *done)
{
	uint64_t bytes = 0;

	walked = 0;
	pmemlog_walk(lg, 0, walk, NULL);
	for (uint64_t i = 1; i <= walked; i++)
		bytes += offsetof(struct record, data) + i * 37 % sizeof((struct record){ 0 }).data;
	*done = walked;
	if (bytes != (uint64_t)pmemlog_tell(lg))
		return wrong("bytes behind the last whole record: whole, all", bytes, (uint64_t)pmemlog_tell(lg));
	return 0;
}

/* ---- the command ---- */

static int count_done(uint64_t said, uint64_t *done)
{
	return lg != NULL ? records_done(done) : blocks_done(said, done);
}

static int check(const char *said)
{
	uint64_t done;
	struct stat st;

	if (stat(said, &st) || count_done((uint64_t)st.st_size, &done))
		return 1;
	if (done != (uint64_t)st.st_size && done != (uint64_t)st.st_size + 1)
		return wrong("writes that returned, and writes that are there", (uint64_t)st.st_size, done);
	printf("%" PRIu64 " writes, as the model\n", done);
	return truncate(said, (off_t)done) ? 1 : 0;
}

/* Goes on behind what stdout says; a check has made that true. */
static int run(uint64_t count)
{
	struct stat st;
	uint64_t i, end;

	if (fstat(STDOUT_FILENO, &st))
		return 1;
	i = (uint64_t)st.st_size;
	for (end = count > 0 ? i + count : UINT64_MAX; i < end;) {
		i++;
		if (lg != NULL ? record_append(i) : block_write(i)) {
			perror("write");
			return 1;
		}
		if (write(STDOUT_FILENO, "w", 1) != 1)
			return 1;
		if (count == 0)
			(void)usleep(200);
	}
	return 0;
}

static bool reach(const char *kind, const char *file, bool create)
{
	size_t len;
	int is_pmem;

	if (strcmp(kind, "blk") == 0) {
		blk = create ? pmemblk_create(file, BLOCK, POOL_BYTES, 0644) : pmemblk_open(file, BLOCK);
	} else if (strcmp(kind, "log") == 0) {
		lg = create ? pmemlog_create(file, POOL_BYTES, 0644) : pmemlog_open(file);
	} else {
		bare = pmem_map_file(file, create ? BLOCKS * BLOCK : 0, create ? PMEM_FILE_CREATE : 0, 0644, &len,
				     &is_pmem);
	}
	if (blk == NULL && lg == NULL && bare == NULL)
		perror(file);
	return blk != NULL || lg != NULL || bare != NULL;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? strchr(argv[1], '-') : NULL;
	int rc = 0;

	if (argc != 4 && argc != 3)
		return 2;
	if (!reach(kind != NULL ? kind + 1 : argv[1], argv[2], argv[1][0] == 'c' && argv[1][1] == 'r'))
		return 1;
	if (argc == 4)
		rc = kind != NULL ? check(argv[3]) : run(strtoull(argv[3], NULL, 0));
	if (blk != NULL)
		pmemblk_close(blk);
	if (lg != NULL)
		pmemlog_close(lg);
	return rc;
}
