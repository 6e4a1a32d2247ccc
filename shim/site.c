/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * site.c - io_uring's system calls made by an instruction in the program's own text (liburing and fio have them so, on
 * x86-64), which no interposed name sees. The place is found by what compilers make of it, and five bytes of it are
 * replaced by a jump to a copy of the place that calls us. Owns the memory with these copies.
 *
 *	mov $426, %eax     <- these five bytes become the jump
 *	...                   up to some 60 bytes that move registers and memory about; they are copied
 *	syscall
 *   or
 *	mov %r15d, %eax    <- these three and the two of the syscall; in objects that have one of the others
 *	syscall
 *
 * In the first form nothing but the mov changes, so a thread that stands behind it goes on as it would have, and is not
 * seen once. Where anything else stands, or a jump in the same text could lead into the second form, the place is left
 * alone. The text is private memory then; the file is not changed. Nothing at all is looked at in a program that has no
 * window.
 *
 * Not on other processors: there, COVERAGE.md says what is seen.
 */
#include "site.h"

#include "async.h"

#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)

#define BACK 64U			/* from the mov to the syscall */
#define ROOM SH_PAGE			/* of copies, per piece of text */
#define REACH (INT64_C(0x7f000000))
#define SEEN 512U
#define SITES 40U			/* per piece of text; what ROOM has room for */

static pthread_mutex_t site_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long long adds = 0;	/* objects that had been loaded at the last look */
static uint64_t seen[SEEN];		/* text that has been looked at */
static unsigned int nseen;

/* ---- from the copy to sh_sys_seen() ---- */

/*
 * As the kernel does it: every register stays but rax, rcx and r11, the vector ones included. What called us has left
 * the red zone alone. The area of XSAVE has room for AVX-512, and a header of zeros.
 */
__asm__(".text\n"
	".type sh_site_entry, @function\n"
	"sh_site_entry:\n"
	"	.cfi_startproc\n"
	"	push %rbp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_offset %rbp, -16\n"
	"	mov %rsp, %rbp\n"
	"	.cfi_def_cfa_register %rbp\n"
	"	push %r9\n"
	"	push %r8\n"
	"	push %r10\n"
	"	push %rdx\n"
	"	push %rsi\n"
	"	push %rdi\n"
	"	push %rax\n"
	"	push %rbx\n"
	"	cld\n"
	"	lea 8(%rsp), %rbx\n"		/* number and arguments */
	"	sub $2752, %rsp\n"
	"	and $-64, %rsp\n"
	"	xor %eax, %eax\n"
	"	mov %rax, 512(%rsp)\n"
	"	mov %rax, 520(%rsp)\n"
	"	mov %rax, 528(%rsp)\n"
	"	mov %rax, 536(%rsp)\n"
	"	mov %rax, 544(%rsp)\n"
	"	mov %rax, 552(%rsp)\n"
	"	mov %rax, 560(%rsp)\n"
	"	mov %rax, 568(%rsp)\n"
	"	mov $0xe7, %eax\n"
	"	xor %edx, %edx\n"
	"	xsave64 (%rsp)\n"
	"	mov %rbx, %rdi\n"
	"	call sh_site_call\n"
	"	mov %rax, (%rbx)\n"
	"	mov $0xe7, %eax\n"
	"	xor %edx, %edx\n"
	"	xrstor64 (%rsp)\n"
	"	lea -8(%rbx), %rsp\n"
	"	pop %rbx\n"
	"	pop %rax\n"
	"	pop %rdi\n"
	"	pop %rsi\n"
	"	pop %rdx\n"
	"	pop %r10\n"
	"	pop %r8\n"
	"	pop %r9\n"
	"	pop %rbp\n"
	"	.cfi_def_cfa %rsp, 8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size sh_site_entry, .-sh_site_entry\n");
extern const char sh_site_entry[];

long sh_site_call(const long *nr_and_args);

