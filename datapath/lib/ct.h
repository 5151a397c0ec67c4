/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The step "flow": the flow tables ct4 and ct6. A flow has two LRU rows with
 * the same content (types.h); flow.h makes their keys. Once per unit of
 * flow_now(), a packet of one direction also looks up the row of the other
 * direction, so that the kernel does not evict one row of an active flow. A row
 * that was evicted is inserted again. If the kernel reuses a row while it is
 * read, the look-up counts as a miss (flow_path()). Only this header writes the
 * table, except for the device fields that walk.h refreshes.
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
#include "config.h"
#include "clock.h"
#include "scratch.h"
#include "parse.h"
#include "flow.h"
#include "snat_port.h"

#define FAMILY_PART "ct.h"
#include "each_family.h"

#elif defined(FAMILY)

static __always_inline struct FN(flow) *FN(ct_lookup)(struct FN(tuple) *tuple)
{
	return bpf_map_lookup_elem(&FN(ct), tuple);
}

/*
 * May `flow` take the reply row that `row` occupies? Yes if the flow of `row`
 * is over or has moved to another reply row. `key` is the key of `row`, and is
 * overwritten.
 */
static __always_inline bool FN(ct_may_take)(const struct FN(flow) *row,
					    const struct FN(flow) *flow,
					    struct FN(tuple) *key)
{
	struct FN(flow) *forward;

	if (row->direction != FLOW_REPLY)
		return false;
	if (FN(flow_is_same)(row, flow))
		return true;
	FN(flow_forward_key)(row, key);
	forward = FN(ct_lookup)(key);
	if (!forward || forward->direction != FLOW_FORWARD)
		return true;
	if (flow->flags & FLOW_MASQUERADED ?
		    FN(flow_has_expired)(forward, row) :
		    FN(flow_is_closed)(forward))
		return true;
	FN(flow_reply_key)(flow, key);
	return !FN(flow_is_reply)(forward, key);
}

/*
 * Inserts the reply row of the flow for its current source port. Returns 0; 1
 * if another flow or a socket of this node uses the port; or -DROP_FLOW_FULL.
 */
noinline int FN(ct_claim)(struct __sk_buff *skb, struct FN(flow) *flow)
{
	struct FN(tuple) key;
	struct FN(flow) *row;
	bool masquerades;
	int ret;

	if (!flow)
		return -DROP_FLOW_FULL;
	masquerades = flow->flags & FLOW_MASQUERADED;
	flow->direction = FLOW_REPLY;
	FN(flow_reply_key)(flow, &key);
	/*
	 * The port of a masqueraded flow is random and may be in use. To find
	 * that out, a look-up is cheaper than an insert that fails. Other flows
	 * insert at once.
	 */
	if (!masquerades) {
		ret = map_write(&FN(ct), &key, flow, BPF_NOEXIST);
		if (ret != -EEXIST)
			return ret ? -DROP_FLOW_FULL : 0;
	}
	row = FN(ct_lookup)(&key);
	if (row && !FN(ct_may_take)(row, flow, &key))
		return 1;
	FN(flow_reply_key)(flow, &key);
	if (masquerades && FN(snat_is_taken)(skb, &key))
		return 1;
	ret = map_write(&FN(ct), &key, flow, row ? BPF_ANY : BPF_NOEXIST);
	if (ret == -EEXIST)
		return 1;
	return ret ? -DROP_FLOW_FULL : 0;
}

/*
 * Inserts the forward row of a flow that already has its reply row. Returns 0
 * or -DROP_FLOW_FULL.
 */
noinline int FN(ct_insert_forward)(struct FN(flow) *flow)
{
	struct FN(tuple) key;

	if (!flow)
		return -DROP_FLOW_FULL;
	flow->direction = FLOW_FORWARD;
	FN(flow_forward_key)(flow, &key);
	if (!map_write(&FN(ct), &key, flow, BPF_ANY))
		return 0;
	FN(flow_reply_key)(flow, &key);
	map_remove(&FN(ct), &key);
	return -DROP_FLOW_FULL;
}

/*
 * Inserts both rows of the flow, the reply row first. If another flow has that
 * reply row, this flow gets another source port. That happens when a client
 * uses one port for two VIPs with the same backend. A masqueraded flow gets a
 * random port from the start, but never a port that a socket of this node uses.
 * Returns 0, -DROP_FLOW_FULL or -DROP_PORT_EXHAUSTED.
 */
noinline int FN(ct_insert)(struct __sk_buff *skb, struct FN(flow) *flow)
{
	struct lb_host *host = config_host();
	__u32 probes = PORT_PROBES;
	__u64 backend = 0;
	int ret = 1;
	__u32 i;

	if (!host || !flow)
		return -DROP_FLOW_FULL;
	if (flow->flags & FLOW_MASQUERADED) {
		flow->source_port = snat_port(host);
		backend = FN(snat_hash)(flow);
		probes = snat_probes(backend);
	}
	for (i = 0; i < PORT_PROBES && i < probes; i++) {
		ret = FN(ct_claim)(skb, flow);
		if (ret <= 0)
			break;
		flow->source_port = snat_port(host);
	}
	if (ret < 0)
		return ret;
	if (flow->flags & FLOW_MASQUERADED) {
		if (ret)
			snat_note_exhausted(backend);
		else
			snat_note_success(backend);
	}
	if (ret)
		return -DROP_PORT_EXHAUSTED;
	return FN(ct_insert_forward)(flow);
}

