/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Multiplicative hash of words and addresses: for new flows, for sockets and
 * for the check word of a frontend. The hash is not cryptographic. A caller
 * starts with the seed of config.h if clients must not be able to choose the
 * result.
 */
#ifndef SLUICE_HASH_H
#define SLUICE_HASH_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

/* The odd 64-bit integer nearest to 2^64 / phi (the golden ratio). */
#define HASH_MULTIPLIER 0x9E3779B97F4A7C15ULL

static __always_inline __u64 hash_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * HASH_MULTIPLIER;
	return hash ^ (hash >> 32);
}

static __always_inline __u64 hash_addr4(__u64 hash, const addr4 *a)
{
	return hash_mix(hash, *a);
}

static __always_inline __u64 hash_addr6(__u64 hash, const addr6 *a)
{
	hash = hash_mix(hash, (__u64)a->word[0] << 32 | a->word[1]);
	return hash_mix(hash, (__u64)a->word[2] << 32 | a->word[3]);
}

#endif
