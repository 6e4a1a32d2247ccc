/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * far.h - the far side of calls that give memory to a device: VFIO, iommufd, V4L2, verbs. There is no such device here,
 * so far.so, which comes behind libpinfs.so in the order of look-up, defines ioctl() and the verbs, and is all of them.
 *
 * Its devices are descriptors of /dev/null: device nodes, and open files of their own, like the real ones. It answers
 * as the kernel's drivers do, "pins" by remembering what lies under each page - which block of the image, if it is a
 * window - and does DMA there later, whatever has become of the mapping or the block.
 */
#ifndef TESTS_PIN_FAR_H
#define TESTS_PIN_FAR_H

#include <stddef.h>
#include <stdint.h>

int far_open(void);			/* a device */
/* Mappings, buffers and regions that all devices have now. */
unsigned int far_count(void);
/* The next call fails with this errno. */
void far_fail(int err);
/* Are VFIO's calls answered by an iommufd's address space? 0: no. */
void far_compat(uint32_t ioas);
/* All that devices have is written with @byte; pages, or -1 when one could not be. */
long far_dma(int byte);
/* The same for one verbs region, as its device sees it: by address when it is on demand. */
long far_dma_region(const void *mr, int byte);
void far_forget(void);			/* as if all were closed */

#endif
