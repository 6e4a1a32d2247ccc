/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * budget.c - the window is smaller than the files: whose slot is taken back, and who waits for one in which order.
 * Owns the session's queue of wants without a slot. Runs in serve, under sh.lock; never waits.
 *
 * The rules are virtiofs's, where it has any: a low-water mark of free slots, a worker that takes slots back ahead of
 * need, up to BATCH at a time, a fault that takes one back itself when there is none, and pinned slots passed over.
 *
 * WHOSE SLOT. A mapped page is used without our seeing it: there are no access bits for a second chance, and having
 * some (leaving pages unmapped to see the fault) would cost more than what they decide, as a wrong choice is put right
 * by one round trip. So the slot whose last fault was longest ago goes, and two things are learnt from what comes back:
 *
 *   - A thread that faults twice in a row for the same page has lost it before it could make its access. Its slot
 *     then stays for a moment at least, twice as long each time: many threads on few slots would else serve each
 *     other's faults and never run.
 *   - A chunk that was taken ahead of need, and is wanted again within as many reclaims as there are slots, would have
 *     fitted: each lowers the low-water mark by one; a fault that had to wait raises it. So a working set just below
 *     the window's size ends with all of the window, of which virtiofs takes a fifth away for ever, and a large one
 *     with free slots.
 *
 * WHO WAITS. Wants queue in the order of arrival, and a slot that becomes free is for the first of them; a newcomer
 * goes to the end even if there is a free slot at this instant. Only a want whose chunk has got a slot meanwhile
 * leaves the queue earlier.
 *
 * ALL PINNED. Nothing can be taken back, and whoever holds the pins may be waiting for this very fault. Most pins are
 * short, so the wants stay for REFUSE_NS after the last time that a slot lost its last pin, looked at with every unpin;
 * then it is a deadlock: a fault fails with SIGBUS, a pin with EDEADLK, and a line in the log says who has what. A pin
 * fails at once where the process has no thread but the one that asks. Under deadlock=wait all wait, and so does
 * everybody as long as there is a slot whose pins end by themselves (FAIRNESS in ledger.h). Where pins end, but new
 * ones are always faster than we, the end (of a pin: EBUSY) comes HOPE_NS after the last want that got a slot.
 *
 * That is not time by the clock: a machine that stands still, or has no processor for the program, would end it before
 * those who hold the pins have run at all. From one look at the queue to the next no more than LOOK_NS have passed, and
 * nothing at all while it is the daemon whom we wait for.
 */
#include "sh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MS UINT64_C(1000000)
#define REFUSE_NS (1000 * MS)		/* libpinfs(7) and pinfs_pin(3) say so */
#define HOPE_NS (10 * REFUSE_NS)
#define LOOK_NS (REFUSE_NS / 10)
#define BATCH 10U			/* slots taken back ahead of need in one pass */
#define PASS_NS (1 * MS)		/* between two passes */
#define YOUNG_NS (1 * MS)		/* not taken back ahead of need */
#define BUSY_NS (10 * MS)		/* the daemon would not have a slot back: not asked again before */
#define LEVELS 6U			/* 1, 2, ... 32 ms for a thread that keeps losing its page */
#define SEEN 1024U
#define CREW_THREADS 3U			/* crew.c: crew, watch, serve */
#define HOLDERS_SAID 4U

/* What a thread faulted for last. By thread: collisions cost a protection, nothing else. */
static struct seen {
	uint32_t tid, level;
	uint64_t what;
} seen[SEEN];

static void count(struct sh_session *s, enum pf_l_stat what)
{
	(void)atomic_fetch_add_explicit(&s->ledger->lh_stat[what], 1, memory_order_relaxed);
}

/* ---- chunks that were taken back ---- */

struct sh_ghost {
	uint32_t key;
	uint32_t when;			/* s->nreclaim */
};

