/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Opens a new flow: policy -> backend -> the rows of the flow table. Called by
 * walk_in.h and walk_node.h for a packet to a frontend.
 */
#ifndef SLUICE_FLOW_OPEN_H
#define SLUICE_FLOW_OPEN_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "verifier.h"
#include "address.h"
#include "hash.h"
#include "config.h"
#include "clock.h"
#include "scratch.h"
#include "explain.h"
#include "hook.h"
#include "link.h"
#include "frame.h"
#include "parse.h"
#include "flow.h"
#include "ct.h"
#include "ct_open.h"
#include "masquerade.h"
#include "service.h"
#include "traffic_policy.h"
#include "address_set.h"
#include "backend.h"
#include "route.h"

#define FAMILY_PART "flow_open.h"
#include "each_family.h"

#elif defined(FAMILY)

/* Hash of seed and 5-tuple, which selects the backend of a new flow. */
static __always_inline __u32 FN(flow_hash)(const struct FN(tuple) *t)
{
	__u64 hash = config_seed();

	hash = FN(hash_addr)(hash, &t->saddr);
	hash = FN(hash_addr)(hash, &t->daddr);
	hash = hash_mix(hash, (__u64)t->sport << 32 | (__u64)t->dport << 16 |
				      t->protocol);
	return hash_mix(hash, hash >> 32) >> 32;
}

/*
 * Decides whether the backend sees another source than the client. For a
 * hairpin flow (the client is the backend) it is the VIP, since replies to the
 * pod's own address would not leave the pod. A hairpin flow to a node address
 * is masqueraded instead.
 */
static __always_inline void FN(flow_source)(struct FN(flow) *flow,
					    const struct frontend *frontend,
					    bool masquerades)
{
	bool is_hairpin = FN(addr_equal)(&flow->client, &flow->backend);

	if (masquerades || (is_hairpin && frontend->flags & FRONTEND_NODE_PORT))
		flow->flags |= FLOW_MASQUERADED;
	else if (is_hairpin)
		flow->flags |= FLOW_HAIRPIN;
}

#define OTHER_BACKEND_TRIES 16

/*
 * The stack does not accept a packet of the node's own socket that is sent back
 * to the node, so such a packet needs a backend elsewhere. The socket hooks
 * translate the calls whose backend is on the node itself (socket_lb.h), so
 * that each backend gets its share. Session affinity would repeat the first
 * choice, so it does not count. If every try selects a backend on the node,
 * flow_fill_node() drops the packet. Returns 0 or -DROP_*.
 */
static __always_inline int FN(flow_select_elsewhere)(
	struct backend_request *request, struct FN(chosen) *chosen)
{
	int ret = 0, i;

	for (i = 0; i < OTHER_BACKEND_TRIES && !ret; i++) {
		if (!FN(address_set_has)(SET_NODE, &chosen->address))
			return 0;
		request->hash = bpf_get_prandom_u32();
		ret = FN(backend_select)(request, NULL, chosen);
	}
	return ret;
}

/* Fills in the rest of a flow whose backend is set. */
static __always_inline void FN(flow_fill)(struct FN(packet) *p,
					  struct FN(flow) *flow)
{
	flow->client = p->tuple.saddr;
	flow->vip = p->tuple.daddr;
	__builtin_memset(&flow->source, 0, sizeof(flow->source));
	flow->source_port = 0;
	flow->taken = 0;
	flow->client_port = p->tuple.sport;
	flow->vip_port = p->tuple.dport;
	flow->inner_port = flow->client_port;
	flow->protocol = p->tuple.protocol;
	flow->seen = flow_now();
	flow->flags = close_flags(p->tcp_flags, FORWARD);
	flow->client_dev = 0;
	flow->backend_dev = 0;
	__builtin_memset(flow->node_mac, 0, sizeof(flow->node_mac));
	flow->checked = 0;
}

/*
 * Replies are routed by the source that the client sees, if the node has rules
 * that route by source. A rule for the address of the backend is meant for the
 * connections that the backend opens.
 */
static __always_inline void FN(flow_route)(struct __sk_buff *skb,
					   struct FN(flow) *flow)
{
	struct lb_device *device = device_row(skb->ifindex);

	if (device && device->flags & FN(DEVICE_SOURCE_RULES))
		flow->flags |= FLOW_ROUTE_BY_VIP;
}

/*
 * For a client of the node, whose packets are redirected: the route to the
 * backend. Returns 0 or -DROP_*.
 */
static __always_inline int FN(flow_fill_node)(struct __sk_buff *skb,
					      struct FN(flow) *flow)
{
	int dev;

