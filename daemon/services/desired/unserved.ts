// SPDX-License-Identifier: Apache-2.0
// What a Service asks for and this node does not serve, as messages for people: frontends that would take over the connection to the
// API server, and external IPs that the setting --external-ips excludes. Pure. Called by service-controller.ts.
import { families, hostPort } from '../../model/address.ts';
import type { FrontendType } from '../../model/frontend.ts';
import { objectKey } from '../../model/object-key.ts';
import type { Service } from '../../model/service.ts';
import { capturesApiServer } from './api-servers.ts';
import { claimedFrontends, isServedExternalIP } from './frontends.ts';
import type { NodeContext } from './node-context.ts';

/** Maximum number of external IPs that one message lists. People read the message, and a Service may have many external IPs. */
const SHOWN_ADDRESSES = 5;

/** The field of a Service that a frontend comes from, by the type of the frontend. */
const fieldOf: Readonly<Record<FrontendType, string>> = {
  ClusterIP: 'spec.clusterIPs',
  ExternalIP: 'spec.externalIPs',
  LoadBalancer: 'status.loadBalancer.ingress',
  NodePort: 'spec.ports[].nodePort',
};

/** One message for each frontend that would take over the connection to the API server. */
export function refusedFrontends(service: Service, node: NodeContext): string[] {
  if (node.apiServerPlaces.length === 0) return [];
  const frontends = service.ports.flatMap((port) => families.flatMap((family) => claimedFrontends(service, port, { family, node })));
  return frontends
    .filter((frontend) => capturesApiServer(service, frontend, node.apiServerPlaces))
    .map(
      ({ type, address, port, protocol }) =>
        `Service ${objectKey(service)} ${fieldOf[type]}: ${hostPort(address, port)}/${protocol} is not served, because this agent reaches the API server there`,
    );
}

/** The message about external IPs that the setting excludes; undefined if it excludes none. */
export function excludedExternalIPs(service: Service, { externalIps }: NodeContext): string | undefined {
  const excluded = service.externalIPs.filter((address) => !isServedExternalIP(address, externalIps));
  if (excluded.length === 0) return undefined;
  const more = excluded.length > SHOWN_ADDRESSES ? ` and ${excluded.length - SHOWN_ADDRESSES} more` : '';
  return `Service ${objectKey(service)} spec.externalIPs: ${excluded.slice(0, SHOWN_ADDRESSES).join(', ')}${more} not served, because --external-ips excludes them`;
}
