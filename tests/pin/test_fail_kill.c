/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fail_kill.c - clients that end, or lie, anywhere: killed at seeded points, between two bytes of a message, with
 * pins and with a break under way; their socket cut from either side; their ledger full of noise while files are cut.
 *
 * Each time the others go on, nothing of the client is left, and no block is lost: what the filesystem says is free in
 * the end is what was free in the beginning. PINFS_LONG=1 kills more often; PINFS_SEED takes another seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <pinfs/pin.h>
#include <pinfs/version.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/look.h"
#include "pin/raw.h"
#include "pin/stage.h"

#define FILES 3U
#define BIG (UINT64_C(5) << 20)

static struct pt_fs *fs;
static char f[STAGE_PATH], other[STAGE_PATH];

static uint64_t rnd(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	return *seed ^= *seed << 17;
}

static uint64_t seeded(uint64_t deflt)
{
	const char *env = getenv("PINFS_SEED");
	const uint64_t seed = env != NULL ? strtoull(env, NULL, 0) : deflt;

	pt_say("PINFS_SEED=%llu", (unsigned long long)seed);
	return seed != 0 ? seed : 1;
}

static bool begin(const char *opts)
{
	fs = stage("64M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	stage_file(fs, "other", other);
	return true;
}

static uint64_t free_blocks(void)
{
	struct statvfs st;

	PT_SYS_FATAL(statvfs(fs->mnt, &st));
	return st.f_bfree;
}

/* Until nothing of any client is left, and @blocks are free; false after half a minute. */
static bool settled(uint64_t blocks)
{
	const uint64_t end = pt_now_ms() + SOON_MS;
	bool parked = look_parked_until(fs, 0);

	while (free_blocks() != blocks && pt_now_ms() < end)
		pt_sleep_ms(5);
	if (free_blocks() != blocks)
		pt_say("%llu blocks are free, expected %llu", (unsigned long long)free_blocks(),
		       (unsigned long long)blocks);
	return parked && free_blocks() == blocks && look_until(fs, 0, 0, NULL);
}

/* Done at last, however short busy_timeout is for this machine: 0 or another error. */
static long truncate_at_last(struct actor *a, const char *path, uint64_t size)
{
	const uint64_t end = pt_now_ms() + SOON_MS;
	long rc;

	do
		rc = actor_do(a, act_truncate(path, size));
	while (rc == -EBUSY && pt_now_ms() < end);
	return rc;
}

/* --- killed at any point --- */

struct life { uint64_t seed; _Atomic uint64_t *steps; };

/* What a client can do, in any order, for ever. Failures are none of its business: others do the same to its files. */
static int live(void *arg)
{
	struct life *l = arg;
	struct pinfs_pin *pin[4] = { NULL };
	char *map[FILES] = { NULL };
	uint64_t seed = l->seed;

	(void)signal(SIGBUS, SIG_DFL);
	for (;; atomic_fetch_add(l->steps, 1)) {
		unsigned int i = (unsigned int)(rnd(&seed) % FILES), k = (unsigned int)(rnd(&seed) % 4);
		const uint64_t at = rnd(&seed) % (BIG / 4096) * 4096;
		const char *path = pt_path(fs, "k%u", i);
		int fd;

		switch (rnd(&seed) % 12) {
		case 0:
		case 1:
			fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
			if (fd < 0)
				break;
			if (map[i] != NULL)
				(void)munmap(map[i], BIG);
			map[i] = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			map[i] = map[i] == MAP_FAILED ? NULL : map[i];
			(void)close(fd);
			break;
		case 2:
		case 3:
		case 4:		/* by a system call: a store behind the end would be the end of this process */
			fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
			if (map[i] != NULL && fd >= 0)
				(void)!read(fd, map[i] + at, 4096);
			(void)close(fd);
			break;
		case 5:
		case 6:
			if (pin[k] != NULL)
				(void)pinfs_unpin(pin[k]);
			pin[k] = NULL;
			if (map[i] != NULL && pinfs_pin(map[i] + at, 1 + rnd(&seed) % 20000 % (BIG - at),
							PINFS_PIN_WRITE, &pin[k]) != 0)
				pin[k] = NULL;
			break;
		case 7:
			(void)syscall(SYS_truncate, path, rnd(&seed) % BIG);
			break;
		case 8:
			fd = open(path, O_RDWR | O_CLOEXEC);
			(void)syscall(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 65536);
			(void)close(fd);
			break;
		case 9:
			fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
			(void)!pwrite(fd, path, 10, (off_t)at);
			(void)close(fd);
			break;
		case 10:
			if (rnd(&seed) % 4 == 0)
				(void)unlink(path);
			break;
		default:
			if (map[i] != NULL)
				(void)munmap(map[i], BIG);
			map[i] = NULL;
			break;
		}
	}
	return 0;
}

static void killed_anywhere(void)
{
	const unsigned int rounds = getenv("PINFS_LONG") != NULL ? 2000 : 60;
	_Atomic uint64_t *steps = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t seed, blocks, total = 0;
	struct actor *c;

	CU_ASSERT_FATAL((uintptr_t)steps != (uintptr_t)MAP_FAILED);
	if (!begin("on_busy=wait,busy_timeout=50ms,window=4M"))
		return;
	seed = seeded(31);
	c = actor_new();
	/* What the directory and the list of orphans take for themselves, they keep. */
	blocks = free_blocks();
	for (unsigned int i = 0; i < FILES; i++)
		PT_EQ(actor_do(c, act_write(pt_path(fs, "k%u", i), 0, F_LEN, 'k')), (long)F_LEN);
	for (unsigned int i = 0; i < FILES; i++) {
		const int fd = open(pt_path(fs, "k%u", i), O_RDONLY | O_CLOEXEC);

		PT_EQ(actor_do(c, act_unlink(pt_path(fs, "k%u", i))), 0);
		(void)close(fd);
	}
	while (free_blocks() + F_LEN / 4096 <= blocks)		/* closing returns before the file is gone */
		pt_sleep_ms(5);
	blocks = free_blocks();
	for (unsigned int round = 0; round < rounds; round++) {
		struct life l[2] = { { rnd(&seed), steps }, { rnd(&seed), steps } };
		const uint64_t until = rnd(&seed) % 60, end = pt_now_ms() + 2 * SOON_MS;
		pid_t pid[2];

		atomic_store(steps, 0);
		for (int i = 0; i < 2; i++)
			pid[i] = pt_fork(live, &l[i]);
		while (atomic_load(steps) < until && pt_now_ms() < end)
			(void)nanosleep(&(struct timespec){ 0, (long)(rnd(&seed) % 300000) }, NULL);
		CU_ASSERT(atomic_load(steps) >= until);
		total += atomic_load(steps);
		/* Both by one blow, or the second while the first is being cleared away. */
		for (int i = 0; i < 2; i++) {
			(void)kill(pid[i], SIGKILL);
			(void)nanosleep(&(struct timespec){ 0, (long)(rnd(&seed) % 400000) }, NULL);
		}
		for (int i = 0; i < 2; i++)
			pt_kill(pid[i]);
		/* Nobody waits for the dead. */
		for (unsigned int i = 0; i < FILES && round % 4 == 0; i++) {
			long rc = truncate_at_last(c, pt_path(fs, "k%u", i), rnd(&seed) % 65536);

			CU_ASSERT(rc == 0 || rc == -ENOENT);
		}
	}
	pt_say("%u times two clients killed, after %llu steps", rounds, (unsigned long long)total);
	for (unsigned int i = 0; i < FILES; i++)
		(void)actor_do(c, act_unlink(pt_path(fs, "k%u", i)));
	CU_ASSERT(settled(blocks));
	actor_end(c);
	(void)munmap((void *)(uintptr_t)steps, 4096);
	pt_fs_end(fs);
}

/* --- killed between two bytes --- */

/* The conversation of a client, cut after so many bytes of so manieth message; then what the daemon may have to say. */
enum point {
	AT_NOTHING, AT_INIT, AT_HELLO, AT_ATTACH, AT_SETUP, AT_PINNED, AT_WAITING, AT_INVALIDATED, AT_ACK, AT_KICK,
	AT_NR
};

struct step { enum point at; size_t bytes; bool reads; _Atomic int *told; };

/* Send the first @bytes of a message, and stop there for ever: the parent kills. */
static void last_words(struct raw *r, const struct step *s, uint32_t opcode, const void *in, size_t len)
{
	struct { struct fuse_in_header h; char body[512]; } q = {
		.h = { .len = (uint32_t)(sizeof q.h + len), .opcode = opcode, .unique = ++r->unique },
	};

	memcpy(q.body, in, len);
	(void)!send(r->sock, &q, s->bytes < q.h.len ? s->bytes : q.h.len, MSG_NOSIGNAL);
	if (s->reads && s->bytes >= q.h.len)
		(void)!recv(r->sock, &q, sizeof q, 0);
	atomic_store(s->told, 2);
	for (;;)
		(void)pause();
}

static int converse(void *arg)
{
	const struct step *s = arg;
	const struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };
	const struct pf_p_hello_in hi = { .hi_major = PINFS_PROTO_MAJOR, .hi_comm = "raw" };
	const struct pf_p_attach_in no_cookie = { .ai_cookie = { 1, 2 } };
	struct pf_p_pin_in pin = { .pi_npage = 4, .pi_flags = PF_PI_WRITE };
	struct pf_p_kick_in kick = { .ki_slot = 0 };
	struct pf_p_attach_out at;
	struct pf_p_ack_in ack;
	struct pf_p_map_in m;
	struct pf_p_inval in;
	struct raw_chunk c;
	struct raw r;

	if (s->at <= AT_INIT) {
		r = (struct raw){ .sock = raw_dial(fs), .fds = { -1, -1 } };
		last_words(&r, s, FUSE_INIT, &init, s->at == AT_NOTHING ? 0 : sizeof init);
	}
	raw_up(&r, fs, s->at > AT_HELLO);
	if (s->at == AT_HELLO)
		last_words(&r, s, PF_P_HELLO, &hi, sizeof hi);
	if (s->at == AT_ATTACH)
		last_words(&r, s, PF_P_ATTACH, &no_cookie, sizeof no_cookie);
	if (raw_attach(&r, f, O_RDWR, &at) != 0)
		return 1;
	m = raw_map_in(at.ao_fh, 0, 0, FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE);
	pin.pi_fh = at.ao_fh;
	if (s->at == AT_SETUP)
		last_words(&r, s, FUSE_SETUPMAPPING, &m, sizeof m);
	if (raw_setup(&r, at.ao_fh, 0, 0, &c) != 0)
		return 2;
	if (s->at == AT_PINNED)
		last_words(&r, s, PF_P_PIN, &pin, sizeof pin);
	if (s->at == AT_KICK && raw_call(&r, PF_P_PIN, &pin, sizeof pin, NULL, 0) != 0)
		return 3;
	atomic_store(s->told, 1);		/* cut the file now */
	if (!raw_note(&r, &in))
		return 4;
	if (s->at == AT_INVALIDATED)
		last_words(&r, s, PF_P_REPORT, &kick, sizeof kick);
	ack.ak_id = in.in_id;
	if (s->at == AT_ACK)
		last_words(&r, s, PF_P_INVAL_ACK, &ack, sizeof ack);
	if (s->at == AT_WAITING) {
		pin.pi_flags |= PF_PI_WAIT;
		last_words(&r, s, PF_P_PIN, &pin, sizeof pin);
	}
	if (!raw_ack(&r, in.in_id))
		return 5;
	last_words(&r, s, PF_P_KICK, &kick, sizeof kick);
	return 0;
}

