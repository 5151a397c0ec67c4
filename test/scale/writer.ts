// SPDX-License-Identifier: Apache-2.0
// A process that writes to an API server: fills it with the objects of objects.ts, then changes EndpointSlices, one at a time
// or so many a second. A line of JSON on stdin is an order, the next line on stdout is the answer to it. It has its times from
// the monotonic clock that all processes of a machine share. Argument: a kubeconfig of JSON with a token.
import { readFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { createInterface } from 'node:readline';
import { lastAddress, NAMESPACE, serviceOf, servicesPath, sliceName, sliceOf, slicesPath, vipOf } from './objects.ts';

export type Order =
  /** Creates the Services and slices from number `from` on. */
  | { readonly do: 'fill'; readonly from: number; readonly count: number; readonly endpoints: number }
  /** Moves one endpoint of one slice after the other, with a pause between them. */
  | { readonly do: 'one by one'; readonly services: number; readonly endpoints: number; readonly count: number; readonly pauseMs: number }
  /** Moves all endpoints of so many slices a second, evenly, whether or not the server keeps up. */
  | { readonly do: 'churn'; readonly services: number; readonly endpoints: number; readonly perSecond: number; readonly seconds: number };

/** Of one slice. Times in ms of the monotonic clock. */
export interface Written {
  readonly vip: string;
  /** lastAddress() from now on. */
  readonly address: string;
  readonly sent: number;
  readonly answered: number;
}

const IN_FLIGHT = 30;
/** Services change in this stride, so that neighbours in one list are not neighbours in time. */
const STRIDE = 7919;

interface Kubeconfig {
  readonly clusters: readonly [{ readonly cluster: { readonly server: string; readonly 'certificate-authority': string } }];
  readonly users: readonly [{ readonly user: { readonly token: string } }];
}

const kubeconfig = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Kubeconfig;
const { server, 'certificate-authority': caFile } = kubeconfig.clusters[0].cluster;
const { token } = kubeconfig.users[0].user;
const session = connect(server, { ca: readFileSync(caFile) });
const generations = new Map<number, number>();
let turns = 0;

const now = (): number => Number(process.hrtime.bigint()) / 1e6;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Resolves with the status when it is there and the body was read. */
function send(method: 'POST' | 'PUT', path: string, object: object): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { ':path': path, ':method': method, 'content-type': 'application/json', authorization: `Bearer ${token}` };
    const stream = session.request(headers);
    let status = 0;
    let answer = '';
    stream.setEncoding('utf8');
    stream.on('response', (got) => (status = Number(got[':status'])));
    stream.on('data', (chunk: string) => (answer += chunk));
    stream.on('end', () =>
      status < 300 || status === 409 ? resolve(status) : reject(new Error(`${method} ${path}: ${status} ${answer}`)),
    );
    stream.on('error', reject);
    stream.end(JSON.stringify(object));
  });
}

async function fill({ from, count, endpoints }: Order & { do: 'fill' }): Promise<void> {
  // It may be there: 409.
  await send('POST', '/api/v1/namespaces', { metadata: { name: NAMESPACE } });
  let at = from;
  const worker = async (): Promise<void> => {
    while (at < from + count) {
      const n = at;
      at += 1;
      await send('POST', servicesPath, serviceOf(n));
      await send('POST', slicesPath, sliceOf(n, endpoints));
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

/** The next slice in the stride takes its next turn. */
async function move({ services, endpoints, moved }: { services: number; endpoints: number; moved: number }): Promise<Written> {
  const n = (turns * STRIDE) % services;
  turns += 1;
  const generation = (generations.get(n) ?? 0) + 1;
  generations.set(n, generation);
  const sent = now();
  const turn = { generation, moved, at: new Date() };
  await send('PUT', `${slicesPath}/${sliceName(n)}`, sliceOf(n, endpoints, turn));
  return { vip: vipOf(n), address: lastAddress(n, endpoints, turn), sent, answered: now() };
}

async function oneByOne({ count, pauseMs, ...size }: Order & { do: 'one by one' }): Promise<Written[]> {
  const written: Written[] = [];
  for (let i = 0; i < count; i += 1) {
    written.push(await move({ ...size, moved: 1 }));
    await pause(pauseMs);
  }
  return written;
}

async function churn({ perSecond, seconds, ...size }: Order & { do: 'churn' }): Promise<Written[]> {
  const began = now();
  const moving: Promise<Written>[] = [];
  while (moving.length < perSecond * seconds) {
    const due = Math.min(perSecond * seconds, ((now() - began) / 1000) * perSecond);
    while (moving.length < due) moving.push(move({ ...size, moved: size.endpoints }));
    await pause(1);
  }
  return Promise.all(moving);
}

async function obey(order: Order): Promise<unknown> {
  switch (order.do) {
    case 'fill':
      return fill(order);
    case 'one by one':
      return oneByOne(order);
    case 'churn':
      return churn(order);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await obey(JSON.parse(line) as Order);
  process.stdout.write(`${JSON.stringify(answer ?? 'done')}\n`);
}
session.close();
