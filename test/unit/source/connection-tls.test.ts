// SPDX-License-Identifier: Apache-2.0
// The connection to the API server over TLS: trusted certificates, and the errors for certificates that are not trusted.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ClusterAccess, TlsMaterial } from '../../../daemon/source/kubernetes/access.ts';
import { CredentialError, UnreachableError } from '../../../daemon/source/kubernetes/api-client.ts';
import { type Certificates, makeCertificates } from '../../support/double/certificates.ts';
import { connectTo, listen } from './connection-fixture.ts';

describe('TLS', () => {
  let trusted: Certificates;
  let other: Certificates;
  beforeAll(() => {
    trusted = makeCertificates();
    other = makeCertificates();
  });

  const withTls = (material: TlsMaterial): Partial<ClusterAccess> => ({ tls: () => Promise.resolve(material) });

  test('a TLS connection succeeds with the CA that signed the certificate', async () => {
    const { served } = await listen({ tls: trusted });
    const { get } = connectTo([served.url], withTls({ ca: trusted.ca }));
    expect((await get()).status).toBe(200);
  });

  test.for([
    { name: 'another CA', material: () => ({ ca: other.ca }), want: 'certificate' },
    { name: 'no CA', material: () => ({}), want: 'certificate' },
    { name: 'another name', material: () => ({ ca: trusted.ca, servername: 'example.org' }), want: 'example.org' },
  ])('a TLS connection with $name fails, and no request is sent', async ({ material, want }) => {
    const { api, served } = await listen({ tls: trusted });
    const { get } = connectTo([served.url], withTls(material()));
    const error = await get().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnreachableError);
    expect((error as Error).message).toMatch(new RegExp(`^https://127.0.0.1:\\d+ cannot be reached: .*${want}`));
    expect(api.requests).toEqual([]);
  });

  test.for([
    { name: 'an invalid certificate', material: { cert: 'truncated', key: 'truncated' } },
    { name: 'an invalid key', material: { key: '-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n' } },
  ])('a TLS connection with $name fails with a CredentialError', async ({ material }) => {
    const { served } = await listen({ tls: trusted });
    const { get, clock } = connectTo([served.url], withTls(material));
    const error = await get().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(CredentialError);
    expect((error as Error).message).toMatch(/^the token in \/token cannot be used: /);
    expect([served.count, clock.nextTimer]).toEqual([0, undefined]);
  });

  test('a CA that was replaced is used for the next connection', async () => {
    const { served } = await listen({ tls: trusted });
    let ca = other.ca;
    const { get } = connectTo([served.url], { tls: () => Promise.resolve({ ca }) });
    await expect(get()).rejects.toThrow(UnreachableError);
    ({ ca } = trusted);
    expect((await get()).status).toBe(200);
  });

  test('no connection is opened if close() is called while the files are read', async () => {
    const { served } = await listen({ tls: trusted });
    const { promise, resolve } = Promise.withResolvers<TlsMaterial>();
    const { get, connection, clock } = connectTo([served.url], { tls: () => promise });
    const answer = get();
    await nextTurn();
    connection.close();
    resolve({ ca: trusted.ca });
    await expect(answer).rejects.toThrow(UnreachableError);
    expect([served.count, clock.nextTimer]).toEqual([0, undefined]);
  });
});
