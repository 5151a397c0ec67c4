// SPDX-License-Identifier: Apache-2.0
// Handles requests that cannot be decoded. gRPC would answer such a request with the message of the protobuf library. This file replaces
// the request by a marker, so that the handler can answer with a message of Sluice. Called by grpc.ts.
import type { ServiceDefinition } from '@grpc/grpc-js';

/** Takes the place of a request whose bytes are not a message of the expected type. */
const malformed = Symbol('malformed request');

/** The service with decoders that never throw. For a request that cannot be decoded, they return the marker. */
export function tolerant<T>(service: ServiceDefinition<T>): ServiceDefinition<T> {
  const methods = Object.entries<ServiceDefinition[string]>(service as ServiceDefinition).map(([name, method]) => {
    const requestDeserialize = (bytes: Buffer): unknown => {
      try {
        return method.requestDeserialize(bytes) as unknown;
      } catch {
        return malformed;
      }
    };
    return [name, { ...method, requestDeserialize }];
  });
  return Object.fromEntries(methods) as ServiceDefinition<T>;
}

export const isMalformed = (request: unknown): boolean => request === malformed;
