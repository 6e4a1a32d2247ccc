/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sh.h - libpinfs.so from inside: its structures, threads and locks. Start reading here, then fault.c and pin.c.
 *
 * A *window* is memory that stands for a piece of a pinfs file. It is reserved as anonymous memory registered
 * with userfaultfd; a fault replaces pieces of it by shared mappings of the device, an invalidation moves fresh
 * registered memory over them.
 *
 *   sh_vma    a piece of a window with one protection      tree by address (sh.vmas) and list per file
 *   sh_map    what one mmap() made: address <-> offset,    shared by the vmas it was split into
 *             and which pages are mapped at present
 *   sh_file   one inode, attached to the session           list per session
 *   sh_slot   one 2 MiB piece of a file in the session's   array per session, hashed by (file, chunk)
 *             window: device address of each page
 *   sh_session  one daemon                                 list sh.sessions
 *
 * THREADS. All are started with the first window, have every signal blocked, and live in a descriptor table of
 * their own (close_range(CLOSE_RANGE_UNSHARE)): a program that closes all descriptors, counts them, or holds
 * POSIX locks that any close() would drop, does not notice ours, and no child process inherits one.
 *
 *   watch   reads the userfaultfd, queues page faults. Takes no lock that anybody holds across mremap(): a
 *           mremap of registered memory returns only when its event has been read.
 *   serve   owns the sockets' reading side: answers and invalidations in the order of arrival, and the queued
 *           faults. The only writer of slots. Never waits for the daemon.
 *   crew    does what needs one of our descriptors on behalf of the program's threads: attach, make windows,
 *           send, pass a descriptor on.
 *
 * LOCKS, in this order.
 *
 *   sh.lock          vmas, maps, files, slots. A program's thread holds it with all signals blocked: a handler
 *                    that touches a window would otherwise wait for serve, which waits for the lock. Nobody
 *                    touches a window, waits for the daemon or allocates through the program's malloc() under
 *                    it. May be held across mremap(): see watch.
 *   ses->tx          one message at a time on the socket
 *   ses->pend_lock   requests without an answer
 *   ses->pin_lock    free pins of the session
 *   long_lock        devices that have pages of ours (longterm.c)
 *   mem_lock         the allocator (mem.c)
 *
 * The pin fast path takes none of them.
 *
 * No malloc() anywhere: the program's allocator may itself live in a window.
 */
#ifndef SH_H
#define SH_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <pinfs/compiler.h>
#include <pinfs/ioctl.h>
#include <pinfs/ledger.h>
#include <pinfs/pin.h>
#include <pinfs/proto.h>
#include <pinfs/types.h>
#include <pinfs/version.h>

#define SH_PAGE PF_BLK_SIZE
#define SH_CHUNK_PAGES ((unsigned int)PF_CHUNK_BLKS)

/* Runs before the process is set up: a sanitizer's own start calls mmap(), which is us. */
#define SH_EARLY __attribute__((no_sanitize("thread")))

/* ---- log.c: raw write(2) to a descriptor of its own; no stdio, no malloc ---- */
enum sh_level { SH_ERR, SH_WARN, SH_INFO, SH_DEBUG };
void sh_log_init(void);
void sh_log(enum sh_level level, const char *fmt, ...) PF_PRINTF(2, 3);

