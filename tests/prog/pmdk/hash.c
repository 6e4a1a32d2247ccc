/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hash.c - a hash map in a libpmemobj pool, changed by transactions of up to 12 insertions, replacements and removals;
 * and the model that says what must be in it.
 *
 *   hash create POOL
 *   hash extend POOL BYTES        the heap of a set of directories, by another part
 *   hash run    POOL SEED COUNT   transactions from where the pool stands on; a byte to stdout for each one committed
 *   hash bare   POOL SEED COUNT   the same without transactions: what a crash leaves is damage
 *   hash check  POOL SEED SAID    0: the pool holds what the first N transactions made, nothing else and nothing
 *                                 half, where N is the size of SAID (stdout of the runs), or one more: then SAID grows
 *
 * Transaction I is a function of SEED and I alone, so the model needs no record of what was done.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libpmemobj.h>

/* TX_BEGIN() is a switch that does not name all stages. */
#pragma GCC diagnostic ignored "-Wswitch-enum"

#define LAYOUT "pinfs-hash"
#define KEYS 700U
#define DATA_MAX 300U

struct entry {
	PMEMoid next;
	uint64_t key;
	uint64_t value;
	uint64_t len;
	unsigned char data[];		/* len bytes, each the low one of value */
};

struct root {
	uint64_t done;			/* transactions */
	uint64_t count;			/* entries */
	uint64_t nbucket;
	PMEMoid buckets;		/* PMEMoid [nbucket] */
};

enum { TYPE_BUCKETS = 1, TYPE_ENTRY };

static PMEMobjpool *pool;
static bool bare;			/* no transactions */

/* ---- changing the pool ---- */

/* Before bytes of the pool are changed; durable() after it. */
static void change(void *p, size_t len)
{
	if (!bare)
		pmemobj_tx_add_range_direct(p, len);
}

static void durable(const void *p, size_t len)
{
	if (bare)
		pmemobj_persist(pool, p, len);
}

static PMEMoid make(size_t len, uint64_t type)
{
	PMEMoid oid = OID_NULL;

	if (!bare)
		return pmemobj_tx_zalloc(len, type);
	if (pmemobj_zalloc(pool, &oid, len, type))
		abort();
	return oid;
}

static void discard(PMEMoid oid)
{
	if (bare)
		pmemobj_free(&oid);
	else
		pmemobj_tx_free(oid);
}

static void set_oid(PMEMoid *at, PMEMoid to)
{
	change(at, sizeof *at);
	*at = to;
	durable(at, sizeof *at);
}

static void set_num(uint64_t *at, uint64_t to)
{
	change(at, sizeof *at);
	*at = to;
	durable(at, sizeof *at);
}

/* ---- the map ---- */

static PMEMoid *bucket(struct root *r, uint64_t key)
{
	PMEMoid *b = pmemobj_direct(r->buckets);

	if (b == NULL || r->nbucket == 0)
		abort();
	return &b[key * UINT64_C(0x9e3779b97f4a7c15) % r->nbucket];
}

/* Where the entry of @key hangs, or would. */
static PMEMoid *find(struct root *r, uint64_t key)
{
	PMEMoid *at = bucket(r, key);
	struct entry *e;

	while ((e = pmemobj_direct(*at)) != NULL && e->key != key)
		at = &e->next;
	return at;
}

static void drop(struct root *r, uint64_t key)
{
	PMEMoid *at = find(r, key), gone = *at;

	if (OID_IS_NULL(gone))
		return;
	set_oid(at, ((struct entry *)pmemobj_direct(gone))->next);
	set_num(&r->count, r->count - 1);
	discard(gone);
}

static void grow(struct root *r)
{
	PMEMoid old = r->buckets, *from = pmemobj_direct(old);
	uint64_t n = r->nbucket;

	set_oid(&r->buckets, make(2 * n * sizeof(PMEMoid), TYPE_BUCKETS));
	set_num(&r->nbucket, 2 * n);
	for (uint64_t i = 0; i < n; i++) {
		PMEMoid oid = from[i];

		while (!OID_IS_NULL(oid)) {
			struct entry *e = pmemobj_direct(oid);
			PMEMoid next = e->next, *at = bucket(r, e->key);

			set_oid(&e->next, *at);
			set_oid(at, oid);
			oid = next;
		}
	}
	discard(old);
}

static void put(struct root *r, uint64_t key, uint64_t value)
{
	size_t len = value % DATA_MAX;
	PMEMoid oid;
	struct entry *e;

	drop(r, key);
	if (r->count >= 2 * r->nbucket)
		grow(r);
	oid = make(sizeof *e + len, TYPE_ENTRY);
	e = pmemobj_direct(oid);
	/* New in this transaction: an abort frees it, nothing needs to be saved. */
	e->key = key;
	e->value = value;
	e->len = len;
	memset(e->data, (int)(value & 0xff), len);
	e->next = *bucket(r, key);
	durable(e, sizeof *e + len);
	set_oid(bucket(r, key), oid);
	set_num(&r->count, r->count + 1);
}

/* ---- what transaction @i does: to the map, or to the model ---- */

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static void transaction(uint64_t seed, uint64_t i, struct root *r, uint64_t *model)
{
	uint64_t n = 1 + mix(seed + i) % 12;

	for (uint64_t k = 0; k < n; k++) {
		uint64_t x = mix(mix(seed + i) + k), key = x % KEYS, value = (x >> 16) | 1;
		bool remove = (x >> 12) % 4 == 0;

		if (model != NULL)
			model[key] = remove ? 0 : value;
		else if (remove)
			drop(r, key);
		else
			put(r, key, value);
	}
}

