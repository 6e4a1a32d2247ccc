/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compiler.h - attributes, lock annotations and media assertions.
 *
 * The PF_* lock macros expand to clang's thread-safety attributes and to nothing elsewhere.
 * Which class comes after which is written once, in fs/base/lock.h.
 */
#ifndef PINFS_COMPILER_H
#define PINFS_COMPILER_H

#include <stddef.h>

#if defined(__clang__)
#define PF_TSA(x) __attribute__((x))
#else
#define PF_TSA(x)
#endif

#define PF_CAP(name) PF_TSA(capability(name))
#define PF_GUARDED(...) PF_TSA(guarded_by(__VA_ARGS__))
#define PF_REQUIRES(...) PF_TSA(requires_capability(__VA_ARGS__))
#define PF_REQUIRES_SHARED(...) PF_TSA(requires_shared_capability(__VA_ARGS__))
#define PF_ACQUIRES(...) PF_TSA(acquire_capability(__VA_ARGS__))
#define PF_ACQUIRES_SHARED(...) PF_TSA(acquire_shared_capability(__VA_ARGS__))
#define PF_RELEASES(...) PF_TSA(release_capability(__VA_ARGS__))
#define PF_RELEASES_SHARED(...) PF_TSA(release_shared_capability(__VA_ARGS__))
#define PF_EXCLUDES(...) PF_TSA(locks_excluded(__VA_ARGS__))
#define PF_AFTER(...) PF_TSA(acquired_after(__VA_ARGS__))
#define PF_NO_TSA PF_TSA(no_thread_safety_analysis)

#define PF_MUST_CHECK __attribute__((warn_unused_result))
#define PF_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define PF_UNUSED __attribute__((unused))
#define PF_EXPORT __attribute__((visibility("default")))

#define PF_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define PF_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define PF_MEDIA_SIZE(t, n) _Static_assert(sizeof(t) == (n), #t ": size on media")
#define PF_MEDIA_OFF(t, f, n) _Static_assert(offsetof(t, f) == (n), #t "." #f ": offset on media")

#endif
