/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_op_name.c - names: each errno of each verb, a random tree against a model, and threads in one directory and in
 * many.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "harness/unit.h"
#include "unit/op_env.h"

static int op_symlink(struct op_env *e, uint64_t dir, const char *name, const char *target, uint64_t *ino)
{
	struct pf_entry entry;
	int err = pf_op_symlink(e->fs, &op_root, dir, name, target, &entry);

	if (err == 0) {
		*ino = entry.ino;
		pf_op_forget(e->fs, entry.ino, 1);
	}
	return err;
}

static int op_link(struct op_env *e, uint64_t ino, uint64_t dir, const char *name)
{
	struct pf_entry entry;
	int err = pf_op_link(e->fs, ino, dir, name, &entry);

	if (err == 0)
		pf_op_forget(e->fs, entry.ino, 1);
	return err;
}

static unsigned int nlink_of(struct op_env *e, uint64_t ino)
{
	struct stat st = { 0 };

	CU_ASSERT_EQUAL(pf_op_getattr(e->fs, ino, &st, NULL), 0);
	return (unsigned int)st.st_nlink;
}

static void test_errors(void)
{
	char longname[PF_NAME_MAX + 2];
	uint64_t d, f, ino;
	struct op_env e;

	op_env_open(&e, 16 << 20);
	memset(longname, 'n', sizeof longname);
	longname[PF_NAME_MAX + 1] = '\0';
	CU_ASSERT_EQUAL(op_mkdir(&e, PF_INO_ROOT, "d", &d), 0);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG | 0600, &f), 0);

	CU_ASSERT_EQUAL(op_create(&e, d, longname, S_IFREG, NULL), -ENAMETOOLONG);
	CU_ASSERT_EQUAL(op_lookup(&e, d, longname, &ino), -ENAMETOOLONG);
	longname[PF_NAME_MAX] = '\0';
	CU_ASSERT_EQUAL(op_create(&e, d, longname, S_IFREG, &ino), 0);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, d, longname), 0);
	CU_ASSERT_EQUAL(op_create(&e, d, "", S_IFREG, NULL), -EINVAL);
	CU_ASSERT_EQUAL(op_create(&e, d, ".", S_IFREG, NULL), -EINVAL);
	CU_ASSERT_EQUAL(op_create(&e, d, "..", S_IFREG, NULL), -EINVAL);
	CU_ASSERT_EQUAL(op_create(&e, d, "a/b", S_IFREG, NULL), -EINVAL);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG, NULL), -EEXIST);
	CU_ASSERT_EQUAL(op_create(&e, f, "x", S_IFREG, NULL), -ENOTDIR);
	CU_ASSERT_EQUAL(op_create(&e, 999999, "x", S_IFREG, NULL), -ESTALE);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ITABLE, "x", S_IFREG, NULL), -ESTALE);
	CU_ASSERT_EQUAL(op_lookup(&e, f, "x", &ino), -ENOTDIR);
	CU_ASSERT_EQUAL(op_lookup(&e, d, "x", &ino), -ENOENT);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "d"), -EISDIR);
	CU_ASSERT_EQUAL(pf_op_unlink(e.fs, PF_INO_ROOT, "x"), -ENOENT);
	CU_ASSERT_EQUAL(pf_op_rmdir(e.fs, PF_INO_ROOT, "f"), -ENOTDIR);
	CU_ASSERT_EQUAL(op_create(&e, d, "in", S_IFREG, NULL), 0);
	CU_ASSERT_EQUAL(pf_op_rmdir(e.fs, PF_INO_ROOT, "d"), -ENOTEMPTY);
	CU_ASSERT_EQUAL(op_link(&e, d, PF_INO_ROOT, "dl"), -EPERM);
	CU_ASSERT_EQUAL(op_link(&e, f, d, "in"), -EEXIST);
	CU_ASSERT_EQUAL(op_link(&e, f, d, "fl"), 0);
	CU_ASSERT_EQUAL(nlink_of(&e, f), 2);
	/* The same file: nothing happens. */
	CU_ASSERT_EQUAL(pf_op_rename(e.fs, &op_root, PF_INO_ROOT, "f", d, "fl", 0), 0);
	CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, "f", &ino), 0);
	CU_ASSERT_EQUAL(pf_op_rename(e.fs, &op_root, PF_INO_ROOT, "f", d, "g", 8), -EINVAL);
	CU_ASSERT_EQUAL(pf_op_rename(e.fs, &op_root, PF_INO_ROOT, "f", d, "g", RENAME_EXCHANGE | RENAME_NOREPLACE),
			-EINVAL);
	CU_ASSERT_EQUAL(op_symlink(&e, d, "s", "", &ino), -ENOENT);
	op_env_close(&e);
}

