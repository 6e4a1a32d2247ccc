/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.c - the target behind the session server's socket: messages, nonsense, scribbled ledgers, and operations on the
 * files meanwhile.
 *
 * The server is real, with its socket and threads, on a small image in memory; the input is two clients, one of which
 * speaks at a time. Afterwards all operations must have ended and fsck must find nothing: a client can lie, but it
 * cannot harm the filesystem.
 *
 * The input is a row of steps: what to do, how, length (2 bytes), and that many bytes. With FIX a message gets the
 * right length, handle, cookie or slot where it needs one, so that more than the first check is reached. Steps keep
 * their numbers: new ones go to the end, or the corpus means something else.
 */
#include "fuzz/targets/target.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <pinfs/ledger.h>
#include <pinfs/proto.h>
#include <pinfs/trace.h>
#include <pinfs/version.h>
#include "base/pause.h"
#include "front/srv.h"
#include "fsck.pinfs/fsck.h"
#include "harness/core.h"
#include "harness/mem.h"
#include "harness/proc.h"
#include "media/mkfs.h"

#define BYTES (UINT64_C(16) << 20)
#define ANSWER_MS 20		/* not an answer in time: some come much later, or never */
#define OPS_MAX 64U
#define STEP_MAX 600U

static const uint32_t opcodes[] = {
	FUSE_INIT, PF_P_HELLO, PF_P_ATTACH, FUSE_SETUPMAPPING, FUSE_REMOVEMAPPING, PF_P_PIN, PF_P_KICK, PF_P_INVAL_ACK,
	PF_P_SYNC, PF_P_REPORT, PF_P_FORGET_WAIT, PF_P_DETACH,
};

static const uint32_t more_opcodes[] = {
	PF_P_LEASE, PF_P_LEASE_GIVE, PF_P_LEASE_LOOK, PF_P_LEASE_HAVE, PF_P_UNPIN, PF_P_ADMIT, PF_P_PAUSE, PF_P_EVICT,
	PF_P_SET, PF_P_WOULD, PF_P_KICK_PIN, PF_P_TRACE, PF_P_TRACE_READ,
};

/* The other steps. */
enum { DO_RAW = PF_ARRAY_LEN(opcodes), DO_SCRIBBLE, DO_OP, DO_HANG_UP, DO_MORE,
       DO_SWAP = DO_MORE + PF_ARRAY_LEN(more_opcodes), DO_NR };
enum { FIX = 1, OTHER_FILE = 2, READ_ONLY = 4, NO_WAIT = 8, LONGER = 16 };	/* how */

#define PIECES_MAX 4U		/* of a hand-over, as far as it is understood here */

struct op {
	struct pf_areq r;
	_Atomic bool done;
};

static struct run {
	struct pf_pm *pm;
	struct pf_fs *fs;
	struct pf_srv *srv;
	uint64_t ino[2];
	uint32_t gen[2];
	struct client {
		int fd;
		uint64_t unique, fh, inval, session, lease;
		uint8_t *ledger;
		uint64_t ledger_bytes;
		struct pf_p_piece pin;		/* the last one */
	} me, other;
	struct pf_p_token token;		/* of the last hand-over, and what it is */
	struct pf_p_piece piece[PIECES_MAX];
	uint32_t nr_pieces;
	struct op *op[OPS_MAX];
	unsigned int nr_ops;
} run;

/* ---- the filesystem ---- */

static uint8_t *pristine;
static int device_fd;

static void must(int64_t err)
{
	if (err < 0) {
		(void)fprintf(stderr, "wire: %s\n", strerror((int)-err));
		abort();
	}
}

static void make_pristine(void)
{
	static uint8_t buf[300000];
	struct pf_mkfs m = { .label = "wire" };
	struct pf_pm *pm = mem_open(BYTES);
	const char *why;
	struct pf_fs *fs;

	must(pf_mkfs(pm, &m));
	must(core_mount(pm, &fs, &why));
	memset(buf, 'w', sizeof buf);
	must(core_create(fs, "/a"));
	must(core_create(fs, "/b"));
	must(core_write(fs, "/a", 0, buf, sizeof buf));
	must(core_write(fs, "/a", (3 << 20) + 5, buf, 100000));
	must(core_truncate(fs, "/a", UINT64_C(5) << 20));
	must(core_write(fs, "/b", 0, buf, 5000));
	core_unmount(fs);
	pristine = malloc(BYTES);
	if (pristine == NULL)
		abort();
	memcpy(pristine, pm->base, BYTES);
	mem_close(pm);
	/* What clients get a descriptor of; nobody looks into it here. */
	device_fd = memfd_create("device", MFD_CLOEXEC);
	if (device_fd < 0 || ftruncate(device_fd, (off_t)BYTES) != 0)
		abort();
}

