/* SPDX-License-Identifier: BSD-3-Clause */
/* daemon.h - the life of one mount: detach, bring up, watch, take down. */
#ifndef PF_FRONT_DAEMON_H
#define PF_FRONT_DAEMON_H

#include "front/opts.h"

/*
 * Serve @c until the file system is unmounted or a signal ends it. Returns the exit status of the program: in the
 * foreground that of the daemon; otherwise 0 as soon as the mount is usable, or 1 after one line on stderr that says
 * why it is not.
 */
int pf_daemon_run(const struct pf_cmdline *c);

#endif
