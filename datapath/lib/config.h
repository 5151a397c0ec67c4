/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is fixed for the life of the pinned state: the hash seed. The hash of a
 * new flow is keyed, so that nobody outside can aim at one backend, and pinned,
 * so that the same packet gets the same answer before and after a restart.
 */
#ifndef SLUICE_CONFIG_H
#define SLUICE_CONFIG_H

#include "maps.h"

static __always_inline __u64 config_seed(void)
{
	__u32 zero = 0;
	struct lb_config *config = bpf_map_lookup_elem(&lb_config, &zero);

	return config ? config->seed[0] : 0;
}

/*
 * Clock of flows and rate windows, in units of 2^32 ns (4.29 s): each unit costs
 * an active flow one refresh, two cold look-ups at 256,000 flows.
 */
static __always_inline __u32 flow_now(void)
{
	return bpf_ktime_get_coarse_ns() >> 32;
}

#endif
