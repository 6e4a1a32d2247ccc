/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_regions.c - RDMA regions beyond what all takers have in common (test_takers.c): registration on demand, which is
 * allowed and holds nothing; registering again; and a program that tries plain registration first and falls back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <infiniband/verbs.h>
#include <pinfs/compiler.h>
#include "harness/proc.h"
#include "harness/run.h"
#include "pin/child.h"
#include "pin/far/far.h"
#include "pin/look.h"
#include "pin/stage.h"

#define PAGE 4096UL
#define PAGES (F_LEN / PAGE)
#define LOCAL IBV_ACCESS_LOCAL_WRITE
#define ODP (LOCAL | IBV_ACCESS_ON_DEMAND)

static struct pt_fs *fs;
static char f[STAGE_PATH];
static struct ctl { volatile uint32_t step, go; } *ctl;
static struct ibv_pd pd;

static bool begin(const char *opts)
{
	fs = stage("16M", opts);
	if (fs == NULL)
		return false;
	stage_file(fs, "f", f);
	if (ctl == NULL)
		ctl = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ctl->step = ctl->go = 0;
	return true;
}

static long pages(void)
{
	return look_status(fs, "longterm.pages");
}

static char *window(void)
{
	int fd = open(f, O_RDWR | O_CLOEXEC);
	char *p = child_map(fd, F_LEN);

	(void)close(fd);
	return p;
}

/* Tell the test, and wait until it has looked. */
static int shown(uint32_t step)
{
	ctl->step = step;
	return child_await(&ctl->go, step);
}

static bool see(uint32_t step)
{
	bool there = child_await(&ctl->step, step) == 0;

	if (!there)
		CU_FAIL("the scene does not go on");
	return there;
}

static void end(pid_t pid)
{
	if (child_end(pid) != 0) {
		pt_say("%s", child_said());
		CU_FAIL("the scene");
	}
	PT_EQ(pages(), 0);
	pt_fs_end(fs);
}

/* ---- on demand ---- */

static int odp_scene(void *arg PF_UNUSED)
{
	char *p = window();
	struct ibv_mr *mr, *all;

	NEED(p != NULL);
	mr = ibv_reg_mr(&pd, p, F_LEN, ODP);
	NEED(mr != NULL);
	all = ibv_reg_mr(&pd, NULL, SIZE_MAX, ODP);		/* implicit: the whole address space */
	NEED(all != NULL);
	NEED(far_dma_region(mr, 'D') == 1 && p[0] == 'D');
	NEED(shown(1) == 0);
	/* Its pages have been taken away: the device meets what is there now, or nothing. */
	NEED(far_dma_region(mr, 'E') == -1);
	NEED(ibv_dereg_mr(mr) == 0 && ibv_dereg_mr(all) == 0);
	return 0;
}

/* By every policy: nothing is counted, and truncate does not wait. */
static void on_demand(void)
{
	static const char *const opts[] = { NULL, "longterm=lease", "longterm=allow" };

	for (size_t i = 0; i < PF_ARRAY_LEN(opts); i++) {
		struct actor *c;
		struct look l;
		pid_t pid;

		if (!begin(opts[i]))
			return;
		pid = child_start(odp_scene, NULL);
		if (see(1)) {
			CU_ASSERT(look(fs, &l));
			PT_EQ(l.npin, 0);
			PT_EQ(pages(), 0);
			c = actor_new();
			PT_EQ(actor_do(c, act_truncate(f, 0)), 0);
			PT_EQ(look_status(fs, "counters.waits"), 0);
			actor_end(c);
		}
		ctl->go = 1;
		end(pid);
	}
}

/* ---- plain first, as librpma does ---- */

struct rpma { struct ibv_mr *mr; bool odp; };

