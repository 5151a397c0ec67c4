/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The clocks of the programs: nanoseconds for affinity and source ports, and a
 * coarse unit for flows and rate limits.
 */
#ifndef SLUICE_CLOCK_H
#define SLUICE_CLOCK_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/*
 * Monotonic time in ns. The syscall program of explain.bpf.c is not allowed to
 * call bpf_ktime_get_coarse_ns().
 */
static __always_inline __u64 clock_now(void)
{
#ifdef SLUICE_EXPLAIN
	return bpf_ktime_get_ns();
#else
	return bpf_ktime_get_coarse_ns();
#endif
}

/*
 * Clock of flows and rate windows, in units of 2^32 ns (4.29 s). An active flow
 * is refreshed only once per unit, because a refresh makes two look-ups. They are
 * slow when there are many flows: rows of 256,000 are not in the CPU cache.
 */
static __always_inline __u32 flow_now(void)
{
	return clock_now() >> 32;
}

#endif
