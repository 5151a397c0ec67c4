// SPDX-License-Identifier: Apache-2.0
// Parts of zod schemas for API objects: scalars with messages that state the correct form, and field paths in the notation of
// Kubernetes. Used by the converters, by files/ to find the line of a field, and by kubeconfig-file.ts. Contains nothing that is
// specific to a kind of object or a table.
import { z } from 'zod';
import { InvalidObjectError } from '../../base/errors.ts';
import { parseAddress, parseCidr, specialKindOf } from '../../model/address.ts';
import type { NamedPort, Protocol } from '../../model/service.ts';

/** The object that a message refers to. */
export interface Subject {
  readonly kind: string;
  /** "namespace/name", or the name of an object without a namespace. */
  readonly object: string;
}

type Segment = string | number;

/** A value as it appears in a message. Long values are shortened. */
export function show(value: unknown): string {
  if (value === undefined) return 'missing';
  const json = jsonOf(value);
  return json.length <= 80 ? json : `${json.slice(0, 77)}...`;
}

function jsonOf(value: unknown): string {
  try {
    // JSON.stringify() returns undefined for a function.
    const json = JSON.stringify(value) as string | undefined;
    return json ?? typeof value;
  } catch {
    // The value is nested deeper than the stack allows, or a YAML alias refers to itself.
    return typeof value;
  }
}

/**
 * The text of a path: "spec.ports[0].port". A key with other characters than letters, digits, "_" and "-" is in brackets:
 * "metadata.labels[a.b/c]".
 */
export function fieldText(path: readonly PropertyKey[]): string {
  return path
    .map((segment) => (typeof segment === 'string' && /^[\w-]+$/.test(segment) ? `.${segment}` : `[${String(segment)}]`))
    .join('')
    .replace(/^\./, '');
}

/** The inverse of fieldText. */
export function fieldPath(field: string): Segment[] {
  return [...field.matchAll(/\[([^\]]*)\]|[^.[\]]+/g)].map(([word, inner]) => {
    if (inner === undefined) return word;
    return /^\d+$/.test(inner) ? Number(inner) : inner;
  });
}

/** An error about one field of the object. */
export function invalid(subject: Subject, field: string, reason: string): InvalidObjectError {
  return new InvalidObjectError({ kind: subject.kind, object: subject.object, field }, reason);
}

/** Parse option: the message for an invalid field whose schema has no message of its own. It replaces the message of zod. */
export const notValid = { error: () => 'is not valid' };

/**
 * Parses `raw` with the schema. Throws InvalidObjectError for the first invalid field. `at.path` is the path of `raw` in the
 * object.
 */
export function read<T>(schema: z.ZodType<T>, raw: unknown, at: Subject & { readonly path: readonly Segment[] }): T {
  const result = schema.safeParse(raw, notValid);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw invalid(at, fieldText([...at.path, ...(issue?.path ?? [])]), issue?.message ?? 'is invalid');
}

/** Schema option: the message for a value that is not `what`. */
export const must = (what: string) => ({ error: (issue: { input?: unknown }) => `must be ${what}, is ${show(issue.input)}` });

export const text = z.string(must('a string'));

/** A boolean of the API: absent and null mean the default. */
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

/** Fields that elements of Service spec.ports and of EndpointSlice ports have in common. */
export const portFields = { protocol, port: z.custom<number>(isPort, must('1..65535')) };

/** An optional port: absent, null and 0 mean no port. */
export const optionalPort = z
  .custom<number>((value) => value === 0 || isPort(value), must('0..65535'))
  .nullish()
  .transform((value) => value ?? 0);

/**
 * The name of a port: a label, as the API server requires, or "" for the only port. It is part of the keys in the status, in lists and
 * in the log, so a long name would be repeated there thousands of times.
 */
export const portName = z
  .string(must('a string'))
  .max(63, must('at most 63 characters'))
  .regex(/^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$/, must('a name of lower case letters, digits and "-"'));

/** An element of EndpointSlice ports. The default of an absent name is "", as in the API server; null is invalid. */
export const namedPortSchema: z.ZodType<NamedPort> = z.object({ name: portName.default(''), ...portFields }, must('an object'));

// RFC 1123 subdomains and labels, as the API server requires. They cannot contain "/", which separates the parts of a key.
const nameSchema = z
  .string(must('a name'))
  .max(253, must('at most 253 characters'))
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, must('a name of lower case letters, digits, "-" and "."'));
const namespaceSchema = z
  .string(must('a name'))
  .max(63, must('at most 63 characters'))
  .regex(/^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$/, must('a name of lower case letters, digits and "-"'));

/** The fields of metadata that the converters use. A missing or empty namespace is "default". */
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

/** The result of a converter. */
export interface Conversion<Row> {
  /** Undefined when the object is valid and this agent does not serve it. */
  readonly row: Row | undefined;
  /** Errors about the parts of the object that are not in the row, or the reason why there is no row. */
  readonly problems: readonly InvalidObjectError[];
}

/** Where a list of addresses is in the object, and what the elements of the list must be. */
interface ListPlace {
  readonly at: Subject;
  readonly fieldOf: (index: number) => string;
  readonly kind: 'an IP address' | 'a CIDR' | 'the address of a Service';
  readonly problems: InvalidObjectError[];
}

/**
 * Returns the elements of a list as canonical texts, without duplicates. An invalid element is reported and ignored (test/README.md, 14.4).
 */
export function readEach(given: readonly unknown[], { at, fieldOf, kind, problems }: ListPlace): string[] {
  const found = new Set<string>();
  given.forEach((each, index) => {
    const parsed = typeof each !== 'string' ? undefined : kind === 'a CIDR' ? parseCidr(each.trim()) : parseAddress(each);
    const special = parsed !== undefined && kind === 'the address of a Service' ? specialKindOf(parsed.text) : undefined;
    const wanted = kind === 'a CIDR' ? 'a CIDR' : 'an IP address';
    if (parsed === undefined) problems.push(invalid(at, fieldOf(index), `must be ${wanted}, is ${show(each)}: the entry is ignored`));
    else if (special !== undefined) problems.push(invalid(at, fieldOf(index), `${mustNotBe(special, each)}: the entry is ignored`));
    else found.add(parsed.text);
  });
  return [...found];
}

/** The reason why an address of a special kind is rejected. A Service with such an address would take over traffic of the host itself. */
export const mustNotBe = (special: string, given: unknown): string => `must not be ${special}, is ${show(given)}`;
