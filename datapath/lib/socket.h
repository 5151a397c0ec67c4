/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Translation at the socket: a VIP becomes a backend before there is a packet,
 * and the backend becomes the VIP again when the socket asks who its peer is.
 * Works on an address and port that the hook in sock.bpf.c took from its
 * context and writes back. Never fails a call, but for a TCP connect() without
 * backends; what it leaves alone, tc translates.
 */
#ifndef SLUICE_SOCKET_H
#define SLUICE_SOCKET_H

enum sock_result {
	SOCK_LEAVE = 0,
	SOCK_REWRITE = 1, /* address and port have changed */
};

#endif

static __always_inline void FN(sock_key)(struct SK(key) *key, __u64 cookie,
					 const addr_t *address, __be16 port)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->cookie = cookie;
	key->address = *address;
	key->port = port;
}

/* Hash of a new choice: keyed, over the socket and what it asked for. */
static __always_inline __u32 FN(sock_hash)(const struct SK(key) *key)
{
	__u64 hash = hash_mix(config_seed(), key->cookie);

	hash = FN(hash_addr)(hash, &key->address);
	hash = hash_mix(hash, key->port);
	return hash_mix(hash, hash >> 32) >> 32;
}

/*
 * The backend for this socket and VIP: a datagram socket stays with the one it
 * has while that serves, or while no other is to be had.
 */
static __always_inline int FN(sock_select)(__u32 service, struct SK(key) *key,
					   bool remember,
					   struct FN(chosen) *chosen)
{
	struct SK(backend) *known = NULL, fresh;
	int health = BACKEND_GONE, ret;

	if (remember)
		known = bpf_map_lookup_elem(&SK(backends), key);
	if (known)
		health = FN(backend_health)(known->backend_id,
					    known->generation);
	if (known && health == BACKEND_SERVES)
		goto keep;
	ret = FN(backend_select)(service, FN(sock_hash)(key), chosen);
	if (ret && known && health == BACKEND_DRAINS)
		goto keep;
	if (ret || !remember)
		return ret;
	__builtin_memset(&fresh, 0, sizeof(fresh));
	fresh.address = chosen->address;
	fresh.port = chosen->port;
	fresh.backend_id = chosen->id;
	fresh.generation = chosen->generation;
	bpf_map_update_elem(&SK(backends), key, &fresh, BPF_ANY);
	return 0;
keep:
	chosen->address = known->address;
	chosen->port = known->port;
	return 0;
}

/*
 * VIP -> backend, for connect() and (is_datagram) sendmsg(). SOCK_* or
 * -DROP_NO_BACKEND and the like, with nothing changed.
 */
static __always_inline int FN(sock_to_backend)(struct bpf_sock_addr *ctx,
					       addr_t *address, __be16 *port,
					       bool is_datagram)
{
	struct FN(chosen) chosen;
	struct SK(key) key;
	struct SK(vip) vip;
	int ret;

	ret = FN(service_lookup)(address, *port, ctx->protocol);
	if (ret <= 0)
		return ret;
	FN(sock_key)(&key, bpf_get_socket_cookie(ctx), address, *port);
	ret = FN(sock_select)(ret, &key, is_datagram, &chosen);
	if (ret)
		return ret;
	__builtin_memset(&vip, 0, sizeof(vip));
	vip.address = *address;
	vip.port = *port;
	key.address = chosen.address;
	key.port = chosen.port;
	bpf_map_update_elem(&SK(vips), &key, &vip, BPF_ANY);
	*address = chosen.address;
	*port = chosen.port;
	return SOCK_REWRITE;
}

/* backend -> VIP, for recvmsg() and getpeername(). */
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
