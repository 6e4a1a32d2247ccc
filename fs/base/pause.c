/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pause.c - which pause points are armed, and who stands at them.
 *
 * Owns struct pf_pause. Takes its own lock (LEAF); go() is called without it. What stands belongs to whoever put it
 * there; here it is only on a list.
 */
#include "base/pause.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/lock.h"
#include "base/log.h"

#define NAMED(id, name, what) [PF_AT_##id] = (name),
const char *const pf_point_name[PF_AT_NR] = { PF_POINT_LIST(NAMED) };

struct pf_pause {
	struct pf_mutex lock;		/* LEAF: all below */
	struct pf_armed armed[PF_AT_NR];
	struct pf_stand *first;		/* in the order in which they came */
	uint64_t turn;
	bool over;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

int pf_pause_init(struct pf_fs *fs)
{
	struct pf_pause *p = calloc(1, sizeof *p);

	if (p == NULL)
		return -ENOMEM;
	pf_mutex_init(&p->lock, PF_RANK_LEAF);
	fs->pause = p;
	pf_warn("pause_points: root may stop operations of this mount");
	return 0;
}

void pf_pause_fini(struct pf_fs *fs)
{
	struct pf_pause *p = fs->pause;

	if (p == NULL)
		return;
	assert(p->first == NULL);
	pf_mutex_fini(&p->lock);
	free(p);
	fs->pause = NULL;
}

/* Lock held. */
static void take_off(struct pf_pause *p, struct pf_stand *s)
{
	struct pf_stand **at = &p->first;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->stands = false;
}

/* Lock held. */
static bool stops(struct pf_pause *p, const struct pf_stand *s, enum pf_point at)
{
	struct pf_armed *a = &p->armed[at];

	if (p->over || !a->on || (a->ino != 0 && a->ino != s->ino))
		return false;
	a->stood++;
	if (a->left != 0 && --a->left == 0)
		a->on = false;
	return true;
}

bool pf_pause_at(struct pf_fs *fs, struct pf_stand *s, enum pf_point at, bool *begun)
{
	struct pf_pause *p = fs->pause;
	struct pf_stand **last;
	bool stands;

	*begun = false;
	pf_mutex_lock(&p->lock);
	stands = s->stands;
	if (!stands && !s->let && stops(p, s, at)) {
		s->at = at;
		s->turn = ++p->turn;
		s->since_ns = now_ns();
		s->next = NULL;
		for (last = &p->first; *last != NULL; last = &(*last)->next)
			;
		*last = s;
		s->stands = *begun = stands = true;
	}
	if (!stands)
		s->let = false;
	pf_mutex_unlock(&p->lock);
	return stands;
}

bool pf_pause_leave(struct pf_fs *fs, struct pf_stand *s)
{
	struct pf_pause *p = fs->pause;
	bool stood;

	if (p == NULL)
		return false;
	pf_mutex_lock(&p->lock);
	stood = s->stands;
	if (stood)
		take_off(p, s);
	s->let = false;
	pf_mutex_unlock(&p->lock);
	return stood;
}

/* Those who stand at @at (PF_AT_NR: anywhere) now; who comes later, comes to what is armed then. */
static void let_go(struct pf_pause *p, enum pf_point at, uint64_t ino)
{
	struct pf_stand *s;
	uint64_t until;

	pf_mutex_lock(&p->lock);
	until = p->turn;
	for (;;) {
		for (s = p->first; s != NULL; s = s->next)
			if ((at == PF_AT_NR || s->at == at) && (ino == 0 || s->ino == ino) && s->turn <= until)
				break;
		if (s == NULL)
			break;
		take_off(p, s);
		s->let = true;
		pf_mutex_unlock(&p->lock);
		s->go(s);
		pf_mutex_lock(&p->lock);
	}
	pf_mutex_unlock(&p->lock);
}

void pf_pause_end(struct pf_fs *fs)
{
	struct pf_pause *p = fs->pause;

	if (p == NULL)
		return;
	pf_mutex_lock(&p->lock);
	p->over = true;
	pf_mutex_unlock(&p->lock);
	let_go(p, PF_AT_NR, 0);
}

static int find(const char *name, enum pf_point *at)
{
	for (*at = 0; *at < PF_AT_NR; ++*at)
		if (strcmp(name, pf_point_name[*at]) == 0)
			return 0;
	return *name == '\0' ? 0 : -EINVAL;
}

int pf_pause_arm(struct pf_fs *fs, const char *point, uint64_t ino, uint64_t count)
{
	struct pf_pause *p = fs->pause;
	enum pf_point at;

	if (p == NULL)
		return -EOPNOTSUPP;
	if (find(point, &at) != 0 || at == PF_AT_NR)
		return -EINVAL;
	pf_mutex_lock(&p->lock);
	p->armed[at] = (struct pf_armed){ .on = true, .ino = ino, .left = count };
	pf_mutex_unlock(&p->lock);
	return 0;
}

int pf_pause_resume(struct pf_fs *fs, const char *point, uint64_t ino)
{
	struct pf_pause *p = fs->pause;
	enum pf_point at;

	if (p == NULL)
		return -EOPNOTSUPP;
	if (find(point, &at) != 0)
		return -EINVAL;
	pf_mutex_lock(&p->lock);
	for (enum pf_point i = 0; i < PF_AT_NR; i++)
		if ((at == PF_AT_NR || i == at) && (ino == 0 || p->armed[i].ino == ino))
			p->armed[i].on = false;
	pf_mutex_unlock(&p->lock);
	let_go(p, at, ino);
	return 0;
}

unsigned int pf_pause_standing(struct pf_fs *fs, struct pf_standing *out, unsigned int max)
{
	struct pf_pause *p = fs->pause;
	unsigned int n = 0;

	if (p == NULL)
		return 0;
	pf_mutex_lock(&p->lock);
	for (const struct pf_stand *s = p->first; s != NULL && n < max; s = s->next)
		out[n++] = (struct pf_standing){ s->ino, s->since_ns, s->what, s->at, s->pid };
	pf_mutex_unlock(&p->lock);
	return n;
}

void pf_pause_armed(struct pf_fs *fs, struct pf_armed out[PF_AT_NR])
{
	struct pf_pause *p = fs->pause;

	memset(out, 0, PF_AT_NR * sizeof *out);
	if (p == NULL)
		return;
	pf_mutex_lock(&p->lock);
	memcpy(out, p->armed, sizeof p->armed);
	pf_mutex_unlock(&p->lock);
}