/* Removes the old reply row of a flow that moved to another backend. */
static __always_inline void FN(ct_forget_reply)(struct FN(tuple) *old,
						const struct FN(flow) *flow)
{
	struct FN(flow) *row;

	if (FN(flow_is_reply)(flow, old))
		return;
	row = FN(ct_lookup)(old);
	if (row && row->direction == FLOW_REPLY && FN(flow_is_same)(row, flow))
		map_remove(&FN(ct), old);
}

/*
 * Has another flow taken the source port, and with it the reply row that
 * belongs to this forward row? Replies of the backend then belong to the other
 * flow.
 */
noinline bool FN(ct_has_lost_port)(struct FN(flow) *flow)
{
	struct FN(flow) *reply;
	struct FN(tuple) key;

	if (!flow)
		return false;
	FN(flow_reply_key)(flow, &key);
	reply = FN(ct_lookup)(&key);
	return reply && (reply->direction != FLOW_REPLY ||
			 !FN(flow_is_same)(reply, flow));
}

/* Is this the tuple of a packet that a flow has already translated? */
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
	row = FN(ct_lookup)(&reply);
	return row && row->direction == FLOW_REPLY &&
	       FN(flow_is_reply)(row, &reply);
}

/*
 * Records in both rows that the backend has sent a packet. `flow` is the reply
 * row.
 */
noinline int FN(ct_note_answer)(struct FN(flow) *flow)
{
	struct FN(flow) *forward;
	struct FN(tuple) key;

	if (!flow)
		return 0;
	__sync_fetch_and_or(&flow->flags, FLOW_ANSWERED);
	FN(flow_forward_key)(flow, &key);
	forward = FN(ct_lookup)(&key);
	if (forward && forward->direction == FLOW_FORWARD)
		__sync_fetch_and_or(&forward->flags, FLOW_ANSWERED);
	return 0;
}

/*
 * Records the time. Also looks up the row of the other direction, since an LRU
 * table evicts rows that are not looked up, and inserts that row again if it is
 * missing. Called once per unit of flow_now() for each direction, and when the
 * device of the client changes.
 */
noinline int FN(ct_refresh)(struct FN(flow) *flow, __u32 client_dev)
{
	struct lb_scratch *scratch = scratch_row();
	struct FN(flow) *peer;
	struct FN(tuple) key;
	__u8 direction;

	if (!scratch || !flow)
		return 0;
	direction = flow->direction;
	flow->seen = flow_now();
	if (direction == FLOW_FORWARD) {
		flow->client_dev = client_dev;
		FN(flow_reply_key)(flow, &key);
	} else {
		FN(flow_forward_key)(flow, &key);
	}
	peer = FN(ct_lookup)(&key);
	if (peer) {
		if (direction == FLOW_FORWARD && FN(flow_is_same)(peer, flow))
			peer->client_dev = client_dev;
		return 0;
	}
	scratch->FN(flow) = *flow;
	scratch->FN(flow).direction = !direction;
	map_write(&FN(ct), &key, &scratch->FN(flow), BPF_NOEXIST);
	return 0;
}

/*
 * Have both sides of a UDP flow been silent for UDP_IDLE? `flow` is the forward
 * row.
 */
static noinline bool FN(ct_is_idle)(struct FN(flow) *flow)
{
	struct FN(flow) *reply;
	struct FN(tuple) key;
	__u32 now = flow_now();

	if (now - flow->seen <= UDP_IDLE)
		return false;
	FN(flow_reply_key)(flow, &key);
	reply = FN(ct_lookup)(&key);
	return !reply || !FN(flow_is_same)(reply, flow) ||
	       now - reply->seen > UDP_IDLE;
}

/*
 * Called for a packet that matches a reply row: TCP with SYN or RST, or UDP
 * after UDP_IDLE. The packet may belong to a later connection, which the client
 * opened directly to the backend from the client port of the flow. If the flow
 * is over, removes it and returns true.
 */
noinline bool FN(ct_is_over)(struct FN(flow) *reply, struct FN(tuple) *tuple)
{
	struct FN(flow) *forward;
	struct FN(tuple) key;

	if (!reply || !tuple)
		return false;
	FN(flow_forward_key)(reply, &key);
	forward = FN(ct_lookup)(&key);
	if (forward && (forward->direction != FLOW_FORWARD ||
			!FN(flow_is_reply)(forward, tuple)))
		forward = NULL;
	if (forward && tuple->protocol != IPPROTO_UDP &&
	    !FN(flow_is_closed)(forward))
		return false;
	if (forward && tuple->protocol == IPPROTO_UDP &&
	    !FN(ct_is_idle)(forward))
		return false;
	if (forward)
		map_remove(&FN(ct), &key);
	map_remove(&FN(ct), tuple);
	return true;
}

/*
 * Records FIN and RST in the forward row. flow_check() reads them when a SYN
 * arrives.
 */
static __always_inline void FN(ct_note_close)(struct FN(flow) *flow,
					      __u8 tcp_flags)
{
	struct FN(tuple) key;
	__u32 bits;

	if (!(tcp_flags & (TCP_FIN | TCP_RST)) || !CAN_WRITE)
		return;
	bits = tcp_flags & TCP_RST	       ? FLOW_RST :
	       flow->direction == FLOW_FORWARD ? FLOW_CLIENT_FIN :
						 FLOW_BACKEND_FIN;
	if (flow->direction == FLOW_REPLY) {
		FN(flow_forward_key)(flow, &key);
		flow = FN(ct_lookup)(&key);
		if (!flow || flow->direction != FLOW_FORWARD)
			return;
	}
	if ((flow->flags & bits) != bits)
		__sync_fetch_and_or(&flow->flags, bits);
}

#endif
