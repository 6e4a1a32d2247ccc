/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dmaemu.h - what the verbs of dmaemu share: a job (one transfer as a user asks for it), its result, its exit statuses.
 */
#ifndef TOOLS_DMAEMU_H
#define TOOLS_DMAEMU_H

#include <stdbool.h>
#include <stdint.h>
#include <pinfs/compiler.h>
#include "dma/dma.h"

enum {
	EX_OK = 0,		/* done; the bytes are right */
	EX_WRONG = 1,		/* the transfer ended with an error, or bytes are not what they should be */
	EX_USE = 2,		/* bad arguments */
	EX_FAIL = 3,		/* could not start: no file, no mount, no server, no such transfer */
	EX_TIMEOUT = 4,		/* wait --timeout */
};

/* Of a submitted transfer: who holds the blocks? The device; who submits; or who submits, until the device has it. */
enum job_owner { JOB_DEVICE, JOB_CLIENT, JOB_HANDOVER, JOB_OWNER_NR };
extern const char *const job_owner_name[JOB_OWNER_NR];

/* Crosses the socket of `serve` as it is: both ends are the same program. */
struct job {
	uint64_t id;		/* 0: any free one */
	uint64_t foff, len;	/* bytes of the file; len 0: to its end */
	uint64_t delay_ns, rate, burst, stop_at, error_at;
	uint64_t seed, jitter_ns;	/* seed 0: in order, evenly */
	uint64_t tear_ns;	/* DMA_NEVER: bursts are not torn */
	int32_t error;		/* negative errno */
	uint32_t dir;		/* enum dma_dir */
	uint32_t mode;		/* enum dma_mode */
	uint32_t lease;		/* PINFS_LEASE_* */
	uint32_t owner;		/* enum job_owner */
	uint8_t direct, deaf;	/* struct dma_how */
	uint8_t pad[2];
	char label[DMA_LABEL];
	char name[256];		/* the file, for people */
};

struct job_args {
	struct job job;
	const char *file;
	const char *socket;	/* --socket */
	const char *in, *out;	/* --in, --out: bytes instead of the pattern */
	bool wait;		/* --wait */
	bool unmap;		/* --unmap */
	bool json, verbose;
};

/* What the mapping of a started job was; to be given back with job_unmap(). */
struct job_map {
	void *base;
	size_t len;
};

/* One line on standard error. Returns @status. */
int complain(int status, const char *fmt, ...) PF_PRINTF(2, 3);

/* For a transfer that did not start: @why from job_start(). Returns EX_FAIL. */
int complain_start(const char *file, const char *why, int err);

/* Options of run and submit. 0 or an exit status, having complained. */
int job_parse(int argc, char **argv, bool run, struct job_args *out);

/* Open flags that the job's direction needs. */
int job_open_flags(const struct job *j);

/* The job's file: a regular one of a pinfs mount that has the range. job->len becomes the true length. *why: below. */
int job_check(int fd, struct job *j, const char **why);
/* Its range, mapped; *addr is where byte job->foff is. */
int job_map(int fd, const struct job *j, struct job_map *map, char **addr, const char **why);
/* What the engine has to know of it, but the addresses. */
struct dma_desc job_desc(const struct job *j);
struct dma_how job_how(const struct job *j);

/*
 * Map the job's range of @fd and submit it. @done and @arg as in struct dma_desc; @buf: NULL for the pattern. On
 * failure *why is the call that failed (one word), or says all in a phrase. job->len becomes the true length.
 */
int job_start(struct dma_engine *e, int fd, struct job *j, void *buf, void (*done)(void *, const struct dma_stat *),
	      void *arg, struct job_map *map, struct dma_xfer **out, const char **why);
void job_unmap(struct job_map *map);

/* Print one result, or progress; exit status that it stands for. */
int job_print(bool json, const struct job *j, const struct dma_stat *st);
/* "ECANCELED" and the like. @err: negative. */
const char *err_name(int err);
/* Sizes, or exit status EX_USE with a complaint. */
int parse_size(const char *opt, const char *text, uint64_t *out);
int parse_time(const char *opt, const char *text, uint64_t *out);

int cmd_run(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_submit(int argc, char **argv);
int cmd_wait(int argc, char **argv);
int cmd_go(int argc, char **argv);
int cmd_cancel(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_verify(int argc, char **argv);

#endif
