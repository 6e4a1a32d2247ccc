/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * policy.c - `pinfsctl set`, which changes a mount's policy, and `pinfsctl would-block`, which asks what it means for
 * some bytes of a file now. Owns nothing.
 */
#include "pinfsctl/pinfsctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/cli.h"
#include "lib/units.h"
#include "base/policy.h"

int policy_set(int argc, char **argv)
{
	struct pf_policy_over over = { .set = 0 };
	char text[PF_P_SET_MAX + 1] = "", *body = NULL;
	const char *must = "";
	size_t len = 0;
	int err;

	if (argc < 3) {
		(void)complain("usage: pinfsctl set MOUNT KEY=VALUE...");
		return 2;
	}
	for (int i = 2; i < argc; i++) {
		const size_t used = strlen(text);

		if (strchr(argv[i], ',') != NULL || pf_policy_parse(argv[i], &over, &must) != 0 || over.set == 0) {
			(void)complain("%s: must be %s", argv[i], strchr(argv[i], ',') != NULL ? "one setting" : must);
			return 2;
		}
		if ((size_t)snprintf(text + used, sizeof text - used, "%s%s", i > 2 ? "," : "", argv[i]) >=
		    sizeof text - used) {
			(void)complain("too many settings");
			return 2;
		}
	}
	err = session_call(argv[1], PF_P_SET, text, strlen(text), &body, &len);
	free(body);
	if (err == -EPERM)
		return complain("%s: only root and the user who mounted it may do that", argv[1]);
	return err < 0 ? complain("%s: %s", argv[1], strerror(-err)) : err;
}

static const char *answer_of(const struct pf_p_would_out *o)
{
	if (o->wo_nholder == 0)
		return o->wo_queued != 0 ? "waits for its turn" : "succeeds at once";
	if (strcmp(o->wo_on_busy, "ebusy") == 0)
		return "fails with EBUSY";
	if (strcmp(o->wo_on_busy, "defer") == 0)
		return "succeeds at once; pinned blocks are kept back";
	if (strcmp(o->wo_on_busy, "unsafe") == 0)
		return "succeeds at once, and CORRUPTS what the blocks are used for next";
	return "waits";
}

static void show(const struct pf_p_would_out *o, const struct pf_p_holder *h)
{
	char limit[32] = "";

	if (strcmp(answer_of(o), "waits") == 0 && o->wo_timeout_ms != 0)
		(void)units_show_ns(o->wo_timeout_ms * 1000000, limit, sizeof limit);
	(void)printf("%s%s%s (on_busy=%.*s)\n", answer_of(o), limit[0] != '\0' ? ", at most " : "", limit,
		     (int)sizeof o->wo_on_busy, o->wo_on_busy);
	if (o->wo_queued != 0)
		(void)printf("  behind %" PRIu64 " operation%s of the file\n", o->wo_queued,
			     o->wo_queued == 1 ? "" : "s");
	for (uint32_t i = 0; i < o->wo_nholder; i++) {
		(void)printf("  pid %" PRIu32 " (", h[i].hr_pid);
		for (size_t k = 0; k < sizeof h[i].hr_comm && h[i].hr_comm[k] != '\0'; k++)
			(void)putchar((unsigned char)h[i].hr_comm[k] < 0x20 ? '?' : h[i].hr_comm[k]);
		(void)printf(") has pinned %" PRIu64 " page%s of it\n", h[i].hr_pages, h[i].hr_pages == 1 ? "" : "s");
	}
	if (o->wo_more != 0)
		(void)printf("  and %" PRIu32 " more\n", o->wo_more);
}

int would_block(int argc, char **argv)
{
	struct pf_p_would_in in = { .wi_len = UINT64_MAX };
	struct pf_p_holder h[PF_P_HOLDERS_MAX];
	struct pf_p_would_out out = { .wo_nholder = 0 };
	char *body = NULL;
	struct stat st;
	size_t len = 0;
	int err;

	if (argc < 2 || argc > 4) {
		(void)complain("usage: pinfsctl would-block FILE [OFFSET [LENGTH]]");
		return 2;
	}
	if ((argc > 2 && cli_parse_bytes(argv[2], &in.wi_foff) != 0) ||
	    (argc > 3 && (cli_parse_bytes(argv[3], &in.wi_len) != 0 || in.wi_len == 0))) {
		(void)complain("%s: must be a number of bytes (K, M, G or T)", argv[argc - 1]);
		return 2;
	}
	if (argc < 4 || in.wi_len > UINT64_MAX - in.wi_foff)
		in.wi_len = UINT64_MAX - in.wi_foff;
	if (stat(argv[1], &st) != 0)
		return complain("%s: %s", argv[1], strerror(errno));
	if (!S_ISREG(st.st_mode))
		return complain("%s: not a regular file", argv[1]);
	in.wi_ino = st.st_ino;
	err = session_call(argv[1], PF_P_WOULD, &in, sizeof in, &body, &len);
	if (err == 0 && len >= sizeof out)
		memcpy(&out, body, sizeof out);
	if (err == 0 && (len < sizeof out || out.wo_nholder > PF_P_HOLDERS_MAX ||
			 (len - sizeof out) / sizeof *h < out.wo_nholder))
		err = -EPROTO;
	if (err == 0) {
		out.wo_on_busy[sizeof out.wo_on_busy - 1] = '\0';
		memcpy(h, body + sizeof out, out.wo_nholder * sizeof *h);
		show(&out, h);
	}
	free(body);
	return err < 0 ? complain("%s: %s", argv[1], strerror(-err)) : err;
}
