/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * proto.h - the session between a client and the daemon: FUSE framing on a unix stream socket.
 *
 * A request is struct fuse_in_header + body, an answer struct fuse_out_header + body, as in
 * <linux/fuse.h>; unique pairs them. A message with unique 0 from the daemon is a notify, its code in
 * `error` (as on /dev/fuse). Host byte order: both ends are on one machine. PROTOCOL.md explains.
 *
 * ORDER. The daemon's messages on one socket are meant to be obeyed in the order of arrival: a
 * mapping that was granted before an invalidate arrives before it. A client therefore handles
 * answers to FUSE_SETUPMAPPING and notifies in one thread and needs no generation numbers.
 *
 * Session set-up:
 *   connect -> FUSE_INIT (fuse_init_in / fuse_init_out, map_alignment = 12) -> PF_P_HELLO
 *   (answer pf_p_hello_out with SCM_RIGHTS: [0] device, [1] ledger) -> PF_P_ATTACH per file.
 * A peer that may not open the device gets EACCES for HELLO and may still send PF_P_REPORT.
 */
#ifndef PINFS_PROTO_H
#define PINFS_PROTO_H

#include <linux/fuse.h>
#include <stdint.h>
#include <pinfs/compiler.h>

#define PF_P_MSG_MAX (UINT32_C(1) << 20)	/* header and body; a longer one ends the session */
#define PF_P_EXT_MAX 512U			/* extents in one answer: a chunk has 512 pages */

enum pf_p_opcode {		/* besides FUSE_INIT, FUSE_SETUPMAPPING and FUSE_REMOVEMAPPING */
	PF_P_HELLO = 0x5000,	/* pf_p_hello_in -> pf_p_hello_out + 2 descriptors */
	PF_P_ATTACH = 0x5001,	/* pf_p_attach_in -> pf_p_attach_out */
	PF_P_DETACH = 0x5002,	/* pf_p_detach_in -> header: drops the handle; its slots go by REMOVEMAPPING */
	PF_P_PIN = 0x5003,	/* pf_p_pin_in -> pf_p_map_out: slow path, the daemon counts in the ledger */
	PF_P_KICK = 0x5004,	/* pf_p_kick_in -> no answer: counters of a frozen slot went down (see ledger.h) */
	PF_P_INVAL_ACK = 0x5005,/* pf_p_ack_in -> no answer */
	PF_P_SYNC = 0x5006,	/* pf_p_sync_in -> header: make stores through windows durable */
	PF_P_REPORT = 0x5007,	/* pf_p_report_in -> JSON text (not terminated); any peer that may see the mount */
	PF_P_BADBLOCK = 0x5009,	/* pf_p_bad_in -> pf_p_bad_out, records: any peer that may open the device */
	PF_P_FORGET_WAIT = 0x5008, /* pf_p_cancel_in -> no answer: a waiting PIN answers EINTR */
	PF_P_EVICT = 0x500a,	/* pf_p_evict_in -> header: root, and the user who mounted */
	PF_P_SET = 0x500b,	/* text, at most PF_P_SET_MAX bytes -> header: the mount's policy; root and its owner */
	PF_P_WOULD = 0x500c,	/* pf_p_would_in -> pf_p_would_out, ...; any peer that may see the mount */
	PF_P_LEASE = 0x500d,	/* pf_p_lease_in -> pf_p_lease_out: take, test, downgrade, drop a layout lease */
	PF_P_LEASE_GIVE = 0x500e, /* pf_p_give_in, pieces -> pf_p_give_out: put a lease and its pins on their way */
	PF_P_LEASE_LOOK = 0x500f, /* pf_p_token -> pf_p_look_out, pieces: what is on its way; a handle of the file */
	PF_P_LEASE_HAVE = 0x5010, /* pf_p_have_in, pieces -> pf_p_lease_out: have it */
	PF_P_KICK_PIN = 0x5011,	/* pf_p_kick_pin_in -> header: root, and the user who mounted */
	PF_P_TRACE = 0x5012,	/* pf_p_trace_in -> header: root, and the user who mounted */
	PF_P_TRACE_READ = 0x5013, /* empty -> pf_p_trace_out, events; by the connection that traces */
	PF_P_PAUSE = 0x5014,	/* pf_p_pause_in -> header: root, on a mount with -o pause_points */
	PF_P_UNPIN = 0x5015,	/* pf_p_unpin_in -> header: a long-term pin has ended */
	PF_P_ADMIT = 0x5016,	/* pf_p_admit_in -> header: would longterm= refuse? EOPNOTSUPP, else 0; EBADF */
};

