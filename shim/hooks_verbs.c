/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hooks_verbs.c - memory regions of RDMA. A region in a window is pinned as long as it is registered, or refused, as
 * the kernel refuses it on DAX files; one that is registered on demand (ODP) has no pin: the device faults pages in and
 * hears of it when they are taken away, by the kernel, as windows are mappings like any other.
 *
 * The library is libibverbs, which the program brings, or does not: nothing of it is needed to build or load us. Its
 * functions call each other by name, so the outermost of ours does the work. Takes no lock itself.
 */
#include "hooks.h"
#include "longterm.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>

/* As in <infiniband/verbs.h>: both begin with the context that they belong to. */
struct ibv_pd { void *context; };
struct ibv_mr { void *context; };
struct ibv_context;
#define ACCESS_WRITES (1U | 1U << 1 | 1U << 3 | 1U << 4)	/* LOCAL_WRITE, REMOTE_WRITE, REMOTE_ATOMIC, MW_BIND */
#define ACCESS_ON_DEMAND (1U << 6)
#define REREG_TRANSLATION 1
#define REREG_ACCESS 4
#define REREG_ERR_INPUT (-1)
#define REREG_ERR_DO_FORK_OLD (-3)

PF_EXPORT struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t len, int access);
PF_EXPORT struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova, int access);
PF_EXPORT struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova,
					  unsigned int access);
PF_EXPORT int ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t len, int access);
PF_EXPORT int ibv_dereg_mr(struct ibv_mr *mr);
PF_EXPORT int ibv_close_device(struct ibv_context *ctx);

static __thread bool inside __attribute__((tls_model("initial-exec")));

struct wanted { const char *name; void *sym; };

static int in_libibverbs(struct dl_phdr_info *i, size_t size, void *arg)
{
	struct wanted *w = arg;
	void *lib;

	(void)size;
	if (strstr(i->dlpi_name, "/libibverbs.so") == NULL)
		return 0;
	lib = dlopen(i->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
	if (lib == NULL)
		return 0;
	w->sym = dlsym(lib, w->name);
	(void)dlclose(lib);
	return w->sym != NULL;
}

/* The next definition; or that of a library which was loaded for somebody alone. False: errno is ENOSYS. */
static bool load(void *slot, const char *name)
{
	struct wanted w = { name, dlsym(RTLD_NEXT, name) };

	if (w.sym == NULL)
		(void)dl_iterate_phdr(in_libibverbs, &w);
	memcpy(slot, &w.sym, sizeof w.sym);
	if (w.sym == NULL)
		errno = ENOSYS;
	return w.sym != NULL;
}

/* A region by its address; @space: what it belongs to. All are noted, also those that pin nothing: ibv_rereg_mr() need
 * not say again how they may be used. */
static struct sh_name region(const struct ibv_mr *mr, unsigned int access)
{
	struct sh_name n = sh_name(PF_API_VERBS, sh_addr(mr->context), sh_addr(mr), sh_addr(mr) + 1);

	n.what = access;
	return n;
}

/* ---- registration ---- */

struct asked {
	struct ibv_pd *pd;
	void *addr;
	size_t len;
	uint64_t iova;
	unsigned int access;
};

static int pin(const struct asked *a, struct sh_pinned **out)
{
	const struct iovec v = { a->addr, a->len };

	*out = NULL;
	if (a->access & ACCESS_ON_DEMAND)
		return 0;
	return sh_pinned_take(&v, 1, (a->access & ACCESS_WRITES) != 0, PF_API_VERBS, out);
}

static struct ibv_mr *reg(const struct asked *a, struct ibv_mr *(*real)(const struct asked *a))
{
	struct sh_pinned *p = NULL;
	struct ibv_mr *mr = NULL;
	struct sh_reg *r;
	int err;

	if (inside || !sh_hook_any())
		return real(a);
	err = sh_reg_new(&r);
	if (!err)
		err = pin(a, &p);
	if (err) {
		errno = -err;
	} else {
		inside = true;
		mr = real(a);
		inside = false;
	}
	if (mr != NULL) {
		sh_reg_add(r, -1, region(mr, a->access), p);
	} else {
		sh_pinned_put(p);
		sh_reg_free(r);
	}
	return mr;
}

static struct ibv_mr *real_reg(const struct asked *a)
{
	static struct ibv_mr *(*real)(struct ibv_pd *, void *, size_t, int);

	if (real == NULL && !load(&real, "ibv_reg_mr"))
		return NULL;
	return real(a->pd, a->addr, a->len, (int)a->access);
}

static struct ibv_mr *real_iova(const struct asked *a)
{
	static struct ibv_mr *(*real)(struct ibv_pd *, void *, size_t, uint64_t, int);

	if (real == NULL && !load(&real, "ibv_reg_mr_iova"))
		return NULL;
	return real(a->pd, a->addr, a->len, a->iova, (int)a->access);
}

static struct ibv_mr *real_iova2(const struct asked *a)
{
	static struct ibv_mr *(*real)(struct ibv_pd *, void *, size_t, uint64_t, unsigned int);

	if (real == NULL && !load(&real, "ibv_reg_mr_iova2"))
		return NULL;
	return real(a->pd, a->addr, a->len, a->iova, a->access);
}

PF_EXPORT struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t len, int access)
{
	return reg(&(struct asked){ pd, addr, len, 0, (unsigned int)access }, real_reg);
}

