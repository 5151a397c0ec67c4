// SPDX-License-Identifier: Apache-2.0
// What the API server says when it refuses: a Status object, as the answer's body or as an ERROR event of a watch.
import type { ApiResponse } from './api-client.ts';

/** A refusal. The message is the server's own. */
export class ApiStatus extends Error {
  override readonly name = 'ApiStatus';
  /** HTTP status code. */
  readonly code: number;
  /** "Expired", "Forbidden", "TooManyRequests"; "" when the server does not say. */
  readonly reason: string;
  /** Seconds. */
  readonly retryAfter: number | undefined;

  constructor(code: number, raw: unknown, retryAfter?: number) {
    const { reason, message, details } = fieldsOf(raw);
    super(typeof message === 'string' && message !== '' ? message : `status ${code}`);
    const { retryAfterSeconds } = fieldsOf(details);
    this.code = code;
    this.reason = typeof reason === 'string' ? reason : '';
    this.retryAfter = retryAfter ?? (typeof retryAfterSeconds === 'number' ? retryAfterSeconds : undefined);
  }

  /** The resourceVersion, or the list's continue token, is too old: list anew. */
  get isExpired(): boolean {
    return this.code === 410;
  }
}

const fieldsOf = (raw: unknown): Readonly<Record<string, unknown>> =>
  typeof raw === 'object' && raw !== null ? (raw as Record<string, unknown>) : {};

/** Of an ERROR event. */
export function statusOfEvent(raw: unknown): ApiStatus {
  const { code } = fieldsOf(raw);
  return new ApiStatus(typeof code === 'number' ? code : 500, raw);
}

const LONGEST = 64 * 1024;

/** Reads the refusal in the answer's body, as far as it is one. */
export async function statusOfAnswer({ status, retryAfter, body }: ApiResponse): Promise<ApiStatus> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of body) {
    pieces.push(piece);
    length += piece.length;
    if (length > LONGEST) break;
  }
  const text = Buffer.concat(pieces).toString();
  try {
    return new ApiStatus(status, JSON.parse(text), retryAfter);
  } catch {
    return new ApiStatus(status, { message: text.trim().slice(0, 200) }, retryAfter);
  }
}
