/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * text.c - the target for what people type: the daemon's command line, sizes, times, UUIDs.
 *
 * The input is cut into words at newlines. What is accepted must lie in the documented range.
 */
#include "fuzz/targets/target.h"

#include <stdlib.h>
#include <string.h>
#include <pinfs/ledger.h>
#include "front/opts.h"
#include "lib/cli.h"
#include "lib/units.h"

#define WORDS 16

static void command_line(char **word, int n)
{
	struct pf_cmdline c;
	char why[256] = "";
	int rc = pf_opts_parse(&c, n, word, why, sizeof why);

	if (rc != PF_OPTS_OK && memchr(why, '\0', sizeof why) == NULL)
		FZ_FAIL("a reason without an end");
	if (rc == PF_OPTS_OK && !c.help && !c.version) {
		if (c.device == NULL || c.mountpoint == NULL || c.kernel == NULL)
			FZ_FAIL("a command line without a device was accepted");
		if (c.opts.window < PF_WINDOW_MIN || c.opts.window > PF_WINDOW_MAX ||
		    c.opts.window % PF_CHUNK_SIZE != 0)
			FZ_FAIL("a window of any size was accepted");
		if (c.opts.policy.on_busy >= PF_BUSY_NR || c.opts.policy.scope >= PF_SCOPE_NR ||
		    c.opts.pmem >= PF_PMEM_NR)
			FZ_FAIL("a policy that does not exist");
	}
	pf_opts_free(&c);
}

static void numbers(const char *s)
{
	uint8_t uuid[16], again[16];
	char shown[64];
	uint64_t v;

	(void)pf_opts_size(s, &v);
	(void)!pf_parse_ms(s, &v);
	(void)cli_parse_bytes(s, &v);
	(void)units_show_bytes(v, shown, sizeof shown);
	v = 0;
	if (units_parse_ns(s, &v) == 0 && v > UINT64_C(1000000000) * 1000000000)
		FZ_FAIL("more than 10^9 s was accepted");
	(void)units_show_ns(v, shown, sizeof shown);
	if (cli_parse_uuid(s, uuid) == 0 &&
	    (cli_parse_uuid(cli_show_uuid(uuid, shown), again) != 0 || memcmp(uuid, again, sizeof uuid) != 0))
		FZ_FAIL("a UUID is not what it was");
}

static void run_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *word[WORDS + 2], *next;
	char name[] = "pinfs";
	int n = 0;

	if (text == NULL)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	word[n++] = name;
	for (next = text; next != NULL && n < WORDS;) {
		char *end = strchr(next, '\n');

		if (end != NULL)
			*end++ = '\0';
		numbers(next);
		word[n++] = next;
		next = end;
	}
	word[n] = NULL;
	command_line(word, n);
	free(text);
}

const struct fz_target fz_text = { "text", run_text, NULL, 512, NULL };
