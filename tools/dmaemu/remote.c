/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote.c - transfers of `submit` whose blocks the submitter holds, or hands over: what goes through the socket, and
 * what the device makes of it.
 *
 * Of a client's pin the device gets the device's descriptor, the client's ledger and the pieces; it counts its accesses
 * in that ledger. The descriptor is kept until the transfer has ended: as long as it is open, blocks of a client that
 * has died are nobody else's. Of a lease it gets the lease, and the pins with it, and is the holder from then on.
 */
#include "dmaemu/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pinfs/types.h>

/* The client's end */

static int pieces_file(const struct pinfs_pin *pin, uint64_t *npiece, int *out)
{
	size_t n = 0;
	struct pinfs_dma *piece = NULL;
	int fd, err = pinfs_pin_dma(pin, NULL, &n);

	if (err == -E2BIG) {
		piece = calloc(n, sizeof *piece);
		err = piece != NULL ? pinfs_pin_dma(pin, piece, &n) : -ENOMEM;
	}
	fd = err == 0 ? memfd_create("dmaemu", MFD_CLOEXEC) : -1;
	if (err == 0 && (fd < 0 || write(fd, piece, n * sizeof *piece) != (ssize_t)(n * sizeof *piece)))
		err = -errno;
	free(piece);
	if (err != 0 && fd >= 0)
		(void)close(fd);
	*npiece = n;
	*out = fd;
	return err;
}

static int make_pin(struct remote *r, char *addr, const struct job *j, const char **why)
{
	unsigned int flags = j->dir == DMA_FROM_DEVICE ? PINFS_PIN_WRITE : 0;
	int err = 0;

	if (j->mode == DMA_LONG || j->mode == DMA_LEASE)
		flags |= PINFS_PIN_LONGTERM;
	*why = "lease";
	if (j->mode == DMA_LEASE)
		err = pinfs_lease_take_window(addr, j->len, j->lease, &r->lease);
	if (err != 0)
		return err;
	*why = "pin";
	return pinfs_pin(addr, j->len, flags, &r->pin);
}

int remote_give(struct remote *r, int file, struct wire_req *req, int fds[WIRE_FDS], const char **why)
{
	struct pinfs_pin_info info;
	char *addr;
	int err = job_check(file, &req->job, why);

	for (int i = 0; i < WIRE_FDS; i++)
		fds[i] = -1;
	if (err == 0)
		err = job_map(file, &req->job, &r->map, &addr, why);
	if (err == 0)
		err = make_pin(r, addr, &req->job, why);
	if (err == 0)
		err = pinfs_pin_query(r->pin, &info);
	if (err != 0)
		return err;
	req->ino = info.pi_ino;
	*why = "descriptors";
	fds[0] = fcntl(file, F_DUPFD_CLOEXEC, 0);
	if (req->job.owner == JOB_HANDOVER)
		return pinfs_lease_export(r->lease, &fds[1]);
	fds[1] = pinfs_device(addr);
	fds[2] = fds[1] >= 0 ? pinfs_ledger_fd(addr) : fds[1];
	return fds[2] >= 0 ? pieces_file(r->pin, &req->npiece, &fds[3]) : fds[2];
}

void remote_close(struct remote *r)
{
	if (r->pin != NULL)
		(void)pinfs_unpin(r->pin);
	if (r->lease != NULL)
		(void)pinfs_lease_drop(r->lease);
	job_unmap(&r->map);
	*r = (struct remote){ .pin = NULL };
}

/* The device's end */

struct guest {
	struct dma_engine *e;
	struct dma_dev *dev;
	struct pf_l_hdr *ledger;
	size_t ledger_len;
	uint64_t iova;
	int fd;				/* the device, as the client has it */
	struct pinfs_pin **pin;		/* handed over */
	size_t npin;
	struct pinfs_lease *lease;
};

static void guest_release(void *hold)
{
	struct guest *g = hold;

	if (g->iova != 0)
		(void)dma_iommu_unmap(g->e, g->iova);
	for (size_t i = 0; i < g->npin; i++)
		(void)pinfs_unpin(g->pin[i]);
	free(g->pin);
	if (g->lease != NULL)
		(void)pinfs_lease_drop(g->lease);
	if (g->ledger != NULL)
		(void)munmap(g->ledger, g->ledger_len);
	dma_dev_put(g->dev);
	if (g->fd >= 0)
		(void)close(g->fd);
	free(g);
}

