/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Inserts flows into the flow tables. Each tuple of a flow must be free: the
 * inner one when the flow is opened, the reply to a masqueraded flow when its
 * first packet leaves. If a tuple is not free, the flow gets another port
 * there. Called by flow_open.h and walk_out.h.
 */
#ifndef SLUICE_CT_OPEN_H
#define SLUICE_CT_OPEN_H

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
#include "address.h"
#include "config.h"
#include "scratch.h"
#include "flow.h"
#include "ct.h"
#include "handover.h"
#include "masquerade.h"
#include "snat_port.h"

/* source_port and taken of a flow, which change together. */
union source_word {
	struct {
		__be16 port;
		__u16 taken;
	} source;
	__u32 word;
};

#define FAMILY_PART "ct_open.h"
#include "each_family.h"

#elif defined(FAMILY)

/*
 * May `flow` take the inner row `row`? Yes if the flow of `row` is over or is
 * the same flow.
 */
static __always_inline bool FN(ct_may_take_inner)(const struct FN(flow) *row,
						  const struct FN(flow) *flow)
{
	if (row->row != ROW_INNER)
		return false;
	return FN(flow_is_same)(row, flow) || FN(flow_has_expired)(row) ||
	       (flow->protocol != IPPROTO_UDP && FN(flow_is_closed)(row));
}

/*
 * Inserts the inner row of the flow for its current inner port. Returns 0; 1 if
 * another flow uses the port; or -DROP_FLOW_FULL.
 */
noinline int FN(ct_claim_inner)(struct FN(flow) *flow)
{
	struct FN(tuple) key;
	struct FN(flow) *row;
	int ret;

	if (!flow)
		return -DROP_FLOW_FULL;
	/* A packet to itself has the same tuple in both directions. */
	if (flow->inner_port == flow->backend_port &&
	    FN(addr_equal)(&flow->client, &flow->backend))
		return 1;
	flow->row = ROW_INNER;
	FN(flow_inner_key)(flow, &key);
	ret = map_write(&FN(ct), &key, flow, BPF_NOEXIST);
	if (ret != -EEXIST)
		return ret ? -DROP_FLOW_FULL : 0;
	row = FN(ct_lookup)(&key);
	if (row && !FN(ct_may_take_inner)(row, flow))
		return 1;
	ret = map_write(&FN(ct), &key, flow, row ? BPF_ANY : BPF_NOEXIST);
	if (ret == -EEXIST)
		return 1;
	return ret ? -DROP_FLOW_FULL : 0;
}

/*
 * May `reply` take the reply row `row` of another flow? Yes if that flow is
 * over or has another source now. `key` is the key of `row`, and is kept.
 */
static __always_inline bool FN(ct_may_take_reply)(const struct FN(flow) *row,
						  const struct FN(flow) *reply,
						  struct FN(tuple) *key)
{
	struct FN(flow) *inner;

	if (row->row != ROW_REPLY)
		return false;
	FN(flow_inner_key)(row, key);
	inner = FN(ct_lookup)(key);
	FN(flow_reply_key)(reply, key);
	/* The kernel has evicted the inner row: judge by the reply row. */
	if (!inner)
		return FN(flow_has_expired)(row);
	if (!FN(ct_is_inner_of)(inner, row))
		return true;
	/* Another CPU may be about to write this source to the inner row. */
	if (!inner->taken)
		return FN(flow_is_same)(row, reply) ||
		       flow_now() - row->seen > 1;
	return FN(flow_has_expired)(inner) || !FN(flow_is_reply)(inner, key);
}

/*
 * Inserts the reply row for the source port of `reply`. Returns 0; 1 if another
 * flow, a socket of this node or kube-proxy uses the port; or -DROP_FLOW_FULL.
 */