int sh_budget_init(struct sh_session *s)
{
	uint32_t n = 128;

	while (n < 2 * s->nslot)
		n <<= 1;
	s->ghost = sh_anon(n * sizeof *s->ghost);
	s->ghost_mask = n - 1;
	/* With a handful of slots, keeping one free costs more than it saves. */
	s->low = s->low_most = s->nslot / 5;
	s->starved_tail = &s->starved;
	return s->ghost == NULL ? -ENOMEM : 0;
}

static struct sh_ghost *ghost_of(struct sh_session *s, const struct sh_file *f, uint64_t chunk, uint32_t *key)
{
	uint64_t h = (f->ino * UINT64_C(0x9e3779b97f4a7c15) + chunk) * UINT64_C(0xc2b2ae3d27d4eb4f);

	*key = (uint32_t)(h >> 8) | 1;
	return &s->ghost[(h >> 40) & s->ghost_mask];
}

static void ghost_put(struct sh_session *s, const struct sh_slot *sl)
{
	uint32_t key;
	struct sh_ghost *g = ghost_of(s, sl->sl_file, sl->sl_chunk, &key);

	*g = (struct sh_ghost){ .key = key, .when = s->nreclaim };
}

static void ghost_look(struct sh_session *s, const struct sh_file *f, uint64_t chunk)
{
	uint32_t key;
	struct sh_ghost *g = ghost_of(s, f, chunk, &key);

	if (g->key != key)
		return;
	if (s->nreclaim - g->when <= s->nslot) {
		count(s, PF_STAT_REFAULTS);
		if (s->low > 0)
			s->low--;
	}
	g->key = 0;
}

/* ---- taking back ---- */

enum pick {
	PICK_TAKEN,
	PICK_LATER,			/* one may be taken at *when */
	PICK_FLUX,			/* an answer is due that changes things */
	PICK_NONE			/* all are pinned */
};

/* Send the oldest slot away; @ahead of need, only one that is not young. */
static enum pick send_away(struct sh_session *s, uint64_t now, bool ahead, uint64_t *when)
{
	struct sh_slot *sl = s->oldest, *next, *last = s->newest;
	enum pick none = s->removing > 0 ? PICK_FLUX : PICK_NONE;
	bool later = false;

	for (; sl != NULL; sl = next) {
		uint64_t free_at = pf_max64(sl->sl_until_ns, sl->sl_fault_ns + (ahead ? YOUNG_NS : 0));

		next = sl == last ? NULL : sl->sl_newer;
		if (sl->sl_state != SH_LIVE) {
			none = PICK_FLUX;
		} else if (sh_slot_pinned(sl) && !(sh.budget_test & SH_TEST_TAKE_PINNED)) {
			sh_slot_newest(sl);		/* out of the way of the next search */
		} else if (free_at > now) {
			*when = later ? pf_min64(*when, free_at) : free_at;
			later = true;
		} else {
			/* Unmapped first: afterwards the slot, and its grant, may belong to nobody. */
			sh_zap_file(sl->sl_file, sl->sl_chunk << PF_CHUNK_SHIFT, PF_CHUNK_SIZE);
			sh_slot_forget(sl, 0, UINT64_MAX);
			if (sh_slot_remove(sl))
				break;			/* no memory: at the next event */
			sl->sl_state = SH_REMOVING;
			s->nreclaim++;
			count(s, ahead ? PF_STAT_AHEAD : PF_STAT_RECLAIMS);
			if (ahead)
				ghost_put(s, sl);
			return PICK_TAKEN;
		}
	}
	return later ? PICK_LATER : none;
}

static void wake_at(struct sh_session *s, uint64_t when)
{
	if (s->wake_ns == 0 || when < s->wake_ns)
		s->wake_ns = when;
}

/* Up to BATCH ahead of need; again after PASS_NS while that is not enough. */
static void look_ahead(struct sh_session *s, uint64_t now)
{
	uint32_t have = s->nfree + (s->nslot - s->fresh_slots) + s->removing;
	enum pick p = PICK_TAKEN;
	uint64_t when = now;

	if (have >= s->low || s->starved != NULL)
		return;
	if (now < s->pass_ns) {
		wake_at(s, s->pass_ns);
		return;
	}
	s->pass_ns = now + PASS_NS;
	for (uint32_t n = 0; n < BATCH && have < s->low && p == PICK_TAKEN; n++) {
		p = send_away(s, now, true, &when);
		have += p == PICK_TAKEN;
	}
	/* When all are pinned or on their way, the next fault looks again. */
	if (have < s->low && (p == PICK_TAKEN || p == PICK_LATER))
		wake_at(s, pf_max64(s->pass_ns, when));
}

