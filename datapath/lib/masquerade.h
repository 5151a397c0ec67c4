/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The source address of a masqueraded packet, as netfilter's MASQUERADE selects
 * it: an address of the device that the packet leaves by. For IPv4 it is the
 * one whose subnet holds the next hop, for IPv6 the one that RFC 6724, 5
 * selects for the destination. The daemon writes the addresses of each device
 * to lb4_sources and lb6_sources. Called by ct_open.h. Reads only.
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
#include "clock.h"
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
	 * Without this statement, clang would choose between two pointers
	 * before it loads the value, and the verifier forbids arithmetic on the
	 * context. In explain.bpf.c, where the value is not used, clang would
	 * not pass skb to the functions that call this one.
	 */
	asm volatile("" : "+r"(dev));
	/*
	 * A packet of the node's own socket is redirected to another device,
	 * and `sluice explain` asks before the packet is at that device.
	 */
	if (!CAN_WRITE || flow->flags & FLOW_NODE_CLIENT)
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
 * The source address for a key. A device without an address uses that of
 * another device, or the primary address of the node. Changes the key.
 */
static __always_inline const addr_t *FN(masquerade_find)(
	const struct lb_host *host, struct LB(source_key) *key)
{
	struct LB(source) *source = bpf_map_lookup_elem(&LB(sources), key);

	if (!source) {
		key->ifindex = 0;
		source = bpf_map_lookup_elem(&LB(sources), key);
	}
	return source ? &source->address : &host->FN(address);
}

/* Sets the source address of `flow`. Returns 0 or -DROP_NO_NODE_ADDRESS. */
noinline int FN(masquerade_source)(struct __sk_buff *skb, struct FN(flow) *flow)
{
	struct lb_host *host = config_host();
	struct LB(source_key) key;

	if (!flow || !host)
		return -DROP_NO_NODE_ADDRESS;
	FN(masquerade_key)(skb, flow, &key);
	flow->source = *FN(masquerade_find)(host, &key);
	return FN(addr_is_zero)(&flow->source) ? -DROP_NO_NODE_ADDRESS : 0;
}

/*
 * Has the device that the packet leaves by still the source address of `flow`?
 * The daemon writes a row for each address of a device, with the address as key
 * and as value.
 */
noinline bool FN(masquerade_has)(struct __sk_buff *skb, struct FN(flow) *flow)
{
	struct lb_host *host = config_host();
	struct LB(source_key) key;

	if (!flow || !host)
		return true;
	__builtin_memset(&key, 0, sizeof(key));
	key.prefix = 32 + 8 * sizeof(addr_t);
	key.ifindex = skb->ifindex;
	key.address = flow->source;
	return FN(addr_equal)(FN(masquerade_find)(host, &key), &flow->source);
}

/*
 * Must the source address of a flow be compared with those of the node? Yes
 * once per unit of flow_now(), and for each packet after an address has gone.
 * `inner` is the inner row.
 */
static __always_inline bool FN(masquerade_is_due)(const struct FN(flow) *inner)
{
	struct lb_host *host = config_host();
	__u32 now = flow_now();

	return inner->checked != now ||
	       (host && now - host->sources_changed <= 1);
}

#endif
