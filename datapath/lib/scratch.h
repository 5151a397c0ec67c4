/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Per-CPU working space for data that is too big for the 512-byte stack. Its
 * content is valid during one run of a program only.
 */
#ifndef SLUICE_SCRATCH_H
#define SLUICE_SCRATCH_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"

static __always_inline struct lb_scratch *scratch_row(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&SCRATCH, &zero);
}

#endif
