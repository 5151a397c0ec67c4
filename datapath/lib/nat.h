/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Step 5 of the walk: give the packet another tuple, and count the hop.
 * Addresses and ports are written directly; the L4 checksum goes through the
 * helper, which alone knows whether the device or we must compute it
 * (CHECKSUM_PARTIAL). Invalidates packet pointers. 0 or -DROP_WRITE.
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

#define SCTP_CHECK_OFFSET 8
#define CRC32C_POLYNOMIAL 0x82f63b78 /* RFC 9260, appendix A; reflected */
#define CRC32C_LOG2_BYTES 16

/*
 * a * b modulo the polynomial, bits reflected: bit 31 is x^0.
 */
noinline __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;
	int i;

	for (i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = b >> 1 ^ (CRC32C_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/*
 * SCTP sums the whole packet, without addresses, by CRC32c. That is linear: the
 * sum changes by the changed word, moved past the bytes that follow it.
 */
struct sctp_change {
	__be32 from; /* both ports */
	__be32 to;
	__u32 at; /* offset of the SCTP header */
	__u32 end; /* of the packet, without padding */
	bool is_fragment;
};

noinline int nat_sctp(struct __sk_buff *skb, const struct sctp_change *change)
{
	__u32 check, diff, power = 1U << 23; /* x^8: one byte */
	__u32 at, after;
	__be32 to;
	int i;

	if (!change)
		return -DROP_WRITE;
	diff = change->from ^ change->to;
	/* Of a fragment we do not see what the sum is of. */
	if (diff && change->is_fragment)
		return -DROP_WRITE;
	to = change->to;
	at = bounded(change->at);
	/* The bytes behind the ports, and the ports' own way through. */
	after = change->end - at;

	if (!diff)
		return 0;
	if (bpf_skb_load_bytes(skb, at + SCTP_CHECK_OFFSET, &check,
			       sizeof(check)))
		return -DROP_WRITE;
	for (i = 0; i < CRC32C_LOG2_BYTES; i++) {
		if (after >> i & 1)
			diff = crc32c_multiply(diff, power);
		power = crc32c_multiply(power, power);
	}
	if (bpf_skb_store_bytes(skb, at, &to, sizeof(to), 0))
		return -DROP_WRITE;
	/* Left to the device (CHECKSUM_PARTIAL): it begins with a zero. */
	if (!check)
		return 0;
	check ^= diff;
	if (bpf_skb_store_bytes(skb, at + SCTP_CHECK_OFFSET, &check,
				sizeof(check), 0))
		return -DROP_WRITE;
	return 0;
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

/* Offset where the packet ends, whatever padding follows. */
static __always_inline __u32 FN(packet_end)(const IP_HEADER *ip)
{
#if FAMILY == 4
	return ETH_HLEN + bpf_ntohs(ip->tot_len);
#else
	return ETH_HLEN + sizeof(*ip) + bpf_ntohs(ip->payload_len);
#endif
}

static __always_inline void FN(nat_l3)(struct __sk_buff *skb, IP_HEADER *ip,
				       struct FN(tuple) *to, __u32 diff,
				       bool is_hop)
{
#if FAMILY == 4
	__be16 before = *(__be16 *)&ip->ttl; /* and the protocol */

	(void)skb;
	ip->saddr = to->saddr;
	ip->daddr = to->daddr;
	ip->ttl -= is_hop;
	diff = csum_fold32((__u64)diff +
			   csum_diff16(before, *(__be16 *)&ip->ttl));
	ip->check = csum_adjust(ip->check, diff);
#else
	/* With the protocol. No checksum of IPv6 balances it in a sum by the device. */
	__be16 before = *(__be16 *)&ip->nexthdr;

	(void)diff;
	ip->hop_limit -= is_hop;
	__builtin_memcpy(&ip->saddr, &to->saddr, sizeof(addr6));
	__builtin_memcpy(&ip->daddr, &to->daddr, sizeof(addr6));
	if (is_hop)
		bpf_csum_update(skb,
				csum_diff16(before, *(__be16 *)&ip->nexthdr));
#endif
}

/* `is_hop`: the packet crosses this node, one hop of its TTL. */
static __always_inline int FN(nat)(struct __sk_buff *skb, struct FN(packet) *p,
				   struct FN(tuple) *to, bool is_hop)
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
	if ((void *)(ip + 1) > end)
		return -DROP_WRITE;
	FN(nat_l3)(skb, ip, to, diff, is_hop);
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
