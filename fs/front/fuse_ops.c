/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_ops.c - FUSE requests about names, attributes and directories: decode, one verb of op/, one reply.
 *
 * No lock is held when a reply is sent: the kernel may forget the inode before the call returns. A reply that could not
 * be delivered gives back the lookup reference which it carried.
 *
 * Left out on purpose, so that libfuse answers ENOSYS once and the kernel never asks again: FLUSH and FSYNCDIR (every
 * call is durable when it returns, there is nothing to flush) and the locks (the kernel's own are right for one mount).
 */
#include "front/fuse_ops.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "front/fuse_io.h"

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	const struct pf_front *f = userdata;
	const unsigned int want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_ATOMIC_O_TRUNC |
				  FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_IOCTL_DIR | FUSE_CAP_READDIRPLUS |
				  FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_CACHE_SYMLINKS |
				  FUSE_CAP_EXPLICIT_INVAL_DATA |
				  /* A directory's list may stand in the umask's place. */
				  FUSE_CAP_DONT_MASK;

	/* Not wanted: splice (our replies point into the device already), the writeback cache (write(2) is durable on
	 * return). */
	conn->want = conn->capable & want;
	/* With it the kernel obeys access lists, and checks permissions even where it was told not to. */
	if (!f->unchecked)
		conn->want |= conn->capable & FUSE_CAP_POSIX_ACL;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

/* One place answers all verbs that end with an entry. */
static void reply_entry(fuse_req_t req, int err, const struct pf_entry *e)
{
	struct pf_fs *fs = pf_front_of(req)->fs;
	struct fuse_entry_param p;

	if (err != 0) {
		(void)fuse_reply_err(req, -err);
		return;
	}
	p = pf_entry_param(e);
	if (fuse_reply_entry(req, &p) != 0)
		pf_op_forget(fs, e->ino, 1);
}

static void op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	static const struct fuse_entry_param none = { .ino = 0, .entry_timeout = PF_TIMEOUT };
	struct pf_entry e;
	int err = pf_op_lookup(pf_front_of(req)->fs, pf_ino_of(dir), name, &e);

	if (err == -ENOENT)
		(void)fuse_reply_entry(req, &none);	/* the kernel remembers the absence as well */
	else
		reply_entry(req, err, &e);
}

static void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t nlookup)
{
	pf_op_forget(pf_front_of(req)->fs, pf_ino_of(node), nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		pf_op_forget(pf_front_of(req)->fs, pf_ino_of(forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi PF_UNUSED)
{
	struct stat st;
	int err;

	if (pf_io_opcode() == PF_FUSE_STATX) {
		pf_fuse_statx(req, node);
		return;
	}
	err = pf_op_getattr(pf_front_of(req)->fs, pf_ino_of(node), &st, NULL);
	if (err == 0)
		(void)fuse_reply_attr(req, &st, PF_TIMEOUT);
	else
		(void)fuse_reply_err(req, -err);
}

static void op_readlink(fuse_req_t req, fuse_ino_t node)
{
	char target[4097];
	int err = pf_op_readlink(pf_front_of(req)->fs, pf_ino_of(node), target, sizeof target);

	if (err == 0)
		(void)fuse_reply_readlink(req, target);
	else
		(void)fuse_reply_err(req, -err);
}

static void op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t rdev)
{
	const struct pf_cred cred = pf_cred_of(req);
	struct pf_entry e;

	reply_entry(req, pf_op_mknod(pf_front_of(req)->fs, &cred, pf_ino_of(dir), name, mode, rdev, &e), &e);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode)
{
	const struct pf_cred cred = pf_cred_of(req);
	struct pf_entry e;

	reply_entry(req, pf_op_mkdir(pf_front_of(req)->fs, &cred, pf_ino_of(dir), name, mode, &e), &e);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name)
{
	const struct pf_cred cred = pf_cred_of(req);
	struct pf_entry e;

	reply_entry(req, pf_op_symlink(pf_front_of(req)->fs, &cred, pf_ino_of(dir), name, target, &e), &e);
}

static void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t dir, const char *name)
{
	struct pf_entry e;

	reply_entry(req, pf_op_link(pf_front_of(req)->fs, pf_ino_of(node), pf_ino_of(dir), name, &e), &e);
}

static void op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	(void)fuse_reply_err(req, -pf_op_unlink(pf_front_of(req)->fs, pf_ino_of(dir), name));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	(void)fuse_reply_err(req, -pf_op_rmdir(pf_front_of(req)->fs, pf_ino_of(dir), name));
}

static void op_rename(fuse_req_t req, fuse_ino_t odir, const char *oname, fuse_ino_t ndir, const char *nname,
		      unsigned int flags)
{
	const struct pf_cred cred = pf_cred_of(req);

	(void)fuse_reply_err(req, -pf_op_rename(pf_front_of(req)->fs, &cred, pf_ino_of(odir), oname, pf_ino_of(ndir),
						nname, flags));
}

static void op_statfs(fuse_req_t req, fuse_ino_t node PF_UNUSED)
{
	struct statvfs st;
	int err = pf_op_statfs(pf_front_of(req)->fs, &st);

	if (err == 0)
		(void)fuse_reply_statfs(req, &st);
	else
		(void)fuse_reply_err(req, -err);
}

