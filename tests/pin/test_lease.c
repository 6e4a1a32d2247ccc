/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease.c - leases of programs: what is told, how, and to whom; what ends one; what keeps it; and its way from one
 * process to another with the pins under it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <json-c/json.h>
#include <linux/falloc.h>
#include <pinfs/lease.h>
#include <pinfs/trace.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/lessee.h"
#include "pin/look.h"
#include "pin/raw.h"
#include "pin/stage.h"
#include "pin/victim.h"

#define PAGE UINT64_C(4096)
#define READ PINFS_LEASE_READ
#define WRITE PINFS_LEASE_WRITE
#define WLONG (PINFS_PIN_WRITE | PINFS_PIN_LONGTERM)

static struct pt_fs *fs;
static char f[STAGE_PATH], v[STAGE_PATH];
static struct lessee *a, *b;

static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	(void)snprintf(v, sizeof v, "%s", pt_path(fs, "victim"));
	lessee_wire();
	a = lessee_new(f);
	b = lessee_new(f);
	PT_EQ(LE_DO(a, MAP, .a = O_RDWR, .b = F_LEN), 0);
	PT_EQ(LE_DO(b, MAP, .a = O_RDWR, .b = F_LEN), 0);
	return true;
}

static void end(void)
{
	lessee_end(a);
	lessee_end(b);
	pt_fs_end(fs);
}

/* The list of `pinfsctl leases`, to be put. */
static struct json_object *leases(struct json_object **list)
{
	char out[16384], err[512];
	int rc = pt_run2(out, sizeof out, err, sizeof err, 60000,
			 (const char *[]){ pt_program("pinfsctl"), "leases", "--json", fs->mnt, NULL });
	struct json_object *o = rc == 0 ? json_tokener_parse(out) : NULL;

	if (rc != 0)
		pt_say("pinfsctl leases: status %d: %s", rc, err);
	CU_ASSERT_PTR_NOT_NULL_FATAL(o);
	CU_ASSERT_FATAL(json_object_object_get_ex(o, "leases", list));
	return o;
}

static size_t nleases(void)
{
	struct json_object *list, *o = leases(&list);
	size_t n = json_object_array_length(list);

	(void)json_object_put(o);
	return n;
}

static bool nleases_until(size_t n)
{
	const uint64_t late = pt_now_ms() + SOON_MS;

	while (nleases() != n)
		if (pt_now_ms() > late)
			return false;
	return true;
}

/* The only lease in the report, as "member=text"; NULL: it has no such member. */
static bool says(const char *name, const char *text)
{
	struct json_object *list, *v1, *o = leases(&list);
	bool one = json_object_array_length(list) == 1;
	bool has = one && json_object_object_get_ex(json_object_array_get_idx(list, 0), name, &v1);
	bool yes = one && (text == NULL ? !has : has && strcmp(json_object_get_string(v1), text) == 0);

	if (!yes)
		pt_say("pinfsctl leases: %s is not %s: %s", name, text != NULL ? text : "missing",
		       json_object_to_json_string(o));
	(void)json_object_put(o);
	return yes;
}

/* Of the only lease's stack. */
static size_t depth(void)
{
	struct json_object *list, *st, *o = leases(&list);
	size_t n = 0;

	if (json_object_object_get_ex(json_object_array_get_idx(list, 0), "stack", &st))
		n = json_object_array_length(st);
	(void)json_object_put(o);
	return n;
}

/* Does `pinfsctl leases --stack` say that of process @pid? All of it as JSON, too. */
static bool stack_says(pid_t pid, const char *function)
{
	char out[16384], err[512], head[64], json[16384];
	int rc = pt_run2(out, sizeof out, err, sizeof err, 60000,
			 (const char *[]){ pt_program("pinfsctl"), "leases", "--stack", fs->mnt, NULL });
	int rc2 = pt_run2(json, sizeof json, err, sizeof err, 60000,
			  (const char *[]){ pt_program("pinfsctl"), "leases", "--stack", "--json", fs->mnt, NULL });
	const char *at;

	(void)snprintf(head, sizeof head, " of process %d\n", (int)pid);
	at = rc == 0 && rc2 == 0 ? strstr(out, head) : NULL;
	if (at != NULL && strstr(at, function) != NULL && strstr(json, "\"frames\":[\"") != NULL &&
	    strstr(json, function) != NULL)
		return true;
	pt_say("pinfsctl leases --stack does not say %s of %d: %s%s", function, (int)pid, out, json);
	return false;
}

