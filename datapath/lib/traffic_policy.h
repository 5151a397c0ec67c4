/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The step "policy": applies the traffic policies and loadBalancerSourceRanges
 * of a Service to a source (test/README.md, 4, 6 and 9). Decides whether the
 * source is admitted, which set of backends it gets (traffic policy Cluster or
 * Local), and whether it is masqueraded. This is not NetworkPolicy. Reads only.
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
	bool is_local; /* the set of traffic policy Local */
	bool masquerades;
};

/* Where a packet comes from, if the hook determines it. */
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

/* Returns 0 and the decision, or -DROP_SOURCE_RANGE. */
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
	/*
	 * externalTrafficPolicy Local does not restrict local pods and this
	 * node.
	 */
	is_pod = FN(is_local_pod)(host, source, origin);
	is_node = !is_pod && FN(address_set_has)(SET_NODE, source);
	policy->is_local = !is_pod && !is_node;
	policy->masquerades = is_node;
	return 0;
}

#endif
