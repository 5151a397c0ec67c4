/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Comparisons of addresses of both families. */
#ifndef SLUICE_ADDRESS_H
#define SLUICE_ADDRESS_H

#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

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

#endif
