/* SPDX-License-Identifier: BSD-3-Clause */
/* model_impl.h - what model.c and judge.c share: the model's own structures. */
#ifndef PF_TESTS_MODEL_IMPL_H
#define PF_TESTS_MODEL_IMPL_H

#include <stddef.h>
#include "crash/model.h"

#define PAGE UINT64_C(4096)
#define WL_NAMES_FORMAT "%.24s/a-name-that-takes-room-%010u"	/* of WL_NAMES */

enum model_state { MODEL_HOLE, MODEL_UNWRITTEN, MODEL_WRITTEN };

struct model_page { unsigned int refs; uint8_t b[4096]; };
struct model_cell { struct model_page *p; enum model_state state; };	/* p NULL: zeros */

#define XATTRS 6			/* of a node */
struct model_xattr { char name[64]; uint64_t len; uint32_t tag; };	/* the value is wl_byte()'s; no name: free */

struct model_node {
	bool used;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	unsigned int nlink;
	uint64_t size;			/* not of directories */
	char *target;
	struct model_cell *cell;	/* bytes behind the size are zero */
	uint64_t ncell;
	struct model_xattr xattr[XATTRS];
};

struct model_name { int dir, node; char name[64]; };

struct model {
	struct model_node *node;	/* 0: the root */
	struct model_name *name;
	int nnode, nname, room;
};

#endif
