/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stack.c - what lies at an address of another process: function, offset, file. /proc/PID/maps says which file, the
 * file's own symbol table the rest; both are somebody else's, and every offset in them is checked.
 *
 * Owns what it has mapped for the length of one look.
 */
#include "pinfsctl/pinfsctl.h"

#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
	const unsigned char *base;
	uint64_t bytes;
};

/* The file that is mapped at @pc, and the offset in it. False: none is. */
static bool mapped_at(uint64_t pid, uint64_t pc, char path[4096], uint64_t *off)
{
	char name[64], *line = NULL;
	bool found = false;
	size_t room = 0;
	FILE *f;

	(void)snprintf(name, sizeof name, "/proc/%" PRIu64 "/maps", pid);
	f = fopen(name, "re");
	while (f != NULL && !found && getline(&line, &room, f) > 0) {
		uint64_t lo, hi, at;
		int n = 0;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %n", &lo, &hi, &at, &n) < 3 ||
		    n == 0 || pc < lo || pc >= hi)
			continue;
		line[strcspn(line, "\n")] = '\0';
		(void)snprintf(path, 4096, "%s", line + n);
		*off = pc - lo + at;
		found = line[n] == '/';
	}
	free(line);
	if (f != NULL)
		(void)fclose(f);
	return found;
}

static const void *piece(const struct file *f, uint64_t off, uint64_t len)
{
	return off <= f->bytes && len <= f->bytes - off && off % 8 == 0 ? f->base + off : NULL;
}

/* Where the program header says that this byte of the file is loaded. */
static bool address_of(const struct file *f, const Elf64_Ehdr *eh, uint64_t off, uint64_t *addr)
{
	const Elf64_Phdr *ph = piece(f, eh->e_phoff, (uint64_t)eh->e_phnum * sizeof *ph);

	for (unsigned int i = 0; ph != NULL && i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && off >= ph[i].p_offset && off - ph[i].p_offset < ph[i].p_filesz) {
			*addr = off - ph[i].p_offset + ph[i].p_vaddr;
			return true;
		}
	return false;
}

/* The function of a symbol table that covers @addr. */
static bool search(const struct file *f, const Elf64_Shdr *table, const Elf64_Shdr *strings, uint64_t addr,
		   char name[128], uint64_t *into)
{
	const Elf64_Sym *sym = piece(f, table->sh_offset, table->sh_size);
	const char *text = NULL;

	if (strings->sh_offset <= f->bytes && strings->sh_size <= f->bytes - strings->sh_offset)
		text = (const char *)(f->base + strings->sh_offset);
	for (uint64_t i = 0; sym != NULL && text != NULL && i < table->sh_size / sizeof *sym; i++) {
		if (ELF64_ST_TYPE(sym[i].st_info) != STT_FUNC || addr < sym[i].st_value ||
		    addr - sym[i].st_value >= sym[i].st_size || sym[i].st_name >= strings->sh_size)
			continue;
		(void)snprintf(name, 128, "%.*s",
			       (int)strnlen(text + sym[i].st_name, strings->sh_size - sym[i].st_name),
			       text + sym[i].st_name);
		*into = addr - sym[i].st_value;
		return true;
	}
	return false;
}

static bool symbol(const struct file *f, uint64_t off, char name[128], uint64_t *into)
{
	static const uint32_t kinds[] = { SHT_SYMTAB, SHT_DYNSYM };
	const Elf64_Ehdr *eh = piece(f, 0, sizeof *eh);
	const Elf64_Shdr *sh;
	uint64_t addr;

	if (eh == NULL || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_shentsize != sizeof(Elf64_Shdr) ||
	    !address_of(f, eh, off, &addr))
		return false;
	sh = piece(f, eh->e_shoff, (uint64_t)eh->e_shnum * sizeof *sh);
	for (size_t k = 0; k < PF_ARRAY_LEN(kinds); k++)
		for (unsigned int i = 0; sh != NULL && i < eh->e_shnum; i++)
			if (sh[i].sh_type == kinds[k] && sh[i].sh_link < eh->e_shnum &&
			    search(f, &sh[i], &sh[sh[i].sh_link], addr, name, into))
				return true;
	return false;
}

static bool open_file(uint64_t pid, const char *path, struct file *f)
{
	char *inside = NULL;
	struct stat st;
	void *p = MAP_FAILED;
	int fd = -1;

	/* By way of the process's own root: it may see other files under these names. */
	if (asprintf(&inside, "/proc/%" PRIu64 "/root%s", pid, path) > 0)
		fd = open(inside, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	free(inside);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd >= 0)
		(void)close(fd);
	if (p == MAP_FAILED)
		return false;
	*f = (struct file){ .base = p, .bytes = (uint64_t)st.st_size };
	return true;
}

static bool stack_frame(uint64_t pid, uint64_t pc, char *out, size_t room)
{
	char path[4096], name[128];
	uint64_t off, into;
	struct file f;
	const char *file;
	bool known = false;

	if (!mapped_at(pid, pc, path, &off)) {
		(void)snprintf(out, room, "0x%" PRIx64, pc);
		return false;
	}
	file = strrchr(path, '/') + 1;
	/* One less: a call is the last thing of a function that does not return. */
	if (off > 0 && open_file(pid, path, &f)) {
		known = symbol(&f, off - 1, name, &into);
		(void)munmap((void *)(uintptr_t)f.base, f.bytes);
	}
	if (known)
		(void)snprintf(out, room, "%s+0x%" PRIx64 " (%s)", name, into + 1, file);
	else
		(void)snprintf(out, room, "0x%" PRIx64 " (%s+0x%" PRIx64 ")", pc, file, off);
	return strncmp(file, "libpinfs.so", 11) == 0;
}

void show_stacks(struct json_object *root, const char *what, bool as_json)
{
	const bool pins = strcmp(what, "pins") == 0;
	struct json_object *list, *pc;
	size_t n, depth;

	list = j_list(root, what, &n);
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i), *frames = json_object_new_array();
		bool outside = false;

		pc = j_list(o, "stack", &depth);
		if (!as_json && depth != 0 && pins)
			(void)printf("pin %" PRIu64 ".%" PRIu64, j_num(o, "session"), j_num(o, "record"));
		else if (!as_json && depth != 0)
			(void)printf("lease %" PRIu64, j_num(o, "id"));
		if (!as_json && depth != 0)
			(void)printf(" of process %" PRIu64 "\n", j_num(o, "pid"));
		for (size_t k = 0; k < depth; k++) {
			const char *text = json_object_get_string(json_object_array_get_idx(pc, k));
			const uint64_t at = text != NULL ? strtoull(text, NULL, 16) : 0;
			char frame[256];
			const bool ours = stack_frame(j_num(o, "pid"), at, frame, sizeof frame);

			outside = outside || !ours;
			if (outside && as_json)
				(void)json_object_array_add(frames, json_object_new_string(frame));
			else if (outside)
				show_line("", "%s", frame);
		}
		if (as_json && depth != 0)
			(void)json_object_object_add(o, "frames", frames);
		else
			(void)json_object_put(frames);
	}
}
