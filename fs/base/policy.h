/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy.h - what happens to an operation that meets a pin: the settings, and their names and values as text.
 *
 * The same words are mount options, arguments of `pinfsctl set`, and values of attributes user.pinfs.<key>.
 */
#ifndef PF_BASE_POLICY_H
#define PF_BASE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <pinfs/compiler.h>

enum pf_busy { PF_BUSY_WAIT, PF_BUSY_EBUSY, PF_BUSY_DEFER, PF_BUSY_UNSAFE, PF_BUSY_POLL, PF_BUSY_NR };
enum pf_scope { PF_SCOPE_RANGE, PF_SCOPE_FILE, PF_SCOPE_NR };
enum pf_lease_break { PF_LEASE_REVOKE, PF_LEASE_TXTBSY, PF_LEASE_KILL, PF_LEASE_BREAK_NR };
/* What becomes of pins that last as long as the client likes: none, only under a lease, any. */
enum pf_longterm { PF_LONG_REFUSE, PF_LONG_LEASE, PF_LONG_ALLOW, PF_LONG_NR };
extern const char *const pf_busy_name[PF_BUSY_NR];
extern const char *const pf_scope_name[PF_SCOPE_NR];
extern const char *const pf_lease_break_name[PF_LEASE_BREAK_NR];
extern const char *const pf_longterm_name[PF_LONG_NR];

struct pf_policy {
	enum pf_busy on_busy;		/* what a break does that meets a pin */
	enum pf_scope scope;		/* range: only pins that the operation hits; file: any, as Linux */
	uint64_t timeout_ms;		/* wait, poll: 0 = none; then EBUSY */
	uint64_t poll_ms;		/* poll: between two looks; 0: PF_POLL_DEFAULT_MS */
	bool unfair;			/* pins that come while it waits are granted, as Linux does */
	bool deadlock_waits;		/* a wait that can never end is waited, as Linux does; else EDEADLK */
	enum pf_lease_break lease_break;/* what comes over a lease that is not given back in time */
	uint64_t lease_ms;		/* the time; 0: PF_LEASE_DEFAULT_MS */
	enum pf_longterm longterm;
};
#define PF_POLL_DEFAULT_MS UINT64_C(10)
#define PF_LEASE_DEFAULT_MS UINT64_C(45000)	/* /proc/sys/fs/lease-break-time of Linux */

enum pf_policy_key {
	PF_POLICY_ON_BUSY, PF_POLICY_BREAK, PF_POLICY_TIMEOUT, PF_POLICY_POLL, PF_POLICY_FAIR, PF_POLICY_DEADLOCK,
	PF_POLICY_LEASE_TIME, PF_POLICY_LEASE_BREAK, PF_POLICY_LONGTERM,
	PF_POLICY_NR
};
extern const char *const pf_policy_name[PF_POLICY_NR];	/* "on_busy", "break", ... */
#define PF_POLICY_KEYS \
	"on_busy=, break=, busy_timeout=, poll_interval=, fair=, deadlock=, lease_time=, lease_break= or longterm="

/* -ENOENT: no such key. */
int pf_policy_find(const char *name, enum pf_policy_key *key) PF_MUST_CHECK;
/* Set one of them from text. -EINVAL: *@must says what would be right, for people. */
int pf_policy_set(struct pf_policy *p, enum pf_policy_key key, const char *val, const char **must) PF_MUST_CHECK;

/* Settings that differ from those of the mount: bit 1 << key of @set says which of @p count. */
struct pf_policy_over { unsigned int set; struct pf_policy p; };
void pf_policy_merge(struct pf_policy *p, const struct pf_policy_over *over);
/* "on_busy=ebusy,busy_timeout=2", or "" for none. -EINVAL: *@must says what would be right. */
int pf_policy_parse(const char *text, struct pf_policy_over *out, const char **must) PF_MUST_CHECK;

/* "2", "0.5", "2s", "250ms", exactly; at most 31 years. -EINVAL. */
int pf_parse_ms(const char *s, uint64_t *ms) PF_MUST_CHECK;

#endif
