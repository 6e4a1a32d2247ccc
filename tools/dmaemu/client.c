/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.c - `dmaemu submit`, `wait`, `go`, `cancel`, `list`: one connection, one request, print the answer.
 */
#include "dmaemu/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int wire_addr(const char *path, struct sockaddr_un *sa, unsigned int *len)
{
	size_t n = path != NULL ? strlen(path) : 0;

	if (n == 0 || (path[0] == '@' && n == 1))
		return -EINVAL;
	if (n >= sizeof sa->sun_path)
		return -ENAMETOOLONG;
	memset(sa, 0, sizeof *sa);
	sa->sun_family = AF_UNIX;
	memcpy(sa->sun_path, path, n);
	if (path[0] == '@')
		sa->sun_path[0] = '\0';
	/* An abstract name has no terminator: its length is exact. */
	*len = (unsigned int)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '@' ? 0 : 1));
	return 0;
}

static int dial(const char *path, int *out)
{
	struct sockaddr_un sa;
	unsigned int len;
	int fd, err = wire_addr(path, &sa, &len);

	if (err != 0)
		return complain(EX_USE, "--socket %s: %s", path, strerror(-err));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return complain(EX_FAIL, "socket: %s", strerror(errno));
	if (connect(fd, (const struct sockaddr *)(const void *)&sa, len) != 0) {
		err = complain(EX_FAIL, "no device serves %s: %s", path, strerror(errno));
		(void)close(fd);
		return err;
	}
	*out = fd;
	return EX_OK;
}

static int send_req(int sock, struct wire_req *req, const int *fds, unsigned int n)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(WIRE_FDS * sizeof(int))]; } c;
	struct iovec iov = { .iov_base = req, .iov_len = sizeof *req };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	req->magic = WIRE_MAGIC;
	if (n != 0) {
		memset(&c, 0, sizeof c);
		m.msg_control = c.room;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c.h.cmsg_level = SOL_SOCKET;
		c.h.cmsg_type = SCM_RIGHTS;
		c.h.cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(&c.h), fds, n * sizeof(int));
	}
	if (sendmsg(sock, &m, MSG_NOSIGNAL) != (ssize_t)sizeof *req)
		return complain(EX_FAIL, "the device does not listen: %s", strerror(errno));
	return EX_OK;
}

static int get_reply(int sock, struct wire_reply *r)
{
	ssize_t n;

	do
		n = recv(sock, r, sizeof *r, 0);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return complain(EX_FAIL, "the device has gone");
	if (n < 0)
		return complain(EX_FAIL, "the device does not answer: %s", strerror(errno));
	if (n != (ssize_t)sizeof *r || r->magic != WIRE_MAGIC)
		return complain(EX_FAIL, "the device is of another build");
	r->why[sizeof r->why - 1] = '\0';
	r->job.name[sizeof r->job.name - 1] = '\0';
	return EX_OK;
}

static int wait_for(int sock, uint64_t id, uint64_t timeout_ns, bool json)
{
	struct wire_req req = { .verb = WIRE_WAIT, .id = id, .timeout_ns = timeout_ns };
	struct wire_reply r = { 0 };
	int status = send_req(sock, &req, NULL, 0);

	if (status == EX_OK)
		status = get_reply(sock, &r);
	if (status != EX_OK)
		return status;
	if (r.err == -ETIMEDOUT)
		return complain(EX_TIMEOUT, "transfer %" PRIu64 " has not ended in time", id);
	if (r.err != 0)
		return complain(EX_FAIL, "transfer %" PRIu64 ": %s", id, r.why);
	return job_print(json, &r.job, &r.st);
}

