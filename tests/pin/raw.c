/* SPDX-License-Identifier: BSD-3-Clause */
/* raw.c - speaks the session protocol as the test dictates (raw.h). */
#include "pin/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/fuse.h>
#include <pinfs/ioctl.h>
#include <pinfs/version.h>
#include "harness/run.h"

#define LIMIT_S 60

int raw_dial(const struct pt_fs *fs)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = LIMIT_S };
	struct pinfs_sock so;
	int dir = open(fs->mnt, O_RDONLY | O_CLOEXEC), sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t n;

	PT_SYS_FATAL(dir);
	PT_SYS_FATAL(ioctl(dir, PINFS_IOC_SOCK, &so));
	(void)close(dir);
	n = strnlen(so.so_sock, sizeof so.so_sock);
	CU_ASSERT_FATAL(n != 0 && n < sizeof so.so_sock);
	memcpy(sa.sun_path + 1, so.so_sock, n);
	PT_SYS_FATAL(connect(sock, (struct sockaddr *)&sa,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)));
	(void)setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	return sock;
}

bool raw_send(struct raw *r, uint32_t opcode, const void *in, size_t inlen)
{
	struct {
		struct fuse_in_header h;
		char body[1024];
	} q = { .h = { .len = (uint32_t)(sizeof q.h + inlen), .opcode = opcode } };

	q.h.unique = ++r->unique;
	if (inlen != 0)
		memcpy(q.body, in, inlen);
	return send(r->sock, &q, q.h.len, MSG_NOSIGNAL) == (ssize_t)q.h.len;
}

/* The next message whole. 0, or why not. */
static int next(struct raw *r, struct fuse_out_header *h, char *body, size_t room)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(2 * sizeof(int))]; } c;
	struct iovec iov;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t have;
	ssize_t n;

	for (have = 0; have < sizeof *h || have < h->len; have += (size_t)n) {
		if (have >= sizeof *h && h->len - sizeof *h > room)
			return -EMSGSIZE;
		iov.iov_base = have < sizeof *h ? (char *)h + have : body + (have - sizeof *h);
		iov.iov_len = have < sizeof *h ? sizeof *h - have : h->len - have;
		m.msg_control = c.room;
		m.msg_controllen = sizeof c.room;
		do
			n = recvmsg(r->sock, &m, MSG_CMSG_CLOEXEC);
		while (n < 0 && errno == EINTR);	/* with a time limit, a process that was stopped gets this */
		if (n <= 0)
			return n < 0 && errno == EAGAIN ? -ETIMEDOUT : -ECONNRESET;
		for (struct cmsghdr *cm = CMSG_FIRSTHDR(&m); cm != NULL; cm = CMSG_NXTHDR(&m, cm))
			if (cm->cmsg_type == SCM_RIGHTS && cm->cmsg_len == CMSG_LEN(sizeof r->fds))
				memcpy(r->fds, CMSG_DATA(cm), sizeof r->fds);
	}
	return 0;
}

int raw_call(struct raw *r, uint32_t opcode, const void *in, size_t inlen, void *out, size_t room)
{
	struct fuse_out_header h;
	char body[32768];
	int err;

	if (!raw_send(r, opcode, in, inlen))
		return -ECONNRESET;
	for (;;) {
		err = next(r, &h, body, sizeof body);
		if (err != 0)
			return err;
		if (h.unique != 0)
			break;
		if (h.error == PF_P_NOTIFY_INVAL && r->nnote < RAW_NOTES)
			memcpy(&r->note[r->nnote++], body, sizeof r->note[0]);
	}
	CU_ASSERT_EQUAL(h.unique, r->unique);
	if (out != NULL && h.error == 0)
		memcpy(out, body, h.len - sizeof h < room ? h.len - sizeof h : room);
	return h.error;
}

void raw_up(struct raw *r, const struct pt_fs *fs, bool hello)
{
	const struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };
	const struct pf_p_hello_in hi = { .hi_major = PINFS_PROTO_MAJOR, .hi_pid = (uint32_t)getpid(),
					  .hi_comm = "raw" };

	*r = (struct raw){ .sock = raw_dial(fs), .fds = { -1, -1 } };
	PT_EQ(raw_call(r, FUSE_INIT, &init, sizeof init, NULL, 0), 0);
	if (!hello)
		return;
	PT_EQ(raw_call(r, PF_P_HELLO, &hi, sizeof hi, &r->hello, sizeof r->hello), 0);
	CU_ASSERT_FATAL(r->fds[0] >= 0 && r->fds[1] >= 0);
}

