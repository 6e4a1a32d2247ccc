/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * badblock.c - pinfsctl badblock: the list of bad blocks of a mount, through its daemon, or of an image that nobody
 * serves, by mounting it in this process under the exclusive lock.
 *
 * Owns what it has open for the length of one command.
 */
#include "pinfsctl/pinfsctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/log.h"
#include "lib/cli.h"
#include "media/pmem.h"
#include "op/op.h"
#include "space/bad.h"

struct target {
	const char *path;
	struct pf_fs *fs;	/* an image; NULL: a mount */
	struct stat st;		/* of the mount */
};

/* What one word of the command line names. */
struct range { uint64_t ino, at, len; };

static int whine(const char *what, int err)
{
	return complain("%s: %s", what, strerror(-err));
}

/* ---- blocks on the command line ---- */

/* "FILE:OFFSET", the page of a file on the mount in which this byte lies. */
static int parse_file(const struct target *t, const char *s, struct range *r)
{
	const char *colon = strrchr(s, ':');
	struct stat st;
	char *path;
	int rc = 0;

	if (colon == NULL || cli_parse_bytes(colon + 1, &r->at) != 0)
		return complain("%s: neither a block, nor a range of blocks, nor FILE:OFFSET", s);
	if (t->fs != NULL)
		return complain("%s: bytes of a file can be named only while it is mounted", s);
	path = strndup(s, (size_t)(colon - s));
	if (path == NULL)
		return whine(s, -ENOMEM);
	if (stat(path, &st) != 0)
		rc = whine(path, -errno);
	else if (st.st_dev != t->st.st_dev || !S_ISREG(st.st_mode))
		rc = complain("%s: not a file of the pinfs at %s", path, t->path);
	else if (r->at >= (uint64_t)st.st_size)
		rc = complain("%s: byte %" PRIu64 " is behind its end", path, r->at);
	free(path);
	r->ino = st.st_ino;
	r->at -= r->at % PF_BLK_SIZE;
	r->len = PF_BLK_SIZE;
	return rc;
}

/* ---- doing it ---- */

static int open_target(struct target *t)
{
	const struct pf_opts opts = { .pmem = PF_PMEM_AUTO, .errors = PF_ERRORS_CONTINUE, .window = PF_CHUNK_SIZE };
	struct pf_mount_info info = { .why = NULL };
	char holders[512] = "";
	int err;

	if (stat(t->path, &t->st) != 0)
		return errno == ENOTCONN ? complain("%s: the daemon of this mount is gone (umount it)", t->path)
					 : whine(t->path, -errno);
	if (S_ISDIR(t->st.st_mode))
		return 0;
	pf_log_init("pinfsctl", PF_LOG_ERR, false);
	err = pf_fs_mount(t->path, &opts, &t->fs, &info);
	if (err == -EBUSY)
		pf_pm_holders(t->path, holders, sizeof holders);
	if (err != 0)
		return complain("%s: %s%s%s", t->path, info.why != NULL ? info.why : strerror(-err),
				holders[0] != '\0' ? " by " : "", holders);
	return 0;
}

static int change(const struct target *t, bool add, const struct range *r, uint64_t *changed)
{
	if (t->fs == NULL)
		return session_bad(t->path, add ? PF_P_BAD_ADD : PF_P_BAD_DEL, r->ino, r->at, r->len, changed, NULL,
				   NULL);
	return add ? pf_bad_add(t->fs, r->at, r->len, changed) : pf_bad_del(t->fs, r->at, r->len, changed);
}

/* Up to PF_P_BAD_MAX records from block @from on. */
static int some(const struct target *t, uint64_t from, struct pf_p_bad_rec *rec, unsigned int *n)
{
	static struct pf_bad_rec own[PF_P_BAD_MAX];
	uint64_t none;
	int err;

	if (t->fs == NULL)
		return session_bad(t->path, PF_P_BAD_LIST, 0, from, 0, &none, rec, n);
	err = pf_bad_list(t->fs, from, own, PF_P_BAD_MAX, n);
	for (unsigned int i = 0; i < *n; i++)
		rec[i] = (struct pf_p_bad_rec){ .br_dblk = own[i].dblk, .br_nblk = own[i].nblk,
						.br_held = own[i].held };
	return err;
}

