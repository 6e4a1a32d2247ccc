/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_self.c - pinfs-conform with cases that are wrong, die, hang and leave things behind (self/self.c): what it makes
 * of each, its formats, its exit statuses, what it refuses, and that nothing is left.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <json-c/json.h>
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#define LIMIT_MS 120000
#define ARGS 16

static char out[1 << 20], err[1 << 16];
static bool preload;

/* Run it: the exit status. Arguments up to NULL. */
static int ask(const char *arg, ...)
{
	const char *argv[ARGS];
	unsigned int n = 0;
	va_list ap;

	if (preload)
		argv[n++] = pt_program("pinrun");
	argv[n++] = pt_program("tests/conform/self");

	va_start(ap, arg);
	for (const char *a = arg; a != NULL && n < ARGS - 1; a = va_arg(ap, const char *))
		argv[n++] = a;
	va_end(ap);
	argv[n] = NULL;
	return pt_run2(out, sizeof out, err, sizeof err, LIMIT_MS, argv);
}

static char plain[600];

static void drop_plain(void)
{
	(void)rmdir(plain);
}

/* A directory of a tmpfs, until the case ends. */
static const char *plain_dir(void)
{
	(void)snprintf(plain, sizeof plain, "%s/plain", pt_tmp());
	(void)mkdir(plain, 0777);
	pt_on_cleanup(drop_plain);
	return plain;
}

static void no_plain_dir(void)
{
	(void)rmdir(plain_dir());
}

static bool holds_nothing(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned int n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		(void)closedir(d);
	return n == 2;
}

static struct json_object *member(struct json_object *o, const char *name)
{
	struct json_object *v = NULL;

	(void)json_object_object_get_ex(o, name, &v);
	return v;
}

static const char *text(struct json_object *o, const char *name)
{
	const char *s = json_object_get_string(member(o, name));

	return s != NULL ? s : "";
}

static struct json_object *case_of(struct json_object *report, const char *id)
{
	struct json_object *list = member(report, "cases");

	for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++)
		if (strcmp(text(json_object_array_get_idx(list, i), "id"), id) == 0)
			return json_object_array_get_idx(list, i);
	pt_say("no case %s in the report", id);
	CU_FAIL("case missing");
	return NULL;
}

static void came_to(struct json_object *report, const char *id, const char *result, const char *answer, const char *why)
{
	struct json_object *o = case_of(report, id);
	const bool ok = o != NULL && strcmp(text(o, "result"), result) == 0 && strcmp(text(o, "answer"), answer) == 0 &&
			strstr(text(o, "why"), why) != NULL;

	if (!ok)
		pt_say("%s came to %s", id, o != NULL ? json_object_to_json_string(o) : "nothing");
	CU_ASSERT(ok);
}

static void verdicts(void)
{
	struct json_object *o;

	PT_EQ(ask("-F", "json", "--fill-max", "1K", "-f", "self.", plain_dir(), NULL), 1);
	o = json_tokener_parse(out);
	CU_ASSERT_FATAL(o != NULL);
	came_to(o, "self.right", "pass", "fine", "");
	came_to(o, "self.either", "pass", "b", "");
	came_to(o, "self.any", "pass", "it's #1 \\ 100%", "");
	came_to(o, "self.wrong", "differs", "bad & <wrong>", "");
	came_to(o, "self.dies", "pass", "dies: SIGSEGV", "");
	came_to(o, "self.silent", "broken", "", "no answer");
	came_to(o, "self.breaks", "broken", "", "ENOENT");
	came_to(o, "self.breaks-in-child", "broken", "fine", "in a child: EIO");
	came_to(o, "self.ends", "broken", "fine", "status 3");
	came_to(o, "self.not-here", "n/a", "", "no such \"thing\" <here> & now");
	CU_ASSERT(json_object_get_boolean(member(case_of(o, "self.not-here"), "machine")));
	came_to(o, "self.nowhere", "n/a", "", "there is no such thing");
	CU_ASSERT(!json_object_get_boolean(member(case_of(o, "self.nowhere"), "machine")));
	came_to(o, "self.unasked", "n/a", "", "Nobody can ask it.");
	came_to(o, "self.leaves", "pass", "fine", "");
	came_to(o, "self.calls", "pass", "14", "");
	came_to(o, "self.contents", "pass", "old nothing ENOENT mixed 8193", "");
	CU_ASSERT_STRING_EQUAL(text(case_of(o, "self.contents"), "notes"), "zero");
	CU_ASSERT_STRING_EQUAL(text(case_of(o, "self.silent"), "notes"), "a note\nof two lines");
	came_to(o, "self.fills", "n/a", "", "--fill-max");
	PT_EQ(json_object_get_int(member(member(o, "counts"), "broken")), 4);
	PT_EQ(json_object_get_int(member(member(o, "counts"), "differs")), 1);
	(void)json_object_put(o);
	CU_ASSERT(holds_nothing(plain_dir()));
	CU_ASSERT(strstr(err, " 1 differ, ") != NULL);
	PT_EQ(ask("-F", "json", "--timeout", "1", "-f", "late.", plain_dir(), NULL), 0);
	o = json_tokener_parse(out);
	CU_ASSERT_FATAL(o != NULL);
	came_to(o, "late.hangs", "pass", "hangs", "");
	(void)json_object_put(o);
	CU_ASSERT(holds_nothing(plain_dir()));
}

