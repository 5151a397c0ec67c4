/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which packets are left to kube-proxy while one of the two takes over the node
 * from the other (enum phase). Such a packet passes unchanged, and the stack
 * translates it. Must not be called for a packet that a flow translates. Called
 * by walk_in.h for a packet without a flow, or whose flow must be replaced.
 */
#ifndef SLUICE_HANDOVER_H
#define SLUICE_HANDOVER_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "family.h"
#include "verifier.h"
#include "config.h"
#include "scratch.h"
#include "hook.h"
#include "parse.h"
#include "flow.h"
#include "ct.h"

/*
 * The kernel's look-up in nf_conntrack. The members are those of Linux 5.18;
 * later kernels accept that size too. A kernel or a loader to which the
 * functions are unknown leaves them unresolved. Then struct bpf_ct_opts is
 * unknown as well, and conntrack_is_known() keeps the calls from being reached.
 */
struct nf_conn {
	int unused;
};

struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb,
				  struct bpf_sock_tuple *tuple, __u32 tuple__sz,
				  struct bpf_ct_opts *opts,
				  __u32 opts__sz) __ksym __weak;
void bpf_ct_release(struct nf_conn *conn) __ksym __weak;

/*
 * The address of a kernel function would be a simpler condition, but Linux
 * before 6.4 rejects a program that contains one.
 */
static __always_inline bool conntrack_is_known(void)
{
	return bpf_core_type_exists(struct bpf_ct_opts);
}

enum conntrack_result {
	CONNTRACK_MISSING,
	CONNTRACK_FOUND,
	CONNTRACK_UNAVAILABLE, /* the kernel has no look-up for the protocol */
};

/* May the packet open a connection? All UDP packets may. */
static __always_inline bool handover_opens(__u8 protocol, __u8 tcp_flags)
{
	return protocol == IPPROTO_UDP ||
	       (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline bool handover_is_draining(void)
{
	return config_phase() == PHASE_DRAINING;
}

#define FAMILY_PART "handover.h"
#include "each_family.h"

#elif defined(FAMILY)

#if FAMILY == 4
#define SOCK_TUPLE_SIZE sizeof(((struct bpf_sock_tuple *)0)->ipv4)
#else
#define SOCK_TUPLE_SIZE sizeof(((struct bpf_sock_tuple *)0)->ipv6)
#endif

/*
 * Does nf_conntrack have a connection with this tuple, in either direction? It
 * has none of a packet to a VIP that this datapath translates, because that is
 * done before the packet reaches conntrack. The tuple begins like struct
 * bpf_sock_tuple (snat_port.h).
 */
noinline int FN(conntrack_lookup)(struct __sk_buff *skb,
				  struct FN(tuple) *tuple)
{
	struct bpf_ct_opts opts = {};
	struct nf_conn *conn;

	if (!tuple || !conntrack_is_known() || tuple->protocol == IPPROTO_SCTP)
		return CONNTRACK_UNAVAILABLE;
	opts.netns_id = BPF_F_CURRENT_NETNS;
	opts.l4proto = tuple->protocol;
	conn = bpf_skb_ct_lookup(skb, (struct bpf_sock_tuple *)tuple,
				 SOCK_TUPLE_SIZE, &opts, sizeof(opts));
	if (!conn)
		return CONNTRACK_MISSING;
	bpf_ct_release(conn);
	return CONNTRACK_FOUND;
}
#undef SOCK_TUPLE_SIZE

/*
 * Removes the rows of a flow whose tuple now belongs to a connection of
 * kube-proxy. `flow` is the request row.
 */
static noinline void FN(handover_forget)(struct FN(flow) *flow)
{
	struct lb_scratch *scratch = scratch_row();
	struct FN(flow) *inner;

	if (!flow || !scratch)
		return;
	inner = FN(ct_inner_of)(flow);
	scratch->FN(old) = FN(ct_is_inner_of)(inner, flow) ? *inner : *flow;
	if (CAN_WRITE)
		FN(ct_forget)(&scratch->FN(old));
}

/*
 * Is the packet, which is to a frontend or to a cluster address, left to
 * kube-proxy? `flow` is the flow that it would replace, or NULL.
 *
 * Migrating: a connection that is open and has no flow is kube-proxy's if
 * conntrack knows it; otherwise it is a flow of ours that was lost. Without a
 * look-up, every such connection is kube-proxy's. netfilter has already translated what kube-proxy serves for sockets of the node.
 *
 * Draining: everything that no flow translates.
 */
static __always_inline bool FN(handover_passes)(struct __sk_buff *skb,
						struct FN(packet) *p,
						struct FN(flow) *flow,
						enum hook hook)
{
	__u32 phase = config_phase();

	if (phase == PHASE_DRAINING) {
		if (flow)
			FN(handover_forget)(flow);
		return true;
	}
	return phase == PHASE_MIGRATING && !flow && hook != HOOK_UPLINK_OUT &&
	       !handover_opens(p->tuple.protocol, p->tcp_flags) &&
	       FN(conntrack_lookup)(skb, &p->tuple) != CONNTRACK_MISSING;
}

/*
 * Does a connection that kube-proxy masquerades have the source port of this
 * reply tuple? Its replies would be taken for those of the flow.
 */
static __always_inline bool FN(handover_has_port)(struct __sk_buff *skb,
						  struct FN(tuple) *reply)
{
	return config_phase() == PHASE_MIGRATING &&
	       FN(conntrack_lookup)(skb, reply) == CONNTRACK_FOUND;
}

#endif