/* This program runs with PINFS_PIN_STACK: main(). */
static void stacks(void)
{
	unsigned long long ticks = 0;
	char path[64], line[1024], text[32], *p = NULL;
	FILE *st;

	if (!begin(NULL))
		return;
	PT_EQ(LE_DO(a, TAKE, .a = READ), 0);
	CU_ASSERT(stack_says((pid_t)lessee_pid(a), "main+"));
	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)lessee_pid(a));
	st = fopen(path, "re");
	CU_ASSERT_PTR_NOT_NULL_FATAL(st);
	p = fgets(line, sizeof line, st) != NULL ? strrchr(line, ')') : NULL;
	(void)fclose(st);
	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	for (int field = 0; field < 20 && p != NULL; field++)		/* the 22nd of all */
		p = strchr(p + 1, ' ');
	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	ticks = strtoull(p, NULL, 10);
	(void)snprintf(text, sizeof text, "%llu", ticks * (1000000000ULL / (unsigned long long)sysconf(_SC_CLK_TCK)));
	CU_ASSERT(says("process_start_ns", text));
	/* Of a lease that came from elsewhere, it is the new owner's. */
	PT_EQ(LE_DO(a, EXPORT), 0);
	PT_EQ(LE_DO(b, IMPORT), 0);
	CU_ASSERT(stack_says((pid_t)lessee_pid(b), "main+"));
	end();
}

/* Does it hear of that state? */
static bool becomes(struct lessee *l, enum pinfs_lease_state state)
{
	const uint64_t late = pt_now_ms() + SOON_MS;
	long now;

	while ((now = LE_DO(l, STATE)) != (long)state && now >= 0 && pt_now_ms() < late)
		pt_sleep_ms(1);
	return now == (long)state;
}

/* An operation that waits for a lease. */
static struct actor *waiter(struct act what)
{
	const uint64_t late = pt_now_ms() + SOON_MS;
	struct actor *c = stage_sender(what);
	struct look l;

	while (!look(fs, &l) || l.nwait != 1 || strcmp(l.wait[0].state, "lease") != 0)
		if (pt_now_ms() > late) {
			CU_FAIL("nobody waits for a lease");
			break;
		}
	return c;
}

static void conflicts(void)
{
	if (!begin(NULL))
		return;
	PT_EQ(LE_DO(a, TAKE, .a = READ, .off = 100, .len = PAGE), 0);
	PT_EQ(LE_DO(a, RANGE), 0);
	PT_EQ(lessee_said(a), 2 * PAGE);			/* whole pages */
	PT_EQ(LE_DO(b, TAKE, .a = READ), 0);
	PT_EQ(lessee_said(b), 0);
	PT_EQ(LE_DO(b, TEST, .a = WRITE, .len = PAGE), -EAGAIN);
	PT_EQ(lessee_said(b), lessee_pid(a));
	PT_EQ(LE_DO(b, TAKE, .n = 1, .a = WRITE, .len = PAGE), -EAGAIN);
	PT_EQ(LE_DO(b, TEST, .a = WRITE, .off = 2 * PAGE, .len = PAGE), 0);
	PT_EQ(LE_DO(b, TAKE_WINDOW, .n = 1, .a = WRITE, .off = 2 * PAGE, .len = PAGE), 0);
	PT_EQ(LE_DO(a, TEST, .a = READ, .off = 2 * PAGE), -EAGAIN);
	PT_EQ(LE_DO(b, DOWNGRADE, .n = 1), 0);
	PT_EQ(LE_DO(a, TEST, .a = READ, .off = 2 * PAGE), 0);
	PT_EQ((long)nleases(), 3);
	PT_EQ(LE_DO(b, DROP, .n = 1), 0);
	PT_EQ(LE_DO(b, DROP), 0);
	CU_ASSERT(says("kind", "read"));
	CU_ASSERT(says("state", "held"));
	CU_ASSERT(says("file", f));
	PT_EQ(LE_DO(a, TAKE, .n = 1, .a = READ | WRITE), -EINVAL);
	PT_EQ(LE_DO(a, TAKE, .n = 1, .a = 0), -EINVAL);
	PT_EQ(LE_DO(a, TAKE, .n = 1, .a = READ | 64), -EINVAL);
	PT_EQ(LE_DO(a, TAKE, .n = 1, .a = READ, .off = UINT64_MAX - 5, .len = 100), -EINVAL);
	PT_EQ(LE_DO(a, DROP), 0);
	PT_EQ((long)nleases(), 0);
	end();
}

