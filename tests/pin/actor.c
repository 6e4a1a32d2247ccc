/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * actor.c - the processes that obey (actor.h). In the parent: a socket pair per child. In the child: a loop over
 * orders.
 */
#include "pin/actor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <CUnit/CUnit.h>
#include <pinfs/ioctl.h>
#include <pinfs/pin.h>
#include "dma/dma.h"
#include "harness/proc.h"
#include "harness/run.h"

#define ACTORS 64
#define SG_MAX ((size_t)4096)
#define DO_MS 60000

struct actor {
	pid_t pid;
	int sock;
	bool dead;
};

static struct actor cast[ACTORS];

/* --- the child --- */

struct held {
	struct pinfs_pin *pin;
	struct pinfs_sg *sg;
	size_t nsg;
	struct pinfs_pin_info info;
	int dev;
};

static struct {
	int fd[ACTOR_SLOTS];
	struct { char *base; size_t len; } map[ACTOR_SLOTS];
	struct held pin[ACTOR_SLOTS];
	struct pinfs_pin *many[ACTOR_MANY];
	size_t nmany;
	struct dma_engine *engine;
	sigjmp_buf bus;
} me;

static void on_usr1(int sig)
{
	(void)sig;	/* its only effect: a system call that waits ends with EINTR */
}

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(me.bus, 1);
}

static long sys(long rc)
{
	return rc < 0 ? -errno : rc;
}

static long do_pin(const struct act *a)
{
	struct held *h = &me.pin[a->n];
	char *addr = me.map[a->m].base + a->off;
	long err;

	if (h->pin != NULL)
		return -EBUSY;
	h->sg = calloc(SG_MAX, sizeof(*h->sg));
	h->nsg = SG_MAX;
	err = pinfs_pin_sg(addr, a->len, a->flags, h->sg, &h->nsg, &h->pin);
	if (err == 0)
		err = pinfs_pin_query(h->pin, &h->info);
	if (err == 0) {
		h->dev = pinfs_device(addr);
		err = h->dev < 0 ? h->dev : 0;
	}
	if (err != 0) {
		free(h->sg);
		h->sg = NULL;
	}
	return err;
}

static long do_forget(const struct act *a)
{
	long err = pinfs_unpin(me.pin[a->n].pin);

	me.pin[a->n].pin = NULL;
	return err;
}

static long do_unpin(const struct act *a)
{
	struct held *h = &me.pin[a->n];
	long err = do_forget(a);

	(void)close(h->dev);
	free(h->sg);
	h->sg = NULL;
	return err;
}

static long do_dma(const struct act *a)
{
	struct held *h = &me.pin[a->n];
	struct dma_desc d = dma_desc_init(DMA_FROM_DEVICE);
	struct dma_dev *dev;
	struct dma_xfer *x;
	struct dma_stat st;
	long err;

	if (me.engine == NULL && (err = dma_engine_start(&me.engine)) != 0)
		return err;
	err = dma_dev_get(me.engine, h->dev, &dev);
	if (err != 0)
		return err;
	d.sg = h->sg;
	d.nsg = h->nsg;
	d.pat.dp_id = a->id;
	d.pat.dp_ino = h->info.pi_ino;
	d.pat.dp_foff = h->sg[0].sg_foff;
	dma_pat_label(&d.pat, "actor");
	err = dma_submit(me.engine, dev, &d, &x);
	if (err == 0) {
		(void)dma_xfer_wait(x, DMA_NEVER);
		dma_xfer_stat(x, &st);
		dma_xfer_put(x);
		err = st.ds_err != 0 ? st.ds_err : (long)st.ds_moved;
	}
	dma_dev_put(dev);
	return err;
}

static long do_store(const struct act *a)
{
	if (sigsetjmp(me.bus, 1) != 0)
		return -EFAULT;
	memset(me.map[a->n].base + a->off, (int)a->id, a->len);
	return 0;
}

static long do_load(const struct act *a)
{
	if (sigsetjmp(me.bus, 1) != 0)
		return -EFAULT;
	return *(volatile unsigned char *)(me.map[a->n].base + a->off);
}

