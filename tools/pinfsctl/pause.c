/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pause.c - `pinfsctl pause` and `pinfsctl resume`: where a mount with -o pause_points stops operations on their way,
 * and who stands there. Owns nothing.
 */
#include "pinfsctl/pinfsctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "lib/units.h"

static int show(const char *json)
{
	static const char *const head[] = { "POINT", "WHAT", "PID", "INODE", "SINCE" };
	struct table t = { .ncol = PF_ARRAY_LEN(head), .head = head, .right = "llrrr" };
	struct json_object *o = json_tokener_parse(json), *armed, *standing;
	int status = 0;

	if (o == NULL || !json_object_object_get_ex(o, "armed", &armed) ||
	    !json_object_is_type(armed, json_type_array) ||
	    !json_object_object_get_ex(o, "standing", &standing) || !json_object_is_type(standing, json_type_array)) {
		status = complain("the daemon's report makes no sense");
		goto out;
	}
	if (!json_object_get_boolean(json_object_object_get(o, "points")))
		(void)puts("the mount has no pause points (-o pause_points)");
	for (size_t i = 0; i < json_object_array_length(armed); i++) {
		struct json_object *a = json_object_array_get_idx(armed, i);

		(void)printf("armed: %s", j_str(a, "point"));
		if (j_num(a, "ino") != 0)
			(void)printf(", inode %" PRIu64, j_num(a, "ino"));
		if (j_num(a, "left") != 0)
			(void)printf(", %" PRIu64 " more", j_num(a, "left"));
		(void)putchar('\n');
	}
	for (size_t i = 0; i < json_object_array_length(standing); i++) {
		struct json_object *s = json_object_array_get_idx(standing, i);
		char since[32];

		(void)units_show_ns(j_num(s, "age_ns"), since, sizeof since);
		table_cell(&t, "%s", j_str(s, "point"));
		table_cell(&t, "%s", j_str(s, "what"));
		table_cell(&t, "%" PRIu64, j_num(s, "pid"));
		table_cell(&t, "%" PRIu64, j_num(s, "ino"));
		table_cell(&t, "%s", since);
	}
	if (t.ncell != 0)
		table_print(&t);
out:
	json_object_put(o);
	return status;
}

static int list(const char *path, bool as_json)
{
	char *json;
	int status;

	if (session_report(path, PF_REPORT_PAUSES, 0, &json) != 0)
		return 1;
	status = as_json ? puts(json) < 0 : show(json);
	free(json);
	return status;
}

static int order(const char *path, const struct pf_p_pause_in *in)
{
	char *body = NULL;
	size_t len = 0;
	int err = session_call(path, PF_P_PAUSE, in, sizeof *in, &body, &len);

	free(body);
	switch (err) {
	case 0:
	case 1:
		return err;
	case -EPERM:
		return complain("%s: only root may do that", path);
	case -EOPNOTSUPP:
		return complain("%s: not mounted with -o pause_points", path);
	case -EINVAL:
		return complain("%s: no such pause point; pinfsctl(1) lists them", in->pa_point);
	default:
		return complain("%s: %s", path, strerror(-err));
	}
}

static int parse_number(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0' && *out != 0 ? 0 : -1;
}

int pause_verb(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "ino", required_argument, NULL, 'i' },
		{ "count", required_argument, NULL, 'n' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct pf_p_pause_in in = { .pa_what = strcmp(argv[0], "pause") == 0 ? PF_P_PAUSE_ARM : PF_P_PAUSE_RESUME };
	bool as_json = false, bad = false;
	int c, nargs;

	optind = 1;
	while ((c = getopt_long(argc, argv, "j", opts, NULL)) != -1) {
		if (c == 'i')
			bad = parse_number(optarg, &in.pa_ino) != 0 || bad;
		else if (c == 'n' && in.pa_what == PF_P_PAUSE_ARM)
			bad = parse_number(optarg, &in.pa_count) != 0 || bad;
		else if (c == 'j' && in.pa_what == PF_P_PAUSE_ARM)
			as_json = true;
		else
			bad = true;
	}
	nargs = argc - optind;
	if (nargs < 1 || nargs > 2 || bad || (as_json && nargs == 2) ||
	    (nargs == 2 && strlen(argv[optind + 1]) >= sizeof in.pa_point)) {
		(void)complain("usage: pinfsctl pause [--json] MOUNT | pause MOUNT POINT [--ino N] [--count N] |"
			       " resume MOUNT [POINT] [--ino N]");
		return 2;
	}
	if (nargs == 2)
		(void)strcpy(in.pa_point, argv[optind + 1]);
	if (in.pa_what == PF_P_PAUSE_ARM && nargs == 1)
		return list(argv[optind], as_json);
	return order(argv[optind], &in);
}
