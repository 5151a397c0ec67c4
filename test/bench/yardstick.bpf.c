// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The yardsticks of the benchmark. They are not part of the product.
 * - The wrapper gives each repetition of a test run a new packet and calls the
 *   program under test.
 * - The time of the empty program is subtracted from all other times.
 * - The floor programs are the smallest tc programs that serve IPv4 TCP and
 *   leave forwarding to the stack: a hash map of VIPs, two LRU rows per flow,
 *   NAT of requests where they enter and of replies where they leave, checksum
 *   helpers. A test run uses bench_floor. The programs floor_* are attached to
 *   the devices of a node and serve real connections.
 * - The floor hook is the smallest connect hook that translates.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEADERS 54 /* Ethernet, IPv4, TCP */

struct bench_state {
	__u32 flows; /* number of sources (address and port), used in turn */
	__u32 next;
	__u32 vips; /* number of destinations; the first is in headers */
	__u8 headers[HEADERS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_state);
} bench_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} bench_target SEC(".maps");

/*
 * Packet n has the n-th destination. Its source address 20.a.b.c and its source
 * port are computed from n, which gives 16 M different flows. The header has the
 * right checksum, since the kernel refuses other packets.
 */
SEC("tc")
int bench_wrapper(struct __sk_buff *skb)
{
	__u32 zero = 0, n;
	struct bench_state *state = bpf_map_lookup_elem(&bench_state, &zero);
	const __u32 check = ETH_HLEN + offsetof(struct iphdr, check);
	struct {
		__be32 address;
	} source, destination, before[2];
	__be16 port;

	if (!state)
		return TC_ACT_SHOT;
	n = state->next;
	state->next = n + 1 >= state->flows ? 0 : n + 1;
	bpf_skb_store_bytes(skb, 0, state->headers, HEADERS, 0);
	source.address = bpf_htonl(0x14000000 | (n >> 4 & 0xffffff));
	port = bpf_htons(1024 + (n & 15) * 1009);
	bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr),
			    &source, sizeof(source), 0);
	bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct iphdr), &port,
			    sizeof(port), 0);
	__builtin_memcpy(&destination,
			 state->headers + ETH_HLEN +
				 offsetof(struct iphdr, daddr),
			 sizeof(destination));
	destination.address = bpf_htonl(bpf_ntohl(destination.address) +
					(state->vips ? n % state->vips : 0));
	bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct iphdr, daddr),
			    &destination, sizeof(destination), 0);
	__builtin_memcpy(before,
			 state->headers + ETH_HLEN +
				 offsetof(struct iphdr, saddr),
			 sizeof(before));
	bpf_l3_csum_replace(skb, check, before[0].address, source.address, 4);
	bpf_l3_csum_replace(skb, check, before[1].address, destination.address,
			    4);
	bpf_tail_call(skb, &bench_target, 0);
	return TC_ACT_SHOT;
}

SEC("tc")
int bench_empty(struct __sk_buff *skb)
{
	(void)skb;
	return TC_ACT_OK;
}

struct floor_key {
	__be32 saddr, daddr;
	__be16 sport, dport;
	__u32 protocol;
};

struct floor_vip {
	__be32 address;
	__be16 port;
	__u16 protocol;
};

#define FLOOR_REPLY 0x8000 /* flag in `device`: replace the source */

/* A backend, and the translation of one direction of a flow. */
struct floor_backend {
	__be32 address;
	__be16 port;
	__u16 device; /* replies: that of the client; 0: the node's sockets */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, struct floor_vip);
	__type(value, __u32); /* index of the first of its two backends */
} floor_vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, struct floor_backend);
} floor_backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1048576);
	__type(key, struct floor_key);
	__type(value, struct floor_backend);
} floor_flows SEC(".maps");

static __always_inline __u16 csum16(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(__u16)(sum + (sum >> 16));
}

/*
 * Opens a flow: writes the row for requests, and the row for replies, with
 * which the VIP is restored. The two backends of a VIP are adjacent rows.
 */
static __always_inline int floor_open(const struct floor_key *key, __u32 first,
				      __u16 client, struct floor_backend *to)
{
	__u32 chosen = first + (bpf_get_prandom_u32() & 1);
	struct floor_backend *backend, reply;
	struct floor_key back = {};

	backend = bpf_map_lookup_elem(&floor_backends, &chosen);
	if (!backend)
		return -1;
	*to = *backend;
	bpf_map_update_elem(&floor_flows, key, to, BPF_ANY);
	back.saddr = to->address;
	back.daddr = key->saddr;
	back.sport = to->port;
	back.dport = key->sport;
	back.protocol = IPPROTO_TCP;
	reply.address = key->daddr;
	reply.port = key->dport;
	reply.device = client | FLOOR_REPLY;
	bpf_map_update_elem(&floor_flows, &back, &reply, BPF_ANY);
	return 0;
}

