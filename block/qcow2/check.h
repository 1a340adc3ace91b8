/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checking and repairing: what check.c finds and repair.c mends. */
#ifndef BLOCK_QCOW2_CHECK_H
#define BLOCK_QCOW2_CHECK_H

#include "qcow2.h"

typedef struct Check {
    Qcow2 *q;
    bool fix_leaks, fix_all;
    bool fix_copied; /* flags too: what they are about is right, or has been mended */
    uint32_t *refs;    /* references found, by cluster */
    uint64_t clusters; /* entries of refs */
    uint64_t end;      /* index behind the last cluster that is referenced */
    uint64_t keep_off; /* index behind what bad entries point at not far behind the end; or 0 */
    bool rebuild;      /* refcount structures are beyond mending one by one */
    bool unreadable;   /* some of them cannot even be read; implies rebuild */
    int64_t errors, corruptions, leaks, corruptions_fixed, leaks_fixed;
    int64_t bad_entries; /* corruptions that nothing here can mend */
    int64_t total, allocated, compressed, fragmented;
    uint64_t last_data; /* host offset behind the data cluster seen last */
} Check;

/** check_co_references() - fill refs from header, L1, L2, refcount structures */
int coroutine_fn check_co_references(Check *c);
/** check_co_refcounts() - compare and mend counts */
int coroutine_fn check_co_refcounts(Check *c);
/** check_co_copied() - compare and mend the COPIED flags */
int coroutine_fn check_co_copied(Check *c);
/** check_co_rebuild() - write new refcount structures behind everything in use */
int coroutine_fn check_co_rebuild(Check *c);

#endif
