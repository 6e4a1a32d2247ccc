/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * job.c - from arguments to a transfer in the queue, and from a transfer to a line for people or JSON.
 */
#include "dmaemu/dmaemu.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <json-c/json.h>
#include <pinfs/ioctl.h>
#include <pinfs/types.h>
#include "lib/cli.h"
#include "lib/units.h"

#define ERRNO_MAX 200

const char *err_name(int err)
{
	const char *name = strerrorname_np(-err);

	return name != NULL ? name : "?";
}

int parse_size(const char *opt, const char *text, uint64_t *out)
{
	int err = cli_parse_bytes(text, out);

	return err == 0 ? EX_OK : complain(EX_USE, "--%s %s: not a size", opt, text);
}

int parse_time(const char *opt, const char *text, uint64_t *out)
{
	int err = units_parse_ns(text, out);

	return err == 0 ? EX_OK : complain(EX_USE, "--%s %s: not a time (ns, us, ms, s, m, h)", opt, text);
}

static int parse_errno(const char *text, int32_t *out)
{
	for (int e = 1; e < ERRNO_MAX; e++) {
		const char *name = strerrorname_np(e);

		if (name != NULL && strcmp(name, text) == 0) {
			*out = -e;
			return EX_OK;
		}
	}
	return complain(EX_USE, "--error-at: %s: no such error", text);
}

