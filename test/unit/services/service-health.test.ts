// SPDX-License-Identifier: Apache-2.0
// Health-check node ports: the statements of test/README.md, 11. The tests send HTTP requests to listeners on the loopback. The
// clock is a fake.
import { once } from 'node:events';
import { METHODS } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';

import type { ListenerEvent } from '../../../daemon/services/health/listeners.ts';
import { countLocalReady, hasHealthCheck } from '../../../daemon/services/health/local-endpoints.ts';
import { HttpServers } from '../../../daemon/base/http-servers.ts';
import { ServiceHealth } from '../../../daemon/services/health/service-health.ts';
import type { EndpointSlice } from '../../../daemon/model/endpoint-slice.ts';
import type { Service } from '../../../daemon/model/service.ts';
import { Table } from '../../../daemon/table/table.ts';
import { endpointRow, portRow, serviceRow, slicePortRow, sliceRow } from '../../support/builders.ts';
import { FakeClock, ManualScheduler } from '../../support/fake-clock.ts';
import { ask, freePorts, occupy, outcome } from './health-fixture.ts';

const here = { nodeName: 'node-a' };
const elsewhere = { nodeName: 'node-b' };

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const task of undo.splice(0).toReversed()) await task();
});

const lb = (healthCheckNodePort: number, fields: Partial<Service> = {}): Service =>
  serviceRow({ type: 'LoadBalancer', externalPolicy: 'Local', healthCheckNodePort, ...fields });

interface Setting {
  addresses?: readonly string[] | undefined;
  isHealthy: boolean;
}

/** Tables, and a health-check server that observes them. initialize() completes the first list of the tables. */
function world(setting: Partial<Setting> = {}) {
  const scheduler = new ManualScheduler();
  const services = new Table<string, Service>('services', scheduler.schedule);
  const slices = new Table<string, EndpointSlice>('slices', scheduler.schedule);
  const localAddresses = new Table<string, object>('local-addresses', scheduler.schedule);
  const ready = [services, slices].map((table) => table.registerSource('test'));
  const state: Setting = { isHealthy: true, ...setting };
  const clock = new FakeClock();
  const events: ListenerEvent[] = [];
  const health = new ServiceHealth({
    ...{
      services,
      slices,
      nodeName: 'node-a',
      clock,
      servers: new HttpServers(),
      isHealthy: () => state.isHealthy,
      addresses: () => state.addresses,
    },
    addressTables: [localAddresses],
    onEvent: (event) => events.push(event),
  });
  undo.push(() => health.stop());
  health.start();
  const settle = async (): Promise<void> => {
    scheduler.flush();
    await health.idle();
  };
  const initialize = async (): Promise<void> => {
    for (const done of ready) done();
    await settle();
  };
  const put = async (...rows: Service[]): Promise<void> => {
    for (const row of rows) services.upsert(`${row.namespace}/${row.name}`, row);
    await settle();
  };
  const endpoints = async (...rows: EndpointSlice[]): Promise<void> => {
    for (const row of rows) slices.upsert(`${row.namespace}/${row.name}`, row);
    await settle();
  };
  return { services, slices, localAddresses, state, clock, events, health, settle, initialize, put, endpoints };
}

async function started(setting: Partial<Setting> = {}) {
  const made = world(setting);
  await made.initialize();
  return made;
}

const count = async (port: number): Promise<number> =>
  (JSON.parse((await ask({ port })).body) as { localEndpoints: number }).localEndpoints;

