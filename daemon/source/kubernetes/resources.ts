// SPDX-License-Identifier: Apache-2.0
// The resources of the API server that the agent reads, one per kind of the registry: the path, the RBAC name and the query
// parameters that select objects. Pure.
import { apiGroupOf, type Kind, kindNames, kinds } from '../kinds.ts';

export interface Resource {
  readonly kind: Kind;
  /** Name in RBAC rules and messages: "endpointslices.discovery.k8s.io". */
  readonly name: string;
  readonly apiVersion: string;
  /** Path of the collection: "/api/v1/services". */
  readonly path: string;
  /** Query parameters that select objects: labelSelector, fieldSelector. */
  readonly selectors: Readonly<Record<string, string>>;
  readonly isOptional: boolean;
}

/** The path of a collection. Paths of the core group begin with /api, all others with /apis. */
export const pathOf = (apiVersion: string, plural: string): string =>
  `${apiGroupOf(apiVersion) === '' ? '/api' : '/apis'}/${apiVersion}/${plural}`;

/** The resources that the agent of this Node lists and watches. */
export const resourcesOf = (nodeName: string): readonly Resource[] =>
  kindNames.map((kind) => {
    const { apiVersion, plural, selectors, isOptional } = kinds[kind];
    const name = [plural, apiGroupOf(apiVersion)].filter((part) => part !== '').join('.');
    return { kind, name, apiVersion, path: pathOf(apiVersion, plural), selectors: selectors(nodeName), isOptional };
  });