/* ---- the queue ---- */

/* Have the unpin of any slot wake us, as long as somebody waits. */
static void watch_pins(struct sh_session *s, bool on)
{
	if (atomic_exchange(&s->hungry, on) == on && !on)
		return;
	for (struct sh_slot *sl = s->oldest; sl != NULL; sl = sl->sl_newer) {
		/* A file that nobody maps is watched for its own sake: sh_file_idle(). */
		if (sl->sl_state == SH_LIVE && (on || sl->sl_file->refs > 0))
			atomic_store(&sl->sl_watch, on);
	}
}

/* Is there a slot that becomes free whatever the program does? */
static bool ends_by_itself(const struct sh_session *s)
{
	for (const struct sh_slot *sl = s->oldest; sl != NULL; sl = sl->sl_newer) {
		struct pf_l_slot *l = sl->sl_led;
		uint32_t brief = atomic_load(&l->ls_brief);

		if (sl->sl_state == SH_LIVE && brief != 0 &&
		    atomic_load(&l->ls_whole) + atomic_load(&l->ls_pins) <= brief)
			return true;
	}
	return false;
}

/* The program has one thread: that which asks. Then nobody ends a pin while it waits. */
static bool no_other_thread(void)
{
	struct statx st;

	return sh_sys(SYS_statx, AT_FDCWD, "/proc/self/task", 0, STATX_NLINK, &st) == 0 &&
	       st.stx_nlink == 2 + 1 + CREW_THREADS;
}

/* "inode 12 (/mnt/f)" */
static const char *name(const struct sh_file *f, uint64_t ino, char *buf, size_t room)
{
	const bool named = f != NULL && f->name[0] != '\0';

	(void)snprintf(buf, room, "inode %llu%s%s%s", (unsigned long long)ino, named ? " (" : "", named ? f->name : "",
		       named ? ")" : "");
	return buf;
}

/* Who has all the slots, as far as records tell: for the log. A file is named where it is not @said. */
static const char *holders(struct sh_session *s, const struct sh_file *said, char *buf, size_t room)
{
	static const char *const api[PF_API_NR] = {
		"pinfs_pin", "dmaemu", "direct I/O", "libaio", "io_uring", "POSIX AIO", "vmsplice", "MSG_ZEROCOPY",
		"process_vm", [PF_API_LONGTERM] = "long-term pin", "verbs", "VFIO", "iommufd", "V4L2",
		"io_uring buffers", "AF_XDP"
	};
	unsigned int n = 0, others = 0;
	size_t at = 0;

	buf[0] = '\0';
	for (uint32_t i = 0; i < s->fresh_pins; i++) {
		const struct pf_l_rec *r = &s->lrecs[i];
		const struct sh_file *f;
		char file[160];
		int len;

		if (atomic_load(&s->lrecs[i].lr_state) != PF_REC_LIVE) {
			continue;
		} else if (n++ == HOLDERS_SAID) {
			n--;
			others++;
			continue;
		}
		f = sh_file_by_ino(s, r->lr_ino);
		len = snprintf(buf + at, room - at, "%s%s of thread %u on %s at %llu", n > 1 ? ", " : "",
			       r->lr_api < PF_API_NR && api[r->lr_api] != NULL ? api[r->lr_api] : "a pin", r->lr_tid,
			       name(f == said ? NULL : f, r->lr_ino, file, sizeof file),
			       (unsigned long long)r->lr_foff);
		if (len > 0)
			at = pf_min64(at + (size_t)len, room - 1);
	}
	if (others != 0)
		(void)snprintf(buf + at, room - at, " and %u more", others);
	return buf;
}