static void copy_used(uint8_t *to, const uint8_t *from)
{
	for (uint64_t at = 0; at < BYTES; at += PF_BLK_SIZE)
		if (from[at] != 0 || memcmp(from + at, from + at + 1, PF_BLK_SIZE - 1) != 0)
			memcpy(to + at, from + at, PF_BLK_SIZE);
}

static void bring_up(void)
{
	static const char *const name[2] = { "a", "b" };
	const struct pf_opts opts = {
		.policy = { .on_busy = PF_BUSY_WAIT, .lease_ms = 20 },
		.pause_points = true,
		.pmem = PF_PMEM_CPU,
		.revoke_timeout_ms = 30,
		.window = 4 * PF_CHUNK_SIZE,
	};
	struct pf_mount_info info;
	struct pf_entry e;

	if (pristine == NULL)
		make_pristine();
	run = (struct run){ .me.fd = -1, .other.fd = -1 };
	run.pm = mem_open(BYTES);
	run.pm->fd = device_fd;
	copy_used(run.pm->base, pristine);
	must(pf_fs_mount_pm(run.pm, &opts, &run.fs, &info));
	for (int i = 0; i < 2; i++) {
		must(pf_op_lookup(run.fs, PF_INO_ROOT, name[i], &e));
		run.ino[i] = e.ino;
		run.gen[i] = e.gen;
	}
	must(pf_srv_start(run.fs, "/mnt", &run.srv));
}

/* ---- the client's socket ---- */

static void hang_up(void)
{
	if (run.me.ledger != NULL)
		(void)munmap(run.me.ledger, run.me.ledger_bytes);
	if (run.me.fd >= 0)
		(void)close(run.me.fd);
	run.me = (struct client){ .fd = -1, .unique = run.me.unique };
}

static void swap_clients(void)
{
	struct client c = run.me;

	run.me = run.other;
	run.other = c;
}

static bool connected(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct pinfs_sock name;

	if (run.me.fd >= 0)
		return true;
	pf_srv_sock(run.srv, &name);
	memcpy(sa.sun_path + 1, name.so_sock, strnlen(name.so_sock, sizeof sa.sun_path - 1));
	run.me.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (run.me.fd < 0)
		abort();
	if (connect(run.me.fd, (struct sockaddr *)&sa,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name.so_sock))) == 0)
		return true;
	hang_up();
	return false;
}

/* All of @len bytes. False: nothing came in time, or the server has hung up. */
static bool take(void *buf, size_t len, int fds[2], int ms)
{
	char ctl[CMSG_SPACE(2 * sizeof(int))];
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl };
	struct pollfd p = { run.me.fd, POLLIN, 0 };
	struct cmsghdr *cm;
	ssize_t n;

	while (iov.iov_len != 0) {
		if (poll(&p, 1, ms) != 1)
			return false;
		m.msg_controllen = sizeof ctl;
		n = recvmsg(run.me.fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (n <= 0) {
			hang_up();
			return false;
		}
		cm = CMSG_FIRSTHDR(&m);
		if (cm != NULL && cm->cmsg_len == CMSG_LEN(2 * sizeof(int)))
			memcpy(fds, CMSG_DATA(cm), 2 * sizeof(int));
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		ms = 1000;	/* the rest of a message is on its way */
	}
	return true;
}

