/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Drop counters, one per reason and CPU; /metrics and `sluice status` show the
 * sums. tc.h counts the packets that it drops, refuse.h counts the packets that
 * it answers, and sock.bpf.c counts the connect() calls that it refuses.
 */
#ifndef SLUICE_DROP_H
#define SLUICE_DROP_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "explain.h"

static __always_inline void drop_count(__u32 reason, __u32 bytes)
{
	struct lb_drop *drop;

	explain_drop(reason);
	if (!CAN_WRITE)
		return;
	drop = bpf_map_lookup_elem(&lb_drops, &reason);
	if (!drop)
		return;
	drop->packets += 1;
	drop->bytes += bytes;
}

#endif
