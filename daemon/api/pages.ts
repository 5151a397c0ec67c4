// SPDX-License-Identifier: Apache-2.0
// The pages of ListServices and ListBackends. The rows of a list are computed and serialized once for all callers that wait, and are kept
// for a few seconds, so that all pages that a client reads show the same state. A page token holds the key of the last row, so it never
// expires. A change of other rows must never cause a row to be sent twice or to be left out. Called by grpc.ts.
import { status as code } from '@grpc/grpc-js';

import { CallError } from './call-error.ts';
import { keepListMs, maxListBytes, pageBytes } from './limits.ts';
import { Shared, type Slices, type Steps } from './slices.ts';

export interface ListOptions<Row> {
  readonly slices: Slices;
  /** All rows, sorted by key. */
  readonly rows: () => Steps<Row>;
  /** The key of the row, which is unique. Keys are compared as text. */
  readonly keyOf: (row: Row) => string;
  /** Returns a serialized response with only this row. */
  readonly serialize: (row: Row) => Buffer;
  /** Returns a serialized response with only this page token. */
  readonly serializeToken: (token: string) => Buffer;
  /** Maximum number of rows of a page. A request with page size 0 gets this number of rows. */
  readonly maxPageSize: number;
}

export interface PageRequest {
  readonly pageSize: number;
  readonly pageToken: string;
}

interface ListedRow {
  readonly key: string;
  readonly bytes: Buffer;
}

export class PagedList<Row> {
  readonly #options: ListOptions<Row>;
  readonly #all: Shared<ListedRow>;
  #kept: readonly ListedRow[] | undefined;
  #forget: NodeJS.Timeout | undefined;

  constructor(options: ListOptions<Row>) {
    this.#options = options;
    this.#all = new Shared(options.slices, () => this.#rows());
  }

  /** Returns the serialized response. Rejects with CallError for a wrong token, and with AbandonedError when the signal aborts. */
  async page({ pageSize, pageToken }: PageRequest, signal: AbortSignal): Promise<Buffer> {
    const { maxPageSize, serializeToken } = this.#options;
    const after = pageToken === '' ? undefined : keyOfToken(pageToken);
    // The first page must show the current state. Other pages belong to the list from which the first page came.
    const rows = (after === undefined ? undefined : this.#kept) ?? (await this.#list(signal));
    // Callers that waited for the same list arrive here at the same time. They continue one by one, so that each response is sent or
    // rejected before the next one is made.
    await this.#options.slices.turn();
    const first = after === undefined ? 0 : indexAfter(rows, after);
    const most = pageSize === 0 ? maxPageSize : Math.min(pageSize, maxPageSize);
    const page: Buffer[] = [];
    for (let bytes = 0; page.length < most;) {
      const row = rows[first + page.length];
      if (row === undefined || (page.length > 0 && bytes + row.bytes.length > pageBytes)) break;
      page.push(row.bytes);
      bytes += row.bytes.length;
    }
    const last = rows[first + page.length - 1];
    const isEnd = first + page.length >= rows.length;
    // A concatenation of serialized protobuf messages decodes as one message, which has the elements of the repeated fields of all these
    // messages.
    return Buffer.concat(isEnd || last === undefined ? page : [...page, serializeToken(tokenOfKey(last.key))]);
  }

  /** Frees the kept rows. */
  close(): void {
    clearTimeout(this.#forget);
    this.#kept = undefined;
  }

  async #list(signal: AbortSignal): Promise<readonly ListedRow[]> {
    const rows = await this.#all.get(signal);
    if (this.#kept !== rows) {
      this.close();
      this.#kept = rows;
      this.#forget = setTimeout(() => this.close(), keepListMs).unref();
    }
    return rows;
  }

  *#rows(): Steps<ListedRow> {
    const { rows, keyOf, serialize } = this.#options;
    let bytes = 0;
    for (const row of rows()) {
      if (row === undefined) {
        yield undefined;
        continue;
      }
      const listed = { key: keyOf(row), bytes: serialize(row) };
      bytes += listed.bytes.length;
      if (bytes > maxListBytes) {
        throw new CallError(
          code.RESOURCE_EXHAUSTED,
          `the list is longer than ${maxListBytes} bytes, which the agent does not keep in memory`,
        );
      }
      yield listed;
    }
  }
}

const tokenOfKey = (key: string): string => Buffer.from(`after ${key}`).toString('base64url');

function keyOfToken(token: string): string {
  const [, key] = /^after (.*)$/s.exec(Buffer.from(token, 'base64url').toString()) ?? [];
  if (key !== undefined && tokenOfKey(key) === token) return key;
  throw new CallError(code.INVALID_ARGUMENT, 'page_token is not a next_page_token of this agent: leave it empty for the first page');
}

/** Index of the first row whose key is greater (binary search). */
function indexAfter(rows: readonly ListedRow[], key: string): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((rows[middle]?.key ?? '') > key) high = middle;
    else low = middle + 1;
  }
  return low;
}
