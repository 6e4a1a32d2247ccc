/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_huge.c - huge mappings of windows, and what `pinfsctl windows` says of them: where image and alignment allow it
 * one chunk is one entry of the page table; where not, the reason is named and the bytes are right all the same.
 *
 * The images lie on a tmpfs of the test's own, in a mount namespace of its own: no setting of the machine is changed.
 */
#include "harness/fs.h"
#include "harness/proc.h"
#include "harness/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <mntent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <json-c/json.h>

#include <pinfs/pin.h>

#define PAGE 4096UL
#define MIB (1UL << 20)
#define CHUNK (2 * MIB)

/* ---- a place for images ---- */

static bool alone;			/* the mount namespace is ours */
static char place[PATH_MAX];		/* what is mounted there is ours */

static void place_leave(void)
{
	if (place[0] == '\0')
		return;
	(void)umount2(place, MNT_DETACH);
	(void)rmdir(place);
	place[0] = '\0';
	pt_fs_base(NULL);
}

/* Mounts of other programs that happen to run: here they would live on when those have unmounted them. */
static void others_leave(void)
{
	struct mntent *e;
	bool more = true;

	while (more) {
		FILE *f = setmntent("/proc/self/mounts", "re");

		more = false;
		while (f != NULL && !more && (e = getmntent(f)) != NULL)
			more = strcmp(e->mnt_type, "fuse.pinfs") == 0 && umount2(e->mnt_dir, MNT_DETACH) == 0;
		if (f != NULL)
			(void)endmntent(f);
	}
}

/* False: skipped. */
static bool place_make(const char *type, const char *opts)
{
	if (!pt_need_mount())
		return false;
	if (!alone && (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)) {
		pt_skip("no mount namespace of its own: %s", strerror(errno));
		return false;
	}
	if (!alone)
		others_leave();
	alone = true;
	pt_on_cleanup(place_leave);
	(void)snprintf(place, sizeof place, "%.*s/place", PATH_MAX - 8, pt_tmp());
	if (mkdir(place, 0755) != 0 || mount("none", place, type, 0, opts) != 0) {
		pt_skip("no %s with %s: %s", type, opts, strerror(errno));
		place_leave();
		return false;
	}
	pt_fs_base(place);
	return true;
}

/* ---- files ---- */

