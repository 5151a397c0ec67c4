/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every struct and enum that user space shares with the programs. The codecs in
 * daemon/maps/gen are generated from these by their BTF, so a layout is typed
 * once, here. Members named pad* are never read. No code in this file.
 */
#ifndef SLUICE_TYPES_H
#define SLUICE_TYPES_H

#include <linux/bpf.h>
#include <linux/types.h>

/* An address in wire order; the codecs turn both into canonical text. */
typedef __be32 addr4;
typedef struct {
	__be32 word[4];
} addr6;

/* Bumped when a pinned layout changes: another number is refused at start. */
enum layout { LAYOUT_VERSION = 1 };

enum scope {
	SCOPE_INTERNAL = 0, /* ClusterIP, and clients inside */
	SCOPE_EXTERNAL = 1,
};

/* Low byte of lb4_backend.meta. */
enum backend_state {
	BACKEND_USABLE = 1, /* in the run of its Service port */
	BACKEND_LOCAL = 2, /* on this node */
	BACKEND_SERVING = 4, /* EndpointSlice condition; old UDP flows ask */
	BACKEND_PRESENT = 8, /* in the EndpointSlices; 0: the id is free */
};

/* Why a packet died, or a connect() was refused. Index into lb_drops. */
enum drop_reason {
	DROP_NONE = 0,
	DROP_NO_BACKEND, /* the frontend has no usable backend: refused */
	DROP_REFUSE_RATE, /* refused, but the answer was over the rate limit */
	DROP_FRONTEND_TORN, /* the frontend entry kept changing while read */
	DROP_BACKEND_STALE, /* a slot names a backend that is not there */
	DROP_FLOW_FULL, /* the flow table took no row */
	DROP_PORT_EXHAUSTED, /* no free source port towards this backend */
	DROP_NO_ROUTE, /* the FIB has no way to the backend */
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

struct lb4_key {
	addr4 address; /* VIP */
	__be16 port;
	__u8 protocol; /* IPPROTO_* */
	__u8 scope; /* enum scope */
};

struct lb6_key {
	addr6 address;
	__be16 port;
	__u8 protocol;
	__u8 scope;
};

/* Read by one 8-byte load. */
struct lb_frontend {
	__u32 service; /* index into lb_services, never 0 */
	__u32 check; /* frontend_check4/6() of the key */
};

/* Read and published by one 8-byte access. */
struct lb_service {
	__u32 base; /* first slot of the run */
	__u32 count; /* slots in the run; 0: no usable backend */
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
};

/*
 * A flow is one object in two rows, one per direction, each holding all of it:
 * client -> VIP becomes source -> backend, and back.
 */
struct flow4 { /* 64 bytes: with its key, whole cache lines of the hash */
	addr4 client;
	addr4 vip;
	addr4 source; /* what the backend sees: the client, or the VIP (hairpin) */
	addr4 backend;
	__be16 client_port;
	__be16 vip_port;
	__be16 source_port; /* the client's, unless two VIPs collided */
	__be16 backend_port;
	__u32 backend_id; /* index into lb4_backends */
	__u32 generation; /* of that id when it was chosen */
	__u32 backend_dev; /* ifindex towards the backend */
	__u32 client_dev; /* ifindex towards the client */
	__u32 seen; /* flow_now() of the last refresh of this row */
	__u32 flags; /* enum flow_flags; kept in the forward row */
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

/* Token bucket of the answers to refused packets, one per CPU. */
struct lb_limit {
	__u32 window; /* flow_now() of the current window */
	__u32 sent;
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