static void rights(void)
{
	struct lessee *n;

	if (!pt_need_mount())
		return;
	if (geteuid() != 0) {
		pt_skip("needs a second user");
		return;
	}
	fs = pt_fs_start("16M", "allow_other");
	stage_file(fs, "f", f);
	PT_SYS(chmod(pt_tmp(), 0711));
	PT_SYS(chmod(fs->dir, 0711));
	PT_SYS(chmod(fs->mnt, 0755));
	PT_SYS(chmod(fs->img, 0666));
	PT_SYS(chmod(f, 0666));
	n = lessee_new(f);			/* a writer */
	PT_EQ(LE_DO(n, NOBODY), 0);
	PT_EQ(LE_DO(n, OPEN, .a = O_RDWR), 0);
	PT_EQ(LE_DO(n, TAKE, .a = READ), 0);
	PT_EQ(LE_DO(n, TAKE, .n = 1, .a = WRITE), 0);
	PT_EQ(LE_DO(n, TEST, .a = READ | PINFS_LEASE_UNBREAK), -EPERM);
	PT_EQ(LE_DO(n, TAKE, .n = 2, .a = READ | PINFS_LEASE_UNBREAK), -EPERM);
	lessee_end(n);
	n = lessee_new(f);			/* a reader */
	PT_EQ(LE_DO(n, NOBODY), 0);
	PT_EQ(LE_DO(n, OPEN, .a = O_RDONLY), 0);
	PT_EQ(LE_DO(n, TAKE, .a = READ), -EACCES);
	PT_EQ(LE_DO(n, TAKE, .a = WRITE), -EACCES);
	PT_SYS(chown(f, 65534, 65534));		/* which is the owner now */
	PT_EQ(LE_DO(n, TAKE, .a = READ), 0);
	PT_EQ(LE_DO(n, TAKE, .n = 1, .a = READ | PINFS_LEASE_UNBREAK), 0);
	PT_EQ(LE_DO(n, TAKE, .n = 2, .a = WRITE), -EACCES);
	lessee_end(n);
	PT_SYS(chmod(pt_tmp(), 0700));
	pt_fs_end(fs);
}

/* Messages that no library would send. */
static void nonsense(void)
{
	static struct { struct pf_p_give_in in; struct pf_p_piece piece[4]; } give = { .in = { .gi_next = 4 } };
	static struct { struct pf_p_have_in in; struct pf_p_piece piece[4]; } have_it = { .in = { .ha_next = 4 } };
	struct pf_p_lease_in in = { .le_flags = PF_LE_READ, .le_len = PAGE };
	struct { struct pf_p_lease_in in; struct pf_t_stack st; } who = { .st.ts_pc = { 1, 2 } };
	struct pf_p_lease_out out;
	struct pf_p_attach_out at;
	struct pf_p_token t = { { 1, 2 } };
	struct raw r;

	fs = stage("16M", NULL);
	if (fs == NULL)
		return;
	stage_file(fs, "f", f);
	raw_up(&r, fs, true);
	PT_EQ(raw_call(&r, PF_P_LEASE, &in, sizeof in, NULL, 0), -EBADF);
	PT_EQ(raw_attach(&r, f, O_RDWR, &at), 0);
	in.le_fh = at.ao_fh;
	PT_EQ(raw_call(&r, PF_P_LEASE, &(struct pf_p_lease_in){ .le_what = 77 }, sizeof in, NULL, 0), -EINVAL);
	for (unsigned int i = 0; i < 7; i++) {
		struct pf_p_lease_in bad = in;

		switch (i) {
		case 0: bad.le_foff = 5; break;
		case 1: bad.le_len = 5; break;
		case 2: bad.le_len = 0; break;
		case 3: bad.le_foff = UINT64_MAX - PAGE + 1; break;
		case 4: bad.le_len = UINT64_MAX - PAGE + 1; break;
		case 5: bad.le_flags = 0; break;
		case 6: bad.le_flags = 255; break;
		}
		PT_EQ(raw_call(&r, PF_P_LEASE, &bad, sizeof bad, NULL, 0), -EINVAL);
	}
	PT_EQ(raw_call(&r, PF_P_LEASE, &in, sizeof in, &out, sizeof out), 0);
	CU_ASSERT(says("stack", NULL));
	in.le_what = PF_P_LEASE_DROP;
	in.le_id = out.lo_id;
	PT_EQ(raw_call(&r, PF_P_LEASE, &in, sizeof in, NULL, 0), 0);
	/* With its callers: half of them is none, no end is all of them, and 0 is the end. */
	who.in = in;
	who.in.le_what = PF_P_LEASE_TAKE;
	PT_EQ(raw_call(&r, PF_P_LEASE, &who, sizeof who - 8, &out, sizeof out), 0);
	CU_ASSERT(says("stack", NULL));
	in.le_id = out.lo_id;
	PT_EQ(raw_call(&r, PF_P_LEASE, &in, sizeof in, NULL, 0), 0);
	for (unsigned int i = 0; i < PF_T_FRAMES; i++)
		who.st.ts_pc[i] = UINT64_MAX - i;
	PT_EQ(raw_call(&r, PF_P_LEASE, &who, sizeof who, &out, sizeof out), 0);
	PT_EQ((long)depth(), PF_T_FRAMES);
	in.le_id = out.lo_id;
	PT_EQ(raw_call(&r, PF_P_LEASE, &in, sizeof in, NULL, 0), 0);
	who.st.ts_pc[2] = 0;
	PT_EQ(raw_call(&r, PF_P_LEASE, &who, sizeof who, &out, sizeof out), 0);
	CU_ASSERT(says("stack", "[ \"0xffffffffffffffff\", \"0xfffffffffffffffe\" ]"));
	give.in.gi_id = out.lo_id;
	PT_EQ(raw_call(&r, PF_P_LEASE_GIVE, &give, sizeof give, NULL, 0), -EINVAL);
	for (unsigned int i = 0; i < 4; i++)
		give.piece[i] = (struct pf_p_piece){ .pc_slot = UINT32_MAX, .pc_first = 511, .pc_npage = UINT32_MAX };
	PT_EQ(raw_call(&r, PF_P_LEASE_GIVE, &give, sizeof give, NULL, 0), -EINVAL);
	give.in.gi_next = PF_P_PIECES_MAX + 1;
	PT_EQ(raw_call(&r, PF_P_LEASE_GIVE, &give, sizeof give, NULL, 0), -EINVAL);
	PT_EQ(raw_call(&r, PF_P_LEASE_LOOK, &t, sizeof t, NULL, 0), -ESTALE);
	PT_EQ(raw_call(&r, PF_P_LEASE_HAVE, &have_it, sizeof have_it, NULL, 0), -EBADF);
	have_it.in.ha_fh = at.ao_fh;
	PT_EQ(raw_call(&r, PF_P_LEASE_HAVE, &have_it, sizeof have_it, NULL, 0), -ESTALE);
	/* Without pins, and to itself. */
	give.in.gi_next = 0;
	PT_EQ(raw_call(&r, PF_P_LEASE_GIVE, &give, sizeof give.in, &t, sizeof t), 0);
	PT_EQ(raw_call(&r, PF_P_LEASE_LOOK, &t, sizeof t, NULL, 0), -EDEADLK);
	in.le_what = PF_P_LEASE_DROP;
	in.le_id = out.lo_id;
	PT_EQ(raw_call(&r, PF_P_LEASE, &in, sizeof in, NULL, 0), -EBUSY);
	/* Fewer pieces than announced: that is no message. */
	give.in.gi_next = 4;
	CU_ASSERT(raw_send(&r, PF_P_LEASE_GIVE, &give, sizeof give.in));
	CU_ASSERT(raw_hung_up(&r));
	raw_down(&r);
	CU_ASSERT(nleases_until(0));
	pt_fs_end(fs);
}

