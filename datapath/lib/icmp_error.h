/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Translates ICMP errors about translated packets. It rewrites the quoted
 * packet and the outer addresses, so that the sender of the original packet
 * recognises the error. An error is translated only if the quoted packet
 * belongs to a flow in the table. Redirects about such packets are dropped. The quoted L4 checksum is not adjusted, since
 * receivers match by addresses and ports. A slow path: it reads and writes
 * through helpers only.
 */
#ifndef SLUICE_ICMP_ERROR_H
#define SLUICE_ICMP_ERROR_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "verifier.h"
#include "link.h"
#include "address.h"
#include "scratch.h"
#include "hook.h"
#include "parse.h"
#include "flow.h"
#include "ct.h"
#include "csum.h"
#include "forward.h"
#include "mark.h"

#define ICMP_QUOTE 8 /* offset of the quoted packet in the ICMP message */
#define ICMP_CHECK_OFFSET 2
#define ND_REDIRECT_SIZE 40 /* RFC 4861, 4.5: before the options */
#define ND_REDIRECTED_HEADER 4 /* option: the packet that was redirected */
#define ND_REDIRECT_OPTIONS 2

static __always_inline bool icmp_is_error4(__u8 type)
{
	return type == 3 || type == 11 || type == 12; /* RFC 792 */
}

static __always_inline bool icmp_is_error6(__u8 type)
{
	return type >= 1 && type <= 4; /* RFC 4443, 2.1 */
}

#define FAMILY_PART "icmp_error.h"
#include "each_family.h"

#elif defined(FAMILY)

#if FAMILY == 4
#define AT_ADDRESSES offsetof(struct iphdr, saddr)
#define AT_PROTOCOL offsetof(struct iphdr, protocol)
#define ICMP_REDIRECT_TYPE 5 /* RFC 792 */
#else
#define AT_ADDRESSES offsetof(struct ipv6hdr, saddr)
#define AT_PROTOCOL offsetof(struct ipv6hdr, nexthdr)
#define ICMP_REDIRECT_TYPE 137 /* RFC 4861, 4.5 */
#endif

/* Kept in lb_scratch.answer. */
struct FN(icmp_work) {
	struct FN(tuple) quoted; /* tuple of the quoted packet, as received */
	struct FN(tuple) inner; /* `quoted` reversed (key); later translated */
	struct FN(tuple) outer; /* translated tuple of the error itself */
	struct FN(path) path;
	__u32 ports_at; /* offset of the quoted ports */
};

/*
 * Offset of the packet that a redirect quotes, or 0. In ICMPv6 it is an option
 * (RFC 4861, 4.6.3), which may come after the link-layer address.
 */
static __always_inline __u32 FN(icmp_redirect_quote)(struct __sk_buff *skb,
						     __u32 l4)
{
#if FAMILY == 4
	(void)skb;
	return l4 + ICMP_QUOTE;
#else
	__u32 at = l4 + ND_REDIRECT_SIZE;
	struct {
		__u8 type;
		__u8 length; /* in units of 8 bytes */
	} option;
	int i;

	for (i = 0; i < ND_REDIRECT_OPTIONS; i++) {
		if (bpf_skb_load_bytes(skb, at, &option, sizeof(option)) ||
		    !option.length)
			return 0;
		if (option.type == ND_REDIRECTED_HEADER)
			return at + 8;
		at += option.length * 8;
	}
	return 0;
#endif
}

/*
 * Reads the quoted packet. The error travels in the opposite direction of the
 * quoted packet, so the reversed tuple is the key of the row. Returns false for
 * protocols other than TCP, UDP and SCTP, and for a fragment without ports.
 */
static __always_inline bool FN(icmp_quoted)(struct __sk_buff *skb, __u32 quote,
					    struct FN(icmp_work) *work)
{
	struct FN(tuple) *quoted = &work->quoted, *inner = &work->inner;

	__builtin_memset(quoted, 0, sizeof(*quoted));
	work->ports_at = quote + sizeof(struct ipv6hdr);
#if FAMILY == 4
	__u8 version_and_length;
	__be16 fragment;

