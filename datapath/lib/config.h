/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is fixed for the life of the pinned state, the hash seed, and what holds
 * for every Service on this node. The hash of a new flow is keyed, so that
 * nobody outside can aim at one backend, and pinned, so that the same packet
 * gets the same answer before and after a restart. And the clock of flows.
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

/* Never NULL in truth: an array's row; the verifier wants it asked. */
static __always_inline struct lb_host *config_host(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&lb_host, &zero);
}

/* Monotonic ns. Syscall programs, of the twins, may not ask the coarse clock. */
static __always_inline __u64 clock_now(void)
{
#ifdef SLUICE_EXPLAIN
	return bpf_ktime_get_ns();
#else
	return bpf_ktime_get_coarse_ns();
#endif
}

/*
 * Clock of flows and rate windows, in units of 2^32 ns (4.29 s): each unit costs
 * an active flow one refresh, two cold look-ups at 256,000 flows.
 */
static __always_inline __u32 flow_now(void)
{
	return clock_now() >> 32;
}

#endif
