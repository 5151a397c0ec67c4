// SPDX-License-Identifier: Apache-2.0
// The text of a --node FILE (JSON or YAML) -> the node that a dry run plays: a Node row and its local addresses. What the
// file leaves out may come from the Node object of that name; what the file says counts. Pure.
import { parse } from 'yaml';
import { z } from 'zod';
import { InvalidObjectError, messageOf } from '../base/errors.ts';
import { families, parseAddress } from '../model/address.ts';
import type { Node } from '../model/node.ts';
import { invalid, must, read, readEach, show, text, type Subject } from '../source/convert/fields.ts';

const schema = z.object(
  {
    name: text.min(1, must('a name')),
    ips: z.array(z.unknown(), must('a list')).nullish(),
    primaryIPs: z.object({ IPv4: text.nullish(), IPv6: text.nullish() }, must('an object')).nullish(),
    labels: z.record(z.string(), text, must('an object')).nullish(),
    podCIDRs: z.array(z.unknown(), must('a list')).nullish(),
  },
  must('an object'),
);

export interface NodeFile {
  readonly name: string;
  /** Local addresses, the primary ones of each family first; undefined: the file does not say. */
  readonly ips: readonly string[] | undefined;
  readonly labels: Readonly<Record<string, string>> | undefined;
  readonly podCIDRs: readonly string[] | undefined;
}

/** Throws InvalidObjectError for text that is none, and for an address or CIDR that is none: a dry run must not guess. */
export function parseNodeFile(source: string): NodeFile {
  const at: Subject = { kind: 'node file', object: '' };
  const { name, ips, primaryIPs, labels, podCIDRs } = read(schema, parseText(source, at), { ...at, path: [] });
  const problems: InvalidObjectError[] = [];
  const primary = families.flatMap((family) => {
    const given = primaryIPs?.[family] ?? undefined;
    const address = given === undefined ? undefined : parseAddress(given);
    if (given !== undefined && address?.family !== family)
      throw invalid(at, `primaryIPs.${family}`, `must be an ${family} address, is ${show(given)}`);
    return address === undefined ? [] : [address.text];
  });
  const own = readEach(ips ?? [], { at, fieldOf: (i) => `ips[${i}]`, kind: 'an IP address', problems });
  const cidrs = readEach(podCIDRs ?? [], { at, fieldOf: (i) => `podCIDRs[${i}]`, kind: 'a CIDR', problems });
  if (problems[0] !== undefined) throw problems[0];
  return {
    name,
    ips: ips || primary.length > 0 ? [...new Set([...primary, ...own])] : undefined,
    labels: labels ?? undefined,
    podCIDRs: podCIDRs ? cidrs : undefined,
  };
}

function parseText(source: string, at: Subject): unknown {
  try {
    return parse(source);
  } catch (error) {
    throw new InvalidObjectError({ ...at, field: '' }, `neither JSON nor YAML: ${messageOf(error)}`);
  }
}

/** The Node row that the file and the object of its name make together. */
export function nodeOf(file: NodeFile, object: Node | undefined): Node {
  return {
    name: file.name,
    addresses: file.ips ?? object?.addresses ?? [],
    labels: file.labels ?? object?.labels ?? {},
    podCIDRs: file.podCIDRs ?? object?.podCIDRs ?? [],
    isLeaving: object?.isLeaving ?? false,
  };
}
