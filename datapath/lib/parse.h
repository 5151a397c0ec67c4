/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The step "parse": reads the tuple of a packet. Returns PARSE_OURS for TCP,
 * UDP and SCTP, PARSE_ICMP for ICMP of any type (the tuple then holds addresses
 * only), and PARSE_PASS for everything else: other protocols, frames without an
 * IP header where it must be, packets that are too short, and fragments whose
 * first fragment was not seen. It writes only the maps frag4 and frag6, which
 * contain the ports of fragmented datagrams.
 */
#ifndef SLUICE_PARSE_H
#define SLUICE_PARSE_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "family.h"
#include "link.h"
#include "verifier.h"

enum parse_result { PARSE_PASS, PARSE_OURS, PARSE_ICMP };

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/*
 * Bytes of the L4 header that are read: for TCP up to and including the flags.
 */
#define L4_TCP_BYTES 14
#define L4_UDP_BYTES 8
#define L4_SCTP_BYTES 16 /* includes the header of the first chunk */

/* Chunks that open or end an association: RFC 9260, 3.2. */
#define SCTP_INIT 1
#define SCTP_INIT_ACK 2
#define SCTP_ABORT 6
#define SCTP_SHUTDOWN_COMPLETE 14

enum fragment {
	FRAGMENT_NONE, /* a whole packet */
	FRAGMENT_FIRST, /* has the ports */
	FRAGMENT_LATER, /* has no ports: frag4 or frag6 has them */
};

#define IP_OFFSET_AND_MORE 0x3fff
#define IP_OFFSET 0x1fff

/*
 * The type of the first SCTP chunk as TCP flags: SYN if the chunk opens an
 * association, RST if it ends one.
 */
static __always_inline __u8 sctp_as_tcp_flags(__u8 chunk)
{
	switch (chunk) {
	case SCTP_INIT:
		return TCP_SYN;
	case SCTP_INIT_ACK:
		return TCP_SYN | TCP_ACK;
	case SCTP_ABORT:
	case SCTP_SHUTDOWN_COMPLETE:
		return TCP_RST;
	default:
		return 0;
	}
}

#define FAMILY_PART "parse.h"
#include "each_family.h"

#elif defined(FAMILY)

struct FN(packet) {
	struct FN(tuple) tuple;
	__u32 l4; /* offset of the L4 header in the frame */
	__u32 id; /* identification of the datagram, if fragmented */
	__u8 tcp_flags; /* SCTP: sctp_as_tcp_flags(); UDP: 0 */
	__u8 ttl;
	__u8 fragment; /* enum fragment */
};

/* Key of the datagram that a fragment belongs to. */
static __always_inline void FN(fragment_key)(const struct FN(packet) *p,
					     struct PASTE3(tuple, FAMILY,
							   _fragment) *
						     key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->saddr = p->tuple.saddr;
	key->daddr = p->tuple.daddr;
	key->id = p->id;
	key->protocol = p->tuple.protocol;
}

/* Sets the ports of a later fragment. PARSE_PASS if they are unknown. */
static noinline int FN(fragment_ports)(struct FN(packet) *p)
{
	struct PASTE3(tuple, FAMILY, _fragment) key;
	struct tuple_ports *ports;

	if (!p)
		return PARSE_PASS;
	FN(fragment_key)(p, &key);
	ports = bpf_map_lookup_elem(&FN(frag), &key);
	if (!ports)
		return PARSE_PASS;
	p->tuple.sport = ports->sport;
	p->tuple.dport = ports->dport;
	return PARSE_OURS;
}

/* Removes the ports that an earlier datagram with the same key has left. */
static noinline void FN(fragment_forget)(struct FN(packet) *p)
{
	struct PASTE3(tuple, FAMILY, _fragment) key;

	if (!p)
		return;
	FN(fragment_key)(p, &key);
	map_remove(&FN(frag), &key);
}

/* Stores the ports of a first fragment for the fragments that follow. */
static noinline void FN(fragment_remember)(struct FN(packet) *p)
{
	struct PASTE3(tuple, FAMILY, _fragment) key;
	struct tuple_ports ports;

	if (!p)
		return;
	FN(fragment_key)(p, &key);
	ports.sport = p->tuple.sport;
	ports.dport = p->tuple.dport;
	map_write(&FN(frag), &key, &ports, BPF_ANY);
}

/* Reads ports and TCP flags at p->l4, for p->tuple.protocol. */
static __always_inline int FN(parse_l4)(struct __sk_buff *skb,
					struct FN(packet) *p)
{
	bool tcp = p->tuple.protocol == IPPROTO_TCP;
	bool sctp = p->tuple.protocol == IPPROTO_SCTP;
	__u32 l4 = bounded(p->l4);
	__u32 need = l4 + (tcp	? L4_TCP_BYTES :
			   sctp ? L4_SCTP_BYTES :
				  L4_UDP_BYTES);
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
	if (sctp) {
		if ((void *)ports + L4_SCTP_BYTES > end)
			return PARSE_PASS;
		p->tcp_flags = sctp_as_tcp_flags(((__u8 *)ports)[12]);
	}
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
	struct iphdr *ip = data + LINK_HLEN;