static void statuses(void)
{
	const char *dir = plain_dir();

	PT_EQ(ask("-f", "self.right", dir, NULL), 0);
	PT_EQ(ask("-f", "self.wrong", dir, NULL), 1);
	PT_EQ(ask("-f", "self.breaks", dir, NULL), 1);
	/* Nothing was asked, which is not that all was well. */
	PT_EQ(ask("-f", "self.not-here,self.nowhere", dir, NULL), 2);
	CU_ASSERT(strstr(err, "nothing was asked: of 2 cases") != NULL && strstr(out, "self.nowhere") != NULL);
	PT_EQ(ask("-f", "self.not-here,self.right", dir, NULL), 0);
	/* Another answer the second time is a difference, even where all are right. */
	PT_EQ(ask("-f", "self.wavers", dir, NULL), 0);
	PT_EQ(ask("-f", "self.wavers", "--repeat", "3", dir, NULL), 1);
	CU_ASSERT(strstr(out, "at another time") != NULL);
	PT_EQ(ask("-f", "self.right", "--repeat", "3", dir, NULL), 0);
	PT_EQ(ask("--list", NULL), 0);
	CU_ASSERT(strstr(out, "self.right\n") != NULL && strstr(out, "pin.scene\n") != NULL);
	PT_EQ(ask("--list", "-f", "pin.", NULL), 0);
	CU_ASSERT(strstr(out, "self.right\n") == NULL && strstr(out, "pin.scene\n") != NULL);
	PT_EQ(ask("--version", NULL), 0);
	PT_EQ(ask("--help", NULL), 0);
	CU_ASSERT(strstr(out, "usage: pinfs-conform") == out);
	CU_ASSERT(holds_nothing(dir));
}

/* One line on standard error, which has @part in it, and status 2. */
static void refused(int rc, const char *part)
{
	const char *end = strchr(err, '\n');

	if (rc != 2 || end == NULL || end[1] != '\0' || strstr(err, part) == NULL)
		pt_say("status %d, and \"%s\"", rc, err);
	CU_ASSERT(rc == 2 && end != NULL && end[1] == '\0' && strstr(err, part) != NULL);
}

