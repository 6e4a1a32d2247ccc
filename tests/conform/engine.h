/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.h - pinfs-conform from inside: what its parts know of each other. Cases see only conform.h.
 *
 *   main.c     options, and what they ask for                 case.c     a case's answer, its place, its files
 *   setup.c    before the first case                          call.c     calls that may wait
 *   detect.c   what the directory is: its tags                settle.c   how waiting is seen
 *   run.c      cases as tests of CUnit, each in a child       daemon.c   the reports of a pinfs
 *   tidy.c     what a case leaves behind                      pin.c      transfers of devices that hold pages
 *   expect.c   "answer; tags: answer": who is right where     slow.c     a file that answers late
 *   record.c   answers in a file                              guard.c    that cases do not meet through the mount
 *   report.c   results for people; report_as.c: for programs
 */
#ifndef CONFORM_ENGINE_H
#define CONFORM_ENGINE_H

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include "conform/conform.h"
#include "harness/slowsrv.h"

#define ANSWER_MAX 256
#define NOTES_MAX 4096

/* ---- expect.c ---- */

struct tags {
	char name[40][16];
	unsigned int n;
};
void tags_add(struct tags *t, const char *tag);
bool tags_have(const struct tags *t, const char *tag);
/* @t with the policy @policy in place of its own. */
struct tags tags_with_policy(const struct tags *t, const char *policy);
/* A word that cf_case.want may have as a tag. */
bool tag_known(const char *tag, size_t len);

/* What @want says under @t, in @out: false when it says nothing there, or makes no sense (expect_sane()). */
bool expect_find(const char *want, const struct tags *t, char out[ANSWER_MAX]);
/* "a|b" of @expected is @answer; "?" is every answer. */
bool expect_met(const char *expected, const char *answer);
/* "na: reason": the reason, else NULL. */
const char *expect_na(const char *expected);
/* NULL, or what is wrong with it, for people. */
const char *expect_sane(const char *want);

/* ---- detect.c ---- */

struct place {
	char dir[PATH_MAX];		/* as given, made absolute */
	char work[PATH_MAX];		/* made there, of ours */
	char mount[PATH_MAX];		/* of the pinfs; "" */
	char fstype[32];
	char what[256];			/* for people: "pinfs 0.1.0, profile own, on_busy=wait" */
	char no_pins[256];		/* why none can be made, or "" */
	char programs[PATH_MAX];	/* "" */
	bool pinfs;			/* it has a daemon */
	const char *pin;		/* "api", "slow", "pipe"; NULL */
	uint64_t fill_max;
	const char *scratch_dev, *slow_dev, *profile;
	char plain_dir[PATH_MAX];	/* of ours; "" */
	unsigned int limit_s;
	struct tags tags;		/* what it is */
	struct tags want_tags;		/* whose answers are expected: the same, but for --profile */
	struct tags linux_tags;		/* of what the column "Linux" shows */
};
/* 0, or -1 having said why not. Of p->dir and p->work; p->pin: what the user wants, or NULL. */
int detect(struct place *p);
bool profile_known(const char *name);
/* The mount that @path is on, from /proc/self/mountinfo. */
bool mount_of(const char *path, char mnt[PATH_MAX], char fstype[32]);

/* ---- cases.c: all groups ---- */

extern const struct cf_group *const cf_groups[];
extern const unsigned int cf_ngroup;

/* ---- run.c ---- */

enum verdict { V_PASS, V_DIFFERS, V_NA, V_BROKEN };

/* What a child says, in memory that is shared with it. */
struct outcome {
	_Atomic uint32_t answered, na, broken;
	char answer[ANSWER_MAX];
	char why[512];			/* na, broken */
	char notes[NOTES_MAX];
};

struct result {
	const struct cf_group *group;
	const struct cf_case *cs;
	enum verdict verdict;
	bool machine;			/* V_NA because of what there is not here, not because of the question */
	char expected[ANSWER_MAX], answer[ANSWER_MAX], on_linux[ANSWER_MAX];
	bool has_twin;
	char twin_expected[ANSWER_MAX], twin[ANSWER_MAX];
	char why[512];			/* of V_NA, V_BROKEN, and of a twin that shows nothing */
	char notes[NOTES_MAX];
	double seconds;
};

struct suite {
	struct place place;
	unsigned int repeat;
	const char *filter;
	bool twin, verbose, progress;
	struct record *expect;		/* or NULL */
	struct result *result;
	size_t nresult;
};
/* Is the case asked for? */
bool suite_wants(const struct suite *s, const struct cf_case *cs);
/* From now on signals end the suite in order. 0, or -1 having said why not. */
int suite_begin(struct suite *s);
/* All of them; the results are in s->result. 0, or -1 having said why, or after a signal. */
int suite_run(struct suite *s);
/* The signal that has ended it, or 0. */
int suite_stopped(void);

