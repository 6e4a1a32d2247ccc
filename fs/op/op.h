/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * op.h - every verb of the filesystem: lock, check, break, transaction, result. The only layer that composes.
 *
 * Layer 6 (FUSE, sessions) calls this and nothing below. 0 or a negative errno; out-parameters are written only on
 * success. A metadata call is atomic, and durable when it returns. Permission checks: the kernel makes them
 * (default_permissions is on unless the user turned it off by mount option; then pf_op_access() rules are applied
 * here).
 *
 * Two kinds of verbs:
 *   plain     struct pf_fs *, arguments -> result. Block for short locks only.
 *   pf_areq   may have to break a layout. pf_op_start() returns at once; ar_done() is called exactly once, perhaps
 *             before pf_op_start() returned, perhaps later from another thread, with no lock held.
 *
 * Inode numbers are the media's (root: PF_INO_ROOT). A verb that returns an entry has taken one lookup reference,
 * given back by pf_op_forget(). Names: 1..255 bytes, no NUL, no '/', not "." or ".." (-EINVAL; -ENAMETOOLONG).
 */
#ifndef PF_OP_OP_H
#define PF_OP_OP_H

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include "share/layout.h"

/* @groups besides @gid; only pf_op_access() looks at them. */
struct pf_cred { uid_t uid; gid_t gid; pid_t pid; mode_t umask; const gid_t *groups; size_t ngroup; };

struct pf_entry { uint64_t ino; uint32_t gen; struct stat st; };

/* Bring up / take down the whole core (layers 0-5) on a device. */
struct pf_mount_info { int replayed; uint64_t orphans; const char *why; /* on failure: one phrase */ };
int pf_fs_mount(const char *device, const struct pf_opts *opts, struct pf_fs **out,
		struct pf_mount_info *info) PF_MUST_CHECK;
/* The same on a device that is open already and stays the caller's: images in memory. */
int pf_fs_mount_pm(struct pf_pm *pm, const struct pf_opts *opts, struct pf_fs **out,
		   struct pf_mount_info *info) PF_MUST_CHECK;
void pf_fs_unmount_pm(struct pf_fs *fs);
/* Everything is closed: evicts cached inodes, marks the image clean unless something was wrong (base/fail.h). */
void pf_fs_unmount(struct pf_fs *fs);

/* Names. @flags of rename: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT (a character device 0/0 of @c's takes the
 * old name). Creating verbs honour set-gid directories. A file of pf_op_tmpfile() has no name, and is freed with its
 * last reference unless pf_op_link() gives it one, which @linkable allows. */
/* Lookup also takes "." (of any inode) and "..": an NFS server comes with numbers. */
int pf_op_lookup(struct pf_fs *fs, uint64_t dir, const char *name, struct pf_entry *out);
int pf_op_mknod(struct pf_fs *fs, const struct pf_cred *c, uint64_t dir, const char *name, mode_t mode, dev_t rdev,
		struct pf_entry *out);			/* regular files too: create */
int pf_op_mkdir(struct pf_fs *fs, const struct pf_cred *c, uint64_t dir, const char *name, mode_t mode,
		struct pf_entry *out);
int pf_op_symlink(struct pf_fs *fs, const struct pf_cred *c, uint64_t dir, const char *name, const char *target,
		  struct pf_entry *out);
int pf_op_link(struct pf_fs *fs, uint64_t ino, uint64_t dir, const char *name, struct pf_entry *out);
int pf_op_unlink(struct pf_fs *fs, uint64_t dir, const char *name);
int pf_op_rmdir(struct pf_fs *fs, uint64_t dir, const char *name);
int pf_op_rename(struct pf_fs *fs, const struct pf_cred *c, uint64_t odir, const char *oname, uint64_t ndir,
		 const char *nname, unsigned int flags);
int pf_op_tmpfile(struct pf_fs *fs, const struct pf_cred *c, uint64_t dir, mode_t mode, bool linkable,
		  struct pf_entry *out);
int pf_op_readlink(struct pf_fs *fs, uint64_t ino, char *buf, size_t size);	/* NUL terminated; size >= 4096 */
void pf_op_forget(struct pf_fs *fs, uint64_t ino, uint64_t n);

/* Directory reading. @fn(arg, name, ino, type, next_cookie, entry-or-NULL) returns false when full: then it has not
 * taken the entry. With PF_READDIR_PLUS each entry (but . and ..) carries attributes and a lookup reference. @cookie 0
 * starts; . and .. are cookies 1 and 2. */
typedef bool (*pf_dirent_fn)(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next_cookie,
			     const struct pf_entry *entry);
#define PF_READDIR_PLUS 1U
#define PF_READDIR_NOATIME 2U
int pf_op_readdir(struct pf_fs *fs, uint64_t dir, uint64_t cookie, unsigned int how, pf_dirent_fn fn, void *arg);

