/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The source address of a masqueraded packet, as netfilter's MASQUERADE selects
 * it: an address of the device that the packet leaves by. For IPv4 it is the
 * one whose subnet holds the next hop, for IPv6 the one that best matches the
 * destination (RFC 6724, 5, rule 8). The daemon writes the addresses of each
 * device to lb4_sources and lb6_sources. Called by ct_open.h. Reads only.
 */
#ifndef SLUICE_MASQUERADE_H
#define SLUICE_MASQUERADE_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "family.h"
#include "verifier.h"
#include "address.h"
#include "config.h"
#include "route.h"

#define FAMILY_PART "masquerade.h"
#include "each_family.h"

#elif defined(FAMILY)

/*
 * The address with which the source address is looked up: the next hop, if it
 * is known.
 */
static __always_inline void FN(masquerade_key)(struct __sk_buff *skb,
					       const struct FN(flow) *flow,
					       struct LB(source_key) *key)
{
	__u32 dev = skb->ifindex;

	/*
	 * The barrier keeps clang from selecting the pointer before the load,
	 * since the verifier forbids arithmetic on the context.
	 */
	barrier();
	/* A packet of the node's own socket is redirected to another device. */
	if (flow->flags & FLOW_NODE_CLIENT)
		dev = flow->backend_dev;
	__builtin_memset(key, 0, sizeof(*key));
	key->prefix = 32 + 8 * sizeof(addr_t);
	key->ifindex = dev;
	key->address = flow->backend;
#if FAMILY == 4
	struct bpf_fib_lookup fib;

	__builtin_memset(&fib, 0, sizeof(fib));
	fib.family = FIB_FAMILY_4;
	fib.ifindex = key->ifindex;
	fib.ipv4_dst = flow->backend;
	if (!bpf_fib_lookup(skb, &fib, sizeof(fib),
			    BPF_FIB_LOOKUP_OUTPUT | BPF_FIB_LOOKUP_SKIP_NEIGH))
		key->address = fib.ipv4_dst;
#endif
}

/*
 * Sets the source address of `flow`. A device without an address uses that of
 * another device, or the primary address of the node. Returns 0 or
 * -DROP_NO_NODE_ADDRESS.
 */
noinline int FN(masquerade_source)(struct __sk_buff *skb, struct FN(flow) *flow)
{
	struct lb_host *host = config_host();
	struct LB(source_key) key;
	struct LB(source) *source;

	if (!flow || !host)
		return -DROP_NO_NODE_ADDRESS;
	FN(masquerade_key)(skb, flow, &key);
	source = bpf_map_lookup_elem(&LB(sources), &key);
	if (!source) {
		key.ifindex = 0;
		source = bpf_map_lookup_elem(&LB(sources), &key);
	}
	flow->source = source ? source->address : host->FN(address);
	return FN(addr_is_zero)(&flow->source) ? -DROP_NO_NODE_ADDRESS : 0;
}

#endif
