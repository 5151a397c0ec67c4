/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the verifier makes us write: functions of their own, pointers, bounds. */
#ifndef SLUICE_VERIFIER_H
#define SLUICE_VERIFIER_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

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

/*
 * Offsets of L4 lie between 34 and 1500. Tells the verifier so where a trip
 * through memory made it forget; in C, clang would know better and drop it.
 */
static __always_inline __u32 bounded(__u32 offset)
{
	asm volatile("%0 &= 0x7ff" : "+r"(offset));
	return offset;
}

#endif
