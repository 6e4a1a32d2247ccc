/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * svg.c - draws a timeline: numbered moments on an axis that is stretched so that each has room, a lane for each
 * process, bars, arrows, the bytes of the file, and the story in sentences.
 *
 * Plain SVG 1.1 with a background of its own, so it reads the same on light and on dark pages. No text may lie on
 * another: its width is estimated from above, and a place is looked for that is free. Owns nothing.
 */
#include "pinfsctl/timeline.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "lib/units.h"

#define W 1200.0			/* of the picture */
#define LEFT 170.0			/* lanes begin */
#define RIGHT (W - 36.0)
#define LAST (W - 196.0)		/* the last moment: behind it is room for a label */
#define ROW 26.0
#define BAR 18.0
#define CHAR 6.9			/* no wider is a character of 12 pixels on average, in the fonts below */
#define SMALL 6.3			/* of 11 */
#define CLOSE_NS 1000			/* moments so near are one */
#define FILE_ROWS 12

static const struct look { const char *fill, *text, *name; } looks[TL_KINDS] = {
	[TL_PIN] = { "#2f74c0", "white", "pin" },
	[TL_DMA] = { "#7d4fb8", "white", "DMA" },
	[TL_WAIT] = { "url(#wait)", "dark", "waits" },
	[TL_UNMAP] = { "#2b8f84", "white", "unmap" },
	[TL_WORK] = { "#c2453f", "white", "changes the file" },
	[TL_CALL] = { "#e4e7ee", "dark", "the call" },
	[TL_PARKED] = { "#f6ecd2", "dark", "parked" },
	[TL_LOOK] = { "#1f2430", "dark", "looks at the pins" },
};

struct box { double x0, x1, y; };	/* a text's */

struct axis {
	int64_t at[TL_MARKS];		/* distinct moments */
	double x[TL_MARKS];
	unsigned int n;
};

struct pic {
	const struct timeline *t;
	FILE *f;
	struct axis ax;
	struct box box[512];
	unsigned int nbox;
	double row_end[TL_LANES][32];	/* where the last thing of a row ends */
	unsigned int rows[TL_LANES];
	double top[TL_LANES];
	struct place { unsigned int row; double x0, x1, text; bool inside; } place[TL_BARS];
};

/* ---- text ---- */

static double width(const char *s, double per)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return (double)n * per;
}

/* What may stand in XML: names come from others. */
static void escape(FILE *f, const char *s)
{
	for (; *s != '\0'; s++) {
		const unsigned char c = (unsigned char)*s;

		if (c == '<')
			(void)fputs("&lt;", f);
		else if (c == '>')
			(void)fputs("&gt;", f);
		else if (c == '&')
			(void)fputs("&amp;", f);
		else if (c == '"')
			(void)fputs("&quot;", f);
		else
			(void)fputc(c < 0x20 || c >= 0x7f ? '?' : c, f);
	}
}

