/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * report.c - JSON of sessions, pins, waiters and windows.
 *
 * Owns nothing. Takes REGISTRY to list, then SESSION or LAYOUT for one object at a time. Cost: the slots in use, the
 * records that were ever touched, and the waiters that are shown.
 */
#include "share/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "base/fail.h"
#include "media/pmem.h"
#include "share/charge.h"
#include "share/lay.h"
#include "share/lease.h"
#include "share/tap.h"

#define ENTRIES_MAX 4096U
#define USERS_SHOWN 256U
#define ENTRY_BYTES 4096U		/* no single entry is longer */

/* A text that grows; after a failure it stays as it is. */
struct text {
	char *buf;
	size_t len, room;
	bool failed;
};

static void put(struct text *t, const char *s, size_t n)
{
	if (t->failed)
		return;
	if (n > t->room - t->len) {
		size_t room = 2 * (t->room + n);
		char *bigger = realloc(t->buf, room);

		if (!bigger) {
			t->failed = true;
			return;
		}
		t->buf = bigger;
		t->room = room;
	}
	memcpy(t->buf + t->len, s, n);
	t->len += n;
}

static void putf(struct text *t, const char *fmt, ...) PF_PRINTF(2, 3);
static void putf(struct text *t, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof line)
		t->failed = true;
	else
		put(t, line, (size_t)n);
}

/* Bytes of the UTF-8 sequence at @s that is well formed, else 0. */
static size_t utf8(const unsigned char *s)
{
	size_t n = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, beyond U+10FFFF. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static void puts_json(struct text *t, const char *s)
{
	const unsigned char *c = (const unsigned char *)s;

	put(t, "\"", 1);
	while (*c) {
		size_t n = 1;

		if (*c == '"' || *c == '\\')
			putf(t, "\\%c", *c);
		else if (*c < 0x20 || *c == 0x7f)
			putf(t, "\\u%04x", *c);
		else if (*c < 0x80)
			put(t, (const char *)c, 1);
		else if ((n = utf8(c)) != 0)
			put(t, (const char *)c, n);
		else
			putf(t, "\\u%04x", c[(n = 1) - 1]);
		c += n;
	}
	put(t, "\"", 1);
}

typedef unsigned long long ull;

static void comm_of(pid_t tid, char *comm, size_t len)
{
	char path[64];
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/comm", (int)tid);
	comm[0] = '\0';
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(comm, (int)len, f))
		comm[strcspn(comm, "\n")] = '\0';
	(void)fclose(f);
}

static bool shows(const struct pf_viewer *v, const struct pf_sess *s)
{
	return v->all || v->uid == s->uid;
}

/* True when another entry fits. */
static bool room_for(const struct text *t, unsigned int shown)
{
	return shown < ENTRIES_MAX && t->len + ENTRY_BYTES < PF_REPORT_BYTES && !t->failed;
}

/* Status */

static const char *state_of(const struct pf_sess *s, bool quarantined)
{
	switch ((enum pf_sess_state)atomic_load(&s->state)) {
	case PF_SESS_LIVE:
		return quarantined ? "quarantined" : "live";
	case PF_SESS_CUT_OFF:
		return atomic_load(&s->evicted) ? "evicted" : "cut off";
	case PF_SESS_DEAD:
	case PF_SESS_NR:
		break;
	}
	return "dead";
}

static uint64_t since(uint64_t then, uint64_t now)
{
	return then < now ? now - then : 0;
}

