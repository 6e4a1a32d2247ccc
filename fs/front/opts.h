/* SPDX-License-Identifier: BSD-3-Clause */
/* opts.h - the command line of pinfs(8). */
#ifndef PF_FRONT_OPTS_H
#define PF_FRONT_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/fs.h"

struct pf_cmdline {
	struct pf_opts opts;
	char *device;			/* as given */
	char *mountpoint;
	char *fsname;			/* NULL: the device */
	char *kernel;			/* comma separated mount options for libfuse; never NULL */
	bool unchecked;			/* no_default_permissions */
	bool foreground;
	bool debug;
	bool help;
	bool version;
};

#define PF_OPTS_OK 0
#define PF_OPTS_BAD 1		/* an unknown option or a bad value: exit status 1 */
#define PF_OPTS_USAGE 2		/* not even the right shape: exit status 2 */

/* Fill @c from argv; on failure @why is one phrase, NUL terminated. Strings are the caller's: pf_opts_free(). */
int pf_opts_parse(struct pf_cmdline *c, int argc, char *const *argv, char *why, size_t whylen);
void pf_opts_free(struct pf_cmdline *c);
/* Usage and options, for people; to stdout. */
void pf_opts_help(void);

/* A part of it, for tests: 0 or -EINVAL. "512M", "4G". */
int pf_opts_size(const char *s, uint64_t *bytes);

#endif
