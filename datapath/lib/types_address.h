/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The types of IP addresses, a part of types.h. No code in this file. */
#ifndef SLUICE_TYPES_ADDRESS_H
#define SLUICE_TYPES_ADDRESS_H

#include <linux/types.h>

/* IP addresses in network byte order. The codecs convert them to text. */
typedef __be32 addr4;
typedef struct {
	__be32 word[4];
} addr6;

#endif
