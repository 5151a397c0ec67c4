/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The key and the value of the flow tables ct4 and ct6, a part of types.h. No
 * code in this file.
 */
#ifndef SLUICE_TYPES_FLOW_H
#define SLUICE_TYPES_FLOW_H

#include <linux/types.h>
#include "types_address.h"

/*
 * The places on the node where a tuple is unique. The same tuple may occur in
 * two places with different meanings: a packet that a client sends directly to
 * a backend enters the node with the tuple that a translated packet has inside.
 */
enum flow_side {
	SIDE_IN = 0, /* where packets enter the node (tc ingress) */
	SIDE_INNER, /* between ingress and egress; both directions, one key */
	SIDE_OUT, /* requests of the node's own sockets, where they leave */
};

/* Key of ct4, ct6. With SIDE_INNER, flow_inner_key() orders the two ends. */
struct tuple4 {
	addr4 saddr;
	addr4 daddr;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 side; /* enum flow_side */
	__u8 pad[2]; /* zero */
};

struct tuple6 {
	addr6 saddr;
	addr6 daddr;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 side;
	__u8 pad[2];
};

enum flow_row {
	ROW_REQUEST = 0, /* client -> VIP */
	ROW_INNER, /* client <-> backend, as the node's stack sees them */
	ROW_REPLY, /* backend -> source; only if the source is not the client */
};

enum flow_flags {
	FLOW_CLIENT_FIN = 1,
	FLOW_BACKEND_FIN = 2,
	FLOW_RST = 4,
	FLOW_NODE_CLIENT = 8, /* the client is a socket of this node */
	FLOW_HAIRPIN = 16, /* the backend is the client: source is the VIP */
	FLOW_MASQUERADED = 32, /* source: node address, port from lb_host */
	FLOW_ANSWERED = 64, /* the backend has sent a packet */
	FLOW_CONFIRMED = 128, /* a packet of the flow has left the node */
	FLOW_ROUTE_BY_VIP = 256, /* replies: routed by source VIP */
};

/*
 * A flow is known by up to three tuples, and has a row for each. Each row
 * contains the whole flow. The inner row is the flow itself: flags, source and
 * source_port are up to date only there.
 *
 * Where a packet enters, client -> VIP becomes client -> backend, with
 * inner_port as its source port. Where it leaves, the client becomes the
 * source, if the flow is masqueraded or a hairpin. A reply takes the same way
 * back: backend -> source becomes backend -> client where it enters, and VIP ->
 * client where it leaves.
 */
struct flow4 { /* 64 bytes: key and value fill whole cache lines */
	addr4 client;
	addr4 vip;
	addr4 backend;
	addr4 source; /* seen by the backend: client, VIP (hairpin) or node */
	__be16 source_port; /* with `taken`, one word that is set once */
	__u16 taken; /* 1: source and source_port are set */
	__be16 client_port;
	__be16 inner_port; /* client_port, unless another flow has it */
	__be16 vip_port;
	__be16 backend_port;
	__u32 backend_id; /* index into lb4_backends */
	__u32 generation; /* generation of backend_id when it was selected */
	__u32 seen; /* flow_now() of the last refresh of this row */
	__u32 flags; /* enum flow_flags */
	__u32 client_dev; /* ifindex towards the client, if FLOW_NODE_CLIENT */
	__u32 backend_dev; /* ifindex towards the backend, likewise */
	__u8 protocol;
	__u8 row; /* enum flow_row */
	__u8 node_mac[6]; /* MAC of client_dev, likewise */
	__u32 checked; /* flow_now() of the last ct_check_source() */
};

struct flow6 {
	addr6 client;
	addr6 vip;
	addr6 backend;
	addr6 source;
	__be16 source_port;
	__u16 taken;
	__be16 client_port;
	__be16 inner_port;
	__be16 vip_port;
	__be16 backend_port;
	__u32 backend_id;
	__u32 generation;
	__u32 seen;
	__u32 flags;
	__u32 client_dev;
	__u32 backend_dev;
	__u8 protocol;
	__u8 row;
	__u8 node_mac[6];
	__u32 checked;
};

#endif
