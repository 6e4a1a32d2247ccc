/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_data.c - FUSE requests about what is in a file: open, read, write, and all that may have to break a layout.
 *
 * A request that may wait is a struct areq: it holds the FUSE request and the verb's own record, and no thread. Its
 * answer is sent by whichever thread ends it. When it is put aside, an interrupt function is left with libfuse that
 * knows only the number of the wait, so an interrupt that comes late finds nothing and harms nothing.
 *
 * Reads are answered straight from the device, under the file's lock; data of writes goes from the request's buffer to
 * the device.
 */
#include "front/fuse_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include "base/fail.h"
#include "base/log.h"
#include "front/deadlock.h"
#include "front/fuse_io.h"
#include "front/handle.h"
#include "front/notify.h"
#include "front/shift.h"
#include "front/srv.h"

enum reply { REPLY_ATTR, REPLY_OPEN, REPLY_WRITE, REPLY_ERR };

struct areq {
	struct pf_areq a;		/* first: the verb knows only this */
	fuse_req_t req;
	enum reply reply;
	uint64_t fh;
	struct pf_policy_over over;	/* the descriptor's */
	bool mode_changes;
};

/* The wait of the request that this thread is starting, if it was interrupted before it was put aside. */
static _Thread_local uint64_t early_interrupt;
static _Thread_local bool starting;

/* libfuse calls this with the request's lock held, perhaps from inside fuse_req_interrupt_func(): in that case the
 * answer, which frees the request, has to wait until that call has returned. */
static void interrupted(fuse_req_t req, void *data)
{
	uint64_t id = (uint64_t)(uintptr_t)data;

	if (starting)
		early_interrupt = id;
	else
		pf_op_cancel(pf_front_of(req)->fs, id);
}

void pf_fuse_aside(fuse_req_t req, uint64_t id)
{
	starting = true;
	fuse_req_interrupt_func(req, interrupted, (void *)(uintptr_t)id);
	starting = false;
}

static void put_aside(struct pf_areq *a, uint64_t id)
{
	pf_fuse_aside(PF_CONTAINER_OF(a, struct areq, a)->req, id);
}

/*
 * DAX: direct I/O, the bytes are in memory already and a copy of them in the page cache would only go stale. Else the
 * page cache, which the kernel writes through. KEEP_CACHE: what it has cached stays right, because all changes pass it
 * or are announced to it; but for pages from a time when the file was the other thing. libfuse has no field for the
 * third flag, so the answer is made by hand.
 */
static struct fuse_open_out open_out(uint64_t fh, const struct pf_open *o)
{
	return (struct fuse_open_out){
		.fh = fh,
		.open_flags = (o->fresh ? 0 : FOPEN_KEEP_CACHE) | (o->dax ? FOPEN_DIRECT_IO : 0) |
			      (o->dax && pf_io_parallel_writes() ? FOPEN_PARALLEL_DIRECT_WRITES : 0),
	};
}

static void reply_open(fuse_req_t req, uint64_t ino, uint64_t fh)
{
	struct pf_fs *fs = pf_front_of(req)->fs;
	struct fuse_open_out out;
	struct pf_open how;
	int err = pf_op_opened(fs, ino, &how);

	if (err != 0) {
		(void)fuse_reply_err(req, -err);
		return;
	}
	out = open_out(fh, &how);
	if (fuse_reply_buf(req, (const char *)&out, sizeof out) != 0)
		pf_op_released(fs, ino);	/* nobody waits for it any more: there will be no RELEASE */
}

static void answer(struct pf_areq *a, ssize_t res)
{
	struct areq *r = PF_CONTAINER_OF(a, struct areq, a);

	if (r->mode_changes)
		pf_notify_attr_now(pf_front_of(r->req)->notify, a->ino);
	if (a->op == PF_AOP_COPY && a->copy.src_atime)	/* the kernel thinks of the destination only */
		pf_notify_attr_now(pf_front_of(r->req)->notify, a->copy.src_ino);
	if (res < 0) {
		(void)fuse_reply_err(r->req, (int)-res);
	} else {
		switch (r->reply) {
		case REPLY_ATTR:
			(void)fuse_reply_attr(r->req, &a->setattr.st, PF_TIMEOUT);
			break;
		case REPLY_OPEN:
			reply_open(r->req, a->ino, r->fh);
			break;
		case REPLY_WRITE:
			(void)fuse_reply_write(r->req, (size_t)res);
			break;
		case REPLY_ERR:
			(void)fuse_reply_err(r->req, 0);
			break;
		}
	}
	free(r);
}

