// SPDX-License-Identifier: Apache-2.0
// Which source the settings ask for: a directory, or the API server by kubeconfig or as a pod's service account. Built, not
// started; control-plane.ts hangs it before the tables.
import type { Logger } from 'pino';
import { systemClock } from '../base/clock.ts';
import type { Config } from '../config/schema.ts';
import { FilesSource } from '../source/files/files-source.ts';
import { Connection } from '../source/kubernetes/connection.ts';
import { findAccess } from '../source/kubernetes/find-access.ts';
import { KubernetesSource } from '../source/kubernetes/kubernetes-source.ts';
import type { ProblemLog } from '../source/problems.ts';
import type { Source } from '../source/source.ts';
import type { ObjectTables } from '../source/tables.ts';
import { versions } from '../host/version.ts';

interface SourceParts {
  readonly config: Config;
  readonly tables: ObjectTables;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  /** Source.isComplete may have become true. */
  readonly onComplete: () => void;
}

/** Throws Refusal when neither a directory nor a cluster can be found. */
export function findSource({ config, tables, env, log, onComplete }: SourceParts): Source {
  const problemLog: ProblemLog = {
    appeared: ({ message }) => log.warn(message),
    resolved: ({ message }) => {
      log.info(`resolved: ${message}`);
      setImmediate(onComplete);
    },
  };
  const common = { tables, clock: systemClock, log: problemLog };
  if (config.source !== undefined) return new FilesSource({ ...common, directory: config.source });
  const { access, dependsOnClusterIP } = findAccess({
    kubeconfig: config.kubeconfig,
    apiServers: config.apiServer,
    env,
    clock: systemClock,
  });
  const address = access.servers.map((server) => server.origin).join(', ');
  if (dependsOnClusterIP)
    log.warn(`the API server is asked at ${address}, a ClusterIP, which nobody serves before this agent does: give --api-server`);
  const client = new Connection({ access, clock: systemClock, userAgent: `sluiced/${versions().version}` });
  const onListed = (kind: string): void => log.debug({ kind }, 'listed');
  return new KubernetesSource({ ...common, client, node: config.node, address, credentials: access.description, onComplete, onListed });
}
