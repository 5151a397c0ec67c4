// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Programs of another owner on the tc hooks, for tests. They judge IPv4 UDP
 * only. They are not part of the product.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct tuple {
	__be32 saddr, daddr;
	__be16 sport, dport;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64); /* packets that foreign_count has seen */
} foreign_seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tuple);
	__type(value, __u32);
} foreign_flows SEC(".maps");

static __always_inline bool read_udp(struct __sk_buff *skb, struct tuple *tuple)
{
	struct iphdr ip;
	struct udphdr udp;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) ||
	    ip.protocol != IPPROTO_UDP || ip.ihl != 5 ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(ip), &udp, sizeof(udp)))
		return false;
	tuple->saddr = ip.saddr;
	tuple->daddr = ip.daddr;
	tuple->sport = udp.source;
	tuple->dport = udp.dest;
	return true;
}

/* Counts datagrams. */
SEC("tc")
int foreign_count(struct __sk_buff *skb)
{
	struct tuple tuple;
	__u32 zero = 0;
	__u64 *seen = bpf_map_lookup_elem(&foreign_seen, &zero);

	if (seen && read_udp(skb, &tuple))
		__sync_fetch_and_add(seen, 1);
	return TC_ACT_UNSPEC;
}

/* Drops datagrams: a policy without state. */
SEC("tc")
int foreign_no_udp(struct __sk_buff *skb)
{
	struct tuple tuple;

	return read_udp(skb, &tuple) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/* Remembers datagrams, for foreign_answers on the other hook. */
SEC("tc")
int foreign_note(struct __sk_buff *skb)
{
	struct tuple tuple;
	__u32 one = 1;

	if (read_udp(skb, &tuple))
		bpf_map_update_elem(&foreign_flows, &tuple, &one, BPF_ANY);
	return TC_ACT_UNSPEC;
}

/* Drops datagrams that are no answer to a datagram that was remembered. */
SEC("tc")
int foreign_answers(struct __sk_buff *skb)
{
	struct tuple tuple, asked;

	if (!read_udp(skb, &tuple))
		return TC_ACT_UNSPEC;
	asked.saddr = tuple.daddr;
	asked.daddr = tuple.saddr;
	asked.sport = tuple.dport;
	asked.dport = tuple.sport;
	return bpf_map_lookup_elem(&foreign_flows, &asked) ? TC_ACT_UNSPEC :
							     TC_ACT_SHOT;
}

char _license[] SEC("license") = "GPL";
