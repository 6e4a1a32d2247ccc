/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * opts.c - reads the command line of pinfs(8): our own options by one table, the kernel's by another.
 *
 * Nothing is handed to libfuse that is not known here, so every mistake is named in our own words, and no option is
 * accepted that does nothing; the exceptions are those which mount(8) and fstab(5) use among themselves.
 */
#include "front/opts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pinfs/ledger.h>
#include "base/profile.h"

/* Without an argument, passed on as they are. */
static const char *const kernel_flags[] = {
	"rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "async", "sync", "dirsync", "noatime",
	"allow_other",
};

/* The kernel's defaults, and words that fstab(5), mount(8) and systemd say to each other. */
static const char *const no_ops[] = {
	"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "atime",
	"diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "default_permissions",
};

struct parser {
	struct pf_cmdline *c;
	unsigned int given;		/* 1 << enum pf_policy_key */
	char *why;
	size_t whylen;
};

static PF_PRINTF(2, 3) int bad(struct parser *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(p->why, p->whylen, fmt, ap);
	va_end(ap);
	return PF_OPTS_BAD;
}

int pf_opts_size(const char *s, uint64_t *bytes)
{
	static const char unit[] = "KMGT";
	unsigned long long n;
	const char *u;
	unsigned int shift = 0;
	char *end;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(s, &end, 10);
	if (errno != 0)
		return -EINVAL;
	if (*end != '\0') {
		u = strchr(unit, *end);
		if (u == NULL || (end[1] != '\0' && strcmp(end + 1, "iB") != 0))
			return -EINVAL;
		shift = 10 * (unsigned int)(u - unit + 1);
	}
	if (n > UINT64_MAX >> shift)
		return -EINVAL;
	*bytes = (uint64_t)n << shift;
	return 0;
}

static int set_name(struct parser *p, const char *key, const char *val, const char *const *names, int n)
{
	char list[128] = "";
	size_t used = 0;

	for (int i = 0; i < n; i++) {
		if (strcmp(val, names[i]) == 0)
			return i;
		used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i != 0 ? ", " : "", names[i]);
	}
	(void)bad(p, "%s=%s: must be one of %s", key, val, list);
	return -1;
}

static int set_dax(struct parser *p, const char *val)
{
	int v = set_name(p, "dax", val, pf_dax_name, PF_DAX_NR);

	if (v < 0)
		return PF_OPTS_BAD;
	p->c->opts.dax = (enum pf_dax)v;
	return PF_OPTS_OK;
}

static int set_profile(struct parser *p, const char *val)
{
	int v = set_name(p, "profile", val, pf_profile_name, PF_PROFILE_NR);

	if (v < 0)
		return PF_OPTS_BAD;
	p->c->opts.profile = (enum pf_profile)v;
	return PF_OPTS_OK;
}

static int set_pmem(struct parser *p, const char *val)
{
	int v = set_name(p, "pmem", val, pf_pmem_name, PF_PMEM_NR);

	if (v < 0)
		return PF_OPTS_BAD;
	p->c->opts.pmem = (enum pf_pmem_mode)v;
	return PF_OPTS_OK;
}

static int set_errors(struct parser *p, const char *val)
{
	int v = set_name(p, "errors", val, pf_errors_name, PF_ERRORS_NR);

	if (v < 0)
		return PF_OPTS_BAD;
	p->c->opts.errors = (enum pf_errors)v;
	return PF_OPTS_OK;
}

static int set_revoke_timeout(struct parser *p, const char *val)
{
	if (pf_parse_ms(val, &p->c->opts.revoke_timeout_ms) != 0 || p->c->opts.revoke_timeout_ms == 0)
		return bad(p, "revoke_timeout=%s: must be seconds (2, 0.5) or milliseconds (250ms) above 0", val);
	return PF_OPTS_OK;
}

static int set_window(struct parser *p, const char *val)
{
	uint64_t n;

	if (pf_opts_size(val, &n) != 0 || n < PF_WINDOW_MIN || n > PF_WINDOW_MAX || n % PF_CHUNK_SIZE != 0)
		return bad(p, "window=%s: must be a size from 4M to 1T (K, M, G or T), a multiple of 2M", val);
	p->c->opts.window = n;
	return PF_OPTS_OK;
}