/* As the daemon says it of other deadlocks: who wants what, and who has what it waits for. */
static void say(struct sh_session *s, const struct sh_want *w)
{
	struct sh_vma *v = w->addr != 0 ? sh_vma_find(w->addr) : NULL;
	const struct sh_file *f = w->addr == 0 ? w->file : v != NULL ? v->map->file : NULL;
	uint64_t foff = w->addr == 0 ? w->foff : v != NULL ? sh_vma_foff(v, w->addr) : 0;
	char who[1024], file[160];

	sh_log(SH_WARN, "all %u slots of the window are pinned: %s of %s at %llu by pid %d (%s), thread %u, fails; "
	       "it waits for pins of pid %d (%s) itself: %s", s->nslot, w->addr != 0 ? "a page fault" : "a pin",
	       name(f, f != NULL ? f->ino : 0, file, sizeof file), (unsigned long long)foff, (int)sh.pid, s->comm,
	       w->tid, (int)sh.pid, s->comm, holders(s, f, who, sizeof who));
}

/* Those who have waited for too long. */
static void refuse(struct sh_session *s, uint64_t now)
{
	bool stuck = s->pinned && !ends_by_itself(s), alone = stuck && no_other_thread();
	struct sh_want **p = &s->starved, *w;

	s->starved_tail = &s->starved;
	while ((w = *p) != NULL) {
		uint64_t end = pf_max64(w->since, s->got_one) + HOPE_NS;

		if (stuck)
			end = pf_min64(end, pf_max64(w->since, s->unpinned) + REFUSE_NS);
		if (alone && w->waiter != NULL)
			end = s->patience;
		if (atomic_load(&s->ledger->lh_rules) & PF_RULE_STUCK_WAITS)
			end = UINT64_MAX;
		if (end > s->patience) {
			wake_at(s, now + pf_min64(end - s->patience, LOOK_NS));
			s->starved_tail = &w->next;
			p = &w->next;
			continue;
		}
		*p = w->next;
		s->nstarved--;
		count(s, PF_STAT_REFUSED);
		say(s, w);
		sh_want_end(w, stuck ? -EDEADLK : -EBUSY);
	}
}

/* As many slots as there are wants shall be on their way, but not more than a quarter of a small window. */
static void feed(struct sh_session *s, uint64_t now)
{
	uint32_t most = s->nslot >= 8 ? s->nslot / 4 : 1, need = s->nstarved < most ? s->nstarved : most;
	enum pick p = PICK_FLUX;
	uint64_t when = now;

	while (s->removing < need && (p = send_away(s, now, false, &when)) == PICK_TAKEN)
		;
	if (p == PICK_NONE && s->nstarved > 0) {
		/* The watch first, then the counters once more: an unpin subtracts first and then looks. */
		watch_pins(s, true);
		p = send_away(s, now, false, &when);
	}
	if (p == PICK_LATER)
		wake_at(s, when);
	if (s->counts && !(sh.budget_test & SH_TEST_STILL))
		s->patience += pf_min64(now - s->look_ns, LOOK_NS);
	s->look_ns = now;
	s->pinned = p == PICK_NONE;
	if (!s->pinned || atomic_exchange(&s->unpin, false))
		s->unpinned = s->patience;
	s->counts = s->nstarved > 0 && (p == PICK_NONE || p == PICK_LATER);
	if (s->counts)
		refuse(s, now);
	if (s->nstarved == 0)
		watch_pins(s, false);
}

/* Crew. The waiter's want, if it waits for a slot: it does so no longer. */
int sh_budget_forget_wait(void *arg)
{
	const struct sh_waiter *waiter = arg;
	sh_sigs old;

	sh_lock(&old);
	for (struct sh_session *s = sh.sessions; s != NULL; s = s->next) {
		struct sh_want **p = &s->starved, *w;

		while ((w = *p) != NULL && w->waiter != waiter)
			p = &w->next;
		if (w == NULL)
			continue;
		*p = w->next;
		if (s->starved_tail == &w->next)
			s->starved_tail = p;
		s->nstarved--;
		sh_want_end(w, -EINTR);
		break;
	}
	sh_unlock(&old);
	return 0;
}

