// SPDX-License-Identifier: Apache-2.0
// What list and watch ask of the way to the API server, and how it fails. Implemented by connection.ts over HTTP/2 and, in
// tests, by a double in memory. It knows paths and bytes, no objects; it never retries.

export interface ApiResponse {
  readonly status: number;
  /** Header Retry-After, in seconds. */
  readonly retryAfter?: number;
  /** Ends when the server ends the stream; throws Unreachable when it is cut. Leaving the loop cancels the request. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface ApiClient {
  /**
   * GET of a path with its query ("/api/v1/services?limit=500"). Resolves when the status is there, whatever it is. Throws
   * Unreachable when there is no answer in time, CredentialError when there is nothing to show the server; the signal's
   * reason once that is aborted.
   */
  get(path: string, signal: AbortSignal): Promise<ApiResponse>;
}

/** No answer, or none to the end: refused, cut, silent, a certificate that we do not trust. The message says which. */
export class Unreachable extends Error {
  override readonly name = 'Unreachable';
}

/** The credentials cannot be had: a file is missing, a plugin failed. The message says which. */
export class CredentialError extends Error {
  override readonly name = 'CredentialError';
}
