/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The hash seed, fixed for the life of the pinned maps, the phase, and the
 * settings of this node. The hash of a new flow is keyed with the seed so that a client
 * cannot aim at one backend. The seed is pinned so that the same packet selects
 * the same backend before and after a restart of the daemon.
 */
#ifndef SLUICE_CONFIG_H
#define SLUICE_CONFIG_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"

static __always_inline __u64 config_seed(void)
{
	__u32 zero = 0;
	struct lb_config *config = bpf_map_lookup_elem(&lb_config, &zero);

	return config ? config->seed[0] : 0;
}

/* enum phase */
static __always_inline __u32 config_phase(void)
{
	__u32 zero = 0;
	struct lb_config *config = bpf_map_lookup_elem(&lb_config, &zero);

	return config ? config->phase : PHASE_SERVING;
}

/*
 * Never NULL, since lb_host is an array. Callers check nevertheless, since the
 * verifier requires it.
 */
static __always_inline struct lb_host *config_host(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&lb_host, &zero);
}

#endif
