/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pinrun.c - run a program with libpinfs.so preloaded, or say in one line why that cannot work.
 *
 * Replaces itself by the program (exec), so status and signals are the program's own. Statuses of its own follow
 * env(1) and the shells: 125 bad use or no library, 126 found but cannot be run with a preload, 127 not found.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <pinfs/compiler.h>
#include <pinfs/version.h>
#include "pinrun/elf.h"

enum { EXIT_USE = 125, EXIT_CANNOT = 126, EXIT_NOTFOUND = 127 };

#define LIB_NAME "libpinfs.so"
#define SCRIPT_DEPTH 5		/* the kernel follows as many interpreters */
#define SHELL "/bin/sh"

static bool verbose;

static int fail(int status, const char *fmt, ...) PF_PRINTF(2, 3);
static int fail(int status, const char *fmt, ...)
{
	va_list ap;

	(void)fputs("pinrun: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	return status;
}

static void usage(FILE *f)
{
	(void)fputs("usage: pinrun [-v] [--lib PATH] [--log LEVEL|FILE] PROGRAM [ARGUMENT ...]\n"
		    "Run PROGRAM with libpinfs.so preloaded: its mappings of files on a pinfs mount become windows\n"
		    "on the device, and its pins are counted.\n"
		    "  -v, --verbose   say what is preloaded into what\n"
		    "      --lib PATH  the library (default: $PINFS_LIB, else beside pinrun, else in ../lib)\n"
		    "      --log LEVEL|FILE  err, warn, info or debug; or the file that gets all messages\n"
		    "  -h, --help      this text\n"
		    "      --version   version\n", f);
}

/* A regular file that we may execute. 0, -ENOENT and relatives, -EACCES. */
static int runnable(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || access(path, X_OK) != 0)
		return -EACCES;
	return 0;
}

/* As execvp(3): a file that may not be run does not end the search, but decides the error if nothing else is found. */
static int find_program(const char *name, char path[PATH_MAX])
{
	const char *dir = getenv("PATH"), *end;
	int err = -ENOENT;

	if (name[0] == '\0')
		return -ENOENT;
	if (strchr(name, '/') != NULL) {
		if (strlen(name) >= PATH_MAX)
			return -ENAMETOOLONG;
		(void)strcpy(path, name);
		return runnable(path);
	}
	if (dir == NULL)
		dir = "/bin:/usr/bin";
	for (;; dir = end + 1) {
		int n, e;

		end = strchrnul(dir, ':');
		n = snprintf(path, PATH_MAX, "%.*s/%s", end == dir ? 1 : (int)(end - dir), end == dir ? "." : dir,
			     name);
		e = n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : runnable(path);
		if (e == 0)
			return 0;
		if (e == -EACCES)
			err = e;
		if (*end == '\0')
			return err;
	}
}

/*
 * Who really runs when @path is executed: follows #! lines. A text without one is the shell's, as execvp(3) does it;
 * *via_shell is then true. Returns 0 or an exit status, having said why.
 */
