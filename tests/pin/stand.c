/* SPDX-License-Identifier: BSD-3-Clause */
/* stand.c - runs pinfsctl pause and resume (stand.h). */
#include "pin/stand.h"

#include <string.h>
#include <json-c/json.h>
#include "harness/proc.h"
#include "harness/run.h"

#define LONG_MS 60000

static void order(const char *const argv[])
{
	char out[1024];
	int rc = pt_run(out, sizeof out, 60000, argv);

	if (rc != 0)
		pt_say("pinfsctl %s: status %d: %s", argv[1], rc, out);
	CU_ASSERT_EQUAL(rc, 0);
}

void stand_arm(const struct pt_fs *fs, const char *point)
{
	order((const char *[]){ pt_program("pinfsctl"), "pause", fs->mnt, point, NULL });
}

void stand_go(const struct pt_fs *fs, const char *point)
{
	order((const char *[]){ pt_program("pinfsctl"), "resume", fs->mnt, point, NULL });
}

/* Of the list @name of the report: how many are about @point; the sum of their members @sum, if that is not NULL. */
static unsigned int count(const struct pt_fs *fs, const char *name, const char *point, const char *sum)
{
	char out[16384], err[512];
	int rc = pt_run2(out, sizeof out, err, sizeof err, 60000,
			 (const char *[]){ pt_program("pinfsctl"), "pause", "--json", fs->mnt, NULL });
	struct json_object *o = rc == 0 ? json_tokener_parse(out) : NULL, *list, *at, *v;
	unsigned int n = 0;

	if (rc != 0)
		pt_say("pinfsctl pause: status %d: %s", rc, err);
	CU_ASSERT_PTR_NOT_NULL(o);
	if (o != NULL && json_object_object_get_ex(o, name, &list))
		for (size_t i = 0; i < json_object_array_length(list); i++) {
			struct json_object *one = json_object_array_get_idx(list, i);

			if (!json_object_object_get_ex(one, "point", &at) ||
			    (point != NULL && strcmp(json_object_get_string(at), point) != 0))
				continue;
			if (sum == NULL)
				n++;
			else if (json_object_object_get_ex(one, sum, &v))
				n += (unsigned int)json_object_get_int(v);
		}
	(void)json_object_put(o);
	return n;
}

unsigned int stand_count(const struct pt_fs *fs, const char *point)
{
	return count(fs, "standing", point, NULL);
}

bool stand_passed(const struct pt_fs *fs, const char *point)
{
	return count(fs, "armed", point, "stood") != 0;
}

bool stand_until(const struct pt_fs *fs, const char *point)
{
	const uint64_t end = pt_now_ms() + LONG_MS;

	do {
		if (stand_count(fs, point) != 0)
			return true;
		pt_sleep_ms(5);
	} while (pt_now_ms() < end);
	pt_say("nobody stands at %s, %u elsewhere", point, stand_count(fs, NULL));
	return false;
}
