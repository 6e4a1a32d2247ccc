/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run.c - `dmaemu run`: one transfer by an engine inside this process, to its end.
 *
 * The process is then both the program that registered the memory and the device. SIGINT and SIGTERM end it, and the
 * pin with it.
 */
#include "dmaemu/dmaemu.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --in: the bytes that the device writes; they set the length. */
static int read_input(const char *path, struct job *j, void **buf)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t room = 1 << 16, n = 0;
	char *mem = NULL, *more;
	ssize_t got = 1;

	if (fd < 0)
		return complain(EX_FAIL, "%s: %s", path, strerror(errno));
	while (got > 0) {
		more = realloc(mem, room);
		if (more == NULL) {
			got = -1;
			break;
		}
		mem = more;
		got = read(fd, mem + n, room - n);
		n += got > 0 ? (size_t)got : 0;
		room *= n == room ? 2 : 1;
	}
	if (got < 0 || n == 0) {
		(void)complain(EX_FAIL, "%s: %s", path, got < 0 ? strerror(errno) : "empty");
		free(mem);
		(void)close(fd);
		return EX_FAIL;
	}
	(void)close(fd);
	if (j->len != 0 && j->len < n)
		n = j->len;
	j->len = n;
	*buf = mem;
	return EX_OK;
}

static int write_output(const char *path, const void *buf, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	const char *p = buf;

	if (fd < 0)
		return complain(EX_FAIL, "%s: %s", path, strerror(errno));
	while (len != 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0) {
			(void)complain(EX_FAIL, "%s: %s", path, strerror(errno));
			(void)close(fd);
			return EX_FAIL;
		}
		p += n;
		len -= (size_t)n;
	}
	if (close(fd) != 0)
		return complain(EX_FAIL, "%s: %s", path, strerror(errno));
	return EX_OK;
}

static void print_ranges(const struct dma_xfer *x)
{
	size_t n;
	const struct pinfs_sg *sg = dma_xfer_sg(x, &n);

	for (size_t i = 0; i < n; i++)
		(void)printf("file offset %" PRIu64 " is device offset %" PRIu64 ", %" PRIu64 " bytes\n", sg[i].sg_foff,
			     sg[i].sg_doff, sg[i].sg_len);
	(void)fflush(stdout);
}

int cmd_run(int argc, char **argv)
{
	struct dma_engine *e = NULL;
	struct job_map map = { .base = NULL };
	struct dma_xfer *x = NULL;
	struct job_args a;
	struct dma_stat st;
	const char *why;
	void *buf = NULL;
	int status = job_parse(argc, argv, true, &a), fd = -1, err;

	if (status != EX_OK)
		return status;
	if (a.job.id == 0)
		a.job.id = (uint64_t)getpid();
	fd = open(a.file, job_open_flags(&a.job));
	if (fd < 0)
		return complain(EX_FAIL, "%s: %s", a.file, strerror(errno));
	if (a.in != NULL)
		status = read_input(a.in, &a.job, &buf);
	if (status != EX_OK)
		goto out_close;
	if (a.out != NULL) {
		/* The length must be known before the buffer is made; job_start() checks it against the size again. */
		off_t size = lseek(fd, 0, SEEK_END);

		if (a.job.len == 0 && size > 0 && (uint64_t)size > a.job.foff)
			a.job.len = (uint64_t)size - a.job.foff;
		buf = calloc(1, a.job.len != 0 ? a.job.len : 1);
		if (buf == NULL) {
			status = complain(EX_FAIL, "%s: %s", a.file, strerror(errno));
			goto out_close;
		}
	}
	err = dma_engine_start(&e);
	if (err != 0) {
		status = complain(EX_FAIL, "engine: %s", strerror(-err));
		goto out_free;
	}
	err = job_start(e, fd, &a.job, buf, NULL, NULL, &map, &x, &why);
	if (err != 0) {
		status = complain_start(a.file, why, err);
		goto out_free;
	}
	if (a.unmap) {		/* not under --mode odp: job_parse() */
		job_unmap(&map);
		(void)close(fd);
		fd = -1;
	}
	if (a.verbose)
		print_ranges(x);
	(void)dma_xfer_wait(x, DMA_NEVER);
	dma_xfer_stat(x, &st);
	dma_xfer_put(x);
	status = job_print(a.json, &a.job, &st);
	if (status == EX_OK && a.out != NULL)
		status = write_output(a.out, buf, st.ds_moved);
out_free:
	dma_engine_stop(e);
	job_unmap(&map);
	free(buf);
out_close:
	if (fd >= 0)
		(void)close(fd);
	return status;
}