static void got_ledger(int fds[2])
{
	struct stat st;

	if (fds[1] >= 0 && run.me.ledger == NULL && fstat(fds[1], &st) == 0) {
		run.me.ledger_bytes = (uint64_t)st.st_size;
		run.me.ledger = mmap(NULL, run.me.ledger_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
		if (run.me.ledger == MAP_FAILED)
			run.me.ledger = NULL;
	}
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
}

/* What later messages need of an answer. */
static void learn(uint32_t opcode, const uint8_t *body, size_t len)
{
	struct pf_p_lease_out lo;
	struct pf_p_hello_out ho;
	struct pf_p_look_out look;
	struct pf_p_map_out mo;

	if (opcode == PF_P_HELLO && len >= sizeof ho) {
		memcpy(&ho, body, sizeof ho);
		run.me.session = ho.ho_session;
	} else if ((opcode == PF_P_LEASE || opcode == PF_P_LEASE_HAVE) && len >= sizeof lo) {
		memcpy(&lo, body, sizeof lo);
		run.me.lease = lo.lo_id;
	} else if (opcode == PF_P_LEASE_GIVE && len >= sizeof run.token) {
		memcpy(&run.token, body, sizeof run.token);
	} else if (opcode == PF_P_PIN && len >= sizeof mo) {
		memcpy(&mo, body, sizeof mo);
		run.me.pin.pc_foff = mo.mo_foff;
	} else if (opcode == PF_P_LEASE_LOOK && len >= sizeof look) {
		memcpy(&look, body, sizeof look);
		if (len != sizeof look + look.lk_next * sizeof *run.piece)
			FZ_FAIL("pieces of a hand-over are missing");
		run.me.fh = look.lk_fh;
		run.nr_pieces = look.lk_next < PIECES_MAX ? look.lk_next : PIECES_MAX;
		memcpy(run.piece, body + sizeof look, run.nr_pieces * sizeof *run.piece);
	}
}

/* Messages that have come; until the answer to @unique, if it is not 0: that of an @opcode. */
static void listen_for(uint64_t unique, uint32_t opcode)
{
	static uint8_t body[PF_P_MSG_MAX];
	struct fuse_out_header h;
	int fds[2] = { -1, -1 };
	bool answered = unique == 0;

	while (run.me.fd >= 0 && take(&h, sizeof h, fds, answered ? 0 : ANSWER_MS)) {
		if (h.len < sizeof h || h.len > sizeof body)
			FZ_FAIL("the server sends nonsense");
		if (h.len > sizeof h && !take(body, h.len - sizeof h, fds, 1000))
			break;
		if (h.unique == 0 && h.len == sizeof h + sizeof(struct pf_p_inval))
			memcpy(&run.me.inval, body, sizeof run.me.inval);
		if (h.unique != 0 && h.len == sizeof h + sizeof(struct pf_p_attach_out))
			memcpy(&run.me.fh, body, sizeof run.me.fh);
		got_ledger(fds);
		fds[0] = fds[1] = -1;
		if (unique != 0 && h.unique == unique && h.error == 0)
			learn(opcode, body, h.len - sizeof h);
		answered = answered || h.unique == unique;
	}
	got_ledger(fds);
}

static void send_bytes(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	while (len > 0 && run.me.fd >= 0) {
		ssize_t n = send(run.me.fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n <= 0) {
			hang_up();
			return;
		}
		p += n;
		len -= (size_t)n;
	}
}

/* ---- messages ---- */

static uint64_t word(const uint8_t *p, size_t len, size_t at)
{
	uint64_t v = 0;

	if (at < len)
		memcpy(&v, p + at, len - at < sizeof v ? len - at : sizeof v);
	return v;
}

static uint64_t pages(uint64_t n)
{
	return n * PF_BLK_SIZE;
}

static size_t put(uint8_t *out, const void *in, size_t len)
{
	memcpy(out, in, len);
	return len;
}

static size_t fix_lease(uint8_t how, uint64_t a, uint64_t b, const uint8_t *p, size_t len, uint8_t *out)
{
	static const uint32_t kind[] = { PF_LE_READ, PF_LE_WRITE, PF_LE_READ | PF_LE_UNBREAK, 0 };
	struct pf_p_lease_in in = {
		.le_what = (uint32_t)(a % 6), .le_flags = kind[(a >> 8) % PF_ARRAY_LEN(kind)], .le_fh = run.me.fh,
		.le_foff = pages((a >> 16) % 1536), .le_len = (a >> 32) % 4 == 0 ? UINT64_MAX : pages((a >> 40) % 1024),
		.le_id = b % 4 == 0 ? b >> 8 : run.me.lease,
	};
	struct pf_t_stack st = { 0 };
	size_t n = put(out, &in, sizeof in);

	memcpy(&st, p, len < sizeof st ? len : sizeof st);
	return how & LONGER ? n + put(out + n, &st, sizeof st) : n;
}

/* The last pin goes along, or what was looked at is had. */
static size_t fix_hand_over(uint32_t opcode, uint64_t a, uint8_t *out)
{
	struct pf_p_give_in give = { .gi_id = run.me.lease, .gi_next = (uint32_t)(a % 2) };
	struct pf_p_have_in have = { .ha_token = run.token, .ha_fh = run.me.fh, .ha_next = run.nr_pieces };
	struct pf_p_piece to;
	size_t n;

	if (opcode == PF_P_LEASE_LOOK)
		return put(out, &run.token, sizeof run.token);
	if (opcode == PF_P_LEASE_GIVE) {
		n = put(out, &give, sizeof give);
		return give.gi_next != 0 ? n + put(out + n, &run.me.pin, sizeof run.me.pin) : n;
	}
	n = put(out, &have, sizeof have);
	for (uint32_t i = 0; i < run.nr_pieces; i++) {
		to = run.piece[i];
		to.pc_slot = (uint32_t)((a >> 8 * i) % 5);
		n += put(out + n, &to, sizeof to);
	}
	return n;
}

/* One setting or two. Not lease_break=kill: the clients are this process. */
static size_t fix_set(uint64_t a, uint8_t *out)
{
	static const char *const what[] = {
		"on_busy=wait", "on_busy=ebusy", "on_busy=defer", "on_busy=poll", "on_busy=unsafe", "break=file",
		"break=range", "busy_timeout=0.01", "busy_timeout=0", "poll_interval=0.002", "fair=yes", "fair=no",
		"deadlock=wait", "deadlock=detect", "lease_time=0.005", "lease_time=45", "lease_break=txtbsy",
		"lease_break=revoke", "longterm=allow", "longterm=lease", "longterm=refuse", "longterm=",
	};
	char text[64];
	bool two = (a >> 16) % 2 != 0;
	int n = snprintf(text, sizeof text, "%s%s%s", what[a % PF_ARRAY_LEN(what)], two ? "," : "",
			 two ? what[(a >> 8) % PF_ARRAY_LEN(what)] : "");

	return put(out, text, (size_t)n);
}

static size_t fix_pause(unsigned int file, uint64_t a, uint8_t *out)
{
	struct pf_p_pause_in in = { .pa_what = (uint32_t)(a % 2), .pa_ino = (a >> 8) % 2 != 0 ? run.ino[file] : 0,
				    .pa_count = (a >> 16) % 3 };

	if ((a >> 24) % 10 < PF_AT_NR)
		(void)snprintf(in.pa_point, sizeof in.pa_point, "%s", pf_point_name[(a >> 24) % 10]);
	return put(out, &in, sizeof in);
}

/* As fix_body(). */
static size_t fix_more(uint32_t opcode, uint8_t how, const uint8_t *p, size_t len, uint8_t *out)
{
	unsigned int file = (how & OTHER_FILE) != 0;
	uint64_t a = word(p, len, 0), b = word(p, len, 8), c = word(p, len, 16);

	switch (opcode) {
	case PF_P_LEASE:
		return fix_lease(how, a, b, p, len, out);
	case PF_P_LEASE_GIVE:
	case PF_P_LEASE_LOOK:
	case PF_P_LEASE_HAVE:
		return fix_hand_over(opcode, a, out);
	case PF_P_SET:
		return fix_set(a, out);
	case PF_P_PAUSE:
		return fix_pause(file, a, out);
	case PF_P_UNPIN:
		return put(out, &(struct pf_p_unpin_in){ .un_npage = a % 600 }, sizeof(struct pf_p_unpin_in));
	case PF_P_ADMIT:
		return put(out, &(struct pf_p_admit_in){ .ad_fh = run.me.fh, .ad_api = (uint32_t)(a % 25) },
			   sizeof(struct pf_p_admit_in));
	case PF_P_EVICT:
		a = a % 4 != 0 ? (uint64_t)getpid() : a >> 8;
		return put(out, &(struct pf_p_evict_in){ .ev_pid = (uint32_t)a }, sizeof(struct pf_p_evict_in));
	case PF_P_WOULD:
		return put(out, &(struct { struct pf_p_would_in in; struct pf_p_would_as as; }){
			   .in = { .wi_ino = run.ino[file], .wi_foff = b % (UINT64_C(6) << 20), .wi_len = c },
			   .as.wa_pid = (uint32_t)(a % 3 != 0 ? (uint64_t)getpid() : a >> 8) },
			   sizeof(struct pf_p_would_in) + (a % 2 != 0 ? sizeof(struct pf_p_would_as) : 0));
	case PF_P_KICK_PIN:
		return put(out, &(struct pf_p_kick_pin_in){ .kp_session = (a >> 8) % 2 != 0 ? run.other.session :
			   run.me.session, .kp_record = (uint32_t)(a % 4) }, sizeof(struct pf_p_kick_pin_in));
	case PF_P_TRACE:
		return put(out, &(struct pf_p_trace_in){ .ti_what = (uint32_t)(a % 4) }, sizeof(struct pf_p_trace_in));
	default:
		return 0;
	}
}

/* A body that makes sense, of the numbers in the input. Returns its length. */
static size_t fix_body(uint32_t opcode, uint8_t how, const uint8_t *p, size_t len, uint8_t *out)
{
	unsigned int file = (how & OTHER_FILE) != 0;
	uint64_t a = word(p, len, 0), b = word(p, len, 8), c = word(p, len, 16);
	struct pinfs_attach right;

	switch (opcode) {
	case FUSE_INIT: {
		struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };

		memcpy(out, &in, sizeof in);
		return sizeof in;
	}
	case PF_P_HELLO: {
		struct pf_p_hello_in in = { .hi_major = PINFS_PROTO_MAJOR };

		memcpy(out, &in, sizeof in);
		return sizeof in;
	}
	case PF_P_ATTACH: {
		struct pf_p_attach_in in = { .ai_path = "f" };

		const struct pf_map_right to = { run.ino[file], run.gen[file], (how & READ_ONLY) == 0, { 0 } };

		if (pf_srv_attach_cookie(run.srv, &to, getpid(), &right) == 0)
			memcpy(in.ai_cookie, right.at_cookie, sizeof in.ai_cookie);
		memcpy(out, &in, sizeof in);
		return sizeof in;
	}
	case FUSE_SETUPMAPPING: {
		uint64_t chunk = a % 4;
		struct pf_p_map_in in = {
			.mi_map = { .fh = run.me.fh, .foffset = chunk << PF_CHUNK_SHIFT, .len = PF_CHUNK_SIZE,
				    .flags = (a >> 8 & 2) | FUSE_SETUPMAPPING_FLAG_READ,
				    .moffset = (a >> 16) % 5 << PF_CHUNK_SHIFT },
			.mi_fault_foff = (chunk << PF_CHUNK_SHIFT) + (a >> 24) % 512 * PF_BLK_SIZE,
		};

		in.mi_map.flags = (a >> 8 & 1 ? FUSE_SETUPMAPPING_FLAG_WRITE : 0) | FUSE_SETUPMAPPING_FLAG_READ;
		memcpy(out, &in, sizeof in);
		return sizeof in;
	}
	case FUSE_REMOVEMAPPING: {
		struct fuse_removemapping_in in = { .count = 1 };
		struct fuse_removemapping_one one = { .moffset = a % 5 << PF_CHUNK_SHIFT, .len = PF_CHUNK_SIZE };

		memcpy(out, &in, sizeof in);
		memcpy(out + sizeof in, &one, sizeof one);
		return sizeof in + sizeof one;
	}
	case PF_P_PIN: {
		struct pf_p_pin_in in = {
			.pi_fh = run.me.fh, .pi_slot = (uint32_t)(a % 5), .pi_first = (uint32_t)((a >> 8) % 520),
			.pi_npage = (uint32_t)((a >> 24) % 520), .pi_flags = (uint32_t)((a >> 40) % 8),
		};

		run.me.pin = (struct pf_p_piece){ .pc_slot = in.pi_slot, .pc_first = in.pi_first,
						  .pc_npage = in.pi_npage, .pc_flags = in.pi_flags };
		memcpy(out, &in, sizeof in);
		return sizeof in;
	}
	case PF_P_KICK: {
		struct pf_p_kick_in in = { .ki_slot = (uint32_t)(a % 5) };

		memcpy(out, &in, sizeof in);
		return sizeof in;
	}
	case PF_P_INVAL_ACK:
		memcpy(out, &run.me.inval, sizeof run.me.inval);
		return sizeof run.me.inval;
	case PF_P_SYNC: {
		struct pf_p_sync_in in = { .si_fh = run.me.fh, .si_foff = b, .si_len = c };

		memcpy(out, &in, sizeof in);
		return sizeof in;
	}
	case PF_P_REPORT: {
		struct pf_p_report_in in = { .ri_what = (uint32_t)(a % (PF_REPORT_NR + 1)) };

		memcpy(out, &in, sizeof in);
		return sizeof in;
	}
	case PF_P_FORGET_WAIT: {
		uint64_t unique = run.me.unique - a % 4;

		memcpy(out, &unique, sizeof unique);
		return sizeof unique;
	}
	case PF_P_DETACH:
		memcpy(out, &run.me.fh, sizeof run.me.fh);
		return sizeof run.me.fh;
	default:
		return fix_more(opcode, how, p, len, out);
	}
}

