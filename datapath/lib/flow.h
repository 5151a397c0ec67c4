/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Operations on one flow: the keys of its rows, which packets belong to it, how
 * they are translated, and when the flow is over. Reads only rows that the
 * caller passes, and no map; ct.h reads and writes the table.
 */
#ifndef SLUICE_FLOW_H
#define SLUICE_FLOW_H

#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "address.h"
#include "clock.h"

/*
 * Idle time, in units of flow_now(), after which a flow is over and another
 * flow may take its tuples. After FIN on both sides it is 60 s, the time that a
 * peer stays in TIME_WAIT. If no packet of the flow has left the node, it is
 * 10 s. The other times are those of nf_conntrack: 120 s for UDP; for TCP and
 * SCTP 10 s after a reset, 120 s if never answered, otherwise 5 days.
 */
#define UDP_IDLE 28
#define RESET_IDLE 3
#define FIN_IDLE 14
#define UNCONFIRMED_IDLE 3
#define UNANSWERED_IDLE 28
#define ESTABLISHED_IDLE 100584

/* A flow whose packets get another source where they leave the node. */
#define FLOW_HAS_SOURCE (FLOW_MASQUERADED | FLOW_HAIRPIN)

enum direction {
	FORWARD, /* from the client */
	REPLY, /* from the backend */
};

#define FAMILY_PART "flow.h"
#include "each_family.h"

#elif defined(FAMILY)

/* The effect of a flow on one packet. */
struct FN(path) {
	struct FN(tuple) to; /* the tuple after translation */
	__u32 dev; /* ifindex to send the packet to, if FLOW_NODE_CLIENT */
	__u32 flags; /* enum flow_flags, as in the row */
	__u8 row; /* enum flow_row */
	__u8 direction; /* enum direction */
	__u8 node_mac[6];
};

static __always_inline void FN(flow_request_key)(const struct FN(flow) *flow,
						 struct FN(tuple) *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->saddr = flow->client;
	key->daddr = flow->vip;
	key->sport = flow->client_port;
	key->dport = flow->vip_port;
	key->protocol = flow->protocol;
	key->side = flow->flags & FLOW_NODE_CLIENT ? SIDE_OUT : SIDE_IN;
}

static __always_inline void FN(flow_reply_key)(const struct FN(flow) *flow,
					       struct FN(tuple) *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->saddr = flow->backend;
	key->daddr = flow->source;
	key->sport = flow->backend_port;
	key->dport = flow->source_port;
	key->protocol = flow->protocol;
	key->side = SIDE_IN;
}

/* One of the two ends of a tuple. */
struct FN(end) {
	const addr_t *address;
	__be16 port;
};

/* Compares two ends. Any total order will do. */
static __always_inline bool FN(end_is_first)(const struct FN(end) *a,
					     const struct FN(end) *b)
{
#if FAMILY == 4
	if (*a->address != *b->address)
		return *a->address < *b->address;
#else
	const __be32 *x = a->address->word, *y = b->address->word;

	if (x[3] != y[3])
		return x[3] < y[3];
	if (x[2] != y[2])
		return x[2] < y[2];
	if (x[1] != y[1])
		return x[1] < y[1];
	if (x[0] != y[0])
		return x[0] < y[0];
#endif
	return a->port <= b->port;
}

/* The key of an inner row, the same for the packets of both directions. */
static __always_inline void FN(inner_key)(struct FN(tuple) *key,
					  struct FN(end) a, struct FN(end) b,
					  __u8 protocol)
{
	__builtin_memset(key, 0, sizeof(*key));
	if (FN(end_is_first)(&a, &b)) {
		key->saddr = *a.address;
		key->daddr = *b.address;
		key->sport = a.port;
		key->dport = b.port;
	} else {
		key->saddr = *b.address;
		key->daddr = *a.address;
		key->sport = b.port;
		key->dport = a.port;
	}
	key->protocol = protocol;
	key->side = SIDE_INNER;
}

static __always_inline void FN(packet_inner_key)(const struct FN(tuple) *t,
						 struct FN(tuple) *key)
{
	struct FN(end) from = { &t->saddr, t->sport };
	struct FN(end) to = { &t->daddr, t->dport };

	FN(inner_key)(key, from, to, t->protocol);
}

static __always_inline void FN(flow_inner_key)(const struct FN(flow) *flow,
					       struct FN(tuple) *key)
{
	struct FN(end) client = { &flow->client, flow->inner_port };
	struct FN(end) backend = { &flow->backend, flow->backend_port };

	FN(inner_key)(key, client, backend, flow->protocol);
}

/* Is this the tuple of the packets from client to VIP? */
static __always_inline bool FN(flow_is_request)(const struct FN(flow) *flow,
						const struct FN(tuple) *t)
{
	return FN(addr_equal)(&flow->client, &t->saddr) &&
	       FN(addr_equal)(&flow->vip, &t->daddr) &&
	       flow->client_port == t->sport && flow->vip_port == t->dport &&
	       flow->protocol == t->protocol;
}

/* Is this the tuple of the packets from backend to source? */
static __always_inline bool FN(flow_is_reply)(const struct FN(flow) *flow,
					      const struct FN(tuple) *t)
{
	return FN(addr_equal)(&flow->backend, &t->saddr) &&
	       FN(addr_equal)(&flow->source, &t->daddr) &&
	       flow->backend_port == t->sport &&
	       flow->source_port == t->dport && flow->protocol == t->protocol;
}

