/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The link-layer header in front of the IP header: Ethernet, or none. An object
 * for devices without one, such as WireGuard, IP in IP and tun devices, defines
 * LINK_HLEN as 0 before it includes a header. Nothing else may depend on the
 * kind of the device. Used by every header that computes an offset in the frame
 * or redirects it.
 */
#ifndef SLUICE_LINK_H
#define SLUICE_LINK_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/types.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

#ifndef LINK_HLEN
#define LINK_HLEN ETH_HLEN
#endif

/*
 * Copies the source MAC address of the frame. Without a link-layer header it
 * leaves `mac` as it is. Returns 0, or below 0 if the frame is too short.
 */
static __always_inline int link_source(struct __sk_buff *skb, __u8 *mac)
{
	return LINK_HLEN ? bpf_skb_load_bytes(skb, ETH_ALEN, mac, ETH_ALEN) : 0;
}

/*
 * Gives the packet an Ethernet header with empty addresses, if it has none.
 * bpf_redirect_neigh() needs a header, and so does bpf_redirect() to a device
 * that expects one. Both remove the header if the device expects none. Returns
 * 0, or below 0 if the kernel rejects the change.
 */
static __always_inline int link_push(struct __sk_buff *skb)
{
	__be16 protocol = skb->protocol;

	if (LINK_HLEN)
		return 0;
	if (bpf_skb_change_head(skb, ETH_HLEN, 0))
		return -1;
	return bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto),
				   &protocol, sizeof(protocol), 0);
}

/*
 * Sends the packet out of `dev`, to the next hop that the routes name. Returns a
 * TC action or -DROP_WRITE.
 */
static __always_inline int link_redirect(struct __sk_buff *skb, __u32 dev)
{
	if (link_push(skb))
		return -DROP_WRITE;
	return bpf_redirect_neigh(dev, NULL, 0, 0);
}

#endif
