// SPDX-License-Identifier: Apache-2.0
// No Service may take over the connection of this agent to the API server, whichever field of the Service contains the address. A
// frontend at this address is refused and reported by name. All other frontends of the Service are served. Such frontends, and
// Service CIDRs that contain the address, may remain in the maps from an earlier process. They are removed before the agent connects.
import { describe, expect, test } from 'vitest';
import { apiServerKey } from '../../../daemon/model/api-server.ts';
import type { HostSettings } from '../../../daemon/model/host.ts';
import type { Service } from '../../../daemon/model/service.ts';
import { endpointRow, nodeRow, portRow, serviceRow, slicePortRow, sliceRow } from '../../support/builders.ts';
import { dumpMaps } from '../../support/dump-maps.ts';
import { fakeLbMaps } from '../../support/fake-maps.ts';
import { faultyLbMaps } from '../../support/faulty-maps.ts';
import { thisNode, World } from '../../support/world.ts';

/** Address and port of the API server. */
const [api, port] = ['192.168.0.1', 6443];
const api6 = 'fd00:1::1';

/** The agent reaches the API server at exactly these addresses. */
function reach(world: World, ...addresses: readonly [string, number][]): World {
  const { apiServers } = world.tables;
  const rows = new Map(addresses.map(([address, number]) => [apiServerKey({ address, port: number }), { address, port: number }]));
  for (const [key] of [...apiServers.all()]) if (!rows.has(key)) apiServers.delete(key);
  for (const [key, row] of rows) if (apiServers.get(key) === undefined) apiServers.upsert(key, row);
  return world;
}

const ownNode = nodeRow(thisNode, { addresses: [api, api6] });
const endpoints = [endpointRow('10.244.1.2')];
const kubernetes = (fields: Partial<Service> = {}): Service =>
  serviceRow({
    name: 'kubernetes',
    created: 1,
    clusterIPs: { IPv4: '10.96.0.1' },
    ports: [portRow({ name: 'https', port: 443 })],
    ...fields,
  });
const kubernetesSlice = sliceRow({
  ...{ name: 'kubernetes', service: 'kubernetes', endpoints: [endpointRow(api), endpointRow('192.168.0.2')] },
  ports: [slicePortRow({ name: 'https', port: 6443 })],
});

const frontends = (maps: Parameters<typeof dumpMaps>[0]): string[] =>
  dumpMaps(maps)
    .filter((line) => line.startsWith('FE '))
    .map((line) => line.split(' ')[1] ?? '');
const sets = (maps: Parameters<typeof dumpMaps>[0]): string[] => dumpMaps(maps).filter((line) => /^SET (clusterIP|serviceCIDR)/.test(line));

interface Case {
  readonly name: string;
  readonly service: Partial<Service>;
  readonly served: readonly string[];
  readonly refused: readonly string[];
}

const at = (text: string, field: string): string =>
  `Service default/web ${field}: ${text} is not served, because this agent reaches the API server there`;
const both = [portRow({ name: 'api', port }), portRow({ name: 'web', port: 80 })];

const cases: readonly Case[] = [
  {
    name: 'an external IP, whose other port is served',
    service: { ports: both, externalIPs: [api] },
    served: ['10.96.0.10:6443/TCP', '10.96.0.10:80/TCP', `${api}:80/TCP`],
    refused: [at(`${api}:6443/TCP`, 'spec.externalIPs')],
  },
  {
    name: 'an external IP of the other family',
    service: { ports: both, clusterIPs: { IPv6: 'fd00:96::a' }, externalIPs: [api6] },
    served: [`[${api6}]:80/TCP`, '[fd00:96::a]:6443/TCP', '[fd00:96::a]:80/TCP'],
    refused: [at(`[${api6}]:6443/TCP`, 'spec.externalIPs')],
  },
  {
    name: 'a load balancer address',
    service: { type: 'LoadBalancer', ports: both, loadBalancerIPs: [api] },
    served: ['10.96.0.10:6443/TCP', '10.96.0.10:80/TCP', `${api}:80/TCP`],
    refused: [at(`${api}:6443/TCP`, 'status.loadBalancer.ingress')],
  },
  {
    name: 'a NodePort on the node of the API server',
    service: { type: 'NodePort', ports: [portRow({ port: 80, nodePort: port })] },
    served: ['10.96.0.10:80/TCP'],
    refused: [at(`${api}:6443/TCP`, 'spec.ports[].nodePort')],
  },
  {
    name: 'a ClusterIP',
    service: { ports: both, clusterIPs: { IPv4: api } },
    served: [`${api}:80/TCP`],
    refused: [at(`${api}:6443/TCP`, 'spec.clusterIPs')],
  },
  {
    name: 'no frontend, if only the protocol differs',
    service: { ports: [portRow({ port, protocol: 'UDP' })], externalIPs: [api] },
    served: ['10.96.0.10:6443/UDP', `${api}:6443/UDP`],
    refused: [],
  },
];

