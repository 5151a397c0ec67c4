// SPDX-License-Identifier: Apache-2.0
// The limits of the gRPC API. They keep the daemon responsive and its memory bounded, whatever the clients do. Every limit on a
// request that a client can notice is also in the comments of proto/sluice/v1/sluice.proto. Constants only.

const KiB = 1024;
const MiB = 1024 * KiB;

/** Connections at the same time. When all are in use, a new connection replaces the one that has been idle longest. */
export const maxConnections = 32;
/** Calls on one connection at the same time, including streams. HTTP/2 tells it to the clients, which then wait. */
export const maxCallsPerConnection = 16;
/** Milliseconds without a call after which a connection is closed. Clients connect again when they need to. */
export const idleConnectionMs = 60_000;
/** Milliseconds for the last bytes of a connection that the daemon closes. */
export const closingMs = 1000;

/** Bytes of a request. The longest useful request has 128 packets of some 200 bytes. */
export const maxRequestBytes = 64 * KiB;
/** Bytes of a response: the default limit of gRPC clients. */
export const maxResponseBytes = 4 * MiB;
/** Bytes at which a page of a list ends. A single row has at most 1 MiB, so a page has less than 2 MiB. */
export const pageBytes = MiB;
/**
 * Bytes up to which a response is always sent. If every allowed call of every connection had such a response, all of them would have 8 MiB.
 */
export const smallResponseBytes = 16 * KiB;
/** Bytes of larger responses that clients have not read yet, for all connections and for one connection. */
export const unreadBytes = 32 * MiB;
export const unreadBytesPerConnection = 4 * MiB;

/**
 * Milliseconds in which the response of a call without streams must be ready: the request must have arrived and the work must be done. A
 * client must also read a response, or a message of a stream, in this time.
 */
export const callMs = 30_000;
/** Number of Explain calls in progress. Each takes the event loop for one slice per round, so this also limits how long others wait. */
export const maxExplains = 8;
/** Number of watches of the health service, which last as long as the client wants. Each connection may still make other calls. */
export const maxHealthWatches = 16;
/** Status changes that may wait for a slow watcher before its watch ends. */
export const maxUnreadHealth = 8;
/** Number of reflection streams. A client opens one for a few requests. */
export const maxReflections = 8;
/** Milliseconds without a request after which a reflection stream ends. */
export const idleReflectionMs = 60_000;

/** Milliseconds of work between two rounds of the event loop: the length of a slice. */
export const sliceMs = 5;
/** Length of the pause after shared work, as a multiple of the time of this work: shared work takes at most half of the CPU. */
export const restPerWork = 1;
/** Milliseconds for which the rows of a list are kept for the next pages. */
export const keepListMs = 10_000;
/** Bytes of all rows of a list. 500,000 backends need some 80 MiB. */
export const maxListBytes = 256 * MiB;
