/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers to packets that are not forwarded. A refused packet is answered with
 * RST (TCP: RFC 9293, 3.10.7.1) or with port unreachable from the VIP, a packet
 * of a socket of the node that is too large with packet too big. The packet is
 * rewritten into the answer and sent back on its device. Each answer is counted
 * as a drop. ICMP answers are rate-limited.
 */
#ifndef SLUICE_REFUSE_H
#define SLUICE_REFUSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "family.h"
#include "verifier.h"
#include "link.h"
#include "clock.h"
#include "scratch.h"
#include "drop.h"
#include "hook.h"
#include "parse.h"
#include "csum.h"

/*
 * Per device in 4.29 s, so that the answers to one pod do not use up those of
 * another. Linux sends 1000/s.
 */
#define REFUSALS_PER_WINDOW 4096
#define REFUSAL_TTL 64
#define QUOTED_L4 8 /* RFC 792: the first eight bytes */
#define FRAGMENT_HEADER 8 /* RFC 8200, 4.5 */

struct icmp_message {
	__u8 type;
	__u8 code;
	__be16 check;
	__be32 rest;
};

static __always_inline bool refusal_allowed(__u32 ifindex)
{
	struct lb_limit *limit, fresh = { .window = flow_now(), .sent = 1 };

	if (!CAN_WRITE)
		return true;
	limit = bpf_map_lookup_elem(&lb_limits, &ifindex);
	if (!limit) {
		map_write(&lb_limits, &ifindex, &fresh, BPF_NOEXIST);
		return true;
	}
	if (limit->window != fresh.window) {
		limit->window = fresh.window;
		limit->sent = 0;
	}
	return __sync_fetch_and_add(&limit->sent, 1) < REFUSALS_PER_WINDOW;
}

/*
 * Sends the answer back where there is no link-layer header. A tunnel with
 * several remote ends takes the remote end from the route.
 */
static __always_inline int refuse_send_l3(struct __sk_buff *skb, enum hook hook)
{
	if (hook == HOOK_UPLINK_OUT)
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	return link_redirect(skb, skb->ifindex);
}

/* Swaps the MAC addresses of the answer and sends it back. */
static __always_inline int refuse_send(struct __sk_buff *skb, enum hook hook)
{
	__u8 mac[2 * ETH_ALEN], swapped[2 * ETH_ALEN];

	if (!LINK_HLEN)
		return refuse_send_l3(skb, hook);
	if (bpf_skb_load_bytes(skb, 0, mac, sizeof(mac)))
		return -DROP_WRITE;
	__builtin_memcpy(swapped, mac + ETH_ALEN, ETH_ALEN);
	/* At egress the packet's source MAC is that of the device itself. */
	__builtin_memcpy(swapped + ETH_ALEN, mac, ETH_ALEN);
	if (bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0))
		return -DROP_WRITE;
	if (hook == HOOK_UPLINK_OUT)
		return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	return bpf_redirect(skb->ifindex, 0);
}

#define FAMILY_PART "refuse.h"
#include "each_family.h"

#elif defined(FAMILY)

#if FAMILY == 4
#define IP_HEADER struct iphdr
#define ICMP_PROTOCOL IPPROTO_ICMP
#define ICMP_UNREACHABLE 3 /* RFC 792 */
#define ICMP_PORT 3
#else
#define IP_HEADER struct ipv6hdr
#define ICMP_PROTOCOL IPPROTO_ICMPV6
#define ICMP_UNREACHABLE 1 /* RFC 4443, 3 */
#define ICMP_PORT 4
#define ICMP_TOO_BIG 2
#endif

/* Size of the part of the packet that an ICMP answer quotes. */
#define QUOTE (sizeof(IP_HEADER) + QUOTED_L4)

/*
 * Writes the IP header of an answer from t->daddr to t->saddr with `size` bytes
 * of payload.
 */
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

/*
 * Offset of the length field in the IP header, and the number of bytes of the
 * frame that the field does not count.
 */
#if FAMILY == 4
#define LENGTH_AT offsetof(struct iphdr, tot_len)
#define LENGTH_FROM LINK_HLEN
#else
#define LENGTH_AT offsetof(struct ipv6hdr, payload_len)
#define LENGTH_FROM (LINK_HLEN + sizeof(struct ipv6hdr))
#endif

/* Sends an RST. Returns a TC action, or -DROP_* if no RST may be sent. */
static noinline int FN(refuse_tcp)(struct __sk_buff *skb, struct FN(packet) *p,
				   __u32 reason, enum hook hook)
{
	struct {
		IP_HEADER ip;
		struct tcphdr tcp;
	} answer;
	__u32 l4 = bounded(p->l4), length;
	struct tcphdr tcp;
	__be16 in_header;

	/* RFC 9293, 3.10.7.1: a reset is not answered. */
	if (p->tcp_flags & TCP_RST)
		return -reason;
	/* Use the length in the IP header, since the frame may be padded. */
	if (bpf_skb_load_bytes(skb, l4, &tcp, sizeof(tcp)) ||
	    bpf_skb_load_bytes(skb, LINK_HLEN + LENGTH_AT, &in_header,
			       sizeof(in_header)))
		return -DROP_MALFORMED;
	length = LENGTH_FROM + bpf_ntohs(in_header) - l4 - tcp.doff * 4 +
		 tcp.syn + tcp.fin;
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
	if (bpf_skb_change_tail(skb, LINK_HLEN + sizeof(answer), 0) ||
	    bpf_skb_store_bytes(skb, LINK_HLEN, &answer, sizeof(answer), 0))
		return -DROP_WRITE;
	return refuse_send(skb, hook);
}

