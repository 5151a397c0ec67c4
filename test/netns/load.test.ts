// SPDX-License-Identifier: Apache-2.0
// Changes under load. The set of backends alternates between {1,2} and {3,4}. No connection may fail, and each must reach a
// backend of a set that was valid while the connection was made. A change must be in the kernel when the daemon reports it as
// applied. Another test kills the daemon and starts it again: no connection may fail and no message may be lost.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { askServices } from '../../daemon/cli/client.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab, podAddresses } from '../support/lab/lab.ts';
import { Client, Server, Streams } from '../support/lab/peers.ts';

const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const UPDATES = 100;
const BETWEEN_MS = 200;
/**
 * Maximum time from the rename of the file until the daemon reports that the kernel has the change. It only ends a test that
 * hangs.
 */
const LATEST_MS = 30_000;
/** While backends change or the daemon is dead, a client must reach this share of the rate of an undisturbed client. */
const LEAST_SHARE = 1 / 10;
const YARDSTICK_MS = 2000;
/** The sync period is longer than a test, so the daemon reads a file only when the file changes. */
const onlyEvents = ['--sync-period', '1h'];

describe.each([{ hasSocketLb: true }, { hasSocketLb: false }])('socket translation: $hasSocketLb', ({ hasSocketLb }) => {
  let lab: Lab;
  let daemon: Daemon;
  let servers: Server[];
  const sets = [
    [1, 2],
    [3, 4],
  ];

  beforeEach(async () => {
    lab = new Lab();
    for (const number of [1, 2, 3, 4, 9]) lab.addPod(number);
    servers = await Promise.all([1, 2, 3, 4].map((number) => Server.start(lab, { netns: `pod${number}`, name: `pod${number}` })));
    daemon = new Daemon(lab);
    daemon.write('web.yaml', service('web'), ...slices('web', [1, 2]));
    await daemon.start({ hasSocketLb, extra: onlyEvents });
  });

  afterEach(() => lab.close());

  /** Connections per millisecond that this machine makes at the moment: the baseline, without changes of Services. */
  const usualRate = async (client: Client, parallel: number): Promise<number> => {
    const task = { protocol: 'tcp', address: vips.IPv4, port: 80, count: 1e6, parallel, forMs: YARDSTICK_MS } as const;
    const { answers, failures } = await client.ask(task);
    expect(failures).toEqual({});
    return Object.values(answers).reduce((sum, count) => sum + count, 0) / YARDSTICK_MS;
  };

  /** Makes connections until `until.isOver` is true. Returns the number of answered connections; none may fail. */
  const askUntil = async (client: Client, until: { readonly isOver: boolean }): Promise<number> => {
    let answered = 0;
    while (!until.isOver) {
      const result = await client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 1e6, parallel: 4, forMs: 500 });
      expect(result.failures).toEqual({});
      answered += Object.values(result.answers).reduce((sum, count) => sum + count, 0);
    }
    return answered;
  };

  /** Resolves when the daemon reports that the kernel has exactly this set. */
  const applied = async (set: readonly number[]): Promise<void> => {
    const wanted = set.map((number) => `${podAddresses(number).IPv4}:8080`);
    for (const until = monotonic() + LATEST_MS; monotonic() < until;) {
      const { services } = await askServices({ socket: daemon.socket, timeoutMs: LATEST_MS });
      const run = services.find(({ key }) => key === 'default/web:web/TCP/IPv4')?.run ?? [];
      if (
        run
          .map(({ address, port }) => `${address}:${port}`)
          .sort()
          .join() === wanted.join()
      )
        return;
      await pause(1);
    }
    throw new Error(`${wanted.join()} was not applied within ${LATEST_MS} ms`);
  };

  test('during 100 updates in 20 s, each connection reaches a valid backend and none fails', async () => {
    const client = await Client.start(lab, 'pod9');
    const rate = await usualRate(client, 1);
    const quiet = (await Promise.all(servers.map((server) => server.counts()))).map((counts) => counts.tcp);
    const forMs = UPDATES * (BETWEEN_MS + 20) + 1000;
    const asked = client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 1e6, parallel: 1, isStamped: true, forMs });
    const took: number[] = [];
    // A set of backends is valid from the time of its write until the next set is in the kernel. The first set is valid from the start.
    const written = [-Infinity];
    const replaced: number[] = [];
    for (let update = 1; update <= UPDATES; update += 1) {
      await pause(BETWEEN_MS);
      const set = sets[update % 2] ?? [];
      written.push(monotonic());
      daemon.write('web.yaml', service('web'), ...slices('web', set));
      await applied(set);
      replaced.push(monotonic());
      took.push(monotonic() - (written.at(-1) ?? 0));
    }
    const result = await asked;
    expect(result.failures).toEqual({});
    console.log(
      `applied after ${took.sort((a, b) => a - b)[UPDATES / 2]?.toFixed(0)} ms (median), ${took.at(-1)?.toFixed(0)} ms (longest)`,
    );
    expect(result.stamps.length).toBeGreaterThan(rate * forMs * LEAST_SHARE);
    const wrong = result.stamps.filter(([before, after, server]) => {
      const number = Number(server.replace('pod', ''));
      return !written.some((from, update) => {
        const isMember = sets[update % 2]?.includes(number) === true;
        return isMember && after >= from && before <= (replaced[update] ?? Infinity);
      });
    });
    expect(wrong).toEqual([]);
    const counted = await Promise.all(servers.map((server) => server.counts()));
    const fresh = counted.map((counts, i) => counts.tcp - (quiet[i] ?? 0));
    expect(fresh.reduce((sum, count) => sum + count, 0)).toBe(result.stamps.length);
    for (const count of fresh) expect(count).toBeGreaterThan(result.stamps.length / 10);
  });

  test('no connection fails and no message is lost when the daemon is killed under load and started again after 3 s', async () => {
    const client = await Client.start(lab, 'pod9');
    const rate = await usualRate(client, 4);
    const streams = await Streams.start(lab, 'pod9', { address: vips.IPv4, tcp: 80, udp: 53 });
    const until = { isOver: false };
    const began = monotonic();
    const asked = askUntil(client, until);
    await pause(1000);
    await daemon.process?.kill('SIGKILL');
    await pause(3000);
    await daemon.start({ hasSocketLb, extra: onlyEvents });
    await pause(1000);
    until.isOver = true;
    expect(await asked).toBeGreaterThan(rate * (monotonic() - began) * LEAST_SHARE);
    const { tcp, udp } = await streams.stop();
    expect(tcp).toMatchObject({ answered: tcp.sent, error: '', servers: [expect.any(String)] });
    expect(udp).toMatchObject({ answered: udp.sent, error: '', servers: [expect.any(String)] });
  });
});