enum pf_p_notify {		/* positive, in fuse_out_header.error with unique 0 */
	PF_P_NOTIFY_INVAL = 0x5100,	/* pf_p_inval; must be acknowledged */
	PF_P_NOTIFY_LEASE = 0x5101,	/* pf_p_lease_event: a lease's state has changed */
	PF_P_NOTIFY_REVOKE = 0x5102,	/* pf_p_revoke: windows of the range are SIGBUS from now on */
	PF_P_NOTIFY_TRACE = 0x5110,	/* pf_p_notify_trace; to be obeyed, not answered */
};

struct pf_p_hello_in {
	uint32_t hi_major;	/* PINFS_PROTO_MAJOR; another one: EPROTO */
	uint32_t hi_minor;
	uint32_t hi_pid;	/* for show; the socket's credentials decide */
	uint32_t hi_pad;
	char hi_comm[16];
};
PF_MEDIA_SIZE(struct pf_p_hello_in, 32);

struct pf_p_hello_out {
	uint32_t ho_major;
	uint32_t ho_minor;
	uint64_t ho_session;
	uint64_t ho_dev_bytes;
	uint64_t ho_fsid;
	uint32_t ho_nslot;	/* window budget, 2 MiB slots */
	uint32_t ho_flags;	/* PF_HO_* */
};
PF_MEDIA_SIZE(struct pf_p_hello_out, 40);
#define PF_HO_RDONLY UINT32_C(1)	/* mounted read-only, the device descriptor too */
/* Stores need PF_P_SYNC to be durable: CPU flushes are not enough. So MAP_SYNC is EOPNOTSUPP. */
#define PF_HO_MSYNC UINT32_C(2)
#define PF_HO_WHOLE UINT32_C(4)		/* the device maps in multiples of 2 MiB only: a chunk is one extent, or none */
/* The mount's profile, where it concerns what only the client can answer. What may change: PF_RULE_* in ledger.h. */
#define PF_HO_NO_SYNC UINT32_C(8)	/* MAP_SYNC: EOPNOTSUPP */
#define PF_HO_DEVICE UINT32_C(16)	/* files are like device DAX nodes: EINVAL for MAP_PRIVATE, for a range that
					   is not aligned to 2 MiB, and for msync */

struct pf_p_attach_in {
	uint64_t ai_cookie[2];	/* from PINFS_IOC_ATTACH */
	char ai_path[256];	/* for reports only: what the client calls the file; NUL padded, may be empty */
};
PF_MEDIA_SIZE(struct pf_p_attach_in, 272);
struct pf_p_attach_out {
	uint64_t ao_fh;		/* of this session; good until DETACH */
	uint64_t ao_ino;
	uint64_t ao_size;
	uint32_t ao_write;	/* may map and pin for writing */
	uint32_t ao_pad;
};
struct pf_p_detach_in {
	uint64_t di_fh;
};

/*
 * FUSE_SETUPMAPPING: the uapi struct, then this.
 *   fh       from ATTACH (EBADF)
 *   foffset  multiple of 2 MiB;  len = 2 MiB;  moffset = slot << 21
 *   flags    READ always; WRITE: the page at mi_fault_foff must be backed and writable in the answer, and the
 *            file's times move
 * The client chooses the slot. An empty slot becomes (file, chunk); a slot that already is this chunk
 * is refreshed; any other use of an occupied slot is EBUSY.
 * Errors: EBADF, EINVAL, EBUSY, EACCES (write on a read-only handle), ENOSPC, EIO, ESTALE.
 */
