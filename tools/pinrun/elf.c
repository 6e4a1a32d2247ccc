/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * elf.c - reads program headers and the needed libraries of an ELF file.
 *
 * The file may be anything: every offset is proved to lie in it before it is used. Owns a mapping of it for the
 * length of the call. Takes no locks.
 */
#include "pinrun/elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pinfs/types.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OUR_DATA ELFDATA2LSB
#else
#define OUR_DATA ELFDATA2MSB
#endif

struct image {
	const uint8_t *base;
	uint64_t len;
	ElfW(Ehdr) eh;
};

/* Copies out, so nothing depends on the alignment of what the file says. */
static bool get(const struct image *im, uint64_t off, void *dst, size_t len)
{
	if (!pf_range_ok(off, len, im->len))
		return false;
	memcpy(dst, im->base + off, len);
	return true;
}

static bool get_str(const struct image *im, uint64_t off, char *dst, size_t room)
{
	size_t n;

	if (off >= im->len)
		return false;
	n = strnlen((const char *)im->base + off, pf_min64(im->len - off, room));
	if (n == room || n == im->len - off)
		return false;
	memcpy(dst, im->base + off, n + 1);
	return true;
}

static bool get_phdr(const struct image *im, unsigned int i, ElfW(Phdr) *ph)
{
	uint64_t at = (uint64_t)i * im->eh.e_phentsize;

	return im->eh.e_phoff <= im->len && get(im, im->eh.e_phoff + at, ph, sizeof *ph);
}

static bool file_offset(const struct image *im, uint64_t vaddr, uint64_t *off)
{
	ElfW(Phdr) ph;

	for (unsigned int i = 0; i < im->eh.e_phnum && get_phdr(im, i, &ph); i++) {
		if (ph.p_type == PT_LOAD && vaddr >= ph.p_vaddr && vaddr - ph.p_vaddr < ph.p_filesz &&
		    ph.p_offset <= im->len) {
			*off = ph.p_offset + (vaddr - ph.p_vaddr);
			return true;
		}
	}
	return false;
}

bool elf_is_sanitizer(const char *soname)
{
	static const char *const stem[] = { "libasan.so",   "libtsan.so",	"liblsan.so",
					    "libhwasan.so", "libclang_rt.asan", "libclang_rt.tsan" };

	for (size_t i = 0; i < sizeof(stem) / sizeof(stem[0]); i++) {
		if (strncmp(soname, stem[i], strlen(stem[i])) == 0)
			return true;
	}
	return false;
}

static void look_needed(const struct image *im, const ElfW(Phdr) *dynamic, struct elf_facts *out)
{
	uint64_t n = dynamic->p_filesz / sizeof(ElfW(Dyn)), strtab = 0;
	char name[sizeof(out->san[0])];
	ElfW(Dyn) d;

	if (dynamic->p_offset > im->len)
		return;
	/* Twice over the table: the strings' place may be named after the libraries. */
	for (uint64_t i = 0; i < n && get(im, dynamic->p_offset + i * sizeof d, &d, sizeof d) && d.d_tag != DT_NULL;
	     i++) {
		if (d.d_tag == DT_STRTAB && !file_offset(im, d.d_un.d_ptr, &strtab))
			return;
	}
	for (uint64_t i = 0; i < n && get(im, dynamic->p_offset + i * sizeof d, &d, sizeof d) && d.d_tag != DT_NULL;
	     i++) {
		if (d.d_tag == DT_NEEDED && d.d_un.d_val < im->len && out->nsan < ELF_NEED_MAX &&
		    get_str(im, strtab + d.d_un.d_val, name, sizeof name) && elf_is_sanitizer(name))
			memcpy(out->san[out->nsan++], name, sizeof name);
	}
}

static void look(struct image *im, struct elf_facts *out)
{
	unsigned char id[EI_NIDENT];
	ElfW(Phdr) ph;

	if (!get(im, 0, id, SELFMAG) || memcmp(id, ELFMAG, SELFMAG) != 0)
		return;
	out->elf = true;
	if (!get(im, 0, id, sizeof id))
		return;
	if (id[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) || id[EI_DATA] != OUR_DATA) {
		out->sane = true;
		return;
	}
	if (!get(im, 0, &im->eh, sizeof im->eh) || (im->eh.e_type != ET_EXEC && im->eh.e_type != ET_DYN) ||
	    im->eh.e_phentsize != sizeof ph)
		return;
	out->sane = true;
#if defined(__x86_64__)
	out->ours = im->eh.e_machine == EM_X86_64;
#elif defined(__aarch64__)
	out->ours = im->eh.e_machine == EM_AARCH64;
#else
	out->ours = true;
#endif
	for (unsigned int i = 0; i < im->eh.e_phnum; i++) {
		if (!get_phdr(im, i, &ph)) {
			out->sane = false;
			return;
		}
		if (ph.p_type == PT_INTERP && !get_str(im, ph.p_offset, out->interp, sizeof out->interp))
			out->sane = false;
		if (ph.p_type == PT_DYNAMIC)
			look_needed(im, &ph, out);
	}
	out->exec = im->eh.e_type == ET_EXEC || out->interp[0] != '\0';
}

int elf_look(const char *path, struct elf_facts *out)
{
	struct image im = { .base = NULL };
	struct stat st;
	void *map = MAP_FAILED;
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;

	memset(out, 0, sizeof *out);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0) {
		err = -errno;
		goto out_close;
	}
	if (st.st_size == 0)
		goto out_close;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED) {
		err = -errno;
		goto out_close;
	}
	im.base = map;
	im.len = (uint64_t)st.st_size;
	look(&im, out);
	(void)munmap(map, (size_t)st.st_size);
out_close:
	(void)close(fd);
	return err;
}
