/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The walk of a packet, the same on every tc hook and for both families: parse
 * -> flow -> (service -> policy -> backend, for a new flow) -> nat -> forward.
 * Each function returns a TC action, or -DROP_* to drop the packet. A packet
 * that does not concern a Service gets TC_ACT_OK and is not changed. Called by
 * tc.h.
 */
#ifndef SLUICE_WALK_H
#define SLUICE_WALK_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
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
#include "flow_check.h"
#include "route.h"
#include "flow_open.h"
#include "nat.h"
#include "forward.h"
#include "icmp_error.h"
#include "refuse.h"

#define FAMILY_PART "walk.h"
#include "each_family.h"

#elif defined(FAMILY)

/* Translates and forwards a packet of a known flow. */
static __always_inline int FN(walk_translate)(struct __sk_buff *skb,
					      struct FN(packet) *p,
					      struct FN(path) *path,
					      enum hook hook)
{
	/* This node forwards the packet, so it counts as a hop. */
	bool is_hop = !(path->flags & (FLOW_NODE_CLIENT | FLOW_NODE_BACKEND));
	__u32 mtu;
	int ret;

	if (is_hop && p->ttl <= 1)
		return FN(refuse_hop)(skb, p, 0, hook);
	if ((is_hop || (path->direction == FLOW_FORWARD &&
			path->flags & FLOW_NODE_CLIENT)) &&
	    path->dev && skb->len > SMALLEST_MTU + ETH_HLEN) {
		mtu = mtu_exceeded(skb, path->dev);
		if (mtu)
			return FN(refuse_hop)(skb, p, mtu, hook);
	}
	ret = FN(nat)(skb, p, &path->to, is_hop);
	return ret ? ret : FN(forward)(skb, path, hook);
}

/*
 * Handles a packet from backend to source. At egress, only packets that a
 * socket of the node sent are translated.
 */
static __always_inline int FN(walk_reply)(struct __sk_buff *skb,
					  struct FN(packet) *p,
					  struct FN(flow) *flow,
					  struct FN(path) *path, enum hook hook)
{
	if ((hook == HOOK_POD_OUT || hook == HOOK_UPLINK_OUT) &&
	    !(path->flags & FLOW_NODE_BACKEND))
		return TC_ACT_OK;
	if ((p->tcp_flags & (TCP_SYN | TCP_RST) ||
	     (p->tuple.protocol == IPPROTO_UDP &&
	      flow_now() - flow->seen > UDP_IDLE)) &&
	    FN(ct_is_over)(flow, &p->tuple))
		return TC_ACT_OK;
	explain_flow(flow);
	if (CAN_WRITE && !(flow->flags & FLOW_ANSWERED))
		FN(ct_note_answer)(flow);
	if (CAN_WRITE && flow->seen != flow_now())
		FN(ct_refresh)(flow, 0);
	FN(ct_note_close)(flow, p->tcp_flags);
	return FN(walk_translate)(skb, p, path, hook);
}

/* Updates the time, the device of the client, and the route of a flow. */
static __always_inline void FN(walk_refresh)(struct __sk_buff *skb,
					     struct FN(packet) *p,
					     struct FN(flow) *flow,
					     struct FN(path) *path,
					     enum hook hook)
{
	__u32 client_dev = client_device(skb, hook);
	int dev;

	if (flow->seen == flow_now() && flow->client_dev == client_dev)
		return;
	if (CAN_WRITE)
		FN(ct_refresh)(flow, client_dev);
	if (path->flags & FLOW_NODE_BACKEND)
		return;
	dev = FN(route_lookup)(skb, &p->tuple.saddr, &path->to.daddr);
	if (dev > 0 && CAN_WRITE) {
		flow->backend_dev = dev;
		path->dev = dev;
	}
}

/* Variables of walk4(), on the stack, and of walk6(), in lb_scratch. */
struct FN(walk) {
	struct FN(packet) p;
	struct FN(path) path;
};

static __always_inline int FN(walk)(struct __sk_buff *skb,
				    struct FN(walk) *walk, const enum hook hook)
{
	enum flow_verdict verdict = FLOW_REPLACE;
	struct frontend frontend = {};
	struct FN(packet) *p = &walk->p;
	struct FN(path) *path = &walk->path;
	struct FN(flow) *flow;
	int ret;

	ret = FN(parse)(skb, p);
	if (ret == PARSE_PASS)
		return TC_ACT_OK;
	if (ret == PARSE_ICMP)
		return FN(icmp_error)(skb, p, hook);

	if (p->fragment == FRAGMENT_FIRST)
		FN(fragment_forget)(p);
	flow = FN(ct_lookup)(&p->tuple);
	if (flow && !FN(flow_path)(flow, &p->tuple, path))
		flow = NULL;
	if (flow && p->fragment == FRAGMENT_FIRST)
		FN(fragment_remember)(p);
	if (flow && path->direction == FLOW_REPLY)
		return FN(walk_reply)(skb, p, flow, path, hook);
	if (hook == HOOK_POD_OUT)
		return TC_ACT_OK;

	if (flow)
		verdict = FN(flow_check)(flow, p);
	if (verdict != FLOW_KEEP) {
		ret = FN(service_lookup)(&p->tuple.daddr, p->tuple.dport,
					 p->tuple.protocol, &frontend);
		if (!ret)
			ret = FN(cluster_ip_miss)(&p->tuple.daddr);
		if (ret > 0) {
			/*
			 * A translated packet that was redirected to the uplink
			 * passes this hook again.
			 */
			if (hook == HOOK_UPLINK_OUT &&
			    FN(ct_is_translated)(&p->tuple))
				return TC_ACT_OK;
			if (p->fragment == FRAGMENT_FIRST)
				FN(fragment_remember)(p);
			ret = FN(flow_open)(skb, p, flow, &frontend, hook);
			if (!ret) {
				struct lb_scratch *scratch = scratch_row();

				if (!scratch)
					return -DROP_FLOW_FULL;
				FN(flow_path)(&scratch->FN(flow), &p->tuple,
					      path);
				return FN(walk_translate)(skb, p, path, hook);
			}
		}
		/*
		 * No flow was opened. ret is TC_ACT_OK if the packet does not
		 * concern a Service, else -DROP_*.
		 */
		if (verdict == FLOW_REPLACE)
			return ret == -DROP_NO_BACKEND ||
					       ret == -DROP_WRONG_PORT ||
					       ret == -DROP_NO_FLOW ?
				       FN(refuse)(skb, p, -ret, hook) :
				       ret;
	}
	if (flow) {
		explain_flow(flow);
		FN(walk_refresh)(skb, p, flow, path, hook);
		FN(ct_note_close)(flow, p->tcp_flags);
	}
	return FN(walk_translate)(skb, p, path, hook);
}

#endif
