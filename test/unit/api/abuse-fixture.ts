// SPDX-License-Identifier: Apache-2.0
// A client of the gRPC API that does what a gRPC library never does: it leaves requests incomplete and responses unread. It speaks
// HTTP/2 on the Unix socket, with one connection.
import type { IncomingHttpHeaders } from 'node:http';
import { connect as connectHttp2, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { connect } from 'node:net';

export interface RawStatus {
  readonly code: string;
  readonly message: string;
}

export class RawClient {
  readonly session: ClientHttp2Session;
  /** Resolves when the connection is closed. */
  readonly closed: Promise<void>;

  /** `window` is the number of bytes of a response that this client accepts before it reads them. */
  constructor(socketPath: string, window = 65_535) {
    const settings = { initialWindowSize: window };
    this.session = connectHttp2('http://localhost', { createConnection: () => connect(socketPath), settings });
    this.session.on('error', () => undefined);
    this.closed = new Promise((resolve) => void this.session.once('close', () => resolve()));
  }

  /** Begins a call and sends the serialized messages. The response is not read until the stream is resumed. */
  call(path: string, messages: readonly Buffer[], { isComplete = true } = {}): ClientHttp2Stream {
    const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
    const stream = this.session.request(headers);
    stream.on('error', () => undefined);
    for (const message of messages) {
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(message.length, 1);
      stream.write(Buffer.concat([prefix, message]));
    }
    if (isComplete) stream.end();
    return stream;
  }

  close(): void {
    this.session.destroy();
  }
}

/** The gRPC status of a call, which is in the headers when there is no response message. */
export function statusOf(stream: ClientHttp2Stream): Promise<RawStatus> {
  return new Promise((resolve) => {
    const take = (headers: IncomingHttpHeaders): void => {
      const [code, message] = [headers['grpc-status'], headers['grpc-message']];
      if (typeof code === 'string') resolve({ code, message: typeof message === 'string' ? decodeURI(message) : '' });
    };
    stream.on('response', take).on('trailers', take);
    stream.once('close', () => resolve({ code: 'closed', message: '' }));
  });
}
