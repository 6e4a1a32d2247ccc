/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pinbench.h - what the parts of pinbench share: the places to measure in, and the shape of a case.
 *
 * A case measures one quantity on up to three subjects: pinfs, a reference (tmpfs, unless the case names another),
 * and a FUSE peer. Its runs on the subjects are interleaved, round by round, so that a slow minute of the machine
 * hits all of them.
 */
#ifndef PB_PINBENCH_H
#define PB_PINBENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum pb_subject { PB_PINFS, PB_REF, PB_PEER, PB_NSUBJECT };

#define PB_BIT(s) (1U << (s))
#define PB_ONLY_PINFS PB_BIT(PB_PINFS)
#define PB_TWO (PB_BIT(PB_PINFS) | PB_BIT(PB_REF))
#define PB_ALL (PB_TWO | PB_BIT(PB_PEER))

struct pb_env {
	bool quick;
	bool verbose;
	bool million;
	unsigned int rounds;
	const char *mount_opts;		/* for pinfs -o, may be NULL */
	const char *peer_opts;		/* the peer's, beside what makes it comparable */
	char base[128];			/* scratch directory, made by us */
	char image[160];
	char mnt[PB_NSUBJECT][160];	/* where each subject's files live; the peer's is empty if there is none */
	const char *peer_name;		/* NULL: no peer */
	const char *peer_why;		/* why not */
	bool pinfs_mounted, peer_mounted;
};

enum pb_unit { PB_NS, PB_US, PB_MS, PB_MIBS, PB_OPS, PB_KIB, PB_NUNIT };
extern const char *const pb_unit_name[PB_NUNIT];

static inline bool pb_more_is_better(enum pb_unit u) { return u == PB_MIBS || u == PB_OPS; }

/* RATIO: pinfs / reference; PEER: pinfs / peer. */
enum pb_aim { PB_AIM_NONE, PB_AIM_RATIO_MIN, PB_AIM_RATIO_MAX, PB_AIM_MAX, PB_AIM_PEER_MIN };

/* What one case keeps between its runs on one subject. */
struct pb_state {
	int fd;
	char path[224];
	uint8_t *map;
	size_t len;
	void *buf;
	struct pinfs_pin *pin;
	unsigned int serial;
};

struct pb_case {
	const char *name;		/* group.what, for --only */
	const char *what;		/* one line for people */
	enum pb_unit unit;
	unsigned int subjects;		/* PB_BIT() */
	const char *ref;		/* name of the reference, NULL: tmpfs */
	enum pb_aim aim;
	bool fresh;			/* setup and clean in every round: where the pages lie is a matter of luck */
	bool once;			/* one round: it takes long, or comes with the value of an earlier one */
	double limit;			/* of the aim, in the case's unit or as pinfs / reference */
	/* 0 or -errno. setup and clean may be NULL. */
	int (*setup)(const struct pb_env *e, enum pb_subject s, struct pb_state *st);
	int (*run)(const struct pb_env *e, enum pb_subject s, struct pb_state *st, double *out);
	void (*clean)(const struct pb_env *e, enum pb_subject s, struct pb_state *st);
};

extern const struct pb_case pb_call_cases[];
extern const size_t pb_call_count;
extern const struct pb_case pb_mem_cases[];
extern const size_t pb_mem_count;
extern const struct pb_case pb_fault_cases[];
extern const size_t pb_fault_count;
extern const struct pb_case pb_pin_cases[];
extern const size_t pb_pin_count;
extern const struct pb_case pb_many_cases[];
extern const size_t pb_many_count;
extern const struct pb_case pb_file_cases[];
extern const size_t pb_file_count;
extern const struct pb_case pb_scale_cases[];
extern const size_t pb_scale_count, pb_scale_million;	/* so many at the end are for --million only */

struct pb_result {
	const struct pb_case *c;
	int err[PB_NSUBJECT];		/* -errno of a failed subject; 1: not measured */
	double median[PB_NSUBJECT], least[PB_NSUBJECT], most[PB_NSUBJECT];
	double ratio[PB_NSUBJECT];	/* pinfs / subject: median of the rounds' ratios */
};

/* env.c */
int pb_env_up(struct pb_env *e);
void pb_env_down(struct pb_env *e);
/* One more mount, of an image of @bytes, with this window; @dir: where. 1: there is not enough memory for it. */
int pb_more_up(const struct pb_env *e, size_t window, size_t bytes, char *dir, size_t size);
void pb_more_down(void);

/* report.c */
void pb_report_table(const struct pb_env *e, const struct pb_result *r, size_t n);
void pb_report_json(const struct pb_env *e, const struct pb_result *r, size_t n);
/* True when the case has an aim, was measured, and missed it. */
bool pb_missed(const struct pb_result *r);

/* Helpers of the cases, in env.c. */
uint64_t pb_now_ns(void);
uint64_t pb_cpu_ns(void);			/* of this thread: for what does not wait */
double pb_median(double *v, size_t n);		/* sorts */
/* A new file of @len bytes, every block allocated and written; st->path and st->fd. */
int pb_file_make_at(const char *dir, const char *name, size_t len, struct pb_state *st);
int pb_file_make(const struct pb_env *e, enum pb_subject s, const char *name, size_t len, struct pb_state *st);
int pb_file_map(struct pb_state *st);		/* all of it, shared, read and write; st->map */
void pb_file_drop(const struct pb_env *e, enum pb_subject s, struct pb_state *st);

#endif
