/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Saying no: a frontend without a usable backend answers TCP with RST (RFC
 * 9293, 3.10.7.1) and UDP with port unreachable from the VIP, sent back where
 * the packet came from. The packet itself becomes the answer. Always counted
 * as a drop; the ICMP answers are rate-limited.
 */
#ifndef SLUICE_REFUSE_H
#define SLUICE_REFUSE_H

#define REFUSALS_PER_WINDOW 4096 /* per CPU and 4.29 s; Linux sends 1000/s */
#define REFUSAL_TTL 64

struct icmp_message {
	__u8 type;
	__u8 code;
	__be16 check;
	__be32 rest;
};

static __always_inline bool refusal_allowed(void)
{
	__u32 zero = 0, now = flow_now();
	struct lb_limit *limit = bpf_map_lookup_elem(&lb_limits, &zero);

	if (!limit)
		return false;
	if (limit->window != now) {
		limit->window = now;
		limit->sent = 0;
	}
	return limit->sent++ < REFUSALS_PER_WINDOW;
}

/* Internet checksum of `size` bytes (a multiple of four) over `seed`. */
static __always_inline __be16 csum_of(void *bytes, __u32 size, __u32 seed)
{
	return csum_fold16(bpf_csum_diff(NULL, 0, bytes, size, seed));
}

/* Swaps the MAC addresses, writes the answer and sends it back. */
static __always_inline int refuse_send(struct __sk_buff *skb, enum hook hook)
{
	__u8 mac[2 * ETH_ALEN], swapped[2 * ETH_ALEN];

	if (bpf_skb_load_bytes(skb, 0, mac, sizeof(mac)))
		return -DROP_WRITE;
	__builtin_memcpy(swapped, mac + ETH_ALEN, ETH_ALEN);
	/* On the way out the device's own address is the source already. */
	__builtin_memcpy(swapped + ETH_ALEN, mac, ETH_ALEN);
	if (bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0))
		return -DROP_WRITE;
	if (hook == HOOK_UPLINK_OUT)
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	return bpf_redirect(skb->ifindex, 0);
}

#endif

#if FAMILY == 4
#define IP_HEADER struct iphdr
#define ICMP_PROTOCOL IPPROTO_ICMP
#define ICMP_UNREACHABLE 3 /* RFC 792 */
#define ICMP_PORT 3
#else
#define IP_HEADER struct ipv6hdr
#define ICMP_PROTOCOL IPPROTO_ICMPV6
#define ICMP_UNREACHABLE 1 /* RFC 4443, 3.1 */
#define ICMP_PORT 4
#endif

/* The answer's IP header: from the VIP to the client, `size` bytes inside. */
static __always_inline void FN(refuse_ip)(IP_HEADER *ip,
					  const struct FN(tuple) *t,
					  __u8 protocol, __u16 size)
{
	__builtin_memset(ip, 0, sizeof(*ip));
#if FAMILY == 4
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(sizeof(*ip) + size);
	ip->frag_off = bpf_htons(0x4000); /* DF */
	ip->ttl = REFUSAL_TTL;
	ip->protocol = protocol;
	ip->saddr = t->daddr;
	ip->daddr = t->saddr;
	ip->check = csum_of(ip, sizeof(*ip), 0);
#else
	ip->version = 6;
	ip->payload_len = bpf_htons(size);
	ip->hop_limit = REFUSAL_TTL;
	ip->nexthdr = protocol;
	__builtin_memcpy(&ip->saddr, &t->daddr, sizeof(addr6));
	__builtin_memcpy(&ip->daddr, &t->saddr, sizeof(addr6));
#endif
}

/* Sum of the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1). */
static __always_inline __u32 FN(pseudo_sum)(const struct FN(tuple) *t,
					    __u8 protocol, __u16 size)
{
	struct {
		addr_t saddr, daddr;
		__be32 size, protocol;
	} pseudo = {
		.saddr = t->daddr,
		.daddr = t->saddr,
		.size = bpf_htonl(size),
		.protocol = bpf_htonl(protocol),
	};

	return bpf_csum_diff(NULL, 0, (void *)&pseudo, sizeof(pseudo), 0);
}