static void put_session(struct text *t, struct pf_sess *s, uint64_t now)
{
	static const char *const stat_name[] = {
		[PF_STAT_FAULTS] = "faults",	 [PF_STAT_RECLAIMS] = "reclaims", [PF_STAT_AHEAD] = "reclaims_ahead",
		[PF_STAT_REFAULTS] = "refaults", [PF_STAT_STARVED] = "starved",	  [PF_STAT_REFUSED] = "refused"
	};
	uint32_t i, used, stale = 0, files = 0;
	uint64_t pins = 0, kept = atomic_load(&s->kept);
	bool quarantined = false;

	pf_mutex_lock(&s->lock);
	used = s->nr_slots;
	for (i = 0; i < s->led.nslot && used != 0; i++)
		if (s->slot[i]) {
			pins += pf_ledger_pins(&s->led, i);
			stale += (atomic_load(&s->led.slot[i].ls_word) & PF_SLOT_STALE) != 0;
		}
	for (struct pf_share *sh = s->shares; sh; sh = sh->sess_next) {
		files++;
		quarantined |= atomic_load(&sh->unacked);
	}
	pf_mutex_unlock(&s->lock);
	putf(t, "{\"id\":%llu,\"pid\":%d,\"uid\":%u,\"comm\":", (ull)s->id, (int)s->pid, s->uid);
	puts_json(t, s->comm);
	putf(t,
	     ",\"age_ns\":%llu,\"slots_used\":%u,\"slots_total\":%u,\"slots_stale\":%u,\"files\":%u,\"pins\":%llu,",
	     (ull)(now - s->since_ns), used, s->led.nslot, stale, files, (ull)pins);
	/* What the client says of itself; any number is one. */
	for (i = 0; i < PF_ARRAY_LEN(stat_name); i++)
		putf(t, "\"%s\":%llu,", stat_name[i], (ull)atomic_load(&s->led.hdr->lh_stat[i]));
	putf(t, "\"longterm_pages\":%llu,", (ull)pf_charged(s));
	putf(t, "\"kept_blocks\":%llu,\"kept_ns\":%llu,", (ull)kept,
	     (ull)(kept != 0 ? since(atomic_load(&s->kept_ns), now) : 0));
	putf(t, "\"state\":\"%s\"}", state_of(s, quarantined));
}

static void put_counters(struct text *t, struct pf_fs *fs)
{
	static const char *const name[PF_COUNT_NR] = {
		[PF_COUNT_BREAKS] = "breaks",		[PF_COUNT_WAITS] = "waits",
		[PF_COUNT_COLLISIONS] = "collisions",	[PF_COUNT_QUARANTINES] = "quarantines",
		[PF_COUNT_TIMEOUTS] = "timeouts",	[PF_COUNT_CANCELS] = "cancels",
		[PF_COUNT_DEFERRED_BLOCKS] = "deferred_blocks", [PF_COUNT_GRANTS] = "grants",
		[PF_COUNT_PINS_SLOW] = "pins_slow",	[PF_COUNT_KICKS] = "kicks",
		[PF_COUNT_KICKS_FUTEX] = "kicks_futex",	[PF_COUNT_INVALIDATES] = "invalidates",
		[PF_COUNT_LEASES_BROKEN] = "leases_broken", [PF_COUNT_REVOKES] = "revokes",
	};

	for (unsigned int i = 0; i < PF_COUNT_NR; i++)
		putf(t, "%s\"%s\":%llu", i ? "," : "", name[i], (ull)atomic_load(&fs->lay->count[i]));
}

/* What is wrong with it: nothing, or the first thing that was, and since when. */
static void put_state(struct text *t, struct pf_fs *fs)
{
	struct pf_fail_info fi;

	pf_fail_info(fs, &fi);
	putf(t, "\"state\":\"%s\",", pf_state_name[pf_fs_state(fs)]);
	if (fi.count == 0)
		return;
	putf(t, "\"errors\":{\"count\":%llu,\"time\":%llu,\"why\":", (ull)fi.count, (ull)fi.time);
	puts_json(t, fi.why);
	putf(t, "},");
}

/* What users have pinned long-term. */
static void put_users(struct text *t, struct pf_fs *fs)
{
	struct pf_charged who[USERS_SHOWN];
	uint64_t pages;
	unsigned int n = pf_charge_list(fs, who, USERS_SHOWN, &pages), shown = 0;

	putf(t, "\"longterm\":{\"pages\":%llu,\"users\":[", (ull)pages);
	for (unsigned int i = 0; i < n; i++)
		if (who[i].pages != 0)
			putf(t, "%s{\"uid\":%u,\"pages\":%llu}", shown++ ? "," : "", who[i].uid,
			     (ull)who[i].pages);
	putf(t, "]},");
}

