// SPDX-License-Identifier: Apache-2.0
// The worker thread that parses large texts for document-parser.ts. It sends the result in parts, because receiving a message blocks the
// event loop of the daemon, and has a lower priority than the event loop. It must never read a file or keep a result longer than its
// request.
import { constants, getPriority, setPriority } from 'node:os';
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

/**
 * Added to the nice value of the process for this thread. On a CPU that both threads need, the event loop then gets three times as much time.
 * On a CPU that nothing else needs, the thread is as fast as without it.
 */
const NICE = 5;

let definitions: ParsedDocument['definitions'] = [];
let rest: ParsePart['rest'];

/** Returns one part of the result, as the answer to a request or to "next". */
function answer(request: ParseRequest | 'next'): ParsePart {
  if (request !== 'next') ({ definitions, ...rest } = parseDocument(request.text, request.isJson));
  const part = { definitions: definitions.slice(0, PART_DEFINITIONS), rest };
  definitions = definitions.slice(PART_DEFINITIONS);
  return definitions.length === 0 ? part : { ...part, rest: undefined };
}

// On Linux, process id 0 stands for the calling thread, not for the process.
setPriority(0, Math.min(constants.priority.PRIORITY_LOW, getPriority(0) + NICE));
parentPort?.on('message', (request: ParseRequest | 'next') => parentPort?.postMessage(answer(request)));
parentPort?.postMessage('ready');