struct pf_p_map_in {
	struct fuse_setupmapping_in mi_map;
	uint64_t mi_fault_foff;	/* page aligned, inside the chunk */
	uint64_t mi_flags;	/* PF_MI_* */
};
PF_MEDIA_SIZE(struct pf_p_map_in, 56);
#define PF_MI_PRIVATE UINT64_C(1)	/* this session has, or will have, private copies of pages: PF_IN_CUT */

/* Answer to SETUPMAPPING and PIN: the whole chunk as it is now. Pages below mo_size that no extent
 * covers are holes (zeros); pages wholly at or beyond mo_size are SIGBUS. Sorted by e_foff. */
#define PF_P_DOFF_BAD UINT64_MAX
struct pf_p_extent {
	uint64_t e_foff;
	uint64_t e_doff;	/* PF_P_DOFF_BAD: the blocks there are bad; SIGBUS, and a pin is EIO */
	uint64_t e_len;		/* bytes, multiple of 4096 */
};
struct pf_p_map_out {
	uint64_t mo_ino;
	uint64_t mo_foff;	/* chunk start */
	uint64_t mo_size;	/* of the file */
	uint32_t mo_slot;
	uint32_t mo_word;	/* ls_word of the slot as of this answer, FROZEN not counted */
	uint32_t mo_next;	/* number of extents that follow */
	uint32_t mo_pad;
};
PF_MEDIA_SIZE(struct pf_p_map_out, 40);

/*
 * PIN: count pages of one slot, when the fast path found it frozen. The slot must be set up: with CHUNK, as the
 * chunk that the caller means, since another of its threads may be taking the slot for another one.
 * pi_first/pi_npage: pages in the chunk (0..511). WRITE allocates what is missing.
 * Without WAIT: EAGAIN when a break waits for these pages and for no pin of this session but such
 * as end by themselves (BRIEF). With WAIT: the answer comes when that break has ended, and says EAGAIN as well: nothing
 * was counted, the caller holds nothing and starts again. So a pin never waits while it holds.
 * On success the daemon has added the counts to the ledger itself.
 * Errors: EAGAIN, EBADF, EINVAL, EACCES, EFAULT (beyond EOF, or a hole without WRITE or HOLES), ENOSPC, ESTALE (the
 * slot is stale, not set up for this file, or another chunk than meant), EINTR (PF_P_FORGET_WAIT), EBUSY.
 */
struct pf_p_pin_in {
	uint64_t pi_fh;
	uint32_t pi_slot;
	uint32_t pi_first;
	uint32_t pi_npage;
	uint32_t pi_flags;	/* PF_PI_* */
};
#define PF_PI_WRITE UINT32_C(1)
#define PF_PI_WAIT UINT32_C(2)
#define PF_PI_CHUNK UINT32_C(16)	/* a pf_p_pin_chunk follows */
#define PF_PI_HOLES UINT32_C(32)	/* without WRITE: a hole is counted as it is, for whoever fills it meanwhile */
#define PF_PI_BRIEF UINT32_C(64)	/* it ends by itself, and is counted so: FAIRNESS in ledger.h */
struct pf_p_pin_chunk {
	uint64_t pc_foff;	/* chunk start */
};
/*
 * LONGTERM: for as long as the client likes. The daemon alone admits and counts such a pin, and charges its pages to
 * the user. Errors besides: EOPNOTSUPP longterm=refuse; EPERM longterm=lease without a lease, or verbs of a client that
 * may not lock memory at all; ENOMEM the user's limit.
 */
#define PF_PI_LONGTERM UINT32_C(4)
#define PF_PI_API_SHIFT 8U		/* bits 8 to 15: enum pf_pin_api, who asks */
#define PF_PI_API_MASK (UINT32_C(255) << PF_PI_API_SHIFT)

