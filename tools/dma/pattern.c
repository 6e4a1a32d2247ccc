/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pattern.c - the self-describing pattern: make it, check it, find it.
 *
 * A line is a pure function of (transfer, file offset). That is what lets a reader of any block say "these 64 bytes
 * were written by transfer 7, which was meant for inode 12 at offset 8192". Owns no state, takes no locks.
 */
#include "dma/dma.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pinfs/compiler.h>
#include <pinfs/types.h>

#define LINE_MAGIC UINT64_C(0x31414d44534e4950)	/* "PINSDMA1" */
#define SCAN_PIECE ((size_t)1 << 20)

struct line {
	pf_le64 l_magic;
	pf_le64 l_id;
	pf_le64 l_seq;
	pf_le64 l_foff;		/* of this line */
	char l_label[DMA_LABEL];
	pf_le64 l_ino;
	pf_le64 l_sum;		/* of the 56 bytes before */
};
PF_MEDIA_SIZE(struct line, DMA_LINE);

/* Every word is stirred in by a bijection (splitmix64's finaliser), so a change of one word always changes the sum. */
static uint64_t line_sum(const struct line *l)
{
	uint64_t word[7], h = LINE_MAGIC;

	memcpy(word, l, sizeof word);
	for (size_t i = 0; i < PF_ARRAY_LEN(word); i++) {
		h ^= le64toh(word[i]);
		h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
		h ^= h >> 31;
	}
	return h;
}

static void line_make(const struct dma_pat *pat, uint64_t foff, struct line *l)
{
	l->l_magic = pf_put64(LINE_MAGIC);
	l->l_id = pf_put64(pat->dp_id);
	l->l_seq = pf_put64((foff - pf_round_down(pat->dp_foff, DMA_LINE)) / DMA_LINE);
	l->l_foff = pf_put64(foff);
	memcpy(l->l_label, pat->dp_label, DMA_LABEL);
	l->l_ino = pf_put64(pat->dp_ino);
	l->l_sum = pf_put64(line_sum(l));
}

static bool line_read(const void *p, uint64_t pos, struct dma_run *run)
{
	struct line l;

	memcpy(&l, p, sizeof l);
	if (pf_get64(l.l_magic) != LINE_MAGIC || pf_get64(l.l_sum) != line_sum(&l))
		return false;
	run->dr_pos = pos;
	run->dr_len = DMA_LINE;
	run->dr_id = pf_get64(l.l_id);
	run->dr_ino = pf_get64(l.l_ino);
	run->dr_foff = pf_get64(l.l_foff);
	run->dr_seq = pf_get64(l.l_seq);
	memcpy(run->dr_label, l.l_label, DMA_LABEL);
	run->dr_label[DMA_LABEL] = '\0';
	return true;
}

void dma_pat_label(struct dma_pat *pat, const char *label)
{
	size_t n = strnlen(label, DMA_LABEL);

	memset(pat->dp_label, 0, DMA_LABEL);
	memcpy(pat->dp_label, label, n);
}

void dma_pat_fill(const struct dma_pat *pat, uint64_t foff, void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len != 0) {
		size_t skip = foff % DMA_LINE;
		size_t n = pf_min64(DMA_LINE - skip, len);
		struct line l;

		line_make(pat, foff - skip, &l);
		memcpy(p, (const uint8_t *)&l + skip, n);
		p += n;
		foff += n;
		len -= n;
	}
}

static void describe_miss(const struct line *want, uint64_t foff, const uint8_t *got, size_t n, size_t skip,
			  struct dma_miss *miss)
{
	const uint8_t *w = (const uint8_t *)want + skip;
	size_t i = 0;

	while (w[i] == got[i])
		i++;
	memset(miss, 0, sizeof *miss);
	miss->dm_foff = foff + i;
	miss->dm_want = w[i];
	miss->dm_got = got[i];
	/* Only a whole line can be named. */
	miss->dm_foreign = n == DMA_LINE && line_read(got, foff, &miss->dm_line);
}

bool dma_pat_check(const struct dma_pat *pat, uint64_t foff, const void *buf, size_t len, struct dma_miss *miss)
{
	const uint8_t *p = buf;

	while (len != 0) {
		size_t skip = foff % DMA_LINE;
		size_t n = pf_min64(DMA_LINE - skip, len);
		struct line l;

		line_make(pat, foff - skip, &l);
		if (memcmp(p, (const uint8_t *)&l + skip, n) != 0) {
			if (miss != NULL)
				describe_miss(&l, foff, p, n, skip, miss);
			return false;
		}
		p += n;
		foff += n;
		len -= n;
	}
	return true;
}

/* A line that continues @run: the same transfer, the next place, the next position. */
static bool run_continues(const struct dma_run *run, const struct dma_run *l)
{
	return run->dr_len != 0 && l->dr_id == run->dr_id && l->dr_ino == run->dr_ino &&
	       l->dr_pos == run->dr_pos + run->dr_len && l->dr_foff == run->dr_foff + run->dr_len &&
	       l->dr_seq == run->dr_seq + run->dr_len / DMA_LINE;
}

/* The search keeps the run that is still growing between pieces of a file. */
struct search {
	dma_run_fn fn;
	void *arg;
	struct dma_run run;	/* dr_len 0: none */
	uint64_t found;
	bool stopped;
};

static void search_flush(struct search *s)
{
	if (s->run.dr_len != 0 && !s->stopped)
		s->stopped = !s->fn(s->arg, &s->run);
	s->run.dr_len = 0;
}

static void search_piece(struct search *s, const uint8_t *buf, size_t len, uint64_t pos)
{
	const uint64_t magic = htole64(LINE_MAGIC);
	size_t at = 0;

	while (!s->stopped && len - at >= DMA_LINE) {
		struct dma_run l;

		if (memcmp(buf + at, &magic, sizeof magic) != 0 || !line_read(buf + at, pos + at, &l)) {
			at += 8;
			continue;
		}
		if (run_continues(&s->run, &l)) {
			s->run.dr_len += DMA_LINE;
		} else {
			search_flush(s);
			s->run = l;
		}
		s->found += DMA_LINE;
		at += DMA_LINE;
	}
}

uint64_t dma_scan(const void *buf, size_t len, uint64_t pos, dma_run_fn fn, void *arg)
{
	struct search s = { .fn = fn, .arg = arg };

	search_piece(&s, buf, len, pos);
	search_flush(&s);
	return s.found;
}

int dma_scan_fd(int fd, dma_run_fn fn, void *arg, uint64_t *found)
{
	struct search s = { .fn = fn, .arg = arg };
	uint8_t *piece = malloc(SCAN_PIECE);
	uint64_t pos = 0;
	int err = 0;

	if (piece == NULL)
		return -ENOMEM;
	for (;;) {
		size_t have = 0;

		/* Pieces end at multiples of 64, so no line is cut in two. */
		while (have < SCAN_PIECE) {
			ssize_t n = pread(fd, piece + have, SCAN_PIECE - have, (off_t)(pos + have));

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				err = -errno;
			if (n <= 0)
				break;
			have += (size_t)n;
		}
		search_piece(&s, piece, have, pos);
		if (err != 0 || s.stopped || have < SCAN_PIECE)
			break;
		pos += have;
	}
	search_flush(&s);
	free(piece);
	if (found != NULL)
		*found = s.found;
	return err;
}
