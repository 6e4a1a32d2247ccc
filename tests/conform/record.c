/* SPDX-License-Identifier: BSD-3-Clause */
/* record.c - recorded answers: lines "id<TAB>answer", as --format=tsv writes them; '#' begins a comment. */
#include "conform/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/cli.h"

struct line { char *id, *answer; };

struct record {
	struct line *line;
	size_t n;
};

static bool add(struct record *r, const char *id, const char *answer)
{
	struct line *grown = realloc(r->line, (r->n + 1) * sizeof *grown);

	if (grown == NULL)
		return false;
	r->line = grown;
	grown[r->n] = (struct line){ strdup(id), strdup(answer) };
	r->n++;
	return grown[r->n - 1].id != NULL && grown[r->n - 1].answer != NULL;
}

void record_free(struct record *r)
{
	for (size_t i = 0; r != NULL && i < r->n; i++) {
		free(r->line[i].id);
		free(r->line[i].answer);
	}
	if (r != NULL)
		free(r->line);
	free(r);
}

struct record *record_read(const char *path)
{
	struct record *r = calloc(1, sizeof *r);
	FILE *f = fopen(path, "re");
	char line[1024];
	unsigned int nr = 0;
	bool ok = r != NULL && f != NULL;

	if (f == NULL)
		cli_error("%s: %s", path, strerror(errno));
	while (ok && fgets(line, sizeof line, f) != NULL) {
		char *tab = strchr(line, '\t');

		nr++;
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '\0' || line[0] == '#')
			continue;
		ok = tab != NULL && tab != line && tab[1] != '\0' && strlen(tab + 1) < ANSWER_MAX;
		if (!ok) {
			cli_error("%s:%u: not a line of an id, a tab and an answer", path, nr);
			break;
		}
		*tab = '\0';
		ok = add(r, line, tab + 1);
	}
	if (ok && ferror(f)) {
		cli_error("%s: %s", path, strerror(errno));
		ok = false;
	}
	if (f != NULL)
		(void)fclose(f);
	if (ok)
		return r;
	record_free(r);
	return NULL;
}

const char *record_find(const struct record *r, const char *id)
{
	for (size_t i = 0; i < r->n; i++)
		if (strcmp(r->line[i].id, id) == 0)
			return r->line[i].answer;
	return NULL;
}