static int stuck(struct pf_areq *a, bool again)
{
	const struct pf_front *f = pf_front_of(PF_CONTAINER_OF(a, struct areq, a)->req);

	return again ? pf_deadlock_check(f, a) : pf_deadlock_with_itself(f, a);
}

/* What the descriptor wants, if the request has one, comes before the file's policy. */
static void use_policy(struct areq *r, const struct fuse_file_info *fi)
{
	if (fi != NULL && pf_handle_policy(fi->fh, &r->over))
		r->a.policy = &r->over;
}

/* NULL: answered already. */
static struct areq *new_areq(fuse_req_t req, enum pf_aop op, fuse_ino_t node, enum reply reply)
{
	struct areq *r = malloc(sizeof *r);

	if (r == NULL) {
		(void)fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	memset(r, 0, sizeof *r);
	r->a.op = op;
	r->a.ino = pf_ino_of(node);
	r->a.cred = pf_cred_of(req);
	r->a.ar_done = answer;
	r->a.ar_aside = put_aside;
	r->a.ar_stuck = stuck;
	r->a.kernel_lock = op == PF_AOP_SETATTR || op == PF_AOP_FALLOCATE;
	r->req = req;
	r->reply = reply;
	return r;
}

/* The set-id bits that a change of the file by this caller clears, PF_KILL_*. */
static unsigned int kill_of(fuse_req_t req, uint64_t ino)
{
	struct stat st;

	if (pf_op_getattr(pf_front_of(req)->fs, ino, &st, NULL) != 0 || (st.st_mode & (S_ISUID | S_ISGID)) == 0)
		return 0;
	return PF_KILL_PRIV | (pf_caller_keeps_setgid(req, st.st_gid) ? 0 : PF_KILL_SGID);
}

/* The kernel says that they go with this request. In the answer to a write it does not look for them, so it is told
 * before: it goes by its own copy of the mode when somebody runs the file. */
static unsigned int kill_priv(struct areq *r)
{
	const unsigned int kill = kill_of(r->req, r->a.ino);

	r->mode_changes = kill != 0;
	return kill;
}

unsigned int pf_fuse_kill_priv(fuse_req_t req, uint64_t ino)
{
	const unsigned int kill = kill_of(req, ino);

	return kill == 0 || pf_caller_capable(req, CAP_FSETID) ? 0 : kill;
}

static bool owns(struct areq *r)
{
	struct stat st;

	return r->a.cred.uid == 0 ||
	       (pf_op_getattr(pf_front_of(r->req)->fs, r->a.ino, &st, NULL) == 0 && st.st_uid == r->a.cred.uid);
}

/*
 * profile=devdax: a file is like a device DAX node, which has a size and mappings and nothing else. One that is empty
 * is a node not yet made, and may be given its size, once.
 */
static bool is_device(fuse_req_t req)
{
	return (pf_front_of(req)->fs->opts.answers & PF_ANSWER_DEVICE) != 0;
}

static bool made(fuse_req_t req, uint64_t ino)
{
	struct stat st;

	return pf_op_getattr(pf_front_of(req)->fs, ino, &st, NULL) == 0 && S_ISREG(st.st_mode) && st.st_size != 0;
}

static unsigned int set_kill_priv(struct areq *r)
{
	const unsigned int kill = kill_priv(r);

	return (kill & PF_KILL_PRIV ? PF_SET_KILL_PRIV : 0) | (kill & PF_KILL_SGID ? PF_SET_KILL_SGID : 0);
}

static unsigned int kill_priv_unasked(struct areq *r)
{
	const unsigned int kill = pf_fuse_kill_priv(r->req, r->a.ino);

	r->mode_changes = kill != 0;
	return kill;
}

void pf_fuse_start(fuse_req_t req, struct pf_areq *a)
{
	struct pf_fs *fs = pf_front_of(req)->fs;

	early_interrupt = 0;
	pf_op_start(fs, a);		/* both may be gone now */
	if (early_interrupt != 0)
		pf_op_cancel(fs, early_interrupt);
}

static void start(struct areq *r)
{
	pf_fuse_start(r->req, &r->a);
}

void pf_fuse_setattr(fuse_req_t req, fuse_ino_t node, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	static const struct { int fuse; unsigned int ours; } bit[] = {
		{ FUSE_SET_ATTR_MODE, PF_SET_MODE },		{ FUSE_SET_ATTR_UID, PF_SET_UID },
		{ FUSE_SET_ATTR_GID, PF_SET_GID },		{ FUSE_SET_ATTR_SIZE, PF_SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, PF_SET_ATIME },		{ FUSE_SET_ATTR_MTIME, PF_SET_MTIME },
		{ FUSE_SET_ATTR_ATIME_NOW, PF_SET_ATIME_NOW },	{ FUSE_SET_ATTR_MTIME_NOW, PF_SET_MTIME_NOW },
		{ FUSE_SET_ATTR_CTIME, PF_SET_CTIME },
	};
	const struct fuse_setattr_in *in = pf_io_body();
	struct areq *r;

	if ((to_set & FUSE_SET_ATTR_SIZE) && is_device(req) && made(req, pf_ino_of(node))) {
		(void)fuse_reply_err(req, EINVAL);
		return;
	}
	r = new_areq(req, PF_AOP_SETATTR, node, REPLY_ATTR);
	if (r == NULL)
		return;
	if (in->valid & FATTR_KILL_SUIDGID)
		r->a.setattr.set |= set_kill_priv(r);
	/* Nothing to set: chown(2) to nobody, which clears the owner's bits; or what the kernel sends ahead of
	 * fallocate, which clears them by itself. */
	if ((in->valid & ~(uint32_t)(FATTR_FH | FATTR_LOCKOWNER)) == 0 && owns(r))
		r->a.setattr.set = set_kill_priv(r);
	for (size_t i = 0; i < PF_ARRAY_LEN(bit); i++)
		if (to_set & bit[i].fuse)
			r->a.setattr.set |= bit[i].ours;
	r->a.setattr.st = *st;
	use_policy(r, fi);
	start(r);
}

static bool writes(const struct fuse_file_info *fi)
{
	return (fi->flags & O_ACCMODE) != O_RDONLY;
}

void pf_fuse_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct pf_fs *fs = pf_front_of(req)->fs;
	const struct pf_cred cred = pf_cred_of(req);
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	struct pf_open how;
	struct pf_entry e;
	int err;

