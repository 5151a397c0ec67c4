/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The body of every tc program: passes the packet to walk4() or walk6(), and
 * counts and drops the packet if they return -DROP_*. Included by tc_*.bpf.c
 * and explain.bpf.c.
 */
#ifndef SLUICE_TC_H
#define SLUICE_TC_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "verifier.h"
#include "scratch.h"
#include "drop.h"
#include "hook.h"
#include "walk.h"

static noinline int walk_ipv4(struct __sk_buff *skb, enum hook hook)
{
	struct walk4 walk;

	return walk4(skb, &walk, hook);
}

/*
 * Has a stack frame of its own and its variables in lb_scratch, so that IPv4
 * packets do not use the stack space of IPv6.
 */
static noinline int walk_ipv6(struct __sk_buff *skb, enum hook hook)
{
	struct lb_scratch *scratch = scratch_row();

	_Static_assert(sizeof(struct walk6) <= sizeof(scratch->walk6),
		       "lb_scratch.walk6 is too small");
	if (!scratch)
		return -DROP_FLOW_FULL;
	return walk6(skb, (struct walk6 *)scratch->walk6, hook);
}

#define VLAN_ID 0x0fff /* VLAN ID in the tag; 0: priority tag only */

static __always_inline int tc_walk(struct __sk_buff *skb, const enum hook hook)
{
	int ret;

	/*
	 * A tagged frame is for a VLAN device. If that device is an uplink, it
	 * has its own programs.
	 */
	if (skb->vlan_present && skb->vlan_tci & VLAN_ID)
		return TC_ACT_OK;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		ret = walk_ipv4(skb, hook);
		break;
	case bpf_htons(ETH_P_IPV6):
		ret = walk_ipv6(skb, hook);
		break;
	default:
		return TC_ACT_OK;
	}
	if (ret >= 0)
		return ret;
	drop_count(-ret, skb->len);
	return TC_ACT_SHOT;
}

#endif
