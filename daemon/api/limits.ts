// SPDX-License-Identifier: Apache-2.0
// The limits of the gRPC API. They keep the daemon responsive and its memory bounded, whatever the clients do. Every limit on a
// request that a client can notice is also in the comments of proto/sluice/v1/sluice.proto. Constants only.

const KiB = 1024;
const MiB = 1024 * KiB;

/** Maximum number of connections at the same time. When all are in use, a new connection replaces the one that has been idle longest. */
export const maxConnections = 32;
/**
 * Maximum number of calls at the same time on one connection, including streams. Clients learn the limit through HTTP/2 and delay further
 * calls.
 */
export const maxCallsPerConnection = 16;
/** Time in milliseconds after which a connection without a call is closed. Clients connect again when they need to. */
export const idleConnectionMs = 60_000;
/** Time in milliseconds to send the last bytes of a connection that the daemon closes. */
export const closingMs = 1000;

/** Maximum size of a request in bytes. The longest useful request has 128 packets of some 200 bytes. */
export const maxRequestBytes = 64 * KiB;
/** Maximum size of a response in bytes. This is the default limit of gRPC clients. */
export const maxResponseBytes = 4 * MiB;
/** Maximum size in bytes of a page with more than one row. A single row has at most 1 MiB, so every page has less than 2 MiB. */
export const pageBytes = MiB;
/**
 * A response of at most this number of bytes is always sent. If every allowed call of every connection had such a response, these responses
 * would have 8 MiB together.
 */
export const smallResponseBytes = 16 * KiB;
/** Maximum number of bytes of larger responses that the clients have not read yet, for all connections and for one connection. */
export const unreadBytes = 32 * MiB;
export const unreadBytesPerConnection = 4 * MiB;

/**
 * Time limit in milliseconds for a call without streams. Within this time the request must arrive and the response must be ready. The
 * client must read a response, or a message of a stream, within the same time.
 */
export const callMs = 30_000;
/** Maximum number of Explain calls in progress. Each of them takes slices in turn, so this number also limits how long other calls wait. */
export const maxExplains = 8;
/** Maximum number of watches of the health service. A watch lasts as long as its client wants. */
export const maxHealthWatches = 16;
/** Maximum number of status changes that wait for a slow watcher. At the next change, its watch ends. */
export const maxUnreadHealth = 8;
/** Maximum number of reflection streams. A client opens one for a few requests. */
export const maxReflections = 8;
/** Time in milliseconds after which a reflection stream without a request ends. */
export const idleReflectionMs = 60_000;

/** Length of a slice in milliseconds. A slice is the work between two rounds of the event loop. A probe waits for two or three rounds. */
export const sliceMs = 3;
/** Length of the pause after shared work, as a multiple of the time of this work. Shared work therefore takes at most half of the CPU. */
export const restPerWork = 1;
/** Time in milliseconds for which the rows of a list are kept for the next pages. */
export const keepListMs = 10_000;
/** Maximum size of all rows of a list in bytes. 500,000 backends need some 80 MiB. */
export const maxListBytes = 256 * MiB;
