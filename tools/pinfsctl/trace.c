/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * trace.c - `pinfsctl trace`: everything that happens on a mount, from its daemon and all clients, into a file.
 *
 * The daemon keeps rings and gives what is in them when asked, so asking often is what keeps events from being lost.
 * When this process ends, however, the connection does, and with it the trace. Owns the capture.
 */
#include "pinfsctl/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/units.h"
#include "pinfsctl/pinfsctl.h"

#define LOOK_MS 5			/* between two questions when the last answer was empty */

struct tracer {
	struct capture c;
	int sock;
	uint64_t unique;
	bool gone;			/* the daemon */
};

/* ---- names of threads, while they live ---- */

static void note_thread(struct capture *c, uint32_t pid, uint32_t tid)
{
	struct thread_name t = { .pid = pid, .tid = tid };
	char path[64];
	FILE *f;

	for (size_t i = c->nname; i-- > 0;)
		if (c->name[i].pid == pid && c->name[i].tid == tid)
			return;
	(void)snprintf(path, sizeof path, "/proc/%" PRIu32 "/task/%" PRIu32 "/comm", pid, tid);
	f = fopen(path, "re");
	if (f != NULL) {
		if (fgets(t.name, sizeof t.name, f) == NULL)
			t.name[0] = '\0';
		t.name[strcspn(t.name, "\n")] = '\0';
		(void)fclose(f);
	}
	if (c->nname == c->name_room) {
		size_t room = 2 * c->name_room + 64;
		struct thread_name *more = realloc(c->name, room * sizeof *more);

		if (more == NULL)
			return;
		c->name = more;
		c->name_room = room;
	}
	c->name[c->nname++] = t;
}

/* ---- events ---- */

/* Is it of the file that is traced, or of none? */
static bool wanted(const struct capture *c, const struct pf_t_ev *ev)
{
	return c->ino == 0 || ev->te_ino == c->ino || ev->te_ino == 0;
}

static void keep(struct capture *c, const struct pf_t_ev *ev, size_t n)
{
	uint32_t last_pid = 0, last_tid = 0;

	for (size_t i = 0; i < n; i++) {
		if (ev[i].te_type == PF_TE_NONE || ev[i].te_type >= PF_TE_NR || !wanted(c, &ev[i]))
			continue;
		if (c->n == c->room) {
			size_t room = c->room != 0 ? 2 * c->room : 4096;
			struct pf_t_ev *more = room <= 2 * CAPTURE_MAX ? realloc(c->ev, room * sizeof *more) : NULL;

			if (more == NULL) {
				c->lost += n - i;
				return;
			}
			c->ev = more;
			c->room = room;
		}
		if (c->n >= CAPTURE_MAX) {
			c->lost += n - i;
			return;
		}
		c->ev[c->n] = ev[i];
		c->ev[c->n].te_text[sizeof ev->te_text - 1] = '\0';
		c->n++;
		if (ev[i].te_tid != 0 && (ev[i].te_tid != last_tid || ev[i].te_pid != last_pid)) {
			note_thread(c, ev[i].te_pid, ev[i].te_tid);
			last_pid = ev[i].te_pid;
			last_tid = ev[i].te_tid;
		}
	}
}

/* One question. 1: there may be more; 0; negative: the daemon has gone. */
static int ask(struct tracer *t)
{
	struct pf_p_trace_out out;
	char *body;
	size_t len;
	int err = session_ask(t->sock, PF_P_TRACE_READ, t->unique++, NULL, 0, &body, &len);

	if (err == 0 && len < sizeof out)
		err = -EPROTO;
	if (err == 0) {
		memcpy(&out, body, sizeof out);
		if (out.to_nev > PF_P_TRACE_MAX || (len - sizeof out) / sizeof(struct pf_t_ev) < out.to_nev)
			err = -EPROTO;
	}
	if (err == 0) {
		struct pf_t_ev *ev = malloc(out.to_nev * sizeof *ev + 1);

		if (ev != NULL) {
			memcpy(ev, body + sizeof out, out.to_nev * sizeof *ev);
			keep(&t->c, ev, out.to_nev);
		}
		t->c.lost += out.to_lost + (ev == NULL ? out.to_nev : 0);
		t->c.begin_ns = out.to_since_ns;
		t->c.end_ns = out.to_now_ns;
		free(ev);
		err = out.to_more != 0;
	}
	free(body);
	return err;
}