	if (bpf_skb_load_bytes(skb, quote, &version_and_length, 1))
		return false;
	work->ports_at = quote + (version_and_length & 15) * 4;
	if (bpf_skb_load_bytes(skb, quote + offsetof(struct iphdr, frag_off),
			       &fragment, sizeof(fragment)) ||
	    fragment & bpf_htons(IP_OFFSET))
		return false;
#endif
	if (bpf_skb_load_bytes(skb, quote + AT_PROTOCOL, &quoted->protocol, 1))
		return false;
#if FAMILY == 6
	struct extensions6 found = { .l4 = work->ports_at };

	quoted->protocol = parse_extensions6(skb, &found, quoted->protocol);
	/* Only the first fragment of a datagram has the ports. */
	if (found.fragment == FRAGMENT_LATER)
		return false;
	work->ports_at = found.l4;
#endif
	/* In packet and tuple, addresses are adjacent, and so are ports. */
	if (bpf_skb_load_bytes(skb, quote + AT_ADDRESSES, &quoted->saddr,
			       2 * sizeof(addr_t)) ||
	    bpf_skb_load_bytes(skb, work->ports_at, &quoted->sport, 4))
		return false;
	if (quoted->protocol != IPPROTO_TCP &&
	    quoted->protocol != IPPROTO_UDP && quoted->protocol != IPPROTO_SCTP)
		return false;
	*inner = *quoted;
	inner->saddr = quoted->daddr;
	inner->daddr = quoted->saddr;
	inner->sport = quoted->dport;
	inner->dport = quoted->sport;
	return true;
}

/*
 * Writes the addresses of `to` into the IP header at `at`. Also adjusts the
 * header checksum of IPv4.
 */
static __always_inline int FN(icmp_store_addresses)(struct __sk_buff *skb,
						    __u32 at,
						    struct FN(tuple) *from,
						    struct FN(tuple) *to)
{
#if FAMILY == 4
	__u32 check_at = at + offsetof(struct iphdr, check);
	__u16 check;

	if (bpf_skb_load_bytes(skb, check_at, &check, sizeof(check)))
		return -DROP_WRITE;
	check = csum_adjust(check, csum_diff_tuple4(from, to));
	if (bpf_skb_store_bytes(skb, check_at, &check, sizeof(check), 0))
		return -DROP_WRITE;
#else
	(void)from;
#endif
	if (bpf_skb_store_bytes(skb, at + AT_ADDRESSES, &to->saddr,
				2 * sizeof(addr_t), 0))
		return -DROP_WRITE;
	return 0;
}

/* Writes `inner` into the quoted packet. */
static noinline int FN(icmp_rewrite)(struct __sk_buff *skb, __u32 l4,
				     struct FN(icmp_work) *work)
{
	struct FN(tuple) *quoted = &work->quoted, *inner = &work->inner;
	__u32 diff;

	diff = csum_diff16(quoted->sport, inner->sport) +
	       csum_diff16(quoted->dport, inner->dport);
#if FAMILY == 6
	/*
	 * An IPv6 header has no checksum that compensates for the change of the
	 * quoted addresses.
	 */
	diff = csum_fold32((__u64)diff + csum_diff_tuple6(quoted, inner));
#endif
	if (FN(icmp_store_addresses)(skb, l4 + ICMP_QUOTE, quoted, inner) ||
	    bpf_skb_store_bytes(skb, work->ports_at, &inner->sport, 4, 0) ||
	    bpf_l4_csum_replace(skb, l4 + ICMP_CHECK_OFFSET, 0, diff, 0))
		return -DROP_WRITE;
	return 0;
}

/*
 * Writes the outer addresses. The ICMPv6 checksum includes them as part of a
 * pseudo-header (RFC 4443, 2.3).
 */
static noinline int FN(icmp_rewrite_outer)(struct __sk_buff *skb, __u32 l4,
					   struct FN(tuple) *from,
					   struct FN(tuple) *to)
{
	if (FN(icmp_store_addresses)(skb, LINK_HLEN, from, to))
		return -DROP_WRITE;
#if FAMILY == 6
	if (bpf_l4_csum_replace(skb, l4 + ICMP_CHECK_OFFSET, 0,
				csum_diff_tuple6(from, to), 0))
		return -DROP_WRITE;
#else
	(void)l4;
#endif
	return 0;
}

