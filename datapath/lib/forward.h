/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The step "forward": sends a translated packet to its next device. The packet
 * bypasses the stack of the node, so netfilter and rp_filter do not see it;
 * only packets to and from the node's own sockets pass through the stack. The
 * kernel resolves the neighbour.
 */
#ifndef SLUICE_FORWARD_H
#define SLUICE_FORWARD_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "hook.h"
#include "flow.h"

/*
 * Delivers a reply to a socket of the node as if it had arrived on `dev`, where
 * strict rp_filter expects the VIP. The stack accepts only a packet that is
 * addressed to the MAC address of that device.
 */
static __always_inline int redirect_to_node(struct __sk_buff *skb, __u32 dev,
					    const __u8 *mac)
{
	if (bpf_skb_store_bytes(skb, 0, mac, ETH_ALEN, 0))
		return -DROP_WRITE;
	return bpf_redirect(dev, BPF_F_INGRESS);
}

#define FAMILY_PART "forward.h"
#include "each_family.h"

#elif defined(FAMILY)

/* Forwards the translated packet. Returns a TC action or -DROP_*. */
static __always_inline int FN(forward)(struct __sk_buff *skb,
				       const struct FN(path) *path,
				       enum hook hook)
{
	bool is_egress = hook == HOOK_POD_OUT || hook == HOOK_UPLINK_OUT;

	if (path->direction == FLOW_FORWARD) {
		if (!(path->flags & FLOW_NODE_BACKEND))
			return bpf_redirect_neigh(path->dev, NULL, 0, 0);
		return is_egress ? -DROP_NODE_TO_SELF : TC_ACT_OK;
	}
	if (path->flags & FLOW_NODE_CLIENT) {
		if (!is_egress && path->dev == skb->ifindex)
			return TC_ACT_OK;
		return redirect_to_node(skb, path->dev, path->node_mac);
	}
	if (is_egress && path->dev == skb->ifindex)
		return TC_ACT_OK;
	return bpf_redirect_neigh(path->dev, NULL, 0, 0);
}

#endif
