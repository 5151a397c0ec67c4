// SPDX-License-Identifier: Apache-2.0
// The kinds of Services for the comparison of Sluice and kube-proxy, and the addresses at which each is tested. Mostly data;
// kube-proxy.test.ts uses it.
import { clientAddresses, labNodes } from '../support/lab/lab.ts';
import type { LabRequest } from '../support/lab/traffic.ts';
import type { Story } from './story.ts';

export interface Shape {
  readonly name: string;
  readonly spec?: object;
  /** The places of the Pods of the Service. Pods at the places in `ending` terminate and still serve. */
  readonly pods?: readonly string[];
  readonly ending?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** The ipMode of the load balancer addresses. If it is unset, the Service has no load balancer address. */
  readonly ipMode?: 'VIP' | 'Proxy';
  readonly hasExternalIPs?: boolean;
  /** True if exactly one server answers, but which one is random. */
  readonly isAffine?: boolean;
}

const both = ['pod1', 'pod101'];
const nodePort = { type: 'NodePort' };
const balanced = { type: 'LoadBalancer' };
const external = { externalTrafficPolicy: 'Local' };
const internal = { internalTrafficPolicy: 'Local' };

export const shapes: readonly Shape[] = [
  { name: 'cluster-ip', pods: both },
  { name: 'three', pods: [...both, 'pod2'] },
  { name: 'remote', pods: ['pod101'] },
  { name: 'internal-local', spec: internal, pods: both },
  { name: 'internal-local-remote', spec: internal, pods: ['pod101'] },
  { name: 'no-backends', spec: nodePort },
  { name: 'no-backends-local', spec: { ...nodePort, ...external } },
  { name: 'node-port', spec: nodePort, pods: both },
  { name: 'node-port-local', spec: { ...nodePort, ...external }, pods: both },
  { name: 'node-port-local-remote', spec: { ...nodePort, ...external }, pods: ['pod101'] },
  { name: 'node-port-both-local', spec: { ...nodePort, ...external, ...internal }, pods: ['pod101'] },
  { name: 'node-port-ipv6', spec: { ...nodePort, ipFamilyPolicy: 'SingleStack', ipFamilies: ['IPv6'] }, pods: both },
  { name: 'affine', spec: { ...nodePort, sessionAffinity: 'ClientIP' }, pods: both, isAffine: true },
  { name: 'balanced', spec: balanced, pods: both, ipMode: 'VIP' },
  { name: 'balanced-local', spec: { ...balanced, ...external }, pods: both, ipMode: 'VIP' },
  { name: 'balanced-local-remote', spec: { ...balanced, ...external }, pods: ['pod101'], ipMode: 'VIP' },
  { name: 'balanced-proxy', spec: balanced, pods: both, ipMode: 'Proxy' },
  { name: 'balanced-no-backends', spec: balanced, ipMode: 'VIP' },
  {
    ...{ name: 'ranges-client', pods: both, ipMode: 'VIP' },
    spec: { ...balanced, loadBalancerSourceRanges: [`${clientAddresses.IPv4}/32`, `${clientAddresses.IPv6}/128`] },
  },
  {
    ...{ name: 'ranges-node', pods: both, ipMode: 'VIP' },
    spec: {
      ...balanced,
      loadBalancerSourceRanges: [`${labNodes['node-a'].addresses.IPv4}/32`, `${labNodes['node-a'].addresses.IPv6}/128`],
    },
  },
  { name: 'ranges-ipv4-only', spec: { ...balanced, loadBalancerSourceRanges: ['10.244.0.0/16'] }, pods: both, ipMode: 'VIP' },
  { name: 'external-ip', pods: both, hasExternalIPs: true },
  { name: 'external-ip-local', spec: external, pods: both, hasExternalIPs: true },
  { name: 'external-ip-local-remote', spec: external, pods: ['pod101'], hasExternalIPs: true },
  { name: 'host', spec: nodePort, pods: ['node', 'node-b'] },
  { name: 'ending', spec: nodePort, pods: both, ending: both },
  { name: 'ending-here', spec: { ...nodePort, ...internal }, pods: both, ending: ['pod1'] },
  { name: 'same-zone', spec: { trafficDistribution: 'PreferSameZone' }, pods: both },
  { name: 'same-node', spec: { trafficDistribution: 'PreferSameNode' }, pods: [...both, 'pod2'] },
  { name: 'called-headless', pods: both, labels: { 'service.kubernetes.io/headless': '' } },
  { name: 'not-ours', pods: both, labels: { 'service.kubernetes.io/service-proxy-name': 'another' } },
];

/** A frontend of a Service, with a text that describes its kind. */
export type Frontend = LabRequest & { readonly where: string };

const addressesOf = (i: number): { ingress: string[]; externalIPs: string[] } => ({
  ingress: [`203.0.113.${i + 1}`, `fd00:203::${i + 1}`],
  externalIPs: [`203.0.113.${i + 101}`, `fd00:203::${i + 101}`],
});

/** Creates the Services and their Pods. */
export async function makeShapes(story: Story): Promise<void> {
  await story.apply(
    ...shapes.map(({ name, spec, labels = {}, hasExternalIPs = false }, i) =>
      story.service(name, { ...(hasExternalIPs ? { externalIPs: addressesOf(i).externalIPs } : {}), ...spec }, { labels }),
    ),
  );
  for (const [i, { name, pods = [], ending = [], ipMode }] of shapes.entries()) {
    for (const place of pods) await story.run(name, [place], { name: `${name}-${place}` });
    for (const place of ending) await story.cluster.kubelet.terminate(story.namespace, `${name}-${place}`, { isReady: true });
    if (ipMode === undefined) continue;
    const ingress = addressesOf(i).ingress.map((ip) => ({ ip, ipMode }));
    const path = `/api/v1/namespaces/${story.namespace}/services/${name}/status`;
    await story.cluster.api.patch(path, { status: { loadBalancer: { ingress } } });
  }
}

/** Every frontend of a shape. The first shape also has a frontend with a port that does not belong to the Service. */
export async function frontendsOf(story: Story, shape: Shape): Promise<Frontend[]> {
  const { ingress, externalIPs } = addressesOf(shapes.indexOf(shape));
  const at = async (where: string, asked: Promise<LabRequest[]>): Promise<Frontend[]> => (await asked).map((each) => ({ ...each, where }));
  const own = await at('ClusterIP', story.clusterIPs(shape.name));
  const all = [own];
  if (shape === shapes[0]) all.push(own.map((each) => ({ ...each, where: 'ClusterIP with another port', port: each.port + 1 })));
  if ((await story.live(shape.name)).spec.type !== 'ClusterIP')
    for (const node of ['node-a', 'node-b'] as const) all.push(await at(`NodePort of ${node}`, story.nodePorts(shape.name, node)));
  if (shape.ipMode !== undefined) for (const ip of ingress) all.push(await at('load balancer address', story.portsAt(shape.name, ip)));
  if (shape.hasExternalIPs === true) for (const ip of externalIPs) all.push(await at('external IP', story.portsAt(shape.name, ip)));
  return all.flat();
}
