// SPDX-License-Identifier: Apache-2.0
// The vocabulary of API objects for zod: scalars with messages people can act on, and field paths as Kubernetes writes
// them. Used by the converters beside it and by files/ to find the line of a field. Knows no object and no table.
import { z } from 'zod';
import { InvalidObjectError } from '../../base/errors.ts';
import { parseAddress, parseCidr } from '../../model/address.ts';
import type { NamedPort, Protocol } from '../../model/service.ts';

/** The object a message is about. */
export interface Subject {
  readonly kind: string;
  /** "namespace/name", or a bare name. */
  readonly object: string;
}

type Segment = string | number;

/** A value as a message shows it; long ones are cut. */
export function show(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = jsonOf(value);
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}

function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? typeof value;
  } catch {
    // Deeper than the stack, or a YAML alias to itself.
    return typeof value;
  }
}

/** "spec.ports[0].port"; a key that is no plain word is bracketed: "metadata.labels[a.b/c]". */
export function fieldText(path: readonly PropertyKey[]): string {
  return path
    .map((segment) => (typeof segment === 'string' && /^[\w-]+$/.test(segment) ? `.${segment}` : `[${String(segment)}]`))
    .join('')
    .replace(/^\./, '');
}

/** The way back from fieldText. */
export function fieldPath(field: string): Segment[] {
  return [...field.matchAll(/\[([^\]]*)\]|[^.[\]]+/g)].map(([word, inner]) => {
    if (inner === undefined) return word;
    return /^\d+$/.test(inner) ? Number(inner) : inner;
  });
}

/** The error of one field of the subject. */
export function invalid(subject: Subject, field: string, reason: string): InvalidObjectError {
  return new InvalidObjectError({ kind: subject.kind, object: subject.object, field }, reason);
}

/** Reads `raw` by the schema or throws the error of the first field that is wrong. `at` is the path of `raw` in its object. */
export function read<T>(schema: z.ZodType<T>, raw: unknown, at: Subject & { readonly path: readonly Segment[] }): T {
  const result = schema.safeParse(raw);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw invalid(at, fieldText([...at.path, ...(issue?.path ?? [])]), issue?.message ?? 'is invalid');
}

/** Schema option: the message for whatever is not `what`. */
export const must = (what: string) => ({ error: (issue: { input?: unknown }) => `must be ${what}, is ${show(issue.input)}` });

export const text = z.string(must('a string'));

/** The API server's booleans: absent and null are the default. */
export const flag = (whenAbsent: boolean) =>
  z
    .boolean(must('true or false'))
    .nullish()
    .transform((value) => value ?? whenAbsent);

const isPort = (value: unknown): boolean => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65535;

const protocol = z
  .enum(['TCP', 'UDP', 'SCTP'], must('TCP, UDP or SCTP'))
  .nullish()
  .transform((value): Protocol => value ?? 'TCP');

/** What an element of spec.ports of a Service and of ports of an EndpointSlice share. */
export const portFields = { protocol, port: z.custom<number>(isPort, must('1..65535')) };

/** A port that may be missing: absent, null and 0 mean none. */
export const optionalPort = z
  .custom<number>((value) => value === 0 || isPort(value), must('0..65535'))
  .nullish()
  .transform((value) => value ?? 0);

/** An element of ports of an EndpointSlice. A name that is left out is the API server's default, "" (a null one is none). */
export const namedPortSchema: z.ZodType<NamedPort> = z.object({ name: text.default(''), ...portFields }, must('an object'));

// RFC 1123 subdomains and labels, which is what the API server demands: nothing that could be mistaken for a key's "/".
const nameSchema = z
  .string(must('a name'))
  .max(253, must('at most 253 characters'))
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, must('a name of lower case letters, digits, "-" and "."'));
const namespaceSchema = z
  .string(must('a name'))
  .max(63, must('at most 63 characters'))
  .regex(/^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$/, must('a name of lower case letters, digits and "-"'));

/** metadata of any object, reduced to what we use. A missing or empty namespace is "default". */
export const metadataSchema = z.object(
  {
    name: nameSchema,
    namespace: namespaceSchema.nullish().transform((namespace) => namespace || 'default'),
    labels: z
      .record(z.string(), z.unknown(), must('an object'))
      .nullish()
      .transform((labels) => labels ?? {}),
    annotations: z
      .record(z.string(), z.unknown(), must('an object'))
      .nullish()
      .transform((annotations) => annotations ?? {}),
    creationTimestamp: text.nullish(),
    deletionTimestamp: text.nullish(),
  },
  must('an object'),
);

export type Metadata = z.infer<typeof metadataSchema>;

/** What a converter returns. */
export interface Conversion<Row> {
  /** Undefined when the object is valid and this agent does not serve it. */
  readonly row: Row | undefined;
  /** Parts of the object that were left out of the row, or the reason why there is no row. */
  readonly problems: readonly InvalidObjectError[];
}

/** Where a list of addresses stands, and what its elements must be. */
interface ListPlace {
  readonly at: Subject;
  readonly fieldOf: (index: number) => string;
  readonly kind: 'an IP address' | 'a CIDR';
  readonly problems: InvalidObjectError[];
}

/** Canonical texts of a list, each once; an element that is none is reported and left out, the rest counts (semantics, 14). */
export function readEach(given: readonly unknown[], { at, fieldOf, kind, problems }: ListPlace): string[] {
  const found = new Set<string>();
  given.forEach((each, index) => {
    const parsed = typeof each !== 'string' ? undefined : kind === 'a CIDR' ? parseCidr(each.trim()) : parseAddress(each);
    if (parsed === undefined) problems.push(invalid(at, fieldOf(index), `must be ${kind}, is ${show(each)}: it is left out`));
    else found.add(parsed.text);
  });
  return [...found];
}
