/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.c - bytes of the device that are not there any more: its file was truncated under us, the medium is poisoned.
 *
 * Touching them is a SIGBUS, anywhere in the process. The handler puts a private page of zeros there, so that the
 * thread goes on, and sets a state in which nothing that it read or wrote counts any more: drains fail, so no commit
 * succeeds, and every call is refused. Nothing is wrapped, nothing is saved beforehand, so it costs nothing until it
 * happens. Owns the process's SIGBUS handler; takes no lock; everything in the handler is async-signal-safe.
 *
 * What this does not cover: an answer to read(2) that is being copied at that very instant may be of zeros.
 */
#include "media/pmem.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

static struct {
	struct pf_pm *_Atomic pm;
	_Atomic int *state;
	int value, fd;
} guard;

static void on_bus(int sig, siginfo_t *si, void *ctx)
{
	struct pf_pm *pm = atomic_load(&guard.pm);
	const uintptr_t grain = pm != NULL && pf_pm_whole(pm) ? (uintptr_t)pm->grain : PF_BLK_SIZE;
	uintptr_t at = (uintptr_t)si->si_addr, page = at & ~(grain - 1), base;
	const uint64_t one = 1;
	int keep = errno;

	(void)ctx;
	base = pm != NULL ? (uintptr_t)pm->base : 0;
	if (pm == NULL || at < base || at - base >= pm->bytes ||
	    mmap((void *)page, grain, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		    MAP_FAILED) {
		(void)signal(sig, SIG_DFL);	/* not ours: it happens again, and ends us as it should */
		return;
	}
	if (!atomic_exchange(&pm->gone, true)) {
		atomic_store(&pm->gone_at, page - base);
		atomic_store(guard.state, guard.value);
		(void)!write(guard.fd, &one, sizeof one);
	}
	errno = keep;
}

int pf_pm_guard(struct pf_pm *pm, _Atomic int *state, int value, int fd)
{
	struct sigaction sa = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER };

	guard.state = state;
	guard.value = value;
	guard.fd = fd;
	atomic_store(&guard.pm, pm);
	(void)sigemptyset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, NULL) == 0 ? 0 : -errno;
}

void pf_pm_unguard(struct pf_pm *pm)
{
	struct pf_pm *mine = pm;

	if (atomic_compare_exchange_strong(&guard.pm, &mine, NULL))
		(void)signal(SIGBUS, SIG_DFL);
}
