/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pin.c - pinfs_pin() and its relatives against the small daemon of fakesrv.c: the counts are right, a cut
 * waits for them, what a pin names are the file's blocks, and every way out of a pin ends it exactly once. With
 * the handshake's second look taken out (the twin), a pin must be missed.
 */
#include "fakesrv.h"
#include "harness/proc.h"
#include "harness/run.h"
#include "pin.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB (1UL << 20)

static int start(uint32_t nslot, uint64_t size, uint64_t filled, char **p)
{
	int fd;

	PT_EQ(fake_start(pt_tmp(), nslot), 0);
	fd = fake_new(size);
	if (filled)
		fake_fill(fd, 0, filled, false);
	*p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(*p != MAP_FAILED);
	return fd;
}

/* Until the server knows of so many slots, and has been told to detach so often. */
static void settle(unsigned int slots, unsigned int detached)
{
	struct fake_counts c;
	uint64_t end = 0;

	do
		fake_counts(&c);
	while ((c.slots != slots || c.detach < detached) && pt_wait_on(&end));
	PT_EQ(c.slots, slots);
	CU_ASSERT(c.detach >= detached);
}

static void finish(int fd, char *p, size_t len)
{
	struct fake_counts c;

	if (p != NULL)
		munmap(p, len);
	settle(0, 0);
	fake_counts(&c);
	PT_EQ(c.pins, 0);
	close(fd);
	fake_stop();
}

static unsigned int pins(void)
{
	struct fake_counts c;

	fake_counts(&c);
	return c.pins;
}

static void counts(void)
{
	struct pinfs_range_info ri;
	struct pinfs_pin_info pi;
	struct pinfs_pin *a, *b;
	char *p;
	int fd = start(16, 8 * MIB, 8 * MIB, &p);

	PT_EQ(pinfs_pin(p + 100, 10, 0, &a), 0);
	PT_EQ(pins(), 1);
	PT_EQ(pinfs_pin(p + PAGE - 1, 2, PINFS_PIN_WRITE, &b), 0);	/* two pages */
	PT_EQ(pins(), 3);
	PT_EQ(pinfs_pin_query(b, &pi), 0);
	PT_EQ(pi.pi_ino, fake_ino(fd));
	PT_EQ(pi.pi_foff, 0);
	PT_EQ(pi.pi_len, 2 * PAGE);
	PT_EQ(pi.pi_flags, PINFS_PIN_WRITE);
	PT_EQ(pinfs_range_query(p, 4 * PAGE, &ri), 0);
	PT_EQ(ri.ri_pages, 4);
	PT_EQ(ri.ri_pinned, 2);
	PT_EQ(pinfs_pin_label(b, "a label that is too long"), 0);
	CU_ASSERT(strcmp(b->rec->lr_label, "a label that is") == 0);
	PT_EQ(atomic_load(&b->rec->lr_state), PF_REC_LIVE);
	PT_EQ(pinfs_unpin(a), 0);
	PT_EQ(pins(), 2);
	PT_EQ(pinfs_unpin(b), 0);
	PT_EQ(atomic_load(&b->rec->lr_state), PF_REC_FREE);
	PT_EQ(pins(), 0);

	PT_EQ(pinfs_pin(p + MIB, 6 * MIB, 0, &a), 0);		/* four chunks, two of them whole */
	PT_EQ(pins(), 256 + 1 + 1 + 1 + 256 - 1);
	PT_EQ(pinfs_range_query(p, 8 * MIB, &ri), 0);
	PT_EQ(ri.ri_pinned, 6 * MIB / PAGE);
	PT_EQ(pinfs_unpin(a), 0);
	PT_EQ(pins(), 0);
	finish(fd, p, 8 * MIB);
}