describe('11: a Service has a health check only with type LoadBalancer, externalTrafficPolicy Local and a healthCheckNodePort other than 0', () => {
  test.for([
    { name: 'LoadBalancer, Local', row: lb(1), want: true },
    { name: 'LoadBalancer, Cluster', row: lb(1, { externalPolicy: 'Cluster' }), want: false },
    { name: 'NodePort, Local', row: lb(1, { type: 'NodePort' }), want: false },
    { name: 'ClusterIP with externalIPs, Local', row: lb(1, { type: 'ClusterIP', externalIPs: ['192.0.2.1'] }), want: false },
    { name: 'LoadBalancer without ports', row: lb(1, { ports: [] }), want: false },
  ])('a Service has a health check: $want ($name)', ({ row, want }) => expect(hasHealthCheck(row)).toBe(want));

  test('a listener is opened when a changed Service meets these conditions, and closed when it no longer does', async () => {
    const { put } = await started();
    const [port = 0] = await freePorts(1);
    await put(lb(port, { externalPolicy: 'Cluster' }));
    expect(await outcome({ port })).toBe('ECONNREFUSED');
    await put(lb(port));
    expect(await outcome({ port })).toBe(503);
    await put(lb(port, { type: 'NodePort' }));
    expect(await outcome({ port })).toBe('ECONNREFUSED');
  });

  test('healthCheckNodePort 0 is logged as an error once, and is a problem until the port is set', async () => {
    const { put, endpoints, health, events } = await started();
    await put(lb(0));
    await put(lb(0, { created: 2 }));
    await endpoints(sliceRow());
    const message = 'the health check of Service default/web has no port: set spec.healthCheckNodePort';
    expect(health.problems()).toEqual([message]);
    expect(events).toEqual([{ kind: 'failed', owner: 'the health check of Service default/web', port: 0, message }]);
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    expect([health.problems(), await outcome({ port })]).toEqual([[], 503]);
  });

  test('the problem of healthCheckNodePort 0 is cleared when the Service is deleted', async () => {
    const { put, services, settle, health } = await started();
    await put(lb(0));
    services.delete('default/web');
    await settle();
    expect(health.problems()).toEqual([]);
  });
});

describe('11: each Service has an HTTP listener of its own, which is opened and closed with the Service', () => {
  test('the deletion of a Service closes its listener and kept-alive connections', async () => {
    const { put, services, settle, events } = await started();
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    const kept = await fetch(`http://127.0.0.1:${port}/`);
    await kept.text();
    services.delete('default/web');
    await settle();
    expect(await outcome({ port })).toBe('ECONNREFUSED');
    expect(events.map(({ kind }) => kind)).toEqual(['opened', 'closed']);
  });

  test('the deletion of a Service closes the connection of a client that has sent half a request', async () => {
    const { put, services, settle } = await started();
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write('GET / HTTP/1.1\r\n');
    await outcome({ port });
    const closed = once(socket.resume(), 'close');
    services.delete('default/web');
    await settle();
    await closed;
  });

  test('a new port number closes the previous listener and opens another one', async () => {
    const { put } = await started();
    const [old = 0, port = 0] = await freePorts(2);
    await put(lb(old));
    await put(lb(port));
    expect([await outcome({ port: old }), await outcome({ port })]).toEqual(['ECONNREFUSED', 503]);
  });

  test('any other change of the Service keeps the listener open', async () => {
    const { put, events } = await started();
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    await put(lb(port, { affinitySeconds: 10 }));
    expect(events.map(({ kind }) => kind)).toEqual(['opened']);
  });

  test('a port can move from one Service to another in one change', async () => {
    const { put, services, health } = await started();
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    services.delete('default/web');
    await put(lb(port, { name: 'api' }));
    expect(JSON.parse((await ask({ port })).body)).toMatchObject({ service: { name: 'api' } });
    expect(health.problems()).toEqual([]);
  });

  test('no port is open before both first lists are complete, or after stop()', async () => {
    const { put, initialize, health } = world();
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    expect(await outcome({ port })).toBe('ECONNREFUSED');
    await initialize();
    expect(await outcome({ port })).toBe(503);
    await health.stop();
    expect(await outcome({ port })).toBe('ECONNREFUSED');
  });
});

