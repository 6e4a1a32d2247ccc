/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.c - a connection that only asks for something: socket name by ioctl, FUSE_INIT, one request.
 *
 * No HELLO: a viewer maps nothing, so it needs no right to the device. What the daemon sends is checked before it
 * is used, as the daemon checks what we send. Owns the socket for the length of the call.
 */
#include "pinfsctl/pinfsctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/fuse.h>
#include <pinfs/ioctl.h>

#define ANSWER_S 60
#define ANSWER_MAX (UINT32_C(64) << 20)		/* far more than the daemon lists */

static int dial(const char *path, int *out)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = ANSWER_S };
	struct pinfs_sock so = { .so_sock = "" };
	int dir, sock, err = 0;
	size_t n;

	dir = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (dir < 0 && (errno == ENOTCONN || errno == ECONNABORTED))
		return complain("%s: the daemon of this mount is gone (umount it)", path);
	if (dir < 0)
		return complain("%s: %s", path, strerror(errno));
	if (ioctl(dir, PINFS_IOC_SOCK, &so) != 0)
		err = errno;
	(void)close(dir);
	if (err == ENOTCONN || err == ECONNABORTED)
		return complain("%s: the daemon of this mount is gone (umount it)", path);
	n = strnlen(so.so_sock, sizeof so.so_sock);
	if (err != 0 || n == 0 || n + 1 > sizeof sa.sun_path)
		return complain("%s: not on a pinfs mount", path);

	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return complain("socket: %s", strerror(errno));
	(void)setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	memcpy(sa.sun_path + 1, so.so_sock, n);
	if (connect(sock, (const struct sockaddr *)(const void *)&sa,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)) != 0) {
		err = complain("%s: the daemon does not answer: %s", path, strerror(errno));
		(void)close(sock);
		return err;
	}
	*out = sock;
	return 0;
}

static int send_all(int sock, const void *buf, size_t len)
{
	const char *p = buf;

	while (len != 0) {
		ssize_t n = send(sock, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int recv_all(int sock, void *buf, size_t len)
{
	char *p = buf;

	while (len != 0) {
		ssize_t n = recv(sock, p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			return -ECONNRESET;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* One request, its answer's body NUL terminated in *body. Notifies, which a viewer has no use for, are passed over. */
static int call(int sock, uint32_t opcode, uint64_t unique, const void *in, size_t inlen, char **body, size_t *len)
{
	struct fuse_in_header ih = { .len = (uint32_t)(sizeof ih + inlen), .opcode = opcode, .unique = unique,
				     .uid = geteuid(), .gid = getegid(), .pid = (uint32_t)getpid() };
	struct fuse_out_header oh;
	int err = send_all(sock, &ih, sizeof ih);

	if (err == 0)
		err = send_all(sock, in, inlen);
	while (err == 0) {
		err = recv_all(sock, &oh, sizeof oh);
		if (err != 0)
			break;
		if (oh.len < sizeof oh || oh.len > ANSWER_MAX)
			return -EPROTO;
		*len = oh.len - sizeof oh;
		*body = malloc(*len + 1);
		if (*body == NULL)
			return -ENOMEM;
		err = recv_all(sock, *body, *len);
		(*body)[*len] = '\0';
		if (err == 0 && oh.unique == unique && oh.error == 0)
			return 0;
		if (err == 0 && oh.unique == unique)
			err = oh.error < 0 && oh.error > -4096 ? oh.error : -EPROTO;
		else if (err == 0 && oh.unique != 0)
			err = -EPROTO;
		free(*body);
		*body = NULL;
	}
	return err;
}

/* A connection that has said what it is. 0; -1 having said why not. */
static int begin(const char *path, int *sock)
{
	const struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };
	char *body = NULL;
	size_t len;
	int err;

	if (dial(path, sock) != 0)
		return -1;
	err = call(*sock, FUSE_INIT, 1, &init, sizeof init, &body, &len);
	free(body);
	if (err == 0)
		return 0;
	(void)close(*sock);
	(void)complain("%s: the daemon does not answer: %s", path, strerror(-err));
	return -1;
}

int session_open(const char *path, int *sock)
{
	return begin(path, sock) != 0 ? 1 : 0;
}

int session_ask(int sock, uint32_t opcode, uint64_t unique, const void *in, size_t inlen, char **body, size_t *len)
{
	*body = NULL;
	*len = 0;
	return call(sock, opcode, unique, in, inlen, body, len);
}

int session_call(const char *path, uint32_t opcode, const void *in, size_t inlen, char **body, size_t *len)
{
	int sock = -1, err;

	if (begin(path, &sock) != 0)
		return 1;
	err = call(sock, opcode, 2, in, inlen, body, len);
	(void)close(sock);
	return err;
}

int session_bad(const char *path, enum pf_p_bad_what what, uint64_t ino, uint64_t at, uint64_t len, uint64_t *changed,
		struct pf_p_bad_rec *rec, unsigned int *n)
{
	const struct pf_p_bad_in req = { .bi_what = what, .bi_ino = ino, .bi_at = at, .bi_len = len };
	struct pf_p_bad_out out;
	char *body = NULL;
	size_t bytes = 0;
	int err = session_call(path, PF_P_BADBLOCK, &req, sizeof req, &body, &bytes);

	if (err > 0)
		return err;
	if (err == 0 && bytes < sizeof out)
		err = -EPROTO;
	if (err == 0) {
		memcpy(&out, body, sizeof out);
		*changed = out.bo_changed;
		if (out.bo_nrec > PF_P_BAD_MAX || (bytes - sizeof out) / sizeof *rec < out.bo_nrec ||
		    (out.bo_nrec != 0 && rec == NULL))
			err = -EPROTO;
		else if (rec != NULL)
			memcpy(rec, body + sizeof out, out.bo_nrec * sizeof *rec);
		if (n != NULL)
			*n = err == 0 ? out.bo_nrec : 0;
	}
	free(body);
	return err;
}

int session_evict(const char *path, uint32_t pid)
{
	const struct pf_p_evict_in req = { .ev_pid = pid };
	char *body = NULL;
	size_t len;
	int err = session_call(path, PF_P_EVICT, &req, sizeof req, &body, &len);

	free(body);
	return err;
}

int session_report(const char *path, enum pf_report what, uint32_t pid, char **json)
{
	const struct pf_p_report_in req = { .ri_what = what, .ri_pid = pid };
	char *body = NULL;
	size_t len = 0;
	int err = session_call(path, PF_P_REPORT, &req, sizeof req, &body, &len);

	if (err > 0)
		return err;
	if (err != 0)
		return complain("%s: the daemon does not report: %s", path, strerror(-err));
	*json = body;
	return 0;
}
