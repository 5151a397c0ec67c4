// SPDX-License-Identifier: Apache-2.0
// How a pod is known to its API server: the service account that the kubelet mounts. It rotates the token under us, so the
// file is read for every request, and the CA file for every connection. Nothing is cached.
import { join } from 'node:path';
import { ExitCode, ExitError } from '../../base/errors.ts';
import type { ClusterAccess } from './access.ts';
import { readAuthority, readBearer } from './credential-file.ts';

export const serviceAccountDirectory = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface InClusterOptions {
  /** Holds the files "token" and "ca.crt". */
  readonly directory?: string;
  /** None: KUBERNETES_SERVICE_HOST, which the kubelet sets to the ClusterIP of the API server. */
  readonly servers?: readonly URL[];
  readonly env: Readonly<NodeJS.ProcessEnv>;
}

/** Throws ExitError when no server is given, neither here nor in the environment. */
export function inCluster({ directory = serviceAccountDirectory, servers = [], env }: InClusterOptions): ClusterAccess {
  return {
    servers: servers.length > 0 ? servers : [serverOf(env)],
    shown: `the service account in ${directory}`,
    tls: async () => ({ ca: await readAuthority(join(directory, 'ca.crt')) }),
    authorization: () => readBearer(join(directory, 'token')),
    forget: () => undefined,
    close: () => undefined,
  };
}

function serverOf(env: Readonly<NodeJS.ProcessEnv>): URL {
  const host = env['KUBERNETES_SERVICE_HOST'] ?? '';
  const port = env['KUBERNETES_SERVICE_PORT'] || '443';
  if (host === '') throw new ExitError(ExitCode.usage, 'KUBERNETES_SERVICE_HOST is not set: give --api-server URL');
  const text = `https://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`;
  const server = URL.parse(text);
  // Only host and port: "a/b:1" would parse too.
  if (server === null || server.host === '' || server.pathname !== '/' || server.username !== '')
    throw new ExitError(ExitCode.config, `KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT make no address: ${text}`);
  return server;
}
