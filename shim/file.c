/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file.c - attached files: from a descriptor of the program to a handle of the session, and back to nothing
 * when the last window and the last pin are gone. Takes sh.lock. All ends of life run in the crew thread, one
 * at a time.
 *
 * What keeps the inode alive in the kernel meanwhile is the anchor, a PROT_NONE private page of the file, as a
 * vma does for an ordinary mapping: umount says EBUSY, an unlinked file lives on. The descriptor in the crew's
 * table is there for what needs one later: attaching again in the child of a fork, and MADV_REMOVE.
 */
#include "sh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

static struct sh_file **bucket(struct sh_session *s, uint64_t ino)
{
	return &s->files[ino % SH_FILES];
}

struct sh_file *sh_file_by_ino(struct sh_session *s, uint64_t ino)
{
	struct sh_file *f = *bucket(s, ino);

	while (f != NULL && f->ino != ino)
		f = f->next;
	return f;
}

/* The inode number that stat() shows is the daemon's, except for the root directory, which nobody maps. */
static struct sh_file *by_stat(const struct stat *st, bool write)
{
	for (struct sh_session *s = sh.sessions; s != NULL; s = s->next) {
		struct sh_file *f;

		if (atomic_load(&s->lost))
			continue;
		f = sh_file_by_ino(s, st->st_ino);
		if (f != NULL && f->dev == st->st_dev && (f->write || !write))
			return f;
	}
	return NULL;
}

struct attach_call {
	int fd, tid;
	bool write;
	const struct stat *st;
	struct pinfs_attach at;
	struct sh_file *out;
};

static int attach_in_crew(void *arg)
{
	struct attach_call *c = arg;

	return sh_file_attach(c->tid, c->fd, &c->at, c->st, c->write, &c->out);
}

int sh_file_get(int fd, bool write, struct sh_file **out)
{
	struct attach_call c = { .fd = fd, .write = write };
	struct stat st;
	struct sh_file *f;
	sh_sigs old;
	long r;
	int err;

	r = sh_sys(SYS_fstat, fd, &st);
	if (r < 0)
		return (int)r;
	if (!S_ISREG(st.st_mode))
		return -ENOTTY;
	if (sh.sessions != NULL) {
		sh_lock(&old);
		f = by_stat(&st, write);
		if (f != NULL)
			f->refs++;
		sh_unlock(&old);
		if (f != NULL) {
			*out = f;
			return 0;
		}
	}
	err = sh_attach(fd, &c.at);
	if (err)
		return err;
	if (atomic_load(&sh.refused) && strcmp(c.at.at_sock, sh.refused_by) == 0)
		return -EACCES;
	err = sh_engine_start();
	if (err)
		return err;
	c.st = &st;
	c.tid = (int)sh_sys(SYS_gettid);
	err = sh_crew_call(attach_in_crew, &c);
	*out = c.out;
	return err;
}

/* A file that was attached for reading and is now opened for writing: same file, better handle. */
static void upgrade(struct sh_file *f, const struct pf_p_attach_out *ao, int fd, void **anchor,
		    struct pf_p_detach_in *di, int *old_fd)
{
	di->di_fh = f->fh;
	*old_fd = f->fd;
	f->fh = ao->ao_fh;
	f->fd = fd;
	f->write = ao->ao_write != 0;
	if (f->anchor == NULL) {		/* came with a lease: handover.c */
		f->anchor = *anchor;
		*anchor = NULL;
	}
}

/* What the program calls the file, for pinfsctl. */
static void name_of(int fd, char *out, size_t size)
{
	char link[64];
	long n;

	(void)snprintf(link, sizeof link, "/proc/thread-self/fd/%d", fd);
	n = sh_sys(SYS_readlinkat, AT_FDCWD, link, out, size - 1);
	out[n > 0 ? n : 0] = '\0';
}

/* A name that is too long begins with dots. */
static void tail_of(const char *name, char *out, size_t size)
{
	const size_t len = strlen(name);

	if (len < size) {
		memcpy(out, name, len + 1);
		return;
	}
	memset(out, '.', 3);
	memcpy(out + 3, name + len - (size - 4), size - 3);
}

int sh_file_attach(int tid, int fd, const struct pinfs_attach *at, const struct stat *st, bool write,
		   struct sh_file **out)
{
	struct pf_p_attach_in ai = { .ai_cookie = { at->at_cookie[0], at->at_cookie[1] } };
	struct pf_p_attach_out ao;
	struct pf_p_detach_in di = { 0 };
	struct sh_session *s;
	struct sh_file *f;
	int mine, err, spare = -1;
	sh_sigs old;
	void *anchor;