describe('3.6: a frontend at the address and port of the API server is not served, and the message names the frontend', () => {
  test.for(cases)('a frontend that takes over the connection is refused: $name', ({ service, served, refused }) => {
    const maps = fakeLbMaps();
    const world = reach(new World({ maps }).put(ownNode, serviceRow(service), sliceRow({ endpoints })), [api, port], [api6, port]);
    world.tables.localAddresses.upsert(api, { address: api, ifindex: 2 });
    world.listed().settle();
    expect(frontends(maps)).toEqual([...served].sort());
    expect(world.controller.refused()).toEqual(refused);
  });

  test('the ClusterIP of default/kubernetes is served, and only its other fields can be refused', () => {
    const maps = fakeLbMaps();
    const own = kubernetes({ externalIPs: [api] });
    const foreign = serviceRow({ name: 'copy', clusterIPs: { IPv4: '10.96.0.20' }, externalIPs: ['10.96.0.1'], ports: own.ports });
    const world = reach(new World({ maps }).put(own, foreign, kubernetesSlice), ['10.96.0.1', 443])
      .listed()
      .settle();
    expect(frontends(maps)).toEqual(['10.96.0.1:443/TCP', '10.96.0.20:443/TCP', `${api}:443/TCP`]);
    expect(world.controller.refused()).toHaveLength(1);
    expect(sets(maps)).toContain('SET clusterIP 10.96.0.1/32');
  });

  test('if the agent connects to the ClusterIP of default/kubernetes, the endpoints of that Service count as API servers, also after changes', () => {
    const maps = fakeLbMaps();
    const web = serviceRow({ externalIPs: [api, '192.168.0.2'], ports: [portRow({ port })] });
    const world = reach(new World({ maps }).put(kubernetes(), kubernetesSlice, web), ['10.96.0.1', 443])
      .listed()
      .settle();
    expect(frontends(maps)).toEqual(['10.96.0.10:6443/TCP', '10.96.0.1:443/TCP'].sort());
    world.put({ ...kubernetesSlice, endpoints: [endpointRow(api)] }).settle();
    expect(frontends(maps)).toContain('192.168.0.2:6443/TCP');
    reach(world, ['203.0.113.1', 443]).settle();
    expect(frontends(maps)).toContain(`${api}:6443/TCP`);
  });

  test('if the API server is on loopback, all addresses of the node count as API servers, because other nodes use these addresses', () => {
    const maps = fakeLbMaps();
    const world = new World({ maps }).put(ownNode, serviceRow({ externalIPs: [api], ports: [portRow({ port })] }));
    world.tables.localAddresses.upsert(api, { address: api, ifindex: 2 });
    reach(world, ['127.0.0.1', port]).listed().settle();
    expect(frontends(maps)).toEqual(['10.96.0.10:6443/TCP']);
  });

  test('if the agent connects to another API server, the new address is no longer served, and the previous address is served again', () => {
    const maps = fakeLbMaps();
    const web = serviceRow({ externalIPs: [api, '192.168.0.2'], ports: [portRow({ port })] });
    const world = reach(new World({ maps }).put(web, sliceRow({ endpoints })), [api, port])
      .listed()
      .settle();
    expect(frontends(maps)).toEqual(['10.96.0.10:6443/TCP', '192.168.0.2:6443/TCP']);
    reach(world, ['192.168.0.2', port]).settle();
    expect(frontends(maps)).toEqual(['10.96.0.10:6443/TCP', `${api}:6443/TCP`]);
    expect(world.controller.refused()).toEqual([at('192.168.0.2:6443/TCP', 'spec.externalIPs')]);
    world.services.delete('default/web');
    world.settle();
    expect(world.controller.refused()).toEqual([]);
  });

  test('3.7: the address sets do not contain the API server, because packets to its other ports would be refused or dropped', () => {
    const maps = fakeLbMaps();
    const world = reach(new World({ maps, settings: { serviceCidr: ['192.168.0.0/16', '10.96.0.0/16'] } }), [api, port]);
    world
      .put(serviceRow({ clusterIPs: { IPv4: api } }))
      .listed()
      .settle();
    expect(frontends(maps)).toEqual([`${api}:80/TCP`]);
    expect(sets(maps)).toEqual(['SET serviceCIDR 10.96.0.0/16']);
    reach(world, ['203.0.113.1', port]).settle();
    expect(sets(maps)).toEqual([`SET clusterIP ${api}/32`, 'SET serviceCIDR 10.96.0.0/16', 'SET serviceCIDR 192.168.0.0/16']);
  });
});