/* The holder of a lease that would be killed is this process. */
static bool deadly(const uint8_t *p, size_t len)
{
	return memmem(p, len, "kill", 4) != NULL;
}

static void message(uint32_t opcode, uint8_t how, const uint8_t *p, size_t len)
{
	uint8_t buf[sizeof(struct fuse_in_header) + STEP_MAX + 512];
	struct fuse_in_header h = { .opcode = opcode, .unique = ++run.me.unique };
	bool silent = opcode == PF_P_KICK || opcode == PF_P_INVAL_ACK || opcode == PF_P_FORGET_WAIT;

	if (!connected() || (opcode == PF_P_SET && deadly(p, len)))
		return;
	if (how & FIX)
		len = fix_body(opcode, how, p, len, buf + sizeof h);
	else
		memcpy(buf + sizeof h, p, len);
	h.len = (uint32_t)(sizeof h + len);
	memcpy(buf, &h, sizeof h);
	send_bytes(buf, h.len);
	listen_for(silent || (how & NO_WAIT) ? 0 : run.me.unique, opcode);
}

static void scribble(uint8_t how, const uint8_t *p, size_t len)
{
	uint64_t at = word(p, len, 0) & UINT64_C(0xffffffff);

	if (run.me.ledger == NULL || len <= 4)
		return;
	/* Half of the time into a counter of the first slots. */
	if (how & FIX)
		at = sizeof(struct pf_l_hdr) + at % (4 * sizeof(struct pf_l_slot));
	at %= run.me.ledger_bytes;
	for (size_t i = 4; i < len && at + i - 4 < run.me.ledger_bytes; i++)
		run.me.ledger[at + i - 4] = p[i];
}

