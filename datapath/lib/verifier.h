/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * C that the BPF verifier and clang need to be written in a certain way:
 * functions that are verified once, packet pointers, bounded offsets. Used by
 * all programs.
 */
#ifndef SLUICE_VERIFIER_H
#define SLUICE_VERIFIER_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

/*
 * Not inlined. If it is not static either, it is a BPF global function: the
 * verifier checks it once for all arguments, not once for each path to a call.
 * It then assumes that any pointer argument may be NULL. Such a function should
 * use each argument on every path, since clang passes garbage for unused ones.
 */
#define noinline __attribute__((noinline))

/*
 * A packet pointer is a 32-bit load that the verifier turns into a pointer. In
 * C, clang may merge two such loads as integers, and the zero extension of the
 * result makes it a number.
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
 * L4 offsets lie between 34 and 1500. The verifier forgets that bound when the
 * offset was stored in memory. In C, clang would remove the mask as redundant.
 */
static __always_inline __u32 bounded(__u32 offset)
{
	asm volatile("%0 &= 0x7ff" : "+r"(offset));
	return offset;
}

#endif
