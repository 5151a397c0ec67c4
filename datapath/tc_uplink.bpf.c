// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The node's way to other nodes. In: replies of remote backends, and requests
 * of clients outside. Out: requests of the node's own sockets, which socket
 * translation has not seen, and replies of its own servers.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "lib/hook.h"
#include "lib/tc.h"

SEC("tc")
int tc_uplink_in(struct __sk_buff *skb)
{
	return tc_walk(skb, HOOK_UPLINK_IN);
}

SEC("tc")
int tc_uplink_out(struct __sk_buff *skb)
{
	return tc_walk(skb, HOOK_UPLINK_OUT);
}

char _license[] SEC("license") = "Dual BSD/GPL";
