/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Step 3 of the walk: what a frontend makes of a source (kube-proxy-semantics.md,
 * 4, 5, 6 and 9). Is it admitted, which set of backends is it given, is it
 * masqueraded? And what becomes of a packet to a cluster address that is no
 * frontend. Reads only.
 */
#ifndef SLUICE_POLICY_H
#define SLUICE_POLICY_H

struct policy {
	bool is_local; /* the set of policy Local */
	bool masquerades;
};

/* Where a packet comes from, as far as its hook knows. */
enum origin { ORIGIN_ANY, ORIGIN_POD_INTERFACE };

#endif

static __always_inline bool FN(is_local_pod)(const struct lb_host *host,
					     const addr_t *source,
					     enum origin origin)
{
	if (host->flags & FN(HOST_DETECT_CIDR))
		return FN(range_has)(SET_POD, source);
	return host->flags &
	       FN(HOST_DETECT_INTERFACE) &&origin == ORIGIN_POD_INTERFACE;
}

/* 0 and the policy, or -DROP_SOURCE_RANGE. */
static __always_inline int FN(policy_decide)(const struct frontend *frontend,
					     const addr_t *source,
					     enum origin origin,
					     struct policy *policy)
{
	struct lb_host *host = config_host();
	bool is_pod, is_node;

	policy->is_local = false;
	policy->masquerades = false;
	if (!host)
		return 0;
	if (frontend->flags & FRONTEND_RANGES &&
	    !FN(range_has)(frontend->service, source))
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
	is_node = !is_pod && FN(range_has)(SET_NODE, source);
	policy->is_local = !is_pod && !is_node;
	policy->masquerades = is_node;
	return 0;
}

/* Can it be a cluster address? Spares most packets the look-ups. */
static __always_inline bool FN(is_in_cluster_range)(const struct lb_host *host,
						    const addr_t *a)
{
#if FAMILY == 4
	__u64 word = bpf_ntohl(*a);
#else
	__u64 word = (__u64)bpf_ntohl(a->word[0]) << 32 | bpf_ntohl(a->word[1]);
#endif

	return word >= host->PASTE3(cluster, FAMILY, _first) &&
	       word <= host->PASTE3(cluster, FAMILY, _last);
}

/*
 * A destination that is no frontend: 0 when it is none of the cluster's,
 * -DROP_WRONG_PORT or -DROP_UNALLOCATED.
 */
static __always_inline int FN(policy_stray)(const addr_t *destination)
{
	struct lb_host *host = config_host();

	if (!host || !FN(is_in_cluster_range)(host, destination))
		return 0;
	if (FN(range_has)(SET_CLUSTER_IP, destination))
		return -DROP_WRONG_PORT;
	return FN(range_has)(SET_SERVICE_CIDR, destination) ?
		       -DROP_UNALLOCATED :
		       0;
}
