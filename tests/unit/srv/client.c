/* SPDX-License-Identifier: BSD-3-Clause */
/* client.c - clients of the session server, for its tests. */
#include "unit/srv/client.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "op/op_map.h"

static void on_change(void *arg, uint64_t ino, bool data)
{
	struct env *v = arg;

	CU_ASSERT_EQUAL(ino, v->ino);
	CU_ASSERT_FALSE(data);
	CU_ASSERT(pf_rank_none());
	atomic_fetch_add(&v->notified, 1);
}

void env_open(struct env *v, enum pf_busy policy, uint64_t size)
{
	struct pf_entry en;

	memset(v, 0, sizeof *v);
	op_env_open(&v->e, UINT64_C(64) << 20);
	v->e.fs->opts.policy.on_busy = policy;
	v->e.fs->opts.window = 32 * CHUNK;
	v->e.fs->opts.revoke_timeout_ms = 86400000;	/* the clients answer, be it late */
	CU_ASSERT_EQUAL_FATAL(op_create(&v->e, PF_INO_ROOT, "file", 0644, &v->ino), 0);
	CU_ASSERT_EQUAL_FATAL(pf_op_lookup(v->e.fs, PF_INO_ROOT, "file", &en), 0);
	pf_op_forget(v->e.fs, v->ino, 1);
	v->gen = en.gen;
	CU_ASSERT_EQUAL_FATAL(op_truncate(&v->e, v->ino, size), 0);
	CU_ASSERT_EQUAL_FATAL(pf_srv_start(v->e.fs, "/mnt/test", &v->srv), 0);
	pf_srv_set_notify(v->srv, on_change, v);
}

void env_close(struct env *v)
{
	/* As the daemon: what a thread of the engine ends late still refers to the server. */
	pf_lay_shutdown(v->e.fs, -ESHUTDOWN);
	pf_lay_stop_threads(v->e.fs);
	pf_srv_stop(v->srv);
	op_env_close(&v->e);
}

/* The client */

int connect_to(struct pf_srv *srv)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct pinfs_sock name;
	int fd;

	pf_srv_sock(srv, &name);
	memcpy(sa.sun_path + 1, name.so_sock, strlen(name.so_sock));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
								      strlen(name.so_sock))) != 0)
		abort();
	return fd;
}

void send_msg(struct cl *c, uint32_t opcode, const void *body, size_t len)
{
	struct fuse_in_header h = { .len = (uint32_t)(sizeof h + len), .opcode = opcode, .unique = ++c->unique };
	uint8_t buf[1024];

	memcpy(buf, &h, sizeof h);
	if (len != 0)
		memcpy(buf + sizeof h, body, len);
	if (send(c->fd, buf, sizeof h + len, MSG_NOSIGNAL) != (ssize_t)(sizeof h + len))
		c->unique = 0;
}

bool take(struct cl *c, void *buf, size_t len, int fds[2])
{
	char ctl[CMSG_SPACE(2 * sizeof(int))];
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl };
	struct pollfd p = { c->fd, POLLIN, 0 };
	struct cmsghdr *cm;
	ssize_t n;

	while (iov.iov_len != 0) {
		if (poll(&p, 1, SRV_PATIENCE_MS) != 1)
			return false;
		m.msg_controllen = sizeof ctl;
		n = recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC);
		if (n <= 0)
			return false;
		cm = CMSG_FIRSTHDR(&m);
		if (cm && fds && cm->cmsg_len == CMSG_LEN(2 * sizeof(int)))
			memcpy(fds, CMSG_DATA(cm), 2 * sizeof(int));
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
	}
	return true;
}

int answer_to(struct cl *c, uint64_t unique, int fds[2])
{
	struct fuse_out_header h;

	for (;;) {
		if (!take(c, &h, sizeof h, fds) || h.len < sizeof h || h.len > sizeof c->body ||
		    !take(c, c->body, h.len - sizeof h, NULL))
			return CL_HUNG_UP;
		c->len = h.len - sizeof h;
		if (h.unique == unique)
			return h.error;
		if (h.unique != 0 && h.unique == c->other) {
			c->other_err = h.error;
			c->other = 0;
			continue;
		}
		CU_ASSERT_EQUAL(h.unique, 0);
		CU_ASSERT_EQUAL(h.error, PF_P_NOTIFY_INVAL);
		if (c->ninval < PF_ARRAY_LEN(c->inval))
			memcpy(&c->inval[c->ninval++], c->body, sizeof c->inval[0]);
	}
}

int call(struct cl *c, uint32_t opcode, const void *body, size_t len)
{
	send_msg(c, opcode, body, len);
	return answer_to(c, c->unique, NULL);
}