static int new_file(const struct pt_fs *fs, const char *name, size_t size)
{
	int fd = open(pt_path(fs, "%s", name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	PT_SYS_FATAL(fd);
	PT_SYS_FATAL(ftruncate(fd, (off_t)size));
	return fd;
}

static char *map_at(void *addr, int fd, size_t len, size_t off, int flags)
{
	char *p = mmap(addr, len, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, (off_t)off);

	CU_ASSERT_FATAL(p != MAP_FAILED);
	return p;
}

static char *map(int fd, size_t len)
{
	struct pinfs_range_info ri;
	char *p = map_at(NULL, fd, len, 0, 0);

	PT_EQ(pinfs_range_query(p, len, &ri), 0);	/* a window, not the kernel's own mapping */
	return p;
}

/* Each page another byte, by a store to each, or by one write(2) of all of them. */
static char stamp(size_t off) { return (char)(off / PAGE % 251 + 1); }
static void store(char *p, size_t from, size_t to)
{
	for (size_t off = from; off < to; off += PAGE)
		memset(p + off, stamp(off), PAGE);
}

static const char *page_of(size_t off)
{
	static char page[PAGE];

	memset(page, stamp(off), PAGE);
	return page;
}

static bool right(int fd, const char *p, size_t from, size_t to)
{
	char want[PAGE], got[PAGE];

	for (size_t off = from; off < to; off += PAGE) {
		memset(want, stamp(off), PAGE);
		if (pread(fd, got, PAGE, (off_t)off) != (ssize_t)PAGE || memcmp(got, want, PAGE) != 0 ||
		    memcmp(p + off, want, PAGE) != 0) {
			pt_say("wrong bytes at %zu", off);
			return false;
		}
	}
	return true;
}

/* ---- what pinfsctl says ---- */

#define SEEN_MAX 32

struct seen {
	char fs[16];
	size_t n, nwindow;
	struct { uint64_t foff, addr; bool huge; char why[16]; } at[SEEN_MAX];	/* addr 0: not mapped */
};

static struct json_object *member(struct json_object *o, const char *name)
{
	struct json_object *v = NULL;

	(void)json_object_object_get_ex(o, name, &v);
	return v;
}

static void read_report(const char *text, struct seen *s)
{
	struct json_object *root = json_tokener_parse(text), *list = member(root, "windows");
	const char *str;

	memset(s, 0, sizeof *s);
	CU_ASSERT_FATAL(list != NULL);
	(void)snprintf(s->fs, sizeof s->fs, "%s", json_object_get_string(member(member(root, "image"), "fs")));
	s->nwindow = json_object_array_length(list);
	for (size_t i = 0; i < s->nwindow; i++) {
		struct json_object *w = json_object_array_get_idx(list, i), *places = member(w, "places");

		for (size_t k = 0; k < json_object_array_length(places) && s->n < SEEN_MAX; k++, s->n++) {
			struct json_object *p = json_object_array_get_idx(places, k);

			s->at[s->n].foff = json_object_get_uint64(member(w, "foff"));
			s->at[s->n].addr = json_object_get_uint64(member(p, "address"));
			s->at[s->n].huge = json_object_get_boolean(member(p, "huge"));
			str = json_object_get_string(member(p, "why"));
			(void)snprintf(s->at[s->n].why, sizeof s->at[s->n].why, "%s", str != NULL ? str : "");
		}
	}
	(void)json_object_put(root);
}

static void look_here(const struct pt_fs *fs, struct seen *s)
{
	static char out[1 << 20];
	char pid[16];

	(void)snprintf(pid, sizeof pid, "%d", (int)getpid());
	PT_EQ(pt_run2(out, sizeof out, NULL, 0, 60000,
		      (const char *[]){ pt_program("pinfsctl"), "windows", "--json", "--pid", pid, fs->mnt, NULL }), 0);
	read_report(out, s);
}

/* The reason given for the chunk at @foff; at address @addr if it is not NULL. "huge": there is none to give. */
static const char *why(const struct pt_fs *fs, uint64_t foff, const char *addr)
{
	static struct seen s;

	look_here(fs, &s);
	for (size_t i = 0; i < s.n; i++)
		if (s.at[i].foff == foff && (addr == NULL || s.at[i].addr == (uint64_t)(uintptr_t)addr))
			return s.at[i].huge ? "huge" : s.at[i].why;
	return "not listed";
}

#define WHY(fs, foff, addr, want)                                                                       \
	do {                                                                                            \
		const char *why_ = why(fs, foff, addr);                                                 \
		if (strcmp(why_, want) != 0)                                                            \
			pt_say("%s:%d: the reason is \"%s\"", __FILE__, __LINE__, why_);                \
		CU_ASSERT(strcmp(why_, want) == 0);                                                     \
	} while (0)

/* Does the kernel find huge pages for this tmpfs at all? Memory may be too fragmented. */
static bool any_huge(const struct pt_fs *fs)
{
	static struct seen s;
	size_t huge = 0;

	look_here(fs, &s);
	for (size_t i = 0; i < s.n; i++)
		huge += s.at[i].huge;
	if (huge == 0)
		pt_skip("the kernel has no huge pages to give: %s", s.n != 0 ? s.at[0].why : "no windows");
	return huge != 0;
}

/* ---- cases ---- */

static void really_huge(void)
{
	struct pt_fs *fs;
	struct seen s;
	char *p;
	int fd;

	if (!place_make("tmpfs", "huge=always,size=256m"))
		return;
	fs = pt_fs_start("96M", NULL);
	fd = new_file(fs, "f", 16 * CHUNK);
	p = map(fd, 16 * CHUNK);
	store(p, 0, 16 * CHUNK);
	CU_ASSERT(right(fd, p, 0, 16 * CHUNK));
	if (any_huge(fs)) {
		look_here(fs, &s);
		CU_ASSERT(strcmp(s.fs, "tmpfs") == 0);
		PT_EQ(s.nwindow, 16);
		PT_EQ(s.n, 16);
		for (size_t i = 0; i < s.n; i++) {
			PT_EQ(s.at[i].addr, (uint64_t)(uintptr_t)p + s.at[i].foff);
			/* Some may not have got a huge page; nothing of ours is the reason. */
			CU_ASSERT(s.at[i].huge || strcmp(s.at[i].why, "small") == 0);
		}
	}
	munmap(p, 16 * CHUNK);
	close(fd);
	pt_fs_end(fs);
	place_leave();
}

/* Blocks that went and came again: small pages while there is a hole, and no longer. */
static void huge_again(void)
{
	struct pt_fs *fs;
	char *p;
	int fd;

	if (!place_make("tmpfs", "huge=always,size=256m"))
		return;
	fs = pt_fs_start("64M", NULL);
	fd = new_file(fs, "f", 4 * CHUNK);
	p = map(fd, 4 * CHUNK);
	store(p, 0, 4 * CHUNK);
	if (any_huge(fs) && strcmp(why(fs, 0, p), "huge") == 0) {
		PT_SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)MIB, (off_t)PAGE));
		CU_ASSERT(p[MIB] == 0 && p[MIB - PAGE] == stamp(MIB - PAGE));
		WHY(fs, 0, NULL, "hole");
		store(p, MIB, MIB + PAGE);		/* the hole is filled, with its old block or another one */
		CU_ASSERT(right(fd, p, 0, CHUNK));
		PT_SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)CHUNK));
		CU_ASSERT(p[0] == 0 && p[CHUNK - 1] == 0);
		store(p, 0, CHUNK);			/* all of it: one piece again */
		CU_ASSERT(right(fd, p, 0, CHUNK));
		/* There may be no huge page for other blocks of the image; nothing of ours is the reason. */
		if (strcmp(why(fs, 0, p), "small") != 0)
			WHY(fs, 0, NULL, "huge");
	}
	CU_ASSERT(right(fd, p, CHUNK, 4 * CHUNK));
	munmap(p, 4 * CHUNK);
	close(fd);
	pt_fs_end(fs);
	place_leave();
}

