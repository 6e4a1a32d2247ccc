/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * detect.c - what the directory is, as tags of cf_case.want: by asking it, not by its name. What maps or pins is tried
 * in a child, so that the runner has neither windows nor a session.
 */
#include "conform/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <pinfs/pin.h>
#include "lib/cli.h"

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif

struct tried {
	bool made;			/* a file of 4 KiB, written and mapped */
	int err;			/* errno, if not */
	bool dax;			/* statx(2) says so */
	int pin;			/* pinfs_pin(); 1: there is none */
};

static void try_it(const char *work, struct tried *t)
{
	int (*pin)(const void *, size_t, unsigned int, struct pinfs_pin **);
	char path[PATH_MAX + 16], page[CF_PAGE];
	struct pinfs_pin *held;
	struct statx sx;
	void *p;
	int fd;

	(void)snprintf(path, sizeof path, "%s/probe", work);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	t->err = errno;
	if (fd < 0)
		return;
	memset(page, CF_BYTE, sizeof page);
	/* A device DAX node by profile is written through mappings only. */
	if (write(fd, page, sizeof page) != (ssize_t)sizeof page && ftruncate(fd, (off_t)CF_CHUNK) != 0) {
		t->err = errno;
		return;
	}
	p = mmap(NULL, CF_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED && errno == EINVAL)
		p = mmap(NULL, CF_CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	t->made = p != MAP_FAILED;
	t->err = errno;
	t->dax = statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx) == 0 &&
		 (sx.stx_attributes & STATX_ATTR_DAX) != 0;
	*(void **)&pin = cf_symbol("pinfs_pin");
	if (pin != NULL && t->made)
		t->pin = pin(p, CF_PAGE, PINFS_PIN_WRITE, &held);
}

static bool try_in_child(const char *work, struct tried *out)
{
	struct tried *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char path[PATH_MAX + 16];
	pid_t pid;

	if (t == MAP_FAILED)
		return false;
	*t = (struct tried){ .pin = 1 };
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		try_it(work, t);
		_exit(0);
	}
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
	*out = *t;
	(void)munmap(t, sizeof *t);
	(void)snprintf(path, sizeof path, "%s/probe", work);
	(void)unlink(path);
	return out->made;
}

static struct json_object *member(struct json_object *o, const char *name)
{
	struct json_object *v = NULL;

	(void)json_object_object_get_ex(o, name, &v);
	return v;
}

/* What may be no tag of ours. */
static void add_known(struct tags *t, const char *tag)
{
	if (tag_known(tag, strlen(tag)))
		tags_add(t, tag);
}

/* A policy: of the directory, else of the mount. */
static const char *policy(const struct place *p, struct json_object *opts, const char *key, char *buf, size_t room)
{
	struct json_object *v = member(opts, key);
	char name[64];
	ssize_t n;

	(void)snprintf(name, sizeof name, "user.pinfs.%s", key);
	n = getxattr(p->work, name, buf, room - 1);
	if (n > 0)
		buf[n] = '\0';
	else
		(void)snprintf(buf, room, "%s", v != NULL ? json_object_get_string(v) : "");
	return buf;
}

static bool yes(const char *s)
{
	return strcmp(s, "yes") == 0 || strcmp(s, "true") == 0 || strcmp(s, "1") == 0;
}

static int pinfs_tags(struct place *p, const struct tried *tried)
{
	struct json_object *report = daemon_report(p, false), *opts, *v;
	char busy[32], buf[32], profile[32];

	if (report == NULL)
		return -1;
	opts = member(report, "options");
	v = member(opts, "profile");
	(void)snprintf(profile, sizeof profile, "%s", v != NULL ? json_object_get_string(v) : "");
	v = member(report, "version");
	add_known(&p->tags, strcmp(profile, "pinfs") == 0 ? "own" :
			   strcmp(profile, "virtiofs") == 0 ? "virtiofs-dax" : profile);
	if (strncmp(profile, "linux-", 6) == 0)
		tags_add(&p->tags, "linux");
	add_known(&p->tags, policy(p, opts, "on_busy", busy, sizeof busy));
	(void)snprintf(p->what, sizeof p->what, "pinfs %s%s, profile %s, on_busy=%s",
		       v != NULL ? json_object_get_string(v) : "",
		       tried->pin == 0 ? "" : tried->pin == 1 ? " without the preload library" : " without windows",
		       profile, busy);
	add_known(&p->tags, policy(p, opts, "break", buf, sizeof buf));
	tags_add(&p->tags, yes(policy(p, opts, "fair", buf, sizeof buf)) ? "fair" : "unfair");
	tags_add(&p->tags, strcmp(policy(p, opts, "deadlock", buf, sizeof buf), "wait") == 0 ? "nodetect" : "detect");
	add_known(&p->tags, policy(p, opts, "longterm", buf, sizeof buf));
	add_known(&p->tags, policy(p, opts, "lease_break", buf, sizeof buf));
	v = member(opts, "window");
	if (v != NULL && json_object_get_int64(v) < (int64_t)16 << 20)
		tags_add(&p->tags, "tiny");
	(void)json_object_put(report);
	return 0;
}

static void kernel_tags(struct tags *t, const char *fs, const char *version)
{
	static const char *const all[] = { "kernel", "dax", "linux", "wait", "file", "unfair", "nodetect", "refuse" };

	add_known(t, fs);
	for (size_t i = 0; i < PF_ARRAY_LEN(all); i++)
		tags_add(t, all[i]);
	add_known(t, version);
}