/* The break is announced by descriptor and by signal; the lease is given back, and the truncate goes on. */
static void told(void)
{
	struct actor *c;
	long left;

	if (!begin("lease_time=3600"))
		return;
	PT_EQ(LE_DO(a, TAKE, .a = READ), 0);
	CU_ASSERT(LE_DO(a, EVENT) >= 0);
	PT_EQ(LE_DO(a, SIGNAL, .a = SIGUSR1), 0);
	PT_EQ(LE_DO(a, SIGNAL, .a = 1000), -EINVAL);
	PT_EQ(LE_DO(a, STATE), PINFS_LEASE_HELD);
	c = waiter(act_truncate(f, 0));
	PT_EQ(LE_DO(a, AWAIT), 1);
	PT_EQ(LE_DO(a, SIGNALS), 100);
	CU_ASSERT(becomes(a, PINFS_LEASE_BREAKING));
	left = LE_DO(a, LEFT);
	CU_ASSERT(left > 3000000 && left <= 3600000);
	CU_ASSERT(says("state", "breaking"));
	CU_ASSERT(LE_DO(a, EVENT) >= 0);			/* a late one knows at once */
	PT_EQ(LE_DO(a, AWAIT), 1);
	PT_EQ(LE_DO(b, TAKE, .a = READ), -EAGAIN);
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	PT_EQ(LE_DO(a, TOUCH, .off = 0), 0);			/* nothing is taken away before */
	PT_EQ(LE_DO(a, DROP), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	/* What allocates breaks nothing. */
	PT_EQ(LE_DO(a, TAKE, .a = READ), 0);
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'n')), (long)F_LEN);
	PT_EQ(actor_do(c, act_fallocate(f, 0, F_LEN, F_LEN)), 0);
	PT_EQ(LE_DO(a, STATE), PINFS_LEASE_HELD);
	actor_end(c);
	end();
}

/* Whoever waits can be killed, and the lease is none the worse. */
static void interrupted(void)
{
	struct actor *c;

	if (!begin("lease_time=3600"))
		return;
	PT_EQ(LE_DO(a, TAKE, .a = READ, .off = 8 * PAGE), 0);
	c = waiter(act_truncate(f, 0));
	actor_kill(c);
	CU_ASSERT(look_until(fs, 0, 0, NULL));
	CU_ASSERT(stage_untouched(f));
	CU_ASSERT(becomes(a, PINFS_LEASE_BREAKING));
	/* A hole elsewhere meets nobody. */
	c = actor_new();
	PT_EQ(actor_do(c, act_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8 * PAGE)), 0);
	actor_end(c);
	PT_EQ(LE_DO(a, DROP), 0);
	end();
}