	if (pf_io_opcode() == FUSE_TMPFILE)
		err = pf_op_tmpfile(fs, &cred, pf_ino_of(dir), mode, !(fi->flags & O_EXCL), &e);
	else
		err = pf_op_mknod(fs, &cred, pf_ino_of(dir), name, S_IFREG | (mode & ~(mode_t)S_IFMT), 0, &e);
	if (err != 0) {
		(void)fuse_reply_err(req, -err);
		return;
	}
	err = pf_op_created(fs, e.ino, &how);
	if (err != 0) {
		(void)fuse_reply_err(req, -err);
		pf_op_forget(fs, e.ino, 1);
		return;
	}
	out.open = open_out(pf_handle_new(writes(fi)), &how);
	out.entry = (struct fuse_entry_out){
		.nodeid = pf_node_of(e.ino), .generation = e.gen,
		.entry_valid = (uint64_t)PF_TIMEOUT, .attr_valid = (uint64_t)PF_TIMEOUT,
		.attr = {
			.ino = e.st.st_ino, .size = (uint64_t)e.st.st_size, .blocks = (uint64_t)e.st.st_blocks,
			.atime = (uint64_t)e.st.st_atim.tv_sec, .atimensec = (uint32_t)e.st.st_atim.tv_nsec,
			.mtime = (uint64_t)e.st.st_mtim.tv_sec, .mtimensec = (uint32_t)e.st.st_mtim.tv_nsec,
			.ctime = (uint64_t)e.st.st_ctim.tv_sec, .ctimensec = (uint32_t)e.st.st_ctim.tv_nsec,
			.mode = e.st.st_mode, .nlink = (uint32_t)e.st.st_nlink, .uid = e.st.st_uid, .gid = e.st.st_gid,
			.rdev = (uint32_t)e.st.st_rdev, .blksize = (uint32_t)e.st.st_blksize,
		},
	};
	if (fuse_reply_buf(req, (const char *)&out, sizeof out) != 0) {
		pf_op_released(fs, e.ino);
		pf_op_forget(fs, e.ino, 1);
	}
}

