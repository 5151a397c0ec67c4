/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One source for both address families. A header that works on addresses has
 * two halves: what the families share, then a part that each_family.h includes
 * twice, with FAMILY defined as 4 and as 6. The second half names its functions
 * and structs by FN(): FN(ct_lookup) is ct_lookup4, then ct_lookup6.
 */
#ifndef SLUICE_FAMILY_H
#define SLUICE_FAMILY_H

#include "types.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define FN(name) PASTE(name, FAMILY)

/* Names with the family's digit in the middle: lb4_frontends, sk4_vips. */
#define PASTE3_(a, b, c) a##b##c
#define PASTE3(a, b, c) PASTE3_(a, b, c)
#define LB(name) PASTE3(lb, FAMILY, _##name)
#define addr_t FN(addr)
#define SK(name) PASTE3(sk, FAMILY, _##name)

#endif