static void put_last(struct sh_session *s, struct sh_want *w)
{
	w->next = NULL;
	*s->starved_tail = w;
	s->starved_tail = &w->next;
	s->nstarved++;
}

struct sh_slot *sh_budget_slot(struct sh_file *f, uint64_t chunk, struct sh_want *w)
{
	struct sh_session *s = f->ses;
	struct sh_slot *sl = NULL;

	if (s->starved == NULL || s->draining || (sh.budget_test & SH_TEST_UNFAIR))
		sl = sh_slot_new(f, chunk);
	if (sl != NULL) {
		s->got_one = s->patience;
		ghost_look(s, f, chunk);
		look_ahead(s, sh_now_ns());
		return sl;
	}
	if (!w->starved) {
		w->starved = true;
		if (s->starved == NULL && !s->draining)
			s->counts = false;	/* until now nobody has waited */
		w->since = s->patience;
		count(s, PF_STAT_STARVED);
		if (s->low < s->low_most)
			s->low++;
	}
	put_last(s, w);
	if (!s->draining)
		feed(s, sh_now_ns());
	return NULL;
}

/* In order; who gets nothing is put into the queue again, in the same order. */
static void drain(struct sh_session *s)
{
	struct sh_want *w = s->starved, *next;

	s->starved = NULL;
	s->starved_tail = &s->starved;
	s->nstarved = 0;
	s->draining = true;
	for (; w != NULL; w = next) {
		next = w->next;
		sh_serve_want(w);
	}
	s->draining = false;
}

void sh_budget_run(struct sh_session *s)
{
	bool lost = atomic_load(&s->lost);
	uint64_t now = sh_now_ns();

	s->wake_ns = 0;
	if (lost || s->nfree > 0 || s->fresh_slots < s->nslot)
		drain(s);
	if (lost)
		return;
	feed(s, now);
	look_ahead(s, now);
}

void sh_budget_served(struct sh_slot *sl, const struct sh_want *w)
{
	uint64_t what = w->addr != 0 ? w->addr | w->write : sh_addr(w->file) ^ (w->foff | w->write), until = 0;
	struct seen *e = &seen[w->tid % SEEN];

	if (e->tid == w->tid && e->what == what)
		e->level += e->level < LEVELS;
	else
		*e = (struct seen){ .tid = w->tid, .what = what };
	if (w->waiter == NULL)
		count(sl->sl_ses, PF_STAT_FAULTS);
	sl->sl_fault_ns = sh_now_ns();
	if (e->level > 0)
		until = sl->sl_fault_ns + (MS << (e->level - 1));
	if (until > sl->sl_until_ns)
		sl->sl_until_ns = until;
	sh_slot_newest(sl);
}

void sh_budget_busy(struct sh_slot *sl)
{
	sl->sl_until_ns = sh_now_ns() + BUSY_NS;
}

/* ---- time ---- */

int sh_budget_timeout_ms(void)
{
	uint64_t first = 0, now;

	for (struct sh_session *s = sh.sessions; s != NULL; s = s->next) {
		if (s->wake_ns != 0 && (first == 0 || s->wake_ns < first))
			first = s->wake_ns;
	}
	if (first == 0)
		return -1;
	now = sh_now_ns();
	return first <= now ? 0 : (int)PF_DIV_UP(first - now, MS);
}

void sh_budget_timer(void)
{
	uint64_t now = 0;
	sh_sigs old;

	for (struct sh_session *s = sh.sessions; s != NULL; s = s->next) {
		if (atomic_load(&s->lost) || (s->wake_ns == 0 && !atomic_load(&s->hungry)))
			continue;
		if (now == 0)
			now = sh_now_ns();
		if (!atomic_load(&s->hungry) && now < s->wake_ns)
			continue;
		sh_lock(&old);
		sh_budget_run(s);
		sh_unlock(&old);
	}
}

void sh_budget_forget(void)
{
	memset(seen, 0, sizeof seen);
}