static int set_defer_limit(struct parser *p, const char *val)
{
	uint64_t n;

	if (pf_opts_size(val, &n) != 0 || n < PF_BLK_SIZE)
		return bad(p, "defer_limit=%s: must be a size of 4K or more (K, M, G or T)", val);
	p->c->opts.defer_limit = n;
	return PF_OPTS_OK;
}

static int set_longterm_limit(struct parser *p, const char *val)
{
	uint64_t n;

	if (pf_opts_size(val, &n) != 0 || n < PF_BLK_SIZE)
		return bad(p, "longterm_limit=%s: must be a size of 4K or more (K, M, G or T)", val);
	p->c->opts.longterm_limit = n;
	return PF_OPTS_OK;
}

static int set_cache(struct parser *p, const char *val)
{
	uint64_t n;

	if (pf_opts_size(val, &n) != 0 || n < 64 || n > UINT32_MAX)
		return bad(p, "cache=%s: must be a number of inodes from 64 to 4G (K, M or G)", val);
	p->c->opts.cache = n;
	return PF_OPTS_OK;
}

static int set_fsname(struct parser *p, const char *val)
{
	if (*val == '\0')
		return bad(p, "fsname=: must not be empty");
	free(p->c->fsname);
	p->c->fsname = strdup(val);
	return p->c->fsname != NULL ? PF_OPTS_OK : bad(p, "%s", strerror(ENOMEM));
}

static const struct {
	const char *key;
	int (*set)(struct parser *p, const char *val);
} valued[] = {
	{ "dax", set_dax },
	{ "profile", set_profile },
	{ "window", set_window },
	{ "defer_limit", set_defer_limit },
	{ "longterm_limit", set_longterm_limit },
	{ "revoke_timeout", set_revoke_timeout },
	{ "pmem", set_pmem },
	{ "errors", set_errors },
	{ "cache", set_cache },
	{ "fsname", set_fsname },
};

static bool listed(const char *s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(s, list[i]) == 0)
			return true;
	return false;
}

static int append(struct parser *p, const char *opt)
{
	char *s = NULL;

	if (asprintf(&s, "%s%s%s", p->c->kernel, p->c->kernel[0] != '\0' ? "," : "", opt) < 0)
		return bad(p, "%s", strerror(ENOMEM));
	free(p->c->kernel);
	p->c->kernel = s;
	return PF_OPTS_OK;
}

/* The kernel shows these words in /proc/mounts; reading is what we see, so it is us who keep the times. */
static void set_atime(struct pf_opts *o, const char *opt)
{
	if (strcmp(opt, "noatime") == 0)
		o->atime = PF_ATIME_NEVER;
	else if (strcmp(opt, "strictatime") == 0)
		o->atime = PF_ATIME_STRICT;
	else if (strcmp(opt, "atime") == 0 || strcmp(opt, "relatime") == 0 || strcmp(opt, "nostrictatime") == 0)
		o->atime = PF_ATIME_RELATIME;
	else if (strcmp(opt, "nodiratime") == 0 || strcmp(opt, "diratime") == 0)
		o->nodiratime = opt[0] == 'n';
}