static void refusals(void)
{
	const char *dir = plain_dir();

	refused(ask("-f", "self.right", "/nonexistent", NULL), "No such file");
	refused(ask("-f", "self.right", "/dev/null", NULL), "not a directory");
	refused(ask("-f", "self.right", "/proc", NULL), "no directory can be made");
	refused(ask("-f", "nothing.such", dir, NULL), "nothing.such");
	refused(ask("-F", "xml", dir, NULL), "xml");
	refused(ask("--pin", "magic", dir, NULL), "magic");
	refused(ask("--profile", "linux-9.9", dir, NULL), "linux-9.9");
	refused(ask("--repeat", "0", dir, NULL), "\"0\"");
	refused(ask("--timeout", "-1", dir, NULL), "-1");
	refused(ask("--timeout", "1x", dir, NULL), "1x");
	refused(ask("--fill-max", "much", dir, NULL), "much");
	refused(ask("--policy", "ebusy", dir, NULL), "not on a pinfs mount");
	refused(ask("--expect", "/nonexistent", dir, NULL), "/nonexistent");
	refused(ask("--slow-dev", "/nonexistent", dir, NULL), "/nonexistent");
	refused(ask("--plain-dir", "/proc", dir, NULL), "/proc");
	refused(ask("-f", "self.right", "-o", "/nonexistent/file", dir, NULL), "/nonexistent/file");
	refused(ask("-f", "self.right", "-o", "/dev/full", dir, NULL), "/dev/full");
	PT_EQ(ask("--no-such-option", dir, NULL), 2);
	PT_EQ(ask(NULL), 2);
	PT_EQ(ask(dir, dir, NULL), 2);
	CU_ASSERT(holds_nothing(dir));
}

/* ---- formats ---- */

static unsigned int count(const char *where, const char *what)
{
	unsigned int n = 0;

	for (const char *p = where; (p = strstr(p, what)) != NULL; p += strlen(what))
		n++;
	return n;
}

static void tap(void)
{
	char line[64];
	unsigned int n;

	PT_EQ(ask("-F", "tap", "-f", "self.", plain_dir(), NULL), 1);
	CU_ASSERT(strncmp(out, "TAP version 14\n1..", 18) == 0);
	n = (unsigned int)strtoul(out + 18, NULL, 10);
	for (unsigned int i = 1; i <= n; i++) {
		(void)snprintf(line, sizeof line, "ok %u - self.", i);
		PT_EQ(count(out, line), 1);
	}
	PT_EQ(count(out, "\nok ") + count(out, "\nnot ok "), n);
	PT_EQ(count(out, "\nnot ok "), 5);
	CU_ASSERT(strstr(out, "self.not-here # SKIP machine: no such") != NULL);
	CU_ASSERT(strstr(out, "self.nowhere # SKIP there is") != NULL);
	/* What would be a directive is none, and YAML's quote is doubled. */
	CU_ASSERT(strstr(out, "self.any: it's \\#1 \\\\ 100%\n") != NULL);
	CU_ASSERT(strstr(out, "  answer: 'it''s #1 \\ 100%'\n") != NULL);
	PT_EQ(count(out, "\n  ---\n"), count(out, "\n  ...\n"));
}

/* A reader of XML that knows what a well-formed document without a DTD may have: the depth that it came to, or -1. */
static int well_formed(const char *p, unsigned int *elements)
{
	char stack[16][32];
	int depth = 0;

	*elements = 0;
	if (strncmp(p, "<?xml version=\"1.0\"", 19) != 0)
		return -1;
	p = strstr(p, "?>") + 2;
	while (*p != '\0') {
		size_t n;

		if (*p == '&') {
			n = 1 + strcspn(p + 1, ";<& ");
			if (p[n] != ';' || (strncmp(p, "&amp;", 5) != 0 && strncmp(p, "&lt;", 4) != 0 &&
					    strncmp(p, "&gt;", 4) != 0 && strncmp(p, "&quot;", 6) != 0 &&
					    strncmp(p, "&#10;", 5) != 0))
				return -1;
		}
		if (*p != '<') {
			if ((unsigned char)*p < 0x20 && *p != '\n' && *p != '\t')
				return -1;
			p++;
			continue;
		}
		if (p[1] == '/') {
			n = strcspn(p + 2, ">");
			if (depth == 0 || strlen(stack[depth - 1]) != n || strncmp(stack[depth - 1], p + 2, n) != 0)
				return -1;
			depth--;
			p += 2 + n + 1;
			continue;
		}
		n = strspn(p + 1, "abcdefghijklmnopqrstuvwxyz-");
		if (n == 0 || n > 31 || depth == 16)
			return -1;
		(*elements)++;
		(void)snprintf(stack[depth++], 32, "%.*s", (int)n, p + 1);
		for (p += 1 + n; *p == ' ';) {
			n = strspn(p + 1, "abcdefghijklmnopqrstuvwxyz-");
			if (n == 0 || strncmp(p + 1 + n, "=\"", 2) != 0)
				return -1;
			p += 1 + n + 2;
			n = strcspn(p, "\"<\n");
			if (p[n] != '"')
				return -1;
			p += n + 1;
		}
		if (p[0] == '/' && p[1] == '>') {
			depth--;
			p += 2;
		} else if (*p++ != '>') {
			return -1;
		}
	}
	return depth;
}