static void bad_arguments(void)
{
	struct pinfs_pin_info pi;
	struct pinfs_range_info ri;
	struct pinfs_pin *a = NULL;
	size_t n = 0;
	char *p, *ro, heap[8];
	int fd = start(16, 8 * MIB, 4 * MIB, &p);

	PT_EQ(pinfs_pin(p, 0, 0, &a), -EINVAL);
	PT_EQ(pinfs_pin(p, 1, 8, &a), -EINVAL);
	PT_EQ(pinfs_pin(p, 1, 0, NULL), -EINVAL);
	PT_EQ(pinfs_pin(p, SIZE_MAX, 0, &a), -EOVERFLOW);
	PT_EQ(pinfs_pin(heap, 1, 0, &a), -EFAULT);
	PT_EQ(pinfs_pin(p, 8 * MIB + 1, 0, &a), -EFAULT);
	PT_EQ(pinfs_pin(p + 6 * MIB, 1, 0, &a), -EFAULT);	/* a hole */
	PT_EQ(pinfs_pin(p + 2 * MIB, 4 * MIB, 0, &a), -EFAULT);	/* half of it */
	PT_EQ(pins(), 0);
	PT_EQ(fake_truncate(fd, 7 * MIB, 1000), 0);
	PT_EQ(pinfs_pin(p + 7 * MIB, 1, PINFS_PIN_WRITE, &a), -EFAULT);	/* beyond the end */
	CU_ASSERT(a == NULL);
	PT_EQ(pinfs_unpin(NULL), -EINVAL);
	PT_EQ(pinfs_pin_query(NULL, &pi), -EINVAL);
	PT_EQ(pinfs_range_query(heap, 1, &ri), -EFAULT);
	PT_EQ(pinfs_range_query(p, 0, &ri), -EINVAL);
	PT_EQ(pinfs_device(heap), -EFAULT);
	PT_EQ(pinfs_pin_sg(p, 1, 0, NULL, NULL, &a), -EINVAL);
	PT_EQ(pinfs_pin_sg(p, 1, 0, NULL, &n, &a), -E2BIG);
	PT_EQ(n, 1);
	PT_EQ(pins(), 0);
	PT_EQ(mprotect(p, PAGE, PROT_READ), 0);
	PT_EQ(pinfs_pin(p, 1, PINFS_PIN_WRITE, &a), -EACCES);
	PT_EQ(pinfs_pin(p, 2 * PAGE, 0, &a), 0);
	PT_EQ(pinfs_unpin(a), 0);
	PT_EQ(pinfs_unpin(a), -EINVAL);
	ro = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	PT_EQ(pinfs_pin(ro, 1, PINFS_PIN_WRITE, &a), -EACCES);
	munmap(ro, PAGE);
	finish(fd, p, 8 * MIB);
}

static void scatter(void)
{
	struct pinfs_sg sg[600];
	struct pinfs_pin *a;
	size_t n = 600;
	char *p, buf[16];
	int fd = start(16, 8 * MIB, 2 * MIB, &p), dev;

	fake_fill(fd, 2 * MIB, 16 * PAGE, true);
	PT_EQ(pinfs_pin_sg(p + 100, MIB, PINFS_PIN_WRITE, sg, &n, &a), 0);
	PT_EQ(n, 1);
	PT_EQ(sg[0].sg_doff, fake_doff(fd, 0) + 100);
	PT_EQ(sg[0].sg_len, MIB);
	PT_EQ(sg[0].sg_foff, 100);
	PT_EQ(pinfs_unpin(a), 0);
	n = 600;
	PT_EQ(pinfs_pin_sg(p + 2 * MIB - 1, 16 * PAGE, 0, sg, &n, &a), 0);
	PT_EQ(n, 17);
	for (size_t i = 0; i < n; i++) {
		PT_EQ(sg[i].sg_doff, fake_doff(fd, sg[i].sg_foff) + sg[i].sg_foff % PAGE);
		PT_EQ(sg[i].sg_len, i == 0 ? 1 : i == 16 ? PAGE - 1 : PAGE);
	}
	PT_EQ(pinfs_unpin(a), 0);
	n = 5;
	PT_EQ(pinfs_pin_sg(p + 2 * MIB - 1, 16 * PAGE, 0, sg, &n, &a), -E2BIG);
	PT_EQ(n, 17);
	PT_EQ(pins(), 0);

	/* Holes get blocks, and the device is where they are. */
	n = 600;
	PT_EQ(pinfs_pin_sg(p + 5 * MIB, 3 * PAGE, PINFS_PIN_WRITE, sg, &n, &a), 0);
	PT_EQ(sg[0].sg_doff, fake_doff(fd, 5 * MIB));
	dev = pinfs_device(p);
	PT_SYS_FATAL(dev);
	CU_ASSERT(fcntl(dev, F_GETFD) & FD_CLOEXEC);
	PT_EQ(pwrite(dev, "by dma", 6, (off_t)sg[0].sg_doff), 6);
	close(dev);
	CU_ASSERT(memcmp(p + 5 * MIB, "by dma", 6) == 0);
	fake_read(fd, 5 * MIB, buf, 6);
	CU_ASSERT(memcmp(buf, "by dma", 6) == 0);
	PT_EQ(pinfs_unpin(a), 0);
	finish(fd, p, 8 * MIB);
}

