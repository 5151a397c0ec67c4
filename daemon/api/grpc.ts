// SPDX-License-Identifier: Apache-2.0
// The gRPC server: sluice.v1.Sluice, sluice.v1.Admin, health and reflection on one Unix socket. It reads an AgentView. Only the service
// Admin changes the state of the agent. A call that fails is answered with a gRPC status, never with a stack trace. The server does its
// work in slices, and only while a client waits for the result; limits.ts contains the limits. Started and stopped by agent.ts.
import { type sendUnaryData, Server, type ServerUnaryCall, type ServiceDefinition, status as code } from '@grpc/grpc-js';
import type { Server as NetServer } from 'node:net';
import type { Logger } from 'pino';

import type { ExplainRequest__Output } from '../../proto/gen/sluice/v1/ExplainRequest.ts';
import type { MigrateRequest__Output } from '../../proto/gen/sluice/v1/MigrateRequest.ts';
import { fileDescriptors, loadSluice, maxPackets } from '../../proto/load.ts';
import { ExitError, KernelError, ReasonError } from '../base/errors.ts';
import { printable } from '../base/printable.ts';
import { systemReason } from '../base/reasons.ts';
import type { OpenFlows } from '../model/phase.ts';
import type { AgentView, BackendView, ReloadReport, ServiceView } from '../status/view.ts';
import { CallError } from './call-error.ts';
import { type ConnectionLimits, Connections } from './connections.ts';
import { explanationMessage, packetQuery } from './explain-messages.ts';
import { Health } from './health.ts';
import { maxCallsPerConnection, maxExplains, maxRequestBytes, maxResponseBytes } from './limits.ts';
import { isMalformed, tolerant } from './malformed.ts';
import { backendMessage, openFlowsMessage, serviceMessage, statusMessage } from './messages.ts';
import { PagedList, type PageRequest } from './pages.ts';
import { addReflection } from './reflection.ts';
import { AbandonedError, Shared, Slices } from './slices.ts';
import { closeListener, listenOnSocket, placeOf } from './socket.ts';

/** Giving the node back to kube-proxy, and taking it over. Both may throw ExitError and KernelError. */
export interface HandoverCalls {
  readonly drain: () => Promise<OpenFlows>;
  readonly migrate: (isDone: boolean) => void;
}

interface GrpcOptions {
  readonly view: AgentView;
  /** Replaces the programs. When it throws, nothing has changed. */
  readonly reload: () => ReloadReport;
  readonly handover: HandoverCalls;
  readonly socketPath: string;
  /** Name of the group that may connect. */
  readonly socketGroup?: string | undefined;
  readonly log?: Logger | undefined;
  /** Interval at which the socket is made again if it was removed. Without it, only repairSocket() does this. */
  readonly repairEveryMs?: number;
  /** Called when the socket was made again. */
  readonly onRepaired?: (message: string) => void;
  /** Limits that replace the default ones. Only tests set them. */
  readonly limits?: Partial<ConnectionLimits>;
}

/** Milliseconds for running calls to finish when the server stops. */
const graceMs = 500;
/** Maximum number of rows of a page; see sluice.proto. */
const maxPageSize = { services: 1000, backends: 5000 } as const;

/** How calls of Admin reject what the present state does not allow. */
const rejected: Expected = { exitError: code.FAILED_PRECONDITION, kernelError: code.FAILED_PRECONDITION };

const serverOptions = {
  'grpc.max_concurrent_streams': maxCallsPerConnection,
  'grpc.max_receive_message_length': maxRequestBytes,
  'grpc.max_send_message_length': maxResponseBytes,
  'grpc.enable_channelz': 0,
} as const;

/** Makes a serialized response. The signal aborts when the client has left or its deadline has passed. */
type Answer<Request> = (request: Request, signal: AbortSignal) => Promise<Buffer>;

/** The gRPC status for errors that the client or the host has caused, by error class. The client receives the message of such an error. */
interface Expected {
  readonly exitError?: code;
  readonly kernelError?: code;
}

export class GrpcServer {
  readonly name = 'grpc';
  readonly #options: GrpcOptions;
  readonly #health: Health;
  readonly #slices = new Slices();
  #explains = 0;
  #isStopping = false;
  #server: Server | undefined;
  #listener: NetServer | undefined;
  #connections: Connections | undefined;
  #repairs: NodeJS.Timeout | undefined;
  #isRepairing = false;
  /** The last failure of repairSocket(), which is logged once. */
  #socketFailure = '';

  constructor(options: GrpcOptions) {
    this.#options = options;
    this.#health = new Health(() => !this.#isStopping && options.view.health().ready);
  }