static void at_once(void)
{
	struct actor *c;

	if (!begin("lease_time=3600"))
		return;
	c = actor_new();
	PT_EQ(LE_DO(a, TAKE, .a = READ | PINFS_LEASE_UNBREAK), 0);
	CU_ASSERT(says("unbreakable", "true"));
	PT_EQ(actor_do(c, act_truncate(f, 0)), -ETXTBSY);
	PT_EQ(actor_do(c, act_open_trunc(f)), -ETXTBSY);
	PT_EQ(LE_DO(a, TRUNCATE), -EDEADLK);
	PT_EQ(LE_DO(a, STATE), PINFS_LEASE_HELD);
	PT_EQ(LE_DO(a, DROP), 0);
	PT_EQ(LE_DO(a, TAKE, .a = READ), 0);
	PT_EQ(LE_DO(a, TRUNCATE), -EDEADLK);
	PT_EQ(LE_DO(a, DROP), 0);
	/* Prepare the layout, then only keep it. */
	PT_EQ(LE_DO(a, TAKE, .a = WRITE), 0);
	PT_EQ(LE_DO(a, TRUNCATE, .off = F_LEN / 2), 0);
	PT_EQ(LE_DO(a, DOWNGRADE), 0);
	PT_EQ(LE_DO(a, TRUNCATE), -EDEADLK);
	PT_EQ(stage_size(f), F_LEN / 2);
	PT_EQ(LE_DO(a, DROP), 0);
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	actor_end(c);
	end();

	if (!begin("lease_time=3600,lease_break=txtbsy"))
		return;
	c = actor_new();
	PT_EQ(LE_DO(a, TAKE, .a = READ), 0);
	PT_EQ(actor_do(c, act_truncate(f, 0)), -ETXTBSY);
	PT_EQ(LE_DO(a, STATE), PINFS_LEASE_HELD);
	actor_end(c);
	end();
}

/* longterm=lease: no long-term pin without one; and what is pinned stays asked for when the lease is dropped. */
static void pins(void)
{
	struct actor *c;

	if (!begin("longterm=lease,lease_time=3600"))
		return;
	PT_EQ(LE_DO(a, PIN, .a = WLONG, .len = PAGE), -EPERM);
	PT_EQ(LE_DO(a, TAKE, .a = READ, .len = 4 * PAGE), 0);
	PT_EQ(LE_DO(a, PIN, .a = WLONG, .off = PAGE, .len = 4 * PAGE), -EPERM);
	PT_EQ(LE_DO(b, PIN, .a = WLONG, .len = PAGE), -EPERM);
	PT_EQ(LE_DO(a, PIN, .a = WLONG, .off = PAGE, .len = 2 * PAGE), 0);
	PT_EQ(LE_DO(a, FORK), -ECHILD);
	/* close and munmap change nothing. */
	PT_EQ(LE_DO(a, CLOSE), 0);
	PT_EQ(LE_DO(a, UNMAP), 0);
	PT_EQ(LE_DO(a, STATE), PINFS_LEASE_HELD);
	CU_ASSERT(says("pages", "2"));
	c = waiter(act_truncate(f, 0));
	PT_EQ(LE_DO(a, DROP), 0);
	CU_ASSERT(says("state", "dropped"));
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	PT_EQ(LE_DO(a, UNPIN), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ((long)nleases(), 0);
	actor_end(c);
	end();
}

/* What ends a lease without being asked. */
static void gone(void)
{
	struct actor *c;

	if (!begin("longterm=lease,lease_time=3600"))
		return;
	PT_EQ(LE_DO(a, TAKE, .a = WRITE), 0);
	PT_EQ(LE_DO(a, PIN, .a = WLONG, .len = PAGE), 0);
	c = waiter(act_truncate(f, 0));
	lessee_kill(a);
	PT_EQ(actor_result(c, SOON_MS), 0);
	CU_ASSERT(nleases_until(0));
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);
	PT_EQ(LE_DO(b, TAKE, .a = WRITE), 0);
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	actor_send(c, act_truncate(f, 0));
	lessee_send(b, (struct lessee_order){ .verb = LE_EXEC });
	PT_EQ(actor_result(c, SOON_MS), 0);
	CU_ASSERT(nleases_until(0));
	lessee_kill(b);
	actor_end(c);
	pt_fs_end(fs);
}

