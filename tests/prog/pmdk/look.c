/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * look.c - what libpmem and libpmem2 say of a file system, one line each.
 *
 *   look DIRECTORY
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libpmem.h>
#include <libpmem2.h>

#define BYTES (4UL << 20)

static int fail(const char *what)
{
	perror(what);
	return 1;
}

/* pmem_map_file() of a file that it makes; and of one without a name. */
static int look_libpmem(const char *dir, const char *name, int flags)
{
	char path[4096];
	size_t len;
	int is_pmem;
	char *p;

	(void)snprintf(path, sizeof path, "%s/%s", dir, name);
	p = pmem_map_file(path, BYTES, PMEM_FILE_CREATE | flags, 0644, &len, &is_pmem);
	if (p == NULL)
		return fail("pmem_map_file");
	printf("libpmem %s is_pmem %d %d", *name ? "file" : "nameless", is_pmem, pmem_is_pmem(p, len));
	pmem_memset_persist(p, 7, len);
	/* Not a question of is_pmem: where it is not, the same call works by msync(). */
	printf(" deep persist %d\n", pmem_deep_persist(p, len));
	return pmem_unmap(p, len) ? fail("pmem_unmap") : 0;
}

static const char *const name_of[] = { [PMEM2_GRANULARITY_BYTE] = "byte",
				       [PMEM2_GRANULARITY_CACHE_LINE] = "cache line",
				       [PMEM2_GRANULARITY_PAGE] = "page" };

/* The same file again, through libpmem2; part of it a second time, into a reservation of address space. */
static int look_libpmem2(const char *dir)
{
	struct pmem2_vm_reservation *rsv;
	struct pmem2_config *cfg;
	struct pmem2_source *src;
	struct pmem2_map *map, *part;
	char path[4096], *p, *q;
	int fd;

	(void)snprintf(path, sizeof path, "%s/file", dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || pmem2_config_new(&cfg) || pmem2_source_from_fd(&src, fd) ||
	    pmem2_config_set_required_store_granularity(cfg, PMEM2_GRANULARITY_PAGE) || pmem2_map_new(&map, cfg, src))
		return fail(pmem2_errormsg());
	p = pmem2_map_get_address(map);
	printf("libpmem2 granularity %s", name_of[pmem2_map_get_store_granularity(map)]);
	if (p[0] != 7 || p[BYTES - 1] != 7)
		return fail("not what libpmem has stored");
	pmem2_get_memset_fn(map)(p, 8, BYTES, PMEM2_F_MEM_NONTEMPORAL);
	printf(" deep flush %d", pmem2_deep_flush(map, p, BYTES));
	if (pmem2_vm_reservation_new(&rsv, NULL, 2 * BYTES) || pmem2_config_set_vm_reservation(cfg, rsv, BYTES) ||
	    pmem2_config_set_length(cfg, BYTES / 2) || pmem2_config_set_offset(cfg, BYTES / 2) ||
	    pmem2_map_new(&part, cfg, src))
		return fail(pmem2_errormsg());
	q = pmem2_map_get_address(part);
	q[5] = 9;
	printf(" reserved %s\n", q == (char *)pmem2_vm_reservation_get_address(rsv) + BYTES && q[0] == 8 &&
				 p[BYTES / 2 + 5] == 9 ? "shared" : "wrong");
	if (pmem2_map_delete(&part) || pmem2_vm_reservation_delete(&rsv) || pmem2_map_delete(&map))
		return fail(pmem2_errormsg());
	(void)pmem2_source_delete(&src);
	(void)pmem2_config_delete(&cfg);
	(void)close(fd);
	return unlink(path) ? fail("unlink") : 0;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	return look_libpmem(argv[1], "", PMEM_FILE_TMPFILE) || look_libpmem(argv[1], "file", 0) ||
	       look_libpmem2(argv[1]);
}
