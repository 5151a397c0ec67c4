// SPDX-License-Identifier: Apache-2.0
// A Service and its port by name, as the destination of a packet: the name is parsed and resolved to the ClusterIP of the family of the
// source. Pure. It must never guess: an incomplete or unknown name is an error that names the wrong part. Called by explainer.ts.
import { ExitCode, ExitError } from '../base/errors.ts';
import type { Family } from '../model/address.ts';
import type { Protocol, Service, ServicePort } from '../model/service.ts';

export interface NamedDestination {
  readonly address: string;
  readonly port: number;
  /** "Service default/web, port http (80/TCP), ClusterIP 10.96.0.10". */
  readonly text: string;
}

interface Wanted {
  readonly family: Family;
  readonly protocol: Protocol;
  /** Service by "namespace/name". */
  readonly service: (key: string) => Service | undefined;
}

/** Maximum number of ports that an error message lists. */
const SHOWN_PORTS = 20;

const refusal = (message: string): ExitError => new ExitError(ExitCode.usage, message);

/** Throws ExitError when the name is not valid or not known. */
export function resolveDestination(text: string, { family, protocol, service: find }: Wanted): NamedDestination {
  const { key, port: wanted } = parseName(text);
  const service = find(key);
  if (service === undefined)
    throw refusal(
      `no Service ${key} with a ClusterIP is known: it does not exist, is headless (its name stands for the addresses of its pods, which are not translated), is of type ExternalName, or belongs to another proxy`,
    );
  const address = service.clusterIPs[family];
  if (address === undefined)
    throw refusal(`Service ${key} has no ${family} ClusterIP, only ${Object.keys(service.clusterIPs).join()}: use a source of that family`);
  const port = service.ports.find((each) => each.protocol === protocol && (each.name === wanted || String(each.port) === wanted));
  if (port === undefined) throw refusal(`Service ${key} has no ${protocol} port ${wanted}: it has ${portsText(service.ports)}`);
  return { address, port: port.port, text: `Service ${key}, port ${portText(port)}, ClusterIP ${address}` };
}

/** "web.default:http", "web.default.svc.cluster.local:80" and "default/web:http". */
function parseName(text: string): { key: string; port: string } {
  const [, host = '', port = ''] = /^([^:]+):([\w-]+)$/.exec(text) ?? [];
  if (host === '') throw refusal(`the destination ${text} has no port: use NAME.NAMESPACE:PORT or NAMESPACE/NAME:PORT`);
  const [, namespace, name] = /^([^/]+)\/([^/]+)$/.exec(host) ?? [];
  if (namespace !== undefined && name !== undefined) return { key: `${namespace}/${name}`, port };
  const labels = host.replace(/\.$/, '').split('.');
  const isComplete = labels.length === 2 || (labels.length > 2 && labels[2] === 'svc');
  if (isComplete && labels.every((label) => label !== '' && !label.includes('/'))) return { key: `${labels[1]}/${labels[0]}`, port };
  if (labels.length === 1) throw refusal(`the destination ${text} has no namespace: use ${host}.NAMESPACE:${port}`);
  throw refusal(`the destination ${text} is not the name of a Service: use NAME.NAMESPACE:PORT or NAMESPACE/NAME:PORT`);
}

const portText = ({ name, port, protocol }: ServicePort): string => (name === '' ? `${port}/${protocol}` : `${name} (${port}/${protocol})`);

function portsText(ports: readonly ServicePort[]): string {
  const shown = ports.slice(0, SHOWN_PORTS).map(portText).join(', ');
  return ports.length === 0 ? 'no port' : `${shown}${ports.length > SHOWN_PORTS ? ` and ${ports.length - SHOWN_PORTS} more` : ''}`;
}