bool notified(struct cl *c, struct pf_p_inval *in)
{
	struct fuse_out_header h;

	if (c->ninval != 0) {
		*in = c->inval[0];
		memmove(c->inval, c->inval + 1, --c->ninval * sizeof *in);
		return true;
	}
	return take(c, &h, sizeof h, NULL) && h.unique == 0 && h.len == sizeof h + sizeof *in &&
	       take(c, in, sizeof *in, NULL);
}

void ack(struct cl *c, uint64_t id)
{
	struct pf_p_ack_in in = { id };

	send_msg(c, PF_P_INVAL_ACK, &in, sizeof in);
}

int cl_init(struct cl *c)
{
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };

	return call(c, FUSE_INIT, &in, sizeof in);
}

int cl_hello(struct cl *c)
{
	struct pf_p_hello_in in = { .hi_major = PINFS_PROTO_MAJOR };
	int fds[2] = { -1, -1 }, err;

	send_msg(c, PF_P_HELLO, &in, sizeof in);
	err = answer_to(c, c->unique, fds);
	c->dev = fds[0];
	c->led = fds[1];
	return err;
}

struct cl *cl_open(struct env *v)
{
	struct cl *c = calloc(1, sizeof *c);

	c->dev = c->led = -1;
	c->fd = connect_to(v->srv);
	CU_ASSERT_EQUAL(cl_init(c), 0);
	CU_ASSERT_EQUAL_FATAL(cl_hello(c), 0);
	c->hdr = mmap(NULL, 4096, PROT_READ, MAP_SHARED, c->led, 0);
	CU_ASSERT_NOT_EQUAL_FATAL((void *)c->hdr, MAP_FAILED);
	CU_ASSERT_EQUAL(c->hdr->lh_magic, PF_LEDGER_MAGIC);
	{
		uint64_t bytes = c->hdr->lh_bytes;

		munmap(c->hdr, 4096);
		c->hdr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->led, 0);
	}
	CU_ASSERT_NOT_EQUAL_FATAL((void *)c->hdr, MAP_FAILED);
	c->slot = (void *)((char *)c->hdr + c->hdr->lh_slot_off);
	c->rec = (void *)((char *)c->hdr + c->hdr->lh_rec_off);
	return c;
}

void cl_close(struct cl *c)
{
	if (c->hdr)
		munmap(c->hdr, c->hdr->lh_bytes);
	if (c->led >= 0)
		close(c->led);
	if (c->dev >= 0)
		close(c->dev);
	close(c->fd);
	free(c);
}

int cl_attach(struct env *v, struct cl *c, bool write, uint64_t *fh)
{
	struct pf_p_attach_in in = { .ai_path = "/mnt/test/a \"file\"\n\xff" };
	const struct pf_map_right to = { v->ino, v->gen, write, { 0 } };
	struct pinfs_attach at;
	int err;

	CU_ASSERT_EQUAL(pf_srv_attach_cookie(v->srv, &to, gettid(), &at), 0);
	memcpy(in.ai_cookie, at.at_cookie, sizeof in.ai_cookie);
	err = call(c, PF_P_ATTACH, &in, sizeof in);
	*fh = err == 0 ? ((struct pf_p_attach_out *)(void *)c->body)->ao_fh : 0;
	return err;
}

void send_setup(struct cl *c, uint64_t fh, uint32_t slot, uint64_t foff, uint64_t fault, bool write)
{
	struct pf_p_map_in in = {
		.mi_map = { .fh = fh, .foffset = foff, .len = CHUNK, .moffset = (uint64_t)slot * CHUNK,
			    .flags = FUSE_SETUPMAPPING_FLAG_READ | (write ? FUSE_SETUPMAPPING_FLAG_WRITE : 0) },
		.mi_fault_foff = fault,
	};

	send_msg(c, FUSE_SETUPMAPPING, &in, sizeof in);
}

int cl_setup(struct cl *c, uint64_t fh, uint32_t slot, uint64_t foff, uint64_t fault, bool write)
{
	send_setup(c, fh, slot, foff, fault, write);
	return answer_to(c, c->unique, NULL);
}

int cl_remove(struct cl *c, uint32_t slot)
{
	struct { struct fuse_removemapping_in in; struct fuse_removemapping_one one; } PF_UNUSED x;
	uint8_t buf[sizeof x.in + sizeof x.one];

	x.in = (struct fuse_removemapping_in){ .count = 1 };
	x.one = (struct fuse_removemapping_one){ .moffset = (uint64_t)slot * CHUNK, .len = CHUNK };
	memcpy(buf, &x.in, sizeof x.in);
	memcpy(buf + sizeof x.in, &x.one, sizeof x.one);
	return call(c, FUSE_REMOVEMAPPING, buf, sizeof buf);
}

