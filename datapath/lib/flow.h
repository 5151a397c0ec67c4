/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Operations on one flow: the keys of its two rows, which packets belong to it,
 * how they are translated, and when the flow is over. Reads only rows that the
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
 * flow may take its source port. After FIN on both sides it is 60 s, the time
 * that a peer stays in TIME_WAIT. The other times are those of nf_conntrack:
 * 120 s for UDP; for TCP and SCTP 10 s after a reset, 120 s if never answered,
 * otherwise 5 days.
 */
#define UDP_IDLE 28
#define RESET_IDLE 3
#define FIN_IDLE 14
#define UNANSWERED_IDLE 28
#define ESTABLISHED_IDLE 100584

#define FAMILY_PART "flow.h"
#include "each_family.h"

#elif defined(FAMILY)

/* The effect of a flow on one packet. */
struct FN(path) {
	struct FN(tuple) to; /* the tuple after translation */
	__u32 dev; /* ifindex to send the packet to */
	__u32 flags; /* enum flow_flags */
	__u8 direction; /* enum flow_direction */
	__u8 node_mac[6];
};

static __always_inline void FN(flow_forward_key)(const struct FN(flow) *flow,
						 struct FN(tuple) *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->saddr = flow->client;
	key->daddr = flow->vip;
	key->sport = flow->client_port;
	key->dport = flow->vip_port;
	key->protocol = flow->protocol;
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
}

/* Is this the tuple of the packets from client to VIP? */
static __always_inline bool FN(flow_is_forward)(const struct FN(flow) *flow,
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

/*
 * Copies the translation of the row to `path`. Returns false if the row now
 * belongs to another flow. The tuple is compared after the copy, so the copy is
 * consistent if the function returns true.
 */
static __always_inline bool FN(flow_path)(const struct FN(flow) *flow,
					  const struct FN(tuple) *tuple,
					  struct FN(path) *path)
{
	path->flags = flow->flags;
	path->direction = flow->direction;
	if (flow->direction == FLOW_FORWARD) {
		path->to.saddr = flow->source;
		path->to.daddr = flow->backend;
		path->to.sport = flow->source_port;
		path->to.dport = flow->backend_port;
		path->dev = flow->backend_dev;
		barrier();
		return FN(flow_is_forward)(flow, tuple);
	}
	path->to.saddr = flow->vip;
	path->to.daddr = flow->client;
	path->to.sport = flow->vip_port;
	path->to.dport = flow->client_port;
	path->dev = flow->client_dev;
	__builtin_memcpy(path->node_mac, flow->node_mac, 6);
	barrier();
	return FN(flow_is_reply)(flow, tuple);
}

/*
 * Whether the connection (TCP, SCTP) has ended, so that neither side will send
 * again. `flow` is a forward row.
 */
static __always_inline bool FN(flow_is_closed)(const struct FN(flow) *flow)
{
	const __u32 both = FLOW_CLIENT_FIN | FLOW_BACKEND_FIN;

	return flow->flags & FLOW_RST || (flow->flags & both) == both;
}

/*
 * Whether the flow that these two rows describe has ended, so that another flow
 * may take its port.
 */
static __always_inline bool FN(flow_has_expired)(const struct FN(flow) *forward,
						 const struct FN(flow) *reply)
{
	__u32 now = flow_now(), limit = ESTABLISHED_IDLE;

	if (forward->protocol == IPPROTO_UDP)
		limit = UDP_IDLE;
	else if (forward->flags & FLOW_RST)
		limit = RESET_IDLE;
	else if (FN(flow_is_closed)(forward))
		limit = FIN_IDLE;
	else if (!(forward->flags & FLOW_ANSWERED))
		limit = UNANSWERED_IDLE;
	return now - forward->seen > limit && now - reply->seen > limit;
}

#endif
