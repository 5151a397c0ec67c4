// SPDX-License-Identifier: Apache-2.0
// Calls the daemon's gRPC API over its Unix socket, with a deadline, and follows the pages of lists. A failure becomes an ExitError whose
// message names the next step. This file must never print, and never pass a gRPC error or a stack trace to the user. Called by the
// commands.
import { credentials, type ServiceError, status as code } from '@grpc/grpc-js';
import { connect } from 'node:net';

import type { AdminClient } from '../../proto/gen/sluice/v1/Admin.ts';
import type { DrainResponse__Output as Drained } from '../../proto/gen/sluice/v1/DrainResponse.ts';
import type { ExplainResponse__Output as Explanations } from '../../proto/gen/sluice/v1/ExplainResponse.ts';
import type { ListBackendsResponse__Output as BackendList } from '../../proto/gen/sluice/v1/ListBackendsResponse.ts';
import type { ListServicesResponse__Output as ServiceList } from '../../proto/gen/sluice/v1/ListServicesResponse.ts';
import type { ReloadResponse__Output as Reload } from '../../proto/gen/sluice/v1/ReloadResponse.ts';
import type { SluiceClient } from '../../proto/gen/sluice/v1/Sluice.ts';
import type { StatusResponse__Output as Status } from '../../proto/gen/sluice/v1/StatusResponse.ts';
import { loadSluice, maxPackets } from '../../proto/load.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import type { PacketQuery } from '../model/explanation.ts';

export interface Daemon {
  readonly socket: string;
  readonly timeoutMs: number;
}

type Done<T> = (error: ServiceError | null, response?: T) => void;

/** Gets the status. Rejects with an ExitError, as every ask function of this file does. */
export const askStatus = (daemon: Daemon): Promise<Status> =>
  session(daemon, 'Sluice', (call) => call<Status>((client, options, done) => client.status({}, options, done)));

/** All pages of the list. */
export const askServices = (daemon: Daemon): Promise<Pick<ServiceList, 'services'>> =>
  session(daemon, 'Sluice', async (call) => {
    const services: ServiceList['services'] = [];
    for (let pageToken: string | undefined = ''; pageToken !== undefined;) {
      const request = { pageToken };
      const page: ServiceList = await call<ServiceList>((client, options, done) => client.listServices(request, options, done));
      for (const service of page.services) services.push(service);
      pageToken = page.nextPageToken || undefined;
    }
    return { services };
  });

/** All pages of the list. */
export const askBackends = (daemon: Daemon): Promise<Pick<BackendList, 'backends'>> =>
  session(daemon, 'Sluice', async (call) => {
    const backends: BackendList['backends'] = [];
    for (let pageToken: string | undefined = ''; pageToken !== undefined;) {
      const request = { pageToken };
      const page: BackendList = await call<BackendList>((client, options, done) => client.listBackends(request, options, done));
      for (const backend of page.backends) backends.push(backend);
      pageToken = page.nextPageToken || undefined;
    }
    return { backends };
  });

/** One explanation for each query. Sends as many requests as are needed. */
export const askExplain = (daemon: Daemon, queries: readonly PacketQuery[]): Promise<Explanations> => {
  const packets = queries.map(({ sourceIP, destIP, from = '', iface = '', call = '', destService = '', ...rest }) => ({
    ...rest,
    sourceIp: sourceIP,
    destIp: destIP,
    ...{ from, iface, call, destService },
  }));
  return session(daemon, 'Sluice', async (call) => {
    const explanations: Explanations['explanations'] = [];
    for (let first = 0; first < packets.length; first += maxPackets) {
      const request = { packets: packets.slice(first, first + maxPackets) };
      const part = await call<Explanations>((client, options, done) => client.explain(request, options, done)).catch(
        (error: ServiceError) => {
          error.details = error.details.replace(/^packets\[(\d+)\]/, (_, index: string) => `packets[${first + Number(index)}]`);
          throw error;
        },
      );
      for (const explanation of part.explanations) explanations.push(explanation);
    }
    return { explanations };
  });
};