describe('after a restart, before the first list', () => {
  const captured = (): { maps: ReturnType<typeof fakeLbMaps>; world: World } => {
    const maps = fakeLbMaps();
    const web = serviceRow({ ports: both, externalIPs: [api, '192.168.0.9'] });
    const world = new World({ maps, settings: { serviceCidr: ['192.168.0.0/16', '10.96.0.0/16'] } });
    world.put(ownNode, web, sliceRow({ endpoints }), kubernetes(), kubernetesSlice).listed().settle();
    expect(frontends(maps)).toContain(`${api}:6443/TCP`);
    return { maps, world };
  };

  test('only frontends and Service CIDRs that take over the connection to the API server are withdrawn after a restart', () => {
    const { maps, world } = captured();
    const before = dumpMaps(maps);
    world.restart();
    reach(world, [api, port]).flush();
    const gone = [`FE ${api}:6443/TCP external -> #10.96.0.10:6443/TCP`, 'SET serviceCIDR 192.168.0.0/16'];
    expect(dumpMaps(maps)).toEqual(before.filter((line) => !gone.includes(line)));
    expect(world.log).toEqual([`withdrawn ${api}:6443/TCP`, 'withdrawn serviceCIDR 192.168.0.0/16']);
  });

  test('if the address is the ClusterIP of default/kubernetes, its frontend stays, and frontends that hide its endpoints are withdrawn', () => {
    const { maps, world } = captured();
    const before = dumpMaps(maps);
    world.restart();
    reach(world, ['10.96.0.1', 443]).flush();
    expect(dumpMaps(maps)).toEqual(before.filter((line) => !line.startsWith(`FE ${api}:6443/TCP`)));
  });

  test('if a map cannot be written, the withdrawal is retried until it succeeds', () => {
    const { maps } = captured();
    const world = new World({ maps: faultyLbMaps(maps, { rate: 1, seed: 1 }) });
    reach(world, [api, port]).flush();
    expect(frontends(maps)).toContain(`${api}:6443/TCP`);
    const healed = new World({ maps: faultyLbMaps(maps, { rate: 0.5, seed: 2 }) });
    reach(healed, [api, port]);
    for (let round = 0; round < 20; round += 1) healed.advance(60_000);
    expect(frontends(maps)).not.toContain(`${api}:6443/TCP`);
  });

  test('frontends at an address that becomes known later are withdrawn too, and without such frontends nothing is written', () => {
    const { maps, world } = captured();
    world.restart();
    maps.writes.splice(0);
    reach(world, ['203.0.113.1', port]).flush();
    expect(maps.writes).toEqual([]);
    reach(world, ['203.0.113.1', port], [api, port]).flush();
    expect(frontends(maps)).not.toContain(`${api}:6443/TCP`);
  });
});

describe('2.16: --external-ips', () => {
  const web = serviceRow({
    externalIPs: ['203.0.113.5', '198.51.100.5', '2001:db8::5'],
    clusterIPs: { IPv4: '10.96.0.10', IPv6: 'fd00:96::a' },
  });
  test.for<{ setting: HostSettings['externalIps']; served: readonly string[] }>([
    { setting: 'on', served: ['203.0.113.5', '198.51.100.5', '2001:db8::5'] },
    { setting: 'off', served: [] },
    { setting: ['203.0.113.0/24'], served: ['203.0.113.5'] },
    { setting: ['2001:db8::/32', '198.51.100.5/32'], served: ['198.51.100.5', '2001:db8::5'] },
  ])('the setting $setting determines the external IPs that are served', ({ setting, served }) => {
    const maps = fakeLbMaps();
    const world = new World({ maps, settings: { externalIps: setting } }).put(web).listed().settle();
    const shown = ['10.96.0.10', 'fd00:96::a', ...served].map((address) => `${address.includes(':') ? `[${address}]` : address}:80/TCP`);
    expect(frontends(maps)).toEqual(shown.sort());
    const excluded = web.externalIPs.filter((address) => !served.includes(address));
    expect(world.controller.excluded()).toEqual(
      excluded.length === 0
        ? []
        : [`Service default/web spec.externalIPs: ${excluded.join(', ')} not served, because --external-ips excludes them`],
    );
    expect(world.controller.refused()).toEqual([]);
  });

  test('load balancer addresses and NodePorts are served with --external-ips off', () => {
    const maps = fakeLbMaps();
    const service = serviceRow({ type: 'LoadBalancer', loadBalancerIPs: ['203.0.113.5'], ports: [portRow({ nodePort: 30080 })] });
    new World({ maps, settings: { externalIps: 'off' } }).put(ownNode, service).listed().settle();
    expect(frontends(maps)).toEqual(['10.96.0.10:80/TCP', `${api}:30080/TCP`, '203.0.113.5:80/TCP'].sort());
  });
});
