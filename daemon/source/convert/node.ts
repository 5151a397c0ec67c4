// SPDX-License-Identifier: Apache-2.0
// Node object -> Node row: IP addresses, labels (for the zone), pod CIDRs, and whether the Node is about to be removed
// (test/README.md, 12). An invalid address or CIDR is reported and ignored. Pure.
import { z } from 'zod';
import type { InvalidObjectError } from '../../base/errors.ts';
import { parseAddress } from '../../model/address.ts';
import type { Node } from '../../model/node.ts';
import { invalid, must, read, readEach, show, text, type Metadata, type Subject, type Conversion } from './fields.ts';

const statusSchema = z
  .object({ addresses: z.array(z.object({ type: text, address: text }, must('an object')), must('a list')).nullish() }, must('an object'))
  .nullish();
const specSchema = z
  .object(
    {
      podCIDR: text.nullish(),
      podCIDRs: z.array(z.unknown(), must('a list')).nullish(),
      taints: z.array(z.object({ key: text }, must('an object')), must('a list')).nullish(),
    },
    must('an object'),
  )
  .nullish();
const labelsSchema = z.record(z.string(), text);

const leavingTaint = 'ToBeDeletedByClusterAutoscaler';

/** Throws InvalidObjectError. */
export function convertNode(
  raw: { readonly spec?: unknown; readonly status?: unknown },
  metadata: Metadata,
  at: Subject,
): Conversion<Node> {
  const status = read(statusSchema, raw.status, { ...at, path: ['status'] });
  const spec = read(specSchema, raw.spec, { ...at, path: ['spec'] });
  const labels = read(labelsSchema, metadata.labels, { ...at, path: ['metadata', 'labels'] });
  const problems: InvalidObjectError[] = [];
  const addresses = (status?.addresses ?? []).flatMap(({ type, address: given }, index) => {
    if (type !== 'InternalIP' && type !== 'ExternalIP') return [];
    const address = parseAddress(given);
    if (address !== undefined) return [{ type, text: address.text }];
    problems.push(invalid(at, `status.addresses[${index}].address`, `must be an IP address, is ${show(given)}`));
    return [];
  });
  const ofType = (wanted: string): string[] => addresses.filter(({ type }) => type === wanted).map(({ text: address }) => address);
  const isList = (spec?.podCIDRs?.length ?? 0) > 0;
  const given = isList ? (spec?.podCIDRs ?? []) : [spec?.podCIDR ?? ''].filter((cidr) => cidr !== '');
  const row: Node = {
    name: metadata.name,
    addresses: [...new Set([...ofType('InternalIP'), ...ofType('ExternalIP')])],
    labels,
    podCIDRs: readEach(given, { at, fieldOf: (index) => (isList ? `spec.podCIDRs[${index}]` : 'spec.podCIDR'), kind: 'a CIDR', problems }),
    isLeaving: (metadata.deletionTimestamp ?? '') !== '' || (spec?.taints ?? []).some(({ key }) => key === leavingTaint),
  };
  return { row, problems };
}