/* O_TRUNC comes without the kernel's inode lock; the verb orders it against everything else of the file. */
void pf_fuse_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	const struct fuse_open_in *in = pf_io_body();
	const bool trunc = (fi->flags & O_TRUNC) && !(is_device(req) && made(req, pf_ino_of(node)));
	struct areq *r;
	int err = pf_fs_readable(pf_front_of(req)->fs);

	if (err == 0 && (writes(fi) || trunc))
		err = pf_op_open_check(pf_front_of(req)->fs, pf_ino_of(node), fi->flags & O_APPEND, trunc);
	if (err != 0) {
		(void)fuse_reply_err(req, -err);
		return;
	}
	if (!trunc) {
		reply_open(req, pf_ino_of(node), pf_handle_new(writes(fi)));
		return;
	}
	r = new_areq(req, PF_AOP_TRUNC_OPEN, node, REPLY_OPEN);
	if (r == NULL)
		return;
	r->fh = pf_handle_new(writes(fi));
	r->a.setattr.set = PF_SET_SIZE;
	if (pf_io_kill_priv() ? (in->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0 : r->a.cred.uid != 0)
		r->a.setattr.set |= set_kill_priv(r);
	start(r);
}

/* A handle owns nothing, the kernel's lookup reference outlives it; but the file's mode may change with the last. */
void pf_fuse_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	pf_handle_release(fi->fh);
	pf_op_released(pf_front_of(req)->fs, pf_ino_of(node));
	(void)fuse_reply_err(req, 0);
}

/*
 * A read(2), which may be told of fewer bytes, or pages for the page cache? Those of the latter that an answer leaves
 * out are zeros to the kernel, so there an error is the only truth; it then asks for each page by itself. Only the
 * former names an owner of locks, as direct I/O always does (fs/fuse/file.c, fuse_direct_io()).
 */
static bool direct_read(void)
{
	const struct fuse_read_in *in = pf_io_body();

	return (in->read_flags & FUSE_READ_LOCKOWNER) != 0;
}

void pf_fuse_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi PF_UNUSED)
{
	struct pf_fs *fs = pf_front_of(req)->fs;
	struct pf_rd rd;
	int err;

	/* The pages of a plain mapping come by READ as well, and those a node does have. */
	if (is_device(req) && direct_read()) {
		(void)fuse_reply_err(req, EINVAL);
		return;
	}
	err = (pf_read_noatime() ? pf_op_read_quiet : pf_op_read_begin)(fs, pf_ino_of(node), (uint64_t)off, size, &rd);
	if (err != 0) {
		(void)fuse_reply_err(req, -err);
		return;
	}
	if (rd.bad && !direct_read())
		(void)fuse_reply_err(req, EIO);
	else if (fuse_reply_iov(req, rd.iov, rd.n) == -EFAULT)	/* the kernel has made EIO of it */
		pf_fs_fail(fs, PF_FAULT_GONE, "inode %llu: its blocks cannot be reached any more",
			   (unsigned long long)pf_ino_of(node));
	pf_op_read_end(fs, &rd);
}

void pf_fuse_write(fuse_req_t req, fuse_ino_t node, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	const struct fuse_write_in *in = pf_io_body();
	struct areq *r;

	if (is_device(req) && !(in->write_flags & FUSE_WRITE_CACHE)) {
		(void)fuse_reply_err(req, EINVAL);
		return;
	}
	r = new_areq(req, PF_AOP_WRITE, node, REPLY_WRITE);
	if (r == NULL)
		return;
	/* Also right for O_APPEND: the kernel has made the offset from the size that it knows, under its inode lock,
	 * and nobody changes the size behind its back. To append here would mix up the pieces of one large write. */
	r->a.write.off = (uint64_t)off;
	r->a.write.buf = buf;
	r->a.write.len = size;
	r->a.write.sync = (fi->flags & (O_SYNC | O_DSYNC)) != 0;
	r->a.write.kill_priv = in->write_flags & FUSE_WRITE_KILL_SUIDGID ? kill_priv(r) : 0;
	start(r);
}

void pf_fuse_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi PF_UNUSED)
{
	(void)fuse_reply_err(req, is_device(req) ? EINVAL :
				  -pf_op_fsync(pf_front_of(req)->fs, pf_ino_of(node), datasync != 0));
}

void pf_fuse_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off, off_t len,
		       struct fuse_file_info *fi)
{
	struct areq *r;

	if (is_device(req)) {
		(void)fuse_reply_err(req, ENODEV);
		return;
	}
	r = new_areq(req, PF_AOP_FALLOCATE, node, REPLY_ERR);
	if (r == NULL)
		return;
	r->a.fallocate.mode = mode;
	r->a.fallocate.off = (uint64_t)off;
	r->a.fallocate.len = (uint64_t)len;
	r->a.fallocate.kill_priv = kill_priv_unasked(r);
	use_policy(r, fi);
	start(r);
}

