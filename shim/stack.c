/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stack.c - PINFS_PIN_STACK=1: each pin leaves the addresses of its callers beside its record in the ledger, and each
 * lease sends them along. The memory in the ledger is mapped only then. Owns that mapping; takes no lock. Who they are
 * is for pinfsctl to say.
 */
#include "trace.h"

#include <execinfo.h>
#include <string.h>
#include <sys/syscall.h>

#define OURS 8			/* frames that may be the library's own, at most */

/* The first call loads the unwinder, which allocates: before the program's allocator may live in a window. */
void sh_stack_init(void)
{
	void *pc[1];

	(void)backtrace(pc, 1);
	sh.pin_stack = true;
}

void sh_stack_map(struct sh_session *s)
{
	const uint64_t bytes = (uint64_t)s->nrec * sizeof(struct pf_t_stack);
	void *p;

	if (!sh.pin_stack || s->trace_off == 0 ||
	    !pf_range_ok(s->trace_off + PF_T_RING_BYTES, bytes, s->ledger_file_bytes))
		return;
	p = sh_mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->ledfd, s->trace_off + PF_T_RING_BYTES);
	if (sh_mmap_err(p) != 0) {
		sh_log(SH_WARN, "no memory for the stacks of pins");
		return;
	}
	(void)sh_sys(SYS_madvise, p, (size_t)bytes, MADV_DONTFORK);
	s->stacks = p;
	atomic_fetch_or(&sh_life.trace, SH_TRACE_STACKS);
}

/* The callers; the innermost are the library's own. */
static void fill(struct pf_t_stack *st)
{
	void *pc[PF_T_FRAMES + OURS];
	int n = backtrace(pc, PF_T_FRAMES + OURS);

	for (int i = 0; i < (int)PF_T_FRAMES; i++)
		st->ts_pc[i] = i + 1 < n ? sh_addr(pc[i + 1]) : 0;	/* but for this function */
}

void sh_stack_note(const struct pinfs_pin *p)
{
	if (p->ses->stacks != NULL && p->rec != NULL)
		fill(&p->ses->stacks[p->rec - p->ses->lrecs]);
}

size_t sh_stack_send(struct pf_t_stack *st)
{
	if (!sh.pin_stack)
		return 0;
	fill(st);
	return sizeof *st;
}
