/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode.c - inodes in memory and the cache that finds them.
 *
 * Owns the cache: shards of a hash by number, each with a list of unused inodes. Locks: a shard is rank REGISTRY and
 * is never held across anything slower than a list operation. Who frees inodes on the media is cut.c.
 */
#include "obj/inode.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include "base/fail.h"
#include "base/log.h"
#include "obj/reap.h"
#include "obj/told.h"
#include "space/itable.h"

#define SHARDS 64U
#define SHARD_BUCKETS 1024U
#define VICTIMS 8U			/* how far to look for one that can be dropped */

struct shard {
	struct pf_mutex lock;		/* REGISTRY */
	pthread_cond_t loaded;
	struct pf_inode *bucket[SHARD_BUCKETS];
	struct pf_inode *lru, *lru_tail;	/* unused ones, the longest unused first */
	uint64_t nunused;
	struct pf_told told;		/* what the kernel knows of those that are not here */
};

struct pf_icache {
	struct pf_mutex name;		/* NAME */
	uint64_t unused_max;		/* of a shard */
	struct shard shard[SHARDS];
};

static uint64_t mix(uint64_t ino)
{
	return ino * UINT64_C(0x9e3779b97f4a7c15);
}

static struct shard *shard_of(struct pf_fs *fs, uint64_t ino)
{
	return &fs->icache->shard[mix(ino) >> 58];
}
_Static_assert(SHARDS == 1 << (64 - 58), "shard_of() takes the top bits");

static struct pf_inode **bucket_of(struct shard *s, uint64_t ino)
{
	return &s->bucket[(mix(ino) >> 32) % SHARD_BUCKETS];
}

int pf_icache_init(struct pf_fs *fs)
{
	struct pf_icache *c = calloc(1, sizeof *c);
	int err;

	if (c == NULL)
		return -ENOMEM;
	c->unused_max = (fs->opts.cache != 0 ? fs->opts.cache : PF_CACHE_DEFAULT) / SHARDS;
	pf_mutex_init(&c->name, PF_RANK_NAME);
	for (unsigned int i = 0; i < SHARDS; i++) {
		pf_mutex_init(&c->shard[i].lock, PF_RANK_REGISTRY);
		if (pthread_cond_init(&c->shard[i].loaded, NULL) != 0)
			abort();
	}
	fs->icache = c;
	err = pf_reap_init(fs);
	return err != 0 ? err : pf_ahead_init(fs);
}

struct pf_mutex *pf_icache_name_lock(struct pf_fs *fs)
{
	return &fs->icache->name;
}

/* ---- one inode in memory ---- */

struct pf_inode *pf_inode_spare(struct pf_fs *fs)
{
	struct pf_inode *ip = calloc(1, sizeof *ip);

	if (ip == NULL)
		return NULL;
	ip->fs = fs;
	pf_rwlock_init(&ip->lock, PF_RANK_INODE);
	pf_mutex_init(&ip->win_lock, PF_RANK_LEAF);
	return ip;
}

void pf_inode_spare_free(struct pf_inode *spare)
{
	if (spare == NULL)
		return;
	pf_mutex_fini(&spare->win_lock);
	pf_rwlock_fini(&spare->lock);
	free(spare);
}

static void destroy(struct pf_inode *ip)
{
	pf_lobj_fini(&ip->lobj);
	pf_inode_spare_free(ip);
}

bool pf_inode_wants_dax(const struct pf_inode *ip)
{
	const enum pf_dax dax = ip->fs->opts.dax;

	if (!pf_inode_isreg(ip) || dax == PF_DAX_NEVER)
		return false;
	return dax == PF_DAX_ALWAYS || (pf_inode_flags(ip) & FS_DAX_FL);
}

static int load(struct pf_inode *ip)
{
	int err = pf_itab_read(ip->fs, ip->ino, &ip->d, &ip->doff);

	if (err != 0)
		return err;
	ip->gen = pf_get32(ip->d.i_gen);
	ip->fmt = pf_get32(ip->d.i_mode) & S_IFMT;
	ip->dax = pf_inode_wants_dax(ip);
	ip->dax_fresh = true;
	return 0;
}