	if (link_source(skb, flow->node_mac))
		return -DROP_MALFORMED;
	dev = FN(route_lookup)(skb, &flow->client, &flow->backend);
	if (dev < 0)
		return dev;
	if (!dev)
		return -DROP_NODE_TO_SELF;
	flow->flags |= FLOW_NODE_CLIENT | FLOW_CONFIRMED;
	flow->client_dev = skb->ifindex;
	flow->backend_dev = dev;
	return 0;
}

/*
 * Whether a packet of an open connection, whose flow was lost, would get
 * another source port than before, so that the backend would not recognise the
 * connection.
 */
static __always_inline bool FN(flow_is_lost)(struct __sk_buff *skb,
					     struct FN(packet) *p,
					     const struct FN(flow) *flow)
{
	return flow->flags & FLOW_MASQUERADED &&
	       p->tuple.protocol != IPPROTO_UDP && !(p->tcp_flags & TCP_SYN) &&
	       FN(route_lookup)(skb, &flow->client, &flow->backend);
}

/*
 * For `sluice explain`: what the stack and the egress program will do with the
 * packet. The stack answers a packet to a backend without a route, and the
 * egress program drops a packet without a source. Returns 0 or -DROP_*.
 */
static __always_inline int FN(flow_explain)(struct __sk_buff *skb,
					    struct FN(flow) *flow)
{
	int dev, ret;

	if (CAN_WRITE)
		return 0;
	dev = FN(route_lookup)(skb, &flow->client, &flow->backend);
	if (dev < 0)
		return dev;
	/* A packet to a backend of the node itself does not leave the node. */
	if (!dev)
		flow->flags &= ~FLOW_MASQUERADED;
	flow->backend_dev = dev;
	if (flow->flags & FLOW_MASQUERADED) {
		ret = FN(masquerade_source)(skb, flow);
		if (ret)
			return ret;
		EXPLAIN(record->FN(source) = flow->source);
	}
	explain_choice(flow, dev,
		       FN(addr_equal)(&flow->client, &flow->backend));
	return 0;
}

/* Copies what is known of the flow that is replaced to `old`. */
noinline int FN(flow_keep_old)(struct FN(flow) *flow, struct FN(flow) *old)
{
	struct FN(flow) *inner;

	if (!flow || !old)
		return 0;
	inner = FN(ct_inner_of)(flow);
	if (FN(ct_is_inner_of)(inner, flow))
		*old = *inner;
	else
		*old = *flow;
	return 0;
}

/*
 * Opens a flow for p to a backend of the frontend, and writes the flow to
 * lb_scratch and to the flow table. The new flow replaces `replaced`, unless
 * that is NULL. Returns 0 or -DROP_*.
 */
static noinline int FN(flow_open)(struct __sk_buff *skb, struct FN(packet) *p,
				  struct FN(flow) *replaced,
				  const struct frontend *frontend,
				  enum hook hook)
{
	struct lb_scratch *scratch = scratch_row();
	struct FN(chosen) chosen = {};
	struct traffic_policy policy;
	struct FN(flow) *flow;
	struct backend_request request;
	int ret;

	if (!p || !frontend || !scratch)
		return -DROP_FLOW_FULL;
	explain_frontend(frontend);
	ret = FN(traffic_policy_decide)(
		frontend, &p->tuple.saddr,
		hook == HOOK_POD_IN ? ORIGIN_POD_INTERFACE : ORIGIN_ANY,
		&policy);
	if (ret)
		return ret;
	request.service = frontend->service;
	request.hash = FN(flow_hash)(&p->tuple);
	request.is_local = policy.is_local;
	explain_policy(&policy);
	ret = FN(backend_select)(&request, &p->tuple.saddr, &chosen);
	if (!ret && hook == HOOK_UPLINK_OUT)
		ret = FN(flow_select_elsewhere)(&request, &chosen);
	if (ret)
		return ret;
	flow = &scratch->FN(flow);
	flow->backend = chosen.address;
	flow->backend_port = chosen.port;
	flow->backend_id = chosen.id;
	flow->generation = chosen.generation;
	FN(flow_fill)(p, flow);
	FN(flow_source)(flow, frontend, policy.masquerades);
	if (hook == HOOK_UPLINK_OUT) {
		ret = FN(flow_fill_node)(skb, flow);
		if (ret)
			return ret;
	}
	if (hook == HOOK_UPLINK_IN)
		FN(flow_route)(skb, flow);
	if (FN(flow_is_lost)(skb, p, flow))
		return -DROP_NO_FLOW;
	ret = FN(flow_explain)(skb, flow);
	if (ret)
		return ret;
	if (replaced)
		FN(flow_keep_old)(replaced, &scratch->FN(old));
	ret = FN(ct_open)(flow);
	if (ret)
		return ret;
	if (CAN_WRITE && replaced)
		FN(ct_forget_old)(&scratch->FN(old), flow);
	return 0;
}

#endif
