// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The socket hooks of a cgroup: connect(), sendmsg(), recvmsg(), getpeername().
 * Each hook reads the address from its context, translates it with
 * lib/socket_lb.h, and writes it back. An IPv4-mapped address of an IPv6 socket
 * is translated as IPv4.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "lib/types.h"
#include "lib/drop.h"
#include "lib/socket_lb.h"

#define ALLOW 1
#define REJECT 0
#define ECONNREFUSED 111

static __always_inline bool is_ours(struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_UDP;
}

/*
 * A TCP connect() to a frontend without backends fails here with ECONNREFUSED.
 * UDP is left untranslated, since an unconnected sendto() must not fail. The tc
 * program answers the UDP packet.
 */
static __always_inline int verdict(struct bpf_sock_addr *ctx, int ret)
{
	if (ret != -DROP_NO_BACKEND || ctx->protocol != IPPROTO_TCP)
		return ALLOW;
	drop_count(DROP_NO_BACKEND, 0);
	bpf_set_retval(-ECONNREFUSED);
	return REJECT;
}

static __always_inline int sock4(struct bpf_sock_addr *ctx, enum call call)
{
	addr4 address = ctx->user_ip4;
	__be16 port = ctx->user_port;
	int ret;

	if (!is_ours(ctx))
		return ALLOW;
	ret = sock_translate4(ctx, call, &address, &port);
	if (ret == SOCK_REWRITE) {
		ctx->user_ip4 = address;
		ctx->user_port = port;
	}
	return verdict(ctx, ret);
}

/* An IPv6 socket and an IPv4-mapped address: ::ffff:a.b.c.d. */
static __always_inline int sock4_mapped(struct bpf_sock_addr *ctx,
					enum call call)
{
	addr4 address = ctx->user_ip6[3];
	__be16 port = ctx->user_port;
	int ret;

	ret = sock_translate4(ctx, call, &address, &port);
	if (ret == SOCK_REWRITE) {
		ctx->user_ip6[3] = address;
		ctx->user_port = port;
	}
	return verdict(ctx, ret);
}

static __always_inline int sock6(struct bpf_sock_addr *ctx, enum call call)
{
	addr6 address = { .word = { ctx->user_ip6[0], ctx->user_ip6[1],
				    ctx->user_ip6[2], ctx->user_ip6[3] } };
	__be16 port = ctx->user_port;
	int ret;

	if (!is_ours(ctx))
		return ALLOW;
	if (!address.word[0] && !address.word[1] &&
	    address.word[2] == bpf_htonl(0xffff))
		return sock4_mapped(ctx, call);
	ret = sock_translate6(ctx, call, &address, &port);
	if (ret == SOCK_REWRITE) {
		ctx->user_ip6[0] = address.word[0];
		ctx->user_ip6[1] = address.word[1];
		ctx->user_ip6[2] = address.word[2];
		ctx->user_ip6[3] = address.word[3];
		ctx->user_port = port;
	}
	return verdict(ctx, ret);
}

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	return sock4(ctx, CALL_CONNECT);
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	return sock6(ctx, CALL_CONNECT);
}

SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return sock4(ctx, CALL_SENDMSG);
}

SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	return sock6(ctx, CALL_SENDMSG);
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return sock4(ctx, CALL_RECEIVE);
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return sock6(ctx, CALL_RECEIVE);
}

SEC("cgroup/getpeername4")
int sock_getpeer4(struct bpf_sock_addr *ctx)
{
	return sock4(ctx, CALL_RECEIVE);
}

SEC("cgroup/getpeername6")
int sock_getpeer6(struct bpf_sock_addr *ctx)
{
	return sock6(ctx, CALL_RECEIVE);
}

char _license[] SEC("license") = "Dual BSD/GPL";
