/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The step "flow": look-ups in the flow tables ct4 and ct6, and the upkeep of
 * the rows of a flow (types.h); flow.h makes their keys. The inner row holds
 * the state of the flow. Once per unit of flow_now(), a packet of one direction
 * also looks up the other rows, so that the kernel does not evict one row of an
 * active flow. A row that was evicted is inserted again. If the kernel reuses a
 * row while it is read, the look-up counts as a miss (flow_path_in(),
 * flow_path_out()). ct_open.h inserts flows. No other header writes the table.
 */
#ifndef SLUICE_CT_H
#define SLUICE_CT_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "family.h"
#include "verifier.h"
#include "clock.h"
#include "scratch.h"
#include "parse.h"
#include "flow.h"

/* The flags that record FIN and RST of one direction. */
static __always_inline __u32 close_flags(__u8 tcp_flags, __u8 direction)
{
	if (tcp_flags & TCP_RST)
		return FLOW_RST;
	if (!(tcp_flags & TCP_FIN))
		return 0;
	return direction == FORWARD ? FLOW_CLIENT_FIN : FLOW_BACKEND_FIN;
}

#define FAMILY_PART "ct.h"
#include "each_family.h"

#elif defined(FAMILY)

static __always_inline struct FN(flow) *FN(ct_lookup)(struct FN(tuple) *tuple)
{
	return bpf_map_lookup_elem(&FN(ct), tuple);
}

/* The inner row for a packet that leaves the node, of either direction. */
static __always_inline struct FN(flow) *FN(ct_lookup_inner)(
	const struct FN(tuple) *tuple)
{
	struct FN(tuple) key;

	FN(packet_inner_key)(tuple, &key);
	return FN(ct_lookup)(&key);
}

/* The inner row at the key of this flow. It may belong to another flow. */
static __always_inline struct FN(flow) *FN(ct_inner_of)(
	const struct FN(flow) *flow)
{
	struct FN(tuple) key;

	FN(flow_inner_key)(flow, &key);
	return FN(ct_lookup)(&key);
}

/* Is this the inner row of the same flow? */
static __always_inline bool FN(ct_is_inner_of)(const struct FN(flow) *row,
					       const struct FN(flow) *flow)
{
	return row && row->row == ROW_INNER && FN(flow_is_same)(row, flow);
}

/*
 * Has another flow taken the inner row that belongs to this request row?
 * Packets between client and backend then belong to the other flow.
 */
noinline bool FN(ct_has_lost_inner)(struct FN(flow) *flow)
{
	struct FN(flow) *inner;

	if (!flow)
		return false;
	inner = FN(ct_inner_of)(flow);
	return inner && !FN(ct_is_inner_of)(inner, flow);
}

/* Has one of the sides closed the connection of this request row? */
noinline bool FN(ct_is_closing)(struct FN(flow) *flow)
{
	struct FN(flow) *inner;

	if (!flow)
		return false;
	inner = FN(ct_inner_of)(flow);
	return FN(ct_is_inner_of)(inner, flow) &&
	       inner->flags & (FLOW_CLIENT_FIN | FLOW_BACKEND_FIN | FLOW_RST);
}

/*
 * Is this the tuple of a packet that a flow has already translated, on its way
 * to the backend?
 */
noinline bool FN(ct_is_translated)(struct FN(tuple) *tuple)
{
	struct FN(tuple) reply;
	struct FN(flow) *row;

	if (!tuple)
		return false;
	__builtin_memset(&reply, 0, sizeof(reply));
	reply.saddr = tuple->daddr;
	reply.daddr = tuple->saddr;
	reply.sport = tuple->dport;
	reply.dport = tuple->sport;
	reply.protocol = tuple->protocol;
	reply.side = SIDE_IN;
	row = FN(ct_lookup)(&reply);
	return row && row->row == ROW_REPLY && FN(flow_is_reply)(row, &reply);
}

/* Inserts a row of `flow` that the kernel has evicted, unless it is back. */
static __always_inline void FN(ct_restore)(struct lb_scratch *scratch,
					   const struct FN(flow) *flow,
					   struct FN(tuple) *key, __u8 row)
{
	scratch->FN(row) = *flow;
	scratch->FN(row).row = row;
	map_write(&FN(ct), key, &scratch->FN(row), BPF_NOEXIST);
}

/*
 * Records the time in the inner row, which is inserted again if it is missing.
 * Returns it, or NULL if it is not there.
 */
static __always_inline struct FN(flow) *FN(ct_refresh_inner)(
	struct lb_scratch *scratch, struct FN(flow) *flow,
	struct FN(tuple) *key)
{
	struct FN(flow) *inner;

	FN(flow_inner_key)(flow, key);
	inner = FN(ct_lookup)(key);
	if (!inner)
		FN(ct_restore)(scratch, flow, key, ROW_INNER);
	if (!FN(ct_is_inner_of)(inner, flow))
		return NULL;
	inner->seen = flow->seen;
	inner->client_dev = flow->client_dev;
	return inner;
}

