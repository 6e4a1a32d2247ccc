/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inval.pml - grants, the gate, invalidate and acknowledge: fs/share/layout.h and include/pinfs/PROTOCOL.md.
 *
 * One page of one inode, CLIENTS sessions. Programs store through what they have mapped at any time; a CUT takes the
 * block away and gives it to somebody else. The first scan may find a pin: then the CUT parks, the gate is open
 * meanwhile, and it starts from the top.
 *
 *   safety    no store through a mapping reaches a block that has become somebody else's
 *   progress  every fault is answered, every break ends (an invalid end state otherwise)
 *
 * Twins, each of which must be refuted:
 *   NO_GATE    the daemon grants while a break is at work
 *   TWO_READERS  a client handles answers and notifies in different threads
 *   ACK_FIRST  a client acknowledges before it has unmapped
 *   NO_DIRTY   a break that was parked does not unmap again what was granted meanwhile
 *   NO_ASIDE   a grant that meets the closed gate is dropped
 */
#define CLIENTS 2
#define FAULTS 2		/* of each client */
#define CUTS 2

mtype = { MAP, INVAL };

chan down[CLIENTS] = [3] of { mtype, byte };	/* daemon -> client, in order */
chan ack[CLIENTS] = [3] of { byte };
chan fault = [4] of { byte };			/* clients -> daemon */
#ifdef TWO_READERS
chan note[CLIENTS] = [3] of { byte };
#endif

byte under = 1;
bool foreign[CUTS + 2];
bool shown[CLIENTS];		/* the client has a grant: it must be told */
bool dirty;
bool closed;			/* the gate */
byte inside;
byte cuts_left = CUTS;

/* A client: its reader, and the program that it serves. mapped 0: a touch faults. */
byte mapped[CLIENTS];
bool waits[CLIENTS];
byte faults[CLIENTS];

proctype reader(byte me)
{
	byte b;

end:	do
	:: atomic { down[me]?MAP(b) -> mapped[me] = b; waits[me] = false }
#ifndef TWO_READERS
	:: down[me]?INVAL(b) ->
#ifdef ACK_FIRST
		ack[me]!b;
		mapped[me] = 0
#else
		mapped[me] = 0;
		ack[me]!b
#endif
#endif
	od
}

#ifdef TWO_READERS
proctype notes(byte me)
{
	byte b;

end:	do
	:: note[me]?b -> mapped[me] = 0; ack[me]!b
	od
}
#endif

proctype program(byte me)
{
	do
	:: atomic { mapped[me] != 0 -> assert(!foreign[mapped[me]]) }		/* a store */
	:: atomic { mapped[me] == 0 && !waits[me] && faults[me] < FAULTS ->
		   waits[me] = true; faults[me]++; fault!me }
	:: atomic { !waits[me] && faults[me] == FAULTS && cuts_left == 0 } -> break
	od
}

inline grant(c)
{
	down[c]!MAP(under);
	shown[c] = true;
#ifndef NO_DIRTY
	dirty = true;
#endif
	inside--
}

/* A worker of the daemon. A fault that meets the closed gate is put aside: it stays here until the gate opens. */
proctype worker()
{
	byte c;

end:	do
	:: fault?c ->
		if
		:: atomic { !closed -> inside++ }; grant(c)
#ifdef NO_GATE
		:: atomic { closed -> inside++ }; grant(c)
#endif
#ifdef NO_ASIDE
		:: closed
#endif
		fi
	od
}

proctype breaker()
{
	byte c, a;
	bool may_park, told[CLIENTS];

	do
	:: cuts_left == 0 -> break
	:: else ->
		may_park = true;
		dirty = true;
top:
		closed = true;
		inside == 0;
		if
		:: dirty ->
			dirty = false;
			for (c : 0 .. CLIENTS - 1) {
				told[c] = shown[c];
				if
#ifdef TWO_READERS
				:: told[c] -> note[c]!0
#else
				:: told[c] -> down[c]!INVAL(0)
#endif
				:: else
				fi
			}
			for (c : 0 .. CLIENTS - 1) {
				if
				:: told[c] -> ack[c]?a
				:: else
				fi
			}
		:: else
		fi;
		if
		:: may_park ->		/* a pin: park, the gate is open, the unpin comes */
			may_park = false;
			closed = false;
			goto top
		:: skip
		fi;
		foreign[under] = true;
		under++;
		cuts_left--;
		closed = false
	od
}

init {
	byte c;

	atomic {
		for (c : 0 .. CLIENTS - 1) {
			run reader(c);
			run program(c);
#ifdef TWO_READERS
			run notes(c)
#endif
		}
		run worker();
		run breaker()
	}
}
