/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dmaemu.c - a DMA device made of software, on the command line: dispatches to the verbs in dmaemu/.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <pinfs/version.h>
#include "dmaemu/dmaemu.h"

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *use;
} verbs[] = {
	{ "run", cmd_run, "run [TRANSFER OPTIONS] [--unmap] [--in FILE | --out FILE] FILE" },
	{ "serve", cmd_serve, "serve --socket PATH [-v]" },
	{ "submit", cmd_submit, "submit --socket PATH [TRANSFER OPTIONS] [--wait] FILE" },
	{ "wait", cmd_wait, "wait --socket PATH [--timeout TIME] ID" },
	{ "go", cmd_go, "go --socket PATH ID" },
	{ "cancel", cmd_cancel, "cancel --socket PATH ID" },
	{ "list", cmd_list, "list --socket PATH [--json]" },
	{ "verify", cmd_verify, "verify [--id N] [--offset N] [--length N] [--json] FILE" },
};

int complain(int status, const char *fmt, ...)
{
	va_list ap;

	(void)fputs("dmaemu: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	return status;
}

static int usage(FILE *f, int status)
{
	for (size_t i = 0; i < PF_ARRAY_LEN(verbs); i++)
		(void)fprintf(f, "%s dmaemu %s\n", i == 0 ? "usage:" : "      ", verbs[i].use);
	(void)fputs("Transfer options:\n"
		    "  --write            the device writes its pattern into the file's blocks (default)\n"
		    "  --verify           the device reads the blocks and checks them against the pattern\n"
		    "  --offset N         first byte of the file (default 0)\n"
		    "  --length N         bytes (default: to the end of the file)\n"
		    "  --id N             transfer number, part of the pattern\n"
		    "  --label TEXT       up to 16 bytes of the pattern for people (default: the file's name)\n"
		    "  --mode MODE        what keeps the blocks: pin (default), long, lease, odp, raw (nothing)\n"
		    "  --lease KIND       with --mode lease: read (default), write, unbreak\n"
		    "  --deaf             with --mode lease: go on when it breaks, until the IOMMU faults\n"
		    "  --direct           device addresses, not through the IOMMU\n"
		    "  --owner WHO        submit: device (default), client or handover holds the blocks\n"
		    "  --delay TIME       before the first byte\n"
		    "  --rate N           bytes per second (default: no limit)\n"
		    "  --burst N          bytes moved at once (default 4096)\n"
		    "  --seed N           bursts of random lengths in random order; the same N, the same schedule\n"
		    "  --jitter TIME      with --seed: wait up to TIME before each burst\n"
		    "  --tear TIME        every other 8-byte word of a burst first, the rest TIME later\n"
		    "  --stop-at N        end after N bytes\n"
		    "  --error-at N[:ERRNO]  fail after N bytes (default EIO)\n"
		    "  --json, -v         result as JSON; more words\n"
		    "Sizes take K, M, G, T; times take ns, us, ms, s, m, h. dmaemu(1) says it all.\n", f);
	return status;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return usage(stderr, EX_USE);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return usage(stdout, EX_OK);
	if (strcmp(argv[1], "--version") == 0) {
		(void)puts("dmaemu (pinfs) " PINFS_VERSION);
		return EX_OK;
	}
	for (size_t i = 0; i < PF_ARRAY_LEN(verbs); i++) {
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(argc - 1, argv + 1);
	}
	return complain(EX_USE, "%s: no such verb; try dmaemu --help", argv[1]);
}
