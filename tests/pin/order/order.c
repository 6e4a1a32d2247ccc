/* SPDX-License-Identifier: BSD-3-Clause */
/* order.c - the rule of order that a daemon of tests does without (base/pause.h): PINFS_ORDER_OUT names it. */
#define PF_STEPS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/pause.h"

_Atomic int pf_order_out = PF_ORDER_NR;

static __attribute__((constructor)) void choose(void)
{
#define NAMED(name, what) #name,
	static const char *const orders[] = { PF_ORDER_LIST(NAMED) };
	const char *env = getenv("PINFS_ORDER_OUT");

	if (env == NULL)
		return;
	for (int i = 0; i < PF_ORDER_NR; i++)
		if (strcmp(env, orders[i]) == 0)
			pf_order_out = i;
	if (pf_order_out == PF_ORDER_NR) {
		(void)fprintf(stderr, "PINFS_ORDER_OUT=%s: no such rule\n", env);
		exit(2);
	}
}
