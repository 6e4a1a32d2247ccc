/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verify.c - `dmaemu verify`: read a file as anybody would, and say which transfers' bytes lie in it, and whether
 * they belong there.
 */
#include "dmaemu/dmaemu.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <json-c/json.h>
#include <pinfs/types.h>

struct args {
	const char *file;
	uint64_t id, foff, len;
	bool one, json;
};

struct report {
	uint64_t ino;
	bool json;
	uint64_t own, foreign;		/* bytes */
	struct json_object *runs;
};

static bool show_run(void *arg, const struct dma_run *run)
{
	struct report *r = arg;
	bool foreign = run->dr_ino != r->ino || run->dr_foff != run->dr_pos;
	struct json_object *o;

	*(foreign ? &r->foreign : &r->own) += run->dr_len;
	if (r->json) {
		o = json_object_new_object();
		json_object_object_add(o, "offset", json_object_new_uint64(run->dr_pos));
		json_object_object_add(o, "length", json_object_new_uint64(run->dr_len));
		json_object_object_add(o, "id", json_object_new_uint64(run->dr_id));
		json_object_object_add(o, "label", json_object_new_string(run->dr_label));
		json_object_object_add(o, "inode", json_object_new_uint64(run->dr_ino));
		json_object_object_add(o, "meant_for", json_object_new_uint64(run->dr_foff));
		json_object_object_add(o, "foreign", json_object_new_boolean(foreign));
		(void)json_object_array_add(r->runs, o);
	} else {
		(void)printf("offset %" PRIu64 ", %" PRIu64 " bytes: transfer %" PRIu64 " (\"%s\")", run->dr_pos,
			     run->dr_len, run->dr_id, run->dr_label);
		if (foreign)
			(void)printf(", FOREIGN: meant for inode %" PRIu64 " offset %" PRIu64, run->dr_ino,
				     run->dr_foff);
		(void)putchar('\n');
	}
	return true;
}

/* Every pattern line of the file, each judged by whether it says that it belongs where it lies. */
static int survey(int fd, const struct args *a)
{
	struct report r = { .json = a->json };
	struct json_object *o;
	struct stat st;
	int err;

	if (fstat(fd, &st) != 0)
		return complain(EX_FAIL, "%s: %s", a->file, strerror(errno));
	r.ino = (uint64_t)st.st_ino;
	r.runs = a->json ? json_object_new_array() : NULL;
	err = dma_scan_fd(fd, show_run, &r, NULL);
	if (err != 0) {
		(void)json_object_put(r.runs);
		return complain(EX_FAIL, "%s: %s", a->file, strerror(-err));
	}
	if (a->json) {
		o = json_object_new_object();
		json_object_object_add(o, "file", json_object_new_string(a->file));
		json_object_object_add(o, "inode", json_object_new_uint64(r.ino));
		json_object_object_add(o, "own_bytes", json_object_new_uint64(r.own));
		json_object_object_add(o, "foreign_bytes", json_object_new_uint64(r.foreign));
		json_object_object_add(o, "runs", r.runs);
		(void)puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		(void)json_object_put(o);
	} else {
		(void)printf("%s: %" PRIu64 " bytes of DMA in place, %" PRIu64 " foreign\n", a->file, r.own, r.foreign);
	}
	return r.foreign == 0 ? EX_OK : EX_WRONG;
}

struct finder {
	uint64_t id, ino, from, to;
	struct dma_pat pat;
	bool found;
};

/* The label is not known to a verifier; the first whole line of the transfer tells it. */
static bool find_label(void *arg, const struct dma_run *run)
{
	struct finder *f = arg;

	if (run->dr_id != f->id || run->dr_pos + run->dr_len <= f->from || run->dr_pos >= f->to)
		return true;
	memcpy(f->pat.dp_label, run->dr_label, DMA_LABEL);
	f->found = true;
	return false;
}