static long do_map(const struct act *a)
{
	char *p = mmap(NULL, a->len, (int)a->flags, MAP_SHARED, me.fd[a->m], (off_t)a->off);

	if (p == MAP_FAILED)
		return -errno;
	me.map[a->n].base = p;
	me.map[a->n].len = a->len;
	return 0;
}

/* Open by a bare call with @flags, do @fn's work on it, close. */
static long with_file(const char *path, int flags, const struct act *a, long (*fn)(int fd, const struct act *a))
{
	long fd = sys(syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0644)), rc;

	if (fd < 0)
		return fd;
	rc = fn != NULL ? fn((int)fd, a) : 0;
	(void)close((int)fd);
	return rc;
}

/* What the kernel does not pass on goes the way of the library. */
static long file_fallocate(int fd, const struct act *a)
{
	const struct pinfs_fallocate fa = {
		.fa_mode = (int32_t)a->flags, .fa_off = (int64_t)a->off, .fa_len = (int64_t)a->len,
	};

	if (a->flags & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE))
		return sys(syscall(SYS_ioctl, fd, PINFS_IOC_FALLOCATE, &fa));
	return sys(syscall(SYS_fallocate, fd, a->flags, a->off, a->len));
}

static long file_write(int fd, const struct act *a)
{
	char *buf = malloc(a->len);
	long rc;

	if (buf == NULL)
		return -ENOMEM;
	memset(buf, (int)a->id, a->len);
	rc = sys(syscall(SYS_pwrite64, fd, buf, a->len, a->off));
	free(buf);
	return rc;
}

static void many_name(char *path, size_t room, const char *prefix, size_t i)
{
	(void)snprintf(path, room, "%s%zu", prefix, i);
}

static long do_many_pin(const struct act *a)
{
	char path[600];

	for (size_t i = 0; i < a->len && i < ACTOR_MANY; i++) {
		int fd;
		void *p;
		long err;

		many_name(path, sizeof path, a->path, i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		(void)close(fd);
		if (p == MAP_FAILED)
			return -errno;
		err = pinfs_pin(p, 4096, PINFS_PIN_WRITE, &me.many[i]);
		(void)munmap(p, 4096);
		if (err != 0)
			return err;
		me.nmany = i + 1;
	}
	return 0;
}

static long do_many_unpin(void)
{
	long err = 0;

	for (size_t i = 0; i < me.nmany && err == 0; i++)
		err = pinfs_unpin(me.many[i]);
	me.nmany = 0;
	return err;
}

struct cut {
	const struct act *a;
	size_t i;
	long rc;
};

static void *cut_main(void *arg)
{
	struct cut *c = arg;
	char path[600];

	many_name(path, sizeof path, c->a->path, c->i);
	c->rc = sys(syscall(SYS_truncate, path, c->a->off));
	return NULL;
}

static long do_many_truncate(const struct act *a)
{
	static struct cut cut[ACTOR_MANY];
	static pthread_t t[ACTOR_MANY];
	pthread_attr_t attr;
	size_t n = 0;
	long rc = 0;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, 256 << 10);
	for (; n < a->len && n < ACTOR_MANY; n++) {
		cut[n] = (struct cut){ .a = a, .i = n };
		rc = -pthread_create(&t[n], &attr, cut_main, &cut[n]);
		if (rc != 0)
			break;
	}
	for (size_t i = 0; i < n; i++) {
		(void)pthread_join(t[i], NULL);
		rc = rc == 0 ? cut[i].rc : rc;
	}
	(void)pthread_attr_destroy(&attr);
	return rc;
}