/* A directory that was removed while somebody was in it. */
static void test_dead_directory(void)
{
	struct pf_entry d;
	struct op_env e;

	op_env_open(&e, 16 << 20);
	CU_ASSERT_EQUAL(pf_op_mkdir(e.fs, &op_root, PF_INO_ROOT, "d", 0755, &d), 0);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG, NULL), 0);
	CU_ASSERT_EQUAL(pf_op_rmdir(e.fs, PF_INO_ROOT, "d"), 0);
	CU_ASSERT_EQUAL(op_create(&e, d.ino, "x", S_IFREG, NULL), -ENOENT);
	CU_ASSERT_EQUAL(pf_op_rename(e.fs, &op_root, PF_INO_ROOT, "f", d.ino, "x", 0), -ENOENT);
	CU_ASSERT_EQUAL(nlink_of(&e, d.ino), 0);
	pf_op_forget(e.fs, d.ino, 1);
	CU_ASSERT_EQUAL(op_create(&e, d.ino, "x", S_IFREG, NULL), -ESTALE);
	op_env_close(&e);
}

static void test_modes(void)
{
	const struct pf_cred user = { .uid = 1000, .gid = 1001, .pid = 7, .umask = 027 };
	struct pf_entry d, f, sub, dev;
	struct op_env e;
	struct stat st;

	op_env_open(&e, 16 << 20);
	CU_ASSERT_EQUAL(pf_op_mkdir(e.fs, &op_root, PF_INO_ROOT, "d", 0755, &d), 0);
	st = (struct stat){ .st_mode = 02775, .st_gid = 500 };
	CU_ASSERT_EQUAL(op_setattr(&e, d.ino, PF_SET_MODE | PF_SET_GID, &st), 0);
	CU_ASSERT_EQUAL(st.st_mode, (S_IFDIR | 02775));
	CU_ASSERT_EQUAL(pf_op_mknod(e.fs, &user, d.ino, "f", S_IFREG | 0666, 0, &f), 0);
	CU_ASSERT_EQUAL(f.st.st_mode, (S_IFREG | 0640));
	CU_ASSERT_EQUAL(f.st.st_uid, 1000);
	CU_ASSERT_EQUAL(f.st.st_gid, 500);		/* the directory's */
	CU_ASSERT_EQUAL(pf_op_mkdir(e.fs, &user, d.ino, "sub", 0777, &sub), 0);
	CU_ASSERT_EQUAL(sub.st.st_mode, (S_IFDIR | S_ISGID | 0750));
	CU_ASSERT_EQUAL(sub.st.st_nlink, 2);
	CU_ASSERT_EQUAL(nlink_of(&e, d.ino), 3);
	CU_ASSERT_EQUAL(pf_op_mknod(e.fs, &user, PF_INO_ROOT, "dev", S_IFBLK | 0600, 0x1234, &dev), 0);
	CU_ASSERT_EQUAL(dev.st.st_rdev, 0x1234);
	CU_ASSERT_EQUAL(dev.st.st_gid, 1001);
	CU_ASSERT_EQUAL(pf_op_mknod(e.fs, &user, PF_INO_ROOT, "bad", S_IFDIR | 0600, 0, &dev), -EINVAL);
	op_env_close(&e);
}

