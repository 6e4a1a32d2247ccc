/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pause.h - points at which a test can make an operation stand still, so that an interleaving is made, not hoped for.
 *
 * Only with -o pause_points is there anything here: without it fs->pause is NULL, and a point costs one load. What
 * stands is an entry in a list (struct pf_stand), never a thread: whoever meets an armed point returns, and go() takes
 * it up again when it is let go. What may happen meanwhile is what may happen anyway while its thread is not scheduled;
 * a message that stands is one that comes later. Nobody stands any more once the mount is going away.
 *
 * PF_ORDER(NAME) is true in the programs, at no cost. Tests link a daemon compiled with PF_STEPS, in which pf_order_out
 * names the one rule that does not hold; tests/pin/test_pause.c shows for each of them what comes of it.
 */
#ifndef PF_BASE_PAUSE_H
#define PF_BASE_PAUSE_H

#include <sys/types.h>
#include <pinfs/compiler.h>
#include "base/fs.h"

#define PF_POINT_LIST(X)                                                                                     \
	X(UNMAP, "unmap", "a break has the gate closed; nothing is frozen or unmapped")                      \
	X(SCAN, "scan", "all clients have unmapped; pins were not looked for")                               \
	X(SLEEP, "sleep", "a pin was found; the break does not wait for it yet")                             \
	X(WAKE, "wake", "it was woken up, and has the gate closed again")                                    \
	X(FREE, "free", "no pin was found; the file has its blocks")                                         \
	X(OPEN, "open", "the blocks are gone; the gate is closed, the caller has no answer")                 \
	X(GRANT, "grant", "a fault or slow pin is inside the gate, and has no answer")                       \
	X(ACK, "ack", "an acknowledgement has come, and is not counted")                                     \
	X(KICK, "kick", "a client has said that pins ended, and was not heard")

#define PF_POINT_ENUM(id, name, what) PF_AT_##id,
enum pf_point { PF_POINT_LIST(PF_POINT_ENUM) PF_AT_NR };
extern const char *const pf_point_name[PF_AT_NR];

struct pf_stand {
	/* Set before the first pf_pause(); all else 0. */
	uint64_t ino;
	pid_t pid;				/* who asked for the operation */
	const char *what;			/* static */
	void (*go)(struct pf_stand *s);		/* let go: no lock is held */

	/* Private. */
	struct pf_stand *next;
	uint64_t turn, since_ns;
	enum pf_point at;
	bool stands, let;
};

int pf_pause_init(struct pf_fs *fs) PF_MUST_CHECK;	/* -ENOMEM */
void pf_pause_fini(struct pf_fs *fs);			/* nobody stands any more */
/* Let all go, and stop nobody from now on. */
void pf_pause_end(struct pf_fs *fs);

/*
 * True: @s has to stand, or stands already; go() is called when it may go on, and the next call is false. *begun: it
 * did not stand before. The caller holds what keeps @s alive, and go() must not be able to overtake it.
 */
bool pf_pause_at(struct pf_fs *fs, struct pf_stand *s, enum pf_point at, bool *begun);
/* It is ending otherwise. True: it stood, and go() will not be called. */
bool pf_pause_leave(struct pf_fs *fs, struct pf_stand *s);

static inline bool pf_pause(struct pf_fs *fs, struct pf_stand *s, enum pf_point at, bool *begun)
{
	return fs->pause != NULL && pf_pause_at(fs, s, at, begun);
}

/* Whoever comes to @at from now on stands: of one inode only (@ino not 0), the next @count only (not 0). -EINVAL: no
 * such point. -EOPNOTSUPP: the mount has none. */
int pf_pause_arm(struct pf_fs *fs, const char *point, uint64_t ino, uint64_t count) PF_MUST_CHECK;
/* Disarm, and let go who stands: at one point, or everywhere (""), of one inode or all. */
int pf_pause_resume(struct pf_fs *fs, const char *point, uint64_t ino) PF_MUST_CHECK;

/* Who stands, in the order in which they came, and what is armed: snapshots. */
struct pf_standing { uint64_t ino, since_ns; const char *what; enum pf_point at; pid_t pid; };
unsigned int pf_pause_standing(struct pf_fs *fs, struct pf_standing *out, unsigned int max);
struct pf_armed { bool on; uint64_t ino, left, stood; };	/* left 0: no limit */
void pf_pause_armed(struct pf_fs *fs, struct pf_armed out[PF_AT_NR]);

#define PF_ORDER_LIST(X)                                                                                     \
	X(UNMAP_FIRST, "pins are looked for when the slots are frozen and everybody has unmapped")           \
	X(GATE, "faults and slow pins wait while the gate is closed")                                        \
	X(ARM_FIRST, "slots are frozen from before the scan until the break has gone to sleep")              \
	X(UNMAP_AGAIN, "what was granted while the break slept is unmapped before the next scan")            \
	X(SCAN_AGAIN, "after a wake-up pins are looked for again")                                           \
	X(BURSTS, "blocks of a revoked lease are given away when the bursts of devices have ended")          \
	X(TELL_ASKER, "who asked for blocks, and gets an error, forgets the holes that may have been filled")

#define PF_ORDER_ENUM(name, what) PF_ORDER_##name,
enum pf_order { PF_ORDER_LIST(PF_ORDER_ENUM) PF_ORDER_NR };

#ifdef PF_STEPS
extern _Atomic int pf_order_out;	/* PF_ORDER_NR: none */
#define PF_ORDER(name) (pf_order_out != PF_ORDER_##name)
#else
#define PF_ORDER(name) 1
#endif

#endif