/*
 * `client`: the device on which requests arrive; 0: the node's sockets, whose
 * requests are translated where they leave, and their replies where they enter.
 */
static __always_inline int floor_walk(struct __sk_buff *skb, __u16 client,
				      bool is_egress)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);
	struct floor_backend *flow, to;
	struct floor_key key = {};
	struct floor_vip vip;
	__be32 address;
	__be16 port;
	__u32 *first;

	if (skb->protocol != bpf_htons(ETH_P_IP) || (void *)(tcp + 1) > end ||
	    ip->protocol != IPPROTO_TCP || ip->ihl != 5)
		return TC_ACT_OK;
	key.saddr = ip->saddr;
	key.daddr = ip->daddr;
	key.sport = tcp->source;
	key.dport = tcp->dest;
	key.protocol = IPPROTO_TCP;
	vip.address = key.daddr;
	vip.port = key.dport;
	vip.protocol = IPPROTO_TCP;
	first = bpf_map_lookup_elem(&floor_vips, &vip);
	flow = bpf_map_lookup_elem(&floor_flows, &key);
	/*
	 * A SYN always opens a flow. The client may have used its port for
	 * another VIP with the same backend since, which has overwritten the
	 * row for replies.
	 */
	if (flow && (!tcp->syn || tcp->ack))
		to = *flow;
	else if (!first || (is_egress && skb->ingress_ifindex))
		return TC_ACT_OK;
	else if (floor_open(&key, *first, client, &to))
		return TC_ACT_SHOT;
	if (to.device & FLOOR_REPLY) {
		if (is_egress != (to.device != FLOOR_REPLY))
			return TC_ACT_OK;
		address = key.saddr;
		port = key.sport;
		ip->saddr = to.address;
		tcp->source = to.port;
	} else {
		address = key.daddr;
		port = key.dport;
		ip->daddr = to.address;
		tcp->dest = to.port;
	}
	ip->check =
		csum16((__u64)(__u16)~ip->check + (__u32)~address + to.address);
	bpf_l4_csum_replace(skb, ETH_HLEN + 20 + offsetof(struct tcphdr, check),
			    address, to.address, BPF_F_PSEUDO_HDR | 4);
	bpf_l4_csum_replace(skb, ETH_HLEN + 20 + offsetof(struct tcphdr, check),
			    port, to.port, 2);
	return TC_ACT_OK;
}

SEC("tc")
int bench_floor(struct __sk_buff *skb)
{
	return floor_walk(skb, skb->ifindex, false);
}

SEC("tc")
int floor_pod_in(struct __sk_buff *skb)
{
	return floor_walk(skb, skb->ifindex, false);
}

SEC("tc")
int floor_pod_out(struct __sk_buff *skb)
{
	return floor_walk(skb, 0, true);
}

SEC("tc")
int floor_uplink_in(struct __sk_buff *skb)
{
	return floor_walk(skb, skb->ifindex, false);
}

SEC("tc")
int floor_uplink_out(struct __sk_buff *skb)
{
	return floor_walk(skb, 0, true);
}

struct floor_peer {
	__u64 cookie;
	__be32 address;
	__be16 port;
	__u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct floor_peer);
	__type(value, struct floor_vip);
} floor_peers SEC(".maps");

SEC("cgroup/connect4")
int bench_empty_hook(struct bpf_sock_addr *ctx)
{
	(void)ctx;
	return 1;
}

/*
 * Replaces the VIP with a backend, and stores the row that getpeername() reads.
 */
SEC("cgroup/connect4")
int bench_floor_hook(struct bpf_sock_addr *ctx)
{
	struct floor_backend *backend;
	struct floor_peer peer = {};
	struct floor_vip vip;
	__u32 *first, chosen;

	if (ctx->protocol != IPPROTO_TCP)
		return 1;
	vip.address = ctx->user_ip4;
	vip.port = ctx->user_port;
	vip.protocol = IPPROTO_TCP;
	first = bpf_map_lookup_elem(&floor_vips, &vip);
	if (!first)
		return 1;
	chosen = *first + (bpf_get_prandom_u32() & 1);
	backend = bpf_map_lookup_elem(&floor_backends, &chosen);
	if (!backend)
		return 1;
	peer.cookie = bpf_get_socket_cookie(ctx);
	peer.address = backend->address;
	peer.port = backend->port;
	bpf_map_update_elem(&floor_peers, &peer, &vip, BPF_ANY);
	ctx->user_ip4 = backend->address;
	ctx->user_port = backend->port;
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