/*
 * Records the time in a row of a flow, and looks up the other rows. Called once
 * per unit of flow_now(), and when the device of a client of the node changes.
 * If another flow has taken the source port since, the flow has no source any
 * more.
 */
noinline int FN(ct_refresh)(struct FN(flow) *flow, __u32 client_dev)
{
	struct lb_scratch *scratch = scratch_row();
	struct FN(flow) *inner = NULL, *reply;
	struct FN(tuple) key;

	if (!scratch || !flow)
		return 0;
	flow->seen = flow_now();
	if (client_dev)
		flow->client_dev = client_dev;
	if (flow->row != ROW_INNER)
		inner = FN(ct_refresh_inner)(scratch, flow, &key);
	if (flow->row != ROW_REQUEST) {
		FN(flow_request_key)(flow, &key);
		if (!FN(ct_lookup)(&key))
			FN(ct_restore)(scratch, flow, &key, ROW_REQUEST);
	}
	if (flow->row == ROW_REPLY || !flow->taken)
		return 0;
	FN(flow_reply_key)(flow, &key);
	reply = FN(ct_lookup)(&key);
	if (!reply)
		FN(ct_restore)(scratch, flow, &key, ROW_REPLY);
	if (!reply)
		return 0;
	if (reply->row == ROW_REPLY && FN(flow_is_same)(reply, flow)) {
		/* Replies to a socket of the node are sent to that device. */
		if (client_dev) {
			reply->client_dev = client_dev;
			__builtin_memcpy(reply->node_mac, flow->node_mac, 6);
		}
		return 0;
	}
	flow->taken = 0;
	if (inner)
		inner->taken = 0;
	return 0;
}

/* Removes the row at `key` if it belongs to this flow. */
static __always_inline void FN(ct_remove)(struct FN(tuple) *key,
					  const struct FN(flow) *flow,
					  __u8 kind)
{
	struct FN(flow) *row = FN(ct_lookup)(key);

	if (row && row->row == kind && FN(flow_is_same)(row, flow))
		map_remove(&FN(ct), key);
}

/* Removes all rows of the flow of this inner row, which must be a copy. */
noinline int FN(ct_forget)(struct FN(flow) *flow)
{
	struct FN(tuple) key;

	if (!flow)
		return 0;
	FN(flow_request_key)(flow, &key);
	FN(ct_remove)(&key, flow, ROW_REQUEST);
	if (flow->taken) {
		FN(flow_reply_key)(flow, &key);
		FN(ct_remove)(&key, flow, ROW_REPLY);
	}
	FN(flow_inner_key)(flow, &key);
	FN(ct_remove)(&key, flow, ROW_INNER);
	return 0;
}

/*
 * Have both sides of a UDP flow been silent for UDP_IDLE? `flow` is the request
 * row.
 */
noinline bool FN(ct_is_idle)(struct FN(flow) *flow)
{
	struct FN(flow) *inner;
	__u32 now = flow_now();

	if (!flow || now - flow->seen <= UDP_IDLE)
		return false;
	inner = FN(ct_inner_of)(flow);
	return !FN(ct_is_inner_of)(inner, flow) || now - inner->seen > UDP_IDLE;
}

/*
 * Called for a packet between client and backend that opens or resets a
 * connection, or for a UDP packet after UDP_IDLE. It may belong to a later
 * connection, which the client opened directly to the backend from the same
 * port. If the flow of the inner row is over, removes it and returns true.
 */
noinline bool FN(ct_is_over)(struct FN(flow) *inner)
{
	struct lb_scratch *scratch = scratch_row();

	if (!inner || !scratch)
		return false;
	if (inner->protocol == IPPROTO_UDP) {
		if (flow_now() - inner->seen <= UDP_IDLE)
			return false;
	} else if (!FN(flow_is_closed)(inner) && !FN(flow_has_expired)(inner)) {
		return false;
	}
	scratch->FN(old) = *inner;
	if (CAN_WRITE)
		FN(ct_forget)(&scratch->FN(old));
	return true;
}

/* Sets flags of a flow. `inner` is its inner row. */
static __always_inline void FN(ct_note)(struct FN(flow) *inner, __u32 flags)
{
	if (CAN_WRITE && (inner->flags & flags) != flags)
		__sync_fetch_and_or(&inner->flags, flags);
}

/* Records flags in the inner row of a flow. `flow` is one of its rows. */
noinline int FN(ct_note_inner)(struct FN(flow) *flow, __u32 flags)
{
	struct FN(flow) *inner;

	if (!flow)
		return 0;
	inner = FN(ct_inner_of)(flow);
	if (FN(ct_is_inner_of)(inner, flow))
		FN(ct_note)(inner, flags);
	return 0;
}

#endif