int cmd_submit(int argc, char **argv)
{
	struct wire_req req = { .verb = WIRE_SUBMIT };
	struct wire_reply r = { 0 };
	struct remote rem = { .pin = NULL };
	int fds[WIRE_FDS] = { -1, -1, -1, -1 };
	unsigned int n = 1;
	struct job_args a;
	int status = job_parse(argc, argv, false, &a), sock = -1, fd, err;
	const char *why;

	if (status != EX_OK)
		return status;
	fd = open(a.file, job_open_flags(&a.job));
	if (fd < 0)
		return complain(EX_FAIL, "%s: %s", a.file, strerror(errno));
	status = dial(a.socket, &sock);
	if (status != EX_OK)
		goto out_close;
	req.job = a.job;
	fds[0] = fd;
	if (a.job.owner != JOB_DEVICE) {
		err = remote_give(&rem, fd, &req, fds, &why);
		if (err != 0)
			status = complain_start(a.file, why, err);
		for (n = 0; n < WIRE_FDS && fds[n] >= 0; n++)
			;
	}
	if (status == EX_OK)
		status = send_req(sock, &req, fds, n);
	if (status == EX_OK)
		status = get_reply(sock, &r);
	if (status == EX_OK && r.err != 0)
		status = complain_start(a.file, r.why, r.err);
	if (status == EX_OK && a.wait)
		status = wait_for(sock, r.job.id, DMA_NEVER, a.json);
	else if (status == EX_OK && a.json)
		(void)job_print(true, &r.job, &r.st);
	else if (status == EX_OK)
		(void)printf("%" PRIu64 "\n", r.job.id);
	for (unsigned int i = 0; i < WIRE_FDS; i++)
		if (fds[i] >= 0 && fds[i] != fd)
			(void)close(fds[i]);
	/* Without --wait the client's pin goes as that of a program that dies: its blocks are kept for the device. */
	(void)fflush(stdout);
	if (rem.pin != NULL && !a.wait)
		_exit(status);
	remote_close(&rem);
out_close:
	if (sock >= 0)
		(void)close(sock);
	(void)close(fd);
	return status;
}

struct args {
	const char *socket;
	uint64_t id, timeout_ns;
	bool json;
};

static int parse(int argc, char **argv, bool want_id, struct args *out)
{
	enum { O_SOCKET = 256, O_TIMEOUT, O_JSON };
	static const struct option opts[] = {
		{ "socket", required_argument, NULL, O_SOCKET },
		{ "timeout", required_argument, NULL, O_TIMEOUT },
		{ "json", no_argument, NULL, O_JSON },
		{ NULL, 0, NULL, 0 },
	};
	struct args a = { .timeout_ns = DMA_NEVER };
	int c, err = EX_OK;

	optind = 1;
	while (err == EX_OK && (c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		switch (c) {
		case O_SOCKET: a.socket = optarg; break;
		case O_TIMEOUT: err = parse_time("timeout", optarg, &a.timeout_ns); break;
		case O_JSON: a.json = true; break;
		default: return EX_USE;
		}
	}
	if (err != EX_OK)
		return err;
	if (a.socket == NULL) {
		(void)complain(EX_USE, "%s needs --socket", argv[0]);
		return EX_USE;
	}
	if (optind + (want_id ? 1 : 0) != argc)
		return complain(EX_USE, want_id ? "%s: which transfer?" : "%s takes no arguments", argv[0]);
	if (want_id)
		err = parse_size("id", argv[optind], &a.id);
	*out = a;
	return err;
}

int cmd_wait(int argc, char **argv)
{
	struct args a = { 0 };
	int sock = -1, status = parse(argc, argv, true, &a);

	if (status == EX_OK)
		status = dial(a.socket, &sock);
	if (status != EX_OK)
		return status;
	status = wait_for(sock, a.id, a.timeout_ns, a.json);
	(void)close(sock);
	return status;
}

/* `cancel` and `go`. */
static int tell(int argc, char **argv, enum wire_verb verb)
{
	struct wire_req req = { .verb = verb };
	struct wire_reply r = { 0 };
	struct args a = { 0 };
	int sock = -1, status = parse(argc, argv, true, &a);

	if (status == EX_OK)
		status = dial(a.socket, &sock);
	if (status != EX_OK)
		return status;
	req.id = a.id;
	status = send_req(sock, &req, NULL, 0);
	if (status == EX_OK)
		status = get_reply(sock, &r);
	if (status == EX_OK && r.err != 0)
		status = complain(EX_FAIL, "transfer %" PRIu64 ": %s", a.id, r.why);
	if (status == EX_OK)
		(void)job_print(a.json, &r.job, &r.st);
	(void)close(sock);
	return status;
}

int cmd_cancel(int argc, char **argv)
{
	return tell(argc, argv, WIRE_CANCEL);
}

int cmd_go(int argc, char **argv)
{
	return tell(argc, argv, WIRE_GO);
}

int cmd_list(int argc, char **argv)
{
	struct wire_req req = { .verb = WIRE_LIST };
	struct wire_reply r = { 0 };
	struct args a = { 0 };
	int sock = -1, status = parse(argc, argv, false, &a);

	if (status == EX_OK)
		status = dial(a.socket, &sock);
	if (status != EX_OK)
		return status;
	status = send_req(sock, &req, NULL, 0);
	while (status == EX_OK) {
		status = get_reply(sock, &r);
		if (status != EX_OK || r.err == -ENODATA)
			break;
		(void)job_print(a.json, &r.job, &r.st);	/* one JSON object a line */
	}
	(void)close(sock);
	return status;
}