/* The pin of a whole chunk looks at one word, which has to change whenever one page does. */
static void whole_chunks(void)
{
	static struct pinfs_sg sg[600];
	struct pinfs_pin *a;
	size_t n;
	char *p;
	int fd = start(16, 6 * MIB, 2 * MIB, &p);

	fake_fill(fd, 2 * MIB, 2 * MIB, true);
	fake_fill(fd, 4 * MIB, 2 * MIB - PAGE, false);
	for (int round = 0; round < 2; round++) {	/* by the slow path, then by the fast one */
		n = 600;
		PT_EQ(pinfs_pin_sg(p + 5, 2 * MIB - 5, PINFS_PIN_WRITE, sg, &n, &a), 0);
		PT_EQ(n, 1);
		PT_EQ(sg[0].sg_doff, fake_doff(fd, 0) + 5);
		PT_EQ(sg[0].sg_len, 2 * MIB - 5);
		PT_EQ(sg[0].sg_foff, 5);
		PT_EQ(pinfs_unpin(a), 0);
		n = 600;
		PT_EQ(pinfs_pin_sg(p + 3 * PAGE + 7, PAGE, PINFS_PIN_WRITE, sg, &n, &a), 0);
		PT_EQ(n, 1);
		PT_EQ(sg[0].sg_doff, fake_doff(fd, 3 * PAGE) + 7);
		PT_EQ(sg[0].sg_len, PAGE);
		PT_EQ(pinfs_unpin(a), 0);
		n = 600;
		PT_EQ(pinfs_pin_sg(p + 2 * MIB, 2 * MIB, PINFS_PIN_WRITE, sg, &n, &a), 0);
		PT_EQ(n, 512);
		for (size_t i = 0; i < n; i++)
			PT_EQ(sg[i].sg_doff, fake_doff(fd, 2 * MIB + i * PAGE));
		PT_EQ(pinfs_unpin(a), 0);
		PT_EQ(pinfs_pin(p + 4 * MIB, 2 * MIB, 0, &a), -EFAULT);		/* its last page is a hole */
		PT_EQ(pinfs_pin(p, 2 * MIB, 0, &a), 0);
		PT_EQ(pinfs_unpin(a), 0);
	}
	PT_EQ(fake_punch(fd, 0, PAGE, 30000), 0);
	PT_EQ(pinfs_pin(p, 2 * MIB, 0, &a), -EFAULT);
	PT_EQ(pins(), 0);
	finish(fd, p, 6 * MIB);
}

/*
 * One answer fills many holes that windows show, in more pieces than are mapped for one answer: what is not mapped must
 * not go on showing zeros. Pages of zeros that are looked at again: how many.
 */