noinline int FN(ct_claim_reply)(struct __sk_buff *skb, struct FN(flow) *reply)
{
	struct FN(tuple) key;
	struct FN(flow) *row;
	int ret;

	if (!reply)
		return -DROP_FLOW_FULL;
	FN(flow_reply_key)(reply, &key);
	/*
	 * The port is random and may be in use. To find that out, a look-up is
	 * cheaper than an insert that fails.
	 */
	row = FN(ct_lookup)(&key);
	if (row && !FN(ct_may_take_reply)(row, reply, &key))
		return 1;
	if (reply->flags & FLOW_MASQUERADED &&
	    (FN(snat_is_taken)(skb, &key) || FN(handover_has_port)(skb, &key)))
		return 1;
	ret = map_write(&FN(ct), &key, reply, row ? BPF_ANY : BPF_NOEXIST);
	if (ret == -EEXIST)
		return 1;
	return ret ? -DROP_FLOW_FULL : 0;
}

/*
 * Sets source and port of the copy `reply`, whose first port is not random if
 * the source is not an address that the node shares among flows. Returns 0 or
 * -DROP_NO_NODE_ADDRESS.
 */
static __always_inline int FN(ct_first_source)(struct __sk_buff *skb,
					       struct FN(flow) *reply,
					       const struct lb_host *host)
{
	reply->row = ROW_REPLY;
	reply->taken = 1;
	if (reply->flags & FLOW_MASQUERADED) {
		/* The daemon has not written lb_host yet. */
		if (!host->snat_count[0])
			return -DROP_NO_NODE_ADDRESS;
		reply->source_port = snat_port(host);
		return FN(masquerade_source)(skb, reply);
	}
	reply->source =
		reply->flags & FLOW_HAIRPIN ? reply->vip : reply->client;
	reply->source_port = reply->flags & FLOW_HAIRPIN ? reply->client_port :
							   reply->inner_port;
	return 0;
}

/*
 * Draws the source of a flow, inserts the reply row, and writes the source to
 * the inner row `flow`. If another CPU has done so meanwhile, its source stays.
 * A port that a socket of this node uses is never drawn for a masqueraded flow.
 * Returns 0, -DROP_FLOW_FULL, -DROP_NO_NODE_ADDRESS or -DROP_PORT_EXHAUSTED.
 */
noinline int FN(ct_take_source)(struct __sk_buff *skb, struct FN(flow) *flow)
{
	struct lb_scratch *scratch = scratch_row();
	struct lb_host *host = config_host();
	__u32 probes = PORT_PROBES, i;
	struct FN(flow) *reply, *request;
	struct FN(tuple) key;
	bool masquerades;
	__u64 backend;
	union source_word before, drawn;
	__u32 was;
	int ret;

	if (!host || !flow || !scratch)
		return -DROP_FLOW_FULL;
	before.word = *(volatile __u32 *)&flow->source_port;
	if (before.source.taken)
		return 0;
	reply = &scratch->FN(row);
	*reply = *flow;
	masquerades = reply->flags & FLOW_MASQUERADED;
	ret = FN(ct_first_source)(skb, reply, host);
	if (ret)
		return ret;
	backend = FN(snat_hash)(reply);
	if (masquerades)
		probes = snat_probes(backend);
	ret = 1;
	for (i = 0; i < PORT_PROBES && i < probes; i++) {
		ret = FN(ct_claim_reply)(skb, reply);
		if (ret <= 0)
			break;
		reply->source_port = snat_port(host);
	}
	if (ret < 0)
		return ret;
	if (masquerades) {
		if (ret)
			snat_note_exhausted(backend);
		else
			snat_note_success(backend);
	}
	if (ret)
		return -DROP_PORT_EXHAUSTED;
	flow->source = reply->source;
	drawn.source.port = reply->source_port;
	drawn.source.taken = 1;
	was = __sync_val_compare_and_swap((__u32 *)&flow->source_port,
					  before.word, drawn.word);
	if (was == drawn.word)
		return 0; /* The other CPU uses the same reply row. */
	if (was != before.word) {
		FN(flow_reply_key)(reply, &key);
		FN(ct_remove)(&key, reply, ROW_REPLY);
		return 0;
	}
	/* A copy, from which the inner row is restored if it is evicted. */
	FN(flow_request_key)(reply, &key);
	request = FN(ct_lookup)(&key);
	if (request && request->row == ROW_REQUEST &&
	    FN(flow_is_same)(request, reply)) {
		request->source = reply->source;
		request->source_port = reply->source_port;
		request->taken = 1;
	}
	return 0;
}

