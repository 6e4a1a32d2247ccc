/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mkfs.pinfs.c - the command line of mkfs: checks what is there, creates or resizes the file, calls pf_mkfs().
 *
 * Holds the exclusive flock on the device from before the first look at it to the end, so what was checked is
 * what is overwritten.
 */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "lib/cli.h"
#include "media/mkfs.h"
#include "media/pmem.h"
#include "media/super.h"
#include "op/op.h"
#include "space/bad.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct args {
	const char *device;
	uint64_t size;		/* 0: as it is */
	const char *bad;	/* file with the numbers of bad blocks */
	bool force;
	struct pf_mkfs mkfs;
};

static const char usage_text[] =
	"usage: mkfs.pinfs [-f] [-s SIZE] [-L LABEL] [-U UUID] [-l FILE] DEVICE\n"
	"  -f         overwrite a filesystem, resize an existing file\n"
	"  -s SIZE    create DEVICE as a regular file of SIZE bytes (K, M, G, T; 16M to 16T)\n"
	"  -L LABEL   at most 32 bytes\n"
	"  -U UUID    instead of a random one\n"
	"  -l FILE    blocks never to be used, by number: one, or FIRST-LAST, a line\n"
	"  -h, -V     this text; the version\n";

static int usage(void)
{
	(void)fputs(usage_text, stderr);
	return EXIT_USAGE;
}

/* 0, or the exit status + 1. */
static int parse(int argc, char **argv, struct args *a)
{
	int c;

	while ((c = getopt(argc, argv, "fs:L:U:l:hV")) != -1) {
		switch (c) {
		case 'f':
			a->force = true;
			break;
		case 's':
			if (cli_parse_bytes(optarg, &a->size) != 0 || a->size < PF_DEV_MIN || a->size > PF_DEV_MAX ||
			    a->size % PF_BLK_SIZE != 0) {
				cli_error("%s: not a size from 16M to 16T in multiples of 4096 bytes", optarg);
				return EXIT_USAGE + 1;
			}
			break;
		case 'L':
			if (strlen(optarg) > 32) {
				cli_error("%s: a label has at most 32 bytes", optarg);
				return EXIT_USAGE + 1;
			}
			(void)snprintf(a->mkfs.label, sizeof a->mkfs.label, "%s", optarg);
			break;
		case 'U':
			if (cli_parse_uuid(optarg, a->mkfs.uuid) != 0) {
				cli_error("%s: not a UUID", optarg);
				return EXIT_USAGE + 1;
			}
			break;
		case 'l':
			a->bad = optarg;
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			return EXIT_SUCCESS + 1;
		case 'V':
			(void)printf("mkfs.pinfs %s, format %d.%d\n", PINFS_VERSION, PINFS_MEDIA_MAJOR,
				     PINFS_MEDIA_MINOR);
			return EXIT_SUCCESS + 1;
		default:
			return usage() + 1;
		}
	}
	if (optind != argc - 1)
		return usage() + 1;
	a->device = argv[optind];
	return 0;
}

/* Something else's filesystem, RAID member, partition table: what libblkid calls it. False: nothing known. */
static bool other_filesystem(int fd, char *name, size_t room)
{
	const char *type = NULL;
	bool found = false;
	blkid_probe pr = blkid_new_probe();

	if (pr == NULL)
		return false;
	if (blkid_probe_set_device(pr, fd, 0, 0) == 0) {
		(void)blkid_probe_enable_superblocks(pr, 1);
		(void)blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE);
		(void)blkid_probe_enable_partitions(pr, 1);
		switch (blkid_do_safeprobe(pr)) {
		case 0:
			if (blkid_probe_lookup_value(pr, "TYPE", &type, NULL) != 0 &&
			    blkid_probe_lookup_value(pr, "PTTYPE", &type, NULL) != 0)
				type = "some";
			found = true;
			break;
		case -2:
			type = "more than one";
			found = true;
			break;
		default:
			break;
		}
	}
	if (found)
		(void)snprintf(name, room, "%s", type);
	blkid_free_probe(pr);
	return found;
}

static bool super_at(int fd, off_t off)
{
	pf_le64 magic;

	return off >= 0 && pread(fd, &magic, sizeof magic, off) == (ssize_t)sizeof magic &&
	       pf_get64(magic) == PF_MAGIC_SUPER;
}

