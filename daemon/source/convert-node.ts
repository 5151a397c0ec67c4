// SPDX-License-Identifier: Apache-2.0
// Node object -> Node row: the addresses that are IPs, and the labels (zone). An address that is none is left out and reported.
import { z } from 'zod';
import type { InvalidObjectError } from '../errors.ts';
import { parseAddress } from '../model/address.ts';
import type { Node } from '../model/service.ts';
import { invalid, must, read, show, text, type Metadata, type Subject } from './fields.ts';

const statusSchema = z
  .object({ addresses: z.array(z.object({ type: text, address: text }, must('an object')), must('a list')).nullish() }, must('an object'))
  .nullish();
const labelsSchema = z.record(z.string(), text);

/** Throws InvalidObjectError. */
export function convertNode(
  raw: { readonly status?: unknown },
  metadata: Metadata,
  at: Subject,
): { row: Node; problems: InvalidObjectError[] } {
  const status = read(statusSchema, raw.status, { ...at, path: ['status'] });
  const labels = read(labelsSchema, metadata.labels, { ...at, path: ['metadata', 'labels'] });
  const addresses = new Set<string>();
  const problems: InvalidObjectError[] = [];
  (status?.addresses ?? []).forEach(({ type, address: given }, index) => {
    if (type !== 'InternalIP' && type !== 'ExternalIP') return;
    const address = parseAddress(given);
    if (address === undefined) problems.push(invalid(at, `status.addresses[${index}].address`, `must be an IP address, is ${show(given)}`));
    else addresses.add(address.text);
  });
  return { row: { name: metadata.name, addresses: [...addresses], labels }, problems };
}