__attribute__((used)) long sh_site_call(const long *a)
{
	int saved = errno;
	long r;

	if (a[0] == SYS_close)
		r = sh_uring_close(a[1]);
	else if (sh_sys_is_ours(a[0]))
		r = sh_sys_seen(a[0], a + 1);
	else
		r = sh_sys(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
	errno = saved;
	return r;
}

static bool has_xsave(void)
{
	uint32_t a = 1, b, c = 0, d;

	__asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return (c >> 27) & 1;			/* OSXSAVE */
}

/* ---- instructions ---- */

/*
 * Bytes of an instruction that means the same anywhere: registers, immediates, memory by registers, the stack. 0: any
 * other, or one that is not known here.
 */
static unsigned int plain_length(const unsigned char *p, const unsigned char *end)
{
	const unsigned char *at = p;
	unsigned int imm = 0, mod, rm;
	bool wide = false;

	if (end - at < 16)
		return 0;
	if (*at == 0x66 || *at == 0xf3)
		at++;
	if ((*at & 0xf0) == 0x40)
		wide = (*at++ & 8) != 0;
	if (*at >= 0x50 && *at <= 0x5f)			/* push, pop */
		return (unsigned int)(at + 1 - p);
	if (*at >= 0xb8 && *at <= 0xbf)			/* mov $, %reg */
		return (unsigned int)(at + 1 - p) + (wide ? 8 : 4);
	if (*at == 0x0f) {
		at++;
		if (!(*at == 0x10 || *at == 0x11 || *at == 0x28 || *at == 0x29 || *at == 0x1f || *at == 0x57 ||
		      *at == 0x6f || *at == 0x7f || *at == 0xb6 || *at == 0xb7 || (*at & 0xf0) == 0x40))
			return 0;			/* moves of vectors; nop; movzx; cmov */
	} else if (*at == 0x81 || *at == 0xc7) {
		imm = 4;
	} else if (*at == 0x83 || *at == 0xc6 || *at == 0x80 || *at == 0xc1) {
		imm = 1;
	} else if (!(*at == 0x63 || *at == 0x84 || *at == 0x85 || (*at >= 0x88 && *at <= 0x8b) || *at == 0x8d ||
		     (*at < 0x40 && (*at & 7) < 4))) {
		return 0;				/* arithmetic, mov, lea, movslq, test */
	}
	at++;
	mod = *at >> 6;
	rm = *at & 7;
	if (mod == 0 && rm == 5)
		return 0;				/* relative to the place */
	at++;
	if (mod != 3 && rm == 4) {
		if (mod == 0 && (*at & 7) == 5)
			imm += 4;
		at++;
	}
	if (mod == 1)
		imm += 1;
	else if (mod == 2)
		imm += 4;
	return (unsigned int)(at - p) + imm;
}

static bool number_at(const unsigned char *p, bool uring)
{
	uint32_t nr;

	if (*p != 0xb8)
		return false;
	memcpy(&nr, p + 1, sizeof nr);
	return (nr >= SYS_io_uring_setup && nr <= SYS_io_uring_register) || (uring && nr == SYS_close);
}

/* The mov that belongs to the syscall at @sys, or NULL. */
static unsigned char *number_of(unsigned char *lo, unsigned char *sys, const unsigned char *end, bool uring)
{
	unsigned int len;

	for (unsigned char *p = sys - 5; p >= lo && p + BACK > sys; p--) {
		unsigned char *q = p + 5;

		if (!number_at(p, uring))
			continue;
		while (q < sys && (len = plain_length(q, end)) != 0)
			q += len;
		if (q == sys)
			return p;
	}
	return NULL;
}

/* Could any jump of this text lead to @to? Bytes that are none count as well. */
static bool is_target(const unsigned char *lo, const unsigned char *hi, const unsigned char *to)
{
	int32_t rel;

	for (const unsigned char *p = to - 130 < lo ? lo : to - 130; p < to + 130 && p + 2 <= hi; p++) {
		if ((*p == 0xeb || (*p & 0xf0) == 0x70) && p + 2 + (signed char)p[1] == to)
			return true;
	}
	for (const unsigned char *p = lo; p + 6 <= hi; p++) {
		if (*p == 0xe9 || *p == 0xe8) {
			memcpy(&rel, p + 1, sizeof rel);
			if (p + 5 + rel == to)
				return true;
		} else if (*p == 0x0f && (p[1] & 0xf0) == 0x80) {
			memcpy(&rel, p + 2, sizeof rel);
			if (p + 6 + rel == to)
				return true;
		}
	}
	return false;
}

/* ---- one piece of text ---- */

struct text {
	unsigned char *lo, *hi;
	unsigned char *room, *at;	/* copies; NULL: none yet */
	struct {
		unsigned char *from, *copy;
	} site[SITES];
	unsigned int n;
	int err;
};

/* Memory that a jump of 32 bits reaches from all of the text. */
static unsigned char *near(const struct text *t)
{
	uint64_t lo = sh_addr(t->lo), hi = sh_addr(t->hi), at;
	void *p;

	for (uint64_t d = ROOM; d < (uint64_t)REACH - (hi - lo); d += d < (1U << 20) ? ROOM : UINT64_C(1) << 20) {
		for (int below = 1; below >= 0; below--) {
			if (below && lo < d + (1U << 20))
				continue;
			at = pf_round_down(below ? lo - d : hi + d, SH_PAGE);
			p = sh_mmap(sh_ptr(at), ROOM, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
			if (p == sh_ptr(at))
				return p;
			if (sh_mmap_err(p) == 0)
				(void)sh_sys(SYS_munmap, p, ROOM);
		}
	}
	return NULL;
}

static void put(struct text *t, const void *p, size_t n)
{
	memcpy(t->at, p, n);
	t->at += n;
}

static void put_rel(struct text *t, const unsigned char *to)
{
	int32_t rel = (int32_t)(to - (t->at + 4));

	put(t, &rel, sizeof rel);
}

/* Five bytes at once, as far as the processor does that: those of an aligned word. */
static int overwrite(unsigned char *at, const unsigned char five[5])
{
	unsigned char *page = sh_ptr(pf_round_down(sh_addr(at), SH_PAGE));
	unsigned char *word = sh_ptr(pf_round_down(sh_addr(at), 8));
	size_t len = (size_t)(pf_round_up(sh_addr(at) + 5, SH_PAGE) - sh_addr(page));
	long r = sh_sys(SYS_mprotect, page, len, PROT_READ | PROT_WRITE | PROT_EXEC);
	uint64_t v;

	if (r < 0)
		return (int)r;
	if (at + 5 <= word + 8) {
		memcpy(&v, word, sizeof v);
		memcpy((unsigned char *)&v + (at - word), five, 5);
		__atomic_store_n((uint64_t *)(void *)word, v, __ATOMIC_SEQ_CST);
	} else {
		memcpy(at, five, 5);
	}
	return (int)sh_sys(SYS_mprotect, page, len, PROT_READ | PROT_EXEC);
}

/* Of [from, sys) a copy, then ours in place of the syscall. */
static void copy_of(struct text *t, unsigned char *from, unsigned char *sys)
{
	static const unsigned char below[] = { 0x48, 0x8d, 0x64, 0x24, 0x80 };		/* lea -128(%rsp), %rsp */
	static const unsigned char call[] = { 0xff, 0x15 };				/* call *..(%rip) */
	static const unsigned char above[] = { 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0 };	/* lea 128(%rsp), %rsp */
	static const unsigned char jump = 0xe9;
	const void *entry = sh_site_entry;

	if (t->room == NULL && !t->err) {
		t->room = near(t);
		t->err = t->room == NULL ? -ENOMEM : 0;
		t->at = t->room;
		if (!t->err)
			put(t, &entry, sizeof entry);
	}
	if (t->err || t->n == SITES || t->room + ROOM - t->at < (int)BACK + 32)
		return;
	t->site[t->n].from = from;
	t->site[t->n++].copy = t->at;
	put(t, from, (size_t)(sys - from));
	put(t, below, sizeof below);
	put(t, call, sizeof call);
	put_rel(t, t->room);
	put(t, above, sizeof above);
	put(t, &jump, 1);
	put_rel(t, sys + 2);
}

/* The jumps, when all that they lead to is in place. */
static void redirect(struct text *t)
{
	unsigned char jump[5] = { 0xe9 };
	int32_t rel;

	if (!t->err)
		t->err = (int)sh_sys(SYS_mprotect, t->room, ROOM, PROT_READ | PROT_EXEC);
	for (unsigned int i = 0; i < t->n && !t->err; i++) {
		rel = (int32_t)(t->site[i].copy - (t->site[i].from + 5));
		memcpy(jump + 1, &rel, sizeof rel);
		t->err = overwrite(t->site[i].from, jump);
	}
}

/* mov %reg, %eax in front of a syscall. */
static unsigned char *register_of(const struct text *t, unsigned char *sys)
{
	unsigned char *p = sys - 3;

	if (p < t->lo || (p[0] & 0xfb) != 0x40 || p[1] != 0x89 || (p[2] & 0xc7) != 0xc0)
		return NULL;
	return is_target(t->lo, t->hi, sys) ? NULL : p;
}

static unsigned char *next_syscall(const struct text *t, unsigned char *p)
{
	static const unsigned char insn[2] = { 0x0f, 0x05 };

	return p < t->hi ? memmem(p, (size_t)(t->hi - p), insn, sizeof insn) : NULL;
}

static void search(struct text *t)
{
	unsigned char *sys, *from = NULL;

	for (sys = next_syscall(t, t->lo); sys != NULL && from == NULL; sys = next_syscall(t, sys + 2))
		from = number_of(t->lo, sys, t->hi, false);
	if (from == NULL)
		return;
	for (sys = next_syscall(t, t->lo); sys != NULL; sys = next_syscall(t, sys + 2)) {
		from = number_of(t->lo, sys, t->hi, true);
		if (from == NULL)
			from = register_of(t, sys);
		if (from != NULL)
			copy_of(t, from, sys);
	}
	redirect(t);
}

/* ---- all text ---- */

static bool skipped(const char *name)
{
	static const char *const not[] = { "ld-linux", "libc.so", "libpinfs.so", "linux-vdso", "libm.so", "libstdc++" };
	const char *base = strrchr(name, '/');

	base = base != NULL ? base + 1 : name;
	for (unsigned int i = 0; i < PF_ARRAY_LEN(not); i++) {
		if (strncmp(base, not[i], strlen(not[i])) == 0)
			return true;
	}
	return false;
}

static bool is_new(uint64_t lo)
{
	for (unsigned int i = 0; i < nseen; i++) {
		if (seen[i] == lo)
			return false;
	}
	if (nseen < SEEN)
		seen[nseen++] = lo;
	return true;
}

static int object(struct dl_phdr_info *i, size_t size, void *arg)
{
	unsigned long long *now = arg;

	if (size >= offsetof(struct dl_phdr_info, dlpi_subs) && now != NULL) {
		*now = i->dlpi_adds;
		if (i->dlpi_adds == adds)
			return 1;
	}
	if (skipped(i->dlpi_name))
		return 0;
	for (unsigned int k = 0; k < i->dlpi_phnum; k++) {
		const ElfW(Phdr) *ph = &i->dlpi_phdr[k];
		struct text t = { .lo = sh_ptr(i->dlpi_addr + ph->p_vaddr) };

		if (ph->p_type != PT_LOAD || (ph->p_flags & (PF_X | PF_W)) != PF_X || !is_new(sh_addr(t.lo)))
			continue;
		t.hi = t.lo + ph->p_memsz;
		if (t.lo <= (const unsigned char *)sh_site_entry && (const unsigned char *)sh_site_entry < t.hi)
			continue;
		search(&t);
		if (t.err)
			sh_log(SH_WARN, "%s: io_uring calls in its text are not seen: %s",
			       i->dlpi_name[0] != '\0' ? i->dlpi_name : "the program", strerrordesc_np(-t.err));
		if (t.n > 0)
			sh_log(SH_DEBUG, "%s: %u calls in its text are seen", i->dlpi_name, t.n);
	}
	return 0;
}

void sh_site_look(void)
{
	unsigned long long now;
	int saved = errno;

	if (!has_xsave() || (pid_t)sh_sys(SYS_getpid) != sh.pid)
		return;
	pthread_mutex_lock(&site_lock);
	now = adds;
	(void)dl_iterate_phdr(object, &now);
	adds = now;
	pthread_mutex_unlock(&site_lock);
	errno = saved;
}

#else

void sh_site_look(void)
{
}

#endif
