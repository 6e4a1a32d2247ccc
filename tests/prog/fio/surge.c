/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * surge.c - takes blocks away from files that other programs transfer to and from, gives them to others at once, and
 * looks whether anything of those transfers turns up there. Knows nothing of pinfs.
 *
 *   surge [-u] [-x PID] [-s SEED] -t SECONDS DIRECTORY CUT... [-- KEPT...]
 *
 * A round: one of the CUT files loses blocks (truncated and grown again, punched), as the mount's policy has it; a
 * victim takes all space that is free, and some older victim is removed, so that the file can have blocks again. All
 * victims are looked at after each step. KEPT files are truncated to the size that they have, grown and shrunk behind
 * it, and punched where they end: nothing of them may be lost.
 *
 * Prints what was done. 0: not one foreign byte; 3: there was one, and where (in the filesystem's own blocks it shows
 * as EUCLEAN); 1: it could not be done. It goes on, up to four minutes longer, until blocks have changed hands a few
 * times; with -u until there is a foreign byte. With -x the transfers are late: process PID, by which they come, is
 * stopped from before the cut until the victim has the blocks.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <linux/falloc.h>

#define PAGE 4096U
#define VICTIMS 3U
#define PIECE (64U << 10)
#define CUTS 5U
#define MORE_S 240

struct victim {
	char path[600];
	int fd;				/* -1: none */
	uint64_t len;
	unsigned char byte;
};

static struct {
	uint64_t rounds, cuts, busy, freed, taken, looks;
} done;
static struct victim victims[VICTIMS];
static const char *dir;
static uint64_t seed = 1;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Foreign bytes may be in place of anything that the filesystem keeps. */
static void die(const char *what, const char *path)
{
	int err = errno;

	(void)fprintf(stderr, "surge: %s %s: %s\n", what, path, strerror(err));
	exit(err == EUCLEAN || err == EROFS ? 3 : 1);	/* damaged, and therefore read-only */
}

/* False: a byte that nobody wrote there. */
static bool intact(const struct victim *v)
{
	static unsigned char got[PIECE], want[PIECE];
	uint64_t at = 0;
	ssize_t n;

	memset(want, v->byte, sizeof want);
	done.looks++;
	errno = 0;
	while (at < v->len && (n = pread(v->fd, got, sizeof got, (off_t)at)) > 0) {
		if (memcmp(got, want, (size_t)n) != 0) {
			for (ssize_t i = 0; i < n; i++) {
				if (got[i] == v->byte)
					continue;
				(void)printf("foreign byte %#x at %llu of %s, which is %#x\n", got[i],
					     (unsigned long long)at + (unsigned long long)i, v->path, v->byte);
				return false;
			}
		}
		at += (uint64_t)n;
	}
	if (at == v->len)
		return true;
	if (errno != EUCLEAN)
		die("read", v->path);
	(void)printf("foreign bytes in place of the tree of %s\n", v->path);
	return false;
}

static bool all_intact(void)
{
	for (unsigned int i = 0; i < VICTIMS; i++) {
		if (victims[i].fd >= 0 && !intact(&victims[i]))
			return false;
	}
	return true;
}

static void drop(struct victim *v)
{
	if (v->fd < 0)
		return;
	(void)close(v->fd);
	(void)unlink(v->path);
	v->fd = -1;
}

/* All that is free. */
static void take(struct victim *v, uint64_t round)
{
	static unsigned char buf[PIECE];
	size_t piece = sizeof buf;
	ssize_t n;

	drop(v);
	(void)snprintf(v->path, sizeof v->path, "%s/victim.%llu", dir, (unsigned long long)round);
	v->fd = open(v->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (v->fd < 0 && errno != ENOSPC)
		die("create", v->path);
	v->byte = (unsigned char)(1 + round % 64);	/* what is transferred is none of these */
	v->len = 0;
	memset(buf, v->byte, sizeof buf);
	while (v->fd >= 0 && piece >= PAGE) {
		n = pwrite(v->fd, buf, piece, (off_t)v->len);
		if (n > 0)
			v->len += (uint64_t)n;
		else if (n < 0 && errno == EUCLEAN)
			break;		/* intact() will say so */
		else if (n < 0 && errno != ENOSPC)
			die("write", v->path);
		else
			piece /= 2;
	}
	done.taken += v->len;
}

static uint64_t blocks(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		die("stat", path);
	return (uint64_t)st.st_blocks * 512;
}

static bool made(int rc, const char *what, const char *path)
{
	if (rc == 0)
		return true;
	if (errno != EBUSY && errno != EINTR && errno != ENOSPC)
		die(what, path);
	done.busy += errno == EBUSY;
	return false;
}

/* Has it lost any? */
static bool cut(const char *path, uint64_t size)
{
	uint64_t had = blocks(path), at = 0, len = size, left;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		die("open", path);
	switch (rnd(4)) {
	case 0:
		ok = made(ftruncate(fd, 0), "truncate", path);
		break;
	case 1:
		ok = made(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)size), "punch", path);
		break;
	case 2:
		at = rnd(size / PAGE) * PAGE;
		ok = made(ftruncate(fd, (off_t)at), "truncate", path);
		break;
	default:
		at = rnd(size / PAGE) * PAGE;
		len = (1 + rnd((size - at) / PAGE)) * PAGE;
		ok = made(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len), "punch",
			  path);
		break;
	}
	left = blocks(path);
	if (ok && left < had) {
		done.cuts++;
		done.freed += had - left;
	}
	(void)close(fd);
	return ok && left < had;
}