/* Attributes; @gen may be NULL. */
int pf_op_getattr(struct pf_fs *fs, uint64_t ino, struct stat *st, uint32_t *gen);
/* Basic attributes, time of birth, flags; no device numbers. */
int pf_op_statx(struct pf_fs *fs, uint64_t ino, struct statx *stx);
int pf_op_statfs(struct pf_fs *fs, struct statvfs *st);
int pf_op_access(struct pf_fs *fs, const struct pf_cred *c, uint64_t ino, int mask);

/* chattr(1)'s flags (FS_*_FL), project number, generation. Set: @fa's flags replace those in @mask; -EOPNOTSUPP for
 * ones that this filesystem does not have. Who may is the caller's business. */
struct pf_fileattr { uint32_t flags, projid, gen; };
int pf_op_fileattr_get(struct pf_fs *fs, uint64_t ino, struct pf_fileattr *out);
int pf_op_fileattr_set(struct pf_fs *fs, uint64_t ino, uint32_t mask, bool set_projid, const struct pf_fileattr *fa);
/* Do its flags allow to open a file for writing (@trunc: to cut it, @append: with O_APPEND)? -EPERM. */
int pf_op_open_check(struct pf_fs *fs, uint64_t ino, bool append, bool trunc);

/* DAX or not, for as long as the file is open or attached. @fresh: pages that the kernel has of it may be from before
 * that, and must not be used. Each pf_op_opened() has its pf_op_released(). */
struct pf_open { bool dax, fresh; };
int pf_op_opened(struct pf_fs *fs, uint64_t ino, struct pf_open *out);
/* Of a file that has just been made, so nobody has pages of it. */
int pf_op_created(struct pf_fs *fs, uint64_t ino, struct pf_open *out);
void pf_op_released(struct pf_fs *fs, uint64_t ino);
/* A regular file that is DAX now? -EISDIR, -EINVAL (neither), -EOPNOTSUPP. */
int pf_op_check_dax(struct pf_fs *fs, uint64_t ino);

/* Extended attributes (xattr(7)): user., trusted., security., system.posix_acl_access, system.posix_acl_default; and
 * PINFS_XATTR_STATX, which can be read only. Errors as ext4's: -EOPNOTSUPP (another namespace), -EINVAL (nothing behind
 * the prefix, not a valid list), -ERANGE (a name over 255 bytes; @size is not 0 and too small), -E2BIG, -ENODATA,
 * -EEXIST, -ENOSPC, -EPERM. @kill_sgid: the caller is not of the file's group, so a new access list takes the set-gid
 * bit. Who may is the caller's business. */
int pf_op_setxattr(struct pf_fs *fs, uint64_t ino, const char *name, const void *value, size_t len, int flags,
		   bool kill_sgid);
int pf_op_removexattr(struct pf_fs *fs, uint64_t ino, const char *name);
/* @size 0: *len is the length. */
int pf_op_getxattr(struct pf_fs *fs, uint64_t ino, const char *name, void *buf, size_t size, size_t *len);
/* Names with a NUL behind each; without @trusted those of that namespace are left out, and *hidden says so. */
int pf_op_listxattr(struct pf_fs *fs, uint64_t ino, bool trusted, char *buf, size_t size, size_t *len, bool *hidden);

/* Data without layout changes. Between begin and end the file's lock is held shared and the iovecs point at the
 * device (holes: at zeros): reply, then end. At most PF_RD_IOV pieces a call; *got may be less than len only at the
 * end of file, when the pieces ran out, or in front of a bad block (@bad); a bad block first is -EIO. */
#define PF_RD_IOV 258		/* 1 MiB, the largest request, touches at most 257 pages */
struct pf_rd { struct iovec iov[PF_RD_IOV]; int n; size_t got; bool bad; void *inode; };
int pf_op_read_begin(struct pf_fs *fs, uint64_t ino, uint64_t off, size_t len, struct pf_rd *rd);
/* The same, and the access time stays (O_NOATIME). */
int pf_op_read_quiet(struct pf_fs *fs, uint64_t ino, uint64_t off, size_t len, struct pf_rd *rd);
void pf_op_read_end(struct pf_fs *fs, struct pf_rd *rd);
int pf_op_fsync(struct pf_fs *fs, uint64_t ino, bool datasync);
/* @whence: SEEK_HOLE, SEEK_DATA. */
int pf_op_lseek(struct pf_fs *fs, uint64_t ino, uint64_t off, int whence, uint64_t *out);

/* Operations that may break a layout. Fill the struct, call pf_op_start(). */
enum pf_aop { PF_AOP_SETATTR, PF_AOP_WRITE, PF_AOP_FALLOCATE, PF_AOP_COPY, PF_AOP_TRUNC_OPEN };

#define PF_SET_MODE 1U
#define PF_SET_UID 2U
#define PF_SET_GID 4U
#define PF_SET_SIZE 8U
#define PF_SET_ATIME 16U
#define PF_SET_MTIME 32U
#define PF_SET_ATIME_NOW 64U
#define PF_SET_MTIME_NOW 128U
#define PF_SET_CTIME 256U
#define PF_SET_KILL_PRIV 512U	/* clear set-id bits as write does */
#define PF_SET_KILL_SGID 1024U	/* and set-gid as by PF_KILL_SGID */