static void junit(void)
{
	unsigned int n;

	PT_EQ(ask("-F", "junit", "-f", "self.", plain_dir(), NULL), 1);
	PT_EQ(well_formed(out, &n), 0);
	CU_ASSERT(n > 20);
	CU_ASSERT(strstr(out, "name=\"The &quot;engine&quot; &amp; &lt;itself&gt;\"") != NULL);
	CU_ASSERT(strstr(out, "message=\"answered &quot;bad &amp; &lt;wrong&gt;&quot;, expected") != NULL);
	PT_EQ(count(out, "<failure "), 1);
	PT_EQ(count(out, "<error "), 4);
	PT_EQ(count(out, "<testcase "), count(out, "</testcase>"));
}

/* What was recorded is what is expected the next time. */
static void recorded(void)
{
	char path[600];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/record", pt_tmp());
	PT_EQ(ask("-f", "self.right,self.wrong,self.not-here,self.nowhere", "--record", path, plain_dir(), NULL), 1);
	PT_EQ(ask("-f", "self.right,self.wrong,self.not-here,self.nowhere", "--expect", path, plain_dir(), NULL), 0);
	CU_ASSERT(strstr(out, "2 passed, 0 differ, 2 not applicable, 0 broken") != NULL);
	/* Of what it does not have, nothing is expected. */
	PT_EQ(ask("-f", "self.either", "--expect", path, plain_dir(), NULL), 2);
	CU_ASSERT(strstr(out, "nothing is recorded") != NULL);
	f = fopen(path, "w");
	CU_ASSERT_FATAL(f != NULL);
	(void)fputs("self.right\tanother\n", f);
	(void)fclose(f);
	PT_EQ(ask("-f", "self.right", "--expect", path, plain_dir(), NULL), 1);
	PT_EQ(ask("-F", "tsv", "-f", "self.right,self.breaks", "-o", path, plain_dir(), NULL), 1);
	CU_ASSERT_STRING_EQUAL(out, "");
	f = fopen(path, "r");
	CU_ASSERT_FATAL(f != NULL);
	out[fread(out, 1, sizeof out - 1, f)] = '\0';
	(void)fclose(f);
	CU_ASSERT(strstr(out, "\nself.right\tfine\n") != NULL && strstr(out, "\n# self.breaks is broken: ") != NULL);
	(void)unlink(path);
}

/* ---- a signal ---- */

static void interrupted(void)
{
	const char *dir = plain_dir();
	const char *argv[] = { pt_program("tests/conform/self"), "-f", "late.hangs", dir, NULL };
	pid_t pid;
	uint64_t end = 0;

	for (int i = 0; i < 3; i++) {
		static const int sig[] = { SIGINT, SIGTERM, SIGHUP };

		pid = pt_spawn(argv, -1, -1);
		PT_SYS_FATAL(pid);
		/* The case runs in a directory of its own. */
		for (end = 0; holds_nothing(dir) && pt_wait_on(&end);)
			;
		(void)kill(pid, sig[i]);
		PT_EQ(pt_wait(pid, LIMIT_MS), 128 + sig[i]);
		CU_ASSERT(holds_nothing(dir));
	}
}

/* ---- on pinfs ---- */