static int find_image(const char *path, char image[PATH_MAX], bool *via_shell)
{
	(void)strcpy(image, path);
	*via_shell = false;
	for (int depth = 0; depth < SCRIPT_DEPTH; depth++) {
		char head[257] = "", *at;
		int fd = open(image, O_RDONLY | O_CLOEXEC), err;
		ssize_t n;

		if (fd < 0)
			return fail(EXIT_CANNOT, "%s: cannot be read, so not checked: %s", image, strerror(errno));
		n = read(fd, head, sizeof head - 1);
		(void)close(fd);
		if (n < 0)
			return fail(EXIT_CANNOT, "%s: %s", image, strerror(errno));
		if (n >= 4 && memcmp(head, "\177ELF", 4) == 0)
			return 0;
		if (n < 2 || head[0] != '#' || head[1] != '!') {
			if (memchr(head, '\0', (size_t)n) != NULL || depth != 0)
				return fail(EXIT_CANNOT, "%s: neither an ELF program nor a script", image);
			*via_shell = true;
			(void)strcpy(image, SHELL);
			continue;
		}
		at = head + 2 + strspn(head + 2, " \t");
		at[strcspn(at, " \t\r\n")] = '\0';
		if (*at == '\0')
			return fail(EXIT_CANNOT, "%s: the #! line names no interpreter", image);
		err = runnable(at);
		if (err != 0)
			return fail(err == -ENOENT ? EXIT_NOTFOUND : EXIT_CANNOT, "%s: interpreter %s: %s", image, at,
				    strerror(-err));
		if (verbose)
			(void)fprintf(stderr, "pinrun: %s is a script for %s\n", image, at);
		(void)strcpy(image, at);
	}
	return fail(EXIT_CANNOT, "%s: interpreters of interpreters without end", path);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* Would the loader preload into it? 0 or an exit status, having said why not. */
static int check_image(const char *image, struct elf_facts *facts)
{
	struct elf_facts self;
	struct stat st;
	int err = elf_look(image, facts);

	if (err != 0)
		return fail(EXIT_CANNOT, "%s: %s", image, strerror(-err));
	if (!facts->sane)
		return fail(EXIT_CANNOT, "%s: damaged ELF file", image);
	if (!facts->ours)
		return fail(EXIT_CANNOT, "%s: for another machine or word size than %s: cannot be preloaded", image,
			    LIB_NAME);
	if (facts->interp[0] == '\0')
		return fail(EXIT_CANNOT, "%s: statically linked: no loader that could preload %s", image, LIB_NAME);
	if (elf_look("/proc/self/exe", &self) == 0 && self.interp[0] != '\0' &&
	    strcmp(base_name(self.interp), base_name(facts->interp)) != 0)
		return fail(EXIT_CANNOT, "%s: uses another C library (%s) than %s: cannot be preloaded", image,
			    facts->interp, LIB_NAME);
	if (stat(image, &st) != 0)
		return fail(EXIT_CANNOT, "%s: %s", image, strerror(errno));
	/* Refused for root as well, for whom the loader would often oblige: one program, one answer. */
	if ((st.st_mode & S_ISUID) != 0)
		return fail(EXIT_CANNOT, "%s: set-user-id: the loader ignores preloads for it", image);
	if ((st.st_mode & S_ISGID) != 0)
		return fail(EXIT_CANNOT, "%s: set-group-id: the loader ignores preloads for it", image);
	if (getxattr(image, "security.capability", NULL, 0) > 0)
		return fail(EXIT_CANNOT, "%s: has file capabilities: the loader ignores preloads for it", image);
	return 0;
}

static int find_lib(const char *given, char lib[PATH_MAX])
{
	static const char *const beside[] = { "", "../lib/" };
	char self[PATH_MAX];
	ssize_t n;

	if (given == NULL)
		given = getenv("PINFS_LIB");
	if (given != NULL && given[0] != '\0') {
		if (realpath(given, lib) == NULL)
			return fail(EXIT_USE, "%s: %s", given, strerror(errno));
		return 0;
	}
	n = readlink("/proc/self/exe", self, sizeof self - sizeof "../lib/" LIB_NAME);
	if (n < 0)
		return fail(EXIT_USE, "/proc/self/exe: %s", strerror(errno));
	self[n] = '\0';
	for (size_t i = 0; i < PF_ARRAY_LEN(beside); i++) {
		char *end = strrchr(self, '/') + 1;

		(void)sprintf(end, "%s" LIB_NAME, beside[i]);
		if (realpath(self, lib) != NULL)
			return 0;
		*end = '\0';
	}
	return fail(EXIT_USE, LIB_NAME " is neither in %s nor in %s../lib: use --lib or PINFS_LIB", self, self);
}

static int check_lib(const char *lib, struct elf_facts *facts)
{
	int err = elf_look(lib, facts);

	if (err != 0)
		return fail(EXIT_USE, "%s: %s", lib, strerror(-err));
	if (!facts->sane || !facts->ours)
		return fail(EXIT_USE, "%s: not a shared library of this machine", lib);
	if (strpbrk(lib, ": ") != NULL)
		return fail(EXIT_USE, "%s: LD_PRELOAD cannot name a path with a space or a colon: use --lib", lib);
	return 0;
}

/* The list being made, without repetition. */
struct list {
	char *text;
	size_t room;
};

static void list_add(struct list *l, const char *item, size_t len)
{
	for (const char *p = l->text; *p != '\0'; p += strcspn(p, ":")) {
		p += *p == ':';
		if (strncmp(p, item, len) == 0 && (p[len] == ':' || p[len] == '\0'))
			return;
	}
	if (l->text[0] != '\0')
		(void)strcat(l->text, ":");
	(void)strncat(l->text, item, len);
}

/* Sanitizer runtimes first, wherever they come from; then ours; then what was there. */
static int set_preload(const char *lib, const struct elf_facts *libf, const struct elf_facts *progf)
{
	const char *old = getenv("LD_PRELOAD");
	struct list l = { .room = PATH_MAX + 2 * sizeof libf->san };
	int err;

	if (old == NULL)
		old = "";
	l.room += 2 * strlen(old) + 2;
	l.text = calloc(1, l.room);
	if (l.text == NULL)
		return fail(EXIT_USE, "out of memory");
	for (int pass = 0; pass < 2; pass++) {
		size_t len;

		for (size_t i = 0; pass == 0 && i < libf->nsan; i++)
			list_add(&l, libf->san[i], strlen(libf->san[i]));
		for (size_t i = 0; pass == 0 && i < progf->nsan; i++)
			list_add(&l, progf->san[i], strlen(progf->san[i]));
		if (pass == 1)
			list_add(&l, lib, strlen(lib));
		for (const char *p = old; *p != '\0'; p += len) {
			char item[PATH_MAX];

			p += strspn(p, ": ");
			len = strcspn(p, ": ");
			if (len == 0 || len >= sizeof item)
				continue;
			memcpy(item, p, len);
			item[len] = '\0';
			if (elf_is_sanitizer(base_name(item)) == (pass == 0))
				list_add(&l, item, len);
		}
	}
	err = setenv("LD_PRELOAD", l.text, 1);
	if (verbose)
		(void)fprintf(stderr, "pinrun: LD_PRELOAD=%s\n", l.text);
	free(l.text);
	return err == 0 ? 0 : fail(EXIT_USE, "LD_PRELOAD: %s", strerror(errno));
}

static int run(const char *name, char **argv, int argc, const char *lib_given)
{
	char path[PATH_MAX], image[PATH_MAX], lib[PATH_MAX];
	struct elf_facts progf, libf;
	bool via_shell;
	int err;

	err = find_program(name, path);
	if (err != 0)
		return fail(err == -ENOENT || err == -ENOTDIR ? EXIT_NOTFOUND : EXIT_CANNOT, "%s: %s", name,
			    strerror(-err));
	err = find_image(path, image, &via_shell);
	if (err == 0)
		err = check_image(image, &progf);
	if (err == 0)
		err = find_lib(lib_given, lib);
	if (err == 0)
		err = check_lib(lib, &libf);
	if (err == 0)
		err = set_preload(lib, &libf, &progf);
	if (err != 0)
		return err;
	if (via_shell) {
		char **sh = calloc((size_t)argc + 2, sizeof(*sh));
		char zero[] = "sh";

		if (sh == NULL)
			return fail(EXIT_USE, "out of memory");
		sh[0] = zero;
		sh[1] = path;
		memcpy(sh + 2, argv + 1, (size_t)argc * sizeof(*sh));	/* the arguments and the NULL */
		(void)execv(SHELL, sh);
		err = errno;
		free(sh);
		errno = err;
	} else {
		(void)execv(path, argv);
	}
	return fail(EXIT_CANNOT, "%s: %s", path, strerror(errno));
}

int main(int argc, char **argv)
{
	enum { OPT_LIB = 256, OPT_LOG, OPT_VERSION };
	static const struct option opts[] = {
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ "lib", required_argument, NULL, OPT_LIB },
		{ "log", required_argument, NULL, OPT_LOG },
		{ "version", no_argument, NULL, OPT_VERSION },
		{ NULL, 0, NULL, 0 },
	};
	const char *lib = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "+vh", opts, NULL)) != -1) {
		switch (c) {
		case 'v':
			verbose = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		case OPT_LIB:
			lib = optarg;
			break;
		case OPT_LOG:
			if (setenv("PINFS_LOG", optarg, 1) != 0)
				return fail(EXIT_USE, "%s: %s", optarg, strerror(errno));
			break;
		case OPT_VERSION:
			(void)puts("pinrun (pinfs) " PINFS_VERSION);
			return 0;
		default:
			return EXIT_USE;	/* getopt has said why */
		}
	}
	if (optind == argc) {
		usage(stderr);
		return EXIT_USE;
	}
	return run(argv[optind], argv + optind, argc - optind, lib);
}