static int read_pieces(int fd, uint64_t n, struct pinfs_dma **out)
{
	struct stat st;
	size_t bytes;
	int err = 0;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (n == 0 || n > WIRE_PIECES_MAX || (uint64_t)st.st_size != n * sizeof **out)
		return -EINVAL;
	bytes = (size_t)n * sizeof **out;
	*out = malloc(bytes);
	if (*out == NULL)
		return -ENOMEM;
	if (pread(fd, *out, bytes, 0) != (ssize_t)bytes) {
		free(*out);
		*out = NULL;
		err = -EIO;
	}
	return err;
}

/* A ledger that could shrink would be our SIGBUS. */
static int map_ledger(struct guest *g, int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
		return -EINVAL;
	return dma_ledger_map(fd, &g->ledger, &g->ledger_len);
}

/* The pins that come with a lease: *piece, *n of the only one there is. */
static int import(struct guest *g, int fd, const char *addr, struct pinfs_dma **piece, uint64_t *n)
{
	size_t room = 0;
	int led, err = pinfs_lease_import(fd, &g->lease, NULL, &room);

	if (err == -E2BIG) {
		g->pin = calloc(room, sizeof(struct pinfs_pin *));
		err = g->pin != NULL ? pinfs_lease_import(fd, &g->lease, g->pin, &room) : -ENOMEM;
	}
	if (err != 0)
		return err;
	g->npin = room;
	if (room != 1)
		return -EINVAL;
	room = 0;
	err = pinfs_pin_dma(g->pin[0], NULL, &room);
	*piece = err == -E2BIG ? calloc(room, sizeof **piece) : NULL;
	if (*piece != NULL)
		err = pinfs_pin_dma(g->pin[0], *piece, &room);
	*n = room;
	g->fd = err == 0 ? pinfs_device(addr) : -1;
	led = g->fd >= 0 ? pinfs_ledger_fd(addr) : -1;
	if (err == 0)
		err = g->fd < 0 ? g->fd : led < 0 ? led : dma_ledger_map(led, &g->ledger, &g->ledger_len);
	if (led >= 0)
		(void)close(led);
	return err;
}

int remote_take(struct dma_engine *e, const struct wire_req *req, const struct job *j, const int fds[WIRE_FDS],
		const char *addr, struct dma_xfer **out, const char **why)
{
	struct guest *g = calloc(1, sizeof *g);
	struct dma_map m = { .ino = req->ino, .foff = j->foff, .len = j->len, .write = j->dir == DMA_FROM_DEVICE };
	struct dma_desc d = job_desc(j);
	struct pinfs_dma *piece = NULL;
	uint64_t n = req->npiece;
	int err;

	if (g == NULL)
		return -ENOMEM;
	g->e = e;
	g->fd = -1;
	*why = j->owner == JOB_HANDOVER ? "hand-over" : "pieces";
	if (j->owner == JOB_HANDOVER) {
		err = import(g, fds[1], addr, &piece, &n);
	} else {
		g->fd = fcntl(fds[1], F_DUPFD_CLOEXEC, 0);
		err = g->fd < 0 ? -errno : map_ledger(g, fds[2]);
		if (err == 0)
			err = read_pieces(fds[3], n, &piece);
	}
	if (err == 0)
		err = dma_dev_get(e, g->fd, &g->dev);
	m.dev = g->dev;
	m.ledger = g->ledger;
	m.piece = piece;
	m.npiece = (size_t)n;
	if (err == 0)
		err = dma_iommu_map(e, &m, &g->iova);
	free(piece);
	d.iova = g->iova;
	d.len = j->len;
	d.pat.dp_ino = req->ino;
	d.pat.dp_foff = j->foff;
	d.release = guest_release;
	d.hold = g;
	if (err == 0)
		err = dma_submit(e, NULL, &d, out);
	if (err != 0)
		guest_release(g);
	return err;
}
