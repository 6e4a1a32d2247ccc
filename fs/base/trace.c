/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * trace.c - the ring of the daemon's own events. Owns struct pf_trace, which exists only while somebody traces.
 *
 * One lock (LEAF) for all mounts: a process has one, and tests a few. Being one, it also protects the pointer, so an
 * event that is late for the end of a trace finds none.
 */
#include "base/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include "base/lock.h"

#define NAME(name, word) [PF_TE_##name] = (word),
const char *const pf_t_name[PF_TE_NR] = { [PF_TE_NONE] = "?", PF_T_EVENTS(NAME) };
#undef NAME

struct pf_trace {
	uint64_t head;			/* the next number */
	struct pf_t_ev *ev;		/* PF_T_CELLS; memory that is touched as it is needed */
};

static struct pf_mutex trace_lock = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = PF_RANK_LEAF };

uint64_t pf_trace_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

uint64_t pf_trace_begin(struct pf_fs *fs)
{
	return atomic_load_explicit(&fs->tracing, memory_order_relaxed) ? pf_trace_now() : 0;
}

int pf_trace_start(struct pf_fs *fs)
{
	struct pf_trace *t = calloc(1, sizeof *t);

	if (!t)
		return -ENOMEM;
	t->ev = mmap(NULL, PF_T_CELLS * sizeof *t->ev, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (t->ev == MAP_FAILED) {
		free(t);
		return -ENOMEM;
	}
	pf_mutex_lock(&trace_lock);
	fs->trace = t;
	pf_mutex_unlock(&trace_lock);
	atomic_store(&fs->tracing, true);
	return 0;
}

void pf_trace_quiet(struct pf_fs *fs)
{
	atomic_store(&fs->tracing, false);
}

void pf_trace_stop(struct pf_fs *fs)
{
	struct pf_trace *t;

	atomic_store(&fs->tracing, false);
	pf_mutex_lock(&trace_lock);
	t = fs->trace;
	fs->trace = NULL;
	pf_mutex_unlock(&trace_lock);
	if (t)
		(void)munmap(t->ev, PF_T_CELLS * sizeof *t->ev);
	free(t);
}

unsigned int pf_trace_take(struct pf_fs *fs, uint64_t *at, struct pf_t_ev *out, unsigned int max, uint64_t *lost)
{
	struct pf_trace *t;
	unsigned int n = 0;

	pf_mutex_lock(&trace_lock);
	t = fs->trace;
	if (t && t->head > PF_T_CELLS && *at < t->head - PF_T_CELLS) {
		*lost += t->head - PF_T_CELLS - *at;
		*at = t->head - PF_T_CELLS;
	}
	while (t && *at < t->head && n < max)
		out[n++] = t->ev[(*at)++ % PF_T_CELLS];
	pf_mutex_unlock(&trace_lock);
	return n;
}

void pf_trace_slice(struct pf_fs *fs, struct pf_t_ev *ev, uint64_t since)
{
	struct pf_trace *t;

	pf_mutex_lock(&trace_lock);
	ev->te_ns = pf_trace_now();		/* under the lock: the ring is in order */
	if (since != 0 && since < ev->te_ns) {
		ev->te_dur = ev->te_ns - since;
		ev->te_ns = since;
	}
	t = fs->trace;
	if (t)
		t->ev[t->head++ % PF_T_CELLS] = *ev;
	pf_mutex_unlock(&trace_lock);
}

void pf_trace_put(struct pf_fs *fs, struct pf_t_ev *ev)
{
	pf_trace_slice(fs, ev, 0);
}

void pf_trace_named(struct pf_fs *fs, struct pf_t_ev *ev, const char *text)
{
	size_t n = strlen(text), most = sizeof ev->te_text - 1;

	memcpy(ev->te_text, n > most ? text + n - most : text, n > most ? most : n);
	pf_trace_slice(fs, ev, 0);
}

void pf_trace_submit(struct pf_fs *fs, struct pf_t_ev *ev, const char *what)
{
	char line[128];
	FILE *f;

	(void)snprintf(ev->te_text, 16, "%s", what);
	(void)snprintf(line, sizeof line, "/proc/%u/status", ev->te_tid);
	f = fopen(line, "re");
	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "Tgid: %u", &ev->te_pid) == 1)
			break;
		if (strncmp(line, "Name:\t", 6) == 0)
			(void)snprintf(ev->te_text + 16, 16, "%.*s", (int)strcspn(line + 6, "\n"), line + 6);
	}
	if (f)
		(void)fclose(f);
	pf_trace_slice(fs, ev, 0);
}