/* As big as it was, for the transfers to go on. */
static void grow(const char *path, uint64_t size)
{
	while (truncate(path, (off_t)size) != 0) {
		if (errno != EBUSY && errno != EINTR)
			die("grow", path);
	}
}

static void leave(const char *path, uint64_t size)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("open", path);
	(void)made(ftruncate(fd, (off_t)size), "truncate", path);
	(void)made(ftruncate(fd, (off_t)(size + rnd(64) * PAGE)), "truncate", path);
	(void)made(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)size, (off_t)(16 * PAGE)), "punch",
		   path);
	while (ftruncate(fd, (off_t)size) != 0 && (errno == EBUSY || errno == EINTR))
		;
	(void)close(fd);
}

static void nap(long ms)
{
	const struct timespec t = { .tv_nsec = ms * 1000000 };

	(void)nanosleep(&t, NULL);
}

static bool is_stopped(const char *path)
{
	char line[512];
	const char *state = NULL;
	FILE *f = fopen(path, "re");

	if (f != NULL && fgets(line, sizeof line, f) != NULL)
		state = strrchr(line, ')');
	if (f != NULL)
		(void)fclose(f);
	return state != NULL && state[2] == 'T';
}

/* Each thread of it. What was asked of it, and is asked now, waits. */
static void stop(pid_t pid)
{
	char tasks[64], path[400];
	const struct dirent *e;
	bool all;

	(void)snprintf(tasks, sizeof tasks, "/proc/%d/task", (int)pid);
	if (kill(pid, SIGSTOP) != 0)
		die("stop", tasks);
	do {
		DIR *d = opendir(tasks);

		nap(1);
		all = d != NULL;
		while (all && (e = readdir(d)) != NULL) {
			if (e->d_name[0] == '.')
				continue;
			(void)snprintf(path, sizeof path, "%s/%s/stat", tasks, e->d_name);
			all = is_stopped(path);
		}
		if (d == NULL)
			die("stop", tasks);
		(void)closedir(d);
	} while (!all);
	nap(10);	/* for programs that are faster than it, to have asked for as much as they will */
}

static uint64_t size_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0 || st.st_size < (off_t)PAGE)
		die("stat", path);
	return (uint64_t)st.st_size;
}

int main(int argc, char **argv)
{
	bool until = false, good = true;
	uint64_t size[16] = { 0 }, kept[16] = { 0 };
	int o, first, ncut = 0, nkept = 0;
	double end, seconds = 0;
	pid_t late = 0;

	while ((o = getopt(argc, argv, "+us:t:x:")) != -1) {
		if (o == 'u')
			until = true;
		else if (o == 'x')
			late = (pid_t)strtol(optarg, NULL, 10);
		else if (o == 's')
			seed = strtoull(optarg, NULL, 0) | 1;
		else if (o == 't')
			seconds = strtod(optarg, NULL);
		else
			return 1;
	}
	if (argc - optind < 2 || argc - optind > 16 || seconds <= 0)
		return 1;
	dir = argv[optind];
	first = optind + 1;
	for (int i = first; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			for (int k = i + 1; k < argc; k++)
				kept[nkept++] = size_of(argv[k]);
			break;
		}
		size[ncut++] = size_of(argv[i]);
	}
	if (ncut == 0)
		return 1;
	for (unsigned int i = 0; i < VICTIMS; i++)
		victims[i].fd = -1;
	end = now() + seconds;
	while (good && (now() < end || (done.cuts < CUTS && now() < end + MORE_S))) {
		int k = (int)rnd((uint64_t)ncut);

		for (int i = 0; i < nkept; i++)
			leave(argv[first + ncut + 1 + i], kept[i]);
		if (late != 0)
			stop(late);
		if (!cut(argv[first + k], size[k])) {
			if (late != 0)
				(void)kill(late, SIGCONT);
			/* Perhaps it has no blocks because the victims have them all. */
			drop(&victims[rnd(VICTIMS)]);
			grow(argv[first + k], size[k]);
			continue;
		}
		done.rounds++;
		take(&victims[done.rounds % VICTIMS], done.rounds);
		if (late != 0)
			(void)kill(late, SIGCONT);
		good = all_intact();
		for (int i = 0; i < 50 && late != 0 && good; i++) {
			nap(2);
			good = all_intact();
		}
		drop(&victims[(done.rounds + 1) % VICTIMS]);
		grow(argv[first + k], size[k]);
		good = good && all_intact();
	}
	for (unsigned int i = 0; i < VICTIMS; i++)
		drop(&victims[i]);
	(void)printf("rounds %llu cuts %llu busy %llu freed %llu taken %llu looks %llu\n",
		     (unsigned long long)done.rounds, (unsigned long long)done.cuts, (unsigned long long)done.busy,
		     (unsigned long long)done.freed, (unsigned long long)done.taken, (unsigned long long)done.looks);
	if (until)
		return good ? 1 : 3;
	return !good ? 3 : done.cuts < CUTS ? 1 : 0;
}
