/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The step "service": looks up the frontend for (address, port, protocol). The
 * entry contains the index of the Service port. It is read by one 8-byte load.
 * The check word in the entry must match the key, since the kernel may reuse
 * the hash element for another key during the read. frontendCheck() in
 * daemon/maps/frontend-check.ts computes the same check word: change both or
 * neither.
 */
#ifndef SLUICE_SERVICE_H
#define SLUICE_SERVICE_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "family.h"
#include "hash.h"

/* Maximum number of reads of an entry whose check word does not match. */
#define FRONTEND_READS 4

static __always_inline __u32 frontend_check4(const struct lb4_key *key)
{
	__u64 word = key->address | (__u64)key->port << 32 |
		     (__u64)key->protocol << 48;

	return word * HASH_MULTIPLIER >> 40;
}

static __always_inline __u32 frontend_check6(const struct lb6_key *key)
{
	const addr6 *a = &key->address;
	__u64 rest = key->port | (__u64)key->protocol << 16;
	__u64 hash;

	hash = (a->word[0] | (__u64)a->word[1] << 32) * HASH_MULTIPLIER;
	hash ^= hash >> 32;
	hash += a->word[2] | (__u64)a->word[3] << 32;
	hash *= HASH_MULTIPLIER;
	hash ^= hash >> 32;
	return (hash + rest) * HASH_MULTIPLIER >> 40;
}

struct frontend {
	__u32 service; /* index into lb_services */
	__u32 flags; /* enum frontend_flags */
};

#define FAMILY_PART "service.h"
#include "each_family.h"

#elif defined(FAMILY)

/* Returns 1 and the frontend, 0 if there is none, or -DROP_FRONTEND_TORN. */
static __always_inline int FN(service_lookup)(const addr_t *address,
					      __be16 port, __u8 protocol,
					      struct frontend *found)
{
	struct LB(key) key = {
		.address = *address,
		.port = port,
		.protocol = protocol,
	};
	__u32 check = FN(frontend_check)(&key);
	int i;

	for (i = 0; i < FRONTEND_READS; i++) {
		__u64 *value = bpf_map_lookup_elem(&LB(frontends), &key);
		__u64 frontend;

		if (!value)
			return 0;
		frontend = *(volatile __u64 *)value;
		if (frontend >> 40 != check)
			continue;
		found->service = frontend;
		found->flags = frontend >> 32 & 0xff;
		return 1;
	}
	return -DROP_FRONTEND_TORN;
}

#endif
