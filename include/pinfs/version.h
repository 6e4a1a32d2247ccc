/* SPDX-License-Identifier: BSD-3-Clause */
/* version.h - three numbers that change for different reasons: software, media, protocol. */
#ifndef PINFS_VERSION_H
#define PINFS_VERSION_H

#define PINFS_VERSION "0.1.0"		/* the programs and the library */
#define PINFS_MEDIA_MAJOR 1		/* another major is refused; features say the rest (FORMAT.md) */
#define PINFS_MEDIA_MINOR 0
#define PINFS_PROTO_MAJOR 1		/* session wire and ledger (PROTOCOL.md) */
#define PINFS_PROTO_MINOR 0

#endif