/* UNPIN: pages of long-term pins whose counters the client has lowered; they are not charged to the user any more. */
struct pf_p_unpin_in {
	uint64_t un_npage;
};
struct pf_p_admit_in {
	uint64_t ad_fh;
	uint32_t ad_api;	/* enum pf_pin_api */
	uint32_t ad_pad;
};

struct pf_p_kick_in {
	uint32_t ki_slot;
	uint32_t ki_pad;
};
struct pf_p_cancel_in {
	uint64_t ca_unique;	/* of the waiting request */
};
struct pf_p_sync_in {
	uint64_t si_fh;
	uint64_t si_foff;
	uint64_t si_len;	/* 0: to the end */
};

/* Unmap [in_foff, + in_len) of the inode everywhere in the process, atomically, then acknowledge.
 * in_len UINT64_MAX: to the end. Forget the extents of the range; a later touch faults again.
 * DEAD: the slot in_slot is stale from now on: never map or pin through it; keep its pin counts; send
 * REMOVEMAPPING once they are zero (the daemon answers EBUSY as long as they are not).
 * CUT: the range may leave the file for good. Private copies of its pages go out of reach, too, but are kept: until the
 * page is touched and the answer to SETUPMAPPING puts it inside the file, or until DROP.
 * DROP: what was kept from in_foff on is gone. Unmaps nothing; in_id is 0 and it is not acknowledged.
 * in_id 0 without DROP: not acknowledged. Comes before the error of a SETUPMAPPING or PIN that was to fill holes of the
 * range, some of which may have blocks now.
 * in_len 0 and in_id 0: nothing is unmapped or acknowledged; somebody waits for pins of the file, though. */
struct pf_p_inval {
	uint64_t in_id;
	uint64_t in_ino;
	uint64_t in_foff;
	uint64_t in_len;
	uint32_t in_flags;	/* PF_IN_* */
	uint32_t in_slot;
};
PF_MEDIA_SIZE(struct pf_p_inval, 40);
#define PF_IN_DEAD UINT32_C(1)
#define PF_IN_CUT UINT32_C(2)		/* only to sessions that said PF_MI_PRIVATE */
#define PF_IN_DROP UINT32_C(4)
struct pf_p_ack_in {
	uint64_t ak_id;
};

/*
 * BADBLOCK: list, add to or take from the list of bad blocks. With bi_ino 0, bi_at and bi_len are blocks of the device
 * (LIST: the records from bi_at on, bi_len is ignored); else bytes of that file. The answer comes when no window shows
 * what it should not any more. Errors: EACCES, EINVAL, ENXIO (a hole), EROFS, ENOSPC, EIO, EUCLEAN, ESTALE, ENOMEM.
 */
enum pf_p_bad_what { PF_P_BAD_LIST = 0, PF_P_BAD_ADD = 1, PF_P_BAD_DEL = 2 };
struct pf_p_bad_in {
	uint32_t bi_what;
	uint32_t bi_pad;
	uint64_t bi_ino;
	uint64_t bi_at;
	uint64_t bi_len;
};
PF_MEDIA_SIZE(struct pf_p_bad_in, 32);
struct pf_p_bad_out {
	uint64_t bo_changed;	/* blocks that were not listed before, or were */
	uint32_t bo_nrec;	/* LIST: records that follow, at most PF_P_BAD_MAX; fewer: there are no more */
	uint32_t bo_pad;
};
PF_MEDIA_SIZE(struct pf_p_bad_out, 16);
#define PF_P_BAD_MAX 1024U
struct pf_p_bad_rec {
	uint64_t br_dblk;
	uint64_t br_nblk;
	uint32_t br_held;	/* 1: nobody's but the list's */
	uint32_t br_pad;
};
PF_MEDIA_SIZE(struct pf_p_bad_rec, 24);

