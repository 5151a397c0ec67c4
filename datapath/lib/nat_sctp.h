/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Writes the ports of an SCTP packet and adjusts its checksum, a CRC32c of the
 * SCTP packet without the IP addresses. Called by nat.h.
 */
#ifndef SLUICE_NAT_SCTP_H
#define SLUICE_NAT_SCTP_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "verifier.h"

#define SCTP_CHECK_OFFSET 8
#define CRC32C_POLYNOMIAL 0x82f63b78 /* RFC 9260, appendix A; reflected */
#define CRC32C_LOG2_BYTES 16

/* a * b modulo the polynomial, bits reflected: bit 31 is x^0. */
noinline __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;
	int i;

	for (i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = b >> 1 ^ (CRC32C_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/*
 * A change of the ports. CRC32c is linear: the checksum changes by the
 * difference of the ports, multiplied by x^8 for each byte from the ports to
 * the end of the packet.
 */
struct sctp_change {
	__be32 from; /* both ports */
	__be32 to;
	__u32 at; /* offset of the SCTP header */
	__u32 end; /* offset of the end of the packet, without padding */
	bool is_fragment;
};

noinline int nat_sctp(struct __sk_buff *skb, const struct sctp_change *change)
{
	__u32 check, diff, power = 1U << 23; /* x^8: one byte */
	__u32 at, after;
	__be32 to;
	int i;

	if (!change)
		return -DROP_WRITE;
	diff = change->from ^ change->to;
	/* The checksum covers bytes that are not in this fragment. */
	if (diff && change->is_fragment)
		return -DROP_WRITE;
	to = change->to;
	at = bounded(change->at);
	/* Number of bytes from the ports to the end of the packet. */
	after = change->end - at;

	if (!diff)
		return 0;
	if (bpf_skb_load_bytes(skb, at + SCTP_CHECK_OFFSET, &check,
			       sizeof(check)))
		return -DROP_WRITE;
	for (i = 0; i < CRC32C_LOG2_BYTES; i++) {
		if (after >> i & 1)
			diff = crc32c_multiply(diff, power);
		power = crc32c_multiply(power, power);
	}
	if (bpf_skb_store_bytes(skb, at, &to, sizeof(to), 0))
		return -DROP_WRITE;
	/* Zero: the device computes the checksum (CHECKSUM_PARTIAL). */
	if (!check)
		return 0;
	check ^= diff;
	if (bpf_skb_store_bytes(skb, at + SCTP_CHECK_OFFSET, &check,
				sizeof(check), 0))
		return -DROP_WRITE;
	return 0;
}

#endif