static void op_access(fuse_req_t req, fuse_ino_t node, int mask)
{
	struct pf_cred cred = pf_cred_of(req);
	gid_t *groups = NULL, *more;
	int n = 0, room;

	/* A request has one group; /proc knows the others. Not in our pid namespace: it has none. */
	do {
		room = n;
		more = realloc(groups, ((size_t)room + 1) * sizeof *groups);
		if (more == NULL)
			break;
		groups = more;
		n = fuse_req_getgroups(req, room, groups);
	} while (n > room);
	cred.groups = groups;
	cred.ngroup = n > 0 && n <= room ? (size_t)n : 0;
	(void)fuse_reply_err(req, -pf_op_access(pf_front_of(req)->fs, &cred, pf_ino_of(node), mask));
	free(groups);
}

/* One answer to READDIR or READDIRPLUS under construction. */
struct dirbuf {
	fuse_req_t req;
	char *buf;
	size_t size, used;
	bool plus;
	size_t nref;
	uint64_t *refs;		/* inodes whose lookup reference is in the buffer */
};

static bool add_dirent(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next_cookie,
		       const struct pf_entry *entry)
{
	struct dirbuf *d = arg;
	char *at = d->buf + d->used;
	size_t room = d->size - d->used, n;
	struct fuse_entry_param p = { .ino = 0 };

	if (entry != NULL) {
		p = pf_entry_param(entry);
	} else {
		p.attr.st_ino = ino;	/* node 0 in a READDIRPLUS entry: name only */
		p.attr.st_mode = (mode_t)DTTOIF(type);
	}
	if (d->plus)
		n = fuse_add_direntry_plus(d->req, at, room, name, &p, (off_t)next_cookie);
	else
		n = fuse_add_direntry(d->req, at, room, name, &p.attr, (off_t)next_cookie);
	if (n > room)
		return false;
	d->used += n;
	if (entry != NULL && d->plus)
		d->refs[d->nref++] = entry->ino;
	return true;
}

static void read_dir(fuse_req_t req, fuse_ino_t dir, size_t size, off_t off, bool plus)
{
	struct pf_fs *fs = pf_front_of(req)->fs;
	/* An entry takes at least 152 bytes with attributes. */
	struct dirbuf d = { .req = req, .buf = malloc(size), .size = size, .plus = plus,
			    .refs = plus ? malloc((size / 128 + 1) * sizeof(uint64_t)) : NULL };
	int err = -ENOMEM;

	if (d.buf == NULL || (plus && d.refs == NULL)) {
		(void)fuse_reply_err(req, ENOMEM);
		goto out_free;
	}
	err = pf_op_readdir(fs, pf_ino_of(dir), (uint64_t)off,
			    (plus ? PF_READDIR_PLUS : 0) | (pf_read_noatime() ? PF_READDIR_NOATIME : 0), add_dirent,
			    &d);
	/* An error after some entries is told by the next call: these carry references already. */
	if (err != 0 && d.used == 0)
		(void)fuse_reply_err(req, -err);
	else if (fuse_reply_buf(req, d.buf, d.used) != 0)
		for (size_t i = 0; i < d.nref; i++)
			pf_op_forget(fs, d.refs[i], 1);
out_free:
	free(d.refs);
	free(d.buf);
}

/* No state belongs to an open directory. Told so, the kernel sends neither OPENDIR nor RELEASEDIR any more, and caches
 * the contents, which only it can change. */
/*
 * There is nothing to open, but without an answer (ENOSYS) the kernel would cache what it reads of directories, and a
 * seekdir(3) to a name that has gone meanwhile leads to the end of that cache.
 */
static void op_opendir(fuse_req_t req, fuse_ino_t dir PF_UNUSED, struct fuse_file_info *fi)
{
	(void)fuse_reply_open(req, fi);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t dir PF_UNUSED, struct fuse_file_info *fi PF_UNUSED)
{
	(void)fuse_reply_err(req, 0);
}

static void op_readdir(fuse_req_t req, fuse_ino_t dir, size_t size, off_t off, struct fuse_file_info *fi PF_UNUSED)
{
	read_dir(req, dir, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t dir, size_t size, off_t off, struct fuse_file_info *fi PF_UNUSED)
{
	read_dir(req, dir, size, off, true);
}

const struct fuse_lowlevel_ops pf_front_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = pf_fuse_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = pf_fuse_create,
	.open = pf_fuse_open,
	.release = pf_fuse_release,
	.read = pf_fuse_read,
	.write = pf_fuse_write,
	.fsync = pf_fuse_fsync,
	.opendir = op_opendir,
	.releasedir = op_releasedir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
	.access = op_access,
	.fallocate = pf_fuse_fallocate,
	.copy_file_range = pf_fuse_copy_file_range,
	.lseek = pf_fuse_lseek,
	.ioctl = pf_fuse_ioctl,
	.setxattr = pf_fuse_setxattr,
	.getxattr = pf_fuse_getxattr,
	.listxattr = pf_fuse_listxattr,
	.removexattr = pf_fuse_removexattr,
};
