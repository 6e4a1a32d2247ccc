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
#include <pinfs/lease.h>
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

/* A daemon that does not say what it comes to. */
static enum pf_p_would guess(const struct pf_p_would_out *o)
{
	if (o->wo_nholder == 0)
		return o->wo_queued != 0 ? PF_P_WOULD_TURN : PF_P_WOULD_PASS;
	if (strcmp(o->wo_on_busy, "ebusy") == 0)
		return PF_P_WOULD_EBUSY;
	if (strcmp(o->wo_on_busy, "defer") == 0)
		return PF_P_WOULD_DEFER;
	return strcmp(o->wo_on_busy, "unsafe") == 0 ? PF_P_WOULD_UNSAFE : PF_P_WOULD_WAIT;
}

static const char *answer_of(uint32_t answer)
{
	static const char *const text[] = {
		[PF_P_WOULD_PASS] = "succeeds at once",
		[PF_P_WOULD_TURN] = "waits for its turn",
		[PF_P_WOULD_WAIT] = "waits",
		[PF_P_WOULD_EBUSY] = "fails with EBUSY",
		[PF_P_WOULD_TXTBSY] = "fails with ETXTBSY",
		[PF_P_WOULD_DEFER] = "succeeds at once; pinned blocks are kept back",
		[PF_P_WOULD_DEADLK] = "fails with EDEADLK",
		[PF_P_WOULD_UNSAFE] = "succeeds at once, and CORRUPTS what the blocks are used for next",
	};

	return answer < PF_ARRAY_LEN(text) ? text[answer] : "does something that this pinfsctl does not know";
}

static void show_who(uint32_t pid, const char comm[16])
{
	(void)printf("  pid %" PRIu32 " (", pid);
	for (size_t k = 0; k < 16 && comm[k] != '\0'; k++)
		(void)putchar((unsigned char)comm[k] < 0x20 ? '?' : comm[k]);
	(void)putchar(')');
}

static void show_lease(const struct pf_p_would_lease *l)
{
	char left[32];

	show_who(l->wl_pid, l->wl_comm);
	(void)printf(" has a lease of it%s", l->wl_flags & PF_LE_UNBREAK ? ", unbreakable" : "");
	if (l->wl_state == PF_P_LEASE_DROPPED)
		(void)printf(", dropped with pins under it");
	else if (l->wl_state == PINFS_LEASE_BREAKING)
		(void)printf(", asked back");
	if (l->wl_left_ms != 0)
		(void)printf(", %s left", units_show_ns(l->wl_left_ms * 1000000, left, sizeof left));
	(void)putchar('\n');
}

static void show(const struct pf_p_would_out *o, const struct pf_p_holder *h, const struct pf_p_would_end *e,
		 const struct pf_p_would_lease *l)
{
	char limit[32] = "";

	if (e->we_answer == PF_P_WOULD_WAIT && e->we_most_ms != 0)
		(void)units_show_ns(e->we_most_ms * 1000000, limit, sizeof limit);
	(void)printf("%s%s%s (on_busy=%.*s)\n", answer_of(e->we_answer), limit[0] != '\0' ? ", at most " : "", limit,
		     (int)sizeof o->wo_on_busy, o->wo_on_busy);
	if (o->wo_queued != 0)
		(void)printf("  behind %" PRIu64 " operation%s of the file\n", o->wo_queued,
			     o->wo_queued == 1 ? "" : "s");
	for (uint32_t i = 0; i < o->wo_nholder; i++) {
		show_who(h[i].hr_pid, h[i].hr_comm);
		(void)printf(" has pinned %" PRIu64 " page%s of it\n", h[i].hr_pages, h[i].hr_pages == 1 ? "" : "s");
	}
	if (o->wo_more != 0)
		(void)printf("  and %" PRIu32 " more\n", o->wo_more);
	for (uint32_t i = 0; i < e->we_nlease; i++)
		show_lease(l + i);
	if (e->we_more != 0)
		(void)printf("  and %" PRIu32 " more leases\n", e->we_more);
}

