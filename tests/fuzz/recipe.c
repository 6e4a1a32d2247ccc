/* SPDX-License-Identifier: BSD-3-Clause */
/* recipe.c - see recipe.h. Owns nothing. */
#include "fuzz/recipe.h"

#include <inttypes.h>
#include <string.h>
#include "base/crc32c.h"

#define BLK PF_BLK_SIZE

static const char *const do_name[FZ_DOS] = {
	"set", "add", "xor", "nasty", "point", "zero", "copy", "record", "flip", "wipe",
};

static const uint64_t nasty[] = {
	0, 1, 2, 7, 8, 9, 10, 11, 12, 63, 64, 168, 169, 255, 256, 511, 512, 4095, 4096, UINT64_C(0xffff),
	UINT64_C(0x7fffffff), UINT64_C(0xffffffff), UINT64_C(1) << 40, (UINT64_C(1) << 40) - 1, UINT64_C(1) << 51,
	UINT64_C(1) << 52, UINT64_C(1) << 62, UINT64_C(1) << 63, UINT64_MAX - UINT32_MAX - 1, UINT64_MAX - 1,
	UINT64_MAX, FZ_NBLK, FZ_NBLK - 1, FZ_NBLK - 2, 65000, 65001, 1000000000,
};

/* A step made sense of. */
struct sense {
	enum fz_do what;
	enum fz_class class;
	unsigned int index;
	uint64_t doff, size, off;
	unsigned int width;
	bool seal;
};

static uint64_t place(enum fz_class c, uint64_t index, unsigned int *which)
{
	const struct fz_objs *o = &fz_image()->obj[c];

	*which = (unsigned int)(index % o->n);
	return o->doff[*which];
}

/* False: there is no object of the class. */
static bool make_sense(const struct fz_step *s, struct sense *out)
{
	out->what = (enum fz_do)(s->what % FZ_DOS);
	out->class = (enum fz_class)(s->class % FZ_CLASSES);
	if (out->what == FZ_RECORD)
		out->class = FZ_LANE;
	if (fz_image()->obj[out->class].n == 0)
		return false;
	out->doff = place(out->class, le16toh(s->index), &out->index);
	out->size = fz_size(out->class);
	out->width = 1U << (s->width % 4);
	out->off = le16toh(s->off) % out->size;
	if (!(s->flags & FZ_ODD))
		out->off -= out->off % out->width;
	if (out->off + out->width > out->size)
		out->off = out->size - out->width;
	out->seal = !(s->flags & FZ_BROKEN) && out->what != FZ_FLIP && out->what != FZ_WIPE;
	return true;
}

static void put_field(uint8_t *at, unsigned int width, uint64_t v)
{
	v = htole64(v);
	memcpy(at, &v, width);
}

static uint64_t get_field(const uint8_t *at, unsigned int width)
{
	uint64_t v = 0;

	memcpy(&v, at, width);
	return le64toh(v);
}

/* One more record of a transaction in the lane, which is made if there is none. */
static void add_record(struct pf_pm *pm, const struct sense *s, const struct fz_step *step)
{
	struct pf_d_lane *l = pf_pm_at(pm, s->doff);
	const struct pf_d_super *sb = pf_pm_at(pm, 0);
	uint64_t bytes = 64 * (uint64_t)(step->width + 1), doff = le64toh(step->value), len = pf_get32(l->l_len);
	struct pf_d_jrec rec = { .j_doff = pf_put64(doff), .j_len = pf_put32((uint32_t)bytes) };
	uint8_t *p;

	if (pf_get32(l->l_magic) != PF_MAGIC_LANE || pf_get64(l->l_seq) == 0 || len > PF_LANE_BYTES - sizeof *l) {
		memset(l, 0, sizeof *l);
		l->l_magic = pf_put32(PF_MAGIC_LANE);
		l->l_fsid = sb->sb_fsid;
		l->l_seq = pf_put64(1 + UINT64_C(1000) * s->index);
		l->l_index = pf_put32(s->index);
		len = 0;
	}
	if (sizeof *l + len + sizeof rec + bytes > PF_LANE_BYTES)
		return;
	p = (uint8_t *)(l + 1) + len;
	memcpy(p, &rec, sizeof rec);
	/* What is there already, or the bytes of the step. */
	if (pf_range_ok(doff, bytes, FZ_BYTES) && (step->flags & FZ_ODD) == 0)
		memmove(p + sizeof rec, pf_pm_at(pm, doff), bytes);
	else
		memset(p + sizeof rec, le16toh(step->off), bytes);
	l->l_nrec = pf_put32(pf_get32(l->l_nrec) + 1);
	l->l_len = pf_put32((uint32_t)(len + sizeof rec + bytes));
}

