/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * init.c - how the library comes to life. Before the constructor has run, every interposed call goes to the
 * kernel directly; nothing is started until the first mmap(MAP_SHARED) of a pinfs file. sh.h says what there
 * is.
 *
 *   PINFS_DISABLE=1   be a library of real calls
 *   PINFS_LOG=...     see log.c
 *   PINFS_TEST_*      for the tests: leave out a protection or a privilege
 */
#include "trace.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sh_state sh = { .lock = PTHREAD_MUTEX_INITIALIZER };
struct sh_life sh_life __attribute__((aligned(4096)));

static bool env_on(const char *name)
{
	const char *v = secure_getenv(name);

	return v != NULL && *v != '\0' && strcmp(v, "0") != 0;
}

__attribute__((constructor)) static void start(void)
{
	sh.pid = getpid();
	sh_log_init();
	sh_real_init();
	sh_tls_init();
	sh_fork_init();
	sh.disabled = env_on("PINFS_DISABLE");
	sh.user_mode_test = env_on("PINFS_TEST_USER_MODE");
	sh.pin_test = (env_on("PINFS_TEST_NO_FOLLOW") ? SH_TEST_NO_FOLLOW : 0) |
		      (env_on("PINFS_TEST_HOLD_OURS") ? SH_TEST_HOLD_OURS : 0) |
		      (env_on("PINFS_TEST_COPY_LATE") ? SH_TEST_COPY_LATE : 0) |
		      (env_on("PINFS_TEST_BY_HAND") ? SH_TEST_BY_HAND : 0) |
		      (env_on("PINFS_TEST_NOT_BRIEF") ? SH_TEST_NOT_BRIEF : 0);
	sh.long_unsafe = env_on("PINFS_TEST_UNSAFE_LONGTERM");
	if (env_on("PINFS_PIN_STACK"))
		sh_stack_init();
	sh.ready = true;
}