static void text(struct pic *p, double x, double y, const char *class, const char *s)
{
	(void)fprintf(p->f, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
	escape(p->f, s);
	(void)fputs("</text>\n", p->f);
}

/* ---- the axis ---- */

static int by_time(const void *a, const void *b)
{
	const struct tl_mark *x = a, *y = b;

	return x->at != y->at ? (x->at < y->at ? -1 : 1) : 0;
}

/* Distances grow with the logarithm of the time between: what takes a microsecond is seen beside what takes a second.
 */
static void make_axis(struct pic *p)
{
	struct axis *a = &p->ax;
	double sum = 0, gap[TL_MARKS] = { 0 }, x = LEFT + 26.0;

	for (unsigned int i = 0; i < p->t->nmark; i++)
		if (a->n == 0 || p->t->mark[i].at - a->at[a->n - 1] > CLOSE_NS)
			a->at[a->n++] = p->t->mark[i].at;
	for (unsigned int i = 1; i < a->n; i++) {
		gap[i] = 1.0 + log10(1.0 + (double)(a->at[i] - a->at[i - 1]) / 1000.0) / 2.0;
		sum += gap[i];
	}
	for (unsigned int i = 0; i < a->n; i++) {
		x += i != 0 ? gap[i] / sum * (LAST - LEFT - 26.0) : 0;
		a->x[i] = x;
	}
}

static double at(const struct pic *p, int64_t ns)
{
	const struct axis *a = &p->ax;

	if (ns < a->at[0])
		return LEFT + 4.0;
	for (unsigned int i = 1; i < a->n; i++)
		if (ns <= a->at[i])
			return a->x[i - 1] + (a->x[i] - a->x[i - 1]) * (double)(ns - a->at[i - 1]) /
			       (double)(a->at[i] - a->at[i - 1]);
	return ns <= a->at[a->n - 1] + CLOSE_NS ? a->x[a->n - 1] : RIGHT;
}

/* The number of the moment that @ns belongs to. */
static unsigned int number(const struct pic *p, int64_t ns)
{
	unsigned int i = p->ax.n;

	while (i > 1 && p->ax.at[i - 1] > ns)
		i--;
	return i;
}

static void draw_axis(struct pic *p, int64_t zero, double y, double bottom)
{
	double last[2] = { 0, 0 };
	char said[48] = "";

	for (unsigned int i = 0; i < p->ax.n; i++) {
		const int64_t ns = p->ax.at[i] - zero;
		char time[48], word[32];
		double w, x;
		unsigned int row;

		(void)units_show_ns((uint64_t)(ns < 0 ? -ns : ns), word, sizeof word);
		(void)snprintf(time, sizeof time, "%s%s", ns < 0 ? "-" : ns > 0 ? "+" : "", ns != 0 ? word : "0");
		if (strcmp(time, said) == 0) {
			(void)units_show_ns((uint64_t)(p->ax.at[i] - p->ax.at[i - 1]), word, sizeof word);
			(void)snprintf(time, sizeof time, "%s later", word);
		} else {
			(void)snprintf(said, sizeof said, "%s", time);
		}
		w = width(time, SMALL);
		x = p->ax.x[i];
		row = last[0] < x - w / 2 ? 0 : 1;
		if (row == 1 && last[1] >= x - w / 2)
			time[0] = '\0';			/* the story says it */
		(void)fprintf(p->f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"guide\"/>\n", x,
			      y + 11.0, x, bottom);
		(void)fprintf(p->f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"10\" class=\"dot\"/>\n", x, y);
		(void)snprintf(word, sizeof word, "%u", i + 1);
		text(p, x, y + 4.0, "num", word);
		if (time[0] != '\0') {
			text(p, x, y - 16.0 - 14.0 * row, "time", time);
			last[row] = x + w / 2 + 6.0;
		}
	}
}

/* ---- lanes ---- */

/* A row of the lane in which [x0, x1] is free. */
static unsigned int find_row(struct pic *p, unsigned int lane, double x0, double x1)
{
	unsigned int r = 0;

	while (r < p->rows[lane] && p->row_end[lane][r] > x0 - 4.0)
		r++;
	if (r == p->rows[lane] && r < 31)
		p->row_end[lane][p->rows[lane]++] = 0;
	p->row_end[lane][r] = x1;
	return r;
}

/* Each bar with its label in or behind it, in a row of its lane where nothing else is. */
static void place_bars(struct pic *p)
{
	for (unsigned int i = 0; i < p->t->nbar; i++) {
		const struct tl_bar *b = &p->t->bar[i];
		struct place *q = &p->place[i];
		const double w = width(b->label, CHAR);
		double from, to;

		q->x0 = at(p, b->from);
		q->x1 = at(p, b->to);
		if (q->x1 < q->x0 + 5.0)
			q->x1 = q->x0 + 5.0;
		q->inside = w + 10.0 <= q->x1 - q->x0;
		q->text = q->inside ? q->x0 + 6.0 : q->x1 + 5.0;
		if (!q->inside && q->text + w > W - 8.0)
			q->text = q->x0 - 5.0 - w;
		from = q->text < q->x0 ? q->text : q->x0;
		to = q->text + w > q->x1 ? q->text + w : q->x1;
		q->row = find_row(p, b->lane, from, to);
	}
}

/* find_row() takes what comes later for what lies further right. */
static void sort_bars(struct timeline *t)
{
	for (unsigned int i = 1; i < t->nbar; i++)
		for (unsigned int k = i; k > 0 && t->bar[k].from < t->bar[k - 1].from; k--) {
			const struct tl_bar b = t->bar[k];

			t->bar[k] = t->bar[k - 1];
			t->bar[k - 1] = b;
		}
}

static double draw_lanes(struct pic *p, double y)
{
	for (unsigned int i = 0; i < p->t->nlane; i++) {
		const double h = (p->rows[i] > 1 ? p->rows[i] : 2) * ROW + 8.0;

		p->top[i] = y;
		(void)fprintf(p->f, "<rect x=\"8\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" class=\"%s\"/>\n", y,
			      W - 16.0, h, i % 2 == 0 ? "even" : "odd");
		text(p, 18.0, y + 22.0, "lane", p->t->lane[i].title);
		text(p, 18.0, y + 38.0, "below", p->t->lane[i].below);
		y += h;
	}
	return y;
}

static double middle(const struct pic *p, unsigned int lane, unsigned int row)
{
	return p->top[lane] + 4.0 + ROW * row + ROW / 2;
}

static void draw_bars(struct pic *p)
{
	for (unsigned int i = 0; i < p->t->nbar; i++) {
		const struct tl_bar *b = &p->t->bar[i];
		const struct place *q = &p->place[i];
		const double y = middle(p, b->lane, q->row);

		if (b->kind == TL_LOOK)
			(void)fprintf(p->f, "<path d=\"M %.1f %.1f l 6 6 l -6 6 l -6 -6 z\" fill=\"%s\"/>\n", q->x0,
				      y - 6.0, looks[b->kind].fill);
		else
			(void)fprintf(p->f,
				      "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"3\" fill=\"%s\" "
				      "class=\"bar\"/>\n",
				      q->x0, y - BAR / 2, q->x1 - q->x0, BAR, looks[b->kind].fill);
		text(p, b->kind == TL_LOOK ? q->text + 3.0 : q->text, y + 4.0, q->inside ? looks[b->kind].text : "dark",
		     b->label);
	}
}

/* The row of what begins or ends in the lane then, or goes on; the first, when there is nothing. */
static unsigned int row_at(const struct pic *p, unsigned int lane, int64_t ns)
{
	unsigned int row = 0;

	for (unsigned int i = 0; i < p->t->nbar; i++) {
		const struct tl_bar *b = &p->t->bar[i];

		if (b->lane != lane || b->kind == TL_CALL)
			continue;
		if (b->from == ns || b->to == ns)
			return p->place[i].row;
		if (b->from < ns && ns < b->to)
			row = p->place[i].row;
	}
	return row;
}

static void draw_arrows(struct pic *p)
{
	for (unsigned int i = 0; i < p->t->narrow; i++) {
		const struct tl_arrow *a = &p->t->arrow[i];
		const double x0 = at(p, a->at), x1 = at(p, a->until);
		double y0 = middle(p, a->from, row_at(p, a->from, a->at));
		double y1 = middle(p, a->to, row_at(p, a->to, a->until));
		const double way = y1 > y0 ? 1.0 : -1.0;

		y0 += way * BAR / 2;
		y1 -= way * (BAR / 2 + 1.0);
		(void)fprintf(p->f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"arrow\"/>\n", x0, y0,
			      x1, y1 - way * 5.0);
		(void)fprintf(p->f, "<path d=\"M %.1f %.1f l 4 %.1f l -8 0 z\" class=\"head\"/>\n", x1, y1, way * -7.0);
	}
}

/* ---- the file ---- */

static void byte_label(struct pic *p, double x, double y, uint64_t n)
{
	char word[32];
	double w;

	(void)units_show_bytes(n, word, sizeof word);
	w = width(word, SMALL) / 2;
	for (unsigned int i = 0; i < p->nbox; i++)
		if (p->box[i].x0 == x - w && p->box[i].x1 == x + w)
			return;				/* it is there */
	for (int tries = 0; tries < 3; tries++) {
		bool taken = false;

		for (unsigned int i = 0; i < p->nbox && !taken; i++)
			taken = p->box[i].y == y && p->box[i].x0 < x + w + 3.0 && x - w - 3.0 < p->box[i].x1;
		if (taken) {
			y += 13.0;
			continue;
		}
		if (p->nbox < 512)
			p->box[p->nbox++] = (struct box){ x - w, x + w, y };
		text(p, x, y, "time", word);
		return;
	}
}

static double draw_file(struct pic *p, double y)
{
	const struct timeline *t = p->t;
	uint64_t lo = t->foff, hi = t->len < UINT64_MAX - t->foff ? t->foff + t->len : t->foff + 4096;
	double scale, x0, x1;
	unsigned int rows = 0;

	for (unsigned int i = 0; i < t->nbar; i++)
		if (t->bar[i].bytes) {
			lo = t->bar[i].foff < lo ? t->bar[i].foff : lo;
			hi = t->bar[i].foff + t->bar[i].len > hi ? t->bar[i].foff + t->bar[i].len : hi;
		}
	scale = (RIGHT - 60.0 - LEFT - 10.0) / (double)(hi - lo);
	x0 = LEFT + 10.0 + (double)(t->foff - lo) * scale;
	x1 = t->len >= UINT64_MAX - t->foff ? RIGHT : x0 + (double)t->len * scale;
	text(p, 18.0, y + 22.0, "lane", t->file);
	text(p, 18.0, y + 38.0, "below", "its bytes");
	(void)fprintf(
		p->f,
		"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"url(#gone)\" class=\"bar\"/>\n", x0,
		y + 8.0, x1 - x0, BAR);
	text(p, x0 + 6.0 < x1 - 130.0 ? x0 + 6.0 : x0 - 6.0 - 16 * CHAR, y + 8.0 + BAR / 2 + 4.0, "onhatch",
	     "leaves the file");
	for (unsigned int i = 0; i < t->nbar && rows < FILE_ROWS; i++) {
		const struct tl_bar *b = &t->bar[i];
		double from, to, w;

		if (!b->bytes)
			continue;
		from = LEFT + 10.0 + (double)(b->foff - lo) * scale;
		to = from + (double)b->len * scale;
		to = to < from + 3.0 ? from + 3.0 : to;
		w = width(b->label, CHAR);
		rows++;
		(void)fprintf(p->f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"3\" fill=\"%s\" "
			      "class=\"bar\"/>\n", from, y + 8.0 + ROW * rows, to - from, BAR, looks[TL_PIN].fill);
		text(p, w + 12.0 < to - from ? from + 6.0 : to + 6.0 + w < W - 8.0 ? to + 6.0 : from - 6.0 - w,
		     y + 8.0 + ROW * rows + BAR / 2 + 4.0, w + 12.0 < to - from ? "white" : "dark", b->label);
	}
	y += 8.0 + ROW * (rows + 1) + 10.0;
	(void)fprintf(p->f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"rule\"/>\n", LEFT + 10.0,
		      y - 8.0, RIGHT, y - 8.0);
	byte_label(p, x0, y + 6.0, t->foff);
	if (t->len < UINT64_MAX - t->foff)
		byte_label(p, x1, y + 6.0, t->foff + t->len);
	for (unsigned int i = 0; i < t->nbar; i++)
		if (t->bar[i].bytes) {
			byte_label(p, LEFT + 10.0 + (double)(t->bar[i].foff - lo) * scale, y + 6.0, t->bar[i].foff);
			byte_label(p, LEFT + 10.0 + (double)(t->bar[i].foff + t->bar[i].len - lo) * scale, y + 6.0,
				   t->bar[i].foff + t->bar[i].len);
		}
	return y + 6.0 + 13.0 * 2;
}

/* ---- legend and story ---- */

static void draw_legend(struct pic *p, double y)
{
	static const enum tl_kind kinds[] = { TL_CALL, TL_WAIT, TL_UNMAP, TL_PIN, TL_DMA, TL_PARKED, TL_LOOK, TL_WORK };
	double x = 18.0;

	for (unsigned int i = 0; i < PF_ARRAY_LEN(kinds); i++) {
		const struct look *k = &looks[kinds[i]];

		if (kinds[i] == TL_LOOK)
			(void)fprintf(p->f, "<path d=\"M %.1f %.1f l 6 6 l -6 6 l -6 -6 z\" fill=\"%s\"/>\n", x + 8.0,
				      y - 10.0, k->fill);
		else
			(void)fprintf(p->f,
				      "<rect x=\"%.1f\" y=\"%.1f\" width=\"16\" height=\"12\" rx=\"2\" fill=\"%s\" "
				      "class=\"bar\"/>\n",
				      x, y - 10.0, k->fill);
		text(p, x + 21.0, y, "legend", k->name);
		x += 21.0 + width(k->name, SMALL) + 20.0;
	}
	text(p, x, y, "legend", "The axis is stretched: times are at the numbers.");
}

/* Sentences of the same moment share a number. @draw false: only how high it is. */
static double draw_story(struct pic *p, double y, bool draw)
{
	const struct timeline *t = p->t;
	const unsigned int half = (t->nmark + 1) / 2;
	unsigned int before = 0;
	double at_y = y;

	for (unsigned int i = 0; i < t->nmark; i++) {
		const unsigned int n = number(p, t->mark[i].at);
		const double x = i < half ? 18.0 : W / 2 + 8.0;
		char word[32];

		if (i == half)
			at_y = y;
		if (draw && (n != before || i == half)) {
			(void)fprintf(p->f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"9\" class=\"dot\"/>\n", x + 9.0,
				      at_y - 4.0);
			(void)snprintf(word, sizeof word, "%u", n);
			text(p, x + 9.0, at_y, "num", word);
		}
		if (draw)
			text(p, x + 26.0, at_y, "story", t->mark[i].text);
		before = n;
		at_y += 21.0;
	}
	return y + 21.0 * half;
}

static void head(struct pic *p, double height)
{
	(void)fprintf(
		p->f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 "
		"0 %.0f %.0f\">\n"
		"<style type=\"text/css\">\n"
		"text { font-family: Arial, Helvetica, 'Liberation Sans', sans-serif; font-size: 12px; fill: #1f2430; "
		"}\n"
		".title { font-size: 17px; font-weight: bold; } .lane { font-weight: bold; }\n"
		".below, .legend, .subtitle { font-size: 11px; fill: #5b6270; }\n"
		".time { font-size: 11px; text-anchor: middle; } .num { font-size: 11px; font-weight: bold; "
		"text-anchor: middle;"
		" fill: #ffffff; }\n"
		".white { fill: #ffffff; } .dark { fill: #1f2430; }\n"
		".dot { fill: #3d4657; } .guide { stroke: #b9bfca; stroke-width: 1; stroke-dasharray: 2 3; }\n"
		".even { fill: #f6f7f9; } .odd { fill: #ffffff; } .bar { stroke: #5b6270; stroke-width: 0.6; }\n"
		".arrow { stroke: #1f2430; stroke-width: 1.4; } .head { fill: #1f2430; } .rule { stroke: #5b6270; }\n"
		".onhatch { font-weight: bold; }\n"
		"</style>\n<defs>\n"
		"<pattern id=\"wait\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" "
		"patternTransform=\"rotate(45)\">"
		"<rect width=\"8\" height=\"8\" fill=\"#f6d488\"/><rect width=\"3\" height=\"8\" "
		"fill=\"#f0c25c\"/></pattern>\n"
		"<pattern id=\"gone\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" "
		"patternTransform=\"rotate(-45)\">"
		"<rect width=\"8\" height=\"8\" fill=\"#f7e3e2\"/><rect width=\"2\" height=\"8\" "
		"fill=\"#e9b9b6\"/></pattern>\n"
		"</defs>\n"
		"<rect x=\"0.5\" y=\"0.5\" width=\"%.0f\" height=\"%.0f\" rx=\"6\" fill=\"#ffffff\" "
		"stroke=\"#c8ccd4\"/>\n",
		W, height, W, height, W - 1.0, height - 1.0);
	(void)fputs("<title>", p->f);
	escape(p->f, p->t->title);
	(void)fputs("</title>\n", p->f);
}

int svg_draw(struct timeline *t, FILE *f)
{
	struct pic *p = calloc(1, sizeof *p);
	double lanes = 0, file = 0, y;
	int64_t zero = 0;

	if (p == NULL || t->nmark == 0) {
		free(p);
		return -1;
	}
	p->t = t;
	p->f = f;
	zero = t->mark[0].at;			/* the call */
	qsort(t->mark, t->nmark, sizeof *t->mark, by_time);
	sort_bars(t);
	make_axis(p);
	place_bars(p);
	for (unsigned int i = 0; i < t->nlane; i++)
		lanes += (p->rows[i] > 1 ? p->rows[i] : 2) * ROW + 8.0;
	for (unsigned int i = 0; i < t->nbar; i++)
		file += t->bar[i].bytes && file < ROW * FILE_ROWS ? ROW : 0;
	y = 126.0 + lanes + 20.0;
	head(p, draw_story(p, y + file + ROW + 92.0, false) + 4.0);
	text(p, 18.0, 28.0, "title", t->title);
	text(p, 18.0, 46.0, "subtitle", t->subtitle);
	(void)draw_lanes(p, 126.0);
	draw_axis(p, zero, 106.0, 126.0 + lanes);
	draw_bars(p);
	draw_arrows(p);
	y = draw_file(p, y);
	draw_legend(p, y + 10.0);
	(void)draw_story(p, y + 44.0, true);
	(void)fputs("</svg>\n", f);
	free(p);
	return 0;
}
