/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Handles packets to a cluster address that is not a frontend (test/README.md,
 * 5). A packet to a ClusterIP whose Service does not have the port is refused.
 * A packet to an unallocated address of a Service CIDR is dropped.
 * walk_in.h calls this if service.h finds no frontend. Reads only.
 */
#ifndef SLUICE_CLUSTER_IP_H
#define SLUICE_CLUSTER_IP_H

#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "config.h"
#include "address_set.h"

#define FAMILY_PART "cluster_ip.h"
#include "each_family.h"

#elif defined(FAMILY)

/*
 * Is the address within the bounds of all cluster addresses? For most packets
 * it is not, and no look-up is needed.
 */
static __always_inline bool FN(is_in_cluster_range)(const struct lb_host *host,
						    const addr_t *a)
{
#if FAMILY == 4
	__u64 word = bpf_ntohl(*a);
#else
	__u64 word = (__u64)bpf_ntohl(a->word[0]) << 32 | bpf_ntohl(a->word[1]);
#endif

	return word >= host->PASTE3(cluster, FAMILY, _first) &&
	       word <= host->PASTE3(cluster, FAMILY, _last);
}

/*
 * Called for a destination that is not a frontend. Returns -DROP_WRONG_PORT,
 * -DROP_UNALLOCATED, or 0 if it is not a cluster address.
 */
static __always_inline int FN(cluster_ip_miss)(const addr_t *destination)
{
	struct lb_host *host = config_host();

	if (!host || !FN(is_in_cluster_range)(host, destination))
		return 0;
	if (FN(address_set_has)(SET_CLUSTER_IP, destination))
		return -DROP_WRONG_PORT;
	return FN(address_set_has)(SET_SERVICE_CIDR, destination) ?
		       -DROP_UNALLOCATED :
		       0;
}

#endif