static void killed_in_a_message(void)
{
	static const size_t bytes[] = { 1, sizeof(struct fuse_in_header) - 1, sizeof(struct fuse_in_header) + 3, 4096 };
	_Atomic int *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int n = 0;
	uint64_t blocks;
	struct actor *c;

	CU_ASSERT_FATAL((uintptr_t)told != (uintptr_t)MAP_FAILED);
	if (!begin("on_busy=wait"))
		return;
	c = actor_new();
	blocks = free_blocks();
	for (int at = 0; at < AT_NR; at++)
		for (size_t i = 0; i < 2 * PF_ARRAY_LEN(bytes); i++, n++) {
			const uint64_t end = pt_now_ms() + SOON_MS;
			const bool reads = i % 2 && at != AT_WAITING && at < AT_ACK;
			struct step s = { (enum point)at, bytes[i / 2], reads, told };
			bool cut = false;
			pid_t pid;

			if (i % 2 && bytes[i / 2] < 4096)
				continue;		/* there will be no answer */
			atomic_store(told, 0);
			pid = pt_fork(converse, &s);
			while (atomic_load(told) != 2 && pt_now_ms() < end) {
				if (atomic_load(told) == 1 && !cut) {
					actor_send(c, act_truncate(f, 4096));
					cut = true;
				}
				(void)nanosleep(&(struct timespec){ 0, 100000 }, NULL);
			}
			if (atomic_load(told) != 2)
				pt_say("point %d, %zu bytes: did not get there", at, s.bytes);
			CU_ASSERT(atomic_load(told) == 2);
			if (!cut)
				actor_send(c, act_truncate(f, 4096));
			pt_kill(pid);
			PT_EQ(actor_result(c, SOON_MS), 0);
			PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
			CU_ASSERT(look_session_until(fs, pid, "none"));
		}
	pt_say("killed at %u points", n);
	CU_ASSERT(settled(blocks));
	actor_end(c);
	(void)munmap((void *)(uintptr_t)told, 4096);
	pt_fs_end(fs);
}

