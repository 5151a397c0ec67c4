// SPDX-License-Identifier: Apache-2.0
// The objects of the API server double: one revision counter for all objects, as in etcd, the history of changes, and
// selectors. Paths and faults are in api-server.ts.
import { apiGroupOf, type Kind, kindNames, kinds } from '../../../daemon/source/kinds.ts';
import { networkPolicies } from '../../../daemon/source/kubernetes/network-policies.ts';
import { pathOf } from '../../../daemon/source/kubernetes/resources.ts';

/** The kinds that the double serves. The agent lists and watches all of them except NetworkPolicy, which it only lists. */
export type ServedKind = Kind | 'NetworkPolicy';

export interface RawObject {
  readonly apiVersion: string;
  readonly kind: Kind;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly resourceVersion?: string;
    readonly creationTimestamp?: string;
  };
  readonly [field: string]: unknown;
}

/** A resource as the API server names it. */
export interface Collection {
  readonly kind: ServedKind;
  readonly path: string;
  /** API group; "" for the core group. */
  readonly group: string;
  /** Plural name in RBAC rules. */
  readonly resource: string;
  readonly apiVersion: string;
}

function collectionOf(kind: ServedKind, { apiVersion, plural }: { readonly apiVersion: string; readonly plural: string }): Collection {
  return { kind, path: pathOf(apiVersion, plural), group: apiGroupOf(apiVersion), resource: plural, apiVersion };
}

/** The resources that the agent follows. */
export const collections: readonly Collection[] = kindNames.map((kind) => collectionOf(kind, kinds[kind]));

/** All resources of the double. */
export const allCollections: readonly Collection[] = [...collections, collectionOf('NetworkPolicy', networkPolicies)];

/** A change of one object, as etcd reports it: the object before and after. */
export interface Change {
  readonly revision: number;
  readonly before: RawObject | undefined;
  readonly after: RawObject | undefined;
}

export type Selector = (object: RawObject) => boolean;

/** "namespace/name", or the name of an object without a namespace. */
export const keyOf = ({ metadata: { namespace, name } }: RawObject): string => (namespace === undefined ? name : `${namespace}/${name}`);

export const withRevision = (object: RawObject, revision: number): RawObject => ({
  ...object,
  metadata: { ...object.metadata, resourceVersion: String(revision) },
});

export class ObjectStore {
  revision = 1;
  /** The history up to this revision is compacted. */
  compacted = 0;
  #history: Change[] = [];
  readonly #objects = new Map<string, RawObject>();
  readonly #onChange: (change: Change) => void;

  constructor(onChange: (change: Change) => void) {
    this.#onChange = onChange;
  }

  /** Creates or updates an object. Returns it with its resourceVersion. */
  put(object: RawObject): RawObject {
    const id = `${object.kind} ${keyOf(object)}`;
    const before = this.#objects.get(id);
    const after = withRevision(structuredClone(object), this.revision + 1);
    this.#objects.set(id, after);
    this.#record(before, after);
    return after;
  }

  /** Does nothing if the object does not exist. */
  delete(kind: ServedKind, key: string): void {
    const before = this.#objects.get(`${kind} ${key}`);
    if (before === undefined) return;
    this.#objects.delete(`${kind} ${key}`);
    this.#record(before, undefined);
  }

  get(kind: ServedKind, key: string): RawObject | undefined {
    return this.#objects.get(`${kind} ${key}`);
  }

  /** Sorted by key, as etcd returns them. */
  all(kind: ServedKind, selector: Selector = () => true): RawObject[] {
    const found = [...this.#objects.values()].filter((object) => object.kind === kind && selector(object));
    return found.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  }

  /** Drops the history. */
  compact(): void {
    this.compacted = this.revision;
    this.#history = [];
  }

  /** Changes after that revision; undefined when some of them are compacted. */
  since(revision: number): readonly Change[] | undefined {
    return revision < this.compacted ? undefined : this.#history.filter((change) => change.revision > revision);
  }

  #record(before: RawObject | undefined, after: RawObject | undefined): void {
    this.revision += 1;
    const change = { revision: this.revision, before, after };
    this.#history.push(change);
    this.#onChange(change);
  }
}

/**
 * The watch event for a change, given the selector of the watch; undefined if there is none. If only the previous state matches
 * the selector, the event is DELETED and has the previous state with the revision of the change. If only the new state matches,
 * the event is ADDED.
 */
export function eventOf({ revision, before, after }: Change, selector: Selector): { type: string; object: RawObject } | undefined {
  const wasSelected = before !== undefined && selector(before);
  if (after !== undefined && selector(after)) return { type: wasSelected ? 'MODIFIED' : 'ADDED', object: after };
  return wasSelected ? { type: 'DELETED', object: withRevision(before, revision) } : undefined;
}

/** Throws for a selector that the double does not support. */
export function selectorOf(labelSelector: string, fieldSelector: string): Selector {
  const labels = labelSelector.split(',').filter(Boolean).map(labelRequirement);
  const fields = fieldSelector.split(',').filter(Boolean).map(fieldRequirement);
  return (object) => [...labels, ...fields].every((selects) => selects(object));
}

function labelRequirement(text: string): Selector {
  const [, not, key = '', operator, value] = /^(!?)([\w./-]+)(?:(==?|!=)([\w.-]*))?$/.exec(text) ?? [];
  if (not === undefined) throw new Error(`the double does not support the label selector ${text}`);
  return ({ metadata: { labels = {} } }) => {
    if (operator === undefined) return Object.hasOwn(labels, key) === (not === '');
    return (labels[key] === value) === (operator !== '!=');
  };
}

function fieldRequirement(text: string): Selector {
  const name = /^metadata\.name=(.*)$/.exec(text)?.[1];
  if (name === undefined) throw new Error(`the double does not support the field selector ${text}`);
  return ({ metadata }) => metadata.name === name;
}
