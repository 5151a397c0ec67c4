/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The walk of a packet that leaves the node, for both families: parse -> flow
 * -> nat. Rewrites the source: of a request, if the flow is masqueraded or a
 * hairpin; of a reply, to the VIP. The stack has routed the packet to this
 * device. It redirects only replies of flows with FLOW_ROUTE_BY_VIP. It must not
 * open a flow: walk_node.h opens the flows of the node's own sockets, whose
 * packets enter the node nowhere. Called by tc.h.
 */
#ifndef SLUICE_WALK_OUT_H
#define SLUICE_WALK_OUT_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "clock.h"
#include "explain.h"
#include "hook.h"
#include "link.h"
#include "parse.h"
#include "flow.h"
#include "ct.h"
#include "ct_open.h"
#include "route.h"
#include "nat.h"
#include "mark.h"
#include "icmp_error.h"
#include "walk_node.h"

#define FAMILY_PART "walk_out.h"
#include "each_family.h"

#elif defined(FAMILY)

/* A packet from client to backend. */
static __always_inline int FN(walk_out_request)(struct __sk_buff *skb,
						struct FN(packet) *p,
						struct FN(flow) *inner,
						struct FN(path) *path)
{
	int ret;

	/* walk_in.h has just refreshed or replaced the flow of its packets. */
	if ((p->tcp_flags & TCP_SYN || (p->tuple.protocol == IPPROTO_UDP &&
					flow_now() - inner->seen > UDP_IDLE)) &&
	    FN(ct_is_over)(inner))
		return TC_ACT_OK;
	FN(ct_note)(inner, FLOW_CONFIRMED);
	if (CAN_WRITE && path->flags & FLOW_MASQUERADED &&
	    FN(masquerade_is_due)(inner))
		FN(ct_check_source)(skb, inner);
	if (CAN_WRITE && inner->seen != flow_now())
		FN(ct_refresh)(inner, 0);
	if (!(path->flags & FLOW_HAS_SOURCE))
		return TC_ACT_OK;
	if (CAN_WRITE && !inner->taken) {
		ret = FN(ct_take_source)(skb, inner);
		if (ret)
			return ret;
	}
	if (!FN(flow_path_out)(inner, &p->tuple, path))
		return TC_ACT_OK;
	/* Another CPU has just taken the source from the flow. */
	if (CAN_WRITE && !inner->taken)
		return -DROP_FLOW_FULL;
	return FN(nat)(skb, p, &path->to);
}

/*
 * Routes a reply again, by the VIP that is its source now. A mark means that
 * another rule has chosen the route. The stack has checked the MTU of the first
 * device only, so a packet that is too large for the other one stays. Returns a
 * TC action or -DROP_WRITE.
 */
static __always_inline int FN(walk_out_reroute)(struct __sk_buff *skb,
						struct FN(path) *path)
{
	struct lb_device *device = device_row(skb->ifindex);
	int dev;

	if (skb->mark)
		return TC_ACT_OK;
	dev = FN(route_lookup)(skb, &path->to.saddr, &path->to.daddr);
	if (dev <= 0 || (__u32)dev == skb->ifindex ||
	    (device && (__u32)dev == device->route_dev) ||
	    mtu_exceeded(skb, dev))
		return TC_ACT_OK;
	return link_redirect(skb, dev);
}

/*
 * A packet from backend to client. The stack has routed it by the address of the
 * backend. If routes depend on the source, it is routed again by the VIP.
 */
static __always_inline int FN(walk_out_reply)(struct __sk_buff *skb,
					      struct FN(packet) *p,
					      struct FN(flow) *inner,
					      struct FN(path) *path,
					      const enum hook hook)
{
	int ret;

	if ((p->tcp_flags & (TCP_SYN | TCP_RST) ||
	     (p->tuple.protocol == IPPROTO_UDP &&
	      flow_now() - inner->seen > UDP_IDLE)) &&
	    FN(ct_is_over)(inner))
		return TC_ACT_OK;
	FN(ct_note)(inner, FLOW_CONFIRMED | FLOW_ANSWERED |
				   close_flags(p->tcp_flags, REPLY));
	if (CAN_WRITE && inner->seen != flow_now())
		FN(ct_refresh)(inner, 0);
	ret = FN(nat)(skb, p, &path->to);
	if (ret || hook != HOOK_UPLINK_OUT ||
	    !(path->flags & FLOW_ROUTE_BY_VIP))
		return ret;
	return FN(walk_out_reroute)(skb, path);
}

static __always_inline int FN(walk_out)(struct __sk_buff *skb,
					struct FN(walk) *walk,
					const enum hook hook)
{
	struct FN(packet) *p = &walk->p;
	struct FN(path) *path = &walk->path;
	struct FN(flow) *inner;
	int ret;

	ret = FN(parse)(skb, p);
	if (ret == PARSE_PASS)
		return TC_ACT_OK;
	if (ret == PARSE_ICMP)
		return FN(icmp_error)(skb, p, hook);

	if (p->fragment == FRAGMENT_FIRST)
		FN(fragment_forget)(p);
	inner = FN(ct_lookup_inner)(&p->tuple);
	if (inner && FN(flow_path_out)(inner, &p->tuple, path)) {
		if (p->fragment == FRAGMENT_FIRST)
			FN(fragment_remember)(p);
		unmark_packet(skb);
		return path->direction == REPLY ?
			       FN(walk_out_reply)(skb, p, inner, path, hook) :
			       FN(walk_out_request)(skb, p, inner, path);
	}
	if (is_from_node(skb, hook))
		return FN(walk_node)(skb, walk, hook);
	return TC_ACT_OK;
}

#endif