/* ---- real.c: the calls that we stand in front of, and system calls that bypass every interposer ---- */
struct sh_real {
	void *(*mmap)(void *, size_t, int, int, int, off_t);
	int (*munmap)(void *, size_t);
	void *(*mremap)(void *, size_t, size_t, int, ...);
	int (*mprotect)(void *, size_t, int);
	int (*msync)(void *, size_t, int);
	int (*fsync)(int);
	int (*fdatasync)(int);
	int (*madvise)(void *, size_t, int);
	int (*mlockall)(int);
	int (*munlockall)(void);
	_Atomic unsigned int *nthreads;		/* glibc's count; NULL where it has none */
};
extern struct sh_real sh_real;
void sh_real_init(void);
/* sh_sys(number, arguments...): raw system call; result or -errno; errno untouched. */
long sh_syscall(long nr, long a, long b, long c, long d, long e, long f);
#define SH_SYS_ALL(nr, a, b, c, d, e, f, ...) \
	sh_syscall(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define sh_sys(...) SH_SYS_ALL(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
/* A failure is for sh_mmap_err(). */
void *sh_mmap(void *addr, size_t len, int prot, int flags, int fd, uint64_t off);
int sh_mmap_err(const void *p);		/* -errno of a failed sh_mmap() result, or 0 */
void *sh_anon(size_t len);		/* zeroed, unreserved; NULL */
static inline void *sh_ptr(uint64_t v) { return (void *)(uintptr_t)v; }
static inline uint64_t sh_addr(const void *p) { return (uint64_t)(uintptr_t)p; }

/* ---- mem.c: a small allocator of our own ---- */
void *sh_alloc(size_t bytes) PF_MUST_CHECK;	/* zeroed; NULL */
void sh_free(void *p, size_t bytes);
void sh_mem_lock(void);			/* around fork */
void sh_mem_unlock(void);
int sh_mem_trylock(void);
void sh_mem_reinit(bool torn);		/* in the child; torn: begin anew, what is there may be half changed */

/* ---- the tables ---- */
struct sh_file;
struct sh_session;
struct pf_t_ring;		/* pinfs/trace.h */
struct pf_t_stack;

struct sh_vma {
	uint64_t lo, hi;			/* addresses, page aligned */
	int prot;
	int pkey;				/* protection key; 0: the default one */
	bool nofork;				/* MADV_DONTFORK by the program */
	bool locked;				/* mlock() */
	struct sh_map *map;
	uint64_t prio;				/* treap */
	struct sh_vma *left, *right;
	struct sh_vma *fnext, **fprev;		/* of the file */
};

/*
 * What a chunk's pages show; per map.
 *   dev    replaced by a mapping of the device or of the empty file
 *   mark   shared maps: of these, the ones that are write-protected: the first store has to be announced.
 *          private maps: pages that are the map's own copies. Not in dev, and nothing but munmap(), MADV_DONTNEED and a
 *          truncate takes them away.
 */
struct sh_mchunk {
	uint64_t dev[SH_CHUNK_PAGES / 64];
	uint64_t mark[SH_CHUNK_PAGES / 64];
	uint32_t touched;			/* anything was put there since the last zap */
	uint32_t used;				/* ... or ever */
	uint64_t gone[SH_CHUNK_PAGES / 64];	/* revoked: SIGBUS for as long as the map lives. lease.c */
	bool any_gone;
	struct sh_kept *kept;			/* private.c */
};

struct sh_map {
	struct sh_file *file;
	bool write;				/* opened for writing: may become PROT_WRITE */
	bool private;				/* MAP_PRIVATE */
	uint64_t base;				/* address of file offset 0, modulo 2^64 */
	uint64_t chunk0, nchunk;		/* 2 MiB pieces of the file covered */
	unsigned int refs;			/* vmas */
	struct sh_mchunk *chunk;
};

static inline uint64_t sh_vma_foff(const struct sh_vma *v, uint64_t addr) { return addr - v->map->base; }

struct sh_file {
	struct sh_session *ses;
	struct sh_file *next;
	uint64_t ino;
	uint64_t dev;				/* st_dev, st_ino: how a descriptor is recognised */
	uint64_t st_ino;
	uint64_t fh;
	bool write;				/* fh may write */
	bool told;				/* the daemon knows that we have private copies of it */
	char name[128];				/* what the program called it, for the log; or the end of that */
	unsigned int refs;			/* vmas and calls in progress */
	struct sh_vma *vmas;
	struct sh_slot *slots;			/* LIVE, SETTING, REMOVING ones */
	int fd;					/* in the crew's table */
	void *anchor;				/* keeps the kernel's reference: PROT_NONE page of the file */
	bool idling;				/* sh_file_idle() has been asked for and has not begun */
	struct sh_file *drop;			/* list of those */
	bool sent;				/* fork: the child gets the descriptor, as number `order` */
	uint32_t order;
};

enum sh_slot_state { SH_FREE, SH_SETTING, SH_LIVE, SH_REMOVING, SH_DEAD };

/* Value of sl_page[]: a device offset is never below one page, block 0 being the superblock. */
#define SH_PG_UNKNOWN UINT64_C(0)
#define SH_PG_HOLE UINT64_C(1)
#define SH_PG_EOF UINT64_C(2)
#define SH_PG_BAD UINT64_C(3)		/* in a bad block: SIGBUS, as behind the end; a pin is EIO */
static inline bool sh_pg_here(uint64_t pg) { return pg >= SH_PAGE; }
static inline bool sh_pg_bus(uint64_t pg) { return pg == SH_PG_EOF || pg == SH_PG_BAD; }

/* Value of sl_all; or it is sl_page[0], and the others follow that one on the device. */
#define SH_ALL_NOT UINT64_C(0)
#define SH_ALL_SCATTERED UINT64_C(1)

/*
 * Written by serve under sh.lock; read by the pin fast path under the sequence count alone. The array is never
 * unmapped and sl_page never freed while the process lives, so a reader that lost a race reads stale, not
 * foreign, memory.
 */
struct sh_slot {
	_Atomic uint32_t sl_seq;		/* odd while it changes */
	_Atomic uint32_t sl_word;		/* ls_word that sl_page[] belongs to */
	_Atomic uint32_t sl_watch;		/* tell the crew when the last pin is gone */
	_Atomic uint32_t sl_queued;		/* on sh.kicks */
	struct sh_slot *sl_kick;
	_Atomic uint64_t sl_all;		/* are all pages here? SH_ALL_* */
	_Atomic uint64_t *sl_page;		/* [512] */
	struct pf_l_slot *sl_led;
	struct sh_session *sl_ses;
	struct sh_file *sl_file;
	uint64_t sl_chunk;
	uint64_t sl_size;			/* of the file, as of the last answer */
	enum sh_slot_state sl_state;
	bool sl_fresh;				/* new for its chunk, nothing mapped: see sh_holds_follow() */
	bool sl_dead_wait;			/* DEAD, and REMOVEMAPPING is under way */
	bool sl_stored;				/* the daemon knows of stores since the last invalidate or msync */
	uint32_t sl_idx;
	uint64_t sl_fault_ns;			/* last fault, or pin by the slow path */
	uint64_t sl_until_ns;			/* not taken back before */
	struct sh_slot *sl_older, *sl_newer;	/* of the session, by last fault */
	struct sh_slot *sl_hnext;		/* hash chain, or free list */
	struct sh_slot *sl_fnext, **sl_fprev;	/* of the file */
	struct sh_want *sl_wants, *sl_wtail;	/* faults that wait for the answer */
};

/* A page that somebody waits for: a faulting thread (address), sh_prefault() (address and waiter) or
 * pinfs_pin() (file and waiter). */
struct sh_want {
	struct sh_want *next;
	uint64_t addr;				/* page; 0: a pin's */
	struct sh_file *file;			/* pin's */
	uint64_t foff;
	bool write;
	bool private;				/* a store makes a copy, which the file need not know */
	uint32_t tid;				/* of the thread that waits */
	bool starved;				/* it has been in the queue for a slot, */
	uint64_t since;				/* ... since sh_session.patience was this */
	uint64_t trace_ns;			/* when it came, for a trace; 0: there was none */
	unsigned int tries;
	struct sh_waiter *waiter;
};

struct sh_waiter {
	_Atomic uint32_t done;			/* futex */
	int err;
};
void sh_wait_init(struct sh_waiter *w);
int sh_wait(struct sh_waiter *w);			/* not interruptible; the error */
int sh_budget_forget_wait(void *waiter);		/* crew: it does not wait for a slot any more */
int sh_wait_intr(struct sh_waiter *w);			/* -EINTR: not done yet */
void sh_wake(struct sh_waiter *w, int err);

struct sh_req {
	uint64_t unique;
	uint32_t opcode;
	struct sh_req *next;
	struct sh_slot *slot;
	struct sh_want *cause;			/* SETUPMAPPING: the want it was sent for */
	struct sh_waiter *waiter;		/* sync requests */
	uint64_t *told;				/* where sh_send() leaves the unique */
	void *out;				/* sync: where the answer's body goes */
	size_t out_bytes;
};

#define SH_PEND 256
#define SH_FILES 256

struct sh_session {
	struct sh_session *next;
	char sock[PINFS_SOCK_MAX];
	char comm[16];				/* the program's name, as the daemon was told */
	int fd;					/* in the crew's table, like devfd */
	int devfd, ledfd;			/* device, ledger */
	bool rdonly, msync;
	bool whole;				/* PF_HO_WHOLE: a chunk is mapped as a whole, or not at all */
	bool no_guard;				/* its device cannot be write-protected: see sh_guards() */
	bool watched;				/* serve has its socket */
	bool no_sync, device;			/* the mount's profile: profile.c */
	atomic_bool lost;
	bool traced;				/* counted in sh_life.trace */
	atomic_bool ring_on;
	uint64_t dev_bytes;
	uint32_t nslot, nrec;
	const char *dev_flush;			/* the device, PROT_READ: only ever an operand of cache flushes */

	struct pf_l_hdr *ledger;
	uint64_t ledger_bytes;
	struct pf_l_slot *lslots;
	struct pf_l_rec *lrecs;
	uint64_t trace_off;			/* of the ring in the ledger */
	uint64_t ledger_file_bytes;
	struct pf_t_stack *stacks;		/* [nrec], stack.c; NULL: none */
	struct pf_t_ring *_Atomic ring;		/* NULL: not mapped yet */
	_Atomic uint64_t *lmap;		/* slots kicked; NULL: a daemon that wants to be told by socket */

	struct sh_file *files[SH_FILES];	/* by inode */
	struct sh_slot *slots;
	struct sh_slot *free_slots;
	uint32_t nfree;				/* of them */
	uint32_t fresh_slots;			/* slots never used yet start here */
	struct sh_slot *oldest, *newest;	/* slots of files, by last fault */
	struct sh_slot **hash;
	uint32_t hash_mask;
	uint32_t removing;			/* REMOVEMAPPINGs under way */

	/* budget.c */
	struct sh_want *starved, **starved_tail;	/* wait for a slot to become free */
	uint32_t nstarved;
	bool draining;				/* the queue is being served */
	atomic_bool hungry;			/* it waits for an unpin */
	uint32_t low, low_most;			/* free slots there should be, now and at most */
	uint32_t nreclaim;
	struct sh_ghost *ghost;			/* chunks that were taken back ahead of need */
	uint32_t ghost_mask;
	uint64_t look_ns;			/* the last look at the queue: */
	bool counts, pinned;			/* ... it waits for pins, not for the daemon; all slots are pinned */
	atomic_bool unpin;			/* the last pin of a slot has ended since */
	uint64_t patience;			/* how long wants have waited for pins altogether */
	uint64_t unpinned, got_one;		/* ... when a slot had no pin last; when a want got one last */
	uint64_t pass_ns, wake_ns;		/* next pass of the worker; next time to look, 0: none */

	struct pinfs_lease *leases;		/* lease.c */

	pthread_mutex_t tx;
	struct sh_tx *txq, **txq_tail;		/* what the socket has not taken yet; tx */
	pthread_mutex_t pend_lock;
	struct sh_req *pend[SH_PEND];
	_Atomic uint64_t unique;
	_Atomic uint64_t long_owed;		/* pages of long-term pins whose end the daemon has not heard of */

	pthread_mutex_t pin_lock;
	struct pinfs_pin *pins;			/* [nrec], pin i owns record i */
	struct pinfs_pin *free_pins;
	uint32_t fresh_pins;

	unsigned char *rx;			/* serve's receive buffer */
	size_t rx_len;
};

#define SH_RX_BYTES (UINT32_C(64) << 10)

/* A call that runs in the crew thread for a thread of the program. */
struct sh_call {
	struct sh_call *next;
	int (*fn)(void *arg);
	void *arg;
	struct sh_waiter w;
	bool posted;				/* nobody waits: the crew frees it */
};

/* sh.budget_test */
#define SH_TEST_TAKE_PINNED 1U		/* take pinned slots back, too */
#define SH_TEST_UNFAIR 2U		/* who comes takes what is free, whoever waits */
#define SH_TEST_STILL 4U		/* no time passes for those who wait, but what the test adds to patience */
/* sh.pin_test */
#define SH_TEST_GAP 1U			/* call pin_gap() between the first look and the count */
#define SH_TEST_BLIND 2U		/* leave out the second look: pins will be missed */
#define SH_TEST_HOLD_OURS 8U		/* transfers of files of pinfs are held like others */
#define SH_TEST_COPY_LATE 32U		/* what a call has brought is copied when its page has left the file */
#define SH_TEST_BY_HAND 64U		/* ... by instructions */
#define SH_TEST_NOT_BRIEF 16U		/* the daemon hears of no pin that it ends by itself */
#define SH_TEST_NO_FOLLOW 4U		/* a hold stays with the slot that it was counted in */
#define SH_TEST_FILL_PART 128U		/* where more holes are filled at once than are mapped, the rest stays zeros */

struct sh_state {
	pid_t pid;
	bool ready;				/* the constructor has run */
	bool disabled;
	bool user_mode_test;			/* tests: as if there were no privilege */
	bool pin_stack;				/* PINFS_PIN_STACK: stack.c */
	void (*zap_gap)(void);			/* tests: invalidate by munmap, this, mmap: the way that loses stores */
	bool copy_unsafe;			/* tests: private copies are made by the kernel, and not noted */
	bool long_unsafe;			/* tests: devices get pages without a pin */
	uint8_t pin_test;			/* tests of the handshake: SH_TEST_* */
	void (*pin_gap)(void);			/* ... of whoever pins; nothing is held */
	uint8_t budget_test;			/* tests of the budget: SH_TEST_* */
	atomic_bool mcl_future;

	pthread_mutex_t lock;
	struct sh_vma *vmas;
	_Atomic uint64_t nvma;
	struct sh_session *_Atomic sessions;

	atomic_bool running;			/* the threads */
	atomic_bool refused;			/* a daemon did not give us a session */
	char refused_by[PINFS_SOCK_MAX];	/* ... for want of permission: the first; set before the flag */
	bool user_mode;				/* userfaultfd does not see the kernel's own accesses */
	bool guard;				/* it sees stores to write-protected pages of files */
	bool poison;				/* it can make pages that are hardware errors to whoever touches them */
	int uffd, bell, epoll, eof_fd, pidfd;		/* crew's table */
	int no_engine;				/* -errno why the threads cannot run here; not tried again */
	_Atomic int stuck;			/* -errno: a call is refused that they need; serve ends it all */

	_Atomic(struct sh_want *) faults;	/* watch and pins -> serve; LIFO, turned round by serve */
	_Atomic(struct sh_call *) calls;	/* program -> crew */
	_Atomic(struct sh_slot *) kicks;
	atomic_bool ring;			/* the crew shall wake serve */
	_Atomic uint32_t crew_word;		/* futex */

	_Atomic uint64_t nfault, nzap;		/* for tests and the log */
};
extern struct sh_state sh;

/*
 * A page that the child of any fork() or clone() without CLONE_VM finds full of zeros (MADV_WIPEONFORK): so we know
 * that all around is a copy which no thread of ours serves, also where no handler of pthread_atfork() ran.
 */
struct sh_life {
	_Atomic uint32_t epoch;			/* counts forks: a pin belongs to one. 0: a copy, see sh_alive() */
	_Atomic uint32_t vgen;			/* any window changed: cached look-ups are void */
	_Atomic uint32_t busy;
	_Atomic uint32_t trace;			/* sessions that are traced, SH_TRACE_STACKS: trace.h */
	uint8_t pad[SH_PAGE - 16];
};
extern struct sh_life sh_life;
void sh_fork_bare(void);
/* Before anything of ours is looked at, but by the pin fast path, for which nothing in a copy matches. */
static inline void sh_alive(void)
{
	if (__builtin_expect(atomic_load_explicit(&sh_life.epoch, memory_order_relaxed) == 0, 0))
		sh_fork_bare();
}

typedef sigset_t sh_sigs;
void sh_lock(sh_sigs *old);
void sh_unlock(const sh_sigs *old);
void sh_sigs_restore(const sh_sigs *old);

/* ---- tls.c ---- */
#define SH_PCACHE 64		/* a thread that pins 128 MiB in turn stays on the fast path */
struct sh_pcache {			/* look-ups of the pin fast path, by chunk of the address */
	uint64_t lo, hi;
	uint64_t base;			/* address -> file offset */
	struct sh_slot *slot;
	uint64_t ino;
	uint32_t vgen, seq;
	bool write;
};
struct sh_tls {
	struct sh_pcache pc[SH_PCACHE];
	struct sh_session *mag_ses;
	struct pinfs_pin *mag;
	uint32_t nmag, epoch;
	uint32_t tid;
	struct sh_copy *copies;		/* of calls in progress: copy.c */
	struct sh_hold *calls;		/* that block, with pages held: transient.c */
	uint64_t gap_lo, gap_hi;	/* addresses without any window, as of gap_vgen: transient.c */
	uint32_t gap_vgen;
	uint64_t slow_ns;		/* a pin by the slow path began then, for a trace; 0: none */
};
extern __thread struct sh_tls *sh_tls_ptr __attribute__((tls_model("initial-exec")));
extern __thread bool sh_is_crew __attribute__((tls_model("initial-exec")));
void sh_tls_init(void);
struct sh_tls *sh_tls_make(void);	/* NULL: no memory */
void sh_tls_reset(void);		/* fork child */
static inline struct sh_tls *sh_tls(void) { return sh_tls_ptr ? sh_tls_ptr : sh_tls_make(); }

/* ---- crew.c: the threads, and calls that run among them ---- */
int sh_engine_start(void);		/* idempotent; -errno */
void sh_name_thread(const char *name);	/* "pinfs-...": for people, and the daemon knows which threads are ours */
int sh_crew_call(int (*fn)(void *), void *arg);	/* program -> crew, waits */
int sh_crew_post(int (*fn)(void *), void *arg);		/* does not wait; in order with later calls; -ENOMEM */
void sh_crew_kick(struct sh_slot *sl);	/* does not wait */
void sh_serve_bell(void);		/* crew's table only */
int sh_crew_take_fd(int tid, int fd);	/* crew: copy a descriptor of a program's thread; -errno */
int sh_crew_lend(int *out_fd, int (*pick)(void *), void *arg);	/* program: get a copy of a crew's descriptor */
#define SH_SEND_FDS 64U
int sh_crew_send_fds(int sock, const int *fds, unsigned int n);		/* n <= SH_SEND_FDS */
int sh_recv_fds(int sock, int *fds, unsigned int room);			/* how many; -errno */
void sh_engine_forget(void);
int sh_empty_file(void);		/* a descriptor in the caller's table */
void sh_watch_failed(long err);		/* watch: its read() gave this */
/* @err is the kernel's "not permitted", for a call that a thread of ours needs: says so, ends all windows. */
void sh_crew_refused(const char *call, long err);
void sh_crew_fatal(const char *call, long err);	/* ... in a place where they could not even be ended */

/* ---- session.c: connection, requests, answers ---- */
int sh_session_get(const char *sock, struct sh_session **out);	/* crew only */
/* Crew and serve. r NULL: no answer is expected. */
int sh_send(struct sh_session *s, struct sh_req *r, uint32_t op, const void *body, size_t len);
/* Send and wait; crew only (program: through sh_crew_call with a waiter of its own). */
int sh_rpc(struct sh_session *s, uint32_t op, const void *in, size_t len, void *out, size_t out_len);
void sh_session_input(struct sh_session *s);		/* serve: something happened on the socket */
bool sh_session_watch(struct sh_session *s);		/* serve: have epoll tell of it; lock held */
void sh_session_release(struct sh_session *s);
void sh_session_lose(struct sh_session *s, const char *why);	/* serve */

/* ---- attach.c: is a descriptor a file of ours? A test replaces it. ---- */
int sh_attach(int fd, struct pinfs_attach *at);		/* 0, -ENOTTY, -errno */
bool sh_attach_maybe(int fd);				/* false: surely not; one system call */

/* ---- file.c ---- */
/* Program: the attached file behind @fd with a reference, or -errno (-ENOTTY: not ours). */
int sh_file_get(int fd, bool write, struct sh_file **out);
/* @tid -1: @fd is in the crew's table already, and is given away. */
int sh_file_attach(int tid, int fd, const struct pinfs_attach *at, const struct stat *st, bool write,
		   struct sh_file **out);	/* crew */
void sh_file_put(struct sh_file *f);			/* program; may end the attachment */
void sh_file_unref(struct sh_file *f, struct sh_file **drop);	/* lock held */
void sh_file_drop(struct sh_file *list);		/* lock not held */
struct sh_file *sh_file_by_ino(struct sh_session *s, uint64_t ino);	/* lock held */
int sh_file_idle(void *file);				/* crew; lock not held */

/* ---- vma.c: all with the lock held ---- */
struct sh_vma *sh_vma_find(uint64_t addr);		/* that contains addr */
struct sh_vma *sh_vma_next(uint64_t addr);		/* first with hi > addr */
bool sh_vma_any(uint64_t lo, uint64_t hi);
#define SH_MAY_WRITE 1U
#define SH_PRIVATE 2U
int sh_vma_add(struct sh_file *f, uint64_t addr, uint64_t len, uint64_t foff, int prot, unsigned int how);
static inline unsigned int sh_map_how(const struct sh_map *m)
{
	return (m->write ? SH_MAY_WRITE : 0) | (m->private ? SH_PRIVATE : 0);
}
struct sh_mchunk *sh_mchunk(const struct sh_vma *v, uint64_t chunk);
int sh_vma_cut(uint64_t lo, uint64_t hi);		/* split so that lo and hi are borders; -ENOMEM */
/* Forget [lo, hi), borders cut before. Files without a reference left are chained to *drop, for sh_file_drop()
 * later. */
void sh_vma_forget(uint64_t lo, uint64_t hi, struct sh_file **drop);

/* ---- slot.c: all with the lock held ---- */
int sh_slots_init(struct sh_session *s);
struct sh_slot *sh_slot_find(struct sh_file *f, uint64_t chunk);
struct sh_slot *sh_slot_new(struct sh_file *f, uint64_t chunk);	/* NULL: none free now */
void sh_slot_newest(struct sh_slot *sl);
bool sh_slot_pinned(const struct sh_slot *sl);
#define SH_FILLED 1U			/* a hole has a block now: what shows it is zeros, write-protected */
#define SH_CHANGED 2U
unsigned int sh_slot_fill(struct sh_slot *sl, const struct pf_p_map_out *mo, const struct pf_p_extent *ext,
			  uint64_t *filled);
/* The addresses in an answer that was checked by sh_slot_fill(), for sl_page[]'s index. */
int sh_pages_of(const struct sh_slot *sl, const void *body, size_t len, uint64_t *pages);
void sh_slot_forget(struct sh_slot *sl, uint64_t foff, uint64_t len);
void sh_slot_free(struct sh_slot *sl);
void sh_slot_kill(struct sh_slot *sl);			/* -> DEAD */
void sh_slot_bury(struct sh_slot *sl);			/* DEAD: send it away once no pin holds it */
void sh_slot_orphan(struct sh_slot *sl);
int sh_slot_remove(struct sh_slot *sl);			/* send REMOVEMAPPING */

/* ---- budget.c: serve, lock held but for the timer ---- */
int sh_budget_init(struct sh_session *s);
/* A slot for @w's chunk, which has none; NULL: @w waits, or has failed. */
struct sh_slot *sh_budget_slot(struct sh_file *f, uint64_t chunk, struct sh_want *w);
void sh_budget_served(struct sh_slot *sl, const struct sh_want *w);
void sh_budget_busy(struct sh_slot *sl);		/* the daemon did not let it go */
void sh_budget_run(struct sh_session *s);		/* slots may have become free, or the session is lost */
int sh_budget_timeout_ms(void);
void sh_budget_timer(void);
void sh_budget_forget(void);				/* fork child */

/* ---- fault.c ---- */
uint64_t sh_now_ns(void);
void sh_serve_want(struct sh_want *w);			/* serve, lock held */
void sh_want_end(struct sh_want *w, int err);
void *sh_watch_main(void *arg);
/* Program: map what of it lies in windows; never a signal. */
void sh_prefault(uint64_t addr, uint64_t len, bool store);
void sh_fault_forget(void);				/* fork child */
void sh_serve_faults(void);				/* serve */
void sh_want_push(struct sh_want *w);
void sh_want_ring(struct sh_want *w);			/* program: push and make serve look */
void sh_serve_mapped(struct sh_req *r, int err, const void *body, size_t len);
int sh_serve_pinned(struct sh_req *r, const void *body, size_t len);
void sh_serve_removed(struct sh_req *r, int err);
void sh_serve_inval(struct sh_session *s, const struct pf_p_inval *in);
unsigned int sh_serve_windows(struct sh_session *s);	/* how many it has */
void sh_serve_lost(struct sh_session *s);
int sh_serve_timeout_ms(void);
void sh_serve_timer(void);

/* ---- window.c: memory of windows; lock held ---- */
/* Registered memory; @at, @flags as mmap(). */
int sh_fresh(uint64_t at, uint64_t len, int prot, int flags, void **out);
int sh_fresh_over(uint64_t at, uint64_t len, int prot);	/* in place of what is there, atomically */
/* What the program has asked of its memory, for memory that takes its place: protection key, mlock(). */
void sh_dress(const struct sh_vma *v, uint64_t addr, uint64_t len);
void sh_zap(struct sh_vma *v, uint64_t foff, uint64_t len);	/* atomically empty again */
void sh_zap_note(struct sh_vma *v, uint64_t lo, uint64_t hi);	/* fresh memory is in place there already */
void sh_zap_zeros(struct sh_vma *v, uint64_t foff, uint64_t len);	/* and poison; page aligned, inside @v */
void sh_zap_file(struct sh_file *f, uint64_t foff, uint64_t len);
int sh_map_page(struct sh_vma *v, struct sh_slot *sl, uint64_t addr);
bool sh_chunk_used(const struct sh_vma *v, uint64_t foff);	/* was ever mapped: may have stores to flush */
bool sh_page_mapped(const struct sh_vma *v, uint64_t addr);	/* by the device or the empty file */
/* Blocks over the zeros of former holes. No page of @filled shows zeros afterwards. */
void sh_map_filled(struct sh_vma *v, struct sh_slot *sl, const uint64_t *filled);
void sh_map_sigbus(struct sh_vma *v, uint64_t lo, uint64_t hi);
int sh_map_zero(struct sh_vma *v, struct sh_slot *sl, uint64_t addr);
void sh_uffd_wake(uint64_t addr, uint64_t len);
int sh_uffd_watch(uint64_t addr, uint64_t len);		/* register: missing pages and write-protected ones */
int sh_uffd_protect(uint64_t addr, uint64_t len, bool on);	/* wakes nobody */
/* Can a store to a mapping of this session's device be made to wait for us? */
bool sh_can_guard(struct sh_session *s);
bool sh_guard_probe(struct sh_session *s);		/* the same, after a try */
void sh_map_stored(struct sh_vma *v, struct sh_slot *sl);	/* the chunk's guards go */
void sh_map_guard(struct sh_vma *v, uint64_t foff, uint64_t len);	/* and come back */
static inline bool sh_bit(const uint64_t *map, unsigned int i) { return (map[i / 64] >> (i % 64)) & 1; }
void sh_bits_put(uint64_t *map, unsigned int first, unsigned int n, bool on);

/* ---- private.c: copied pages of MAP_PRIVATE windows; lock held ---- */
/* The next piece of [*at, hi) that is no copies, [*at, *end); false: there is none. All of a shared window. */
bool sh_next_shown(const struct sh_vma *v, uint64_t *at, uint64_t hi, uint64_t *end);
bool sh_next_copies(const struct sh_vma *v, uint64_t *at, uint64_t hi, uint64_t *end);
/* A store to a page that is @pg in the file. 0: the page is a copy now, and whoever waits for it is awake. */
int sh_copy_page(struct sh_vma *v, uint64_t addr, uint64_t pg);
int sh_copy_rest(struct sh_vma *v, uint64_t lo, uint64_t hi);	/* what is mapped there becomes copies */
bool sh_is_kept(const struct sh_mchunk *c, unsigned int page);
/* A page that was put aside comes back: 1. Or 0: there is none, or the file ends before it, and it is gone. */
int sh_keep_back(struct sh_vma *v, uint64_t addr, uint64_t pg);
/* Copies of [foff, to the end) of the file may have to go: they are put aside until the daemon knows, or the page is
 * touched. */
void sh_keep(struct sh_vma *v, uint64_t foff);
void sh_keep_drop(struct sh_vma *v, uint64_t foff);	/* they are gone */
void sh_copies_drop(struct sh_vma *v, uint64_t lo, uint64_t hi);	/* by address; the memory stays as it is */
int sh_copies_move(struct sh_vma *from, struct sh_vma *to, uint64_t lo, uint64_t len, uint64_t dst);
/* Of another map of the same pages, whose memory this is (a child's of its parent's). */
int sh_copies_adopt(struct sh_vma *v, const struct sh_vma *old);
void sh_copies_fork(bool inherit);
void sh_map_unkeep(struct sh_map *m);		/* frees what was put aside */

/* ---- hooks_map.c ---- */
/* Takes the lock. @len is a multiple of the page size. @flags: MAP_PRIVATE, MAP_FIXED, MAP_FIXED_NOREPLACE. */
int sh_window_make(struct sh_file *f, uint64_t addr, uint64_t len, int prot, int flags, uint64_t foff, bool write,
		   void **out);
/* In the child of a fork: @old's window again, where its copies are in place. */
int sh_window_inherit(struct sh_file *f, const struct sh_vma *old);

/* ---- profile.c ---- */
int sh_profile_map(const struct sh_session *s, int flags, uint64_t addr, uint64_t len, uint64_t off);	/* -errno */

/* ---- hooks_fork.c ---- */
void sh_fork_init(void);

/* ---- lease.c ---- */
void sh_serve_lease(struct sh_session *s, const struct pf_p_lease_event *ev);
void sh_serve_revoke(struct sh_session *s, const struct pf_p_revoke *rv);
void sh_serve_leases_lost(struct sh_session *s);	/* lock held */
bool sh_is_gone(const struct sh_vma *v, uint64_t foff, uint64_t len);	/* a page of it was revoked; lock held */
void sh_gone_move(uint64_t lo, uint64_t len, uint64_t to);	/* by address: so is it there, too; lock held */

/* ---- flush.c ---- */
void sh_cpu_flush(const void *p, size_t len);
void sh_cpu_fence(void);

/* ---- pinslow.c ---- */
/* A copy of a descriptor of the session behind a window. -EFAULT, -EOPNOTSUPP, -ENOTCONN (pick() says EBADF). */
int sh_lend_of(const void *addr, int (*pick)(void *session));

/* ---- pin.c ---- */
int sh_pins_init(struct sh_session *s);
void sh_mag_flush(struct sh_tls *t);
void sh_slot_kicked(struct sh_slot *sl);	/* crew */

#endif