/* ---- record.c ---- */

/* NULL, having said why. */
struct record *record_read(const char *path);
void record_free(struct record *r);
const char *record_find(const struct record *r, const char *id);

/* ---- setup.c: 0, or -1 having said why ---- */

bool on_pinfs(const char *dir);
/* On a pinfs: begins the program anew with the preload library, if it can. */
void setup_preload(const char *dir, char **argv);
int setup_work(struct place *p, const char *dir);
int setup_policy(const struct place *p, const char *text);
int setup_plain(struct place *p, const char *given);
void setup_end(struct place *p);

/* ---- case.c: the context of a case, in its child ---- */

struct cf {
	const struct cf_case *cs;
	const struct place *place;
	struct tags tags;
	char dir[PATH_MAX];
	struct outcome *out;
};
/* In the child; does not return. */
_Noreturn void case_run(struct cf *c);
/* "EBUSY" for -EBUSY. */
const char *error_name(long rc);

/* ---- call.c, settle.c ---- */

struct cf_call {
	struct cf *c;
	struct call_mem *mem;
	pid_t pid;
	bool process, settled;
	enum cf_state state;		/* at the last cf_settle() */
	uint64_t seen;			/* settle.c: the sleep that was taken for a wait, + 1 */
	struct cf_call *next;
};
struct call_mem {
	_Atomic uint32_t tid, done;
	long rc;
};
/* All calls of the case. */
extern struct cf_call *calls;
bool settle_once(struct cf_call *call);		/* seen to wait */
/* A thread of this process sleeps in direct I/O. */
bool sleeps_for_device(pid_t tid);

/* ---- pin.c, slow.c ---- */

/* In the runner, before the first case: false when there can be no slow file here; why, in @why. */
bool slow_start(const char *dir, char *why, size_t room);
bool slow_there(void);
/* After a case: whatever waits is answered, and nothing waits any more. */
void slow_reset(void);
void slow_stop(void);
pid_t slow_pid(void);
const char *slow_file(void);
/* Bytes of it that no other transfer has, of any process. */
uint64_t slow_region(uint64_t len);
/* Requests of [off, + len) wait from now on, until they are released; all of the file: 0, SLOW_BYTES. */
int slow_hold(uint64_t off, uint64_t len);
void slow_release(int hold);
/* How many wait because of it, and bytes of them. */
unsigned int slow_waiting(int hold);
/* What was written to the region. */
const char *slow_data(uint64_t off);

/* ---- tidy.c ---- */

/* Everything below @dir, and it, whatever flags and modes stand in the way; other mounts only unmounted. */
void tidy_tree(const char *dir);
/*
 * Where a case may mount that cannot do so in its directory, if @runner runs it: in $TMPDIR. Nothing is left there when
 * the case has ended.
 */
const char *tidy_elsewhere(char path[PATH_MAX], pid_t runner);
/* Unmount what is mounted below @dir; how many there were. */
unsigned int tidy_mounts(const char *dir);
/* Is the process on its way out? */
bool tidy_exits(pid_t pid);
/* Kill what the case has left: children that came to us, but for @keep. How many there were. */
unsigned int tidy_children(pid_t keep);

/* ---- guard.c ---- */

/* Remember the policy of a pinfs mount. */
void guard_begin(const struct place *p);
/* Is it still the same, and the filesystem sound? Else *why, and the policy is put back. */
bool guard_look(const struct place *p, char *why, size_t room);

/* ---- report.c, report_as.c ---- */

enum format { FMT_TABLE, FMT_TAP, FMT_JUNIT, FMT_JSON, FMT_TSV };
int report_write(const struct suite *s, enum format f, FILE *out);
void report_table(const struct suite *s, FILE *f);
void report_tap(const struct suite *s, FILE *f);
void report_junit(const struct suite *s, FILE *f);
void report_json(const struct suite *s, FILE *f);
void report_tsv(const struct suite *s, FILE *f);
void report_summary(const struct suite *s, FILE *f);
/* How many of each enum verdict. */
void report_counts(const struct suite *s, unsigned int n[4]);
const char *report_verdict(enum verdict v);
/* Is the answer another one than that of Linux? */
bool report_departs(const struct result *r);
/* A line on the terminal; "": none any more. */
void report_progress(const struct suite *s, size_t at, const char *id);

/* ---- daemon.c ---- */

/* The daemon's report, parsed; NULL when there is none. */
struct json_object;
struct json_object *daemon_report(const struct place *p, bool pins);

#endif
