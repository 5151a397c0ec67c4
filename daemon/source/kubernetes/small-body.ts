// SPDX-License-Identifier: Apache-2.0
// Reads a short JSON response as a whole, up to a limit. Lists and watches are decoded piece by piece instead (json-stream.ts).
import { type ApiResponse, UnreachableError } from './api-client.ts';

/**
 * Maximum size of a body in bytes. The body is a list of at most one object, or a short document. An object in etcd has at most 1.5 MiB.
 */
const MAX_BODY_BYTES = 2 << 20;

/** Returns the parsed body. Throws UnreachableError when the body is too long, interrupted or not JSON. */
export async function readSmallBody({ body }: Pick<ApiResponse, 'body'>): Promise<unknown> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of body) {
    length += piece.length;
    if (length > MAX_BODY_BYTES) throw new UnreachableError(`the server sent more than ${MAX_BODY_BYTES} bytes for one object`);
    pieces.push(piece);
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString()) as unknown;
  } catch (cause) {
    throw new UnreachableError('the server sent invalid JSON', { cause });
  }
}

/** The items of a list and the rest of its metadata. Throws UnreachableError when the value is not a list. */
export function listOf(raw: unknown): { readonly items: readonly unknown[]; readonly metadata: Readonly<Record<string, unknown>> } {
  const { items, metadata } = (raw ?? {}) as { readonly items?: unknown; readonly metadata?: unknown };
  if (!Array.isArray(items)) throw new UnreachableError('the server sent something other than a list');
  return { items, metadata: typeof metadata === 'object' && metadata !== null ? (metadata as Record<string, unknown>) : {} };
}
