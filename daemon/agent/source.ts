// SPDX-License-Identifier: Apache-2.0
// The wiring of the source that the settings ask for: a directory, or the API server by kubeconfig or as the service account of
// a pod. The access to the source is determined before anything is created, so that a start without a source is rejected. The
// source itself is built later.
import type { Logger } from 'pino';
import { systemClock } from '../base/clock.ts';
import { limitedLog } from '../base/limited-log.ts';
import type { Pace } from '../base/slices.ts';
import type { Config } from '../config/schema.ts';
import { versions } from '../host/version.ts';
import { sourceCheck } from '../source/files/check.ts';
import { FilesSource } from '../source/files/files-source.ts';
import { ApiServerAddresses } from '../source/kubernetes/api-server-addresses.ts';
import { Connection } from '../source/kubernetes/connection.ts';
import { findAccess, type FoundAccess } from '../source/kubernetes/find-access.ts';
import { KubernetesSource } from '../source/kubernetes/kubernetes-source.ts';
import { NetworkPolicyProbe } from '../source/kubernetes/network-policies.ts';
import type { ProblemLog } from '../source/problems.ts';
import type { Source } from '../source/source.ts';
import type { SourceTables } from '../source/tables.ts';

/** The source that the settings ask for: a directory, or the access to the API server. */
export type SourceAccess = { readonly directory: string } | FoundAccess;

/** Description of the source. Logs contain it. */
export const accessText = (access: SourceAccess): string =>
  'directory' in access ? access.directory : access.access.servers.map((server) => server.origin).join(', ');

/** Throws ExitError when there is neither a directory that exists nor a cluster. */
export function findSourceAccess(config: Config): SourceAccess {
  if (config.source !== undefined) {
    sourceCheck(config.source).run();
    return { directory: config.source };
  }
  const { kubeconfig, apiServer: apiServers } = config;
  return findAccess({ kubeconfig, apiServers, env: process.env, clock: systemClock });
}

interface SourceParts {
  readonly config: Config;
  readonly access: SourceAccess;
  readonly tables: Omit<SourceTables, 'localAddresses'>;
  readonly pace: Pace;
  readonly log: Logger;
  /** Called when Source.isComplete may have become true. */
  readonly onComplete: () => void;
}

interface FoundSource {
  readonly source: Source;
  /** Undefined if the source is a directory. */
  readonly policies: NetworkPolicyProbe | undefined;
}

/** Builds the source and starts nothing. */
export function findSource({ config, access: found, tables, pace, log, onComplete }: SourceParts): FoundSource {
  const appeared = limitedLog<[string]>(systemClock, {
    write: (message) => log.warn(message),
    leftOut: (notLogged) => log.warn({ notLogged }, 'further problems of the source are not logged; see sluice status'),
  });
  const resolved = limitedLog<[string]>(systemClock, {
    write: (message) => log.info(`resolved: ${message}`),
    leftOut: (notLogged) => log.info({ notLogged }, 'further resolved problems of the source are not logged'),
  });
  const problemLog: ProblemLog = {
    appeared: ({ message }) => appeared(message),
    resolved: ({ message }) => {
      resolved(message);
      setImmediate(onComplete);
    },
    noted: (text) => log.info(text),
  };
  const common = { tables, clock: systemClock, log: problemLog };
  if ('directory' in found) {
    // A directory needs no connection to an API server, so there is no connection to protect.
    tables.apiServers.registerSource('files')();
    return { source: new FilesSource({ ...common, pace, directory: found.directory }), policies: undefined };
  }
  const { access, dependsOnClusterIP } = found;
  const address = accessText(found);
  if (dependsOnClusterIP)
    log.warn(
      `the API server is at ${address}, a ClusterIP, which is unreachable until this agent has written its frontends: set --api-server to an address that needs no Service translation`,
    );
  const addresses = new ApiServerAddresses(tables.apiServers, access.servers);
  const client = new Connection({ access, addresses, clock: systemClock, userAgent: `sluiced/${versions().version}` });
  const onListed = (kind: string): void => log.debug({ kind }, 'listed');
  const options = { ...common, client, node: config.node, address, credentials: access.description, onComplete, onListed };
  return { source: new KubernetesSource(options), policies: new NetworkPolicyProbe({ client, clock: systemClock }) };
}