  /** Starts to listen. Throws ExitError when the socket cannot be created. */
  async start(): Promise<void> {
    const server = this.#build();
    const connections = new Connections(server, this.#options.limits);
    this.#connections = connections;
    this.#listener = await this.#listen(connections);
    this.#server = server;
    const { repairEveryMs } = this.#options;
    if (repairEveryMs !== undefined) this.#repairs = setInterval(() => void this.repairSocket(), repairEveryMs).unref();
    this.publishHealth();
  }

  /**
   * Makes the socket again if it was removed, as by a program that cleans /run. Connections stay. A file that another process has put
   * in the place of the socket stays too. Never rejects.
   */
  async repairSocket(): Promise<void> {
    const { socketPath, onRepaired, log } = this.#options;
    const [listener, connections] = [this.#listener, this.#connections];
    if (this.#server === undefined || listener === undefined || connections === undefined || this.#isRepairing) return;
    this.#isRepairing = true;
    try {
      const place = placeOf(listener);
      if (place === 'foreign') throw new ReasonError('another process has taken its path');
      if (place === 'missing') {
        const made = await this.#listen(connections);
        void closeListener(this.#isStopping ? made : listener);
        // stop() was called meanwhile.
        if (this.#isStopping) return;
        this.#listener = made;
        onRepaired?.(`API socket ${socketPath}: it was missing`);
      }
      this.#socketFailure = '';
    } catch (error) {
      const message = `the API socket ${socketPath} is lost: ${systemReason(error)}`;
      if (message !== this.#socketFailure) log?.error(message);
      this.#socketFailure = message;
    } finally {
      this.#isRepairing = false;
    }
  }

  #listen(connections: Connections): Promise<NetServer> {
    const { socketPath: path, socketGroup: group } = this.#options;
    return listenOnSocket({ path, group }, (socket) => connections.add(socket));
  }

  /** Sends a change of readiness to the watchers. Cheap and idempotent: call it whenever readiness may have changed. */
  publishHealth(): void {
    this.#health.publish();
  }

  /** Ends within a second: reports NOT_SERVING, waits up to half a second for running calls, removes the socket. Idempotent. */
  async stop(): Promise<void> {
    const [server, listener] = [this.#server, this.#listener];
    if (server === undefined || listener === undefined) return;
    clearInterval(this.#repairs);
    this.#server = undefined;
    this.#isStopping = true;
    this.publishHealth();
    const unlinked = closeListener(listener);
    await this.#connections?.close(graceMs);
    server.forceShutdown();
    await unlinked;
  }

  #build(): Server {
    const sluice = loadSluice();
    const server = new Server(serverOptions);
    const { view, handover } = this.#options;
    const { Status, ListServices, ListBackends, Explain } = sluice.Sluice.service;
    const { Reload, Drain, Migrate } = sluice.Admin.service;
    const status = this.#shared(() => Status.responseSerialize(statusMessage(view.status())));
    const services = new PagedList<ServiceView>({
      ...{ slices: this.#slices, rows: () => view.services(), keyOf: ({ key }) => key, maxPageSize: maxPageSize.services },
      serialize: (row) => ListServices.responseSerialize({ services: [serviceMessage(row)] }),
      serializeToken: (nextPageToken) => ListServices.responseSerialize({ nextPageToken }),
    });
    const backends = new PagedList<BackendView>({
      ...{ slices: this.#slices, rows: () => view.backends(), maxPageSize: maxPageSize.backends },
      keyOf: ({ family, id }) => `${family} ${String(id).padStart(10, '0')}`,
      serialize: (row) => ListBackends.responseSerialize({ backends: [backendMessage(row)] }),
      serializeToken: (nextPageToken) => ListBackends.responseSerialize({ nextPageToken }),
    });
    const reload = this.#shared(() => Reload.responseSerialize(this.#options.reload()));
    server.addService(tolerant(serialized(sluice.Sluice.service)), {
      Status: this.#handler((_request, signal) => status(signal)),
      ListServices: this.#handler((request: PageRequest, signal) => services.page(request, signal)),
      ListBackends: this.#handler((request: PageRequest, signal) => backends.page(request, signal)),
      Explain: this.#handler(
        async (request: ExplainRequest__Output, signal) =>
          Explain.responseSerialize({ explanations: await this.#explain(request, signal) }),
        { exitError: code.INVALID_ARGUMENT, kernelError: code.FAILED_PRECONDITION },
      ),
    });
    server.addService(tolerant(serialized(sluice.Admin.service)), {
      Reload: this.#handler((_request, signal) => reload(signal), rejected),
      Drain: this.#handler(async () => Drain.responseSerialize({ openFlows: openFlowsMessage(await handover.drain()) }), rejected),
      Migrate: this.#handler(async ({ done }: MigrateRequest__Output) => {
        handover.migrate(done);
        return Migrate.responseSerialize({});
      }, rejected),
    });
    this.#health.addTo(server);
    addReflection(server, fileDescriptors());
    return server;
  }

  /** Returns a function that does the work in one step, once for all callers that wait for it. */
  #shared(work: () => Buffer): (signal: AbortSignal) => Promise<Buffer> {
    const shared = new Shared(this.#slices, function* () {
      yield work();
    });
    return async (signal) => {
      const [bytes] = await shared.get(signal);
      if (bytes === undefined) throw new Error('the work has no result');
      return bytes;
    };
  }

  async #explain({ packets }: ExplainRequest__Output, signal: AbortSignal) {
    if (packets.length > maxPackets) {
      throw new CallError(
        code.INVALID_ARGUMENT,
        `packets has ${packets.length} elements, and at most ${maxPackets} are allowed: send several requests`,
      );
    }
    if (this.#explains >= maxExplains) {
      throw new CallError(code.RESOURCE_EXHAUSTED, `${maxExplains} Explain calls are in progress: try again later`);
    }
    const questions = packets.map((packet, index) => named(packets.length, index, () => packetQuery(packet)));
    this.#explains += 1;
    try {
      const { view } = this.#options;
      await view.explainReady();
      const answers = numbered(questions.length, view.explain(questions));
      const { rows } = await this.#slices.collect(answers, () => !signal.aborted);
      return rows.map(explanationMessage);
    } finally {
      this.#explains -= 1;
    }
  }

  #handler<Request>(answer: Answer<Request>, expected: Expected = {}) {
    return (call: ServerUnaryCall<Request, Buffer>, callback: sendUnaryData<Buffer>): void =>
      void this.#respond(call, callback, { answer, expected });
  }

  /** Never rejects. */
  async #respond<Request>(
    call: ServerUnaryCall<Request, Buffer>,
    callback: sendUnaryData<Buffer>,
    { answer, expected }: { readonly answer: Answer<Request>; readonly expected: Expected },
  ): Promise<void> {
    if (isMalformed(call.request)) {
      callback({ code: code.INVALID_ARGUMENT, details: 'the request is not a message of the type that this call expects' });
      return;
    }
    const leaving = new AbortController();
    call.once('cancelled', () => leaving.abort());
    let bytes: Buffer;
    try {
      bytes = await answer(call.request, leaving.signal);
    } catch (error) {
      callback(this.#rejection(error, { expected, path: call.getPath() }));
      return;
    }
    callback(null, bytes);
  }

  /**
   * Returns the gRPC status for an error. A CallError has its own status, and an ExitError or KernelError has the status in `expected`, if
   * there is one. The client receives the message of these errors. Any other error is logged and becomes INTERNAL without its message.
   */
  #rejection(err: unknown, { expected, path }: { readonly expected: Expected; readonly path: string }) {
    if (err instanceof AbandonedError) return { code: code.CANCELLED, details: 'the client has left' };
    const status = expectedStatus(err, expected);
    if (status !== undefined && err instanceof Error) {
      this.#options.log?.debug({ err, call: path }, 'API call rejected');
      // The message may repeat a text of the request, such as a destination.
      return { code: status, details: printable(err.message) };
    }
    this.#options.log?.error({ err, call: path }, 'API call failed');
    return { code: code.INTERNAL, details: 'the call failed unexpectedly; the log of the agent contains the error' };
  }
}

function expectedStatus(error: unknown, expected: Expected): code | undefined {
  if (error instanceof CallError) return error.code;
  if (error instanceof ExitError) return expected.exitError;
  return error instanceof KernelError ? expected.kernelError : undefined;
}

/** The service with handlers that return serialized responses. The size of such a response is known, and several callers can share it. */
function serialized(service: ServiceDefinition): ServiceDefinition {
  const methods = Object.entries(service).map(
    ([name, method]) => [name, { ...method, responseSerialize: (bytes: Buffer) => bytes }] as const,
  );
  return Object.fromEntries(methods);
}

/** Adds the index of the packet to the message of an ExitError, if there are several packets. */
function named<T>(count: number, index: number, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (count === 1 || !(error instanceof ExitError)) throw error;
    throw new ExitError(error.exitCode, `packets[${index}]: ${error.message}`, { cause: error });
  }
}

/** Passes on the answers to `count` packets. An ExitError gets the index of the packet that caused it. */
function* numbered<Row>(count: number, answers: Iterable<Row>): Generator<Row, void> {
  const iterator = answers[Symbol.iterator]();
  for (let index = 0; ; index += 1) {
    const step = named(count, index, () => iterator.next());
    if (step.done === true) return;
    yield step.value;
  }
}
