// SPDX-License-Identifier: Apache-2.0
// Tests the HTTP ports of the daemon while clients misuse them. Every probe must be answered in time, whether it comes from the address
// of these clients or from another one. Each port is tested: /healthz of kube-proxy, the health-check node port of a Service, --http and
// --metrics-bind-address. Also tests what the ports answer without misuse, and a port that another process holds.
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Daemon, service, slices } from '../support/lab/daemon.ts';
import { Lab, nodeAddresses } from '../support/lab/lab.ts';
import type { LabProcess } from '../support/lab/process.ts';

const HEALTH_CHECK_PORT = 30_999;
const METRICS = 10_249;
const ports = [10_256, HEALTH_CHECK_PORT, 9880, METRICS];
const PROBES = 41;
/** Maximum time for an answer. It only distinguishes a slow answer from a hung daemon, because the machine of a test run may be loaded. */
const LATEST_MS = 2000;

let lab: Lab;
let daemon: Daemon;

beforeAll(async () => {
  lab = new Lab();
  lab.addPod(1);
  daemon = new Daemon(lab);
  const spec = { type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: HEALTH_CHECK_PORT };
  daemon.write('web.yaml', service('web', undefined, { spec, nodePorts: { web: 30_080, dns: 30_053 } }), ...slices('web', [1]));
  await daemon.start({ hasSocketLb: false, extra: ['--http', '127.0.0.1:9880', '--metrics-bind-address', `127.0.0.1:${METRICS}`] });
});

afterAll(() => lab.close());

interface Answer {
  readonly status: number | string;
  readonly body: string;
  readonly ms: number;
}

/** A process in a namespace that sends one request for each line. */
class Prober {
  readonly #process: LabProcess;

  constructor(netns: string) {
    const script = `
      import { request } from 'node:http';
      import { createInterface } from 'node:readline';
      const ask = (url, localAddress) => new Promise((resolve) => {
        const began = performance.now();
        const end = (status, body) => resolve({ status, body, ms: performance.now() - began });
        const asked = request(url, { localAddress, agent: false, timeout: 10_000 }, (response) => {
          let body = '';
          response.setEncoding('utf8').on('data', (data) => (body += data)).on('end', () => end(response.statusCode, body));
        });
        asked.on('timeout', () => asked.destroy(new Error('timeout'))).on('error', (error) => end(error.code ?? error.message, '')).end();
      });
      for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(await ask(...line.split(' '))));
    `;
    this.#process = lab.start(netns, [process.execPath, '--input-type=module', '-e', script]);
  }

