// SPDX-License-Identifier: Apache-2.0
// The gRPC server: sluice.v1.Sluice, sluice.v1.Admin, health and reflection on one Unix socket. It reads an AgentView. Only the
// service Admin changes the state of the agent. A call that fails is answered with a gRPC status, never with a stack trace. Started
// and stopped by agent.ts.
import { type sendUnaryData, Server, ServerCredentials, type ServerUnaryCall, status as code, type UntypedHandleCall } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation, protoPath as healthProto } from 'grpc-health-check';
import type { Server as NetServer, Socket } from 'node:net';
import type { Logger } from 'pino';

import type { AdminHandlers } from '../../proto/gen/sluice/v1/Admin.ts';
import type { ExplainRequest__Output } from '../../proto/gen/sluice/v1/ExplainRequest.ts';
import type { SluiceHandlers } from '../../proto/gen/sluice/v1/Sluice.ts';
import { KernelError, ExitError } from '../base/errors.ts';
import { loadSluice } from '../../proto/load.ts';
import { explanationMessage, packetQuery } from './explain-messages.ts';
import { isMalformed, tolerant } from './malformed.ts';
import { backendMessage, serviceMessage, statusMessage } from './messages.ts';
import { listenOnSocket } from './socket.ts';
import type { AgentView, ReloadReport } from '../status/view.ts';

interface GrpcOptions {
  readonly view: AgentView;
  /** Replaces the programs. When it throws, nothing has changed. */
  readonly reload: () => ReloadReport;
  readonly socketPath: string;
  /** Name of the group that may connect. */
  readonly socketGroup?: string | undefined;
  readonly log?: Logger | undefined;
}

/** Names that a health request may contain; "" is the whole server. */
const healthNames = ['', 'sluice.v1.Sluice', 'sluice.v1.Admin'];

/** Time for running calls to finish when the server stops. */
const graceMs = 500;

export class GrpcServer {
  readonly name = 'grpc';
  readonly #options: GrpcOptions;
  readonly #health = new HealthImplementation(Object.fromEntries(healthNames.map((name) => [name, 'NOT_SERVING' as const])));
  readonly #connections = new Set<Socket>();
  #isServing = false;
  #isStopping = false;
  #server: Server | undefined;
  #listener: NetServer | undefined;

  constructor(options: GrpcOptions) {
    this.#options = options;
  }

  /** Starts to listen. Throws ExitError when the socket cannot be created. */
  async start(): Promise<void> {
    const server = this.#build();
    const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    const { path, group } = { path: this.#options.socketPath, group: this.#options.socketGroup };
    const listener = await listenOnSocket({ path, group }, (socket) => {
      this.#connections.add(socket);
      socket.once('close', () => this.#connections.delete(socket));
      injector.injectConnection(socket);
    });
    this.#server = server;
    this.#listener = listener;
    this.publishHealth();
  }

  /** Sends a change of readiness to the watchers. Cheap and idempotent: call it whenever readiness may have changed. */
  publishHealth(): void {
    const isServing = !this.#isStopping && this.#options.view.health().ready;
    if (isServing === this.#isServing) return;
    this.#isServing = isServing;
    for (const name of healthNames) this.#health.setStatus(name, isServing ? 'SERVING' : 'NOT_SERVING');
  }

  /** Ends within a second: reports NOT_SERVING, waits half a second for running calls, removes the socket. Idempotent. */
  async stop(): Promise<void> {
    const [server, listener] = [this.#server, this.#listener];
    if (server === undefined || listener === undefined) return;
    this.#server = undefined;
    this.#isStopping = true;
    this.publishHealth();
    // close() unlinks the path of the socket.
    const unlinked = new Promise<void>((resolve) => void listener.close(() => resolve()));
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, graceMs);
      server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    server.forceShutdown();
    for (const socket of this.#connections) socket.destroy();
    await unlinked;
  }

  #build(): Server {
    const { definition, sluice } = loadSluice();
    const server = new Server();
    const { view } = this.#options;
    const handlers: SluiceHandlers = {
      Status: this.#handler(() => statusMessage(view.status())),
      ListServices: this.#handler(() => ({ services: view.services().map(serviceMessage) })),
      ListBackends: this.#handler(() => ({ backends: view.backends().map(backendMessage) })),
      Explain: this.#handler(
        (request: ExplainRequest__Output) => ({ explanations: view.explain(request.packets.map(packetQuery)).map(explanationMessage) }),
        code.INVALID_ARGUMENT,
      ),
    };
    server.addService(tolerant(sluice.Sluice.service), handlers);
    const admin: AdminHandlers = { Reload: this.#handler(() => this.#options.reload(), code.FAILED_PRECONDITION) };
    server.addService(tolerant(sluice.Admin.service), admin);
    this.#addHealth(server);
    const healthDefinition = loadSync(healthProto, { longs: String, enums: String, defaults: true, oneofs: true });
    new ReflectionService({ ...definition, ...healthDefinition }).addToServer(server);
    return server;
  }

  /** Every health call reads the readiness of the view first, so that the response is current. */
  #addHealth(server: Server): void {
    const fresh =
      (handler: (...call: unknown[]) => void) =>
      (...call: unknown[]): void => {
        this.publishHealth();
        handler(...call);
      };
    this.#health.addToServer({
      addService: (definition, implementation) => {
        const wrapped = Object.entries(implementation).map(([name, handler]): [string, UntypedHandleCall] => [
          name,
          fresh(handler as (...call: unknown[]) => void),
        ]);
        server.addService(definition, Object.fromEntries(wrapped));
      },
    });
  }

  /**
   * Answers an ExitError or KernelError with the status `expected` and the error's message, if `expected` is given. Answers any
   * other error with INTERNAL, without details. Every error is logged.
   */
  #handler<Request, Response>(make: (request: Request) => Response, expected?: code) {
    return (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>): void => {
      if (isMalformed(call.request)) {
        callback({ code: code.INVALID_ARGUMENT, details: 'the request is not a message of the type that this call expects' });
        return;
      }
      let response: Response;
      try {
        response = make(call.request);
      } catch (err) {
        this.#options.log?.error({ err, call: call.getPath() }, 'API call failed');
        if (expected !== undefined && (err instanceof ExitError || err instanceof KernelError)) {
          callback({ code: expected, details: err.message });
          return;
        }
        callback({ code: code.INTERNAL, details: 'the call failed unexpectedly; the log of the agent contains the error' });
        return;
      }
      callback(null, response);
    };
  }
}
