/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Translation at the socket (--socket-lb). connect() and sendmsg() to a VIP are
 * translated to a backend before there is a packet; recvmsg() and getpeername()
 * return the VIP. sock.bpf.c reads address and port from the context of the
 * hook, and writes them back. Only a TCP connect() to a frontend without
 * backends fails. Two kinds of calls are left to the tc programs if these are
 * attached. The first kind depends on the source address, which the socket of a
 * pod does not have yet. The second kind is UDP connect(), so that the flow can
 * move to another backend. Exception: a backend on the node itself, which the
 * packets of a socket of the node reach without a device.
 */
#ifndef SLUICE_SOCKET_LB_H
#define SLUICE_SOCKET_LB_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "maps.h"
#include "family.h"
#include "address.h"
#include "hash.h"
#include "config.h"
#include "explain.h"
#include "address_set.h"
#include "service.h"
#include "backend.h"

enum sock_result {
	SOCK_LEAVE = 0,
	SOCK_REWRITE = 1, /* address and port have changed */
};

enum call {
	CALL_CONNECT,
	CALL_SENDMSG,
	CALL_RECEIVE, /* recvmsg() and getpeername() */
};

/* The socket and its call. */
struct sock_call {
	__u64 cookie; /* of the socket */
	__u32 protocol;
	bool is_node; /* a socket in the node's network namespace */
	bool is_datagram; /* sendmsg(): each message has its own destination */
	bool only_own; /* translated only to a backend on the node itself */
};

static __always_inline struct sock_call sock_caller(struct bpf_sock_addr *ctx,
						    enum call call)
{
	struct lb_host *host = config_host();
	struct sock_call found = {
		.cookie = bpf_get_socket_cookie(ctx),
		.protocol = ctx->protocol,
		.is_datagram = call == CALL_SENDMSG,
		.is_node = host && bpf_get_netns_cookie(ctx) == host->netns,
	};

	return found;
}

#define FAMILY_PART "socket_lb.h"
#include "each_family.h"

#elif defined(FAMILY)

static __always_inline void FN(sock_key)(struct SK(key) *key, __u64 cookie,
					 const addr_t *address, __be16 port)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->cookie = cookie;
	key->address = *address;
	key->port = port;
}

/* Hash that selects a backend: over seed, socket and frontend. */
static __always_inline __u32 FN(sock_hash)(const struct SK(key) *key)
{
	__u64 hash = hash_mix(config_seed(), key->cookie);

	hash = FN(hash_addr)(hash, &key->address);
	hash = hash_mix(hash, key->port);
	return hash_mix(hash, hash >> 32) >> 32;
}

/*
 * Selects the backend for this socket and VIP. A datagram socket (`remember`)
 * keeps its backend while the backend serves, or while no other backend can be
 * selected.
 */
static __always_inline int FN(sock_select)(struct backend_request *request,
					   const addr_t *client,
					   struct SK(key) *key, bool remember,
					   struct FN(chosen) *chosen)
{
	struct SK(backend) *known = NULL, fresh;
	int health = BACKEND_GONE, ret;

	if (remember)
		known = bpf_map_lookup_elem(&SK(backends), key);
	if (known)
		health = FN(backend_health)(known->backend_id,
					    known->generation);
	/* The frontend may belong to another Service port now. */
	if (known && !FN(backend_is_of)(known->backend_id, request->service))
		known = NULL;
	if (known && health == BACKEND_SERVES)
		goto keep;
	request->hash = FN(sock_hash)(key);
	ret = FN(backend_select)(request, client, chosen);
	if (ret && known && health == BACKEND_DRAINS)
		goto keep;
	if (ret || !remember)
		return ret;
	__builtin_memset(&fresh, 0, sizeof(fresh));
	fresh.address = chosen->address;
	fresh.port = chosen->port;
	fresh.backend_id = chosen->id;
	fresh.generation = chosen->generation;
	map_write(&SK(backends), key, &fresh, BPF_ANY);
	return 0;
keep:
	chosen->address = known->address;
	chosen->port = known->port;
	return 0;
}

/*
 * Returns SOCK_REWRITE and the request, or SOCK_LEAVE. Sets call->only_own. The
 * source of a node socket is an address of the node, so the traffic policy can
 * be decided here. The source of a pod's socket is not known yet, so calls whose
 * traffic policy depends on the source are left to the tc programs.
 */
