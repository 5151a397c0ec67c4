// SPDX-License-Identifier: Apache-2.0
// The double for a daemon in another process: over HTTP/2 on the loopback with TLS, and a kubeconfig by which it is found.
import { writeFileSync } from 'node:fs';
import { systemClock } from '../../../daemon/base/clock.ts';
import { ApiServer } from './api-server.ts';
import { makeCertificates } from './certificates.ts';
import { serveHttp2 } from './http2-server.ts';

/** As large as the frames of HTTP/2 let a piece be worth it. */
const PIECE = 1 << 16;

/** `kubeconfig` is where that is written, before this resolves. */
export async function serveDouble(kubeconfig: string): Promise<{ readonly api: ApiServer; readonly close: () => Promise<void> }> {
  const api = new ApiServer(systemClock);
  api.pieceBytes = PIECE;
  const tls = makeCertificates();
  const served = await serveHttp2(api, { tls });
  const cluster = { server: served.url.origin, 'certificate-authority-data': Buffer.from(tls.ca).toString('base64') };
  const config = {
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'double' },
    clusters: [{ name: 'double', cluster }],
    users: [{ name: 'double', user: { token: 'any' } }],
    contexts: [{ name: 'double', context: { cluster: 'double', user: 'double' } }],
  };
  // JSON is YAML.
  writeFileSync(kubeconfig, JSON.stringify(config), { mode: 0o600 });
  return { api, close: () => served.close() };
}
