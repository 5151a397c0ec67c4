/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every struct and enum that the programs share with user space; those of
 * addresses and flows are in types_address.h and types_flow.h. The codecs in
 * daemon/maps/gen are generated from the BTF of these types, so each layout is
 * written once, here. Members named pad* are never read. No code in this file.
 */
#ifndef SLUICE_TYPES_H
#define SLUICE_TYPES_H

#include <linux/types.h>

#include "types_flow.h"

/* Of the pinned maps. The daemon rejects maps of another layout version. */
enum layout { LAYOUT_VERSION = 4 };

/* Low byte of lb_frontend.meta. */
enum frontend_flags {
	FRONTEND_EXTERNAL = 1, /* externalTrafficPolicy applies */
	FRONTEND_LOCAL = 2, /* the traffic policy of the frontend is Local */
	FRONTEND_RANGES = 4, /* admits only its loadBalancerSourceRanges */
	FRONTEND_NODE_PORT = 8, /* the address is an address of this node */
};

/*
 * Numbers of the address sets in lb4_ranges and lb6_ranges. A number below
 * SET_NODE is an index into lb_services; the set with that number contains the
 * loadBalancerSourceRanges of the Service port.
 */
enum address_set {
	SET_NODE = 0x80000000, /* this node's own addresses */
	SET_POD, /* local pods, if they are recognised by address */
	SET_CLUSTER_IP, /* the ClusterIPs of all Services */
	SET_SERVICE_CIDR, /* the ranges that ClusterIPs are allocated from */
};

enum host_flags {
	HOST_DETECT_CIDR4 = 1, /* local pods: by address, in SET_POD */
	HOST_DETECT_CIDR6 = 2,
	HOST_DETECT_INTERFACE4 = 4, /* local pods: by the pod interface */
	HOST_DETECT_INTERFACE6 = 8,
	HOST_MASQUERADE_ALL = 16, /* masquerade all traffic to ClusterIPs */
	HOST_TC_PODS = 32, /* tc programs translate what pods send */
	HOST_TC_NODE = 64, /* tc programs translate what node sockets send */
};

/* Low byte of lb4_backend.meta. */
enum backend_state {
	BACKEND_USABLE = 1, /* in the set of traffic policy Cluster */
	BACKEND_LOCAL = 2, /* on this node */
	BACKEND_SERVING = 4, /* serving or ready; checked for existing flows */
	BACKEND_PRESENT = 8, /* in an EndpointSlice; unset: the id is free */
	BACKEND_LOCALLY_USABLE = 16, /* in the set of traffic policy Local */
};

/* Why a packet was dropped, or a connect() was refused. Index into lb_drops. */
enum drop_reason {
	DROP_NONE = 0,
	DROP_NO_BACKEND, /* the frontend has no usable backend: refused */
	DROP_NO_LOCAL_BACKEND, /* policy Local, and no backend on this node */
	DROP_WRONG_PORT, /* a ClusterIP without this port: refused */
	DROP_UNALLOCATED, /* address in a Service CIDR, but no ClusterIP */
	DROP_SOURCE_RANGE, /* the source is not in loadBalancerSourceRanges */
	DROP_REFUSE_RATE, /* refused, but the rate limit allowed no answer */
	DROP_FRONTEND_TORN, /* the frontend entry changed during each read */
	DROP_BACKEND_STALE, /* the slot names no backend of this Service port */
	DROP_FLOW_FULL, /* the flow table rejected the new row */
	DROP_NO_FLOW, /* the flow was lost, so its source port is unknown */
	DROP_PORT_EXHAUSTED, /* no source port is free for this backend */
	DROP_NO_NODE_ADDRESS, /* no node address is known to masquerade with */
	DROP_NO_ROUTE, /* no route to the backend for a socket of the node */
	DROP_REDIRECT, /* an ICMP redirect about a translated packet */
	DROP_TOO_BIG, /* exceeds the MTU: answered with the MTU */
	DROP_NODE_TO_SELF, /* backend on the node itself, without --socket-lb */
	DROP_MALFORMED, /* the packet is shorter than its headers */
	DROP_WRITE, /* the kernel rejected a change to the packet */
	DROP_FRAGMENT, /* a fragment whose first fragment was not seen */
	DROP_REASONS, /* the number of reasons */
};

struct lb_drop {
	__u64 packets;
	__u64 bytes; /* 0 for refused connect() calls */
};

/* Which connections are served on a node that kube-proxy serves too. */
enum phase {
	PHASE_SERVING = 0, /* all */
	PHASE_MIGRATING, /* all except those that kube-proxy has opened */
	PHASE_DRAINING, /* those that have a flow; new ones are kube-proxy's */
};

/* lb_config[0]: layout and seed are written once, with the maps. */
struct lb_config {
	__u32 layout; /* enum layout */
	__u32 phase; /* enum phase; changed by commands only */
	__u64 seed[2]; /* seed of the flow hashes; kept across restarts */
};

