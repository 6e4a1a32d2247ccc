/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ledger.h - shared memory between the daemon and one client session: who has pinned what.
 *
 * The ledger is a sealed memfd of one session, so a client can spoil only its own. Its slots are the
 * slots of the session's window: slot s is one 2 MiB piece of one file at a time. Which piece, and
 * which device blocks lie under it, the daemon keeps in private memory; nothing that it reads here
 * is believed beyond "this many pins, says the client".
 *
 * THE HANDSHAKE (the kernel's gup_fast against unmap-then-scan)
 *
 *   pinner                                      breaker (daemon)
 *   1  w = load(ls_word); frozen -> slow path   a  store(ls_word, w | FROZEN)
 *   2  add 1 to the counters                    b  (invalidate the range, wait for the acks)
 *   3  load(ls_word) != w -> undo, slow path    c  load the counters: all 0 -> idle
 *
 * All of these are sequentially consistent. In the total order either 2 comes before c, and the
 * breaker sees the pin; or c comes before 2, hence a before 3, and the pinner sees FROZEN and undoes
 * its count before it has told anybody an address. A pin undone after c looked busy costs the breaker
 * one more look, never a lost pin: an undo kicks the daemon like an unpin. The generation in ls_word
 * makes step 3 also catch a whole break that began and ended between 1 and 3, after which the
 * addresses computed in between would be stale.
 *
 * Unpin: subtract, then load ls_word; if it is FROZEN, kick. The breaker sets FROZEN before it scans,
 * so either the scan sees the subtraction or the unpinner sees FROZEN.
 *
 * THE KICK goes the short way or the long one. Short: set the slot's bit at lh_map_off, add PF_KICK_ONE to
 * lh_kick, and when the value before had PF_KICK_ARMED, FUTEX_WAKE one waiter of lh_kick (not private). Long:
 * PF_P_KICK on the socket, when lh_kick was not armed, the futex call failed, or lh_map_off is 0 (a daemon that
 * has no short way). A daemon that listens to lh_kick loads it before it takes the bits and waits for another
 * value, so a kick either shows in the bits or changes the value. One that stops listening clears ARMED, then
 * takes the bits once more: whoever saw ARMED had set its bit before that. A client may use the long way always.
 *
 * REVOKE: the emulated IOMMU. A lease that is not given back in time is revoked (pinfs/lease.h): its pins become void
 * while the device may be at work. What keeps the device off the blocks then is not the count but the translation,
 * which a DMA engine looks up for each burst, in the slot of the ledger:
 *
 *   engine, for each burst                      revoke (daemon)
 *   1  add 1 to ls_dma                          a  set the pages' bits in ls_gone
 *   2  load the bits, then ls_epoch: set, or    b  load ls_dma: 0 -> no burst is under way that saw the bits clear;
 *      not what it was given -> to 4, fault        else wait for the kick and look again, bounded: see below
 *   3  move the bytes                           c  give the blocks away
 *   4  subtract 1 from ls_dma; load ls_word,
 *      FROZEN -> kick
 *
 * All sequentially consistent. Either 1 is before b in the total order: then the daemon sees the burst and
 * waits for its 4, which comes after 3. Or b is before 1, hence a before 2, and the engine faults. The slot has been
 * FROZEN since before b, so 4 kicks. A burst that found the bits set looks busy for a moment; that costs a look. ls_dma
 * counts bursts of any page of the slot: a revoke waits for bursts that it need not wait for, each of which is short.
 *
 * The bits, not STALE or the generation in ls_word, are the translation: a slot goes stale under on_busy=defer too, and
 * the generation moves when a neighbour page is cut, while transfers under pins go on as they may. A slot that has lost
 * a page this way is stale besides, so no new pin will ever meet the bits. ls_epoch changes when the slot ends being
 * this chunk's, and after that the bits are cleared: an engine that is late finds one or the other.
 *
 * A burst that does not end within revoke_timeout (an engine stopped, or killed between 1 and 4) cannot hold up the
 * daemon: the blocks are kept out of reuse until ls_dma of the slot is 0, or nobody has the device open any more.
 * Nobody but the engines that share this ledger is hurt by one that cheats.
 *
 * That holds for a device which asks for each burst. One that was given the addresses, and the kernel, do not ask: what
 * leaves the file under their pins is kept out of reuse until the pins have ended, as under one that is kicked. So the
 * daemon has to know, in a slot whose pins it revokes, whether all of them are *mapped*, that is, of devices that ask:
 *
 *   client: a mapped pin                        daemon: has one been given the addresses?
 *   1  add 1 to the counters (a pin)            a  load the counters
 *   2  add 1 to ls_mapped, when the device is   b  load ls_mapped: less than that -> yes
 *      given pinfs_pin_dma(), and nothing else
 *   3  subtract 1 from ls_mapped
 *   4  subtract 1 from the counters (unpin)
 *
 * The slot is FROZEN: no pin comes between a and b, so ls_mapped at b has none that the counters at a have not, and a
 * pin that is in the former no more only makes the daemon keep what it need not.
 *
 * FAIRNESS. A truncate that waits comes before pins that are made later (fair=yes). But a client that has a pin which
 * the truncate waits for, and needs another one to come to the end of the first, must not wait. So it matters how a
 * pin ends. A *brief* one ends by itself: it belongs to a transfer that the kernel has been given and will finish,
 * whatever the program does or waits for, and libpinfs.so sees that without the program. Any other one ends when the
 * program says so. Of each slot the daemon knows from ls_brief whether all its pins are brief, and then has the
 * client wait.
 *
 *   client: a brief pin                         daemon: may this session wait?
 *   1  add 1 to the counters (by PIN: the       a  load ls_brief
 *      daemon does 1 and 2 in one step)         b  load the counters: no more than that -> all are brief
 *   2  add 1 to ls_brief
 *   ...
 *   3  subtract 1 from the counters             A kick makes the daemon ask again, for each pin that waits; so does
 *   4  subtract 1 from ls_brief, kick           a pin that it counts itself
 *
 * A pin that is not brief, and is there all the time, is overlooked only if a brief one is in ls_brief at a and not
 * in the counters at b: one that is between 3 and 4, or was there at a. Its 4 kicks, since a pin waits in a frozen
 * slot only. A brief one is never taken for another but between 1 and 2, where no slot is frozen, or it is undone.
 * Nothing of this touches the scan. A pin that was brief and is not any more (a completion that cannot be recognised)
 * goes by 4 alone.
 * A client that says brief where it is not waits for itself, as if it had never let go of the pin; one that never
 * says so keeps a truncate waiting as long as it likes, which it can do with one pin. Neither is to anybody else's
 * harm.
 */
#ifndef PINFS_LEDGER_H
#define PINFS_LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <pinfs/compiler.h>
#include <pinfs/types.h>

#define PF_LEDGER_MAGIC UINT64_C(0x3152454744454c50)	/* "PLEDGER1" */

#define PF_SLOT_FROZEN UINT32_C(1)	/* a break looks at this slot: pins take the slow path, unpins kick */
#define PF_SLOT_STALE UINT32_C(2)	/* the slot's blocks have left the file: no pin will ever succeed again */
#define PF_SLOT_GEN UINT32_C(4)		/* added each time the blocks under the slot may have changed */

/* One slot; 2176 bytes. ls_word, ls_epoch and ls_gone are written by the daemon alone, the rest by the client and its
 * engines. */
struct pf_l_slot {
	_Atomic uint32_t ls_word;	/* generation | STALE | FROZEN */
	_Atomic uint32_t ls_whole;	/* pins of all 512 pages at once; they are not in ls_page */
	_Atomic uint32_t ls_pins;	/* page-wise pins of this slot, each counted once however many pages */
	_Atomic uint32_t ls_dma;	/* bursts of DMA engines under way; written by the engines */
	_Atomic uint32_t ls_epoch;	/* the daemon's, as ls_gone: which chunk's translation this is */
	_Atomic uint32_t ls_gone[16];	/* bit p % 32 of word p / 32: page p has no translation any more */
	_Atomic uint32_t ls_brief;	/* of ls_whole and ls_pins: pins that end by themselves. FAIRNESS */
	_Atomic uint32_t ls_mapped;	/* of ls_whole and ls_pins: pins whose device asks for each burst. REVOKE */
	uint32_t ls_pad[9];
	_Atomic uint32_t ls_page[512];
};
PF_MEDIA_SIZE(struct pf_l_slot, 2176);

/* Pin record, for people: `pinfsctl pins` shows it. lr_state is written last on pin, first on unpin.
 * One record belongs to one pinfs_pin(). Losing or spoiling records loses no protection. */
enum { PF_REC_FREE = 0, PF_REC_LIVE = 1 };
struct pf_l_rec {
	_Atomic uint32_t lr_state;
	uint32_t lr_tid;
	uint64_t lr_ino;
	uint64_t lr_foff;
	uint64_t lr_len;
	uint64_t lr_start_ns;		/* CLOCK_MONOTONIC */
	uint32_t lr_api;		/* enum pf_pin_api */
	uint32_t lr_slot;		/* first slot */
	char lr_label[16];		/* NUL padded */
};
PF_MEDIA_SIZE(struct pf_l_rec, 64);

/* Who asked for the pin. Transient ones last as long as one transfer; from PF_API_LONGTERM on, as long as the program
 * likes. */
enum pf_pin_api {
	PF_API_PIN = 0,			/* pinfs_pin() */
	PF_API_DMAEMU = 1,
	PF_API_DIRECT = 2,		/* read, write, ... with O_DIRECT, or on a FUSE file with direct_io */
	PF_API_LIBAIO = 3,
	PF_API_URING = 4,
	PF_API_POSIX_AIO = 5,
	PF_API_VMSPLICE = 6,
	PF_API_ZEROCOPY = 7,		/* send with MSG_ZEROCOPY */
	PF_API_PROCESS_VM = 8,
	PF_API_LONGTERM = 16,		/* pinfs_pin() with PINFS_PIN_LONGTERM */
	PF_API_VERBS = 17,
	PF_API_VFIO = 18,
	PF_API_IOMMUFD = 19,
	PF_API_V4L2 = 20,
	PF_API_URING_BUF = 21,		/* registered buffers */
	PF_API_XDP = 22,
	PF_API_NR
};

/* pf_l_hdr.lh_kick: kicks counted by clients, and whether a thread of the daemon listens to it. */
#define PF_KICK_ARMED UINT32_C(1)
#define PF_KICK_ONE UINT32_C(2)

/* pf_l_hdr.lh_rules: of the mount's policy, what the client goes by; the daemon changes it whenever it likes. */
#define PF_RULE_STUCK_WAITS UINT32_C(1)	/* deadlock=wait: who has pinned all slots of his window waits for a free one */

/* What the client says of its window, for people. */
enum pf_l_stat {
	PF_STAT_FAULTS,			/* of windows */
	PF_STAT_RECLAIMS,		/* slots taken back because another chunk needed one */
	PF_STAT_AHEAD,			/* ... before it did */
	PF_STAT_REFAULTS,		/* chunks that were wanted again soon after */
	PF_STAT_STARVED,		/* faults and pins that had to wait for a slot */
	PF_STAT_REFUSED,		/* ... and did not get one: all were pinned */
	PF_STAT_NR = 8
};

/* One page; written by the daemon before the client sees it, but for lh_rules, lh_kick and lh_stat. */
struct pf_l_hdr {
	uint64_t lh_magic;
	uint32_t lh_major;		/* PINFS_PROTO_MAJOR */
	uint32_t lh_nslot;
	uint32_t lh_nrec;
	_Atomic uint32_t lh_rules;	/* PF_RULE_* */
	uint64_t lh_slot_off;		/* byte offset of struct pf_l_slot[lh_nslot] */
	uint64_t lh_rec_off;		/* byte offset of struct pf_l_rec[lh_nrec] */
	uint64_t lh_bytes;		/* of the whole ledger */
	uint64_t lh_map_off;		/* byte offset of uint64_t[(lh_nslot + 63) / 64]: slots kicked; 0: none */
	uint8_t lh_pad2[8];
	_Atomic uint32_t lh_kick;	/* PF_KICK_*; a line of its own */
	uint8_t lh_pad3[60];
	_Atomic uint64_t lh_stat[PF_STAT_NR];	/* the client's; enum pf_l_stat */
	uint8_t lh_pad4[4096 - 192 - 8];
	uint64_t lh_trace_off;		/* byte offset of struct pf_t_ring, a multiple of the page size; 0: none */
};
PF_MEDIA_SIZE(struct pf_l_hdr, 4096);

#define PF_LEDGER_RECS 65536U
#define PF_WINDOW_MIN (UINT64_C(4) << 20)
#define PF_WINDOW_MAX (UINT64_C(1) << 40)

static inline uint32_t pf_ledger_map_words(uint32_t nslot)
{
	return nslot / 64 + (nslot % 64 != 0);
}

/* Header, slots, records, the map of kicked slots: in this order, each after the one before. Behind them, from the next
 * page on, is the ring of a trace (trace.h), which is no memory until somebody traces. */
static inline uint64_t pf_ledger_bytes(uint32_t nslot, uint32_t nrec)
{
	return sizeof(struct pf_l_hdr) + (uint64_t)nslot * sizeof(struct pf_l_slot) +
	       (uint64_t)nrec * sizeof(struct pf_l_rec) + (uint64_t)pf_ledger_map_words(nslot) * sizeof(uint64_t);
}

/* Has a page of [first, first + n) of the slot lost its translation? */
static inline bool pf_dma_gone(struct pf_l_slot *s, uint32_t first, uint32_t n)
{
	for (uint32_t w = first / 32; w <= (first + n - 1) / 32; w++) {
		uint32_t lo = w == first / 32 ? first % 32 : 0;
		uint32_t hi = w == (first + n - 1) / 32 ? (first + n - 1) % 32 : 31;

		if (atomic_load(&s->ls_gone[w]) & (UINT32_MAX >> (31 - hi)) & (UINT32_MAX << lo))
			return true;
	}
	return false;
}

static inline struct pf_l_slot *pf_dma_slot(struct pf_l_hdr *h, uint32_t slot)
{
	return (struct pf_l_slot *)(void *)((char *)h + h->lh_slot_off) + slot;
}

/* The end of a burst. Its kick has only the short way: an engine has no socket. So the daemon looks by itself, too. */
static inline void pf_dma_exit(struct pf_l_hdr *h, uint32_t slot)
{
	struct pf_l_slot *s = pf_dma_slot(h, slot);

	atomic_fetch_sub(&s->ls_dma, 1);					/* 4 */
	if (!(atomic_load(&s->ls_word) & PF_SLOT_FROZEN) || h->lh_map_off == 0)
		return;
	atomic_fetch_or((_Atomic uint64_t *)(void *)((char *)h + h->lh_map_off) + slot / 64, UINT64_C(1) << slot % 64);
	if (atomic_fetch_add(&h->lh_kick, PF_KICK_ONE) & PF_KICK_ARMED)
		(void)syscall(SYS_futex, &h->lh_kick, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
}

/*
 * An engine that has mapped a ledger at @h calls this before each burst of pages [first, first + n) of a slot, all of
 * which it has checked against their limits. True: go on, then pf_dma_exit(). False: the translation is gone, touch
 * nothing.
 */
static inline bool pf_dma_enter(struct pf_l_hdr *h, uint32_t slot, uint32_t epoch, uint32_t first, uint32_t n)
{
	struct pf_l_slot *s = pf_dma_slot(h, slot);

	atomic_fetch_add(&s->ls_dma, 1);					/* 1 */
	if (!pf_dma_gone(s, first, n) && atomic_load(&s->ls_epoch) == epoch)	/* 2, in this order */
		return true;
	pf_dma_exit(h, slot);
	return false;
}

#endif