static int one_option(struct parser *p, char *opt)
{
	char *val = strchr(opt, '=');
	enum pf_policy_key key;
	const char *must;

	if (strcmp(opt, "ro") == 0 || strcmp(opt, "rw") == 0) {
		p->c->opts.ro = opt[1] == 'o';
		return PF_OPTS_OK;
	}
	if (strcmp(opt, "overcommit") == 0) {
		p->c->opts.overcommit = true;
		return PF_OPTS_OK;
	}
	if (strcmp(opt, "pause_points") == 0) {
		p->c->opts.pause_points = true;
		return PF_OPTS_OK;
	}
	if (strcmp(opt, "no_default_permissions") == 0 || strcmp(opt, "default_permissions") == 0) {
		p->c->unchecked = opt[0] == 'n';
		return PF_OPTS_OK;
	}
	if (strcmp(opt, "dax") == 0)		/* what it was before it had values */
		return set_dax(p, pf_dax_name[PF_DAX_ALWAYS]);
	set_atime(&p->c->opts, opt);
	if (listed(opt, kernel_flags, PF_ARRAY_LEN(kernel_flags)))
		return append(p, opt);
	if (listed(opt, no_ops, PF_ARRAY_LEN(no_ops)) || strncmp(opt, "x-", 2) == 0 || strncmp(opt, "comment=", 8) == 0)
		return PF_OPTS_OK;
	if (val != NULL)
		*val = '\0';
	if (pf_policy_find(opt, &key) == 0) {
		if (val == NULL)
			return bad(p, "%s needs a value: -o %s=...", opt, opt);
		if (pf_policy_set(&p->c->opts.policy, key, val + 1, &must) != 0)
			return bad(p, "%s=%s: must be %s", opt, val + 1, must);
		p->given |= 1U << key;
		return PF_OPTS_OK;
	}
	for (size_t i = 0; i < PF_ARRAY_LEN(valued); i++) {
		if (strcmp(opt, valued[i].key) != 0)
			continue;
		if (val == NULL)
			return bad(p, "%s needs a value: -o %s=...", opt, opt);
		return valued[i].set(p, val + 1);
	}
	return bad(p, "unknown option -o %s", opt);
}

/* "a,b=c": a comma after a backslash belongs to the value, as mount(8) and libfuse have it. */
static int option_list(struct parser *p, const char *list)
{
	char *copy = strdup(list), *in, *out;
	int rc = PF_OPTS_OK;

	if (copy == NULL)
		return bad(p, "%s", strerror(ENOMEM));
	for (in = copy; rc == PF_OPTS_OK && *in != '\0';) {
		char *start = in;
		bool more;

		for (out = in; *in != '\0' && *in != ','; in++) {
			if (*in == '\\' && in[1] != '\0')
				in++;
			*out++ = *in;
		}
		more = *in == ',';
		*out = '\0';
		if (out != start)
			rc = one_option(p, start);
		if (more)
			in++;
	}
	free(copy);
	return rc;
}

static int positional(struct parser *p, const char *arg)
{
	char **slot = p->c->device == NULL ? &p->c->device : &p->c->mountpoint;

	if (*slot != NULL) {
		(void)bad(p, "too many arguments: %s", arg);
		return PF_OPTS_USAGE;
	}
	*slot = strdup(arg);
	return *slot != NULL ? PF_OPTS_OK : bad(p, "%s", strerror(ENOMEM));
}

static int short_option(struct parser *p, const char *arg, const char *next, int *used_next)
{
	if (strncmp(arg, "-o", 2) == 0) {
		*used_next = arg[2] == '\0';
		if (*used_next && next == NULL) {
			(void)bad(p, "-o needs a list of options");
			return PF_OPTS_USAGE;
		}
		return option_list(p, arg[2] != '\0' ? arg + 2 : next);
	}
	if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0)
		p->c->help = true;
	else if (strcmp(arg, "-V") == 0 || strcmp(arg, "--version") == 0)
		p->c->version = true;
	else if (strcmp(arg, "-f") == 0)
		p->c->foreground = true;
	else if (strcmp(arg, "-d") == 0)
		p->c->debug = p->c->foreground = true;
	else {
		(void)bad(p, "unknown option %s", arg);
		return PF_OPTS_USAGE;
	}
	return PF_OPTS_OK;
}