  async get(url: string, localAddress = '127.0.0.1'): Promise<Answer> {
    return JSON.parse(await this.#process.ask(`${url} ${localAddress}`)) as Answer;
  }

  kill(): Promise<number> {
    return this.#process.kill();
  }
}

interface Misuse {
  readonly mode: string;
  readonly port: number;
  readonly count: number;
  readonly sources: readonly string[];
}

const crowd = async ({ mode, port, count, sources }: Misuse): Promise<LabProcess> => {
  const script = join(import.meta.dirname, '../support/lab/crowd.ts');
  const started = lab.start('node', [process.execPath, script, mode, '127.0.0.1', String(port), String(count), ...sources]);
  await started.line((line) => line === 'open');
  return started;
};

describe('without misuse', () => {
  test('port 10249 serves the paths that kube-proxy serves there', async () => {
    const prober = new Prober('node');
    const get = (path: string): Promise<Answer> => prober.get(`http://127.0.0.1:${METRICS}${path}`);
    expect((await get('/proxyMode')).body).toBe('ebpf');
    expect((await get('/healthz')).body).toBe('ok');
    const { body } = await get('/metrics');
    for (const pattern of [
      /^kubeproxy_sync_proxy_rules_last_timestamp_seconds\{ip_family="IPv4"\} \d/m,
      /^kubeproxy_proxy_livez_total\{code="503"\} 0$/m,
      /^sluice_ready 1$/m,
      /^sluice_event_loop_delay_seconds\{quantile="0.99"\} \d/m,
    ])
      expect(body).toMatch(pattern);
    await prober.kill();
  });

  test('every drop reason of the datapath is a metric, with the value 0', async () => {
    const prober = new Prober('node');
    const { body } = await prober.get(`http://127.0.0.1:${METRICS}/metrics`);
    const counted = [...body.matchAll(/^sluice_drop_count_total\{reason="(\w+)"\} 0$/gm)].map(([, reason]) => `DROP_${reason}`);
    const { DropReason } = await import('../../daemon/maps/gen/layouts.ts');
    const reasons = Object.keys(DropReason).filter((name) => name !== 'DROP_NONE' && name !== 'DROP_REASONS');
    expect(counted.toSorted()).toEqual(reasons.toSorted());
    await prober.kill();
  });
});

test.for([
  ...ports.map((port) => ({ mode: 'idle', what: '1,100 idle connections of one source', port, count: 1100, sources: [] })),
  { mode: 'idle', what: '600 idle connections of 300 sources', port: METRICS, count: 600, sources: ['300'] },
  { mode: 'slow', what: '300 connections that send their headers byte by byte', port: 10_256, count: 300, sources: [] },
  { mode: 'half', what: '100 half-closed connections with an incomplete request', port: HEALTH_CHECK_PORT, count: 100, sources: [] },
  { mode: 'pipeline', what: '4 connections that pipeline requests without end', port: 9880, count: 4, sources: [] },
  { mode: 'pipeline', what: '4 connections that pipeline requests without end', port: METRICS, count: 4, sources: [] },
  { mode: 'unread', what: '40 connections that do not read 2,000 responses', port: 9880, count: 40, sources: [] },
])('port $port answers every probe while there are $what', async (misused) => {
  const { port } = misused;
  const misuse = await crowd(misused);
  const prober = new Prober('node');
  try {
    const answers: Answer[] = [];
    for (let round = 0; round < PROBES; round += 1) {
      for (const source of ['127.0.0.1', '127.0.0.77']) answers.push(await prober.get(`http://127.0.0.1:${port}/healthz`, source));
    }
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    expect(Math.max(...answers.map(({ ms }) => ms))).toBeLessThan(LATEST_MS);
  } finally {
    await Promise.all([misuse.kill(), prober.kill()]);
  }
});

test('a connection without a complete request is closed after about 10 s, even if no other connection needs its place', async () => {
  const script = `
    const { connect } = require('node:net');
    for (const text of ['', 'GET / HT', 'GET /healthz HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n']) {
      const began = Date.now();
      const socket = connect({ host: '${nodeAddresses.IPv4}', port: 10256 }, () => text !== '' && socket.write(text));
      socket.resume().on('close', () => console.log('closed after ' + (Date.now() - began)));
    }`;
  const client = lab.start('outside', [process.execPath, '-e', script]);
  await client.ended;
  const times = client.lines.map((line) => Number(line.replace('closed after ', '')));
  expect(times).toHaveLength(3);
  for (const time of times) expect([time > 8000, time < 20_000]).toEqual([true, true]);
});

test('a port that another process holds is reported, does not stop the start, and is opened when it is free', async () => {
  await daemon.process?.kill('SIGTERM');
  const holder = lab.start('node', [
    process.execPath,
    '-e',
    `require('net').createServer().listen(${METRICS}, '127.0.0.1', () => console.log('held'))`,
  ]);
  await holder.line((line) => line === 'held');
  await daemon.start({ hasSocketLb: false, extra: ['--metrics-bind-address', `127.0.0.1:${METRICS}`] });
  const report = `the metrics server cannot listen on port ${METRICS} of 127.0.0.1: the port is in use`;
  await daemon.process?.line((line) => line.includes(report));
  await holder.kill();
  await daemon.process?.line((line) => line.includes(`the metrics server listens on port ${METRICS} of 127.0.0.1 after a retry`));
  const prober = new Prober('node');
  expect((await prober.get(`http://127.0.0.1:${METRICS}/proxyMode`)).status).toBe(200);
  await prober.kill();
});
