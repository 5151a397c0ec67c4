// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The tc programs of the host's end of a pod's veth. tc_pod_in processes what
 * the pod sends: requests to VIPs, and replies of servers in the pod.
 * tc_pod_out processes replies of the node's sockets to the pod.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "lib/hook.h"
#include "lib/tc.h"

SEC("tc")
int tc_pod_in(struct __sk_buff *skb)
{
	return tc_walk(skb, HOOK_POD_IN);
}

SEC("tc")
int tc_pod_out(struct __sk_buff *skb)
{
	return tc_walk(skb, HOOK_POD_OUT);
}

char _license[] SEC("license") = "Dual BSD/GPL";