/* --- the socket is cut --- */

/* Shut down, in the way @how, the sockets that the daemon has of its clients, as if they failed. False: cannot. */
static bool cut_sockets(int how)
{
	const int pidfd = (int)syscall(SYS_pidfd_open, fs->pid, 0);
	bool any = false;

	for (int n = 0; n < 1024 && pidfd >= 0; n++) {
		const int fd = (int)syscall(SYS_pidfd_getfd, pidfd, n, 0);
		struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
		socklen_t len = sizeof peer;

		if (fd < 0 && errno == EPERM)
			break;
		if (fd >= 0 && getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.ss_family == AF_UNIX)
			any |= shutdown(fd, how) == 0;
		if (fd >= 0)
			(void)close(fd);
	}
	if (pidfd >= 0)
		(void)close(pidfd);
	return any;
}

static void cut_one(int how)
{
	struct actor *h = actor_new(), *c = actor_new();
	const uint64_t end = pt_now_ms() + SOON_MS;
	long rc;

	PT_EQ(actor_map_file(h, 0, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_store(0, 0, F_LEN, 's')), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, 0, 4096, PINFS_PIN_WRITE)), 0);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(look_until(fs, 1, 1, NULL));
	if (!cut_sockets(how)) {
		pt_skip("no pidfd_getfd here");
		PT_EQ(actor_do(h, act_unpin(0)), 0);
	}
	PT_EQ(actor_result(c, SOON_MS), 0);
	/* Under SHUT_RD it is the library's next message that finds out. */
	do
		rc = actor_do(h, act_pin(1, 0, 0, 4096, 0));
	while (rc != -ENOTCONN && pt_now_ms() < end);
	PT_EQ(rc, -ENOTCONN);
	PT_EQ(actor_do(h, act_load(0, 0)), -EFAULT);
	PT_EQ(actor_do(h, act_query(0)), -ENOTCONN);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	CU_ASSERT(look_session_until(fs, actor_pid(h), "none"));
	CU_ASSERT(look_parked_until(fs, 0));
	/* A new one for new windows. */
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'n')), (long)F_LEN);
	PT_EQ(actor_map_file(h, 1, f, F_LEN), 0);
	PT_EQ(actor_do(h, act_load(1, F_LEN - 1)), 'n');
	PT_EQ(actor_do(h, act_store(1, 0, 1, 'm')), 0);
	actor_end(h);
	actor_end(c);
}

