/* SPDX-License-Identifier: BSD-3-Clause */
/* pin.h - a pin object, shared by the fast path (pin.c) and the slow one (pinslow.c). */
#ifndef SH_PIN_H
#define SH_PIN_H

#include "sh.h"

struct sh_piece {
	struct sh_slot *slot;
	uint32_t first, n;		/* pages of the chunk */
};

#define SH_PIECES 3U			/* without memory of its own: up to 4 MiB anywhere */

/* Pin i of a session owns ledger record i; pins beyond the records have none, which only hides them from pinfsctl.
 * Neighbours are different threads': they share no cache line. */
struct pinfs_pin {
	_Alignas(64) struct sh_session *ses;
	struct pf_l_rec *rec;
	uint32_t epoch;			/* of the process that made it */
	uint32_t live;
	uint32_t flags;
	uint16_t give;			/* enum sh_give */
	uint16_t brief;			/* it is counted as one that ends by itself */
	uint32_t npiece;
	uint16_t raw;			/* its owner has been told the addresses */
	uint16_t mapped;		/* it is in ls_mapped */
	uint64_t ino, foff, len, start_ns;	/* whole pages */
	union {
		uint64_t room;		/* live: of piece[], when it is not own[] */
		struct pinfs_pin *next;	/* free list */
	};
	struct sh_piece *piece, own[SH_PIECES];
};

/* On its way to another process with the lease that it lies under; or gone. */
enum sh_give { SH_GIVE_NONE, SH_GIVE_UNDER_WAY, SH_GIVE_GONE };

/* Scatter list under construction. need counts what there is no room for as well. */
struct sh_sgs {
	struct pinfs_sg *sg;
	size_t room, need;
	struct pinfs_sg last;
};

/* What one pinfs_pin() call wants. Byte range; the pages are those it touches. */
struct sh_ask {
	uint64_t addr, len;
	unsigned int flags;		/* PINFS_PIN_*, SH_ASK_* */
	enum pf_pin_api api;		/* who asks */
	struct sh_sgs *sgs;		/* or NULL */
};
#define SH_ASK_HOLES (1U << 16)		/* a hole that is only read is counted, too */
#define SH_ASK_BRIEF (1U << 18)		/* it ends by itself: FAIRNESS in ledger.h */
#define SH_ASK_PRIVATE (1U << 17)	/* of a private window: the caller has looked that these pages are no copies */

void sh_sg_add(struct sh_sgs *l, uint64_t doff, uint64_t foff, uint64_t len);
/* Add to the counters. The caller checks the word before and after. */
void sh_count(struct sh_slot *sl, uint32_t first, uint32_t n, bool brief);
void sh_uncount(struct sh_slot *sl, uint32_t first, uint32_t n, bool brief);
/* A pin does not end by itself any more: whoever waits there hears of it. */
void sh_not_brief(struct sh_slot *sl);
/* Here a test may do what another thread or the daemon could do. */
static inline void sh_gap(void)
{
	if (__builtin_expect(sh.pin_test & SH_TEST_GAP, 0))
		sh.pin_gap();
}
/* Its device asks for each burst, or does not any more: REVOKE in ledger.h. The lock is held, or it is the owner's. */
void sh_mapped(struct pinfs_pin *p, bool mapped);
/* The second look of the handshake. */
static inline bool sh_still(const struct sh_slot *sl, uint32_t word, uint32_t seq)
{
	return (atomic_load(&sl->sl_led->ls_word) == word && atomic_load(&sl->sl_seq) == seq) ||
	       (sh.pin_test & SH_TEST_BLIND);
}
struct pinfs_pin *sh_pin_take(struct sh_tls *t, struct sh_session *s);	/* NULL: no memory */
void sh_pin_give(struct sh_tls *t, struct pinfs_pin *p);
void sh_pin_publish(struct sh_tls *t, struct pinfs_pin *p, enum pf_pin_api api, uint64_t ino, uint64_t foff,
		    uint64_t len);
bool sh_pin_fast(struct sh_tls *t, const struct sh_ask *a, struct pinfs_pin **out);
int sh_pin_slow(struct sh_tls *t, const struct sh_ask *a, struct pinfs_pin **out);
/* Have serve bring the page in: the slot of its chunk is up to date then. Nothing is held. */
int sh_bring(struct sh_file *f, uint64_t foff, bool write);
/* lease.c: no device may work by way of this pin any more; there is nothing for its owner to do but to end it. */
bool sh_pin_void(const struct pinfs_pin *p);
/* pinfs_pin() for whoever stands behind @a->api; the arguments are checked. */
int sh_pin_ask(const struct sh_ask *a, struct pinfs_pin **out);
/* The daemon hears that so many pages of long-term pins are not counted any more; waits for its answer. */
void sh_long_ended(struct sh_session *s, uint64_t npage);

#endif
