/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Opens a new flow: policy -> backend -> route -> source -> both rows of the
 * flow table. Called by walk.h for a packet to a frontend.
 */
#ifndef SLUICE_FLOW_OPEN_H
#define SLUICE_FLOW_OPEN_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
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
#include "parse.h"
#include "flow.h"
#include "ct.h"
#include "service.h"
#include "traffic_policy.h"
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
 * Sets the source address that the backend sees. For a hairpin flow (the client
 * is the backend) it is the VIP, since replies to the pod's own address would
 * not leave the pod. A hairpin flow to a node address is masqueraded instead.
 * Returns 0 or -DROP_NO_NODE_ADDRESS.
 */
static __always_inline int FN(flow_source)(struct FN(flow) *flow,
					   const struct frontend *frontend,
					   bool masquerades)
{
	struct lb_host *host = config_host();
	bool is_hairpin = FN(addr_equal)(&flow->client, &flow->backend);

	flow->source = flow->client;
	if (is_hairpin && !(frontend->flags & FRONTEND_NODE_PORT) &&
	    !masquerades) {
		flow->source = flow->vip;
		return 0;
	}
	if (!masquerades && !is_hairpin)
		return 0;
	/* The stack rejects a received packet with a node address as source. */
	if (flow->flags & FLOW_NODE_BACKEND)
		return 0;
	/* The daemon has not written lb_host yet. */
	if (!host || FN(addr_is_zero)(&host->FN(address)) ||
	    !host->snat_count[0])
		return -DROP_NO_NODE_ADDRESS;
	flow->source = host->FN(address);
	flow->flags |= FLOW_MASQUERADED;
	return 0;
}

/* Fills in the rest of a flow whose backend is set. Returns 0 or -DROP_*. */
static __always_inline int FN(flow_fill)(struct __sk_buff *skb,
					 struct FN(packet) *p,
					 struct FN(flow) *flow, enum hook hook)
{
	int dev;

	flow->client = p->tuple.saddr;
	flow->vip = p->tuple.daddr;
	flow->client_port = p->tuple.sport;
	flow->vip_port = p->tuple.dport;
	flow->source_port = flow->client_port;
	flow->protocol = p->tuple.protocol;
	flow->client_dev = client_device(skb, hook);
	flow->seen = flow_now();
	flow->flags = p->tcp_flags & TCP_RST ? FLOW_RST :
		      p->tcp_flags & TCP_FIN ? FLOW_CLIENT_FIN :
					       0;
	if (is_from_node(skb, hook)) {
		flow->flags |= FLOW_NODE_CLIENT;
		if (bpf_skb_load_bytes(skb, ETH_ALEN, flow->node_mac, ETH_ALEN))
			return -DROP_MALFORMED;
	}
	dev = FN(route_lookup)(skb, &flow->client, &flow->backend);
	if (dev < 0)
		return dev;
	flow->backend_dev = dev;
	if (!dev)
		flow->flags |= FLOW_NODE_BACKEND;
	return 0;
}

/*
 * Opens a flow for p to a backend of the frontend, and writes the flow to
 * lb_scratch and to the flow table. The new flow replaces `old`, unless `old`
 * is NULL. Returns 0 or -DROP_*.
 */
static noinline int FN(flow_open)(struct __sk_buff *skb, struct FN(packet) *p,
				  struct FN(flow) *old,
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
	if (ret)
		return ret;
	if (old)
		FN(flow_reply_key)(old, &scratch->FN(old_reply));
	flow = &scratch->FN(flow);
	flow->backend = chosen.address;
	flow->backend_port = chosen.port;
	flow->backend_id = chosen.id;
	flow->generation = chosen.generation;
	ret = FN(flow_fill)(skb, p, flow, hook);
	if (!ret)
		ret = FN(flow_source)(flow, frontend, policy.masquerades);
	if (ret)
		return ret;
	/*
	 * The packet belongs to an open connection whose flow was lost. With a
	 * new source port, the backend would not recognise the connection.
	 */
	if (flow->flags & FLOW_MASQUERADED &&
	    p->tuple.protocol != IPPROTO_UDP && !(p->tcp_flags & TCP_SYN))
		return -DROP_NO_FLOW;
	explain_choice(flow, FN(addr_equal)(&flow->client, &flow->backend));
	ret = FN(ct_insert)(skb, flow);
	if (ret)
		return ret;
	if (old)
		FN(ct_forget_reply)(&scratch->FN(old_reply), flow);
	return 0;
}

#endif
