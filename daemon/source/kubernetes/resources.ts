// SPDX-License-Identifier: Apache-2.0
// What is listed and watched, and how it is asked for. The label selector is kube-proxy's: objects of other proxies and
// headless Services never come (kube-proxy-semantics.md, 1). Pure.
import type { Definition } from '../objects.ts';

export interface Resource {
  readonly kind: Definition['kind'];
  /** As RBAC and messages name it: "endpointslices.discovery.k8s.io". */
  readonly name: string;
  readonly apiVersion: string;
  /** Of the collection: "/api/v1/services". */
  readonly path: string;
  /** Parts of the query that select: labelSelector, fieldSelector. */
  readonly selectors: Readonly<Record<string, string>>;
  /** The server may be too old to have it: then there are none. */
  readonly isOptional: boolean;
}

const ours = '!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name';

/** Everything that the agent of that node asks for; the right to list and watch these is all that it needs. */
export const resourcesOf = (node: string): readonly Resource[] => [
  {
    ...{ kind: 'Service', name: 'services', apiVersion: 'v1', path: '/api/v1/services' },
    ...{ selectors: { labelSelector: ours }, isOptional: false },
  },
  {
    ...{ kind: 'EndpointSlice', name: 'endpointslices.discovery.k8s.io', apiVersion: 'discovery.k8s.io/v1' },
    ...{ path: '/apis/discovery.k8s.io/v1/endpointslices', selectors: { labelSelector: ours }, isOptional: false },
  },
  {
    ...{ kind: 'Node', name: 'nodes', apiVersion: 'v1', path: '/api/v1/nodes' },
    ...{ selectors: { fieldSelector: `metadata.name=${node}` }, isOptional: false },
  },
  {
    // Generally available since Kubernetes 1.33 (KEP-1880).
    ...{ kind: 'ServiceCIDR', name: 'servicecidrs.networking.k8s.io', apiVersion: 'networking.k8s.io/v1' },
    ...{ path: '/apis/networking.k8s.io/v1/servicecidrs', selectors: {}, isOptional: true },
  },
];