describe('11: the health check listens on all addresses, or only on the NodePort addresses if they are configured', () => {
  test('one listener serves both families', async () => {
    const { put, events } = await started();
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    expect([await outcome({ port }), await outcome({ port, host: '::1' }), await outcome({ port, host: '127.0.0.2' })]).toEqual([
      503, 503, 503,
    ]);
    expect(events).toHaveLength(1);
  });

  test('with a CIDR list, listeners use only addresses in the list, and follow changes of these addresses', async () => {
    const { put, state, localAddresses, settle } = await started({ addresses: ['127.0.0.2', '::1'] });
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    const hosts = ['127.0.0.1', '127.0.0.2', '127.0.0.3', '::1'];
    const outcomes = (): Promise<(string | number)[]> => Promise.all(hosts.map((host) => outcome({ port, host })));
    expect(await outcomes()).toEqual(['ECONNREFUSED', 503, 'ECONNREFUSED', 503]);
    state.addresses = ['127.0.0.2', '127.0.0.3'];
    localAddresses.upsert('new', {});
    await settle();
    expect(await outcomes()).toEqual(['ECONNREFUSED', 503, 503, 'ECONNREFUSED']);
  });

  test('"::" in a list of CIDRs means IPv6 only', async () => {
    const { put } = await started({ addresses: ['::', '127.0.0.2'] });
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    expect([await outcome({ port }), await outcome({ port, host: '127.0.0.2' }), await outcome({ port, host: '::1' })]).toEqual([
      'ECONNREFUSED',
      503,
      503,
    ]);
  });

  test('a list of CIDRs that matches no address of the node is a problem', async () => {
    const { put, health } = await started({ addresses: [] });
    await put(lb(31_000));
    expect(health.problems()).toEqual([
      'the health check of Service default/web cannot listen on port 31000: no address of this node matches the configured addresses',
    ]);
  });

  test('an address that the node does not have does not affect the other addresses', async () => {
    const { put, health } = await started({ addresses: ['198.51.100.7', '127.0.0.1'] });
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    expect(await outcome({ port })).toBe(503);
    expect(health.problems()).toEqual([
      `the health check of Service default/web cannot listen on port ${port} of 198.51.100.7: this node does not have the address`,
    ]);
  });
});

describe('11: a port that cannot be opened is retried, and does not affect other Services', () => {
  test('the problem of a port that cannot be opened names Service and port, is logged once, and the port is retried every 30 s', async () => {
    const { put, health, events, clock } = await started();
    const taken = await occupy();
    const [port = 0] = await freePorts(1);
    await put(lb(taken.port), lb(port, { name: 'api' }));
    const owner = 'the health check of Service default/web';
    const message = `${owner} cannot listen on port ${taken.port}: the port is in use by another process or another Service`;
    expect([health.problems(), await outcome({ port })]).toEqual([[message], 503]);
    clock.advance(30_000);
    await health.idle();
    expect(events.filter(({ kind }) => kind === 'failed')).toEqual([{ kind: 'failed', owner, port: taken.port, message }]);
    await taken.free();
    clock.advance(29_999);
    await health.idle();
    expect(health.problems()).toHaveLength(1);
    clock.advance(1);
    await health.idle();
    expect([health.problems(), await outcome({ port: taken.port })]).toEqual([[], 503]);
    expect(events.at(-1)?.kind).toBe('recovered');
    expect(clock.nextTimer).toBeUndefined();
  });

  test('a port that could not be opened is retried with the next change of any Service', async () => {
    const { put, health } = await started();
    const taken = await occupy();
    await put(lb(taken.port));
    await taken.free();
    await put(serviceRow({ name: 'other' }));
    expect([health.problems(), await outcome({ port: taken.port })]).toEqual([[], 503]);
  });

  test('the older of two Services with the same port has the port; when it is deleted, the younger one gets the port', async () => {
    const { put, services, settle, health } = await started();
    const [port = 0] = await freePorts(1);
    await put(lb(port, { name: 'a', created: 2000 }), lb(port, { name: 'b', created: 1000 }));
    expect(JSON.parse((await ask({ port })).body)).toMatchObject({ service: { name: 'b' } });
    expect(health.problems()).toHaveLength(1);
    services.delete('default/b');
    await settle();
    expect(JSON.parse((await ask({ port })).body)).toMatchObject({ service: { name: 'a' } });
    expect(health.problems()).toEqual([]);
  });

  test('the problem of a failed port ends when its Service is deleted, and the port is not retried', async () => {
    const { put, services, settle, health, clock } = await started();
    const taken = await occupy();
    undo.push(() => taken.free());
    await put(lb(taken.port));
    services.delete('default/web');
    await settle();
    expect([health.problems(), clock.nextTimer]).toEqual([[], undefined]);
  });
});

