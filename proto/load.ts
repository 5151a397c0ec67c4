// SPDX-License-Identifier: Apache-2.0
// Loads sluice.proto at run time, for the server (daemon/api/) and for the client (daemon/cli/). Both must convert values in
// the same way: 64-bit integers are decimal strings, enums are names, and absent fields have their default values.
import { type GrpcObject, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';
import { fileURLToPath } from 'node:url';

import type { ProtoGrpcType } from './gen/sluice.ts';

/** The services and messages of the API. Set 64-bit fields to strings: a BigInt is encoded as 0, without an error. */
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
