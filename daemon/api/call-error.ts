// SPDX-License-Identifier: Apache-2.0
// The error with which a handler of the gRPC API rejects a call. Its message goes to the client, so it must contain no internals.
import type { status as code } from '@grpc/grpc-js';

export class CallError extends Error {
  readonly code: code;

  constructor(status: code, message: string) {
    super(message);
    this.name = 'CallError';
    this.code = status;
  }
}
