// SPDX-License-Identifier: Apache-2.0
// Loads sluice.proto at run time, for the server (daemon/api/) and for the client (daemon/cli/). Both must convert values in
// the same way: 64-bit integers are decimal strings, enums are names, and absent fields have their default values.
import { type GrpcObject, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';

import type { ProtoGrpcType } from './gen/sluice.ts';

/** Maximum number of packets in an Explain request; see sluice.proto. */
export const maxPackets = 128;

/** The services and messages of the API. Set 64-bit fields to strings: a BigInt is encoded as 0, without an error. */
export function loadSluice(): ProtoGrpcType['sluice']['v1'] {
  const definition = loadSync('sluice/v1/sluice.proto', {
    includeDirs: [fileURLToPath(new URL('.', import.meta.url))],
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const loaded: GrpcObject = loadPackageDefinition(definition);
  return (loaded as unknown as ProtoGrpcType).sluice.v1;
}

/** The serialized FileDescriptorProto of each .proto file of the services that the daemon serves, as the compiler wrote it. */
export function fileDescriptors(): Buffer[] {
  const reader = protobuf.Reader.create(readFileSync(new URL('gen/descriptors.binpb', import.meta.url)));
  const files: Buffer[] = [];
  while (reader.pos < reader.len) {
    // The only field of a FileDescriptorSet: repeated FileDescriptorProto file = 1.
    reader.uint32();
    files.push(Buffer.from(reader.bytes()));
  }
  return files;
}