describe('11: every path and method gets the same response', () => {
  const wanted = ['', '{', '\t"service": {', '\t\t"namespace": "default",', '\t\t"name": "web"', '\t},', '\t"localEndpoints": 1,'];
  const body = [...wanted, '\t"serviceProxyHealthy": true', '}'].slice(1).join('\n');

  test('the response has the expected headers and a pretty-printed body', async () => {
    const { put, endpoints } = await started();
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    await endpoints(sliceRow({ endpoints: [endpointRow('10.1.0.1', here)] }));
    const reply = await ask({ port });
    expect([reply.status, reply.body]).toEqual([200, body]);
    expect(reply.headers).toMatchObject({
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
      'x-load-balancing-endpoint-weight': '1',
    });
  });

  test('the response is the same for every method and path that a client can send', async () => {
    const { put, endpoints } = await started();
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    await endpoints(sliceRow({ endpoints: [endpointRow('10.1.0.1', here)] }));
    const asked = METHODS.map((method) => ({ method, path: method === 'CONNECT' ? 'example:80' : '/healthz?x=1' }));
    for (const path of ['/', '/livez', '/a/b/../c', '//', '*', '/%E0%A4']) asked.push({ method: 'GET', path });
    const replies = await Promise.all(asked.map((each) => ask({ port, ...each })));
    for (const [index, { status, headers, body: got }] of replies.entries()) {
      const method = asked[index]?.method ?? '';
      expect([method, status, headers['x-load-balancing-endpoint-weight']]).toEqual([method, 200, '1']);
      expect(got).toBe(['HEAD', 'CONNECT'].includes(method) ? '' : body);
    }
  });
});

describe('11: the status is 200 if the node has a local ready endpoint and the proxy itself is healthy, and 503 otherwise', () => {
  test('the status follows the endpoints and the health of the proxy', async () => {
    const { put, endpoints, state, slices, settle } = await started();
    const [port = 0] = await freePorts(1);
    await put(lb(port));
    const response = async (): Promise<unknown[]> => {
      const { status, body, headers } = await ask({ port });
      const { localEndpoints, serviceProxyHealthy } = JSON.parse(body) as Record<string, unknown>;
      return [status, localEndpoints, serviceProxyHealthy, headers['x-load-balancing-endpoint-weight']];
    };
    expect(await response()).toEqual([503, 0, true, '0']);
    await endpoints(sliceRow({ endpoints: [endpointRow('10.1.0.1', here), endpointRow('10.1.0.2', here)] }));
    expect(await response()).toEqual([200, 2, true, '2']);
    state.isHealthy = false;
    expect(await response()).toEqual([503, 2, false, '2']);
    state.isHealthy = true;
    await endpoints(sliceRow({ endpoints: [endpointRow('10.1.0.2', elsewhere)] }));
    expect(await response()).toEqual([503, 0, true, '0']);
    await endpoints(sliceRow({ name: 'web-2', endpoints: [endpointRow('10.1.0.3', here)] }));
    expect(await response()).toEqual([200, 1, true, '1']);
    slices.delete('default/web-2');
    await settle();
    expect(await response()).toEqual([503, 0, true, '0']);
  });

  test('endpoints count even if they are older than their Service, but not after their slice moved to another Service', async () => {
    const { put, endpoints } = await started();
    const [port = 0] = await freePorts(1);
    await endpoints(sliceRow({ endpoints: [endpointRow('10.1.0.1', here)] }));
    await put(lb(port));
    expect(await count(port)).toBe(1);
    await endpoints(sliceRow({ service: 'api', endpoints: [endpointRow('10.1.0.1', here)] }));
    expect(await count(port)).toBe(0);
  });
});