/*
 * EVICT: end every session of a process, now. Its connection is closed, its pins are waited for by nobody, and blocks
 * that it was shown are kept out of reuse from the moment they leave their file until it has let go of the device.
 * Errors: EPERM; ESRCH it has no session; EALREADY all of them have been cut off before.
 */
struct pf_p_evict_in {
	uint32_t ev_pid;	/* as the daemon sees it: reports show it */
	uint32_t ev_pad;
};
PF_MEDIA_SIZE(struct pf_p_evict_in, 8);

/*
 * SET: "on_busy=ebusy,busy_timeout=2": any of the policy options of pinfs(8), not terminated. All or none is set;
 * operations that have begun keep the policy that they began with. Errors: EPERM, EINVAL, E2BIG.
 */
#define PF_P_SET_MAX 1024U

/*
 * WOULD: what an operation that takes the blocks of bytes [wi_foff, + wi_len) out of a file would meet at this moment.
 * Errors: ESTALE (no such inode), EINVAL (not a regular file, or the range wraps).
 */
struct pf_p_would_in {
	uint64_t wi_ino;
	uint64_t wi_foff;
	uint64_t wi_len;
};
PF_MEDIA_SIZE(struct pf_p_would_in, 24);
/* May follow: whose operation it is taken for. Without it, somebody's who has no lease and no pin of the file. */
struct pf_p_would_as {
	uint32_t wa_pid;	/* its first thread is what asks; 0: as if this were not there */
	uint32_t wa_pad;
};
PF_MEDIA_SIZE(struct pf_p_would_as, 8);
struct pf_p_would_out {
	char wo_on_busy[16];	/* policy of this file, NUL padded */
	uint64_t wo_timeout_ms;	/* 0: none */
	uint64_t wo_foff;	/* the bytes whose pins count; the whole file under break=file */
	uint64_t wo_len;
	uint64_t wo_queued;	/* operations of the file that were first */
	uint32_t wo_nholder;	/* holders that follow, at most PF_P_HOLDERS_MAX */
	uint32_t wo_more;	/* and how many there are besides */
};
PF_MEDIA_SIZE(struct pf_p_would_out, 56);
#define PF_P_HOLDERS_MAX 256U
struct pf_p_holder {
	uint64_t hr_session;
	uint64_t hr_pages;
	uint32_t hr_pid;
	uint32_t hr_uid;
	char hr_comm[16];
};
PF_MEDIA_SIZE(struct pf_p_holder, 40);
/*
 * Behind the holders: what it comes to, and the leases that are in the way. A daemon that does not know of this ends
 * with the holders.
 */
enum pf_p_would { PF_P_WOULD_PASS = 0, PF_P_WOULD_TURN = 1, PF_P_WOULD_WAIT = 2, PF_P_WOULD_EBUSY = 3,
		  PF_P_WOULD_TXTBSY = 4, PF_P_WOULD_DEFER = 5, PF_P_WOULD_UNSAFE = 6, PF_P_WOULD_DEADLK = 7 };
struct pf_p_would_end {
	uint64_t we_most_ms;	/* WAIT: no longer than that; 0: no limit */
	uint32_t we_answer;	/* enum pf_p_would; TURN: others are first */
	uint32_t we_nlease;	/* leases that follow, at most PF_P_WOULD_LEASES */
	uint32_t we_more;	/* and how many there are besides */
	uint32_t we_pad;
};
PF_MEDIA_SIZE(struct pf_p_would_end, 24);
#define PF_P_WOULD_LEASES 64U
struct pf_p_would_lease {
	uint64_t wl_id;
	uint64_t wl_foff;	/* page aligned; len UINT64_MAX: to the end */
	uint64_t wl_len;
	uint64_t wl_left_ms;	/* that the operation would leave it; 0: it is not waited for */
	uint32_t wl_pid;
	uint32_t wl_uid;
	uint32_t wl_flags;	/* PF_LE_* */
	uint32_t wl_state;	/* enum pinfs_lease_state, or PF_P_LEASE_DROPPED */
	char wl_comm[16];
};
PF_MEDIA_SIZE(struct pf_p_would_lease, 64);
#define PF_P_LEASE_DROPPED UINT32_C(32)	/* given back with pins left under it */

