/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether an old flow's choice still stands, and how a new one is made:
 * service -> backend -> route -> both rows. Used by lib/walk.h only.
 */
#ifndef SLUICE_FLOW_H
#define SLUICE_FLOW_H

enum standing {
	FLOW_STANDS,
	FLOW_MAY_MOVE, /* to a better backend, if there is one */
	FLOW_FALLS, /* its backend is no more, or the flow is over */
};

#endif

/*
 * TCP keeps its translation until it closes, whatever becomes of the backend;
 * only a SYN asks anew. UDP has no close: it follows the backend with the next
 * packet (design.md, 3.3).
 */
static __always_inline enum standing FN(flow_standing)(struct FN(flow) *flow,
						       struct FN(packet) *p)
{
	int health;

	if (p->tuple.protocol == IPPROTO_TCP) {
		if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
			return FLOW_STANDS;
		if (flow->flags &
		    (FLOW_CLIENT_FIN | FLOW_BACKEND_FIN | FLOW_RST))
			return FLOW_FALLS;
	}
	health = FN(backend_health)(flow->backend_id, flow->generation);
	if (health == BACKEND_GONE)
		return FLOW_FALLS;
	if (health == BACKEND_DRAINS)
		return FLOW_MAY_MOVE;
	if (p->tuple.protocol == IPPROTO_UDP && FN(ct_is_idle)(flow))
		return FLOW_MAY_MOVE;
	return FLOW_STANDS;
}

/* Hash of a new flow: keyed, over the 5-tuple. */
static __always_inline __u32 FN(flow_hash)(const struct FN(tuple) *t)
{
	__u64 hash = config_seed();

	hash = FN(hash_addr)(hash, &t->saddr);
	hash = FN(hash_addr)(hash, &t->daddr);
	hash = hash_mix(hash, (__u64)t->sport << 32 | (__u64)t->dport << 16 |
				      t->protocol);
	return hash_mix(hash, hash >> 32) >> 32;
}

/* Fills scratch with the flow p -> chosen; 0 or -DROP_NO_ROUTE. */
static __always_inline int FN(flow_fill)(struct __sk_buff *skb,
					 struct FN(packet) *p,
					 struct FN(flow) *flow, enum hook hook)
{
	int dev;

	flow->client = p->tuple.saddr;
	flow->vip = p->tuple.daddr;
	flow->source = flow->client;
	flow->client_port = p->tuple.sport;
	flow->vip_port = p->tuple.dport;
	flow->source_port = flow->client_port;
	flow->protocol = p->tuple.protocol;
	flow->client_dev = client_device(skb, hook);
	flow->seen = flow_now();
	flow->flags = 0;
	/* Hairpin: its own address would never come back to us. */
	if (FN(addr_equal)(&flow->client, &flow->backend))
		flow->source = flow->vip;
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
 * Opens a flow from p to a backend of `service`, in scratch and in the table,
 * in place of `old` if given. 0 or -DROP_*.
 */
static noinline int FN(flow_open)(struct __sk_buff *skb, struct FN(packet) *p,
				  struct FN(flow) *old, __u32 service,
				  enum hook hook)
{
	struct lb_scratch *scratch = ct_scratch();
	struct FN(chosen) chosen;
	struct FN(flow) *flow;
	int ret;

	ret = FN(backend_select)(service, FN(flow_hash)(&p->tuple), &chosen);
	if (ret)
		return ret;
	if (!scratch)
		return -DROP_FLOW_FULL;
	if (old)
		FN(flow_reply_key)(old, &scratch->FN(old_reply));
	flow = &scratch->FN(flow);
	flow->backend = chosen.address;
	flow->backend_port = chosen.port;
	flow->backend_id = chosen.id;
	flow->generation = chosen.generation;
	ret = FN(flow_fill)(skb, p, flow, hook);
	if (!ret)
		ret = FN(ct_insert)(flow);
	if (ret)
		return ret;
	if (old)
		FN(ct_forget_reply)(&scratch->FN(old_reply), flow);
	return 0;
}