/* Regular files only; a DAX device cannot be read(2), so make() looks once it is mapped. */
static bool holds_filesystem(int fd, off_t size, char *name, size_t room)
{
	if (super_at(fd, 0) || super_at(fd, (size & ~((off_t)PF_BLK_SIZE - 1)) - (off_t)PF_BLK_SIZE)) {
		(void)snprintf(name, room, "a pinfs");
		return true;
	}
	return other_filesystem(fd, name, room);
}

static void say_in_use(const char *device)
{
	char who[512];

	pf_pm_holders(device, who, sizeof who);
	cli_error("%s: in use%s%s", device, who[0] ? " by " : "", who);
}

/* Open or create, lock, look, resize. The descriptor, or -1 after an error line. *created: remove it on failure. */
static int prepare(const struct args *a, bool *created)
{
	char name[64];
	struct stat st;
	int fd;

	*created = false;
	fd = open(a->device, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT && a->size != 0) {
		fd = open(a->device, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		*created = fd >= 0;
	}
	if (fd < 0) {
		cli_error("%s: %s%s", a->device, strerror(errno),
			  errno == ENOENT && a->size == 0 ? " (-s SIZE creates it)" : "");
		return -1;
	}
	if (pf_pm_lock(fd) != 0) {
		say_in_use(a->device);
		goto fail;
	}
	if (fstat(fd, &st) != 0) {
		cli_error("%s: %s", a->device, strerror(errno));
		goto fail;
	}
	if (a->size != 0 && !S_ISREG(st.st_mode)) {
		cli_error("%s: -s is for regular files", a->device);
		goto fail;
	}
	if (!a->force && S_ISREG(st.st_mode) && holds_filesystem(fd, st.st_size, name, sizeof name)) {
		cli_error("%s: holds %s filesystem; -f overwrites it", a->device, name);
		goto fail;
	}
	if (a->size != 0 && (uint64_t)st.st_size != a->size) {
		if (st.st_size != 0 && !a->force) {
			cli_error("%s: is %jd bytes long; -f resizes it", a->device, (intmax_t)st.st_size);
			goto fail;
		}
		if (ftruncate(fd, (off_t)a->size) != 0) {
			cli_error("%s: cannot make it %" PRIu64 " bytes long: %s", a->device, a->size, strerror(errno));
			goto fail;
		}
	}
	return fd;
fail:
	if (*created)
		(void)unlink(a->device);
	(void)close(fd);
	return -1;
}

/*
 * A store into a sparse file on a full filesystem is a SIGBUS, so ask for the metadata's space first. What cannot be
 * asked (a DAX device, a filesystem without fallocate) goes on.
 */
static int claim_space(int fd, uint64_t bytes)
{
	struct pf_sb_geom g;

	pf_sb_geometry(bytes / PF_BLK_SIZE, &g);
	if (fallocate(fd, 0, 0, (off_t)((g.iclu0_blk + PF_ICLU_BLKS) * PF_BLK_SIZE)) != 0 && errno == ENOSPC)
		return -ENOSPC;
	if (fallocate(fd, 0, (off_t)(bytes - PF_BLK_SIZE), (off_t)PF_BLK_SIZE) != 0 && errno == ENOSPC)
		return -ENOSPC;
	return 0;
}

static void summary(const struct args *a, const struct pf_pm *pm)
{
	char uuid[37];

	(void)printf("%s: pinfs %d.%d, %" PRIu64 " MiB, %" PRIu64 " blocks of %" PRIu64 " bytes, %" PRIu64 " free\n",
		     a->device, PINFS_MEDIA_MAJOR, PINFS_MEDIA_MINOR, pm->bytes >> 20, a->mkfs.nblk, PF_BLK_SIZE,
		     a->mkfs.free);
	(void)printf("uuid %s, label \"%s\", %" PRIu32 " journal lanes, durable by %s\n",
		     cli_show_uuid(a->mkfs.uuid, uuid), a->mkfs.label, a->mkfs.nlane,
		     pm->mode == PF_PMEM_CPU ? "cpu flushes" : "msync");
}

/* One line of -l's file. */
static int bad_line(struct pf_fs *fs, const struct args *a, char *line, unsigned int nr)
{
	uint64_t first, n, changed;
	int err;

	line += strspn(line, " \t");
	line[strcspn(line, "#\n")] = '\0';
	for (size_t len = strlen(line); len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'); len--)
		line[len - 1] = '\0';
	if (line[0] == '\0')
		return 0;
	if (cli_parse_blocks(line, &first, &n) != 0) {
		cli_error("%s:%u: %s: neither a block nor FIRST-LAST", a->bad, nr, line);
		return -EINVAL;
	}
	/* Nothing of the fixed part can lie elsewhere. */
	if (first < fs->iclu0_blk + PF_ICLU_BLKS || !pf_range_ok(first, n, fs->nblk - 1)) {
		cli_error("%s:%u: %s: not among the blocks %" PRIu64 " to %" PRIu64 ", which alone may be bad", a->bad,
			  nr, line, fs->iclu0_blk + PF_ICLU_BLKS, fs->nblk - 2);
		return -EINVAL;
	}
	err = pf_bad_add(fs, first, n, &changed);
	if (err != 0)
		cli_error("%s:%u: %s: %s", a->bad, nr, line, strerror(-err));
	return err;
}

static int add_bad(struct args *a, struct pf_pm *pm)
{
	const struct pf_opts opts = { .pmem = PF_PMEM_AUTO, .window = PF_CHUNK_SIZE };
	struct pf_mount_info info;
	FILE *f = fopen(a->bad, "re");
	unsigned int nr = 0;
	struct pf_space sp;
	char line[256];
	struct pf_fs *fs;
	int err;

	if (f == NULL) {
		err = -errno;
		cli_error("%s: %s", a->bad, strerror(errno));
		return err;
	}
	err = pf_fs_mount_pm(pm, &opts, &fs, &info);
	if (err != 0) {
		cli_error("%s: %s", a->device, info.why);
		(void)fclose(f);
		return err;
	}
	while (err == 0 && fgets(line, sizeof line, f) != NULL)
		err = bad_line(fs, a, line, ++nr);
	pf_alloc_stat(fs, &sp);
	a->mkfs.free = sp.free + sp.kept;
	pf_fs_unmount_pm(fs);
	(void)fclose(f);
	return err;
}

/* @fd keeps the lock; the mapping is opened through it, so a rename in between changes nothing. */
static int make(struct args *a, int fd)
{
	char self[64];
	struct pf_pm *pm = NULL;
	int err;

	(void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	err = pf_pm_open(self, PF_PMEM_AUTO, false, false, &pm);
	if (err != 0) {
		cli_error("%s: %s", a->device, pf_pm_why());
		return err;
	}
	if (!a->force && pf_get64(((const struct pf_d_super *)pf_pm_at(pm, 0))->sb_magic) == PF_MAGIC_SUPER) {
		cli_error("%s: holds a pinfs filesystem; -f overwrites it", a->device);
		err = -EEXIST;
		goto out;
	}
	err = claim_space(fd, pm->bytes);
	if (err == 0)
		err = pf_mkfs(pm, &a->mkfs);
	if (err != 0)
		cli_error("%s: %s", a->device, strerror(-err));
	if (err == 0 && a->bad != NULL) {
		err = add_bad(a, pm);
		/* Half of what was asked for is nothing. */
		if (err != 0) {
			pf_pm_zero(pm, 0, PF_BLK_SIZE);
			pf_pm_zero(pm, pm->bytes - PF_BLK_SIZE, PF_BLK_SIZE);
			(void)!pf_pm_drain(pm);
		}
	}
	if (err == 0)
		summary(a, pm);
out:
	pf_pm_close(pm);
	return err;
}

int main(int argc, char **argv)
{
	struct args a = { .mkfs = { .uid = getuid(), .gid = getgid() } };
	bool created;
	int fd, status;

	status = parse(argc, argv, &a);
	if (status != 0)
		return status - 1;
	fd = prepare(&a, &created);
	if (fd < 0)
		return EXIT_FAILED;
	status = make(&a, fd) == 0 ? EXIT_SUCCESS : EXIT_FAILED;
	if (status != EXIT_SUCCESS && created)
		(void)unlink(a.device);
	(void)close(fd);
	return status;
}