/* The array grows outside of the lock: then the shard is looked at again. */
static int shard_numbers(struct shard *s, uint64_t **out, size_t *n, size_t *room)
{
	size_t had = *n, more;
	uint64_t *bigger;

	for (;;) {
		*n = had;
		more = 0;
		pf_mutex_lock(&s->lock);
		for (unsigned int b = 0; b < SHARD_BUCKETS; b++)
			for (struct pf_inode *ip = s->bucket[b]; ip != NULL; ip = ip->hash_next) {
				if (*n < *room)
					(*out)[(*n)++] = ip->ino;
				else
					more++;
			}
		pf_mutex_unlock(&s->lock);
		if (more == 0)
			return 0;
		*room = 2 * (*room + more);
		bigger = realloc(*out, *room * sizeof **out);
		if (bigger == NULL)
			return -ENOMEM;
		*out = bigger;
	}
}

int pf_icache_numbers(struct pf_fs *fs, uint64_t **out, size_t *n)
{
	size_t room = 256;
	int err = 0;

	*n = 0;
	*out = malloc(room * sizeof **out);
	if (*out == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; err == 0 && i < SHARDS; i++)
		err = shard_numbers(&fs->icache->shard[i], out, n, &room);
	if (err != 0)
		free(*out);
	return err;
}

/* ---- the cache's lists; the shard is locked ---- */

static void lru_add(struct shard *s, struct pf_inode *ip)
{
	ip->lru_prev = s->lru_tail;
	ip->lru_next = NULL;
	*(s->lru_tail != NULL ? &s->lru_tail->lru_next : &s->lru) = ip;
	s->lru_tail = ip;
	ip->on_lru = true;
	s->nunused++;
}

static void lru_del(struct shard *s, struct pf_inode *ip)
{
	*(ip->lru_prev != NULL ? &ip->lru_prev->lru_next : &s->lru) = ip->lru_next;
	*(ip->lru_next != NULL ? &ip->lru_next->lru_prev : &s->lru_tail) = ip->lru_prev;
	ip->on_lru = false;
	s->nunused--;
}

static struct pf_inode *find(struct shard *s, uint64_t ino)
{
	struct pf_inode *ip = *bucket_of(s, ino);

	while (ip != NULL && ip->ino != ino)
		ip = ip->hash_next;
	return ip;
}

static void hash(struct shard *s, struct pf_inode *ip)
{
	struct pf_inode **b = bucket_of(s, ip->ino);

	ip->hash_next = *b;
	*b = ip;
}

static void unhash(struct shard *s, struct pf_inode *ip)
{
	struct pf_inode **p = bucket_of(s, ip->ino);

	while (*p != ip)
		p = &(*p)->hash_next;
	*p = ip->hash_next;
}

static void ref(struct shard *s, struct pf_inode *ip)
{
	if (ip->on_lru)
		lru_del(s, ip);
	ip->refs++;
}

/* ---- references ---- */

/*
 * A number is looked for in the hash first. One that is DYING cannot be reached by any name, but it is in the hash for
 * a moment longer than its number is in use: a name that leads to the number then is of another inode, which goes in
 * front of it. Two threads that miss together: the second waits for the first one's load.
 */
static int get(struct pf_fs *fs, uint64_t ino, bool orphan, struct pf_inode **spare, struct pf_inode **out)
{
	struct shard *s = shard_of(fs, ino);
	struct pf_inode *ip, *mine = NULL;
	int err = 0;

	pf_mutex_lock(&s->lock);
	for (;;) {
		ip = find(s, ino);
		if (ip == NULL || ip->state != PF_ICACHE_LOADING)
			break;
		(void)pthread_cond_wait(&s->loaded, &s->lock.m);
	}
	if (ip != NULL && ip->state == PF_ICACHE_LIVE) {
		ref(s, ip);
		goto out;
	}
	if (ip != NULL && orphan && *spare == NULL) {
		err = -ESTALE;
		goto out;
	}
	mine = *spare != NULL ? *spare : pf_inode_spare(fs);
	*spare = NULL;
	if (mine == NULL) {
		err = -ENOMEM;
		goto out;
	}
	ip = mine;
	ip->ino = ino;
	ip->state = PF_ICACHE_LOADING;
	ip->refs = 1;
	pf_lobj_init(&ip->lobj, ino);
	hash(s, ip);
	pf_mutex_unlock(&s->lock);

	err = load(ip);
	if (err == 0 && !orphan && pf_inode_nlink(ip) == 0)
		err = -ESTALE;

	pf_mutex_lock(&s->lock);
	ip->state = PF_ICACHE_LIVE;
	if (err != 0)
		unhash(s, ip);
	else
		ip->nlookup = pf_told_take(&s->told, ino);
	(void)pthread_cond_broadcast(&s->loaded);
out:
	pf_mutex_unlock(&s->lock);
	if (err == 0)
		*out = ip;
	else if (mine != NULL)
		destroy(mine);
	return err;
}

