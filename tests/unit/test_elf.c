/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_elf.c - pinrun's reader of ELF files: what it says of known files, and that no damage leads it outside of
 * the file.
 *
 * The damaged files end at the end of a page with nothing mapped behind it, so a step too far is a crash.
 */
#include "pinrun/elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "harness/unit.h"

/* A small but complete 64-bit program: header, three program headers, a dynamic section, strings; one page in all. */
struct tiny {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[3];
	Elf64_Dyn dyn[4];
	char interp[32];
	char str[64];
	char fill[4096 - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr) - 4 * sizeof(Elf64_Dyn) - 96];
};
_Static_assert(sizeof(struct tiny) == 4096, "one page");

static struct tiny tiny(void)
{
	struct tiny t = {
		.eh = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT }, .e_type = ET_DYN,
			.e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_phoff = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3, .e_ehsize = sizeof(Elf64_Ehdr) },
		.ph = { { .p_type = PT_INTERP, .p_offset = offsetof(struct tiny, interp), .p_filesz = 32 },
			{ .p_type = PT_LOAD, .p_vaddr = 0x1000, .p_offset = 0, .p_filesz = 4096 },
			{ .p_type = PT_DYNAMIC, .p_offset = offsetof(struct tiny, dyn), .p_filesz = sizeof t.dyn } },
		.dyn = { { .d_tag = DT_NEEDED, .d_un.d_val = 1 },
			 { .d_tag = DT_NEEDED, .d_un.d_val = 11 },
			 { .d_tag = DT_STRTAB, .d_un.d_ptr = 0x1000 + offsetof(struct tiny, str) } },
		.interp = "/lib64/ld-linux-x86-64.so.2",
		.str = "\0libc.so.6\0libasan.so.8",
	};

	return t;
}

static int look_at(const void *bytes, size_t len, struct elf_facts *out)
{
	int fd = memfd_create("elf", MFD_CLOEXEC), err;
	char path[64];

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_FATAL(write(fd, bytes, len) == (ssize_t)len);
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	err = elf_look(path, out);
	(void)close(fd);
	return err;
}

static void test_known(void)
{
	struct elf_facts f;
	struct tiny t = tiny();

	CU_ASSERT(elf_look("/proc/self/exe", &f) == 0);
	CU_ASSERT(f.elf && f.sane && f.ours && f.exec && f.interp[0] == '/');
	CU_ASSERT(elf_look("/nowhere", &f) == -ENOENT);
	CU_ASSERT(look_at("", 0, &f) == 0 && !f.elf);
	CU_ASSERT(look_at("#!/bin/sh", 9, &f) == 0 && !f.elf);
#if defined(__x86_64__)
	CU_ASSERT(look_at(&t, sizeof t, &f) == 0);
	CU_ASSERT(f.elf && f.sane && f.ours && f.exec);
	CU_ASSERT_STRING_EQUAL(f.interp, "/lib64/ld-linux-x86-64.so.2");
	CU_ASSERT_EQUAL(f.nsan, 1);
	CU_ASSERT_STRING_EQUAL(f.san[0], "libasan.so.8");
	t.ph[0].p_type = PT_NULL;
	CU_ASSERT(look_at(&t, sizeof t, &f) == 0 && f.sane && f.interp[0] == '\0');
	t = tiny();
	t.eh.e_machine = EM_AARCH64;
	CU_ASSERT(look_at(&t, sizeof t, &f) == 0 && f.sane && !f.ours);
	t.eh.e_ident[EI_CLASS] = ELFCLASS32;
	CU_ASSERT(look_at(&t, sizeof t, &f) == 0 && f.sane && !f.ours);
	t = tiny();
	t.eh.e_type = ET_CORE;
	CU_ASSERT(look_at(&t, sizeof t, &f) == 0 && !f.sane);
	t = tiny();
	memset(t.interp, 'x', sizeof t.interp);		/* runs on into the strings, which end */
	CU_ASSERT(look_at(&t, sizeof t, &f) == 0);
	memset(t.interp, 'x', sizeof t - offsetof(struct tiny, interp));
	CU_ASSERT(look_at(&t, sizeof t, &f) == 0 && !f.sane);	/* has no end */
#endif
}

/* Each field of the small program, set to each of some mean values. */
static void test_mean_values(void)
{
	static const uint64_t mean[] = { 0, 1, 63, 4095, 4096, 4097, UINT32_MAX, INT64_MAX, (uint64_t)INT64_MAX + 1,
					 UINT64_MAX - 4095, UINT64_MAX };
	struct elf_facts f;

	for (size_t at = 16; at < offsetof(struct tiny, interp); at += 2) {
		for (size_t i = 0; i < PF_ARRAY_LEN(mean); i++) {
			for (size_t width = 2; width <= 8; width *= 2) {
				struct tiny t = tiny();

				memcpy((char *)&t + at, &mean[i], width);
				CU_ASSERT(look_at(&t, sizeof t, &f) == 0);
				CU_ASSERT(f.nsan <= ELF_NEED_MAX && memchr(f.interp, '\0', sizeof f.interp) != NULL);
			}
		}
	}
}

static void test_cut_short(void)
{
	struct tiny t = tiny();
	struct elf_facts f;

	for (size_t len = 4; len < offsetof(struct tiny, fill); len++) {
		CU_ASSERT(look_at(&t, len, &f) == 0 && f.elf);
		CU_ASSERT(f.sane == (len >= offsetof(struct tiny, interp) + strlen(t.interp) + 1));
	}
}

static void test_sanitizers(void)
{
	CU_ASSERT(elf_is_sanitizer("libasan.so.8"));
	CU_ASSERT(elf_is_sanitizer("libtsan.so.2"));
	CU_ASSERT(elf_is_sanitizer("libclang_rt.asan-x86_64.so"));
	CU_ASSERT(!elf_is_sanitizer("libc.so.6"));
	CU_ASSERT(!elf_is_sanitizer("libpinfs.so"));
	CU_ASSERT(!elf_is_sanitizer(""));
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "known files", test_known },
		{ "mean values", test_mean_values },
		{ "cut short", test_cut_short },
		{ "sanitizers", test_sanitizers },
	};

	return unit_main("elf", cases, PF_ARRAY_LEN(cases));
}