/* Is this the tuple of the packets from client to backend? */
static __always_inline bool FN(flow_is_inner)(const struct FN(flow) *flow,
					      const struct FN(tuple) *t)
{
	return FN(addr_equal)(&flow->client, &t->saddr) &&
	       FN(addr_equal)(&flow->backend, &t->daddr) &&
	       flow->inner_port == t->sport && flow->backend_port == t->dport &&
	       flow->protocol == t->protocol;
}

/* Is this the tuple of the packets from backend to client? */
static __always_inline bool FN(flow_is_inner_reply)(const struct FN(flow) *flow,
						    const struct FN(tuple) *t)
{
	return FN(addr_equal)(&flow->backend, &t->saddr) &&
	       FN(addr_equal)(&flow->client, &t->daddr) &&
	       flow->backend_port == t->sport && flow->inner_port == t->dport &&
	       flow->protocol == t->protocol;
}

/*
 * Do both rows have the same client and VIP? Then they belong to the same flow,
 * even if the backends differ.
 */
static __always_inline bool FN(flow_is_same)(const struct FN(flow) *a,
					     const struct FN(flow) *b)
{
	return FN(addr_equal)(&a->client, &b->client) &&
	       FN(addr_equal)(&a->vip, &b->vip) &&
	       a->client_port == b->client_port && a->vip_port == b->vip_port;
}

/* The ends of a packet with the given source and destination. */
#define PATH_TO(path, from_addr, from_port, to_addr, to_port) \
	do {                                                  \
		(path)->to.saddr = (from_addr);               \
		(path)->to.sport = (from_port);               \
		(path)->to.daddr = (to_addr);                 \
		(path)->to.dport = (to_port);                 \
	} while (0)

/*
 * Copies the translation of a packet that enters the node, or that a socket of
 * the node sends to a VIP, to `path`. `flow` is a request row or a reply row.
 * Returns false if the row now belongs to another flow. The tuple is compared
 * after the copy, so the copy is consistent if the function returns true.
 */
static __always_inline bool FN(flow_path_in)(const struct FN(flow) *flow,
					     const struct FN(tuple) *tuple,
					     struct FN(path) *path)
{
	path->flags = flow->flags;
	path->row = flow->row;
	if (flow->row == ROW_REQUEST) {
		path->direction = FORWARD;
		path->dev = flow->backend_dev;
		if (flow->flags & FLOW_NODE_CLIENT)
			PATH_TO(path, flow->source, flow->source_port,
				flow->backend, flow->backend_port);
		else
			PATH_TO(path, flow->client, flow->inner_port,
				flow->backend, flow->backend_port);
		barrier();
		return FN(flow_is_request)(flow, tuple);
	}
	path->direction = REPLY;
	path->dev = flow->client_dev;
	__builtin_memcpy(path->node_mac, flow->node_mac, 6);
	if (flow->flags & FLOW_NODE_CLIENT)
		PATH_TO(path, flow->vip, flow->vip_port, flow->client,
			flow->client_port);
	else
		PATH_TO(path, flow->backend, flow->backend_port, flow->client,
			flow->inner_port);
	barrier();
	return FN(flow_is_reply)(flow, tuple);
}

/*
 * The same for a packet that leaves the node. `flow` is an inner row. If the
 * packet must get another source and the flow has none yet, its own source is
 * copied, and the caller must draw one first (ct_take_source()).
 */
static __always_inline bool FN(flow_path_out)(const struct FN(flow) *flow,
					      const struct FN(tuple) *tuple,
					      struct FN(path) *path)
{
	path->flags = flow->flags;
	path->row = flow->row;
	if (FN(flow_is_inner)(flow, tuple)) {
		path->direction = FORWARD;
		if (flow->taken)
			PATH_TO(path, flow->source, flow->source_port,
				flow->backend, flow->backend_port);
		else
			path->to = *tuple;
		barrier();
		return FN(flow_is_inner)(flow, tuple);
	}
	path->direction = REPLY;
	PATH_TO(path, flow->vip, flow->vip_port, flow->client,
		flow->client_port);
	barrier();
	return FN(flow_is_inner_reply)(flow, tuple);
}

/*
 * Whether the connection (TCP, SCTP) has ended, so that neither side will send
 * again. `flow` is an inner row.
 */
static __always_inline bool FN(flow_is_closed)(const struct FN(flow) *flow)
{
	const __u32 both = FLOW_CLIENT_FIN | FLOW_BACKEND_FIN;

	return flow->flags & FLOW_RST || (flow->flags & both) == both;
}

/*
 * Whether the flow of this inner row has ended, so that another flow may take
 * its tuples.
 */
static __always_inline bool FN(flow_has_expired)(const struct FN(flow) *flow)
{
	__u32 limit = ESTABLISHED_IDLE;

	if (!(flow->flags & FLOW_CONFIRMED))
		limit = UNCONFIRMED_IDLE;
	else if (flow->protocol == IPPROTO_UDP)
		limit = UDP_IDLE;
	else if (flow->flags & FLOW_RST)
		limit = RESET_IDLE;
	else if (FN(flow_is_closed)(flow))
		limit = FIN_IDLE;
	else if (!(flow->flags & FLOW_ANSWERED))
		limit = UNANSWERED_IDLE;
	return flow_now() - flow->seen > limit;
}

#endif
