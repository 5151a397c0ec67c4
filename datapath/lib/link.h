/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The link-layer header in front of the IP header: Ethernet, unless the object
 * is for devices without one. Used by every header that computes an offset in
 * the packet. No code in this file.
 */
#ifndef SLUICE_LINK_H
#define SLUICE_LINK_H

#include <linux/if_ether.h>

#ifndef LINK_HLEN
#define LINK_HLEN ETH_HLEN
#endif

#endif
