/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The step "backend": selects one backend of a Service port. backend_select()
 * is the only selection routine, for tc and for sockets, so that every hook
 * gives the same answer. The caller passes the hash, the set (traffic policy
 * Cluster or Local) and the client. If no client is known, there is no
 * affinity.
 */
#ifndef SLUICE_BACKEND_H
#define SLUICE_BACKEND_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "family.h"
#include "verifier.h"
#include "clock.h"
#include "explain.h"

#define SLOTS_PER_ROW 16
#define SECOND 1000000000ULL

enum backend_health {
	BACKEND_SERVES,
	BACKEND_DRAINS, /* the backend is present, but does not serve */
	BACKEND_GONE, /* it was removed, or its id was used again */
};

/* Base and count of one set, read by one load. The count is the upper half. */
static __always_inline __u64 service_run(struct lb_service *row, bool is_local)
{
	return is_local ? *(volatile __u64 *)&row->local_base :
			  *(volatile __u64 *)&row->base;
}

/*
 * Stores in `id` the backend id of the slot that the hash selects. Returns 0,
 * -DROP_NO_BACKEND, -DROP_NO_LOCAL_BACKEND or -DROP_BACKEND_STALE.
 */
static __always_inline int backend_slot(struct lb_service *row, bool is_local,
					__u32 hash, __u32 *id)
{
	__u64 run = service_run(row, is_local);
	__u32 count = run >> 32, slot, at;
	struct lb_slots *slots;

	if (!count)
		return is_local && service_run(row, false) >> 32 ?
			       -DROP_NO_LOCAL_BACKEND :
			       -DROP_NO_BACKEND;
	slot = (__u32)run + ((__u64)hash * count >> 32);
	at = slot / SLOTS_PER_ROW;
	slots = bpf_map_lookup_elem(&lb_slots, &at);
	if (!slots)
		return -DROP_BACKEND_STALE;
	*id = slots->backend[slot % SLOTS_PER_ROW];
	return 0;
}

static __always_inline __u32 backend_generation(__u32 meta)
{
	return meta >> 8;
}

/* Must not have padding, since it is passed to a BPF global function. */
struct backend_request {
	__u32 service; /* index into lb_services */
	__u32 hash; /* uniform over all 32-bit values */
	__u32 is_local; /* the set of traffic policy Local */
};

#define FAMILY_PART "backend.h"
#include "each_family.h"

#elif defined(FAMILY)

/* The selected backend: a copy, consistent even if the row changes later. */
struct FN(chosen) {
	addr_t address;
	__be16 port;
	__u16 pad;
	__u32 id;
	__u32 generation;
};

/*
 * Copies backend `id`. Returns 0, or -DROP_BACKEND_STALE if the backend lacks a
 * bit of `state` or belongs to another Service port.
 */
static __always_inline int FN(backend_copy)(__u32 id, __u32 service,
					    __u32 state,
					    struct FN(chosen) *chosen)
{
	struct LB(backend) *backend = bpf_map_lookup_elem(&LB(backends), &id);
	__u32 meta;

	if (!backend)
		return -DROP_BACKEND_STALE;
	meta = *(volatile __u32 *)&backend->meta;
	if ((meta & state) != state || backend->service != service)
		return -DROP_BACKEND_STALE;
	chosen->address = backend->address;
	chosen->port = backend->port;
	chosen->pad = 0;
	chosen->id = id;
	chosen->generation = backend_generation(meta);
	return 0;
}

/*
 * Copies the backend of the client's last new connection. Returns false if the
 * affinity has timed out or the backend is not in the requested set. Does not
 * renew the affinity.
 */
static __always_inline bool FN(affinity_recall)(
	const struct backend_request *request, __u32 seconds,
	struct LB(affinity_key) *key, struct FN(chosen) *chosen)
{
	struct lb_affinity *known = bpf_map_lookup_elem(&LB(affinity), key);
	__u32 state =
		BACKEND_PRESENT |
		(request->is_local ? BACKEND_LOCALLY_USABLE : BACKEND_USABLE);

	if (!known || clock_now() - known->renewed > seconds * SECOND)
		return false;
	return !FN(backend_copy)(known->backend_id, request->service, state,
				 chosen) &&
	       chosen->generation == known->generation;
}

/*
 * Selects a backend of the requested set. With session affinity, also records
 * the backend for `client`. If the client is not known (NULL), affinity is
 * neither used nor recorded. Returns 0, -DROP_NO_BACKEND,
 * -DROP_NO_LOCAL_BACKEND or -DROP_BACKEND_STALE.
 */
noinline int FN(backend_select)(const struct backend_request *request,
				const addr_t *client, struct FN(chosen) *chosen)
{
	struct LB(affinity_key) key;
	struct lb_affinity fresh;
	struct lb_service *row;
	__u32 service, id = 0;
	int ret;

	if (!request || !chosen)
		return -DROP_NO_BACKEND;
	service = request->service;
	row = bpf_map_lookup_elem(&lb_services, &service);
	if (!row)
		return -DROP_NO_BACKEND;
	ret = backend_slot(row, request->is_local, request->hash, &id);
	if (ret)
		return ret;
	if (!row->affinity || !client)
		return FN(backend_copy)(id, service, BACKEND_PRESENT, chosen);

	__builtin_memset(&key, 0, sizeof(key));
	key.service = service;
	key.client = *client;
	if (FN(affinity_recall)(request, row->affinity, &key, chosen)) {
		explain_affinity();
	} else {
		ret = FN(backend_copy)(id, service, BACKEND_PRESENT, chosen);
		if (ret)
			return ret;
	}
	fresh.backend_id = chosen->id;
	fresh.generation = chosen->generation;
	fresh.renewed = clock_now();
	map_write(&LB(affinity), &key, &fresh, BPF_ANY);
	return 0;
}

/* The current state of a backend that was selected earlier. */
static __always_inline int FN(backend_health)(__u32 id, __u32 generation)
{
	struct LB(backend) *backend = bpf_map_lookup_elem(&LB(backends), &id);
	__u32 meta;

	if (!backend)
		return BACKEND_GONE;
	meta = *(volatile __u32 *)&backend->meta;
	if (backend_generation(meta) != generation || !(meta & BACKEND_PRESENT))
		return BACKEND_GONE;
	return meta & BACKEND_SERVING ? BACKEND_SERVES : BACKEND_DRAINS;
}

/* Does the backend with this id belong to the Service port? */
static __always_inline bool FN(backend_is_of)(__u32 id, __u32 service)
{
	struct LB(backend) *backend = bpf_map_lookup_elem(&LB(backends), &id);

	return backend && backend->service == service;
}

#endif
