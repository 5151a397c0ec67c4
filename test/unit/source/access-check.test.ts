// SPDX-License-Identifier: Apache-2.0
// The checks of the API server in `sluice preflight`: addresses, TLS, credentials and each right. The tests use the API server double
// over real HTTP/2.
import { createServer as createTlsServer } from 'node:tls';
import type { AddressInfo } from 'node:net';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../../daemon/base/clock.ts';
import type { ClusterAccess } from '../../../daemon/source/kubernetes/access.ts';
import { type AccessCheckResult, checkAccess } from '../../../daemon/source/kubernetes/access-check.ts';
import { CredentialError } from '../../../daemon/source/kubernetes/api-client.ts';
import { type Certificates, makeCertificates } from '../../support/double/certificates.ts';
import { internal } from '../../support/double/statuses.ts';
import { listen } from './connection-fixture.ts';
import { oneOfEach, thisNode } from './kubernetes-fixture.ts';

let certificates: Certificates;
beforeAll(() => {
  certificates = makeCertificates();
});

interface Given {
  readonly access?: Partial<ClusterAccess>;
  readonly dependsOnClusterIP?: boolean;
  readonly node?: string;
}

function check(servers: readonly URL[], { access = {}, dependsOnClusterIP = false, node = thisNode }: Given = {}) {
  return checkAccess({
    found: {
      access: {
        ...{ servers, description: 'the token in /token', tls: () => Promise.resolve({ ca: certificates.ca }) },
        ...{ authorization: () => Promise.resolve('Bearer secret'), invalidate: () => undefined, close: () => undefined },
        ...access,
      },
      dependsOnClusterIP,
    },
    ...{ node, clock: systemClock, userAgent: 'sluiced/test' },
  });
}

/** An API server double with one object of each kind. */
async function server() {
  const { api, served } = await listen({ tls: certificates });
  api.put(...oneOfEach);
  return { api, served, url: new URL(served.url.origin) };
}

const short = (results: readonly AccessCheckResult[]): string[] =>
  results.map(({ name, state }) => `${name.replace(/https:\S+/, 'URL')}: ${state}`);

const rights = (state: string): string[] =>
  [...['services', 'endpointslices.discovery.k8s.io', 'nodes', 'servicecidrs.networking.k8s.io'], 'networkpolicies.networking.k8s.io'].map(
    (name) => `right ${name}: ${state}`,
  );

test('the check tests the address and the rights to list and watch each kind', async () => {
  const { api, served, url } = await server();
  const results = await check([url]);
  expect(short(results)).toEqual(['API server URL: ok', ...rights('ok')]);
  expect(results[0]?.message).toBe('answers over HTTP/2, and its certificate is accepted; version v1.99.0-double');
  const asked = api.requests.map(({ verb, collection: { resource }, query }) => `${verb} ${resource} ${query.get('limit') ?? ''}`.trim());
  expect(asked).toEqual([
    ...['services', 'endpointslices', 'nodes', 'servicecidrs'].flatMap((resource) => [`list ${resource} 1`, `watch ${resource}`]),
    'list networkpolicies 1',
  ]);
  // No connection stays open.
  await expect.poll(() => served.sessions.length).toBe(0);
});

