/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * revoke.pml - a device's bursts against a revoke: the emulated IOMMU of include/pinfs/ledger.h.
 *
 * One page under a lease whose holder does not react, ENGINES devices that each make burst after burst through the
 * translation that they were given, a client that ends its void pin some time, and a daemon that revokes, gives the
 * block away, and then makes the slot another chunk's, with new translations.
 *
 *   safety    no byte of a burst reaches the block once it is somebody else's, nor the next chunk's by an old translation
 *   progress  the revoke ends when the bursts that it found have ended (an invalid end state otherwise)
 *
 * Twins, each of which must be refuted:
 *   LOOK_FIRST   an engine looks at the translation before it counts itself in
 *   OUT_EARLY    an engine counts itself out before its bytes have moved
 *   SCAN_FIRST   the daemon looks for bursts before it takes the translation away
 *   NO_WAIT      the daemon does not look for bursts
 *   NO_KICK      an engine that ends a burst tells nobody
 *   THAW_FIRST   the slot is not frozen while the daemon waits
 *   OLD_EPOCH    a new chunk's translations are told from the old one's by nothing
 *   CLEAR_FIRST  the bits are cleared before the epoch changes
 *   EPOCH_FIRST  an engine looks at the epoch before the bits
 */
#define ENGINES 2
#define BURSTS 2

byte dma;			/* ls_dma */
bool gone;			/* the page's bit of ls_gone */
byte epoch;			/* ls_epoch */
bool frozen;			/* of ls_word */
bool kick;
bool pinned = true;		/* by the client, void or not */
bool revoked;			/* the client has been told */
bool foreign;			/* the block under the old translation is somebody else's */

inline look()
{
#ifdef EPOCH_FIRST
	ok = (epoch == 0);
	ok = ok && !gone
#else
	ok = !gone;
#ifndef OLD_EPOCH
	ok = ok && epoch == 0
#endif
#endif
}

proctype engine()
{
	byte n;
	bool ok, kicks;

	do
	:: n == BURSTS -> break
	:: else ->
		n++;
#ifdef LOOK_FIRST
		look();
		dma++;
#else
		dma++;						/* 1 */
		look();						/* 2 */
#endif
#ifdef OUT_EARLY
		dma--;
#endif
		if
		:: ok ->
			assert(!foreign);			/* 3: the first byte */
			assert(!foreign)			/* ... and the last */
		:: else
		fi;
#ifndef OUT_EARLY
		dma--;						/* 4 */
#endif
		kicks = frozen;
#ifndef NO_KICK
		if
		:: kicks -> kick = true
		:: else
		fi
#endif
	od
}

proctype client()
{
	revoked;
	pinned = false
}

proctype daemon()
{
#ifndef THAW_FIRST
	frozen = true;
#endif
#ifdef SCAN_FIRST
	(dma == 0);
	gone = true;
#else
	gone = true;						/* a */
	revoked = true;
scan:
	kick = false;
#ifndef NO_WAIT
	if							/* b */
	:: dma == 0
	:: else -> kick; goto scan
	fi;
#endif
#endif
	revoked = true;
	foreign = true;						/* c */
	frozen = false;
	/* REMOVEMAPPING: then the slot is another chunk's. */
	!pinned;
#ifdef CLEAR_FIRST
	gone = false;
	epoch++
#else
	epoch++;
	gone = false
#endif
}

init {
	byte i;

	atomic {
		for (i : 1 .. ENGINES) {
			run engine()
		}
		run client();
		run daemon()
	}
}
