/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * claim.c - who may have a device: one program that writes to it, and the clients that it hands it to.
 *
 * Locks of the kernel on the device's file, and nothing else: they end with the last descriptor and the last mapping of
 * the open file that they belong to, however its processes die.
 *
 *   flock            exclusive while a program starts or works alone; shared in a daemon that serves, and on each
 *                    client's descriptor. So nobody starts while a client of a dead daemon has the device.
 *   the writer byte  flock(2) converts by letting go and taking anew, and whoever polls gets in between. Therefore
 *                    the writer byte is taken before the first flock and kept to the end. A read-only descriptor can
 *                    only share it, with its likes, none of which writes.
 *   a client byte    one for each session, on the descriptor that the client gets: as long as it is locked,
 *                    somebody can still store to the device by way of that session: the process, a child that shares
 *                    its memory, or whoever was given the descriptor.
 *
 * The bytes lie far beyond the end of any device and mean nothing to it. Takes no lock of ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include "media/pmem.h"

#define WRITER_BYTE (INT64_C(1) << 61)
#define CLIENT_BYTES (INT64_C(1) << 62)
#define CLIENT_MASK ((UINT64_C(1) << 61) - 1)

/* umount(8) returns before the daemon has let go of the device: a second of patience, in steps of 10 ms. */
#define BUSY_NAP_NS 10000000L
#define BUSY_TRIES 100

static struct flock byte_at(int64_t at, short type)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };
}

static int lock_byte(int fd, int64_t at)
{
	const int flags = fcntl(fd, F_GETFL);
	struct flock l = byte_at(at, (flags & O_ACCMODE) == O_RDONLY ? F_RDLCK : F_WRLCK);

	if (flags < 0)
		return -errno;
	if (fcntl(fd, F_OFD_SETLK, &l) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

static int try_lock(int fd)
{
	int err = lock_byte(fd, WRITER_BYTE);

	if (err == 0 && flock(fd, LOCK_EX | LOCK_NB) != 0)
		err = -errno;
	return err;
}

int pf_pm_lock(int fd)
{
	const struct timespec nap = { .tv_nsec = BUSY_NAP_NS };
	struct flock l = byte_at(WRITER_BYTE, F_UNLCK);
	int err;

	for (int i = 0; (err = try_lock(fd)) == -EAGAIN && i < BUSY_TRIES; i++)
		(void)nanosleep(&nap, NULL);
	if (err != 0)
		(void)fcntl(fd, F_OFD_SETLK, &l);
	return err == -EAGAIN ? -EBUSY : err;
}

int pf_pm_share(struct pf_pm *pm)
{
	if (flock(pm->fd, LOCK_SH | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

int pf_pm_claim(int fd, uint64_t id)
{
	if (flock(fd, LOCK_SH | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return lock_byte(fd, CLIENT_BYTES + (int64_t)(id & CLIENT_MASK));
}

bool pf_pm_claimed(const struct pf_pm *pm, uint64_t id)
{
	struct flock l = byte_at(CLIENT_BYTES + (int64_t)(id & CLIENT_MASK), F_WRLCK);

	return fcntl(pm->fd, F_OFD_GETLK, &l) != 0 || l.l_type != F_UNLCK;
}