describe('11: the count is the number of distinct IPs of ready endpoints, over all ports', () => {
  const draining = { ready: false, serving: true, terminating: true };
  const dual = { clusterIPs: { IPv4: '10.96.0.10', IPv6: 'fd00::10' } };
  const v6 = sliceRow({ name: 'web-6', family: 'IPv6', endpoints: [endpointRow('fd01::1', here)] });
  const twoPorts = [slicePortRow({ name: 'a' }), slicePortRow({ name: 'b', port: 9090 })];
  const cases: { name: string; service?: Partial<Service>; slices: EndpointSlice[]; want: number }[] = [
    { name: 'no slices', slices: [], want: 0 },
    {
      name: 'endpoints on other nodes and without a node',
      slices: [sliceRow({ endpoints: [endpointRow('10.1.0.1', elsewhere), endpointRow('10.1.0.2')] })],
      want: 0,
    },
    {
      name: 'endpoints that are serving while terminating do not count, although they still get traffic',
      slices: [sliceRow({ endpoints: [endpointRow('10.1.0.1', { ...here, ...draining })] })],
      want: 0,
    },
    {
      name: 'ready endpoints count even while terminating (publishNotReadyAddresses)',
      slices: [sliceRow({ endpoints: [endpointRow('10.1.0.1', { ...here, terminating: true })] })],
      want: 1,
    },
    {
      name: 'one IP on two ports counts once',
      service: { ports: [portRow({ name: 'a' }), portRow({ name: 'b', port: 90 })] },
      slices: [sliceRow({ ports: twoPorts, endpoints: [endpointRow('10.1.0.1', here)] })],
      want: 1,
    },
    {
      name: 'two IPs, one of them in two slices with different ports',
      slices: [
        sliceRow({ endpoints: [endpointRow('10.1.0.1', here)] }),
        sliceRow({ name: 'web-2', ports: twoPorts, endpoints: [endpointRow('10.1.0.1', here), endpointRow('10.1.0.2', here)] }),
      ],
      want: 2,
    },
    {
      name: 'a slice without ports has no endpoints',
      slices: [sliceRow({ ports: [], endpoints: [endpointRow('10.1.0.1', here)] })],
      want: 0,
    },
    { name: 'both families', service: dual, slices: [sliceRow({ endpoints: [endpointRow('10.1.0.1', here)] }), v6], want: 2 },
    { name: 'only families of the Service count', slices: [sliceRow({ endpoints: [endpointRow('10.1.0.1', here)] }), v6], want: 1 },
    {
      name: 'of the copies of an address:port, the one that is not terminating counts (test/README.md, 8.5)',
      slices: [
        sliceRow({ endpoints: [endpointRow('10.1.0.1', { ...here, terminating: true })] }),
        sliceRow({ name: 'web-2', endpoints: [endpointRow('10.1.0.1', { ...here, ready: false, serving: false })] }),
      ],
      want: 0,
    },
  ];
  test.for(cases)('the count of local endpoints is $want: $name', ({ service = {}, slices, want }) => {
    const orders = [slices, slices.toReversed()];
    expect(orders.map((order) => countLocalReady(lb(1, service), order, 'node-a'))).toEqual([want, want]);
  });
});
