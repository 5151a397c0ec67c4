/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Step 3 of the walk: one backend of a Service port. The one selection routine
 * of every hook (design.md, 3.11): callers differ in the hash only.
 */
#ifndef SLUICE_BACKEND_H
#define SLUICE_BACKEND_H

#define SLOTS_PER_ROW 16

enum backend_health {
	BACKEND_SERVES,
	BACKEND_DRAINS, /* still there, but does not serve */
	BACKEND_GONE, /* removed, or its id has another life */
};

/* Slot `hash` of the Service port's run, or -DROP_NO_BACKEND. */
static __always_inline int backend_slot(__u32 service, __u32 hash, __u32 *id)
{
	__u64 *row = bpf_map_lookup_elem(&lb_services, &service);
	struct lb_slots *slots;
	__u32 count, slot, at;
	__u64 run;

	if (!row)
		return -DROP_NO_BACKEND;
	run = *(volatile __u64 *)row;
	count = run >> 32;
	if (!count)
		return -DROP_NO_BACKEND;
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

#endif

/* A chosen backend: a copy, so that it stays whole whatever becomes of the row. */
struct FN(chosen) {
	addr_t address;
	__be16 port;
	__u16 pad;
	__u32 id;
	__u32 generation;
};

/* 0, -DROP_NO_BACKEND or -DROP_BACKEND_STALE. `hash` is uniform in 32 bits. */
static __always_inline int FN(backend_select)(__u32 service, __u32 hash,
					      struct FN(chosen) *chosen)
{
	struct LB(backend) *backend;
	__u32 id = 0, meta;
	int ret;

	ret = backend_slot(service, hash, &id);
	if (ret)
		return ret;
	backend = bpf_map_lookup_elem(&LB(backends), &id);
	if (!backend)
		return -DROP_BACKEND_STALE;
	meta = *(volatile __u32 *)&backend->meta;
	if (!(meta & BACKEND_PRESENT) || backend->service != service)
		return -DROP_BACKEND_STALE;
	chosen->address = backend->address;
	chosen->port = backend->port;
	chosen->pad = 0;
	chosen->id = id;
	chosen->generation = backend_generation(meta);
	return 0;
}

/* What has become of a backend that a flow chose earlier. */
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
