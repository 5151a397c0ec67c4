// SPDX-License-Identifier: Apache-2.0
// Probes and metrics with injected requests. One test binds a port, for the error of a port that is in use.
import { connect } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';

import { buildHttp, listenHttp } from '../../../daemon/api/http.ts';
import { eventLoopMetrics } from '../../../daemon/api/event-loop.ts';
import { buildMetrics, httpMetrics, metricsPage, processMetrics } from '../../../daemon/api/metrics.ts';
import { KernelError, ExitError } from '../../../daemon/base/errors.ts';
import { HttpServers } from '../../../daemon/base/http-servers.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { FakeView, troubledStatus } from './fixture.ts';

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const task of undo.splice(0)) await task();
});

function makeHttp() {
  const view = new FakeView();
  const clock = new FakeClock();
  const errors: unknown[] = [];
  const metrics = buildMetrics({ view, versions: view.current });
  const page = metricsPage(metrics, { clock, onError: (error) => errors.push(error) });
  const http = buildHttp({ view, page, servers: new HttpServers(), clock });
  undo.push(() => http.close());
  return { view, http, clock, errors };
}

describe('probes', () => {
  test('a ready agent passes both probes', async () => {
    const { http } = makeHttp();
    expect((await http.inject('/healthz')).json()).toEqual({ status: 'ok' });
    const ready = await http.inject('/readyz');
    expect([ready.statusCode, ready.json()]).toEqual([200, { ready: true, reasons: [] }]);
  });

  test('an agent that is not ready passes /healthz, and /readyz returns the reasons', async () => {
    const { view, http } = makeHttp();
    view.current = troubledStatus;
    expect((await http.inject('/healthz')).statusCode).toBe(200);
    const ready = await http.inject('/readyz');
    expect([ready.statusCode, ready.json()]).toEqual([503, { ready: false, reasons: troubledStatus.reasons }]);
  });
});