/* Where pins come from: what the user wants, else the best there is. */
static void find_pins(struct place *p, const struct tried *tried)
{
	char why[200] = "there is no slow file";
	const char *tmp = getenv("TMPDIR"), *wanted = p->pin;
	const bool api = p->pinfs && tried->pin == 0;

	if (p->slow_dev != NULL && wanted == NULL)
		wanted = "slow";
	(void)slow_start(tmp != NULL ? tmp : "/tmp", why, sizeof why);
	p->pin = NULL;
	if (wanted != NULL && strcmp(wanted, "api") == 0 && !api)
		(void)snprintf(p->no_pins, sizeof p->no_pins, "pinfs_pin() is not to be had here");
	else if (wanted != NULL && strcmp(wanted, "slow") == 0 && p->slow_dev == NULL && !slow_there())
		(void)snprintf(p->no_pins, sizeof p->no_pins, "no slow file: %s", why);
	else if (wanted != NULL)
		p->pin = wanted;
	else if (api)
		p->pin = "api";
	else if (p->pinfs)
		(void)snprintf(p->no_pins, sizeof p->no_pins,
			       "pinfs hears nothing of pins in the kernel's own mappings");
	else if (slow_there())
		p->pin = "slow";
	else
		(void)snprintf(p->no_pins, sizeof p->no_pins, "no slow file: %s", why);
	if (p->pin != NULL)
		tags_add(&p->tags, p->pin);
}

/* What --profile expects: pinfs(8) has the table of the first six. */
static const struct {
	const char *name, *tags;
} profiles[] = {
	{ "pinfs", "own wait range fair detect refuse revoke" },
	{ "linux-4.15", "linux-4.15 linux unsafe file unfair nodetect refuse revoke" },
	{ "linux-4.19", "linux-4.19 linux wait file unfair nodetect refuse revoke" },
	{ "linux-6.12", "linux-6.12 linux wait file unfair nodetect refuse revoke" },
	{ "virtiofs", "virtiofs-dax wait file unfair nodetect refuse revoke" },
	{ "devdax", "devdax wait file unfair nodetect allow revoke" },
	/* Places. */
	{ "ext4", "ext4 kernel dax linux wait file unfair nodetect refuse k6.12" },
	{ "xfs", "xfs kernel dax linux wait file unfair nodetect refuse k6.12" },
	{ "plain", "plain" },
};
#define NPROFILE 6

static size_t find_profile(const char *name)
{
	size_t i = 0;

	while (i < PF_ARRAY_LEN(profiles) && strcmp(profiles[i].name, name) != 0)
		i++;
	return i;
}

bool profile_known(const char *name)
{
	return find_profile(name) < PF_ARRAY_LEN(profiles);
}

static void apply_profile(struct place *p)
{
	static const char *const stay[] = { "root", "user", "tiny", "api", "slow", "pipe", "pinfs", "bare", "dax" };
	const size_t at = find_profile(p->profile);
	char list[128], *save = NULL;

	for (size_t i = 0; i < PF_ARRAY_LEN(stay) - (at < NPROFILE ? 0 : 3); i++)
		if (tags_have(&p->tags, stay[i]))
			tags_add(&p->want_tags, stay[i]);
	(void)snprintf(list, sizeof list, "%s", profiles[at].tags);
	for (char *tag = strtok_r(list, " ", &save); tag != NULL; tag = strtok_r(NULL, " ", &save))
		add_known(&p->want_tags, tag);
}

static void find_programs(struct place *p)
{
	char self[PATH_MAX], path[PATH_MAX + 16];
	const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n <= 0)
		return;
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	(void)snprintf(path, sizeof path, "%s/pinfsctl", self);
	if (access(path, X_OK) == 0)
		(void)snprintf(p->programs, sizeof p->programs, "%s", self);
}

int detect(struct place *p)
{
	const char *user = geteuid() == 0 ? "root" : "user";
	struct tried tried = { .pin = 1 };
	struct utsname u;
	char version[16] = "";
	int major, minor;

	if (!mount_of(p->dir, p->mount, p->fstype)) {
		cli_error("%s: on no mount that /proc/self/mountinfo has", p->dir);
		return -1;
	}
	p->pinfs = on_pinfs(p->dir);
	if (!try_in_child(p->work, &tried)) {
		cli_error("%s: no file can be made, written and mapped there: %s", p->dir, strerror(tried.err));
		return -1;
	}
	if (uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2)
		(void)snprintf(version, sizeof version, "k%d.%d", major, minor);
	if (p->pinfs && tried.pin == 0) {
		tags_add(&p->tags, "pinfs");
		tags_add(&p->tags, "dax");
	} else if (p->pinfs) {
		tags_add(&p->tags, "bare");
	} else if (strcmp(p->fstype, "virtiofs") == 0 && tried.dax) {
		tags_add(&p->tags, "virtiofs");
		tags_add(&p->tags, "dax");
	} else if ((strcmp(p->fstype, "ext4") == 0 || strcmp(p->fstype, "xfs") == 0) && tried.dax) {
		kernel_tags(&p->tags, p->fstype, version);
	} else {
		tags_add(&p->tags, "plain");
	}
	if (!p->pinfs)
		(void)snprintf(p->what, sizeof p->what, "%s %s, Linux %s", p->fstype,
			       tried.dax ? "with DAX" : "without DAX", version + 1);
	else if (pinfs_tags(p, &tried) != 0)
		return -1;
	tags_add(&p->tags, user);
	find_pins(p, &tried);
	find_programs(p);
	kernel_tags(&p->linux_tags, "ext4", "k6.12");
	tags_add(&p->linux_tags, user);
	tags_add(&p->linux_tags, "slow");
	if (p->profile != NULL)
		apply_profile(p);
	else
		p->want_tags = p->tags;
	return 0;
}
