/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Includes FAMILY_PART, the header whose second half exists once for each
 * address family, with FAMILY defined as 4 and then as 6 (see family.h). It has
 * no guard: each such header includes it once.
 */
#ifdef FAMILY_PART

#define FAMILY 4
#include FAMILY_PART
#undef FAMILY

#define FAMILY 6
#include FAMILY_PART
#undef FAMILY

#undef FAMILY_PART
#endif
