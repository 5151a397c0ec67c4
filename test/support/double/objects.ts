// SPDX-License-Identifier: Apache-2.0
// What the double of the API server holds: objects of the four resources with etcd's one counter over all of them, what
// happened to them, and how a selector sees it. No paths' meaning, no faults: api-server.ts has those.
import { apiGroupOf, type Kind, kindNames, kinds } from '../../../daemon/source/kinds.ts';
import { pathOf } from '../../../daemon/source/kubernetes/resources.ts';

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
  readonly kind: Kind;
  readonly path: string;
  /** API group: "" for the core group. */
  readonly group: string;
  /** Plural name in RBAC rules. */
  readonly resource: string;
  readonly apiVersion: string;
}

export const collections: readonly Collection[] = kindNames.map((kind) => {
  const { apiVersion, plural } = kinds[kind];
  return { kind, path: pathOf(apiVersion, plural), group: apiGroupOf(apiVersion), resource: plural, apiVersion };
});

/** One change, as etcd tells it: the object before and after. */
export interface Happening {
  readonly revision: number;
  readonly before: RawObject | undefined;
  readonly after: RawObject | undefined;
}

export type Selector = (object: RawObject) => boolean;

/** "namespace/name", or the name of what has no namespace. */
export const keyOf = ({ metadata: { namespace, name } }: RawObject): string => (namespace === undefined ? name : `${namespace}/${name}`);

export const versioned = (object: RawObject, revision: number): RawObject => ({
  ...object,
  metadata: { ...object.metadata, resourceVersion: String(revision) },
});

export class ObjectStore {
  revision = 1;
  /** Everything up to here is forgotten. */
  compacted = 0;
  #history: Happening[] = [];
  readonly #objects = new Map<string, RawObject>();
  readonly #tell: (happening: Happening) => void;

  constructor(tell: (happening: Happening) => void) {
    this.#tell = tell;
  }

  /** Creates or updates; returns it with its resourceVersion. */
  put(object: RawObject): RawObject {
    const id = `${object.kind} ${keyOf(object)}`;
    const before = this.#objects.get(id);
    const after = versioned(structuredClone(object), this.revision + 1);
    this.#objects.set(id, after);
    this.#happened(before, after);
    return after;
  }

  /** An object that is not there is none to delete. */
  delete(kind: Kind, key: string): void {
    const before = this.#objects.get(`${kind} ${key}`);
    if (before === undefined) return;
    this.#objects.delete(`${kind} ${key}`);
    this.#happened(before, undefined);
  }

  get(kind: Kind, key: string): RawObject | undefined {
    return this.#objects.get(`${kind} ${key}`);
  }

  /** Sorted by key, as etcd gives them. */
  all(kind: Kind, selector: Selector = () => true): RawObject[] {
    const found = [...this.#objects.values()].filter((object) => object.kind === kind && selector(object));
    return found.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  }

  /** Forgets what has happened so far. */
  compact(): void {
    this.compacted = this.revision;
    this.#history = [];
  }

  /** What happened after that revision; undefined when some of it is forgotten. */
  since(revision: number): readonly Happening[] | undefined {
    return revision < this.compacted ? undefined : this.#history.filter((happening) => happening.revision > revision);
  }

  #happened(before: RawObject | undefined, after: RawObject | undefined): void {
    this.revision += 1;
    const happening = { revision: this.revision, before, after };
    this.#history.push(happening);
    this.#tell(happening);
  }
}

/**
 * What a watch of these objects says of it: what leaves the selection is deleted, as it was last seen but with the
 * revision of the event, and what enters it is added. Undefined: nothing.
 */
export function eventOf({ revision, before, after }: Happening, selector: Selector): { type: string; object: RawObject } | undefined {
  const was = before !== undefined && selector(before);
  if (after !== undefined && selector(after)) return { type: was ? 'MODIFIED' : 'ADDED', object: after };
  return was ? { type: 'DELETED', object: versioned(before, revision) } : undefined;
}

/** Throws for what the double does not know, rather than to select all. */
export function selectorOf(labelSelector: string, fieldSelector: string): Selector {
  const labels = labelSelector.split(',').filter(Boolean).map(requirementOf);
  const fields = fieldSelector.split(',').filter(Boolean).map(fieldOf);
  return (object) => [...labels, ...fields].every((selects) => selects(object));
}

function requirementOf(text: string): Selector {
  const [, not, key = '', operator, value] = /^(!?)([\w./-]+)(?:(==?|!=)([\w.-]*))?$/.exec(text) ?? [];
  if (not === undefined) throw new Error(`the double knows no label selector ${text}`);
  return ({ metadata: { labels = {} } }) => {
    if (operator === undefined) return Object.hasOwn(labels, key) === (not === '');
    return (labels[key] === value) === (operator !== '!=');
  };
}

function fieldOf(text: string): Selector {
  const name = /^metadata\.name=(.*)$/.exec(text)?.[1];
  if (name === undefined) throw new Error(`the double knows no field selector ${text}`);
  return ({ metadata }) => metadata.name === name;
}