/* lb_host[0]: settings of this node for all Services; may change any time. */
struct lb_host {
	addr4 address4; /* source of masqueraded packets; 0: unknown */
	__u32 flags; /* enum host_flags */
	addr6 address6;
	__u64 netns; /* cookie of the node's network namespace */
	/* Bounds of all ClusterIPs and Service CIDRs, in host byte order. */
	__u64 cluster4_first;
	__u64 cluster4_last;
	__u64 cluster6_first; /* upper half of the address */
	__u64 cluster6_last;
	/* Two ranges of source ports for masqueraded flows, host byte order. */
	__u32 snat_first[2];
	__u32 snat_count[2];
	__u32 forward_mark; /* mark of translated packets; 0: none */
	__u32 sources_changed; /* flow_now() when a source address went */
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

/* Value of lb4_frontends, lb6_frontends: read by one 8-byte load. */
struct lb_frontend {
	__u32 service; /* index into lb_services, never 0 */
	__u32 meta; /* frontend_check() of the key << 8 | enum frontend_flags */
};

/*
 * One run (a contiguous range of slots) contains both backend sets of a Service
 * port, in this order: slots that belong only to traffic policy Local, slots of
 * both policies, slots that belong only to policy Cluster. Base and count of a
 * set are read and written together, by one 8-byte access.
 */
struct lb_service {
	__u32 base; /* first slot of the set of traffic policy Cluster */
	__u32 count; /* number of slots; 0: no usable backend anywhere */
	__u32 local_base; /* first slot of the set of policy Local */
	__u32 local_count;
	__u32 affinity; /* seconds of ClientIP affinity; 0: none */
	__u32 pad[3];
};

/* Key of the LPM tries lb4_ranges, lb6_ranges. */
struct lb4_range_key {
	__u32 prefix; /* 32 bits for the set, plus the CIDR length */
	__u32 set; /* enum address_set */
	addr4 address;
};

struct lb6_range_key {
	__u32 prefix;
	__u32 set;
	addr6 address;
};

/*
 * Key of the LPM tries lb4_sources, lb6_sources: the source address of
 * masqueraded packets by the device that they leave by. The address is the next
 * hop (IPv4) or the backend (IPv6). The rows with ifindex 0 are for devices
 * without an address.
 */
struct lb4_source_key {
	__u32 prefix; /* 32 bits for the device, plus those of the address */
	__u32 ifindex;
	addr4 address;
};

struct lb6_source_key {
	__u32 prefix;
	__u32 ifindex;
	addr6 address;
};

struct lb4_source {
	addr4 address;
};

struct lb6_source {
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
	__u64 renewed; /* time of the last new connection, ktime in ns */
};

struct lb_slots {
	__u32 backend[16]; /* backend ids */
};

struct lb4_backend {
	addr4 address;
	__be16 port;
	__u16 pad;
	__u32 service; /* index of the owner in lb_services */
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

/* Key of frag4, frag6: one datagram. Only its first fragment has the ports. */
struct tuple4_fragment {
	addr4 saddr;
	addr4 daddr;
	__u32 id; /* identification, as in the header */
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

/* Value of frag4, frag6. */
struct tuple_ports {
	__be16 sport;
	__be16 dport;
};

/*
 * Keys of the socket maps. sk4_backends: (socket, VIP) -> the backend that was
 * selected. sk4_vips: (socket, backend) -> the VIP that the application used.
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

enum device_flags {
	DEVICE_BRIDGE_PORT = 1, /* bridge_mac is set */
	DEVICE_STRICT_SOURCE = 2, /* rp_filter is 1 */
	DEVICE_SOURCE_RULES4 = 4, /* an uplink; routes depend on the source */
	DEVICE_SOURCE_RULES6 = 8,
};

/* Value of lb_devices. The key is the ifindex of a device with programs. */
struct lb_device {
	__u32 route_dev; /* ifindex of the device in routes: itself, or its bridge */
	__u8 bridge_mac[6];
	__u8 flags; /* enum device_flags */
	__u8 pad;
};

/* Fixed-window count of the ICMP answers on one device. */
struct lb_limit {
	__u32 window; /* flow_now() of the current window */
	__u32 sent;
};

/* A backend without a free source port, in the row that its hash selects. */
struct lb_exhausted {
	__u64 backend; /* hash of address, port and protocol */
	__u64 until; /* ktime ns */
	__u32 failures; /* consecutive */
	__u32 pad;
};

/* ex_record[0]: the decisions of an explain program in one test run. */
struct lb_explain {
	addr6 source6; /* is_masqueraded: the new source, source6 or source4 */
	addr4 source4;
	__u32 service; /* index into lb_services; 0: no frontend was found */
	__u32 flags; /* enum frontend_flags */
	__u32 is_decided; /* the source is admitted and the policy decided */
	__u32 is_local; /* the set of traffic policy Local was used */
	__u32 masquerades; /* decided by policy; the backend may change it */
	__u32 is_affine; /* session affinity selected the backend */
	__u32 backend_id; /* 0: no backend was selected */
	__u32 is_masqueraded; /* the source becomes an address of the node */
	__u32 is_hairpin; /* the backend is the client itself */
	__u32 is_flow; /* the backend comes from an existing flow */
	__u32 is_refused; /* the kernel refuses the packet (packet_check.h) */
	__u32 drop; /* enum drop_reason */
	__u32 dev; /* ifindex of the device that the packet leaves by */
	__u32 assume_route; /* input: every address counts as routed */
};

/* Argument of ex_connect: a call of connect() or sendmsg(). */
struct lb_connect {
	addr6 address6; /* destination: address6 or address4 */
	addr4 address4;
	__be16 port;
	__u8 family; /* 4 or 6 */
	__u8 protocol; /* IPPROTO_* */
	__u32 is_node; /* the socket is in the node's network namespace */
	__u32 is_datagram; /* sendmsg() */
};

/* Data too big for the 512-byte stack. Valid during one run of a program. */
struct lb_scratch {
	struct flow4 flow4; /* the flow that is opened */
	struct flow6 flow6;
	struct flow4 row4; /* a row to insert */
	struct flow6 row6;
	struct flow4 old4; /* a copy of the flow that is removed or replaced */
	struct flow6 old6;
	__u64 walk6[16]; /* struct walk6: the variables of walk6() */
	__u64 answer[32]; /* the ICMP message being made or translated */
};

#endif
