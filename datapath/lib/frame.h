/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Decides whether a frame that enters a device is for this node. A device also
 * receives frames to other stations, broadcasts and multicasts, which the stack
 * of this node does not route. On a port of a bridge, a frame to the bridge is
 * for this node, although the kernel marks it as a frame to another station.
 * Reads only. Called by tc.h for each packet that enters.
 */
#ifndef SLUICE_FRAME_H
#define SLUICE_FRAME_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "verifier.h"

enum frame_kind {
	FRAME_OURS, /* the stack of this node receives it */
	FRAME_SWITCHED, /* the bridge forwards it to another port */
	FRAME_OTHER, /* not for this node, or for several */
};

static __always_inline struct lb_device *device_row(__u32 ifindex)
{
	return bpf_map_lookup_elem(&lb_devices, &ifindex);
}

/* Is this the destination of the Ethernet frame? */
static __always_inline bool frame_is_to(struct __sk_buff *skb,
					const __u8 *address)
{
	const __u8 *mac = skb_data(skb);

	if ((void *)(mac + ETH_ALEN) > skb_end(skb))
		return false;
	return *(__u32 *)mac == *(__u32 *)address &&
	       *(__u16 *)(mac + 4) == *(__u16 *)(address + 4);
}

static __always_inline enum frame_kind frame_kind(struct __sk_buff *skb)
{
	struct lb_device *device;

	if (skb->pkt_type == PACKET_HOST)
		return FRAME_OURS;
	if (skb->pkt_type != PACKET_OTHERHOST)
		return FRAME_OTHER;
	device = device_row(skb->ifindex);
	if (!device || !(device->flags & DEVICE_BRIDGE_PORT))
		return FRAME_OTHER;
	return frame_is_to(skb, device->bridge_mac) ? FRAME_OURS :
						      FRAME_SWITCHED;
}

#endif
