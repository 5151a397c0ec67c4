// SPDX-License-Identifier: Apache-2.0
// gRPC reflection with the file descriptors of a protobuf compiler (proto/build.ts). The descriptors that @grpc/proto-loader makes are not
// used: they have other field names, and wrong reserved ranges and map entries. While a client does not read its responses, no further
// request is read from its stream. Called by grpc.ts.
import { type Server, type ServerDuplexStream, status as code } from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';

import { idleReflectionMs, maxReflections } from './limits.ts';

type Stream = ServerDuplexStream<unknown, unknown>;
type Handler = (stream: Stream) => void;

/** Serves reflection v1 and v1alpha for the files, which are serialized FileDescriptorProtos. */
export function addReflection(server: Server, files: readonly Buffer[]): void {
  let open = 0;
  const limited =
    (handler: Handler): Handler =>
    (stream) => {
      if (open >= maxReflections) {
        stream.emit('error', { code: code.RESOURCE_EXHAUSTED, details: `${maxReflections} reflection streams are open: try again later` });
        return;
      }
      open += 1;
      const idle = setTimeout(() => stream.end(), idleReflectionMs).unref();
      stream.once('cancelled', () => {
        open -= 1;
        clearTimeout(idle);
      });
      handler(stream);
      // The handler registered its listener earlier, so the handler has already written the answer when this listener runs.
      stream.on('data', () => {
        idle.refresh();
        if (!stream.writableNeedDrain) return;
        stream.pause();
        stream.once('drain', () => stream.resume());
      });
    };
  // The service reads only the file descriptors of the definition.
  const definition = { files: { fileDescriptorProtos: files } } as unknown as PackageDefinition;
  new ReflectionService(definition).addToServer({
    addService: (service, implementation) => {
      const { ServerReflectionInfo: handler } = implementation as unknown as { ServerReflectionInfo: Handler };
      server.addService(service, { ServerReflectionInfo: limited(handler) });
    },
  });
}
