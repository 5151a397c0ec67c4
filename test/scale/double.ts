// SPDX-License-Identifier: Apache-2.0
// The double of the API server as a process, over HTTP/2 on the loopback with TLS, holding what orders.ts is told to: for
// clusters that a real API server cannot carry on this machine, and where one would take the CPUs. Argument: where to write a
// kubeconfig for it. Its first line says that it is there.
import { writeFileSync } from 'node:fs';
import { systemClock } from '../../daemon/clock.ts';
import { ApiServer } from '../double/api-server.ts';
import { makeCertificates } from '../double/certificates.ts';
import { serveHttp2 } from '../double/http2-server.ts';
import { obeyOrders, type ScaleObject } from './orders.ts';

const PIECE = 1 << 16;

const api = new ApiServer(systemClock);
api.pieceBytes = PIECE;
const tls = makeCertificates();
const served = await serveHttp2(api, { tls });
const cluster = { server: served.url.origin, 'certificate-authority-data': Buffer.from(tls.ca).toString('base64') };
const kubeconfig = {
  ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'double' },
  clusters: [{ name: 'double', cluster }],
  users: [{ name: 'double', user: { token: 'any' } }],
  contexts: [{ name: 'double', context: { cluster: 'double', user: 'double' } }],
};
// JSON is YAML.
writeFileSync(process.argv[2] ?? '', JSON.stringify(kubeconfig), { mode: 0o600 });
process.stdout.write('ready\n');

const put = (object: ScaleObject): Promise<void> => {
  api.put(object);
  return Promise.resolve();
};

await obeyOrders({ create: put, replace: put });
await served.close();
