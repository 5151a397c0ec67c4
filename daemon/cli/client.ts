// SPDX-License-Identifier: Apache-2.0
// One question to the daemon over its Unix socket, within a deadline. A failure becomes an ExitError: one sentence with the
// next step. It must never print, and never let a gRPC detail or a stack reach the user.
import { credentials, type ServiceError, status as code } from '@grpc/grpc-js';
import { connect } from 'node:net';

import type { AdminClient } from '../../proto/gen/sluice/v1/Admin.ts';
import type { ExplainResponse__Output as Explanations } from '../../proto/gen/sluice/v1/ExplainResponse.ts';
import type { ListBackendsResponse__Output as BackendList } from '../../proto/gen/sluice/v1/ListBackendsResponse.ts';
import type { ListServicesResponse__Output as ServiceList } from '../../proto/gen/sluice/v1/ListServicesResponse.ts';
import type { ReloadResponse__Output as Reload } from '../../proto/gen/sluice/v1/ReloadResponse.ts';
import type { SluiceClient } from '../../proto/gen/sluice/v1/Sluice.ts';
import type { StatusResponse__Output as Status } from '../../proto/gen/sluice/v1/StatusResponse.ts';
import { loadSluice } from '../../proto/load.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import type { PacketQuery } from '../model/explanation.ts';

export interface Daemon {
  readonly socket: string;
  readonly timeoutMs: number;
}

type Done<T> = (error: ServiceError | null, response?: T) => void;

/** Rejects with an ExitError, as the other two. */
export const askStatus = (daemon: Daemon): Promise<Status> =>
  ask(daemon, (client, deadline, done: Done<Status>) => client.status({}, { deadline }, done));

export const askServices = (daemon: Daemon): Promise<ServiceList> =>
  ask(daemon, (client, deadline, done: Done<ServiceList>) => client.listServices({}, { deadline }, done));

export const askBackends = (daemon: Daemon): Promise<BackendList> =>
  ask(daemon, (client, deadline, done: Done<BackendList>) => client.listBackends({}, { deadline }, done));

export const askExplain = (daemon: Daemon, queries: readonly PacketQuery[]): Promise<Explanations> => {
  const packets = queries.map(({ sourceIP, destIP, from = '', iface = '', ...rest }) => ({
    ...rest,
    sourceIp: sourceIP,
    destIp: destIP,
    from,
    iface,
  }));
  return ask(daemon, (client, deadline, done: Done<Explanations>) => client.explain({ packets }, { deadline }, done));
};

export const askReload = (daemon: Daemon): Promise<Reload> =>
  askOf<Reload, AdminClient>(daemon, 'Admin', (client, deadline, done) => client.reload({}, { deadline }, done));

const ask = <T>(daemon: Daemon, request: Request<T, SluiceClient>): Promise<T> => askOf(daemon, 'Sluice', request);

type Request<T, C> = (client: C, deadline: Date, done: Done<T>) => void;

async function askOf<T, C extends SluiceClient | AdminClient>(
  daemon: Daemon,
  service: 'Sluice' | 'Admin',
  request: Request<T, C>,
): Promise<T> {
  const { sluice } = loadSluice();
  // A node with 100,000 endpoints answers with more than gRPC's default of 4 MiB.
  const options = { 'grpc.max_receive_message_length': -1 };
  const client = new sluice[service](`unix:${daemon.socket}`, credentials.createInsecure(), options) as C;
  try {
    return await new Promise<T>((resolve, reject) => {
      request(client, new Date(Date.now() + daemon.timeoutMs), (error, response) => {
        if (response === undefined) reject(error ?? new Error('an empty answer'));
        else resolve(response);
      });
    });
  } catch (error) {
    throw await refusalOf(error as ServiceError, daemon);
  } finally {
    client.close();
  }
}

async function refusalOf(error: ServiceError, daemon: Daemon): Promise<ExitError> {
  const at = `the daemon at ${daemon.socket}`;
  const refusal = (exitCode: number, sentence: string): ExitError => new ExitError(exitCode, sentence, { cause: error });
  if (error.code === code.UNAVAILABLE)
    return refusal(ExitCode.unreachable, whyUnreachable(await connectError(daemon.socket), daemon.socket));
  if (error.code === code.DEADLINE_EXCEEDED) {
    return refusal(
      ExitCode.unreachable,
      `${at} did not answer within ${daemon.timeoutMs} ms: give it longer with --timeout, or look at its log`,
    );
  }
  if (error.code === code.UNIMPLEMENTED) {
    return refusal(ExitCode.failure, `${at} does not know this question: use the sluice command of its own version`);
  }
  if (error.code === code.INVALID_ARGUMENT) return refusal(ExitCode.usage, error.details);
  if (error.code === code.FAILED_PRECONDITION) return refusal(ExitCode.failure, error.details);
  return refusal(ExitCode.failure, `${at} could not answer: ${error.details || error.message}`);
}

/** gRPC tells of a failed connection in prose only, so the errno is asked for again. */
function connectError(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve('');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

function whyUnreachable(errno: string, path: string): string {
  switch (errno) {
    case 'ENOENT':
      return `there is no socket at ${path}: start sluiced, or name its socket with --socket or SLUICE_SOCKET`;
    case 'EACCES':
    case 'EPERM':
      return `you may not use the socket ${path}: be root, or a member of the group given to sluiced by --socket-group`;
    case 'ECONNREFUSED':
      return `nobody listens at ${path}: sluiced has ended, start it again`;
    case '':
      return `the daemon at ${path} broke the connection off: it may be stopping, try again`;
    default:
      return `cannot reach the daemon at ${path} (${errno}): is this its socket? Name it with --socket`;
  }
}