int cl_pin(struct cl *c, uint64_t fh, uint32_t slot, uint32_t first, uint32_t n, uint32_t flags)
{
	struct pf_p_pin_in in = { fh, slot, first, n, flags };

	return call(c, PF_P_PIN, &in, sizeof in);
}

void cl_unpin(struct cl *c, uint32_t slot, uint32_t first, uint32_t n)
{
	struct pf_p_kick_in in = { .ki_slot = slot };

	for (uint32_t i = first; i < first + n; i++)
		atomic_fetch_sub(&c->slot[slot].ls_page[i], 1);
	atomic_fetch_sub(&c->slot[slot].ls_pins, 1);
	if (atomic_load(&c->slot[slot].ls_word) & PF_SLOT_FROZEN)
		send_msg(c, PF_P_KICK, &in, sizeof in);
}

/* A truncate in a thread of its own */

static void *trunc_main(void *arg)
{
	struct trunc *t = arg;

	t->err = op_truncate(&t->v->e, t->v->ino, t->size);
	atomic_store(&t->ended, true);
	return NULL;
}

void trunc_start(struct trunc *t, struct env *v, uint64_t size)
{
	*t = (struct trunc){ .v = v, .size = size };
	pthread_create(&t->t, NULL, trunc_main, t);
}

int trunc_end(struct trunc *t)
{
	pthread_join(t->t, NULL);
	return t->err;
}

void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	(void)nanosleep(&ts, NULL);
}

uint64_t nr_breaks(struct env *v)
{
	uint64_t left;

	(void)pf_reg_breaks(v->e.fs, NULL, 0, &left);
	return left;
}

bool parked(struct env *v)
{
	for (int i = 0; i < SRV_PATIENCE_MS; i++) {
		if (atomic_load(&v->e.fs->lay->count[PF_COUNT_WAITS]) != 0 && nr_breaks(v) != 0)
			return true;
		sleep_ms(1);
	}
	return false;
}

/* Reports: well-formed JSON, whatever is in the ledger */

static const char *json_value(const char *s, const char *end, int depth);

static const char *json_space(const char *s, const char *end)
{
	while (s && s < end && isspace((unsigned char)*s))
		s++;
	return s;
}

static const char *json_string(const char *s, const char *end)
{
	if (s >= end || *s++ != '"')
		return NULL;
	while (s < end && *s != '"') {
		if ((unsigned char)*s < 0x20)
			return NULL;
		if (*s == '\\') {
			if (++s >= end || !strchr("\"\\/bfnrtu", *s))
				return NULL;
			if (*s == 'u')
				for (int i = 0; i < 4; i++)
					if (++s >= end || !isxdigit((unsigned char)*s))
						return NULL;
		}
		s++;
	}
	return s < end ? s + 1 : NULL;
}

static const char *json_list(const char *s, const char *end, char close_by, int depth)
{
	s = json_space(s + 1, end);
	if (s < end && *s == close_by)
		return s + 1;
	for (;;) {
		if (close_by == '}') {
			s = json_space(json_string(s, end), end);
			if (!s || s >= end || *s++ != ':')
				return NULL;
		}
		s = json_space(json_value(s, end, depth + 1), end);
		if (!s || s >= end || (*s != ',' && *s != close_by))
			return NULL;
		if (*s++ == close_by)
			return s;
		s = json_space(s, end);
	}
}

static const char *json_value(const char *s, const char *end, int depth)
{
	s = json_space(s, end);
	if (!s || s >= end || depth > 16)
		return NULL;
	if (*s == '{' || *s == '[')
		return json_list(s, end, *s == '{' ? '}' : ']', depth);
	if (*s == '"')
		return json_string(s, end);
	if (end - s >= 4 && memcmp(s, "true", 4) == 0)
		return s + 4;
	if (end - s >= 5 && memcmp(s, "false", 5) == 0)
		return s + 5;
	if (!isdigit((unsigned char)*s))
		return NULL;
	while (s < end && isdigit((unsigned char)*s))
		s++;
	return s;
}

bool report(struct cl *c, uint32_t what)
{
	struct pf_p_report_in in = { .ri_what = what };

	if (call(c, PF_P_REPORT, &in, sizeof in) != 0)
		return false;
	c->body[c->len] = '\0';
	return json_value((char *)c->body, (char *)c->body + c->len, 0) == (char *)c->body + c->len;
}
