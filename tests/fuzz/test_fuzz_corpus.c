/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fuzz_corpus.c - every input of tests/fuzz/corpus/ is run through its target, and some that are derived from it.
 *
 * The targets are those of `make fuzz`, without libFuzzer. What a fuzzer has found lies in the corpus from then on.
 * PINFS_FUZZ_RUNS: how many derived inputs for each target; PINFS_FUZZ_SEED: the first of them. With two arguments,
 * a target's name and a file, it runs just that, and says what is in it.
 */
#include "harness/unit.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "fuzz/batch.h"
#include "fuzz/targets/target.h"

#define DERIVED 250U
#define MAX 4096U

static const struct fz_target *const targets[] = { &fz_mount, &fz_fsck, &fz_journal, &fz_dump, &fz_wire, &fz_text };

static const struct fz_target *now;
static char dir[512];
static struct input { char path[1024]; size_t size; uint8_t data[MAX]; } *input;
static unsigned int nr_inputs;

static bool read_input(const char *path, struct input *in)
{
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return false;
	(void)snprintf(in->path, sizeof in->path, "%s", path);
	in->size = fread(in->data, 1, sizeof in->data, f);
	(void)fclose(f);
	return true;
}

static int visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static void read_corpus(void)
{
	const char *root = getenv("PINFS_FUZZ_CORPUS");
	struct dirent **list;
	int n;

	(void)snprintf(dir, sizeof dir, "%s/%s", root != NULL ? root : "tests/fuzz/corpus", now->name);
	n = scandir(dir, &list, visible, alphasort);
	nr_inputs = 0;
	free(input);
	input = calloc(n > 0 ? (size_t)n : 1, sizeof *input);
	if (input == NULL)
		abort();
	for (int i = 0; i < n; i++) {
		char path[1024];

		(void)snprintf(path, sizeof path, "%s/%s", dir, list[i]->d_name);
		nr_inputs += read_input(path, &input[nr_inputs]);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

static void show(FILE *log, const char *what, const uint8_t *data, size_t size)
{
	(void)fprintf(log, "%s\n", what);
	if (now->print != NULL)
		now->print(log, data, size);
	else
		for (size_t i = 0; i < size; i++)
			(void)fprintf(log, "%02x%s", data[i], i + 1 == size ? "\n" : "");
	(void)fflush(log);
}

static const char *replay(uint64_t item, FILE *log)
{
	const struct input *in = &input[item];

	show(log, in->path, in->data, in->size);
	now->run(in->data, in->size);
	return NULL;
}

static size_t change_bytes(uint8_t *data, size_t size, size_t max, struct fz_rng *r)
{
	static const uint8_t typed[] = "0123456789.,=-\nkKmM";
	size_t at = fz_below(r, size + 1);

	switch (fz_below(r, 3)) {
	case 0:
		if (at < size)
			data[at] = (uint8_t)fz_rnd(r);
		return size;
	case 1:
		if (at < size) {
			memmove(data + at, data + at + 1, size - at - 1);
			size--;
		}
		return size;
	default:
		if (size < max) {
			memmove(data + at + 1, data + at, size - at);
			data[at] = fz_below(r, 2) == 0 ? (uint8_t)fz_rnd(r) : typed[fz_below(r, sizeof typed)];
			size++;
		}
		return size;
	}
}

static const char *derived(uint64_t item, FILE *log)
{
	size_t (*mutate)(uint8_t *, size_t, size_t, struct fz_rng *) = now->mutate != NULL ? now->mutate : change_bytes;
	static uint8_t data[MAX];
	struct fz_rng r;
	size_t size = 0;

	fz_seed(&r, item);
	if (nr_inputs != 0) {
		const struct input *in = &input[fz_below(&r, nr_inputs)];

		size = pf_min64(in->size, now->max);
		memcpy(data, in->data, size);
	}
	for (uint64_t n = 1 + fz_below(&r, 6); n > 0; n--)
		size = mutate(data, size, now->max, &r);
	show(log, "derived", data, size);
	now->run(data, size);
	return NULL;
}

static void test_target(const struct fz_target *t)
{
	uint64_t seed = fz_env("PINFS_FUZZ_SEED", 1), runs = fz_env("PINFS_FUZZ_RUNS", DERIVED);

	now = t;
	read_corpus();
	CU_ASSERT(nr_inputs >= 5);		/* else it is looked for in the wrong place */
	fz_batch_reset();
	fz_batch(replay, 0, nr_inputs, "an input of the corpus, see below: number ");
	fz_batch(derived, seed, seed + runs, "PINFS_FUZZ_RUNS=1 PINFS_FUZZ_SEED=");
	(void)printf("%u inputs, %" PRIu64 " derived ... ", nr_inputs, runs);
}

static void test_mount(void) { test_target(&fz_mount); }
static void test_fsck(void) { test_target(&fz_fsck); }
static void test_journal(void) { test_target(&fz_journal); }
static void test_dump(void) { test_target(&fz_dump); }
static void test_wire(void) { test_target(&fz_wire); }
static void test_text(void) { test_target(&fz_text); }

static int run_one(const char *target, const char *path)
{
	static struct input one;

	for (unsigned int i = 0; i < PF_ARRAY_LEN(targets); i++) {
		if (strcmp(targets[i]->name, target) != 0)
			continue;
		now = targets[i];
		if (!read_input(path, &one)) {
			perror(path);
			return 2;
		}
		show(stdout, path, one.data, one.size);
		now->run(one.data, one.size);
		return 0;
	}
	(void)fprintf(stderr, "%s: no such target\n", target);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct unit_case cases[] = {
		{ "mount", test_mount }, { "fsck", test_fsck }, { "journal", test_journal },
		{ "dump", test_dump },	 { "wire", test_wire }, { "text", test_text },
	};

	pf_log_init("fuzz", PF_LOG_ERR, false);
	if (argc == 3)
		return run_one(argv[1], argv[2]);
	return unit_main("fuzz_corpus", cases, PF_ARRAY_LEN(cases));
}
