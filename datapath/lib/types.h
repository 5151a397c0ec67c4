/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every struct and enum that user space shares with the programs. The codecs in
 * daemon/maps/gen are generated from these by their BTF, so a layout is typed
 * once, here. Members named pad* are never read. No code in this file.
 */
#ifndef SLUICE_TYPES_H
#define SLUICE_TYPES_H

#include <linux/types.h>

/* An address in wire order; the codecs turn both into canonical text. */
typedef __be32 addr4;
typedef struct {
	__be32 word[4];
} addr6;

/* Bumped when a pinned layout changes: another number is refused at start. */
enum layout { LAYOUT_VERSION = 2 };

/* Low byte of lb_frontend.meta. */
enum frontend_flags {
	FRONTEND_EXTERNAL =
		1, /* governed by the external policy: no ClusterIP */
	FRONTEND_LOCAL = 2, /* that policy is Local */
	FRONTEND_RANGES = 4, /* only sources in the range set of its service */
	FRONTEND_NODE_PORT = 8, /* its address is the node's own */
};

/*
 * Sets of addresses in lb4_ranges, lb6_ranges. A smaller number is an index
 * into lb_services: the loadBalancerSourceRanges of that Service port.
 */
enum address_set {
	SET_NODE = 0x80000000, /* this node's own */
	SET_POD, /* local pods, as the detector tells them by address */
	SET_CLUSTER_IP, /* a ClusterIP of some Service */
	SET_SERVICE_CIDR, /* what ClusterIPs are taken from */
};

enum host_flags {
	HOST_DETECT_CIDR4 = 1, /* a local pod is a source in SET_POD */
	HOST_DETECT_CIDR6 = 2,
	HOST_DETECT_INTERFACE4 = 4, /* ... what comes from a pod's interface */
	HOST_DETECT_INTERFACE6 = 8,
	HOST_MASQUERADE_ALL = 16,
	HOST_TC_PODS = 32, /* tc translates what pods send */
	HOST_TC_NODE = 64, /* ... and what the node's own sockets send */
};

/* Low byte of lb4_backend.meta. */
enum backend_state {
	BACKEND_USABLE = 1, /* in the set of policy Cluster */
	BACKEND_LOCAL = 2, /* on this node */
	BACKEND_SERVING = 4, /* serving or ready; old flows ask */
	BACKEND_PRESENT = 8, /* in the EndpointSlices; 0: the id is free */
	BACKEND_LOCALLY_USABLE = 16, /* in the set of policy Local */
};

/* Why a packet died, or a connect() was refused. Index into lb_drops. */
enum drop_reason {
	DROP_NONE = 0,
	DROP_NO_BACKEND, /* the frontend has no usable backend: refused */
	DROP_NO_LOCAL_BACKEND, /* policy Local, and all backends are elsewhere */
	DROP_WRONG_PORT, /* a ClusterIP, but not a port of its: refused */
	DROP_UNALLOCATED, /* inside a Service CIDR, but no ClusterIP */
	DROP_SOURCE_RANGE, /* the source is not in loadBalancerSourceRanges */
	DROP_REFUSE_RATE, /* refused, but the answer was over the rate limit */
	DROP_FRONTEND_TORN, /* the frontend entry kept changing while read */
	DROP_BACKEND_STALE, /* a slot names a backend that is not there */
	DROP_FLOW_FULL, /* the flow table took no row */
	DROP_NO_FLOW, /* TCP without SYN that would need a new source port */
	DROP_PORT_EXHAUSTED, /* no free source port towards this backend */
	DROP_NO_NODE_ADDRESS, /* to be masqueraded, but as whom is not known */
	DROP_NO_ROUTE, /* the FIB has no way to the backend */
	DROP_HOP_LIMIT, /* TTL ran out here: answered with time exceeded */
	DROP_TOO_BIG, /* for the next device: answered with its MTU */
	DROP_NODE_TO_SELF, /* node to its own backend: needs socket_lb */
	DROP_MALFORMED, /* headers shorter than they say */
	DROP_WRITE, /* the kernel would not let us rewrite the packet */
	DROP_REASONS, /* number of reasons, not a reason */
};

struct lb_drop {
	__u64 packets;
	__u64 bytes; /* 0 for refused connect() calls */
};

/* lb_config[0]: written once, when the maps are made. */
struct lb_config {
	__u32 layout; /* enum layout */
	__u32 pad;
	__u64 seed[2]; /* of flow hashes; pinned so that a restart keeps them */
};

