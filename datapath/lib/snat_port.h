/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Source ports of masqueraded flows. The ports come from two ranges in lb_host,
 * which contain neither NodePorts nor ports that the host uses. A port that a
 * socket of this node uses is never chosen. If no port is free for a backend,
 * lb_exhausted records the backend for one second or until a port is found. New
 * flows to this backend make fewer attempts then, so that a flood of them stays
 * cheap. Used by ct.h; nat.h does the translation.
 */
#ifndef SLUICE_SNAT_PORT_H
#define SLUICE_SNAT_PORT_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "family.h"
#include "hash.h"
#include "config.h"
#include "clock.h"

#define EXHAUSTED_FOR 1000000000ULL /* ns */

/* Maximum number of attempts to find a source port with a free reply row. */
#define PORT_PROBES 8
#define PORT_PROBES_SCARCE 4 /* attempts if the last search failed */
#define PORT_FAILURES 8 /* after this many failures: one attempt */

/* A random port of the two ranges, in network byte order. */
static __always_inline __be16 snat_port(const struct lb_host *host)
{
	__u32 total = host->snat_count[0] + host->snat_count[1], at;

	at = ((__u64)bpf_get_prandom_u32() * total) >> 32;
	if (at < host->snat_count[0])
		return bpf_htons(host->snat_first[0] + at);
	return bpf_htons(host->snat_first[1] + at - host->snat_count[0]);
}

static __always_inline struct lb_exhausted *snat_row(__u64 backend)
{
	__u32 at = backend % EXHAUSTED_ROWS;

	return bpf_map_lookup_elem(&lb_exhausted, &at);
}

static __always_inline bool snat_is_scarce(const struct lb_exhausted *row,
					   __u64 backend)
{
	return row && row->backend == backend && clock_now() < row->until;
}

static __always_inline __u32 snat_probes(__u64 backend)
{
	struct lb_exhausted *row = snat_row(backend);

	if (!snat_is_scarce(row, backend))
		return PORT_PROBES;
	return row->failures < PORT_FAILURES ? PORT_PROBES_SCARCE : 1;
}

static __always_inline void snat_note_success(__u64 backend)
{
	struct lb_exhausted *row = snat_row(backend);

	if (CAN_WRITE && snat_is_scarce(row, backend))
		row->until = 0;
}

static __always_inline void snat_note_exhausted(__u64 backend)
{
	struct lb_exhausted *row = snat_row(backend);

	if (!row || !CAN_WRITE)
		return;
	row->failures = snat_is_scarce(row, backend) ? row->failures + 1 : 1;
	row->backend = backend;
	row->until = clock_now() + EXHAUSTED_FOR;
}

#define FAMILY_PART "snat_port.h"
#include "each_family.h"

#elif defined(FAMILY)

/* Identifies a backend in lb_exhausted. */
static __always_inline __u64 FN(snat_hash)(const struct FN(flow) *flow)
{
	__u64 hash = FN(hash_addr)(config_seed(), &flow->backend);

	return hash_mix(hash, flow->backend_port | flow->protocol << 16);
}

#if FAMILY == 4
#define SOCK_TUPLE(member) offsetof(struct bpf_sock_tuple, ipv4.member)
#else
#define SOCK_TUPLE(member) offsetof(struct bpf_sock_tuple, ipv6.member)
#endif
/*
 * struct tuple begins like struct bpf_sock_tuple, which bpf_sk_lookup_*()
 * reads.
 */
_Static_assert(offsetof(struct FN(tuple), saddr) == SOCK_TUPLE(saddr) &&
		       offsetof(struct FN(tuple), daddr) == SOCK_TUPLE(daddr) &&
		       offsetof(struct FN(tuple), sport) == SOCK_TUPLE(sport) &&
		       offsetof(struct FN(tuple), dport) == SOCK_TUPLE(dport),
	       "struct tuple must begin like bpf_sock_tuple");

/* Does a socket of this node use the destination port of `reply`? */
static __always_inline bool FN(snat_is_taken)(struct __sk_buff *skb,
					      struct FN(tuple) *reply)
{
	struct bpf_sock_tuple *tuple = (void *)reply;
	const __u32 size = SOCK_TUPLE(dport) + sizeof(reply->dport);
	struct bpf_sock *socket;

	if (reply->protocol == IPPROTO_TCP)
		socket = bpf_sk_lookup_tcp(skb, tuple, size,
					   BPF_F_CURRENT_NETNS, 0);
	else if (reply->protocol == IPPROTO_UDP)
		socket = bpf_sk_lookup_udp(skb, tuple, size,
					   BPF_F_CURRENT_NETNS, 0);
	else
		return false;
	if (!socket)
		return false;
	bpf_sk_release(socket);
	return true;
}
#undef SOCK_TUPLE

#endif
