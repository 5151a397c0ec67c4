/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One source for both families: a file that works on addresses is included
 * twice, with FAMILY defined as 4 and as 6, and names its things by FN():
 * FN(ct_lookup) is ct_lookup4, then ct_lookup6. Guards are only
 * around what both families share; lib/tc.h and sock.bpf.c include them in order.
 */
#ifndef SLUICE_FAMILY_H
#define SLUICE_FAMILY_H

#include "types.h"
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define FN(name) PASTE(name, FAMILY)

/* lb4_frontends, sk4_vips: the family's digit stands inside the name. */
#define PASTE3_(a, b, c) a##b##c
#define PASTE3(a, b, c) PASTE3_(a, b, c)
#define LB(name) PASTE3(lb, FAMILY, _##name)
#define addr_t FN(addr)
#define SK(name) PASTE3(sk, FAMILY, _##name)

/* Since Linux 6.3 and 6.16; Debian 12's UAPI headers are older. */
#ifndef BPF_FIB_LOOKUP_SKIP_NEIGH
#define BPF_FIB_LOOKUP_SKIP_NEIGH (1U << 2)
#endif
#define CSUM_IPV6 (1ULL << 7)

/*
 * A function of its own. One that is not static is a BPF global function: the
 * verifier reads it once, with any arguments, and not once for each way that
 * leads to it. Every pointer may be NULL there, for all that it knows, and should
 * be used on every path, else clang passes garbage for it.
 */
#define noinline __attribute__((noinline))

/*
 * Packet pointers are 32-bit loads that the verifier widens. Written in C,
 * clang may merge two of them as integers and zero-extend the pointer away.
 */
#define SKB_POINTER(skb, member)                                         \
	({                                                               \
		void *pointer;                                           \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                    \
			     : "=r"(pointer)                             \
			     : "r"(skb),                                 \
			       "i"(offsetof(struct __sk_buff, member))); \
		pointer;                                                 \
	})

static __always_inline void *skb_data(const struct __sk_buff *skb)
{
	return SKB_POINTER(skb, data);
}

static __always_inline void *skb_end(const struct __sk_buff *skb)
{
	return SKB_POINTER(skb, data_end);
}

static __always_inline bool addr_equal4(const addr4 *a, const addr4 *b)
{
	return *a == *b;
}

static __always_inline bool addr_equal6(const addr6 *a, const addr6 *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] &&
	       a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

static __always_inline bool addr_is_zero4(const addr4 *a)
{
	return !*a;
}

static __always_inline bool addr_is_zero6(const addr6 *a)
{
	return !(a->word[0] | a->word[1] | a->word[2] | a->word[3]);
}

/* The odd 64-bit constant nearest to 2^64 / phi: a good multiplicative hash. */
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