/* ---- operations that may have to wait for the client ---- */

static void op_done(struct pf_areq *r, ssize_t res)
{
	struct op *o = PF_CONTAINER_OF(r, struct op, r);

	(void)res;
	o->done = true;
}

static void start_op(uint8_t how, const uint8_t *p, size_t len)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE };
	uint64_t a = word(p, len, 0), off = word(p, len, 8) % (UINT64_C(6) << 20), n = word(p, len, 16);
	static const uint8_t zeros[70000];
	struct op *o;

	if (run.nr_ops == OPS_MAX)
		return;
	o = calloc(1, sizeof *o);
	if (o == NULL)
		abort();
	run.op[run.nr_ops++] = o;
	o->r.ino = run.ino[(how & OTHER_FILE) != 0];
	o->r.cred.umask = 022;
	o->r.ar_done = op_done;
	if (how & FIX)
		off = pf_round_down(off, PF_BLK_SIZE);
	switch (a % 3) {
	case 0:
		o->r.op = PF_AOP_SETATTR;
		o->r.setattr.set = PF_SET_SIZE;
		o->r.setattr.st.st_size = (off_t)off;
		break;
	case 1:
		o->r.op = PF_AOP_FALLOCATE;
		o->r.fallocate.mode = modes[(a >> 8) % PF_ARRAY_LEN(modes)];
		o->r.fallocate.off = off;
		n = n % (2 << 20) + PF_BLK_SIZE;
		o->r.fallocate.len = how & FIX ? pf_round_down(n, PF_BLK_SIZE) : n;
		break;
	default:
		o->r.op = PF_AOP_WRITE;
		o->r.write.off = off;
		o->r.write.buf = zeros;
		o->r.write.len = n % sizeof zeros;
		break;
	}
	pf_op_start(run.fs, &o->r);
}

