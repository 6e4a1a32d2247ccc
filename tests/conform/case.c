/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * case.c - what a case says and where it is: its answer, its directory, its files and mappings (conform.h).
 *
 * Runs in the case's child. The answer is in memory shared with the runner, so that it is there whatever becomes of
 * the child.
 */
#include "conform/engine.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "harness/touch.h"

/* A process does not go before its transfers have ended. */
static _Noreturn void end(void)
{
	slow_reset();
	(void)fflush(NULL);
	_exit(0);
}

void case_run(struct cf *c)
{
	c->cs->fn(c);
	end();
}

/* ---- the answer ---- */

void cf_answer(struct cf *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(c->out->answer, sizeof c->out->answer, fmt, ap);
	va_end(ap);
	atomic_store(&c->out->answered, 1);
}

const char *error_name(long rc)
{
	static _Thread_local char number[32];
	const char *name = strerrorname_np((int)-rc);

	if (name != NULL)
		return name;
	(void)snprintf(number, sizeof number, "errno %ld", -rc);
	return number;
}

void cf_answer_rc(struct cf *c, long rc)
{
	cf_answer(c, "%s", rc >= 0 ? "returns" : error_name(rc));
}

void cf_note(struct cf *c, const char *fmt, ...)
{
	size_t n = strnlen(c->out->notes, NOTES_MAX - 1);
	va_list ap;

	if (n != 0 && n + 1 < NOTES_MAX)
		c->out->notes[n++] = '\n';
	va_start(ap, fmt);
	(void)vsnprintf(c->out->notes + n, NOTES_MAX - n, fmt, ap);
	va_end(ap);
}

/* In a process that the case has forked, too: the case itself sees it when it waits for that. */
void cf_na(struct cf *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(c->out->why, sizeof c->out->why, fmt, ap);
	va_end(ap);
	atomic_store(&c->out->na, 1);
	end();
}

void cf_broken(struct cf *c, const char *file, int line, const char *what, long rc)
{
	const char *slash = strrchr(file, '/');

	(void)snprintf(c->out->why, sizeof c->out->why, "%s:%d: %s%s%s", slash != NULL ? slash + 1 : file, line, what,
		       rc < 0 ? ": " : "", rc < 0 ? error_name(rc) : "");
	atomic_store(&c->out->broken, 1);
	end();
}

long cf_rc(long rc)
{
	return rc < 0 ? -(long)errno : rc;
}

/* ---- where it is ---- */

const void *cf_arg(const struct cf *c) { return c->cs->arg; }
bool cf_is(const struct cf *c, const char *tag) { return tags_have(&c->tags, tag); }
const char *cf_dir(const struct cf *c) { return c->dir; }
const char *cf_mount(const struct cf *c) { return c->place->pinfs ? c->place->mount : NULL; }
const char *cf_programs(const struct cf *c) { return c->place->programs[0] != '\0' ? c->place->programs : NULL; }
uint64_t cf_fill_max(const struct cf *c) { return c->place->fill_max; }
const char *cf_scratch_dev(const struct cf *c) { return c->place->scratch_dev; }
const char *cf_plain_dir(const struct cf *c) { return c->place->plain_dir[0] != '\0' ? c->place->plain_dir : NULL; }

const char *cf_path(const struct cf *c, const char *name)
{
	static _Thread_local char buf[16][PATH_MAX + NAME_MAX + 2];
	static _Thread_local unsigned int turn;
	char *p = buf[turn++ % 16];

	(void)snprintf(p, sizeof buf[0], "%s/%s", c->dir, name);
	return p;
}

/* ---- files and mappings ---- */

/* Under the profile devdax files are devices: of whole chunks, looked at and changed by mappings of such only. */
static size_t whole_chunks(struct cf *c, size_t len)
{
	return cf_is(c, "devdax") ? (len + CF_CHUNK - 1) / CF_CHUNK * CF_CHUNK : len;
}