int pf_inode_get(struct pf_fs *fs, uint64_t ino, struct pf_inode **out)
{
	struct pf_inode *none = NULL;
	int err;

	/* The inode table and the orphan file are nobody's files. */
	if (ino < PF_INO_ROOT || ino > PF_INO_MAX)
		return -ESTALE;
	/* Of the root there are attributes to the end: the daemon is reached, and asked what happened, through it. */
	err = ino == PF_INO_ROOT ? 0 : pf_fs_readable(fs);
	return err != 0 ? err : get(fs, ino, false, &none, out);
}

int pf_inode_get_orphan(struct pf_fs *fs, uint64_t ino, struct pf_inode **out)
{
	struct pf_inode *none = NULL;

	if (ino < PF_INO_FIRST_USER || ino > PF_INO_MAX)
		return -ESTALE;
	return get(fs, ino, true, &none, out);
}

int pf_inode_get_new(struct pf_fs *fs, uint64_t ino, struct pf_inode **spare, struct pf_inode **out)
{
	return get(fs, ino, true, spare, out);
}

void pf_inode_hold(struct pf_inode *ip)
{
	struct shard *s = shard_of(ip->fs, ip->ino);

	pf_mutex_lock(&s->lock);
	assert(ip->refs > 0);
	ip->refs++;
	pf_mutex_unlock(&s->lock);
}

static void free_on_media(struct pf_inode *ip)
{
	int err = pf_inode_evict(ip);

	if (err != 0)
		pf_warn("inode %" PRIu64 " has no links and could not be freed now (%s): the next mount will", ip->ino,
			strerror(-err));
}

/*
 * The longest unused one that nothing would be lost with. Its stores through windows since the last fsync(2), and its
 * place in the orphan file, are known here only; of the kernel's references the number is enough. Such are rare: a few
 * tries, then the cache is larger than it should be for a while.
 */
static struct pf_inode *victim(struct shard *s)
{
	struct pf_inode *ip = s->lru, *next;

	for (unsigned int i = 0; i < VICTIMS && ip != NULL; i++, ip = next) {
		next = ip->lru_next;
		lru_del(s, ip);
		if (ip->orph_blk == 0 && ip->win_lo == ip->win_hi && ip->opens == 0 &&
		    (ip->nlookup == 0 || pf_told_put(&s->told, ip->ino, ip->nlookup))) {
			unhash(s, ip);
			return ip;
		}
		lru_add(s, ip);
	}
	return NULL;
}

/* The last reference is gone; the shard is locked and is not when it returns. */
static void unused(struct shard *s, struct pf_inode *ip)
{
	struct pf_fs *fs = ip->fs;
	struct pf_inode *gone = NULL;

	if (ip->ahead != NULL)
		pf_ahead_drop(ip);
	if (pf_inode_nlink(ip) == 0 ? ip->nlookup != 0 : ip->opens != 0) {	/* the kernel has it open */
		pf_mutex_unlock(&s->lock);
		return;
	}
	if (pf_inode_nlink(ip) > 0 || pf_fs_writable(fs) != 0) {
		lru_add(s, ip);
		if (s->nunused > fs->icache->unused_max)
			gone = victim(s);
		pf_mutex_unlock(&s->lock);
		if (gone != NULL)
			destroy(gone);
		return;
	}
	ip->state = PF_ICACHE_DYING;
	pf_mutex_unlock(&s->lock);
	if (!pf_reap_later(ip))
		pf_inode_bury(&ip, 1);
}

void pf_inode_bury(struct pf_inode **v, unsigned int n)
{
	bool together = n > 1 && pf_inode_evict_many(v, n) == 0;

	for (unsigned int i = 0; i < n; i++) {
		struct shard *s = shard_of(v[i]->fs, v[i]->ino);

		if (!together)
			free_on_media(v[i]);
		pf_mutex_lock(&s->lock);
		unhash(s, v[i]);
		pf_mutex_unlock(&s->lock);
		destroy(v[i]);
	}
}

void pf_inode_told(struct pf_inode *ip)
{
	struct shard *s = shard_of(ip->fs, ip->ino);

	pf_mutex_lock(&s->lock);
	assert(ip->refs > 0);
	ip->nlookup++;
	if (--ip->refs == 0)
		unused(s, ip);
	else
		pf_mutex_unlock(&s->lock);
}