/* After pf_lay_shutdown() nothing may wait any more. */
static void end_ops(void)
{
	uint64_t deadline = pt_now_ms() + 60000;

	for (unsigned int i = 0; i < run.nr_ops; i++) {
		while (!run.op[i]->done && pt_now_ms() < deadline)
			pt_sleep_ms(1);
		if (!run.op[i]->done)
			FZ_FAIL("an operation that never ends");
		free(run.op[i]);
	}
}

static void take_down(void)
{
	struct fsck f = { .out = stderr, .progress.fd = -1 };
	struct pf_pm *pm = run.pm;

	hang_up();
	swap_clients();
	hang_up();
	pf_lay_shutdown(run.fs, -ESHUTDOWN);
	end_ops();
	pf_srv_stop(run.srv);
	for (int i = 0; i < 2; i++)
		pf_op_forget(run.fs, run.ino[i], 1);
	pf_fs_unmount_pm(run.fs);
	if (fsck_check(&f, pm, "image") != FSCK_OK)
		FZ_FAIL("the filesystem is not clean");
	mem_close(pm);
}

static void run_wire(const uint8_t *data, size_t size)
{
	bring_up();
	while (size >= 4) {
		unsigned int what = data[0] % DO_NR;
		uint8_t how = data[1];
		size_t len = (size_t)(data[2] | data[3] << 8) % STEP_MAX;

		data += 4;
		size -= 4;
		if (len > size)
			len = size;
		switch (what) {
		case DO_RAW:
			if (connected() && !deadly(data, len)) {
				send_bytes(data, len);
				listen_for(0, 0);
			}
			break;
		case DO_SCRIBBLE:
			scribble(how, data, len);
			break;
		case DO_OP:
			start_op(how, data, len);
			break;
		case DO_HANG_UP:
			hang_up();
			break;
		case DO_SWAP:
			swap_clients();
			break;
		default:
			message(what < DO_RAW ? opcodes[what] : more_opcodes[what - DO_MORE], how, data, len);
			break;
		}
		data += len;
		size -= len;
	}
	take_down();
}

