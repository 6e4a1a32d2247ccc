/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * srv_msg.c - the messages of a session, one function each: decode, ask the core, answer.
 *
 * Runs in the worker that owns the connection. Holds no lock across calls. A message that is too short, or out of
 * place, is nonsense and ends the connection; one that makes no sense for its file or slot is answered with an errno.
 */
#include "front/srv_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <pinfs/version.h>
#include "base/fail.h"
#include "base/log.h"
#include "front/wire.h"
#include "media/pmem.h"
#include "op/op_bad.h"
#include "op/op.h"
#include "op/op_map.h"
#include "share/charge.h"
#include "share/report.h"
#include "share/tap.h"
#include "share/void.h"

/* Who is it? */

/* May the peer open the device itself? A descriptor of it shows all files, so nobody else gets one. ACLs are not
 * looked at. */
static bool may_open(struct pf_conn *c)
{
	mode_t want = c->srv->fs->opts.ro ? 04 : 06;
	gid_t groups[PF_SRV_GROUPS];
	socklen_t len = sizeof groups;
	struct stat st;
	bool member;
	size_t i;

	if (c->uid == 0)
		return true;
	if (fstat(c->srv->fs->pm->fd, &st) != 0)
		return false;
	if (st.st_uid == c->uid)
		return ((st.st_mode >> 6) & want) == want;
	member = st.st_gid == c->gid;
	if (!member && getsockopt(c->fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) == 0)
		for (i = 0; i < len / sizeof *groups; i++)
			member = member || groups[i] == st.st_gid;
	return ((st.st_mode >> (member ? 3 : 0)) & want) == want;
}

static void read_comm(pid_t pid, char *comm, size_t len)
{
	char path[64];
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	comm[0] = '\0';
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(comm, (int)len, f))
		comm[strcspn(comm, "\n")] = '\0';
	(void)fclose(f);
}

static int msg_init(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct { uint32_t major, minor, max_readahead, flags; } in;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.flags = FUSE_MAP_ALIGNMENT,
		.map_alignment = PF_BLK_SHIFT,
	};

	if (atomic_load(&c->init) || !pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	if (in.major != FUSE_KERNEL_VERSION)
		return -EPROTO;
	atomic_store(&c->init, true);
	pf_conn_answer(c, h->unique, 0, &(struct iovec){ &out, sizeof out }, 1, NULL);
	return MSG_DONE;
}

static void session_send(void *arg, const struct iovec *iov, int n)
{
	pf_conn_send(arg, iov, n, NULL);
}

static void session_hang_up(void *arg)
{
	pf_conn_hang_up(arg);
}

static void session_gone(void *arg)
{
	pf_conn_put(arg);
}

/* A descriptor of the device for the client: an open file of its own, whose locks keep other daemons away and tell us
 * when it is let go. */
static int open_device(struct pf_fs *fs, uint64_t id)
{
	char path[64];
	int fd, err;

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fs->pm->fd);
	fd = open(path, (fs->opts.ro ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = pf_pm_claim(fd, id);
	if (err != 0) {
		(void)close(fd);
		return err;
	}
	return fd;
}

static int watch_process(struct pf_conn *c)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT,
				  .data.u64 = (uint64_t)PF_EV_PID << PF_EV_SHIFT | c->key };
	int fd = (int)syscall(SYS_pidfd_open, c->pid, 0);

	if (fd < 0)
		return -errno;
	c->pidfd = fd;
	return epoll_ctl(c->srv->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0 ? -errno : 0;
}