static int order(struct tracer *t, enum pf_p_trace_what what)
{
	const struct pf_p_trace_in in = { .ti_what = what };
	char *body;
	size_t len;
	int err = session_ask(t->sock, PF_P_TRACE, t->unique++, &in, sizeof in, &body, &len);

	free(body);
	return err;
}

/* ---- the command, and the end ---- */

static pid_t spawn(char *const *argv, const sigset_t *mask)
{
	int fd[2], err = 0;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) != 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		(void)sigprocmask(SIG_SETMASK, mask, NULL);
		(void)execvp(argv[0], argv);
		err = -errno;
		(void)!write(fd[1], &err, sizeof err);
		_exit(127);
	}
	(void)close(fd[1]);
	if (pid > 0 && read(fd[0], &err, sizeof err) == (ssize_t)sizeof err)
		(void)waitpid(pid, NULL, 0);
	else
		err = 0;
	(void)close(fd[0]);
	return pid < 0 ? -errno : err != 0 ? err : pid;
}

/* Until the time is over, the command has ended or a signal came. The exit status of the command, or 0. */
static int follow(struct tracer *t, int sigfd, uint64_t ns, pid_t command)
{
	struct pollfd p = { .fd = sigfd, .events = POLLIN };
	struct signalfd_siginfo si;
	uint64_t spent = 0;
	int more = 1, ws = 0;

	for (;;) {
		if (poll(&p, 1, more > 0 ? 0 : LOOK_MS) > 0 && read(sigfd, &si, sizeof si) == (ssize_t)sizeof si) {
			if (command > 0 && waitpid(command, &ws, WNOHANG) == command)
				return WIFEXITED(ws) ? WEXITSTATUS(ws) : 128 + WTERMSIG(ws);
			/* Ctrl-C is the command's, too: its end is waited for. */
			if (command <= 0 && si.ssi_signo != SIGCHLD)
				return 0;
			if (command > 0 && si.ssi_signo == SIGTERM)
				(void)kill(command, SIGTERM);
		}
		more = ask(t);
		if (more < 0) {
			t->gone = true;
			(void)complain("the daemon has gone: what it said until then is written");
			if (command > 0) {
				(void)waitpid(command, &ws, 0);
				return WIFEXITED(ws) ? WEXITSTATUS(ws) : 128 + WTERMSIG(ws);
			}
			return 1;
		}
		spent = t->c.end_ns - t->c.begin_ns;
		if (command <= 0 && ns != 0 && spent >= ns)
			return 0;
	}
}

static int write_file(struct capture *c, const char *path)
{
	FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	int status;

	if (f == NULL)
		return complain("%s: %s", path, strerror(errno));
	status = chrome_write(c, f);
	if (fflush(f) != 0 || ferror(f))
		status = complain("%s: write error", path);
	if (f != stdout && fclose(f) != 0 && status == 0)
		status = complain("%s: %s", path, strerror(errno));
	return status;
}

static int refused(const char *mount, int err)
{
	struct json_object *o = NULL;
	char *json = NULL;

	if (err == -EPERM)
		return complain("%s: only root and the user who mounted it may trace", mount);
	if (err != -EBUSY)
		return complain("%s: %s", mount, strerror(-err));
	if (session_report(mount, PF_REPORT_STATUS, 0, &json) == 0)
		o = j_report(json);
	(void)complain("%s: process %" PRIu64 " traces it already", mount, j_num(o, "tracer"));
	(void)json_object_put(o);
	free(json);
	return 1;
}