static long obey(const struct act *a)
{
	switch ((enum act_verb)a->verb) {
	case ACT_OPEN:
		me.fd[a->n] = open(a->path, (int)a->flags | O_CLOEXEC, 0644);
		return me.fd[a->n] < 0 ? -errno : 0;
	case ACT_CLOSE: return sys(close(me.fd[a->n]));
	case ACT_MAP: return do_map(a);
	case ACT_UNMAP: return sys(munmap(me.map[a->n].base, me.map[a->n].len));
	case ACT_PIN: return do_pin(a);
	case ACT_UNPIN: return do_unpin(a);
	case ACT_QUERY: return pinfs_pin_query(me.pin[a->n].pin, &me.pin[a->n].info);
	case ACT_FORGET: return do_forget(a);
	case ACT_DMA: return do_dma(a);
	case ACT_STORE: return do_store(a);
	case ACT_LOAD: return do_load(a);
	case ACT_ADVISE: return sys(madvise(me.map[a->n].base + a->off, a->len, (int)a->flags));
	case ACT_TRUNCATE: return sys(syscall(SYS_truncate, a->path, a->off));
	case ACT_OPEN_TRUNC: return with_file(a->path, O_WRONLY | O_TRUNC, a, NULL);
	case ACT_FALLOCATE: return with_file(a->path, O_RDWR, a, file_fallocate);
	case ACT_WRITE: return with_file(a->path, O_WRONLY | O_CREAT, a, file_write);
	case ACT_UNLINK: return sys(syscall(SYS_unlinkat, AT_FDCWD, a->path, 0));
	case ACT_MANY_PIN: return do_many_pin(a);
	case ACT_MANY_UNPIN: return do_many_unpin();
	case ACT_MANY_TRUNCATE: return do_many_truncate(a);
	case ACT_VERB_NR: break;
	}
	return -ENOSYS;
}

static int actor_main(void *arg)
{
	struct sigaction usr1 = { .sa_handler = on_usr1 }, bus = { .sa_handler = on_bus };
	int sock = *(const int *)arg;
	struct act a;

	(void)sigaction(SIGUSR1, &usr1, NULL);		/* no SA_RESTART */
	(void)sigaction(SIGBUS, &bus, NULL);
	for (;;) {
		ssize_t n = recv(sock, &a, sizeof a, 0);
		long rc;

		if (n < 0 && errno == EINTR)
			continue;		/* the order that was to be interrupted has ended by itself */
		if (n != (ssize_t)sizeof a)
			break;
		rc = obey(&a);
		if (send(sock, &rc, sizeof rc, MSG_NOSIGNAL) != (ssize_t)sizeof rc)
			break;
	}
	return 0;
}

/* --- the parent --- */

static void forget_all(void)
{
	for (size_t i = 0; i < ACTORS; i++) {
		if (cast[i].pid == 0)
			continue;
		(void)close(cast[i].sock);
		cast[i].pid = 0;
	}
}

struct actor *actor_new(void)
{
	struct actor *a = cast;
	int pair[2];

	pt_on_cleanup(forget_all);
	while (a < cast + ACTORS && a->pid != 0)
		a++;
	CU_ASSERT_FATAL(a < cast + ACTORS);
	CU_ASSERT_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	a->sock = pair[0];
	a->dead = false;
	a->pid = pt_fork(actor_main, &pair[1]);
	(void)close(pair[1]);
	CU_ASSERT_FATAL(a->pid > 0);
	return a;
}

pid_t actor_pid(const struct actor *a)
{
	return a->pid;
}

void actor_send(struct actor *a, struct act what)
{
	CU_ASSERT_EQUAL(send(a->sock, &what, sizeof what, MSG_NOSIGNAL), (ssize_t)sizeof what);
}

long actor_result(struct actor *a, unsigned int ms)
{
	struct pollfd p = { .fd = a->sock, .events = POLLIN };
	long rc;

	if (poll(&p, 1, (int)ms) == 0)
		return -EINPROGRESS;
	return recv(a->sock, &rc, sizeof rc, 0) == (ssize_t)sizeof rc ? rc : -ECHILD;
}

long actor_do(struct actor *a, struct act what)
{
	actor_send(a, what);
	return actor_result(a, DO_MS);
}

long actor_interrupt(struct actor *a)
{
	const uint64_t end = pt_now_ms() + DO_MS;
	long rc;

	do {
		PT_SYS(kill(a->pid, SIGUSR1));
		rc = actor_result(a, 10);
	} while (rc == -EINPROGRESS && pt_now_ms() < end);
	return rc;
}

void actor_end(struct actor *a)
{
	(void)shutdown(a->sock, SHUT_RDWR);
	PT_EQ(pt_wait(a->pid, DO_MS), 0);
	(void)close(a->sock);
	a->pid = 0;
}

