/* SPDX-License-Identifier: BSD-3-Clause */
/* elf.h - the few facts about an executable that decide whether the dynamic loader will preload a library into it. */
#ifndef TOOLS_PINRUN_ELF_H
#define TOOLS_PINRUN_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_NEED_MAX 8

struct elf_facts {
	bool elf;			/* has the magic; all else is meaningful only then */
	bool sane;			/* a complete header of an executable or shared object */
	bool ours;			/* same class, byte order and machine as this program */
	bool exec;			/* ET_EXEC, or ET_DYN with an interpreter */
	char interp[256];		/* the dynamic loader; "" = statically linked */
	/* Sanitizer runtimes among the needed libraries: they want to be loaded before any preloaded library. */
	char san[ELF_NEED_MAX][64];
	size_t nsan;
};

/* 0, or -errno when the file cannot be read. A damaged file is no error: `sane` is false. */
int elf_look(const char *path, struct elf_facts *out);

/* True for the file name (no directories) of a sanitizer's runtime library. */
bool elf_is_sanitizer(const char *soname);

#endif
