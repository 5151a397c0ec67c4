// SPDX-License-Identifier: Apache-2.0
// Access to the API server from a pod: the service account that the kubelet mounts. The kubelet rotates the token, so the
// file is read for each request, and the CA file for each connection. Nothing is cached.
import { join } from 'node:path';
import { ExitCode, ExitError } from '../../base/errors.ts';
import type { ClusterAccess } from './access.ts';
import { readAuthority, readBearer } from './credential-file.ts';

export const serviceAccountDirectory = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface InClusterOptions {
  /** Directory with the files "token" and "ca.crt". */
  readonly directory?: string;
  /** Addresses of the API server. If empty, KUBERNETES_SERVICE_HOST is used, which the kubelet sets to the ClusterIP of the API server. */
  readonly servers?: readonly URL[];
  readonly env: Readonly<NodeJS.ProcessEnv>;
}

/** Throws ExitError when neither the options nor the environment name a server. */
export function inClusterAccess({ directory = serviceAccountDirectory, servers = [], env }: InClusterOptions): ClusterAccess {
  return {
    servers: servers.length > 0 ? servers : [serverOf(env)],
    description: `the service account in ${directory}`,
    tls: async () => ({ ca: await readAuthority(join(directory, 'ca.crt')) }),
    authorization: () => readBearer(join(directory, 'token')),
    invalidate: () => undefined,
    close: () => undefined,
  };
}

function serverOf(env: Readonly<NodeJS.ProcessEnv>): URL {
  const host = env['KUBERNETES_SERVICE_HOST'] ?? '';
  const port = env['KUBERNETES_SERVICE_PORT'] || '443';
  if (host === '') throw new ExitError(ExitCode.usage, 'KUBERNETES_SERVICE_HOST is not set: set --api-server URL');
  const text = `https://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`;
  const server = URL.parse(text);
  // Only a host and a port are allowed, but URL.parse() also accepts "a/b:1".
  if (server === null || server.host === '' || server.pathname !== '/' || server.username !== '')
    throw new ExitError(ExitCode.config, `KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not form a valid address: ${text}`);
  return server;
}
