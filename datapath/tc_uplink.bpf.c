// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The tc programs of an uplink, which leads to other nodes. tc_uplink_in
 * processes replies of remote backends, and requests of outside clients.
 * tc_uplink_out processes requests of the node's sockets that were not
 * translated at the socket, and replies of servers on the node.
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
