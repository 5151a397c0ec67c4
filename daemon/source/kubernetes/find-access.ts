// SPDX-License-Identifier: Apache-2.0
// Which way to the API server is ours: a kubeconfig that was named, else the service account of the pod we run in. Called by
// the composition root, once, before anything is touched.
import { existsSync } from 'node:fs';
import type { Clock } from '../../base/clock.ts';
import { ExitCode, ExitError } from '../../base/errors.ts';
import type { ClusterAccess } from './access.ts';
import { inCluster, serviceAccountDirectory } from './in-cluster.ts';
import { kubeconfig } from './kubeconfig.ts';

export interface AccessOptions {
  /** --kubeconfig FILE. */
  readonly kubeconfig?: string | undefined;
  /** --api-server URL,...; none: what the kubeconfig or the environment says. */
  readonly apiServers: readonly URL[];
  readonly env: Readonly<NodeJS.ProcessEnv>;
  readonly clock: Clock;
  /** Another one in tests. */
  readonly serviceAccount?: string;
}

export interface FoundAccess {
  readonly access: ClusterAccess;
  /** The server is KUBERNETES_SERVICE_HOST: as a rule the ClusterIP that we ourselves serve, and cannot before we know its backends. */
  readonly dependsOnClusterIP: boolean;
}

/** Throws ExitError when there is no way, or the one that is given is wrong. */
export function accessOf(options: AccessOptions): FoundAccess {
  const { apiServers: servers, env, clock, serviceAccount: directory = serviceAccountDirectory } = options;
  if (options.kubeconfig !== undefined) {
    const access = kubeconfig({ path: options.kubeconfig, servers, env, clock });
    return { access, dependsOnClusterIP: false };
  }
  if (!existsSync(directory) && !env['KUBERNETES_SERVICE_HOST']) {
    throw new ExitError(ExitCode.usage, 'there is nothing to read Services from: give --source DIR, --kubeconfig FILE, or run in a pod');
  }
  return { access: inCluster({ directory, servers, env }), dependsOnClusterIP: servers.length === 0 };
}