static int run(uint64_t seed, uint64_t count)
{
	struct root *r = pmemobj_direct(pmemobj_root(pool, sizeof *r));

	for (uint64_t end = r->done + count; r->done < end;) {
		if (bare) {
			transaction(seed, r->done + 1, r, NULL);
			set_num(&r->done, r->done + 1);
		} else {
			TX_BEGIN(pool) {
				transaction(seed, r->done + 1, r, NULL);
				set_num(&r->done, r->done + 1);
			} TX_ONABORT {
				fprintf(stderr, "transaction aborted: %s\n", pmemobj_errormsg());
				abort();
			} TX_END
		}
		if (write(STDOUT_FILENO, "c", 1) != 1)
			return 1;
	}
	return 0;
}

/* ---- the check ---- */

static int wrong(const char *what, uint64_t a, uint64_t b)
{
	printf("%s: %" PRIu64 ", %" PRIu64 "\n", what, a, b);
	return 1;
}

static int check_entry(struct root *r, const struct entry *e, uint64_t b, uint64_t *model)
{
	if (e->key >= KEYS || bucket(r, e->key) - (PMEMoid *)pmemobj_direct(r->buckets) != (ptrdiff_t)b)
		return wrong("entry in the wrong bucket: key, bucket", e->key, b);
	if (model[e->key] != e->value)
		return wrong("value is not the model's, or twice: key, value", e->key, e->value);
	model[e->key] = 0;
	if (e->len != e->value % DATA_MAX)
		return wrong("length: key, length", e->key, e->len);
	for (uint64_t i = 0; i < e->len; i++)
		if (e->data[i] != (e->value & 0xff))
			return wrong("data: key, at", e->key, i);
	return 0;
}

static int check(uint64_t seed, const char *said)
{
	static uint64_t model[KEYS];
	struct root *r = pmemobj_direct(pmemobj_root(pool, sizeof *r));
	uint64_t found = 0, objects = 0;
	struct stat st;
	PMEMoid oid;

	if (stat(said, &st))
		return 1;
	if (r->done != (uint64_t)st.st_size && r->done != (uint64_t)st.st_size + 1)
		return wrong("transactions said to be committed, and in the pool", (uint64_t)st.st_size, r->done);
	for (uint64_t i = 1; i <= r->done; i++)
		transaction(seed, i, NULL, model);
	for (uint64_t b = 0; b < r->nbucket; b++) {
		oid = ((PMEMoid *)pmemobj_direct(r->buckets))[b];
		for (struct entry *e; (e = pmemobj_direct(oid)) != NULL; oid = e->next) {
			if (++found > KEYS)
				return wrong("a chain without end: bucket", b, 0);
			if (check_entry(r, e, b, model))
				return 1;
		}
	}
	for (uint64_t k = 0; k < KEYS; k++)
		if (model[k] != 0)
			return wrong("missing: key, value", k, model[k]);
	if (found != r->count)
		return wrong("entries, and their count", found, r->count);
	for (oid = pmemobj_first(pool); !OID_IS_NULL(oid); oid = pmemobj_next(oid))
		objects++;
	if (objects != found + 1)
		return wrong("objects that nothing leads to: entries, objects", found, objects);
	if (truncate(said, (off_t)r->done))
		return 1;
	printf("%" PRIu64 " transactions, %" PRIu64 " entries, as the model\n", r->done, found);
	return 0;
}

static int create(const char *path)
{
	struct root *r;

	pool = pmemobj_create(path, LAYOUT, strstr(path, ".set") ? 0 : 3 * PMEMOBJ_MIN_POOL, 0644);
	if (pool == NULL) {
		fprintf(stderr, "%s: %s\n", path, pmemobj_errormsg());
		return 1;
	}
	r = pmemobj_direct(pmemobj_root(pool, sizeof *r));
	TX_BEGIN(pool) {
		set_num(&r->nbucket, 16);
		set_oid(&r->buckets, make(16 * sizeof(PMEMoid), TYPE_BUCKETS));
	} TX_END
	pmemobj_close(pool);
	return 0;
}

static int extend(const char *path, size_t bytes)
{
	int err;

	pool = pmemobj_open(path, LAYOUT);
	err = pool == NULL || pmemobj_ctl_exec(pool, "heap.size.extend", &bytes);
	if (err)
		fprintf(stderr, "%s: %s\n", path, pmemobj_errormsg());
	if (pool != NULL)
		pmemobj_close(pool);
	return err;
}

int main(int argc, char **argv)
{
	uint64_t seed;
	int rc;

	if (argc == 3 && strcmp(argv[1], "create") == 0)
		return create(argv[2]);
	if (argc == 4 && strcmp(argv[1], "extend") == 0)
		return extend(argv[2], strtoull(argv[3], NULL, 0));
	if (argc != 5)
		return 2;
	seed = mix(strtoull(argv[3], NULL, 0));
	pool = pmemobj_open(argv[2], LAYOUT);
	if (pool == NULL) {
		printf("%s: %s\n", argv[2], pmemobj_errormsg());
		return 1;
	}
	bare = strcmp(argv[1], "bare") == 0;
	if (strcmp(argv[1], "check") == 0)
		rc = check(seed, argv[4]);
	else
		rc = run(seed, strtoull(argv[4], NULL, 0));
	pmemobj_close(pool);
	return rc;
}
