/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Includes the header FAMILY_PART twice, with FAMILY defined as 4 and then as
 * 6. Each time, only the second half of that header is compiled, for one
 * address family (see family.h). This file has no include guard, since every
 * such header includes it once.
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
