// SPDX-License-Identifier: Apache-2.0
// The check that reports configured ports which are already in use. Most tests pass lines of /proc/net/tcp and /proc/net/tcp6 to the
// check. One test uses a real socket.
import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';

import { CheckWarning } from '../../../daemon/base/check.ts';
import { portChecks } from '../../../daemon/host/ports.ts';

const header = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';
const line = (local: string, state = '0A'): string => `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0`;
const none = { http: undefined, healthzBindAddress: undefined, metricsBindAddress: undefined };

/** "free" or "in use" for the port of --metrics-bind-address. An error other than the warning is returned as its text. */
function resultOf(address: string, lines: readonly string[]): string {
  const [check] = portChecks({ ...none, metricsBindAddress: { address, port: 10_249 } }, () => [header, ...lines].map(String));
  try {
    check?.run();
    return 'free';
  } catch (error) {
    return error instanceof CheckWarning ? 'in use' : String(error);
  }
}

describe('a port is in use if a socket listens on it, on the same address or on all addresses', () => {
  test.for([
    { name: 'the same IPv4 address', address: '127.0.0.1', lines: [line('0100007F:2809')], want: 'in use' },
    { name: 'all IPv4 addresses', address: '127.0.0.1', lines: [line('00000000:2809')], want: 'in use' },
    { name: 'all addresses of both families', address: '127.0.0.1', lines: [line(`${'0'.repeat(32)}:2809`)], want: 'in use' },
    { name: 'one address, when all are configured', address: '0.0.0.0', lines: [line('0100007F:2809')], want: 'in use' },
    { name: 'the same IPv6 address', address: '::1', lines: [line('00000000000000000000000001000000:2809')], want: 'in use' },
    { name: 'another address', address: '127.0.0.1', lines: [line('0200007F:2809')], want: 'free' },
    { name: 'another port', address: '127.0.0.1', lines: [line('0100007F:2808')], want: 'free' },
    { name: 'a connection, which does not listen', address: '127.0.0.1', lines: [line('0100007F:2809', '01')], want: 'free' },
    { name: 'no socket', address: '127.0.0.1', lines: [], want: 'free' },
  ])('with a socket line for $name, the port is $want', ({ address, lines, want }) => expect(resultOf(address, lines)).toBe(want));
});

test('each configured port is checked against the sockets of the kernel, and the warning names the flag', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen({ port: 0, host: '127.0.0.1' }, resolve));
  const { port } = server.address() as { port: number };
  const place = { address: '127.0.0.1', port };
  const checks = portChecks({ http: place, healthzBindAddress: place, metricsBindAddress: place });
  const messages = checks.map(({ run }) => {
    try {
      return run();
    } catch (error) {
      return (error as Error).message;
    }
  });
  await new Promise((resolve) => server.close(resolve));
  expect(messages.map((message) => /in use \((--[a-z-]+): /.exec(message)?.[1])).toEqual([
    '--http',
    '--healthz-bind-address',
    '--metrics-bind-address',
  ]);
});