static void handed_over(void)
{
	struct actor *c;
	uint64_t taken;
	long got;

	if (!begin("longterm=lease,lease_time=3600"))
		return;
	PT_EQ(LE_DO(a, TAKE, .a = WRITE), 0);
	PT_EQ(LE_DO(a, PIN, .a = WLONG, .off = PAGE, .len = 2 * PAGE), 0);
	PT_EQ(LE_DO(a, PIN, .n = 1, .a = PINFS_PIN_WRITE, .off = 2 * PAGE, .len = PAGE), 0);
	PT_EQ(look_status(fs, "longterm.pages"), 2);
	/* There and back. */
	PT_EQ(LE_DO(a, RETRACT), -EINVAL);
	PT_EQ(LE_DO(a, EXPORT), 0);
	PT_EQ(LE_DO(a, EXPORT), -EBUSY);
	PT_EQ(LE_DO(a, UNPIN), -EBUSY);
	PT_EQ(LE_DO(a, DROP), -EBUSY);
	CU_ASSERT(says("under_way", "true"));
	PT_EQ(LE_DO(a, RETRACT), 0);
	PT_EQ(LE_DO(b, IMPORT), -ESTALE);
	/* And over. */
	PT_EQ(LE_DO(a, EXPORT), 0);
	PT_EQ(LE_DO(b, IMPORT), 2);
	PT_EQ(LE_DO(a, RETRACT), -ESTALE);
	CU_ASSERT(becomes(a, PINFS_LEASE_BROKEN));
	PT_EQ(LE_DO(a, QUERY), -ESTALE);
	PT_EQ(LE_DO(a, QUERY, .n = 1), -ESTALE);
	PT_EQ(LE_DO(b, QUERY), 0);
	PT_EQ(look_status(fs, "longterm.pages"), 2);
	CU_ASSERT(says("pages", "2"));
	PT_EQ(LE_DO(a, UNPIN), 0);
	PT_EQ(LE_DO(a, UNPIN, .n = 1), 0);
	PT_EQ(LE_DO(a, DROP), 0);
	PT_EQ(look_status(fs, "longterm.pages"), 2);
	/* The old owner leaves; the new one's device is what a truncate waits for. */
	lessee_end(a);
	a = lessee_new(f);
	PT_EQ(LE_DO(b, PUT), 0);
	PT_EQ(LE_DO(a, GET), 0);
	c = waiter(act_truncate(f, 0));
	CU_ASSERT(becomes(b, PINFS_LEASE_BREAKING));
	PT_EQ(LE_DO(a, ENTER), 1);
	PT_EQ(LE_DO(a, WRITE), (long)(2 * PAGE));
	PT_EQ(LE_DO(a, EXIT), 0);
	PT_EQ(LE_DO(b, UNPIN), 0);
	PT_EQ(LE_DO(b, UNPIN, .n = 1), 0);
	PT_EQ(actor_result(c, 0), -EINPROGRESS);
	PT_EQ(LE_DO(b, DROP), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	PT_EQ(look_status(fs, "longterm.pages"), 0);
	got = look_status(fs, "space.parked");
	PT_EQ(got, 0);
	taken = victim_make(v);
	CU_ASSERT(victim_intact(v, taken));
	actor_end(c);
	end();
}

/* A process that has never had the file open is as good; and each end may die at any time. */
static void over_to_strangers(void)
{
	struct lessee *n;
	struct actor *c;

	if (!begin("longterm=lease,lease_time=3600"))
		return;
	PT_EQ(LE_DO(a, TAKE, .a = WRITE), 0);
	PT_EQ(LE_DO(a, PIN, .a = WLONG, .off = PAGE, .len = 2 * PAGE), 0);
	n = lessee_new(f);
	PT_EQ(LE_DO(a, EXPORT), 0);
	PT_EQ(LE_DO(n, IMPORT), 1);
	lessee_kill(a);
	PT_EQ(LE_DO(n, QUERY), 0);
	PT_EQ(LE_DO(n, STATE), PINFS_LEASE_HELD);
	c = waiter(act_truncate(f, 0));
	CU_ASSERT(becomes(n, PINFS_LEASE_BREAKING));
	lessee_kill(n);				/* the taker: nobody has it */
	PT_EQ(actor_result(c, SOON_MS), 0);
	CU_ASSERT(nleases_until(0));
	PT_EQ(actor_do(c, act_write(f, 0, F_LEN, 'o')), (long)F_LEN);

	/* The giver, before: nobody has it. */
	a = lessee_new(f);
	PT_EQ(LE_DO(a, MAP, .a = O_RDWR, .b = F_LEN), 0);
	PT_EQ(LE_DO(a, TAKE, .a = WRITE), 0);
	PT_EQ(LE_DO(a, PIN, .a = WLONG, .off = PAGE, .len = 2 * PAGE), 0);
	PT_EQ(LE_DO(a, EXPORT), 0);
	lessee_kill(a);
	CU_ASSERT(nleases_until(0));
	PT_EQ(LE_DO(b, IMPORT), -ESTALE);
	/* On its way when somebody wants it: it stays where it is. */
	a = lessee_new(f);
	PT_EQ(LE_DO(a, MAP, .a = O_RDWR, .b = F_LEN), 0);
	PT_EQ(LE_DO(a, TAKE, .a = WRITE, .len = 2 * PAGE), 0);
	PT_EQ(LE_DO(a, PIN, .a = PINFS_PIN_WRITE, .off = PAGE, .len = 2 * PAGE), 0);
	PT_EQ(LE_DO(a, EXPORT), -EBUSY);	/* half of the pin is not under it */
	PT_EQ(LE_DO(a, UNPIN), 0);
	PT_EQ(LE_DO(a, EXPORT), 0);
	actor_send(c, act_truncate(f, 0));
	CU_ASSERT(becomes(a, PINFS_LEASE_BREAKING));
	PT_EQ(LE_DO(b, IMPORT), -ESTALE);
	PT_EQ(LE_DO(a, RETRACT), 0);
	PT_EQ(LE_DO(a, DROP), 0);
	PT_EQ(actor_result(c, SOON_MS), 0);
	actor_end(c);
	end();
}

/* What `pinfsctl would-block` says, and what the truncate then does. */
static const struct would {
	const char *opts;
	uint64_t lease;			/* of a, on the whole file */
	uint64_t mine, other;		/* bytes pinned by a, by b */
	const char *says;
	int does;
	unsigned int least_ms;
} would_rows[] = {
	{ "lease_time=3600", 0, 0, 0, "succeeds at once (on_busy=wait)\n", 0, 0 },
	{ "lease_time=300ms", READ, 0, 0, "waits, at most 300 ms (on_busy=wait)\n", 0, 300 },
	{ "lease_time=300ms", READ, PAGE, 0, "waits, at most 300 ms (on_busy=wait)\n", 0, 300 },
	{ "lease_time=3600,busy_timeout=200ms", READ, 0, 0, "waits, at most 200 ms (on_busy=wait)\n", -EBUSY, 200 },
	{ "lease_time=100ms,busy_timeout=400ms", READ, 0, PAGE, "waits, at most 400 ms (on_busy=wait)\n", -EBUSY, 400 },
	{ "lease_time=3600", READ | PINFS_LEASE_UNBREAK, 0, 0, "fails with ETXTBSY (on_busy=wait)\n", -ETXTBSY, 0 },
	{ "lease_break=txtbsy", READ, PAGE, 0, "fails with ETXTBSY (on_busy=wait)\n", -ETXTBSY, 0 },
	{ "on_busy=ebusy,lease_time=3600", WRITE, 0, 0, "fails with EBUSY (on_busy=ebusy)\n", -EBUSY, 0 },
	{ "on_busy=defer,lease_time=3600", READ, 0, 0, "succeeds at once (on_busy=defer)\n", 0, 0 },
	{ "on_busy=defer", READ, PAGE, 0, "succeeds at once; pinned blocks are kept back (on_busy=defer)\n", 0, 0 },
	{ "on_busy=defer,defer_limit=16K,busy_timeout=200ms", 0, 0, 4 * PAGE,
	  "succeeds at once; pinned blocks are kept back (on_busy=defer)\n", 0, 0 },
	{ "on_busy=defer,defer_limit=16K,busy_timeout=200ms", 0, 0, 5 * PAGE,
	  "waits, at most 200 ms (on_busy=defer)\n", -EBUSY, 200 },
};

/* Nothing that it says begins with something else. @pid: whose truncate; NULL: anybody's. */
static bool would_says(const char *text, const char *pid, char *out, size_t room)
{
	const char *const argv[] = { pt_program("pinfsctl"), "would-block", pid != NULL ? "--pid" : f, pid, f, NULL };

	PT_EQ(pt_run(out, room, SOON_MS, argv), 0);
	if (strncmp(out, text, strlen(text)) == 0)
		return true;
	pt_say("would-block: not \"%s\" but \"%s\"", text, out);
	return false;
}

static void would(void)
{
	char out[4096], who[64];
	struct actor *c;
	uint64_t since;

	for (size_t i = 0; i < PF_ARRAY_LEN(would_rows); i++) {
		const struct would *w = &would_rows[i];

		if (!begin(w->opts))
			return;
		if (w->lease != 0)
			PT_EQ(LE_DO(a, TAKE, .a = w->lease), 0);
		if (w->mine != 0)
			PT_EQ(LE_DO(a, PIN, .a = PINFS_PIN_WRITE, .len = w->mine), 0);
		if (w->other != 0)
			PT_EQ(LE_DO(b, PIN, .a = PINFS_PIN_WRITE, .len = w->other), 0);
		CU_ASSERT(would_says(w->says, NULL, out, sizeof out));
		(void)snprintf(who, sizeof who, "  pid %d (", (int)lessee_pid(a));
		PT_EQ(strstr(out, who) != NULL, w->lease != 0);
		PT_EQ(strstr(out, "has a lease of it") != NULL, w->lease != 0);
		PT_EQ(strstr(out, "unbreakable") != NULL, (w->lease & PINFS_LEASE_UNBREAK) != 0);
		if (w->lease != 0)
			PT_EQ(LE_DO(a, STATE), PINFS_LEASE_HELD);	/* it only asked */
		c = actor_new();
		since = pt_now_ms();
		PT_EQ(actor_do(c, act_truncate(f, 0)), w->does);
		CU_ASSERT(pt_now_ms() - since + 1 >= w->least_ms);
		actor_end(c);
		end();
	}
}

/* The same for the holder of the lease, or of a pin: what its own truncate gets. */
static const struct would_own {
	const char *opts;
	uint64_t lease, mine;
	const char *says, *others;	/* to it, and to anybody else */
	int does;			/* 1: it is not tried, since it would wait for ever */
} would_own_rows[] = {
	{ "lease_time=3600", READ, 0, "fails with EDEADLK (on_busy=wait)\n", "waits, at most ", -EDEADLK },
	{ "lease_time=3600", WRITE, 0, "succeeds at once (on_busy=wait)\n", "waits, at most ", 0 },
	{ "lease_time=3600", WRITE, PAGE, "fails with EDEADLK (on_busy=wait)\n", "waits, at most ", -EDEADLK },
	{ "on_busy=ebusy", WRITE, PAGE, "fails with EBUSY (on_busy=ebusy)\n", "fails with EBUSY ", -EBUSY },
	{ "deadlock=wait", WRITE, PAGE, "waits (on_busy=wait)\n", "waits, at most ", 1 },
	{ NULL, 0, PAGE, "fails with EDEADLK (on_busy=wait)\n", "waits (on_busy=wait)\n", -EDEADLK },
};

static void would_own(void)
{
	char out[4096], pid[16];

	for (size_t i = 0; i < PF_ARRAY_LEN(would_own_rows); i++) {
		const struct would_own *w = &would_own_rows[i];

		if (!begin(w->opts))
			return;
		if (w->lease != 0)
			PT_EQ(LE_DO(a, TAKE, .a = w->lease), 0);
		if (w->mine != 0)
			PT_EQ(LE_DO(a, PIN, .a = PINFS_PIN_WRITE, .len = w->mine), 0);
		(void)snprintf(pid, sizeof pid, "%d", (int)lessee_pid(a));
		CU_ASSERT(would_says(w->others, NULL, out, sizeof out));
		CU_ASSERT(would_says(w->says, pid, out, sizeof out));
		if (w->does != 1)
			PT_EQ(LE_DO(a, TRUNCATE), w->does);
		end();
	}
}

/* A holder has its time until it is killed; the truncate waits a little longer, for its end. */
static void would_kill(void)
{
	char out[4096];

	if (!begin("lease_break=kill,lease_time=600,revoke_timeout=60"))
		return;
	PT_EQ(LE_DO(a, TAKE, .a = READ), 0);
	CU_ASSERT(would_says("waits, at most 660 s (on_busy=wait)\n", NULL, out, sizeof out));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, " has a lease of it, 600 s left\n"));
	end();
}

