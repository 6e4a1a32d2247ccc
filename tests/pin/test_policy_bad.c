/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_policy_bad.c - clients that lie: nonsense on the socket, a scribbled ledger, pins of what cannot be pinned.
 *
 * The daemon must stay up and serve others; a liar may hold up, at worst, files that it may write itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/fuse.h>
#include <pinfs/ioctl.h>
#include <pinfs/ledger.h>
#include <pinfs/pin.h>
#include <pinfs/proto.h>
#include <pinfs/version.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/look.h"
#include "pin/raw.h"
#include "pin/stage.h"


static struct pt_fs *fs;
static char f[STAGE_PATH], other[STAGE_PATH];

static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	stage_file(fs, "other", other);
	return true;
}

/* The daemon is there, and a well-behaved client gets all it wants. */
static void still_serves(void)
{
	struct actor *h = actor_new(), *c = actor_new();
	struct look l;

	PT_EQ(actor_map_file(h, 0, other, F_LEN), 0);
	PT_EQ(actor_do(h, act_pin(0, 0, 0, 4096, PINFS_PIN_WRITE)), 0);
	actor_send(c, act_truncate(other, 0));
	CU_ASSERT_FATAL(look(fs, &l));
	for (int i = 0; i < 12000 && l.nwait_pins == 0; i++) {
		pt_sleep_ms(5);
		CU_ASSERT_FATAL(look(fs, &l));
	}
	PT_EQ(actor_do(h, act_unpin(0)), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(actor_do(c, act_write(other, 0, F_LEN, 'o')), (long)F_LEN);
	actor_end(h);
	actor_end(c);
}

/* --- the cases --- */

static void nonsense_bytes(void)
{
	struct fuse_in_header h;
	char junk[4096];
	uint32_t seed = 12345;

	if (!begin(NULL))
		return;
	for (int turn = 0; turn < 200; turn++) {
		int sock = raw_dial(fs);

		for (size_t i = 0; i < sizeof junk; i++) {
			seed = seed * 1664525 + 1013904223;
			junk[i] = (char)(seed >> 24);
		}
		memset(&h, 0, sizeof h);
		h.unique = 1;
		h.opcode = turn % 3 == 0 ? FUSE_INIT : turn % 3 == 1 ? PF_P_HELLO : seed;
		switch (turn % 8) {
		case 0: h.len = 0; break;
		case 1: h.len = sizeof h - 1; break;
		case 2: h.len = sizeof h; break;		/* a header and no body */
		case 3: h.len = UINT32_MAX; break;
		case 4: h.len = PF_P_MSG_MAX + 1; break;
		case 5: h.len = sizeof h + 100; break;		/* announced, and then nothing */
		case 6: h.len = sizeof h + (uint32_t)sizeof junk; break;
		case 7: memcpy(&h, junk, sizeof h); break;
		}
		(void)send(sock, &h, sizeof h, MSG_NOSIGNAL);
		if (turn % 2 == 0)
			(void)send(sock, junk, sizeof junk, MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)close(sock);
	}
	still_serves();
	pt_fs_end(fs);
}

/* A peer that sends half a message and stays, and many of them: nobody else waits. */
static void slow_peers(void)
{
	int sock[48];			/* a user who is not root may have 64 without a session */

	if (!begin(NULL))
		return;
	for (size_t i = 0; i < PF_ARRAY_LEN(sock); i++) {
		const struct fuse_in_header h = { .len = sizeof h + 64, .opcode = FUSE_INIT, .unique = 1 };

		sock[i] = raw_dial(fs);
		PT_EQ(send(sock[i], &h, 1 + i % sizeof h, MSG_NOSIGNAL), (long)(1 + i % sizeof h));
	}
	still_serves();
	for (size_t i = 0; i < PF_ARRAY_LEN(sock); i++)
		(void)close(sock[i]);
	pt_fs_end(fs);
}

static void wrong_order_and_version(void)
{
	const struct pf_p_hello_in old = { .hi_major = PINFS_PROTO_MAJOR + 1, .hi_comm = "raw" };
	const struct pf_p_attach_in guess = { .ai_cookie = { 1, 2 } };
	struct pf_p_map_in m = raw_map_in(0, 0, 0, FUSE_SETUPMAPPING_FLAG_READ);
	struct raw r;

	if (!begin(NULL))
		return;
	raw_up(&r, fs, false);
	CU_ASSERT(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0) < 0);		/* before HELLO */
	raw_down(&r);
	raw_up(&r, fs, false);
	PT_EQ(raw_call(&r, PF_P_HELLO, &old, sizeof old, NULL, 0), -EPROTO);
	raw_down(&r);
	raw_up(&r, fs, true);
	CU_ASSERT(raw_call(&r, PF_P_ATTACH, &guess, sizeof guess, NULL, 0) < 0);
	PT_EQ(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0), -EBADF);
	CU_ASSERT(raw_call(&r, 0x5fff, &m, sizeof m, NULL, 0) < 0);			/* no such message */
	raw_down(&r);
	still_serves();
	pt_fs_end(fs);
}

