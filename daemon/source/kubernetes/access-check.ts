// SPDX-License-Identifier: Apache-2.0
// Checks whether this agent could read from the API server: name resolution, TLS, HTTP/2 and credentials for each address, and then each
// right that the agent needs. It changes nothing on the server and does not retry. Called by offline/preflight.ts.
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { missingNode } from '../../model/node.ts';
import { type ApiResponse, CredentialError, UnreachableError } from './api-client.ts';
import { Connection } from './connection.ts';
import type { FoundAccess } from './find-access.ts';
import { networkPoliciesName, networkPoliciesPath } from './network-policies.ts';
import { type Resource, resourcesOf } from './resources.ts';
import { listOf, readSmallBody } from './small-body.ts';
import { statusOfResponse } from './status-error.ts';

/** Time limit of one request, including its connection. Each step of connecting has a shorter limit in connection.ts. */
const REQUEST_MS = 20_000;

export interface AccessCheckOptions {
  readonly found: FoundAccess;
  /** Name of this agent's Node. */
  readonly node: string;
  readonly clock: Pick<Clock, 'setTimer'>;
  readonly userAgent: string;
}

export interface AccessCheckResult {
  /** Name of the check, such as "API server https://10.0.0.1:6443" or "right services". */
  readonly name: string;
  /** State of the check. "failed": sluiced would start and not become ready. */
  readonly state: 'ok' | 'warning' | 'failed' | 'skipped';
  readonly message: string;
}

type Outcome = Omit<AccessCheckResult, 'name'>;
type Get = (path: string) => Promise<ApiResponse>;

/** Makes all checks. Never rejects because of the server or the credentials. */
export async function checkAccess(options: AccessCheckOptions): Promise<AccessCheckResult[]> {
  const { found, node } = options;
  const { access } = found;
  const connections = access.servers.map((server) => ({ server, connection: connectionTo(server, options) }));
  try {
    const servers: (AccessCheckResult & { readonly get: Get })[] = [];
    for (const { server, connection } of connections) {
      const get: Get = (path) => connection.get(path, AbortSignal.timeout(REQUEST_MS));
      servers.push({ name: `API server ${server.origin}`, get, ...(await reach(server, get, found)) });
    }
    const reached = servers.find(({ state }) => state === 'ok' || state === 'warning');
    // The agent tries the addresses in turn, so one that works is enough.
    const answers = servers.map(({ name, state, message }) => ({
      name,
      state: state === 'failed' && reached !== undefined ? ('warning' as const) : state,
      message,
    }));
    return [...answers, ...(await rights(node, reached?.get))];
  } finally {
    for (const { connection } of connections) connection.close();
    access.close();
  }
}

/** All connections share the credentials, so closing a connection must not close the credentials. checkAccess() closes them at the end. */
function connectionTo(server: URL, { found, clock, userAgent }: AccessCheckOptions): Connection {
  return new Connection({ access: { ...found.access, servers: [server], close: () => undefined }, clock, userAgent });
}

async function reach(server: URL, get: Get, { access, dependsOnClusterIP }: FoundAccess): Promise<Outcome> {
  const host = server.hostname.replace(/^\[|\]$/g, '');
  if (isIP(host) === 0) {
    const failure = await lookup(host).then(() => undefined, messageOf);
    if (failure !== undefined)
      return failed(`the name ${host} cannot be resolved (${failure}): correct --api-server, or the DNS of this host`);
  }
  return answered(
    () => get('/version'),
    async (response) => {
      if (response.status === 401) return failed(`the server does not accept ${access.description}: renew the credentials`);
      const version =
        response.status === 200 ? ((await readSmallBody(response)) as { gitVersion?: unknown } | null)?.gitVersion : undefined;
      const text = `answers over HTTP/2${server.protocol === 'https:' ? ', and its certificate is accepted' : ''}${typeof version === 'string' ? `; version ${version.slice(0, 40)}` : ''}`;
      if (!dependsOnClusterIP) return { state: 'ok', message: text };
      const next = 'this is usually a ClusterIP, which is unreachable on a new node until sluiced has programmed it: set --api-server';
      return { state: 'warning', message: `${text}; ${next}` };
    },
  );
}

async function rights(node: string, get: Get | undefined): Promise<AccessCheckResult[]> {
  const results: AccessCheckResult[] = [];
  for (const resource of resourcesOf(node)) results.push({ name: `right ${resource.name}`, ...(await right(resource, node, get)) });
  results.push({ name: `right ${networkPoliciesName}`, ...(await policyRight(get)) });
  return results;
}

const notReached: Outcome = { state: 'skipped', message: 'no API server was reached' };

const pathOf = ({ path, selectors }: Resource, query: Readonly<Record<string, string>>): string =>
  `${path}?${new URLSearchParams({ ...selectors, ...query }).toString()}`;

async function right(resource: Resource, node: string, get: Get | undefined): Promise<Outcome> {
  if (get === undefined) return notReached;
  return answered(
    () => get(pathOf(resource, { limit: '1' })),
    async (response) => {
      if (response.status === 404 && resource.isOptional)
        return { state: 'ok', message: 'the server does not have this resource, which the agent does not need' };
      if (response.status !== 200) return refused('list', resource.name, response);
      const { items, metadata } = listOf(await readSmallBody(response));
      const { resourceVersion } = metadata;
      const from = typeof resourceVersion === 'string' ? { resourceVersion } : {};
      const watch = await answered(
        () => get(pathOf(resource, { watch: '1', timeoutSeconds: '1', ...from })),
        async (opened) => (opened.status === 200 ? granted : refused('watch', resource.name, opened)),
      );
      if (watch.state !== 'ok') return { state: 'warning', message: `${watch.message}; until then the agent lists it once a minute` };
      if (resource.kind === 'Node' && items.length === 0) return { state: 'warning', message: missingNode(node) };
      return { state: 'ok', message: 'list and watch are granted' };
    },
  );
}

async function policyRight(get: Get | undefined): Promise<Outcome> {
  if (get === undefined) return notReached;
  return answered(
    () => get(networkPoliciesPath),
    async (response) => {
      if (response.status === 200) return granted;
      const { message } = await refused('list', networkPoliciesName, response);
      return { state: 'warning', message: `${message}; without it the status cannot tell whether the cluster has NetworkPolicies` };
    },
  );
}

/** The outcome of a request that succeeds. Its body is not read; closing the connection ends the response. */
const granted: Outcome = { state: 'ok', message: 'granted' };

const failed = (message: string): Outcome => ({ state: 'failed', message });

async function refused(verb: string, name: string, response: ApiResponse): Promise<Outcome> {
  const { code, message } = await statusOfResponse(response);
  const next = code === 403 ? `the ClusterRole must grant the verb "${verb}" on the resource "${name}"` : `cannot ${verb} ${name}`;
  return failed(`${next} (${code} ${message})`);
}

/** The outcome of a request. A failed connection, or missing credentials, is a failed outcome. */
async function answered(request: () => Promise<ApiResponse>, outcomeOf: (response: ApiResponse) => Promise<Outcome>): Promise<Outcome> {
  try {
    return await outcomeOf(await request());
  } catch (error) {
    if (error instanceof UnreachableError || error instanceof CredentialError) return failed(error.message);
    if (error instanceof DOMException && error.name === 'TimeoutError') return failed(`no answer within ${REQUEST_MS / 1000} s`);
    throw error;
  }
}
