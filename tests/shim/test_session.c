/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_session.c - the library's end of the socket: whoever reads it never waits for the daemon to read.
 *
 * The daemon of these tests answers each request before it reads the next, and waits until there is room for it.
 */
#include "fakesrv.h"
#include "harness/run.h"
#include "harness/proc.h"
#include "sh.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define FILES 10U
#define CHUNKS 8U			/* of each file; the first ones are scattered */
#define SCATTERED 3U
#define THREADS (FILES * CHUNKS)

struct toucher { char *at; _Atomic int *done; uint64_t got; };

static void *touch(void *arg)
{
	struct toucher *t = arg;

	t->got = *(volatile uint64_t *)(void *)t->at;
	atomic_fetch_add(t->done, 1);
	return NULL;
}

/* In the crew, whose descriptor it is: as little room for requests as the kernel allows. */
static int shrink(void *arg)
{
	const int least = 1;

	(void)arg;
	return (int)sh_sys(SYS_setsockopt, atomic_load(&sh.sessions)->fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
}

static unsigned int queued_faults(void)
{
	unsigned int n = 0;

	for (struct sh_want *w = atomic_load(&sh.faults); w != NULL; w = w->next)
		n++;
	return n;
}

/*
 * Many faults at once, whose answers are as long as answers get: more than both sockets hold. Somebody who waited to
 * send a request before reading an answer would wait for ever.
 */
static void both_ways_full(void)
{
	static struct toucher t[THREADS];
	static pthread_t thread[THREADS];
	uint64_t end = 0, faults;
	_Atomic int done = 0;
	char *map[FILES], name[512];
	int fd[FILES];
	sh_sigs old;

	CU_ASSERT_EQUAL_FATAL(fake_start(pt_tmp(), 256), 0);
	for (unsigned int i = 0; i < FILES; i++) {
		(void)snprintf(name, sizeof name, "%s/f%u", pt_tmp(), i);
		fd[i] = fake_file(name, CHUNKS * 2 * MIB);
		CU_ASSERT_FATAL(fd[i] >= 0);
		(void)unlink(name);
		map[i] = mmap(NULL, CHUNKS * 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd[i], 0);
		CU_ASSERT_FATAL(map[i] != MAP_FAILED);
	}
	for (unsigned int i = 0; i < FILES; i++)
		fake_fill(fd[i], 0, SCATTERED * 2 * MIB, true);
	PT_EQ(sh_crew_call(shrink, NULL), 0);
	/* Serve is held up by the first until the others have all come, and gets them in one go. */
	faults = atomic_load(&sh.nfault);
	sh_lock(&old);
	for (unsigned int i = 0; i < THREADS; i++) {
		t[i] = (struct toucher){ .at = map[i / CHUNKS] + i % CHUNKS * 2 * MIB, .done = &done };
		PT_EQ(pthread_create(&thread[i], NULL, touch, &t[i]), 0);
		while (i == 0 && atomic_load(&sh.nfault) == faults && pt_wait_on(&end))
			;
	}
	while (queued_faults() < THREADS - 1 && pt_wait_on(&end))
		;
	PT_EQ(queued_faults(), THREADS - 1);
	sh_unlock(&old);
	end = 0;
	while (atomic_load(&done) != (int)THREADS && pt_wait_on(&end))
		;
	PT_EQ(atomic_load(&done), THREADS);
	if (atomic_load(&done) != (int)THREADS)
		_exit(1);			/* nothing can end them */
	for (unsigned int i = 0; i < THREADS; i++) {
		(void)pthread_join(thread[i], NULL);
		CU_ASSERT(t[i].got == 0);
	}
	for (unsigned int i = 0; i < FILES; i++) {
		(void)munmap(map[i], CHUNKS * 2 * MIB);
		(void)close(fd[i]);
	}
	fake_stop();
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "both ways full", both_ways_full, 120 },
	};
	static const struct pt_suite suite = { "session", cases, PF_ARRAY_LEN(cases) };

	return pt_main(argc, argv, &suite, 1);
}