static int list(const struct target *t, bool json)
{
	static struct pf_p_bad_rec rec[PF_P_BAD_MAX];
	uint64_t from = 0, sum = 0, shown = 0;
	unsigned int n;
	int err;

	if (json)
		(void)printf("{\"bad\":[");
	do {
		err = some(t, from, rec, &n);
		if (err != 0)
			break;
		for (unsigned int i = 0; i < n; i++, shown++) {
			uint64_t b = rec[i].br_dblk, last = b + rec[i].br_nblk - 1;

			if (json)
				(void)printf("%s{\"block\":%" PRIu64 ",\"blocks\":%" PRIu64 ",\"held\":%s}",
					     shown != 0 ? "," : "", b, rec[i].br_nblk,
					     rec[i].br_held ? "true" : "false");
			else if (b == last)
				(void)printf("%" PRIu64 "  %s\n", b, rec[i].br_held ? "kept out of use" : "in use");
			else
				(void)printf("%" PRIu64 "-%" PRIu64 "  %s\n", b, last,
					     rec[i].br_held ? "kept out of use" : "in use");
			sum += rec[i].br_nblk;
			from = last + 1;
		}
	} while (n == PF_P_BAD_MAX);
	if (json)
		(void)printf("],\"blocks\":%" PRIu64 "}\n", sum);
	else if (err == 0)
		(void)printf("%" PRIu64 " bad block%s\n", sum, sum == 1 ? "" : "s");
	return err < 0 ? whine(t->path, err) : err;
}

static int change_all(const struct target *t, bool add, char *const *word, const bool *is_offset, int n, bool json)
{
	uint64_t sum = 0, changed;
	int rc = 0;

	for (int i = 0; i < n && rc == 0; i++) {
		struct range r = { .len = 1 };
		int err;

		if (is_offset[i]) {
			if (cli_parse_bytes(word[i], &r.at) != 0)
				rc = complain("--offset %s: not a number of bytes", word[i]);
			r.at /= PF_BLK_SIZE;
		} else if (cli_parse_blocks(word[i], &r.at, &r.len) != 0) {
			rc = parse_file(t, word[i], &r);
		}
		if (rc != 0)
			break;
		changed = 0;
		err = change(t, add, &r, &changed);
		sum += changed;
		if (err > 0)
			rc = err;		/* said already */
		else if (err != 0)
			rc = complain("%s: %s: %s", t->path, word[i],
				      err == -EINVAL ? "no such block on the device" :
				      err == -ENXIO  ? "a hole of the file: no block" : strerror(-err));
	}
	if (json)
		(void)printf("{\"changed\":%" PRIu64 "}\n", sum);
	else if (rc == 0 || sum != 0)
		(void)printf("%" PRIu64 " block%s %s\n", sum, sum == 1 ? "" : "s", add ? "added" : "removed");
	return rc;
}

static bool verb_ok(const char *verb, int nwords)
{
	if (strcmp(verb, "list") == 0)
		return nwords == 0;
	return nwords > 0 && (strcmp(verb, "add") == 0 || strcmp(verb, "del") == 0);
}

int badblock_usage(FILE *f, int status)
{
	(void)fputs("usage: pinfsctl badblock [--json] list MOUNT|DEVICE\n"
		    "       pinfsctl badblock [--json] add|del MOUNT|DEVICE BLOCK ...\n"
		    "  a BLOCK is a number, FIRST-LAST, --offset BYTES (on the device), or FILE:BYTES\n", f);
	return status;
}

int badblock(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "offset", required_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool json = false, *is_offset = calloc((size_t)argc, sizeof *is_offset);
	char **word = calloc((size_t)argc, sizeof *word);
	struct target t = { .path = NULL };
	int c, n = 0, status = 2;

	if (word == NULL || is_offset == NULL) {
		status = whine("badblock", -ENOMEM);
		goto out;
	}
	/* '-': words come in their order, as an option with the value 1. */
	while ((c = getopt_long(argc, argv, "-jo:h", opts, NULL)) != -1) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'h':
			status = badblock_usage(stdout, 0);
			goto out;
		case 'o':
			is_offset[n] = true;
			word[n++] = optarg;
			break;
		case 1:
			word[n++] = optarg;
			break;
		default:
			status = badblock_usage(stderr, 2);
			goto out;
		}
	}
	for (; optind < argc; optind++)
		word[n++] = argv[optind];
	if (n < 2 || is_offset[0] || is_offset[1] || !verb_ok(word[0], n - 2)) {
		status = badblock_usage(stderr, 2);
		goto out;
	}
	t.path = word[1];
	status = open_target(&t);
	if (status == 0 && strcmp(word[0], "list") == 0)
		status = list(&t, json);
	else if (status == 0)
		status = change_all(&t, word[0][0] == 'a', word + 2, is_offset + 2, n - 2, json);
	if (t.fs != NULL)
		pf_fs_unmount(t.fs);
	if (fflush(stdout) != 0)
		status = complain("standard output: write error");
out:
	free(word);
	free(is_offset);
	return status;
}