int pf_opts_parse(struct pf_cmdline *c, int argc, char *const *argv, char *why, size_t whylen)
{
	struct parser p = { .c = c, .why = why, .whylen = whylen };
	bool only_args = false;
	int rc;

	*c = (struct pf_cmdline){
		.opts = { .policy = { .on_busy = PF_BUSY_WAIT, .scope = PF_SCOPE_RANGE }, .pmem = PF_PMEM_AUTO,
			  .errors = PF_ERRORS_REMOUNT_RO, .revoke_timeout_ms = 10000, .window = UINT64_C(4) << 30 },
	};
	c->kernel = strdup("");
	if (c->kernel == NULL)
		return bad(&p, "%s", strerror(ENOMEM));
	for (int i = 1; i < argc; i++) {
		int used_next = 0;

		if (!only_args && strcmp(argv[i], "--") == 0) {
			only_args = true;
			continue;
		}
		if (!only_args && argv[i][0] == '-' && argv[i][1] != '\0')
			rc = short_option(&p, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &used_next);
		else
			rc = positional(&p, argv[i]);
		if (rc != PF_OPTS_OK)
			return rc;
		if (c->help || c->version)
			return PF_OPTS_OK;
		i += used_next;
	}
	if (c->mountpoint == NULL) {
		(void)bad(&p, "%s", c->device == NULL ? "no device and no mount point" : "no mount point");
		return PF_OPTS_USAGE;
	}
	if (c->opts.profile == PF_PROFILE_DEVDAX && c->opts.dax != PF_DAX_ALWAYS)
		return bad(&p, "dax=%s: with profile=devdax every file is a device", pf_dax_name[c->opts.dax]);
	pf_profile_apply(&c->opts, p.given);
	rc = append(&p, c->opts.ro ? "ro" : "rw");
	if (rc == PF_OPTS_OK && !c->unchecked)
		rc = append(&p, "default_permissions");
	return rc;
}

void pf_opts_free(struct pf_cmdline *c)
{
	free(c->device);
	free(c->mountpoint);
	free(c->fsname);
	free(c->kernel);
	*c = (struct pf_cmdline){ 0 };
}

void pf_opts_help(void)
{
	(void)fputs(
		"usage: pinfs [-f] [-d] [-o OPTION[,OPTION...]] DEVICE MOUNTPOINT\n"
		"\n"
		"  -f                     stay in the foreground, messages to stderr\n"
		"  -d                     -f, and show every request\n"
		"  -h, --help             show this\n"
		"  -V, --version          show the versions of software, media and protocol\n"
		"\n"
		"  on_busy=POLICY         what truncate and hole punching do that meet a pin:\n"
		"                         wait (default), ebusy, defer, poll, unsafe (corrupts: for experiments)\n"
		"  busy_timeout=TIME      wait at most this long, then EBUSY (default 0: no limit)\n"
		"  fair=yes|no            pins that come later wait for the truncate that waits (default), or not\n"
		"  deadlock=detect|wait   EDEADLK for a wait that cannot end (default), or wait as Linux does\n"
		"  poll_interval=TIME     with on_busy=poll: time between two looks (default 10ms)\n"
		"  break=SCOPE            whose pins count: range (default), file (as Linux does)\n"
		"  defer_limit=SIZE       blocks that on_busy=defer may keep back; then it waits (default: a quarter)\n"
		"  longterm=POLICY        pins that last as long as the client likes (RDMA, VFIO, ...):\n"
		"                         refuse (default), lease (only under one), allow\n"
		"  longterm_limit=SIZE    how much a user may pin so (default: RLIMIT_MEMLOCK alone)\n"
		"  dax=WHICH              files that clients may map directly: always (default), never,\n"
		"                         inode (those with the flag of chattr +x)\n"
		"  profile=SYSTEM         answers of another system, as defaults for the options above:\n"
		"                         linux-4.15, linux-4.19, linux-6.12, virtiofs, devdax\n"
		"  window=SIZE            mappings that one client may hold (default 4G)\n"
		"  revoke_timeout=TIME    how long a client may take to unmap (default 10)\n"
		"  pmem=MODE              how bytes become durable: auto (default), cpu, msync\n"
		"  errors=REACTION        what damage that is found does to the mount:\n"
		"                         remount-ro (default), shutdown, continue\n"
		"  cache=N                inodes kept in memory that nobody uses (default 16K)\n"
		"  overcommit             a sparse image may outgrow the filesystem that holds it\n"
		"  pause_points           root may stop operations on their way (pinfsctl pause): for tests\n"
		"  ro, allow_other, no_default_permissions, fsname=NAME and the usual mount options\n"
		"\n"
		"  TIME is in seconds (2, 0.5) or milliseconds (250ms); SIZE takes K, M, G or T. See pinfs(8).\n",
		stdout);
}