/* The fields of an ICMP answer. */
struct FN(refusal) {
	addr_t from;
	__u8 type;
	__u8 code;
	__be32 rest;
	__u32 reason; /* drop reason to count (enum drop_reason) */
};

/*
 * Sends an ICMP answer. Returns a TC action, or -DROP_* if no answer may be
 * sent.
 */
static noinline int FN(refuse_icmp)(struct __sk_buff *skb, struct FN(packet) *p,
				    const struct FN(refusal) *refusal,
				    enum hook hook)
{
	struct {
		IP_HEADER ip;
		struct icmp_message icmp;
		__u8 quoted[QUOTE + FRAGMENT_HEADER];
	} *answer;
	__u32 quote = QUOTE, size;
	struct lb_scratch *scratch = scratch_row();
	struct FN(tuple) back;
	__u32 seed = 0;

	_Static_assert(sizeof(*answer) <= sizeof(scratch->answer),
		       "lb_scratch.answer is too small");
	if (!p || !refusal || !scratch)
		return -DROP_MALFORMED;
	answer = (void *)scratch->answer;
	if (FAMILY == 6 && p->fragment == FRAGMENT_FIRST)
		quote += FRAGMENT_HEADER;
	/*
	 * IP options and other extension headers would have to be quoted too,
	 * so packets with them get no answer.
	 */
	if (p->l4 + QUOTED_L4 != LINK_HLEN + quote ||
	    p->fragment == FRAGMENT_LATER)
		return -refusal->reason;
	size = sizeof(answer->icmp) + quote;
	if (!refusal_allowed(skb->ifindex))
		return -DROP_REFUSE_RATE;
	if (bpf_skb_load_bytes(skb, LINK_HLEN, answer->quoted, quote))
		return -refusal->reason;
	back = p->tuple;
	back.daddr = refusal->from;
	FN(refuse_ip)(&answer->ip, &back, ICMP_PROTOCOL, size);
	answer->icmp.type = refusal->type;
	answer->icmp.code = refusal->code;
	answer->icmp.check = 0;
	answer->icmp.rest = refusal->rest;
	if (FAMILY == 6)
		seed = FN(pseudo_sum)(&back, ICMP_PROTOCOL, size);
	answer->icmp.check = csum_of(&answer->icmp, size, seed);
	size += sizeof(answer->ip);
	if (bpf_skb_change_tail(skb, LINK_HLEN + size, 0) ||
	    bpf_skb_store_bytes(skb, LINK_HLEN, answer, size, 0))
		return -DROP_WRITE;
	return refuse_send(skb, hook);
}

/*
 * Refuses the packet: sends an answer from the packet's destination, and counts
 * `reason`. Returns a TC action, or -DROP_* if no answer is sent.
 */
static noinline int FN(refuse)(struct __sk_buff *skb, struct FN(packet) *p,
			       __u32 reason, enum hook hook)
{
	struct FN(refusal) refusal;
	__u32 bytes = skb->len;
	int ret;

	if (!p)
		return -DROP_MALFORMED;
	refusal.from = p->tuple.daddr;
	refusal.type = ICMP_UNREACHABLE;
	refusal.code = ICMP_PORT;
	refusal.rest = 0;
	refusal.reason = reason;
	if (p->tuple.protocol == IPPROTO_TCP && !p->fragment)
		ret = FN(refuse_tcp)(skb, p, reason, hook);
	else
		ret = FN(refuse_icmp)(skb, p, &refusal, hook);
	if (ret >= 0)
		drop_count(reason, bytes);
	return ret;
}

/*
 * Answers as a router to a packet of a socket of the node that exceeds `mtu`,
 * the MTU of the next device. The answer comes from the VIP, since the stack
 * rejects a packet that arrives with an address of the node itself as its
 * source. Returns a TC action or -DROP_*.
 */
static noinline int FN(refuse_too_big)(struct __sk_buff *skb,
				       struct FN(packet) *p, __u32 mtu,
				       enum hook hook)
{
	struct FN(refusal) refusal;
	__u32 bytes = skb->len;
	int ret;

	if (!p)
		return -DROP_MALFORMED;
	refusal.reason = DROP_TOO_BIG;
	refusal.from = p->tuple.daddr;
#if FAMILY == 4
	refusal.type = ICMP_UNREACHABLE;
	refusal.code = 4; /* fragmentation needed: RFC 1191, 4 */
	refusal.rest = bpf_htonl(mtu & 0xffff);
#else
	refusal.type = ICMP_TOO_BIG; /* RFC 4443, 3.2 */
	refusal.code = 0;
	refusal.rest = bpf_htonl(mtu);
#endif
	ret = FN(refuse_icmp)(skb, p, &refusal, hook);
	if (ret >= 0)
		drop_count(refusal.reason, bytes);
	return ret;
}
#undef LENGTH_AT
#undef LENGTH_FROM
#undef QUOTE
#undef IP_HEADER
#undef ICMP_PROTOCOL
#undef ICMP_UNREACHABLE
#undef ICMP_PORT
#undef ICMP_TOO_BIG

#endif
