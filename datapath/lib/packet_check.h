/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Would the kernel refuse this packet? Such a packet must open no flow, take no
 * port, renew no affinity and get no answer. It is passed on unchanged, and the
 * kernel drops it. The kernel accepts an IPv6 packet with an address of the node
 * as source, but no other host may send it, so it is passed on too. The tests
 * are those of ip_rcv_core(), ip_rcv_options(),
 * ip_route_input_slow() and ip6_rcv_core(). Reads only. Called by walk_in.h for
 * each packet to a Service that belongs to no flow.
 */
#ifndef SLUICE_PACKET_CHECK_H
#define SLUICE_PACKET_CHECK_H

#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
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
#include "csum.h"
#include "scratch.h"
#include "explain.h"
#include "frame.h"
#include "parse.h"
#include "address_set.h"
#include "route.h"

#define IPV4_HEADER_MOST 60 /* bytes: RFC 791, 3.1 */
#define IPV4_HEADER_ROOM 64
#define IPV4_OPTIONS_MOST 40
#define IPV4_OPTION_END 0
#define IPV4_OPTION_NOP 1
#define IPV4_OPTION_LSRR 131 /* loose source and record route */
#define IPV4_OPTION_SSRR 137 /* strict source and record route */

/* Addresses that no packet from another host may have as source. */
static __always_inline bool source_is_martian4(const addr4 *source)
{
	__u32 address = bpf_ntohl(*source);

	return address >> 24 == 0 || /* this network: RFC 6890, 2.2.2 */
	       address >> 24 == 127 || address >> 28 == 14 /* multicast */ ||
	       address == 0xffffffff;
}

static __always_inline bool source_is_martian6(const addr6 *source)
{
	const __be32 *word = source->word;

	if ((word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000))
		return true; /* multicast */
	if (word[0] || word[1])
		return false;
	/* Unspecified and loopback, and IPv4-mapped: RFC 4291, 2.5. */
	return (!word[2] && !(word[3] & ~bpf_htonl(1))) ||
	       word[2] == bpf_htonl(0xffff);
}

/*
 * Do the options of the header hold a source route? `header` has 64 bytes. The
 * verifier must not track the exact offset, or it would follow each path through
 * the options.
 */
static __always_inline bool has_source_route(const __u8 *header, __u32 length)
{
	__u32 at = sizeof(struct iphdr);
	int i;

	for (i = 0; i < IPV4_OPTIONS_MOST && at + 1 < length; i++) {
		__u8 type, size;

		asm volatile("%0 &= 0x3f" : "+r"(at));
		type = header[at];
		if (type == IPV4_OPTION_END)
			return false;
		if (type == IPV4_OPTION_NOP) {
			at++;
			continue;
		}
		size = header[(at + 1) & 0x3f];
		if (type == IPV4_OPTION_LSRR || type == IPV4_OPTION_SSRR ||
		    size < 2)
			return true;
		at += size;
	}
	return false;
}

#define FAMILY_PART "packet_check.h"
#include "each_family.h"

#elif defined(FAMILY)

#if FAMILY == 4
/* Is the IPv4 header wrong, or does it hold a source route? */
static __always_inline bool header_is_bad4(struct __sk_buff *skb,
					   struct packet4 *p)
{
	struct lb_scratch *scratch = scratch_row();
	__u32 length = p->l4 - LINK_HLEN, total;
	struct iphdr *ip;

	_Static_assert(IPV4_HEADER_ROOM <= sizeof(scratch->answer),
		       "lb_scratch.answer is too small");
	if (!scratch)
		return true;
	ip = (struct iphdr *)scratch->answer;
	__builtin_memset(ip, 0, IPV4_HEADER_ROOM);
	if (length < sizeof(*ip) || length > IPV4_HEADER_MOST ||
	    bpf_skb_load_bytes(skb, LINK_HLEN, ip, length))
		return true;
	total = bpf_ntohs(ip->tot_len);
	/* The length of a segmented packet may not fit into the header. */
	if (!skb->gso_size && (total < length || total > skb->len - LINK_HLEN))
		return true;
	if (csum_of(ip, IPV4_HEADER_ROOM, 0))
		return true;
	return length > sizeof(*ip) && has_source_route((__u8 *)ip, length);
}

/*
 * Would source validation drop the packet (rp_filter 1: RFC 3704, 2.2)? The
 * route to the source must lead out of the device that the packet came in by.
 * The kernel has no source validation for IPv6.
 */
static __always_inline bool source_is_elsewhere4(struct __sk_buff *skb,
						 struct packet4 *p)
{
	struct lb_device *device = device_row(skb->ifindex);
	struct bpf_fib_lookup fib;
	long ret;

	if (!device || !(device->flags & DEVICE_STRICT_SOURCE))
		return false;
	__builtin_memset(&fib, 0, sizeof(fib));
	fib.family = FIB_FAMILY_4;
	fib.ifindex = device->route_dev;
	fib.ipv4_src = p->tuple.daddr;
	fib.ipv4_dst = p->tuple.saddr;
	ret = bpf_fib_lookup(skb, &fib, sizeof(fib), BPF_FIB_LOOKUP_SKIP_NEIGH);
	switch (ret) {
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return fib.ifindex != device->route_dev;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
	case BPF_FIB_LKUP_RET_UNREACHABLE:
	case BPF_FIB_LKUP_RET_PROHIBIT:
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		return true;
	default:
		return false; /* no answer: the kernel judges */
	}
}
#else
/* Does the IPv6 header promise more bytes than there are? */
static __always_inline bool header_is_bad6(struct __sk_buff *skb,
					   struct packet6 *p)
{
	__be16 length;

	(void)p;
	if (bpf_skb_load_bytes(
		    skb, LINK_HLEN + offsetof(struct ipv6hdr, payload_len),
		    &length, sizeof(length)))
		return true;
	return bpf_ntohs(length) + LINK_HLEN + sizeof(struct ipv6hdr) >
	       skb->len;
}
#endif

noinline bool FN(packet_is_refused)(struct __sk_buff *skb, struct FN(packet) *p)
{
	if (!p)
		return true;
	if (FN(source_is_martian)(&p->tuple.saddr) ||
	    FN(address_set_has)(SET_NODE, &p->tuple.saddr) ||
	    FN(header_is_bad)(skb, p))
		return true;
#if FAMILY == 4
	return !explain_assumes_route() && source_is_elsewhere4(skb, p);
#else
	return false;
#endif
}

#endif