static int rpma_mr_reg(struct rpma *r, void *addr, size_t len)
{
	r->odp = false;
	r->mr = ibv_reg_mr(&pd, addr, len, LOCAL | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
	if (r->mr == NULL && errno == EOPNOTSUPP) {
		r->odp = true;
		r->mr = ibv_reg_mr(&pd, addr, len, ODP | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
	}
	return r->mr != NULL ? 0 : -errno;
}

static int rpma_scene(void *arg)
{
	const bool refused = *(bool *)arg;
	char *anon = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *p = window();
	struct rpma r;

	NEED(p != NULL && anon != MAP_FAILED);
	NEED(rpma_mr_reg(&r, anon, F_LEN) == 0 && !r.odp && ibv_dereg_mr(r.mr) == 0);
	NEED(rpma_mr_reg(&r, p, F_LEN) == 0 && r.odp == refused);
	NEED(far_dma_region(r.mr, 'D') > 0 && p[0] == 'D');
	NEED(shown(1) == 0);
	NEED(ibv_dereg_mr(r.mr) == 0 && far_count() == 0);
	return 0;
}

static void plain_first(void)
{
	for (int allow = 0; allow < 2; allow++) {
		bool refused = !allow;
		pid_t pid;

		if (!begin(allow ? "longterm=allow" : NULL))
			return;
		pid = child_start(rpma_scene, &refused);
		if (see(1))
			PT_EQ(pages(), allow ? PAGES : 0);
		ctl->go = 1;
		end(pid);
	}
}

/* ---- again ---- */

#define RETRANSLATE(mr, p, n) ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, p, n, 0)

static int again_scene(void *arg PF_UNUSED)
{
	char *anon = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *p = window();
	struct ibv_mr *mr, *odp;

	NEED(p != NULL && anon != MAP_FAILED);
	mr = ibv_reg_mr(&pd, anon, F_LEN, LOCAL);
	NEED(mr != NULL && shown(1) == 0);
	NEED(RETRANSLATE(mr, p, 4 * PAGE) == 0 && shown(2) == 0);
	NEED(RETRANSLATE(mr, p + 2 * PAGE, 8 * PAGE) == 0 && shown(3) == 0);
	far_fail(EIO);
	NEED(RETRANSLATE(mr, p, PAGE) == IBV_REREG_MR_ERR_INPUT && shown(4) == 0);	/* it is as it was */
	NEED(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_PD, &pd, NULL, 0, 0) == 0 && shown(5) == 0);
	NEED(RETRANSLATE(mr, anon, F_LEN) == 0 && shown(6) == 0);
	/* It keeps its access: what is on demand stays so. */
	odp = ibv_reg_mr(&pd, anon, F_LEN, ODP);
	NEED(odp != NULL && RETRANSLATE(odp, p, F_LEN) == 0 && shown(7) == 0);
	NEED(ibv_rereg_mr(odp, IBV_REREG_MR_CHANGE_TRANSLATION | IBV_REREG_MR_CHANGE_ACCESS, NULL, p, PAGE,
			  LOCAL) == 0);
	NEED(shown(8) == 0);
	NEED(ibv_dereg_mr(odp) == 0 && ibv_dereg_mr(mr) == 0 && far_count() == 0);
	return 0;
}

static void again(void)
{
	static const long want[] = { 0, 0, 4, 8, 8, 8, 0, 0, 1 };
	pid_t pid;

	if (!begin("longterm=allow"))
		return;
	pid = child_start(again_scene, NULL);
	for (uint32_t i = 1; i < PF_ARRAY_LEN(want) && see(i); i++) {
		PT_EQ(pages(), want[i]);
		ctl->go = i;
	}
	end(pid);
}

static int refused_scene(void *arg PF_UNUSED)
{
	char *anon = mmap(NULL, F_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *p = window();
	struct ibv_mr *mr = ibv_reg_mr(&pd, anon, F_LEN, LOCAL);

	NEED(p != NULL && anon != MAP_FAILED && mr != NULL);
	errno = 0;
	NEED(RETRANSLATE(mr, p, PAGE) == IBV_REREG_MR_ERR_INPUT && errno == EOPNOTSUPP);
	NEED(far_dma_region(mr, 'D') == (long)PAGES && anon[0] == 'D' && p[0] == 'o');	/* it is as it was */
	NEED(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION | IBV_REREG_MR_CHANGE_ACCESS, NULL, p, PAGE, ODP) == 0);
	NEED(ibv_dereg_mr(mr) == 0);
	return 0;
}

static void again_refused(void)
{
	if (!begin(NULL))
		return;
	end(child_start(refused_scene, NULL));
}

/* A region that may only be read needs no writable window, nor a block where there is a hole: that is EFAULT. */
static int readers_scene(void *arg PF_UNUSED)
{
	int fd = open(f, O_RDWR | O_CLOEXEC);
	char *p = mmap(NULL, 2 * F_LEN, PROT_READ, MAP_SHARED, fd, 0);
	struct ibv_mr *mr;

	NEED(p != MAP_FAILED && ftruncate(fd, 2 * F_LEN) == 0);
	NEED(ibv_reg_mr(&pd, p, PAGE, LOCAL) == NULL && errno == EFAULT);
	NEED(ibv_reg_mr(&pd, p + F_LEN, PAGE, IBV_ACCESS_REMOTE_READ) == NULL && errno == EFAULT);
	mr = ibv_reg_mr(&pd, p, PAGE, IBV_ACCESS_REMOTE_READ);
	NEED(mr != NULL && shown(1) == 0);
	NEED(ibv_dereg_mr(mr) == 0);
	return 0;
}

static void readers(void)
{
	pid_t pid;

	if (!begin("longterm=allow"))
		return;
	pid = child_start(readers_scene, NULL);
	if (see(1))
		PT_EQ(pages(), 1);
	ctl->go = 1;
	end(pid);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "on demand", on_demand, 0 },
		{ "plain first", plain_first, 0 },
		{ "again", again, 0 },
		{ "again, refused", again_refused, 0 },
		{ "for reading", readers, 0 },
	};
	static const struct pt_suite suites[] = { { "regions", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
