// SPDX-License-Identifier: Apache-2.0
// The interface of the connection to the API server, and its errors. Implemented by connection.ts over HTTP/2, and in tests
// by a double in memory. It handles paths and bytes, not objects, and never retries.

export interface ApiResponse {
  readonly status: number;
  /** Header Retry-After, in seconds. */
  readonly retryAfter?: number;
  /**
   * The pieces of the body, until the server ends the stream. Throws UnreachableError when the stream is interrupted. If the reader stops
   * early, the request is cancelled.
   */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface ApiClient {
  /**
   * GET of a path with its query ("/api/v1/services?limit=500"). Resolves with any status. Throws UnreachableError when the server
   * does not respond in time, CredentialError when there are no credentials, and the signal's reason when the signal is aborted.
   */
  get(path: string, signal: AbortSignal): Promise<ApiResponse>;
  /** Returns a text from the server, or about it, without the credentials that this client has sent to the server (redact.ts). */
  redact(text: string): string;
}

/** No complete response: connection refused or interrupted, time-out, untrusted certificate. The message states the reason. */
export class UnreachableError extends Error {
  override readonly name = 'UnreachableError';
}

/** The credentials are not available: a file is missing, a plugin failed. The message states the reason. */
export class CredentialError extends Error {
  override readonly name = 'CredentialError';
}
