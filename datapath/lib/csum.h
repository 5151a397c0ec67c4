/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Internet checksums: fold a sum, adjust a checksum, and compute the difference
 * that a translation makes. bpf_csum_diff() sums IPv6 addresses and whole
 * messages; everything else is plain arithmetic. Used by nat.h, icmp_error.h
 * and refuse.h.
 */
#ifndef SLUICE_CSUM_H
#define SLUICE_CSUM_H

#include <linux/types.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

static __always_inline __u32 csum_fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)(sum + (sum >> 32));
}

static __always_inline __u16 csum_fold16(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

/* RFC 1624, 3: HC' = ~(~HC + ~m + m'). All operands in the same byte order. */
static __always_inline __u16 csum_adjust(__u16 check, __u32 diff)
{
	return csum_fold16(csum_fold32((__u64)diff + (__u16)~check));
}

/* Checksum difference between the addresses of two tuples. */
static __always_inline __u32 csum_diff_tuple4(struct tuple4 *from,
					      struct tuple4 *to)
{
	return csum_fold32((__u64)(__u32)~from->saddr + to->saddr +
			   (__u32)~from->daddr + to->daddr);
}

static __always_inline __u32 csum_diff_tuple6(struct tuple6 *from,
					      struct tuple6 *to)
{
	return bpf_csum_diff((__be32 *)from, 2 * sizeof(addr6), (__be32 *)to,
			     2 * sizeof(addr6), 0);
}

static __always_inline __u32 csum_diff16(__be16 from, __be16 to)
{
	return (__u32)(__u16)~from + to;
}

/* Internet checksum of the sum `seed` and `size` bytes (a multiple of four). */
static __always_inline __be16 csum_of(void *bytes, __u32 size, __u32 seed)
{
	return csum_fold16(bpf_csum_diff(NULL, 0, bytes, size, seed));
}

#endif