void pf_fuse_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in PF_UNUSED,
			     fuse_ino_t out, off_t off_out, struct fuse_file_info *fi_out PF_UNUSED, size_t len,
			     int flags)
{
	struct areq *r;

	if (flags != 0 || is_device(req)) {
		(void)fuse_reply_err(req, EINVAL);
		return;
	}
	r = new_areq(req, PF_AOP_COPY, out, REPLY_WRITE);
	if (r == NULL)
		return;
	r->a.copy.src_ino = pf_ino_of(in);
	r->a.copy.src_off = (uint64_t)off_in;
	r->a.copy.dst_off = (uint64_t)off_out;
	r->a.copy.len = len;
	r->a.copy.kill_priv = kill_priv_unasked(r);
	start(r);
}

void pf_fuse_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence, struct fuse_file_info *fi PF_UNUSED)
{
	uint64_t out;
	int err = pf_op_lseek(pf_front_of(req)->fs, pf_ino_of(node), (uint64_t)off, whence, &out);

	if (err == 0)
		(void)fuse_reply_lseek(req, (off_t)out);
	else
		(void)fuse_reply_err(req, -err);
}

static int attach(struct pf_front *f, fuse_req_t req, uint64_t ino, uint64_t fh, struct pinfs_attach *out)
{
	struct pf_map_right to = { .ino = ino };
	struct stat st;
	int err = pf_op_check_dax(f->fs, ino);

	if (err == 0)
		err = pf_op_getattr(f->fs, ino, &st, &to.gen);
	if (err != 0)
		return err;
	/* An immutable or append-only file has no windows for stores, whoever opened it when. */
	to.write = pf_handle_writes(fh) && pf_op_open_check(f->fs, ino, false, false) == 0;
	(void)pf_handle_policy(fh, &to.over);
	return pf_srv_attach_cookie(f->srv, &to, fuse_req_ctx(req)->pid, out);
}

static int set_policy(fuse_req_t req, uint64_t fh, const struct pinfs_policy *in)
{
	char text[sizeof in->po_text];
	struct pf_policy_over over;
	const char *must;
	int err;

	memcpy(text, in->po_text, sizeof text);
	if (!pf_handle_writes(fh))
		return -EBADF;
	if (memchr(text, '\0', sizeof text) == NULL)
		return -EINVAL;
	err = pf_policy_parse(text, &over, &must);
	if (err != 0)
		return err;
	if ((over.set & 1U << PF_POLICY_ON_BUSY) && over.p.on_busy == PF_BUSY_UNSAFE) {
		if (!pf_caller_capable(req, CAP_SYS_ADMIN))
			return -EPERM;
		pf_warn("EXPERIMENTAL: pid %d has set on_busy=unsafe for a file that it has open",
			fuse_req_ctx(req)->pid);
	}
	return pf_handle_set(fh, &over);
}

void pf_fuse_ioctl(fuse_req_t req, fuse_ino_t node, unsigned int cmd, void *arg PF_UNUSED, struct fuse_file_info *fi,
		   unsigned int flags PF_UNUSED, const void *in, size_t insize, size_t outsize)
{
	struct pf_front *f = pf_front_of(req);
	struct pinfs_attach at;
	struct pinfs_fallocate fa;
	struct pinfs_sock so;
	int err;

	if (cmd == PINFS_IOC_ATTACH && outsize >= sizeof at) {
		err = attach(f, req, pf_ino_of(node), fi->fh, &at);
		if (err == 0)
			(void)fuse_reply_ioctl(req, 0, &at, sizeof at);
		else
			(void)fuse_reply_err(req, -err);
	} else if (cmd == PINFS_IOC_SOCK && outsize >= sizeof so) {
		pf_srv_sock(f->srv, &so);
		(void)fuse_reply_ioctl(req, 0, &so, sizeof so);
	} else if (cmd == PINFS_IOC_FALLOCATE && is_device(req)) {
		(void)fuse_reply_err(req, ENODEV);
	} else if (cmd == PINFS_IOC_FALLOCATE && insize >= sizeof fa) {
		memcpy(&fa, in, sizeof fa);
		pf_shift_ioctl(req, node, &fa, fi->fh);
	} else if (cmd == PINFS_IOC_POLICY && insize >= sizeof(struct pinfs_policy)) {
		err = set_policy(req, fi->fh, in);
		(void)(err == 0 ? fuse_reply_ioctl(req, 0, NULL, 0) : fuse_reply_err(req, -err));
	} else if (!pf_fuse_fileattr(req, node, cmd, in, insize, outsize)) {
		(void)fuse_reply_err(req, ENOTTY);
	}
}
