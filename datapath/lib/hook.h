/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tc hooks, and what a hook reveals about the origin of a packet. */
#ifndef SLUICE_HOOK_H
#define SLUICE_HOOK_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

enum hook {
	HOOK_POD_IN, /* packets from a pod: ingress of its host-side veth */
	HOOK_POD_OUT, /* packets to a pod: egress of the same device */
	HOOK_UPLINK_IN, /* packets from outside the node */
	HOOK_UPLINK_OUT, /* packets that the node sends or forwards */
};

static __always_inline bool hook_is_egress(enum hook hook)
{
	return hook == HOOK_POD_OUT || hook == HOOK_UPLINK_OUT;
}

/* Was the packet sent by a socket of this node? */
static __always_inline bool is_from_node(struct __sk_buff *skb, enum hook hook)
{
	return hook == HOOK_UPLINK_OUT && !skb->ingress_ifindex;
}

#endif