void pf_inode_put(struct pf_inode *ip)
{
	struct shard *s;

	if (ip == NULL)
		return;
	s = shard_of(ip->fs, ip->ino);
	pf_mutex_lock(&s->lock);
	assert(ip->refs > 0);
	if (--ip->refs == 0)
		unused(s, ip);
	else
		pf_mutex_unlock(&s->lock);
}

void pf_inode_forget(struct pf_fs *fs, uint64_t ino, uint64_t n)
{
	struct shard *s = shard_of(fs, ino);
	struct pf_inode *ip;

	pf_mutex_lock(&s->lock);
	ip = find(s, ino);
	if (ip == NULL || ip->state != PF_ICACHE_LIVE) {
		pf_told_less(&s->told, ino, n);
		goto out;
	}
	/* A count that we never gave is refused, not believed. */
	if (ip->nlookup == 0 || n == 0)
		goto out;
	ip->nlookup -= pf_min64(n, ip->nlookup);
	if (ip->nlookup == 0 && ip->refs == 0) {
		if (ip->on_lru)
			lru_del(s, ip);
		unused(s, ip);
		return;
	}
out:
	pf_mutex_unlock(&s->lock);
}

void pf_icache_fini(struct pf_fs *fs)
{
	struct pf_icache *c = fs->icache;

	if (c == NULL)
		return;
	pf_reap_fini(fs);
	pf_ahead_fini(fs);
	for (unsigned int i = 0; i < SHARDS; i++) {
		struct shard *s = &c->shard[i];

		for (unsigned int b = 0; b < SHARD_BUCKETS; b++) {
			while (s->bucket[b] != NULL) {
				struct pf_inode *ip = s->bucket[b];

				/* At unmount the kernel's references are void, a forgotten internal one is a bug. */
				assert(ip->refs == 0);
				if (pf_inode_nlink(ip) == 0 && pf_fs_writable(fs) == 0)
					free_on_media(ip);
				s->bucket[b] = ip->hash_next;
				destroy(ip);
			}
		}
		pf_told_fini(&s->told);
		(void)pthread_cond_destroy(&s->loaded);
		pf_mutex_fini(&s->lock);
	}
	pf_mutex_fini(&c->name);
	free(c);
	fs->icache = NULL;
}

/* ---- several locks ---- */

static bool repeats(struct pf_inode *const *v, unsigned int i)
{
	for (unsigned int j = 0; j < i; j++)
		if (v[j] == v[i])
			return true;
	return v[i] == NULL;
}

void pf_inode_lock_many(struct pf_inode *const *v, unsigned int n)
{
	bool first = true;

	for (unsigned int i = 0; i < n; i++) {
		if (repeats(v, i))
			continue;
		if (first)
			pf_rwlock_wrlock(&v[i]->lock);
		else
			pf_rwlock_wrlock_more(&v[i]->lock);
		first = false;
	}
}

void pf_inode_unlock_many(struct pf_inode *const *v, unsigned int n)
{
	bool last = true;

	/* The first one locked gives the rank back. */
	for (unsigned int i = n; i-- > 0;) {
		if (repeats(v, i))
			continue;
		last = true;
		for (unsigned int j = 0; j < i; j++)
			last = last && repeats(v, j);
		if (last)
			pf_rwlock_unlock(&v[i]->lock);
		else
			pf_rwlock_unlock_more(&v[i]->lock);
	}
}

static bool before(const struct pf_inode *a, const struct pf_inode *b)
{
	if (a == NULL || b == NULL)
		return a != NULL;
	if (pf_inode_isdir(a) != pf_inode_isdir(b))
		return pf_inode_isdir(a);
	return a->ino < b->ino;
}

void pf_inode_order(struct pf_inode **v, unsigned int n)
{
	for (unsigned int i = 1; i < n; i++) {
		for (unsigned int j = i; j > 0 && before(v[j], v[j - 1]); j--) {
			struct pf_inode *t = v[j];

			v[j] = v[j - 1];
			v[j - 1] = t;
		}
	}
}

/* ---- changes ---- */

static void edit_end(void *arg, bool committed)
{
	struct pf_inode *ip = arg;

	if (committed) {
		ip->d = *ip->sh;
		ip->xm = ip->xm_sh;
	}
	ip->sh = NULL;
}

int pf_inode_edit(struct pf_tx *tx, struct pf_inode *ip, struct pf_d_inode **out)
{
	void *sh;
	int err;

	if (ip->sh == NULL) {
		err = pf_tx_get(tx, PF_MD_INODE, ip->doff, ip->ino, &sh);
		if (err == 0)
			err = pf_tx_at_end(tx, edit_end, ip);
		if (err != 0)
			return err;
		ip->sh = sh;
		ip->xm_sh = ip->xm;
	}
	*out = ip->sh;
	return 0;
}