static void do_step(struct pf_pm *pm, const struct fz_step *step, uint64_t *hit)
{
	uint64_t v = le64toh(step->value), n, from;
	uint8_t *obj, *at;
	unsigned int which;
	struct sense s;

	if (!make_sense(step, &s))
		return;
	obj = pf_pm_at(pm, s.doff);
	at = obj + s.off;
	switch (s.what) {
	case FZ_SET:
		put_field(at, s.width, v);
		break;
	case FZ_ADD:
		put_field(at, s.width, get_field(at, s.width) + v);
		break;
	case FZ_XOR:
		put_field(at, s.width, get_field(at, s.width) ^ v);
		break;
	case FZ_NASTY:
		put_field(at, s.width, nasty[v % PF_ARRAY_LEN(nasty)]);
		break;
	case FZ_POINT:
		if (fz_image()->obj[v % FZ_CLASSES].n != 0)
			put_field(at, s.width, place((enum fz_class)(v % FZ_CLASSES), v >> 8, &which) / BLK);
		break;
	case FZ_ZERO:
		n = pf_min64((v & 4095) + 1, s.size - s.off);
		memset(at, 0, n);
		break;
	case FZ_COPY:
		from = place(s.class, v, &which);
		memmove(at, (uint8_t *)pf_pm_at(pm, from) + s.off, s.size - s.off);
		break;
	case FZ_RECORD:
		add_record(pm, &s, step);
		break;
	case FZ_FLIP:
		v %= s.size * 8;
		obj[v / 8] ^= (uint8_t)(1U << (v % 8));
		break;
	case FZ_WIPE:
		/* The whole block, also of an inode. */
		s.doff -= s.doff % BLK;
		s.size = s.class == FZ_LANE ? PF_LANE_BYTES : BLK;
		memset(pf_pm_at(pm, s.doff), 0, s.size);
		break;
	case FZ_DOS:
		break;
	}
	if (s.seal)
		fz_seal(pm, s.class, s.doff);
	if (hit != NULL)
		fz_mark(hit, s.doff, s.size);
}

void fz_apply(struct pf_pm *pm, const uint8_t *recipe, size_t size, uint64_t *hit)
{
	struct fz_step s;

	for (size_t at = 0; at + sizeof s <= size; at += sizeof s) {
		memcpy(&s, recipe + at, sizeof s);
		do_step(pm, &s, hit);
	}
}

void fz_print(FILE *to, const uint8_t *recipe, size_t size)
{
	struct fz_step s;
	struct sense m;

	for (size_t at = 0; at + sizeof s <= size; at += sizeof s) {
		memcpy(&s, recipe + at, sizeof s);
		if (!make_sense(&s, &m))
			continue;
		(void)fprintf(to,
			      "%s %s %u (block %" PRIu64 ", byte %" PRIu64 ") +%" PRIu64 ", %u: 0x%" PRIx64 "%s\n",
			      do_name[m.what], fz_class_name[m.class], m.index, m.doff / BLK, m.doff % BLK, m.off,
			      m.width, le64toh(s.value), m.seal ? "" : ", checksum left");
	}
}

/* ---- making recipes ---- */

/* Where the fields are. Offset and width. */
static void choose_field(struct fz_rng *r, struct fz_step *s)
{
	uint64_t off = fz_below(r, 4096);

	s->width = (uint8_t)(fz_below(r, 3) + 1);
	switch (s->class) {
	case FZ_SUPER:
		off = fz_below(r, 208);
		break;
	case FZ_LANE:
		off = fz_below(r, 8) == 0 ? fz_below(r, 65536) : fz_below(r, 64 + 16 + 64);
		break;
	case FZ_MAP:
	case FZ_CLUSTER:
		off = fz_below(r, 4) == 0 ? off : fz_below(r, 128);
		break;
	case FZ_INODE:
		off = fz_below(r, 2) == 0 ? 256 + fz_below(r, 16 + 3 * 24) : fz_below(r, 256);
		break;
	case FZ_NODE:
		off = fz_below(r, 3) == 0 ? fz_below(r, 64) : 64 + fz_below(r, 10 * 24);
		break;
	case FZ_DIR:
	case FZ_XATTR:
		off = fz_below(r, 3) == 0 ? fz_below(r, 64) : 64 + fz_below(r, 512);
		break;
	default:
		break;
	}
	s->off = htole16((uint16_t)off);
}

