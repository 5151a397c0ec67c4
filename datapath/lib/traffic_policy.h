/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Step 3 of the walk: what a frontend makes of a source (kube-proxy-semantics.md,
 * 4, 5, 6 and 9). Is it admitted, which set of backends is it given, is it
 * masqueraded? And what becomes of a packet to a cluster address that is no
 * frontend. Reads only.
 */
#ifndef SLUICE_TRAFFIC_POLICY_H
#define SLUICE_TRAFFIC_POLICY_H

#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "config.h"
#include "service.h"
#include "address_set.h"

struct traffic_policy {
	bool is_local; /* the set of policy Local */
	bool masquerades;
};

/* Where a packet comes from, as far as its hook knows. */
enum origin { ORIGIN_ANY, ORIGIN_POD_INTERFACE };

#define FAMILY_PART "traffic_policy.h"
#include "each_family.h"

#elif defined(FAMILY)

static __always_inline bool FN(is_local_pod)(const struct lb_host *host,
					     const addr_t *source,
					     enum origin origin)
{
	if (host->flags & FN(HOST_DETECT_CIDR))
		return FN(address_set_has)(SET_POD, source);
	return host->flags &
	       FN(HOST_DETECT_INTERFACE) &&origin == ORIGIN_POD_INTERFACE;
}

/* 0 and the policy, or -DROP_SOURCE_RANGE. */
static __always_inline int FN(traffic_policy_decide)(
	const struct frontend *frontend, const addr_t *source,
	enum origin origin, struct traffic_policy *policy)
{
	struct lb_host *host = config_host();
	bool is_pod, is_node;

	policy->is_local = false;
	policy->masquerades = false;
	if (!host)
		return 0;
	if (frontend->flags & FRONTEND_RANGES &&
	    !FN(address_set_has)(frontend->service, source))
		return -DROP_SOURCE_RANGE;
	if (!(frontend->flags & FRONTEND_EXTERNAL)) {
		policy->is_local = frontend->flags & FRONTEND_LOCAL;
		policy->masquerades = host->flags & HOST_MASQUERADE_ALL;
		if (!policy->masquerades &&
		    host->flags &
			    (FN(HOST_DETECT_CIDR) | FN(HOST_DETECT_INTERFACE)))
			policy->masquerades =
				!FN(is_local_pod)(host, source, origin);
		return 0;
	}
	if (!(frontend->flags & FRONTEND_LOCAL)) {
		policy->masquerades = true;
		return 0;
	}
	/* The short-circuit: who is inside is not bound by the policy. */
	is_pod = FN(is_local_pod)(host, source, origin);
	is_node = !is_pod && FN(address_set_has)(SET_NODE, source);
	policy->is_local = !is_pod && !is_node;
	policy->masquerades = is_node;
	return 0;
}

#endif