static void test_symlinks(void)
{
	static const size_t len[] = { 1, 254, 255, 256, 4000, PATH_MAX - 1 };
	char target[PATH_MAX + 1], got[PATH_MAX + 1], name[16];
	struct op_env e;
	struct stat st;
	uint64_t ino;

	op_env_open(&e, 16 << 20);
	for (unsigned int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < PF_ARRAY_LEN(len); i++) {
			memset(target, 'a' + (int)i, len[i]);
			target[len[i]] = '\0';
			snprintf(name, sizeof name, "s%zu", i);
			if (pass == 0)
				CU_ASSERT_EQUAL(op_symlink(&e, PF_INO_ROOT, name, target, &ino), 0);
			CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, name, &ino), 0);
			CU_ASSERT_EQUAL(pf_op_readlink(e.fs, ino, got, sizeof got), 0);
			CU_ASSERT_STRING_EQUAL(got, target);
			CU_ASSERT_EQUAL(pf_op_getattr(e.fs, ino, &st, NULL), 0);
			CU_ASSERT_EQUAL((size_t)st.st_size, len[i]);
		}
		op_env_remount(&e);
	}
	memset(target, 'x', PATH_MAX);
	target[PATH_MAX] = '\0';
	CU_ASSERT_EQUAL(op_symlink(&e, PF_INO_ROOT, "long", target, &ino), -ENAMETOOLONG);
	CU_ASSERT_EQUAL(pf_op_readlink(e.fs, PF_INO_ROOT, got, sizeof got), -EINVAL);
	op_env_close(&e);
}

/* 65000 links to one file, and not one more. */
static void test_link_max(void)
{
	struct op_env e;
	char name[16];
	uint64_t ino, other;

	op_env_open(&e, 64 << 20);
	CU_ASSERT_EQUAL(op_create(&e, PF_INO_ROOT, "f", S_IFREG, &ino), 0);
	for (unsigned int i = 1; i < PF_LINK_MAX; i++) {
		snprintf(name, sizeof name, "l%u", i);
		if (op_link(&e, ino, PF_INO_ROOT, name) != 0) {
			CU_FAIL("link");
			break;
		}
	}
	CU_ASSERT_EQUAL(nlink_of(&e, ino), PF_LINK_MAX);
	CU_ASSERT_EQUAL(op_link(&e, ino, PF_INO_ROOT, "more"), -EMLINK);
	op_env_remount(&e);
	CU_ASSERT_EQUAL(op_lookup(&e, PF_INO_ROOT, "l64999", &other), 0);
	CU_ASSERT_EQUAL(other, ino);
	op_env_close(&e);
}

/* ---- a random tree ---- */

#define NODES 400
#define NAMES 9

struct node { uint64_t ino; mode_t fmt; unsigned int nlink; int ent[NAMES]; int parent; };
static struct node node[NODES];		/* node 0: the root; fmt 0: free */
static uint64_t rnd_state;

static unsigned int rnd(unsigned int n)
{
	rnd_state = rnd_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned int)(rnd_state >> 33) % n;
}

static const char *name_of(unsigned int n)
{
	static const char *const names[NAMES] = { "a", "bb", "a-longer-name-for-a-change", "d", "e", "f", "g", "h",
						  "i" };

	return names[n];
}

static int free_node(void)
{
	for (int i = 1; i < NODES; i++)
		if (node[i].fmt == 0)
			return i;
	return 0;
}

static int some_dir(void)
{
	for (;;) {
		int i = (int)rnd(NODES);

		if (rnd(4) == 0 || i == 0)
			return 0;
		if (node[i].fmt == S_IFDIR)
			return i;
	}
}

static bool under(int n, int top)
{
	for (; n != 0; n = node[n].parent)
		if (n == top)
			return true;
	return top == 0;
}

static bool empty(int d)
{
	for (unsigned int i = 0; i < NAMES; i++)
		if (node[d].ent[i] != 0)
			return false;
	return true;
}

static void drop_link(int n)
{
	if (node[n].fmt == S_IFDIR || --node[n].nlink == 0)
		node[n].fmt = 0;
}

static void step_make(struct op_env *e)
{
	int d = some_dir(), n = free_node();
	unsigned int name = rnd(NAMES), kind = rnd(4);
	int want = node[d].ent[name] != 0 ? -EEXIST : 0, err;

	if (n == 0)
		return;
	if (kind == 0)
		err = op_mkdir(e, node[d].ino, name_of(name), &node[n].ino);
	else if (kind == 1)
		err = op_symlink(e, node[d].ino, name_of(name), "target", &node[n].ino);
	else
		err = op_create(e, node[d].ino, name_of(name), S_IFREG | 0600, &node[n].ino);
	CU_ASSERT_EQUAL(err, want);
	if (want != 0)
		return;
	node[n] = (struct node){ .ino = node[n].ino, .nlink = kind == 0 ? 2 : 1, .parent = d,
				 .fmt = kind == 0 ? S_IFDIR : kind == 1 ? S_IFLNK : S_IFREG };
	node[d].ent[name] = n;
	node[d].nlink += kind == 0;
}