static __always_inline int FN(sock_request)(const struct frontend *frontend,
					    struct sock_call *call,
					    struct backend_request *request)
{
	struct lb_host *host = config_host();
	__u32 service = frontend->service;
	struct lb_service *row;
	bool is_external = frontend->flags & FRONTEND_EXTERNAL, has_tc;

	row = bpf_map_lookup_elem(&lb_services, &service);
	if (!host || !row || frontend->flags & FRONTEND_RANGES ||
	    config_phase() == PHASE_DRAINING)
		return SOCK_LEAVE;
	/* Packets to the node's own address pass no tc program. */
	has_tc = host->flags & (call->is_node ? HOST_TC_NODE : HOST_TC_PODS) &&
		 !(call->is_node && frontend->flags & FRONTEND_NODE_PORT);
	if (has_tc && !call->is_node &&
	    (is_external || row->affinity || host->flags & HOST_MASQUERADE_ALL))
		return SOCK_LEAVE;
	/*
	 * If the call were translated here, a connected UDP socket could never
	 * move to another backend.
	 */
	call->only_own =
		has_tc && call->protocol == IPPROTO_UDP && !call->is_datagram;
	if (call->only_own && !call->is_node)
		return SOCK_LEAVE;
	request->service = service;
	/* externalTrafficPolicy does not restrict the node and local pods. */
	request->is_local = !is_external && frontend->flags & FRONTEND_LOCAL;
	return SOCK_REWRITE;
}

/*
 * Translates VIP -> backend, for connect() and sendmsg() to a frontend. Returns
 * SOCK_*, or -DROP_* with address and port unchanged.
 */
static __always_inline int FN(sock_to_backend)(const struct frontend *frontend,
					       struct sock_call *call,
					       addr_t *address, __be16 *port)
{
	struct lb_host *host = config_host();
	struct FN(chosen) chosen = {};
	struct backend_request request = {};
	struct SK(vip) vip, *known;
	struct SK(key) key;
	int ret;

	ret = FN(sock_request)(frontend, call, &request);
	explain_frontend(frontend);
	explain_request(&request);
	if (ret != SOCK_REWRITE || !host)
		return ret;
	FN(sock_key)(&key, call->cookie, address, *port);
	ret = FN(sock_select)(&request,
			      call->is_node ? &host->FN(address) : NULL, &key,
			      call->is_datagram, &chosen);
	if (ret)
		return ret;
	/*
	 * ex_connect must not use this map, so `sluice explain` says only that
	 * the selection decides.
	 */
	if (call->only_own &&
	    (!CAN_WRITE || !FN(address_set_has)(SET_NODE, &chosen.address)))
		return SOCK_LEAVE;
	__builtin_memset(&vip, 0, sizeof(vip));
	vip.address = *address;
	vip.port = *port;
	key.address = chosen.address;
	key.port = chosen.port;
	/*
	 * sendmsg() calls this for each message, so an unchanged row is not
	 * written again. The look-up also keeps the LRU row alive.
	 */
	known = bpf_map_lookup_elem(&SK(vips), &key);
	if (!known || !FN(addr_equal)(&known->address, &vip.address) ||
	    known->port != vip.port)
		map_write(&SK(vips), &key, &vip, BPF_ANY);
	*address = chosen.address;
	*port = chosen.port;
	return SOCK_REWRITE;
}

/* Translates backend -> VIP, for recvmsg() and getpeername(). */
static __always_inline int FN(sock_to_vip)(struct bpf_sock_addr *ctx,
					   addr_t *address, __be16 *port)
{
	struct SK(key) key;
	struct SK(vip) *vip;

	FN(sock_key)(&key, bpf_get_socket_cookie(ctx), address, *port);
	vip = bpf_map_lookup_elem(&SK(vips), &key);
	if (!vip)
		return SOCK_LEAVE;
	*address = vip->address;
	*port = vip->port;
	return SOCK_REWRITE;
}

/* Translates address and port for a call. Returns SOCK_* or -DROP_*. */
static __always_inline int FN(sock_translate)(struct bpf_sock_addr *ctx,
					      enum call call, addr_t *address,
					      __be16 *port)
{
	struct frontend frontend = {};
	struct sock_call found;
	int ret;

	if (call == CALL_RECEIVE)
		return FN(sock_to_vip)(ctx, address, port);
	ret = FN(service_lookup)(address, *port, ctx->protocol, &frontend);
	/*
	 * Most calls are not to a Service. They return here, before the caller
	 * is determined.
	 */
	if (ret <= 0)
		return ret;
	found = sock_caller(ctx, call);
	return FN(sock_to_backend)(&frontend, &found, address, port);
}

#endif