static noinline int FN(refuse_tcp)(struct __sk_buff *skb, struct FN(packet) *p,
				   enum hook hook)
{
	struct {
		IP_HEADER ip;
		struct tcphdr tcp;
	} answer;
	__u32 l4 = bounded(p->l4), length;
	struct tcphdr tcp;

	if (p->tcp_flags & TCP_RST ||
	    bpf_skb_load_bytes(skb, l4, &tcp, sizeof(tcp)))
		return -DROP_NO_BACKEND;
	length = skb->len - l4 - tcp.doff * 4 + tcp.syn + tcp.fin;
	FN(refuse_ip)(&answer.ip, &p->tuple, IPPROTO_TCP, sizeof(answer.tcp));
	__builtin_memset(&answer.tcp, 0, sizeof(answer.tcp));
	answer.tcp.source = tcp.dest;
	answer.tcp.dest = tcp.source;
	answer.tcp.doff = sizeof(answer.tcp) / 4;
	answer.tcp.rst = 1;
	if (tcp.ack) {
		answer.tcp.seq = tcp.ack_seq;
	} else {
		answer.tcp.ack = 1;
		answer.tcp.ack_seq = bpf_htonl(bpf_ntohl(tcp.seq) + length);
	}
	answer.tcp.check = csum_of(&answer.tcp, sizeof(answer.tcp),
				   FN(pseudo_sum)(&p->tuple, IPPROTO_TCP,
						  sizeof(answer.tcp)));
	if (bpf_skb_change_tail(skb, ETH_HLEN + sizeof(answer), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &answer, sizeof(answer), 0))
		return -DROP_WRITE;
	return refuse_send(skb, hook);
}

static noinline int FN(refuse_udp)(struct __sk_buff *skb, struct FN(packet) *p,
				   enum hook hook)
{
	struct {
		IP_HEADER ip;
		struct icmp_message icmp;
		IP_HEADER quoted_ip;
		__u8 quoted_l4[8]; /* RFC 792: the first eight bytes */
	} *answer;
	const __u32 size = sizeof(*answer) - sizeof(answer->ip);
	struct lb_scratch *scratch = ct_scratch();
	__u32 seed = 0;

	_Static_assert(sizeof(*answer) <= sizeof(scratch->answer),
		       "lb_scratch.answer is too small");
	if (!scratch)
		return -DROP_NO_BACKEND;
	answer = (void *)scratch->answer;
	/* Options before L4 would have to be quoted too: not worth an answer-> */
	if (p->l4 != ETH_HLEN + sizeof(IP_HEADER))
		return -DROP_NO_BACKEND;
	if (!refusal_allowed())
		return -DROP_REFUSE_RATE;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &answer->quoted_ip,
			       sizeof(IP_HEADER) + sizeof(answer->quoted_l4)))
		return -DROP_NO_BACKEND;
	FN(refuse_ip)(&answer->ip, &p->tuple, ICMP_PROTOCOL, size);
	answer->icmp.type = ICMP_UNREACHABLE;
	answer->icmp.code = ICMP_PORT;
	answer->icmp.check = 0;
	answer->icmp.rest = 0;
	if (FAMILY == 6)
		seed = FN(pseudo_sum)(&p->tuple, ICMP_PROTOCOL, size);
	answer->icmp.check = csum_of(&answer->icmp, size, seed);
	if (bpf_skb_change_tail(skb, ETH_HLEN + sizeof(*answer), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, answer, sizeof(*answer), 0))
		return -DROP_WRITE;
	return refuse_send(skb, hook);
}

/* Answers for a frontend without backend. TC action, or -DROP_* if no answer. */
static __always_inline int FN(refuse)(struct __sk_buff *skb,
				      struct FN(packet) *p, enum hook hook)
{
	int ret = p->tuple.protocol == IPPROTO_TCP ?
			  FN(refuse_tcp)(skb, p, hook) :
			  FN(refuse_udp)(skb, p, hook);

	if (ret >= 0)
		drop_count(DROP_NO_BACKEND, skb->len);
	return ret;
}
#undef IP_HEADER
#undef ICMP_PROTOCOL
#undef ICMP_UNREACHABLE
#undef ICMP_PORT