/*
 * Finds the flow of the quoted packet, and what the flow does with packets that
 * take the way of the error.
 */
static __always_inline bool FN(icmp_path)(struct __sk_buff *skb,
					  struct FN(icmp_work) *work,
					  enum hook hook)
{
	struct FN(flow) *flow;

	work->inner.side = SIDE_IN;
	if (hook_is_egress(hook)) {
		flow = FN(ct_lookup_inner)(&work->inner);
		if (flow && FN(flow_path_out)(flow, &work->inner, &work->path))
			return true;
		/* An error about a reply to a socket of the node. */
		if (!is_from_node(skb, hook))
			return false;
		work->inner.side = SIDE_OUT;
	}
	flow = FN(ct_lookup)(&work->inner);
	return flow && FN(flow_path_in)(flow, &work->inner, &work->path);
}

/* Translates an ICMP error about a flow. Returns a TC action or -DROP_*. */
static noinline int FN(icmp_error)(struct __sk_buff *skb, struct FN(packet) *p,
				   enum hook hook)
{
	struct lb_scratch *scratch = scratch_row();
	struct FN(icmp_work) *work;
	__u32 l4 = bounded(p->l4), quote = l4 + ICMP_QUOTE;
	struct FN(path) *path;
	bool is_redirect;
	__u8 type;
	int ret;

	_Static_assert(sizeof(*work) <= sizeof(scratch->answer),
		       "lb_scratch.answer is too small");
	if (!scratch)
		return TC_ACT_OK;
	work = (struct FN(icmp_work) *)scratch->answer;
	path = &work->path;
	if (bpf_skb_load_bytes(skb, l4, &type, sizeof(type)))
		return TC_ACT_OK;
	is_redirect = type == ICMP_REDIRECT_TYPE && hook_is_egress(hook);
	if (is_redirect)
		quote = FN(icmp_redirect_quote)(skb, l4);
	else if (!FN(icmp_is_error)(type))
		return TC_ACT_OK;
	if (!quote || !FN(icmp_quoted)(skb, quote, work))
		return TC_ACT_OK;
	/*
	 * An error is sent to the source of the quoted packet. Otherwise it is
	 * forged, and the translation would change its receiver.
	 */
	if (!is_redirect &&
	    !FN(addr_equal)(&p->tuple.daddr, &work->quoted.saddr))
		return TC_ACT_OK;
	if (!FN(icmp_path)(skb, work, hook))
		return TC_ACT_OK;
	/*
	 * The stack knows the backend and not the VIP, so the advice is of no
	 * use to the client.
	 */
	if (is_redirect)
		return -DROP_REDIRECT;
	/*
	 * If packets of the flow get a new source address in this direction,
	 * the error gets that source address too, whichever router sent it.
	 * netfilter does the same. Otherwise, if the next hop is the router
	 * that sent the error, this router would reject the error as a packet
	 * from its own address.
	 */
	if (hook_is_egress(hook))
		unmark_packet(skb);
	else
		mark_packet(skb);
	work->outer = p->tuple;
	if (!FN(addr_equal)(&path->to.saddr, &work->inner.saddr))
		work->outer.saddr = path->to.saddr;
	work->outer.daddr = path->to.daddr;
	work->inner.saddr = path->to.daddr;
	work->inner.daddr = path->to.saddr;
	work->inner.sport = path->to.dport;
	work->inner.dport = path->to.sport;
	ret = FN(icmp_rewrite)(skb, l4, work);
	if (!ret)
		ret = FN(icmp_rewrite_outer)(skb, l4, &p->tuple, &work->outer);
	if (ret || !(path->flags & FLOW_NODE_CLIENT) || path->row == ROW_INNER)
		return ret;
	return FN(forward_node)(skb, path, hook);
}
#undef ICMP_REDIRECT_TYPE
#undef AT_ADDRESSES
#undef AT_PROTOCOL

#endif