struct fz_step fz_random_step(struct fz_rng *r)
{
	static const uint8_t classes[] = {
		FZ_INODE, FZ_INODE, FZ_INODE, FZ_NODE, FZ_NODE,	 FZ_DIR,   FZ_DIR,  FZ_XATTR,
		FZ_SUPER, FZ_LANE,  FZ_MAP,   FZ_CLUSTER, FZ_ORPHAN, FZ_XATTR, FZ_DATA, FZ_INODE,
	};
	static const uint8_t whats[] = {
		FZ_SET,	  FZ_ADD,  FZ_XOR,  FZ_NASTY, FZ_NASTY, FZ_NASTY,
		FZ_POINT, FZ_POINT, FZ_ZERO, FZ_COPY,  FZ_FLIP,	 FZ_WIPE,
	};
	struct fz_step s = {
		.what = whats[fz_below(r, PF_ARRAY_LEN(whats))],
		.class = classes[fz_below(r, PF_ARRAY_LEN(classes))],
		.flags = fz_below(r, 8) == 0 ? FZ_BROKEN : 0,
	};
	uint64_t v = fz_rnd(r);

	/* The first inodes are the internal ones, the root and what is next to it; the many empty files come last. */
	s.index = htole16((uint16_t)(fz_below(r, 2) == 0 ? fz_below(r, 16) : fz_rnd(r)));
	choose_field(r, &s);
	if (s.what == FZ_ADD)
		v = fz_below(r, 9) - 4;
	else if (s.what == FZ_SET && fz_below(r, 2) == 0)
		v = fz_below(r, FZ_NBLK);
	if (s.class == FZ_LANE && fz_below(r, 2) == 0) {
		s.what = FZ_RECORD;
		s.width = (uint8_t)fz_below(r, 64);
		v = fz_below(r, 4) == 0 ? v : fz_below(r, FZ_BYTES / 64) * 64;
		if (fz_below(r, 2) == 0)
			s.flags |= FZ_ODD;
	}
	s.value = htole64(v);
	return s;
}

size_t fz_mutate(uint8_t *recipe, size_t size, size_t max, struct fz_rng *r)
{
	size_t n = size / sizeof(struct fz_step), room = max / sizeof(struct fz_step), at;
	struct fz_step s = fz_random_step(r), *old;

	if (room == 0)
		return size < max ? size : max;
	at = n == 0 ? 0 : fz_below(r, n);
	old = (void *)(recipe + at * sizeof s);
	switch (n == 0 ? 0 : fz_below(r, 6)) {
	case 0:
	case 1:				/* one more */
		if (n < room)
			n++;
		memcpy(recipe + (n - 1) * sizeof s, &s, sizeof s);
		break;
	case 2:				/* one less */
		memmove(old, recipe + (at + 1) * sizeof s, (n - at - 1) * sizeof s);
		n--;
		break;
	case 3:
		memcpy(old, &s, sizeof s);
		break;
	case 4: {			/* one part of it */
		struct fz_step o;

		memcpy(&o, old, sizeof o);
		switch (fz_below(r, 6)) {
		case 0: o.what = s.what; break;
		case 1: o.index = s.index; break;
		case 2: o.off = s.off; break;
		case 3: o.width = s.width; break;
		case 4: o.flags ^= (uint8_t)(1U << fz_below(r, 2)); break;
		default: o.value = s.value; break;
		}
		memcpy(old, &o, sizeof o);
		break;
	}
	default: {			/* two change places */
		size_t with = fz_below(r, n);
		struct fz_step a, b;

		memcpy(&a, old, sizeof a);
		memcpy(&b, recipe + with * sizeof b, sizeof b);
		memcpy(old, &b, sizeof b);
		memcpy(recipe + with * sizeof a, &a, sizeof a);
		break;
	}
	}
	return n * sizeof s;
}
