// SPDX-License-Identifier: Apache-2.0
// The tools of the benchmark at scale: generated objects have unique addresses, and metrics pages are read as Prometheus reads them.
import { Histogram, Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { parseAddress } from '../../../daemon/model/address.ts';
import { convertObject } from '../../../daemon/source/objects.ts';
import { between, Page } from '../../bench/scale/exposition.ts';
import { mapFlags } from '../../bench/scale/double-cluster.ts';
import { MOST_IN_FLIGHT, Orders } from '../../bench/scale/orders.ts';
import { lastAddress, serviceOf, sliceOf, vipOf } from '../../bench/scale/objects.ts';

const addressesOf = (slice: ReturnType<typeof sliceOf>): string[] => slice.endpoints.flatMap(({ addresses }) => addresses);

test('every address of 50,000 Services with 10 endpoints is unique, and no address is reserved', () => {
  const vips = new Set(Array.from({ length: 50_000 }, (_, n) => vipOf(n)));
  expect(vips.size).toBe(50_000);
  for (const never of ['10.96.0.0', '10.96.0.1', '10.96.255.255']) expect(vips).not.toContain(never);
  const pods = new Set<string>();
  const all = [0, 1].map((generation) => ({ generation, moved: 10, at: new Date(0) }));
  for (const turn of all) for (let n = 0; n < 50_000; n += 1) for (const each of addressesOf(sliceOf(n, 10, turn))) pods.add(each);
  expect(pods.size).toBe(1_000_000);
  expect([...pods].every((each) => parseAddress(each)?.text === each)).toBe(true);
});

test('a Service and its slice are converted without problems', () => {
  expect(convertObject(serviceOf(9999))).toMatchObject({
    key: 'scale/svc-09999',
    problems: [],
    row: { clusterIPs: { IPv4: '10.96.39.17' } },
  });
  const slice = sliceOf(9999, 10, { generation: 1, moved: 1, at: new Date(1000) });
  expect(convertObject(slice)).toMatchObject({ problems: [], row: { service: 'svc-09999', lastChangeTrigger: 1000 } });
});

test('every version of a slice changes its last address', () => {
  for (const moved of [1, 10]) {
    const turns = [0, 1, 2].map((generation) => ({ generation, moved, at: new Date(0) }));
    const last = turns.map((turn) => lastAddress(7, 10, turn));
    expect(last[0]).not.toBe(last[1]);
    expect(last[0]).toBe(last[2]);
    turns.forEach((turn, i) => expect(addressesOf(sliceOf(7, 10, turn))).toContain(last[i]));
  }
});

test('between() returns the count, mean and quantiles of the observations that the second page adds, over all labels', async () => {
  const registry = new Registry();
  const seen = new Histogram({ name: 'took_seconds', help: 'x', labelNames: ['family'], buckets: [1, 2, 4], registers: [registry] });
  seen.observe({ family: 'IPv4' }, 3);
  const before = new Page(await registry.metrics());
  for (const seconds of [0.5, 1.5, 1.5, 1.5]) seen.observe({ family: 'IPv4' }, seconds);
  seen.observe({ family: 'IPv6' }, 9);
  const after = new Page(await registry.metrics());
  const { count, mean, quantile } = between(before, after, 'took_seconds');
  expect([count, mean]).toEqual([5, 2.8]);
  expect(quantile(0.2)).toBe(1);
  expect(quantile(0.5)).toBe(1.5);
  // A quantile above the last finite bucket bound is reported as that bound.
  expect(quantile(0.99)).toBe(4);
  expect(after.sum('took_seconds_count', 'family="IPv6"')).toBe(1);
});

test('the map sizes of a cluster are the defaults as long as a fifth of each map stays free', () => {
  expect(mapFlags({ services: 44_000, endpoints: 1 })).toEqual([]);
  expect(mapFlags({ services: 5000, endpoints: 50 })).toEqual(['--max-backends', '524288']);
  expect(mapFlags({ services: 50_000, endpoints: 10 })).toEqual(['--max-backends', '1048576']);
});

test('the churn limits its unanswered changes if the server does not answer, and returns every change that is answered', async () => {
  const waiting: (() => void)[] = [];
  const replace = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));
  const orders = new Orders({ create: () => Promise.resolve(), replace });
  const going = orders.carryOut({ do: 'churn', services: 100, endpoints: 1, perSecond: 10_000, seconds: 0.1 });
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(waiting).toHaveLength(MOST_IN_FLIGHT);
  for (const answer of waiting) answer();
  expect(await going).toHaveLength(MOST_IN_FLIGHT);
});

test('the churn fails if the server rejects a change', async () => {
  let count = 0;
  const replace = (): Promise<void> => ((count += 1) === 3 ? Promise.reject(new Error('429 too many requests')) : Promise.resolve());
  const orders = new Orders({ create: () => Promise.resolve(), replace });
  const going = orders.carryOut({ do: 'churn', services: 100, endpoints: 1, perSecond: 1000, seconds: 0.1 });
  await expect(going).rejects.toThrow('429 too many requests');
});