static void bad_mappings(void)
{
	struct pf_p_attach_out rw = { 0 }, ro = { 0 };
	struct pf_p_pin_in pin;
	struct pf_p_map_in m;
	struct raw r;

	if (!begin(NULL))
		return;
	raw_up(&r, fs, true);
	PT_EQ(raw_attach(&r, f, O_RDWR, &rw), 0);
	PT_EQ(raw_attach(&r, other, O_RDONLY, &ro), 0);
	PT_EQ(ro.ao_write, 0);
	PT_EQ(rw.ao_size, F_LEN);

	m = raw_map_in(rw.ao_fh, 0, r.hello.ho_nslot, FUSE_SETUPMAPPING_FLAG_READ);	/* no such slot */
	PT_EQ(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0), -EINVAL);
	m = raw_map_in(rw.ao_fh, 0, UINT64_MAX >> PF_CHUNK_SHIFT, FUSE_SETUPMAPPING_FLAG_READ);
	PT_EQ(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0), -EINVAL);
	m = raw_map_in(rw.ao_fh, 4096, 0, FUSE_SETUPMAPPING_FLAG_READ);		/* not a chunk */
	PT_EQ(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0), -EINVAL);
	m = raw_map_in(rw.ao_fh, UINT64_MAX & ~(PF_CHUNK_SIZE - 1), 0, FUSE_SETUPMAPPING_FLAG_READ);	/* wraps */
	CU_ASSERT(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0) < 0);
	m = raw_map_in(rw.ao_fh, 0, 0, FUSE_SETUPMAPPING_FLAG_READ);
	m.mi_map.len = UINT64_MAX;
	PT_EQ(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0), -EINVAL);
	m = raw_map_in(rw.ao_fh, 0, 0, FUSE_SETUPMAPPING_FLAG_READ);
	m.mi_fault_foff = PF_CHUNK_SIZE;					/* outside of the chunk */
	PT_EQ(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0), -EINVAL);
	m = raw_map_in(ro.ao_fh, 0, 1, FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE);
	PT_EQ(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0), -EACCES);

	m = raw_map_in(rw.ao_fh, 0, 0, FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE);
	PT_EQ(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0), 0);
	m = raw_map_in(ro.ao_fh, 0, 0, FUSE_SETUPMAPPING_FLAG_READ);		/* an occupied slot */
	PT_EQ(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0), -EBUSY);

	pin = (struct pf_p_pin_in){ .pi_fh = rw.ao_fh, .pi_slot = 0, .pi_first = 0, .pi_npage = 0 };
	PT_EQ(raw_call(&r, PF_P_PIN, &pin, sizeof pin, NULL, 0), -EINVAL);
	pin.pi_npage = 513;
	PT_EQ(raw_call(&r, PF_P_PIN, &pin, sizeof pin, NULL, 0), -EINVAL);
	pin.pi_first = UINT32_MAX;
	pin.pi_npage = 2;						/* wraps */
	PT_EQ(raw_call(&r, PF_P_PIN, &pin, sizeof pin, NULL, 0), -EINVAL);
	pin = (struct pf_p_pin_in){ .pi_fh = rw.ao_fh, .pi_slot = 0, .pi_first = 16, .pi_npage = 1 };
	PT_EQ(raw_call(&r, PF_P_PIN, &pin, sizeof pin, NULL, 0), -EFAULT);	/* beyond the end of the file */
	pin = (struct pf_p_pin_in){ .pi_fh = rw.ao_fh, .pi_slot = UINT32_MAX, .pi_npage = 1 };
	CU_ASSERT(raw_call(&r, PF_P_PIN, &pin, sizeof pin, NULL, 0) < 0);
	raw_down(&r);
	still_serves();
	pt_fs_end(fs);
}

