// SPDX-License-Identifier: Apache-2.0
// Open flows while backends change (test/README.md, 6.6 and 13): a UDP flow moves to a current backend with its next packet, and a
// TCP connection stays with its backend, also if the daemon or a backend ends. Each flow uses one socket for the whole test. The
// servers answer with their names.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster } from '../support/lab/cluster.ts';
import { service, slices } from '../support/lab/daemon.ts';
import { labNodes } from '../support/lab/lab.ts';
import { OpenSocket } from '../support/lab/peers.ts';

const families = ['IPv4', 'IPv6'] as const;
const nodeA = labNodes['node-a'].addresses;
const vip = (n: number): { IPv4: string; IPv6: string } => ({ IPv4: `10.96.2.${n}`, IPv6: `fd00:96::2:${n}` });
const nodePort = (n: number, spec: object = {}): object =>
  service(`port-${n}`, vip(n), { nodePorts: { web: 30_000 + n, dns: 31_000 + n }, spec: { type: 'NodePort', ...spec } });

describe.each([{ hasSocketLb: true }, { hasSocketLb: false }])('socket translation: $hasSocketLb', ({ hasSocketLb }) => {
  let cluster: Cluster;

  beforeAll(async () => {
    cluster = await Cluster.start({ pods: [1, 2, 9, 101], servers: [1, 2, 101], hasSocketLb });
  });

  afterAll(() => cluster.close());

  /** Opens a socket of each kind for each client. */
  const holdEach = (n: number, kinds: readonly ('tcp' | 'udp' | 'connected')[]): Promise<{ who: string; held: OpenSocket }[]> => {
    const wanted = kinds.flatMap((kind) =>
      families.flatMap((family) => {
        const [own, outside] = kind === 'tcp' ? [80, 30_000 + n] : [53, 31_000 + n];
        return [
          { netns: 'pod9', kind, address: vip(n)[family], port: own },
          { netns: 'node', kind, address: vip(n)[family], port: own },
          { netns: 'client', kind, address: vip(n)[family], port: own },
          { netns: 'client', kind, address: nodeA[family], port: outside },
          { netns: 'pod9', kind, address: nodeA[family], port: outside },
        ];
      }),
    );
    return Promise.all(
      wanted.map(async ({ netns, ...to }) => ({
        who: `${netns} ${to.kind} ${to.address}`,
        held: await OpenSocket.start(cluster.lab, netns, to),
      })),
    );
  };
  const askEach = async (each: readonly { who: string; held: OpenSocket }[]): Promise<Record<string, string>> =>
    Object.fromEntries(await Promise.all(each.map(async ({ who, held }): Promise<[string, string]> => [who, await held.ask()])));
  const allAre = (each: readonly { who: string }[], server: string): Record<string, string> =>
    Object.fromEntries(each.map(({ who }) => [who, server]));
  const endEach = (each: readonly { held: OpenSocket }[]): Promise<unknown> => Promise.all(each.map(({ held }) => held.process.kill()));

  test('a connected or unconnected UDP socket moves to a current backend with its next packet', async () => {
    await cluster.apply('udp.yaml', nodePort(1), ...slices('port-1', [1]));
    const each = await holdEach(1, ['udp', 'connected']);
    expect(await askEach(each)).toEqual(allAre(each, 'pod1'));
    // The backend exists but no longer serves.
    const leaving = { pod: 1, conditions: { ready: false, serving: false, terminating: true } };
    await cluster.apply('udp.yaml', nodePort(1), ...slices('port-1', [leaving, 101]));
    expect(await askEach(each)).toEqual(allAre(each, 'pod101'));
    // The backend is removed.
    await cluster.apply('udp.yaml', nodePort(1), ...slices('port-1', [2]));
    expect(await askEach(each)).toEqual(allAre(each, 'pod2'));
    // The backend terminates and still serves: existing flows keep it.
    const serving = { pod: 2, conditions: { ready: false, serving: true, terminating: true } };
    await cluster.apply('udp.yaml', nodePort(1), ...slices('port-1', [serving, 1]));
    expect(await askEach(each)).toEqual(allAre(each, 'pod2'));
    await endEach(each);
  });

  test('a UDP flow that began without a backend is served when a backend appears', async () => {
    await cluster.apply('early.yaml', nodePort(2), ...slices('port-2', []));
    const each = await holdEach(2, ['udp', 'connected']);
    for (const [who, heard] of Object.entries(await askEach(each)))
      expect(heard, who).toBe(who.includes('connected') ? 'ECONNREFUSED' : 'timeout');
    await cluster.apply('early.yaml', nodePort(2), ...slices('port-2', [101]));
    expect(await askEach(each)).toEqual(allAre(each, 'pod101'));
    await endEach(each);
  });

  test('a TCP connection stays with its backend when the Service changes and the daemon is killed', async () => {
    const objects = (spec: object, backends: readonly number[]): object[] => [nodePort(3, spec), ...slices('port-3', backends)];
    await cluster.apply('tcp.yaml', ...objects({}, [1]));
    const local = await holdEach(3, ['tcp']);
    expect(await askEach(local)).toEqual(allAre(local, 'pod1'));
    await cluster.apply('tcp.yaml', ...objects({}, [101]));
    const remote = await holdEach(3, ['tcp']);
    const stay = async (): Promise<void> => {
      expect(await askEach(remote)).toEqual(allAre(remote, 'pod101'));
      expect(await askEach(local)).toEqual(allAre(local, 'pod1'));
    };
    await stay();
    await cluster.apply('tcp.yaml', ...objects({ externalTrafficPolicy: 'Local', internalTrafficPolicy: 'Local' }, [2]));
    await stay();
    await cluster.apply('tcp.yaml', ...objects({ externalTrafficPolicy: 'Local', internalTrafficPolicy: 'Local' }, []));
    await stay();
    for (const daemon of cluster.daemons) await daemon.process?.kill('SIGKILL');
    await stay();
    await Promise.all(cluster.daemons.map((daemon) => cluster.startDaemon(daemon)));
    await stay();
    // The Service is deleted.
    await cluster.apply('tcp.yaml');
    await stay();
    await endEach([...local, ...remote]);
  });
});
