/* SPDX-License-Identifier: BSD-3-Clause */
/* main.c - pinfs(8): reads the command line, then daemon.c does the rest. */
#include <stdio.h>
#include <fcntl.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "base/log.h"
#include "front/daemon.h"
#include "front/opts.h"

/* Descriptors 0 to 2 must exist before any other is opened, or a message might land in the device. */
static void sane_stdio(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		(void)close(fd);
}

int main(int argc, char **argv)
{
	struct pf_cmdline c;
	char why[512];
	int status;

	sane_stdio();
	pf_log_init("pinfs", PF_LOG_INFO, false);
	status = pf_opts_parse(&c, argc, argv, why, sizeof why);
	if (status != PF_OPTS_OK) {
		pf_err("%s%s", why, status == PF_OPTS_USAGE ? " (pinfs -h shows the usage)" : "");
	} else if (c.help) {
		pf_opts_help();
	} else if (c.version) {
		(void)printf("pinfs %s (media %d.%d, protocol %d.%d)\n", PINFS_VERSION, PINFS_MEDIA_MAJOR,
			     PINFS_MEDIA_MINOR, PINFS_PROTO_MAJOR, PINFS_PROTO_MINOR);
	} else {
		status = pf_daemon_run(&c);
	}
	pf_opts_free(&c);
	return status;
}
