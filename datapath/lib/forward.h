/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The step "forward" for the node's own sockets. The stack has routed their
 * packets to the VIP, so after the translation they must be sent to the device
 * of the backend, and replies must arrive on the device that leads to the VIP.
 * All other packets are forwarded by the stack. Called by walk_in.h, walk_node.h
 * and icmp_error.h.
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
#include "link.h"
#include "flow.h"

/*
 * Delivers a reply to a socket of the node as if it had arrived on `dev`, where
 * strict rp_filter expects the VIP. The stack accepts only a packet that is
 * addressed to the MAC address of that device, if the device has one.
 */
static __always_inline int redirect_to_node(struct __sk_buff *skb, __u32 dev,
					    const __u8 *mac)
{
	if (link_push(skb) || bpf_skb_store_bytes(skb, 0, mac, ETH_ALEN, 0))
		return -DROP_WRITE;
	return bpf_redirect(dev, BPF_F_INGRESS);
}

#define FAMILY_PART "forward.h"
#include "each_family.h"

#elif defined(FAMILY)

/* Forwards a packet of FLOW_NODE_CLIENT. Returns a TC action or -DROP_*. */
static __always_inline int FN(forward_node)(struct __sk_buff *skb,
					    const struct FN(path) *path,
					    enum hook hook)
{
	if (path->direction == FORWARD)
		return link_redirect(skb, path->dev);
	if (!hook_is_egress(hook) && path->dev == skb->ifindex)
		return TC_ACT_OK;
	return redirect_to_node(skb, path->dev, path->node_mac);
}

#endif
