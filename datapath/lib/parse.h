/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Step 1 of the walk: the packet's tuple. Reads only. Returns PARSE_OURS for a
 * whole TCP or UDP packet, PARSE_ICMP_ERROR for an ICMP error (the tuple then
 * holds addresses only), and PARSE_PASS for everything that is not ours:
 * fragments, other protocols, and what is too short to be either.
 */
#ifndef SLUICE_PARSE_H
#define SLUICE_PARSE_H

enum parse_result { PARSE_PASS, PARSE_OURS, PARSE_ICMP_ERROR };

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Bytes of L4 that we read: up to and with the TCP flags; UDP has eight. */
#define L4_TCP_BYTES 14
#define L4_UDP_BYTES 8

#define IP_OFFSET_AND_MORE 0x3fff

/*
 * Offsets of L4 lie between 34 and 1500. Tells the verifier so where a trip
 * through memory made it forget; in C, clang would know better and drop it.
 */
static __always_inline __u32 bounded(__u32 offset)
{
	asm volatile("%0 &= 0x7ff" : "+r"(offset));
	return offset;
}

#endif

struct FN(packet) {
	struct FN(tuple) tuple;
	__u32 l4; /* offset of the L4 header from the Ethernet header */
	__u8 tcp_flags; /* 0 unless TCP */
};

/* Ports and TCP flags at p->l4, for p->tuple.protocol. */
static __always_inline int FN(parse_l4)(struct __sk_buff *skb,
					struct FN(packet) *p)
{
	bool tcp = p->tuple.protocol == IPPROTO_TCP;
	__u32 l4 = bounded(p->l4);
	__u32 need = l4 + (tcp ? L4_TCP_BYTES : L4_UDP_BYTES);
	void *data = skb_data(skb);
	void *end = skb_end(skb);
	__be16 *ports;

	if (data + need > end) {
		if (bpf_skb_pull_data(skb, need))
			return PARSE_PASS;
		data = skb_data(skb);
		end = skb_end(skb);
	}
	ports = data + l4;
	if ((void *)ports + L4_UDP_BYTES > end)
		return PARSE_PASS;
	p->tuple.sport = ports[0];
	p->tuple.dport = ports[1];
	p->tcp_flags = 0;
	if (!tcp)
		return PARSE_OURS;
	if ((void *)ports + L4_TCP_BYTES > end)
		return PARSE_PASS;
	p->tcp_flags = ((__u8 *)ports)[13];
	return PARSE_OURS;
}

#if FAMILY == 4
static __always_inline int parse4(struct __sk_buff *skb, struct packet4 *p)
{
	void *data = skb_data(skb);
	void *end = skb_end(skb);
	struct iphdr *ip = data + ETH_HLEN;

	__builtin_memset(p, 0, sizeof(*p));
	if ((void *)(ip + 1) > end) {
		if (bpf_skb_pull_data(skb, ETH_HLEN + sizeof(*ip)))
			return PARSE_PASS;
		data = skb_data(skb);
		end = skb_end(skb);
		ip = data + ETH_HLEN;
		if ((void *)(ip + 1) > end)
			return PARSE_PASS;
	}
	if (ip->ihl < 5 || ip->frag_off & bpf_htons(IP_OFFSET_AND_MORE))
		return PARSE_PASS;
	p->tuple.saddr = ip->saddr;
	p->tuple.daddr = ip->daddr;
	p->tuple.protocol = ip->protocol;
	p->l4 = ETH_HLEN + ip->ihl * 4;
	switch (ip->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return parse_l44(skb, p);
	case IPPROTO_ICMP:
		return PARSE_ICMP_ERROR;
	default:
		return PARSE_PASS;
	}
}
#else
/* Extension headers that may stand before L4; RFC 8200 lets each appear once. */
#define IPV6_EXTENSIONS 4

/* Walks the extension headers: the slow path, packets without them skip it. */
static noinline int parse_extensions6(struct __sk_buff *skb, __u32 *l4,
				      __u8 protocol)
{
	struct ipv6_opt_hdr header;
	int i;

	for (i = 0; i < IPV6_EXTENSIONS; i++) {
		switch (protocol) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			break;
		default:
			return protocol;
		}
		if (*l4 > 1024 ||
		    bpf_skb_load_bytes(skb, *l4, &header, sizeof(header)))
			return IPPROTO_NONE;
		protocol = header.nexthdr;
		*l4 += (header.hdrlen + 1) * 8;
	}
	return IPPROTO_NONE;
}

static __always_inline int parse6(struct __sk_buff *skb, struct packet6 *p)
{
	void *data = skb_data(skb);
	void *end = skb_end(skb);
	struct ipv6hdr *ip = data + ETH_HLEN;
	int protocol;

	__builtin_memset(p, 0, sizeof(*p));
	if ((void *)(ip + 1) > end) {
		if (bpf_skb_pull_data(skb, ETH_HLEN + sizeof(*ip)))
			return PARSE_PASS;
		data = skb_data(skb);
		end = skb_end(skb);
		ip = data + ETH_HLEN;
		if ((void *)(ip + 1) > end)
			return PARSE_PASS;
	}
	__builtin_memcpy(&p->tuple.saddr, &ip->saddr, sizeof(addr6));
	__builtin_memcpy(&p->tuple.daddr, &ip->daddr, sizeof(addr6));
	p->l4 = ETH_HLEN + sizeof(*ip);
	protocol = ip->nexthdr;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP &&
	    protocol != IPPROTO_ICMPV6) {
		__u32 l4 = p->l4;

		protocol = parse_extensions6(skb, &l4, protocol);
		p->l4 = l4;
		if (l4 > 1500)
			return PARSE_PASS;
	}
	p->tuple.protocol = protocol;
	switch (protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return parse_l46(skb, p);
	case IPPROTO_ICMPV6:
		return PARSE_ICMP_ERROR;
	default:
		return PARSE_PASS;
	}
}
#endif