static void sockets_cut(void)
{
	static const int how[] = { SHUT_RDWR, SHUT_WR, SHUT_RD };
	uint64_t blocks;

	if (!begin("on_busy=wait"))
		return;
	blocks = free_blocks();
	for (size_t i = 0; i < PF_ARRAY_LEN(how); i++)
		cut_one(how[i]);
	CU_ASSERT(settled(blocks));
	pt_fs_end(fs);
}

/* Garbage in the middle of a session: it is over, but what it has mapped is not given away. */
static void garbage(void)
{
	static const uint32_t len[] = { 0, 1, sizeof(struct fuse_in_header) - 1, PF_P_MSG_MAX + 1, UINT32_MAX };
	struct pf_p_attach_out at;
	struct raw_chunk chunk;
	struct actor *c;
	uint64_t blocks;
	struct raw r;

	if (!begin("on_busy=wait"))
		return;
	c = actor_new();
	blocks = free_blocks();
	for (size_t i = 0; i < PF_ARRAY_LEN(len); i++) {
		const struct fuse_in_header h = { .len = len[i], .opcode = FUSE_INIT, .unique = 1 };

		raw_up(&r, fs, true);
		PT_EQ(raw_attach(&r, f, O_RDWR, &at), 0);
		PT_EQ(raw_setup(&r, at.ao_fh, 0, 0, &chunk), 0);
		PT_EQ(send(r.sock, &h, sizeof h, MSG_NOSIGNAL), sizeof h);
		CU_ASSERT(raw_hung_up(&r));
		CU_ASSERT(look_session_until(fs, getpid(), "cut off"));
		PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
		PT_EQ(look_status(fs, "space.parked"), F_LEN / 4096);
		(void)shutdown(r.sock, SHUT_RDWR);
		raw_down(&r);
		CU_ASSERT(look_session_until(fs, getpid(), "none"));
		PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
	}
	CU_ASSERT(settled(blocks));
	actor_end(c);
	pt_fs_end(fs);
}

