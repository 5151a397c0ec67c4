// SPDX-License-Identifier: Apache-2.0
// A process that carries out the orders of orders.ts on an API server, over HTTP/2. Argument: a kubeconfig in JSON
// with a token. cluster.ts starts it.
import { readFileSync } from 'node:fs';
import { type ClientHttp2Session, connect } from 'node:http2';
import { NAMESPACE, servicesPath, slicesPath } from './objects.ts';
import { carryOutOrders, type ScaleObject } from './orders.ts';

interface Kubeconfig {
  readonly clusters: readonly [{ readonly cluster: { readonly server: string; readonly 'certificate-authority': string } }];
  readonly users: readonly [{ readonly user: { readonly token: string } }];
}

const kubeconfig = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Kubeconfig;
const { server, 'certificate-authority': caFile } = kubeconfig.clusters[0].cluster;
const { token } = kubeconfig.users[0].user;
const ca = readFileSync(caFile);

let connection: ClientHttp2Session | undefined;

/** The connection. The server may have closed the last one, because nothing was written for a while. */
function session(): ClientHttp2Session {
  if (connection === undefined || connection.closed || connection.destroyed) connection = connect(server, { ca });
  return connection;
}

/** Reads and discards a response. Resolves when the whole response has been read. */
function send(method: 'POST' | 'PUT', path: string, object: object): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { ':path': path, ':method': method, 'content-type': 'application/json', authorization: `Bearer ${token}` };
    const stream = session().request(headers);
    let status = 0;
    let answer = '';
    stream.setEncoding('utf8');
    stream.on('response', (got) => (status = Number(got[':status'])));
    stream.on('data', (chunk: string) => (answer += chunk));
    stream.on('end', () => {
      const isThere = method === 'POST' && status === 409;
      if (status < 300 || isThere) resolve();
      else reject(new Error(`${method} ${path}: ${status} ${answer}`));
    });
    stream.on('error', reject);
    stream.end(JSON.stringify(object));
  });
}

const collectionOf = ({ kind }: ScaleObject): string => (kind === 'Service' ? servicesPath : slicesPath);

await send('POST', '/api/v1/namespaces', { metadata: { name: NAMESPACE } });
await carryOutOrders({
  create: (object) => send('POST', collectionOf(object), object),
  replace: (object) => send('PUT', `${collectionOf(object)}/${object.metadata.name}`, object),
});
connection?.close();