describe('an address', () => {
  const unused = new URL('https://127.0.0.1:1');

  test('an address whose name does not exist fails, and the checks of the rights are skipped with the reason', async () => {
    const results = await check([new URL('https://no-such-host.invalid:6443')]);
    expect(short(results)).toEqual(['API server URL: failed', ...rights('skipped')]);
    expect(results[0]?.message).toMatch(/^the name no-such-host\.invalid cannot be resolved \(.*\): correct --api-server, or the DNS/);
    expect(results[1]?.message).toBe('no API server was reached');
  });

  test('an address on which nothing listens fails', async () => {
    const [result] = await check([unused]);
    expect(result).toMatchObject({ state: 'failed', message: expect.stringMatching(/cannot be reached: .*ECONNREFUSED/) as string });
  });

  test('an address that fails is only a warning if another address works', async () => {
    const { url } = await server();
    expect(short(await check([unused, url]))).toEqual(['API server URL: warning', 'API server URL: ok', ...rights('ok')]);
  });

  test('an address whose certificate is not trusted fails, with the reason', async () => {
    const { url, api } = await server();
    const other = makeCertificates();
    const results = await check([url], { access: { tls: () => Promise.resolve({ ca: other.ca }) } });
    expect(short(results)).toEqual(['API server URL: failed', ...rights('skipped')]);
    expect(results[0]?.message).toMatch(/certificate/);
    expect(api.requests).toEqual([]);
  });

  test('an address that speaks TLS but not HTTP/2 fails', async () => {
    const plain = createTlsServer({ key: certificates.key, cert: certificates.cert }, (socket) => {
      socket.on('error', () => undefined);
      socket.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n');
    });
    await new Promise<void>((resolve) => void plain.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void plain.close());
    const { port } = plain.address() as AddressInfo;
    expect(short(await check([new URL(`https://127.0.0.1:${port}`)]))).toEqual(['API server URL: failed', ...rights('skipped')]);
  });

  test('an address that is a ClusterIP is a warning, because a new node cannot reach it', async () => {
    const { url } = await server();
    const [result] = await check([url], { dependsOnClusterIP: true });
    expect(result).toMatchObject({ state: 'warning', message: expect.stringMatching(/ClusterIP.*: set --api-server$/) as string });
  });

  test('an address that does not accept the credentials fails, and the message does not contain the token', async () => {
    const { url, api } = await server();
    api.acceptsToken = false;
    const results = await check([url]);
    expect(short(results)).toEqual(['API server URL: failed', ...rights('skipped')]);
    expect(results[0]?.message).toBe('the server does not accept the token in /token: renew the credentials');
    expect(JSON.stringify(results)).not.toContain('secret');
  });

  test('an address for which there are no credentials fails', async () => {
    const { url } = await server();
    const authorization = (): Promise<string> => Promise.reject(new CredentialError('/token cannot be read: ENOENT'));
    const [result] = await check([url], { access: { authorization } });
    expect(result).toMatchObject({ state: 'failed', message: '/token cannot be read: ENOENT' });
  });
});

describe('a right', () => {
  test.for([
    { missing: 'list services', right: 'services', want: 'failed' },
    { missing: 'list endpointslices', right: 'endpointslices.discovery.k8s.io', want: 'failed' },
    { missing: 'list nodes', right: 'nodes', want: 'failed' },
    { missing: 'list servicecidrs', right: 'servicecidrs.networking.k8s.io', want: 'failed' },
    { missing: 'watch services', right: 'services', want: 'warning' },
    { missing: 'watch servicecidrs', right: 'servicecidrs.networking.k8s.io', want: 'warning' },
    { missing: 'list networkpolicies', right: 'networkpolicies.networking.k8s.io', want: 'warning' },
  ])('if the right to $missing is missing, its check is $want, and all other rights are granted', async ({ missing, right, want }) => {
    const { url, api } = await server();
    api.forbidden.add(missing);
    const results = await check([url]);
    expect(short(results)).toEqual([
      'API server URL: ok',
      ...rights('ok').map((line) => (line === `right ${right}: ok` ? `right ${right}: ${want}` : line)),
    ]);
    const [verb] = missing.split(' ');
    const message = results.find(({ name }) => name === `right ${right}`)?.message;
    expect(message).toMatch(new RegExp(`^the ClusterRole must grant the verb "${verb}" on the resource "${right}" \\(403 `));
  });

  test('the check succeeds if the server lacks an optional resource, and fails if the server lacks another resource', async () => {
    const { url, api } = await server();
    api.missingKinds.add('ServiceCIDR');
    expect(short(await check([url]))).toEqual(['API server URL: ok', ...rights('ok')]);
    api.missingKinds.add('EndpointSlice');
    expect(short(await check([url]))).toContain('right endpointslices.discovery.k8s.io: failed');
  });

  test('if the server answers with an error, the check reports the code of the error', async () => {
    const { url, api } = await server();
    api.fault = () => internal;
    const results = await check([url]);
    expect(results[1]).toMatchObject({ state: 'failed', message: expect.stringMatching(/^cannot list services \(500 /) as string });
  });

  test('a node name that no Node has is a warning that names the flag', async () => {
    const { url } = await server();
    const results = await check([url], { node: 'elsewhere' });
    expect(results.find(({ name }) => name === 'right nodes')).toMatchObject({
      ...{ state: 'warning', message: expect.stringMatching(/^there is no Node named elsewhere, .*: set --node/) as string },
    });
  });
});
