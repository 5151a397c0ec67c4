// SPDX-License-Identifier: Apache-2.0
// A refusal by the API server: a Status object, either the body of a response or the object of an ERROR event in a watch.
import type { ApiResponse } from './api-client.ts';
import { MAX_ERROR_BYTES } from './limits.ts';

/** The message of this error is the message that the server sent. It may contain anything, even the token of the request: see redact.ts. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  /** HTTP status code. */
  readonly code: number;
  /** Reason of the Status, such as "Expired", "Forbidden" or "TooManyRequests"; "" when it is absent. */
  readonly reason: string;
  /** In seconds. */
  readonly retryAfter: number | undefined;

  constructor(code: number, raw: unknown, retryAfter?: number) {
    const { reason, message, details } = fieldsOf(raw);
    super(typeof message === 'string' && message !== '' ? message : `status ${code}`);
    const { retryAfterSeconds } = fieldsOf(details);
    this.code = code;
    this.reason = typeof reason === 'string' ? reason : '';
    this.retryAfter = retryAfter ?? (typeof retryAfterSeconds === 'number' ? retryAfterSeconds : undefined);
  }

  /** The resourceVersion or the continue token is too old: a new list is necessary. */
  get isExpired(): boolean {
    return this.code === 410;
  }
}

const fieldsOf = (raw: unknown): Readonly<Record<string, unknown>> =>
  typeof raw === 'object' && raw !== null ? (raw as Record<string, unknown>) : {};

/** The error in the object of an ERROR event. */
export function statusOfEvent(raw: unknown): StatusError {
  const { code } = fieldsOf(raw);
  return new StatusError(typeof code === 'number' ? code : 500, raw);
}

/** The error in the body of a response. The body need not be a Status object. */
export async function statusOfResponse({ status, retryAfter, body }: ApiResponse): Promise<StatusError> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of body) {
    pieces.push(piece);
    length += piece.length;
    if (length > MAX_ERROR_BYTES) break;
  }
  const text = Buffer.concat(pieces).toString();
  try {
    return new StatusError(status, JSON.parse(text), retryAfter);
  } catch {
    return new StatusError(status, { message: text.trim().slice(0, 200) }, retryAfter);
  }
}
