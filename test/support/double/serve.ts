// SPDX-License-Identifier: Apache-2.0
// Serves the double to a daemon in another process: over HTTP/2 with TLS on the loopback interface, with a kubeconfig for it.
import { writeFileSync } from 'node:fs';
import { systemClock } from '../../../daemon/base/clock.ts';
import { ApiServer } from './api-server.ts';
import { makeCertificates } from './certificates.ts';
import { serveHttp2 } from './http2-server.ts';

/** Larger pieces are no faster, because HTTP/2 splits them into frames. */
const PIECE_BYTES = 1 << 16;

/** Writes a kubeconfig to this path before it resolves. */
export async function serveDouble(kubeconfig: string): Promise<{ readonly api: ApiServer; readonly close: () => Promise<void> }> {
  const api = new ApiServer(systemClock);
  api.pieceBytes = PIECE_BYTES;
  const tls = makeCertificates();
  const server = await serveHttp2(api, { tls });
  const cluster = { server: server.url.origin, 'certificate-authority-data': Buffer.from(tls.ca).toString('base64') };
  const config = {
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'double' },
    clusters: [{ name: 'double', cluster }],
    users: [{ name: 'double', user: { token: 'any' } }],
    contexts: [{ name: 'double', context: { cluster: 'double', user: 'double' } }],
  };
  // JSON is YAML.
  writeFileSync(kubeconfig, JSON.stringify(config), { mode: 0o600 });
  return { api, close: () => server.close() };
}
