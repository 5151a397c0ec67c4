/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Step 6 of the walk: where to. A translated packet never goes up the stack,
 * so netfilter and rp_filter never see it; the exceptions are the node's own
 * sockets, who are the stack. The neighbour is resolved by the kernel.
 */
#ifndef SLUICE_REDIRECT_H
#define SLUICE_REDIRECT_H

enum hook {
	HOOK_POD_IN, /* from a pod: ingress of the host's end of its veth */
	HOOK_POD_OUT, /* to a pod */
	HOOK_UPLINK_IN,
	HOOK_UPLINK_OUT,
};

#define FIB_FAMILY_4 2 /* AF_INET */
#define FIB_FAMILY_6 10 /* AF_INET6 */

/* The device that the client of this packet is behind. */
static __always_inline __u32 client_device(struct __sk_buff *skb,
					   enum hook hook)
{
	if (hook == HOOK_UPLINK_OUT && skb->ingress_ifindex)
		return skb->ingress_ifindex;
	return skb->ifindex;
}

/* Made by a socket of this node, on its way out? */
static __always_inline bool is_from_node(struct __sk_buff *skb, enum hook hook)
{
	return hook == HOOK_UPLINK_OUT && !skb->ingress_ifindex;
}

#define SMALLEST_MTU 1280 /* RFC 8200, 5 */

/* The MTU of that device if the packet, or a segment of it, exceeds it, else 0. */
static __always_inline __u32 mtu_exceeded(struct __sk_buff *skb, __u32 dev)
{
	__u32 mtu = 0;

	if (bpf_check_mtu(skb, dev, &mtu, 0,
			  skb->gso_size ? BPF_MTU_CHK_SEGS : 0) <= 0)
		return 0;
	return mtu;
}

/*
 * Into the node, as if it had come in by `dev`, where strict rp_filter expects
 * the VIP. The stack takes it only if it is addressed to that device.
 */
static __always_inline int redirect_to_node(struct __sk_buff *skb, __u32 dev,
					    const __u8 *mac)
{
	if (bpf_skb_store_bytes(skb, 0, mac, ETH_ALEN, 0))
		return -DROP_WRITE;
	return bpf_redirect(dev, BPF_F_INGRESS);
}

#endif

/* ifindex towards `to`; 0: it is one of the node's own; -DROP_NO_ROUTE. */
noinline int FN(route_lookup)(struct __sk_buff *skb, const addr_t *from,
			      const addr_t *to)
{
	struct bpf_fib_lookup fib;

	if (!from || !to)
		return -DROP_NO_ROUTE;
	if (explain_assumes_route())
		return skb->ifindex;
	__builtin_memset(&fib, 0, sizeof(fib));
	fib.family = FN(FIB_FAMILY_);
	fib.ifindex = skb->ifindex;
#if FAMILY == 4
	fib.ipv4_src = *from;
	fib.ipv4_dst = *to;
#else
	__builtin_memcpy(fib.ipv6_src, from, sizeof(addr6));
	__builtin_memcpy(fib.ipv6_dst, to, sizeof(addr6));
#endif
	switch (bpf_fib_lookup(skb, &fib, sizeof(fib),
			       BPF_FIB_LOOKUP_SKIP_NEIGH)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return fib.ifindex;
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		/* Said of what is the node's, and of what nobody knows a way to. */
		return FN(range_has)(SET_NODE, to) ? 0 : -DROP_NO_ROUTE;
	default:
		return -DROP_NO_ROUTE;
	}
}

/* Sends the translated packet on. Returns a TC action or -DROP_*. */
static __always_inline int FN(redirect)(struct __sk_buff *skb,
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