static void step_link(struct op_env *e)
{
	int d = some_dir(), n = (int)rnd(NODES);
	unsigned int name = rnd(NAMES);
	int want = 0;

	if (node[n].fmt == 0)
		return;
	if (node[n].fmt == S_IFDIR)
		want = -EPERM;
	else if (node[d].ent[name] != 0)
		want = -EEXIST;
	CU_ASSERT_EQUAL(op_link(e, node[n].ino, node[d].ino, name_of(name)), want);
	if (want == 0) {
		node[d].ent[name] = n;
		node[n].nlink++;
	}
}

static void step_remove(struct op_env *e)
{
	int d = some_dir(), n;
	unsigned int name = rnd(NAMES);
	bool rmdir = rnd(2);
	int want = 0;

	n = node[d].ent[name];
	if (n == 0)
		want = -ENOENT;
	else if (rmdir && node[n].fmt != S_IFDIR)
		want = -ENOTDIR;
	else if (!rmdir && node[n].fmt == S_IFDIR)
		want = -EISDIR;
	else if (rmdir && !empty(n))
		want = -ENOTEMPTY;
	CU_ASSERT_EQUAL((rmdir ? pf_op_rmdir : pf_op_unlink)(e->fs, node[d].ino, name_of(name)), want);
	if (want == 0) {
		node[d].ent[name] = 0;
		node[d].nlink -= rmdir;
		drop_link(n);
	}
}

