/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * C constructs that the BPF verifier or clang require in a certain form:
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
 * Marks a function that is not inlined. Unless it is static, such a function is
 * a BPF global function. The verifier checks a global function once for all
 * arguments, not once for each path to a call, and assumes that any pointer
 * argument may be NULL. A global function should use each argument on every
 * path, since clang passes garbage for unused arguments.
 */
#define noinline __attribute__((noinline))

/*
 * Loads a packet pointer: a 32-bit load that the verifier turns into a pointer.
 * If the load were C, clang might merge two such loads as integers. The zero
 * extension would turn the result into a number, which the verifier rejects.
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
 * L4 offsets lie between 20 and 1500. The verifier forgets this bound when the
 * offset is stored in memory, so this function masks the offset. If the mask
 * were C, clang would remove it as redundant.
 */
static __always_inline __u32 bounded(__u32 offset)
{
	asm volatile("%0 &= 0x7ff" : "+r"(offset));
	return offset;
}

#endif
