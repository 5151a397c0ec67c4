// SPDX-License-Identifier: Apache-2.0
// Parses a --node FILE (JSON or YAML), which describes the node of a dry run: its name, addresses, labels and podCIDRs. The Node
// object with the same name supplies the fields that the file omits. Pure. Called by dry-run.ts.
import { parse } from 'yaml';
import { z } from 'zod';
import { checkNesting } from '../base/nesting.ts';
import { InvalidObjectError } from '../base/errors.ts';
import { yamlReason } from '../base/reasons.ts';
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
  /** Local addresses, the primary address of each family first; undefined when the file omits them. */
  readonly ips: readonly string[] | undefined;
  readonly labels: Readonly<Record<string, string>> | undefined;
  readonly podCIDRs: readonly string[] | undefined;
}

/** Throws InvalidObjectError for text that is neither JSON nor YAML and for every invalid field, since a dry run must not guess. */
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
    checkNesting(source);
    // Warnings are off, because the parser would pass them to process.emitWarning().
    return parse(source, { logLevel: 'error' });
  } catch (error) {
    throw new InvalidObjectError({ ...at, field: '' }, `must be JSON or YAML: ${yamlReason(error)}`);
  }
}

/** The Node row from the file and the Node object with its name. */
export function nodeOf(file: NodeFile, object: Node | undefined): Node {
  return {
    name: file.name,
    addresses: file.ips ?? object?.addresses ?? [],
    labels: file.labels ?? object?.labels ?? {},
    podCIDRs: file.podCIDRs ?? object?.podCIDRs ?? [],
    isLeaving: object?.isLeaving ?? false,
  };
}
