/* SPDX-License-Identifier: BSD-3-Clause */
/* node.h - FUSE calls the root node 1, the media calls it PF_INO_ROOT; every other number is the same on both sides. */
#ifndef PF_FRONT_NODE_H
#define PF_FRONT_NODE_H

#include <stdint.h>
#include <pinfs/format.h>

#define PF_NODE_ROOT UINT64_C(1)

static inline uint64_t pf_ino_of(uint64_t node) { return node == PF_NODE_ROOT ? PF_INO_ROOT : node; }
static inline uint64_t pf_node_of(uint64_t ino) { return ino == PF_INO_ROOT ? PF_NODE_ROOT : ino; }

#endif
