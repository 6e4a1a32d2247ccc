/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_chrome.c - what pinfsctl makes of the events of a trace: slices of one thread lie in each other or beside each
 * other, however late somebody said that one has ended.
 */
#include "pinfsctl/trace.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "harness/unit.h"
#include "pinfsctl/pinfsctl.h"

static char said[512];

int complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(said, sizeof said, fmt, ap);
	va_end(ap);
	return 1;
}

/* A slice of a client's thread: ns, of the event and its length. */
struct slice {
	uint16_t type;
	uint32_t tid;
	uint64_t from, len;
};

static void event(struct pf_t_ev *ev, const struct slice *s, uint64_t id)
{
	*ev = (struct pf_t_ev){ .te_type = s->type, .te_pid = 7, .te_tid = s->tid, .te_ns = s->from, .te_dur = s->len,
				.te_id = id, .te_len = 4096 };
}

/* "from+dur" of each slice in the file, in us; NULL and said: it was refused. */
static char *slices(const struct slice *s, size_t n, char *out, size_t room)
{
	char path[] = "/tmp/pinfs-chrome.XXXXXX";
	struct capture c = { .n = n, .room = n, .begin_ns = 1000, .end_ns = 1000000, .daemon_pid = 3 };
	int fd = mkstemp(path);
	FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
	struct json_object *o, *all, *e, *ph, *ts = NULL, *dur = NULL;
	size_t at = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	c.ev = calloc(n, sizeof *c.ev);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c.ev);
	for (size_t i = 0; i < n; i++)
		event(&c.ev[i], &s[i], i + 1);
	said[0] = '\0';
	CU_ASSERT_EQUAL(chrome_write(&c, f), 0);
	(void)fclose(f);
	o = trace_load(path);
	(void)unlink(path);
	free(c.ev);
	if (o == NULL)
		return NULL;
	out[0] = '\0';
	(void)json_object_object_get_ex(o, "traceEvents", &all);
	for (size_t i = 0; i < json_object_array_length(all); i++) {
		e = json_object_array_get_idx(all, i);
		if (!json_object_object_get_ex(e, "ph", &ph) || strcmp(json_object_get_string(ph), "X") != 0)
			continue;
		CU_ASSERT(json_object_object_get_ex(e, "ts", &ts) && json_object_object_get_ex(e, "dur", &dur));
		at += (size_t)snprintf(out + at, room - at, "%.0f+%.0f ", json_object_get_double(ts),
				       json_object_get_double(dur));
	}
	json_object_put(o);
	return out;
}

static const struct row {
	const char *says;
	struct slice s[3];
	size_t n;
} rows[] = {
	{ "10+5 20+5 ", { { PF_TE_FAULT, 1, 10000, 5000 }, { PF_TE_FAULT, 1, 20000, 5000 } }, 2 },
	/* The thread went on before its fault was said to have ended; and met the next one, and the same again. */
	{ "10+5 15+9 ", { { PF_TE_FAULT, 1, 10000, 8000 }, { PF_TE_FAULT, 1, 15000, 9000 } }, 2 },
	{ "10+2 12+2 14+9 ", { { PF_TE_FAULT, 1, 10000, 9000 }, { PF_TE_FAULT, 1, 12000, 3000 },
			       { PF_TE_FAULT, 1, 14000, 9000 } }, 3 },
	{ "10+5 15+9 ", { { PF_TE_FAULT, 1, 10000, 8000 }, { PF_TE_PIN, 1, 15000, 9000 } }, 2 },
	/* A call that meets a fault: that ends with the call. */
	{ "10+20 15+5 ", { { PF_TE_PIN, 1, 10000, 20000 }, { PF_TE_FAULT, 1, 15000, 5000 } }, 2 },
	{ "10+20 15+15 ", { { PF_TE_PIN, 1, 10000, 20000 }, { PF_TE_FAULT, 1, 15000, 50000 } }, 2 },
	/* Other threads are others. */
	{ "10+9 12+9 ", { { PF_TE_FAULT, 1, 10000, 9000 }, { PF_TE_FAULT, 2, 12000, 9000 } }, 2 },
};

static void nested(void)
{
	char out[256];

	for (size_t i = 0; i < PF_ARRAY_LEN(rows); i++) {
		const char *is = slices(rows[i].s, rows[i].n, out, sizeof out);

		if (is == NULL || strcmp(is, rows[i].says) != 0)
			(void)fprintf(stderr, "row %zu: %s, not %s\n", i, is != NULL ? is : said, rows[i].says);
		CU_ASSERT(is != NULL && strcmp(is, rows[i].says) == 0);
	}
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "slices of a thread do not overlap", nested },
	};

	return unit_main("chrome", cases, PF_ARRAY_LEN(cases));
}
