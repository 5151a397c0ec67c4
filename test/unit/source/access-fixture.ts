// SPDX-License-Identifier: Apache-2.0
// A kubeconfig and the files that it names, in a temporary folder. The key pair must be used in tests only.
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { ClusterAccess } from '../../../daemon/source/kubernetes/access.ts';
import { kubeconfigAccess } from '../../../daemon/source/kubernetes/kubeconfig.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { temporaryDirectory } from './fixture.ts';

export const certificate = `-----BEGIN CERTIFICATE-----
MIIBgjCCASmgAwIBAgIUYjg74dznrgSoPx9UbZLEbr6aH3EwCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLc2x1aWNlLXRlc3QwIBcNMjYxMTI0MTEzNjUyWhgPMjEyNjEw
MzExMTM2NTJaMBYxFDASBgNVBAMMC3NsdWljZS10ZXN0MFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAEuFoCPNCbxYL8yv3NTLyxjU/TjD4BPR0IRw96mv8BloUK//LU
YxhrWBy9zKXV1Dqikn9M6EJBvui99AxI2NL0IqNTMFEwHQYDVR0OBBYEFE67LUrJ
EMOcWZa1bQTcZ8EYmf2NMB8GA1UdIwQYMBaAFE67LUrJEMOcWZa1bQTcZ8EYmf2N
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgQJYu7Sa8hLA7YgJK
wXh7TCxtXgszU/S6mKPrSFUlt7kCIBt8vUc36D/ltF6BwrjBkXusGR6j0syjVHG5
mX1B2ka5
-----END CERTIFICATE-----
`;

export const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3p4Z4FeVNjGgJNrC
4KWQkziYu5Q0QhbhmPPiT2rEYxChRANCAAS4WgI80JvFgvzK/c1MvLGNT9OMPgE9
HQhHD3qa/wGWhQr/8tRjGGtYHL3MpdXUOqKSf0zoQkG+6L30DEjY0vQi
-----END PRIVATE KEY-----
`;

/** A private key without a certificate. */
export const otherKey = (): string =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();

export const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** Fields of the cluster and the user that a test sets. All other fields are valid. */
export interface Parts {
  readonly cluster?: object;
  readonly user?: object;
  readonly servers?: readonly URL[];
  readonly env?: NodeJS.ProcessEnv;
}

export class AccessWorld {
  readonly folder = temporaryDirectory();
  readonly clock = new FakeClock();
  readonly wallStart = Date.parse('2030-01-01T00:00:00Z');

  path(name: string): string {
    return join(this.folder, name);
  }

  write(name: string, text: string): string {
    writeFileSync(this.path(name), text);
    return this.path(name);
  }

  /** Writes an executable shell script. */
  writeScript(name: string, ...lines: readonly string[]): string {
    const path = this.write(name, ['#!/bin/sh', ...lines, ''].join('\n'));
    chmodSync(path, 0o755);
    return path;
  }

  /** The ClusterAccess of a kubeconfig with these parts. */
  access({ cluster = {}, user = {}, servers = [], env = process.env }: Parts = {}): ClusterAccess {
    const text = stringify({
      'current-context': 'here',
      contexts: [{ name: 'here', context: { cluster: 'test', user: 'admin' } }],
      clusters: [{ name: 'test', cluster: { server: 'https://10.0.0.1:6443', ...cluster } }],
      users: [{ name: 'admin', user }],
    });
    return this.accessOf(text, { servers, env });
  }

  accessOf(text: string, { servers = [], env = process.env }: Pick<Parts, 'servers' | 'env'> = {}): ClusterAccess {
    const path = this.write('config', text);
    return kubeconfigAccess({ path, servers, env, clock: this.clock, wallNow: () => this.wallStart + this.clock.now() });
  }
}

/** The error that is thrown, without the path of the temporary folder. */
export async function failureOf(world: AccessWorld, act: () => unknown): Promise<string> {
  try {
    await act();
  } catch (error) {
    return String(error).replaceAll(`${world.folder}/`, '');
  }
  return 'no error';
}