/* The answer's pieces, or -EPROTO. An old daemon's ends with the holders. */
static int answer_parse(const char *body, size_t len, struct pf_p_would_out *out, struct pf_p_holder *h,
			struct pf_p_would_end *end, struct pf_p_would_lease *l)
{
	if (len < sizeof *out)
		return -EPROTO;
	memcpy(out, body, sizeof *out);
	body += sizeof *out;
	len -= sizeof *out;
	if (out->wo_nholder > PF_P_HOLDERS_MAX || len / sizeof *h < out->wo_nholder)
		return -EPROTO;
	out->wo_on_busy[sizeof out->wo_on_busy - 1] = '\0';
	memcpy(h, body, out->wo_nholder * sizeof *h);
	body += out->wo_nholder * sizeof *h;
	len -= out->wo_nholder * sizeof *h;
	if (len < sizeof *end) {
		*end = (struct pf_p_would_end){ .we_answer = guess(out), .we_most_ms = out->wo_timeout_ms };
		return 0;
	}
	memcpy(end, body, sizeof *end);
	body += sizeof *end;
	len -= sizeof *end;
	if (end->we_nlease > PF_P_WOULD_LEASES || len / sizeof *l < end->we_nlease)
		return -EPROTO;
	memcpy(l, body, end->we_nlease * sizeof *l);
	return 0;
}

int would_block(int argc, char **argv)
{
	struct {
		struct pf_p_would_in in;
		struct pf_p_would_as as;
	} ask = { .in.wi_len = UINT64_MAX };
	struct pf_p_holder h[PF_P_HOLDERS_MAX];
	struct pf_p_would_lease l[PF_P_WOULD_LEASES];
	struct pf_p_would_out out;
	struct pf_p_would_end end;
	char *body = NULL;
	struct stat st;
	uint64_t pid = 0;
	size_t len = 0;
	char *end_of;
	int err;

	if (argc > 2 && strcmp(argv[1], "--pid") == 0) {
		pid = strtoull(argv[2], &end_of, 10);
		if (pid == 0 || pid > INT32_MAX || *end_of != '\0') {
			(void)complain("%s: must be a process number", argv[2]);
			return 2;
		}
		ask.as.wa_pid = (uint32_t)pid;
		argc -= 2;
		argv += 2;
	}
	if (argc < 2 || argc > 4 || argv[1][0] == '-') {
		(void)complain("usage: pinfsctl would-block [--pid PID] FILE [OFFSET [LENGTH]]");
		return 2;
	}
	if ((argc > 2 && cli_parse_bytes(argv[2], &ask.in.wi_foff) != 0) ||
	    (argc > 3 && (cli_parse_bytes(argv[3], &ask.in.wi_len) != 0 || ask.in.wi_len == 0))) {
		(void)complain("%s: must be a number of bytes (K, M, G or T)", argv[argc - 1]);
		return 2;
	}
	if (argc < 4 || ask.in.wi_len > UINT64_MAX - ask.in.wi_foff)
		ask.in.wi_len = UINT64_MAX - ask.in.wi_foff;
	if (stat(argv[1], &st) != 0)
		return complain("%s: %s", argv[1], strerror(errno));
	if (!S_ISREG(st.st_mode))
		return complain("%s: not a regular file", argv[1]);
	ask.in.wi_ino = st.st_ino;
	err = session_call(argv[1], PF_P_WOULD, &ask, sizeof ask.in + (pid != 0 ? sizeof ask.as : 0), &body, &len);
	if (err == 0)
		err = answer_parse(body, len, &out, h, &end, l);
	if (err == 0)
		show(&out, h, &end, l);
	free(body);
	return err < 0 ? complain("%s: %s", argv[1], strerror(-err)) : err;
}