describe('errors are problem documents', () => {
  test.for([
    { name: 'unknown path', request: { method: 'GET' as const, url: '/nothing' }, status: 404, title: 'Not Found' },
    { name: 'unknown method', request: { method: 'POST' as const, url: '/healthz' }, status: 404, title: 'Not Found' },
    { name: 'malformed path', request: { method: 'GET' as const, url: '/%E0%A4' }, status: 400, title: 'Bad Request' },
  ])('a request with an error is answered with a problem document: $name', async ({ request, status, title }) => {
    const response = await makeHttp().http.inject(request);
    expect(response.headers['content-type']).toMatch('application/problem+json');
    expect(response.json()).toMatchObject({ type: 'about:blank', title, status });
    expect(response.statusCode).toBe(status);
  });

  test.for([
    { name: 'HTTP/2', bytes: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', status: 400 },
    { name: 'a control character in the path', bytes: 'GET /\u001b[31m HTTP/1.1\r\nHost: x\r\n\r\n', status: 400 },
    { name: 'headers of 9 KB', bytes: `GET /healthz HTTP/1.1\r\nHost: x\r\nA: ${'x'.repeat(9000)}\r\n\r\n`, status: 431 },
  ])('bytes that are no request: $name', async ({ bytes, status }) => {
    const port = await listenHttp(makeHttp().http, { address: '127.0.0.1', port: 0 });
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    let answer = '';
    for await (const piece of socket.setEncoding('utf8')) answer += piece as string;
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    expect(head).toContain(`HTTP/1.1 ${status} `);
    expect(head).toContain('application/problem+json');
    expect(JSON.parse(body)).toMatchObject({ type: 'about:blank', status });
  });

  test('the error of a failing view contains neither errno nor stack trace', async () => {
    const { view, http, errors } = makeHttp();
    view.failure = new KernelError({ op: 'map look-up', object: 'ct4', errno: 9, code: 'EBADF' });
    const response = await http.inject('/metrics');
    await http.inject('/metrics');
    expect(errors).toEqual([view.failure]);
    expect(response.json()).toEqual({
      type: 'about:blank',
      title: 'Internal Server Error',
      status: 500,
      detail: 'the call failed unexpectedly; the log of the agent contains the error',
    });
  });

  test('a port in use is an error that names the flag', async () => {
    const first = makeHttp().http;
    const port = await listenHttp(first, { address: '127.0.0.1', port: 0 });
    const error: unknown = await listenHttp(makeHttp().http, { address: '127.0.0.1', port }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ExitError);
    expect(String(error)).toContain('--http');
  });
});

describe('/metrics', () => {
  const samples = (text: string): string[] => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

  test('/metrics reads the view again if the last scrape was more than a second ago', async () => {
    const { view, http, clock } = makeHttp();
    const first = await http.inject('/metrics');
    expect(first.headers['content-type']).toMatch('text/plain');
    expect(samples(first.body).map((line) => line.replace(process.version, 'NODE'))).toMatchInlineSnapshot(`
      [
        "sluice_build_info{version="0.1.0",commit="abc1234",libbpf="1.5.0",kernel="6.18.0",node_version="NODE"} 1",
        "sluice_ready 1",
        "sluice_services 10",
        "sluice_frontends 12",
        "sluice_backends 30",
        "sluice_reconcile_rows{status="done"} 12",
        "sluice_reconcile_rows{status="pending"} 0",
        "sluice_reconcile_rows{status="error"} 0",
        "sluice_source_problems{source="files /etc/sluice"} 0",
        "sluice_repairs_total 0",
        "sluice_log_lines_dropped_total 0",
        "sluice_drop_count_total{reason="no backend"} 9007199254740992",
        "sluice_drop_bytes_total{reason="no backend"} 540",
        "sluice_bpf_map_capacity{map_name="lb4_frontends"} 65536",
        "sluice_bpf_map_capacity{map_name="ct4"} 262144",
        "sluice_bpf_map_pressure{map_name="lb4_frontends"} 0.00018310546875",
      ]
    `);
    const drops = ['no backend', 'no route'].map((reason, index) => ({ reason, packets: BigInt(7 - 7 * index), bytes: 0n }));
    view.current = { ...troubledStatus, drops };
    clock.advance(1000);
    expect(samples((await http.inject('/metrics')).body).filter((line) => !line.includes('build_info'))).toMatchInlineSnapshot(`
      [
        "sluice_ready 0",
        "sluice_services 10",
        "sluice_frontends 12",
        "sluice_backends 30",
        "sluice_reconcile_rows{status="done"} 10",
        "sluice_reconcile_rows{status="pending"} 1",
        "sluice_reconcile_rows{status="error"} 1",
        "sluice_source_problems{source="files /etc/sluice"} 2",
        "sluice_repairs_total 3",
        "sluice_log_lines_dropped_total 0",
        "sluice_drop_count_total{reason="no backend"} 7",
        "sluice_drop_count_total{reason="no route"} 0",
        "sluice_drop_bytes_total{reason="no backend"} 0",
        "sluice_drop_bytes_total{reason="no route"} 0",
        "sluice_bpf_map_capacity{map_name="lb4_frontends"} 100",
        "sluice_bpf_map_pressure{map_name="lb4_frontends"} 0.95",
      ]
    `);
  });

  test('/metrics is computed at most once a second, however many callers ask, and simultaneous callers share the page', async () => {
    const { view, http, clock } = makeHttp();
    const scrape = async (count: number): Promise<number> => {
      const responses = await Promise.all(Array.from({ length: count }, () => http.inject('/metrics')));
      expect(responses.every(({ statusCode, body }) => statusCode === 200 && body === responses[0]?.body)).toBe(true);
      return view.statusCalls;
    };
    expect(await scrape(500)).toBe(1);
    clock.advance(999);
    expect(await scrape(500)).toBe(1);
    clock.advance(1);
    expect(await scrape(500)).toBe(2);
  });

  test('the probes do not compute the status, and do not determine the readiness for each request', async () => {
    const { view, http, clock } = makeHttp();
    for (let count = 0; count < 100; count += 1) await Promise.all([http.inject('/healthz'), http.inject('/readyz')]);
    expect([view.statusCalls, view.healthCalls]).toEqual([0, 1]);
    view.current = troubledStatus;
    clock.advance(250);
    expect((await http.inject('/readyz')).statusCode).toBe(503);
  });

  test('the metric of the event loop delay includes a pause of the process, and does not depend on how often it is scraped', async () => {
    const view = new FakeView();
    const metrics = buildMetrics({ view, versions: view.current, also: [eventLoopMetrics] });
    const longest = async (): Promise<number> =>
      Number(/sluice_event_loop_delay_seconds\{quantile="1"\} (\S+)/.exec(await metrics.scrape())?.[1]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await longest()).toBeGreaterThan(0.35);
    expect(await longest()).toBeGreaterThan(0.35);
  });

  test('the metrics count connections, and the connections that were closed to make room for others', async () => {
    const view = new FakeView();
    const metrics = buildMetrics({ view, versions: view.current, also: [httpMetrics({ connections: { open: 3, closed: 70 } })] });
    const text = await metrics.scrape();
    expect(text).toMatch(/^sluice_http_connections 3$/m);
    expect(text).toMatch(/^sluice_http_connections_evicted_total 70$/m);
  });

  test('the metrics of two agents in one process do not conflict, and both include the metrics of the process', async () => {
    const view = new FakeView();
    const options = { view, versions: view.current, also: [processMetrics] };
    const both = [buildMetrics(options), buildMetrics(options)];
    for (const metrics of both) expect(await metrics.scrape()).toContain('process_resident_memory_bytes');
  });
});