void actor_stop(struct actor *a)
{
	int status = 0;

	PT_SYS(kill(a->pid, SIGSTOP));
	PT_EQ(waitpid(a->pid, &status, WUNTRACED), a->pid);
	CU_ASSERT(WIFSTOPPED(status));
}

void actor_kill(struct actor *a)
{
	pt_kill(a->pid);
	(void)close(a->sock);
	a->pid = 0;
}

static struct act on_path(enum act_verb verb, const char *path)
{
	struct act a = { .verb = verb };

	CU_ASSERT_FATAL(strlen(path) < sizeof a.path);
	(void)strcpy(a.path, path);
	return a;
}

struct act act_open(unsigned int fd, const char *path, int flags)
{
	struct act a = on_path(ACT_OPEN, path);

	a.n = fd;
	a.flags = (uint32_t)flags;
	return a;
}

struct act act_close(unsigned int fd) { return (struct act){ .verb = ACT_CLOSE, .n = fd }; }

struct act act_map(unsigned int map, unsigned int fd, uint64_t off, uint64_t len, int prot)
{
	return (struct act){ .verb = ACT_MAP, .n = map, .m = fd, .off = off, .len = len, .flags = (uint32_t)prot };
}

struct act act_unmap(unsigned int map) { return (struct act){ .verb = ACT_UNMAP, .n = map }; }

struct act act_pin(unsigned int pin, unsigned int map, uint64_t off, uint64_t len, unsigned int flags)
{
	return (struct act){ .verb = ACT_PIN, .n = pin, .m = map, .off = off, .len = len, .flags = flags };
}

struct act act_unpin(unsigned int pin) { return (struct act){ .verb = ACT_UNPIN, .n = pin }; }
struct act act_query(unsigned int pin) { return (struct act){ .verb = ACT_QUERY, .n = pin }; }
struct act act_forget(unsigned int pin) { return (struct act){ .verb = ACT_FORGET, .n = pin }; }
struct act act_dma(unsigned int pin, uint64_t id) { return (struct act){ .verb = ACT_DMA, .n = pin, .id = id }; }

struct act act_store(unsigned int map, uint64_t off, uint64_t len, int byte)
{
	return (struct act){ .verb = ACT_STORE, .n = map, .off = off, .len = len, .id = (uint64_t)byte };
}

struct act act_load(unsigned int map, uint64_t off) { return (struct act){ .verb = ACT_LOAD, .n = map, .off = off }; }

struct act act_advise(unsigned int map, uint64_t off, uint64_t len, int advice)
{
	return (struct act){ .verb = ACT_ADVISE, .n = map, .off = off, .len = len, .flags = (uint32_t)advice };
}

struct act act_truncate(const char *path, uint64_t size)
{
	struct act a = on_path(ACT_TRUNCATE, path);

	a.off = size;
	return a;
}

struct act act_open_trunc(const char *path) { return on_path(ACT_OPEN_TRUNC, path); }

struct act act_fallocate(const char *path, int mode, uint64_t off, uint64_t len)
{
	struct act a = on_path(ACT_FALLOCATE, path);

	a.flags = (uint32_t)mode;
	a.off = off;
	a.len = len;
	return a;
}

struct act act_write(const char *path, uint64_t off, uint64_t len, int byte)
{
	struct act a = on_path(ACT_WRITE, path);

	a.off = off;
	a.len = len;
	a.id = (uint64_t)byte;
	return a;
}

struct act act_unlink(const char *path) { return on_path(ACT_UNLINK, path); }

struct act act_many(enum act_verb verb, const char *prefix, uint64_t n, uint64_t size)
{
	struct act a = on_path(verb, prefix);

	a.len = n;
	a.off = size;
	return a;
}

long actor_map_file(struct actor *a, unsigned int map, const char *path, uint64_t len)
{
	long rc = actor_do(a, act_open(ACTOR_SLOTS - 1, path, O_RDWR));

	if (rc == 0)
		rc = actor_do(a, act_map(map, ACTOR_SLOTS - 1, 0, len, PROT_READ | PROT_WRITE));
	if (rc == 0)
		rc = actor_do(a, act_close(ACTOR_SLOTS - 1));
	return rc;
}
