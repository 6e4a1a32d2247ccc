/* SPDX-License-Identifier: BSD-3-Clause */
/* step.c - which step of the core (base/step.h) a crash test leaves out; none, unless it says so. */
#define PF_STEPS
#include "base/step.h"

_Atomic int pf_step_out = PF_STEP_NR;