/* --- lies --- */

/* Acknowledgements, slots and handles of somebody else, and of nobody. */
static void lies(void)
{
	struct fuse_removemapping_one one = { .moffset = 0, .len = PF_CHUNK_SIZE };
	struct { struct fuse_removemapping_in in; struct fuse_removemapping_one one; } rm = { { .count = 1 }, one };
	struct pf_p_attach_out at, at2;
	struct raw_chunk chunk;
	struct pf_p_inval in;
	struct actor *c;
	struct raw r, liar;
	struct look l;

	if (!begin("on_busy=wait,revoke_timeout=3600s"))
		return;
	c = actor_new();
	raw_up(&r, fs, true);
	raw_up(&liar, fs, true);
	PT_EQ(raw_attach(&r, f, O_RDWR, &at), 0);
	PT_EQ(raw_attach(&liar, other, O_RDWR, &at2), 0);
	PT_EQ(raw_setup(&r, at.ao_fh, 7, 0, &chunk), 0);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT_FATAL(raw_note(&r, &in));
	/* Somebody else's id, all that are near it, and all that are absurd. */
	for (uint64_t i = 0; i < 200; i++)
		CU_ASSERT(raw_ack(&liar, in.in_id - 100 + i));
	CU_ASSERT(raw_ack(&liar, 0));
	CU_ASSERT(raw_ack(&liar, UINT64_MAX));
	CU_ASSERT(raw_ack(&r, in.in_id + 1));
	CU_ASSERT(raw_ack(&r, 0));
	/* A slot of somebody else; a handle. Answers are in order: when they are here, the acks have been looked at. */
	rm.one.moffset = UINT64_C(7) << PF_CHUNK_SHIFT;
	PT_EQ(raw_call(&liar, FUSE_REMOVEMAPPING, &rm, sizeof rm, NULL, 0), -EINVAL);
	PT_EQ(raw_call(&liar, PF_P_DETACH, &(uint64_t){ at2.ao_fh + 1 }, 8, NULL, 0), -EBADF);
	PT_EQ(raw_call(&r, PF_P_DETACH, &(uint64_t){ at.ao_fh + 1 }, 8, NULL, 0), -EBADF);
	CU_ASSERT_FATAL(look(fs, &l));
	PT_EQ(l.nwait, 1);
	CU_ASSERT_STRING_EQUAL(l.wait[0].state, "acks");
	PT_EQ(l.wait[0].nholder, 1);
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	/* Twice, and once more. */
	for (int i = 0; i < 3; i++)
		CU_ASSERT(raw_ack(&r, in.in_id));
	PT_EQ(actor_result(c, SOON_MS), 0);
	raw_down(&r);
	raw_down(&liar);
	actor_end(c);
	pt_fs_end(fs);
}

/* --- noise --- */

struct noise { struct raw *r; uint64_t seed; atomic_bool stop; };

