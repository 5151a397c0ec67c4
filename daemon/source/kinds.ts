// SPDX-License-Identifier: Apache-2.0
// The registry of object kinds: one row per kind of API object that the agent reads. It states how the kind is requested from the
// API server, how an object is converted, and which table holds the rows. Sources, tables and tests derive their lists from it. A
// new kind needs a row type in model/, a converter in convert/, a row here, and the right to list and watch it in deploy/.
import type { Conversion, Metadata, Subject } from './convert/fields.ts';
import { convertSlice } from './convert/endpoint-slice.ts';
import { convertNode } from './convert/node.ts';
import { convertServiceCIDR } from './convert/service-cidr.ts';
import { convertService } from './convert/service.ts';

interface KindRow<TableName extends string, Row> {
  readonly apiVersion: string;
  /** Name of the resource in paths and RBAC rules: "endpointslices". */
  readonly plural: string;
  readonly isNamespaced: boolean;
  /** An older API server may not have the resource. The agent then assumes that there are no objects of this kind. */
  readonly isOptional: boolean;
  /** Query parameters that select objects, given the name of this agent's Node. */
  readonly selectors: (nodeName: string) => Readonly<Record<string, string>>;
  /** Name of the table for the rows of this kind: a property of ObjectTables (tables.ts). */
  readonly table: TableName;
  /** Throws InvalidObjectError when the object as a whole cannot be used. */
  readonly convert: (raw: Readonly<Record<string, unknown>>, metadata: Metadata, at: Subject) => Conversion<Row>;
}

const row = <const TableName extends string, Row>(fields: KindRow<TableName, Row>): KindRow<TableName, Row> => fields;

/** The selector that kube-proxy uses: headless Services and objects of another service proxy are not sent (test/README.md, 1). */
const labelSelector = '!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name';

const registry = {
  Service: row({
    ...{ apiVersion: 'v1', plural: 'services', isNamespaced: true, isOptional: false },
    ...{ selectors: () => ({ labelSelector }), table: 'services', convert: convertService },
  }),
  EndpointSlice: row({
    ...{ apiVersion: 'discovery.k8s.io/v1', plural: 'endpointslices', isNamespaced: true, isOptional: false },
    ...{ selectors: () => ({ labelSelector }), table: 'slices', convert: convertSlice },
  }),
  Node: row({
    ...{ apiVersion: 'v1', plural: 'nodes', isNamespaced: false, isOptional: false },
    ...{ selectors: (nodeName) => ({ fieldSelector: `metadata.name=${nodeName}` }), table: 'nodes', convert: convertNode },
  }),
  ServiceCIDR: row({
    // ServiceCIDRs are generally available since Kubernetes 1.33 (KEP-1880).
    ...{ apiVersion: 'networking.k8s.io/v1', plural: 'servicecidrs', isNamespaced: false, isOptional: true },
    ...{ selectors: () => ({}), table: 'serviceCIDRs', convert: convertServiceCIDR },
  }),
};

export type Kind = keyof typeof registry;

type Rows = { readonly [K in Kind]: (typeof registry)[K] extends KindRow<string, infer Row> ? Row : never };

export type RowOf<K extends Kind> = Rows[K];

export type TableNameOf<K extends Kind> = (typeof registry)[K]['table'];

export const kinds: { readonly [K in Kind]: KindRow<TableNameOf<K>, Rows[K]> } = registry;

export const kindNames = Object.keys(registry) as readonly Kind[];

export const isKnownKind = (kind: string): kind is Kind => Object.hasOwn(registry, kind);

/** The API group: "discovery.k8s.io" for "discovery.k8s.io/v1", "" for "v1" (the core group). */
export const apiGroupOf = (apiVersion: string): string => (apiVersion.includes('/') ? apiVersion.replace(/\/.*$/, '') : '');

/**
 * A named object and its row. `row` is undefined for a valid object that this agent does not serve. `key` is the key in the
 * table.
 */
export type Definition<K extends Kind = Kind> = {
  readonly [P in K]: { readonly kind: P; readonly key: string; readonly row: RowOf<P> | undefined };
}[K];
