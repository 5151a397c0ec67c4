// SPDX-License-Identifier: Apache-2.0
// The mark by which a firewall recognises translated packets in its forward hook. Constants only.

/**
 * Bit 14 belongs to Kubernetes: kube-proxy sets it on the packets that it masquerades, and its rules accept them. Other programs on a node
 * do not use it.
 */
export const FORWARD_MARK = 0x4000;

/** The mark as commands and rules show it. */
export const forwardMarkText = `0x${FORWARD_MARK.toString(16)}`;