	__builtin_memset(p, 0, sizeof(*p));
	if ((void *)(ip + 1) > end) {
		if (bpf_skb_pull_data(skb, LINK_HLEN + sizeof(*ip)))
			return PARSE_PASS;
		data = skb_data(skb);
		end = skb_end(skb);
		ip = data + LINK_HLEN;
		if ((void *)(ip + 1) > end)
			return PARSE_PASS;
	}
	if (ip->version != 4 || ip->ihl < 5)
		return PARSE_PASS;
	p->tuple.saddr = ip->saddr;
	p->tuple.daddr = ip->daddr;
	p->tuple.protocol = ip->protocol;
	p->ttl = ip->ttl;
	p->l4 = LINK_HLEN + ip->ihl * 4;
	if (ip->frag_off & bpf_htons(IP_OFFSET_AND_MORE)) {
		p->id = ip->id;
		p->fragment = ip->frag_off & bpf_htons(IP_OFFSET) ?
				      FRAGMENT_LATER :
				      FRAGMENT_FIRST;
	}
	switch (ip->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (p->fragment == FRAGMENT_LATER)
			return fragment_ports4(p);
		return parse_l44(skb, p);
	case IPPROTO_ICMP:
		return p->fragment ? PARSE_PASS : PARSE_ICMP;
	default:
		return PARSE_PASS;
	}
}
#else
/*
 * Limit of extension headers before L4. RFC 8200, 4.1 lists five, with
 * destination options twice.
 */
#define IPV6_EXTENSIONS 5

struct extensions6 {
	__u32 l4;
	__u32 id;
	__u32 fragment;
};

/* Skips the extension headers. A slow path: most packets have none. */
static noinline int parse_extensions6(struct __sk_buff *skb,
				      struct extensions6 *found, __u8 protocol)
{
	struct {
		__u8 nexthdr;
		__u8 length; /* beyond the first 8 bytes, in 8-byte units */
		__be16 offset; /* valid in a fragment header (RFC 8200, 4.5) */
		__be32 id;
	} header;
	int i;

	if (!found)
		return IPPROTO_NONE;

	for (i = 0; i < IPV6_EXTENSIONS; i++) {
		switch (protocol) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_FRAGMENT:
			break;
		default:
			return protocol;
		}
		if (found->l4 > 1024 ||
		    bpf_skb_load_bytes(skb, found->l4, &header, sizeof(header)))
			return IPPROTO_NONE;
		/*
		 * The destination in the header is not the last one as long as
		 * segments are left (RFC 8200, 4.4).
		 */
		if (protocol == IPPROTO_ROUTING &&
		    header.offset & bpf_htons(0x00ff))
			return IPPROTO_NONE;
		if (protocol == IPPROTO_FRAGMENT) {
			found->id = header.id;
			found->fragment = header.offset & bpf_htons(0xfff8) ?
						  FRAGMENT_LATER :
						  FRAGMENT_FIRST;
			header.length = 0;
		}
		protocol = header.nexthdr;
		found->l4 += (header.length + 1) * 8;
		/*
		 * The payload of a later fragment does not start with a header.
		 */
		if (found->fragment == FRAGMENT_LATER)
			return protocol;
	}
	return protocol;
}

static __always_inline int parse6(struct __sk_buff *skb, struct packet6 *p)
{
	void *data = skb_data(skb);
	void *end = skb_end(skb);
	struct ipv6hdr *ip = data + LINK_HLEN;
	int protocol;

	__builtin_memset(p, 0, sizeof(*p));
	if ((void *)(ip + 1) > end) {
		if (bpf_skb_pull_data(skb, LINK_HLEN + sizeof(*ip)))
			return PARSE_PASS;
		data = skb_data(skb);
		end = skb_end(skb);
		ip = data + LINK_HLEN;
		if ((void *)(ip + 1) > end)
			return PARSE_PASS;
	}
	if (ip->version != 6)
		return PARSE_PASS;
	__builtin_memcpy(&p->tuple.saddr, &ip->saddr, sizeof(addr6));
	__builtin_memcpy(&p->tuple.daddr, &ip->daddr, sizeof(addr6));
	p->l4 = LINK_HLEN + sizeof(*ip);
	p->ttl = ip->hop_limit;
	protocol = ip->nexthdr;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP &&
	    protocol != IPPROTO_ICMPV6) {
		struct extensions6 found = { .l4 = p->l4 };

		protocol = parse_extensions6(skb, &found, protocol);
		p->l4 = found.l4;
		p->id = found.id;
		p->fragment = found.fragment;
		if (p->l4 > 1500)
			return PARSE_PASS;
	}
	p->tuple.protocol = protocol;
	switch (protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (p->fragment == FRAGMENT_LATER)
			return fragment_ports6(p);
		return parse_l46(skb, p);
	case IPPROTO_ICMPV6:
		return p->fragment ? PARSE_PASS : PARSE_ICMP;
	default:
		return PARSE_PASS;
	}
}
#endif

#endif
