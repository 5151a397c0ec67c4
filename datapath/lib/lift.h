/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Replies between two ports of a bridge. The node has routed the request to the
 * backend, so connection tracking must see the reply too, but the bridge would
 * switch it to the port of the client. This step addresses the frame to the
 * bridge, so that the node routes it. It changes nothing else, and no other
 * packet. Called by tc.h for frames that the bridge would switch.
 */
#ifndef SLUICE_LIFT_H
#define SLUICE_LIFT_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "frame.h"
#include "parse.h"
#include "flow.h"
#include "ct.h"
#include "walk_in.h"

#define FAMILY_PART "lift.h"
#include "each_family.h"

#elif defined(FAMILY)

/* Returns TC_ACT_OK or -DROP_WRITE. */
static __always_inline int FN(lift)(struct __sk_buff *skb,
				    struct FN(walk) *walk)
{
	struct FN(packet) *p = &walk->p;
	struct lb_device *device;
	struct FN(flow) *inner;

	if (FN(parse)(skb, p) != PARSE_OURS)
		return TC_ACT_OK;
	inner = FN(ct_lookup_inner)(&p->tuple);
	if (!inner || !FN(flow_path_out)(inner, &p->tuple, &walk->path) ||
	    walk->path.direction != REPLY)
		return TC_ACT_OK;
	/* The walk of the packet that leaves needs the ports again. */
	if (p->fragment == FRAGMENT_FIRST)
		FN(fragment_remember)(p);
	device = device_row(skb->ifindex);
	if (device &&
	    bpf_skb_store_bytes(skb, 0, device->bridge_mac, ETH_ALEN, 0))
		return -DROP_WRITE;
	return TC_ACT_OK;
}

#endif
