// SPDX-License-Identifier: Apache-2.0
// Building blocks of the generated codecs (gen/layouts.ts), which convert between the bytes of a map key or value and a plain row. They
// work on little-endian hosts only, like the datapath. C members with a __be type are in network byte order.
import { addressBytes, addressText, numberOf4 } from '../model/address.ts';

export interface Codec<Row> {
  /** Name of the C struct. */
  readonly name: string;
  /** Size of the struct in bytes. */
  readonly size: number;
  /** Byte offset of each member, padding members included. */
  readonly offsets: Readonly<Record<string, number>>;
  /** Writes the members of a row at the offset `at`. Padding is not written. */
  encode(row: Row, view: DataView, at?: number): void;
  decode(view: DataView, at?: number): Row;
}

/** Encodes a row into a new buffer. */
export function encoded<Row>(codec: Codec<Row>, row: Row): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(codec.size);
  codec.encode(row, new DataView(bytes.buffer));
  return bytes;
}

/** Encodes many rows, one after the other, into the same buffer. */
export class Encoder<Row> {
  readonly #codec: Codec<Row>;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;

  constructor(codec: Codec<Row>) {
    this.#codec = codec;
    this.#bytes = new Uint8Array(codec.size);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** The result is valid until the next call. */
  encode(row: Row): Uint8Array<ArrayBuffer> {
    this.#codec.encode(row, this.#view);
    return this.#bytes;
  }
}

export function decoded<Row>(codec: Codec<Row>, bytes: Uint8Array): Row {
  return codec.decode(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
}

export function putAddress(view: DataView, at: number, text: string): void {
  const number = numberOf4(text);
  if (number === undefined) putBytes(view, at, addressBytes(text));
  else view.setUint32(at, number);
}

export function getAddress(view: DataView, at: number, size: 4 | 16): string {
  return addressText(new Uint8Array(view.buffer, view.byteOffset + at, size));
}

export function putBytes(view: DataView, at: number, bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i += 1) view.setUint8(at + i, bytes[i] ?? 0);
}

/** Returns a copy of the bytes. */
export function getBytes(view: DataView, at: number, size: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, size).slice();
}

export function putWords(view: DataView, at: number, words: readonly number[]): void {
  for (const [i, word] of words.entries()) view.setUint32(at + 4 * i, word, true);
}

export function getWords(view: DataView, at: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => view.getUint32(at + 4 * i, true));
}

export function putLongs(view: DataView, at: number, longs: readonly bigint[]): void {
  for (const [i, long] of longs.entries()) view.setBigUint64(at + 8 * i, long, true);
}

export function getLongs(view: DataView, at: number, count: number): bigint[] {
  return Array.from({ length: count }, (_, i) => view.getBigUint64(at + 8 * i, true));
}