/* ---- making inputs ---- */

/* One step more, usually one that makes sense. */
static size_t mutate_wire(uint8_t *data, size_t size, size_t max, struct fz_rng *r)
{
	uint8_t step[4 + 32] = { (uint8_t)fz_below(r, DO_NR), (uint8_t)fz_rnd(r) };
	size_t len = fz_below(r, 33), at;

	if (fz_below(r, 8) != 0)
		step[1] |= FIX;
	for (size_t i = 4; i < sizeof step; i++)
		step[i] = (uint8_t)(fz_below(r, 2) == 0 ? fz_below(r, 8) : fz_rnd(r));
	step[2] = (uint8_t)len;
	/* Nothing works before these. */
	if (size == 0) {
		const uint8_t begin[] = { 0, FIX, 0, 0, 1, FIX, 0, 0, 2, FIX, 0, 0, DO_SWAP, 0, 0, 0,
					  0, FIX, 0, 0, 1, FIX, 0, 0, 2, FIX, 0, 0, DO_SWAP, 0, 0, 0 };
		size_t n = fz_below(r, 2) != 0 ? sizeof begin : 12;

		if (max < n)
			return 0;
		memcpy(data, begin, n);
		return n;
	}
	if (size + 4 + len > max || fz_below(r, 4) == 0) {
		data[fz_below(r, size)] = (uint8_t)fz_rnd(r);
		return size;
	}
	/* At the end of some step. */
	for (at = 0; at + 4 <= size && fz_below(r, 12) != 0;) {
		size_t n = 4 + (size_t)(data[at + 2] | data[at + 3] << 8) % STEP_MAX;

		at = n > size - at ? size : at + n;
	}
	memmove(data + at + 4 + len, data + at, size - at);
	memcpy(data + at, step, 4 + len);
	return size + 4 + len;
}

const struct fz_target fz_wire = { "wire", run_wire, mutate_wire, 2048, NULL };