static unsigned int filled_in_pieces(uint8_t test)
{
	unsigned int stale = 0, zeros = 0;
	int fd = fake_new(4 * MIB), dev;
	struct pinfs_pin *a;
	char *p, *q, b = 7;

	for (size_t i = 1; i < 512; i += 2)
		fake_fill(fd, i * PAGE, PAGE, false);
	p = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	q = mmap(NULL, 4 * MIB, PROT_READ, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(p != MAP_FAILED && q != MAP_FAILED);
	for (size_t i = 0; i < 1024; i++)
		zeros += p[i * PAGE] == 0 && q[i * PAGE] == 0;
	PT_EQ(zeros, 1024);
	sh.pin_test = test;
	PT_EQ(pinfs_pin(p, 2 * MIB, PINFS_PIN_WRITE, &a), 0);
	sh.pin_test = 0;
	dev = pinfs_device(p);
	CU_ASSERT_FATAL(dev >= 0);
	for (size_t i = 0; i < 512; i++)			/* the device works */
		PT_EQ(pwrite(dev, &b, 1, (off_t)fake_doff(fd, i * PAGE)), 1);
	close(dev);
	PT_EQ(pinfs_unpin(a), 0);
	for (unsigned int look = 0; look < 2; look++)
		for (size_t i = 0; i < 512; i++)
			stale += (p[i * PAGE] != 7) + (q[i * PAGE] != 7);
	for (size_t i = 512; i < 1024; i++)
		CU_ASSERT(p[i * PAGE] == 0 && q[i * PAGE] == 0);
	munmap(p, 4 * MIB);
	munmap(q, 4 * MIB);
	close(fd);
	return stale;
}

static void many_pieces(void)
{
	PT_EQ(fake_start(pt_tmp(), 16), 0);
	PT_EQ(filled_in_pieces(0), 0);
	CU_ASSERT(filled_in_pieces(SH_TEST_FILL_PART) > 0);	/* twin */
	fake_stop();
}

struct unpin_later { struct pinfs_pin *pin; unsigned int ms; };

static void *unpin_later(void *arg)
{
	struct unpin_later *u = arg;

	pt_sleep_ms(u->ms);
	PT_EQ(pinfs_unpin(u->pin), 0);
	return NULL;
}

static void cut_waits(void)
{
	struct unpin_later u = { .ms = 100 };
	struct pinfs_sg sg;
	pthread_t t;
	uint64_t t0;
	size_t n = 1;
	char *p, b;
	int fd = start(16, 4 * MIB, 4 * MIB, &p), dev;

	PT_EQ(pinfs_pin_sg(p + 10 * PAGE, 1, PINFS_PIN_WRITE, &sg, &n, &u.pin), 0);
	PT_EQ(fake_punch(fd, 0, MIB, 50), -EBUSY);
	PT_EQ(fake_punch(fd, 11 * PAGE, MIB, 50), 0);		/* beside it */
	dev = fake_device();
	PT_EQ(pwrite(dev, "x", 1, (off_t)sg.sg_doff), 1);
	CU_ASSERT(p[10 * PAGE] == 'x');				/* still the file's */
	t0 = pt_now_ms();
	pthread_create(&t, NULL, unpin_later, &u);
	PT_EQ(fake_punch(fd, 0, MIB, 250000), 0);	/* woken, not at the end */
	CU_ASSERT(pt_now_ms() - t0 >= 95);
	pthread_join(t, NULL);
	CU_ASSERT(p[10 * PAGE] == 0);
	fake_read(fd, 10 * PAGE, &b, 1);
	PT_EQ(b, 0);
	finish(fd, p, 4 * MIB);
}

struct cutter { int fd; int err; unsigned int ms; };

static void *cutter(void *arg)
{
	struct cutter *c = arg;

	c->err = fake_punch(c->fd, 0, 4 * MIB, c->ms);
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;
}

struct signaller { pthread_t to; atomic_bool stop; };

/* One that comes before the wait has begun ends nothing. */
static void *signaller(void *arg)
{
	struct signaller *s = arg;

	while (!atomic_load(&s->stop)) {
		pt_sleep_ms(10);
		pthread_kill(s->to, SIGUSR1);
	}
	return NULL;
}

/* New pins of pages that a cut waits for: NOWAIT says so, others wait holding nothing, a signal ends the wait. */
static void during_a_cut(void)
{
	struct sigaction sa = { .sa_handler = on_signal }, was;
	struct unpin_later u = { .ms = 300 };
	struct signaller s = { .to = pthread_self() };
	struct cutter c = { .ms = 250000 };
	struct fake_counts n;
	struct pinfs_pin *a = NULL;
	pthread_t t, t2;
	uint64_t t0, end = 0;
	char *p;
	int fd = start(16, 4 * MIB, 4 * MIB, &p);

	c.fd = fd;
	PT_EQ(pinfs_pin(p, 1, 0, &u.pin), 0);
	pthread_create(&t, NULL, cutter, &c);
	while (!(atomic_load(&sh.sessions->lslots[0].ls_word) & PF_SLOT_FROZEN) && pt_wait_on(&end))
		;
	PT_EQ(pinfs_pin(p + PAGE, 1, PINFS_PIN_NOWAIT, &a), -EAGAIN);
	PT_EQ(pinfs_pin(p + MIB, 2 * MIB, PINFS_PIN_NOWAIT, &a), -EAGAIN);
	PT_EQ(pins(), 1);
	sigaction(SIGUSR1, &sa, &was);
	pthread_create(&t2, NULL, signaller, &s);
	PT_EQ(pinfs_pin(p + PAGE, 1, PINFS_PIN_WRITE, &a), -EINTR);
	atomic_store(&s.stop, true);
	pthread_join(t2, NULL);
	t0 = pt_now_ms();
	sigaction(SIGUSR1, &was, NULL);
	pthread_create(&t2, NULL, unpin_later, &u);
	PT_EQ(pinfs_pin(p + MIB, 2 * MIB, PINFS_PIN_WRITE, &a), 0);	/* after the cut: new blocks */
	CU_ASSERT(pt_now_ms() - t0 > 250);
	pthread_join(t, NULL);
	pthread_join(t2, NULL);
	PT_EQ(c.err, 0);
	PT_EQ(pins(), 2 * MIB / PAGE);
	fake_counts(&n);
	CU_ASSERT(n.cancel >= 1);		/* twice, if a signal has come before the wait */
	PT_EQ(pinfs_unpin(a), 0);
	finish(fd, p, 4 * MIB);
}

static void outlives(void)
{
	struct fake_counts c;
	struct pinfs_pin *a;
	char *p;
	int fd = start(16, 4 * MIB, 4 * MIB, &p), keep = dup(fd);

	PT_EQ(pinfs_pin(p + PAGE, PAGE, 0, &a), 0);
	p[3 * MIB] = 1;
	PT_EQ(munmap(p, 4 * MIB), 0);
	close(fd);
	PT_EQ(fake_punch(keep, PAGE, PAGE, 50), -EBUSY);
	fake_counts(&c);
	PT_EQ(c.detach, 0);
	p = mmap(NULL, 4 * MIB, PROT_READ, MAP_SHARED, keep, 0);	/* comes back to life */
	CU_ASSERT(p != MAP_FAILED && p[3 * MIB] == 1);
	munmap(p, 4 * MIB);
	fake_counts(&c);
	PT_EQ(c.attach, 1);
	PT_EQ(pinfs_unpin(a), 0);
	PT_EQ(fake_punch(keep, PAGE, PAGE, 1000), 0);
	settle(0, 1);
	fake_counts(&c);
	PT_EQ(c.detach, 1);
	finish(keep, NULL, 0);
}

/* The blocks leave the file under the pin: the pin keeps them, the file goes on with others. */
static void deferred(void)
{
	struct pinfs_pin *a, *b;
	struct pinfs_sg sg, sg2;
	struct fake_counts c;
	uint64_t end = 0;
	size_t n = 1;
	char *p;
	int fd = start(4, 4 * MIB, 4 * MIB, &p);

	p[0] = 'o';
	PT_EQ(pinfs_pin_sg(p, PAGE, PINFS_PIN_WRITE, &sg, &n, &a), 0);
	PT_EQ(fake_defer(fd, 0), 0);
	while (*(volatile char *)p != 0 && pt_wait_on(&end))
		;
	CU_ASSERT(p[0] == 0);
	p[0] = 'n';
	n = 1;
	PT_EQ(pinfs_pin_sg(p, PAGE, PINFS_PIN_WRITE, &sg2, &n, &b), 0);
	CU_ASSERT(sg.sg_doff != sg2.sg_doff);
	PT_EQ(pwrite(fake_device(), "late", 4, (off_t)sg.sg_doff), 4);
	CU_ASSERT(p[0] == 'n');
	fake_counts(&c);
	PT_EQ(c.slots, 2);
	PT_EQ(pinfs_unpin(a), 0);
	settle(1, 0);
	PT_EQ(pinfs_unpin(b), 0);
	finish(fd, p, 4 * MIB);
}

static void all_slots_pinned(void)
{
	struct pinfs_pin *a[3];
	char *p;
	int fd = start(3, 16 * MIB, 16 * MIB, &p);

	for (size_t i = 0; i < 3; i++)
		PT_EQ(pinfs_pin(p + i * 2 * MIB, 1, 0, &a[i]), 0);
	CU_ASSERT(pinfs_pin(p + 8 * MIB, 1, 0, &a[0]) == -EDEADLK);
	PT_EQ(pinfs_unpin(a[1]), 0);
	PT_EQ(pinfs_pin(p + 8 * MIB, 1, 0, &a[1]), 0);
	CU_ASSERT(pinfs_pin(p, 12 * MIB, 0, &a[0]) == -EBUSY);	/* all or nothing */
	PT_EQ(pins(), 3);
	for (size_t i = 0; i < 3; i++)
		PT_EQ(pinfs_unpin(a[i]), 0);
	finish(fd, p, 16 * MIB);
}

static void children(void)
{
	struct pinfs_pin *a, *b;
	int st;
	char *p;
	int fd = start(16, 4 * MIB, 4 * MIB, &p);
	pid_t pid;

	PT_EQ(pinfs_pin(p, 1, 0, &a), 0);
	pid = fake_fork();
	if (pid == 0) {
		if (pinfs_unpin(a) != -ECHILD)
			_exit(1);
		if (pinfs_pin(p, PAGE, PINFS_PIN_WRITE, &b))
			_exit(2);
		if (pins() != 1)		/* this copy of the server's memory is of no use, but it is ours */
			_exit(3);
		_exit(pinfs_unpin(b) ? 4 : 7);
	}
	PT_EQ(waitpid(pid, &st, 0), pid);
	PT_EQ(WEXITSTATUS(st), 7);
	PT_EQ(pins(), 1);
	PT_EQ(pinfs_unpin(a), 0);
	finish(fd, p, 4 * MIB);
}

static void lost(void)
{
	struct pinfs_pin *a, *b;
	uint64_t end = 0;
	char *p;
	int fd = start(16, 4 * MIB, 4 * MIB, &p);

	PT_EQ(pinfs_pin(p, 1, 0, &a), 0);
	fake_hang_up();
	while (pinfs_pin(p + MIB, 1, PINFS_PIN_NOWAIT, &b) == 0) {
		(void)pinfs_unpin(b);
		if (!pt_wait_on(&end))
			break;
	}
	PT_EQ(pinfs_pin(p + MIB, 1, 0, &b), -ENOTCONN);
	PT_EQ(pinfs_pin(p + 3 * MIB, 1, 0, &b), -ENOTCONN);
	PT_EQ(pinfs_unpin(a), 0);
	finish(fd, p, 4 * MIB);
}

/* ---- pins against cuts, one in each place where it can be ---- */

static struct gap {
	bool cut, across;
	struct cutter c;
	pthread_t t;
} gap;

/* The pinner has looked and has not counted yet. The first time, its page is cut: entirely, or until the cut is sure
 * that there is no pin. */
static void cut_in_gap(void)
{
	if (gap.cut)
		return;
	gap.cut = true;
	if (!gap.across) {
		(void)cutter(&gap.c);
		return;
	}
	fake_pause(true);
	PT_EQ(pthread_create(&gap.t, NULL, cutter, &gap.c), 0);
	fake_paused();
}

/* With the second look the pin has the block that the page gets after the cut; without it, the one that it had. */
static void pin_and_cut(bool fast, bool across, bool blind)
{
	struct fake_counts before, after;
	struct pinfs_pin *a = NULL;
	struct pinfs_sg sg = { 0 };
	uint64_t was, is, word = 0;
	size_t n = 1;
	char *p;
	int fd = start(4, 2 * MIB, 2 * MIB, &p);

	if (fast) {
		PT_EQ(pinfs_pin(p, 8, PINFS_PIN_WRITE, &a), 0);
		PT_EQ(pinfs_unpin(a), 0);
	}
	was = fake_doff(fd, 0);
	fake_counts(&before);
	gap = (struct gap){ .across = across, .c = { .fd = fd, .ms = 30000 } };
	sh.pin_gap = cut_in_gap;
	sh.pin_test = blind ? SH_TEST_GAP | SH_TEST_BLIND : SH_TEST_GAP;
	PT_EQ(pinfs_pin_sg(p, 8, PINFS_PIN_WRITE, &sg, &n, &a), 0);
	sh.pin_test = 0;
	fake_counts(&after);
	CU_ASSERT_FATAL(a != NULL && gap.cut);
	if (across) {
		fake_pause(false);
		pthread_join(gap.t, NULL);
	}
	PT_EQ(gap.c.err, 0);
	is = fake_doff(fd, 0);
	PT_EQ(n, 1);
	PT_EQ(pread(fake_device(), &word, 8, (off_t)sg.sg_doff), 8);
	if (blind) {
		PT_EQ(after.setup + after.pin == before.setup + before.pin, fast);	/* it was that path */
		PT_EQ(sg.sg_doff, was);
		PT_EQ(is, 0);
		PT_EQ(word, UINT64_C(0xEEEEEEEEEEEEEEEE));
	} else {
		CU_ASSERT(is != 0 && is != was);
		PT_EQ(sg.sg_doff, is);
		PT_EQ(word, 0);
		PT_EQ(fake_punch(fd, 0, PAGE, 50), -EBUSY);
	}
	PT_EQ(pins(), 1);
	PT_EQ(pinfs_unpin(a), 0);
	finish(fd, p, 2 * MIB);
}

static void cuts_in_the_gap(bool blind)
{
	for (unsigned int i = 0; i < 4; i++)
		pin_and_cut(i & 1, i & 2, blind);
}

static void cut_noticed(void)
{
	cuts_in_the_gap(false);
}

static void twin_misses(void)
{
	cuts_in_the_gap(true);
}

/* ---- pins against cuts, many times ---- */

#define RACERS 3

struct race {
	char *p;
	int fd;
	atomic_bool stop;
	_Atomic uint64_t pinned, bad;
};

struct racer { struct race *r; unsigned int seed; };

static void yield(void)
{
	(void)sched_yield();
}

/*
 * Write a word to the pinned block; before the pin is dropped, look whether the block is still the file's. A
 * cut that missed the pin has taken it out and filled it with 0xEE.
 */
static void *racer(void *arg)
{
	struct racer *me = arg;
	struct race *r = me->r;
	struct pinfs_pin *a;
	struct pinfs_sg sg;
	char *dev = mmap(NULL, 256 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fake_device(), 0);

	while (!atomic_load(&r->stop)) {
		size_t n = 1, page = (size_t)rand_r(&me->seed) % 32;
		uint64_t mark = (uint64_t)rand_r(&me->seed) << 20 | page;
		volatile uint64_t *w;

		if (pinfs_pin_sg(r->p + page * PAGE + (size_t)rand_r(&me->seed) % 8 * 64, 8, PINFS_PIN_WRITE, &sg, &n,
				 &a))
			continue;
		w = (void *)(dev + sg.sg_doff);
		*w = mark;
		for (int i = 0; i < 50; i++)
			__asm__ volatile("" : : : "memory");
		if (*w == UINT64_C(0xEEEEEEEEEEEEEEEE) || fake_doff(r->fd, page * PAGE) != sg.sg_doff / PAGE * PAGE)
			atomic_fetch_add(&r->bad, 1);
		atomic_fetch_add(&r->pinned, 1);
		(void)pinfs_unpin(a);
	}
	munmap(dev, 256 * MIB);
	return NULL;
}

/* For a while that has seen some of both. */
static int race_cuts(void *arg PF_UNUSED)
{
	struct race r = { .stop = false };
	struct racer who[RACERS];
	pthread_t t[RACERS];
	uint64_t begun = pt_now_ms(), cuts = 0;

	sh.pin_gap = yield;
	sh.pin_test = SH_TEST_GAP;
	r.fd = start(4, 2 * MIB, 2 * MIB, &r.p);
	for (unsigned int i = 0; i < RACERS; i++) {
		who[i] = (struct racer){ .r = &r, .seed = i + 1 };
		CU_ASSERT_FATAL(pthread_create(&t[i], NULL, racer, &who[i]) == 0);
	}
	while (pt_now_ms() - begun < 1500 || atomic_load(&r.pinned) <= 100 || cuts <= 10) {
		if (fake_punch(r.fd, 0, 2 * MIB, 100) == 0)
			cuts++;
		if (cuts % 16 == 15)
			usleep(300);
	}
	atomic_store(&r.stop, true);
	for (unsigned int i = 0; i < RACERS; i++)
		pthread_join(t[i], NULL);
	pt_say("%llu pins, %llu cuts, %llu pins missed", (unsigned long long)r.pinned, (unsigned long long)cuts,
	       (unsigned long long)r.bad);
	munmap(r.p, 2 * MIB);
	fake_stop();
	return r.bad ? 5 : 0;
}

static void no_pin_missed(void)
{
	PT_EQ(pt_wait(pt_fork(race_cuts, NULL), 250000), 0);
}

static void speed(void)
{
	enum { N = 2000000 };
	struct pinfs_pin *a;
	uint64_t t0;
	char *p;
	int fd = start(16, 4 * MIB, 4 * MIB, &p);

	PT_EQ(pinfs_pin(p, 1, 0, &a), 0);
	PT_EQ(pinfs_unpin(a), 0);
	t0 = pt_now_ns();
	for (int i = 0; i < N; i++) {
		if (pinfs_pin(p + (unsigned int)i % 512 * PAGE, 1, PINFS_PIN_WRITE, &a) || pinfs_unpin(a))
			CU_FAIL("pin");
	}
	t0 = pt_now_ns() - t0;
	pt_say("pin + unpin: %.1f ns", (double)t0 / N);
	finish(fd, p, 4 * MIB);
}

/* The library starts threads in the child of a fork; TSan can follow that, but wants to be asked. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "counts", counts, 0 },
		{ "bad arguments", bad_arguments, 0 },
		{ "scatter lists and the device", scatter, 0 },
		{ "whole chunks", whole_chunks, 0 },
		{ "many pieces at once", many_pieces, 0 },
		{ "a cut waits", cut_waits, 120 },
		{ "pins during a cut", during_a_cut, 120 },
		{ "a pin outlives its mapping", outlives, 0 },
		{ "blocks deferred", deferred, 0 },
		{ "all slots pinned", all_slots_pinned, 0 },
		{ "fork", children, 0 },
		{ "daemon is lost", lost, 0 },
		{ "a cut between look and count", cut_noticed, 120 },
		{ "twin: without the second look", twin_misses, 120 },
		{ "no pin is missed", no_pin_missed, 290 },
		{ "speed", speed, 0 },
	};
	const struct pt_suite suite = { "pin", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