	/* Two threads may have asked for one file at the same time; the crew serves them in turn. */
	sh_lock(&old);
	f = by_stat(st, write);
	if (f != NULL)
		f->refs++;
	sh_unlock(&old);
	mine = tid < 0 ? fd : -1;
	err = 0;
	if (f != NULL) {
		*out = f;
		goto out_close;
	}
	err = sh_session_get(at->at_sock, &s);
	if (err)
		goto out_close;
	if (mine < 0)
		mine = sh_crew_take_fd(tid, fd);
	if (mine < 0)
		return mine;
	name_of(mine, ai.ai_path, sizeof ai.ai_path);
	err = sh_rpc(s, PF_P_ATTACH, &ai, sizeof ai, &ao, sizeof ao);
	if (err)
		goto out_close;
	f = sh_alloc(sizeof *f);
	anchor = sh_mmap(NULL, SH_PAGE, PROT_NONE, MAP_PRIVATE, mine, 0);
	err = f == NULL ? -ENOMEM : sh_mmap_err(anchor);
	if (err) {
		sh_free(f, sizeof *f);
		di.di_fh = ao.ao_fh;
		(void)sh_send(s, NULL, PF_P_DETACH, &di, sizeof di);
		goto out_close;
	}
	(void)sh_sys(SYS_madvise, anchor, SH_PAGE, MADV_DONTFORK);
	sh_lock(&old);
	*out = sh_file_by_ino(s, ao.ao_ino);
	if (*out != NULL && (*out)->dev == st->st_dev) {
		upgrade(*out, &ao, mine, &anchor, &di, &spare);
		(*out)->refs++;
	} else {
		f->ses = s;
		f->ino = ao.ao_ino;
		f->dev = st->st_dev;
		f->fh = ao.ao_fh;
		f->write = ao.ao_write != 0;
		f->fd = mine;
		f->anchor = anchor;
		tail_of(ai.ai_path, f->name, sizeof f->name);
		f->refs = 1;
		f->next = *bucket(s, f->ino);
		*bucket(s, f->ino) = f;
		*out = f;
		f = NULL;
	}
	sh_unlock(&old);
	if (f != NULL) {
		sh_free(f, sizeof *f);
		if (anchor != NULL)
			(void)sh_sys(SYS_munmap, anchor, SH_PAGE);
		if (spare >= 0)
			(void)sh_sys(SYS_close, spare);
		(void)sh_send(s, NULL, PF_P_DETACH, &di, sizeof di);
	}
	return 0;

out_close:
	if (mine >= 0)
		(void)sh_sys(SYS_close, mine);
	return err;
}

void sh_file_unref(struct sh_file *f, struct sh_file **drop)
{
	if (--f->refs > 0 || f->idling)
		return;
	f->idling = true;
	f->drop = *drop;
	*drop = f;
}

void sh_file_drop(struct sh_file *list)
{
	struct sh_file *f;

	while ((f = list) != NULL) {
		list = f->drop;
		(void)sh_crew_call(sh_file_idle, f);
	}
}

void sh_file_put(struct sh_file *f)
{
	struct sh_file *drop = NULL;
	sh_sigs old;

	sh_lock(&old);
	sh_file_unref(f, &drop);
	sh_unlock(&old);
	sh_file_drop(drop);
}

/*
 * End the attachment of a file that nobody maps, unless a pin holds it: then the slot is watched, and its last
 * unpin comes back here. The watch is set before the counters are read, and an unpin lowers its counter before
 * it reads the watch; both sequentially consistent, so one of the two sees the other.
 */
int sh_file_idle(void *file)
{
	struct sh_file *f = file, **b;
	struct sh_session *s = f->ses;
	struct pf_p_detach_in di;
	bool busy = false;
	struct sh_slot *sl, *next;
	sh_sigs old;

	sh_lock(&old);
	f->idling = false;
	if (f->refs > 0) {
		sh_unlock(&old);
		return 0;
	}
	for (sl = f->slots; sl != NULL; sl = sl->sl_fnext) {
		atomic_store(&sl->sl_watch, 1);
		if (sl->sl_state == SH_SETTING || sh_slot_pinned(sl))
			busy = true;
	}
	if (busy && !atomic_load(&s->lost)) {
		sh_unlock(&old);
		return 0;
	}
	for (sl = f->slots; sl != NULL; sl = next) {
		next = sl->sl_fnext;
		sh_slot_orphan(sl);
	}
	for (b = bucket(s, f->ino); *b != f; b = &(*b)->next)
		;
	*b = f->next;
	sh_unlock(&old);

	di.di_fh = f->fh;
	(void)sh_send(s, NULL, PF_P_DETACH, &di, sizeof di);
	if (f->anchor != NULL) {
		(void)sh_sys(SYS_munmap, f->anchor, SH_PAGE);
		(void)sh_sys(SYS_close, f->fd);
	}
	sh_free(f, sizeof *f);
	return 0;
}
