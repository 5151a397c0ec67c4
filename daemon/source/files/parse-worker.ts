// SPDX-License-Identifier: Apache-2.0
// The worker thread that parses large texts for document-parser.ts. It sends the result in parts, because receiving a message blocks the
// event loop of the daemon. It must never read a file or keep a result longer than its request.
import { parentPort } from 'node:worker_threads';
import { parseDocument, type ParsedDocument } from './documents.ts';

export interface ParseRequest {
  readonly text: string;
  readonly isJson: boolean;
}

/** A part of the result: the next definitions of the document. Only the last part has `rest`, which contains everything else. */
export interface ParsePart {
  readonly definitions: ParsedDocument['definitions'];
  readonly rest: Omit<ParsedDocument, 'definitions'> | undefined;
}

/** Receiving a part of 100 definitions takes 1 ms. */
const PART_DEFINITIONS = 100;

let definitions: ParsedDocument['definitions'] = [];
let rest: ParsePart['rest'];

/** Returns one part of the result, as the answer to a request or to "next". */
function answer(request: ParseRequest | 'next'): ParsePart {
  if (request !== 'next') ({ definitions, ...rest } = parseDocument(request.text, request.isJson));
  const part = { definitions: definitions.slice(0, PART_DEFINITIONS), rest };
  definitions = definitions.slice(PART_DEFINITIONS);
  return definitions.length === 0 ? part : { ...part, rest: undefined };
}

parentPort?.on('message', (request: ParseRequest | 'next') => parentPort?.postMessage(answer(request)));
parentPort?.postMessage('ready');
