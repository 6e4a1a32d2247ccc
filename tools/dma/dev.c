/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dev.c - the devices that an engine has mapped: one mapping for each, however many transfers go there.
 *
 * Takes the engine's lock, which covers the list.
 */
#include "dma/dma_int.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static int device_bytes(int fd, const struct stat *st, uint64_t *bytes)
{
	char path[64];
	FILE *f;
	int err = 0;

	if (S_ISREG(st->st_mode)) {
		*bytes = (uint64_t)st->st_size;
	} else if (S_ISBLK(st->st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, bytes) != 0)
			err = -errno;
	} else if (S_ISCHR(st->st_mode)) {
		(void)snprintf(path, sizeof path, "/sys/dev/char/%u:%u/size", major(st->st_rdev), minor(st->st_rdev));
		f = fopen(path, "re");
		if (f == NULL)
			return -errno;
		if (fscanf(f, "%" SCNu64, bytes) != 1)
			err = -EINVAL;
		(void)fclose(f);
	} else {
		err = -EINVAL;
	}
	return err == 0 && *bytes == 0 ? -EINVAL : err;
}

int dma_dev_get(struct dma_engine *e, int fd, struct dma_dev **out)
{
	struct dma_dev *d;
	struct stat st;
	int flags = fcntl(fd, F_GETFL), err = 0;

	if (flags < 0 || fstat(fd, &st) != 0)
		return -errno;
	(void)pthread_mutex_lock(&e->lock);
	for (d = e->devs; d != NULL; d = d->next) {
		if (d->st_dev == st.st_dev && d->st_ino == st.st_ino && d->st_rdev == st.st_rdev &&
		    d->ro == ((flags & O_ACCMODE) == O_RDONLY)) {
			d->refs++;
			goto out_unlock;
		}
	}
	d = calloc(1, sizeof(*d));
	if (d == NULL) {
		err = -ENOMEM;
		goto out_unlock;
	}
	d->ro = (flags & O_ACCMODE) == O_RDONLY;
	err = device_bytes(fd, &st, &d->bytes);
	if (err != 0)
		goto out_free;
	d->base = mmap(NULL, d->bytes, d->ro ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (d->base == MAP_FAILED) {
		err = -errno;
		goto out_free;
	}
	d->e = e;
	d->refs = 1;
	d->st_dev = st.st_dev;
	d->st_ino = st.st_ino;
	d->st_rdev = st.st_rdev;
	d->next = e->devs;
	e->devs = d;
	e->refs++;
	goto out_unlock;
out_free:
	free(d);
out_unlock:
	(void)pthread_mutex_unlock(&e->lock);
	if (err == 0)
		*out = d;
	return err;
}

void dma_dev_put(struct dma_dev *d)
{
	struct dma_engine *e;
	struct dma_dev **at;

	if (d == NULL)
		return;
	e = d->e;
	(void)pthread_mutex_lock(&e->lock);
	if (--d->refs != 0) {
		(void)pthread_mutex_unlock(&e->lock);
		return;
	}
	for (at = &e->devs; *at != d; at = &(*at)->next)
		;
	*at = d->next;
	(void)munmap(d->base, d->bytes);
	free(d);
	dma_engine_put_unlock(e);
}

uint64_t dma_dev_bytes(const struct dma_dev *d)
{
	return d->bytes;
}
