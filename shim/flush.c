/* SPDX-License-Identifier: BSD-3-Clause */
/* flush.c - write CPU cache lines back to memory: what msync() means when the device is persistent memory. */
#include "sh.h"

#if defined(__x86_64__)
#include <cpuid.h>

static int kind(void)		/* 0: not looked, 1: clflush, 2: clflushopt, 3: clwb */
{
	static atomic_int known;
	unsigned int a, b = 0, c, d;
	int k = atomic_load_explicit(&known, memory_order_relaxed);

	if (k != 0)
		return k;
	(void)__get_cpuid_count(7, 0, &a, &b, &c, &d);
	k = b & (1U << 24) ? 3 : b & (1U << 23) ? 2 : 1;
	atomic_store_explicit(&known, k, memory_order_relaxed);
	return k;
}

void sh_cpu_flush(const void *p, size_t len)
{
	const char *at = sh_ptr(pf_round_down(sh_addr(p), PF_LINE)), *end = (const char *)p + len;
	int k = kind();

	for (; at < end; at += PF_LINE) {
		if (k == 3)
			__asm__ volatile(".byte 0x66; xsaveopt %0" : : "m"(*at) : "memory");	/* clwb */
		else if (k == 2)
			__asm__ volatile(".byte 0x66; clflush %0" : : "m"(*at) : "memory");	/* clflushopt */
		else
			__asm__ volatile("clflush %0" : : "m"(*at) : "memory");
	}
}

void sh_cpu_fence(void)
{
	__asm__ volatile("sfence" : : : "memory");
}
#elif defined(__aarch64__)
void sh_cpu_flush(const void *p, size_t len)
{
	const char *at = sh_ptr(pf_round_down(sh_addr(p), PF_LINE)), *end = (const char *)p + len;

	for (; at < end; at += PF_LINE)
		__asm__ volatile("dc cvac, %0" : : "r"(at) : "memory");
}

void sh_cpu_fence(void)
{
	__asm__ volatile("dmb ishst" : : : "memory");
}
#else
#error "cache write-back is not known for this processor"
#endif
