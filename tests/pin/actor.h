/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * actor.h - processes of a test that do what they are told: open, map, pin, DMA, truncate ...
 *
 * A case is a play for several processes. Each actor is a child with a session of its own as soon as it maps
 * something; it obeys one order at a time. actor_do() waits for the answer; actor_send() does not, so that a case
 * can watch an order that blocks, and actor_result() asks how it ended. An answer is 0 or more, or a negative
 * errno.
 *
 * File operations are bare system calls (a program without the library would make the same), unless said otherwise.
 * Mapping and pins go through libpinfs.
 */
#ifndef TESTS_PIN_ACTOR_H
#define TESTS_PIN_ACTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define ACTOR_SLOTS 8		/* descriptors, mappings and pins of an actor are numbered 0..7 */
#define ACTOR_MANY 1024		/* for the orders that act on many files */

enum act_verb {
	ACT_OPEN,		/* n, path, flags */
	ACT_CLOSE,		/* n */
	ACT_MAP,		/* n = mapping, m = descriptor, off, len, flags = PROT_* */
	ACT_UNMAP,		/* n */
	ACT_PIN,		/* n = pin, m = mapping, off (in the mapping), len, flags = PINFS_PIN_* */
	ACT_UNPIN,		/* n */
	ACT_QUERY,		/* n: what pinfs_pin_query() says */
	ACT_FORGET,		/* n: unpin, but keep the addresses, as a device does whose driver never pinned */
	ACT_DMA,		/* n = pin, id: the device writes transfer `id` to the pinned addresses, now. Bytes */
	ACT_STORE,		/* n = mapping, off, len, id = byte. -EFAULT: SIGBUS */
	ACT_LOAD,		/* n = mapping, off: the byte. -EFAULT: SIGBUS */
	ACT_ADVISE,		/* n = mapping, off, len, flags = MADV_* */
	ACT_TRUNCATE,		/* path, off = size */
	ACT_OPEN_TRUNC,		/* path */
	ACT_FALLOCATE,		/* path, flags = mode, off, len */
	ACT_WRITE,		/* path, off, len, id = byte */
	ACT_UNLINK,		/* path */
	ACT_MANY_PIN,		/* path = prefix of files <path>0 ..., len = how many: write-pin page 0 of each */
	ACT_MANY_UNPIN,
	ACT_MANY_TRUNCATE,	/* the same; to size `off`, each by a thread of its own; 0 when all are done */
	ACT_VERB_NR
};

struct act {
	uint32_t verb;
	uint32_t n, m;
	uint32_t flags;
	uint64_t off, len, id;
	char path[512];
};

struct actor;

/* Fork one. Ends the case (fatally) when that fails. All actors left are killed after the case. */
struct actor *actor_new(void);
pid_t actor_pid(const struct actor *a);
void actor_send(struct actor *a, struct act what);
/* The answer to the last order; -EINPROGRESS when it is not there after @ms; -ECHILD when the actor has died. */
long actor_result(struct actor *a, unsigned int ms);
/* Send, and wait up to a minute: an order that should not block. */
long actor_do(struct actor *a, struct act what);
/* SIGUSR1, more than once: one that comes before the order has begun to wait is in vain. How the order ended then. */
long actor_interrupt(struct actor *a);
/* Leave in order: exit(0), which the case checks. */
void actor_end(struct actor *a);
/* SIGSTOP; returns when all its threads stand still. */
void actor_stop(struct actor *a);
/* SIGKILL; returns when it is gone. */
void actor_kill(struct actor *a);

/* Orders. */
struct act act_open(unsigned int fd, const char *path, int flags);
struct act act_close(unsigned int fd);
struct act act_map(unsigned int map, unsigned int fd, uint64_t off, uint64_t len, int prot);
struct act act_unmap(unsigned int map);
struct act act_pin(unsigned int pin, unsigned int map, uint64_t off, uint64_t len, unsigned int flags);
struct act act_unpin(unsigned int pin);
struct act act_query(unsigned int pin);
struct act act_forget(unsigned int pin);
struct act act_dma(unsigned int pin, uint64_t id);
struct act act_store(unsigned int map, uint64_t off, uint64_t len, int byte);
struct act act_load(unsigned int map, uint64_t off);
struct act act_advise(unsigned int map, uint64_t off, uint64_t len, int advice);
struct act act_truncate(const char *path, uint64_t size);
struct act act_open_trunc(const char *path);
struct act act_fallocate(const char *path, int mode, uint64_t off, uint64_t len);
struct act act_write(const char *path, uint64_t off, uint64_t len, int byte);
struct act act_unlink(const char *path);
struct act act_many(enum act_verb verb, const char *prefix, uint64_t n, uint64_t size);

/* Open read-write, map [0, len), close the descriptor: mapping @map. 0 or -errno. */
long actor_map_file(struct actor *a, unsigned int map, const char *path, uint64_t len);

#endif