int pf_inode_begin(struct pf_inode *ip, struct pf_tx **tx, struct pf_d_inode **out)
{
	int err = pf_tx_begin(ip->fs, tx);

	if (err)
		return err;
	err = pf_inode_edit(*tx, ip, out);
	if (err)
		pf_tx_abort(*tx);
	return err;
}

struct pf_bm pf_inode_bm(struct pf_inode *ip, struct pf_tx *tx)
{
	assert(tx == NULL || ip->sh != NULL);
	return (struct pf_bm){
		.fs = ip->fs,
		.tx = tx,
		.root = tx != NULL ? &ip->sh->i_root : &ip->d.i_root,
		.owner = ip->ino,
		.gen = ip->gen,
		.dir = pf_inode_isdir(ip),
	};
}

struct pf_bm pf_inode_xbm(struct pf_inode *ip, struct pf_tx *tx)
{
	assert(tx == NULL || ip->sh != NULL);
	return (struct pf_bm){
		.fs = ip->fs,
		.tx = tx,
		.xroot = tx != NULL ? &ip->sh->i_xroot : &ip->d.i_xroot,
		.owner = ip->ino,
		.gen = ip->gen,
		.dir = true,
	};
}

void pf_inode_blocks(struct pf_inode *ip, int64_t delta)
{
	ip->sh->i_nblk = pf_put64(pf_get64(ip->sh->i_nblk) + (uint64_t)delta);
}

void pf_inode_dirtied(struct pf_inode *ip, uint64_t foff, uint64_t len)
{
	pf_mutex_lock(&ip->win_lock);
	if (ip->win_lo == ip->win_hi) {
		ip->win_lo = foff;
		ip->win_hi = foff + len;
	} else {
		ip->win_lo = pf_min64(ip->win_lo, foff);
		ip->win_hi = pf_max64(ip->win_hi, foff + len);
	}
	pf_mutex_unlock(&ip->win_lock);
}

void pf_inode_take_dirty(struct pf_inode *ip, uint64_t *foff, uint64_t *len)
{
	pf_mutex_lock(&ip->win_lock);
	*foff = ip->win_lo;
	*len = ip->win_hi - ip->win_lo;
	ip->win_lo = ip->win_hi = 0;
	pf_mutex_unlock(&ip->win_lock);
}

struct pf_when pf_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	return (struct pf_when){ .sec = (uint64_t)ts.tv_sec, .ns = (uint32_t)ts.tv_nsec };
}

void pf_set_mtime(struct pf_d_inode *di, struct pf_when t)
{
	di->i_mtime = pf_put64(t.sec);
	di->i_mtime_ns = pf_put32(t.ns);
}

void pf_set_ctime(struct pf_d_inode *di, struct pf_when t)
{
	di->i_ctime = pf_put64(t.sec);
	di->i_ctime_ns = pf_put32(t.ns);
}

void pf_set_atime(struct pf_d_inode *di, struct pf_when t)
{
	di->i_atime = pf_put64(t.sec);
	di->i_atime_ns = pf_put32(t.ns);
}

static struct timespec when(pf_le64 sec, pf_le32 ns)
{
	return (struct timespec){ .tv_sec = (time_t)pf_get64(sec), .tv_nsec = (long)pf_get32(ns) };
}

void pf_inode_stat(const struct pf_inode *ip, struct stat *st)
{
	const struct pf_d_inode *di = &ip->d;

	memset(st, 0, sizeof *st);
	st->st_ino = ip->ino;
	st->st_mode = pf_get32(di->i_mode);
	st->st_nlink = pf_get32(di->i_nlink);
	st->st_uid = pf_get32(di->i_uid);
	st->st_gid = pf_get32(di->i_gid);
	st->st_rdev = pf_get64(di->i_rdev);
	st->st_size = (off_t)pf_get64(di->i_size);
	st->st_blksize = PF_BLK_SIZE;
	st->st_blocks = (blkcnt_t)(pf_get64(di->i_nblk) * (PF_BLK_SIZE / 512));
	st->st_atim = when(di->i_atime, di->i_atime_ns);
	st->st_mtim = when(di->i_mtime, di->i_mtime_ns);
	st->st_ctim = when(di->i_ctime, di->i_ctime_ns);
}