/* lb_host[0]: what holds for every Service on this node; may change any time. */
struct lb_host {
	addr4 address4; /* source of masqueraded packets; 0: not known */
	__u32 flags; /* enum host_flags */
	addr6 address6;
	__u64 netns; /* cookie of the node's network namespace */
	/* All ClusterIPs and Service CIDRs lie between these; host order. */
	__u64 cluster4_first;
	__u64 cluster4_last;
	__u64 cluster6_first; /* upper half of the address */
	__u64 cluster6_last;
	/* Source ports of masqueraded flows, host order: two ranges. */
	__u32 snat_first[2];
	__u32 snat_count[2];
};

struct lb4_key {
	addr4 address; /* VIP */
	__be16 port;
	__u8 protocol; /* IPPROTO_* */
	__u8 pad;
};

struct lb6_key {
	addr6 address;
	__be16 port;
	__u8 protocol;
	__u8 pad;
};

/* Read by one 8-byte load. */
struct lb_frontend {
	__u32 service; /* index into lb_services, never 0 */
	__u32 meta; /* frontend_check4/6() of the key << 8 | enum frontend_flags */
};

/*
 * One run of slots holds both sets of a Service port: first those for policy
 * Local alone, then those for both, then those for Cluster alone. Each set is
 * read and published by one 8-byte access.
 */
struct lb_service {
	__u32 base; /* policy Cluster: first slot */
	__u32 count; /* slots; 0: no usable backend anywhere */
	__u32 local_base; /* policy Local */
	__u32 local_count;
	__u32 affinity; /* seconds of ClientIP affinity; 0: none */
	__u32 pad[3];
};

/* Key of the LPM tries. */
struct lb4_range_key {
	__u32 prefix; /* 32 for the set, and the length of the CIDR */
	__u32 set; /* enum address_set */
	addr4 address;
};

struct lb6_range_key {
	__u32 prefix;
	__u32 set;
	addr6 address;
};

struct lb4_affinity_key {
	__u32 service; /* index into lb_services */
	addr4 client;
};

struct lb6_affinity_key {
	__u32 service;
	addr6 client;
};

struct lb_affinity {
	__u32 backend_id;
	__u32 generation;
	__u64 renewed; /* ktime ns of the last new connection */
};

struct lb_slots {
	__u32 backend[16]; /* backend ids */
};

struct lb4_backend {
	addr4 address;
	__be16 port;
	__u16 pad;
	__u32 service; /* owner: index into lb_services */
	__u32 meta; /* generation << 8 | enum backend_state; written last */
};

struct lb6_backend {
	addr6 address;
	__be16 port;
	__u16 pad;
	__u32 pad2;
	__u32 service;
	__u32 meta;
};

/* Key of ct4, ct6: the tuple as one direction's packets carry it. */
struct tuple4 {
	addr4 saddr;
	addr4 daddr;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 pad[3]; /* zero */
};

struct tuple6 {
	addr6 saddr;
	addr6 daddr;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 pad[3];
};

/* Fragments of one datagram: only the first one has the ports. */
struct tuple4_fragment {
	addr4 saddr;
	addr4 daddr;
	__u32 id; /* as in the header */
	__u8 protocol;
	__u8 pad[3];
};

struct tuple6_fragment {
	addr6 saddr;
	addr6 daddr;
	__u32 id;
	__u8 protocol;
	__u8 pad[3];
};

struct tuple_ports {
	__be16 sport;
	__be16 dport;
};

enum flow_direction {
	FLOW_FORWARD = 0, /* the row of client -> VIP */
	FLOW_REPLY = 1, /* the row of backend -> source */
};

enum flow_flags {
	FLOW_CLIENT_FIN = 1,
	FLOW_BACKEND_FIN = 2,
	FLOW_RST = 4,
	FLOW_NODE_CLIENT = 8, /* the client is a socket of this node */
	FLOW_NODE_BACKEND = 16, /* the backend is a socket of this node */
	FLOW_MASQUERADED = 32, /* the source is the node's, the port ours */
	FLOW_ANSWERED = 64, /* the backend has sent something; in both rows */
};

/*
 * A flow is one object in two rows, one per direction, each holding all of it:
 * client -> VIP becomes source -> backend, and back.
 */