/*
 * PAUSE: for tests. ARM: who comes to the point pa_point from now on stands there; of inode pa_ino only, unless that
 * is 0; the next pa_count only, unless that is 0. RESUME: the point is armed no more, and who stands there goes on; an
 * empty name means all points. PF_REPORT_PAUSES says who stands where. Errors: EPERM, EOPNOTSUPP (the mount has none),
 * EINVAL.
 */
enum pf_p_pause_what { PF_P_PAUSE_ARM = 0, PF_P_PAUSE_RESUME = 1 };
struct pf_p_pause_in {
	uint32_t pa_what;
	uint32_t pa_pad;
	uint64_t pa_ino;
	uint64_t pa_count;
	char pa_point[16];	/* NUL padded */
};
PF_MEDIA_SIZE(struct pf_p_pause_in, 40);

/*
 * LEASE (pinfs/lease.h). TAKE and TEST name a file and pages; DOWNGRADE and DROP a lease of this session.
 * The answer to TEST is PF_P_LEASE_FREE, or the lease that is in the way (lo_id 0: a waiting operation).
 * Errors: EBADF, EINVAL, EACCES, EPERM, EAGAIN, ENOLCK, ESTALE (no such lease, or it is broken), EBUSY (on its way).
 */
enum pf_p_lease_what { PF_P_LEASE_TAKE = 0, PF_P_LEASE_TEST = 1, PF_P_LEASE_DOWNGRADE = 2, PF_P_LEASE_DROP = 3,
		       PF_P_LEASE_RETRACT = 4 };
struct pf_p_lease_in {
	uint32_t le_what;
	uint32_t le_flags;	/* PF_LE_*, as PINFS_LEASE_* */
	uint64_t le_fh;		/* TAKE, TEST */
	uint64_t le_foff;	/* page aligned; len UINT64_MAX: to the end */
	uint64_t le_len;
	uint64_t le_id;		/* the others */
};
PF_MEDIA_SIZE(struct pf_p_lease_in, 40);
/* TAKE and HAVE may be followed by a struct pf_t_stack (trace.h): who took it, for reports. */
#define PF_LE_READ UINT32_C(1)
#define PF_LE_WRITE UINT32_C(2)
#define PF_LE_UNBREAK UINT32_C(4)
#define PF_P_LEASE_FREE UINT32_C(16)
struct pf_p_lease_out {
	uint64_t lo_id;
	uint64_t lo_foff;
	uint64_t lo_len;
	uint32_t lo_flags;
	uint32_t lo_pid;	/* 0: a waiting operation */
	uint32_t lo_state;	/* enum pinfs_lease_state, or PF_P_LEASE_FREE */
	uint32_t lo_pad;
};
PF_MEDIA_SIZE(struct pf_p_lease_out, 40);

struct pf_p_lease_event {
	uint64_t ev_id;
	uint64_t ev_left_ms;	/* BREAKING */
	uint32_t ev_state;
	uint32_t ev_moved;	/* BROKEN: another session has it now, and the pins that went with it */
};
PF_MEDIA_SIZE(struct pf_p_lease_event, 24);

/* Comes before the invalidate that takes the windows' blocks away. Pages of the windows that there are by now stay
 * SIGBUS until they are mapped anew by the program. Not acknowledged: the invalidate is. */
struct pf_p_revoke {
	uint64_t rv_ino;
	uint64_t rv_foff;
	uint64_t rv_len;
};
PF_MEDIA_SIZE(struct pf_p_revoke, 24);

/*
 * Hand-over. The giver names the counts that go along, piece by piece; the taker sets up slots of its own for the same
 * chunks, and names one for each piece. Then all counts move from ledger to ledger in one step, or none.
 */
