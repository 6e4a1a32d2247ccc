/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kick.pml - the short way of a kick (include/pinfs/ledger.h): a map, a word with a count, a futex, and a listener that
 * may stop listening.
 *
 * Two unpinners of one frozen slot, one listener. The truncate is parked; it goes on when somebody who knows of the
 * slot looks and finds no pin. futex_waitv() sleeps while the word is what it was told, and FUTEX_WAKE ends that.
 *
 *   safety    when all have come to rest and no pin is left, the truncate has gone on (else it would wait for ever)
 *
 * Twins, each of which must be refuted:
 *   LATE_LOAD    the listener loads the word after it has taken the map
 *   BUMP_FIRST   the unpinner counts in the word before it sets its bit
 *   NO_LAST_LOOK the listener stops listening without taking the map once more
 *   OLD_ARMED    the unpinner looks whether it is listened to before it counts
 */
byte pins = 2;
bool mark, armed;
byte word;
bool asleep;			/* the listener is in futex_waitv() */
bool went;			/* the truncate has gone on */
byte socket;			/* messages on their way */
byte left = 2;			/* unpinners that are not done */
bool rests;			/* the listener does nothing any more */

inline kicked()
{
	if
	:: pins == 0 -> went = true
	:: else
	fi
}

inline take()
{
	atomic {
		taken = mark;
		mark = false
	}
	if
	:: taken -> atomic { kicked(); taken = false }
	:: else
	fi
}

proctype unpinner()
{
	bool saw;

	pins--;
#ifdef OLD_ARMED
	saw = armed;
	mark = true;
	word++;
#elif defined(BUMP_FIRST)
	atomic { saw = armed; word++ }
	if
	:: saw -> asleep = false
	:: else
	fi;
	mark = true;
#else
	mark = true;
	atomic { saw = armed; word++ }		/* one fetch_add */
#endif
	if
	:: saw -> asleep = false		/* FUTEX_WAKE */
	:: else -> socket++
	fi;
	left--
}

proctype listener()
{
	byte seen;
	bool taken;

	/* Two lives of a place. The slot is frozen before. */
	byte life = 0;
	do
	:: life == 2 -> break
	:: else ->
		armed = true;
		do
		:: true ->
#ifdef LATE_LOAD
			take();
			seen = word;
#else
			seen = word;
			take();
#endif
			/* sleeps only if the word is what it was */
			atomic {
				if
				:: word == seen -> asleep = true
				:: else
				fi
			}
			(!asleep || left == 0);
			if
			:: asleep && left == 0 -> goto rest	/* nobody will ever wake it */
			:: else
			fi
		:: life == 0 -> break			/* somebody else needs the place */
		od;
		atomic { armed = false }
#ifndef NO_LAST_LOOK
		take();
#endif
		life++;
		if
		:: true
		:: goto rest				/* and it is not asked for again */
		fi
	od;
rest:
	rests = true
}

/* The worker that reads the socket. */
proctype worker()
{
end:	do
	:: atomic { socket > 0 -> socket--; kicked() }
	od
}

init {
	atomic {
		run unpinner();
		run unpinner();
		run listener();
		run worker()
	}
	atomic { left == 0 && socket == 0 && rests -> assert(went) }
}