static int report_one(const struct args *a, bool right, const struct dma_miss *m)
{
	struct json_object *o;

	if (a->json) {
		o = json_object_new_object();
		json_object_object_add(o, "file", json_object_new_string(a->file));
		json_object_object_add(o, "id", json_object_new_uint64(a->id));
		json_object_object_add(o, "right", json_object_new_boolean(right));
		if (!right)
			json_object_object_add(o, "offset", json_object_new_uint64(m->dm_foff));
		(void)puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		(void)json_object_put(o);
	} else if (right) {
		(void)printf("%s: %" PRIu64 " bytes at %" PRIu64 " are transfer %" PRIu64 "'s\n", a->file, a->len,
			     a->foff, a->id);
	} else if (m->dm_foreign) {
		(void)printf("%s: at %" PRIu64 " lies transfer %" PRIu64 " (\"%s\"), meant for inode %" PRIu64
			     " offset %" PRIu64 ", not transfer %" PRIu64 "\n",
			     a->file, m->dm_foff, m->dm_line.dr_id, m->dm_line.dr_label, m->dm_line.dr_ino,
			     m->dm_line.dr_foff, a->id);
	} else {
		(void)printf("%s: byte %" PRIu64 " is not transfer %" PRIu64 "'s\n", a->file, m->dm_foff, a->id);
	}
	return right ? EX_OK : EX_WRONG;
}

/* Is [foff, + len) just what transfer @id writes there? */
static int check_one(int fd, struct args *a)
{
	struct finder f = { .id = a->id };
	struct dma_miss miss = { .dm_foff = a->foff };
	uint8_t *buf = NULL;
	bool right = true;
	struct stat st;
	int err;

	if (fstat(fd, &st) != 0)
		return complain(EX_FAIL, "%s: %s", a->file, strerror(errno));
	if (a->foff >= (uint64_t)st.st_size || (a->len != 0 && !pf_range_ok(a->foff, a->len, (uint64_t)st.st_size)))
		return complain(EX_WRONG, "%s: only %" PRIu64 " bytes long", a->file, (uint64_t)st.st_size);
	if (a->len == 0)
		a->len = (uint64_t)st.st_size - a->foff;
	f.from = a->foff;
	f.to = a->foff + a->len;
	f.pat.dp_id = a->id;
	f.pat.dp_ino = (uint64_t)st.st_ino;
	f.pat.dp_foff = a->foff;
	err = dma_scan_fd(fd, find_label, &f, NULL);
	if (err != 0)
		return complain(EX_FAIL, "%s: %s", a->file, strerror(-err));
	buf = malloc(1 << 20);
	if (buf == NULL)
		return complain(EX_FAIL, "out of memory");
	for (uint64_t at = f.from; right && at < f.to;) {
		ssize_t n = pread(fd, buf, pf_min64(f.to - at, 1 << 20), (off_t)at);

		if (n <= 0) {
			free(buf);
			return complain(EX_FAIL, "%s: %s", a->file, n < 0 ? strerror(errno) : "ends early");
		}
		right = f.found && dma_pat_check(&f.pat, at, buf, (size_t)n, &miss);
		at += (uint64_t)n;
	}
	free(buf);
	return report_one(a, right, &miss);
}

int cmd_verify(int argc, char **argv)
{
	enum { O_ID = 256, O_OFFSET, O_LENGTH, O_JSON };
	static const struct option opts[] = {
		{ "id", required_argument, NULL, O_ID },
		{ "pattern", required_argument, NULL, O_ID },
		{ "offset", required_argument, NULL, O_OFFSET },
		{ "length", required_argument, NULL, O_LENGTH },
		{ "len", required_argument, NULL, O_LENGTH },
		{ "json", no_argument, NULL, O_JSON },
		{ NULL, 0, NULL, 0 },
	};
	struct args a = { .file = NULL };
	int c, fd, status = EX_OK;

	optind = 1;
	while (status == EX_OK && (c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		switch (c) {
		case O_ID:
			status = parse_size("id", optarg, &a.id);
			a.one = true;
			break;
		case O_OFFSET: status = parse_size("offset", optarg, &a.foff); break;
		case O_LENGTH: status = parse_size("length", optarg, &a.len); break;
		case O_JSON: a.json = true; break;
		default: return EX_USE;
		}
	}
	if (status != EX_OK)
		return status;
	if (optind + 1 != argc)
		return complain(EX_USE, "verify: which file?");
	if (!a.one && (a.foff != 0 || a.len != 0))
		return complain(EX_USE, "verify: --offset and --length go with --id");
	a.file = argv[optind];
	fd = open(a.file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return complain(EX_FAIL, "%s: %s", a.file, strerror(errno));
	status = a.one ? check_one(fd, &a) : survey(fd, &a);
	(void)close(fd);
	return status;
}
