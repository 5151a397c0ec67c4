// SPDX-License-Identifier: Apache-2.0
// Removes credentials from text that the API server, a proxy before it or an exec plugin has sent. Such a text may repeat the token of the
// request, completely or in part. Every problem of the Kubernetes source is redacted before the log, the status or /readyz shows it. A
// Redactor keeps no credential, only short pieces of it.
import { printable } from '../../base/printable.ts';

/** Length of the parts of a credential that are removed. Shorter parts may occur by chance, and do not reveal the credential. */
const PIECE = 16;
/** Maximum number of credentials whose pieces are kept. A token is replaced once an hour, and the previous one may still be valid. */
const KEPT = 8;
/** Maximum number of characters of a text that are searched. printable() shows fewer characters. */
const SEARCHED = 4096;

const mark = '<redacted>';

/** Patterns of text that looks like a credential, whether or not it is known. */
const patterns: readonly RegExp[] = [
  // A JSON Web Token, complete or only its beginning.
  /\beyJ[\w-]{8,}(\.[\w-]*){0,4}/g,
  // An Authorization header.
  /\b(?<=(bearer|basic)\s+)[\w.~+/=-]{8,}/gi,
  // User and password in a URL.
  /(?<=:\/\/)[^\s/@]+(?=@)/g,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?/g,
];

export class Redactor {
  /** The pieces of each credential, the newest last. */
  #known: ReadonlySet<string>[] = [];
  #last: string | undefined;

  /** Text that contains this credential, or a part of it, is redacted from now on. Undefined is ignored. */
  remember(secret: string | undefined): void {
    if (secret === undefined || secret === this.#last) return;
    this.#last = secret;
    const token = secret.replace(/^(bearer|basic)\s+/i, '');
    const pieces = new Set([...piecesOf(token), ...piecesOf(Buffer.from(token).toString('base64'))]);
    this.#known = [...this.#known, pieces].slice(-KEPT);
  }

  /** The text without credentials, printable and of a limited length. */
  redact(text: string): string {
    const searched = text.slice(0, SEARCHED);
    const cleaned = patterns.reduce((each, pattern) => each.replace(pattern, mark), this.#withoutKnown(searched));
    return printable(text.length > SEARCHED ? `${cleaned}...` : cleaned);
  }

  #withoutKnown(text: string): string {
    if (this.#known.length === 0) return text;
    const isSecret = new Uint8Array(text.length);
    for (const pieces of this.#known) {
      for (const length of lengthsOf(pieces)) {
        for (let at = 0; at + length <= text.length; at += 1)
          if (pieces.has(text.slice(at, at + length))) isSecret.fill(1, at, at + length);
      }
    }
    let cleaned = '';
    for (let at = 0; at < text.length; at += 1) {
      if (isSecret[at] === 0) cleaned += text[at];
      else if (at === 0 || isSecret[at - 1] === 0) cleaned += mark;
    }
    return cleaned;
  }
}

/** Every part of the credential that has PIECE characters, or the whole credential if it is shorter. */
function piecesOf(secret: string): string[] {
  if (secret.length < PIECE) return secret === '' ? [] : [secret];
  return Array.from({ length: secret.length - PIECE + 1 }, (_, at) => secret.slice(at, at + PIECE));
}

const lengthsOf = (pieces: ReadonlySet<string>): ReadonlySet<number> => new Set(pieces.values().map((piece) => piece.length));
