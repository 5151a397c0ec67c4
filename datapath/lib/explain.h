/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Recording of decisions, for `sluice explain`. In the attached programs the
 * macros are empty. In explain.bpf.c, which defines SLUICE_EXPLAIN, each macro
 * fills a part of ex_record. The daemon reads ex_record after a test run of the
 * program.
 */
#ifndef SLUICE_EXPLAIN_H
#define SLUICE_EXPLAIN_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

#ifdef SLUICE_EXPLAIN

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_explain);
} ex_record SEC(".maps");

static __always_inline struct lb_explain *explain_record(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ex_record, &zero);
}

#define EXPLAIN(statement)                                    \
	do {                                                  \
		struct lb_explain *record = explain_record(); \
		if (record) {                                 \
			statement;                            \
		}                                             \
	} while (0)

#else
#define EXPLAIN(statement) \
	do {               \
	} while (0)
#endif

#define explain_frontend(frontend)                     \
	EXPLAIN(record->service = (frontend)->service; \
		record->flags = (frontend)->flags)

#define explain_policy(policy)                                                 \
	EXPLAIN(record->is_decided = 1; record->is_local = (policy)->is_local; \
		record->masquerades = (policy)->masquerades)

#define explain_request(request) EXPLAIN(record->is_local = (request)->is_local)

#define explain_affinity() EXPLAIN(record->is_affine = 1)

#define explain_drop(reason) EXPLAIN(record->drop = (reason))

#define explain_refused() EXPLAIN(record->is_refused = 1)

/* The packet belongs to an existing flow. */
#define explain_flow(flow)                                                    \
	EXPLAIN(record->is_flow = 1; record->backend_id = (flow)->backend_id; \
		record->is_masqueraded =                                      \
			(flow)->flags & FLOW_MASQUERADED && (flow)->taken;    \
		record->FN(source) = (flow)->source)

#define explain_choice(flow, dev_, is_hairpin_)                                \
	EXPLAIN(record->backend_id = (flow)->backend_id;                       \
		record->is_masqueraded = !!((flow)->flags & FLOW_MASQUERADED); \
		record->is_hairpin = (is_hairpin_); record->dev = (dev_))

/*
 * True for `sluice explain --objects`, which does not use the routes of this
 * host.
 */
#ifdef SLUICE_EXPLAIN
static __always_inline bool explain_assumes_route(void)
{
	struct lb_explain *record = explain_record();

	return record && record->assume_route;
}
#else
static __always_inline bool explain_assumes_route(void)
{
	return false;
}
#endif

#endif
