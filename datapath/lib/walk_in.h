/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The walk of a packet that enters the node, for both families: parse -> flow
 * -> (service -> policy -> backend, for a new flow) -> nat. Rewrites the
 * destination, and leaves everything else to the stack: the source is rewritten
 * where the packet leaves (walk_out.h). Each function returns a TC action, or
 * -DROP_* to drop the packet. A packet that does not concern a Service is not
 * changed. Called by tc.h.
 */
#ifndef SLUICE_WALK_IN_H
#define SLUICE_WALK_IN_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "clock.h"
#include "scratch.h"
#include "explain.h"
#include "hook.h"
#include "parse.h"
#include "flow.h"
#include "ct.h"
#include "service.h"
#include "cluster_ip.h"
#include "address_set.h"
#include "packet_check.h"
#include "flow_check.h"
#include "flow_open.h"
#include "handover.h"
#include "nat.h"
#include "mark.h"
#include "forward.h"
#include "icmp_error.h"
#include "refuse.h"

#define FAMILY_PART "walk_in.h"
#include "each_family.h"

#elif defined(FAMILY)

/* The variables of a walk: on the stack for IPv4, in lb_scratch for IPv6. */
struct FN(walk) {
	struct FN(packet) p;
	struct FN(path) path;
};

/* Translates a packet that the stack will forward. */
static __always_inline int FN(walk_translate)(struct __sk_buff *skb,
					      struct FN(packet) *p,
					      struct FN(path) *path)
{
	if (path->direction == REPLY || path->flags & FLOW_HAS_SOURCE)
		mark_packet(skb);
	return FN(nat)(skb, p, &path->to);
}

/* A reply to a source that the flow has drawn, or to a socket of this node. */
static __always_inline int FN(walk_reply)(struct __sk_buff *skb,
					  struct FN(packet) *p,
					  struct FN(flow) *flow,
					  struct FN(path) *path, enum hook hook)
{
	bool is_node = path->flags & FLOW_NODE_CLIENT;
	__u32 flags;
	int ret;

	if (is_node && (p->tcp_flags & (TCP_SYN | TCP_RST) ||
			(p->tuple.protocol == IPPROTO_UDP &&
			 flow_now() - flow->seen > UDP_IDLE))) {
		struct FN(flow) *inner = FN(ct_inner_of)(flow);

		if (FN(ct_is_inner_of)(inner, flow) && FN(ct_is_over)(inner))
			return TC_ACT_OK;
	}
	explain_flow(flow);
	if (CAN_WRITE && flow->seen != flow_now())
		FN(ct_refresh)(flow, 0);
	/* Replies to sockets of this node do not pass walk_out.h. */
	if (CAN_WRITE && is_node) {
		flags = close_flags(p->tcp_flags, REPLY);
		if (!(flow->flags & FLOW_ANSWERED))
			flags |= FLOW_ANSWERED;
		if (flags) {
			FN(ct_note)(flow, FLOW_ANSWERED);
			FN(ct_note_inner)(flow, flags);
		}
	}
	if (!is_node)
		return FN(walk_translate)(skb, p, path);
	ret = FN(nat)(skb, p, &path->to);
	if (ret)
		return ret;
	return FN(forward_node)(skb, path, hook);
}

/* Translates a packet of a flow that keeps its backend. */
static __always_inline int FN(walk_request)(struct __sk_buff *skb,
					    struct FN(packet) *p,
					    struct FN(flow) *flow,
					    struct FN(path) *path)
{
	__u32 flags = close_flags(p->tcp_flags, FORWARD);

	explain_flow(flow);
	if (CAN_WRITE && flow->seen != flow_now())
		FN(ct_refresh)(flow, 0);
	/* The kernel drops a spoofed packet, which must not end the flow. */
	if (CAN_WRITE && flags && !FN(packet_is_refused)(skb, p))
		FN(ct_note_inner)(flow, flags);
	return FN(walk_translate)(skb, p, path);
}

/*
 * Opens a flow for a packet to a frontend, and writes its effect to `path`. The
 * flow replaces `old`, unless that is NULL. Returns 0 if there is a flow now;
 * -DROP_*; or 1 if the packet does not concern a Service.
 */
