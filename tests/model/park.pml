/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * park.pml - blocks that have left their file and are given to nobody: on_busy=defer, quarantine, and crashes of the
 * daemon in between.
 *
 * One block, one client process with a device that works on it. The daemon keeps the list of parked blocks in memory
 * alone; what outlives it is the shared lock that the client's descriptor has on the device.
 *
 *   safety    while the process may still store to the block, or its device write to it, nobody else has it
 *   progress  a parked block comes back when nobody can touch it any more, also after a crash
 *
 * Twins, each of which must be refuted:
 *   NO_LOCK      a new daemon does not look at the lock
 *   CUT_OFF      the block comes back when the connection is gone, not the process
 *   FIRST_UNPIN  defer: the block comes back with the first unpin
 *   NO_PARK      a client that does not acknowledge in time is forgotten
 *   RESUME       a mapping is not taken away from a client that wakes up late (no acknowledgement is asked for)
 */
mtype = { FILE, PARKED, FREE, OTHER };

mtype block = FILE;
byte pins = 2;			/* of two transfers on the page */
bool mapped = true;		/* the process can store to the block */
bool alive = true;		/* the process; its end is the end of mapping, pins, lock and connection */
bool stopped;
bool asked;			/* an invalidate waits in the socket */
bool acked;
bool connected = true;

/* The process, its device, and whoever stops, continues and kills it. */
proctype client()
{
	do
	:: atomic { alive && !stopped && mapped -> assert(block != OTHER) }			/* a store */
	:: atomic { alive && pins > 0 -> assert(block != OTHER) }	/* DMA goes on though the process is stopped */
	:: atomic { alive && pins > 0 -> pins-- }
	:: atomic { alive && !stopped && asked && connected -> mapped = false; asked = false; acked = true }
	:: atomic { alive && !stopped && !connected -> mapped = false }	/* it hears the hangup */
	:: atomic { alive && !stopped -> stopped = true }
	:: atomic { alive && stopped -> stopped = false }
	:: atomic { alive -> alive = false; mapped = false; pins = 0; connected = false }
	:: atomic { !alive -> break }
	od
}

/* truncate under on_busy=defer: unmap, ask, go on without waiting for pins or longer than revoke_timeout for the answer. */
proctype daemon()
{
	atomic { asked = connected };
	if
	:: acked
	:: !alive
	:: !connected
	:: !acked		/* revoke_timeout */
	:: goto crash
	fi;
	atomic {
		if
#ifdef NO_PARK
		:: pins == 0 -> block = FREE
		:: else -> block = PARKED
#else
		:: !alive || (acked && pins == 0) -> block = FREE
		:: else -> block = PARKED
#endif
		fi
	}
	do
	:: atomic { block == PARKED && !alive -> block = FREE }
#ifdef CUT_OFF
	:: atomic { block == PARKED && !connected -> block = FREE }
#endif
#ifdef FIRST_UNPIN
	:: atomic { block == PARKED && acked && pins < 2 -> block = FREE }
#endif
#ifdef RESUME
	:: atomic { block == PARKED && pins == 0 -> block = FREE }
#endif
	:: atomic { block == PARKED && acked && connected && pins == 0 -> block = FREE }
	:: atomic { block == FREE -> block = OTHER }	/* the next file */
	:: block == OTHER -> break
	:: connected -> connected = false		/* the socket is cut */
	:: goto crash
	od;
	goto out;
crash:
	/* The list is gone. The truncate was durable or not; what no file has is free for a new daemon. */
	atomic {
		connected = false;
		if
		:: block == PARKED -> block = FREE
		:: else
		fi
	}
#ifndef NO_LOCK
	!alive;						/* the lock */
#endif
	if
	:: block == FILE -> block = FREE		/* replay finishes the truncate */
	:: else
	fi;
	if
	:: block == FREE -> block = OTHER
	:: else
	fi;
out:	assert(block == OTHER)				/* nothing is lost for ever */
}

init {
	atomic {
		run client();
		run daemon()
	}
}
