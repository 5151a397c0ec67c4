/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Decides whether a packet of an existing flow keeps its translation or selects
 * a backend again. Called by walk_in.h and walk_node.h for request rows.
 */
#ifndef SLUICE_FLOW_CHECK_H
#define SLUICE_FLOW_CHECK_H

#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "family.h"
#include "verifier.h"
#include "clock.h"
#include "parse.h"
#include "flow.h"
#include "ct.h"
#include "service.h"
#include "backend.h"

enum flow_verdict {
	FLOW_KEEP,
	FLOW_MAY_MOVE, /* may move to another backend, if there is one */
	FLOW_REPLACE, /* the backend is gone, or the flow has ended */
};

#define FAMILY_PART "flow_check.h"
#include "each_family.h"

#elif defined(FAMILY)

/* Does the frontend belong to another Service port than the backend? */
static noinline bool FN(flow_is_foreign)(struct FN(flow) *flow,
					 struct FN(packet) *p)
{
	struct frontend frontend;

	if (!flow || !p ||
	    FN(service_lookup)(&p->tuple.daddr, p->tuple.dport,
			       p->tuple.protocol, &frontend) <= 0)
		return false;
	return !FN(backend_is_of)(flow->backend_id, frontend.service);
}

/*
 * A TCP or SCTP flow keeps its backend until it closes, even if the backend is
 * removed, so that connections can drain. Only a SYN or INIT may select a
 * backend again. A UDP flow has no close. It selects a backend again with its
 * next packet if its backend is removed or does not serve, or if both sides
 * were silent for UDP_IDLE. If the frontend now belongs to another Service
 * port, a UDP flow selects a backend of that port within one unit of
 * flow_now(). A flow is replaced if another flow has taken its inner row.
 */
static __always_inline enum flow_verdict FN(flow_check)(struct FN(flow) *flow,
							struct FN(packet) *p)
{
	__u32 now = flow_now();
	bool is_due = flow->seen != now;
	int health;

	if (is_due && FN(ct_has_lost_inner)(flow))
		return FLOW_REPLACE;
	if (p->tuple.protocol != IPPROTO_UDP) {
		if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
			return FLOW_KEEP;
		if (FN(ct_is_closing)(flow))
			return FLOW_REPLACE;
	}
	health = FN(backend_health)(flow->backend_id, flow->generation);
	if (health == BACKEND_GONE)
		return FLOW_REPLACE;
	if (health == BACKEND_DRAINS)
		return FLOW_MAY_MOVE;
	if (p->tuple.protocol != IPPROTO_UDP)
		return FLOW_KEEP;
	if (is_due && FN(flow_is_foreign)(flow, p))
		return FLOW_REPLACE;
	if (now - flow->seen <= UDP_IDLE)
		return FLOW_KEEP;
	return FN(ct_is_idle)(flow) ? FLOW_MAY_MOVE : FLOW_KEEP;
}

#endif