static __always_inline int FN(walk_open)(struct __sk_buff *skb,
					 struct FN(packet) *p,
					 struct FN(flow) *old,
					 struct FN(path) *path, enum hook hook)
{
	struct lb_scratch *scratch = scratch_row();
	struct frontend frontend = {};
	int ret;

	ret = FN(service_lookup)(&p->tuple.daddr, p->tuple.dport,
				 p->tuple.protocol, &frontend);
	if (!ret)
		ret = FN(cluster_ip_miss)(&p->tuple.daddr);
	if (!ret)
		return 1;
	if (!hook_is_egress(hook) && FN(packet_is_refused)(skb, p)) {
		explain_refused();
		return 1;
	}
	if (FN(handover_passes)(skb, p, old, hook)) {
		explain_frontend(&frontend);
		return 1;
	}
	if (ret < 0)
		return ret;
	if (!scratch)
		return -DROP_FLOW_FULL;
	/* A packet that was redirected to this uplink passes it again. */
	if (hook == HOOK_UPLINK_OUT && FN(ct_is_translated)(&p->tuple))
		return 1;
	if (p->fragment == FRAGMENT_FIRST)
		FN(fragment_remember)(p);
	ret = FN(flow_open)(skb, p, old, &frontend, hook);
	if (!ret)
		FN(flow_path_in)(&scratch->FN(flow), &p->tuple, path);
	return ret;
}

/* The answer to a packet for which no flow could be opened. */
static __always_inline int FN(walk_refuse)(struct __sk_buff *skb,
					   struct FN(packet) *p, int ret,
					   enum hook hook)
{
	if (ret == -DROP_NO_BACKEND || ret == -DROP_WRONG_PORT ||
	    ret == -DROP_NO_FLOW)
		return FN(refuse)(skb, p, -ret, hook);
	return ret > 0 ? TC_ACT_OK : ret;
}

/*
 * A packet that parse.h passes. The stack must not route a fragment to a
 * ClusterIP, which is possible only if its first fragment has not arrived yet.
 * A fragment of a connection of kube-proxy is left alone.
 */
static __always_inline int FN(walk_unparsed)(struct FN(packet) *p)
{
	__u8 protocol = p->tuple.protocol;

	if (p->fragment != FRAGMENT_LATER ||
	    (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP &&
	     protocol != IPPROTO_SCTP) ||
	    config_phase() != PHASE_SERVING ||
	    !FN(address_set_has)(SET_CLUSTER_IP, &p->tuple.daddr))
		return TC_ACT_OK;
	return -DROP_FRAGMENT;
}

static __always_inline int FN(walk_in)(struct __sk_buff *skb,
				       struct FN(walk) *walk,
				       const enum hook hook)
{
	enum flow_verdict verdict = FLOW_REPLACE;
	struct FN(packet) *p = &walk->p;
	struct FN(path) *path = &walk->path;
	struct FN(flow) *flow;
	int ret;

	ret = FN(parse)(skb, p);
	if (ret == PARSE_PASS)
		return FN(walk_unparsed)(p);
	if (ret == PARSE_ICMP)
		return FN(icmp_error)(skb, p, hook);

	if (p->fragment == FRAGMENT_FIRST)
		FN(fragment_forget)(p);
	flow = FN(ct_lookup)(&p->tuple);
	if (flow && !FN(flow_path_in)(flow, &p->tuple, path))
		flow = NULL;
	if (flow && p->fragment == FRAGMENT_FIRST)
		FN(fragment_remember)(p);
	if (flow && path->direction == REPLY)
		return FN(walk_reply)(skb, p, flow, path, hook);
	if (flow)
		verdict = FN(flow_check)(flow, p);
	if (verdict != FLOW_KEEP) {
		ret = FN(walk_open)(skb, p, flow, path, hook);
		if (!ret)
			return FN(walk_translate)(skb, p, path);
		if (verdict == FLOW_REPLACE || handover_is_draining())
			return FN(walk_refuse)(skb, p, ret, hook);
	}
	if (!flow)
		return TC_ACT_OK;
	return FN(walk_request)(skb, p, flow, path);
}

#endif