static void status(struct pf_fs *fs, const struct pf_viewer *v, struct text *t, struct pf_sess **sess,
		   unsigned int nsess)
{
	const struct pf_opts *o = &fs->opts;
	uint64_t now = pf_lay_now(), waiters;
	struct pf_policy p;
	struct pf_space sp;
	unsigned int i, shown = 0;

	pf_fs_policy(fs, &p);
	(void)pf_reg_breaks(fs, NULL, 0, &waiters);
	pf_alloc_stat(fs, &sp);
	putf(t, "{\"version\":\"%s\",\"mount\":", PINFS_VERSION);
	puts_json(t, v->mount);
	putf(t, ",\"device_bytes\":%llu,\"uuid\":\"", (ull)fs->pm->bytes);
	for (i = 0; i < sizeof fs->uuid; i++)
		putf(t, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", fs->uuid[i]);
	putf(t, "\",\"label\":");
	puts_json(t, fs->label);
	putf(t, ",\"fsid\":%llu,\"daemon_pid\":%d,", (ull)fs->fsid, (int)getpid());
	putf(t,
	     "\"options\":{\"lease_time_ms\":%llu,\"lease_break\":\"%s\","
	     "\"on_busy\":\"%s\",\"break\":\"%s\",\"pmem\":\"%s\",\"busy_timeout_ms\":%llu,"
	     "\"fair\":%s,\"deadlock\":\"%s\",\"longterm\":\"%s\",\"longterm_limit\":%llu,"
	     "\"poll_interval_ms\":%llu,\"revoke_timeout_ms\":%llu,"
	     "\"window\":%llu,\"errors\":\"%s\",\"dax\":\"%s\",\"profile\":\"%s\",\"ro\":%s},\"pmem_mode\":\"%s\",",
	     (ull)(p.lease_ms != 0 ? p.lease_ms : PF_LEASE_DEFAULT_MS), pf_lease_break_name[p.lease_break],
	     pf_busy_name[p.on_busy], pf_scope_name[p.scope], pf_pmem_name[o->pmem], (ull)p.timeout_ms,
	     p.unfair ? "false" : "true", p.deadlock_waits ? "wait" : "detect",
	     pf_longterm_name[p.longterm], (ull)o->longterm_limit,
	     (ull)(p.poll_ms != 0 ? p.poll_ms : PF_POLL_DEFAULT_MS), (ull)o->revoke_timeout_ms, (ull)o->window,
	     pf_errors_name[o->errors], pf_dax_name[o->dax], pf_profile_name[o->profile], o->ro ? "true" : "false",
	     pf_pmem_name[fs->pm->mode]);
	put_state(t, fs);
	putf(t,
	     "\"space\":{\"block\":%u,\"total\":%llu,\"free\":%llu,\"reserved\":%llu,\"parked\":%llu,\"kept\":%llu},"
	     "\"sessions\":[",
	     (unsigned int)PF_BLK_SIZE, (ull)sp.total, (ull)sp.free, (ull)sp.reserved, (ull)sp.parked, (ull)sp.kept);
	for (i = 0; i < nsess && room_for(t, shown); i++, shown++) {
		put(t, ",", i != 0);
		put_session(t, sess[i], now);
	}
	putf(t, "],");
	put_users(t, fs);
	putf(t, "\"waiters\":%llu,\"tracer\":%d,\"counters\":{", (ull)waiters, (int)pf_tap_pid(fs));
	put_counters(t, fs);
	putf(t, "}}");
}

/* Pins */

/* The name that @s has for the file of a pin's slot, if the slot is what the record says. True: its first page there
 * has lost its translation, and the pin is void. */
static bool path_of(struct pf_sess *s, const struct pf_pin_rec *r, char *path, size_t len)
{
	const unsigned int page = (unsigned int)(r->foff / PF_BLK_SIZE % PF_CHUNK_BLKS);
	bool voided = false;

	path[0] = '\0';
	pf_mutex_lock(&s->lock);
	if (r->slot < s->led.nslot && s->slot[r->slot] && s->slot[r->slot]->share->obj->ino == r->ino) {
		(void)snprintf(path, len, "%s", s->slot[r->slot]->share->path);
		voided = (atomic_load(&s->led.slot[r->slot].ls_gone[page / 32]) >> page % 32 & 1) != 0;
	}
	pf_mutex_unlock(&s->lock);
	return voided;
}

/* The first @n addresses of it; nothing of none. */
static void put_stack(struct text *t, const struct pf_t_stack *st, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		putf(t, "%s\"0x%llx\"%s", i == 0 ? ",\"stack\":[" : ",", (ull)st->ts_pc[i], i + 1 == n ? "]" : "");
}

static void put_pin(struct text *t, const struct pf_viewer *v, struct pf_sess *s, uint32_t rec,
		    const struct pf_pin_rec *r, uint64_t now)
{
	static const char *const api_name[PF_API_NR] = {
		[PF_API_PIN] = "pin", [PF_API_DMAEMU] = "dmaemu", [PF_API_DIRECT] = "direct",
		[PF_API_LIBAIO] = "libaio", [PF_API_URING] = "io_uring", [PF_API_POSIX_AIO] = "aio",
		[PF_API_VMSPLICE] = "vmsplice", [PF_API_ZEROCOPY] = "zerocopy", [PF_API_PROCESS_VM] = "process_vm",
		[PF_API_LONGTERM] = "longterm", [PF_API_VERBS] = "verbs", [PF_API_VFIO] = "vfio",
		[PF_API_IOMMUFD] = "iommufd", [PF_API_V4L2] = "v4l2",
		[PF_API_URING_BUF] = "io_uring-buffers", [PF_API_XDP] = "xdp",
	};
	char path[256];
	bool voided = path_of(s, r, path, sizeof path);
	struct pf_t_stack st;

	putf(t, "{\"session\":%llu,\"pid\":%d,\"uid\":%u,\"comm\":", (ull)s->id, (int)s->pid, s->uid);
	puts_json(t, s->comm);
	putf(t, ",\"tid\":%u,\"ino\":%llu,\"file\":", r->tid, (ull)r->ino);
	puts_json(t, shows(v, s) ? path : "");
	putf(t, ",\"record\":%u,\"start_ns\":%llu,\"foff\":%llu,\"len\":%llu,\"age_ns\":%llu,\"api\":\"%s\",\"label\":",
	     rec, (ull)r->start_ns, (ull)r->foff, (ull)r->len, (ull)since(r->start_ns, now),
	     r->api < PF_API_NR && api_name[r->api] != NULL ? api_name[r->api] : "?");
	puts_json(t, r->label);
	if (shows(v, s))
		put_stack(t, &st, pf_ledger_stack(&s->led, rec, &st));
	putf(t, ",\"void\":%s,\"process_start_ns\":%llu", voided ? "true" : "false",
	     (ull)s->born_ns);
	put(t, "}", 1);
}

static void put_pins(struct text *t, const struct pf_viewer *v, struct pf_sess **sess, unsigned int nsess)
{
	unsigned int i, shown = 0;
	uint64_t now = pf_lay_now(), left = 0;
	struct pf_pin_rec r;
	uint32_t k;

	putf(t, "{\"pins\":[");
	for (i = 0; i < nsess; i++) {
		if (atomic_load(&sess[i]->state) == PF_SESS_DEAD)
			continue;
		for (k = pf_ledger_rec_seek(&sess[i]->led, 0); k < sess[i]->led.nrec;
		     k = k % 64 == 63 ? pf_ledger_rec_seek(&sess[i]->led, k + 1) : k + 1) {
			if (!pf_ledger_rec(&sess[i]->led, k, &r))
				continue;
			/* Half of the text for pins, so that nobody's scribbling hides the waiters. */
			if (room_for(t, shown) && t->len < PF_REPORT_BYTES / 2) {
				put(t, ",", shown != 0);
				put_pin(t, v, sess[i], k, &r, now);
				shown++;
			} else {
				left++;
			}
		}
	}
	putf(t, "],");
	if (left != 0)
		putf(t, "\"pins_left_off\":%llu,", (ull)left);
}

/* Blocks that have left their files and are not reused: whose they were, and because of whom. */

static void put_kept(struct text *t, const struct pf_viewer *v, struct pf_share *sh, unsigned int shown)
{
	struct pf_sess *s = sh->sess;
	char path[sizeof sh->path];
	uint64_t blocks, then;
	const char *why;

	pf_mutex_lock(&sh->obj->lock);
	blocks = sh->kept;
	then = sh->kept_ns;
	why = atomic_load(&s->state) != PF_SESS_LIVE || sh->unacked ? state_of(s, true) : "pins";
	memcpy(path, sh->path, sizeof path);
	pf_mutex_unlock(&sh->obj->lock);
	if (blocks == 0)
		return;
	put(t, ",", shown != 0);
	putf(t, "{\"session\":%llu,\"pid\":%d,\"uid\":%u,\"comm\":", (ull)s->id, (int)s->pid, s->uid);
	puts_json(t, s->comm);
	putf(t, ",\"ino\":%llu,\"file\":", (ull)sh->obj->ino);
	puts_json(t, shows(v, s) ? path : "");
	putf(t, ",\"blocks\":%llu,\"age_ns\":%llu,\"why\":\"%s\"}", (ull)blocks, (ull)since(then, pf_lay_now()), why);
}

static void put_all_kept(struct text *t, const struct pf_viewer *v, struct pf_sess **sess, unsigned int nsess)
{
	unsigned int shown = 0;
	uint64_t left = 0;

	putf(t, "\"kept\":[");
	for (unsigned int i = 0; i < nsess; i++) {
		if (atomic_load(&sess[i]->kept) == 0)
			continue;
		for (struct pf_share *sh = pf_sess_share(sess[i], NULL); sh; sh = pf_sess_share(sess[i], sh)) {
			size_t before = t->len;

			/* The waiters have their share of the text, too. */
			if (room_for(t, shown) && t->len < PF_REPORT_BYTES - PF_REPORT_BYTES / 4)
				put_kept(t, v, sh, shown);
			else
				left++;
			shown += t->len != before;
		}
	}
	putf(t, "],");
	if (left != 0)
		putf(t, "\"kept_left_off\":%llu,", (ull)left);
}

/* Waiters */

struct waited_for { uint64_t session, pages, left_ms; pid_t pid; char comm[16]; bool lease; };
struct behind { uint64_t session, pins; pid_t pid; };
#define WAITED_FOR_MAX 16U

/* Pins that let @b go first, by session; how many sessions. LAYOUT is held. */
static unsigned int held_back(const struct pf_brk *b, struct behind out[WAITED_FOR_MAX])
{
	unsigned int n = 0, i;

	if (b->obj->cuts != b)
		return 0;
	for (const struct pf_gate_wait *w = b->obj->pinwait; w; w = w->next) {
		const struct pf_sess *s = w->share->sess;

		for (i = 0; i < n && out[i].session != s->id; i++)
			;
		if (i == WAITED_FOR_MAX)
			continue;
		if (i == n)
			out[n++] = (struct behind){ s->id, 0, s->pid };
		out[i].pins++;
	}
	return n;
}

static void put_waiter(struct text *t, const struct pf_viewer *v, struct pf_brk *b, unsigned int shown)
{
	struct waited_for who[WAITED_FOR_MAX];
	struct behind behind[WAITED_FOR_MAX];
	unsigned int i, n = 0, nbehind, state;
	char path[256] = "", comm[32];
	uint64_t foff, len;
	bool leased;

	pf_mutex_lock(&b->obj->lock);
	state = b->state;
	foff = b->froze ? b->fz_foff : b->foff;
	len = b->froze ? b->fz_len : b->len;
	leased = state == PF_BRK_PARKED && b->leased;
	for (struct pf_share *sh = b->obj->shares; sh; sh = sh->next) {
		uint64_t pages = state == PF_BRK_PARKED ? pf_win_pinned(sh, b->fz_foff, b->fz_len) : 0, left_ms = 0;
		bool lease = leased && pf_lease_waited_for(sh, b, &left_ms);

		if (!path[0] && shows(v, sh->sess))
			(void)snprintf(path, sizeof path, "%s", sh->path);
		if (n < WAITED_FOR_MAX && (lease || pages != 0 || (state == PF_BRK_ACKS && sh->inval_brk == b))) {
			who[n] = (struct waited_for){ sh->sess->id, pages, left_ms, sh->sess->pid, "", lease };
			memcpy(who[n++].comm, sh->sess->comm, sizeof who[0].comm);
		}
	}
	nbehind = held_back(b, behind);
	pf_mutex_unlock(&b->obj->lock);
	if (state == PF_BRK_DONE)
		return;
	comm_of(b->tid, comm, sizeof comm);
	put(t, ",", shown != 0);
	putf(t, "{\"id\":%llu,\"what\":\"%s\",\"pid\":%d,\"tid\":%d,\"comm\":", (ull)b->id, b->what, (int)b->pid,
	     (int)b->tid);
	puts_json(t, comm);
	putf(t, ",\"ino\":%llu,\"file\":", (ull)b->obj->ino);
	puts_json(t, path);
	putf(t, ",\"foff\":%llu,\"len\":%llu,\"age_ns\":%llu,\"state\":\"%s\",\"waits_for\":[", (ull)foff, (ull)len,
	     (ull)(pf_lay_now() - b->since_ns), leased ? "lease" : state == PF_BRK_PARKED ? "pins" :
						state == PF_BRK_ACKS ? "acks" : state == PF_BRK_BURSTS ? "bursts" :
						state == PF_BRK_QUEUED ? "queued" : "gate");
	for (i = 0; i < n; i++) {
		putf(t, "%s{\"session\":%llu,\"pid\":%d,\"comm\":", i ? "," : "", (ull)who[i].session, (int)who[i].pid);
		puts_json(t, who[i].comm);
		putf(t, ",\"pages\":%llu", (ull)who[i].pages);
		if (who[i].lease)
			putf(t, ",\"lease_left_ms\":%llu", (ull)who[i].left_ms);
		putf(t, "}");
	}
	putf(t, "],\"held_back\":[");
	for (i = 0; i < nbehind; i++)
		putf(t, "%s{\"session\":%llu,\"pid\":%d,\"pins\":%llu}", i ? "," : "", (ull)behind[i].session,
		     (int)behind[i].pid, (ull)behind[i].pins);
	putf(t, "]}");
}

static void put_waiters(struct pf_fs *fs, const struct pf_viewer *v, struct text *t)
{
	struct pf_brk **b = malloc(ENTRIES_MAX * sizeof(struct pf_brk *));
	unsigned int i, n = 0, shown = 0;
	uint64_t left = 0;
	size_t before;

	if (b)
		n = pf_reg_breaks(fs, b, ENTRIES_MAX, &left);
	else
		t->failed = true;
	putf(t, "\"waiters\":[");
	for (i = 0; i < n; i++) {
		before = t->len;
		if (room_for(t, shown))
			put_waiter(t, v, b[i], shown);
		else
			left++;
		shown += t->len != before;
		pf_brk_unref(b[i]);
	}
	putf(t, "]");
	if (left != 0)
		putf(t, ",\"waiters_left_off\":%llu", (ull)left);
	putf(t, "}");
	free(b);
}

/* Windows */

#define SHOWN_EXTENTS 8U

struct shown {				/* of a grant */
	uint64_t ino, foff, size, pins, pages;
	struct pf_gext ext[SHOWN_EXTENTS];
	uint32_t next_ext;
	bool stale;
	char path[256];
};

/* The grant in a slot of @s, if there is one. */
static bool look_at(struct pf_fs *fs, const struct pf_viewer *v, struct pf_sess *s, uint32_t slot, struct shown *out)
{
	struct pf_share *sh = NULL;
	struct pf_grant *g;

	pf_mutex_lock(&s->lock);
	if (slot < s->led.nslot && s->slot[slot]) {
		sh = s->slot[slot]->share;
		pf_share_get(sh);
	}
	pf_mutex_unlock(&s->lock);
	if (!sh)
		return false;
	pf_mutex_lock(&sh->obj->lock);
	for (g = sh->grants; g && g->slot != slot;)
		g = g->next;
	if (g) {
		memset(out, 0, sizeof *out);
		out->ino = sh->obj->ino;
		out->foff = g->foff;
		out->stale = (g->word & PF_SLOT_STALE) != 0;
		out->pins = pf_ledger_pins(&s->led, slot);
		out->next_ext = g->next_ext;
		for (uint32_t i = 0; i < g->next_ext; i++) {
			out->pages += g->ext[i].npage;
			if (i < SHOWN_EXTENTS)
				out->ext[i] = g->ext[i];
		}
		memcpy(out->path, sh->path, sizeof out->path);
	}
	pf_mutex_unlock(&sh->obj->lock);
	if (g && v->size_of)
		out->size = v->size_of(sh->inode);
	pf_share_unref(fs, sh);
	return g != NULL;
}

static void put_window(struct text *t, const struct pf_sess *s, uint32_t slot, const struct shown *w)
{
	uint64_t bytes;

	putf(t, "{\"session\":%llu,\"pid\":%d,\"comm\":", (ull)s->id, (int)s->pid);
	puts_json(t, s->comm);
	putf(t, ",\"ino\":%llu,\"file\":", (ull)w->ino);
	puts_json(t, w->path);
	putf(t, ",\"size\":%llu,\"foff\":%llu,\"slot\":%u,\"stale\":%s,\"pins\":%llu,", (ull)w->size, (ull)w->foff,
	     slot, w->stale ? "true" : "false", (ull)w->pins);
	bytes = w->pages * PF_BLK_SIZE;
	putf(t, "\"bytes\":%llu,\"extents\":%u,\"at\":[", (ull)bytes, w->next_ext);
	for (uint32_t i = 0; i < w->next_ext && i < SHOWN_EXTENTS; i++) {
		uint64_t foff = w->foff + w->ext[i].page * PF_BLK_SIZE, doff = w->ext[i].dblk * PF_BLK_SIZE;

		bytes = w->ext[i].npage * PF_BLK_SIZE;
		putf(t, "%s[%llu,%llu,%llu]", i ? "," : "", (ull)foff, (ull)doff, (ull)bytes);
	}
	putf(t, "]}");
}

static void put_image(struct pf_fs *fs, struct text *t)
{
	struct pf_below b;

	pf_pm_below(fs->pm, &b);
	putf(t, "\"image\":{\"fs\":\"%s\",\"huge\":\"%s\",\"shmem_enabled\":\"%s\",\"grain\":%llu,", b.fs, b.huge,
	     b.shmem, (ull)fs->pm->grain);
	putf(t, "\"dev_major\":%u,\"dev_minor\":%u,\"ino\":%llu,\"pmem_mode\":\"%s\"},", b.dev_major,
	     b.dev_minor, (ull)b.ino, pf_pmem_name[fs->pm->mode]);
}

static void put_windows(struct pf_fs *fs, const struct pf_viewer *v, struct text *t, struct pf_sess **sess,
			unsigned int nsess, pid_t pid)
{
	unsigned int i, shown = 0;
	uint64_t left = 0;
	struct shown w;

	putf(t, "{\"mount\":");
	puts_json(t, v->mount);
	putf(t, ",");
	put_image(fs, t);
	putf(t, "\"windows\":[");
	for (i = 0; i < nsess; i++) {
		/* Where a file lies, and what it is called, is for those who may know. */
		if (!shows(v, sess[i]) || (pid != 0 && sess[i]->pid != pid))
			continue;
		for (uint32_t slot = 0; slot < sess[i]->led.nslot; slot++) {
			if (!look_at(fs, v, sess[i], slot, &w))
				continue;
			if (room_for(t, shown)) {
				put(t, ",", shown != 0);
				put_window(t, sess[i], slot, &w);
				shown++;
			} else {
				left++;
			}
		}
	}
	putf(t, "]");
	if (left != 0)
		putf(t, ",\"windows_left_off\":%llu", (ull)left);
	putf(t, "}");
}

/* Pause points */

#define STANDING_MAX 256U

static void put_pauses(struct pf_fs *fs, struct text *t)
{
	struct pf_standing who[STANDING_MAX];
	struct pf_armed armed[PF_AT_NR];
	unsigned int n = pf_pause_standing(fs, who, STANDING_MAX), shown = 0;
	uint64_t now = pf_lay_now();

	pf_pause_armed(fs, armed);
	putf(t, "{\"points\":%s,\"armed\":[", fs->pause ? "true" : "false");
	for (unsigned int i = 0; i < PF_AT_NR; i++) {
		if (!armed[i].on)
			continue;
		putf(t, "%s{\"point\":\"%s\",\"ino\":%llu,\"left\":%llu,\"stood\":%llu}", shown++ != 0 ? "," : "",
		     pf_point_name[i], (ull)armed[i].ino, (ull)armed[i].left, (ull)armed[i].stood);
	}
	putf(t, "],\"standing\":[");
	for (unsigned int i = 0; i < n; i++)
		putf(t, "%s{\"point\":\"%s\",\"what\":\"%s\",\"pid\":%d,\"ino\":%llu,\"age_ns\":%llu}", i ? "," : "",
		     pf_point_name[who[i].at], who[i].what, (int)who[i].pid, (ull)who[i].ino,
		     (ull)since(who[i].since_ns, now));
	putf(t, "]}");
}

/* Leases */

#define LEASES_AT_ONCE 64U

/* Those of one share from the @skip-th on; how many were copied, and the session's name for the file. */
static unsigned int copy_leases(struct pf_share *sh, unsigned int skip, struct pf_lease_info *out, unsigned int max,
				char *path, size_t len)
{
	unsigned int n;

	pf_mutex_lock(&sh->obj->lock);
	n = pf_lease_list(sh, skip, out, max);
	(void)snprintf(path, len, "%s", sh->path);
	pf_mutex_unlock(&sh->obj->lock);
	return n;
}

static void put_lease(struct text *t, const struct pf_viewer *v, const struct pf_share *sh,
		      const struct pf_lease_info *l, const char *path)
{
	static const char *const state_name[] = { "held", "breaking", "broken" };
	const struct pf_sess *s = sh->sess;
	unsigned int n = 0;

	while (shows(v, s) && n < PF_T_FRAMES && l->stack.ts_pc[n] != 0)
		n++;

	putf(t, "{\"id\":%llu,\"session\":%llu,\"pid\":%d,\"uid\":%u,\"comm\":", (ull)l->id, (ull)s->id,
	     (int)s->pid, s->uid);
	puts_json(t, s->comm);
	putf(t, ",\"ino\":%llu,\"file\":", (ull)sh->obj->ino);
	puts_json(t, shows(v, s) ? path : "");
	putf(t, ",\"foff\":%llu,\"len\":%llu,\"kind\":\"%s\",\"unbreakable\":%s,\"state\":\"%s\",", (ull)l->foff,
	     (ull)l->len, l->flags & PF_LE_WRITE ? "write" : "read", l->flags & PF_LE_UNBREAK ? "true" : "false",
	     l->ghost ? "dropped" : state_name[l->state]);
	putf(t, "\"under_way\":%s,\"age_ns\":%llu,\"left_ms\":%llu,\"pages\":%llu", l->given ? "true" : "false",
	     (ull)l->age_ns, (ull)l->left_ms, (ull)l->pages);
	put_stack(t, &l->stack, n);
	putf(t, ",\"process_start_ns\":%llu}", (ull)s->born_ns);
}

static void put_leases(struct text *t, const struct pf_viewer *v, struct pf_sess **sess, unsigned int nsess)
{
	struct pf_lease_info l[LEASES_AT_ONCE];
	unsigned int shown = 0, skip, n;
	char path[256];
	uint64_t left = 0;

	putf(t, "{\"leases\":[");
	for (unsigned int i = 0; i < nsess; i++)
		for (struct pf_share *sh = pf_sess_share(sess[i], NULL); sh; sh = pf_sess_share(sess[i], sh))
			for (skip = 0; (n = copy_leases(sh, skip, l, LEASES_AT_ONCE, path, sizeof path)) != 0;
			     skip += n)
				for (unsigned int k = 0; k < n; k++) {
					if (!room_for(t, shown)) {
						left++;
						continue;
					}
					put(t, ",", shown++ != 0);
					put_lease(t, v, sh, &l[k], path);
				}
	putf(t, "]");
	if (left != 0)
		putf(t, ",\"leases_left_off\":%llu", (ull)left);
	putf(t, "}");
}

int pf_report(struct pf_fs *fs, const struct pf_p_report_in *in, const struct pf_viewer *viewer, char **text,
	      size_t *len)
{
	struct pf_sess **sess;
	struct text t = { 0 };
	unsigned int i, n;

	if (in->ri_what > PF_REPORT_LEASES && in->ri_what != PF_REPORT_PAUSES)
		return -EINVAL;
	sess = malloc(ENTRIES_MAX * sizeof(struct pf_sess *));
	if (!sess)
		return -ENOMEM;
	n = pf_reg_sessions(fs, sess, ENTRIES_MAX);
	if (in->ri_what == PF_REPORT_STATUS) {
		status(fs, viewer, &t, sess, n);
	} else if (in->ri_what == PF_REPORT_LEASES) {
		put_leases(&t, viewer, sess, n);
	} else if (in->ri_what == PF_REPORT_WINDOWS) {
		put_windows(fs, viewer, &t, sess, n, (pid_t)in->ri_pid);
	} else if (in->ri_what == PF_REPORT_PAUSES) {
		put_pauses(fs, &t);
	} else {
		put_pins(&t, viewer, sess, n);
		put_all_kept(&t, viewer, sess, n);
		put_waiters(fs, viewer, &t);
	}
	for (i = 0; i < n; i++)
		pf_sess_put(sess[i]);
	free(sess);
	if (t.failed) {
		free(t.buf);
		return -ENOMEM;
	}
	*text = t.buf;
	*len = t.len;
	return 0;
}