/*
 * Takes the source from a masqueraded UDP flow if the device that its packets
 * leave by does not have that address any more, so that ct_take_source() draws
 * another one. `flow` is the inner row. TCP and SCTP connections keep their
 * source: the peer would not know them by another one, and the address may come
 * back.
 */
noinline int FN(ct_check_source)(struct __sk_buff *skb, struct FN(flow) *flow)
{
	struct lb_scratch *scratch = scratch_row();
	struct FN(flow) *old;
	struct FN(tuple) key;
	union source_word before, after;

	if (!flow || !scratch || flow->protocol != IPPROTO_UDP ||
	    !(flow->flags & FLOW_MASQUERADED))
		return 0;
	flow->checked = flow_now();
	before.word = *(volatile __u32 *)&flow->source_port;
	old = &scratch->FN(old);
	*old = *flow;
	if (!before.source.taken || FN(masquerade_has)(skb, old))
		return 0;
	after = before;
	after.source.taken = 0;
	if (__sync_val_compare_and_swap((__u32 *)&flow->source_port,
					before.word, after.word) != before.word)
		return 0; /* Another CPU has drawn a source. */
	old->source_port = before.source.port;
	FN(flow_reply_key)(old, &key);
	FN(ct_remove)(&key, old, ROW_REPLY);
	return 0;
}

/*
 * Inserts the inner row and the request row of a new flow. The inner port is
 * the client's, unless the client uses one port for two VIPs with the same
 * backend. Returns 0, -DROP_FLOW_FULL or -DROP_PORT_EXHAUSTED.
 */
noinline int FN(ct_open)(struct FN(flow) *flow)
{
	struct lb_host *host = config_host();
	struct FN(tuple) key;
	int ret = 1;
	__u32 i;

	if (!host || !flow)
		return -DROP_FLOW_FULL;
	for (i = 0; i < PORT_PROBES; i++) {
		ret = FN(ct_claim_inner)(flow);
		if (ret <= 0)
			break;
		flow->inner_port = snat_port(host);
	}
	if (ret)
		return ret < 0 ? ret : -DROP_PORT_EXHAUSTED;
	flow->row = ROW_REQUEST;
	FN(flow_request_key)(flow, &key);
	if (!map_write(&FN(ct), &key, flow, BPF_ANY))
		return 0;
	FN(flow_inner_key)(flow, &key);
	map_remove(&FN(ct), &key);
	return -DROP_FLOW_FULL;
}

/*
 * Removes the rows of a flow that was replaced, except those that the new flow
 * has taken over. `old` is a copy of the inner row, or of the request row. The
 * new flow has no source yet.
 */
noinline int FN(ct_forget_old)(struct FN(flow) *old, struct FN(flow) *flow)
{
	struct FN(tuple) key;

	if (!old || !flow)
		return 0;
	if (old->inner_port != flow->inner_port ||
	    old->backend_port != flow->backend_port ||
	    !FN(addr_equal)(&old->backend, &flow->backend)) {
		FN(flow_inner_key)(old, &key);
		FN(ct_remove)(&key, old, ROW_INNER);
	}
	if (!old->taken)
		return 0;
	FN(flow_reply_key)(old, &key);
	FN(ct_remove)(&key, old, ROW_REPLY);
	return 0;
}

#endif