int cf_holes(struct cf *c, const char *name, size_t len)
{
	const int fd = (int)CF_SYS(c, open(cf_path(c, name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));

	(void)CF_SYS(c, ftruncate(fd, (off_t)whole_chunks(c, len)));
	return fd;
}

int cf_plain_file(struct cf *c, size_t len)
{
	char path[PATH_MAX + 32];
	int fd;

	if (cf_plain_dir(c) == NULL)
		cf_na(c, "no directory is known that does direct I/O and is not DAX (--plain-dir)");
	(void)snprintf(path, sizeof path, "%s/pinfs-conform.XXXXXX", cf_plain_dir(c));
	fd = (int)CF_SYS(c, mkostemp(path, O_CLOEXEC));
	(void)CF_SYS(c, unlink(path));
	(void)CF_SYS(c, ftruncate(fd, (off_t)len));
	return fd;
}

int cf_file(struct cf *c, const char *name, size_t len)
{
	const size_t piece = len < CF_CHUNK ? len : CF_CHUNK;
	const int fd = (int)CF_SYS(c, open(cf_path(c, name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
	char *buf = malloc(piece + 1);

	CF_MUST(c, buf != NULL);
	if (cf_is(c, "devdax")) {
		CF_SYS(c, ftruncate(fd, (off_t)whole_chunks(c, len)));
		free(buf);
		buf = cf_map(c, fd, 0, len, PROT_READ | PROT_WRITE);
		memset(buf, CF_BYTE, len);
		CF_SYS(c, munmap(buf, whole_chunks(c, len)));
		return fd;
	}
	memset(buf, CF_BYTE, piece);
	for (size_t at = 0; at < len;)
		at += (size_t)CF_SYS(c, pwrite(fd, buf, len - at < piece ? len - at : piece, (off_t)at));
	free(buf);
	return fd;
}

void *cf_map(struct cf *c, int fd, size_t off, size_t len, int prot)
{
	char *p = mmap(NULL, len, prot, MAP_SHARED, fd, (off_t)off);
	size_t before = 0;

	if (p == MAP_FAILED && errno == EINVAL && cf_is(c, "devdax")) {
		before = off % CF_CHUNK;
		p = mmap(NULL, whole_chunks(c, before + len), prot, MAP_SHARED, fd, (off_t)(off - before));
	}
	if (p == MAP_FAILED)
		cf_broken(c, "cf_map", 0, "mmap", -(long)errno);
	return p + before;
}

int cf_touch(volatile void *p, bool store)
{
	return pt_touch(p, store);
}

const char *cf_touch_word(volatile void *p, bool store)
{
	switch (pt_touch(p, store)) {
	case 0:
		return "returns";
	case SIGBUS:
		return pt_touched_code() == BUS_MCEERR_AR ? "SIGBUS/MCEERR_AR" : "SIGBUS";
	default:
		return "SIGSEGV";
	}
}

const char *cf_content_of(const void *at, size_t len)
{
	const char *p = at;

	for (size_t i = 1; i < len; i++)
		if (p[i] != p[0])
			return "mixed";
	return len == 0 ? "nothing" : p[0] == 0 ? "zero" : p[0] == CF_BYTE ? "old" : p[0] == CF_DMA ? "dma" : "other";
}

const char *cf_content(struct cf *c, const char *path, off_t off, size_t len)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *word = NULL;
	char *buf;
	size_t got = 0;

	if (fd < 0)
		return error_name(-(long)errno);
	buf = malloc(len + 1);
	CF_MUST(c, buf != NULL);
	while (word == NULL && got < len) {
		const ssize_t n = pread(fd, buf + got, len - got, off + (off_t)got);

		if (n < 0 && errno == EINVAL && cf_is(c, "devdax")) {
			memcpy(buf, cf_map(c, fd, (size_t)off, len, PROT_READ), len);
			got = len;
			break;
		}
		if (n < 0)
			word = error_name(-(long)errno);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	if (word == NULL)
		word = got == 0 && len != 0 ? "nothing" : cf_content_of(buf, got);
	free(buf);
	(void)close(fd);
	return word;
}

off_t cf_size(struct cf *c, const char *path)
{
	struct stat st;

	(void)CF_SYS(c, stat(path, &st));
	return st.st_size;
}

/* ---- programs ---- */

/* In the directory of this program, in ../sbin of an installation, or by PATH. */
static void find_program(const struct cf *c, const char *name, char path[PATH_MAX])
{
	static const char *const below[] = { "", "../sbin/", "../bin/" };

	for (size_t i = 0; i < PF_ARRAY_LEN(below) && c->place->programs[0] != '\0' && strchr(name, '/') == NULL; i++) {
		(void)snprintf(path, PATH_MAX, "%.*s/%s%s", PATH_MAX - 300, c->place->programs, below[i], name);
		if (access(path, X_OK) == 0)
			return;
	}
	(void)snprintf(path, PATH_MAX, "%s", name);
}

int cf_run(struct cf *c, char *out, size_t room, const char *const argv[])
{
	const int fd = (int)CF_SYS(c, memfd_create("out", MFD_CLOEXEC));
	char path[PATH_MAX];
	int status = 0;
	ssize_t n;
	pid_t pid;

	find_program(c, argv[0], path);
	(void)fflush(NULL);
	pid = (pid_t)CF_SYS(c, fork());
	if (pid == 0) {
		const int null = open("/dev/null", O_RDWR);

		(void)fcntl(fd, F_SETFL, O_APPEND);
		if (null < 0 || dup2(null, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
			_exit(126);
		(void)unsetenv("LD_PRELOAD");
		(void)execvp(path, (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (room != 0) {
		n = pread(fd, out, room - 1, 0);
		out[n > 0 ? n : 0] = '\0';
	}
	(void)close(fd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void *cf_symbol(const char *name)
{
	return dlsym(RTLD_DEFAULT, name);
}
