/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The body of every tc program: passes the packet to the walk of the
 * direction and the family, and counts and drops the packet if that returns
 * -DROP_*. A packet that the walk passes continues to the next program of the
 * hook. Included by tc_*.bpf.c and explain.bpf.c.
 */
#ifndef SLUICE_TC_H
#define SLUICE_TC_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "verifier.h"
#include "scratch.h"
#include "drop.h"
#include "hook.h"
#include "frame.h"
#include "walk_in.h"
#include "walk_out.h"
#include "lift.h"

static noinline int walk_in_ipv4(struct __sk_buff *skb, enum hook hook)
{
	struct walk4 walk;

	return walk_in4(skb, &walk, hook);
}

static noinline int walk_out_ipv4(struct __sk_buff *skb, enum hook hook)
{
	struct walk4 walk;

	return walk_out4(skb, &walk, hook);
}

/* The variables of a walk of an IPv6 packet, or NULL. */
static __always_inline struct walk6 *walk6_row(void)
{
	struct lb_scratch *scratch = scratch_row();

	_Static_assert(sizeof(struct walk6) <= sizeof(scratch->walk6),
		       "lb_scratch.walk6 is too small");
	return scratch ? (struct walk6 *)scratch->walk6 : NULL;
}

/*
 * Each walk has a stack frame of its own, and IPv6 has its variables in
 * lb_scratch, so that a packet does not use the stack space of other walks.
 */
static noinline int walk_in_ipv6(struct __sk_buff *skb, enum hook hook)
{
	struct walk6 *walk = walk6_row();

	return walk ? walk_in6(skb, walk, hook) : -DROP_FLOW_FULL;
}

static noinline int walk_out_ipv6(struct __sk_buff *skb, enum hook hook)
{
	struct walk6 *walk = walk6_row();

	return walk ? walk_out6(skb, walk, hook) : -DROP_FLOW_FULL;
}

static noinline int lift_ipv4(struct __sk_buff *skb)
{
	struct walk4 walk;

	return lift4(skb, &walk);
}

static noinline int lift_ipv6(struct __sk_buff *skb)
{
	struct walk6 *walk = walk6_row();

	return walk ? lift6(skb, walk) : -DROP_FLOW_FULL;
}

/*
 * Handles a frame that is not for this node. Returns TC_ACT_OK or -DROP_*.
 */
static noinline int tc_other_frame(struct __sk_buff *skb, enum frame_kind kind)
{
	if (kind != FRAME_SWITCHED)
		return TC_ACT_OK;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return lift_ipv4(skb);
	case bpf_htons(ETH_P_IPV6):
		return lift_ipv6(skb);
	default:
		return TC_ACT_OK;
	}
}

static __always_inline int tc_frame(struct __sk_buff *skb, const enum hook hook)
{
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return hook_is_egress(hook) ? walk_out_ipv4(skb, hook) :
					      walk_in_ipv4(skb, hook);
	case bpf_htons(ETH_P_IPV6):
		return hook_is_egress(hook) ? walk_out_ipv6(skb, hook) :
					      walk_in_ipv6(skb, hook);
	default:
		return TC_ACT_OK;
	}
}

#define VLAN_ID 0x0fff /* VLAN ID in the tag; 0: priority tag only */

static __always_inline int tc_walk(struct __sk_buff *skb, const enum hook hook)
{
	enum frame_kind kind = FRAME_OURS;
	int ret;

	/*
	 * A tagged frame is for a VLAN device. If that device is an uplink, it
	 * has its own programs.
	 */
	if (skb->vlan_present && skb->vlan_tci & VLAN_ID)
		return TC_ACT_UNSPEC;
	/* `sluice explain` asks about frames that are for this node. */
	if (CAN_WRITE && !hook_is_egress(hook))
		kind = frame_kind(skb);
	ret = kind == FRAME_OURS ? tc_frame(skb, hook) :
				   tc_other_frame(skb, kind);
	/*
	 * TC_ACT_OK would end the chain: TCX programs and clsact filters that
	 * run after this program would not see the packet. TC_ACT_UNSPEC, which
	 * is TCX_NEXT, continues it. The walk cannot return TC_ACT_UNSPEC,
	 * because its value is also that of -DROP_NO_BACKEND.
	 */
	if (ret == TC_ACT_OK)
		return TC_ACT_UNSPEC;
	if (ret > 0)
		return ret;
	drop_count(-ret, skb->len);
	return TC_ACT_SHOT;
}

#endif