/* Set-id bits that a change by somebody without CAP_FSETID clears: set-uid, and set-gid if the group may execute
 * (PF_KILL_PRIV); set-gid in any case when that somebody is not in the file's group (PF_KILL_SGID). */
#define PF_KILL_PRIV 1U
#define PF_KILL_SGID 2U

/* What an operation of process @pid (-1: of nobody's) that takes [foff, + len) out of the file would meet now. -ESTALE,
 * -EINVAL. *n: room, then used. */
struct pf_would { struct pf_policy policy; uint64_t foff, len; struct pf_meets meets; };
int pf_op_would(struct pf_fs *fs, uint64_t ino, uint64_t foff, uint64_t len, pid_t pid, struct pf_would *out,
		struct pf_holder *who, unsigned int *n) PF_MUST_CHECK;

struct pf_areq {
	enum pf_aop op;
	uint64_t ino;
	const struct pf_policy_over *policy;	/* what the descriptor wants, or NULL; read by pf_op_start() only */
	struct pf_cred cred;
	bool kernel_lock;			/* the kernel holds the inode's lock until it is answered */
	union {
		struct { unsigned int set; struct stat st; } setattr;	/* in; st is the attributes out */
		struct {
			uint64_t off;
			const void *buf;	/* valid until ar_done, or copied when the request is put aside */
			size_t len;
			bool append;		/* off is ignored: at the end of file */
			bool sync;		/* O_SYNC, O_DSYNC */
			unsigned int kill_priv;	/* PF_KILL_* */
		} write;
		struct { int mode; uint64_t off, len; unsigned int kill_priv; } fallocate;
		/* ino = destination */
		struct {
			uint64_t src_ino, src_off, dst_off;
			size_t len;
			unsigned int kill_priv;
			bool src_atime;		/* out: the source's access time has moved */
		} copy;
	};
	/* @res: bytes (write, copy), 0, or -errno. The request may be freed in it. */
	void (*ar_done)(struct pf_areq *r, ssize_t res);
	/* Optional: the request was put aside; @id is for pf_op_cancel(). Called before pf_op_start() returns, and
	 * ar_done() not before this has returned. */
	void (*ar_aside)(struct pf_areq *r, uint64_t id);
	/* Optional: called when it begins to wait for pins (@again: now and then while it does, by one thread for
	 * all): an error ends it. Not called with the option deadlock=wait. It may be slow. */
	int (*ar_stuck)(struct pf_areq *r, bool again);

	/* Private to op/. */
	struct pf_brk brk;
	struct pf_fs *fs;
	void *inode, *inode2;
	void *copy_buf;
	ssize_t res;
};
void pf_op_start(struct pf_fs *fs, struct pf_areq *r);
/* A signal: ends the request with -EINTR if it still waits. Late calls are harmless. */
void pf_op_cancel(struct pf_fs *fs, uint64_t id);

/* For op_map/op_pin (share/ calls back through layer 5 only). All take and drop INODE themselves. */
struct pf_inode;
int pf_op_iget(struct pf_fs *fs, uint64_t ino, uint32_t gen, struct pf_inode **out);	/* a reference; -ESTALE */
void pf_op_iput(struct pf_fs *fs, struct pf_inode *ip);
struct pf_lobj *pf_inode_lobj(struct pf_inode *ip);
uint64_t pf_inode_ino(const struct pf_inode *ip);
/* The chunk at @foff, which lies below the end of file, becomes one extent of 2 MiB at a multiple of 2 MiB. Nobody maps
 * or pins its blocks. -EIO: one of them is bad. */
int pf_op_whole(struct pf_inode *ip, uint64_t foff) PF_MUST_CHECK;
uint64_t pf_op_size(struct pf_inode *ip);	/* takes INODE for a moment */
struct pf_dext { uint64_t foff, doff, len; };		/* bytes */
#define PF_DEXT_BAD UINT64_MAX				/* doff of pages in bad blocks: nobody may be shown them */
/* Written extents in [foff, foff + len), sorted, merged; *n in: room, out: used. *size: i_size. */
int pf_op_extents(struct pf_fs *fs, struct pf_inode *ip, uint64_t foff, uint64_t len, struct pf_dext *ext,
		  unsigned int *n, uint64_t *size);
/* Make every page of [foff, foff + len) below the end of file allocated, written (zeroed where it was not) and
 * durable, touch mtime. If nothing in the whole 2 MiB chunk of @foff is written and the file covers it, all of it may
 * be made so. The caller has the gate closed (a MAP break). -ENOSPC, -EFAULT (beyond EOF). */
/* A window begins to store to pages that have blocks: the file's times. */
int pf_op_stored(struct pf_fs *fs, struct pf_inode *ip);
int pf_op_alloc_pages(struct pf_fs *fs, struct pf_inode *ip, uint64_t foff, uint64_t len);
/* Stores through windows in this range become durable. */
int pf_op_sync_range(struct pf_fs *fs, struct pf_inode *ip, uint64_t foff, uint64_t len);

#endif