struct pf_p_token {
	uint64_t tk_cookie[2];
};
struct pf_p_give_in {
	uint64_t gi_id;		/* of the lease */
	uint32_t gi_next;	/* pieces that follow, at most PF_P_PIECES_MAX */
	uint32_t gi_pad;
};
struct pf_p_give_out {
	struct pf_p_token go_token;
};
#define PF_P_PIECES_MAX 1024U
struct pf_p_piece {
	uint64_t pc_foff;	/* of the chunk */
	uint32_t pc_slot;	/* GIVE: the giver's; HAVE: the taker's */
	uint32_t pc_first, pc_npage;
	uint32_t pc_pin;	/* which pin it belongs to: 0, 1, ..., in this order */
	uint32_t pc_flags;	/* PF_PI_* of that pin */
	uint32_t pc_pad;
};
PF_MEDIA_SIZE(struct pf_p_piece, 32);
struct pf_p_look_out {
	struct pf_p_lease_out lk_lease;
	uint64_t lk_fh;		/* a handle of the file, in the taker's session; DETACH it when done */
	uint64_t lk_ino;
	uint64_t lk_size;
	uint32_t lk_write;	/* it may write */
	uint32_t lk_next;	/* pieces that follow */
};
PF_MEDIA_SIZE(struct pf_p_look_out, 72);
struct pf_p_have_in {
	struct pf_p_token ha_token;
	uint64_t ha_fh;
	uint32_t ha_next;
	uint32_t ha_pad;
};
PF_MEDIA_SIZE(struct pf_p_have_in, 32);

/*
 * KICK_PIN: one pin is void, as reports name it: nobody waits for its pages any more, and they have no translation
 * (ledger.h). Blocks that leave the file there are kept out of reuse until the pin has ended after all. Errors: EPERM;
 * ESRCH no such session, or its record is free or says pages that are not pinned; ENOTCONN the session is cut off.
 */
struct pf_p_kick_pin_in {
	uint64_t kp_session;
	uint32_t kp_record;
	uint32_t kp_pad;
};
PF_MEDIA_SIZE(struct pf_p_kick_pin_in, 16);

/*
 * TRACE: begin to trace, or end it; of one mount by one connection at a time, and no longer than that is open. After
 * STOP, READ still gives what is there; after END, there is no trace. READ answers at once, with the events of all
 * processes since the last one in no order, at most PF_P_TRACE_MAX, and says how many were overwritten before they
 * could be read. Errors: EPERM; EBUSY somebody else traces; EINVAL there is no trace of this connection; ENOMEM.
 */
enum pf_p_trace_what { PF_P_TRACE_STOP = 0, PF_P_TRACE_START = 1, PF_P_TRACE_END = 2 };
struct pf_p_trace_in {
	uint32_t ti_what;
	uint32_t ti_pad;
};
#define PF_P_TRACE_MAX 4096U
struct pf_p_trace_out {
	uint64_t to_now_ns;	/* CLOCK_MONOTONIC */
	uint64_t to_since_ns;	/* when the trace began */
	uint64_t to_lost;	/* events, since the last READ */
	uint32_t to_nev;	/* struct pf_t_ev that follow */
	uint32_t to_more;	/* 1: there are more by now */
};
PF_MEDIA_SIZE(struct pf_p_trace_out, 32);
struct pf_p_notify_trace {
	uint32_t nt_on;
	uint32_t nt_pad;
};

struct pf_p_report_in {
	uint32_t ri_what;	/* enum pf_report */
	uint32_t ri_pid;	/* WINDOWS: of this process only; 0: of all */
};
enum pf_report {
	PF_REPORT_STATUS = 0, PF_REPORT_PINS = 1, PF_REPORT_WINDOWS = 2, PF_REPORT_LEASES = 3,
	PF_REPORT_PAUSES = 5, PF_REPORT_NR
};

#endif
