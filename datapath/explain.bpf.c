// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The programs of `sluice explain`. They are compiled from the source of the
 * attached programs and use the same maps, but never write to these maps. They
 * record their decisions in ex_record and are never attached. Programs of
 * cgroup hooks cannot be test-run, so a syscall program replaces the socket
 * hooks.
 */
#define SLUICE_EXPLAIN
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "lib/types.h"
#include "lib/hook.h"
#include "lib/service.h"
#include "lib/tc.h"
#include "lib/socket_lb.h"

SEC("tc")
int ex_pod_in(struct __sk_buff *skb)
{
	return tc_walk(skb, HOOK_POD_IN);
}

SEC("tc")
int ex_uplink_in(struct __sk_buff *skb)
{
	return tc_walk(skb, HOOK_UPLINK_IN);
}

SEC("tc")
int ex_uplink_out(struct __sk_buff *skb)
{
	return tc_walk(skb, HOOK_UPLINK_OUT);
}

void bpf_rcu_read_lock(void) __ksym;
void bpf_rcu_read_unlock(void) __ksym;

/*
 * Returns what connect() would do. The argument, written by user space,
 * describes the call.
 */
SEC("syscall")
int ex_connect(struct lb_connect *call)
{
	struct sock_call socket = {
		.protocol = call->protocol,
		.is_node = call->is_node,
		.is_datagram = call->is_datagram,
	};
	struct frontend found = {};
	__be16 port = call->port;
	addr6 address6 = call->address6;
	addr4 address4 = call->address4;
	int ret;

	bpf_rcu_read_lock();
	if (call->family == 4) {
		ret = service_lookup4(&address4, port, call->protocol, &found);
		if (ret > 0)
			ret = sock_to_backend4(&found, &socket, &address4,
					       &port);
	} else {
		ret = service_lookup6(&address6, port, call->protocol, &found);
		if (ret > 0)
			ret = sock_to_backend6(&found, &socket, &address6,
					       &port);
	}
	bpf_rcu_read_unlock();
	return ret;
}

char _license[] SEC("license") = "Dual BSD/GPL";