static void reasons_of_files(void)
{
	struct pt_fs *fs;
	struct pinfs_pin *pin;
	char *p, *q;
	int fd, moved;

	if (!place_make("tmpfs", "huge=always,size=256m"))
		return;
	fs = pt_fs_start("96M", "on_busy=defer");
	fd = new_file(fs, "f", 5 * CHUNK + MIB);
	p = map(fd, 6 * CHUNK);
	CU_ASSERT(p[0] == 0);
	WHY(fs, 0, NULL, "hole");			/* and nothing else: a read allocates nothing */
	store(p, CHUNK, 2 * CHUNK);
	PT_SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(CHUNK + MIB), (off_t)PAGE));
	CU_ASSERT(p[CHUNK] == stamp(CHUNK) && p[CHUNK + MIB] == 0);
	WHY(fs, CHUNK, NULL, "hole");
	/* A block of somebody else between them: what fills the hole lies elsewhere. */
	store(p, 2 * CHUNK, 3 * CHUNK);
	PT_SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(2 * CHUNK + MIB), (off_t)PAGE));
	moved = new_file(fs, "other", 0);
	for (int i = 0; i < 600; i++)
		PT_EQ(pwrite(moved, p + CHUNK, PAGE, (off_t)(2 * PAGE) * i), PAGE);
	close(moved);
	store(p, 2 * CHUNK, 3 * CHUNK);
	WHY(fs, 2 * CHUNK, NULL, "pieces");
	store(p, 5 * CHUNK, 5 * CHUNK + MIB);
	WHY(fs, 5 * CHUNK, NULL, "eof");
	CU_ASSERT(right(fd, p, 2 * CHUNK, 3 * CHUNK));
	/* Pinned blocks that have left the file. */
	store(p, 3 * CHUNK, 4 * CHUNK);
	PT_EQ(pinfs_pin(p + 3 * CHUNK, PAGE, PINFS_PIN_WRITE, &pin), 0);
	PT_SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(3 * CHUNK), (off_t)CHUNK));
	WHY(fs, 3 * CHUNK, NULL, "stale");
	pinfs_unpin(pin);
	munmap(p, 6 * CHUNK);
	close(fd);
	/* In one piece, but not at a multiple of 2 MiB. */
	fd = new_file(fs, "shifted", 4 * CHUNK);
	PT_SYS(fallocate(fd, 0, 0, (off_t)(4 * CHUNK)));
	q = map(fd, 4 * CHUNK);
	store(q, 0, 4 * CHUNK);
	munmap(q, 4 * CHUNK);
	PT_SYS(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, (off_t)PAGE));
	q = map(fd, 3 * CHUNK);
	CU_ASSERT(q[0] == stamp(PAGE) && q[CHUNK] == stamp(CHUNK + PAGE));
	WHY(fs, 0, NULL, "device");
	munmap(q, 3 * CHUNK);
	close(fd);
	pt_fs_end(fs);
	place_leave();
}

