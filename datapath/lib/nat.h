/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Step 4 of the walk: give the packet another tuple. Addresses and ports are
 * written directly; the L4 checksum goes through the helper, which alone knows
 * whether the device or we must compute it (CHECKSUM_PARTIAL). Invalidates
 * packet pointers. 0 or -DROP_WRITE.
 */
#ifndef SLUICE_NAT_H
#define SLUICE_NAT_H

#define TCP_CHECK_OFFSET 16
#define UDP_CHECK_OFFSET 6

static __always_inline __u32 csum_fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)(sum + (sum >> 32));
}

static __always_inline __u16 csum_fold16(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

/* RFC 1624, 3: HC' = ~(~HC + ~m + m'). Any byte order, one order throughout. */
static __always_inline __u16 csum_adjust(__u16 check, __u32 diff)
{
	return csum_fold16(csum_fold32((__u64)diff + (__u16)~check));
}

/* Difference of both addresses of two tuples: what the checksums change by. */
static __always_inline __u32 csum_diff_tuple4(struct tuple4 *from,
					      struct tuple4 *to)
{
	return csum_fold32((__u64)(__u32)~from->saddr + to->saddr +
			   (__u32)~from->daddr + to->daddr);
}

static __always_inline __u32 csum_diff_tuple6(struct tuple6 *from,
					      struct tuple6 *to)
{
	return bpf_csum_diff((__be32 *)from, 2 * sizeof(addr6), (__be32 *)to,
			     2 * sizeof(addr6), 0);
}

static __always_inline __u32 csum_diff16(__be16 from, __be16 to)
{
	return (__u32)(__u16)~from + to;
}

/* Linux 6.16 wants to know IPv6 (no IP checksum balances CHECKSUM_COMPLETE). */
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

#endif

#if FAMILY == 4
#define IP_HEADER struct iphdr
#else
#define IP_HEADER struct ipv6hdr
#endif

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
	IP_HEADER *ip = data + ETH_HLEN;
	__be16 *ports = data + l4;
	__u32 diff;

	diff = FN(csum_diff_tuple)(from, to);
	if ((void *)(ip + 1) > end || (void *)(ports + 2) > end)
		return -DROP_WRITE;
	FN(nat_l3)(ip, to, diff);
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