export const askReload = (daemon: Daemon): Promise<Reload> =>
  session(daemon, 'Admin', (call) => call<Reload>((client, options, done) => client.reload({}, options, done)));

export const askDrain = (daemon: Daemon): Promise<Drained> =>
  session(daemon, 'Admin', (call) => call<Drained>((client, options, done) => client.drain({}, options, done)));

export const askMigrate = (daemon: Daemon, isDone: boolean): Promise<object> =>
  session(daemon, 'Admin', (call) => call<object>((client, options, done) => client.migrate({ done: isDone }, options, done)));

interface Clients {
  readonly Sluice: SluiceClient;
  readonly Admin: AdminClient;
}

type Call<Client> = <T>(request: (client: Client, options: { readonly deadline: Date }, done: Done<T>) => void) => Promise<T>;

/** Runs `work` with one connection. Each call has a deadline of its own. */
async function session<S extends keyof Clients, T>(daemon: Daemon, service: S, work: (call: Call<Clients[S]>) => Promise<T>): Promise<T> {
  const client = new (loadSluice()[service])(`unix:${daemon.socket}`, credentials.createInsecure()) as Clients[S];
  try {
    return await work(
      (request) =>
        new Promise((resolve, reject) => {
          request(client, { deadline: new Date(Date.now() + daemon.timeoutMs) }, (error, response) => {
            if (response === undefined) reject(error ?? new Error('the response is empty'));
            else resolve(response);
          });
        }),
    );
  } catch (error) {
    throw await exitErrorOf(error as ServiceError, daemon);
  } finally {
    client.close();
  }
}

async function exitErrorOf(error: ServiceError, daemon: Daemon): Promise<ExitError> {
  const at = `the daemon at ${daemon.socket}`;
  const exitError = (exitCode: number, message: string): ExitError => new ExitError(exitCode, message, { cause: error });
  if (error.code === code.UNAVAILABLE)
    return exitError(ExitCode.unreachable, unreachableMessage(await connectError(daemon.socket), daemon.socket));
  if (error.code === code.DEADLINE_EXCEEDED) {
    return exitError(
      ExitCode.unreachable,
      `${at} did not respond within ${daemon.timeoutMs} ms: increase --timeout, or read the log of the daemon`,
    );
  }
  if (error.code === code.UNIMPLEMENTED) {
    return exitError(ExitCode.failure, `${at} does not implement this call: use the sluice command of the same version as the daemon`);
  }
  if (error.code === code.INVALID_ARGUMENT) return exitError(ExitCode.usage, error.details);
  if (error.code === code.RESOURCE_EXHAUSTED) return exitError(ExitCode.failure, `${at} rejected the call: ${error.details}`);
  if (error.code === code.FAILED_PRECONDITION) return exitError(ExitCode.failure, error.details);
  return exitError(ExitCode.failure, `${at} failed to respond (${nameOf(error)}): read the log of the daemon`);
}

/** The name of the gRPC status: "INTERNAL". The details are not shown, because gRPC itself may have written them. */
const nameOf = (error: Partial<ServiceError>): string => (error.code === undefined ? 'no response' : code[error.code]);

/** Connects again to get the errno code, which gRPC reports only inside a message. "" when the connection succeeds. */
function connectError(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve('');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'unknown error'));
  });
}

function unreachableMessage(errno: string, path: string): string {
  switch (errno) {
    case 'ENOENT':
      return `the socket ${path} does not exist: start sluiced, or set the path of its socket with --socket or SLUICE_SOCKET`;
    case 'EACCES':
    case 'EPERM':
      return `permission denied on the socket ${path}: run as root or as a member of the --socket-group of sluiced`;
    case 'ECONNREFUSED':
      return `no process listens on the socket ${path}: sluiced has ended, start it again`;
    case '':
      return `the daemon at ${path} closed the connection: it may be stopping, try again`;
    default:
      return `cannot connect to the socket ${path} (${errno}): set the path of the daemon's socket with --socket`;
  }
}
