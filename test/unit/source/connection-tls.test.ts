// SPDX-License-Identifier: Apache-2.0
// The connection to the API server over TLS: whom it trusts, and what it says when it does not.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ClusterAccess, TlsMaterial } from '../../../daemon/source/kubernetes/access.ts';
import { CredentialError, Unreachable } from '../../../daemon/source/kubernetes/api-client.ts';
import { type Certificates, makeCertificates } from '../../support/double/certificates.ts';
import { connectTo, listen } from './connection-fixture.ts';

describe('TLS', () => {
  let good: Certificates;
  let other: Certificates;
  beforeAll(() => {
    good = makeCertificates();
    other = makeCertificates();
  });

  const withTls = (material: TlsMaterial): Partial<ClusterAccess> => ({ tls: () => Promise.resolve(material) });

  test('with the CA that signed the certificate', async () => {
    const { served } = await listen({ tls: good });
    const { get } = connectTo([served.url], withTls({ ca: good.ca }));
    expect((await get()).status).toBe(200);
  });

  test.for([
    { name: 'another CA', material: () => ({ ca: other.ca }), says: 'certificate' },
    { name: 'no CA', material: () => ({}), says: 'certificate' },
    { name: 'another name', material: () => ({ ca: good.ca, servername: 'example.org' }), says: 'example.org' },
  ])('$name: a sentence, and no request', async ({ material, says }) => {
    const { api, served } = await listen({ tls: good });
    const { get } = connectTo([served.url], withTls(material()));
    const error = await get().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(Unreachable);
    expect((error as Error).message).toMatch(new RegExp(`^https://127.0.0.1:\\d+ cannot be reached: .*${says}`));
    expect(api.asked).toEqual([]);
  });

  test.for([
    { name: 'a certificate that is none', material: { cert: 'half written', key: 'half written' } },
    { name: 'a key that is none', material: { key: '-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n' } },
  ])('$name: an error of the credentials, and nothing worse', async ({ material }) => {
    const { served } = await listen({ tls: good });
    const { get, clock } = connectTo([served.url], withTls(material));
    const error = await get().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(CredentialError);
    expect((error as Error).message).toMatch(/^the token in \/token cannot be used: /);
    expect([served.count, clock.nextTimer]).toEqual([0, undefined]);
  });

  test('is asked for on each new connection: a CA that was replaced is used', async () => {
    const { served } = await listen({ tls: good });
    let ca = other.ca;
    const { get } = connectTo([served.url], { tls: () => Promise.resolve({ ca }) });
    await expect(get()).rejects.toThrow(Unreachable);
    ({ ca } = good);
    expect((await get()).status).toBe(200);
  });

  test('close() while the files are being read opens nothing', async () => {
    const { served } = await listen({ tls: good });
    const { promise, resolve } = Promise.withResolvers<TlsMaterial>();
    const { get, connection, clock } = connectTo([served.url], { tls: () => promise });
    const answer = get();
    await nextTurn();
    connection.close();
    resolve({ ca: good.ca });
    await expect(answer).rejects.toThrow(Unreachable);
    expect([served.count, clock.nextTimer]).toEqual([0, undefined]);
  });
});