/* One that is asked back already; and when its time is over: under ebusy, nothing stands in the way any more. */
static void would_later(void)
{
	char out[4096];
	struct actor *c;

	if (!begin("on_busy=ebusy,lease_time=400ms"))
		return;
	c = actor_new();
	PT_EQ(LE_DO(a, TAKE, .a = READ, .len = 4 * PAGE), 0);
	PT_EQ(LE_DO(a, PIN, .a = PINFS_PIN_WRITE, .off = PAGE, .len = PAGE), 0);
	PT_EQ(actor_do(c, act_truncate(f, 0)), -EBUSY);
	CU_ASSERT(becomes(a, PINFS_LEASE_BREAKING));
	while (LE_DO(a, LEFT) > 0)
		pt_sleep_ms(5);
	PT_EQ(LE_DO(b, PIN, .a = PINFS_PIN_WRITE, .off = 4 * PAGE, .len = PAGE), 0);
	CU_ASSERT(would_says("fails with EBUSY", NULL, out, sizeof out));		/* b's */
	PT_EQ(LE_DO(b, UNPIN), 0);
	PT_EQ(LE_DO(a, PIN, .n = 1, .a = PINFS_PIN_WRITE, .off = 5 * PAGE, .len = PAGE), 0);
	CU_ASSERT(would_says("fails with EBUSY", NULL, out, sizeof out));		/* a's, not under the lease */
	PT_EQ(LE_DO(a, UNPIN, .n = 1), 0);
	CU_ASSERT(would_says("succeeds at once (on_busy=ebusy)", NULL, out, sizeof out));
	CU_ASSERT(strstr(out, "asked back") != NULL);
	PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
	CU_ASSERT(becomes(a, PINFS_LEASE_BROKEN));
	actor_end(c);
	end();
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "who may have one", conflicts, 0 },
		{ "who took it", stacks, 0 },
		{ "by right", rights, 0 },
		{ "messages that make no sense", nonsense, 0 },
		{ "the holder is told", told, 0 },
		{ "whoever waits can be killed", interrupted, 0 },
		{ "ETXTBSY, EDEADLK, downgrade", at_once, 0 },
		{ "long-term pins, close, munmap, fork", pins, 0 },
		{ "exit and exec", gone, 0 },
		{ "handed over", handed_over, 0 },
		{ "to strangers, and half way", over_to_strangers, 0 },
		{ "would-block is right", would, 0 },
		{ "... about one's own", would_own, 0 },
		{ "... about one that was asked back", would_later, 0 },
		{ "... about one whose holder would be killed", would_kill, 0 },
	};
	static const struct pt_suite suites[] = { { "lease", cases, PF_ARRAY_LEN(cases) } };

	/* The library reads it once, before main(). */
	if (getenv("PINFS_PIN_STACK") == NULL) {
		(void)setenv("PINFS_PIN_STACK", "1", 1);
		(void)execv("/proc/self/exe", argv);
		perror("exec");
		return 1;
	}
	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
