/* SPDX-License-Identifier: BSD-3-Clause */
/* weak.h - calls of the library that one without leases does not have. */
#ifndef TOOLS_DMA_WEAK_H
#define TOOLS_DMA_WEAK_H
#pragma weak pinfs_pin_dma
#pragma weak pinfs_ledger_fd
#pragma weak pinfs_lease_take_window
#pragma weak pinfs_lease_drop
#pragma weak pinfs_lease_query
#pragma weak pinfs_lease_event_fd
#pragma weak pinfs_lease_export
#pragma weak pinfs_lease_import
#endif
