// SPDX-License-Identifier: Apache-2.0
// Reads sluice.proto at run time, for the server (daemon/api/) and the client (daemon/cli/) alike, so that both sides
// convert values in the same way: 64-bit numbers are decimal strings, enums are names, absent fields are their defaults.
import { type GrpcObject, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';
import { fileURLToPath } from 'node:url';

import type { ProtoGrpcType } from './gen/sluice.ts';

/** The API's service and messages. A BigInt given to a 64-bit field encodes 0 without an error: give strings. */
export function loadSluice(): { readonly definition: PackageDefinition; readonly sluice: ProtoGrpcType['sluice']['v1'] } {
  const definition = loadSync('sluice/v1/sluice.proto', {
    includeDirs: [fileURLToPath(new URL('.', import.meta.url))],
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const loaded: GrpcObject = loadPackageDefinition(definition);
  return { definition, sluice: (loaded as unknown as ProtoGrpcType).sluice.v1 };
}