static int rename_want(int od, unsigned int on, int nd, unsigned int nn, unsigned int flags)
{
	int s = node[od].ent[on], t = node[nd].ent[nn];

	if (s == 0)
		return -ENOENT;
	if (t != 0 && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (t == 0 && (flags & RENAME_EXCHANGE))
		return -ENOENT;
	if (node[s].fmt == S_IFDIR && under(nd, s))
		return -EINVAL;
	if (t != 0 && node[t].fmt == S_IFDIR && under(od, t))
		return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	if (s == t || t == 0 || (flags & RENAME_EXCHANGE))
		return 0;
	if (node[s].fmt == S_IFDIR && node[t].fmt != S_IFDIR)
		return -ENOTDIR;
	if (node[s].fmt != S_IFDIR && node[t].fmt == S_IFDIR)
		return -EISDIR;
	return node[t].fmt == S_IFDIR && !empty(t) ? -ENOTEMPTY : 0;
}

static void step_rename(struct op_env *e)
{
	static const unsigned int some_flags[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	int od = some_dir(), nd = rnd(2) ? some_dir() : od, s, t, want;
	unsigned int on = rnd(NAMES), nn = rnd(NAMES), flags = some_flags[rnd(5)];

	s = node[od].ent[on];
	t = node[nd].ent[nn];
	want = rename_want(od, on, nd, nn, flags);
	CU_ASSERT_EQUAL(pf_op_rename(e->fs, &op_root, node[od].ino, name_of(on), node[nd].ino, name_of(nn), flags),
			want);
	if (want != 0 || s == t)
		return;
	node[nd].ent[nn] = s;
	node[od].ent[on] = flags & RENAME_EXCHANGE ? t : 0;
	if (node[s].fmt == S_IFDIR) {
		node[s].parent = nd;
		node[od].nlink--;
		node[nd].nlink++;
	}
	if (t != 0 && node[t].fmt == S_IFDIR) {
		node[nd].nlink--;
		node[t].parent = od;
		if (flags & RENAME_EXCHANGE)
			node[od].nlink++;
	}
	if (t != 0 && !(flags & RENAME_EXCHANGE))
		drop_link(t);
}

struct seen { int dir; unsigned int n; uint64_t last; bool plus; struct op_env *e; };

static bool see(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next,
		const struct pf_entry *entry)
{
	struct seen *s = arg;
	const struct node *want = NULL;
	bool full = ++s->n % 3 == 0;

	/* "Full" refuses the entry, but it has been looked at: the caller goes on behind it. */
	CU_ASSERT(next > s->last);
	s->last = next;
	if (strcmp(name, ".") == 0)
		want = &node[s->dir];
	else if (strcmp(name, "..") == 0)
		want = &node[node[s->dir].parent];
	for (unsigned int i = 0; i < NAMES && want == NULL; i++)
		if (strcmp(name, name_of(i)) == 0)
			want = &node[node[s->dir].ent[i]];
	if (want == NULL) {
		CU_FAIL("a name that nobody made");
		return false;
	}
	CU_ASSERT_EQUAL(ino, want->ino);
	CU_ASSERT_EQUAL(type, IFTODT(want->fmt));
	CU_ASSERT_EQUAL(entry != NULL, s->plus && name[0] != '.');
	if (entry != NULL) {
		CU_ASSERT_EQUAL(entry->st.st_nlink, want->nlink);
		if (!full)
			pf_op_forget(s->e->fs, entry->ino, 1);
	}
	return !full;
}

static void check_tree(struct op_env *e)
{
	for (int d = 0; d < NODES; d++) {
		struct seen s = { .dir = d, .e = e, .plus = rnd(2) };
		unsigned int want = 2, before;

		if (node[d].fmt != S_IFDIR)
			continue;
		CU_ASSERT_EQUAL(nlink_of(e, node[d].ino), node[d].nlink);
		for (unsigned int i = 0; i < NAMES; i++)
			want += node[d].ent[i] != 0;
		do {
			before = s.n;
			CU_ASSERT_EQUAL(pf_op_readdir(e->fs, node[d].ino, s.last, s.plus, see, &s), 0);
		} while (s.n != before);
		CU_ASSERT_EQUAL(s.n, want);
	}
}

static void test_random_tree(void)
{
	struct op_env e;

	rnd_state = 4711;
	memset(node, 0, sizeof node);
	node[0] = (struct node){ .ino = PF_INO_ROOT, .fmt = S_IFDIR, .nlink = 2 };
	op_env_open(&e, 32 << 20);
	for (unsigned int i = 0; i < 30000 && CU_get_number_of_failures() == 0; i++) {
		static void (*const step[])(struct op_env *) = { step_make, step_make, step_link, step_remove,
								 step_rename, step_rename };

		step[rnd(6)](&e);
		if (i % 5000 == 4999) {
			check_tree(&e);
			op_env_remount(&e);
			check_tree(&e);
		}
	}
	op_env_close(&e);
}

/* ---- threads ---- */

struct worker { struct op_env *e; uint64_t dir, dir2; pthread_t tid; unsigned int id, bad; };

/* Files of its own names: every call must succeed, whatever the others do. */
static void *own_names(void *arg)
{
	struct worker *w = arg;
	uint64_t ino, again;
	char a[32], b[32];

	for (unsigned int i = 0; i < 1500; i++) {
		snprintf(a, sizeof a, "w%u-%u", w->id, i);
		snprintf(b, sizeof b, "r%u-%u", w->id, i);
		w->bad += op_create(w->e, w->dir, a, S_IFREG | 0600, &ino) != 0;
		w->bad += op_write(w->e, ino, 0, a, sizeof a) != sizeof a;
		w->bad += pf_op_rename(w->e->fs, &op_root, w->dir, a, w->dir2, b, 0) != 0;
		w->bad += op_lookup(w->e, w->dir2, b, &again) != 0 || again != ino;
		if (i % 3 != 0)
			w->bad += pf_op_unlink(w->e->fs, w->dir2, b) != 0;
	}
	return NULL;
}

static bool count_name(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next,
		       const struct pf_entry *entry)
{
	(void)name;
	(void)ino;
	(void)type;
	(void)next;
	(void)entry;
	++*(unsigned int *)arg;
	return true;
}

static void run_workers(bool same)
{
	struct worker w[4];
	unsigned int total = 0;
	struct op_env e;
	char name[16];

	op_env_open(&e, 64 << 20);
	for (unsigned int i = 0; i < 4; i++) {
		w[i] = (struct worker){ .e = &e, .id = i };
		snprintf(name, sizeof name, "d%u", i);
		CU_ASSERT_EQUAL(op_mkdir(&e, PF_INO_ROOT, name, &w[i].dir), 0);
	}
	/* Each renames into its neighbour's directory, all round. */
	for (unsigned int i = 0; i < 4; i++) {
		w[i].dir = same ? w[0].dir : w[i].dir;
		w[i].dir2 = same ? w[0].dir : w[(i + 1) % 4].dir;
	}
	for (unsigned int i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(pthread_create(&w[i].tid, NULL, own_names, &w[i]), 0);
	for (unsigned int i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(pthread_join(w[i].tid, NULL), 0);
		CU_ASSERT_EQUAL(w[i].bad, 0);
	}
	for (unsigned int i = 0; i < (same ? 1 : 4); i++)
		CU_ASSERT_EQUAL(pf_op_readdir(e.fs, w[i].dir, 2, false, count_name, &total), 0);
	CU_ASSERT_EQUAL(total, 4 * 500);
	op_env_close(&e);
}

static void test_threads_one_dir(void)
{
	run_workers(true);
}

static void test_threads_many_dirs(void)
{
	run_workers(false);
}

/* What may happen to somebody who renames below a directory that others move and remove. */
static bool unexpected(int err)
{
	return err != 0 && err != -ENOENT && err != -ENOTEMPTY && err != -EINVAL && err != -ESTALE;
}

/* Directories wander between three others while files are made inside them: nothing may hang, loop or get lost. */
static void *wander(void *arg)
{
	struct worker *w = arg;
	uint64_t top[3], ino;
	char name[16];

	for (unsigned int i = 0; i < 3; i++) {
		snprintf(name, sizeof name, "t%u", i);
		w->bad += op_lookup(w->e, PF_INO_ROOT, name, &top[i]) != 0;
	}
	for (unsigned int i = 0; i < 2000; i++) {
		uint64_t seed = (w->id * 7919 + i) * UINT64_C(2654435761) >> 8;
		uint64_t from = top[seed % 3], to = top[seed / 3 % 3];
		int err;

		snprintf(name, sizeof name, "m%lu", (unsigned long)(seed / 9 % 4));
		switch (seed / 36 % 4) {
		case 0:
			err = op_mkdir(w->e, from, name, &ino);
			w->bad += err != 0 && err != -EEXIST;
			break;
		case 1:
			err = pf_op_rmdir(w->e->fs, from, name);
			w->bad += err != 0 && err != -ENOENT && err != -ENOTEMPTY;
			break;
		case 2:
			err = pf_op_rename(w->e->fs, &op_root, from, name, to, "m1",
					   seed / 144 % 2 ? RENAME_EXCHANGE : 0);
			w->bad += err != 0 && err != -ENOENT && err != -ENOTEMPTY;
			break;
		default:
			/* Below: a directory that may move or go while we are in it. */
			if (op_lookup(w->e, from, name, &ino) == 0) {
				err = pf_op_rename(w->e->fs, &op_root, from, "m2", ino, "deep", 0);
				w->bad += unexpected(err);
				err = pf_op_rename(w->e->fs, &op_root, ino, "deep", to, "m3", 0);
				w->bad += unexpected(err);
			}
			break;
		}
	}
	return NULL;
}

static void test_threads_moving_dirs(void)
{
	struct worker w[4];
	struct op_env e;
	char name[16];

	op_env_open(&e, 32 << 20);
	for (unsigned int i = 0; i < 3; i++) {
		snprintf(name, sizeof name, "t%u", i);
		CU_ASSERT_EQUAL(op_mkdir(&e, PF_INO_ROOT, name, NULL), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		w[i] = (struct worker){ .e = &e, .id = i };
		CU_ASSERT_EQUAL(pthread_create(&w[i].tid, NULL, wander, &w[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(pthread_join(w[i].tid, NULL), 0);
		CU_ASSERT_EQUAL(w[i].bad, 0);
	}
	op_env_close(&e);
}

static const struct unit_case cases[] = {
	{ "every errno", test_errors },
	{ "a directory removed under its user", test_dead_directory },
	{ "modes, owners, set-gid directories, devices", test_modes },
	{ "symbolic links, inline and in a block", test_symlinks },
	{ "65000 links", test_link_max },
	{ "a random tree agrees with the model", test_random_tree },
	{ "threads in one directory", test_threads_one_dir },
	{ "threads that rename between directories", test_threads_many_dirs },
	{ "threads that move directories", test_threads_moving_dirs },
};

int main(void)
{
	return unit_main("op_name", cases, PF_ARRAY_LEN(cases));
}
