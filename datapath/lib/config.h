/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is fixed for the life of the pinned state, the hash seed, and what holds
 * for every Service on this node. The hash of a new flow is keyed, so that
 * nobody outside can aim at one backend, and pinned, so that the same packet
 * gets the same answer before and after a restart.
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

/* Never NULL in truth: an array's row; the verifier wants it asked. */
static __always_inline struct lb_host *config_host(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&lb_host, &zero);
}

#endif
