// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The tc programs of an uplink without a link-layer header (an L3 device), such
 * as a WireGuard, IP in IP or tun device. They do the same as the programs of
 * tc_uplink.bpf.c.
 */
#define LINK_HLEN 0
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "lib/hook.h"
#include "lib/tc.h"

SEC("tc")
int tc_l3_in(struct __sk_buff *skb)
{
	return tc_walk(skb, HOOK_UPLINK_IN);
}

SEC("tc")
int tc_l3_out(struct __sk_buff *skb)
{
	return tc_walk(skb, HOOK_UPLINK_OUT);
}

char _license[] SEC("license") = "Dual BSD/GPL";
