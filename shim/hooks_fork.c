/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_fork.c - windows across fork(). The memory of a window is not inherited (MADV_DONTFORK), or an
 * invalidation in the parent would leave the child on freed blocks; instead the child opens sessions of its own
 * and makes the same windows again before fork() returns in it. Handlers of pthread_atfork(), registered before
 * the program's own: last before, first after.
 *
 * The child's right to the files comes from descriptors of the parent's crew, sent into a socket pair before
 * the fork. What cannot be made again becomes SIGBUS memory, with one line in the log; never somebody else's
 * mapping.
 *
 * vfork(), posix_spawn() and clone(CLONE_VM) children run in the parent's memory and need nothing; a bare clone() or
 * _Fork() runs no handlers, and such a child has no windows.
 */
#include "sh.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* Two threads may fork at the same time; glibc does not hold a lock of its own while it runs handlers. */
static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	bool any;
	int sv[2];
	uint32_t nfile;
	sh_sigs old;
} fk;

struct send_call { int tid, sock; uint32_t n; };

/* One message per file, in table order. A buffer that is full ends it: what is missing is SIGBUS in the child. */
static int send_in_crew(void *arg)
{
	struct send_call *c = arg;
	int sock = sh_crew_take_fd(c->tid, c->sock), err = 0, big = 4 << 20;
	sh_sigs old;

	if (sock < 0)
		return sock;
	(void)sh_sys(SYS_setsockopt, sock, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
	sh_lock(&old);
	for (struct sh_session *s = sh.sessions; s != NULL && !err; s = s->next) {
		for (unsigned int i = 0; i < SH_FILES && !err; i++) {
			for (struct sh_file *f = s->files[i]; f != NULL && !err; f = f->next) {
				f->sent = false;
				if (f->vmas == NULL || atomic_load(&s->lost))
					continue;
				err = sh_crew_send_fds(sock, &f->fd, 1);
				f->sent = err == 0;
				f->order = c->n;
				c->n += f->sent;
			}
		}
	}
	sh_unlock(&old);
	(void)sh_sys(SYS_close, sock);
	return err;
}

static void before(void)
{
	struct send_call c;

	pthread_mutex_lock(&fork_lock);
	fk.any = false;
	if (atomic_load(&sh.nvma) != 0 && (pid_t)sh_sys(SYS_getpid) == sh.pid &&
	    sh_sys(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fk.sv) == 0) {
		c = (struct send_call){ .tid = (int)sh_sys(SYS_gettid), .sock = fk.sv[1] };
		if (sh_crew_call(send_in_crew, &c))
			sh_log(SH_WARN, "fork: not every file can be handed to the child");
		fk.nfile = c.n;
		fk.any = true;
	}
	/* serve is between two steps then: no extent is mapped and not yet marked, no table half changed. */
	sh_lock(&fk.old);
	sh_mem_lock();
}

static void close_pair(void)
{
	if (fk.any) {
		(void)sh_sys(SYS_close, fk.sv[0]);
		(void)sh_sys(SYS_close, fk.sv[1]);
	}
}

static void after_in_parent(void)
{
	sh_mem_unlock();
	sh_unlock(&fk.old);
	close_pair();
	pthread_mutex_unlock(&fork_lock);
}

/* ---- the child ---- */

/* The old table: every vma that has to be made again, as one list; sessions and slots stay behind, unused. */
static struct sh_vma *take_table(void)
{
	struct sh_vma *list = NULL, **tail = &list;

	for (struct sh_vma *v = sh_vma_next(0); v != NULL; v = sh_vma_next(v->hi)) {
		*tail = v;
		tail = &v->fnext;	/* the file's list is of no use any more */
	}
	*tail = NULL;
	sh.vmas = NULL;
	atomic_store(&sh.nvma, 0);
	atomic_fetch_add(&sh.vgen, 1);
	sh.sessions = NULL;
	return list;
}

/* Before anything else can take the addresses: thread stacks, for one. */
static void hold_places(const struct sh_vma *list)
{
	for (const struct sh_vma *v = list; v != NULL; v = v->fnext)
		(void)sh_mmap(sh_ptr(v->lo), v->hi - v->lo, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

struct adopt_call {
	int tid, sock;
	uint32_t n;
	struct sh_file **heirs;		/* [n], in the order of sending */
};

static int adopt_in_crew(void *arg)
{
	struct adopt_call *c = arg;
	int sock = sh_crew_take_fd(c->tid, c->sock), fd, err;
	struct pinfs_attach at;
	struct stat st;

	if (sock < 0)
		return sock;
	for (uint32_t i = 0; i < c->n; i++) {
		if (sh_recv_fds(sock, &fd, 1) != 1)
			break;
		err = (int)sh_sys(SYS_fstat, fd, &st);
		if (!err)
			err = sh_attach(fd, &at);
		if (!err)
			err = sh_file_attach(-1, fd, &at, &st, at.at_write != 0, &c->heirs[i]);
		else
			(void)sh_sys(SYS_close, fd);
		if (err)
			sh_log(SH_ERR, "fork: a window of the child is lost: error %d", -err);
	}
	(void)sh_sys(SYS_close, sock);
	return 0;
}

static void remake(struct sh_vma *v, struct sh_file *heir)
{
	int err = -ENOENT;
	void *p;

	if (heir != NULL)
		err = sh_window_make(heir, v->lo, v->hi - v->lo, v->prot, MAP_FIXED, sh_vma_foff(v, v->lo),
				     v->map->write, &p);
	if (err) {
		int fd = sh_empty_file();

		sh_log(SH_ERR, "fork: window %#llx of the child gives SIGBUS", (unsigned long long)v->lo);
		(void)sh_mmap(sh_ptr(v->lo), v->hi - v->lo, v->prot, MAP_SHARED | MAP_FIXED, fd, 0);
		(void)sh_sys(SYS_close, fd);
	}
}

static void after_in_child(void)
{
	struct adopt_call c;
	struct sh_vma *list;
	bool had;

	sh.pid = (pid_t)sh_sys(SYS_getpid);
	sh.epoch++;
	pthread_mutex_init(&fork_lock, NULL);
	pthread_mutex_init(&sh.lock, NULL);
	sh_mem_reinit();
	had = atomic_load(&sh.running);
	sh_engine_forget();
	sh_fault_forget();
	if (sh_tls_ptr != NULL)
		sh_tls_reset();
	list = take_table();
	hold_places(list);
	sh_sigs_restore(&fk.old);
	if (!had || list == NULL) {
		close_pair();
		return;
	}
	c = (struct adopt_call){ .tid = (int)sh_sys(SYS_gettid), .sock = fk.any ? fk.sv[0] : -1,
				 .n = fk.any ? fk.nfile : 0 };
	c.heirs = sh_alloc((c.n + 1) * sizeof *c.heirs);
	if (c.heirs != NULL && fk.any && sh_engine_start() == 0)
		(void)sh_crew_call(adopt_in_crew, &c);
	for (struct sh_vma *v = list; v != NULL; v = v->fnext) {
		struct sh_file *f = v->map->file;

		remake(v, f->sent && c.heirs != NULL ? c.heirs[f->order] : NULL);
	}
	for (uint32_t i = 0; c.heirs != NULL && i < c.n; i++) {
		if (c.heirs[i] != NULL)
			sh_file_put(c.heirs[i]);
	}
	sh_free(c.heirs, (c.n + 1) * sizeof *c.heirs);
	close_pair();
}

void sh_fork_init(void)
{
	if (pthread_atfork(before, after_in_parent, after_in_child) != 0)
		sh_log(SH_WARN, "pthread_atfork failed: children will have no windows");
}