static int msg_hello(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_fs *fs = c->srv->fs;
	struct pf_p_hello_in in;
	struct pf_p_hello_out out;
	struct pf_sess *s;
	char comm[16];
	int fds[2], err;

	if (c->sess || !pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	if (in.hi_major != PINFS_PROTO_MAJOR)
		return -EPROTO;
	if (!may_open(c))
		return -EACCES;
	read_comm(c->pid, comm, sizeof comm);
	err = pf_sess_create(fs, &(struct pf_sess_who){ c->pid, c->uid, comm }, session_send, session_gone, c, &s);
	if (err != 0)
		return err;
	pf_conn_get(c);			/* the session's */
	fds[0] = open_device(fs, s->id);
	if (fds[0] < 0) {
		err = fds[0];
		goto out_session;
	}
	fds[1] = fcntl(s->led.fd, F_DUPFD_CLOEXEC, 0);
	if (fds[1] < 0) {
		err = -errno;
		goto out_device;
	}
	pf_mutex_lock(&c->lock);
	c->sess = s;
	pf_mutex_unlock(&c->lock);
	err = watch_process(c);		/* from here on the connection's end ends the session, too */
	if (err != 0) {
		(void)close(fds[1]);
		(void)close(fds[0]);
		pf_conn_answer(c, h->unique, err, NULL, 0, NULL);
		return MSG_NONSENSE;
	}
	s->pidfd = c->pidfd;
	s->hang_up = session_hang_up;
	out = (struct pf_p_hello_out){
		.ho_major = PINFS_PROTO_MAJOR,
		.ho_minor = PINFS_PROTO_MINOR,
		.ho_session = s->id,
		.ho_dev_bytes = fs->pm->bytes,
		.ho_fsid = fs->fsid,
		.ho_nslot = s->led.nslot,
		.ho_flags = (fs->opts.ro ? PF_HO_RDONLY : 0) | (fs->pm->mode == PF_PMEM_MSYNC ? PF_HO_MSYNC : 0) |
			    (pf_pm_whole(fs->pm) ? PF_HO_WHOLE : 0) |
			    (fs->opts.answers & PF_ANSWER_NO_SYNC ? PF_HO_NO_SYNC : 0) |
			    (fs->opts.answers & PF_ANSWER_DEVICE ? PF_HO_DEVICE : 0),
	};
	pf_conn_answer(c, h->unique, 0, &(struct iovec){ &out, sizeof out }, 1, fds);
	pf_tap_join(s);
	return MSG_DONE;

out_device:
	(void)close(fds[0]);
out_session:
	pf_sess_gone(s);
	pf_sess_put(s);
	return err;
}

/* Files */

static int msg_attach(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_attach_in in;
	struct pf_p_attach_out out = { 0 };
	struct pf_cookie right;
	int err;

	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	in.ai_path[sizeof in.ai_path - 1] = '\0';
	if (!pf_srv_redeem(c->srv, in.ai_cookie, c->pid, &right))
		return -ESTALE;
	err = pf_map_attach(c->sess, &right.to, in.ai_path, &out.ao_fh, &out.ao_size);
	if (err != 0)
		return err;
	out.ao_ino = right.to.ino;
	out.ao_write = right.to.write;
	pf_conn_answer(c, h->unique, 0, &(struct iovec){ &out, sizeof out }, 1, NULL);
	return MSG_DONE;
}

static int msg_detach(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_detach_in in;

	(void)h;
	return pf_wire_take(w, &in, sizeof in) ? pf_sess_detach(c->sess, in.di_fh) : MSG_NONSENSE;
}

/* Windows and pins */

struct map_msg {
	struct pf_map_req req;
	struct pf_conn *conn;
};

static void map_answer(struct pf_map_req *r, int err, const struct pf_p_map_out *out, const struct pf_p_extent *ext)
{
	struct map_msg *m = PF_CONTAINER_OF(r, struct map_msg, req);
	struct pf_p_map_out head;
	struct pf_p_extent body[PF_P_EXT_MAX];
	struct iovec iov[2];

	if (err != 0) {
		pf_conn_answer(m->conn, r->unique, err, NULL, 0, NULL);
		return;
	}
	if (r->changed)		/* before the program goes on: it may ask for the file's times at once */
		pf_srv_changed(m->conn->srv, out->mo_ino);
	r->changed = false;
	head = *out;
	memcpy(body, ext, head.mo_next * sizeof *ext);
	iov[0] = (struct iovec){ &head, sizeof head };
	iov[1] = (struct iovec){ body, head.mo_next * sizeof *ext };
	pf_conn_answer(m->conn, r->unique, 0, iov, 2, NULL);
}

static void map_end(struct pf_map_req *r, uint64_t ino, bool changed)
{
	struct map_msg *m = PF_CONTAINER_OF(r, struct map_msg, req);

	if (changed)
		pf_srv_changed(m->conn->srv, ino);
	pf_sess_put(r->sess);
	pf_conn_put(m->conn);
	free(m);
}

static int start_map(struct pf_conn *c, const struct pf_map_req *req)
{
	struct map_msg *m = malloc(sizeof *m);

	if (!m)
		return -ENOMEM;
	m->req = *req;
	m->req.sess = c->sess;
	m->req.mr_answer = map_answer;
	m->req.mr_end = map_end;
	m->conn = c;
	pf_sess_get(c->sess);
	pf_conn_get(c);
	pf_map_start(&m->req);
	return MSG_DONE;
}

static int msg_setup(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_map_in in;

	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	if (in.mi_map.len != PF_CHUNK_SIZE || (in.mi_map.moffset & (PF_CHUNK_SIZE - 1)) != 0 ||
	    in.mi_map.moffset >> PF_CHUNK_SHIFT > UINT32_MAX || !(in.mi_map.flags & FUSE_SETUPMAPPING_FLAG_READ) ||
	    (in.mi_map.flags & ~(FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE)) != 0 ||
	    (in.mi_flags & ~PF_MI_PRIVATE) != 0)
		return -EINVAL;
	return start_map(c, &(struct pf_map_req){
		.what = PF_MAP_SETUP,
		.unique = h->unique,
		.fh = in.mi_map.fh,
		.slot = (uint32_t)(in.mi_map.moffset >> PF_CHUNK_SHIFT),
		.foff = in.mi_map.foffset,
		.fault_foff = in.mi_fault_foff,
		.write = (in.mi_map.flags & FUSE_SETUPMAPPING_FLAG_WRITE) != 0,
		.private = (in.mi_flags & PF_MI_PRIVATE) != 0,
	});
}

static int msg_remove(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct fuse_removemapping_in in;
	struct fuse_removemapping_one one = { 0 };
	int err = 0;
	uint32_t i;

	(void)h;
	if (!pf_wire_take(w, &in, sizeof in) || in.count > w->left / sizeof one)
		return MSG_NONSENSE;
	for (i = 0; i < in.count && err == 0; i++) {
		(void)pf_wire_take(w, &one, sizeof one);
		if (one.len != PF_CHUNK_SIZE || (one.moffset & (PF_CHUNK_SIZE - 1)) != 0 ||
		    one.moffset >> PF_CHUNK_SHIFT > UINT32_MAX)
			err = -EINVAL;
		else
			err = pf_map_remove(c->sess, (uint32_t)(one.moffset >> PF_CHUNK_SHIFT));
	}
	return err;
}

static int msg_pin(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_pin_in in;
	struct pf_p_pin_chunk pc = { 0 };
	const uint32_t known = PF_PI_WRITE | PF_PI_WAIT | PF_PI_LONGTERM | PF_PI_CHUNK | PF_PI_HOLES | PF_PI_BRIEF |
			       PF_PI_API_MASK;

	if (!pf_wire_take(w, &in, sizeof in) || ((in.pi_flags & PF_PI_CHUNK) && !pf_wire_take(w, &pc, sizeof pc)))
		return MSG_NONSENSE;
	if ((in.pi_flags & ~known) != 0)
		return -EINVAL;
	return start_map(c, &(struct pf_map_req){
		.what = PF_MAP_PIN,
		.unique = h->unique,
		.fh = in.pi_fh,
		.slot = in.pi_slot,
		.foff = pc.pc_foff,
		.chunk = (in.pi_flags & PF_PI_CHUNK) != 0,
		.first = in.pi_first,
		.npage = in.pi_npage,
		.write = (in.pi_flags & PF_PI_WRITE) != 0,
		.wait = (in.pi_flags & PF_PI_WAIT) != 0,
		.brief = (in.pi_flags & PF_PI_BRIEF) != 0,
		.holes = (in.pi_flags & PF_PI_HOLES) != 0,
		.longterm = (in.pi_flags & PF_PI_LONGTERM) != 0,
		.api = (enum pf_pin_api)((in.pi_flags & PF_PI_API_MASK) >> PF_PI_API_SHIFT),
	});
}

static int msg_unpin(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_unpin_in in;

	(void)h;
	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	pf_uncharge(c->sess, in.un_npage);
	return 0;
}

static int msg_admit(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_admit_in in;

	(void)h;
	return pf_wire_take(w, &in, sizeof in) ? pf_map_admit(c->sess, in.ad_fh, (enum pf_pin_api)in.ad_api) :
						 MSG_NONSENSE;
}

static int msg_kick(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_kick_in in;

	(void)h;
	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	pf_sess_kick(c->sess, in.ki_slot);
	return MSG_DONE;
}

static int msg_ack(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_ack_in in;

	(void)h;
	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	pf_sess_ack(c->sess, in.ak_id);
	return MSG_DONE;
}

static int msg_forget(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_cancel_in in;

	(void)h;
	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	pf_sess_forget(c->sess, in.ca_unique);
	return MSG_DONE;
}

static int msg_sync(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_sync_in in;

	(void)h;
	return pf_wire_take(w, &in, sizeof in) ? pf_map_sync(c->sess, in.si_fh, in.si_foff, in.si_len) : MSG_NONSENSE;
}

static uint64_t size_of(void *inode)
{
	return pf_op_size(inode);
}

static int msg_report(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_viewer viewer = { .mount = c->srv->mount, .uid = c->uid, .size_of = size_of };
	struct pf_p_report_in in;
	char *text;
	size_t len;
	int err;

	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	viewer.all = c->uid == geteuid() || may_open(c);
	err = pf_report(c->srv->fs, &in, &viewer, &text, &len);
	if (err != 0)
		return err;
	pf_conn_answer(c, h->unique, 0, &(struct iovec){ text, len }, 1, NULL);
	free(text);
	return MSG_DONE;
}

static int msg_evict(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_evict_in in;

	(void)h;
	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	if (c->uid != 0 && c->uid != geteuid())
		return -EPERM;
	return in.ev_pid == 0 || in.ev_pid > INT32_MAX ? -ESRCH : pf_conn_evict(c->srv, (pid_t)in.ev_pid);
}

static int msg_kick_pin(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_kick_pin_in in;
	char by[64];

	(void)h;
	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	if (c->uid != 0 && c->uid != geteuid())
		return -EPERM;
	(void)snprintf(by, sizeof by, "pid %d (uid %d)", (int)c->pid, (int)c->uid);
	return pf_pin_void(c->srv->fs, in.kp_session, in.kp_record, by);
}

/* Traces */

static int msg_trace(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_trace_in in;
	int err;

	(void)h;
	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	if (c->uid != 0 && c->uid != geteuid())
		return -EPERM;
	if (in.ti_what == PF_P_TRACE_STOP && c->tap) {
		pf_tap_quiet(c->tap);
		return 0;
	}
	if (in.ti_what == PF_P_TRACE_END && c->tap) {
		pf_tap_close(c->tap);
		c->tap = NULL;
		return 0;
	}
	if (in.ti_what != PF_P_TRACE_START)
		return -EINVAL;
	err = c->tap ? -EBUSY : pf_tap_open(c->srv->fs, c->pid, &c->tap);
	if (err == 0)
		pf_info("pid %d (uid %d) traces", (int)c->pid, (int)c->uid);
	return err;
}

static int msg_trace_read(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_trace_out out;
	struct pf_t_ev *ev;
	unsigned int n;

	(void)w;
	if (!c->tap)
		return -EINVAL;
	ev = malloc(PF_P_TRACE_MAX * sizeof *ev);
	if (!ev)
		return -ENOMEM;
	n = pf_tap_read(c->tap, ev, PF_P_TRACE_MAX, &out);
	pf_conn_answer(c, h->unique, 0, (struct iovec[]){ { &out, sizeof out }, { ev, n * sizeof *ev } }, 2, NULL);
	free(ev);
	return MSG_DONE;
}

/* Policy */

static int msg_set(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	char text[PF_P_SET_MAX + 1] = "";
	struct pf_policy_over over;
	struct pf_policy now;
	const char *must;
	size_t len = w->left;

	(void)h;
	if (c->uid != 0 && c->uid != geteuid())
		return -EPERM;
	if (len > PF_P_SET_MAX)
		return -E2BIG;
	if (!pf_wire_take(w, text, len) || strlen(text) != len)
		return -EINVAL;
	if (pf_policy_parse(text, &over, &must) != 0 || over.set == 0)
		return -EINVAL;
	pf_lay_set_policy(c->srv->fs, &over, &now);
	pf_warn("%spid %d (uid %d) has set %s", over.set & 1U << PF_POLICY_ON_BUSY && now.on_busy == PF_BUSY_UNSAFE ?
		"EXPERIMENTAL: files will be corrupted: " : "", (int)c->pid, (int)c->uid, text);
	return 0;
}

static int msg_pause(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_pause_in in;

	(void)h;
	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	if (c->uid != 0)
		return -EPERM;
	in.pa_point[sizeof in.pa_point - 1] = '\0';
	if (in.pa_what == PF_P_PAUSE_ARM)
		return pf_pause_arm(c->srv->fs, in.pa_point, in.pa_ino, in.pa_count);
	return in.pa_what == PF_P_PAUSE_RESUME ? pf_pause_resume(c->srv->fs, in.pa_point, in.pa_ino) : -EINVAL;
}

static int msg_would(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_holder who[PF_P_HOLDERS_MAX];
	struct pf_p_holder wire[PF_P_HOLDERS_MAX];
	unsigned int n = PF_P_HOLDERS_MAX;
	struct pf_p_would_out out;
	struct pf_p_would_end fin;
	struct pf_p_would_as as = { 0 };
	struct pf_p_would_in in;
	struct pf_would would;
	struct pf_meets *m = &would.meets;
	pid_t pid;
	int err;

	if (!pf_wire_take(w, &in, sizeof in) || (w->left >= sizeof as && !pf_wire_take(w, &as, sizeof as)))
		return MSG_NONSENSE;
	pid = as.wa_pid != 0 && as.wa_pid <= INT32_MAX ? (pid_t)as.wa_pid : -1;
	err = pf_op_would(c->srv->fs, in.wi_ino, in.wi_foff, in.wi_len, pid, &would, who, &n);
	if (err != 0)
		return err;
	/* As when the wait begins: fuse_data.c, pf_deadlock_with_itself(). */
	for (unsigned int i = 0; pid > 0 && !would.policy.deadlock_waits && i < m->nkeeper; i++)
		if (pf_srv_stuck(c->srv, m->keeper[i], pid))
			m->answer = PF_P_WOULD_DEADLK;
	out = (struct pf_p_would_out){
		.wo_timeout_ms = would.policy.timeout_ms, .wo_foff = would.foff, .wo_len = would.len,
		.wo_queued = m->queued, .wo_nholder = n, .wo_more = m->holders - n,
	};
	fin = (struct pf_p_would_end){ .we_most_ms = m->most_ms, .we_answer = m->answer, .we_nlease = m->nlease,
				       .we_more = m->leases - m->nlease };
	(void)snprintf(out.wo_on_busy, sizeof out.wo_on_busy, "%s", pf_busy_name[would.policy.on_busy]);
	for (unsigned int i = 0; i < n; i++) {
		wire[i] = (struct pf_p_holder){ .hr_session = who[i].session, .hr_pages = who[i].pages,
						.hr_pid = (uint32_t)who[i].pid, .hr_uid = who[i].uid };
		memcpy(wire[i].hr_comm, who[i].comm, sizeof wire[i].hr_comm);
	}
	pf_conn_answer(c, h->unique, 0, (struct iovec[]){ { &out, sizeof out }, { wire, n * sizeof *wire },
		       { &fin, sizeof fin }, { would.meets.lease, m->nlease * sizeof *m->lease } }, 4, NULL);
	return MSG_DONE;
}

/* Bad blocks */

struct bad_msg {
	struct pf_bad_req req;
	struct pf_conn *conn;
	uint64_t unique;
};

static void bad_stale(struct pf_bad_req *r, uint64_t ino)
{
	pf_srv_stale(PF_CONTAINER_OF(r, struct bad_msg, req)->conn->srv, ino);
}

static void bad_done(struct pf_bad_req *r, int err)
{
	struct bad_msg *m = PF_CONTAINER_OF(r, struct bad_msg, req);
	const struct pf_p_bad_out out = { .bo_changed = r->changed };
	const struct iovec body = { (void *)(uintptr_t)&out, sizeof out };

	pf_conn_answer(m->conn, m->unique, err, err != 0 ? NULL : &body, err == 0, NULL);
	pf_conn_put(m->conn);
	free(m);
}

static int list_bad(struct pf_conn *c, const struct fuse_in_header *h, uint64_t from)
{
	struct pf_bad_rec *rec = malloc(PF_P_BAD_MAX * sizeof *rec);
	struct pf_p_bad_rec *wire = calloc(PF_P_BAD_MAX, sizeof *wire);
	struct pf_p_bad_out out = { 0 };
	int err = rec && wire ? pf_fs_readable(c->srv->fs) : -ENOMEM;
	unsigned int n = 0;

	if (err == 0)
		err = pf_bad_list(c->srv->fs, from, rec, PF_P_BAD_MAX, &n);
	for (unsigned int i = 0; i < n; i++)
		wire[i] = (struct pf_p_bad_rec){ .br_dblk = rec[i].dblk, .br_nblk = rec[i].nblk,
						 .br_held = rec[i].held };
	out.bo_nrec = n;
	if (err == 0)
		pf_conn_answer(c, h->unique, 0,
			       (struct iovec[]){ { &out, sizeof out }, { wire, n * sizeof *wire } }, 2, NULL);
	free(rec);
	free(wire);
	return err == 0 ? MSG_DONE : err;
}

static int msg_bad(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w)
{
	struct pf_p_bad_in in;
	struct bad_msg *m;

	if (!pf_wire_take(w, &in, sizeof in))
		return MSG_NONSENSE;
	if (!may_open(c))
		return -EACCES;
	if (in.bi_what == PF_P_BAD_LIST)
		return list_bad(c, h, in.bi_at);
	if (in.bi_what != PF_P_BAD_ADD && in.bi_what != PF_P_BAD_DEL)
		return -EINVAL;
	m = malloc(sizeof *m);
	if (!m)
		return -ENOMEM;
	m->req = (struct pf_bad_req){ .add = in.bi_what == PF_P_BAD_ADD, .ino = in.bi_ino, .at = in.bi_at,
				      .len = in.bi_len, .br_stale = bad_stale, .br_done = bad_done };
	m->conn = c;
	m->unique = h->unique;
	pf_conn_get(c);
	pf_op_bad_start(c->srv->fs, &m->req);
	return MSG_DONE;
}

static const struct msg {
	uint32_t opcode;
	bool needs_session;
	int (*fn)(struct pf_conn *c, const struct fuse_in_header *h, struct pf_wire *w);
} table[] = {
	{ FUSE_INIT, false, msg_init },		  { PF_P_HELLO, false, msg_hello },
	{ PF_P_REPORT, false, msg_report },	  { PF_P_ATTACH, true, msg_attach },
	{ PF_P_DETACH, true, msg_detach },	  { FUSE_SETUPMAPPING, true, msg_setup },
	{ FUSE_REMOVEMAPPING, true, msg_remove }, { PF_P_PIN, true, msg_pin },
	{ PF_P_KICK, true, msg_kick },		  { PF_P_INVAL_ACK, true, msg_ack },
	{ PF_P_FORGET_WAIT, true, msg_forget },	  { PF_P_SYNC, true, msg_sync },
	{ PF_P_BADBLOCK, false, msg_bad },	  { PF_P_EVICT, false, msg_evict },
	{ PF_P_SET, false, msg_set },		  { PF_P_WOULD, false, msg_would },
	{ PF_P_LEASE, true, pf_msg_lease },	  { PF_P_LEASE_GIVE, true, pf_msg_give },
	{ PF_P_LEASE_LOOK, true, pf_msg_look },	  { PF_P_LEASE_HAVE, true, pf_msg_have },
	{ PF_P_PAUSE, false, msg_pause },
	{ PF_P_KICK_PIN, false, msg_kick_pin },
	{ PF_P_TRACE, false, msg_trace },	  { PF_P_TRACE_READ, false, msg_trace_read },
	{ PF_P_UNPIN, true, msg_unpin },	  { PF_P_ADMIT, true, msg_admit },
};

bool pf_msg_handle(struct pf_conn *c, const struct fuse_in_header *h, const void *body, size_t len, const char **why)
{
	struct pf_wire w = { body, len };
	int rc = -ENOSYS;
	size_t i;

	if (h->opcode != FUSE_INIT && !atomic_load(&c->init)) {
		*why = "no FUSE_INIT";
		return false;
	}
	for (i = 0; i < PF_ARRAY_LEN(table); i++)
		if (table[i].opcode == h->opcode)
			break;
	if (i < PF_ARRAY_LEN(table))
		rc = table[i].needs_session && !c->sess ? -ENOTCONN : table[i].fn(c, h, &w);
	if (rc == MSG_NONSENSE) {
		*why = "a message too short or out of place";
		return false;
	}
	if (rc != MSG_DONE)
		pf_conn_answer(c, h->unique, rc, NULL, 0, NULL);
	return true;
}
