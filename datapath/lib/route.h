/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The device towards an address (the FIB), and the MTU of a device. Needed only
 * for packets of the node's own sockets, which walk_node.h redirects, for lost
 * flows (flow_open.h), and for `sluice explain`.
 */
#ifndef SLUICE_ROUTE_H
#define SLUICE_ROUTE_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "link.h"
#include "verifier.h"
#include "explain.h"
#include "address_set.h"

/* A flag since Linux 6.3. The UAPI headers of Debian 12 do not have it. */
#ifndef BPF_FIB_LOOKUP_SKIP_NEIGH
#define BPF_FIB_LOOKUP_SKIP_NEIGH (1U << 2)
#endif

#define FIB_FAMILY_4 2 /* AF_INET */
#define FIB_FAMILY_6 10 /* AF_INET6 */

#define SMALLEST_MTU 1280 /* RFC 8200, 5 */

/*
 * The MTU of the device if the packet or a GSO segment exceeds it, else 0. The
 * helper is given the length of the IP packet, since its own comparison assumes
 * that both devices have link-layer headers of the same length. It needs none
 * for GSO segments, and does not accept one.
 */
static __always_inline __u32 mtu_exceeded(struct __sk_buff *skb, __u32 dev)
{
	__u32 mtu = skb->gso_size ? 0 : skb->len - LINK_HLEN;

	if (bpf_check_mtu(skb, dev, &mtu, 0,
			  skb->gso_size ? BPF_MTU_CHK_SEGS : 0) <= 0)
		return 0;
	return mtu;
}

#define FAMILY_PART "route.h"
#include "each_family.h"

#elif defined(FAMILY)

/*
 * Returns the ifindex towards `to`, 0 if `to` is an address of the node, or
 * -DROP_NO_ROUTE.
 */
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
		/* `to` is either an address of the node or has no route. */
		return FN(address_set_has)(SET_NODE, to) ? 0 : -DROP_NO_ROUTE;
	default:
		return -DROP_NO_ROUTE;
	}
}

#endif
