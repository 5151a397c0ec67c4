/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The walk of a packet that a socket of this node sends to a VIP, if it was not
 * translated at the socket. The stack has routed it by the VIP to an uplink.
 * There both ends are rewritten, and the packet is redirected to the device of
 * the backend; walk_in.h rewrites both ends of the reply. Called by walk_out.h.
 */
#ifndef SLUICE_WALK_NODE_H
#define SLUICE_WALK_NODE_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "link.h"
#include "clock.h"
#include "scratch.h"
#include "explain.h"
#include "hook.h"
#include "parse.h"
#include "flow.h"
#include "ct.h"
#include "ct_open.h"
#include "flow_check.h"
#include "handover.h"
#include "route.h"
#include "nat.h"
#include "forward.h"
#include "refuse.h"
#include "walk_in.h"

#define FAMILY_PART "walk_node.h"
#include "each_family.h"

#elif defined(FAMILY)

/* Rewrites both ends of a packet of the node's own socket, and redirects it. */
static __always_inline int FN(walk_node_send)(struct __sk_buff *skb,
					      struct FN(packet) *p,
					      struct FN(path) *path,
					      enum hook hook)
{
	__u32 mtu;
	int ret;

	/* The stack knows the MTU of the route to the VIP. */
	if (skb->len > SMALLEST_MTU + LINK_HLEN) {
		mtu = mtu_exceeded(skb, path->dev);
		if (mtu)
			return FN(refuse_too_big)(skb, p, mtu, hook);
	}
	ret = FN(nat)(skb, p, &path->to);
	return ret ? ret : FN(forward_node)(skb, path, hook);
}

/*
 * Draws the source of a flow that has none, and writes it to `path`. `flow` is
 * the request row or a copy. Returns 0 or -DROP_*.
 */
static __always_inline int FN(walk_node_source)(struct __sk_buff *skb,
						struct FN(flow) *flow,
						struct FN(path) *path)
{
	struct FN(flow) *inner;
	int ret;

	if (!CAN_WRITE || flow->taken)
		return 0;
	inner = FN(ct_inner_of)(flow);
	if (!FN(ct_is_inner_of)(inner, flow))
		return -DROP_FLOW_FULL;
	if (!inner->taken) {
		ret = FN(ct_take_source)(skb, inner);
		if (ret)
			return ret;
	}
	path->to.saddr = inner->source;
	path->to.sport = inner->source_port;
	return 0;
}

/* Updates the time, the device of the client, and the route of a flow. */
static __always_inline void FN(walk_node_refresh)(struct __sk_buff *skb,
						  struct FN(packet) *p,
						  struct FN(flow) *flow,
						  struct FN(path) *path)
{
	int dev;

	if (flow->seen == flow_now() && flow->client_dev == skb->ifindex)
		return;
	if (CAN_WRITE) {
		link_source(skb, flow->node_mac);
		FN(ct_refresh)(flow, skb->ifindex);
	}
	dev = FN(route_lookup)(skb, &p->tuple.saddr, &path->to.daddr);
	if (dev > 0 && CAN_WRITE) {
		flow->backend_dev = dev;
		path->dev = dev;
	}
}

static __always_inline int FN(walk_node)(struct __sk_buff *skb,
					 struct FN(walk) *walk,
					 const enum hook hook)
{
	enum flow_verdict verdict = FLOW_REPLACE;
	struct FN(packet) *p = &walk->p;
	struct FN(path) *path = &walk->path;
	struct lb_scratch *scratch = scratch_row();
	struct FN(flow) *flow;
	__u32 flags;
	int ret;

	if (!scratch)
		return -DROP_FLOW_FULL;
	p->tuple.side = SIDE_OUT;
	flow = FN(ct_lookup)(&p->tuple);
	if (flow && !FN(flow_path_in)(flow, &p->tuple, path))
		flow = NULL;
	if (flow && p->fragment == FRAGMENT_FIRST)
		FN(fragment_remember)(p);
	if (flow)
		verdict = FN(flow_check)(flow, p);
	if (verdict != FLOW_KEEP) {
		ret = FN(walk_open)(skb, p, flow, path, hook);
		if (!ret)
			ret = FN(walk_node_source)(skb, &scratch->FN(flow),
						   path);
		if (!ret)
			return FN(walk_node_send)(skb, p, path, hook);
		if (verdict == FLOW_REPLACE || handover_is_draining())
			return FN(walk_refuse)(skb, p, ret, hook);
	}
	if (!flow)
		return TC_ACT_OK;
	explain_flow(flow);
	FN(walk_node_refresh)(skb, p, flow, path);
	flags = close_flags(p->tcp_flags, FORWARD);
	if (CAN_WRITE && flags)
		FN(ct_note_inner)(flow, flags);
	ret = FN(walk_node_source)(skb, flow, path);
	if (ret)
		return ret;
	return FN(walk_node_send)(skb, p, path, hook);
}

#endif
