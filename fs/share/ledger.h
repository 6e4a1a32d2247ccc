/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ledger.h - the daemon's end of a session's ledger (include/pinfs/ledger.h): create it, look at counters, write slot
 * words.
 *
 * Takes no locks. Which slot is granted, and what lies under it, is window.h's business. Counters and records are the
 * client's to scribble on: a counter is believed to mean "pinned" when it is not 0, and nothing more.
 */
#ifndef PF_SHARE_LEDGER_H
#define PF_SHARE_LEDGER_H

#include <stddef.h>
#include <pinfs/ledger.h>
#include <pinfs/trace.h>

struct pf_ledger {
	int fd;				/* sealed memfd; a duplicate goes to the client */
	struct pf_l_hdr *hdr;
	struct pf_l_slot *slot;		/* nslot */
	struct pf_l_rec *rec;		/* nrec */
	_Atomic uint64_t *map;		/* slots kicked */
	uint64_t bytes;
	uint32_t nslot, nrec;
	uint64_t trace_off;		/* in the file; mapped by share/tap.c */
};

/* A fresh ledger, all zero but the header, shared and sealed against any change of its size. -ENOMEM, -EMFILE,
 * -ENFILE. */
int pf_ledger_create(struct pf_ledger *l, uint32_t nslot, uint32_t nrec) PF_MUST_CHECK;
void pf_ledger_destroy(struct pf_ledger *l);

/* The state word as the client is to see it. Sequentially consistent: step a of the handshake. */
static inline void pf_ledger_word(struct pf_ledger *l, uint32_t slot, uint32_t word)
{
	atomic_store(&l->slot[slot].ls_word, word);
}

/* No pin in the whole slot. Step c of the handshake, as is pf_ledger_pinned(). */
static inline bool pf_ledger_idle(struct pf_ledger *l, uint32_t slot)
{
	return atomic_load(&l->slot[slot].ls_whole) == 0 && atomic_load(&l->slot[slot].ls_pins) == 0;
}

/* Are there pins that do not end by themselves? FAIRNESS in ledger.h: in this order. */
static inline bool pf_ledger_keeps(struct pf_ledger *l, uint32_t slot)
{
	uint64_t brief = atomic_load(&l->slot[slot].ls_brief);

	return (uint64_t)atomic_load(&l->slot[slot].ls_whole) + atomic_load(&l->slot[slot].ls_pins) > brief;
}

/* Some pin is of a device that does not ask before a burst. The slot is FROZEN. REVOKE in pinfs/ledger.h. */
static inline bool pf_ledger_raw(struct pf_ledger *l, uint32_t slot)
{
	uint64_t pins = (uint64_t)atomic_load(&l->slot[slot].ls_whole) + atomic_load(&l->slot[slot].ls_pins);

	return pins > atomic_load(&l->slot[slot].ls_mapped);
}

/* Bursts of DMA engines are under way. Step b of the revoke. */
static inline bool pf_ledger_dma(struct pf_ledger *l, uint32_t slot)
{
	return atomic_load(&l->slot[slot].ls_dma) != 0;
}
/* Pages of a slot lose their translation: bit p % 64 of gone[p / 64]. Step a. Only ever more of them, until: */
void pf_ledger_gone(struct pf_ledger *l, uint32_t slot, const uint64_t gone[8]);
/* The slot is nobody's: no mapping of it is good any more. */
void pf_ledger_next_epoch(struct pf_ledger *l, uint32_t slot);

/* How many of the @n pages from @first are pinned. */
unsigned int pf_ledger_pinned(struct pf_ledger *l, uint32_t slot, unsigned int first, unsigned int n);

/* Count a pin of @n pages, as the client's fast path does. -EBUSY: a counter that no honest client reaches. */
int pf_ledger_pin(struct pf_ledger *l, uint32_t slot, unsigned int first, unsigned int n, bool brief) PF_MUST_CHECK;

/* And take it off again; never below 0. */
void pf_ledger_unpin(struct pf_ledger *l, uint32_t slot, unsigned int first, unsigned int n);

/* Pins of a slot, whole and page-wise, as the client says. */
uint64_t pf_ledger_pins(struct pf_ledger *l, uint32_t slot);

/* A pin record, copied, its strings terminated. Nothing else in it is checked. */
struct pf_pin_rec {
	uint32_t tid, api, slot;
	uint64_t ino, foff, len, start_ns;
	char label[17];
};
bool pf_ledger_rec(struct pf_ledger *l, uint32_t i, struct pf_pin_rec *out);	/* false: free, or changing */
/* Who made the pin of a record, as far as the client says: how many frames. Without a mapping of ours. */
unsigned int pf_ledger_stack(struct pf_ledger *l, uint32_t i, struct pf_t_stack *out);
/* The first record at or after @i whose memory was ever touched; nrec when there is none. So that looking costs no
 * memory. */
uint32_t pf_ledger_rec_seek(struct pf_ledger *l, uint32_t i);

#endif