void raw_down(struct raw *r)
{
	(void)close(r->sock);
	for (int i = 0; i < 2; i++)
		if (r->fds[i] >= 0)
			(void)close(r->fds[i]);
	if (r->led != NULL)
		(void)munmap(r->led, r->led_len);
	r->led = NULL;
}

int raw_attach(struct raw *r, const char *path, int flags, struct pf_p_attach_out *out)
{
	struct pf_p_attach_in in = { .ai_cookie = { 0 } };
	struct pinfs_attach at;
	int fd = open(path, flags | O_CLOEXEC), err;

	PT_SYS_FATAL(fd);
	PT_SYS_FATAL(ioctl(fd, PINFS_IOC_ATTACH, &at));
	(void)close(fd);
	memcpy(in.ai_cookie, at.at_cookie, sizeof in.ai_cookie);
	(void)strncpy(in.ai_path, path, sizeof in.ai_path - 1);
	err = raw_call(r, PF_P_ATTACH, &in, sizeof in, out, sizeof *out);
	/* A cookie is good once. */
	CU_ASSERT(raw_call(r, PF_P_ATTACH, &in, sizeof in, NULL, 0) < 0);
	return err;
}

struct pf_p_map_in raw_map_in(uint64_t fh, uint64_t foff, uint64_t slot, uint64_t flags)
{
	return (struct pf_p_map_in){
		.mi_map = { .fh = fh, .foffset = foff, .len = PF_CHUNK_SIZE, .flags = flags,
			    .moffset = slot << PF_CHUNK_SHIFT },
		.mi_fault_foff = foff,
	};
}

int raw_setup(struct raw *r, uint64_t fh, uint32_t slot, uint64_t foff, struct raw_chunk *c)
{
	const struct pf_p_map_in m = raw_map_in(fh, foff, slot,
						FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE);
	struct raw_chunk unused;

	return raw_call(r, FUSE_SETUPMAPPING, &m, sizeof m, c != NULL ? c : &unused, sizeof unused);
}

void raw_ledger(struct raw *r)
{
	struct stat st;

	PT_SYS_FATAL(fstat(r->fds[1], &st));
	r->led_len = (size_t)st.st_size;
	r->led = mmap(NULL, r->led_len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fds[1], 0);
	CU_ASSERT_FATAL((void *)r->led != MAP_FAILED);
	r->slot = (void *)((char *)r->led + r->led->lh_slot_off);
}

bool raw_note(struct raw *r, struct pf_p_inval *in)
{
	struct fuse_out_header h;
	char body[32768];

	if (r->nnote != 0) {
		*in = r->note[0];
		memmove(r->note, r->note + 1, --r->nnote * sizeof r->note[0]);
		return true;
	}
	do
		if (next(r, &h, body, sizeof body) != 0)
			return false;
	while (h.unique != 0 || h.error != PF_P_NOTIFY_INVAL);
	memcpy(in, body, sizeof *in);
	return true;
}

bool raw_ack(struct raw *r, uint64_t id)
{
	const struct pf_p_ack_in ack = { .ak_id = id };

	return raw_send(r, PF_P_INVAL_ACK, &ack, sizeof ack);
}

void raw_ack_all(struct raw *r)
{
	struct pollfd p = { .fd = r->sock, .events = POLLIN };
	struct pf_p_inval in;

	while ((r->nnote != 0 || poll(&p, 1, 0) == 1) && raw_note(r, &in))
		(void)raw_ack(r, in.in_id);
}

void raw_ack_next(struct raw *r)
{
	struct pf_p_inval in = { 0 };

	CU_ASSERT_FATAL(raw_note(r, &in));
	CU_ASSERT(raw_ack(r, in.in_id));
}

bool raw_hung_up(struct raw *r)
{
	struct fuse_out_header h;
	char body[PF_P_MSG_MAX];
	int err;

	do
		err = next(r, &h, body, sizeof body);
	while (err == 0);
	return err == -ECONNRESET;
}