/*
 * The whole ledger overwritten: with ones, the client claims any number of pins of all its slots. Only the file
 * that it has a slot of, and may write, is held up; nobody else; and no longer than the client lives. With zeros it
 * holds up nobody, not even when it does not acknowledge: then only until revoke_timeout.
 */
static void scribbled_ledger(uint8_t byte, bool acks)
{
	struct pf_p_attach_out rw = { 0 };
	struct pf_p_map_in m;
	struct raw r;
	struct actor *c;
	struct stat st;
	struct look l;
	void *led;

	if (!begin(acks ? "on_busy=wait,revoke_timeout=600" : "on_busy=wait,revoke_timeout=1s"))
		return;
	c = actor_new();		/* before the raw session, of which it must not inherit anything */
	raw_up(&r, fs, true);
	PT_EQ(raw_attach(&r, f, O_RDWR, &rw), 0);
	m = raw_map_in(rw.ao_fh, 0, 3, FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE);
	PT_EQ(raw_call(&r, FUSE_SETUPMAPPING, &m, sizeof m, NULL, 0), 0);
	PT_SYS_FATAL(fstat(r.fds[1], &st));
	led = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, r.fds[1], 0);
	CU_ASSERT_FATAL(led != MAP_FAILED);
	memset(led, byte, (size_t)st.st_size);
	PT_FAILS(ftruncate(r.fds[1], 0), EPERM);		/* sealed: the daemon's view stays */
	CU_ASSERT(look(fs, &l));				/* the report survives the records */
	still_serves();
	actor_send(c, act_truncate(f, 4096));
	if (acks)
		raw_ack_next(&r);
	if (byte != 0) {
		CU_ASSERT(look_until(fs, 1, 1, &l));
		PT_EQ(l.wait[0].holder, getpid());		/* claimed pins are waited for like true ones */
		still_serves();
	} else {
		PT_EQ(actor_result(c, SOON_MS), 0);
	}
	/* On a busy machine the well-behaved ones may be as late as the silent one. */
	if (acks)
		PT_EQ(look_status(fs, "counters.quarantines"), 0);
	else
		CU_ASSERT_STRING_EQUAL(look_session(fs, getpid()), "quarantined");
	(void)munmap(led, (size_t)st.st_size);
	raw_down(&r);						/* the liar leaves */
	if (byte != 0)
		PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
	actor_end(c);
	pt_fs_end(fs);
}

static void ledger_ones(void) { scribbled_ledger(0xff, true); }
static void ledger_zeros(void) { scribbled_ledger(0, true); }
static void ledger_records(void) { scribbled_ledger(0x01, true); }	/* records in state LIVE with absurd contents */
static void ledger_ones_silent(void) { scribbled_ledger(0xff, false); }
static void ledger_zeros_silent(void) { scribbled_ledger(0, false); }

