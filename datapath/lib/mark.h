/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The mark of translated packets between the hooks, with which a firewall can
 * accept them in its forward hook (--accept-forwarded): as with kube-proxy,
 * requests that will leave with another source, replies to them, and ICMP
 * errors about translated packets. No other bit of the mark is changed. Called by walk_in.h,
 * walk_out.h and icmp_error.h.
 */
#ifndef SLUICE_MARK_H
#define SLUICE_MARK_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "config.h"

/* Marks a packet that enters the node. */
static __always_inline void mark_packet(struct __sk_buff *skb)
{
	struct lb_host *host = config_host();

	if (CAN_WRITE && host && host->forward_mark)
		skb->mark |= host->forward_mark;
}

/* Removes the mark where the packet leaves the node. */
static __always_inline void unmark_packet(struct __sk_buff *skb)
{
	struct lb_host *host = config_host();

	if (CAN_WRITE && host && skb->mark & host->forward_mark)
		skb->mark &= ~host->forward_mark;
}

#endif
