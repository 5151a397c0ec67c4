/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The step "nat": gives the packet the translated tuple. Writes addresses and
 * ports directly. A helper writes the L4 checksum, since the device may still
 * have to compute it (CHECKSUM_PARTIAL).
 */
#ifndef SLUICE_NAT_H
#define SLUICE_NAT_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "verifier.h"
#include "link.h"
#include "parse.h"
#include "csum.h"
#include "nat_sctp.h"

/* A flag since Linux 6.16. The UAPI headers of Debian 12 do not have it. */
#define CSUM_IPV6 (1ULL << 7)

#define TCP_CHECK_OFFSET 16
#define UDP_CHECK_OFFSET 6

/*
 * Since Linux 6.16, CSUM_IPV6 tells the helper that the packet is IPv6. IPv6
 * has no header checksum that compensates for the change of the addresses in
 * CHECKSUM_COMPLETE. Older kernels reject the flag, so the call is repeated
 * without it.
 */
static __always_inline int csum_replace_addresses(struct __sk_buff *skb,
						  __u32 offset, __u32 diff,
						  __u64 flags)
{
	int ret = bpf_l4_csum_replace(skb, offset, 0, diff,
				      flags | BPF_F_PSEUDO_HDR);

	if (ret && flags & CSUM_IPV6)
		ret = bpf_l4_csum_replace(skb, offset, 0, diff,
					  (flags & ~CSUM_IPV6) |
						  BPF_F_PSEUDO_HDR);
	return ret;
}

#define FAMILY_PART "nat.h"
#include "each_family.h"

#elif defined(FAMILY)

#if FAMILY == 4
#define IP_HEADER struct iphdr
#else
#define IP_HEADER struct ipv6hdr
#endif

/* Offset of the end of the packet, without padding. */
static __always_inline __u32 FN(packet_end)(const IP_HEADER *ip)
{
#if FAMILY == 4
	return LINK_HLEN + bpf_ntohs(ip->tot_len);
#else
	return LINK_HLEN + sizeof(*ip) + bpf_ntohs(ip->payload_len);
#endif
}

static __always_inline void FN(nat_l3)(IP_HEADER *ip, struct FN(tuple) *to,
				       __u32 diff)
{
#if FAMILY == 4
	ip->saddr = to->saddr;
	ip->daddr = to->daddr;
	ip->check = csum_adjust(ip->check, diff);
#else
	(void)diff;
	__builtin_memcpy(&ip->saddr, &to->saddr, sizeof(addr6));
	__builtin_memcpy(&ip->daddr, &to->daddr, sizeof(addr6));
#endif
}

/*
 * Translates the packet to the tuple `to`. Invalidates packet pointers. Returns
 * 0 or -DROP_WRITE.
 */
static __always_inline int FN(nat)(struct __sk_buff *skb, struct FN(packet) *p,
				   struct FN(tuple) *to)
{
	struct FN(tuple) *from = &p->tuple;
	bool tcp = from->protocol == IPPROTO_TCP;
	__u64 flags = tcp ? 0 : BPF_F_MARK_MANGLED_0;
	__u32 l4 = bounded(p->l4);
	__u32 check = l4 + (tcp ? TCP_CHECK_OFFSET : UDP_CHECK_OFFSET);
	void *data = skb_data(skb);
	void *end = skb_end(skb);
	IP_HEADER *ip = data + LINK_HLEN;
	__be16 *ports = data + l4;
	__u32 diff;

	diff = FN(csum_diff_tuple)(from, to);
	if ((void *)(ip + 1) > end)
		return -DROP_WRITE;
	FN(nat_l3)(ip, to, diff);
	if (p->fragment == FRAGMENT_LATER)
		return 0;
	if (from->protocol == IPPROTO_SCTP) {
		struct sctp_change change = {
			.from = *(__be32 *)&from->sport,
			.to = *(__be32 *)&to->sport,
			.at = l4,
			.end = FN(packet_end)(ip),
			.is_fragment = p->fragment,
		};

		return nat_sctp(skb, &change);
	}
	if ((void *)(ports + 2) > end)
		return -DROP_WRITE;
	ports[0] = to->sport;
	ports[1] = to->dport;
	if (csum_replace_addresses(skb, check, diff,
				   flags | (FAMILY == 6 ? CSUM_IPV6 : 0)))
		return -DROP_WRITE;
	if (from->sport == to->sport && from->dport == to->dport)
		return 0;
	diff = csum_diff16(from->sport, to->sport) +
	       csum_diff16(from->dport, to->dport);
	if (bpf_l4_csum_replace(skb, check, 0, diff, flags))
		return -DROP_WRITE;
	return 0;
}
#undef IP_HEADER

#endif
