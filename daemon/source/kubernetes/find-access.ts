// SPDX-License-Identifier: Apache-2.0
// Chooses how to reach the API server: a kubeconfig if one is configured, otherwise the service account of the pod. Called by agent/ at the
// start, before the daemon changes anything, and by offline/preflight.ts.
import { existsSync } from 'node:fs';
import type { Clock } from '../../base/clock.ts';
import { ExitCode, ExitError } from '../../base/errors.ts';
import type { ClusterAccess } from './access.ts';
import { inClusterAccess, serviceAccountDirectory } from './in-cluster.ts';
import { kubeconfigAccess } from './kubeconfig.ts';

export interface AccessOptions {
  /** --kubeconfig FILE. */
  readonly kubeconfig?: string | undefined;
  /** --api-server URL,...; if empty, the addresses of the kubeconfig or the environment are used. */
  readonly apiServers: readonly URL[];
  readonly env: Readonly<NodeJS.ProcessEnv>;
  readonly clock: Clock;
  /** Directory of the service account. Only tests set it. */
  readonly serviceAccount?: string;
}

export interface FoundAccess {
  readonly access: ClusterAccess;
  /** True if the address is KUBERNETES_SERVICE_HOST. This is usually a ClusterIP, which is unreachable until this agent programs it. */
  readonly dependsOnClusterIP: boolean;
}

/** Throws ExitError when no access is configured or the configuration is invalid. */
export function findAccess(options: AccessOptions): FoundAccess {
  const { apiServers: servers, env, clock, serviceAccount: directory = serviceAccountDirectory } = options;
  if (options.kubeconfig !== undefined) {
    const access = kubeconfigAccess({ path: options.kubeconfig, servers, env, clock });
    return { access, dependsOnClusterIP: false };
  }
  if (!existsSync(directory) && !env['KUBERNETES_SERVICE_HOST']) {
    throw new ExitError(ExitCode.usage, 'no source of Services is configured: set --source DIR or --kubeconfig FILE, or run in a pod');
  }
  return { access: inClusterAccess({ directory, servers, env }), dependsOnClusterIP: servers.length === 0 };
}
