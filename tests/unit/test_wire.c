/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_wire.c - the decoder of the session's wire: what is a message, what is half of one, what is nonsense. Buffers
 * have exactly the size that the decoder is told, so AddressSanitizer sees any look past the end.
 */
#include <stdlib.h>
#include "front/wire.h"
#include "harness/unit.h"
#include "unit/space_env.h"

/* @len bytes of a message whose header says @says. */
static int frame(size_t len, uint32_t says, uint64_t unique, size_t *body_at)
{
	struct fuse_in_header h = { .len = says, .opcode = FUSE_INIT, .unique = unique }, got;
	uint8_t *buf = malloc(len ? len : 1);
	const uint8_t *body = NULL;
	int rc;

	memset(buf, 0xa5, len);
	memcpy(buf, &h, len < sizeof h ? len : sizeof h);
	rc = pf_wire_frame(buf, len, &got, &body);
	*body_at = body ? (size_t)(body - buf) : 0;
	free(buf);
	return rc;
}

static void frames(void)
{
	const uint32_t head = sizeof(struct fuse_in_header);
	size_t at, len;

	for (len = 0; len < head; len++)
		CU_ASSERT_EQUAL(frame(len, head, 1, &at), 0);
	CU_ASSERT_EQUAL(frame(head, head, 1, &at), 1);
	CU_ASSERT_EQUAL(at, head);
	CU_ASSERT_EQUAL(frame(head, head + 1, 1, &at), 0);
	CU_ASSERT_EQUAL(frame(head + 1, head + 1, 1, &at), 1);
	CU_ASSERT_EQUAL(frame(head + 100, head, 1, &at), 1);
	CU_ASSERT_EQUAL(frame(head, PF_P_MSG_MAX, 1, &at), 0);
	CU_ASSERT_EQUAL(frame(head, PF_P_MSG_MAX + 1, 1, &at), -1);
	CU_ASSERT_EQUAL(frame(head, UINT32_MAX, 1, &at), -1);
	CU_ASSERT_EQUAL(frame(head, head - 1, 1, &at), -1);
	CU_ASSERT_EQUAL(frame(head, 0, 1, &at), -1);
	CU_ASSERT_EQUAL(frame(head, head, 0, &at), -1);
}

static void taking(void)
{
	uint8_t src[10] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, out[16] = { 0 };
	struct pf_wire w = { src, sizeof src };

	CU_ASSERT(!pf_wire_take(&w, out, 11));
	CU_ASSERT_EQUAL(w.left, 10);
	CU_ASSERT(pf_wire_take(&w, out, 3));
	CU_ASSERT_EQUAL(out[2], 3);
	CU_ASSERT(!pf_wire_take(&w, out, 8));
	CU_ASSERT(pf_wire_take(&w, out, 7));
	CU_ASSERT_EQUAL(out[6], 10);
	CU_ASSERT(pf_wire_take(&w, out, 0));
	CU_ASSERT(!pf_wire_take(&w, out, 1));
}

/* Streams of random bytes, cut anywhere: each frame that is found lies inside of what was given. */
static void random_streams(void)
{
	uint64_t seed = 4242;
	unsigned int whole = 0, nonsense = 0;

	for (int i = 0; i < 20000; i++) {
		size_t len = rnd(&seed) % 300, at = 0;
		uint8_t *buf = malloc(len ? len : 1);
		struct fuse_in_header h;
		const uint8_t *body;
		int rc = 0;

		for (size_t k = 0; k < len; k++)
			buf[k] = (uint8_t)rnd(&seed);
		if (len >= 4 && rnd(&seed) % 2)
			memcpy(buf, &(uint32_t){ (uint32_t)(rnd(&seed) % 200) }, 4);
		while (at < len && (rc = pf_wire_frame(buf + at, len - at, &h, &body)) == 1) {
			CU_ASSERT(h.len >= sizeof h && h.len <= len - at);
			CU_ASSERT(body + (h.len - sizeof h) <= buf + len);
			at += h.len;
			whole++;
		}
		nonsense += rc < 0;
		free(buf);
	}
	CU_ASSERT(whole > 100);
	CU_ASSERT(nonsense > 100);
}

int main(void)
{
	static const struct unit_case cases[] = {
		{ "frames", frames },
		{ "taking", taking },
		{ "random streams", random_streams },
	};

	return unit_main("wire", cases, PF_ARRAY_LEN(cases));
}