static int parse_error_at(char *text, struct job *j)
{
	char *colon = strchr(text, ':');
	int err = EX_OK;

	if (colon != NULL) {
		*colon = '\0';
		err = parse_errno(colon + 1, &j->error);
	}
	return err == EX_OK ? parse_size("error-at", text, &j->error_at) : err;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

static void set_label(struct job *j, const char *text, size_t from)
{
	memset(j->label, 0, DMA_LABEL);
	memcpy(j->label, text + from, strnlen(text + from, DMA_LABEL));
}

/* A name that is too long keeps its end: extensions and numbers tell files apart. */
static void default_label(struct job *j, const char *file)
{
	const char *name = base_name(file);
	size_t n = strlen(name);

	set_label(j, name, n > DMA_LABEL ? n - DMA_LABEL : 0);
}

const char *const job_owner_name[JOB_OWNER_NR] = { [JOB_DEVICE] = "device", [JOB_CLIENT] = "client",
						   [JOB_HANDOVER] = "handover" };

static int parse_name(const char *opt, const char *text, const char *const *name, uint32_t n, uint32_t *out)
{
	char list[128] = "";
	size_t used = 0;

	for (*out = 0; *out < n; ++*out) {
		if (strcmp(text, name[*out]) == 0)
			return EX_OK;
		used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", *out != 0 ? ", " : "", name[*out]);
	}
	return complain(EX_USE, "--%s %s: must be one of %s", opt, text, list);
}

static int parse_lease(const char *text, uint32_t *out)
{
	static const char *const name[] = { "read", "write", "unbreak" };
	static const uint32_t flags[] = { PINFS_LEASE_READ, PINFS_LEASE_WRITE, PINFS_LEASE_READ | PINFS_LEASE_UNBREAK };
	uint32_t i = 0;
	int err = parse_name("lease", text, name, 3, &i);

	if (err == EX_OK && i < PF_ARRAY_LEN(flags))
		*out = flags[i];
	return err;
}

int job_parse(int argc, char **argv, bool run, struct job_args *out)
{
	enum {
		O_WRITE = 256,
		O_VERIFY,
		O_OFFSET,
		O_LENGTH,
		O_ID,
		O_LABEL,
		O_MODE,
		O_DELAY,
		O_RATE,
		O_BURST,
		O_STOP,
		O_ERROR,
		O_JSON,
		O_SOCKET,
		O_WAIT,
		O_UNMAP,
		O_IN,
		O_OUT,
		O_SEED,
		O_JITTER,
		O_TEAR,
		O_LEASE,
		O_PHYS,
		O_DEAF,
		O_OWNER
	};
	static const struct option opts[] = {
		{ "write", no_argument, NULL, O_WRITE },
		{ "verify", no_argument, NULL, O_VERIFY },
		{ "offset", required_argument, NULL, O_OFFSET },
		{ "length", required_argument, NULL, O_LENGTH },
		{ "len", required_argument, NULL, O_LENGTH },
		{ "id", required_argument, NULL, O_ID },
		{ "pattern", required_argument, NULL, O_ID },
		{ "label", required_argument, NULL, O_LABEL },
		{ "mode", required_argument, NULL, O_MODE },
		{ "delay", required_argument, NULL, O_DELAY },
		{ "rate", required_argument, NULL, O_RATE },
		{ "burst", required_argument, NULL, O_BURST },
		{ "stop-at", required_argument, NULL, O_STOP },
		{ "error-at", required_argument, NULL, O_ERROR },
		{ "json", no_argument, NULL, O_JSON },
		{ "verbose", no_argument, NULL, 'v' },
		{ "socket", required_argument, NULL, O_SOCKET },
		{ "wait", no_argument, NULL, O_WAIT },
		{ "unmap", no_argument, NULL, O_UNMAP },
		{ "in", required_argument, NULL, O_IN },
		{ "out", required_argument, NULL, O_OUT },
		{ "seed", required_argument, NULL, O_SEED },
		{ "jitter", required_argument, NULL, O_JITTER },
		{ "tear", required_argument, NULL, O_TEAR },
		{ "lease", required_argument, NULL, O_LEASE },
		{ "direct", no_argument, NULL, O_PHYS },
		{ "deaf", no_argument, NULL, O_DEAF },
		{ "owner", required_argument, NULL, O_OWNER },
		{ NULL, 0, NULL, 0 },
	};
	struct job_args a = {
		.job = { .stop_at = DMA_NEVER, .error_at = DMA_NEVER, .error = -EIO, .dir = DMA_FROM_DEVICE,
			 .tear_ns = DMA_NEVER, .lease = PINFS_LEASE_READ }
	};
	struct job *j = &a.job;
	bool labelled = false;
	int c, err = EX_OK;

	optind = 1;
	while (err == EX_OK && (c = getopt_long(argc, argv, "v", opts, NULL)) != -1) {
		switch (c) {
		case O_WRITE: j->dir = DMA_FROM_DEVICE; break;
		case O_VERIFY: j->dir = DMA_TO_DEVICE; break;
		case O_OFFSET: err = parse_size("offset", optarg, &j->foff); break;
		case O_LENGTH:
			err = parse_size("length", optarg, &j->len);
			if (err == EX_OK && j->len == 0)
				err = complain(EX_USE, "--length 0: nothing to transfer");
			break;
		case O_ID: err = parse_size("id", optarg, &j->id); break;
		case O_LABEL:
			set_label(j, optarg, 0);
			labelled = true;
			break;
		case O_MODE: err = parse_name("mode", optarg, dma_mode_name, DMA_MODE_NR, &j->mode); break;
		case O_OWNER: err = parse_name("owner", optarg, job_owner_name, JOB_OWNER_NR, &j->owner); break;
		case O_LEASE: err = parse_lease(optarg, &j->lease); break;
		case O_PHYS: j->direct = true; break;
		case O_DEAF: j->deaf = true; break;
		case O_SEED: err = parse_size("seed", optarg, &j->seed); break;
		case O_JITTER: err = parse_time("jitter", optarg, &j->jitter_ns); break;
		case O_TEAR: err = parse_time("tear", optarg, &j->tear_ns); break;
		case O_DELAY: err = parse_time("delay", optarg, &j->delay_ns); break;
		case O_RATE: err = parse_size("rate", optarg, &j->rate); break;
		case O_BURST: err = parse_size("burst", optarg, &j->burst); break;
		case O_STOP: err = parse_size("stop-at", optarg, &j->stop_at); break;
		case O_ERROR: err = parse_error_at(optarg, j); break;
		case O_JSON: a.json = true; break;
		case 'v': a.verbose = true; break;
		case O_SOCKET: a.socket = optarg; break;
		case O_WAIT: a.wait = true; break;
		case O_UNMAP: a.unmap = true; break;
		case O_IN: a.in = optarg; break;
		case O_OUT: a.out = optarg; break;
		default: return EX_USE;
		}
	}
	if (err != EX_OK)
		return err;
	if (optind + 1 != argc)
		return complain(EX_USE, optind == argc ? "which file?" : "%s: one file at a time", argv[argc - 1]);
	if (run && (a.socket != NULL || a.wait))
		return complain(EX_USE, "--socket and --wait belong to submit");
	if (!run && (a.socket == NULL || a.unmap || a.in != NULL || a.out != NULL))
		return complain(EX_USE,
				a.socket == NULL ? "submit needs --socket" : "--unmap, --in and --out belong to run");
	if (run && j->owner != JOB_DEVICE)
		return complain(EX_USE, "--owner belongs to submit");
	if (j->owner == JOB_CLIENT && (j->mode == DMA_RAW || j->mode == DMA_ODP || j->direct))
		return complain(EX_USE, "--owner client: needs --mode pin, long or lease, and the IOMMU");
	if (j->owner == JOB_HANDOVER && (j->mode != DMA_LEASE || j->direct))
		return complain(EX_USE, "--owner handover: only a lease is handed over, --mode lease");
	if ((j->deaf || j->lease != PINFS_LEASE_READ) && j->mode != DMA_LEASE)
		return complain(EX_USE, "--deaf and --lease go with --mode lease");
	if (a.unmap && j->mode == DMA_ODP)
		return complain(EX_USE, "--unmap: --mode odp asks for pages of the mapping");
	if (j->direct && j->mode == DMA_ODP)
		return complain(EX_USE, "--direct: --mode odp is nothing without the IOMMU");
	if (j->jitter_ns != 0 && j->seed == 0)
		return complain(EX_USE, "--jitter needs --seed");
	if (j->tear_ns != DMA_NEVER && j->dir == DMA_TO_DEVICE)
		return complain(EX_USE, "--tear: only what is written can be torn");
	if (a.in != NULL && a.out != NULL)
		return complain(EX_USE, "--in or --out, not both");
	if (a.out != NULL)
		j->dir = DMA_TO_DEVICE;
	if (a.in != NULL && j->dir != DMA_FROM_DEVICE)
		return complain(EX_USE, "--in with --verify: which way?");
	a.file = argv[optind];
	(void)snprintf(j->name, sizeof j->name, "%s", a.file);
	if (!labelled)
		default_label(j, a.file);
	*out = a;
	return EX_OK;
}

int complain_start(const char *file, const char *why, int err)
{
	if (strchr(why, ' ') != NULL)
		return complain(EX_FAIL, "%s: %s", file, why);
	return complain(EX_FAIL, "%s: %s: %s", file, why, strerror(-err));
}

int job_open_flags(const struct job *j)
{
	return (j->dir == DMA_FROM_DEVICE ? O_RDWR : O_RDONLY) | O_CLOEXEC;
}

void job_unmap(struct job_map *map)
{
	if (map->base != NULL)
		(void)munmap(map->base, map->len);
	map->base = NULL;
}

int job_check(int fd, struct job *j, const char **why)
{
	struct pinfs_sock sock;
	struct stat st;

	*why = "stat";
	if (fstat(fd, &st) != 0)
		return -errno;
	*why = "not a regular file";
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	*why = "not on a pinfs mount";
	if (ioctl(fd, PINFS_IOC_SOCK, &sock) != 0)
		return -errno;
	*why = "range beyond the end of the file";
	if (j->foff >= (uint64_t)st.st_size || (j->len != 0 && !pf_range_ok(j->foff, j->len, (uint64_t)st.st_size)))
		return -EFAULT;
	if (j->len == 0)
		j->len = (uint64_t)st.st_size - j->foff;
	return 0;
}

int job_map(int fd, const struct job *j, struct job_map *map, char **addr, const char **why)
{
	uint64_t in_page = j->foff & (PF_BLK_SIZE - 1);
	void *base;

	*why = "mmap";
	base = mmap(NULL, in_page + j->len, j->dir == DMA_FROM_DEVICE ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
		    fd, (off_t)(j->foff - in_page));
	if (base == MAP_FAILED)
		return -errno;
	map->base = base;
	map->len = in_page + j->len;
	*addr = (char *)base + in_page;
	return 0;
}

struct dma_desc job_desc(const struct job *j)
{
	struct dma_desc d = dma_desc_init((enum dma_dir)j->dir);

	d.pat.dp_id = j->id;
	memcpy(d.pat.dp_label, j->label, DMA_LABEL);
	d.delay_ns = j->delay_ns;
	d.rate = j->rate;
	d.burst = j->burst;
	d.stop_at = j->stop_at;
	d.error_at = j->error_at;
	d.error = j->error;
	d.seed = j->seed;
	d.jitter_ns = j->jitter_ns;
	d.tear = j->tear_ns != DMA_NEVER;
	d.tear_ns = j->tear_ns;
	return d;
}

struct dma_how job_how(const struct job *j)
{
	return (struct dma_how){ .mode = (enum dma_mode)j->mode, .direct = j->direct, .deaf = j->deaf,
				 .lease = j->lease };
}

int job_start(struct dma_engine *e, int fd, struct job *j, void *buf, void (*done)(void *, const struct dma_stat *),
	      void *arg, struct job_map *map, struct dma_xfer **out, const char **why)
{
	const struct dma_how how = job_how(j);
	struct dma_desc d;
	char *addr = NULL;
	int err = job_check(fd, j, why);

	if (err == 0)
		err = job_map(fd, j, map, &addr, why);
	if (err != 0)
		return err;
	d = job_desc(j);
	d.buf = buf;
	d.done = done;
	d.arg = arg;
	*why = j->mode == DMA_LEASE ? "lease" : "pin";
	err = dma_submit_window(e, addr, j->len, &how, &d, out);
	if (err != 0)
		job_unmap(map);
	return err;
}

/* "/x/f: inode 12, offset 4096: translation revoked (bus address 0x100000000)" */
static void print_fault(const struct job *j, const struct dma_fault *f)
{
	(void)printf("  IOMMU: %s: bus address 0x%" PRIx64 ", ", dma_fault_name[f->df_why], f->df_iova);
	if (f->df_ino != 0)
		(void)printf("offset %" PRIu64 " of inode %" PRIu64 ", %s\n", f->df_foff, f->df_ino, j->name);
	else
		(void)printf("nothing is there\n");
}

static void print_json(const struct job *j, const struct dma_stat *st)
{
	struct json_object *o = json_object_new_object(), *m;

	json_object_object_add(o, "id", json_object_new_uint64(j->id));
	json_object_object_add(o, "file", json_object_new_string(j->name));
	json_object_object_add(o, "offset", json_object_new_uint64(j->foff));
	json_object_object_add(o, "length", json_object_new_uint64(j->len));
	json_object_object_add(o, "mode", json_object_new_string(dma_mode_name[j->mode]));
	json_object_object_add(o, "direction", json_object_new_string(dma_dir_name[j->dir]));
	json_object_object_add(o, "state", json_object_new_string(dma_state_name[st->ds_state]));
	json_object_object_add(o, "moved", json_object_new_uint64(st->ds_moved));
	json_object_object_add(o, "submit_ns", json_object_new_uint64(st->ds_submit_ns));
	json_object_object_add(o, "start_ns", json_object_new_uint64(st->ds_start_ns));
	json_object_object_add(o, "end_ns", json_object_new_uint64(st->ds_end_ns));
	json_object_object_add(o, "error", st->ds_err != 0 ? json_object_new_string(err_name(st->ds_err)) : NULL);
	if (j->seed != 0)
		json_object_object_add(o, "seed", json_object_new_uint64(j->seed));
	if (st->ds_fault.df_why != DMA_FAULT_NONE && st->ds_fault.df_why < DMA_FAULT_NR) {
		m = json_object_new_object();
		json_object_object_add(m, "reason", json_object_new_string(dma_fault_name[st->ds_fault.df_why]));
		json_object_object_add(m, "iova", json_object_new_uint64(st->ds_fault.df_iova));
		json_object_object_add(m, "inode", json_object_new_uint64(st->ds_fault.df_ino));
		json_object_object_add(m, "offset", json_object_new_uint64(st->ds_fault.df_foff));
		json_object_object_add(o, "fault", m);
	}
	if (st->ds_err == -EBADMSG) {
		m = json_object_new_object();
		json_object_object_add(m, "offset", json_object_new_uint64(st->ds_miss.dm_foff));
		if (st->ds_miss.dm_foreign) {
			json_object_object_add(m, "id", json_object_new_uint64(st->ds_miss.dm_line.dr_id));
			json_object_object_add(m, "inode", json_object_new_uint64(st->ds_miss.dm_line.dr_ino));
			json_object_object_add(m, "meant_for", json_object_new_uint64(st->ds_miss.dm_line.dr_foff));
			json_object_object_add(m, "label", json_object_new_string(st->ds_miss.dm_line.dr_label));
		}
		json_object_object_add(o, "mismatch", m);
	}
	(void)puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	(void)json_object_put(o);
}

static void print_text(const struct job *j, const struct dma_stat *st)
{
	const struct dma_miss *m = &st->ds_miss;
	char took[32];

	(void)printf("transfer %" PRIu64 " (%s, %s): %" PRIu64 " of %" PRIu64 " bytes of %s at offset %" PRIu64, j->id,
		     dma_mode_name[j->mode], dma_dir_name[j->dir], st->ds_moved, j->len, j->name, j->foff);
	if (st->ds_state != DMA_DONE)
		(void)printf(", %s", dma_state_name[st->ds_state]);
	else
		(void)printf(", %s after %s", st->ds_err == 0 ? "done" : err_name(st->ds_err),
			     units_show_ns(st->ds_end_ns - st->ds_submit_ns, took, sizeof took));
	(void)putchar('\n');
	if (st->ds_err != 0 && j->seed != 0)
		(void)printf("  the same schedule again: --seed %" PRIu64 "\n", j->seed);
	if (st->ds_fault.df_why != DMA_FAULT_NONE && st->ds_fault.df_why < DMA_FAULT_NR)
		print_fault(j, &st->ds_fault);
	if (st->ds_err != -EBADMSG)
		return;
	if (m->dm_foreign)
		(void)printf("  at offset %" PRIu64 " lies transfer %" PRIu64 " (\"%s\"), meant for inode %" PRIu64
			     " offset %" PRIu64 "\n",
			     m->dm_foff, m->dm_line.dr_id, m->dm_line.dr_label, m->dm_line.dr_ino, m->dm_line.dr_foff);
	else
		(void)printf("  at offset %" PRIu64 " is %02x, should be %02x\n", m->dm_foff, m->dm_got, m->dm_want);
}

int job_print(bool json, const struct job *j, const struct dma_stat *st)
{
	if (json)
		print_json(j, st);
	else
		print_text(j, st);
	(void)fflush(stdout);
	return st->ds_err == 0 ? EX_OK : EX_WRONG;
}