/* Every word of the slots and the header, at random, as fast as it goes. */
static void *make_noise(void *arg)
{
	struct noise *n = arg;
	_Atomic uint32_t *w = (void *)n->r->led;
	const size_t words = (size_t)(sizeof(struct pf_l_hdr) + 4 * sizeof(struct pf_l_slot)) / 4;

	while (!atomic_load(&n->stop)) {
		const uint64_t x = rnd(&n->seed);

		/* Zeros often: a break must also have a chance. */
		atomic_store(&w[x % words], x >> 61 != 0 ? 0 : (uint32_t)(x >> 16));
	}
	return NULL;
}

/* The liar says that it has forgotten, if it has to, and that it has let go of something. */
static long beside_the_liar(struct raw *r, struct actor *a, struct act what, uint32_t slot)
{
	const uint64_t end = pt_now_ms() + SOON_MS;
	struct pf_p_kick_in kick = { .ki_slot = slot };
	long rc;

	actor_send(a, what);
	while ((rc = actor_result(a, 1)) == -EINPROGRESS && pt_now_ms() < end) {
		raw_ack_all(r);
		CU_ASSERT(raw_send(r, PF_P_KICK, &kick, sizeof kick));
	}
	return rc;
}

/*
 * A liar scribbles over its ledger while files are cut. The file that it has mapped may be busy; the file that an
 * honest client has pinned is waited for, no more and no less; the daemon lives.
 */
static void noise(void)
{
	const unsigned int rounds = getenv("PINFS_LONG") != NULL ? 3000 : 150;
	unsigned int busy = 0, done = 0;
	struct pf_p_attach_out at;
	struct raw_chunk chunk;
	struct actor *h, *c, *d;
	struct noise n = { 0 };
	uint64_t blocks;
	struct raw r;
	pthread_t t;
	uint64_t seed;

	/* An honest client answers in time, however slow the machine. */
	if (!begin("on_busy=wait,busy_timeout=20ms,revoke_timeout=100s"))
		return;
	seed = seeded(77);
	blocks = free_blocks();
	h = actor_new();
	c = actor_new();
	d = actor_new();
	raw_up(&r, fs, true);
	raw_ledger(&r);
	PT_EQ(raw_attach(&r, f, O_RDWR, &at), 0);
	PT_EQ(actor_map_file(h, 0, other, F_LEN), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, 0, 4096, PINFS_PIN_WRITE)), 0);
	n.r = &r;
	n.seed = seed;
	PT_EQ(pthread_create(&t, NULL, make_noise, &n), 0);
	for (unsigned int i = 0; i < rounds; i++) {
		long rc;

		(void)raw_setup(&r, at.ao_fh, i % 4, 0, &chunk);
		rc = beside_the_liar(&r, d, act_truncate(f, rnd(&seed) % F_LEN), i % 5);
		CU_ASSERT(rc == 0 || rc == -EBUSY);
		busy += rc == -EBUSY;
		done += rc == 0;
		CU_ASSERT(beside_the_liar(&r, d, act_write(f, 0, F_LEN, 'o'), i % 5) != -EINPROGRESS);
		/* The honest one's pin is a pin, all the time. */
		if (i % 16 == 0)
			PT_EQ(actor_do(c, act_truncate(other, 0)), -EBUSY);
		if (i % 64 == 0)
			CU_ASSERT(look_status(fs, "waiters") >= 0);
	}
	pt_say("%u truncates of the liar's file were done, %u busy", done, busy);
	CU_ASSERT(done > 0);
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(truncate_at_last(c, other, 0), 0);
	atomic_store(&n.stop, true);
	(void)pthread_join(t, NULL);
	raw_down(&r);
	CU_ASSERT(look_session_until(fs, getpid(), "none"));
	PT_EQ(truncate_at_last(c, f, 0), 0);
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
	PT_EQ(actor_do(c, act_write(other, 0, F_LEN, 'o')), (long)F_LEN);
	CU_ASSERT(settled(blocks));
	actor_end(h);
	actor_end(c);
	actor_end(d);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "killed anywhere", killed_anywhere, 600 },
		{ "killed in a message", killed_in_a_message, 120 },
		{ "sockets cut", sockets_cut, 120 },
		{ "garbage", garbage, 0 },
		{ "lies", lies, 0 },
		{ "noise in the ledger", noise, 600 },
	};
	static const struct pt_suite suite = { "kill", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