static int record(struct tracer *t, const char *mount, const char *out, uint64_t ns, char *const *command)
{
	int sigfd, err, status = 0;
	sigset_t mine, old;
	char *json = NULL;
	pid_t pid = 0;

	(void)sigemptyset(&mine);
	(void)sigaddset(&mine, SIGINT);
	(void)sigaddset(&mine, SIGTERM);
	(void)sigaddset(&mine, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &mine, &old);
	sigfd = signalfd(-1, &mine, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sigfd < 0)
		return complain("signalfd: %s", strerror(errno));
	err = order(t, PF_P_TRACE_START);
	if (err != 0) {
		(void)close(sigfd);
		return refused(mount, err);
	}
	/* After the start: what is pinned now and was before. */
	if (session_report(mount, PF_REPORT_PINS, 0, &t->c.pins) != 0)
		t->c.pins = NULL;
	if (session_report(mount, PF_REPORT_STATUS, 0, &json) == 0) {
		struct json_object *o = j_report(json);

		t->c.daemon_pid = (uint32_t)j_num(o, "daemon_pid");
		(void)json_object_put(o);
		free(json);
	}
	if (command != NULL)
		pid = spawn(command, &old);
	if (pid < 0)
		status = complain("%s: %s", command[0], strerror(-pid));
	else
		status = follow(t, sigfd, ns, pid);
	if (!t->gone && order(t, PF_P_TRACE_STOP) == 0)
		while (ask(t) > 0)
			;
	/* Before the connection does, so that whoever comes next finds no trace. */
	if (!t->gone)
		(void)order(t, PF_P_TRACE_END);
	(void)close(sigfd);
	if (pid < 0)
		return status;
	err = write_file(&t->c, out);
	if (err == 0 && strcmp(out, "-") != 0) {
		(void)printf("%zu events in %s", t->c.n, out);
		if (t->c.lost != 0)
			(void)printf("; %" PRIu64 " more were lost", t->c.lost);
		(void)putchar('\n');
	}
	return status != 0 ? status : err;
}

static int usage(int status)
{
	(void)fputs("usage: pinfsctl trace MOUNT -o FILE [--seconds N] [--file PATH] [-- COMMAND [ARGUMENT...]]\n"
		    "       pinfsctl trace --check FILE\n", status == 0 ? stdout : stderr);
	return status;
}

int trace_verb(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "output", required_argument, NULL, 'o' }, { "seconds", required_argument, NULL, 's' },
		{ "file", required_argument, NULL, 'f' },   { "check", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },	    { NULL, 0, NULL, 0 },
	};
	const char *out = NULL, *mount = NULL, *check = NULL;
	struct tracer t = { .sock = -1, .unique = 2 };
	struct json_object *o;
	uint64_t ns = 0;
	struct stat st;
	int c, status;

	optind = 1;
	/* '-': a word in its place, so that `--` can end the options and begin a command. */
	while ((c = getopt_long(argc, argv, "-o:h", opts, NULL)) != -1) {
		if (c == 1 && mount == NULL) {
			mount = optarg;
		} else if (c == 'o') {
			out = optarg;
		} else if (c == 'c') {
			check = optarg;
		} else if (c == 's' && units_parse_ns(optarg, &ns) == 0 && ns != 0) {
			continue;
		} else if (c == 'f') {
			if (stat(optarg, &st) != 0)
				return complain("%s: %s", optarg, strerror(errno));
			t.c.ino = st.st_ino;
		} else {
			return usage(c == 'h' ? 0 : 2);
		}
	}
	if (check != NULL) {
		o = trace_load(check);
		(void)json_object_put(o);
		return o == NULL ? 1 : mount != NULL || out != NULL ? usage(2) : 0;
	}
	if (mount == NULL || out == NULL || (optind < argc && ns != 0))
		return usage(2);
	if (session_open(mount, &t.sock) != 0)
		return 1;
	status = record(&t, mount, out, ns, optind < argc ? argv + optind : NULL);
	(void)close(t.sock);
	free(t.c.ev);
	free(t.c.name);
	free(t.c.pins);
	return status;
}