struct flow4 { /* 64 bytes: with its key, whole cache lines of the hash */
	addr4 client;
	addr4 vip;
	addr4 source; /* what the backend sees: client, VIP (hairpin) or node */
	addr4 backend;
	__be16 client_port;
	__be16 vip_port;
	__be16 source_port; /* the client's, unless masqueraded or two VIPs collided */
	__be16 backend_port;
	__u32 backend_id; /* index into lb4_backends */
	__u32 generation; /* of that id when it was chosen */
	__u32 backend_dev; /* ifindex towards the backend */
	__u32 client_dev; /* ifindex towards the client */
	__u32 seen; /* flow_now() of the last refresh of this row */
	__u32 flags; /* enum flow_flags; FIN and RST in the forward row only */
	__u8 protocol;
	__u8 direction; /* enum flow_direction */
	__u8 node_mac[6]; /* of client_dev, when FLOW_NODE_CLIENT */
	__u64 pad;
};

struct flow6 {
	addr6 client;
	addr6 vip;
	addr6 source;
	addr6 backend;
	__be16 client_port;
	__be16 vip_port;
	__be16 source_port;
	__be16 backend_port;
	__u32 backend_id;
	__u32 generation;
	__u32 backend_dev;
	__u32 client_dev;
	__u32 seen;
	__u32 flags;
	__u8 protocol;
	__u8 direction;
	__u8 node_mac[6];
};

/*
 * Keys of the socket maps. sk4_backends: (socket, VIP) -> the backend it talks
 * to; sk4_vips: (socket, backend) -> the VIP it believes it talks to.
 */
struct sk4_key {
	__u64 cookie;
	addr4 address;
	__be16 port;
	__u16 pad;
};

struct sk6_key {
	__u64 cookie;
	addr6 address;
	__be16 port;
	__u16 pad;
	__u32 pad2;
};

struct sk4_backend {
	addr4 address;
	__be16 port;
	__u16 pad;
	__u32 backend_id;
	__u32 generation;
};

struct sk6_backend {
	addr6 address;
	__be16 port;
	__u16 pad;
	__u32 backend_id;
	__u32 generation;
};

struct sk4_vip {
	addr4 address;
	__be16 port;
	__u16 pad;
};

struct sk6_vip {
	addr6 address;
	__be16 port;
	__u16 pad;
};

/* Fixed-window count of the answers to refused packets, one per CPU. */
struct lb_limit {
	__u32 window; /* flow_now() of the current window */
	__u32 sent;
};

/* Backends that had no free source port left, by hash; one of many rows. */
struct lb_exhausted {
	__u64 backend; /* hash of address, port and protocol */
	__u64 until; /* ktime ns */
	__u32 failures; /* in a row */
	__u32 pad;
};

/* ex_record[0]: what a twin decided about the packet of one test run. */
struct lb_explain {
	__u32 service; /* index into lb_services; 0: no frontend was found */
	__u32 flags; /* enum frontend_flags */
	__u32 is_decided; /* the source was admitted, the set and the source decided */
	__u32 is_local; /* the set of policy Local was asked */
	__u32 masquerades; /* by the rules, whatever the backend */
	__u32 is_affine; /* affinity named the backend */
	__u32 backend_id; /* 0: none was chosen */
	__u32 is_masqueraded; /* the source becomes the node's */
	__u32 is_hairpin; /* the backend is the source */
	__u32 is_flow; /* an old flow decided, no look-up was needed */
	__u32 drop; /* enum drop_reason */
	__u32 dev; /* ifindex it would leave by */
	__u32 assume_route; /* in: every address has a route */
};

/* The argument of ex_connect: a socket that calls connect() or sendmsg(). */
struct lb_connect {
	addr6 address6; /* whom it calls; one of the two */
	addr4 address4;
	__be16 port;
	__u8 family; /* 4 or 6 */
	__u8 protocol; /* IPPROTO_* */
	__u32 is_node; /* a socket in the node's network namespace */
	__u32 is_datagram; /* sendmsg() */
};

/* What is too big for the 512-byte stack; only while one program runs. */
struct lb_scratch {
	struct flow4 flow4; /* the flow in the making */
	struct flow6 flow6;
	struct tuple4 old_reply4; /* reply key of the flow that it replaces */
	struct tuple6 old_reply6;
	__u64 walk6[16]; /* the walk's own variables, IPv6 */
	__u64 answer[32]; /* an ICMP error or refusal in the making */
};

#endif