PF_EXPORT struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova, int access)
{
	return reg(&(struct asked){ pd, addr, len, iova, (unsigned int)access }, real_iova);
}

PF_EXPORT struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova,
					  unsigned int access)
{
	return reg(&(struct asked){ pd, addr, len, iova, access }, real_iova2);
}

/* ---- and its end ---- */

/* Off the list first: when it has ended, another thread's region may have its address. */
PF_EXPORT int ibv_dereg_mr(struct ibv_mr *mr)
{
	static int (*real)(struct ibv_mr *);
	struct sh_reg *list;
	int err;

	if (real == NULL && !load(&real, "ibv_dereg_mr"))
		return ENOSYS;
	if (inside || atomic_load(&sh_nregs) == 0 || !sh_hook_ours())
		return real(mr);
	list = sh_reg_take(-1, region(mr, 0));
	err = real(mr);
	if (err)
		sh_reg_back(list);
	else
		sh_reg_end(list);
	return err;
}

/* The kernel ends what is left of it. */
PF_EXPORT int ibv_close_device(struct ibv_context *ctx)
{
	static int (*real)(struct ibv_context *);
	struct sh_reg *list;
	int err;

	if (real == NULL && !load(&real, "ibv_close_device"))
		return -1;
	if (atomic_load(&sh_nregs) == 0 || !sh_hook_ours())
		return real(ctx);
	list = sh_reg_take(-1, sh_name(PF_API_VERBS, sh_addr(ctx), 0, UINT64_MAX));
	err = real(ctx);
	if (err)
		sh_reg_back(list);
	else
		sh_reg_end(list);
	return err;
}

/* Other memory, or other rights to it: the new is pinned before the old is given back. Which of the two the device has
 * after a failure in the middle is not known: then both stay. */
PF_EXPORT int ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t len, int access)
{
	static int (*real)(struct ibv_mr *, int, struct ibv_pd *, void *, size_t, int);
	struct asked a = { pd, addr, len, 0, (unsigned int)access };
	struct sh_pinned *p = NULL;
	struct sh_reg *r, *before;
	int rc, err;

	if (real == NULL && !load(&real, "ibv_rereg_mr"))
		return REREG_ERR_INPUT;
	if (inside || !(flags & REREG_TRANSLATION) || !sh_hook_ours())
		return real(mr, flags, pd, addr, len, access);
	before = sh_reg_take(-1, region(mr, 0));
	if (!(flags & REREG_ACCESS))
		a.access = before != NULL ? (unsigned int)sh_reg_what(before) : ACCESS_WRITES;
	err = sh_reg_new(&r);
	if (!err)
		err = pin(&a, &p);
	if (err) {
		sh_reg_back(before);
		sh_reg_free(r);
		errno = -err;
		return REREG_ERR_INPUT;
	}
	inside = true;
	rc = real(mr, flags, pd, addr, len, access);
	inside = false;
	if (rc == 0 || rc == REREG_ERR_DO_FORK_OLD)
		sh_reg_end(before);
	else
		sh_reg_back(before);
	if (rc == 0 || rc <= REREG_ERR_DO_FORK_OLD) {
		sh_reg_add(r, -1, region(mr, a.access), p);
	} else {
		sh_pinned_put(p);
		sh_reg_free(r);
	}
	return rc;
}
