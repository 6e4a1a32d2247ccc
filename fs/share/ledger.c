/* SPDX-License-Identifier: BSD-3-Clause */
/* ledger.c - creates the shared memory of a session and reads its counters. Owns the mapping and the descriptor.
 * No locks. */
#include "share/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <pinfs/trace.h>
#include <pinfs/version.h>

#define COUNT_MAX UINT32_C(0x7fffffff)

int pf_ledger_create(struct pf_ledger *l, uint32_t nslot, uint32_t nrec)
{
	uint64_t bytes = pf_ledger_bytes(nslot, nrec), trace_off = pf_round_up(bytes, PF_BLK_SIZE);
	void *base;
	int fd, err;

	fd = memfd_create("pinfs-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)(trace_off + PF_T_RING_BYTES + nrec * sizeof(struct pf_t_stack))) != 0)
		goto out_errno;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED)
		goto out_errno;
	/* A client that shrank the file would turn the daemon's loads into SIGBUS. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
		err = -errno;
		(void)munmap(base, bytes);
		goto out_close;
	}
	*l = (struct pf_ledger){ .fd = fd, .hdr = base, .bytes = bytes, .nslot = nslot, .nrec = nrec,
				.trace_off = trace_off };
	l->slot = (void *)((char *)base + sizeof(struct pf_l_hdr));
	l->rec = (void *)(l->slot + nslot);
	l->map = (void *)(l->rec + nrec);
	*l->hdr = (struct pf_l_hdr){
		.lh_magic = PF_LEDGER_MAGIC,
		.lh_major = PINFS_PROTO_MAJOR,
		.lh_nslot = nslot,
		.lh_nrec = nrec,
		.lh_slot_off = sizeof(struct pf_l_hdr),
		.lh_rec_off = sizeof(struct pf_l_hdr) + (uint64_t)nslot * sizeof(struct pf_l_slot),
		.lh_bytes = bytes,
		.lh_map_off = (uintptr_t)l->map - (uintptr_t)base,
		.lh_trace_off = trace_off,
	};
	return 0;

out_errno:
	err = -errno;
out_close:
	(void)close(fd);
	return err;
}

void pf_ledger_destroy(struct pf_ledger *l)
{
	if (!l->hdr)
		return;
	(void)munmap(l->hdr, l->bytes);
	(void)close(l->fd);
	*l = (struct pf_ledger){ .fd = -1 };
}

unsigned int pf_ledger_pinned(struct pf_ledger *l, uint32_t slot, unsigned int first, unsigned int n)
{
	struct pf_l_slot *s = &l->slot[slot];
	unsigned int i, pinned = 0;

	if (pf_ledger_idle(l, slot))
		return 0;
	if (atomic_load(&s->ls_whole) != 0)
		return n;
	for (i = first; i < first + n; i++)
		pinned += atomic_load(&s->ls_page[i]) != 0;
	return pinned;
}

void pf_ledger_gone(struct pf_ledger *l, uint32_t slot, const uint64_t gone[8])
{
	for (size_t i = 0; i < 8; i++) {
		atomic_store(&l->slot[slot].ls_gone[2 * i], (uint32_t)gone[i]);
		atomic_store(&l->slot[slot].ls_gone[2 * i + 1], (uint32_t)(gone[i] >> 32));
	}
}

void pf_ledger_next_epoch(struct pf_ledger *l, uint32_t slot)
{
	static const uint64_t none[8];

	/* The client may have written there: it spoils its own translations, and can be right by chance only. */
	atomic_fetch_add(&l->slot[slot].ls_epoch, 1);
	pf_ledger_gone(l, slot, none);
}

int pf_ledger_pin(struct pf_ledger *l, uint32_t slot, unsigned int first, unsigned int n, bool brief)
{
	struct pf_l_slot *s = &l->slot[slot];
	unsigned int i;

	if (n == PF_CHUNK_BLKS) {
		if (atomic_load(&s->ls_whole) >= COUNT_MAX)
			return -EBUSY;
		atomic_fetch_add(&s->ls_whole, 1);
		goto out;
	}
	if (atomic_load(&s->ls_pins) >= COUNT_MAX)
		return -EBUSY;
	for (i = first; i < first + n; i++)
		if (atomic_load(&s->ls_page[i]) >= COUNT_MAX)
			return -EBUSY;
	atomic_fetch_add(&s->ls_pins, 1);
	for (i = first; i < first + n; i++)
		atomic_fetch_add(&s->ls_page[i], 1);
out:
	if (brief)
		atomic_fetch_add(&s->ls_brief, 1);
	return 0;
}

static void lower(_Atomic uint32_t *c)
{
	uint32_t v = atomic_load(c);

	while (v != 0 && !atomic_compare_exchange_weak(c, &v, v - 1))
		;
}

void pf_ledger_unpin(struct pf_ledger *l, uint32_t slot, unsigned int first, unsigned int n)
{
	struct pf_l_slot *s = &l->slot[slot];

	if (n == PF_CHUNK_BLKS) {
		lower(&s->ls_whole);
		return;
	}
	for (unsigned int i = first; i < first + n; i++)
		lower(&s->ls_page[i]);
	lower(&s->ls_pins);
}

uint64_t pf_ledger_pins(struct pf_ledger *l, uint32_t slot)
{
	return (uint64_t)atomic_load(&l->slot[slot].ls_whole) + atomic_load(&l->slot[slot].ls_pins);
}

bool pf_ledger_rec(struct pf_ledger *l, uint32_t i, struct pf_pin_rec *out)
{
	volatile struct pf_l_rec *r = &l->rec[i];
	unsigned int c;

	if (atomic_load(&r->lr_state) != PF_REC_LIVE)
		return false;
	out->tid = r->lr_tid;
	out->ino = r->lr_ino;
	out->foff = r->lr_foff;
	out->len = r->lr_len;
	out->start_ns = r->lr_start_ns;
	out->api = r->lr_api;
	out->slot = r->lr_slot;
	for (c = 0; c < sizeof r->lr_label; c++)
		out->label[c] = r->lr_label[c];
	out->label[c] = '\0';
	return atomic_load(&r->lr_state) == PF_REC_LIVE;
}

unsigned int pf_ledger_stack(struct pf_ledger *l, uint32_t i, struct pf_t_stack *out)
{
	const uint64_t at = l->trace_off + PF_T_RING_BYTES + (uint64_t)i * sizeof *out;
	unsigned int n = 0;

	if (pread(l->fd, out, sizeof *out, (off_t)at) != (ssize_t)sizeof *out)
		return 0;
	while (n < PF_T_FRAMES && out->ts_pc[n] != 0)
		n++;
	return n;
}

uint32_t pf_ledger_rec_seek(struct pf_ledger *l, uint32_t i)
{
	uint64_t start = (uint64_t)((char *)l->rec - (char *)l->hdr);
	off_t at;

	if (i >= l->nrec)
		return l->nrec;
	at = lseek(l->fd, (off_t)(start + (uint64_t)i * sizeof *l->rec), SEEK_DATA);
	if (at < 0)
		return l->nrec;
	if ((uint64_t)at <= start + (uint64_t)i * sizeof *l->rec)
		return i;
	return (uint32_t)(((uint64_t)at - start) / sizeof *l->rec);
}