static void reasons_of_addresses(void)
{
	struct pt_fs *fs;
	char *p, *q, *area;
	int fd;

	if (!place_make("tmpfs", "huge=always,size=256m"))
		return;
	fs = pt_fs_start("64M", NULL);
	fd = new_file(fs, "f", 4 * CHUNK);
	p = map(fd, 4 * CHUNK);
	store(p, 0, 4 * CHUNK);
	area = mmap(NULL, 4 * CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	area += -(uintptr_t)area % CHUNK;
	q = map_at(area + PAGE, fd, CHUNK, 0, MAP_FIXED);
	CU_ASSERT(q == area + PAGE && q[MIB] == stamp(MIB));
	WHY(fs, 0, q, "address");
	munmap(q, CHUNK);
	q = map_at(NULL, fd, MIB, 0, 0);
	CU_ASSERT(q[0] == stamp(0));
	CU_ASSERT(strcmp(why(fs, 0, q), "address") == 0 || strcmp(why(fs, 0, q), "part") == 0);
	munmap(q, MIB);
	PT_SYS(munmap(p, CHUNK));
	PT_SYS(mprotect(p + CHUNK + MIB, MIB, PROT_READ));
	WHY(fs, CHUNK, p + CHUNK, "part");
	PT_SYS(munmap(p + 3 * CHUNK, CHUNK));
	WHY(fs, 3 * CHUNK, NULL, "unmapped");
	PT_SYS(munmap(p + 2 * CHUNK + PAGE, CHUNK - PAGE));
	WHY(fs, 2 * CHUNK, p + 2 * CHUNK, "part");
	CU_ASSERT(right(fd, p, CHUNK, 2 * CHUNK + PAGE));
	munmap(p + CHUNK, CHUNK + PAGE);
	close(fd);
	/* Written by write(2), and only read here. */
	fd = new_file(fs, "g", 0);
	PT_SYS(fallocate(fd, 0, 0, (off_t)CHUNK));
	for (size_t off = 0; off < CHUNK; off += PAGE)
		PT_EQ(pwrite(fd, page_of(off), PAGE, (off_t)off), PAGE);
	q = map(fd, CHUNK);
	CU_ASSERT(right(fd, q, 0, CHUNK));
	WHY(fs, 0, q, "guarded");
	store(q, 0, PAGE);
	CU_ASSERT(strcmp(why(fs, 0, q), "guarded") != 0);
	CU_ASSERT(right(fd, q, 0, CHUNK));
	munmap(q, CHUNK);
	close(fd);
	pt_fs_end(fs);
	place_leave();
}

static void image_says(const char *opts, const char *want)
{
	struct pt_fs *fs;
	char *p;
	int fd;

	if (!place_make("tmpfs", opts))
		return;
	fs = pt_fs_start("32M", NULL);
	fd = new_file(fs, "f", 2 * CHUNK);
	p = map(fd, 2 * CHUNK);
	store(p, 0, 2 * CHUNK);
	CU_ASSERT(right(fd, p, 0, 2 * CHUNK));
	WHY(fs, CHUNK, p + CHUNK, want);
	munmap(p, 2 * CHUNK);
	close(fd);
	pt_fs_end(fs);
	place_leave();
}

static bool forced(void)
{
	char line[128] = "";
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
	bool yes = f != NULL && fgets(line, sizeof line, f) != NULL && strstr(line, "[force]") != NULL;

	if (f != NULL)
		(void)fclose(f);
	if (yes)
		pt_skip("shmem_enabled is force on this machine");
	return yes;
}

static void tmpfs_never(void)
{
	if (!forced())
		image_says("huge=never,size=128m", "image");
}

static void tmpfs_advise(void)
{
	if (!forced())
		image_says("huge=advise,size=128m", "image");
}

/* A filesystem on a disk: durable by msync, mapped in small pages. */
static void plain_disk(void)
{
	char dir[] = "/var/tmp/pinfs-huge.XXXXXX";
	struct statfs st;
	struct pt_fs *fs;
	char *p;
	int fd;

	if (!pt_need_mount())
		return;
	if (statfs("/var/tmp", &st) != 0 || st.f_type == 0x01021994) {
		pt_skip("/var/tmp is on no disk");
		return;
	}
	CU_ASSERT_FATAL(mkdtemp(dir) != NULL);
	pt_fs_base(dir);
	fs = pt_fs_start("32M", NULL);
	fd = new_file(fs, "f", 2 * CHUNK);
	p = map(fd, 2 * CHUNK);
	store(p, 0, 2 * CHUNK);
	PT_SYS(msync(p, 2 * CHUNK, MS_SYNC));
	CU_ASSERT(right(fd, p, 0, 2 * CHUNK));
	WHY(fs, CHUNK, p + CHUNK, "image");
	munmap(p, 2 * CHUNK);
	close(fd);
	pt_fs_end(fs);
	pt_fs_base(NULL);
	PT_SYS(rmdir(dir));
}

/* On hugetlbfs nothing smaller than 2 MiB can be mapped: chunks come as a whole. tests/guest does more. */
static void hugetlbfs(void)
{
	unsigned long nr = 0;
	struct pt_fs *fs;
	FILE *f;
	char *p;
	int fd;

	f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	if (f == NULL || fscanf(f, "%lu", &nr) != 1)
		nr = 0;
	if (f != NULL)
		(void)fclose(f);
	if (nr < 16) {
		pt_skip("fewer than 16 huge pages are free (vm.nr_hugepages)");
		return;
	}
	if (!place_make("hugetlbfs", "pagesize=2M"))
		return;
	fs = pt_fs_start("32M", NULL);
	fd = new_file(fs, "f", 2 * CHUNK);
	p = map(fd, 2 * CHUNK);
	store(p, 0, 2 * CHUNK);
	CU_ASSERT(right(fd, p, 0, 2 * CHUNK));
	WHY(fs, CHUNK, p + CHUNK, "huge");
	PT_FAILS(munmap(p, PAGE), EINVAL);
	munmap(p, 2 * CHUNK);
	close(fd);
	pt_fs_end(fs);
	place_leave();
}

struct as_nobody {
	const char *mnt;
	int out;
};

static int ask_as_nobody(void *arg)
{
	const struct as_nobody *a = arg;

	if (setgid(65534) != 0 || setuid(65534) != 0 || dup2(a->out, STDOUT_FILENO) < 0)
		return 99;
	execl(pt_program("pinfsctl"), "pinfsctl", "windows", "--json", a->mnt, (char *)NULL);
	return 98;
}

/* Who may open the image sees the windows, but need not be allowed to look into the process. Who may not, sees none. */
static void for_others(void)
{
	static char out[1 << 16];
	struct pt_fs *fs;
	struct seen s;
	ssize_t n;
	char *p;
	int fd;

	if (!pt_need_mount())
		return;
	PT_SYS(chmod(pt_tmp(), 0711));
	fs = pt_fs_start("32M", "allow_other");
	fd = new_file(fs, "f", CHUNK);
	p = map(fd, CHUNK);
	store(p, 0, CHUNK);
	for (int may = 0; may < 2; may++) {
		struct as_nobody a = { fs->mnt, memfd_create("report", MFD_CLOEXEC) };
		pid_t pid;

		PT_SYS(chmod(fs->img, may ? 0666 : 0600));
		pid = pt_fork(ask_as_nobody, &a);
		PT_EQ(pt_wait(pid, 60000), 0);
		n = pread(a.out, out, sizeof out - 1, 0);
		CU_ASSERT_FATAL(n > 0);
		out[n] = '\0';
		close(a.out);
		read_report(out, &s);
		PT_EQ(s.nwindow, may);
		if (may != 0)
			CU_ASSERT(s.n == 1 && !s.at[0].huge && strcmp(s.at[0].why, "unknown") == 0);
	}
	munmap(p, CHUNK);
	close(fd);
	pt_fs_end(fs);
}

static int pinfsctl(char *out, size_t room, const char *a, const char *b, const char *c, const char *d)
{
	return pt_run(out, room, 60000, (const char *[]){ pt_program("pinfsctl"), a, b, c, d, NULL });
}

static void as_text(void)
{
	static char out[65536];
	struct pt_fs *fs;
	char *p, pid[16];
	int fd;

	if (!pt_need_mount())
		return;
	fs = pt_fs_start("32M", NULL);
	fd = new_file(fs, "f", CHUNK);
	p = map(fd, CHUNK);
	PT_EQ(pinfsctl(out, sizeof out, "windows", fs->mnt, NULL, NULL), 0);
	CU_ASSERT(strstr(out, "windows   0 of 2 MiB") != NULL);
	store(p, 0, CHUNK);
	PT_EQ(pinfsctl(out, sizeof out, "windows", fs->mnt, NULL, NULL), 0);
	(void)snprintf(pid, sizeof pid, "%p", (void *)p);
	CU_ASSERT(strstr(out, "why not") != NULL && strstr(out, pid) != NULL);
	CU_ASSERT(strstr(out, "image     on tmpfs") != NULL);
	PT_EQ(pinfsctl(out, sizeof out, "windows", "--pid", "1", fs->mnt), 0);
	CU_ASSERT(strstr(out, "windows   0 of 2 MiB") != NULL);
	PT_EQ(pinfsctl(out, sizeof out, "windows", "--pid", "x", fs->mnt), 2);
	PT_EQ(pinfsctl(out, sizeof out, "status", "--pid", "1", fs->mnt), 2);
	PT_EQ(pinfsctl(out, sizeof out, "windows", "/", NULL, NULL), 1);
	munmap(p, CHUNK);
	close(fd);
	pt_fs_end(fs);
}

int main(int argc, char **argv)
{
	static const struct pt_case cases[] = {
		{ "really-huge", really_huge, 0 },
		{ "huge-again", huge_again, 0 },
		{ "reasons-of-files", reasons_of_files, 0 },
		{ "reasons-of-addresses", reasons_of_addresses, 0 },
		{ "tmpfs-never", tmpfs_never, 0 },
		{ "tmpfs-advise", tmpfs_advise, 0 },
		{ "plain-disk", plain_disk, 0 },
		{ "hugetlbfs", hugetlbfs, 0 },
		{ "for-others", for_others, 0 },
		{ "as-text", as_text, 0 },
	};
	static const struct pt_suite suites[] = { { "huge", cases, PF_ARRAY_LEN(cases) } };

	return pt_main(argc, argv, suites, PF_ARRAY_LEN(suites));
}