static void on_pinfs(void)
{
	struct json_object *o;
	struct pt_fs *fs;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("64M", NULL);
	preload = true;
	PT_EQ(ask("-F", "json", "-f", "pin.,self.right,self.slow", fs->mnt, NULL), geteuid() == 0);
	o = json_tokener_parse(out);
	CU_ASSERT_FATAL(o != NULL);
	CU_ASSERT_STRING_EQUAL(text(o, "pins"), "api");
	came_to(o, "self.right", "pass", "fine", "");
	came_to(o, "self.slow", "pass", "dma", "");
	came_to(o, "pin.scene", "pass", "returns", "");
	came_to(o, "pin.behind", "pass", "both", "");
	came_to(o, "pin.held-back", "pass", "waits", "");
	came_to(o, "pin.ways", "pass", "done", "");
	CU_ASSERT_STRING_EQUAL(text(case_of(o, "pin.ways"), "notes"),
			       "api from: old\napi to: done, dma\nslow from: old\nslow to: done, dma\n"
			       "pipe from: old\npipe to: EOPNOTSUPP, old");
	if (geteuid() == 0) {
		came_to(o, "pin.powerless", "differs", "same", "cannot fail");
		came_to(o, "pin.wrong-twin", "differs", "14", "");
		came_to(o, "pin.no-twin", "broken", "returns", "does not wait");
	}
	(void)json_object_put(o);
	PT_EQ(ask("-f", "pin.powerless", "--no-twin", fs->mnt, NULL), 0);
	/* A policy of the directory, not of the mount. */
	PT_EQ(ask("-f", "pin.scene", "--policy", "ebusy", "-F", "json", fs->mnt, NULL), 2);
	CU_ASSERT(strstr(out, "does not wait for a pin here: EBUSY") != NULL);
	PT_EQ(ask("-f", "pin.held-back", "--policy", "fair=no", fs->mnt, NULL), 0);
	refused(ask("-f", "pin.scene", "--policy", "on_busy=maybe", fs->mnt, NULL), "no such policy");
	refused(ask("-f", "pin.scene", "--policy", "colour=red", fs->mnt, NULL), "colour");
	PT_EQ(ask("-f", "pin.held-back", "--profile", "linux-6.12", fs->mnt, NULL), 1);
	CU_ASSERT(strstr(out, "expected:  returns") != NULL);
	refused(ask("-f", "pin.scene", "--bare", fs->mnt, NULL), "pinrun");
	preload = false;
	PT_EQ(ask("-f", "pin.scene", "--bare", fs->mnt, NULL), 2);
	CU_ASSERT(strstr(out, "without the preload library") != NULL);
	CU_ASSERT(holds_nothing(fs->mnt));
	pt_fs_end(fs);
}

/* A process does not go before its transfers have ended; the suite ends them. */
static void early_ends(void)
{
	struct json_object *o;

	if (!pt_need_mount())
		return;
	PT_EQ(ask("-F", "json", "-f", "early.", plain_dir(), NULL), 0);
	o = json_tokener_parse(out);
	CU_ASSERT_FATAL(o != NULL);
	came_to(o, "early.end", "pass", "early", "");
	came_to(o, "early.na", "n/a", "early", "early");
	came_to(o, "early.killed", "pass", "dies: SIGKILL", "");
	(void)json_object_put(o);
}

static void read_only(void)
{
	struct pt_fs *fs;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("16M", NULL);
	PT_EQ(pt_fs_umount(fs), 0);
	PT_EQ(pt_fs_mount(fs, "ro"), 0);
	preload = true;
	refused(ask("-f", "self.right", fs->mnt, NULL), "Read-only file system");
	preload = false;
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "what a case comes to", verdicts, 180 },
		{ "exit statuses", statuses, 120 },
		{ "what is refused, in a line", refusals, 120 },
		{ "TAP", tap, 120 },
		{ "JUnit", junit, 120 },
		{ "records", recorded, 120 },
		{ "a signal ends it in order", interrupted, 120 },
		{ "on pinfs: waits, pins, twins, policies", on_pinfs, 180 },
		{ "ends while transfers are under way", early_ends, 120 },
		{ "a mount that is read-only", read_only, 60 },
	};
	static const struct pt_suite suites[] = { { "self", cases, PF_ARRAY_LEN(cases) } };

	pt_on_cleanup(no_plain_dir);
	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
