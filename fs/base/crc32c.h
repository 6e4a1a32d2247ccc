/* SPDX-License-Identifier: BSD-3-Clause */
/* crc32c.h - CRC32C (Castagnoli), by the CPU's instruction where there is one. */
#ifndef PF_BASE_CRC32C_H
#define PF_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue @crc over @len bytes. Start with 0; the usual inversions are inside. Does not block. */
uint32_t pf_crc32c(uint32_t crc, const void *buf, size_t len);

/* The same without the CPU's instruction: the reference that tests compare with. */
uint32_t pf_crc32c_soft(uint32_t crc, const void *buf, size_t len);

/* Checksum of @len bytes at @buf with the 4 bytes at offset @hole read as zero. */
uint32_t pf_crc32c_hole(const void *buf, size_t len, size_t hole);

#endif