/* Arguments of the public calls; in a child, because this process must not have a session. */
static int bad_arguments_child(void *arg)
{
	size_t page = 4096, nsg = 1;
	struct pinfs_pin *pin = NULL;
	struct pinfs_pin_info info;
	struct pinfs_range_info range;
	struct pinfs_sg sg[4];
	int fd = open(f, O_RDWR | O_CLOEXEC), ro = open(f, O_RDONLY | O_CLOEXEC), bad = 0;
	char *heap = malloc(8192), *p, *q, *sparse;
	int sp = open(pt_path(fs, "sparse"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	(void)arg;
	p = mmap(NULL, F_LEN + 8 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	q = mmap(NULL, F_LEN, PROT_READ, MAP_SHARED, ro, 0);
	PT_SYS(ftruncate(sp, 8 << 20));
	sparse = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, sp, 0);
	if (p == MAP_FAILED || q == MAP_FAILED || sparse == MAP_FAILED || heap == NULL) {
		free(heap);
		return 1;
	}
#define WANT(call, err)                                                                                          \
	do {                                                                                                     \
		int rc_ = (call);                                                                                \
		if (rc_ != (err)) {                                                                              \
			pt_say("%d: %s is %d (%s), want %s", __LINE__, #call, rc_, strerrorname_np(-rc_), #err); \
			bad++;                                                                                   \
		}                                                                                                \
	} while (0)
	WANT(pinfs_pin(p, 0, 0, &pin), -EINVAL);
	WANT(pinfs_pin(p, page, 0x80, &pin), -EINVAL);
	WANT(pinfs_pin(p, page, 0, NULL), -EINVAL);
	WANT(pinfs_pin(p, SIZE_MAX, 0, &pin), -EOVERFLOW);
	WANT(pinfs_pin(p, SIZE_MAX - (size_t)p - 4096, 0, &pin), -EFAULT);	/* more pages than exist */
	WANT(pinfs_pin(heap, 100, 0, &pin), -EFAULT);
	WANT(pinfs_pin(NULL, 100, 0, &pin), -EFAULT);
	WANT(pinfs_pin((void *)1, 100, 0, &pin), -EFAULT);
	WANT(pinfs_pin(p + F_LEN, 1, 0, &pin), -EFAULT);			/* behind the end of the file */
	WANT(pinfs_pin(p, F_LEN + 1, 0, &pin), -EFAULT);			/* reaches behind it */
	WANT(pinfs_pin(p + F_LEN + 7 * page, 2 * page, 0, &pin), -EFAULT);	/* leaves the mapping */
	WANT(pinfs_pin(q, page, PINFS_PIN_WRITE, &pin), -EACCES);
	WANT(pinfs_pin(sparse, page, 0, &pin), -EFAULT);			/* a hole has no block */
	WANT(pinfs_pin_sg(p, page, 0, NULL, &nsg, &pin), -EINVAL);
	WANT(pinfs_pin_sg(p, page, 0, sg, NULL, &pin), -EINVAL);
	WANT(pinfs_unpin(NULL), -EINVAL);
	WANT(pinfs_pin_query(NULL, &info), -EINVAL);
	WANT(pinfs_range_query(heap, 10, &range), -EFAULT);
	WANT(pinfs_device(heap), -EFAULT);
	nsg = 0;
	WANT(pinfs_pin_sg(p, page, 0, sg, &nsg, &pin), -E2BIG);
	WANT((int)nsg, 1);
	WANT(pinfs_range_query(p, F_LEN, &range), 0);
	WANT((int)range.ri_pinned, 0);						/* none of all that has left a pin */
	WANT(pin != NULL, 0);
	WANT(pinfs_pin(sparse, page, PINFS_PIN_WRITE, &pin), 0);		/* allocates */
	WANT(pinfs_pin_query(pin, &info), 0);
	WANT((int)info.pi_len, (int)page);
	WANT(pinfs_pin_label(pin, NULL), -EINVAL);
	WANT(pinfs_unpin(pin), 0);
	free(heap);
	return bad != 0;
}

static void bad_arguments(void)
{
	pid_t pid;

	if (!begin(NULL))
		return;
	pid = pt_fork(bad_arguments_child, NULL);
	PT_EQ(pt_wait(pid, SOON_MS), 0);
	PT_EQ(unlink(pt_path(fs, "sparse")), 0);
	still_serves();
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "nonsense-bytes", nonsense_bytes, 0 },
		{ "slow-peers", slow_peers, 0 },
		{ "wrong-order-and-version", wrong_order_and_version, 0 },
		{ "bad-mappings", bad_mappings, 0 },
		{ "ledger-ones", ledger_ones, 0 },
		{ "ledger-zeros", ledger_zeros, 0 },
		{ "ledger-records", ledger_records, 0 },
		{ "ledger-ones-silent", ledger_ones_silent, 0 },
		{ "ledger-zeros-silent", ledger_zeros_silent, 0 },
		{ "bad-arguments", bad_arguments, 0 },
	};
	static const struct pt_suite suite = { "bad", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
