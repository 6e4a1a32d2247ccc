/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handshake.pml - the pin/freeze handshake of include/pinfs/ledger.h, and the wake-up of a parked break.
 *
 * One page of one slot, PINNERS threads that each pin, do DMA, unpin, and start again; one break after another takes
 * the block away and gives it to somebody else. Stores to the ledger are sequentially consistent, as Promela's are.
 *
 *   safety    a device never writes to a block that has become somebody else's
 *   progress  a break that found a pin is woken: nobody is left waiting when the pinners are done (an invalid end state)
 *
 * Twins, each of which must be refuted:
 *   BLIND       no second look at the word
 *   PIN_LATE    the second look comes before the count
 *   SCAN_FIRST  the break scans before it freezes
 *   NO_GEN      the word does not change with the blocks: a whole break fits between the two looks
 *   LOOK_FIRST  an unpin looks at the word before it subtracts
 *   THAW_PARKED slots are thawed while a break is parked
 */
#define PINNERS 2
#define ROUNDS 2	/* pins of each thread */
#define CUTS 2
#define FROZEN 1
#define GEN 2

byte word;			/* ls_word: generation | FROZEN; written by the breaker alone */
byte count;			/* ls_page[] */
byte under = 1;			/* block under the page, as the file has it */
bool foreign[CUTS + 2];		/* the block is somebody else's now */
bool kick;			/* PF_P_KICK has been sent */

/* What the client believes: sl_word and sl_page, written together by one thread from the daemon's answer. */
byte sl_word;
byte sl_page = 1;

proctype pinner()
{
	byte w, b, seen;
	byte rounds;

	do
	:: rounds == ROUNDS -> break
	:: else ->
		rounds++;
		/* The cached look-up: consistent in itself, maybe old. */
		atomic { w = sl_word; b = sl_page }
again:
		seen = word;					/* 1 */
		if
		:: seen != w ->
			/* Slow path, inside the gate: told what is, or to go away while a break is on. */
			atomic {
				if
				:: (word & FROZEN) != 0 -> goto out	/* EAGAIN */
				:: else -> sl_word = word; sl_page = under; w = word; b = under
				fi
			}
			goto again
		:: else
		fi;
#ifdef PIN_LATE
		seen = word;
		count++;
#else
		count++;					/* 2 */
#ifndef BLIND
		seen = word;					/* 3 */
#endif
#endif
		if
		:: seen != w -> skip				/* undo: an unpin that told nobody an address */
		:: else ->
			assert(!foreign[b]);			/* the device starts */
			assert(!foreign[b])			/* ... and ends */
		fi;
#ifdef LOOK_FIRST
		seen = word;
		count--;
#else
		count--;
		seen = word;
#endif
		if
		:: seen & FROZEN -> kick = true
		:: else
		fi;
out:		skip
	od
}

proctype breaker()
{
	byte cuts;

	do
	:: cuts == CUTS -> break
	:: else ->
#ifdef SCAN_FIRST
		(count == 0);
		word = word | FROZEN;
		goto work;
#endif
		word = word | FROZEN;				/* a */
scan:		/* a kick that comes from here on is for the next scan */
		kick = false;
		if						/* c */
		:: count == 0 -> goto work
		:: else ->
#ifdef THAW_PARKED
			word = word & ~FROZEN;
#endif
			kick;					/* parked */
#ifdef THAW_PARKED
			word = word | FROZEN;
#endif
			goto scan
		fi;
work:
		foreign[under] = true;
		under++;
#ifndef NO_GEN
		word = word + GEN;
#endif
		word = word & ~FROZEN;
		cuts++
	od
}

init {
	atomic {
		run pinner();
		run pinner();
		run breaker()
	}
}
