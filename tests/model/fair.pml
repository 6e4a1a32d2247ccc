/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fair.pml - who may have pins while a truncate waits: FAIRNESS in include/pinfs/ledger.h.
 *
 * One slot of one session, frozen: a truncate waits for it. It has brief pins, which end by themselves, and maybe one that
 * is not and whose owner needs another pin before he ends it. Threads ask for pins, which the daemon grants or puts
 * off. One brief pin may turn out not to be brief. The client's four steps and the daemon's two loads interleave.
 *
 *   safety    as long as all pins are brief, no other is granted: the truncate is not kept waiting
 *   progress  nobody waits for ever (an invalid end state): neither the truncate, nor the owner, nor who asks
 *
 * Twins, each of which must be refuted:
 *   NO_RECHECK  a kick has the daemon look at the counters, and not at the pins that wait
 *   KICK_EARLY  the kick comes before ls_brief is lowered
 *   SILENT      a pin that is not brief any more is not told of
 *   ALL_BRIEF   the client says brief of the one that its program ends
 *   ANY_PIN     whatever pin a session has, it is granted more
 */
#define ASKERS 2

byte pins = 2;			/* ls_pins: two brief ones, to begin with */
byte brief = 2;			/* ls_brief */
bool mine;			/* the owner's pin is counted, too */
bool doubtful;			/* one that was brief is not, and its program needs a pin to end it */
byte granted;			/* pins of the askers that there have been */
byte waits;			/* askers put off */
bool woken[ASKERS];
bool kick;
bool over;			/* the truncate */

inline ask_daemon(keeps)
{
	byte b_, p_;

	b_ = brief;						/* a */
	p_ = pins;						/* b */
#ifdef ANY_PIN
	keeps = p_ > 0
#else
	keeps = p_ > b_
#endif
}

/* A transfer ends. */
proctype transfer()
{
	pins--;							/* 3 */
#ifdef KICK_EARLY
	kick = true;
	brief--
#else
	brief--;						/* 4 */
	kick = true
#endif
}

/* Or its end cannot be seen any more: the program has to do something, for which it needs a pin. */
proctype lost_sight()
{
	doubtful = true;
	brief--;						/* 4 alone */
#ifndef SILENT
	kick = true;
#endif
	(granted > 0 || over);
	pins--;
	kick = true
}

proctype owner()
{
	(granted > 0 || over);
	pins--;
#ifdef ALL_BRIEF
	brief--;
#endif
	kick = true
}

/* LAYOUT is one lock: what the daemon does for a message is one step, but for what clients do meanwhile. */
bool layout;
inline lock() { atomic { !layout -> layout = true } }
inline unlock() { layout = false }

proctype asker(byte me)
{
	bool keeps;

	do
	:: over -> break
	:: else ->
		lock();
		ask_daemon(keeps);
		if
		:: over -> unlock(); break
		:: !over && keeps ->
			assert(mine || doubtful);
			atomic { pins++; brief++; granted++ };
			unlock();
			pins--;
			brief--;
			kick = true;
			break
		:: !over && !keeps ->
			waits = waits | (1 << me);
			unlock();
			woken[me];
			woken[me] = false
		fi
	od
}

proctype daemon()
{
	bool keeps;

	do
	:: kick ->
		kick = false;
		lock();
#ifndef NO_RECHECK
		ask_daemon(keeps);
		if
		:: keeps && waits ->
			woken[0] = woken[0] || (waits & 1);
			woken[1] = woken[1] || (waits & 2);
			waits = 0
		:: else
		fi;
#endif
		if
		:: pins == 0 ->
			over = true;
			woken[0] = woken[0] || (waits & 1);
			woken[1] = woken[1] || (waits & 2);
			waits = 0;
			unlock();
			break
		:: else
		fi;
		unlock()
	od
}

init {
	atomic {
		if
		:: mine = true;
		   pins++;
#ifdef ALL_BRIEF
		   brief++;
#endif
		   run owner()
		:: true
		fi;
		run transfer();
		if
		:: run transfer()
		:: run lost_sight()
		fi;
		run asker(0);
		run asker(1);
		run daemon()
	}
}
